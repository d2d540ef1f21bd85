from __future__ import annotations

import pytest
import torch

from model.networks.comparators.keypoints import (
    NUM_KEYPOINTS,
    NUM_MOTIONS,
    centres,
    gaussians,
    inverse,
    motion_side_px,
    motions,
    seen_by_each,
)
from model.networks.warping import identity_grid, warp


def points(seed: int = 0, num: int = 2) -> torch.Tensor:
    return torch.rand(num, NUM_KEYPOINTS, 2, generator=torch.Generator().manual_seed(seed)) - 0.5


def test_a_point_is_the_mean_position_of_its_heatmap() -> None:
    heat_NKHW = torch.zeros(1, 1, 8, 8)
    heat_NKHW[0, 0, 2, 5], heat_NKHW[0, 0, 2, 7] = 0.5, 0.5  # pixel centres at x = 11 / 8 - 1 and 15 / 8 - 1
    torch.testing.assert_close(centres(heat_NKHW), torch.tensor([[[0.625, -0.375]]]))


def test_a_gaussian_is_as_wide_as_its_covariance_in_each_direction() -> None:
    covariance_CC = torch.tensor([[0.25, 0.0], [0.0, 0.01]])
    grid_CHW = identity_grid(32, 32, like=covariance_CC)[0]
    heat_HW = gaussians(grid_CHW[:, 16, 16].view(1, 1, 2), inverse(covariance_CC), 32)[0, 0]
    assert heat_HW.argmax() == 16 * 32 + 16
    torch.testing.assert_close(heat_HW[16, 24], torch.exp(torch.tensor(-0.5 * 0.5**2 / 0.25)))
    torch.testing.assert_close(heat_HW[20, 16], torch.exp(torch.tensor(-0.5 * 0.25**2 / 0.01)))


def test_a_closed_form_inverse_is_the_inverse() -> None:
    matrix_KCC = torch.randn(50, 2, 2, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(inverse(matrix_KCC), torch.linalg.inv(matrix_KCC), rtol=1e-3, atol=1e-3)


def test_a_singular_matrix_has_a_finite_inverse_and_gradient() -> None:
    matrix_CC = torch.ones(2, 2, requires_grad=True)
    inverse(matrix_CC).sum().backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(inverse(matrix_CC)).all()
    assert matrix_CC.grad is not None and torch.isfinite(matrix_CC.grad).all()


def test_motions_meet_the_source_point_at_the_driving_one_and_turn_about_it() -> None:
    source, driving = points(0), points(1)
    turn_CC = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    flows = motions(source, driving, turn_CC, 16)
    grid = identity_grid(16, 16, like=source)[0]
    assert flows.shape == (2, NUM_MOTIONS, 2, 16, 16) and not flows[:, 0].any()
    pixel = grid[:, 3, 9]
    wanted = source[1, 4] + turn_CC @ (pixel - driving[1, 4])
    torch.testing.assert_close(flows[1, 5, :, 3, 9] + pixel, wanted)


def test_equal_points_carry_the_source_nowhere() -> None:
    flows = motions(points(), points(), torch.eye(2), 16)
    assert flows.abs().max() < 1e-6


def test_each_motion_sees_its_heat_and_the_source_carried_by_it() -> None:
    image = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    flows, heat = motions(points(0), points(1), torch.eye(2), 16), torch.rand(2, NUM_KEYPOINTS, 16, 16)
    seen = seen_by_each(image, heat, flows).view(2, NUM_MOTIONS, 4, 16, 16)
    assert not seen[:, 0, 0].any()
    torch.testing.assert_close(seen[:, 0, 1:], image)
    torch.testing.assert_close(seen[:, 7, 0], heat[:, 6])
    torch.testing.assert_close(seen[:, 7, 1:], warp(image, flows[:, 7]))


@pytest.mark.parametrize(("size_px", "side_px"), [(32, 16), (64, 32), (128, 64), (224, 56), (256, 64), (512, 64)])
def test_points_are_found_at_up_to_64_pixels(size_px: int, side_px: int) -> None:
    assert motion_side_px(size_px) == side_px
