"""LiteDRAMMemory: the real controllers with LiteDRAM's model of the chips."""

from __future__ import annotations

import random

import pytest
from amaranth.sim import Simulator

from tritape.base.errors import TritapeError
from tritape.hw.memory.litedram import LiteDRAMMemory
from tritape.hw.memory.register_window import WINDOW
from tritape.hw.memory.wishbone_script import WishboneScript
from tritape.rtl_gen.litedram import DRAMS, litedram_core
from tritape.sim.bench import check_streams
from tritape.sim.memory.litedram_model import MODEL_ROWS, with_pattern
from tritape.sim.memory.measure import measure_litedram

pytest.importorskip("litedram", reason="pip install 'tritape[litedram]'")


def patterns(bits: int, rng: random.Random) -> list[int]:
    """What a memory test writes: all zeros and ones, checkerboards, a walking one, random words."""
    full = (1 << bits) - 1
    walking = [1 << bit for bit in range(0, bits, 7)]
    return [0, full, full // 3, full // 3 * 2, *walking, *(rng.getrandbits(bits) for _ in range(6))]


@pytest.mark.parametrize(
    ("board", "groups", "by_host"),
    [
        ("ulx3s", 13, False),
        pytest.param("ecpix5", 16, False, marks=pytest.mark.slow),
        pytest.param("ecpix5", 16, True, marks=pytest.mark.slow),
    ],
    ids=["sdr", "ddr3", "ddr3 by host"],
)
def test_patterns_written_and_read(board: str, groups: int, by_host: bool) -> None:
    """Across the end of a row, started by the script or by writes of the host; what was not written stays as it was."""
    rng = random.Random(groups)
    row = 2 * 512 if board == "ulx3s" else 2 * 1024
    first = row // groups - 5
    words = patterns(8 * groups, rng)
    writes = [{"address": first + index, "word": word} for index, word in enumerate(words)]
    core = with_pattern(litedram_core(DRAMS[board], model=True, rows=MODEL_ROWS), 0)
    asked = [(first, len(words)), (first + 3, 4), (first + len(words) - 1, 1)]
    if by_host:
        writes = [{"address": WINDOW + register, "word": value} for register, value, _ in core.script] + writes
    memory = LiteDRAMMemory(groups, core, hurry=1000, by_host=by_host)
    memory.verilog = core.verilog
    check_streams(
        memory,
        simulator="verilator",
        inputs={"requests": [{"address": at, "length": size} for at, size in asked], "write": writes},
        expected={"words": [word for at, size in asked for word in words[at - first : at - first + size]]},
        finals={"errors": 0, "ready": 1},
        after={"requests": [(n, "write", len(writes)) for n in range(len(asked))]},
        input_stall=0.1,
        output_stall=0.5,
        max_cycles=30_000,
    )


@pytest.mark.parametrize(
    ("board", "bar"), [("ulx3s", 0.93), pytest.param("ecpix5", 0.85, marks=pytest.mark.slow)], ids=["sdr", "ddr3"]
)
def test_rate_with_refresh(board: str, bar: float) -> None:
    assert measure_litedram(board, 16, 1000)["fraction"] >= bar


def test_script_of_the_sdr_memory() -> None:
    """Clock enabled, precharge, mode, two refreshes, mode with burst 1 and latency 2, then the controller takes over."""
    core = litedram_core(DRAMS["ulx3s"], model=True, rows=MODEL_ROWS)
    control = core.script[0][0]
    assert [value for address, value, _ in core.script if address == control] == [0x0E, 0x0E, 0x01]
    commands = [value for address, value, _ in core.script if address == control + 1]
    precharge, mode, refresh = 0x0B, 0x0F, 0x0D
    assert commands == [precharge, mode, precharge, refresh, refresh, mode]
    modes = [value for address, value, _ in core.script if address == control + 3]
    assert modes == [0, 0x400, 0x120, 0x400, 0, 0, 0x20]
    assert max(wait for *_, wait in core.script) == 20_000  # 200 us at 100 MHz
    assert core.size == 2048 * 512 * 4 * 2


@pytest.mark.parametrize("count", [1, 30])
def test_wishbone_script(count: int) -> None:
    rng = random.Random(count)
    script = [(rng.getrandbits(16), rng.getrandbits(16), rng.randrange(5)) for _ in range(count)]
    unit = WishboneScript(script)
    seen: list[tuple[int, int]] = []

    async def bench(context) -> None:
        for _ in range(40 * count + 20):
            context.set(unit.ack, context.get(unit.cyc) and rng.random() < 0.5)
            if context.get(unit.ack):
                assert context.get(unit.stb & unit.we)
                seen.append((context.get(unit.adr), context.get(unit.dat_w)))
            await context.tick()
        assert context.get(unit.done) == 1

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen == [(address, value) for address, value, _ in script]


def test_errors() -> None:
    core = litedram_core(DRAMS["ulx3s"])
    with pytest.raises(
        TritapeError, match=r"^core must have a model of the chips, not pins; generate it with model=True$"
    ):
        with_pattern(core, 100)
    with pytest.raises(
        TritapeError, match=r"^rows must be 0 for a controller with pins, not 5; chips have the rows they have$"
    ):
        litedram_core(DRAMS["ulx3s"], rows=5)
    with pytest.raises(TritapeError, match=r"^script must have at least one write, not none$"):
        WishboneScript([])
    with pytest.raises(TritapeError, match=r"^script must hold numbers of 16 bits, not \(1, 65536, 0\)$"):
        WishboneScript([(1, 65536, 0)])


def test_pins_of_the_boards() -> None:
    """Data lines go both ways, which the generator gets wrong; all bytes of the chips are reached."""
    sdr, ddr3 = (litedram_core(DRAMS[name]) for name in ("ulx3s", "ecpix5"))
    assert "inout  wire   [15:0] sdram_dq" in sdr.verilog
    assert "inout  wire   [15:0] ddram_dq," in ddr3.verilog
    assert "inout  wire    [1:0] ddram_dqs_p" in ddr3.verilog
    assert (sdr.size, ddr3.size) == (32 << 20, 512 << 20)
    assert (sdr.port_bits, ddr3.port_bits) == (16, 128)
