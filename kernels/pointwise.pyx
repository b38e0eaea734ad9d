# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The gradients of transfer functions, in as few passes over memory as can be, for that is what they wait for.

    relu    gx = g where a >= 0, else 0
    tanh    gx = g 4 e / (1 + e)^2, e = exp(-2|a|): 1 / cosh^2 a, accurate at the ends, where 1 - y^2 is not

The exponentials are NumPy's, which computes several at a time.
"""

import numpy as np

from cpython.buffer cimport PyBUF_WRITABLE
from cython cimport floating
from cython.parallel cimport prange

from common cimport KERNELS_OPENMP, begin, numbers, team_for

OPENMP = bool(KERNELS_OPENMP)
cdef int threads = 1


def set_num_threads(int n):
    """How many threads a call may use."""
    global threads
    threads = max(n, 1)


cdef enum Pass:
    RELU, EXPONENT, TANH


cdef struct Arrays:
    const void *g
    const void *a
    void *gx
    Py_ssize_t size, itemsize


cdef void entries(Pass which, const floating *g, const floating *a, floating *gx, Py_ssize_t first,
                  Py_ssize_t last) noexcept nogil:
    """One pass over the entries `first` to `last`. The loops have no jumps, so that they become vectors."""
    cdef Py_ssize_t i
    cdef floating row
    if which == RELU:
        for i in range(first, last):
            row = g[i]  # read whatever the sign of a is: then the condition is a mask
            gx[i] = row if a[i] >= 0 else 0
    elif which == EXPONENT:
        for i in range(first, last):
            gx[i] = 2 * a[i] if a[i] < 0 else -2 * a[i]
    else:
        for i in range(first, last):
            gx[i] = g[i] * (4 * gx[i] / ((1 + gx[i]) * (1 + gx[i])))


cdef void run(Pass which, const Arrays *v, double work) noexcept nogil:
    """One pass, with as many threads as it deserves."""
    cdef int team = team_for(threads, work * v.size, v.size), t
    cdef Py_ssize_t first, last
    for t in prange(team, num_threads=team, schedule="static", use_threads_if=team > 1):
        first, last = begin(v.size, t, team), begin(v.size, t + 1, team)
        if v.itemsize == sizeof(float):
            entries(which, <float *> v.g, <float *> v.a, <float *> v.gx, first, last)
        else:
            entries(which, <double *> v.g, <double *> v.a, <double *> v.gx, first, last)


cdef Arrays arrays(g, a, gx) except *:
    """Contiguous arrays of one shape and dtype."""
    cdef Arrays v
    v.size = v.itemsize = 0
    v.g, v.a = numbers(g, 0, &v.size, &v.itemsize), numbers(a, 0, &v.size, &v.itemsize)
    if g.shape != a.shape:
        raise ValueError("kernel: g has not the shape of a")
    v.gx = numbers(gx, PyBUF_WRITABLE, &v.size, &v.itemsize)
    return v


def relu_vjp(g, a):
    """g times the slope of max(0, a), which is 1 at 0."""
    gx = np.empty_like(g)
    cdef Arrays v = arrays(g, a, gx)
    with nogil:
        run(RELU, &v, 16)
    return gx


def tanh_vjp(g, a):
    """g times the slope of tanh a."""
    gx = np.empty_like(g)
    cdef Arrays v = arrays(g, a, gx)
    with nogil:
        run(EXPONENT, &v, 16)
    np.exp(gx, gx)
    with nogil:
        run(TANH, &v, 16)
    return gx
