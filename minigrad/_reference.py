"""Every kernel in NumPy, as short as its mathematics: what the compiled kernels must equal.

These are the definitions. The tests compare the compiled kernels with them, `use_kernels("numpy")` runs on them,
and so does an installation without a compiler. Arguments are trusted here: `minigrad.kernels` has checked them.

A convolution and a pool look at an image through a window of kh x kw taps. What one tap (i, j) sees under all
output pixels at once is a strided slice of the padded image: `_taps` hands out these slices, as views that can be
read, and added to. Each function is a loop over the taps around one line of mathematics.

Index letters: n image, c input channel, o output channel, (h, w) pixel of the input, (i, j) tap of the window,
(p, q) pixel of the output; h = p stride + i dilation - padding, and w likewise.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.floating[Any]]
Indices: TypeAlias = NDArray[np.integer[Any]]
Pair: TypeAlias = tuple[int, int]
Shape: TypeAlias = tuple[int, int, int, int]

# Overflow, inf - inf and 0 * inf give inf and NaN here as in the compiled kernels: without a warning.
_quiet = np.errstate(over="ignore", invalid="ignore", divide="ignore")


def _padded(x: Array, padding: Pair, value: float = 0.0) -> Array:
    """The images (N, C, H, W) in a frame of `value`: (N, C, H + 2 padding, W + 2 padding)."""
    n, c, h, w = x.shape
    frame = np.full((n, c, h + 2 * padding[0], w + 2 * padding[1]), value, x.dtype)
    _interior(frame, padding)[...] = x
    return frame


def _interior(frame: Array, padding: Pair) -> Array:
    """The images without their frame, a view."""
    h, w = frame.shape[2:]
    return frame[:, :, padding[0] : h - padding[0], padding[1] : w - padding[1]]


def _taps(frame: Array, kernel: Pair, stride: Pair, dilation: Pair = (1, 1)) -> Iterator[tuple[int, int, Array]]:
    """For each tap (i, j), in row-major order: i, j, and the view (N, C, P, Q) of the pixels that it sees."""
    reach_h, reach_w = (d * (k - 1) for d, k in zip(dilation, kernel, strict=True))
    h, w = frame.shape[2:]
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            top, left = i * dilation[0], j * dilation[1]
            rows = slice(top, top + h - reach_h, stride[0])
            columns = slice(left, left + w - reach_w, stride[1])
            yield i, j, frame[:, :, rows, columns]


def _pixels(x: Array) -> Array:
    """(N, C, P, Q) as N matrices (C, PQ)."""
    return x.reshape(x.shape[0], x.shape[1], -1)


@_quiet
def conv2d(x: Array, weight: Array, bias: Array | None, stride: Pair, padding: Pair, dilation: Pair) -> Array:
    """y[n,o,p,q] = bias[o] + sum over c, i, j of weight[o,c,i,j] x[n,c,h,w]: a matrix product for each tap."""
    kernel = weight.shape[2], weight.shape[3]
    shape: tuple[int, ...] = ()
    y: Any = 0
    for i, j, seen in _taps(_padded(x, padding), kernel, stride, dilation):
        y = y + weight[:, :, i, j] @ _pixels(seen)
        shape = seen.shape
    if bias is not None:
        y += bias[:, None]
    result: Array = y.reshape(shape[0], weight.shape[0], *shape[2:])
    return result


@_quiet
def conv2d_input(g: Array, weight: Array, x_shape: Shape, stride: Pair, padding: Pair, dilation: Pair) -> Array:
    """gx[n,c,h,w] = sum over o and the taps that saw (h, w) of weight[o,c,i,j] g[n,o,p,q]."""
    kernel = weight.shape[2], weight.shape[3]
    frame = _padded(np.zeros(x_shape, g.dtype), padding)
    for i, j, seen in _taps(frame, kernel, stride, dilation):
        seen += (weight[:, :, i, j].T @ _pixels(g)).reshape(seen.shape)
    return _interior(frame, padding).copy()


@_quiet
def conv2d_weight(g: Array, x: Array, weight_shape: Shape, stride: Pair, padding: Pair, dilation: Pair) -> Array:
    """gw[o,c,i,j] = sum over n, p, q of g[n,o,p,q] x[n,c,h,w]."""
    kernel = weight_shape[2], weight_shape[3]
    gw = np.empty(weight_shape, g.dtype)
    for i, j, seen in _taps(_padded(x, padding), kernel, stride, dilation):
        gw[:, :, i, j] = np.tensordot(g, seen, axes=((0, 2, 3), (0, 2, 3)))
    return gw


@_quiet
def conv2d_bias(g: Array) -> Array:
    """gb[o] = sum over n, p, q of g[n,o,p,q]."""
    gb: Array = g.sum(axis=(0, 2, 3))
    return gb


@_quiet
def max_pool2d(x: Array, kernel: Pair, stride: Pair, padding: Pair) -> tuple[Array, Indices]:
    """y = the largest pixel in each window, and the number of its tap, i kw + j.

    The lowest number wins a tie; a tap outside the image never wins, not even over -inf; NaN wins over every
    number, and the last of several NaNs over the others.
    """
    outside = _padded(np.zeros(x.shape, x.dtype), padding, value=1.0)
    inside = [seen == 0 for _, _, seen in _taps(outside, kernel, stride)]
    y = np.full(inside[0].shape, -np.inf, x.dtype)
    winners = np.full(inside[0].shape, -1, np.int32)
    for i, j, seen in _taps(_padded(x, padding), kernel, stride):
        tap = i * kernel[1] + j
        better = inside[tap] & ((seen > y) | np.isnan(seen) | (winners < 0))
        np.copyto(y, seen, where=better)
        np.copyto(winners, tap, where=better)
    return y, winners.astype(np.uint8 if kernel[0] * kernel[1] <= 256 else np.int32)


@_quiet
def max_pool2d_input(g: Array, winners: Indices, x_shape: Shape, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """gx[n,c,h,w] = the sum of g over the windows that (h, w) has won."""
    frame = _padded(np.zeros(x_shape, g.dtype), padding)
    for i, j, seen in _taps(frame, kernel, stride):
        np.add(seen, g, out=seen, where=winners == i * kernel[1] + j)
    return _interior(frame, padding).copy()


@_quiet
def avg_pool2d(x: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """y = the mean of each window; the zeros of the padding count."""
    y: Any = 0
    for _, _, seen in _taps(_padded(x, padding), kernel, stride):
        y = y + seen
    y /= kernel[0] * kernel[1]
    result: Array = y
    return result


@_quiet
def avg_pool2d_input(g: Array, x_shape: Shape, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """gx[n,c,h,w] = the sum of g / (kh kw) over the windows that (h, w) lies in."""
    frame = _padded(np.zeros(x_shape, g.dtype), padding)
    share = g / (kernel[0] * kernel[1])
    for _, _, seen in _taps(frame, kernel, stride):
        seen += share
    return _interior(frame, padding).copy()


def _over_channels(v: Array, ndim: int) -> Array:
    """A vector (C,) as (1, C, 1, ...), to go with (N, C, ...)."""
    return v.reshape(-1, *[1] * (ndim - 2))


@_quiet
def batch_norm(x: Array, weight: Array, bias: Array, eps: float) -> tuple[Array, Array, Array]:
    """y = weight (x - mean) / sqrt(var + eps) + bias for each channel; also mean and 1 / sqrt(var + eps).

    var is the mean of the squares of x - mean, the mean first: mean(x^2) - mean(x)^2 cancels.
    """
    rest = (0, *range(2, x.ndim))
    mean = x.mean(axis=rest)
    deviation = x - _over_channels(mean, x.ndim)
    inv_std = 1 / np.sqrt(np.square(deviation).mean(axis=rest) + x.dtype.type(eps))
    y = deviation * _over_channels(weight * inv_std, x.ndim) + _over_channels(bias, x.ndim)
    return y, mean, inv_std


@_quiet
def batch_norm_input(g: Array, x: Array, weight: Array, mean: Array, inv_std: Array) -> tuple[Array, Array, Array]:
    """With x^ = (x - mean) inv_std: gbias = sum g, gweight = sum g x^,

    gx = weight inv_std (g - mean(g) - x^ mean(g x^)).
    """
    rest = (0, *range(2, x.ndim))
    normal = (x - _over_channels(mean, x.ndim)) * _over_channels(inv_std, x.ndim)
    gbias, gweight = g.sum(axis=rest), (g * normal).sum(axis=rest)
    m = x.size // x.shape[1]
    gx = g - _over_channels(gbias / m, x.ndim) - normal * _over_channels(gweight / m, x.ndim)
    return gx * _over_channels(weight * inv_std, x.ndim), gweight, gbias


@_quiet
def cross_entropy(z: Array, labels: Indices) -> tuple[Array, Array]:
    """With m the largest logit of a row, e = exp(z - m), and r the sum of all e but one that is 1:

    loss = (m - z_y) + log(1 + r), and its slopes are p = e / (1 + r), at the label p_y - 1. That is formed as minus
    the sum of the other e, divided by 1 + r: nothing is subtracted from 1, so that small numbers stay accurate.
    """
    if labels.min() < 0 or labels.max() >= z.shape[1]:
        raise ValueError(
            f"cross_entropy: labels must be 0 to {z.shape[1] - 1}, got {labels.min()} to {labels.max()}: "
            "count classes from 0"
        )
    rows = np.arange(len(z))
    m = z.max(axis=1)
    e = np.exp(z - m[:, None])
    top = e == 1
    r = np.where(top, 0, e).sum(axis=1) + (top.sum(axis=1) - 1).astype(z.dtype)
    losses = (m - z[rows, labels]) + np.log1p(r)
    slopes = e / (1 + r)[:, None]
    e_y = e[rows, labels]
    slopes[rows, labels] = -np.where(e_y == 1, r, 1 + (r - e_y)) / (1 + r)
    return losses, slopes


@_quiet
def binary_cross_entropy(z: Array, r: Array) -> tuple[Array, Array]:
    """With e = exp(-|z|), the loss of a class is log(1 + e), and |z| for the part of the label on the other side."""
    e, positive = np.exp(-abs(z)), z >= 0
    wrong = np.where(positive, 1 - r, r)
    losses = np.log1p(e).sum(axis=1) + np.multiply(wrong, abs(z), where=wrong > 0, out=np.zeros_like(z)).sum(axis=1)
    near, far = 1 / (1 + e), e / (1 + e)
    return losses, np.where(positive, (1 - r) * near - r * far, (1 - r) * far - r * near)


@_quiet
def sgd(
    weights: list[Array],
    gradients: list[Array],
    velocities: list[Array] | None,
    lr: float,
    mu: float,
    decay: float,
    nesterov: bool,
) -> None:
    """v <- mu v - lr (g + decay w), and w <- w + v, or + mu v - lr (g + decay w) with Nesterov's look ahead."""
    for k, (w, g) in enumerate(zip(weights, gradients, strict=True)):
        step = lr * (g + decay * w)
        if velocities is None:
            w -= step
            continue
        v = velocities[k]
        v *= mu
        v -= step
        w += mu * v - step if nesterov else v


@_quiet
def affine(x: Array, weight: Array, bias: Array | None) -> Array:
    """y = x W^T + b."""
    y: Array = x @ weight.T
    if bias is not None:
        y += bias
    return y


@_quiet
def affine_vjp(
    g: Array, x: Array, weight: Array, of_x: bool, of_weight: bool, of_bias: bool
) -> tuple[Array | None, Array | None, Array | None]:
    """gx = g W, gw = g^T x, gb = sum of g over the samples."""
    return (
        g @ weight if of_x else None,
        g.T @ x if of_weight else None,
        g.sum(axis=0) if of_bias else None,
    )


def relu(a: Array) -> Array:
    """a where it is positive, else 0."""
    y: Array = np.maximum(a, 0)
    return y


@_quiet
def relu_vjp(g: Array, a: Array) -> Array:
    """g where a >= 0, else 0."""
    gx: Array = np.where(a >= 0, g, np.zeros_like(g))
    return gx


@_quiet
def tanh_vjp(g: Array, a: Array) -> Array:
    """g / cosh^2 a, as g 4 e / (1 + e)^2 with e = exp(-2|a|): 1 - tanh^2 a would lose its digits near the ends."""
    e = np.exp(-2 * np.abs(a))
    gx: Array = g * (4 * e / (1 + e) ** 2)
    return gx
