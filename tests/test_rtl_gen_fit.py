"""Fit: limits, tape memory and block RAM, and what a message says to shrink."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritape.base.errors import TritapeError
from tritape.hw.config import Config
from tritape.model.checkpoint import load_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.data import default_model_path, embedded_models
from tritape.model.formats import quantise_model
from tritape.model.tape.assembler import assemble
from tritape.model.tape.layout import image_words
from tritape.rtl_gen.boards import BusBoard, board, boards
from tritape.rtl_gen.estimate import token_cycles
from tritape.rtl_gen.fit import block_rams, check_model, require_device, require_model
from tritape.rtl_gen.sizes import known_shapes, model_sizes

BIG = board("ulx3s-85f")


def test_the_default_model_fits_the_large_board() -> None:
    require_model(BIG, ModelConfig.from_file(default_model_path() / "config.json"))


@pytest.mark.parametrize("name", boards())
def test_the_models_of_a_board(name: str) -> None:
    """What is listed as fitting does, the model that a board is meant for does, and the rate is that of the cycle model."""
    made = board(name)
    sizes = model_sizes(made)
    assert list(sizes) == list(known_shapes())
    assert sizes[made.model]["fits"]
    for model, size in sizes.items():
        shape = known_shapes()[model]
        if size["fits"]:
            assert check_model(made, shape) == []
            assert size["tape_bytes"] <= made.memory_bytes
            streams = made.config.batch * (made.replicas if isinstance(made, BusBoard) else 1)
            cycles = token_cycles(shape, made.config, made.word_cycles)[0]
            assert size["tokens_per_second"] == streams * made.clock_hz / cycles
        else:
            assert size["tokens_per_second"] is None
            assert size["too_small"] or not size["has_code"]
    for model, size in [item for item in sizes.items() if item[1]["too_small"]][:1]:
        problems = check_model(made, known_shapes()[model])
        assert len(problems) == len(size["too_small"])
        assert all(field in problem or field == "memory_words" for field, problem in zip(size["too_small"], problems))


def test_a_board_for_3_4_weights_takes_no_others() -> None:
    """What `tritape pack` refuses for a board is not listed as fitting it: dense models, and the published ones with them."""
    made = board("ulx3s-85f-sparse")
    sizes = model_sizes(made)
    assert [name for name, size in sizes.items() if size["fits"]] == ["small-sparse"]
    assert [name for name, size in sizes.items() if not size["too_small"]] != ["small-sparse"], (
        "dense models are small enough"
    )
    for name in ("nano", "small-sparse"):
        model = quantise_model(load_checkpoint(embedded_models()[name]))
        groups, rows, engines = made.config.groups, made.config.max_rows, made.config.engines
        packed = assemble(model, groups, rows, engines=engines, code=made.config.weight_code)
        if sizes[name]["fits"]:
            assert sum(map(len, packed)) == sizes[name]["tape_bytes"]
        else:
            with pytest.raises(TritapeError, match="must have one zero in columns"):
                sum(map(len, packed))
    assert all(size["has_code"] for size in model_sizes(BIG).values()), "any model is packed as ternary5"


def test_published_shapes() -> None:
    """370M on the Kria boards at the rate that README states, all three on the U280, two on the U250's 32 streams, none without
    external memory."""
    assert {"370m", "1.3b", "2.7b"} < set(known_shapes())
    assert model_sizes(board("kv260"))["370m"]["tokens_per_second"] == pytest.approx(221.9, abs=0.1)
    assert not model_sizes(board("kv260"))["1.3b"]["fits"]
    assert all(size["fits"] for size in model_sizes(board("u280")).values())
    card = board("u250")
    assert [name for name, size in model_sizes(card).items() if not size["fits"]] == ["2.7b"]
    one = model_sizes(replace(card, replicas=1))["370m"]["tokens_per_second"]
    assert model_sizes(card)["370m"]["tokens_per_second"] == pytest.approx(4 * one)
    assert model_sizes(BIG)["370m"]["too_small"][-1] == "memory_words"
    assert "memory_words" not in model_sizes(board("ecpix-5-ddr3"))["370m"]["too_small"], (
        "its memory would hold the tape"
    )


def test_limits_are_named() -> None:
    shape = ModelConfig(4096, 512, 4, 512)
    problems = check_model(BIG, shape)
    assert problems[0] == (
        "hidden_size must be at most 256, not 512; shrink the model, or raise max_hidden in the board's file"
    )
    assert problems[1].startswith("vocab_size must be at most 1024, not 4096;")
    with pytest.raises(TritapeError, match=r"^ulx3s-85f: hidden_size must be at most 256, .* \(and 2 more\)$"):
        require_model(BIG, shape)


@settings(max_examples=30, deadline=None)
@given(
    st.builds(
        ModelConfig,
        vocab_size=st.integers(256, 1024),
        hidden_size=st.integers(64, 256),
        num_hidden_layers=st.integers(2, 8),
        intermediate_size=st.integers(64, 512),
    )
)
def test_what_the_cure_says_fits(shape: ModelConfig) -> None:
    """Each way to shrink that a message offers makes the tape small enough, and one step less does not."""
    for problem in check_model(BIG, shape):
        assert problem.startswith(f"tape must be at most {BIG.memory_bytes} bytes, not ")
        field = {"layers": "num_hidden_layers", "intermediate": "intermediate_size", "hidden": "hidden_size"}
        for name, value in re.findall(r"(layers|intermediate|hidden) (\d+)", problem):
            smaller = replace(shape, **{field[name]: int(value)})
            assert image_words(smaller, 26, 1024) <= BIG.memory_words
            step = 1 if name == "layers" else 16
            larger = replace(shape, **{field[name]: int(value) + step})
            assert image_words(larger, 26, 1024) > BIG.memory_words


@pytest.mark.parametrize(
    ("width", "depth", "bits", "blocks"),
    [
        (208, 13312, 18 * 1024, 156),  # 12 columns of 1024 x 18, 13 rows
        (208, 80, 18 * 1024, 6),  # 512 x 36
        (11, 256, 18 * 1024, 1),
        (8, 128, 18 * 1024, 0),  # 16 distributed RAMs
        (208, 20, 18 * 1024, 0),
        (16, 256, 4096, 1),
        (17, 256, 4096, 2),
        (8, 600, 4096, 2),
        (8, 16, 4096, 0),
    ],
)
def test_block_rams_of_one_memory(width: int, depth: int, bits: int, blocks: int) -> None:
    """The first five as Yosys mapped them on ECP5."""
    assert block_rams(f"  memory width {width} size {depth} \\m\n", bits) == blocks


def test_distributed_memories_are_left_out() -> None:
    netlist = "".join(f"  memory width 11 size 256 \\{name}\n" for name in ("table_0", "table_1", "script"))
    assert block_rams(netlist, 18 * 1024) == 3
    assert block_rams(netlist, 18 * 1024, ("table_*",)) == 1
    netlist = "".join(f"module \\top.{name}\n  memory width 208 size 80 \\memory\n" for name in ("gains", "rows"))
    assert block_rams(netlist, 18 * 1024, ("*gains/memory",)) == 6
    assert block_rams(netlist, 18 * 1024, ("memory",)) == 0


def test_a_design_too_large_for_the_device() -> None:
    netlist = "  memory width 208 size 20000 \\m\n"
    with pytest.raises(TritapeError, match=r"^ulx3s-85f: design must need at most 208 block RAMs, not 240; use fewer"):
        require_device(BIG, netlist)
    require_device(replace(BIG, config=Config(groups=4)), "")
    with pytest.raises(
        TritapeError, match=r"^icebreaker: design must need at most 5280 LUTs, not about \d+; use fewer groups"
    ):
        require_device(replace(board("icebreaker"), config=Config(groups=4)), "")
