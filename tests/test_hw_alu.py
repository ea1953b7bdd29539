"""ALU against the arithmetic of docs/contract.md."""

from __future__ import annotations

import random
from typing import Any

from amaranth.sim import Simulator

from tritape.hw.vector.alu import ALU, VALUE_MAX


def sat18(value: int) -> int:
    return max(-VALUE_MAX, min(VALUE_MAX, value))


def expected(a: int, b: int, shift: int, addend: int) -> int:
    product = a * b
    rounded = product if shift == 0 else (product + (1 << shift - 1)) >> shift
    # beyond what one more bit holds, the sign decides, whatever the addend
    return sat18(rounded) if abs(rounded) > 2 * VALUE_MAX else sat18(rounded + addend)


def operands(rng: random.Random) -> list[tuple[int, int, int, int]]:
    extremes_a = [0, 1, -1, VALUE_MAX, -VALUE_MAX, 131642, -131642]  # h - c needs a bit more
    extremes_b = [0, 1, -1, VALUE_MAX, -VALUE_MAX, 32768]
    cases = [(a, b, shift, 0) for a in extremes_a for b in extremes_b for shift in range(48)]
    for shift in range(48):
        for _ in range(30):
            a = rng.randint(-131642, 131642) >> rng.randrange(18)
            b = rng.randint(-VALUE_MAX, VALUE_MAX) >> rng.randrange(18)
            cases.append((a, b, shift, 0))
    for _ in range(2000):  # sums that saturate, and that do not
        y = rng.randint(-VALUE_MAX, VALUE_MAX)
        cases.append((y, 1, 0, rng.choice((VALUE_MAX, -VALUE_MAX, rng.randint(-VALUE_MAX, VALUE_MAX)))))
        c, h, f = rng.randint(-571, VALUE_MAX), rng.randint(-571, VALUE_MAX), rng.randint(0, 32768)
        cases.append((h - c, f, 15, c))
    return cases


def test_every_shift_extremes_and_random_operands() -> None:
    """One operation a cycle; the result holds while none comes."""
    dut, cases = ALU(), operands(random.Random(5))
    results: list[int] = []
    magnitudes: list[int] = []

    async def testbench(ctx: Any) -> None:
        for cycle in range(len(cases) + ALU.LATENCY + 2):
            if cycle >= ALU.LATENCY:
                results.append(ctx.get(dut.result))
                magnitudes.append(ctx.get(dut.magnitude))
            ctx.set(dut.valid, cycle < len(cases))
            if cycle < len(cases):
                ctx.set(dut.a, cases[cycle][0])
                ctx.set(dut.b, cases[cycle][1])
                ctx.set(dut.shift, cases[cycle][2])
            due = cycle - ALU.ADDEND_DELAY
            ctx.set(dut.addend, cases[due][3] if 0 <= due < len(cases) else 0)
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    wanted = [expected(*case) for case in cases]
    for case, result, value, magnitude in zip(cases, results, wanted, magnitudes):
        assert (case, result) == (case, value)
        if abs(value) < VALUE_MAX:
            assert magnitude == abs(value)
    assert results[len(cases) :] == [wanted[-1]] * 2
