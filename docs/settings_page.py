"""Writes docs/settings.md from the configuration classes and the presets: `make docs`."""

from __future__ import annotations

import ast
from pathlib import Path

from deploy.files import PRESETS
from federation.settings import MEANINGS, Settings, read_preset

ROOT = Path(__file__).parents[1]
FILES = ("model/config.py", "data_partition/config.py", "federation/settings.py")
PAGE = ROOT / "docs" / "settings.md"
SHOWN = ("studio", "small", "tiny")
"""Presets with a column of their own; `paper` is the defaults."""

_INTRODUCTION = """# Settings

Written by `make docs` from the configuration classes; do not edit.

Every setting is a scalar with a kebab-case key. A preset is a TOML file of such keys in `deploy/presets`; what a
preset does not name keeps its default, which is the thesis' value and the `paper` preset.

- `fedreenact train DATASET --out RUN --preset tiny --set max-rounds=20` changes one setting;
- `fedreenact settings --preset tiny --set max-rounds=20 > run.toml` writes all of them for
  `flwr run . --run-config run.toml`;
- every checkpoint carries the settings it was trained with.

A meaning that begins with + belongs to a term or mechanism beyond the thesis; it is off by default, except for limits
on what a broken or hostile site can do (docs/attacks.md).
"""


def settings_page() -> str:
    """The whole page as Markdown."""
    defaults = Settings().to_flat()
    presets = {name: read_preset(PRESETS / f"{name}.toml") for name in SHOWN}
    changeable = sorted(key for key, meaning in MEANINGS.items() if meaning.may_change)
    lines = [_INTRODUCTION, f"A resumed run may have other values of {', '.join(f'`{key}`' for key in changeable)}."]
    for title, fields in _documented_classes():
        lines += [
            f"\n## {title}\n",
            f"| key | paper | {' | '.join(SHOWN)} | bounds | meaning |",
            "|---" * (len(SHOWN) + 4) + "|",
        ]
        for name, meaning in fields:
            key = name.replace("_", "-")
            values = [_shown(presets[preset].get(key, "")) for preset in SHOWN]
            lines.append(
                f"| `{key}` | {_shown(defaults[key])} | {' | '.join(values)} | {MEANINGS[key].in_words()} | {meaning} |"
            )
    return "\n".join(lines) + "\n"


def _documented_classes() -> list[tuple[str, list[tuple[str, str]]]]:
    """First line of each configuration class and its fields with their docstrings, in the order of the files."""
    bodies = [ast.parse((ROOT / file).read_text(encoding="utf-8")).body for file in FILES]
    nodes = [node for body in bodies for node in body]
    classes = [node for node in nodes if isinstance(node, ast.ClassDef) and node.name != "Settings"]
    return [((ast.get_docstring(node) or "").rstrip("."), _documented_fields(node)) for node in classes]


def _documented_fields(node: ast.ClassDef) -> list[tuple[str, str]]:
    fields = []
    for field, text in zip(node.body, node.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            assert isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant), field.target.id
            fields.append((field.target.id, " ".join(str(text.value.value).split()).replace("|", "\\|")))
    return fields


def _shown(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text}`" if text else ""


if __name__ == "__main__":
    PAGE.write_text(settings_page(), encoding="utf-8")
