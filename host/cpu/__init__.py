"""The same model on this machine's processor: the baseline that `tritape bench --cpu` prints beside a board."""

from __future__ import annotations

import ctypes
import subprocess
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tritape.base import simulators
from tritape.base.cache import cached, digest
from tritape.base.errors import TritapeError
from tritape.host.protocol import inverse_temperature
from tritape.model import arith
from tritape.model.arith import Ints
from tritape.model.quantised import PROJECTIONS, Projection, QuantisedModel
from tritape.model.reference import check_ids

Place = npt.NDArray[np.float64]
"""`CPUModel.place`."""
SOURCE = Path(__file__).parent / "kernel.cpp"
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC")


class CPUModel:
    """A `bench.TokenSource`: integers as in the fabric, weights packed at 2 bits, AVX2 where the processor has it.

    Matrices of 2^20 weights and more are spread over all cores (OpenMP); smaller ones run on one. Every logit and
    every sampled token equals the golden model (tests/test_host_cpu.py). The kernel is compiled for this processor
    when first used, and cached by content. Raises TritapeError without a C++ compiler.
    """

    def __init__(self, model: QuantisedModel) -> None:
        self._model = model
        self._library = _load()
        data = blob(model)
        self._handle = ctypes.c_void_p(self._library.model_new(data))
        self._close = weakref.finalize(self, self._library.model_free, self._handle)
        self.settings()

    def settings(self, temperature: float = 0.0, seed: int = 0) -> None:
        """Sampler as on a board: temperature 0 is greedy; the generator starts from `seed`."""
        self.inverse(inverse_temperature(temperature, self._model.logit_fraction), seed)

    def inverse(self, inverse: int, seed: int = 0) -> None:
        """`settings` of the sampler's own number, as TEMPERATURE carries it."""
        self._library.model_settings(self._handle, inverse, seed or arith.XORSHIFT_DEFAULT)

    def reset(self) -> None:
        """The next token starts a sequence."""
        self._library.model_reset(self._handle)

    def feed(self, tokens: Sequence[int]) -> int:
        """Run tokens; the one chosen after the last. Raises TritapeError for ids outside the vocabulary."""
        chosen = 0
        for token in check_ids(tokens, self._model.config.vocab_size):
            chosen = self._library.model_feed(self._handle, int(token))
        return int(chosen)

    def place(self) -> Place:
        """Where the sequence stands: the recurrent state [layers * hidden] in float64 and, last, the generator."""
        place = np.empty(self._library.model_place_size(self._handle))
        self._library.model_keep(self._handle, place.ctypes.data)
        return place

    def go_back(self, place: Place) -> None:
        """Stand there again."""
        self._library.model_return(self._handle, np.ascontiguousarray(place).ctypes.data)

    def go_on(self, token: int, count: int) -> tuple[list[int], list[Place]]:
        """Feed a token, then each that is chosen: `count` chosen ones, and the places behind the tokens fed."""
        chosen = np.empty(count, np.uint32)
        places = np.empty((count, self._library.model_place_size(self._handle)))
        self._library.model_go_on(self._handle, token, count, chosen.ctypes.data, places.ctypes.data)
        return chosen.tolist(), list(places)

    def logits(self) -> Ints:
        """Integer logits [vocab] of the last token."""
        pointer = self._library.model_logits(self._handle)
        return np.ctypeslib.as_array(pointer, (self._model.config.vocab_size,)).astype(np.int64)

    def generate_tokens(self, prompt: Sequence[int], count: int) -> Iterator[int]:
        """Run the prompt, then yield `count` tokens as they come."""
        token = self.feed(prompt)
        for number in range(count):
            if number:
                token = int(self._library.model_feed(self._handle, token))
            yield token


def blob(model: QuantisedModel) -> bytes:
    """The model as kernel.cpp reads it: sizes, tables, layers, head, embedding; all little-endian."""
    config = model.config
    sizes = (
        config.hidden_size,
        config.intermediate_size,
        config.num_hidden_layers,
        config.vocab_size,
        model.multiplier,
    )
    parts = [_i32(*sizes), arith.SIGMA.astype("<i4").tobytes(), arith.GUMBEL.astype("<i4").tobytes()]
    for layer in model.layers:
        parts += [_projection(layer.projections[name]) for name in PROJECTIONS]
        parts += [layer.lower_bound.astype("<i4").tobytes(), _i32(layer.o_shift, layer.m_shift)]
    return b"".join([*parts, _projection(model.head), model.embedding.tobytes()])


def _projection(p: Projection) -> bytes:
    rows, k = p.weights.shape
    first = b"" if p.gain_first is None else p.gain_first.astype("<i2").tobytes()
    head = _i32(rows, k, p.gain_first is not None, p.mantissa, p.exponent) + np.array([p.eps], "<i8").tobytes()
    return head + first + p.gain_product.astype("<i2").tobytes() + p.weights.tobytes()


def _i32(*values: int) -> bytes:
    return np.array(values, "<i4").tobytes()


def _load() -> ctypes.CDLL:
    library = ctypes.CDLL(str(build()))
    pointer, number = ctypes.c_void_p, ctypes.c_uint32
    for name, result, arguments in (
        ("model_new", pointer, [ctypes.c_char_p]),
        ("model_free", None, [pointer]),
        ("model_reset", None, [pointer]),
        ("model_settings", None, [pointer, number, number]),
        ("model_feed", number, [pointer, number]),
        ("model_place_size", number, [pointer]),
        ("model_keep", None, [pointer, pointer]),
        ("model_return", None, [pointer, pointer]),
        ("model_go_on", None, [pointer, number, number, pointer, pointer]),
        ("model_logits", ctypes.POINTER(ctypes.c_int32), [pointer]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def build(flags: Sequence[str] = FLAGS) -> Path:
    """The kernel as a shared library for this processor; cached by source, flags and what the compiler makes of them."""
    compiler = simulators.require_compiler()
    source = SOURCE.read_text()
    target = subprocess.run(
        [compiler, *flags, "-dM", "-E", "-x", "c++", "/dev/null"], capture_output=True, text=True, check=False
    ).stdout  # its version and the processor's instruction sets are among the macros

    def compile_(folder: Path) -> None:
        (folder / SOURCE.name).write_text(source)
        command = [compiler, *flags, SOURCE.name, "-o", "kernel.so"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            tail = "\n".join(done.stderr.strip().splitlines()[-10:])
            raise TritapeError(f"CPU kernel must compile, not fail; {compiler} ended with:\n{tail}")

    return cached("cpu", digest(source, *flags, target), compile_) / "kernel.so"
