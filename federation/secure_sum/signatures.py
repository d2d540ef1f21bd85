"""What sites sign in a secure sum, so that a server that forges messages is found out (Bonawitz et al. 2017, Figure 4).

How a site holds its key and those of the others is the site's matter: client/secure_sum/node_keys.py. A simulation has
no keys: its sites and its server are one program, and `Unsigned` stands in their place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

SIGNATURE_BYTES = 96
"""Of ECDSA on P-384: r and s of 48 bytes each."""


class Signatures(Protocol):
    """One site's own key, and the public keys of all that it knows."""

    def sign(self, statement: bytes) -> bytes:
        """96 bytes by the site's own key."""

    def is_valid(self, site: int, statement: bytes, signature: bytes) -> bool:
        """Whether the site signed this; False for a site whose key is not known."""

    def fingerprint(self, sites: Sequence[int]) -> str:
        """SHA-256, in hexadecimal, of the own keys of these sites, whatever their order; empty if one is not known."""


class Unsigned:
    """No keys: every signature is zeros, and is taken for valid."""

    def sign(self, statement: bytes) -> bytes:
        """Zeros."""
        return bytes(SIGNATURE_BYTES)

    def is_valid(self, site: int, statement: bytes, signature: bytes) -> bool:
        """Always."""
        return True

    def fingerprint(self, sites: Sequence[int]) -> str:
        """Empty: there are no keys."""
        return ""


def keys_statement(name: str, site: int, keys_2B: Bytes) -> bytes:
    """That these are the site's public keys in the sum of this name."""
    return json.dumps(["fedreenact secure sum: keys", name, site, keys_2B.tobytes().hex()]).encode()


def keys_digest(mask_publics: Mapping[int, bytes], sealing_publics: Mapping[int, bytes]) -> str:
    """SHA-256, in hexadecimal, of the public keys of all sites of one attempt at a sum, in the order of their ids.

    Keys are drawn anew at every attempt: what was signed in one is nothing in another, also under the same name.
    """
    keys = [[site, mask_publics[site].hex(), sealing_publics[site].hex()] for site in sorted(mask_publics)]
    return hashlib.sha256(json.dumps(keys).encode()).hexdigest()


def survivors_statement(
    name: str, digest_of_keys: str, advertisers: Sequence[int], sharers: Sequence[int], survivors: Sequence[int]
) -> bytes:
    """That the sum of this name and of these keys is over these survivors, out of the sites that sent keys and shares.

    Args:
        name: of the sum.
        digest_of_keys: `keys_digest` of the attempt.
        advertisers: sites that sent keys.
        sharers: sites that sent shares.
        survivors: sites whose masked vectors arrived.
    """
    return json.dumps(
        [
            "fedreenact secure sum: survivors",
            name,
            digest_of_keys,
            list(advertisers),
            list(sharers),
            list(survivors),
        ]
    ).encode()
