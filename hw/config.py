"""Size parameters of the hardware: one object makes the RTL, the host's constants and the documentation."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from tritape.base.errors import TritapeError
from tritape.model.codes import TERNARY5, WeightCode, code_named
from tritape.model.tape.layout import Geometry

if TYPE_CHECKING:
    from tritape.model.config import ModelConfig

MAX_BATCH = 16
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
    engines: int = 1
    """E: engines, each with a lane of the vector units behind it; element j of every vector belongs to lane j mod E. Divides
    G; a tape word is E G bytes."""
    max_hidden: int = 1024
    max_intermediate: int = 4096
    max_layers: int = 24
    max_vocab: int = 32768
    max_rows: int = 1024
    """Rows of one matrix block, the size of the accumulator memory."""
    serial: bool = False
    """Everything behind the engine in one unit with one multiplier, greedy, and few counters: slower, a third of the cells."""
    batch: int = 1
    """T: tokens that one pass over the tape serves, each with an engine and a vector path of its own (decision 0006)."""
    code: str = TERNARY5.name
    """How weights are packed (`tritape.model.codes`), so which engine there is. With `sparse4` G is a multiple of 5, E is 1, 2
    or 4, and there are at most 8 fillers, so `tables_per_filler` is a lower bound."""
    block_tables: bool = False
    """With `sparse4`: tables in block RAM, one each, instead of LUT RAM."""

    def __post_init__(self) -> None:
        limits = {
            "groups": (4, 255),
            "engines": (1, 255),
            "tables_per_filler": (1, 255),
            "max_hidden": (1, 16384),
            "max_intermediate": (1, 16384),
            "max_layers": (1, _FIELD_MAX),
            "max_vocab": (1, 1 << 16),
            "max_rows": (1, _FIELD_MAX),
            "batch": (1, MAX_BATCH),
        }
        if type(self.serial) is not bool:
            raise TritapeError(f"serial must be True or False, not {self.serial!r}; choose one")
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise TritapeError(f"{name} must be an integer in {low}..{high}, not {value!r}; keep within that range")
        if self.groups % self.engines:
            raise TritapeError(
                f"groups must be a multiple of the {self.engines} engines, not {self.groups!r}; "
                f"try {self.groups + -self.groups % self.engines}"
            )
        if type(self.block_tables) is not bool or (self.block_tables and self.code == TERNARY5.name):
            raise TritapeError(
                f"block_tables must be False with code {self.code}, not {self.block_tables!r}; its tables are in block RAM"
            )
        self.weight_code.check_geometry(self.groups, self.engines)
        most = self.lane_groups if self.weight_code.by_lane else self.tables
        if self.tables_per_filler > most:
            raise TritapeError(
                f"tables_per_filler must be an integer in 1..{most}, not {self.tables_per_filler!r}; "
                "keep within that range"
            )
        if self.serial and self.engines != 1:
            raise TritapeError(
                f"engines must be 1 in a serial configuration, not {self.engines!r}; take away one of the two"
            )
        if self.serial and self.batch != 1:
            raise TritapeError(
                f"batch must be 1 in a serial configuration, not {self.batch!r}; take away one of the two"
            )

    @classmethod
    def for_model(
        cls,
        shape: ModelConfig,
        groups: int,
        tables_per_filler: int = 1,
        engines: int = 1,
        *,
        serial: bool = False,
        batch: int = 1,
        code: str = TERNARY5.name,
    ) -> Config:
        """The default limits, raised where a model needs more, and so many rows a block that fillings hide behind them with
        several engines. Raises TritapeError when it needs more than there can be."""
        return cls(
            groups=groups,
            tables_per_filler=tables_per_filler,
            engines=engines,
            max_hidden=max(cls.max_hidden, shape.hidden_size),
            max_intermediate=max(cls.max_intermediate, shape.intermediate_size),
            max_layers=max(cls.max_layers, shape.num_hidden_layers),
            max_vocab=max(cls.max_vocab, shape.vocab_size),
            max_rows=max(cls.max_rows, 512 * engines),
            serial=serial,
            batch=batch,
            code=code,
        )

    def limited_to(self, shape: ModelConfig) -> Config:
        """The same with limits that no larger model fits: the least area for this one."""
        return replace(
            self,
            max_hidden=shape.hidden_size,
            max_intermediate=shape.intermediate_size,
            max_layers=shape.num_hidden_layers,
            max_vocab=shape.vocab_size,
        )

    @property
    def weight_code(self) -> WeightCode:
        """The object of `code`."""
        return code_named(self.code)

    @property
    def geometry(self) -> Geometry:
        """Of the tapes that it runs."""
        return Geometry(self.groups, self.engines, self.weight_code)

    @property
    def tables(self) -> int:
        """Tables that an engine has: a code of the word each, G with ternary5."""
        return self.weight_code.tables(self.groups)

    @property
    def word_bytes(self) -> int:
        """Bytes of a tape word: a slice of E rows, E G."""
        return self.engines * self.groups

    @property
    def geometry_code(self) -> int:
        """G and E as the tape's header and IDENTIFY carry them, in 16 bits: G + 256 (E - 1)."""
        return self.groups | (self.engines - 1) << 8

    @property
    def lane_groups(self) -> int:
        """Tables that hold the activations of one lane: G / E."""
        return self.groups // self.engines

    def lane(self, size: int) -> int:
        """Elements of a vector of `size` that one lane holds, padding included: ceil(size / E)."""
        return -(-size // self.engines)

    @property
    def tile(self) -> int:
        """Activations that one filling of all tables covers: 5 G with ternary5."""
        return self.weight_code.tile(self.groups)

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
        """64-bit hash of the content: equal configurations give equal numbers in every process and version of Python.

        The last fields count only where they are not the default, since bitstreams are older than they."""
        later = {"batch": 1, "code": TERNARY5.name, "block_tables": False}
        names = [field.name for field in fields(self) if later.get(field.name) != getattr(self, field.name)]
        text = ",".join(f"{name}={getattr(self, name)}" for name in names)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
