"""How unlike two frames of one person are in what no warp can mend: expression, openness of lips and eyes, gaze, pose.

Legend: F frames, K = 68 landmarks, C coordinates, E = 2 eyes, D = 146 numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.landmarks.geometry import INNER_LIP_PAIRS, LID_PAIRS, pair_distances
from model.landmarks.irises import are_open_E, gaze_EC

FloatArray = NDArray[np.float32]

_SHAPE_WEIGHT = 1 / 136  # together the landmarks count as their mean
_LIP_WEIGHT, _LID_WEIGHT = 0.5, 0.5
_POSE_WEIGHT = 0.5 / 3 / 90  # ten degrees of one angle count as a lip gap of 4 % of the side
_GAZE_WEIGHT = 0.1  # a glance a fifth of the eye's width away counts as a lip gap of 4 % of the side
_HELD_DISCOUNT = 0.8
_LEAST_SHARPNESS = 1e-6


def likeness_features(
    landmarks_FKC: NDArray[np.floating],
    pose_FC: NDArray[np.floating],
    size_px: int,
    irises_FEC: NDArray[np.floating] | None = None,
) -> FloatArray:
    """Numbers whose sum of absolute differences says how unlike two frames are; 0 where one is the other shifted.

    The gaze counts between two frames that show it: behind closed lids, and where irises are not known, it is NaN.

    Args:
        landmarks_FKC: [F, 68, 2] pixels.
        pose_FC: [F, 3] pitch, yaw, roll in degrees.
        size_px: side of the frames of the landmarks; 0.01 in the sum is about a hundredth of it at every landmark.
        irises_FEC: [F, 2, 2] pixels, or None.

    Returns:
        [F, 146] float32, the last four may be NaN.
    """
    shape_FKC = (landmarks_FKC - landmarks_FKC.mean(axis=1, keepdims=True)) / size_px
    lips_F1 = _gap(shape_FKC, INNER_LIP_PAIRS)
    lids_F2 = [_gap(shape_FKC, LID_PAIRS[:2]), _gap(shape_FKC, LID_PAIRS[2:])]
    weighted = [
        _SHAPE_WEIGHT * shape_FKC.reshape(len(shape_FKC), -1),
        _LIP_WEIGHT * lips_F1,
        *(_LID_WEIGHT / 2 * lid_F1 for lid_F1 in lids_F2),
        _POSE_WEIGHT * np.asarray(pose_FC),
        _GAZE_WEIGHT / 2 * _gaze_F4(landmarks_FKC, irises_FEC),
    ]
    return np.concatenate(weighted, axis=1).astype(np.float32)


def _gaze_F4(landmarks_FKC: NDArray[np.floating], irises_FEC: NDArray[np.floating] | None) -> NDArray[np.floating]:
    if irises_FEC is None:
        return np.full((len(landmarks_FKC), 4), np.nan)
    is_seen_FE1 = are_open_E(landmarks_FKC)[..., None]
    return np.where(is_seen_FE1, gaze_EC(landmarks_FKC, irises_FEC), np.nan).reshape(-1, 4)


def unlikeness(features_FD: FloatArray, wanted_D: FloatArray) -> NDArray[np.floating]:
    """[F] sums of absolute differences; what is NaN in one of the two does not count."""
    return np.asarray(np.nansum(np.abs(features_FD - wanted_D), axis=1))


def _gap(shape_FKC: NDArray[np.floating], pairs: tuple[tuple[int, int], ...]) -> NDArray[np.floating]:
    """[F, 1] mean distance between the two landmarks of each pair."""
    mean_F1: NDArray[np.floating] = pair_distances(shape_FKC, pairs).mean(axis=1, keepdims=True)
    return mean_F1


def nearest(features_FD: FloatArray, wanted_D: FloatArray, num: int, *, held: Sequence[int] = ()) -> list[int]:
    """Which frames are most like a wanted one, the most alike first; of equally alike ones those that come first.

    Args:
        features_FD: of the frames to choose from.
        wanted_D: of the frame to be drawn.
        num: of frames, >= 1; there are fewer where there are no more.
        held: what was chosen for the frame before in a clip. Another frame takes the place of one of them, and of the
            first, only when it is clearly more alike, so that the choice does not flicker.
    """
    distance_F = unlikeness(features_FD, wanted_D)
    for rows in (held, held[:1]):
        distance_F[list(rows)] *= _HELD_DISCOUNT
    order: list[int] = np.argsort(distance_F, kind="stable")[:num].tolist()
    return order


def spread(features_FD: FloatArray, sharpness_F: NDArray[np.floating], num: int) -> list[int]:
    """Frames that show a person in as many ways as possible: farthest point sampling (Gonzalez 1985).

    The first is the one most like the median: a mean of open and closed eyes is a wink. Each next is the one least
    like all before it. A frame that is less sharp than most counts as so much nearer: blur is no pose.

    Args:
        features_FD: of `likeness_features`, F >= 1.
        sharpness_F: [F] > 0 in any one unit; 0 for a frame without any edge.
        num: of frames, >= 1; there are fewer where there are no more.
    """
    sharp_F = np.minimum(1, sharpness_F / max(float(np.median(sharpness_F)), _LEAST_SHARPNESS))
    known_DF = (column_F[~np.isnan(column_F)] for column_F in features_FD.T)
    median_D = np.array([np.median(column_F) if len(column_F) else np.nan for column_F in known_DF], np.float32)
    from_median_F = unlikeness(features_FD, median_D)
    chosen = [int(np.argmin(np.where(sharp_F >= 1, from_median_F, np.inf)))]
    farness_F = np.full(len(features_FD), np.inf)
    while len(chosen) < min(num, len(features_FD)):
        farness_F = np.minimum(farness_F, unlikeness(features_FD, features_FD[chosen[-1]]))
        value_F = farness_F * sharp_F
        value_F[chosen] = -1
        chosen.append(int(np.argmax(value_F)))
    return chosen
