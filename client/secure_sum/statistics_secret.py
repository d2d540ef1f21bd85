"""The site's secret from which the halves of its frames follow that statistics under a secure sum are over.

It outlives runs: with another one the same frames would give another half, and from sums over many halves of the same
frames a server could tell single frames apart.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from client.state_file import alone_with
from model.errors import ConfigError
from model.files import read_json, write_json

SECRET_NAME = "statistics-secret.json"
_BYTES = 32


def statistics_secret(folder: Path) -> bytes:
    """[32] the site's own, made when it is asked for first.

    Args:
        folder: the site's own; made if missing.

    Raises:
        ConfigError: if it is there and cannot be read.
    """
    path = folder / SECRET_NAME
    with alone_with(path):
        if not path.exists():
            write_json(path, {"secret": secrets.token_hex(_BYTES)}, is_private=True)
        try:
            secret = bytes.fromhex(read_json(path)["secret"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _unreadable(type(error).__name__) from error
    if len(secret) != _BYTES:
        raise _unreadable(f"{len(secret)} bytes, wanted {_BYTES}")
    return secret


def _unreadable(reason: str) -> ConfigError:
    return ConfigError(
        f"the site's {SECRET_NAME} cannot be read ({reason}); restore it: with another one statistics would be over "
        "another half of the same frames"
    )
