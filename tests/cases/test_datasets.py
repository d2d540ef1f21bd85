"""What the doctor says of a dataset that holds other faces, or other people, than it should."""

from pathlib import Path

import numpy as np
import pytest

from data_partition.doctor.diagnosis import diagnose
from data_partition.doctor.faces import SampledFaces, same_people, sample_faces
from data_partition.shards.shard import Shard, open_shard
from data_partition.shards.writer import ShardWriter
from model.errors import WeightsError
from model.weights import resolve
from tests.data_partition.conftest import drawn_people  # noqa: F401
from tests.support.shards import write_random_shard


def _warnings(dataset: Path) -> str:
    return "\n".join(finding.text for finding in diagnose(dataset).findings if finding.severity == "warning")


def _sample(shard: Shard, who: list[int]) -> SampledFaces:
    """Faces of the people with these numbers, in as many frames."""
    identity_ND = np.eye(128, dtype=np.float32)[who]
    return SampledFaces(shard=shard, num_looked_at=len(who), num_off=0, identity_ND=identity_ND)


def _copied(shard: Shard, root: Path, identity: str, shift_px: float = 0.0, roll_deg: float = 0.0) -> Shard:
    """The same frames under another name, with landmarks and pose moved."""
    with ShardWriter(root, identity, shard.size_px, "test") as writer:
        for row in range(shard.num_frames):
            writer.add(
                shard.read_frame(row),
                clip="c",
                frame_index=row,
                timestamp_s=row / 25,
                landmarks_KC=shard.landmarks_FKC[row] + shift_px,
                pose_C=shard.pose_FC[row] + np.array([0, 0, roll_deg]),
                au_presence_A=np.zeros(18),
                au_intensity_A=np.zeros(18),
                confidence=1.0,
            )
    return open_shard(root / identity)


@pytest.fixture
def face_files() -> None:
    """Skips where YuNet or SFace is not installed."""
    try:
        resolve("yunet"), resolve("sface")
    except WeightsError as error:
        pytest.skip(str(error))


def test_frames_of_another_person_are_counted(tmp_path: Path) -> None:
    shard = write_random_shard(tmp_path, "anna", num_frames=2)
    assert _sample(shard, [3, 3, 5, 3]).num_of_others == 1
    assert _sample(shard, []).num_of_others == 0


def test_one_person_under_two_names_is_named(tmp_path: Path) -> None:
    anna, ben, carl = (write_random_shard(tmp_path, name, num_frames=2) for name in ("anna", "ben", "carl"))
    people = [_sample(anna, [1, 1]), _sample(ben, [2]), _sample(carl, [1])]
    assert list(same_people(people)) == [(anna, carl)]


@pytest.mark.integration
def test_a_person_who_is_copied_to_another_name_is_told(
    tmp_path: Path,
    drawn_people: list[Shard],  # noqa: F811
    face_files: None,
) -> None:
    anna, ben = drawn_people
    for shard, name in ((anna, "anna"), (ben, "ben"), (anna, "carl")):
        _copied(shard, tmp_path, name)
    assert "anna and carl" in _warnings(tmp_path)


@pytest.mark.integration
def test_landmarks_that_lie_beside_the_face_are_told(
    tmp_path: Path,
    drawn_people: list[Shard],  # noqa: F811
    face_files: None,
) -> None:
    shard = _copied(drawn_people[0], tmp_path, "anna", shift_px=-60.0)
    assert sample_faces([shard])[0].num_off == 12
    assert "in 12 of 12 frames looked at no face is found under the landmarks" in _warnings(tmp_path)


def test_a_head_on_its_side_is_told(tmp_path: Path, drawn_people: list[Shard]) -> None:  # noqa: F811
    _copied(drawn_people[0], tmp_path, "anna", roll_deg=90.0)
    assert "the head lies on its side or upside down" in _warnings(tmp_path)


def test_frames_that_repeat_are_told(tmp_path: Path, drawn_people: list[Shard]) -> None:  # noqa: F811
    shard = drawn_people[0]
    with ShardWriter(tmp_path, "anna", shard.size_px, "test") as writer:
        for row in range(20):
            writer.add(
                shard.read_frame(0),
                clip="c",
                frame_index=row,
                timestamp_s=row / 25,
                landmarks_KC=shard.landmarks_FKC[0],
                pose_C=shard.pose_FC[0],
                au_presence_A=np.zeros(18),
                au_intensity_A=np.zeros(18),
                confidence=1.0,
            )
    assert "19 of 20 frames repeat the one before: a still picture?" in _warnings(tmp_path)
