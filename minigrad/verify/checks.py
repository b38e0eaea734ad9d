"""The checks of the audit: each compares two of the ways in which an operation is written.

A check is a function of one case that returns an error, the smaller the better, or None where it does not apply.
Its tolerance stands beside it in `CHECKS`. What concerns a whole class, not a case, is in `not_vacuous` and
`refusals`, which return complaints.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np

from .. import kernels as backends
from ..laws import forward_one
from ..operation import Elementwise, Operation, as_tuple
from .cases import Case, differences, distance

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


def product(case: Case) -> float | None:
    """`vjp` on every basis cotangent of the whole batch against the rows of the lifted `jacobian`."""
    operation, y = case.operation, np.asarray(case.outputs[0])
    matrices = [J for J, varies in zip(case.lifted, case.varies, strict=True) if varies]
    found: list[Any] = [None if J is None else np.empty_like(J) for J in matrices]
    g = np.zeros(y.shape)
    for i in range(y.size):
        g.flat[i] = 1
        rows = as_tuple(operation.vjp(g, *case.arrays, *case.outputs))
        if len(rows) != len(matrices):
            return np.inf
        for row, J, matrix in zip(rows, found, matrices, strict=True):
            if (row is None) != (matrix is None) or (row is not None and np.size(row) != J.shape[1]):
                return np.inf
            if row is not None:
                J[i] = np.ravel(row)
        g.flat[i] = 0
    errors = [distance(a, b) for a, b in zip(found, matrices, strict=True) if b is not None]
    if operation.selective:
        errors.append(_alone(case))
    return worst(errors)


def _alone(case: Case) -> float:
    """A `vjp` that is asked for one gradient gives that one, the same, and no other."""
    g = np.cos(np.arange(case.outputs[0].size)).reshape(case.outputs[0].shape)
    vjp: Any = case.operation.vjp
    everything = as_tuple(vjp(g, *case.arrays, *case.outputs))
    errors = [0.0]
    for k, expected in enumerate(everything):
        wanted = tuple(k == other for other in range(len(everything)))
        rows = as_tuple(vjp(g, *case.arrays, *case.outputs, wanted=wanted))
        if any(row is not None for other, row in enumerate(rows) if other != k):
            return np.inf
        if expected is not None:
            errors.append(distance(rows[k], expected))
    return max(errors)


def laws(case: Case) -> float | None:
    """The laws that the operation states, at every sample."""
    return worst(law(case.operation, *sample) for law in case.operation.laws for sample in case.samples)


def batch(case: Case) -> float | None:
    """`forward` of the batch against `forward` of its samples one at a time: they are independent."""
    if not any(variable.samples for variable in case.operation.parsed.inputs):
        return None
    together = np.asarray(case.outputs[0])
    parts = [forward_one(case.operation, *sample) for sample in case.samples]
    axis = getattr(case.operation, "axis", -1)
    stacked = np.stack(parts)
    if len(case.operation.parsed.output.letters) == 1 and axis not in (-1, together.ndim - 1):
        together = np.moveaxis(together, axis, -1)
    return distance(together.reshape(stacked.shape), stacked)


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


def _forward_and_vjp(case: Case, arrays: list[Any]) -> list[Any]:
    """The output and the rows of one cotangent without symmetries."""
    result = case.operation.forward(*arrays)
    outputs = tuple(result) if case.operation.saved else (result,)
    y = np.asarray(outputs[0])
    g = np.cos(1.7 * np.arange(y.size)).reshape(y.shape).astype(y.dtype)
    return [y, *(row for row in as_tuple(case.operation.vjp(g, *arrays, *outputs)) if row is not None)]


def _as(array: Any, dtype: Any) -> Any:
    return array.astype(dtype) if isinstance(array, np.ndarray) and array.dtype.kind == "f" else array


def _strided(array: Any) -> Any:
    """The same numbers, spread over memory."""
    if not isinstance(array, np.ndarray) or array.ndim == 0:
        return array
    return np.repeat(array, 2, axis=-1)[..., ::2]


def conduct(case: Case) -> float | None:
    """Inputs unchanged, nothing aliased, twice the same, float32 kept, strides indifferent: 0, else inf."""
    arrays = [_as(array, np.float32) for array in case.arrays]
    before: list[Any] = [np.array(array) if array is not None else None for array in arrays]
    first = _forward_and_vjp(case, arrays)
    second = _forward_and_vjp(case, arrays)
    unchanged = all(a is None or np.array_equal(a, b) for a, b in zip(arrays, before, strict=True))
    repeated = all(np.array_equal(a, b, equal_nan=True) for a, b in zip(first, second, strict=True))
    kept = all(np.asarray(a).dtype == np.float32 for a in first)
    apart = not any(
        np.may_share_memory(y, x) for y in first for x in arrays if isinstance(x, np.ndarray) and np.ndim(y)
    )
    strided = _forward_and_vjp(case, [_strided(array) for array in arrays])
    same = max(distance(a, b) for a, b in zip(strided, first, strict=True)) < 1e-5
    return 0.0 if unchanged and repeated and kept and apart and same else np.inf


@dataclass(frozen=True)
class Check:
    """A check, its name in the table, and the error that it lets pass."""

    name: str
    run: Callable[[Case], float | None]
    tolerance: float


CHECKS = (
    Check("value", value, 1e-12),
    Check("derivative", derivative, 1e-12),
    Check("printed", printed, 1e-12),
    Check("differences", by_differences, 1e-8),
    Check("product", product, 1e-12),
    Check("laws", laws, 1e-10),
    Check("batch", batch, 1e-12),
    Check("kernels", kernels, 1e-12),
    Check("conduct", conduct, 0.0),
)


def dependent(cls: type[Operation]) -> tuple[str, ...]:
    """The checks that hold by construction: those that the class names, and matrix against product of one ``df``."""
    one_df = issubclass(cls, Elementwise) and cls.vjp is Elementwise.vjp and cls.jacobian is Elementwise.jacobian
    return (*cls.dependent, "product") if one_df else cls.dependent


def not_vacuous(cls: type[Operation], tried: list[Case]) -> list[str]:
    """Why the samples of an operation would let a wrong one pass; nothing if they would not."""
    if not tried:
        return ["there are no samples"]
    complaints = []
    if any(type(case.operation) is not cls for case in tried):
        complaints.append("samples() yields another operation")
    if all(len(case.samples) < 2 for case in tried) and any(v.samples for v in cls.parsed.inputs):
        complaints.append("no batch has two samples")
    sizes = [[0.0 if J is None else abs(J).max(initial=0) for J in case.lifted] for case in tried]
    largest = [max(column) for column in zip_longest(*sizes, fillvalue=0.0)]
    for variable, size in zip(cls.parsed.of(len(largest)), largest, strict=True):
        if variable.name not in cls.constants and not size > 1e-2:
            complaints.append(f"no Jacobian with respect to {variable.name} is larger than 0.01")
    if not any(_distinct(case) for case in tried):
        complaints.append("no sample has axes of different sizes")
    strides = [(case.operation.stride, _window(case)) for case in tried if hasattr(case.operation, "stride")]
    if strides and not any(1 < s < k for stride, window in strides for s, k in zip(stride, window, strict=True)):
        complaints.append("no window overlaps the next one at a stride over 1")
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
    return count, complaints
