"""Steps of a model through the simulated accelerator and its memory: what they took, against the golden and the cycle model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from tritape.host.device import Device
from tritape.host.slots import Entry, prompt_steps
from tritape.model.quantised import QuantisedModel
from tritape.model.tape.layout import ideal_cycles
from tritape.rtl_gen.estimate import estimate_tokens
from tritape.sim.batch import BatchRunner
from tritape.sim.generate import Generator, Simulation


def measure(
    simulation: Simulation,
    model: QuantisedModel,
    ids: Sequence[Sequence[int]],
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Run `ids`, a step a row with a token for each slot, and measure the last step; JSON-ready. `progress(steps done, steps)`.

    The first row only fills the pipeline, and between steps the host reads counters, while the memory sends the next prologue.
    Several slots run the rows as so many sequences, to which most keys belong, and then once more as one prompt: `prompt_*`.
    `seconds_a_token` is what simulation and check took here.
    """
    config, memory, batch = simulation.config, simulation.memory, simulation.config.batch
    device, run = _runner(simulation, model)
    passes: list[Sequence[Sequence[Entry | None]]]
    passes = [[[Entry(token, fresh=number == 0) for token in tokens] for number, tokens in enumerate(ids)]]
    if batch > 1:
        passes.append(prompt_steps([token for tokens in ids for token in tokens], 0, batch, fresh=True)[0])
    done, difference = 0, None
    spent: list[dict[str, int]] = []  # by the last step of each pass
    seconds: list[float] = []
    for steps in passes:
        for entries in steps:
            before, started = device.counters(), time.perf_counter()
            found = run(entries)
            difference = difference or found
            elapsed, done = time.perf_counter() - started, done + 1
            if progress is not None:
                progress(done, len(passes) * len(ids))
        after = device.counters()
        spent.append({name: after[name] - before[name] for name in after})
        seconds.append(elapsed)

    counted, cycles = spent[0], spent[0]["running"]
    peak, sustained = memory.peak(config.word_bytes), memory.sustained(config.word_bytes)
    read_ahead, first_word = memory.ahead(config.word_bytes), memory.first_word(config.word_bytes)
    line = memory.line(config.word_bytes)
    estimate = estimate_tokens(model.config, config, 1.0, sustained, read_ahead, first_word, line)
    estimated = estimate["cycles_per_step" if batch > 1 else "cycles_per_token"]
    ideal = ideal_cycles(model.config, 1, config.weight_code) / peak
    result = {
        "groups": config.groups,
        "engines": config.engines,
        "batch": batch,
        "memory_bytes_per_cycle": peak,
        "measured_cycles": cycles,
        "estimated_cycles": estimated,
        "estimate_error": estimated / cycles - 1,
        "ideal_cycles": ideal,
        "roofline_fraction": ideal / cycles,
        "bit_exact": difference is None,
        "difference": difference,
        "streaming_cycles": counted["streaming"],
        "stall_cycles": {name.removeprefix("stall_"): n for name, n in counted.items() if name.startswith("stall")},
        "crc_errors": counted["crc_errors"],
        "delivered_bytes_per_cycle": estimate["tape_bytes"] / cycles,
        "seconds_a_token": seconds[0] / batch,
    }
    if batch > 1:
        prompt = spent[1]["running"]
        result |= {
            "cycles_per_token": cycles / batch,
            "prompt_cycles": prompt,
            "prompt_cycles_per_token": prompt / batch,
            "prompt_estimate_error": estimated / prompt - 1,
        }
    return result


def _runner(
    simulation: Simulation, model: QuantisedModel
) -> tuple[Device, Callable[[Sequence[Entry | None]], str | None]]:
    """The device with the model's tape, and what runs a step on it: the difference from the golden model, if there is one."""
    config = simulation.config
    if config.batch > 1:
        runner = BatchRunner(simulation, model)

        def step(entries: Sequence[Entry | None]) -> str | None:
            runner.step(entries)
            return runner.difference

        return runner.device, step
    generator = Generator(simulation, model, config.groups, max_rows=config.max_rows, engines=config.engines)

    def token(entries: Sequence[Entry | None]) -> str | None:
        (entry,) = entries
        assert entry is not None
        assert entry.token is not None
        return generator.feed(entry.token).difference

    return generator.device, token
