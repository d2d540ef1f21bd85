"""Promises of data_partition.sources.layouts and sources: which layout a folder has, and who is in it."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.entry import app
from data_partition.preparation.prepare import is_prepared, prepare
from data_partition.shards.shard import shard_folders
from data_partition.sources.layouts import LAYOUTS, detect_layout, find_sources, people_with_entry
from data_partition.sources.names import Layout
from data_partition.sources.records import NOT_FOLLOWED, ClipSource, Sources
from data_partition.sources.video import count_frames, picture_names
from model.errors import ConfigError, DataError
from tests.data_partition.conftest import write_picture
from tests.support.rights import bound_by_modes


def clips_of(sources: Sources, subset: str = "") -> dict[str, list[Path]]:
    return {identity: [clip.path for clip in clips] for identity, clips in sources.people[subset].items()}


def left_out(sources: Sources) -> dict[str, str]:
    return {Path(one.path).name: one.reason for _, one in sources.rejected}


def test_every_layout_has_a_record_and_a_name_of_the_command_line() -> None:
    assert set(LAYOUTS) == set(Layout)
    result = CliRunner().invoke(app, ["prepare", "src", "out", "--layout", "none-of-these"])
    assert result.exit_code == 2 and all(f"'{name}'" in result.output for name in ("auto", *Layout))


def test_videos_and_frames_in_any_mix_are_found(tmp_path: Path) -> None:
    (tmp_path / "anna.mp4").touch()
    write_picture(tmp_path / "ben" / "0.jpg")
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "two.MOV").touch()
    write_picture(tmp_path / "cat" / "one.mp4" / "0.png")
    (tmp_path / ".hidden").mkdir()
    assert detect_layout(tmp_path) == (Layout.VIDEOS, "videos of people")
    sources = find_sources(tmp_path, Layout.VIDEOS)
    assert clips_of(sources) == {
        "anna": [tmp_path / "anna.mp4"],
        "ben": [tmp_path / "ben"],
        "cat": [tmp_path / "cat" / "one.mp4", tmp_path / "cat" / "two.MOV"],
    }
    assert sources.rejected == []
    (tmp_path / "anna.mp4").unlink()
    (tmp_path / "cat" / "two.MOV").unlink()
    assert detect_layout(tmp_path) == (Layout.FRAMES, "folders of pictures")


def test_records_of_consent_are_no_sources(tmp_path: Path) -> None:
    for name in ("anna.mp4", "anna.consent.toml", "ben/two.mov", "ben/consent.toml", "ben/consent.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    sources = find_sources(tmp_path, Layout.VIDEOS)
    assert clips_of(sources).keys() == {"anna", "ben"} and left_out(sources).keys() == {"consent.txt"}


def test_one_persons_folder_is_no_source_folder(tmp_path: Path) -> None:
    for name in ("first.mp4", "second.mp4", "consent.toml"):
        (tmp_path / "anna" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "anna" / name).touch()
    with pytest.raises(ConfigError, match=rf"anna: the folder of one person, .*; give the folder above, {tmp_path}\."):
        prepare(tmp_path / "anna", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_no_source_is_listed(tmp_path: Path) -> None:
    (tmp_path / "anna.mp4").touch()
    (tmp_path / "readme.txt").touch()
    write_picture(tmp_path / "loose.jpg")
    (tmp_path / "ben").mkdir()
    (tmp_path / "ben" / "sound.wav").touch()
    sources = find_sources(tmp_path, Layout.VIDEOS)
    assert sources.people[""]["ben"] == []
    assert left_out(sources).keys() == {"sound.wav", "loose.jpg", "readme.txt"}
    assert "put a person's pictures into a folder" in left_out(sources)["loose.jpg"]


def test_a_person_who_is_there_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "anna.mp4").touch()
    write_picture(tmp_path / "anna" / "0.jpg")
    with pytest.raises(DataError, match="anna is there twice"):
        find_sources(tmp_path, Layout.VIDEOS)


def test_an_empty_and_a_missing_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nobody found by the layout videos; wanted a video, or a folder of videos"):
        find_sources(tmp_path, detect_layout(tmp_path)[0])
    with pytest.raises(DataError, match="no such folder"):
        detect_layout(tmp_path / "gone")


@pytest.mark.parametrize("layout", Layout)
def test_a_folder_of_another_layout_says_what_was_wanted(tmp_path: Path, layout: Layout) -> None:
    (tmp_path / "readme.txt").touch()
    with pytest.raises(DataError, match=rf"nobody found by the layout {layout}; wanted "):
        find_sources(tmp_path, layout)


def _openface_csv(path: Path) -> None:
    path.write_text("frame, face_id, timestamp, confidence, success, AU01_c\n")


def test_a_table_of_something_else_beside_a_video_is_no_annotation(tmp_path: Path) -> None:
    for name in ("anna.mp4", "ben.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "anna.csv").write_text("label,value\nsmile,1\n")
    write_picture(tmp_path / "cat" / "01.jpg")
    (tmp_path / "cat" / "metadata.csv").write_text("file_name,text\n01.jpg,hello\n")
    layout, _ = detect_layout(tmp_path)
    assert layout is Layout.VIDEOS
    sources = find_sources(tmp_path, layout)
    assert clips_of(sources).keys() == {"anna", "ben", "cat"}
    assert left_out(sources).keys() == {"anna.csv", "metadata.csv"}


def test_pictures_videos_and_folders_of_one_person_are_all_taken(tmp_path: Path) -> None:
    anna = tmp_path / "anna"
    write_picture(anna / "IMG_1.JPG")
    write_picture(anna / "2024" / "party" / "1.png")
    (anna / "2024" / "IMG_1.MTS").touch()
    (anna / "IMG_1.MOV").touch()
    (anna / "2024" / "anna").symlink_to(anna)  # leads back up
    sources = find_sources(tmp_path, Layout.VIDEOS)
    (clips,) = sources.people[""].values()
    assert [clip.name for clip in clips] == ["anna", "2024/IMG_1.MTS", "2024/party", "IMG_1.MOV"]
    assert len({clip.part_name for clip in clips}) == 4 and not any("/" in clip.part_name for clip in clips)
    assert left_out(sources).keys() == {"anna"}  # the link


def test_a_file_that_is_not_there_or_not_a_file_is_listed_and_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "anna.mp4").touch()
    (tmp_path / "ben.mp4").symlink_to("nowhere.mp4")
    os.mkfifo(tmp_path / "cat.mp4")
    sources = find_sources(tmp_path, Layout.VIDEOS)
    assert clips_of(sources).keys() == {"anna"}
    assert "without a target" in left_out(sources)["ben.mp4"]
    assert "not a regular file" in left_out(sources)["cat.mp4"]


@pytest.mark.parametrize("target", ["..", "../../..", "../cat", "2023"])
def test_a_link_to_other_peoples_files_is_listed_and_not_followed(tmp_path: Path, target: str) -> None:
    src, other_disk = tmp_path / "src", tmp_path / "disk"
    for folder in (src / "anna" / "2023", src / "cat", other_disk):
        folder.mkdir(parents=True)
        (folder / "a.mp4").touch()
    (src / "anna" / "link").symlink_to(target)
    (src / "anna" / "films").symlink_to(other_disk)
    (other_disk / "again").symlink_to(other_disk)
    sources = find_sources(src, Layout.VIDEOS)
    anna = [src / "anna" / folder / "a.mp4" for folder in ("2023", "films")]
    assert clips_of(sources) == {"anna": anna, "cat": [src / "cat" / "a.mp4"]}
    assert "not followed" in left_out(sources)["link"] and "not followed" in left_out(sources)["again"]


def test_links_to_single_files_of_others_are_listed_and_the_rest_is_taken(tmp_path: Path) -> None:
    src, disk = tmp_path / "src", tmp_path / "disk"
    for name in ("ben/b.mp4", "ben/pictures/1.png", "anna/own.mp4"):
        (src / name).parent.mkdir(parents=True, exist_ok=True)
        (src / name).touch()
    write_picture(src / "anna" / "1.png")
    write_picture(disk / "3.png")
    (disk / "c.mp4").touch()
    (src / "anna" / "2.png").symlink_to(src / "ben" / "pictures" / "1.png")
    (src / "anna" / "3.png").symlink_to(disk / "3.png")
    (src / "anna" / "b.mp4").symlink_to("../ben/b.mp4")
    (src / "anna" / "again.mp4").symlink_to("own.mp4")
    (src / "anna" / "c.mp4").symlink_to(disk / "c.mp4")
    (src / "cat.mp4").symlink_to("ben/b.mp4")
    (src / "dora").symlink_to("ben")
    (src / "emil").symlink_to(tmp_path)
    sources = find_sources(src, Layout.VIDEOS)
    assert clips_of(sources) == {
        "anna": [src / "anna", src / "anna" / "c.mp4", src / "anna" / "own.mp4"],
        "ben": [src / "ben" / "b.mp4", src / "ben" / "pictures"],
    }
    pictures = sources.people[""]["anna"][0]
    assert picture_names(pictures.path, pictures.stretch) == ["1.png", "3.png"]
    assert count_frames(pictures.path, pictures.stretch) == 2
    told = left_out(sources)
    assert told.keys() == {"2.png", "b.mp4", "again.mp4", "cat.mp4", "dora", "emil"}
    assert all(reason == NOT_FOLLOWED for reason in told.values())


def test_a_folder_of_nothing_but_links_to_others_pictures_is_no_clip(tmp_path: Path) -> None:
    for name in ("anna", "ben"):
        write_picture(tmp_path / name / "1.png")
    (tmp_path / "anna" / "more").mkdir()
    (tmp_path / "anna" / "more" / "1.png").symlink_to("../../ben/1.png")
    assert clips_of(find_sources(tmp_path, Layout.VIDEOS)) == {"anna": [tmp_path / "anna"], "ben": [tmp_path / "ben"]}


def test_files_that_a_hidden_folder_keeps_are_taken(tmp_path: Path) -> None:
    """As git-annex and DVC keep them."""
    (tmp_path / ".annex").mkdir()
    (tmp_path / ".annex" / "SHA256E-1.mp4").touch()
    (tmp_path / "anna.mp4").symlink_to(".annex/SHA256E-1.mp4")
    sources = find_sources(tmp_path, Layout.VIDEOS)
    assert clips_of(sources) == {"anna": [tmp_path / "anna.mp4"]} and not sources.rejected


def test_a_name_that_a_shard_cannot_have_is_listed(tmp_path: Path) -> None:
    for name in ("anna.mp4", "spare.parts.mp4", f"{'x' * 250}.mp4"):
        (tmp_path / name).touch()
    sources = find_sources(tmp_path, Layout.VIDEOS)
    assert clips_of(sources).keys() == {"anna"}
    assert "rename it" in left_out(sources)["spare.parts.mp4"]


def test_two_names_that_look_the_same_are_refused(tmp_path: Path) -> None:
    (tmp_path / "Zo\u00eb.mp4").touch()
    (tmp_path / "Zoe\u0308.mp4").touch()
    with pytest.raises(DataError, match=r"'Zo\\xeb' .* cannot be told apart; rename one"):
        find_sources(tmp_path, Layout.VIDEOS)


def test_one_name_with_a_hash_does_not_make_a_folder_voxceleb(tmp_path: Path) -> None:
    for name in ("anna #2.mp4", "ben.mp4", "cat.mp4"):
        (tmp_path / name).touch()
    assert detect_layout(tmp_path)[0] is Layout.VIDEOS


def test_openface_files_are_found_beside_in_processed_and_inside(tmp_path: Path) -> None:
    (tmp_path / "anna.mp4").touch()
    _openface_csv(tmp_path / "anna.csv")
    write_picture(tmp_path / "ben" / "talk" / "0.jpg")
    (tmp_path / "ben" / "processed").mkdir()
    _openface_csv(tmp_path / "ben" / "processed" / "talk.csv")
    (tmp_path / "ben" / "processed" / "talk_of_details.txt").touch()
    for name in ("0.jpg", "1.jpg"):
        write_picture(tmp_path / "cat" / name)
        _openface_csv((tmp_path / "cat" / name).with_suffix(".csv"))
    (tmp_path / "dan.mp4").touch()
    (tmp_path / "other.csv").touch()
    assert detect_layout(tmp_path) == (Layout.OPENFACE, "anna.csv lies beside anna.mp4")
    sources = find_sources(tmp_path, Layout.OPENFACE)
    files = {
        identity: [[file.relative_to(tmp_path).as_posix() for file in clip.annotations] for clip in clips]
        for identity, clips in sources.people[""].items()
    }
    assert files == {
        "anna": [["anna.csv"]],
        "ben": [["ben/processed/talk.csv"]],
        "cat": [["cat/0.csv", "cat/1.csv"]],
        "dan": [],
    }
    assert left_out(sources).keys() == {"dan.mp4", "other.csv"}
    with pytest.raises(ConfigError, match=r"--mesh: .*anna.mp4 is annotated by openface, which has no meshes"):
        find_sources(tmp_path, Layout.OPENFACE, with_mesh=True)
    assert "run FeatureExtraction on it, or prepare it with --layout videos" in left_out(sources)["dan.mp4"]


def test_a_face_cannot_be_chosen_where_files_tell_it(tmp_path: Path) -> None:
    write_picture(tmp_path / "anna" / "1.png")
    (tmp_path / "anna.csv").write_text("frame,confidence,x_0\n")
    assert len(find_sources(tmp_path, Layout.OPENFACE).people[""]["anna"]) == 1
    with pytest.raises(ConfigError, match=r"--face: 'anna' is annotated by files \(anna\.csv\).*; leave the option"):
        find_sources(tmp_path, Layout.OPENFACE, {"anna": 2})


def test_a_folder_that_may_not_be_looked_into_is_left_out_and_nothing_else(tmp_path: Path) -> None:
    write_picture(tmp_path / "anna" / "1.png")
    locked = tmp_path / "lost+found"
    locked.mkdir(mode=0)
    with bound_by_modes():
        layout, _ = detect_layout(tmp_path)
        sources = find_sources(tmp_path, layout)
        (text,) = [str(one) for _, one in sources.rejected]
        celebv, voxceleb = (LAYOUTS[one].find(tmp_path) for one in (Layout.CELEBV, Layout.VOXCELEB))
        assert shard_folders(tmp_path) == [] and not is_prepared(tmp_path)
        with pytest.raises(DataError, match=r"lost\+found: cannot be read \(Permission denied\)"):
            shard_folders(locked)
    assert sources.people == {"": {"anna": [ClipSource(path=tmp_path / "anna", layout=layout)], "lost+found": []}}
    assert text == f"{locked}: cannot be read (Permission denied); wanted a folder"
    assert len(celebv.rejected) == len(voxceleb.rejected) == 2


def test_people_have_an_entry_though_it_cannot_be_read(tmp_path: Path) -> None:
    for name in ("anna", "train"):
        (tmp_path / name).mkdir()
    for name in ("ben.mp4", "carl", "dora.v2.mkv"):
        (tmp_path / name).symlink_to("nowhere")
    for name in ("eva.consent.toml", "eva.csv", ".fay.mp4", "train/id1#video#000#010.mp4"):
        (tmp_path / name).touch()
    assert people_with_entry(tmp_path, Layout.VIDEOS, "") == {"anna", "train", "ben", "carl", "dora.v2"}
    assert people_with_entry(tmp_path, Layout.VOXCELEB, "train") == {"id1"}
    (tmp_path / "jack_ma").mkdir()
    assert "Jack_Ma" in people_with_entry(tmp_path, Layout.CELEBV, "")
