"""What a tape file says about itself, checked: `inspect` prints it, and everything that reads a tape believes it."""

from __future__ import annotations

import json
from typing import Any

from tritape.base.errors import TritapeError
from tritape.model.codes import CODES
from tritape.model.config import ModelConfig, is_int

_RANGES = {
    "groups": (4, 255),
    "engines": (1, 255),
    "rows": (1, 0xFFFF),
    "residual_fraction": (0, 17),
    "logit_fraction": (0, 23),
}


def parse_metadata(text: bytes, image_bytes: int, source: str) -> dict[str, Any]:
    """The metadata of a tape file (docs/tape.md) as a dictionary; keys that it does not name stay as they are.

    text: JSON in UTF-8; image_bytes: those of the file. Raises `TritapeError` naming `source` and the field that is wrong: the
    bytes may come from anywhere, and a right check sum only says that they are whole.
    """

    def wrong(field: str, wanted: str, value: object) -> TritapeError:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        return TritapeError(f"{source}: {field} of the metadata must be {wanted}, not {shown}; pack the model again")

    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise TritapeError(
            f"{source}: metadata must be a JSON object in UTF-8, not broken by {type(error).__name__}; pack the model again"
        ) from None
    if not isinstance(found, dict):
        raise TritapeError(
            f"{source}: metadata must be a JSON object, not {type(found).__name__}; pack the model again"
        )
    for field, (low, high) in _RANGES.items():
        value = found.get(field, 1 if field == "engines" else None)  # absent before there were several
        if not isinstance(value, int) or not is_int(value) or not low <= value <= high:
            raise wrong(field, f"an integer in {low}..{high}", value)
    if found["groups"] % found.get("engines", 1):
        raise wrong("groups", f"a multiple of the {found['engines']} engines", found["groups"])
    if not isinstance(found.get("code", "ternary5"), str) or found.get("code", "ternary5") not in CODES:
        raise wrong("code", f"one of {', '.join(CODES)}", found["code"])
    if found.get("image_bytes") != image_bytes:
        raise wrong("image_bytes", str(image_bytes), found.get("image_bytes"))
    for field in ("name", "checkpoint_sha256"):
        if not isinstance(found.get(field), str):
            raise wrong(field, "text", found.get(field))
    if not isinstance(found.get("tokenizer_sha256"), str | None):
        raise wrong("tokenizer_sha256", "text or null", found["tokenizer_sha256"])
    if not isinstance(found.get("config"), dict):
        raise wrong("config", "a JSON object", found.get("config"))
    ModelConfig.from_dict(found["config"], source)
    return found
