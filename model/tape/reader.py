"""Reader: a tape's memory image back into the integers of the model, checking every CRC on the way.

The golden model can so be run from the very bytes that the hardware streams. A model too large to hold is checked as a whole,
then decoded layer by layer whenever its layers are asked for.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tritape.base.errors import TritapeError
from tritape.model import arith
from tritape.model.codes import check_code
from tritape.model.config import ModelConfig
from tritape.model.quantised import (
    PROJECTIONS,
    RESIDENT_WEIGHTS,
    Layer,
    Projection,
    QuantisedModel,
    StreamedLayers,
)
from tritape.model.tape.container import TapeFile
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
    program,
    ternary_weights,
)


def read_header(image: bytes | memoryview, geometry: Geometry, source: str = "tape") -> HeaderPayload:
    """The HEADER section of an image with words of `geometry`. Raises TritapeError for a wrong magic, version or CRC."""
    _, payload = _section(image, geometry, 0, source)
    header = HeaderPayload.decode(payload[:HEADER_PAYLOAD_BYTES])
    for field, wanted in (
        ("magic", MAGIC),
        ("version", VERSION),
        ("groups", geometry.groups),
        ("engines", geometry.engines),
    ):
        value = getattr(header, field)
        if value != wanted:
            raise TritapeError(
                f"{source}: {field} of the HEADER section must be {wanted}, not {value}; pack the tape again"
            )
    check_code(header.geometry.code, geometry.code, source)
    return header


def sections(
    image: bytes | memoryview, geometry: Geometry, source: str = "tape"
) -> Iterator[tuple[Section, int, bytes | memoryview]]:
    """(section, word address, payload) of prologue and body in order. Raises TritapeError at the first wrong CRC."""
    header = read_header(image, geometry, source)
    address, end = header.prologue_address, header.body_address + header.body_words
    while address < end:
        section, payload = _section(image, geometry, address, source)
        yield section, address, payload
        address += geometry.section_words(section)


def decode_block(payload: bytes | memoryview, geometry: Geometry, rows: int, k: int) -> NDArray[np.int8]:
    """Weights [rows, K] of one MATVEC payload, in tape order; `rows` counts those that pad the last slice too."""
    code = geometry.code
    codes = code.unpack(np.frombuffer(payload, np.uint8).reshape(geometry.tiles(k), rows, geometry.groups))
    shape = (geometry.engines, geometry.lane_tile) if code.by_lane else (geometry.tile, 1)
    trits = code.decode(codes).reshape(geometry.tiles(k), rows, *shape)
    return trits.transpose(1, 0, 3, 2).reshape(rows, -1)[:, :k]


def matrix_rows(rows: NDArray[np.int8], section: Section, geometry: Geometry) -> NDArray[np.int8]:
    """Rows of a block from tape order to matrix order: the inverse of `slice_rows`, padding included."""
    if section.mode != MatvecMode.GATE_UP:
        return rows
    return rows.reshape(-1, 2, geometry.engines, rows.shape[1]).transpose(0, 2, 1, 3).reshape(rows.shape)


def decode_vector(payload: bytes | memoryview, geometry: Geometry, length: int, signed: bool) -> arith.Ints:
    """A vector of `length` 16-bit elements."""
    lanes = np.frombuffer(payload, np.uint8).reshape(-1, geometry.engines, geometry.groups)
    elements = np.ascontiguousarray(lanes[:, :, : geometry.groups // 2 * 2]).view("<i2" if signed else "<u2")
    return elements.transpose(0, 2, 1).reshape(-1)[:length].astype(np.int64)


def read_model(tape: TapeFile, source: str = "tape") -> QuantisedModel:
    """The model of a tape. Raises TritapeError for damage, or sections that are not those of its shape."""
    config = ModelConfig.from_dict(tape.metadata["config"], source)
    geometry, image = tape.geometry, tape.image
    header = read_header(image, geometry, source)
    parts = program(config, geometry.groups, header.rows, geometry.engines, geometry.code)
    expected = [section for part in parts for section in part]
    vectors: dict[str, arith.Ints] = {}
    preps: dict[str, Section] = {}
    shifts: dict[str, int] = {}
    blocks: dict[str, list[tuple[int, Section]]] = {}  # of each projection: first byte of the payload, section
    multiplier = 0
    header_bytes = geometry.header_words * geometry.word_bytes
    for wanted, (section, address, payload) in zip(expected, sections(image, geometry, source), strict=True):
        _same(wanted, section, address, source)
        if section.opcode == Opcode.LOAD:
            signed = not wanted.what.endswith("lower_bound")
            vectors[wanted.what] = decode_vector(payload, geometry, vector_length(wanted.what, config), signed)
        elif section.opcode == Opcode.PREP:
            preps[wanted.what] = section
        elif section.opcode == Opcode.EMBED:
            multiplier = section.mantissa
        elif section.opcode == Opcode.MATVEC:
            blocks.setdefault(wanted.what, []).append((address * geometry.word_bytes + header_bytes, section))
            if section.mode in (MatvecMode.G, MatvecMode.GATE_UP):
                shifts[wanted.what] = section.shift
                tape.release()

    def width(what: str) -> int:
        return config.intermediate_size if what.endswith(".down") else config.hidden_size

    def weights(what: str) -> NDArray[np.int8]:
        k = width(what)
        slice_bytes = geometry.tiles(k) * geometry.word_bytes
        matrix = np.empty((sum(section.rows for _, section in blocks[what]) * geometry.engines, k), np.int8)
        row0 = 0
        for start, section in blocks[what]:
            rows = section.rows * geometry.engines
            decoded = decode_block(image[start : start + section.rows * slice_bytes], geometry, rows, k)
            matrix[row0 : row0 + rows] = matrix_rows(decoded, section, geometry)
            row0 += rows
        tape.release()
        return matrix[: row_count(what, config)]

    def constants(what: str) -> Projection:
        prep = preps[what]
        return Projection(
            np.empty((0, width(what)), np.int8),
            vectors.get(f"{what}.gain_first"),
            vectors[f"{what}.gain_product"],
            prep.eps,
            prep.mantissa,
            prep.exponent,
        )

    plain = []
    for index in range(config.num_hidden_layers):
        name = f"layers.{index}"
        plain.append(
            Layer(
                {p: constants(f"{name}.{p}") for p in PROJECTIONS},
                vectors[f"{name}.lower_bound"],
                shifts[f"{name}.g"],
                shifts[f"{name}.gate"],
            )
        )
    layers = StreamedLayers(plain, lambda index, name: weights(f"layers.{index}.{name}"))
    return QuantisedModel(
        config,
        _embedding(image, geometry, header, source),
        multiplier,
        layers if ternary_weights(config) > RESIDENT_WEIGHTS else list(layers),
        replace(constants("head"), weights=weights("head")),
        tape.metadata["residual_fraction"],
        header.logit_fraction,
        tape.metadata["checkpoint_sha256"],
    )


def row_count(what: str, config: ModelConfig) -> int:
    """Rows of the projection called `what`; gate and up together are `layers.L.gate`."""
    if what == "head":
        return config.vocab_size
    return 2 * config.intermediate_size if what.endswith(".gate") else config.hidden_size


def vector_length(what: str, config: ModelConfig) -> int:
    """Elements of the vector of a LOAD called `what`."""
    return config.intermediate_size if ".down." in what else config.hidden_size


def _embedding(image: bytes | memoryview, geometry: Geometry, header: HeaderPayload, source: str) -> NDArray[np.int8]:
    start, step = header.embedding_address * geometry.word_bytes, geometry.word_bytes
    data = np.frombuffer(image, np.uint8, offset=start).reshape(header.vocab, header.row_words * step)
    rows = np.ascontiguousarray(data[:, :-step])
    crcs = np.ascontiguousarray(data[:, -step:][:, :4]).view("<u4").reshape(-1)
    for token, (row, crc) in enumerate(zip(rows, crcs, strict=True)):
        found = zlib.crc32(row.tobytes()) ^ token
        if found != crc:
            raise TritapeError(
                f"{source}: CRC-32 of embedding row {token} must be {crc:#010x}, not {found:#010x}; pack the tape again"
            )
    lanes = rows.reshape(header.vocab, -1, geometry.engines, geometry.groups).transpose(0, 1, 3, 2)
    return lanes.reshape(header.vocab, -1)[:, : header.hidden].view(np.int8)


def _section(
    image: bytes | memoryview, geometry: Geometry, address: int, source: str
) -> tuple[Section, bytes | memoryview]:
    start = address * geometry.word_bytes
    if start + HEADER_BYTES > len(image):
        raise TritapeError(
            f"{source}: image must have more than {start + HEADER_BYTES} bytes, not {len(image)}; pack the tape again"
        )
    section = Section.decode(image[start : start + HEADER_BYTES])
    end = start + (geometry.header_words + section.payload) * geometry.word_bytes
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
    return section, image[start + geometry.header_words * geometry.word_bytes : end]


def _same(wanted: Section, found: Section, address: int, source: str) -> None:
    """Raise TritapeError unless the found section is the wanted one, constants aside."""
    plain = replace(found, shift=0, mantissa=0, eps=0, exponent=0)
    if plain != replace(wanted, what="", row0=0):
        raise TritapeError(
            f"{source}: section at word {address} must be {wanted.opcode.name} {wanted.what} of {wanted.payload} words, "
            f"not {found.opcode.name} of {found.payload} words; pack the tape again"
        )
