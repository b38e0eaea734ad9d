"""Softmax and its logarithm: from scores to the simplex.

Operations on vectors along ``axis``; every other axis counts samples. Each subtracts the largest score first, so no
exponential overflows, and the result is exact for scores of any size.

Letters: ``i`` entry of the output, ``k`` entry that is summed over, K their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..formula import Formula, indices, sp, total
from ..laws import outputs_sum_to_one, rows_sum_to_one, rows_sum_to_zero, shift_invariant, symmetric, translates
from ..operation import Operation, Source
from .arithmetic import CALCULUS

__all__ = ["LogSoftmax", "LogSumExp", "Softmax"]


class VectorOperation(Operation, abstract=True):
    """An operation on the vectors along one axis."""

    def __init__(self, axis: int = -1):
        self.axis = axis

    def check(self, *arrays: Any) -> None:
        shape = np.shape(arrays[0])
        if not -len(shape) <= self.axis < len(shape) or shape[self.axis] == 0:
            self.refuse(f"axis {self.axis} of an array of shape {shape}", "give an axis that has entries")

    def exponentials(self, z: Any) -> tuple[Any, Any]:
        """The largest score, and e^(z - largest)."""
        z = np.asarray(z)
        if z.ndim == 0 or z.size == 0:
            self.check(z)
        largest = z.max(axis=self.axis, keepdims=True)
        largest = np.where(np.isfinite(largest), largest, 0)  # inf - inf would be nan
        return largest, np.exp(z - largest)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), rng.normal(size=(3, 4))
        yield cls(1), rng.normal(size=(2, 3, 2))
        yield cls(), np.array([[1000.0, -1000.0, 999.0], [0.5, 0.5, 0.5]])
        yield cls(), np.array([[3.0, 2.5]])
        yield cls(), np.array([3.0])

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        yield lambda: cls(2).check(np.ones((2, 3))), "(2, 3)"
        yield lambda: cls().forward(np.ones((2, 0))), "(2, 0)"


class Softmax(VectorOperation):
    """p = softmax(z): scores to a point of the simplex, p_i = e^(z_i) / sum_k e^(z_k).

    The Jacobian diag(p) - p p^T is symmetric, and 0 on constant vectors (T-6 supplies what the source leaves out).
    """

    signature = "z[...,K] -> p[...,K]"
    source = Source("Tomasi 2019, section 1", "TC-02", "T-6")
    laws = (symmetric, rows_sum_to_zero, outputs_sum_to_one, shift_invariant)

    def formula(self, z: Any) -> Formula:
        i, k = indices("i k")
        (K,) = z.shape
        return Formula(sp.exp(z[i]) / total(sp.exp(z[k]), (k, K)), i)

    def forward(self, z: Any) -> Any:
        _, e = self.exponentials(z)
        return e / e.sum(axis=self.axis, keepdims=True)

    def jacobian(self, z: Any) -> Any:
        p = Softmax().forward(z)
        J = -np.outer(p, p)
        np.fill_diagonal(J, 0)
        np.fill_diagonal(J, -J.sum(axis=1))  # p_i (1 - p_i), without the subtraction
        return J

    @classmethod
    def tails(cls) -> Iterator[tuple[Any, ...]]:
        yield cls(), np.array([[40.0, 0.0, -500.0], [0.0, 1e-9, 0.0]])

    def vjp(self, g: Any, z: Any, p: Any) -> Any:
        return p * (g - (g * p).sum(axis=self.axis, keepdims=True))


class LogSoftmax(VectorOperation):
    """y = log softmax(z) = z - log sum_k e^(z_k), finite where softmax underflows to 0."""

    signature = "z[...,K] -> y[...,K]"
    source = Source("Tomasi 2019, section 2.2", "TC-08")
    laws = (rows_sum_to_zero, shift_invariant)

    def formula(self, z: Any) -> Formula:
        i, k = indices("i k")
        (K,) = z.shape
        return Formula(z[i] - sp.log(total(sp.exp(z[k]), (k, K))), i)

    def forward(self, z: Any) -> Any:
        largest, e = self.exponentials(z)
        return (z - largest) - np.log(e.sum(axis=self.axis, keepdims=True))

    def jacobian(self, z: Any) -> Any:
        return np.eye(len(z)) - Softmax().forward(z)

    def vjp(self, g: Any, z: Any, y: Any) -> Any:
        return g - np.exp(y) * g.sum(axis=self.axis, keepdims=True)


class LogSumExp(VectorOperation):
    """y = log sum_k e^(z_k), a smooth maximum; its gradient is softmax(z)."""

    name = "logsumexp"
    signature = "z[...,K] -> y[...]"
    source = CALCULUS
    laws = (rows_sum_to_one, translates)

    def formula(self, z: Any) -> Formula:
        k = indices("k")
        (K,) = z.shape
        return Formula(sp.log(total(sp.exp(z[k]), (k, K))))

    def forward(self, z: Any) -> Any:
        largest, e = self.exponentials(z)
        with np.errstate(divide="ignore"):
            return np.squeeze(largest, self.axis) + np.log(e.sum(axis=self.axis))

    def jacobian(self, z: Any) -> Any:
        return Softmax().forward(z)[None]

    def vjp(self, g: Any, z: Any, y: Any) -> Any:
        return np.expand_dims(g, self.axis) * Softmax(self.axis).forward(z)
