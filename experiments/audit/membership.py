"""Membership: which frames, and which people, a model was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import comb

import numpy as np
from numpy.typing import NDArray

from evaluation.attacks.membership import Probe, losses, seconds
from evaluation.attacks.separation import (
    FloatArray,
    Sample,
    area_under_curve,
    permutation_p_value,
    resampled,
    true_positive_rate,
)
from evaluation.figures.bootstrap import Estimate
from evaluation.figures.tables import TextTable
from experiments.audit.section import Figure, Section
from model.checkpoint import Checkpoint

LOSS, DIFFICULTY, REFERENCE, CONTROL = (
    "loss",
    "loss against copying the source",
    "loss against a reference",
    "control: the reference's loss alone",
)
_RATES = (0.01, 0.05)
_CONVINCING = 0.05

_FRAME_TEXT = (
    "Who: anybody who has the model and a frame, with its landmarks, that may or may not have been trained on. The "
    "attack draws the frame from another second of its clip and takes a small error for membership (Yeom et al. 2018). "
    "Training frames against frames held out of the same clip, as many of each; every person's figures are centred on "
    "the person's median first.",
    "The calibrated attacks take the logarithm of the error relative to that of copying the source (how hard the "
    "frame is), or relative to that of reference models trained without the person. The control is such a reference "
    "alone: it saw neither kind, so what it tells apart is the time of the clip and not membership. Intervals "
    "resample whole seconds: neighbouring frames are much alike. An attacker with more models of his own (Carlini et "
    "al. 2022) may do better.",
)
_PERSON_TEXT = (
    "Who: anybody who has the model and wants to know whether a person was trained on, with frames that nobody trained "
    "on. People of the run against people it does not know, each by the mean over held-out frames of the same figures "
    "as above. p: the chance of such an area if membership were drawn by lot among these people.",
    "The area over frames counts single frames; its interval resamples seconds of these people and says nothing about "
    "others: people differ more in how easy they are to draw than in whether they were trained on.",
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Person:
    """One person's frames and what the attacks make of them."""

    name: str
    is_member: bool
    """Whether the run was trained on the person."""
    is_trained_on_N: NDArray[np.bool_]
    """[N] whether a frame is of the training part."""
    second_N: NDArray[np.int64]
    figures: dict[str, FloatArray]
    """Attack to [N] figures, higher for members; those with a reference only where one does not know the person."""


def look_at(probe: Probe, run: Checkpoint, references: Sequence[Checkpoint], size_px: int) -> Person:
    """What every attack makes of a person's frames, with the weights that are used: averaged ones if a run has them.

    Args:
        probe: at least one frame.
        run: the model under audit.
        references: other models; those that know the person are not used for it.
        size_px: image side of all models.
    """
    name = probe.shard.identity
    loss_N, copied_N = losses(run.networks(), probe, size_px)
    figures = {LOSS: -np.log(loss_N), DIFFICULTY: np.log(copied_N) - np.log(loss_N)}
    strangers = [reference for reference in references if name not in reference.identities]
    if strangers:
        theirs_MN = [np.log(losses(other.networks(), probe, size_px)[0]) for other in strangers]
        theirs_N = np.mean(theirs_MN, axis=0)
        figures |= {REFERENCE: theirs_N - np.log(loss_N), CONTROL: -theirs_N}
    return Person(
        name=name,
        is_member=name in run.identities,
        is_trained_on_N=probe.is_trained_on_N,
        second_N=seconds(probe.shard, probe.driving_N),
        figures=figures,
    )


def frame_section(people: Sequence[Person], *, seed: int) -> Section:
    """Training frames against held-out frames of the people that the run knows."""
    known = [
        person for person in people if person.is_member and 0 < person.is_trained_on_N.sum() < len(person.second_N)
    ]
    figures: dict[str, Figure] = {}
    rows, reasons = [], []
    for attack in (LOSS, DIFFICULTY, REFERENCE, CONTROL):
        those = [person for person in known if attack in person.figures]
        if not those:
            reasons.append(_why_not(attack, bool(known)))
            continue
        found = _separated(
            _frames(those, attack, is_trained_on=True), _frames(those, attack, is_trained_on=False), seed
        )
        figures |= {f"Frames, {attack}: {name}": figure for name, figure in found.items()}
        counts = [int(sum((person.is_trained_on_N == side).sum() for person in those)) for side in (True, False)]
        rows.append((attack, *_cells(found), f"{counts[0]} / {counts[1]}"))
    tables = [TextTable(title="All people together", header=(*_HEADER, "trained on / held out"), rows=tuple(rows))]
    if known:
        tables.append(_by_person(known, seed))
    return Section(
        title="Which frames were trained on",
        text=_FRAME_TEXT,
        tables=tuple(tables if rows else ()),
        figures=figures,
        not_measured=tuple(reasons) + _too_few(known),
    )


def person_section(people: Sequence[Person], *, seed: int) -> Section:
    """People that the run knows against people it does not."""
    title = "Which people were trained on"
    sides = [[person for person in people if person.is_member == side] for side in (True, False)]
    if not all(sides):
        who = "does not know any person of" if sides[1] else "knows every person of"
        reason = f"the run {who} the dataset; add people it was trained on and people it was not, prepared alike."
        return Section(title=title, text=_PERSON_TEXT, not_measured=(reason,))
    figures: dict[str, Figure] = {}
    rows, reasons = [], []
    for attack in (LOSS, DIFFICULTY, REFERENCE):
        means = [[_mean(person, attack) for person in side if attack in person.figures] for side in sides]
        if not all(means):
            reasons.append(_why_not(attack, has_frames=True))
            continue
        members, others = map(np.asarray, means)
        samples = [_frames(side, attack, is_trained_on=False, is_centred=False) for side in sides]
        area = Figure.of(resampled(area_under_curve, *samples, seed=seed), 0.5)
        figures[f"People, {attack}: area under the curve over frames"] = area
        p_value, least = permutation_p_value(members, others), 1 / comb(len(members) + len(others), len(members))
        rows.append(
            (
                attack,
                f"{area_under_curve(members, others):.3f}",
                f"{p_value:.2f} (least possible {least:.2f})",
                area.to_text(3),
                f"{len(members)} / {len(others)}",
            )
        )
        if least > _CONVINCING:
            reasons.append(
                f"{attack}, over people: with {len(members)} and {len(others)} of them even a perfect order has p = "
                f"{least:.2f}, so no order of theirs is evidence; rates of members found need 20 people not trained on "
                "for 5 % and 100 for 1 %."
            )
    table = TextTable(
        title="People of the run against others, held-out frames",
        header=("attack", "area over people (chance 0.5)", "p", "area over frames", "people: members / others"),
        rows=tuple(rows),
    )
    return Section(
        title=title,
        text=_PERSON_TEXT,
        tables=(table, _means(people)) if rows else (),
        figures=figures,
        not_measured=tuple(reasons),
    )


_HEADER = ("attack", "area under the curve (chance 0.5)", "found at 1 % accused, %", "found at 5 % accused, %")


def _separated(members: Sample, others: Sample, seed: int) -> dict[str, Figure]:
    """Area and rates of one attack."""
    found = {"area under the curve": Figure.of(resampled(area_under_curve, members, others, seed=seed), 0.5)}
    for rate in _RATES:
        if int(rate * others.values_N.size) < 1:
            nothing = Estimate(value=np.nan, low=np.nan, high=np.nan, num_pairs=0)
            found[f"found at {rate:.0%} accused"] = Figure.of(nothing, rate)
            continue
        statistic = partial(true_positive_rate, false_positive_rate=rate)
        found[f"found at {rate:.0%} accused"] = Figure.of(resampled(statistic, members, others, seed=seed), rate)
    return found


def _cells(found: dict[str, Figure]) -> tuple[str, ...]:
    area, *rates = found.values()
    return (area.to_text(3), *(rate.to_text(1, scale=100) for rate in rates))


def _by_person(known: Sequence[Person], seed: int) -> TextTable:
    """The area of every attack for each person."""
    attacks = (LOSS, DIFFICULTY, REFERENCE, CONTROL)
    rows = []
    for person in known:
        cells = []
        for attack in attacks:
            if attack not in person.figures:
                cells.append("-")
                continue
            sides = [_frames([person], attack, is_trained_on=side) for side in (True, False)]
            cells.append(Figure.of(resampled(area_under_curve, *sides, seed=seed), 0.5).to_text(3))
        rows.append((person.name, *cells))
    return TextTable(title="Area under the curve by person", header=("person", *attacks), rows=tuple(rows))


def _means(people: Sequence[Person]) -> TextTable:
    """Each person's figures, so that who is easy to draw can be seen."""
    attacks = (LOSS, DIFFICULTY, REFERENCE)
    rows = tuple(
        (
            person.name,
            "yes" if person.is_member else "no",
            *(f"{_mean(person, attack):.3f}" if attack in person.figures else "-" for attack in attacks),
        )
        for person in people
    )
    return TextTable(title="Mean figure of each person", header=("person", "trained on", *attacks), rows=rows)


def _mean(person: Person, attack: str) -> float:
    return float(person.figures[attack][~person.is_trained_on_N].mean())


def _frames(people: Sequence[Person], attack: str, *, is_trained_on: bool, is_centred: bool = True) -> Sample:
    """One side's frames of several people, seconds of different people kept apart."""
    values, blocks = [], []
    for number, person in enumerate(person for person in people if attack in person.figures):
        is_side_N = person.is_trained_on_N == is_trained_on
        figures_N = person.figures[attack]
        values.append(figures_N[is_side_N] - (np.median(figures_N) if is_centred else 0.0))
        blocks.append(number * 2**32 + person.second_N[is_side_N])
    return Sample(np.concatenate(values), np.concatenate(blocks))


def _why_not(attack: str, has_frames: bool) -> str:
    if not has_frames:
        return f"{attack}: no person of the run has training frames and held-out frames at least a second apart."
    return f"{attack}: every reference knows the people; give --reference RUN trained without them."


def _too_few(known: Sequence[Person]) -> tuple[str, ...]:
    num_held_out = int(sum((~person.is_trained_on_N).sum() for person in known))
    return tuple(
        f"members found while {rate:.0%} are accused: needs {round(1 / rate)} held-out frames, got {num_held_out}."
        for rate in _RATES
        if known and rate * num_held_out < 1
    )
