"""Whole tokens through the whole accelerator in cocotb: every element of every unit, and every byte to the host."""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Module, signed
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator
from link_script import BOOTED, DAMAGED, Script
from test_hw_sequencer import Tape

from tritape.hw.accelerator import Accelerator
from tritape.hw.config import Config
from tritape.hw.link.commands import Command, ErrorCode
from tritape.hw.memory.signature import MemorySignature
from tritape.hw.onchip_accelerator import OnChipAccelerator
from tritape.hw.probe import PROBES
from tritape.hw.tape.header import Fault
from tritape.model import arith
from tritape.model.checkpoint import load_checkpoint, random_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.formats import quantise_model
from tritape.model.golden import IntegerModel, Trace
from tritape.model.quantised import QuantisedModel
from tritape.model.tape.assembler import image
from tritape.model.tape.layout import Geometry
from tritape.model.tape.reader import read_header
from tritape.sim.bench import check_streams

pytestmark = pytest.mark.slow
REFERENCE = Path(__file__).parent / "data" / "mmfreelm-tiny"
SEED = 0x1234567


class Probed(wiring.Component):
    """An accelerator whose probes come out as streams, through FIFOs deep enough for the bench's stalls."""

    def __init__(self, unit: Accelerator | OnChipAccelerator, groups: int):
        self._unit = unit
        self._ports = {"rx": In(stream.Signature(8)), "tx": Out(stream.Signature(8))}
        if isinstance(unit, Accelerator):
            self._ports["memory"] = In(MemorySignature(groups))
        shapes = {name: signed(8 if name == "activation" else 18) for name in PROBES}
        super().__init__(self._ports | {name: Out(stream.Signature(shape)) for name, shape in shapes.items()})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.unit = unit = self._unit
        for name in self._ports:
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(unit, name))
        for name in PROBES:
            tap = getattr(unit.probe, name)
            m.submodules[name] = queue = fifo.SyncFIFOBuffered(width=len(tap), depth=1024)
            port = getattr(self, name)
            m.d.comb += [
                queue.w_data.eq(tap),
                queue.w_en.eq(getattr(unit.probe, f"{name}_valid")),
                port.payload.eq(queue.r_data),
                port.valid.eq(queue.r_rdy),
                queue.r_en.eq(port.ready),
            ]
        return m


@cache
def reference() -> QuantisedModel:
    return quantise_model(load_checkpoint(REFERENCE))


@cache
def odd() -> QuantisedModel:
    """Hidden 40, intermediate 65, vocabulary 97, one layer."""
    config = ModelConfig(vocab_size=97, hidden_size=40, num_hidden_layers=1, intermediate_size=65)
    return quantise_model(random_checkpoint(config, seed=3), ids=list(range(24)))


def extend(link: Script, model: QuantisedModel, prompt: list[int], more: int, inv_temperature: int, position: int = 0):
    """Boot, a prompt and `more` tokens onto a session: (elements of every probe, ids fed)."""
    golden, state = IntegerModel(model), SEED
    probes: dict[str, list[int]] = {name: [] for name in PROBES}
    fed: list[int] = []

    def run(token: int) -> int:
        nonlocal state
        trace = Trace()
        chosen, state = arith.choose(golden.step(token, trace), inv_temperature, state)
        fed.append(token)
        for name in PROBES:
            probes[name] += trace.flat(name).tolist()
        return chosen

    link.flags = BOOTED
    link.send(Command.BOOT)
    link.send(Command.TEMPERATURE, inv_temperature)
    link.send(Command.SEED, SEED)
    link.load(prompt, position=position, fresh=True)
    chosen = [[run(token) for token in prompt][-1]]
    for _ in range(more):
        chosen.append(run(chosen[-1]))
    link.poll(position + len(prompt), chosen)
    return probes, fed


@cache
def probed(groups: int, per_filler: int, rows: int) -> Probed:
    """Made once: elaborating it takes longer than some of the simulations."""
    config = Config(
        groups=groups, tables_per_filler=per_filler, max_hidden=64, max_intermediate=256, max_layers=2, max_vocab=256,
        max_rows=rows,
    )  # fmt: skip
    return Probed(Accelerator(config), groups)


def run(
    shape: tuple[int, int, int],
    link: Script,
    words: list[int],
    requests: list[tuple[int, int]],
    asked: list[tuple[int, str, int]],
    probes: dict[str, list],
) -> None:
    """The session `link` of `probed(*shape)`, with a memory that gives `words` for the `requests`, under random stalls."""
    check_streams(
        probed(*shape),
        simulator="verilator",
        inputs={"rx": list(link.rx), "memory.words": words},
        expected={
            "tx": list(link.tx),
            "memory.requests": [{"address": a, "length": n} for a, n in requests],
            "memory.write": [],
            **probes,
        },
        after={"memory.words": asked, "rx": link.gates},
        seed=shape[0],
        input_stall=0.1,
        output_stall=0.2,
    )


CASES = [
    # model, groups, tables a filler, rows a block, prompt, more tokens, inverse temperature
    (odd, 4, 2, 64, [0, 96, 5], 2, 0),
    pytest.param(odd, 13, 3, 16, [7], 1, 5000, marks=pytest.mark.long),
    pytest.param(odd, 16, 1, 1024, [1, 2], 1, 0, marks=pytest.mark.long),
    pytest.param(reference, 16, 2, 1024, [10, 200], 1, 4000, marks=pytest.mark.long),
    (reference, 13, 2, 96, [255], 1, 0),
]


@pytest.mark.parametrize(("make", "groups", "per_filler", "rows", "prompt", "more", "inv"), CASES)
def test_tokens_with_a_stalling_memory(make, groups, per_filler, rows, prompt, more, inv):
    """Random stalls of memory, host and probes: requests, replies and every element of every unit are as they must be."""
    model = make()
    link = Script()
    probes, fed = extend(link, model, prompt, more, inv)
    data = image(model, groups, rows)
    header = read_header(data, Geometry(groups))
    prologue = (header.prologue_address, header.prologue_words)
    requests = [(0, header.prologue_address), prologue]
    for token in fed:
        row = (header.embedding_address + token * header.row_words, header.row_words)
        requests += [row, (header.body_address, header.body_words), prologue]
    words = [
        int.from_bytes(data[(address + i) * groups :][:groups], "little")
        for address, length in requests
        for i in range(length)
    ]
    # no memory gives words before they are asked for
    firsts = [sum(length for _, length in requests[:place]) for place in range(len(requests))]
    asked = [(first, "memory.requests", place) for place, first in enumerate(firsts, start=1)]
    run((groups, per_filler, rows), link, words, requests, asked, probes)


@pytest.mark.parametrize(("groups", "rows", "width"), [(4, 64, 40), (13, 96, 64)])
def test_numbers_of_all_bits(groups: int, rows: int, width: int) -> None:
    """Tapes with all bits of their numbers, or every other one: each request is as the header says, and the
    section behind is refused before a unit is told. What the host sets comes back. The hardware is that of `CASES`."""
    link, words, requests, asked = Script(), [], [], []
    for bits in (0xFFFF_FFFF, 0, 0x5555_5555, 0xAAAA_AAAA):
        tape, token, row_words = Tape(groups), bits & 0xFFFF, bits & 0xFFFF | 2
        numbers = ("prologue_address", "prologue_words", "body_address", "body_words", "embedding_address")
        values = {name: bits ^ -(place & 1) & 0xFFFF_FFFF | 1 for place, name in enumerate(numbers)}
        tape.boot(
            hidden=width, intermediate=width, layers=1, rows=rows, vocabulary=bits & 0xFF, row_words=row_words,
            logit_fraction=bits & 0xFF, **values,
        )  # fmt: skip
        asked.append((len(words), "memory.requests", len(requests) + 1))
        requests.append((0, len(tape.words)))
        words += tape.words
        prologue = (values["prologue_address"], values["prologue_words"])
        row = (values["embedding_address"] + token * row_words & 0xFFFF_FFFF, row_words)
        requests += [prologue, row, (values["body_address"], values["body_words"]), prologue]
        asked.append((len(words), "memory.requests", len(requests)))
        words += tape.split(struct.pack("<I", bits) * 8)
        link.flags = BOOTED
        link.send(Command.BOOT)
        link.send(Command.TEMPERATURE, bits & 0x1FFFF)
        link.send(Command.SEED, bits)
        elements = b"".join((bits >> shift & 0x3FFFF).to_bytes(3, "little") for shift in (0, 1))
        link.send(Command.WRITE_STATE, bits & 63, 2, elements, left=(bits & 63) + 2)
        link.send(Command.READ_STATE, bits & 63, 2, back=elements)
        link.load([token], position=0, fresh=bool(bits & 1))
        link.flags |= DAMAGED | Fault.CHECK
        link.send(Command.POLL, 1 | 2 << 8, 5, status=ErrorCode.FAULT)
    run((groups, 2, rows), link, words, requests, asked, {name: [] for name in PROBES})


def test_an_error_of_reading_is_told_until_the_restart() -> None:
    """Also where the word that comes is the right one, so that no CRC tells."""
    unit = Accelerator(Config(groups=4, max_hidden=8, max_intermediate=8, max_layers=1, max_vocab=8, max_rows=8))
    restart = Script()
    restart.send(Command.RESTART)

    async def script(context: Any) -> None:
        for failed in (0, 1):
            context.set(unit.memory.read_failed, failed)
            await context.tick()
            context.set(unit.memory.read_failed, 0)
            await context.tick().repeat(3)
            assert context.get(unit._link.damaged) == failed
        for byte in restart.rx:
            context.set(unit.rx.payload, byte)
            context.set(unit.rx.valid, 1)
            await context.tick().until(unit.rx.ready)
        context.set(unit.rx.valid, 0)
        await context.tick().repeat(100)
        assert not context.get(unit._link.damaged)

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(script)
    simulator.run()


@pytest.mark.long
def test_tape_loaded_over_the_link():
    """On-chip memory: write the tape, boot, run, boot again; the counters say how many tokens, and no error."""
    model, groups, rows = odd(), 5, 1024
    data = image(model, groups, rows)
    words = len(data) // groups
    config = Config(groups=groups, max_hidden=64, max_intermediate=128, max_layers=1, max_vocab=128)
    link = Script()
    link.write(0, data, groups)
    probes, _ = extend(link, model, [3, 50], 1, 0)
    extend(link, model, [3, 50], 1, 0, position=3)
    check_streams(
        Probed(OnChipAccelerator(config, words), groups),
        simulator="verilator",
        inputs={"rx": list(link.rx)},
        expected={"tx": list(link.tx), **{name: values * 2 for name, values in probes.items()}},
        after={"rx": link.gates},
        input_stall=0.0,
        output_stall=0.1,
    )
