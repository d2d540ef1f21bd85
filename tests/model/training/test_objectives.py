from __future__ import annotations

import pytest
import torch

from model.config import LossConfig, ModelConfig
from model.designs.registry import DESIGNS, build_networks
from model.landmarks.geometry import PartSizes
from tests.model.conftest import Distance, make_batch


@pytest.mark.parametrize(
    "loss",
    [
        LossConfig(),
        LossConfig(flow_warmup_steps=5, adversarial_from_step=9, perceptual_every=4, weight_flow_landmarks=1.0),
        LossConfig(flow_warmup_steps=7, adversarial_from_step=2, perceptual_every=3, weight_l1_parts=0.0),
        LossConfig(perceptual_backbone="none", adversarial_from_step=100),
    ],
)
def test_term_steps_counts_what_the_objective_computes(
    config: ModelConfig, part_sizes: PartSizes, loss: LossConfig
) -> None:
    networks = build_networks(config, part_sizes, seed=0)
    perceptual = Distance() if loss.perceptual_backbone != "none" else None
    design = DESIGNS["glr"]
    objective = design.objective(networks, loss, perceptual, 0)  # type: ignore[arg-type]
    batch = make_batch(0)
    weights = design.term_weights(loss)
    with torch.no_grad():
        drawn = objective.draw(batch)
        computed = [
            {**objective.discriminator_terms(batch, drawn, step), **objective.generator_terms(batch, drawn, step)}
            for step in range(12)
        ]
    for first, num in ((0, 12), (0, 5), (4, 1), (3, 7), (8, 4), (5, 0)):
        counted = design.term_steps(loss, first, num)
        for name, weight in weights.items():
            expected = sum(name in terms for terms in computed[first : first + num])
            assert counted.get(name, 0) == (expected if weight else 0), (name, first, num)


def test_the_baseline_has_one_term_and_no_schedule() -> None:
    assert DESIGNS["x2face"].term_steps(LossConfig(flow_warmup_steps=50), 0, 10) == {"l1_image": 10}
