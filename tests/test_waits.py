"""Every wait of the program ends: calls that block have a timeout, loops that sleep are listed with what ends them."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.support.paths import ROOT, parsed

PACKAGES = ("model", "data_partition", "client", "server", "evaluation", "reenact", "experiments")

TIMEOUT_OF = {
    "wait": 0,
    "join": 0,
    "result": 0,
    "get": 0,
    "communicate": 1,
    "run": None,
    "urlopen": 2,
    "call": None,
    "check_call": None,
    "check_output": None,
    "create_connection": 1,
}
"""Calls that may block to the position of their timeout among the arguments; None: it can be given by name alone."""

OWNERS = {
    "run": "subprocess",
    "call": "subprocess",
    "check_call": "subprocess",
    "check_output": "subprocess",
}
"""Calls that block only when they are this module's."""

ENDLESS_BY_DESIGN = {
    "server/monitoring/exporter.py:serve": "answers scrapes for as long as its process lives",
    "server/flower/superexec_process.py:main": "a service: waits for as long as it serves",
    "client/supernode/one_task_kind.py:_end_with": "own thread, which waits for as long as the site serves",
    "server/flower/superlink.py:_stop_process": "the process has just been sent SIGKILL; the kernel ends it",
    "data_partition/preparation/clip_pool.py:run_clips": "own workers, which end with their clip or stalled",
    "data_partition/preparation/clip_pool.py:_take_count": "it is called when the result is there",
    "data_partition/preparation/clip_pool.py:_prepare": "the same: its worker ends, and with it the wait",
    "data_partition/ahead.py:_taken": "own thread, which gives a batch of a local disk, the end, or its error",
    "data_partition/ahead.py:in_thread": "the thread has ended",
    "data_partition/doctor/numbers.py:_frames": "own threads, each of which reads one picture of a local disk",
    "server/rounds/fedgan.py:_aggregated": "StreamingMean.result, which computes",
    "server/updates/reply_limit.py:_limited_inflate": "ContextVar.get, which looks",
    "server/updates/reply_limit.py:_limited_pull_objects": "ContextVar.get, which looks",
}
"""Calls without a timeout, and why they end or should not."""

SLEEPING_LOOPS = {
    "server/flower/deployment.py:run": "Patience.max_attempts",
    "server/flower/deployment.py:_follow": "Patience.start_s, silence_s, and the end of the run",
    "server/rounds/messaging.py:_patiently": "_PATIENCE_S",
    "server/rounds/messaging.py:_pull": "the round's deadline",
    "server/flower/processes.py:_wait": "timeout_s",
    "client/supernode/bell.py:sleep": "no loop",
    "client/supernode/forked_tasks.py:launch": "_TRIES",
    "client/supernode/one_task_kind.py:_end_with": "no loop",
    "client/supernode/own_code.py:PullMessages": "_UNTIL_STORED_S",
    "client/supernode/fleet_client.py:ActivateNode": "_HEARTBEAT_LAPSES_S",
    "server/sites/quorum.py:_pause": "until, which is at most quorum-timeout-s ahead",
    "server/sites/roster.py:wait_for_sites": "round-timeout-s",
    "server/sites/roster.py:refresh": "round-timeout-s",
    "server/flower/simulation.py:_follow": "_IDLE_TIMEOUT_S without a process of the run; the server app's waits end",
    "server/flower/superlink.py:wait_until_idle": "timeout_s",
    "server/flower/superlink.py:_wait_until_ready": "_START_TIMEOUT_S",
}
"""Functions that sleep, and what ends the loop around it."""

EXIT_CODES = ("0", "1", "2", "130", "143")


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Every function with its file and name; of nested ones the innermost owns a call."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(parsed(path.relative_to(ROOT))):
                if isinstance(node, ast.FunctionDef):
                    yield f"{path.relative_to(ROOT).as_posix()}:{node.name}", node


def own_calls(function: ast.FunctionDef) -> Iterator[ast.Call]:
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Call):
            yield node
        if not isinstance(node, ast.FunctionDef):
            waiting += ast.iter_child_nodes(node)


def called(call: ast.Call) -> tuple[str, str]:
    """(module or object, name) of a call; ("", name) if it is called by name alone."""
    if isinstance(call.func, ast.Attribute):
        value = call.func.value
        return (value.id if isinstance(value, ast.Name) else ""), call.func.attr
    return "", call.func.id if isinstance(call.func, ast.Name) else ""


def may_block_forever(call: ast.Call) -> bool:
    owner, name = called(call)
    if name not in TIMEOUT_OF or owner != OWNERS.get(name, owner) or not isinstance(call.func, ast.Attribute):
        return False
    position = TIMEOUT_OF[name]
    if any(keyword.arg == "timeout" or keyword.arg is None for keyword in call.keywords):
        return False
    return position is None or len(call.args) <= position


def test_calls_that_block_have_a_timeout_or_a_reason() -> None:
    found = {where for where, function in functions() for call in own_calls(function) if may_block_forever(call)}
    assert found == set(ENDLESS_BY_DESIGN)


def test_every_loop_that_sleeps_says_what_ends_it() -> None:
    found = {
        where for where, function in functions() for call in own_calls(function) if called(call) == ("time", "sleep")
    }
    assert found == set(SLEEPING_LOOPS)


def test_a_call_without_a_timeout_would_be_found() -> None:
    for text in ("process.wait()", "thread.join()", "subprocess.run(command)", "ticks.get()", "future.result()"):
        call = ast.parse(text, mode="eval").body
        assert isinstance(call, ast.Call) and may_block_forever(call), text
    for text in ("process.wait(5)", "subprocess.run(command, timeout=5)", "', '.join(names)", "values.get('key')"):
        call = ast.parse(text, mode="eval").body
        assert isinstance(call, ast.Call) and not may_block_forever(call), text


def test_the_runbook_lists_waits_and_exit_codes() -> None:
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    waits = text.partition("## How waits end")[2].partition("\n## ")[0]
    for setting in ("round-timeout-s", "quorum-timeout-s", "local-time-limit-s"):
        assert f"`{setting}`" in waits
    codes = text.partition("## Exit codes")[2].partition("\n## ")[0]
    assert [line.split("|")[1].strip() for line in codes.splitlines() if line[:3] in ("| 0", "| 1", "| 2")] == list(
        EXIT_CODES
    )
