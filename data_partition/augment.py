"""Training pairs changed at random, so that a site with one person does not learn that person's clip by heart.

Colours, lest it learns the person's; places of the sources, for motions that are larger than the clip's.

Legend: N pairs, M source frames, K = 68 landmarks, C = 2 coordinates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from model.batch import FurtherSources, ReenactmentBatch
from model.networks.warping import to_normalised, to_pixels

_MOVED_SHARE = 0.5
_MOST_TURN_RAD, _MOST_LOG_SCALE, _MOST_SHIFT = np.pi / 3, 0.5, 0.5


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


def with_other_drivers(
    batches: Iterator[ReenactmentBatch], strength: float, rng: np.random.Generator
) -> Iterator[ReenactmentBatch]:
    """The batches with driving frames that the generator sees in colours of their own: what it draws has the source's.

    So it cannot learn to take colours, which are who somebody is, from the driving frame.

    Args:
        batches: not changed.
        strength: as of `recoloured`.
        rng: the only source of randomness.
    """
    return batches if strength == 0 else _with_other_drivers(batches, strength, rng)


def moved(batches: Iterator[ReenactmentBatch], strength: float, rng: np.random.Generator) -> Iterator[ReenactmentBatch]:
    """The batches with half of all source frames turned, scaled and shifted, their landmarks along with them.

    Each by an angle of up to 60 degrees, a factor of up to exp(0.5) and a quarter of the side in x and in y, all times
    `strength`, either way, uniformly. Driving frames stay. Beyond the picture its border is repeated.

    Args:
        batches: not changed.
        strength: 0 to 1; 0 hands the batches on and draws nothing.
        rng: the only source of randomness.
    """
    return batches if strength == 0 else _moved(batches, strength, rng)


def transformed_images(image_MCHW: Tensor, map_M23: Tensor) -> Tensor:
    """[M, C, S, S] pictures under affine maps of the frame, bilinear, border repeated.

    Args:
        image_MCHW: [M, C, S, S].
        map_M23: [M, 2, 3], a place to where it goes, in half frames from the centre.
    """
    inverse_M22 = torch.linalg.inv(map_M23[:, :, :2])
    back_M23 = torch.cat([inverse_M22, -inverse_M22 @ map_M23[:, :, 2:]], dim=2)
    grid = functional.affine_grid(back_M23, list(image_MCHW.shape), align_corners=False)
    return functional.grid_sample(image_MCHW, grid, padding_mode="border", align_corners=False)


def transformed_landmarks(landmarks_MKC: Tensor, map_M23: Tensor, size_px: int) -> Tensor:
    """[M, 68, 2] pixels under the maps of `transformed_images` of a frame of that side."""
    places_MKC = to_normalised(landmarks_MKC, size_px) @ map_M23[:, :, :2].transpose(1, 2)
    return to_pixels(places_MKC + map_M23[:, :, 2:].transpose(1, 2), size_px)


def _recoloured(
    batches: Iterator[ReenactmentBatch], strength: float, rng: np.random.Generator
) -> Iterator[ReenactmentBatch]:
    for batch in batches:
        colours = _random_colours(len(batch), strength, rng)
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


def _random_colours(num: int, strength: float, rng: np.random.Generator) -> Tensor:
    """[num, 3, 4] affine maps."""
    map_N34 = rng.normal(0.0, strength, (num, 3, 4)).astype(np.float32)
    map_N34[:, :, :3] += np.eye(3, dtype=np.float32)
    return torch.from_numpy(map_N34)


def _with_other_drivers(
    batches: Iterator[ReenactmentBatch], strength: float, rng: np.random.Generator
) -> Iterator[ReenactmentBatch]:
    for batch in batches:
        yield replace(batch, driver_NCHW=_apply(_random_colours(len(batch), strength, rng), batch.driving_NCHW))


def _moved(
    batches: Iterator[ReenactmentBatch], strength: float, rng: np.random.Generator
) -> Iterator[ReenactmentBatch]:
    for batch in batches:
        inputs = batch.generator_inputs()
        images_MCHW, landmarks_MKC = inputs.all_sources()
        maps_M23 = _random_similarities(len(images_MCHW), strength, rng)
        yield batch.with_sources(
            transformed_images(images_MCHW, maps_M23),
            transformed_landmarks(landmarks_MKC, maps_M23, images_MCHW.shape[-1]),
            transformed_images(inputs.all_source_heatmaps(), maps_M23),
        )


def _random_similarities(num: int, strength: float, rng: np.random.Generator) -> Tensor:
    """[num, 2, 3]; the rest are identities."""
    angle_M, log_scale_M, x_M, y_M = rng.uniform(-strength, strength, (4, num)) * (rng.random(num) < _MOVED_SHARE)
    scale_M = np.exp(_MOST_LOG_SCALE * log_scale_M)
    a_M, b_M = scale_M * np.cos(_MOST_TURN_RAD * angle_M), scale_M * np.sin(_MOST_TURN_RAD * angle_M)
    rows = [[a_M, -b_M, _MOST_SHIFT * x_M], [b_M, a_M, _MOST_SHIFT * y_M]]
    return torch.from_numpy(np.array(rows, np.float32).transpose(2, 0, 1))
