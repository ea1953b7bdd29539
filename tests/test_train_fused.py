"""The fused training path: its gradients against the plain path's, and its Triton kernels against their reference."""

from __future__ import annotations

import os

import pytest

torch = pytest.importorskip("torch", reason="needs the extra tritape[train]")

from tritape.train.fused import layers, reference  # noqa: E402
from tritape.train.model import HGRNBitForCausalLM  # noqa: E402
from tritape.train.plain import HGRNBitConfig  # noqa: E402

GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def pair(config: HGRNBitConfig, device: str) -> tuple[HGRNBitForCausalLM, HGRNBitForCausalLM]:
    """The same random float64 model on the plain and on the fused path."""
    torch.manual_seed(1)
    plain, fused = (HGRNBitForCausalLM(config, path).double().to(device) for path in ("plain", "fused"))
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
            elif name.endswith("lower_bounds"):
                parameter.copy_(torch.randn_like(parameter))
    fused.load_state_dict(plain.state_dict())
    return plain, fused


def check_gradients(config: HGRNBitConfig, tokens: tuple[int, int], device: str) -> None:
    plain, fused = pair(config, device)
    ids = torch.randint(0, config.vocab_size, tokens, device=device)
    targets = ids.roll(-1, 1)
    if targets.numel() > 1:
        targets[0, -1] = -100
    losses = [model.loss(ids, targets) * 0.7 for model in (plain, fused)]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-9, atol=1e-9)
    for loss in losses:
        loss.backward()
    for (name, a), b in zip(plain.named_parameters(), fused.parameters()):
        assert b.grad is not None, name
        error = (a.grad - b.grad).abs().max() / a.grad.abs().max()
        assert error <= 1e-7, f"{name}: {error}"


@pytest.mark.parametrize("use_lower_bound", [True, False])
@pytest.mark.parametrize("tokens", [(1, 1), (2, 9)])
def test_gradients_equal_the_plain_path(
    tokens: tuple[int, int], use_lower_bound: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "CHUNK", 7)
    check_gradients(HGRNBitConfig(13, 20, 3, 28, use_lower_bound=use_lower_bound), tokens, "cpu")


def test_every_step_sees_the_new_weights() -> None:
    plain, fused = pair(HGRNBitConfig(13, 20, 2, 28), DEVICE)
    ids = torch.randint(0, 13, (2, 9), device=DEVICE)
    losses = []
    for model in (plain, fused):
        for _ in range(3):
            model.zero_grad()
            loss = model.loss(ids, ids)
            loss.backward()
            for parameter in model.parameters():  # through .data: version counters stay, as with PyTorch's fused AdamW
                parameter.data.sub_(0.02 * parameter.grad.sign())
        losses.append(loss.detach())
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-6, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not GPU, reason="needs an NVIDIA GPU")
def test_gradients_equal_the_plain_path_on_a_gpu() -> None:
    check_gradients(HGRNBitConfig(130, 160, 3, 200), (2, 75), "cuda")


KERNELS = pytest.mark.skipif(
    not (GPU or INTERPRETED), reason="Triton kernels need a GPU, or TRITON_INTERPRET=1 and the triton package"
)
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-5, torch.bfloat16: 1e-2}


def close(actual: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> None:
    """Equal within `dtype`'s rounding of the largest value."""
    error = (actual.double() - expected.double()).abs().max() / expected.double().abs().max()
    assert error <= TOLERANCE[dtype], error


@KERNELS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [5, 20, 700])
@pytest.mark.parametrize(("kind", "count"), [("norm", 1), ("norm", 3), ("gate", 1), ("swiglu", 1)])
def test_row_kernels(kind: reference.Kind, count: int, width: int, dtype: torch.dtype) -> None:
    from tritape.train.fused import rows

    torch.manual_seed(width)
    both = torch.randn(5, 2 * width, dtype=torch.float64, device=DEVICE).to(dtype)
    a, b = both.chunk(2, 1)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    outer, gains = 1 + torch.rand(width, dtype=wide, device=DEVICE), torch.rand(count, width, dtype=wide, device=DEVICE)
    scales = 0.5 + torch.rand(count, dtype=wide, device=DEVICE)
    arguments = (kind, a, None if kind == "norm" else b, None if kind == "swiglu" else outer, 1e-3, gains, scales)
    actual, expected = rows.quantise(*arguments, wide), reference.quantise(*arguments, wide)
    steps = expected.abs().amax(-1, keepdim=True) / 127  # float32: a value may round to the next integer
    assert ((actual - expected).abs() / steps).max() <= 1.001
    assert ((actual - expected).abs() / steps > 1e-3).float().mean() <= (0.0 if dtype == torch.float64 else 0.01)
    grads = torch.randn(count, 5, width, dtype=torch.float64, device=DEVICE).to(dtype)
    residual = torch.randn(5, width, dtype=torch.float64, device=DEVICE).to(dtype)
    results = []
    for module in (rows, reference):
        both_grad = torch.full_like(both, torch.nan)
        da, db = both_grad.chunk(2, 1)
        into = (da, None if kind == "norm" else db)
        douter, dgains = module.quantise_backward(*arguments, grads, residual, into)
        results.append((da, *(() if kind == "norm" else (db,)), dgains, *(() if douter is None else (douter,))))
    for one, other in zip(*results, strict=True):
        close(one, other, dtype)


@KERNELS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("steps", "width"), [(1, 3), (31, 33), (65, 8)])
@pytest.mark.parametrize("bounded", [True, False])
def test_recurrence_kernels(steps: int, width: int, bounded: bool, dtype: torch.dtype) -> None:
    from tritape.train.fused import recurrence

    torch.manual_seed(steps)
    i, f = (torch.randn(2, steps, width, dtype=torch.float64, device=DEVICE).to(dtype) for _ in range(2))
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    bound = torch.rand(width, dtype=wide, device=DEVICE) if bounded else None
    h = reference.recurrence(i, f, bound)
    close(recurrence.forward(i, f, bound), h, torch.float32 if dtype == torch.bfloat16 else dtype)
    dh = torch.randn_like(h)
    for one, other in zip(recurrence.backward(i, f, bound, h, dh), reference.recurrence_backward(i, f, bound, h, dh)):
        assert (one is None) == (other is None)
        if one is not None:
            close(one, other, dtype)


@KERNELS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [1, 700, 5000])
def test_cross_entropy_kernel(width: int, dtype: torch.dtype) -> None:
    from tritape.train.fused import cross_entropy

    torch.manual_seed(width)
    logits = (20 * torch.randn(4, width, dtype=torch.float64, device=DEVICE)).to(dtype)
    targets = torch.randint(0, width, (4,), device=DEVICE)
    targets[2] = -100
    other = logits.clone()
    weight = torch.tensor([0.25], device=DEVICE)
    losses = cross_entropy.cross_entropy(logits, targets, weight)
    expected = reference.cross_entropy(other, targets, weight)
    torch.testing.assert_close(losses, expected, rtol=1e-4 if dtype != torch.float64 else 1e-9, atol=1e-4)
    if width > 1:
        close(logits, other, dtype)
    assert logits[2].abs().max() == 0
