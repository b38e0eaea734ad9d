"""Convolution in two dimensions, as the loop and as the sparse matrix that it is.

What networks call convolution is correlation: the kernel is not flipped. Images are NCHW.

Letters: ``o`` output channel, ``p, q`` output position, ``c`` input channel, ``u, v`` position in the kernel. Output
(p, q) sees the input at (stride p + dilation u - padding, stride q + dilation v - padding), 0 outside the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import kernels
from ..formula import Formula, indices, inside, total
from ..laws import additive_in_first
from ..operation import Operation, Source

__all__ = ["Conv2d", "pair"]


def pair(who: str, name: str, value: Any, least: int = 1) -> tuple[int, int]:
    """A number for both directions, or a (vertical, horizontal) pair, as two Python integers of at least ``least``."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(values) != 2 or not all(isinstance(v, (int, np.integer)) and not isinstance(v, bool) for v in values):
        raise TypeError(f"{who}: expected {name} as a whole number or a pair of them, got {value!r}: try {name}=2")
    if min(values) < least:
        raise ValueError(f"{who}: expected {name} of at least {least}, got {value!r}: try {name}={least}")
    return int(values[0]), int(values[1])


class Conv2d(Operation):
    """y = the correlation of x with ``weight``, plus ``bias``, of size floor((n + 2 padding - extent) / stride) + 1.

    ``stride``, ``padding`` (with zeros) and ``dilation`` are a number or a (vertical, horizontal) pair.
    """

    signature = "x[N,C,H,W], weight[O,C,U,V], bias[O]? -> y[N,O,P,Q]"
    source = Source("US 12387092, figure 2", "IP-03")
    laws = (additive_in_first,)

    def __init__(self, stride: Any = 1, padding: Any = 0, dilation: Any = 1):
        self.stride = pair("Conv2d", "stride", stride)
        self.padding = pair("Conv2d", "padding", padding, least=0)
        self.dilation = pair("Conv2d", "dilation", dilation)

    def formula(self, x: Any, weight: Any, bias: Any) -> Formula:
        o, p, q, c, u, v = indices("o p q c u v")
        (s, t), (a, b), (d, e) = self.stride, self.padding, self.dilation
        _, C, U, V = weight.shape
        position = (c, s * p + d * u - a, t * q + e * v - b)
        seen = inside(x, *position) if a or b else x[position]
        y = total(weight[o, c, u, v] * seen, (c, C), (u, U), (v, V))
        return Formula(y + (0 if bias is None else bias[o]), o, p, q)

    def forward(self, x: Any, weight: Any, bias: Any) -> Any:
        return kernels.conv2d(x, weight, bias, self.stride, self.padding, self.dilation)

    def jacobian(self, x: Any, weight: Any, bias: Any) -> Any:
        """Sparse matrices: doubly block Toeplitz for x; for the weights, the patches, once for each output channel."""
        from scipy.sparse import csr_array, eye_array, kron, vstack

        O, _, U, V = weight.shape
        position, within, P, Q = self.taps(x.shape, (U, V))
        i, tap = np.nonzero(within)  # output position i sees tap (c, u, v)
        shape = (P * Q, x.size)
        rows = [csr_array((filters.ravel()[tap], (i, position[i, tap])), shape=shape) for filters in weight]
        matrix_x = vstack(rows)
        patches = np.where(within, x.ravel()[position], 0)
        matrix_w = kron(eye_array(O), patches)
        matrix_b = None if bias is None else kron(eye_array(O), np.ones((P * Q, 1)))
        return matrix_x, matrix_w, matrix_b

    def taps(self, image: tuple[int, ...], kernel: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, int, int]:
        """For each output position and tap (c, u, v): the flat input position, and whether it is inside the image."""
        _, H, W = image
        sizes = zip(image[1:], kernel, self.stride, self.padding, self.dilation, strict=True)
        P, Q = (kernels.out_size(*size) for size in sizes)
        p, q, c, u, v = np.ogrid[:P, :Q, : image[0], : kernel[0], : kernel[1]]
        h = self.stride[0] * p + self.dilation[0] * u - self.padding[0]
        w = self.stride[1] * q + self.dilation[1] * v - self.padding[1]
        within = (h >= 0) & (h < H) & (w >= 0) & (w < W) & (c >= 0)
        position = np.where(within, (c * H + h) * W + w, 0)
        return position.reshape(P * Q, -1), within.reshape(P * Q, -1), P, Q

    def check(self, *arrays: Any) -> None:
        super().check(*arrays)
        x, weight = arrays[:2]
        given = f"x {x.shape} {x.dtype} and weight {weight.shape} {weight.dtype}"
        if x.dtype != weight.dtype or x.dtype.kind != "f":
            self.refuse(f"got {given}", "convert both to float32 or both to float64", TypeError)
        if 0 in x.shape or 0 in weight.shape:
            self.refuse(f"got {given}", "give at least one sample, channel, row and column")
        sizes = zip(x.shape[2:], weight.shape[2:], self.padding, self.dilation, strict=True)
        if any(size + 2 * padding < dilation * (kernel - 1) + 1 for size, kernel, padding, dilation in sizes):
            self.refuse(f"the kernel does not fit into the image: {given}", "use more padding or a smaller kernel")

    def vjp(self, g: Any, x: Any, weight: Any, bias: Any, y: Any, wanted: Any = (True, True, True)) -> Any:
        geometry = self.stride, self.padding, self.dilation
        return (
            kernels.conv2d_input(g, weight, x.shape, *geometry) if wanted[0] else None,
            kernels.conv2d_weight(g, x, weight.shape, *geometry) if wanted[1] else None,
            kernels.conv2d_bias(g) if wanted[2] and bias is not None else None,
        )

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        x, weight = rng.normal(size=(3, 3, 6, 5)), rng.normal(size=(4, 3, 3, 2))
        yield cls(), x[:2, :, :4, :3], weight, rng.normal(size=4)
        yield cls(2, (1, 2)), x[:, :2], rng.normal(size=(3, 2, 3, 3)), rng.normal(size=3)
        yield cls((2, 1), (2, 0), (2, 3)), x[:2, :1], weight[:2, :1], None
        yield cls((1, 3)), x[:2], rng.normal(size=(2, 3, 1, 1)), rng.normal(size=2)

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        x, weight = np.ones((2, 3, 5, 4)), np.ones((4, 3, 3, 2))
        yield lambda: cls()(x.transpose(0, 2, 3, 1), weight, None), "(2, 5, 4, 3)"
        yield lambda: cls()(x[0], weight, None), "(3, 5, 4)"
        yield lambda: cls(padding=-1)(x, weight, None), "padding"
        yield lambda: cls(stride=0)(x, weight, None), "stride"
        yield lambda: cls(dilation=3)(x, weight, None), "(2, 3, 5, 4)"
        yield lambda: cls()(x[:0], weight, None), "(0, 3, 5, 4)"
        yield lambda: cls()(x.astype(np.float32), weight, None), "float32"
        yield lambda: cls(stride=(1, 2, 3)), "(1, 2, 3)"
