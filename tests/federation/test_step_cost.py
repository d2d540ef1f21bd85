"""Promises of federation.step_cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from federation.settings import Settings
from federation.step_cost import CONTEXT_BYTES, Cost, Workload, drawn_data, measured, settings_here
from tests.support.federated_setup import MINIMAL

SETTINGS = Settings.from_flat(MINIMAL | {"perceptual-every": 2})
COST = Cost(
    device="a card",
    is_mixed=True,
    perceptual="vgg16",
    step_s=0.1,
    frame_s=0.01,
    process_bytes=2 * 2**30,
    card_bytes=0,
    device_bytes=16 * 2**30,
    utilisation=None,
)


def test_a_workload_trains_from_the_step_at_which_all_terms_are_on(tmp_path: Path) -> None:
    settings = SETTINGS.replaced({"network": "glr", "adversarial-from-step": 7, "perceptual-every": 3})
    work = Workload(drawn_data(tmp_path, settings), settings)
    first = work.trainer.step
    work.train()
    assert first == 7 and work.trainer.step == first + work.steps_in_cycle and work.steps_in_cycle == 3
    work.drawing()()


@pytest.mark.integration
def test_costs_are_measured_in_a_process_of_its_own() -> None:
    cost = measured(SETTINGS, 0.0)
    assert cost is not None
    assert cost.step_s > 0 and cost.frame_s > 0 and cost.device == "cpu" and not cost.is_mixed
    assert 2**27 < cost.process_bytes < cost.device_bytes and cost.card_bytes == 0


def test_processes_fit_by_the_memory_of_the_device_that_trains() -> None:
    assert COST.num_that_fit == 7  # nine tenths of 16 GiB, by two
    on_a_card = replace(COST, card_bytes=2 * 2**30 - CONTEXT_BYTES, device_bytes=80 * 2**30)
    assert on_a_card.bytes_each == 2 * 2**30 and on_a_card.num_that_fit == 36


def test_another_pretrained_file_stands_in_for_one_that_is_not_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDREENACT_VGG19_FILE", str(tmp_path / "not-there"))
    here = settings_here(SETTINGS.replaced({"network": "glr", "perceptual-backbone": "vgg19"}))
    assert here.loss.perceptual_backbone in ("vgg16", "none")
