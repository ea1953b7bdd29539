"""One token at a time on a GPU: Triton kernels over packed weights, and one CUDA graph that is the whole model.

Four kernels a layer; each first normalises and quantises its whole input (a few KB, again in every program) and then
multiplies its own rows, so that nothing but the residual, the state and three vectors crosses device memory:

    mixer    x -> i, f, g -> h = F * h + silu(i) * (1 - F); writes h, g and g * silu(h)
    project  o_proj: x += ...         project  gate_proj: m = silu(gate) * up         project  down_proj: x += ...

then `project` for the logits with each program's best, and `next_token`, which picks the best of all, stores it and
writes its embedding into x. A row's integer sum is exact; a word of four packed bytes gives four digits in two
multiplications and four logical instructions, and dp4a multiplies them by four int8 inputs. Digits are weight + 1, so
the sum of the inputs is taken off at the end. A program keeps its int8 inputs in a stretch of memory of its own, from
where its threads read them as words: they were written by other threads, in another order. While a kernel works, the
next one's weights are on their way into the L2 cache.
"""

import torch
import triton
from torch import Tensor
from triton.language import constexpr

from tritape.base.errors import TritapeError
from tritape.model.reference import check_ids
from tritape.train.packed.model import PackedModel
from tritape.train.packed.token_kernels import ADD, GATED, GLU, LOGITS, NORMED, PLAIN, mixer, next_token, project
from tritape.train.plain import BITLINEAR_EPS
from tritape.train.ternary.matrix import PackedMatrix, row_bytes

TILES = (16, 16, 32, 32, 64)
"""Rows of a program of (mixer, o_proj, gate_proj, down_proj, head): the best for the 2.7B shape, within 7 % for the others."""

PLACES = 4096
"""Tokens of one call of `Decoder.generate`, the prompt's included."""

INTERPRETED = triton.knobs.runtime.interpret


class Decoder:
    """Greedy decoding of one sequence with the state of `model` as it stands; a call of `generate` continues it.

    model: on a GPU. After the first call a token is one launch of a CUDA graph, sampling included. `tiles` gives the
    rows of a program for (mixer, o_proj, gate_proj, down_proj, head), `warps` its warps; `overlap` lets a kernel start, and
    fetch weights, while the one before it ends (programmatic dependent launch).
    """

    def __init__(
        self,
        model: PackedModel,
        tiles: tuple[int, ...] = TILES,
        warps: int = 8,
        overlap: bool = True,
    ) -> None:
        config, device = model.config, model.embedding.device
        self.model, self._tiles, self._warps = model, tiles, warps
        self._overlap = overlap and not INTERPRETED
        self._gains = [
            (layer.ifg_gains * layer.attn_norm, layer.o_gain * layer.g_norm, layer.gate_gain * layer.mlp_norm)
            for layer in model.layers
        ]
        self._head_gain = model.head_gain * model.norm
        self._graph: torch.cuda.CUDAGraph | None = None

        def vector(width: int) -> Tensor:
            return torch.zeros(width, device=device)

        self._scratches: dict[tuple[int, int], Tensor] = {}
        self.state = torch.zeros(config.num_hidden_layers, config.hidden_size, device=device)
        self._x, self._g, self._gs = (vector(config.hidden_size) for _ in range(3))
        self._m = vector(config.intermediate_size)
        self.logits = vector(config.vocab_size)
        self._programs = triton.cdiv(config.vocab_size, tiles[4])
        self._best = vector(self._programs)
        self._where = torch.zeros(self._programs, dtype=torch.int32, device=device)
        self._forced = torch.full((PLACES,), -1, dtype=torch.int32, device=device)
        self._chosen = torch.zeros(PLACES, dtype=torch.int32, device=device)
        self._place = torch.zeros(1, dtype=torch.int32, device=device)

    def reset(self) -> None:
        """Zero the state: the next token starts a sequence."""
        self.state.zero_()

    def generate(self, prompt: list[int], count: int) -> list[int]:
        """The `count` tokens after the prompt (at least one), the most likely each time.

        The last one has not passed through the model yet: it is the prompt of a call that goes on. Raises TritapeError
        for none of either, more than `PLACES` tokens in one call, or a token outside the vocabulary.
        """
        total = len(prompt) + count - 1
        if not prompt or count < 1 or total >= PLACES:
            raise TritapeError(
                f"prompt and tokens must be at least one each and at most {PLACES} together, not {len(prompt)} and {count}; "
                "call again with the last token to go on"
            )
        check_ids(prompt, self.model.config.vocab_size)
        self._forced.fill_(-1)
        self._forced[: len(prompt)] = torch.tensor(prompt, dtype=torch.int32)
        self._place.zero_()
        self._next(first=True)
        for _ in range(total):
            self.advance()
        return self._chosen[len(prompt) : total + 1].tolist()

    def advance(self) -> None:
        """Run the model on the token whose embedding is in place, then choose and embed the next one."""
        if INTERPRETED:
            self._token()
            return
        if self._graph is None:
            state, x, place = self.state.clone(), self._x.clone(), self._place.clone()
            self._token()  # compiles
            torch.cuda.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._token()
            self.state.copy_(state)
            self._x.copy_(x)
            self._place.copy_(place)
        self._graph.replay()

    def _token(self) -> None:
        config, model = self.model.config, self.model
        hidden, eps, rows = config.hidden_size, config.rms_norm_eps, self._tiles
        for index, (layer, gains) in enumerate(zip(model.layers, self._gains)):
            mixer[(triton.cdiv(hidden, rows[0]),)](
                self.state[index], self._g, self._gs, self._x, self._scratch(hidden, 3), layer.attn_norm, gains[0],
                layer.ifg.data, layer.ifg.scale, layer.bound,
                eps, BITLINEAR_EPS, layer.o.data, layer.o.data.numel(),
                K=hidden, R=rows[0], **self._shape(hidden),
            )  # fmt: skip
            self._project(ADD, GATED, self._x, self._gs, layer.g_norm, gains[1], layer.o, layer.gate, rows[1], self._g)
            self._project(GLU, NORMED, self._m, self._x, layer.mlp_norm, gains[2], layer.gate, layer.down, rows[2])
            later = model.head if layer is model.layers[-1] else model.layers[index + 1].ifg
            self._project(ADD, PLAIN, self._x, self._m, layer.down_gain, layer.down_gain, layer.down, later, rows[3])
        first = model.layers[0].ifg
        self._project(LOGITS, NORMED, self.logits, self._x, model.norm, self._head_gain, model.head, first, rows[4])
        self._next()

    def _project(
        self, epilogue: constexpr, kind: constexpr, out: Tensor, x: Tensor, outer: Tensor, gain: Tensor,
        matrix: PackedMatrix, later: PackedMatrix, rows: int, z: Tensor | None = None,
    ) -> None:  # fmt: skip
        count = len(matrix.data) // (2 if epilogue.value == GLU.value else 1)
        project[(triton.cdiv(count, rows),)](
            out, x, x if z is None else z, self._scratch(matrix.columns, 1), outer, gain, matrix.data, matrix.scale,
            self._best, self._where, self.model.config.rms_norm_eps, BITLINEAR_EPS, later.data, later.data.numel(),
            ROWS=count, K=matrix.columns, R=rows, KIND=kind.value, EPILOGUE=epilogue.value, **self._shape(matrix.columns),
        )  # fmt: skip

    def _shape(self, columns: int) -> dict[str, object]:
        packed = row_bytes(columns)
        return {
            "J": packed,
            "BLOCK": triton.next_power_of_2(columns),
            "WORDS": min(128, triton.next_power_of_2(packed // 4)),
            "NATIVE": not INTERPRETED,
            "num_warps": self._warps,
            "launch_pdl": self._overlap,
        }

    def _scratch(self, columns: int, inputs: int) -> Tensor:
        """Where every program keeps its int8 inputs, zero past their end: one buffer for each number of columns."""
        key = (columns, inputs)
        if key not in self._scratches:
            config, size = self.model.config, 5 * inputs * row_bytes(columns)
            most = max(config.vocab_size, 2 * config.intermediate_size, config.hidden_size)
            programs = triton.cdiv(most, min(self._tiles))
            self._scratches[key] = torch.zeros(programs * size, dtype=torch.int8, device=self._x.device)
        return self._scratches[key]

    def _next(self, first: bool = False) -> None:
        hidden = self.model.config.hidden_size
        next_token[(1,)](
            self._x, self._chosen, self._place, self._forced, self._best, self._where, self.model.embedding,
            self.model.embedding_scale, self._programs, K=hidden, BLOCK=triton.next_power_of_2(hidden),
            PROGRAMS=triton.next_power_of_2(self._programs), FIRST=first, NATIVE=not INTERPRETED, num_warps=8,
            launch_pdl=self._overlap,
        )  # fmt: skip
