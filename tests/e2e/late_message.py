"""Takes the place of client/supernode/process.py at one site of the end-to-end test: its messages come late.

On a busy machine the process that answers a message may be quicker than the thread that stores the message.
"""

import time

from client.supernode.honest_process import main
from flwr.supernode.nodestate.in_memory_nodestate import InMemoryNodeState

__all__ = ["main"]

LATE_S = 3.0
create_task = InMemoryNodeState.create_task


def create_and_be_late(self, *arguments, **named):
    task_id = create_task(self, *arguments, **named)
    time.sleep(LATE_S)
    return task_id


InMemoryNodeState.create_task = create_and_be_late
