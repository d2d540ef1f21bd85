"""What the generator computes and ONNX has no operator for, put together from operators that it has.

Legend: N systems, R rows, C right-hand sides, T tokens, D channels.
"""

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import DOUBLE, script
from onnxscript import opset18 as op

OPSET = 18
"""Version of ONNX's operators; scripts and graph must have the same."""
_DOUBLE = 11
"""Of ONNX's `TensorProto.DataType`."""


@script(default_opset=op)  # type: ignore[untyped-decorator]
def solved(a: DOUBLE[...], b: DOUBLE[...]) -> DOUBLE[...]:
    """[N, R, C] x of a x = b, [N, R, R] and [N, R, C], by Gauss-Jordan elimination; the pivot is a column's largest."""
    num_rows = op.Shape(a, start=2)
    row = op.Unsqueeze(op.Range(0, op.Squeeze(num_rows), 1), [0, 2])
    work = op.Concat(a, b, axis=2)
    used = op.Mul(op.Slice(a, [0], [1], [2]), 0.0)
    order = op.Slice(work, [0], [0], [2])
    for k in range(op.Squeeze(num_rows)):
        column = op.Gather(work, op.Unsqueeze(k, [0]), axis=2)
        size = op.Sub(op.Abs(column), op.Mul(used, 1e30))
        is_pivot = op.CastLike(op.Equal(row, op.ArgMax(size, axis=1)), a)
        chosen = op.Transpose(is_pivot, perm=[0, 2, 1])
        pivot = op.Div(op.MatMul(chosen, work), op.MatMul(chosen, column))
        work = op.Sub(work, op.Mul(op.Sub(column, is_pivot), pivot))
        used = op.Add(used, is_pivot)
        order = op.Concat(order, is_pivot, axis=2)
    solution = op.Slice(work, num_rows, op.Shape(work, start=2), [2])
    return op.MatMul(op.Transpose(order, perm=[0, 2, 1]), solution)


def _solve(a: Any, b: Any, left: bool = True, check_errors: bool = False) -> Any:
    """Of `torch.linalg.solve_ex` on [N, R, R] and [N, R, C]; in single precision pictures are ten times further off."""
    return op.CastLike(solved(op.Cast(a, to=_DOUBLE), op.Cast(b, to=_DOUBLE)), a), op.Constant(value_int=0)


def _inv(a: Any, check_errors: bool = False) -> Any:
    """Of `torch.linalg.inv_ex` on [N, R, R]."""
    identity = op.EyeLike(op.ReduceSum(a, [0], keepdims=0))
    return _solve(a, op.Add(op.Mul(a, 0.0), identity))


def _attention(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> Any:
    """Of `scaled_dot_product_attention` on [N, T, D]; the exporter's own takes heads alone."""
    scale = op.Constant(value_float=float(q.shape[-1]) ** -0.5)
    logits = op.MatMul(op.Mul(q, scale), op.Transpose(k, perm=[0, 2, 1]))
    return op.MatMul(op.Softmax(logits, axis=-1), v)


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.linalg_solve_ex.default: _solve,
    torch.ops.aten.linalg_inv_ex.default: _inv,
    torch.ops.aten.scaled_dot_product_attention.default: _attention,
}
"""By PyTorch's operator, as the exporter takes them."""
