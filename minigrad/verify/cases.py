"""An operation at one of its samples, with the numbers that several checks need, computed once.

Letters: ``i`` entry of an output, ``j`` entry of an input, ``n`` sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np

from ..jacobian import lift, split
from ..laws import dense
from ..operation import Operation, as_tuple

__all__ = ["Case", "cases", "differences", "distance", "entrywise"]

SEED = 20190213


class Case:
    """One operation with the inputs of one of its samples; ``exact`` numbers are those of its formula.

    The formula's numbers are computed by mpmath with 30 digits (80 in the tails), for the first two samples of the
    batch, or the first if they are large. A mutant that leaves the formula alone is tried on
    ``with_operation(mutant)``, which keeps them.
    """

    def __init__(self, operation: Operation, *arrays: Any, kind: str = "sample"):
        self.operation = operation
        self.kind = kind
        self.arrays = arrays
        self.varies = operation.varies(len(arrays))
        self.samples = list(split(operation, *arrays))

    def with_operation(self, operation: Operation, *, same_formula: bool = True) -> Case:
        """The same inputs, copied (some mutants change theirs), for another operation."""
        arrays = (array.copy() if isinstance(array, np.ndarray) else array for array in self.arrays)
        other = Case(operation, *arrays, kind=self.kind)
        if same_formula:
            other.__dict__.update(values=self.values, derivatives=self.derivatives, printed=self.printed)
        return other

    def __repr__(self) -> str:
        return f"{self.operation!r} at shapes {', '.join(str(np.shape(array)) for array in self.arrays)}"

    @cached_property
    def outputs(self) -> tuple[Any, ...]:
        """What forward gives for the whole batch: the output, then what it saves."""
        result = self.operation.forward(*self.arrays)
        return tuple(result) if self.operation.saved else (np.asarray(result),)

    @cached_property
    def lifted(self) -> list[np.ndarray | None]:
        """The Jacobian of the whole batch for each input, from the matrices of the samples."""
        matrices = lift(self.operation, self.arrays, np.asarray(self.outputs[0]), self.varies)
        return [None if matrix is None else dense(matrix) for matrix in matrices]

    def jacobians(self, n: int) -> list[np.ndarray | None]:
        """The operation's matrices of sample n, one for each input that varies."""
        return [None if J is None else dense(J) for J in as_tuple(self.operation.jacobian(*self.samples[n]))]

    def _in_letters(self, n: int, form: str = "written") -> tuple[Any, list[Any], list[Any], tuple[int, ...]]:
        """Formula, symbols and values of sample n, and the shape of its output, flattened if the formula is."""
        sample = self.samples[n]
        formula, symbols = getattr(self.operation, form)(*sample)
        shape = np.shape(self.outputs[0])[self.operation.parsed.output.leading(np.ndim(self.outputs[0])) :]
        if hasattr(self.operation, "axis") and len(self.operation.parsed.output.letters) == 1:
            shape = (np.shape(sample[0])[-1],)
        if self.operation.flat:
            shape = (int(np.prod(shape, dtype=int)),)
            sample = tuple(None if value is None else np.ravel(value) for value in sample)
        return formula, symbols, list(sample), shape

    @property
    def digits(self) -> int:
        """With how many digits formulas are evaluated."""
        return 80 if self.kind == "tail" else 30

    @property
    def witnesses(self) -> range:
        """The samples at which formulas are evaluated."""
        entries = np.size(self.outputs[0]) * sum(map(np.size, self.samples[0])) / len(self.samples)
        return range(min(1 if entries > 1000 else 2, len(self.samples)))

    @cached_property
    def values(self) -> list[np.ndarray]:
        """The formula at each of the first samples, as a flat float array."""
        result = []
        for n in self.witnesses:
            formula, symbols, sample, shape = self._in_letters(n)
            result.append(formula.evaluate(shape, symbols, sample, self.digits).astype(float).ravel())
        return result

    def _evaluate(self, n: int, formulas: Callable[[Any, list[Any]], Any]) -> list[np.ndarray | None]:
        formula, symbols, sample, shape = self._in_letters(n, "differentiated")
        matrices: list[np.ndarray | None] = []
        varying = [k for k, varies in enumerate(self.varies) if varies]
        for k, slope in zip(varying, formulas(formula, [symbols[k] for k in varying]), strict=True):
            if slope is None:
                matrices.append(None)
                continue
            full = (*shape, *np.shape(sample[k]))
            matrix = slope.evaluate(full, symbols, sample, self.digits).astype(float)
            matrices.append(matrix.reshape(int(np.prod(shape, dtype=int)), -1))
        return matrices

    @cached_property
    def derivatives(self) -> list[list[np.ndarray | None]]:
        """The symbolic derivative of the formula at each of the first samples, one matrix for each input."""

        def differentiate(formula: Any, symbols: list[Any]) -> list[Any]:
            return [None if symbol is None else formula.derivative(symbol) for symbol in symbols]

        return [self._evaluate(n, differentiate) for n in self.witnesses]

    @cached_property
    def printed(self) -> list[list[np.ndarray | None]]:
        """The same as the source prints it, if the operation carries that."""
        form = getattr(self.operation, "printed", None)
        if form is None:
            return []
        symbols = self.operation.symbols(*self.samples[0])
        return [self._evaluate(n, lambda *_: form(*symbols)) for n in self.witnesses]


def cases(cls: type[Operation]) -> Iterator[Case]:
    """The cases of an operation, the same ones at every run: samples, then kinks, then tails."""
    for kind, tried in (
        ("sample", cls.samples(np.random.default_rng(SEED))),
        ("kink", cls.kinks(np.random.default_rng(SEED))),
        ("tail", cls.tails()),
    ):
        for operation, *arrays in tried:
            yield Case(operation, *arrays, kind=kind)


def distance(got: Any, wanted: Any) -> float:
    """The largest difference, relative to the largest entry wanted; inf where shapes or finiteness differ."""
    got, wanted = np.asarray(got, dtype=float), np.asarray(wanted, dtype=float)
    if got.shape != wanted.shape:
        return np.inf
    if got.size == 0 or np.array_equal(got, wanted, equal_nan=True):
        return 0.0
    if not np.isfinite(got).all() or not np.isfinite(wanted).all():
        return np.inf
    largest = float(abs(wanted).max())
    return float(abs(got - wanted).max()) / (largest or 1.0)


def entrywise(got: Any, wanted: Any) -> float:
    """The largest difference of an entry relative to that entry, for entries that a float can hold."""
    got, wanted = np.ravel(np.asarray(got, dtype=float)), np.ravel(np.asarray(wanted, dtype=float))
    if got.shape != wanted.shape:
        return np.inf
    gap = np.abs(got - wanted) / np.maximum(np.abs(wanted), 1e-290)
    return float(np.where(np.isnan(gap), np.inf, gap).max(initial=0.0))


def differences(f: Callable[[Any], Any], x: Any, step: float = 1e-3) -> np.ndarray:
    """The Jacobian by central differences of fourth order, entry by entry: error of order step^4.

    dy/dx_j = (y(x - 2h) - 8 y(x - h) + 8 y(x + h) - y(x + 2h)) / 12h
    """
    x = np.array(x, dtype=float)
    columns = []
    for j in range(x.size):
        column: Any = 0.0
        for weight, steps in ((1, -2), (-8, -1), (8, 1), (-1, 2)):
            moved = x.copy()
            moved.flat[j] += steps * step
            column = column + weight * np.ravel(f(moved))
        columns.append(column / (12 * step))
    return np.stack(columns, axis=1)
