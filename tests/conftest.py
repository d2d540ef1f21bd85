"""One thread per test process: small networks run ten times faster than when threads fight over the cores."""

import os

import torch
from hypothesis import settings

from client.node_config import SUPERNODE_VARIABLE

os.environ[SUPERNODE_VARIABLE] = "1"  # tests of deployed sites are below no SuperNode
torch.set_num_threads(1)
settings.register_profile("repeatable", deadline=None, derandomize=True)  # a busy machine must not fail a test
settings.load_profile("repeatable")
