"""`pytorch_model.bin`: tensors of any layout, and nothing else, whatever the pickle asks for."""

from __future__ import annotations

import os
import shutil
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_file import ORDERED, dictionary, number, plain_pickle, tensor, text, write_archive, write_tensors

from tritape.base.errors import TritapeError
from tritape.model.checkpoint import load_checkpoint
from tritape.model.data import embedded_models
from tritape.model.formats import quantise_model
from tritape.model.pickled import read_pickled
from tritape.model.stored import as_float, read_safetensors
from tritape.model.tape.assembler import pack
from tritape.model.tokenizer import tape_text

VALUES = np.arange(24, dtype="<f4")
DATA = {"0": VALUES.tobytes()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pytorch_model.bin"


def write(path: Path, shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0, numel: int = 24) -> None:
    write_archive(path, dictionary({"w": tensor("FloatStorage", "0", numel, offset, shape, stride)}), DATA)


@pytest.mark.parametrize("name", embedded_models())
def test_a_copy_of_each_embedded_model_packs_to_the_same_bytes(name: str, tmp_path: Path) -> None:
    source, copy = embedded_models()[name], tmp_path / name
    copy.mkdir()
    for file in ("config.json", "tokenizer.json"):
        shutil.copyfile(source / file, copy / file)
    stored = read_safetensors(source / "model.safetensors")
    write_tensors(copy / "pytorch_model.bin", {key: (one.dtype, one.bits) for key, one in reversed(stored.items())})
    for folder, tape in ((source, "a"), (copy, "b")):
        checkpoint = load_checkpoint(folder)
        carried = tape_text(checkpoint)
        pack(
            quantise_model(checkpoint, range(16)),
            tmp_path / tape,
            16,
            1024,
            carried.tokenizer,
            name,
            text=carried.metadata,
        )
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("shape", "stride", "offset"),
    [
        ((4, 6), (6, 1), 0),
        ((6, 4), (1, 6), 0),  # transposed
        ((2, 3), (12, 2), 1),  # with gaps
        ((3, 4), (0, 1), 20),  # one row repeated
        ((5,), (1,), 19),
        ((), (), 23),
        ((0, 4), (4, 1), 0),
    ],
)
def test_strides_and_offsets_count(path: Path, shape: tuple[int, ...], stride: tuple[int, ...], offset: int) -> None:
    write(path, shape, stride, offset)
    wanted = np.lib.stride_tricks.as_strided(VALUES[offset:], shape, [4 * step for step in stride])
    found = read_pickled(path)["w"]
    np.testing.assert_array_equal(as_float(found), wanted)
    found.release()
    np.testing.assert_array_equal(as_float(found), wanted)


@pytest.mark.parametrize(
    ("shape", "stride", "offset", "numel", "message"),
    [
        ((4, 6), (6, 1), 1, 24, "elements of tensor w must lie within 24, not up to 24; download"),
        ((2, 2), (1 << 60, 1), 0, 24, "elements of tensor w must lie within 24, not up to 1152921504606846977"),
        ((4, 6), (6, 1), 0, 25, "data of tensor w must be 100 bytes, not 96; download the file again"),
        ((4, 6), (-6, 1), 23, 24, "data.pkl must be a pickle of tensors, not damaged"),
        ((4, 6), (1,), 0, 24, "data.pkl must be a pickle of tensors, not damaged"),
        ((1,) * 9, (1,) * 9, 0, 24, "data.pkl must be a pickle of tensors, not damaged"),
        ((1,), (1,), -1, 24, "data.pkl must be a pickle of tensors, not damaged"),
    ],
)
def test_refuses_sizes_that_do_not_fit(
    path: Path, shape: tuple[int, ...], stride: tuple[int, ...], offset: int, numel: int, message: str
) -> None:
    write(path, shape, stride, offset, numel)
    with pytest.raises(TritapeError, match=message):
        read_pickled(path)


SETTING = ORDERED + b"(" + text("x") + number(1) + b"ub"  # BUILD: an object's attributes from a dictionary


class Call:
    """Pickles as a call of `os.mkdir`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"cos\nsystem\n" + b"(" + text("true") + b"tR", "os.system"),
        (b"cbuiltins\neval\n" + b"(" + text("1") + b"tR", "builtins.eval"),
        (b"ctorch\nload\n" + b"(" + text("x") + b"tR", "torch.load"),
        (b"ctorch.storage\n_load_from_bytes\n)R", "torch.storage._load_from_bytes"),
        (b"ctorch._utils\n_rebuild_tensor_v2.__call__.__self__\n)R", "torch._utils._rebuild_tensor_v2.__call__"),
        (b"ccollections\nabc.sys.modules\n)R", "collections.abc.sys.modules"),
        (b"cnumpy.core.multiarray\nscalar\n)R", "numpy.core.multiarray.scalar"),
    ],
)
def test_refuses_by_name_what_is_no_tensor(path: Path, content: bytes, name: str) -> None:
    write_archive(path, dictionary({"w": content}), DATA)
    with pytest.raises(
        TritapeError, match=rf"pytorch_model\.bin: file must hold tensors only, not {name}.*, which could run"
    ):
        read_pickled(path)


def test_nothing_in_a_file_is_run(path: Path, tmp_path: Path) -> None:
    write_archive(path, plain_pickle({"w": Call(tmp_path / "made")}), DATA)
    with pytest.raises(TritapeError, match=r"file must hold tensors only, not posix\.mkdir, which could run anything"):
        read_pickled(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "target",
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ctorch._utils\n_rebuild_parameter\n",
        b"ctorch\nFloatStorage\n",
        b"ccollections\nOrderedDict\n",
        tensor("FloatStorage", "0", 24, 0, (4, 6), (6, 1)),
    ],
)
def test_what_a_pickle_can_reach_cannot_be_changed(path: Path, target: bytes) -> None:
    """BUILD gives an object attributes: with them, sizes could change behind the checks."""
    for state in (SETTING[:-1], b"N" + SETTING[:-1] + b"\x86"):
        write_archive(path, dictionary({"w": target + state + b"b"}), DATA)
        with pytest.raises(TritapeError, match=r"data\.pkl must be a pickle of tensors, not damaged"):
            read_pickled(path)


def test_parameters_and_dictionaries_of_training_programs(path: Path) -> None:
    """The tensors behind `state_dict` or the like; what is beside them is left."""
    one = tensor("FloatStorage", "0", 24, 0, (24,), (1,))
    parameter = b"ctorch._utils\n_rebuild_parameter\n(" + one + b"\x88" + ORDERED + b"tR"
    steps = tensor("LongStorage", "1", 1, 0, (), ())
    state = dictionary({"w": parameter, "steps": steps, "note": text("x")})
    write_archive(path, dictionary({"epoch": number(3), "state_dict": state}), {**DATA, "1": bytes(8)})
    found = read_pickled(path)
    assert sorted(found) == ["steps", "w"]
    np.testing.assert_array_equal(found["w"].bits, VALUES)
    assert found["steps"].dtype == "I64"


def test_refuses_other_files_by_their_kind(path: Path) -> None:
    path.write_bytes(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")
    with pytest.raises(TritapeError, match="not one of the legacy format; load it with torch and save it again"):
        read_pickled(path)
    path.write_bytes(b"PK not a zip")
    with pytest.raises(
        TritapeError, match=r"file must be a ZIP archive, not damaged \(File is not a zip file\); download"
    ):
        read_pickled(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/version", "3")
    with pytest.raises(TritapeError, match=r"archive must hold one data\.pkl, as torch writes it, not 0"):
        read_pickled(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", "")
        archive.writestr("archive/byteorder", "big")
    with pytest.raises(TritapeError, match="byte order must be little, not 'big'; save the model with safetensors"):
        read_pickled(path)
    write_archive(path, number(3), {})
    with pytest.raises(TritapeError, match="file must hold a dictionary of tensors, not int; save the model with"):
        read_pickled(path)
    write_archive(path, dictionary({"w": number(3)}), {})
    with pytest.raises(TritapeError, match="file must hold tensors, not none; save the model with"):
        read_pickled(path)
    content = dictionary({"w": tensor("FloatStorage", "0", 24, 0, (24,), (1,))})
    write_archive(path, content, {"1": DATA["0"]})
    with pytest.raises(TritapeError, match="data of tensor w must be in the archive, not missing; download"):
        read_pickled(path)
    write_archive(path, content, DATA, zipfile.ZIP_DEFLATED)
    with pytest.raises(TritapeError, match="data of tensor w must be stored as torch does, not compressed; take"):
        read_pickled(path)


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 10_000), st.integers(0, 255), st.integers(0, 10_000))
def test_damage_gives_errors_or_tensors_never_anything_else(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int, cut: int
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "pytorch_model.bin"
    write(path, (4, 6), (6, 1))
    data = bytearray(path.read_bytes())
    data[place % len(data)] = byte
    path.write_bytes(data[: len(data) - cut % 97 * (cut % 3 == 0)])
    with suppress(TritapeError):
        for one in read_pickled(path).values():
            if one.dtype.startswith(("F", "BF")):
                as_float(one)
    shutil.rmtree(path.parent)
