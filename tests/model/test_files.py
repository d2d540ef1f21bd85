"""Promises of model.files: whatever goes wrong in between, the old file is there or the new one."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from model.files import json_of, name_folder, read_csv, whole_file, write_bytes, write_json, write_text

KILLED_AT = """
import os, signal, sys
from pathlib import Path
import model.files

calls = 0

def counted(function):
    def wrapper(*args, **kwargs):
        global calls
        calls += 1
        if calls == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return wrapper

for name in ("mkdir", "open", "fsync", "replace", "close"):
    setattr(os, name, counted(getattr(os, name)))
model.files.write_text(Path(sys.argv[1]), "new", is_private=True)
print(calls)
"""


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("is_private", [False, True])
def test_a_step_that_fails_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, is_private: bool
) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old", is_private=is_private)

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "new", is_private=is_private)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_writer_that_fails_in_the_middle_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as file:
        file.write(b"ne")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux' /dev/full")
def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    (tmp_path / "a.txt.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_process_killed_at_any_step_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path, found = tmp_path / "folder" / "a.txt", []
    for step in range(1, 20):
        write_text(path, "old", is_private=True)
        done = subprocess.run([sys.executable, "-c", KILLED_AT, str(path), str(step)], capture_output=True, text=True)
        found.append(path.read_text())
        if done.returncode == 0:
            break
    assert done.stdout.strip() == str(step - 1), done.stderr
    assert found == sorted(found, reverse=True) and set(found) == {"old", "new"}
    assert found.count("old") >= 4, "killed before the rename: at mkdir, open, fsync and replace"


def test_a_private_file_is_for_its_user_alone_even_if_a_left_over_is_not(tmp_path: Path) -> None:
    path = tmp_path / "state" / "a.json"
    before = os.umask(0)
    try:
        write_json(path, {"a": 1}, is_private=True)
        (path.parent / "a.json.partial").write_text("left over by a killed process")
        write_json(path, {"a": 2}, is_private=True)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert json.loads(path.read_text()) == {"a": 2} and list(path.parent.iterdir()) == [path]


def test_text_is_utf_8_with_the_line_ends_it_has(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "é\r\n")
    write_json(tmp_path / "b", {"name": "Zoë"})
    assert (tmp_path / "a").read_bytes() == b"\xc3\xa9\r\n"
    assert (tmp_path / "b").read_bytes() == b'{"name": "Zo\xc3\xab"}\n'


def test_a_folder_gets_its_name_with_all_that_is_in_it_and_replaces_none(tmp_path: Path) -> None:
    partial, path = tmp_path / "a.partial", tmp_path / "a"
    (partial / "inner").mkdir(parents=True)
    (partial / "inner" / "b.txt").write_text("content")
    name_folder(partial, path)
    assert not partial.exists() and (path / "inner" / "b.txt").read_text() == "content"
    partial.mkdir()
    with pytest.raises(OSError, match="not empty"):
        name_folder(partial, path)
    assert partial.exists() and (path / "inner" / "b.txt").read_text() == "content"


def test_a_folder_whose_content_cannot_be_put_on_disk_gets_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.partial").mkdir()
    write_text(tmp_path / "a.partial" / "b.txt", "content")

    def fail(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        name_folder(tmp_path / "a.partial", tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("text", ["{", "[" * 200_000, b"\xff"])
def test_what_is_no_json_is_one_kind_of_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        json_of(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,b\n1,2\n3,4,5\n", "line 3 has other fields"),
        ("a,b\n1\n", "line 2 has other"),
        ("a\n\0\n" + "x" * 200_000, "line"),
    ],
)
def test_a_row_with_other_fields_than_the_first_line_is_damage(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=reason):
        read_csv(tmp_path / "a.csv")


def test_rows_of_a_table_are_named_by_its_first_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('name,n\n"x, y",1\nZo\u00eb,2\n', encoding="utf-8")
    assert read_csv(tmp_path / "a.csv") == [{"name": "x, y", "n": "1"}, {"name": "Zo\u00eb", "n": "2"}]
