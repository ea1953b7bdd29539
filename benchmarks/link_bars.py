"""Measure the bars of the host link on the simulated gateware; print them as JSON.

    python benchmarks/link_bars.py [--bytes N] [--tokens N] [--cuts N]

noise: 1 % of the bytes of each direction flipped, dropped or doubled; a memory of N bytes is written, checked and read back
with noise, then a tape booted and N tokens generated. Lost or wrong bytes and tokens are counted.
cuts: the port goes away after a random number of bytes, N times; seconds until the host says so, and wrong tokens of the
next session. tests/test_host_device.py runs the same on a small scale.
"""

from __future__ import annotations

import argparse
import json
import random
import time

from tritape.base.errors import TritapeError
from tritape.host.device import Device
from tritape.host.transport.noisy import CutTransport, NoisyTransport
from tritape.hw.config import Config
from tritape.model.checkpoint import random_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.formats import quantise_model
from tritape.model.golden import IntegerModel
from tritape.model.quantised import QuantisedModel
from tritape.model.tape.assembler import image
from tritape.sim.generate import RETRY_S, Simulation

GROUPS, ROWS = 8, 512
CONFIG = Config(groups=GROUPS, max_hidden=128, max_intermediate=320, max_layers=4, max_vocab=512, max_rows=512)
NOISE = 0.01
NOISY_RETRY_S = 0.0005
"""Of simulated time: 1,000 cycles without a byte; a command of full length is obeyed in 800."""


def greedy(model: QuantisedModel, token: int, count: int) -> list[int]:
    """What the golden model generates."""
    golden, out = IntegerModel(model), [token]
    while len(out) <= count:
        out.append(int(golden.step(out[-1]).argmax()))
    return out[1:]


def noise(simulation: Simulation, model: QuantisedModel, size: int, tokens: int) -> dict[str, float]:
    """Bytes and tokens through a bad wire."""
    simulation.set_memory(b"", GROUPS)
    wire = NoisyTransport(CutTransport(simulation), NOISE, seed=1)
    device = Device(wire, retry_s=NOISY_RETRY_S)
    started = time.perf_counter()
    tape = image(model, GROUPS, ROWS)
    data = tape + random.Random(1).randbytes(max(size - len(tape), 0) // GROUPS * GROUPS)
    device.write_memory(0, data)
    got = device.read_memory(0, len(data) // GROUPS)
    device.boot()
    made = list(device.generate_tokens([3], tokens))
    expected = greedy(model, 3, tokens)
    return {
        "noise": NOISE,
        "bytes": len(data),
        "bytes_wrong": abs(len(got) - len(data)) + sum(a != b for a, b in zip(got, data, strict=False)),
        "tokens": tokens,
        "tokens_wrong": abs(len(made) - tokens) + sum(a != b for a, b in zip(made, expected, strict=False)),
        "bytes_damaged": wire.damaged,
        "commands_repeated": device.link.resent,
        "seconds": time.perf_counter() - started,
    }


def cuts(simulation: Simulation, model: QuantisedModel, count: int) -> dict[str, float]:
    """Sessions that end when the port goes away, each followed by a whole one."""
    rng, worst, reported, wrong = random.Random(2), 0.0, 0, 0
    data = image(model, GROUPS, ROWS)
    for _ in range(count):
        wire = CutTransport(simulation)
        device = Device(wire, retry_s=RETRY_S)
        device.load_tape(data)
        wire.left = rng.randrange(3000)
        started = time.perf_counter()
        try:
            while True:
                started = time.perf_counter()
                if rng.random() < 0.1:
                    device.load_tape(data)
                for _ in device.generate_tokens([5], 60):
                    started = time.perf_counter()
        except TritapeError:
            worst, reported = max(worst, time.perf_counter() - started), reported + 1
        again = Device(CutTransport(simulation), retry_s=RETRY_S)
        if not again.booted:
            again.load_tape(data)
        again.reset()
        token = rng.randrange(97)
        wrong += sum(a != b for a, b in zip(again.generate_tokens([token], 5), greedy(model, token, 5), strict=True))
    return {"cuts": count, "reported": reported, "slowest_report_s": worst, "stale_or_wrong_tokens": wrong}


def main() -> None:
    """Run both bars on the simulated device and print them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bytes", type=int, default=1 << 20)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--cuts", type=int, default=50)
    arguments = parser.parse_args()
    shape = ModelConfig(vocab_size=97, hidden_size=40, num_hidden_layers=2, intermediate_size=65)
    model = quantise_model(random_checkpoint(shape, seed=1), ids=list(range(8)))
    with Simulation(CONFIG) as simulation:
        print(json.dumps({
            **noise(simulation, model, arguments.bytes, arguments.tokens),
            **cuts(simulation, model, arguments.cuts),
        }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
