"""Formulas: SymPy expressions in index notation, the independent witness of every operation.

A formula is one entry of an array, written in the letters of its axes: ``p[i] = exp(z[i]) / Sum(exp(z[k]), k)``.
One object renders as LaTeX, differentiates symbolically, and evaluates in mpmath to as many digits as one asks for.
SymPy is imported when the first formula is read, not by ``import minigrad``: write ``sp.exp``, never ``import sympy``.

Letters: ``i`` runs over an output, ``j`` over an input that is differentiated, ``k`` is summed away.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import sympy as sp
else:

    class _LazySymPy:
        def __getattr__(self, name: str) -> Any:
            return getattr(importlib.import_module("sympy"), name)

    sp = _LazySymPy()

__all__ = ["Formula", "indices", "inside", "largest", "maximum", "sp", "total", "variable"]

FREE_LETTERS = "jlmnrstuvwabcdefgh"


def indices(letters: str) -> Any:
    """Integer index letters: ``i, k = indices("i k")``; a single letter comes back alone."""
    return sp.symbols(letters, integer=True)


def variable(name: str, sizes: Sequence[str | int] = (), *, integer: bool = False) -> Any:
    """The symbol of an input: an array with these sizes (letters or numbers), or a plain number if there are none.

    ``variable("z", "K")`` has ``z.shape == (K,)`` and entries ``z[i]``.
    """
    kind = {"integer": True} if integer else {"real": True}
    if not sizes:
        return sp.Symbol(name, **kind)
    shape = tuple(
        sp.Symbol(size, integer=True, positive=True) if isinstance(size, str) else sp.Integer(size)
        for size in sizes
    )
    return sp.IndexedBase(name, shape=shape, **kind)


def total(expression: Any, *ranges: tuple[Any, Any]) -> Any:
    """``total(e, (k, K), (l, L))``: the sum of e over ``0 <= k < K`` and ``0 <= l < L``."""
    return sp.Sum(expression, *((letter, 0, size - 1) for letter, size in ranges)) if ranges else expression


def inside(array: Any, *position: Any, outside: Any = 0) -> Any:
    """The entry at a position, or ``outside`` where the last positions fall off the array: padding."""
    bounds = [
        sp.And(p >= 0, p < size) for p, size in zip(position, array.shape, strict=True) if not p.is_Symbol
    ]
    return sp.Piecewise((array[position], sp.And(*bounds)), (outside, True)) if bounds else array[position]


@functools.cache
def _largest() -> Any:
    class wins(sp.Function):  # type: ignore[misc]
        """1 if the entry of this number is the first of the largest, else 0."""

    class largest(sp.Function):  # type: ignore[misc]
        def fdiff(self, argument: int = 1) -> Any:
            return wins(argument - 1, *self.args)

        def _latex(self, printer: Any) -> str:
            return rf"\max\left({', '.join(map(printer._print, self.args))}\right)"

    return largest


def largest(*entries: Any) -> Any:
    """The largest entry, whose derivative goes to the first that reaches it (SymPy's Max has no such rule)."""
    return _largest()(*entries)


@functools.cache
def _maximum() -> Any:
    def choices(printer: Any, where: Any, ranges: Sequence[Any]) -> tuple[str, str]:
        """Python code of the tuple of the letters, and of the loop over all that they may be."""
        loops = [f"for {letter} in range({printer._print(size)})" for letter, size in ranges]
        letters = ", ".join(str(letter) for letter, _ in ranges)
        return f"({letters},)", f"{' '.join(loops)} if {printer._print(where)}"

    def latex(printer: Any, expression: Any, where: Any, ranges: Any) -> str:
        below = [*(letter for letter, _ in ranges), *([] if where == sp.true else [where])]
        entry = printer._print(expression)
        entry = entry if expression.is_Indexed else rf"\left({entry}\right)"
        return rf"_{{{', '.join(map(printer._print, below))}}} {entry}"

    class reaches(sp.Function):  # type: ignore[misc]
        """1 if the first arguments are the first letters at which the largest is reached, else 0."""

        def _mpmathcode(self, printer: Any, **settings: Any) -> str:
            expression, where, ranges, position = self.args
            letters, loop = choices(printer, where, ranges)
            key = f"lambda choice: (lambda {letters[1:-2]}: {printer._print(expression)})(*choice)"
            found = f"max(({letters} {loop}), key={key}, default=None)"
            return f"(1 if {found} == ({', '.join(map(printer._print, position))},) else 0)"

        def _latex(self, printer: Any) -> str:
            *args, position = self.args
            letters = ", ".join(map(printer._print, position))
            return rf"\left[{letters} = \arg\max" + latex(printer, *args) + r"\right]"

    class maximum(sp.Function):  # type: ignore[misc]
        is_real = True

        def _eval_derivative(self, entry: Any) -> Any:
            expression, where, ranges = self.args
            fresh = [(sp.Dummy(str(letter), integer=True), size) for letter, size in ranges]
            position = sp.Tuple(*(letter for letter, _ in fresh))
            slope = expression.subs(dict(zip((letter for letter, _ in ranges), position, strict=True))).diff(entry)
            return total(reaches(expression, where, ranges, position) * slope, *fresh)

        def _mpmathcode(self, printer: Any, **settings: Any) -> str:
            expression, where, ranges = self.args
            _, loop = choices(printer, where, ranges)
            return f"max(({printer._print(expression)} {loop}), default=-{printer._print(sp.oo)})"

        def _latex(self, printer: Any) -> str:
            return "\\max" + latex(printer, *self.args)

    return maximum


def maximum(expression: Any, *ranges: tuple[Any, Any], where: Any = True) -> Any:
    """``maximum(e, (k, K), where=Ne(k, y))``: the largest e over ``0 <= k < K`` but y; -oo if nothing is left.

    Its derivative goes to the first, in the order of the letters, that reaches it.
    """
    return _maximum()(expression, where, sp.Tuple(*(sp.Tuple(*pair) for pair in ranges)))


EVALUATION: dict[str, Callable[..., Any]] = {
    "largest": max,
    "wins": lambda number, *entries: int(entries.index(max(entries)) == number),
}


def typeset(name: str) -> str:
    """A name as LaTeX: words stand upright, or they would look like products of letters, and hats are hats."""
    letter, _, mark = name.partition("_")
    if mark == "hat":
        return rf"\hat{{{letter}}}"
    return re.sub(r"^([A-Za-z]{2,})(?![A-Za-z])", r"\\mathrm{\1}", sp.latex(sp.Symbol(name)))


class Formula:
    """``y[indices] = expression``, in which ``tables`` gives the values of constants by name.

    Parameters
    ----------
    expression : SymPy expression
    *indices : the letters of the output's axes, in order; none for a scalar.
    tables : name -> array or number, for formulas such as ``y[i] = x[m[i]]`` or ``y[i] = alpha*x[i]``.
    """

    def __init__(self, expression: Any, *indices: Any, tables: Mapping[str, Any] | None = None):
        self.expression = sp.sympify(expression)
        self.indices = indices
        self.tables = dict(tables or {})

    def __repr__(self) -> str:
        return f"Formula({self.expression}, {', '.join(map(str, self.indices))})"

    def latex(self, output: str = "y") -> str:
        """The formula as LaTeX, ``output`` being the name on the left."""
        left = f"{output}_{{{' '.join(map(sp.latex, self.indices))}}}" if self.indices else output
        names = {symbol: typeset(symbol.name) for symbol in self.expression.atoms(sp.Symbol)}
        right = sp.latex(self.expression, symbol_names=names)
        return f"{left} = " + re.sub(r"(?<=\\delta_\{)(\w) (?=\\mathrm)", r"\1,\\,", right)

    def _repr_latex_(self) -> str:
        return f"${self.latex()}$"

    def derivative(self, array: Any) -> Formula:
        """The Jacobian by symbolic differentiation: ``dy[i]/dx[j]``, new letters for the axes of x last."""
        if not isinstance(array, sp.IndexedBase):
            return Formula(sp.diff(self.expression, array), *self.indices, tables=self.tables)
        taken = {str(symbol) for symbol in self.expression.atoms(sp.Symbol)} | set(map(str, self.indices))
        free = [letter for letter in FREE_LETTERS if letter not in taken]
        letters = tuple(sp.Symbol(letter, integer=True) for letter in free[: len(array.shape)])
        slope = sp.diff(self.expression, array[letters])
        return Formula(slope, *self.indices, *letters, tables=self.tables)

    def evaluate(
        self, shape: Sequence[int], symbols: Sequence[Any], arrays: Sequence[Any], digits: int = 30
    ) -> np.ndarray:
        """Every entry of the output as mpmath numbers of ``digits`` digits, in an object array.

        ``shape`` is the output's; ``symbols`` are the inputs as `variable` made them, ``arrays`` their values.
        Numbers are taken exactly: a float is the rational that it stands for.
        """
        import mpmath

        values: dict[Any, Any] = {}
        for name, table in self.tables.items():
            values[sp.IndexedBase(name) if np.ndim(table) else variable(name)] = exact(table)[()]
        for symbol, array in zip(symbols, arrays, strict=True):
            if symbol is None:
                continue
            values[symbol] = Entries(str(symbol), exact(array)) if np.ndim(array) else exact(array)[()]
            if isinstance(symbol, sp.IndexedBase):
                sizes = zip(symbol.shape or (), np.shape(array), strict=bool(symbol.shape))
                values.update((letter, size) for letter, size in sizes if letter.is_Symbol)
        entry = sp.lambdify([*self.indices, *values], self.expression, modules=[EVALUATION, "mpmath"])
        result = np.empty(tuple(shape), dtype=object)
        with mpmath.workdps(digits):
            for position in np.ndindex(result.shape):
                result[position] = entry(*position, *values.values())
        return result


class Entries:
    """An array whose entries are read as in mathematics: there is none at -1, nor past the end."""

    def __init__(self, name: str, array: np.ndarray):
        self.name, self.array = name, array

    def __getitem__(self, position: Any) -> Any:
        letters = position if isinstance(position, tuple) else (position,)
        if len(letters) != self.array.ndim or not all(map(self._inside, letters, self.array.shape)):
            raise IndexError(
                f"formula: {self.name}[{', '.join(map(str, letters))}] does not exist in shape {self.array.shape}: "
                f"letters count from 0 to size - 1; a sum over (k, 0, K - 1) has K terms"
            )
        return self.array[letters]

    @staticmethod
    def _inside(letter: Any, size: int) -> bool:
        return bool(0 <= letter < size)


def exact(array: Any) -> np.ndarray:
    """The same numbers as mpmath numbers (integers stay Python integers), in an object array."""
    import mpmath

    array = np.asarray(array)
    number = int if array.dtype.kind in "iub" else lambda value: mpmath.mpf(float(value))
    result = np.empty(array.shape, dtype=object)
    for position in np.ndindex(array.shape):
        result[position] = number(array[position])
    return result
