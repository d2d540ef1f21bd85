"""A disk that takes no more bytes: one line, exit code 2, and nothing that looks finished."""

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import entry as cli
from model.checkpoint import save_checkpoint
from tests.support.shards import write_random_shard
from tests.support.small_face import small_checkpoint

MAX_FILE_BYTES = 600


@contextlib.contextmanager
def _full_disk() -> Iterator[None]:
    """Within it no file of this process grows beyond a few hundred bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with _full_disk(), pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    text = capsys.readouterr().err
    assert ended.value.code == 2 and text.startswith("error: ") and text.count("\n") == 1, text
    return text


def test_drawing_people(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    _fails(capsys, "synth", out, "--identities", 1, "--frames", 20, "--size", 32)
    assert list(out.iterdir()) == []


def test_drawing_a_picture(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "run", small_checkpoint())
    shard = write_random_shard(tmp_path / "data", "ana", num_frames=2)
    picture = shard.path / shard.file_name[0]
    out = tmp_path / "result.png"
    places = ("--source", picture, "--driving", picture, "--out", out, "--device", "cpu")
    _fails(capsys, "reenact", tmp_path / "run", *places)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("result")] == []


def test_pages_and_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_random_shard(tmp_path / "data", "ana", num_frames=20)
    _fails(capsys, "doctor", tmp_path / "data", "--page", tmp_path / "page.html")
    _fails(capsys, "approve", "tiny", "--out", tmp_path / "approved.toml")
    _fails(capsys, "deployment", tmp_path / "deployment")
    assert {path.name for path in tmp_path.iterdir()} == {"data"}
