"""What the sites agree on before round 1 under secure aggregation: one mean face for all, from a secure sum."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord

from data_partition.faces.crop import single_image_box
from data_partition.synth.camera import Pose, project
from data_partition.synth.face import Expression, HeadShape, landmarks_3d
from federation.secure_sum.primitives import SecureSumError
from federation.secure_sum.session import Kind, content_digest
from federation.secure_sum.statistics import PooledStatistics, mean_statistics, zero_statistics
from federation.settings import Settings
from model.designs.registry import has_base
from model.errors import FederationError
from model.landmarks.closed_form import fit, from_vector, still
from model.landmarks.geometry import PartSizes, mean_part_sizes_px
from server.rounds.exchange import Reasons
from server.rounds.secure_round import SecureSums
from server.sites.agreement import Agreement

_log = logging.getLogger(__name__)

_NUM_TRIES = 3
_ASSUMED_FRAMES = 750
"""Of a site, half a minute of video, where the number is not told."""
_DRAWN_SPREAD = 0.02
"""Standard deviation of the drawn face's landmarks, in sides of the frame."""


def secure_agreement(sums: SecureSums, settings: Settings, run_id: str, refresh: Callable[[], None]) -> Agreement:
    """The pooled statistics of all sites; those of a drawn face if the sum cannot be had.

    Every identity's row is the same: with rows of their own the sum would tell the one owner's statistics.

    Args:
        sums: over the sites.
        settings: of the run.
        run_id: of the run.
        refresh: brings the roster up to date; called before every try but the first.
    """
    digest = content_digest(Kind.STATISTICS, settings)

    zero = zero_statistics(has_base=has_base(settings.model))

    def nothing(sites: Iterable[int]) -> dict[int, ArrayRecord]:
        return {site: ArrayRecord() for site in sites}

    left_out: Reasons = {}
    for number in range(_NUM_TRIES):
        if number:
            refresh()
        try:
            _, survivors, total = sums.summed(Kind.STATISTICS, 0, digest, {"run-id": run_id}, zero, left_out, nothing)
            return _agreement(mean_statistics(total[0], len(survivors)), settings)
        except (FederationError, SecureSumError) as error:
            _log.warning("landmark statistics cannot be summed: %s", error)
    _log.warning("the run begins from the landmarks of a drawn face in place of the sites' mean face")
    return _agreement(drawn_face(), settings)


def drawn_face() -> PooledStatistics:
    """A drawn person of average proportions looking into the camera, cropped as every picture is."""
    size_px = 1000
    pose = Pose(pitch_deg=0.0, yaw_deg=0.0, roll_deg=0.0)
    picture_KC = project(pose.place(landmarks_3d(HeadShape(), Expression())), size_px).astype(np.float32)
    landmarks_KC = single_image_box(picture_KC, (size_px, size_px)).to_crop(picture_KC, size_px)
    return PooledStatistics(
        part_mean_P2=mean_part_sizes_px(landmarks_KC[None]) / size_px,
        landmark_mean_KC=landmarks_KC / size_px,
        landmark_variance_KC=np.full(landmarks_KC.shape, _DRAWN_SPREAD**2),
    )


def _agreement(pooled: PooledStatistics, settings: Settings) -> Agreement:
    size_px = settings.model.image_size_px

    def for_all(values_KC: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        return np.repeat((values_KC * size_px).astype(np.float32)[None], settings.model.num_identities, axis=0)

    return Agreement(
        part_sizes=PartSizes.from_mean(pooled.part_mean_P2 * size_px, size_px),
        landmark_mean_IKC=for_all(pooled.landmark_mean_KC),
        landmark_std_IKC=for_all(np.sqrt(pooled.landmark_variance_KC)),
        base=_base(pooled, settings) if has_base(settings.model) else None,
    )


def _base(pooled: PooledStatistics, settings: Settings) -> dict[str, npt.NDArray[np.float32]]:
    """Of the sum, the same shape for all; without a sum the mean face in every pose."""
    num_identities = settings.model.num_identities
    if pooled.base_V is None:
        return still(pooled.landmark_mean_KC, num_identities)
    num_frames = _ASSUMED_FRAMES * settings.rounds.num_clients
    return fit(from_vector(pooled.base_V, num_identities), np.ones(num_identities, bool), num_frames)
