"""What all sites agree on before round 1: part sizes and the landmark statistics of each identity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.batch import NUM_LANDMARKS
from model.checkpoint import Checkpoint
from model.config import Settings
from model.landmarks import PARTS, PartSizes
from model.networks import build_networks
from server.updates import RejectedUpdateError

FloatArray = npt.NDArray[np.float64]

_MAX_FRAMES = 2**31
"""Of one site: years of video."""
_FARTHEST = 2.0
"""Sides of the frame that a root mean square of coordinates, or a mean part, may measure: landmarks may lie outside."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteStatistics:
    """Sums over one site's training frames, in pixels of the model's frame."""

    part_sums_P2: FloatArray
    """[4, 2] sum over frames of each part's (height, width)."""
    sums_IKC: FloatArray
    """[I, 68, 2] sum of the landmarks of each identity."""
    squares_IKC: FloatArray
    """[I, 68, 2] sum of their squares."""
    counts_I: FloatArray
    """[I] frames of each identity."""

    @classmethod
    def from_arrays(cls, arrays: Sequence[FloatArray], *, num_identities: int, size_px: int) -> SiteStatistics:
        """The statistics in a client's reply.

        Args:
            arrays: the four, in the order of the fields.
            num_identities: I.
            size_px: image side of the model.

        Raises:
            RejectedUpdateError: for a wrong number of arrays, shape or dtype, values that are not finite, no frames,
                counts that are none, or landmarks that cannot lie on frames of `size_px`.
        """
        landmark_shape = (num_identities, NUM_LANDMARKS, 2)
        shapes = [(len(PARTS), 2), landmark_shape, landmark_shape, (num_identities,)]
        got = [(array.shape, array.dtype) for array in arrays]
        if got != [(shape, np.dtype(np.float64)) for shape in shapes]:
            raise RejectedUpdateError(f"sent statistics of shapes {[s for s, _ in got]}, expected {shapes} in float64")
        if not all(np.isfinite(array).all() for array in arrays):
            raise RejectedUpdateError("sent statistics that are not finite")
        if (arrays[3] < 0).any() or not arrays[3].any():
            raise RejectedUpdateError("has no training frames")
        statistics = cls(part_sums_P2=arrays[0], sums_IKC=arrays[1], squares_IKC=arrays[2], counts_I=arrays[3])
        statistics._require_plausible(size_px)
        return statistics

    def _require_plausible(self, size_px: int) -> None:
        num_frames = self.counts_I.sum()
        if (self.counts_I != np.rint(self.counts_I)).any() or num_frames > _MAX_FRAMES:
            raise RejectedUpdateError(
                f"says it has {num_frames:g} training frames, wanted a number up to {_MAX_FRAMES}"
            )
        counts_I = np.maximum(self.counts_I, 1)[:, None, None]
        farthest_px = max(np.sqrt(np.abs(self.squares_IKC / counts_I).max()), np.abs(self.sums_IKC / counts_I).max())
        largest_px = np.abs(self.part_sums_P2 / num_frames).max()
        if max(farthest_px, largest_px) > _FARTHEST * size_px or (self.part_sums_P2 < 0).any():
            raise RejectedUpdateError(
                f"its mean landmark is {farthest_px:.4g} px from the corner and its largest part {largest_px:.4g} px, "
                f"wanted up to {_FARTHEST * size_px:g} px of a frame of {size_px} px; are its landmarks in pixels of "
                "its frames?"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Means over all sites' training frames."""

    part_sizes: PartSizes
    landmark_mean_IKC: npt.NDArray[np.float32]
    """[I, 68, 2] pixels; zero for an identity nobody has."""
    landmark_std_IKC: npt.NDArray[np.float32]
    """[I, 68, 2] pixels, standard deviation of the population; zero for an identity nobody has."""


def initial_state(settings: Settings, sites: Sequence[SiteStatistics], identities: list[str]) -> Checkpoint:
    """Round 0: agreed statistics and freshly initialised networks.

    Args:
        settings: of the run.
        sites: in a fixed order, at least one.
        identities: [I] names.
    """
    return state_from(settings, agree(sites, size_px=settings.model.image_size_px), identities)


def state_from(settings: Settings, agreement: Agreement, identities: list[str]) -> Checkpoint:
    """Round 0 with what was agreed on.

    Args:
        settings: of the run.
        agreement: part sizes and landmark statistics.
        identities: [I] names.
    """
    networks = build_networks(settings.model, agreement.part_sizes, seed=settings.federation.seed)
    networks.start_from(agreement.landmark_mean_IKC)
    return Checkpoint(
        round=0,
        settings=settings.to_flat(),
        identities=identities,
        part_sizes=agreement.part_sizes,
        landmark_mean_IKC=agreement.landmark_mean_IKC,
        landmark_std_IKC=agreement.landmark_std_IKC,
        tensors=networks.travelling_tensors(),
    )


def agree(sites: Sequence[SiteStatistics], *, size_px: int) -> Agreement:
    """The agreed values; the same for the same sites in the same order.

    Args:
        sites: at least one.
        size_px: image side of the model.
    """
    counts_I = np.maximum(sum(site.counts_I for site in sites), 1.0)[:, None, None]
    num_frames = float(sum(site.counts_I.sum() for site in sites))
    mean = sum(site.sums_IKC for site in sites) / counts_I
    variance = np.maximum(sum(site.squares_IKC for site in sites) / counts_I - np.square(mean), 0.0)
    part_mean_P2 = np.sum([site.part_sums_P2 for site in sites], axis=0) / num_frames
    return Agreement(
        part_sizes=PartSizes.from_mean(part_mean_P2, size_px),
        landmark_mean_IKC=mean.astype(np.float32),
        landmark_std_IKC=np.sqrt(variance).astype(np.float32),
    )
