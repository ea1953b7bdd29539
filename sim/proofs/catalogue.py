"""Every proof, what it assumes, and the fault that it must find."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from tritape.hw.engine.adder_tree import AdderTree
from tritape.hw.engine.table_engine import TableEngine
from tritape.hw.engine.table_filler import TableFiller
from tritape.hw.link.frame_port import FramePort
from tritape.hw.link.host_link import HostLink
from tritape.hw.link.step_runner import StepRunner
from tritape.hw.link.token_runner import TokenRunner
from tritape.hw.memory.axi_reader import AXIReader
from tritape.hw.memory.axi_writer import AXIWriter
from tritape.hw.memory.gearbox import Gearbox
from tritape.hw.memory.planner import Planner
from tritape.hw.memory.word_bytes import WordBytes
from tritape.hw.norm.scalar import Scalar
from tritape.hw.stream.broadcast import Broadcast
from tritape.hw.stream.buffer import StreamBuffer
from tritape.hw.stream.queue import CommandQueue
from tritape.hw.stream.skid import Skid
from tritape.hw.tape.sequencer import Sequencer
from tritape.hw.token_loop import TokenLoop
from tritape.sim.proofs import axi, engine, link, order, restart, scalar, sections
from tritape.sim.proofs.broken import broken
from tritape.sim.proofs.hold import Unit, rules
from tritape.sim.proofs.paths import paths
from tritape.sim.proofs.solve import Build, Verdict, design, prove
from tritape.sim.proofs.units import SERIAL, UNITS

STREAM_FAULT = "each output's `ready` does not reach the unit"


@dataclasses.dataclass(frozen=True)
class Proof:
    """A property with its harness."""

    name: str
    states: str
    """The property, a sentence."""
    build: Callable[..., Build]
    """Makes the harness; of a class with a fault, if it is given one."""
    kind: type[Any] | None = None
    fault: tuple[str, str] | None = None
    """What is replaced by what in the source of `kind`."""
    assumption: str = ""
    depth: int = 1
    """The k of an induction, or the cycles of a bounded proof."""
    bounded: bool = False
    roms: bool = False
    timeout: int = 300
    quick: bool = True
    """Runs in `make test`."""
    unit: Unit | None = None
    """The unit of a proof of stream rules."""

    @property
    def method(self) -> str:
        """How it is proved."""
        return f"{self.depth} cycles" if self.bounded else "induction"

    @property
    def mutation(self) -> str:
        """The fault in words."""
        return f"`{self.fault[0].strip()}` -> `{self.fault[1].strip()}`" if self.fault else STREAM_FAULT

    def run(self) -> Verdict:
        """Prove it, and where it is about streams, look for paths from `ready` too."""
        verdict = self._prove(self.build())
        if self.unit and (found := paths(self.unit)):
            return dataclasses.replace(verdict, proved=False, failed=f"a path from ready to {', '.join(found)}")
        return verdict

    def run_fault(self) -> Verdict:
        """Try to prove it of a unit with the fault: that must fail."""
        if self.fault is None:
            return self._prove(self.build(deaf=True))
        assert self.kind is not None
        return self._prove(self.build(broken(self.kind, *self.fault)))

    def _prove(self, build: Build) -> Verdict:
        return prove(design(build), self.depth, induction=not self.bounded, roms=self.roms, timeout=self.timeout)


def _hold(name: str, unit: Unit) -> Proof:
    def build(*, deaf: bool = False) -> Build:
        return rules(unit, deaf=deaf)

    return Proof(
        f"hold {name}",
        "every stream that leaves keeps `valid` and payload until `ready`; no gates from `ready` to them",
        build,
        assumption=unit.assumption,
        depth=unit.depth,
        bounded=unit.bounded,
        quick=unit.quick,
        unit=unit,
    )


HOLD = [_hold(name, unit) for name, unit in UNITS.items() if not unit.hole]

PROPERTIES = [
    Proof(
        "link command ends",
        "every cycle of a command brings it nearer to its reply's end, unless the link waits for the host or the token loop, "
        "which the next byte from the host ends",
        link.command_ends, HostLink,
        ("with m.If(s.failed | self.read_failed | s.impatient):", "with m.If(s.failed | self.read_failed):"),
        "a patience of 2^6 cycles; the reader takes BOOT",
    ),
    Proof(
        "link command ends, serial",
        "the same of a serial configuration, whose wait for the memory ends with the host's next byte",
        lambda kind=HostLink: link.command_ends(kind, SERIAL), HostLink,
        ("s.impatient.eq(timer.all() & s.port.pending", "s.impatient.eq(timer.all() & self.configured & s.port.pending"),
        "the memory takes every word of a WRITE; the reader takes BOOT",
    ),
    Proof(
        "link reply leaves",
        "a reply is sent to its last byte, then the port receives; meanwhile a byte waits for 8 cycles at most",
        link.reply_leaves, FramePort,
        ("m.d.comb += [s.write.en.eq(1), s.write.addr.eq(Cat(s.block, 1)), s.write.data.eq(0)]",
         "m.d.comb += [s.write.en.eq(1), s.write.addr.eq(Cat(s.block, 1)), s.write.data.eq(1)]"),
        "the host takes the bytes",
    ),
    Proof(
        "restart is obeyed", "RESTART is admitted while tokens run, gives a pulse and ends the memory mode",
        restart.restart_is_obeyed, HostLink,
        ("with m.Elif(((s.kind & IDLE) == 0) | ~runner.running):", "with m.Elif(~runner.running):"),
    ),
    Proof(
        "restart begins anew",
        "a cycle after a restart every register of the token loop is as after power-up, whatever stood there",
        restart.loop_begins, TokenLoop,
        ("m.submodules[name] = ResetInserter(self.restart)(unit)",
         'm.submodules[name] = ResetInserter(self.restart)(unit) if name != "reader" else unit'),
        "counters, memories and registers without a reset apart", quick=False,
    ),
    Proof(
        "restart stops the runner", "without a tape the runner is idle after three cycles, wherever it was",
        restart.runner_stops, TokenRunner,
        ("                with m.If(self.fault | ~self.configured):\n"
         '                    m.next = "CHECK"\n                with m.Elif(self.tokens.ready):',
         "                with m.If(self.fault):\n"
         '                    m.next = "CHECK"\n                with m.Elif(self.tokens.ready):'),
        "no POLL in between", depth=4,
    ),
    Proof(
        "restart stops the runner of slots", "the same after five cycles",
        lambda kind=StepRunner: restart.runner_stops(kind, 2), StepRunner,
        ("            m.d.comb += [self.answers.ready.eq(1), self.busy.eq(1), s.answering.eq(1)]\n"
         "            with m.If(self.fault | ~self.configured):",
         "            m.d.comb += [self.answers.ready.eq(1), self.busy.eq(1), s.answering.eq(1)]\n"
         "            with m.If(self.fault):"),
        "no POLL in between", depth=6,
    ),
    Proof(
        "sequencer words", "a section takes its header, as many words as its `payload` says, and its CRC; a row `row_words`",
        sections.words_taken, Sequencer, ("s.closing.eq(s.left == 1), s.first", "s.closing.eq(s.left == 2), s.first"),
        "G = 4, addresses of 6 bits", depth=2,
    ),
    Proof(
        "sequencer commands", "of a section each unit is told once at most, and nobody if the header's check is wrong",
        sections.commands_given, Sequencer, ("header, s.sound & ~strange & ~Cat", "header, ~strange & ~Cat"),
        "G = 4, addresses of 6 bits", depth=3,
    ),
    Proof(
        "AXI requests inside", "what is fetched lies inside the image; a request that does not fit gives nothing",
        axi.requests_inside, Planner,
        ("*(output.valid.eq(~outside) for output in outputs),", "*(output.valid.eq(1) for output in outputs),"),
        "W = 2, G = 5, 100 words",
    ),
    Proof(
        "AXI bursts", "bursts read the lines of a fetch in order, each once, none beyond; none crosses 4 KiB; AR is held",
        axi.bursts, AXIReader, ("room.eq(self.burst - line[:bits]),", "room.eq(self.burst),"),
        "16 bits, bursts of 4; fetches lie inside the image; a constant base; the memory may answer anything",
    ),
    Proof(
        "AXI lines fit", "every line has a place in the FIFO when it comes",
        axi.lines_fit, AXIReader,
        ("issue.eq(planned & ~axi.arvalid & (free >= size)", "issue.eq(planned & ~axi.arvalid & (free + 1 >= size)"),
        "no more beats than were asked for, but any of what was given up; RLAST anywhere", depth=1,
    ),
    Proof(
        "AXI restart ends",
        "a restart waits for two ticks without a beat at most; what is owed then has an identifier of before",
        axi.restart_ends, AXIReader,
        ("given_up.eq(quiet & self.tick & ~axi.arvalid),", "given_up.eq(quiet & self.tick & ~axi.arvalid & ~known),"),
        "16 bits, bursts of 4; the bus takes the address; it may answer anything",
    ),
    Proof(
        "AXI writes",
        "a beat is one aligned write; AW and W are held, each is taken once before the response counts or is given up",
        axi.writes, AXIWriter, ("answer & ~axi.awvalid & ~axi.wvalid for", "answer & ~axi.wvalid for"),
        "two ports of 16 bits; constant bases",
    ),
    Proof(
        "AXI bytes inside", "no byte outside the memory is written",
        axi.bytes_inside, WordBytes, ("self.bytes.valid.eq(~outside),", "self.bytes.valid.eq(1),"), "G = 5, 100 words",
    ),
    Proof(
        "order of broadcast", "every receiver gets every element once, in order",
        order.broadcast, Broadcast, ("taken.eq(taken | takes)", "taken.eq(takes)"),
    ),
    Proof("order of skid", "elements leave once, in order", order.skid, Skid,
          ("with m.If(~full):", "with m.If(self.source.valid):")),
    Proof(
        "order of buffer", "elements leave once, in order",
        order.buffer, StreamBuffer, ("m.d.sync += full.eq(full | sender.valid)", "m.d.sync += full.eq(sender.valid)"),
    ),
    Proof(
        "order of queue", "commands leave once, in order, memory included",
        order.queue, CommandQueue, ("queue.r_en.eq(receiver.ready),", "queue.r_en.eq(1),"),
    ),
    Proof(
        "order of gearbox", "word i of a run is bytes skip + i G and following of its lines, and a run takes the lines it needs",
        order.gearbox, Gearbox, ("position.eq(after - line),", "position.eq(after - line + emit),"),
        "W = 4, G = 5, runs of at most 3 words", depth=12, bounded=True, quick=False,
    ),
    Proof(
        "engine banks", "no table is read in the bank that is written",
        engine.bank_is_quiet, TableEngine, ("filler.bank_busy.eq(parts.slice_ends & ~parts.advance),", "filler.bank_busy.eq(0),"),
        depth=3,
    ),
    Proof(
        "engine tables", "a filling writes each entry once, with the sum of its digits' activations",
        engine.tables_filled, TableFiller, ("adder.subtract.eq(subtract[-1])", "adder.subtract.eq(subtract[-2])"),
        "one activation is 1, any; block RAM gives 0 before its first read", roms=True, quick=False,
    ),
    Proof(
        "engine tree", "the tree gives the sum of its values, each with its sign",
        engine.tree, AdderTree, ("subtract = delay(Cat(differ), level + 1,", "subtract = delay(Cat(differ), level + 2,"),
        "4 values of 4 bits", depth=5, bounded=True, quick=False,
    ),
    Proof(
        "scalar ranges", "a scale's shift is 0..47, a reciprocal's e 0..17; each division's remainder is below its divisor",
        scalar.ranges, Scalar, ("with m.Elif(exceeds(r.shift[:-1], _SHIFT_MAX)):", "with m.Elif(exceeds(r.shift[:-1], 48)):"),
    ),
]  # fmt: skip

PROOFS = [*PROPERTIES, *HOLD]
