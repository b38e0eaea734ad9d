"""The kernels: the loops that decide the speed, on arrays, and the choice of what computes them.

Two backends compute the same functions: the compiled loops of `kernels/*.pyx` and the NumPy reference of
`minigrad/_reference.py`. This module chooses one, checks the arguments, and is the only one that the rest of
minigrad calls.

Arrays are NumPy arrays, float32 or float64, one dtype in a call; images are (N, C, H, W); kernel, stride,
padding and dilation are pairs. No argument is changed, but by `sgd`, and a result never shares its memory. A bad
argument raises ValueError, or TypeError for a wrong kind of thing, before anything is computed, and says who wanted
what, what came, and what to try.

**Threads.** The compiled kernels share their work among `num_threads()` OpenMP threads, by default one for each
core that the process may use. Work too small to share stays on one thread. The work is split by position and not
by who comes first, so that one number of threads always gives the same bits. A process made by `fork` inherits none
of the threads of its parent: there the kernels run on one thread, whatever is asked for.

Two pools of threads in turn wait for one another's spinning threads, which costs a factor of several. So there is one:
no kernel calls BLAS, which has threads of its own, and the large matrix products of training, those of convolutions
and of dense layers, are all kernels. `set_num_threads` is the one setting. A thread that has nothing to do spins for
some microseconds and then sleeps (unless GOMP_SPINCOUNT or OMP_WAIT_POLICY say otherwise), so that a neighbour who
wants the core gets it.

**Memory.** glibc returns the memory of a large array that is freed to the system, and fetching it again costs more than
computing in it: a page fault for every 4 kB. So that the next step of training finds the memory of the last one,
importing minigrad asks glibc to keep up to 512 MB of what is freed, in arrays of up to 256 MB. MINIGRAD_KEEP_MEMORY=0
leaves it alone.
"""

import contextlib
import ctypes
import os
from operator import index
from types import ModuleType, TracebackType
from typing import Any

import numpy as np

from . import _reference
from ._reference import Array, Indices, Pair, Shape

_COMPILED: dict[str, ModuleType] = {}
_spin = {"GOMP_SPINCOUNT": "10000"} if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys() else {}
os.environ.update(_spin)  # read by the OpenMP library when the first kernel loads it
try:
    from . import _conv, _dense, _loss, _norm, _pointwise, _pool, _update
except ImportError:  # installed without a compiler
    pass
else:
    _COMPILED = {
        "conv": _conv, "dense": _dense, "loss": _loss, "norm": _norm, "pointwise": _pointwise, "pool": _pool,
        "update": _update,
    }  # fmt: skip
finally:
    for _name in _spin:
        del os.environ[_name]

if os.environ.get("MINIGRAD_KEEP_MEMORY", "1") != "0":
    with contextlib.suppress(OSError, AttributeError):  # no glibc
        _mallopt = ctypes.CDLL(None).mallopt
        _mallopt(-3, 256 << 20) or _mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD: arrays up to so many bytes (older
        # versions refuse more than 32 MB) come from the heap, which is
        _mallopt(-1, 512 << 20)  # M_TRIM_THRESHOLD: cut back only when so much of it is free

__all__ = [
    "affine",
    "affine_vjp",
    "avg_pool2d",
    "avg_pool2d_input",
    "backend",
    "batch_norm",
    "batch_norm_input",
    "binary_cross_entropy",
    "compiled",
    "conv2d",
    "conv2d_bias",
    "conv2d_input",
    "conv2d_weight",
    "cross_entropy",
    "max_pool2d",
    "max_pool2d_input",
    "num_threads",
    "openmp",
    "out_size",
    "relu",
    "relu_vjp",
    "set_num_threads",
    "sgd",
    "tanh_vjp",
    "use_kernels",
]

# ------------------------------------------------------------------------------------------------------------
# Which backend
# ------------------------------------------------------------------------------------------------------------


def compiled() -> bool:
    """Whether the compiled kernels are there."""
    return bool(_COMPILED)


def openmp() -> bool:
    """Whether the compiled kernels were built with OpenMP; without it they run on one thread."""
    return compiled() and bool(_COMPILED["conv"].OPENMP)


def backend() -> str:
    """What computes now: "cython" or "numpy"."""
    return _backend


class use_kernels:
    """Choose what computes from here on: "cython", "numpy", or "auto", the compiled kernels where there are any.

    A plain call is enough; in a `with` statement the former choice returns at the end of the block. There is one
    choice for the whole process. At import it is that of the environment variable MINIGRAD_KERNELS, else "auto".
    """

    def __init__(self, name: str) -> None:
        global _backend, _conv_backend, _dense_backend, _loss_backend, _norm_backend, _pool_backend, _update_backend
        if name not in ("auto", "cython", "numpy"):
            raise ValueError(f"use_kernels: expected 'auto', 'cython' or 'numpy', got {name!r}")
        if name == "cython" and not compiled():
            raise ValueError(
                "use_kernels: 'cython' needs the compiled kernels, and this installation has none: "
                "install a C compiler, and reinstall with MINIGRAD_REQUIRE_KERNELS=1 to see what fails"
            )
        self._former = _backend
        _backend = "cython" if name != "numpy" and compiled() else "numpy"
        modules = _COMPILED if _backend == "cython" else {}
        _conv_backend, _dense_backend, _loss_backend, _norm_backend, _pool_backend, _update_backend = (
            modules.get(name, _reference) for name in ("conv", "dense", "loss", "norm", "pool", "update")
        )

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        use_kernels(self._former)


_backend = "auto"
_conv_backend: ModuleType
_dense_backend: ModuleType
_loss_backend: ModuleType
_norm_backend: ModuleType
_pool_backend: ModuleType
_update_backend: ModuleType
use_kernels(os.environ.get("MINIGRAD_KERNELS", "auto"))

# ------------------------------------------------------------------------------------------------------------
# How many threads
# ------------------------------------------------------------------------------------------------------------

_num_threads = 1
_forked = False


def set_num_threads(n: int) -> None:
    """Let the compiled kernels use `n` threads, at least 1 and at most 1024.

    At import it is that of the environment variable MINIGRAD_NUM_THREADS, else one for each core that the process
    may use.
    """
    global _num_threads
    count = index(n)
    if not 1 <= count <= 1024:
        raise ValueError(f"set_num_threads: expected 1 to 1024 threads, got {n}")
    _num_threads = 1 if _forked or not openmp() else count
    for module in _COMPILED.values():
        module.set_num_threads(_num_threads)


def num_threads() -> int:
    """How many threads the compiled kernels use: 1 without OpenMP, and 1 in a forked process."""
    return _num_threads


def _default_num_threads() -> int:
    asked = os.environ.get("MINIGRAD_NUM_THREADS")
    if asked is not None:
        if not asked.isdecimal() or not 1 <= int(asked) <= 1024:
            raise ValueError(f"MINIGRAD_NUM_THREADS: expected 1 to 1024, got {asked!r}")
        return int(asked)
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), 1024)
    return min(os.cpu_count() or 1, 1024)


def _after_fork_in_child() -> None:
    """The pool of the parent does not exist here, and OpenMP would wait for it for ever."""
    global _forked
    _forked = True
    set_num_threads(1)


set_num_threads(_default_num_threads())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

# ------------------------------------------------------------------------------------------------------------
# Checks of arguments. They run in every call, also of the smallest net, hence their plain style.
# ------------------------------------------------------------------------------------------------------------

_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
_UINT8, _INT32, _INTP = np.dtype(np.uint8), np.dtype(np.int32), np.dtype(np.intp)
_LARGEST = 2**31 - 1  # of the entries of a pair: products of two of them fit in 64 bits
_AXES = {1: "(C,)", 2: "(N, C)", 4: "(N, C, H, W)"}


def _array(who: str, name: str, a: Any, ndim: int, like: Array | None = None) -> Array:
    """`a` in C order, once it is a floating array of `ndim` axes, none empty, with the dtype of `like`."""
    if not isinstance(a, np.ndarray):
        raise TypeError(f"{who}: {name} must be a NumPy array, got {type(a).__name__}: use numpy.asarray")
    dtype = a.dtype
    if dtype is not _FLOAT32 and dtype is not _FLOAT64 and dtype not in (_FLOAT32, _FLOAT64):
        raise TypeError(f"{who}: {name} must be float32 or float64, got {dtype}: use {name}.astype(numpy.float32)")
    if like is not None and dtype is not like.dtype and dtype != like.dtype:
        raise TypeError(
            f"{who}: all arrays must have one dtype, got {name} in {dtype} with {like.dtype}: "
            f"use {name}.astype(numpy.{like.dtype})"
        )
    if a.ndim != ndim:
        raise ValueError(
            f"{who}: {name} must have {ndim} axes, {_AXES[ndim]}, got {a.ndim} (shape {a.shape}): "
            f"reshape it{', with N = 1 for a single image' if a.ndim == ndim - 1 == 3 else ''}"
        )
    laid_out: Array = _laid_out(who, name, a)
    return laid_out


def _laid_out(who: str, name: str, a: Any) -> Any:
    """`a` in C order and aligned, once it is not empty."""
    if a.size == 0:
        raise ValueError(f"{who}: {name} is empty (shape {a.shape}): leave the empty batch out")
    flags = a.flags
    return a if flags.c_contiguous and flags.aligned else np.array(a, order="C")


def _vector(who: str, name: str, a: Any, length: int, like: Array) -> Array:
    """`a` in C order, once it is a floating vector with one entry a channel."""
    v = _array(who, name, a, 1, like)
    if v.shape[0] != length:
        raise ValueError(f"{who}: {name} must have one entry for each of {length} channels, got {v.shape[0]}")
    return v


def _pair(who: str, name: str, value: Any, least: int) -> Pair:
    """`value` as two ints, each at least `least`."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise TypeError(f"{who}: {name} must be a pair of integers, got {value!r}: pass two")
    try:
        a, b = index(value[0]), index(value[1])
    except TypeError:
        raise TypeError(f"{who}: {name} must be a pair of integers, got {value!r}") from None
    if not (least <= a <= _LARGEST and least <= b <= _LARGEST):
        raise ValueError(f"{who}: {name} must be at least {least} and less than 2^31, got {(a, b)}")
    return a, b


def _image_shape(who: str, name: str, value: Any) -> Shape:
    """`value` as four ints, each at least 1."""
    if not isinstance(value, tuple | list) or len(value) != 4:
        raise ValueError(f"{who}: {name} must be four sizes, got {value!r}: pass the shape of the array")
    try:
        n, c, h, w = index(value[0]), index(value[1]), index(value[2]), index(value[3])
    except TypeError:
        raise TypeError(f"{who}: {name} must be four integers, got {value!r}") from None
    if min(n, c, h, w) < 1 or max(n, c, h, w) > _LARGEST:
        raise ValueError(f"{who}: the sizes of {name} must be at least 1 and less than 2^31, got {value}")
    return n, c, h, w


def _out_size(who: str, size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    if room < 0:
        raise ValueError(
            f"{who}: the kernel must fit into the padded input, got kernel {kernel} with dilation {dilation}, "
            f"that is {dilation * (kernel - 1) + 1} pixels, on {size} pixels with padding {padding}: "
            "use a smaller kernel, or more padding"
        )
    return room // stride + 1


def out_size(size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    """The pixels that a convolution or a pool makes of `size` pixels, along one axis:

    floor((size + 2 padding - dilation (kernel - 1) - 1) / stride) + 1. A ValueError if there are none.
    """
    who = "out_size"
    (size, kernel), (stride, dilation) = (
        _pair(who, "(size, kernel)", (size, kernel), 1),
        _pair(who, "(stride, dilation)", (stride, dilation), 1),
    )
    padding, _ = _pair(who, "(padding, padding)", (padding, padding), 0)
    return _out_size(who, size, kernel, stride, padding, dilation)


def _convolution(
    who: str, x_shape: Shape, weight_shape: Shape, stride: Any, padding: Any, dilation: Any
) -> tuple[Pair, Pair, Pair, Shape]:
    """The checked pairs of a convolution, and the shape of its output."""
    stride = _pair(who, "stride", stride, 1)
    padding = _pair(who, "padding", padding, 0)
    dilation = _pair(who, "dilation", dilation, 1)
    n, c, h, w = x_shape
    o, channels, kh, kw = weight_shape
    if c != channels:
        last = x_shape[3] == channels
        hint = "use x.transpose(0, 3, 1, 2)" if last else "weight is (out, in, kh, kw), x is (N, C, H, W)"
        raise ValueError(
            f"{who}: weight has {channels} input channels, x has {c} (shapes {tuple(weight_shape)} and "
            f"{tuple(x_shape)}): channels come second; {hint}"
        )
    p = _out_size(who, h, kh, stride[0], padding[0], dilation[0])
    q = _out_size(who, w, kw, stride[1], padding[1], dilation[1])
    return stride, padding, dilation, (n, o, p, q)


def _pooling(
    who: str, x_shape: Shape, kernel: Any, stride: Any, padding: Any, half: bool
) -> tuple[Pair, Pair, Pair, Shape]:
    """The checked pairs of a pool, and the shape of its output; `half`: padding is at most half of the kernel."""
    kernel = _pair(who, "kernel", kernel, 1)
    stride = _pair(who, "stride", stride, 1)
    padding = _pair(who, "padding", padding, 0)
    if half and (2 * padding[0] > kernel[0] or 2 * padding[1] > kernel[1]):
        raise ValueError(
            f"{who}: padding must be at most half of the kernel, got padding {padding} with kernel {kernel}: "
            "a window would see padding only"
        )
    n, c, h, w = x_shape
    p = _out_size(who, h, kernel[0], stride[0], padding[0], 1)
    q = _out_size(who, w, kernel[1], stride[1], padding[1], 1)
    return kernel, stride, padding, (n, c, p, q)


def _gradient_of(who: str, g: Array, shape: Shape) -> None:
    if g.shape != shape:
        raise ValueError(
            f"{who}: g must have the shape of the output, {shape}, got {g.shape}: "
            "pass the stride, padding and kernel of the forward call"
        )


# ------------------------------------------------------------------------------------------------------------
# Convolution
# ------------------------------------------------------------------------------------------------------------


def conv2d(x: Array, weight: Array, bias: Array | None, stride: Pair, padding: Pair, dilation: Pair) -> Array:
    """The correlation of images with filters, no flip: (N, C, H, W), (O, C, kh, kw) -> (N, O, P, Q).

    y[n,o,p,q] = bias[o] + sum over c, i, j of weight[o,c,i,j] x[n,c,h,w], with h = p stride + i dilation - padding
    and w likewise. `bias` (O,) or None.
    """
    who = "conv2d"
    x = _array(who, "x", x, 4)
    weight = _array(who, "weight", weight, 4, x)
    stride, padding, dilation, shape = _convolution(who, x.shape, weight.shape, stride, padding, dilation)
    if bias is not None:
        bias = _vector(who, "bias", bias, shape[1], x)
    y: Array = _conv_backend.conv2d(x, weight, bias, stride, padding, dilation)
    return y


def conv2d_input(g: Array, weight: Array, x_shape: Shape, stride: Pair, padding: Pair, dilation: Pair) -> Array:
    """The gradient with respect to x, of the shape `x_shape`, from g (N, O, P, Q), that of the output."""
    who = "conv2d_input"
    g = _array(who, "g", g, 4)
    weight = _array(who, "weight", weight, 4, g)
    x_shape = _image_shape(who, "x_shape", x_shape)
    stride, padding, dilation, shape = _convolution(who, x_shape, weight.shape, stride, padding, dilation)
    _gradient_of(who, g, shape)
    gx: Array = _conv_backend.conv2d_input(g, weight, x_shape, stride, padding, dilation)
    return gx


def conv2d_weight(g: Array, x: Array, weight_shape: Shape, stride: Pair, padding: Pair, dilation: Pair) -> Array:
    """The gradient with respect to the filters, of the shape `weight_shape`, from g (N, O, P, Q)."""
    who = "conv2d_weight"
    g = _array(who, "g", g, 4)
    x = _array(who, "x", x, 4, g)
    weight_shape = _image_shape(who, "weight_shape", weight_shape)
    stride, padding, dilation, shape = _convolution(who, x.shape, weight_shape, stride, padding, dilation)
    _gradient_of(who, g, shape)
    gw: Array = _conv_backend.conv2d_weight(g, x, weight_shape, stride, padding, dilation)
    return gw


def conv2d_bias(g: Array) -> Array:
    """The gradient with respect to the bias (O,): the sum of g (N, O, P, Q) over n, p and q."""
    gb: Array = _conv_backend.conv2d_bias(_array("conv2d_bias", "g", g, 4))
    return gb


# ------------------------------------------------------------------------------------------------------------
# Pooling
# ------------------------------------------------------------------------------------------------------------


def max_pool2d(x: Array, kernel: Pair, stride: Pair, padding: Pair) -> tuple[Array, Indices]:
    """The largest pixel of each window, and which it was: (N, C, H, W) -> twice (N, C, P, Q).

    A winner is the row-major number i kw + j of a tap, in uint8 if all numbers fit, else in int32. The lowest
    number wins a tie; padding, at most half of the kernel, never wins; NaN wins over every number.
    """
    who = "max_pool2d"
    x = _array(who, "x", x, 4)
    kernel, stride, padding, _ = _pooling(who, x.shape, kernel, stride, padding, True)
    y: tuple[Array, Indices] = _pool_backend.max_pool2d(x, kernel, stride, padding)
    return y


def max_pool2d_input(g: Array, winners: Indices, x_shape: Shape, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """The gradient with respect to x: each g (N, C, P, Q) is added to the winner of its window."""
    who = "max_pool2d_input"
    g = _array(who, "g", g, 4)
    x_shape = _image_shape(who, "x_shape", x_shape)
    kernel, stride, padding, shape = _pooling(who, x_shape, kernel, stride, padding, True)
    _gradient_of(who, g, shape)
    taps = kernel[0] * kernel[1]
    dtype = _UINT8 if taps <= 256 else _INT32
    if not isinstance(winners, np.ndarray) or winners.dtype != dtype:
        came = winners.dtype if isinstance(winners, np.ndarray) else type(winners).__name__
        raise TypeError(
            f"{who}: winners of a kernel {kernel} must be an array of {dtype}, got {came}: "
            "pass the winners that max_pool2d returned"
        )
    if winners.shape != shape:
        raise ValueError(
            f"{who}: winners must have the shape of the output, {shape}, got {winners.shape}: "
            "pass the winners that max_pool2d returned"
        )
    winners = _laid_out(who, "winners", winners)
    if (taps < 256 or dtype is _INT32) and (winners.max() >= taps or winners.min() < 0):
        raise ValueError(
            f"{who}: winners must be 0 to {taps - 1} for a kernel {kernel}, got {winners.min()} to "
            f"{winners.max()}: pass the winners that max_pool2d returned"
        )
    gx: Array = _pool_backend.max_pool2d_input(g, winners, x_shape, kernel, stride, padding)
    return gx


def avg_pool2d(x: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """The mean of each window, in which the zeros of the padding count: (N, C, H, W) -> (N, C, P, Q)."""
    who = "avg_pool2d"
    x = _array(who, "x", x, 4)
    kernel, stride, padding, _ = _pooling(who, x.shape, kernel, stride, padding, False)
    y: Array = _pool_backend.avg_pool2d(x, kernel, stride, padding)
    return y


def avg_pool2d_input(g: Array, x_shape: Shape, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """The gradient with respect to x: each g (N, C, P, Q) in equal shares to its window."""
    who = "avg_pool2d_input"
    g = _array(who, "g", g, 4)
    x_shape = _image_shape(who, "x_shape", x_shape)
    kernel, stride, padding, shape = _pooling(who, x_shape, kernel, stride, padding, False)
    _gradient_of(who, g, shape)
    gx: Array = _pool_backend.avg_pool2d_input(g, x_shape, kernel, stride, padding)
    return gx


# ------------------------------------------------------------------------------------------------------------
# Batch normalization
# ------------------------------------------------------------------------------------------------------------


def _normal(who: str, name: str, x: Any, like: Array | None = None) -> Array:
    """`x` in C order, once it is (N, C) or (N, C, any)."""
    ndim = getattr(x, "ndim", 0)
    return _array(who, name, x, ndim if ndim > 2 else 2, like)


def batch_norm(x: Array, weight: Array, bias: Array, eps: float) -> tuple[Array, Array, Array]:
    """y = weight (x - mean) / sqrt(var + eps) + bias, and mean and 1 / sqrt(var + eps), each (C,).

    x is (N, C) or (N, C, any); mean and biased variance over all axes but 1; weight and bias (C,).
    """
    who = "batch_norm"
    x = _normal(who, "x", x)
    weight = _vector(who, "weight", weight, x.shape[1], x)
    bias = _vector(who, "bias", bias, x.shape[1], x)
    eps = float(eps)
    if not 0 <= eps < float("inf"):
        raise ValueError(f"{who}: eps must be at least 0 and finite, got {eps}")
    y: tuple[Array, Array, Array] = _norm_backend.batch_norm(x, weight, bias, eps)
    return y


def batch_norm_input(g: Array, x: Array, weight: Array, mean: Array, inv_std: Array) -> tuple[Array, Array, Array]:
    """The gradients with respect to x, weight and bias, from g, that of the output, and what batch_norm gave."""
    who = "batch_norm_input"
    x = _normal(who, "x", x)
    g = _normal(who, "g", g, x)
    if g.shape != x.shape:
        raise ValueError(f"{who}: g must have the shape of x, {x.shape}, got {g.shape}")
    channels = x.shape[1]
    weight = _vector(who, "weight", weight, channels, x)
    mean = _vector(who, "mean", mean, channels, x)
    inv_std = _vector(who, "inv_std", inv_std, channels, x)
    gradients: tuple[Array, Array, Array] = _norm_backend.batch_norm_input(g, x, weight, mean, inv_std)
    return gradients


# ------------------------------------------------------------------------------------------------------------
# The affine map. It is called often and for little, so the compiled kernel looks at its arguments itself; only
# what it refuses is looked at here, to say why, or to lay it out in a way that it takes.
# ------------------------------------------------------------------------------------------------------------


def affine(x: Array, weight: Array, bias: Array | None) -> Array:
    """y = x W^T + b: (N, I), (O, I), (O,) or None -> (N, O)."""
    if _backend == "cython":
        try:
            y: Array = _dense_backend.affine(x, weight, bias)
            return y
        except (TypeError, ValueError, AttributeError):
            pass
    who = "affine"
    x = _array(who, "x", x, 2)
    weight = _array(who, "weight", weight, 2, x)
    _same(who, "columns", "weight", weight.shape[1], "x", x.shape[1])
    if bias is not None:
        bias = _vector(who, "bias", bias, weight.shape[0], x)
    y = _dense_backend.affine(x, weight, bias)
    return y


def affine_vjp(
    g: Array, x: Array, weight: Array, of_x: bool, of_weight: bool, of_bias: bool
) -> tuple[Array | None, Array | None, Array | None]:
    """The gradients g W (N, I), g^T x (O, I) and sum of g (O,), from g (N, O): those asked for, None for the others."""
    if _backend == "cython":
        try:
            gradients: tuple[Array | None, Array | None, Array | None] = _dense_backend.affine_vjp(
                g, x, weight, of_x, of_weight, of_bias
            )
            return gradients
        except (TypeError, ValueError, AttributeError):
            pass
    who = "affine_vjp"
    x = _array(who, "x", x, 2)
    weight = _array(who, "weight", weight, 2, x)
    g = _array(who, "g", g, 2, x)
    _same(who, "columns", "weight", weight.shape[1], "x", x.shape[1])
    _same(who, "rows", "g", g.shape[0], "x", x.shape[0])
    _same(who, "columns", "g", g.shape[1], "the output", weight.shape[0])
    gradients = _dense_backend.affine_vjp(g, x, weight, of_x, of_weight, of_bias)
    return gradients


def _same(who: str, what: str, name: str, size: int, other: str, wanted: int) -> None:
    if size != wanted:
        raise ValueError(f"{who}: {name} has {size} {what}, {other} has {wanted}: x is (N, I), weight (O, I), g (N, O)")


# ------------------------------------------------------------------------------------------------------------
# Softmax cross-entropy
# ------------------------------------------------------------------------------------------------------------


def cross_entropy(z: Array, labels: Indices) -> tuple[Array, Array]:
    """The losses -log softmax(z)_y (N,) and their slopes (N, K), from logits z (N, K) and labels y (N,).

    The slopes are softmax(z) less 1 at the label, the gradient of each loss with respect to its row. Both keep their
    relative accuracy, however small they are. Labels are whole numbers from 0 to K - 1.
    """
    if _backend == "cython":
        try:
            losses_and_slopes: tuple[Array, Array] = _loss_backend.cross_entropy(z, labels)
            return losses_and_slopes
        except (TypeError, ValueError, AttributeError):
            pass
    who = "cross_entropy"
    z = _array(who, "z", z, 2)
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu":
        came = labels.dtype if isinstance(labels, np.ndarray) else type(labels).__name__
        raise TypeError(f"{who}: labels must be an array of whole numbers, got {came}: use labels.astype(int)")
    if labels.shape != z.shape[:1]:
        raise ValueError(f"{who}: labels must have one entry for each of {z.shape[0]} rows, got shape {labels.shape}")
    if labels.dtype is not _INTP:
        labels = labels.astype(_INTP)
    losses_and_slopes = _loss_backend.cross_entropy(z, _laid_out(who, "labels", labels))
    return losses_and_slopes


def binary_cross_entropy(z: Array, r: Array) -> tuple[Array, Array]:
    """The losses (N,) of rows of classes each present or not, and their slopes sigma(z) - r (N, K).

    A loss is the sum over the classes of r log(1 + e^-z) + (1 - r) log(1 + e^z), from logits z (N, K) and degrees r
    (N, K) from 0 to 1, of one dtype. Both keep their relative accuracy, however small they are.
    """
    who = "binary_cross_entropy"
    z = _array(who, "z", z, 2)
    r = _array(who, "r", r, 2, z)
    if r.shape != z.shape:
        raise ValueError(f"{who}: r must have the shape of the logits, {z.shape}, got {r.shape}")
    losses_and_slopes: tuple[Array, Array] = _loss_backend.binary_cross_entropy(z, r)
    return losses_and_slopes


# ------------------------------------------------------------------------------------------------------------
# Transfer functions. What the compiled kernels do not take, other precisions or layouts, is left to NumPy.
# ------------------------------------------------------------------------------------------------------------


def relu(a: Array) -> Array:
    """max(0, a) of each entry; NaN stays NaN."""
    return _pointwise_or_numpy("relu", a)


def relu_vjp(g: Array, a: Array) -> Array:
    """g where a >= 0, else 0: g times the slope of max(0, a), which is 1 at 0."""
    return _pointwise_or_numpy("relu_vjp", g, a)


def tanh_vjp(g: Array, a: Array) -> Array:
    """g times the slope of tanh a, accurate relative to itself however small it is."""
    return _pointwise_or_numpy("tanh_vjp", g, a)


def _pointwise_or_numpy(name: str, *arrays: Array) -> Array:
    if _backend == "cython":
        try:
            compiled: Array = getattr(_pointwise, name)(*arrays)
            return compiled
        except (TypeError, ValueError, AttributeError, BufferError):
            pass
    reference: Array = getattr(_reference, name)(*arrays)
    return reference


# ------------------------------------------------------------------------------------------------------------
# The optimizer's step
# ------------------------------------------------------------------------------------------------------------


def sgd(
    weights: list[Array],
    gradients: list[Array],
    velocities: list[Array] | None,
    lr: float,
    mu: float,
    decay: float,
    nesterov: bool,
) -> None:
    """One step of gradient descent, of all parameters, in place: v <- mu v - lr (g + decay w), w <- w + v.

    With ``nesterov`` w moves by mu v - lr (g + decay w), with the new v. Without velocities it moves by
    -lr (g + decay w). Arrays may have any shape, the same for a weight, its gradient and its velocity. What the
    compiled kernel cannot take, such as a weight that is not contiguous, is left to NumPy.
    """
    if _backend == "cython":
        try:
            _update_backend.sgd(weights, gradients, velocities, lr, mu, decay, nesterov)
            return
        except (TypeError, ValueError, AttributeError, BufferError):  # nothing has been changed
            pass
    who = "sgd"
    for name, arrays in (("gradient", gradients), ("velocity", velocities or weights)):
        if len(arrays) != len(weights):
            raise ValueError(f"{who}: {len(weights)} weights need as many arrays for {name}, got {len(arrays)}")
        for k, (w, a) in enumerate(zip(weights, arrays, strict=True)):
            if w.shape != np.shape(a):
                raise ValueError(f"{who}: weight {k} is {w.shape}, its {name} {np.shape(a)}: make them equal")
    _reference.sgd(weights, gradients, velocities, lr, mu, decay, nesterov)
