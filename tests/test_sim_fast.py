"""The cocotb-free simulator: build, cache, progress and the process around it."""

import os
import struct
import sys
import time

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.base.verilog_text import verilog_text
from tritape.sim.fast.build import build_model
from tritape.sim.fast.runner import Process

MAIN = r"""
// Requests: 0 = echo, 1 = clock N cycles and return the count, 2 = die, 3 = cut a reply short.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include "Vmodel.h"
#if VM_TRACE
#include "verilated_fst_c.h"
#endif

static bool get(void *data, size_t size) { return fread(data, 1, size, stdin) == size; }

static void reply(uint8_t op, const std::string &body, uint32_t claimed) {
    fwrite(&op, 1, 1, stdout);
    fwrite(&claimed, 4, 1, stdout);
    fwrite(body.data(), 1, body.size(), stdout);
    fflush(stdout);
}

int main() {
    VerilatedContext context;
    Vmodel model(&context);
#if VM_TRACE
    context.traceEverOn(true);
    VerilatedFstC trace;
    model.trace(&trace, 99);
    trace.open(getenv("TRACE_FILE"));
#endif
    model.step = 3;
    uint8_t op;
    uint32_t size;
    while (get(&op, 1) && get(&size, 4)) {
        std::string body(size, 0);
        if (size && !get(&body[0], size)) return 1;
        if (op == 1) {
            uint32_t cycles;
            memcpy(&cycles, body.data(), 4);
            for (uint32_t n = 0; n < cycles; n++) {
                for (int clock = 0; clock < 2; clock++) {
                    model.clk = clock;
                    model.eval();
#if VM_TRACE
                    context.timeInc(1);
                    trace.dump(context.time());
#endif
                }
            }
            uint32_t count = model.count;
            body.assign(reinterpret_cast<char *>(&count), 4);
        } else if (op == 2) {
            fprintf(stderr, "counter on fire\n");
            return 3;
        } else if (op == 3) {
            reply(op, "ab", 100);
            return 0;
        }
        reply(op, body, body.size());
    }
#if VM_TRACE
    trace.close();
#endif
    return 0;
}
"""


class Counter(wiring.Component):
    """Adds `step` in every cycle."""

    step: In(4)
    count: Out(32)

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.count.eq(self.count + self.step)
        return m


@pytest.fixture(scope="module")
def main_cpp(tmp_path_factory):
    path = tmp_path_factory.mktemp("main") / "main.cpp"
    path.write_text(MAIN)
    return path


@pytest.fixture(scope="module")
def counter(main_cpp):
    return build_model(verilog_text(Counter(), "counter"), "counter", main_cpp)


def test_build_reports_progress_and_is_cached(main_cpp, tmp_path, monkeypatch):
    text = verilog_text(Counter(), "counter") + f"// {tmp_path}\n"  # never built before
    lines = []
    executable = build_model(text, "counter", main_cpp, progress=lines.append)
    assert os.access(executable, os.X_OK)
    assert lines == ["verilating", "compiling 1/1", "linking"]  # in tests, which have one unit

    lines.clear()
    start = time.monotonic()
    assert build_model(text, "counter", main_cpp, progress=lines.append) == executable
    assert time.monotonic() - start < 0.5
    assert lines == []
    assert sorted(item.name for item in executable.parent.iterdir()) == ["model", "model.v"]


def test_process_counts_and_echoes(counter):
    with Process(counter) as simulator:
        assert simulator.call(0, b"hello") == (0, b"hello")
        assert simulator.call(0) == (0, b"")
        big = bytes(range(256)) * 4096
        assert simulator.call(0, big) == (0, big)
        assert simulator.call(1, struct.pack("<I", 1_000_000)) == (1, struct.pack("<I", 3_000_000))
        assert simulator.call(1, struct.pack("<I", 1)) == (1, struct.pack("<I", 3_000_003))


def test_process_that_dies(counter):
    with Process(counter) as simulator, pytest.raises(TritapeError) as error:
        simulator.call(2)
    assert str(error.value) == (
        f"simulator {counter} must answer operation 2, not end (exit status 3); it said:\ncounter on fire"
    )
    with Process(counter) as simulator:
        with pytest.raises(TritapeError, match=r"(?s)must answer operation 3, not end \(exit status 0\).*nothing on"):
            simulator.call(3)
        with pytest.raises(TritapeError, match="must answer operation 0"):
            simulator.call(0)
    with pytest.raises(TritapeError, match="must be running, not closed"):
        simulator.call(0)


def test_process_that_cannot_start_or_will_not_leave(tmp_path, monkeypatch):
    with pytest.raises(TritapeError, match=r"nothing must be an executable, not 'No such file or directory'"):
        Process(tmp_path / "nothing")
    monkeypatch.setattr("tritape.sim.fast.runner._PATIENCE", 0.2)
    start = time.monotonic()
    with Process([sys.executable, "-c", "import time; time.sleep(60)"]):
        pass
    assert 0.2 <= time.monotonic() - start < 4


def test_failed_build_names_its_stage(main_cpp, tmp_path):
    with pytest.raises(TritapeError, match=r"(?s)not fail while verilating; the log ends with:.*syntax error"):
        build_model("module counter(; endmodule", "counter", main_cpp)
    bad = tmp_path / "bad.cpp"
    bad.write_text('#include "Vmodel.h"\nint main() { return nonsense; }\n')
    with pytest.raises(TritapeError, match=r"(?s)not fail while compiling; the log ends with:.*nonsense"):
        build_model(verilog_text(Counter(), "counter"), "counter", bad)


@pytest.mark.long
def test_trace(main_cpp, tmp_path, monkeypatch):
    """Another program's reader finds every value in the FST file, whose compression is ours."""
    pywellen = pytest.importorskip("pywellen", reason="pywellen must be installed to read waveforms")
    monkeypatch.setenv("TRACE_FILE", str(tmp_path / "dump.fst"))
    executable = build_model(verilog_text(Counter(), "counter"), "counter", main_cpp, trace=True)
    with Process(executable) as simulator:
        simulator.call(1, struct.pack("<I", 5000))
    variables = {variable.full_name: variable for variable in pywellen.Waveform(str(tmp_path / "dump.fst")).all_vars()}
    assert {"TOP.counter.clk", "TOP.counter.step", "TOP.counter.count"} <= set(variables)
    # the clock rises at even times, beginning at 2
    assert list(variables["TOP.counter.count"].tv)[1:] == [(2 * n, 3 * n) for n in range(1, 5001)]


def test_a_process_that_writes_a_file_gets_its_time(tmp_path, monkeypatch):
    """The end of a long trace takes longer than the patience for processes that have nothing left to do."""
    script = tmp_path / "slow"
    script.write_text(f"#!/bin/sh\ncat > /dev/null\nsleep 0.5\necho whole > {tmp_path}/$1\n")
    script.chmod(0o755)
    monkeypatch.setattr("tritape.sim.fast.runner._PATIENCE", 0.05)
    Process([script, "hurried"]).close()
    Process([script, "patient"]).close(by_force=False)
    assert (tmp_path / "patient").read_text() == "whole\n"
    assert not (tmp_path / "hurried").exists()
