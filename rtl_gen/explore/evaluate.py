"""What one point gives: by the cycle model, by synthesis, by routing. These functions run in Dask's workers."""

from __future__ import annotations

from typing import Any

from tritape.base.errors import TritapeError
from tritape.base.package import source_digest
from tritape.rtl_gen.area import accelerator_area, xilinx_area
from tritape.rtl_gen.choose import memory_defaults
from tritape.rtl_gen.choose import point as design_point
from tritape.rtl_gen.explore.space import Point, configuration, shape_of
from tritape.rtl_gen.parts import part
from tritape.rtl_gen.replicas import ReplicaPoint, replica_point

STAGES = ("estimate", "synthesise", "route")
SEEDS = (1, 2, 3)

SOURCES = source_digest("hw", "model/tape", "rtl_gen")
"""Of the sources that results depend on: with others a point is computed again."""


def evaluate(stage: str, point: Point, sources: str) -> dict[str, Any]:
    """Numbers of a point, JSON-ready.

    `estimate`: tokens_per_second (projected) of all replicas, roofline_fraction, limited_by, luts, brams, dsps (estimated), fits;
    of a part with several regions `stream_tokens_per_second`, binding and urams too.
    `synthesise`: luts, ffs, brams, dsps of the accelerator without its memory, by Yosys (on ECP5 packed by nextpnr).
    `route`: the same and fmax_mhz, the best of `SEEDS`, on an LFE5U-85F.

    Raises `TritapeError` when the worker's tritape is another than that of `sources`, or with a tool's own words.
    """
    if sources != SOURCES:
        raise TritapeError("tritape of the worker must be the one that explores, not another version; install the same")
    config, target = configuration(point), part(point["part"])
    if stage == "estimate":
        ahead, first = memory_defaults(point["clock"], point["bandwidth"])
        memory = (
            point["clock"], point["bandwidth"],
            ahead if point["read_ahead"] is None else point["read_ahead"],
            first if point["latency"] is None else point["latency"],
        )  # fmt: skip
        if target.regions > 1:
            return _card(replica_point(shape_of(point), config, point["replicas"], target, *memory))
        made = design_point(shape_of(point), config, target, *memory)
        return {
            "tokens_per_second": made.rate,
            "roofline_fraction": made.roofline,
            "limited_by": made.limited_by,
            "luts": made.cost.luts,
            "brams": made.cost.brams,
            "dsps": made.cost.dsps,
            "fits": made.fits,
        }
    if target.family != "ecp5":
        report = xilinx_area(config, target.family)
    else:
        report = accelerator_area(config, route=stage == "route", seeds=SEEDS, freq=point["clock"] / 1e6)
    return {name: value for name, value in report.as_dict().items() if value is not None}


def _card(made: ReplicaPoint) -> dict[str, Any]:
    """Numbers of all replicas together."""
    cells = made.placed.cells
    return {
        "tokens_per_second": made.rate,
        "stream_tokens_per_second": made.stream_rate,
        "roofline_fraction": made.roofline,
        "limited_by": made.limited_by,
        "binding": made.binding,
        **{name: made.replicas * getattr(cells, name) for name in ("luts", "brams", "urams", "dsps")},
        "fits": made.fits,
    }
