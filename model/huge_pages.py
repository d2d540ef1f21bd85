"""Memory in huge pages, for which a process has to ask when it begins (docs/decisions/045-memory-in-huge-pages.md)."""

from __future__ import annotations

import contextlib
import os
import sys

VARIABLE = "GLIBC_TUNABLES"
HUGE_PAGES = {VARIABLE: "glibc.malloc.hugetlb=1"}
"""Environment in which glibc 2.35 and later asks for them; others do not look at it."""


def begin_with_huge_pages() -> None:
    """Begin this process anew with them, under the same command line; nothing if its environment says something else.

    To be called before anything costly is imported.
    """
    if sys.platform != "linux" or VARIABLE in os.environ:
        return
    os.environ.update(HUGE_PAGES)
    with contextlib.suppress(OSError):  # it goes on without them
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
