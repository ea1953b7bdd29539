"""The packed model and the decoder against exact arithmetic: int8 roundings may differ, and nothing else.

An activation near a tie between two integers is rounded by the last bit of float32 arithmetic, which no two programs share.
Exact arithmetic (float64) here takes every such activation both ways; what a program makes must equal one of the outcomes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch", reason="needs the extra tritape[train]")

from test_train_packed import DEVICE, GPU, small_model  # noqa: E402
from torch import Tensor  # noqa: E402

from tritape.train.packed.decode import Decoder  # noqa: E402
from tritape.train.packed.model import PackedModel  # noqa: E402
from tritape.train.ternary.format import unpack  # noqa: E402
from tritape.train.ternary.matrix import PackedMatrix  # noqa: E402

NEAR = 2e-4
"""Of an integer: activations as close as this to a tie go both ways."""

ALIKE = 5e-5
"""Of the largest logit or state: float32 arithmetic with the same integers. One integer that differs makes ten times this."""


class Exact:
    """A packed model of one layer in float64."""

    def __init__(self, packed: PackedModel) -> None:
        assert len(packed.layers) == 1
        self.eps, self.layer = packed.config.rms_norm_eps, packed.layers[0]
        self.embedding = packed.embedding.cpu().double() * packed.embedding_scale.cpu().double()[:, None]
        self.norm, self.head_gain = packed.norm.cpu().double(), packed.head_gain.cpu().double()[0]
        layer = self.layer
        self.inputs = [_weights(matrix) for matrix in layer.inputs()]
        self.o, self.gate, self.down = (_weights(matrix) for matrix in (layer.o, layer.gate, layer.down))
        self.head = _weights(packed.head)
        names = ("ifg_gains", "o_gain", "gate_gain", "down_gain", "attn_norm", "g_norm", "mlp_norm", "bound")
        self.gains = {name: getattr(layer, name).cpu().double() for name in names}

    def outcomes(self, token: int, before: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """(logits, state) after a token, for every way to round the activations near a tie."""
        gains, x = self.gains, self.embedding[token]
        n = _normal(_normal(x, self.eps) * gains["attn_norm"])
        inputs = (_products(n * gain, weights) for gain, weights in zip(gains["ifg_gains"], self.inputs))
        for i, f, g in itertools.product(*inputs):
            forget = gains["bound"] + (1 - gains["bound"]) * f.sigmoid()
            h = forget * before + i * i.sigmoid() * (1 - forget)
            n = _normal(_normal(g, self.eps) * gains["g_norm"] * h * h.sigmoid())
            for o in _products(n * gains["o_gain"][0], self.o):
                y = x + o
                n = _normal(_normal(y, self.eps) * gains["mlp_norm"])
                for both in _products(n * gains["gate_gain"][0], self.gate):
                    gate, up = both.chunk(2)
                    n = _normal(gate * gate.sigmoid() * up)
                    for down in _products(n * gains["down_gain"][0], self.down):
                        n = _normal(_normal(y + down, self.eps) * self.norm)
                        for logits in _products(n * self.head_gain, self.head):
                            yield logits, h

    def distance(self, token: int, before: Tensor, logits: Tensor, after: Tensor) -> tuple[float, int]:
        """How far the nearest outcome is, in largest logits or states; and how many there are."""
        best, count = float("inf"), 0
        for expected, h in self.outcomes(token, before.cpu().double()):
            error = max(_error(logits, expected), _error(after, h))
            best, count = min(best, error), count + 1
        return best, count


def _weights(matrix: PackedMatrix) -> Tensor:
    return unpack(matrix.data.cpu(), matrix.columns, torch.float64) * matrix.scale.cpu().double()


def _normal(v: Tensor, eps: float = 1e-6) -> Tensor:
    return v * torch.rsqrt(v.square().mean() + eps)


def _products(v: Tensor, weights: Tensor) -> Iterator[Tensor]:
    unit = v.abs().max().clamp(min=1e-5) / 127
    exact = v / unit
    ties = ((exact - exact.floor() - 0.5).abs() < NEAR).nonzero()[:, 0]
    assert len(ties) <= 6
    for ways in itertools.product((0, 1), repeat=len(ties)):
        q = exact.round()
        q[ties] = exact[ties].floor() + torch.tensor(ways, dtype=q.dtype)
        yield weights @ (q * unit)


def _error(actual: Tensor, expected: Tensor) -> float:
    return float((actual.cpu() - expected).abs().max() / expected.abs().max())


def test_step_differs_from_exact_arithmetic_by_roundings_alone() -> None:
    packed = PackedModel(small_model(256, 640, layers=1))
    exact, before = Exact(packed), torch.randn(1, 256, device=DEVICE)
    several = 0
    for token in range(23):
        logits, after = packed.step(torch.tensor([[token]], device=DEVICE), before[:, None])
        error, count = exact.distance(token, before[0], logits[0, 0], after[0, 0])
        assert error <= ALIKE
        several += count > 1
    assert several  # or ties would not have been seen


@pytest.mark.gpu
@pytest.mark.skipif(not GPU, reason="needs a GPU")
@pytest.mark.parametrize(("hidden", "inner"), [(256, 640), (1024, 2816)])
def test_decoder_differs_from_exact_arithmetic_by_roundings_alone(hidden: int, inner: int) -> None:
    packed = PackedModel(small_model(hidden, inner, layers=1))
    decoder, exact = Decoder(packed), Exact(packed)
    for token in range(23 if hidden < 1024 else 6):
        before = torch.randn(1, hidden, device=DEVICE)
        decoder.state.copy_(before)
        decoder.generate([token], 1)
        assert exact.distance(token, before[0], decoder.logits, decoder.state[0])[0] <= ALIKE


@pytest.mark.gpu
@pytest.mark.skipif(not GPU, reason="needs a GPU")
def test_deep_models_spread_roundings_as_far_as_the_decoder_is_from_step() -> None:
    packed = PackedModel(small_model(1024, 2816, layers=24))
    ids = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]], device=DEVICE)
    logits = packed.step(ids)[0][0, -1]
    decoder = Decoder(packed)
    decoder.generate(ids[0].tolist(), 1)
    far = float((decoder.logits - logits).abs().max() / logits.abs().max())
    spread = []
    for seed in range(5):
        torch.manual_seed(seed)
        scale = packed.embedding_scale.clone()
        packed.embedding_scale *= 1 + 3e-7 * torch.randn_like(scale)  # a float or two
        spread.append(float((packed.step(ids)[0][0, -1] - logits).abs().max() / logits.abs().max()))
        packed.embedding_scale.copy_(scale)
    print(f"decoder {far:.1e}, step with another last bit of its inputs {min(spread):.1e} to {max(spread):.1e}")
    assert far <= 3 * max(spread)
