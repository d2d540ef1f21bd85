"""GLR: face reenactment with generative landmark guidance (thesis 3, Fig 3.1), put together from its modules."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.config import ModelConfig
from model.landmarks.geometry import PartSizes
from model.networks.feature_extractor import build_extractor
from model.networks.flow import FlowHead, LandmarkHead
from model.networks.image_generator import ImageGenerator
from model.networks.parts import PartReenactment
from model.networks.warping import warp


@dataclass(frozen=True, kw_only=True, slots=True)
class GLROutput:
    """What one forward pass gives; N pairs, image side S."""

    image_NCHW: Tensor
    """[N, 3, S, S] in [-1, 1]: the source person in the driving pose."""
    warped_source_NCHW: Tensor
    """[N, 3, S, S]: the source sampled along the flow."""
    parts_canvas_NCHW: Tensor
    """[N, 3, S, S]: I_p, the reenacted parts in place, 0 elsewhere."""
    part_crops: dict[str, Tensor]
    """Part name to [N, 3, h, w] in [-1, 1]."""
    flow_NCHW: Tensor
    """[N, 2, S, S] offsets in normalised units."""
    source_landmarks_NKC: Tensor
    """[N, 68, 2] pixels, regressed from the source."""
    driving_landmarks_NKC: Tensor
    """[N, 68, 2] pixels, regressed from the driving frame."""

    def stages(self) -> dict[str, Tensor]:
        """Pictures on the way to the image, [N, 3, S, S] in [-1, 1]."""
        return {"Warped source": self.warped_source_NCHW, "Parts": self.parts_canvas_NCHW}


class GLR(nn.Module):
    """The generator of the method."""

    def __init__(self, config: ModelConfig, part_sizes: PartSizes) -> None:
        super().__init__()
        self.use_flow, self.use_appearance_skip = config.use_flow, config.use_appearance_skip
        self.extractor = build_extractor(config)
        self.landmark_head = LandmarkHead(config)
        self.flow_head = FlowHead(config)
        self.parts = PartReenactment(config, part_sizes)
        self.image_generator = ImageGenerator(config)

    def forward(
        self, source_NCHW: Tensor, driving_NCHW: Tensor, source_landmarks_NKC: Tensor, target_landmarks_NKC: Tensor,
        heatmap_NCHW: Tensor,
    ) -> GLROutput:  # fmt: skip
        """Reenact N sources.

        Args:
            source_NCHW: [N, 3, S, S] float32 in [-1, 1].
            driving_NCHW: [N, 3, S, S] float32 in [-1, 1].
            source_landmarks_NKC: [N, 68, 2] pixels of the source.
            target_landmarks_NKC: [N, 68, 2] pixels where the landmarks shall be: the driving ones for
                self-reenactment, LSt or LGAN ones otherwise.
            heatmap_NCHW: [N, 1, S, S] in [0, 1], drawn from the target landmarks.
        """
        extracted = self.extractor(torch.cat([source_NCHW, driving_NCHW]))
        source_tokens, driving_tokens = extracted.chunk(2)
        if self.use_flow:
            flow_NCHW = self.flow_head(
                source_tokens[:, :2],
                driving_tokens[:, :2],
                source_NCHW=source_NCHW,
                heatmap_NCHW=heatmap_NCHW,
                source_landmarks_NKC=source_landmarks_NKC,
                target_landmarks_NKC=target_landmarks_NKC,
            )
        else:
            flow_NCHW = source_NCHW.new_zeros(len(source_NCHW), 2, *source_NCHW.shape[-2:])
        warped_source = warp(source_NCHW, flow_NCHW)
        parts_source = (source_NCHW, source_landmarks_NKC)
        if self.use_appearance_skip:  # redraw the parts where the flow has already carried them
            parts_source = (warped_source, target_landmarks_NKC)
        canvas, is_covered, crops = self.parts(*parts_source, heatmap_NCHW, target_landmarks_NKC)
        return GLROutput(
            image_NCHW=self.image_generator(source_NCHW, warped_source, flow_NCHW, canvas, is_covered, heatmap_NCHW),
            warped_source_NCHW=warped_source,
            parts_canvas_NCHW=canvas,
            part_crops=crops,
            flow_NCHW=flow_NCHW,
            source_landmarks_NKC=self.landmark_head(source_tokens[:, 2]),
            driving_landmarks_NKC=self.landmark_head(driving_tokens[:, 2]),
        )
