"""How a face mesh is held: scale, rotation and translation of the canonical face onto it, in closed form.

Umeyama, "Least-squares estimation of transformation parameters between two point patterns" (1991). Shapes: N meshes,
V vertices, C = 3 coordinates (x, y, z).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class FacePose:
    """Of N meshes: x -> k R x + t takes the canonical face as near to each as a similarity can."""

    scale_N: Tensor
    """[N] k > 0, units of the mesh in one of the canonical face."""
    rotation_NCC: Tensor
    """[N, 3, 3] R, of determinant 1."""
    translation_NC: Tensor
    """[N, 3] t."""

    @classmethod
    def of(cls, mesh_NVC: Tensor, canonical_VC: Tensor) -> FacePose:
        """The pose of each mesh by least squares.

        Args:
            mesh_NVC: [N, V, 3] float32, not all in a line.
            canonical_VC: [V, 3] the same vertices of the canonical face.
        """
        mean_N1C, canonical_mean_C = mesh_NVC.mean(dim=1, keepdim=True), canonical_VC.mean(dim=0)
        centred_VC = canonical_VC - canonical_mean_C
        covariance_NCC = (mesh_NVC - mean_N1C).transpose(1, 2) @ centred_VC / len(canonical_VC)
        u_NCC, spread_NC, v_NCC = torch.linalg.svd(covariance_NCC)
        sign_NC = torch.ones_like(spread_NC)
        sign_NC[:, 2] = torch.linalg.det(u_NCC @ v_NCC).sign()  # a reflection may fit better; no face is one
        rotation_NCC = u_NCC @ (sign_NC[:, :, None] * v_NCC)
        scale_N = (spread_NC * sign_NC).sum(dim=1) / centred_VC.square().sum(dim=1).mean()
        moved_NC = scale_N[:, None] * (rotation_NCC @ canonical_mean_C)
        return cls(scale_N=scale_N, rotation_NCC=rotation_NCC, translation_NC=mean_N1C[:, 0] - moved_NC)

    def applied(self, free_NVC: Tensor) -> Tensor:
        """[N, V, 3] pose-free meshes to meshes that are held so: k R x + t."""
        turned_NVC = free_NVC @ self.rotation_NCC.transpose(1, 2)
        return self.scale_N[:, None, None] * turned_NVC + self.translation_NC[:, None]

    def removed(self, mesh_NVC: Tensor) -> Tensor:
        """[N, V, 3] meshes to pose-free ones, the inverse of `applied`: R^T (x - t) / k."""
        return (mesh_NVC - self.translation_NC[:, None]) @ self.rotation_NCC / self.scale_N[:, None, None]
