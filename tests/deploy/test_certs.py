"""Promises of deploy/certs.sh."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.paths import ROOT

CERTS = ROOT / "deploy" / "certs.sh"


def certs(*arguments: str | Path, code: int = 0) -> str:
    """Output and errors of the script, which must end with `code`."""
    done = subprocess.run([CERTS, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def private_keys(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and _is_private(path))


def _is_private(path: Path) -> bool:
    return "PRIVATE KEY" in path.read_text()


def test_the_server_makes_no_key_of_a_site(tmp_path: Path) -> None:
    certs("make", tmp_path / "server", "fed.example.org", "10.0.0.5")
    assert private_keys(tmp_path / "server") == ["ca.key", "server.key"]
    assert not list((tmp_path / "server" / "site-keys").iterdir())
    certificate = x509.load_pem_x509_certificate((tmp_path / "server" / "server.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "fed.example.org" in names.get_values_for_type(x509.DNSName)
    assert "10.0.0.5" in [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    authority = x509.load_pem_x509_certificate((tmp_path / "server" / "ca.crt").read_bytes())
    certificate.verify_directly_issued_by(authority)


def test_what_a_site_sends_holds_no_private_key_and_is_its_own(tmp_path: Path) -> None:
    said = certs("site", tmp_path / "site", "site-3")
    assert private_keys(tmp_path / "site") == ["site-3.key"]
    assert stat.S_IMODE((tmp_path / "site" / "site-3.key").stat().st_mode) == 0o600
    key = serialization.load_ssh_private_key((tmp_path / "site" / "site-3.key").read_bytes(), password=None)
    public = serialization.load_ssh_public_key((tmp_path / "site" / "site-keys" / "site-3.pub").read_bytes())
    assert isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp384r1"
    assert key.public_key() == public
    certs("make", tmp_path / "server")
    added = certs("add", tmp_path / "server", tmp_path / "site" / "site-keys" / "site-3.pub")
    fingerprint = next(word for word in said.split() if word.startswith("SHA256:"))
    assert fingerprint in added and fingerprint in certs("show", tmp_path / "server")
    assert private_keys(tmp_path / "server") == ["ca.key", "server.key"]


def test_a_key_is_not_overwritten_and_a_new_public_key_is_announced(tmp_path: Path) -> None:
    certs("make", tmp_path / "server")
    certs("site", tmp_path / "site", "site-1")
    certs("add", tmp_path / "server", tmp_path / "site" / "site-keys" / "site-1.pub")
    assert "exists; move it away first" in certs("site", tmp_path / "site", "site-1", code=2)
    (tmp_path / "site" / "site-1.key").rename(tmp_path / "old.key")
    certs("site", tmp_path / "site", "site-1")
    replaced = certs("add", tmp_path / "server", tmp_path / "site" / "site-keys" / "site-1.pub")
    assert "site-1: replaces 384 SHA256:" in replaced
    assert "replaces" not in certs("add", tmp_path / "server", tmp_path / "site" / "site-keys" / "site-1.pub")


def test_a_ca_whose_key_is_kept_elsewhere_is_never_replaced(tmp_path: Path) -> None:
    certs("make", tmp_path)
    authority, server = (tmp_path / "ca.crt").read_bytes(), (tmp_path / "server.pem").read_bytes()
    away = (tmp_path / "ca.key").rename(tmp_path.parent / f"{tmp_path.name}-ca.key")
    assert "ca.key is missing: copy it back from where it is kept, renew, and take it away again" in certs(
        "renew", tmp_path, code=2
    )
    for command in ("make", "demo"):
        assert "already has a CA" in certs(command, tmp_path, code=2)
    assert (tmp_path / "ca.crt").read_bytes() == authority and (tmp_path / "server.pem").read_bytes() == server
    away.rename(tmp_path / "ca.key")
    certs("renew", tmp_path, "fed.example.org")
    renewed = x509.load_pem_x509_certificate((tmp_path / "server.pem").read_bytes())
    renewed.verify_directly_issued_by(x509.load_pem_x509_certificate(authority))
    names = renewed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "fed.example.org" in names.get_values_for_type(x509.DNSName)


def server_names(folder: Path) -> set[str]:
    certificate = x509.load_pem_x509_certificate((folder / "server.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in names}


def serial_of(folder: Path) -> int:
    return x509.load_pem_x509_certificate((folder / "server.pem").read_bytes()).serial_number


def test_a_renewed_certificate_keeps_its_names_and_what_is_dropped_is_said(tmp_path: Path) -> None:
    certs("make", tmp_path, "fed.example.org", "*.example.net", "10.0.0.5", "::1")
    before, serial = server_names(tmp_path), serial_of(tmp_path)
    assert {"fed.example.org", "*.example.net", "10.0.0.5", "::1"} < before
    assert "no longer for" not in certs("renew", tmp_path)
    assert server_names(tmp_path) == before and serial_of(tmp_path) != serial
    said = certs("renew", tmp_path, "fed.example.org", "::1", "new.example.org")
    assert "no longer for DNS:*.example.net, IP:10.0.0.5\n" in said
    assert server_names(tmp_path) == before - {"*.example.net", "10.0.0.5"} | {"new.example.org"}
    (tmp_path / "server.pem").unlink()
    assert "server.pem is missing, which says the names; give them all" in certs("renew", tmp_path, code=2)


@pytest.mark.parametrize(
    ("name", "is_other_key", "reason"), [("fed", True, "key values mismatch"), ("300.1.2.3", False, "bad ip address")]
)
def test_a_certificate_that_cannot_be_signed_is_one_line_with_the_reason_and_leaves_all_as_it_was(
    tmp_path: Path, name: str, is_other_key: bool, reason: str
) -> None:
    for folder in ("one", "other"):
        certs("make", tmp_path / folder)
    one = tmp_path / "one"
    if is_other_key:
        (one / "ca.key").write_bytes((tmp_path / "other" / "ca.key").read_bytes())
    before = {path.name: path.read_bytes() for path in one.iterdir() if path.is_file()}
    said = certs("renew", one, name, code=2)
    assert said.startswith("error: openssl could not sign a certificate for DNS:superlink,") and said.count("\n") == 1
    assert "is ca.key the key of ca.crt" in said and reason in said
    assert {path.name: path.read_bytes() for path in one.iterdir() if path.is_file()} == before


def test_a_name_that_is_mistyped_leaves_no_ca_in_the_way_of_the_right_one(tmp_path: Path) -> None:
    assert "bad ip address" in certs("make", tmp_path, "300.1.2.3", code=2)
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []
    certs("make", tmp_path, "30.1.2.3")


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("private", "is a private key: it must not leave its site"),
        ("rsa", "wanted an ECDSA key of 384 bits"),
        ("text", "is not a public key"),
    ],
)
def test_only_a_public_key_of_the_right_kind_is_taken_in(tmp_path: Path, what: str, said: str) -> None:
    certs("make", tmp_path / "server")
    certs("site", tmp_path / "site", "site-2")
    file = tmp_path / "site-2.pub"
    if what == "private":
        file.write_text((tmp_path / "site" / "site-2.key").read_text())
    elif what == "rsa":
        subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", tmp_path / "site-2"], check=True)
    else:
        file.write_text("no key\n")
    assert said in certs("add", tmp_path / "server", file, code=2)
    assert not list((tmp_path / "server" / "site-keys").iterdir())


def test_a_demonstration_has_everything_in_one_folder_and_says_so(tmp_path: Path) -> None:
    assert "for trying out" in certs("demo", tmp_path)
    assert private_keys(tmp_path) == ["ca.key", "server.key", *(f"site-{n}.key" for n in range(1, 6))]
    assert len(certs("show", tmp_path).splitlines()) == 5
