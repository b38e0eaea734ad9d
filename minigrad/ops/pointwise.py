"""Point functions that are no transfer functions, and dropout, which multiplies by a mask.

y = f(x) entry by entry. Where a function has a kink the class says which slope it takes there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..formula import Formula, largest, sp
from ..operation import Elementwise, Source
from .arithmetic import CALCULUS, Binary

__all__ = ["Abs", "Clip", "Dropout", "Exp", "Log", "Maximum", "Minimum", "Sqrt", "Where"]


class Exp(Elementwise):
    """y = e^x."""

    signature = "x -> y"
    source = CALCULUS

    def formula(self, x: Any) -> Formula:
        return Formula(sp.exp(x))

    def forward(self, x: Any) -> Any:
        return np.exp(x)

    def df(self, x: Any, y: Any) -> Any:
        return y

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), rng.normal(size=(2, 3))
        yield cls(), np.array([-700.0, -30.0, 0.0, 5.0])

    @classmethod
    def tails(cls) -> Iterator[tuple[Any, ...]]:
        yield cls(), np.array([-600.0, -30.0, 1e-12, 30.0])



class Log(Elementwise):
    """y = log x, the natural logarithm; -inf at 0 and nan below, as in NumPy."""

    signature = "x -> y"
    source = CALCULUS

    def formula(self, x: Any) -> Formula:
        return Formula(sp.log(x))

    def forward(self, x: Any) -> Any:
        return np.log(x)

    def df(self, x: Any, y: Any) -> Any:
        return 1 / x

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), rng.uniform(0.1, 4, size=(2, 3))


class Sqrt(Elementwise):
    """y = the square root of x; its slope is infinite at 0."""

    signature = "x -> y"
    source = CALCULUS

    def formula(self, x: Any) -> Formula:
        return Formula(sp.sqrt(x))

    def forward(self, x: Any) -> Any:
        return np.sqrt(x)

    def df(self, x: Any, y: Any) -> Any:
        return 0.5 / y

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), rng.uniform(0.1, 4, size=(2, 3))


class Abs(Elementwise):
    """y = |x|, with slope 0 at the kink."""

    signature = "x -> y"
    source = CALCULUS

    def formula(self, x: Any) -> Formula:
        return Formula(sp.Abs(x))

    def forward(self, x: Any) -> Any:
        return np.abs(x)

    def df(self, x: Any, y: Any) -> Any:
        return np.sign(x)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), np.array([[-2.0, -0.1, 0.3], [1.0, 1e3, -1e3]])

    @classmethod
    def kinks(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), np.array([-1.0, 0.0])



class Clip(Elementwise):
    """y = x held between ``low`` and ``high``; the slope is 1 from one to the other, both included, else 0.

    Either bound may be None. ValueError if ``low`` exceeds ``high``.
    """

    signature = "x -> y"
    source = CALCULUS

    def __init__(self, low: float | None = None, high: float | None = None):
        self.low, self.high = low, high
        if low is not None and high is not None and low > high:
            self.refuse("low exceeds high", "swap them")

    def formula(self, x: Any) -> Formula:
        low = -sp.oo if self.low is None else sp.Float(self.low)
        high = sp.oo if self.high is None else sp.Float(self.high)
        return Formula(sp.Piecewise((low, x < low), (high, x > high), (x, True)))

    def forward(self, x: Any) -> Any:
        return np.array(x) if self.low is self.high is None else np.clip(x, self.low, self.high)

    def df(self, x: Any, y: Any) -> Any:
        return np.where(x == y, np.ones_like(y), np.zeros_like(y))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(-1.0, 0.5), np.array([[-2.0, -0.9, 0.3], [0.4, 1e3, -1e3]])
        yield cls(high=0.5), np.array([-2.0, 0.4, 0.7])

    @classmethod
    def kinks(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(-1.0, 0.5), np.array([-1.0, 0.5])


    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        yield lambda: cls(2.0, 1.0), "low"


class Maximum(Binary):
    """z = max(x, y); where they are equal x takes the gradient."""

    def formula(self, x: Any, y: Any) -> Formula:
        return Formula(largest(x, y))

    def forward(self, x: Any, y: Any) -> Any:
        return np.maximum(x, y)

    def df(self, x: Any, y: Any, z: Any) -> Any:
        first = np.asarray(x) >= y
        return first, ~first

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        x = rng.normal(size=(2, 3))
        yield cls(), x, x + np.array([[-1.0, 0.01, 2.0], [-0.01, 0.7, -3.0]])

    @classmethod
    def kinks(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), np.array([1.0, 2.0]), np.array([1.0, 1.5])



class Minimum(Binary):
    """z = min(x, y); where they are equal x takes the gradient."""

    def formula(self, x: Any, y: Any) -> Formula:
        return Formula(-largest(-x, -y))

    def forward(self, x: Any, y: Any) -> Any:
        return np.minimum(x, y)

    def df(self, x: Any, y: Any, z: Any) -> Any:
        first = np.asarray(x) <= y
        return first, ~first

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        x = rng.normal(size=(2, 3))
        yield cls(), x, x + np.array([[-1.0, 0.01, 2.0], [-0.01, 0.7, -3.0]])

    @classmethod
    def kinks(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), np.array([1.0, 2.0]), np.array([1.0, 1.5])



class Where(Elementwise):
    """z = x where the condition holds, else y."""

    signature = "condition, x, y -> z"
    source = CALCULUS
    constants = ("condition",)

    def formula(self, condition: Any, x: Any, y: Any) -> Formula:
        return Formula(sp.Piecewise((x, sp.Ne(condition, 0)), (y, True)))

    def forward(self, condition: Any, x: Any, y: Any) -> Any:
        return np.where(condition, x, y)

    def df(self, condition: Any, x: Any, y: Any, z: Any) -> Any:
        chosen = np.asarray(condition, dtype=bool)
        return chosen, ~chosen

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        condition = np.array([[True, False, False], [False, True, True]])
        yield cls(), condition, rng.normal(size=(2, 3)), rng.normal(size=(2, 3))


class Dropout(Elementwise):
    """y = m x: the mask m is an input, 0 for a unit that is dropped and 1 (or 1/p, "inverted") for one that is kept.

    It acts on the outputs of units, after the transfer function (T-12). The layer `nn.Dropout` draws the masks.
    """

    signature = "x, mask -> y"
    source = Source("Tomasi 2019, section 5", "TC-22", "T-12")
    constants = ("mask",)

    def formula(self, x: Any, mask: Any) -> Formula:
        return Formula(mask * x)

    def forward(self, x: Any, mask: Any) -> Any:
        return x * mask

    def df(self, x: Any, mask: Any, y: Any) -> Any:
        return mask

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), rng.normal(size=(2, 3)), np.array([[1.0, 0.0, 1.25], [0.0, 1.0, 2.0]])
