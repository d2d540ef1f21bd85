"""The one data structure that training, evaluation and inference share.

PyTorch is imported where tensors are touched: who prepares or draws faces needs the numbers alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

AU_ORDER: tuple[int, ...] = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 28, 45)
"""FACS action units in the order of every AU vector in the project (thesis Fig 3.4)."""

NUM_LANDMARKS = 68
NUM_ACTION_UNITS = len(AU_ORDER)
NUM_VERTICES, NUM_BLENDSHAPES = 468, 52
"""Of MediaPipe's face mesh, without irises, and of its scores of expression."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FurtherSources:
    """R more frames of the source of each of N pairs, those that are nearer to the driving frame first."""

    image_NRCHW: Tensor
    """[N, R, 3, S, S] float32 RGB in [-1, 1], R >= 1."""
    landmarks_NRKC: Tensor
    """[N, R, 68, 2] float32 (x, y) pixels."""
    heatmap_NRCHW: Tensor
    """[N, R, 1, S, S] float32 in [0, 1], the landmarks drawn as curves."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceMeshes:
    """Meshes of N pairs and the expressions on them, as MediaPipe finds both; V = 468 vertices, B = 52 blendshapes."""

    source_NVC: Tensor
    """[N, 468, 3] float32 (x, y, z) in half sides of the frame from its centre, smaller z nearer to the camera."""
    driving_NVC: Tensor
    """[N, 468, 3] of the driving frame."""
    source_NB: Tensor
    """[N, 52] float32, 0 to 1."""
    driving_NB: Tensor
    """[N, 52] of the driving frame."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratorInputs:
    """What N pictures are drawn from; a generator takes of it what it needs.

    Shapes: N pairs, S image side in pixels, K = 68 landmarks.
    """

    source_NCHW: Tensor
    """[N, 3, S, S] float32 RGB in [-1, 1]; of several sources the nearest."""
    driving_NCHW: Tensor
    """[N, 3, S, S] float32 RGB in [-1, 1]."""
    source_landmarks_NKC: Tensor
    """[N, 68, 2] float32 (x, y) pixels of the source."""
    source_heatmap_NCHW: Tensor
    """[N, 1, S, S] float32 in [0, 1], drawn from the source landmarks."""
    target_landmarks_NKC: Tensor
    """[N, 68, 2] pixels where the landmarks shall be: the driving ones for self-reenactment, LSt or LGAN ones
    otherwise."""
    heatmap_NCHW: Tensor
    """[N, 1, S, S] float32 in [0, 1], drawn from the target landmarks; [N, 2, S, S] with the irises."""
    further: FurtherSources | None = None
    """More sources of every pair, for designs that take several; None if there is one."""
    reference_NCHW: Tensor | None = None
    """[N, 3, S, S] of the driving person, for designs that are driven by the difference to it; None is driven by the
    driving frame as it is."""
    meshes: FaceMeshes | None = None
    """Of source and driving frame, for designs that need them; None otherwise."""
    source_features: Tensor | None = None
    """[M, ...] what `Networks.source_features` gave for all sources; None where the generator has to look at them."""

    def to(self, device: torch.device) -> GeneratorInputs:
        """The same inputs with every tensor on `device`."""
        return _with_each(self, lambda tensor: tensor.to(device, non_blocking=True))

    def all_sources(self) -> tuple[Tensor, Tensor]:
        """Images [M, 3, S, S] and landmarks [M, 68, 2] of the M = (1 + R) N sources: the N nearest, the N next, ..."""
        if self.further is None:
            return self.source_NCHW, self.source_landmarks_NKC
        return (
            _with_further(self.source_NCHW, self.further.image_NRCHW),
            _with_further(self.source_landmarks_NKC, self.further.landmarks_NRKC),
        )

    def all_source_heatmaps(self) -> Tensor:
        """[M, 1, S, S] of the same sources in the same order."""
        if self.further is None:
            return self.source_heatmap_NCHW
        return _with_further(self.source_heatmap_NCHW, self.further.heatmap_NRCHW)


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
    source_heatmap_NCHW: Tensor
    """[N, 1, S, S] float32 in [0, 1]: the source landmarks drawn as `heatmap_NCHW`."""
    driving_landmarks_NKC: Tensor
    """[N, 68, 2] float32 (x, y) in pixels of the S x S driving frame."""
    heatmap_NCHW: Tensor
    """[N, 1, S, S] float32 in [0, 1]: the driving landmarks drawn as B-spline curves (thesis 3.2); with use-irises
    [N, 2, S, S], the irises as discs besides."""
    pose_NC: Tensor
    """[N, 3] float32 pitch, yaw, roll of the driving head, degrees."""
    au_NA: Tensor
    """[N, 18] float32, 1 where the action unit is present in the driving frame, else 0."""
    au_intensity_NA: Tensor
    """[N, 18] float32, 0 to 5; 0 where the annotator does not know."""
    identity_N: Tensor
    """[N] int64 index of the source identity among the federation's identities."""
    further: FurtherSources | None = None
    """More sources of every pair; None if there is one."""
    driver_NCHW: Tensor | None = None
    """[N, 3, S, S] float32 RGB in [-1, 1], what the generator sees for the driving frame; None: the frame itself."""
    meshes: FaceMeshes | None = None
    """As of `GeneratorInputs`."""

    def to(self, device: torch.device) -> ReenactmentBatch:
        """The same batch with every tensor on `device`."""
        return _with_each(self, lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> ReenactmentBatch:
        """The same batch in memory that `to` copies to a CUDA device without waiting; needs such a device."""
        return _with_each(self, lambda tensor: tensor.contiguous().pin_memory())

    def generator_inputs(self) -> GeneratorInputs:
        """What draws the driving frames."""
        return GeneratorInputs(
            source_NCHW=self.source_NCHW,
            driving_NCHW=self.driving_NCHW if self.driver_NCHW is None else self.driver_NCHW,
            source_landmarks_NKC=self.source_landmarks_NKC,
            source_heatmap_NCHW=self.source_heatmap_NCHW,
            target_landmarks_NKC=self.driving_landmarks_NKC,
            heatmap_NCHW=self.heatmap_NCHW,
            further=self.further,
            meshes=self.meshes,
        )

    def with_sources(
        self, images_MCHW: Tensor, landmarks_MKC: Tensor, heatmaps_MCHW: Tensor, meshes: FaceMeshes | None
    ) -> ReenactmentBatch:
        """The batch with other sources, heatmaps and meshes, in the order of `GeneratorInputs.all_sources`."""
        image_KNCHW, points_KNKC, heatmap_KNCHW = (
            values.view(-1, len(self), *values.shape[1:]) for values in (images_MCHW, landmarks_MKC, heatmaps_MCHW)
        )
        further = None
        if self.further is not None:
            further = FurtherSources(
                image_NRCHW=image_KNCHW[1:].transpose(0, 1),
                landmarks_NRKC=points_KNKC[1:].transpose(0, 1),
                heatmap_NRCHW=heatmap_KNCHW[1:].transpose(0, 1),
            )
        return replace(
            self,
            source_NCHW=image_KNCHW[0],
            source_landmarks_NKC=points_KNKC[0],
            source_heatmap_NCHW=heatmap_KNCHW[0],
            further=further,
            meshes=meshes,
        )

    def __len__(self) -> int:
        """Number of pairs N."""
        return int(self.source_NCHW.shape[0])


def _with_further(first_N: Tensor, further_NR: Tensor) -> Tensor:
    """[(1 + R) N, ...]: of every pair the first, then of every pair the next, ..."""
    import torch

    return torch.cat([first_N, further_NR.transpose(0, 1).flatten(0, 1)])


Batched = TypeVar("Batched", FurtherSources, FaceMeshes, GeneratorInputs, ReenactmentBatch)


def _with_each(values: Batched, change: Callable[[Tensor], Tensor]) -> Batched:
    """The same fields, every tensor changed, those of fields of fields too."""
    from torch import Tensor

    held = {field.name: getattr(values, field.name) for field in fields(values)}
    changed: dict[str, Any] = {
        name: change(value) if isinstance(value, Tensor) else _with_each(value, change)
        for name, value in held.items()
        if value is not None
    }
    return replace(values, **changed)
