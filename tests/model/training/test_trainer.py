from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.config import LossConfig, ModelConfig, OptimizerConfig
from model.designs.registry import build_networks
from model.errors import ConfigError, NonFiniteLossError, TensorMismatchError
from model.landmarks.geometry import PartSizes
from model.networks.bundle import Networks
from model.networks.parts import close_ups
from model.training.perceptual import load_perceptual
from model.training.trainer import GANTrainer, pick_device, run_steps
from tests.model.conftest import make_batch, make_trainer, small_perceptual

GENERATORS = {"generator", "landmark_generator"}


def changed_networks(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> set[str]:
    return {name.split(".")[0] for name in before if not np.array_equal(before[name], after[name])}


def test_step_trains_all_four_networks_and_reports_every_term(networks: Networks, loss: LossConfig) -> None:
    before = networks.travelling_tensors()
    means = make_trainer(networks, loss).train_step(make_batch(0))
    assert changed_networks(before, networks.travelling_tensors()) == {
        *GENERATORS, "discriminator", "landmark_discriminator",
    }  # fmt: skip
    assert set(means) == {
        "discriminator_image", "discriminator_landmarks", "ranking_image", "ranking_landmarks", "landmark_regression",
        "lgan_l1", "flow_landmarks", "flow_smoothness", "l1_image", "l1_parts", "adversarial", "feature_matching",
        "lgan_adversarial",
    }  # fmt: skip
    assert {mean.weight for mean in means.values()} == {2}


def test_long_gradients_are_shortened_and_short_ones_are_not(networks: Networks, loss: LossConfig) -> None:
    def lengths(max_gradient_norm: float) -> dict[str, float]:
        twin = build_networks(networks.config, networks.part_sizes, seed=1)
        optimizer = OptimizerConfig(max_gradient_norm=max_gradient_norm)
        trainer = GANTrainer(twin, loss=loss, optimizer=optimizer, perceptual=None, device=torch.device("cpu"), step=0)
        trainer.train_step(make_batch(0))
        owners = {phase: trainer.design.phases[phase] for phase in ("generator", "discriminator")}
        return {
            phase: float(
                sum(p.grad.square().sum() for n, p in twin.named_parameters() if n.split(".")[0] in names) ** 0.5
            )
            for phase, names in owners.items()
        }

    plain, shortened = lengths(0), lengths(1.0)
    assert plain["generator"] > 2 > 1 > plain["discriminator"], plain
    assert shortened == {"generator": pytest.approx(1, rel=1e-4), "discriminator": plain["discriminator"]}
    assert lengths(10_000) == plain


def test_before_the_adversarial_start_the_discriminators_stay_as_they_are(networks: Networks, loss: LossConfig) -> None:
    before = networks.travelling_tensors()
    trainer = make_trainer(networks, replace(loss, adversarial_from_step=1))
    trainer.train_step(make_batch(0))
    assert changed_networks(before, networks.travelling_tensors()) == GENERATORS
    assert "adversarial" in trainer.train_step(make_batch(1))


def test_the_discriminators_lead_and_the_generators_join_later(networks: Networks, loss: LossConfig) -> None:
    before = networks.travelling_tensors()
    trainer = make_trainer(networks, replace(loss, adversarial_lead_steps=1))
    first = trainer.train_step(make_batch(0))
    assert {"discriminator", "landmark_discriminator"} <= changed_networks(before, networks.travelling_tensors())
    assert "discriminator_image" in first and "adversarial" not in first
    assert "adversarial" in trainer.train_step(make_batch(1))


@pytest.mark.parametrize(
    ("off", "kept"),
    [
        ({"weight_adversarial": 0, "weight_feature_matching": 0}, "landmark_discriminator"),
        ({"weight_lgan_adversarial": 0}, "discriminator"),
    ],
)
def test_a_discriminator_that_no_term_uses_is_not_trained(
    networks: Networks, loss: LossConfig, off: dict[str, float], kept: str
) -> None:
    before = networks.travelling_tensors()
    make_trainer(networks, replace(loss, **off)).train_step(make_batch(0))  # type: ignore[arg-type]
    assert changed_networks(before, networks.travelling_tensors()) == {*GENERATORS, kept}


def test_a_growing_term_moves_the_generator_by_its_part(
    config: ModelConfig, part_sizes: PartSizes, loss: LossConfig
) -> None:
    def gradient(loss: LossConfig, step: int) -> torch.Tensor:
        networks = build_networks(config, part_sizes, seed=0)
        make_trainer(networks, loss, step=step).train_step(make_batch(0))
        return next(networks.generator.image_generator.parameters()).grad  # type: ignore[no-any-return, return-value]

    ramp = replace(loss, weight_feature_matching=0, adversarial_from_step=4, adversarial_ramp_steps=4)
    for step, part in ((4, 0.25), (6, 0.75), (7, 1.0), (8, 1.0)):
        full = replace(loss, weight_feature_matching=0, weight_adversarial=part, weight_lgan_adversarial=part)
        assert torch.allclose(gradient(ramp, step), gradient(full, step), rtol=1e-4, atol=1e-8), step


@pytest.mark.parametrize(
    ("step", "factor"), [(0, 1), (20, 1), (21, 0.5 ** (1 / 10)), (30, 0.5), (50, 0.125), (999, 2**-10)]
)
def test_learning_rates_stay_and_then_fall_to_a_half_again_and_again(
    networks: Networks, loss: LossConfig, step: int, factor: float
) -> None:
    optimizer = OptimizerConfig(learning_rate_generator=1e-3, decay_from_step=20, decay_halving_steps=10)
    before = networks.travelling_tensors()
    trainer = GANTrainer(
        networks, loss=loss, optimizer=optimizer, perceptual=None, device=torch.device("cpu"), step=step
    )
    trainer.train_step(make_batch(0))
    moved = np.abs(
        networks.travelling_tensors()["generator.extractor.position"] - before["generator.extractor.position"]
    )
    assert np.median(moved) == pytest.approx(1e-3 * factor, rel=1e-2)  # Adam's first step, whatever the gradient


def test_flow_warm_up_leaves_the_image_generator_as_it_is(networks: Networks, loss: LossConfig) -> None:
    before = networks.travelling_tensors()
    make_trainer(networks, replace(loss, flow_warmup_steps=1)).train_step(make_batch(0))
    after = networks.travelling_tensors()
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert any(name.startswith("generator.flow_head") for name in moved)
    assert not any(name.startswith(("generator.image_generator", "generator.parts")) for name in moved)


@pytest.mark.parametrize("phase", ["discriminator", "generator"])
def test_a_phase_changes_only_its_own_networks(networks: Networks, loss: LossConfig, phase: str) -> None:
    trainer = make_trainer(networks, loss)
    other = "generator" if phase == "discriminator" else "discriminator"
    trainer.optimizers[other].step = lambda: None  # type: ignore[method-assign]
    before = networks.travelling_tensors()
    trainer.train_step(make_batch(0))
    assert all(phase in name for name in changed_networks(before, networks.travelling_tensors()))


def test_non_finite_loss_stops_before_the_update_and_names_the_term(networks: Networks, loss: LossConfig) -> None:
    batch = make_batch(0)
    batch.driving_NCHW[0, 0, 0, 0] = float("nan")
    trainer = make_trainer(networks, replace(loss, adversarial_from_step=10))
    before = networks.travelling_tensors()
    with pytest.raises(NonFiniteLossError, match="step 0: .* is nan; no generator update was made"):
        trainer.train_step(batch)
    assert changed_networks(before, networks.travelling_tensors()) == set()
    assert trainer.step == 0


def test_non_finite_gradient_stops_before_the_update(networks: Networks, loss: LossConfig) -> None:
    networks.generator.flow_head.to_flow.weight.register_hook(lambda gradient: gradient * float("inf"))
    before = networks.travelling_tensors()
    with pytest.raises(NonFiniteLossError, match="gradient of the generator is not finite"):
        make_trainer(networks, loss).train_step(make_batch(0))
    assert not changed_networks(before, networks.travelling_tensors()) & GENERATORS


@pytest.mark.parametrize("use_amp", [False, True])
@pytest.mark.usefixtures("with_bfloat16")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"adversarial_loss": "relativistic", "adversarial_lead_steps": 1, "adversarial_ramp_steps": 3},
    ],
)
def test_save_and_resume_equals_uninterrupted_bit_for_bit(
    config: ModelConfig, part_sizes: PartSizes, loss: LossConfig, changes: dict[str, str | int], use_amp: bool
) -> None:
    loss = replace(loss, **changes)  # type: ignore[arg-type]
    batches = [make_batch(seed) for seed in range(4)]
    whole = make_trainer(build_networks(config, part_sizes, seed=0), loss, use_amp=use_amp)
    run_steps(whole, iter(batches), 4)

    first = make_trainer(build_networks(config, part_sizes, seed=0), loss, use_amp=use_amp)
    run_steps(first, iter(batches[:2]), 2)
    resumed_networks = build_networks(config, part_sizes, seed=9)
    resumed_networks.load_tensors(first.networks.travelling_tensors())
    second = make_trainer(resumed_networks, loss, step=first.step, use_amp=use_amp)
    second.load_optimizer_tensors(first.optimizer_tensors())
    run_steps(second, iter(batches[2:]), 2)

    expected = whole.networks.travelling_tensors()
    assert all(np.array_equal(value, expected[name]) for name, value in resumed_networks.travelling_tensors().items())


def test_foreign_moments_are_refused(networks: Networks, loss: LossConfig) -> None:
    trainer = make_trainer(networks, loss)
    with pytest.raises(TensorMismatchError, match="unknown tensor nose/exp_avg"):
        trainer.load_optimizer_tensors({"nose/exp_avg": torch.zeros(1)})
    name = "generator.landmark_head.mlp.0.bias"
    with pytest.raises(TensorMismatchError, match=name):
        trainer.load_optimizer_tensors({f"{name}/exp_avg": torch.zeros(1)})


def test_generator_loss_is_the_weighted_sum_of_mean_terms(networks: Networks) -> None:
    loss = LossConfig(
        perceptual_backbone="none", adversarial_from_step=5, weight_l1_image=2, weight_l1_parts=3,
        weight_landmark_regression=5, weight_lgan_l1=7,
    )  # fmt: skip
    means = run_steps(make_trainer(networks, loss), iter([make_batch(0), make_batch(1)]), 2)
    expected = sum(
        weight * means[name].value
        for name, weight in {"l1_image": 2, "l1_parts": 3, "landmark_regression": 5, "lgan_l1": 7}.items()
    )
    assert means["loss_generator"].value == pytest.approx(expected)
    assert means["loss_discriminator"].value == 0
    assert means["l1_image"].weight == 4


def test_proximal_term_pulls_towards_the_global_weights(
    config: ModelConfig, part_sizes: PartSizes, loss: LossConfig
) -> None:
    anchor = build_networks(config, part_sizes, seed=0).travelling_tensors()

    def distance_after_training(mu: float) -> float:
        networks = build_networks(config, part_sizes, seed=0)
        trainer = GANTrainer(
            networks, loss=loss, optimizer=OptimizerConfig(learning_rate_generator=1e-2), perceptual=None,
            device=torch.device("cpu"), proximal=(anchor, mu),
        )  # fmt: skip
        run_steps(trainer, iter([make_batch(seed) for seed in range(5)]), 5)
        after = networks.travelling_tensors()
        return sum(float(np.square(after[name] - anchor[name]).sum()) for name in after)

    assert distance_after_training(100.0) < 0.7 * distance_after_training(0.0)


def test_device_names_are_checked() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match="wanted auto, cpu"):
        pick_device("tpu-9")
    with pytest.raises(ConfigError, match="CUDA devices"):
        pick_device("cuda:99")


@pytest.mark.integration
@pytest.mark.parametrize("backbone", ["vit", "resnet34"])
def test_one_full_paper_step_runs_on_the_cpu(backbone: str) -> None:
    config = ModelConfig(backbone=backbone)
    loss = LossConfig(perceptual_backbone="vgg16")
    sizes = PartSizes.from_mean(np.array([[9.0, 18], [9, 18], [34, 28], [22, 40]]), 224)
    trainer = GANTrainer(
        build_networks(config, sizes, seed=0), loss=loss, optimizer=OptimizerConfig(),
        perceptual=load_perceptual(loss), device=torch.device("cpu"),
    )  # fmt: skip
    means = trainer.train_step(make_batch(0, num_pairs=1, size_px=224))
    assert means["l1_image"].value > 0 and means["perceptual"].value > 0


def test_the_term_on_eyes_and_mouth_compares_their_close_ups(networks: Networks, loss: LossConfig) -> None:
    on = replace(loss, perceptual_backbone="vgg16", weight_perceptual=0, weight_perceptual_parts=2, perceptual_every=2)
    trainer, batch = make_trainer(networks, on, perceptual=small_perceptual()), make_batch(0)
    with torch.no_grad():
        drawn = networks.generator(batch.generator_inputs()).image_NCHW
    drawn, real = (close_ups(frame, batch.driving_landmarks_NKC) for frame in (drawn, batch.driving_NCHW))
    first, second = trainer.train_step(batch), trainer.train_step(batch)
    assert first["perceptual_parts"].value == pytest.approx(small_perceptual()(drawn, real).item(), rel=1e-5)
    assert "perceptual" not in first and "perceptual_parts" not in second


def test_without_weight_eyes_and_mouth_change_no_bit(
    config: ModelConfig, part_sizes: PartSizes, loss: LossConfig
) -> None:
    trained = []
    for weight in (0.0, 0.0, 1.0):
        networks = build_networks(config, part_sizes, seed=0)
        changed = replace(loss, perceptual_backbone="vgg16", weight_perceptual_parts=weight)
        make_trainer(networks, changed, perceptual=small_perceptual()).train_step(make_batch(0))
        trained.append(networks.travelling_tensors())
    assert not changed_networks(trained[0], trained[1])
    assert "generator" in changed_networks(trained[0], trained[2])
