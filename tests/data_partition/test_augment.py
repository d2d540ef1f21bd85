from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from data_partition.augment import moved, recoloured, transformed_images, transformed_landmarks, with_other_drivers
from model.batch import FurtherSources
from model.networks.warping import sample_at
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
    further = FurtherSources(
        image_NRCHW=image_NRCHW, landmarks_NRKC=torch.zeros(2, 3, 68, 2), heatmap_NRCHW=torch.zeros(2, 3, 1, 32, 32)
    )
    batch = replace(batch, further=further)
    changed = next(recoloured(iter([batch]), 0.2, np.random.default_rng(0)))
    for index in range(3):
        torch.testing.assert_close(changed.further.image_NRCHW[:, index], changed.driving_NCHW)
    assert not torch.equal(changed.driving_NCHW, batch.driving_NCHW)


def test_drivers_get_colours_of_their_own_and_what_is_to_be_drawn_keeps_the_sources() -> None:
    batch = make_batch(0)
    batch.driving_NCHW.mul_(0.1)
    changed = next(with_other_drivers(iter([batch]), 0.2, np.random.default_rng(0)))
    assert torch.equal(changed.driving_NCHW, batch.driving_NCHW) and torch.equal(changed.source_NCHW, batch.source_NCHW)
    seen = changed.generator_inputs().driving_NCHW
    assert (seen - batch.driving_NCHW).abs().amax(dim=(1, 2, 3)).min() > 0.01
    assert torch.equal(batch.generator_inputs().driving_NCHW, batch.driving_NCHW)


def test_a_quarter_turn_takes_pixels_and_landmarks_alike() -> None:
    image_MCHW = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    landmarks_MKC = torch.tensor([[[3.0, 0.0], [1.0, 2.0]]])  # top right; second column, third row
    quarter_M23 = torch.tensor([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]])  # x to y: clockwise on the screen
    turned = transformed_images(image_MCHW, quarter_M23)
    points = transformed_landmarks(landmarks_MKC, quarter_M23, 4)
    torch.testing.assert_close(turned, image_MCHW.rot90(-1, (2, 3)), atol=1e-5, rtol=0)
    torch.testing.assert_close(points, torch.tensor([[[3.0, 3.0], [1.0, 1.0]]]), atol=1e-5, rtol=0)


def test_a_shift_of_half_a_frame_unit_is_a_quarter_of_the_side_and_repeats_the_border() -> None:
    image_MCHW = torch.arange(8.0).expand(1, 3, 8, 8)
    shift_M23 = torch.tensor([[[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]])
    shifted = transformed_images(image_MCHW, shift_M23)
    points = transformed_landmarks(torch.tensor([[[1.0, 4.0]]]), shift_M23, 8)
    torch.testing.assert_close(shifted[0, 0, 0], torch.tensor([0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0]))
    torch.testing.assert_close(points, torch.tensor([[[3.0, 4.0]]]))


def test_about_half_of_the_sources_move_with_their_landmarks_and_driving_frames_stay() -> None:
    batch = make_batch(0, num_pairs=16)
    smooth = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, 32)] * 2, indexing="ij") * 2)[:3]
    batch.source_NCHW.copy_(smooth)
    batch.source_heatmap_NCHW.copy_(smooth[:1])
    batch.source_landmarks_NKC.clamp_(14, 18)
    changed = next(moved(iter([batch]), 0.5, np.random.default_rng(0)))
    assert changed.driving_NCHW is batch.driving_NCHW and changed.heatmap_NCHW is batch.heatmap_NCHW
    distance_N = (changed.source_landmarks_NKC - batch.source_landmarks_NKC).abs().amax(dim=(1, 2))
    assert 4 <= int((distance_N > 0.1).sum()) <= 12 and float(distance_N.max()) < 16
    before = sample_at(batch.source_NCHW, batch.source_landmarks_NKC)
    after = sample_at(changed.source_NCHW, changed.source_landmarks_NKC)
    torch.testing.assert_close(after, before, atol=0.02, rtol=0)
    torch.testing.assert_close(changed.source_heatmap_NCHW, changed.source_NCHW[:, :1])


def test_every_source_of_a_pair_moves_by_itself() -> None:
    batch = make_batch(0)
    images, landmarks = batch.driving_NCHW[:, None].repeat(1, 7, 1, 1, 1), torch.full((2, 7, 68, 2), 16.0)
    further = FurtherSources(image_NRCHW=images, landmarks_NRKC=landmarks, heatmap_NRCHW=images[:, :, :1])
    batch = replace(batch, further=further)
    changed = next(moved(iter([batch]), 1.0, np.random.default_rng(0)))
    assert changed.further.image_NRCHW.shape == images.shape
    places = changed.further.landmarks_NRKC[:, :, 0].flatten(0, 1).round(decimals=3)
    assert len(places.unique(dim=0)) > 4
    torch.testing.assert_close(changed.further.heatmap_NRCHW, changed.further.image_NRCHW[:, :, :1])


def test_motion_of_strength_zero_changes_nothing_and_draws_nothing() -> None:
    batch, rng = make_batch(0), np.random.default_rng(1)
    assert next(with_other_drivers(moved(iter([batch]), 0.0, rng), 0.0, rng)) is batch
    assert rng.random() == np.random.default_rng(1).random()
