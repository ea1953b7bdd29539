"""`Head` against `arith.choose`."""

from functools import cache

import numpy as np
import pytest
from amaranth import Module, signed
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import Out
from amaranth.sim import Simulator

from tritape.base.errors import TritapeError
from tritape.hw.head.head import Head
from tritape.model import arith
from tritape.sim.bench import SIMULATORS, check_streams


class TappedHead(wiring.Component):
    """A head whose tap of logits is a stream, so that the bench sees it."""

    def __init__(self, max_vocab):
        self.head = Head(max_vocab)
        members = self.head.signature.members
        names = ("commands", "values", "tokens", "inv_temperature", "state")
        super().__init__({name: members[name] for name in names} | {"tap": Out(stream.Signature(signed(18)))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.head = head = self.head
        m.submodules.logits = logits = fifo.SyncFIFO(width=18, depth=1024)
        wiring.connect(m, wiring.flipped(self.commands), head.commands)
        wiring.connect(m, wiring.flipped(self.values), head.values)
        wiring.connect(m, wiring.flipped(self.tokens), head.tokens)
        m.d.comb += [
            head.inv_temperature.eq(self.inv_temperature),
            self.state.eq(head.state),
            logits.w_data.eq(head.logit),
            logits.w_en.eq(head.logit_valid),
            self.tap.payload.eq(logits.r_data),
            self.tap.valid.eq(logits.r_rdy),
            logits.r_en.eq(self.tap.ready),
        ]
        return m


tapped = cache(TappedHead)  # each once: elaborating it takes longer than the simulation


def run(vectors, inv_temperature, simulator, max_vocab=1000, **options):
    state, tokens = arith.XORSHIFT_DEFAULT, []
    for vector in vectors:
        if len(vector):
            token, state = arith.choose(np.asarray(vector, dtype=np.int64), inv_temperature, state)
            tokens.append(token)
    values = [int(y) for vector in vectors for y in vector]
    return check_streams(
        tapped(max_vocab),
        inputs={"commands": [{"rows": len(vector)} for vector in vectors], "values": values},
        expected={"tokens": tokens, "tap": values},
        statics={"inv_temperature": inv_temperature},
        finals={"state": state},
        simulator=simulator,
        **options,
    )


def vectors(*lengths, scale=131071):
    rng = np.random.default_rng(7)
    return [rng.integers(-scale, scale + 1, length) for length in lengths]


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("inv_temperature", [0, 4096])
def test_tokens_one_after_the_other(inv_temperature, simulator):
    run(vectors(1, 40, 0, 65, 97, 1, 2, scale=4000), inv_temperature, simulator)


def test_greedy_ties_go_to_the_lowest_index():
    run([[5] * 40, [-131071] * 7, [0, 131071, 131071], *vectors(97, 97, scale=2)], 0, "icarus")


@pytest.mark.parametrize("inv_temperature", [1, 500, 131071])
def test_temperatures(inv_temperature):
    run(vectors(97, 97, 97), inv_temperature, "icarus")


def test_latency_and_rate():
    result = run(vectors(97, 40), 4096, "icarus", input_stall=0, output_stall=0)
    values, tokens = result.transfers["values"], result.transfers["tokens"]
    assert values[96] - values[0] == 96
    assert tokens[0] - values[96] == Head.LATENCY


@pytest.mark.parametrize("vocabulary", [0, 65537])
def test_refuses_sizes(vocabulary):
    with pytest.raises(TritapeError, match=rf"max_vocab must be 1\.\.65536, not {vocabulary}; a token has 16 bits"):
        Head(vocabulary)


def test_as_many_logits_as_a_token_has_numbers():
    """A command for 65,536 logits takes them: the counters have 17 bits."""
    unit = Head(65536)

    async def script(context):
        context.set(unit.commands.payload.rows, 65536)
        context.set(unit.commands.valid, 1)
        await context.tick()
        context.set(unit.commands.valid, 0)
        context.set(unit.values.valid, 1)
        taken = 0
        for _ in range(40):
            taken += context.get(unit.values.ready)
            assert not context.get(unit.tokens.valid)
            assert not context.get(unit.commands.ready)
            await context.tick()
        assert taken >= 35

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(script)
    simulator.run()
