"""Node keys as deploy/certs.sh makes them."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat


def write_node_keys(folder: Path, num_sites: int) -> Path:
    """Files site-1.key, site-1.pub, ...; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, num_sites + 1):
        key = ec.generate_private_key(ec.SECP384R1())
        (folder / f"site-{number}.key").write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        )
        (folder / f"site-{number}.pub").write_bytes(
            key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + f" site-{number}\n".encode()
        )
    return folder


def key_config(folder: Path, partition_id: int) -> dict[str, str]:
    """The part of a node config that names the keys."""
    return {"node-key": str(folder / f"site-{partition_id + 1}.key"), "site-keys": str(folder)}
