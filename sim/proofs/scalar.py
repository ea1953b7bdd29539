"""The scalar unit: every number stays in its range."""

from __future__ import annotations

from collections.abc import Callable

from amaranth.hdl import Assert, Module, Mux, Signal, Value

from tritape.hw.norm.scalar import Scalar
from tritape.sim.proofs.hold import drive


def ranges(kind: type[Scalar] = Scalar, *, small: bool = False) -> Callable[[Module], list[Value]]:
    """A scale's shift is 0..47 and a reciprocal's e 0..17; the divisor is normalised, so that no quotient overflows."""

    def build(m: Module) -> list[Value]:
        bench = drive(m, kind(small=small))
        inside = bench.inside
        states = {name: inside.state(name) for name in inside.states()}
        shift, e, divisor, high = (inside.signal(name) for name in ("shift", "e", "divisor", "high"))
        scale, reciprocal = bench.outer["scale"], bench.outer["reciprocal"]
        zero, root, count = inside.signal("zero"), inside.signal("root"), inside.signal("count")
        small_divisor = states["MAXIMUM"] | states["INVERT"] | states["RECIPROCAL"] | states["MULTIPLY"]
        narrow = states["MULTIPLY"] | states["SQUARE SUM"] | states["ROOT"] | states["CLIP"]
        done = Signal(5)  # bits of the root that are there
        m.d.comb += done.eq(17 - count)
        begins = (inside.signal("rest") == 0) & (root == 0) & (inside.signal("wide")[48:] != 0)
        m.d.comb += [
            Assert(~scale[0] | (scale[1][17:] <= 47), "shift"),
            Assert(~reciprocal[0] | (reciprocal[1][17:] <= 17), "e"),
            Assert(~(states["INVERT"] | states["DIVIDE"]) | (high < divisor), "the remainder is less than the divisor"),
            Assert(~states["RECIPROCAL"] | ~zero | (shift == 0), "the shift of nothing"),
            Assert(~states["INVERT"] | ~zero, "nothing has no reciprocal"),
            Assert(~states["MAXIMUM"] | (high == 127 << 9), "127 * 2^9 is less than the divisor will be"),
            Assert(~small_divisor | ~divisor[17], "17 bits of the maximum"),
            Assert(~narrow | ~high[17], "17 bits of the product"),
            Assert(
                ~states["ROOT"] | Mux(done == 0, begins, (root >> (done - 1)[:5]) == 1), "the root begins with a one"
            ),
            Assert(~states["ROOT"] | (count <= 17), "18 bits of the root"),
            Assert(~states["CLIP"] | root[17], "the root is normalised"),
            Assert(~states["DIVIDE"] | divisor[17], "the root divides"),
            Assert(inside.known(), "the FSM is in one of its states"),
            Assert(~states["MAXIMUM"] | (zero == (divisor == 0)), "zero"),
            Assert(
                ~states["MAXIMUM"] | zero | (((divisor >> (17 - e)[:5]) != 0) & ~divisor[17]), "e counts the shifts"
            ),
            Assert(~(states["MAXIMUM"] | states["INVERT"]) | (e <= 17), "e falls"),
            Assert(~states["RECIPROCAL"] | (e <= 17), "e is done"),
            Assert(~states["INVERT"] | divisor[16], "the divisor is normalised"),
            Assert(~states["SCALE"] | ((shift >= 0) & (shift <= 47)), "the shift is clipped"),
            Assert(~states["DIVIDE"] | ((shift >= 0) & (shift <= 47)), "the shift is clipped before"),
        ]
        return bench.free

    return build
