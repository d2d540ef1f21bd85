from __future__ import annotations

import pytest
import torch

from model.precision import is_quick_in_bfloat16


@pytest.mark.parametrize(
    ("capabilities", "is_quick"),
    [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx2": True, "avx512_bf16": False}, False)],
)
def test_a_cpu_is_quick_with_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], is_quick: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert is_quick_in_bfloat16(torch.device("cpu")) == is_quick


def test_where_pytorch_does_not_say_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not is_quick_in_bfloat16(torch.device("cpu"))
