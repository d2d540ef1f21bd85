"""One thread per test process: small networks run ten times faster than when threads fight over the cores."""

import gc
import os

import pytest
from hypothesis import settings

from client.node_config import SUPERNODE_VARIABLE
from reenact.marks.key import FOLDER_VARIABLE

os.environ[SUPERNODE_VARIABLE] = "1"  # tests of deployed sites are below no SuperNode
os.environ["OMP_NUM_THREADS"] = "1"  # for PyTorch, which pytest-xdist's first process has no need to import
settings.register_profile("repeatable", deadline=None, derandomize=True)  # a busy machine must not fail a test
settings.load_profile("repeatable")


gc.disable()


def pytest_collection_finish() -> None:
    """The million objects of what was imported stay: collections need not look through them again and again."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_disks():
    """Files of tests need not outlive a power cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def own_marking_key(tmp_path_factory):
    """No test makes or uses the key of the user who runs it."""
    os.environ[FOLDER_VARIABLE] = str(tmp_path_factory.mktemp("marking") / "key")
