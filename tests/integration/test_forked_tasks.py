"""A real fork server with a small program in place of Flower's; in a process of its own, as at a site."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from flwr.supercore.constant import TaskType

from tests.support.paths import ROOT

pytestmark = pytest.mark.integration

SITE = """
import json, os, sys, time
from pathlib import Path
from flwr.supercore.constant import TaskType
from flwr.supercore.superexec.executor import ExecutionSpec
from client.supernode import forked_tasks

OUT = Path(sys.argv[1])

def task(number, kind=TaskType.CLIENT_APP):
    return ExecutionSpec(task_type=kind, runtime_api_address="127.0.0.1:1", token=str(number), insecure=True,
                         root_certificates_path=None, runtime_dependency_install=False, parent_pid=os.getpid(),
                         suppress_output=False, task_id=number)

def names_of_threads(pid):
    return [path.read_text().strip() for path in Path(f"/proc/{pid}/task").glob("*/comm")]

def note(spec):
    import random
    words = {"pid": os.getpid(), "parent": os.getppid(), "threads": names_of_threads(os.getppid()),
             "imported": "client.app" in sys.modules, "random": random.random(), "left": LEFT[:]}
    LEFT.append(spec.token)
    (OUT / f"{spec.token}.partial").write_text(json.dumps(words))
    (OUT / f"{spec.token}.partial").rename(OUT / f"{spec.token}.json")

LEFT = []

def until(path):
    while not path.exists():
        time.sleep(0.02)
    return json.loads(path.read_text())

if __name__ == "__main__":
    forked_tasks.answer = note
    tasks = forked_tasks.ForkedTasks()
    asked = [str(tasks.launch(task(number)).status) for number in (1, 2)]
    first = until(OUT / "1.json")
    until(OUT / "2.json")
    os.kill(first["parent"], 9)
    asked.append(str(tasks.launch(task(3)).status))
    until(OUT / "3.json")
    others = [kind for kind in TaskType if kind != TaskType.CLIENT_APP]
    refused = [[str(answer.status), answer.message] for answer in (tasks.launch(task(9, kind)) for kind in others)]
    print(json.dumps({"asked": asked, "refused": refused, "pid": os.getpid()}))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the site said of itself, and each process that answered."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "site.py").write_text(SITE)
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(folder / "site.py"), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    answers = [json.loads((folder / f"{number}.json").read_text()) for number in (1, 2, 3)]
    return json.loads(done.stdout) | {"answers": answers}


def test_every_message_has_a_process_of_its_own_with_everything_imported(said: dict[str, Any]) -> None:
    first, second, _ = said["answers"]
    assert said["asked"] == ["accepted"] * 3
    assert len({answer["pid"] for answer in said["answers"]} | {said["pid"]}) == 4
    assert first["parent"] == second["parent"] != said["pid"]
    assert all(answer["imported"] for answer in said["answers"])
    assert all(answer["left"] == [] for answer in said["answers"])
    assert len({answer["random"] for answer in said["answers"]}) == 3


def test_what_is_forked_has_no_threads_but_one_that_knows_of_forks(said: dict[str, Any]) -> None:
    for answer in said["answers"]:
        assert len([name for name in answer["threads"] if name != "jemalloc_bg_thd"]) == 1, answer["threads"]


def test_a_forked_process_that_was_killed_is_replaced(said: dict[str, Any]) -> None:
    first, second, third = said["answers"]
    assert third["parent"] not in (first["parent"], second["parent"], said["pid"])


def test_tasks_of_other_kinds_are_refused(said: dict[str, Any]) -> None:
    others = [kind for kind in TaskType if kind != TaskType.CLIENT_APP]
    assert said["refused"] == [["failed", f"this site runs no {kind}"] for kind in others]


BEFORE_THE_FORK = """
import importlib, torch
from client.supernode import forked_tasks

def refuse(*args, **kwargs):
    raise SystemExit("CUDA was touched")

for module, name in ((torch.cuda, "is_available"), (torch.cuda, "device_count"), (torch.cuda, "_lazy_init"),
                     (torch._C, "_cuda_getDeviceCount"), (torch._C, "_cuda_init")):
    setattr(module, name, refuse)
for name in forked_tasks._IMPORTED:
    importlib.import_module(name)
"""


def test_what_is_forked_has_not_touched_cuda_which_a_fork_could_not_use_then() -> None:
    command = [sys.executable, "-c", BEFORE_THE_FORK]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
