"""Test of the constants inside a bitstream: tables of sigma and of the sampler's noise, filler script, state memory.

Block RAM loses bits to radiation and to a bad load without any sign. The golden model knows what each table holds, so a model
that is made for the purpose shows them: see `tables_test`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from tritape.host.device import Device
from tritape.host.protocol import DATA_BYTES, Command, Identity
from tritape.host.sequence_device import elements
from tritape.model import arith
from tritape.model.arith import Ints
from tritape.model.checkpoint import random_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.formats import quantise_model
from tritape.model.golden import IntegerModel, Trace, golden_tokens
from tritape.model.quantised import Layer, Projection, QuantisedModel
from tritape.model.tape.assembler import image

HIDDEN, INTERMEDIATE, VOCABULARY = 128, 64, 256
"""Most of the sweep's model; a device with less gets less."""
SPREAD = 10.0
"""Deviation of what sigma is asked for: its table ends at 16."""
SAMPLED = 48
"""Tokens that the sampler draws."""
_ELEMENT = 3
_FORGET = "layers.0.f"

Progress = Callable[[int, int], None]


def sweep_model(identity: Identity, seed: int = 0) -> QuantisedModel:
    """A model of one layer whose state shows each entry of the sigma table that a token uses, bit for bit.

    The lower bound is 0 and the candidate c saturates, so the state after a first token is round((1 - sigma(y)) c), four
    times finer than sigma's last bit; y deviates by `SPREAD`, other than in a model that writes text.
    """
    shape = ModelConfig(
        vocab_size=min(VOCABULARY, identity.max_vocab),
        hidden_size=min(HIDDEN, identity.max_hidden),
        num_hidden_layers=1,
        intermediate_size=min(INTERMEDIATE, identity.max_intermediate),
    )
    checkpoint = random_checkpoint(shape, seed, sparse4=identity.code.name == "sparse4")
    model = quantise_model(checkpoint, ids=list(range(8)))
    embedding = np.maximum(np.abs(model.embedding.astype(np.int16)), 1).astype(np.int8)
    layer = model.layers[0]
    candidate, forget = layer.projections["i"], layer.projections["f"]
    # The first norm hands on positive elements, so rows without a minus sum up to something large.
    positive = replace(candidate, weights=np.abs(candidate.weights), exponent=candidate.exponent + 6)
    swept = replace(model, embedding=embedding, layers=[_with(layer, positive, forget)])
    measured = _deviation(swept, range(8))
    finer = forget.exponent + round(np.log2(SPREAD / measured))
    return replace(swept, layers=[_with(layer, positive, replace(forget, exponent=finer))])


def _with(layer: Layer, candidate: Projection, forget: Projection) -> Layer:
    projections = layer.projections | {"i": candidate, "f": forget}
    return replace(layer, projections=projections, lower_bound=np.zeros_like(layer.lower_bound))


def _deviation(model: QuantisedModel, tokens: range) -> float:
    """Of what sigma is asked for, in ones."""
    values = np.concatenate([_first_token(model, token)[1] for token in tokens])
    return max(float(np.std(values)), 1.0) / (1 << arith.PRE_FRACTION)


def _first_token(model: QuantisedModel, token: int) -> tuple[Ints, Ints]:
    """(state [hidden] after `token` alone, what sigma was asked for in it)."""
    golden, trace = IntegerModel(model), Trace()
    golden.step(token, trace)
    asked = next(values for unit, label, values in trace.entries if (unit, label) == ("value", _FORGET))
    return golden.state[0], asked


def tables_test(device: Device, *, seed: int = 0, progress: Progress = lambda done, total: None) -> dict[str, Any]:
    """Show every table of the fabric and compare it with the golden model; the tape and the state that were there are lost.

    State memory: four patterns over all of it. Sigma: `sweep_model`, one first token after the other, its state read back;
    every MATVEC of it fills tables by the whole filler script. Noise, where there is a sampler: `SAMPLED` tokens.

    Returns, JSON-ready: `state_elements`; `sigma_entries` and `noise_entries`, how many of `sigma_table` and `noise_table` were
    used; `tokens`; `wrong`, the first thing of each kind that differs, by name and place. An entry of the noise is compared
    only where it decides a token. Raises `TritapeError` as the link does.
    """
    identity = device.identity
    model = sweep_model(identity, seed)
    tokens = model.config.vocab_size
    device.load_tape(image(model, identity.groups, identity.max_rows, identity.engines, identity.code))
    wrong: list[dict[str, Any]] = []
    total = tokens + 8
    count = _march(device, seed, wrong, lambda done: progress(done, total))
    used = np.zeros(len(arith.SIGMA), np.bool_)
    device.settings(0.0, 0)
    for token in range(tokens):
        state, asked = _first_token(model, token)
        used[np.minimum((np.abs(asked) + 16) >> 5, len(used) - 1)] = True
        device.reset()
        device.feed([token])
        found = _state(device, model.config.hidden_size)
        if not any(one["table"] == "sigma" for one in wrong) and not np.array_equal(found, state):
            place = int(np.flatnonzero(found != state)[0])
            entry = int(min((abs(int(asked[place])) + 16) >> 5, len(used) - 1))
            wrong.append(_wrong("sigma", entry, state[place], found[place]))
        progress(token + 8, total)
    noise = _sampled(device, model, seed, wrong)
    progress(total, total)
    return {
        "state_elements": count,
        "sigma_entries": int(used.sum()),
        "sigma_table": len(used),
        "noise_entries": noise,
        "noise_table": len(arith.GUMBEL),
        "tokens": tokens + (SAMPLED if noise else 0),
        "wrong": wrong,
    }


def _wrong(table: str, place: int, expected: int, found: int) -> dict[str, Any]:
    return {"table": table, "place": int(place), "expected": int(expected), "found": int(found)}


def _march(device: Device, seed: int, wrong: list[dict[str, Any]], progress: Callable[[int], None]) -> int:
    """Write and read back the whole state memory: zeros, ones, a random pattern and its complement. Returns: its elements."""
    identity = device.identity
    count = identity.max_layers * identity.geometry.lane(identity.max_hidden)
    count <<= (identity.engines - 1).bit_length()
    noise = np.random.default_rng(seed).integers(-(1 << 17), 1 << 17, count)
    for number, pattern in enumerate((np.zeros(count, np.int64), np.full(count, -1), noise, ~noise)):
        data = pattern.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :_ELEMENT].tobytes()
        piece = DATA_BYTES // _ELEMENT
        for start in range(0, count, piece):
            part = data[start * _ELEMENT : (start + piece) * _ELEMENT]
            device.link.call(Command.WRITE_STATE, start, len(part) // _ELEMENT, part)
        progress(2 * number + 1)
        for start in range(0, count, piece):
            size = min(piece, count - start)
            found = elements(device.link.call(Command.READ_STATE, start, size).data)
            differ = np.flatnonzero(found != pattern[start : start + size])
            if len(differ) and not any(one["table"] == "state" for one in wrong):
                at = int(differ[0])
                wrong.append(_wrong("state", start + at, pattern[start + at], found[at]))
        progress(2 * number + 2)
    return count


def _state(device: Device, hidden: int) -> Ints:
    """The state of layer 0 [hidden], as the golden model orders it."""
    values = elements(device.slot_state(0, None).elements)
    engines = device.identity.engines
    return values.reshape(-1, 1 << (engines - 1).bit_length())[:, :engines].reshape(-1)[:hidden]


def _sampled(device: Device, model: QuantisedModel, seed: int, wrong: list[dict[str, Any]]) -> int:
    """Draw tokens at temperature 1 and compare. Returns: entries of the noise table that were used, 0 without a sampler."""
    start = random.Random(seed).randrange(1, 1 << 32)
    device.reset()
    device.settings(1.0, start)
    found = list(device.generate_tokens([0], SAMPLED))
    device.settings(0.0, 0)
    expected = golden_tokens(model, [0], SAMPLED, device.inverse_temperature(1.0), start)
    if found != expected:
        if found == golden_tokens(model, [0], SAMPLED):
            return 0  # a serial configuration, which is greedy
        place = next(i for i, (want, got) in enumerate(zip(expected, found, strict=True)) if want != got)
        wrong.append(_wrong("noise", place, expected[place], found[place]))
    used, state = set(), start
    for _ in range(SAMPLED * model.config.vocab_size):
        state = arith.xorshift32(state)
        zeros = 32 - state.bit_length()
        used.add(min(zeros, 7) * 128 + ((state << (zeros + 1)) >> 25 & 127))
    return len(used)
