"""A soak: a virtual board and its host for hours, every token against the golden model, memory watched. `make soak HOURS=1`.

    python -m tritape.sim.soak [--hours 1] [--seed 0] [--out FILE]

Prompts, sampling, generation that is left early, logits, states saved and restored, restarts, tests of the memory, and cables
pulled in the middle of anything, at random. Ends with a summary as JSON; status 1 where a token was wrong or memory grew.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from tritape.base.errors import TritapeError
from tritape.host.device import Device
from tritape.host.link import VIRTUAL_SILENCE_S
from tritape.host.protocol import inverse_temperature
from tritape.host.transport.noisy import CutTransport
from tritape.host.transport.serial import SerialTransport
from tritape.hw.config import Config
from tritape.model import arith
from tritape.model.arith import Ints
from tritape.model.checkpoint import random_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.formats import quantise_model
from tritape.model.golden import IntegerModel
from tritape.model.quantised import QuantisedModel
from tritape.model.tape.assembler import image
from tritape.rtl_gen.boards import Board, board
from tritape.sim.virtual_board import VirtualBoard

RETRY_S = 0.5
SAMPLE_S = 5.0
"""Between looks at the memory of both processes."""
GROWTH_BYTES = 2 << 20
"""Memory may differ by so much between the second quarter of a soak and the last: allocators are not exact."""
STATES = 8
"""Saved states that are kept."""


def soak_board() -> Board:
    """The smallest board, so that simulated tokens are cheap."""
    config = Config(
        groups=4, tables_per_filler=4, max_hidden=32, max_intermediate=48, max_layers=2, max_vocab=256, max_rows=128
    )
    found = board("ulx3s-85f")
    assert isinstance(found, Board), "it has a UART"
    return replace(found, name="soak", config=config, memory_words=4096)


def soak_model() -> QuantisedModel:
    """A model of random weights for it."""
    shape = ModelConfig(vocab_size=64, hidden_size=20, num_hidden_layers=2, intermediate_size=24)
    return quantise_model(random_checkpoint(shape, seed=3), ids=list(range(8)))


def resident(pid: int | str) -> int:
    """Bytes of memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@dataclass
class Saved:
    """A state as the device gave it and as the golden model has it."""

    data: bytes
    state: Ints
    last: int


class WrongError(Exception):
    """The device said something that the golden model does not."""


class Soak:
    """One host and one board. `step` does one thing at random; `counts`: how often each was done, and tokens compared."""

    def __init__(self, port: str, shape: Board, model: QuantisedModel, seed: int) -> None:
        self.port, self.model = port, model
        self.rng = random.Random(seed)
        self.image = image(model, shape.config.groups, shape.config.max_rows)
        self.counts: Counter[str] = Counter()
        self.saved: list[Saved] = []
        self.golden = IntegerModel(model)
        self.generator = self.inverse = self.last = 0
        self._cut: CutTransport
        self._serial: SerialTransport
        self._connect()

    def _connect(self) -> None:
        """Open the device, as after a cable was plugged in, and have the tape checked."""
        self._serial = SerialTransport(self.port)
        self._cut = CutTransport(self._serial)
        self.device = Device(self._cut, retry_s=RETRY_S, silence_s=VIRTUAL_SILENCE_S)
        self.device.load_tape(self.image)

    def close(self) -> None:
        """Give the port back."""
        self._serial.close()

    def step(self) -> None:
        """One thing at random."""
        if self.rng.random() < 0.05:
            self.counts["pull"] += 1
            self.pull()
        else:
            self._any()

    def _any(self) -> None:
        """Something that needs no hand on the cable."""
        often = (self.text, self.more, self.more, self.leave, self.logits, self.save, self.restore, self.restart)
        thing = self.rng.choice((self.self_test,) if self.rng.random() < 0.05 else often)
        thing()
        self.counts[thing.__name__] += 1

    def _choose(self, fed: int) -> int:
        """What must follow a token that is fed."""
        chosen, self.generator = arith.choose(self.golden.step(fed), self.inverse, self.generator)
        return chosen

    def _expect(self, tokens: Any) -> None:
        """Compare tokens that the device generates, each fed the one before."""
        for token in tokens:
            wanted = self._choose(self.last)
            self.counts["tokens"] += 1
            if token != wanted:
                raise WrongError(f"token {self.counts['tokens']} must be {wanted}, not {token}")
            self.last = wanted

    def _new(self) -> list[int]:
        """Begin a sequence: settings, and a prompt; the golden model has run all of it but the last token."""
        temperature = self.rng.choice((0.0, 0.5, 1.0))
        self.inverse = inverse_temperature(temperature, self.model.logit_fraction)
        seed = self.rng.getrandbits(32)
        self.generator = seed or arith.XORSHIFT_DEFAULT
        self.device.settings(temperature, seed)
        self.device.reset()
        self.golden.reset()
        prompt = [
            self.rng.randrange(self.model.config.vocab_size)
            for _ in range(self.rng.choice((1, 1, 2, 2, 5, 5, 10, 130)))
        ]
        for token in prompt[:-1]:
            self._choose(token)
        self.last = prompt[-1]
        return prompt

    def text(self) -> None:
        """A prompt, and some text."""
        prompt = self._new()
        self._expect(self.device.generate_tokens(prompt, self.rng.randrange(1, 30)))

    def more(self) -> None:
        """The text goes on."""
        self._expect(self.device.generate_tokens([], self.rng.randrange(1, 40)))

    def leave(self) -> None:
        """Generation that is left early, and goes on."""
        with closing(self.device.generate_tokens([], 30)) as run:  # type: ignore[type-var]
            self._expect(islice(run, self.rng.randrange(1, 10)))
        self._expect(self.device.generate_tokens([], self.rng.randrange(30, 50)))  # all that it had run ahead, and more

    def logits(self) -> None:
        """All logits over the link, behind a new prompt."""
        prompt = self._new()[-3:]
        self.golden.reset()
        for token in prompt[:-1]:
            self.golden.step(token)
        if not np.array_equal(self.device.logits(prompt), self.golden.step(prompt[-1])):
            raise WrongError("logits must be those of the golden model")
        self.counts["tokens"] += 1
        self.text()

    def save(self) -> None:
        """Keep the state, in the place of another one if there are many."""
        data = self.device.save_state()
        self.saved.append(Saved(data, self.golden.state.copy(), self.last))
        if len(self.saved) > STATES:
            self.saved.pop(self.rng.randrange(STATES))

    def restore(self) -> None:
        """Go on from a state of before, on a sampler of now."""
        if not self.saved:
            return
        saved = self.rng.choice(self.saved)
        self.device.settings(0.0, 0)
        self.inverse = 0
        self.device.restore_state(saved.data)
        self.golden.state, self.last = saved.state.copy(), saved.last
        self.more()

    def restart(self) -> None:
        """The token loop begins again."""
        self.device.restart()
        self.device.boot()
        self.text()

    def self_test(self) -> None:
        """Link and memory are tried."""
        self.device.self_test()
        self.text()

    def pull(self) -> None:
        """The cable goes away in the middle of something, and is plugged in again."""
        self._cut.left = self.rng.randrange(1, 400)
        try:
            while True:
                self._any()
        except TritapeError:
            if self._cut.left is None or self._cut.left >= 0:
                raise  # it was something else
        self._serial.close()
        self._connect()
        self.text()


def soak(
    seconds: float, seed: int = 0, shape: Board | None = None, model: QuantisedModel | None = None
) -> dict[str, Any]:
    """Soak for so long: the summary. `failure` is None, or what was wrong."""
    shape, model = shape or soak_board(), model or soak_model()
    failure = None
    memory: list[tuple[float, int, int]] = []
    with VirtualBoard(shape) as virtual:
        run = Soak(virtual.port, shape, model, seed)
        started = looked = time.monotonic()
        step = run.text
        while time.monotonic() - started < seconds and failure is None:
            try:
                step()
                step = run.step
            except (TritapeError, WrongError) as error:
                failure = f"{type(error).__name__}: {error}"
            if time.monotonic() - looked > min(SAMPLE_S, seconds / 40):
                looked = time.monotonic()
                memory.append((looked - started, resident(virtual.pid), resident("self")))
        spent = time.monotonic() - started
        run.close()
    quarters = [[row for row in memory if part <= row[0] / spent * 4 < part + 1] for part in range(4)]
    middle = {
        name: [int(np.median([row[place] for row in quarter])) for quarter in quarters if quarter]
        for place, name in ((1, "board_bytes"), (2, "host_bytes"))
    }
    if failure is None:
        for name, values in middle.items():
            if len(values) == 4 and values[3] > values[1] + GROWTH_BYTES:
                failure = f"{name} must stay, not grow from {values[1]} to {values[3]}"
    return {
        "minutes": round(spent / 60, 2),
        "seed": seed,
        "tokens": run.counts.pop("tokens"),
        "done": dict(sorted(run.counts.items())),
        **{f"{name}_by_quarter": values for name, values in middle.items()},
        "failure": failure,
    }


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="where the summary goes too")
    chosen = parser.parse_args()
    result = soak(3600 * chosen.hours, chosen.seed)
    text = json.dumps(result, indent=1)
    print(text)
    if chosen.out:
        chosen.out.write_text(text + "\n")
    return int(result["failure"] is not None)


if __name__ == "__main__":
    sys.exit(main())
