"""Promises of data_partition.doctor.page and of the command `doctor`."""

from pathlib import Path

import pytest

from cli import entry as cli
from data_partition.doctor.diagnosis import diagnose
from data_partition.doctor.page import write_page
from tests.support.shards import write_random_shard


def _exit_code(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_info:
        cli.main([str(argument) for argument in arguments])
    return int(exit_info.value.code or 0)


def test_the_page_shows_everybody_and_needs_nothing_beside_it(tmp_path: Path) -> None:
    names = ["anna", "ben", "x<y"]
    for seed, name in enumerate(names):
        write_random_shard(tmp_path / "data", name, seed=seed)
    page = write_page(tmp_path / "new" / "page.html", diagnose(tmp_path / "data"))
    assert [path.name for path in page.parent.iterdir()] == ["page.html"]
    text = page.read_text(encoding="utf-8")
    assert text.lstrip().startswith("<!doctype html>") and text.rstrip().endswith("</html>")
    assert "http:" not in text and "https:" not in text and "url(" not in text
    for name in ("anna", "ben", "x&lt;y"):
        assert f"<b>{name}</b>" in text
    assert "x<y" not in text
    assert text.count("data:image/png;base64,") == 3
    assert text.count("data:image/jpeg;base64,") == 3 * 24
    assert text.index("only 40 frames") < text.index("3 people, 120 frames")
    assert "fit for training" in text and "prefers-color-scheme: dark" in text


def test_a_dataset_of_broken_shards_still_gets_a_page(tmp_path: Path) -> None:
    write_random_shard(tmp_path / "data", "anna")
    (tmp_path / "data" / "anna" / "metadata.parquet").unlink()
    page = write_page(tmp_path / "page.html", diagnose(tmp_path / "data"))
    text = page.read_text(encoding="utf-8")
    assert "not fit for training" in text and "1 error(s)" in text and "metadata.parquet: missing" in text


@pytest.mark.integration
def test_many_people_are_folded_and_get_fewer_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_partition.doctor.diagnosis.MAX_THUMBNAILS_IN_ALL", 20)
    for seed in range(9):
        write_random_shard(tmp_path / "data", f"p{seed}", num_frames=6, seed=seed)
    text = write_page(tmp_path / "page.html", diagnose(tmp_path / "data")).read_text(encoding="utf-8")
    assert text.count("<details>") == 9 and text.count("data:image/jpeg") == 2 * 9
    assert text.count('<a href="#person-8">p8</a>') == 3  # from two warnings and from the table


def test_warnings_leave_the_exit_code_at_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_random_shard(tmp_path / "data", "anna")
    assert _exit_code("doctor", tmp_path / "data", "--page", tmp_path / "page.html") == 0
    text = capsys.readouterr().out
    assert "only 40 frames" in text and "data: fit for training" in text
    assert (tmp_path / "page.html").is_file()


def test_an_error_gives_exit_code_1_and_a_page_and_no_speed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard = write_random_shard(tmp_path / "data", "anna")
    (shard.path / shard.file_name[0]).write_bytes(b"")
    assert _exit_code("doctor", tmp_path / "data", "--page", tmp_path / "page.html", "--speed") == 1
    text = capsys.readouterr().out
    assert "data: not fit for training" in text and "Speed: not measured" in text
    assert (tmp_path / "page.html").is_file()


def test_a_page_that_is_no_html_file_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_random_shard(tmp_path / "data", "anna")
    assert _exit_code("doctor", tmp_path / "data", "--page", tmp_path / "page.pdf") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "ends in .html" in error


def test_a_folder_of_datasets_gets_one_hint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for side in ("train", "test"):
        write_random_shard(tmp_path / side, "anna")
    assert _exit_code("doctor", tmp_path) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"name one of {tmp_path / 'test'}, {tmp_path / 'train'}" in error
