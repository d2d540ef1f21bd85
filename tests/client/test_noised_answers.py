"""What a malicious server can read from a site's answers under noise: nothing of whether training failed.

The networks it sends overflow if the frames are bright and train if they are black. Site 0 is black, site 1 white. A
site would not train from them (`test_known_weights.py`); here it does, as from others that are made with more care.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, RecordDict

import federation.local_training
from client.app import FedReenactClient
from federation.packing import pack
from federation.secure_sum.masking import Phase
from federation.settings import Settings
from federation.stacks import Progress
from model.designs.registry import build_networks
from model.errors import FederationError, NonFiniteLossError
from model.landmarks.geometry import PartSizes
from model.setting import Scalar
from model.training.trainer import GANTrainer
from tests.client.secure_sum import test_update as test_secure_update
from tests.support.federated_setup import GLR, deployed_config, minimal_settings
from tests.support.packed import fit
from tests.support.shards import write_random_shard

pytestmark = pytest.mark.usefixtures("any_weights_pass")

PART_SIZES = PartSizes((8, 8, 8, 8), (8, 8, 8, 12))
NOISE, CLIP = 4.0, 1.0
BLACK, WHITE = 0, 1


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dataset")
    for index, grey in enumerate((0, 255, 0)):
        write_random_shard(root, f"person-{index}", num_frames=40, seed=0, grey=grey)
    return root


@pytest.fixture
def settings(dataset: Path, tmp_path: Path) -> Settings:
    return minimal_settings(
        dataset, tmp_path, 3, dp_clip_norm=CLIP, dp_noise_multiplier=NOISE, local_steps=4, use_flow=False, **GLR
    )


def ask(
    settings: Settings, node: dict[str, Scalar], arrays: list[np.ndarray], *, run_id: str = "run", **scalars: Scalar
) -> tuple[list[np.ndarray], int, dict[str, Scalar]]:
    """A new client for each message, as in a new process."""
    message = {"phase": "train", "server-round": 1, "run-id": run_id, **PART_SIZES.to_flat(), **scalars}
    return fit(FedReenactClient(Context(1, 1, node, RecordDict(), settings.to_flat())), arrays, message)


def crafted(settings: Settings) -> list[np.ndarray]:
    """One convolution looks at single pixels p, from -1 to 1, and gives 2^126 (p + 1): 0 or, soon, infinity."""
    tensors = build_networks(settings.model, PART_SIZES, seed=0).travelling_tensors()
    weight = tensors["generator.image_generator.encode.0.0.weight"]
    weight[...] = 0
    weight[:, 0, 3, 3] = 2.0**126
    tensors["generator.image_generator.encode.0.0.bias"][...] = 2.0**126
    return list(tensors.values())


def test_the_crafted_networks_tell_black_from_white_without_noise(
    settings: Settings, dataset: Path, tmp_path: Path
) -> None:
    plain = settings.replaced({"dp-clip-norm": 0.0, "dp-noise-multiplier": 0.0})
    ask(plain, deployed_config(dataset, tmp_path, BLACK, plain), crafted(settings))
    with pytest.raises(FederationError, match="NonFiniteLossError"):
        ask(plain, deployed_config(dataset, tmp_path, WHITE, plain), crafted(settings))


@pytest.mark.integration
def test_an_overflow_cannot_be_told_from_an_update(
    settings: Settings, dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Form and numbers are equal, and the lengths have one distribution.

    The step of d values has length at most C, the noise deviation z C: the squared length over (z C)^2 has mean d or
    d + 1 / z^2 at most and deviation sqrt(2 d), both within five deviations, and the mean of n within five / sqrt(n).
    """
    sent, num_answers = crafted(settings), 8
    told = {}
    for site in (BLACK, WHITE):
        node = deployed_config(dataset, tmp_path, site, settings)
        answers = [ask(settings, node, sent) for _ in range(num_answers)]
        forms = {str([(array.shape, array.dtype) for array in arrays]) for arrays, _, _ in answers}
        told[site] = forms, [(num_examples, metrics) for _, num_examples, metrics in answers]
        # the crafted values are so large that float32 has no room for a step or noise beside them
        measured = [np.abs(old).max() < 1e6 for old in sent]
        steps = [
            np.concatenate([(a - b).ravel() for a, b, keep in zip(arrays, sent, measured, strict=True) if keep])
            for arrays, _, _ in answers
        ]
        size = steps[0].size
        lengths = np.array([np.square(step, dtype=np.float64).sum() for step in steps]) / (NOISE * CLIP) ** 2
        assert (np.abs(lengths - size) < 5 * np.sqrt(2 * size)).all()
        assert abs(lengths.mean() - size) < 5 * np.sqrt(2 * size / num_answers)
    assert told[BLACK] == told[WHITE]
    assert [metrics["dp_releases"] for _, metrics in told[WHITE][1]] == list(range(1, num_answers + 1))
    assert set(told[WHITE][1][0][1]) == {"dp_releases", "dp_mu", "refused_tasks"}
    assert caplog.text.count("training failed") == num_answers  # the site's own log, of the white one


def test_a_failed_training_takes_as_many_steps_as_any_and_is_seen_to_get_on(
    settings: Settings, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished: list[int] = []
    said: list[int] = []
    monkeypatch.setattr(Progress, "made", lambda: said.append(1))

    class Counting(GANTrainer):
        def train_step(self, batch):  # type: ignore[no-untyped-def]
            means = super().train_step(batch)
            finished.append(1)
            return means

    monkeypatch.setattr(federation.local_training, "GANTrainer", Counting)
    num_finished = []
    for site in (BLACK, WHITE):
        ask(settings, deployed_config(dataset, tmp_path, site, settings), crafted(settings))
        num_finished.append((len(finished), len(said)))
    assert num_finished == [(4, 4), (8, 8)]


@pytest.mark.integration
def test_a_hundred_names_of_runs_are_a_hundred_releases(
    settings: Settings, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise NonFiniteLossError("for speed: a failure counts as any other end")

    monkeypatch.setattr("client.app.train_locally", fail)
    node = deployed_config(dataset, tmp_path, WHITE, settings)
    sent = crafted(settings)
    told = [ask(settings, node, sent, run_id=f"run-{index}")[2]["dp_releases"] for index in range(100)]
    assert told == list(range(1, 101))


def test_a_site_ends_at_its_max_epsilon_in_words(settings: Settings, dataset: Path, tmp_path: Path) -> None:
    """z = 4: epsilon is 1.99 after one release and 2.94 after two."""
    node = deployed_config(dataset, tmp_path, BLACK, settings, max_epsilon=2.5)
    ask(settings, node, crafted(settings))
    for run_id in ("run", "another"):
        with pytest.raises(FederationError, match=r"ConfigError: site policy: .* at most max-epsilon = 2.5"):
            ask(settings, node, crafted(settings), run_id=run_id)


def test_a_book_that_is_lost_after_round_1_is_said_in_the_log_of_a_site_with_a_limit(
    settings: Settings, dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for limit, num_said in ((0.0, 0), (5.0, 1)):
        node = deployed_config(dataset, tmp_path, BLACK, settings, max_epsilon=limit)
        state = Path(str(node["state-dir"]))
        for round_number in (1, 2):
            ask(settings, node, crafted(settings), **{"server-round": round_number})
        assert "privacy-ledger.json" not in caplog.text  # it is there
        (state / "privacy-ledger.json").unlink()
        ask(settings, node, crafted(settings), **{"server-round": 2})
        said = [text for text in caplog.messages if "privacy-ledger.json is not in the state folder" in text]
        assert len(said) == num_said


@pytest.mark.parametrize("is_infinite", [False, True])
def test_what_the_server_can_compute_itself_is_told_and_not_counted(
    settings: Settings, dataset: Path, tmp_path: Path, is_infinite: bool
) -> None:
    node, sent = deployed_config(dataset, tmp_path, BLACK, settings), crafted(settings)
    wrong = [np.full_like(array, np.inf) for array in sent] if is_infinite else sent[1:]
    with pytest.raises(FederationError, match="TensorMismatchError"):
        ask(settings, node, wrong)
    assert ask(settings, node, sent)[2]["dp_releases"] == 1.0


@pytest.mark.integration
def test_an_overflow_in_a_secure_round_is_masked_as_any_update(
    settings: Settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three sites, one of them white: all three send a vector of one form, and the same numbers."""
    secure = settings.replaced({"secure-aggregation": True})
    names = build_networks(secure.model, PART_SIZES, seed=0).travelling_tensors()
    sent = dict(zip(names, crafted(secure), strict=True))
    monkeypatch.setattr(test_secure_update, "tensors", lambda *_: sent)
    under_way = test_secure_update.Sum(secure, test_secure_update.name(secure)).shared()
    told = []
    for site in under_way.sites:
        arrays = [pack(sent), np.array(under_way.sites, np.int64), under_way.server.sealed_for(site)]
        (vector, unopened), num_examples, metrics = under_way.ask(site, Phase.TRAIN, arrays)
        told.append((vector.shape, vector.dtype, unopened.size, num_examples, metrics))
    assert told[BLACK] == told[WHITE] == told[2]
    assert told[WHITE][4] == {"dp_releases": 1.0, "dp_mu": 0.5, "refused_tasks": 0.0}
    assert caplog.text.count("training failed") == 1
