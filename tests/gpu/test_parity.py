"""Every network computes on the device what it computes on the CPU."""

from __future__ import annotations

import math

import pytest
import torch

from federation.settings import Settings
from model.config import NETWORKS, LossConfig, OptimizerConfig
from model.designs.registry import build_networks
from model.landmarks.geometry import PartSizes
from model.networks.bundle import Networks
from model.setting import Scalar
from model.training.trainer import GANTrainer
from tests.model.conftest import make_batch, small_perceptual
from tests.support.federated_setup import MINIMAL

pytestmark = pytest.mark.gpu

CPU = torch.device("cpu")
IMAGE_TOLERANCE = 1e-4
"""Of a pixel in [-1, 1], float32."""
TERM_TOLERANCE = 1e-3
"""Of a term: of its value, and absolutely."""
GRADIENT_TOLERANCE = 0.01
"""Length of the difference of two gradients, of the length of one. The generators' follow an update of the
discriminators, in which Adam turns a gradient of rounding errors alone into a whole step."""
MIXED_TOLERANCE = 0.05
"""Of a term in mixed precision: of its value in float32, and absolutely; bfloat16 has 8 bits."""

AS_PRESETS: dict[str, Scalar] = {
    "use-landmark-flow": True,
    "use-appearance-skip": True,
    "num-sources": 4,
    "lgan-base": "closed",
    "face-motion": "spline",
    "driver": "landmarks",
}
CASES = [pytest.param(name, {}, id=name) for name in NETWORKS] + [pytest.param("glr", AS_PRESETS, id="glr-as-presets")]
LOSS = LossConfig(
    weight_flow_landmarks=1.0,
    weight_flow_smoothness=0.1,
    weight_gram=1.0,
    weight_perceptual_parts=1.0,
    adversarial_loss="relativistic",
    adversarial_limit=5.0,
)


def built(network: str, changes: dict[str, Scalar]) -> Networks:
    model = Settings.from_flat(MINIMAL | {"network": network} | changes).model
    return build_networks(model, PartSizes((8, 8, 8, 8), (8, 8, 8, 12)), seed=1)


def trainer_of(networks: Networks, device: torch.device, *, use_amp: bool = False) -> GANTrainer:
    optimizer = OptimizerConfig(use_amp=use_amp, max_gradient_norm=30.0)
    return GANTrainer(networks, loss=LOSS, optimizer=optimizer, perceptual=small_perceptual(), device=device)


def stepped(network: str, changes: dict[str, Scalar], device: torch.device) -> tuple[dict[str, float], Networks]:
    """Terms of one step, and networks with its gradients, on the CPU."""
    trainer = trainer_of(built(network, changes), device)
    means = trainer.train_step(make_batch(0))
    return {name: mean.value for name, mean in means.items()}, trainer.networks


def gradients(networks: Networks) -> dict[str, torch.Tensor]:
    """By child network, one vector."""
    return {
        name: torch.cat([p.grad.detach().double().cpu().flatten() for p in child.parameters() if p.grad is not None])
        for name, child in networks.named_children()
        if any(p.grad is not None for p in child.parameters())
    }


@pytest.mark.parametrize(("network", "changes"), CASES)
def test_a_frame_is_the_same(device: torch.device, network: str, changes: dict[str, Scalar]) -> None:
    networks, batch = built(network, changes).eval(), make_batch(0)
    with torch.inference_mode():
        expected = networks.generator(batch.generator_inputs()).image_NCHW
        drawn = networks.to(device).generator(batch.to(device).generator_inputs()).image_NCHW
    assert drawn.device.type == device.type
    torch.testing.assert_close(drawn.cpu(), expected, atol=IMAGE_TOLERANCE, rtol=0)


@pytest.mark.parametrize(("network", "changes"), CASES)
def test_a_step_has_the_same_terms_and_gradients(
    device: torch.device, network: str, changes: dict[str, Scalar]
) -> None:
    expected_terms, expected = stepped(network, changes, CPU)
    terms, networks = stepped(network, changes, device)
    assert terms == pytest.approx(expected_terms, rel=TERM_TOLERANCE, abs=TERM_TOLERANCE)
    found, wanted = gradients(networks), gradients(expected)
    assert found.keys() == wanted.keys()
    for name, vector in wanted.items():
        assert (found[name] - vector).norm() <= GRADIENT_TOLERANCE * vector.norm(), name


@pytest.mark.parametrize(("network", "changes"), CASES)
def test_mixed_precision_is_finite_and_near(device: torch.device, network: str, changes: dict[str, Scalar]) -> None:
    expected, _ = stepped(network, changes, CPU)
    trainer = trainer_of(built(network, changes), device, use_amp=True)
    if not trainer.is_mixed:
        pytest.skip("this device has no instructions for bfloat16")
    first = {name: mean.value for name, mean in trainer.train_step(make_batch(0)).items()}
    near = {name: value for name, value in expected.items() if not name.startswith("ranking_")}
    assert {name: first[name] for name in near} == pytest.approx(near, rel=MIXED_TOLERANCE, abs=MIXED_TOLERANCE)
    later = [trainer.train_step(make_batch(seed)) for seed in (1, 2, 3)]
    assert all(math.isfinite(mean.value) for means in later for mean in means.values())


def test_moments_survive_the_way_to_the_cpu_and_back(device: torch.device) -> None:
    trainer = trainer_of(built("glr", AS_PRESETS), device, use_amp=True)
    trainer.train_step(make_batch(0))
    written = trainer.optimizer_tensors()
    other = trainer_of(built("glr", AS_PRESETS), device, use_amp=True)
    other.load_optimizer_tensors(written)
    read = other.optimizer_tensors()
    assert read.keys() == written.keys()
    assert all(torch.equal(read[name], value) for name, value in written.items())
    other.train_step(make_batch(1))  # moments are laid out as the weights are, or the fused step refuses them
