"""Landmarks as a function of identity, head pose and action units, in closed form from sums over frames.

Landmarks y, centred on their mean point and in sides of the frame, are linear in known features in two ways, `FORMS`:

    rotated   y = R(pose)[:2] ((X_i, Y_i, Z) + sum over a of AU_a d_a)     a 3D shape and offsets, then rotated
    linear    y = mean_i + W phi                                          phi = (pose, AU)

Some coefficients are an identity's own (X_i, Y_i; mean_i), the others are shared by all (Z, d_a; W). All of them follow
from sums of products of features and landmarks. What each site adds up, added up, is what all frames in one place add
up to: the coefficients do not depend on how frames are dealt to sites.

Legend: I identities, R equations of a frame, P own and Q shared features of an equation, T of its landmarks'
coordinates, X the columns beside one another that a feature is multiplied with, B = 2 folds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from model.batch import NUM_ACTION_UNITS, NUM_LANDMARKS

FloatArray = npt.NDArray[np.float64]

LARGEST_COEFFICIENT = 2.0
"""In sides of the frame; larger ones are cut, so that no site's sums carry a landmark out of all bounds."""
LARGEST_FEATURE = 2.0
"""Of either form, by `model.networks.landmark_base`."""
LARGEST_TARGET = 2.0
"""Sides of the frame from the mean point; landmarks farther away count as that far."""

_RIDGE = 1e-4
"""Added to the mean square of every shared feature: what nobody shows moves nothing."""
_OWN_RIDGE = 1e-6
_STEP = 2.0**-15
"""Of features and landmarks in the sums: products are multiples of 2^-30, and sums over up to 2^20 frames exact in
float64, in any order."""
_HELD_OUT_EVERY = 5
_FRAMES_OF_A_BLOCK = 25
_NEGATIVE = -1e-6
"""Least eigenvalue of a mean of squares, rounding included."""


@dataclass(frozen=True, slots=True)
class Form:
    """One way in which landmarks are linear."""

    name: str
    num_equations: int
    """R."""
    num_own: int
    """P."""
    num_shared: int
    """Q."""

    @property
    def num_targets(self) -> int:
        """T."""
        return 2 * NUM_LANDMARKS // self.num_equations


ROTATED = Form("rotated", num_equations=2, num_own=2, num_shared=1 + 3 * NUM_ACTION_UNITS)
LINEAR = Form("linear", num_equations=1, num_own=1, num_shared=3 + NUM_ACTION_UNITS)
FORMS = (ROTATED, LINEAR)
"""In order of preference where frames do not tell which is better."""


def is_held_out(frame_index_F: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """[F] whether a training frame, by its index in its clip, decides between the forms: every fifth second.

    Neighbouring frames are alike, so whole seconds are held out; and by the frame alone, so that no split into sites
    changes it.
    """
    block_F = frame_index_F // _FRAMES_OF_A_BLOCK
    return np.asarray(block_F % _HELD_OUT_EVERY == _HELD_OUT_EVERY - 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Moments:
    """Sums over the frames of each fold for one form: those fitted to, those held out to choose a form."""

    own_BIPX: FloatArray
    """[2, I, P, P + Q + T] own features times own ones, shared ones and targets, of each identity."""
    shared_BQX: FloatArray
    """[2, Q, Q + T] shared features times shared ones and targets."""
    totals_B2: FloatArray
    """[2, 2] number of frames; sum of the squared targets."""

    @classmethod
    def shapes(cls, form: Form, num_identities: int) -> dict[str, tuple[int, ...]]:
        """Of the arrays by name, in the order of the fields."""
        p, q, t = form.num_own, form.num_shared, form.num_targets
        return {"own": (2, num_identities, p, p + q + t), "shared": (2, q, q + t), "totals": (2, 2)}

    @classmethod
    def zeros(cls, form: Form, num_identities: int) -> Moments:
        """Of no frame."""
        return cls.from_arrays([np.zeros(shape) for shape in cls.shapes(form, num_identities).values()])

    @classmethod
    def from_arrays(cls, arrays: Sequence[FloatArray]) -> Moments:
        """The inverse of `arrays`."""
        return cls(own_BIPX=arrays[0], shared_BQX=arrays[1], totals_B2=arrays[2])

    def add(
        self, features_FRX: FloatArray, targets_FRT: FloatArray, is_held_out_F: npt.NDArray[np.bool_], identity: int
    ) -> None:
        """Add frames of one identity, in place.

        Args:
            features_FRX: [F, R, P + Q], own features first, up to `LARGEST_FEATURE`.
            targets_FRT: [F, R, T] sides of the frame.
            is_held_out_F: [F].
            identity: row.
        """
        num_own = self.own_BIPX.shape[2]
        for fold in (0, 1):
            is_of_fold = is_held_out_F == bool(fold)
            z = _in_steps(features_FRX[is_of_fold], LARGEST_FEATURE)
            y = _in_steps(targets_FRT[is_of_fold], LARGEST_TARGET)
            self.own_BIPX[fold, identity] += z[:, :num_own].T @ np.hstack([z, y])
            self.shared_BQX[fold] += z[:, num_own:].T @ np.hstack([z[:, num_own:], y])
            self.totals_B2[fold] += (is_of_fold.sum(), np.square(y).sum())

    def arrays(self) -> list[FloatArray]:
        """As they travel, in the order of the fields."""
        return [getattr(self, one.name) for one in fields(self)]

    def scaled(self, share: float) -> Moments:
        """As if of that share of the frames."""
        return Moments(**{one.name: share * getattr(self, one.name) for one in fields(self)})

    def why_impossible(self, form: Form, counts_I: FloatArray) -> str:
        """What no frames can have summed up to, in words; empty if some can have.

        Args:
            form: whose moments these are.
            counts_I: [I] frames of each identity.
        """
        frames_B = self.totals_B2[:, 0]
        if (frames_B < 0).any() or (frames_B != np.rint(frames_B)).any() or frames_B.sum() != counts_I.sum():
            return f"are of {frames_B.tolist()} frames, wanted {counts_I.sum():g} together"
        most = form.num_equations * LARGEST_FEATURE * max(LARGEST_FEATURE, LARGEST_TARGET)
        is_within = np.abs(self.own_BIPX).sum(axis=0).max(axis=(1, 2)) <= most * counts_I
        if not is_within.all() or (np.abs(self.shared_BQX).max(axis=(1, 2)) > most * frames_B).any():
            return f"are more than {most:g} a frame"
        if (self.totals_B2[:, 1] > 2 * NUM_LANDMARKS * LARGEST_TARGET**2 * frames_B).any():
            return f"have landmarks farther than {LARGEST_TARGET:g} sides of the frame from their mean point"
        own_gram_BIPP = self.own_BIPX[..., : form.num_own]
        has_squares = _least_eigenvalue(own_gram_BIPP) >= _NEGATIVE * max(1.0, frames_B.sum())
        if not has_squares or not Reduced.of(form, self).has_squares(form):
            return "are no sums of squares"
        return ""


def summed(moments: Sequence[Moments]) -> Moments:
    """The sum over sites, at least one."""
    return Moments(**{one.name: np.sum([getattr(m, one.name) for m in moments], axis=0) for one in fields(Moments)})


@dataclass(frozen=True, kw_only=True, slots=True)
class Reduced:
    """Moments with each identity's own part taken out (Frisch and Waugh): means a frame, that name no identity.

    The shared coefficients follow from the sum of these over sites exactly where no identity is at two sites. The
    first axis of three is: frames fitted to, frames held out, all.
    """

    own_IPX: FloatArray
    """[I, P, Q + T] regression of shared features and targets on the own features, of all frames."""
    rest_3QX: FloatArray
    """[3, Q, Q + T] mean products of what the own features leave of shared ones, with that and with the targets."""
    squares_3: FloatArray
    """[3] mean square of what they leave of the targets."""

    @classmethod
    def of(cls, form: Form, moments: Moments) -> Reduced:
        """Of one site's, or of the sum over sites."""
        num_own, num_shared = form.num_own, form.num_shared
        own_3IPX = _with_total(moments.own_BIPX)
        gram_3IPP, cross_3IPX = own_3IPX[..., :num_own], own_3IPX[..., num_own:]
        size_3I = np.trace(gram_3IPP, axis1=-2, axis2=-1)[..., None, None]
        regression_3IPX = np.linalg.solve(gram_3IPP + _OWN_RIDGE * np.maximum(size_3I, 1) * np.eye(num_own), cross_3IPX)
        explained_3XX = np.einsum("bipx,bipy->bxy", cross_3IPX, regression_3IPX)
        totals_32 = _with_total(moments.totals_B2)
        frames_3 = np.maximum(totals_32[:, 0], 1)
        explained_3 = np.trace(explained_3XX[:, num_shared:, num_shared:], axis1=1, axis2=2)
        rest_3QX = _with_total(moments.shared_BQX) - explained_3XX[:, :num_shared]
        return cls(
            own_IPX=regression_3IPX[2],
            rest_3QX=rest_3QX / frames_3[:, None, None],
            squares_3=(totals_32[:, 1] - explained_3) / frames_3,
        )

    @classmethod
    def shapes(cls, form: Form) -> dict[str, tuple[int, ...]]:
        """Field to shape where there is one identity."""
        num_columns = form.num_shared + form.num_targets
        return {
            "own_IPX": (1, form.num_own, num_columns),
            "rest_3QX": (3, form.num_shared, num_columns),
            "squares_3": (3,),
        }

    def has_squares(self, form: Form) -> bool:
        """Whether the products of features can be means of squares of such."""
        return _least_eigenvalue(self.rest_3QX[..., : form.num_shared]) >= _NEGATIVE

    def coefficients(self, part: int, num_shared: int) -> FloatArray:
        """[Q, T] shared coefficients by ridge regression, of the frames of one part."""
        rest_QX = self.rest_3QX[part]
        gram_QQ = rest_QX[:, :num_shared] + _RIDGE * np.eye(num_shared)
        return np.asarray(np.linalg.solve(gram_QQ, rest_QX[:, num_shared:]))

    def held_out_error(self, num_shared: int) -> float:
        """Mean square over the held-out frames of what the coefficients of the others leave."""
        shared_QT = self.coefficients(0, num_shared)
        gram_QQ, cross_QT = np.split(self.rest_3QX[1], [num_shared], axis=1)
        return float(self.squares_3[1] + np.sum(shared_QT * (gram_QQ @ shared_QT - 2 * cross_QT)))


VECTOR_LENGTH = sum(math.prod(shape) for form in FORMS for shape in Reduced.shapes(form).values())
"""Of `to_vector`."""


def to_vector(reduced: Mapping[Form, Reduced]) -> FloatArray:
    """[`VECTOR_LENGTH`] values of every form, of one identity; their mean over people is that of the values."""
    return np.concatenate(
        [getattr(reduced[form], name).reshape(-1) for form in FORMS for name in Reduced.shapes(form)],
    )


def from_vector(vector: FloatArray, num_identities: int) -> dict[Form, Reduced]:
    """The inverse of `to_vector`, the same for each of `num_identities` identities."""
    reduced, begin = {}, 0
    for form in FORMS:
        values = {}
        for name, shape in Reduced.shapes(form).items():
            values[name] = vector[begin : begin + math.prod(shape)].reshape(shape)
            begin += math.prod(shape)
        values["own_IPX"] = np.repeat(values["own_IPX"], num_identities, axis=0)
        reduced[form] = Reduced(**values)
    return reduced


def fit(reduced: Mapping[Form, Reduced], owned_I: npt.NDArray[np.bool_]) -> dict[str, npt.NDArray[np.float32]]:
    """Coefficients of the form with the smaller held-out error; those of the other are zero.

    Args:
        reduced: of every form.
        owned_I: [I] which identities have frames; the last row, of strangers, is the mean of theirs.

    Returns:
        `<form>_own` [I + 1, P, T] and `<form>_shared` [Q, T] of every form, sides of the frame.
    """
    best = min(FORMS, key=lambda form: reduced[form].held_out_error(form.num_shared))
    coefficients: dict[str, npt.NDArray[np.float32]] = {}
    for form in FORMS:
        own_IPT, shared_QT = _coefficients(form, reduced[form], owned_I)
        for name, values in ((f"{form.name}_own", own_IPT), (f"{form.name}_shared", shared_QT)):
            limited = np.clip(values, -LARGEST_COEFFICIENT, LARGEST_COEFFICIENT) if form is best else values * 0
            coefficients[name] = limited.astype(np.float32)
    return coefficients


def still(landmarks_KC: FloatArray, num_identities: int) -> dict[str, npt.NDArray[np.float32]]:
    """Coefficients, as `fit` gives them, of one face for all that never moves; [68, 2] sides of the frame."""
    coefficients: dict[str, npt.NDArray[np.float32]] = {}
    for form in FORMS:
        own_IPT = np.zeros((num_identities + 1, form.num_own, form.num_targets), np.float32)
        if form is LINEAR:
            own_IPT[:] = (landmarks_KC - landmarks_KC.mean(axis=0)).reshape(-1)
        coefficients[f"{form.name}_own"] = own_IPT
        coefficients[f"{form.name}_shared"] = np.zeros((form.num_shared, form.num_targets), np.float32)
    return coefficients


def _coefficients(form: Form, reduced: Reduced, owned_I: npt.NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """[I + 1, P, T] own ones, the last row for strangers, and [Q, T] shared ones."""
    shared_QT = reduced.coefficients(2, form.num_shared)
    features_IPQ, targets_IPT = np.split(reduced.own_IPX, [form.num_shared], axis=-1)
    own_IPT = (targets_IPT - features_IPQ @ shared_QT) * owned_I[:, None, None]
    mean_1PT = own_IPT.sum(axis=0, keepdims=True) / max(1, owned_I.sum())
    return np.concatenate([own_IPT, mean_1PT]), shared_QT


def _in_steps(values_FRX: FloatArray, largest: float) -> FloatArray:
    """[F * R, X] limited, and rounded to multiples of `_STEP`."""
    limited = np.clip(values_FRX, -largest, largest)
    return np.asarray(np.rint(limited / _STEP) * _STEP).reshape(-1, values_FRX.shape[-1])


def _with_total(folds: FloatArray) -> FloatArray:
    """[3, ...] both folds and their sum."""
    return np.concatenate([folds, folds.sum(axis=0, keepdims=True)])


def _least_eigenvalue(matrices: FloatArray) -> float:
    """Of any of the symmetric matrices [..., n, n]; minus infinity if one is not symmetric."""
    if not np.allclose(matrices, np.swapaxes(matrices, -1, -2), atol=1e-6):
        return -np.inf
    return float(np.linalg.eigvalsh(matrices).min())
