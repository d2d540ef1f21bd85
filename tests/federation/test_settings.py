from __future__ import annotations

from pathlib import Path

import pytest

from deploy import files
from federation.settings import RoundsConfig, Settings, read_preset
from model.config import ModelConfig
from model.errors import ConfigError

PRESETS = sorted(files.PRESETS.glob("*.toml"))


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_presets_are_valid_and_flat_form_round_trips(path: Path) -> None:
    settings = Settings.from_flat(read_preset(path))
    assert Settings.from_flat(settings.to_flat()) == settings


def test_paper_preset_is_the_default() -> None:
    paper = Settings.from_flat(read_preset(next(path for path in PRESETS if path.stem == "paper")))
    assert paper == Settings()
    assert (paper.rounds.local_steps, paper.rounds.tau) == (100, 3.0)
    assert (paper.loss.weight_l1_image, paper.loss.weight_l1_parts, paper.loss.weight_perceptual) == (
        20,
        5,
        10,
    )
    assert paper.optimizer.learning_rate_generator == paper.optimizer.learning_rate_discriminator == 1e-4


def test_thesis_defaults_have_nothing_beyond_the_thesis_switched_on() -> None:
    flat = Settings().to_flat()
    beyond = ("use-appearance-skip", "use-landmark-flow", "weight-flow-landmarks",
              "weight-flow-smoothness", "flow-warmup-steps",
              "adversarial-from-step", "colour-jitter", "driver-colour-jitter", "motion-jitter",
              "server-ema-decay", "proximal-mu")  # fmt: skip
    assert not any(flat[key] for key in beyond)
    assert (flat["face-motion"], flat["driver"]) == ("kernel", "picture")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tua": 1}, "unknown setting tua; did you mean tau?"),
        ({"tau": "3"}, r"setting tau: got '3' \(str\), wanted float"),
        ({"use-style": 1}, "wanted bool"),
        ({"local-steps": True}, "wanted int"),
        ({"local-steps": 0}, "setting local-steps: got 0, wanted 1 to 10000000"),
        ({"backbone": "cnn"}, "one of vit, resnet34"),
        ({"patch-size-px": 15}, "a divisor of image-size-px = 224"),
        ({"patch-size-px": 32, "image-size-px": 64, "flow-seed-px": 8}, "leaves 4 to 64 patches along a side"),
        ({"patch-size-px": 2}, "leaves 4 to 64 patches along a side"),
        ({"device": "meta"}, "setting device: got 'meta', wanted auto, cpu, cuda or cuda:N"),
        ({"flow-seed-px": 9}, "power of two"),
        ({"min-fit-clients": 6}, "at most num-clients = 5"),
    ],
)
def test_bad_settings_say_what_was_wanted(changes: dict[str, int | str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Settings().replaced(changes)


@pytest.mark.parametrize(("num_sites", "fewest"), [(3, 3), (5, 3), (6, 3), (7, 4), (10, 5), (64, 23)])
def test_a_secure_sum_has_two_sites_more_than_may_help_the_server(num_sites: int, fewest: int) -> None:
    """Fewer than a third of all sites: the server may choose them into every sum."""
    assert fewest - (num_sites - 1) // 3 >= 2
    secure = {"secure-aggregation": True, "num-clients": num_sites, "min-fit-clients": fewest}
    assert Settings.from_flat(secure).rounds.min_fit_clients == fewest
    words = f"min-fit-clients: got {fewest - 1}, wanted at least {fewest} with secure-aggregation of {num_sites} sites"
    with pytest.raises(ConfigError, match=words):
        Settings.from_flat(secure | {"min-fit-clients": fewest - 1})


def test_whole_numbers_are_accepted_where_a_float_is_wanted() -> None:
    assert Settings.from_flat({"tau": 2}).rounds == RoundsConfig(tau=2.0)


def test_preset_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing.toml does not exist"):
        read_preset(tmp_path / "nothing.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("tau = ")
    with pytest.raises(ConfigError, match="not valid TOML"):
        read_preset(broken)


def test_direct_construction_is_checked_too() -> None:
    with pytest.raises(ConfigError, match="image-size-px"):
        ModelConfig(image_size_px=16)
