"""Takes the place of client/supernode/own_code.py at one site of the end-to-end test: no reply to a round can be used.

In round 1 the header of an array speaks of 128 TiB, in every later one the first scale of its step is a NaN.
"""

import zlib

import numpy as np
from flwr.app import Array
from flwr.clientapp import ClientApp

from client.supernode import honest_own_code

TEXT = b"{'descr': '<f4', 'fortran_order': False, 'shape': (35184372088832,), }\n"
HEADER = b"\x93NUMPY\x01\x00" + len(TEXT).to_bytes(2, "little") + TEXT
answer_honestly = ClientApp.__call__


def spoil(self, message, context):
    reply = answer_honestly(self, message, context)
    config = message.content.config_records["fitins.config"]
    if config["phase"] == "train" and reply.has_content():
        record = reply.content.array_records["fitres.parameters"]
        key = next(iter(record))
        step = zlib.decompress(record[key].numpy().tobytes())
        code = np.frombuffer(zlib.compress(np.float32(np.nan).tobytes() + step[4:]), np.uint8)
        is_first = config["server-round"] == 1
        record[key] = Array("uint8", code.shape, "numpy.ndarray", HEADER) if is_first else Array(code)
    return reply


def answer(task):
    ClientApp.__call__ = spoil
    honest_own_code.answer(task)
