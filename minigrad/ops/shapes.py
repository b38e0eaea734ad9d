"""Moving entries about: every entry of the output is an entry of an input.

The Jacobians are selections, with a single 1 in each row. Results are copies, never views: what the tape has
recorded cannot change under it.

Letters: ``i`` entry of the output, ``m[i]`` the flat position in the input that it comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..formula import Formula, indices, sp
from ..operation import Operation, Source

__all__ = ["BroadcastTo", "Concatenate", "Index", "Reshape", "Transpose"]

NUMPY = Source("NumPy's function of this name")


def selection(positions: Any, size: int) -> Any:
    """The sparse matrix that takes the entries at flat ``positions`` out of ``size``."""
    from scipy.sparse import csr_array

    positions = np.ravel(positions)
    return csr_array((np.ones(positions.size), (np.arange(positions.size), positions)), shape=(positions.size, size))


def numbered(x: Any) -> np.ndarray:
    """The flat position of every entry of x."""
    return np.arange(np.size(x)).reshape(np.shape(x))


class Reshape(Operation):
    """y = the entries of x, in C order, in another shape; one size may be -1."""

    signature = "x[*] -> y[*]"
    source = NUMPY
    flat = True

    def __init__(self, shape: int | Sequence[int]):
        self.shape = (int(shape),) if isinstance(shape, (int, np.integer)) else tuple(int(size) for size in shape)

    def formula(self, x: Any) -> Formula:
        i = indices("i")
        return Formula(x[i], i)

    def forward(self, x: Any) -> Any:
        return np.array(np.reshape(x, self.shape))

    def jacobian(self, x: Any) -> Any:
        return selection(numbered(x), np.size(x))

    def vjp(self, g: Any, x: Any, y: Any) -> Any:
        return np.reshape(g, np.shape(x))

    def check(self, *arrays: Any) -> None:
        try:
            np.reshape(arrays[0], self.shape)
        except ValueError:
            self.refuse(
                f"{np.size(arrays[0])} entries of shape {np.shape(arrays[0])} do not fill {self.shape}",
                "give sizes whose product is that, or one -1",
            )

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls((3, -1)), rng.normal(size=(2, 6))
        yield cls(()), rng.normal(size=(1, 1))

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        yield lambda: cls((5, -1)).check(np.ones((2, 6))), "(2, 6)"


class Transpose(Operation):
    """y = x with its axes in the order ``axes``, reversed if None: axis k of y is axis ``axes[k]`` of x."""

    signature = "x[*] -> y[*]"
    source = NUMPY

    def __init__(self, axes: Sequence[int] | None = None):
        self.axes = None if axes is None else tuple(axes)

    def order(self, ndim: int) -> tuple[int, ...]:
        """``axes`` counted from 0."""
        return tuple(range(ndim))[::-1] if self.axes is None else tuple(axis % ndim for axis in self.axes)

    def formula(self, x: Any) -> Formula:
        letters = [sp.Symbol(f"i{axis}", integer=True) for axis in range(len(x.shape))]
        return Formula(x[tuple(letters)], *(letters[axis] for axis in self.order(len(x.shape))))

    def forward(self, x: Any) -> Any:
        return np.array(np.transpose(x, self.axes), order="C")

    def jacobian(self, x: Any) -> Any:
        return selection(np.transpose(numbered(x), self.axes), np.size(x))

    def vjp(self, g: Any, x: Any, y: Any) -> Any:
        return np.transpose(g, np.argsort(self.order(np.ndim(g))))

    def check(self, *arrays: Any) -> None:
        ndim = np.ndim(arrays[0])
        if self.axes is not None and sorted(axis % max(ndim, 1) for axis in self.axes) != list(range(ndim)):
            self.refuse(
                f"axes {self.axes} of an array of shape {np.shape(arrays[0])}", f"name each of 0 to {ndim - 1} once"
            )

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), rng.normal(size=(2, 3))
        yield cls((2, 0, -2)), rng.normal(size=(2, 3, 4))

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        yield lambda: cls((0, 0, 1)).check(np.ones((2, 3, 4))), "(2, 3, 4)"


class BroadcastTo(Operation):
    """y = x repeated along new axes and along axes of size 1, to fill ``shape``; a 0/1 matrix with one 1 a row."""

    signature = "x[*] -> y[*]"
    source = NUMPY

    def __init__(self, shape: Sequence[int]):
        self.shape = tuple(shape)

    def formula(self, x: Any) -> Formula:
        letters = [sp.Symbol(f"i{axis}", integer=True) for axis in range(len(self.shape))]
        if not isinstance(x, sp.IndexedBase):
            return Formula(x, *letters)
        new = len(self.shape) - len(x.shape)
        position = [sp.Min(letter, size - 1) for letter, size in zip(letters[new:], x.shape, strict=True)]
        return Formula(x[tuple(position)], *letters)

    def forward(self, x: Any) -> Any:
        return np.array(np.broadcast_to(x, self.shape))

    def jacobian(self, x: Any) -> Any:
        return selection(np.broadcast_to(numbered(x), self.shape), np.size(x))

    def vjp(self, g: Any, x: Any, y: Any) -> Any:
        new = np.ndim(g) - np.ndim(x)
        stretched = [new + axis for axis, size in enumerate(np.shape(x)) if size == 1]
        return np.sum(g, axis=(*range(new), *stretched), keepdims=True).reshape(np.shape(x))

    def check(self, *arrays: Any) -> None:
        try:
            np.broadcast_to(arrays[0], self.shape)
        except ValueError:
            self.refuse(
                f"shape {np.shape(arrays[0])} does not broadcast to {self.shape}",
                "axes are matched from the last one and must be equal or 1",
            )

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls((2, 3, 4)), rng.normal(size=(3, 1))
        yield cls((2, 3)), rng.normal(size=())

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        yield lambda: cls((2, 3)).check(np.ones((4,))), "(4,)"


class Index(Operation):
    """y = x[key], for every key that NumPy takes; entries named twice add their gradients."""

    signature = "x[*] -> y[*]"
    source = NUMPY
    flat = True
    dependent = ("derivative",)  # matrix and formula read one table of positions

    def __init__(self, key: Any):
        self.key = key

    @staticmethod
    def call(x: Any, key: Any) -> Any:
        parts = key if isinstance(key, tuple) else (key,)
        parts = tuple(np.asarray(part) if hasattr(part, "requires_grad") else part for part in parts)
        return Index(parts if isinstance(key, tuple) else parts[0])(x)

    def positions(self, x: Any) -> np.ndarray:
        """The flat position in x of every entry of y."""
        return np.asarray(numbered(x)[self.key])

    def formula(self, x: Any) -> Formula:
        i = indices("i")
        return Formula(x[sp.IndexedBase("m", integer=True)[i]], i)

    def written(self, *sample: Any) -> tuple[Formula, list[Any]]:
        formula, symbols = super().written(*sample)
        formula.tables["m"] = self.positions(sample[0]).ravel()
        return formula, symbols

    def forward(self, x: Any) -> Any:
        return np.array(np.asarray(x)[self.key])

    def jacobian(self, x: Any) -> Any:
        return selection(self.positions(x), np.size(x))

    def vjp(self, g: Any, x: Any, y: Any) -> Any:
        row = np.zeros(np.shape(x), dtype=np.asarray(g).dtype)
        np.add.at(row, self.key, g)
        return row

    def check(self, *arrays: Any) -> None:
        try:
            np.asarray(arrays[0])[self.key]
        except IndexError as error:
            problem = f"{error}, in an array of shape {np.shape(arrays[0])}"
            self.refuse(problem, "count from 0 within each axis", IndexError)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls((slice(None, None, -2), 1)), rng.normal(size=(4, 3))
        yield cls(np.array([2, 0, 2])), rng.normal(size=(4, 3))
        yield cls((Ellipsis, None, -1)), rng.normal(size=(2, 3))

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        yield lambda: cls(7).check(np.ones((4, 3))), "(4, 3)"


class Concatenate(Operation):
    """y = the arrays one after the other along ``axis``."""

    signature = "*x[*] -> y[*]"
    source = NUMPY

    def __init__(self, axis: int = 0):
        self.axis = axis

    @staticmethod
    def call(arrays: Sequence[Any], axis: int = 0) -> Any:
        return Concatenate(axis)(*arrays)

    def starts(self, parts: Sequence[Any]) -> np.ndarray:
        """Where each part begins along the axis, and where the last one ends."""
        return np.cumsum([0, *(np.shape(part)[self.axis] for part in parts)])

    def formula(self, *x: Any) -> Formula:
        letters = [sp.Symbol(f"i{axis}", integer=True) for axis in range(len(x[0].shape))]
        axis = self.axis % len(letters)
        cases = []
        start = sp.Integer(0)
        for part in x:
            position = [*letters]
            position[axis] -= start
            start += part.shape[axis]
            cases.append((part[tuple(position)], letters[axis] < start))
        return Formula(sp.Piecewise(*cases), *letters)

    def forward(self, *x: Any) -> Any:
        return np.concatenate(x, axis=self.axis)

    def jacobian(self, *x: Any) -> Any:
        from scipy.sparse import csr_array

        parts = np.concatenate([np.full(np.shape(part), n) for n, part in enumerate(x)], axis=self.axis).ravel()
        positions = np.concatenate([numbered(part) for part in x], axis=self.axis).ravel()
        matrices = []
        for n, part in enumerate(x):
            rows = np.flatnonzero(parts == n)
            entries = (np.ones(rows.size), (rows, positions[rows]))
            matrices.append(csr_array(entries, shape=(parts.size, np.size(part))))
        return tuple(matrices)

    def vjp(self, g: Any, *arrays: Any) -> Any:
        return tuple(np.split(g, self.starts(arrays[:-1])[1:-1], axis=self.axis))

    def check(self, *arrays: Any) -> None:
        shapes = [np.shape(array) for array in arrays]
        try:
            np.concatenate([np.empty(shape) for shape in shapes], axis=self.axis)
        except ValueError:
            self.refuse(
                f"shapes {', '.join(map(str, shapes))} do not fit end to end along axis {self.axis}",
                "make all other axes equal",
            )

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), rng.normal(size=(2, 3)), rng.normal(size=(4, 3)), rng.normal(size=(1, 3))
        yield cls(-1), rng.normal(size=(2, 3)), rng.normal(size=(2, 4))

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        yield lambda: cls().check(np.ones((2, 3)), np.ones((2, 4))), "(2, 4)"
