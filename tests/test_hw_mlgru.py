"""`MLGRU` against `arith.silu`, `arith.forget_gate`, `arith.recur`, `arith.rescale` and `arith.sat18`."""

from functools import cache

import numpy as np
import pytest
from wrappers import CountPulses

from tritape.base.errors import TritapeError
from tritape.hw.commands import MLGRUMode
from tritape.hw.mixer.mlgru import MLGRU
from tritape.model import arith
from tritape.sim.bench import SIMULATORS, check_streams


class Golden:
    """The commands of a run, and what must come of them."""

    def __init__(self, states):
        self.h = np.zeros(states, dtype=np.int64)
        self.c = np.zeros(0, dtype=np.int64)
        self.commands, self.values, self.elements, self.saturated = [], [], [], 0

    def command(self, mode, values, base=0, shift=0, fresh=0):
        self.commands.append(
            {"mode": mode.value, "length": len(values), "base": base, "shift": shift, "fresh": int(fresh)}
        )
        self.values += np.asarray(values).tolist()

    def token(self, i, f, g, lower_bound, base, shift, fresh):
        """Modes I, F and G over vectors of one length."""
        at = slice(base, base + len(i))
        self.command(MLGRUMode.CANDIDATE, i)
        self.c = arith.silu(i)
        self.command(MLGRUMode.FORGET, f, base=base, fresh=fresh)
        self.h[at] = arith.recur(arith.forget_gate(f, lower_bound), self.h[at] * (not fresh), self.c)
        self.command(MLGRUMode.OUTPUT, g, base=base, shift=shift, fresh=fresh)
        products = arith.rescale(g, arith.silu(self.h[at]), shift)
        self.elements += arith.sat18(products).tolist()
        self.saturated += arith.count_saturated(products)


def parameter_words(lower_bound, groups):
    per_word = groups // 2
    padded = np.zeros(-(-len(lower_bound) // per_word) * per_word, dtype=np.int64)
    padded[: len(lower_bound)] = lower_bound
    words = [sum(int(e) << 16 * k for k, e in enumerate(row)) for row in padded.reshape(-1, per_word)]
    return [{"word": word, "first": int(n == 0)} for n, word in enumerate(words)]


@cache  # each once: elaborating it takes longer than the simulation
def made(groups, max_hidden, max_layers):
    return CountPulses(MLGRU(groups, max_hidden, max_layers), "saturated")


def run(golden, lower_bound, simulator, groups=4, max_hidden=128, max_layers=3, **options):
    words = parameter_words(lower_bound, groups)
    return check_streams(
        made(groups, max_hidden, max_layers),
        inputs={"commands": golden.commands, "parameters": words, "values": golden.values},
        expected={"elements": golden.elements},
        after={"commands": [(0, "parameters", len(words))]},
        finals={"count": golden.saturated},
        simulator=simulator,
        **options,
    )


def vectors(rng, length, scale=131071):
    return rng.integers(-scale, scale + 1, (3, length))


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("length", [1, 40, 65, 97])
def test_tokens_over_layers(length, simulator):
    rng = np.random.default_rng(length)
    lower_bound = rng.integers(0, 32769, length)
    golden = Golden(3 * 128)
    for token in range(3):
        for layer in range(3):
            i, f, g = vectors(rng, length, scale=(131071, 12000, 4000)[token])
            golden.token(i, f, g, lower_bound, base=layer * length, shift=(8, 14, 17)[layer], fresh=token == 0)
    assert golden.saturated or length == 1  # the data must meet the clamp
    run(golden, lower_bound, simulator)


def test_extremes():
    corners = np.array(np.meshgrid([131071, -131071, 0, 1, -1], [131071, -131071, 0], [131071, -131071])).reshape(3, -1)
    golden = Golden(384)
    lower_bound = np.tile([0, 32768, 32767, 1, 16384], 6)
    for token in range(4):
        i, f, g = np.roll(corners, token, axis=1)
        golden.token(i, f, g, lower_bound, base=5, shift=(0, 15, 17, 47)[token], fresh=token == 0)
    run(golden, lower_bound, "icarus")


def test_fresh_forgets_the_old_state_and_without_a_lower_bound_it_is_zero():
    rng = np.random.default_rng(9)
    golden = Golden(384)
    for token in range(4):
        golden.token(*vectors(rng, 40, 9000), np.zeros(40, dtype=np.int64), base=0, shift=13, fresh=token in (0, 2))
    run(golden, [], "icarus")


def test_commands_of_length_one_and_zero_see_each_others_writes():
    rng = np.random.default_rng(10)
    lower_bound = rng.integers(0, 32769, 1)
    golden = Golden(384)
    for token in range(40):
        golden.token(*vectors(rng, 1, 20000), lower_bound, base=token % 2, shift=13, fresh=token < 2)
        for mode in MLGRUMode:
            golden.command(mode, [])
    run(golden, lower_bound, "icarus", input_stall=0, output_stall=0)


def test_more_than_one_bank_of_state_and_candidates():
    rng = np.random.default_rng(11)
    lower_bound = rng.integers(0, 32769, 1100)
    golden = Golden(3300)
    for token in range(2):
        for layer in range(3):
            vector = vectors(rng, 1100, 30000)
            golden.token(*vector, lower_bound, base=1100 * layer, shift=14, fresh=token == 0)
    run(golden, lower_bound, "verilator", groups=26, max_hidden=1100, max_layers=3)


def test_one_element_a_cycle_in_each_mode():
    rng = np.random.default_rng(12)
    golden = Golden(384)
    golden.token(*vectors(rng, 97), np.arange(97), base=0, shift=17, fresh=True)
    result = run(golden, np.arange(97), "icarus", input_stall=0, output_stall=0)
    values, elements = result.transfers["values"], result.transfers["elements"]
    for mode in range(3):
        taken = values[97 * mode : 97 * mode + 97]
        assert np.diff(taken).tolist() == [1] * 96
    assert np.diff(elements).tolist() == [1] * 96
    assert elements[0] - values[2 * 97] == MLGRU.LATENCY


@pytest.mark.parametrize(
    ("max_hidden", "max_layers", "message"),
    [
        (0, 1, "max_hidden must be 1..16384, not 0"),
        (16385, 1, "max_hidden must be 1..16384, not 16385"),
        (1024, 1025, "max_layers must be 1..1024 for max_hidden 1024, not 1025; a state address has 20 bits"),
    ],
)
def test_refuses_sizes(max_hidden, max_layers, message):
    with pytest.raises(TritapeError, match=message):
        MLGRU(16, max_hidden, max_layers)
