"""What all sites agree on before round 1: part sizes and the landmark statistics of each identity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from federation.reach import FARTHEST, initial_networks
from federation.settings import Settings
from model.batch import NUM_LANDMARKS
from model.checkpoint import Checkpoint
from model.landmarks.closed_form import FORMS, Form, Moments, Reduced, fit, summed
from model.landmarks.geometry import PARTS, PartSizes
from server.updates.reply import MAX_FRAMES, ArrayForm, RejectedUpdateError
from server.updates.screening import MIN_COMPARED, weights

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteStatistics:
    """Sums over one site's training frames, in pixels of the model's frame."""

    part_sums_P2: FloatArray
    """[4, 2] sum over frames of each part's (height, width)."""
    sums_IKC: FloatArray
    """[I, 68, 2] sum of the landmarks of each identity."""
    squares_IKC: FloatArray
    """[I, 68, 2] sum of their squares."""
    counts_I: FloatArray
    """[I] frames of each identity."""
    base: dict[Form, Moments] = field(default_factory=dict)
    """What a base of the landmark GAN is fitted to, in runs with one."""

    @classmethod
    def from_arrays(
        cls, arrays: Sequence[FloatArray], *, num_identities: int, size_px: int, has_base: bool = False
    ) -> SiteStatistics:
        """The statistics in a client's reply.

        Args:
            arrays: in the order of `statistics_forms`.
            num_identities: I.
            size_px: image side of the model.
            has_base: whether the run agrees on a base of the landmark GAN.

        Raises:
            RejectedUpdateError: for a wrong number of arrays, shape or dtype, values that are not finite, no frames,
                counts that are none, landmarks that cannot lie on frames of `size_px`, or sums for a base that no
                frames can have.
        """
        shapes = [(form.shape, form.dtype) for form in statistics_forms(num_identities, has_base=has_base)]
        got = [(array.shape, array.dtype) for array in arrays]
        if got != shapes:
            raise RejectedUpdateError(f"sent statistics of shapes {got}, expected {shapes}")
        if not all(np.isfinite(array).all() for array in arrays):
            raise RejectedUpdateError("sent statistics that are not finite")
        if (arrays[3] < 0).any() or not arrays[3].any():
            raise RejectedUpdateError("has no training frames")
        parts, sums, squares, counts, *rest = arrays
        base = {form: Moments.from_arrays(rest[3 * n : 3 * n + 3]) for n, form in enumerate(FORMS) if rest}
        statistics = cls(part_sums_P2=parts, sums_IKC=sums, squares_IKC=squares, counts_I=counts, base=base)
        statistics._require_plausible(size_px)
        statistics._require_plausible_base()
        return statistics

    def _require_plausible(self, size_px: int) -> None:
        num_frames = self.counts_I.sum()
        if (self.counts_I != np.rint(self.counts_I)).any() or num_frames > MAX_FRAMES:
            raise RejectedUpdateError(f"says it has {num_frames:g} training frames, wanted a number up to {MAX_FRAMES}")
        counts_I = np.maximum(self.counts_I, 1)[:, None, None]
        farthest_px = max(np.sqrt(np.abs(self.squares_IKC / counts_I).max()), np.abs(self.sums_IKC / counts_I).max())
        largest_px = np.abs(self.part_sums_P2 / num_frames).max()
        if max(farthest_px, largest_px) > FARTHEST * size_px or (self.part_sums_P2 < 0).any():
            raise RejectedUpdateError(
                f"its mean landmark is {farthest_px:.4g} px from the corner and its largest part {largest_px:.4g} px, "
                f"wanted up to {FARTHEST * size_px:g} px of a frame of {size_px} px; are its landmarks in pixels of "
                "its frames?"
            )

    def _require_plausible_base(self) -> None:
        for form, moments in self.base.items():
            if why := moments.why_impossible(form, self.counts_I):
                raise RejectedUpdateError(f"its sums for the {form.name} base of landmarks {why}")


def statistics_forms(num_identities: int, *, has_base: bool = False) -> list[ArrayForm]:
    """What the arrays of `SiteStatistics` have to be: four, and with a base those of the `Moments` of each form."""
    landmarks = (num_identities, NUM_LANDMARKS, 2)
    shapes: dict[str, tuple[int, ...]] = {
        "part sums": (len(PARTS), 2),
        "sums": landmarks,
        "squares": landmarks,
        "counts": (num_identities,),
    }
    for form in FORMS if has_base else ():
        of_form = Moments.shapes(form, num_identities)
        shapes |= {f"{form.name} base, {name}": shape for name, shape in of_form.items()}
    return [ArrayForm(f"statistics: {name}", shape, np.dtype(np.float64)) for name, shape in shapes.items()]


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Statistics over all sites' training frames."""

    part_sizes: PartSizes
    """From three sites on of the median of their means, so that no site sets it alone; else of the mean."""
    landmark_mean_IKC: npt.NDArray[np.float32]
    """[I, 68, 2] pixels; zero for an identity nobody has."""
    landmark_std_IKC: npt.NDArray[np.float32]
    """[I, 68, 2] pixels, standard deviation of the population; zero for an identity nobody has."""
    base: dict[str, npt.NDArray[np.float32]] | None = None
    """Coefficients of the base of the landmark GAN, in runs with one."""


def initial_state(settings: Settings, sites: Sequence[SiteStatistics], identities: list[str]) -> Checkpoint:
    """Round 0: agreed statistics and freshly initialised networks.

    Args:
        settings: of the run.
        sites: in a fixed order, at least one.
        identities: [I] names.
    """
    max_weight_ratio = settings.defence.max_weight_ratio
    agreement = agree(sites, size_px=settings.model.image_size_px, max_weight_ratio=max_weight_ratio)
    return state_from(settings, agreement, identities)


def state_from(settings: Settings, agreement: Agreement, identities: list[str]) -> Checkpoint:
    """Round 0 with what was agreed on.

    Args:
        settings: of the run.
        agreement: part sizes and landmark statistics.
        identities: [I] names.
    """
    networks = initial_networks(settings, agreement.part_sizes)
    networks.start_from(agreement.landmark_mean_IKC, agreement.base)
    return Checkpoint(
        round=0,
        settings=settings.to_flat(),
        identities=identities,
        part_sizes=agreement.part_sizes,
        landmark_mean_IKC=agreement.landmark_mean_IKC,
        landmark_std_IKC=agreement.landmark_std_IKC,
        tensors=networks.travelling_tensors(),
    )


def agree(sites: Sequence[SiteStatistics], *, size_px: int, max_weight_ratio: float = 0.0) -> Agreement:
    """The agreed values; the same for the same sites in the same order.

    Of three sites or more, each one's frames count up to `max_weight_ratio` times the median number, and part sizes are
    medians over sites. Landmarks are means over all sites that have frames of the identity. A base is fitted to the
    sums over sites: unless a site's frames are limited, it is the same for every way to deal the same frames to sites.

    Args:
        sites: at least one.
        size_px: image side of the model.
        max_weight_ratio: as the setting; 0 is no limit.
    """
    num_frames = [site.counts_I.sum() for site in sites]
    limited = weights({index: int(number) for index, number in enumerate(num_frames)}, max_weight_ratio)
    shares = [limited[index] / number for index, number in enumerate(num_frames)]  # 1.0 within the limit
    counts_I = np.maximum(sum(k * site.counts_I for k, site in zip(shares, sites, strict=True)), 1.0)[:, None, None]
    mean = sum(k * site.sums_IKC for k, site in zip(shares, sites, strict=True)) / counts_I
    squares = sum(k * site.squares_IKC for k, site in zip(shares, sites, strict=True)) / counts_I
    variance = np.maximum(squares - np.square(mean), 0.0)
    return Agreement(
        part_sizes=PartSizes.from_mean(_part_mean(sites), size_px),
        landmark_mean_IKC=mean.astype(np.float32),
        landmark_std_IKC=np.sqrt(variance).astype(np.float32),
        base=_base(sites, shares) if sites[0].base else None,
    )


def _base(sites: Sequence[SiteStatistics], shares: Sequence[float]) -> dict[str, npt.NDArray[np.float32]]:
    """Coefficients by each site's sums, every one counted by its share."""
    reduced = {
        form: Reduced.of(form, summed([site.base[form].scaled(k) for k, site in zip(shares, sites, strict=True)]))
        for form in FORMS
    }
    counts_I = np.sum([k * site.counts_I for k, site in zip(shares, sites, strict=True)], axis=0)
    return fit(reduced, counts_I > 0, counts_I.sum())


def _part_mean(sites: Sequence[SiteStatistics]) -> FloatArray:
    """[4, 2] typical height and width of each part."""
    num_frames = [site.counts_I.sum() for site in sites]
    if len(sites) >= MIN_COMPARED:
        means = [site.part_sums_P2 / number for site, number in zip(sites, num_frames, strict=True)]
        return np.asarray(np.median(means, axis=0))
    return np.asarray(np.sum([site.part_sums_P2 for site in sites], axis=0) / float(sum(num_frames)))
