"""Integer arithmetic of the contract (docs/contract.md), one function a unit, vectorised with NumPy.

Every function takes and returns integers (int64 arrays or Python ints) and computes what the hardware must equal bit for bit.
Source: docs/contract.md, written from the released `hgrn_bit` semantics; never derived from the RTL.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

VALUE_MAX = 131071  # largest magnitude of an 18-bit value; saturation is symmetric
PRE_FRACTION = 11  # fraction bits of pre-activations, silu and the state
SIGMA_ONE = 32768  # 1.0 of a sigma
GAIN_FRACTION = 15
SHIFT_MAX = 47
XORSHIFT_DEFAULT = 0x9E3779B9  # used for seed 0, which the generator cannot hold


def sat18(values: Ints) -> Ints:
    """Clamp to +/-131071; any shape."""
    return np.clip(values, -VALUE_MAX, VALUE_MAX)


def count_saturated(values: Ints) -> int:
    """How many elements `sat18` would change."""
    return int(np.count_nonzero(np.abs(values) > VALUE_MAX))


def round_shift(products: Ints, shift: int | Ints) -> Ints:
    """`(p + 2^(shift-1)) >> shift`, arithmetic; `p` for shift 0. `shift` may be an array that broadcasts."""
    return (products + ((1 << shift) >> 1)) >> shift


def row_sums(weights: NDArray[np.float32], q: Ints) -> Ints:
    """Exact row sums [..., rows] before saturation of ternary weights [rows, K], held as float32, times q [..., K].

    float32 keeps every partial sum exact while 127 * K < 2^24, which K <= 16384 guarantees; so BLAS may be used.
    """
    return (q.astype(np.float32) @ weights.T).astype(np.int64)


@dataclass(frozen=True)
class Statistics:
    """What one pass over a vector finds: `square_sum` is A, `maximum` is M of docs/contract.md."""

    square_sum: int
    maximum: int


def apply_gain(x: Ints, gain: Ints) -> Ints:
    """`round_shift(x * gain, 15)`, elementwise; shapes equal."""
    return round_shift(x * gain, GAIN_FRACTION)


def statistics(x: Ints, gain_first: Ints | None, gain_product: Ints, kept: int = 0) -> Statistics:
    """A and M of a vector [K]. `gain_first` None keeps the given A (`kept`) of the projection before."""
    square_sum = kept
    if gain_first is not None:
        v = apply_gain(x, gain_first)
        square_sum = int(np.dot(v, v))
    return Statistics(square_sum, int(np.max(np.abs(apply_gain(x, gain_product)), initial=0)))


def reciprocal(maximum: int) -> tuple[int, int]:
    """(r, e) of docs/contract.md: r = (127 << 26) // (M << (17 - e)), e = bit length of M; (0, 0) for M = 0."""
    if maximum == 0:
        return 0, 0
    e = maximum.bit_length()
    return (127 << 26) // (maximum << (17 - e)), e


def quantise(u: Ints, r: int | Ints, e: int | Ints) -> Ints:
    """int8 activations of u [..., K], round half away from zero; `r` and `e` may be arrays that broadcast."""
    return np.sign(u) * ((np.abs(u) * r + (1 << (8 + e))) >> (9 + e))


def scale(maximum: int, square_sum: int, eps: int, mantissa: int, exponent: int) -> tuple[int, int]:
    """(S, shift) of docs/contract.md from M, A and the tape's eps, Cm, Ce."""
    if maximum == 0:
        return 0, 0
    a = max(square_sum + eps, 1)
    t = 36 - a.bit_length()
    if t % 2:
        t -= 1
    root = math.isqrt(a << t if t >= 0 else a >> -t)
    e = maximum.bit_length()
    s = (2 * mantissa * (maximum << (17 - e))) // root
    return s, min(max(18 - exponent - e - t // 2, 0), SHIFT_MAX)


def rescale(raw: Ints, factor: Ints | int, shift: int | Ints) -> Ints:
    """`round_shift(raw * factor, shift)` before saturation: dequantiser, output gate and channel mixer."""
    return round_shift(raw * factor, shift)


SIGMA: Ints = np.round(SIGMA_ONE / (1.0 + np.exp(-np.arange(1024) / 64.0))).astype(np.int64)


def sigma(a: Ints) -> Ints:
    """Logistic of pre-activations (11 fraction bits) as 0..32768."""
    value = SIGMA[np.minimum((np.abs(a) + 16) >> 5, 1023)]
    return np.where(a < 0, SIGMA_ONE - value, value)


def silu(a: Ints) -> Ints:
    """`a * sigma(a)`, 11 fraction bits in and out."""
    return round_shift(a * sigma(a), 15)


def forget_gate(a: Ints, lower_bound: Ints) -> Ints:
    """f' = lb + (1 - lb) * sigma(a), 0..32768."""
    return lower_bound + round_shift((SIGMA_ONE - lower_bound) * sigma(a), 15)


def recur(forget: Ints, h: Ints, candidate: Ints) -> Ints:
    """New state f' * h + (1 - f') * c, 11 fraction bits."""
    return round_shift(forget * h + (SIGMA_ONE - forget) * candidate, 15)


def embed(codes: Ints, multiplier: int) -> Ints:
    """Residual from an int8 embedding row [hidden]."""
    return round_shift(codes * multiplier, 8)


def xorshift32(state: int) -> int:
    """One step of Marsaglia's xorshift32 (13, 17, 5)."""
    state ^= (state << 13) & 0xFFFFFFFF
    state ^= state >> 17
    return state ^ ((state << 5) & 0xFFFFFFFF)


def _gumbel_table() -> Ints:
    z = np.arange(8)[:, None]
    v = 2.0 ** -(z + 1) * (1 + (np.arange(128)[None, :] + 0.5) / 128)
    return np.round(2**PRE_FRACTION * -np.log(-np.log1p(-v))).astype(np.int64).reshape(-1)


GUMBEL: Ints = _gumbel_table()
GUMBEL_STEP = 1420  # 2^11 ln 2, the noise of one more leading zero past the table


def gumbel(states: Ints) -> Ints:
    """Gumbel noise with 11 fraction bits of generator states [n] (32 bits, never 0)."""
    lengths = np.frexp(states.astype(np.float64))[1]  # exact: 32-bit integers are exact in float64
    z = 32 - lengths
    m = ((states << (z + 1)) >> 25) & 127
    return GUMBEL[np.minimum(z, 7) * 128 + m] + GUMBEL_STEP * np.maximum(z - 7, 0)


def choose(logits: Ints, inv_temperature: int, state: int) -> tuple[int, int]:
    """(token, new generator state) for logits [vocabulary]; `inv_temperature` 0 is greedy and leaves the state alone."""
    if inv_temperature == 0:
        return int(np.argmax(logits)), state
    states = np.empty(len(logits), dtype=np.int64)
    for row in range(len(logits)):
        state = xorshift32(state)
        states[row] = state
    scores = round_shift(logits * inv_temperature, 12) + gumbel(states)
    return int(np.argmax(scores)), state
