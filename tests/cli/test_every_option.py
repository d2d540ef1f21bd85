"""Whatever stands behind an option, of any command: it works, or one line on stderr and exit code 2."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cli import entry as cli
from cli.entry import group
from cli.options import file_to_write, folder_to_write
from federation.settings import Settings
from model.checkpoint import save_checkpoint
from model.errors import ConfigError
from tests.support.shards import write_random_shard
from tests.support.small_face import small_checkpoint

COMMANDS = group().commands
WORDS = ("nonsense", "", "x" * 300, os.fsdecode(b"\xff"), "[bold]x", "a\nb", "=", "a=", "=1", "\u202ea")
NUMBERS = ("x", "", "1.5", "nan", "-1", "1" + 30 * "0")
VALUES = ("null", "[]", "{}", "nan", "1e999", "1" + 30 * "0", "-1" + 30 * "0", "[" * 5000, '"x"')


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a run, a dataset, a file and files of nonsense."""
    root = tmp_path_factory.mktemp("place")
    write_random_shard(root / "data", "ana", num_frames=2)
    save_checkpoint(root / "run", small_checkpoint())
    (root / "file").write_text("x")
    (root / "junk.bin").write_bytes(bytes(range(256)))
    (root / "empty").mkdir()
    return root


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A port that is taken, so that nobody serves."""
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        yield int(taken.getsockname()[1])


def _arguments(command: str, place: Path, port: int, option: str, value: str) -> list[str]:
    """The command's arguments with the value in its place; of inputs that take long to work on one is missing."""
    picture, new, nowhere = f"{place}/data/ana/frames/000000.jpg", f"{place}/new", f"{place}/nowhere"
    plain: dict[str, dict[str, str]] = {
        "prepare": {"src": nowhere, "out": new},
        "synth": {"out": new, "--size": "5"},
        "doctor": {"dataset": nowhere},
        "consent": {"people": nowhere},
        "withdraw": {"person": "nobody", "dataset": nowhere},
        "train": {"dataset": nowhere, "--out": new},
        "submit": {"out": new, "--preset": f"{nowhere}.toml"},  # or it waits for a SuperLink
        "register": {"keys": nowhere},
        "unregister": {"keys": nowhere},
        "deployment": {"out": f"{place}/file"},
        "reenact": {
            "checkpoint": f"{place}/run",
            "--source": picture,
            "--driving": picture,
            "--out": f"{new}.png",
            "--device": "cpu",
        },
        "export": {"run": nowhere, "out": f"{new}.onnx"},
        "serve": {"checkpoint": f"{place}/run", "--port": str(port)},
        "verify": {"file": picture},
        "key": {},
        "evaluate": {"checkpoint": nowhere, "dataset": f"{place}/data", "--out": new},
        "report": {"run": f"{place}/run", "--out": f"{new}.html"},
        "audit": {"run": nowhere, "dataset": f"{place}/data", "--out": new},
        "card": {"run": f"{place}/run"},
        "release": {"run": f"{place}/run", "out": new},
        "gap": {"first": nowhere, "second": nowhere},
        "experiment": {"table": "table-4-2", "dataset": nowhere, "--out": new},
        "demo": {"out": f"{place}/file"},
        "egress": {},
        "approve": {"settings": "tiny"},
        "status": {"run": nowhere},
        "exporter": {"runs": f"{place}/run", "--port": str(port)},
        "weights": {},
        "settings": {},
    }
    assert plain.keys() == COMMANDS.keys()
    chosen = plain[command] | {option: value}
    named = [f"{name}={text}" for name, text in chosen.items() if name.startswith("--")]
    places = [chosen[p.name] for p in COMMANDS[command].params if p.name in chosen]
    return [command, *named, "--", *places]


def _options(kind: type[click.ParamType] | tuple[type[click.ParamType], ...]) -> list[tuple[str, str]]:
    """Command and name of all its options and arguments of a kind, flags left out."""
    return [
        (command, parameter.opts[0])
        for command, made in COMMANDS.items()
        for parameter in made.params
        if isinstance(parameter.type, kind) and not getattr(parameter, "is_flag", False)
    ]


def _is_output(command: str, option: str) -> bool:
    """Whether a path is written to; `submit` names a folder of another machine."""
    return option.removeprefix("--") in ("out", "page", "preview", "frames-out", "sites-file") and command != "submit"


def _ends(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> tuple[int, str]:
    """Exit code and stderr of a command; whatever it raises besides is no way to end."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    return int(ended.value.code or 0), capsys.readouterr().err


def _require_one_line(code: int, text: str, arguments: list[str]) -> None:
    assert code in (0, 1, 2), arguments
    if code == 2:
        assert text.startswith("error: ") and text.count("\n") == 1, (arguments, text)


@pytest.mark.parametrize(("command", "option"), _options((click.types.IntParamType, click.IntRange)))
def test_a_number_out_of_range_is_refused_by_its_options_name(
    capsys: pytest.CaptureFixture[str], place: Path, port: int, command: str, option: str
) -> None:
    for value in NUMBERS:
        arguments = _arguments(command, place, port, option, value)
        code, text = _ends(capsys, arguments)
        _require_one_line(code, text, arguments)
        assert code == 2 and option in text, (arguments, text)


@pytest.mark.parametrize(("command", "option"), _options((click.types.StringParamType, click.Choice)))
def test_any_word_is_understood_or_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], place: Path, port: int, command: str, option: str
) -> None:
    for value in WORDS:
        arguments = _arguments(command, place, port, option, value)
        _require_one_line(*_ends(capsys, arguments), arguments)


@pytest.mark.parametrize(("command", "option"), sorted({*_options(click.Path)} - {("demo", "out")}))  # it would draw
def test_any_path_is_usable_or_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], place: Path, port: int, command: str, option: str
) -> None:
    names = ("nowhere/x", "junk.bin", "empty", "file/x", "o.xyz", os.fsdecode(b"\xff.png"), "x" * 300, "a:b.png")
    for name in names:
        arguments = _arguments(command, place, port, option, f"{place}/{name}")
        _require_one_line(*_ends(capsys, arguments), arguments)


@pytest.mark.parametrize(("command", "option"), [one for one in _options(click.Path) if _is_output(*one)])
def test_what_cannot_be_written_is_refused_before_any_work(
    capsys: pytest.CaptureFixture[str], place: Path, port: int, command: str, option: str
) -> None:
    arguments = _arguments(command, place, port, option, f"{place}/file/x.html")
    code, text = _ends(capsys, arguments)
    assert code == 2 and "is a file; choose another name" in text and text.count("\n") == 1


def test_a_device_is_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="a folder or a device, wanted a file"):
        file_to_write(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="a file, wanted a folder"):
        folder_to_write(tmp_path / "pipe")


@pytest.mark.parametrize("value", VALUES)
def test_every_setting_has_a_value_or_one_line_that_names_it(capsys: pytest.CaptureFixture[str], value: str) -> None:
    for key in Settings().to_flat():
        arguments = ["settings", "--set", f"{key}={value}"]
        code, text = _ends(capsys, arguments)
        _require_one_line(code, text, arguments)
        assert code == 0 or key in text, text
