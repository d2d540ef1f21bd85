"""What a process takes from its machine, in numbers that a site may let out."""

from __future__ import annotations

import resource
import sys
import time

import torch

RESOURCES = ("cpu_seconds", "peak_memory_bytes", "gpu_peak_memory_bytes", "gpu_utilisation")
_MAXRSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024


class ResourceUse:
    """Measures from its creation on."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cpu_seconds = time.process_time()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def until_now(self) -> dict[str, float]:
        """Values for names of `RESOURCES`; of the GPU only where one is used and tells.

        CPU seconds of this process since the creation, its peak resident memory since it started, peak GPU memory
        allocated since the creation, GPU utilisation at this moment (0 to 1).
        """
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT_BYTES
        values = {"cpu_seconds": time.process_time() - self._cpu_seconds, "peak_memory_bytes": float(peak)}
        if self._device.type == "cuda":
            values["gpu_peak_memory_bytes"] = float(torch.cuda.max_memory_allocated(self._device))
            utilisation = _gpu_utilisation(self._device)
            if utilisation is not None:
                values["gpu_utilisation"] = utilisation
        return values


def _gpu_utilisation(device: torch.device) -> float | None:
    """0 to 1; None without NVIDIA's management library."""
    try:
        return torch.cuda.utilization(device) / 100
    except (ModuleNotFoundError, RuntimeError):
        return None
