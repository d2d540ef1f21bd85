"""What a site agreed to: a file with every setting of a run, and the few that a run may have otherwise."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path

from federation.settings import MEANINGS, Settings, to_toml
from model.errors import ConfigError
from model.files import read_toml, write_text
from model.setting import Leeway, Scalar

_log = logging.getLogger(__name__)

HOW_TO_APPROVE = (
    "run `fedreenact approve SETTINGS.toml --out approved.toml` at the site, read what it says, and name the file in "
    'the node config: approved-settings="/path/approved.toml"'
)


_TITLES = {
    Leeway.SAME: "The same in every run:",
    Leeway.AT_MOST: "In a run at most:",
    Leeway.AT_LEAST: "In a run at least:",
    Leeway.ANY: "A run may have other values of these; here stands what was asked for:",
}
_HEADER = """# Settings that this site approved, written by `fedreenact approve`. A run that differs is refused.
# Every setting has to be in here: a default that changes with a version approves nothing.
"""


@dataclass(frozen=True, slots=True)
class Approval:
    """Settings that a site answers to."""

    settings: Settings

    @classmethod
    def read(cls, path: Path | None) -> Approval:
        """The approval in a file that `to_toml` made; None is a site that approved nothing.

        Raises:
            ConfigError: if there is no approval that holds. The text may leave the site: it names no folder.
        """
        if path is None:
            raise ConfigError(f"this site has approved no settings and answers no run; {HOW_TO_APPROVE}")
        try:
            flat: dict[str, Scalar] = read_toml(path)
        except (OSError, ValueError) as error:
            _log.error("approved-settings %s: %s", path, error)
            raise ConfigError(
                f"this site's file of approved settings cannot be read ({type(error).__name__}); {HOW_TO_APPROVE}"
            ) from error
        missing = [key for key in Settings().to_flat() if key not in flat]
        if missing:
            raise ConfigError(
                f"this site's approved settings lack {', '.join(missing)}: written by hand or by another version; "
                f"{HOW_TO_APPROVE}"
            )
        return cls(Settings.from_flat(flat))

    def check_run(self, settings: Settings) -> None:
        """Refuse a run that differs from what was approved.

        Raises:
            ConfigError: with a line for each setting, what the server asks and what was approved.
        """
        lines = self.differences(settings)
        if lines:
            raise ConfigError("this site approved other settings:\n" + "\n".join(lines))

    def differences(self, settings: Settings) -> list[str]:
        """One line for each setting of a run that was not approved."""
        asked = settings.to_flat()
        lines = []
        for key, approved in self.settings.to_flat().items():
            leeway = MEANINGS[key].leeway
            if not _is_approved(leeway, asked[key], approved):
                wanted = "" if leeway is Leeway.SAME else f"{leeway} "
                lines.append(f"{key}: the server asks for {_shown(asked[key])}, approved is {wanted}{_shown(approved)}")
        return lines

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of all that binds a run, for two sites to compare."""
        bound = {key: value for key, value in self.settings.to_flat().items() if MEANINGS[key].leeway is not Leeway.ANY}
        return hashlib.sha256(json.dumps(bound, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def to_toml(self) -> str:
        """All settings, sorted by how a run may differ from them."""
        flat = self.settings.to_flat()
        parts = [_HEADER]
        for leeway, title in _TITLES.items():
            part = {key: value for key, value in flat.items() if MEANINGS[key].leeway is leeway}
            parts.append(f"# {title}\n{to_toml(part)}")
        return "\n".join(parts)

    def write(self, path: Path) -> None:
        """Write the file, completely or not at all."""
        write_text(path, self.to_toml())


def _is_approved(leeway: Leeway, asked: Scalar, approved: Scalar) -> bool:
    if leeway is Leeway.ANY or asked == approved:
        return True
    if leeway is Leeway.SAME:
        return False
    assert isinstance(asked, int) and isinstance(approved, int)
    return asked < approved if leeway is Leeway.AT_MOST else asked > approved


def _shown(value: Scalar) -> str:
    return json.dumps(value, ensure_ascii=False)
