"""The engine of a configuration's weight code, and what its fillings take."""

from __future__ import annotations

from tritape.hw.config import Config
from tritape.hw.engine.engine import Engine
from tritape.hw.engine.sparse_engine import SparseEngine
from tritape.hw.engine.sparse_filler import sparse_fill_cycles
from tritape.hw.engine.table_engine import TableEngine
from tritape.hw.engine.table_filler import fill_cycles as table_fill_cycles
from tritape.model.codes import TERNARY5


def engine_of(config: Config) -> Engine:
    """The engine for the weight code of a configuration."""
    return (TableEngine if config.weight_code is TERNARY5 else SparseEngine)(config)


def fill_cycles(config: Config) -> int:
    """Cycles in which one tile's tables are filled, at most."""
    return (table_fill_cycles if config.weight_code is TERNARY5 else sparse_fill_cycles)(config)
