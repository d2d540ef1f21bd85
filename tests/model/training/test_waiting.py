"""A step on CUDA waits for its device once a phase. Seen here without one: by what a step asks PyTorch for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model.config import NETWORKS, LossConfig, ModelConfig
from model.designs.registry import build_networks
from model.landmarks.geometry import PartSizes
from tests.model.conftest import make_batch, make_trainer, small_perceptual

WAITING = {
    "_local_scalar_dense",  # item, a tensor in an `if`
    "_linalg_check_errors",  # linalg.solve and inv, which have twins that do not look
    "nonzero",
    "masked_select",
    "equal",
}
"""Operators that end only when the device has computed their arguments."""
KNOWN = {"fomm": 2}
"""Designs that make tensors on the CPU in a step, and how many: numbers drawn by NumPy, copied without waiting."""

GLR_AS_PRESETS_HAVE_IT = {"use_landmark_flow": True, "num_sources": 4, "lgan_base": "closed", "driver": "landmarks"}


class Asked(TorchDispatchMode):
    """Notes names of operators."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[str] = []
        self.num_from_lists = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        is_by_mask = name.startswith("index") and any(
            i.dtype == torch.bool for i in tree_leaves(args[1]) if i is not None
        )
        if name in WAITING or is_by_mask:
            self.waiting.append(name)
        self.num_from_lists += name == "lift_fresh" and all(isinstance(a, torch.Tensor) for a in tree_leaves(args))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("network", "changes"),
    [(network, {}) for network in NETWORKS]
    + [("glr", GLR_AS_PRESETS_HAVE_IT | {"face_motion": motion}) for motion in ("kernel", "spline")],
)
def test_a_step_waits_for_nothing_but_the_values_of_its_terms(
    config: ModelConfig, part_sizes: PartSizes, network: str, changes: dict[str, Any]
) -> None:
    networks = build_networks(replace(config, network=network, **changes), part_sizes, seed=0)
    loss = LossConfig(
        weight_flow_landmarks=1.0,
        weight_flow_smoothness=0.1,
        weight_gram=1.0,
        weight_perceptual_parts=1.0,
        adversarial_limit=5.0,
    )
    trainer = make_trainer(networks, loss, perceptual=small_perceptual())
    trainer.max_gradient_norm = 1.0
    batch = make_batch(0)
    trainer.train_step(batch)  # the first also makes what stays
    with Asked() as asked:
        trainer.train_step(batch)
    assert asked.waiting == []
    assert asked.num_from_lists == KNOWN.get(network, 0)


@pytest.mark.parametrize("wait", [lambda x: bool(x.sum() > 0), lambda x: torch.linalg.inv(x), lambda x: x[x > 0]])
def test_what_waits_is_noticed(wait: Any) -> None:
    matrix = torch.eye(2)
    with Asked() as asked:
        wait(matrix)
    assert asked.waiting
