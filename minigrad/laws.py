"""Laws that an operation states about itself, and that the audit checks at its samples.

A law is a function ``law(operation, *sample) -> error``: how far from holding it is, 0 where it holds. ``sample`` is
one sample of the inputs, without the axis of samples. Laws see only ``forward_one`` and ``jacobian``, so each of
them is a witness besides formula and differences.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .operation import Operation, as_tuple

__all__ = [
    "additive_in_first", "forward_one", "outputs_sum_to_one", "rows_sum_to_one", "rows_sum_to_zero", "shift_invariant",
    "symmetric", "translates",
]  # fmt: skip


def forward_one(operation: Operation, *sample: Any) -> np.ndarray:
    """The output of one sample: forward on a batch of one."""
    inputs = operation.parsed.of(len(sample))
    arrays = [
        value if value is None or not variable.samples else np.asarray(value)[None]
        for variable, value in zip(inputs, sample, strict=True)
    ]
    value = np.asarray(operation.output(*arrays))
    return value[0] if operation.parsed.output.samples else value


def dense(matrix: Any) -> np.ndarray:
    """A Jacobian as an ordinary array, also where the operation gives a sparse one."""
    return matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)


def _jacobian(operation: Operation, *sample: Any) -> np.ndarray:
    return dense(as_tuple(operation.jacobian(*sample))[0])


def symmetric(operation: Operation, *sample: Any) -> float:
    """J = J^T: the function is the gradient of a potential."""
    J = _jacobian(operation, *sample)
    return float(abs(J - J.T).max())


def rows_sum_to_zero(operation: Operation, *sample: Any) -> float:
    """J 1 = 0: adding one number to every input changes nothing."""
    return float(abs(_jacobian(operation, *sample).sum(axis=1)).max())


def rows_sum_to_one(operation: Operation, *sample: Any) -> float:
    """J 1 = 1: adding one number to every input adds it to every output."""
    return float(abs(_jacobian(operation, *sample).sum(axis=1) - 1).max())


def outputs_sum_to_one(operation: Operation, *sample: Any) -> float:
    """The outputs lie on the simplex."""
    y = forward_one(operation, *sample)
    return float(abs(y.sum() - 1) + max(0.0, -y.min()))


def shift_invariant(operation: Operation, first: Any, *rest: Any) -> float:
    """f(x + c) = f(x) for numbers c of every size."""
    y = forward_one(operation, first, *rest)
    return max(float(abs(forward_one(operation, first + c, *rest) - y).max()) for c in (-512.0, 0.25, 1024.0))


def translates(operation: Operation, first: Any, *rest: Any) -> float:
    """f(x + c) = f(x) + c, relative to c."""
    y = forward_one(operation, first, *rest)
    return max(float(abs(forward_one(operation, first + c, *rest) - c - y).max() / c) for c in (0.25, 1024.0))


def additive_in_first(operation: Operation, first: Any, *rest: Any) -> float:
    """f(x) = f(0) + J x: the function is affine in its first input, and the Jacobian is its matrix."""
    y = forward_one(operation, first, *rest)
    constant = forward_one(operation, np.zeros_like(first), *rest)
    J = _jacobian(operation, first, *rest)
    return float(abs(y.ravel() - constant.ravel() - J @ np.asarray(first).ravel()).max())
