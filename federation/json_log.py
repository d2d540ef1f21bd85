"""Log records as JSON, one object a line, for machines that read logs."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

_FIELDS = ("round", "site")


class JsonFormatter(logging.Formatter):
    """`time` (UTC, ISO 8601), `level`, `logger`, `message`, and where a record has them `round`, `site`, `error`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def log_to_stderr(*packages: str) -> None:
    """Have what these packages log from INFO on go to standard error, one object a line."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    for package in packages:
        logging.getLogger(package).addHandler(handler)
        logging.getLogger(package).setLevel(logging.INFO)
