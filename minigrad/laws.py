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
    "additive_in_first", "area_under_f", "divergence", "duality", "forward_one", "outputs_sum_to_one",
    "rows_sum_to_one", "rows_sum_to_zero", "shift_invariant", "symmetric", "translates",
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


# Laws of the losses that belong to a transfer function, their hyper-parameter ``transfer``.


def divergence(operation: Any, first: Any, second: Any) -> float:
    """A matching loss is not negative, and zero where f is the same (LP-12)."""
    f = operation.transfer
    same = f.matching_loss(first, first), f.fenchel_young(first, f.value(first))
    least = min(float(np.min(loss)) for loss in (f.matching_loss(first, second), f.matching_loss(second, first)))
    return max(*(float(np.max(abs(loss))) for loss in same), -least)


def area_under_f(operation: Any, first: Any, second: Any) -> float:
    """M(a_hat, a) is the integral of f(t) - f(a) along the way from a to a_hat, by quadrature (LP-12)."""
    from scipy.integrate import quad

    f = operation.transfer
    a_hat, a = np.atleast_1d(first).astype(float), np.atleast_1d(second).astype(float)
    ways = [(a_hat, a)] if f.name == "softmax" else zip(a_hat.reshape(-1, 1), a.reshape(-1, 1), strict=True)
    error = 0.0
    for end, begin in ways:
        d = end - begin

        def height(s: float, begin: Any = begin, d: Any = d) -> float:
            return float((f.value(begin + s * d) - f.value(begin)) @ d)

        crossing = sorted({0.5, *(s for s in -begin / np.where(d == 0, 1, d) if 0 < s < 1)})
        area = quad(height, 0, 1, points=crossing, limit=400, epsabs=1e-13)[0]
        error = max(error, abs(float(np.sum(f.matching_loss(end, begin))) - area) / max(1.0, area))
    return error


def duality(operation: Any, first: Any, second: Any) -> float:
    """D_F(u, v) = D_F*(f(v), f(u)), where f has an inverse (LP-13)."""
    f = operation.transfer
    try:
        f.inverse(f.value(first))
    except ValueError:
        return 0.0
    ours, dual = f.bregman(first, second), f.dual_bregman(f.value(second), f.value(first))
    return float(np.max(abs(ours - dual) / np.maximum(1, abs(ours))))
