# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""One step of stochastic gradient descent: each weight, its gradient and its velocity pass through the
processor once, those of all parameters in one call.

    v <- mu v - lr (g + decay w),    w <- w + v,    or w <- w + (mu v - lr (g + decay w)) with Nesterov's look
    ahead, or w <- w - lr (g + decay w) without a velocity.
"""

from cpython.buffer cimport PyBUF_WRITABLE
from cython cimport floating
from cython.parallel cimport prange
from libc.stdlib cimport free, malloc

from common cimport KERNELS_OPENMP, begin, numbers, team_for

OPENMP = bool(KERNELS_OPENMP)
cdef int threads = 1


def set_num_threads(int n):
    """How many threads a call may use."""
    global threads
    threads = max(n, 1)


cdef struct Parameter:
    void *w
    void *g
    void *v  # NULL without momentum
    Py_ssize_t size, itemsize


cdef struct Rule:
    double lr, mu, decay
    bint nesterov


cdef void descend(floating *w, const floating *g, floating *v, const Rule *rule, Py_ssize_t first,
                  Py_ssize_t last) noexcept nogil:
    """The entries `first` to `last` of one parameter."""
    cdef floating lr = <floating> rule.lr, mu = <floating> rule.mu, decay = <floating> rule.decay
    cdef Py_ssize_t i
    if v == NULL:
        for i in range(first, last):
            w[i] -= lr * (g[i] + decay * w[i])
    elif rule.nesterov:
        for i in range(first, last):
            v[i] = mu * v[i] - lr * (g[i] + decay * w[i])
            w[i] += mu * v[i] - lr * (g[i] + decay * w[i])
    else:
        for i in range(first, last):
            v[i] = mu * v[i] - lr * (g[i] + decay * w[i])
            w[i] += v[i]


cdef void descend_all(const Parameter *p, Py_ssize_t count, const Rule *rule, Py_ssize_t first,
                      Py_ssize_t last) noexcept nogil:
    """The entries `first` to `last`, counted through all parameters."""
    cdef Py_ssize_t k, low, high
    for k in range(count):
        low, high = max(first, <Py_ssize_t> 0), min(last, p[k].size)
        if low < high:
            if p[k].itemsize == sizeof(float):
                descend(<float *> p[k].w, <float *> p[k].g, <float *> p[k].v, rule, low, high)
            else:
                descend(<double *> p[k].w, <double *> p[k].g, <double *> p[k].v, rule, low, high)
        first -= p[k].size
        last -= p[k].size


def sgd(list weights not None, list gradients not None, list velocities, double lr, double mu, double decay,
        bint nesterov):
    """Change weights and velocities, contiguous arrays, in place; all or, if one is refused, none."""
    cdef Py_ssize_t count = len(weights), total = 0, k
    if len(gradients) != count or (velocities is not None and len(velocities) != count):
        raise ValueError(f"sgd: {count} parameters, {len(gradients)} gradients, or another number of velocities")
    cdef Rule rule = Rule(lr, mu, decay, nesterov)
    cdef Parameter *p = <Parameter *> malloc((count + 1) * sizeof(Parameter))
    cdef int team, t
    if p == NULL:
        raise MemoryError("sgd: no memory for a table of the parameters")
    try:
        for k in range(count):
            p[k].size = p[k].itemsize = 0
            p[k].w = numbers(weights[k], PyBUF_WRITABLE, &p[k].size, &p[k].itemsize)
            p[k].g = numbers(gradients[k], 0, &p[k].size, &p[k].itemsize)
            p[k].v = NULL
            if gradients[k].shape != weights[k].shape:
                raise ValueError("sgd: a gradient has not the shape of its weight")
            if velocities is not None:
                if velocities[k].shape != weights[k].shape:
                    raise ValueError("sgd: a velocity has not the shape of its weight")
                p[k].v = numbers(velocities[k], PyBUF_WRITABLE, &p[k].size, &p[k].itemsize)
            total += p[k].size
        team = team_for(threads, 20.0 * total, total)
        with nogil:
            if team == 1:
                descend_all(p, count, &rule, 0, total)
            else:
                for t in prange(team, num_threads=team, schedule="static"):
                    descend_all(p, count, &rule, begin(total, t, team), begin(total, t + 1, team))
    finally:
        free(p)
