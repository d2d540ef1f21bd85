"""Signatures with node keys against a server that forges messages (Bonawitz et al. 2017, Figure 4)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from client.secure_sum.node_keys import NodeKeys
from federation.secure_sum.masking import RefusedKeysError, SiteSum
from federation.secure_sum.primitives import SecureSumError
from federation.secure_sum.unmasking import ServerSum
from model.errors import ConfigError
from tests.support.node_keys import write_node_keys

SITES = [0, 1, 2, 3, 4]
NONE = np.zeros(0, np.int64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_node_keys(tmp_path_factory.mktemp("keys"), 5)


def keys_of(folder: Path, site: int) -> NodeKeys:
    return NodeKeys.read(folder / f"site-{site + 1}.key", folder, site)


def masked(folder: Path) -> tuple[dict[int, SiteSum], ServerSum]:
    """Five sites until their vectors are in."""
    server, sites = ServerSum("sum", [np.zeros(4, np.uint64)]), {site: SiteSum.begin(site, "sum", 3) for site in SITES}
    for site, own in sites.items():
        server.take_keys(site, *own.advertise(keys_of(folder, site)))
    for site, own in sites.items():
        shares = own.share(SITES, server.keys_S2B(), server.signatures_SB(), keys_of(folder, site))
        server.take_shares(site, *shares)
    for site, own in sites.items():
        server.take_masked(site, *own.mask([np.full(4, site, np.uint64)], SITES, server.sealed_for(site))[0], NONE)
    return sites, server


def test_a_signed_sum_of_five_is_exact(folder: Path) -> None:
    sites, server = masked(folder)
    for site, own in sites.items():
        server.take_agreed(site, own.agree(SITES, keys_of(folder, site)))
    for site, own in sites.items():
        server.take_revealed(site, own.reveal(server.signers, server.agreed_SB(), keys_of(folder, site)))
    assert server.unmask()[0].tolist() == [10] * 4


def test_a_server_that_tells_sites_different_lists_of_survivors_gets_no_share(folder: Path) -> None:
    """Sites 0 and 1 are told that 4 is there, 2 and 3 that it is not: with both kinds of shares 4's masks came off."""
    sites, _ = masked(folder)
    lists = {0: SITES, 1: SITES, 2: SITES[:4], 3: SITES[:4]}
    signed = {site: sites[site].agree(told, keys_of(folder, site)) for site, told in lists.items()}
    for site in lists:
        with pytest.raises(SecureSumError, match=r"2 did, wanted at least 4"):
            sites[site].reveal(list(signed), np.stack(list(signed.values())), keys_of(folder, site))
        assert sites[site].seed_shares and sites[site].key_shares


def test_a_server_cannot_sign_for_sites_nor_use_what_they_signed_before(folder: Path) -> None:
    own = ec.generate_private_key(ec.SECP384R1())
    forger = NodeKeys(own, {site: own.public_key() for site in SITES})
    sites, _ = masked(folder)
    others, _ = masked(folder)
    forged = [own_sum.agree(SITES, forger) for own_sum in others.values()]
    sites[0].agree(SITES, keys_of(folder, 0))
    with pytest.raises(SecureSumError, match=r"sites \[0, 1, 2, 3, 4\] did not sign that the sum is over sites"):
        sites[0].reveal(SITES, np.stack(forged), keys_of(folder, 0))
    earlier = SiteSum.begin(1, "another sum", 3).advertise(keys_of(folder, 1))[1]
    with pytest.raises(SecureSumError, match="0 did, wanted at least 4"):
        sites[0].reveal(SITES, np.stack([earlier] * 5), keys_of(folder, 0))


def test_signatures_of_one_attempt_are_nothing_in_another_of_the_same_name(folder: Path) -> None:
    """Else a server signs each of several lists in an attempt of its own, and has both kinds of shares in the last."""
    first, _ = masked(folder)
    second, _ = masked(folder)
    earlier = np.stack([own.agree(SITES, keys_of(folder, site)) for site, own in first.items()])
    own_signature = second[0].agree(SITES, keys_of(folder, 0))
    with pytest.raises(SecureSumError, match="0 did, wanted at least 4"):
        second[0].reveal(SITES, earlier, keys_of(folder, 0))
    with pytest.raises(SecureSumError, match="1 did, wanted at least 4"):
        second[0].reveal(SITES, np.stack([own_signature, *earlier[1:]]), keys_of(folder, 0))
    restored = SiteSum.from_json(second[0].to_json())
    assert restored.digest_of_keys == second[0].digest_of_keys != first[0].digest_of_keys


def test_one_signature_of_one_site_counts_once(folder: Path) -> None:
    sites, _ = masked(folder)
    signature = sites[0].agree(SITES, keys_of(folder, 0))
    with pytest.raises(SecureSumError, match="1 did, wanted at least 4"):
        sites[0].reveal([0] * 5, np.stack([signature] * 5), keys_of(folder, 0))


@pytest.mark.parametrize(
    "attack", ["keys of the server", "keys of another sum", "keys of another site", "no key pinned"]
)
def test_keys_that_their_site_did_not_sign_for_this_sum_are_refused_by_name(
    folder: Path, tmp_path: Path, attack: str
) -> None:
    sites = {site: SiteSum.begin(site, "sum", 3) for site in SITES}
    sent = {site: own.advertise(keys_of(folder, site)) for site, own in sites.items()}
    own_keys = keys_of(folder, 0)
    if attack == "keys of the server":
        sent[3] = SiteSum.begin(3, "sum", 3).public_keys(), sent[3][1]
    elif attack == "keys of another sum":
        sent[3] = SiteSum.begin(3, "earlier", 3).advertise(keys_of(folder, 3))
    elif attack == "keys of another site":
        sent[3] = SiteSum.begin(2, "sum", 3).advertise(keys_of(folder, 2))
    else:
        for path in folder.iterdir():
            if path.name != "site-4.pub":
                (tmp_path / path.name).write_bytes(path.read_bytes())
        own_keys = keys_of(tmp_path, 0)
    with pytest.raises(RefusedKeysError) as caught:
        sites[0].share(
            SITES, np.stack([k for k, _ in sent.values()]), np.stack([s for _, s in sent.values()]), own_keys
        )
    assert caught.value.refused == [3]


def test_the_keys_of_ssh_keygen_can_be_read(tmp_path: Path) -> None:
    """As deploy/certs.sh makes them."""
    command = [
        "ssh-keygen",
        "-q",
        "-t",
        "ecdsa",
        "-b",
        "384",
        "-N",
        "",
        "-C",
        "site-1",
        "-f",
        str(tmp_path / "site-1.key"),
    ]
    subprocess.run(command, check=True)
    (tmp_path / "site-1.key.pub").rename(tmp_path / "site-1.pub")
    keys = NodeKeys.read(tmp_path / "site-1.key", tmp_path, 0)
    signature = keys.sign(b"text")
    assert len(signature) == 96 and keys.is_valid(0, b"text", signature)
    assert not keys.is_valid(0, b"other", signature) and not keys.is_valid(1, b"text", signature)
    assert not keys.is_valid(0, b"text", bytes(96))


def test_a_key_on_another_curve_is_refused(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "site-1.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(ConfigError, match=r"node-key is no private key that can be read \(ValueError\)"):
        NodeKeys.read(tmp_path / "site-1.key", tmp_path, 0)
