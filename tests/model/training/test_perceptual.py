from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision.models import vgg19

from model import weights
from model.config import LossConfig
from model.designs.registry import DESIGNS
from model.errors import WeightsError
from model.metrics import WeightedMean, merge
from model.training.losses import l1_loss
from model.training.perceptual import load_perceptual, over_scales, vgg16_loss, vgg19_loss


@pytest.mark.parametrize(
    ("size_px", "sides"), [(32, [32]), (64, [64, 32]), (256, [256, 128, 64, 32]), (512, [512, 256, 128, 64])]
)
def test_scales_are_halved_three_times_and_not_below_32_pixels(size_px: int, sides: list[int]) -> None:
    seen = []

    def distance(generated_NCHW: torch.Tensor, target_NCHW: torch.Tensor) -> torch.Tensor:
        seen.append(generated_NCHW.shape[-1])
        return l1_loss(generated_NCHW, target_NCHW)

    pair = torch.zeros(1, 3, size_px, size_px), torch.ones(1, 3, size_px, size_px)
    assert over_scales(distance, *pair) == pytest.approx(len(sides))  # type: ignore[arg-type]
    assert seen == sides


@pytest.mark.integration
def test_vgg19_levels_are_the_thesis_groups(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = vgg19(weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "vgg19.pth")
    perceptual = vgg19_loss(tmp_path / "vgg19.pth", 5)
    a, b = torch.rand(1, 3, 32, 32) * 2 - 1, torch.rand(1, 3, 32, 32) * 2 - 1
    mean, std = (
        torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1),
        torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1),
    )
    x, y = (((image + 1) / 2 - mean) / std for image in (a, b))
    expected = 0.0
    with torch.no_grad():
        for number, layer in enumerate(network.features[:30], start=1):
            x, y = layer(x), layer(y)
            if number in (2, 7, 12, 21, 30):
                expected += (x - y).abs().mean().item()
    assert perceptual(a, b).item() == pytest.approx(expected, rel=1e-4)


@pytest.fixture(scope="module")
def hed_file() -> Path:
    try:
        return weights.resolve("hed-vgg16")
    except WeightsError as error:
        pytest.skip(str(error))


def test_vgg16_distance_is_zero_for_equal_images_and_has_gradients_for_the_generated_one(
    hed_file: Path,
) -> None:
    perceptual = vgg16_loss(hed_file, 5)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert perceptual(image, image).item() == 0
    generated = (image * 0.5).requires_grad_()
    perceptual(generated, image).backward()
    assert generated.grad is not None and generated.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in perceptual.parameters())


def test_fewer_levels_cost_less(hed_file: Path) -> None:
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    one, two = (vgg16_loss(hed_file, levels)(image * 0.5, image).item() for levels in (1, 2))
    assert 0 < one < two


def test_perceptual_term_can_be_switched_off() -> None:
    assert load_perceptual(LossConfig(perceptual_backbone="none")) is None
    assert DESIGNS["glr"].load_perceptual(LossConfig(weight_perceptual=0)) is None


def test_the_gram_term_alone_asks_for_the_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDREENACT_VGG19_FILE", "/nowhere/vgg19.pth")
    with pytest.raises(WeightsError):
        DESIGNS["glr"].load_perceptual(LossConfig(weight_perceptual=0, weight_gram=1.0))


def test_a_design_without_the_term_asks_for_no_pretrained_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDREENACT_VGG19_FILE", "/nowhere/vgg19.pth")
    with pytest.raises(WeightsError):
        DESIGNS["glr"].load_perceptual(LossConfig())
    assert DESIGNS["x2face"].load_perceptual(LossConfig()) is None


def test_weighted_means_merge_without_a_mean_of_means() -> None:
    merged = merge({"a": WeightedMean.of(1.0, 1)}, {"a": WeightedMean.of(4.0, 2), "b": WeightedMean.of(5.0, 1)})
    assert merged["a"].value == 3.0 and merged["b"].value == 5.0
    with pytest.raises(ZeroDivisionError):
        _ = WeightedMean().value
