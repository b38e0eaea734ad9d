"""Checking what a reader brings: a formula against an operation, a gradient against differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..formula import Formula, sp
from ..jacobian import jacobian
from ..tensor import Tensor, as_tensor, no_grad
from .cases import differences, distance

__all__ = ["Comparison", "compare", "gradient"]


@dataclass(frozen=True)
class Comparison:
    """Two arrays that should be one: true if they are, and the worst entry if not.

    ``got`` and ``wanted`` are the arrays, ``error`` the largest difference relative to the largest entry wanted,
    ``index`` the position of it, in ``letters`` if the axes have some, ``tolerance`` what is let pass.
    """

    what: str
    got: np.ndarray
    wanted: np.ndarray
    tolerance: float
    letters: tuple[str, ...] = ()

    @property
    def error(self) -> float:
        return distance(self.got, self.wanted)

    @property
    def index(self) -> tuple[int, ...]:
        with np.errstate(invalid="ignore"):
            gap = np.abs(np.asarray(self.got, dtype=float) - self.wanted)
        return tuple(int(k) for k in np.unravel_index(np.argmax(np.where(np.isnan(gap), np.inf, gap)), gap.shape))

    def __bool__(self) -> bool:
        return self.error <= self.tolerance

    def __str__(self) -> str:
        if self.got.shape != self.wanted.shape:
            return f"{self.what}: shapes differ, {self.got.shape} and {self.wanted.shape}"
        if self:
            return f"{self.what}: they agree in all {self.got.size} entries, worst error {self.error:.1e}"
        named = ", ".join(f"{letter}={k}" for letter, k in zip(self.letters, self.index, strict=False))
        at = f" at [{named or ', '.join(map(str, self.index))}]" if self.index else ""
        with np.errstate(invalid="ignore"):
            wrong = ~np.isclose(self.got, self.wanted, rtol=self.tolerance, atol=self.tolerance)
        return (
            f"{self.what}: they differ in {int(wrong.sum())} of {self.got.size} entries, most{at}: "
            f"{self.got[self.index]:.10g} and {self.wanted[self.index]:.10g}"
            f"{' (outside the domain)' if np.isnan(self.wanted[self.index]) else ''}"
        )

    __repr__ = __str__


def compare(
    f: Callable[..., Any], formula: Any, *, wrt: str | None = None, tolerance: float | None = None, **inputs: Any
) -> Comparison:
    """Compare a function on tensors, or its Jacobian, with a formula that you bring.

    Parameters
    ----------
    f : callable
        A function of tensors, an operation or a loss; called with ``inputs`` in the order in which they are given.
    formula : SymPy expression, `Formula` or callable
        An expression in index notation whose arrays (``sympy.IndexedBase``) and numbers are named like ``inputs``;
        its free integer letters, in alphabetical order, are the axes of the result (`Formula` sets another order),
        and a letter that names the size of an axis comes from the shape of the array. A callable gets the inputs as
        NumPy arrays and returns the whole result.
    tolerance : float, optional
        Of differences relative to the largest entry; 1e-9, or 1e-4 for float32.
    wrt : str, optional
        Compare dy/dx for the input x of this name, of shape ``y.shape + x.shape``; without it, y itself.
    **inputs : arrays or numbers
        Whole numbers are left as they are (labels, say).

    Returns
    -------
    Comparison, which is true where the two agree, and prints the worst entry, both numbers and its indices.

    Examples
    --------
    >>> import sympy as sp, minigrad as mg
    >>> z, (i, j, k) = sp.IndexedBase("z"), sp.symbols("i j k", integer=True)
    >>> p = lambda i: sp.exp(z[i]) / sp.Sum(sp.exp(z[k]), (k, 0, 2))
    >>> mg.verify.compare(mg.softmax, p(i) * (sp.KroneckerDelta(i, j) - p(j)), wrt="z", z=[0.1, 0.2, 0.7])
    dy/dz of softmax and the formula: they agree in all 9 entries, worst error 1.1e-16
    """
    arrays = {name: np.asarray(value) for name, value in inputs.items()}
    name = getattr(f, "__name__", None) or repr(f)
    if wrt is not None and wrt not in arrays:
        raise ValueError(f"compare: wrt={wrt!r} is none of the inputs {', '.join(arrays)}: name one of them")
    if wrt is not None:
        if arrays[wrt].dtype.kind != "f":
            arrays[wrt] = arrays[wrt].astype(float)
        order = list(arrays)
        matrix = jacobian(f, *arrays.values(), wrt=order.index(wrt))
        with no_grad():
            y = as_tensor(f(*arrays.values()))
        got = matrix.reshape((*y.shape, *arrays[wrt].shape))
    else:
        with no_grad():
            got = as_tensor(f(*arrays.values())).data
    wanted, letters = _evaluate(formula, arrays, got.shape)
    what = f"{name} and the formula" if wrt is None else f"dy/d{wrt} of {name} and the formula"
    if tolerance is None:
        tolerance = 1e-4 if got.dtype == np.float32 else 1e-9
    return Comparison(what, got, wanted, tolerance, letters)


def _evaluate(
    formula: Any, arrays: dict[str, np.ndarray], shape: tuple[int, ...]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The formula's numbers, and the letters of its axes."""
    symbolic = isinstance(formula, (Formula, int, float)) or hasattr(formula, "free_symbols")
    if not symbolic and not callable(formula):
        raise TypeError(
            f"compare: expected a SymPy expression, a Formula or a function, got {type(formula).__name__}: "
            f"for an array of numbers that you have, write lambda *inputs: array"
        )
    if not symbolic:
        return np.asarray(formula(*arrays.values()), dtype=float), ()
    expression = formula.expression if isinstance(formula, Formula) else sp.sympify(formula)
    bases = {str(base.label): base for base in expression.atoms(sp.IndexedBase)}
    sizes = {size: value for name, base in bases.items() if name in arrays and base.shape
             for size, value in zip(base.shape, arrays[name].shape, strict=True) if size.is_Symbol}  # fmt: skip
    named = {*arrays, *map(str, sizes)}
    free = sorted((s for s in expression.free_symbols if s.is_Symbol and str(s) not in named and s.is_integer), key=str)
    unknown = {str(s) for s in expression.free_symbols if s.is_Symbol} - named - set(map(str, free)) - set(bases)
    unknown |= set(bases) - set(arrays)
    if unknown:
        raise ValueError(
            f"compare: the formula speaks of {', '.join(sorted(unknown))}, the inputs are {', '.join(arrays)}: "
            f"give an input of that name, or make an index letter with sympy.symbols(..., integer=True)"
        )
    letters = formula.indices if isinstance(formula, Formula) else tuple(free)
    if len(letters) != len(shape):
        raise ValueError(
            f"compare: the formula has the free letters ({', '.join(map(str, letters))}), the result the shape "
            f"{shape}: use one letter an axis, and sum over the others"
        )
    plain = {str(s): s for s in expression.free_symbols if s.is_Symbol}
    symbols = [bases.get(name, plain.get(name)) for name in arrays]
    entry = Formula(expression.subs(sizes), *letters)
    try:
        return entry.evaluate(shape, symbols, list(arrays.values())).astype(float), tuple(map(str, letters))
    except IndexError as error:
        axes = ", ".join(f"{letter} < {size}" for letter, size in zip(letters, shape, strict=True))
        raise IndexError(f"compare: {error}; the axes of the result were taken as {axes or 'none'}") from None


def gradient(
    f: Callable[..., Any], *inputs: Any, tolerance: float = 1e-6, step: float = 1e-3
) -> Sequence[Comparison]:
    """Compare the gradients that `backward` finds for a function of tensors with central differences.

    Parameters
    ----------
    f : callable
        Takes tensors, returns a tensor of any shape.
    *inputs : arrays
        Every floating-point one is differentiated with respect to.
    tolerance, step : float
        The error that is let pass, and the step of the differences (fourth order).

    Returns
    -------
    One `Comparison` an input, of Jacobians of shape (size of the output, size of the input).
    """
    arrays = [x.data if isinstance(x, Tensor) else np.asarray(x) for x in inputs]
    results = []
    for k, x in enumerate(arrays):
        if x.dtype.kind != "f":
            continue

        def moved(value: Any, k: int = k) -> Any:
            with no_grad():
                here = value.astype(arrays[k].dtype)
                return as_tensor(f(*(Tensor(here if n == k else a) for n, a in enumerate(arrays)))).data

        what = f"gradient with respect to input {k} and differences"
        single = x.dtype == np.float32  # whose differences keep three digits
        slopes = differences(moved, x, 0.03 if single else step)
        results.append(Comparison(what, jacobian(f, *arrays, wrt=k), slopes, 1e-2 if single else tolerance, ("i", "j")))
    if not results:
        raise ValueError("gradient: no input is floating-point: give at least one array of floats")
    return results
