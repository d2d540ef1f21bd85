"""The inventory of what leaves a site: every tensor and every number, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model.batch import NUM_LANDMARKS
from model.config import Settings
from model.landmarks import PARTS, PartSizes
from model.losses import term_weights
from model.networks import build_networks
from model.resources import RESOURCES

TRAINING_SCALARS = (
    "loss_generator",
    "loss_discriminator",
    "accuracy_real",
    "accuracy_fake",
    "seconds",
    "num_steps",
    "has_moments",
    *RESOURCES,
)
"""Numbers about a round that may leave a site, besides the mean of every loss term."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that leaves a site."""

    name: str
    shape: tuple[int, ...]
    """() for a number."""
    dtype: str
    when: str
    """once or every round."""

    @property
    def num_bytes(self) -> int:
        """Size of its values."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


def training_scalars(settings: Settings) -> set[str]:
    """Names of the numbers that a round's reply may have."""
    return set(TRAINING_SCALARS) | set(term_weights(settings.loss))


def inventory(settings: Settings) -> list[Item]:
    """All that leaves a deployed site in a run with these settings.

    The statistics are sums over the site's training frames (data_partition/statistics.py); the tensors are the trained
    networks. A site may send the name its operator chose besides (`identity-label`).
    """
    num_identities = settings.model.num_identities
    landmarks = (num_identities, NUM_LANDMARKS, 2)
    once = [
        Item("statistics.part_sums", (len(PARTS), 2), "float64", "once"),
        Item("statistics.landmark_sums", landmarks, "float64", "once"),
        Item("statistics.landmark_squares", landmarks, "float64", "once"),
        Item("statistics.frames", (num_identities,), "float64", "once"),
        Item("partition-id", (), "float64", "once"),
        Item("num-simulated", (), "float64", "once"),
    ]
    size_px = settings.model.image_size_px
    side_px = size_px // 4  # of every part; shapes of tensors do not depend on it
    any_sizes = PartSizes((side_px, side_px, side_px, side_px), (side_px, side_px, side_px, side_px))
    tensors = build_networks(settings.model, any_sizes, seed=0).travelling_tensors()
    every_round = [Item(name, array.shape, str(array.dtype), "every round") for name, array in tensors.items()]
    scalars = [Item(name, (), "float64", "every round") for name in sorted(training_scalars(settings))]
    return [*once, *every_round, Item("num_examples", (), "int64", "every round"), *scalars]
