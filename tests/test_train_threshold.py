"""Latent weights on the threshold of rounding, as training leaves them, have one ternary value wherever it is computed."""

from __future__ import annotations

import shutil

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402

from tritape.model.checkpoint import MIN_WEIGHT_SCALE  # noqa: E402
from tritape.model.config import ModelConfig  # noqa: E402
from tritape.train import rounding  # noqa: E402
from tritape.train.model import HGRNBitForCausalLM, load_model  # noqa: E402
from tritape.train.plain import BitLinear, straight_ternary  # noqa: E402
from tritape.train.release import release  # noqa: E402
from tritape.train.ternary.format import pack, unpack, weight_scales  # noqa: E402

SHAPES = [(40, 40), (130, 390), (512, 130), (257, 3)]
SEEDS = range(8)
NEAR = 0.05
"""Share of weights within three units in the last place of the threshold; a run of `tiny` ended with 0.01 (rounding.json)."""


def on_the_threshold(rows: int, columns: int, seed: int) -> Tensor:
    """Latents of which `NEAR` lie within three units in the last place of half their mean magnitude, as it is itself."""
    generator = torch.Generator().manual_seed(seed)
    weight = 0.02 * torch.randn(rows, columns, generator=generator)
    near = torch.rand(rows, columns, generator=generator) < NEAR
    ulps = torch.randint(-3, 4, (rows, columns), generator=generator, dtype=torch.int32)
    for _ in range(30):  # moving them moves the mean, each time by less
        half = (weight.double().abs().mean() / 2).float()
        weight = torch.where(near, (half.view(torch.int32) + ulps).view(torch.float32) * weight.sign(), weight)
    assert int(((weight.abs() / half - 1).abs() < 4e-7).sum()) >= 0.4 * NEAR * weight.numel()
    return weight


def values(weight: Tensor) -> Tensor:
    """-1, 0 and 1 of the training step's weights."""
    return straight_ternary(weight).sign().to(torch.int8)


def packed(weight: Tensor) -> Tensor:
    """The ternary values of the fused step and of the packed model."""
    return unpack(pack(weight, weight_scales([weight])[0]), weight.shape[1], torch.int8)


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
@pytest.mark.parametrize(
    "other",
    [
        pytest.param(lambda weight: values(weight.t().contiguous()).t(), id="order of the sum"),
        pytest.param(lambda weight: values(weight.flip(0, 1)).flip(0, 1), id="order reversed"),
        pytest.param(lambda weight: values(weight.double()), id="float64"),
        pytest.param(packed, id="packed"),
        pytest.param(lambda weight: packed(weight.double()), id="packed float64"),
    ],
)
def test_the_value_does_not_hang_on_how_the_mean_is_summed(rows, columns, other):
    for seed in SEEDS:
        weight = on_the_threshold(rows, columns, seed)
        assert int((other(weight) != values(weight)).sum()) == 0, seed


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++ on a CPU")
def test_compiled_code_takes_the_same_values():
    torch._dynamo.reset()
    compiled = torch.compile(straight_ternary, dynamic=False)
    for seed in SEEDS:
        weight = on_the_threshold(130, 390, seed)
        assert int((compiled(weight).sign() != values(weight)).sum()) == 0, seed


def test_the_release_is_the_step_in_any_order_and_dtype(tmp_path):
    model = HGRNBitForCausalLM(ModelConfig(130, 40, 2, 60))
    linears = {name: module for name, module in model.named_modules() if isinstance(module, BitLinear)}
    with torch.no_grad():
        for seed, module in enumerate(linears.values()):
            module.weight.copy_(on_the_threshold(*module.weight.shape, seed))
    counts = rounding.near_threshold(model, "cpu")
    assert counts["within_1e-06"] > 0.8 * NEAR * counts["weights"]
    assert (counts["cpu_differs"], counts["float64_differs"]) == (0, 0)
    release(model, None, tmp_path)
    for name, module in load_model(tmp_path).named_modules():
        if isinstance(module, BitLinear):
            latent = linears[name].weight.detach()
            assert torch.equal(values(module.weight), values(latent.t().contiguous()).t())


def test_where_the_threshold_lies():
    weight = torch.tensor([[0.5, -0.5, 0.0, -3.0], [0.5, 0.5, 1.5, 1.5]])  # the mean magnitude is 1
    above = torch.nextafter(torch.tensor(0.5), torch.tensor(1.0))
    assert values(weight).tolist() == [[0, 0, 0, -1], [0, 0, 1, 1]]  # an exact half is zero
    weight[0, 0], weight[0, 1] = above, -above
    assert values(weight).tolist() == [[1, -1, 0, -1], [0, 0, 1, 1]]


def test_weights_of_nothing_have_the_least_scale():
    assert torch.equal(straight_ternary(torch.zeros(3, 4)), torch.zeros(3, 4))
    small = torch.full((2, 2), MIN_WEIGHT_SCALE)
    torch.testing.assert_close(straight_ternary(small), small)
    assert not values(small / 4).any()
