from __future__ import annotations

import numpy as np
import pytest
import torch

from model.training.one_sided import FEWEST_STEPS, GradientTally, one_sided

NAME = "generator.extractor.embed.weight"
RATE = 1e-3


def tally(gradients_TD: np.ndarray) -> GradientTally:
    """Of rounds in which the watched tensor had these gradients, step after step."""
    counted, parameter = GradientTally([NAME]), torch.nn.Parameter(torch.zeros(gradients_TD.shape[1]))
    for gradient_D in gradients_TD:
        parameter.grad = torch.tensor(gradient_D, dtype=torch.float32)
        counted.add({NAME: parameter, "generator.image_generator.style": parameter})
    return counted


def reason(gradients_TD: np.ndarray, moved: float = RATE, *, is_fresh: bool = True) -> str:
    before = {NAME: np.zeros(gradients_TD.shape[1], np.float32)}
    after = {NAME: before[NAME] + np.float32(moved)}
    return one_sided(tally(gradients_TD), before, after, learning_rate=RATE, is_fresh=is_fresh)


def noise(num_steps: int, scale: float = 1.0) -> np.ndarray:
    return scale * np.random.default_rng(0).laplace(size=(num_steps, 1000))


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e6])
def test_gradients_of_all_steps_pass_whatever_their_size(scale: float) -> None:
    for num_steps in (10, 15, 50, 200):
        assert reason(noise(num_steps, scale)) == ""


@pytest.mark.parametrize("scale", [1e-30, 1e-11, 1.0, 1e200])
def test_one_step_among_many_is_seen_whatever_its_size(scale: float) -> None:
    gradients = np.zeros((50, 1000))
    gradients[17] = scale * noise(1)[0]
    assert f"{NAME} got their gradient from few of the steps" in reason(gradients)
    gradients += 1e-3 * scale * noise(50)  # a little of all the others does not hide it
    assert "from few of the steps" in reason(gradients)


def test_a_third_of_the_values_is_enough_to_be_seen() -> None:
    gradients = noise(50)
    gradients[1:, :330] = 0
    assert "from few" in reason(gradients)
    gradients[1:, 200:330] = 1
    assert reason(gradients) == ""


def test_no_gradient_at_all_is_answered_as_that_of_one_frame() -> None:
    """So that the answer does not say whether a frame passed."""
    assert "from few of the steps" in reason(np.zeros((50, 1000)))


def test_values_that_stand_still_with_fresh_optimisers_are_seen() -> None:
    assert "moved by less than a tenth of the learning rate" in reason(noise(50), moved=0.05 * RATE)
    assert reason(noise(50), moved=0.05 * RATE, is_fresh=False) == ""


def test_short_rounds_and_networks_without_an_extractor_are_not_looked_at() -> None:
    assert reason(np.zeros((FEWEST_STEPS - 1, 1000)), moved=0.0) == ""
    assert one_sided(GradientTally([]), {}, {}, learning_rate=RATE, is_fresh=True) == ""
