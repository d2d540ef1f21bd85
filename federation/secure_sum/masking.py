"""A site's side of a secure sum: the others, and the server, learn the sum of all vectors and no single one.

After Bonawitz et al. 2017, Practical Secure Aggregation for Privacy-Preserving Machine Learning, Figure 4, with the
rounds against a server that forges messages. Site u, whose vector is x_u:

0. AdvertiseKeys: sends two public keys, one for sealing shares and one for masks, and signs them.
1. ShareKeys: accepts the others' keys if they are signed by them, splits its mask key s_u and a random seed b_u among
   all sites, and sends the shares sealed.
2. MaskedInputCollection: sends y_u = x_u + PRG(b_u) + sum over v > u of PRG(s_uv) - sum over v < u of PRG(s_uv),
   modulo 2^64 or 2^32, where u and v alone can compute s_uv.
3. ConsistencyCheck: signs the list of sites whose y_v arrived, together with all public keys of the sum.
4. Unmasking: if enough sites signed the very same list, hands out its shares of b_v for every v on it and of s_v for
   every other. Never both of one site: with both the server could take off all masks of y_v.

A site whose shares cannot be opened is reported, not waited for: the masks need no shares, and the sum is unmasked if
enough others could open theirs.

S counts sites that take part. Bytes are uint8 arrays, so that they travel like tensors.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from federation.secure_sum.num_sites import MIN_SITES
from federation.secure_sum.primitives import (
    KEY_BYTES,
    SEALED_BYTES,
    SHARE_BYTES,
    SecureSumError,
    Vector,
    add_mask,
    agreed_key,
    commitment,
    derived_key,
    is_usable,
    new_secret,
    public_key,
    seal,
    split_secret,
    unseal,
)
from federation.secure_sum.signatures import (
    SIGNATURE_BYTES,
    Bytes,
    Signatures,
    keys_digest,
    keys_statement,
    survivors_statement,
)
from model.files import json_of


def threshold_of(num_sites: int) -> int:
    """Sites without which no mask can be taken off: more than two thirds of those that share.

    A majority would do for a server that keeps to the protocol. With more than two thirds a server that tells one half
    of the sites that v is there, and the other half that it is not, cannot collect both secrets of v either, unless
    more than a third of the sites help it (Bonawitz et al. 2017, section 6.2).
    """
    return 2 * num_sites // 3 + 1


def mask_purpose(session: str, first: int, second: int) -> str:
    """Names the mask that two sites share; the same for both."""
    return f"{session} mask of {min(first, second)} and {max(first, second)}"


def seed_purpose(session: str, site: int) -> str:
    """Names the mask that a site has for itself."""
    return f"{session} own mask of {site}"


class Phase(StrEnum):
    """What the server asks a site for: the value of `phase` in a message's config. Either TRAIN or STATISTICS."""

    KEYS = "secure-keys"
    SHARES = "secure-shares"
    TRAIN = "secure-train"
    STATISTICS = "secure-statistics"
    AGREE = "secure-agree"
    UNMASK = "secure-unmask"


class RefusedKeysError(SecureSumError):
    """Public keys of some sites are not theirs, or cannot be used."""

    def __init__(self, site: int, refused: Sequence[int]) -> None:
        super().__init__(f"site {site}: does not accept the public keys of sites {list(refused)}")
        self.refused = list(refused)


class Step(StrEnum):
    """What a site has done last."""

    ADVERTISED = "advertised"
    SHARED = "shared"
    MASKED = "masked"
    AGREED = "agreed"
    REVEALED = "revealed"


@dataclass(kw_only=True, slots=True)
class SiteSum:
    """One site's part of one sum; the steps have one order, and each is taken once."""

    site: int
    session: str
    """Names this sum (`secure_session.SumName` as text): no other one may have it."""
    min_sites: int
    """Fewest vectors in a sum that this site helps to unmask, >= 3."""
    step: Step = Step.ADVERTISED
    sealing_private: bytes = field(default=b"", repr=False)
    mask_private: bytes = field(default=b"", repr=False)
    seed: bytes = field(default=b"", repr=False)
    mask_publics: dict[int, bytes] = field(default_factory=dict)
    sealing_publics: dict[int, bytes] = field(default_factory=dict)
    digest_of_keys: str = ""
    """`signatures.keys_digest` of the public keys of all sites; they are the sum's own, whatever it is called."""
    seed_shares: dict[int, bytes] = field(default_factory=dict, repr=False)
    """Of every site whose shares could be opened: this site's share of its seed."""
    key_shares: dict[int, bytes] = field(default_factory=dict, repr=False)
    """Of every site whose shares could be opened: this site's share of its mask key."""
    sharers: list[int] = field(default_factory=list)
    """Sites that shared, ascending."""
    start: str = ""
    """`session.start_digest` of the round, once the site has seen what it starts from: for the site's own record, no
    part of the protocol."""
    survivors: list[int] = field(default_factory=list)
    """The list that this site has signed."""

    @classmethod
    def begin(cls, site: int, session: str, min_sites: int) -> SiteSum:
        """Step 0, with fresh keys."""
        if min_sites < MIN_SITES:
            raise SecureSumError(f"site {site}: got a sum of {min_sites} sites, wanted at least {MIN_SITES}")
        return cls(
            site=site,
            session=session,
            min_sites=min_sites,
            sealing_private=new_secret(),
            mask_private=new_secret(),
        )

    def public_keys(self) -> Bytes:
        """[2, 32]: the sealing and the mask key."""
        return _rows([public_key(self.sealing_private), public_key(self.mask_private)])

    def advertise(self, signatures: Signatures) -> tuple[Bytes, Bytes]:
        """Step 0 for the server: the [2, 32] public keys, and the site's [96] signature of them."""
        keys_2B = self.public_keys()
        return keys_2B, np.frombuffer(signatures.sign(keys_statement(self.session, self.site, keys_2B)), np.uint8)

    def share(
        self, sites: Sequence[int], keys_S2B: Bytes, signatures_SB: Bytes, signatures: Signatures
    ) -> tuple[Bytes, Bytes]:
        """Step 1.

        Args:
            sites: [S] ids of all that advertised keys, ascending, this one among them.
            keys_S2B: [S, 2, 32] their public keys.
            signatures_SB: [S, 96] their signatures of them.
            signatures: knows the sites' own keys.

        Returns:
            [S, 160] shares sealed for each site, and the [32] commitment to this site's seed.

        Raises:
            RefusedKeysError: for keys that are not signed by their site, or with which every secret is zero; the sum
                may begin anew without these sites.
            SecureSumError: for too few sites, an id or a key that is there twice, or own keys that are not ours.
        """
        self._require(Step.ADVERTISED)
        self._require_shape("keys", keys_S2B, (len(sites), 2, KEY_BYTES))
        self._require_shape("signatures", signatures_SB, (len(sites), SIGNATURE_BYTES))
        if len(sites) < self.min_sites:
            raise SecureSumError(
                f"site {self.site}: got keys of {len(sites)} sites, wanted at least {self.min_sites}; start the others"
            )
        refused = [
            site
            for site, keys_2B, signature in zip(sites, keys_S2B, signatures_SB, strict=True)
            if site != self.site and not self._accepts(site, keys_2B, signature, signatures)
        ]
        if refused:
            raise RefusedKeysError(self.site, refused)
        self.sealing_publics = {site: keys[0].tobytes() for site, keys in zip(sites, keys_S2B, strict=True)}
        self.mask_publics = {site: keys[1].tobytes() for site, keys in zip(sites, keys_S2B, strict=True)}
        if len({*self.sealing_publics.values(), *self.mask_publics.values()}) != 2 * len(sites):
            raise SecureSumError(f"site {self.site}: a site or a public key is there twice")
        own = self.public_keys()
        if (self.sealing_publics.get(self.site), self.mask_publics.get(self.site)) != tuple(k.tobytes() for k in own):
            raise SecureSumError(f"site {self.site}: its own public keys came back changed")
        self.digest_of_keys = keys_digest(self.mask_publics, self.sealing_publics)
        self.seed = new_secret()
        threshold = threshold_of(len(sites))
        seed_shares = split_secret(self.seed, sites, threshold)
        key_shares = split_secret(self.mask_private, sites, threshold)
        sealed = [
            seal(self._sealing_key(other), (seed_shares[other], key_shares[other]), self._route(self.site, other))
            for other in sites
        ]
        self.step = Step.SHARED
        return _rows(sealed), _rows([commitment(self.seed)])[0]

    def mask(self, vector: Vector, sites: Sequence[int], sealed_SB: Bytes) -> tuple[Vector, list[int]]:
        """Step 2; this site's own secrets are forgotten with it.

        Args:
            vector: what is to be summed; not changed.
            sites: ids of all that sent shares, ascending, this one among them.
            sealed_SB: [S, 160] the shares that they sealed for this site.

        Returns:
            The vector under its masks, and the sites whose shares this one could not open, ascending.

        Raises:
            SecureSumError: for too few or unknown sites.
        """
        self._require(Step.SHARED)
        if len(set(sites)) != len(sites) or not {self.site} <= set(sites) <= self.mask_publics.keys():
            raise SecureSumError(f"site {self.site}: got shares of sites {list(sites)}, which are not those with keys")
        if len(sites) < self._fewest:
            raise SecureSumError(f"site {self.site}: got shares of {len(sites)} sites, wanted at least {self._fewest}")
        self._require_shape("sealed shares", sealed_SB, (len(sites), SEALED_BYTES))
        for other, sealed in zip(sites, sealed_SB, strict=True):
            try:
                shares = unseal(self._sealing_key(other), sealed.tobytes(), self._route(other, self.site))
            except SecureSumError:
                continue
            self.seed_shares[other], self.key_shares[other] = shares
        self.sharers = sorted(sites)
        masked = [part.copy() for part in vector]
        add_mask(masked, derived_key(self.seed, seed_purpose(self.session, self.site)), is_subtracted=False)
        for other in sites:
            if other != self.site:
                purpose = mask_purpose(self.session, self.site, other)
                key = agreed_key(self.mask_private, self.mask_publics[other], purpose)
                add_mask(masked, key, is_subtracted=other < self.site)
        self.sealing_private = self.mask_private = self.seed = b""
        self.sealing_publics.clear()
        self.step = Step.MASKED
        return masked, [site for site in self.sharers if site not in self.seed_shares]

    def agree(self, survivors: Sequence[int], signatures: Signatures) -> Bytes:
        """Step 3.

        Args:
            survivors: ids of the sites whose masked vectors arrived, ascending, this one among them.
            signatures: has the site's own key.

        Returns:
            The [96] signature of this list; the site reveals shares for this one alone.

        Raises:
            SecureSumError: if this site signed a list of this sum before, or for too few or unknown survivors.
        """
        self._require(Step.MASKED)
        alive = set(survivors)
        if self.site not in alive or not alive <= set(self.sharers) or list(survivors) != sorted(alive):
            raise SecureSumError(
                f"site {self.site}: got survivors {list(survivors)}, wanted itself and others of {self.sharers}, rising"
            )
        if len(alive) < self._fewest:
            raise SecureSumError(
                f"site {self.site}: a sum of {len(alive)} of {len(self.mask_publics)} sites is not unmasked, wanted at "
                f"least {self._fewest}"
            )
        self.survivors = list(survivors)
        self.step = Step.AGREED
        return np.frombuffer(signatures.sign(self._agreed_statement()), np.uint8)

    def reveal(self, signers: Sequence[int], signatures_SB: Bytes, signatures: Signatures) -> Bytes:
        """Step 4; all shares are forgotten with it.

        Args:
            signers: ids of the sites that signed the list of survivors.
            signatures_SB: [signers, 96] their signatures of it.
            signatures: knows the sites' own keys.

        Returns:
            [S, 66] one share for each site that sent shares, ascending by id: of its seed for a survivor, of its mask
            key for the others; zeros for a site whose shares this one could not open.

        Raises:
            SecureSumError: if this site revealed shares of this sum before, or if fewer survivors than the threshold
                signed the list that this site signed.
        """
        self._require(Step.AGREED)
        self._require_shape("signatures", signatures_SB, (len(signers), SIGNATURE_BYTES))
        statement = self._agreed_statement()
        agreeing = {
            site
            for site, signature in zip(signers, signatures_SB, strict=True)
            if site in self.survivors and signatures.is_valid(site, statement, signature.tobytes())
        }
        if len(agreeing) < threshold_of(len(self.mask_publics)):
            others = [site for site in self.survivors if site not in agreeing]
            raise SecureSumError(
                f"site {self.site}: sites {others} did not sign that the sum is over sites {self.survivors}; "
                f"{len(agreeing)} did, wanted at least {threshold_of(len(self.mask_publics))}"
            )
        nothing = bytes(SHARE_BYTES)
        shares = [
            (self.seed_shares if site in self.survivors else self.key_shares).get(site, nothing)
            for site in self.sharers
        ]
        self.seed_shares.clear()
        self.key_shares.clear()
        self.mask_publics.clear()
        self.step = Step.REVEALED
        return _rows(shares)

    def to_json(self) -> str:
        """All of it, secrets included, for a file that nobody else may read."""
        return json.dumps(
            {
                "site": self.site,
                "session": self.session,
                "min_sites": self.min_sites,
                "step": self.step.value,
                "digest_of_keys": self.digest_of_keys,
                "start": self.start,
                "sharers": self.sharers,
                "survivors": self.survivors,
                **{name: getattr(self, name).hex() for name in _SECRETS},
                **{name: {k: v.hex() for k, v in getattr(self, name).items()} for name in _TABLES},
            }
        )

    @classmethod
    def from_json(cls, text: str) -> SiteSum:
        """What `to_json` wrote."""
        values = json_of(text)
        own = cls(
            site=values["site"],
            session=values["session"],
            min_sites=values["min_sites"],
            step=Step(values["step"]),
            digest_of_keys=values["digest_of_keys"],
            start=values["start"],
            sharers=values["sharers"],
            survivors=values["survivors"],
        )
        for name in _SECRETS:
            setattr(own, name, bytes.fromhex(values[name]))
        for name in _TABLES:
            setattr(own, name, {int(site): bytes.fromhex(value) for site, value in values[name].items()})
        return own

    def _require(self, step: Step) -> None:
        if self.step is not step:
            raise SecureSumError(
                f"site {self.site}: this sum is at step {self.step.value!r}, the server asks for what comes after "
                f"{step.value!r}; every step is taken once, the round has to begin anew"
            )

    def _require_shape(self, what: str, got: Bytes, shape: tuple[int, ...]) -> None:
        if got.shape != shape or got.dtype != np.uint8:
            raise SecureSumError(f"site {self.site}: got {what} of shape {got.shape} and {got.dtype}, wanted {shape}")

    @property
    def _fewest(self) -> int:
        """Sites below which no sum is unmasked."""
        return max(self.min_sites, threshold_of(len(self.mask_publics)))

    def _accepts(self, site: int, keys_2B: Bytes, signature_B: Bytes, signatures: Signatures) -> bool:
        statement = keys_statement(self.session, site, keys_2B)
        return all(is_usable(key.tobytes()) for key in keys_2B) and signatures.is_valid(
            site, statement, signature_B.tobytes()
        )

    def _agreed_statement(self) -> bytes:
        advertisers = sorted(self.mask_publics)
        return survivors_statement(self.session, self.digest_of_keys, advertisers, self.sharers, self.survivors)

    def _sealing_key(self, other: int) -> bytes:
        first, second = sorted((self.site, other))
        purpose = f"{self.session} shares between {first} and {second}"
        return agreed_key(self.sealing_private, self.sealing_publics[other], purpose)

    def _route(self, sender: int, receiver: int) -> str:
        return f"{self.session}: shares of site {sender} for site {receiver}"


_SECRETS = ("sealing_private", "mask_private", "seed")
_TABLES = ("mask_publics", "sealing_publics", "seed_shares", "key_shares")


def _rows(values: Sequence[bytes]) -> Bytes:
    """[len(values), length of one] uint8."""
    return np.frombuffer(b"".join(values), np.uint8).reshape(len(values), -1)
