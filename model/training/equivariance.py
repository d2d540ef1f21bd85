"""Known warps of a frame, for key points that have to follow them (Siarohin et al. 2019, "First Order Motion Model").

Shapes: N frames, K points, P = 25 control points, C = 2 coordinates, all positions normalised as in
`model.networks.warping`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from model.networks.comparators.keypoints import Keypoints, inverse
from model.networks.warping import identity_grid
from model.precision import in_full_precision
from model.training.losses import l1_loss

_AFFINE_SIGMA, _PLATE_SIGMA = 0.05, 0.005
_CONTROLS_A_SIDE = 5
_TINY = 1e-6


@dataclass(frozen=True, slots=True)
class RandomWarp:
    """N maps T of the frame, near the identity: affine ones, each with thin plates bent at 5 x 5 points."""

    affine_NC3: Tensor
    """[N, 2, 3]."""
    bends_NPC: Tensor
    """[N, 25, 2] how far each control point bends x and y."""

    @classmethod
    def drawn(cls, num: int, seed: int, step: int, *, like: Tensor) -> RandomWarp:
        """`num` maps, the same whenever seed and step are, in dtype and on device of `like`."""
        rng = np.random.default_rng((seed, step))
        affine_NC3 = np.eye(2, 3) + rng.normal(0, _AFFINE_SIGMA, (num, 2, 3))
        bends_NPC = rng.normal(0, _PLATE_SIGMA, (num, _CONTROLS_A_SIDE**2, 2))
        tensors = (torch.from_numpy(values) for values in (affine_NC3, bends_NPC))
        return cls(*(tensor.to(like.device, like.dtype, non_blocking=True) for tensor in tensors))

    @in_full_precision
    def points(self, points_NKC: Tensor) -> Tensor:
        """[N, K, 2] T of points."""
        away_NKPC = self._away(points_NKC)
        squared_NKP = away_NKPC.square().sum(dim=3)
        plates_NKP = squared_NKP * torch.log(squared_NKP + _TINY) / 2  # r^2 log r
        linear_NKC = points_NKC @ self.affine_NC3[:, :, :2].mT + self.affine_NC3[:, None, :, 2]
        return linear_NKC + plates_NKP @ self.bends_NPC

    @in_full_precision
    def jacobians(self, points_NKC: Tensor) -> Tensor:
        """[N, K, 2, 2] T' at points, output coordinates first."""
        away_NKPC = self._away(points_NKC)
        squared_NKP1 = away_NKPC.square().sum(dim=3, keepdim=True)
        slopes_NKPC = away_NKPC * (torch.log(squared_NKP1 + _TINY) + squared_NKP1 / (squared_NKP1 + _TINY))
        bent_NKCC = torch.einsum("npc,nkpd->nkcd", self.bends_NPC, slopes_NKPC)
        return self.affine_NC3[:, None, :, :2] + bent_NKCC

    @in_full_precision
    def image(self, image_NCHW: Tensor) -> Tensor:
        """[N, C, S, S] whose pixel z shows what the image has at T(z); reflected at its borders."""
        grid_NCHW = identity_grid(*image_NCHW.shape[-2:], like=image_NCHW)
        grid_NQC = grid_NCHW.flatten(2).mT.expand(len(image_NCHW), -1, -1)
        sampled_NHWC = self.points(grid_NQC).view(-1, *image_NCHW.shape[-2:], 2)
        return functional.grid_sample(image_NCHW, sampled_NHWC, padding_mode="reflection", align_corners=False)

    def _away(self, points_NKC: Tensor) -> Tensor:
        """[N, K, P, 2] from each control point to each point."""
        side = torch.linspace(-1, 1, _CONTROLS_A_SIDE, dtype=points_NKC.dtype, device=points_NKC.device)
        return points_NKC[:, :, None] - torch.cartesian_prod(side, side)


@in_full_precision
def point_equivariance(points_NKC: Tensor, warped_NKC: Tensor, by: RandomWarp) -> Tensor:
    """L1 between the points of frames and T of the points of the warped frames, [] float32 >= 0.

    Args:
        points_NKC: [N, K, 2] found in the frames.
        warped_NKC: [N, K, 2] found in the same frames warped.
        by: what warped them.
    """
    return l1_loss(points_NKC, by.points(warped_NKC))


@in_full_precision
def jacobian_equivariance(found: Keypoints, warped: Keypoints, by: RandomWarp) -> Tensor:
    """L1 between the identity and J^-1 T' J_T, [] float32 >= 0.

    Args:
        found: points of the frames, with Jacobians.
        warped: of the same frames warped.
        by: what warped them.
    """
    product_NKCC = inverse(found.matrix_NKCC) @ by.jacobians(warped.points_NKC) @ warped.matrix_NKCC
    return l1_loss(product_NKCC, torch.eye(2, device=product_NKCC.device).expand_as(product_NKCC))
