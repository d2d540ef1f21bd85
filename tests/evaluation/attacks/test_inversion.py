from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from data_partition.partition import ClientData, site_data
from data_partition.shards.shard import Shard
from evaluation.attacks.inversion import (
    POSITION,
    WEIGHT,
    Targets,
    can_invert,
    gradients_of,
    inverted,
    local_update,
    patches_from,
    projections,
    round_batches,
    set_near_trap,
    set_threshold,
    set_trap,
    summed,
)
from federation.reach import check_reach
from federation.settings import Settings
from model.designs.registry import build_networks
from model.errors import UnknownWeightsError
from model.landmarks.geometry import PartSizes
from model.networks.bundle import Networks
from model.setting import Scalar
from tests.support.federated_setup import GLR, minimal_settings
from tests.support.shards import write_random_shard

SIZES = PartSizes.from_mean(np.full((4, 2), 8.0), 32)


@pytest.fixture
def shards(tmp_path: Path) -> list[Shard]:
    return [write_random_shard(tmp_path / "data", f"person-{i}", num_frames=20, seed=i) for i in range(2)]


def _settings(tmp_path: Path, **changes: Scalar) -> Settings:
    """Wide enough that 16 patches have gradients of 16 directions; eight steps of two pairs."""
    usual: dict[str, Scalar] = {"embed_dim": 64, "local_steps": 8, "num_vit_layers": 3}
    return minimal_settings(tmp_path / "data", tmp_path / "run", 2, **(GLR | usual | changes))


def _networks(settings: Settings) -> Networks:
    return build_networks(settings.model, SIZES, seed=3)


def _sprung(settings: Settings, site: ClientData, projection: torch.Tensor) -> dict[str, np.ndarray]:
    networks = _networks(settings)
    set_trap(networks, seed=0)
    set_threshold(networks, projection)
    batches = round_batches(site, settings, 0)
    rng = np.random.default_rng(0)
    return local_update(networks, batches, settings, perceptual=None, first_step=0, rng=rng).steps


def _projections(settings: Settings, site: ClientData) -> torch.Tensor:
    networks = _networks(settings)
    set_trap(networks, seed=0)
    return torch.cat([projections(networks, batch) for batch in round_batches(site, settings, 0)])


def test_inputs_of_a_linear_layer_follow_from_its_gradients():
    rng = np.random.default_rng(0)
    patches_PF, gradient_PD = rng.normal(size=(4, 9)), rng.normal(size=(4, 6))
    weight_DF = sum(np.outer(gradient, patch) for gradient, patch in zip(gradient_PD, patches_PF, strict=True))
    assert patches_from(weight_DF, gradient_PD, 1e-9) == pytest.approx(patches_PF)


def test_likeness_fits_brightness_and_contrast_and_knows_the_nearest_frame():
    frames = np.random.default_rng(0).uniform(0, 255, (3, 16, 16))
    targets = Targets(frames)
    found = targets.likeness(0.1 * frames[1] - 7)
    assert found.target == 1 and found.psnr_db > 100 and found.ssim == pytest.approx(1, abs=1e-3)
    deviation = frames[1].std()
    negative = targets.likeness(-frames[1], target=1)
    assert negative.psnr_db == pytest.approx(20 * np.log10(255 / deviation))  # no better than a flat grey


def test_gradient_of_one_frame_is_that_frame(shards, tmp_path):
    settings = _settings(tmp_path)
    batch = next(round_batches(site_data(shards[0], 0), settings, 0))
    gradients = gradients_of(_networks(settings), batch.source_NCHW[:1], batch.source_landmarks_NKC[:1])
    targets = Targets.of(shards[:1], 32)
    _, found = inverted(gradients, targets, 32)
    assert found.psnr_db > 40
    assert targets.likeness(targets.mean_HW, found.target).psnr_db < 20


@pytest.mark.integration
def test_trap_reads_one_frame_of_a_round_and_of_the_sum_of_rounds(shards, tmp_path):
    settings = _settings(tmp_path)
    sites = [site_data(shard, index) for index, shard in enumerate(shards)]
    together = torch.cat([_projections(settings, site) for site in sites])
    steps = [_sprung(settings, site, together) for site in sites]
    reached = [float(np.abs(step[POSITION]).max()) for step in steps]
    assert min(reached) == 0 < max(reached)  # no frame of the other site has a gradient
    targets = Targets.of(shards, 32)
    for seen in (steps[int(np.argmax(reached))], summed(steps, [18.0, 18.0])):
        _, found = inverted(seen, targets, 32)
        guess = targets.likeness(targets.mean_HW, found.target)
        assert found.psnr_db > guess.psnr_db + 6


@pytest.mark.parametrize("is_near", [False, True])
def test_trap_within_reach_or_beyond_gives_an_update_that_no_deployed_site_sends(shards, tmp_path, is_near):
    settings = _settings(tmp_path, local_steps=12, learning_rate_generator=4e-3)
    networks = _networks(settings)
    site, known = site_data(shards[0], 0), networks.travelling_tensors()
    if is_near:
        set_near_trap(networks, settings, num_rounds=1, seed=0)
    else:
        set_trap(networks, seed=0)
    set_threshold(networks, torch.cat([projections(networks, b) for b in round_batches(site, settings, 0)]))
    trap = networks.travelling_tensors()
    if is_near:
        check_reach(trap, known, settings, 5, num_rounds=1, known="before")
    else:
        with pytest.raises(UnknownWeightsError):
            check_reach(trap, known, settings, 5, num_rounds=1, known="before")
    batches, rng = round_batches(site, settings, 0), np.random.default_rng(0)
    update = local_update(networks, batches, settings, perceptual=None, first_step=0, rng=rng)
    assert "from few of the steps" in update.one_sided


@pytest.mark.integration
def test_honest_round_and_noised_round_give_no_frame_away(shards, tmp_path):
    site, targets = site_data(shards[0], 0), Targets.of(shards[:1], 32)
    honest, noised = _settings(tmp_path), _settings(tmp_path, dp_clip_norm=1.0, dp_noise_multiplier=0.01)
    batches = round_batches(site, honest, 0)
    rng = np.random.default_rng(0)
    update = local_update(_networks(honest), batches, honest, perceptual=None, first_step=0, rng=rng)
    assert update.one_sided == ""
    for seen in (update.steps, _sprung(noised, site, _projections(noised, site))):
        _, found = inverted(seen, targets, 32)
        assert found.psnr_db < targets.likeness(targets.mean_HW, found.target).psnr_db + 1


def test_sum_weighs_by_frames_in_fixed_point():
    sites = [
        {WEIGHT: np.array([[0.5]]), POSITION: np.array([[2.0**-27]])},
        {WEIGHT: np.ones((1, 1)), POSITION: np.zeros((1, 1))},
    ]
    found = summed(sites, [3.0, 1.0])
    assert found[WEIGHT][0, 0] == pytest.approx((3 * 0.5 + 1) / 4)
    assert found[POSITION][0, 0] == 0  # 3 * 2^-27 is less than half of 2^-24


def test_rounds_repeat_and_are_of_the_asked_length(shards, tmp_path):
    settings, site = _settings(tmp_path), site_data(shards[0], 0)
    one, other = (list(islice(round_batches(site, settings, 4), 100)) for _ in range(2))
    assert len(one) == 8
    assert all(torch.equal(a.source_NCHW, b.source_NCHW) for a, b in zip(one, other, strict=True))


def test_networks_without_positions_are_said_to_be_out_of_reach(tmp_path):
    assert can_invert(_settings(tmp_path))
    assert not can_invert(_settings(tmp_path, backbone="resnet34"))
    assert not can_invert(_settings(tmp_path, network="x2face"))
