"""Assembler: the integers of a model become the memory image that streams into the fabric.

The image comes out piece by piece, so packing needs memory for one section, not for the tape.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tritape.model import arith
from tritape.model.codes import SPARSE4, TERNARY5, WeightCode
from tritape.model.quantised import Projection, QuantisedModel, source_row
from tritape.model.tape.container import write_tape
from tritape.model.tape.layout import (
    Geometry,
    HeaderPayload,
    MatvecMode,
    Opcode,
    Section,
    image_words,
    program,
)

DEFAULT_ROWS = 1024
"""Rows a block when nothing else is asked for: the row accumulator of the default bitstream."""


def assemble(
    model: QuantisedModel,
    groups: int,
    max_rows: int = DEFAULT_ROWS,
    progress: Callable[[int, int], None] | None = None,
    engines: int = 1,
    code: WeightCode = TERNARY5,
) -> Iterator[bytes]:
    """The memory image in pieces, whole words of E G bytes; `progress(sections done, sections)`.

    Raises TritapeError for groups or rows out of range, and for weights that have no code, by tensor, row and column.
    """
    geometry = Geometry(groups, engines, code)
    prologue, body = program(model.config, groups, max_rows, engines, code)
    yield _header(model, geometry, max_rows, prologue, body)
    for done, section in enumerate(prologue + body, 1):
        section, payload = _fill(model, geometry, section)
        assert len(payload) == section.payload * geometry.word_bytes
        yield geometry.close(geometry.pad(section.encode()) + payload)
        if progress is not None:
            progress(done, len(prologue) + len(body))
    for token, row in enumerate(model.embedding):
        yield geometry.close(encode_row(row, geometry), token)


def image(
    model: QuantisedModel,
    groups: int,
    max_rows: int = DEFAULT_ROWS,
    engines: int = 1,
    code: WeightCode = TERNARY5,
) -> bytes:
    """The whole memory image at once."""
    return b"".join(assemble(model, groups, max_rows, engines=engines, code=code))


def pack(
    model: QuantisedModel,
    path: Path,
    groups: int,
    max_rows: int = DEFAULT_ROWS,
    tokenizer: bytes = b"",
    name: str = "",
    progress: Callable[[int, int], None] | None = None,
    engines: int = 1,
    text: Mapping[str, Any] | None = None,
    code: WeightCode = TERNARY5,
) -> dict[str, Any]:
    """Write a tape file and return its metadata, that of `text` (`model.tokenizer.tape_text`) included. Errors as `assemble`
    and `write_tape`."""
    size = image_words(model.config, groups, max_rows, engines, code) * groups * engines
    metadata = {
        "name": name,
        "checkpoint_sha256": model.sha256,
        "config": model.config.to_dict(),
        "groups": groups,
        "engines": engines,
        **({} if code is TERNARY5 else {"code": code.name}),
        "rows": max_rows,
        "image_bytes": size,
        "residual_fraction": model.residual_fraction,
        "logit_fraction": model.logit_fraction,
        "tokenizer_sha256": hashlib.sha256(tokenizer).hexdigest() if tokenizer else None,
        **(text or {}),
    }
    write_tape(path, metadata, tokenizer, assemble(model, groups, max_rows, progress, engines, code), size)
    return metadata


def is_sparse4(model: QuantisedModel) -> bool:
    """Whether all ternary weights of a model are 3:4."""
    layers = (p for layer in model.layers for p in layer.projections.values())
    return all(SPARSE4.first_wrong(p.weights) is None for p in chain([model.head], layers))


def encode_block(weights: NDArray[np.int8], geometry: Geometry) -> bytes:
    """Weight bytes of one block [rows, K], rows in tape order: for tile, for slice of E rows, one word. Trits past K and rows
    past the block are 0, or what the code has for them."""
    rows, k = weights.shape
    tiles, lanes, code = geometry.tiles(k), geometry.engines, geometry.code
    padded = np.zeros((geometry.lane(rows) * lanes, tiles * geometry.tile), dtype=np.int8)
    padded[:rows, :k] = weights
    code.complete(padded, rows, k)
    # [row, tile, element of the lane, lane] -> [tile, row, lane, element]: each lane has its own tables
    shape = (geometry.lane_tile, lanes) if code.by_lane else (1, geometry.tile)
    tiled = padded.reshape(len(padded), tiles, *shape).transpose(1, 0, 3, 2)
    codes = code.encode(tiled.reshape(tiles, len(padded), code.tables(geometry.groups), code.weights))
    return code.pack(codes).tobytes()


def encode_vector(values: arith.Ints, geometry: Geometry) -> bytes:
    """A vector of 16-bit elements, signed or unsigned: in every word, each lane has G bytes for G // 2 of its elements."""
    per_word, words = geometry.groups // 2, geometry.vector_words(len(values))
    padded = np.zeros((words * per_word, geometry.engines), dtype=np.int64)
    padded.reshape(-1)[: len(values)] = values
    block = np.zeros((words, geometry.engines, geometry.groups), dtype=np.uint8)
    lanes = (padded & 0xFFFF).astype("<u2").reshape(words, per_word, -1).transpose(0, 2, 1)
    block[:, :, : 2 * per_word] = np.ascontiguousarray(lanes).view(np.uint8)
    return block.tobytes()


def encode_row(row: NDArray[np.int8], geometry: Geometry) -> bytes:
    """An embedding row: in every word, each lane has G of its elements."""
    words = geometry.row_words(len(row)) - 1
    padded = np.zeros((words * geometry.groups, geometry.engines), dtype=np.int8)
    padded.reshape(-1)[: len(row)] = row
    return padded.reshape(words, geometry.groups, -1).transpose(0, 2, 1).tobytes()


def slice_rows(weights: NDArray[np.int8], section: Section, geometry: Geometry) -> NDArray[np.int8]:
    """Rows of a block in tape order, out of a projection's [rows, K]. Rows of gate_proj and up_proj alternate in the
    projection; on the tape a slice of gates alternates with a slice of ups."""
    lanes = geometry.engines
    first, count = section.row0 * lanes, section.rows * lanes
    if lanes == 1 or section.mode != MatvecMode.GATE_UP:
        return weights[first : first + count]
    pairs = weights[first : first + count].reshape(-1, 2, weights.shape[1])
    whole = np.zeros((section.rows // 2 * lanes, *pairs.shape[1:]), dtype=np.int8)
    whole[: len(pairs)] = pairs
    return whole.reshape(-1, lanes, 2, weights.shape[1]).transpose(0, 2, 1, 3).reshape(count, -1)


def projection(model: QuantisedModel, what: str) -> Projection:
    """The projection called `what`: `head` or `layers.L.i` and so on."""
    if what == "head":
        return model.head
    _, layer, name = what.split(".")
    return model.layers[int(layer)].projections[name]


def _header(
    model: QuantisedModel, geometry: Geometry, rows: int, prologue: list[Section], body: list[Section]
) -> bytes:
    config = model.config
    sizes = [sum(geometry.section_words(s) for s in part) for part in (prologue, body)]
    prologue_address = geometry.boot_words
    payload = HeaderPayload(
        groups=geometry.groups,
        engines=geometry.engines,
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        layers=config.num_hidden_layers,
        rows=rows,
        vocab=config.vocab_size,
        prologue_address=prologue_address,
        prologue_words=sizes[0],
        body_address=prologue_address + sizes[0],
        body_words=sizes[1],
        embedding_address=prologue_address + sum(sizes),
        row_words=geometry.row_words(config.hidden_size),
        code=geometry.code.number,
        logit_fraction=model.logit_fraction,
    ).encode()
    section = Section(Opcode.HEADER, payload=geometry.words(len(payload)))
    return geometry.close(geometry.pad(section.encode()) + geometry.pad(payload))


def _fill(model: QuantisedModel, geometry: Geometry, section: Section) -> tuple[Section, bytes]:
    """A section of the program with its constants, and its payload."""
    if section.opcode == Opcode.LOAD:
        what, _, vector = section.what.rpartition(".")
        if vector == "lower_bound":
            values = model.layers[int(what.split(".")[1])].lower_bound
        elif vector == "gain_first":
            first = projection(model, what).gain_first
            assert first is not None
            values = first
        else:
            values = projection(model, what).gain_product
        return section, encode_vector(values, geometry)
    if section.opcode == Opcode.PREP:
        p = projection(model, section.what)
        return replace(section, eps=p.eps, mantissa=p.mantissa, exponent=p.exponent), b""
    if section.opcode == Opcode.EMBED:
        return replace(section, mantissa=model.multiplier), b""
    if section.opcode == Opcode.MATVEC:
        whole = projection(model, section.what).weights
        _check_codes(model, section, whole, geometry)
        weights = slice_rows(whole, section, geometry)
        shift = 0
        if section.mode in (MatvecMode.G, MatvecMode.GATE_UP):
            layer = model.layers[int(section.what.split(".")[1])]
            shift = layer.o_shift if section.mode == MatvecMode.G else layer.m_shift
        return replace(section, shift=shift), encode_block(weights, geometry)
    return section, b""


def _check_codes(model: QuantisedModel, section: Section, weights: NDArray[np.int8], geometry: Geometry) -> None:
    """Raise TritapeError naming tensor, row and column where a projection [rows, K] has weights without a code; once, at its
    first block."""
    if section.row0 == 0 and geometry.code.first_wrong(weights) is not None:
        tensor, order = source_row(section.what, len(weights))
        source = np.empty_like(weights)
        source[order] = weights
        geometry.code.check(tensor, source)
