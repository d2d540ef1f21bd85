from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from data_partition.shards.shard import open_dataset
from data_partition.shards.writer import record_consent
from deploy.files import PRESETS
from evaluation.pairs import Protocol
from experiments import cells
from experiments.cells import Budget, cell_of, fingerprint
from experiments.command import TABLES, experiment_request
from experiments.experiment import EvaluationTask, ExperimentRequest, plan, run_experiment
from experiments.table import ModelRow, in_mode, with_backbone
from federation.settings import Settings, read_preset
from model.errors import ConfigError, DataError
from model.setting import Scalar
from model.version import own_version
from reenact.guidance_choice import Guidance, MotionKind
from server.run_folder.folder import write_settings
from server.run_folder.record import RunRecord
from server.training import Mode, train
from tests.support.consents import consent_of
from tests.support.federated_setup import minimal_settings, write_dataset
from tests.support.shards import write_random_shard

LANDMARK_ROWS = ("ViT", "ViT+LSt", "ViT+LGAN")


def asked(table: str, settings: Settings, out: Path, **changes: object) -> ExperimentRequest:
    """One seed of it from one source, as the thesis has it, but for the changes."""
    usual = {"num_seeds": 1, "num_steps": 0, "num_pairs": 1, "num_sources": 1}
    usual |= {"unseen": None, "backbone": "", "mode": "", "embedder": "sface"}
    return experiment_request(table, settings, out=out, **usual | changes)  # type: ignore[arg-type]


def dataset_of(*names: str, folder: Path, has_mesh: bool = False, is_test: bool | None = None) -> Path:
    """Twenty frames of each."""
    for name in names:
        write_random_shard(folder, name, num_frames=20, has_mesh=has_mesh, is_test=is_test)
    return folder


@pytest.fixture
def request_(tmp_path: Path) -> ExperimentRequest:
    dataset = write_dataset(tmp_path / "dataset", 2)
    settings = minimal_settings(dataset, Path("/unused"), 2, local_steps=1, generator_channels=8)
    return asked("table-4-5", settings, tmp_path / "out", num_seeds=2, num_steps=4, backbone="vit")


class Desk:
    """Trains for real and writes evaluations with values that can be followed."""

    def __init__(self) -> None:
        self.trained: list[int] = []
        self.evaluated: list[str] = []
        self.num_sources: list[int] = []

    def train(self, mode: Mode, settings: Settings) -> None:
        self.trained.append(settings.rounds.seed)
        train(mode, settings)

    def evaluate(self, task: EvaluationTask) -> None:
        self.evaluated.append(f"{task.guidance}")
        self.num_sources.append(task.num_sources)
        value = 0.5 + 0.1 * (len(self.evaluated) % 2)
        figures = {key: {"name": key.upper(), "value": value} for key in ("csim", "prmse_deg", "aucon")}
        somebody = {"csim": {"name": "CSIM", "value": 99.0}}
        rows = [{"identity": "all", "of_everybody": False, "method": "model", "metrics": somebody}]  # a person's name
        rows += [
            {"identity": "all", "of_everybody": True, "method": name, "metrics": figures}
            for name in ("model", "copy-source")
        ]
        task.out.mkdir(parents=True)
        (task.out / "metrics.json").write_text(json.dumps({"rows": rows}))


def test_rows_that_differ_in_landmarks_share_a_training_and_a_second_run_does_nothing(request_) -> None:
    desk = Desk()
    report = run_experiment(request_, train=desk.train, evaluate=desk.evaluate)
    assert desk.trained == [0, 1]
    assert desk.evaluated == ["driving", "driving", "lst", "lst", "lgan", "lgan"]
    assert [row[0] for row in report.tables[0].rows] == [*LANDMARK_ROWS, "copy-source"]
    assert report.tables[0].rows[0][1] == "0.550 ± 0.071"  # of 0.6 and 0.5
    again = Desk()
    run_experiment(request_, train=again.train, evaluate=again.evaluate)
    assert (again.trained, again.evaluated) == ([], [])


def test_rows_of_different_versions_of_the_program_are_said_below_the_table(request_) -> None:
    class Versioned(Desk):
        def evaluate(self, task: EvaluationTask) -> None:
            super().evaluate(task)
            path = task.out / "metrics.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | {"version": "0.9.1"}))

    rows = (ModelRow(label="ViT"), ModelRow(label="ViT+Style", changes={"batch-size": 1}))
    request, desk = replace(request_, table=replace(request_.table, rows=rows), seeds=(0,)), Versioned()
    report = run_experiment(request, train=desk.train, evaluate=desk.evaluate)
    assert "versions" not in report.files["Table"].read_text() and not report.note
    run = plan(request)[1].cell.run
    replace(RunRecord.read(run), version="0.9.0").write(run)
    report = run_experiment(request, train=desk.train, evaluate=desk.evaluate)
    text = report.files["Table"].read_text()
    said = text[text.index("copy-source") : text.index("as the thesis printed it")]
    now = f"ViT (trained by {own_version()}, evaluated by 0.9.1)"
    assert f"{now}; ViT+Style (trained by 0.9.0, evaluated by 0.9.1).\n" in said and report.note in said
    versions = [row["versions"] for row in json.loads(report.files["Figures"].read_text())["rows"]]
    assert versions[1] == [{"trained_by": "0.9.0", "evaluated_by": "0.9.1"}]


def test_published_numbers_stand_in_a_block_of_their_own(request_) -> None:
    desk = Desk()
    report = run_experiment(request_, train=desk.train, evaluate=desk.evaluate)
    text = report.files["Table"].read_text()
    ours, published = text.index("ours"), text.index("as the thesis printed it")
    assert ours < text.index("copy-source") < published < text.index("do not compare")
    assert "| ViT+LSt | 0.620 | 3.87 | 0.646 |" in text[published:]


def test_other_metrics_and_thirds_by_motion_stand_below_for_every_model(request_) -> None:
    class Seeing(Desk):
        def evaluate(self, task: EvaluationTask) -> None:
            super().evaluate(task)
            figures = json.loads((task.out / "metrics.json").read_text())
            for row in figures["rows"]:
                row["metrics"]["lip_gap"] = {"name": "Lip-gap slope (MediaPipe)", "value": 0.5}
            names = dict.fromkeys(("embedding", "landmarks", "pose", "action_units"), "MediaPipe")
            third = {"protocol": "cross", "third": "largest", "low_percent": 30.0, "high_percent": 50.0}
            third |= {"num_pairs": 3, "psnr_db": None, "psnr_db_of_copy": None, "csim": 0.625}
            (task.out / "metrics.json").write_text(json.dumps(figures | {"backends": names, "thirds": [third]}))

    desk = Seeing()
    _, _, further, thirds, *_ = run_experiment(request_, train=desk.train, evaluate=desk.evaluate).tables
    assert further.header == ("metric", *LANDMARK_ROWS, "copy-source", "copy-driving")
    assert further.rows == (("Lip-gap slope (MediaPipe) → 1", *["0.50 ± 0.00"] * 3, "0.50", "-"),)
    assert [row[:3] for row in thirds.rows] == [(label, "cross", "largest") for label in LANDMARK_ROWS]
    assert "0.625" in thirds.rows[0]


def test_a_table_of_several_sources_shares_the_trainings_and_has_files_of_its_own(request_) -> None:
    desk, asked = Desk(), []

    def evaluate(task: EvaluationTask) -> None:
        asked.append(task.num_sources)
        desk.evaluate(task)

    first = run_experiment(request_, train=desk.train, evaluate=desk.evaluate)
    several = replace(request_, num_sources=8)
    second = run_experiment(several, train=desk.train, evaluate=evaluate)
    assert (desk.trained, asked) == ([0, 1], [8] * 6)
    assert first.tables[0].title.endswith("(mean ± standard deviation over 2 seeds), from one source")
    assert second.tables[0].title.endswith("from 8 of 32 sources")
    assert (request_.baselines, several.baselines) == (
        ("copy-source", "copy-driving"),
        ("copy-source", "copy-nearest", "copy-driving"),
    )


def test_an_interrupted_training_goes_on(request_) -> None:
    cell = plan(request_)[0].cell
    desk = Desk()
    first_round = cell.settings.replaced({"max-rounds": 1})
    replace(cell, settings=first_round).train(desk.train)
    (cell.run / "result.json").unlink()  # as if the process had died before its last round
    assert not cell.is_trained
    cell.train(desk.train)
    assert cell.spent() == (4, 8)
    assert cell.is_trained


def test_every_mode_spends_the_same_steps_and_keeps_its_schedule_in_proportion(tmp_path: Path) -> None:
    schedule = {"adversarial_from_step": 20, "adversarial_lead_steps": 4, "adversarial_ramp_steps": 3}
    schedule |= {"flow_warmup_steps": 2, "decay_from_step": 30, "decay_halving_steps": 6}
    settings = minimal_settings(tmp_path, tmp_path, 5, local_steps=10, **schedule)
    budget = Budget(num_steps=200)
    federated, centralized = (budget.apply(settings, mode) for mode in (Mode.FEDERATED, Mode.CENTRALIZED))
    assert federated.rounds.max_rounds * federated.rounds.local_steps * 5 == 200
    assert centralized.rounds.max_rounds * centralized.rounds.local_steps == 200
    flat = centralized.to_flat()
    assert {name: flat[name.replace("_", "-")] for name in schedule} == {name: 5 * n for name, n in schedule.items()}
    with pytest.raises(ConfigError, match="--budget 49: one round is 10 local steps at 5 sites; wanted at least 50"):
        Budget(num_steps=49).apply(settings, Mode.FEDERATED)


def test_cell_changes_with_what_it_depends_on_and_with_nothing_else(request_, tmp_path: Path) -> None:
    row = request_.table.rows[0]

    def key(row: ModelRow = row, seed: int = 0, **changes: object) -> str:
        settings = request_.settings.replaced(changes)  # type: ignore[arg-type]
        return cell_of(row, settings, request_.budget, seed=seed, folder=tmp_path).folder.name

    assert key() == key(**{"num-threads": 2})
    assert len({key(), key(seed=1), key(**{"batch-size": 3}), key(replace(row, mode=Mode.FEDERATED))}) == 4
    shards = open_dataset(tmp_path / "dataset")
    before = fingerprint(shards)
    record_consent(shards[0].path, consent_of(shards[0].identity))
    assert fingerprint(open_dataset(tmp_path / "dataset")) == before
    write_random_shard(tmp_path / "dataset", "zoe", num_frames=10)
    assert fingerprint(open_dataset(tmp_path / "dataset")) != before


def test_a_training_is_shared_by_rows_that_differ_in_what_its_network_does_not_know(request_, tmp_path: Path) -> None:
    def keys(row: ModelRow) -> list[str]:
        changes: list[dict[str, Scalar]] = [{}, {"backbone": "resnet34", "use-style": False}, {"face-motion": "spline"}]
        cells = [
            cell_of(row, request_.settings.replaced(change), request_.budget, seed=0, folder=tmp_path)
            for change in changes
        ]
        return [cell.folder.name for cell in cells]

    for network in ("x2face", "fomm", "monkeynet", "neuralhead", "marionette", "meshgcn"):
        assert len(set(keys(ModelRow(label=network, changes={"network": network})))) == 1
    assert len(set(keys(ModelRow(label="GLR", changes={"network": "glr"})))) == 3


def test_a_new_setting_at_its_default_names_no_training_anew(request_, tmp_path: Path, monkeypatch) -> None:
    def key() -> str:
        return cell_of(request_.table.rows[0], request_.settings, request_.budget, seed=0, folder=tmp_path).folder.name

    with_it, meaning = key(), cells.MEANINGS["motion-jitter"]
    monkeypatch.setitem(cells.MEANINGS, "motion-jitter", replace(meaning, shapes_result=False))  # as if there was none
    assert key() == with_it


def test_a_training_that_was_begun_with_another_default_is_refused_before_anything_is_trained(request_) -> None:
    cell = plan(request_)[0].cell
    before = cell.settings.replaced({"adam-beta2": 0.99, "output-dir": str(cell.run), "num-threads": 2})
    write_settings(before)
    with pytest.raises(ConfigError, match=r"/run: begun with other settings: adam-beta2 was 0\.99, now 0\.999; put th"):
        plan(request_)
    write_settings(before.replaced({"adam-beta2": 0.999}))
    assert plan(request_)[0].cell == cell


def test_meshes_change_the_trainings_of_networks_that_look_at_them_alone(request_, tmp_path: Path) -> None:
    settings = request_.settings

    def keys(dataset: Path) -> list[str]:
        of_dataset = settings.replaced({"data-dir": str(dataset)})
        names = []
        for network in ("glr", "x2face", "meshgcn"):
            row = ModelRow(label=network, changes={"network": network})
            cell = cell_of(row, of_dataset, request_.budget, seed=0, folder=Path())
            names.append(cell.evaluation(Protocol.CROSS, Guidance.AUTO, MotionKind.ABSOLUTE, 1, 1, dataset))
        return names

    with_meshes, without = (
        keys(dataset_of("zoe", "yan", folder=tmp_path / f"{has_mesh}", has_mesh=has_mesh)) for has_mesh in (True, False)
    )
    assert [one == other for one, other in zip(with_meshes, without, strict=True)] == [True, True, False]


@pytest.mark.parametrize("preset", sorted(PRESETS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_table_can_be_planned_with_every_preset(tmp_path: Path, preset: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", 2, has_mesh=True)
    others = dataset_of("zoe", "yan", folder=tmp_path / "others", has_mesh=True)
    settings = Settings.from_flat(read_preset(preset)).replaced({"data-dir": str(dataset)})
    for name, table in TABLES.items():
        request = asked(name, settings, tmp_path, unseen=others if table.unseen_protocol else None)
        labels = {label for item in plan(request) for label in item.labels}
        assert labels == {row.label for row in table.rows}


def test_a_row_without_flow_draws_from_one_source_and_others_from_as_many_as_the_preset_says(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", 2)
    settings = Settings.from_flat(read_preset(PRESETS / "tiny.toml")).replaced({"data-dir": str(dataset)})
    cells = {label: item.cell for item in plan(asked("table-4-6", settings, tmp_path)) for label in item.labels}
    cells |= {label: item.cell for item in plan(asked("table-4-4", settings, tmp_path)) for label in item.labels}
    model = cells["Style"].settings.model
    assert (model.use_flow, model.use_landmark_flow, model.num_sources) == (False, False, 1)
    # What X2Face does not know either, so that a row of one table changes no training of another.
    assert {cells[label].settings.model.num_sources for label in ("ViT", "ViT+Style", "X2Face")} == {4}


def test_table_of_unseen_people_asks_for_them(request_) -> None:
    with pytest.raises(ConfigError, match="--unseen"):
        plan(replace(request_, table=TABLES["table-4-3"], name="table-4-3"))


def test_self_reenactment_can_be_of_unseen_people_as_in_the_thesis(request_, tmp_path: Path) -> None:
    others, settings = dataset_of("zoe", "yan", folder=tmp_path / "others"), request_.settings
    unseen = asked("table-4-2", settings, tmp_path, num_steps=4, unseen=others)
    assert (unseen.name, unseen.table.protocol) == ("table-4-2-unseen", Protocol.SELF_UNSEEN)
    known = asked("table-4-2", settings, tmp_path, num_steps=4)
    assert (known.name, known.table.protocol) == ("table-4-2", Protocol.SELF_ANY)
    assert "people whom the models know; the thesis' are of others" in known.note and "thesis" not in unseen.note
    assert [item.cell.folder for item in plan(unseen)] == [item.cell.folder for item in plan(known)]
    with pytest.raises(ConfigError, match=r"--unseen: 'Landmark estimation' is about people whom the models know"):
        asked("table-4-5", settings, tmp_path, num_steps=4, unseen=others)


def test_pairs_that_cannot_be_drawn_are_told_before_anything_is_trained(request_, tmp_path: Path) -> None:
    others = dataset_of("zoe", "person-0", folder=tmp_path / "others")
    with pytest.raises(DataError, match="person-0 is among those to be trained on; wanted with --unseen a dataset of"):
        plan(asked("table-4-3", request_.settings, tmp_path, num_steps=4, unseen=others))
    all_trained = dataset_of("abe", "bea", folder=tmp_path / "trained", is_test=False)
    settings = request_.settings.replaced({"data-dir": str(all_trained)})
    with pytest.raises(DataError, match="no self-any pair can be formed"):
        plan(asked("table-4-2", settings, tmp_path, num_steps=4))


def test_a_table_says_with_which_settings_its_rows_were_trained(request_) -> None:
    desk = Desk()
    report = run_experiment(request_, train=desk.train, evaluate=desk.evaluate)
    last, plain = report.tables[-1], json.loads(report.files["Figures"].read_text())
    assert ("all", "local-steps", "1") in last.rows and ("ViT", "use-style", "False") in last.rows
    assert not any(key in ("data-dir", "num-threads") for _, key, _ in last.rows)
    assert plain["settings"]["generator-channels"] == 8 and plain["rows"][0]["changes"]["backbone"] == "vit"


def test_a_table_names_its_backbone_its_unseen_people_and_the_number_of_pairs(request_, tmp_path: Path) -> None:
    others = dataset_of("zoe", "yan", folder=tmp_path / "others")
    request = asked("table-4-2", request_.settings, tmp_path, num_steps=2, num_pairs=7, unseen=others, backbone="vit")
    assert request.name == "table-4-2-unseen-vit"
    request = replace(request, table=replace(request.table, rows=request.table.rows[-1:]))
    desk = Desk()
    files = run_experiment(request, train=desk.train, evaluate=desk.evaluate).files
    plain, text = json.loads(files["Figures"].read_text()), files["Table"].read_text()
    assert (plain["unseen"], plain["num_pairs"], plain["backbone"]) == (str(others), 7, "vit")
    assert "have not seen: others.\nBackbone of every row that has its own: vit.\n" in text[: text.index("ours")]


def test_a_cell_over_fewer_seeds_than_there_are_says_so(request_) -> None:
    class Blind(Desk):
        def evaluate(self, task: EvaluationTask) -> None:
            super().evaluate(task)
            if len(self.evaluated) == 1:
                path = task.out / "metrics.json"
                path.write_text(path.read_text().replace('"value": 0.6', '"value": null'))

    desk = Blind()
    report = run_experiment(request_, train=desk.train, evaluate=desk.evaluate)
    assert report.tables[0].rows[0][1] == "0.500 (1 of 2)" and report.tables[0].rows[1][1] == "0.550 ± 0.071"


def test_measurements_by_other_analysers_are_kept_apart(request_, monkeypatch: pytest.MonkeyPatch) -> None:
    cell, dataset = plan(request_)[0].cell, Path(request_.settings.data.data_dir)

    def name(embedder: str) -> str:
        how = (Protocol.CROSS, Guidance.LST, MotionKind.ABSOLUTE, 7, 1, dataset)
        return cell.evaluation(*how, embedder=embedder).name

    mark = fingerprint(open_dataset(dataset))[:8]
    assert [name("sface"), name("arcface")] == [f"cross-lst-7-{mark}", f"cross-lst-arcface-7-{mark}"]
    monkeypatch.setattr(cells, "measures_with_vgg19", lambda: True)
    assert name("sface") == f"cross-lst-vgg19-7-{mark}"
    with pytest.raises(ConfigError, match="--embedder: got 'openface', wanted one of sface, arcface, dlib"):
        asked("table-4-5", request_.settings, request_.out, embedder="openface")


def test_hundreds_of_sites_leave_a_centralized_budget_that_can_be_run(tmp_path: Path) -> None:
    settings = minimal_settings(tmp_path, tmp_path, 1211, local_steps=100)
    centralized = Budget(num_steps=3 * 121_100).apply(settings, Mode.CENTRALIZED)
    assert (centralized.rounds.max_rounds, centralized.rounds.local_steps) == (3, 121_100)


@pytest.mark.parametrize("has_mesh", [False, True])
def test_rows_that_are_driven_by_meshes_are_left_out_where_there_are_none_and_it_is_said(
    tmp_path: Path, has_mesh: bool
) -> None:
    dataset = write_dataset(tmp_path / "dataset", 2, has_mesh=has_mesh)
    settings = minimal_settings(dataset, Path("/unused"), 2, local_steps=1, network="glr")
    request = asked("table-4-2", settings, tmp_path, num_steps=4, backbone="vit")
    assert ("Mesh Guided GCN" in [row.label for row in request.table.rows]) == has_mesh
    assert {row.label for row in request.table.rows} > {"Monkey-Net", "FirstOrder", "X2Face", "ViT"}
    assert request.note.startswith("Left out for want of face meshes: Mesh Guided GCN; `fedreenact prepare") != has_mesh


def test_a_backbone_for_all_rows_is_refused_where_no_row_has_its_own(request_) -> None:
    with pytest.raises(ConfigError, match="--set backbone=resnet34"):
        asked("ablation", request_.settings, request_.out, backbone="resnet34")


def test_every_table_has_rows_of_known_settings_and_published_values_for_each_metric() -> None:
    known = Settings().to_flat()
    for table in TABLES.values():
        assert all(row.changes.keys() <= known.keys() for row in table.rows)
        assert all(len(values) == len(table.metrics) + 1 for values in table.published)
    assert TABLES["table-4-2"].protocol is Protocol.SELF_ANY


def test_a_table_in_one_mode_trains_every_row_so_and_has_files_of_its_own(tmp_path: Path) -> None:
    settings = minimal_settings(write_dataset(tmp_path / "dataset", 2, has_mesh=True), Path("/unused"), 2)
    request = asked("table-4-2", settings, tmp_path, mode="federated")
    assert request.name == "table-4-2-federated"
    several = settings.replaced({"num-sources": 4, "use-landmark-flow": True})
    assert asked("table-4-2", several, tmp_path, num_sources=8).name == "table-4-2-k8"
    assert {item.cell.mode for item in plan(request)} == {Mode.FEDERATED}
    assert [row.label for row in request.table.rows] == [row.label for row in TABLES["table-4-2"].rows]
    labels = [row.label for row in in_mode(TABLES["table-4-7"], Mode.CENTRALIZED).rows]
    assert labels == ["ResNet+Style", "ResNet+Style+LGAN", "X2Face"]
    with pytest.raises(ConfigError, match="--mode: got 'local', wanted federated or centralized"):
        asked("table-4-2", settings, tmp_path, mode="local")


def test_each_row_of_an_ablation_is_a_training_of_its_own_and_both_tables_share_them(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", 2)
    for preset in ("tiny", "small", "studio"):
        settings = Settings.from_flat(read_preset(PRESETS / f"{preset}.toml")).replaced({"data-dir": str(dataset)})
        planned = plan(asked("ablation", settings, tmp_path))
        assert [item.labels for item in planned] == [(row.label,) for row in TABLES["ablation"].rows]
        across = plan(asked("ablation-cross", settings, tmp_path))
        assert [item.cell.folder for item in across] == [item.cell.folder for item in planned]
        whole = planned[0].cell.settings.to_flat()
        for item in planned[1:]:  # nothing but what the row names is another
            row = next(row for row in TABLES["ablation"].rows if row.label == item.labels[0])
            assert dict(item.cell.settings.to_flat().items() - whole.items()) == row.changes
    bare = Settings().replaced({"data-dir": str(dataset)})  # the thesis' own network has hardly any addition
    assert len(plan(asked("ablation", bare, tmp_path))) < len(TABLES["ablation"].rows)


def test_every_addition_of_a_preset_has_a_row_but_what_is_about_sites_or_the_machine() -> None:
    ablated = {key for row in TABLES["ablation"].rows for key in row.changes}
    others = {"server-learning-rate", "update-codec", "use-amp"}
    for preset in ("tiny", "small", "studio"):
        text = (PRESETS / f"{preset}.toml").read_text()
        beyond = tomllib.loads(text[text.index("# Beyond the thesis") :])
        retuned = {"weight-landmark-regression", "weight-lgan-adversarial", "learning-rate-discriminator"}
        assert beyond.keys() - ablated <= others | retuned


def test_rows_that_draw_from_one_source_are_left_out_of_a_table_from_eight_and_it_is_said(tmp_path: Path) -> None:
    settings = minimal_settings(write_dataset(tmp_path / "dataset", 2), Path("/unused"), 2, local_steps=1)
    several = settings.replaced({"network": "glr", "num-sources": 4, "use-landmark-flow": True})
    request = asked("ablation", several, tmp_path, num_sources=8)
    labels = {row.label for row in TABLES["ablation"].rows} - {row.label for row in request.table.rows}
    assert labels == {"without landmark motions", "trained on one source"}
    assert request.note == (
        "Left out, since they draw from one source: without landmark motions, trained on one source."
    )
    assert asked("ablation", several, tmp_path).note == ""
    compared = asked("table-4-2", several, tmp_path, num_sources=8)
    nearest = "Drawn from the nearest of those frames alone: Monkey-Net, FirstOrder, NeuralHead-FF, X2Face. "
    assert nearest in compared.note and {"X2Face", "MarioNETte"} < {row.label for row in compared.table.rows}
    with pytest.raises(ConfigError, match="--num-sources: got 8, wanted 1: these networks draw from one source"):
        asked("ablation", settings.replaced({"network": "glr", "num-sources": 1}), tmp_path, num_sources=8)


def test_relative_rows_are_drawn_from_the_pairs_own_source_however_many_a_table_draws_from(tmp_path: Path) -> None:
    settings = minimal_settings(write_dataset(tmp_path / "dataset", 2), Path("/unused"), 2, local_steps=1)
    several = settings.replaced({"num-sources": 4, "use-landmark-flow": True})
    others = dataset_of("zoe", "yan", folder=tmp_path / "others")
    request = asked("table-4-3", several, tmp_path, num_steps=2, num_sources=8, unseen=others)
    of_network = [row for row in request.table.rows if row.label.startswith("FirstOrder")]
    desk = Desk()
    request = replace(request, table=replace(request.table, rows=tuple(of_network)))
    run_experiment(request, train=desk.train, evaluate=desk.evaluate)
    assert desk.num_sources == [8, 1]
    run_experiment(replace(request, num_sources=1), train=desk.train, evaluate=desk.evaluate)
    assert desk.num_sources == [8, 1, 1]  # the relative row's is there
    assert "nearest of those frames alone: Monkey-Net, FirstOrder, NeuralHead-FF, NeuralHead-FF+LSt," in request.note
    assert "own source, from which relative motion starts: FirstOrder, relative." in request.note


def test_a_table_that_the_thesis_has_not_shows_no_printed_numbers(request_) -> None:
    desk = Desk()
    table = replace(request_.table, published=())
    report = run_experiment(replace(request_, table=table), train=desk.train, evaluate=desk.evaluate)
    assert not any("as the thesis printed it" in shown.title for shown in report.tables)
    text = report.files["Table"].read_text()
    assert "thesis" not in text and "ViT+LGAN" in text
    assert json.loads(report.files["Figures"].read_text())["published"] == []


def test_one_backbone_for_all_rows_renames_them() -> None:
    table = with_backbone(TABLES["table-4-7"], "vit")
    assert [row.label for row in table.rows] == [
        "ViT+Style (C)", "ViT+Style (F)", "ViT+Style+LGAN (C)", "ViT+Style+LGAN (F)", "X2Face",
    ]  # fmt: skip
    assert {row.changes.get("backbone") for row in table.rows} == {"vit", None}
    assert [row.label for row in with_backbone(TABLES["table-4-4"], "vit").rows] == ["X2Face", "ViT", "ViT+LGAN+Style"]
