"""Takes the place of client/supernode/process.py at one site of the end-to-end test: its clock is another's.

How many seconds it is ahead stands in a file, which the test may change while the site runs.
"""

import datetime
import time
from pathlib import Path

from client.supernode.honest_process import main
from flwr.supernode import node_auth_http_interceptor

__all__ = ["main"]

OFFSET = Path("/clock-ahead-s")
right = time.time


def shifted():
    return right() + float(OFFSET.read_text() or 0)


time.time = shifted
node_auth_http_interceptor.now = lambda: datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
