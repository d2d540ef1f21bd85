"""What the operator of a site told its SuperNode: the node config, read once and closed to unknown keys."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from client.consent.policy import SitePolicy
from data_partition.consent.kinds import WithoutConsent
from model.errors import ConfigError, did_you_mean
from model.setting import Scalar

_PATHS = ("data-dir", "state-dir", "approved-settings", "node-key", "site-keys")
_TEXTS = (*_PATHS, "identity-label", "without-consent")
_NUMBERS = ("partition-id", "num-partitions")


SUPERNODE_VARIABLE = "FEDREENACT_SUPERNODE"
"""Environment variable that `fedreenact-supernode` sets for the processes below it."""


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
    without_consent: str = ""
    """What a person without a record of consent is, a `WithoutConsent`: the operator's word; "" if nothing is said."""
    policy: SitePolicy = field(default_factory=SitePolicy)
    """The site's own limits."""

    def __post_init__(self) -> None:
        """Check what is one of a few words."""
        if self.without_consent not in ("", *WithoutConsent):
            wanted = " or ".join(WithoutConsent)
            raise ConfigError(
                f"node config: got without-consent {self.without_consent!r}, wanted {wanted}, or no such key"
            )

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
                hint = did_you_mean(key, known, f"; known are {', '.join(sorted(known))}")
                raise ConfigError(f"node config: unknown key {key!r}{hint}")
        for key in _TEXTS:
            if key in flat and not isinstance(flat[key], str):
                raise ConfigError(f"node config: got {key} {flat[key]!r}, wanted text")
        partition_id, num_partitions = flat.get("partition-id"), flat.get("num-partitions", 0)
        least_partitions = 1 if "num-partitions" in flat else 0
        for key, value, least in (
            ("partition-id", partition_id, 0),
            ("num-partitions", num_partitions, least_partitions),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"node config: got {key} {value!r}, wanted a whole number >= {least}")
        assert isinstance(partition_id, int) and isinstance(num_partitions, int)
        paths = {key.replace("-", "_"): Path(str(flat[key])) for key in _PATHS if flat.get(key)}
        config = cls(
            partition_id=partition_id,
            num_partitions=num_partitions,
            identity_label=str(flat.get("identity-label", "")),
            without_consent=str(flat.get("without-consent", "")),
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

    def check_site(self) -> None:
        """Compare the node config of a deployed site with the machine.

        Raises:
            ConfigError: if it is a simulation's, or a file or folder is missing, may not be used, or is in another's
                place.
        """
        if self.is_simulated:
            raise ConfigError("node config: num-partitions is for simulations; a deployed site leaves it out")
        assert self.data_dir is not None and self.state_dir is not None
        _check_folder("data-dir", self.data_dir, os.R_OK | os.X_OK, "readable")
        _check_folder("state-dir", self.state_dir, os.R_OK | os.W_OK | os.X_OK, "readable and writable")
        data, state = self.data_dir.resolve(), self.state_dir.resolve()
        if data == state or data in state.parents or state in data.parents:
            raise ConfigError(f"node config: data-dir {data} and state-dir {state} lie in each other; keep them apart")
        if self.site_keys is not None:
            _check_folder("site-keys", self.site_keys, os.R_OK | os.X_OK, "readable")
        for key, path in (("approved-settings", self.approved_settings), ("node-key", self.node_key)):
            if path is not None and not (path.is_file() and os.access(path, os.R_OK)):
                raise ConfigError(f"node config: got {key} {str(path)!r}, wanted a file that this user can read")


def _check_folder(key: str, path: Path, access: int, wanted: str) -> None:
    if not path.is_dir():
        raise ConfigError(f"node config: got {key} {str(path)!r}, which is no folder here; make it, or mend the path")
    if not os.access(path, access):
        raise ConfigError(f"node config: {key} {str(path)!r} is not {wanted} for this user; change its owner or mode")


def check_launch() -> None:
    """A deployed site answers only below `fedreenact-supernode`: Flower's own SuperNode runs whatever code it is sent.

    Raises:
        ConfigError: if this process was started otherwise.
    """
    if SUPERNODE_VARIABLE not in os.environ:
        raise ConfigError(
            "this site was not started by fedreenact-supernode, and runs any code that is sent; start it so"
        )
