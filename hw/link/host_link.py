"""Host link: the byte-stream protocol of docs/protocol.md, from any byte pipe to the token loop."""

from __future__ import annotations

import enum

from amaranth.hdl import Array, Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.hw.config import Config
from tritape.hw.memory.signature import write_word
from tritape.hw.tape.reader import TokenRequest

PROTOCOL_VERSION = 1
REPLY = 0x80
"""A reply's first byte is the command's plus this."""
ERROR = 0xFF
"""First byte of an error reply; an `ErrorCode` follows."""


class Command(enum.IntEnum):
    """First byte of what the host sends; docs/protocol.md lists the fields that follow."""

    IDENTIFY = 1
    WRITE = 2
    BOOT = 3
    SETTINGS = 4
    RESET = 5
    FEED = 6
    GENERATE = 7
    COUNTERS = 8


class ErrorCode(enum.IntEnum):
    """Second byte of an error reply."""

    UNKNOWN_COMMAND = 1
    NOT_BOOTED = 2
    TOKEN_RANGE = 3
    FAULT = 4


class HostLink(wiring.Component):
    """Obeys the host's commands one at a time: identify, write memory, boot, settings, reset, feed, generate, counters.

    Ports:

    - `rx`, `tx`: streams of bytes from and to the host, over whatever the board has.
    - `write`: stream of {address u32, word} to the memory, in words of G bytes.
    - `restart`: high for one cycle at BOOT, to reset the token loop in the next cycle; after that `boot`: stream, one
      transfer starts reading the HEADER section. `configured`, `fault`, `fault_code`: its outcome.
    - `tokens`: stream of {token u16, fresh u1} into the token loop; `results`: the token that the head chose.
    - `inv_temperature`, `seed`, `reseed`: the sampler's settings; `reseed` is high for the cycle in which `seed` changes.
    - `vocabulary`: of the loaded tape; a token outside it is refused.
    - `counters`: `counter_count` values of 32 bits, low first; `running`: high from a token's start to its result.

    Stream rules: a reply is sent whole before the next command is read; one byte a cycle either way. No command
    changes anything once it has answered with an error. Cost: about 980 LUT4 on ECP5, no memory, no multiplier.
    Tested: every command and error, random stalls, G = 4, 13 (tests/test_hw_host_link.py). Source: docs/protocol.md.
    """

    def __init__(self, config: Config, *, memory_words: int, counter_count: int) -> None:
        self._config = config
        self._identity = identity(config, memory_words)
        self._counter_count = counter_count
        super().__init__(
            {
                "rx": In(stream.Signature(8)),
                "tx": Out(stream.Signature(8)),
                "write": Out(stream.Signature(write_word(config.groups))),
                "restart": Out(1),
                "boot": Out(stream.Signature(1)),
                "configured": In(1),
                "fault": In(1),
                "fault_code": In(8),
                "vocabulary": In(32),
                "tokens": Out(stream.Signature(TokenRequest)),
                "results": In(stream.Signature(16)),
                "inv_temperature": Out(17),
                "seed": Out(32),
                "reseed": Out(1),
                "running": Out(1),
                "counters": In(32 * counter_count),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        groups = self._config.groups
        command = Signal(8)
        fields = Signal(64)  # little-endian command fields, shifted in from the top
        wanted = Signal(range(max(groups, 8) + 1))  # bytes still to come of what is being collected
        word = Signal(8 * groups)
        address = Signal(32)
        count = Signal(16)
        token = Signal(16)
        fresh = Signal(init=1)

        reply = Array([Signal(8, name=f"reply{i}") for i in range(3)])
        reply_length = Signal(range(4))
        reply_index = Signal(range(4))
        bulk_length = Signal(range(max(len(self._identity), 4 * self._counter_count + 1) + 1))
        bulk_index = Signal.like(bulk_length)
        bulk_byte = Signal(8)

        identity = Array([Const(byte, 8) for byte in self._identity])
        counter_bytes = Array(
            [Const(self._counter_count, 8)] + [self.counters.word_select(i, 8) for i in range(4 * self._counter_count)]
        )
        m.d.comb += bulk_byte.eq(counter_bytes[bulk_index])
        with m.If(command == Command.IDENTIFY):
            m.d.comb += bulk_byte.eq(identity[bulk_index])

        m.d.sync += self.reseed.eq(0)
        m.d.comb += [
            self.write.payload.address.eq(address),
            self.write.payload.word.eq(word),
            self.tokens.payload.token.eq(token),
            self.tokens.payload.fresh.eq(fresh),
        ]

        def answer(*data: object, bulk: int = 0) -> list:
            """Statements that queue a reply of up to three bytes and `bulk` more from the identity or the counters."""
            return [
                *(reply[i].eq(byte) for i, byte in enumerate(data)),
                reply_length.eq(len(data)),
                reply_index.eq(0),
                bulk_length.eq(bulk),
                bulk_index.eq(0),
            ]

        def take(register: Signal, length: int, done: str) -> None:
            """Shift `length` bytes into the top of `register`, then go on."""
            m.d.comb += self.rx.ready.eq(1)
            with m.If(self.rx.valid):
                m.d.sync += [register.eq(Cat(register[8:], self.rx.payload)), wanted.eq(wanted - 1)]
                with m.If(wanted == 1):
                    m.next = done

        field = {length: fields[64 - 8 * length :] for length in (2, 6, 8)}
        with m.FSM():
            with m.State("COMMAND"):
                m.d.comb += self.rx.ready.eq(1)
                with m.If(self.rx.valid):
                    m.d.sync += command.eq(self.rx.payload)
                    m.next = "DECODE"
            with m.State("DECODE"):
                m.next = "REPLY"
                with m.Switch(command):
                    with m.Case(Command.IDENTIFY):
                        m.d.sync += answer(command | REPLY, bulk=len(self._identity))
                    with m.Case(Command.COUNTERS):
                        m.d.sync += answer(command | REPLY, bulk=4 * self._counter_count + 1)
                    with m.Case(Command.WRITE):
                        m.d.sync += wanted.eq(6)
                        m.next = "FIELDS"
                    with m.Case(Command.SETTINGS):
                        m.d.sync += wanted.eq(8)
                        m.next = "FIELDS"
                    with m.Case(Command.FEED, Command.GENERATE):
                        m.d.sync += wanted.eq(2)
                        m.next = "FIELDS"
                    with m.Case(Command.BOOT):
                        m.next = "RESTART"
                    with m.Case(Command.RESET):
                        m.d.sync += [fresh.eq(1), *answer(command | REPLY)]
                    with m.Default():
                        m.d.sync += answer(ERROR, ErrorCode.UNKNOWN_COMMAND)
            with m.State("FIELDS"):
                take(fields, 8, "EXECUTE")
            with m.State("EXECUTE"), m.Switch(command):
                with m.Case(Command.WRITE):
                    m.d.sync += [address.eq(field[6][:32]), count.eq(field[6][32:]), wanted.eq(groups)]
                    m.next = "WORD"
                    with m.If(field[6][32:] == 0):
                        m.d.sync += answer(command | REPLY)
                        m.next = "REPLY"
                with m.Case(Command.SETTINGS):
                    m.d.sync += [
                        self.inv_temperature.eq(field[8][:32]),
                        self.seed.eq(field[8][32:]),
                        self.reseed.eq(1),
                        *answer(command | REPLY),
                    ]
                    m.next = "REPLY"
                with m.Default():  # FEED, GENERATE
                    m.d.sync += [count.eq(field[2]), wanted.eq(2)]
                    m.next = "NEXT"
            with m.State("WORD"):
                take(word, groups, "WRITE")
            with m.State("WRITE"):
                m.d.comb += self.write.valid.eq(1)
                with m.If(self.write.ready):
                    m.d.sync += [address.eq(address + 1), count.eq(count - 1), wanted.eq(groups)]
                    m.next = "WORD"
                    with m.If(count == 1):
                        m.d.sync += answer(command | REPLY)
                        m.next = "REPLY"
            with m.State("RESTART"):
                m.d.comb += self.restart.eq(1)
                m.next = "SETTLE"
            with m.State("SETTLE"):  # the token loop is in reset for the cycle after `restart`
                m.next = "BOOT"
            with m.State("BOOT"):
                m.d.comb += self.boot.valid.eq(1)
                with m.If(self.boot.ready):
                    m.next = "BOOTING"
            with m.State("BOOTING"), m.If(self.configured | self.fault):
                m.d.sync += [fresh.eq(1), *answer(command | REPLY, self.fault_code)]
                m.next = "REPLY"
            with m.State("NEXT"):  # the next token of a FEED or GENERATE, or the end of either
                with m.If(count == 0):
                    m.d.sync += answer(command | REPLY, token[:8], token[8:])
                    with m.If(command == Command.GENERATE):
                        m.d.sync += reply_length.eq(0)
                    m.next = "REPLY"
                with m.Elif(command == Command.FEED):
                    m.next = "TOKEN"
                with m.Else():
                    m.next = "CHECK"
            with m.State("TOKEN"):
                take(fields, 2, "FED")
            with m.State("FED"):
                m.d.sync += token.eq(field[2])
                m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += count.eq(count - 1)
                m.next = "REFUSE"
                with m.If(self.fault):
                    m.d.sync += answer(ERROR, ErrorCode.FAULT)
                with m.Elif(~self.configured):
                    m.d.sync += answer(ERROR, ErrorCode.NOT_BOOTED)
                with m.Elif(token >= self.vocabulary):
                    m.d.sync += answer(ERROR, ErrorCode.TOKEN_RANGE)
                with m.Else():
                    m.next = "START"
            with m.State("REFUSE"):  # drop the rest of a FEED, so that the next byte is a command again
                m.d.sync += wanted.eq(2)
                m.next = "REPLY"
                with m.If((command == Command.FEED) & (count != 0)):
                    m.next = "DROP"
            with m.State("DROP"):
                m.d.comb += self.rx.ready.eq(1)
                with m.If(self.rx.valid):
                    m.d.sync += wanted.eq(wanted - 1)
                    with m.If(wanted == 1):
                        m.d.sync += count.eq(count - 1)
                        m.next = "REFUSE"
            with m.State("START"):
                m.d.comb += [self.tokens.valid.eq(1), self.running.eq(1)]
                with m.If(self.tokens.ready):
                    m.d.sync += fresh.eq(0)
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += [self.results.ready.eq(1), self.running.eq(1)]
                with m.If(self.results.valid):
                    m.d.sync += [token.eq(self.results.payload), wanted.eq(2)]
                    m.next = "NEXT"
                    with m.If(command == Command.GENERATE):
                        m.d.sync += answer(command | REPLY, self.results.payload[:8], self.results.payload[8:])
                        m.next = "REPLY"
                with m.Elif(self.fault):
                    m.d.sync += answer(ERROR, ErrorCode.FAULT)
                    m.next = "REFUSE"
            with m.State("REPLY"):
                m.d.comb += self.tx.payload.eq(reply[reply_index])
                with m.If(reply_index != reply_length):
                    m.d.comb += self.tx.valid.eq(1)
                    with m.If(self.tx.ready):
                        m.d.sync += reply_index.eq(reply_index + 1)
                with m.Elif(bulk_index != bulk_length):
                    m.d.comb += [self.tx.valid.eq(1), self.tx.payload.eq(bulk_byte)]
                    with m.If(self.tx.ready):
                        m.d.sync += bulk_index.eq(bulk_index + 1)
                with m.Elif((command == Command.GENERATE) & (count != 0) & (reply[0] != ERROR)):
                    m.next = "CHECK"
                with m.Else():
                    m.next = "COMMAND"
        return m


def identity(config: Config, memory_words: int) -> bytes:
    """What IDENTIFY answers behind its first byte: 27 bytes, laid out in docs/protocol.md."""
    return (
        PROTOCOL_VERSION.to_bytes(1, "little")
        + config.hash64().to_bytes(8, "little")
        + b"".join(
            value.to_bytes(2, "little")
            for value in (config.groups, config.max_hidden, config.max_intermediate, config.max_layers, config.max_rows)
        )
        + config.max_vocab.to_bytes(4, "little")
        + memory_words.to_bytes(4, "little")
    )
