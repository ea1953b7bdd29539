"""Reader: a tape's memory image back into the integers of the model, checking every CRC on the way.

The golden model can so be run from the very bytes that the hardware streams.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tritape.model import arith
from tritape.model.checkpoint import ModelConfig
from tritape.model.errors import TritapeError
from tritape.model.quantised import PROJECTIONS, Layer, Projection, QuantisedModel
from tritape.model.tape.layout import (
    HEADER_BYTES,
    HEADER_PAYLOAD_BYTES,
    MAGIC,
    VERSION,
    Geometry,
    HeaderPayload,
    MatvecMode,
    Opcode,
    Section,
    TapeFile,
    program,
)


def read_header(image: bytes, groups: int, source: str = "tape") -> HeaderPayload:
    """The HEADER section of an image with words of `groups` bytes. Raises TritapeError for a wrong magic, version or CRC."""
    geometry = Geometry(groups)
    _, payload = _section(image, geometry, 0, source)
    header = HeaderPayload.decode(payload[:HEADER_PAYLOAD_BYTES])
    for field, wanted in (("magic", MAGIC), ("version", VERSION), ("groups", groups)):
        value = getattr(header, field)
        if value != wanted:
            raise TritapeError(
                f"{source}: {field} of the HEADER section must be {wanted}, not {value}; pack the tape again"
            )
    return header


def sections(image: bytes, groups: int, source: str = "tape") -> Iterator[tuple[Section, int, bytes]]:
    """(section, word address, payload) of prologue and body in order. Raises TritapeError at the first wrong CRC."""
    geometry = Geometry(groups)
    header = read_header(image, groups, source)
    address, end = header.prologue_address, header.body_address + header.body_words
    while address < end:
        section, payload = _section(image, geometry, address, source)
        yield section, address, payload
        address += geometry.section_words(section)


def decode_block(payload: bytes, groups: int, rows: int, k: int) -> NDArray[np.int8]:
    """Weights [rows, K] of one MATVEC payload."""
    geometry = Geometry(groups)
    codes = np.frombuffer(payload, np.uint8).reshape(geometry.tiles(k), rows, groups)
    return arith.decode_trits(codes).transpose(1, 0, 2, 3).reshape(rows, -1)[:, :k]


def decode_vector(payload: bytes, groups: int, length: int, signed: bool) -> arith.Ints:
    """A vector of `length` 16-bit elements."""
    per_word = groups // 2
    words = np.frombuffer(payload, np.uint8).reshape(-1, groups)[:, : 2 * per_word]
    return np.ascontiguousarray(words).view("<i2" if signed else "<u2").reshape(-1)[:length].astype(np.int64)


def read_model(tape: TapeFile, source: str = "tape") -> QuantisedModel:
    """The model of a tape. Raises TritapeError for damage, or sections that are not those of its shape."""
    config = ModelConfig.from_dict(tape.metadata["config"], source)
    groups, image = tape.metadata["groups"], tape.image
    header = read_header(image, groups, source)
    expected = [section for part in program(config, groups, header.rows) for section in part]
    vectors: dict[str, arith.Ints] = {}
    preps: dict[str, Section] = {}
    shifts: dict[str, int] = {}
    blocks: dict[str, list[NDArray[np.int8]]] = {}
    multiplier = 0
    for wanted, (section, address, payload) in zip(expected, sections(image, groups, source), strict=True):
        _same(wanted, section, address, source)
        if section.opcode == Opcode.LOAD:
            signed = not wanted.what.endswith("lower_bound")
            vectors[wanted.what] = decode_vector(payload, groups, section.length, signed)
        elif section.opcode == Opcode.PREP:
            preps[wanted.what] = section
        elif section.opcode == Opcode.EMBED:
            multiplier = section.mantissa
        elif section.opcode == Opcode.MATVEC:
            k = config.intermediate_size if wanted.what.endswith(".down") else config.hidden_size
            blocks.setdefault(wanted.what, []).append(decode_block(payload, groups, section.rows, k))
            if section.mode in (MatvecMode.G, MatvecMode.GATE_UP):
                shifts[wanted.what] = section.shift

    def projection(what: str) -> Projection:
        prep = preps[what]
        return Projection(
            np.concatenate(blocks[what]),
            vectors.get(f"{what}.gain_first"),
            vectors[f"{what}.gain_product"],
            prep.eps,
            prep.mantissa,
            prep.exponent,
        )

    layers = []
    for index in range(config.num_hidden_layers):
        name = f"layers.{index}"
        layers.append(
            Layer(
                {p: projection(f"{name}.{p}") for p in PROJECTIONS},
                vectors[f"{name}.lower_bound"],
                shifts[f"{name}.g"],
                shifts[f"{name}.gate"],
            )
        )
    return QuantisedModel(
        config,
        _embedding(image, groups, header, source),
        multiplier,
        layers,
        projection("head"),
        tape.metadata["residual_fraction"],
        header.logit_fraction,
        tape.metadata["checkpoint_sha256"],
    )


def _embedding(image: bytes, groups: int, header: HeaderPayload, source: str) -> NDArray[np.int8]:
    start = header.embedding_address * groups
    data = np.frombuffer(image, np.uint8, offset=start).reshape(header.vocab, header.row_words * groups)
    rows = np.ascontiguousarray(data[:, :-groups])
    crcs = np.ascontiguousarray(data[:, -groups:][:, :4]).view("<u4").reshape(-1)
    for token, (row, crc) in enumerate(zip(rows, crcs, strict=True)):
        if zlib.crc32(row.tobytes()) != crc:
            raise TritapeError(
                f"{source}: CRC-32 of embedding row {token} must be {crc:#010x}, not {zlib.crc32(row.tobytes()):#010x}; "
                "pack the tape again"
            )
    return rows[:, : header.hidden].view(np.int8)


def _section(image: bytes, geometry: Geometry, address: int, source: str) -> tuple[Section, bytes]:
    start = address * geometry.groups
    if start + HEADER_BYTES > len(image):
        raise TritapeError(
            f"{source}: image must have more than {start + HEADER_BYTES} bytes, not {len(image)}; pack the tape again"
        )
    section = Section.decode(image[start : start + HEADER_BYTES])
    end = start + (geometry.header_words + section.payload) * geometry.groups
    if end + 4 > len(image):
        raise TritapeError(
            f"{source}: section at word {address} must end within {len(image)} bytes, not at {end + 4}; pack the tape again"
        )
    (crc,) = struct.unpack_from("<I", image, end)
    found = zlib.crc32(image[start:end])
    if found != crc:
        raise TritapeError(
            f"{source}: CRC-32 of section {section.index} at word {address} must be {crc:#010x}, not {found:#010x}; "
            "pack the tape again"
        )
    return section, image[start + geometry.header_words * geometry.groups : end]


def _same(wanted: Section, found: Section, address: int, source: str) -> None:
    """Raise TritapeError unless the found section is the wanted one, constants aside."""
    plain = replace(found, shift=0, mantissa=0, eps=0, exponent=0)
    if plain != replace(wanted, what="", row0=0):
        raise TritapeError(
            f"{source}: section at word {address} must be {wanted.opcode.name} {wanted.what} of {wanted.payload} words, "
            f"not {found.opcode.name} of {found.payload} words; pack the tape again"
        )
