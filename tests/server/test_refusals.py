from __future__ import annotations

from pathlib import Path

from server.refusals import RefusalCounter

LINES = """\
INFO flwr 2026-11-25 21:46:52,782 | flower_superlink.py:472 | Starting Flower SuperLink
WARNING flwr 2026-11-25 21:47:00,649 | superlink_process.py:48 | refused connection (not-for-sites) from 10.0.0.2: '/v1/control/x'
WARNING flwr 2026-11-25 21:47:01,861 | superlink_process.py:96 | refused connection (plaintext) from 10.0.0.2: TLS handshake failed
WARNING flwr 2026-11-25 21:47:02,136 | superlink_process.py:96 | refused connection (plaintext) from 10.0.0.2: TLS handshake failed
WARNING flwr 2026-11-25 21:47:03,778 | superlink_process.py:96 | refused connection (tls) from 10.0.0.2: TLS handshake failed
ERROR flwr 2026-11-25 21:47:05,408 | http.py:76 | [/v1/fleet/register-node][ApiError:2001] Attempted to register SuperNode
ERROR flwr 2026-11-25 21:47:07,487 | http.py:76 | [/v1/fleet/activate-node][ApiError:2004] Attempted to register SuperNode
ERROR flwr 2026-11-25 21:47:07,487 | http.py:76 | [/v1/control/list-runs][ApiError:1002] Unsupported Content-Type: ''
"""  # noqa: E501


def test_every_kind_of_refusal_is_counted(tmp_path: Path) -> None:
    log = tmp_path / "superlink.log"
    log.write_text(LINES)
    counter = RefusalCounter(log)
    counter.update()
    assert counter.counts == {"plaintext": 2, "tls": 1, "no-key": 1, "unknown-key": 1, "not-for-sites": 1}


def test_a_line_is_counted_once_and_when_it_is_complete(tmp_path: Path) -> None:
    log, lines = tmp_path / "superlink.log", LINES.splitlines(keepends=True)
    counter = RefusalCounter(log)
    log.write_text(lines[4][:-5])
    counter.update()
    assert counter.counts["tls"] == 0
    with log.open("a") as file:
        file.write(lines[4][-5:] + lines[2])
    counter.update()
    counter.update()
    assert (counter.counts["tls"], counter.counts["plaintext"]) == (1, 1)


def test_rotation_loses_no_count(tmp_path: Path) -> None:
    log = tmp_path / "superlink.log"
    log.write_text(LINES)
    counter = RefusalCounter(log)
    counter.update()
    log.rename(tmp_path / "superlink.log.1")
    counter.update()
    log.write_text(LINES.splitlines(keepends=True)[4])
    counter.update()
    assert counter.counts["tls"] == 2


def test_no_log_is_no_refusal(tmp_path: Path) -> None:
    counter = RefusalCounter(tmp_path / "nothing.log")
    counter.update()
    assert not any(counter.counts.values())
