"""One bench for every component: streams in, streams out, random stalls, every rule checked.

    from tritape.sim.bench import SIMULATORS, check_streams

    @pytest.mark.parametrize("simulator", SIMULATORS)
    def test_scales_rows(simulator):
        check_streams(
            Scaler(),
            inputs={"x": [1, -2, 3]},
            expected={"y": [{"value": 2, "last": 0}, {"value": -4, "last": 0}, {"value": 6, "last": 1}]},
            simulator=simulator,
        )

Ports
    `component` is an `amaranth.lib.wiring.Component`. Its `stream.Signature` members are driven and checked; members of
    nested interfaces are named with dots (`debug.rows`), elements of arrays by number (`lanes.0`). Other members are
    plain signals: `statics` sets the inputs, `finals` compares the outputs after the last cycle. Every stream port must
    be in `inputs` or `expected`; `expected={"rows": None}` takes a port's elements without comparing them.

Payloads
    Integers for plain shapes (negative ones for signed shapes), dicts for structs, sequences for arrays, nested as the
    layout is. A value that does not fit its field is a `TritapeError` that names it.

What is checked, on every port, every cycle out of reset
    - payloads come in the expected order with the expected values;
    - `valid`, once high, stays high with a stable payload until `ready`;
    - `valid` never waits for `ready`: for the first element and a quarter of the others `ready` stays low until `valid`
      is seen, so a component that waits runs into the timeout (not with `output_stall=0`, where `ready` is always 1);
    - `valid` and `ready` are never X or Z, and no payload bit is while `valid` (Icarus; Verilator has two states);
    - everything that is sent is accepted, everything expected comes, and nothing else does in 64 more cycles.
    The payload of an input port that is not valid is noise. The first violation is an `AssertionError` that names the
    port, the element's index, the cycle, the field, what was expected and what came.

Measuring
    The result has the number of cycles, the latency to each output's first `valid` and the cycle of every transfer;
    run with `input_stall=0, output_stall=0` for a component's own latency and rate.

Cost
    A design is converted to Verilog and built once per content (`tritape.base.cache`), without optimisation: one to two
    seconds with Verilator (the first build of a cache half a minute), none with Icarus. Each call then starts one
    simulator process (0.3 s) and runs 30 to 40 thousand cycles a second in Verilator, 10 thousand in Icarus.

Trap
    In a file that defines a component by annotations, do not write `from __future__ import annotations`.
"""

from tritape.sim.bench.simulator import SIMULATORS, require_simulator
from tritape.sim.bench.streams import BenchResult, check_streams

__all__ = ["SIMULATORS", "BenchResult", "check_streams", "require_simulator"]
