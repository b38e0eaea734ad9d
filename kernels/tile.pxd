"""The tiles of tile.h for both precisions, and what brings numbers into the order in which a tile reads them."""

from cython cimport floating

from common cimport pieces

cdef extern from "tile.h" nogil:
    enum: VECTOR_BYTES, OUTER_ROWS, DOT_ROWS, DOT_COLUMNS
    int use_vectors(int)
    void prefetch(const void *)
    void outer_float(int, Py_ssize_t, const float *, const float *, const float *, const Py_ssize_t *, float *,
                     Py_ssize_t, const float *)
    void outer_double(int, Py_ssize_t, const double *, const double *, const double *, const Py_ssize_t *, double *,
                      Py_ssize_t, const double *)
    void spread_float(int, Py_ssize_t, const float *, const float *, float *, float *, const Py_ssize_t *)
    void spread_double(int, Py_ssize_t, const double *, const double *, double *, double *, const Py_ssize_t *)
    void dot_float(int, Py_ssize_t, const float *, const float *, Py_ssize_t, float *, Py_ssize_t)
    void dot_double(int, Py_ssize_t, const double *, const double *, Py_ssize_t, double *, Py_ssize_t)
    void add_float(int, const float *, Py_ssize_t, float *, const Py_ssize_t *)
    void add_double(int, const double *, Py_ssize_t, double *, const Py_ssize_t *)
    void turn_float(const float *, Py_ssize_t, float *, Py_ssize_t)
    void turn_double(const double *, Py_ssize_t, double *, Py_ssize_t)


cdef inline void outer(Py_ssize_t rows, Py_ssize_t depth, const floating *a, const floating *left,
                       const floating *right, const Py_ssize_t *row, floating *c, Py_ssize_t stride,
                       const floating *start) noexcept nogil:
    """c = start + a b, or c += a b without start: a tile."""
    if floating is float:
        outer_float(<int> rows, depth, a, left, right, row, c, stride, start)
    else:
        outer_double(<int> rows, depth, a, left, right, row, c, stride, start)


cdef inline void spread(Py_ssize_t rows, Py_ssize_t depth, const floating *a, const floating *b, floating *left,
                        floating *right, const Py_ssize_t *place) noexcept nogil:
    """c += a b, a tile whose rows lie at left + place[r] and right + place[r]."""
    if floating is float:
        spread_float(<int> rows, depth, a, b, left, right, place)
    else:
        spread_double(<int> rows, depth, a, b, left, right, place)


cdef inline void dot(Py_ssize_t rows, Py_ssize_t depth, const floating *a, const floating *b,
                     Py_ssize_t stride, floating *c, Py_ssize_t c_stride) noexcept nogil:
    """c += a b^T, a tile."""
    if floating is float:
        dot_float(<int> rows, depth, a, b, stride, c, c_stride)
    else:
        dot_double(<int> rows, depth, a, b, stride, c, c_stride)


cdef inline void add_rows(Py_ssize_t rows, const floating *a, Py_ssize_t stride, floating *c,
                          const Py_ssize_t *row) noexcept nogil:
    """c[row[r]] += a[r], a vector for each r."""
    if floating is float:
        add_float(<int> rows, a, stride, c, row)
    else:
        add_double(<int> rows, a, stride, c, row)


cdef inline void turn(const floating *a, Py_ssize_t a_stride, floating *b, Py_ssize_t b_stride) noexcept nogil:
    """b[k, r] = a[r, k], a small square."""
    if floating is float:
        turn_float(a, a_stride, b, b_stride)
    else:
        turn_double(a, a_stride, b, b_stride)


cdef inline void pack(floating *packed, Py_ssize_t stride, const floating *matrix, Py_ssize_t across,
                      Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    """packed[k stride + r] = matrix[r across + k], a matrix transposed.

    Small squares are turned, the last ones overlapping those before: a cache line of a few rows, then of the next
    rows, while the lines to come are fetched, of these rows and of those that follow them: at so many places in turn,
    the processor foresees nothing.
    """
    cdef Py_ssize_t side = VECTOR_BYTES // 2 // sizeof(floating), line = 4 * side, first, ahead, k, r, i, j, n
    if rows < side or columns < side:
        for k in range(columns):
            for r in range(rows):
                packed[k * stride + r] = matrix[r * across + k]
        return
    for n in range(pieces(columns, line)):
        first = n * line
        ahead = first + 4 * line
        if ahead >= columns:
            ahead += rows * across - columns
        for j in range(pieces(rows, side)):
            r = min(j * side, rows - side)
            for i in range(side):
                prefetch(matrix + (r + i) * across + ahead)
            for i in range(pieces(min(line, columns - first), side)):
                k = min(first + i * side, columns - side)
                turn(matrix + r * across + k, across, packed + k * stride + r, stride)
