"""The programs of the serial vector unit: what happens to one element, one operation a cycle."""

from __future__ import annotations

from enum import IntEnum

from amaranth.lib import data

from tritape.model.tape.layout import Target


class A(IntEnum):
    """First operand of the multiplication."""

    ROW = 0  # the row sum that the engine offers
    MEMORY = 1
    RESULT = 2
    MAGNITUDE = 3  # of the result
    HELD = 4


class B(IntEnum):
    """Second operand."""

    ZERO = 0
    ONE = 1
    FACTOR = 2  # S of the scale; r of the reciprocal; the embedding's multiplier
    SIGMA = 3  # of the result
    RESULT = 4
    GAIN = 5


class Shift(IntEnum):
    """How far the product is shifted."""

    NONE = 0
    SCALE = 1  # of the projection's scale
    OUTPUT = 2  # of o and m
    FRACTION = 3  # 15
    QUANTISE = 4  # 9 + e
    EMBEDDING = 5  # 8


class Addend(IntEnum):
    """What is added behind the shift: memory outputs, two cycles after the operands."""

    NONE = 0
    MEMORY = 1
    GAIN = 2


class Use(IntEnum):
    """What the result is for, besides being the next `RESULT`."""

    NONE = 0  # no operation
    RESULT = 1
    WRITE = 2  # into `region`
    SQUARE = 3  # the product goes into A
    MAXIMUM = 4
    ACTIVATION = 5
    LOGIT = 6


class Region(IntEnum):
    """Which vector of the value memory; c lies where v comes later."""

    X = 0
    V = 1
    STATE = 2
    PREPARED = 3  # x or v, as the PREP says


class Held(IntEnum):
    """What happens to the register `HELD`."""

    KEEP = 0
    ZERO = 1
    ONE = 2  # 2^15
    LESS_GAIN = 3
    LESS_MEMORY = 4
    PLUS_STATE = 5  # unless the sequence is fresh


Operation = data.StructLayout(
    {
        "a": 3,
        "b": 3,
        "shift": 3,
        "addend": 2,
        "use": 3,
        "age": 2,  # of the element that it is for: 0 the current one, 1 the one before, 2 the one before that
        "region": 2,
        "read": 1,  # the value memory
        "gain": 2,  # `Target`: which vector of the gain memory
        "read_gain": 1,
        "held": 3,
        "row": 1,  # wait for a row, and take it if it is not needed again
        "last": 1,  # of the program: the next element is next
        "drain": 1,  # with `last`: run twice more, for operations of `age` 1 and 2
    }
)


def _op(a: A = A.ROW, b: B = B.ZERO, use: Use = Use.NONE, **fields: int) -> dict[str, int]:
    return {"a": a, "b": b, "use": use, **fields}


def _read(region: Region) -> dict[str, int]:
    return {"region": region, "read": 1}


def _gain(vector: Target) -> dict[str, int]:
    return {"gain": vector, "read_gain": 1}


_PAUSE: dict[str, int] = {}
_SCALED = {"shift": Shift.SCALE, "row": 1}
_SILU = _op(A.RESULT, B.SIGMA, Use.RESULT, shift=Shift.FRACTION)
_OUTPUT = _op(A.ROW, B.RESULT, Use.WRITE, shift=Shift.OUTPUT, row=1, region=Region.V)
_DEQUANTISE = _op(A.ROW, B.FACTOR, Use.RESULT, **_SCALED)
_FIRST = _op(A.MEMORY, B.GAIN, Use.RESULT, shift=Shift.FRACTION)

PROGRAMS: dict[str, list[dict[str, int]]] = {
    # c = silu(y)
    "candidate": [
        _DEQUANTISE, _PAUSE, _PAUSE, _PAUSE, _PAUSE,
        _SILU | {"use": Use.WRITE, "region": Region.V},
    ],
    # f' = lb + round_shift((1 - lb) * sigma(y), 15); h = c + round_shift(f' * (h - c), 15): exact, c being whole
    "forget": [
        _DEQUANTISE | _gain(Target.LOWER_BOUND) | {"held": Held.ONE},
        {"held": Held.LESS_GAIN}, _PAUSE, _PAUSE, _PAUSE,
        _op(A.HELD, B.SIGMA, Use.RESULT, shift=Shift.FRACTION, addend=Addend.GAIN, held=Held.ZERO, **_read(Region.V)),
        {"held": Held.LESS_MEMORY, **_read(Region.STATE)},
        {"held": Held.PLUS_STATE},
        _op(A.HELD, B.RESULT, Use.WRITE, shift=Shift.FRACTION, addend=Addend.MEMORY, region=Region.STATE),
        _read(Region.V),
    ],
    # o = round_shift(raw * silu(h), shift)
    "output": [
        _op(A.ROW, B.ZERO, Use.RESULT, addend=Addend.MEMORY), _read(Region.STATE), _PAUSE, _PAUSE, _PAUSE,
        _SILU, _PAUSE, _PAUSE, _OUTPUT,
    ],
    # m = round_shift(up * silu(gate), shift)
    "mixer": [_DEQUANTISE, _PAUSE, _PAUSE, _PAUSE, _PAUSE, _SILU, _PAUSE, _PAUSE, _OUTPUT],
    # x = x + y
    "residual": [
        _DEQUANTISE, _PAUSE, _PAUSE,
        _op(A.RESULT, B.ONE, Use.WRITE, addend=Addend.MEMORY, region=Region.X),
        _read(Region.X),
    ],
    "logits": [_op(A.ROW, B.FACTOR, Use.LOGIT, **_SCALED)],
    # A = sum of v^2, M = max |u|
    "measure": [
        _op(A.RESULT, B.RESULT, Use.SQUARE, age=1, **_read(Region.PREPARED), **_gain(Target.GAIN_FIRST)),
        _FIRST | _gain(Target.GAIN_PRODUCT),
        _FIRST | {"use": Use.MAXIMUM},
        {"drain": 1},
    ],
    "measure_keep": [
        _read(Region.PREPARED) | _gain(Target.GAIN_PRODUCT),
        _FIRST | {"use": Use.MAXIMUM, "drain": 1},
    ],
    # q = sign(u) * round_shift(|u| * r, 9 + e)
    "quantise": [
        _op(A.MAGNITUDE, B.FACTOR, Use.ACTIVATION, shift=Shift.QUANTISE, age=2,
            **_read(Region.PREPARED), **_gain(Target.GAIN_PRODUCT)),
        _FIRST | {"drain": 1},
    ],
    "embed": [
        _read(Region.X),
        _op(A.MEMORY, B.FACTOR, Use.WRITE, shift=Shift.EMBEDDING, region=Region.X),
        _PAUSE, _PAUSE,
    ],
}  # fmt: skip
"""Program -> its operations, one a cycle. A result comes 3 cycles after its operands, sigma of it 2 cycles later; a memory's
output one cycle after its address. Operations for `WRITE` are at least 4 cycles apart: one address waits.
`tests/test_hw_vector.py` runs every one of them against the golden model."""

START: dict[str, int] = {}
"""Program -> number of its first operation in `OPERATIONS`."""
OPERATIONS: list[dict[str, int]] = []
for _name, _steps in PROGRAMS.items():
    START[_name] = len(OPERATIONS)
    OPERATIONS += _steps[:-1] + [_steps[-1] | {"last": 1}]


def cycles(name: str) -> int:
    """Cycles that a program takes for one element (a pair of rows for `mixer`)."""
    return len(PROGRAMS[name])
