"""Inputs and outputs of an exported generator, by name.

Legend: N results, K sources of each (1 for a network of one source), S image side in pixels, P = 68 landmarks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.batch import FurtherSources, GeneratorInputs
from model.networks.fusion import by_source

INPUTS = {
    "sources": "[N, K, 3, S, S] RGB in [-1, 1], of each result the nearest source first",
    "source_landmarks": "[N, K, 68, 2] (x, y) pixels of the sources, pixel centres at integers",
    "driving": "[N, 3, S, S] RGB in [-1, 1]",
    "target_landmarks": "[N, 68, 2] pixels where the landmarks shall be",
    "heatmap": "[N, 1, S, S] in [0, 1], the target landmarks as curves; with use-irises [N, 2, S, S], irises as discs",
}
"""Name and meaning, float32; a network that does not look at one of them has it all the same."""
OUTPUTS = {
    "image": "[N, 3, S, S] in [-1, 1]: the source person in the driving pose",
    "flows": "[N, K, 2, S, S] from the result to each source, the frame spans [-1, 1]",
    "confidence": "[N, K, 1, S, S] logits of the choice among the sources; 0 of one",
    "warped_source": "[N, 3, S, S] in [-1, 1]",
    "parts": "[N, 3, S, S] in [-1, 1], 0 where no part lies",
}
"""Name and meaning, float32."""


class Graph(nn.Module):
    """A generator whose inputs and outputs are those above."""

    def __init__(self, generator: nn.Module, *, has_further: bool) -> None:
        """Take a generator.

        Args:
            generator: of the design glr.
            has_further: whether it takes several sources.
        """
        super().__init__()
        self._generator, self._has_further = generator, has_further

    def forward(
        self,
        sources_NKCHW: Tensor,
        source_landmarks_NKPC: Tensor,
        driving_NCHW: Tensor,
        target_landmarks_NPC: Tensor,
        heatmap_NCHW: Tensor,
    ) -> tuple[Tensor, ...]:
        """`INPUTS` to `OUTPUTS`, in their order."""
        further = None
        if self._has_further:
            further = FurtherSources(
                image_NRCHW=sources_NKCHW[:, 1:],
                landmarks_NRKC=source_landmarks_NKPC[:, 1:],
                heatmap_NRCHW=heatmap_NCHW[:, None],  # of other designs
            )
        output = self._generator(
            GeneratorInputs(
                source_NCHW=sources_NKCHW[:, 0],
                driving_NCHW=driving_NCHW,
                source_landmarks_NKC=source_landmarks_NKPC[:, 0],
                source_heatmap_NCHW=heatmap_NCHW,  # of other designs
                target_landmarks_NKC=target_landmarks_NPC,
                heatmap_NCHW=heatmap_NCHW,
                further=further,
            )
        )
        flow_MCHW, confidence_MCHW = output.motion
        if confidence_MCHW is None:
            confidence_MCHW = torch.zeros_like(flow_MCHW[:, :1])
        return (
            output.image_NCHW,
            *(by_source(of_M, driving_NCHW.shape[0]).transpose(0, 1) for of_M in (flow_MCHW, confidence_MCHW)),
            output.warped_source_NCHW,
            output.parts_canvas_NCHW,
        )


def graph_inputs(inputs: GeneratorInputs) -> dict[str, Tensor]:
    """`INPUTS` by name."""
    sources_N1CHW, landmarks_N1PC = inputs.source_NCHW[:, None], inputs.source_landmarks_NKC[:, None]
    further = inputs.further
    return {
        "sources": sources_N1CHW if further is None else torch.cat([sources_N1CHW, further.image_NRCHW], dim=1),
        "source_landmarks": (
            landmarks_N1PC if further is None else torch.cat([landmarks_N1PC, further.landmarks_NRKC], dim=1)
        ),
        "driving": inputs.driving_NCHW,
        "target_landmarks": inputs.target_landmarks_NKC,
        "heatmap": inputs.heatmap_NCHW,
    }
