"""The inventory of what leaves a site: every tensor, every number, and what comes with them; nothing else does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from federation.codec import codec_of
from federation.packing import Shapes
from federation.reported import reported_scalars
from federation.secure_sum.primitives import KEY_BYTES, SEALED_BYTES, SHARE_BYTES, Vector
from federation.secure_sum.signatures import SIGNATURE_BYTES
from federation.secure_sum.statistics import zero_statistics
from federation.secure_sum.vector import SumLayout
from federation.settings import Settings
from model.batch import NUM_LANDMARKS
from model.designs.registry import build_networks, has_base
from model.landmarks.closed_form import FORMS, Moments
from model.landmarks.geometry import PARTS, PartSizes


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that leaves a site."""

    name: str
    shape: tuple[int, ...]
    """() for a number."""
    dtype: str
    when: str
    """once or every round."""

    @property
    def num_bytes(self) -> int:
        """Size of its values."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


BESIDES = (
    ("name", "the one that the operator chose (identity-label), once, if any"),
    (
        "error text",
        "in place of a reply that fails: names settings, limits, sites, loss terms, tensors; no file, no frame",
    ),
    ("times", "when a reply was made, how long the site worked on it (Flower's clientapp_runtime), the site's clock"),
    ("signs of life", "a heartbeat every 30 s, a question for work every 3 s: when the site is up, and its address"),
    ("node", "Flower's node id and public key of the site; version of Flower"),
)
"""What leaves besides the items of `inventory`: name and explanation."""


def training_scalars(settings: Settings) -> set[str]:
    """Names of the numbers that the replies of a round may have in clear.

    Losses leave inside the masked update under secure aggregation. Under differential privacy nothing leaves that
    depends on how the training went, and what is spent does.
    """
    return set(reported_scalars(settings))


def inventory(settings: Settings) -> list[Item]:
    """All that leaves a deployed site in a run with these settings.

    The statistics are sums over the site's training frames (data_partition/statistics.py); the tensors are the trained
    networks, whose values leave as one vector in this order (with an `update-codec` their steps, rounded and then
    deflated). Under secure aggregation both are the arrays of its five phases, of which [S, ...] have a row for each
    site that takes part; with an `update-codec` the masked update has a second part of 32 bits a value. A site may send
    the name its operator chose besides (`identity-label`).
    """
    num_identities = settings.model.num_identities
    landmarks = (num_identities, NUM_LANDMARKS, 2)
    once = [
        Item("statistics.part_sums", (len(PARTS), 2), "float64", "once"),
        Item("statistics.landmark_sums", landmarks, "float64", "once"),
        Item("statistics.landmark_squares", landmarks, "float64", "once"),
        Item("statistics.frames", (num_identities,), "float64", "once"),
        *(_base_items(num_identities) if has_base(settings.model) else ()),
    ]
    if settings.privacy.secure_aggregation:
        once = _secure_items(settings, "statistics", zero_statistics(has_base=has_base(settings.model)), "once")
    once += [Item("partition-id", (), "float64", "once"), Item("num-simulated", (), "float64", "once")]
    any_sizes = PartSizes((8, 8, 8, 8), (8, 8, 8, 8))  # shapes of tensors do not depend on it
    tensors = build_networks(settings.model, any_sizes, seed=0).travelling_tensors()
    if settings.privacy.secure_aggregation:
        every_round = _secure_items(settings, "update", SumLayout.of_run(tensors, settings).zero(), "every round")
    else:
        every_round = _update_items(settings, {name: array.shape for name, array in tensors.items()})
    scalars = [Item(name, (), "float64", "every round") for name in sorted(training_scalars(settings))]
    return [*once, *every_round, Item("num_examples", (), "int64", "every round"), *scalars]


def _base_items(num_identities: int) -> list[Item]:
    """Sums of products of pose, action units and landmarks (model/landmarks/closed_form.py): second moments."""
    return [
        Item(f"statistics.base_{form.name}_{name}", shape, "float64", "once")
        for form in FORMS
        for name, shape in Moments.shapes(form, num_identities).items()
    ]


def _update_items(settings: Settings, shapes: Shapes) -> list[Item]:
    """The tensors; with a codec of steps, before they are deflated."""
    codec = codec_of(settings.rounds.update_codec, shapes)
    dtype = codec.rounded if codec else "float32"
    items = [Item(name, shape, dtype, "every round") for name, shape in shapes.items()]
    if codec and codec.num_scales:
        items.append(Item("update.scales", (codec.num_scales,), "float32", "every round"))
    return items


def _secure_items(settings: Settings, what: str, zero: Vector, when: str) -> list[Item]:
    """What leaves in the five phases, in their order; for num-clients sites, or as many fewer as take part.

    `refused` has the ids of sites whose public keys this one does not accept, in the place of sealed shares and
    commitment, and `unopened` those of sites whose shares it could not open: of none as a rule.
    """
    num_sites = settings.rounds.num_clients
    return [
        Item("secure.public_keys", (2, KEY_BYTES), "uint8", when),
        Item("secure.signature_of_keys", (SIGNATURE_BYTES,), "uint8", when),
        Item("secure.sealed_shares", (num_sites, SEALED_BYTES), "uint8", when),
        Item("secure.commitment", (KEY_BYTES,), "uint8", when),
        Item("secure.refused", (0,), "int64", when),
        *(Item(f"secure.masked_{what}", part.shape, str(part.dtype), when) for part in zero),
        Item("secure.unopened", (0,), "int64", when),
        Item("secure.signature_of_survivors", (SIGNATURE_BYTES,), "uint8", when),
        Item("secure.revealed_shares", (num_sites, SHARE_BYTES), "uint8", when),
    ]
