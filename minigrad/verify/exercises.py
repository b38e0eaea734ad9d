"""Exercises: a student's function against one of the engine, and words for what is wrong with it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..laws import dense
from ..operation import Operation
from ..tensor import Tensor
from .cases import SEED, cases

__all__ = ["Solved", "Wrong", "exercise"]

NOTHING = 1e-6
"""Where all the entries wanted are smaller, errors are judged as if the largest were this: no tails are asked for."""


class Wrong(AssertionError):
    """What `exercise` raises: which entry is wrong, both numbers, and what that looks like."""


@dataclass(frozen=True)
class Solved:
    """What `exercise` returns for a function that is right."""

    name: str
    cases: int
    numbers: int

    def __str__(self) -> str:
        return f"{self.name}: right, {self.numbers} numbers in {self.cases} cases"

    __repr__ = __str__


def exercise(
    yours: Callable[..., Any],
    right: Callable[..., Any],
    on: Iterable[Any] | None = None,
    *,
    hint: str = "",
    tolerance: float = 1e-8,
) -> Solved:
    """Compare a function that you wrote with the right one, at many arguments.

    Parameters
    ----------
    yours : callable
        Gets copies of the arguments; returns an array, a number, a tensor, a sparse matrix, or a tuple of these.
    right : callable
        The same from the engine: for example ``Softmax().jacobian`` or another method of an operation.
    on : iterable of tuples, optional
        The arguments of each call; what is no tuple is the only argument. May be left out where ``right`` is the
        ``forward``, ``jacobian`` or ``vjp`` of an operation: then the samples of the operation are taken, those in
        the tails among them, one sample of the batch at a time for ``jacobian``.
    hint : str
        Is said with every complaint.
    tolerance : float
        Of differences relative to the largest entry wanted.

    Returns
    -------
    Solved, which prints as one line.

    Raises
    ------
    Wrong
        An AssertionError: names the entry that is furthest off, both numbers, the arguments, and what the error looks
        like (a sign, a transpose, a factor, the diagonal alone, overflow, an argument that was changed, ...).
    ValueError
        If there is nothing to compare at.
    """
    name = getattr(yours, "__name__", repr(yours))
    cases = numbers = 0
    for arguments in _own(right) if on is None else on:
        arguments = arguments if isinstance(arguments, tuple) else (arguments,)
        wanted = _parts(right(*deepcopy(arguments)))
        got = _answer(name, yours, arguments, hint)
        if len(got) != len(wanted):
            raise Wrong(_words(name, f"returned {len(got)} results, {len(wanted)} are wanted", yours, arguments, hint))
        for k, (one, other) in enumerate(zip(got, wanted, strict=True)):
            problem = _problem(one, other, tolerance)
            if problem:
                which = f"result {k}: " if len(wanted) > 1 else ""
                raise Wrong(_words(name, which + problem, yours, arguments, hint))
            numbers += np.size(other)
        cases += 1
    if not numbers:
        raise ValueError(f"exercise: nothing to compare {name} at: give the arguments of some calls as on=[...]")
    return Solved(name, cases, numbers)


def _own(right: Any) -> Iterator[tuple[Any, ...]]:
    """The arguments that a method of an operation gets at the operation's own samples."""
    operation, part = getattr(right, "__self__", None), getattr(right, "__name__", "")
    if not isinstance(operation, Operation) or part not in ("forward", "jacobian", "vjp"):
        raise ValueError(
            "exercise: expected on=[...], the arguments of some calls: only forward, jacobian and vjp of an operation "
            "bring samples of their own"
        )
    rng = np.random.default_rng(SEED)
    for case in cases(type(operation)):
        if repr(case.operation) != repr(operation) or case.kind == "kink":
            continue
        if part == "jacobian":
            yield from map(tuple, case.samples)
        elif part == "vjp":
            yield rng.normal(size=np.shape(case.outputs[0])), *case.arrays, *case.outputs
        else:
            yield case.arrays


def _answer(name: str, yours: Callable[..., Any], arguments: tuple[Any, ...], hint: str) -> list[Any]:
    given = deepcopy(arguments)
    try:
        with np.errstate(all="ignore"):
            answer = yours(*given)
    except NotImplementedError:
        raise Wrong(f"{name} is not written yet" + (f". Hint: {hint}" if hint else "")) from None
    except Exception as problem:
        words = f"raised {type(problem).__name__}: {problem}"
        raise Wrong(_words(name, words, yours, arguments, hint)) from problem
    if answer is None:
        raise Wrong(_words(name, "returned nothing: does it end in a return?", yours, arguments, hint))
    for k, (before, after) in enumerate(zip(arguments, given, strict=True)):
        if isinstance(before, np.ndarray) and not np.array_equal(before, after, equal_nan=before.dtype.kind == "f"):
            words = f"changed its argument {_letters(yours, arguments)[k]}: work on a copy"
            raise Wrong(_words(name, words, yours, arguments, hint))
    return _parts(answer)


def _parts(answer: Any) -> list[Any]:
    """The results of a call: arrays of numbers, or what else it returned."""
    if isinstance(answer, tuple):
        return [part for one in answer for part in _parts(one)]
    if isinstance(answer, Tensor):
        return [answer.data]
    if isinstance(answer, (str, dict, set)) or answer is None:
        return [answer]
    return [dense(answer) if hasattr(answer, "toarray") else np.asarray(answer)]


def _problem(got: Any, wanted: Any, tolerance: float) -> str:
    """What is wrong with an answer; nothing if it is right."""
    if not isinstance(wanted, np.ndarray) or wanted.dtype.kind not in "fiub":
        same = np.array_equal(got, wanted) if isinstance(wanted, np.ndarray) else got == wanted
        return "" if same else f"yours {got!r}, wanted {wanted!r}"
    if not isinstance(got, np.ndarray) or got.dtype.kind not in "fiub":
        return f"returned {type(got).__name__} {got!r}: numbers are wanted"
    if got.shape != wanted.shape:
        turned = ": it looks transposed" if got.ndim > 1 and got.T.shape == wanted.shape else ""
        return f"the result has shape {got.shape}, {wanted.shape} is wanted{turned}"
    got, wanted = got.astype(float), wanted.astype(float)
    bound = tolerance * max(float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0)), NOTHING)
    with np.errstate(invalid="ignore"):
        gap = np.where(got == wanted, 0.0, np.abs(got - wanted))
    gap[np.isnan(gap)] = np.where(np.isnan(got) & np.isnan(wanted), 0.0, np.inf)[np.isnan(gap)]
    if gap.max(initial=0) <= bound:
        return ""
    worst = np.unravel_index(np.argmax(gap), gap.shape)
    at = f"entry [{', '.join(map(str, worst))}]: " if got.ndim else ""
    look = _look(got, wanted, gap > bound, bound)
    return f"{at}yours {got[worst]:.10g}, wanted {wanted[worst]:.10g}" + (f"; {look}" if look else "")


def _look(got: np.ndarray, wanted: np.ndarray, wrong: np.ndarray, bound: float) -> str:
    """What an error looks like, as a colleague would say who sees both arrays."""

    def same(a: Any, b: Any) -> bool:
        return bool(np.all(np.abs(a - b) <= bound))

    if not np.isfinite(got).all():
        return "not every entry is a finite number: what overflows, and what would not?"
    if same(-got, wanted):
        return "every entry has the wrong sign"
    if same(got, 0):
        return "all that came back is zero"
    if got.ndim == 2 and got.shape[0] == got.shape[1] and same(got.T, wanted):
        return "rows and columns are exchanged: the rows belong to the outputs"
    if wanted.any():
        factor = float((got * wanted).sum() / (wanted * wanted).sum())
        if same(got, factor * wanted):
            return f"every entry is {factor:.6g} times what it should be"
    if wanted.size > 1 and same(got - wanted, (got - wanted).flat[0]):
        return f"every entry is off by the same {float((got - wanted).flat[0]):.6g}"
    if wanted.ndim == 2 and wanted.shape[0] == wanted.shape[1] > 1:
        diagonal = np.eye(len(wanted), dtype=bool)
        if not wrong[diagonal].any():
            return "the diagonal is right, what stands off it is not"
        if not wrong[~diagonal].any():
            return "what stands off the diagonal is right, the diagonal is not"
    if wanted.ndim and len(wanted) > 1 and not wrong[0].any() and wrong[1:].any():
        return "the first row is right, others are not"
    if same(np.sort(got, axis=None), np.sort(wanted, axis=None)):
        return "the numbers are right, their places are not"
    if not wrong[wanted != 0].any():
        return "entries that should be zero are not"
    return f"{int(wrong.sum())} of {wrong.size} entries are wrong" if wrong.size > 1 else ""


def _letters(yours: Callable[..., Any], arguments: tuple[Any, ...]) -> list[str]:
    """The names of the arguments, as the function has them, or numbers where it has none for each."""
    try:
        letters = list(inspect.signature(yours).bind(*arguments).arguments)
    except (TypeError, ValueError):
        letters = []
    return letters if len(letters) == len(arguments) else [f"argument {k}" for k in range(len(arguments))]


def _words(name: str, problem: str, yours: Callable[..., Any], arguments: tuple[Any, ...], hint: str) -> str:
    def short(value: Any) -> str:
        if isinstance(value, np.ndarray) and value.size > 12:
            return f"array of shape {value.shape}"
        return np.array2string(value, precision=4, separator=", ") if isinstance(value, np.ndarray) else repr(value)

    named = zip(_letters(yours, arguments), arguments, strict=True)
    called = ", ".join(f"{letter} = {short(value)}" for letter, value in named)
    return f"{name}: {problem}\nat {called}" + (f"\nHint: {hint}" if hint else "")
