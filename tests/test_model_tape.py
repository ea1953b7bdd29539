"""Tape: what is packed is what is read, and damage is named."""

from __future__ import annotations

import dataclasses
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritape.base.errors import TritapeError
from tritape.host.protocol import check_sum
from tritape.model.checkpoint import random_checkpoint
from tritape.model.codes.ternary5 import TERNARY5
from tritape.model.config import ModelConfig
from tritape.model.formats import quantise_model
from tritape.model.golden import IntegerModel
from tritape.model.quantised import QuantisedModel
from tritape.model.tape.assembler import encode_block, encode_vector, image, pack
from tritape.model.tape.container import read_tape
from tritape.model.tape.layout import CHECK, Geometry, Opcode, Section, image_words, program
from tritape.model.tape.reader import decode_block, decode_vector, read_model, sections


@pytest.fixture(scope="module")
def odd_model() -> QuantisedModel:
    """Hidden 40, intermediate 65, vocabulary 97, two layers."""
    config = ModelConfig(vocab_size=97, hidden_size=40, num_hidden_layers=2, intermediate_size=65)
    return quantise_model(random_checkpoint(config, seed=3), ids=list(range(24)))


def test_image_is_golden_twice(odd_model: QuantisedModel, tmp_path):
    """The golden model read back from the tape gives the logits of the golden model that was packed."""
    ids = [3, 96, 0, 41]
    wanted = IntegerModel(odd_model).run_integer(ids)
    for groups in (4, 13, 16):
        path = tmp_path / f"{groups}.tape"
        pack(odd_model, path, groups, max_rows=32, tokenizer=b"{}")
        tape = read_tape(path)
        assert tape.tokenizer == b"{}"
        assert len(tape.image) == image_words(odd_model.config, groups, 32) * groups
        back = read_model(tape)
        assert np.array_equal(IntegerModel(back).run_integer(ids), wanted)


def test_every_flipped_byte_is_found(odd_model: QuantisedModel, tmp_path):
    """One flipped byte anywhere in the image is an error of the reader."""
    path = tmp_path / "m.tape"
    pack(odd_model, path, 16)
    tape = read_tape(path)
    rng = np.random.default_rng(0)
    used = len(tape.image)
    for position in rng.integers(0, used, 40).tolist():
        damaged = bytearray(tape.image)
        damaged[position] ^= 0x10
        if position % 16 >= 4 and bytes(
            tape.image[position - position % 16 + 4 : position - position % 16 + 16]
        ) == bytes(12):
            continue  # padding behind a CRC carries nothing
        with pytest.raises(TritapeError, match=r"must"):
            read_model(dataclasses.replace(tape, image=bytes(damaged)))


def test_truncated_and_foreign_files(odd_model: QuantisedModel, tmp_path):
    path = tmp_path / "m.tape"
    pack(odd_model, path, 16)
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(TritapeError, match=rf"file must have {len(data)} bytes, not {len(data) - 1}; it is truncated"):
        read_tape(path)
    path.write_bytes(b"hello")
    with pytest.raises(TritapeError, match=r"file must start with b'TRITAPE1', not b'hello'"):
        read_tape(path)
    with pytest.raises(TritapeError, match=r"tape must be a file, not missing"):
        read_tape(tmp_path / "none.tape")
    with pytest.raises(TritapeError, match=r"groups must be from 4 to 255, not 3"):
        Geometry(3)


def test_interrupt_leaves_nothing(odd_model: QuantisedModel, tmp_path):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(odd_model, tmp_path / "m.tape", 16, progress=stop)
    assert list(tmp_path.iterdir()) == []


GEOMETRIES = [Geometry(4), Geometry(5), Geometry(13), Geometry(16), Geometry(4, 2), Geometry(9, 3), Geometry(16, 4)]


@given(st.integers(1, 40), st.integers(1, 200), st.sampled_from(GEOMETRIES), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_blocks_and_vectors_round_trip(rows: int, k: int, geometry: Geometry, seed: int):
    rng = np.random.default_rng(seed)
    weights = rng.integers(-1, 2, (rows, k)).astype(np.int8)
    whole = geometry.lane(rows) * geometry.engines
    decoded = decode_block(encode_block(weights, geometry), geometry, whole, k)
    assert np.array_equal(decoded[:rows], weights)
    assert not decoded[rows:].any()
    values = rng.integers(-32767, 32768, k)
    assert np.array_equal(decode_vector(encode_vector(values, geometry), geometry, k, signed=True), values)


def test_bytes_are_balanced_ternary():
    """The byte of every five trits, against its definition."""
    for value in range(-121, 122):
        trits = TERNARY5.decode(np.array([abs(value) | (128 if value < 0 else 0)], np.uint8))[0]
        assert sum(int(t) * 3**k for k, t in enumerate(trits)) == value
        assert TERNARY5.encode(trits) == abs(value) | (128 if value < 0 else 0)


def test_sections_follow_the_program(odd_model: QuantisedModel):
    data = image(odd_model, 16, 32)
    prologue, body = program(odd_model.config, 16, 32)
    found = [section for section, _, _ in sections(data, Geometry(16))]
    assert [s.opcode for s in found] == [s.opcode for s in prologue + body]
    assert [s.index for s in found] == list(range(1, len(found) + 1))
    assert found[-1].opcode == Opcode.END
    with pytest.raises(
        TritapeError, match=r"^check of section header 0 must make the XOR of its words 0x54415045, not 0x00000009; "
    ):
        Section.decode(bytes([9]) + bytes(31))
    unknown = bytes([9]) + bytes(27) + (CHECK ^ 9).to_bytes(4, "little")
    with pytest.raises(TritapeError, match=r"opcode must be 1 to 6, not 9"):
        Section.decode(unknown)


def test_two_tapes_of_one_shape_have_different_check_sums():
    """A plain CRC-32 is the same for both: every section ends with its own, which cancels what is before it."""
    shape = ModelConfig(vocab_size=97, hidden_size=40, num_hidden_layers=2, intermediate_size=65)
    one, other = (image(quantise_model(random_checkpoint(shape, seed=seed), ids=[1, 2]), 8, 512) for seed in (1, 2))
    assert one != other
    assert zlib.crc32(one) == zlib.crc32(other)
    assert check_sum(one) != check_sum(other)
