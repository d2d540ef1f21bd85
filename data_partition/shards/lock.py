"""One writer a dataset: a lock that the kernel releases when its holder dies, whatever it dies of."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from model.errors import ConfigError


@contextlib.contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Keep other preparations on this machine out of a dataset; who reads it is not kept out.

    The folder itself is locked (flock), so no file is left in it. Drives that know no locks are used without one.

    Args:
        folder: of the dataset, made if missing.

    Raises:
        ConfigError: if another process writes to it.
        OSError: if it cannot be made or opened.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"{folder}: another preparation is writing to it; wait until it has ended, or choose another OUT"
            ) from None
        except OSError:  # NFS locks no folders
            pass
        yield
    finally:
        os.close(descriptor)
