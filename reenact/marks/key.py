"""The key that manifests are signed with, its chain of certificates, and the anchor that says whose it is.

A folder holds `key.pem` (private), `chain.pem` (leaf and root), `anchor.pem` (the root, to hand out), `records.jsonl`
(what was delivered) and `consent-uses.jsonl` (by whose consent). The root's own key is thrown away: it signed this one
leaf and can sign no other.
"""

from __future__ import annotations

import datetime
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from model.errors import ConfigError
from model.files import name_folder, write_bytes

FOLDER_VARIABLE = "FEDREENACT_MARKING_KEY"
"""Environment variable that names the folder."""
ANCHOR_NAME = "anchor.pem"
_KEY_NAME, _CHAIN_NAME, _RECORDS_NAME, _USES_NAME = "key.pem", "chain.pem", "records.jsonl", "consent-uses.jsonl"
_VALID = datetime.timedelta(days=3652)
"""Ten years: without a time stamp, which needs the network, a manifest is worth no more once its certificate ends."""
_MAX_NAME = 64
"""Characters of an organisation, as X.509 has it."""


@dataclass(frozen=True, slots=True)
class MarkingKey:
    """Of a folder that is complete."""

    folder: Path

    @property
    def anchor(self) -> Path:
        """The root certificate, PEM: who trusts it sees whose the manifests are."""
        return self.folder / ANCHOR_NAME

    @property
    def records(self) -> Path:
        """One JSON line a delivered file."""
        return self.folder / _RECORDS_NAME

    @property
    def uses(self) -> Path:
        """One JSON line for each person in a delivered file."""
        return self.folder / _USES_NAME

    def chain(self) -> bytes:
        """Leaf and root, PEM.

        Raises:
            OSError: if it cannot be read, as `private`.
        """
        return (self.folder / _CHAIN_NAME).read_bytes()

    def private(self) -> bytes:
        """PKCS8, PEM."""
        return (self.folder / _KEY_NAME).read_bytes()

    def fingerprint(self) -> str:
        """SHA-256 of the anchor's certificate, hexadecimal, to compare over another line."""
        return x509.load_pem_x509_certificate(self.anchor.read_bytes()).fingerprint(hashes.SHA256()).hex()

    def owner(self) -> str:
        """The organisation in the certificate."""
        (name,) = x509.load_pem_x509_certificate(self.chain()).subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        return str(name.value)


def key_folder() -> Path:
    """Where this user's key is or would be."""
    named = os.environ.get(FOLDER_VARIABLE)
    settings = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return Path(named) if named else settings / "fedreenact" / "key"


def marking_key(organisation: str = "") -> MarkingKey:
    """This user's key; made if there is none.

    Args:
        organisation: who stands in a new certificate; "" for nobody in particular.

    Raises:
        ConfigError: if there is one of another organisation, or the name is too long.
        OSError: if it cannot be written.
    """
    key = MarkingKey(key_folder())
    if not key.anchor.is_file():
        _make(key.folder, organisation or "a user of fedreenact")
    elif organisation and key.owner() != organisation:
        raise ConfigError(
            f"{key.folder}: holds a key of {key.owner()!r}, wanted one of {organisation!r}; "
            f"name another folder in {FOLDER_VARIABLE}, or move this one away"
        )
    return key


def read_anchors(paths: Iterable[Path]) -> bytes:
    """Root certificates of files, PEM, nothing else that may stand in them.

    Raises:
        ConfigError: if one holds no certificate.
        OSError: if one cannot be read.
    """
    found = b""
    for path in paths:
        try:
            certificates = x509.load_pem_x509_certificates(path.read_bytes())
        except ValueError as error:
            raise ConfigError(
                f"{path}: holds no certificate; wanted the PEM file that `fedreenact key` names"
            ) from error
        found += b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)
    return found


def _make(folder: Path, organisation: str) -> None:
    if len(organisation) > _MAX_NAME:
        raise ConfigError(f"--organisation: {len(organisation)} characters, a certificate has room for {_MAX_NAME}")
    root_key, leaf_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = _root(root_key, _name(organisation, "fedreenact marks, root"))
    leaf = _leaf(leaf_key, _name(organisation, "fedreenact marks"), root, root_key)
    anchor, end = (one.public_bytes(serialization.Encoding.PEM) for one in (root, leaf))
    private = leaf_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=folder.name, dir=folder.parent))
    try:
        for name, content in ((_KEY_NAME, private), (_CHAIN_NAME, end + anchor), (ANCHOR_NAME, anchor)):
            write_bytes(partial / name, content, is_private=name == _KEY_NAME)
        name_folder(partial, folder)
    except OSError:
        if not (folder / ANCHOR_NAME).is_file():  # another command was faster: its key is as good
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _name(organisation: str, common: str) -> x509.Name:
    pairs = ((NameOID.ORGANIZATION_NAME, organisation), (NameOID.COMMON_NAME, common))
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in pairs])


def _root(key: ec.EllipticCurvePrivateKey, name: x509.Name) -> x509.Certificate:
    builder = _certificate(name, name, key.public_key(), key.public_key(), is_root=True)
    return builder.sign(key, hashes.SHA256())


def _leaf(
    key: ec.EllipticCurvePrivateKey, name: x509.Name, root: x509.Certificate, root_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    """For signing e-mail and documents: the use that C2PA takes without settings of its own."""
    builder = _certificate(name, root.subject, key.public_key(), root_key.public_key(), is_root=False)
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
    return builder.add_extension(usage, critical=False).sign(root_key, hashes.SHA256())


def _certificate(
    name: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePublicKey,
    *,
    is_root: bool,
) -> x509.CertificateBuilder:
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + _VALID)
        .add_extension(x509.BasicConstraints(ca=is_root, path_length=0 if is_root else None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=not is_root, key_cert_sign=is_root, crl_sign=is_root, **usage),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )
