"""Training pairs in random colours, so that a site with one person cannot learn that person's colours by heart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from model.batch import FurtherSources, ReenactmentBatch


def recoloured(
    batches: Iterator[ReenactmentBatch], strength: float, rng: np.random.Generator
) -> Iterator[ReenactmentBatch]:
    """The batches with each pair's colours changed by one random affine map, the same for sources and driving frame.

    x' = (1 + A) x + b, cut to [-1, 1], with the entries of A [3, 3] and b [3] normal of standard deviation `strength`.

    Args:
        batches: as `iter_batches` gives them; not changed.
        strength: >= 0; 0 hands the batches on and draws nothing.
        rng: the only source of randomness.
    """
    return batches if strength == 0 else _recoloured(batches, strength, rng)


def _recoloured(
    batches: Iterator[ReenactmentBatch], strength: float, rng: np.random.Generator
) -> Iterator[ReenactmentBatch]:
    for batch in batches:
        map_N34 = rng.normal(0.0, strength, (len(batch), 3, 4)).astype(np.float32)
        map_N34[:, :, :3] += np.eye(3, dtype=np.float32)
        colours = torch.from_numpy(map_N34)
        yield replace(
            batch,
            source_NCHW=_apply(colours, batch.source_NCHW),
            driving_NCHW=_apply(colours, batch.driving_NCHW),
            further=batch.further and _recoloured_further(colours, batch.further),
        )


def _recoloured_further(map_N34: Tensor, further: FurtherSources) -> FurtherSources:
    num_each = further.image_NRCHW.shape[1]
    images = _apply(map_N34.repeat_interleave(num_each, dim=0), further.image_NRCHW.flatten(0, 1))
    return replace(further, image_NRCHW=images.view_as(further.image_NRCHW))


def _apply(map_N34: Tensor, image_NCHW: Tensor) -> Tensor:
    mixed = torch.einsum("nij,njhw->nihw", map_N34[:, :, :3], image_NCHW) + map_N34[:, :, 3, None, None]
    return mixed.clamp_(-1.0, 1.0)
