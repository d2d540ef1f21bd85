"""Landmarks from identity, pose and action units: how near they are, in closed form and by the landmark GAN.

    python -m benchmarks.landmark_base DATASET [--rounds 0 3 16]

Held-out frames of every person. Errors are mean distances in percent of the outer eye distance, both faces on their
mean point; the slope is of the drawn gap between the inner lips over the real one (1 opens fully); cross is the root
mean square error, in degrees, of the head pose of everybody drawn in everybody else's pose, read back from the drawn
landmarks by a ridge regression and by fitting the person's 3D shape. Strangers: the base of all others, one frame.
The landmark GAN is trained alone, by its L1 term, sites averaged as `--rounds` of 100 steps say, as in preset tiny.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from data_partition.partition import ClientData, site_data
from data_partition.shards.shard import Shard, open_dataset
from data_partition.statistics import base_moments
from deploy import files
from federation.settings import Settings, read_preset
from model.config import ModelConfig
from model.landmarks.closed_form import FORMS, ROTATED, Reduced, fit, summed
from model.landmarks.geometry import OUTER_EYE_CORNERS
from model.networks.landmark_base import MAX_AU_INTENSITY, LandmarkBase, form_features
from model.networks.landmark_gan import LandmarkGenerator

MOUTH, INNER_LIPS = slice(48, 68), (62, 66)
FloatArray = npt.NDArray[np.float64]
Draw = Callable[[int, Tensor, Tensor], Tensor]
"""Identity, [N, 3] pose and [N, 18] strength to [N, 68, 2] landmarks in sides, around the mean point."""


class Person:
    """Centred landmarks, pose and action units of one side of a shard's split."""

    def __init__(self, shard: Shard, *, is_test: bool) -> None:
        rows = np.flatnonzero(shard.is_test_F == is_test)
        landmarks_NKC = torch.from_numpy(shard.landmarks_FKC[rows]) / shard.size_px
        self.landmarks_NKC = landmarks_NKC - landmarks_NKC.mean(dim=1, keepdim=True)
        self.pose_NC = torch.from_numpy(shard.pose_FC[rows])
        self.strength_NA = torch.from_numpy(np.nan_to_num(shard.au_intensity_FA[rows])) / MAX_AU_INTENSITY
        self.presence_NA = torch.from_numpy(shard.au_presence_FA[rows])


def errors_percent(drawn_NKC: Tensor, real_NKC: Tensor) -> tuple[float, float]:
    """Of all landmarks, and of the mouth."""
    eyes_N = (real_NKC[:, OUTER_EYE_CORNERS[0]] - real_NKC[:, OUTER_EYE_CORNERS[1]]).norm(dim=-1, keepdim=True)
    error_NK = 100 * (drawn_NKC - real_NKC).norm(dim=-1) / eyes_N
    return float(error_NK.mean()), float(error_NK[:, MOUTH].mean())


def lip_slope(drawn: Sequence[Tensor], real: Sequence[Tensor]) -> float:
    """Of the drawn lip gap over the real one, over all people, each around its mean."""
    drawn_N, real_N = (torch.cat([gap_N - gap_N.mean() for gap_N in map(_lip_gap, one)]) for one in (drawn, real))
    return float((drawn_N @ real_N) / (real_N @ real_N))


def _lip_gap(landmarks_NKC: Tensor) -> Tensor:
    return (landmarks_NKC[:, INNER_LIPS[1]] - landmarks_NKC[:, INNER_LIPS[0]]).norm(dim=-1)


class Readers:
    """Head pose by landmarks, in two ways, learnt from training frames."""

    def __init__(self, people: Sequence[Person]) -> None:
        self._means = [person.landmarks_NKC.flatten(1).double().mean(dim=0) for person in people]
        self._poses = [person.pose_NC.double().mean(dim=0) for person in people]
        x = torch.cat([p.landmarks_NKC.flatten(1).double() - m for p, m in zip(people, self._means, strict=True)])
        y = torch.cat([p.pose_NC.double() - m for p, m in zip(people, self._poses, strict=True)])
        self._linear = torch.linalg.solve(x.T @ x + 1e-3 * torch.eye(x.shape[1]).double(), x.T @ y)
        self._shapes = [self._shape(person) for person in people]

    @staticmethod
    def _shape(person: Person) -> Tensor:
        """[3, 68] by least squares over all frames."""
        rest = torch.zeros_like(person.strength_NA, dtype=torch.float64)
        rotation = form_features(ROTATED, person.pose_NC.double(), rest)[..., :3].flatten(0, 1)
        return torch.linalg.lstsq(rotation, person.landmarks_NKC.double().transpose(1, 2).flatten(0, 1)).solution

    def linear(self, identity: int, landmarks_NKC: Tensor) -> Tensor:
        """[N, 3] degrees."""
        return (landmarks_NKC.flatten(1).double() - self._means[identity]) @ self._linear + self._poses[identity]

    def orthographic(self, identity: int, landmarks_NKC: Tensor) -> Tensor:
        """[N, 3] degrees, of the rotation nearest to the 2 x 3 matrix that carries the shape to the landmarks."""
        matrix_N23 = landmarks_NKC.double().transpose(1, 2) @ torch.linalg.pinv(self._shapes[identity])
        u, _, v = torch.linalg.svd(matrix_N23, full_matrices=False)
        first, second = (u @ v).unbind(dim=1)
        rotation = torch.stack([first, second, torch.linalg.cross(first, second)], dim=1)
        pitch = torch.atan2(rotation[:, 2, 1], rotation[:, 2, 2])
        yaw, roll = torch.asin(-rotation[:, 2, 0].clamp(-1, 1)), torch.atan2(rotation[:, 1, 0], rotation[:, 0, 0])
        return torch.rad2deg(torch.stack([pitch, yaw, roll], dim=1))


def row(name: str, draw: Draw, test: Sequence[Person], readers: Readers) -> str:
    """One line of the table."""
    drawn, real = [draw(i, p.pose_NC, p.strength_NA) for i, p in enumerate(test)], [p.landmarks_NKC for p in test]
    self_error, mouth = np.mean([errors_percent(*pair) for pair in zip(drawn, real, strict=True)], axis=0)
    slope = lip_slope(drawn, real)
    cross = [
        [
            (read(i, draw(i, p.pose_NC, p.strength_NA)) - p.pose_NC).square().mean()
            for read in (readers.linear, readers.orthographic)
        ]
        for i in range(len(test))
        for j, p in enumerate(test)
        if i != j
    ]
    linear, orthographic = np.sqrt(np.mean(cross, axis=0))
    return f"| {name} | {self_error:.2f} | {mouth:.2f} | {slope:.2f} | {linear:.2f} / {orthographic:.2f} |"


def _by_base(base: LandmarkBase, identity: int, pose_NC: torch.Tensor, strength_NA: torch.Tensor) -> torch.Tensor:
    return base(torch.full((len(pose_NC),), identity), pose_NC, strength_NA)


def agreed_base(sites: Sequence[ClientData], num_identities: int, forms: Sequence[str]) -> LandmarkBase:
    """The base of the sites' sums; of one form alone, if only that is wanted."""
    moments = [base_moments(site, num_identities) for site in sites]
    reduced = {form: Reduced.of(form, summed([one[form] for one in moments])) for form in FORMS}
    for form in FORMS:
        if form.name not in forms:
            reduced[form] = replace(reduced[form], square_1=reduced[form].square_1 + 1e9)
    counts_I = np.sum([site.identity_counts(num_identities) for site in sites], axis=0)
    base = LandmarkBase(num_identities)
    base.take(fit(reduced, counts_I > 0, counts_I.sum()))
    return base


def strangers(shards: Sequence[Shard], form: str, readers: Readers) -> str:
    """Each person by the base of the others and a frame from the middle of the training part."""
    found, all_moved, all_real = [], [], []
    for i, shard in enumerate(shards):
        others = [site_data(other, j) for j, other in enumerate(shards) if j != i]
        base = agreed_base(others, len(shards), [form])
        train, test = (Person(shard, is_test=is_test) for is_test in (False, True))
        at = slice(len(train.pose_NC) // 2, len(train.pose_NC) // 2 + 1)
        unknown = torch.full((len(test.pose_NC),), len(shards))
        moved = (
            train.landmarks_NKC[at]
            + base(unknown, test.pose_NC, test.strength_NA)
            - base(unknown[:1], train.pose_NC[at], train.strength_NA[at])
        )
        copied = train.landmarks_NKC[at].expand_as(test.landmarks_NKC)
        pose = (readers.linear(i, moved) - test.pose_NC).square().mean().sqrt()
        of_copy, of_moved = (errors_percent(one, test.landmarks_NKC) for one in (copied, moved))
        found.append([of_copy[0], *of_moved, float(pose)])
        all_moved.append(moved)
        all_real.append(test.landmarks_NKC)
    copied_error, error, mouth, pose = np.mean(found, axis=0)
    slope = lip_slope(all_moved, all_real)
    return f"| stranger, {form} (copied: {copied_error:.2f}) | {error:.2f} | {mouth:.2f} | {slope:.2f} | {pose:.2f} |"


def train(generator: LandmarkGenerator, people: Sequence[Person], num_rounds: int, settings: Settings) -> None:
    """FedAvg of `num_rounds` times 100 steps, Adam's moments kept at the sites, in place."""
    optimizers: list[dict[str, object]] = [{} for _ in people]
    rng = np.random.default_rng(0)
    for _ in range(num_rounds):
        start = {name: value.clone() for name, value in generator.state_dict().items()}
        trained = []
        for i, person in enumerate(people):
            generator.load_state_dict(start)
            adam = torch.optim.Adam(
                generator.parameters(),
                settings.optimizer.learning_rate_generator,
                betas=(settings.optimizer.adam_beta1, settings.optimizer.adam_beta2),
            )
            if optimizers[i]:
                adam.load_state_dict(optimizers[i])
            for _ in range(100):
                rows = torch.from_numpy(rng.integers(len(person.pose_NC), size=settings.optimizer.batch_size))
                drawn = draw_by(generator, person)(i, rows)
                adam.zero_grad()
                (settings.loss.weight_lgan_l1 * (drawn - person.landmarks_NKC[rows]).abs().mean()).backward()
                adam.step()
            optimizers[i] = adam.state_dict()
            trained.append({name: value.clone() for name, value in generator.state_dict().items()})
        generator.load_state_dict(_mean(trained, [len(person.pose_NC) for person in people]))


def draw_by(generator: LandmarkGenerator, person: Person) -> Callable[[int, Tensor], Tensor]:
    """Draws rows of a person, around the mean point and in sides of the frame."""
    au_NA = person.presence_NA if generator.base is None else person.strength_NA

    def draw(identity: int, rows: Tensor) -> Tensor:
        drawn = generator(torch.full((len(rows),), identity), person.pose_NC[rows], au_NA[rows])
        return (drawn - drawn.mean(dim=1, keepdim=True)) / generator.size_px

    return draw


def _mean(trained: Sequence[dict[str, Tensor]], weights: Sequence[int]) -> dict[str, Tensor]:
    """By frames; rows of an identity from its own site."""
    mean = {}
    for name in trained[0]:
        stacked = torch.stack([one[name] for one in trained])
        if name in ("condition.identity.weight", "shape.weight"):
            mean[name] = torch.stack([stacked[i, i] for i in range(len(trained))])
        else:
            mean[name] = (stacked * torch.tensor(weights).view(-1, *[1] * (stacked.ndim - 1))).sum(dim=0) / sum(weights)
    return mean


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--rounds", type=int, nargs="*", default=[0, 3, 16])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    shards = open_dataset(arguments.dataset)
    settings = Settings.from_flat(read_preset(files.PRESETS / "tiny.toml"))
    people, test = ([Person(shard, is_test=is_test) for shard in shards] for is_test in (False, True))
    readers = Readers(people)
    sites = [site_data(shard, i) for i, shard in enumerate(shards)]
    lines = []
    for form in FORMS:
        base = agreed_base(sites, len(shards), [form.name])
        lines.append(row(f"base, {form.name}", functools.partial(_by_base, base), test, readers))
    lines += [strangers(shards, form.name, readers) for form in FORMS]
    base = agreed_base(sites, len(shards), [form.name for form in FORMS])
    print("\n".join(lines), flush=True)
    for lgan_base in ("none", "closed"):
        config = replace(settings.model, lgan_base=lgan_base, num_identities=len(shards))
        for num_rounds in arguments.rounds:
            generator = untrained(config, people, base)
            train(generator, people, num_rounds, settings)
            name = f"landmark GAN, lgan-base = {lgan_base}, {num_rounds} x 100"
            print(gan_row(name, generator, test, readers), flush=True)


def draw_by_base(base: LandmarkBase) -> Draw:
    """Draws by the base alone."""
    return lambda identity, pose_NC, strength_NA: base(torch.full((len(pose_NC),), identity), pose_NC, strength_NA)


def untrained(config: ModelConfig, people: Sequence[Person], base: LandmarkBase) -> LandmarkGenerator:
    """As the server makes it before round 1."""
    torch.manual_seed(0)
    generator = LandmarkGenerator(config)
    means = torch.stack([person.landmarks_NKC.mean(dim=0) for person in people])
    generator.start_from((means + 0.5) * config.image_size_px)
    if generator.base is not None:
        generator.base.load_state_dict(base.state_dict())
    return generator


@torch.no_grad()
def gan_row(name: str, generator: LandmarkGenerator, test: Sequence[Person], readers: Readers) -> str:
    """One line of the table, of a trained landmark GAN."""

    def draw(identity: int, pose_NC: Tensor, strength_NA: Tensor) -> Tensor:
        person = next(one for one in test if one.pose_NC is pose_NC)
        return draw_by(generator, person)(identity, torch.arange(len(pose_NC)))

    return row(name, draw, test, readers)


if __name__ == "__main__":
    main()
