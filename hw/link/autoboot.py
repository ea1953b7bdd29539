"""Runs the token loop without a host: a prompt that lies before the tape, then the tokens that follow, as bytes of text."""

from __future__ import annotations

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.hw.config import Config
from tritape.hw.memory.signature import Request
from tritape.hw.memory.times import times
from tritape.hw.tape.reader import TokenRequest

MARK = 0x5854
"""Low half of a script's first word: `TX`."""
SETTINGS, PROMPT_END = 4, 256
"""Words of a script before its prompt, and before the texts."""
TEXT_BYTES = 32
"""Of a token's text, its length in the first one."""
SAMPLER = {"inv_temperature": Out(17), "seed": Out(32), "reseed": Out(1)}
"""Ports to the loop's sampler."""
LAST, ENDS = 1 << 16, 1 << 16
"""Bit of the prompt's last word; of the word with the token that ends a text."""


def text_words(word_bytes: int) -> int:
    """Words of a token's text."""
    return -(-TEXT_BYTES // word_bytes)


def script_words(config: Config) -> int:
    """Words before the tape: a power of two, room for a prompt and the text of every token."""
    return 1 << (PROMPT_END + config.max_vocab * text_words(config.word_bytes) - 1).bit_length()


class AutoBoot(wiring.Component):
    """Boots a tape by itself and writes text: the prompt's, then that of every token chosen. Sits between token loop and memory.

    The memory holds a script in its first `script_words`, then the tape. Fields in the low 32 bits of words, the rest ignored:

        0: MARK, tokens to choose u16 (0: 65,536)    1: token that ends a text u16, whether there is one u1
        2: inverse temperature u17                   3: seed u32
        4 ..: the prompt: token u16, the last one u1
        256 ..: of each token: 1 byte length, its text, 32 bytes padded to words

    Ports
        start: In u1: the memory can be read
        again: In u1: begin anew when the text is over
        requests, words: of the memory (`MemorySignature`)
        asked, given: the loop's, whose addresses count from the tape's start
        boot, tokens, results, configured, fault, damaged, passing, running: of `TokenLoop`
        inv_temperature, seed, reseed: of the same; not where the configuration is serial, which is greedy
        read_failed: In u1, of the memory
        text: Out, stream of bytes
        failed: Out u1: no script, a tape that is refused or broken, or a memory that fails; until reset

    The loop's request for the next prologue waits until the token's text is written, so the two never read at once. No text
    is written of a token whose pass is not over, or in which something was damaged.
    Streams: those of amaranth.lib.stream; `text.payload` is the memory's word through a multiplexer.
    Latency: a token's text comes one read of 32 bytes after its pass. Cost: 305 iCE40 LUT4 and 77 flip-flops at G = 4.
    Tested: scripts, ends, faults and restarts, G = 4, 13 (tests/test_hw_autoboot.py); whole texts on the virtual board.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.offset = script_words(config)
        word = 8 * config.word_bytes
        super().__init__(
            {
                "start": In(1),
                "again": In(1),
                "requests": Out(stream.Signature(Request)),
                "words": In(stream.Signature(word)),
                "read_failed": In(1),
                "asked": In(stream.Signature(Request)),
                "given": Out(stream.Signature(word)),
                "boot": Out(stream.Signature(1)),
                "configured": In(1),
                "fault": In(1),
                "damaged": In(1),
                "passing": In(1),
                "running": Out(1),
                "tokens": Out(stream.Signature(TokenRequest)),
                "results": In(stream.Signature(16)),
                "text": Out(stream.Signature(8)),
                "failed": Out(1),
                **({} if config.serial else SAMPLER),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        self._token, self._left = Signal(16, name="token"), Signal(16, name="left")  # the latest one; to choose
        self._end, self._ends = (
            Signal(16, name="end"),
            Signal(name="ends"),
        )  # the token that ends a text, if there is one
        self._place = Signal(range(PROMPT_END), name="place")  # word of the script that is read next
        self._fresh, self._prompting, self._over = Signal(name="fresh"), Signal(name="prompting"), Signal(name="over")
        self._own = Signal(name="own")  # the memory is ours, not the loop's
        self._passes = Signal(2, name="passes")  # requests of the loop that may go on
        m.d.comb += [
            self.tokens.payload.token.eq(self._token),
            self.tokens.payload.fresh.eq(self._fresh),
            self.given.payload.eq(self.words.payload),
        ]
        self._build_loop_memory(m)
        trouble, words = Signal(), text_words(self.config.word_bytes)
        m.d.comb += trouble.eq(self.fault | self.damaged | self.read_failed)
        with m.FSM():
            with m.State("START"), m.If(self.start):
                m.next = "ASK_SETTINGS"
            self._ask(m, "SETTINGS", Const(0), SETTINGS)
            self._build_settings(m, trouble)
            self._build_boot(m, trouble)
            self._ask(m, "PROMPT", self._place, 1)
            self._build_prompt(m, trouble)
            self._ask(m, "TEXT", times(self._token, words) + PROMPT_END, words)
            self._build_text(m, words, trouble)
            self._build_token(m, trouble)
            with m.State("OVER"), m.If(self.again):
                m.d.sync += self._place.eq(0)
                m.next = "ASK_SETTINGS"
            with m.State("FAILED"):
                m.d.comb += self.failed.eq(1)
        return m

    def _build_loop_memory(self, m: Module) -> None:
        """The memory as the loop sees it, while it is not ours."""
        asked, passing = self.asked, self._passes != 0
        with m.If(~self._own):
            m.d.comb += [
                self.requests.payload.address.eq(asked.payload.address + self.offset),
                self.requests.payload.length.eq(asked.payload.length),
                self.requests.valid.eq(asked.valid & passing),
                asked.ready.eq(self.requests.ready & passing),
                self.given.valid.eq(self.words.valid),
                self.words.ready.eq(self.given.ready),
            ]
        with m.If(asked.valid & asked.ready):
            m.d.sync += self._passes.eq(self._passes - 1)

    def _ask(self, m: Module, name: str, address: Value, count: int) -> None:
        """State `ASK_NAME`: `count` words from `address` on are asked for, which state `NAME` takes."""
        with m.State(f"ASK_{name}"):
            request = self.requests.payload
            m.d.comb += [
                self._own.eq(1),
                request.address.eq(address),
                request.length.eq(count),
                self.requests.valid.eq(1),
            ]
            with m.If(self.requests.ready):
                m.next = name

    def _build_settings(self, m: Module, trouble: Value) -> None:
        """The script's first words."""
        word = self.words.payload
        with m.State("SETTINGS"):
            m.d.comb += [self._own.eq(1), self.words.ready.eq(1)]
            with m.If(self.words.valid):
                m.d.sync += self._place.eq(self._place + 1)
                with m.Switch(self._place):
                    with m.Case(0):
                        m.d.sync += self._left.eq(word[16:])
                        with m.If(word[:16] != MARK):
                            m.next = "FAILED"
                    with m.Case(1):
                        m.d.sync += [self._end.eq(word[:16]), self._ends.eq(word[16])]
                    if not self.config.serial:
                        with m.Case(2):
                            m.d.sync += self.inv_temperature.eq(word[:17])
                    with m.Case(SETTINGS - 1):
                        if not self.config.serial:
                            m.d.comb += [self.seed.eq(word), self.reseed.eq(1)]
                        m.d.sync += [self._fresh.eq(1), self._prompting.eq(1), self._over.eq(0)]
                        m.next = "ASK_PROMPT"
                        with m.If(~self.configured):
                            m.next = "BOOT"
            self._stop_at(m, trouble)

    def _build_boot(self, m: Module, trouble: Value) -> None:
        """The tape's header, once."""
        with m.State("BOOT"):
            m.d.comb += self.boot.valid.eq(1)
            m.d.sync += self._passes.eq(1)
            with m.If(self.boot.ready):
                m.next = "BOOTING"
        with m.State("BOOTING"):
            with m.If(self.configured):
                m.next = "ASK_PROMPT"
            self._stop_at(m, trouble)

    def _build_prompt(self, m: Module, trouble: Value) -> None:
        """The prompt's next token."""
        word = self.words.payload
        with m.State("PROMPT"):
            m.d.comb += [self._own.eq(1), self.words.ready.eq(1)]
            with m.If(self.words.valid):
                m.d.sync += [self._token.eq(word[:16]), self._place.eq(self._place + 1)]
                m.d.sync += self._prompting.eq(~word[16])
                m.next = "ASK_TEXT"
            self._stop_at(m, trouble)

    def _build_text(self, m: Module, words: int, trouble: Value) -> None:
        """The text of the latest token; what lies behind its length is read and dropped."""
        size = self.config.word_bytes
        byte, count, word = Signal(range(size)), Signal(range(TEXT_BYTES)), Signal(range(words))
        started = Signal()  # the length is known
        with m.State("TEXT"):
            m.d.comb += [
                self._own.eq(1),
                self.text.payload.eq(self.words.payload.word_select(byte, 8)),
                self.text.valid.eq(self.words.valid & started & (count != 0)),
            ]
            with m.If(self.words.valid & (~started | (count == 0) | self.text.ready)):
                m.d.sync += [byte.eq(byte + 1), started.eq(1), count.eq(Mux(count == 0, 0, count - 1))]
                with m.If(~started):
                    m.d.sync += count.eq(self.text.payload)
                with m.If(byte == size - 1):
                    m.d.comb += self.words.ready.eq(1)
                    m.d.sync += [byte.eq(0), word.eq(word + 1)]
                    with m.If(word == words - 1):
                        m.d.sync += [word.eq(0), started.eq(0), count.eq(0)]
                        with m.If(self._over):
                            m.next = "OVER"
                        with m.Else():
                            m.d.sync += self._passes.eq(3)
                            m.next = "FEED"
            self._stop_at(m, trouble)

    def _build_token(self, m: Module, trouble: Value) -> None:
        """One pass: prologue, row and body are three requests. The next prologue's waits for the next token."""
        with m.State("FEED"):
            m.d.comb += [self.running.eq(1), self.tokens.valid.eq(1)]
            with m.If(self.tokens.ready):
                m.d.sync += self._fresh.eq(0)
                m.next = "WAIT"
            self._stop_at(m, trouble)
        with m.State("WAIT"):
            m.d.comb += [self.running.eq(1), self.results.ready.eq(1)]
            with m.If(self.results.valid & ~self._prompting):
                m.d.sync += [self._token.eq(self.results.payload), self._left.eq(self._left - 1)]
            with m.If(self.results.valid):
                m.next = "END"
            self._stop_at(m, trouble)
        with m.State("END"):
            m.d.comb += self.running.eq(1)
            m.d.sync += self._over.eq(
                ~self._prompting & ((self._left == 0) | (self._ends & (self._token == self._end)))
            )
            with m.If(~self.passing):
                m.next = "ASK_TEXT"
                with m.If(self._prompting):
                    m.next = "ASK_PROMPT"
            self._stop_at(m, trouble)

    @staticmethod
    def _stop_at(m: Module, trouble: Value) -> None:
        with m.If(trouble):
            m.next = "FAILED"
