"""Batch normalization: an operation on the whole batch, whose Jacobian couples the samples.

Letters: ``n`` sample, ``c`` channel, ``h, w`` position; the statistics of a channel run over all n, h, w.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import kernels
from ..formula import Formula, sp, total
from ..laws import shift_invariant
from ..operation import Operation, Source

__all__ = ["BatchNorm"]


class BatchNorm(Operation):
    """y = weight (x - mean) / sqrt(variance + eps) + bias, mean and (biased) variance over all axes but 1.

    The running statistics that a network uses at test time belong to the layer, `nn.BatchNorm2d`.
    """

    signature = "x[*], weight[C], bias[C] -> y[*]"
    source = Source("Keren, Sabato and Schuller, section VI-A (used there, not defined)", "LS-22")
    saved = ("mean", "inv_std")
    laws = (shift_invariant,)

    def __init__(self, eps: float = 1e-5):
        self.eps = eps

    def formula(self, x: Any, weight: Any, bias: Any) -> Formula:
        rank = len(x.shape)
        i, k, m = ([sp.Symbol(f"{letter}{axis}", integer=True) for axis in range(rank)] for letter in "ikm")
        k[1] = m[1] = i[1]
        others = [axis for axis in range(rank) if axis != 1]
        count = sp.Mul(*(x.shape[axis] for axis in others))
        mean = total(x[tuple(k)], *((k[axis], x.shape[axis]) for axis in others)) / count
        inner = mean.subs({k[axis]: m[axis] for axis in others})
        spread = total((x[tuple(k)] - inner) ** 2, *((k[axis], x.shape[axis]) for axis in others)) / count
        centred = x[tuple(i)] - mean
        return Formula(weight[i[1]] * centred / sp.sqrt(spread + sp.Float(self.eps)) + bias[i[1]], *i)

    def forward(self, x: Any, weight: Any, bias: Any) -> Any:
        return kernels.batch_norm(x, weight, bias, self.eps)

    def jacobian(self, x: Any, weight: Any, bias: Any) -> Any:
        """Of the whole batch. Channel c has the block weight / std (I - (1 1^T + z z^T) / M), z = (x - mean) / std."""
        from scipy.sparse import coo_array, csr_array

        x, C = np.asarray(x), x.shape[1]
        channel = np.moveaxis(np.arange(x.size).reshape(x.shape), 1, 0).reshape(C, -1)
        values = x.ravel()[channel]
        M = channel.shape[1]
        inv_std = 1 / np.sqrt(values.var(axis=1) + self.eps)
        z = (values - values.mean(axis=1, keepdims=True)) * inv_std[:, None]
        blocks = (weight * inv_std)[:, None, None] * (np.eye(M) - (1 + z[:, :, None] * z[:, None, :]) / M)
        rows, columns = np.broadcast_arrays(channel[:, :, None], channel[:, None, :])
        matrix_x = coo_array((blocks.ravel(), (rows.ravel(), columns.ravel())), shape=(x.size, x.size))
        of = np.repeat(np.arange(C), M)
        matrix_w = csr_array((z.ravel(), (channel.ravel(), of)), shape=(x.size, C))
        matrix_b = csr_array((np.ones(x.size), (channel.ravel(), of)), shape=(x.size, C))
        return matrix_x, matrix_w, matrix_b

    def vjp(self, g: Any, x: Any, weight: Any, bias: Any, y: Any, mean: Any, inv_std: Any) -> Any:
        return kernels.batch_norm_input(g, x, weight, mean, inv_std)

    def check(self, *arrays: Any) -> None:
        super().check(*arrays)
        shape = np.shape(arrays[0])
        if len(shape) < 2 or shape[1:2] != np.shape(arrays[1]):
            self.refuse(f"x {shape} with weight {np.shape(arrays[1])}", "axis 1 of x counts the channels")

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), rng.normal(size=(5, 3)), rng.normal(size=3), rng.normal(size=3)
        yield cls(0.1), 3 + 2 * rng.normal(size=(3, 2, 1, 2)), rng.normal(size=2), rng.normal(size=2)

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        yield lambda: cls()(np.ones((5, 3)), np.ones(4), np.ones(4)), "(5, 3)"
        yield lambda: cls()(np.ones(5), np.ones(5), np.ones(5)), "(5,)"
        yield lambda: cls()(np.ones((0, 3)), np.ones(3), np.ones(3)), "(0, 3)"
