"""The AXI4 signals that the memory backends use, named as in the specification."""

from __future__ import annotations

from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

ADDRESS_BITS = 40
ID_BITS = 4
"""A reader or writer changes its identifier when it gives up an answer; 2^4 later the first one has its turn again."""
BOUNDARY = 4096  # bytes; no burst crosses a multiple of it (AXI4 specification, A3.4.1)
MAX_BEATS = 256  # of a burst (the same)


def _read(data_bits: int) -> dict[str, wiring.Member]:
    return {
        "arid": Out(ID_BITS), "araddr": Out(ADDRESS_BITS), "arlen": Out(8), "arsize": Out(3), "arburst": Out(2),
        "arcache": Out(4), "arprot": Out(3), "arvalid": Out(1), "arready": In(1),
        "rid": In(ID_BITS), "rdata": In(data_bits), "rresp": In(2), "rlast": In(1), "rvalid": In(1), "rready": Out(1),
    }  # fmt: skip


def _write(data_bits: int) -> dict[str, wiring.Member]:
    return {
        "awid": Out(ID_BITS), "awaddr": Out(ADDRESS_BITS), "awlen": Out(8), "awsize": Out(3), "awburst": Out(2),
        "awcache": Out(4), "awprot": Out(3), "awvalid": Out(1), "awready": In(1),
        "wdata": Out(data_bits), "wstrb": Out(data_bits // 8), "wlast": Out(1), "wvalid": Out(1), "wready": In(1),
        "bid": In(ID_BITS), "bresp": In(2), "bvalid": In(1), "bready": Out(1),
    }  # fmt: skip


class AXIReadSignature(wiring.Signature):
    """Channels AR and R of a manager. Answers of one identifier come in order (AXI4 specification, A5.3)."""

    def __init__(self, data_bits: int) -> None:
        super().__init__(_read(data_bits))


class AXIWriteSignature(wiring.Signature):
    """Channels AW, W and B of a manager."""

    def __init__(self, data_bits: int) -> None:
        super().__init__(_write(data_bits))


class AXISignature(wiring.Signature):
    """All five channels of a manager: what a memory controller or an interconnect is connected to."""

    def __init__(self, data_bits: int) -> None:
        super().__init__(_read(data_bits) | _write(data_bits))
