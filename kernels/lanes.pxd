"""Long sums, kept in LANES variables: see lanes.h."""

from cython cimport floating

cdef extern from "lanes.h":
    enum: LANES
    void add_in_lanes_float(float *, const float *, Py_ssize_t) nogil
    void add_in_lanes_double(double *, const double *, Py_ssize_t) nogil


cdef inline void add(floating *lane, const floating *x, Py_ssize_t count) noexcept nogil:
    """lane += x, `count` numbers."""
    if floating is float:
        add_in_lanes_float(lane, x, count)
    else:
        add_in_lanes_double(lane, x, count)


cdef inline double total(const floating *lane) noexcept nogil:
    """The sum of the lanes."""
    cdef double result = 0
    cdef Py_ssize_t i
    for i in range(LANES):
        result += lane[i]
    return result
