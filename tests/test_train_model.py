"""The PyTorch model against the authors' outputs and the float64 reference; its scan, quantisers and checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the extra tritape[train]")

from tritape.base.errors import TritapeError  # noqa: E402
from tritape.model.checkpoint import load_checkpoint  # noqa: E402
from tritape.model.reference import FloatModel  # noqa: E402
from tritape.train.model import HGRNBitForCausalLM, load_model, save_checkpoint  # noqa: E402
from tritape.train.plain import HGRNBitConfig, straight_int8, straight_ternary  # noqa: E402
from tritape.train.scan import parallel_scan, scan  # noqa: E402

TINY = Path(__file__).parent / "data" / "mmfreelm-tiny"
SMALL = HGRNBitConfig(vocab_size=13, hidden_size=20, num_hidden_layers=3, intermediate_size=24)


def randomised(config: HGRNBitConfig, seed: int) -> HGRNBitForCausalLM:
    """A float64 model whose gains and bounds are random too."""
    torch.manual_seed(seed)
    model = HGRNBitForCausalLM(config).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
            elif name.endswith("lower_bounds"):
                parameter.copy_(torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logits_equal_the_authors_implementation(dtype: torch.dtype) -> None:
    expected = np.load(TINY / "expected.npz")
    with torch.no_grad():
        logits = load_model(TINY).to(dtype)(torch.from_numpy(expected["ids"]).long()).numpy()
    assert np.abs(logits - expected["logits"]).max() <= 1e-6 * np.abs(expected["logits"]).max()


@pytest.mark.parametrize("use_lower_bound", [True, False])
def test_saved_model_is_the_reference_model(tmp_path: Path, use_lower_bound: bool) -> None:
    config = HGRNBitConfig(13, 20, 3, 24, use_lower_bound=use_lower_bound)
    model = randomised(config, 1)
    save_checkpoint(model, None, tmp_path, torch.float64)
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.config == config
    ids = np.random.default_rng(2).integers(0, 13, 31)
    with torch.no_grad():
        logits = model(torch.from_numpy(ids)[None])[0].numpy()
    np.testing.assert_allclose(logits, FloatModel(checkpoint).run(ids), rtol=1e-9, atol=1e-9)


def test_load_gives_back_what_was_saved(tmp_path: Path) -> None:
    tokenizer = tmp_path / "other.json"
    tokenizer.write_text("{}")
    model = randomised(SMALL, 3).float()
    save_checkpoint(model, tokenizer, tmp_path / "new")
    again = load_model(tmp_path / "new")
    assert (tmp_path / "new" / "tokenizer.json").read_text() == "{}"
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_state_continues_a_sequence() -> None:
    model, ids = randomised(SMALL, 4), torch.randint(0, 13, (2, 17))
    with torch.no_grad():
        whole = model(ids)
        first, states = model.step(ids[:, :5], None)
        second, _ = model.step(ids[:, 5:], states)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 70), st.integers(0, 2**31))
def test_scan_is_the_recurrence(steps: int, seed: int) -> None:
    torch.manual_seed(seed)
    f, v = torch.rand(2, steps, 3, dtype=torch.float64), torch.randn(2, steps, 3, dtype=torch.float64)
    h, expected = torch.zeros(2, 3, dtype=torch.float64), []
    for t in range(steps):
        h = f[:, t] * h + v[:, t]
        expected.append(h)
    torch.testing.assert_close(parallel_scan(f, v), torch.stack(expected, 1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_gradient_of_the_scan(steps: int) -> None:
    f = torch.rand(2, steps, 3, dtype=torch.float64, requires_grad=True)
    v, h0 = (torch.randn(*shape, 3, dtype=torch.float64, requires_grad=True) for shape in ((2, steps), (2,)))
    assert torch.autograd.gradcheck(scan, (f, v, h0))


def test_quantisers_are_straight_through() -> None:
    x = torch.tensor([[0.2, -1.0, 3.0], [0.0, 0.0, 0.0]], requires_grad=True)
    y = straight_int8(x)
    torch.testing.assert_close(y * 127 / 3, torch.tensor([[8.0, -42.0, 127.0], [0.0, 0.0, 0.0]]))
    w = torch.tensor([[0.1, -0.3, 0.8]], requires_grad=True)
    t = straight_ternary(w)
    torch.testing.assert_close(t, torch.tensor([[0.0, -0.4, 0.4]]))
    (y.sum() + t.sum()).backward()
    assert torch.equal(x.grad, torch.ones_like(x))
    assert torch.equal(w.grad, torch.ones_like(w))


def test_loss_leaves_out_ignored_targets() -> None:
    model, ids = randomised(SMALL, 5), torch.randint(0, 13, (1, 6))
    targets = ids.roll(-1, 1)
    short = model.loss(ids[:, :4], targets[:, :4])
    targets[:, 4:] = -100
    torch.testing.assert_close(model.loss(ids, targets), short)


@pytest.mark.slow
def test_compiles_without_a_graph_break() -> None:
    model, ids = randomised(HGRNBitConfig(13, 20, 1, 24), 6), torch.randint(0, 13, (2, 5))
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(ids), model(ids))


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(TritapeError, match="path must be 'plain' or 'fused', not 'fast'; choose one"):
        HGRNBitForCausalLM(SMALL, "fast")  # type: ignore[arg-type]
    with pytest.raises(TritapeError, match="tokenizer must be a file, not missing"):
        save_checkpoint(randomised(SMALL, 7), tmp_path / "absent.json", tmp_path / "m")
