"""Mixed precision: bfloat16 where a device computes it quicker than float32, and what is kept out of it.

Networks in mixed precision have their convolutions' weights with the channels last, as these kernels want them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch

Function = TypeVar("Function", bound=Callable[..., Any])


def is_quick_in_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16: NVIDIA GPUs since Ampere, CPUs with AVX-512 BF16 or AMX."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older PyTorch does not say
    return device.type == "cpu" and bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def mixed_precision(device: torch.device, *, is_on: bool) -> torch.autocast:
    """A context in which matrix products and convolutions are computed in bfloat16, if it is on."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=is_on)


def in_full_precision(function: Function) -> Function:
    """The function, computed in float32 in such a context too: solves, inverses, positions in pixels."""
    for device_type in ("cpu", "cuda"):
        function = torch.autocast(device_type, enabled=False)(function)
    return function
