"""Host link: obeys the commands of docs/protocol.md, from any pipe of bytes to the token loop."""

from __future__ import annotations

import enum

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.hw.config import Config
from tritape.hw.link.frame_port import FRAME_BYTES, HEADER_BYTES, FramePort, Part
from tritape.hw.link.step_runner import StepRunner
from tritape.hw.link.token_runner import TokenRunner
from tritape.hw.memory.signature import Request, write_word
from tritape.hw.tape.reader import SlotRequest, TokenRequest

PROTOCOL_VERSION = 2
BATCH_VERSION = 3
"""Version that a device with several slots tells: version 2 and what docs/protocol.md says of slots."""
REPLY = 0x80
"""A reply's first byte is the command's plus this."""
DATA_BYTES = FRAME_BYTES - 4 - HEADER_BYTES
"""Most bytes behind the header of a command or a reply: the host must not ask for more."""
IDLE = 0x10
"""Bit of the commands that are refused (BUSY) while tokens run."""


class Command(enum.IntEnum):
    """First byte of a command; docs/protocol.md lists argument, count and data of each."""

    IDENTIFY = 0x01
    POLL = 0x02
    STOP = 0x03
    LOGITS = 0x04
    COUNTERS = 0x05
    WRITE = 0x10
    READ = 0x11
    CHECK = 0x12
    BOOT = 0x13
    SEED = 0x14
    TEMPERATURE = 0x15
    LOAD = 0x16
    READ_STATE = 0x17
    WRITE_STATE = 0x18
    SLOT = 0x19  # only with several slots


class ErrorCode(enum.IntEnum):
    """Third byte of a reply; 0: obeyed."""

    UNKNOWN_COMMAND = 1
    NOT_BOOTED = 2
    FAULT = 3
    BUSY = 4


class HostLink(wiring.Component):
    """Obeys the host one command at a time: identify, write, read and check memory, boot, sampler, run tokens, state.

    Parameters
        config, memory_words: what IDENTIFY tells; counter_count: counters that there are

    Ports:

    - `rx`, `tx`: streams of bytes from and to the host, over whatever the board has.
    - `write`: stream of {address u32, word} to the memory, in words of G bytes; `requests`: stream of {address, length 1},
      only while `memory_mode` is high; `words`: the answers, which must then not go elsewhere.
    - `restart`: high for one cycle before memory is written or read and at BOOT, to reset the token loop in the next cycle.
      After BOOT's, `boot`: stream, one transfer starts reading the HEADER section. `configured`, `fault`, `fault_code`: its
      outcome.
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
    being obeyed again. A wait for tokens, logits or an idle token loop ends with the next byte from the host, so that a host
    is never shut out. Cost: two block RAMs of 512 bytes and, all parts included, 927 iCE40 LUT4 at G = 4 (yosys, flat).
    Tested: every command and error, random stalls, G = 4, 13 (tests/test_hw_host_link.py). Source: docs/protocol.md.
    Errors: `TritapeError` for G beyond `DATA_BYTES`.
    """

    STATE_LATENCY = 5

    def __init__(self, config: Config, *, memory_words: int, counter_count: int) -> None:
        if config.word_bytes > DATA_BYTES:
            raise TritapeError(
                f"engines times groups must be at most {DATA_BYTES} for the host link, not {config.word_bytes}; "
                "a word must fit in a frame"
            )
        self._config = config
        self._identity = identity(config, memory_words)
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
                "fault_code": In(8),
                **_loop_ports(config.batch),
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
        groups = self._config.word_bytes
        m.submodules.port = port = FramePort(self._identity)
        batch = self._config.batch
        runner: TokenRunner | StepRunner = TokenRunner() if batch == 1 else StepRunner(batch)
        m.submodules.runner = runner
        wiring.connect(m, wiring.flipped(self.rx), port.rx)
        wiring.connect(m, port.tx, wiring.flipped(self.tx))
        if isinstance(runner, TokenRunner):
            wiring.connect(m, runner.tokens, wiring.flipped(self.tokens))
        else:
            wiring.connect(m, runner.steps, wiring.flipped(self.steps))
        wiring.connect(m, wiring.flipped(self.results), runner.answers)

        header = Signal(8 * HEADER_BYTES, reset_less=True)  # of the command; it turns round once for the reply
        kind, argument, count = header[:8], header[16:48], header[48:]
        operation = kind[:5]  # of a known command
        word = Signal(max(8 * groups, 32), reset_less=True)  # bytes come in at the top and go out at the bottom
        steps = Signal(range(max(groups, len(self._identity)) + 1))  # bytes still to be moved, or cycles to wait
        status = Signal(3)
        answered = Signal()  # the head of the reply is on its way
        flags = Cat(self.fault_code[:4], runner.running, self.configured, self.fault, 0)
        small = Signal(32)  # what a reply may tell besides memory

        m.d.comb += small.eq(self.counter)
        with m.Switch(operation):
            with m.Case(Command.POLL):
                m.d.comb += small[:16].eq(runner.chosen)
            with m.Case(Command.LOGITS):
                m.d.comb += small[:18].eq(self.logits.payload)
            with m.Case(Command.READ_STATE):
                m.d.comb += small[:18].eq(self.state_value)
        m.d.comb += [
            self.seed.eq(argument),
            self.running.eq(runner.busy),
            runner.configured.eq(self.configured),
            runner.fault.eq(self.fault),
            runner.place.eq(argument[:8]),
            runner.limit.eq(argument[8:16]),
            *self._loaded(runner, argument, word),
            self.write.payload.address.eq(argument),
            self.write.payload.word.eq(word[-8 * groups :]),
            self.requests.payload.address.eq(argument),
            self.requests.payload.length.eq(1),
            self.state_address.eq(argument),
            self.state_data.eq(word[-24:-6]),
            self.counter_index.eq(argument),
            port.reply.payload.byte.eq(word[:8]),
        ]
        entry_bytes = 2 if batch == 1 else 3
        # What a cycle does to the wide registers: few kinds of change, each for the whole register, are small.
        turn, shift, load, fetch = Signal(), Signal(), Signal(), Signal()
        count_word, advance, summed = Signal(), Signal(), Signal()
        turned = Cat(header[8:], Mux(answered, header[:8], port.frame.payload))
        with m.If(turn):
            m.d.sync += header[:16].eq(turned)
        with m.If(turn | count_word):
            m.d.sync += count.eq(Mux(turn, turned[48:], count - 1))
        low = argument[: self._address_bits]
        with m.If(turn | summed | advance):
            later = Cat((low + 1)[: self._address_bits], argument[self._address_bits :])
            m.d.sync += argument.eq(Mux(turn, turned[16:48], Mux(summed, port.checksum, later)))
        with m.If(shift | load | fetch):
            fetched = self.words.payload
            loaded = Cat(Mux(load, small, fetched[:32]), fetched[32:])
            m.d.sync += word.eq(Mux(shift, Cat(word[8:], port.frame.payload), loaded))
        with m.If(turn | shift):
            m.d.sync += steps.eq(steps - 1)

        def take(moved: Signal, done: str) -> None:
            """Shift `steps` bytes of the command into the top of a register, then go on."""
            m.d.comb += [port.frame.ready.eq(1), moved.eq(port.frame.valid)]
            with m.If(port.frame.valid & (steps == 1)):
                m.next = done

        def give(length: int) -> None:
            """Put `length` bytes of `small` into the reply, then come back to MORE."""
            m.d.comb += [load.eq(1), count_word.eq(1)]
            m.d.sync += steps.eq(length)
            m.next = "GIVE"

        def answer_with(code: Value | int) -> None:
            m.d.sync += status.eq(code)
            m.next = "ANSWER"

        with m.FSM():
            with m.State("COMMAND"):
                m.d.sync += [steps.eq(HEADER_BYTES), status.eq(0), answered.eq(0)]
                m.next = "HEADER"
            with m.State("HEADER"):
                take(turn, "ADMIT")
            with m.State("ADMIT"):
                with m.If(((kind & IDLE) == 0) | ~runner.running):
                    m.next = "DECODE"
                with m.Elif(port.pending):
                    answer_with(ErrorCode.BUSY)

            with m.State("DECODE"):
                m.next = "ANSWER"
                with m.Switch(operation):
                    with m.Case(Command.IDENTIFY, Command.STOP):
                        m.d.comb += runner.stop.eq(1)
                        m.d.sync += self.logits_enable.eq(0)
                    with m.Case(Command.POLL):
                        m.d.comb += runner.go.eq(1)
                        m.next = "SEEK"
                    with m.Case(Command.LOGITS, Command.COUNTERS, Command.READ_STATE):
                        pass
                    with m.Case(Command.WRITE, Command.READ, Command.CHECK):
                        m.d.comb += self.restart.eq(1)
                        m.d.sync += [self.memory_mode.eq(1), steps.eq(groups)]
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
                        m.d.sync += [self.logits_enable.eq(argument[17]), steps.eq(entry_bytes)]
                        with m.If(count != 0):
                            m.next = "TAKE"
                    with m.Case(Command.WRITE_STATE):
                        m.d.sync += steps.eq(3)
                        with m.If(count != 0):
                            m.next = "TAKE"
                    if batch > 1:
                        with m.Case(Command.SLOT):
                            m.d.sync += self.slot.eq(argument)
                    with m.Default():
                        answer_with(ErrorCode.UNKNOWN_COMMAND)
                with m.If(kind[5:] != 0):
                    answer_with(ErrorCode.UNKNOWN_COMMAND)

            # What happens before the reply.
            with m.State("TAKE"):
                take(shift, "STORE")
            with m.State("STORE"):
                stored = Signal()
                with m.Switch(operation):
                    with m.Case(Command.WRITE):
                        m.d.comb += [self.write.valid.eq(1), stored.eq(self.write.ready)]
                        m.d.sync += steps.eq(groups)
                    with m.Case(Command.LOAD):
                        m.d.comb += [runner.load.valid.eq(1), stored.eq(1)]
                        m.d.sync += steps.eq(entry_bytes)
                    with m.Default():
                        m.d.comb += [self.state_access.eq(1), self.state_write.eq(1), stored.eq(1)]
                        m.d.sync += steps.eq(3)
                with m.If(stored):
                    m.d.comb += [advance.eq(1), count_word.eq(1)]
                    m.next = "TAKE"
                    with m.If(count == 1):
                        m.next = "ANSWER"
            with m.State("SEEK"):
                m.next = "TOKENS"
            with m.State("TOKENS"), m.If(runner.available | ~runner.running | port.pending | (count == 0)):
                answer_with(Mux(runner.available | runner.running, 0, runner.stopped))
            # The token loop is in reset for the cycle after `restart`.
            with m.State("SETTLE"), m.Switch(operation):
                with m.Case(Command.WRITE):
                    m.next = "TAKE"
                    with m.If(count == 0):
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
            with m.State("BOOTING"), m.If(self.configured | self.fault):
                m.next = "ANSWER"

            # The reply: its head, then what MORE finds.
            with m.State("ANSWER"):
                m.d.sync += [answered.eq(1), steps.eq(HEADER_BYTES)]
                m.next = "HEAD"
            with m.State("HEAD"):  # kind and sequence number, argument; status and flags in the count's place
                m.d.comb += [port.reply.valid.eq(1), port.reply.payload.byte.eq(header[:8])]
                with m.Switch(steps):
                    with m.Case(HEADER_BYTES):
                        m.d.comb += port.reply.payload.byte[7].eq(1)
                    with m.Case(2):
                        m.d.comb += port.reply.payload.byte.eq(status)
                    with m.Case(1):
                        m.d.comb += port.reply.payload.byte.eq(flags)
                m.d.comb += turn.eq(port.reply.ready)
                with m.If(port.reply.ready & (steps == 1)):
                    m.next = "MORE"
            with m.State("GIVE"):
                m.d.comb += port.reply.valid.eq(1)
                with m.If(~answered):
                    m.d.comb += port.reply.payload.part.eq(Part.CHECKED)
                m.d.comb += shift.eq(port.reply.ready)
                with m.If(port.reply.ready & (steps == 1)):
                    m.next = "MORE"
            with m.State("MORE"):
                m.next = "END"
                with m.If(status == 0), m.Switch(operation):
                    with m.Case(Command.IDENTIFY):
                        m.d.sync += steps.eq(len(self._identity))
                        m.next = "CONSTANT"
                    with m.Case(Command.POLL):
                        with m.If((count != 0) & runner.available):
                            m.d.comb += runner.take.eq(1)
                            give(2)
                        if isinstance(runner, StepRunner):
                            with m.Elif((count != 0) & runner.partial):
                                m.next = "MORE"
                    with m.Case(Command.LOGITS), m.If(count != 0):
                        m.next = "MORE"
                        with m.If(self.logits.valid):
                            m.d.comb += self.logits.ready.eq(1)
                            give(3)
                        with m.Elif(~runner.running | port.pending):
                            m.next = "END"
                    with m.Case(Command.COUNTERS, Command.READ_STATE), m.If(count != 0):
                        m.d.sync += steps.eq(self.STATE_LATENCY)
                        m.next = "LOOK"
                    with m.Case(Command.READ, Command.CHECK):
                        with m.If(count != 0):
                            m.next = "REQUEST"
                        with m.Elif(~answered):
                            m.next = "MORE"
                            with m.If(port.reply.ready):
                                m.d.comb += summed.eq(1)
                                m.next = "ANSWER"
            with m.State("CONSTANT"):
                m.d.comb += [
                    port.reply.payload.byte.eq(port.frame.payload),
                    port.reply.valid.eq(port.frame.valid),
                    port.frame.ready.eq(port.reply.ready),
                ]
                with m.If(port.frame.valid & port.frame.ready):
                    m.d.sync += steps.eq(steps - 1)
                    with m.If(steps == 1):
                        m.next = "END"
            with m.State("REQUEST"):
                m.d.comb += self.requests.valid.eq(1)
                with m.If(self.requests.ready):
                    m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += self.words.ready.eq(1)
                with m.If(self.words.valid):
                    m.d.comb += [fetch.eq(1), advance.eq(1), count_word.eq(1)]
                    m.d.sync += steps.eq(groups)
                    m.next = "GIVE"
            with m.State("LOOK"):
                m.d.comb += self.state_access.eq(operation == Command.READ_STATE)
                m.d.sync += steps.eq(steps - 1)
                with m.If(steps == 0):
                    m.d.comb += advance.eq(1)
                    give(3)
                    with m.If(operation == Command.COUNTERS):
                        m.d.sync += steps.eq(4)
            with m.State("END"):
                m.d.comb += [port.reply.valid.eq(1), port.reply.payload.part.eq(Part.END)]
                with m.If(port.reply.ready):
                    m.next = "COMMAND"
        return m

    @staticmethod
    def _loaded(runner: TokenRunner | StepRunner, argument: Value, word: Value) -> list:
        """What LOAD and POLL tell the runner in the argument, and what LOAD's data are in the top of `word`."""
        if isinstance(runner, TokenRunner):
            return [runner.fresh.eq(argument[16]), runner.load.payload.eq(word[-16:])]
        entry = Cat(runner.load.payload)
        return [runner.going.eq(argument[16:]), entry.eq(word[-24:][: len(entry)])]


def _loop_ports(batch: int) -> dict[str, wiring.Member]:
    """Ports of `HostLink` that are not the same for one slot and for several."""
    if batch == 1:
        return {
            "tokens": Out(stream.Signature(TokenRequest)),
            "results": In(stream.Signature(16)),
            "inv_temperature": Out(17),
        }
    return {
        "steps": Out(stream.Signature(data.ArrayLayout(SlotRequest, batch))),
        "results": In(stream.Signature(data.ArrayLayout(16, batch))),
        "inv_temperature": Out(17).array(batch),
        "slot": Out(range(batch)),
    }


def identity(config: Config, memory_words: int) -> bytes:
    """What IDENTIFY tells behind the head of its reply, laid out in docs/protocol.md."""
    return (
        (PROTOCOL_VERSION if config.batch == 1 else BATCH_VERSION).to_bytes(1, "little")
        + config.hash64().to_bytes(8, "little")
        + b"".join(
            value.to_bytes(2, "little")
            for value in (
                config.geometry_code,
                config.max_hidden,
                config.max_intermediate,
                config.max_layers,
                config.max_rows,
            )
        )
        + config.max_vocab.to_bytes(4, "little")
        + memory_words.to_bytes(4, "little")
        + (bytes([config.batch]) if config.batch > 1 else b"")
    )
