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

from common cimport KERNELS_OPENMP, begin, team_for
from lanes cimport LANES, add, total

cdef extern from *:
    """
    /* The loops over images, in C so that they can be compiled twice; sums in lanes, see lanes.h. */
    #include "lanes.h"

    #define LOOPS(real)                                                                                  \
    CLONES("avx2")                                                                                       \
    static void add_squares_##real(real *restrict sum, const real *restrict x, ptrdiff_t count,          \
                                   real mean)                                                            \
    {                                                                                                    \
        const real *g = x;                                                                               \
        EACH_IN_A_LANE(sum[l] += (x[l] - mean) * (x[l] - mean);)                                         \
    }                                                                                                    \
    CLONES("avx2")                                                                                       \
    static void add_products_##real(real *restrict sum, real *restrict product, const real *g,           \
                                    const real *x, ptrdiff_t count, real mean)                           \
    {                                                                                                    \
        EACH_IN_A_LANE(sum[l] += g[l]; product[l] += g[l] * (x[l] - mean);)                              \
    }                                                                                                    \
    CLONES("avx2")                                                                                       \
    static void scale_##real(real *restrict y, const real *restrict x, ptrdiff_t count, real mean,       \
                             real scale, real shift)                                                     \
    {                                                                                                    \
        for (ptrdiff_t s = 0; s < count; s++)                                                            \
            y[s] = (x[s] - mean) * scale + shift;                                                        \
    }                                                                                                    \
    CLONES("avx2")                                                                                       \
    static void pull_##real(real *restrict gx, const real *g, const real *x, ptrdiff_t count,            \
                            real g_mean, real mean, real slope, real scale)                              \
    {                                                                                                    \
        for (ptrdiff_t s = 0; s < count; s++)                                                            \
            gx[s] = (g[s] - g_mean - (x[s] - mean) * slope) * scale;                                     \
    }
    LOOPS(float)
    LOOPS(double)
    """
    void add_squares_float(float *, const float *, Py_ssize_t, float) nogil
    void add_squares_double(double *, const double *, Py_ssize_t, double) nogil
    void add_products_float(float *, float *, const float *, const float *, Py_ssize_t, float) nogil
    void add_products_double(double *, double *, const double *, const double *, Py_ssize_t, double) nogil
    void scale_float(float *, const float *, Py_ssize_t, float, float, float) nogil
    void scale_double(double *, const double *, Py_ssize_t, double, double, double) nogil
    void pull_float(float *, const float *, const float *, Py_ssize_t, float, float, float, float) nogil
    void pull_double(double *, const double *, const double *, Py_ssize_t, double, double, double, double) nogil

OPENMP = bool(KERNELS_OPENMP)
cdef int threads = 1


def set_num_threads(int n):
    """How many threads a call may use."""
    global threads
    threads = max(n, 1)


# ------------------------------------------------------------------------------------------------------------
# Forward
# ------------------------------------------------------------------------------------------------------------


cdef void normalize_images(Py_ssize_t n, Py_ssize_t channels, Py_ssize_t pixels, const floating *x,
                           const floating *weight, const floating *bias, double eps, floating *y,
                           floating *mean, floating *inv_std,
                           Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """The channels `first` to `last` of images: each is read three times, twice of these from the cache."""
    cdef Py_ssize_t c, i
    cdef double m = <double> n * <double> pixels
    cdef floating lane[LANES]
    cdef floating center, scale, shift
    cdef const floating *row
    cdef floating *out
    for c in range(first, last):
        memset(lane, 0, sizeof(lane))
        for i in range(n):
            add(lane, x + (i * channels + c) * pixels, pixels)
        center = <floating> (total(lane) / m)
        memset(lane, 0, sizeof(lane))
        for i in range(n):
            row = x + (i * channels + c) * pixels
            if floating is float:
                add_squares_float(lane, row, pixels, center)
            else:
                add_squares_double(lane, row, pixels, center)
        mean[c] = center
        inv_std[c] = <floating> (1 / sqrt(total(lane) / m + eps))
        scale, shift = weight[c] * inv_std[c], bias[c]
        for i in range(n):
            row, out = x + (i * channels + c) * pixels, y + (i * channels + c) * pixels
            if floating is float:
                scale_float(out, row, pixels, center, scale, shift)
            else:
                scale_double(out, row, pixels, center, scale, shift)


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
    cdef Py_ssize_t c, i, row
    cdef double m = <double> n * <double> pixels
    cdef floating sums[LANES]
    cdef floating products[LANES]
    cdef floating center, scale, g_mean, slope
    for c in range(first, last):
        memset(sums, 0, sizeof(sums))
        memset(products, 0, sizeof(products))
        for i in range(n):
            row = (i * channels + c) * pixels
            if floating is float:
                add_products_float(sums, products, g + row, x + row, pixels, mean[c])
            else:
                add_products_double(sums, products, g + row, x + row, pixels, mean[c])
        gbias[c] = <floating> total(sums)
        gweight[c] = <floating> (total(products) * inv_std[c])
        center, scale = mean[c], weight[c] * inv_std[c]
        g_mean, slope = <floating> (gbias[c] / m), <floating> (gweight[c] * inv_std[c] / m)
        for i in range(n):
            row = (i * channels + c) * pixels
            if floating is float:
                pull_float(gx + row, g + row, x + row, pixels, g_mean, center, slope, scale)
            else:
                pull_double(gx + row, g + row, x + row, pixels, g_mean, center, slope, scale)


cdef void backward_vectors(Py_ssize_t n, Py_ssize_t channels, const floating *g, const floating *x,
                           const floating *weight, const floating *mean, const floating *inv_std,
                           floating *gx, floating *gweight, floating *gbias, floating *room,
                           Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """The channels `first` to `last` of vectors."""
    cdef Py_ssize_t c, i
    cdef floating m = <floating> n
    cdef floating *g_mean = room
    cdef floating *slope = room + channels
    cdef floating *scale = room + 2 * channels
    for c in range(first, last):
        gbias[c] = 0
        gweight[c] = 0
    for i in range(n):
        for c in range(first, last):
            gbias[c] += g[i * channels + c]
            gweight[c] += g[i * channels + c] * (x[i * channels + c] - mean[c])
    for c in range(first, last):
        gweight[c] *= inv_std[c]
        g_mean[c] = gbias[c] / m
        slope[c] = gweight[c] * inv_std[c] / m
        scale[c] = weight[c] * inv_std[c]
    for i in range(n):
        for c in range(first, last):
            gx[i * channels + c] = (g[i * channels + c] - g_mean[c]
                                    - (x[i * channels + c] - mean[c]) * slope[c]) * scale[c]


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
    cdef floating[::1] room = np.empty(3 * channels, dtype)
    cdef int team = team_for(threads, 60.0 * xs.shape[0], channels), t
    with nogil:
        for t in prange(team, num_threads=team, schedule="static", use_threads_if=team > 1):
            if pixels > 1:
                backward_images(n, channels, pixels, &gs[0], &xs[0], &weight[0], &mean[0], &inv_std[0],
                                &out[0], &gweights[0], &gbiases[0], begin(channels, t, team),
                                begin(channels, t + 1, team))
            else:
                backward_vectors(n, channels, &gs[0], &xs[0], &weight[0], &mean[0], &inv_std[0], &out[0],
                                 &gweights[0], &gbiases[0], &room[0], begin(channels, t, team),
                                 begin(channels, t + 1, team))
    return gx, gweight, gbias
