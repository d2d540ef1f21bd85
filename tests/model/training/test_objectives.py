from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model.config import LossConfig, ModelConfig
from model.designs.design import Term
from model.designs.registry import DESIGNS, build_networks
from model.landmarks.geometry import PartSizes
from tests.model.conftest import make_batch, small_perceptual


@pytest.mark.parametrize(
    "loss",
    [
        LossConfig(),
        LossConfig(flow_warmup_steps=5, adversarial_from_step=9, perceptual_every=4, weight_flow_landmarks=1.0),
        LossConfig(flow_warmup_steps=7, adversarial_from_step=2, perceptual_every=3, weight_l1_parts=0.0),
        LossConfig(perceptual_backbone="none", adversarial_from_step=100, weight_gram=1.0),
        LossConfig(flow_warmup_steps=1, adversarial_from_step=3, adversarial_lead_steps=4, adversarial_ramp_steps=5),
        LossConfig(weight_gram=2.0, perceptual_every=2, weight_perceptual=0.0, weight_lgan_adversarial=0.0),
        LossConfig(weight_adversarial=0.0, weight_feature_matching=0.0, adversarial_lead_steps=2),
    ],
)
def test_term_steps_counts_what_the_objective_computes(
    config: ModelConfig, part_sizes: PartSizes, loss: LossConfig
) -> None:
    networks = build_networks(config, part_sizes, seed=0)
    perceptual = small_perceptual() if loss.perceptual_backbone != "none" else None
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


def test_a_weight_grows_in_equal_parts_from_the_first_step_of_its_term() -> None:
    term = Term(name="grown", weight=lambda loss: 6.0, since=lambda loss: 10, every=lambda loss: 2, ramp=lambda loss: 3)
    assert [term.weight_at(LossConfig(), step) for step in (10, 11, 12, 13, 999)] == pytest.approx([4, 8, 12, 12, 12])
    assert replace(term, ramp=lambda loss: 0).weight_at(LossConfig(), 10) == 12


def test_what_the_generators_learn_from_the_discriminators_starts_after_their_lead() -> None:
    loss = LossConfig(flow_warmup_steps=2, adversarial_from_step=5, adversarial_lead_steps=3, adversarial_ramp_steps=4)
    first = {term.name: term.since(loss) for term in DESIGNS["glr"].terms}
    assert (first["discriminator_image"], first["discriminator_landmarks"]) == (5, 5)
    assert {first[name] for name in ("adversarial", "feature_matching", "lgan_adversarial")} == {8}
    assert {term.name for term in DESIGNS["glr"].terms if term.ramp(loss)} == {
        "adversarial", "feature_matching", "lgan_adversarial",
    }  # fmt: skip


def test_the_baseline_has_one_term_and_no_schedule() -> None:
    assert DESIGNS["x2face"].term_steps(LossConfig(flow_warmup_steps=50), 0, 10) == {"l1_image": 10}
