"""Every kind of task that this Flower has, on its way through a site."""

from __future__ import annotations

import datetime
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from flwr.proto.task_pb2 import Task
from flwr.supercore.constant import TaskType
from flwr.supercore.corestate import in_memory_corestate
from flwr.supercore.run import Run
from flwr.supercore.superexec.executor import ExecutionSpec, LaunchResult, LaunchResultStatus
from flwr.supernode import start_client_internal

from client.supernode import one_task_kind
from client.supernode.bell import Bell
from client.supernode.one_task_kind import OwnSuperExec, RefusedRunError, keep_to_one_kind, own_settings
from client.supernode.superexec_process import SiteExecPlugin
from federation.settings import Settings
from tests.client.supernode.site import RUN_ID, Site

KINDS = [*TaskType, "", "flwr-of-tomorrow"]


@pytest.mark.parametrize("task_type", KINDS)
def test_a_message_becomes_a_clientapp_task_of_a_server_apps_run_or_an_error(tmp_path: Path, task_type: str) -> None:
    site = Site(tmp_path, task_type)
    assert site.step() == RUN_ID
    replies = site.replies()
    if task_type == TaskType.SERVER_APP:
        assert site.tasks() == [TaskType.CLIENT_APP] and site.rung == [1]
        assert (len(replies), site.refused.total()) == (0, 0)
        return
    assert site.tasks() == [] and site.fetched == [] and site.rung == []
    (reply,) = replies
    assert reply.error.reason.startswith("this site runs no ")
    assert site.refused.total() == 1


def test_a_refusal_names_the_kind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for task_type, name in (("flwr-agentapp", "agentapp"), ("\x1b[2Jx" + "y" * 1000, repr("\x1b[2Jx" + "y" * 35))):
        site = Site(tmp_path, task_type)
        with caplog.at_level(logging.ERROR, "client"):
            site.step()
        (reply,) = site.send()
        assert reply.error.reason == f"this site runs no {name}"
        assert f"refused run {RUN_ID}: this site runs no {name}; nothing of it was fetched" in caplog.messages


def test_a_run_that_was_accepted_cannot_change_its_kind(tmp_path: Path) -> None:
    site = Site(tmp_path, TaskType.SERVER_APP)
    site.step()
    site.run = Run.create_empty(RUN_ID)
    site.run.primary_task_type = TaskType.AGENT_APP
    site.step()
    assert set(site.tasks()) == {TaskType.CLIENT_APP}


def test_a_supernode_starts_the_sites_superexec_and_no_other_command(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(one_task_kind.subprocess, "Popen", lambda command, **_: started.append(command))
    monkeypatch.setattr(OwnSuperExec, "_end_with", lambda process: None)
    monkeypatch.setattr(OwnSuperExec, "bell", Bell(), raising=False)
    OwnSuperExec.Popen(["flower-superexec", "--insecure"])
    assert started == [[sys.executable, "-P", "-m", "client.supernode.superexec_process", "--insecure"]]
    with pytest.raises(RefusedRunError, match="this site runs no flwr-agentapp"):
        OwnSuperExec.Popen(["flwr-agentapp", "--insecure"])
    assert len(started) == 1


class Launches:
    """An executor that notes what it is asked for."""

    def __init__(self) -> None:
        self.specs: list[ExecutionSpec] = []

    def launch(self, spec: ExecutionSpec) -> LaunchResult:
        self.specs.append(spec)
        return LaunchResult.accepted()


@pytest.mark.parametrize("task_type", TaskType)
def test_the_superexec_launches_one_kind_of_task(task_type: TaskType) -> None:
    executor = Launches()
    plugin = SiteExecPlugin("127.0.0.1:9094", True, None, executor=executor)
    result = plugin.launch_task("token", Task(task_id=1, run_id=RUN_ID, type=task_type))
    if task_type == TaskType.CLIENT_APP:
        assert result.status == LaunchResultStatus.ACCEPTED
        ((spec),) = executor.specs
        assert (spec.task_type, spec.token, spec.runtime_api_address) == (task_type, "token", "127.0.0.1:9094")
        return
    assert executor.specs == []
    assert result.status == LaunchResultStatus.FAILED


def test_settings_are_the_installed_ones_and_what_the_run_changes() -> None:
    run = Run.create_empty(RUN_ID)
    run.override_config = {"local-steps": 7, "of-another-version": 1}
    config = own_settings(b"no archive", run)
    assert config.pop("of-another-version") == 1  # the app names it when it refuses the run
    assert Settings.from_flat(config) == Settings().replaced({"local-steps": 7})


@pytest.mark.parametrize(("after_s", "is_waited_for"), [(110, True), (130, False)])
def test_a_process_that_is_slow_to_start_is_waited_for(
    after_s: int, is_waited_for: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "_pull_and_store_message",
        "_push_messages",
        "get_fused_config_from_fab",
        "subprocess",
    ):  # put back afterwards
        monkeypatch.setattr(start_client_internal, name, getattr(start_client_internal, name))
    monkeypatch.setattr(in_memory_corestate, "HEARTBEAT_DEFAULT_INTERVAL", 30)
    site = Site(tmp_path, TaskType.SERVER_APP)
    site.step()
    keep_to_one_kind(site.refused, site.owed)
    (task,) = site.state.get_tasks()
    assert site.state.claim_task(task.task_id)
    late = in_memory_corestate.now() + datetime.timedelta(seconds=after_s)
    monkeypatch.setattr(in_memory_corestate, "now", lambda: late)
    assert site.state.activate_task(task.task_id) is is_waited_for


def test_the_real_entry_points_of_flower_are_guarded() -> None:
    """In processes of their own, as at a site: the names that are replaced are still those that Flower calls."""
    script = (
        "import inspect, pathlib\n"
        "from flwr.supernode import start_client_internal as supernode\n"
        "from flwr.supernode import fleet_http_connection as connection\n"
        "from client.supernode.fleet_client import SiteFleetClient, use_site_fleet_client\n"
        "from client.supernode.one_task_kind import OwnSuperExec, keep_to_one_kind\n"
        "from client.supernode.owed_reply import OwedReply\n"
        "from client.supernode.refused_tasks import RefusedTasks\n"
        "keep_to_one_kind(RefusedTasks(pathlib.Path('.')), OwedReply(pathlib.Path('.')))\n"
        "use_site_fleet_client()\n"
        "names = supernode.start_client_internal.__code__.co_names\n"
        "assert {'_pull_and_store_message', '_push_messages', 'subprocess'} <= set(names), names\n"
        "pull = supernode._pull_and_store_message\n"
        "assert 'get_fused_config_from_fab' in pull.args[0].__code__.co_names\n"
        "from flwr.supercore.superexec import run_superexec\n"
        "assert {'AutoExecPlugin', 'get_executor'} <= set(run_superexec.run_superexec.__code__.co_names)\n"
        "assert supernode.subprocess is OwnSuperExec and connection.FleetHttpClient is SiteFleetClient\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
