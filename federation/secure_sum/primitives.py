"""The cryptography under secure sums: key agreement, keystreams, sealed shares, Shamir's secret sharing.

Curves, ciphers and key derivation are those of the `cryptography` package; of our own are only Shamir's polynomials
and the way the pieces are named. Secrets and keys have 32 bytes throughout.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from model.errors import FederationError

KEY_BYTES = 32
SHARE_BYTES = 66
"""Of one Shamir share: a number below `PRIME`."""
PRIME = 2**521 - 1
"""Of the field in which secrets are shared: a Mersenne prime above every 32-byte number."""

_NONCE_BYTES = 12
_TAG_BYTES = 16
SEALED_BYTES = _NONCE_BYTES + 2 * SHARE_BYTES + _TAG_BYTES
"""Of two shares on their way through the server."""

_CHUNK_VALUES = 1 << 18

Vector = list[npt.NDArray[np.unsignedinteger[Any]]]
"""What is summed, in parts: [n] whole numbers each, modulo 2 to the bits of the part's type."""


class SecureSumError(FederationError):
    """A step of a secure sum cannot be taken; the message names sites and steps only, never a secret."""


def new_secret() -> bytes:
    """32 bytes from the operating system's generator."""
    return secrets.token_bytes(KEY_BYTES)


def public_key(private: bytes) -> bytes:
    """The X25519 public key (RFC 7748) of 32 private bytes."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agreed_key(private: bytes, public: bytes, purpose: str) -> bytes:
    """32 bytes that the two holders of these X25519 keys alone can compute: HKDF-SHA256 (RFC 5869) of their secret.

    Args:
        private: of one of them.
        public: of the other.
        purpose: what the key is for; other purposes give other keys.

    Raises:
        SecureSumError: if the public key is one with which every secret is zero.
    """
    try:
        shared = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise SecureSumError(f"{purpose}: the other side's public key cannot be used ({error})") from error
    return derived_key(shared, purpose)


def is_usable(public: bytes) -> bool:
    """Whether a public key is none with which every secret is zero (RFC 7748, section 6.1)."""
    try:
        agreed_key(new_secret(), public, "check")
    except SecureSumError:
        return False
    return True


def derived_key(secret: bytes, purpose: str) -> bytes:
    """32 bytes for one purpose from a secret: HKDF-SHA256 without salt."""
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=purpose.encode()).derive(secret)


def commitment(secret: bytes) -> bytes:
    """32 bytes that tell whether a secret is the one meant, and nothing else about a random one (SHA-256)."""
    return hashlib.sha256(b"fedreenact secure sum commitment" + secret).digest()


class Keystream:
    """Uniform whole numbers: AES-256 in counter mode from zero, so a key must have one use only."""

    def __init__(self, key: bytes) -> None:
        """From its beginning.

        Args:
            key: 32 bytes; equal keys give equal bytes.
        """
        self._encryptor = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()

    def take(self, num_values: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """The next [num_values] numbers, little-endian, of an unsigned type."""
        little = np.dtype(dtype).newbyteorder("<")
        return np.frombuffer(self._encryptor.update(bytes(little.itemsize * num_values)), little)


def add_mask(vector: Vector, key: bytes, *, is_subtracted: bool) -> None:
    """Add a key's keystream to a vector, or subtract it; the vector is changed."""
    stream = Keystream(key)
    change = np.subtract if is_subtracted else np.add
    for whole_n in vector:
        for begin in range(0, whole_n.size, _CHUNK_VALUES):
            part = whole_n[begin : begin + _CHUNK_VALUES]
            change(part, stream.take(part.size, part.dtype), out=part)


def seal(key: bytes, shares: tuple[bytes, bytes], context: str) -> bytes:
    """Encrypt two shares so that any change to them, or another context, is noticed (ChaCha20-Poly1305, RFC 8439)."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + ChaCha20Poly1305(key).encrypt(nonce, b"".join(shares), context.encode())


def unseal(key: bytes, sealed: bytes, context: str) -> tuple[bytes, bytes]:
    """The two shares.

    Raises:
        SecureSumError: if they were changed on their way, or sealed with another key or in another context.
    """
    try:
        plain = ChaCha20Poly1305(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context.encode())
    except (InvalidTag, ValueError) as error:
        raise SecureSumError(f"{context}: the sealed shares were changed on their way") from error
    return plain[:SHARE_BYTES], plain[SHARE_BYTES:]


def split_secret(secret: bytes, sites: Sequence[int], threshold: int) -> dict[int, bytes]:
    """One share for each site; any `threshold` of them give the secret back, fewer tell nothing (Shamir 1979).

    Args:
        secret: 32 bytes.
        sites: distinct ids >= 0; site i gets the polynomial's value at i + 1.
        threshold: 1 to len(sites).
    """
    coefficients = [int.from_bytes(secret, "big"), *(secrets.randbelow(PRIME) for _ in range(threshold - 1))]
    return {site: _value_at(coefficients, site + 1).to_bytes(SHARE_BYTES, "big") for site in sites}


def join_secret(shares: Mapping[int, bytes]) -> bytes:
    """The secret whose shares these sites hold (Lagrange interpolation at zero).

    Raises:
        SecureSumError: if the shares do not belong together; too few or changed ones may also give a wrong secret, so
            the caller compares its commitment or public key.
    """
    points = {site + 1: int.from_bytes(share, "big") for site, share in shares.items()}
    total = 0
    for x, y in points.items():
        numerator = denominator = 1
        for other in points:
            if other != x:
                numerator = numerator * other % PRIME
                denominator = denominator * (other - x) % PRIME
        total = (total + y * numerator * pow(denominator, -1, PRIME)) % PRIME
    if total >= 1 << (8 * KEY_BYTES):
        raise SecureSumError(f"the shares of sites {sorted(shares)} do not belong together")
    return total.to_bytes(KEY_BYTES, "big")


def _value_at(coefficients: Sequence[int], x: int) -> int:
    """Of a polynomial, lowest coefficient first (Horner)."""
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * x + coefficient) % PRIME
    return value
