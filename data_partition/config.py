"""Settings of the data."""

from __future__ import annotations

from dataclasses import dataclass

from model.bounds import check_bounds
from model.config import check_choice


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
        check_choice(self, "partitioner", ("identity", "iid", "dirichlet"))
        check_bounds(self)
