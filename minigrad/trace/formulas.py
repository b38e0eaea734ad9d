"""A formula in general and with the numbers put in, as plain text and as HTML that needs no typesetting.

``z[i] = bias[i] + Σ_j(weight[i, j]·x[j])`` becomes ``0.1 + 0.5·1.2 + (-0.3)·0.8``: sums are written out, of several
cases the one that holds is taken. Both are printed from the operation's own SymPy expression.

Letters: those of the formula; ``position`` gives their values on the left-hand side.
"""

from __future__ import annotations

import html
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import sympy as sp
from sympy.printing.precedence import PRECEDENCE
from sympy.printing.pretty.pretty_symbology import pretty_symbol
from sympy.printing.str import StrPrinter

from ..formula import Formula
from ..jacobian import samples_of, split
from ..operation import Elementwise
from .nodes import Node

__all__ = ["Entry", "number_text"]

TERMS = 5
"""Sums of more terms show the first two and the last."""

WORK = 10_000
"""Terms that are added up for a number that stands in a term of a sum."""

RELATIONS = {"==": "=", "!=": "≠", ">=": "≥", "<=": "≤", ">": ">", "<": "<"}


def number_text(value: Any) -> str:
    """Four significant digits; whole numbers as they are."""
    if abs(value) > 1e300:  # perhaps an mpmath number that no float holds
        import mpmath

        return str(mpmath.nstr(mpmath.mpf(value), 4)).replace("+", "")
    value = float(value)
    return str(int(value)) if value.is_integer() and abs(value) < 1e6 else f"{value:.4g}"


class Entry:
    """One entry of a node's output, that of the first sample to which ``weights`` give most weight.

    ``position`` is its place within one sample (in the array flattened in C order where the formula says so);
    ``value`` is the engine's number, ``exact`` the formula's.
    """

    def __init__(self, node: Node, weights: np.ndarray):
        assert node.op is not None
        operation = node.op
        self.output = operation.parsed.output.name
        arrays: Sequence[Any] = next(split(operation, *node.arrays))
        if isinstance(operation, Elementwise):
            arrays = np.broadcast_arrays(*arrays)
        formula, self.symbols = operation.written(*arrays)
        self.formula: Formula = formula
        self.samples = len(samples_of(operation, operation.parsed.output, node.value))
        first, weight = (
            np.asarray(samples_of(operation, operation.parsed.output, array)[0]) for array in (node.value, weights)
        )
        if operation.flat:
            arrays = [None if array is None else np.ravel(array) for array in arrays]
            first, weight = first.ravel(), weight.ravel()
        self.arrays = [None if array is None else np.asarray(array) for array in arrays]
        most = int(np.abs(np.where(np.isfinite(weight), weight, 0)).argmax())
        self.position = tuple(map(int, np.unravel_index(most, first.shape)))
        self.value = float(first[self.position])

    @property
    def exact(self) -> float:
        """The formula's own number, by mpmath with 30 digits."""
        return float(self.evaluate(self.formula.expression, self.letters))

    def evaluate(self, expression: Any, letters: Mapping[Any, int]) -> Any:
        """The number that a part of the formula is, with these values of its letters."""
        one = Formula(expression.subs(letters), tables=self.formula.tables)
        return one.evaluate((), self.symbols, self.arrays)[()]

    @property
    def letters(self) -> dict[Any, int]:
        """The letters of the left-hand side with their values."""
        return dict(zip(self.formula.indices, self.position, strict=True))

    def left(self, *, markup: bool = False, numbers: bool = False) -> str:
        """The left-hand side, ``y[i]`` or, with ``numbers``, ``y[2]``."""
        letters = map(str, self.position) if numbers else map(pretty_symbol, map(str, self.formula.indices))
        name = f"<i>{html.escape(self.output)}</i>" if markup else self.output
        return name + _subscript(letters, markup) if self.position else name

    def general(self, *, markup: bool = False) -> str:
        """The right-hand side in letters."""
        return _Letters(markup).right_hand_side(self.formula.expression)

    def numbers(self, *, markup: bool = False) -> str:
        """The right-hand side with the numbers put in; empty where that takes more than `WORK` terms."""
        try:
            return _Numbers(self, markup).right_hand_side(self.formula.expression)
        except _TooLong:
            return ""


def _subscript(letters: Any, markup: bool) -> str:
    return f"<sub>{','.join(letters)}</sub>" if markup else f"[{', '.join(letters)}]"


class _TooLong(Exception):
    """Writing out a formula would take too long."""


def _nesting(expression: Any) -> int:
    """How many sums stand within one another."""
    return max(map(_nesting, expression.args), default=0) + isinstance(expression, sp.Sum)


class _Letters(StrPrinter):  # type: ignore[misc]
    """Formulas in letters. SymPy looks for the methods by the names of its classes."""

    printmethod = "_in_letters"

    def __init__(self, markup: bool):
        super().__init__()
        self.markup = markup

    def right_hand_side(self, expression: Any) -> str:
        """The expression; products with a dot, powers raised."""
        return _tidy(self.doprint(expression))

    def _print_Indexed(self, e: Any) -> str:
        name = str(e.base.label)
        return (f"<i>{html.escape(name)}</i>" if self.markup else name) + _subscript(
            map(self._print, e.indices), self.markup
        )

    def _print_Symbol(self, e: Any) -> str:
        return html.escape(pretty_symbol(e.name)) if self.markup else str(pretty_symbol(e.name))

    def _below(self, sign: str, text: str) -> str:
        if self.markup:
            return f"{sign}<sub>{text}</sub>"
        return f"{sign}_{text}" if len(text) == 1 else f"{sign}_{{{text}}}"

    def _print_Sum(self, e: Any) -> str:
        letters = ",".join(self._print(letter) for letter, *_ in e.limits)
        return f"{self._below('Σ', letters)}({self._print(e.function)})"

    def _print_Pow(self, e: Any, rational: bool = False) -> str:
        if self.markup and e.exp.is_number and e.exp.is_positive and e.exp != sp.S.Half:
            return f"{self.parenthesize(e.base, PRECEDENCE['Pow'])}<sup>{self._print(e.exp)}</sup>"
        return str(super()._print_Pow(e, rational))

    def _print_Relational(self, e: Any) -> str:
        relation = RELATIONS.get(e.rel_op, e.rel_op)
        relation = html.escape(relation) if self.markup else relation
        return f"{self._print(e.lhs)} {relation} {self._print(e.rhs)}"

    def _print_And(self, e: Any) -> str:
        return " and ".join(sorted(map(self._print, e.args)))

    def _print_Piecewise(self, e: Any) -> str:
        cases = [
            f"{self._print(value)} {'otherwise' if condition == sp.true else f'if {self._print(condition)}'}"
            for value, condition in e.args
        ]
        return f"{{{'; '.join(cases)}}}"

    def _print_KroneckerDelta(self, e: Any) -> str:
        return f"[{self._print(e.args[0])} = {self._print(e.args[1])}]"

    def _print_Abs(self, e: Any) -> str:
        return f"|{self._print(e.args[0])}|"

    def _print_largest(self, e: Any) -> str:
        return f"max({', '.join(map(self._print, e.args))})"

    def _print_maximum(self, e: Any) -> str:
        entry, where, ranges = e.args
        below = [str(letter) for letter, _ in ranges]
        below += [] if where == sp.true else [self._print(where)]
        return f"{self._below('max', ': '.join([','.join(below[: len(ranges)]), *below[len(ranges) :]]))}" + (
            f"({self._print(entry)})"
        )

    def _print_Infinity(self, e: Any) -> str:
        return "∞"

    def _print_NegativeInfinity(self, e: Any) -> str:
        return "-∞"

    def _print_Float(self, e: Any) -> str:
        return number_text(e)


class _Numbers(_Letters):
    """The same with the numbers put in: sums written out, cases decided."""

    printmethod = "_in_numbers"

    def __init__(self, entry: Entry, markup: bool):
        super().__init__(markup)
        self.whole = entry
        self.depth = 0
        self.tables: dict[str, np.ndarray] = {name: np.asarray(table) for name, table in entry.formula.tables.items()}
        self.known: dict[Any, Any] = {}
        for symbol, array in zip(entry.symbols, entry.arrays, strict=True):
            if array is None:
                continue
            if isinstance(symbol, sp.IndexedBase):
                self.tables[str(symbol.label)] = array
                self.known.update((size, length) for size, length in zip(symbol.shape or (), array.shape, strict=False))
            else:
                self.known[symbol] = array[()]
        self.known.update((sp.Symbol(n, real=True), t[()]) for n, t in self.tables.items() if t.ndim == 0)
        self.known.update(entry.letters)
        self.local = set(entry.letters)

    def right_hand_side(self, expression: Any) -> str:
        because = ""
        if isinstance(expression, sp.Piecewise):
            _, condition = self.case(expression)
            if condition == sp.true:
                condition = sp.Not(expression.args[0][1])
            because = f", because {_tidy(self._print(condition))}"
        return super().right_hand_side(expression) + because

    def value(self, expression: Any) -> Any:
        """The number that an index, a bound or the side of a condition is."""
        expression = sp.sympify(expression).xreplace({s: sp.sympify(_plain(v)) for s, v in self.known.items()})
        entries = {e: sp.sympify(_plain(self.entry(e))) for e in expression.atoms(sp.Indexed)}
        return expression.xreplace(entries).doit()

    def entry(self, e: Any) -> Any:
        """The number that ``x[i, j]`` stands for."""
        return self.tables[str(e.base.label)][tuple(int(self.value(letter)) for letter in e.indices)]

    def case(self, e: Any) -> Any:
        """The (value, condition) of a Piecewise that holds."""
        return next(pair for pair in e.args if self.holds(pair[1]))

    def holds(self, condition: Any) -> bool:
        """Whether a condition is true; those with sums or maxima are left to mpmath."""
        if condition == sp.true or condition == sp.false:
            return bool(condition)
        if condition.has(sp.Sum, sp.Function):
            return bool(self.evaluated(sp.Piecewise((1, condition), (0, True))))
        return bool(self.value(condition))

    def evaluated(self, expression: Any) -> Any:
        """The number that a part of the formula is here; `_TooLong` if sums within sums take forever."""
        largest = max((array.size for array in self.whole.arrays if array is not None), default=0)
        if largest ** _nesting(expression) > WORK:
            raise _TooLong
        letters = {symbol: value for symbol, value in self.known.items() if symbol.is_integer and symbol in self.local}
        return self.whole.evaluate(expression, letters)

    def over(self, ranges: Sequence[tuple[Any, int, int]]) -> Iterator[Mapping[Any, int]]:
        """Every choice of the letters: (letter, first, last)."""
        letters = [letter for letter, _, _ in ranges]
        for choice in itertools.product(*(range(first, last + 1) for _, first, last in ranges)):
            yield dict(zip(letters, choice, strict=True))

    def at(self, choice: Mapping[Any, int], expression: Any, level: int = 0) -> str:
        """The expression printed with these letters chosen."""
        before = self.known, self.local, self.depth
        self.known, self.local, self.depth = {**self.known, **choice}, self.local | set(choice), self.depth + 1
        text: str = self.parenthesize(expression, level) if level else self._print(expression)
        self.known, self.local, self.depth = before
        return text

    def _print_Symbol(self, e: Any) -> str:
        return _signed(self.known[e]) if e in self.known else super()._print_Symbol(e)

    def _print_Indexed(self, e: Any) -> str:
        return _signed(self.entry(e))

    def _print_Sum(self, e: Any) -> str:
        if self.depth:  # a sum in a term of a sum is one number, or it could not be read
            return _signed(self.evaluated(e))
        # a bound may hang on a letter further out, none on one of the same sum
        ranges = [(letter, int(self.value(first)), int(self.value(last))) for letter, first, last in reversed(e.limits)]
        count = math.prod(max(last - first + 1, 0) for _, first, last in ranges)
        if count <= TERMS:
            terms = [self.at(choice, e.function, PRECEDENCE["Add"]) for choice in self.over(ranges)]
        else:
            some = [*itertools.islice(self.over(ranges), 2), {letter: last for letter, _, last in ranges}]
            first, second, final = (self.at(choice, e.function, PRECEDENCE["Add"]) for choice in some)
            terms = [first, second, "…", final]
        return f"({' + '.join(terms)})" if len(terms) > 1 else "".join(terms) or "0"

    def _print_Piecewise(self, e: Any) -> str:
        return str(self.parenthesize(self.case(e)[0], PRECEDENCE["Add"]))

    def _print_KroneckerDelta(self, e: Any) -> str:
        return str(int(self.value(e.args[0]) == self.value(e.args[1])))

    def _print_maximum(self, e: Any) -> str:
        entry, where, ranges = e.args
        choices = self.over([(letter, 0, int(self.value(size)) - 1) for letter, size in ranges])
        kept = [choice for choice in choices if where == sp.true or self.holds(where.xreplace(choice))]
        shown = kept if len(kept) <= TERMS else [*kept[:2], None, kept[-1]]
        entries = ", ".join("…" if choice is None else self.at(choice, entry) for choice in shown)
        return f"max({entries})" if len(kept) > 1 else f"({entries or '-∞'})"


def _tidy(text: str) -> str:
    """Products with a dot, powers with a caret, and no pair of parentheses right inside another or around it all."""
    text = f"({text.replace('**', '^').replace('*', '·')})"
    opened: list[int] = []
    closing: dict[int, int] = {}
    for place, character in enumerate(text):
        if character == "(":
            opened.append(place)
        elif character == ")":
            closing[opened.pop()] = place
    double = [place for place in closing if closing.get(place + 1) == closing[place] - 1]
    dropped = {0, len(text) - 1, *(place + 1 for place in double), *(closing[place] - 1 for place in double)}
    text = "".join(character for place, character in enumerate(text) if place not in dropped)
    return re.sub(r"(?<![^(,|] )(?<![^(,| ])\((-[\w.]+)\)(?![\^<])", r"\1", text)  # a minus that leads needs none


def _plain(value: Any) -> Any:
    """A number that SymPy takes: an int where it is whole by type, else a float."""
    return int(value) if np.asarray(value).dtype.kind in "iub" else float(value)


def _signed(value: Any) -> str:
    text = number_text(value)
    return f"({text})" if text.startswith("-") else text
