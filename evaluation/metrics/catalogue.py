"""The list of metrics: how each is called, what it needs, how it is pooled and printed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum

from evaluation.faces.analysis import Backends
from evaluation.figures.pooling import Pooling
from evaluation.pairs import Protocol


class Better(StrEnum):
    """Which way is better, as the tables show it."""

    HIGHER = "↑"
    LOWER = "↓"
    ONE = "→ 1"
    """The nearer to 1."""

    def is_worse(self, value: float, other: float) -> bool:
        """Whether the second of two figures is strictly worse; false if one is NaN."""
        if self is Better.HIGHER:
            return other < value
        return abs(other - 1) > abs(value - 1) if self is Better.ONE else other > value


class Scope(Enum):
    """What a metric is measured on."""

    PAIR = "pair"
    CLIP = "clip"
    """Successive driving frames with one source."""
    SET = "set"
    """All generated pictures of a method together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """What it is measured on, and what becomes of it over many pairs."""

    key: str
    """Its name in code and files."""
    title: str
    """Its name in tables with its unit, the backend left out."""
    backend: str = ""
    """Field of `Backends` that says who measures it; "" for pixels alone."""
    better: Better
    needs_truth: bool = False
    """Whether it takes the driving frame for the picture that should come out."""
    scope: Scope = Scope.PAIR
    pooling: Pooling = Pooling.MEAN
    num_decimals: int
    """In tables."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Keys of its values of one pair or clip: its own, or (real, generated) for a rule that takes both."""
        return (self.key,) if self.pooling.num_values == 1 else (f"{self.key}_real", f"{self.key}_generated")

    @property
    def column_titles(self) -> tuple[str, ...]:
        """Titles of the columns, the backend left out."""
        return (self.title,) if self.pooling.num_values == 1 else (f"{self.title}: real", f"{self.title}: generated")

    def name(self, backends: Backends) -> str:
        """Title with the backend, "CSIM (SFace)"."""
        return self._with_backend(self.title, backends)

    def column_names(self, backends: Backends) -> tuple[str, ...]:
        """Titles of the columns with the backend."""
        return tuple(self._with_backend(title, backends) for title in self.column_titles)

    def text(self, value: float) -> str:
        """The value as tables print it; "-" for NaN."""
        return "-" if value != value else f"{value:.{self.num_decimals}f}"

    def _with_backend(self, title: str, backends: Backends) -> str:
        return f"{title} ({getattr(backends, self.backend)})" if self.backend else title


CSIM = Metric(key="csim", title="CSIM", backend="embedding", better=Better.HIGHER, num_decimals=3)
PSNR = Metric(key="psnr_db", title="PSNR, dB", better=Better.HIGHER, needs_truth=True, num_decimals=2)
SSIM = Metric(key="ssim", title="SSIM", better=Better.HIGHER, needs_truth=True, num_decimals=3)
L1 = Metric(key="l1", title="L1", better=Better.LOWER, needs_truth=True, num_decimals=4)
PERCEPTUAL = Metric(
    key="perceptual",
    title="Perceptual distance",
    backend="perceptual",
    better=Better.LOWER,
    needs_truth=True,
    num_decimals=3,
)
TEMPORAL = Metric(
    key="temporal_perceptual",
    title="Temporal perceptual distance",
    backend="perceptual",
    better=Better.LOWER,
    needs_truth=True,
    scope=Scope.CLIP,
    num_decimals=3,
)
KID = Metric(key="kid", title="KID (VGG-16 HED)", better=Better.LOWER, scope=Scope.SET, num_decimals=3)
KID_REAL = Metric(
    key="kid_real",
    title="KID (VGG-16 HED), real against real",
    better=Better.LOWER,
    scope=Scope.SET,
    num_decimals=3,
)
PRMSE = Metric(
    key="prmse_deg",
    title="PRMSE, degrees",
    backend="pose",
    better=Better.LOWER,
    pooling=Pooling.ROOT_MEAN_SQUARE,
    num_decimals=2,
)
AUCON = Metric(key="aucon", title="AUCON", backend="action_units", better=Better.HIGHER, num_decimals=3)
AUCON_SHUFFLED = Metric(
    key="aucon_shuffled",
    title="AUCON, shuffled pairs",
    backend="action_units",
    better=Better.HIGHER,
    num_decimals=3,
)
AU_INTENSITY_ERROR = Metric(
    key="au_intensity_error",
    title="AU intensity error, 0 to 5",
    backend="action_units",
    better=Better.LOWER,
    num_decimals=3,
)
LANDMARK_ERROR = Metric(
    key="landmark_error_percent",
    title="Landmark error, %",
    backend="landmarks",
    better=Better.LOWER,
    needs_truth=True,
    num_decimals=2,
)
LIP_GAP_SLOPE = Metric(
    key="lip_gap",
    title="Lip-gap slope",
    backend="landmarks",
    better=Better.ONE,
    pooling=Pooling.SLOPE,
    num_decimals=2,
)
GAZE_ERROR = Metric(
    key="gaze_error_percent",
    title="Gaze error, % of eye width",
    backend="irises",
    better=Better.LOWER,
    num_decimals=1,
)

FOLDS = Metric(key="fold_percent", title="Folded face, %", better=Better.LOWER, num_decimals=2)
"""How much of the face the flow tears."""


def _dynamics(part: str) -> Metric:
    return Metric(
        key=f"{part}_dynamics",
        title=f"{part.capitalize()} dynamics",
        backend="pose" if part == "head" else "landmarks",
        better=Better.HIGHER,
        scope=Scope.CLIP,
        num_decimals=2,
    )


def _over_real(key: str, title: str) -> Metric:
    return Metric(key=key, title=title, better=Better.ONE, pooling=Pooling.RATIO, num_decimals=2)


LIP_DYNAMICS, HEAD_DYNAMICS, BROW_DYNAMICS = map(_dynamics, ("lip", "head", "brow"))
REGIONS = ("whole", "mouth", "eyes")
"""What sharpness and fine detail are measured on."""
SHARPNESS = {region: _over_real(f"sharpness_{region}", f"Sharpness, {region}") for region in REGIONS}
"""Laplacian energy of a region, generated over real."""
FINE_POWER = {
    region: _over_real(f"fine_power_{region}", f"Power above 1/4 cycle per pixel, {region}") for region in REGIONS
}
"""Power above a quarter of the sampling rate of a region, generated over real."""

METRICS = (
    CSIM,
    PSNR,
    SSIM,
    L1,
    PERCEPTUAL,
    TEMPORAL,
    KID,
    KID_REAL,
    PRMSE,
    AUCON,
    AUCON_SHUFFLED,
    AU_INTENSITY_ERROR,
    LANDMARK_ERROR,
    LIP_GAP_SLOPE,
    GAZE_ERROR,
    FOLDS,
    LIP_DYNAMICS,
    HEAD_DYNAMICS,
    BROW_DYNAMICS,
    *SHARPNESS.values(),
    *FINE_POWER.values(),
)
"""In the order of every table."""


def metrics_of(protocol: Protocol, *scopes: Scope) -> tuple[Metric, ...]:
    """The metrics that mean something under a protocol; of all scopes, or of some."""
    return tuple(
        metric
        for metric in METRICS
        if (protocol.has_truth or not metric.needs_truth) and (not scopes or metric.scope in scopes)
    )
