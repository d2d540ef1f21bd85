"""A site's five phases as a server would drive them, and what is in its state folder meanwhile."""

from __future__ import annotations

import functools
import json
import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, RecordDict

from client.app import FedReenactClient
from client.consent.egress import inventory
from client.secure_sum import unmasking_record
from client.secure_sum.node_keys import NodeKeys
from client.secure_sum.unmasking_record import RECORD_NAME, SpentSumError, UnmaskingRecord
from client.secure_sum.update import state_name
from federation.packing import pack
from federation.secure_sum.masking import Phase
from federation.secure_sum.session import Kind, SumName, content_digest
from federation.secure_sum.signatures import Unsigned
from federation.secure_sum.statistics import LENGTH, mean_statistics
from federation.secure_sum.unmasking import ServerSum
from federation.settings import Settings
from model.config import ModelConfig
from model.designs.registry import build_networks
from model.errors import ConfigError, FederationError
from model.landmarks.geometry import PartSizes
from model.setting import Scalar
from tests.support.federated_setup import deployed_config, minimal_settings, write_dataset
from tests.support.node_keys import key_config, write_node_keys

PART_SIZES = PartSizes((8, 8, 8, 8), (8, 8, 8, 12))
SITES = (0, 1, 2)

Arrays = list[np.ndarray]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"), 4)


@pytest.fixture
def settings(dataset: Path, tmp_path: Path) -> Settings:
    return minimal_settings(dataset, tmp_path, 4, secure_aggregation=True, min_fit_clients=3)


def tensors(settings: Settings, seed: int = 0) -> dict[str, np.ndarray]:
    return dict(_tensors(settings.model, seed))


@functools.cache
def _tensors(model: ModelConfig, seed: int) -> dict[str, np.ndarray]:
    return build_networks(model, PART_SIZES, seed=seed).travelling_tensors()


def name(settings: Settings, session: str = "s", run_id: str = "run", round_number: int = 1, seed: int = 0) -> SumName:
    """Of a round that starts from the networks of a seed."""
    digest = content_digest(
        Kind.TRAIN, settings, round_number=round_number, part_sizes=PART_SIZES, tensors=tensors(settings, seed)
    )
    return SumName(session=session, run_id=run_id, kind=Kind.TRAIN, round_number=round_number, digest=digest)


class Sum:
    """One sum as an honest server drives it; every message goes to a new client, as in a new process."""

    def __init__(self, settings: Settings, named: SumName, sites: tuple[int, ...] = SITES) -> None:
        self.settings, self.name, self.sites = settings, named, sites
        num_values = LENGTH if named.kind is Kind.STATISTICS else 1
        self.server = ServerSum(str(named), [np.zeros(num_values, np.uint64)])
        self.vectors: dict[int, np.ndarray] = {}
        self.metrics: dict[str, Scalar] = {}

    def ask(self, site: int, phase: Phase, arrays: Arrays) -> tuple[Arrays, int, dict[str, Scalar]]:
        context = Context(1, 1, {"partition-id": site, "num-partitions": 4}, RecordDict(), self.settings.to_flat())
        scalars = {"phase": phase.value, **self.name.to_flat(), **PART_SIZES.to_flat()}
        return FedReenactClient(context).fit(arrays, scalars)

    def shared(self) -> Sum:
        for site in self.sites:
            self.server.take_keys(site, *self.ask(site, Phase.KEYS, [])[0])
        for site in self.sites:
            self.server.take_shares(site, *self.ask(site, Phase.SHARES, self.keys())[0])
        return self

    def keys(self) -> Arrays:
        server = self.server
        return [np.array(server.advertisers, np.int64), server.keys_S2B(), server.signatures_SB()]

    def masked(self, seed: int = 0, missing: tuple[int, ...] = ()) -> Sum:
        is_train = self.name.kind is Kind.TRAIN
        phase = Phase.TRAIN if is_train else Phase.STATISTICS
        given = [pack(tensors(self.settings, seed))] if is_train else []
        for site in self.sites:
            arrays = [*given, np.array(self.sites, np.int64), self.server.sealed_for(site)]
            (vector, unopened), num_examples, self.metrics = self.ask(site, phase, arrays)
            assert num_examples == 0
            assert not unopened.size
            self.vectors[site] = vector
            if site not in missing:
                self.server.take_masked(site, vector[: LENGTH if not is_train else 1], unopened)
        return self

    def agreed(self) -> Sum:
        for site in self.server.survivors:
            survivors = np.array(self.server.survivors, np.int64)
            self.server.take_agreed(site, *self.ask(site, Phase.AGREE, [survivors])[0])
        return self

    def reveal(self, site: int) -> np.ndarray:
        signers = np.array(self.server.signers, np.int64)
        return self.ask(site, Phase.UNMASK, [signers, self.server.agreed_SB()])[0][0]

    def revealed(self) -> Sum:
        for site in self.server.survivors:
            self.server.take_revealed(site, self.reveal(site))
        return self


def state_file(tmp_path: Path, site: int, run_id: str = "run") -> Path:
    return tmp_path / "clients" / str(site) / state_name(run_id)


def test_secrets_are_for_the_site_alone_and_gone_after_the_round(settings: Settings, tmp_path: Path) -> None:
    under_way = Sum(settings, name(settings)).shared().masked()
    path = state_file(tmp_path, 0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    text = path.read_text(encoding="utf-8")
    assert '"seed": ""' in text and '"mask_private": ""' in text  # own secrets are gone when the update is masked
    assert under_way.vectors[0].dtype == np.uint64
    assert {"seconds", "num_steps"} <= under_way.metrics.keys()
    assert not {"loss_generator", "l1_image", "ranking_image"} & under_way.metrics.keys()
    under_way.agreed().revealed()
    assert not path.exists()
    assert not list(path.parent.glob("*.partial"))
    record = path.parent / RECORD_NAME
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    assert list(json.loads(record.read_text()).values()) == [[0, 1, 2], [0, 1, 2]]


def test_shares_are_given_out_once(settings: Settings) -> None:
    under_way = Sum(settings, name(settings)).shared().masked().agreed()
    under_way.reveal(0)
    with pytest.raises(FederationError, match="SecureSumError: site 0: no secure sum is under way"):
        under_way.reveal(0)


def test_a_sum_over_fewer_than_min_fit_clients_is_not_unmasked(settings: Settings) -> None:
    under_way = Sum(settings, name(settings)).shared().masked()
    with pytest.raises(FederationError, match="a sum of 2 of 3 sites is not unmasked"):
        under_way.ask(0, Phase.AGREE, [np.array([0, 1], np.int64)])


def test_ids_of_sites_whose_keys_are_not_accepted_leave_in_the_place_of_shares_as_the_inventory_says(
    settings: Settings,
) -> None:
    under_way = Sum(settings, name(settings))
    for site in SITES:
        under_way.server.take_keys(site, *under_way.ask(site, Phase.KEYS, [])[0])
    sites, keys_S2B, signatures_SB = under_way.keys()
    keys_S2B[2, 0] = 0
    (leaving,), _, _ = under_way.ask(0, Phase.SHARES, [sites, keys_S2B, signatures_SB])
    assert leaving.tolist() == [2]
    (listed,) = {(item.shape, item.dtype) for item in inventory(settings) if item.name == "secure.refused"}
    assert listed == ((0,), str(leaving.dtype))  # of nobody as a rule


def test_another_sum_and_a_phase_out_of_order_are_refused(settings: Settings) -> None:
    under_way = Sum(settings, name(settings)).shared().masked().agreed()
    other = Sum(settings, name(settings, session="other"))
    with pytest.raises(FederationError, match="another secure sum is under way"):
        other.ask(0, Phase.AGREE, [np.array(SITES, np.int64)])
    under_way.ask(0, Phase.KEYS, [])
    with pytest.raises(FederationError, match="at step 'advertised'"):
        under_way.reveal(0)
    with pytest.raises(FederationError, match="got a secure sum called"):
        FedReenactClient(Context(1, 1, {"partition-id": 0, "num-partitions": 4}, RecordDict(), settings.to_flat())).fit(
            [], {"phase": Phase.KEYS.value, "session": "s"}
        )


def test_a_round_that_begins_anew_has_new_keys_and_other_pairs(settings: Settings) -> None:
    """Also from the same model: what two sums of a round share must not cancel."""
    first, second = (Sum(settings, name(settings, session)).shared() for session in "ab")
    assert not (first.server.keys_S2B() == second.server.keys_S2B()).all(axis=2).any()
    context = Context(1, 1, {"partition-id": 0, "num-partitions": 4}, RecordDict(), settings.to_flat())
    config = {**name(settings).to_flat(), **PART_SIZES.to_flat()}
    site = FedReenactClient(context)
    from client.app import _trained
    from client.node_config import NodeConfig
    from client.site import open_site

    opened = open_site(settings, NodeConfig.from_flat(site._context.node_config))
    losses = {_trained(settings, opened, tensors(settings), config).metrics["l1_image"] for _ in "ab"}
    assert len(losses) == 2


def test_an_update_in_clear_is_not_sent_in_a_secure_run(settings: Settings) -> None:
    site = FedReenactClient(Context(1, 1, {"partition-id": 0, "num-partitions": 4}, RecordDict(), settings.to_flat()))
    config = {"phase": "train", "server-round": 1, "run-id": "run", **PART_SIZES.to_flat()}
    with pytest.raises(
        FederationError, match="ConfigError: secure-aggregation is True, the server asks for phase 'tra"
    ):
        site.fit([pack(tensors(settings))], config)
    plain = settings.replaced({"secure-aggregation": False})
    with pytest.raises(FederationError, match="secure-aggregation is False"):
        Sum(plain, name(plain)).ask(0, Phase.KEYS, [])


def test_statistics_are_not_sent_in_clear_in_a_secure_run(settings: Settings) -> None:
    site = FedReenactClient(Context(1, 1, {"partition-id": 1, "num-partitions": 4}, RecordDict(), settings.to_flat()))
    assert site.fit([], {"phase": "statistics"}) == (
        [],
        0,
        {"partition-id": 1, "num-simulated": 4, "label-1": "person-1"},
    )


def test_two_runs_at_one_site_do_not_disturb_each_other(settings: Settings, tmp_path: Path) -> None:
    first = Sum(settings, name(settings, run_id="first")).shared()
    second = Sum(settings, name(settings, run_id="second", seed=1)).shared()
    first.masked().agreed().revealed()
    second.masked(seed=1).agreed().revealed()
    assert first.server.survivors == second.server.survivors == [0, 1, 2]
    assert not list(state_file(tmp_path, 0).parent.glob("secure-sum-*"))


def test_what_a_run_left_behind_is_removed_after_a_week(settings: Settings, tmp_path: Path) -> None:
    Sum(settings, name(settings, run_id="old")).shared()
    Sum(settings, name(settings, run_id="new")).shared()
    old = state_file(tmp_path, 0, "old")
    assert old.exists()
    os.utime(old, (0, 0))
    Sum(settings, name(settings)).shared()
    assert not old.exists() and state_file(tmp_path, 0, "new").exists()


# --- the model is part of the name ----------------------------------------------------------------------------------


def test_a_site_that_is_given_another_model_than_was_announced_sends_nothing(settings: Settings) -> None:
    under_way = Sum(settings, name(settings)).shared()
    with pytest.raises(FederationError, match="are not those that all sites were told of when the sum began"):
        under_way.masked(seed=1)


@pytest.mark.parametrize("change", ["round", "part sizes", "settings", "kind", "one bit"])
def test_everything_that_a_round_starts_from_is_in_the_digest(settings: Settings, change: str) -> None:
    given = {"round_number": 1, "part_sizes": PART_SIZES, "tensors": tensors(settings)}
    first = content_digest(Kind.TRAIN, settings, **given)  # type: ignore[arg-type]
    kind, other = Kind.TRAIN, settings
    if change == "round":
        given["round_number"] = 2
    elif change == "part sizes":
        given["part_sizes"] = PartSizes((8, 8, 8, 8), (8, 8, 8, 8))
    elif change == "settings":
        other = settings.replaced({"learning-rate-generator": 2e-3})
    elif change == "kind":
        kind = Kind.STATISTICS
    else:
        changed = {n: array.copy() for n, array in tensors(settings).items()}
        next(iter(changed.values())).view(np.uint8).reshape(-1)[0] ^= 1
        given["tensors"] = changed
    assert content_digest(kind, other, **given) != first  # type: ignore[arg-type]
    assert content_digest(Kind.TRAIN, settings, round_number=1, part_sizes=PART_SIZES, tensors=tensors(settings)) == (
        first
    )


# --- one set of sites for a round -----------------------------------------------------------------------------------


def test_a_round_is_unmasked_over_one_set_of_sites(settings: Settings) -> None:
    """A server that comes back and asks for the round again without site 3."""
    Sum(settings, name(settings, "a"), (0, 1, 2, 3)).shared().masked().agreed().revealed()
    with pytest.raises(FederationError, match="SpentSumError: site 0: it helped to unmask train of round 1 over"):
        Sum(settings, name(settings, "b"), (0, 1, 2)).shared()
    again = Sum(settings, name(settings, "c"), (0, 1, 2, 3)).shared().masked(missing=(3,))
    with pytest.raises(FederationError, match=r"SpentSumError: .*\[0, 1, 2, 3\]; with the sum over sites \[0, 1, 2\]"):
        again.agreed()
    Sum(settings, name(settings, "d"), (0, 1, 2, 3)).shared().masked().agreed().revealed()  # the same set may


@pytest.mark.parametrize("change", [{}, {"round-timeout-s": 3599.0}, {"tau": 1.5}, {"max-rounds": 1}])
def test_another_name_of_the_run_does_not_help(settings: Settings, change: dict[str, Scalar]) -> None:
    """Nor together with a setting that a server may choose anew for every run."""
    Sum(settings, name(settings), (0, 1, 2, 3)).shared().masked().agreed().revealed()
    other = settings.replaced(change)
    assert other.to_flat() != settings.to_flat() or not change
    with pytest.raises(FederationError, match="SpentSumError"):
        Sum(other, name(other, run_id="renamed"), (0, 1, 2)).shared().masked()
    Sum(other, name(other, run_id="again"), (0, 1, 2, 3)).shared().masked().agreed().revealed()  # the same set may


def test_the_digest_of_a_version_before_still_counts(settings: Settings, tmp_path: Path) -> None:
    """It was the one in the name of the sum."""
    one = name(settings)
    (tmp_path / RECORD_NAME).write_text(json.dumps({f"digest {one.digest[:32]}": [0, 1, 2, 3]}))
    with pytest.raises(SpentSumError):
        UnmaskingRecord(tmp_path, Unsigned()).check(0, one, "", [0, 1, 2], is_final=False)


def test_a_round_of_a_run_is_one_round_whatever_model_it_starts_from(settings: Settings) -> None:
    Sum(settings, name(settings), (0, 1, 2, 3)).shared().masked().agreed().revealed()
    with pytest.raises(FederationError, match="SpentSumError"):
        Sum(settings, name(settings, seed=1), (0, 1, 2)).shared()


def test_the_next_round_may_start_from_the_same_model_with_other_sites(settings: Settings) -> None:
    Sum(settings, name(settings), (0, 1, 2, 3)).shared().masked().agreed().revealed()
    Sum(settings, name(settings, round_number=2), (0, 1, 2)).shared().masked().agreed().revealed()


def statistics_name(settings: Settings, run_id: str) -> SumName:
    digest = content_digest(Kind.STATISTICS, settings)
    return SumName(session=run_id, run_id=run_id, kind=Kind.STATISTICS, round_number=0, digest=digest)


def test_statistics_are_summed_over_one_set_of_sites_in_all_runs(settings: Settings) -> None:
    done = Sum(settings, statistics_name(settings, "a"), (0, 1, 2, 3)).shared().masked().agreed().revealed()
    assert done.vectors[0].shape == (LENGTH,)
    mean = mean_statistics(done.server.unmask()[0], 4)
    assert mean.part_mean_P2.min() > 0 and 0 <= mean.landmark_mean_KC.min() <= mean.landmark_mean_KC.max() < 1
    other = settings.replaced({"learning-rate-generator": 2e-3})
    with pytest.raises(FederationError, match="SpentSumError: site 0: it helped to unmask statistics"):
        Sum(other, statistics_name(other, "b"), (0, 1, 2)).shared()
    Sum(other, statistics_name(other, "c"), (0, 1, 2, 3)).shared().masked().agreed().revealed()


def test_a_record_that_is_lost_after_round_1_is_said_in_the_log(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A site cannot tell it from one that was never there."""
    Sum(settings, name(settings)).shared().masked().agreed().revealed()
    Sum(settings, name(settings, round_number=2)).shared().masked()
    assert RECORD_NAME not in caplog.text
    (tmp_path / "clients" / "0" / RECORD_NAME).unlink()
    Sum(settings, name(settings, round_number=2)).shared().masked()
    (said,) = [text for text in caplog.messages if RECORD_NAME in text]
    assert said.startswith("round 2: secure-unmasked.json is not in the state folder") and "restore the file" in said


def test_a_sum_cannot_change_its_kind_on_the_way(settings: Settings) -> None:
    """Else a round would be noted as another one."""
    under_way = Sum(settings, name(settings)).shared()
    under_way.name = statistics_name(settings, "run")
    with pytest.raises(FederationError, match="another secure sum is under way"):
        under_way.masked()


def record(tmp_path: Path, names: list[SumName], sites: list[int]) -> UnmaskingRecord:
    kept = UnmaskingRecord(tmp_path, Unsigned())
    for one in names:
        kept.add(0, one, "" if one.kind is Kind.STATISTICS else one.digest, sites)
    return kept


def test_the_record_grows_to_a_limit_and_keeps_the_statistics(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unmasking_record, "_NUM_KEPT", 7)
    rounds = [
        SumName(session="s", run_id="r", kind=Kind.TRAIN, round_number=n, digest=f"{n:064d}") for n in range(1, 10)
    ]
    rounds = [SumName(**{**_fields(one), "digest": f"{one.round_number:032d}" + "0" * 32}) for one in rounds]
    kept = record(tmp_path, [statistics_name(settings, "a"), *rounds], [0, 1, 2])
    assert len(json.loads((tmp_path / RECORD_NAME).read_text())) == 7
    for known in (statistics_name(settings, "b"), *rounds[-3:]):
        with pytest.raises(SpentSumError):
            kept.check(0, known, "", [0, 1, 3], is_final=True)
    kept.check(0, rounds[0], rounds[0].digest, [0, 1, 3], is_final=True)


def _fields(one: SumName) -> dict[str, object]:
    return {field: getattr(one, field) for field in one.__slots__}


def test_a_record_that_cannot_be_read_stops_the_site(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / RECORD_NAME).write_text("{")
    with pytest.raises(ConfigError, match=r"secure-unmasked.json cannot be read \(JSONDecodeError\); restore it"):
        UnmaskingRecord(tmp_path, Unsigned()).check(0, statistics_name(settings, "a"), "", [0, 1, 2], is_final=False)


@pytest.mark.parametrize("kind", list(Kind))
def test_another_holder_of_an_id_makes_another_set(settings: Settings, tmp_path: Path, kind: Kind) -> None:
    """Partition 2 is another person's since; whoever knows the new one's part could subtract the old one's."""
    before, after = (NodeKeys.read(keys / "site-1.key", keys, 0) for keys in exchanged_keys(tmp_path))
    one = statistics_name(settings, "a") if kind is Kind.STATISTICS else name(settings)
    UnmaskingRecord(tmp_path, before).add(0, one, "start", [0, 1, 2])
    UnmaskingRecord(tmp_path, before).add(0, one, "start", [0, 1, 2])
    today = UnmaskingRecord(tmp_path, after)
    for is_final in (False, True):
        with pytest.raises(SpentSumError, match=r"over sites \[0, 1, 2\], and one of them had another key then"):
            today.check(0, one, "start", [0, 1, 2], is_final=is_final)
    with pytest.raises(SpentSumError, match="another key"):
        today.add(0, one, "start", [0, 1, 2])


def test_a_record_without_keys_goes_on_by_ids_and_takes_the_keys_on(settings: Settings, tmp_path: Path) -> None:
    before, after = (NodeKeys.read(keys / "site-1.key", keys, 0) for keys in exchanged_keys(tmp_path))
    record(tmp_path, [statistics_name(settings, "a")], [0, 1, 2])
    assert json.loads((tmp_path / RECORD_NAME).read_text()) == {"statistics": [0, 1, 2]}
    with pytest.raises(SpentSumError):
        UnmaskingRecord(tmp_path, before).check(0, statistics_name(settings, "b"), "", [0, 1], is_final=True)
    UnmaskingRecord(tmp_path, before).add(0, name(settings), "start", [0, 1])  # any other sum
    known = json.loads((tmp_path / RECORD_NAME).read_text())["statistics"]
    assert known == {"sites": [0, 1, 2], "keys": before.fingerprint([2, 1, 0])}
    with pytest.raises(SpentSumError, match="another key"):
        UnmaskingRecord(tmp_path, after).check(0, statistics_name(settings, "b"), "", [0, 1, 2], is_final=True)


def exchanged_keys(tmp_path: Path) -> tuple[Path, Path]:
    """Folders with the keys of three sites; in the second the last one's is another."""
    first, second = write_node_keys(tmp_path / "keys", 3), tmp_path / "keys-of-today"
    shutil.copytree(first, second)
    new = write_node_keys(tmp_path / "new", 1)
    (new / "site-1.pub").rename(second / "site-3.pub")
    return first, second


# --- keys of a deployed site ----------------------------------------------------------------------------------------


def deployed(dataset: Path, tmp_path: Path, settings: Settings, keys: dict[str, str]) -> FedReenactClient:
    config = deployed_config(dataset, tmp_path, 0, settings) | keys
    return FedReenactClient(Context(1, 1, config, RecordDict(), settings.to_flat()))


def begin(site: FedReenactClient, settings: Settings) -> Arrays:
    return site.fit([], {"phase": Phase.KEYS.value, **name(settings).to_flat()})[0]


def test_a_deployed_site_without_keys_takes_no_part(dataset: Path, tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(FederationError, match="secure-aggregation needs node-key, this site's private key, and site-k"):
        begin(deployed(dataset, tmp_path, settings, {}), settings)


def test_a_key_that_is_not_pinned_as_its_own_is_an_error(dataset: Path, tmp_path: Path, settings: Settings) -> None:
    keys = write_node_keys(tmp_path / "keys", 3)
    wrong = {**key_config(keys, 0), "node-key": str(keys / "site-2.key")}
    with pytest.raises(FederationError, match=r"site-1.pub in site-keys is not there, or not of this site's node-key"):
        begin(deployed(dataset, tmp_path, settings, wrong), settings)
    (keys / "site-3.pub").write_text("ssh-rsa nonsense")
    with pytest.raises(FederationError, match=r"site-3.pub in site-keys is no public key that can be read \(ValueErr"):
        begin(deployed(dataset, tmp_path, settings, key_config(keys, 0)), settings)
    lost = {**key_config(keys, 0), "node-key": str(keys / "none.key")}
    with pytest.raises(FederationError, match=r"node-key is no private key that can be read \(No such file"):
        begin(deployed(dataset, tmp_path, settings, lost), settings)


def test_a_deployed_site_names_keys_that_their_site_did_not_sign(
    dataset: Path, tmp_path: Path, settings: Settings
) -> None:
    """The server puts keys of its own in the place of site 2's; site 3 is not pinned."""
    from federation.secure_sum.masking import SiteSum

    keys = write_node_keys(tmp_path / "keys", 3)
    site = deployed(dataset, tmp_path, settings, key_config(keys, 0))
    text = str(name(settings))
    others = {n: SiteSum.begin(n, text, 3) for n in (1, 2, 3)}
    signers = {n: NodeKeys.read(keys / f"site-{n + 1}.key", keys, n) for n in (0, 1, 2)}
    sent = [begin(site, settings)] + [list(others[n].advertise(signers[min(n, 2)])) for n in (1, 2, 3)]
    forged = SiteSum.begin(2, text, 3).public_keys()
    sent[2][0] = forged
    arrays = [np.arange(4), np.stack([keys_2B for keys_2B, _ in sent]), np.stack([s for _, s in sent])]
    answer, _, _ = site.fit(arrays, {"phase": Phase.SHARES.value, **name(settings).to_flat()})
    assert [array.tolist() for array in answer] == [[2, 3]]
