"""Sequencer: whole tapes, encoded here straight from docs/contract.md, against the commands the contract says they give."""

from __future__ import annotations

import functools
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from tritape.base.errors import TritapeError
from tritape.hw.config import Config
from tritape.hw.tape.header import Fault
from tritape.hw.tape.sequencer import REGISTERS, Sequencer
from tritape.sim.bench import SIMULATORS, BenchResult, check_streams

DELAY = 100  # cycles from an element of `done` to the pulse


def config(groups: int) -> Config:
    return Config(
        groups=groups,
        max_hidden=100,
        max_intermediate=300,
        max_layers=5,
        max_vocab=1000,
        max_rows=40,
        tables_per_filler=1,
    )


class Harness(wiring.Component):
    """The sequencer, with `norm_done` as a stream (each element a pulse, `DELAY` cycles late), `finished` pulses counted."""

    def __init__(self, groups: int) -> None:
        self.sequencer = Sequencer(config(groups))
        members = dict(self.sequencer.signature.members)
        del members["norm_done"], members["finished"]
        super().__init__({**members, "done": In(stream.Signature(1)), "tokens_finished": Out(8)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.sequencer = sequencer = self.sequencer
        for name, member in sequencer.signature.members.items():
            if name in ("norm_done", "finished"):
                continue
            inner, outer = getattr(sequencer, name), getattr(self, name)
            if not member.is_port:
                wiring.connect(m, wiring.flipped(outer), inner)
            elif member.flow == In:
                m.d.comb += inner.eq(outer)
            else:
                m.d.comb += outer.eq(inner)
        line = Signal(DELAY)
        m.d.sync += line.eq(line << 1 | self.done.valid)
        m.d.comb += [self.done.ready.eq(1), sequencer.norm_done.eq(line[-1])]
        with m.If(sequencer.finished):
            m.d.sync += self.tokens_finished.eq(self.tokens_finished + 1)
        return m


harness = functools.cache(Harness)
"""Elaborating it takes longer than most of the simulations: once for each width."""
TOKEN = 0xA55B
"""Whose embedding row is due."""


class Tape:
    """Words of a tape and what the contract says about them."""

    def __init__(self, groups: int, seed: int = 0, fresh: int = 0) -> None:
        self.groups, self.fresh = groups, fresh
        self.rng = random.Random(seed * 1000 + groups)
        self.words: list[int] = []
        self.sections = 0
        self.number = 0  # of the next section
        self.last = 0  # of the one before
        self.bank = 0
        names = [name for name in Harness(groups).signature.members if name.endswith("_commands")]
        names += ["weights", "parameters", "embedding_words"]
        self.expected: dict[str, list[Any]] = {name: [] for name in names}
        self.done_after: list[tuple[int, str, int]] = []
        self.bad: list[int] = []
        self.header: dict[str, int] = {}

    def split(self, content: bytes) -> list[int]:
        content += bytes(-len(content) % self.groups)
        size = self.groups
        return [int.from_bytes(content[at : at + size], "little") for at in range(0, len(content), size)]

    def put(self, content: bytes, damage: int | None = None, token: int = 0) -> None:
        """Append content, its padding and CRC, with one bit changed in byte `damage` after the CRC was computed."""
        content += bytes(-len(content) % self.groups)
        whole = bytearray(content + (zlib.crc32(content) ^ token).to_bytes(4, "little"))
        if damage is not None:
            whole[damage] ^= 1 << self.rng.randrange(8)
        self.words += self.split(bytes(whole))

    def section(
        self,
        opcode: int,
        mode: int = 0,
        flags: int = 0,
        shift: int = 0,
        tiles: int = 0,
        payload: bytes = b"",
        length: int = 0,
        rows: int = 0,
        mantissa: int = 0,
        base: int = 0,
        eps: int = 0,
        exponent: int = 0,
        words: int | None = None,
        damage: int | None = None,
    ) -> list[int]:
        """Append a section; `damage` is a byte of the payload (or CRC) to spoil. Returns the words of its payload."""
        payload += bytes(-len(payload) % self.groups)
        header = struct.pack("<BBBBHHHH", opcode, mode, flags, shift, self.number, tiles, rows, mantissa)
        words = len(payload) // self.groups if words is None else words
        header += b"".join(number.to_bytes(3, "little") for number in (words, length, base))
        header += struct.pack("<b", exponent) + eps.to_bytes(6, "little")
        check = 0x54415045
        for (word,) in struct.iter_unpack("<I", header):
            check ^= word
        header += check.to_bytes(4, "little")
        number, self.last = self.number, self.number
        self.number = 1 if opcode == 6 else number + 1
        assert len(header) == 32
        header += bytes(-len(header) % self.groups)
        if damage is not None:
            self.bad.append(number)
            damage += len(header)
            if damage < len(header) + len(payload):
                changed = damage
                self.put(header + payload, changed)
                start = len(self.words) - 1 - len(payload) // self.groups
                self.sections += 1
                return self.words[start:-1]
        self.put(header + payload, damage)
        self.sections += 1
        return self.split(payload)

    def boot(self, damage: int | None = None, **changes: Any) -> None:
        """The HEADER section; `changes` override its fields."""
        rng = self.rng
        fields: dict[str, Any] = dict(magic=b"TTAP", version=3, groups=self.groups, hidden=100, intermediate=300, layers=5,
                                      rows=40, vocabulary=1000)  # fmt: skip
        fields |= {name: rng.getrandbits(32) for name in REGISTERS if name not in fields and REGISTERS[name] == 32}
        fields |= {"row_words": -(-100 // self.groups) + 1, "logit_fraction": rng.getrandbits(8)} | changes
        payload = struct.pack("<4sHHHHHHIIIIIIIB", *(fields[name] for name in (
            "magic", "version", "groups", "hidden", "intermediate", "layers", "rows", "vocabulary", "prologue_address",
            "prologue_words", "body_address", "body_words", "embedding_address", "row_words", "logit_fraction")))  # fmt: skip
        self.section(1, payload=payload.ljust(64, b"\0"), damage=damage)
        self.header = {name: fields[name] for name in REGISTERS}

    def load(self, target: int, length: int, damage: int | None = None) -> None:
        per_word = self.groups // 2
        words = -(-length // per_word)
        payload = b"".join(self.rng.randbytes(2 * per_word).ljust(self.groups, b"\0") for _ in range(words))
        words_out = self.section(2, mode=target, flags=self.bank, length=length, payload=payload, damage=damage)
        self.expected["parameters"] += [
            {"word": word, "target": target, "bank": self.bank, "first": int(at == 0)}
            for at, word in enumerate(words_out)
        ]

    def prep(self, mode: int, length: int, region: int = 0, keep: int = 0, done: bool = True) -> None:
        rng = self.rng
        eps, mantissa, exponent = rng.getrandbits(48), rng.getrandbits(16), rng.randint(-128, 127)
        self.section(3, mode=mode, flags=self.bank | region << 1 | keep << 2, length=length, mantissa=mantissa, eps=eps,
                     exponent=exponent)  # fmt: skip
        self.expected["residual_commands"] += [{"mode": step, "region": region, "length": length} for step in (mode, 0)]
        self.expected["norm_commands"].append(
            {"length": length, "bank": self.bank, "keep": keep, "eps": eps, "mantissa": mantissa, "exponent": exponent}
        )
        self.bank ^= 1
        if done:
            self.done_after.append((len(self.done_after), "residual_commands", len(self.expected["residual_commands"])))

    def embed(self, damage: int | None = None, row_damage: int | None = None, other: int = 0) -> None:
        """An embedding; `other`: bits in which its row's token is not the one that is due."""
        length, multiplier = 100, self.rng.getrandbits(16)
        self.section(4, length=length, mantissa=multiplier, damage=damage)
        if row_damage is not None or other:
            self.bad.append(self.last)
        self.put(self.rng.randbytes(length), row_damage, TOKEN ^ other)
        self.expected["embedding_commands"].append({"length": length, "multiplier": multiplier})
        words = -(-length // self.groups)
        self.expected["embedding_words"] += self.words[-1 - words : -1]

    def matvec(self, mode: int, length: int, blocks: list[int], tiles: int, damage: int | None = None) -> None:
        """One projection: `length` rows in all, a section for each block's number of rows."""
        rng, expected = self.rng, self.expected
        shift, base = rng.randrange(48), rng.randrange(400)
        for number, rows in enumerate(blocks):
            first, last = int(number == 0), int(number == len(blocks) - 1)
            expected["weights"] += self.section(
                5, mode=mode, flags=first | last << 1, shift=shift, tiles=tiles, length=length, rows=rows, base=base,
                payload=rng.randbytes(tiles * rows * self.groups), damage=damage if last else None)  # fmt: skip
            expected["engine_commands"].append({"tiles": tiles, "rows": rows, "release": last})
            pattern, destination = [(0, 0), (0, 0), (1, 0), (2, 1), (0, 2), (0, 3)][mode]
            expected["dequantiser_commands"].append(
                {"rows": rows, "pattern": pattern, "take": first, "destination": destination, "last": last}
            )
        if mode < 3:
            command = {"mode": mode, "length": length, "base": base, "shift": shift, "fresh": self.fresh}
            expected["mlgru_commands"].append(command)
        if mode == 3:
            expected["mixer_commands"].append({"pairs": length // 2, "shift": shift})
        if mode == 5:
            expected["head_commands"].append({"rows": length})

    def token(self) -> None:
        """A small token with the section order of the contract, one layer."""
        self.load(0, 100)
        self.load(1, 100)
        self.prep(0, 100)
        self.embed()
        self.load(1, 100)
        self.prep(0, 100, keep=1)
        self.matvec(0, 600, [40], 1)
        self.load(1, 100)
        self.prep(0, 100, keep=1)
        self.load(2, 1)
        self.matvec(1, 10, [6, 4], 2)
        self.load(0, self.groups // 2)
        self.prep(1, 300, region=1)
        self.matvec(2, 11, [11], 1)
        self.load(0, 100)
        self.prep(2, 100)
        self.matvec(4, 7, [7], 2)
        self.load(1, 300)
        self.prep(1, 300, region=1)
        self.matvec(3, 46, [40, 6], 1)
        self.load(1, 100)
        self.prep(2, 100)
        self.matvec(4, 1, [1], 1)
        self.matvec(5, 1000, [40, 1, 3], 1)
        self.section(6)

    def check(self, simulator: str, stall: float = 0.3, **options: Any) -> BenchResult:
        finals = {"crc_errors": len(self.bad), **options.pop("finals", {})}
        finals["first_bad_valid"] = int(bool(self.bad) or any(finals.get(name, 0) for name in ("fault", "fault_code")))
        if self.bad:
            finals["first_bad_section"] = self.bad[0]
        return check_streams(
            harness(self.groups),
            inputs={"words": self.words, "done": [1] * len(self.done_after)},
            expected=self.expected,
            statics={"fresh": self.fresh, "token": TOKEN},
            after={"done": self.done_after},
            finals=finals,
            input_stall=stall,
            output_stall=stall,
            simulator=simulator,
            **options,
        )


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("groups", [4, 13, 16, 37])
def test_two_tokens_under_random_stalls(groups: int, simulator: str) -> None:
    tape = Tape(groups, fresh=groups & 1)
    tape.boot()
    tape.token()
    tape.token()
    good = {"configured": 1, "fault": 0, "fault_code": 0, "tokens_finished": 2, "section": tape.last}
    tape.check(simulator, finals=good | tape.header)


@pytest.mark.parametrize("bit", [0, 9, 15])
def test_row_of_another_token_is_told(bit: int) -> None:
    """Its CRC is right, but for the token's number."""
    tape = Tape(4)
    tape.boot()
    tape.embed()
    tape.embed(other=1 << bit)
    tape.section(6)
    assert len(tape.bad) == 1
    tape.check("icarus", finals={"tokens_finished": 1})


@pytest.mark.parametrize("groups", [4, 13, 16, 37])
def test_cycles_of_a_section(groups: int) -> None:
    """With ready units: the words and OVERHEAD cycles a section, and no gap in any payload."""
    tape = Tape(groups)
    tape.boot()
    tape.embed()
    start, before = len(tape.words), tape.sections
    for mode in range(6):
        tape.matvec(mode, 40, [40, 2], 2)
        tape.load(0, 100)
    tape.prep(0, 100)
    tape.section(6)
    tape.section(6)
    result = tape.check("icarus", stall=0)
    taken = result.transfers["words"]
    sections = tape.sections - before - 1
    words = len(tape.words) - start - (-(-32 // groups) + 1)  # all but the last END
    elapsed = taken[start + words] - taken[start]
    assert abs(words + sections * Sequencer.OVERHEAD - elapsed) <= 1  # the buffer may be one word ahead
    weights = iter(result.transfers["weights"])
    for _ in range(6):
        for rows in (40, 2):
            block = [next(weights) for _ in range(2 * rows)]
            assert block == list(range(block[0], block[0] + 2 * rows))
    row = result.transfers["embedding_words"]
    assert row == list(range(row[0], row[0] + len(row)))


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_load_waits_for_all_but_one_prep(simulator: str) -> None:
    tape = Tape(16)
    tape.boot()
    tape.prep(0, 100)
    tape.load(1, 30)  # does not wait
    tape.prep(0, 100)
    tape.matvec(0, 4, [4], 1)
    tape.load(1, 30)  # waits for the first
    tape.prep(0, 100)
    tape.load(1, 30)  # and this for the second
    tape.section(6)
    result = tape.check(simulator, stall=0, finals={"tokens_finished": 1})
    done, loads = result.transfers["done"], result.transfers["parameters"][::4]
    assert len(loads) == 3
    assert loads[0] < done[0] + DELAY
    assert result.transfers["weights"][-1] < done[0] + DELAY < loads[1] < done[0] + DELAY + 10
    assert done[1] + DELAY < loads[2] < done[2] + DELAY


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("groups", [4, 16])
def test_wrong_crcs_are_counted_and_data_still_pass(groups: int, simulator: str) -> None:
    tape = Tape(groups)
    tape.boot()
    tape.matvec(5, 40, [40], 2)
    tape.embed(row_damage=3)
    tape.load(1, 100, damage=0)
    tape.matvec(0, 40, [40], 2, damage=80 * groups - 1)
    tape.prep(0, 100)
    tape.embed(damage=2)  # in the CRC itself
    tape.matvec(1, 40, [40], 2, damage=80 * groups + 3)
    tape.section(6, damage=0)
    assert len(tape.bad) == 6
    tape.check(simulator, finals={"tokens_finished": 1, "fault": 0})


@pytest.mark.parametrize("groups", [4, 16, 37])
def test_a_wrong_crc_is_that_of_its_section_at_full_rate(groups: int) -> None:
    """The CRC's answer comes when the next section's header is under way, or has passed where words are wide."""
    tape = Tape(groups)
    tape.boot()
    tape.prep(1, 100)
    tape.embed()
    tape.load(0, 100, damage=0)
    tape.prep(0, 100)
    tape.section(6)
    tape.check("icarus", stall=0, finals={"tokens_finished": 1, "fault": 0})


@pytest.mark.parametrize("ended", [0, 1])
def test_a_token_passes_from_its_embedding_to_its_end(ended: int) -> None:
    tape = Tape(4)
    tape.boot()
    tape.prep(1, 100)
    tape.embed()
    tape.load(0, 100)
    if ended:
        tape.section(6)
    tape.check("icarus", finals={"tokens_finished": ended, "passing": 1 - ended})


HEADER_FAULTS: dict[int, dict[str, Any]] = {
    1: {"magic": b"TTAQ"},
    2: {"version": 1},
    3: {"groups": 15},
    4: {"hidden": 101},
    5: {"intermediate": 301},
    6: {"layers": 6},
    7: {"vocabulary": 1001},
    8: {"rows": 41},
    9: {"damage": 20},
    10: {"row_words": 1},
    11: {"body_words": 0},
}


@pytest.mark.parametrize("code", HEADER_FAULTS)
@pytest.mark.parametrize("groups", [4, 16])
def test_header_faults(groups: int, code: int) -> None:
    tape = Tape(groups)
    tape.boot(**HEADER_FAULTS[code])
    tape.words += tape.words[:2]  # only the buffer takes them
    tape.check("icarus", finals={"fault": 1, "fault_code": code, "configured": 0, "section": 0})


def test_of_several_faults_the_first_is_reported() -> None:
    tape = Tape(16)
    tape.boot(hidden=101, rows=41, damage=50)
    tape.check("icarus", finals={"fault_code": 9})
    tape = Tape(16)
    tape.boot(hidden=101, vocabulary=1 << 20)
    tape.check("icarus", finals={"fault_code": 4})


def _matvec(**fields: int) -> Callable[[Tape], Any]:
    return lambda tape: tape.section(5, **fields)


SECTION_FAULTS = {
    "opcode 0": (Fault.OPCODE, lambda tape: tape.section(0)),
    "opcode 7": (Fault.OPCODE, lambda tape: tape.section(7)),
    "opcode 255": (Fault.OPCODE, lambda tape: tape.section(255)),
    "second HEADER": (Fault.OPCODE, lambda tape: tape.section(1)),
    "LOAD target": (Fault.OPCODE, lambda tape: tape.section(2, mode=3)),
    "PREP mode": (Fault.OPCODE, lambda tape: tape.section(3, mode=3)),
    "MATVEC mode": (Fault.OPCODE, _matvec(mode=6)),
    "rows": (Fault.BLOCK_ROWS, _matvec(rows=41, tiles=1, words=1, length=1)),
    "no rows": (Fault.BLOCK_ROWS, _matvec(rows=0, tiles=1, words=1, length=1)),
    "tiles": (Fault.TILES, _matvec(rows=1, tiles=5, words=1, length=1)),
    "no tiles": (Fault.TILES, _matvec(rows=1, tiles=0, words=1, length=1)),
    "MATVEC without payload": (Fault.PAYLOAD, _matvec(rows=1, tiles=1, length=1)),
    "PREP with payload": (Fault.PAYLOAD, lambda tape: tape.section(3, length=1, words=1)),
    "END with payload": (Fault.PAYLOAD, lambda tape: tape.section(6, words=1)),
    "LOAD without payload": (Fault.PAYLOAD, lambda tape: tape.section(2, length=1)),
    "LOAD too long": (Fault.PAYLOAD, lambda tape: tape.section(2, length=1, words=39)),
    "LOAD length": (Fault.LENGTH, lambda tape: tape.section(2, length=301, words=1)),
    "PREP length": (Fault.LENGTH, lambda tape: tape.section(3)),
    "EMBED length": (Fault.LENGTH, lambda tape: tape.section(4, length=301)),
    "MATVEC length": (Fault.LENGTH, _matvec(rows=1, tiles=1, words=1)),
    "state": (Fault.BASE, _matvec(mode=1, rows=1, tiles=1, words=1, length=100, base=401)),
    "state far away": (Fault.BASE, _matvec(mode=2, rows=1, tiles=1, words=1, length=100, base=(1 << 24) - 50)),
}


@pytest.mark.parametrize("name", SECTION_FAULTS)
def test_section_faults(name: str) -> None:
    code, section = SECTION_FAULTS[name]
    tape = Tape(16)
    tape.boot()
    tape.matvec(5, 40, [40], 4)  # the largest
    section(tape)
    tape.expected = {name: None for name in tape.expected}  # a unit may get the command of a section that is refused
    tape.check("icarus", finals={"fault": 1, "fault_code": code, "configured": 1, "section": tape.last})


@pytest.mark.parametrize("groups", [4, 13, *(pytest.param(large, marks=pytest.mark.long) for large in (16, 37))])
def test_every_damaged_bit_of_a_header_is_found_before_a_unit_is_told(groups: int) -> None:
    """The check of a section's header, on a sample of its bits; units get commands of no other section."""
    for bit in random.Random(groups).sample(range(256), 6):
        tape = Tape(groups)
        tape.boot()
        tape.matvec(5, 40, [40], 1)
        commands = {name: list(elements) for name, elements in tape.expected.items()}
        start = len(tape.words)
        tape.matvec(1, 40, [40], 1)
        tape.words, tape.expected = tape.words[: start + -(-32 // groups)], commands
        tape.words[start + bit // 8 // groups] ^= 1 << (bit // 8 % groups * 8 + bit % 8)
        tape.check("icarus", finals={"fault": 1, "fault_code": Fault.CHECK, "section": 2, "first_bad_section": 2})  # fmt: skip


def test_a_section_out_of_order() -> None:
    tape = Tape(16)
    tape.boot()
    tape.matvec(5, 40, [40], 1)
    tape.number += 1
    tape.section(6)
    tape.expected = {name: None for name in tape.expected}
    tape.check("icarus", finals={"fault": 1, "fault_code": Fault.ORDER, "section": 2, "first_bad_section": 2})  # fmt: skip


def test_starvation() -> None:
    """Ticks without a word between them are a fault; not while a word came, nor while somebody else is waited for."""
    dut = Sequencer(config(16))
    seen: list[tuple[int, int]] = []

    async def testbench(ctx: Any) -> None:
        async def tick() -> None:
            ctx.set(dut.tick, not ctx.get(dut.tick))
            await ctx.tick().repeat(3)
            seen.append((ctx.get(dut.fault), ctx.get(dut.fault_code)))

        ctx.set(dut.paused, 1)
        for _ in range(3):
            await tick()
        ctx.set(dut.paused, 0)
        await tick()  # it was paused before this one
        ctx.set(dut.words.valid, 1)
        await ctx.tick()
        ctx.set(dut.words.valid, 0)
        await ctx.tick().repeat(2)  # through the buffer
        await tick()
        await tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    assert seen == [(0, 0)] * 5 + [(1, Fault.STARVED)]


def test_a_memory_without_tape() -> None:
    tape = Tape(16)
    tape.words = [0, 0, 0]
    tape.check("icarus", finals={"fault": 1, "fault_code": 1})


def test_a_faulty_sequencer_stops_until_reset() -> None:
    tape = Tape(16)
    tape.boot(version=2)
    tape.words += tape.words
    with pytest.raises(AssertionError, match="timeout at port 'words', element 9, "):
        tape.check("icarus", max_cycles=300)


def test_wait_counters() -> None:
    """Each cycle waits for a word, or for a unit, or works."""
    tape = Tape(16)
    tape.boot()
    boot = len(tape.words)
    tape.matvec(5, 40, [40], 1)
    dut = Sequencer(config(16))
    counts = {"words": 0, "units": 0}

    async def testbench(ctx: Any) -> None:
        position, cycle = 0, 0
        for name in ("engine_commands", "dequantiser_commands", "head_commands"):
            ctx.set(getattr(dut, name).ready, 1)
        stalled = starved = 0
        while position < len(tape.words) or cycle < 200:
            offer = position < len(tape.words) and not (position == boot + 20 and starved < 7)
            starved += position == boot + 20 and not offer
            ctx.set(dut.words.valid, offer)
            ctx.set(dut.words.payload, tape.words[position] if offer else 0)
            stall = boot + 8 < position < boot + 12 and stalled < 10
            stalled += stall
            ctx.set(dut.weights.ready, not stall)
            if position >= boot + 3 and position < len(tape.words):
                counts["words"] += ctx.get(dut.wait_words)
                counts["units"] += ctx.get(dut.wait_units)
            took = offer and ctx.get(dut.words.ready)
            await ctx.tick()
            position += took
            cycle += 1

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    assert counts == {"words": 7, "units": 10}


def test_errors() -> None:
    with pytest.raises(TritapeError, match=r"^groups must be an integer in 4\.\.255, not 3; keep within that range$"):
        Sequencer(Config(groups=3))
