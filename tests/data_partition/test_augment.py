from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from data_partition.augment import recoloured
from model.batch import FurtherSources
from tests.model.conftest import make_batch


def test_source_and_driving_of_a_pair_get_the_same_colours_and_pairs_different_ones() -> None:
    batch = make_batch(0)
    batch.source_NCHW.mul_(0.1)
    batch.driving_NCHW.copy_(batch.source_NCHW)
    batch.source_NCHW[1] = batch.driving_NCHW[1] = batch.source_NCHW[0]
    changed = next(recoloured(iter([batch]), 0.2, np.random.default_rng(0)))
    assert torch.equal(changed.source_NCHW, changed.driving_NCHW)
    assert (changed.source_NCHW[0] - changed.source_NCHW[1]).abs().max() > 0.01
    assert (changed.source_NCHW - batch.source_NCHW).abs().max() > 0.01


def test_change_is_affine_in_the_colours_of_each_pixel() -> None:
    batch = make_batch(0)
    batch.source_NCHW.mul_(0.1)
    changed = next(recoloured(iter([batch]), 0.2, np.random.default_rng(0)))
    before = torch.cat([batch.source_NCHW[0].flatten(1).T, torch.ones(32 * 32, 1)], dim=1)
    after = changed.source_NCHW[0].flatten(1).T
    fitted = before @ torch.linalg.lstsq(before, after).solution
    torch.testing.assert_close(fitted, after, atol=1e-4, rtol=0)


def test_values_stay_in_range_the_batch_is_left_alone_and_seeds_repeat() -> None:
    batch = make_batch(0)
    before = batch.source_NCHW.clone()
    first, second = (next(recoloured(iter([batch]), 0.9, np.random.default_rng(5))) for _ in range(2))
    assert first.source_NCHW.abs().max() <= 1
    assert torch.equal(batch.source_NCHW, before)
    assert torch.equal(first.source_NCHW, second.source_NCHW)
    assert torch.equal(first.driving_landmarks_NKC, batch.driving_landmarks_NKC)


def test_strength_zero_changes_nothing_and_draws_nothing() -> None:
    batch, rng = make_batch(0), np.random.default_rng(1)
    assert next(recoloured(iter([batch]), 0.0, rng)) is batch
    assert rng.random() == np.random.default_rng(1).random()


def test_all_sources_of_a_pair_get_its_colours() -> None:
    batch = make_batch(0)
    image_NRCHW = batch.driving_NCHW[:, None].repeat(1, 3, 1, 1, 1)
    batch = replace(batch, further=FurtherSources(image_NRCHW=image_NRCHW, landmarks_NRKC=torch.zeros(2, 3, 68, 2)))
    changed = next(recoloured(iter([batch]), 0.2, np.random.default_rng(0)))
    for index in range(3):
        torch.testing.assert_close(changed.further.image_NRCHW[:, index], changed.driving_NCHW)
    assert not torch.equal(changed.driving_NCHW, batch.driving_NCHW)
