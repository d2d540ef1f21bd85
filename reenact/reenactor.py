"""A trained model that draws the source person making the driving movement.

Legend: N driving frames, S image side in pixels, K = 68 landmarks, C coordinates, A = 18 action units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from model.batch import FurtherSources, GeneratorInputs
from model.checkpoint import Checkpoint
from model.designs.registry import design_of, has_base
from model.errors import ConfigError
from model.frames import Frame, to_frames, to_tensor
from model.landmarks.geometry import draw_heatmap
from model.landmarks.style import recentre
from reenact.guidance import (
    LandmarkStatistics,
    Movement,
    Rest,
    estimated_statistics,
    has_own_statistics,
    known_statistics,
    lgan_landmarks,
    lst_landmarks,
    moved_landmarks,
    relative_movement,
)
from reenact.guidance_choice import Guidance, choose_guidance

FloatArray = NDArray[np.float32]

MAX_REFERENCES = 32
"""Frames that are kept of a person, at most, to draw from."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class FaceFrame:
    """One annotated face crop at the model's size."""

    image_HWC: Frame
    """[S, S, 3] uint8 RGB."""
    landmarks_KC: FloatArray
    """[68, 2] (x, y) pixels of the crop."""
    pose_C: FloatArray
    """[3] pitch, yaw, roll, degrees."""
    au_presence_A: FloatArray
    """[18] 0 or 1."""
    au_intensity_A: FloatArray
    """[18] 0 to 5; 0 where the annotator does not know."""
    identity: str = ""
    """Who it is; "" for a person without a name."""

    def frames_for(self, target_KC: FloatArray, pose_C: FloatArray, num: int) -> Sequence[FaceFrame]:
        """The frames of the person to draw a result from: of one picture the picture itself.

        Args:
            target_KC: [68, 2] pixels, landmarks of the result.
            pose_C: [3] pitch, yaw, roll of the driving head, degrees.
            num: of frames wanted, >= 1.
        """
        return (self,)


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """The result for one driving frame and the stages it came from, each uint8 [S, S, 3] RGB."""

    result: Frame
    stages: dict[str, Frame]
    """Name to picture, in the order of drawing."""
    landmarks_KC: FloatArray
    """[68, 2] pixels, where the result's landmarks shall be."""
    flow_CHW: FloatArray | None
    """[2, S, S] where the result takes its pixels of the (nearest) source from, in half frames; None for a design that
    has no such flow."""


class Reenactor:
    """Holds the networks of one checkpoint on one device."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device, *, num_sources: int | None = None) -> None:
        """Load the checkpoint's averaged weights, or its last ones if it has no average.

        Args:
            checkpoint: what to draw with.
            device: where the networks run.
            num_sources: most frames of the source person that a result is drawn from, where there are several; None is
                as many as in training.

        Raises:
            ConfigError: for several with a network that was trained to draw from one.
        """
        self._checkpoint = checkpoint
        self.device = device
        self.networks = checkpoint.networks().to(device)
        self._design = design_of(self.networks.config.network)
        trained = self.networks.config.num_sources
        self.num_sources = trained if num_sources is None else num_sources
        if not 1 <= self.num_sources <= (MAX_REFERENCES if trained > 1 else 1):
            raise ConfigError(
                f"--num-sources: got {num_sources}, wanted "
                + (f"1 to {MAX_REFERENCES}" if trained > 1 else "1: the checkpoint was trained with num-sources = 1")
            )

    @property
    def size_px(self) -> int:
        """Side S of every frame that goes in and comes out."""
        return self.networks.config.image_size_px

    def choose(self, requested: Guidance, source: FaceFrame, driving_identity: str) -> Guidance:
        """The guidance for a source and a driving person ("" if unknown); never AUTO.

        Raises:
            ConfigError: if LGAN is asked for and the source is not one of the checkpoint's identities, base or relative
                and the checkpoint has no base, or landmarks and the network is not guided by any.
        """
        return choose_guidance(
            requested,
            self._design,
            trained=self.networks.config.landmarks,
            source_index=self._index(source.identity),
            has_base=has_base(self.networks.config),
            same_person=bool(source.identity) and source.identity == driving_identity,
        )

    def known_identity(self, name: str) -> str:
        """The name, if the checkpoint knows it.

        Raises:
            ConfigError: naming the known identities otherwise.
        """
        if name not in self._checkpoint.identities:
            known = ", ".join(self._checkpoint.identities)
            raise ConfigError(f"identity {name!r} is not in the checkpoint; it knows: {known}")
        return name

    def statistics(self, identity: str, landmarks_NKC: FloatArray) -> LandmarkStatistics:
        """LSt statistics of a person: the federation's if it has this one's own, else estimated from N >= 1 frames."""
        index = self._index(identity)
        if index is None or not has_own_statistics(self._checkpoint):
            return estimated_statistics(self._checkpoint, landmarks_NKC)
        return known_statistics(self._checkpoint, index)

    def target_landmarks(
        self,
        guidance: Guidance,
        source: FaceFrame,
        driving: Sequence[FaceFrame],
        driving_statistics: LandmarkStatistics,
        rest: Rest | None = None,
    ) -> FloatArray:
        """Where the result's landmarks shall be, [N, 68, 2] pixels.

        Args:
            guidance: what `choose` returned.
            source: the person to draw.
            driving: N frames of the driving person.
            driving_statistics: used by LSt alone.
            rest: of the driving person, used by relative alone.

        Raises:
            ConfigError: if relative is asked for and there is no rest.
        """
        driving_NKC = np.stack([face.landmarks_KC for face in driving])
        if guidance is Guidance.DRIVING:
            return driving_NKC
        if guidance is Guidance.LST:
            return lst_landmarks(
                driving_NKC, driving_statistics, self.statistics(source.identity, source.landmarks_KC[None])
            )
        index = self._index(source.identity)
        if guidance is not Guidance.LGAN:
            return self._moved(guidance, index, source, movement_of(driving), driving_NKC, rest)
        assert index is not None, "choose() lets LGAN pass for known identities only"
        return lgan_landmarks(self.networks, index, movement_of(driving), driving_NKC)

    def _moved(
        self,
        guidance: Guidance,
        index: int | None,
        source: FaceFrame,
        driving: Movement,
        driving_NKC: FloatArray,
        rest: Rest | None,
    ) -> FloatArray:
        """[N, 68, 2] the source's landmarks moved as the driving ones are, or as they differ from their rest."""
        row = self.networks.config.num_identities if index is None else index
        own = movement_of([source])
        if guidance is Guidance.BASE:
            return recentre(moved_landmarks(self.networks, row, source.landmarks_KC, own, driving), driving_NKC)
        if rest is None:
            raise ConfigError("--landmarks relative needs a driving clip: one picture shows no movement; use base")
        target = relative_movement(own, driving, rest)
        shift_NC = driving_NKC.mean(axis=1) - rest.centre_C
        moved_NKC = moved_landmarks(self.networks, row, source.landmarks_KC, own, target)
        return np.asarray(moved_NKC + shift_NC[:, None], np.float32)

    def draw_pair(self, source: FaceFrame, driving: FaceFrame, requested: Guidance) -> tuple[Drawing, Guidance]:
        """The drawing for one driving frame, and the guidance it was made with.

        Raises:
            ConfigError: as `choose`.
        """
        guidance = self.choose(requested, source, driving.identity)
        statistics = self.statistics(driving.identity, driving.landmarks_KC[None])
        targets_NKC = self.target_landmarks(guidance, source, [driving], statistics)
        return self.draw(source, [driving], targets_NKC)[0], guidance

    def draw(self, source: FaceFrame, driving: Sequence[FaceFrame], targets_NKC: FloatArray) -> list[Drawing]:
        """One drawing per driving frame, each by itself.

        Args:
            source: the person to draw.
            driving: N >= 1 frames; all go through the networks at once.
            targets_NKC: [N, 68, 2] what `target_landmarks` returned.
        """
        sources = [
            source.frames_for(target_KC, face.pose_C, self.num_sources)
            for target_KC, face in zip(targets_NKC, driving, strict=True)
        ]
        return self.draw_from(sources, driving, targets_NKC)

    @torch.inference_mode()
    def draw_from(
        self, sources: Sequence[Sequence[FaceFrame]], driving: Sequence[FaceFrame], targets_NKC: FloatArray
    ) -> list[Drawing]:
        """One drawing per driving frame.

        Args:
            sources: for each of them the frames to draw from, the nearest first; as many for each.
            driving: N >= 1 frames; all go through the networks at once.
            targets_NKC: [N, 68, 2] what `target_landmarks` returned.
        """
        heatmaps = [draw_heatmap(landmarks_KC, self.size_px) for landmarks_KC in targets_NKC]
        first = [frames[0] for frames in sources]
        inputs = GeneratorInputs(
            source_NCHW=to_tensor([face.image_HWC for face in first]),
            driving_NCHW=to_tensor([face.image_HWC for face in driving]),
            source_landmarks_NKC=torch.from_numpy(np.stack([face.landmarks_KC for face in first])),
            target_landmarks_NKC=torch.from_numpy(targets_NKC),
            heatmap_NCHW=torch.from_numpy(np.stack(heatmaps)[:, None]),
            further=_further([frames[1:] for frames in sources]) if len(sources[0]) > 1 else None,
        )
        output = self.networks.generator(inputs.to(self.device))
        stages = {name: to_frames(picture_NCHW) for name, picture_NCHW in output.stages().items()}
        flow_NCHW = None if output.flow_NCHW is None else output.flow_NCHW.float().cpu().numpy()
        return [
            Drawing(
                result=result,
                stages={name: frames[index] for name, frames in stages.items()},
                landmarks_KC=targets_NKC[index],
                flow_CHW=None if flow_NCHW is None else flow_NCHW[index],
            )
            for index, result in enumerate(to_frames(output.image_NCHW))
        ]

    def _index(self, identity: str) -> int | None:
        identities = self._checkpoint.identities
        return identities.index(identity) if identity in identities else None


def _further(frames: Sequence[Sequence[FaceFrame]]) -> FurtherSources:
    """[N][R] frames as tensors."""
    return FurtherSources(
        image_NRCHW=torch.stack([to_tensor([face.image_HWC for face in of_one]) for of_one in frames]),
        landmarks_NRKC=torch.from_numpy(np.array([[face.landmarks_KC for face in of_one] for of_one in frames])),
    )


def movement_of(faces: Sequence[FaceFrame]) -> Movement:
    """How N >= 1 faces are moved."""
    return Movement(
        pose_NC=np.stack([face.pose_C for face in faces]),
        au_presence_NA=np.stack([face.au_presence_A for face in faces]),
        au_intensity_NA=np.stack([face.au_intensity_A for face in faces]),
    )
