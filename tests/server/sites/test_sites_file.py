from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from model.errors import ConfigError, FederationError
from server.sites.sites_file import RegisteredSite, SiteKey, pem_of, read_sites, require_distinct, write_sites


def write_key(path: Path) -> tuple[bytes, str]:
    """A fresh public key in OpenSSH's form; its PEM and the SHA-256 of its DER."""
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    path.write_bytes(key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b" a comment\n")
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), hashlib.sha256(der).hexdigest()


@pytest.mark.parametrize(
    ("text", "partition_id", "path"),
    [("/keys/site-1.pub", 0, "/keys/site-1.pub"), ("site-12.pub", 11, "site-12.pub"), ("3=a=b.pub", 3, "a=b.pub")],
)
def test_a_keys_partition_is_in_its_name_or_said(text: str, partition_id: int, path: str) -> None:
    assert SiteKey.parse(text) == SiteKey(partition_id, Path(path))


@pytest.mark.parametrize("text", ["site-0.pub", "site-x.pub", "key.pub", "-1=key.pub", "=key.pub", "site-1.key"])
def test_a_key_of_no_site_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="wanted a file named site-N.pub, or PARTITION-ID=FILE"):
        SiteKey.parse(text)


def test_what_is_written_is_read_again_and_registered_others_stay(tmp_path: Path) -> None:
    (pem_a, sha_a), (pem_b, sha_b), (pem_c, sha_c) = (write_key(tmp_path / f"{name}.pub") for name in "abc")
    path = tmp_path / "runs" / "sites.json"
    keys = [SiteKey(1, tmp_path / "b.pub"), SiteKey(0, tmp_path / "a.pub")]
    write_sites(path, keys, {pem_a: 2**63 + 5, pem_b: 8, pem_c: 9})
    assert json.loads(path.read_text()) == {
        "sites": [
            {"partition-id": 0, "node-id": "9223372036854775813", "key-sha256": sha_a},
            {"partition-id": 1, "node-id": "8", "key-sha256": sha_b},
        ]
    }
    assert path.stat().st_mode & 0o777 == 0o600
    nodes = {pem_a: 2**63 + 5, pem_c: 9}
    write_sites(path, [SiteKey(1, tmp_path / "c.pub")], nodes)
    assert read_sites(path) == [RegisteredSite(0, 2**63 + 5, sha_a), RegisteredSite(1, 9, sha_c)]
    with pytest.raises(ConfigError, match="two sites have the same node-id; remove the file"):
        write_sites(path, [SiteKey(4, tmp_path / "c.pub")], nodes)
    assert len(read_sites(path)) == 2
    write_sites(path, [], {pem_c: 9})
    assert read_sites(path) == [RegisteredSite(1, 9, sha_c)]


def test_two_keys_of_a_site_and_two_sites_of_a_key_are_refused(tmp_path: Path) -> None:
    write_key(tmp_path / "site-1.pub")
    write_key(tmp_path / "site-2.pub")
    one, two = SiteKey(0, tmp_path / "site-1.pub"), SiteKey(1, tmp_path / "site-2.pub")
    require_distinct([one, two])
    with pytest.raises(ConfigError, match=r"site-1.pub and .*site-2.pub have the same partition-id"):
        require_distinct([one, SiteKey(0, two.path)])
    with pytest.raises(ConfigError, match=r"site-1.pub and .*site-1.pub have the same key"):
        require_distinct([one, two, SiteKey(3, one.path)])


def test_a_key_that_is_none_or_not_known_to_the_superlink_is_named(tmp_path: Path) -> None:
    (tmp_path / "site-1.pub").write_text("ssh-ed25519 nonsense")
    with pytest.raises(ConfigError, match="site-1.pub: no public key can be read"):
        pem_of(tmp_path / "site-1.pub")
    write_key(tmp_path / "site-1.pub")
    with pytest.raises(FederationError, match="site-1.pub: the SuperLink does not list a node with this key"):
        write_sites(tmp_path / "sites.json", [SiteKey(0, tmp_path / "site-1.pub")], {})
    assert not (tmp_path / "sites.json").exists()
