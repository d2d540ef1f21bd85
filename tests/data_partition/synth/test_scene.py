"""The claim of exact labels, checked against the picture and against the real annotator."""

import dataclasses

import numpy as np
import pytest

from data_partition.faces.annotate import FaceAnnotator
from data_partition.synth.camera import Pose, project
from data_partition.synth.face import Expression, HeadShape, landmarks_3d, skin_z
from data_partition.synth.look import draw_look
from data_partition.synth.mesh import ATLAS_HEIGHT_PX, ATLAS_ROWS_PX, ATLAS_WIDTH_PX, head_grid
from data_partition.synth.motion import Moment, animate
from data_partition.synth.render import Renderer
from data_partition.synth.scene import Scene
from model.batch import AU_ORDER
from model.landmarks.irises import gaze_EC

FRONTAL, REST = Pose(0.0, 0.0, 0.0), Expression()
NOSE_TIP, CHIN = 30, 8


def landmarks(pose: Pose, expression: Expression = REST) -> np.ndarray:
    return Scene(draw_look(0, 0), 64).frame(pose, expression)[1]


def test_nose_turns_with_the_sign_convention_of_the_pose() -> None:
    still = landmarks(FRONTAL)
    assert landmarks(Pose(0, 15, 0))[NOSE_TIP, 0] < still[NOSE_TIP, 0] - 2  # positive yaw: the image's left
    assert landmarks(Pose(10, 0, 0))[NOSE_TIP, 1] > still[NOSE_TIP, 1] + 2  # positive pitch: down
    assert landmarks(Pose(0, 0, 10))[CHIN, 0] < still[CHIN, 0]  # positive roll: clockwise, the chin goes left
    assert landmarks(Pose(0, 0, 10))[27, 0] > still[27, 0]


def test_euler_angles_of_the_rotation_are_the_labels() -> None:
    rotation = Pose(7.0, -20.0, 5.0).rotation
    pitch = np.arctan2(rotation[2, 1], rotation[2, 2])
    yaw = np.arctan2(-rotation[2, 0], np.hypot(rotation[0, 0], rotation[1, 0]))
    roll = np.arctan2(rotation[1, 0], rotation[0, 0])
    np.testing.assert_allclose(np.degrees([pitch, yaw, roll]), [7, -20, 5])
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)


def test_a_point_of_the_skin_is_drawn_where_its_projection_says() -> None:
    """The rasteriser and `project` must share one camera, else every landmark is off."""
    look, size_px = draw_look(3, 0), 256
    pose = Pose(5.0, 12.0, -6.0, 0.03, -0.02)
    drawn = Renderer(look, size_px).render(pose, REST).map_HW2
    x, y = (grid.ravel() for grid in np.meshgrid(np.linspace(-0.3, 0.3, 7), np.linspace(0.45, 0.8, 5)))
    column, row = np.rint(project(pose.place(np.stack([x, y, skin_z(look.shape, x, y)], -1)), size_px)).astype(int).T
    grid = head_grid(look.shape)
    nearest = [
        np.argmin(np.hypot(grid.points_RC3[:, 25:75, 0] - a, grid.points_RC3[:, 25:75, 1] - b))
        for a, b in zip(x, y, strict=True)
    ]
    uv = grid.uv_RC2[:, 25:75].reshape(-1, 2)[nearest]
    rows = ATLAS_ROWS_PX["head"]
    expected = uv * (ATLAS_WIDTH_PX - 1, rows.stop - rows.start)
    assert drawn[..., 1].max() < ATLAS_HEIGHT_PX
    assert np.abs(drawn[row, column] - expected).mean() < 6  # texels; a pixel of the frame is about 4


def test_landmarks_stay_on_the_features_they_name() -> None:
    """Paint is looked up at the landmarks: dark between the lids, lip colour inside the lips' border."""
    look = dataclasses.replace(draw_look(4, 0), beard=0.0, glasses="none")
    for pose in (FRONTAL, Pose(5, 15, -5), Pose(-5, -15, 5)):
        image, points = Scene(look, 256).frame(pose, REST)
        pupils = [points[36:42].mean(axis=0), points[42:48].mean(axis=0)]
        cheeks = [(points[i] + points[j]) / 2 for i, j in ((3, 31), (13, 35))]
        lip = (points[57] + points[66]) / 2
        brightness = [_pixel(image, point).mean() for point in (*pupils, *cheeks)]
        assert max(brightness[:2]) < min(brightness[2:]) - 40
        assert _redness(image, lip) > max(_redness(image, point) for point in cheeks) + 0.05


def test_irises_are_where_the_pupils_are_painted_and_follow_the_gaze() -> None:
    look = dataclasses.replace(draw_look(4, 0), glasses="none")
    scene = Scene(look, 256)
    for pose in (FRONTAL, Pose(5, 15, -5)):
        for gaze_x in (-1.0, 1.0):
            glance = dataclasses.replace(REST, gaze_x=gaze_x)
            image, points = scene.frame(pose, glance)
            irises = scene.irises(pose, glance)
            assert all(_pixel(image, iris + 1).mean() < 60 for iris in irises)  # away from the glint
            along = gaze_EC(points, irises)[:, 0] - gaze_EC(points, scene.irises(pose, REST))[:, 0]
            assert (np.sign(along) == gaze_x).all() and (np.abs(along) > 0.1).all()


def _pixel(image: np.ndarray, point: np.ndarray) -> np.ndarray:
    column, row = np.rint(point).astype(int)
    return image[row - 1 : row + 2, column - 1 : column + 2].reshape(-1, 3).mean(axis=0)


def _redness(image: np.ndarray, point: np.ndarray) -> float:
    red, green, _ = _pixel(image, point)
    return float(red / (red + green))


def test_left_and_right_landmarks_mirror_each_other() -> None:
    points = landmarks_3d(HeadShape(), Expression(smile=0.7, jaw=0.3, blink=0.2))
    pairs = [(0, 16), (7, 9), (17, 26), (21, 22), (31, 35), (36, 45), (37, 44), (41, 46), (48, 54), (60, 64), (58, 56)]
    for right, left in pairs:
        np.testing.assert_allclose(points[right] * (-1, 1, 1), points[left], atol=1e-9)


@pytest.mark.parametrize(
    ("muscle", "measure"),
    [
        ("blink", lambda p: -_eye_opening(p)),
        ("eye_wide", lambda p: _eye_opening(p)),
        ("jaw", lambda p: p[66, 1] - p[62, 1]),
        ("lips_part", lambda p: p[66, 1] - p[62, 1]),
        ("smile", lambda p: p[54, 0] - p[48, 0]),
        ("pucker", lambda p: p[48, 0] - p[54, 0]),
        ("frown", lambda p: p[48, 1] - p[51, 1]),
        ("brow_inner", lambda p: -p[21, 1]),
        ("brow_outer", lambda p: -p[17, 1]),
        ("brow_lower", lambda p: p[21, 1]),
        ("upper_lip_raise", lambda p: -p[51, 1]),
        ("chin_raise", lambda p: -p[57, 1]),
        ("stretch", lambda p: p[54, 0] - p[48, 0]),
    ],
)
def test_each_muscle_moves_its_landmarks(muscle: str, measure: object) -> None:
    rest, pulled = (landmarks_3d(HeadShape(), e) for e in (REST, Expression(**{muscle: 1.0})))
    assert measure(pulled) > measure(rest) + 0.015  # type: ignore[operator]


def _eye_opening(points: np.ndarray) -> float:
    return float((points[41, 1] - points[37, 1] + points[46, 1] - points[44, 1]) / 2)


def test_action_units_follow_the_muscles() -> None:
    assert not Moment(FRONTAL, REST).au_intensity_A().any()
    moment = Moment(FRONTAL, Expression(jaw=0.5, smile=0.1))
    intensity = dict(zip(AU_ORDER, moment.au_intensity_A().tolist(), strict=True))
    assert intensity[26] == 2.5 and intensity[12] == 0.5 and intensity[45] == 0
    present = {au for au, value in zip(AU_ORDER, moment.au_presence_A(), strict=True) if value}
    assert present == {25, 26}


def test_motion_is_smooth_and_covers_the_range() -> None:
    moments = animate(500, np.random.default_rng(0))
    angles = np.array([moment.pose.angles_deg_C() for moment in moments])
    assert (np.abs(angles) <= (12, 25, 10)).all()
    assert (np.ptp(angles, axis=0) > (12, 25, 10)).all()
    assert np.abs(np.diff(angles, axis=0)).max() < 3
    blink = np.array([moment.expression.blink for moment in moments])
    assert 4 <= ((blink[1:] > 0.5) & (blink[:-1] <= 0.5)).sum() <= 11  # every two to four seconds


@pytest.mark.integration
def test_the_real_annotator_finds_the_faces_and_agrees_with_the_labels() -> None:
    rng = np.random.default_rng(1)
    errors, angles, num_frames = [], [], 0
    with FaceAnnotator(is_video=False) as annotator:
        for index in range(5):
            scene = Scene(draw_look(index, 0), 128)
            for moment in animate(200, rng)[::25]:
                image, points = scene.frame(moment.pose, moment.expression)
                num_frames += 1
                found = annotator.detect(image, 0)
                if found is not None:
                    eye_distance = np.linalg.norm(points[36] - points[45])
                    errors.append(np.linalg.norm(found.landmarks_KC - points, axis=1).mean() / eye_distance)
                    angles.append((found.pose_C[1], moment.pose.yaw_deg))
    assert len(errors) >= 0.95 * num_frames
    assert np.mean(errors) < 0.08
    assert np.corrcoef(np.transpose(angles))[0, 1] > 0.95
