"""Results larger than the network: what it moved is moved at the size that the sources have.

Not in the thesis (docs/decisions/041). Where a result takes its pixels from is smooth, so it can be enlarged; pictures
of the source, enlarged, would be soft. What the network corrected is added as it is, at the network's size.

Legend: N results, M = K N sources in the order of `fusion`, S side of the network's pictures, D of the larger ones.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from data_partition.faces.crop import CropBox, crop_and_resize
from model.designs.design import MovingOutput
from model.frames import Frame
from model.networks.fusion import fused
from model.networks.warping import resized, shrunk, warp

_TIMES, _LARGEST_PX = 4, 512
_SHARPER = 4.0
"""The choice among sources, than in the network: what does not fit to a pixel of its own is seen at a larger size."""


def detail_px(size_px: int) -> int:
    """D of a network of side S: four times that, at most 512 pixels, and no less than S."""
    return max(size_px, min(_TIMES * size_px, _LARGEST_PX))


def cut_detail(picture_HWC: Frame, box: CropBox, size_px: int) -> Frame:
    """[D, D, 3] uint8 RGB: what a network of side S sees as [S, S, 3]."""
    return crop_and_resize(picture_HWC, box, detail_px(size_px))


def detailed(output: MovingOutput, sources_MCHW: Tensor) -> Tensor:
    """The results of a network at the size of the sources.

    Args:
        output: N results of side S.
        sources_MCHW: [M, 3, D, D] in [-1, 1], the frames that they were drawn from, larger.

    Returns:
        [N, 3, D, D] in [-1, 1]; shrunk to S they are the network's but for rounding.
    """
    image_NCHW, (flow_MCHW, confidence_MCHW) = output.image_NCHW, output.motion
    side_px = sources_MCHW.shape[-1]
    moved_NCHW = warp(sources_MCHW, flow_MCHW.float())
    if confidence_MCHW is not None:
        larger_MCHW = resized(_SHARPER * confidence_MCHW.float(), side_px, side_px)
        moved_NCHW = fused(moved_NCHW, larger_MCHW, image_NCHW.shape[0])
    correction_NCHW = image_NCHW - shrunk(moved_NCHW, image_NCHW.shape[-1])
    size = (side_px, side_px)
    return (moved_NCHW + functional.interpolate(correction_NCHW, size, mode="bicubic", align_corners=False)).clamp(
        -1, 1
    )
