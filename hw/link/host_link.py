"""Host link: obeys the commands of docs/protocol.md, from any pipe of bytes to the token loop."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.hw.config import Config
from tritape.hw.exceeds import exceeds
from tritape.hw.link.command_registers import CommandRegisters
from tritape.hw.link.commands import DATA_BYTES, IDLE, Command, ErrorCode, identity
from tritape.hw.link.frame_port import HEADER_BYTES, FramePort, Part
from tritape.hw.link.runner import Runner, loaded, loop_ports
from tritape.hw.link.step_runner import StepRunner
from tritape.hw.link.token_runner import TokenRunner
from tritape.hw.memory.signature import Request, write_word
from tritape.hw.tape.header import FAULT_BITS

_ELEMENT_BYTES = 3
"""Bytes of a logit or an element of the state in a frame."""


PATIENCE_BITS = 24
"""A memory that does not take or give a word for 2^24 cycles is given up; a flash erases a sector in fewer."""
_SERIAL_PATIENCE = 10
"""The same of a serial configuration, whose memories answer sooner, and which then waits for a byte from the host."""


class HostLink(wiring.Component):
    """Obeys the host one command at a time: identify, write, read and check memory, boot, sampler, run tokens, state.

    Parameters
        config, memory_words: what IDENTIFY tells; counter_count: counters that there are
        patience: for tests, another number of bits than `PATIENCE_BITS`

    Ports:

    - `rx`, `tx`: streams of bytes from and to the host, over whatever the board has.
    - `write`: stream of {address u32, word} to the memory, in words of G bytes; `requests`: stream of {address, length 1},
      only while `memory_mode` is high; `words`: the answers, which must then not go elsewhere.
    - `restart`: high for one cycle before memory is written or read and at BOOT, to reset the token loop in the next cycle.
      After BOOT's, `boot`: stream, one transfer starts reading the HEADER section. `configured`, `fault`, `fault_code`: its
      outcome. `damaged`: something was wrong with the tape or the memory since `restart`; `passing`: a pass is not over.
    - `read_failed`, `write_failed`: of the memory (`MemorySignature`).
    - `tokens`: stream of {token u16, fresh u1} into the token loop; `results`: the token that the head chose.
    - `logits_enable`: every logit waits until it came by `logits`, a stream of s18.
    - `inv_temperature`: of the sampler; `reseed`: high for the cycle in which it must take `seed`.
    - `state_access`: the recurrent state stands at `state_address`; `state_value`: what is there, `STATE_LATENCY` cycles
      later at most; `state_write`: high for the cycle that stores `state_data`.
    - `counter_index`: which counter is wanted; `counter`: its value two cycles later.
    - `running`: high from a token's start to its result.

    With several slots (`config.batch`), other ports in the place of some:

    - `steps`: stream of T `SlotRequest` in place of `tokens`; `results`: a stream of T u16.
    - `inv_temperature`: an array of T. `slot`: whose sampler, state and logits are meant.

    Stream rules: those of `FramePort` for `rx` and `tx`: damaged frames vanish, repeated ones are answered again without
    being obeyed again. A wait for tokens, logits or an idle token loop ends with the next byte from the host, and a wait
    for the memory after 2^`patience` cycles, so that a host is never shut out. (A serial configuration has no room for that
    count: its wait for the memory ends with the next byte too, but for a WRITE, since a flash takes its time.)
    Cost: two block RAMs of 512 bytes and, all parts included, 927 iCE40 LUT4 at G = 4 (yosys, flat).
    Tested: every command and error, random stalls, G = 4, 13 (tests/test_hw_host_link.py). Source: docs/protocol.md.
    Errors: `TritapeError` for G beyond `DATA_BYTES`.
    """

    STATE_LATENCY = 5

    def __init__(self, config: Config, *, memory_words: int, counter_count: int, patience: int = PATIENCE_BITS) -> None:
        if config.word_bytes > DATA_BYTES:
            raise TritapeError(
                f"engines times groups must be at most {DATA_BYTES} for the host link, not {config.word_bytes}; "
                "a word must fit in a frame"
            )
        self._config = config
        self._entry_bytes = 2 if config.batch == 1 else 3
        self._identity = identity(config, memory_words)
        self._memory_words = memory_words
        self._patience = patience
        last = max(memory_words, config.state_elements, counter_count)  # an address may come to be one past the end
        self._address_bits = min(last.bit_length(), 32)
        super().__init__(
            {
                "rx": In(stream.Signature(8)),
                "tx": Out(stream.Signature(8)),
                "write": Out(stream.Signature(write_word(config.word_bytes))),
                "memory_mode": Out(1),
                "requests": Out(stream.Signature(Request)),
                "words": In(stream.Signature(8 * config.word_bytes)),
                "restart": Out(1),
                "boot": Out(stream.Signature(1)),
                "configured": In(1),
                "fault": In(1),
                "fault_code": In(FAULT_BITS),
                "damaged": In(1),
                "passing": In(1),
                "read_failed": In(1),
                "write_failed": In(1),
                **loop_ports(config.batch),
                "logits_enable": Out(1),
                "logits": In(stream.Signature(signed(18))),
                "seed": Out(32),
                "reseed": Out(1),
                "state_access": Out(1),
                "state_address": Out(20),
                "state_write": Out(1),
                "state_data": Out(signed(18)),
                "state_value": In(signed(18)),
                "counter_index": Out(range(max(counter_count, 2))),
                "counter": In(32),
                "running": Out(1),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        batch = self._config.batch
        port = FramePort(self._identity)
        runner: Runner = TokenRunner() if batch == 1 else StepRunner(batch)
        m.submodules.port, m.submodules.runner = port, runner
        wiring.connect(m, wiring.flipped(self.rx), port.rx)
        wiring.connect(m, port.tx, wiring.flipped(self.tx))
        if isinstance(runner, TokenRunner):
            wiring.connect(m, runner.tokens, wiring.flipped(self.tokens))
        else:
            wiring.connect(m, runner.steps, wiring.flipped(self.steps))
        wiring.connect(m, wiring.flipped(self.results), runner.answers)
        s = CommandRegisters(port, self._config.word_bytes, len(self._identity), self._address_bits)
        self._build_ports(m, s, runner)
        s.build(m, self.words.payload)
        outside = self._build_memory_limits(m, s)
        with m.FSM():
            self._build_command(m, s, runner)
            self._build_decode(m, s, runner, outside)
            self._build_data(m, s, runner, outside)
            self._build_tokens(m, s, runner)
            self._build_memory(m, s, outside)
            s.build_head(m, Cat(self.fault_code, runner.running, self.configured, self.damaged))
            self._build_more(m, s, runner)
            self._build_values(m, s)
        return m

    def _build_ports(self, m: Module, s: CommandRegisters, runner: Runner) -> None:
        """What the ports say all the time: fields of the command, and the bottom of `word` for the reply."""
        port, word, argument = s.port, s.word, s.argument
        m.d.comb += s.small.eq(self.counter)
        with m.Switch(s.operation):
            with m.Case(Command.POLL):
                m.d.comb += s.small[:16].eq(runner.chosen)
            with m.Case(Command.LOGITS):
                m.d.comb += s.small[:18].eq(self.logits.payload)
            with m.Case(Command.READ_STATE):
                m.d.comb += s.small[:18].eq(self.state_value)
        m.d.comb += [
            self.seed.eq(argument),
            self.running.eq(runner.busy),
            runner.configured.eq(self.configured),
            runner.fault.eq(self.fault),
            runner.passing.eq(self.passing),
            runner.place.eq(argument[:8]),
            runner.limit.eq(argument[8:16]),
            *loaded(runner, argument, word),
            self.write.payload.address.eq(argument),
            self.write.payload.word.eq(word[-8 * self._config.word_bytes :]),
            self.requests.payload.address.eq(argument),
            self.requests.payload.length.eq(1),
            self.state_address.eq(argument),
            self.state_data.eq(word[-24:-6]),
            self.counter_index.eq(argument),
            port.reply.payload.byte.eq(word[:8]),
        ]

    def _build_memory_limits(self, m: Module, s: CommandRegisters) -> Signal:
        """How long the memory is waited for, and its errors. Returns: the command's next word is not inside the memory."""
        # For want of room a serial configuration counts less, and then waits for the next byte from the host: a repetition of the
        # command must not end one that the memory is obeying.
        timer = Signal(_SERIAL_PATIENCE if self._config.serial else self._patience + 1)
        m.d.sync += timer.eq(Mux(s.waiting, timer + 1, 0))
        m.d.comb += s.impatient.eq(timer[-1])
        if self._config.serial:
            m.d.comb += s.impatient.eq(timer.all() & s.port.pending & (s.operation != Command.WRITE))
        with m.If(self.read_failed):
            m.d.sync += s.failed.eq(1)
        outside = Signal()
        m.d.sync += outside.eq(exceeds(s.argument, self._memory_words - 1))
        return outside

    def _build_command(self, m: Module, s: CommandRegisters, runner: Runner) -> None:
        """The head of a command, and whether it must wait until no token runs."""
        with m.State("COMMAND"):
            m.d.sync += [s.steps.eq(HEADER_BYTES), s.status.eq(0), s.answered.eq(0), s.failed.eq(0)]
            m.next = "HEADER"
        with m.State("HEADER"):
            s.take(m, s.turn, "ADMIT")
        data = Signal()  # the command has some
        with m.State("ADMIT"):
            with m.Switch(s.operation), m.Case(Command.WRITE, Command.LOAD, Command.WRITE_STATE):
                m.d.comb += data.eq(s.count != 0)
            with m.If(s.kind[5:] != 0):
                s.answer_with(m, ErrorCode.UNKNOWN_COMMAND)
            with m.Elif(s.port.spent == data):
                s.answer_with(m, ErrorCode.LENGTH)
            with m.Elif(((s.kind & IDLE) == 0) | ~runner.running):
                m.next = "DECODE"
            with m.Elif(s.port.pending):
                s.answer_with(m, ErrorCode.BUSY)

    def _build_decode(self, m: Module, s: CommandRegisters, runner: Runner, outside: Value) -> None:
        """What a command does first, and where it goes from there."""
        batch, argument = self._config.batch, s.argument
        with m.State("DECODE"):
            m.next = "ANSWER"
            with m.Switch(s.operation):
                with m.Case(Command.IDENTIFY, Command.STOP):
                    m.d.comb += runner.stop.eq(1)
                    m.d.sync += self.logits_enable.eq(0)
                with m.Case(Command.POLL):
                    m.d.comb += runner.go.eq(1)
                    m.next = "SEEK"
                with m.Case(Command.LOGITS, Command.COUNTERS, Command.READ_STATE):
                    pass
                with m.Case(Command.RESTART):
                    m.d.comb += self.restart.eq(1)
                    m.d.sync += [self.memory_mode.eq(0), self.logits_enable.eq(0)]
                with m.Case(Command.WRITE, Command.READ, Command.CHECK):
                    with m.If(outside):
                        s.answer_with(m, ErrorCode.RANGE)
                    with m.Else():
                        m.d.comb += self.restart.eq(1)
                        m.d.sync += [self.memory_mode.eq(1), s.steps.eq(self._config.word_bytes)]
                        m.next = "SETTLE"
                with m.Case(Command.BOOT):
                    m.d.comb += self.restart.eq(1)
                    m.d.sync += self.memory_mode.eq(0)
                    m.next = "SETTLE"
                with m.Case(Command.SEED):
                    m.d.comb += self.reseed.eq(1)
                with m.Case(Command.TEMPERATURE):
                    if batch == 1:
                        m.d.sync += self.inv_temperature.eq(argument)
                    else:
                        m.d.sync += Array(self.inv_temperature)[self.slot].eq(argument)
                with m.Case(Command.LOAD):
                    m.d.comb += runner.begin.eq(1)
                    m.d.sync += [self.logits_enable.eq(argument[17]), s.steps.eq(self._entry_bytes)]
                    with m.If(s.count != 0):
                        m.next = "TAKE"
                with m.Case(Command.WRITE_STATE):
                    m.d.sync += s.steps.eq(_ELEMENT_BYTES)
                    with m.If(s.count != 0):
                        m.next = "TAKE"
                if batch > 1:
                    with m.Case(Command.SLOT):
                        m.d.sync += self.slot.eq(argument)
                with m.Default():
                    s.answer_with(m, ErrorCode.UNKNOWN_COMMAND)

    def _build_data(self, m: Module, s: CommandRegisters, runner: Runner, outside: Value) -> None:
        """Data of a command: words for the memory, tokens, elements of the state."""
        with m.State("TAKE"):
            s.take(m, s.shift, "STORE")
            with m.If(s.port.spent):
                s.answer_with(m, ErrorCode.LENGTH)
        with m.State("STORE"):
            stored = Signal()
            with m.Switch(s.operation):
                with m.Case(Command.WRITE):
                    m.d.comb += [self.write.valid.eq(~outside), stored.eq(self.write.ready & ~outside), s.waiting.eq(1)]
                    m.d.sync += s.steps.eq(self._config.word_bytes)
                    with m.If(outside):
                        s.answer_with(m, ErrorCode.RANGE)
                with m.Case(Command.LOAD):
                    m.d.comb += [runner.load.valid.eq(1), stored.eq(1)]
                    m.d.sync += s.steps.eq(self._entry_bytes)
                with m.Default():
                    m.d.comb += [self.state_access.eq(1), self.state_write.eq(1), stored.eq(1)]
                    m.d.sync += s.steps.eq(_ELEMENT_BYTES)
            with m.If(stored):
                m.d.comb += [s.advance.eq(1), s.count_word.eq(1)]
                m.next = "TAKE"
                with m.If((s.operation == Command.WRITE) & self.write_failed):
                    s.give_up(m)
                with m.Elif(s.count == 1):
                    m.next = "ANSWER"
                    with m.If(~s.port.spent):
                        s.answer_with(m, ErrorCode.LENGTH)
            with m.Elif(s.impatient):
                s.give_up(m)

    def _build_tokens(self, m: Module, s: CommandRegisters, runner: Runner) -> None:
        """POLL's wait for a token at its position."""
        with m.State("SEEK"):
            m.next = "TOKENS"
        with m.State("TOKENS"), m.If(runner.available | ~runner.running | s.port.pending | (s.count == 0)):
            s.answer_with(m, Mux(runner.available | runner.running, 0, runner.stopped))

    def _build_memory(self, m: Module, s: CommandRegisters, outside: Value) -> None:
        """Memory and tape; the token loop is in reset for the cycle after `restart`, which is SETTLE."""
        with m.State("SETTLE"), m.Switch(s.operation):
            with m.Case(Command.WRITE):
                m.next = "TAKE"
                with m.If(s.count == 0):
                    m.next = "ANSWER"
            with m.Case(Command.READ):
                m.next = "ANSWER"
            with m.Case(Command.CHECK):
                m.next = "MORE"
            with m.Default():
                m.next = "BOOT"
        with m.State("BOOT"):
            m.d.comb += self.boot.valid.eq(1)
            with m.If(self.boot.ready):
                m.next = "BOOTING"
        with m.State("BOOTING"):
            m.d.comb += s.waiting.eq(1)
            with m.If(self.configured | self.fault):
                m.next = "ANSWER"
            with m.Elif(s.impatient):
                s.give_up(m)
        with m.State("REQUEST"):
            m.d.comb += [self.requests.valid.eq(~outside), s.waiting.eq(1)]
            with m.If(outside):
                s.give_up(m, ErrorCode.RANGE)
            with m.Elif(self.requests.ready):
                m.next = "FETCH"
            with m.Elif(s.impatient):
                s.give_up(m)
        with m.State("FETCH"):
            m.d.comb += [self.words.ready.eq(1), s.waiting.eq(1)]
            with m.If(s.failed | self.read_failed | s.impatient):
                s.give_up(m)
            with m.Elif(self.words.valid):
                m.d.comb += [s.fetch.eq(1), s.advance.eq(1), s.count_word.eq(1)]
                m.d.sync += s.steps.eq(self._config.word_bytes)
                m.next = "GIVE"

    def _build_more(self, m: Module, s: CommandRegisters, runner: Runner) -> None:
        """What comes behind the head, one value at a time."""
        count = s.count
        with m.State("MORE"):
            m.next = "END"
            with m.If(s.status == 0), m.Switch(s.operation):
                with m.Case(Command.IDENTIFY):
                    m.d.sync += s.steps.eq(len(self._identity))
                    m.next = "CONSTANT"
                with m.Case(Command.POLL):
                    news = self.damaged & ~s.told  # a token must not come behind a head that does not know of them
                    with m.If((count != 0) & runner.available & ~news):
                        m.d.comb += runner.take.eq(1)
                        s.give(m, 2)
                    if isinstance(runner, StepRunner):
                        with m.Elif((count != 0) & runner.partial & runner.running & ~s.port.pending & ~news):
                            m.next = "MORE"
                with m.Case(Command.LOGITS), m.If(count != 0):
                    m.next = "MORE"
                    with m.If(self.logits.valid):
                        m.d.comb += self.logits.ready.eq(1)
                        s.give(m, _ELEMENT_BYTES)
                    with m.Elif(~runner.running | s.port.pending):
                        m.next = "END"
                with m.Case(Command.COUNTERS, Command.READ_STATE), m.If(count != 0):
                    m.d.sync += s.steps.eq(self.STATE_LATENCY)
                    m.next = "LOOK"
                with m.Case(Command.READ, Command.CHECK):
                    with m.If(count != 0):
                        m.next = "REQUEST"
                    with m.Elif(~s.answered):
                        m.next = "MORE"
                        with m.If(s.port.reply.ready):
                            m.d.comb += s.summed.eq(1)
                            m.next = "ANSWER"

    def _build_values(self, m: Module, s: CommandRegisters) -> None:
        """How a value gets into the reply."""
        frame, reply = s.port.frame, s.port.reply
        with m.State("GIVE"):
            m.d.comb += reply.valid.eq(1)
            with m.If(~s.answered):
                m.d.comb += reply.payload.part.eq(Part.CHECKED)
            m.d.comb += s.shift.eq(reply.ready)
            with m.If(reply.ready & (s.steps == 1)):
                m.next = "MORE"
        with m.State("CONSTANT"):
            m.d.comb += [reply.payload.byte.eq(frame.payload), reply.valid.eq(frame.valid), frame.ready.eq(reply.ready)]
            with m.If(frame.valid & frame.ready):
                m.d.sync += s.steps.eq(s.steps - 1)
                with m.If(s.steps == 1):
                    m.next = "END"
        with m.State("LOOK"):
            m.d.comb += self.state_access.eq(s.operation == Command.READ_STATE)
            m.d.sync += s.steps.eq(s.steps - 1)
            with m.If(s.steps == 0):
                m.d.comb += s.advance.eq(1)
                s.give(m, _ELEMENT_BYTES)
                with m.If(s.operation == Command.COUNTERS):
                    m.d.sync += s.steps.eq(4)
