"""The one data structure that training, evaluation and inference share."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

AU_ORDER: tuple[int, ...] = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 28, 45)
"""FACS action units in the order of every AU vector in the project (thesis Fig 3.4)."""

NUM_LANDMARKS = 68
NUM_ACTION_UNITS = len(AU_ORDER)


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratorInputs:
    """What N pictures are drawn from; a generator takes of it what it needs.

    Shapes: N pairs, S image side in pixels, K = 68 landmarks.
    """

    source_NCHW: Tensor
    """[N, 3, S, S] float32 RGB in [-1, 1]."""
    driving_NCHW: Tensor
    """[N, 3, S, S] float32 RGB in [-1, 1]."""
    source_landmarks_NKC: Tensor
    """[N, 68, 2] float32 (x, y) pixels of the source."""
    target_landmarks_NKC: Tensor
    """[N, 68, 2] pixels where the landmarks shall be: the driving ones for self-reenactment, LSt or LGAN ones
    otherwise."""
    heatmap_NCHW: Tensor
    """[N, 1, S, S] float32 in [0, 1], drawn from the target landmarks."""

    def to(self, device: torch.device) -> GeneratorInputs:
        """The same inputs with every tensor on `device`."""
        return GeneratorInputs(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


@dataclass(frozen=True, kw_only=True, slots=True)
class ReenactmentBatch:
    """N (source, driving) pairs. In training both frames of a pair show one identity.

    Shapes: N pairs, S image side in pixels, K = 68 landmarks, A = 18 action units.
    """

    source_NCHW: Tensor
    """[N, 3, S, S] float32 RGB in [-1, 1]."""
    driving_NCHW: Tensor
    """[N, 3, S, S] float32 RGB in [-1, 1]."""
    source_landmarks_NKC: Tensor
    """[N, 68, 2] float32 (x, y) in pixels of the S x S source frame (pixel centres at integers)."""
    driving_landmarks_NKC: Tensor
    """[N, 68, 2] float32 (x, y) in pixels of the S x S driving frame."""
    heatmap_NCHW: Tensor
    """[N, 1, S, S] float32 in [0, 1]: the driving landmarks drawn as B-spline curves (thesis 3.2)."""
    pose_NC: Tensor
    """[N, 3] float32 pitch, yaw, roll of the driving head, degrees."""
    au_NA: Tensor
    """[N, 18] float32, 1 where the action unit is present in the driving frame, else 0."""
    au_intensity_NA: Tensor
    """[N, 18] float32, 0 to 5; 0 where the annotator does not know."""
    identity_N: Tensor
    """[N] int64 index of the source identity among the federation's identities."""

    def to(self, device: torch.device) -> ReenactmentBatch:
        """The same batch with every tensor on `device`."""
        return ReenactmentBatch(**{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)})

    def generator_inputs(self) -> GeneratorInputs:
        """What draws the driving frames."""
        return GeneratorInputs(
            source_NCHW=self.source_NCHW,
            driving_NCHW=self.driving_NCHW,
            source_landmarks_NKC=self.source_landmarks_NKC,
            target_landmarks_NKC=self.driving_landmarks_NKC,
            heatmap_NCHW=self.heatmap_NCHW,
        )

    def __len__(self) -> int:
        """Number of pairs N."""
        return int(self.source_NCHW.shape[0])
