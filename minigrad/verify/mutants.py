"""Mutants: operations made wrong on purpose, all of which the audit must catch.

A mutant is a copy of an operation with one of its methods replaced. Mutants that are no different from the original
(the transpose of a symmetric matrix, a sum over a batch of one) are not made.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from ..formula import Formula, sp
from ..laws import dense
from ..operation import Elementwise, Operation, as_tuple
from .cases import Case
from .checks import CHECKS

__all__ = ["caught", "mutants_of"]

Mutant = tuple[str, Operation, bool]
"""What was done, the mutant, and whether its formula is still the original one."""


def mutants_of(case: Case) -> Iterator[Mutant]:
    """All mutants of the operation of a case."""
    yield from _products(case)
    yield from _jacobians(case)
    yield from _slopes(case)
    yield from _values(case)
    yield from _formulas(case)


def caught(case: Case, mutant: Operation, same_formula: bool) -> str | None:
    """The name of the first check that fails for a mutant at a case, None if it survives there."""
    trial = case.with_operation(mutant, same_formula=same_formula)
    for check in CHECKS:
        try:
            error = check(trial)
        except Exception:  # a mutant may break in any way: that, too, is noticed
            return check.name
        if error is not None and not error <= check.tolerance:
            return check.name
    return None


def _replace(operation: Operation, **methods: Callable[..., Any]) -> Operation:
    mutant = copy.copy(operation)
    for name, method in methods.items():
        setattr(mutant, name, method)
    return mutant


def _products(case: Case) -> Iterator[Mutant]:
    """A product that is zeroed, negated, scaled, transposed, summed or averaged over the batch."""
    matrices = [J for J, varies in zip(case.lifted, case.varies, strict=True) if varies]
    inputs = [v for v, varies in zip(case.operation.parsed.of(len(case.arrays)), case.varies, strict=True) if varies]
    for k, (J, variable) in enumerate(zip(matrices, inputs, strict=True)):
        if J is None:
            continue
        changes = _row_changes(J) if J.any() else {"that is not zero": lambda g, row: row + 1e-3 * np.sum(g)}
        if variable.samples and len(case.samples) > 1:
            changes["summed over the batch"] = _summed
        if not variable.samples and variable.letters and len(case.samples) > 1:
            changes["averaged over the batch"] = partial(_divided, len(case.samples))
        for what, change in changes.items():
            yield f"vjp of {variable.name} {what}", _replace(case.operation, vjp=_changed(case, k, change)), True


def _row_changes(J: np.ndarray) -> dict[str, Callable[[Any, Any], Any]]:
    """Functions of (g, g J) that give a wrong g J."""
    entry = int(abs(J).sum(axis=0).argmax())

    def without_an_entry(g: Any, row: Any) -> Any:
        row = np.array(row)
        row.flat[entry] = 0
        return row

    changes: dict[str, Callable[[Any, Any], Any]] = {
        "zeroed": lambda g, row: 0 * row,
        "negated": lambda g, row: -row,
        "scaled by 1.001": lambda g, row: 1.001 * row,
        "with an entry lost": without_an_entry,
    }
    if J.shape[0] == J.shape[1] and not np.array_equal(J, J.T):
        changes["transposed"] = lambda g, row: (J @ np.ravel(g)).reshape(np.shape(row))
    return changes


def _summed(g: Any, row: Any) -> Any:
    return np.broadcast_to(np.sum(row, axis=0, keepdims=True), np.shape(row))


def _divided(count: int, g: Any, row: Any) -> Any:
    return row / count


def _changed(case: Case, k: int, change: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    vjp = case.operation.vjp

    def changed(g: Any, *arrays: Any, **keywords: Any) -> Any:
        rows = list(as_tuple(vjp(g, *arrays, **keywords)))
        if rows[k] is not None:
            rows[k] = change(g, rows[k])
        return tuple(rows) if len(rows) > 1 else rows[0]

    return changed


def _jacobians(case: Case) -> Iterator[Mutant]:
    """A Jacobian with one entry off, negated, or transposed."""
    for k, J in enumerate(case.jacobians(0)):
        if J is None or not J.any():
            continue
        entry = np.unravel_index(abs(J).argmin(), J.shape)
        off = np.zeros_like(J)
        off[entry] = 1e-3 * abs(J).max()
        changes: dict[str, Callable[..., Any]] = {"with one entry off": partial(np.add, off), "negated": np.negative}
        if J.shape[0] == J.shape[1] and not np.array_equal(J, J.T):
            changes["transposed"] = np.transpose
        for what, change in changes.items():

            def changed(*sample: Any, k: int = k, change: Any = change) -> Any:
                matrices = list(as_tuple(case.operation.jacobian(*sample)))
                matrices[k] = None if matrices[k] is None else change(dense(matrices[k]))
                return tuple(matrices) if len(matrices) > 1 else matrices[0]

            yield f"jacobian {k} {what}", _replace(case.operation, jacobian=changed), True


def _slopes(case: Case) -> Iterator[Mutant]:
    """Partial derivatives that are wrong in the same way in matrix and product, and a printed formula negated."""
    operation: Any = case.operation
    if isinstance(operation, Elementwise):

        def df(*arrays: Any) -> Any:
            slopes = type(operation).df(operation, *arrays)
            wrong = tuple(np.where(slope == 0, 1e-3, 1.001 * slope) for slope in as_tuple(slopes))
            return wrong if type(slopes) is tuple else wrong[0]

        yield "df off by a thousandth", _replace(operation, df=df), True
    if case.printed:

        def printed(*symbols: Any) -> Any:
            forms = type(operation).printed(operation, *symbols)
            return tuple(form and Formula(-form.expression, *form.indices) for form in forms)

        yield "printed derivative negated", _replace(operation, printed=printed), False


def _values(case: Case) -> Iterator[Mutant]:
    """A value that is scaled, has one entry off, mixes the samples, or touches its input."""
    operation = case.operation

    def value(change: Callable[[Any], Any]) -> Callable[..., Any]:
        def forward(*arrays: Any) -> Any:
            result = operation.forward(*arrays)
            if operation.saved:
                return (change(result[0]), *result[1:])
            return change(result)

        return forward

    def last_off(y: Any) -> Any:
        y = np.array(y)
        y[(-1,) * y.ndim] += 1e-3 * (1 + abs(y).max())
        return y

    def touching(*arrays: Any) -> Any:
        result = operation.forward(*arrays)
        arrays[0][...] *= 1.5
        arrays[0][...] += 1
        return result

    if np.any(case.outputs[0]):
        yield "forward scaled by 1.001", _replace(operation, forward=value(lambda y: 1.001 * y)), True
    yield "forward with one entry off", _replace(operation, forward=value(last_off)), True
    if len(case.samples) > 1 and operation.parsed.output.samples:
        mix = value(lambda y: y + 0.1 * (np.mean(y, axis=0, keepdims=True) - y) + 0.01 * (len(y) > 1))
        yield "forward that mixes the samples", _replace(operation, forward=mix), True
    yield "forward in float64 only", _replace(operation, forward=value(lambda y: np.asarray(y, dtype=float))), True
    yield "forward that changes its input", _replace(operation, forward=touching), True


def _formulas(case: Case) -> Iterator[Mutant]:
    """A formula with a sign or an index wrong."""
    formula, _ = case.operation.written(*case.samples[0])
    changed = {"formula negated": -formula.expression}
    additions = [node for node in sp.preorder_traversal(formula.expression) if node.is_Add and not _is_bound(node)]
    for number, node in enumerate(additions[:2]):
        wrong = node - 2 * node.args[-1]
        changed[f"formula with a sign wrong in sum {number}"] = formula.expression.subs(node, wrong)
    for entry in sorted(formula.expression.atoms(sp.Indexed), key=str)[:2]:
        for axis, index in enumerate(entry.indices):
            if entry.base.shape and index in formula.indices:
                indices = list(entry.indices)
                indices[axis] = sp.Mod(index + 1, entry.base.shape[axis])
                wrong = formula.expression.subs(entry, entry.base[tuple(indices)])
                changed[f"formula with index {axis} of {entry} wrong"] = wrong
    for what, expression in changed.items():
        if expression == formula.expression:
            continue

        def written(*sample: Any, expression: Any = expression) -> Any:
            symbols = case.operation.written(*sample)[1]
            return Formula(expression, *formula.indices, tables=formula.tables), symbols

        yield what, _replace(case.operation, written=written), False


def _is_bound(node: Any) -> bool:
    """Whether a sum is of letters and sizes only, such as the K - 1 at the end of a summation."""
    return all(symbol.is_integer for symbol in node.free_symbols) and not node.has(sp.Indexed)
