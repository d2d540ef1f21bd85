"""A server that keeps to the protocol and sends one site another model (Pasquini, Francati and Ateniese 2022).

The network is one layer on the whole frame and a head: h = W x + b, loss = v . h. A gradient step moves row i of W by
-r v_i x and b by -r v_i, so that their ratio is the frame. With v = 0 nothing moves, whatever the frame.
"""

from __future__ import annotations

import numpy as np
import pytest

from federation.secure_sum.masking import SiteSum, seed_purpose
from federation.secure_sum.primitives import add_mask, derived_key
from federation.secure_sum.session import Kind, SumName, content_digest
from federation.secure_sum.signatures import Unsigned
from federation.secure_sum.unmasking import ServerSum
from federation.secure_sum.vector import SumLayout
from federation.settings import Settings

SITES = range(5)
VICTIM = 3
SIDE_PX = 32
RATE = 1.0


def frame(site: int) -> np.ndarray:
    """[32 * 32] a smooth picture in 0 to 1 that no other site has."""
    y, x = np.mgrid[0:SIDE_PX, 0:SIDE_PX] / SIDE_PX
    return (0.5 + 0.45 * np.sin((3 + site) * x + 2 * y) * np.cos((5 - site) * y)).astype(np.float32).reshape(-1)


def model(head: float) -> dict[str, np.ndarray]:
    return {
        "layer.weight": np.zeros((1, SIDE_PX**2), np.float32),
        "layer.bias": np.zeros(1, np.float32),
        "head.weight": np.full(1, head, np.float32),
    }


def trained(tensors: dict[str, np.ndarray], site: int) -> dict[str, np.ndarray]:
    """One step of gradient descent on the site's frame."""
    head = tensors["head.weight"]
    return {
        "layer.weight": tensors["layer.weight"] - RATE * head[:, None] * frame(site)[None],
        "layer.bias": tensors["layer.bias"] - RATE * head,
        "head.weight": tensors["head.weight"],
    }


def psnr_db(got: np.ndarray, wanted: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean(np.square(np.clip(got, 0, 1) - wanted))))


def attack(*, is_bound: bool) -> float:
    """PSNR of the victim's frame as the server finds it in the sum of five.

    The server even knows every site's own seed, which the protocol gives out for survivors.

    Args:
        is_bound: whether the name of the sum says what each site was given.
    """
    given = {site: model(1.0 if site == VICTIM else 0.0) for site in SITES}
    names = {
        site: str(
            SumName(
                session="s",
                run_id="r",
                kind=Kind.TRAIN,
                round_number=1,
                digest=content_digest(Kind.TRAIN, Settings(), tensors=tensors) if is_bound else "same for all",
            )
        )
        for site, tensors in given.items()
    }
    layout = SumLayout(given[VICTIM], 1, [])
    server = ServerSum(names[0], layout.zero())
    sites = {site: SiteSum.begin(site, names[site], 5) for site in SITES}
    for own in sites.values():
        server.take_keys(own.site, *own.advertise(Unsigned()))
    for own in sites.values():
        shares = own.share(server.advertisers, server.keys_S2B(), server.signatures_SB(), Unsigned())
        server.take_shares(own.site, *shares)
    seeds = {site: own.seed for site, own in sites.items()}
    (total,) = layout.zero()
    for site, own in sites.items():
        update = SumLayout(given[site], 1, []).pack(
            trained(given[site], site), weight=1, identity_weights_I=np.array([1]), losses={}
        )
        total += own.mask(update, server.sharers, server.sealed_for(site))[0][0]
        add_mask([total], derived_key(seeds[site], seed_purpose(names[site], site)), is_subtracted=True)
    return psnr_db(found(total), frame(VICTIM))


def found(total: np.ndarray) -> np.ndarray:
    """Ratio of the steps of weights and bias, the latter two where they are in the vector, right behind the scalars."""
    steps = total[2:-1].view(np.int64).astype(np.float64)
    return np.asarray(steps[: SIDE_PX**2] / steps[SIDE_PX**2])


def test_where_masks_do_not_depend_on_the_model_the_frame_is_in_the_sum() -> None:
    """So the attack is one: else the next test would show nothing."""
    assert attack(is_bound=False) > 100


@pytest.mark.parametrize("attempt", range(3))
def test_where_the_name_of_the_sum_says_what_was_given_the_frame_cannot_be_guessed(attempt: int) -> None:
    assert attack(is_bound=True) < 12
