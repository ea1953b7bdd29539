"""Payloads as Python values, integers and bit text: the one place that knows Amaranth's layouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from amaranth.hdl import Shape
from amaranth.lib import data

from tritape.model.errors import TritapeError

Payload = int | Mapping[str, Any] | Sequence[Any]


def encode(shape: Any, value: Any, where: str) -> int:
    """Value as the unsigned integer that its bits spell. `where` names it in errors.

    Integers (in the shape's range) for plain shapes and enumerations; for a struct a dict with every field, for a
    union a dict with one, for an array a sequence. `TritapeError` for a value that does not fit.
    """
    if isinstance(shape, data.Layout):
        fields = dict(shape)
        if isinstance(shape, data.ArrayLayout):
            if not hasattr(value, "__len__") or len(value) != len(fields):
                raise TritapeError(f"{where} must be a sequence of {len(fields)} elements, not {value!r}")
            items = dict(enumerate(value))
        else:
            union = isinstance(shape, data.UnionLayout)
            if not isinstance(value, Mapping) or not (
                len(value) == 1 and set(value) <= set(fields) if union else set(value) == set(fields)
            ):
                kind = "one of the fields" if union else "the fields"
                raise TritapeError(f"{where} must be a dict of {kind} {list(fields)}, not {value!r}")
            items = dict(value)
        packed = 0
        for key, item in items.items():
            inner = f"{where}[{key}]" if isinstance(key, int) else f"{where}.{key}"
            packed |= encode(fields[key].shape, item, inner) << fields[key].offset
        return packed
    plain = Shape.cast(shape)
    low = -(1 << plain.width - 1) if plain.signed and plain.width else 0
    high = low + (1 << plain.width) - 1
    try:
        number = int(value)
    except (TypeError, ValueError):
        raise TritapeError(f"{where} must be an integer, not {value!r}") from None
    if not low <= number <= high or number != value:
        raise TritapeError(f"{where} must be an integer in {low}..{high}, not {value!r}")
    return number & ((1 << plain.width) - 1)


def decode(shape: Any, bits: int) -> Any:
    """Inverse of `encode`; of a union, every field."""
    if isinstance(shape, data.Layout):
        fields = dict(shape)
        values = {key: decode(field.shape, bits >> field.offset) for key, field in fields.items()}
        return list(values.values()) if isinstance(shape, data.ArrayLayout) else values
    plain = Shape.cast(shape)
    bits &= (1 << plain.width) - 1
    if plain.signed and plain.width and bits >> (plain.width - 1):
        bits -= 1 << plain.width
    return int(bits)


def width(shape: Any) -> int:
    """Bits of a payload of this shape."""
    return Shape.cast(shape).width


def text(shape: Any, value: Any, where: str) -> str:
    """`encode`, as bit text, most significant bit first; empty for a shape without bits."""
    bits = width(shape)
    return f"{encode(shape, value, where):0{bits}b}" if bits else ""


def show(shape: Any, bits: str) -> str:
    """Bit text as a value for a message; the text itself where it has X or Z bits."""
    return f"0b{bits}" if bits.strip("01") else repr(decode(shape, int(bits or "0", 2)))


def first_difference(shape: Any, expected: Any, got: Any, path: str = "") -> tuple[str, Any, Any] | None:
    """First differing leaf of two decoded values: (field path, expected, got); a plain payload's path is `payload`."""
    if isinstance(shape, data.Layout):
        for number, (key, field) in enumerate(shape):
            at = number if isinstance(shape, data.ArrayLayout) else key
            inner = f"{path}[{key}]" if isinstance(key, int) else f"{path}.{key}".lstrip(".")
            if found := first_difference(field.shape, expected[at], got[at], inner):
                return found
        return None
    return None if expected == got else (path or "payload", expected, got)
