"""Packed matrices, the packed model and one-token decoding, against the plain PyTorch model."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the extra tritape[train]")

from tritape.base.errors import TritapeError  # noqa: E402
from tritape.train.bench import SHAPES  # noqa: E402
from tritape.train.model import HGRNBitForCausalLM, load_model  # noqa: E402
from tritape.train.packed.decode import Decoder  # noqa: E402
from tritape.train.packed.model import PackedModel  # noqa: E402
from tritape.train.packed.shares import shares  # noqa: E402
from tritape.train.plain import HGRNBitConfig, straight_ternary  # noqa: E402
from tritape.train.ternary.format import pack, product, unpack  # noqa: E402
from tritape.train.ternary.matrix import PackedMatrix, row_bytes  # noqa: E402
from tritape.train.ternary.threshold import weight_scale  # noqa: E402

TINY = Path(__file__).parent / "data" / "mmfreelm-tiny"
GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"
KERNELS = pytest.mark.skipif(
    not (GPU or os.environ.get("TRITON_INTERPRET") == "1"),
    reason="Triton kernels need a GPU, or TRITON_INTERPRET=1 and the triton package",
)


def small_model(hidden: int = 36, inner: int = 52, use_lower_bound: bool = True, layers: int = 2) -> HGRNBitForCausalLM:
    """A random model whose embedding is exactly what PackedModel holds, so that the two must agree."""
    torch.manual_seed(hidden)
    model = HGRNBitForCausalLM(HGRNBitConfig(23, hidden, layers, inner, use_lower_bound=use_lower_bound)).to(DEVICE)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
            elif name.endswith("lower_bounds"):
                parameter.copy_(torch.randn_like(parameter))
        table = model.model.embeddings.weight
        table.copy_(torch.randint(-127, 128, table.shape).to(table))
        table[:, 0] = 127
        table *= torch.tensor(2.0**-6)
    return model


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 9), st.integers(1, 500), st.integers(0, 2**31))
def test_unpack_gives_back_the_ternary_weights(rows: int, columns: int, seed: int) -> None:
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    scale = weight_scale(weight)
    data = pack(weight, scale)
    assert data.shape == (rows, row_bytes(columns))
    torch.testing.assert_close(unpack(data, columns, torch.float64) * scale, straight_ternary(weight))


def test_every_byte_of_five_digits() -> None:
    digits = torch.cartesian_prod(*[torch.arange(-1.0, 2.0)] * 5)
    rows = digits.repeat_interleave(row_bytes(80), dim=1)
    data = pack(rows, torch.tensor(1.0))
    assert len(set(data[:, 0].tolist())) == 243
    assert torch.equal(unpack(data, 80, torch.float32), rows)


@pytest.mark.parametrize(("columns", "size"), [(80, 16), (81, 32), (2048, 416), (2560, 512), (6912, 1392)])
def test_bytes_of_a_row(columns: int, size: int) -> None:
    assert row_bytes(columns) == size


@pytest.mark.parametrize("count", [1, 3, 21])
def test_product_is_exact(count: int) -> None:
    torch.manual_seed(count)
    weight = torch.randn(70, 333, device=DEVICE)
    q = torch.randint(-128, 128, (count, 333), dtype=torch.int8, device=DEVICE)
    worth = torch.rand(count, device=DEVICE)
    matrix = PackedMatrix(pack(weight, torch.tensor(1.5, device=DEVICE)), torch.tensor(1.0, device=DEVICE), 333)
    sums = q.double() @ (weight / 1.5).round().clamp(-1, 1).double().T
    assert torch.equal(product(q, worth, matrix).double(), (sums.float() * worth[:, None]).double())


@pytest.mark.parametrize("use_lower_bound", [True, False])
def test_packed_model_is_the_model(use_lower_bound: bool) -> None:
    model = small_model(use_lower_bound=use_lower_bound)
    ids = torch.randint(0, 23, (3, 19), device=DEVICE)
    packed = PackedModel(model)
    with torch.no_grad():
        expected = model(ids)
    first, states = packed.step(ids[:, :7])
    second, _ = packed.step(ids[:, 7:], states)
    difference = (torch.cat([first, second], 1) - expected).abs().max() / expected.abs().max()
    assert difference <= (0.02 if GPU else 1e-5)  # on a GPU an int8 may round the other way


def test_packed_checkpoint_is_smaller_and_close() -> None:
    model = load_model(TINY).to(DEVICE)
    packed = PackedModel(model)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert packed.nbytes < parameters  # under a byte a parameter even with this large an embedding
    ids = torch.arange(60, device=DEVICE)[None]
    with torch.no_grad():
        expected = model(ids).log_softmax(-1)
    assert (packed.step(ids)[0].log_softmax(-1) - expected).abs().mean() <= 0.05 * expected.std()


@KERNELS
@pytest.mark.parametrize("columns", [5, 333])
def test_kernels_of_the_format(columns: int) -> None:
    from tritape.train.ternary import format as plain
    from tritape.train.ternary import kernels

    torch.manual_seed(columns)
    weight = torch.randn(7, columns)
    scale = weight_scale(weight)
    data = pack(weight, scale)
    assert torch.equal(kernels.pack(weight.to(DEVICE), scale.to(DEVICE)).cpu(), data)
    for dtype in (torch.float32, torch.bfloat16):
        assert torch.equal(kernels.unpack(data.to(DEVICE), columns, dtype).cpu(), plain.unpack(data, columns, dtype))
    q, worth = torch.randint(-128, 128, (19, columns), dtype=torch.int8), torch.rand(19)
    actual = kernels.product(q.to(DEVICE), worth.to(DEVICE), PackedMatrix(data.to(DEVICE), scale.to(DEVICE), columns))
    torch.testing.assert_close(actual.cpu(), plain.product(q, worth, PackedMatrix(data, scale, columns)))


def test_errors_of_the_decoder() -> None:
    decoder = Decoder(PackedModel(small_model()))
    for prompt, count in (([], 1), ([1], 0), ([1], 4096)):
        message = f"at most 4096 together, not {len(prompt)} and {count}; call again with the last token to go on"
        with pytest.raises(TritapeError, match=message):
            decoder.generate(prompt, count)
    with pytest.raises(TritapeError, match="token id must be from 0 to 22, not 23"):
        decoder.generate([1, 23], 1)


def test_sums_of_digits_without_taking_them_apart() -> None:
    q = torch.randint(-127, 128, (5, 16), generator=torch.Generator().manual_seed(1))
    after = torch.cat([q[1:], torch.zeros(1, 16, dtype=torch.int64)])
    weight = torch.randint(-1, 2, (9, 80), generator=torch.Generator().manual_seed(2)).float()
    data = pack(weight, torch.tensor(1.0)).long()
    whole = torch.stack([data * 3**e // 256 for e in range(1, 6)], dim=1)
    assert int(whole.max()) <= 242
    sums = (whole * (q - 3 * after)).sum((1, 2)) - q.sum()
    assert torch.equal(sums, (weight.long() * q.flatten()).sum(1))


@pytest.mark.parametrize(("processors", "limit"), [(132, 232448), (108, 166912), (82, 101376), (46, 101376)])
@pytest.mark.parametrize("shape", ["370M", "1.3B", "2.7B"])
def test_shares_hold_all_rows_and_fit(shape: str, processors: int, limit: int) -> None:
    config = SHAPES[shape]
    constants = shares(config, processors, limit).constants
    assert constants["BLOCKS"] <= processors
    rows = (("HIDDEN", "HIDDEN_ROWS"), ("INNER", "INNER_ROWS"), ("VOCAB", "VOCAB_ROWS"))
    for whole, own in rows:
        assert constants[whole] <= constants["BLOCKS"] * constants[own]
        assert constants[own] % 4 == 0
    assert constants["SHARED"] <= limit
    for name in ("MIXER", "OUT", "GATE", "DOWN", "HEAD"):
        assert constants[f"{name}_CHUNK"] % constants[f"{name}_GROUP"] == 0


def test_shares_need_room_for_a_group_of_rows() -> None:
    with pytest.raises(
        TritapeError, match=r"shared memory must hold 5760 bytes of weights, not .*; use PackedModel.step"
    ):
        shares(SHAPES["2.7B"], 132, 24000)


@pytest.mark.skipif(GPU, reason="says what happens without a GPU")
def test_the_decoder_needs_a_gpu() -> None:
    message = "device must be an NVIDIA GPU of compute capability 8.0 or newer, not cpu; use PackedModel.step"
    with pytest.raises(TritapeError, match=message):
        Decoder(PackedModel(small_model())).generate([1], 1)


@pytest.mark.gpu
@pytest.mark.skipif(not GPU, reason="needs a GPU")
@pytest.mark.parametrize(("hidden", "inner"), [(36, 52), (38, 51), (600, 700), (100, 2700), (2560, 6912)])
def test_decoding_equals_the_packed_model(hidden: int, inner: int) -> None:
    packed = PackedModel(small_model(hidden, inner))
    decoder = Decoder(packed)
    prompt = [3, 1, 4, 1, 5]
    count = 3 if hidden < 100 else 1
    chosen = decoder.generate(prompt, count)
    logits, states = packed.step(torch.tensor([prompt], device=DEVICE))
    expected = []
    for _ in range(count):
        expected.append(int(logits[0, -1].argmax()))
        last, (logits, states) = logits, packed.step(torch.tensor([expected[-1:]], device=DEVICE), states)
    assert chosen == expected
    assert (decoder.logits - last[0, -1]).abs().max() <= 1e-4 * last.abs().max()
    more = decoder.generate([chosen[-1]], 2)  # the state goes on; the last token chosen has not been through the model
    assert more[0] == int(logits[0, -1].argmax())
    decoder.reset()
    assert decoder.generate(prompt, count) == expected
