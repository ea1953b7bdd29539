"""Weight codes: how ternary weights become bits of a tape, one code a file; `code_named` finds them."""

from __future__ import annotations

from tritape.base.errors import TritapeError
from tritape.model.codes.code import WeightCode
from tritape.model.codes.sparse4 import SPARSE4
from tritape.model.codes.ternary5 import TERNARY5

__all__ = ["CODES", "SPARSE4", "TERNARY5", "WeightCode", "check_code", "code_named", "code_numbered"]

CODES: dict[str, WeightCode] = {code.name: code for code in (TERNARY5, SPARSE4)}
"""By name."""


def code_named(name: str) -> WeightCode:
    """The code called `name`. Raises TritapeError for none of them."""
    if name not in CODES:
        raise TritapeError(f"code must be one of {', '.join(CODES)}, not {name!r}; choose one of them")
    return CODES[name]


def code_numbered(number: int) -> WeightCode:
    """The code with this number on a tape or in a reply to IDENTIFY. Raises TritapeError for none of them."""
    for code in CODES.values():
        if code.number == number:
            return code
    known = ", ".join(f"{code.number} ({code.name})" for code in CODES.values())
    raise TritapeError(f"number of the weight code must be one of {known}, not {number}; use a newer tritape")


def check_code(found: WeightCode, wanted: WeightCode, source: str) -> None:
    """Raise TritapeError unless weights packed in `found` can go where `wanted` is taken."""
    if found is not wanted:
        raise TritapeError(
            f"{source}: weight code of the tape must be {wanted.name}, not {found.name}; pack it with --code {wanted.name}, or "
            f"program a bitstream that takes {found.name}"
        )
