"""The stream bench: passes what is right, names what is wrong."""

import os
import subprocess
import sys
import textwrap

import pytest
from amaranth.hdl import Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out
from cocotb_tools import config as cocotb_config

from tritape.base.errors import TritapeError
from tritape.base.verilog_text import verilog_text
from tritape.sim.bench import SIMULATORS, check_streams, payload
from tritape.sim.bench.monitor import StreamMonitor

PAIR = data.StructLayout({"x": signed(5), "tags": data.ArrayLayout(data.StructLayout({"a": 2, "b": signed(3)}), 2)})


class Fifo(wiring.Component):
    """A buffered FIFO of pairs; `level` is the number of elements inside."""

    i: In(stream.Signature(PAIR))
    o: Out(stream.Signature(PAIR))
    level: Out(range(5))

    def elaborate(self, platform):
        m = Module()
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=PAIR.size, depth=4)
        m.d.comb += [
            fifo.w_data.eq(self.i.payload),
            fifo.w_en.eq(self.i.valid),
            self.i.ready.eq(fifo.w_rdy),
            self.o.payload.eq(fifo.r_data),
            self.o.valid.eq(fifo.r_rdy),
            fifo.r_en.eq(self.o.ready),
            self.level.eq(fifo.level),
        ]
        return m


class Register(wiring.Component):
    """One register, y = x + offset, with a `defect` to choose from."""

    def __init__(self, defect: str = "none"):
        self.defect = defect
        super().__init__(
            {
                "x": In(stream.Signature(signed(8))),
                "y": Out(stream.Signature(signed(9))),
                "offset": In(signed(8), init=3),
                "debug": Out(wiring.Signature({"rows": Out(stream.Signature(unsigned(4)))})),
            }
        )

    def elaborate(self, platform):
        m = Module()
        full, value, count = Signal(), Signal(signed(9)), Signal(8)
        m.d.comb += [
            self.x.ready.eq(~full | (self.y.ready & self.y.valid)),
            self.y.valid.eq(full),
            self.y.payload.eq(value),
            self.debug.rows.valid.eq(0),
        ]
        with m.If(self.y.ready & self.y.valid):
            m.d.sync += full.eq(0)
        with m.If(self.x.ready & self.x.valid):
            m.d.sync += [full.eq(1), value.eq(self.x.payload + self.offset), count.eq(count + 1)]
        stalled = full & ~self.y.ready
        if self.defect == "changes":
            with m.If(stalled & (count == 3)):
                m.d.sync += value.eq(value ^ 1)
        elif self.defect == "drops":
            with m.If(stalled & (count == 3)):
                m.d.sync += full.eq(0)
        elif self.defect == "waits":
            m.d.comb += self.y.valid.eq(full & self.y.ready)
        elif self.defect == "wrong":
            with m.If(count == 3):
                m.d.comb += self.y.payload.eq(-7)
        elif self.defect == "loses":
            with m.If(self.x.ready & self.x.valid & (count == 2)):
                m.d.sync += full.eq(0)
        elif self.defect == "repeats":
            with m.If(self.y.ready & self.y.valid & (count == 6)):
                m.d.sync += [full.eq(1), count.eq(7)]
        elif self.defect == "deaf":
            with m.If(count == 4):
                m.d.comb += self.x.ready.eq(0)
        return m


class Negate(wiring.Component):
    """No clocked logic at all: y = -x."""

    x: In(stream.Signature(signed(4)))
    y: Out(stream.Signature(signed(5)))

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [
            self.y.payload.eq(-self.x.payload),
            self.y.valid.eq(self.x.valid),
            self.x.ready.eq(self.y.ready),
        ]
        return m


class Lanes(wiring.Component):
    """Two lanes, each passed through, and an incoming bundle; `seen` is a plain struct output."""

    def __init__(self):
        lane = stream.Signature(4)
        super().__init__(
            {
                "bus": In(wiring.Signature({"go": Out(lane), "back": In(lane)})),
                "x": In(lane).array(2),
                "y": Out(lane).array(2),
                "setting": In(data.StructLayout({"a": 2, "b": signed(2)}), init={"a": 1, "b": -1}),
                "seen": Out(data.StructLayout({"a": 2, "b": signed(2)})),
            }
        )

    def elaborate(self, platform):
        m = Module()
        for lane in range(2):
            wiring.connect(m, wiring.flipped(self.x[lane]), wiring.flipped(self.y[lane]))
        m.d.comb += [
            self.seen.eq(self.setting),
            self.bus.back.valid.eq(self.bus.go.valid),
            self.bus.back.payload.eq(self.bus.go.payload + 1),
            self.bus.go.ready.eq(self.bus.back.ready),
        ]
        return m


class Gate(wiring.Component):
    """Takes one `go`, and expects no other before it has answered."""

    go: In(stream.Signature(unsigned(4)))
    done: Out(stream.Signature(unsigned(5)))

    def elaborate(self, platform):
        m = Module()
        busy, twice, timer, value = Signal(), Signal(), Signal(range(9)), Signal(4)
        m.d.comb += [
            self.go.ready.eq(1),
            self.done.valid.eq(busy & (timer == 0)),
            self.done.payload.eq(Mux(twice, 16, value)),
        ]
        with m.If(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.If(self.done.valid & self.done.ready):
            m.d.sync += busy.eq(0)
        with m.If(self.go.valid):
            m.d.sync += [busy.eq(1), timer.eq(8), value.eq(self.go.payload), twice.eq(busy)]
        return m


FIFO = Fifo()
VALUES = [5, -128, 127, 0, -1, 64]


def run(defect: str, **options):
    return check_streams(
        Register(defect), inputs={"x": VALUES}, expected={"y": [v + 3 for v in VALUES], "debug.rows": []}, **options
    )


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_fifo_with_nested_payload(simulator):
    items = [
        {"x": n % 32 - 16, "tags": [{"a": n % 4, "b": n % 8 - 4}, {"a": 3 - n % 4, "b": -(n % 5)}]} for n in range(200)
    ]
    result = check_streams(Fifo(), inputs={"i": items}, expected={"o": items}, finals={"level": 0}, simulator=simulator)
    assert len(result.transfers["o"]) == 200
    assert 200 < result.cycles < 1000


def test_full_rate_and_latency():
    items = [{"x": 0, "tags": [{"a": 0, "b": 0}] * 2}] * 50
    result = check_streams(Fifo(), inputs={"i": items}, expected={"o": items}, input_stall=0, output_stall=0)
    assert result.transfers["i"] == list(range(50))
    assert result.latency == {"o": 2}
    assert result.cycles == 52


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_good_register_and_statics(simulator):
    result = run("none", simulator=simulator, input_stall=0)
    assert result.latency == {"y": 1}  # debug.rows never was valid
    expected = {"y": [v - 100 for v in VALUES], "debug.rows": None}
    check_streams(Register(), inputs={"x": VALUES}, expected=expected, statics={"offset": -100}, simulator=simulator)


@pytest.mark.long
def test_cached_executable_outlives_the_environment_that_built_it(tmp_path, monkeypatch):
    """As when a virtual environment is deleted, or another one uses the same cache."""
    monkeypatch.setenv("TRITAPE_CACHE", str(tmp_path / "cache"))
    libraries = tmp_path / "libraries"
    libraries.symlink_to(cocotb_config.libs_dir)
    data = {"inputs": {"x": [1, 2]}, "expected": {"y": [4, 5], "debug.rows": None}, "simulator": "verilator"}
    with monkeypatch.context() as other:
        other.setattr(cocotb_config, "libs_dir", libraries)
        check_streams(Register(), **data)
    built = list((tmp_path / "cache" / "bench").glob("*/bench"))
    assert len(built) == 1
    assert str(libraries).encode() in built[0].read_bytes()
    libraries.unlink()
    check_streams(Register(), **data)
    assert list((tmp_path / "cache" / "bench").glob("*/bench")) == built  # the same one ran


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_component_without_clock(simulator):
    values = list(range(-8, 8))
    check_streams(Negate(), inputs={"x": values}, expected={"y": [-v for v in values]}, simulator=simulator)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_nested_and_array_ports(simulator):
    check = {"inputs": {"x.0": [1, 2, 3], "x.1": [4, 5], "bus.go": [6]}, "simulator": simulator}
    expected = {"y.0": [1, 2, 3], "y.1": [4, 5], "bus.back": [7]}
    check_streams(Lanes(), expected=expected, finals={"seen": {"a": 1, "b": -1}}, **check)
    setting = {"a": 3, "b": -2}
    check_streams(Lanes(), expected=expected, statics={"setting": setting}, finals={"seen": setting}, **check)
    with pytest.raises(AssertionError, match=r"port 'seen' at the end: expected .*'b': 1}, got {'a': 1, 'b': -1}"):
        check_streams(Lanes(), expected=expected, finals={"seen": {"a": 1, "b": 1}}, **check)


DEFECTS = {
    "changes": r"stream rule broken at port 'y', element 2, .*payload must stay stable",
    "drops": r"stream rule broken at port 'y', element 2, .*valid must stay 1 until ready",
    "waits": r"timeout at port 'y', element 0, .*held low until valid, which must not wait for ready.*x 1/6",
    "wrong": r"port 'y', element 2, .*field 'payload': expected 130, got -7",
    "loses": r"port 'y', element 2, .*expected 130, got 3$",
    "repeats": r"port 'y', element 6, .*extra element after the last of 6 expected, got 67",
    "deaf": r"timeout at port 'y', element 4, .*the next transfer never came.*transfers so far: x 4/6, y 4/6",
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_every_defect_is_found_and_named(defect):
    with pytest.raises(AssertionError, match=DEFECTS[defect]):
        run(defect, max_cycles=300, output_stall=0.6)


@pytest.mark.parametrize("defect", ["changes", "drops", "waits"])
def test_rules_in_icarus(defect):
    with pytest.raises(AssertionError, match=DEFECTS[defect]):
        run(defect, max_cycles=300, output_stall=0.6, simulator="icarus")


def test_a_waiting_valid_is_legal_traffic_at_full_rate():
    run("waits", output_stall=0)  # the manual says so: this mode cannot see it


def test_extra_element():
    with pytest.raises(
        AssertionError, match=r"port 'y', element 5, .*extra element after the last of 5 expected, got 67"
    ):
        check_streams(Register(), inputs={"x": VALUES}, expected={"y": [v + 3 for v in VALUES[:5]], "debug.rows": []})


def test_input_left_over():
    with pytest.raises(AssertionError, match=r"timeout at port 'x', element 4"):
        check_streams(
            Register("deaf"),
            inputs={"x": VALUES},
            expected={"y": [v + 3 for v in VALUES[:4]], "debug.rows": []},
            max_cycles=300,
        )


def test_wrong_field_and_final():
    item = {"x": 1, "tags": [{"a": 1, "b": -1}, {"a": 2, "b": -2}]}
    other = {"x": 1, "tags": [{"a": 1, "b": -1}, {"a": 2, "b": -3}]}
    with pytest.raises(AssertionError, match=r"port 'o', element 1, .*field 'tags\[1\]\.b': expected -3, got -2"):
        check_streams(FIFO, inputs={"i": [item, item]}, expected={"o": [item, other]})
    with pytest.raises(AssertionError, match=r"port 'level' at the end: expected 1, got 0"):
        check_streams(FIFO, inputs={"i": [item]}, expected={"o": [item]}, finals={"level": 1})


def test_after_holds_an_element_back():
    gates = {"go": [(n, "done", n) for n in range(1, 10)]}
    values = list(range(10))
    check_streams(Gate(), inputs={"go": values}, expected={"done": values}, after=gates, input_stall=0)
    with pytest.raises(AssertionError, match=r"port 'done', element 0, .*expected 0, got 16"):
        check_streams(Gate(), inputs={"go": values}, expected={"done": values}, input_stall=0)


def test_unknown_bits():
    monitor = StreamMonitor()
    assert "valid must be 0 or 1" in monitor.check("x", "0", "0")
    assert "ready must be 0 or 1" in monitor.check("0", "z", "0")
    assert "only 0 and 1 bits" in monitor.check("1", "0", "0x")
    assert monitor.check("0", "1", "xx") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": {}}, r"Fifo: inputs must name exactly the stream ports \['i'\], not \[\]"),
        ({"expected": {"o": [], "p": []}}, r"expected must name exactly the stream ports \['o'\], not \['o', 'p'\]"),
        ({"inputs": {"i": [{"x": 16, "tags": []}]}}, r"inputs\['i'\]\[0\]\.x must be an integer in -16\.\.15, not 16"),
        ({"inputs": {"i": [{"x": 0, "tags": []}]}}, r"inputs\['i'\]\[0\]\.tags must be a sequence of 2 elements"),
        ({"inputs": {"i": [{"x": 0}]}}, r"inputs\['i'\]\[0\] must be a dict of the fields \['x', 'tags'\]"),
        ({"statics": {"nope": 0}}, r"Fifo: statics must name ports of \[\], not 'nope'"),
        ({"finals": {"nope": 0}}, r"Fifo: finals must name ports of \['level'\], not 'nope'"),
        ({"simulator": "spice"}, r"simulator must be one of \['verilator', 'icarus'\], not 'spice'"),
    ],
)
def test_bad_data(change, message):
    with pytest.raises(TritapeError, match=message):
        check_streams(FIFO, **({"inputs": {"i": []}, "expected": {"o": []}} | change))


def test_payload_round_trip():
    value = {"x": -16, "tags": [{"a": 3, "b": -4}, {"a": 0, "b": 3}]}
    bits = payload.encoder(PAIR)(value, "")
    assert bits == PAIR.const(value).as_value().value
    assert payload.decode(PAIR, bits) == value


def test_verilog_is_the_same_in_every_process():
    script = textwrap.dedent("""
        from tests.test_sim_bench import Register
        from tritape.base.verilog_text import verilog_text
        print(verilog_text(Register(), "unit"), end="")
    """)
    texts = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert texts[0] == texts[1] == verilog_text(Register(), "unit")
    assert "module unit(" in texts[0]
    assert os.getcwd() not in texts[0]
    assert ".py" not in texts[0]
