"""What can go wrong between a backend and its memory, as a number that the host can read."""

from __future__ import annotations

from enum import IntEnum


class Cause(IntEnum):
    """Kind of an error, for port `cause` of a backend."""

    NONE = 0
    SLVERR = 1  # read answered SLVERR: the memory failed
    DECERR = 2  # read answered DECERR: no memory at that address
    EARLY = 3  # RLAST before the last beat of a burst
    LATE = 4  # no RLAST with the last beat of a burst
    UNEXPECTED = 5  # a beat or a write response that nothing asked for
    WRITE = 6  # write answered with an error
    OUTSIDE = 7  # address outside the tape's memory, not given to the bus
    NOT_STARTED = 8  # the host has not started the memory yet
