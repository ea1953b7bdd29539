"""UART: bytes over a wire between two partners of unequal rates, glitches, broken bytes, overrun."""

import random

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.base.verilog_text import verilog_text
from tritape.hw.config import Config
from tritape.hw.link.uart import UART
from tritape.hw.uart_accelerator import UARTAccelerator
from tritape.sim.bench import check_streams

CLOCK = 1_000_000
LONG = StructLayout({"level": 1, "cycles": 16})


class Wire(wiring.Component):
    """A sender at one rate and a receiver at another; every `noise` cycles the wire is wrong for one cycle."""

    def __init__(self, *, sender: float, receiver: float, noise: int = 0):
        self._uarts = [UART(clock_hz=CLOCK, baud=round(CLOCK / cycles)) for cycles in (sender, receiver)]
        self._noise = noise
        super().__init__({"sent": In(stream.Signature(8)), "received": Out(stream.Signature(8))})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.sender, m.submodules.receiver = sender, receiver = self._uarts
        glitch = Signal()
        if self._noise:
            count = Signal(range(self._noise))
            m.d.comb += glitch.eq(count == 0)
            m.d.sync += count.eq(count + 1)
            with m.If(count == self._noise - 1):
                m.d.sync += count.eq(0)
        m.d.comb += receiver.rx.eq(sender.tx ^ glitch)
        wiring.connect(m, wiring.flipped(self.sent), sender.sent)
        wiring.connect(m, receiver.received, wiring.flipped(self.received))
        return m


class Levels(wiring.Component):
    """A receiver whose pin follows a list of levels and durations."""

    def __init__(self, cycles: int):
        self._uart = UART(clock_hz=CLOCK, baud=CLOCK // cycles)
        super().__init__({"levels": In(stream.Signature(LONG)), "received": Out(stream.Signature(8))})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.uart = uart = self._uart
        level, left = Signal(init=1), Signal(16)
        m.d.comb += [uart.rx.eq(level), self.levels.ready.eq(left == 0)]
        with m.If(left != 0):
            m.d.sync += left.eq(left - 1)
        with m.Elif(self.levels.valid):
            m.d.sync += [level.eq(self.levels.payload.level), left.eq(self.levels.payload.cycles - 1)]
        wiring.connect(m, uart.received, wiring.flipped(self.received))
        return m


@pytest.mark.parametrize(("cycles", "drift"), [(8, 1.02), (8.68, 0.98), (13.3, 1.02), (43.4, 0.98), (43.4, 1.0)])
def test_bytes_arrive_at_odd_ratios_and_drifts(cycles, drift):
    """Back to back and with gaps; the sender may be 2 % fast or slow. (A whole 8 cycles a bit cannot be faster.)"""
    sender = max(cycles * drift, 8)
    data = [0x00, 0xFF, 0x55, 0xAA, 0x01, 0x80] + random.Random(cycles).choices(range(256), k=30)
    for stall in (0.0, 0.01):
        check_streams(
            Wire(sender=sender, receiver=cycles),
            inputs={"sent": data},
            expected={"received": data},
            input_stall=stall,
            output_stall=0,
        )


def test_glitches_do_nothing():
    """A wrong cycle now and then, where a tick is five cycles long."""
    data = random.Random(1).choices(range(256), k=40)
    check_streams(
        Wire(sender=43.4, receiver=43.4, noise=37), inputs={"sent": data}, expected={"received": data}, output_stall=0
    )


def frame(byte: int, cycles: int, stop: int = 1) -> list[dict[str, int]]:
    bits = [0, *(byte >> i & 1 for i in range(8)), stop]
    return [{"level": bit, "cycles": cycles} for bit in bits]


def test_a_byte_without_a_stop_bit_is_dropped():
    """A break, a byte with a low stop bit, a start bit that is too short: nothing; the bytes around them arrive."""
    idle = {"level": 1, "cycles": 40}
    levels = frame(0x5A, 16) + [idle] + frame(0x33, 16, stop=0) + [idle] + frame(0xC3, 16)
    levels += [idle, {"level": 0, "cycles": 1000}, idle] + frame(0x0F, 16)
    levels += [idle, {"level": 0, "cycles": 4}, idle] + frame(0x81, 16)
    check_streams(
        Levels(16),
        inputs={"levels": levels},
        expected={"received": [0x5A, 0xC3, 0x0F, 0x81]},
        input_stall=0,
        output_stall=0,
    )


def test_a_byte_that_nobody_took_stays_and_the_next_is_dropped():
    idle = {"level": 1, "cycles": 40}
    levels = frame(0x5A, 16) + [idle] + frame(0xC3, 16) + [idle, idle] + frame(0x0F, 16)
    check_streams(
        Levels(16),
        inputs={"levels": levels},
        expected={"received": [0x5A, 0x0F]},
        after={"received": [(0, "levels", 23)]},  # the pause behind the second byte has begun
        input_stall=0,
        output_stall=0,
    )


def test_rates_out_of_range():
    with pytest.raises(
        TritapeError, match=r"^baud must be at most 125000 at a clock of 1000000 Hz, not 125001; lower it$"
    ):
        UART(clock_hz=CLOCK, baud=125_001)
    with pytest.raises(TritapeError, match=r"^baud must be at least 122 at a clock of 1000000 Hz, not 50; raise it$"):
        UART(clock_hz=CLOCK, baud=50)


def test_uart_accelerator_has_three_pins():
    """Its Verilog has the ports that a board file connects, and no other."""
    config = Config(groups=4, max_hidden=64, max_intermediate=64, max_layers=1, max_vocab=64, max_rows=64)
    text = verilog_text(UARTAccelerator(config, 16, clock_hz=CLOCK, baud=100_000), "top")
    header = text[text.index("module top(") :].split(";", 1)[0]
    assert {name.strip() for name in header.split("(")[1].rstrip(")").split(",")} == {
        "clk",
        "rst",
        "rx",
        "tx",
        "status",
    }
