"""One writer a run folder: a lock that the kernel releases when its holder dies, whatever it dies of."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

from model.errors import FederationError

LOCK_NAME = "run.lock"


class RunLock:
    """Holds `run.lock` in a folder locked (flock) among the processes of this machine; the file itself stays."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, folder: Path) -> RunLock:
        """Lock a folder, which is made if missing.

        Raises:
            FederationError: if it is locked; it names the folder and the process that writes to it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
            os.close(descriptor)
            raise FederationError(
                f"{folder} is written to by {holder}; wait for its end, stop it, or choose another output-dir"
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        return cls(descriptor)

    def release(self) -> None:
        """Unlock; once is enough."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
