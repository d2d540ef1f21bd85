"""Where the checkout is, and the real samples that may lie beside it."""

import ast
import functools
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("FEDREENACT_SHARED", ROOT.parent / "shared"))
"""Where it is not, `tests/support/samples.py` draws samples of the same form."""


@functools.cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of one of our modules, by its path below ROOT."""
    return ast.parse((ROOT / path).read_text("utf-8"))
