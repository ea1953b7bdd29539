"""Runs the steps of several slots by itself: those that the host gave first, then every slot on what it chose."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory, ReadPort, WritePort
from amaranth.lib.wiring import In, Out

from tritape.hw.assertion import check
from tritape.hw.link.token_runner import RING, Stop
from tritape.hw.tape.reader import SlotRequest

Entry = data.StructLayout({"token": 16, "active": 1, "fresh": 1, "chain": 1, "again": 1})
"""A slot's share of a step as the host gives it. `again`: its token is what the slot chose last, not `token`."""


class StepRunner(wiring.Component):
    """A ring of steps in block RAM and the loop that feeds them; what `TokenRunner` is for one slot.

    Step p of the ring is T entries until it runs; then it holds what the T slots chose, the tokens of position p + 1. After
    `begin` at a position and T `load` for each step, `go` runs the steps loaded, then steps in which the slots of `going` run
    the token they chose last, until all positions below `limit` hold tokens. Another `go` with a later limit moves the limit,
    or goes on after the end.

    Ports
        begin: In, u1, a pulse, only while not `running`: the next entry loaded is slot 0's of step `place`: In, u8
        load: In, stream of `Entry`, slot after slot, only while not `running`
        go: In, u1, a pulse; with it `limit`: In, u8, a position behind the last step loaded, `going`: In, a bit a slot, and
            `place`, the position to read from
        stop: In, u1, a pulse: no step is fed after the one under way, until the next `go`
        available: Out, u1, chosen: Out, u16, take: In, u1: tokens from there on, slot after slot; not a stream: `available`
            falls for some cycles a step, when the loop reads or writes the ring. partial: Out, u1: some of a step were taken
        running: Out, u1: the limit is not reached; busy: Out, u1: a step is in the token loop
        stopped: Out, `Stop`: why it stopped before the limit
        steps: Out, stream of T `SlotRequest`; answers: In, stream of T u16: of the token loop
        configured, fault, passing: In, u1, as of `TokenRunner`

    A slot that is not active keeps the token that it chose last. Latency from a step's answers to the next step: T + 2 cycles,
    and T more where the host gave it. Cost: a memory of 256 x T x 20 bits and 19 T flip-flops for the step under way.
    Tested inside `HostLink`: tests/test_hw_batch_link.py. Source: docs/protocol.md.
    """

    LATENCY = 2  # and a cycle a slot

    def __init__(self, batch: int) -> None:
        self.batch = batch
        super().__init__(
            {
                "begin": In(1),
                "place": In(8),
                "load": In(stream.Signature(Entry)),
                "go": In(1),
                "limit": In(8),
                "going": In(batch),
                "stop": In(1),
                "available": Out(1),
                "chosen": Out(16),
                "take": In(1),
                "partial": Out(1),
                "running": Out(1),
                "busy": Out(1),
                "stopped": Out(Stop),
                "steps": Out(stream.Signature(data.ArrayLayout(SlotRequest, batch))),
                "answers": In(stream.Signature(data.ArrayLayout(16, batch))),
                "configured": In(1),
                "fault": In(1),
                "passing": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = (self.batch - 1).bit_length()
        # no_rw_check: nothing that is read in the cycle of a write is used
        memory = Memory(shape=Entry, depth=RING << bits, init=[], attrs={"no_rw_check": 1})
        m.submodules.memory = memory
        s = _Ring(memory.write_port(), memory.read_port(), self.batch)
        self._build_reader(m, s)
        with m.FSM():
            self._state_check(m, s)
            self._state_fetch(m, s)
            self._state_run(m, s)
            self._state_keep(m, s)
        with m.If(self.begin):
            check(m, platform, ~self.running, "begin must come only while not running")
            m.d.sync += [s.position.eq(self.place), s.known.eq(self.place), s.load_slot.eq(0)]
        with m.If(self.go):
            m.d.sync += [s.reader.eq(self.place - 1), s.reader_slot.eq(0), s.fetched.eq(0)]
            m.d.sync += [s.limit.eq(self.limit), s.going.eq(self.going)]
            m.d.sync += [self.running.eq(1), self.stopped.eq(Stop.NONE)]
        return m

    def _build_reader(self, m: Module, s: _Ring) -> None:
        """Tokens for the host, and the ring's ports while the loop does not use them."""
        done = Signal(8)  # steps that have run since the reader's, modulo 256; less than half a ring ahead or behind
        m.d.comb += [
            s.read.en.eq(1),
            s.read.addr.eq(Cat(s.reader_slot, s.reader)),
            s.write.addr.eq(Cat(s.load_slot, s.known)),
            s.write.data.eq(self.load.payload),
            self.load.ready.eq(~self.running),
            self.chosen.eq(s.read.data.token),
            done.eq(s.position - s.reader),
            self.available.eq(s.fetched & self.configured & (done != 0) & ~done[-1] & (s.answering | ~self.passing)),
            self.partial.eq(s.reader_slot != 0),
        ]
        m.d.sync += s.fetched.eq(~(s.fetch | s.write.en))  # a cycle later, like the read data
        with m.If(self.available & self.take):
            m.d.sync += [s.fetched.eq(0), s.reader_slot.eq(s.reader_slot + 1)]
            with m.If(s.reader_slot == self.batch - 1):
                m.d.sync += [s.reader_slot.eq(0), s.reader.eq(s.reader + 1)]
        with m.If(self.stop):
            m.d.sync += s.halt.eq(self.running)

    def _state_check(self, m: Module, s: _Ring) -> None:
        """Between steps: whether there is another one, and whether the host gave it."""
        step = self.steps.payload
        with m.State("CHECK"):
            m.d.sync += s.slot.eq(0)
            m.d.comb += s.write.en.eq(self.load.valid & ~self.running)
            with m.If(s.write.en):
                m.d.sync += s.load_slot.eq(s.load_slot + 1)
                with m.If(s.load_slot == self.batch - 1):
                    m.d.sync += [s.load_slot.eq(0), s.known.eq(s.known + 1)]
            with m.If(self.running):
                stop = s.halt | ((s.position + 1)[:8] == s.limit)
                with m.If(self.fault | ~self.configured):
                    m.d.sync += [self.running.eq(0), s.halt.eq(0), self.stopped.eq(Stop.NOT_BOOTED)]
                    with m.If(self.fault):
                        m.d.sync += self.stopped.eq(Stop.FAULT)
                with m.Elif(stop & self.passing):
                    m.d.comb += self.busy.eq(1)
                with m.Elif(stop):
                    m.d.sync += [self.running.eq(0), s.halt.eq(0)]
                with m.Elif(s.position == s.known):
                    m.d.sync += s.known.eq(s.known + 1)
                    for index in range(self.batch):
                        m.d.sync += [
                            step[index].active.eq(s.going[index]),
                            step[index].fresh.eq(0),
                            step[index].chain.eq(0),
                        ]
                    m.next = "FEED"
                with m.Else():
                    m.d.comb += [s.fetch.eq(1), s.read.addr.eq(Cat(Const(0, len(s.slot)), s.position))]
                    m.next = "FETCH"

    def _state_fetch(self, m: Module, s: _Ring) -> None:
        """An entry a cycle, the one that was asked for in the cycle before."""
        step, entry = self.steps.payload, s.read.data
        with m.State("FETCH"):
            m.d.comb += [s.fetch.eq(1), s.read.addr.eq(Cat((s.slot + 1)[: len(s.slot)], s.position))]
            m.d.sync += s.slot.eq(s.slot + 1)
            with m.If(~entry.again):
                m.d.sync += step[s.slot].token.eq(entry.token)
            for name in ("active", "fresh", "chain"):
                m.d.sync += step[s.slot][name].eq(entry[name])
            with m.If(s.slot == self.batch - 1):
                m.next = "FEED"

    def _state_run(self, m: Module, s: _Ring) -> None:
        """A step goes to the token loop, and its answers come back."""
        step = self.steps.payload
        with m.State("FEED"):
            m.d.sync += s.slot.eq(0)
            m.d.comb += [self.steps.valid.eq(1), self.busy.eq(1)]
            with m.If(self.fault | ~self.configured):
                m.next = "CHECK"
            with m.Elif(self.steps.ready):
                m.next = "WAIT"
        with m.State("WAIT"):
            m.d.comb += [self.answers.ready.eq(1), self.busy.eq(1), s.answering.eq(1)]
            with m.If(self.fault | ~self.configured):
                m.next = "CHECK"
            with m.Elif(self.answers.valid):
                for index in range(self.batch):
                    with m.If(step[index].active):
                        m.d.sync += step[index].token.eq(self.answers.payload[index])
                m.next = "KEEP"

    def _state_keep(self, m: Module, s: _Ring) -> None:
        """The answers go into the ring, one a cycle."""
        with m.State("KEEP"):
            m.d.comb += [
                s.write.en.eq(1),
                s.write.addr.eq(Cat(s.slot, s.position)),
                s.write.data.token.eq(self.steps.payload[s.slot].token),
            ]
            m.d.sync += s.slot.eq(s.slot + 1)
            with m.If(s.slot == self.batch - 1):
                m.d.sync += s.position.eq(s.position + 1)
                m.next = "CHECK"


class _Ring:
    """Ports of the ring and the places in it."""

    def __init__(self, write: WritePort, read: ReadPort, batch: int) -> None:
        slot_bits = (batch - 1).bit_length()
        self.write, self.read = write, read
        self.position = Signal(8, name="position")  # of the next step to feed
        self.known = Signal(8, name="known")  # behind the last step that is loaded or run
        self.limit, self.going = Signal(8, name="limit"), Signal(batch, name="going")
        self.reader, self.reader_slot = Signal(8, name="reader"), Signal(slot_bits, name="reader_slot")  # for the host
        self.load_slot = Signal(slot_bits, name="load_slot")  # of the next entry from the host
        self.slot = Signal(slot_bits, name="slot")  # of the entry under way
        self.halt = Signal(name="halt")
        self.answering = Signal(name="answering")  # the answers of the step under way are not there yet
        self.fetch = Signal(name="fetch")  # the ring is read for the loop, not for `chosen`
        self.fetched = Signal(name="fetched")  # it puts out the token at the reader's place
