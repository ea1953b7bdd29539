"""Whether a tape can run on a bitstream, before a byte is written."""

from __future__ import annotations

from tritape.base.errors import TritapeError
from tritape.host.protocol import Identity
from tritape.model.codes import check_code
from tritape.model.tape.layout import Geometry, HeaderPayload


def check_geometry(identity: Identity, geometry: Geometry, source: str) -> None:
    """Raise TritapeError unless a tape is packed for the device's groups, engines and weight code."""
    for name, value, wanted in (
        ("groups", geometry.groups, identity.groups),
        ("engines", geometry.engines, identity.engines),
    ):
        if value != wanted:
            raise TritapeError(
                f"{source}: {name} of the tape must be {wanted}, not {value}; pack it with --{name} {wanted}"
            )
    check_code(geometry.code, identity.code, source)


def check_limits(identity: Identity, header: HeaderPayload, image_bytes: int, source: str) -> None:
    """Raise TritapeError, naming the first limit of the device that the tape breaks, and the cure.

    The sequencer checks the same when it boots; here it costs no transfer, and what was loaded before stays.
    """
    check_geometry(identity, header.geometry, source)
    if header.rows > identity.max_rows:
        raise TritapeError(
            f"{source}: rows a block must be at most {identity.max_rows} on this bitstream, not {header.rows}; "
            f"pack it with --rows {identity.max_rows}"
        )
    for name, value, limit in (
        ("hidden size", header.hidden, identity.max_hidden),
        ("intermediate size", header.intermediate, identity.max_intermediate),
        ("layers", header.layers, identity.max_layers),
        ("vocabulary", header.vocab, identity.max_vocab),
    ):
        if value > limit:
            raise TritapeError(
                f"{source}: {name} must be at most {limit} on this bitstream, not {value}; "
                "choose a smaller model or another board"
            )
    room = identity.memory_words * identity.geometry.word_bytes
    if image_bytes > room:
        raise TritapeError(
            f"{source}: tape must have at most {room} bytes on this board, not {image_bytes}; "
            "choose a smaller model or a board with more memory"
        )
