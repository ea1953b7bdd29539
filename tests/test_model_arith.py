"""The integer units against the real functions that they stand for, and their properties at the edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritape.model import arith

VALUES = st.integers(-arith.VALUE_MAX, arith.VALUE_MAX)


@given(st.integers(-(2**40), 2**40), st.integers(0, 47))
def test_round_shift_is_the_nearest_integer(product: int, shift: int):
    exact = product / 2**shift
    got = int(arith.round_shift(np.array([product]), shift)[0])
    assert abs(got - exact) <= 0.5
    assert got == math.floor(exact + 0.5)


@given(st.lists(VALUES, min_size=1, max_size=50))
def test_quantise_spans_127(values: list[int]):
    u = np.array(values)
    maximum = int(np.abs(u).max())
    q = arith.quantise(u, *arith.reciprocal(maximum))
    assert np.abs(q).max() == (127 if maximum else 0)
    if maximum:
        assert np.abs(q - 127 * u / maximum).max() <= 0.5 + 1e-3
        assert np.array_equal(arith.quantise(-u, *arith.reciprocal(maximum)), -q)


@given(
    st.integers(1, arith.VALUE_MAX),
    st.integers(0, 2**48 - 1),
    st.integers(0, 2**20),
    st.integers(1 << 15, (1 << 16) - 1),
    st.integers(-60, 10),
)
def test_scale_is_the_quotient(maximum: int, square_sum: int, eps: int, mantissa: int, exponent: int):
    s, shift = arith.scale(maximum, square_sum, eps, mantissa, exponent)
    assert 0 <= s < 1 << 17
    exact = mantissa * 2.0**exponent * maximum / math.sqrt(max(square_sum + eps, 1))
    if 0 < shift < 47:
        assert s * 2.0**-shift == pytest.approx(exact, rel=2e-4)
        assert s >= 1 << 14


def test_zero_vector():
    """Nothing divides by zero: no activations, no scale."""
    assert arith.reciprocal(0) == (0, 0)
    assert arith.scale(0, 0, 0, 40000, -20) == (0, 0)
    assert not arith.quantise(np.zeros(3, np.int64), 0, 0).any()


@given(st.lists(VALUES, min_size=1, max_size=50))
def test_sigma_and_silu(values: list[int]):
    a = np.array(values)
    real = 1 / (1 + np.exp(-a / 2**11))
    assert np.abs(arith.sigma(a) / 2**15 - real).max() <= 0.25 / 128 + 2**-15
    assert np.array_equal(arith.sigma(-a) + arith.sigma(a), np.where(a == 0, 2 * arith.sigma(a), 2**15))
    assert np.abs(arith.silu(a) - a * real).max() <= 0.0021 * np.abs(a).max() + 1


@given(st.integers(0, 2**15), VALUES, VALUES)
def test_recurrence_stays_between(forget: int, h: int, candidate: int):
    new = int(arith.recur(np.array(forget), np.array(h), np.array(candidate)))
    assert min(h, candidate) <= new <= max(h, candidate)
    assert arith.forget_gate(np.array(5), np.array(0)) == arith.sigma(np.array(5))


def test_generator_and_noise():
    """Marsaglia's published sequence, and the moments of the Gumbel distribution."""
    assert arith.xorshift32(2463534242) == 723471715
    state, states = arith.XORSHIFT_DEFAULT, []
    for _ in range(200_000):
        state = arith.xorshift32(state)
        states.append(state)
    noise = arith.gumbel(np.array(states)) / 2**11
    assert noise.mean() == pytest.approx(0.5772, abs=0.01)
    assert noise.var() == pytest.approx(math.pi**2 / 6, abs=0.03)
    assert np.mean(noise > 6) == pytest.approx(1 - math.exp(-math.exp(-6)), rel=0.15)


def test_sampling_follows_softmax():
    """Frequencies of Gumbel-max samples equal the softmax of logits / T."""
    logits = np.array([0, 2048, -1024, 3000])
    temperature = 0.7
    inverse = round(2.0**12 / temperature)
    state, counts = 1, np.zeros(4)
    for _ in range(20_000):
        token, state = arith.choose(logits, inverse, state)
        counts[token] += 1
    wanted = np.exp(logits / 2**11 / temperature)
    assert counts / 20_000 == pytest.approx(wanted / wanted.sum(), abs=0.012)
    assert arith.choose(np.array([5, 7, 7, 1]), 0, 99) == (1, 99)
