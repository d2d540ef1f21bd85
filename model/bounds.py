"""Least and greatest value of every numeric setting: what one process can hold, and what a training can mean.

A site computes with the settings that a server sends, so none of them may be without an end.
"""

from __future__ import annotations

from dataclasses import fields

from model.errors import ConfigError

_WEEK_S = 7 * 24 * 3600.0
_LONGEST = 1_000_000

BOUNDS: dict[str, tuple[float, float]] = {
    "image_size_px": (32, 1024),
    "num_identities": (1, 4096),
    "patch_size_px": (2, 32),
    "embed_dim": (8, 2048),
    "num_vit_layers": (1, 24),
    "flow_seed_px": (2, 64),
    "flow_channels": (8, 1024),
    "generator_channels": (2, 512),
    "num_intermediate_blocks": (1, 32),
    "style_dim": (4, 4096),
    "part_channels": (2, 512),
    "discriminator_channels": (2, 512),
    "num_discriminator_layers": (1, 6),
    "lgan_dim": (4, 4096),
    "weight_l1_image": (0, 1e4),
    "weight_l1_parts": (0, 1e4),
    "weight_adversarial": (0, 1e4),
    "weight_feature_matching": (0, 1e4),
    "weight_perceptual": (0, 1e4),
    "weight_landmark_regression": (0, 1e4),
    "weight_flow_landmarks": (0, 1e4),
    "weight_flow_smoothness": (0, 1e4),
    "weight_lgan_l1": (0, 1e4),
    "weight_lgan_adversarial": (0, 1e4),
    "perceptual_levels": (1, 5),
    "perceptual_every": (1, 1000),
    "flow_warmup_steps": (0, 10 * _LONGEST),
    "adversarial_from_step": (0, 10 * _LONGEST),
    "learning_rate_generator": (1e-7, 0.1),
    "learning_rate_discriminator": (1e-7, 0.1),
    "adam_beta1": (0, 0.999),
    "batch_size": (1, 1024),
    "num_threads": (1, 256),
    "dirichlet_alpha": (1e-3, 1e6),
    "colour_jitter": (0, 2),
    "num_clients": (1, 4096),
    "min_fit_clients": (1, 4096),
    "local_steps": (1, 100_000),
    "tau": (0, 1e9),
    "variance_window": (1, 1000),
    "max_rounds": (1, 10_000),
    "round_timeout_s": (0.1, _WEEK_S),
    "quorum_timeout_s": (0, 4 * _WEEK_S),
    "local_time_limit_s": (0, _WEEK_S),
    "server_ema_decay": (0, 0.9999),
    "proximal_mu": (0, 1e4),
    "max_norm_ratio": (0, 1e6),
    "max_weight_ratio": (0, 1e6),
    "min_cosine": (-1, 1),
    "max_loss_deviation": (0, 1e6),
    "quarantine_after": (0, _LONGEST),
    "quarantine_rounds": (1, _LONGEST),
    "dp_clip_norm": (0, 1e6),
    "dp_noise_multiplier": (0, 1e6),
    "seed": (0, 2**63 - 1),
    "keep_checkpoints": (1, 1000),
    "client_num_cpus": (1, 1024),
    "client_num_gpus": (0, 64),
    "eval_every": (1, _LONGEST),
}
"""Name of a setting's field to the least and the greatest value."""

SMALLEST_IF_ON: dict[str, float] = {
    **{name: 0.01 for name in BOUNDS if name.startswith("weight_")},
    "proximal_mu": 1e-6,
    "local_time_limit_s": 1.0,
}
"""Least value besides 0 of settings of which 0 means off.

A term with next to no weight keeps Adam's step proportional to the gradient, from which frames can be computed back;
so does a round that ends after its first step.
"""


def bounds_in_words(name: str) -> str:
    """For example "1 to 100", or "0, or 0.01 to 10000"; empty for a field without bounds."""
    if name not in BOUNDS:
        return ""
    low, high = BOUNDS[name]
    if name in SMALLEST_IF_ON:
        return f"0, or {SMALLEST_IF_ON[name]:g} to {_shown(high)}"
    return f"{_shown(low)} to {_shown(high)}"


def check_bounds(config: object) -> None:
    """Check every numeric field of a configuration dataclass.

    Raises:
        ConfigError: naming the first value that is out of bounds or not a finite number, and the bounds.
    """
    for field in fields(config):  # type: ignore[arg-type]
        value = getattr(config, field.name)
        if isinstance(value, int | float) and not isinstance(value, bool) and not is_within(field.name, value):
            key = field.name.replace("_", "-")
            raise ConfigError(f"setting {key}: got {value!r}, wanted {bounds_in_words(field.name)}")


def is_within(name: str, value: float) -> bool:
    """Whether a field may have the value; never true for NaN."""
    low, high = BOUNDS[name]
    is_off = value == 0 and name in SMALLEST_IF_ON
    return is_off or max(low, SMALLEST_IF_ON.get(name, low)) <= value <= high


def _shown(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"
