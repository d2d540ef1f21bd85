"""Dealing the frames of a dataset to clients: by identity, iid, or Dirichlet (Hsu et al. 2019).

Every frame belongs to exactly one client. Train and test frames (the split is the shard's own) are dealt
by the same rule but apart, so a frame never changes sides. An identity's index is its place in the list of
shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from data_partition.config import DataConfig
from data_partition.shards.shard import Shard
from model.errors import ConfigError

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Split = Literal["train", "test"]

MIN_TRAIN_FRAMES = 2
"""Training frames below which a client cannot form a (source, driving) pair."""

_MAX_DIRICHLET_DRAWS = 100


class IdentityFrames(NamedTuple):
    """Frames of one identity."""

    identity_index: int
    shard: Shard
    rows: IntArray
    """[R] row indices into the shard, ascending; train and test frames together."""

    def split_rows(self, split: Split) -> IntArray:
        """The [R'] rows of one side of the shard's split, ascending."""
        is_wanted = self.shard.is_test_F[self.rows] == (split == "test")
        rows: IntArray = self.rows[is_wanted]
        return rows


@dataclass(frozen=True)
class ClientData:
    """All that one client holds."""

    frames: list[IdentityFrames]

    @property
    def num_examples(self) -> int:
        """Training frames: the client's weight in the average."""
        return sum(len(part.split_rows("train")) for part in self.frames)

    @property
    def num_test_frames(self) -> int:
        """Held-out frames."""
        return sum(len(part.split_rows("test")) for part in self.frames)

    def identity_counts(self, num_identities: int) -> IntArray:
        """[I] int64 training frames of each identity of the federation."""
        counts = np.zeros(num_identities, np.int64)
        for part in self.frames:
            counts[part.identity_index] += len(part.split_rows("train"))
        return counts


def site_data(shard: Shard, identity_index: int) -> ClientData:
    """A deployed site's data: its one shard, whole.

    Args:
        shard: the site's shard.
        identity_index: the identity's row among the federation's identities, >= 0.
    """
    return ClientData([IdentityFrames(identity_index, shard, np.arange(shard.num_frames))])


def make_partitions(shards: Sequence[Shard], data: DataConfig, num_clients: int, seed: int) -> list[ClientData]:
    """The data of clients 0 to num_clients - 1; equal arguments give equal partitions.

    `identity`: identity i goes to client i mod num_clients. With more clients than identities, client c
    shares identity c mod I, and the sharers get equal, contiguous stretches of its time. `iid`: all frames
    shuffled and dealt equally. `dirichlet`: each identity's frames are dealt in proportions drawn from
    Dir(alpha), redrawn until every client can form a pair.

    Args:
        shards: one per identity, in identity order.
        data: names the partitioner and its alpha.
        num_clients: >= 1.
        seed: of the shuffles and of the Dirichlet draws; `identity` draws nothing.

    Raises:
        ConfigError: if a client would get fewer than two training frames.
    """
    num_identities = len(shards)
    rng = np.random.default_rng(seed)
    if data.partitioner == "identity":
        shares = _ownership(num_identities, num_clients)
    elif data.partitioner == "iid":
        shares = np.full((num_identities, num_clients), 1 / num_clients)
    else:
        shares = _dirichlet_shares(shards, data.dirichlet_alpha, num_clients, rng)
    clients = _deal(shards, shares, rng if data.partitioner != "identity" else None)
    for index, client in enumerate(clients):
        if client.num_examples < MIN_TRAIN_FRAMES:
            raise ConfigError(
                f"client {index} of {num_clients} would get {client.num_examples} training frames from "
                f"{num_identities} identities (partitioner {data.partitioner}), wanted at least "
                f"{MIN_TRAIN_FRAMES}; lower num-clients, raise dirichlet-alpha, or add frames"
            )
    return clients


def _ownership(num_identities: int, num_clients: int) -> FloatArray:
    """[I, C] share of each identity that each client owns; rows sum to 1."""
    identity, client = np.indices((num_identities, num_clients))
    owns = identity % num_clients == client % num_identities  # one of the two never wraps
    shares: FloatArray = owns / owns.sum(axis=1, keepdims=True)
    return shares


def _dirichlet_shares(shards: Sequence[Shard], alpha: float, num_clients: int, rng: np.random.Generator) -> FloatArray:
    """[I, C] shares: a Dir(alpha) draw per identity, redrawn while a client would get no pair."""
    num_train_I = np.array([int((~shard.is_test_F).sum()) for shard in shards])
    for _ in range(_MAX_DIRICHLET_DRAWS):
        shares = rng.dirichlet(np.full(num_clients, alpha), size=len(shards))
        frames_IC = np.array([np.diff(_cuts(share, n)) for share, n in zip(shares, num_train_I, strict=True)])
        if frames_IC.max(axis=0).min() >= MIN_TRAIN_FRAMES:
            break
    return shares


def _cuts(share_C: FloatArray, num_rows: int) -> IntArray:
    """[C+1] ascending cut positions that give each client its share of num_rows rows."""
    ends = np.concatenate(([0.0], np.cumsum(share_C)))
    cuts: IntArray = np.rint(ends * num_rows).astype(np.int64)
    return cuts


def _deal(shards: Sequence[Shard], shares_IC: FloatArray, shuffle: np.random.Generator | None) -> list[ClientData]:
    """Cut each identity's train rows, then its test rows, by its shares."""
    clients: list[ClientData] = [ClientData([]) for _ in range(shares_IC.shape[1])]
    for identity_index, shard in enumerate(shards):
        stretches: list[list[IntArray]] = [[] for _ in clients]
        for side in (~shard.is_test_F, shard.is_test_F):
            rows = np.flatnonzero(side).astype(np.int64)
            if shuffle is not None:
                rows = shuffle.permutation(rows)
            cuts = _cuts(shares_IC[identity_index], len(rows))
            for client_rows, start, end in zip(stretches, cuts[:-1], cuts[1:], strict=True):
                client_rows.append(rows[start:end])
        for client, client_rows in zip(clients, stretches, strict=True):
            rows = np.sort(np.concatenate(client_rows))
            if len(rows):
                client.frames.append(IdentityFrames(identity_index, shard, rows))
    return clients
