"""`make bench` on the smallest network: every figure can be had, and is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import figures


@pytest.mark.integration
def test_every_figure_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "PRESET_NAMES", ("tiny",))
    monkeypatch.setattr(figures, "NETWORKS", ("x2face",))
    bench = figures.Bench(tmp_path)
    once = bench.once()
    timed = {name: measure() for name, measure in bench.timed()}
    assert not once.keys() & timed.keys()
    assert min(*once.values(), *timed.values()) > 0
    sent = {codec: sum(value for name, value in once.items() if f"{codec}:" in name) for codec in figures.CODECS}
    assert sent["int8"] < sent["float32"] / 4 < sent["bfloat16"] < sent["float32"] / 2
