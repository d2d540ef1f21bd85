from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from data_partition.faces.crop import CropBox
from model.networks.landmark_motion import SourceMotion
from model.networks.warping import shrunk
from reenact.detail import cut_detail, detail_px, detailed
from reenact.guidance_choice import Guidance
from reenact.reenactor import Reenactor
from tests.support.small_face import SMALL, small_checkpoint, small_face

SIDE, LARGE = 16, 64


@dataclass(frozen=True, kw_only=True)
class Output:
    """Of one result."""

    image_NCHW: Tensor
    motion: SourceMotion
    flow_NCHW: None = None

    def stages(self) -> dict[str, Tensor]:
        return {}


def still(num_sources: int = 1) -> Tensor:
    return torch.zeros(num_sources, 2, SIDE, SIDE)


def pictures(num: int = 1) -> Tensor:
    """Within [-.8, .8]."""
    return (torch.rand(num, 3, LARGE, LARGE, generator=torch.Generator().manual_seed(0)) - 0.5) * 1.6


@pytest.mark.parametrize(("size_px", "wanted_px"), [(64, 256), (128, 512), (224, 512), (600, 600)])
def test_results_are_four_times_the_networks_side_up_to_512(size_px: int, wanted_px: int) -> None:
    assert detail_px(size_px) == wanted_px
    box = CropBox(left=1, top=2, side=50)
    assert cut_detail(np.zeros((60, 60, 3), np.uint8), box, size_px).shape == (wanted_px, wanted_px, 3)


def test_what_the_network_leaves_as_it_is_keeps_all_of_its_detail() -> None:
    source_MCHW = pictures()
    output = Output(image_NCHW=shrunk(source_MCHW, SIDE), motion=SourceMotion(still(), None))
    torch.testing.assert_close(detailed(output, source_MCHW), source_MCHW)


def test_a_correction_is_added_at_the_networks_size() -> None:
    source_MCHW = pictures()
    output = Output(image_NCHW=shrunk(source_MCHW, SIDE) + 0.1, motion=SourceMotion(still(), None))
    torch.testing.assert_close(detailed(output, source_MCHW), source_MCHW + 0.1)


def test_detail_moves_with_the_flow() -> None:
    source_MCHW = pictures()
    flow_MCHW = still()
    flow_MCHW[:, 0] = 2 * 4 / LARGE  # four pixels of the larger picture, one of the network's
    moved_MCHW = source_MCHW.roll(-4, dims=3)
    moved_MCHW[..., -4:] = source_MCHW[..., -1:]
    output = Output(image_NCHW=shrunk(moved_MCHW, SIDE), motion=SourceMotion(flow_MCHW, None))
    torch.testing.assert_close(detailed(output, source_MCHW), moved_MCHW)


def test_each_pixel_is_of_the_source_that_is_trusted_there() -> None:
    source_MCHW = pictures(2)
    confidence_MCHW = torch.zeros(2, 1, SIDE, SIDE)
    confidence_MCHW[0, :, :, :8], confidence_MCHW[1, :, :, 8:] = 10.0, 10.0
    halves = torch.cat([source_MCHW[:1, ..., :32], source_MCHW[1:, ..., 32:]], dim=3)
    output = Output(image_NCHW=shrunk(halves, SIDE), motion=SourceMotion(still(2), confidence_MCHW))
    of_inside = (slice(None), slice(None), slice(None), [*range(28), *range(36, LARGE)])
    torch.testing.assert_close(detailed(output, source_MCHW)[of_inside], halves[of_inside], atol=0.05, rtol=0)


@pytest.mark.parametrize("moves_sources", [True, False])
def test_results_have_the_detail_of_sources_that_have_it_where_sources_are_moved(moves_sources: bool) -> None:
    config = replace(SMALL, use_landmark_flow=moves_sources, use_appearance_skip=True)
    reenactor = Reenactor(small_checkpoint(config), torch.device("cpu"))
    size_px = reenactor.size_px
    face, driving = small_face(0), small_face(1)
    large_px = detail_px(size_px)
    detail_HWC = np.random.default_rng(0).integers(0, 256, (large_px, large_px, 3), np.uint8)
    plain, _ = reenactor.draw_pair(face, driving, Guidance.DRIVING)
    detailed_one, _ = reenactor.draw_pair(replace(face, detail_HWC=detail_HWC), driving, Guidance.DRIVING)
    wanted_px = large_px if moves_sources else size_px
    assert (plain.result.shape[0], detailed_one.result.shape[0]) == (size_px, wanted_px)
    assert reenactor.at_rest(replace(face, detail_HWC=detail_HWC)).shape[0] == reenactor.result_px == wanted_px
