"""Measure speculation and batching on a device with four slots, simulated by the cycle model; print tables and their bars.

    python benchmarks/speculation.py table [--json FILE]    tokens/s with guesses over without
    python benchmarks/speculation.py clients                8 clients of a server's batch over one alone
    python benchmarks/speculation.py check [--prompts N] [--tokens N]    text with guesses against the golden model

The device is `tritape.sim.golden_device`: every token is exact, a step takes the cycles of the cycle model (within 1 % of RTL)
at CLOCK, and the link what LINKS say. The time of drafts on this machine's processor counts, and for real links all that the
host computes, Python included. Exit status 1 where a bar is missed. docs/speculation.md has the tables.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tritape.host.device import Device
from tritape.host.draft import Draft, Guesser, open_draft
from tritape.host.draft.adaptive import Pace
from tritape.host.jobs import Batch, Job
from tritape.host.protocol import inverse_temperature
from tritape.host.slots import generator_after
from tritape.hw.config import Config
from tritape.model import arith
from tritape.model.data import default_model_path
from tritape.model.golden import IntegerModel
from tritape.model.open import OpenModel, open_model
from tritape.rtl_gen.estimate import estimate_tokens
from tritape.sim.fast.memory import Memory
from tritape.sim.golden_device import GoldenDevice, Times

CLOCK = 80e6
SLOTS, GROUPS, TOKENS = 4, 16, 200
LINKS = {"none": (0.0, 1 / CLOCK), "registers": (50e-6, 1e-6), "serial": (1e-3, 1e-5)}
"""Seconds of a command and its reply beside their bytes, and of a byte: as in the fast simulation; a processor beside the
fabric; 1 Mbaud over USB."""
LISTS = [
    "Item one: tea.\nItem two: tea.\nItem three: tea.\nItem four: tea.\nItem five:",
    "She had a bonnet, and a gown, and a bonnet, and a gown, and a bonnet, and a gown, and a",
    "It was very, very, very, very, very, very, very, very,",
]
QUOTATIONS = [
    '"Yes," said Emma. "Yes," said Harriet. "Yes," said Emma. "Yes," said Harriet. "Yes," said Emma. "Yes," said',
    '"My dear," said he, "my dear," said she, "my dear," said he, "my dear," said she, "my dear," said he, "my',
    '"No," he said. "No, no," he said. "No, no, no," he said. "No, no," he said. "No," he said. "No,',
]
CODE = [
    "for i in range(10):\n    print(i)\nfor i in range(10):\n    print(i)\nfor i in range(10):\n    print(i)\nfor i in",
    "x = x + 1; y = y + 1; x = x + 1; y = y + 1; x = x + 1; y = y + 1; x =",
    "begin one; end one; begin two; end two; begin three; end three; begin four; end",
]
COPY = [
    "Repeat: Emma was very happy to see him. Emma was very happy to see him. Emma was",
    'Say again "the carriage stopped at the door". "The carriage stopped at the door". "The carriage',
    "The letter says: my dear sir, I am well. What does the letter say? The letter says: my dear",
]


WORKLOADS = """
small qspi none tiny prose 0 0.7 1
small litedram-sdr none tiny prose 0 0.7 1
small qspi none tiny lists 0 0.7
small qspi none tiny quotations 0 0.7
small qspi none tiny code 0 0.7
base qspi none ngram lists 0
base qspi none ngram quotations 0
base qspi none ngram code 0
base qspi none ngram copy 0
small qspi none ngram lists 0 0.7
small qspi none ngram quotations 0
small qspi none ngram code 0
small qspi none ngram copy 0
small qspi none ngram prose 0 0.7 1
small qspi registers tiny prose 0 0.7 1
small qspi serial tiny prose 0 0.7
small qspi serial ngram prose 0 0.7
small litedram-ddr3 registers tiny prose 0 1
small litedram-ddr3 serial ngram prose 0 1
tiny litedram-ddr3 serial small prose 0 1
"""
"""Model, memory, link, draft, text, temperatures."""
REPETITIVE = ("lists", "quotations", "code")


@dataclass(frozen=True)
class Row:
    """One line of the table; `speedup` is tokens/s over those without guesses."""

    model: str
    memory: str
    link: str
    draft: str
    text: str
    temperature: float
    tokens_per_step: float
    tokens_per_second: float
    draft_ms_per_token: float
    speedup: float


@cache
def opened(name: str) -> OpenModel:
    """An embedded model, opened once."""
    return open_model(name)


@cache
def draft(name: str, target: str) -> Draft:
    """A draft for a model, opened once."""
    return open_draft(name, opened(target))


class Timed:
    """A draft whose time is spent on a device's clock: a `Draft` and its `Guesser`."""

    def __init__(self, draft: Draft, transport: GoldenDevice, guesser: Guesser | None = None) -> None:
        self.name, self.guess_s = draft.name, draft.guess_s
        self._draft, self._transport, self._guesser = draft, transport, guesser

    def begin(self, inverse: int, generator: int) -> Timed:
        return Timed(self._draft, self._transport, self._draft.begin(inverse, generator))

    def take(self, tokens: Sequence[int]) -> None:
        self._spend("take", tokens)

    def guess(self, first: int, count: int) -> list[int]:
        return self._spend("guess", first, count)

    def ahead(self, count: int) -> None:
        self._spend("ahead", count)

    def _spend(self, method: str, *arguments: Any) -> Any:
        started = time.thread_time()
        done = getattr(self._guesser, method)(*arguments)
        self._transport.spend(time.thread_time() - started)
        return done


@cache
def held_out() -> str:
    """Text that no embedded model was trained on."""
    return (default_model_path() / "heldout.txt").read_text()


def prose(count: int, length: int = 120) -> list[str]:
    """Beginnings of paragraphs that no model has seen, cut behind a word."""
    parts = [part for part in held_out().split("\n") if len(part) > 2 * length]
    return [part[:length].rpartition(" ")[0] for part in parts[5 :: len(parts) // count][:count]]


def times(model: OpenModel, memory: str, link: str) -> Times:
    """Of a step behind a memory, and of a link."""
    config, kind = configuration(model), Memory(memory)
    word = config.word_bytes
    estimate = estimate_tokens(
        model.config, config, 1.0, kind.sustained(word), kind.ahead(word), kind.first_word(word), kind.line(word)
    )
    return Times(estimate["cycles_per_step"] / CLOCK, *LINKS[link])


def configuration(model: OpenModel) -> Config:
    """Of the device that runs a model: `GROUPS`, `SLOTS`."""
    return Config.for_model(model.config, GROUPS, batch=SLOTS)


def device(model: OpenModel, memory: str = "qspi", link: str = "registers") -> tuple[Device, GoldenDevice]:
    """A host's device on the golden model, whose clock is that of the cycle model and the link, with a model loaded."""
    transport = GoldenDevice(configuration(model), model.quantised, times(model, memory, link), host=link != "none")
    made = Device(transport)
    made.load_model(model)
    made.pace = Pace(transport.now)
    return made, transport


def measure(
    name: str, memory: str, link: str, guesses: str, text: str, prompts: Sequence[str], temperature: float
) -> Row:
    """The same texts without guesses and with them."""
    model = opened(name)
    made, transport = device(model, memory, link)
    seconds, written = [], []
    guesser = draft(guesses, name)
    for speculator in (None, Timed(guesser, transport) if link == "none" else guesser):
        made.speculate(speculator)
        spent, tokens = 0.0, []
        for number, prompt in enumerate(prompts):
            made.settings(temperature, number + 1)
            made.reset()
            started = transport.now()
            tokens.append(list(made.generate_tokens(model.codec.encode(prompt), TOKENS)))
            spent += transport.now() - started
        seconds.append(spent)
        written.append(tokens)
    assert written[0] == written[1], "guesses change no text"
    counts, total = made.drafted, TOKENS * len(prompts)
    return Row(
        name,
        memory,
        link,
        guesses,
        text,
        temperature,
        1 + counts.accepted / counts.steps,
        total / seconds[1],
        1000 * counts.draft_seconds / total,
        seconds[0] / seconds[1],
    )


def table(path: Path | None) -> bool:
    """Print the rows; whether all bars are met."""
    texts = {"prose": prose(3), "lists": LISTS, "quotations": QUOTATIONS, "code": CODE, "copy": COPY}
    asked = [
        (*words[:5], float(temperature))
        for words in map(str.split, WORKLOADS.strip().splitlines())
        for temperature in words[5:]
    ]
    print(
        "| model, memory | link | draft | text | temperature | tokens a step | tokens/s | draft, ms a token | over without |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    rows = []
    for name, memory, link, guesses, text, temperature in asked:
        row = measure(name, memory, link, guesses, text, texts[text], temperature)
        rows.append(row)
        print(
            f"| {name}, {memory} | {link} | {guesses} | {text} | {temperature:g} | {row.tokens_per_step:.2f} | "
            f"{row.tokens_per_second:,.0f} | {row.draft_ms_per_token:.3f} | {row.speedup:.2f} |",
            flush=True,
        )
    bars = {
        f"tiny for small at {t:g}": (row.speedup, 2.2)
        for t in (0, 0.7, 1)
        for row in rows
        if (row.memory, row.link, row.draft, row.text, row.temperature) == ("qspi", "none", "tiny", "prose", t)
    }
    for name in ("small", "base"):
        chosen = [
            row.speedup
            for row in rows
            if (row.model, row.link, row.draft, row.temperature) == (name, "none", "ngram", 0)
            and row.text in REPETITIVE
        ][:3]
        bars[f"n-gram on repetitive text, {name}"] = (len(chosen) / sum(1 / speedup for speedup in chosen), 2.0)
    bars["worst"] = (min(row.speedup for row in rows), 0.98)
    if path is not None:
        path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return met(bars)


def clients(count: int = 8, tokens: int = 128) -> bool:
    """Clients that ask again as soon as they are answered, for the time of four rounds, against one alone."""
    model = opened("small")
    prompts = [model.codec.encode(text) for text in prose(count, 30)]
    rates = {number: served(model, prompts[:number], tokens) for number in (1, count)}
    for number, each in rates.items():
        print(f"{number} clients: {sum(each):.0f} tokens/s, each {min(each):.1f} to {max(each):.1f}")
    mean = sum(rates[count]) / count
    return met(
        {
            f"{count} clients over one": (sum(rates[count]) / sum(rates[1]), 3.6),
            "worst client's share of the mean": (min(rates[count]) / mean, 0.7),
        }
    )


def served(model: OpenModel, prompts: Sequence[Sequence[int]], tokens: int) -> list[float]:
    """Tokens/s of each client."""
    made, transport = device(model)
    assert made.slots is not None
    batch, done = Batch(made, made.slots, 16), [0] * len(prompts)
    asking: dict[Job, int] = {}

    def ask(client: int) -> None:
        job = Job(prompts[client], tokens, 0.7, client)
        asking[job] = client
        batch.add(job)

    made.reset()
    for client in range(len(prompts)):
        ask(client)
    started = transport.now()
    while min(done) < 4 * tokens:
        for job, _ in batch.advance():
            done[asking[job]] += 1
            if len(job.tokens) == tokens:
                ask(asking.pop(job))
    return [one / (transport.now() - started) for one in done]


def check(prompts: int, tokens: int) -> bool:
    """Random prompts of held-out prose, greedy and sampled, with both drafts; the golden model writes the same."""
    model, chooser = opened("small"), random.Random(1)
    ids = model.codec.encode(held_out()[:50_000])
    golden = IntegerModel(model.quantised)
    wrong = accepted = guessed = 0
    started = time.monotonic()
    made, _ = device(model)
    for number in range(prompts):
        at, length = chooser.randrange(len(ids) - 32), chooser.randint(1, 24)
        prompt = ids[at : at + length]
        made.speculate(draft(("tiny", "ngram")[number // 4 % 2], "small"))
        for sampled in (0.0, (0.7, 1.0, 1.3)[number % 3]):
            made.settings(sampled, number)
            made.reset()
            came = list(made.generate_tokens(prompt, tokens))
            inverse = inverse_temperature(sampled, model.quantised.logit_fraction)
            wrong += len(came) != tokens or not is_plain(golden, prompt, came, inverse, number)
        accepted, guessed = accepted + made.drafted.accepted, guessed + made.drafted.guessed
    seconds = time.monotonic() - started
    print(
        f"{prompts} prompts x {tokens} tokens, greedy and sampled: {2 * prompts - wrong} of {2 * prompts} texts are the golden "
        f"model's; {accepted} of {guessed} guesses accepted; {seconds:.0f} s"
    )
    return wrong == 0


def is_plain(golden: IntegerModel, prompt: Sequence[int], text: Sequence[int], inverse: int, seed: int) -> bool:
    """Whether the golden model, one token at a time, writes this text: whether it chooses each token behind those before."""
    golden.reset()
    logits = golden.run_integer([*prompt, *text[:-1]])[len(prompt) - 1 :]
    state = generator_after(seed, (len(prompt) - 1) * logits.shape[1])
    for place, token in enumerate(text):
        chosen, state = arith.choose(logits[place], inverse, state)
        if chosen != token:
            return False
    return True


def met(bars: dict[str, tuple[float, float]]) -> bool:
    """Print each bar; whether all are met."""
    print()
    for name, (value, least) in bars.items():
        print(f"{name}: {value:.3f}, at least {least:g}: {'met' if value >= least else 'MISSED'}")
    return all(value >= least for value, least in bars.values())


def main() -> int:
    """Run what was asked for; 1 where a bar is missed or a text differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("table", "clients", "check"))
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    if asked.what == "table":
        return int(not table(asked.json))
    return int(not (clients() if asked.what == "clients" else check(asked.prompts, asked.tokens)))


if __name__ == "__main__":
    sys.exit(main())
