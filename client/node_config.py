"""What the operator of a site told its SuperNode: the node config, read once and closed to unknown keys."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from client.policy import SitePolicy
from model.config import Scalar
from model.errors import ConfigError

_TEXTS = ("data-dir", "state-dir", "identity-label", "approved-settings", "node-key", "site-keys")
_NUMBERS = ("partition-id", "num-partitions")


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeConfig:
    """One client's place. Flower's simulation alone says `num-partitions`; every other client is a deployed site."""

    partition_id: int
    """Index of the client, from 0."""
    num_partitions: int = 0
    """Clients that the simulation has; 0 for a deployed site."""
    data_dir: Path | None = None
    """Folder of the site's one shard."""
    state_dir: Path | None = None
    """Folder for what the site keeps between messages."""
    identity_label: str = ""
    """Name of the person that the server may know; empty for none."""
    approved_settings: Path | None = None
    """File of the settings that the site agreed to."""
    node_key: Path | None = None
    """The site's private key: the one with which its SuperNode signs."""
    site_keys: Path | None = None
    """Folder of all sites' public keys, site-1.pub for partition 0 and so on."""
    policy: SitePolicy = field(default_factory=SitePolicy)
    """The site's own limits."""

    @property
    def is_simulated(self) -> bool:
        """Whether this is a client of a simulation rather than a deployed site."""
        return self.num_partitions > 0

    @classmethod
    def from_flat(cls, flat: Mapping[str, Scalar]) -> NodeConfig:
        """Read Flower's node config.

        Raises:
            ConfigError: for a key that is unknown or missing, or a value of the wrong kind.
        """
        limits = {limit.name.replace("_", "-") for limit in fields(SitePolicy)}
        known = {*_TEXTS, *_NUMBERS, *limits}
        for key in flat:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(sorted(known))}"
                raise ConfigError(f"node config: unknown key {key!r}{hint}")
        for key in _TEXTS:
            if key in flat and not isinstance(flat[key], str):
                raise ConfigError(f"node config: got {key} {flat[key]!r}, wanted text")
        partition_id, num_partitions = flat.get("partition-id"), flat.get("num-partitions", 0)
        for key, value, least in (("partition-id", partition_id, 0), ("num-partitions", num_partitions, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"node config: got {key} {value!r}, wanted a whole number >= {least}")
        assert isinstance(partition_id, int) and isinstance(num_partitions, int)
        paths = {
            key.replace("-", "_"): Path(str(flat[key])) for key in _TEXTS if key != "identity-label" and flat.get(key)
        }
        config = cls(
            partition_id=partition_id,
            num_partitions=num_partitions,
            identity_label=str(flat.get("identity-label", "")),
            policy=SitePolicy.from_node_config({key: value for key, value in flat.items() if key in limits}),
            **paths,
        )
        if not config.is_simulated:
            for key, path, what in (
                ("data-dir", config.data_dir, "the folder of the site's one shard"),
                ("state-dir", config.state_dir, "a folder for what the site keeps between messages"),
            ):
                if path is None:
                    raise ConfigError(f"node config: {key} is missing; wanted {what}")
        return config
