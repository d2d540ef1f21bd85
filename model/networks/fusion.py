"""One picture out of several warped sources, chosen pixel by pixel. Not in the thesis (docs/decisions/025).

Legend: N results, K sources of each, M = K N with the N nearest sources first, S image side in pixels.
"""

from __future__ import annotations

import torch
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


def repeated(values_N: Tensor, num_each: int) -> Tensor:
    """[N, ...] as [num_each N, ...], in the order of the sources; the tensor itself where there is one of each."""
    if torch.compiler.is_exporting():  # for any number; its gradient is summed in another order
        return values_N.repeat(num_each, *[1] * (values_N.ndim - 1))
    return values_N if num_each == 1 else torch.cat([values_N] * num_each)
