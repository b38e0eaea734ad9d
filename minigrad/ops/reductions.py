"""Sums, means, variances and extremes over axes.

y[i] reduces x over the letters k of the axes that go; ``axis`` is None (all), a number or several, and with
``keepdims`` they stay with size 1. Each entry of x belongs to one cell, an entry of y: that map is the whole Jacobian.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ..formula import Formula, largest, sp, total
from ..operation import Operation, Source
from .arithmetic import CALCULUS

__all__ = ["Max", "Mean", "Min", "Sum", "Var"]


class Reduction(Operation, abstract=True):
    """y = a function of the entries of x along ``axis``."""

    signature = "x[*] -> y[*]"
    source = CALCULUS

    def __init__(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False):
        self.axis, self.keepdims = axis, keepdims

    def axes(self, ndim: int) -> tuple[int, ...]:
        """The axes that are reduced, counted from 0."""
        return tuple(range(ndim)) if self.axis is None else tuple(sorted(normalize_axis_tuple(self.axis, ndim)))

    def check(self, *arrays: Any) -> None:
        shape = np.shape(arrays[0])
        try:
            axes = self.axes(len(shape))
        except (ValueError, TypeError):
            hint = f"name different axes from 0 to {len(shape) - 1}, as a number or a tuple"
            self.refuse(f"axis {self.axis} of an array of shape {shape}", hint)
        if 0 in [shape[axis] for axis in axes]:
            self.refuse(f"no entries to reduce in shape {shape}", "check that the array is not empty")

    def cells(self, shape: tuple[int, ...]) -> np.ndarray:
        """For each entry of x, in C order, the entry of y that it counts in."""
        axes = self.axes(len(shape))
        kept = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
        return np.broadcast_to(np.arange(np.prod(kept, dtype=int)).reshape(kept), shape).ravel()

    def spread(self, y: Any, x: Any) -> Any:
        """Give every entry of x what its cell holds in y."""
        if self.axis is None:
            return np.full(np.shape(x), y)
        y = np.asarray(y)
        axes = self.axes(np.ndim(x))
        kept = tuple(1 if axis in axes else size for axis, size in enumerate(np.shape(x)))
        return np.broadcast_to(y.reshape(kept), np.shape(x))

    def letters(self, x: Any) -> tuple[Any, tuple[Any, ...], list[Any]]:
        """x at its position in letters, the letters of the output, and the (letter, size) pairs summed over."""
        if not isinstance(x, sp.IndexedBase):
            return x, (), []
        axes = self.axes(len(x.shape))
        position = [sp.Symbol(f"{'k' if axis in axes else 'i'}{axis}", integer=True) for axis in range(len(x.shape))]
        ones = [sp.Symbol(f"i{axis}", integer=True) for axis in range(len(x.shape))]
        free = tuple(ones[axis] for axis in range(len(x.shape)) if self.keepdims or axis not in axes)
        return x[tuple(position)], free, [(position[axis], x.shape[axis]) for axis in axes]

    def matrix(self, x: Any, slopes: Any) -> Any:
        """The Jacobian with ``slopes`` (of the shape of x) in the row of each entry's cell."""
        from scipy.sparse import csr_array

        cells = self.cells(np.shape(x))
        slopes = np.broadcast_to(slopes, np.shape(x)).ravel().astype(float)
        return csr_array((slopes, (cells, np.arange(cells.size))), shape=(int(cells.max()) + 1, cells.size))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), rng.normal(size=(2, 3))
        yield cls(1), rng.normal(size=(2, 4, 3))
        yield cls((0, -1), keepdims=True), rng.normal(size=(2, 4, 3))
        yield cls(0), rng.normal(size=(2, 3))

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        yield lambda: cls(3).check(np.ones((2, 3))), "(2, 3)"
        yield lambda: cls(0).check(np.ones((0, 3))), "(0, 3)"


class Sum(Reduction):
    """y = the sum of x over ``axis``."""

    def formula(self, x: Any) -> Formula:
        entry, free, ranges = self.letters(x)
        return Formula(total(entry, *ranges), *free)

    def forward(self, x: Any) -> Any:
        return np.sum(x, axis=self.axis, keepdims=self.keepdims)

    def jacobian(self, x: Any) -> Any:
        return self.matrix(x, 1.0)

    def vjp(self, g: Any, x: Any, y: Any) -> Any:
        return self.spread(g, x)


class Mean(Reduction):
    """y = the mean of x over ``axis``; the mean of nothing is refused. The training risk is one (TC-04, TC-15)."""

    source = Source("Tomasi 2019, equation 1", "TC-04")

    def formula(self, x: Any) -> Formula:
        entry, free, ranges = self.letters(x)
        return Formula(total(entry, *ranges) / sp.Mul(*(size for _, size in ranges)), *free)

    def count(self, x: Any) -> int:
        """How many entries go into one entry of y."""
        if self.axis is None:
            return int(np.size(x))
        shape = np.shape(x)
        return int(np.prod([shape[axis] for axis in self.axes(len(shape))], dtype=int))

    def forward(self, x: Any) -> Any:
        x = np.asarray(x)
        if x.size == 0:
            self.check(x)
        if self.axis is None and x.dtype.char in "fd":  # what np.mean does then, without its questions
            return np.add.reduce(x, None, keepdims=self.keepdims) / x.size  # type: ignore[call-overload]
        return np.mean(x, axis=self.axis, keepdims=self.keepdims)

    def jacobian(self, x: Any) -> Any:
        return self.matrix(x, 1 / self.count(x))

    def vjp(self, g: Any, x: Any, y: Any) -> Any:
        return self.spread(g / self.count(x), x)


class Var(Reduction):
    """y = the mean squared deviation of x from its mean over ``axis``; ``ddof`` is taken off the divisor."""

    def __init__(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False, ddof: int = 0):
        super().__init__(axis, keepdims)
        self.ddof = ddof

    def formula(self, x: Any) -> Formula:
        entry, free, ranges = self.letters(x)
        count = sp.Mul(*(size for _, size in ranges))
        inner = [(sp.Symbol(f"m{str(letter)[1:]}", integer=True), size) for letter, size in ranges]
        other = entry.subs({letter: prime for (letter, _), (prime, _) in zip(ranges, inner, strict=True)})
        return Formula(total((entry - total(other, *inner) / count) ** 2, *ranges) / (count - self.ddof), *free)

    def divisor(self, x: Any) -> int:
        """The number of entries in a cell, less ``ddof``."""
        shape = np.shape(x)
        return int(np.prod([shape[axis] for axis in self.axes(len(shape))], dtype=int)) - self.ddof

    def check(self, *arrays: Any) -> None:
        super().check(*arrays)
        if self.divisor(arrays[0]) <= 0:
            self.refuse(f"no degrees of freedom in shape {np.shape(arrays[0])}", "take a smaller ddof or more entries")

    def forward(self, x: Any) -> Any:
        if np.size(x) == 0 or self.ddof:
            self.check(x)
        return np.var(x, axis=self.axis, keepdims=self.keepdims, ddof=self.ddof)

    def slopes(self, x: Any) -> Any:
        """dy/dx of each entry's own cell: 2 (x - mean) / divisor."""
        axes = self.axes(np.ndim(x))
        return 2 * (x - np.mean(x, axis=axes, keepdims=True)) / self.divisor(x)

    def jacobian(self, x: Any) -> Any:
        return self.matrix(x, self.slopes(x))

    def vjp(self, g: Any, x: Any, y: Any) -> Any:
        return self.spread(g, x) * self.slopes(x)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield from super().samples(rng)
        yield cls(0, True, ddof=2), rng.normal(size=(4, 2))

    @classmethod
    def tails(cls) -> Iterator[tuple[Any, ...]]:
        yield cls(), 256 + np.array([0.5, -0.25, 1.0])  # where the mean of squares less the squared mean loses digits


class Extreme(Reduction, abstract=True):
    """The largest or smallest entry over ``axis``; of equal entries the first, in C order, takes the gradient."""

    literal = True
    sign: int

    def winners(self, x: Any) -> Any:
        """For each entry of y, in C order, the flat position in x of the entry that it is."""
        x = np.asarray(x)
        axes = self.axes(x.ndim)
        last = [axis for axis in range(x.ndim) if axis not in axes] + list(axes)
        order = np.arange(x.size).reshape(x.shape).transpose(last)
        cell = int(np.prod([x.shape[axis] for axis in axes], dtype=int))
        candidates = x.transpose(last).reshape(-1, cell)
        best = (candidates if self.sign > 0 else -candidates).argmax(axis=1)
        return order.reshape(-1, cell)[np.arange(len(best)), best]

    def formula(self, x: Any) -> Formula:
        entry, free, ranges = self.letters(x)
        entries = [entry]
        for letter, size in ranges:
            entries = [one.subs(letter, k) for one in entries for k in range(int(size))]
        return Formula(self.sign * largest(*(self.sign * one for one in entries)), *free)

    def forward(self, x: Any) -> Any:
        return (np.max if self.sign > 0 else np.min)(x, axis=self.axis, keepdims=self.keepdims)

    def jacobian(self, x: Any) -> Any:
        slopes = np.zeros(np.size(x))
        slopes[self.winners(x)] = 1
        return self.matrix(x, slopes.reshape(np.shape(x)))

    @classmethod
    def kinks(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        x = np.array([[[1.0, 2.0], [2.0, 1.0]], [[2.0, 1.0], [1.0, 1.0]]])
        yield cls(), x
        yield cls((2, 0)), x

    def vjp(self, g: Any, x: Any, y: Any) -> Any:
        row = np.zeros(np.shape(x), dtype=np.asarray(g).dtype)
        row.reshape(-1)[self.winners(x)] = np.ravel(g)
        return row


class Max(Extreme):
    """y = the largest entry of x over ``axis``; of equal entries the first takes the gradient."""

    sign = 1


class Min(Extreme):
    """y = the smallest entry of x over ``axis``; of equal entries the first takes the gradient."""

    sign = -1
