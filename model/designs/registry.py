"""All network designs by name, and what is made of one."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import torch

from model.config import ModelConfig
from model.designs import fomm, glr, marionette, monkeynet, neuralhead, x2face
from model.designs.design import Design
from model.errors import ConfigError
from model.landmarks.geometry import PartSizes
from model.networks.bundle import Networks

DESIGNS: dict[str, Design] = {
    design.name: design
    for design in (
        glr.DESIGN,
        x2face.DESIGN,
        fomm.DESIGN,
        monkeynet.DESIGN,
        neuralhead.DESIGN,
        marionette.DESIGN,
    )
}
"""The choices of the setting `network`, in their order."""

IDENTITY_ROWS = tuple(dict.fromkeys(name for design in DESIGNS.values() for name in design.identity_rows))
"""Of all designs; a name means the same in each that has it."""


def design_of(network: str) -> Design:
    """The design of this name.

    Raises:
        ConfigError: naming the known ones, if there is none.
    """
    if network not in DESIGNS:
        raise ConfigError(f"setting network: got {network!r}, wanted one of {', '.join(DESIGNS)}")
    return DESIGNS[network]


def has_base(config: ModelConfig) -> bool:
    """Whether a run agrees on landmarks in closed form before round 1: if it is to, and the design draws with them."""
    return config.lgan_base == "closed" and "base" in design_of(config.network).guidances


def build_networks(config: ModelConfig, part_sizes: PartSizes, *, seed: int) -> Networks:
    """Freshly initialised networks on the CPU; equal seeds give equal weights, the global RNG is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return design_of(config.network).networks(config, part_sizes)


@functools.lru_cache(maxsize=8)  # a process that trains asks for them in every round
def travelling_shapes(config: ModelConfig) -> Mapping[str, tuple[int, ...]]:
    """Name to shape of all travelling tensors, float32 in their fixed order, of networks that are not built."""
    smallest = PartSizes((8, 8, 8, 8), (8, 8, 8, 8))  # no tensor's shape depends on it
    with torch.device("meta"):
        tensors = design_of(config.network).networks(config, smallest).state_dict()
    return MappingProxyType({name: tuple(tensor.shape) for name, tensor in tensors.items()})


def travelling_bytes(config: ModelConfig) -> int:
    """Size of all travelling tensors."""
    return np.dtype(np.float32).itemsize * sum(map(math.prod, travelling_shapes(config).values()))
