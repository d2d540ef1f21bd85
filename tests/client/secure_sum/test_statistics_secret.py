from __future__ import annotations

import stat
from pathlib import Path

import pytest

from client.secure_sum.statistics_secret import SECRET_NAME, statistics_secret
from model.errors import ConfigError


def test_a_site_has_one_secret_which_is_its_own(tmp_path: Path) -> None:
    secret = statistics_secret(tmp_path / "state")
    assert len(secret) == 32
    assert statistics_secret(tmp_path / "state") == secret != statistics_secret(tmp_path / "other")
    assert stat.S_IMODE((tmp_path / "state" / SECRET_NAME).stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "[]", '{"secret": "xy"}', '{"secret": "00"}', '{"secret": 1}'])
def test_a_damaged_secret_is_an_error_and_no_new_one(tmp_path: Path, text: str) -> None:
    (tmp_path / SECRET_NAME).write_text(text)
    with pytest.raises(ConfigError, match=r"statistics-secret\.json cannot be read .*; restore it"):
        statistics_secret(tmp_path)
    assert (tmp_path / SECRET_NAME).read_text() == text
