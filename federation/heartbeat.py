"""Heartbeats that an error of the other side does not end for good.

Flower sends heartbeats from a thread of its own. Whatever answer it does not know ends that thread, and nobody is told:
the process works on, and the SuperLink takes it for gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from flwr.supercore.runtime.runtime_http_client import RuntimeHttpClient


@contextmanager
def errors_that_pass() -> Iterator[None]:
    """A block in which an answer that says nothing about the sender is an error of transport: Flower tries these again.

    Such are errors of the other side's own (HTTP 5xx: its disk is full, say) and what is no message of Flower's.
    """
    try:
        yield
    except httpx.HTTPStatusError as error:
        if not error.response.is_server_error:
            raise
        raise httpx.RemoteProtocolError(f"answered with {error.response.status_code}") from error
    except ValueError as error:
        raise httpx.RemoteProtocolError("the answer is no message of Flower's") from error


def keep_task_heartbeats() -> None:
    """Have this process's heartbeats as a task of Flower's outlive errors that pass."""
    RuntimeHttpClient.SendTaskHeartbeat = _send_task_heartbeat


_flowers_own = RuntimeHttpClient.SendTaskHeartbeat


def _send_task_heartbeat(client: RuntimeHttpClient, request: Any) -> Any:
    with errors_that_pass():
        return _flowers_own(client, request)
