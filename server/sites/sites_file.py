"""Which key is which site: written when keys are registered, read by the server app.

Flower ties a node id to the public key with which the node was registered, so a node id stands for a key:

    {"sites": [{"partition-id": 0, "node-id": "123", "key-sha256": "..."}]}

`key-sha256` is of the key's DER form (SubjectPublicKeyInfo), for people who compare.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHPublicKeyTypes,
    load_ssh_public_key,
)

from model.errors import ConfigError, FederationError
from model.files import read_json, write_json

_NUMBERED = re.compile(r"site-([1-9]\d*)\.pub")


@dataclass(frozen=True, slots=True)
class RegisteredSite:
    """One site of the federation and the node that is let in as it."""

    partition_id: int
    node_id: int
    key_sha256: str


@dataclass(frozen=True, slots=True)
class SiteKey:
    """A site's public key file, as the operator names it."""

    partition_id: int
    path: Path

    @classmethod
    def parse(cls, text: str) -> SiteKey:
        """From `site-N.pub`, which is partition N - 1, or from `PARTITION-ID=FILE`.

        Raises:
            ConfigError: if the text says no partition.
        """
        number, separator, name = text.partition("=")
        if separator and number.isascii() and number.isdigit():
            return cls(int(number), Path(name))
        numbered = _NUMBERED.fullmatch(Path(text).name)
        if numbered is None:
            raise ConfigError(f"{text}: says no site; wanted a file named site-N.pub, or PARTITION-ID=FILE")
        return cls(int(numbered.group(1)) - 1, Path(text))

    def sha256(self) -> str:
        """Of the key's DER form, in hexadecimal digits.

        Raises:
            ConfigError: as `pem_of`.
        """
        der = _read_key(self.path).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(der).hexdigest()


def pem_of(path: Path) -> bytes:
    """A public key as PEM (SubjectPublicKeyInfo), whatever the file's comment.

    Raises:
        ConfigError: if the file is no public key in OpenSSH's form.
    """
    return _read_key(path).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def require_distinct(keys: Sequence[SiteKey]) -> None:
    """Check that every site has one key and every key one site.

    Raises:
        ConfigError: naming both files.
    """
    for what, values in (("partition-id", [key.partition_id for key in keys]), ("key", [key.sha256() for key in keys])):
        first = {value: key for key, value in reversed(list(zip(keys, values, strict=True)))}
        for key, value in zip(keys, values, strict=True):
            if first[value] is not key:
                raise ConfigError(
                    f"{first[value].path} and {key.path} have the same {what}; every site has its own key"
                )


def read_sites(path: Path) -> list[RegisteredSite]:
    """The registered sites.

    Raises:
        ConfigError: if the file is missing or damaged, or names a site or a node twice.
    """
    try:
        rows = read_json(path)["sites"]
        sites = [RegisteredSite(int(r["partition-id"]), int(r["node-id"]), str(r["key-sha256"])) for r in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} cannot be read ({type(error).__name__}: {error}); `fedreenact register` writes it"
        ) from error
    _require_each_once(path, sites)
    return sites


def write_sites(path: Path, keys: Sequence[SiteKey], node_of_key: Mapping[bytes, int]) -> None:
    """Write down these sites; others that the file has stay in it as long as they are registered.

    Its owner alone may read it.

    Args:
        path: may be missing.
        keys: distinct, see `require_distinct`.
        node_of_key: PEM to node id of all registered keys, as the SuperLink says.

    Raises:
        ConfigError: if the file is there and damaged, or a key is another site's in it.
        FederationError: if the SuperLink does not know a key.
    """
    written = read_sites(path) if path.exists() else []
    sites = {site.partition_id: site for site in written if site.node_id in node_of_key.values()}
    for key in keys:
        node_id = node_of_key.get(pem_of(key.path))
        if node_id is None:
            raise FederationError(f"{key.path}: the SuperLink does not list a node with this key; register it again")
        sites[key.partition_id] = RegisteredSite(key.partition_id, node_id, key.sha256())
    _require_each_once(path, sites.values())
    rows = [
        {"partition-id": site.partition_id, "node-id": str(site.node_id), "key-sha256": site.key_sha256}
        for _, site in sorted(sites.items())
    ]
    write_json(path, {"sites": rows}, indent=1, is_private=True)


def _require_each_once(path: Path, sites: Collection[RegisteredSite]) -> None:
    for field in fields(RegisteredSite):
        if len({getattr(site, field.name) for site in sites}) < len(sites):
            raise ConfigError(
                f"{path}: two sites have the same {field.name.replace('_', '-')}; remove the file and register all keys"
            )


def _read_key(path: Path) -> SSHPublicKeyTypes:
    try:
        return load_ssh_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{path}: no public key can be read ({error})") from error
