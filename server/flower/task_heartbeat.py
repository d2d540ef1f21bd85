"""The heartbeats by which the SuperLink knows that a server app lives."""

from __future__ import annotations

from flwr.proto.runtime_pb2 import SendTaskHeartbeatRequest, SendTaskHeartbeatResponse
from flwr.supercore.runtime.runtime_http_client import RuntimeHttpClient

from federation.heartbeat import errors_that_pass

_flowers_own = RuntimeHttpClient.SendTaskHeartbeat


def keep_task_heartbeats() -> None:
    """Have this process's heartbeats as a task of Flower's outlive errors that pass."""
    RuntimeHttpClient.SendTaskHeartbeat = _send_task_heartbeat


def _send_task_heartbeat(client: RuntimeHttpClient, request: SendTaskHeartbeatRequest) -> SendTaskHeartbeatResponse:
    with errors_that_pass():
        response: SendTaskHeartbeatResponse = _flowers_own(client, request)
    return response
