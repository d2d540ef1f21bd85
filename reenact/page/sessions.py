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
_MAX_NAME_BYTES = 80
"""In UTF-8: a result is called by two names and has pieces beside it, and a file system takes 255 bytes."""


@dataclass(eq=False, slots=True)
class Session:
    """One browser's."""

    folder: Path
    files: dict[str, Path] = field(default_factory=dict)
    """Number to uploaded file."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Number to bytes of an upload, those that are still coming included."""
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
            raise ConfigError(f"{MAX_FILES} files are here already; remove one, or delete everything")
        number, folder = secrets.token_hex(8), self.folder
        path = folder / number / kept_name(name)
        path.parent.mkdir(parents=True)
        try:
            await self._write(number, path, chunks)
            if self.folder != folder:
                raise ConfigError(f"{path.name}: everything was deleted while it came; choose it again")
        except BaseException:
            self._remove(number, path)
            raise
        self.files[number] = path
        return number

    async def _write(self, number: str, path: Path, chunks: AsyncIterator[bytes]) -> None:
        size = 0
        with path.open("wb") as file:
            async for chunk in chunks:
                size += len(chunk)
                if size > MAX_FILE_BYTES:
                    raise ConfigError(f"{path.name}: more than {MAX_FILE_BYTES >> 20} MiB; make it smaller or shorter")
                self.sizes[number] = size
                if sum(self.sizes.values()) > MAX_SESSION_BYTES:
                    raise ConfigError(f"{path.name}: more than {MAX_SESSION_BYTES >> 20} MiB together; remove a file")
                file.write(chunk)

    def drop(self, number: object) -> None:
        """Delete an uploaded file; errors as of `file`."""
        path = self.file(number)
        del self.files[str(number)]
        self._remove(str(number), path)

    def empty(self) -> None:
        """Know of no upload any more, and keep what comes in another folder: the one of before is to be removed."""
        self.files.clear()
        self.sizes.clear()
        self.folder = self.folder.with_name(secrets.token_hex(8))

    def _remove(self, number: str, path: Path) -> None:
        self.sizes.pop(number, None)
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
        raise ConfigError(f"{_cut(plain)!r}: neither a picture nor a video by its name; try JPEG, PNG or MP4")
    return (_cut(plain[: -len(suffix)].lstrip(". ")) or "file") + suffix


def _cut(name: str) -> str:
    return name.encode()[:_MAX_NAME_BYTES].decode(errors="ignore")
