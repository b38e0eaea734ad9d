"""NumPy by hand: each function with its gradients written out, as a student would who knows where time goes.

In float64 this is also the reference that every peer's numbers are compared with.

Each function returns its output and a function ``back(g, wanted)`` that returns the gradients of those of its
arguments that are wanted, None for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .. import cases
from . import Peer as Base
from . import Runner

Array = Any
Back = Callable[[Array, Collection[int]], tuple[Array | None, ...]]


def conv2d(x: Array, weight: Array, bias: Array | None = None, padding: int = 0) -> tuple[Array, Back]:
    """A matrix product for each image: its patches, one column a pixel, from the left by the filters."""
    N, C, H, W = x.shape
    O, _, U, V = weight.shape
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding))) if padding else x
    P, Q = H + 2 * padding - U + 1, W + 2 * padding - V + 1
    if U == V == 1:
        patches = padded.reshape(N, C, P * Q)
    else:
        windows = sliding_window_view(padded, (P, Q), axis=(2, 3))  # type: ignore[call-overload]
        patches = np.ascontiguousarray(windows).reshape(N, C * U * V, P * Q)
    matrix = weight.reshape(O, -1)
    y = np.matmul(matrix, patches)
    if bias is not None:
        y += bias[:, None]

    def back(g: Array, wanted: Collection[int]) -> tuple[Array | None, ...]:
        g = g.reshape(N, O, P * Q)
        gx = gw = gb = None
        if 0 in wanted:
            columns = np.matmul(matrix.T, g).reshape(N, C, U, V, P, Q)
            if U == V == 1:
                gx = columns.reshape(padded.shape)
            else:
                gx = np.zeros_like(padded)
                for u in range(U):
                    for v in range(V):
                        gx[:, :, u : u + P, v : v + Q] += columns[:, :, u, v]
            gx = gx[:, :, padding : padding + H, padding : padding + W]
        if 1 in wanted:
            gw = np.matmul(g, patches.transpose(0, 2, 1)).sum(axis=0).reshape(weight.shape)
        if 2 in wanted:
            gb = np.einsum("nop->o", g)
        return gx, gw, gb

    return y.reshape(N, O, P, Q), back


def taps(x: Array, kernel_size: int, stride: int) -> list[Array]:
    """For each place in the window the pixels that all windows have there, as views of x."""
    P, Q = ((size - kernel_size) // stride + 1 for size in x.shape[2:])
    places = range(kernel_size)
    return [
        x[:, :, u : u + stride * (P - 1) + 1 : stride, v : v + stride * (Q - 1) + 1 : stride]
        for u in places
        for v in places
    ]


def max_pool2d(x: Array, kernel_size: int, stride: int) -> tuple[Array, Back]:
    first, *others = taps(x, kernel_size, stride)
    y = first.copy()
    for tap in others:
        np.maximum(y, tap, out=y)

    def back(g: Array, wanted: Collection[int]) -> tuple[Array, ...]:
        gx = np.zeros_like(x)
        open_ = np.ones(y.shape, bool)  # whose winner, the first of equal ones, is still to be found
        for tap, gradient in zip(taps(x, kernel_size, stride), taps(gx, kernel_size, stride), strict=True):
            wins = tap == y
            wins &= open_
            gradient += g * wins
            open_ &= ~wins
        return (gx,)

    return y, back


def avg_pool2d(x: Array, kernel_size: int, stride: int) -> tuple[Array, Back]:
    first, *others = taps(x, kernel_size, stride)
    y = first.copy()
    for tap in others:
        y += tap
    y /= kernel_size**2

    def back(g: Array, wanted: Collection[int]) -> tuple[Array, ...]:
        gx = np.zeros_like(x)
        g = g / kernel_size**2
        for gradient in taps(gx, kernel_size, stride):
            gradient += g
        return (gx,)

    return y, back


def batch_norm(x: Array, weight: Array, bias: Array) -> tuple[Array, Back]:
    axes = (0, 2, 3)[: x.ndim - 1]
    along = (-1,) + (1,) * (x.ndim - 2)
    centred = x - x.mean(axis=axes, keepdims=True)
    product = "nchw,nchw->c" if x.ndim == 4 else "nc,nc->c"
    count = x.size // x.shape[1]
    inv_std = 1 / np.sqrt(np.einsum(product, centred, centred) / count + 1e-5)
    centred *= inv_std.reshape(along)
    y = centred * weight.reshape(along)
    y += bias.reshape(along)

    def back(g: Array, wanted: Collection[int]) -> tuple[Array, ...]:
        gw, gb = np.einsum(product, g, centred), g.sum(axis=axes)
        gx = centred * (-gw / count).reshape(along)
        gx += g
        gx -= (gb / count).reshape(along)
        gx *= (weight * inv_std).reshape(along)
        return gx, gw, gb

    return y, back


def cross_entropy(z: Array, labels: Array) -> tuple[Array, Back]:
    rows = np.arange(len(z))
    shifted = z - z.max(axis=1, keepdims=True)
    p = np.exp(shifted)
    total = p.sum(axis=1, keepdims=True)
    loss = (np.log(total[:, 0]) - shifted[rows, labels]).mean()

    def back(g: Array, wanted: Collection[int]) -> tuple[Array, ...]:
        gz = p / total
        gz[rows, labels] -= 1
        gz *= g / len(z)
        return (gz,)

    return loss, back


def binary_cross_entropy(z: Array, target: Array) -> tuple[Array, Back]:
    e = np.exp(-np.abs(z))
    loss = (np.maximum(z, 0) - z * target + np.log1p(e)).sum() / z.dtype.type(len(z))

    def back(g: Array, wanted: Collection[int]) -> tuple[Array, ...]:
        gz = np.where(z >= 0, 1, e) / (1 + e)
        gz -= target
        gz *= g / z.dtype.type(len(z))
        return (gz,)

    return loss, back


def linear(x: Array, weight: Array, bias: Array | None = None) -> tuple[Array, Back]:
    y = np.dot(x, weight.T)
    if bias is not None:
        y += bias

    def back(g: Array, wanted: Collection[int]) -> tuple[Array | None, ...]:
        return (
            np.dot(g, weight) if 0 in wanted else None,
            np.dot(g.T, x) if 1 in wanted else None,
            g.sum(axis=0) if 2 in wanted else None,
        )

    return y, back


def relu(x: Array) -> tuple[Array, Back]:
    y = np.maximum(x, 0)
    return y, lambda g, wanted: (g * (y > 0),)


def tanh(x: Array) -> tuple[Array, Back]:
    y = np.tanh(x)
    return y, lambda g, wanted: (g * (1 - y * y),)


def flatten(x: Array) -> tuple[Array, Back]:
    return x.reshape(len(x), -1), lambda g, wanted: (g.reshape(x.shape),)


def multiply_add(x: Array, w: Array, b: Array) -> tuple[Array, Back]:
    return x * w + b, lambda g, wanted: (g * w, g * x, g)


def matmul(x: Array, y: Array) -> tuple[Array, Back]:
    return np.dot(x, y), lambda g, wanted: (np.dot(g, y.T), np.dot(x.T, g))


class Peer(Base):
    version = f"NumPy {np.__version__}"
    functions = {  # noqa: RUF012  # the base says ClassVar
        f.__name__: f
        for f in (
            conv2d, max_pool2d, avg_pool2d, batch_norm, cross_entropy, binary_cross_entropy, linear, relu, tanh,
            flatten, multiply_add, matmul,
        )
    }  # fmt: skip

    def __init__(self, dtype: str | None = None):
        self.dtype = dtype

    def cast(self, arrays: Any) -> list[Array]:
        """The arrays, the floating ones in the dtype of this peer if it has one."""
        return [a.astype(self.dtype) if self.dtype and a.dtype.kind == "f" else a for a in arrays]

    def cotangent(self, case: cases.Kernel, y: Array) -> Array:
        return self.cast([case.cotangent(np.shape(y))])[0]

    def forward(self, f: Any, case: cases.Kernel) -> Runner:
        arrays = self.cast(case.arrays())
        return lambda: f(*arrays)[0], lambda y: [y]

    def both(self, f: Any, case: cases.Kernel) -> Runner:
        arrays, wanted = self.cast(case.arrays()), case.wanted
        g = self.cotangent(case, f(*arrays)[0])

        def run() -> Any:
            y, back = f(*arrays)
            return y, back(g, wanted)

        return run, lambda result: [result[0], *(result[1][k] for k in wanted)]

    def backward(self, f: Any, case: cases.Kernel) -> Runner:
        wanted = case.wanted
        y, back = f(*self.cast(case.arrays()))
        g = self.cotangent(case, y)
        return lambda: back(g, wanted), lambda rows: [rows[k] for k in wanted]

    def step(self, case: cases.Step) -> Runner:
        x, target = self.cast(case.data())
        parameters = iter(self.cast(case.parameters()))
        layers = [
            (self.functions[layer.kind], layer.keywords, [next(parameters) for _ in layer.shapes])
            for layer in case.layers
        ]
        weights = [w for _, _, own in layers for w in own]
        velocities = [np.zeros_like(w) for w in weights]
        loss_function = self.functions[case.loss]

        def run() -> tuple[Array, list[Array]]:
            y, backs, gradients = x, [], []
            for f, keywords, own in layers:
                y, back = f(y, *own, **keywords)
                backs.append((back, len(own)))
            loss, back = loss_function(y, target)
            (g,) = back(1, (0,))
            for k in reversed(range(len(backs))):
                back, count = backs[k]
                g, *rows = back(g, range(k == 0, count + 1))  # nobody wants the gradient of the data
                gradients[:0] = rows[:count]
            for w, v, row in zip(weights, velocities, gradients, strict=True):
                v *= cases.MOMENTUM
                v -= case.rate * row
                w += v
            return loss, gradients

        return run, lambda result: [result[0], *result[1]]
