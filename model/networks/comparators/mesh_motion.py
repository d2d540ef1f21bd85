"""A flow out of two face meshes, by graph convolutions over their vertices (Yao et al. 2020, Mesh Guided GCN).

Layer sizes are this project's: the paper gives none. Shapes: N pairs, V = 468 vertices, D features of a vertex, S side
of the image in pixels.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.batch import NUM_VERTICES
from model.config import ModelConfig
from model.landmarks.canonical_face import edges
from model.networks.comparators.residual import ResidualUp, widths_down_to

_WIDTHS = (6, 32, 64, 64, 16)
_VECTOR_DIM = 256
_SEED_PX = 4
_SLOPE = 0.2
_LARGE_MOVEMENT = 0.1  # of a vertex, in half sides


class GraphConvolution(nn.Module):
    """Of each vertex a linear map of itself and of the mean of its neighbours, and leaky ReLU."""

    neighbours_VV: Tensor
    """[V, V] rows of sum 1."""

    def __init__(self, in_dim: int, out_dim: int, neighbours_VV: Tensor) -> None:
        super().__init__()
        self.linear = _linear(2 * in_dim, out_dim)
        self.register_buffer("neighbours_VV", neighbours_VV, persistent=False)

    def forward(self, x_NVD: Tensor) -> Tensor:
        """[N, V, in_dim] to [N, V, out_dim]."""
        both_NVD = torch.cat([x_NVD, self.neighbours_VV @ x_NVD], dim=2)
        return functional.leaky_relu(self.linear(both_NVD), _SLOPE)


class MeshMotion(nn.Module):
    """Both meshes to a vector, and the vector to a flow, which is zero at first."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        neighbours_VV = neighbour_means()
        self.graph = nn.Sequential(*(GraphConvolution(a, b, neighbours_VV) for a, b in pairwise(_WIDTHS)))
        self.to_vector = _linear(NUM_VERTICES * _WIDTHS[-1], _VECTOR_DIM)
        widths = widths_down_to(_SEED_PX, config.image_size_px, config.generator_channels)[::-1]
        self.to_seed = _linear(_VECTOR_DIM, widths[0] * _SEED_PX**2)
        self.grow = nn.Sequential(*(ResidualUp(a, b) for a, b in pairwise(widths)))
        self.to_flow = nn.Conv2d(widths[-1], 2, 3, padding=1)
        nn.init.zeros_(self.to_flow.weight)
        nn.init.zeros_(self.to_flow.bias)  # type: ignore[arg-type]

    def forward(self, source_NVC: Tensor, target_NVC: Tensor) -> Tensor:
        """Flow [N, 2, s, s] from the result to the source; s is half of S, or of the next power of two below it.

        Args:
            source_NVC: [N, V, 3] in half sides of the frame.
            target_NVC: [N, V, 3] where the vertices shall be.
        """
        features_NVD = self.graph(torch.cat([source_NVC, (target_NVC - source_NVC) / _LARGE_MOVEMENT], dim=2))
        vector_NL = functional.leaky_relu(self.to_vector(features_NVD.flatten(1)), _SLOPE)
        seed_NCHW = self.to_seed(vector_NL).view(len(vector_NL), -1, _SEED_PX, _SEED_PX)
        return self.to_flow(torch.relu(self.grow(seed_NCHW)))  # type: ignore[no-any-return]


def neighbour_means() -> Tensor:
    """[V, V] float32: a row's product with values of the vertices is the mean over those that share an edge with it."""
    adjacent_VV = np.zeros((NUM_VERTICES, NUM_VERTICES), np.float32)
    first_E, second_E = edges().T
    adjacent_VV[first_E, second_E] = adjacent_VV[second_E, first_E] = 1
    return torch.from_numpy(adjacent_VV / adjacent_VV.sum(axis=1, keepdims=True))


def _linear(in_dim: int, out_dim: int) -> nn.Linear:
    """Started so that features keep their variance: what tells two pairs apart is a small part of a mesh."""
    linear = nn.Linear(in_dim, out_dim)
    nn.init.kaiming_normal_(linear.weight, a=_SLOPE)
    nn.init.zeros_(linear.bias)
    return linear
