# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Batch normalization and its gradient: two passes for the statistics of a channel, one for its output.

x is (N, C, S): N samples, C channels, S pixels. Images (S > 1) are summed a channel at a time, along rows of
S; vectors (S = 1) all channels at once, along rows of C: either way the innermost loop has unit stride.
"""

import numpy as np

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport sqrt
from libc.string cimport memset

from common cimport KERNELS_OPENMP, LANES, add, begin, team_for, total

OPENMP = bool(KERNELS_OPENMP)
cdef int threads = 1


def set_num_threads(int n):
    """How many threads a call may use."""
    global threads
    threads = max(n, 1)


# ------------------------------------------------------------------------------------------------------------
# Sums of one row, in lanes
# ------------------------------------------------------------------------------------------------------------


cdef inline void add_squares(floating *lane, const floating *x, Py_ssize_t count,
                             floating mean) noexcept nogil:
    """lane += (x - mean)^2."""
    cdef Py_ssize_t s, i
    for s in range(count // LANES):
        for i in range(LANES):
            lane[i] += (x[s * LANES + i] - mean) * (x[s * LANES + i] - mean)
    x += count // LANES * LANES
    for i in range(count % LANES):
        lane[i] += (x[i] - mean) * (x[i] - mean)


cdef inline void add_products(floating *lane, const floating *g, const floating *x, Py_ssize_t count,
                              floating mean) noexcept nogil:
    """lane += g (x - mean)."""
    cdef Py_ssize_t s, i
    for s in range(count // LANES):
        for i in range(LANES):
            lane[i] += g[s * LANES + i] * (x[s * LANES + i] - mean)
    x += count // LANES * LANES
    g += count // LANES * LANES
    for i in range(count % LANES):
        lane[i] += g[i] * (x[i] - mean)


# ------------------------------------------------------------------------------------------------------------
# Forward
# ------------------------------------------------------------------------------------------------------------


cdef void normalize_images(Py_ssize_t n, Py_ssize_t channels, Py_ssize_t pixels, const floating *x,
                           const floating *weight, const floating *bias, double eps, floating *y,
                           floating *mean, floating *inv_std,
                           Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """The channels `first` to `last` of images: each is read three times, twice of these from the cache."""
    cdef Py_ssize_t c, i, s, row
    cdef double m = <double> n * <double> pixels
    cdef floating lane[LANES]
    cdef floating center, scale, shift
    for c in range(first, last):
        memset(lane, 0, sizeof(lane))
        for i in range(n):
            add(lane, x + (i * channels + c) * pixels, pixels)
        center = <floating> (total(lane) / m)
        memset(lane, 0, sizeof(lane))
        for i in range(n):
            add_squares(lane, x + (i * channels + c) * pixels, pixels, center)
        mean[c] = center
        inv_std[c] = <floating> (1 / sqrt(total(lane) / m + eps))
        scale, shift = weight[c] * inv_std[c], bias[c]
        for i in range(n):
            row = (i * channels + c) * pixels
            for s in range(row, row + pixels):
                y[s] = (x[s] - center) * scale + shift


cdef void normalize_vectors(Py_ssize_t n, Py_ssize_t channels, const floating *x, const floating *weight,
                            const floating *bias, double eps, floating *y, floating *mean, floating *inv_std,
                            floating *scale, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """The channels `first` to `last` of vectors: side by side, one row of x after the other."""
    cdef Py_ssize_t c, i
    cdef floating m = <floating> n
    for c in range(first, last):
        mean[c] = 0
        scale[c] = 0
    for i in range(n):
        for c in range(first, last):
            mean[c] += x[i * channels + c]
    for c in range(first, last):
        mean[c] /= m
    for i in range(n):
        for c in range(first, last):
            scale[c] += (x[i * channels + c] - mean[c]) * (x[i * channels + c] - mean[c])
    for c in range(first, last):
        inv_std[c] = <floating> (1 / sqrt(scale[c] / m + eps))
        scale[c] = weight[c] * inv_std[c]
    for i in range(n):
        for c in range(first, last):
            y[i * channels + c] = (x[i * channels + c] - mean[c]) * scale[c] + bias[c]


def batch_norm(x, const floating[::1] weight not None, const floating[::1] bias not None, double eps):
    """y like x, mean (C,) and inv_std (C,)."""
    x = np.asarray(x)
    if x.ndim < 2:
        raise ValueError(f"batch_norm: x must be (N, C, any), got {x.shape}")
    cdef const floating[::1] values = x.reshape(-1)
    cdef Py_ssize_t n = len(x), channels = weight.shape[0], pixels
    if values.shape[0] < 1 or x.shape[:2] != (n, channels) or bias.shape[0] != channels:
        raise ValueError(f"batch_norm: x {x.shape} does not go with {weight.shape[0]} weights and biases")
    pixels = values.shape[0] // (n * channels)
    dtype = np.float32 if floating is float else np.float64
    y, mean, inv_std = np.empty(x.shape, dtype), np.empty(channels, dtype), np.empty(channels, dtype)
    cdef floating[::1] out = y.reshape(-1), means = mean, inv_stds = inv_std
    cdef floating[::1] scale = np.empty(channels, dtype)
    cdef int team = team_for(threads, 60.0 * values.shape[0], channels), t
    with nogil:
        for t in prange(team, num_threads=team, schedule="static", use_threads_if=team > 1):
            if pixels > 1:
                normalize_images(n, channels, pixels, &values[0], &weight[0], &bias[0], eps, &out[0],
                                 &means[0], &inv_stds[0],
                                 begin(channels, t, team), begin(channels, t + 1, team))
            else:
                normalize_vectors(n, channels, &values[0], &weight[0], &bias[0], eps, &out[0], &means[0],
                                  &inv_stds[0], &scale[0],
                                  begin(channels, t, team), begin(channels, t + 1, team))
    return y, mean, inv_std


# ------------------------------------------------------------------------------------------------------------
# Backward: gx = weight inv_std (g - mean(g) - x^ mean(g x^)), x^ = (x - mean) inv_std
# ------------------------------------------------------------------------------------------------------------


cdef void backward_images(Py_ssize_t n, Py_ssize_t channels, Py_ssize_t pixels, const floating *g,
                          const floating *x, const floating *weight, const floating *mean,
                          const floating *inv_std, floating *gx, floating *gweight, floating *gbias,
                          Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """The channels `first` to `last` of images: both sums in one pass, gx in another."""
    cdef Py_ssize_t c, i, s, row
    cdef double m = <double> n * <double> pixels
    cdef floating sums[LANES]
    cdef floating products[LANES]
    cdef floating center, scale, g_mean, slope
    for c in range(first, last):
        memset(sums, 0, sizeof(sums))
        memset(products, 0, sizeof(products))
        for i in range(n):
            row = (i * channels + c) * pixels
            add(sums, g + row, pixels)
            add_products(products, g + row, x + row, pixels, mean[c])
        gbias[c] = <floating> total(sums)
        gweight[c] = <floating> (total(products) * inv_std[c])
        center, scale = mean[c], weight[c] * inv_std[c]
        g_mean, slope = <floating> (gbias[c] / m), <floating> (gweight[c] * inv_std[c] / m)
        for i in range(n):
            row = (i * channels + c) * pixels
            for s in range(row, row + pixels):
                gx[s] = (g[s] - g_mean - (x[s] - center) * slope) * scale


cdef void backward_vectors(Py_ssize_t n, Py_ssize_t channels, const floating *g, const floating *x,
                           const floating *weight, const floating *mean, const floating *inv_std,
                           floating *gx, floating *gweight, floating *gbias, floating *slope,
                           Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """The channels `first` to `last` of vectors."""
    cdef Py_ssize_t c, i
    cdef floating m = <floating> n
    for c in range(first, last):
        gbias[c] = 0
        gweight[c] = 0
    for i in range(n):
        for c in range(first, last):
            gbias[c] += g[i * channels + c]
            gweight[c] += g[i * channels + c] * (x[i * channels + c] - mean[c])
    for c in range(first, last):
        gweight[c] *= inv_std[c]
        slope[c] = gweight[c] * inv_std[c] / m
    for i in range(n):
        for c in range(first, last):
            gx[i * channels + c] = (g[i * channels + c] - gbias[c] / m
                                    - (x[i * channels + c] - mean[c]) * slope[c]) * (weight[c] * inv_std[c])


def batch_norm_input(g, x, const floating[::1] weight not None, const floating[::1] mean not None,
                     const floating[::1] inv_std not None):
    """gx like x, gweight (C,) and gbias (C,)."""
    g, x = np.asarray(g), np.asarray(x)
    if x.ndim < 2 or g.shape != x.shape:
        raise ValueError(f"batch_norm: x must be (N, C, any) and g too, got {x.shape} and {g.shape}")
    cdef const floating[::1] gs = g.reshape(-1), xs = x.reshape(-1)
    cdef Py_ssize_t n = len(x), channels = weight.shape[0], pixels
    if (xs.shape[0] < 1 or x.shape[:2] != (n, channels) or mean.shape[0] != channels
            or inv_std.shape[0] != channels):
        raise ValueError(f"batch_norm: x {x.shape} does not go with {weight.shape[0]} weights")
    pixels = xs.shape[0] // (n * channels)
    dtype = np.float32 if floating is float else np.float64
    gx, gweight, gbias = np.empty(x.shape, dtype), np.empty(channels, dtype), np.empty(channels, dtype)
    cdef floating[::1] out = gx.reshape(-1), gweights = gweight, gbiases = gbias
    cdef floating[::1] slope = np.empty(channels, dtype)
    cdef int team = team_for(threads, 60.0 * xs.shape[0], channels), t
    with nogil:
        for t in prange(team, num_threads=team, schedule="static", use_threads_if=team > 1):
            if pixels > 1:
                backward_images(n, channels, pixels, &gs[0], &xs[0], &weight[0], &mean[0], &inv_std[0],
                                &out[0], &gweights[0], &gbiases[0], begin(channels, t, team),
                                begin(channels, t + 1, team))
            else:
                backward_vectors(n, channels, &gs[0], &xs[0], &weight[0], &mean[0], &inv_std[0], &out[0],
                                 &gweights[0], &gbiases[0], &slope[0], begin(channels, t, team),
                                 begin(channels, t + 1, team))
    return gx, gweight, gbias
