"""How simulated clients share cards: what Flower and Ray make of a share, by their own arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from federation.settings import Settings
from model.errors import ConfigError
from server.flower.simulation import gpu_share


def settings(num_clients: int, share: float = 0.0, device: str = "auto") -> Settings:
    flat = {"num-clients": num_clients, "min-fit-clients": min(num_clients, 5)}
    return Settings.from_flat(flat | {"client-num-gpus": share, "device": device})


def num_started(share: float, num_gpus: int) -> int:
    """As `pool_size_from_resources` counts, from a share that travelled in single precision."""
    return int(num_gpus / float(np.float32(share)))


@pytest.mark.parametrize("num_gpus", [1, 2, 3, 8])
@pytest.mark.parametrize("num_clients", [1, 2, 3, 5, 6, 7, 10, 33])
def test_all_clients_fit_the_cards_side_by_side(num_clients: int, num_gpus: int) -> None:
    share = gpu_share(settings(num_clients), num_gpus)
    assert num_started(share, num_gpus) >= num_clients
    on_one_card = int(10_000 // round(share * 10_000))  # Ray's steps; a client is on one card
    assert on_one_card * num_gpus >= num_clients


@pytest.mark.parametrize("share", [0.2, 0.25, 0.1])
def test_a_share_that_was_chosen_fits_as_often_as_it_says(share: float) -> None:
    assert num_started(gpu_share(settings(10, share), 1), 1) == round(1 / share)


def test_whole_cards_and_the_cpu_are_as_they_were_chosen() -> None:
    assert gpu_share(settings(2, 1.0), 2) == 1
    assert gpu_share(settings(2, 2.0), 4) == 2
    assert gpu_share(settings(2, device="cpu"), 4) == 0
    assert gpu_share(settings(2), 0) == 0


def test_a_share_of_no_card_is_refused() -> None:
    with pytest.raises(ConfigError, match="client-num-gpus: got 0.5, but there is no GPU"):
        gpu_share(settings(2, 0.5), 0)


def test_one_card_of_several_is_chosen_by_the_environment() -> None:
    with pytest.raises(ConfigError, match="CUDA_VISIBLE_DEVICES=1 in the environment"):
        gpu_share(settings(2, device="cuda:1"), 2)
    assert gpu_share(settings(2, device="cuda:0"), 1) == pytest.approx(0.5, abs=1e-3)
