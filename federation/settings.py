"""Settings of the federation, and all settings of a run together.

A preset is a TOML file of their kebab-case keys.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from data_partition.config import DataConfig
from federation.secure_sum.num_sites import MAX_SITES, fewest_in_sum
from model.config import LossConfig, ModelConfig, OptimizerConfig, config_from_flat
from model.errors import ConfigError, did_you_mean
from model.files import read_toml
from model.setting import WEEK_S, Leeway, Meaning, Scalar, check, check_meanings, meanings_of, setting


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundsConfig:
    """Rounds of FedGAN (Algorithm 1), and when they end."""

    num_clients: int = setting(5, low=1, high=4096)
    """Sites that take part."""
    min_fit_clients: int = setting(5, low=1, high=4096, may_change=True, leeway=Leeway.AT_LEAST)
    """Valid updates below which a round is not aggregated."""
    local_steps: int = setting(100, low=1, high=10_000_000)
    """E: local update steps of each client in a round."""
    tau: float = setting(3.0, low=0, high=1000000000.0, may_change=True, leeway=Leeway.ANY)
    """Threshold of the stopping rule Var(L_G) < tau; 0 never stops early. Rounds before all terms of L_G have joined
    and grown (flow-warmup-steps, adversarial-...-steps) do not count."""
    variance_window: int = setting(5, low=1, high=1000, leeway=Leeway.ANY)
    """Rounds whose L_G enter the variance; also the minimum number of such rounds."""
    max_rounds: int = setting(100, low=1, high=10_000, may_change=True, leeway=Leeway.AT_MOST)
    """Hard limit."""
    proximal_mu: float = setting(0.0, low=0, high=10_000, least_if_on=1e-06)
    """+ FedProx (Li et al. 2020): weight of the squared distance of local to global weights; 0 is off."""
    server_learning_rate: float = setting(1.0, low=0.01, high=10)
    """+ How far the server goes with the generator's networks towards what a round's updates give: 1 is all the way,
    plain averaging; 2 is twice as far (Reddi et al. 2021, FedOpt with SGD). Discriminators, and rows of identity
    embeddings, stay at 1, and so does centralized training."""
    server_ema_decay: float = setting(0.0, low=0, high=0.9999, leeway=Leeway.ANY)
    """+ Exponential averaging over rounds of the global weights, for evaluation and export only; 0 is off. In round r
    (1 + r) / (10 + r) at most, so that a short run is no average with its beginning."""
    update_codec: str = setting("float32", choices=("float32", "bfloat16", "int8"), may_change=True)
    """+ How weights travel: whole as float32, or, both ways, as steps with values rounded to bfloat16 or int8. A site
    adds what rounding took to its next step. Under secure-aggregation both send 32 bits a value up, in place of 64."""
    seed: int = setting(0, low=0, high=2**63 - 1)
    """Seed of initial weights, pair sampling and every other random choice."""

    def __post_init__(self) -> None:
        """Check every value by itself and those that must fit each other."""
        check_meanings(self)
        check(
            self.min_fit_clients <= self.num_clients,
            "min_fit_clients",
            self.min_fit_clients,
            f"at most num-clients = {self.num_clients}",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitingConfig:
    """How long a server waits for sites, and a site for its own training."""

    round_timeout_s: float = setting(3600.0, low=0.001, high=WEEK_S, may_change=True, leeway=Leeway.ANY)
    """Longest wait for the clients of one round."""
    quorum_timeout_s: float = setting(1800.0, low=0, high=4 * WEEK_S, may_change=True, leeway=Leeway.ANY)
    """Longest wait, with fewer than min_fit_clients valid updates, for sites to come back; the round is repeated
    meanwhile. 0 ends the run at once."""
    local_time_limit_s: float = setting(0.0, low=0, high=WEEK_S, least_if_on=1, may_change=True)
    """Seconds after which a client sends what it has, at the end of a step; 0 is no limit. Its weight stays its number
    of frames: fewer steps make a smaller update already, and a smaller weight besides would count that twice (Wang et
    al. 2020, FedNova)."""

    def __post_init__(self) -> None:
        """Check every value by itself and those that must fit each other."""
        check_meanings(self)
        check(
            self.local_time_limit_s < self.round_timeout_s,
            "local_time_limit_s",
            self.local_time_limit_s,
            f"less than round-timeout-s = {self.round_timeout_s:g} seconds",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DefenceConfig:
    """What the server does about updates of sites that fail, lie or differ."""

    aggregation: str = setting("mean", choices=("mean", "median", "trimmed-mean", "krum"), may_change=True)
    """+ How updates become the new networks: mean (weighted by frames: FedGAN), or per coordinate the median or
    trimmed-mean, or krum, the update nearest to the others'; the last three weigh all sites the same, and take the
    median of what sites say of L_G and L_D. Rows of identity embeddings are always the weighted mean over their owners.
    See docs/attacks.md."""
    max_norm_ratio: float = setting(5.0, low=0, high=1_000_000, may_change=True)
    """+ An update whose step is longer than this many times the round's median is left out; 0 is no limit. Steps of
    sites that local-time-limit-s cut short are compared as if they had gone on. Needs three updates, as the next three
    do. Not applied under secure_aggregation, where nobody sees single updates."""
    max_weight_ratio: float = setting(2.0, low=0, high=1_000_000, may_change=True)
    """+ A site's number of frames, which is what it says of itself, counts at most this many times the median of the
    round's accepted sites; 0 is no limit. Not applied under secure_aggregation."""
    min_cosine: float = setting(-1.0, low=-1, high=1, may_change=True)
    """+ An update whose step has a smaller cosine to the direction of the others' is left out; -1 is no limit."""
    max_loss_deviation: float = setting(0.0, low=0, high=1_000_000, may_change=True)
    """+ An update whose L_G or L_D is further from the others' median than this many of their spreads (scaled median
    absolute deviations, at least 5% of the median) is left out; 0 is no limit."""
    quarantine_after: int = setting(3, low=0, high=1_000_000, may_change=True)
    """+ Unusable or screened updates of a site in a row after which it is not asked for a while; 0 is never."""
    quarantine_rounds: int = setting(10, low=1, high=1_000_000, may_change=True)
    """+ Rounds for which it is not asked."""

    def __post_init__(self) -> None:
        """Check every value by itself and those that must fit each other."""
        check_meanings(self)
        ratio, is_ratio = self.max_norm_ratio, self.max_norm_ratio == 0 or self.max_norm_ratio > 1
        check(is_ratio, "max_norm_ratio", ratio, "0, or more than 1: half of all updates are longer than the median")
        weight, is_weight = self.max_weight_ratio, self.max_weight_ratio == 0 or self.max_weight_ratio >= 1
        check(is_weight, "max_weight_ratio", weight, "0, or at least 1: half of all sites have more than the median")


@dataclass(frozen=True, kw_only=True, slots=True)
class PrivacyConfig:
    """What hides a site's update, from the server or for good."""

    secure_aggregation: bool = setting(False)
    """+ Updates and losses leave a site under masks that cancel in the sum over all sites (Bonawitz et al. 2017): the
    server sees sums alone. See docs/privacy.md."""
    dp_clip_norm: float = setting(0.0, low=0, high=1_000_000)
    """+ Euclidean length to which a site clips its update before it adds noise; 0 is no differential privacy."""
    dp_noise_multiplier: float = setting(0.0, low=0, high=1_000_000)
    """+ Standard deviation of the Gaussian noise that a site adds to every weight of its update, in units of
    dp_clip_norm. See docs/privacy.md."""

    def __post_init__(self) -> None:
        """Check every value by itself and those that must fit each other."""
        check_meanings(self)
        if not self.dp_clip_norm and not self.dp_noise_multiplier:
            return
        check(
            self.dp_clip_norm > 0,
            "dp_clip_norm",
            self.dp_clip_norm,
            "> 0 with dp-noise-multiplier: noise on updates of any length promises nothing",
        )
        check(
            self.dp_noise_multiplier > 0,
            "dp_noise_multiplier",
            self.dp_noise_multiplier,
            "> 0 with dp-clip-norm: clipping alone promises nothing",
        )

    @property
    def tells_losses(self) -> bool:
        """Whether sites report their losses, in clear or in a secure sum; under differential privacy they do not."""
        return not self.dp_noise_multiplier


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """Files of a run at its server."""

    output_dir: str = setting("", may_change=True, shapes_result=False, leeway=Leeway.ANY)
    """Absolute path of the run folder: checkpoints, history, settings, client states."""
    sites_file: str = setting("", may_change=True, leeway=Leeway.ANY)
    """Absolute path, at the server, of the file that `fedreenact register` writes: which key is which site. If it is
    empty, as in a simulation, a site is what it says it is."""
    resume: bool = setting(False, may_change=True, shapes_result=False, leeway=Leeway.ANY)
    """Continue from the newest checkpoint in output_dir instead of refusing a folder that has one."""
    keep_checkpoints: int = setting(3, low=1, high=1000, may_change=True, shapes_result=False, leeway=Leeway.AT_MOST)
    """Newest checkpoints that are kept."""
    eval_data_dir: str = setting("", may_change=True, shapes_result=False, leeway=Leeway.ANY)
    """Absolute path of a dataset at the server, never a site's, on whose held-out frames rounds are measured; empty is
    off."""
    eval_every: int = setting(1, low=1, high=1_000_000, may_change=True, shapes_result=False, leeway=Leeway.ANY)
    """Measure every n-th round on eval_data_dir."""

    def __post_init__(self) -> None:
        """Check every value by itself."""
        check_meanings(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulationConfig:
    """What Flower's simulation engine gives a client."""

    client_num_cpus: int = setting(1, low=1, high=1024, may_change=True, shapes_result=False, leeway=Leeway.ANY)
    """CPU cores that the simulation reserves for one client; as many clients train side by side as fit."""
    client_num_gpus: float = setting(0.0, low=0, high=64, may_change=True, shapes_result=False, leeway=Leeway.ANY)
    """Share of a GPU that the simulation reserves for one client; with 0 clients share the GPUs there are evenly."""

    def __post_init__(self) -> None:
        """Check every value by itself."""
        check_meanings(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """All settings of a run; the flat run-config of Flower and this object carry the same information."""

    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    rounds: RoundsConfig = dataclasses.field(default_factory=RoundsConfig)
    waiting: WaitingConfig = dataclasses.field(default_factory=WaitingConfig)
    defence: DefenceConfig = dataclasses.field(default_factory=DefenceConfig)
    privacy: PrivacyConfig = dataclasses.field(default_factory=PrivacyConfig)
    run: RunConfig = dataclasses.field(default_factory=RunConfig)
    simulation: SimulationConfig = dataclasses.field(default_factory=SimulationConfig)

    def __post_init__(self) -> None:
        """Refuse a promise that would not hold, and a defence that could not work."""
        few = self.rounds.min_fit_clients
        check(
            self.defence.aggregation == "mean" or few >= 3,
            "min_fit_clients",
            few,
            f"at least 3 with aggregation {self.defence.aggregation}: of two updates nobody can say which is wrong",
        )
        if self.privacy.secure_aggregation:
            self._check_secure()
        if not self.privacy.tells_losses:
            deviation, tau = self.defence.max_loss_deviation, self.rounds.tau
            check(not deviation, "max_loss_deviation", deviation, "0 with dp-noise-multiplier: losses are not sent")
            check(tau == 0, "tau", tau, "0 with dp-noise-multiplier: losses, which Var(L_G) needs, are not sent")

    def _check_secure(self) -> None:
        defence, rounds = self.defence, self.rounds
        unseen = "with secure-aggregation: the server sees no single update, nor a single site's loss"
        check(defence.aggregation == "mean", "aggregation", defence.aggregation, f"mean {unseen}")
        check(defence.min_cosine == -1, "min_cosine", defence.min_cosine, f"-1 {unseen}")
        check(defence.max_loss_deviation == 0, "max_loss_deviation", defence.max_loss_deviation, f"0 {unseen}")
        check(
            rounds.num_clients <= MAX_SITES,
            "num_clients",
            rounds.num_clients,
            f"at most {MAX_SITES} with secure-aggregation",
        )
        fewest = fewest_in_sum(rounds.num_clients)
        check(
            rounds.min_fit_clients >= fewest,
            "min_fit_clients",
            rounds.min_fit_clients,
            f"at least {fewest} with secure-aggregation of {rounds.num_clients} sites: out of a smaller sum, whose "
            "sites the server chooses, it subtracts down to one update with the help of fewer than a third of them",
        )

    @classmethod
    def from_flat(cls, flat: Mapping[str, Scalar]) -> Settings:
        """Settings from kebab-case keys; keys that are absent keep their defaults.

        Raises:
            ConfigError: for an unknown key (with the nearest known one), a wrong type or a value out of range.
        """
        for key in flat:
            if key not in MEANINGS:
                raise ConfigError(f"unknown setting {key}{did_you_mean(key, MEANINGS, '; see docs/settings.md')}")
        return cls(**{name: config_from_flat(config, flat) for name, config in _CONFIGS.items()})

    def to_flat(self) -> dict[str, Scalar]:
        """Kebab-case key to scalar, in the order of the classes above."""
        return {
            name.replace("_", "-"): value
            for part in fields(self)
            for name, value in dataclasses.asdict(getattr(self, part.name)).items()
        }

    def replaced(self, changes: Mapping[str, Scalar]) -> Settings:
        """The same settings with some kebab-case keys changed."""
        return Settings.from_flat({**self.to_flat(), **changes})


_CONFIGS: dict[str, type] = {
    "model": ModelConfig,
    "loss": LossConfig,
    "optimizer": OptimizerConfig,
    "data": DataConfig,
    "rounds": RoundsConfig,
    "waiting": WaitingConfig,
    "defence": DefenceConfig,
    "privacy": PrivacyConfig,
    "run": RunConfig,
    "simulation": SimulationConfig,
}

PLACES = ("data-dir", "output-dir", "sites-file", "eval-data-dir")
"""Settings that name places on a machine; they say nothing about what was trained."""

MEANINGS: dict[str, Meaning] = dict(pair for config in _CONFIGS.values() for pair in meanings_of(config))
"""Kebab-case key of every setting to what is known of it."""


def differences(before: Mapping[str, Scalar], now: Mapping[str, Scalar]) -> dict[str, str]:
    """Keys that both have with different values, in order, and what was and is in words."""
    return {
        key: f"{key} was {before[key]!r}, now {now[key]!r}"
        for key in sorted(before.keys() & now.keys())
        if before[key] != now[key]
    }


def to_toml(flat: Mapping[str, Scalar]) -> str:
    """Flat settings as TOML, one a line."""
    return "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in flat.items())


def read_preset(path: Path) -> dict[str, Scalar]:
    """The flat keys of a preset TOML file.

    Raises:
        ConfigError: if the file is missing or is not TOML of scalars.
    """
    try:
        return read_toml(path)
    except FileNotFoundError as error:
        raise ConfigError(f"preset file {path} does not exist") from error
    except ValueError as error:
        raise ConfigError(f"preset file {path} is not valid TOML: {error}") from error
