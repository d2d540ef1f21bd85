"""One picture out of several warped sources, chosen pixel by pixel. Not in the thesis (docs/decisions/025).

Legend: N results, K sources of each, M = K N with the N nearest sources first, S image side in pixels.
"""

from __future__ import annotations

from torch import Tensor


def fused(warped_MCHW: Tensor, confidence_M1HW: Tensor, num_results: int) -> Tensor:
    """The warped sources mixed by the softmax of their confidences.

    Args:
        warped_MCHW: [M, C, S, S], each source carried to where the result has it.
        confidence_M1HW: [M, 1, S, S] logits.
        num_results: N.

    Returns:
        [N, C, S, S]; of one source exactly that.
    """
    weight_KN1HW = by_source(confidence_M1HW, num_results).softmax(dim=0)
    return (weight_KN1HW * by_source(warped_MCHW, num_results)).sum(dim=0)


def by_source(values_MCHW: Tensor, num_results: int) -> Tensor:
    """[M, C, S, S] as [K, N, C, S, S]."""
    return values_MCHW.view(-1, num_results, *values_MCHW.shape[1:])
