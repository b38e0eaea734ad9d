"""Explicit Jacobians: their layout, lifting one sample's matrix over a batch, and `jacobian` of any function.

Numerator layout: ``J[i, j] = dy_i / dx_j`` with y and x flattened in C order, so a gradient is a row, and the chain
rule reads from left to right (Tomasi 2019, section 3).

Letters: ``i`` entry of an output, ``j`` entry of an input, ``n`` sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .operation import Operation, Variable, as_tuple
from .tensor import Tensor, as_tensor, matrices

__all__ = ["jacobian", "lift", "samples_of", "split"]

LIMIT = 100_000_000
"""Matrices with more entries than this are refused (800 MB in float64)."""


def split(operation: Operation, *arrays: Any) -> Iterator[tuple[Any, ...]]:
    """The inputs of each sample in turn, as ``operation.jacobian`` takes them: shared inputs come whole."""
    variables = operation.parsed.of(len(arrays))
    tables = [samples_of(operation, variable, array) for variable, array in zip(variables, arrays, strict=True)]
    sampled = [bool(variable.samples) and array is not None for variable, array in zip(variables, arrays, strict=True)]
    counts = {len(table) for table, own in zip(tables, sampled, strict=True) if own}
    if len(counts) > 1:
        shapes = " and ".join(str(np.shape(array)) for array in arrays)
        operation.refuse(f"inputs of shapes {shapes} have different numbers of samples", "give one row a sample")
    for n in range(counts.pop() if counts else 1):
        yield tuple(
            table[n] if own else array for own, table, array in zip(sampled, tables, arrays, strict=True)
        )


def samples_of(operation: Operation, variable: Variable, array: Any) -> Any:
    """An array with its samples along one first axis; a vector operation's own axis goes last."""
    if not variable.samples or array is None:
        return [array]
    array = np.asarray(array)
    if variable.samples == "..." and len(variable.letters) == 1 and hasattr(operation, "axis"):
        array = np.moveaxis(array, operation.axis, -1)
    leading = variable.leading(array.ndim)
    return array.reshape(-1, *array.shape[leading:])


def lift(operation: Operation, arrays: Sequence[Any], output: Any, wanted: Sequence[bool]) -> list[Any]:
    """The Jacobian of the whole batch, a sparse matrix for each input that varies and is ``wanted``, else None.

    The matrices of the samples stand in blocks: on the diagonal for an input that has samples itself, one below the
    other for an input that all samples share.
    """
    from scipy.sparse import coo_array, csr_array

    variables = operation.parsed.of(len(arrays))
    rows = samples_of(operation, operation.parsed.output, np.arange(output.size).reshape(output.shape))
    columns = [
        samples_of(operation, variable, np.arange(np.size(array)).reshape(np.shape(array)))
        for variable, array in zip(variables, arrays, strict=True)
    ]
    positions = [k for k, varies in enumerate(operation.varies(len(arrays))) if varies]
    blocks: dict[int, list[Any]] = {k: [] for k in positions if wanted[k] and arrays[k] is not None}
    entries = 0
    for n, sample in enumerate(split(operation, *arrays)):
        for k, matrix in zip(positions, as_tuple(operation.jacobian(*sample)), strict=True):
            if k in blocks:
                block = coo_array(matrix)
                entries += block.nnz
                _guard(operation, entries, f"an explicit Jacobian with over {entries} entries other than zero")
                i, j = block.coords
                column = columns[k][n if variables[k].samples else 0]
                blocks[k].append((block.data, np.ravel(rows[n])[i], np.ravel(column)[j]))
    lifted: list[Any] = [None] * len(arrays)
    for k, parts in blocks.items():
        data, i, j = (np.concatenate(part) for part in zip(*parts, strict=True))
        lifted[k] = csr_array((data, (i, j)), shape=(output.size, np.size(arrays[k])))
    return lifted


def _guard(who: object, entries: int, what: str) -> None:
    if entries > LIMIT:
        raise ValueError(
            f"{who!r}: {what} (the limit is {LIMIT}) is refused: use fewer samples or a smaller network, "
            f"sparse=True, or backward(method='vjp'), which never forms it"
        )


def jacobian(
    f: Callable[..., Any], *inputs: Any, wrt: int = 0, sparse: bool = False, method: str = "vjp"
) -> Any:
    """The Jacobian matrix of any composition of operations.

    Parameters
    ----------
    f : callable
        Takes tensors, one for each of ``inputs``, and returns a tensor.
    *inputs : arrays or tensors
    wrt : int
        Which input to differentiate with respect to.
    sparse : bool
        A ``scipy.sparse`` matrix, multiplied from the sparse Jacobians of the operations.
    method : "vjp" or "jacobian"
        How a dense matrix is made: one vector-Jacobian product a row, or the product of the explicit matrices.

    Returns
    -------
    matrix of shape (size of the output, size of ``inputs[wrt]``), J[i, j] = dy_i/dx_j on C-order flattened arrays.

    Raises
    ------
    ValueError
        If the matrix would be larger than the limit; the message names the sizes.
    """
    if not -len(inputs) <= wrt < len(inputs):
        raise ValueError(f"jacobian: wrt={wrt} with {len(inputs)} inputs: wrt counts the inputs from 0")
    if method not in ("vjp", "jacobian"):
        raise ValueError(f"jacobian: method={method!r}: choose 'vjp' or 'jacobian'")
    leaves = [Tensor(as_tensor(x).data) for x in inputs]
    x = leaves[wrt]
    x.requires_grad = True
    y = as_tensor(f(*leaves))
    size = f"a matrix of {y.data.size} x {x.data.size}, from output {y.shape} and input {x.shape},"
    if not sparse:
        _guard(jacobian, y.data.size * x.data.size, size)
    if sparse or method == "jacobian":
        product = _product(y, x)
        return product if sparse else product.toarray()
    matrix = np.zeros((y.data.size, x.data.size), dtype=y.dtype)
    basis = np.zeros_like(y.data)
    for i in range(basis.size if y.requires_grad else 0):
        basis.flat[i] = 1
        y.backward(basis)
        matrix[i] = 0 if x.grad is None else x.grad.ravel()
        basis.flat[i] = 0
    return matrix


def _product(y: Tensor, x: Tensor) -> Any:
    """dy/dx as the sum over all paths of the products of the operations' sparse Jacobians."""
    from scipy.sparse import csr_array, eye_array

    rows = {y: csr_array(eye_array(y.data.size, dtype=y.dtype))}
    for node in y.ancestors():
        if node.op is None or node not in rows:
            continue
        G = rows.pop(node)
        for parent, J in zip(node.edges, matrices(node), strict=True):
            if parent is not None and J is not None:
                rows[parent] = rows[parent] + G @ J if parent in rows else G @ J
    return rows.get(x, csr_array((y.data.size, x.data.size), dtype=y.dtype))
