"""Damage of tape, memory and session in the fast simulation: each is told within its token, none loses the device."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from small_board import ONE_SLOT

from tritape.base.errors import TritapeError
from tritape.host.device import Device
from tritape.hw.tape.header import Fault
from tritape.model.checkpoint import random_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.formats import quantise_model
from tritape.model.golden import IntegerModel
from tritape.model.quantised import QuantisedModel
from tritape.model.tape.assembler import image
from tritape.model.tape.layout import Geometry, HeaderPayload, MatvecMode, Opcode, Section
from tritape.model.tape.reader import read_header
from tritape.sim.generate import RETRY_S, Simulation

pytestmark = [pytest.mark.slow, pytest.mark.optimised]
CONFIG = ONE_SLOT
GROUPS, ROWS = CONFIG.groups, CONFIG.max_rows
GEOMETRY = Geometry(GROUPS)
PROMPT, COUNT = [7, 90], 3
FLIPS = 200


class RealTime(Simulation):
    """Seconds of a clock of 25 MHz, so that the host's patience is that of a board."""

    CYCLES_A_SECOND = 25_000_000


@pytest.fixture(scope="module")
def model() -> QuantisedModel:
    shape = ModelConfig(vocab_size=97, hidden_size=40, num_hidden_layers=2, intermediate_size=65)
    return quantise_model(random_checkpoint(shape, seed=1), ids=list(range(8)))


@pytest.fixture(scope="module")
def simulation() -> Iterator[Simulation]:
    with RealTime(CONFIG) as simulation:
        yield simulation


@pytest.fixture(scope="module")
def expected(model: QuantisedModel) -> list[int]:
    """What the golden model generates, greedily."""
    golden = IntegerModel(model)
    for token in PROMPT:
        logits = golden.step(token)
    out = [int(np.argmax(logits))]
    while len(out) < COUNT:
        out.append(int(np.argmax(golden.step(out[-1]))))
    return out


def stall(simulation: Simulation, share: int) -> None:
    """Let the memory give nothing in so many of 1,024 cycles."""
    simulation._process.call(ord("L"), struct.pack("<IIII", 0, 0, 0, share))


def places(data: bytes) -> list[tuple[int, Section]]:
    """(word, header) of every section that a token reads, in order."""
    header = read_header(data, GEOMETRY)
    found = []
    for start, words in (
        (header.prologue_address, header.prologue_words), (header.body_address, header.body_words),
    ):  # fmt: skip
        at = start
        while at < start + words:
            section = Section.decode(data[at * GROUPS :][:32])
            found.append((at, section))
            at += GEOMETRY.section_words(section)
    return found


def changed(data: bytes, at: int, section: Section, **fields: int) -> bytes:
    """The image with a section's header changed, its check and its CRC right."""
    start = at * GROUPS
    end = start + (GEOMETRY.header_words + section.payload) * GROUPS
    whole = replace(section, **fields).encode() + data[start + 32 : end]
    return data[:start] + whole + struct.pack("<I", zlib.crc32(whole)) + data[end + 4 :]


def tokens(simulation: Simulation, data: bytes) -> list[int]:
    """Put an image into memory, boot it, and generate."""
    simulation.set_memory(data, GROUPS)
    device = Device(simulation, retry_s=RETRY_S)
    device.boot()
    return list(device.generate_tokens(PROMPT, COUNT))


def check_recovery(simulation: Simulation, model: QuantisedModel, expected: list[int]) -> None:
    """A new session loads the tape over the link and gets the right tokens."""
    device = Device(simulation, retry_s=RETRY_S)
    device.load_tape(image(model, GROUPS, ROWS))
    assert list(device.generate_tokens(PROMPT, COUNT)) == expected
    assert not Device(simulation, retry_s=RETRY_S).recovered


def first(data: bytes, opcode: Opcode, mode: int | None = None) -> tuple[int, Section]:
    return next((at, s) for at, s in places(data) if s.opcode == opcode and mode in (None, s.mode))


def test_a_tape_for_fewer_groups(simulation: Simulation, model: QuantisedModel, expected: list[int]) -> None:
    simulation.set_memory(image(model, 4, ROWS), GROUPS)
    device = Device(simulation, retry_s=RETRY_S)
    with pytest.raises(
        TritapeError, match=rf"^groups of the tape must be the bitstream's; .* \(fault {Fault.GROUPS}\)$"
    ):
        device.boot()
    check_recovery(simulation, model, expected)


CHANGES = {
    "payload + 256": (Fault.STARVED, Opcode.MATVEC, MatvecMode.I, lambda s: {"payload": s.payload + 256}),
    "first cleared": (Fault.STARVED, Opcode.MATVEC, MatvecMode.I, lambda s: {"flags": s.flags & ~1}),
    "no rows": (Fault.BLOCK_ROWS, Opcode.MATVEC, MatvecMode.GATE_UP, lambda s: {"rows": 0}),
    "state": (Fault.BASE, Opcode.MATVEC, MatvecMode.F, lambda s: {"base": 1 << 23}),
    "index": (Fault.ORDER, Opcode.PREP, None, lambda s: {"index": s.index + 1}),
    "END with a payload": (Fault.PAYLOAD, Opcode.END, None, lambda s: {"payload": 1}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_wrong_fields_with_a_right_check(
    simulation: Simulation, model: QuantisedModel, expected: list[int], name: str
) -> None:
    """The fault and the section are told, and no token is given."""
    fault, opcode, mode, change = CHANGES[name]
    data = image(model, GROUPS, ROWS)
    at, section = first(data, opcode, mode)
    match = r"section \d+ " if fault == Fault.STARVED else rf"section {section.index} \({opcode.name}"
    with pytest.raises(TritapeError, match=rf"^{match}.* \(fault {fault}\)$"):
        tokens(simulation, changed(data, at, section, **change(section)))
    opened = Device(simulation, retry_s=RETRY_S)
    assert opened.recovered
    assert f"(fault {fault})" in opened.recovered
    check_recovery(simulation, model, expected)


@pytest.mark.parametrize(("name", "fault"), [("row_words", Fault.ROW_WORDS), ("body_words", Fault.REGION_WORDS)])
def test_wrong_numbers_of_words(
    simulation: Simulation, model: QuantisedModel, expected: list[int], name: str, fault: Fault
) -> None:
    data = image(model, GROUPS, ROWS)
    start = GEOMETRY.header_words * GROUPS
    header = replace(HeaderPayload.decode(data[start : start + 64]), **{name: 1 if name == "row_words" else 0})
    whole = data[:start] + header.encode()
    with pytest.raises(TritapeError, match=rf"\(fault {fault}\)$"):
        tokens(simulation, whole + struct.pack("<I", zlib.crc32(whole)) + data[len(whole) + 4 :])
    check_recovery(simulation, model, expected)


def test_end_damaged_after_the_answer(simulation: Simulation, model: QuantisedModel, expected: list[int]) -> None:
    """Its header is a fault, its CRC an error; both are known before the token is given, of the last token too."""
    data = bytearray(image(model, GROUPS, ROWS))
    at, section = first(bytes(data), Opcode.END)
    for place, match in ((8, rf"fault {Fault.CHECK}"), (32, "CRC-32 must be right")):
        damaged = bytearray(data)
        damaged[at * GROUPS + place] ^= 4
        simulation.set_memory(bytes(damaged), GROUPS)
        device = Device(simulation, retry_s=RETRY_S)
        device.boot()
        with pytest.raises(TritapeError, match=rf"^section {section.index} \(END\) of the tape: .*{match}"):
            device.feed(PROMPT[:1])
        check_recovery(simulation, model, expected)


def test_every_flipped_bit_is_told_within_its_token(
    simulation: Simulation, model: QuantisedModel, expected: list[int]
) -> None:
    """Headers, payloads and CRCs of the whole tape that a token reads, the embedding row, and the HEADER section."""
    data = image(model, GROUPS, ROWS)
    header = read_header(data, GEOMETRY)
    row = header.embedding_address + PROMPT[0] * header.row_words
    read = [range(GEOMETRY.boot_words * GROUPS), range(row * GROUPS, (row + header.row_words) * GROUPS)]
    for at, section in places(data):
        start = at * GROUPS
        read += [range(start, start + 32)] * 3  # headers are short: more of them
        read.append(range(start, start + GEOMETRY.section_words(section) * GROUPS))
    rng = random.Random(2)
    told: dict[str, int] = {}
    for _ in range(FLIPS):
        place, bit = rng.choice(rng.choice(read)), rng.randrange(8)
        damaged = bytearray(data)
        damaged[place] ^= 1 << bit
        simulation.set_memory(bytes(damaged), GROUPS)
        device = Device(simulation, retry_s=RETRY_S)

        def run(device: Device = device) -> None:
            device.boot()
            device.feed(PROMPT[:1])

        with pytest.raises(TritapeError) as caught:
            run()
        text = str(caught.value)
        kind = text[text.rindex("(fault") :] if "(fault" in text else "CRC"
        told[kind] = told.get(kind, 0) + 1
    assert told["CRC"]
    assert told[f"(fault {Fault.CHECK})"] > FLIPS // 4
    check_recovery(simulation, model, expected)


def test_errors_may_be_allowed(simulation: Simulation, model: QuantisedModel, expected: list[int]) -> None:
    """A wrong CRC does not stop a device that is told to go on; the counters still say so."""
    data = bytearray(image(model, GROUPS, ROWS))
    at, section = first(bytes(data), Opcode.END)
    data[at * GROUPS + 33] ^= 1
    simulation.set_memory(bytes(data), GROUPS)
    device = Device(simulation, retry_s=RETRY_S)
    device.boot()
    device.allow_errors = True
    assert list(device.generate_tokens(PROMPT, COUNT)) == expected
    counters = device.counters()
    assert counters["crc_errors"] >= COUNT
    assert counters["first_bad_section"] == section.index
    check_recovery(simulation, model, expected)


@pytest.mark.long
def test_a_memory_that_stops(simulation: Simulation, model: QuantisedModel, expected: list[int]) -> None:
    """In the middle of a token: starved. Before a reading or BOOT: a status. Afterwards everything works again."""
    data = image(model, GROUPS, ROWS)
    simulation.set_memory(data, GROUPS)
    device = Device(simulation, retry_s=RETRY_S)
    device.boot()
    run = device.generate_tokens(PROMPT, 20)
    assert next(run) == expected[0]
    stall(simulation, 1024)
    try:
        with pytest.raises(TritapeError, match=rf"^section \d+ .*\(fault {Fault.STARVED}\)$"):
            list(run)
        with pytest.raises(TritapeError, match=r"^memory of the device must answer without an error, not fail"):
            Device(simulation, retry_s=RETRY_S).check_memory(0, 1)
    finally:
        stall(simulation, 0)
    check_recovery(simulation, model, expected)


def test_a_host_that_is_killed(simulation: Simulation, model: QuantisedModel, expected: list[int]) -> None:
    """After any number of bytes of a session, a new one gets the right tokens."""
    data = image(model, GROUPS, ROWS)
    simulation.set_memory(data, GROUPS)
    rng = random.Random(4)
    for _ in range(6):
        sent: list[bytes] = []
        device = Device(simulation, retry_s=RETRY_S)
        device.load_tape(data, verify=False) if rng.random() < 0.3 else device.boot()
        # what is caught here never leaves the host, so there is no answer to wait millions of cycles for
        device.link._retry_s = device.link._silence_s = 0.001
        write, simulation.write = simulation.write, sent.append  # type: ignore[method-assign]
        try:
            with pytest.raises(TritapeError, match="must answer"):
                device.link._exchange(rng.choice((0x10, 0x12, 0x16, 0x04)), 0, 20, rng.randbytes(160))
        finally:
            simulation.write = write  # type: ignore[method-assign]
        simulation.write(sent[0][: rng.randrange(1, len(sent[0]))])
        check_recovery(simulation, model, expected)
