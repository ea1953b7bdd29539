"""A power source of a benchmark, opened before the run and read after it, whether it is a live sensor or a meter's file."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from tritape.base.errors import TritapeError
from tritape.host.bench import Run, energy
from tritape.host.energy import Recorder
from tritape.host.power import CSVFile, open_source
from tritape.host.power.trace import Trace

WAIT_S = 10.0
"""For the last samples of a meter's file, where the user says nothing."""


class Meter:
    """What `text` names (see `open_source`), for one run. Used by `tritape bench`.

    `wait_s`: how long to wait behind the run for a file's last samples; when it is given the file may come after the run.
    Raises TritapeError before anything runs: no such source, a sensor that cannot be read, a file that could not be used.
    """

    def __init__(self, text: str, wait_s: float | None = None) -> None:
        self.text = text
        self.trace: Trace | None = None
        """What was measured, after `energy`."""
        self._wait_s = WAIT_S if wait_s is None else wait_s
        self._source = open_source(text)
        if isinstance(self._source, CSVFile):
            self._source.check(may_come=wait_s is not None)

    def recorder(self) -> AbstractContextManager[Recorder | None]:
        """A `with` block in which a live sensor is sampled; of a file nothing."""
        return nullcontext() if isinstance(self._source, CSVFile) else Recorder(self._source)

    def energy(self, run: Run, recorder: Recorder | None) -> dict[str, Any]:
        """JSON-ready energy of a run. What could not be measured is told by `power_error`, and costs nothing else."""
        result: dict[str, Any] = {"power_source": self.text, "power_scope": self._source.scope}
        try:
            if isinstance(self._source, CSVFile):
                self._source.wait(run.end, self._wait_s)
                self.trace = self._source.read()
            else:
                assert recorder is not None
                self.trace = recorder.trace
            result = energy(run, self.trace) | result
            _check_cover(run, result)
        except TritapeError as error:
            lost = None if recorder is None else recorder.lost()  # why the samples end
            result["power_error"] = lost or str(error)
        return result


def _check_cover(run: Run, result: dict[str, Any]) -> None:
    if result["power_generations"] < len(run.generations):
        raise TritapeError(
            f"power samples must cover {len(run.generations)} generations, not {result['power_generations']}; "
            "start the meter before the run, stop it after"
        )
    if result["watts_idle"] is None and run.idle[1] > run.idle[0]:
        raise TritapeError("power samples must cover the idle time, not begin behind it; start the meter earlier")
