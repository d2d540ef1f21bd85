from __future__ import annotations

import pytest

from client.consent.known_weights import KnownWeights


@pytest.fixture
def any_weights_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sites train from whatever they are sent: for tests of what stands behind the check."""
    monkeypatch.setattr(KnownWeights, "accept", lambda *_, **__: None)
