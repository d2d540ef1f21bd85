"""A file of the published layout draws what plain code, written from the paper's formulas, says that it draws."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model.batch import GeneratorInputs
from model.errors import CheckpointError
from model.networks.comparators.published_fomm import PublishedFOMM
from model.networks.warping import warp
from model.progress import no_progress
from reenact.face_frame import FaceFrame
from reenact.guidance_choice import Guidance, MotionKind
from reenact.published import LICENCE, read_published
from reenact.reenactor import Reenactor
from reenact.studio import Studio

WIDTH = 2
State = dict[str, Tensor]


def of_convolution(name: str, ins: int, outs: int, kernel: int, rng: torch.Generator) -> State:
    spread = math.sqrt(2 / (ins * kernel**2))
    return {
        f"{name}.weight": torch.randn(outs, ins, kernel, kernel, generator=rng) * spread,
        f"{name}.bias": torch.randn(outs, generator=rng) * 0.1,
    }


def of_norm(name: str, channels: int, rng: torch.Generator) -> State:
    return {
        f"{name}.weight": torch.rand(channels, generator=rng) + 0.5,
        f"{name}.bias": torch.randn(channels, generator=rng) * 0.2,
        f"{name}.running_mean": torch.randn(channels, generator=rng) * 0.2,
        f"{name}.running_var": torch.rand(channels, generator=rng) + 0.5,
        f"{name}.num_batches_tracked": torch.tensor(7),
    }


def of_block(name: str, ins: int, outs: int, rng: torch.Generator, kernel: int = 3) -> State:
    return of_convolution(f"{name}.conv", ins, outs, kernel, rng) | of_norm(f"{name}.norm", outs, rng)


def of_hourglass(name: str, ins: int, width: int, most: int, rng: torch.Generator) -> State:
    state: State = {}
    for i in range(5):
        before = ins if i == 0 else min(most, width * 2**i)
        state |= of_block(f"{name}.encoder.down_blocks.{i}", before, min(most, width * 2 ** (i + 1)), rng)
    for place, i in enumerate((4, 3, 2, 1, 0)):
        before = min(most, width * 2 ** (i + 1)) * (1 if i == 4 else 2)
        state |= of_block(f"{name}.decoder.up_blocks.{place}", before, min(most, width * 2**i), rng)
    return state


def blur() -> Tensor:
    """[3, 1, 13, 13] Gaussian of standard deviation 1.5."""
    row = torch.exp(-((torch.arange(13.0) - 6) ** 2) / (2 * 1.5**2))
    kernel = torch.outer(row, row)
    return (kernel / kernel.sum()).expand(3, 1, 13, 13).clone()


def states(width: int = WIDTH) -> tuple[State, State]:
    """`generator` and `kp_detector`."""
    rng, points = torch.Generator().manual_seed(0), width // 2
    detector = of_hourglass("predictor", 3, points, 32 * points, rng) | {"down.weight": blur()}
    detector |= of_convolution("kp", points + 3, 10, 7, rng) | of_convolution("jacobian", points + 3, 40, 7, rng)
    detector["jacobian.weight"] *= 0.1
    detector["jacobian.bias"] += torch.tensor([1.0, 0, 0, 1]).repeat(10)
    motion = "dense_motion_network"
    generator = of_hourglass(f"{motion}.hourglass", 44, width, 16 * width, rng) | {f"{motion}.down.weight": blur()}
    generator |= of_convolution(f"{motion}.mask", width + 44, 11, 7, rng)
    generator |= of_convolution(f"{motion}.occlusion", width + 44, 1, 7, rng)
    generator |= of_block("first", 3, width, rng, kernel=7)
    for i in range(2):
        generator |= of_block(f"down_blocks.{i}", width * 2**i, width * 2 ** (i + 1), rng)
        generator |= of_block(f"up_blocks.{i}", width * 2 ** (2 - i), width * 2 ** (1 - i), rng)
    for i in range(6):
        for half in (1, 2):
            generator |= of_convolution(f"bottleneck.r{i}.conv{half}", 4 * width, 4 * width, 3, rng)
            generator |= of_norm(f"bottleneck.r{i}.norm{half}", 4 * width, rng)
    return generator | of_convolution("final", width, 3, 7, rng), detector


def write(path: Path, **changes: Any) -> Path:
    """A file as PyTorch 1.0 wrote them, with what else is in the published ones."""
    generator, detector = states()
    whole = {"generator": generator, "kp_detector": detector, "epoch": 99, "optimizer_generator": {"state": {}}}
    torch.save(whole | changes, path, _use_new_zipfile_serialization=False)
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("published") / "vox-cpk.pth.tar")


def conv(state: State, name: str, x: Tensor, padding: int) -> Tensor:
    return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=padding)


def normed(state: State, name: str, x: Tensor) -> Tensor:
    mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    x = (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
    return x * state[f"{name}.weight"][:, None, None] + state[f"{name}.bias"][:, None, None]


def block(state: State, name: str, x: Tensor, padding: int = 1) -> Tensor:
    return normed(state, f"{name}.norm", conv(state, f"{name}.conv", x, padding)).clamp_min(0)


def doubled(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def hourglass(state: State, name: str, x: Tensor) -> Tensor:
    maps = [x]
    for i in range(5):
        maps.append(F.avg_pool2d(block(state, f"{name}.encoder.down_blocks.{i}", maps[-1]), 2))
    x = maps.pop()
    for i in range(5):
        x = torch.cat([block(state, f"{name}.decoder.up_blocks.{i}", doubled(x)), maps.pop()], dim=1)
    return x


def shrunk(state: State, name: str, x: Tensor) -> Tensor:
    return F.conv2d(F.pad(x, (6, 6, 6, 6)), state[f"{name}.weight"], groups=3)[:, :, ::4, ::4]


def grid(side: int) -> Tensor:
    """[side, side, 2] (x, y), corner pixels at the corners."""
    steps = torch.arange(side, dtype=torch.float64) * 2 / (side - 1) - 1
    return torch.stack([steps.expand(side, side), steps[:, None].expand(side, side)], dim=-1)


def sampled(x: Tensor, places: Tensor) -> Tensor:
    return F.grid_sample(x, places, mode="bilinear", padding_mode="zeros", align_corners=True)


def keypoints(state: State, image: Tensor) -> tuple[Tensor, Tensor]:
    features = hourglass(state, "predictor", shrunk(state, "down", image))
    heat = torch.softmax(conv(state, "kp", features, 0).flatten(2) / 0.1, dim=2)
    points = heat @ grid(58).flatten(0, 1)
    maps = conv(state, "jacobian", features, 0).view(len(image), 10, 4, -1)
    return points, (heat[:, :, None] * maps).sum(dim=3).view(-1, 10, 2, 2)


def gaussian(point: Tensor) -> Tensor:
    """[64, 64] about (x, y)."""
    return torch.exp(-0.5 * ((grid(64) - point) ** 2).sum(dim=2) / 0.01)


def drawn(states_: tuple[State, State], source: Tensor, driving: Tensor, reference: Tensor | None) -> Tensor:
    """One picture, [1, 3, 256, 256] in [0, 1], of pictures like it."""
    state, detector = states_
    (p_s, j_s), (p_d, j_d) = keypoints(detector, source), keypoints(detector, driving)
    if reference is not None:
        p_r, j_r = keypoints(detector, reference)
        p_d, j_d = p_s + p_d - p_r, j_d @ torch.inverse(j_r) @ j_s
    small = shrunk(state, "dense_motion_network.down", source)
    places, seen = [grid(64)], [torch.zeros(1, 64, 64, dtype=torch.float64), small[0]]
    for k in range(10):
        away = (grid(64) - p_d[0, k]) @ (j_s[0, k] @ torch.inverse(j_d[0, k])).T
        places.append(away + p_s[0, k])
        seen += [(gaussian(p_d[0, k]) - gaussian(p_s[0, k]))[None], sampled(small, places[-1][None])[0]]
    features = hourglass(state, "dense_motion_network.hourglass", torch.cat(seen)[None])
    mask = torch.softmax(conv(state, "dense_motion_network.mask", features, 3), dim=1)
    place = sum(mask[0, m, :, :, None] * places[m] for m in range(11))[None]
    x = block(state, "first", source, 3)
    for i in range(2):
        x = F.avg_pool2d(block(state, f"down_blocks.{i}", x), 2)
    x = sampled(x, place) * torch.sigmoid(conv(state, "dense_motion_network.occlusion", features, 3))
    for i in range(6):
        name = f"bottleneck.r{i}"
        hidden = conv(state, f"{name}.conv1", normed(state, f"{name}.norm1", x).clamp_min(0), 1)
        x = x + conv(state, f"{name}.conv2", normed(state, f"{name}.norm2", hidden).clamp_min(0), 1)
    for i in range(2):
        x = block(state, f"up_blocks.{i}", doubled(x))
    return torch.sigmoid(conv(state, "final", x, 3))


def pictures(seed: int) -> Tensor:
    """[2, 3, 256, 256] smooth ones in [0, 1]."""
    coarse = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.interpolate(coarse, (256, 256), mode="bicubic", align_corners=True).clamp(0, 1)


def inputs(source: Tensor, driving: Tensor, reference: Tensor | None = None) -> GeneratorInputs:
    nothing = torch.zeros(len(source), 1, 1, 1)
    return GeneratorInputs(
        source_NCHW=source * 2 - 1,
        driving_NCHW=driving * 2 - 1,
        source_landmarks_NKC=nothing,
        source_heatmap_NCHW=nothing,
        target_landmarks_NKC=nothing,
        heatmap_NCHW=nothing,
        reference_NCHW=None if reference is None else reference * 2 - 1,
    )


@pytest.mark.integration
@pytest.mark.parametrize("is_relative", [False, True])
@torch.no_grad()
def test_it_draws_what_the_published_network_draws(file: Path, is_relative: bool) -> None:
    source, driving, reference = pictures(1), pictures(2), pictures(3) if is_relative else None
    output = read_published(file).networks().generator.double()(inputs(source, driving, reference))
    generator, detector = ({name: value.double() for name, value in state.items()} for state in states())
    second = [None if picture is None else picture[1:] for picture in (source, driving, reference)]
    wanted = drawn((generator, detector), *second)  # type: ignore[arg-type]
    torch.testing.assert_close((output.image_NCHW[1:] + 1) / 2, wanted, atol=1e-9, rtol=0)
    assert wanted.std() > 0.05 and not torch.allclose(output.image_NCHW[0], output.image_NCHW[1], atol=0.05)


@pytest.mark.integration
@torch.no_grad()
def test_its_flow_is_in_the_units_of_the_other_designs(file: Path) -> None:
    """The source warped by it as theirs are is the source where the network samples it."""
    output = read_published(file).networks().generator.double()(inputs(pictures(1), pictures(2)))
    ours = warp(pictures(1) * 2 - 1, output.flow_NCHW)
    place = output.flow_NCHW.abs().amax(dim=1, keepdim=True)
    assert place.max() > 0.1
    inner = (slice(None), slice(None), slice(100, 156), slice(100, 156))
    torch.testing.assert_close(ours[inner], output.warped_source_NCHW[inner], atol=1e-9, rtol=0)


def test_at_its_published_width_every_part_has_the_published_size() -> None:
    with torch.device("meta"):
        network = PublishedFOMM(64)
    motion = network.generator.dense_motion_network
    counts = [sum(p.numel() for p in part.parameters()) / 1e6 for part in (network.kp_detector, motion, network)]
    assert [round(count, 1) for count in counts] == [14.2, 37.7, 59.8]
    own, (generator, detector) = network.state_dict(), states(64)
    assert {name: tensor.shape for name, tensor in own.items()} == {
        f"{group}.{name}": tensor.shape
        for group, state in (("generator", generator), ("kp_detector", detector))
        for name, tensor in state.items()
    }


def face(seed: int) -> FaceFrame:
    rng = np.random.default_rng(seed)
    return FaceFrame(
        image_HWC=rng.integers(0, 256, (256, 256, 3), dtype=np.uint8),
        landmarks_KC=rng.uniform(64, 192, (68, 2)).astype(np.float32),
        pose_C=np.zeros(3, np.float32),
        au_presence_A=np.zeros(18, np.float32),
        au_intensity_A=np.zeros(18, np.float32),
    )


def test_it_takes_the_place_of_a_run_and_tells_the_licence(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert Studio(file, torch.device("cpu"), no_progress).result_px == 256
    assert LICENCE in caplog.text
    reenactor = Reenactor(read_published(file), torch.device("cpu"))
    drawing, guidance = reenactor.draw_pair(face(0), face(1), Guidance.AUTO, motion=MotionKind.ABSOLUTE)
    assert guidance is Guidance.DRIVING and drawing.result.shape == (256, 256, 3)
    assert len(reenactor.weights_sha256()) == 64 and reenactor.takes_reference


class Carried:
    """Something that a file could have run."""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"generator": None}, "has epoch, generator, kp_detector, optimizer_generator, wanted generator and kp_detect"),
        ({"kp_detector": {"kp.weight": 1.0}}, "kp_detector.kp.weight: no tensor of float32"),
        ({"generator": {}}, r"generator.first.conv.weight is none, wanted \(64, 3, 7, 7\)"),
        ({"kp_detector": states()[1] | {"more": torch.zeros(1)}}, "unknown tensor kp_detector.more"),
        ({"generator": {k: v for k, v in states()[0].items() if k != "final.bias"}}, "missing tensor generator.final"),
        ({"generator": states()[0] | {"final.bias": torch.zeros(4)}}, r"final.bias has shape \(4,\), expected \(3,\)"),
        ({"generator": states()[0] | {"final.bias": torch.full((3,), torch.nan)}}, "3 of 3 values that are not finite"),
        ({"epoch": Carried()}, "not readable as tensors alone"),
    ],
)
def test_another_file_is_refused_in_one_line(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path = write(tmp_path / "other.pth.tar", **changes)
    with pytest.raises(CheckpointError, match=words) as raised:
        read_published(path)
    assert str(raised.value).startswith(str(path)) and "\n" not in str(raised.value)


def test_what_is_no_file_of_pytorch_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "page.pth"
    path.write_text("<html>")
    with pytest.raises(CheckpointError, match=r"page.pth: not readable as tensors alone"):
        read_published(path)
