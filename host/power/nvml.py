"""NVML: the power of an NVIDIA GPU, for a GPU baseline."""

from __future__ import annotations

import errno
import importlib
from typing import Any, Literal

from tritape.base.errors import TritapeError


class NVML:
    """A GPU's energy counter (`nvmlDeviceGetTotalEnergyConsumption`, mJ), or its power on older GPUs.

    Sees the whole card, memory included. The driver averages power over some tens of milliseconds to a second, so prefer
    long runs. Needs the package nvidia-ml-py. Raises TritapeError when package, driver or GPU is missing. `library` stands
    in for the package in tests.
    """

    unit: Literal["W", "J"]

    def __init__(self, index: int = 0, library: Any = None) -> None:
        if library is None:
            try:
                library = importlib.import_module("pynvml")
            except ImportError:
                raise TritapeError(
                    "package nvidia-ml-py must be installed, not missing; run: pip install nvidia-ml-py"
                ) from None
        self.name = f"nvml:{index}"
        self._library = library
        try:
            library.nvmlInit()
        except library.NVMLError as error:
            raise TritapeError(
                f"{self.name}: driver must answer, not fail ({error}); install the NVIDIA driver"
            ) from None
        try:
            self._device = library.nvmlDeviceGetHandleByIndex(index)
        except library.NVMLError as error:
            library.nvmlShutdown()
            raise TritapeError(f"{self.name}: GPU must exist, not fail ({error}); see nvidia-smi -L") from None
        self.scope = "the whole GPU card"
        self._open = True
        try:
            library.nvmlDeviceGetTotalEnergyConsumption(self._device)
            self.unit = "J"
        except library.NVMLError:
            self.unit = "W"

    def read(self) -> float:
        """Joules since the driver was loaded, or watts now."""
        library = self._library
        try:
            if self.unit == "J":
                return float(library.nvmlDeviceGetTotalEnergyConsumption(self._device)) * 1e-3
            return float(library.nvmlDeviceGetPowerUsage(self._device)) * 1e-3
        except library.NVMLError as error:
            raise OSError(errno.EIO, str(error)) from None

    def close(self) -> None:
        """Shut the library down; may be called twice."""
        if self._open:
            self._open = False
            self._library.nvmlShutdown()
