"""The four single-port RAMs of an iCE40UP5K as the memory of a small model."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, ClockSignal, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory

from tritape.base.errors import TritapeError
from tritape.hw.assertion import check
from tritape.hw.memory.signature import MemorySignature

_DEPTH = 1 << 14  # of one SB_SPRAM256KA, 16 bits wide
_RAMS = 4


class SPRAMMemory(wiring.Component):
    """The tape of an iCE40UP5K: 128 KiB in SB_SPRAM256KA, as words of 4 or 8 bytes, read in runs at one word a cycle.

    Nothing is in it at power-up.

    Ports (`MemorySignature`)
        requests: In, {address u32, length u32}; what is read from `depth` on has no meaning. Length 0 gives nothing.
        words: Out, 8 G bits. One word a cycle, without a gap inside a request, and one cycle between two.
        write: In, {address u32, word 8 G bits}; always ready. Writing while a read is under way spoils that read.
        write_failed: Out u1: the address is not below `depth`; nothing is stored. read_failed: 0.

    Streams: `requests.ready` and `words.valid` are registers; the payload is the RAMs' own output (for G = 4 one
    multiplexer behind it). Reading stops while a word waits for `words.ready`.
    Latency: `LATENCY` = 2 cycles from a request's transfer to its first word.
    Cost: 4 SPRAM, about 60 logic cells, 32 more for G = 4. Tested: G = 4 and 8, on a model of the RAM (`primitive` False;
    None takes the device's RAM in a build for a platform and the model elsewhere).
    Errors: `TritapeError` for groups other than 4 and 8.
    """

    LATENCY = 2

    def __init__(self, groups: int, *, primitive: bool | None = True) -> None:
        if groups not in (4, 8):
            raise TritapeError(f"groups must be 4 or 8 for this memory, not {groups!r}; its RAMs are 2 bytes wide")
        self.groups = groups
        self.primitive = primitive
        self.depth = _RAMS * _DEPTH * 2 // groups
        """Words that it holds."""
        super().__init__(MemorySignature(groups))

    def elaborate(self, platform: object) -> Module:
        boards = platform is not None and not isinstance(platform, str)  # a text names a simulation
        primitive = boards if self.primitive is None else self.primitive
        m = Module()
        address, left = Signal(range(self.depth)), Signal(range(self.depth + 1))
        active = Signal()
        advance, read = Signal(), Signal()
        m.d.comb += [
            self.requests.ready.eq(~active),
            self.write.ready.eq(1),
            advance.eq(~self.words.valid | self.words.ready),
            read.eq(active & advance),
        ]
        with m.If(advance):
            m.d.sync += self.words.valid.eq(active)
        with m.If(read):
            m.d.sync += [address.eq(address + 1), left.eq(left - 1), active.eq(left != 1)]
        with m.If(self.requests.valid & ~active):
            request = self.requests.payload
            m.d.sync += [address.eq(request.address), left.eq(request.length), active.eq(request.length != 0)]

        # One address for all: RAMs side by side make a word, rows of them the depth.
        at = Signal.like(address)
        m.d.comb += at.eq(address)
        write = Signal()
        m.d.comb += [
            self.write_failed.eq(self.write.payload.address >= self.depth),
            write.eq(self.write.valid & ~self.write_failed),
        ]
        with m.If(self.write.valid):
            check(m, platform, ~active, "writing while a read is under way spoils that read")
            m.d.comb += at.eq(self.write.payload.address)
        wide = self.groups // 2
        rows = []
        for row in range(_RAMS // wide):
            chosen = at[14:] == row if wide < _RAMS else 1
            outputs = []
            for column in range(wide):
                output = Signal(16, name=f"output_{row}_{column}")
                outputs.append(output)
                select = Signal(name=f"select_{row}_{column}")
                m.d.comb += select.eq((read | write) & chosen)
                m.submodules[f"ram_{row}_{column}"] = self._ram(
                    at[:14],
                    self.write.payload.word.word_select(column, 16),
                    write,
                    select,
                    output,
                    primitive,
                )
            rows.append(Cat(*outputs))
        if len(rows) == 1:
            m.d.comb += self.words.payload.eq(rows[0])
        else:
            behind = Signal()
            with m.If(read):
                m.d.sync += behind.eq(at[14])
            m.d.comb += self.words.payload.eq(Array(rows)[behind])
        return m

    def _ram(
        self, address: Signal, data: Signal, write: Signal, select: Signal, output: Signal, primitive: bool
    ) -> object:
        if primitive:
            return Instance(
                "SB_SPRAM256KA",
                i_ADDRESS=address,
                i_DATAIN=data,
                i_MASKWREN=0xF,
                i_WREN=write,
                i_CHIPSELECT=select,
                i_CLOCK=ClockSignal(),
                i_STANDBY=0,
                i_SLEEP=0,
                i_POWEROFF=1,  # active low
                o_DATAOUT=output,
            )
        m = Module()
        m.submodules.memory = memory = Memory(shape=16, depth=_DEPTH, init=[])
        read_port, write_port = memory.read_port(), memory.write_port()
        m.d.comb += [
            read_port.addr.eq(address),
            read_port.en.eq(select & ~write),
            output.eq(read_port.data),
            write_port.addr.eq(address),
            write_port.data.eq(data),
            write_port.en.eq(select & write),
        ]
        return m
