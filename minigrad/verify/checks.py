"""The checks of the audit: each compares two of the ways in which an operation is written.

A check is a function of one case that returns an error, the smaller the better, or None where it does not apply.
Its tolerance stands beside it in `CHECKS`. What concerns a whole class, not a case, is in `not_vacuous` and
`refusals`, which return complaints.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product as product_of
from itertools import zip_longest
from typing import Any

import numpy as np

from .. import kernels as backends
from ..jacobian import samples_of
from ..laws import forward_one
from ..operation import Elementwise, Operation, Variable, as_tuple
from .cases import Case, differences, distance, entrywise

__all__ = ["CHECKS", "Check", "dependent", "not_vacuous", "refusals"]


def worst(errors: Iterable[float]) -> float | None:
    """The largest error, None if there is none."""
    return max(errors, default=None)


def value(case: Case) -> float | None:
    """`forward` of one sample against the formula in mpmath."""
    return worst(
        distance(np.ravel(forward_one(case.operation, *case.samples[n])), exact) for n, exact in enumerate(case.values)
    )


def derivative(case: Case) -> float | None:
    """`jacobian` against the symbolic derivative of the formula in mpmath."""
    return _matrices(case, case.derivatives)


def printed(case: Case) -> float | None:
    """`jacobian` against the derivative as the source prints it."""
    return _matrices(case, case.printed)


def _matrices(case: Case, exact: list[list[np.ndarray | None]]) -> float | None:
    pairs = [pair for n, wanted in enumerate(exact) for pair in zip(case.jacobians(n), wanted, strict=True)]
    return worst(np.inf if J is None else distance(J, wanted) for J, wanted in pairs if wanted is not None)


def by_differences(case: Case) -> float | None:
    """`jacobian` against central differences of `forward`, every entry."""
    errors = []
    for n, sample in enumerate(case.samples[:2]):
        matrices = iter(case.jacobians(n))
        for k, varies in enumerate(case.varies):
            J = next(matrices) if varies else None
            if J is not None:

                def moved(x: Any, k: int = k, sample: Any = sample) -> Any:
                    return forward_one(case.operation, *sample[:k], x, *sample[k + 1 :])

                errors.append(distance(J, differences(moved, sample[k])))
    return worst(errors)


def tails(case: Case) -> float | None:
    """`forward` and `jacobian` against the formula and its derivative, every entry relative to itself."""
    errors = [entrywise(forward_one(case.operation, *case.samples[n]), exact) for n, exact in enumerate(case.values)]
    for n, wanted in enumerate(case.derivatives):
        pairs = zip(case.jacobians(n), wanted, strict=True)
        errors += [np.inf if J is None else entrywise(J, exact) for J, exact in pairs if exact is not None]
    return worst(errors)


def product(case: Case) -> float | None:
    """`vjp` on every basis cotangent of the whole batch, and on a dense one, against the lifted `jacobian`."""
    operation, y = case.operation, np.asarray(case.outputs[0])
    matrices = [J for J, varies in zip(case.lifted, case.varies, strict=True) if varies]
    cotangents = [*np.eye(y.size), dense_row(y)]
    errors = [0.0]
    found: list[list[Any]] = [[] for _ in matrices]
    for g in cotangents:
        rows = as_tuple(operation.vjp(g.reshape(y.shape), *case.arrays, *case.outputs))
        if len(rows) != len(matrices):
            return np.inf
        for row, matrix, kept in zip(rows, matrices, found, strict=True):
            if (row is None) != (matrix is None):
                return np.inf
            kept.append(None if row is None else np.ravel(row))
    for kept, matrix in zip(found, matrices, strict=True):
        if matrix is not None:
            if {row.size for row in kept} != {matrix.shape[1]}:
                return np.inf
            errors += [distance(kept[:-1], matrix), distance(kept[-1], cotangents[-1] @ matrix)]
    if operation.selective:
        errors.append(_in_part(case))
    return worst(errors)


def estimator(case: Case) -> float | None:
    """`jacobian` and `vjp` of an estimator against the symbolic derivative of the surrogate that it names."""
    return worst(error for error in (derivative(case), product(case)) if error is not None)


def dense_row(y: Any) -> np.ndarray:
    """A cotangent for y in which nothing is zero, equal, or of one sign."""
    return np.asarray(np.cos(1.7 * np.arange(np.size(y))) + 0.01)


def _in_part(case: Case) -> float:
    """A `vjp` that is asked for some gradients gives those, the same, and no others."""
    g = dense_row(case.outputs[0]).reshape(np.shape(case.outputs[0]))
    vjp: Any = case.operation.vjp
    everything = as_tuple(vjp(g, *case.arrays, *case.outputs))
    errors = [0.0]
    for wanted in product_of((False, True), repeat=len(everything)):
        rows = as_tuple(vjp(g, *case.arrays, *case.outputs, wanted=wanted))
        for row, expected, asked in zip(rows, everything, wanted, strict=True):
            if expected is not None and asked:
                errors.append(np.inf if row is None else distance(row, expected))
            elif row is not None:
                return np.inf
    return max(errors)


def laws(case: Case) -> float | None:
    """The laws that the operation states, at every sample."""
    return worst(law(case.operation, *sample) for law in case.operation.laws for sample in case.samples)


def batch(case: Case) -> float | None:
    """The samples are independent: forward and vjp of a batch against those of batches of one, and of one more."""
    operation = case.operation
    variables = operation.parsed.of(len(case.arrays))
    if not any(variable.samples for variable in variables):
        return None
    parts = [forward_one(operation, *sample) for sample in case.samples]
    errors = [distance(_samples_first(operation, case.outputs[0]), np.stack(parts))]
    if hasattr(operation, "axis"):
        return worst(errors)  # its other axes are batches of every shape already
    alone = [
        Case(operation, *(_with_axis(v, value) for v, value in zip(variables, sample, strict=True)))
        for sample in case.samples
    ]
    varying = [variable for variable, varies in zip(variables, case.varies, strict=True) if varies]
    for ones in (alone, [*alone, alone[0]]):
        columns = zip(variables, zip(*(one.arrays for one in ones), strict=True), strict=True)
        together = Case(operation, *(_joined(variable, pieces) for variable, pieces in columns))
        g = dense_row(together.outputs[0]).reshape(np.shape(together.outputs[0]))
        each = [_rows(one, part[None]) for one, part in zip(ones, g, strict=True)]
        for variable, row, pieces in zip(varying, _rows(together, g), zip(*each, strict=True), strict=True):
            if row is not None:
                errors.append(distance(row, np.concatenate(pieces) if variable.samples else sum(pieces)))
    return worst(errors)


def _joined(variable: Variable, pieces: Sequence[Any]) -> Any:
    """The inputs of several batches as that of one: end to end if they have samples, else the one that all share."""
    return np.concatenate(pieces) if variable.samples and pieces[0] is not None else pieces[0]


def _rows(case: Case, g: Any) -> tuple[Any, ...]:
    return as_tuple(case.operation.vjp(g, *case.arrays, *case.outputs))


def _with_axis(variable: Variable, value: Any) -> Any:
    return np.asarray(value)[None] if variable.samples and value is not None else value


def _samples_first(operation: Operation, y: Any) -> np.ndarray:
    """The outputs of a batch with one axis for the samples, as `forward_one` gives them one by one."""
    return np.stack(list(samples_of(operation, operation.parsed.output, y)))


def kernels(case: Case) -> float | None:
    """The compiled kernels against the NumPy reference: both dtypes, contiguous inputs and others.

    Errors of float32 are scaled by the ratio of the two precisions, so that one number speaks for both.
    """
    if getattr(sys.modules.get(type(case.operation).__module__), "kernels", None) is not backends:
        return None
    if not backends.compiled():
        return None
    errors = []
    for dtype in (np.float64, np.float32):
        arrays = [_as(array, dtype) for array in case.arrays]
        scale = float(np.finfo(np.float64).eps / np.finfo(dtype).eps)
        with backends.use_kernels("numpy"):
            wanted = _forward_and_vjp(case, arrays)
        for form in (arrays, [_strided(array) for array in arrays]):
            with backends.use_kernels("cython"):
                got = _forward_and_vjp(case, form)
            errors += [scale * distance(a, b) for a, b in zip(got, wanted, strict=True)]
    return worst(errors)


def _forward_and_vjp(case: Case, arrays: list[Any], arrange: Callable[[Any], Any] = np.asarray) -> list[Any]:
    """The output and the rows of one dense cotangent, laid out in memory by ``arrange``."""
    result = case.operation.forward(*arrays)
    outputs = tuple(result) if case.operation.saved else (result,)
    y = np.asarray(outputs[0])
    g = arrange(dense_row(y).reshape(y.shape).astype(y.dtype))
    return [y, *(row for row in as_tuple(case.operation.vjp(g, *arrays, *outputs)) if row is not None)]


def _as(array: Any, dtype: Any) -> Any:
    return array.astype(dtype) if isinstance(array, np.ndarray) and array.dtype.kind == "f" else array


def _strided(array: Any) -> Any:
    """The same numbers, spread over memory."""
    return np.repeat(array, 2, axis=-1)[..., ::2] if np.ndim(array) else array


def _reversed(array: Any) -> Any:
    """The same numbers, the last axis stored backwards."""
    return np.array(array[..., ::-1], order="C")[..., ::-1] if np.ndim(array) else array


def _columns_first(array: Any) -> Any:
    """The same numbers in Fortran order."""
    return np.asfortranarray(array) if np.ndim(array) else array


def conduct(case: Case) -> float | None:
    """Inputs, g and outputs stay as they are, nothing is shared, twice is the same, strides and precision are too.

    Returns how far float32 is from float64, and raises in words where the conduct is wrong.
    """
    single = [_as(array, np.float32) for array in case.arrays]
    first, second = _forward_and_vjp(case, single), _forward_and_vjp(case, single)
    _changes_nothing(case, single)
    if not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(first, second, strict=True)):
        raise ValueError("the same inputs gave other numbers the second time")
    if any(np.asarray(a).dtype != np.float32 for a in first):
        raise ValueError(f"float32 became {', '.join(str(np.asarray(a).dtype) for a in first)}")
    shared = [np.may_share_memory(y, x) for y in first for x in (*single, *second) if isinstance(x, np.ndarray)]
    if any(shared) and np.ndim(first[0]):
        raise ValueError("a result shares its memory with an input, or with a later result")
    double = _forward_and_vjp(case, [_as(array, np.float64) for array in single])
    for arrange in (_strided, _reversed, _columns_first):
        other = _forward_and_vjp(case, [array if array is None else arrange(array) for array in single], arrange)
        if not max(map(distance, other, first)) < 1e-5:
            raise ValueError(f"other numbers for inputs that are not contiguous ({arrange.__name__[1:]})")
    return worst(map(distance, first, double))


def _changes_nothing(case: Case, arrays: list[Any]) -> None:
    """Raise if forward or vjp changes what it was given."""
    kept: list[Any] = [None if array is None else np.array(array) for array in arrays]
    result = case.operation.forward(*arrays)
    outputs = tuple(result) if case.operation.saved else (result,)
    y = np.asarray(outputs[0])
    g = dense_row(y).reshape(y.shape).astype(y.dtype)
    given = [*arrays, *outputs, g]
    kept += [np.array(value) for value in (*outputs, g)]
    case.operation.vjp(g, *arrays, *outputs)
    if not all(a is None or np.array_equal(a, b, equal_nan=True) for a, b in zip(given, kept, strict=True)):
        raise ValueError("forward or vjp changed an input, an output or g")


@dataclass(frozen=True)
class Check:
    """A check, its name in the table, and the error that it lets pass."""

    name: str
    run: Callable[[Case], float | None]
    tolerance: float
    kinds: tuple[str, ...] = ("sample",)

    def __call__(self, case: Case) -> float | None:
        """The error at a case, None if the check does not apply there."""
        excluded = ESTIMATED if case.operation.estimator else ("estimator",)
        return self.run(case) if case.kind in self.kinds and self.name not in excluded else None


ESTIMATED = ("derivative", "printed", "differences", "product")
"""The checks that an operation with an ``estimator`` is excluded from; the check "estimator" takes their place."""


CHECKS = (
    Check("value", value, 1e-12, ("sample", "kink")),
    Check("derivative", derivative, 1e-12, ("sample", "kink")),
    Check("printed", printed, 1e-12),
    Check("differences", by_differences, 1e-8),
    Check("product", product, 1e-12, ("sample", "kink")),
    Check("estimator", estimator, 1e-12, ("sample", "kink")),
    Check("tails", tails, 1e-12, ("tail",)),
    Check("laws", laws, 1e-10),
    Check("batch", batch, 1e-12),
    Check("kernels", kernels, 1e-12),
    Check("conduct", conduct, 1e-5),
)


def dependent(cls: type[Operation]) -> tuple[str, ...]:
    """The checks that hold by construction: those that the class names, and matrix against product of one ``df``."""
    one_df = issubclass(cls, Elementwise) and cls.vjp is Elementwise.vjp and cls.jacobian is Elementwise.jacobian
    return (*cls.dependent, "product") if one_df else cls.dependent


def not_vacuous(cls: type[Operation], tried: list[Case]) -> list[str]:
    """Why the samples of an operation would let a wrong one pass; nothing if they would not."""
    tried = [case for case in tried if case.kind == "sample"]
    if not tried:
        return ["there are no samples"]
    complaints = []
    if any(type(case.operation) is not cls for case in tried):
        complaints.append("samples() yields another operation")
    if all(len(case.samples) < 2 for case in tried) and any(v.samples for v in cls.parsed.inputs):
        complaints.append("no batch has two samples")
    if cls.estimator and all((by_differences(case) or 0) < 1e-6 for case in tried):
        complaints.append("it is called an estimator, and is the derivative at every sample")
    sizes = [[0.0 if J is None else abs(J).max(initial=0) for J in case.lifted] for case in tried]
    largest = [max(column) for column in zip_longest(*sizes, fillvalue=0.0)]
    for variable, size in zip(cls.parsed.of(len(largest)), largest, strict=True):
        if cls.piecewise_constant and size:
            complaints.append(f"it is called piecewise constant, and has a Jacobian with respect to {variable.name}")
        elif not cls.piecewise_constant and variable.name not in cls.constants and not size > 1e-2:
            complaints.append(f"no Jacobian with respect to {variable.name} is larger than 0.01")
    if not any(_distinct(case) for case in tried):
        complaints.append("no sample has axes of different sizes")
    strides = [(case.operation.stride, _window(case)) for case in tried if hasattr(case.operation, "stride")]
    for axis, name in enumerate(("vertical", "horizontal")):
        if strides and not any(1 < stride[axis] < window[axis] for stride, window in strides):
            complaints.append(f"no window overlaps the next one at a {name} stride over 1")
    if cls.parsed.inputs[0].name == "z" and not any(np.max(np.abs(case.arrays[0])) >= 1000 for case in tried):
        complaints.append("no logits reach 1000")
    return complaints


def _distinct(case: Case) -> bool:
    shape = [size for size in np.shape(case.arrays[0]) if size > 1]
    return len(set(shape)) == len(shape) and bool(shape)


def _window(case: Case) -> tuple[int, ...]:
    size: tuple[int, ...] | None = getattr(case.operation, "kernel_size", None)
    return size if size is not None else np.shape(case.arrays[1])[2:]


def refusals(cls: type[Operation]) -> tuple[int, list[str]]:
    """How many refusals were tried, and which of them did not raise, or not in words that help."""
    complaints = []
    count = 0
    for count, (call, words) in enumerate(cls.errors(), start=1):
        try:
            call()
        except (ValueError, TypeError, IndexError) as error:
            message = str(error)
            if words not in message:
                complaints.append(f"the message lacks {words!r}: {message}")
            if cls.__name__.lower().replace("_", "") not in message.lower().replace("_", ""):
                complaints.append(f"the message does not name {cls.__name__}: {message}")
            if message.count(":") < 2:
                complaints.append(f"the message does not say what to try: {message}")
        else:
            complaints.append(f"refusal {count}, which should mention {words!r}, did not raise")
    plain = issubclass(cls, Elementwise) and len(cls.parsed.inputs) == 1  # takes numbers of every shape
    if not count and not plain:
        complaints.append("errors() refuses nothing")
    return count, complaints
