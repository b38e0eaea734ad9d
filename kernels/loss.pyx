# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Two cross-entropies: the losses of a batch and their slopes, row by row.

The softmax one, with whole-number labels.

With m the largest logit of a row, and e_k = exp(z_k - m), whose largest is 1,

    loss = (m - z_y) + log(1 + r),    r = the sum of all e_k but one that is 1,
    p_k = e_k / (1 + r),              1 - p_y = (the sum of all e_k but e_y) / (1 + r).

No term is negative and nothing is subtracted from 1, so both keep their relative accuracy however sure the
network is.

The binary one, summed over classes k each of which is present to the degree r_k. With e_k = exp(-|z_k|),

    loss = sum over k of [log(1 + e_k) + |z_k| (1 - r_k where z_k >= 0, else r_k)],
    slope_k = (1 - r_k) s - r_k e_k s where z_k >= 0, else (1 - r_k) e_k s - r_k s,    s = 1 / (1 + e_k).

A logarithm takes longer than all the rest: so of many log(1 + e_k) one is made, that of their product. It is kept less
1, as q <- q + e + q e, so that it stays accurate where all e_k are tiny.
"""

import numpy as np

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport log1p
from libc.stdint cimport uintptr_t
from libc.string cimport memset

from common cimport KERNELS_OPENMP, begin, team_for
from lanes cimport LANES

cdef extern from "exp.h":
    pass

cdef extern from *:
    """
    /* The loops over the classes, in C so that they can be compiled for several processors, see exp.h. A row of
       many classes goes through LANES variables, see lanes.h. */
    #define LARGER(a, b) ((a) > (b) ? (a) : (b))

    #define ROW_LOOPS(real)                                                                              \\
    EXP_CLONES static real powers_##real(ptrdiff_t classes, const real *z, real *e)                      \\
    {                                                                                                    \\
        real m = z[0], lane[LANES];                                                                      \\
        ptrdiff_t k = 0;                                                                                 \\
        if (classes >= LANES) {                                                                          \\
            for (int l = 0; l < LANES; l++)                                                              \\
                lane[l] = z[l];                                                                          \\
            for (k = LANES; k + LANES <= classes; k += LANES)                                            \\
                for (int l = 0; l < LANES; l++)                                                          \\
                    lane[l] = LARGER(z[k + l], lane[l]);                                                 \\
            for (int l = 0; l < LANES; l++)                                                              \\
                m = LARGER(lane[l], m);                                                                  \\
        }                                                                                                \\
        for (; k < classes; k++)                                                                         \\
            m = LARGER(z[k], m);                                                                         \\
        for (k = 0; k < classes; k++)                                                                    \\
            e[k] = exp_##real(z[k] - m);                                                                 \\
        return m;                                                                                        \\
    }                                                                                                    \\
    EXP_CLONES static double rest_##real(ptrdiff_t classes, const real *e)                               \\
    {                                                                                                    \\
        double smaller = 0, ones = 0;                                                                    \\
        ptrdiff_t k = 0;                                                                                 \\
        if (classes >= LANES) {                                                                          \\
            real lane[LANES] = {0}, one[LANES] = {0};                                                    \\
            for (; k + LANES <= classes; k += LANES) {                                                   \\
                for (int l = 0; l < LANES; l++)                                                          \\
                    lane[l] += e[k + l] == 1 ? 0 : e[k + l];                                             \\
                for (int l = 0; l < LANES; l++)                                                          \\
                    one[l] += e[k + l] == 1 ? (real)1 : 0;                                               \\
            }                                                                                            \\
            for (int l = 0; l < LANES; l++) {                                                            \\
                smaller += lane[l];                                                                      \\
                ones += one[l];                                                                          \\
            }                                                                                            \\
        }                                                                                                \\
        for (; k < classes; k++) {                                                                       \\
            smaller += e[k] == 1 ? 0 : e[k];                                                             \\
            ones += e[k] == 1;                                                                           \\
        }                                                                                                \\
        return smaller + (ones - 1);                                                                     \\
    }                                                                                                    \\
    EXP_CLONES static void scale_##real(ptrdiff_t classes, real *e, real factor)                         \\
    {                                                                                                    \\
        for (ptrdiff_t k = 0; k < classes; k++)                                                          \\
            e[k] *= factor;                                                                              \\
    }                                                                                                    \\
    EXP_CLONES static void binary_##real(ptrdiff_t classes, const real *z, const real *r, real *slope,   \\
                                         real *product, real *linear)                                    \\
    {                                                                                                    \\
        for (ptrdiff_t k = 0; k < classes; k++) {                                                        \\
            const real size = z[k] >= 0 ? z[k] : -z[k], e = exp_##real(-size);                           \\
            const real s = 1 / (1 + e), far = e * s, absent = 1 - r[k], wrong = z[k] >= 0 ? absent : r[k];\\
            product[k] += e + product[k] * e;                                                            \\
            linear[k] += wrong == 0 ? 0 : wrong * size;                                                  \\
            slope[k] = z[k] >= 0 ? absent * s - r[k] * far : absent * far - r[k] * s;                    \\
        }                                                                                                \\
    }
    ROW_LOOPS(float)
    ROW_LOOPS(double)
    """
    float powers_float(Py_ssize_t, const float *, float *) nogil
    double powers_double(Py_ssize_t, const double *, double *) nogil
    double rest_float(Py_ssize_t, const float *) nogil
    double rest_double(Py_ssize_t, const double *) nogil
    void scale_float(Py_ssize_t, float *, float) nogil
    void scale_double(Py_ssize_t, double *, double) nogil
    void binary_float(Py_ssize_t, const float *, const float *, float *, float *, float *) nogil
    void binary_double(Py_ssize_t, const double *, const double *, double *, double *, double *) nogil

OPENMP = bool(KERNELS_OPENMP)
cdef int threads = 1


def set_num_threads(int n):
    """How many threads a call may use."""
    global threads
    threads = max(n, 1)


cdef void rows(Py_ssize_t classes, const floating *z, const Py_ssize_t *labels, floating *e, floating *loss,
               Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """The losses of the rows `first` to `last`, and their slopes p - e_y in place of e."""
    cdef Py_ssize_t n, y
    cdef floating m, others, scale
    cdef double r
    cdef floating *row
    for n in range(first, last):
        row, y = e + n * classes, labels[n]
        if floating is float:
            m = powers_float(classes, z + n * classes, row)
            r = rest_float(classes, row)
        else:
            m = powers_double(classes, z + n * classes, row)
            r = rest_double(classes, row)
        loss[n] = <floating> ((m - z[n * classes + y]) + log1p(r))
        others = <floating> (r if row[y] == 1 else 1 + (r - row[y]))
        scale = <floating> (1 / (1 + r))
        if floating is float:
            scale_float(classes, row, scale)
        else:
            scale_double(classes, row, scale)
        row[y] = -others * scale


cdef losses_and_slopes(const floating[:, ::1] z, const Py_ssize_t[::1] labels):
    cdef Py_ssize_t samples = z.shape[0], classes = z.shape[1], n
    if samples < 1 or classes < 1 or labels.shape[0] != samples:
        raise ValueError(f"cross_entropy: {samples} rows of {classes} logits, {labels.shape[0]} labels")
    if <uintptr_t> &z[0, 0] % sizeof(floating) or <uintptr_t> &labels[0] % sizeof(Py_ssize_t):
        raise TypeError("cross_entropy: arrays must be aligned")
    for n in range(samples):
        if not 0 <= labels[n] < classes:
            raise ValueError(f"cross_entropy: labels must be 0 to {classes - 1}, got {labels[n]}")
    dtype = np.float32 if floating is float else np.float64
    losses, slopes = np.empty(samples, dtype), np.empty((samples, classes), dtype)
    cdef floating[::1] loss = losses
    cdef floating[:, ::1] e = slopes
    cdef int team = team_for(threads, 100.0 * samples * classes, samples), t
    with nogil:
        if team == 1:
            rows(classes, &z[0, 0], &labels[0], &e[0, 0], &loss[0], 0, samples)
        else:
            for t in prange(team, num_threads=team, schedule="static"):
                rows(classes, &z[0, 0], &labels[0], &e[0, 0], &loss[0],
                     begin(samples, t, team), begin(samples, t + 1, team))
    return losses, slopes


def cross_entropy(z not None, labels not None):
    """loss (N,) and slopes (N, K), the gradient of each loss with respect to its row of z (N, K)."""
    return losses_and_slopes[float](z, labels) if z.itemsize == 4 else losses_and_slopes[double](z, labels)


# ------------------------------------------------------------------------------------------------------------
# Binary cross-entropy
# ------------------------------------------------------------------------------------------------------------

cdef enum:
    FACTORS = 64    # of a product: at most 2^64, which a float holds


cdef void binary_rows(Py_ssize_t classes, const floating *z, const floating *r, floating *slope, floating *loss,
                      Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """The losses of the rows `first` to `last`, and their slopes; LANES sums and products at a time."""
    cdef Py_ssize_t n, k, here, i, factors
    cdef floating product[LANES]
    cdef floating linear[LANES]
    cdef double sum
    for n in range(first, last):
        sum = 0
        k = factors = 0
        while k < classes:
            if factors == 0:
                memset(product, 0, sizeof(product))
                memset(linear, 0, sizeof(linear))
            here = min(classes - k, <Py_ssize_t> LANES)
            if floating is float:
                binary_float(here, z + n * classes + k, r + n * classes + k, slope + n * classes + k, product, linear)
            else:
                binary_double(here, z + n * classes + k, r + n * classes + k, slope + n * classes + k, product, linear)
            k += here
            factors = (factors + 1) % FACTORS
            if factors == 0 or k == classes:
                for i in range(LANES):
                    sum += log1p(product[i]) + linear[i]
        loss[n] = <floating> sum


cdef binary_losses_and_slopes(const floating[:, ::1] z, const floating[:, ::1] r):
    cdef Py_ssize_t samples = z.shape[0], classes = z.shape[1]
    if samples < 1 or classes < 1 or r.shape[0] != samples or r.shape[1] != classes:
        raise ValueError(f"binary_cross_entropy: logits {(samples, classes)}, labels {(r.shape[0], r.shape[1])}")
    dtype = np.float32 if floating is float else np.float64
    losses, slopes = np.empty(samples, dtype), np.empty((samples, classes), dtype)
    cdef floating[::1] loss = losses
    cdef floating[:, ::1] slope = slopes
    cdef int team = team_for(threads, 150.0 * samples * classes, samples), t
    with nogil:
        if team == 1:
            binary_rows(classes, &z[0, 0], &r[0, 0], &slope[0, 0], &loss[0], 0, samples)
        else:
            for t in prange(team, num_threads=team, schedule="static"):
                binary_rows(classes, &z[0, 0], &r[0, 0], &slope[0, 0], &loss[0],
                            begin(samples, t, team), begin(samples, t + 1, team))
    return losses, slopes


def binary_cross_entropy(z not None, r not None):
    """loss (N,), the sums over the classes, and slopes (N, K), for logits z (N, K) and degrees r (N, K) in [0, 1]."""
    if z.itemsize == 4:
        return binary_losses_and_slopes[float](z, r)
    return binary_losses_and_slopes[double](z, r)
