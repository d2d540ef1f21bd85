"""The device of these tests: CUDA, or what FEDREENACT_TEST_DEVICE names, so that the tests can be tried on a CPU."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

VARIABLE = "FEDREENACT_TEST_DEVICE"

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it matrix products are not repeatable on CUDA


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where every test of this folder computes what it compares with the CPU."""
    chosen = torch.device(os.environ.get(VARIABLE) or "cuda")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        pytest.skip(f"no CUDA device here; {VARIABLE}=cpu tries the tests themselves")
    return chosen


@pytest.fixture(autouse=True)
def without_tf32() -> Iterator[None]:
    """Convolutions and products of float32 in float32."""
    flags = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [flag.allow_tf32 for flag in flags]
    for flag in flags:
        flag.allow_tf32 = False
    yield
    for flag, value in zip(flags, before, strict=True):
        flag.allow_tf32 = value


@pytest.fixture
def repeatable() -> Iterator[None]:
    """Operators that give the same bits each time; an error where there is none."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
