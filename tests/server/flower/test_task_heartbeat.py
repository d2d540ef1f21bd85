from __future__ import annotations

import httpx
import pytest
from flwr.proto.runtime_pb2 import SendTaskHeartbeatResponse
from flwr.supercore.heartbeat import make_task_heartbeat_fn_http
from flwr.supercore.runtime.runtime_http_client import RuntimeHttpClient

from server.flower.task_heartbeat import keep_task_heartbeats


def test_a_server_apps_heartbeats_outlive_an_error_of_the_superlink(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RuntimeHttpClient, "SendTaskHeartbeat", RuntimeHttpClient.SendTaskHeartbeat)
    keep_task_heartbeats()
    made = RuntimeHttpClient.from_server_address("superlink:8000", True, None, [])
    alive = SendTaskHeartbeatResponse(success=True).SerializeToString()
    answers = iter([httpx.Response(500), httpx.Response(200, content=alive)])
    made._client = httpx.Client(transport=httpx.MockTransport(lambda _: next(answers)))
    beat = make_task_heartbeat_fn_http(made)
    assert [beat(), beat()] == [False, True]
