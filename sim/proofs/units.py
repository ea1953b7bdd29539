"""Every component of `hw/`, small: how its streams are proved, or why not."""

from __future__ import annotations

import importlib
import inspect
import itertools
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import wiring

import tritape.hw
from tritape.hw.accelerator import Accelerator
from tritape.hw.axi_accelerator import AXIAccelerator
from tritape.hw.batch.slot import Slot
from tritape.hw.batch.token_loop import BatchTokenLoop
from tritape.hw.config import Config
from tritape.hw.engine.activation_memory import ActivationMemory
from tritape.hw.engine.add_sub import AddSub
from tritape.hw.engine.adder_tree import AdderTree
from tritape.hw.engine.row_accumulator import RowAccumulator
from tritape.hw.engine.sparse_activations import SparseActivations, fillers
from tritape.hw.engine.sparse_engine import SparseEngine
from tritape.hw.engine.sparse_filler import SparseFiller
from tritape.hw.engine.table_engine import TableEngine
from tritape.hw.engine.table_filler import TableFiller
from tritape.hw.head.argmax import Argmax
from tritape.hw.head.head import Head
from tritape.hw.head.row_serialiser import RowSerialiser
from tritape.hw.head.sampler import Sampler
from tritape.hw.link.autoboot import AutoBoot
from tritape.hw.link.axi_lite import AXILiteLink
from tritape.hw.link.byte_crc import ByteCRC
from tritape.hw.link.cobs import COBSDecoder
from tritape.hw.link.frame_port import FramePort
from tritape.hw.link.host_link import HostLink
from tritape.hw.link.step_runner import StepRunner
from tritape.hw.link.token_runner import TokenRunner
from tritape.hw.link.uart import UART
from tritape.hw.memory import spram
from tritape.hw.memory.axi import AXIMemory
from tritape.hw.memory.axi_reader import AXIReader
from tritape.hw.memory.axi_writer import AXIWriter
from tritape.hw.memory.flash_start import StartedFlash
from tritape.hw.memory.gearbox import Gearbox
from tritape.hw.memory.onchip import OnChipMemory
from tritape.hw.memory.pages import PagedMemory
from tritape.hw.memory.planner import Planner
from tritape.hw.memory.qspi import QSPIMemory
from tritape.hw.memory.register_window import RegisterWindow
from tritape.hw.memory.spram import SPRAMMemory
from tritape.hw.memory.wishbone_script import WishboneScript
from tritape.hw.memory.word_bytes import WordBytes
from tritape.hw.mixer.channel_mixer import ChannelMixer
from tritape.hw.mixer.mlgru import MLGRU
from tritape.hw.mixer.residual import Residual
from tritape.hw.mixer.silu import SiLU
from tritape.hw.mixer.state_memory import StateMemory
from tritape.hw.norm.dequantiser import Dequantiser
from tritape.hw.norm.gain_memory import GainMemory
from tritape.hw.norm.gains import ApplyGains
from tritape.hw.norm.quantiser import Quantiser
from tritape.hw.norm.rescale import Rescale
from tritape.hw.norm.rmsnorm import RMSNorm
from tritape.hw.norm.scalar import Scalar
from tritape.hw.norm.statistics import Statistics
from tritape.hw.norm.vector_scalar import VectorScalar
from tritape.hw.onchip_accelerator import OnChipAccelerator
from tritape.hw.standalone_accelerator import StandaloneAccelerator
from tritape.hw.stream.broadcast import Broadcast
from tritape.hw.stream.buffer import StreamBuffer
from tritape.hw.stream.logit_tap import LogitTap
from tritape.hw.stream.pulse_join import PulseJoin
from tritape.hw.stream.queue import CommandQueue
from tritape.hw.stream.skid import Skid
from tritape.hw.tape.crc import CRC32
from tritape.hw.tape.embedding import Embedding
from tritape.hw.tape.header import Opcode
from tritape.hw.tape.reader import TapeReader
from tritape.hw.tape.sequencer import Sequencer
from tritape.hw.token_loop import TokenLoop
from tritape.hw.uart_accelerator import UARTAccelerator
from tritape.hw.vector.alu import ALU
from tritape.hw.vector.lane import Lane
from tritape.hw.vector.pipelined import PipelinedVector
from tritape.hw.vector.serial import SerialVector
from tritape.hw.vector.serial_gain_memory import SerialGainMemory
from tritape.hw.vector.sigma_table import SigmaTable
from tritape.hw.vector.value_memory import ValueMemory
from tritape.sim.proofs.hold import Bench, Unit, previous
from tritape.sim.proofs.inside import Inside

SMALL = Config(groups=4, max_hidden=6, max_intermediate=8, max_layers=2, max_vocab=9, max_rows=4)
SPARSE = Config(
    groups=5,
    max_hidden=6,
    max_intermediate=8,
    max_layers=2,
    max_vocab=9,
    max_rows=4,
    tables_per_filler=4,
    code="sparse4",
)
TWO = Config(groups=4, max_hidden=6, max_intermediate=8, max_layers=2, max_vocab=9, max_rows=4, batch=2)
SERIAL = Config(groups=4, max_hidden=6, max_intermediate=8, max_layers=2, max_vocab=9, max_rows=4, serial=True)


class _ShallowRAM(SPRAMMemory):
    """With so few words that a solver can hold them all."""

    def elaborate(self, platform: object) -> Module:
        with mock.patch.object(spram, "_DEPTH", 16):
            return super().elaborate(platform)


def _reply_stands(inside: Inside, *path: str) -> list[Value]:
    """What is sent, or given as the command's, is what stands in the frame memory."""
    memory: Any = inside.part(*path, "memory")
    read, place = memory._read_ports[0]._data, inside.word(memory._read_ports[0]._addr, *path, "memory")
    fetching, fetched, found = (inside.signal(name, *path) for name in ("fetching", "fetched", "found"))
    sends = inside.state("SEND", *path) | inside.state("OBEY", *path)
    return [
        inside.known(*path),
        ~(inside.state("SEND", *path) | inside.state("RECEIVE", *path)) | ~inside.signal("storing", *path),
        ~(sends & fetching) | (read == place),
        ~(sends & fetched) | ((found == place) & fetching),
    ]


def _reply_ends(bench: Bench) -> Value:
    valid, payload, ready = bench.outer["reply"]
    return valid & ready & payload[9]


def _token_stands(inside: Inside, *path: str) -> list[Value]:
    """The token on offer is the one in the ring."""
    memory: Any = inside.part(*path, "memory")
    stands = memory._read_ports[0]._data == inside.word(inside.signal("position", *path), *path, "memory")
    idle, feeds = inside.state("CHECK", *path), inside.state("FEED", *path)
    return [inside.known(*path), idle | inside.signal("running", *path), ~feeds | stands]


def _tile_stands(filler: Inside) -> list[Value]:
    """A tile is filled and offered for a command only."""
    busy, filled = (
        Cat(filler.signal(name) for name in ("running", "active_1", "active_2", "active_3")),
        filler.signal("filled"),
    )
    return [~(busy.any() | filled) | filler.signal("commanded"), ~filled | ~busy.any()]


def _sparse_tile_stands(filler: Inside) -> list[Value]:
    """A tile is filled, drains and is offered for a command only, one thing after the other."""
    running, draining, filled = (filler.signal(name) for name in ("running", "draining", "filled"))
    ends = [filler.signal(f"ends_{age}") for age in range(1, fillers(SPARSE) + 3)]
    return [
        sum(ends) == draining,
        running + draining + filled <= 1,
        ~(running | draining | filled) | filler.signal("commanded"),
    ]


def _word_leaves(flash: Inside) -> list[Value]:
    """The last nibble of a word is asked for when the word before has left."""
    last = flash.signal("taken_last")[0]
    return [~last | (flash.signal("nibble") == 0), ~last | ~flash.signal("words__valid")]


def _opens_once(m: Module, bench: Bench) -> list[Value]:
    """The memory is started once, and not while a word that says so waits."""
    o = bench.outer
    later = previous(m, Const(1))
    return [~later | ~o["closed"] | previous(m, o["closed"]), ~later | (o["started"] == previous(m, o["started"]))]


def components() -> Iterator[type[wiring.Component]]:
    """Every component that a module of `hw/` defines, found by looking."""
    for found in pkgutil.walk_packages(tritape.hw.__path__, "tritape.hw."):
        module = importlib.import_module(found.name)
        for value in vars(module).values():
            if not inspect.isclass(value) or not issubclass(value, wiring.Component):
                continue
            abstract = any(getattr(part, "__isabstractmethod__", False) for part in vars(value).values())
            if value.__module__ == module.__name__ and not abstract:
                yield value


def _planned_once(planner: Inside) -> list[Value]:
    """What is offered is of the request that is waited for."""
    offered = [planner.signal(f"{name}__valid") for name in ("fetches__0", "fetches__1", "runs")]
    return [~Cat(offered).any() | planner.signal("stage")[1]]


def _commands_stand(sequencer: Inside) -> list[Value]:
    """A header stays while its commands are offered."""
    states = {name: sequencer.state(name) for name in sequencer.states()}
    units = ("engine", "dequantiser", "mlgru", "mixer", "head", "embedding")
    offered = Cat(sequencer.signal(f"{name}_commands__valid") for name in units).any()
    opcodes = {code: sequencer.signal(f"is_{code.name.lower()}") for code in Opcode}
    several = [a & b for a, b in itertools.combinations(opcodes.values(), 2)]
    number, is_header = sequencer.signal("number"), opcodes[Opcode.HEADER]
    unconfigured, few = ~sequencer.signal("configured"), sequencer.signal("unfinished") <= 1
    loads = states["PAYLOAD"] & opcodes[Opcode.LOAD]
    return [
        sequencer.known(),
        ~Cat(several).any(),
        ~states["ROW"] | opcodes[Opcode.EMBED],
        ~states["CHECK"] | is_header,
        ~is_header | ~offered,
        ~(states["HEADER"] | states["DECODE"]) | ~is_header | ~unconfigured,
        ~states["DECODE"] | ~offered,
        ~(loads | states["DECODE"] | (states["HEADER"] & (number != 0))) | ~sequencer.signal("load") | few,
        ~(states["HEADER"] | states["CHECK"]) | ~sequencer.signal("closing"),
        ~states["HEADER"] | ~offered | (sequencer.signal("pending") & (number == 0)),
        ~(states["ROW"] | (states["PAYLOAD"] & ~is_header)) | (number == 0),
    ]


def _gives_up(bench: Bench) -> Value:
    """What the link takes back: a token without a tape, a request or a word that the memory did not take for so long."""
    return bench.outer["fault"] | ~bench.outer["configured"] | bench.inside.signal("impatient")


def _one_token(m: Module, bench: Bench) -> list[Value]:
    fresh, done = bench.outer["fresh"], bench.outer["norm_done"]
    return [
        ~previous(m, Const(1)) | (fresh == previous(m, fresh)),
        ~done | (bench.inside.signal("unfinished") != 0),
    ]


_TOKEN: dict[str, Any] = {
    "assume": _one_token,
    "assumption": "`fresh` stands still; no PREP is finished that was not begun",
}


def _room(m: Module, bench: Bench) -> list[Value]:
    valid, _, ready = bench.outer["activations_0"]
    going = bench.outer["logits_enable"]
    rows, command, taken = bench.outer["dequantiser_commands"]
    several, last = bench.inside.signal("open"), Signal(2)
    with m.If(rows & taken):
        m.d.sync += last.eq(command[19:21])
    return [
        ~valid | ready,
        ~previous(m, Const(1)) | (going == previous(m, going)),
        ~(several & rows) | (command[19:21] == last),
        ~(several & bench.outer["embedding_commands"][0]),
    ]


_SERIAL_ROOM: dict[str, Any] = {
    "assume": _room,
    "assumption": "the engine has room for a PREP once begun; `logits_enable` stands still; a projection's blocks come together",
}
_UNBOOTED: dict[str, Any] = {
    "unless": lambda b: b.outer["fault"] | ~b.outer["configured"],
    "assumption": "a fault or a restart takes it back",
}
_RESTART: dict[str, Any] = {"unless": lambda b: b.outer["restart"], "assumption": "a restart takes elements back"}

UNITS: dict[str, Unit] = {
    "Accelerator": Unit(
        lambda: Accelerator(SMALL, memory_words=64),
        hole="`tx`, `memory.write`, `memory.requests`: HostLink and TokenLoop; `memory_mode` turns in a restart",
    ),
    "Slot": Unit(lambda: Slot(TWO), hole="its streams are those of PipelinedVector"),
    "BatchTokenLoop": Unit(
        lambda: BatchTokenLoop(TWO, memory_words=64),
        hole="`memory.requests` is TapeReader's; `results` joins the slots' Heads; `logits` is a slot's LogitTap",
    ),
    "RowAccumulator": Unit(lambda: RowAccumulator(SMALL, 14), 2),
    "TableEngine": Unit(lambda: TableEngine(SMALL), 2),
    "TableFiller": Unit(lambda: TableFiller(SMALL), 3, invariants=_tile_stands),
    "SparseEngine": Unit(lambda: SparseEngine(SPARSE), 2),
    "SparseFiller": Unit(lambda: SparseFiller(SPARSE), 3, invariants=_sparse_tile_stands),
    "Argmax": Unit(lambda: Argmax(4), 2),
    "Head": Unit(lambda: Head(9), 2),
    "RowSerialiser": Unit(lambda: RowSerialiser(2, 4), 2),
    "Sampler": Unit(Sampler, 2),
    "AXILiteLink": Unit(lambda: AXILiteLink(1, 4, 4096), 2),
    "COBSDecoder": Unit(COBSDecoder, 2),
    "FramePort": Unit(
        lambda: FramePort(b"abc"),
        2,
        invariants=_reply_stands,
        unless=_reply_ends,
        assumption="the reply's end takes the command back",
    ),
    "HostLink": Unit(
        lambda: HostLink(SMALL, memory_words=64, counter_count=15),
        2,
        unless=_gives_up,
        invariants=lambda i: [*_reply_stands(i, "port"), *_token_stands(i, "runner")],
        assumption="a fault, a restart or the end of patience takes elements back",
    ),
    "StepRunner": Unit(lambda: StepRunner(2), 2, **_UNBOOTED),
    "TokenRunner": Unit(TokenRunner, 2, invariants=_token_stands, **_UNBOOTED),
    "UART": Unit(lambda: UART(clock_hz=8, baud=1), 2),
    "AXIMemory": Unit(lambda: AXIMemory(4, 1, 16, burst=2, fifo_lines=4, words=64), 2, **_RESTART),
    "AXIReader": Unit(lambda: AXIReader(16, burst=2, fifo_lines=4), 2, **_RESTART),
    "Gearbox": Unit(lambda: Gearbox(4, 5), 2),
    "OnChipMemory": Unit(lambda: OnChipMemory(4, 8), 2),
    "PagedMemory": Unit(lambda: PagedMemory(4, 8, page=4), 2),
    "Planner": Unit(lambda: Planner(4, 5, 2, words=64), 2, invariants=_planned_once),
    "QSPIMemory": Unit(lambda: QSPIMemory(4), 2, invariants=_word_leaves, **_RESTART),
    "StartedFlash": Unit(
        lambda: StartedFlash(4), hole="its streams are those of the `QSPIMemory` inside, on the same wires"
    ),
    "RegisterWindow": Unit(
        lambda: RegisterWindow(4), 2, assume=_opens_once, assumption="`closed` falls once; `started` stands still"
    ),
    "SPRAMMemory": Unit(lambda: _ShallowRAM(4, primitive=False), 2, assumption="RAMs of 16 words"),
    "WordBytes": Unit(lambda: WordBytes(4), 2),
    "ChannelMixer": Unit(ChannelMixer, 2),
    "MLGRU": Unit(lambda: MLGRU(4, 6, 2), 2),
    "MLGRU chained": Unit(lambda: MLGRU(4, 6, 2, chained=True), 2),
    "Residual": Unit(lambda: Residual(4, 6), 2),
    "SiLU": Unit(SiLU, 2),
    "Dequantiser": Unit(Dequantiser, 2),
    "GainMemory": Unit(lambda: GainMemory(4, 4, 2), 2),
    "ApplyGains": Unit(ApplyGains, 2),
    "Quantiser": Unit(Quantiser, 2),
    "Rescale": Unit(Rescale, 2, quick=True),
    "RMSNorm": Unit(lambda: RMSNorm(4, 4), 14, bounded=True),
    "Scalar": Unit(Scalar, 2),
    "Statistics": Unit(Statistics, 2),
    "VectorScalar": Unit(
        lambda: VectorScalar(2),
        2,
        assume=lambda m, b: [b.outer["reciprocal_0"][2] == b.outer["reciprocal_1"][2]],
        assumption="all lanes take a reciprocal together",
    ),
    "OnChipAccelerator": Unit(lambda: OnChipAccelerator(SMALL, 16), hole="`tx` is HostLink's"),
    "Broadcast": Unit(lambda: Broadcast(4, 3), 2, quick=True),
    "StreamBuffer": Unit(lambda: StreamBuffer(4), 2, quick=True),
    "LogitTap": Unit(
        LogitTap, 2, quick=True, unless=lambda b: ~b.outer["enable"], assumption="`enable` low takes a logit back"
    ),
    "CommandQueue": Unit(lambda: CommandQueue(4), 2, quick=True),
    "Skid": Unit(lambda: Skid(4), 2, quick=True),
    "Embedding": Unit(lambda: Embedding(4), 2),
    "AutoBoot": Unit(
        lambda: AutoBoot(SERIAL),
        hole="it takes the memory while the loop has no request under way, which its ports do not say; run with token loops only",
    ),
    "TapeReader": Unit(lambda: TapeReader(4), 2, quick=True),
    "TapeReader of slots": Unit(lambda: TapeReader(4, batch=2), 2),
    "Sequencer": Unit(lambda: Sequencer(SMALL, address_bits=6), 2, invariants=_commands_stand, **_TOKEN),
    "Sequencer serial": Unit(lambda: Sequencer(SERIAL, address_bits=6), 2, invariants=_commands_stand, **_TOKEN),
    "TokenLoop": Unit(
        lambda: TokenLoop(SMALL, memory_words=64),
        hole="`memory.requests` is TapeReader's, `results` and `logits` are those of the vector path",
    ),
    "Lane": Unit(
        lambda: Lane(SMALL),
        hole="`operands` and `activations` are RMSNorm's, `after` is MLGRU's; `logits` is Dequantiser's, by its destination",
    ),
    "PipelinedVector": Unit(
        lambda: PipelinedVector(SMALL),
        hole="`activations` and `after` are those of its lanes, `tokens` is Head's, `logits` is LogitTap's",
    ),
    "SerialVector": Unit(lambda: SerialVector(SERIAL), 12, bounded=True, **_SERIAL_ROOM),
    "LiteDRAMMemory": Unit(
        lambda: Skid(1),
        hole="the controller is foreign Verilog; `words` and `write` are those of AXIMemory and RegisterWindow",
    ),
}

PARTS: dict[str, str] = {
    "MLGRU chained": "MLGRU",
    "TapeReader of slots": "TapeReader",
    "Sequencer serial": "Sequencer",
}
"""Second entries of a component."""

NO_STREAM_LEAVES: dict[str, Callable[[], wiring.Component]] = {
    "ActivationMemory": lambda: ActivationMemory(SMALL),
    "SparseActivations": lambda: SparseActivations(SPARSE),
    "AddSub": lambda: AddSub(4, 5),
    "AdderTree": lambda: AdderTree(4, 4),
    "AXIAccelerator": lambda: AXIAccelerator(SMALL, 64, ports=1, port_bits=16),
    "ByteCRC": ByteCRC,
    "AXIWriter": lambda: AXIWriter(16),
    "WishboneScript": lambda: WishboneScript([(0, 0, 0)]),
    "StateMemory": lambda: StateMemory(4),
    "PulseJoin": lambda: PulseJoin(2),
    "CRC32": lambda: CRC32(4),
    "StandaloneAccelerator": lambda: StandaloneAccelerator(SERIAL, OnChipMemory(4, 2048), 16, clock_hz=8, baud=1),
    "UARTAccelerator": lambda: UARTAccelerator(SMALL, 16, clock_hz=8, baud=1),
    "ALU": ALU,
    "SerialGainMemory": lambda: SerialGainMemory(SERIAL),
    "SigmaTable": SigmaTable,
    "ValueMemory": lambda: ValueMemory(SERIAL),
}
"""Components that have no stream to prove anything of."""
