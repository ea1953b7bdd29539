"""Taps on what the units of a token loop put out, for simulation."""

from __future__ import annotations

from amaranth.lib import wiring
from amaranth.lib.wiring import Out

PROBES = ("activation", "row", "value", "vector", "logit")
"""The taps, in the order of the data path; left open in a bitstream they cost nothing."""


class ProbeSignature(wiring.Signature):
    """For each of `PROBES`: `NAME_valid`, high for one cycle a slice, and `NAME`, E signed elements (8 bits for activation, 18
    for the rest): quantised activations, row sums, dequantised values, elements as the residual unit writes them; logits
    come one by one."""

    def __init__(self, engines: int = 1) -> None:
        members = {}
        for name in PROBES:
            members[f"{name}_valid"] = Out(1)
            members[name] = Out((8 if name == "activation" else 18) * (1 if name == "logit" else engines))
        super().__init__(members)
