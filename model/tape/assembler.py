"""Assembler: the integers of a model become the memory image that streams into the fabric.

The image comes out piece by piece, so packing needs memory for one section, not for the tape.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tritape.model import arith
from tritape.model.quantised import Projection, QuantisedModel
from tritape.model.tape.layout import (
    Geometry,
    HeaderPayload,
    MatvecMode,
    Opcode,
    Section,
    image_words,
    program,
    write_tape,
)

DEFAULT_ROWS = 1024
"""Rows a block when nothing else is asked for: the row accumulator of the default bitstream."""


def assemble(
    model: QuantisedModel, groups: int, max_rows: int = DEFAULT_ROWS, progress: Callable[[int, int], None] | None = None
) -> Iterator[bytes]:
    """The memory image in pieces, whole words of `groups` bytes; `progress(sections done, sections)`.

    Raises TritapeError for groups or rows out of range.
    """
    geometry = Geometry(groups)
    prologue, body = program(model.config, groups, max_rows)
    yield _header(model, geometry, max_rows, prologue, body)
    for done, section in enumerate(prologue + body, 1):
        section, payload = _fill(model, geometry, section)
        assert len(payload) == section.payload * groups
        yield geometry.close(geometry.pad(section.encode()) + payload)
        if progress is not None:
            progress(done, len(prologue) + len(body))
    for row in model.embedding:
        yield geometry.close(geometry.pad(row.tobytes()))


def image(model: QuantisedModel, groups: int, max_rows: int = DEFAULT_ROWS) -> bytes:
    """The whole memory image at once."""
    return b"".join(assemble(model, groups, max_rows))


def pack(
    model: QuantisedModel,
    path: Path,
    groups: int,
    max_rows: int = DEFAULT_ROWS,
    tokenizer: bytes = b"",
    name: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write a tape file and return its metadata. Errors as `assemble` and `write_tape`."""
    size = image_words(model.config, groups, max_rows) * groups
    metadata = {
        "name": name,
        "checkpoint_sha256": model.sha256,
        "config": model.config.to_dict(),
        "groups": groups,
        "rows": max_rows,
        "image_bytes": size,
        "residual_fraction": model.residual_fraction,
        "logit_fraction": model.logit_fraction,
        "tokenizer_sha256": hashlib.sha256(tokenizer).hexdigest() if tokenizer else None,
    }
    write_tape(path, metadata, tokenizer, assemble(model, groups, max_rows, progress), size)
    return metadata


def encode_block(weights: NDArray[np.int8], groups: int) -> bytes:
    """Weight bytes of one block [rows, K]: for tile, for row, one word; trits past K are 0."""
    rows, k = weights.shape
    geometry = Geometry(groups)
    tiles = geometry.tiles(k)
    padded = np.zeros((rows, tiles * geometry.tile), dtype=np.int8)
    padded[:, :k] = weights
    codes = arith.encode_trits(padded.reshape(rows, tiles, groups, 5))
    return np.ascontiguousarray(codes.transpose(1, 0, 2)).tobytes()


def encode_vector(values: arith.Ints, groups: int) -> bytes:
    """A vector of 16-bit elements, signed or unsigned, G // 2 a word."""
    per_word = groups // 2
    words = -(-len(values) // per_word)
    padded = np.zeros(words * per_word, dtype=np.int64)
    padded[: len(values)] = values
    block = np.zeros((words, groups), dtype=np.uint8)
    block[:, : 2 * per_word] = (padded & 0xFFFF).astype("<u2").view(np.uint8).reshape(words, 2 * per_word)
    return block.tobytes()


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
        logit_fraction=model.logit_fraction,
    ).encode()
    section = Section(Opcode.HEADER, payload=geometry.words(len(payload)))
    return geometry.close(geometry.pad(section.encode()) + geometry.pad(payload))


def _fill(model: QuantisedModel, geometry: Geometry, section: Section) -> tuple[Section, bytes]:
    """A section of the program with its constants, and its payload."""
    groups = geometry.groups
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
        return section, encode_vector(values, groups)
    if section.opcode == Opcode.PREP:
        p = projection(model, section.what)
        return replace(section, eps=p.eps, mantissa=p.mantissa, exponent=p.exponent), b""
    if section.opcode == Opcode.EMBED:
        return replace(section, mantissa=model.multiplier), b""
    if section.opcode == Opcode.MATVEC:
        weights = projection(model, section.what).weights[section.row0 : section.row0 + section.rows]
        shift = 0
        if section.mode in (MatvecMode.G, MatvecMode.GATE_UP):
            layer = model.layers[int(section.what.split(".")[1])]
            shift = layer.o_shift if section.mode == MatvecMode.G else layer.m_shift
        return replace(section, shift=shift), encode_block(weights, groups)
    return section, b""
