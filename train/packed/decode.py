"""One token at a time on a GPU: one kernel that stays on the card runs the whole model, token after token.

`token.cu` and the headers beside it say how it works; `shares` says which part of it each block gets; `nvrtc` compiles and
starts it. Everything that crosses device memory is the packed weights, once a token, and vectors of a few KB between phases.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch

from tritape.base.errors import TritapeError
from tritape.model.reference import check_ids
from tritape.train.packed import nvrtc
from tritape.train.packed.model import PackedModel
from tritape.train.packed.shares import WARPS, shares

PLACES = 4096
"""Tokens of one call of `Decoder.generate`, the prompt's included."""

LAUNCH = 256
"""Tokens of one launch of the kernel."""

SOURCE = Path(__file__).with_name("token.cu")


class _Parameters(ctypes.Structure):
    """`Parameters` of `token.cu`."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in (
            "matrices", "scales", "mixer", "bound", "gains", "down", "head", "head_scale", "embedding", "embedding_scale",
            "state", "logits", "chosen", "forced", "exchange",
        )),
        ("eps", ctypes.c_float), ("least", ctypes.c_float), ("start", ctypes.c_int), ("steps", ctypes.c_int),
    ]  # fmt: skip


class Decoder:
    """Greedy decoding of one sequence with the state of `model` as it stands; a call of `generate` continues it.

    model: on an NVIDIA GPU of compute capability 8.0 or newer. The kernel is compiled for its shape when the first token is
    made, which takes seconds. state: [layers, hidden]; logits: [vocab], those of the last token that passed through the model.
    """

    def __init__(self, model: PackedModel, warps: int = WARPS) -> None:
        config, self._device = model.config, model.embedding.device
        self.model, self._warps = model, warps
        self._kernel: nvrtc.Kernel | None = None
        self.state = torch.zeros(config.num_hidden_layers, config.hidden_size, device=self._device)
        self.logits = torch.zeros(config.vocab_size, device=self._device)
        self._forced = torch.full((PLACES + 1,), -1, dtype=torch.int32, device=self._device)
        self._chosen = torch.zeros(PLACES + 1, dtype=torch.int32, device=self._device)

    def reset(self) -> None:
        """Zero the state: the next token starts a sequence."""
        self.state.zero_()

    def generate(self, prompt: list[int], count: int) -> list[int]:
        """The `count` tokens after the prompt (at least one), the most likely each time.

        The last one has not passed through the model yet: it is the prompt of a call that goes on. Raises TritapeError
        for none of either, more than `PLACES` tokens in one call, a token outside the vocabulary, or a card that will not do.
        """
        total = len(prompt) + count - 1
        if not prompt or count < 1 or total >= PLACES:
            raise TritapeError(
                f"prompt and tokens must be at least one each and at most {PLACES} together, not {len(prompt)} and {count}; "
                "call again with the last token to go on"
            )
        check_ids(prompt, self.model.config.vocab_size)
        places = torch.full((PLACES + 1,), -1, dtype=torch.int32)
        places[: len(prompt)] = torch.tensor(prompt, dtype=torch.int32)
        self._forced.copy_(places)
        self._chosen[:1] = self._forced[:1]
        for start in range(0, total, LAUNCH):
            self.advance(start, min(LAUNCH, total - start))
        return self._chosen[len(prompt) : total + 1].tolist()

    def advance(self, start: int, steps: int) -> None:
        """Start `steps` tokens from the one at place `start` on: each passes through the model and chooses the next."""
        if self._device.type != "cuda" or torch.cuda.get_device_capability(self._device) < (8, 0):
            raise TritapeError(
                f"device must be an NVIDIA GPU of compute capability 8.0 or newer, not {self._device}; use PackedModel.step"
            )
        with torch.cuda.device(self._device):
            if self._kernel is None:
                self._prepare()
            assert self._kernel is not None
            self._exchange.zero_()
            self._parameters.start, self._parameters.steps = start, steps
            self._kernel.launch(self._blocks, 32 * (self._warps + 1), self._parameters)

    def _prepare(self) -> None:
        """Compile the kernel and lay out what it reads beside the matrices."""
        model = self.model
        processors = torch.cuda.get_device_properties(self._device).multi_processor_count
        share = shares(model.config, processors, nvrtc.shared_limit(), self._warps)
        self._blocks = share.constants["BLOCKS"]
        self._exchange = torch.zeros(share.exchange, dtype=torch.int32, device=self._device)
        layers = model.layers
        matrices = [[part.data.data_ptr() for part in (x.ifg, x.o, x.gate, x.down)] for x in layers]
        scales = [torch.stack([*x.ifg.scale, x.o.scale, x.gate.scale, x.down.scale]) for x in layers]
        mixer = [x.ifg_gains * x.attn_norm for x in layers]
        following = [*(x.attn_norm for x in layers[1:]), model.norm]
        ones = torch.ones_like(model.norm)
        gains = []
        for x, norm in zip(layers, following):
            last = (model.head_gain * norm)[0] if norm is model.norm else ones
            gains += [x.g_norm, (x.o_gain * x.g_norm)[0], x.mlp_norm, (x.gate_gain * x.mlp_norm)[0], norm, last]
        gains += [layers[0].attn_norm, ones]
        self._tables = {
            "matrices": torch.tensor(matrices, dtype=torch.int64, device=self._device),
            "scales": torch.stack(scales),
            "mixer": torch.stack(mixer),
            "bound": torch.stack([x.bound for x in layers]),
            "gains": torch.stack(gains),
            "down": torch.cat([x.down_gain for x in layers]),
            "head": model.head.data, "head_scale": model.head.scale,
            "embedding": model.embedding, "embedding_scale": model.embedding_scale,
            "state": self.state, "logits": self.logits, "chosen": self._chosen, "forced": self._forced,
            "exchange": self._exchange,
        }  # fmt: skip
        pointers = {name: tensor.data_ptr() for name, tensor in self._tables.items()}
        self._parameters = _Parameters(**pointers, eps=model.config.rms_norm_eps, least=self._least())
        self._kernel = nvrtc.load(SOURCE, share.constants | {"STRICT": int(self._strict())}, share.shared)

    def _strict(self) -> bool:
        """May a product's largest input be far below what its norm divides by, though it is not small itself?

        Then the kernel waits for the norm before it quantises; otherwise only where all inputs are below 1e-7, those of o
        below `_least`.
        """
        pairs = [(self.model.norm, self.model.head_gain * self.model.norm)]
        for x in self.model.layers:
            pairs += [(x.attn_norm, x.ifg_gains * x.attn_norm), (x.mlp_norm, x.gate_gain * x.mlp_norm)]
            pairs += [(torch.ones_like(gain), gain) for gain in (x.o_gain, x.down_gain)]
        least = torch.stack([(gain.abs() / (norm.square() + 1e-6).sqrt()).min() for norm, gain in pairs])
        return bool(least.min() < 2e-5)

    def _least(self) -> float:
        """Where the largest input of o is at least this, its norm need not be known to quantise it.

        The norm matters where it takes the largest input v below 1e-5. It divides by at most what v itself accounts for,
        1e-3 * rms(g) and 1e-3 * sqrt(eps), so not where v >= 2e-8 * (rms(g) + sqrt(eps)) unless `_strict`. |g| is at most
        the length of g_proj's input, sqrt(hidden) * gain and half an integer's worth each, times that of a row.
        """
        hidden, least = self.model.config.hidden_size, 0.0
        for x in self.model.layers:
            largest = max(hidden**0.5 * float(x.ifg_gains[2].abs().max()), 1e-5)
            g = float(x.ifg.scale[2]) * hidden * largest * (hidden**-0.5 + 1 / 254)
            least = max(least, 2e-8 * (g + self.model.config.rms_norm_eps**0.5))
        return max(least, 1e-7)
