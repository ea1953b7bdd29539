"""Whole tokens through the simulated accelerator, each one checked against the integer golden model."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Container, Sequence
from collections.abc import Generator as Yields
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from tritape.base.errors import TritapeError
from tritape.base.simulators import verilator_version
from tritape.host import protocol
from tritape.host.device import Device
from tritape.hw.config import Config
from tritape.hw.probe import PROBES
from tritape.model import arith
from tritape.model.arith import Ints
from tritape.model.golden import IntegerModel, Trace
from tritape.model.quantised import QuantisedModel
from tritape.model.tape.assembler import image
from tritape.model.tape.layout import ideal_cycles
from tritape.sim.fast.build import build_model
from tritape.sim.fast.memory import BOARDS, CODES, IDEAL, Memory
from tritape.sim.fast.poison import poisoned
from tritape.sim.fast.runner import Process
from tritape.sim.fast.top import verilog

MAIN = Path(__file__).parent / "fast" / "main.cpp"
DIRECT = "5.48.0"
"""Version of Verilator whose functions `main.cpp` may call by their names; others, traces and DRAM get `eval`."""
RETRY_S = 1.0
"""Of simulated time: nothing is lost on this wire, so nothing needs to be asked for again soon."""


class Simulation:
    """The accelerator in Verilator behind a memory, an ideal one of one word a cycle by default: a `Transport` for `host.Device`.

    Built once per content and cached; `progress(line)` follows the build. `trace` names an FST file to write. Time is
    simulated: a second of a time-out is `CYCLES_A_SECOND` cycles in which nothing moves on the link. `image_bytes`: what a DRAM
    must hold. `poison`: block RAM gives garbage where a read meets a write (`tritape.sim.fast.poison`).

    Attributes: `config`, `memory`.
    """

    CYCLES_A_SECOND = 2_000_000

    def __init__(
        self,
        config: Config,
        trace: Path | None = None,
        progress: Callable[[str], None] | None = None,
        memory: Memory = IDEAL,
        image_bytes: int = 0,
        poison: bool = False,
    ) -> None:
        self.config, self.memory = config, memory
        self._traced = trace is not None
        defines = {"ENGINES": config.engines, "BATCH": config.batch, "MEMORY": CODES[memory.kind]}
        direct = verilator_version() == DIRECT and trace is None and memory.kind not in BOARDS
        defines["DIRECT"] = int(direct)
        if memory.kind == "axi":
            defines |= {"PORTS": memory.ports, "PORT_BITS": memory.port_bits}
        text = verilog(config, memory, image_bytes)
        program = build_model(
            poisoned(text) if poison else text,
            "top",
            MAIN,
            trace=trace is not None,
            defines=defines,
            progress=progress,
        )
        self._process = Process([program, trace] if trace else program)
        self._outgoing = b""
        self.cycle = 0
        """Clock cycles since the start."""
        self.set_memory(b"", config.word_bytes)
        limits = (memory.latency, memory.jitter, round(1024 * memory.limit), round(1024 * memory.stall))
        self._process.call(ord("L"), struct.pack("<IIII", *limits))

    def __enter__(self) -> Simulation:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def set_memory(self, data: bytes, groups: int) -> None:
        """Put a memory image in place without sending it over the link."""
        self._process.call(ord("M"), struct.pack("<I", groups) + data)

    def write(self, data: bytes) -> None:
        """Queue bytes for the host link; they go with the next `read`."""
        self._outgoing += data

    def read(self, timeout_s: float) -> bytes:
        """Run the clock until a whole frame came from the host link, or nothing moved for the time; what came."""
        patience = struct.pack("<I", max(1, round(timeout_s * self.CYCLES_A_SECOND)))
        _, reply = self._process.call(ord("X"), patience + self._outgoing)
        self._outgoing = b""
        self.cycle = struct.unpack_from("<Q", reply)[0]
        return reply[8:]

    def discard(self) -> None:
        """Nothing: what came has been read."""

    def close(self) -> None:
        """End the simulation; a trace is written to its end."""
        if self._traced:
            self._process.close(by_force=False)
        self._process.close()

    def clear_probes(self) -> None:
        """Forget what the probes saw."""
        self._process.call(ord("C"))

    def probe(self, name: str, slot: int = 0) -> Ints:
        """What a probe of a slot saw since `clear_probes`."""
        request = bytes([slot, PROBES.index(name)])
        return np.frombuffer(self._process.call(ord("P"), request)[1], "<i4").astype(np.int64)


@dataclass(frozen=True)
class Token:
    """One token run: what was fed, what the hardware chose, and where it first differs from the golden model, if it does."""

    fed: int
    chosen: int
    difference: str | None


@dataclass(frozen=True)
class Run:
    """One token of the hardware: what was fed, what it chose, and what its probes saw."""

    fed: int
    chosen: int
    seen: dict[str, Ints]


class Generator:
    """Feeds tokens of one sequence to a simulated accelerator and compares every logit with the golden model.

    `check` False runs the hardware alone. `ran`: tokens that the hardware has run.
    """

    ran = 0

    def __init__(
        self,
        simulation: Simulation,
        model: QuantisedModel,
        groups: int,
        *,
        max_rows: int,
        engines: int = 1,
        temperature: float = 0.0,
        seed: int = 0,
        check: bool = True,
    ) -> None:
        self.model = model
        self._engines = engines
        self.inv_temperature = protocol.inverse_temperature(temperature, model.logit_fraction)
        self._temperature = temperature
        self._simulation = simulation
        self.checked = check
        self._golden = IntegerModel(model) if check else None
        simulation.set_memory(image(model, groups, max_rows, engines, simulation.config.weight_code), groups * engines)
        self.device = Device(simulation, retry_s=RETRY_S)
        self.device.boot()
        self.restart(seed)

    def restart(self, seed: int = 0) -> None:
        """Begin a new sequence."""
        self.device.settings(self._temperature, seed)
        self.device.reset()
        self._state = seed or arith.XORSHIFT_DEFAULT
        self._last: int | None = None
        if self._golden is not None:
            self._golden.reset()

    def feed(self, token: int) -> Token:
        """Run one token of the prompt."""
        return self._check(self._run(token))

    def continue_(self) -> Token:
        """Run the token that the hardware chose last, fed back inside the fabric."""
        return self._check(self._run(None))

    def sequence(self, prompt: Sequence[int], tokens: int, ends: Container[int] = ()) -> Yields[Token, None, None]:
        """Run a prompt and the tokens after it, up to one of `ends`: as many as `prompt` has, and `tokens` - 1 more.

        A token is checked while the hardware runs the next one, so whoever leaves the loop early leaves the hardware a token
        ahead.
        """
        steps = [*prompt, *(None for _ in range(tokens - 1))]
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(self._run, steps[0])
            for number, step in enumerate(steps[1:], 1):
                run = coming.result()
                if number >= len(prompt) and run.chosen in ends:
                    break
                coming = pool.submit(self._run, step)
                yield self._check(run)
            yield self._check(coming.result())

    def _run(self, token: int | None) -> Run:
        """One token through the hardware, the one that it chose last if none is given."""
        self._simulation.clear_probes()
        if token is None:
            assert self._last is not None, "feed a prompt first"
            fed, (chosen,) = self._last, self.device.generate_tokens([], 1)
        else:
            fed, chosen = token, self.device.feed([token])
        self._last = chosen
        self.ran += 1
        return Run(fed, chosen, {name: self._simulation.probe(name) for name in PROBES} if self.checked else {})

    def _check(self, run: Run) -> Token:
        """The golden model's turn: tokens come here in the order in which they ran."""
        difference = None
        if self._golden is not None:
            before = self._golden.state.copy()
            logits = self._golden.step(run.fed)
            expected, self._state = arith.choose(logits, self.inv_temperature, self._state)
            if not np.array_equal(run.seen["logit"], logits):
                difference = self._locate(run, before)
            elif run.chosen != expected:
                difference = f"token must be {expected}, not {run.chosen}"
        return Token(run.fed, run.chosen, difference)

    def _locate(self, run: Run, before: Ints) -> str:
        """The first differing unit and element of a token that ran from the state `before`."""
        assert self._golden is not None
        after, trace = self._golden.state, Trace()
        self._golden.state = before
        self._golden.step(run.fed, trace)
        self._golden.state = after
        return trace.first_difference(run.seen, self._engines) or "logits differ, but no probe does"


def generate(
    generator: Generator,
    prompt: Sequence[int],
    tokens: int,
    on_token: Callable[[int], None],
    ends: Container[int] = (),
) -> dict[str, Any]:
    """Run a prompt and `tokens` more; `on_token(id)` for each generated one. The measurements as a JSON-ready dict.

    Stops behind a token of `ends` (`finish_reason` is `stop`, else `length`), and at the first difference (key `difference`).
    Cycles are those of the RTL, with an ideal memory.
    """
    if not prompt:
        raise TritapeError("prompt must have at least one token, not none; give some text")
    if tokens < 1:
        raise TritapeError(f"tokens must be at least 1, not {tokens!r}")
    before, ran_before = generator.device.counters(), generator.ran
    started = time.perf_counter()
    generated: list[int] = []
    run = 0
    difference: str | None = None
    finish_reason = "length"
    with closing(generator.sequence(prompt, tokens, ends)) as results:
        for result in results:
            run += 1
            difference = result.difference
            if difference is not None:
                difference = f"token {run} of the sequence (id {result.fed}): {difference}"
                break
            if run >= len(prompt):
                generated.append(result.chosen)
                on_token(result.chosen)
                if result.chosen in ends:
                    finish_reason = "stop"
    seconds = time.perf_counter() - started
    spent = {name: value - before[name] for name, value in generator.device.counters().items()}
    identity = generator.device.identity
    ran = generator.ran - ran_before
    cycles = spent["running"] / ran
    ideal = ideal_cycles(generator.model.config, identity.groups, identity.code)
    return {
        "generated_ids": generated,
        "finish_reason": finish_reason,
        "tokens": len(generated),
        "prompt_tokens": len(prompt),
        "cycles_per_token": cycles,
        "ideal_cycles_per_token": ideal,
        "roofline_fraction": ideal / cycles,
        "bit_exact": difference is None if generator.checked else None,
        "difference": difference,
        "saturations": {
            name.removeprefix("saturated_"): v for name, v in spent.items() if name.startswith("saturated")
        },
        "stall_cycles": {name.removeprefix("stall_"): v / ran for name, v in spent.items() if name.startswith("stall")},
        "crc_errors": spent["crc_errors"],
        "simulated_tokens_per_second": run / seconds,
    }


def check_tokens(
    model: QuantisedModel, sequences: Sequence[Sequence[int]], groups: int, progress: Callable[[int, int], None]
) -> dict[str, Any]:
    """Run sequences through the RTL against the golden model: `rtl_bit_exact`, `rtl_tokens` and `rtl_difference`."""
    config = Config.for_model(model.config, groups)
    total, done = sum(map(len, sequences)), 0
    with Simulation(config) as simulation:
        generator = Generator(simulation, model, groups, max_rows=config.max_rows)
        for number, sequence in enumerate(sequences):
            generator.restart()
            with closing(generator.sequence(sequence, 1)) as results:
                for place, result in enumerate(results):
                    done += 1
                    progress(done, total)
                    if result.difference is not None:
                        where = f"sequence {number}, token {place}: {result.difference}"
                        return {"rtl_bit_exact": False, "rtl_tokens": done, "rtl_difference": where}
    return {"rtl_bit_exact": True, "rtl_tokens": done}
