"""Packages of the extra `onnx`, which a run does not need."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from model.errors import ConfigError


def package(name: str) -> Any:
    """The module of a package.

    Raises:
        ConfigError: saying how to install it, if it is not there.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(f"ONNX files need the package {name} ({error}): pip install 'fedreenact[onnx]'") from error
