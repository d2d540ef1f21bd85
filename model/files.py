"""Files and folders that appear whole or not at all, and are on disk when the call returns.

A file is written under a temporary name beside its own (`<name>.partial`), synced, and renamed; then its folder is
synced, because a new name can be lost in a power cut as content can. Whatever interrupts this, `path` holds the old
content or the new one, and a temporary file that a killed process left behind is overwritten by the next.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

_CANNOT_SYNC_FOLDERS = (errno.EINVAL, errno.ENOTSUP)
"""What file systems answer that keep no folders of their own, as some network drives."""


@contextlib.contextmanager
def whole_file(path: Path, *, is_private: bool = False) -> Iterator[BinaryIO]:
    """A file to write and read, which becomes `path` if the `with` block ends without an error, else is removed.

    Args:
        path: file to make or to replace; its folder is made if needed.
        is_private: whether its user alone may read and write it (mode 0600, a new folder 0700), whatever the umask.

    Raises:
        OSError: if it cannot be written; `path` is as it was then.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700 if is_private else 0o777)
    partial = path.with_name(path.name + ".partial")
    try:
        with _opened(partial, is_private=is_private) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_bytes(path: Path, content: bytes, *, is_private: bool = False) -> None:
    """Write a file whole or not at all.

    Raises:
        OSError: as `whole_file`.
    """
    with whole_file(path, is_private=is_private) as file:
        file.write(content)


def write_text(path: Path, text: str, *, is_private: bool = False) -> None:
    """Write a text file in UTF-8 whole or not at all, its line ends as they are in `text`.

    Bytes of a file's name that are not UTF-8 become backslash escapes, as JSON has them.

    Raises:
        OSError: as `whole_file`.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"), is_private=is_private)


def write_json(path: Path, content: object, *, indent: int | None = None, is_private: bool = False) -> None:
    """Write a JSON file in UTF-8 whole or not at all, with a line end after it.

    Args:
        path: file to make or to replace.
        content: what `json.dumps` takes.
        indent: spaces for each level; None writes a single line.
        is_private: as for `whole_file`.

    Raises:
        OSError: as `whole_file`.
    """
    write_text(path, json.dumps(content, indent=indent, ensure_ascii=False) + "\n", is_private=is_private)


def json_sha256(content: object) -> str:
    """SHA-256, hexadecimal, of what `json.dumps` takes; the order of keys does not count."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal.

    Raises:
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """Content of a JSON file in UTF-8.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is not JSON, or nested too deeply to be any file of this program.
    """
    return json_of(path.read_text(encoding="utf-8"))


def read_toml(path: Path) -> dict[str, Any]:
    """Content of a TOML file in UTF-8; a byte order mark, as Windows' Notepad may write, is passed over.

    Raises:
        OSError, ValueError: as `read_json`.
    """
    return dict(_parsed(tomllib.loads, path.read_text(encoding="utf-8-sig")))


def json_of(text: str | bytes) -> Any:
    """What a JSON text says.

    Raises:
        ValueError: as `read_json`.
    """
    return _parsed(json.loads, text)


def _parsed(parse: Callable[[Any], Any], text: str | bytes) -> Any:
    try:
        return parse(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file in UTF-8 by the names in its first line.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is no CSV, or a row has more or fewer fields than the first, naming the line.
    """
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = []
        try:
            for row in reader:
                if None in row or None in row.values():
                    raise ValueError(f"line {reader.line_num} has other fields than the first line")
                rows.append(row)
        except csv.Error as error:
            raise ValueError(f"line {reader.line_num}: {error}") from error
        return rows


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Header and rows as CSV text, a line end after each."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()


def name_folder(partial: Path, path: Path) -> None:
    """Give a folder that is complete its name, once all that is in it is on disk.

    Args:
        partial: the folder under its temporary name.
        path: its name, in the same folder; nothing has it.

    Raises:
        OSError: if it cannot be synced or renamed.
    """
    for folder, _, names in os.walk(partial):
        for name in names:
            _sync(Path(folder, name))
        _sync_folder(Path(folder))
    partial.rename(path)
    _sync_folder(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on disk, where the file system can say so."""
    try:
        _sync(path)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC_FOLDERS:
            raise


def _opened(partial: Path, *, is_private: bool) -> BinaryIO:
    if not is_private:
        return partial.open("w+b")
    partial.unlink(missing_ok=True)  # one that is there may be open to others
    return open(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b")
