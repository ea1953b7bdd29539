"""The instruction decoder: sections of the tape in, commands and operands of every unit out."""

from __future__ import annotations

from collections.abc import Mapping

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.hw import commands
from tritape.hw.commands import Destination, Pattern
from tritape.hw.config import Config
from tritape.hw.stream.buffer import StreamBuffer
from tritape.hw.tape.checks import COMPARED_BYTES, first_of, of_fields, of_tape, registered, unknown
from tritape.hw.tape.crc import CRC32
from tritape.hw.tape.header import (
    FAULT_BITS,
    Fault,
    MatvecMode,
    Opcode,
    SectionHeader,
    TapeHeader,
    words,
)
from tritape.hw.tape.preparations import preparations
from tritape.hw.tape.section import SectionRegisters, capture

_NAMES = (
    *("prologue_address", "prologue_words", "body_address", "body_words", "embedding_address", "row_words"),
    "vocabulary",
)
REGISTERS = {name: TapeHeader[name].width for name in _NAMES}
"""Registers of the loaded tape: name -> bits."""

_CONSTANTS = SectionHeader["exponent"].offset  # exponent and eps stand one behind the other

# By the mode of a MATVEC; 0, SCALE_ALL and MLGRU, for the others.
_PATTERN = {MatvecMode.G: Pattern.PASS_ALL, MatvecMode.GATE_UP: Pattern.SCALE_EVEN}
_DESTINATION = {
    MatvecMode.GATE_UP: Destination.MIXER,
    MatvecMode.RESIDUAL: Destination.RESIDUAL,
    MatvecMode.LOGITS: Destination.HEAD,
}


class Sequencer(wiring.Component):
    """Parses sections (docs/contract.md, "Tape words") and gives each unit its commands and words, in tape order.

    Ports (streams; payloads in `tritape.hw.commands`)
        words: In, 8 G bits, the memory's words from the HEADER section on.
        engine_commands, dequantiser_commands: Out, one for each MATVEC; weights: Out, 8 G bits, its payload.
        mlgru_commands, mixer_commands, head_commands: Out, one for the first block of modes I, F, G; gate/up; logits.
        parameters: Out, payload of a LOAD, begun when at most one PREP is unfinished.
        residual_commands, norm_commands: Out; a PREP gives two (its own mode, then read) and one.
        embedding_commands, embedding_words: Out; an EMBED, and the row that follows it (8 G bits a word).
    Ports (plain)
        fresh: In 1, copied into mlgru_commands; stable during a token. token: In 16, whose embedding row is due.
        norm_done: In 1, pulse: a PREP is finished.
        tick: In 1, changes once in a while; paused: In 1, no token runs, or it waits for the host (see STARVED).
        configured: Out 1 and the `REGISTERS`: values of a good HEADER. Constant from then on.
        fault: Out 1, fault_code: Out 5 (`Fault`): the sequencer stopped until reset. MAGIC: no HEADER section or no
        magic; then, in this order, HEADER_CRC, VERSION, GROUPS, HIDDEN .. ROWS (more than the configuration has), ROW_WORDS and
        REGION_WORDS (too few). Of every section, before any unit is told: CHECK (its header is damaged), OPCODE (an unknown
        opcode, mode or target), ORDER (not the number that is due; not where the configuration is serial), TILES .. BASE (a
        field that is 0 or beyond the configuration; `of_fields`). STARVED: between two changes of `tick` no word was taken,
        and `paused` was low.
        crc_errors: Out 16, saturating: sections and embedding rows with a wrong CRC; first_bad_section: Out 16 and
        first_bad_valid: Out 1: index of the first one with a wrong CRC or a fault (where the configuration is serial crc_errors
        saturates at 255, and an index has 10 bits). Bad payload has been passed on by then; only HEADER is refused.
        section: Out 16, index of the section under way. finished: Out 1, pulse after END. passing: Out 1, from the embedding
        row of a token to `finished`: what is found out about its pass may still change.
        wait_words: Out 1, a word is needed, none is there; wait_units: Out 1, a word is there, a unit is not ready.

    `address_bits`: of the memory's addresses in words; addresses and counts of words keep only so many bits.
    With several slots, T embedding rows follow an EMBED, each with its CRC; slot: Out, whose row embedding_words is of.

    Streams: the commands of a MATVEC and an EMBED are offered while their words pass; the next header waits until they
    are taken. PREPs are queued (two for the residual, one for the norm), so later sections can feed what they need.
    `words` is buffered, so its ready is a register (not where the configuration is serial); valid of the word streams is a
    register and one LUT.
    Cycles of a section: its words + `OVERHEAD` (1, while the header is decoded) if nothing stalls; no gap in a payload.
    Latency: weights leave ceil(32 / G) + `OVERHEAD` + 1 cycles after the first word of their section came.
    Cost (ECP5, G = 16): 943 LUT4 (523 of them `CRC32`, 132 `StreamBuffer`), 1,155 flip-flops; no block RAM or multiplier.
    Tested: G = 4, 13, 16, 37 under random stalls. Errors: `TritapeError` (from `CRC32`) for G below 4.
    """

    OVERHEAD = 1

    def __init__(self, config: Config, *, address_bits: int = 32) -> None:
        self.config = config
        self.address_bits = address_bits
        word = 8 * config.word_bytes
        streams = {
            "engine_commands": commands.EngineCommand,
            "weights": word,
            "parameters": commands.parameter_word(config.word_bytes),
            "residual_commands": commands.ResidualCommand,
            "norm_commands": commands.NormCommand,
            "dequantiser_commands": commands.DequantiserCommand,
            "mlgru_commands": commands.MLGRUCommand,
            "mixer_commands": commands.MixerCommand,
            "head_commands": commands.HeadCommand,
            "embedding_commands": commands.EmbeddingCommand,
            "embedding_words": word,
        }
        status = {"configured": 1, "fault": 1, "fault_code": FAULT_BITS, "crc_errors": 16, "first_bad_section": 16}
        status |= {"first_bad_valid": 1, "finished": 1, "passing": 1, "wait_words": 1, "wait_units": 1}
        if config.batch > 1:
            status["slot"] = (config.batch - 1).bit_length()
        super().__init__(
            {
                "words": In(stream.Signature(word)),
                **{name: Out(stream.Signature(shape)) for name, shape in streams.items()},
                "fresh": In(1),
                "token": In(16),
                "norm_done": In(1),
                "tick": In(1),
                "paused": In(1),
                **{name: Out(width) for name, width in (REGISTERS | status).items()},
                "section": Out(16, init=0xFFFF),  # HEADER, the first section, is number 0
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        groups = self.config.word_bytes
        m.submodules.crc = crc = CRC32(groups)
        source = self.words
        if not self.config.serial:
            m.submodules.buffer = buffer = StreamBuffer(8 * groups)
            wiring.connect(m, wiring.flipped(self.words), buffer.sender)
            source = buffer.receiver
        s = SectionRegisters(source, groups, self.address_bits)
        s.build(m)
        row = Signal()  # an embedding row's CRC has its token's number on it
        m.d.comb += [
            crc.word.eq(s.word),
            crc.word[:16].eq(s.word[:16] ^ (self.token & (row & s.closing).replicate(16))),
        ]
        m.d.comb += [crc.valid.eq(s.taken), crc.first.eq(s.begin), crc.last.eq(s.closing)]
        pending = self._build_commands(m, s.header)
        room = preparations(m, s, self.norm_commands, self.residual_commands, direct=self._direct)
        load = self._build_payload(m, s)
        self._build_header_payload(m, s)
        judged, bad = Signal(), Signal()  # a CRC was checked; and was wrong
        m.d.sync += [judged.eq(crc.done), bad.eq(crc.done & ~crc.good)]
        with m.FSM():
            self._state_header(m, s, pending)
            late = self._state_decode(m, s)
            self._state_payload(m, s, room, load, late)
            self._state_row(m, s, row)
            self._state_check(m, s, judged, bad)
            with m.State("FAULT"):
                pass
        self._build_status(m, s, bad)
        return m

    def _build_payload(self, m: Module, s: SectionRegisters) -> Signal:
        """Words of a payload to the units. Returns: a LOAD may go on, because at most one PREP is unfinished."""
        unfinished, load = Signal(4), Signal()
        started = s.opcode[Opcode.PREP] & s.closing & s.taken
        m.d.sync += [unfinished.eq(unfinished + started - self.norm_done), load.eq(unfinished <= 1)]
        m.d.comb += [
            self.weights.payload.eq(s.word),
            self.parameters.payload.word.eq(s.word),
            self.parameters.payload.target.eq(s.header.mode),
            self.parameters.payload.bank.eq(s.header.flags[0]),
            self.parameters.payload.first.eq(s.first_parameter),
            self.embedding_words.payload.eq(s.word),
            self.wait_words.eq(s.wants & ~s.have),
            self.wait_units.eq(s.wants & s.have & ~s.take),
        ]
        return load

    def _build_header_payload(self, m: Module, s: SectionRegisters) -> None:
        """Keep the payload of HEADER; nothing else decides whether its words are taken."""
        with m.If(s.have & s.opcode[Opcode.HEADER] & ~self.configured):
            with m.If(s.number != s.tape_words):
                m.d.sync += s.number.eq(s.number + 1)
            capture(m, s.tape, s.word, s.number, s.tape_words)
            # What is only compared needs no place of its own.
            capture(m, s.header, s.word, s.number, words(COMPARED_BYTES, self.config.word_bytes))
        for name, width in REGISTERS.items():
            m.d.comb += getattr(self, name).eq(getattr(s.tape, name)[: min(width, self.address_bits)])

    def _state_header(self, m: Module, s: SectionRegisters, pending: Value) -> None:
        """The words of a section's header."""
        with m.State("HEADER"):
            m.d.comb += [s.wants.eq(1), s.take.eq(~pending & ~self._keeps_constants(m, s))]
            with m.If(s.taken):
                m.d.sync += s.number.eq(s.number + 1)
                capture(m, s.header, s.word, s.number, s.header_words)
                with m.If(s.number == s.header_words - 1):
                    m.next = "DECODE"

    def _refuse(self, m: Module, tests: Mapping[Fault, Value]) -> None:
        """Stop if one of the tests is true."""
        with m.If(Cat(*tests.values()).any()):
            m.d.sync += [self.fault.eq(1), self.fault_code.eq(first_of(tests))]
            m.next = "FAULT"

    def _state_decode(self, m: Module, s: SectionRegisters) -> dict[Fault, Value]:
        """The header is there: refuse it, or give the units their commands. Returns: what is wrong with its fields, a
        cycle later."""
        header = s.header
        place, decode = Signal(10 if self.config.serial else 16), Signal()
        order = {}
        if self.config.serial:
            m.d.comb += place.eq(header.index)
        else:  # the number that is due
            m.d.comb += place.eq(Mux(s.opcode[Opcode.END], 0, self.section) + 1)
            order = {Fault.ORDER: header.index != place}
        payload = header.payload[: self.address_bits]
        other_groups = ~self.configured & (payload != s.tape_words)
        tests = {**order, **of_fields(self.config, header, payload, other_groups)}
        late = registered(m, tests, decode)
        with m.State("DECODE"):
            m.d.comb += decode.eq(1)
            m.d.sync += [
                self.section.eq(place),
                s.left.eq(header.payload),
                s.closing.eq(header.payload[: self.address_bits] == 0),
                s.number.eq(0),
                s.first_parameter.eq(1),
                *(flag.eq(header.opcode == code) for code, flag in s.opcode.items()),
            ]
            m.next = "PAYLOAD"
            strange = unknown(header)
            self._dispatch(m, header, s.sound & ~strange & ~Cat(*tests.values()).any())
            self._refuse(
                m,
                {
                    Fault.MAGIC: ~self.configured & (header.opcode != Opcode.HEADER),
                    Fault.CHECK: ~s.sound,
                    Fault.OPCODE: self.configured & strange,
                },
            )
        return late

    def _state_payload(
        self, m: Module, s: SectionRegisters, room: Value, load: Value, late: Mapping[Fault, Value]
    ) -> None:
        """The words of a section's payload, and its CRC."""
        matvec, is_load = s.opcode[Opcode.MATVEC], s.opcode[Opcode.LOAD]
        refused = Cat(*late.values()).any()
        with m.State("PAYLOAD"):
            m.d.comb += [
                s.wants.eq(1),
                self.weights.valid.eq(s.have & matvec & ~s.closing & ~refused),
                self.parameters.valid.eq(s.have & is_load & ~s.closing & load & ~refused),
            ]
            with m.If(s.closing):
                m.d.comb += s.take.eq(~s.opcode[Opcode.PREP] | room)
            with m.Else():
                m.d.comb += s.take.eq(Mux(matvec, self.weights.ready, ~is_load | (load & self.parameters.ready)))
            with m.If(s.taken):
                m.d.sync += [s.left.eq(s.left - 1), s.closing.eq(s.left == 1), s.first_parameter.eq(0)]
                with m.If(s.closing):
                    m.d.sync += s.closing.eq(0)
                    m.next = "HEADER"
                    with m.If(s.opcode[Opcode.EMBED]):
                        m.d.sync += s.left.eq(self.row_words)
                        m.next = "ROW"
                    with m.If(s.opcode[Opcode.HEADER]):
                        m.next = "CHECK"
            self._refuse(m, late)

    def _state_row(self, m: Module, s: SectionRegisters, row: Signal) -> None:
        """The embedding row of the token, or of every slot's, each with its CRC."""
        with m.State("ROW"):
            m.d.comb += [
                s.wants.eq(1),
                row.eq(1),
                self.embedding_words.valid.eq(s.have & ~s.closing),
                s.take.eq(s.closing | self.embedding_words.ready),
            ]
            with m.If(s.taken):
                m.d.sync += [s.left.eq(s.left - 1), s.closing.eq(s.left == 2)]
                with m.If(s.closing):
                    m.d.sync += [s.closing.eq(0), self.passing.eq(1)]
                    m.next = "HEADER"
                    if self.config.batch > 1:
                        m.d.sync += [self.slot.eq(0), s.left.eq(self.row_words)]
                        with m.If(self.slot != self.config.batch - 1):
                            m.d.sync += self.slot.eq(self.slot + 1)
                            m.next = "ROW"

    def _state_check(self, m: Module, s: SectionRegisters, judged: Value, bad: Value) -> None:
        """The tape's header against the configuration, when its CRC is judged."""
        low = s.header.as_value()[: 8 * COMPARED_BYTES]
        seen = data.View(TapeHeader, Cat(low, s.tape.as_value()[8 * COMPARED_BYTES :]))
        numbers = {name: getattr(self, name)[: self.address_bits] for name in REGISTERS}
        tests = registered(m, of_tape(self.config, seen, numbers))
        # A wrong CRC says why the rest is wrong, but what is no tape at all has no magic.
        wrong = {Fault.MAGIC: tests.pop(Fault.MAGIC), Fault.HEADER_CRC: bad, **tests}
        with m.State("CHECK"), m.If(judged):
            m.d.sync += [s.number.eq(0), self.configured.eq(~Cat(*wrong.values()).any())]
            m.next = "HEADER"
            self._refuse(m, wrong)

    def _build_status(self, m: Module, s: SectionRegisters, bad: Value) -> None:
        """End of a token, and the count of wrong CRCs."""
        m.d.sync += self.finished.eq(s.taken & s.closing & s.opcode[Opcode.END])
        with m.If(self.finished):
            m.d.sync += self.passing.eq(0)
        self._build_watchdog(m, s)
        # Index of the section whose CRC is judged: the one under way if its header takes long enough.
        checked = self.section
        if s.header_words <= CRC32.LATENCY:
            checked = Signal(16)
            with m.If(s.taken & s.closing):
                m.d.sync += checked.eq(self.section)
        errors = Signal(8 if self.config.serial else 16)
        m.d.comb += self.crc_errors.eq(errors)
        with m.If(bad & ~errors.all()):
            m.d.sync += errors.eq(errors + 1)
        with m.If((bad | self.fault) & ~self.first_bad_valid):
            m.d.sync += [self.first_bad_valid.eq(1), self.first_bad_section.eq(Mux(bad, checked, self.section))]

    def _build_watchdog(self, m: Module, s: SectionRegisters) -> None:
        """No word from one `tick` to the next, while a token runs and waits for nobody: stop."""
        last, moved = Signal(), Signal(init=1)
        m.d.sync += last.eq(self.tick)
        with m.If(self.tick != last):
            m.d.sync += moved.eq(0)
            with m.If(~moved & ~self.fault):
                m.d.sync += [self.fault.eq(1), self.fault_code.eq(Fault.STARVED)]
        with m.If(s.taken | self.paused):
            m.d.sync += moved.eq(1)

    @property
    def _direct(self) -> bool:
        """A PREP's eps and exponent go from the words straight to its command (its opcode came in a word before)."""
        return self.config.serial and 8 * self.config.word_bytes <= _CONSTANTS

    def _keeps_constants(self, m: Module, s: SectionRegisters) -> Value:
        """Keep eps and exponent of a PREP, if they are to go straight to its command. Returns: there is no room for them."""
        if not self._direct:
            return Const(0)
        norm, width = self.norm_commands, len(s.word)
        kept = Cat(norm.payload.exponent, norm.payload.eps)
        prep, blocked = s.header.opcode == Opcode.PREP, Signal()
        with m.Switch(s.number):
            for index in range(_CONSTANTS // width, -(-(_CONSTANTS + len(kept)) // width)):
                low, high = max(index * width, _CONSTANTS), min((index + 1) * width, _CONSTANTS + len(kept))
                with m.Case(index):
                    m.d.comb += blocked.eq(prep & norm.valid)
                    with m.If(s.taken & prep):
                        part = s.word[low - index * width : high - index * width]
                        m.d.sync += kept[low - _CONSTANTS : high - _CONSTANTS].eq(part)
        return blocked

    def _targets(self, header: data.View) -> dict[stream.Interface, tuple[Value, dict[str, Value]]]:
        """Stream -> (whether the section gives it a command, the command's fields): those that stay in the header."""
        matvec = header.opcode == Opcode.MATVEC
        first, release = header.flags[0], header.flags[1]
        mode = header.mode[:3]
        by_mode = {
            field: sum((Mux(mode == key, value, 0) for key, value in table.items()), start=Value.cast(0))[:2]
            for field, table in (("pattern", _PATTERN), ("destination", _DESTINATION))
        }
        return {
            self.engine_commands: (matvec, {"tiles": header.tiles, "rows": header.rows, "release": release}),
            self.dequantiser_commands: (matvec, {"rows": header.rows, "take": first, "last": release, **by_mode}),
            self.mlgru_commands: (
                matvec & first & (mode <= MatvecMode.G),
                {
                    "mode": mode[:2],
                    "length": header.length,
                    "base": header.base,
                    "shift": header.shift,
                    "fresh": self.fresh,
                },
            ),
            self.mixer_commands: (
                matvec & first & (mode == MatvecMode.GATE_UP),
                {"pairs": header.length >> 1, "shift": header.shift},
            ),
            self.head_commands: (matvec & first & (mode == MatvecMode.LOGITS), {"rows": header.length}),
            self.embedding_commands: (
                header.opcode == Opcode.EMBED,
                {"length": header.length, "multiplier": header.mantissa},
            ),
        }

    def _build_commands(self, m: Module, header: data.View) -> Value:
        """Offer the commands that stay in the header until taken. Returns: one is still pending."""
        targets = self._targets(header)
        for port, (_, fields) in targets.items():
            m.d.comb += [getattr(port.payload, name).eq(value) for name, value in fields.items()]
            with m.If(port.ready):
                m.d.sync += port.valid.eq(0)
        # A register: the first header word comes two cycles after DECODE at the earliest, so it is in time.
        pending = Signal()
        m.d.sync += pending.eq(Cat(port.valid for port in targets).any())
        return pending

    def _dispatch(self, m: Module, header: data.View, sound: Value) -> None:
        for port, (wanted, _) in self._targets(header).items():
            m.d.sync += port.valid.eq(wanted & sound)
