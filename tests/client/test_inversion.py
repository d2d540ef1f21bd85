"""What the server of tests/support/inversion.py gets from a site, with and without the site's say in the settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, RecordDict

from client.app import FedReenactClient
from client.node_config import NodeConfig
from client.site import open_site
from data_partition.consent.record import synthetic_record
from data_partition.shards.writer import ShardWriter
from federation.settings import Settings
from model.errors import FederationError
from model.landmarks.geometry import PartSizes
from model.setting import Scalar
from tests.support.federated_setup import GLR, deployed_config, minimal_settings
from tests.support.inversion import READING, frames_of_round, psnr, read_frame, reading_weights
from tests.support.packed import fit

PART_SIZES = PartSizes((8, 8, 8, 8), (8, 8, 8, 12))
LIMITS: dict[str, Scalar] = {"min_frames": 30, "min_samples_per_round": 100}
"""The defaults, which `deployed_config` relaxes."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty frames of grey noise in blocks of 2 px, which no frame shares with another: a guess is mid grey."""
    root, rng = tmp_path_factory.mktemp("noise"), np.random.default_rng(0)
    with ShardWriter(root, "person-0", 32, "test", consent=synthetic_record("person-0")) as writer:
        for index in range(40):
            grey = rng.integers(0, 256, (16, 16, 1), dtype=np.uint8).repeat(2, axis=0).repeat(2, axis=1)
            writer.add(
                grey.repeat(3, axis=2),
                clip="clip-0",
                frame_index=index,
                timestamp_s=index / 25,
                landmarks_KC=rng.uniform(8, 24, (68, 2)),
                pose_C=np.zeros(3),
                au_presence_A=np.zeros(18),
                au_intensity_A=np.zeros(18),
                confidence=1.0,
            )
    return root


@pytest.fixture
def agreed(dataset: Path, tmp_path: Path) -> Settings:
    """Settings that a site may approve under the default limits; the flow is trained as in the presets."""
    return minimal_settings(
        dataset, tmp_path / "run", 1, embed_dim=64, local_steps=50, batch_size=2, weight_flow_landmarks=20.0, **GLR
    )


def attack(node_config: dict[str, Scalar], settings: Settings) -> np.ndarray:
    """The picture that the server makes of one update."""
    sent = reading_weights(settings, PART_SIZES)
    config: dict[str, Scalar] = {"phase": "train", "server-round": 1, "run-id": "run", **PART_SIZES.to_flat()}
    client = FedReenactClient(Context(1, 1, node_config, RecordDict(), settings.to_flat()))
    got, _, _ = fit(client, sent, config)
    return read_frame(settings, PART_SIZES, sent, got)


def frames(node_config: dict[str, Scalar], settings: Settings) -> np.ndarray:
    """Luma of the frames that the site trained on in round 1."""
    return frames_of_round(settings, open_site(settings, NodeConfig.from_flat(node_config)).data, 0, 1)


def best_psnr(picture: np.ndarray, frame: np.ndarray) -> float:
    """Of the picture in the brightness that fits the frame best: more than a server can do, at least that of grey."""
    scale = float((picture * frame).sum() / np.square(picture).sum())
    return psnr(scale * picture, frame)


def test_where_nobody_asks_the_site_the_server_reads_a_frame(agreed: Settings) -> None:
    """The attack is a real one: a simulated client has no policy."""
    settings = agreed.replaced(READING)
    node_config: dict[str, Scalar] = {"partition-id": 0, "num-partitions": 1}
    (frame,) = frames(node_config, settings)
    assert psnr(np.zeros_like(frame), frame) < 12  # of a guess
    assert psnr(attack(node_config, settings), frame) > 100


@pytest.mark.parametrize(
    "changes",
    [
        READING,
        READING | {"local-steps": 100, "local-time-limit-s": 1.0},
        READING | {"local-steps": 100, "flow-warmup-steps": 99, "weight-l1-image": 1.0},
        {"patch-size-px": 4},
        {"weight-l1-image": 0.01},
    ],
)
def test_a_site_that_approved_settings_answers_none_that_read_frames(
    dataset: Path, tmp_path: Path, agreed: Settings, changes: dict[str, Scalar]
) -> None:
    node_config = deployed_config(dataset, tmp_path, 0, agreed, **LIMITS)
    with pytest.raises(FederationError, match="this site approved other settings"):
        attack(node_config, agreed.replaced(changes))


def test_a_site_that_approved_reading_settings_is_kept_by_its_limits(
    dataset: Path, tmp_path: Path, agreed: Settings
) -> None:
    settings = agreed.replaced(READING)
    with pytest.raises(FederationError, match="local-steps x batch-size is 1, this site wants at least"):
        attack(deployed_config(dataset, tmp_path, 0, settings, **LIMITS), settings)


def test_under_approved_settings_the_servers_weights_are_not_trained_from(
    dataset: Path, tmp_path: Path, agreed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touch(*_: object, **__: object) -> None:
        raise AssertionError("a frame is read")

    monkeypatch.setattr("client.app.train_locally", touch)
    node_config = deployed_config(dataset, tmp_path, 0, agreed, **LIMITS)
    with pytest.raises(
        FederationError, match=r"UnknownWeightsError: round 1: generator\..* away from the initial weights"
    ):
        attack(node_config, agreed)


@pytest.mark.integration
@pytest.mark.usefixtures("any_weights_pass")
def test_under_approved_settings_the_servers_weights_read_no_frame(
    dataset: Path, tmp_path: Path, agreed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the settings stop by themselves."""
    monkeypatch.setattr("federation.local_training.one_sided", lambda *_, **__: "")
    node_config = deployed_config(dataset, tmp_path, 0, agreed, **LIMITS)
    picture = attack(node_config, agreed)
    seen = frames(node_config, agreed)
    assert len(seen) == 100
    assert max(best_psnr(picture, frame) for frame in seen) < 12
