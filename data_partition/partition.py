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
"""Training frames of one clip below which there is no (source, driving) pair."""

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

    def num_paired(self) -> int:
        """Training frames whose clip has another training frame among these."""
        _, num_rows = np.unique(self.shard.clip[self.split_rows("train")], return_counts=True)
        return int(num_rows[num_rows >= MIN_TRAIN_FRAMES].sum())


@dataclass(frozen=True)
class ClientData:
    """All that one client holds."""

    frames: list[IdentityFrames]

    @property
    def num_examples(self) -> int:
        """Training frames that can be drawn: the client's weight in the average.

        Pairs are of one clip: a frame whose clip has no other one here is never drawn.
        """
        return sum(part.num_paired() for part in self.frames)

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
    shuffled and dealt equally. `dirichlet`: each identity's frames are shuffled and dealt in proportions drawn
    from Dir(alpha), redrawn until every client gets two training frames of one identity, and dealt anew until
    every client gets two of one clip, which make a pair; some tries each.

    Args:
        shards: one per identity, in identity order.
        data: names the partitioner and its alpha.
        num_clients: >= 1.
        seed: of the shuffles and of the Dirichlet draws; `identity` draws nothing.

    Raises:
        ConfigError: if a client would get no two training frames of one clip.
    """
    num_identities = len(shards)
    rng = np.random.default_rng(seed)
    if data.partitioner == "identity":
        clients = _deal(shards, _ownership(num_identities, num_clients), None)
    elif data.partitioner == "iid":
        clients = _deal(shards, np.full((num_identities, num_clients), 1 / num_clients), rng)
    else:
        clients = _dealt_by_dirichlet(shards, data.dirichlet_alpha, num_clients, rng)
    for index, client in enumerate(clients):
        if client.num_examples < MIN_TRAIN_FRAMES:
            raise ConfigError(
                f"client {index} of {num_clients} would get {client.num_examples} training frames with another one of "
                f"their clip beside them, from {num_identities} identities (partitioner {data.partitioner}), wanted at "
                f"least {MIN_TRAIN_FRAMES}; lower num-clients, raise dirichlet-alpha, or add frames"
            )
    return clients


def _ownership(num_identities: int, num_clients: int) -> FloatArray:
    """[I, C] share of each identity that each client owns; rows sum to 1."""
    identity, client = np.indices((num_identities, num_clients))
    owns = identity % num_clients == client % num_identities  # one of the two never wraps
    shares: FloatArray = owns / owns.sum(axis=1, keepdims=True)
    return shares


def _dealt_by_dirichlet(
    shards: Sequence[Shard], alpha: float, num_clients: int, rng: np.random.Generator
) -> list[ClientData]:
    """Dealt by shares of Dir(alpha), again and again while a client would get no pair."""
    for _ in range(_MAX_DIRICHLET_DRAWS):
        clients = _deal(shards, _dirichlet_shares(shards, alpha, num_clients, rng), rng)
        if all(client.num_examples for client in clients):
            break
    return clients


def _dirichlet_shares(shards: Sequence[Shard], alpha: float, num_clients: int, rng: np.random.Generator) -> FloatArray:
    """[I, C] shares: a Dir(alpha) draw per identity, redrawn while a client would get no two frames of one."""
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
