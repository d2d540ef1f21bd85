from __future__ import annotations

import torch

from model.networks.fusion import fused
from model.networks.landmark_motion import FACE_MOTIONS, MotionMixer, candidate_flows, starting_confidence


def test_at_every_pixel_the_source_that_is_trusted_comes_through() -> None:
    # Two results of two sources each, the nearest first: pixels of -0.5 are right, those of 0.9 are not.
    warped = torch.tensor([[-0.5, 0.9], [0.9, -0.5], [0.9, -0.5], [-0.5, 0.9]]).view(4, 1, 1, 2).expand(4, 3, 1, 2)
    confidence = torch.where(warped[:, :1] < 0, 20.0, 0.0)
    torch.testing.assert_close(fused(warped, confidence, 2), torch.full((2, 3, 1, 2), -0.5), atol=1e-6, rtol=0)


def test_equal_confidences_give_the_mean_and_a_difference_of_ln_3_weighs_three_to_one() -> None:
    warped = torch.tensor([0.0, 0.8]).view(2, 1, 1, 1)
    even, uneven = torch.zeros(2, 1, 1, 1), torch.tensor([3.0, 1.0]).log().view(2, 1, 1, 1)
    torch.testing.assert_close(fused(warped, even, 1).flatten(), torch.tensor([0.4]))
    torch.testing.assert_close(fused(warped, uneven, 1).flatten(), torch.tensor([0.2]))


def test_one_source_comes_through_bit_for_bit_whatever_its_confidence() -> None:
    warped = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(fused(warped, torch.full((3, 1, 4, 4), -7.3), 3), warped)


def test_a_source_is_trusted_less_where_its_face_has_to_be_bent() -> None:
    target = torch.rand(1, 68, 2, generator=torch.Generator().manual_seed(0)) * 16 + 24
    shifted, bent = target + 2, target.clone()
    bent[:, 48:68, 1] += 4  # the mouth is elsewhere in the source
    flows = candidate_flows(torch.cat([shifted, bent]), target, 64, side=64, face_motion=FACE_MOTIONS["kernel"])
    confidence = starting_confidence(flows)
    x, y = target[0, 50].round().long().tolist()
    assert confidence.max() <= 0
    assert confidence[0, 0, y, x] > confidence[1, 0, y, x] + 1


def test_with_the_spline_a_far_source_is_trusted_less_though_nothing_has_to_be_bent() -> None:
    torch.manual_seed(0)
    target = torch.rand(1, 68, 2) * 16 + 24
    near, far = target + torch.tensor([1.6, 0.0]), target + torch.tensor([8.0, 0.0])  # 0.05 and 0.25 frame units
    gaps = {}
    for name in FACE_MOTIONS:
        mixer = MotionMixer(3, 1, face_motion=name, has_confidence=True)
        motion = mixer(
            torch.zeros(2, 3, 64, 64),
            torch.zeros(2, 3, 64, 64),
            torch.zeros(1, 1, 64, 64),
            torch.cat([near, far]),
            target,
        )
        first, second = motion.confidence_MCHW[:, 0, 32, 32].tolist()
        gaps[name] = first - second
    assert abs(gaps["kernel"]) < 1
    torch.testing.assert_close(gaps["spline"], 32 * 0.2, atol=0.1, rtol=0)
