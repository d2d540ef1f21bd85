"""The agreed base of the landmark GAN: closed-form landmarks of an identity in a pose and expression.

Legend: N frames, R equations of a frame, X features of an equation, as in `model/landmarks/closed_form.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from model.batch import NUM_LANDMARKS
from model.landmarks.closed_form import FORMS, LARGEST_FEATURE, ROTATED, Form
from model.precision import in_full_precision

MAX_AU_INTENSITY = 5.0
"""Of FACS, grade E."""
_POSE_SCALE_DEG = 45.0


def form_features(form: Form, pose_NC: Tensor, strength_NA: Tensor) -> Tensor:
    """Features of a form, own ones first.

    Args:
        form: one of `FORMS`.
        pose_NC: [N, 3] pitch, yaw, roll, degrees.
        strength_NA: [N, 18] AU intensity, 0 to 1.

    Returns:
        [N, R, P + Q], -2 to 2.
    """
    one_N1 = torch.ones_like(pose_NC[:, :1])
    if form is ROTATED:
        factors_NA = torch.cat([one_N1, strength_NA], dim=1)  # of the shape at rest, and of each offset
        return torch.einsum("na,nrc->nrac", factors_NA, _rotation(pose_NC)[:, :2]).flatten(2)
    angles_NC = (pose_NC / _POSE_SCALE_DEG).clamp(-LARGEST_FEATURE, LARGEST_FEATURE)
    return torch.cat([one_N1, angles_NC, strength_NA], dim=1)[:, None]


def form_targets(form: Form, landmarks_NKC: Tensor) -> Tensor:
    """[N, R, T] of centred landmarks [N, 68, 2]."""
    return landmarks_NKC.transpose(1, 2) if form is ROTATED else landmarks_NKC.flatten(1)[:, None]


def _landmarks(form: Form, targets_NRT: Tensor) -> Tensor:
    """[N, 68, 2]: the inverse of `form_targets`."""
    return targets_NRT.transpose(1, 2) if form is ROTATED else targets_NRT.view(-1, NUM_LANDMARKS, 2)


class LandmarkBase(nn.Module):
    """Coefficients of both forms, agreed before round 1 and never trained; zero for the form that is not used."""

    def __init__(self, num_identities: int) -> None:
        super().__init__()
        for form in FORMS:
            own_IPT = torch.zeros(num_identities + 1, form.num_own, form.num_targets)
            self.register_buffer(f"{form.name}_own", own_IPT)
            self.register_buffer(f"{form.name}_shared", torch.zeros(form.num_shared, form.num_targets))

    def take(self, coefficients: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Take over what `closed_form.fit` gave."""
        for name, buffer in self.named_buffers():
            buffer.copy_(torch.from_numpy(coefficients[name]))

    @in_full_precision
    def forward(self, identity_N: Tensor, pose_NC: Tensor, strength_NA: Tensor) -> Tensor:
        """Landmarks of an identity; index I is a stranger, with the mean shape of all.

        Args:
            identity_N: [N] int64, 0 to I.
            pose_NC: [N, 3] pitch, yaw, roll, degrees.
            strength_NA: [N, 18] AU intensity, 0 to 1.

        Returns:
            [N, 68, 2] sides of the frame, around the mean point.
        """
        return torch.stack([self._drawn(form, identity_N, pose_NC, strength_NA) for form in FORMS]).sum(dim=0)

    def _drawn(self, form: Form, identity_N: Tensor, pose_NC: Tensor, strength_NA: Tensor) -> Tensor:
        own_IPT, shared_QT = self.get_buffer(f"{form.name}_own"), self.get_buffer(f"{form.name}_shared")
        features_NRX = form_features(form, pose_NC, strength_NA)
        own_NRX, shared_NRX = features_NRX[..., : form.num_own], features_NRX[..., form.num_own :]
        return _landmarks(form, own_NRX @ own_IPT[identity_N] + shared_NRX @ shared_QT)


def _rotation(pose_NC: Tensor) -> Tensor:
    """[N, 3, 3] Rz(roll) Ry(yaw) Rx(pitch), in a picture whose y points down."""
    (cp, cy, cr), (sp, sy, sr) = (f(torch.deg2rad(pose_NC)).unbind(dim=1) for f in (torch.cos, torch.sin))
    rows = [
        [cy * cr, sp * sy * cr - cp * sr, cp * sy * cr + sp * sr],
        [cy * sr, sp * sy * sr + cp * cr, cp * sy * sr - sp * cr],
        [-sy, sp * cy, cp * cy],
    ]
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
