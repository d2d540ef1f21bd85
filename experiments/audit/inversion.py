"""Which frames a server computes back from one round, alone and summed, with the weights as trained and with a trap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from data_partition.batches import FrameRef, Pair, make_batch
from data_partition.partition import ClientData, site_data
from data_partition.shards.shard import Shard
from evaluation.attacks.inversion import (
    Likeness,
    LocalUpdate,
    Steps,
    Targets,
    can_invert,
    gradients_of,
    inverted,
    local_update,
    projections,
    round_batches,
    set_near_trap,
    set_threshold,
    set_trap,
    summed,
)
from evaluation.attacks.separation import FloatArray
from evaluation.figures.bootstrap import estimate
from evaluation.figures.pooling import Pooling
from evaluation.figures.tables import TextTable
from experiments.audit.section import Figure, Section
from federation.reach import check_reach
from federation.settings import Settings
from model.checkpoint import Checkpoint
from model.designs.registry import design_of
from model.errors import UnknownWeightsError
from model.networks.bundle import NamedArrays, Networks
from model.progress import Progress

_CONTROL, _ALONE, _SUM, _TRAP, _TRAP_SUM, _NEAR_TRAP = (
    "control: plain gradient of one frame",
    "one site's update, weights as trained",
    "sum of all sites, weights as trained",
    "one site's update, weights chosen",
    "sum of all sites, weights chosen",
    "one site's update, weights chosen within reach",
)
_SKIPPED = 3
"""Rounds from a known one to the next that a server asks for: a site may have missed those between."""
_SENT, _NO_WEIGHTS, _NO_UPDATE = "sends it", "does not train", "trains, does not send"
_TEXT = (
    "Who: the server, after one round of the run's own local-steps and batch-size (and clipping and noise, if any) "
    "at one person a site, with fresh optimisers, which a server gets by calling the round the first. The attack is "
    "closed-form inversion of the patch embedding: its gradient and that of the positions give all patches at once. "
    "The control says that it works: on the gradient of a single frame.",
    "Weights as trained: a server that keeps to the protocol, which sends those of the last round, also where what is "
    "used is their average over rounds. Weights chosen: one that sends weights made for "
    "reading. Its gate lets only the frame through that projects highest, at a threshold it finds by bisection over "
    "a few rounds (here it is given). The sum is what secure aggregation shows, every site having been sent the same "
    "weights. Within reach: as near to such weights as three honest rounds could have come from the run's.",
    "A deployed site trains only from weights that honest training of the run can have made, and sends only an update "
    "that more than a few of its steps made; the last column says what it does. The pictures of those that do not send "
    "are what a server would read without these checks, or of sites of an older version.",
    "PSNR and SSIM are of luma, brightness and contrast fitted, against the training frame that the picture is most "
    "like (random colours of training count against the attacker). The guess is the mean frame of the other people "
    "(of all, for the sum), held against the same frame: what one has without any update. Above the person's own "
    "mean frame means that a frame was read and not just a person. Intervals over sites. An attacker with more work, "
    "with gradient matching and a prior for faces, may do more with weights as trained; this is a lower bound on "
    "what leaks.",
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Recovered:
    """One picture of an attack, and what it is compared with."""

    attack: str
    person: str
    picture_HW: FloatArray
    truth_HW: FloatArray
    guess_HW: FloatArray
    found: Likeness
    guess: Likeness
    own_mean: Likeness
    answer: str
    """What a deployed site does."""


def inversion_section(
    shards: Sequence[Shard], checkpoint: Checkpoint, *, seed: int, progress: Progress
) -> tuple[Section, list[Recovered]]:
    """Attack one round of each site and of their sum.

    The round goes on from the run's last weights, as its next one would, and not from averaged ones: a server sends
    sites no others.

    Args:
        shards: people; those that the checkpoint does not know are left out.
        checkpoint: from whose weights the round goes on.
        seed: of pairs, trap and resampling.
        progress: told after every site.
    """
    title = "Which frames can be read from a round"
    settings = Settings.from_flat(checkpoint.settings)
    known = [shard for shard in shards if shard.identity in checkpoint.identities and (~shard.is_test_F).sum() > 1]
    if not can_invert(settings) or len(known) < 2:
        reason = (
            "the attack is on the positions of a Vision Transformer, and this network has none."
            if not can_invert(settings)
            else f"the dataset has {len(known)} people of the run with training frames, wanted at least two."
        )
        return Section(title=title, text=_TEXT, not_measured=(reason,)), []
    recovered = _Attacks(known, checkpoint, settings, seed, progress).run()
    attacks = list(dict.fromkeys(one.attack for one in recovered))
    figures: dict[str, Figure] = {}
    rows = []
    for attack in attacks:
        those = [one for one in recovered if one.attack == attack]
        psnr, above, above_own, likeness = (
            _pooled(values, seed)
            for values in (
                [one.found.psnr_db for one in those],
                [one.found.psnr_db - one.guess.psnr_db for one in those],
                [one.found.psnr_db - one.own_mean.psnr_db for one in those],
                [one.found.ssim for one in those],
            )
        )
        guess_ssim = np.mean([one.guess.ssim for one in those])
        figures |= {f"{attack}: dB above the guess": above, f"{attack}: dB above the own mean": above_own}
        figures |= {f"{attack}: PSNR, dB": psnr, f"{attack}: SSIM": likeness}
        cells = (psnr.to_text(1), above.to_text(1), above_own.to_text(1), likeness.to_text(2), f"{guess_ssim:.2f}")
        answers = "; ".join(dict.fromkeys(one.answer for one in those))
        rows.append((attack, *cells, str(len(those)), answers))
    header = (
        "what is seen",
        "PSNR, dB",
        "above the guess, dB",
        "above the own mean, dB",
        "SSIM",
        "SSIM of the guess",
        "pictures",
        "a deployed site",
    )
    table = TextTable(title=_what(settings, known), header=header, rows=tuple(rows))
    return Section(title=title, text=_TEXT, tables=(table,), figures=figures), recovered


class _Answered(NamedTuple):
    """What a server would see of a site, and what a deployed site does in its place."""

    steps: Steps
    answer: str


class _Attacks:
    """One audit's rounds."""

    def __init__(
        self, known: Sequence[Shard], checkpoint: Checkpoint, settings: Settings, seed: int, progress: Progress
    ) -> None:
        self._known, self._checkpoint, self._settings, self._seed = known, checkpoint, settings, seed
        self._size_px = settings.model.image_size_px
        self._sites = [site_data(shard, checkpoint.identities.index(shard.identity)) for shard in known]
        self._targets = [Targets.of([shard], self._size_px) for shard in known]
        self._done, self._progress = 0, progress

    def run(self) -> list[Recovered]:
        """All attacks on all sites."""
        found = [self._control(person) for person in range(len(self._known))]
        perceptual = design_of(self._settings.model.network).load_perceptual(self._settings.loss)
        first_step = self._checkpoint.round * self._settings.rounds.local_steps
        honest = [
            self._round(self._networks(), site, perceptual=perceptual, first_step=first_step) for site in self._sites
        ]
        found += [self._alone(_ALONE, person, update) for person, update in enumerate(honest)]
        found.append(self._of_sum(_SUM, honest))
        return found + self._trapped()

    def _trapped(self) -> list[Recovered]:
        """Every site by itself, then all with the one threshold that a frame of only one of them passes."""
        projection = [self._projections(site, self._trap()) for site in self._sites]
        alone = [self._sprung(site, self._trap(), mine) for site, mine in zip(self._sites, projection, strict=True)]
        found = [self._alone(_TRAP, person, update) for person, update in enumerate(alone)]
        together = torch.cat(projection)
        found.append(self._of_sum(_TRAP_SUM, [self._sprung(site, self._trap(), together) for site in self._sites]))
        near = [self._sprung(s, self._near_trap(), self._projections(s, self._near_trap())) for s in self._sites]
        return found + [self._alone(_NEAR_TRAP, person, update) for person, update in enumerate(near)]

    def _sprung(self, site: ClientData, networks: Networks, projection: torch.Tensor) -> _Answered:
        set_threshold(networks, projection)
        return self._round(networks, site, perceptual=None, first_step=0)

    def _projections(self, site: ClientData, networks: Networks) -> torch.Tensor:
        return torch.cat([projections(networks, b) for b in round_batches(site, self._settings, self._seed)])

    def _trap(self) -> Networks:
        networks = self._networks()
        set_trap(networks, seed=self._seed)
        return networks

    def _near_trap(self) -> Networks:
        networks = self._networks()
        set_near_trap(networks, self._settings, num_rounds=_SKIPPED, seed=self._seed)
        return networks

    def _networks(self) -> Networks:
        return self._checkpoint.networks(use_ema=False).train()

    def _round(self, networks: Networks, site: ClientData, *, perceptual: object, first_step: int) -> _Answered:
        is_known = self._is_known(networks.travelling_tensors())
        update = local_update(
            networks,
            round_batches(site, self._settings, self._seed),
            self._settings,
            perceptual=perceptual,  # type: ignore[arg-type]
            first_step=first_step,
            rng=np.random.default_rng((self._seed, self._done)),
        )
        self._done += 1
        self._progress("Attacking rounds", self._done, 4 * len(self._sites))
        return _Answered(update.steps, _answer(update) if is_known else _NO_WEIGHTS)

    def _is_known(self, tensors: NamedArrays) -> bool:
        """Whether a site that trained from the checkpoint would train from these, two rounds being skipped."""
        known = self._networks().travelling_tensors()
        try:
            check_reach(
                tensors,
                known,
                self._settings,
                self._checkpoint.round + _SKIPPED,
                num_rounds=_SKIPPED,
                known="the checkpoint",
            )
        except UnknownWeightsError:
            return False
        return True

    def _control(self, person: int) -> Recovered:
        shard = self._known[person]
        row = int(np.flatnonzero(~shard.is_test_F)[0])
        batch = make_batch([Pair(0, FrameRef(shard, row), FrameRef(shard, row))], self._size_px)
        gradients = gradients_of(self._networks(), batch.driving_NCHW, batch.driving_landmarks_NKC)
        return self._alone(_CONTROL, person, _Answered(gradients, "no site sends this"))

    def _alone(self, attack: str, person: int, update: _Answered) -> Recovered:
        others = [targets.luma_THW.mean(axis=0) for index, targets in enumerate(self._targets) if index != person]
        targets = self._targets[person]
        picture, found = inverted(update.steps, targets, self._size_px)
        return self._compared(attack, person, picture, found, np.mean(others, axis=0), update.answer)

    def _of_sum(self, attack: str, sites: Sequence[_Answered]) -> Recovered:
        weights = [float(site.num_examples) for site in self._sites]
        steps = summed([site.steps for site in sites], weights)
        results = [inverted(steps, targets, self._size_px) for targets in self._targets]
        person = int(np.argmax([found.psnr_db for _, found in results]))
        everybody = np.mean([targets.mean_HW for targets in self._targets], axis=0)
        return self._compared(attack, person, *results[person], everybody, sites[person].answer)

    def _compared(
        self,
        attack: str,
        person: int,
        picture_HW: FloatArray,
        found: Likeness,
        guess_HW: FloatArray,
        answer: str,
    ) -> Recovered:
        targets = self._targets[person]
        return Recovered(
            attack=attack,
            person=self._known[person].identity,
            picture_HW=picture_HW,
            truth_HW=targets.luma_THW[found.target],
            guess_HW=guess_HW,
            found=found,
            guess=targets.likeness(guess_HW, found.target),
            own_mean=targets.likeness(targets.mean_HW, found.target),
            answer=answer,
        )


def _answer(update: LocalUpdate) -> str:
    return _NO_UPDATE if update.one_sided else _SENT


def _pooled(values: Sequence[float], seed: int) -> Figure:
    return Figure.of(estimate(values, pooling=Pooling.MEAN, seed=seed), 0.0)


def _what(settings: Settings, known: Sequence[Shard]) -> str:
    batch_size, multiplier = settings.optimizer.batch_size, settings.privacy.dp_noise_multiplier
    noise = f", noise multiplier {multiplier:g}" if multiplier else ""
    return f"{settings.rounds.local_steps} local steps of {batch_size} pairs at {len(known)} sites{noise}"
