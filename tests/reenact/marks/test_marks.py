"""Marks of drawn people: each by itself, through the attacks of docs/marks.md, and together in a file."""

import shutil
import weakref
from fractions import Fraction

import cv2
import numpy as np
import pytest

from data_partition.consent.kinds import Role, WithoutConsent
from data_partition.consent.record import ConsentUse, synthetic_record
from data_partition.shards.images import read_image
from data_partition.shards.shard import open_shard
from data_partition.sources.video import source_sha256
from data_partition.synth.dataset import synthesize
from model.errors import ConfigError, DataError
from reenact.clips.video_writer import VideoWriter
from reenact.marks import delivery, manifest, verification
from reenact.marks import key as marks_key
from reenact.marks.delivery import Marks, deliver_film, deliver_picture, record_of
from reenact.marks.key import FOLDER_VARIABLE, marking_key
from reenact.marks.kinds import Kind, Label, LabelException
from reenact.marks.label import find_label, stamp
from reenact.marks.manifest import MADE_OF, Origin
from reenact.marks.verification import deliveries, verify_file
from reenact.marks.watermark import ALGORITHM, Watermark, read_watermark
from tests.support.films import write_film

RECORD = 0xC0FFEE
ANA = synthetic_record("ana")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Twelve frames of a drawn person, 256 pixels."""
    folder = synthesize(tmp_path_factory.mktemp("synth"), num_identities=1, num_frames=20, size_px=256)[0]
    shard = open_shard(folder)
    return [shard.read_frame(row) for row in range(12)]


def origin(**changes):
    return Origin(**{"label": Label.GENERATED, "record": RECORD, "model_sha256": "ab" * 32} | changes)


def film_of(path, pictures, marks):
    with VideoWriter(path, frame_rate_hz=Fraction(25)) as writer:
        for picture in pictures:
            writer.add(marks(picture))
    return path


def jpeg(picture, quality):
    data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)


@pytest.mark.parametrize(
    "attack",
    [
        lambda picture: picture,
        lambda picture: jpeg(picture, 75),
        lambda picture: picture[31:-22, 17:-40],
        lambda picture: cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
        lambda picture: cv2.resize(picture, None, fx=4 / 3, fy=4 / 3, interpolation=cv2.INTER_CUBIC),
    ],
    ids=["none", "jpeg", "crop", "half", "larger"],
)
def test_the_watermark_of_a_picture_is_found_after(pictures, attack):
    for picture in pictures[::4]:
        assert read_watermark([attack(Watermark(RECORD).embed(picture))]).is_present


def test_no_watermark_is_found_where_none_is_nor_in_the_mirror(pictures):
    for picture in pictures:
        assert not read_watermark([picture]).is_present
    mirrored = np.ascontiguousarray(Watermark(RECORD).embed(pictures[0])[:, ::-1])
    assert not read_watermark([mirrored]).is_present


@pytest.mark.parametrize("record", [0, 1, RECORD, 2**24 - 1])
def test_every_record_is_read_back_and_frames_of_a_film_are_read_together(pictures, record):
    assert read_watermark([Watermark(record).embed(picture) for picture in pictures]).record == record


def test_the_watermark_changes_little_and_less_on_plain_walls(pictures):
    changed = Watermark(RECORD).embed(pictures[0]).astype(float) - pictures[0]
    assert np.sqrt(np.mean(changed**2)) < 3.5  # 37 dB
    plain = np.full((128, 128, 3), 120, np.uint8)
    assert np.abs(Watermark(RECORD).embed(plain).astype(int) - 120).max() <= 5


def test_a_label_is_told_from_the_other_and_from_none(pictures):
    for label in Label:
        stamped = stamp(pictures[0], label)
        assert find_label(jpeg(stamped, 50)) is label
        top, side = stamped[:40, -140:], stamped[60:]
        assert top.max() == 255 and top.min() == 0
        np.testing.assert_array_equal(side, pictures[0][60:])
    assert find_label(pictures[0]) is None and find_label(np.zeros((64, 64, 3), np.uint8)) is None


def test_the_label_of_a_sheet_is_found_and_grows_with_the_root_of_its_side(pictures):
    sheet = np.tile(pictures[0], (4, 4, 1))[:960, :960]  # 4 x 240: twice its label; a result has four times it
    for label in Label:
        stamped = stamp(sheet, label, Kind.SHEET)
        assert find_label(jpeg(stamped, 50)) is label
        changed = np.argwhere((stamped != sheet).any(axis=2))
        small = np.argwhere((stamp(sheet[:240, :240], label) != sheet[:240, :240]).any(axis=2))
        np.testing.assert_allclose(np.ptp(changed, axis=0), 2 * np.ptp(small, axis=0), atol=4)
        half = cv2.resize(stamped, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        assert find_label(half) is label
    assert find_label(sheet) is None


@pytest.mark.parametrize("name", ["out.jpg", "out.png"])
def test_a_delivered_picture_has_all_marks_and_a_line_in_the_book(tmp_path, pictures, name):
    deliver_picture(
        tmp_path / name,
        pictures[0],
        origin(consents=(ConsentUse(role=Role.SOURCE, record=ANA),), without_consent=WithoutConsent.PUBLIC),
    )
    anchor = marking_key().anchor.read_bytes()
    found = verify_file(tmp_path / name, anchors=anchor)
    assert (found.label, found.watermark.record, found.record) == (Label.GENERATED, RECORD, RECORD)
    assert found.manifest is not None and found.manifest.state == "Trusted"
    assert found.manifest.made_of == {
        "record": "c0ffee",
        "label": "AI GENERATED",
        "kind": "result",
        "label_exception": "",
        "model_sha256": "ab" * 32,
        "consent_sha256": [ANA.sha256],
        "without_consent": "public",
    }
    assert verify_file(tmp_path / name).manifest.state == "Valid"
    book = deliveries(RECORD, marking_key())
    assert book[-1]["file_sha256"] == source_sha256(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_delivered_film_has_all_marks_and_keeps_two_without_its_manifest(tmp_path, pictures):
    marks = Marks(origin(label=Label.MODIFIED))
    deliver_film(tmp_path / "out.mp4", film_of(tmp_path / "film.mp4", pictures, marks), marks.origin)
    found = verify_file(tmp_path / "out.mp4", anchors=marking_key().anchor.read_bytes())
    assert (found.label, found.watermark.record) == (Label.MODIFIED, RECORD)
    assert found.manifest is not None and found.manifest.state == "Trusted"
    without = verify_file(tmp_path / "film.mp4")
    assert without.manifest is None and without.is_marked and without.record == RECORD


def test_of_a_film_one_whole_frame_is_in_memory_at_a_time(tmp_path, monkeypatch):
    write_film(tmp_path / "a.mp4", range(40), time_base=Fraction(1, 25))
    seen = []

    def watched(frame_HWC):
        assert not [one for one in seen if one() is not None]
        seen.append(weakref.ref(frame_HWC))
        return find_label(frame_HWC)

    monkeypatch.setattr(verification, "find_label", watched)
    verify_file(tmp_path / "a.mp4")
    assert len(seen) >= 8


def test_one_changed_bit_breaks_the_manifest(tmp_path, pictures):
    deliver_picture(tmp_path / "out.jpg", pictures[0], origin())
    data = bytearray((tmp_path / "out.jpg").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "out.jpg").write_bytes(data)
    found = verify_file(tmp_path / "out.jpg")
    assert found.manifest is not None and not found.manifest.is_intact
    assert "assertion.dataHash.mismatch" in found.manifest.problems


def test_a_manifest_names_nobody_and_says_what_was_done(tmp_path, pictures):
    deliver_picture(tmp_path / "ana-smith.jpg", pictures[0], origin(label=Label.MODIFIED))
    data = (tmp_path / "ana-smith.jpg").read_bytes()
    assert b"ana-smith" not in data and b"thumbnail" not in data
    for text in (b"compositeWithTrainedAlgorithmicMedia", b"c2pa.watermarked.bound", b"notAllowed", b"AI MODIFIED"):
        assert text in data
    assert ALGORITHM.encode() in data and MADE_OF.encode() in data


def test_without_a_label_the_exception_is_in_the_manifest_and_the_other_marks_stay(tmp_path, pictures):
    deliver_picture(tmp_path / "out.png", pictures[0], origin(exception=LabelException.ARTISTIC))
    found = verify_file(tmp_path / "out.png")
    assert found.label is None and found.watermark.record == RECORD
    assert found.manifest is not None and found.manifest.made_of["label_exception"] == "artistic"


def test_what_is_too_small_for_a_label_is_delivered_larger(tmp_path, pictures):
    small = cv2.resize(pictures[0], (64, 64), interpolation=cv2.INTER_AREA)
    deliver_picture(tmp_path / "out.png", small, origin())
    assert read_image(tmp_path / "out.png").shape == (256, 256, 3)
    assert Marks(origin())(pictures[0]).shape == (256, 256, 3)


@pytest.mark.parametrize(("mark", "words"), [("embed", "the watermark"), ("stamp", "the label")])
def test_a_file_whose_marks_cannot_be_read_is_not_delivered(tmp_path, pictures, monkeypatch, mark, words):
    place = (Watermark, "embed") if mark == "embed" else (delivery, "stamp")
    monkeypatch.setattr(*place, lambda *arguments: arguments[1 if mark == "embed" else 0])
    with pytest.raises(DataError, match=rf"out\.png: not delivered, {words} cannot be read"):
        deliver_picture(tmp_path / "out.png", pictures[0], origin())
    assert not list(tmp_path.iterdir())


def test_a_key_is_made_once_and_private_and_keeps_its_owner(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "keys" / "mine"))
    made = marking_key("Example Lab")
    assert made.owner() == "Example Lab" == marking_key().owner()
    assert (made.folder / "key.pem").stat().st_mode & 0o777 == 0o600
    fingerprint = made.fingerprint()
    assert marking_key("Example Lab").fingerprint() == fingerprint
    with pytest.raises(ConfigError, match="holds a key of 'Example Lab', wanted one of 'Other Lab'"):
        marking_key("Other Lab")
    shutil.rmtree(made.folder)
    with pytest.raises(ConfigError, match="65 characters, a certificate has room for 64"):
        marking_key("x" * 65)
    assert not list((tmp_path / "keys").iterdir())


def test_an_assertion_of_another_form_is_none_of_ours(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "_made_of", lambda origin: [f"{origin.record:06x}"])
    with (tmp_path / "plain.png").open("wb") as file:
        file.write(cv2.imencode(".png", pictures[0])[1].tobytes())
    with (tmp_path / "plain.png").open("rb") as source, (tmp_path / "signed.png").open("w+b") as target:
        manifest.sign(source, target, "image/png", origin(), marking_key())
    found = verify_file(tmp_path / "signed.png")
    assert found.manifest is not None and found.manifest.is_intact and found.manifest.made_of == {}
    assert found.record is None and not found.is_marked


@pytest.mark.parametrize("line", ["{", "[]", "{}", "7"])
def test_a_damaged_book_of_deliveries_is_named(line, tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "key"))
    book = marking_key().records
    book.write_text(line + "\n")
    with pytest.raises(DataError, match=f"{book}: damaged"):
        deliveries(RECORD, marking_key())


def test_a_record_goes_by_what_a_result_was_made_of():
    assert record_of({"a": 1, "b": 2}) == record_of({"b": 2, "a": 1}) != record_of({"a": 1, "b": 3})
    assert 0 <= record_of("anything") < 2**24


def test_a_foreign_manifest_gives_no_record(tmp_path, pictures):
    deliver_picture(tmp_path / "out.png", pictures[0], origin())
    found = verify_file(tmp_path / "out.png")
    assert found.manifest is not None
    found.manifest.made_of["record"] = "../../x"
    blank = read_watermark([pictures[0]])
    assert type(found)(label=None, watermark=blank, manifest=found.manifest).record is None


def test_of_two_commands_that_make_a_key_at_once_the_first_ones_stays(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "key"))
    first = marking_key("First").fingerprint()
    marks_key._make(tmp_path / "key", "Second")
    assert marking_key().fingerprint() == first and marking_key().owner() == "First"
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
