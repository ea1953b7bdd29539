"""Several slots behind the host link: the commands byte for byte, and whole steps under random stalls of the host's bytes."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from amaranth.hdl import Module, ResetInserter
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from link_script import BOOTED, DAMAGED, Script
from small_board import small_model

from tritape.base.errors import TritapeError
from tritape.host import protocol
from tritape.host.slots import Entry, prompt_steps, step_bytes
from tritape.hw.accelerator import Accelerator
from tritape.hw.config import Config
from tritape.hw.link.commands import Command, ErrorCode, identity
from tritape.hw.link.host_link import HostLink
from tritape.hw.link.step_runner import StepRunner
from tritape.hw.memory.onchip import OnChipMemory
from tritape.hw.tape.header import Fault
from tritape.model import arith
from tritape.model.golden import IntegerModel
from tritape.model.quantised import QuantisedModel
from tritape.model.tape.assembler import image
from tritape.sim.bench import SIMULATORS, check_streams

TWO = Config(groups=4, max_hidden=32, max_intermediate=48, max_layers=2, max_vocab=256, max_rows=64, batch=2)
THREE = Config(
    groups=6, engines=2, max_hidden=32, max_intermediate=48, max_layers=2, max_vocab=256, max_rows=96, batch=3
)


class BatchScript(Script):
    """A session with a device of several slots."""

    def steps(self, place: int, steps: Sequence[Sequence[Entry | None]], *, logits: bool = False) -> None:
        """LOAD at a ring position."""
        argument, entries = place | logits << 17, sum(map(len, steps))
        data = b"".join(map(step_bytes, steps))
        self.send(Command.LOAD, argument, entries, data, left=argument + entries)

    def tokens(self, place: int, steps: Sequence[Sequence[int]], going: int = 0) -> None:
        """POLL for what each of these steps chose, the next one let go when one has come."""
        for position, chosen in enumerate(steps, start=place):
            argument = position & 0xFF | (position + 1 & 0xFF) << 8 | going << 16
            self.send(Command.POLL, argument, len(chosen), back=struct.pack(f"<{len(chosen)}H", *chosen))


def request(token: int, active: int = 1, fresh: int = 0, chain: int = 0) -> dict[str, int]:
    return {"token": token, "active": active, "fresh": fresh, "chain": chain}


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_session(simulator: str):
    """What is not as with one slot: identity, the choice of a slot, steps given and its own, a position asked for again."""
    script = BatchScript(BOOTED)
    script.send(Command.IDENTIFY, 1, back=identity(TWO, 4096))
    script.send(Command.TEMPERATURE, 0x1ABCD)
    script.send(Command.SLOT, 1)
    script.send(Command.TEMPERATURE, 0x54321 & 0x1FFFF)
    script.send(Command.READ_STATE, 9, 1, back=b"\xfe\xff\x03")
    given = [
        [Entry(5, fresh=True), Entry(6, chain=True)],
        [Entry(7), None],
        [Entry(None), Entry(9, fresh=True)],
    ]
    script.steps(254, given)
    script.tokens(1, [[14, 15]])
    script.send(Command.POLL, 255 | 2 << 8, 6, back=struct.pack("<6H", 11, 12, 13, 0, 14, 15))
    script.send(Command.POLL, 2 | 4 << 8 | 0b11 << 16, 2, back=struct.pack("<2H", 16, 17))
    script.tokens(3, [[20, 21]])
    script.tokens(4, [[20, 18]], going=0b10)
    script.steps(4, [[Entry(None), None]])
    script.tokens(5, [[19, 0]])
    script.send(0x1A, status=ErrorCode.UNKNOWN_COMMAND)
    result = check_streams(
        HostLink(TWO, memory_words=4096, counter_count=2),
        inputs={
            "rx": list(script.rx),
            "results": [[11, 12], [13, 99], [14, 15], [16, 17], [20, 21], [98, 18], [19, 97]],
            "words": [],
            "logits": [],
        },
        expected={
            "tx": list(script.tx),
            "steps": [
                [request(5, fresh=1), request(6, chain=1)],
                [request(7), request(0, active=0)],
                [request(13), request(9, fresh=1)],
                [request(14), request(15)],
                [request(16), request(17)],
                [request(20, active=0), request(21)],
                [request(20), request(0, active=0)],
            ],
            **{name: [] for name in ("write", "requests", "boot")},
        },
        statics={"configured": 1, "fault": 0, "fault_code": 0, "counter": 0, "state_value": -2},
        finals={"slot": 1, "inv_temperature.0": 0x1ABCD, "inv_temperature.1": 0x54321 & 0x1FFFF, "running": 0},
        simulator=simulator,
        output_stall=0,
        after={"rx": script.gates},
    )
    answered, fed = result.transfers["results"], result.transfers["steps"]
    latency = StepRunner.LATENCY + TWO.batch
    assert [fed[step + 1] - answered[step] for step in (0, 1, 3)] == [latency + TWO.batch] * 2 + [latency]


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_three_slots(simulator: str):
    """A number of slots that is no power of two: every entry of several steps in its place, each with 16 bits of its own."""
    wide = [(number * 0x9E37 ^ 0x55AA) & 0xFFFF for number in range(12)]
    given, chosen = [wide[at : at + 3] for at in range(0, 12, 3)], [wide[at - 3 : at][::-1] for at in range(12, 0, -3)]
    script = BatchScript(BOOTED)
    for value in (0x1FFFF, 0, 0x0A5C3):
        for slot in range(3):
            script.send(Command.SLOT, slot)
            script.send(Command.TEMPERATURE, value ^ slot)
    script.steps(0, [[Entry(token, fresh=bool(step & 1)) for token in given[step]] for step in range(4)])
    script.tokens(4, chosen[3:])
    script.send(Command.POLL, 1 | 5 << 8, 9, back=struct.pack("<9H", *chosen[0], *chosen[1], *chosen[2]))
    check_streams(
        HostLink(THREE, memory_words=4096, counter_count=2),
        inputs={
            "rx": list(script.rx),
            "results": chosen,
            "words": [],
            "logits": [],
        },
        expected={
            "tx": list(script.tx),
            "steps": [[request(token, fresh=step & 1) for token in given[step]] for step in range(4)],
            **{name: [] for name in ("write", "requests", "boot")},
        },
        statics={"configured": 1, "fault": 0, "fault_code": 0},
        finals={f"inv_temperature.{slot}": 0x0A5C3 ^ slot for slot in range(3)},
        simulator=simulator,
        after={"rx": script.gates},
    )


def test_one_slot_does_not_know_the_command():
    script = Script(BOOTED)
    script.send(Command.SLOT, 0, status=ErrorCode.UNKNOWN_COMMAND)
    check_streams(
        HostLink(Config(groups=4), memory_words=4096, counter_count=2),
        inputs={"rx": list(script.rx), "results": [], "words": [], "logits": []},
        expected={"tx": list(script.tx), **{name: [] for name in ("tokens", "write", "requests", "boot")}},
        statics={"configured": 1},
    )


def test_identity():
    parsed = protocol.Identity.decode(identity(THREE, 99))
    assert (parsed.version, parsed.batch, parsed.engines, parsed.memory_words) == (5, 3, 2, 99)
    assert protocol.Identity.decode(identity(Config(), 99)).batch == 1
    with pytest.raises(
        TritapeError, match=r"^protocol version of the device must be 4 or 5, not 3; program a bitstream"
    ):
        protocol.Identity.decode(b"\3" + identity(THREE, 99)[1:])


class OnChip(wiring.Component):
    """`Accelerator` and a memory that holds a tape."""

    def __init__(self, config: Config, tape: bytes) -> None:
        words = -(-len(tape) // config.word_bytes)
        self._accelerator = Accelerator(config, memory_words=words, watchdog=14)
        self._memory = OnChipMemory(config.word_bytes, words, tape)
        super().__init__({"rx": In(stream.Signature(8)), "tx": Out(stream.Signature(8))})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.accelerator = accelerator = self._accelerator
        m.submodules.memory = ResetInserter(accelerator.restart)(self._memory)
        wiring.connect(m, accelerator.memory, self._memory)
        wiring.connect(m, wiring.flipped(self.rx), accelerator.rx)
        wiring.connect(m, accelerator.tx, wiring.flipped(self.tx))
        return m


class Golden:
    """What the slots must choose and hold: the integer model, one token after the other."""

    def __init__(self, model: QuantisedModel, batch: int) -> None:
        self._model = IntegerModel(model)
        self.states = [self._model.state.copy() for _ in range(batch)]
        self.samplers = [(0, arith.XORSHIFT_DEFAULT)] * batch
        self.chosen = [0] * batch

    def step(self, entries: Sequence[Entry | None]) -> list[int]:
        """Run a step; the tokens that the device tells of it."""
        tokens = list(self.chosen)
        for slot, entry in enumerate(entries):
            if entry is None:
                tokens[slot] = 0  # what the host puts there
            elif entry.token is not None:
                tokens[slot] = entry.token
        first = next(slot for slot, entry in enumerate(entries) if entry is not None and not entry.chain)
        for slot in [(first + offset) % len(entries) for offset in range(len(entries))]:
            entry = entries[slot]
            if entry is None:
                continue
            self._model.state = self.states[slot - 1 if entry.chain else slot].copy()
            if entry.fresh:
                self._model.state[:] = 0
            logits = self._model.step(tokens[slot])
            inverse, generator = self.samplers[slot]
            tokens[slot], generator = arith.choose(logits, inverse, generator)
            self.samplers[slot] = inverse, generator
            self.states[slot] = self._model.state.copy()
        self.chosen = tokens
        return list(tokens)

    def state_bytes(self, slot: int, engines: int) -> bytes:
        """A slot's state as READ_STATE sends it: layers, then elements of a lane, then lanes."""
        out = b""
        for layer in self.states[slot]:
            padded = [*layer.tolist(), *[0] * (-len(layer) % engines)]
            out += b"".join(struct.pack("<i", value)[:2] + bytes([value >> 16 & 3]) for value in padded)
        return out


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        pytest.param(TWO, id="T2", marks=pytest.mark.long),
        # five minutes of compiling; tests/test_sim_batch.py and tests/test_host_slots.py run it in a faster simulation
        pytest.param(THREE, id="T3-E2", marks=pytest.mark.long),
    ],
)
def test_whole_steps_under_random_stalls(config: Config):
    """A prompt of five tokens over all slots, its state put onto another slot, sequences that go on by themselves."""
    model, count = small_model(), config.batch
    golden = Golden(model, count)
    script = BatchScript(BOOTED)
    script.send(Command.BOOT)

    steps, end = prompt_steps([5, 96, 255, 0, 31], 1, count, fresh=True)
    script.steps(0, steps)
    chosen = [golden.step(step) for step in steps]
    script.tokens(len(steps), chosen[-1:])

    # The state goes to another slot, which samples.
    other, place = (end + 1) % count, len(steps)
    state = golden.state_bytes(end, config.engines)
    elements = len(state) // 3
    script.send(Command.SLOT, end)
    script.send(Command.READ_STATE, 0, elements, back=state)
    script.send(Command.SLOT, other)
    script.send(Command.WRITE_STATE, 0, elements, state, left=elements)
    golden.states[other] = golden.states[end].copy()
    script.send(Command.TEMPERATURE, 4000)
    script.send(Command.SEED, 77)
    golden.samplers[other] = 4000, 77
    first: list[Entry | None] = [None] * count
    first[end], first[other] = Entry(None), Entry(chosen[-1][end])
    script.steps(place, [first])
    script.tokens(place + 1, [golden.step(first)])
    going: list[Entry | None] = [None if entry is None else Entry(None) for entry in first]
    more = [_going_on(golden, going) for _ in range(3)]
    script.tokens(place + 2, more, going=1 << end | 1 << other)
    script.send(Command.READ_STATE, 0, elements, back=golden.state_bytes(other, config.engines))

    tape = image(model, config.groups, config.max_rows, config.engines)
    check_streams(
        OnChip(config, tape),
        inputs={"rx": list(script.rx)},
        expected={"tx": list(script.tx)},
        after={"rx": script.gates},
        input_stall=0.2,
        output_stall=0.2,
        max_cycles=1_000_000,
    )


@pytest.mark.long
def test_all_slots_chained_in_a_circle():
    """No slot begins: the step starves, the device says so, and RESTART and BOOT make it run again."""
    model = small_model()
    golden = Golden(model, 2)
    script = BatchScript(BOOTED)
    script.send(Command.BOOT)
    script.steps(0, [[Entry(5, chain=True), Entry(7, chain=True)]])
    script.flags |= DAMAGED | Fault.STARVED
    script.send(Command.POLL, 1 | 2 << 8, 2, status=ErrorCode.FAULT)
    script.flags = 0
    script.send(Command.RESTART)
    script.flags = BOOTED
    script.send(Command.BOOT)
    step = [Entry(5, fresh=True), Entry(7, fresh=True)]
    script.steps(0, [step])
    script.tokens(1, [golden.step(step)])
    check_streams(
        OnChip(TWO, image(model, TWO.groups, TWO.max_rows)),
        inputs={"rx": list(script.rx)},
        expected={"tx": list(script.tx)},
        after={"rx": script.gates},
        input_stall=0.2,
        output_stall=0.2,
        max_cycles=1_000_000,
    )


def _going_on(golden: Golden, entries: Sequence[Entry | None]) -> list[int]:
    """A step that the device runs by itself: slots that stay out keep their token."""
    kept = list(golden.chosen)
    chosen = golden.step(entries)
    golden.chosen = [kept[slot] if entry is None else chosen[slot] for slot, entry in enumerate(entries)]
    return list(golden.chosen)
