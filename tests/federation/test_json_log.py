from __future__ import annotations

import json
import logging

from federation.json_log import JsonFormatter


def line(record: logging.LogRecord) -> dict[str, object]:
    text = JsonFormatter().format(record)
    assert "\n" not in text
    return dict(json.loads(text))


def test_a_record_is_one_object_with_round_and_site() -> None:
    record = logging.LogRecord("server.rounds.fedgan", logging.WARNING, "", 0, "client %d is left out", (3,), None)
    record.created = 0.25
    record.round, record.site = 7, 3
    assert line(record) == {
        "time": "1970-01-01T00:00:00.250+00:00",
        "level": "warning",
        "logger": "server.rounds.fedgan",
        "message": "client 3 is left out",
        "round": 7,
        "site": 3,
    }


def test_a_traceback_and_line_breaks_stay_in_the_line() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        record = logging.LogRecord(
            "client", logging.ERROR, "", 0, "failed", (), (ValueError, error, error.__traceback__)
        )
    entry = line(record)
    assert "ValueError: two\nlines" in str(entry["error"])
    assert "round" not in entry
