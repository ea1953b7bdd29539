"""The sequencer: how many words a section takes, and what it tells the units of it."""

from __future__ import annotations

from collections.abc import Callable

from amaranth.hdl import Assert, Cat, Const, Module, Mux, Signal, Value

from tritape.hw.tape.header import CHECK, HEADER_BYTES, HEADER_PAYLOAD_BYTES, Opcode, SectionHeader, words
from tritape.hw.tape.sequencer import Sequencer
from tritape.sim.proofs.hold import Bench, drive, previous
from tritape.sim.proofs.units import SMALL

ADDRESS_BITS = 6
HEADER_WORDS = words(HEADER_BYTES, SMALL.word_bytes)
TAPE_WORDS = words(HEADER_PAYLOAD_BYTES, SMALL.word_bytes)
OTHERS = [code.name.lower() for code in Opcode if code is not Opcode.HEADER]
HELD = ("engine", "dequantiser", "mlgru", "mixer", "head", "embedding")
"""Units whose command stays in the header until it is taken; those of PREPs are queued."""


class Ghost:
    """What the words themselves say, counted beside the sequencer."""

    def __init__(self, m: Module, bench: Bench) -> None:
        inside = bench.inside
        self.word = inside.signal("receiver__payload", "buffer")
        self.taken = inside.signal("receiver__valid", "buffer") & inside.signal("receiver__ready")
        begin = inside.signal("begin")
        self.count, self.payload = Signal(8), Signal(ADDRESS_BITS)  # words of the section before this one
        self.xor = Signal(32)
        self.place = Mux(begin, 0, self.count)
        offset = SectionHeader["payload"].offset
        with m.If(self.taken):
            m.d.sync += [self.count.eq(self.place + 1), self.xor.eq(self.word ^ Mux(begin, 0, self.xor))]
            with m.If(inside.state("HEADER") & (self.place == offset // 32)):
                m.d.sync += self.payload.eq(self.word[offset % 32 :])


def _bench(m: Module, kind: type[Sequencer]) -> Bench:
    return drive(m, kind(SMALL, address_bits=ADDRESS_BITS))


def _invariants(m: Module, bench: Bench, ghost: Ghost) -> dict[str, Value]:
    """What holds in every cycle, for the inductions. Returns the states of the FSM."""
    inside = bench.inside
    states = {name: inside.state(name) for name in inside.states()}
    begin, closing, left, number = (inside.signal(name) for name in ("begin", "closing", "left", "number"))
    header, row_words = inside.signal("header"), bench.outer["row_words"][:ADDRESS_BITS]
    configured, is_header, first = bench.outer["configured"], inside.signal("is_header"), previous(m, states["DECODE"])
    whole = HEADER_WORDS + ghost.payload
    known = Value.cast(header)[SectionHeader["payload"].offset :][:ADDRESS_BITS]
    past = number > SectionHeader["payload"].offset // 32
    m.d.comb += [
        Assert(inside.known(), "the FSM is in one of its states"),
        Assert(~states["HEADER"] | ((begin == (number == 0)) & (begin | (ghost.count == number))), "header words"),
        Assert(~states["HEADER"] | (number < HEADER_WORDS), "no more header words"),
        Assert(~(states["HEADER"] | states["CHECK"]) | ~closing, "no CRC in a header"),
        Assert(~(states["HEADER"] & past) | (ghost.payload == known), "payload seen"),
        Assert(~states["DECODE"] | ((ghost.count == HEADER_WORDS) & ~begin & (ghost.payload == known)), "decoded"),
        Assert(~states["PAYLOAD"] | (~begin & (closing == (left == 0))), "payload"),
        Assert(~states["PAYLOAD"] | (ghost.count + left == whole), "words left"),
        Assert(~states["CHECK"] | begin, "nothing of the next section is taken"),
        Assert(
            ~states["ROW"] | (left == Mux(begin, row_words, (row_words - ghost.count)[:ADDRESS_BITS])), "row words left"
        ),
        Assert(~states["ROW"] | (closing == (left == 1)), "row"),
        Assert(~states["ROW"] | configured, "rows of a configured tape"),
        Assert(~states["ROW"] | begin | ((ghost.count < row_words) & (ghost.count != 0)), "row words taken"),
        Assert(
            configured | ~states["PAYLOAD"] | (is_header & (number == ghost.count - HEADER_WORDS)), "HEADER's words"
        ),
        Assert(configured | ~states["PAYLOAD"] | first | (ghost.payload == TAPE_WORDS), "HEADER's length"),
        Assert(configured | ~(states["HEADER"] | states["DECODE"]) | ~is_header, "HEADER is the first section"),
        Assert(~is_header | ~Cat(inside.signal(f"is_{name}") for name in OTHERS).any(), "one opcode"),
        Assert(~states["CHECK"] | configured | (is_header & (number == TAPE_WORDS)), "HEADER is whole"),
        Assert(~(states["ROW"] | (states["PAYLOAD"] & ~is_header)) | (number == 0), "no header word yet"),
        Assert(~configured | (row_words > 1), "two row words or more"),
    ]
    return states


def words_taken(kind: type[Sequencer] = Sequencer) -> Callable[[Module], list[Value]]:
    """A section takes its header, as many words as the header's `payload` says, and its CRC; an embedding row `row_words`."""

    def build(m: Module) -> list[Value]:
        bench = _bench(m, kind)
        ghost = Ghost(m, bench)
        states = _invariants(m, bench, ghost)
        ends, whole = ghost.taken & bench.inside.signal("closing"), HEADER_WORDS + ghost.payload
        row_words = bench.outer["row_words"][:ADDRESS_BITS]
        m.d.comb += [
            Assert(~(ends & ~states["ROW"]) | (ghost.place == whole), "a section is header, payload and CRC"),
            Assert(~(ends & states["ROW"]) | (ghost.place + 1 == row_words), "a row is row_words"),
            Assert(
                ~ghost.taken | (ghost.place <= Mux(states["ROW"], row_words, whole)) | states["HEADER"], "no word more"
            ),
        ]
        return bench.free

    return build


def _folded(value: Value, width: int) -> Value:
    """Pieces of `width` bits, one on the other: of the check the sequencer looks at so many."""
    folded: Value = Const(0, width)
    for index in range(len(value) // width):
        folded = folded ^ value.word_select(index, width)
    return folded


def commands_given(kind: type[Sequencer] = Sequencer) -> Callable[[Module], list[Value]]:
    """Of a section each unit is told once at most, and nothing if the header's check is wrong."""

    def build(m: Module) -> list[Value]:
        bench = _bench(m, kind)
        ghost = Ghost(m, bench)
        inside, states = bench.inside, _invariants(m, bench, ghost)
        decode, header = states["DECODE"], states["HEADER"]
        offered = []
        for name in HELD:
            valid, _, ready = bench.outer[f"{name}_commands"]
            told = Signal(2, name=f"{name}_told")  # commands of this section that were taken
            with m.If(decode):
                m.d.sync += told.eq(0)
            with m.Elif(valid & ready & (told != 3)):
                m.d.sync += told.eq(told + 1)
            m.d.comb += Assert(told <= 1, f"{name} is told once")
            m.d.comb += Assert(~valid | (told == 0), f"{name} is told again")
            offered.append(valid)
        number, xor = inside.signal("number"), inside.signal("header_xor")
        seen, wanted = _folded(ghost.xor, len(xor)), _folded(Const(CHECK, 32), len(xor))
        damaged = previous(m, decode & (seen != wanted))
        m.d.comb += [
            Assert(~(damaged & Cat(offered).any()), "a damaged header tells nobody"),
            Assert(~decode | ~Cat(offered).any(), "no command is left at the next"),
            Assert(~header | ~Cat(offered).any() | (inside.signal("pending") & (number == 0)), "a header waits"),
            Assert(~header | (number == 0) | (seen == xor), "the check"),
            Assert(~decode | (seen == xor), "the check is whole"),
        ]
        return bench.free

    return build
