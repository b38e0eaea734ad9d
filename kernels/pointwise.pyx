# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The gradients of transfer functions, each in one pass over memory, which is what they wait for.

    relu    gx = g where a >= 0, else 0
    tanh    gx = g (1 - y) (1 + y); near the ends, where 1 - y has few digits left, g 4 e / (1 + e)^2, e = exp(-2|a|)
"""

import numpy as np

from cpython.buffer cimport PyBUF_WRITABLE
from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport exp, fabs

from common cimport KERNELS_OPENMP, begin, numbers, team_for

OPENMP = bool(KERNELS_OPENMP)
cdef int threads = 1


def set_num_threads(int n):
    """How many threads a call may use."""
    global threads
    threads = max(n, 1)


cdef struct Arrays:
    const void *g
    const void *a
    const void *y   # NULL for relu, which does not need it
    void *gx
    Py_ssize_t size, itemsize


cdef void relu(const floating *g, const floating *a, floating *gx, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    cdef Py_ssize_t i
    cdef floating row
    for i in range(first, last):
        row = g[i]  # read whatever the sign of a is: a condition on a number becomes a mask, one on a read a jump
        gx[i] = row if a[i] >= 0 else 0


cdef void tanh(const floating *g, const floating *a, const floating *y, floating *gx, Py_ssize_t first,
               Py_ssize_t last) noexcept nogil:
    cdef Py_ssize_t i
    cdef double e
    for i in range(first, last):
        if -0.95 < y[i] < 0.95:
            gx[i] = g[i] * ((1 - y[i]) * (1 + y[i]))
        else:
            e = exp(-2 * fabs(a[i]))
            gx[i] = g[i] * <floating> (4 * e / ((1 + e) * (1 + e)))


cdef void part(const Arrays *v, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """The entries `first` to `last`."""
    if v.itemsize == sizeof(float):
        if v.y == NULL:
            relu(<float *> v.g, <float *> v.a, <float *> v.gx, first, last)
        else:
            tanh(<float *> v.g, <float *> v.a, <float *> v.y, <float *> v.gx, first, last)
    elif v.y == NULL:
        relu(<double *> v.g, <double *> v.a, <double *> v.gx, first, last)
    else:
        tanh(<double *> v.g, <double *> v.a, <double *> v.y, <double *> v.gx, first, last)


cdef vjp(g, a, y, double work):
    """gx, of the shape that g, a and y have; contiguous arrays of one dtype."""
    cdef Arrays v
    cdef int team, t
    v.size = v.itemsize = 0
    v.g, v.a, v.y = numbers(g, 0, &v.size, &v.itemsize), numbers(a, 0, &v.size, &v.itemsize), NULL
    if g.shape != a.shape:
        raise ValueError("kernel: g has not the shape of a")
    if y is not None:
        v.y = numbers(y, 0, &v.size, &v.itemsize)
    gx = np.empty_like(g)
    v.gx = numbers(gx, PyBUF_WRITABLE, &v.size, &v.itemsize)
    team = team_for(threads, work * v.size, v.size)
    with nogil:
        if team == 1:
            part(&v, 0, v.size)
        else:
            for t in prange(team, num_threads=team, schedule="static"):
                part(&v, begin(v.size, t, team), begin(v.size, t + 1, team))
    return gx


def relu_vjp(g, a):
    """g times the slope of max(0, a), which is 1 at 0."""
    return vjp(g, a, None, 16)


def tanh_vjp(g, a, y not None):
    """g times the slope of y = tanh a."""
    return vjp(g, a, y, 60)
