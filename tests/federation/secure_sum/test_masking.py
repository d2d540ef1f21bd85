"""The protocol alone: five sites and a server in one process, no Flower."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from federation.secure_sum.masking import RefusedKeysError, SiteSum, seed_purpose, threshold_of
from federation.secure_sum.primitives import (
    PRIME,
    SecureSumError,
    add_mask,
    derived_key,
    join_secret,
    new_secret,
    split_secret,
)
from federation.secure_sum.signatures import Unsigned
from federation.secure_sum.unmasking import ServerSum, WrongSharesError

LENGTH = 1000
SITES = [0, 1, 2, 3, 4]
NONE = np.zeros(0, np.int64)
UNSIGNED = Unsigned()


def vectors(num_values: int = LENGTH) -> dict[int, np.ndarray]:
    rng = np.random.default_rng(7)
    return {site: rng.integers(0, 2**64, num_values, np.uint64) for site in SITES}


def zero(num_values: int = LENGTH) -> list[np.ndarray]:
    return [np.zeros(num_values, np.uint64)]


def shared(num_values: int = LENGTH, *, form: list[np.ndarray] | None = None) -> tuple[dict[int, SiteSum], ServerSum]:
    """Five sites and the server after keys and shares."""
    server = ServerSum("session", form or zero(num_values))
    sites = {site: SiteSum.begin(site, "session", 3) for site in SITES}
    for site, own in sites.items():
        server.take_keys(site, *own.advertise(UNSIGNED))
    for site, own in sites.items():
        server.take_shares(site, *share(own, server))
    return sites, server


def share(own: SiteSum, server: ServerSum) -> tuple[np.ndarray, np.ndarray]:
    return own.share(server.advertisers, server.keys_S2B(), server.signatures_SB(), UNSIGNED)


def masked(sites: dict[int, SiteSum], server: ServerSum, site: int, vector: np.ndarray) -> np.ndarray:
    (hidden,), unopened = sites[site].mask([vector], server.sharers, server.sealed_for(site))
    assert not unopened
    return hidden


def agree(sites: dict[int, SiteSum], server: ServerSum) -> None:
    for site in server.survivors:
        server.take_agreed(site, sites[site].agree(server.survivors, UNSIGNED))


def revealed(sites: dict[int, SiteSum], server: ServerSum, site: int) -> np.ndarray:
    return sites[site].reveal(server.signers, server.agreed_SB(), UNSIGNED)


def summed(without: tuple[int, ...] = (), silent: tuple[int, ...] = ()) -> np.ndarray:
    """Sites in `without` drop before they send, those in `silent` after it."""
    sites, server = shared()
    for site, vector in vectors().items():
        hidden = masked(sites, server, site, vector)
        if site not in without:
            server.take_masked(site, hidden, NONE)
    agree(sites, server)
    for site in server.survivors:
        if site not in silent:
            server.take_revealed(site, revealed(sites, server, site))
    return server.unmask()[0]


def test_the_sum_of_five_is_exact() -> None:
    assert np.array_equal(summed(), np.sum(list(vectors().values()), axis=0, dtype=np.uint64))


@pytest.mark.parametrize("dropped", SITES)
def test_one_of_five_may_drop_after_its_shares_are_out(dropped: int) -> None:
    left = [vector for site, vector in vectors().items() if site != dropped]
    assert np.array_equal(summed(without=(dropped,)), np.sum(left, axis=0, dtype=np.uint64))


def test_one_of_five_may_drop_after_its_vector_is_in() -> None:
    assert np.array_equal(summed(silent=(2,)), np.sum(list(vectors().values()), axis=0, dtype=np.uint64))


def test_a_vector_of_two_parts_is_summed_in_both_whoever_drops() -> None:
    """64 bits and 32; site 3 drops before it sends, and site 1 sends its second part in another type first."""
    rng = np.random.default_rng(3)
    parts = {site: [rng.integers(0, 2**64, 7, np.uint64), rng.integers(0, 2**32, LENGTH, np.uint32)] for site in SITES}
    sites, server = shared(form=[np.zeros(7, np.uint64), np.zeros(LENGTH, np.uint32)])
    for site, vector in parts.items():
        hidden, _ = sites[site].mask(vector, server.sharers, server.sealed_for(site))
        assert [part.dtype for part in hidden] == [np.uint64, np.uint32]
        assert not (hidden[1] == vector[1]).any()
        if site == 1:
            with pytest.raises(SecureSumError, match="masked update of shape .* and type uint64, wanted .* of uint32"):
                server.take_masked(site, hidden[0], hidden[1].astype(np.uint64), NONE)
        if site != 3:
            server.take_masked(site, *hidden, NONE)
    agree(sites, server)
    for site in server.survivors:
        server.take_revealed(site, revealed(sites, server, site))
    left = [parts[site] for site in (0, 1, 2, 4)]
    for index, total in enumerate(server.unmask()):
        assert np.array_equal(total, np.sum([vector[index] for vector in left], axis=0, dtype=total.dtype))


def test_no_two_parts_have_the_same_mask() -> None:
    """One stream goes through all parts: their difference would be a difference of vectors else."""
    first, second = np.zeros(100, np.uint64), np.zeros(100, np.uint64)
    add_mask([first, second], bytes(32), is_subtracted=False)
    whole = np.zeros(200, np.uint64)
    add_mask([whole], bytes(32), is_subtracted=False)
    assert np.array_equal(np.concatenate([first, second]), whole) and not (first == second).any()


def test_a_site_that_never_shared_is_no_part_of_the_sum() -> None:
    server = ServerSum("session", zero())
    sites = {site: SiteSum.begin(site, "session", 3) for site in SITES}
    for site, own in sites.items():
        server.take_keys(site, *own.advertise(UNSIGNED))
    for site in SITES[:4]:
        server.take_shares(site, *share(sites[site], server))
    for site in SITES[:4]:
        server.take_masked(site, masked(sites, server, site, vectors()[site]), NONE)
    agree(sites, server)
    for site in SITES[:4]:
        server.take_revealed(site, revealed(sites, server, site))
    left = [vectors()[site] for site in SITES[:4]]
    assert np.array_equal(server.unmask()[0], np.sum(left, axis=0, dtype=np.uint64))


@pytest.mark.parametrize(("num_sites", "threshold"), [(3, 3), (4, 3), (5, 4), (6, 5), (10, 7)])
def test_the_threshold_is_more_than_two_thirds(num_sites: int, threshold: int) -> None:
    assert threshold_of(num_sites) == threshold


def test_fewer_than_the_threshold_cannot_unmask() -> None:
    with pytest.raises(SecureSumError, match="3 of 5 sites revealed their shares of site 0, the threshold is 4"):
        summed(silent=(0, 1))


def test_sites_do_not_unmask_a_sum_of_too_few() -> None:
    with pytest.raises(SecureSumError, match="a sum of 3 of 5 sites is not unmasked, wanted at least 4"):
        summed(without=(0, 1))


def test_a_sum_of_two_is_refused_from_the_start() -> None:
    with pytest.raises(SecureSumError, match="wanted at least 3"):
        SiteSum.begin(0, "session", 2)
    lonely = SiteSum.begin(0, "session", 3)
    with pytest.raises(SecureSumError, match="got keys of 1 sites, wanted at least 3"):
        lonely.share([0], lonely.public_keys()[None], np.zeros((1, 96), np.uint8), UNSIGNED)


@pytest.mark.parametrize("num_values", [LENGTH, 1 << 19])
@pytest.mark.parametrize("is_zero", [False, True])
def test_one_masked_vector_looks_uniform(is_zero: bool, num_values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mean, variance, lag correlations and byte counts of what the server sees of one site, also of zeros.

    With n values uniform in [0, 1): the mean has deviation sqrt(1 / 12 n), the variance sqrt(1 / 180 n), a correlation
    1 / sqrt(n), and chi-square over 256 byte values mean 255 and deviation sqrt(510). Every threshold is 5 deviations;
    secrets are drawn from a seeded generator, so that the test gives one result.
    """
    rng = np.random.default_rng(3)
    for module in ("federation.secure_sum.primitives", "federation.secure_sum.masking"):
        monkeypatch.setattr(f"{module}.new_secret", lambda: rng.bytes(32))
    sites, server = shared(num_values)
    steps = np.rint(rng.normal(0, 1e-3, num_values) * 2**34).astype(np.int64).view(np.uint64)
    vector = np.zeros(num_values, np.uint64) if is_zero else steps
    seen = masked(sites, server, 1, vector)
    uniform = seen / 2.0**64
    assert abs(uniform.mean() - 1 / 2) < 5 * np.sqrt(1 / 12 / num_values)
    assert abs(uniform.var() - 1 / 12) < 5 * np.sqrt(1 / 180 / num_values)
    for lag in (1, 2, 8, 64):
        assert abs(np.corrcoef(uniform[:-lag], uniform[lag:])[0, 1]) < 5 / np.sqrt(num_values)
    assert abs(np.corrcoef(uniform, vector.view(np.int64))[0, 1] if not is_zero else 0) < 5 / np.sqrt(num_values)
    counts = np.bincount(seen.view(np.uint8), minlength=256)
    expected = seen.nbytes / 256
    assert abs(np.sum((counts - expected) ** 2 / expected) - 255) < 5 * np.sqrt(510)


def test_two_sums_of_the_same_vectors_have_nothing_in_common() -> None:
    views = []
    for _ in range(2):
        sites, server = shared()
        views.append(masked(sites, server, 0, vectors()[0]))
    assert not (views[0] == views[1]).any()


def test_pairwise_masks_alone_do_not_sum_to_the_vectors() -> None:
    """Before unmasking the server's sum is still under the sites' own masks."""
    sites, server = shared()
    total = np.sum([masked(sites, server, s, v) for s, v in vectors().items()], axis=0, dtype=np.uint64)
    assert not (total == np.sum(list(vectors().values()), axis=0, dtype=np.uint64)).any()


@pytest.mark.parametrize("byte", [0, 12, 100, 159])
def test_a_sealed_share_changed_on_its_way_is_reported(byte: int) -> None:
    sites, server = shared()
    sealed = server.sealed_for(1).copy()
    sealed[3, byte] ^= 1
    assert sites[1].mask([vectors()[1]], server.sharers, sealed)[1] == [3]


def test_sealed_shares_for_another_site_are_reported() -> None:
    sites, server = shared()
    assert sites[1].mask([vectors()[1]], server.sharers, server.sealed_for(2))[1] == SITES


def sum_with_bad_shares(bad: dict[int, list[int]]) -> ServerSum:
    """Until the masked vectors are in; a site's shares for some others are zeros."""
    sites, server = shared()
    for site in SITES:
        sealed = server.sealed_for(site).copy()
        for dealer, receivers in bad.items():
            if site in receivers:
                sealed[dealer] = 0
        (hidden,), unopened = sites[site].mask([vectors()[site]], server.sharers, sealed)
        server.take_masked(site, hidden, np.array(unopened, np.int64))
    if not server.unopened_by():
        agree(sites, server)
        for site in SITES:
            server.take_revealed(site, revealed(sites, server, site))
    return server


def test_shares_that_one_of_five_cannot_open_do_no_harm() -> None:
    server = sum_with_bad_shares({3: [1]})
    assert np.array_equal(server.unmask()[0], np.sum(list(vectors().values()), axis=0, dtype=np.uint64))


def test_shares_that_two_of_five_cannot_open_are_told_before_the_unmasking() -> None:
    assert sum_with_bad_shares({3: [1, 2]}).unopened_by() == {3: [1, 2]}


def unmasked(change: dict[int, tuple[int, ...]], without: tuple[int, ...] = ()) -> np.ndarray:
    """Sites change the shares that they reveal of others."""
    sites, server = shared()
    for site, vector in vectors().items():
        hidden = masked(sites, server, site, vector)
        if site not in without:
            server.take_masked(site, hidden, NONE)
    agree(sites, server)
    for site in server.survivors:
        shares = revealed(sites, server, site).copy()
        for other in change.get(site, ()):
            shares[other, -1] ^= 1
        server.take_revealed(site, shares)
    return server.unmask()[0]


@pytest.mark.parametrize("liar", SITES)
def test_one_of_five_that_reveals_changed_shares_does_no_harm(liar: int) -> None:
    assert np.array_equal(unmasked({liar: (0, 4)}), np.sum(list(vectors().values()), axis=0, dtype=np.uint64))


def test_a_changed_share_among_just_enough_is_noticed() -> None:
    with pytest.raises(SecureSumError, match=r"shares that sites \[0, 1, 2, 3\] hold of site 4 do not give its secret"):
        unmasked({2: (4,)}, without=(4,))


def test_a_dealer_of_shares_that_are_none_of_its_secret_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = iter(
        [split_secret] * 6
        + [lambda *_: {site: new_secret().rjust(66, b"\0") for site in SITES}] * 2
        + [split_secret] * 2
    )
    monkeypatch.setattr(
        "federation.secure_sum.masking.split_secret", lambda *args: next(splits)(*args)
    )  # two for each site
    with pytest.raises(WrongSharesError, match="site 3: dealt shares that do not give its secret") as caught:
        unmasked({})
    assert caught.value.site == 3


def test_a_site_never_reveals_both_shares_of_another() -> None:
    sites, server = shared()
    for site, vector in vectors().items():
        server.take_masked(site, masked(sites, server, site, vector), NONE)
    agree(sites, server)
    revealed(sites, server, 0)
    with pytest.raises(SecureSumError, match="this sum is at step 'revealed'"):
        revealed(sites, server, 0)
    kept = dataclasses.asdict(sites[0])
    assert not any(kept[name] for name in ("seed", "mask_private", "sealing_private", "seed_shares", "key_shares"))


def test_a_site_signs_one_list_of_survivors() -> None:
    sites, server = shared()
    for site, vector in vectors().items():
        masked(sites, server, site, vector)
    sites[0].agree(SITES, UNSIGNED)
    with pytest.raises(SecureSumError, match="this sum is at step 'agreed'"):
        sites[0].agree([0, 1, 2, 3], UNSIGNED)


def test_a_site_reveals_one_share_a_site_of_the_kind_that_its_state_has() -> None:
    sites, server = shared()
    for site, vector in vectors().items():
        hidden = masked(sites, server, site, vector)
        if site != 4:
            server.take_masked(site, hidden, NONE)
    seeds, keys = dict(sites[0].seed_shares), dict(sites[0].key_shares)
    agree(sites, server)
    assert [row.tobytes() for row in revealed(sites, server, 0)] == [seeds[0], seeds[1], seeds[2], seeds[3], keys[4]]


def test_a_site_that_is_not_in_the_sum_does_not_count_as_having_signed_it() -> None:
    sites, server = shared()
    for site, vector in vectors().items():
        masked(sites, server, site, vector)
    signatures = np.stack([sites[site].agree([0, 1, 2, 3], UNSIGNED) for site in (0, 1, 2)])
    signers, signatures = [0, 1, 2, 4], np.concatenate([signatures, signatures[:1]])
    with pytest.raises(SecureSumError, match=r"sites \[3\] did not sign .* 3 did, wanted at least 4"):
        sites[0].reveal(signers, signatures, UNSIGNED)


def test_survivors_must_be_sites_of_the_sum() -> None:
    sites, server = shared()
    masked(sites, server, 0, vectors()[0])
    for survivors in ([1, 2, 3, 4], [0, 1, 2, 9], [0, 1, 1, 2], [1, 0, 2, 3]):
        with pytest.raises(SecureSumError, match="got survivors"):
            sites[0].agree(survivors, UNSIGNED)


def test_steps_are_taken_in_order_and_once() -> None:
    sites, server = shared()
    with pytest.raises(SecureSumError, match="at step 'shared'"):
        sites[0].agree(SITES, UNSIGNED)
    with pytest.raises(SecureSumError, match="at step 'shared'"):
        sites[0].reveal(SITES, np.zeros((5, 96), np.uint8), UNSIGNED)
    with pytest.raises(SecureSumError, match="at step 'shared'"):
        share(sites[0], server)
    masked(sites, server, 0, vectors()[0])
    with pytest.raises(SecureSumError, match="at step 'masked'"):
        masked(sites, server, 0, vectors()[1])


def test_own_keys_that_come_back_changed_and_keys_there_twice_are_noticed() -> None:
    server = ServerSum("session", zero())
    sites = {site: SiteSum.begin(site, "session", 3) for site in SITES}
    for site, own in sites.items():
        server.take_keys(site, *own.advertise(UNSIGNED))
    keys, signatures = server.keys_S2B(), server.signatures_SB()
    foreign = keys.copy()
    foreign[0] = SiteSum.begin(0, "session", 3).public_keys()
    with pytest.raises(SecureSumError, match="its own public keys came back changed"):
        sites[0].share(SITES, foreign, signatures, UNSIGNED)
    twice = keys.copy()
    twice[3] = twice[4]
    with pytest.raises(SecureSumError, match="is there twice"):
        sites[0].share(SITES, twice, signatures, UNSIGNED)


def test_a_public_key_of_small_order_is_refused_by_sites_and_server() -> None:
    """With the zero point every agreed secret would be zero (RFC 7748, section 6.1)."""
    sites = {site: SiteSum.begin(site, "session", 3) for site in SITES}
    keys = np.stack([own.public_keys() for own in sites.values()])
    keys[3, 0] = 0
    with pytest.raises(RefusedKeysError, match=r"site 0: does not accept the public keys of sites \[3\]") as caught:
        sites[0].share(SITES, keys, np.zeros((5, 96), np.uint8), UNSIGNED)
    assert caught.value.refused == [3]
    with pytest.raises(SecureSumError, match="site 3: public keys that are there twice, or with which"):
        ServerSum("session", zero(1)).take_keys(3, keys[3], np.zeros(96, np.uint8))


def test_keys_that_another_site_has_and_two_equal_ones_are_refused_by_the_server() -> None:
    server, signature = ServerSum("session", zero(1)), np.zeros(96, np.uint8)
    keys = SiteSum.begin(0, "session", 3).public_keys()
    server.take_keys(0, keys, signature)
    for wrong in (keys, keys[[1, 1]], np.stack([SiteSum.begin(1, "s", 3).public_keys()[0], keys[1]])):
        with pytest.raises(SecureSumError, match="site 1: public keys that are there twice"):
            server.take_keys(1, wrong, signature)
    assert server.advertisers == [0]


@pytest.mark.parametrize("odd", [0, 2, 4])
def test_a_site_that_was_given_another_model_leaves_the_sum_in_noise(odd: int) -> None:
    """Its name of the sum is another one, so its masks do not cancel; the attacker takes off all that he can."""
    server = ServerSum("model A", zero())
    sites = {site: SiteSum.begin(site, "model B" if site == odd else "model A", 3) for site in SITES}
    for site, own in sites.items():
        server.take_keys(site, *own.advertise(UNSIGNED))
    for own in sites.values():
        server.take_shares(own.site, *share(own, server))
    total = np.zeros(LENGTH, np.uint64)
    seeds = {site: own.seed for site, own in sites.items()}
    for site, own in sites.items():
        (hidden,), unopened = own.mask(zero(), server.sharers, server.sealed_for(site))
        assert unopened == ([site for site in SITES if site != odd] if site == odd else [odd])
        total += hidden
        name = "model B" if site == odd else "model A"
        add_mask([total], derived_key(seeds[site], seed_purpose(name, site)), is_subtracted=True)
    uniform = total / 2.0**64
    assert abs(uniform.mean() - 1 / 2) < 5 * np.sqrt(1 / 12 / LENGTH)
    assert abs(uniform.var() - 1 / 12) < 5 * np.sqrt(1 / 180 / LENGTH)


def test_a_masked_vector_of_another_form_is_refused() -> None:
    _, server = shared()
    with pytest.raises(
        SecureSumError, match=r"site 2: masked update of shape \(3,\) and type uint64, wanted \(1000,\)"
    ):
        server.take_masked(2, np.zeros(3, np.uint64), NONE)
    with pytest.raises(SecureSumError, match="type float64"):
        server.take_masked(2, np.zeros(LENGTH), NONE)
    with pytest.raises(SecureSumError, match="masked update that are no array"):
        server.take_masked(2, {"not": "an array"}, NONE)  # type: ignore[arg-type]
    with pytest.raises(SecureSumError, match=r"unopened shares of shape \(6,\) .* wanted \(5,\)"):
        server.take_masked(0, zero()[0], np.arange(6))  # more than there are sites: a set of millions would fill memory
    with pytest.raises(SecureSumError, match="unopened shares of shape"):
        server.take_masked(2, np.zeros(LENGTH, np.uint64), np.zeros((1, 1), np.int64))
    assert not server.survivors


def test_state_survives_a_process_between_any_two_steps() -> None:
    server = ServerSum("session", zero())
    saved = {site: SiteSum.begin(site, "session", 3).to_json() for site in SITES}
    for step in ("keys", "shares", "masked", "agreed", "revealed"):
        for site in SITES:
            own = SiteSum.from_json(saved[site])
            if step == "keys":
                server.take_keys(site, *own.advertise(UNSIGNED))
            elif step == "shares":
                server.take_shares(site, *share(own, server))
            elif step == "masked":
                server.take_masked(site, masked({site: own}, server, site, vectors()[site]), NONE)
            elif step == "agreed":
                server.take_agreed(site, own.agree(server.survivors, UNSIGNED))
            else:
                server.take_revealed(site, revealed({site: own}, server, site))
            saved[site] = own.to_json()
    assert np.array_equal(server.unmask()[0], np.sum(list(vectors().values()), axis=0, dtype=np.uint64))


def test_no_secret_is_in_the_text_of_a_site() -> None:
    sites, _ = shared()
    own = sites[0]
    assert own.seed.hex() not in repr(own) and repr(own.seed) not in repr(own)
    assert repr(own.mask_private) not in repr(own)


def test_shares_give_a_secret_back_from_the_threshold_on() -> None:
    secret = new_secret()
    shares = split_secret(secret, SITES, 4)
    assert join_secret({site: shares[site] for site in (4, 1, 0, 2)}) == secret
    assert join_secret(shares) == secret
    with pytest.raises(SecureSumError, match="do not belong together"):
        join_secret({site: shares[site] for site in (0, 1, 2)})


def test_shamirs_polynomial_by_hand() -> None:
    """Shares 7 + 3x at x = 1 and 2 are 10 and 13; two points give 7 back."""
    shares = {0: (10).to_bytes(66, "big"), 1: (13).to_bytes(66, "big")}
    assert int.from_bytes(join_secret(shares), "big") == 7
    assert pow(2, 521) - 1 == PRIME
