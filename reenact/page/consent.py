"""What somebody says before a face is looked at or drawn, and the one place where it is decided if that will do."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model.errors import ConfigError

logger = logging.getLogger(__name__)
_MAX_LENGTH = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Declaration:
    """Somebody's word that the people who are shown agreed to it."""

    name: str
    """Of who draws."""
    purpose: str

    @classmethod
    def of(cls, said: object) -> Declaration:
        """Of what the page sent.

        Raises:
            ConfigError: if the box is not ticked, or name or purpose lacks or is too long.
        """
        fields = said if isinstance(said, Mapping) else {}
        if fields.get("agreed") is not True:
            raise ConfigError("tick the box: everybody who is shown has to have agreed to it")
        texts = {key: " ".join(str(fields.get(key) or "").split()) for key in ("name", "purpose")}
        for key, text in texts.items():
            if not 1 <= len(text) <= _MAX_LENGTH or not text.isprintable():
                raise ConfigError(f"{key}: wanted 1 to {_MAX_LENGTH} characters; say who draws, and what for")
        return cls(**texts)


def allow(declaration: Declaration, inputs: tuple[Path, ...], what: str) -> None:
    """Decide whether these inputs may be drawn from, and write down who answers for it.

    Args:
        declaration: what was said.
        inputs: sources, and what drives.
        what: is asked for.

    Raises:
        ConfigError: if they may not.
    """
    files = ", ".join(repr(path.name) for path in inputs)
    logger.info("%s of %s: %r says that all agreed, for %r", what, files, declaration.name, declaration.purpose)
