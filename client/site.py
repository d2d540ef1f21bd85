"""What one client holds: its frames, its index and its folder for state. Knows no Flower."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from client.consent.policy import SitePolicy
from client.node_config import NodeConfig
from data_partition.config import DataConfig
from data_partition.consent.check import open_for_training
from data_partition.partition import ClientData, make_partitions, site_data
from data_partition.shards.shard import require_meshes
from federation.settings import Settings
from model.designs.registry import design_of
from model.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """One client of the federation."""

    partition_id: int
    """Index of the client, from 0."""
    data: ClientData
    """Its frames."""
    labels: dict[int, str]
    """Names of its identities that the server may know; a deployed site sends the one its operator chose, if any."""
    state_dir: Path
    """Folder for its optimiser moments."""
    num_simulated: int
    """Clients that the simulation has, all reading their share of one dataset; 0 for a deployed site."""
    policy: SitePolicy | None
    """The site's own limits; None for a client of a simulation, whose frames belong to who simulates."""


def open_site(settings: Settings, node: NodeConfig) -> Site:
    """The client that a node is.

    Raises:
        ConfigError: if the number of clients or identities does not fit the settings.
        DataError: if the dataset cannot be used or lacks what the network needs, or a person may not be trained on.
    """
    site = _simulated_site(settings, node) if node.is_simulated else _deployed_site(settings, node)
    if design_of(settings.model.network).needs_mesh:
        require_meshes(part.shard for part in site.data.frames)
    return site


def _deployed_site(settings: Settings, node: NodeConfig) -> Site:
    if node.partition_id >= settings.model.num_identities:
        raise ConfigError(
            f"node config: got partition-id {node.partition_id}, wanted less than num-identities = "
            f"{settings.model.num_identities}"
        )
    assert node.data_dir is not None and node.state_dir is not None
    shards = open_for_training(node.data_dir, node.without_consent)
    if len(shards) != 1:
        raise ConfigError("node config: data-dir has more or fewer shards than the site's one")
    return Site(
        partition_id=node.partition_id,
        data=site_data(shards[0], node.partition_id),
        labels={node.partition_id: node.identity_label} if node.identity_label else {},
        state_dir=node.state_dir,
        num_simulated=0,
        policy=node.policy,
    )


def _simulated_site(settings: Settings, node: NodeConfig) -> Site:
    partition_id, rounds = node.partition_id, settings.rounds
    if partition_id >= rounds.num_clients:
        raise ConfigError(
            f"got partition-id {partition_id}, wanted less than num-clients = {settings.rounds.num_clients}"
        )
    for key, value in (("data-dir", settings.data.data_dir), ("output-dir", settings.run.output_dir)):
        if not Path(value).is_absolute():
            raise ConfigError(f"setting {key}: got {value!r}, wanted an absolute path")
    clients, names = _partitions(
        settings.data, settings.rounds.num_clients, settings.rounds.seed, settings.model.num_identities
    )
    data = clients[partition_id]
    return Site(
        partition_id=partition_id,
        data=data,
        labels={part.identity_index: names[part.identity_index] for part in data.frames},
        state_dir=Path(settings.run.output_dir) / "clients" / str(partition_id),
        num_simulated=node.num_partitions,
        policy=None,
    )


@functools.lru_cache(maxsize=1)
def _partitions(
    data: DataConfig, num_clients: int, seed: int, num_identities: int
) -> tuple[list[ClientData], list[str]]:
    """All clients' data and the identities' names; kept, since a simulation's worker asks in every round."""
    shards = open_for_training(Path(data.data_dir), data.without_consent)
    if len(shards) > num_identities:
        raise ConfigError(
            f"{data.data_dir} has {len(shards)} identities, num-identities is {num_identities}; raise num-identities"
        )
    return make_partitions(shards, data, num_clients, seed), [shard.identity for shard in shards]
