"""Discriminator that knows whom it looks at (projection, Miyato and Koyama 2018; Zakharov et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.networks.comparators.residual import ResidualDown, keep_variance

_NUM_ITERATIONS = 3
_LOGIT_STD = 0.02  # a sum over pixels: at first it says little


class SpectralConv2d(nn.Conv2d):
    """Convolution whose weight is divided by its largest singular value (Miyato et al. 2018), found anew each time.

    Power iterations start from ones: the usual ones go on where the last step's ended, and that state would travel.
    Three find about nine tenths of the value.
    """

    def forward(self, input: Tensor) -> Tensor:
        """As of any convolution."""
        weight_OI = self.weight.flatten(1)
        with torch.no_grad():
            v_I = torch.ones_like(weight_OI[0])
            for _ in range(_NUM_ITERATIONS):
                u_O = functional.normalize(weight_OI @ v_I, dim=0)
                v_I = functional.normalize(u_O @ weight_OI, dim=0)
        normalised: Tensor = self.weight / (u_O @ weight_OI @ v_I)
        return functional.conv2d(input, normalised, self.bias, padding=self.padding)


class ProjectionDiscriminator(nn.Module):
    """One logit for a picture, the landmarks drawn beside it and an identity: v . (w_i + w_0).

    Without the published + b, of which the hinge loss has no gradient as long as all logits are within the margin.
    """

    def __init__(self, widths: list[int], num_identities: int) -> None:
        """Build it.

        Args:
            widths: channels after each halving of the side.
            num_identities: rows of w.
        """
        super().__init__()
        ins = [4, *widths]
        self.layers = nn.ModuleList(
            ResidualDown(ins[level], width, is_first=level == 0, conv=SpectralConv2d)
            for level, width in enumerate(widths)
        )
        self.last = nn.Sequential(
            nn.ReLU(),
            SpectralConv2d(widths[-1], widths[-1], 3, padding=1),
            nn.ReLU(),
            SpectralConv2d(widths[-1], widths[-1], 3, padding=1),
        )
        for conv in (self.last[1], self.last[3]):
            keep_variance(conv)  # type: ignore[arg-type]
        self.identity = nn.Embedding(num_identities, widths[-1])
        self.to_logit = nn.Linear(widths[-1], 1, bias=False)
        nn.init.zeros_(self.identity.weight)  # people are told apart as they are met
        nn.init.normal_(self.to_logit.weight, std=_LOGIT_STD)

    def forward(self, image_NCHW: Tensor, heatmap_NCHW: Tensor, identity_N: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits [N] and the feature maps of every layer before, shallowest first.

        Args:
            image_NCHW: [N, 3, S, S] in [-1, 1].
            heatmap_NCHW: [N, 1, S, S] in [0, 1] of the landmarks that it should have.
            identity_N: [N] int64.
        """
        features = []
        x_NCHW = torch.cat([image_NCHW, heatmap_NCHW], dim=1)
        for layer in self.layers:
            x_NCHW = layer(x_NCHW)
            features.append(x_NCHW)
        features.append(x_NCHW + self.last(x_NCHW))
        v_ND = torch.relu(features[-1]).sum(dim=(2, 3))
        return (v_ND * self.identity(identity_N)).sum(dim=1) + self.to_logit(v_ND).squeeze(1), features
