import cv2
import numpy as np
import pytest
import torch

from data_partition.shards.images import read_image
from evaluation.metrics.regions import cut_out
from evaluation.sheet import DetailRow, draw_sheet, sheet_row, write_sheet
from reenact.marks.kinds import Label
from reenact.marks.verification import verify_file
from reenact.reenactor import Reenactor
from tests.support.small_face import small_face


@pytest.fixture
def reenactor(checkpoint) -> Reenactor:
    return Reenactor(checkpoint, torch.device("cpu"))


def test_row_shows_source_and_driving_untouched_and_says_who_and_how(reenactor):
    source, driving = small_face(0, "ana"), small_face(1, "ben")
    row = sheet_row(reenactor, source, driving)
    columns = row.columns()
    assert list(columns) == ["Source", "Driving", "Heatmap", "Warped source", "Parts", "Result", "Copy-source"]
    np.testing.assert_array_equal(columns["Source"], source.image_HWC)
    np.testing.assert_array_equal(columns["Driving"], driving.image_HWC)
    np.testing.assert_array_equal(columns["Copy-source"], source.image_HWC)
    assert "ana" in row.label and "ben" in row.label and "lgan" in row.label


def test_same_person_is_guided_by_the_driving_landmarks(reenactor):
    assert "driving" in sheet_row(reenactor, small_face(0, "ana"), small_face(1, "ana")).label


@pytest.mark.integration
def test_every_frame_is_on_the_sheet(reenactor):
    rows = [sheet_row(reenactor, small_face(seed, "ana"), small_face(seed + 9, "ben")) for seed in range(2)]
    sheet = draw_sheet(rows)
    for row in rows:
        for frame in row.columns().values():
            cell = cv2.resize(frame, (160, 160), interpolation=cv2.INTER_CUBIC)
            match = cv2.matchTemplate(sheet, cell, cv2.TM_SQDIFF)
            assert match.min() < 1e-2 * cell.size


@pytest.mark.integration
@pytest.mark.parametrize("num_rows", [1, 6])
def test_a_sheet_is_marked_above_its_titles(reenactor, tmp_path, num_rows):
    path, rows = tmp_path / "new" / "sheet.png", [sheet_row(reenactor, small_face(0, "ana"), small_face(9, "ben"))]
    rows *= num_rows
    write_sheet(path, rows, "ab" * 32)
    assert list(path.parent.iterdir()) == [path]
    found = verify_file(path)
    assert found.label is Label.GENERATED and found.watermark.is_present and found.manifest is not None
    assert found.manifest.made_of["model_sha256"] == "ab" * 32
    drawn = draw_sheet(rows)
    assert np.abs(read_image(path)[-len(drawn) :].astype(int) - drawn).max() < 40


def test_details_are_eyes_above_mouth_of_source_driving_and_result():
    faces = [small_face(seed) for seed in range(3)]
    source, driving, result = (face.image_HWC for face in faces)
    landmarks_NKC = np.stack([face.landmarks_KC for face in faces])
    row = DetailRow(label="best", source=source, driving=driving, result=result, landmarks_NKC=landmarks_NKC)
    columns = row.columns()
    assert list(columns) == ["Source", "Driving", "Result"]
    for cell, face in zip(columns.values(), faces, strict=True):
        for part, shown in (("eyes", cell[:78]), ("mouth", cell[-78:])):
            pixels = cut_out(face.image_HWC, face.landmarks_KC, part)
            np.testing.assert_array_equal(shown, cv2.resize(pixels, (160, 78), interpolation=cv2.INTER_CUBIC))
    assert cv2.matchTemplate(draw_sheet([row]), columns["Result"], cv2.TM_SQDIFF).min() == 0
