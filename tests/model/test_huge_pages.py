from __future__ import annotations

import os
import subprocess
import sys

import pytest

from model.huge_pages import VARIABLE
from tests.support.paths import ROOT

BEGIN = (
    "import os, sys; from model.huge_pages import begin_with_huge_pages; first = os.environ.get('GLIBC_TUNABLES'); "
    "begin_with_huge_pages(); print(os.getpid(), sys.flags.safe_path, sys.argv[1:], first)"
)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
@pytest.mark.parametrize("before", [None, "glibc.malloc.check=0", ""])
def test_a_process_begins_anew_once_under_its_command_line_and_leaves_what_somebody_set(before: str | None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    environment |= {"PYTHONPATH": str(ROOT)} | ({} if before is None else {VARIABLE: before})
    command = [sys.executable, "-P", "-c", BEGIN, "--set", "a name"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        said = process.communicate(timeout=60)[0]
    now = "glibc.malloc.hugetlb=1" if before is None else before
    assert said == f"{process.pid} True ['--set', 'a name'] {now}\n"
