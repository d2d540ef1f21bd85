"""A site's own key and the public keys of all sites, as `deploy/certs.sh` makes them: ECDSA on P-384."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
    load_ssh_public_key,
)

from client.node_config import NodeConfig
from federation.secure_sum.signatures import SIGNATURE_BYTES, Signatures, Unsigned
from model.errors import ConfigError

_NAME = re.compile(r"site-([1-9][0-9]{0,3})\.pub")
_HASH = ec.ECDSA(hashes.SHA384())
_HALF = SIGNATURE_BYTES // 2


class NodeKeys:
    """Signs with the site's own key, and checks against the keys that its operator pinned."""

    def __init__(self, own: ec.EllipticCurvePrivateKey, pinned: dict[int, ec.EllipticCurvePublicKey]) -> None:
        """Keys that are read already.

        Args:
            own: the site's.
            pinned: partition id to public key.
        """
        self._own = own
        self._pinned = pinned

    @classmethod
    def read(cls, node_key: Path, site_keys: Path, partition_id: int) -> NodeKeys:
        """The keys in files.

        Args:
            node_key: private key, in OpenSSH's format or PEM, without a passphrase.
            site_keys: folder with site-1.pub for partition 0 and so on, in OpenSSH's format.
            partition_id: of the site; its own public key must be among them.

        Raises:
            ConfigError: naming the key of the node config, never a path: the message may leave the site.
        """
        try:
            own = _private(node_key.read_bytes())
        except (OSError, ValueError, UnsupportedAlgorithm) as error:
            raise ConfigError(f"node config: node-key is no private key that can be read ({_reason(error)})") from error
        pinned = {}
        for path in sorted(site_keys.glob("site-*.pub")):
            match = _NAME.fullmatch(path.name)
            if match is None:
                continue
            try:
                pinned[int(match[1]) - 1] = _on_curve(load_ssh_public_key(path.read_bytes()))
            except (OSError, ValueError, UnsupportedAlgorithm) as error:
                what = f"{path.name} in site-keys is no public key that can be read ({_reason(error)})"
                raise ConfigError(f"node config: {what}") from error
        if partition_id not in pinned or pinned[partition_id] != own.public_key():
            raise ConfigError(
                f"node config: site-{partition_id + 1}.pub in site-keys is not there, or not of this site's node-key; "
                "copy the .pub files of all sites there, site-1.pub for partition-id 0"
            )
        return cls(own, pinned)

    def sign(self, statement: bytes) -> bytes:
        """96 bytes: r and s."""
        r, s = decode_dss_signature(self._own.sign(statement, _HASH))
        return r.to_bytes(_HALF, "big") + s.to_bytes(_HALF, "big")

    def is_valid(self, site: int, statement: bytes, signature: bytes) -> bool:
        """Whether the site signed this; False for a site that is not pinned."""
        if site not in self._pinned:
            return False
        r, s = int.from_bytes(signature[:_HALF], "big"), int.from_bytes(signature[_HALF:], "big")
        try:
            self._pinned[site].verify(encode_dss_signature(r, s), statement, _HASH)
        except InvalidSignature:
            return False
        return True

    def fingerprint(self, sites: Sequence[int]) -> str:
        """SHA-256, in hexadecimal, of the sites' ids and pinned keys; empty if one of them is not pinned."""
        if not self._pinned.keys() >= set(sites):
            return ""
        digest = hashlib.sha256()
        for site in sorted(set(sites)):  # every key on this curve has 97 bytes
            key = self._pinned[site].public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            digest.update(site.to_bytes(8, "big") + key)
        return digest.hexdigest()


def signatures_of(node: NodeConfig) -> Signatures:
    """The keys that the node config names; a simulation has none.

    Raises:
        ConfigError: if a deployed site has none: whoever runs the server could pass keys of his own for the others'.
    """
    if node.is_simulated:
        return Unsigned()
    if node.node_key is None or node.site_keys is None:
        raise ConfigError(
            "node config: secure-aggregation needs node-key, this site's private key, and site-keys, a folder with the "
            "public keys of all sites; without them the server could put itself in the other sites' place"
        )
    return NodeKeys.read(node.node_key, node.site_keys, node.partition_id)


def _private(data: bytes) -> ec.EllipticCurvePrivateKey:
    load = load_ssh_private_key if b"OPENSSH PRIVATE KEY" in data else load_pem_private_key
    key = load(data, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise ValueError("not on P-384")
    return key


def _on_curve(key: object) -> ec.EllipticCurvePublicKey:
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise ValueError("not on P-384")
    return key


def _reason(error: Exception) -> str:
    """Without paths."""
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else type(error).__name__
