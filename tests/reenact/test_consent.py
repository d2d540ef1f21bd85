"""Whose face may be drawn: records of shards, of files, and a shard to compare with."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from data_partition.consent.kinds import Role, WithoutConsent
from data_partition.consent.withdrawal import mark_withdrawn
from data_partition.faces.sface import unit
from data_partition.shards.shard import Shard, open_shard
from data_partition.shards.writer import record_consent
from data_partition.sources.video import source_sha256
from data_partition.synth.dataset import synthesize
from model.checkpoint import Checkpoint, save_checkpoint
from model.errors import CheckpointError, ConfigError, DataError
from model.progress import no_progress
from reenact.batch import run_batch
from reenact.consent import Permission, check_face, likeness_of, permission_for, person_shown
from reenact.face_frame import FaceFrame
from reenact.faces import face_of_shard
from reenact.marks.key import marking_key
from reenact.marks.manifest import read_manifest
from reenact.permits import Permits
from reenact.request import ReenactRequest
from reenact.studio import Studio, run_request
from tests.support.consents import NO_CONSENT, TODAY, consent_of, write_consent
from tests.support.shards import write_random_shard


@pytest.fixture
def ana(tmp_path: Path) -> Shard:
    """A shard of ana, who agreed to everything, and a picture of her with a record that names it."""
    shard = write_random_shard(tmp_path / "data", "ana", num_frames=3, consent=consent_of("ana"))
    picture = tmp_path / "anna.jpg"
    shutil.copyfile(shard.path / shard.file_name[0], picture)
    record = consent_of("anna", id="2026-015", source_sha256=(source_sha256(picture),))
    write_consent(tmp_path / "anna.consent.toml", record)
    return shard


def permission(source: Path, driving: Path | None = None, **asked: object) -> Permission:
    common = {"consent": None, "without_consent": None, "digest": source_sha256}
    return permission_for([source], driving or source, **common | asked)  # type: ignore[arg-type]


def frame_of(shard: Shard, row: int = 0) -> Path:
    return shard.path / shard.file_name[row]


def test_a_shard_its_frames_and_one_of_them_have_the_shards_record(ana: Shard) -> None:
    for source in (ana.path, ana.path / "frames", frame_of(ana)):
        assert [(use.role, use.record) for use in permission(source).uses] == [
            (Role.SOURCE, ana.consent),
            (Role.DRIVING, ana.consent),
        ]


def test_a_file_has_a_record_beside_it_or_in_its_folder_that_names_it(ana: Shard, tmp_path: Path) -> None:
    picture = tmp_path / "anna.jpg"
    assert [use.record.id for use in permission(picture).uses] == ["2026-015"] * 2
    folder = tmp_path / "anna"
    folder.mkdir()
    shutil.move(picture, folder)
    shutil.move(tmp_path / "anna.consent.toml", folder / "consent.toml")
    assert [use.record.id for use in permission(folder / "anna.jpg").uses] == ["2026-015"] * 2


def test_a_record_that_does_not_name_the_file_is_no_consent_to_it(ana: Shard, tmp_path: Path) -> None:
    other = tmp_path / "anna" / "other.jpg"
    other.parent.mkdir()
    shutil.copyfile(frame_of(ana, 1), other)
    for record in ("anna.consent.toml", "anna/consent.toml"):
        write_consent(tmp_path / "anna" / "consent.toml", consent_of("anna"))
        with pytest.raises(DataError, match=f"does not name this source; add {source_sha256(other)} to source_sha256"):
            permission(other, consent=tmp_path / record)


@pytest.mark.parametrize("record", ["ben/consent.toml", "ben.consent.toml", "ben/2024/talks.consent.toml"])
def test_a_record_holds_for_all_that_is_below_its_folder_as_prepare_takes_it(
    ana: Shard, tmp_path: Path, record: str
) -> None:
    """A file, the folder that it is in, and links to both from elsewhere."""
    talk = tmp_path / "ben" / "2024" / "talks" / "talk.jpg"
    talk.parent.mkdir(parents=True)
    shutil.copyfile(frame_of(ana), talk)
    links = tmp_path / "link.jpg", tmp_path / "folder"
    for link, target in zip(links, (talk, talk.parent), strict=True):
        link.symlink_to(target)
    place = write_consent(tmp_path / record, consent_of("ben", revoked=TODAY))
    for path in (talk, talk.parent, *links, links[1] / "talk.jpg"):
        for role, asked in (("source", (path,)), ("driving", (ana.path, path))):
            with pytest.raises(DataError, match=rf"not used as {role}: .* was revoked on .* \({place}\); ask ben"):
                permission(*asked, without_consent=WithoutConsent.PUBLIC)


def test_the_nearest_record_is_that_of_a_file_and_one_where_a_link_leads_to_can_only_refuse(
    ana: Shard, tmp_path: Path
) -> None:
    write_consent(tmp_path.with_name(f"{tmp_path.name}.consent.toml"), consent_of("nobody", revoked=TODAY))
    assert [use.record.id for use in permission(tmp_path / "anna.jpg").uses] == ["2026-015"] * 2
    target = tmp_path / "ben" / "anna.jpg"
    target.parent.mkdir()
    shutil.move(tmp_path / "anna.jpg", target)
    (tmp_path / "anna.jpg").symlink_to(target)
    write_consent(target.with_name("consent.toml"), consent_of("ben"))
    assert [use.record.person for use in permission(tmp_path / "anna.jpg").uses] == ["anna"] * 2
    write_consent(target.with_name("consent.toml"), consent_of("ben", roles=(Role.TRAINING,)))
    with pytest.raises(DataError, match="consent 2026-014 is for training, not for source"):
        permission(tmp_path / "anna.jpg")


@pytest.mark.parametrize("said", NO_CONSENT)
@pytest.mark.parametrize("without", [None, WithoutConsent.PUBLIC])
def test_a_record_that_does_not_hold_refuses_whatever_is_said_besides(
    ana: Shard, said: str, without: WithoutConsent | None
) -> None:
    record_consent(ana.path, consent_of("ana", **NO_CONSENT[said]))
    with pytest.raises(DataError, match=f"not used as source: consent 2026-014 .*{said}"):
        permission(ana.path, without_consent=without)


def test_each_role_needs_a_consent_of_its_own(ana: Shard, tmp_path: Path) -> None:
    record_consent(ana.path, consent_of("ana", roles=(Role.TRAINING, Role.DRIVING)))
    with pytest.raises(DataError, match="consent 2026-014 is for training and driving, not for source"):
        permission(ana.path)
    assert [use.role for use in permission(tmp_path / "anna.jpg", ana.path).uses] == [Role.SOURCE, Role.DRIVING]
    record_consent(ana.path, consent_of("ana", roles=(Role.TRAINING,)))
    with pytest.raises(DataError, match="not used as driving: consent 2026-014 is for training, not for driving"):
        permission(tmp_path / "anna.jpg", ana.path)


def test_a_source_without_a_record_needs_a_word_and_a_driving_person_none(ana: Shard, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.jpg"
    shutil.copyfile(frame_of(ana), stranger)
    with pytest.raises(DataError, match="stranger.jpg: no record of consent; `fedreenact consent` writes one"):
        permission(stranger)
    said = permission(stranger, without_consent=WithoutConsent.SYNTHETIC)
    assert said == Permission(without_consent=WithoutConsent.SYNTHETIC)
    assert permission(ana.path, stranger, without_consent=WithoutConsent.SYNTHETIC).without_consent is None


def test_a_record_is_not_given_for_a_shard_nor_taken_from_one_without(ana: Shard, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="whose own record holds; leave --consent out"):
        permission(frame_of(ana), consent=tmp_path / "anna.consent.toml")
    record_consent(ana.path, None)
    with pytest.raises(DataError, match="no record of consent in this shard"):
        permission(tmp_path / "anna.jpg", consent=ana.path)
    with pytest.raises(DataError, match=r"gone\.jpg: does not exist"):
        permission(tmp_path / "gone.jpg")


def test_a_shard_as_consent_is_to_be_compared_with(ana: Shard, tmp_path: Path) -> None:
    picture = tmp_path / "other.jpg"
    shutil.copyfile(frame_of(ana), picture)
    found = permission(picture, frame_of(ana), consent=ana.path)
    assert found.likeness == ana.path and found.uses[0].record == ana.consent


def test_a_face_like_the_shards_passes_and_another_is_refused(tmp_path: Path) -> None:
    shard = open_shard(synthesize(tmp_path, num_identities=1, num_frames=20, size_px=128, num_workers=1)[0])
    likeness_D, faces = likeness_of(shard.path), [face_of_shard(shard, row, 64) for row in (0, 19)]
    check_face(faces, likeness_D, shard.path)
    with pytest.raises(DataError, match=r"shows another face than this person's \(likeness -?0\.\d\d, wanted 0\.363\)"):
        check_face(faces, -likeness_D, shard.path)
    noise = face_of_shard(write_random_shard(tmp_path, "noise", num_frames=2, size_px=64), 0, 64)
    with pytest.raises(DataError, match="shows another face"):
        check_face([*faces, noise], likeness_D, shard.path)
    people = {tmp_path / "nobody": -likeness_D, shard.path: likeness_D}
    assert person_shown(faces, people, tmp_path) == shard.path
    with pytest.raises(DataError, match="the source shows nobody of this dataset"):
        person_shown([noise], people, tmp_path)


def test_a_face_too_small_to_tell_is_no_match(ana: Shard) -> None:
    with pytest.raises(DataError, match="frames below 64 pixels do not tell a face"):
        likeness_of(ana.path)
    likeness_D = unit(np.ones(128, np.float32))
    with pytest.raises(DataError, match="a model of 32 pixels cannot compare faces; give a record of the file"):
        check_face([face_of_shard(ana, 0, 32)], likeness_D, ana.path)


def uses() -> list[dict[str, str]]:
    book = marking_key().uses
    return [json.loads(line) for line in book.read_text().splitlines()] if book.is_file() else []


def asked(tmp_path: Path, **changes: object) -> ReenactRequest:
    common = {
        "checkpoint": tmp_path / "run",
        "sources": (tmp_path / "data" / "ana",),
        "driving": tmp_path / "data" / "ana" / "frames" / "000001.jpg",
        "out": tmp_path / "out.png",
    }
    return ReenactRequest(**common | changes)  # type: ignore[arg-type]


def test_a_result_names_the_record_and_every_use_is_written_down(
    ana: Shard, tmp_path: Path, checkpoint: Checkpoint
) -> None:
    save_checkpoint(tmp_path / "run", checkpoint)
    before = len(uses())
    report = run_request(asked(tmp_path), device=torch.device("cpu"), progress=no_progress)
    assert ana.consent is not None and report.permission.uses[0].record == ana.consent
    manifest = read_manifest(report.out)
    assert manifest is not None and manifest.made_of["consent_sha256"] == [ana.consent.sha256]
    lines = uses()[before:]
    assert [line["as"] for line in lines] == ["source", "driving"]
    assert {line["file_sha256"] for line in lines} == {source_sha256(report.out)}
    assert {(line["consent"], line["consent_sha256"]) for line in lines} == {("2026-014", ana.consent.sha256)}


def test_what_is_said_in_place_of_a_record_stands_in_the_manifest_and_the_book(
    ana: Shard, tmp_path: Path, checkpoint: Checkpoint
) -> None:
    save_checkpoint(tmp_path / "run", checkpoint)
    record_consent(ana.path, None)
    request = asked(tmp_path, without_consent=WithoutConsent.PUBLIC)
    report = run_request(request, device=torch.device("cpu"), progress=no_progress)
    manifest = read_manifest(report.out)
    assert manifest is not None
    assert (manifest.made_of["consent_sha256"], manifest.made_of["without_consent"]) == ([], "public")
    assert uses()[-1]["without_consent"] == "public" and uses()[-1]["file_sha256"] == source_sha256(report.out)


def test_nothing_is_drawn_written_or_noted_for_a_person_who_withdrew_while_the_studio_is_open(
    ana: Shard, tmp_path: Path, checkpoint: Checkpoint
) -> None:
    save_checkpoint(tmp_path / "run", checkpoint)
    studio = Studio(tmp_path / "run", torch.device("cpu"), no_progress)
    studio.run(asked(tmp_path))
    record_consent(ana.path, consent_of("ana", **NO_CONSENT["revoked"]))
    before = len(uses())
    with pytest.raises(DataError, match="was revoked"):
        studio.run(asked(tmp_path, out=tmp_path / "later.png"))
    assert not (tmp_path / "later.png").exists() and len(uses()) == before


@pytest.mark.parametrize(
    ("changes", "words"), [(NO_CONSENT["revoked"], "was revoked"), ({"purpose": "another"}, "changed meanwhile")]
)
def test_records_are_read_again_before_a_result_is_delivered(
    ana: Shard, tmp_path: Path, checkpoint: Checkpoint, changes: dict[str, object], words: str
) -> None:
    save_checkpoint(tmp_path / "run", checkpoint)
    studio, before = Studio(tmp_path / "run", torch.device("cpu"), no_progress), len(uses())
    with pytest.raises(DataError, match=words):
        studio.run(asked(tmp_path), lambda look: record_consent(ana.path, consent_of("ana", **changes)))
    assert not (tmp_path / "out.png").exists() and len(uses()) == before


def test_of_one_source_and_dataset_faces_are_compared_once_and_records_read_every_time(tmp_path: Path) -> None:
    folders = synthesize(tmp_path / "data", num_identities=1, num_frames=20, size_px=128, num_workers=1)
    shard, picture = open_shard(folders[0]), tmp_path / "picture.jpg"
    shutil.copyfile(frame_of(shard), picture)
    looked_at: list[tuple[Path, ...]] = []

    def person(sources: tuple[Path, ...], face: int) -> FaceFrame:
        looked_at.append(sources)
        return face_of_shard(shard, 0, 128)

    permits = Permits(person, source_sha256)
    for consent in (tmp_path / "data", shard.path):
        request = asked(tmp_path, sources=(picture,), driving=picture, consent=consent)
        looked_at.clear()
        first = permits.ask(request)
        assert first.likeness == shard.path and permits.ask(request) == first
        permits.require(request, first)
        assert looked_at == [(picture,)]
    record_consent(shard.path, consent_of(shard.identity, **NO_CONSENT["revoked"]))
    with pytest.raises(DataError, match="was revoked"):
        permits.require(request, first)


def test_a_batch_says_who_is_not_drawn_and_goes_on(ana: Shard, tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_checkpoint(tmp_path / "run", checkpoint)
    record_consent(write_random_shard(tmp_path / "data", "ben", num_frames=2).path, None)
    request = asked(
        tmp_path, sources=(tmp_path / "data",), driving=tmp_path / "data" / "ana" / "frames", out=tmp_path / "all"
    )
    rows = run_batch(request, device=torch.device("cpu"), progress=no_progress, on_row=lambda row: None)
    assert [bool(row.result) for row in rows if row.source == "ana"] == [True] * 3
    assert {row.problem.partition(";")[0] for row in rows if row.source == "ben"} == {
        f"{tmp_path / 'data' / 'ben'}: no record of consent"
    }


def test_nothing_is_drawn_with_a_model_that_learnt_somebody_who_withdrew(
    ana: Shard, tmp_path: Path, checkpoint: Checkpoint
) -> None:
    save_checkpoint(tmp_path / "run", checkpoint)
    mark_withdrawn(tmp_path / "run", "ben")
    with pytest.raises(CheckpointError, match="learnt ben .* who withdrew"):
        run_request(asked(tmp_path), device=torch.device("cpu"), progress=no_progress)
