"""Promises of experiments.card.card."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from cli import entry as cli
from data_partition.consent.kinds import Role
from data_partition.consent.withdrawal import mark_withdrawn
from deploy.files import PRESETS
from experiments.audit.files import Audit, write_audit
from experiments.audit.section import Figure, Section
from experiments.card.card import CardRequest, nearest_preset, read_card, render_card
from federation.settings import Settings, read_preset
from model.checkpoint import load_checkpoint, save_checkpoint
from model.errors import CheckpointError, ConfigError, DataError
from model.version import own_version
from server.run_folder.history import append_row
from server.run_folder.record import RunRecord
from tests.experiments.card.conftest import PEOPLE, PLACES
from tests.support.consents import DAY, TODAY, consent_of
from tests.support.rows import round_row
from tests.support.shards import write_random_shard
from tests.support.small_face import small_checkpoint


def _card(run: Path, **more: object) -> str:
    return render_card(read_card(CardRequest(run=run, **more)))  # type: ignore[arg-type]


def _split(card: str) -> tuple[dict, str]:
    """Front matter and body."""
    empty, front, body = card.split("---\n", 2)
    assert empty == ""
    return yaml.safe_load(front), body


def _audit(weights_sha256: str) -> Audit:
    figures = {
        "Frames, the loss: area under the curve": Figure(value=0.631, low=0.565, high=0.685, chance=0.5),
        "one site's update: dB above the guess": Figure(value=0.3, low=0.0, high=0.8, chance=0),
        "one site's update: SSIM": Figure(value=0.98, low=0.97, high=0.99, chance=0),
    }
    sections = (
        Section(title="Frames", text=(f"{PEOPLE[0]} stands out",), figures=figures),
        Section(title="People", text=(), not_measured=(f"nobody beside {PEOPLE[0]}",)),
    )
    head = (f"Round 2 of {PLACES[1]}, trained on {PEOPLE[0]}",)
    return Audit(name=PLACES[1], weights_sha256=weights_sha256, head=head, sections=sections, charts={})


def test_the_front_matter_is_yaml_that_the_hub_takes(trained: Path, evaluation: Path) -> None:
    front, _ = _split(_card(trained, evaluations=(evaluation,)))
    assert front["license"] == "apache-2.0" and front["library_name"] == "fedreenact"
    assert front["pipeline_tag"] == "image-to-video" and front["datasets"] == []
    assert "federated-learning" in front["tags"] and front["metrics"] == ["psnr_db", "csim"]
    ((model,), title) = front["model-index"], "Self: source and driving frame of one clip, both held out"
    (result,) = model["results"]
    assert model["name"] == "fedreenact-glr-32px"
    assert result["task"]["type"] == "image-to-video"
    assert result["dataset"] == {"type": "private", "name": title, "split": "test"}
    assert result["metrics"] == [
        {"type": "psnr_db", "name": "PSNR, dB", "value": 22.5},
        {"type": "csim", "name": "CSIM (SFace)", "value": 0.5},
    ]
    assert "may withdraw" in front["extra_gated_prompt"]
    assert set(front["extra_gated_fields"].values()) == {"text", "checkbox"}


def test_without_measurements_the_card_says_so_with_the_commands(trained: Path) -> None:
    front, body = _split(_card(trained))
    assert front["metrics"] == [] and "model-index" not in front
    assert "Not measured. `fedreenact evaluate RUN DATASET --out RESULTS`" in body
    assert "What attacks find was not measured. `fedreenact audit RUN DATASET`" in body


def test_people_are_there_with_what_they_agreed_to_and_without_names_and_evidence(trained: Path) -> None:
    card = _card(trained)
    ends = [TODAY + years * 365 * DAY for years in (1, 2)]
    for index, end in enumerate(ends):
        purpose = f"a portrait of identity-{index} &lt;b&gt;for&lt;/b&gt; a \\| museum in Bath"
        row = f"| identity-{index} | source, driving, training | {purpose} | visitors | advertising | {end} |"
        assert row in card
    assert f"**The first consent ends on {ends[0]}" in card
    for secret in (*PEOPLE, *PLACES, "drawer 17", "Clinic of Bath", "2026-014", str(trained.parent)):
        assert secret.lower() not in card.lower()


def test_data_and_training_are_told(trained: Path) -> None:
    card = _card(trained)
    for row in (
        "| people | 2 |",
        "| sites | 1 |",
        "| frames trained on | 54 |",
        "| clips | 2 |",
        "| frames held out | 6 |",
        "| rounds | 2 |",
        "| optimiser steps, all sites together | 4 |",
        "| pairs of frames seen | 8 |",
        "| differential privacy | none |",
        f"| trained by | fedreenact {own_version()} |",
    ):
        assert row in card
    assert "all frames in one place" in card and "`local-steps = 2`" in card


def test_results_stand_beside_copying_and_the_audit_beside_chance(trained: Path, evaluation: Path, tmp_path) -> None:
    weights = read_card(CardRequest(run=trained)).weights_sha256
    write_audit(tmp_path / "audit", _audit(weights))
    card = _card(trained, evaluations=(evaluation,), audit=tmp_path / "audit")
    assert "| PSNR, dB ↑ | 22.50 [21.50, 23.50] | 20.00 [19.00, 21.00] |" in card
    assert "L1" not in card and "23.00" not in card.replace("23.50", "")
    assert "| Frames, the loss: area under the curve | 0.63 [0.56, 0.69] | 0.50 |" in card
    assert "dB above the guess | 0.30 [0.00, 0.80] | 0.00 |" in card and "update: SSIM" not in card
    assert "| People | not measurable |  |" in card and PEOPLE[0] not in card and PLACES[1] not in card


def test_measurements_of_another_model_are_refused(trained: Path, evaluation: Path, tmp_path: Path) -> None:
    figures = json.loads((evaluation / "metrics.json").read_text())
    for change in ({"round": 1}, {"weights_sha256": "0" * 64}):
        (evaluation / "metrics.json").write_text(json.dumps(figures | change))
        with pytest.raises(ConfigError, match="--evaluation .*evaluate this checkpoint"):
            _card(trained, evaluations=(evaluation,))
    for weights in ("0" * 64, ""):
        write_audit(tmp_path / "audit", _audit(weights))
        with pytest.raises(ConfigError, match="--audit .*audit this checkpoint"):
            _card(trained, audit=tmp_path / "audit")
    with pytest.raises(ConfigError, match=r"--audit .*no audit\.json"):
        _card(trained, audit=tmp_path)


def test_a_run_that_somebody_withdrew_from_has_no_card(trained: Path, tmp_path: Path, capsys) -> None:
    run = save_checkpoint(tmp_path / "run", small_checkpoint()).parent
    mark_withdrawn(run, "ana")
    with pytest.raises(CheckpointError, match="learnt ana"):
        _card(run)
    with pytest.raises(SystemExit):
        cli.main(["card", str(run), "--out", str(tmp_path / "card.md")])
    assert "learnt ana" in capsys.readouterr().err and not (tmp_path / "card.md").exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"revoked": TODAY}, "was revoked"),
        ({"expires": TODAY - DAY}, "expired on"),
        ({"roles": (Role.SOURCE,)}, "not for training"),
    ],
)
def test_consent_that_does_not_hold_is_refused(trained: Path, tmp_path: Path, changes: dict, reason: str) -> None:
    write_random_shard(tmp_path, PEOPLE[1], num_frames=10, consent=consent_of(PEOPLE[1], **changes))
    with pytest.raises(DataError, match=f"{PEOPLE[1]}: consent .* {reason}.*not handed on"):
        _card(trained, dataset=tmp_path)


def test_a_record_that_is_not_here_is_said_not_to_be(trained: Path, tmp_path: Path) -> None:
    write_random_shard(tmp_path, PEOPLE[1], num_frames=10, consent=consent_of(PEOPLE[1]))
    write_random_shard(tmp_path, "somebody else", num_frames=10, consent=consent_of("x", revoked=TODAY))
    card = _card(trained, dataset=tmp_path)
    assert "| identity-0 | its record is not on the machine" in card and "| identity-1 | source, driving" in card
    assert "| clips |" not in card and "not at hand" in card
    with pytest.raises(DataError, match="has nobody of the run"):
        _card(trained, dataset=tmp_path / "somebody else")


def test_clips_are_counted_of_the_frames_that_were_trained_on_alone(trained: Path, tmp_path: Path) -> None:
    for index, person in enumerate(PEOPLE):
        write_random_shard(tmp_path / "same", person, num_frames=30, seed=index)
        write_random_shard(tmp_path / "others", person, num_frames=30, seed=9)
    assert "| clips | 2 |" in _card(trained, dataset=tmp_path / "same")
    assert "| clips |" not in _card(trained, dataset=tmp_path / "others")


def test_drawn_people_are_said_to_be_nobody(trained: Path, tmp_path: Path) -> None:
    for person in PEOPLE:
        write_random_shard(tmp_path, person, num_frames=10)
    card = _card(trained, dataset=tmp_path)
    front, body = _split(card)
    assert "the people are drawn" in body and "| no end |" in body and "first consent" not in card
    assert "withdraw" not in front["extra_gated_prompt"]


def test_of_a_deployed_federation_the_card_tells_what_its_server_knows(tmp_path: Path) -> None:
    run = save_checkpoint(tmp_path / "run", small_checkpoint()).parent
    RunRecord(run_id="0").write(run)
    clients = {site: {"num_steps": 5.0, "num_examples": 10 + site} for site in (0, 1)}
    for number in (1, 2):  # the second has no checkpoint yet
        append_row(run, round_row(number, clients=clients, metrics={"dp_epsilon": 77.04 * number, "dp_delta": 1e-5}))
    card = _card(run)
    assert "2 sites trained on their own frames" in card and "No frame left its site" in card
    for row in (
        "| frames trained on | 21 |",
        "| optimiser steps, all sites together | 10 |",
        "| differential privacy | epsilon 77, delta 1e-05 a person |",
        "| identity-1 | its record is not on the machine that wrote this card |",
    ):
        assert row in card
    assert not re.search(r"\bana\b|\bben\b", card) and "trained by |" not in card


def test_the_nearest_preset_is_named_with_the_differences() -> None:
    settings = Settings.from_flat(read_preset(PRESETS / "small.toml")).replaced(
        {"max-rounds": 7, "num-clients": 3, "min-fit-clients": 3, "num-identities": 3, "data-dir": "/x"}
    )
    assert nearest_preset(settings) == ("small", {"max-rounds": 7})


def test_the_command_writes_beside_the_checkpoints(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["card", str(trained / "round-000002")])
    assert not ended.value.code and (trained / "card.md").read_text().startswith("---\nlicense: apache-2.0\n")
    assert load_checkpoint(trained).round == 2
