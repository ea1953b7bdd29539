"""The registers of the host link in which a command turns round and becomes its reply."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value

from tritape.hw.link.commands import ErrorCode
from tritape.hw.link.frame_port import HEADER_BYTES, FramePort, Part


class CommandRegisters:
    """Header, data word and counters of the command that `HostLink` obeys, and the few changes that a cycle makes to them.

    Made for the FSM of `HostLink`, whose states raise the flags `turn` to `summed`; each flag changes a whole register,
    because few kinds of change are small. `take`, `give` and `answer_with` are called inside a state.

    Parameters
        port: where the bytes come from and go to; word_bytes: of a word of memory; identity_bytes: longest run of bytes
        that `steps` counts besides; address_bits: of the argument that counts on
    """

    def __init__(self, port: FramePort, word_bytes: int, identity_bytes: int, address_bits: int) -> None:
        self.port = port
        self._address_bits = address_bits
        self.header = Signal(8 * HEADER_BYTES, reset_less=True, name="header")  # it turns round once for the reply
        self.word = Signal(max(8 * word_bytes, 32), reset_less=True, name="word")  # bytes come in at the top
        self.steps = Signal(range(max(word_bytes, identity_bytes) + 1), name="steps")  # bytes to move or cycles to wait
        self.status = Signal(3, name="status")
        self.answered = Signal(name="answered")  # the head of the reply is on its way
        self.told = Signal(name="told")  # and says that something was damaged
        self.waiting = Signal(name="waiting")  # the memory is waited for
        self.impatient = Signal(name="impatient")  # and has had its time
        self.failed = Signal(name="failed")  # the memory told of an error
        self.small = Signal(32, name="small")  # what a reply may tell besides memory
        self.turn = Signal(name="turn")  # the header by a byte
        self.shift = Signal(name="shift")  # the word by a byte
        self.load = Signal(name="load")  # `small` into the word
        self.fetch = Signal(name="fetch")  # a word of memory into the word
        self.count_word = Signal(name="count_word")  # one fewer to go
        self.advance = Signal(name="advance")  # the argument becomes the next address
        self.summed = Signal(name="summed")  # the argument becomes the check sum

    @property
    def kind(self) -> Value:
        """First byte of the command."""
        return self.header[:8]

    @property
    def operation(self) -> Value:
        """`kind` of a command that is known."""
        return self.header[:5]

    @property
    def argument(self) -> Value:
        """Argument of the command, then of the reply."""
        return self.header[16:48]

    @property
    def count(self) -> Value:
        """What the command still has to take or to give."""
        return self.header[48:]

    def build(self, m: Module, fetched: Value) -> None:
        """The changes; `fetched` is the word of memory."""
        header, argument, count, word = self.header, self.argument, self.count, self.word
        byte = self.port.frame.payload
        turned = Cat(header[8:], Mux(self.answered, header[:8], byte))
        with m.If(self.turn):
            m.d.sync += header[:16].eq(turned)
        with m.If(self.turn | self.count_word):
            m.d.sync += count.eq(Mux(self.turn, turned[48:], count - 1))
        low = argument[: self._address_bits]
        with m.If(self.turn | self.summed | self.advance):
            later = Cat((low + 1)[: self._address_bits], argument[self._address_bits :])
            m.d.sync += argument.eq(Mux(self.turn, turned[16:48], Mux(self.summed, self.port.checksum, later)))
        with m.If(self.shift | self.load | self.fetch):
            loaded = Cat(Mux(self.load, self.small, fetched[:32]), fetched[32:])
            m.d.sync += word.eq(Mux(self.shift, Cat(word[8:], byte), loaded))
        with m.If(self.turn | self.shift):
            m.d.sync += self.steps.eq(self.steps - 1)

    def take(self, m: Module, moved: Signal, done: str) -> None:
        """Shift `steps` bytes of the command into the top of a register (`moved`: turn or shift), then go on to `done`."""
        frame = self.port.frame
        m.d.comb += [frame.ready.eq(1), moved.eq(frame.valid)]
        with m.If(frame.valid & (self.steps == 1)):
            m.next = done

    def give(self, m: Module, length: int) -> None:
        """Put `length` bytes of `small` into the reply, then come back to MORE."""
        m.d.comb += [self.load.eq(1), self.count_word.eq(1)]
        m.d.sync += self.steps.eq(length)
        m.next = "GIVE"

    def give_up(self, m: Module, code: ErrorCode = ErrorCode.MEMORY) -> None:
        """The memory does not answer, or with an error: end the reply, or say so in its status."""
        with m.If(self.answered):
            m.next = "END"
        with m.Else():
            self.answer_with(m, code)

    def answer_with(self, m: Module, code: Value | int) -> None:
        """Begin the reply, with status `code`."""
        m.d.sync += self.status.eq(code)
        m.next = "ANSWER"

    def build_head(self, m: Module, flags: Value) -> None:
        """States of the reply's head (kind and sequence number, argument; status and flags in the count's place) and its end.

        The last bit of `flags` says that something was damaged.
        """
        reply = self.port.reply
        with m.State("ANSWER"):
            m.d.sync += [self.answered.eq(1), self.steps.eq(HEADER_BYTES)]
            m.next = "HEAD"
        with m.State("HEAD"):
            m.d.comb += [reply.valid.eq(1), reply.payload.byte.eq(self.header[:8])]
            with m.Switch(self.steps):
                with m.Case(HEADER_BYTES):
                    m.d.comb += reply.payload.byte[7].eq(1)
                with m.Case(2):
                    m.d.comb += reply.payload.byte.eq(self.status)
                with m.Case(1):
                    m.d.comb += reply.payload.byte.eq(flags)
                    m.d.sync += self.told.eq(flags[-1])
            m.d.comb += self.turn.eq(reply.ready)
            with m.If(reply.ready & (self.steps == 1)):
                m.next = "MORE"
        with m.State("END"):
            m.d.comb += [reply.valid.eq(1), reply.payload.part.eq(Part.END)]
            with m.If(reply.ready):
                m.next = "COMMAND"
