"""The server app's log: words for people in the run folder, one JSON object a line on standard error for machines."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from federation.json_log import JsonFormatter
from server.run_folder.folder import LOG_NAME

JSON_LOG_NAME = "server.jsonl"
_PACKAGES = ("server", "model", "federation", "data_partition")
"""That the server app runs: `model` says which checkpoint is damaged."""


@contextlib.contextmanager
def logging_to(folder: Path) -> Iterator[None]:
    """Write what the server's packages log, and the error that ends it, to standard error and two files of a run.

    Args:
        folder: of the run; `server.log` and `server.jsonl` are appended to.
    """
    words = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handlers: list[tuple[logging.Handler, logging.Formatter]] = [
        (logging.StreamHandler(), JsonFormatter()),
        (logging.FileHandler(folder / LOG_NAME, encoding="utf-8"), words),
        (logging.FileHandler(folder / JSON_LOG_NAME, encoding="utf-8"), JsonFormatter()),
    ]
    logger = logging.getLogger("server")
    logger.setLevel(logging.INFO)
    for handler, formatter in handlers:
        handler.setFormatter(formatter)
        for package in _PACKAGES:
            logging.getLogger(package).addHandler(handler)
    try:
        yield
    except Exception as error:
        logger.error("training ends: %s", error)
        raise
    finally:
        for handler, _ in handlers:
            for package in _PACKAGES:
                logging.getLogger(package).removeHandler(handler)
            handler.close()
