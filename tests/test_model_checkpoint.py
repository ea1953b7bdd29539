"""Reading, refusing, quantising and writing checkpoints."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tritape.base.errors import TritapeError
from tritape.model.checkpoint import Checkpoint, load_checkpoint, random_checkpoint, save_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.data import default_model_path
from tritape.model.weights import EMBEDDINGS

TINY = Path(__file__).parent / "data" / "mmfreelm-tiny"
SMALL = ModelConfig(vocab_size=6, hidden_size=4, num_hidden_layers=2, intermediate_size=3)
WEIGHT = "model.layers.1.attn.i_proj.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small valid checkpoint that a test may damage."""
    save_checkpoint(random_checkpoint(SMALL, 1), tmp_path)
    return tmp_path


def read(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def write(path: Path, header: Any, body: bytes) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def edit_config(folder: Path, **entries: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def edit_header(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    header, body = read(folder / "model.safetensors")
    change(header)
    write(folder / "model.safetensors", header, body)


def refused(folder: Path, message: str) -> None:
    with pytest.raises(TritapeError, match=re.escape(message)):
        load_checkpoint(folder)


def arrays(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    return {name: checkpoint.tensor(name) for name, _ in checkpoint.config.tensor_shapes()}


def store(folder: Path, tensors: dict[str, tuple[str, np.ndarray]], name: str = "model.safetensors") -> None:
    """Write a safetensors file independently of the package: dtype name and bits of each tensor."""
    header, body = {}, b""
    for key, (dtype, bits) in tensors.items():
        end = len(body) + bits.nbytes
        header[key] = {"dtype": dtype, "shape": list(bits.shape), "data_offsets": [len(body), end]}
        body += bits.tobytes()
    write(folder / name, header, body)


def test_reads_the_reference_checkpoint(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(TINY)
    assert checkpoint.config == ModelConfig(256, 64, 2, 256, 1e-6, True, 1, 2)
    assert checkpoint.tokenizer_path is None
    save_checkpoint(checkpoint, tmp_path)
    assert checkpoint.sha256 == hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    header, body = read(TINY / "model.safetensors")
    begin, end = header["lm_head.weight"]["data_offsets"]
    np.testing.assert_array_equal(checkpoint.tensor("lm_head.weight").ravel(), np.frombuffer(body[begin:end], "<f4"))


def test_reads_the_embedded_checkpoint() -> None:
    checkpoint = load_checkpoint(default_model_path())
    assert checkpoint.tokenizer_path == default_model_path() / "tokenizer.json"
    linear = checkpoint.bitlinear("model.layers.2.mlp.down_proj")
    assert linear.weights.shape == (130, 390)
    assert linear.weights.dtype == np.int8
    assert linear.gain.shape == (390,)
    # The stored latents are canonical: every one is 0 or one magnitude, so quantising must not move any.
    latent = checkpoint.tensor("model.layers.2.mlp.down_proj.weight")
    np.testing.assert_array_equal(np.sign(latent), linear.weights)


@pytest.mark.parametrize(
    ("hidden", "ratio", "expected"), [(64, 4, 256), (1024, 4, 2816), (2048, 4, 5632), (2560, 4, 6912), (96, None, 256)]
)
def test_null_intermediate_size_is_resolved(hidden: int, ratio: int | None, expected: int) -> None:
    raw = SMALL.to_dict() | {"hidden_size": hidden, "intermediate_size": None, "hidden_ratio": ratio}
    assert ModelConfig.from_dict(raw, "config.json").intermediate_size == expected


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"model_type": "llama"}, "config.json: model_type must be 'hgrn_bit', not 'llama'; use a MatMul-free LM"),
        ({"use_short_conv": True}, "use_short_conv must be false, not True; short convolutions are not supported"),
        ({"use_short_conv": "no"}, "use_short_conv must be true or false, not 'no'"),
        ({"hidden_act": "gelu"}, "hidden_act must be 'swish' or 'silu', not 'gelu'"),
        ({"expand_ratio": 2}, "expand_ratio must be 1, not 2"),
        ({"num_heads": 3}, "num_heads must be a divisor of hidden_size 4, not 3"),
        ({"num_heads": 0}, "num_heads must be a positive integer, not 0"),
        ({"vocab_size": None}, "vocab_size must be a positive integer, not None"),
        ({"hidden_size": True}, "hidden_size must be a positive integer, not True"),
        ({"num_hidden_layers": -1}, "num_hidden_layers must be a positive integer, not -1"),
        ({"intermediate_size": 2.5}, "intermediate_size must be a positive integer, not 2.5"),
        ({"intermediate_size": None, "hidden_ratio": 10**400}, "hidden_ratio must be a positive number below 1000"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps must be a positive number below 1, not nan"),
        ({"rms_norm_eps": "1e-6"}, "rms_norm_eps must be a positive number below 1, not '1e-6'"),
        ({"bos_token_id": 6}, "bos_token_id must be null or an integer from 0 to 5, not 6"),
        ({"eos_token_id": [2, 6]}, "eos_token_id must be null or integers from 0 to 5, not [2, 6]"),
        ({"vocab_size": 7}, "shape of tensor model.embeddings.weight must be [7, 4], not [6, 4]; check config.json"),
        ({"num_hidden_layers": 1}, "shape of tensor model.lower_bounds must be [1, 4], not [2, 4]"),
        ({"num_hidden_layers": 10**15, "use_lower_bound": False}, "tensor model.layers.2.attn_norm.weight must be in"),
    ],
)
def test_refuses_bad_config(folder: Path, entries: dict[str, Any], message: str) -> None:
    edit_config(folder, **entries)
    refused(folder, message)


def test_accepts_silu_many_heads_and_null_ratios(folder: Path) -> None:
    edit_config(folder, hidden_act="silu", num_heads=2, expand_ratio=None, tie_word_embeddings=True)
    assert load_checkpoint(folder).config == SMALL  # tied, but lm_head.weight is stored


@pytest.mark.parametrize(("missing", "other"), [("lm_head.weight", EMBEDDINGS), (EMBEDDINGS, "lm_head.weight")])
def test_tied_embeddings(folder: Path, missing: str, other: str) -> None:
    """As `transformers`: of head and embedding either may be missing; where both are there, both count."""
    both = arrays(load_checkpoint(folder))
    edit_config(folder, tie_word_embeddings=True)
    np.testing.assert_array_equal(load_checkpoint(folder).tensor(missing), both[missing])
    edit_header(folder, lambda header: header.pop(missing))
    np.testing.assert_array_equal(load_checkpoint(folder).tensor(missing), both[other])
    edit_config(folder, tie_word_embeddings=False)
    refused(folder, f"tensor {missing} must be in the checkpoint, not missing; check config.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "config.json: file must be JSON, not damaged text; download it again"),
        (b"\xff", "config.json: file must be JSON, not damaged text"),
        (b"[" * 100_000, "config.json: file must be JSON, not damaged text"),
        (b"[1]", "config.json: file must be a JSON object, not list"),
    ],
)
def test_refuses_damaged_config(folder: Path, content: bytes, message: str) -> None:
    (folder / "config.json").write_bytes(content)
    refused(folder, message)


def test_refuses_wrong_folders(folder: Path) -> None:
    refused(
        folder / "absent", "absent: checkpoint must be a folder, not missing; give the folder that holds config.json"
    )
    refused(folder / "config.json", "config.json: checkpoint must be a folder, not a file")
    (folder / "model.safetensors").unlink()
    refused(folder, "folder must hold model.safetensors or pytorch_model.bin, or one in parts, not neither; download")
    (folder / "config.json").unlink()
    refused(folder, "config.json: file must exist, not be missing; take it from the checkpoint's repository")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.pop(WEIGHT), f"tensor {WEIGHT} must be in the checkpoint, not missing; check config.json"),
        (
            lambda h: h[WEIGHT].update(shape=[2, 8]),
            f"shape of tensor {WEIGHT} must be [4, 4], not [2, 8]; check config",
        ),
        (lambda h: h[WEIGHT].update(shape=[4, 5]), f"data of tensor {WEIGHT} must be 40 bytes, not 32"),
        (lambda h: h[WEIGHT].update(shape=[1] * 70), f"header entry of tensor {WEIGHT} must give dtype, shape and"),
        (lambda h: h[WEIGHT].update(shape=[0, 10**30]), f"data of tensor {WEIGHT} must be 0 bytes, not 32"),
        (lambda h: h[WEIGHT].update(shape=[4, -4]), f"header entry of tensor {WEIGHT} must give dtype, shape and"),
        (
            lambda h: h[WEIGHT].update(data_offsets=[9, 8]),
            f"header entry of tensor {WEIGHT} must give dtype, shape and",
        ),
        (lambda h: h[WEIGHT].pop("dtype"), f"header entry of tensor {WEIGHT} must give dtype, shape and data_offsets"),
        (lambda h: h.update({WEIGHT: 3}), f"header entry of tensor {WEIGHT} must give dtype, shape and data_offsets"),
        (
            lambda h: h[WEIGHT].update(dtype="I16"),
            f"dtype of tensor {WEIGHT} must be one of BF16, F16, F32, F64, not I16; save the checkpoint in one of them",
        ),
        (
            lambda h: h.update({"model.layers.0.attn.i_conv1d.weight": h[WEIGHT]}),
            "tensor model.layers.0.attn.i_conv1d.weight must be absent, not present; short convolutions",
        ),
    ],
)
def test_refuses_bad_tensors(folder: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    edit_header(folder, change)
    refused(folder, message)


def test_ignores_unknown_tensors(folder: Path) -> None:
    edit_header(folder, lambda h: h.update(extra={"dtype": "I8", "shape": [3], "data_offsets": [0, 3]}))
    assert load_checkpoint(folder).config == SMALL


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_refuses_values_that_are_not_finite(dtype: type, value: float) -> None:
    tensors = {name: array.astype(dtype) for name, array in arrays(random_checkpoint(SMALL, 2)).items()}
    tensors[WEIGHT][3, 3] = value
    with pytest.raises(
        TritapeError,
        match=rf"in memory: values of tensor {re.escape(WEIGHT)} must be finite, not {value}; take an undamaged",
    ):
        Checkpoint.from_arrays(SMALL, tensors)


def test_refuses_other_array_types() -> None:
    tensors = arrays(random_checkpoint(SMALL, 2)) | {WEIGHT: np.zeros((4, 4), np.int8)}
    with pytest.raises(TritapeError, match="must be float16, float32 or float64, not int8; convert it with astype"):
        Checkpoint.from_arrays(SMALL, tensors)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "model.safetensors: file must be at least 8 bytes, not 0; download the file again"),
        (b"\xff" * 20, "header must be at most 12 bytes, not 18446744073709551615"),
        ((4).to_bytes(8, "little") + b"{{}}", "header must be JSON, not damaged text"),
        ((2).to_bytes(8, "little") + b"[]", "header must be a JSON object, not list"),
        ((2).to_bytes(8, "little") + b"{}", "tensor model.embeddings.weight must be in the checkpoint, not missing"),
    ],
)
def test_refuses_damaged_safetensors(folder: Path, content: bytes, message: str) -> None:
    (folder / "model.safetensors").write_bytes(content)
    refused(folder, message)


@settings(deadline=None)
@given(st.data())
def test_truncation_anywhere_is_a_user_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("cut")
    save_checkpoint(random_checkpoint(SMALL, 1), folder)
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(TritapeError, match="download the file again"):
        load_checkpoint(folder)
    shutil.rmtree(folder)


@settings(deadline=None)
@given(hnp.arrays(np.float32, (4, 4), elements=st.floats(-1e6, 1e6, width=32)))
def test_every_dtype_gives_its_values(tmp_path_factory: pytest.TempPathFactory, values: np.ndarray) -> None:
    folder = tmp_path_factory.mktemp("dtype")
    base = random_checkpoint(SMALL, 1)
    save_checkpoint(base, folder)
    bf16 = (values.view(np.uint32) >> 16).astype("<u2")
    half = np.clip(values, -60000, 60000).astype("<f2")
    wanted = {
        "BF16": (bf16, (bf16.astype(np.uint32) << 16).view(np.float32)),
        "F16": (half, half.astype(np.float32)),
        "F32": (values, values),
        "F64": (values.astype("<f8") / 3, values.astype(np.float64) / 3),
    }
    for dtype, (bits, expected) in wanted.items():
        store(folder, {n: ("F32", a) for n, a in arrays(base).items()} | {WEIGHT: (dtype, bits)})
        checkpoint = load_checkpoint(folder)
        got = checkpoint.tensor(WEIGHT)
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)
        save_checkpoint(checkpoint, folder / "copy")
        assert read(folder / "copy" / "model.safetensors")[0][WEIGHT]["dtype"] == dtype
        np.testing.assert_array_equal(load_checkpoint(folder / "copy").tensor(WEIGHT), expected)
    shutil.rmtree(folder)


def test_reads_shards(folder: Path) -> None:
    tensors = arrays(random_checkpoint(SMALL, 1))
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"b.safetensors": names[:9], "a.safetensors": names[9:]}
    for shard, keys in shards.items():
        store(folder, {key: ("F32", tensors[key]) for key in keys}, shard)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {key: shard for shard, keys in shards.items() for key in keys}}))
    checkpoint = load_checkpoint(folder)
    for name, array in tensors.items():
        np.testing.assert_array_equal(checkpoint.tensor(name), array)
    save_checkpoint(checkpoint, folder / "whole")
    assert load_checkpoint(folder / "whole").sha256 == checkpoint.sha256

    (folder / "b.safetensors").unlink()
    refused(folder, "index.json: shard b.safetensors must be in the folder, not missing (1 of 2 are); download it")
    index.write_text(json.dumps({"weight_map": {"x": "../a.safetensors"}}))
    refused(folder, "index.json: shard must be a plain file name, not '../a.safetensors'; correct the index")
    index.write_text("{}")
    refused(folder, "index.json: weight_map must map tensors to file names, not NoneType; download it again")


def test_saving_round_trips(tmp_path: Path) -> None:
    checkpoint = random_checkpoint(replace(SMALL, eos_token_id=2, use_lower_bound=False, rms_norm_eps=1e-5), 7)
    save_checkpoint(checkpoint, tmp_path / "new" / "model")
    loaded = load_checkpoint(tmp_path / "new" / "model")
    assert loaded.config == checkpoint.config
    assert loaded.sha256 == checkpoint.sha256
    assert loaded.sha256 != random_checkpoint(checkpoint.config, 8).sha256
    for name, array in arrays(checkpoint).items():
        np.testing.assert_array_equal(loaded.tensor(name), array)
    assert sorted(p.name for p in (tmp_path / "new" / "model").iterdir()) == ["config.json", "model.safetensors"]
    save_checkpoint(load_checkpoint(default_model_path()), tmp_path / "copy")
    assert (tmp_path / "copy" / "tokenizer.json").read_bytes() == (default_model_path() / "tokenizer.json").read_bytes()


def test_saved_files_are_read_by_safetensors(folder: Path) -> None:
    numpy_reader = pytest.importorskip("safetensors.numpy")
    tensors = numpy_reader.load_file(folder / "model.safetensors")
    for name, array in arrays(random_checkpoint(SMALL, 1)).items():
        np.testing.assert_array_equal(tensors[name].astype(np.float32), array)


def with_weight(weight: np.ndarray) -> Checkpoint:
    return Checkpoint.from_arrays(SMALL, arrays(random_checkpoint(SMALL, 3)) | {WEIGHT: weight})


def test_quantises_with_the_mean_magnitude_and_halves_away_from_zero() -> None:
    weight = np.array([[1, -1, 0.5, -0.5], [0.25, -0.25, 2, -2], [1, 1, 1, 1], [2.5, 1, 1, 0]], np.float64)
    assert np.abs(weight).mean() == 1.0
    linear = with_weight(weight).bitlinear(WEIGHT.removesuffix(".weight"))
    assert linear.scale == 1.0
    assert linear.weights.tolist() == [[1, -1, 1, -1], [0, 0, 1, -1], [1, 1, 1, 1], [1, 1, 1, 0]]


def test_an_all_zero_matrix_quantises_to_zero() -> None:
    linear = with_weight(np.zeros((4, 4))).bitlinear(WEIGHT.removesuffix(".weight"))
    assert linear.scale == 1e-5
    assert not linear.weights.any()


@settings(deadline=None)
@given(hnp.arrays(np.float64, (4, 4), elements=st.floats(-8, 8).filter(lambda v: v == 0 or abs(v) > 1e-3)))
def test_quantised_weights_are_fixed_points(weight: np.ndarray) -> None:
    """Weights that were made ternary before, with the scale as their mean magnitude or as their own."""
    prefix = WEIGHT.removesuffix(".weight")
    first = with_weight(weight).bitlinear(prefix)
    kept = np.abs(first.weights).mean()
    if kept:
        again = with_weight(first.weights * first.scale / kept)
        assert again.scale(prefix) == pytest.approx(first.scale)
        own = with_weight(first.weights * first.scale).with_own_scale(True)
        assert own.scale(prefix) == pytest.approx(first.scale)
        for checkpoint in (again, own):
            np.testing.assert_array_equal(checkpoint.ternary(prefix), first.weights)
            assert checkpoint.already_ternary == ({prefix} if (first.weights == 0).any() else set())


def test_only_ternary_matrices_count_as_such() -> None:
    """A whole matrix decides, also where its beginning looks ternary."""
    prefix = WEIGHT.removesuffix(".weight")
    weight = np.tile([0.5, 0, -0.5, 0], (4, 1))
    for last in (0.5, 0.25):
        weight[3, 3] = last
        checkpoint = with_weight(weight).with_own_scale(True)
        assert checkpoint.scale(prefix) == (0.5 if last == 0.5 else np.abs(weight).mean())
        assert checkpoint.already_ternary == ({prefix} if last == 0.5 else set())
    large = replace(SMALL, hidden_size=1100, num_hidden_layers=1, vocab_size=2)
    weight = np.zeros((1100, 1100), np.float32)
    weight[0, 0], weight[-1, -1] = 0.5, 0.25
    prefix = "model.layers.0.attn.i_proj"
    tensors = arrays(random_checkpoint(large, 1)) | {f"{prefix}.weight": weight}
    assert Checkpoint.from_arrays(large, tensors).with_own_scale(True).scale(prefix) == 1e-5


def test_the_scale_of_ternary_weights_is_part_of_a_checkpoint(folder: Path) -> None:
    edit_config(folder, ternary_scale="own")
    save_checkpoint(load_checkpoint(folder), folder / "copy")
    assert load_checkpoint(folder / "copy").own_scale
    edit_config(folder, ternary_scale="mean")
    save_checkpoint(load_checkpoint(folder), folder / "copy")
    assert not load_checkpoint(folder / "copy").own_scale
    edit_config(folder, ternary_scale=1)
    refused(folder, "config.json: ternary_scale must be 'mean' or 'own', not 1; correct it")


def test_big_matrices_are_quantised_in_blocks() -> None:
    config = replace(SMALL, hidden_size=1000, vocab_size=3001, num_hidden_layers=1)
    checkpoint = random_checkpoint(config, 5)
    latent = checkpoint.tensor("lm_head.weight").astype(np.float64)
    linear = checkpoint.bitlinear("lm_head")
    assert linear.scale == pytest.approx(np.abs(latent).mean(), rel=1e-12)
    np.testing.assert_array_equal(linear.weights, np.clip(np.rint(latent / linear.scale), -1, 1))
    assert 0.25 < (linear.weights == 0).mean() < 0.4


def test_lower_bounds() -> None:
    raw = np.log(np.array([[1, 2, 1, 8], [3, 2, 9, 2]], np.float64))
    tensors = arrays(random_checkpoint(SMALL, 3)) | {"model.lower_bounds": raw}
    expected = [[0, 0, 0, 0], [0.75, 0.5, 0.9, 0.2]]  # layer 1: softmax of layer 1 alone, for two layers
    np.testing.assert_allclose(Checkpoint.from_arrays(SMALL, tensors).lower_bounds(), expected, atol=1e-15)
    off = replace(SMALL, use_lower_bound=False)
    assert not Checkpoint.from_arrays(off, tensors).lower_bounds().any()


def test_random_checkpoints_repeat() -> None:
    assert random_checkpoint(SMALL, 4).sha256 == random_checkpoint(SMALL, 4).sha256


def test_unknown_tensor_names_are_refused() -> None:
    with pytest.raises(TritapeError, match=r"in memory: tensor model\.nothing must be in the checkpoint, not missing"):
        random_checkpoint(SMALL, 1).tensor("model.nothing")


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
@pytest.mark.parametrize("spread", [1e-7, 1e-3, 1.0, 300.0])
def test_codes_of_16_bits_decide_as_the_division_would(folder: Path, dtype: str, spread: float) -> None:
    """Every finite code from tiny to many times the scale, and the codes around half the scale, against the formula."""
    config = replace(SMALL, vocab_size=64, hidden_size=32, num_hidden_layers=1)
    values = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32) * np.float32(spread)
    values[0, :4] = 0.0, -0.0, values[1, 0], -values[1, 0]
    tensors = arrays(random_checkpoint(config, 1))
    stored = {name: ("F32", array.astype("<f4")) for name, array in tensors.items()}
    half = np.abs(values).mean() / 2
    steps = np.arange(-8, 8)
    if dtype == "F16":
        bits = values.astype("<f2")
        around = (bits.dtype.type(half).view("<u2") + steps).clip(0).astype("<u2").view("<f2")
        bits[2, :16], bits[3, :16] = around, -around
        exact = bits.astype(np.float64)
    else:
        bits = (values.view("<u4") >> 16).astype("<u2")
        around = ((np.float32(half).view("<u4") >> 16) + steps).clip(0).astype("<u2")
        bits[2, :16], bits[3, :16] = around, around | 0x8000
        exact = (bits.astype("<u4") << 16).view("<f4").astype(np.float64)
    stored["lm_head.weight"] = (dtype, bits)
    store(folder, stored)
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    linear = load_checkpoint(folder).bitlinear("lm_head")
    ratio = exact / linear.scale
    assert linear.scale == pytest.approx(max(np.abs(exact).mean(), 1e-5), rel=1e-12)
    np.testing.assert_array_equal(linear.weights, np.sign(ratio) * (np.abs(ratio) >= 0.5))
