from __future__ import annotations

import math

import pytest

from federation.settings import MEANINGS, Settings
from model.designs.registry import build_networks, travelling_bytes
from model.errors import ConfigError
from model.landmarks.geometry import PartSizes

NUMERIC = {
    key: value
    for key, value in Settings().to_flat().items()
    if isinstance(value, int | float) and not isinstance(value, bool)
}
KEYS = sorted(NUMERIC)


def test_every_numeric_setting_has_bounds_and_nothing_else_has() -> None:
    assert {key for key, meaning in MEANINGS.items() if meaning.low is not None and meaning.high is not None} == set(
        KEYS
    )
    assert {key for key, meaning in MEANINGS.items() if meaning.least_if_on is not None} <= set(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_values_beyond_either_bound_are_refused_by_name(key: str) -> None:
    low, high = MEANINGS[key].low, MEANINGS[key].high
    assert low is not None and high is not None
    whole = isinstance(NUMERIC[key], int)
    beyond = [low - 1, high + 1 if whole else high * 1.01]
    beyond += [] if whole else [math.nan, math.inf, -math.inf]
    for value in beyond:
        with pytest.raises(ConfigError, match=f"setting {key}: got .*, wanted "):
            Settings().replaced({key: int(value) if whole else value})


@pytest.mark.parametrize("value", [1e-30, 1e-3, 0.0099])
def test_a_weight_is_nothing_or_enough_to_matter(value: float) -> None:
    with pytest.raises(ConfigError, match="weight-flow-landmarks: got .*, wanted 0, or 0.01 to 10000"):
        Settings().replaced({"weight-flow-landmarks": value})
    for good in (0.0, 0.01, 1e4):
        Settings().replaced({"weight-flow-landmarks": good})


def test_a_round_cannot_be_made_to_end_after_its_first_step() -> None:
    with pytest.raises(ConfigError, match="local-time-limit-s: got 1e-09, wanted 0, or 1 to 604800"):
        Settings().replaced({"local-time-limit-s": 1e-9})


def test_steps_of_adam_have_a_longest() -> None:
    with pytest.raises(ConfigError, match="adam-beta1: got 0.96, wanted less than the root of adam-beta2, 0.92"):
        Settings().replaced({"adam-beta1": 0.96, "adam-beta2": 0.92})
    Settings().replaced({"adam-beta1": 0.95, "adam-beta2": 0.92})


def test_bounds_in_words() -> None:
    assert MEANINGS["learning-rate-generator"].in_words() == "1e-07 to 0.1"
    assert MEANINGS["min-cosine"].in_words() == "-1 to 1"
    assert MEANINGS["backbone"].in_words() == ""
    assert not MEANINGS["tau"].allows(math.nan)


@pytest.mark.parametrize("changes", [{}, {"network": "x2face"}, {"backbone": "resnet34", "use-style": False}])
def test_the_size_of_an_update_is_known_before_the_network_is_built(changes: dict[str, str | bool]) -> None:
    config = Settings.from_flat(
        {
            "image-size-px": 32,
            "patch-size-px": 8,
            "flow-seed-px": 8,
            "embed-dim": 16,
            "generator-channels": 4,
            **changes,
        }
    ).model
    networks = build_networks(config, PartSizes((8, 8, 8, 8), (8, 8, 8, 12)), seed=0)
    assert travelling_bytes(config) == sum(array.nbytes for array in networks.travelling_tensors().values())


@pytest.mark.parametrize("sides", [(4, 8, 8, 8), (8, 8, 8, 36), (8, 8, 8, 10), (8, 8, 8, 10**9)])
def test_part_sizes_that_no_sites_could_agree_on_are_refused(sides: tuple[int, int, int, int]) -> None:
    config = Settings.from_flat({"image-size-px": 32, "patch-size-px": 8, "flow-seed-px": 8, "embed-dim": 16}).model
    with pytest.raises(ConfigError, match="wanted multiples of 4 px from 8 to 32"):
        build_networks(config, PartSizes((8, 8, 8, 8), sides), seed=0)
