# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Softmax cross-entropy with whole-number labels: the losses of a batch and their slopes, in two passes.

With m the largest logit of a row, and e_k = exp(z_k - m), whose largest is 1,

    loss = (m - z_y) + log(1 + r),    r = the sum of all e_k but one that is 1,
    p_k = e_k / (1 + r),              1 - p_y = (the sum of all e_k but e_y) / (1 + r).

No term is negative and nothing is subtracted from 1, so both keep their relative accuracy however sure the
network is. The exponentials between the passes are NumPy's, which computes several at a time.
"""

import numpy as np

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport log1p

from common cimport KERNELS_OPENMP, begin, team_for

cdef extern from *:
    """
    /* The loops over the classes, in C so that they can be compiled twice: for any x86-64 processor, and for
       those with vectors of 32 bytes. The loader takes what the processor has. A row of many classes goes
       through LANES variables, see common.pxd. */
    #if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__AVX2__)
    #define CLONES __attribute__((target_clones("avx2", "default")))
    #else
    #define CLONES
    #endif
    #define LANES 32
    #define LARGER(a, b) ((a) > (b) ? (a) : (b))

    #define ROW_LOOPS(real)                                                                              \\
    CLONES static real center_##real(ptrdiff_t classes, const real *z, real *e)                          \\
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
            e[k] = z[k] - m;                                                                             \\
        return m;                                                                                        \\
    }                                                                                                    \\
    CLONES static double rest_##real(ptrdiff_t classes, const real *e)                                   \\
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
    CLONES static void scale_##real(ptrdiff_t classes, real *e, real factor)                             \\
    {                                                                                                    \\
        for (ptrdiff_t k = 0; k < classes; k++)                                                          \\
            e[k] *= factor;                                                                              \\
    }
    ROW_LOOPS(float)
    ROW_LOOPS(double)
    """
    float center_float(Py_ssize_t, const float *, float *) nogil
    double center_double(Py_ssize_t, const double *, double *) nogil
    double rest_float(Py_ssize_t, const float *) nogil
    double rest_double(Py_ssize_t, const double *) nogil
    void scale_float(Py_ssize_t, float *, float) nogil
    void scale_double(Py_ssize_t, double *, double) nogil

OPENMP = bool(KERNELS_OPENMP)
cdef int threads = 1


def set_num_threads(int n):
    """How many threads a call may use."""
    global threads
    threads = max(n, 1)


cdef void center(Py_ssize_t classes, const floating *z, floating *e, floating *largest,
                 Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """e = z - m for the rows `first` to `last`, and m, the largest of each."""
    cdef Py_ssize_t n
    for n in range(first, last):
        if floating is float:
            largest[n] = center_float(classes, z + n * classes, e + n * classes)
        else:
            largest[n] = center_double(classes, z + n * classes, e + n * classes)


cdef void finish(Py_ssize_t classes, const floating *z, const Py_ssize_t *labels, floating *e, floating *loss,
                 Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """The losses of the rows `first` to `last` in place of m, and their slopes p - e_y in place of e."""
    cdef Py_ssize_t n, y
    cdef floating others, scale
    cdef double r
    cdef floating *row
    for n in range(first, last):
        row, y = e + n * classes, labels[n]
        if floating is float:
            r = rest_float(classes, row)
        else:
            r = rest_double(classes, row)
        loss[n] = <floating> ((loss[n] - z[n * classes + y]) + log1p(r))
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
    for n in range(samples):
        if not 0 <= labels[n] < classes:
            raise ValueError(f"cross_entropy: labels must be 0 to {classes - 1}, got {labels[n]}")
    dtype = np.float32 if floating is float else np.float64
    losses, slopes = np.empty(samples, dtype), np.empty((samples, classes), dtype)
    cdef floating[::1] loss = losses
    cdef floating[:, ::1] e = slopes
    cdef int team = team_for(threads, 4.0 * samples * classes, samples), t
    with nogil:
        if team == 1:
            center(classes, &z[0, 0], &e[0, 0], &loss[0], 0, samples)
        else:
            for t in prange(team, num_threads=team, schedule="static"):
                center(classes, &z[0, 0], &e[0, 0], &loss[0], begin(samples, t, team), begin(samples, t + 1, team))
    np.exp(slopes, slopes)
    with nogil:
        if team == 1:
            finish(classes, &z[0, 0], &labels[0], &e[0, 0], &loss[0], 0, samples)
        else:
            for t in prange(team, num_threads=team, schedule="static"):
                finish(classes, &z[0, 0], &labels[0], &e[0, 0], &loss[0],
                       begin(samples, t, team), begin(samples, t + 1, team))
    return losses, slopes


def cross_entropy(z not None, labels not None):
    """loss (N,) and slopes (N, K), the gradient of each loss with respect to its row of z (N, K)."""
    return losses_and_slopes[float](z, labels) if z.itemsize == 4 else losses_and_slopes[double](z, labels)
