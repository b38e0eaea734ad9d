"""Few values in place of many: ternary weights and quantized outputs, trained by straight-through estimators.

Both functions are steps, and a step passes no gradient. Their Jacobians and products are therefore not derivatives of
them but of a ``surrogate``, the smooth function that they round: Bengio, Leonard and Courville (2013). A gradient that
has passed one of them is biased. The audit says so by name, and checks both against the surrogate instead.

Letters: ``i`` entry of an array, ``k`` and ``l`` entries of the same group of weights.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..formula import Formula, sp, total
from ..operation import Elementwise, Operation, Source

__all__ = ["Quantize", "Ternarize"]


def positive(x: Any) -> Any:
    """1 where x > 0, else 0, for formulas (SymPy draws a Piecewise in a condition out of the sum that it is in)."""
    return sp.Max(0, sp.sign(x))


class Ternarize(Operation):
    """y in {0, alpha, -alpha}: in each group the weights of largest magnitude become alpha times their sign.

    At least the fraction ``sparsity`` of a group is 0; a group is the ``"layer"``, all weights together, or a
    ``"filter"``, those along the first axis, which have an alpha each. Of equal magnitudes the first are kept. The
    source leaves support and alpha open; alpha is the mean magnitude on the support, the closest in least squares.
    """

    signature = "weight[*] -> y[*]"
    source = Source("US 12387092", "IP-05")
    estimator = (
        "straight-through: g is passed on as if y were weight, though dy/dweight is 0 off the support and mixes the "
        "weights on it; the gradient is biased"
    )

    def __init__(self, sparsity: float = 0.75, per: str = "layer"):
        self.sparsity, self.per = sparsity, per
        if not 0 <= sparsity < 1:
            self.refuse("sparsity is the fraction of zeros", "take 0 <= sparsity < 1")
        if per not in ("layer", "filter"):
            self.refuse(f"per={per!r}", "choose 'layer' or 'filter'")

    def kept(self, size: int) -> int:
        """How many of a group of ``size`` weights are not 0: the sparsity is a floor, zeros are rounded up."""
        return size - math.ceil(round(self.sparsity * size, 9))  # 0.55 * 100 is 55, not 55.00000000000001

    def groups(self, weight: Any) -> Any:
        """The weights as rows, one a group."""
        return np.reshape(weight, (len(weight) if self.per == "filter" else 1, -1))

    def formula(self, weight: Any) -> Formula:
        """y[i] = alpha sign(w[i]) if fewer than ``kept`` weights of the group go before w[i], else 0."""
        i, k, l = (sp.symbols(f"{letter}:{len(weight.shape)}", integer=True) for letter in "ikl")
        own = 1 if self.per == "filter" else 0  # axes along which the groups lie
        sizes = weight.shape[own:]
        size = sp.prod(sizes)
        kept = size - sp.ceiling(sp.Rational(str(self.sparsity)) * size)

        def place(position: Any) -> Any:
            """The place of a weight in C order, the tie-breaker."""
            axes = zip(weight.shape, position, strict=True)
            return functools.reduce(lambda before, axis: before * axis[0] + axis[1], axes, 0)

        def rank(k: Any) -> Any:
            """How many weights of the group go before one: those that are larger, or as large and earlier."""
            other = (*i[:own], *l[own:])
            gap = sp.sign(sp.Abs(weight[other]) - sp.Abs(weight[k]))
            before = positive(gap) + (1 - gap**2) * positive(place(k) - place(other))
            return total(before, *zip(l[own:], sizes, strict=True))

        member = (*i[:own], *k[own:])
        magnitude = sp.Abs(weight[member]) * positive(kept - rank(member))
        alpha = total(magnitude, *zip(k[own:], sizes, strict=True)) / kept
        return Formula(alpha * sp.sign(weight[i]) * positive(kept - rank(i)), *i)

    def surrogate(self, weight: Any) -> Formula:
        i = sp.symbols(f"i:{len(weight.shape)}", integer=True)
        return Formula(weight[i], *i)

    def forward(self, weight: Any) -> Any:
        self.check(weight)
        groups = self.groups(weight)
        magnitudes = np.abs(groups)
        kept = np.argsort(-magnitudes, axis=1, kind="stable")[:, : self.kept(groups.shape[1])]
        alpha = np.take_along_axis(magnitudes, kept, axis=1).mean(axis=1, keepdims=True)
        y = np.zeros_like(groups)
        np.put_along_axis(y, kept, alpha * np.sign(np.take_along_axis(groups, kept, axis=1)), axis=1)
        return y.reshape(np.shape(weight))

    def jacobian(self, weight: Any) -> Any:
        from scipy.sparse import eye_array

        return eye_array(np.size(weight))

    def vjp(self, g: Any, weight: Any, y: Any) -> Any:
        return g

    def check(self, *arrays: Any) -> None:
        """Refuse weights without a first axis, and groups so small that all of them would be 0."""
        (weight,) = arrays
        if np.ndim(weight) == 0 or np.size(weight) == 0:
            self.refuse(f"expected weights of a layer, got shape {np.shape(weight)}", "give an array of weights")
        size = self.groups(weight).shape[1]
        if self.kept(size) < 1:
            self.refuse(
                f"of the {size} weights of a {self.per} of {np.shape(weight)} none would be left",
                "take a smaller sparsity" + (", or per='layer'" if self.per == "filter" else ""),
            )

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(0.6), rng.normal(size=(2, 5))
        yield cls(0.5, "filter"), rng.normal(size=(3, 2, 1, 4))

    @classmethod
    def kinks(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(0.5), np.array([1.0, -2.0, 2.0, 2.0, -2.0, 0.0])
        yield cls(0.25, "filter"), np.array([[0.0, 0.0, 0.0, -3.0], [1.0, 1.0, -1.0, 1.0]])

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        yield lambda: cls(1.0), "sparsity"
        yield lambda: cls(0.5, "row"), "'row'"
        yield lambda: cls(0.8, "filter").forward(np.ones((3, 4))), "none would be left"
        yield lambda: cls().forward(np.float64(1.0)), "shape ()"


class Quantize(Elementwise):
    """y = the nearest of 2^bits evenly spaced levels from ``low`` to ``high``, both included; what is outside is cut.

    y = low + s floor((min(max(x, low), high) - low) / s + 1/2) with the step s = (high - low) / (2^bits - 1), so that
    half-way numbers go up. The source leaves the rule open. 0 stays 0 if it is ``low``, as it is behind a ReLU.
    """

    signature = "x -> y"
    source = Source("US 12387092", "IP-06")
    estimator = (
        "straight-through: g is passed on where low <= x <= high and stopped elsewhere, as if y were x held between "
        "them, though dy/dx is 0 almost everywhere; the gradient is biased"
    )

    def __init__(self, bits: int, low: float = 0.0, high: float = 1.0):
        self.bits, self.low, self.high = bits, low, high
        if not isinstance(bits, (int, np.integer)) or isinstance(bits, bool) or not 1 <= bits <= 24:
            self.refuse("bits is no whole number from 1 to 24", "try bits=8")
        if not -math.inf < low < high < math.inf:
            self.refuse("low is not below high", "give the least and the largest level, low < high")

    @property
    def step(self) -> float:
        """The distance s of neighbouring levels."""
        return float((self.high - self.low) / (2**self.bits - 1))

    def formula(self, x: Any) -> Formula:
        low, high = sp.Rational(self.low), sp.Rational(self.high)
        step = (high - low) / (2**self.bits - 1)
        held = sp.Piecewise((low, x < low), (high, x > high), (x, True))
        return Formula(low + step * sp.floor((held - low) / step + sp.Rational(1, 2)))

    def surrogate(self, x: Any) -> Formula:
        return Formula(sp.Piecewise((self.low, x < self.low), (self.high, x > self.high), (x, True)))

    def forward(self, x: Any) -> Any:
        return self.low + self.step * np.floor((np.clip(x, self.low, self.high) - self.low) / self.step + 0.5)

    def df(self, x: Any, y: Any) -> Any:
        return ((self.low <= np.asarray(x)) & (np.asarray(x) <= self.high)).astype(np.asarray(y).dtype)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(2), np.array([[-0.4, 0.11, 0.23], [0.62, 0.9, 1e3]])
        yield cls(3, -1.0, 2.0), np.array([-1e3, -0.95, 0.1, 0.3, 1.7, 2.6])

    @classmethod
    def kinks(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(2, 0.0, 3.0), np.array([0.0, 0.5, 1.5, 2.0, 3.0])

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        yield lambda: cls(0), "bits"
        yield lambda: cls(4, 1.0, 1.0), "low"
