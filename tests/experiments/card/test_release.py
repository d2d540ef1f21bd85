"""Promises of experiments.card.release."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from cli import entry as cli
from data_partition.consent.releases import RELEASES_NAME, read_releases
from data_partition.consent.withdrawal import mark_withdrawn
from data_partition.shards.images import read_image
from deploy.files import TOP
from experiments.card.card import CardRequest, read_card
from experiments.card.release import release_run
from federation.settings import MEANINGS, PLACES, Settings
from model.checkpoint import Checkpoint, load_checkpoint
from model.designs.registry import design_of
from model.errors import CheckpointError, ConfigError
from reenact.exported.export import export
from reenact.guidance_choice import Guidance
from reenact.marks.manifest import read_manifest
from reenact.reenactor import Reenactor
from tests.experiments.card.conftest import PEOPLE
from tests.experiments.card.conftest import PLACES as FOLDERS
from tests.support.consents import consent_of
from tests.support.shards import write_random_shard
from tests.support.small_face import small_face

FILES = ["LICENSE", "README.md", "SHA256SUMS", "checkpoint.json", "settings.toml", "weights.safetensors"]


def _drawn(checkpoint: Checkpoint, identity: str, guidance: Guidance) -> np.ndarray:
    reenactor = Reenactor(checkpoint, torch.device("cpu"))
    drawing, _ = reenactor.draw_pair(small_face(0, identity), small_face(1), guidance)
    return drawing.result


@pytest.mark.integration
def test_a_release_has_all_that_drawing_needs_and_draws_the_same(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "release"
    release_run(CardRequest(run=trained), out)
    assert sorted(file.name for file in out.iterdir()) == FILES
    run, public = load_checkpoint(trained), load_checkpoint(out)
    assert public.identities == ["identity-0", "identity-1"] and run.ema_tensors and not public.ema_tensors
    for guidance in (Guidance.LGAN, Guidance.LST):
        ours = [_drawn(public, name, guidance) for name in public.identities]
        assert np.array_equal(ours, [_drawn(run, name, guidance) for name in run.identities])
    weights = {Reenactor(one, torch.device("cpu")).weights_sha256() for one in (run, public)}
    assert weights == {read_card(CardRequest(run=trained)).weights_sha256}
    assert weights.pop() in (out / "README.md").read_text()


def _reenacted(model: Path, frames: Path, out: Path) -> np.ndarray:
    """What another process, which knows nothing but its arguments, draws of a stranger."""
    command = [sys.executable, "-m", "cli.entry", "reenact", str(model), "--out", str(out), "--landmarks", "lst"]
    inputs = ["--source", str(frames / "000000.jpg"), "--driving", str(frames / "000001.jpg")]
    subprocess.run([*command, *inputs], cwd=TOP, check=True, capture_output=True)
    return read_image(out).astype(int)


@pytest.mark.integration
def test_a_release_with_onnx_is_checked_and_drawn_from_anywhere_as_the_run_draws(trained: Path, tmp_path: Path) -> None:
    graph, elsewhere = tmp_path / "export.onnx", tmp_path / "downloads" / "model"
    export(trained, graph)
    release_run(CardRequest(run=trained), tmp_path / "release", graph)
    elsewhere.parent.mkdir()
    shutil.move(tmp_path / "release", elsewhere)
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=elsewhere, check=True, capture_output=True)
    card = (elsewhere / "README.md").read_text()
    assert "- onnx" in card and "MODEL/model.onnx" in card
    stranger = write_random_shard(tmp_path, "stranger", num_frames=2, seed=9, consent=consent_of("stranger"))
    models = {"run": trained, "release": elsewhere, "onnx": elsewhere / "model.onnx"}
    drawn = {
        name: _reenacted(model, stranger.path / "frames", tmp_path / f"{name}.png") for name, model in models.items()
    }
    np.testing.assert_array_equal(drawn["release"], drawn["run"])
    assert np.abs(drawn["onnx"] - drawn["run"]).max() <= 3  # of a pixel's 1, enlarged
    shown = [read_manifest(tmp_path / f"{name}.png") for name in models]
    assert {one.made_of["model_sha256"] for one in shown if one} == {read_card(CardRequest(run=trained)).weights_sha256}


def test_nothing_in_a_release_names_people_places_or_losses(trained: Path, evaluation: Path, tmp_path: Path) -> None:
    out = tmp_path / "release"
    with pytest.raises(SystemExit) as ended:
        cli.main(["release", str(trained), str(out), "--evaluation", str(evaluation)])
    assert not ended.value.code
    secrets = [*PEOPLE, *FOLDERS, str(trained.parent), str(evaluation), "drawer 17", "Clinic of Bath", "2026-014"]
    for file in out.iterdir():
        content = file.read_bytes().lower()
        assert [secret for secret in secrets if secret.lower().encode() in content] == [], file.name
    assert json.loads((out / "checkpoint.json").read_text())["loss_window"] == []
    assert load_checkpoint(trained).loss_window


def test_discriminators_are_not_handed_on(trained: Path, tmp_path: Path) -> None:
    release_run(CardRequest(run=trained), tmp_path / "release")
    with safe_open(tmp_path / "release" / "weights.safetensors", "np") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    phase = design_of("glr").phase_of
    judging = [name for name in arrays if phase(name.removeprefix("model/")) == "discriminator"]
    assert judging and not any(arrays[name].any() for name in judging)
    assert any(arrays[name].any() for name in arrays if name not in judging)


def test_settings_that_are_left_out_are_all_that_name_places() -> None:
    texts = {key for key, value in Settings().to_flat().items() if isinstance(value, str)}
    free = {key for key in texts if not MEANINGS[key].choices}
    assert free - set(PLACES) == {"device"} and set(PLACES) < free


def test_checksums_are_of_every_file_as_sha256sum_reads_them(trained: Path, tmp_path: Path) -> None:
    graph = tmp_path / "any.onnx"
    graph.write_bytes(b"\x08" + read_card(CardRequest(run=trained)).weights_sha256.encode())
    out = tmp_path / "release"
    release_run(CardRequest(run=trained), out, graph)
    assert (out / "model.onnx").read_bytes() == graph.read_bytes()
    sums = dict(reversed(line.split("  ")) for line in (out / "SHA256SUMS").read_text().splitlines())  # type: ignore[misc]
    assert sorted([*sums, "SHA256SUMS"]) == sorted([*FILES, "model.onnx"])
    assert all(hashlib.sha256((out / name).read_bytes()).hexdigest() == digest for name, digest in sums.items())


def test_an_onnx_file_of_another_model_or_with_places_is_refused(trained: Path, tmp_path: Path) -> None:
    graph = tmp_path / "any.onnx"
    weights = read_card(CardRequest(run=trained)).weights_sha256
    for content, words in ((b"0" * 64, "export this checkpoint"), (f"{weights}{trained}".encode(), "names /.*without")):
        graph.write_bytes(content)
        with pytest.raises(ConfigError, match=f"--onnx .*{words}"):
            release_run(CardRequest(run=trained), tmp_path / "release", graph)
    assert not list(tmp_path.glob("release*"))


def test_a_release_is_whole_or_not_there(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "release.partial").mkdir()
    (tmp_path / "release.partial" / "left-over").touch()
    with monkeypatch.context() as patch:
        patch.setattr("experiments.card.release.TOP", tmp_path)  # has no LICENSE
        with pytest.raises(OSError, match="LICENSE"):
            release_run(CardRequest(run=trained), tmp_path / "release")
    assert not list(tmp_path.glob("release*"))
    release_run(CardRequest(run=trained), tmp_path / "release")
    assert sorted(file.name for file in (tmp_path / "release").iterdir()) == FILES
    with pytest.raises(ConfigError, match="is there already"):
        release_run(CardRequest(run=trained), tmp_path / "release")


def test_who_is_who_stands_beside_the_run_for_its_user_alone(trained: Path, tmp_path: Path) -> None:
    made = release_run(CardRequest(run=trained / "round-000002"), tmp_path / "release")
    path = trained / RELEASES_NAME
    assert read_releases(path)[-1] == made and path.stat().st_mode & 0o077 == 0
    assert made.people == {"identity-0": PEOPLE[0], "identity-1": PEOPLE[1]}
    assert made.folder == tmp_path / "release"


def test_a_run_that_somebody_withdrew_from_is_not_released(trained: Path, tmp_path: Path) -> None:
    checkpoint = trained / "round-000002"
    copy = tmp_path / "round-000002"
    copy.mkdir()
    for file in checkpoint.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    mark_withdrawn(copy, PEOPLE[0])
    with pytest.raises(CheckpointError, match="who withdrew"):
        release_run(CardRequest(run=copy), tmp_path / "release")
