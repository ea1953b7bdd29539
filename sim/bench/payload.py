"""Payloads as Python values, integers and bit text: the one place that knows Amaranth's layouts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from amaranth.hdl import Shape
from amaranth.lib import data

from tritape.base.errors import TritapeError


def encoder(shape: Any) -> Callable[[Any, str], int]:
    """Function (value, name for errors) -> the unsigned integer that the value's bits spell.

    Integers (in the shape's range) for plain shapes and enumerations; for a struct a dict with every field, for a
    union a dict with one, for an array a sequence. `TritapeError` for a value that does not fit.
    """
    if isinstance(shape, data.Layout):
        return _layout_encoder(shape)
    plain = Shape.cast(shape)
    low = -(1 << plain.width - 1) if plain.signed and plain.width else 0
    high = low + (1 << plain.width) - 1
    mask = (1 << plain.width) - 1

    def encode_plain(value: Any, where: str) -> int:
        try:
            number = int(value)
        except (TypeError, ValueError):
            raise TritapeError(f"{where} must be an integer, not {value!r}") from None
        if not low <= number <= high or number != value:
            raise TritapeError(f"{where} must be an integer in {low}..{high}, not {value!r}")
        return number & mask

    return encode_plain


def _layout_encoder(shape: data.Layout) -> Callable[[Any, str], int]:
    fields = {key: (encoder(field.shape), field.offset) for key, field in shape}
    array, union = isinstance(shape, data.ArrayLayout), isinstance(shape, data.UnionLayout)

    def encode_array(value: Any, where: str) -> int:
        if not hasattr(value, "__len__") or len(value) != len(fields):
            raise TritapeError(f"{where} must be a sequence of {len(fields)} elements, not {value!r}")
        packed = 0
        for (key, (inner, offset)), item in zip(fields.items(), value):
            packed |= inner(item, f"{where}[{key}]") << offset
        return packed

    def encode_struct(value: Any, where: str) -> int:
        fits = (
            isinstance(value, Mapping) and value.keys() <= fields.keys() and len(value) == (1 if union else len(fields))
        )
        if not fits:
            kind = "one of the fields" if union else "the fields"
            raise TritapeError(f"{where} must be a dict of {kind} {list(fields)}, not {value!r}")
        packed = 0
        for key, item in value.items():
            inner, offset = fields[key]
            packed |= inner(item, f"{where}.{key}") << offset
        return packed

    return encode_array if array else encode_struct


def decode(shape: Any, bits: int) -> Any:
    """Inverse of `encoder`; of a union, every field."""
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


def texts(shape: Any, values: Iterable[Any], where: str) -> list[str]:
    """Values as bit text, most significant bit first; empty text for a shape without bits."""
    bits, encode = width(shape), encoder(shape)
    packed = [encode(value, f"{where}[{index}]") for index, value in enumerate(values)]
    return [f"{number:0{bits}b}" if bits else "" for number in packed]


def text(shape: Any, value: Any, where: str) -> str:
    """One value as bit text; `where` names it in errors."""
    bits = width(shape)
    return f"{encoder(shape)(value, where):0{bits}b}" if bits else ""


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
