"""Matrix products and the affine map of a layer.

Letters: ``I`` inputs of a layer, ``O`` outputs; ``i`` entry of the output, ``j`` of the input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import kernels
from ..formula import Formula, indices, total
from ..laws import additive_in_first
from ..operation import Operation, Source, registry
from .arithmetic import CALCULUS

__all__ = ["Affine", "MatMul", "Node"]


class MatMul(Operation):
    """z = x y, the product of matrices, one for each position of the leading axes.

    As a function it takes what NumPy's ``@`` takes: vectors, and leading axes that broadcast.
    """

    name = "matmul"
    signature = "x[...,I,J], y[...,J,K] -> z[...,I,K]"
    source = CALCULUS
    laws = (additive_in_first,)

    @staticmethod
    def call(x: Any, y: Any) -> Any:
        multiply, reshape = MatMul(), registry["reshape"]
        (a, b) = np.shape(x), np.shape(y)
        if not a or not b:
            multiply.refuse(f"got a number (shapes {a} and {b})", "multiply by a number with *")
        if len(b) == 1:  # a column
            product = MatMul.call(x, reshape((*b, 1))(y))
            return reshape(product.shape[:-1])(product)
        if len(a) == 1:  # a row
            product = MatMul.call(reshape((1, *a))(x), y)
            return reshape(product.shape[:-2] + product.shape[-1:])(product)
        if len(b) == 2 and len(a) > 2:  # one matrix for all: a single large product
            product = multiply(reshape((math.prod(a[:-1]), a[-1]))(x), y)
            return reshape((*a[:-1], b[-1]))(product)
        if a[:-2] != b[:-2]:
            multiply.check(x, y)
            leading = np.broadcast_shapes(a[:-2], b[:-2])
            x, y = (registry["broadcast_to"](leading + shape[-2:])(array) for array, shape in ((x, a), (y, b)))
        return multiply(x, y)

    def formula(self, x: Any, y: Any) -> Formula:
        i, k, j = indices("i k j")
        return Formula(total(x[i, j] * y[j, k], (j, x.shape[1])), i, k)

    def forward(self, x: Any, y: Any) -> Any:
        return np.matmul(x, y)

    def jacobian(self, x: Any, y: Any) -> Any:
        from scipy.sparse import eye_array, kron

        return kron(eye_array(len(x)), y.T), kron(x, eye_array(y.shape[1]))

    def vjp(self, g: Any, x: Any, y: Any, z: Any, wanted: Any = (True, True)) -> Any:
        return (
            np.matmul(g, np.swapaxes(y, -1, -2)) if wanted[0] else None,
            np.matmul(np.swapaxes(x, -1, -2), g) if wanted[1] else None,
        )

    def check(self, *arrays: Any) -> None:
        super().check(*arrays)
        leading = [np.shape(array)[:-2] for array in arrays]
        try:
            np.broadcast_shapes(*leading)
        except ValueError:
            self.refuse(f"leading axes {leading[0]} and {leading[1]} do not broadcast", "make them equal or 1")

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), rng.normal(size=(2, 4)), rng.normal(size=(4, 3))
        yield cls(), rng.normal(size=(5, 2, 4)), rng.normal(size=(5, 4, 3))

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        yield lambda: cls().check(np.ones((2, 4)), np.ones((5, 3))), "(5, 3)"
        yield lambda: cls.call(2.0, np.ones((5, 3))), "(5, 3)"


NOT_FOR_KERNELS = (TypeError, ValueError, AttributeError, IndexError)
"""What refuses mixed precisions, batches of nothing, and shapes that do not fit; the first two NumPy can do."""


def rows_of(x: Any) -> Any:
    """Vectors along the last axis as the rows of one matrix."""
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1])


class Affine(Operation):
    """y = W x + b: the pre-activations of a layer, b left out if it is None."""

    signature = "x[...,I], weight[O,I], bias[O]? -> y[...,O]"
    source = Source("Tomasi 2019, section 3", "TC-09")
    laws = (additive_in_first,)

    def formula(self, x: Any, weight: Any, bias: Any) -> Formula:
        i, j = indices("i j")
        return Formula(total(weight[i, j] * x[j], (j, x.shape[0])) + (0 if bias is None else bias[i]), i)

    def forward(self, x: Any, weight: Any, bias: Any) -> Any:
        try:
            y = kernels.affine(rows_of(x), weight, bias)
        except NOT_FOR_KERNELS:
            self.check(x, weight, bias)
            return np.dot(x, weight.T) + (0 if bias is None else bias)
        return y if x.ndim == 2 else y.reshape(*x.shape[:-1], -1)

    def jacobian(self, x: Any, weight: Any, bias: Any) -> Any:
        from scipy.sparse import eye_array, kron

        identity = eye_array(len(weight))
        return weight, kron(identity, x[None]), None if bias is None else identity

    def vjp(self, g: Any, x: Any, weight: Any, bias: Any, y: Any, wanted: Any = (True, True, True)) -> Any:
        asked = wanted[0], wanted[1], wanted[2] and bias is not None
        try:
            gx, gw, gb = kernels.affine_vjp(rows_of(g), rows_of(x), weight, *asked)
        except NOT_FOR_KERNELS:
            rows, inputs = g.reshape(-1, len(weight)), x.reshape(-1, weight.shape[1])
            return (
                np.dot(g, weight) if asked[0] else None,
                np.dot(rows.T, inputs) if asked[1] else None,
                rows.sum(axis=0) if asked[2] else None,
            )
        return gx if gx is None or x.ndim == 2 else gx.reshape(x.shape), gw, gb

    def printed(self, x: Any, weight: Any, bias: Any) -> tuple[Formula | None, ...]:
        """Tomasi's dx_i/dx_j = W_ij, the bias column left out (T-17)."""
        i, j = indices("i j")
        return (Formula(weight[i, j], i, j), None, None)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), rng.normal(size=(2, 4)), rng.normal(size=(3, 4)), rng.normal(size=3)
        yield cls(), rng.normal(size=(2, 5, 4)), rng.normal(size=(3, 4)), None

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        yield lambda: cls().check(np.ones((2, 5)), np.ones((3, 4)), np.ones(3)), "(3, 4)"
        yield lambda: cls().forward(np.ones((2, 4)), np.ones((3, 4)), np.ones(1)), "(1,)"


class Node(Operation):
    """z_i = c_i (W_i . x) + b_i: an affine map whose rows carry a scale c_i, as in networks of ternary weights."""

    signature = "x[...,I], weight[O,I], scale[O], bias[O] -> z[...,O]"
    source = Source("US 12387092, equations 1-3", "IP-01")
    laws = (additive_in_first,)

    def formula(self, x: Any, weight: Any, scale: Any, bias: Any) -> Formula:
        i, j = indices("i j")
        return Formula(scale[i] * total(weight[i, j] * x[j], (j, x.shape[0])) + bias[i], i)

    def forward(self, x: Any, weight: Any, scale: Any, bias: Any) -> Any:
        self.check(x, weight, scale, bias)
        return np.dot(x, weight.T) * scale + bias

    def jacobian(self, x: Any, weight: Any, scale: Any, bias: Any) -> Any:
        from scipy.sparse import diags_array, eye_array, kron

        return (
            scale[:, None] * weight,
            kron(diags_array(scale), x[None]),
            diags_array(weight @ x),
            eye_array(len(weight)),
        )

    def vjp(self, g: Any, x: Any, weight: Any, scale: Any, bias: Any, z: Any) -> Any:
        rows, inputs = g.reshape(-1, len(weight)), x.reshape(-1, weight.shape[1])
        return (
            (g * scale) @ weight,
            (rows * scale).T @ inputs,
            (rows * (inputs @ weight.T)).sum(axis=0),
            rows.sum(axis=0),
        )

    def printed(self, x: Any, weight: Any, scale: Any, bias: Any) -> tuple[Formula | None, ...]:
        """The derivatives c_i W_ij, W_i . x and 1 of IP-01; the two last belong to row i alone."""
        from sympy import KroneckerDelta

        i, j, k, q = indices("i j k q")
        dot = total(weight[i, k] * x[k], (k, x.shape[0]))
        return (
            Formula(scale[i] * weight[i, j], i, j),
            Formula(KroneckerDelta(i, q) * scale[i] * x[j], i, q, j),
            Formula(KroneckerDelta(i, q) * dot, i, q),
            Formula(KroneckerDelta(i, q), i, q),
        )

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), rng.normal(size=(2, 4)), rng.normal(size=(3, 4)), rng.normal(size=3), rng.normal(size=3)

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        yield lambda: cls().forward(np.ones((2, 5)), np.ones((3, 4)), np.ones(3), np.ones(3)), "(3, 4)"
