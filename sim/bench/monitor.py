"""Checks the transfer rules on one stream, a cycle at a time. Knows neither cocotb nor Amaranth."""

from __future__ import annotations


class StreamMonitor:
    """Call `check` once per clock cycle with the values just before the rising edge.

    Rules: `valid` and `ready` are 0 or 1; `valid`, once high, stays high until `ready`; while it is high the payload
    has only 0 and 1 bits and does not change. Values are text, most significant bit first, as simulators print them.
    """

    def __init__(self) -> None:
        self._held: str | None = None  # payload offered in the last cycle and not taken

    def check(self, valid: str, ready: str, payload: str) -> str | None:
        """The rule that this cycle breaks, in words, or None."""
        if ready != "1" and ready != "0":
            return f"ready must be 0 or 1 out of reset, not {ready!r}"
        held, self._held = self._held, None
        if valid == "1":
            if held is None:
                if payload.strip("01"):
                    return f"payload must have only 0 and 1 bits while valid is 1, not {payload!r}"
            elif payload != held:
                return (
                    f"payload must stay stable while valid is 1 and ready is 0, not change from {held!r} to {payload!r}"
                )
            if ready == "0":
                self._held = payload
        elif valid != "0":
            return f"valid must be 0 or 1 out of reset, not {valid!r}"
        elif held is not None:
            return "valid must stay 1 until ready is 1, not fall back to 0"
        return None
