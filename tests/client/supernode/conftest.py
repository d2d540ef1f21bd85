from __future__ import annotations

import pytest
from flwr.supernode import start_client_internal

from client.supernode.one_task_kind import own_settings


@pytest.fixture(autouse=True)
def own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a SuperNode of a site."""
    monkeypatch.setattr(start_client_internal, "get_fused_config_from_fab", own_settings)
