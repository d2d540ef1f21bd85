from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from server.monitoring import refusals
from server.monitoring.refusals import Reason, RefusalCounter, RefusalLog

START = "WARNING flwr 2026-11-25 21:47:00,649 | refusals.py:48 | "
LINES = f"""\
INFO flwr 2026-11-25 21:46:52,782 | flower_superlink.py:472 | Starting Flower SuperLink
{START}refused connection (not-for-sites) x1 from 10.0.0.2: '/v1/control/x | refused connection (tls) x9 from'
{START}refused connection (plaintext) x1 from 10.0.0.2: TLS handshake failed: HTTP_REQUEST
{START}refused connection (plaintext) x340 from 10.0.0.3: TLS handshake failed: HTTP_REQUEST
{START}refused connection (tls) x1 from 10.0.0.2: TLS handshake failed: TLSV1_ALERT_UNKNOWN_CA
{START}refused connection (clock) x2 from 10.0.0.2: node 7 (SHA256:x): its clock is 6.2 s ahead of the server's
{START}refused connection (of-another-version) x1 from 10.0.0.2: so
ERROR flwr 2026-11-25 21:47:07,487 | http.py:76 | [/v1/control/list-runs][ApiError:1] refused connection (tls) x5 from
"""


def test_every_kind_of_refusal_is_counted(tmp_path: Path) -> None:
    log = tmp_path / "superlink.log"
    log.write_text(LINES)
    counter = RefusalCounter(log)
    counter.update()
    counted = {reason: count for reason, count in counter.counts.items() if count}
    assert counted == {"plaintext": 341, "tls": 1, "not-for-sites": 1, "clock": 2}
    assert set(counter.counts) == set(Reason)


def test_a_flood_is_few_lines_with_the_right_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "_LINE_EVERY_S", 0.05)
    lines: list[str] = []
    monkeypatch.setattr(refusals, "log", lambda level, text, *values: lines.append(START + text % values + "\n"))

    async def flood() -> None:
        log = RefusalLog()
        for _ in range(1000):
            log.add(Reason.NO_KEY, "10.0.0.9", "no key")
            log.add(Reason.CLOCK, "10.0.0.1", "node 1: off", "node 1")
        log.add(Reason.CLOCK, "10.0.0.2", "node 2: off", "node 2")
        await asyncio.sleep(0.08)
        log.add(Reason.NO_KEY, "10.0.0.8", "no key")
        log.flush()

    asyncio.run(flood())
    assert len(lines) == 6
    assert sum("node 2" in line for line in lines) == 1
    path = tmp_path / "superlink.log"
    path.write_text("".join(lines))
    counter = RefusalCounter(path)
    counter.update()
    assert (counter.counts[Reason.NO_KEY], counter.counts[Reason.CLOCK]) == (1001, 1001)


def test_a_line_is_counted_once_and_when_it_is_complete(tmp_path: Path) -> None:
    log, lines = tmp_path / "superlink.log", LINES.splitlines(keepends=True)
    counter = RefusalCounter(log)
    log.write_text(lines[4][:-5])
    counter.update()
    assert counter.counts[Reason.TLS] == 0
    with log.open("a") as file:
        file.write(lines[4][-5:] + lines[2])
    counter.update()
    counter.update()
    assert (counter.counts[Reason.TLS], counter.counts[Reason.PLAINTEXT]) == (1, 1)


def test_rotation_loses_no_count(tmp_path: Path) -> None:
    log = tmp_path / "superlink.log"
    log.write_text(LINES)
    counter = RefusalCounter(log)
    counter.update()
    log.rename(tmp_path / "superlink.log.1")
    counter.update()
    log.write_text(LINES.splitlines(keepends=True)[4])
    counter.update()
    assert counter.counts[Reason.TLS] == 2


def test_no_log_is_no_refusal(tmp_path: Path) -> None:
    counter = RefusalCounter(tmp_path / "nothing.log")
    counter.update()
    assert not any(counter.counts.values())
