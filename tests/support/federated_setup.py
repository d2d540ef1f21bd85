"""A federation small enough to train in a second: 32 px noise shards and the network with the fewest tensors."""

from __future__ import annotations

from pathlib import Path

from federation.settings import Settings
from model.setting import Scalar
from tests.support.inprocess_grid import InProcessGrid
from tests.support.shards import write_random_shard

MINIMAL: dict[str, Scalar] = {
    "network": "x2face",
    "landmarks": "driving",
    "image-size-px": 32,
    "patch-size-px": 8,
    "embed-dim": 16,
    "num-vit-layers": 1,
    "flow-seed-px": 8,
    "flow-channels": 16,
    "generator-channels": 4,
    "num-intermediate-blocks": 1,
    "style-dim": 8,
    "part-channels": 4,
    "discriminator-channels": 4,
    "num-discriminator-layers": 2,
    "lgan-dim": 8,
    "batch-size": 2,
    "perceptual-backbone": "none",
    "learning-rate-generator": 1e-3,
    "learning-rate-discriminator": 1e-3,
    "device": "cpu",
    "local-steps": 2,
    "max-rounds": 2,
    "tau": 0.0,
    "round-timeout-s": 30.0,
    "quorum-timeout-s": 0.0,
}


GLR: dict[str, Scalar] = {"network": "glr", "landmarks": "lgan"}
"""Changes to `minimal_settings` for what concerns the thesis' network: five times as many tensors."""


def write_dataset(root: Path, num_identities: int, *, has_mesh: bool = False) -> Path:
    """Noise shards of different lengths, so that clients weigh differently."""
    for index in range(num_identities):
        write_random_shard(root, f"person-{index}", num_frames=10 + 2 * index, seed=index, has_mesh=has_mesh)
    return root


def write_diverging_dataset(root: Path) -> Path:
    """One shard, person-0, with head angles beyond float32 arithmetic: the first step has a loss that is not finite."""
    write_random_shard(root, "person-0", num_frames=10, max_pose_deg=3e38)
    return root


def minimal_settings(dataset: Path, output_dir: Path, num_clients: int, **changes: Scalar) -> Settings:
    """Settings of a minimal run; `changes` in snake_case."""
    flat = MINIMAL | {
        "data-dir": str(dataset),
        "output-dir": str(output_dir),
        "num-clients": num_clients,
        "min-fit-clients": num_clients,
        "num-identities": num_clients,
    }
    return Settings.from_flat(flat | {name.replace("_", "-"): value for name, value in changes.items()})


def deployed_config(dataset: Path, root: Path, index: int, settings: Settings, **limits: Scalar) -> dict[str, Scalar]:
    """Node config of a deployed site with the frames of person-<index>, under `root`, that approved the settings.

    Its limits suit noise shards and minimal settings; `limits` in snake_case change them.
    """
    from client.consent.approval import Approval

    approved = root / f"approved-{index}.toml"
    Approval(settings).write(approved)
    chosen = {"min_frames": 5, "min_samples_per_round": 4} | limits
    return {
        "partition-id": index,
        "data-dir": str(dataset / f"person-{index}"),
        "state-dir": str(root / f"state-{index}"),
        "approved-settings": str(approved),
        **{name.replace("_", "-"): value for name, value in chosen.items()},
    }


def simulated_grid(settings: Settings, **options: object) -> InProcessGrid:
    """A grid of the clients that Flower's simulation would have."""
    from client.app import app

    num_clients = settings.rounds.num_clients
    configs = [{"partition-id": index, "num-partitions": num_clients} for index in range(num_clients)]
    return InProcessGrid(app, configs, settings.to_flat(), **options)  # type: ignore[arg-type]
