from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from server.update_geometry import Step, UpdateGeometry


def tensors(a: list[float], b: float) -> dict[str, np.ndarray]:
    return {"a": np.asarray(a, np.float32), "b": np.asarray([[b]], np.float32)}


def test_norm_and_cosine_by_hand(tmp_path: Path) -> None:
    geometry = UpdateGeometry(tensors([1, 1], 1), tmp_path / "updates")
    geometry.add(0, tensors([4, 1], 5))  # step (3, 0, 4)
    geometry.add(3, tensors([1, 2], 1))  # step (0, 1, 0)
    steps = geometry.measure(tensors([2.5, 1.5], 3))  # step (1.5, .5, 2)
    assert steps[0].norm == pytest.approx(5)
    assert steps[3].norm == pytest.approx(1)
    assert steps[0].cosine_to_mean == pytest.approx((3 * 1.5 + 4 * 2) / (5 * np.sqrt(6.5)))
    assert steps[3].cosine_to_mean == pytest.approx(0.5 / np.sqrt(6.5))


def test_a_flipped_step_points_the_other_way(tmp_path: Path) -> None:
    geometry = UpdateGeometry(tensors([0, 0], 0), tmp_path / "updates")
    geometry.add(0, tensors([-1, -2], -3))
    assert geometry.measure(tensors([1, 2], 3))[0].cosine_to_mean == pytest.approx(-1)


def test_no_step_has_no_direction(tmp_path: Path) -> None:
    geometry = UpdateGeometry(tensors([1, 1], 1), tmp_path / "updates")
    geometry.add(0, tensors([1, 1], 1))
    assert geometry.measure(tensors([2, 2], 2)) == {0: Step(norm=0.0, cosine_to_mean=0.0)}


def test_nothing_stays_on_disk(tmp_path: Path) -> None:
    folder = tmp_path / "updates"
    geometry = UpdateGeometry(tensors([1, 1], 1), folder)
    geometry.add(0, tensors([2, 1], 1))
    assert list(folder.iterdir())
    geometry.measure(tensors([2, 1], 1))
    assert not folder.exists()


def test_what_a_killed_server_left_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "updates"
    UpdateGeometry(tensors([1, 1], 1), folder).add(0, tensors([2, 1], 1))
    UpdateGeometry(tensors([1, 1], 1), folder)
    assert not folder.exists()
