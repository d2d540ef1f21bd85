"""The process that answers a message at a deployed site: Flower's ClientApp process, with no code but the site's own.

Flower sends an app's code to every site with each run, and whoever may submit a run could so have any code run beside
a site's data. This process unpacks nothing of it: it answers with the app that is installed here, and refuses a run of
another app or version. `client/supernode/forked_tasks.py` starts it in place of `flwr-clientapp`.
"""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path
from typing import Any

import httpx
from flwr.clientapp.utils import get_load_client_app_fn
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, ConfirmMessageReceivedResponse
from flwr.proto.runtime_pb2 import (
    PullAppMessagesRequest,
    PullAppMessagesResponse,
    SendTaskHeartbeatRequest,
    SendTaskHeartbeatResponse,
)
from flwr.supercore.runtime.runtime_http_client import RuntimeHttpClient
from flwr.supercore.superexec.executor import ExecutionSpec
from flwr.supercore.tls import validate_and_resolve_root_certificates
from flwr.supernode.runtime import run_clientapp

from client.node_config import check_launch
from deploy.files import TOP
from federation.heartbeat import errors_that_pass
from federation.json_log import log_to_stderr
from federation.stacks import Progress, tell_when_asked

_UNTIL_STORED_S = 30.0
_BETWEEN_LOOKS_S = 0.1
_STEP_WITHIN_S = 900.0
"""For whatever comes between two steps of a training, and before the first and after the last. Of the smallest number
of steps that sites approve of, none of this length would be over within an hour."""


class SiteRuntimeClient(RuntimeHttpClient):  # type: ignore[misc]
    """Flower's client of the SuperNode, in the process that answers a message.

    The SuperNode makes the task known before it stores the message, and Flower's process ends without a word if it is
    quicker than that: on a busy machine it sometimes is. And it goes on, or hangs, when its message was given up; its
    heartbeats come from a thread of their own, and say nothing of the one that works.
    """

    def PullMessages(self, request: PullAppMessagesRequest) -> PullAppMessagesResponse:
        """The message; none if there is none after half a minute."""
        deadline = time.monotonic() + _UNTIL_STORED_S
        while True:
            response: PullAppMessagesResponse = super().PullMessages(request)
            if response.messages_list or time.monotonic() >= deadline:
                return response
            time.sleep(_BETWEEN_LOOKS_S)

    def ConfirmMessageReceived(self, request: ConfirmMessageReceivedRequest) -> ConfirmMessageReceivedResponse:
        """Say that the message is here, whole: from now on this process has to get on."""
        Progress.expect(_STEP_WITHIN_S)
        confirmed: ConfirmMessageReceivedResponse = super().ConfirmMessageReceived(request)
        return confirmed

    def SendTaskHeartbeat(self, request: SendTaskHeartbeatRequest) -> SendTaskHeartbeatResponse:
        """Say that this process lives; it ends at once where the SuperNode does not know its task any more."""
        try:
            with errors_that_pass():
                response: SendTaskHeartbeatResponse = super().SendTaskHeartbeat(request)
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.UNAUTHORIZED:
                os._exit(1)
            raise
        return response


def keep_to_own_code(app_folder: Path = TOP) -> None:
    """Make this process answer with the app that `app_folder` describes, whatever code a run brings.

    A run of an app of another name or version fails with Flower's LoadClientAppError.
    """
    run_clientapp.RuntimeHttpClient = SiteRuntimeClient
    run_clientapp.install_from_fab = _unpack_nothing
    run_clientapp.get_load_client_app_fn = functools.partial(_load_from, app_folder)


def _unpack_nothing(fab: bytes, *_: Any, **__: Any) -> None:
    """In place of unpacking the code that came with a run."""


def _load_from(app_folder: Path, default_app_ref: str, app_path: str | None, multi_app: bool) -> Any:
    """Flower's loader, bound to a folder; at a site that `fedreenact-supernode` started.

    Raises:
        ConfigError: if something else started it.
    """
    check_launch()
    return get_load_client_app_fn(default_app_ref, str(app_folder), multi_app)


def answer(task: ExecutionSpec) -> None:
    """Answer one message in this process; what the site's own code logs goes to standard error as JSON.

    Raises:
        SystemExit: with Flower's exit code.
    """
    os.umask(0o077)  # moments and secrets are for this user alone
    tell_when_asked()
    keep_to_own_code()
    log_to_stderr("client", "model", "data_partition", "federation")
    run_clientapp.run_clientapp(
        runtime_api_address=task.runtime_api_address,
        token=task.token,
        insecure=task.insecure,
        certificates=validate_and_resolve_root_certificates(task.root_certificates_path, task.insecure),
        parent_pid=task.parent_pid,
    )
