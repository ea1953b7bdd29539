"""Several tokens a pass, whole steps in the fast simulation: every element of every slot against the golden model."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
from link_script import BOOTED, DAMAGED
from small_board import ONE_SLOT, THREE_SLOTS, TWO_SLOTS, with_epsilons
from test_hw_batch_link import BatchScript
from test_hw_sequencer import Tape

from tritape.base.errors import TritapeError
from tritape.host.slots import Entry, check_chains
from tritape.hw.config import Config
from tritape.hw.counters import COUNTERS
from tritape.hw.link.commands import Command, ErrorCode
from tritape.hw.tape.header import Fault
from tritape.model.checkpoint import random_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.formats import quantise_model
from tritape.model.golden import IntegerModel
from tritape.model.quantised import QuantisedModel
from tritape.model.tape.assembler import image
from tritape.rtl_gen.estimate import token_cycles
from tritape.sim.batch import BatchRunner
from tritape.sim.fast.memory import Memory
from tritape.sim.generate import Simulation
from tritape.sim.perf import measure

PROMPT = [1, 2, 96, 4, 0, 6, 7, 8, 9, 10, 11]


@cache
def model() -> QuantisedModel:
    """Hidden 40, intermediate 65, vocabulary 97, two layers."""
    return random_model(97, 40, 65)


@cache
def random_model(vocab: int, hidden: int, intermediate: int) -> QuantisedModel:
    shape = ModelConfig(vocab, hidden, 2, intermediate)
    return quantise_model(random_checkpoint(shape, seed=3), ids=list(range(24)))


@pytest.fixture(params=[TWO_SLOTS, pytest.param(THREE_SLOTS, marks=pytest.mark.long)], ids=["T2", "T3-E2"])
def config(request: pytest.FixtureRequest) -> Config:
    return request.param


@pytest.fixture
def simulation(config: Config) -> Iterator[Simulation]:
    with Simulation(config) as made:
        yield made


@pytest.fixture(params=[0.0, 0.4])
def stalling(config: Config, request: pytest.FixtureRequest) -> Iterator[Simulation]:
    """Behind a memory that has no word in a share of all cycles."""
    with Simulation(config, memory=Memory(stall=request.param)) as made:
        yield made


def random_ids(model: QuantisedModel, config: Config) -> list[list[int]]:
    """Two steps."""
    return np.random.default_rng(0).integers(0, model.config.vocab_size, (2, config.batch)).tolist()


def alone(slot: int, token: int, count: int, *, fresh: bool = False) -> list[Entry | None]:
    """A step in which one slot has a token."""
    entries: list[Entry | None] = [None] * count
    entries[slot] = Entry(token, fresh=fresh)
    return entries


@pytest.mark.slow
@pytest.mark.optimised
def test_independent_sequences(stalling: Simulation):
    """Each slot continues its own text, one of them sampled; a slot without a token keeps its state and its generator."""
    count = stalling.config.batch
    runner = BatchRunner(stalling, model())
    runner.sampler(1, 4000, 77)
    chosen = runner.step([Entry(token, fresh=True) for token in (5, 96, 60)[:count]])
    assert len(set(chosen)) > 1
    chosen = runner.step([Entry(token) for token in chosen])
    runner.step([Entry(None)] * count)  # the same as giving back what each of them chose
    runner.step(alone(0, chosen[0], count))
    runner.step(alone(1, 3, count, fresh=True))
    runner.step([Entry(token) for token in chosen])
    assert runner.difference is None
    counters = runner.device.counters()
    assert (counters["tokens"], counters["crc_errors"]) == (6, 0)


@pytest.mark.slow
@pytest.mark.optimised
def test_a_prompt_goes_through_all_slots(stalling: Simulation):
    """A prompt, several tokens a pass, then decoded by the slot that ends up with its state: as one token after the other."""
    count = stalling.config.batch
    golden = IntegerModel(model())
    expected = [int(np.argmax(logits)) for logits in golden.run_integer(PROMPT)][-1:]
    runner = BatchRunner(stalling, model())
    before = runner.device.counters()["tokens"]
    slot, chosen = runner.prefill(1, PROMPT, fresh=True)
    assert runner.device.counters()["tokens"] - before == -(-len(PROMPT) // count)
    for _ in range(3):
        assert chosen == expected[-1]
        expected.append(int(np.argmax(golden.step(chosen))))
        chosen = runner.step(alone(slot, chosen, count))[slot]
    assert chosen == expected[-1]
    assert runner.difference is None


@pytest.mark.slow
@pytest.mark.optimised
def test_epsilons_of_all_bits_and_every_logit():
    wide = with_epsilons(model())
    with Simulation(TWO_SLOTS) as simulation:
        runner = BatchRunner(simulation, wide)
        runner.step([Entry(5, fresh=True), Entry(96, fresh=True)])
        assert runner.difference is None
        runner.device.reset()
        np.testing.assert_array_equal(runner.device.logits([7, 50]), IntegerModel(wide).run_integer([7, 50])[-1])


@pytest.mark.long
def test_prompt_and_decoding_in_one_step():
    """Slots 2 and 0 prefill a sequence through the ring while slot 1 decodes another."""
    with Simulation(THREE_SLOTS) as simulation:
        runner = BatchRunner(simulation, model())
        chosen = runner.step([None, Entry(9, fresh=True), None])[1]
        chosen = runner.step([Entry(12, chain=True), Entry(chosen), Entry(11, fresh=True)])[1]
        runner.step([Entry(14), Entry(chosen), None])
        assert runner.difference is None
        golden = IntegerModel(model())
        golden.run_integer([11, 12, 14])
        np.testing.assert_array_equal(runner.states[0], golden.state)


@pytest.mark.slow
@pytest.mark.optimised
def test_states_are_saved_and_restored(simulation: Simulation):
    """More sequences than slots: one makes room for another, then goes on, on another slot."""
    config = simulation.config
    runner = BatchRunner(simulation, model())
    token = runner.step(alone(0, 5, config.batch, fresh=True))[0]
    saved, golden = runner.device.slot_state(0, token), runner.states[0].copy()
    elements = np.frombuffer(saved.elements, np.uint8).reshape(2, -1, 3).astype(np.int64)  # 18 bits of each, sign above
    values = elements @ [1, 1 << 8, 1 << 16]
    np.testing.assert_array_equal((values & 0x1FFFF)[:, :40] - (values & 0x20000)[:, :40], golden)
    runner.step([Entry(7, fresh=True)] * config.batch)
    runner.device.put_state(1, saved.pack())
    runner.states[1] = golden
    runner.step(alone(1, token, config.batch))
    assert runner.difference is None


@pytest.mark.slow
@pytest.mark.optimised
def test_a_wrong_state_is_noticed(simulation: Simulation):
    """What all other tests rely on: one bit of a state that differs is found, in the first layer."""
    runner = BatchRunner(simulation, model())
    runner.step([Entry(5, fresh=True)] * simulation.config.batch)
    runner.states[1][0, 7] ^= 1 << 12
    runner.step(alone(1, 7, simulation.config.batch))
    assert runner.difference is not None
    assert runner.difference.startswith("slot 1: vector layers.0.o[7] must be ")


@pytest.mark.slow
@pytest.mark.optimised
def test_cycle_model(simulation: Simulation):
    """Steps of independent tokens and of a prompt take what the model says, within 1 %."""
    largest = random_model(256, 64, 128)
    result = measure(simulation, largest, random_ids(largest, simulation.config))
    assert result["bit_exact"], result["difference"]
    assert result["estimated_cycles"] == round(token_cycles(largest.config, simulation.config)[0])
    assert abs(result["estimate_error"]) < 0.01
    assert abs(result["prompt_estimate_error"]) < 0.01


@pytest.mark.slow
@pytest.mark.optimised
def test_a_damaged_row_is_counted_and_another_tape_is_refused():
    data = bytearray(image(model(), 4, 64))
    with Simulation(TWO_SLOTS) as simulation:
        runner = BatchRunner(simulation, model())
        runner.device.allow_errors = True
        data[-4] ^= 1  # in the last word of the last embedding row: its CRC
        simulation.set_memory(bytes(data), 4)  # only the memory changes, since the header has been read
        runner.step([Entry(0), Entry(96)])
        assert runner.device.counters()["crc_errors"] == 1
        runner.step([Entry(96), Entry(96)])
        assert runner.device.counters()["crc_errors"] == 3
        assert runner.difference is None
    with Simulation(TWO_SLOTS) as simulation, pytest.raises(TritapeError, match=r"^hidden size must .* \(fault 4\)$"):
        BatchRunner(simulation, random_model(97, 65, 65))


class Session(BatchScript):
    """Commands to a simulation, each reply compared as it comes."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__()
        self._simulation = simulation

    def send(self, *arguments: Any, **options: Any) -> None:
        self.rx = self.tx = b""
        super().send(*arguments, **options)
        self._simulation.write(self.rx)
        assert self._simulation.read(1.0).strip(b"\0") == self.tx.strip(b"\0"), Command(arguments[0])


@pytest.mark.slow
@pytest.mark.optimised
@pytest.mark.parametrize(("far", "section"), [("nothing", 1), ("prologue", 1), ("row", 2)])
def test_numbers_of_all_bits(far: str, section: int):
    """Tapes with all bits of their numbers, or every other one. A prologue or a row far behind the memory is not what lies at the
    low bits of its address, where all is well; with nothing far away, a section of such numbers is refused, by its own number."""
    with Simulation(TWO_SLOTS) as simulation:
        link = Session(simulation)
        for bits in (0xFFFF_FFFF, 0, 0x5555_5555, 0xAAAA_AAAA):
            tokens, high = (bits & 0xFFFF, ~bits & 0xFFFF), (bits or 1 << 31) & 0xFFFF_F000
            header, sections = Tape(4), Tape(4)
            sections.number = 1
            sections.load(0, 8)
            first = len(sections.words)
            sections.section(6)  # END in the place of the row
            if far == "nothing":
                sections.words = sections.split(struct.pack("<I", bits) * 8)
            start, row_words = 8 + 16 + 1, bits & 0xFFFF | 8
            row = start + first + (high if far == "row" else 0)
            header.boot(
                hidden=bits & 63, intermediate=bits & 127, layers=bits & 1, rows=bits & 63, vocabulary=bits & 0xFF,
                prologue_address=start + (high if far == "prologue" else 0), prologue_words=first,
                body_address=bits, body_words=~bits & 0xFFFF_FFFF | 1, logit_fraction=bits & 0xFF,
                embedding_address=row - tokens[0] * row_words & 0xFFFF_FFFF, row_words=row_words,
            )  # fmt: skip
            assert len(header.words) == start
            words = header.words + sections.words
            simulation.set_memory(b"".join(word.to_bytes(4, "little") for word in words), 4)
            broken = BOOTED | DAMAGED | Fault.CHECK
            link.flags = BOOTED if far == "row" else broken
            link.send(Command.BOOT)
            elements = b"".join((bits >> shift & 0x3FFFF).to_bytes(3, "little") for shift in (0, 1))
            for slot in (0, 1):
                link.send(Command.SLOT, slot)
                link.send(Command.TEMPERATURE, bits >> slot & 0x1FFFF)
                link.send(Command.SEED, bits)
                link.send(Command.WRITE_STATE, bits & 63, 2, elements, left=(bits & 63) + 2)
                link.send(Command.READ_STATE, bits & 63, 2, back=elements)
            fresh = bool(bits & 1)
            link.steps(0, [[Entry(tokens[0], fresh=fresh), Entry(tokens[1], chain=not fresh)]])
            link.flags = broken
            link.send(Command.POLL, 1 | 2 << 8, 2, status=ErrorCode.FAULT)
            told = struct.pack("<III", 0, section, Fault.CHECK)
            link.send(Command.COUNTERS, COUNTERS.index("crc_errors"), 3, back=told)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([None], "a step must have 2 entries, not 1; give None for a slot with nothing to do"),
        ([None, Entry(1, chain=True)], "slot 1 must start from slot 0, which has no token; do not chain it"),
        ([Entry(1, chain=True), None], "slot 0 must start from slot 1, which has no token; do not chain it"),
        ([Entry(1), Entry(1, fresh=True, chain=True)], "slot 1 must start from another slot or at zero, not both"),
        ([Entry(1, chain=True)] * 2, "a slot must start from its own state, not all of them from another"),
    ],
)
def test_steps_that_cannot_be(entries: list[Entry | None], message: str):
    with pytest.raises(TritapeError, match=message):
        check_chains(entries, 2)


@pytest.mark.slow
@pytest.mark.optimised
def test_one_slot_has_another_runner():
    with (
        Simulation(ONE_SLOT) as simulation,
        pytest.raises(TritapeError, match=r"^batch must be at least 2 here, not 1; one slot has a Generator$"),
    ):
        BatchRunner(simulation, model())
