"""The demonstration's page: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from evaluation.comparison import Comparison
from model.config import Settings

_MEDIA_TYPES = {".png": "image/png", ".mp4": "video/mp4"}
_SHOWN_SETTINGS = (
    "image-size-px",
    "num-clients",
    "local-steps",
    "max-rounds",
    "tau",
    "batch-size",
    "learning-rate-generator",
    "learning-rate-discriminator",
    "perceptual-backbone",
    "server-ema-decay",
    "seed",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoResults:
    """Numbers and pictures of a finished run."""

    comparison: Comparison
    history: Sequence[Mapping[str, Any]]
    """Rows of history.jsonl."""
    curves: Path
    self_sheet: Path
    cross_sheet: Path
    clip: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoPage:
    """What the page shows."""

    settings: Settings
    seconds: Mapping[str, float]
    """Step of the demonstration to its duration."""
    places: Mapping[str, Path]
    """What is where on this machine."""
    results: DemoResults


def write_page(path: Path, page: DemoPage) -> Path:
    """Write the page with all pictures and the clip inside; returns `path`."""
    environment = Environment(
        loader=PackageLoader("reenact"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"inline": _data_uri, "duration": _duration}
    flat = page.settings.to_flat()
    text = environment.get_template("demo.html.j2").render(
        page=page,
        results=page.results,
        overall=page.results.comparison.overall,
        gain_db=page.results.comparison.overall.model.psnr_db - page.results.comparison.overall.copy_source.psnr_db,
        settings={key: flat[key] for key in _SHOWN_SETTINGS},
        versions={name: version(name) for name in ("flwr", "torch", "mediapipe")},
    )
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
    return path


def _data_uri(path: Path) -> str:
    """The file as a data URI, so that the page can be sent on as one file."""
    return f"data:{_MEDIA_TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def _duration(seconds: float) -> str:
    """90 as "1 min 30 s"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
