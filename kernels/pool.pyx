# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Max-pool and average pool, and their gradients: plain loops along the rows of an image.

Every image of every channel is a plane of its own; the planes are dealt to the threads. Inside, each kernel works
on one output row p at a time, and each loop runs along that row, tap by tap: "what does tap j see under all of the
row" is a load with a fixed step, which a compiler turns into vectors.
"""

import numpy as np

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport INFINITY
from libc.string cimport memcpy, memset

from common cimport KERNELS_OPENMP, LARGEST, begin, crew

cdef fused number:
    unsigned char
    int

OPENMP = bool(KERNELS_OPENMP)
cdef int threads = 1


def set_num_threads(int n):
    """How many threads a call may use."""
    global threads
    threads = max(n, 1)


cdef struct Window:
    Py_ssize_t planes, h, w             # N C planes of h x w pixels
    Py_ssize_t kh, kw, sh, sw, ph, pw   # kernel, stride, padding
    Py_ssize_t p, q                     # pixels of the output
    Py_ssize_t height, width            # of the padded plane
    bint framed                         # whether there is any padding


cdef Window window(shape, kernel, stride, padding, half) except *:
    """The sizes of a pool, all checked: what follows relies on them for its addresses."""
    cdef Window v
    n, c, v.h, v.w = shape
    v.kh, v.kw = kernel
    v.sh, v.sw = stride
    v.ph, v.pw = padding
    if (min(n, c, v.h, v.w, v.kh, v.kw, v.sh, v.sw) < 1 or min(v.ph, v.pw) < 0
            or max(v.h, v.w, v.kh, v.kw, v.sh, v.sw, v.ph, v.pw) > LARGEST):
        raise ValueError("pool: sizes, kernel and stride must be at least 1, padding at least 0")
    if half and (2 * v.ph > v.kh or 2 * v.pw > v.kw):
        raise ValueError("pool: padding must be at most half of the kernel")
    v.planes = n * c
    v.height, v.width = v.h + 2 * v.ph, v.w + 2 * v.pw
    if v.kh > v.height or v.kw > v.width:
        raise ValueError("pool: the kernel does not fit into the padded image")
    v.p, v.q = (v.height - v.kh) // v.sh + 1, (v.width - v.kw) // v.sw + 1
    v.framed = v.ph > 0 or v.pw > 0
    return v


cdef check_output(const Window *v, shape, expected):
    """Refuse a gradient or winners that do not have the shape of the output."""
    if tuple(shape) != expected:
        raise ValueError(f"pool: the output is {expected}, its gradient or winners {tuple(shape)}")


# ----------------------------------------------------------------------------------------------------------------
# Max-pool
# ----------------------------------------------------------------------------------------------------------------


cdef inline void challenge(floating *best, int *winner, const floating *seen, Py_ssize_t step, Py_ssize_t count,
                           int tap) noexcept nogil:
    """Let the pixels that one tap sees along a row challenge the best so far: a larger one wins, and NaN wins."""
    cdef Py_ssize_t q
    cdef bint wins
    for q in range(count):
        wins = (seen[q * step] > best[q]) | (seen[q * step] != seen[q * step])
        best[q] = seen[q * step] if wins else best[q]
        winner[q] = tap if wins else winner[q]


cdef void max_planes(const Window *v, const floating *x, floating *y, number *winners, const int *leftmost,
                     int *winner, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """The planes `first` to `last`. `leftmost[q]` is the first tap j inside the image, for where all pixels are -inf.

    A tap j sees pixels of the image, and not padding, for an interval low .. high of q.
    """
    cdef Py_ssize_t plane, p, q, i, j, top, low, high
    cdef floating *best
    cdef const floating *row
    cdef int tap
    for plane in range(first, last):
        for p in range(v.p):
            top = p * v.sh - v.ph
            best = y + (plane * v.p + p) * v.q
            for q in range(v.q):
                best[q] = -INFINITY
                winner[q] = leftmost[q] + <int> (max(-top, <Py_ssize_t> 0) * v.kw)
            for i in range(max(-top, <Py_ssize_t> 0), min(v.kh, v.h - top)):
                for j in range(v.kw):
                    low = max((v.pw - j + v.sw - 1) // v.sw, <Py_ssize_t> 0)
                    high = min((v.w - 1 + v.pw - j) // v.sw + 1, v.q)
                    row = x + (plane * v.h + top + i) * v.w + low * v.sw + j - v.pw
                    tap = <int> (i * v.kw + j)
                    if v.sw == 1:
                        challenge(best + low, winner + low, row, 1, high - low, tap)
                    elif v.sw == 2:
                        challenge(best + low, winner + low, row, 2, high - low, tap)
                    else:
                        challenge(best + low, winner + low, row, v.sw, high - low, tap)
            for q in range(v.q):
                winners[(plane * v.p + p) * v.q + q] = <number> winner[q]


cdef max_pool(const Window *v, const floating *x, floating *y, number *winners):
    cdef int crew_size = crew(threads, 4.0 * v.planes * v.p * v.q * v.kh * v.kw, v.planes), t
    cdef int[::1] leftmost = np.maximum(v.pw - v.sw * np.arange(v.q), 0).astype(np.intc)
    cdef int[:, ::1] winner = np.empty((crew_size, v.q + 16), np.intc)
    with nogil:
        for t in prange(crew_size, num_threads=crew_size, schedule="static", use_threads_if=crew_size > 1):
            max_planes(v, x, y, winners, &leftmost[0], &winner[t, 0],
                       begin(v.planes, t, crew_size), begin(v.planes, t + 1, crew_size))


def max_pool2d(const floating[:, :, :, ::1] x not None, kernel, stride, padding):
    """y and the winners, (N, C, P, Q)."""
    cdef Window v = window((x.shape[0], x.shape[1], x.shape[2], x.shape[3]), kernel, stride, padding, True)
    shape = x.shape[0], x.shape[1], v.p, v.q
    y = np.empty(shape, np.float32 if floating is float else np.float64)
    winners = np.empty(shape, np.uint8 if v.kh * v.kw <= 256 else np.int32)
    cdef floating[:, :, :, ::1] out = y
    cdef unsigned char[:, :, :, ::1] small
    cdef int[:, :, :, ::1] large
    if v.kh * v.kw <= 256:
        small = winners
        max_pool(&v, &x[0, 0, 0, 0], &out[0, 0, 0, 0], &small[0, 0, 0, 0])
    else:
        large = winners
        max_pool(&v, &x[0, 0, 0, 0], &out[0, 0, 0, 0], &large[0, 0, 0, 0])
    return y, winners


cdef void spread_planes(const Window *v, const floating *g, const number *winners, const Py_ssize_t *offset,
                        Py_ssize_t taps, floating *gx, floating *frame, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """Add each g where its winner stands: the corner of the window, and from there `offset[winner]`."""
    cdef Py_ssize_t plane, p, q, h, tap
    cdef floating *image
    cdef floating *corner
    for plane in range(first, last):
        image = frame if v.framed else gx + plane * v.h * v.w
        memset(image, 0, v.height * v.width * sizeof(floating))
        for p in range(v.p):
            corner = image + p * v.sh * v.width
            for q in range(v.q):
                tap = winners[(plane * v.p + p) * v.q + q]
                if 0 <= tap < taps:
                    corner[q * v.sw + offset[tap]] += g[(plane * v.p + p) * v.q + q]
        if v.framed:
            for h in range(v.h):
                memcpy(gx + (plane * v.h + h) * v.w, frame + (h + v.ph) * v.width + v.pw, v.w * sizeof(floating))


def max_pool2d_input(const floating[:, :, :, ::1] g not None, const number[:, :, :, ::1] winners not None,
                     x_shape, kernel, stride, padding):
    """gx, of the shape x_shape. A winner that is no tap of the kernel gives nothing to anybody."""
    cdef Window v = window(x_shape, kernel, stride, padding, True)
    expected = x_shape[0], x_shape[1], v.p, v.q
    check_output(&v, (g.shape[0], g.shape[1], g.shape[2], g.shape[3]), expected)
    check_output(&v, (winners.shape[0], winners.shape[1], winners.shape[2], winners.shape[3]), expected)
    dtype = np.float32 if floating is float else np.float64
    gx = np.empty((x_shape[0], x_shape[1], v.h, v.w), dtype)
    i, j = np.ogrid[:v.kh, :v.kw]
    cdef Py_ssize_t[::1] offset = (i * v.width + j).ravel().astype(np.intp, copy=False)
    cdef int crew_size = crew(threads, 8.0 * v.planes * v.p * v.q, v.planes), t
    cdef Py_ssize_t share = v.framed * v.height * v.width
    cdef floating[::1] frames = np.empty(crew_size * share + 1, dtype)
    cdef floating[:, :, :, ::1] out = gx
    with nogil:
        for t in prange(crew_size, num_threads=crew_size, schedule="static", use_threads_if=crew_size > 1):
            spread_planes(&v, &g[0, 0, 0, 0], &winners[0, 0, 0, 0], &offset[0], v.kh * v.kw, &out[0, 0, 0, 0],
                          &frames[t * share], begin(v.planes, t, crew_size), begin(v.planes, t + 1, crew_size))
    return gx


# ----------------------------------------------------------------------------------------------------------------
# Average pool: a mean over rows of means over columns, so first down the columns of the window, then along its rows
# ----------------------------------------------------------------------------------------------------------------


cdef inline void add_seen(floating *total, const floating *row, Py_ssize_t step, Py_ssize_t count) noexcept nogil:
    """Add what a tap sees along a row."""
    cdef Py_ssize_t q
    for q in range(count):
        total[q] += row[q * step]


cdef void mean_planes(const Window *v, const floating *x, floating *y, floating *columns,
                      Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """The planes `first` to `last`; `columns`, of the width of the padded plane, are the sums down a window."""
    cdef Py_ssize_t plane, p, q, i, j, top
    cdef floating *mean
    cdef floating area = <floating> v.kh * <floating> v.kw
    for plane in range(first, last):
        for p in range(v.p):
            top = p * v.sh - v.ph
            mean = y + (plane * v.p + p) * v.q
            memset(columns, 0, v.width * sizeof(floating))
            for i in range(max(-top, <Py_ssize_t> 0), min(v.kh, v.h - top)):
                add_seen(columns + v.pw, x + (plane * v.h + top + i) * v.w, 1, v.w)
            memset(mean, 0, v.q * sizeof(floating))
            for j in range(v.kw):
                if v.sw == 1:
                    add_seen(mean, columns + j, 1, v.q)
                elif v.sw == 2:
                    add_seen(mean, columns + j, 2, v.q)
                else:
                    add_seen(mean, columns + j, v.sw, v.q)
            for q in range(v.q):
                mean[q] /= area


def avg_pool2d(const floating[:, :, :, ::1] x not None, kernel, stride, padding):
    """y (N, C, P, Q)."""
    cdef Window v = window((x.shape[0], x.shape[1], x.shape[2], x.shape[3]), kernel, stride, padding, False)
    dtype = np.float32 if floating is float else np.float64
    y = np.empty((x.shape[0], x.shape[1], v.p, v.q), dtype)
    cdef int crew_size = crew(threads, 1.0 * v.planes * v.p * v.q * v.kh * v.kw, v.planes), t
    cdef floating[:, ::1] columns = np.empty((crew_size, v.width + 16), dtype)
    cdef floating[:, :, :, ::1] out = y
    with nogil:
        for t in prange(crew_size, num_threads=crew_size, schedule="static", use_threads_if=crew_size > 1):
            mean_planes(&v, &x[0, 0, 0, 0], &out[0, 0, 0, 0], &columns[t, 0],
                        begin(v.planes, t, crew_size), begin(v.planes, t + 1, crew_size))
    return y


cdef void share_planes(const Window *v, const floating *g, floating *gx, floating *columns,
                       Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """The planes `first` to `last`; `columns` are the shares of a row of windows, the same for each of its rows."""
    cdef Py_ssize_t plane, p, q, i, j, top
    cdef floating area = <floating> v.kh * <floating> v.kw, share
    for plane in range(first, last):
        memset(gx + plane * v.h * v.w, 0, v.h * v.w * sizeof(floating))
        for p in range(v.p):
            top = p * v.sh - v.ph
            memset(columns, 0, v.width * sizeof(floating))
            for q in range(v.q):
                share = g[(plane * v.p + p) * v.q + q] / area
                for j in range(q * v.sw, q * v.sw + v.kw):
                    columns[j] += share
            for i in range(max(-top, <Py_ssize_t> 0), min(v.kh, v.h - top)):
                add_seen(gx + (plane * v.h + top + i) * v.w, columns + v.pw, 1, v.w)


def avg_pool2d_input(const floating[:, :, :, ::1] g not None, x_shape, kernel, stride, padding):
    """gx, of the shape x_shape."""
    cdef Window v = window(x_shape, kernel, stride, padding, False)
    check_output(&v, (g.shape[0], g.shape[1], g.shape[2], g.shape[3]), (x_shape[0], x_shape[1], v.p, v.q))
    dtype = np.float32 if floating is float else np.float64
    gx = np.empty((x_shape[0], x_shape[1], v.h, v.w), dtype)
    cdef int crew_size = crew(threads, 1.0 * v.planes * v.p * v.q * v.kh * v.kw, v.planes), t
    cdef floating[:, ::1] columns = np.empty((crew_size, v.width + 16), dtype)
    cdef floating[:, :, :, ::1] out = gx
    with nogil:
        for t in prange(crew_size, num_threads=crew_size, schedule="static", use_threads_if=crew_size > 1):
            share_planes(&v, &g[0, 0, 0, 0], &out[0, 0, 0, 0], &columns[t, 0],
                         begin(v.planes, t, crew_size), begin(v.planes, t + 1, crew_size))
    return gx
