"""Weight codes: what they say of themselves, their bytes, and tapes that are packed in them."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritape.base.errors import TritapeError
from tritape.cli import main
from tritape.host.device import Device
from tritape.host.limits import check_limits
from tritape.host.protocol import Identity
from tritape.hw.config import Config
from tritape.hw.link.commands import identity
from tritape.model.checkpoint import random_checkpoint, save_checkpoint
from tritape.model.codes import CODES, SPARSE4, TERNARY5, code_named, code_numbered
from tritape.model.config import ModelConfig
from tritape.model.formats import quantise_model
from tritape.model.golden import IntegerModel
from tritape.model.quantised import QuantisedModel
from tritape.model.tape.assembler import encode_block, image, is_sparse4, pack
from tritape.model.tape.container import read_tape
from tritape.model.tape.layout import VERSION, Geometry, HeaderPayload, image_words, program, section_names
from tritape.model.tape.reader import decode_block, read_header, read_model, sections
from tritape.sim.golden_device import GoldenDevice

SHAPE = ModelConfig(vocab_size=67, hidden_size=50, num_hidden_layers=2, intermediate_size=43)


@pytest.fixture(scope="module")
def model() -> QuantisedModel:
    """3:4, of odd sizes."""
    return quantise_model(random_checkpoint(SHAPE, 5, sparse4=True), ids=list(range(20)))


@pytest.mark.parametrize("code", CODES.values(), ids=list(CODES))
def test_numbers_and_codes_agree(code) -> None:
    """Every pattern has one code; its top bit negates it; the script fills each entry once."""
    trits = np.array(list(itertools.product((-1, 0, 1), repeat=code.weights)), np.int8)
    if code is SPARSE4:
        trits = trits[(trits == 0).sum(axis=1) == 1]
    codes = code.encode(trits)
    assert len(set(codes.tolist())) == len(trits)
    assert codes.max() < 1 << code.bits
    assert np.array_equal(code.decode(codes), trits)
    sign = 1 << (code.bits - 1)
    moved = codes[trits.any(axis=1)]
    assert np.array_equal(code.decode(moved ^ sign), -code.decode(moved))
    script = code.script()
    assert sorted(address for address, _ in script) == list(range(code.entries))
    assert code.entries <= 1 << code.address_bits == sign
    for address, weights in script:
        assert code.decode(np.array([address], np.uint8))[0].tolist() == list(weights)
    most = max(sum(abs(weight) for weight in weights) for _, weights in script)
    assert most * 128 < 1 << (code.entry_bits - 1)
    assert (code_named(code.name), code_numbered(code.number)) == (code, code)


def test_sizes() -> None:
    assert [(c.weights_a_byte, c.tables(20), c.tile(20), c.groups_step) for c in (TERNARY5, SPARSE4)] == [
        (5.0, 20, 100, 1), (6.4, 32, 128, 5),
    ]  # fmt: skip
    with pytest.raises(TritapeError, match=r"^code must be one of ternary5, sparse4, not 'int4'; choose one of them$"):
        code_named("int4")
    with pytest.raises(TritapeError, match=r"one of 0 \(ternary5\), 1 \(sparse4\), not 9; use a newer tritape$"):
        code_numbered(9)
    with pytest.raises(TritapeError, match=r"^groups must be a multiple of 5 with code sparse4, not 16; try 20$"):
        Geometry(16, 1, SPARSE4)
    with pytest.raises(
        TritapeError, match=r"^engines must divide the 4 weights of a code of sparse4, not be 5; try 1, 2 or 4$"
    ):
        Geometry(5, 5, SPARSE4)


def test_eight_codes_lie_in_five_bytes() -> None:
    """Bit 0 of the first code is bit 0 of byte 0 (docs/tape.md)."""
    codes = np.array([1, 2, 4, 8, 16, 31, 0, 21], np.uint8)
    data = SPARSE4.pack(codes)
    assert int.from_bytes(data.tobytes(), "little") == sum(int(code) << 5 * place for place, code in enumerate(codes))
    assert np.array_equal(SPARSE4.unpack(data), codes)
    assert SPARSE4.decode(np.array([0b00000, 0b00100, 0b01010, 0b11101], np.uint8)).tolist() == [
        [1, 1, 1, 0], [1, 1, 0, 1], [1, 0, 1, -1], [0, 1, -1, -1],
    ]  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 30), st.integers(1, 150), st.sampled_from([(5, 1), (15, 1), (10, 2), (20, 4)]), st.integers(0, 2**31)
)
def test_blocks_round_trip(rows: int, k: int, geometry: tuple[int, int], seed: int) -> None:
    rng, shape = np.random.default_rng(seed), Geometry(*geometry, SPARSE4)
    fours = rng.choice([-1, 1], (rows, -(-k // 4), 4)).astype(np.int8)
    np.put_along_axis(fours, rng.integers(0, 4, (*fours.shape[:2], 1)), 0, axis=2)
    weights = fours.reshape(rows, -1)[:, :k]
    whole = shape.lane(rows) * shape.engines
    assert np.array_equal(decode_block(encode_block(weights, shape), shape, whole, k)[:rows], weights)


def test_a_tape_reads_back_and_says_its_code(model: QuantisedModel, tmp_path: Path) -> None:
    for groups, engines in [(5, 1), (10, 2), (20, 4)]:
        metadata = pack(model, tmp_path / "m.tape", groups, max_rows=32, engines=engines, code=SPARSE4)
        tape = read_tape(tmp_path / "m.tape")
        assert metadata["code"] == "sparse4"
        assert tape.geometry == Geometry(groups, engines, SPARSE4)
        assert len(tape.image) == image_words(SHAPE, groups, 32, engines, SPARSE4) * groups * engines
        header = read_header(tape.image, tape.geometry)
        assert (header.code, header.version) == (1, VERSION)
        prologue, body = program(SHAPE, groups, 32, engines, SPARSE4)
        assert [section.payload for section, _, _ in sections(tape.image, tape.geometry)] == [
            section.payload for section in prologue + body
        ]
        assert len(section_names(header)) == len(prologue + body)
        ids = [3, 1, 4, 1, 5]
        again = IntegerModel(read_model(tape))
        assert np.array_equal(again.run_integer(ids), IntegerModel(model).run_integer(ids))


def test_a_dense_tape_has_no_sign_of_codes(model: QuantisedModel, tmp_path: Path) -> None:
    assert "code" not in pack(model, tmp_path / "m.tape", 5)
    data = image(model, 5)
    assert HeaderPayload.decode(data[35:99]).code == 0
    assert data == read_tape(tmp_path / "m.tape").image


def test_what_is_not_sparse_is_refused_by_tensor_row_and_column(model: QuantisedModel, tmp_path: Path) -> None:
    gate = model.layers[1].projections["gate"]
    weights = gate.weights.copy()
    weights[2 * 7 + 1, 21] = 0  # up row 7, so row 43 + 7 of the tensor
    weights[2 * 7 + 1, 20] = 0
    layers = [*model.layers]
    layers[1] = dataclasses.replace(
        layers[1], projections={**layers[1].projections, "gate": dataclasses.replace(gate, weights=weights)}
    )
    broken = dataclasses.replace(model, layers=layers)
    assert is_sparse4(model)
    assert not is_sparse4(broken)
    with pytest.raises(
        TritapeError,
        match=r"^tensor model\.layers\.1\.mlp\.gate_proj\.weight: row 50 must have one zero in columns 20 to 23, not ",
    ):
        pack(broken, tmp_path / "m.tape", 5, code=SPARSE4)
    assert list(tmp_path.iterdir()) == []


def test_pack_and_inspect_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = dataclasses.replace(SHAPE, vocab_size=256)  # bytes, so without a tokenizer
    save_checkpoint(random_checkpoint(shape, 5, sparse4=True), tmp_path / "sparse")
    save_checkpoint(random_checkpoint(shape, 5), tmp_path / "dense")

    def run(*arguments: str) -> int:
        monkeypatch.setattr("sys.argv", ["tritape", *arguments])
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    def tried(*arguments: str) -> tuple[str, str]:
        """(code of the tape, remarks)"""
        target, result_file = tmp_path / "m.tape", tmp_path / "m.json"
        if run("pack", *arguments, "-o", str(target), "--json", str(result_file)):
            return "", capsys.readouterr().err
        assert run("inspect", str(target), "--json", str(tmp_path / "i.json")) == 0
        found = json.loads((tmp_path / "i.json").read_text())["code"]
        assert found == json.loads(result_file.read_text())["code"]
        return found, capsys.readouterr().err

    sparse, dense = str(tmp_path / "sparse"), str(tmp_path / "dense")
    assert tried(sparse, "--groups", "10")[0] == "sparse4"
    assert tried(sparse, "--groups", "10", "--code", "ternary5")[0] == "ternary5"
    code, remarks = tried(sparse)  # words of 16 bytes
    assert code == "ternary5"
    assert "the model is 3:4, but is packed as ternary5: groups must be a multiple of 5" in remarks
    assert tried(dense, "--groups", "10")[0] == "ternary5"
    assert "tensor " in tried(dense, "--groups", "10", "--code", "sparse4")[1].replace("\n", " ")


def test_a_device_for_another_code_refuses_with_the_cure(model: QuantisedModel) -> None:
    configs = {name: Config.for_model(SHAPE, 5, code=name) for name in CODES}
    identities = {name: Identity.decode(identity(config, 1000)) for name, config in configs.items()}
    assert [identities[name].code.name for name in CODES] == list(CODES)
    assert identities["ternary5"].geometry == Geometry(5)
    tapes = {name: image(model, 5, code=code) for name, code in CODES.items()}
    for mine, other in (("ternary5", "sparse4"), ("sparse4", "ternary5")):
        message = (
            rf"weight code of the tape must be {mine}, not {other}; pack it with --code {mine}, or program a bitstream that "
            f"takes {other}"
        )
        header = read_header(tapes[other], Geometry(5, 1, CODES[other]))
        with pytest.raises(TritapeError, match=message):
            check_limits(identities[mine], header, len(tapes[other]), "x")
        with pytest.raises(TritapeError, match=message):
            Device(GoldenDevice(configs[mine], model)).load_tape(tapes[other])
    device = Device(GoldenDevice(configs["sparse4"], model))
    device.load_tape(tapes["sparse4"])
    assert device.booted
