"""Memory in huge pages, for which a process has to ask when it begins (docs/decisions/045-memory-in-huge-pages.md)."""

from __future__ import annotations

import contextlib
import os
import sys

VARIABLE = "GLIBC_TUNABLES"


def ask_for_huge_pages() -> None:
    """Ask for them in all that this process starts, unless its environment says something else.

    glibc 2.35 and later reads that when a process begins; others do not look at it.
    """
    os.environ.setdefault(VARIABLE, "glibc.malloc.hugetlb=1")


def begin_with_huge_pages() -> None:
    """Begin this process anew with them, under the same command line; nothing if its environment says something else.

    To be called before anything costly is imported.
    """
    if sys.platform != "linux" or VARIABLE in os.environ:
        return
    ask_for_huge_pages()
    with contextlib.suppress(OSError):  # it goes on without them
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
