"""Guesses that a device with slots verifies: the text is that of one token at a time, whatever was guessed."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_board import ONE_SLOT, THREE_SLOTS, TWO_SLOTS, golden, small_model

from tritape.base.errors import TritapeError
from tritape.host.cpu import CPUModel
from tritape.host.device import Device
from tritape.host.draft import Draft, Guesser, open_draft
from tritape.host.draft.adaptive import MOST_REST, Pace, Rate
from tritape.host.draft.model import ModelDraft
from tritape.host.draft.ngram import NGramDraft, NGramGuesser
from tritape.host.protocol import inverse_temperature
from tritape.hw.config import Config
from tritape.model.open import open_model
from tritape.model.tape.assembler import image
from tritape.sim.generate import RETRY_S, Simulation
from tritape.sim.golden_device import GoldenDevice, Times

T4 = dataclasses.replace(TWO_SLOTS, batch=4)
MODEL = small_model()
TEMPERATURE, SEED = 0.9, 12345
INVERSE = inverse_temperature(TEMPERATURE, MODEL.logit_fraction)


class Always(Pace):
    """Guesses whatever they cost."""

    def pays(self, gain: float, guesses: int, settings: int, sequences: int) -> bool:
        return True

    def count(self, rate: Rate, unset: Sequence[bool], sequences: int) -> int:
        return len(unset)


class Liar:
    """A draft that knows the text to come, and says something else in a share of all places."""

    name, guess_s = "liar", 0.0

    def __init__(self, text: Sequence[int], lies: float, seed: int = 0) -> None:
        self._text, self._lies, self._random = list(text), lies, random.Random(seed)

    def begin(self, inverse: int, generator: int) -> Guesser:
        self._place = 0
        return self

    def take(self, tokens: Sequence[int]) -> None:
        assert list(tokens) == self._text[self._place : self._place + len(tokens)]  # each token once, in order
        self._place += len(tokens)

    def guess(self, first: int, count: int) -> list[int]:
        assert first == self._text[self._place]
        right = self._text[self._place + 1 : self._place + 1 + self._random.randint(0, count)]
        return [token ^ (self._random.random() < self._lies) for token in right]

    def ahead(self, count: int) -> None:
        pass


@cache
def plain(prompt: tuple[int, ...], count: int, inverse: int = 0) -> list[int]:
    return golden(MODEL, prompt, count, inverse, SEED)


def golden_device(config: Config = T4, times: Times | None = None) -> Device:
    transport = GoldenDevice(config, MODEL, times)
    device = Device(transport)
    device.load_tape(image(MODEL, config.groups, config.max_rows, config.engines))
    device.pace = Pace(transport.now) if times else Always()
    return device


def prompts(count: int, seed: int = 1) -> list[tuple[int, ...]]:
    chooser = random.Random(seed)
    return [tuple(chooser.choices(range(256), k=chooser.randint(1, 40))) for _ in range(count)]


DRAFTS: dict[str, Callable[[Sequence[int]], Draft]] = {
    "ngram": lambda _text: NGramDraft(),
    "itself": lambda _text: ModelDraft(MODEL, "itself"),
    "liar": lambda text: Liar(text, 0.3),
    "fool": lambda text: Liar(text, 1.0),
}


@pytest.mark.parametrize("temperature", [0.0, TEMPERATURE])
@pytest.mark.parametrize("draft", DRAFTS)
def test_text_is_that_without(draft: str, temperature: float):
    """Prompts of all lengths, drafts of all qualities; the draft that is the target is always right, and fills the steps."""
    device = golden_device()
    for prompt in prompts(6):
        expected = plain(prompt, 48, INVERSE if temperature else 0)
        device.speculate(DRAFTS[draft]([*prompt, *expected]))
        device.pace = Always()
        device.settings(temperature, SEED)
        device.reset()
        assert list(device.generate_tokens(prompt, 48)) == expected
        counts = device.drafted
        assert counts.steps + counts.accepted == 48
        if draft == "itself":
            assert counts.accepted == counts.guessed == 35  # 48 = 1 + 11 * 4 + 3
        if draft == "fool":
            assert counts.accepted == 0 < counts.guessed


@pytest.mark.parametrize("temperature", [0.0, TEMPERATURE])
def test_in_pieces(temperature: float):
    """A conversation asks for a few tokens at a time, gives the last one back, leaves early, saves and goes on."""
    (prompt,) = prompts(1, seed=5)
    expected = plain(prompt, 120, INVERSE if temperature else 0)
    device = golden_device()
    device.speculate(Liar([*prompt, *expected], 0.3))
    device.settings(temperature, SEED)
    device.reset()
    came = list(device.generate_tokens(prompt, 16))
    while len(came) < 64:
        came += device.generate_tokens(came[-1:], 16)
    came += device.generate_tokens([], 7)
    left = device.generate_tokens([], 30)
    came += [next(left), next(left)]
    left.close()
    came += device.generate_tokens([], 5)
    assert came == expected[: len(came)]
    state, at = device.save_state(), len(came)
    if not temperature:  # a state has no generator in it
        device.speculate(NGramDraft())
        device.reset()
        list(device.generate_tokens([3, 4], 5))
        device.restore_state(state)
        came += device.generate_tokens([], 20)
        device.speculate(None)
        came += device.generate_tokens([], 4)
        device.speculate(NGramDraft())
        came += device.generate_tokens([], 4)
        assert came == expected[: at + 28]


def test_a_prompt_longer_than_a_command():
    """The prompt takes several commands, and a sequence goes on without a draft where it was left with one."""
    prompt = tuple(random.Random(2).choices(range(256), k=151))
    expected = plain(prompt, 40, INVERSE)
    device = golden_device()
    device.speculate(ModelDraft(MODEL, "itself"))
    device.settings(TEMPERATURE, SEED)
    device.reset()
    assert list(device.generate_tokens(prompt, 20)) == expected[:20]
    device.speculate(None)
    assert list(device.generate_tokens([], 20)) == expected[20:]


def test_a_sequence_that_has_no_token_to_go_on_from():
    device = golden_device()
    device.speculate(NGramDraft())
    with pytest.raises(TritapeError, match=r"^a sequence must begin with a token, not with none; feed a prompt first$"):
        next(device.generate_tokens([], 1))
    device._fresh = False  # as one that was left in a long prompt
    with pytest.raises(
        TritapeError, match=r"^a sequence must have its first token before it goes on, not stop in a prompt; "
    ):
        next(device.generate_tokens([], 1))


@pytest.mark.long
@pytest.mark.parametrize("config", [TWO_SLOTS, THREE_SLOTS], ids=["T2", "T3-E2"])
def test_in_rtl(config: Config):
    """20 prompts of 32 tokens through the gateware, greedy and sampled, with guesses of every kind."""
    accepted = guessed = 0
    with Simulation(config) as simulation:
        device = Device(simulation, retry_s=RETRY_S)
        device.load_tape(image(MODEL, config.groups, config.max_rows, config.engines))
        for number, prompt in enumerate(prompts(20, seed=3)):
            temperature = TEMPERATURE * (number % 2)
            expected = plain(prompt, 32, INVERSE if temperature else 0)
            device.speculate(list(DRAFTS.values())[number // 2 % 4]([*prompt, *expected]))
            device.pace = Always()
            device.settings(temperature, SEED)
            device.reset()
            assert list(device.generate_tokens(prompt, 32)) == expected
            accepted, guessed = accepted + device.drafted.accepted, guessed + device.drafted.guessed
    assert 100 < accepted < guessed


@pytest.fixture(scope="module")
def target() -> CPUModel:
    return CPUModel(MODEL)


@pytest.fixture(scope="module")
def itself() -> ModelDraft:
    return ModelDraft(MODEL, "itself")


@given(st.lists(st.integers(0, 255), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_a_model_follows_what_comes(target: CPUModel, itself: ModelDraft, tokens: list[int], chooser: random.Random):
    """Whatever it guessed and prepared before: its guesses are what the model says behind the text that came."""
    guesser = itself.begin(INVERSE, SEED)
    text: list[int] = []
    for token in tokens:
        count = chooser.randint(1, 4)
        guesses = guesser.guess(token, count)
        target.inverse(INVERSE, SEED)
        target.reset()
        if text:
            target.feed(text)
        assert guesses == target.go_on(token, count)[0]
        taken = [token, *guesses[: chooser.randint(0, count)]]
        guesser.take(taken[:1])
        if chooser.random() < 0.5:
            guesser.ahead(chooser.randint(0, count))
        guesser.take(taken[1:])
        text += taken


def test_ngrams_repeat_what_was():
    guesser = NGramGuesser()
    assert guesser.guess(5, 3) == []
    guesser.take([1, 2, 3, 9, 2, 4])
    assert guesser.guess(1, 3) == [2, 3, 9]
    assert guesser.guess(2, 2) == [4, 2]  # the last place; then `first` itself
    guesser.take([1, 2])
    assert guesser.guess(3, 4) == [9, 2, 4, 1]  # the longest context, not the last 3
    assert guesser.guess(7, 1) == []


def test_ngrams_go_round_a_loop():
    guesser = NGramGuesser()
    guesser.take([1, 2, 1])
    assert guesser.guess(2, 6) == [1, 2, 1, 2, 1, 2]


def test_rates_follow_what_is_accepted():
    rate = Rate()
    for _ in range(60):
        rate.saw(3, 0)
    assert rate.value < 0.01
    for _ in range(60):
        rate.saw(3, 3)
    assert rate.value > 0.99
    rate.value = 0.5
    assert rate.gain(3) == 0.875


def test_the_pace_follows_the_times():
    pace = Pace()
    assert pace.pays(0.1, 3, 0, 1)  # nothing is known
    pace.began(load_s=1e-3, wait_s=41e-3, steps=10)
    assert (pace.plain_s, pace.step_s, pace.set_s) == (pytest.approx(4e-3), pytest.approx(6e-3), pytest.approx(2e-3))
    assert pace.pays(0.6, 0, 0, 1)
    assert not pace.pays(0.4, 0, 0, 1)
    assert not pace.pays(0.4, 0, 0, 2)
    assert not pace.pays(0.6, 0, 1, 1)
    pace.guessed(2e-3, 2)
    assert not pace.pays(0.7, 1, 0, 1)
    pace.pause(2)
    assert pace.rest == 100  # 4 ms lost in 100 steps of 4 ms
    pace.pause(0)
    assert pace.rest == 25
    for _ in range(40):
        pace.verified(4e-3)
        pace.guessed(0, 1)
    pace.pause(2)
    assert pace.rest == 1
    pace.never()
    assert pace.rest == MOST_REST


def test_a_draft_may_be_too_slow():
    """Three guesses of 2 ms are no help for tokens of 1 ms; that is known before the first."""
    pace = Pace(guess_s=2e-3)
    pace.began(load_s=0, wait_s=10e-3, steps=10)
    assert not pace.pays(3, 3, 0, 1)
    assert Pace(guess_s=0.5e-3).pays(3, 3, 0, 1)


def test_so_many_guesses_as_pay():
    """6 ms a step, 1 ms a guess, and 2 ms where a generator must be set."""
    pace, rate = Pace(), Rate()
    pace.began(load_s=1e-3, wait_s=41e-3, steps=10)
    pace.guessed(1e-3, 1)

    def counts(*unset: bool) -> list[int]:
        out = []
        for rate.value in (0.0, 0.3, 0.6, 0.9):
            out.append(pace.count(rate, unset, 1))
        return out

    assert counts(False, False, False) == [1, 1, 2, 3]
    assert counts(False, False, True) == [1, 1, 2, 2]
    assert counts(False, True, True) == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("times", "lies", "least", "most"),
    [
        (Times(step_s=8e-3, exchange_s=20e-6, byte_s=1e-8), 0.3, 1.3, 4),  # a large tape, a near host
        (Times(step_s=8e-3, exchange_s=20e-6, byte_s=1e-8), 1.0, 0.98, 1.01),
        (Times(step_s=8e-3, exchange_s=1e-3, byte_s=1e-5), 1.0, 0.98, 1.01),  # over a serial port
        (Times(step_s=1e-4, exchange_s=1e-3, byte_s=1e-5), 0.0, 0.98, 1.01),  # a token is shorter than a round trip
    ],
)
def test_never_slower(times: Times, lies: float, least: float, most: float):
    """The time of 400 tokens on the device's own clock, without the host's, the first and the third time."""
    prompt = prompts(1)[0]
    expected = plain(prompt, 400)
    transport = GoldenDevice(T4, MODEL, times, host=False)
    device = Device(transport)
    device.load_tape(image(MODEL, T4.groups, T4.max_rows))
    device.pace = Pace(transport.now)
    seconds = []
    for draft in (None, Liar([*prompt, *expected], lies)):
        device.speculate(draft)
        for number in range(3):
            device.reset()
            started = transport.now()
            assert list(device.generate_tokens(prompt, 400)) == expected
            if number in (0, 2):
                seconds.append(transport.now() - started)
    assert least - 0.04 <= seconds[0] / seconds[2]  # the first time it has to find out
    assert least <= seconds[1] / seconds[3] <= most


def test_a_draft_of_another_tokenizer_is_refused():
    small = open_model("small")
    with pytest.raises(
        TritapeError,
        match=r"^nano: tokenizer of the draft must be that of small \(512 tokens\), not another \(256 tokens\); choose ",
    ):
        open_draft("nano", small)
    with pytest.raises(
        TritapeError, match=r"^austen-128x4: tokenizer of the draft must be that of small \(512 tokens\), "
    ):
        open_draft("austen-128x4", small)
    with pytest.raises(
        TritapeError, match=r"^best: model must be a checkpoint folder, a tape or a name, not missing; "
    ):
        open_draft("best", small)
    assert (open_draft("ngram", small).name, open_draft("tiny", small).name) == ("ngram", "tiny")


def test_one_slot_verifies_nothing():
    device = golden_device(ONE_SLOT)
    with pytest.raises(
        TritapeError, match=r"^device must have several slots to verify guesses, not one; leave the draft "
    ):
        device.speculate(NGramDraft())
    device.speculate(None)
