"""Settings of the data."""

from __future__ import annotations

from dataclasses import dataclass

from data_partition.consent.kinds import WithoutConsent
from model.setting import Leeway, check_meanings, setting

MIN_FRAMES_OF_BASE = 60
"""Training frames of a site from which on the sums for a base of the landmark GAN hold fewer numbers than the frames'
landmarks, poses and action units: 8,774 against 155 a frame. With secure-aggregation the half that is summed counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Where frames come from and how they are dealt to clients."""

    data_dir: str = setting("", may_change=True, shapes_result=False, leeway=Leeway.ANY)
    """Absolute path of a prepared dataset (one folder per identity). In deployment a site's own node config wins."""
    without_consent: str = setting(
        "", choices=("", *WithoutConsent), may_change=True, shapes_result=False, leeway=Leeway.ANY
    )
    """What people without a record of consent are: synthetic (nobody is shown) or public (published for this kind of
    use); without it training on this machine refuses them. A deployed site's own node config says it, never a run."""
    partitioner: str = setting("identity", choices=("identity", "iid", "dirichlet"))
    """identity (one identity each), iid or dirichlet."""
    dirichlet_alpha: float = setting(0.5, low=0.001, high=1_000_000)
    """Concentration of the Dirichlet partitioner; smaller is more skewed."""
    colour_jitter: float = setting(0.0, low=0, high=2)
    """+ Strength of random colours of training pairs; 0 is off."""
    driver_colour_jitter: float = setting(0.0, low=0, high=2)
    """+ Strength of further random colours of driving frames, as the generator sees them in training; 0 is off."""
    motion_jitter: float = setting(0.0, low=0, high=1)
    """+ Strength of random turns, scales and shifts of half of the source frames in training; 1 is up to 60 degrees, a
    factor of 1.65 and a quarter of the side; 0 is off."""

    def __post_init__(self) -> None:
        """Check ranges."""
        check_meanings(self)
