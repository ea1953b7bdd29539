"""`check_streams`: convert a component, build it once, run one set of data through it, explain what went wrong."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from amaranth.hdl import Const, Value
from amaranth.lib import stream, wiring

from tritape.base.errors import TritapeError
from tritape.base.verilog_text import verilog_text
from tritape.sim.bench import payload
from tritape.sim.bench.simulator import TOP, build_bench, log_tail, require_simulator, run_bench, work_folder

_DUT = "dut"  # name of the component's module below the wrapper
_PYTEST = """
class raises:
    class Exception(BaseException): pass
class skip(raises): pass
class xfail(raises): pass
"""  # all that cocotb wants of pytest for these runs; importing the real one takes half the time of a short run


@dataclasses.dataclass(frozen=True)
class BenchResult:
    """What a good run measured. Cycle 0 is the first one out of reset."""

    cycles: int
    """Cycles until the last expected transfer, that one included."""
    latency: dict[str, int]
    """Output port -> cycles from the first transfer on any input to the port's first `valid` (a register counts 1).
    Ports that never were valid are missing. Exact only with `input_stall=0`."""
    transfers: dict[str, list[int]]
    """Stream port -> cycle of each transfer."""


@dataclasses.dataclass(frozen=True)
class _Port:
    name: str  # dotted, as the caller writes it
    net: str  # in the Verilog
    shape: Any

    @property
    def width(self) -> int:
        return payload.width(self.shape)


@dataclasses.dataclass
class _Ports:
    inputs: dict[str, _Port] = dataclasses.field(default_factory=dict)
    outputs: dict[str, _Port] = dataclasses.field(default_factory=dict)
    plain_in: dict[str, _Port] = dataclasses.field(default_factory=dict)
    plain_out: dict[str, _Port] = dataclasses.field(default_factory=dict)


def check_streams(
    component: wiring.Component,
    *,
    inputs: Mapping[str, Sequence[Any]],
    expected: Mapping[str, Sequence[Any] | None],
    statics: Mapping[str, Any] = {},
    finals: Mapping[str, Any] = {},
    after: Mapping[str, Sequence[tuple[int, str, int]]] = {},
    seed: int = 0,
    input_stall: float = 0.3,
    output_stall: float = 0.3,
    simulator: str = "icarus",
    max_cycles: int | None = None,
    name: str | None = None,
) -> BenchResult:
    """Send `inputs` through `component` and compare everything that comes out with `expected` (manual: the package).

    - `inputs`, `expected`: stream port -> its elements; every stream port must be there. `None` as the expectation
      takes and checks the port's transfers without comparing them.
    - `statics`: plain input -> value from reset on (others keep their initial value); `finals`: plain output -> value
      after the last cycle.
    - `after`: stream port -> list of (element index, other stream port, count): hold that element back until the
      other port has transferred `count` elements. Either may be an input or an output.
    - `seed`: of the stalls; `input_stall`, `output_stall`: their probability per cycle, 0 for full rate.
    - `max_cycles`: limit of the whole run; by default 10,000 cycles without a transfer are a timeout.
    - `simulator`: `icarus` builds in no time and runs slowly, `verilator` takes seconds to build: for wide units and long runs.
    - `name`: what error messages call the component (default: its class).

    Raises `AssertionError` naming port, element, field, expected and got for the first thing that is wrong, and
    `TritapeError` for data that does not fit the ports or a missing tool. Skips if `simulator` is not installed.
    """
    require_simulator(simulator)
    name = name or type(component).__name__
    ports = _ports_of(component)
    _same_names(name, "inputs", inputs, ports.inputs)
    _same_names(name, "expected", expected, ports.outputs)
    for what, given, known in (("statics", statics, ports.plain_in), ("finals", finals, ports.plain_out)):
        for key in given:
            if key not in known:
                raise TritapeError(f"{name}: {what} must name ports of {list(known)}, not {key!r}")
    for key, gates in after.items():
        for gate in gates:
            if not {key, gate[1]} <= {*inputs, *expected}:
                raise TritapeError(f"{name}: after must name stream ports, not {key!r}: {gate!r}")

    def stream_job(port: _Port, elements: Sequence[Any] | None, what: str, stall: float) -> dict[str, Any]:
        words = None if elements is None else payload.texts(port.shape, elements, f"{what}[{port.name!r}]")
        gates = [list(gate) for gate in after.get(port.name, ())]
        return {"name": port.name, "width": port.width, "words": words, "stall": stall, "after": gates}

    job = {
        "seed": seed,
        "max_cycles": max_cycles,
        "inputs": [stream_job(port, inputs[key], "inputs", input_stall) for key, port in ports.inputs.items()],
        "outputs": [stream_job(port, expected[key], "expected", output_stall) for key, port in ports.outputs.items()],
        "statics": "".join(
            payload.text(port.shape, statics[key], f"statics[{key!r}]") if key in statics else _initial(component, port)
            for key, port in ports.plain_in.items()
        ),
    }
    verdict = _simulate(_build(component, ports, simulator), simulator, job)
    if verdict["kind"] != "good":
        raise AssertionError(f"{name} ({simulator}, seed {seed}): " + _explain(ports, expected, verdict))
    plain, at = verdict["plain"], 0
    for key, port in ports.plain_out.items():
        got = plain[at : at + port.width]
        at += port.width
        if key in finals and got != payload.text(port.shape, finals[key], f"finals[{key!r}]"):
            shown = payload.show(port.shape, got)
            raise AssertionError(
                f"{name} ({simulator}, seed {seed}): port {key!r} at the end: expected {finals[key]}, got {shown}"
            )
    transfers = verdict["transfers"]
    start = min((transfers[key][0] for key in ports.inputs if transfers[key]), default=0)
    latency = {key: cycle - start for key, cycle in verdict["first_valid"].items() if cycle is not None}
    return BenchResult(cycles=verdict["cycles"], latency=latency, transfers=transfers)


def _same_names(name: str, what: str, given: Mapping[str, Any], ports: Mapping[str, _Port]) -> None:
    if set(given) != set(ports):
        raise TritapeError(f"{name}: {what} must name exactly the stream ports {sorted(ports)}, not {sorted(given)}")


def _ports_of(component: wiring.Component) -> _Ports:
    """Sort the component's members into streams and plain signals, nested interfaces included."""
    found = _Ports()

    def visit(path: tuple[str | int, ...], member: wiring.Member, inward: bool, interface: Any) -> None:
        port = _Port(".".join(map(str, path)), "__".join(map(str, path)), None)
        if member.is_port:
            port = dataclasses.replace(port, shape=member.shape)
            (found.plain_in if inward else found.plain_out)[port.name] = port
        elif isinstance(member.signature, stream.Signature):
            if any(isinstance(Value.cast(getattr(interface, part)), Const) for part in ("valid", "ready")):
                raise TritapeError(
                    f"stream port {port.name!r} must have valid and ready, not always_valid or always_ready"
                )
            shape = member.signature.members["payload"].shape
            (found.inputs if inward else found.outputs)[port.name] = dataclasses.replace(port, shape=shape)
        else:
            walk(path, member.signature, interface)

    def walk(path: tuple[str | int, ...], signature: Any, interface: Any) -> None:
        for key, member in signature.members.items():  # of an `In` interface, Amaranth has turned them round already
            spread((*path, key), member, member.flow == wiring.In, getattr(interface, key), member.dimensions)

    def spread(path: Any, member: wiring.Member, inward: bool, value: Any, dimensions: Sequence[int]) -> None:
        if dimensions:
            for index in range(dimensions[0]):
                spread((*path, index), member, inward, value[index], dimensions[1:])
        else:
            visit(path, member, inward, value)

    walk((), component.signature, component)
    return found


def _initial(component: wiring.Component, port: _Port) -> str:
    signal: Any = component
    for part in port.name.split("."):
        signal = signal[int(part)] if part.isdigit() else getattr(signal, part)
    init = int(Const.cast(Value.cast(signal).init).value) if port.width else 0
    return f"{init & ((1 << port.width) - 1):0{port.width}b}" if port.width else ""


def _wrapper(ports: _Ports, verilog: str) -> str:
    """Verilog of the module `bench`: all inputs in one vector, all outputs in another, in the order that
    `cocotb_streams` expects."""
    header = re.search(rf"^module {_DUT}\((.*?)\);", verilog, re.MULTILINE | re.DOTALL)
    assert header is not None, "Verilog without a top module"
    present = {item.strip() for item in header.group(1).split(",")}

    def nets(inward: bool) -> Iterator[tuple[str, int]]:
        streams, others = (ports.inputs, ports.outputs) if inward else (ports.outputs, ports.inputs)
        if inward:
            yield from ((port.net, port.width) for port in ports.plain_in.values())
        for port in streams.values():
            yield from ((f"{port.net}__payload", port.width), (f"{port.net}__valid", 1))
        yield from ((f"{port.net}__ready", 1) for port in others.values())
        if not inward:
            yield from ((port.net, port.width) for port in ports.plain_out.values())

    drive, observe = ([net for net in nets(inward) if net[1]] for inward in (True, False))
    bits = [max(1, sum(width for _, width in group)) for group in (drive, observe)]
    connect = [f".{clock}({clock})" for clock in ("clk", "rst") if clock in present]
    connect += [f".{net}({net})" for net, _ in drive + observe if net in present]
    lines = [f"module {TOP}(input clk, input rst, input [{bits[0] - 1}:0] drive, output [{bits[1] - 1}:0] observe);"]
    lines += [f"  wire [{width - 1}:0] {net};" for net, width in drive + observe]
    if drive:
        lines.append(f"  assign {{{', '.join(net for net, _ in drive)}}} = drive;")
    lines.append(f"  assign observe = {{{', '.join(net for net, _ in observe) or chr(49) + chr(39) + 'b0'}}};")
    lines += [f"  {_DUT} {_DUT}({', '.join(connect)});", "endmodule", ""]
    return "\n".join(lines)


def _build(component: wiring.Component, ports: _Ports, simulator: str) -> Path:
    """Folder of the built simulation; from the cache if the same text was built before."""
    instantiated = getattr(component, "verilog", "")
    verilog = verilog_text(component, _DUT, checks=True) + instantiated
    return build_bench(f"{verilog}\n{_wrapper(ports, verilog)}", simulator)


def _simulate(build: Path, simulator: str, job: dict[str, Any]) -> dict[str, Any]:
    """Run one job in a folder of its own and return its verdict."""
    with work_folder() as work:
        (work / "job.json").write_text(json.dumps(job))
        (work / "pytest.py").write_text(_PYTEST)
        result = work / "result.json"
        log = run_bench(
            build,
            simulator,
            "cocotb_streams",
            work,
            path=[work, Path(__file__).parent],
            environment={
                "TRITAPE_BENCH_JOB": str(work / "job.json"),
                "TRITAPE_BENCH_RESULT": str(result),
                "COCOTB_REWRITE_ASSERTION_FILES": "",  # pytest's import hook doubles the start-up time
            },
        )
        if not result.is_file():
            raise RuntimeError(f"the {simulator} run ended without a verdict\n{log_tail(log)}")
        verdict: dict[str, Any] = json.loads(result.read_text())
        return verdict


def _explain(ports: _Ports, expected: Mapping[str, Sequence[Any] | None], verdict: dict[str, Any]) -> str:
    """The message for a run that was not good."""
    port = ports.outputs.get(verdict["port"]) or ports.inputs[verdict["port"]]
    where = f"port {port.name!r}, element {verdict['index']}, cycle {verdict['cycle']}"
    if verdict["kind"] == "rule":
        return f"stream rule broken at {where}: {verdict['rule']}"
    if verdict["kind"] == "extra":
        total = len(expected[port.name] or ())
        return (
            f"{where}: extra element after the last of {total} expected, got {payload.show(port.shape, verdict['got'])}"
        )
    if verdict["kind"] == "timeout":
        held = " (ready was held low until valid, which must not wait for ready)" if verdict["held"] else ""
        progress = ", ".join(f"{name} {done}" for name, done in verdict["progress"].items())
        return f"timeout at {where}: the next transfer never came{held}; transfers so far: {progress}"
    elements = expected[port.name]
    assert elements is not None
    want = payload.encoder(port.shape)(elements[verdict["index"]], "")
    got = verdict["got"]
    difference = None
    if not got.strip("01"):
        both = (payload.decode(port.shape, bits) for bits in (want, int(got or "0", 2)))
        difference = payload.first_difference(port.shape, *both)
    field, wanted, had = difference or ("payload", f"0b{want:0{port.width}b}", f"0b{got}")
    return f"{where}, field {field!r}: expected {wanted}, got {had}"
