"""SPRAMMemory on its model of the RAM: what was written comes out, in order, at a word a cycle; and the primitives it makes."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from test_hw_onchip import WriteFirst, random_requests

from tritape.base.errors import TritapeError
from tritape.base.verilog_text import verilog_text
from tritape.hw.memory.spram import SPRAMMemory
from tritape.sim.bench import check_streams
from tritape.sim.netlist.flatten import CELLS

BYTES = 128 << 10


def memory(groups: int, primitive: bool, writes: int) -> WriteFirst:
    """With the RAM's model in Amaranth; or as it is in the FPGA, with the primitive's model that `tritape verify` uses."""
    made: Any = WriteFirst(SPRAMMemory(groups, primitive=primitive), writes)
    if primitive:
        model = re.search(r"^module SB_SPRAM256KA.*?^endmodule$", (CELLS / "ice40.v").read_text(), re.M | re.S)
        assert model
        made.verilog = f"\n{model[0]}\n"
    return made


@pytest.mark.parametrize(("groups", "primitive"), [(4, False), (8, False), (4, True)])
def test_reads_what_was_written(groups: int, primitive: bool) -> None:
    rng = random.Random(groups)
    depth = BYTES // groups
    low = [rng.getrandbits(8 * groups) for _ in range(40)]
    high = [rng.getrandbits(8 * groups) for _ in range(40)]
    start = depth - len(high)  # for G = 4 in the other pair of RAMs
    writes = [{"address": at, "word": word} for at, word in enumerate(low)]
    writes += [{"address": start + at, "word": word} for at, word in enumerate(high)]
    requests = random_requests(rng, len(low), 20)
    requests += [(start + at, size) for at, size in random_requests(rng, len(high), 20)]
    both = {at: word for at, word in enumerate(low)} | {start + at: word for at, word in enumerate(high)}
    if groups == 4:  # from one pair of RAMs to the other
        writes += [{"address": (1 << 14) + at, "word": 77 + at} for at in (-1, 0)]
        requests.append(((1 << 14) - 1, 2))
        both |= {(1 << 14) + at: 77 + at for at in (-1, 0)}
    result = check_streams(
        memory(groups, primitive, len(writes)),
        inputs={"requests": [{"address": at, "length": size} for at, size in requests], "write": writes},
        expected={"words": [both[at + i] for at, size in requests for i in range(size)]},
    )
    assert result.cycles > len(writes)


@pytest.mark.parametrize("groups", [4, 8])
def test_rate(groups: int) -> None:
    writes = [{"address": at, "word": at} for at in range(30)]
    result = check_streams(
        WriteFirst(SPRAMMemory(groups, primitive=False), len(writes)),
        inputs={"requests": [{"address": 0, "length": 20}, {"address": 20, "length": 10}], "write": writes},
        expected={"words": list(range(30))},
        input_stall=0,
        output_stall=0,
    )
    words = result.transfers["words"]
    assert words[0] - result.transfers["requests"][0] == SPRAMMemory.LATENCY
    assert words[19] - words[0] == 19
    assert words[29] - words[20] == 9


def test_primitives() -> None:
    for groups in (4, 8):
        assert verilog_text(SPRAMMemory(groups, primitive=True), "top").count("SB_SPRAM256KA") == 4
        assert SPRAMMemory(groups).depth * groups == BYTES


def test_refuses_other_words() -> None:
    with pytest.raises(
        TritapeError, match=r"^groups must be 4 or 8 for this memory, not 5; its RAMs are 2 bytes wide$"
    ):
        SPRAMMemory(5)
