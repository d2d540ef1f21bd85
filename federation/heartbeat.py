"""Answers to a heartbeat that say nothing about its sender.

Flower sends heartbeats from a thread of its own. Whatever answer it does not know ends that thread, and nobody is told:
the process works on, and the SuperLink takes it for gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx


@contextmanager
def errors_that_pass() -> Iterator[None]:
    """A block in which such an answer is an error of transport: Flower tries these again.

    They are errors of the other side's own (HTTP 5xx: its disk is full, say) and what is no message of Flower's.
    """
    try:
        yield
    except httpx.HTTPStatusError as error:
        if not error.response.is_server_error:
            raise
        raise httpx.RemoteProtocolError(f"answered with {error.response.status_code}") from error
    except ValueError as error:
        raise httpx.RemoteProtocolError("the answer is no message of Flower's") from error
