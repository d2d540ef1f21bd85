"""Settings of the federation, and all settings of a run together.

A preset is a TOML file of their kebab-case keys.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from data_partition.config import DataConfig
from federation.secure_sum.masking import MAX_SITES, MIN_SITES
from model.bounds import check_bounds
from model.config import LossConfig, ModelConfig, OptimizerConfig, Scalar, check, check_choice, config_from_flat
from model.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class FederationConfig:
    """FedGAN (Algorithm 1) and its run."""

    num_clients: int = 5
    """Sites that take part."""
    min_fit_clients: int = 5
    """Valid updates below which a round is not aggregated."""
    local_steps: int = 100
    """E: local update steps of each client in a round."""
    tau: float = 3.0
    """Threshold of the stopping rule Var(L_G) < tau; 0 never stops early."""
    variance_window: int = 5
    """Rounds whose L_G enter the variance; also the minimum number of rounds."""
    max_rounds: int = 100
    """Hard limit."""
    round_timeout_s: float = 3600.0
    """Longest wait for the clients of one round."""
    quorum_timeout_s: float = 1800.0
    """Longest wait, with fewer than min_fit_clients valid updates, for sites to come back; the round is repeated
    meanwhile. 0 ends the run at once."""
    local_time_limit_s: float = 0.0
    """Seconds after which a client sends what it has, at the end of a step; 0 is no limit. Its weight stays its number
    of frames: fewer steps make a smaller update already, and a smaller weight besides would count that twice (Wang et
    al. 2020, FedNova)."""
    server_ema_decay: float = 0.0
    """+ Exponential averaging over rounds of the global weights, for evaluation and export only; 0 is off."""
    proximal_mu: float = 0.0
    """+ FedProx (Li et al. 2020): weight of the squared distance of local to global weights; 0 is off."""
    aggregation: str = "mean"
    """+ How updates become the new networks: mean (weighted by frames: FedGAN), or per coordinate the median or
    trimmed-mean, or krum, the update nearest to the others'; the last three weigh all sites the same. Rows of identity
    embeddings are always the weighted mean over their owners. See docs/attacks.md."""
    max_norm_ratio: float = 5.0
    """+ An update whose step is longer than this many times the round's median is left out; 0 is no limit. Needs three
    updates, as the next three do. Not applied under secure_aggregation, where nobody sees single updates."""
    max_weight_ratio: float = 2.0
    """+ A site's number of frames, which is what it says of itself, counts at most this many times the median of the
    round's accepted sites; 0 is no limit. Not applied under secure_aggregation."""
    min_cosine: float = -1.0
    """+ An update whose step has a smaller cosine to the direction of the others' is left out; -1 is no limit."""
    max_loss_deviation: float = 0.0
    """+ An update whose L_G or L_D is further from the others' median than this many of their spreads (scaled median
    absolute deviations, at least 5% of the median) is left out; 0 is no limit."""
    quarantine_after: int = 3
    """+ Unusable or screened updates of a site in a row after which it is not asked for a while; 0 is never."""
    quarantine_rounds: int = 10
    """+ Rounds for which it is not asked."""
    secure_aggregation: bool = False
    """+ Updates and losses leave a site under masks that cancel in the sum over all sites (Bonawitz et al. 2017): the
    server sees sums alone. See docs/privacy.md."""
    dp_clip_norm: float = 0.0
    """+ Euclidean length to which a site clips its update before it adds noise; 0 is no differential privacy."""
    dp_noise_multiplier: float = 0.0
    """+ Standard deviation of the Gaussian noise that a site adds to every weight of its update, in units of
    dp_clip_norm. See docs/privacy.md."""
    seed: int = 0
    """Seed of initial weights, pair sampling and every other random choice."""
    sites_file: str = ""
    """Absolute path, at the server, of the file that `fedreenact register` writes: which key is which site. If it is
    empty, as in a simulation, a site is what it says it is."""
    output_dir: str = ""
    """Absolute path of the run folder: checkpoints, history, settings, client states."""
    resume: bool = False
    """Continue from the newest checkpoint in output_dir instead of refusing a folder that has one."""
    keep_checkpoints: int = 3
    """Newest checkpoints that are kept."""
    client_num_cpus: int = 1
    """CPU cores that the simulation reserves for one client; as many clients train side by side as fit."""
    eval_every: int = 1
    """Measure every n-th round on eval_data_dir."""
    client_num_gpus: float = 0.0
    """Share of a GPU that the simulation reserves for one client; with 0 clients share the GPUs there are evenly."""

    def __post_init__(self) -> None:
        """Check ranges and that the quorum can be met."""
        check_bounds(self)
        check(
            self.local_time_limit_s < self.round_timeout_s,
            "local_time_limit_s",
            self.local_time_limit_s,
            f"less than round-timeout-s = {self.round_timeout_s:g} seconds",
        )
        check(
            self.min_fit_clients <= self.num_clients,
            "min_fit_clients",
            self.min_fit_clients,
            f"at most num-clients = {self.num_clients}",
        )
        self._check_defences()
        self._check_privacy()

    def _check_defences(self) -> None:
        check_choice(self, "aggregation", ("mean", "median", "trimmed-mean", "krum"))
        ratio, is_ratio = self.max_norm_ratio, self.max_norm_ratio == 0 or self.max_norm_ratio > 1
        check(is_ratio, "max_norm_ratio", ratio, "0, or more than 1: half of all updates are longer than the median")
        weight, is_weight = self.max_weight_ratio, self.max_weight_ratio == 0 or self.max_weight_ratio >= 1
        check(is_weight, "max_weight_ratio", weight, "0, or at least 1: half of all sites have more than the median")
        check(
            self.aggregation == "mean" or self.min_fit_clients >= 3,
            "min_fit_clients",
            self.min_fit_clients,
            f"at least 3 with aggregation {self.aggregation}: of two updates nobody can say which is wrong",
        )
        check(
            not self.max_loss_deviation or self.tells_losses,
            "max_loss_deviation",
            self.max_loss_deviation,
            "0 with dp-noise-multiplier: losses are not sent",
        )

    @property
    def tells_losses(self) -> bool:
        """Whether sites report their losses, in clear or in a secure sum; under differential privacy they do not."""
        return not self.dp_noise_multiplier

    def _check_privacy(self) -> None:
        """A promise that would not hold is refused."""
        if self.secure_aggregation:
            unseen = "with secure-aggregation: the server sees no single update, nor a single site's loss"
            check(self.aggregation == "mean", "aggregation", self.aggregation, f"mean {unseen}")
            check(self.min_cosine == -1, "min_cosine", self.min_cosine, f"-1 {unseen}")
            check(self.max_loss_deviation == 0, "max_loss_deviation", self.max_loss_deviation, f"0 {unseen}")
            check(
                self.min_fit_clients >= MIN_SITES,
                "min_fit_clients",
                self.min_fit_clients,
                f"at least {MIN_SITES} with secure-aggregation: a sum of two tells each of them the other's update",
            )
            check(
                self.num_clients <= MAX_SITES,
                "num_clients",
                self.num_clients,
                f"at most {MAX_SITES} with secure-aggregation",
            )
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
        check(self.tau == 0, "tau", self.tau, "0 with dp-noise-multiplier: losses, which Var(L_G) needs, are not sent")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """All settings of a run; the flat run-config of Flower and this object carry the same information."""

    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    federation: FederationConfig = dataclasses.field(default_factory=FederationConfig)

    @classmethod
    def from_flat(cls, flat: Mapping[str, Scalar]) -> Settings:
        """Settings from kebab-case keys; keys that are absent keep their defaults.

        Raises:
            ConfigError: for an unknown key (with the nearest known one), a wrong type or a value out of range.
        """
        known = set(Settings().to_flat())
        for key in flat:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"; did you mean {near[0]}?" if near else "; see docs/settings.md"
                raise ConfigError(f"unknown setting {key}{hint}")
        return cls(
            model=config_from_flat(ModelConfig, flat),
            loss=config_from_flat(LossConfig, flat),
            optimizer=config_from_flat(OptimizerConfig, flat),
            data=config_from_flat(DataConfig, flat),
            federation=config_from_flat(FederationConfig, flat),
        )

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


def read_preset(path: Path) -> dict[str, Scalar]:
    """The flat keys of a preset TOML file.

    Raises:
        ConfigError: if the file is missing or is not TOML of scalars.
    """
    try:
        with path.open("rb") as file:
            return dict(tomllib.load(file))
    except FileNotFoundError as error:
        raise ConfigError(f"preset file {path} does not exist") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"preset file {path} is not valid TOML: {error}") from error
