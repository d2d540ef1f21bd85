"""What one browser has given and got: files in a folder of its own that ends with the session."""

from __future__ import annotations

import re
import secrets
import shutil
import time
import unicodedata
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from data_partition.sources.pictures import PICTURE_SUFFIXES
from data_partition.sources.video import VIDEO_SUFFIXES
from model.errors import ConfigError

MAX_FILE_BYTES = 512 << 20
MAX_SESSION_BYTES = 1 << 30
MAX_FILES = 20
"""Of a session at one time."""
MAX_SESSIONS = 200
KEPT_MINUTES = 30
"""After the last sign of a session, until all of it is deleted."""
_MAX_NAME = 80


@dataclass(eq=False, slots=True)
class Session:
    """One browser's."""

    folder: Path
    files: dict[str, Path] = field(default_factory=dict)
    """Number to uploaded file."""
    num_bytes: int = 0
    """Of its uploads, those that are still coming included."""
    seen_s: float = field(default_factory=time.monotonic)
    """When it last gave a sign, by `time.monotonic`."""

    def touch(self) -> None:
        """It is still there."""
        self.seen_s = time.monotonic()

    def file(self, number: object) -> Path:
        """An uploaded file.

        Raises:
            ConfigError: if there is none of that number.
        """
        if not isinstance(number, str) or number not in self.files:
            raise ConfigError("a file is not here any more; choose it again")
        return self.files[number]

    async def take(self, name: str, chunks: AsyncIterator[bytes]) -> str:
        """Keep an uploaded file, whole or not at all, and give it a number.

        Args:
            name: as its owner calls it.
            chunks: its content.

        Raises:
            ConfigError: if it is too large, one too many, or named neither as a picture nor as a video.
            OSError: if it cannot be written.
        """
        if len(self.files) >= MAX_FILES:
            raise ConfigError(f"{MAX_FILES} files are here already; remove one")
        number = secrets.token_hex(8)
        path = self.folder / number / kept_name(name)
        path.parent.mkdir(parents=True)
        try:
            await self._write(path, chunks)
        except BaseException:
            self._remove(path)
            raise
        self.files[number] = path
        return number

    async def _write(self, path: Path, chunks: AsyncIterator[bytes]) -> None:
        size = 0
        with path.open("wb") as file:
            async for chunk in chunks:
                size += len(chunk)
                if size > MAX_FILE_BYTES:
                    raise ConfigError(f"{path.name}: more than {MAX_FILE_BYTES >> 20} MiB; make it smaller or shorter")
                if self.num_bytes + len(chunk) > MAX_SESSION_BYTES:
                    raise ConfigError(f"{path.name}: more than {MAX_SESSION_BYTES >> 20} MiB together; remove a file")
                file.write(chunk)
                self.num_bytes += len(chunk)

    def drop(self, number: object) -> None:
        """Delete an uploaded file; errors as of `file`."""
        path = self.file(number)
        del self.files[str(number)]
        self._remove(path)

    def empty(self) -> None:
        """Know of no upload any more."""
        self.files.clear()
        self.num_bytes = 0

    def remove(self) -> None:
        """Delete all there is."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _remove(self, path: Path) -> None:
        self.num_bytes -= path.stat().st_size if path.is_file() else 0
        shutil.rmtree(path.parent, ignore_errors=True)


class Sessions:
    """Of all browsers, by a secret that each has in a cookie."""

    def __init__(self, root: Path) -> None:
        """Keep folders below `root`."""
        self._root = root
        self._by_secret: dict[str, Session] = {}

    def start(self) -> str:
        """The secret of a new one.

        Raises:
            ConfigError: if there are too many with files.
        """
        if len(self._by_secret) >= MAX_SESSIONS:
            empty = next((secret for secret, one in self._by_secret.items() if not one.folder.exists()), None)
            if empty is None:
                raise ConfigError("too many people are here; try again in a while")
            del self._by_secret[empty]
        secret = secrets.token_urlsafe(32)
        self._by_secret[secret] = Session(self._root / secrets.token_hex(8))
        return secret

    def get(self, secret: str) -> Session | None:
        """Of a cookie's secret, which counts as a sign of it."""
        session = self._by_secret.get(secret)
        if session is not None:
            session.touch()
        return session

    def forgotten(self) -> list[Session]:
        """Those without a sign for too long; they are none any more, and their folders are to be removed."""
        end_s = time.monotonic() - 60 * KEPT_MINUTES
        old = {secret: one for secret, one in self._by_secret.items() if one.seen_s < end_s}
        for secret in old:
            del self._by_secret[secret]
        return list(old.values())


def kept_name(name: str) -> str:
    """A file's name without anything that is not plain, its suffix as it was.

    Raises:
        ConfigError: if it is named neither as a picture nor as a video.
    """
    plain = re.sub(r"[^\w.() -]", "_", unicodedata.normalize("NFC", name.replace("\\", "/").rpartition("/")[2]))
    suffix = Path(plain).suffix.lower()
    if suffix not in PICTURE_SUFFIXES | VIDEO_SUFFIXES:
        raise ConfigError(f"{plain[:_MAX_NAME]!r}: neither a picture nor a video by its name; try JPEG, PNG or MP4")
    return (plain[: -len(suffix)].lstrip(". ")[:_MAX_NAME] or "file") + suffix
