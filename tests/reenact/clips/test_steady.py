"""Promises of reenact.clips.steady: less noise, all movement, no lag, no gaps within a take."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_partition.faces.face_table import FACE, FaceRows, FaceTable
from data_partition.faces.track import TrackedClip
from data_partition.sources.records import ClipSource
from model.landmarks.face_mesh import FaceMesh
from reenact.clips.kept_track import keep_track, kept_track
from reenact.clips.steady import gaps, smooth, steadied


def tracked(shown: dict[int, tuple[int, float]], num_frames: int) -> TrackedClip:
    """Frame index to take and a number that landmarks, irises, angles and intensities have; eyes are 100 px apart."""
    rows = np.zeros(len(shown), FACE)
    for row, (index, (take, value)) in zip(rows, shown.items(), strict=True):
        row["frame_index"], row["timestamp_s"], row["take"], row["confidence"] = index, index / 25, take, 1.0
        row["box"] = round(10 * value), 0, 100
        for name in ("landmarks_KC", "pose_C", "au_intensity_A", "irises_EC"):
            row[name] = value
        row["landmarks_KC"][45, 0] += 100
    rows["au_presence_A"] = 1
    return TrackedClip(
        source=ClipSource(path=Path("a.mp4")),
        num_frames=num_frames,
        faces=FaceTable(rows),
        people={},
        quarter_turns=0,
        is_cropped=False,
    )


def test_of_noise_alone_it_is_savitzky_and_golays_filter_of_seven():
    values = np.random.default_rng(0).normal(size=(20, 1, 3))
    wanted = np.array([-2, 3, 6, 7, 6, 3, -2]) / 21 @ values[5:12, 0]  # 1964, table I
    np.testing.assert_allclose(smooth(values, np.arange(20) / 30, noise=100)[8, 0], wanted, atol=1e-12)
    np.testing.assert_allclose(smooth(values, np.arange(20) / 30, noise=0), values, atol=1e-12)


@pytest.mark.parametrize(("noise", "share"), [(3 / 7, 1 / 2), (2 / 7, 2 / 3), (6 / 7, 0), (2, 0)])
def test_of_what_a_parabola_leaves_the_share_above_the_noise_stays(noise, share):
    """The cubic of seven points is orthogonal to every parabola; its mean square is 6/7."""
    cubic = np.array([-1.0, 1, 1, 0, -1, -1, 1])
    parabola = 2 + np.arange(7.0) ** 2
    result = smooth((parabola + cubic)[:, None, None], np.arange(7) / 30, np.sqrt(noise))[:, 0, 0]
    np.testing.assert_allclose(result, parabola + share * cubic, atol=1e-9)


def test_numbers_of_one_group_are_judged_together_and_groups_apart():
    cubic, still = np.array([-1.0, 1, 1, 0, -1, -1, 1]), np.zeros(7)
    values_FX, time, noise = np.stack([cubic, still], axis=1), np.arange(7) / 30, np.sqrt(3 / 14)
    together = smooth(values_FX[:, None], time, noise)[:, 0]  # mean square 3/7
    np.testing.assert_allclose(together, np.stack([cubic / 2, still], axis=1), atol=1e-9)
    apart = smooth(values_FX[:, :, None], time, noise)[:, :, 0]  # 6/7 and 0
    np.testing.assert_allclose(apart, np.stack([cubic * 3 / 4, still], axis=1), atol=1e-9)


def test_a_parabola_passes_unchanged_at_uneven_times_up_to_both_ends():
    time = np.cumsum(np.random.default_rng(1).uniform(0.01, 0.2, 15))
    values = np.stack([3 + 2 * time - 5 * time**2, time], axis=1)[:, None]
    np.testing.assert_allclose(smooth(values, time, noise=100), values, atol=1e-9)


def test_noise_at_rest_becomes_less_and_a_blink_keeps_its_height_and_its_frame():
    noise, time = 0.02 * np.random.default_rng(2).normal(size=300), np.arange(300) / 30
    blink = np.exp(-(((np.arange(300) - 150) / 1.2) ** 2))
    result = smooth((noise + blink)[:, None, None], time, noise=0.02)[:, 0, 0]
    rest = np.abs(np.arange(300) - 150) > 12
    assert result[rest].std() < 0.7 * noise[rest].std()
    assert result.argmax() == (noise + blink).argmax() and result.max() > 0.99 * (noise + blink).max()


def test_a_step_stays_where_it_is():
    time = np.arange(300) / 25
    step = smooth((time >= 6)[:, None, None].astype(float), time, noise=0.2)[:, 0, 0]
    np.testing.assert_allclose(step + step[::-1], 1, atol=1e-9)


def test_long_takes_are_smoothed_in_blocks_as_in_one(monkeypatch):
    values, time = np.random.default_rng(6).normal(size=(50, 2, 3)), np.arange(50) / 30
    whole = smooth(values, time, noise=0.5)
    monkeypatch.setattr("reenact.clips.steady._BLOCK_FRAMES", 16)
    np.testing.assert_array_equal(smooth(values, time, noise=0.5), whole)


@pytest.mark.parametrize("num", [1, 2, 3])
def test_very_short_takes_stay_as_they_are(num):
    values = np.random.default_rng(3).normal(size=(num, 1, 2))
    np.testing.assert_array_equal(smooth(values, np.arange(num) / 25, noise=100), values)


def test_irises_go_the_way_of_their_eyes():
    values = np.random.default_rng(4).normal(size=12)
    clip = steadied(tracked({index: (0, value) for index, value in enumerate(values) if index != 5}, num_frames=12))
    assert list(clip.faces) == list(range(12))
    for face in clip.faces.values():
        np.testing.assert_allclose(face.annotation.irises_EC, face.annotation.landmarks_KC[36:38], rtol=1e-5)


def without_irises(clip: TrackedClip) -> TrackedClip:
    rows = clip.faces.rows.copy()
    rows["irises_EC"] = np.nan
    return replace(clip, faces=FaceTable(rows))


@pytest.mark.parametrize("change", [lambda clip: clip, without_irises])
def test_a_kept_track_is_the_same_clip(tmp_path, change):
    clip = change(tracked({2: (0, 1.0), 3: (1, 4.0)}, num_frames=5))
    keep_track(tmp_path / "track.npz", clip)
    again = kept_track(tmp_path / "track.npz", clip.source)
    assert (again.num_frames, list(again.faces)) == (5, [2, 3])
    for index, face in clip.faces.items():
        other = again.faces[index]
        assert (other.take, other.timestamp_s, other.box) == (face.take, face.timestamp_s, face.box)
        for name in ("landmarks_KC", "pose_C", "au_presence_A", "au_intensity_A", "confidence", "irises_EC"):
            np.testing.assert_array_equal(getattr(other.annotation, name), getattr(face.annotation, name))


def test_gaps_are_told_and_only_those_within_a_take_are_bridged():
    clip = tracked({2: (0, 1.0), 3: (0, 1.0), 6: (0, 4.0), 8: (1, 2.0)}, num_frames=10)
    assert [str(gap) for gap in gaps(clip)] == [
        "frames 0 to 1: no face, the result stands still",
        "frames 4 to 5: no face, bridged",
        "frame 7: no face, the result stands still",
        "frame 9: no face, the result stands still",
    ]
    assert list(steadied(clip).faces) == [2, 3, 4, 5, 6, 8]


def test_a_bridge_is_a_straight_line_in_landmarks_pose_intensity_box_and_time():
    clip = tracked({0: (0, 0.0), 4: (0, 4.0)}, num_frames=5)
    face = steadied(clip).faces[1]
    assert (face.annotation.landmarks_KC[7, 1], face.annotation.pose_C[0]) == pytest.approx((1, 1), abs=1e-5)
    assert face.annotation.au_intensity_A[3] == pytest.approx(1, abs=1e-5)
    assert (face.box.left, face.box.side, face.timestamp_s) == (10, 100, pytest.approx(0.04))


def test_one_jump_of_a_landmark_does_not_reach_another_take():
    clip = tracked({0: (0, 1.0), 1: (0, 1.0), 2: (0, 1.0), 3: (0, 1.0), 4: (1, 5.0)}, num_frames=5)
    faces = steadied(clip).faces
    assert [float(face.annotation.pose_C[0]) for face in faces.values()] == pytest.approx([1, 1, 1, 1, 5])


def test_a_head_at_rest_is_smoothed_while_its_mouth_moves():
    noise = 0.1 * np.random.default_rng(4).normal(size=60)  # a thousandth of the eyes' distance
    clip = tracked({index: (0, float(value)) for index, value in enumerate(noise)}, 60)
    talk = 5 * np.random.default_rng(5).normal(size=60)
    clip.faces.rows["landmarks_KC"][:, 48:, 1] += talk[:, None]
    faces = steadied(clip).faces.values()
    landmarks = np.stack([face.annotation.landmarks_KC for face in faces])[:, :, 1]
    assert landmarks[:, 8].std() < 0.75 * noise.std()
    np.testing.assert_allclose(landmarks[:, 62], noise + talk, atol=0.1)


def test_meshes_are_bridged_and_smoothed_with_the_face_and_expressions_stay_in_their_range():
    rng = np.random.default_rng(5)
    face = tracked({0: (0, 1.0)}, num_frames=1).faces[0].annotation
    rows = FaceRows(with_mesh=True)
    for index in (index for index in range(12) if index != 5):
        mesh = FaceMesh(
            vertices_VC=(rng.normal(size=(468, 3)) + 10 * index).astype(np.float32),
            blendshapes_B=rng.integers(0, 2, 52).astype(np.float32),
        )
        rows.append(index, index / 25, replace(face, mesh=mesh), (100, 100))
    faces = steadied(replace(tracked({}, num_frames=12), faces=FaceTable(rows.finished()))).faces
    assert list(faces) == list(range(12))
    steady = np.stack([face.annotation.mesh.vertices_VC for face in faces.values()])
    np.testing.assert_allclose(steady.mean(axis=(1, 2)), 10 * np.arange(12), atol=0.5)
    scores = np.stack([face.annotation.mesh.blendshapes_B for face in faces.values()])
    assert scores.min() == 0 and scores.max() == 1 and ((scores > 0.1) & (scores < 0.9)).any()
