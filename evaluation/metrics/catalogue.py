"""The list of metrics: how each is called, pooled over pairs and printed."""

from __future__ import annotations

from dataclasses import dataclass

from evaluation.faces.analysis import Backends
from evaluation.pairs import Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One number per pair, and what becomes of it over many pairs."""

    key: str
    """Its name in code and files."""
    title: str
    """Its name in tables, the backend left out."""
    backend: str = ""
    """Field of `Backends` that says who measures it; "" for pixels alone."""
    is_higher_better: bool
    needs_truth: bool = False
    """Whether it takes the driving frame for the picture that should come out."""
    is_root_mean_square: bool = False
    """Pooled as the root of the mean of squares; otherwise as the mean."""
    num_decimals: int
    """In tables."""

    def name(self, backends: Backends) -> str:
        """Title with the backend, "CSIM (SFace)"."""
        return f"{self.title} ({getattr(backends, self.backend)})" if self.backend else self.title


CSIM = Metric(key="csim", title="CSIM", backend="embedding", is_higher_better=True, num_decimals=3)
PSNR = Metric(key="psnr_db", title="PSNR, dB", is_higher_better=True, needs_truth=True, num_decimals=2)
SSIM = Metric(key="ssim", title="SSIM", is_higher_better=True, needs_truth=True, num_decimals=3)
L1 = Metric(key="l1", title="L1", is_higher_better=False, needs_truth=True, num_decimals=4)
PERCEPTUAL = Metric(
    key="perceptual",
    title="Perceptual distance",
    backend="perceptual",
    is_higher_better=False,
    needs_truth=True,
    num_decimals=3,
)
PRMSE = Metric(
    key="prmse_deg",
    title="PRMSE, degrees",
    backend="pose",
    is_higher_better=False,
    is_root_mean_square=True,
    num_decimals=2,
)
AUCON = Metric(key="aucon", title="AUCON", backend="action_units", is_higher_better=True, num_decimals=3)
AUCON_SHUFFLED = Metric(
    key="aucon_shuffled",
    title="AUCON, shuffled pairs",
    backend="action_units",
    is_higher_better=True,
    num_decimals=3,
)
LANDMARK_ERROR = Metric(
    key="landmark_error_percent",
    title="Landmark error, %",
    backend="landmarks",
    is_higher_better=False,
    needs_truth=True,
    num_decimals=2,
)

METRICS = (CSIM, PSNR, SSIM, L1, PERCEPTUAL, PRMSE, AUCON, AUCON_SHUFFLED, LANDMARK_ERROR)
"""In the order of every table."""


def metrics_of(protocol: Protocol) -> tuple[Metric, ...]:
    """The metrics that mean something under a protocol."""
    return tuple(metric for metric in METRICS if protocol.has_truth or not metric.needs_truth)
