"""RMSNorm against `arith.statistics`, `arith.quantise` and `arith.scale`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from wrappers import CountPulses

from tritape.hw.norm.rmsnorm import RMSNorm
from tritape.hw.norm.vector_scalar import VectorScalar
from tritape.model import arith
from tritape.sim.bench import SIMULATORS, check_streams


class Norm(wiring.Component):
    """`RMSNorm` of one lane with its `VectorScalar`."""

    def __init__(self, groups: int, max_length: int) -> None:
        self._lane, self._scalar = RMSNorm(groups, max_length), VectorScalar(1)
        inside = ("operands", "reciprocal")
        self._lane_ports = {name: member for name, member in self._lane.signature.members.items() if name not in inside}
        super().__init__({**self._lane_ports, "scales": self._scalar.signature.members["scales"]})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.lane, m.submodules.scalar = lane, scalar = self._lane, self._scalar
        for name, member in self._lane_ports.items():
            if member.is_signature:
                wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(lane, name))
            else:
                m.d.comb += getattr(self, name).eq(getattr(lane, name))
        wiring.connect(m, lane.operands, scalar.operands[0])
        wiring.connect(m, scalar.reciprocal[0], lane.reciprocal)
        wiring.connect(m, scalar.scales, wiring.flipped(self.scales))
        return m


Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass
class Program:
    """Streams of commands in order; banks alternate, and a bank is written when its last reader is done."""

    groups: int
    parameters: list[dict[str, int]] = field(default_factory=list)
    commands: list[dict[str, int]] = field(default_factory=list)
    vector: list[int] = field(default_factory=list)
    activations: list[dict[str, int]] = field(default_factory=list)
    scales: list[dict[str, int]] = field(default_factory=list)
    needs: list[tuple[int, str, int]] = field(default_factory=list)  # parameters that a command waits for
    gates: list[tuple[int, str, int]] = field(default_factory=list)
    maxima: list[int] = field(default_factory=list)
    square_sum: int = 0

    def load(self, gain: Ints, target: int, bank: int) -> None:
        each = self.groups // 2
        for at in range(0, len(gain), each):
            word = sum((int(value) & 0xFFFF) << 16 * k for k, value in enumerate(gain[at : at + each]))
            self.parameters.append({"word": word, "target": target, "bank": bank, "first": int(at == 0)})

    def add(
        self, x: Ints, first: Ints | None, product: Ints, eps: int = 0, mantissa: int = 40000, exponent: int = 0
    ) -> None:
        """One command; `first` None keeps A."""
        bank = len(self.commands) % 2
        before = sum(command["length"] for command in self.commands[:-1])  # all but the one in the other bank
        self.gates.append((len(self.parameters), "activations", before))
        if first is not None:
            self.load(first, 0, bank)
        self.load(product, 1, bank)
        self.load(product * 0 + 77, 2, bank)  # a lower bound, not for this unit
        self.needs.append((len(self.commands), "parameters", len(self.parameters)))
        self.commands.append(
            {
                "length": len(x),
                "bank": bank,
                "keep": int(first is None),
                "eps": eps,
                "mantissa": mantissa,
                "exponent": exponent,
            }
        )
        found = arith.statistics(x, first, product, self.square_sum)
        self.square_sum = found.square_sum
        self.maxima.append(found.maximum)
        q = arith.quantise(arith.apply_gain(x, product), *arith.reciprocal(found.maximum))
        self.vector += 2 * x.tolist()
        self.activations += [{"value": int(value), "last": int(j == len(x) - 1)} for j, value in enumerate(q)]
        scale, shift = arith.scale(found.maximum, found.square_sum, eps, mantissa, exponent)
        self.scales.append({"mantissa": scale, "shift": shift})

    def streams(self) -> dict[str, Any]:
        return {
            "inputs": {"parameters": self.parameters, "commands": self.commands, "vector": self.vector},
            "expected": {"activations": self.activations, "scales": self.scales},
            "after": {"parameters": self.gates, "commands": self.needs},
        }


def gain(rng: np.random.Generator, length: int) -> Ints:
    return rng.integers(-32767, 32768, length)


def random_program(groups: int, seed: int, lengths: list[int]) -> Program:
    rng = np.random.default_rng(seed)
    program = Program(groups)
    for number, length in enumerate(lengths):
        x = rng.integers(-131071, 131072, length) >> rng.integers(0, 12)
        if number == 2:
            x[:] = 0
        if number == 3:
            x[:] = np.where(rng.integers(2, size=length), 131071, -131071)
        program.add(
            x,
            None if number % 4 == 1 else gain(rng, length),
            gain(rng, length),
            eps=int(rng.integers(0, 1 << 48)) >> int(rng.integers(0, 48)),
            mantissa=int(rng.integers(32768, 65536)),
            exponent=int(rng.integers(-30, 10)),
        )
    return program


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize(
    ("groups", "lengths"),
    [(4, [40, 40, 65, 130, 1, 1, 1, 2, 3]), (5, [65, 65, 40, 40, 3, 7]), (16, [1, 1, 40, 64, 65, 65, 130])],
)
def test_equals_the_model(groups: int, lengths: list[int], simulator: str) -> None:
    program = random_program(groups, groups, lengths)
    check_streams(Norm(groups, 130), **program.streams(), simulator=simulator)


def test_done_comes_once_a_command() -> None:
    rng = np.random.default_rng(5)
    program = Program(4)
    program.add(rng.integers(-1000, 1000, 9), gain(rng, 9), gain(rng, 9))
    program.add(rng.integers(-1000, 1000, 1), None, gain(rng, 1))
    check_streams(CountPulses(Norm(4, 16), "done"), **program.streams(), finals={"count": 2})


def test_latency_between_the_passes_and_rate() -> None:
    """Element K - 1 of the first pass to the first activation; every shift of the maximum."""
    program = Program(8)
    length = 40
    for bits in range(18):
        x = np.zeros(length, dtype=np.int64)
        x[bits] = 131071 if bits == 17 else ((1 << bits) - 1) * 2  # gain 16384 halves it
        product = np.full(length, 32767 if bits == 17 else 16384)
        program.add(x, product, product)
    assert [m.bit_length() for m in program.maxima] == list(range(18))
    result = check_streams(
        Norm(8, 64),
        **program.streams(),
        input_stall=0,
        output_stall=0,
    )
    for bits in range(18):
        vector = result.transfers["vector"][2 * length * bits : 2 * length * (bits + 1)]
        activations = result.transfers["activations"][length * bits : length * (bits + 1)]
        n = 17 - bits
        latency = RMSNorm.STATISTICS_LATENCY + (n // 4 + n % 4 if bits else -17)
        assert activations[0] - vector[length - 1] == latency
        assert vector[length - 1] - vector[0] == length - 1
        assert activations[-1] - activations[0] == length - 1


def test_next_command_goes_on_while_no_scale_is_taken() -> None:
    """Four scales wait inside the unit: as many commands give all their activations before the first is taken."""
    rng = np.random.default_rng(6)
    program = Program(4)
    for _ in range(4):
        program.add(rng.integers(-1000, 1000, 8), gain(rng, 8), gain(rng, 8))
    streams = program.streams()
    streams["after"]["scales"] = [(0, "activations", 4 * 8)]
    check_streams(Norm(4, 16), **streams)
