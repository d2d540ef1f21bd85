from __future__ import annotations

import torch

from model.networks.comparators.keypoints import Keypoints
from model.networks.warping import identity_grid
from model.precision import mixed_precision
from model.training.equivariance import RandomWarp, jacobian_equivariance, point_equivariance

LIKE = torch.zeros(1, dtype=torch.float64)


def drawn(seed: int = 3, step: int = 7) -> RandomWarp:
    return RandomWarp.drawn(2, seed, step, like=LIKE)


def points() -> torch.Tensor:
    return torch.rand(2, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 1.8 - 0.9


def test_seed_and_step_decide_the_warp() -> None:
    once, again = drawn(), drawn()
    assert torch.equal(once.affine_NC3, again.affine_NC3) and torch.equal(once.bends_NPC, again.bends_NPC)
    for other in (drawn(seed=4), drawn(step=8)):
        assert not torch.equal(once.affine_NC3, other.affine_NC3)


def test_jacobians_are_the_slopes_of_the_map() -> None:
    by = drawn()
    by = RandomWarp(by.affine_NC3, 20 * by.bends_NPC)  # so that the plates show
    slopes = torch.autograd.functional.jacobian(by.points, points())  # type: ignore[no-untyped-call]
    wanted = torch.stack([torch.stack([slopes[n, k, :, n, k] for k in range(4)]) for n in range(2)])
    torch.testing.assert_close(by.jacobians(points()), wanted)


def test_a_warped_picture_shows_at_each_pixel_what_is_where_the_map_leads() -> None:
    by = drawn()
    grid_NCHW = identity_grid(64, 64, like=LIKE).expand(2, -1, -1, -1)  # a picture of its own coordinates
    shown = by.image(grid_NCHW)
    leads_to = by.points(grid_NCHW.flatten(2).mT).mT.view_as(grid_NCHW)
    inside = (leads_to.abs() < 0.98).all(dim=1)
    assert inside.float().mean() > 0.5
    torch.testing.assert_close(shown.permute(0, 2, 3, 1)[inside], leads_to.permute(0, 2, 3, 1)[inside])


def test_a_warp_in_mixed_precision_is_that_in_full_precision_to_the_bit() -> None:
    by = RandomWarp.drawn(2, 3, 7, like=torch.zeros(1))
    picture = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    followed = Keypoints(by.points(points().float()), by.jacobians(points().float()))
    warped = Keypoints(points().float(), 1.5 * torch.eye(2).expand(2, 4, 2, 2))

    def computed() -> list[torch.Tensor]:
        losses = (
            point_equivariance(followed.points_NKC, warped.points_NKC, by),
            jacobian_equivariance(followed, warped, by),
        )
        return [by.image(picture), by.points(warped.points_NKC), by.jacobians(warped.points_NKC), *losses]

    full = computed()
    with mixed_precision(torch.device("cpu"), is_on=True):
        assert all(torch.equal(mixed, expected) for mixed, expected in zip(computed(), full, strict=True))


def test_points_and_jacobians_that_follow_the_warp_cost_nothing_and_others_do() -> None:
    by = drawn()
    eye = torch.eye(2, dtype=torch.float64).expand(2, 4, 2, 2)
    warped = Keypoints(points(), eye)
    followed = Keypoints(by.points(points()), by.jacobians(points()))
    assert point_equivariance(followed.points_NKC, warped.points_NKC, by) == 0
    assert point_equivariance(followed.points_NKC + 0.1, warped.points_NKC, by) > 0.05
    assert jacobian_equivariance(followed, warped, by) < 1e-9
    assert jacobian_equivariance(Keypoints(followed.points_NKC, eye), warped, by) > 0.01
