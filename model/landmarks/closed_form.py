"""Landmarks as a function of identity, head pose and action units, in closed form from sums over frames.

Landmarks y, centred on their mean point and in sides of the frame, are linear in known features in two ways, `FORMS`:

    rotated   y = R(pose)[:2] ((X_i, Y_i, Z) + sum over a of AU_a d_a)     a 3D shape and offsets, then rotated
    linear    y = mean_i + W phi                                          phi = (pose, AU)

Some coefficients are an identity's own (X_i, Y_i; mean_i), the others are shared by all (Z, d_a; W). All of them follow
from sums of products of features and landmarks. What each site adds up, added up, is what all frames in one place add
up to: the coefficients do not depend on how frames are dealt to sites.

Legend: I identities, R equations of a frame, P own and Q shared features of an equation, T of its landmarks'
coordinates, X the columns beside one another that a feature is multiplied with.
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
_ALIKE_FRAMES = 25
"""Neighbouring frames are alike: a second of them counts as one when the forms are compared."""
_LEAST_SHARE = 0.1
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Moments:
    """Sums over frames for one form."""

    own_IPX: FloatArray
    """[I, P, P + Q + T] own features times own ones, shared ones and targets, of each identity."""
    shared_QX: FloatArray
    """[Q, Q + T] shared features times shared ones and targets."""
    totals_2: FloatArray
    """[2] number of frames; sum of the squared targets."""

    @classmethod
    def shapes(cls, form: Form, num_identities: int) -> dict[str, tuple[int, ...]]:
        """Of the arrays by name, in the order of the fields."""
        p, q, t = form.num_own, form.num_shared, form.num_targets
        return {"own": (num_identities, p, p + q + t), "shared": (q, q + t), "totals": (2,)}

    @classmethod
    def zeros(cls, form: Form, num_identities: int) -> Moments:
        """Of no frame."""
        return cls.from_arrays([np.zeros(shape) for shape in cls.shapes(form, num_identities).values()])

    @classmethod
    def from_arrays(cls, arrays: Sequence[FloatArray]) -> Moments:
        """The inverse of `arrays`."""
        return cls(own_IPX=arrays[0], shared_QX=arrays[1], totals_2=arrays[2])

    def arrays(self) -> list[FloatArray]:
        """As they travel, in the order of the fields."""
        return [getattr(self, one.name) for one in fields(self)]

    def add(self, features_FRX: FloatArray, targets_FRT: FloatArray, identity: int) -> None:
        """Add frames of one identity, in place.

        Args:
            features_FRX: [F, R, P + Q], own features first, up to `LARGEST_FEATURE`.
            targets_FRT: [F, R, T] sides of the frame.
            identity: row.
        """
        num_own = self.own_IPX.shape[1]
        z, y = _in_steps(features_FRX, LARGEST_FEATURE), _in_steps(targets_FRT, LARGEST_TARGET)
        self.own_IPX[identity] += z[:, :num_own].T @ np.hstack([z, y])
        self.shared_QX[:] += z[:, num_own:].T @ np.hstack([z[:, num_own:], y])
        self.totals_2[:] += (len(features_FRX), np.square(y).sum())

    def scaled(self, share: float) -> Moments:
        """As if of that share of the frames."""
        return Moments.from_arrays([share * array for array in self.arrays()])

    def why_impossible(self, form: Form, counts_I: FloatArray) -> str:
        """What no frames can have summed up to, in words; empty if some can have.

        Args:
            form: whose moments these are.
            counts_I: [I] frames of each identity.
        """
        num_frames, squares = self.totals_2.tolist()
        if num_frames != counts_I.sum():
            return f"are of {num_frames:g} frames, wanted {counts_I.sum():g}"
        most = form.num_equations * LARGEST_FEATURE * max(LARGEST_FEATURE, LARGEST_TARGET)
        is_within_I = np.abs(self.own_IPX).max(axis=(1, 2)) <= most * counts_I
        if not is_within_I.all() or np.abs(self.shared_QX).max() > most * num_frames:
            return f"are more than {most:g} a frame"
        if squares > 2 * NUM_LANDMARKS * LARGEST_TARGET**2 * num_frames:
            return f"have landmarks farther than {LARGEST_TARGET:g} sides of the frame from their mean point"
        has_squares = _least_eigenvalue(self.own_IPX[..., : form.num_own]) >= _NEGATIVE * num_frames
        if not has_squares or not Reduced.of(form, self).has_squares(form):
            return "are no sums of squares"
        return ""


def summed(moments: Sequence[Moments]) -> Moments:
    """The sum over sites, at least one."""
    return Moments.from_arrays([np.sum(arrays, axis=0) for arrays in zip(*(m.arrays() for m in moments), strict=True)])


@dataclass(frozen=True, kw_only=True, slots=True)
class Reduced:
    """Moments with each identity's own part taken out (Frisch and Waugh): means a frame, that name no identity.

    The shared coefficients follow from the mean of these over sites with one identity each, as if all had as many
    frames.
    """

    own_IPX: FloatArray
    """[I, P, Q + T] regression of shared features and targets on the own features."""
    rest_QX: FloatArray
    """[Q, Q + T] mean products of what the own features leave of shared ones, with that and with the targets."""
    square_1: FloatArray
    """[1] mean square of what they leave of the targets, summed over T and equations."""

    @classmethod
    def of(cls, form: Form, moments: Moments) -> Reduced:
        """Of one site's, or of the sum over sites."""
        num_own, num_shared = form.num_own, form.num_shared
        gram_IPP, cross_IPX = moments.own_IPX[..., :num_own], moments.own_IPX[..., num_own:]
        size_I = np.maximum(np.trace(gram_IPP, axis1=1, axis2=2), 1)
        regression_IPX = np.linalg.solve(gram_IPP + _OWN_RIDGE * size_I[:, None, None] * np.eye(num_own), cross_IPX)
        explained_XX = np.einsum("ipx,ipy->xy", cross_IPX, regression_IPX)
        num_frames, squares = np.maximum(moments.totals_2[0], 1), moments.totals_2[1]
        return cls(
            own_IPX=regression_IPX,
            rest_QX=(moments.shared_QX - explained_XX[:num_shared]) / num_frames,
            square_1=(squares - np.trace(explained_XX[num_shared:, num_shared:])).reshape(1) / num_frames,
        )

    @classmethod
    def shapes(cls, form: Form) -> dict[str, tuple[int, ...]]:
        """Field to shape where there is one identity."""
        num_columns = form.num_shared + form.num_targets
        return {
            "own_IPX": (1, form.num_own, num_columns),
            "rest_QX": (form.num_shared, num_columns),
            "square_1": (1,),
        }

    def has_squares(self, form: Form) -> bool:
        """Whether the products of features can be means of squares of such."""
        return _least_eigenvalue(self.rest_QX[:, : form.num_shared]) >= _NEGATIVE

    def coefficients(self, form: Form) -> FloatArray:
        """[Q, T] shared coefficients, by ridge regression."""
        gram_QQ, cross_QT = np.split(self.rest_QX, [form.num_shared], axis=1)
        return np.asarray(np.linalg.solve(gram_QQ + _RIDGE * np.eye(form.num_shared), cross_QT))

    def expected_error(self, form: Form, num_frames: float, num_identities: int) -> float:
        """What a frame that was not among them may be off by: generalised cross-validation (Craven and Wahba 1979).

        The mean square that the coefficients leave, divided by the square of the share of frames that they do not fit
        by their number alone. No frame is held out for it: sums over the few would tell their landmarks.

        Args:
            form: whose these are.
            num_frames: of all sites.
            num_identities: that have frames.
        """
        gram_QQ, cross_QT = np.split(self.rest_QX, [form.num_shared], axis=1)
        shared_QT = self.coefficients(form)
        left = float(self.square_1[0] + np.sum(shared_QT * (gram_QQ @ shared_QT - 2 * cross_QT)))
        strengths_Q = np.linalg.eigvalsh(gram_QQ)
        num_fitted = float((strengths_Q / (strengths_Q + _RIDGE)).sum()) + num_identities * form.num_own
        num_seen = form.num_equations * num_frames / _ALIKE_FRAMES
        return left / max(1 - num_fitted / num_seen, _LEAST_SHARE) ** 2


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


def fit(
    reduced: Mapping[Form, Reduced], owned_I: npt.NDArray[np.bool_], num_frames: float
) -> dict[str, npt.NDArray[np.float32]]:
    """Coefficients of the form with the smaller expected error; those of the other are zero.

    Args:
        reduced: of every form.
        owned_I: [I] which identities have frames; the last row, of strangers, is the mean of theirs.
        num_frames: of all sites.

    Returns:
        `<form>_own` [I + 1, P, T] and `<form>_shared` [Q, T] of every form, sides of the frame.
    """
    best = min(FORMS, key=lambda form: reduced[form].expected_error(form, num_frames, int(owned_I.sum())))
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
    shared_QT = reduced.coefficients(form)
    features_IPQ, targets_IPT = np.split(reduced.own_IPX, [form.num_shared], axis=-1)
    own_IPT = (targets_IPT - features_IPQ @ shared_QT) * owned_I[:, None, None]
    mean_1PT = own_IPT.sum(axis=0, keepdims=True) / max(1, owned_I.sum())
    return np.concatenate([own_IPT, mean_1PT]), shared_QT


def _in_steps(values_FRX: FloatArray, largest: float) -> FloatArray:
    """[F * R, X] limited, and rounded to multiples of `_STEP`."""
    limited = np.clip(values_FRX, -largest, largest)
    return np.asarray(np.rint(limited / _STEP) * _STEP).reshape(-1, values_FRX.shape[-1])


def _least_eigenvalue(matrices: FloatArray) -> float:
    """Of any of the symmetric matrices [..., n, n]; minus infinity if one is not symmetric."""
    if not np.allclose(matrices, np.swapaxes(matrices, -1, -2), atol=1e-6):
        return -np.inf
    return float(np.linalg.eigvalsh(matrices).min())
