# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The affine map of a layer and its gradients: three matrix products, one function.

    forward             y  = x W^T + b      (N, O)
    input gradient      gx = g W            (N, I)
    weight gradient     gw = g^T x          (O, I)
    bias gradient       gb = sum of g       (O,)

Each product is C = A B with A (M, K) and B (K, U), and a transpose is no more than two strides exchanged. The
loops are those of every fast product (Goto and van de Geijn 2008), and of the convolution in conv.pyx:

    for each block of the depth k:                  so that what follows fits into the caches
        for each chunk of rows of A:                packed, it lies in the second-level cache
            for each panel of B, two vectors wide:  packed, it lies in the first-level one
                for each panel of the chunk, 6 rows high:
                    a tile of C, in registers: see tile.h

Packing puts the numbers in the order in which the tile reads them. Each thread computes a part of C, along its
longer side, and packs for itself: nobody waits for anybody.
"""

import numpy as np

from cpython.buffer cimport PyBUF_WRITABLE
from cython cimport floating
from cython.parallel cimport prange
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from common cimport CACHE_LINE, KERNELS_OPENMP, Matrix
from common cimport aligned, begin, matrix, numbers, pieces, rounded, team_for, transposed
from tile cimport OUTER_ROWS, VECTOR_BYTES, outer, pack, prefetch
cimport tile

OPENMP = bool(KERNELS_OPENMP)
cdef int threads = 1
cdef object FLOAT32 = np.dtype(np.float32), FLOAT64 = np.dtype(np.float64)

cdef enum:
    DEPTH = 320             # rows of a panel of B: 320 x 64 bytes are 20 kB, and stay in the first-level cache
    CHUNK_BYTES = 384 * 1280  # of packed rows of A: they stay in the second-level cache


def set_num_threads(int n):
    """How many threads a call may use."""
    global threads
    threads = max(n, 1)


def use_vectors(int size):
    """Compute with vectors of at most `size` bytes: 64, 32, or 0 for plain loops. Returns which it will be."""
    return tile.use_vectors(size)


use_vectors(64)


# ------------------------------------------------------------------------------------------------------------
# One product
# ------------------------------------------------------------------------------------------------------------


cdef struct Sizes:
    Py_ssize_t rows, columns, depth     # C is rows x columns, a sum over depth
    Py_ssize_t a_down, a_right          # A[r, k] lies at a[r a_down + k a_right]
    Py_ssize_t b_down, b_right          # B[k, u] lies at b[k b_down + u b_right]
    Py_ssize_t stride                   # C[r, u] lies at c[r stride + u]


cdef void pack_either(floating *panel, Py_ssize_t stride, const floating *source, Py_ssize_t count, Py_ssize_t depth,
                      Py_ssize_t across, Py_ssize_t along) noexcept nogil:
    """panel[k stride + s] = source[s across + k along]: `count` rows of A, or columns of B, in the order of the tile.

    Where they lie side by side, they are copied, and what the next panel needs is fetched: a line of each row, which
    the processor does not foresee. The four to six rows of a tile are its first four and its last four.
    """
    cdef Py_ssize_t k, s
    if along == 1:
        pack(panel, stride, source, across, count, depth)
    elif across == 1 and count * sizeof(floating) == 2 * VECTOR_BYTES:
        for k in range(depth):
            memcpy(panel + k * stride, source + k * along, 2 * VECTOR_BYTES)
            prefetch(source + k * along + 2 * count - 1)
    elif across == 1 and 4 <= count <= OUTER_ROWS:
        for k in range(depth):
            memcpy(panel + k * stride, source + k * along, 4 * sizeof(floating))
            memcpy(panel + k * stride + count - 4, source + k * along + count - 4, 4 * sizeof(floating))
            prefetch(source + k * along + 4 * count)
    elif across == 1:
        for k in range(depth):
            for s in range(count):
                panel[k * stride + s] = source[k * along + s]
    else:
        for k in range(depth):
            for s in range(count):
                panel[k * stride + s] = source[s * across + k * along]


cdef inline Py_ssize_t chunk_rows(Py_ssize_t rows, Py_ssize_t depth, Py_ssize_t itemsize) noexcept nogil:
    """How many rows of A are packed at a time."""
    return min(rows, rounded(CHUNK_BYTES // (min(depth, <Py_ssize_t> DEPTH) * itemsize), OUTER_ROWS))


cdef void multiply(const Sizes *v, const floating *a, const floating *b, const floating *bias, floating *c,
                   const Py_ssize_t *row, const floating *zeros, floating *room) noexcept nogil:
    """C = A B, and the bias (a number a column, or NULL) in every row."""
    cdef Py_ssize_t columns = 2 * VECTOR_BYTES // sizeof(floating)
    cdef Py_ssize_t blocks = pieces(v.depth, DEPTH), chunk = chunk_rows(v.rows, v.depth, sizeof(floating))
    cdef Py_ssize_t chunks = pieces(v.rows, chunk), panels = pieces(v.columns, columns)
    cdef Py_ssize_t block, part, panel, height, heights, k, depth, low, count, u, r, rows, i, width
    cdef floating *piece = room
    cdef floating *edge = piece + min(v.depth, <Py_ssize_t> DEPTH) * columns
    cdef floating *packed = edge + OUTER_ROWS * columns
    cdef floating *out
    cdef const floating *start
    for block in range(blocks):
        k = begin(v.depth, block, blocks)
        depth = begin(v.depth, block + 1, blocks) - k
        for part in range(chunks):
            low = begin(v.rows, part, chunks)
            count = begin(v.rows, part + 1, chunks) - low
            heights = pieces(count, OUTER_ROWS)
            for height in range(heights):
                r = begin(count, height, heights)
                rows = begin(count, height + 1, heights) - r
                pack_either(packed + r * depth, rows, a + (low + r) * v.a_down + k * v.a_right, rows, depth,
                            v.a_down, v.a_right)
            for panel in range(panels):
                u = panel * columns
                width = min(columns, v.columns - u)
                if width < columns:
                    memset(piece, 0, depth * columns * sizeof(floating))
                pack_either(piece, columns, b + k * v.b_down + u * v.b_right, width, depth, v.b_right, v.b_down)
                for height in range(heights):
                    r = begin(count, height, heights)
                    rows = begin(count, height + 1, heights) - r
                    out = c + (low + r) * v.stride + u
                    start = zeros if block == 0 and bias == NULL else NULL
                    if block == 0 and bias != NULL:
                        for i in range(rows):
                            memcpy(out + i * v.stride, bias + u, width * sizeof(floating))
                    if width == columns:
                        outer(rows, depth, packed + r * depth, piece, piece + columns // 2, row, out, v.stride, start)
                    else:  # the last panel is narrower than the tile
                        for i in range(rows if start == NULL else 0):
                            memcpy(edge + i * columns, out + i * v.stride, width * sizeof(floating))
                        outer(rows, depth, packed + r * depth, piece, piece + columns // 2, row, edge, columns, start)
                        for i in range(rows):
                            memcpy(out + i * v.stride, edge + i * columns, width * sizeof(floating))


cdef void part_of(const Sizes *v, const floating *a, const floating *b, const floating *bias, floating *c,
                  const Py_ssize_t *row, const floating *zeros, floating *room, int part, int parts) noexcept nogil:
    """Part `part` of `parts` of C, along its longer side; columns in whole panels."""
    cdef Py_ssize_t columns = 2 * VECTOR_BYTES // sizeof(floating), first, last
    cdef Sizes mine = v[0]
    if v.rows > v.columns:
        first, last = begin(v.rows, part, parts), begin(v.rows, part + 1, parts)
        mine.rows = last - first
        a += first * v.a_down
        c += first * v.stride
    else:
        first = begin(pieces(v.columns, columns), part, parts) * columns
        last = min(begin(pieces(v.columns, columns), part + 1, parts) * columns, v.columns)
        mine.columns = last - first
        b += first * v.b_right
        c += first
        if bias != NULL:
            bias += first
    if mine.rows > 0 and mine.columns > 0:
        multiply(&mine, a, b, bias, c, row, zeros, room)


cdef int product(const Sizes *v, const floating *a, const floating *b, const floating *bias,
                 floating *c) except -1 nogil:
    """C = A B + bias, with as many threads as it deserves."""
    cdef Py_ssize_t columns = 2 * VECTOR_BYTES // sizeof(floating), line = CACHE_LINE // sizeof(floating)
    cdef Py_ssize_t depth = min(v.depth, <Py_ssize_t> DEPTH), k
    cdef Py_ssize_t share = rounded((columns + chunk_rows(v.rows, v.depth, sizeof(floating))) * depth
                                    + OUTER_ROWS * columns, line)
    cdef int team = team_for(threads, 2.0 * v.rows * v.columns * v.depth,
                             pieces(max(v.rows, v.columns), columns)), t
    cdef void *room = malloc(CACHE_LINE + team * share * sizeof(floating) + OUTER_ROWS * sizeof(floating)
                             + (depth + 1) * sizeof(Py_ssize_t))
    if room == NULL:
        with gil:
            raise MemoryError("dense: no memory to pack the factors of a product")
    cdef floating *rooms = <floating *> aligned(room)
    cdef Py_ssize_t *row = <Py_ssize_t *> (rooms + team * share)
    cdef floating *zeros = <floating *> (row + depth)
    memset(zeros, 0, OUTER_ROWS * sizeof(floating))
    for k in range(depth):
        row[k] = k * columns
    if team == 1:
        multiply(v, a, b, bias, c, row, zeros, rooms)
    else:
        for t in prange(team, num_threads=team, schedule="static"):
            part_of(v, a, b, bias, c, row, zeros, rooms + t * share, t, team)
    free(room)
    return 0


# ------------------------------------------------------------------------------------------------------------
# The map and its gradients
# ------------------------------------------------------------------------------------------------------------


cdef times(Matrix a, Matrix b, const void *bias, Py_ssize_t itemsize):
    """The array A B + bias."""
    if a.columns != b.rows:
        raise ValueError(f"dense: {a.columns} columns times {b.rows} rows")
    c = np.empty((a.rows, b.columns), FLOAT32 if itemsize == sizeof(float) else FLOAT64)
    cdef Py_ssize_t size = a.rows * b.columns
    cdef void *start = numbers(c, PyBUF_WRITABLE, &size, &itemsize)
    cdef Sizes v = Sizes(a.rows, b.columns, a.columns, a.down, a.right, b.down, b.right, b.columns)
    with nogil:
        if itemsize == sizeof(float):
            product(&v, <float *> a.start, <float *> b.start, <float *> bias, <float *> start)
        else:
            product(&v, <double *> a.start, <double *> b.start, <double *> bias, <double *> start)
    return c


def affine(x not None, weight not None, bias):
    """y (N, O) = x W^T + b of x (N, I), W (O, I) and b (O,), or None; matrices with any strides."""
    cdef Py_ssize_t itemsize = x.itemsize
    cdef Matrix of_x = matrix(x, itemsize), of_weight = matrix(weight, itemsize)
    cdef void *start = NULL
    if bias is not None:
        if bias.ndim != 1:
            raise ValueError(f"affine: a bias of {bias.ndim} axes")
        start = numbers(bias, 0, &of_weight.rows, &itemsize)
    return times(of_x, transposed(of_weight), start, itemsize)


cdef void sum_rows(const Matrix *g, const floating *start, floating *gb) noexcept nogil:
    """gb = the sum of the rows of g: row after row, so that the loop runs along memory."""
    cdef Py_ssize_t r, u
    memset(gb, 0, g.columns * sizeof(floating))
    for r in range(g.rows):
        if g.right == 1:
            for u in range(g.columns):
                gb[u] += start[r * g.down + u]
        else:
            for u in range(g.columns):
                gb[u] += start[r * g.down + u * g.right]


def affine_vjp(g not None, x not None, weight not None, bint of_x, bint of_weight, bint of_bias):
    """gx (N, I), gw (O, I) and gb (O,) from g (N, O), x (N, I) and W (O, I): None where not asked for."""
    cdef Py_ssize_t itemsize = g.itemsize
    cdef Matrix rows = matrix(g, itemsize), inputs = matrix(x, itemsize), weights = matrix(weight, itemsize)
    if rows.rows != inputs.rows or rows.columns != weights.rows or inputs.columns != weights.columns:
        raise ValueError("affine_vjp: g, x and weight do not go together")
    gx = times(rows, weights, NULL, itemsize) if of_x else None
    gw = times(transposed(rows), inputs, NULL, itemsize) if of_weight else None
    gb = None
    cdef void *start
    if of_bias:
        gb = np.empty(rows.columns, FLOAT32 if itemsize == sizeof(float) else FLOAT64)
        start = numbers(gb, PyBUF_WRITABLE, &rows.columns, &itemsize)
        if itemsize == sizeof(float):
            sum_rows(&rows, <float *> rows.start, <float *> start)
        else:
            sum_rows(&rows, <double *> rows.start, <double *> start)
    return gx, gw, gb
