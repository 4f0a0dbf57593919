"""Energy of the first GPU, as its driver counts it."""

import ctypes
from typing import Any


class EnergyCounter:
    """Joules since the driver was loaded; 0 throughout where they cannot be read."""

    def __init__(self) -> None:
        self._device = ctypes.c_void_p()
        self._library: Any = None
        try:
            library = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            return
        if library.nvmlInit_v2() or library.nvmlDeviceGetHandleByIndex_v2(
            0, ctypes.byref(self._device)
        ):
            return
        self._library = library

    def joules(self) -> float:
        """The counter, which has steps of a thousandth."""
        if self._library is None:
            return 0.0
        millijoules = ctypes.c_ulonglong()
        failed = self._library.nvmlDeviceGetTotalEnergyConsumption(
            self._device, ctypes.byref(millijoules)
        )
        return 0.0 if failed else millijoules.value / 1000
