# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Transfer functions and their gradients, in one pass over memory, for that is what they wait for.

    relu        y = 0 where a < 0, else a
    relu_vjp    gx = g where a >= 0, else 0
    tanh_vjp    gx = g 4 e / (1 + e)^2, e = exp(-2|a|): 1 / cosh^2 a, accurate at the ends, where 1 - y^2 is not
"""

import numpy as np

from cpython.buffer cimport PyBUF_WRITABLE
from cython cimport floating
from cython.parallel cimport prange

from common cimport KERNELS_OPENMP, begin, numbers, team_for

cdef extern from "exp.h":
    pass

cdef extern from *:
    """
    /* The loops, in C so that they can be compiled for several processors, see exp.h. They have no jumps: g is read
       whatever the sign of a is, and the condition is a mask. */
    #define ENTRIES(real)                                                                                           \\
    EXP_CLONES static void relu_##real(ptrdiff_t size, const real *a, real *y)                                      \\
    {                                                                                                               \\
        for (ptrdiff_t i = 0; i < size; i++)                                                                        \\
            y[i] = a[i] < 0 ? 0 : a[i];                                                                             \\
    }                                                                                                               \\
    EXP_CLONES static void relu_vjp_##real(ptrdiff_t size, const real *g, const real *a, real *gx)                  \\
    {                                                                                                               \\
        for (ptrdiff_t i = 0; i < size; i++) {                                                                      \\
            const real row = g[i];                                                                                  \\
            gx[i] = a[i] >= 0 ? row : 0;                                                                            \\
        }                                                                                                           \\
    }                                                                                                               \\
    EXP_CLONES static void tanh_vjp_##real(ptrdiff_t size, const real *g, const real *a, real *gx)                  \\
    {                                                                                                               \\
        for (ptrdiff_t i = 0; i < size; i++) {                                                                      \\
            const real e = exp_##real(a[i] < 0 ? 2 * a[i] : -2 * a[i]);                                             \\
            gx[i] = g[i] * (4 * e / ((1 + e) * (1 + e)));                                                           \\
        }                                                                                                           \\
    }
    ENTRIES(float)
    ENTRIES(double)
    """
    void relu_float(Py_ssize_t, const float *, float *) nogil
    void relu_double(Py_ssize_t, const double *, double *) nogil
    void relu_vjp_float(Py_ssize_t, const float *, const float *, float *) nogil
    void relu_vjp_double(Py_ssize_t, const double *, const double *, double *) nogil
    void tanh_vjp_float(Py_ssize_t, const float *, const float *, float *) nogil
    void tanh_vjp_double(Py_ssize_t, const double *, const double *, double *) nogil

OPENMP = bool(KERNELS_OPENMP)
cdef int threads = 1


def set_num_threads(int n):
    """How many threads a call may use."""
    global threads
    threads = max(n, 1)


cdef enum Function:
    RELU, RELU_VJP, TANH_VJP


cdef struct Arrays:
    const void *g
    const void *a
    void *out
    Py_ssize_t size, itemsize


cdef void entries(Function f, const floating *g, const floating *a, floating *out, Py_ssize_t size) noexcept nogil:
    if floating is float:
        if f == RELU:
            relu_float(size, a, out)
        elif f == RELU_VJP:
            relu_vjp_float(size, g, a, out)
        else:
            tanh_vjp_float(size, g, a, out)
    elif f == RELU:
        relu_double(size, a, out)
    elif f == RELU_VJP:
        relu_vjp_double(size, g, a, out)
    else:
        tanh_vjp_double(size, g, a, out)


cdef void stretch(Function f, const Arrays *v, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """The entries `first` to `last`."""
    if v.itemsize == sizeof(float):
        entries(f, <float *> v.g + first, <float *> v.a + first, <float *> v.out + first, last - first)
    else:
        entries(f, <double *> v.g + first, <double *> v.a + first, <double *> v.out + first, last - first)


cdef void run(Function f, const Arrays *v, double work) noexcept nogil:
    """All entries, with as many threads as they deserve: `work` is that of one entry."""
    cdef int team = team_for(threads, work * v.size, v.size), t
    if team == 1:  # a parallel region of one thread would take longer than a thousand entries
        stretch(f, v, 0, v.size)
    else:
        for t in prange(team, num_threads=team, schedule="static"):
            stretch(f, v, begin(v.size, t, team), begin(v.size, t + 1, team))


cdef Arrays arrays(g, a, out) except *:
    """Contiguous arrays of one shape and dtype."""
    cdef Arrays v
    v.size = v.itemsize = 0
    v.g, v.a = numbers(g, 0, &v.size, &v.itemsize), numbers(a, 0, &v.size, &v.itemsize)
    if g.shape != a.shape:
        raise ValueError("kernel: g has not the shape of a")
    v.out = numbers(out, PyBUF_WRITABLE, &v.size, &v.itemsize)
    return v


def relu(a):
    """max(0, a); NaN stays NaN."""
    y = np.empty_like(a)
    cdef Arrays v = arrays(a, a, y)
    with nogil:
        run(RELU, &v, 40)
    return y


def relu_vjp(g, a):
    """g times the slope of max(0, a), which is 1 at 0."""
    gx = np.empty_like(g)
    cdef Arrays v = arrays(g, a, gx)
    with nogil:
        run(RELU_VJP, &v, 40)
    return gx


def tanh_vjp(g, a):
    """g times the slope of tanh a."""
    gx = np.empty_like(g)
    cdef Arrays v = arrays(g, a, gx)
    with nogil:
        run(TANH_VJP, &v, 100)
    return gx
