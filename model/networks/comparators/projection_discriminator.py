"""Discriminator that knows whom it looks at (projection, Miyato and Koyama 2018; Zakharov et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.networks.comparators.residual import keep_variance, residual_downs

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
    """Logits for a picture, the landmarks drawn beside it and an identity: v . (w_i + w_0).

    Without the published + b, of which the hinge loss has no gradient as long as all logits are within the margin.
    """

    def __init__(self, widths: list[int], num_identities: int, *, pools: bool) -> None:
        """Build it.

        Args:
            widths: channels after each halving of the side.
            num_identities: rows of w.
            pools: whether there is one logit a picture, of the sum over all places after one more block, or one for
                each place.
        """
        super().__init__()
        self.layers = nn.ModuleList(residual_downs(4, widths, conv=SpectralConv2d))
        self.last = _last_block(widths[-1]) if pools else None
        self.identity = nn.Embedding(num_identities, widths[-1])
        self.to_logit = nn.Linear(widths[-1], 1, bias=False)
        nn.init.zeros_(self.identity.weight)  # people are told apart as they are met
        nn.init.normal_(self.to_logit.weight, std=_LOGIT_STD)

    def forward(self, image_NCHW: Tensor, heatmap_NCHW: Tensor, identity_N: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits [N, P] of P places, or 1, and the feature maps of every layer before, shallowest first.

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
        if self.last is not None:
            features.append(x_NCHW + self.last(x_NCHW))
        v_NDP = torch.relu(features[-1]).flatten(2)
        v_NPD = (v_NDP if self.last is None else v_NDP.sum(dim=2, keepdim=True)).mT
        identity_N1D = self.identity(identity_N)[:, None]
        return (v_NPD * identity_N1D).sum(dim=2) + self.to_logit(v_NPD).squeeze(2), features


def _last_block(channels: int) -> nn.Sequential:
    """What is added to the last maps."""
    convs = [SpectralConv2d(channels, channels, 3, padding=1) for _ in range(2)]
    for conv in convs:
        keep_variance(conv)
    return nn.Sequential(nn.ReLU(), convs[0], nn.ReLU(), convs[1])
