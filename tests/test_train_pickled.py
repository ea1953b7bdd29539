"""Files that torch itself writes, read without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tritape.base.errors import TritapeError  # noqa: E402
from tritape.model.pickled import read_pickled  # noqa: E402
from tritape.model.stored import as_float  # noqa: E402


def test_state_dictionaries_of_torch(tmp_path: Path) -> None:
    """Every type and layout that a state dictionary has; the values are torch's."""
    path = tmp_path / "pytorch_model.bin"
    base = torch.arange(120, dtype=torch.float32).reshape(8, 15) / 7
    state = {
        "plain": base,
        "half": base.half(),
        "bfloat": base.bfloat16(),
        "double": base.double(),
        "transposed": base.T,
        "slice": base[1:7:2, 3:10],
        "expanded": base[:1].expand(4, 15),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(base[2]),
    }
    torch.save({**state, "steps": torch.tensor(3), "mask": torch.tensor([True])}, path)
    found = read_pickled(path)
    for name, tensor in state.items():
        np.testing.assert_array_equal(as_float(found[name]), tensor.detach().float().numpy(), err_msg=name)
        assert found[name].bits.shape == tuple(tensor.shape)
    assert (found["steps"].dtype, found["mask"].dtype) == ("I64", "BOOL")
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    torch.save(model.state_dict(), path)  # with `_metadata` of modules
    found = read_pickled(path)
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(as_float(found[name]), tensor.numpy())


def test_whole_modules_and_legacy_files_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(
        TritapeError, match=r"must hold tensors only, not torch\.nn\.modules\.linear\.Linear, which could"
    ):
        read_pickled(path)
    torch.save({"w": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(TritapeError, match="not one of the legacy format; load it with torch and save it again"):
        read_pickled(path)
