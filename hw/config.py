"""Size parameters of the hardware: one object makes the RTL, the host's constants and the documentation."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from tritape.model.errors import TritapeError

if TYPE_CHECKING:
    from tritape.model.checkpoint import ModelConfig

TRITS = 5  # ternary digits of a weight byte, so activations of one table
_FIELD_MAX = (1 << 16) - 1  # tiles and rows travel in 16-bit fields of the tape


@dataclass(frozen=True)
class Config:
    """Limits of one accelerator; any model within them runs on it.

    Raises `TritapeError` naming the field where a value is not an integer in its range.
    """

    groups: int = 16
    """G: tables side by side, bytes of a tape word; 4 or more."""
    tables_per_filler: int = 1
    """Tables that one filler serves in turn: fewer fill faster, more cost less; 1..groups."""
    max_hidden: int = 1024
    max_intermediate: int = 4096
    max_layers: int = 24
    max_vocab: int = 32768
    max_rows: int = 1024
    """Rows of one matrix block, the size of the accumulator memory."""

    def __post_init__(self) -> None:
        limits = {
            "groups": (4, 255),
            "tables_per_filler": (1, self.groups),
            "max_hidden": (1, 16384),
            "max_intermediate": (1, 16384),
            "max_layers": (1, _FIELD_MAX),
            "max_vocab": (1, 1 << 16),
            "max_rows": (1, _FIELD_MAX),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise TritapeError(f"{name} must be an integer in {low}..{high}, not {value!r}; keep within that range")

    @classmethod
    def for_model(cls, shape: ModelConfig, groups: int, tables_per_filler: int = 1) -> Config:
        """The default limits, raised where a model needs more. Raises TritapeError when it needs more than there can be."""
        return cls(
            groups=groups,
            tables_per_filler=tables_per_filler,
            max_hidden=max(cls.max_hidden, shape.hidden_size),
            max_intermediate=max(cls.max_intermediate, shape.intermediate_size),
            max_layers=max(cls.max_layers, shape.num_hidden_layers),
            max_vocab=max(cls.max_vocab, shape.vocab_size),
        )

    @property
    def tile(self) -> int:
        """Activations that one filling of all tables covers: 5 G."""
        return TRITS * self.groups

    @property
    def max_length(self) -> int:
        """Longest vector (K) of a projection, in elements."""
        return max(self.max_hidden, self.max_intermediate)

    @property
    def max_tiles(self) -> int:
        """Tiles of the longest vector."""
        return -(-self.max_length // self.tile)

    @property
    def state_elements(self) -> int:
        """Elements of the recurrent state of all layers."""
        return self.max_layers * self.max_hidden

    def hash64(self) -> int:
        """64-bit hash of the content: equal configurations give equal numbers in every process and version of Python."""
        text = ",".join(f"{field.name}={getattr(self, field.name)}" for field in fields(self))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
