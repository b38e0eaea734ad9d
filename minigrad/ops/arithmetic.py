"""Arithmetic on arrays of equal shape; bringing them to one shape is `BroadcastTo`, an operation of its own.

z = f(x, y) entry by entry, so every Jacobian is diagonal and each class writes a value and its partial derivatives.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..formula import Formula
from ..operation import Elementwise, Source

__all__ = ["Add", "Divide", "Multiply", "Negative", "Power", "Subtract"]

CALCULUS = Source("elementary calculus")


class Binary(Elementwise, abstract=True):
    """z = f(x, y)."""

    signature = "x, y -> z"
    source = CALCULUS

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), rng.normal(size=(3, 2)), rng.normal(size=(3, 2))
        yield cls(), np.array([1e3]), np.array([-2.5])


class Add(Binary):
    """z = x + y."""

    def formula(self, x: Any, y: Any) -> Formula:
        return Formula(x + y)

    def forward(self, x: Any, y: Any) -> Any:
        return x + y

    def df(self, x: Any, y: Any, z: Any) -> Any:
        return np.ones_like(z), np.ones_like(z)

    def vjp(self, g: Any, x: Any, y: Any, z: Any) -> Any:
        return g, g



class Subtract(Binary):
    """z = x - y."""

    def formula(self, x: Any, y: Any) -> Formula:
        return Formula(x - y)

    def forward(self, x: Any, y: Any) -> Any:
        return x - y

    def df(self, x: Any, y: Any, z: Any) -> Any:
        return np.ones_like(z), -np.ones_like(z)

    def vjp(self, g: Any, x: Any, y: Any, z: Any) -> Any:
        return g, -g


class Multiply(Binary):
    """z = x y."""

    def formula(self, x: Any, y: Any) -> Formula:
        return Formula(x * y)

    def forward(self, x: Any, y: Any) -> Any:
        return x * y

    def df(self, x: Any, y: Any, z: Any) -> Any:
        return y, x

    def vjp(self, g: Any, x: Any, y: Any, z: Any) -> Any:
        return g * y, g * x


class Divide(Binary):
    """z = x / y."""

    def formula(self, x: Any, y: Any) -> Formula:
        return Formula(x / y)

    def forward(self, x: Any, y: Any) -> Any:
        return np.true_divide(x, y)

    def df(self, x: Any, y: Any, z: Any) -> Any:
        return 1 / y, -z / y

    def vjp(self, g: Any, x: Any, y: Any, z: Any, wanted: Any = (True, True)) -> Any:
        return np.true_divide(g, y) if wanted[0] else None, -g * z / y if wanted[1] else None


class Negative(Elementwise):
    """y = -x."""

    signature = "x -> y"
    source = CALCULUS

    def formula(self, x: Any) -> Formula:
        return Formula(-x)

    def forward(self, x: Any) -> Any:
        return -x

    def df(self, x: Any, y: Any) -> Any:
        return -np.ones_like(y)

    def vjp(self, g: Any, x: Any, y: Any) -> Any:
        return -g

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), rng.normal(size=(2, 3))


class Power(Binary):
    """z = x^y. The derivative with respect to y is that of x >= 0; a negative x needs a constant whole exponent."""

    def formula(self, x: Any, y: Any) -> Formula:
        return Formula(x**y)

    def forward(self, x: Any, y: Any) -> Any:
        return x**y

    def df(self, x: Any, y: Any, z: Any) -> Any:
        return self.by_base(x, y), self.by_exponent(x, z)

    @staticmethod
    def by_base(x: Any, y: Any) -> Any:
        """y x^(y-1), which is 0 for y = 0, also at x = 0."""
        if isinstance(y, (int, float)):
            return y * x ** (y - 1) if y else np.zeros_like(x)
        return y * x ** np.where(y == 0, 1, y - 1)

    @staticmethod
    def by_exponent(x: Any, z: Any) -> Any:
        """z log x, which is 0 where z is."""
        from scipy.special import xlogy

        return xlogy(z, x)

    def vjp(self, g: Any, x: Any, y: Any, z: Any, wanted: Any = (True, True)) -> Any:
        return (
            g * self.by_base(x, y) if wanted[0] else None,
            g * self.by_exponent(x, z) if wanted[1] else None,
        )

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), rng.uniform(0.2, 3, size=(2, 3)), rng.normal(size=(2, 3))
