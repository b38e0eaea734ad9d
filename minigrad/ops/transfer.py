"""Transfer functions: what a unit does with its pre-activation a.

y = f(a), entry by entry. At a kink the slope is 1, as Tomasi (2019) has it (erratum T-10: any number from 0 to 1 is a
subgradient, and other frameworks take 0); ``at_zero`` chooses it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import kernels
from ..formula import Formula, sp
from ..operation import Elementwise, Source

__all__ = ["ELU", "ArcTan", "LeakyReLU", "PReLU", "ReLU", "Sigmoid", "Softplus", "Step", "Tanh"]

TABLE = "US 2022/0253713, table 1"


class Step(Elementwise):
    """y = 1 for a > 0, 0 for a < 0, and 1/2 at 0. Its slope is 0 wherever it has one, and here at 0 too (L-15)."""

    signature = "a -> y"
    source = Source(TABLE, "LP-03", "L-15")
    piecewise_constant = True

    def formula(self, a: Any) -> Formula:
        return Formula(sp.Piecewise((1, a > 0), (0, a < 0), (sp.Rational(1, 2), True)))

    def forward(self, a: Any) -> Any:
        return (1 + np.sign(a)) / 2

    def df(self, a: Any, y: Any) -> Any:
        return np.zeros_like(y)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), np.array([[-2.0, -0.1, 0.3], [1.0, 1e3, -1e3]])

    @classmethod
    def kinks(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), np.array([-1.0, 0.0, 2.0])


class ReLU(Elementwise):
    """y = max(0, a); slope 1 for a > 0, 0 for a < 0, and ``at_zero`` at the kink."""

    name = "relu"
    signature = "a -> y"
    source = Source("Tomasi 2019, appendix", "TC-13", "T-10")

    def __init__(self, at_zero: float = 1.0):
        self.at_zero = at_zero

    def formula(self, a: Any) -> Formula:
        return Formula(sp.Piecewise((a, a >= 0), (0, True)))

    def forward(self, a: Any) -> Any:
        return kernels.relu(a)

    def df(self, a: Any, y: Any) -> Any:
        if self.at_zero == 1:
            return a >= 0
        slope = (np.asarray(a) > 0).astype(np.asarray(y).dtype)
        slope[np.asarray(a) == 0] = self.at_zero
        return slope

    def vjp(self, g: Any, a: Any, y: Any) -> Any:
        return kernels.relu_vjp(g, a) if self.at_zero == 1 else g * self.df(a, y)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), np.array([[-2.0, -0.1, 0.3], [1.0, 1e3, -1e3]])

    @classmethod
    def kinks(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), np.array([-1.0, 0.0, 2.0])


class LeakyReLU(Elementwise):
    """y = a for a >= 0 and beta a below; slope 1 and beta, and ``at_zero`` at the kink. beta >= 0."""

    name = "leaky_relu"
    signature = "a -> y"
    source = Source("Tomasi 2019, appendix; US 2022/0253713, table 1", "LP-05", "T-10")

    def __init__(self, beta: float = 0.01, at_zero: float = 1.0):
        self.beta, self.at_zero = beta, at_zero
        if not beta >= 0:
            self.refuse("beta is negative, and the function not monotone", "take beta >= 0")

    def formula(self, a: Any) -> Formula:
        return Formula(sp.Piecewise((a, a >= 0), (sp.Float(self.beta) * a, True)))

    def forward(self, a: Any) -> Any:
        return np.where(np.asarray(a) >= 0, a, self.beta * a)

    def df(self, a: Any, y: Any) -> Any:
        one = np.ones_like(y)
        slope = np.where(np.asarray(a) >= 0, one, self.beta * one)
        return slope if self.at_zero == 1 else np.where(np.asarray(a) == 0, self.at_zero * one, slope)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(0.25), np.array([[-2.0, -0.1, 0.3], [1.0, 1e3, -1e3]])

    @classmethod
    def kinks(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(0.25), np.array([-1.0, 0.0, 2.0])

    @classmethod
    def errors(cls) -> Iterator[Any]:
        yield lambda: cls(-0.5), "beta"


class PReLU(Elementwise):
    """y = a for a >= 0 and slope a below: a leaky ReLU whose slope is an input, and so can be trained.

    At the kink dy/da is 1 as for the others, and dy/dslope = 0.
    """

    name = "prelu"
    signature = "a, slope -> y"
    source = Source("He et al. 2015; US 12387092, figure 1", "IP-02", "T-10")

    def formula(self, a: Any, slope: Any) -> Formula:
        return Formula(sp.Piecewise((a, a >= 0), (slope * a, True)))

    def forward(self, a: Any, slope: Any) -> Any:
        return np.where(np.asarray(a) >= 0, a, slope * a)

    def df(self, a: Any, slope: Any, y: Any) -> Any:
        return np.where(np.asarray(a) >= 0, np.ones_like(y), slope), np.minimum(a, np.zeros_like(y))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        a = np.array([[-2.0, -0.1, 0.3], [1.0, 1e3, -1e3]])
        yield cls(), a, np.array([[0.25, -0.5, 0.1], [3.0, 0.7, 0.01]])

    @classmethod
    def kinks(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), np.array([-1.0, 0.0, 2.0]), np.array([0.25, 0.25, 1.0])


class Sigmoid(Elementwise):
    """y = 1 / (1 + e^-a), the logistic function; the slope sigma(a) sigma(-a) is right in the tails."""

    signature = "a -> y"
    source = Source(TABLE, "LP-06")

    def formula(self, a: Any) -> Formula:
        return Formula(1 / (1 + sp.exp(-a)))

    def forward(self, a: Any) -> Any:
        e = np.exp(-np.abs(a))  # at most 1
        return np.where(np.asarray(a) >= 0, 1, e) / (1 + e)

    def df(self, a: Any, y: Any) -> Any:
        e = np.exp(-np.abs(a))
        return e / (1 + e) ** 2

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), rng.normal(size=(2, 3))
        yield cls(), np.array([-700.0, -40.0, 0.0, 40.0, 1000.0])

    @classmethod
    def tails(cls) -> Iterator[tuple[Any, ...]]:
        yield cls(), np.array([-600.0, -40.0, 1e-12, 40.0, 600.0])


class Tanh(Elementwise):
    """y = tanh a; the slope 1 / cosh^2 a is formed without 1 - y^2, so that it is right in the tails."""

    signature = "a -> y"
    source = Source(TABLE, "LP-08")

    def formula(self, a: Any) -> Formula:
        return Formula(sp.tanh(a))

    def forward(self, a: Any) -> Any:
        return np.tanh(a)

    def df(self, a: Any, y: Any) -> Any:
        e = np.exp(-2 * np.abs(a))
        return 4 * e / (1 + e) ** 2

    def vjp(self, g: Any, a: Any, y: Any) -> Any:
        return kernels.tanh_vjp(g, a)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), rng.normal(size=(2, 3))
        yield cls(), np.array([-700.0, -40.0, 0.0, 20.0, 1000.0])

    @classmethod
    def tails(cls) -> Iterator[tuple[Any, ...]]:
        yield cls(), np.array([-40.0, -1e-12, 1e-3, 40.0, 60.0])


class ArcTan(Elementwise):
    """y = arctan a, from -pi/2 to pi/2."""

    name = "arctan"
    signature = "a -> y"
    source = Source(TABLE, "LP-09")

    def formula(self, a: Any) -> Formula:
        return Formula(sp.atan(a))

    def forward(self, a: Any) -> Any:
        return np.arctan(a)

    def df(self, a: Any, y: Any) -> Any:
        return 1 / (1 + np.square(a))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), rng.normal(size=(2, 3))
        yield cls(), np.array([-1000.0, -3.0, 0.0, 40.0, 1000.0])

    @classmethod
    def tails(cls) -> Iterator[tuple[Any, ...]]:
        yield cls(), np.array([-1000.0, -1e-12, 1e-3, 1e5, 1e9])


class Softplus(Elementwise):
    """y = log(1 + e^a), a smooth ReLU; its slope is the sigmoid. Both are right relative to themselves in the tail."""

    signature = "a -> y"
    source = Source(TABLE, "LP-10")

    def formula(self, a: Any) -> Formula:
        return Formula(sp.log(1 + sp.exp(a)))

    def forward(self, a: Any) -> Any:
        return np.maximum(a, 0) + np.log1p(np.exp(-np.abs(a)))

    def df(self, a: Any, y: Any) -> Any:
        e = np.exp(-np.abs(a))
        return np.where(np.asarray(a) >= 0, 1, e) / (1 + e)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), rng.normal(size=(2, 3))
        yield cls(), np.array([-1000.0, -30.0, 0.0, 40.0, 1000.0])

    @classmethod
    def tails(cls) -> Iterator[tuple[Any, ...]]:
        yield cls(), np.array([-35.0, -20.0, 1e-12, 40.0, 600.0])


class ELU(Elementwise):
    """y = a for a >= 0 and beta (e^a - 1) below; the slope at 0 is ``at_zero``, and continuous if beta is 1.

    The source names the function and leaves it out of its table; f is that of Clevert et al. 2016 (L-5). beta >= 0.
    """

    name = "elu"
    signature = "a -> y"
    source = Source(f"{TABLE}; Clevert et al. 2016", "LP-11", "L-5, T-10")

    def __init__(self, beta: float = 1.0, at_zero: float = 1.0):
        self.beta, self.at_zero = beta, at_zero
        if not beta >= 0:
            self.refuse("beta is negative, and the function not monotone", "take beta >= 0")

    def formula(self, a: Any) -> Formula:
        return Formula(sp.Piecewise((a, a >= 0), (sp.Float(self.beta) * (sp.exp(a) - 1), True)))

    def forward(self, a: Any) -> Any:
        return np.where(np.asarray(a) >= 0, a, self.beta * np.expm1(np.minimum(a, 0)))

    def df(self, a: Any, y: Any) -> Any:
        slope = np.where(np.asarray(a) >= 0, np.ones_like(y), self.beta * np.exp(np.minimum(a, 0)))
        return slope if self.at_zero == 1 else np.where(np.asarray(a) == 0, self.at_zero * np.ones_like(y), slope)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(0.7), np.array([[-2.0, -0.1, 0.3], [1.0, 1e3, -1e3]])
        yield cls(), rng.normal(size=(2, 3))

    @classmethod
    def kinks(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(0.7), np.array([-1.0, 0.0, 2.0])

    @classmethod
    def tails(cls) -> Iterator[tuple[Any, ...]]:
        yield cls(0.7), np.array([-600.0, -40.0, -1e-12, 1e-3, 1000.0])

    @classmethod
    def errors(cls) -> Iterator[Any]:
        yield lambda: cls(-0.5), "beta"
