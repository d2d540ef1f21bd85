"""A trained model that draws the source person making the driving movement.

Legend: N driving frames, S image side in pixels, K = 68 landmarks, C coordinates, A = 18 action units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np
import torch

from data_partition.batches import stacked_meshes
from data_partition.shards.shard import NO_MESHES
from model.batch import FurtherSources, GeneratorInputs
from model.checkpoint import Checkpoint
from model.designs.registry import design_of, has_base
from model.errors import ConfigError, DataError
from model.frames import Frame, to_frames, to_tensor
from model.landmarks.face_mesh import FaceMesh
from model.landmarks.geometry import draw_heatmap
from model.landmarks.irises import draw_irises
from model.networks.warping import resized
from model.precision import mixed_precision
from reenact.detail import detail_px, detailed
from reenact.face_frame import MAX_REFERENCES, FaceFrame, FloatArray, movement_of
from reenact.guidance import (
    LandmarkStatistics,
    base_landmarks,
    estimated_statistics,
    has_own_statistics,
    known_statistics,
    lgan_landmarks,
    lst_landmarks,
)
from reenact.guidance_choice import Guidance, MotionKind, choose_guidance, is_relative
from reenact.movement import FULL, Movement, Reference, Strengths, led, led_centres

_WITH_STRENGTHS = (Guidance.LGAN, Guidance.BASE)
"""Make landmarks from pose and action units, each of which can be made less or more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """The result for one driving frame and the stages it came from, uint8 RGB."""

    result: Frame
    """[S, S, 3], or [D, D, 3] of sources with detail."""
    stages: dict[str, Frame]
    """Name to picture [S, S, 3], in the order of drawing."""
    landmarks_KC: FloatArray
    """[68, 2] pixels, where the result's landmarks shall be."""
    flow_CHW: FloatArray | None
    """[2, S, S] where the result takes its pixels of the (nearest) source from, in half frames; None for a design that
    has no such flow."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Transfer:
    """How a driving person's frames become landmarks of the source person."""

    guidance: Guidance
    """What `choose` returned."""
    driving_statistics: LandmarkStatistics
    """Used by LSt alone."""
    reference: Reference | None = None
    """What the movement is relative to; None for absolute motion."""
    strengths: Strengths = FULL
    """Other than 1 with LGAN and base alone."""


class Reenactor:
    """Holds the networks of one checkpoint on one device."""

    def __init__(
        self, checkpoint: Checkpoint, device: torch.device, *, num_sources: int | None = None, is_mixed: bool = False
    ) -> None:
        """Load the checkpoint's averaged weights, or its last ones if it has no average.

        Args:
            checkpoint: what to draw with.
            device: where the networks run.
            num_sources: most frames of the source person that a result is drawn from, where there are several; None is
                as many as in training.
            is_mixed: compute in bfloat16 (`model.precision`); without, results are the same on every machine.

        Raises:
            ConfigError: for several with a network that was trained to draw from one.
        """
        self._checkpoint = checkpoint
        self.device = device
        self.networks = checkpoint.networks().to(device)
        self.is_mixed = is_mixed
        if is_mixed:
            self.networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._design = design_of(self.networks.config.network)
        self._features: WeakKeyDictionary[FaceFrame, torch.Tensor] = WeakKeyDictionary()
        trained = self.networks.config.num_sources
        self.num_sources = trained if num_sources is None else num_sources
        if not 1 <= self.num_sources <= (MAX_REFERENCES if trained > 1 else 1):
            raise ConfigError(
                f"--num-sources: got {num_sources}, wanted "
                + (f"1 to {MAX_REFERENCES}" if trained > 1 else "1: the checkpoint was trained with num-sources = 1")
            )

    @property
    def size_px(self) -> int:
        """Side S of what the network sees and draws."""
        return self.networks.config.image_size_px

    @property
    def result_px(self) -> int:
        """Side of results of sources with detail."""
        return detail_px(self.size_px) if self._has_detail else self.size_px

    def weights_sha256(self) -> str:
        """SHA-256 of all that is drawn with."""
        return self.networks.weights_sha256()

    def choose(
        self, requested: Guidance, source: FaceFrame, driving_identity: str, strengths: Strengths = FULL
    ) -> Guidance:
        """The guidance for a source and a driving person ("" if unknown); never AUTO.

        Raises:
            ConfigError: if LGAN is asked for and the source is not one of the checkpoint's identities, base and the
                checkpoint has none, landmarks and the network is not guided by any, or strengths other than 1 for
                landmarks that are not made from pose and action units.
        """
        guidance = self._guidance(requested, source.identity, driving_identity)
        if strengths != FULL and guidance not in _WITH_STRENGTHS:
            raise ConfigError(
                f"--strength needs landmarks by lgan or base, these are by {guidance}; use a checkpoint that was "
                "trained with lgan-base = closed, or a source it knows"
            )
        return guidance

    @property
    def has_strengths(self) -> bool:
        """Whether people whom the checkpoint does not know can be moved with strengths other than 1."""
        return self._guidance(Guidance.AUTO, "", "") in _WITH_STRENGTHS

    def _guidance(self, requested: Guidance, identity: str, driving_identity: str) -> Guidance:
        return choose_guidance(
            requested,
            self._design,
            trained=self.networks.config.landmarks,
            source_index=self._index(identity),
            has_base=has_base(self.networks.config),
            same_person=bool(identity) and identity == driving_identity,
        )

    @property
    def takes_reference(self) -> bool:
        """Whether relative motion needs the picture of the reference frame."""
        return self._design.takes_reference

    @property
    def needs_mesh(self) -> bool:
        """Whether source and driving faces have to have meshes."""
        return self._design.needs_mesh

    def is_relative(self, requested: MotionKind, *, has_clip: bool) -> bool:
        """Whether motion is relative; arguments and errors as of `guidance_choice.is_relative`."""
        return is_relative(requested, self._design, has_clip=has_clip)

    def drawn_from(self, source: FaceFrame, *, is_relative: bool) -> FaceFrame:
        """What of a person results are drawn from.

        Relative motion of a design that takes a reference is the driving frame's difference to the reference, added to
        the frame that is drawn from: that has to be the one for which the reference was chosen, and none of the others.
        """
        return source.alone() if is_relative and self.takes_reference else source

    def known_identity(self, name: str) -> str:
        """The name, if the checkpoint knows it.

        Raises:
            ConfigError: naming the known identities otherwise.
        """
        if name not in self._checkpoint.identities:
            known = ", ".join(self._checkpoint.identities)
            raise ConfigError(f"identity {name!r} is not in the checkpoint; it knows: {known}")
        return name

    def statistics_of(self, face: FaceFrame) -> LandmarkStatistics:
        """LSt statistics of a face's person, from all frames of them that are at hand."""
        return self.statistics(face.identity, face.landmarks_KC[None] if face.known_NKC is None else face.known_NKC)

    def statistics(self, identity: str, landmarks_NKC: FloatArray) -> LandmarkStatistics:
        """LSt statistics of a person: the federation's if it has this one's own, else estimated from N >= 1 frames."""
        index = self._index(identity)
        if index is None or not has_own_statistics(self._checkpoint):
            return estimated_statistics(self._checkpoint, landmarks_NKC)
        return known_statistics(self._checkpoint, index)

    def target_landmarks(self, transfer: Transfer, source: FaceFrame, driving: Sequence[FaceFrame]) -> FloatArray:
        """Where the result's landmarks shall be, [N, 68, 2] pixels, of N driving frames."""
        if transfer.guidance in (Guidance.LGAN, Guidance.BASE):
            return self._moved(transfer, source, driving)
        return self._restyled(transfer, source, np.stack([face.landmarks_KC for face in driving]))

    def _restyled(self, transfer: Transfer, source: FaceFrame, driving_NKC: FloatArray) -> FloatArray:
        """[N, 68, 2] the driving landmarks, in the source's style for LSt; relative ones from the source's own on."""
        reference = transfer.reference
        both_NKC = driving_NKC if reference is None else np.concatenate([driving_NKC, reference.landmarks_KC[None]])
        if transfer.guidance is Guidance.LST:
            own = self.statistics_of(source)
            both_NKC = lst_landmarks(both_NKC, transfer.driving_statistics, own)
        return both_NKC if reference is None else source.landmarks_KC + both_NKC[:-1] - both_NKC[-1]

    def _moved(self, transfer: Transfer, source: FaceFrame, driving: Sequence[FaceFrame]) -> FloatArray:
        """[N, 68, 2] drawn from pose and action units; base and relative ones as a change of the source's own."""
        index, reference = self._index(source.identity), transfer.reference
        row = self.networks.config.num_identities if index is None else index
        drawn = base_landmarks if transfer.guidance is Guidance.BASE else lgan_landmarks
        targets_NKC = drawn(self.networks, row, _led(transfer, source, driving))
        if reference is not None or transfer.guidance is Guidance.BASE:
            targets_NKC = source.landmarks_KC + (targets_NKC - drawn(self.networks, row, movement_of([source])))
        own_C = source.landmarks_KC.mean(axis=0)
        driving_NC = np.stack([face.landmarks_KC for face in driving]).mean(axis=1)
        origin_C = own_C if reference is None else reference.landmarks_KC.mean(axis=0)
        centre_NC = led_centres(own_C, driving_NC, origin_C, transfer.strengths)
        return np.asarray(targets_NKC + (centre_NC - targets_NKC.mean(axis=1))[:, None], np.float32)

    def posed(self, transfer: Transfer, source: FaceFrame, driving: Sequence[FaceFrame]) -> Sequence[FaceFrame]:
        """The driving frames with the head poses that the results have, by which their sources are chosen.

        In relative motion, and with a strength of the pose, the head of a result does not stand as the driver's.
        """
        pose_NC = _led(transfer, source, driving).pose_NC
        return [replace(face, pose_C=pose_C) for face, pose_C in zip(driving, pose_NC, strict=True)]

    def draw_pair(
        self,
        source: FaceFrame,
        driving: FaceFrame,
        requested: Guidance,
        strengths: Strengths = FULL,
        motion: MotionKind = MotionKind.ABSOLUTE,
    ) -> tuple[Drawing, Guidance]:
        """The drawing for one driving frame, and the guidance it was made with.

        Raises:
            ConfigError: as `choose` and `is_relative`; a frame of a shard has a clip.
        """
        guidance = self.choose(requested, source, driving.identity, strengths)
        reference = self._reference(motion, source, driving)
        transfer = Transfer(
            guidance=guidance,
            driving_statistics=self.statistics_of(driving),
            reference=reference,
            strengths=strengths,
        )
        targets_NKC = self.target_landmarks(transfer, source, [driving])
        return self.draw(source, [driving], targets_NKC, transfer)[0], guidance

    def _reference(self, motion: MotionKind, source: FaceFrame, driving: FaceFrame) -> Reference | None:
        """What a driving frame's movement is relative to; None for absolute motion."""
        face = None if motion is MotionKind.ABSOLUTE else driving.of_clip_like(source)
        if not self.is_relative(motion, has_clip=face is not None) or face is None:
            return None
        return Reference(movement=movement_of([face]), landmarks_KC=face.landmarks_KC, image_HWC=face.image_HWC)

    def draw(
        self,
        source: FaceFrame,
        driving: Sequence[FaceFrame],
        targets_NKC: FloatArray,
        transfer: Transfer | None = None,
    ) -> list[Drawing]:
        """One drawing per driving frame, each by itself.

        Args:
            source: the person to draw.
            driving: N >= 1 frames; all go through the networks at once.
            targets_NKC: [N, 68, 2] what `target_landmarks` returned.
            transfer: by which it did; None where the head is to stand as the driver's.
        """
        reference = None if transfer is None else transfer.reference
        posed = driving if transfer is None else self.posed(transfer, source, driving)
        drawn = self.drawn_from(source, is_relative=reference is not None)
        sources = [
            drawn.frames_for(target_KC, face, self.num_sources)
            for target_KC, face in zip(targets_NKC, posed, strict=True)
        ]
        return self.draw_from(sources, driving, targets_NKC, reference)

    @torch.inference_mode()
    def draw_from(
        self,
        sources: Sequence[Sequence[FaceFrame]],
        driving: Sequence[FaceFrame],
        targets_NKC: FloatArray,
        reference: Reference | None = None,
    ) -> list[Drawing]:
        """One drawing per driving frame.

        Args:
            sources: for each of them the frames to draw from, the nearest first; as many for each.
            driving: N >= 1 frames; all go through the networks at once.
            targets_NKC: [N, 68, 2] what `target_landmarks` returned.
            reference: of relative motion.

        Raises:
            DataError: if the design needs meshes and a face has none.
        """
        heatmaps = [self._heatmap(face, target_KC) for face, target_KC in zip(driving, targets_NKC, strict=True)]
        first = [frames[0] for frames in sources]
        rest_HWC = None if reference is None else reference.image_HWC
        inputs = GeneratorInputs(
            source_NCHW=to_tensor([face.image_HWC for face in first]),
            driving_NCHW=to_tensor([face.image_HWC for face in driving]),
            source_landmarks_NKC=torch.from_numpy(np.stack([face.landmarks_KC for face in first])),
            source_heatmap_NCHW=torch.from_numpy(np.stack([self._own_heatmap(face) for face in first])),
            target_landmarks_NKC=torch.from_numpy(targets_NKC),
            heatmap_NCHW=torch.from_numpy(np.stack(heatmaps)),
            further=self._further([frames[1:] for frames in sources]) if len(sources[0]) > 1 else None,
            reference_NCHW=None if rest_HWC is None else to_tensor([rest_HWC] * len(driving)),
            meshes=stacked_meshes(_meshes(first), _meshes(driving)) if self.needs_mesh else None,
            source_features=self._features_of(_in_order(sources)),
        )
        with mixed_precision(self.device, is_on=self.is_mixed):
            output = self.networks.generator(inputs.to(self.device))
        stages = {name: to_frames(picture_NCHW) for name, picture_NCHW in output.stages().items()}
        flow_NCHW = None if output.flow_NCHW is None else resized(output.flow_NCHW.float(), self.size_px, self.size_px)
        larger_MCHW = self._larger(sources)
        image_NCHW = output.image_NCHW if larger_MCHW is None else detailed(output, larger_MCHW)
        return [
            Drawing(
                result=result,
                stages={name: frames[index] for name, frames in stages.items()},
                landmarks_KC=targets_NKC[index],
                flow_CHW=None if flow_NCHW is None else flow_NCHW[index].cpu().numpy(),
            )
            for index, result in enumerate(to_frames(image_NCHW))
        ]

    def at_rest(self, source: FaceFrame) -> Frame:
        """A source as it is, as large as its results."""
        return source.detail_HWC if self._has_detail and source.detail_HWC is not None else source.image_HWC

    def _larger(self, sources: Sequence[Sequence[FaceFrame]]) -> torch.Tensor | None:
        """[M, 3, D, D] of [N][K] sources, in the order of `fusion`; None where results are of the network's size."""
        faces = _in_order(sources)
        details = [face.detail_HWC for face in faces if face.detail_HWC is not None]
        if not self._has_detail or len(details) < len(faces):
            return None
        return to_tensor(details).to(self.device)

    def _features_of(self, faces: Sequence[FaceFrame]) -> torch.Tensor | None:
        """[M, ...] as of `Networks.source_features`; each face is looked at once, by itself."""
        for face in faces:
            if face not in self._features:
                with mixed_precision(self.device, is_on=self.is_mixed):
                    seen = self.networks.source_features(to_tensor([face.image_HWC]).to(self.device))
                if seen is None:
                    return None
                self._features[face] = seen
        return torch.cat([self._features[face] for face in faces])

    @property
    def _has_detail(self) -> bool:
        return self._design.moves_sources(self.networks.config)

    def _further(self, frames: Sequence[Sequence[FaceFrame]]) -> FurtherSources:
        """[N][R] frames as tensors."""
        return FurtherSources(
            image_NRCHW=torch.stack([to_tensor([face.image_HWC for face in of_one]) for of_one in frames]),
            landmarks_NRKC=torch.from_numpy(np.array([[face.landmarks_KC for face in of_one] for of_one in frames])),
            heatmap_NRCHW=torch.from_numpy(
                np.array([[self._own_heatmap(face) for face in of_one] for of_one in frames])
            ),
        )

    def _own_heatmap(self, face: FaceFrame) -> FloatArray:
        """[1, S, S] of a face's own landmarks."""
        return draw_heatmap(face.landmarks_KC, self.size_px)[None]

    def _heatmap(self, driving: FaceFrame, target_KC: FloatArray) -> FloatArray:
        """[1, S, S] of the target landmarks, [2, S, S] with the driving irises carried to their eyes."""
        heatmap_HW = draw_heatmap(target_KC, self.size_px)
        if not self.networks.config.use_irises:
            return heatmap_HW[None]
        return np.stack([heatmap_HW, draw_irises(target_KC, driving.irises_in(target_KC), self.size_px)])

    def _index(self, identity: str) -> int | None:
        """Of an identity that landmarks can be made for; whoever has no agreed statistics is drawn as a stranger."""
        identities = self._checkpoint.identities
        index = identities.index(identity) if identity in identities else None
        return index if index is not None and self._checkpoint.has_landmarks_I[index] else None


def _in_order(sources: Sequence[Sequence[FaceFrame]]) -> list[FaceFrame]:
    """[M] of [N][K] sources, in the order of `fusion`."""
    return [frames[k] for k in range(len(sources[0])) for frames in sources]


def _meshes(faces: Sequence[FaceFrame]) -> list[FaceMesh]:
    for face in faces:
        if face.mesh is None:
            raise DataError(f"{face.identity or 'a face'}: {NO_MESHES}")
    return [face.mesh for face in faces if face.mesh is not None]


def _led(transfer: Transfer, source: FaceFrame, driving: Sequence[FaceFrame]) -> Movement:
    """How the source person is moved in the results of N driving frames."""
    own = movement_of([source])
    origin = own if transfer.reference is None else transfer.reference.movement
    return led(own, movement_of(driving), origin, transfer.strengths)
