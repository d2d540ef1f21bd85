"""Options that several commands share, and what their values mean."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.files import PRESETS
from federation.secure_sum.num_sites import fewest_in_sum
from federation.settings import Settings, read_preset
from model.errors import ConfigError
from model.files import json_of
from model.setting import Scalar

if TYPE_CHECKING:
    from server.flower.commands import FlowerCommands

Preset = Annotated[str, typer.Option(help="tiny, small, studio, paper, or a TOML file of settings.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; repeat for more. See `settings`."),
]
Embedder = Annotated[str, typer.Option(help="Who measures CSIM: sface, or arcface or dlib if installed.")]
MAX_SEED = 2**63 - 1
Workers = Annotated[int | None, typer.Option(min=1, max=1024, help="Processes; default is one per core.")]
SuperLink = Annotated[str, typer.Option(metavar="HOST:PORT", help="The SuperLink's Control API.")]
RootCertificates = Annotated[Path | None, typer.Option(help="The CA's certificate; without it there is no TLS.")]


def folder_to_write(path: Path | None) -> Path | None:
    """An option's folder, refused before any work if nothing could be written to it.

    Raises:
        ConfigError: if it, or what it lies in, is a file or may not be written to.
    """
    if path is not None and path.exists() and not path.is_dir():
        raise ConfigError(f"{path}: a file, wanted a folder to write to; choose another name")
    return _to_write(path)


def file_to_write(path: Path | None) -> Path | None:
    """An option's file, refused before any work if it could not be written.

    Raises:
        ConfigError: if it is a folder or a device, or what it lies in is a file or may not be written to.
    """
    if path is not None and path.exists() and not path.is_file():  # a file that is renamed would take a device's place
        raise ConfigError(f"{path}: a folder or a device, wanted a file to write; choose another name")
    return _to_write(path)


def _to_write(path: Path | None) -> Path | None:
    if path is None:
        return None
    above = next(folder for folder in (path, *path.resolve().parents) if folder.exists())
    if above != path and not above.is_dir():
        raise ConfigError(f"{path}: cannot be written, {above} is a file; choose another name")
    if not os.access(above, os.W_OK):
        raise ConfigError(f"{path}: cannot be written, {above} may only be read; choose another place")
    return path


@contextlib.contextmanager
def connected(superlink: str, root_certificates: Path | None) -> Iterator[FlowerCommands]:
    """Flower's commands, connected to a SuperLink, with files in a folder that does not stay."""
    from server.flower.commands import FlowerCommands

    if root_certificates is not None and not root_certificates.is_file():
        raise ConfigError(f"--root-certificates: {root_certificates} does not exist")
    with tempfile.TemporaryDirectory(prefix="fedreenact-") as home:
        flower = FlowerCommands(Path(home))
        flower.connect(superlink, root_certificates.resolve() if root_certificates else None)
        yield flower


def read_named_preset(name: str) -> dict[str, Scalar]:
    """The settings of a preset's name or TOML file."""
    path = Path(name) if name.endswith(".toml") else PRESETS / f"{name}.toml"
    if not name.endswith(".toml") and not path.is_file():
        names = ", ".join(sorted(file.stem for file in PRESETS.glob("*.toml")))
        raise ConfigError(f"--preset: got {name!r}, wanted one of {names}, or a file that ends in .toml")
    return read_preset(path)


def chosen_settings(preset: str, changes: list[str] | None) -> dict[str, Scalar]:
    """The preset's settings and the changes to them."""
    return {**read_named_preset(preset), **dict(_parse_change(change) for change in changes or [])}


def _parse_change(change: str) -> tuple[str, Scalar]:
    """Key and value of KEY=VALUE, the value in the type of the setting's default."""
    key, separator, text = change.partition("=")
    if not separator:
        raise ConfigError(f"--set: got {change!r}, wanted KEY=VALUE, for example --set max-rounds=20")
    default = Settings().to_flat().get(key.strip(), "")
    if isinstance(default, str):
        return key.strip(), text
    try:
        return key.strip(), json_of(text.lower())
    except ValueError as error:
        kind = {bool: "true or false", int: "a whole number", float: "a number"}[type(default)]
        raise ConfigError(f"--set {key}: got {text!r}, wanted {kind}") from error


def settings_for(dataset: Path, chosen: Mapping[str, Scalar], places: Mapping[str, Scalar]) -> Settings:
    """Chosen settings for a dataset, sized for the people in it."""
    from data_partition.shards.shard import open_dataset

    sized = sized_for(len(open_dataset(dataset)), chosen)
    return Settings.from_flat({**sized, **chosen, "data-dir": str(dataset.resolve()), **places})


def deployed_settings(chosen: Mapping[str, Scalar]) -> Settings:
    """Chosen settings for a deployed federation, whose people the command does not see."""
    return Settings.from_flat({**sized_for(Settings().model.num_identities, chosen), **chosen})


def sized_for(num_identities: int, chosen: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """As many embedding rows and sites as there are people, for settings that are not chosen."""
    num_clients = chosen.get("num-clients", num_identities)
    usual = Settings().rounds.min_fit_clients
    wanted = max(usual, fewest_in_sum(int(num_clients))) if chosen.get("secure-aggregation") else usual
    return {
        "num-identities": num_identities,
        "num-clients": num_clients,
        "min-fit-clients": min(int(num_clients), wanted),
    }
