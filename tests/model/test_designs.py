"""What every network design promises, asked of each in the registry at a minimal size."""

from __future__ import annotations

import ast
import subprocess
import sys
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from federation.settings import Settings
from model.batch import ReenactmentBatch
from model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from model.config import NETWORKS, LossConfig, ModelConfig
from model.designs.design import ALL_SETTINGS, PHASES, Design
from model.designs.registry import DESIGNS, IDENTITY_ROWS, build_networks, design_of
from model.errors import ConfigError
from model.landmarks.geometry import PartSizes
from model.networks.bundle import NamedArrays, Networks, is_of_discriminator
from model.networks.warping import warp
from model.setting import key_of
from tests.model.conftest import SIZE_PX, make_batch, make_trainer, small_perceptual
from tests.support.paths import ROOT, parsed
from tests.test_architecture import modules

OTHER_VALUES = {
    "backbone": "resnet34",
    "landmarks": "driving",
    "lgan_base": "closed",
    "driver": "landmarks",
    "face_motion": "spline",
    "source_sampling": "bicubic",
    "image_size_px": 64,
    "patch_size_px": 4,
    "flow_seed_px": 4,
    "adversarial_loss": "relativistic",
    "perceptual_backbone": "vgg16",
    "num_discriminator_layers": 3,
    "perceptual_levels": 4,
}
"""Of settings that have to fit others; the others are doubled, added to or negated."""

STARTED = ("cli.entry", "data_partition.preparation.prepare", "data_partition.synth.dataset")
"""What needs no tensor: a command says its help at once, a worker of `prepare` or `synth` starts in half a second."""


@pytest.fixture(params=DESIGNS.values(), ids=DESIGNS)
def design(request: pytest.FixtureRequest) -> Design:
    one: Design = request.param
    return one


@pytest.fixture
def loss(loss: LossConfig) -> LossConfig:
    """With every term on; `small_perceptual` has the features."""
    return replace(loss, perceptual_backbone="vgg16", weight_gram=0.1)


@pytest.fixture
def config(config: ModelConfig, design: Design) -> ModelConfig:
    return replace(config, network=design.name)


def drawn(networks: Networks, batch: ReenactmentBatch) -> torch.Tensor:
    with torch.no_grad():
        image_NCHW: torch.Tensor = networks.generator(batch.generator_inputs()).image_NCHW
    return image_NCHW


def shifted_batch() -> ReenactmentBatch:
    """Smooth pictures that lie further to the left in the driving frame."""
    coarse = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0)) * 2 - 1
    source_NCHW = functional.interpolate(coarse, (SIZE_PX, SIZE_PX), mode="bilinear")
    flow_NCHW = torch.zeros(2, 2, SIZE_PX, SIZE_PX)
    flow_NCHW[:, 0] = 0.2
    return replace(make_batch(0), source_NCHW=source_NCHW, driving_NCHW=warp(source_NCHW, flow_NCHW))


def trained(
    config: ModelConfig, part_sizes: PartSizes, loss: LossConfig, num_steps: int = 3
) -> tuple[Networks, set[str]]:
    """The networks after some steps, and the names of all that the steps reported."""
    networks = build_networks(config, part_sizes, seed=0)
    trainer = make_trainer(networks, loss, perceptual=small_perceptual())
    reported = [trainer.train_step(make_batch(seed)) for seed in range(num_steps)]
    assert all(np.isfinite(mean.value) for means in reported for mean in means.values())
    return networks, {name for means in reported for name in means}


def differing(before: NamedArrays, after: NamedArrays) -> set[str]:
    return {name for name in before if not np.array_equal(before[name], after[name])}


def other(value: object, name: str) -> object:
    """Another valid value of a setting."""
    if name in OTHER_VALUES:
        return OTHER_VALUES[name]
    if isinstance(value, bool):
        return not value
    assert isinstance(value, int | float)
    return value * 2 if value else value + 1


def test_the_settings_choices_are_the_registry() -> None:
    assert tuple(DESIGNS) == NETWORKS


@pytest.mark.parametrize(("size_px", "patch_px", "seed_px"), [(36, 4, 9), (100, 10, 25)])
def test_a_drawing_has_the_side_that_is_asked_for_whatever_it_halves_to(
    config: ModelConfig, part_sizes: PartSizes, size_px: int, patch_px: int, seed_px: int
) -> None:
    config = replace(config, image_size_px=size_px, patch_size_px=patch_px, flow_seed_px=seed_px)
    image_NCHW = drawn(build_networks(config, part_sizes, seed=0), make_batch(0, size_px=size_px))
    assert image_NCHW.shape == (2, 3, size_px, size_px)


def test_an_unknown_name_is_one_line_that_lists_the_known() -> None:
    with pytest.raises(ConfigError, match=r"^setting network: got 'first-order', wanted one of glr, x2face") as raised:
        design_of("first-order")
    with pytest.raises(ConfigError) as refused:
        ModelConfig(network="first-order")
    assert str(refused.value) == str(raised.value)


def test_every_network_is_trained_by_one_phase(design: Design, networks: Networks) -> None:
    assert tuple(design.phases) == PHASES
    by_phase = [name for phase in PHASES for name in design.phases[phase]]
    assert sorted(by_phase) == sorted(name for name, _ in networks.named_children())
    assert {term.phase for term in design.terms} == {phase for phase in PHASES if design.phases[phase]}


def test_the_sha256_of_a_model_is_of_what_draws(design: Design, networks: Networks) -> None:
    before, judging = networks.weights_sha256(), 0
    for name, tensor in networks.state_dict().items():
        is_judging = design.phase_of(name) == "discriminator"
        assert is_of_discriminator(name) == is_judging
        if is_judging and tensor.is_floating_point():
            tensor += 1
            judging += 1
    assert networks.weights_sha256() == before and bool(judging) == bool(design.phases["discriminator"])
    next(iter(networks.generator.parameters())).data += 1
    assert networks.weights_sha256() != before


def test_all_that_travels_is_trained(networks: Networks) -> None:
    parameters = dict(networks.named_parameters())
    tensors = networks.travelling_tensors()
    assert list(tensors) == list(parameters)  # no buffers: averages of several sites' would mean nothing
    assert {str(array.dtype) for array in tensors.values()} == {"float32"}


def test_equal_seeds_give_equal_weights(config: ModelConfig, part_sizes: PartSizes) -> None:
    one, same, another = (build_networks(config, part_sizes, seed=seed).travelling_tensors() for seed in (3, 3, 4))
    assert not differing(one, same)
    assert differing(one, another)


@pytest.mark.parametrize("size_px", [32, 64, 128])
def test_it_draws_pictures_of_the_models_size_and_range(config: ModelConfig, size_px: int) -> None:
    sized = replace(config, image_size_px=size_px)
    networks = build_networks(sized, PartSizes((8, 8, 8, 8), (8, 8, 8, 12)), seed=0)
    output = networks.generator(make_batch(0, num_pairs=2, size_px=size_px).generator_inputs())
    for picture_NCHW in (output.image_NCHW, *output.stages().values()):
        assert picture_NCHW.shape == (2, 3, size_px, size_px)
        assert picture_NCHW.abs().max() <= 1 + 1e-6
    assert output.flow_NCHW is None or output.flow_NCHW.shape == (2, 2, size_px, size_px)


def test_it_draws_alike_in_training_and_in_use(networks: Networks) -> None:
    batch = make_batch(0)
    assert torch.equal(drawn(networks.train(), batch), drawn(networks.eval(), batch))


def test_meshes_are_looked_at_by_designs_that_need_them_alone(design: Design, networks: Networks) -> None:
    batch = make_batch(0)
    without = replace(batch, meshes=None)
    if design.needs_mesh:
        with pytest.raises(AssertionError):
            drawn(networks, without)
    else:
        assert torch.equal(drawn(networks, without), drawn(networks, batch))


def test_steps_report_every_term_that_is_on_and_none_that_is_not_named(
    design: Design, config: ModelConfig, part_sizes: PartSizes, loss: LossConfig
) -> None:
    _, reported = trained(config, part_sizes, loss, num_steps=1)
    on = {name for name, num_steps in design.term_steps(loss, 0, 1).items() if num_steps}
    assert on and on | set(design.observed) <= reported <= set(design.reported())


def test_every_parameter_gets_a_gradient_and_moves(
    config: ModelConfig, part_sizes: PartSizes, loss: LossConfig
) -> None:
    before = build_networks(config, part_sizes, seed=0).travelling_tensors()
    networks, _ = trained(config, part_sizes, loss)
    assert differing(before, networks.travelling_tensors()) == set(before)


@pytest.mark.usefixtures("with_bfloat16")
def test_a_step_in_mixed_precision_is_a_step_in_full_precision_but_for_rounding(
    config: ModelConfig, part_sizes: PartSizes, loss: LossConfig
) -> None:
    of_step, after = [], []
    for use_amp in (False, True):
        networks = build_networks(config, part_sizes, seed=0)
        trainer = make_trainer(networks, loss, perceptual=small_perceptual(), use_amp=use_amp)
        of_step.append({name: mean.value for name, mean in trainer.train_step(make_batch(0)).items()})
        after.append(networks.travelling_tensors())
    full, mixed = of_step
    ranked = [name for name in full if name.startswith("ranking")]  # logits that are nearly equal change places
    assert {name: mixed[name] for name in full if name not in ranked} == pytest.approx(
        {name: full[name] for name in full if name not in ranked}, rel=0.02, abs=0.002
    )
    assert differing(*after) and {str(array.dtype) for array in after[1].values()} == {"float32"}


@pytest.mark.integration
def test_steps_on_one_batch_bring_the_drawing_nearer_to_the_driving_picture(
    config: ModelConfig, part_sizes: PartSizes, loss: LossConfig
) -> None:
    networks, batch = build_networks(config, part_sizes, seed=0), shifted_batch()
    trainer = make_trainer(networks, loss, perceptual=small_perceptual())

    def error() -> float:
        return float((drawn(networks, batch) - batch.driving_NCHW).abs().mean())

    before = error()
    for _ in range(30):
        trainer.train_step(batch)
    assert error() < 0.9 * before


def test_travelling_tensors_carry_all_that_was_learnt(
    config: ModelConfig, part_sizes: PartSizes, loss: LossConfig
) -> None:
    networks, _ = trained(config, part_sizes, loss)
    twin, batch = build_networks(config, part_sizes, seed=9), make_batch(7)
    assert not torch.equal(drawn(twin, batch), drawn(networks, batch))
    twin.load_tensors(networks.travelling_tensors())
    assert torch.equal(drawn(twin, batch), drawn(networks, batch))


def test_a_checkpoint_draws_as_what_was_saved(
    tmp_path: Path, config: ModelConfig, part_sizes: PartSizes, loss: LossConfig
) -> None:
    networks, _ = trained(config, part_sizes, loss)
    landmarks_IKC = np.ones((config.num_identities, 68, 2), np.float32)
    path = save_checkpoint(
        tmp_path,
        Checkpoint(
            round=1,
            settings=Settings(model=config).to_flat(),
            identities=["anna", "ben", "cleo"],
            part_sizes=part_sizes,
            landmark_mean_IKC=landmarks_IKC,
            landmark_std_IKC=landmarks_IKC,
            tensors=networks.travelling_tensors(),
        ),
    )
    batch = make_batch(7)
    assert torch.equal(drawn(load_checkpoint(path).networks(), batch), drawn(networks, batch))


NEEDED: dict[str, dict[str, bool]] = {"num_sources": {"use_landmark_flow": True}}
"""Field to what it may not be changed without."""


def halves(names: list[str]) -> list[list[str]]:
    """Groups of names: of any two there is a group that has the one without the other."""
    bits = range((len(names) - 1).bit_length())
    return [[n for i, n in enumerate(names) if i >> bit & 1 == side] for bit in bits for side in (0, 1)]


def test_halves_part_any_two_names() -> None:
    names = list("abcde")
    assert all(
        any(one in group and another not in group for group in halves(names))
        for one in names
        for another in names
        if one != another
    )


@pytest.mark.integration
def test_a_setting_that_is_not_listed_changes_nothing(
    design: Design, config: ModelConfig, part_sizes: PartSizes, loss: LossConfig
) -> None:
    """Many at once, so that one which hides what another changes is also tried without it."""
    assert design.settings <= ALL_SETTINGS
    expected = trained(config, part_sizes, loss)[0].travelling_tensors()
    values = {
        field.name: other(getattr(changed, field.name), field.name)
        for changed in (config, loss)
        for field in fields(changed)
        if key_of(field.name) not in design.settings
    }

    def changed(names: list[str]) -> tuple[ModelConfig, LossConfig]:
        both = {n: v for name in names for n, v in ({name: values[name]} | NEEDED.get(name, {})).items()}
        model, terms = ({f.name: both[f.name] for f in fields(one) if f.name in both} for one in (config, loss))
        return replace(config, **model), replace(loss, **terms)

    def fitting(group: list[str]) -> list[str]:
        kept: list[str] = []
        for name in group:
            with suppress(ConfigError):
                changed([*kept, name])
                kept.append(name)
        return kept

    groups = [fitting(group) for group in halves(list(values))]
    groups += [[name] for name in values if not any(name in group for group in groups)]
    for group in groups:
        got = trained(changed(group)[0], part_sizes, changed(group)[1])[0].travelling_tensors()
        assert got.keys() == expected.keys() and not differing(expected, got), group


def test_guidance_by_lgan_needs_its_networks_and_all_landmarks_can_be_restyled(
    design: Design, networks: Networks
) -> None:
    lgan = ("driving", "lst", "lgan")
    assert design.guidances in ((), ("driving", "lst"), lgan, (*lgan, "base"))
    children = {name for name, _ in networks.named_children()}
    assert ("lgan" in design.guidances) == ({"landmark_generator", "landmark_discriminator"} <= children)


def test_rows_of_identities_are_named(design: Design, networks: Networks) -> None:
    tensors = networks.travelling_tensors()
    assert {name for name in tensors if name in IDENTITY_ROWS} == set(design.identity_rows)
    assert all(tensors[name].shape[0] == networks.config.num_identities for name in design.identity_rows)


def test_agreed_landmarks_change_what_is_said_to_start_from_them(design: Design, networks: Networks) -> None:
    before = networks.travelling_tensors()
    networks.start_from(np.random.default_rng(0).uniform(0, 32, (3, 68, 2)).astype(np.float32))
    assert differing(before, networks.travelling_tensors()) == before.keys() & set(design.starts_from_statistics)


def test_a_watched_layer_is_trained_in_every_step(
    design: Design, config: ModelConfig, part_sizes: PartSizes, loss: LossConfig
) -> None:
    networks = build_networks(config, part_sizes, seed=0)
    trainer = make_trainer(networks, loss, perceptual=small_perceptual())
    for seed in range(10):
        trainer.train_step(make_batch(seed))
    assert bool(trainer.tally.names()) == bool(design.watched)


def test_no_design_is_asked_for_its_name_elsewhere() -> None:
    for path in modules():
        compares = [n for n in ast.walk(parsed(path)) if isinstance(n, ast.Compare)]
        constants = [n.value for compare in compares for n in ast.walk(compare) if isinstance(n, ast.Constant)]
        assert not set(constants) & set(DESIGNS), f"{path} compares with the name of a design: ask its entry"


def test_the_command_line_and_preparation_start_without_pytorch() -> None:
    said = subprocess.run(
        [sys.executable, "-c", f"import sys, {', '.join(STARTED)}; print('torch' in sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "False\n"
