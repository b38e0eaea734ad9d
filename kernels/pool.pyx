# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Max-pool and average pool, and their gradients: plain loops along rows of pixels.

Every channel of every image is a plane of its own, and the planes are dealt to the threads. A loop is fast if
it runs along memory, without a decision and with nothing to wait for: a compiler turns it into vectors. So
pixels are first put side by side as the taps of the window see them; then three taps are one loop over all
output pixels. Windows of 2 x 2 side by side, the commonest, have loops of their own.
"""

import numpy as np

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport INFINITY
from libc.string cimport memcpy, memmove, memset

from common cimport KERNELS_OPENMP, LARGEST, TOO_MANY, begin, team_for, pieces

cdef extern from *:
    """
    /* The loops that decide the speed of a pool, in C so that they can be compiled twice. */
    #include "clones.h"

    /* A row of pixels, dealt in turn to two rows. */
    #define DEAL(real)                                                                                   \
    CLONES("avx2")                                                                                       \
    static void deal_##real(real *restrict even, real *restrict odd, const real *restrict row,           \
                            ptrdiff_t pairs)                                                             \
    {                                                                                                    \
        for (ptrdiff_t q = 0; q < pairs; q++) {                                                          \
            even[q] = row[2 * q];                                                                        \
            odd[q] = row[2 * q + 1];                                                                     \
        }                                                                                                \
    }
    DEAL(float)
    DEAL(double)

    /* What a tap sees challenges the best so far: a larger pixel wins, and so does NaN. */
    #define SEES(real, pixel, tap)                                                                       \
        {                                                                                                \
            const real seen = pixel;                                                                     \
            const int wins = (seen > best) | (seen != seen);                                             \
            best = wins ? seen : best;                                                                   \
            winner = wins ? tap : winner;                                                                \
        }
    #define CHALLENGE(real)                                                                              \
    CLONES("avx2")                                                                                       \
    static void challenge_##real(real *restrict bests, int *restrict winners, const real *a,             \
                                 const real *b, const real *c, ptrdiff_t count, int tap)                 \
    {                                                                                                    \
        for (ptrdiff_t u = 0; u < count; u++) {                                                          \
            real best = bests[u];                                                                        \
            int winner = winners[u];                                                                     \
            SEES(real, a[u], tap)                                                                        \
            SEES(real, b[u], tap + 1)                                                                    \
            SEES(real, c[u], tap + 2)                                                                    \
            bests[u] = best;                                                                             \
            winners[u] = winner;                                                                         \
        }                                                                                                \
    }
    CHALLENGE(float)
    CHALLENGE(double)

    /* The commonest pool of all, windows of 2 x 2 pixels side by side: each pair of rows of x, one after the other in
       memory, makes one row of y. All but the last three rows are computed to a multiple of 4 windows: what is too much
       is wrong, and the next rows overwrite it. So short rows fill vectors, too. */
    #define MULTIPLE_OF_4(n) (((n) + 3) / 4 * 4)
    #define SQUARES(real)                                                                                \
    CLONES("avx2")                                                                                       \
    static void squares_##real(const real *restrict x, ptrdiff_t width, real *restrict y,                \
                               int *restrict winners, ptrdiff_t rows, ptrdiff_t count)                   \
    {                                                                                                    \
        for (; rows > 0; rows--, x += 2 * width, y += count, winners += count) {                         \
            const real *bottom = x + width;                                                              \
            const ptrdiff_t windows = rows > 3 ? MULTIPLE_OF_4(count) : count;                           \
            for (ptrdiff_t q = 0; q < windows; q++) {                                                    \
                real best = x[2 * q];                                                                    \
                int winner = 0;                                                                          \
                SEES(real, x[2 * q + 1], 1)                                                              \
                SEES(real, bottom[2 * q], 2)                                                             \
                SEES(real, bottom[2 * q + 1], 3)                                                         \
                y[q] = best;                                                                             \
                winners[q] = winner;                                                                     \
            }                                                                                            \
        }                                                                                                \
    }
    SQUARES(float)
    SQUARES(double)

    /* Its gradient: each g goes to the one of four pixels that has won. The first row of gx has the taps 0 and 1,
       the second 2 and 3; where the width is odd, the pixel at the end gets nothing. */
    #define SPREAD(real)                                                                                 \
    CLONES("avx2")                                                                                       \
    static void spread_##real(const real *restrict g, const int *restrict winners, real *restrict gx,    \
                              ptrdiff_t width, ptrdiff_t rows, ptrdiff_t count)                          \
    {                                                                                                    \
        for (; rows > 0; rows--, g += count, winners += count) {                                         \
            const ptrdiff_t windows = rows > 3 ? MULTIPLE_OF_4(count) : count;                           \
            for (int row = 0; row < 2; row++, gx += width) {                                             \
                for (ptrdiff_t q = 0; q < windows; q++) {                                                \
                    const real mine = g[q];                                                              \
                    const int tap = winners[q] - 2 * row;                                                \
                    gx[2 * q] = tap == 0 ? mine : 0;                                                     \
                    gx[2 * q + 1] = tap == 1 ? mine : 0;                                                 \
                }                                                                                        \
                if (width > 2 * count)                                                                   \
                    gx[2 * count] = 0;                                                                   \
            }                                                                                            \
        }                                                                                                \
    }
    SPREAD(float)
    SPREAD(double)

    /* Means of windows of 2 x 2, and their gradient. */
    #define MEANS(real)                                                                                  \
    CLONES("avx2")                                                                                       \
    static void means_##real(const real *restrict x, ptrdiff_t width, real *restrict y, ptrdiff_t rows,  \
                             ptrdiff_t count)                                                            \
    {                                                                                                    \
        for (; rows > 0; rows--, x += 2 * width, y += count)                                             \
            for (ptrdiff_t q = 0; q < count; q++)                                                        \
                y[q] = ((x[2 * q] + x[width + 2 * q]) + (x[2 * q + 1] + x[width + 2 * q + 1])) / 4;      \
    }                                                                                                    \
    CLONES("avx2")                                                                                       \
    static void share_##real(const real *restrict g, real *restrict gx, ptrdiff_t width, ptrdiff_t rows, \
                             ptrdiff_t count)                                                            \
    {                                                                                                    \
        for (; rows > 0; rows--, g += count)                                                             \
            for (int row = 0; row < 2; row++, gx += width) {                                             \
                for (ptrdiff_t q = 0; q < count; q++)                                                    \
                    gx[2 * q] = gx[2 * q + 1] = g[q] / 4;                                                \
                if (width > 2 * count)                                                                   \
                    gx[2 * count] = 0;                                                                   \
            }                                                                                            \
    }
    MEANS(float)
    MEANS(double)
    """
    void means_float(const float *, Py_ssize_t, float *, Py_ssize_t, Py_ssize_t) nogil
    void means_double(const double *, Py_ssize_t, double *, Py_ssize_t, Py_ssize_t) nogil
    void share_float(const float *, float *, Py_ssize_t, Py_ssize_t, Py_ssize_t) nogil
    void share_double(const double *, double *, Py_ssize_t, Py_ssize_t, Py_ssize_t) nogil
    void deal_float(float *, float *, const float *, Py_ssize_t) nogil
    void deal_double(double *, double *, const double *, Py_ssize_t) nogil
    void squares_float(const float *, Py_ssize_t, float *, int *, Py_ssize_t, Py_ssize_t) nogil
    void squares_double(const double *, Py_ssize_t, double *, int *, Py_ssize_t, Py_ssize_t) nogil
    void spread_float(const float *, const int *, float *, Py_ssize_t, Py_ssize_t, Py_ssize_t) nogil
    void spread_double(const double *, const int *, double *, Py_ssize_t, Py_ssize_t, Py_ssize_t) nogil
    void challenge_float(float *, int *, const float *, const float *, const float *, Py_ssize_t, int) nogil
    void challenge_double(double *, int *, const double *, const double *, const double *, Py_ssize_t, int) nogil

cdef fused number:
    unsigned char
    int

OPENMP = bool(KERNELS_OPENMP)
cdef int threads = 1

cdef enum:
    TOGETHER = 1024  # windows of 2 x 2 at a time, whose winners stay in the first-level cache


def set_num_threads(int n):
    """How many threads a call may use."""
    global threads
    threads = max(n, 1)


cdef struct Window:
    Py_ssize_t planes, h, w             # N C planes of h x w pixels
    Py_ssize_t kh, kw, sh, sw, ph, pw   # kernel, stride, padding
    Py_ssize_t p, q                     # pixels of the output
    Py_ssize_t height, width            # of the padded plane
    Py_ssize_t rows, span               # of a phase of it: every sh-th row, every sw-th column
    bint framed                         # whether there is any padding


cdef Window window(shape, kernel, stride, padding, half) except *:
    """The sizes of a pool, all checked: what follows relies on them for its addresses."""
    cdef Window v
    n, c, v.h, v.w = shape
    v.kh, v.kw = kernel
    v.sh, v.sw = stride
    v.ph, v.pw = padding
    if (min(n, c, v.h, v.w, v.kh, v.kw, v.sh, v.sw) < 1 or min(v.ph, v.pw) < 0
            or max(v.h, v.w, v.kh, v.kw, v.sh, v.sw, v.ph, v.pw) > LARGEST):
        raise ValueError("pool: sizes, kernel and stride must be at least 1, padding at least 0")
    if half and (2 * v.ph > v.kh or 2 * v.pw > v.kw):
        raise ValueError("pool: padding must be at most half of the kernel")
    v.planes = n * c
    v.height, v.width = v.h + 2 * v.ph, v.w + 2 * v.pw
    if v.kh > v.height or v.kw > v.width:
        raise ValueError("pool: the kernel does not fit into the padded image")
    if <double> v.height * v.width > TOO_MANY:
        raise MemoryError("pool: one padded image would be larger than any memory")
    v.sh, v.sw = min(v.sh, v.height), min(v.sw, v.width)  # a longer stride leads nowhere, and would need room
    v.p, v.q = (v.height - v.kh) // v.sh + 1, (v.width - v.kw) // v.sw + 1
    v.rows, v.span = pieces(v.height, v.sh), pieces(v.width, v.sw)
    v.framed = v.ph > 0 or v.pw > 0
    return v


cdef void check_output(shape, expected) except *:
    """Refuse a gradient or winners that do not have the shape of the output."""
    if tuple(shape) != expected:
        raise ValueError(f"pool: the output is {expected}, its gradient or winners {tuple(shape)}")


# ------------------------------------------------------------------------------------------------------------
# Max-pool
# ------------------------------------------------------------------------------------------------------------


cdef const floating *in_phases(const Window *v, const floating *image, floating *frame) noexcept nogil:
    """The padded image, dealt into sh sw phases of `rows` x `span`: the pixel (h, w) lies in the phase
    (h mod sh, w mod sw), at (h div sh, w div sw). The rim of the frame is set already.
    """
    cdef Py_ssize_t h, w, size = v.rows * v.span
    cdef const floating *row
    cdef floating *phase
    if v.sh == v.sw == 1 and not v.framed:
        return image
    for h in range(v.ph, v.ph + v.h):
        row = image + (h - v.ph) * v.w - v.pw
        phase = frame + h % v.sh * v.sw * size + h // v.sh * v.span
        w = v.pw
        if v.sw == 1:
            memcpy(phase + w, row + w, v.w * sizeof(floating))
            continue
        if v.sw == 2:
            if w % 2 == 1:  # the first pixel is an odd one
                phase[size + w // 2] = row[w]
                w += 1
            if floating is float:
                deal_float(phase + w // 2, phase + size + w // 2, row + w, (v.pw + v.w - w) // 2)
            else:
                deal_double(phase + w // 2, phase + size + w // 2, row + w, (v.pw + v.w - w) // 2)
            w += (v.pw + v.w - w) // 2 * 2
        while w < v.pw + v.w:
            phase[w % v.sw * size + w // v.sw] = row[w]
            w += 1
    return frame


cdef inline void narrow(number *winners, const int *winner, Py_ssize_t count) noexcept nogil:
    """Winners in the type in which they are kept."""
    cdef Py_ssize_t q
    for q in range(count):
        winners[q] = <number> winner[q]


cdef inline Py_ssize_t seen_by(const Window *v, Py_ssize_t tap) noexcept nogil:
    """Where in the phases the stretch begins that a tap sees."""
    cdef Py_ssize_t i = tap // v.kw, j = tap % v.kw
    return (i % v.sh * v.sw + j % v.sw) * v.rows * v.span + i // v.sh * v.span + j // v.sw


cdef void max_planes(const Window *v, const floating *x, floating *y, number *winners, const int *start,
                     int *winner, floating *room, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """The planes `first` to `last`.

    What a tap sees under all output pixels is one stretch of its phase, since neighbours in the output are
    neighbours there; `span - Q` pixels at the end of each row belong to no window, and are dropped in the
    end. Padding is -inf and never wins: at first, `start`, the first tap inside the image is the winner. Taps challenge
    it three at a time, each as often as it likes: who has lost, loses again, and whose NaN has won, wins again.
    """
    cdef Py_ssize_t size = v.rows * v.span, count = (v.p - 1) * v.span + v.q
    cdef Py_ssize_t stretch = count if v.q == v.span else v.q  # of the output that lies together
    cdef Py_ssize_t taps = v.kh * v.kw, three, tap, plane, p, i
    cdef floating *best = room
    cdef floating *frame = room + size
    cdef const floating *phases
    cdef const floating *seen[3]
    for i in range(v.sh * v.sw * size):
        frame[i] = -INFINITY
    for plane in range(first, last):
        phases = in_phases(v, x + plane * v.h * v.w, frame)
        memcpy(best, phases, count * sizeof(floating))
        memcpy(winner, start, count * sizeof(int))
        for three in range(pieces(taps, 3)):
            tap = min(3 * three, taps - 3)
            for i in range(3):
                seen[i] = phases + seen_by(v, max(tap + i, <Py_ssize_t> 0))
            if floating is float:
                challenge_float(best, winner, seen[0], seen[1], seen[2], count, <int> tap)
            else:
                challenge_double(best, winner, seen[0], seen[1], seen[2], count, <int> tap)
        for p in range(v.p if stretch == v.q else 1):
            memcpy(y + (plane * v.p + p) * v.q, best + p * v.span, stretch * sizeof(floating))
            memmove(winner + p * v.q, winner + p * v.span, stretch * sizeof(int))
        narrow(winners + plane * v.p * v.q, winner, v.p * v.q)


cdef inline bint squares(const Window *v) noexcept nogil:
    """Whether windows are 2 x 2 and stand side by side."""
    return v.kh == v.kw == v.sh == v.sw == 2 and not v.framed


cdef inline Py_ssize_t square_row(const Window *v, Py_ssize_t row) noexcept nogil:
    """Where the pixels under a row of windows begin; rows are counted through all planes."""
    return (row // v.p * v.h + 2 * (row % v.p)) * v.w


cdef inline Py_ssize_t square_rows_together(const Window *v, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """How many rows of windows, of `first` to `last`, are a piece of work: no row of pixels lies between them."""
    cdef Py_ssize_t rows = min(max(TOGETHER // v.q, 1), last - first)
    return rows if v.h == 2 * v.p else min(rows, v.p - first % v.p)


cdef void square_rows(const Window *v, const floating *x, floating *y, unsigned char *winners, int *winner,
                      Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """The rows of windows `first` to `last`, counted through all planes."""
    cdef Py_ssize_t rows
    cdef const floating *top
    while first < last:
        rows = square_rows_together(v, first, last)
        top = x + square_row(v, first)
        if floating is float:
            squares_float(top, v.w, y + first * v.q, winner, rows, v.q)
        else:
            squares_double(top, v.w, y + first * v.q, winner, rows, v.q)
        narrow(winners + first * v.q, winner, rows * v.q)
        first += rows


cdef max_pool(const Window *v, const floating *x, floating *y, number *winners):
    cdef int team = team_for(threads, 64.0 * v.planes * v.p * v.q * v.kh * v.kw, v.planes), t
    cdef int[:, ::1] winner = np.empty((team, max(v.rows * v.span, TOGETHER)), np.intc)
    if number is not int and squares(v):
        with nogil:
            for t in prange(team, num_threads=team, schedule="static", use_threads_if=team > 1):
                square_rows(v, x, y, winners, &winner[t, 0], begin(v.planes * v.p, t, team),
                            begin(v.planes * v.p, t + 1, team))
        return
    cdef int[:, ::1] start = np.empty((v.rows, v.span), np.intc)
    cdef floating[:, ::1] room = np.empty((team, (1 + v.sh * v.sw) * v.rows * v.span),
                                          np.float32 if floating is float else np.float64)
    cdef Py_ssize_t p, q
    with nogil:
        for p in range(v.rows):
            for q in range(v.span):
                start[p, q] = <int> (max(v.ph - p * v.sh, <Py_ssize_t> 0) * v.kw
                                     + max(v.pw - q * v.sw, <Py_ssize_t> 0))
        for t in prange(team, num_threads=team, schedule="static", use_threads_if=team > 1):
            max_planes(v, x, y, winners, &start[0, 0], &winner[t, 0], &room[t, 0],
                       begin(v.planes, t, team), begin(v.planes, t + 1, team))


def max_pool2d(const floating[:, :, :, ::1] x not None, kernel, stride, padding):
    """y and the winners, (N, C, P, Q)."""
    cdef Window v = window((x.shape[0], x.shape[1], x.shape[2], x.shape[3]), kernel, stride, padding, True)
    shape = x.shape[0], x.shape[1], v.p, v.q
    y = np.empty(shape, np.float32 if floating is float else np.float64)
    winners = np.empty(shape, np.uint8 if v.kh * v.kw <= 256 else np.int32)
    cdef floating[:, :, :, ::1] out = y
    cdef unsigned char[:, :, :, ::1] small
    cdef int[:, :, :, ::1] large
    if v.kh * v.kw <= 256:
        small = winners
        max_pool(&v, &x[0, 0, 0, 0], &out[0, 0, 0, 0], &small[0, 0, 0, 0])
    else:
        large = winners
        max_pool(&v, &x[0, 0, 0, 0], &out[0, 0, 0, 0], &large[0, 0, 0, 0])
    return y, winners


cdef void spread_planes(const Window *v, const floating *g, const number *winners, const Py_ssize_t *offset,
                        Py_ssize_t taps, floating *gx, floating *frame,
                        Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """The planes `first` to `last`: add each g to its winner, `offset[winner]` from the window's corner."""
    cdef Py_ssize_t plane, p, q, h, tap, step = v.sw, count = v.q
    cdef floating *image
    cdef floating *corner
    winners += first * v.p * count
    g += first * v.p * count
    for plane in range(first, last):
        image = frame if v.framed else gx + plane * v.h * v.w
        memset(image, 0, v.height * v.width * sizeof(floating))
        for p in range(v.p):
            corner = image + p * v.sh * v.width
            for q in range(count):
                tap = winners[q]
                if 0 <= tap < taps:
                    corner[q * step + offset[tap]] += g[q]
            winners += count
            g += count
        if v.framed:
            for h in range(v.h):
                memcpy(gx + (plane * v.h + h) * v.w, frame + (h + v.ph) * v.width + v.pw,
                       v.w * sizeof(floating))


cdef void spread_square_rows(const Window *v, const floating *g, const unsigned char *winners, floating *gx,
                             int *winner, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """The same for windows of 2 x 2 side by side: the rows of windows `first` to `last`, counted through all planes."""
    cdef Py_ssize_t rows, q
    cdef floating *top
    while first < last:
        rows = square_rows_together(v, first, last)
        top = gx + square_row(v, first)
        for q in range(rows * v.q):
            winner[q] = winners[first * v.q + q]
        if floating is float:
            spread_float(g + first * v.q, winner, top, v.w, rows, v.q)
        else:
            spread_double(g + first * v.q, winner, top, v.w, rows, v.q)
        first += rows
        if v.h > 2 * v.p and first % v.p == 0:  # the row below the last windows of a plane
            memset(top + 2 * rows * v.w, 0, v.w * sizeof(floating))


def max_pool2d_input(const floating[:, :, :, ::1] g not None, const number[:, :, :, ::1] winners not None,
                     x_shape, kernel, stride, padding):
    """gx, of the shape x_shape. A winner that is no tap of the kernel gives nothing to anybody."""
    cdef Window v = window(x_shape, kernel, stride, padding, True)
    n, c = x_shape[:2]
    expected = n, c, v.p, v.q
    check_output((g.shape[0], g.shape[1], g.shape[2], g.shape[3]), expected)
    check_output((winners.shape[0], winners.shape[1], winners.shape[2], winners.shape[3]), expected)
    dtype = np.float32 if floating is float else np.float64
    gx = np.empty((n, c, v.h, v.w), dtype)
    cdef Py_ssize_t[::1] offset = np.empty(v.kh * v.kw, np.intp)
    cdef Py_ssize_t tap
    cdef int team = team_for(threads, 240.0 * v.planes * v.p * v.q, v.planes), t
    cdef Py_ssize_t share = v.framed * v.height * v.width
    cdef floating[::1] frames = np.empty(team * share + 1, dtype)
    cdef int[:, ::1] winner = np.empty((team, max(v.q, TOGETHER)), np.intc)
    cdef floating[:, :, :, ::1] out = gx
    with nogil:
        for tap in range(v.kh * v.kw):
            offset[tap] = tap // v.kw * v.width + tap % v.kw
        for t in prange(team, num_threads=team, schedule="static", use_threads_if=team > 1):
            if number is not int and squares(&v):
                spread_square_rows(&v, &g[0, 0, 0, 0], &winners[0, 0, 0, 0], &out[0, 0, 0, 0], &winner[t, 0],
                                   begin(v.planes * v.p, t, team), begin(v.planes * v.p, t + 1, team))
            else:
                spread_planes(&v, &g[0, 0, 0, 0], &winners[0, 0, 0, 0], &offset[0], v.kh * v.kw, &out[0, 0, 0, 0],
                              &frames[t * share], begin(v.planes, t, team), begin(v.planes, t + 1, team))
    return gx


# ------------------------------------------------------------------------------------------------------------
# Average pool: the mean of a window, first down its columns, then along its rows
# ------------------------------------------------------------------------------------------------------------


cdef inline void add_seen(floating *total, const floating *row, Py_ssize_t step,
                          Py_ssize_t count) noexcept nogil:
    """Add what a tap sees along a row."""
    cdef Py_ssize_t q
    for q in range(count):
        total[q] += row[q * step]


cdef void mean_planes(const Window *v, const floating *x, floating *y, floating *columns,
                      Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """The planes `first` to `last`; `columns`, as wide as the padded plane, are the sums down the windows."""
    cdef Py_ssize_t plane, p, q, i, j, top
    cdef floating *mean
    cdef floating area = <floating> v.kh * <floating> v.kw
    for plane in range(first, last):
        if squares(v):
            if floating is float:
                means_float(x + plane * v.h * v.w, v.w, y + plane * v.p * v.q, v.p, v.q)
            else:
                means_double(x + plane * v.h * v.w, v.w, y + plane * v.p * v.q, v.p, v.q)
            continue
        for p in range(v.p):
            top = p * v.sh - v.ph
            mean = y + (plane * v.p + p) * v.q
            memset(columns, 0, v.width * sizeof(floating))
            for i in range(max(-top, <Py_ssize_t> 0), min(v.kh, v.h - top)):
                add_seen(columns + v.pw, x + (plane * v.h + top + i) * v.w, 1, v.w)
            memset(mean, 0, v.q * sizeof(floating))
            for j in range(v.kw):
                if v.sw == 1:
                    add_seen(mean, columns + j, 1, v.q)
                elif v.sw == 2:
                    add_seen(mean, columns + j, 2, v.q)
                else:
                    add_seen(mean, columns + j, v.sw, v.q)
            for q in range(v.q):
                mean[q] /= area


def avg_pool2d(const floating[:, :, :, ::1] x not None, kernel, stride, padding):
    """y (N, C, P, Q)."""
    cdef Window v = window((x.shape[0], x.shape[1], x.shape[2], x.shape[3]), kernel, stride, padding, False)
    dtype = np.float32 if floating is float else np.float64
    y = np.empty((x.shape[0], x.shape[1], v.p, v.q), dtype)
    cdef int team = team_for(threads, 64.0 * v.planes * v.p * v.q * v.kh * v.kw, v.planes), t
    cdef floating[:, ::1] columns = np.empty((team, v.width + 16), dtype)
    cdef floating[:, :, :, ::1] out = y
    with nogil:
        for t in prange(team, num_threads=team, schedule="static", use_threads_if=team > 1):
            mean_planes(&v, &x[0, 0, 0, 0], &out[0, 0, 0, 0], &columns[t, 0],
                        begin(v.planes, t, team), begin(v.planes, t + 1, team))
    return y


cdef void share_planes(const Window *v, const floating *g, floating *gx, floating *columns,
                       Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """The planes `first` to `last`; `columns` are the shares from a row of windows, the same in each row."""
    cdef Py_ssize_t plane, p, q, i, j, top
    cdef floating area = <floating> v.kh * <floating> v.kw, share
    for plane in range(first, last):
        if squares(v):
            if floating is float:
                share_float(g + plane * v.p * v.q, gx + plane * v.h * v.w, v.w, v.p, v.q)
            else:
                share_double(g + plane * v.p * v.q, gx + plane * v.h * v.w, v.w, v.p, v.q)
            memset(gx + (plane * v.h + 2 * v.p) * v.w, 0, (v.h - 2 * v.p) * v.w * sizeof(floating))
            continue
        memset(gx + plane * v.h * v.w, 0, v.h * v.w * sizeof(floating))
        for p in range(v.p):
            top = p * v.sh - v.ph
            memset(columns, 0, v.width * sizeof(floating))
            for q in range(v.q):
                share = g[(plane * v.p + p) * v.q + q] / area
                for j in range(q * v.sw, q * v.sw + v.kw):
                    columns[j] += share
            for i in range(max(-top, <Py_ssize_t> 0), min(v.kh, v.h - top)):
                add_seen(gx + (plane * v.h + top + i) * v.w, columns + v.pw, 1, v.w)


def avg_pool2d_input(const floating[:, :, :, ::1] g not None, x_shape, kernel, stride, padding):
    """gx, of the shape x_shape."""
    cdef Window v = window(x_shape, kernel, stride, padding, False)
    n, c = x_shape[:2]
    check_output((g.shape[0], g.shape[1], g.shape[2], g.shape[3]), (n, c, v.p, v.q))
    dtype = np.float32 if floating is float else np.float64
    gx = np.empty((n, c, v.h, v.w), dtype)
    cdef int team = team_for(threads, 64.0 * v.planes * v.p * v.q * v.kh * v.kw, v.planes), t
    cdef floating[:, ::1] columns = np.empty((team, v.width + 16), dtype)
    cdef floating[:, :, :, ::1] out = gx
    with nogil:
        for t in prange(team, num_threads=team, schedule="static", use_threads_if=team > 1):
            share_planes(&v, &g[0, 0, 0, 0], &out[0, 0, 0, 0], &columns[t, 0],
                         begin(v.planes, t, team), begin(v.planes, t + 1, team))
    return gx
