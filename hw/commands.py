"""What the sequencer tells the units: payloads of the command streams and the names of the values in their fields.

The sequencer writes them and each unit reads them, so both sides import them from here (docs/contract.md, "Streams between
units").
"""

from __future__ import annotations

from enum import IntEnum

from amaranth.hdl import signed
from amaranth.lib import data


class Destination(IntEnum):
    """Where the rows of a MATVEC go (`DequantiserCommand.destination`)."""

    MLGRU = 0
    MIXER = 1
    RESIDUAL = 2
    HEAD = 3


class Pattern(IntEnum):
    """Which rows of a MATVEC the dequantiser scales; the others pass as raw sums (`DequantiserCommand.pattern`)."""

    SCALE_ALL = 0
    PASS_ALL = 1
    SCALE_EVEN = 2


class MLGRUMode(IntEnum):
    """What the MLGRU does with its values (`MLGRUCommand.mode`)."""

    CANDIDATE = 0  # I
    FORGET = 1  # F
    OUTPUT = 2  # G


class ResidualMode(IntEnum):
    """What the residual does with its region (`ResidualCommand.mode`)."""

    READ = 0
    STORE = 1
    ACCUMULATE = 2


EngineCommand = data.StructLayout({"tiles": 16, "rows": 16, "release": 1})
ResidualCommand = data.StructLayout({"mode": 2, "region": 1, "length": 15})
NormCommand = data.StructLayout({"length": 15, "bank": 1, "keep": 1, "eps": 48, "mantissa": 16, "exponent": signed(8)})
DequantiserCommand = data.StructLayout({"rows": 16, "pattern": 2, "take": 1, "destination": 2, "last": 1})
MLGRUCommand = data.StructLayout({"mode": 2, "length": 15, "base": 20, "shift": 6, "fresh": 1})
MixerCommand = data.StructLayout({"pairs": 15, "shift": 6})
HeadCommand = data.StructLayout({"rows": 17})
EmbeddingCommand = data.StructLayout({"length": 15, "multiplier": 16})
Activation = data.StructLayout({"value": signed(8), "last": 1})
"""A quantised activation on its way from the norm to the engine; `last` marks the last one of a vector."""


def parameter_word(groups: int) -> data.StructLayout:
    """A word of norm gains or lower bounds and where it goes; `first` marks the first word of a vector."""
    return data.StructLayout({"word": 8 * groups, "target": 2, "bank": 1, "first": 1})


VECTOR_COMMANDS = tuple(
    f"{unit}_commands" for unit in ("residual", "norm", "dequantiser", "mlgru", "mixer", "head", "embedding")
)
"""Names of the command streams that go to a vector path; the engine has `engine_commands`."""
