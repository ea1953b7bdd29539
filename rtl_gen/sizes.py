"""Which models a board carries, and how fast: for `tritape boards`."""

from __future__ import annotations

from functools import cache
from typing import Any

from tritape.base.errors import TritapeError
from tritape.model.checkpoint import load_checkpoint
from tritape.model.codes import TERNARY5, code_named
from tritape.model.config import ModelConfig
from tritape.model.data import embedded_models
from tritape.model.tape.layout import ternary_weights
from tritape.rtl_gen.boards import AnyBoard, BusBoard
from tritape.rtl_gen.estimate import PUBLISHED, token_cycles
from tritape.rtl_gen.fit import excess, tape_words


@cache
def known_shapes() -> dict[str, ModelConfig]:
    """The embedded models and the published shapes by name, from the smallest to the largest."""
    shapes = {name: ModelConfig.from_file(path / "config.json") for name, path in embedded_models().items()}
    shapes |= PUBLISHED
    return dict(sorted(shapes.items(), key=lambda item: ternary_weights(item[1])))


@cache
def has_code(model: str, code: str) -> bool:
    """Whether all ternary weights of a known model have the weight code of that name, so that a device of it takes the model.
    Those of the published models, which are not here, have `ternary5` alone: nothing in their training makes others."""
    wanted = code_named(code)
    if wanted is TERNARY5 or model not in embedded_models():
        return wanted is TERNARY5
    checkpoint = load_checkpoint(embedded_models()[model])
    try:
        checkpoint.check_code(wanted)
    except TritapeError:
        return False
    return True


def model_sizes(board: AnyBoard) -> dict[str, dict[str, Any]]:
    """Of each known shape, JSON-ready: `fits`; `too_small`, the fields of the board's file that are; `has_code`, whether the
    model's weights have the board's code; `tape_bytes` in the board's geometry; and if it fits `tokens_per_second`.

    The rate is projected, of all slots and replicas: the board's clock over the cycle model, with the memory's sustained rate.
    The host link is not in it, and the memory behind the ports of a `BusBoard` is taken to be no slower than they are.
    """
    config = board.config
    found: dict[str, dict[str, Any]] = {}
    for name, shape in known_shapes().items():
        too_small, coded = excess(board, shape), has_code(name, config.code)
        fits = coded and not too_small
        words = tape_words(board, shape)
        rate = None
        if fits:
            streams = config.batch * (board.replicas if isinstance(board, BusBoard) else 1)
            rate = streams * board.clock_hz / token_cycles(shape, config, board.word_cycles)[0]
        found[name] = {
            "fits": fits,
            "too_small": too_small,
            "has_code": coded,
            "tape_bytes": words * config.word_bytes,
            "tokens_per_second": rate,
        }
    return found
