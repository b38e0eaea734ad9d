"""Pooling: one number for each window of an image, its largest or its mean.

Letters: ``c`` channel, ``p, q`` output position, ``u, v`` position in the window. Output (p, q) sees the input at
(stride p + u - padding, stride q + v - padding). Windows may overlap; an entry that wins in two gets both gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import kernels
from ..formula import Formula, indices, inside, largest, sp, total
from ..laws import additive_in_first
from ..operation import Operation, Source
from .convolution import pair
from .shapes import selection

__all__ = ["AvgPool2d", "MaxPool2d"]


class Pool2d(Operation, abstract=True):
    """A window of ``kernel_size`` that moves by ``stride`` (itself if None) over an image with ``padding``."""

    signature = "x[N,C,H,W] -> y[N,C,P,Q]"

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0):
        who = type(self).__name__
        self.kernel_size = pair(who, "kernel_size", kernel_size)
        self.stride = self.kernel_size if stride is None else pair(who, "stride", stride)
        self.padding = pair(who, "padding", padding, least=0)

    def check(self, *arrays: Any) -> None:
        super().check(*arrays)
        x = arrays[0]
        given = f"x {x.shape} {x.dtype}"
        if x.dtype not in (np.float32, np.float64):
            self.refuse(f"got {given}", "convert it with x.astype(float)", TypeError)
        if 0 in x.shape:
            self.refuse(f"got {given}", "give at least one sample, channel, row and column")
        sizes = zip(x.shape[2:], self.kernel_size, self.padding, strict=True)
        if any(size + 2 * padding < kernel for size, kernel, padding in sizes):
            self.refuse(f"the window does not fit into the image: {given}", "use more padding or a smaller window")

    @property
    def geometry(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        return self.kernel_size, self.stride, self.padding

    def corners(self, image: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """For each output position of one sample the channel and the top left corner of its window."""
        C = image[0]
        P, Q = (kernels.out_size(*size) for size in zip(image[1:], *self.geometry, strict=True))
        c, p, q = np.indices((C, P, Q)).reshape(3, -1)
        return c, np.stack([self.stride[0] * p - self.padding[0], self.stride[1] * q - self.padding[1]])

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        x = np.ones((2, 3, 5, 4))
        yield lambda: cls(2)(x[0]), "(3, 5, 4)"
        yield lambda: cls(6)(x), "(2, 3, 5, 4)"
        yield lambda: cls(2, stride=0)(x), "stride"
        yield lambda: cls(2, padding=-1)(x), "padding"
        yield lambda: cls(0)(x), "kernel"
        yield lambda: cls(2)(x.astype(int)), "int"
        yield lambda: cls("2"), "'2'"


class MaxPool2d(Pool2d):
    """y = the largest entry of each window; of equal entries the first, row by row, takes the gradient.

    Padding never wins. ``ties="random"`` picks one of the equal entries by ``rng`` instead (Tomasi's footnote).
    """

    source = Source("Tomasi 2019, appendix", "TC-14", "T-11")
    saved = ("winners",)

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0, ties: str = "first", rng: Any = None):
        super().__init__(kernel_size, stride, padding)
        self.ties, self.rng = ties, rng
        if any(2 * padding > kernel for padding, kernel in zip(self.padding, self.kernel_size, strict=True)):
            self.refuse("padding exceeds half the window, which could see nothing else", "take less padding")
        if ties not in ("first", "random"):
            self.refuse(f"ties={ties!r}", "choose 'first' or 'random'")
        if ties == "random" and not isinstance(rng, np.random.Generator):
            self.refuse("random ties need a generator", "pass rng=numpy.random.default_rng(seed)", TypeError)

    def window(self, x: Any) -> tuple[list[Any], tuple[Any, ...]]:
        """The entries of a window in letters, padding as -oo, and the letters of the output."""
        c, p, q = indices("c p q")
        (U, V), (s, t), (a, b) = self.geometry
        taps = [(s * p + u - a, t * q + v - b) for u in range(U) for v in range(V)]
        entries = [inside(x, c, *tap, outside=-sp.oo) if a or b else x[c, *tap] for tap in taps]
        return entries, (c, p, q)

    def formula(self, x: Any) -> Formula:
        entries, letters = self.window(x)
        return Formula(largest(*entries), *letters)

    def forward(self, x: Any) -> Any:
        if self.ties == "random":
            return self._with_random_winners(x)
        return kernels.max_pool2d(x, *self.geometry)

    def _with_random_winners(self, x: Any) -> tuple[Any, Any]:
        """The same maxima; of the entries of a window that reach it, each is as likely to be the winner."""
        y, winners = kernels.max_pool2d(x, *self.geometry)
        (U, V), (s, t), (a, b) = self.geometry
        border = ((0, 0), (0, 0), (a, a), (b, b))
        padded = np.pad(np.asarray(x, dtype=float), border, constant_values=-np.inf)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (U, V), axis=(2, 3))[:, :, ::s, ::t]
        reached = windows.reshape(*y.shape, U * V) == y[..., None]
        draw = self.rng.random(reached.shape) * reached
        return y, np.where(reached.any(axis=-1), draw.argmax(axis=-1), winners).astype(winners.dtype)

    def jacobian(self, x: Any) -> Any:
        _, winners = self.forward(x[None])
        c, corner = self.corners(x.shape)
        h, w = corner + np.divmod(winners.ravel().astype(int), self.kernel_size[1])
        return selection((c * x.shape[1] + h) * x.shape[2] + w, x.size)

    def vjp(self, g: Any, x: Any, y: Any, winners: Any) -> Any:
        return kernels.max_pool2d_input(g, winners, x.shape, *self.geometry)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        x = rng.normal(size=(3, 2, 5, 4)) - 3  # below the zeros that padding must not be
        x[0, 0, 1, 1] = x[0, 0, 1, 0] - 0.02  # nearly a tie
        yield cls(3, 2, (1, 0)), x[:2]
        yield cls((2, 3), (3, 1), (1, 1)), x[:, :1]
        yield cls(2), x

    @classmethod
    def kinks(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(2, 1), np.array([[0.0, 0, 0], [1, 1, 0], [0, 1, 1]]).reshape(1, 1, 3, 3)

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        yield from super().errors()
        yield lambda: cls(2, padding=2), "padding"
        yield lambda: cls(2, ties="last"), "last"
        yield lambda: cls(2, ties="random"), "rng"


class AvgPool2d(Pool2d):
    """y = the mean of each window, its padding counted as zeros."""

    source = Source("US 12387092, description", "IP-04")
    laws = (additive_in_first,)

    def formula(self, x: Any) -> Formula:
        c, p, q, u, v = indices("c p q u v")
        (U, V), (s, t), (a, b) = self.geometry
        position = (c, s * p + u - a, t * q + v - b)
        seen = inside(x, *position) if a or b else x[position]
        return Formula(total(seen, (u, sp.Integer(U)), (v, sp.Integer(V))) / (U * V), c, p, q)

    def forward(self, x: Any) -> Any:
        return kernels.avg_pool2d(x, *self.geometry)

    def jacobian(self, x: Any) -> Any:
        from scipy.sparse import csr_array

        (U, V), (C, H, W) = self.kernel_size, x.shape
        c, corner = self.corners(x.shape)
        u, v = np.indices((U, V)).reshape(2, 1, -1)
        h, w = corner[0][:, None] + u, corner[1][:, None] + v
        i, tap = np.nonzero((h >= 0) & (h < H) & (w >= 0) & (w < W))
        columns = (c[i] * H + h[i, tap]) * W + w[i, tap]
        return csr_array((np.full(i.size, 1 / (U * V)), (i, columns)), shape=(len(c), C * H * W))

    def vjp(self, g: Any, x: Any, y: Any) -> Any:
        return kernels.avg_pool2d_input(g, x.shape, *self.geometry)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        x = rng.normal(size=(3, 2, 5, 4))
        yield cls(3, 2, (1, 0)), x[:2]
        yield cls((2, 3), (3, 1), (2, 1)), x[:, :1]
