# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Convolution and its gradients, as matrix products whose patch matrix is never formed.

For one image, let X^ be the matrix with a row for each tap k = (c, i, j) and a column for each output pixel
u = (p, q): X^[k, u] is what the tap sees under the pixel. With the weights as a matrix W (O, K),

    forward             y  = W X^                         (O, U)
    input gradient      G^ = W^T g                        (K, U), each entry added where X^ had its own from
    weight gradient     gw = sum over images of g X^^T    (O, K)

X^ is kh kw times as large as the image. So it is made a piece at a time, just before the piece is multiplied.
Two tables are enough to make it, for an address in the padded image is a sum:

    X^[k, u] = image[tap[k] + pixel[u]]

Stride, dilation and 1x1 kernels change the tables and nothing else.
"""

import numpy as np

from cython cimport floating
from cython.parallel cimport prange
from libc.string cimport memcpy, memset

from common cimport CACHE_LINE, KERNELS_OPENMP, LARGEST, TOO_MANY
from common cimport aligned, begin, team_for, pieces, rounded
from lanes cimport LANES, add, total
from tile cimport DOT_COLUMNS, DOT_ROWS, OUTER_ROWS, VECTOR_BYTES
from tile cimport add_rows, dot, outer, pack, prefetch, spread
cimport tile

OPENMP = bool(KERNELS_OPENMP)
cdef int threads = 1

cdef enum:
    DEPTH = 320         # rows of X^ in a piece: 320 x 64 bytes are 20 kB, and stay in the first-level cache
    CACHE = 1 << 20     # bytes of the second-level cache
    FEW = 8             # panels of W for which a piece of X^ is not worth gathering
    MANY = 16           # channels from which on the gradient of the input is a correlation
    BLOCK_BYTES = 2048  # of a row in the weight gradient: 8 + 3 rows stay in the first-level cache
    BATCH = 2           # tiles of rows of g at a time, 8 rows
    BLOCK_TAPS = 96     # rows of X^ there: 96 x 2 kB stay in the second-level cache
    BLOCK_PIXELS = 256  # there, by channels: 256 x 64 bytes of an image stay in the first-level cache


def set_num_threads(int n):
    """How many threads a call may use."""
    global threads
    threads = max(n, 1)


def use_vectors(int size):
    """Compute with vectors of at most `size` bytes: 64, 32, or 0 for plain loops. Returns which it will be."""
    return tile.use_vectors(size)


use_vectors(64)


cdef struct Window:
    Py_ssize_t n, c, h, w, o, kh, kw    # sizes: images, channels, pixels, filters, taps
    Py_ssize_t sh, sw, ph, pw, dh, dw   # stride, padding, dilation
    Py_ssize_t height, width            # of the padded image
    Py_ssize_t p, q                     # of the output
    Py_ssize_t taps, pixels             # K = c kh kw and U = p q
    bint framed                         # whether there is any padding


cdef Window window(x_shape, weight_shape, stride, padding, dilation) except *:
    """The sizes of a convolution, all checked: what follows relies on them for its addresses."""
    cdef Window v
    v.n, v.c, v.h, v.w = x_shape
    v.o, channels, v.kh, v.kw = weight_shape
    v.sh, v.sw = stride
    v.ph, v.pw = padding
    v.dh, v.dw = dilation
    if channels != v.c:
        raise ValueError(f"convolution: {channels} input channels in the weight, {v.c} in the images")
    if (min(v.n, v.c, v.h, v.w, v.o, v.kh, v.kw) < 1 or min(v.sh, v.sw, v.dh, v.dw) < 1 or min(v.ph, v.pw) < 0
            or max(v.sh, v.sw, v.dh, v.dw, v.ph, v.pw) > LARGEST or max(v.h, v.w, v.kh, v.kw) > LARGEST):
        raise ValueError("convolution: sizes, stride and dilation must be at least 1, padding at least 0")
    v.height, v.width = v.h + 2 * v.ph, v.w + 2 * v.pw
    if v.dh * (v.kh - 1) >= v.height or v.dw * (v.kw - 1) >= v.width:
        raise ValueError("convolution: the kernel does not fit into the padded image")
    if <double> v.c * v.height * v.width > TOO_MANY or <double> v.c * v.kh * v.kw > TOO_MANY:
        raise MemoryError("convolution: one padded image would be larger than any memory")
    v.p = (v.height - v.dh * (v.kh - 1) - 1) // v.sh + 1
    v.q = (v.width - v.dw * (v.kw - 1) - 1) // v.sw + 1
    v.taps, v.pixels = v.c * v.kh * v.kw, v.p * v.q
    v.framed = v.ph > 0 or v.pw > 0
    return v


cdef void check_output(const Window *v, n, o, p, q) except *:
    """Refuse a gradient that does not have the shape of the output."""
    if (n, o, p, q) != (v.n, v.o, v.p, v.q):
        raise ValueError(f"convolution: the output is {(v.n, v.o, v.p, v.q)}, its gradient {(n, o, p, q)}")


cdef void fill_tables(const Window *v, Py_ssize_t *tap, Py_ssize_t *pixel, Py_ssize_t *row, Py_ssize_t rows,
                      Py_ssize_t stride) noexcept nogil:
    """Where things lie: tap[k], the tap k = (c, i, j) in the padded image, seen from its window's corner;
    pixel[u], the corner of the window of the output pixel u = (p, q); row[k], the row k of a gathered piece.
    """
    cdef Py_ssize_t c, i, j, p, q, k
    for c in range(v.c):
        for i in range(v.kh):
            for j in range(v.kw):
                tap[(c * v.kh + i) * v.kw + j] = (c * v.height + i * v.dh) * v.width + j * v.dw
    for p in range(v.p):
        for q in range(v.q):
            pixel[p * v.q + q] = p * v.sh * v.width + q * v.sw
    for k in range(rows):
        row[k] = k * stride


# ------------------------------------------------------------------------------------------------------------
# Moving pixels
# ------------------------------------------------------------------------------------------------------------


cdef const floating *in_frame(const Window *v, const floating *image, floating *frame) noexcept nogil:
    """The padded image: `image` itself without padding, else copied into `frame`, whose rim is zero."""
    cdef Py_ssize_t c, h
    if not v.framed:
        return image
    for c in range(v.c):
        for h in range(v.h):
            memcpy(frame + (c * v.height + h + v.ph) * v.width + v.pw, image + (c * v.h + h) * v.w,
                   v.w * sizeof(floating))
    return frame


cdef void out_of_frame(const Window *v, const floating *frame, floating *image) noexcept nogil:
    """The interior of `frame`, copied to `image`."""
    cdef Py_ssize_t c, h
    for c in range(v.c):
        for h in range(v.h):
            memcpy(image + (c * v.h + h) * v.w, frame + (c * v.height + h + v.ph) * v.width + v.pw,
                   v.w * sizeof(floating))


cdef inline bint side_by_side(const Py_ssize_t *pixel, Py_ssize_t count) noexcept nogil:
    """Whether these output pixels see neighbours in the image: `pixel` rises, so the ends tell."""
    return pixel[count - 1] - pixel[0] == count - 1


cdef void gather(floating *piece, Py_ssize_t stride, const floating *image, const Py_ssize_t *tap,
                 Py_ssize_t taps, const Py_ssize_t *pixel, Py_ssize_t count) noexcept nogil:
    """piece[k, u] = image[tap[k] + pixel[u]], a piece of X^: `taps` rows, `stride` apart, of `count` pixels.

    A vector of pixels at a time, all its taps: pixels that are neighbours in the image move as one, and those of the
    next piece are fetched.
    """
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(floating), k, s, u = 0, here
    cdef const floating *corner
    while u < count:
        here = min(lanes, count - u)
        if here == lanes and side_by_side(pixel + u, lanes):
            corner = image + pixel[u]
            for k in range(taps):
                memcpy(piece + k * stride + u, corner + tap[k], VECTOR_BYTES)
                prefetch(corner + tap[k] + 4 * lanes - 1)
        else:
            for k in range(taps):
                for s in range(u, u + here):
                    piece[k * stride + s] = image[tap[k] + pixel[s]]
        u += here


cdef void scatter(const floating *piece, Py_ssize_t stride, floating *image, const Py_ssize_t *tap,
                  Py_ssize_t taps, const Py_ssize_t *pixel, Py_ssize_t count) noexcept nogil:
    """image[tap[k] + pixel[u]] += piece[k, u]: the transpose of `gather`."""
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(floating), k, s, u = 0, here
    while u < count:
        here = min(lanes, count - u)
        if here == lanes and side_by_side(pixel + u, lanes):
            add_rows(taps, piece + u, stride, image + pixel[u], tap)
        else:
            for k in range(taps):
                for s in range(u, u + here):
                    image[tap[k] + pixel[s]] += piece[k * stride + s]
        u += here


cdef void pack_panels(floating *packed, const floating *matrix, Py_ssize_t rows, Py_ssize_t columns,
                      Py_ssize_t blocks) noexcept nogil:
    """The left factor of a product in the order in which the tile reads it.

    The columns go into `blocks` nearly equal blocks; in a block, panels of at most OUTER_ROWS rows; in a panel, column
    by column. Panels are nearly equal: 16 rows are dealt 5, 5, 6.
    """
    cdef Py_ssize_t panels = pieces(rows, OUTER_ROWS), block, panel, k, r, depth, height
    for block in range(blocks):
        k = begin(columns, block, blocks)
        depth = begin(columns, block + 1, blocks) - k
        for panel in range(panels):
            r = begin(rows, panel, panels)
            height = begin(rows, panel + 1, panels) - r
            pack(packed, height, matrix + r * columns + k, columns, height, depth)
            packed += height * depth


# ------------------------------------------------------------------------------------------------------------
# Forward
# ------------------------------------------------------------------------------------------------------------


cdef void forward(const Window *v, const floating *x, const floating *packed, const floating *start,
                  const Py_ssize_t *tap, const Py_ssize_t *pixel, const Py_ssize_t *piece_row, floating *y,
                  floating *room, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """The panels `first` to `last` of y = W X^, counted through the batch; a panel is two vectors of pixels.

    For each image, for each block of taps, for each panel of pixels: gather this piece of X^, which then lies
    in the first-level cache, and multiply it by each panel of W, a block of which lies in the second-level
    one. Where W has only a few rows, gathering would take as long as multiplying: there, if the pixels of the
    panel are neighbours in the image, the tile reads them where they are.
    """
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(floating), columns = 2 * lanes
    cdef Py_ssize_t panels = pieces(v.pixels, columns), blocks = pieces(v.taps, DEPTH)
    cdef Py_ssize_t heights = pieces(v.o, OUTER_ROWS)
    cdef Py_ssize_t n, low, high, block, panel, height, k, depth, u, count, r, rows, i
    cdef floating *piece = room
    cdef floating *edge = piece + DEPTH * columns
    cdef floating *frame = edge + OUTER_ROWS * columns
    cdef floating *out
    cdef const floating *image
    cdef const floating *left
    cdef const floating *right
    cdef const Py_ssize_t *row
    if v.framed:
        memset(frame, 0, v.c * v.height * v.width * sizeof(floating))
    while first < last:
        n, low = first // panels, first % panels
        high = min(panels, low + last - first)
        first += high - low
        image = in_frame(v, x + n * v.c * v.h * v.w, frame)
        for block in range(blocks):
            k = begin(v.taps, block, blocks)
            depth = begin(v.taps, block + 1, blocks) - k
            for panel in range(low, high):
                u = panel * columns
                count = min(columns, v.pixels - u)
                if (heights <= FEW and count == columns and side_by_side(pixel + u, lanes)
                        and side_by_side(pixel + u + lanes, lanes)):
                    left, right, row = image + pixel[u], image + pixel[u + lanes], tap + k
                else:
                    gather(piece, columns, image, tap + k, depth, pixel + u, count)
                    left, right, row = piece, piece + lanes, piece_row
                for height in range(heights):
                    r = begin(v.o, height, heights)
                    rows = begin(v.o, height + 1, heights) - r
                    out = y + (n * v.o + r) * v.pixels + u
                    if count == columns:
                        outer(rows, depth, packed + k * v.o + r * depth, left, right, row, out, v.pixels,
                              start + r if block == 0 else NULL)
                    else:  # the last panel of an image is narrower than the tile
                        for i in range(rows if block > 0 else 0):
                            memcpy(edge + i * columns, out + i * v.pixels, count * sizeof(floating))
                        outer(rows, depth, packed + k * v.o + r * depth, left, right, row, edge, columns,
                              start + r if block == 0 else NULL)
                        for i in range(rows):
                            memcpy(out + i * v.pixels, edge + i * columns, count * sizeof(floating))


# ------------------------------------------------------------------------------------------------------------
# Forward, many images side by side
# ------------------------------------------------------------------------------------------------------------


cdef void side_by_side_images(const floating *x, Py_ssize_t count, Py_ssize_t channels, Py_ssize_t pixels,
                              floating *images) noexcept nogil:
    """images[u, c, n] = x[n, c, u] for n < count, and 0 for the other lanes of two vectors."""
    cdef Py_ssize_t lanes = 2 * VECTOR_BYTES // sizeof(floating), c, u, n
    for c in range(channels):
        pack(images + c * lanes, channels * lanes, x + c * pixels, channels * pixels, count, pixels)
        for u in range(pixels if count < lanes else 0):
            for n in range(count, lanes):
                images[(u * channels + c) * lanes + n] = 0


cdef void one_after_the_other(const floating *pixel, Py_ssize_t count, Py_ssize_t channels, Py_ssize_t here,
                              floating *y, Py_ssize_t pixels) noexcept nogil:
    """y[n, c, u] = pixel[u, c, n] for n < count and `here` pixels u; an image of y has `pixels`."""
    cdef Py_ssize_t lanes = 2 * VECTOR_BYTES // sizeof(floating), c
    for c in range(channels):
        pack(y + c * pixels, channels * pixels, pixel + c * lanes, channels * lanes, here, count)


cdef inline Py_ssize_t first_inside(Py_ssize_t corner, Py_ssize_t step) noexcept nogil:
    """The first tap i >= 0 with corner + i step >= 0."""
    return pieces(-corner, step) if corner < 0 else 0


cdef inline Py_ssize_t last_inside(Py_ssize_t corner, Py_ssize_t step, Py_ssize_t taps, Py_ssize_t size) noexcept nogil:
    """How many of the first `taps` taps i have corner + i step < size."""
    return max(min(taps, pieces(size - corner, step)), 0)


cdef void forward_many(const Window *v, const floating *x, const floating *packed, const floating *start,
                       const Py_ssize_t *row, floating *y, floating *room, Py_ssize_t first,
                       Py_ssize_t last) noexcept nogil:
    """The rows `first` to `last` of pixels of y = W X^, counted through groups of as many images as two vectors hold.

    With the images of a group side by side, images[h, w, c, n], the tile's columns are one pixel of all of them: a
    row of X^ lies in memory as it is needed, nothing is gathered, no pixel is left over, and taps that see padding
    are skipped, a quarter of the work where images are small. Taps come in the order i, j, c.
    """
    cdef Py_ssize_t lanes = 2 * VECTOR_BYTES // sizeof(floating), heights = pieces(v.o, OUTER_ROWS)
    cdef Py_ssize_t group = -1, n, p, q, i, i0, i1, j0, j1, k, block, blocks, depth, height, r, rows, several, across
    cdef floating *images = room
    cdef floating *line = room + v.h * v.w * v.c * lanes
    cdef floating *out
    cdef const floating *corner
    cdef bint fresh
    for n in range(first, last):
        p = n % v.p
        if n // v.p != group:
            group = n // v.p
            side_by_side_images(x + group * lanes * v.c * v.h * v.w, min(lanes, v.n - group * lanes), v.c, v.h * v.w,
                                images)
        i0 = first_inside(p * v.sh - v.ph, v.dh)
        i1 = last_inside(p * v.sh - v.ph, v.dh, v.kh, v.h)
        for q in range(v.q):
            j0 = first_inside(q * v.sw - v.pw, v.dw)
            j1 = last_inside(q * v.sw - v.pw, v.dw, v.kw, v.w)
            corner = images + ((p * v.sh - v.ph) * v.w + q * v.sw - v.pw) * v.c * lanes
            out = line + q * v.o * lanes
            fresh = True
            i = i0
            while i < i1 and j0 < j1:
                across = (j1 - j0) * v.c
                several = min(i1 - i, max(DEPTH // across, 1)) if j1 - j0 == v.kw else 1
                blocks = pieces(several * across, DEPTH)
                for block in range(blocks):
                    k = (i * v.kw + j0) * v.c + begin(several * across, block, blocks)
                    depth = begin(several * across, block + 1, blocks) - begin(several * across, block, blocks)
                    for height in range(heights):
                        r = begin(v.o, height, heights)
                        rows = begin(v.o, height + 1, heights) - r
                        outer(rows, depth, packed + r * v.taps + k * rows, corner, corner + lanes // 2, row + k,
                              out + r * lanes, lanes, start + r if fresh else NULL)
                    fresh = False
                i += several
            if fresh:  # the window lies in the padding
                for r in range(v.o * lanes):
                    out[r] = start[r // lanes]
        one_after_the_other(line, min(lanes, v.n - group * lanes), v.o, v.q,
                            y + (group * lanes * v.o * v.p + p) * v.q, v.pixels)


cdef double seen(Py_ssize_t outputs, Py_ssize_t stride, Py_ssize_t padding, Py_ssize_t dilation, Py_ssize_t taps,
                 Py_ssize_t size) noexcept nogil:
    """How many pairs of an output pixel and a tap see the image, not its padding, along one axis."""
    cdef Py_ssize_t count = 0, p, corner
    for p in range(outputs):
        corner = p * stride - padding
        count += max(last_inside(corner, dilation, taps, size) - first_inside(corner, dilation), 0)
    return count


cdef bint many(const Window *v, Py_ssize_t itemsize) noexcept nogil:
    """Whether images side by side are faster, from what each way costs in operations on vectors, as measured.

    What is saved is padding, pixels that do not fill a panel, and gathering; what it costs is to turn images round,
    four times as much where they do not stay in the second-level cache.
    """
    cdef Py_ssize_t lanes = 2 * VECTOR_BYTES // itemsize, pixels = rounded(v.pixels, lanes)
    cdef double pairs = seen(v.p, v.sh, v.ph, v.dh, v.kh, v.h) * seen(v.q, v.sw, v.pw, v.dw, v.kw, v.w) * v.c
    cdef double full = rounded(v.n, lanes) / <double> v.n   # lanes for which there is no image
    cdef double gather = 0.2 if v.sw == 1 and v.q % (lanes // 2) == 0 else 0.6
    cdef double move = 2.0 if 2 * VECTOR_BYTES * v.c * v.h * v.w <= CACHE else 8.0
    cdef double apart = <double> v.taps * pixels * (<double> v.o / lanes + gather)
    cdef double together = full * (pairs * v.o / lanes + move * (<double> v.c * v.h * v.w + <double> v.o * v.pixels))
    return together < apart


cdef conv2d_many(const Window *v, const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] weight,
                 const floating[::1] bias):
    """y (N, O, P, Q) = bias + W X^, many images side by side."""
    dtype = np.float32 if floating is float else np.float64
    y = np.empty((v.n, v.o, v.p, v.q), dtype)
    cdef Py_ssize_t lanes = 2 * VECTOR_BYTES // sizeof(floating), line = CACHE_LINE // sizeof(floating)
    cdef Py_ssize_t lines = pieces(v.n, lanes) * v.p
    cdef Py_ssize_t share = rounded((v.h * v.w * v.c + v.q * v.o) * lanes, line)
    cdef int team = team_for(threads, 2.0 * v.n * v.o * v.taps * v.pixels, lines), t
    cdef floating[::1] packed = np.empty(v.o * v.taps, dtype)
    cdef floating[::1] start = np.zeros(v.o, dtype)
    cdef floating[::1] room = np.empty(team * share + line, dtype)
    cdef Py_ssize_t[::1] table = np.empty(v.taps, np.intp)
    cdef Py_ssize_t i, j, c
    cdef floating[:, :, :, ::1] out = y
    cdef floating *rooms = <floating *> aligned(&room[0])
    cdef const floating[:, :, :, ::1] by_place = np.ascontiguousarray(np.asarray(weight).transpose(0, 2, 3, 1))
    if bias is not None:
        start[:] = bias
    with nogil:
        for i in range(v.kh):
            for j in range(v.kw):
                for c in range(v.c):
                    table[(i * v.kw + j) * v.c + c] = ((i * v.dh * v.w + j * v.dw) * v.c + c) * lanes
        pack_panels(&packed[0], &by_place[0, 0, 0, 0], v.o, v.taps, 1)
        for t in prange(team, num_threads=team, schedule="static", use_threads_if=team > 1):
            forward_many(v, &x[0, 0, 0, 0], &packed[0], &start[0], &table[0], &out[0, 0, 0, 0],
                         rooms + t * share, begin(lines, t, team), begin(lines, t + 1, team))
    return y


def conv2d(const floating[:, :, :, ::1] x not None, const floating[:, :, :, ::1] weight not None,
           const floating[::1] bias, stride, padding, dilation):
    """y (N, O, P, Q) = bias + W X^."""
    cdef Window v = window((x.shape[0], x.shape[1], x.shape[2], x.shape[3]),
                           (weight.shape[0], weight.shape[1], weight.shape[2], weight.shape[3]),
                           stride, padding, dilation)
    if bias is not None and bias.shape[0] != v.o:
        raise ValueError(f"convolution: {v.o} filters, {bias.shape[0]} entries in the bias")
    if many(&v, sizeof(floating)):
        return conv2d_many(&v, x, weight, bias)
    dtype = np.float32 if floating is float else np.float64
    y = np.empty((v.n, v.o, v.p, v.q), dtype)
    cdef Py_ssize_t columns = 2 * VECTOR_BYTES // sizeof(floating), line = CACHE_LINE // sizeof(floating)
    cdef Py_ssize_t panels = v.n * pieces(v.pixels, columns)
    cdef Py_ssize_t frame = v.framed * v.c * v.height * v.width
    cdef Py_ssize_t share = rounded((DEPTH + OUTER_ROWS) * columns + frame, line)
    cdef int team = team_for(threads, 2.0 * v.n * v.o * v.taps * v.pixels, panels), t
    cdef floating[::1] packed = np.empty(v.o * v.taps, dtype)
    cdef floating[::1] start = np.zeros(v.o, dtype)
    cdef floating[::1] room = np.empty(team * share + line, dtype)
    cdef Py_ssize_t[::1] table = np.empty(v.taps + v.pixels + DEPTH, np.intp)
    cdef Py_ssize_t *tap = &table[0]
    cdef Py_ssize_t *pixel = tap + v.taps
    cdef Py_ssize_t *row = pixel + v.pixels
    cdef floating[:, :, :, ::1] out = y
    cdef floating *rooms = <floating *> aligned(&room[0])
    if bias is not None:
        start[:] = bias
    with nogil:
        fill_tables(&v, tap, pixel, row, DEPTH, columns)
        pack_panels(&packed[0], &weight[0, 0, 0, 0], v.o, v.taps, pieces(v.taps, DEPTH))
        for t in prange(team, num_threads=team, schedule="static", use_threads_if=team > 1):
            forward(&v, &x[0, 0, 0, 0], &packed[0], &start[0], tap, pixel, row, &out[0, 0, 0, 0],
                    rooms + t * share, begin(panels, t, team), begin(panels, t + 1, team))
    return y


# ------------------------------------------------------------------------------------------------------------
# The gradient of the input
# ------------------------------------------------------------------------------------------------------------


cdef void backward_input(const Window *v, const floating *g, const floating *packed, const floating *start,
                         const Py_ssize_t *tap, const Py_ssize_t *pixel, const Py_ssize_t *piece_row,
                         floating *gx, floating *room,
                         Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """The images `first` to `last` of gx: for each panel of pixels, G^ = W^T g, each tile added as it comes.

    The taps come in the order j, c, i: one after the other, they add to different rows of the image. In the
    order c, i, j each would add to the pixels of the one before, shifted by one, and wait until they are
    stored. Where the pixels of both vectors are neighbours in the image, the tile adds to the image itself.
    """
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(floating), columns = 2 * lanes
    cdef Py_ssize_t panels = pieces(v.pixels, columns), heights = pieces(v.taps, OUTER_ROWS)
    cdef Py_ssize_t blocks = pieces(v.o, DEPTH), block, depth
    cdef Py_ssize_t size = v.c * v.height * v.width
    cdef Py_ssize_t n, panel, height, u, count, o, r, rows
    cdef floating *piece = room
    cdef floating *out = piece + v.o * columns
    cdef floating *frame = out + OUTER_ROWS * columns
    cdef floating *image
    cdef bint direct
    for n in range(first, last):
        image = frame if v.framed else gx + n * size
        memset(image, 0, size * sizeof(floating))
        for panel in range(panels):
            u = panel * columns
            count = min(columns, v.pixels - u)
            direct = (count == columns and side_by_side(pixel + u, lanes)
                      and side_by_side(pixel + u + lanes, lanes))
            for o in range(v.o):
                if count == columns:
                    memcpy(piece + o * columns, g + (n * v.o + o) * v.pixels + u, 2 * VECTOR_BYTES)
                else:
                    memcpy(piece + o * columns, g + (n * v.o + o) * v.pixels + u, count * sizeof(floating))
            for height in range(heights):
                r = begin(v.taps, height, heights)
                rows = begin(v.taps, height + 1, heights) - r
                for block in range(blocks):
                    o = begin(v.o, block, blocks)
                    depth = begin(v.o, block + 1, blocks) - o
                    if direct:
                        spread(rows, depth, packed + o * v.taps + r * depth, piece + o * columns,
                               image + pixel[u], image + pixel[u + lanes], tap + r)
                    else:
                        outer(rows, depth, packed + o * v.taps + r * depth, piece, piece + lanes, piece_row + o,
                              out, columns, start if block == 0 else NULL)
                if not direct:
                    scatter(out, columns, image, tap + r, rows, pixel + u, count)
        if v.framed:
            out_of_frame(v, frame, gx + n * v.c * v.h * v.w)


def conv2d_input(const floating[:, :, :, ::1] g not None, const floating[:, :, :, ::1] weight not None,
                 x_shape, stride, padding, dilation):
    """gx, of the shape x_shape: in one of two ways.

    With stride 1, gx is itself a correlation, of the padded g with the filters turned by 180 degrees. Nothing
    is added in memory then: good where the padding is skipped, or small and the channels many. Else W^T g is added up:
    with one channel a correlation would be tiles of one row, too few sums to hide how long each addition takes.
    """
    cdef Window v = window(x_shape, (weight.shape[0], weight.shape[1], weight.shape[2], weight.shape[3]),
                           stride, padding, dilation)
    check_output(&v, g.shape[0], g.shape[1], g.shape[2], g.shape[3])
    cdef Py_ssize_t ph = v.dh * (v.kh - 1) - v.ph, pw = v.dw * (v.kw - 1) - v.pw
    cdef Window back
    if v.sh == v.sw == 1 and ph >= 0 and pw >= 0:
        flipped = np.ascontiguousarray(np.asarray(weight)[:, :, ::-1, ::-1].transpose(1, 0, 2, 3))
        back = window((v.n, v.o, v.p, v.q), flipped.shape, (1, 1), (ph, pw), dilation)
        if (v.c > 1 and many(&back, sizeof(floating))) or (v.c >= MANY and 4 * v.h * v.w <= 5 * v.pixels):
            return conv2d(np.asarray(g), flipped, None, (1, 1), (ph, pw), dilation)
    dtype = np.float32 if floating is float else np.float64
    gx = np.empty((v.n, v.c, v.h, v.w), dtype)
    cdef Py_ssize_t columns = 2 * VECTOR_BYTES // sizeof(floating), line = CACHE_LINE // sizeof(floating)
    cdef Py_ssize_t frame = v.framed * v.c * v.height * v.width
    cdef Py_ssize_t share = rounded((v.o + OUTER_ROWS) * columns + frame, line)
    cdef int team = team_for(threads, 2.0 * v.n * v.o * v.taps * v.pixels, v.n), t
    cdef floating[::1] packed = np.empty(v.o * v.taps, dtype)
    cdef floating[::1] start = np.zeros(OUTER_ROWS, dtype)
    cdef floating[::1] room = np.empty(team * share + line, dtype)
    cdef Py_ssize_t[::1] table = np.empty(v.taps + v.pixels + v.o, np.intp)
    cdef Py_ssize_t *tap = &table[0]
    cdef Py_ssize_t *pixel = tap + v.taps
    cdef Py_ssize_t *row = pixel + v.pixels
    cdef floating[:, :, :, ::1] out = gx
    cdef floating *rooms = <floating *> aligned(&room[0])
    cdef const floating[:, :, :, ::1] turned = np.ascontiguousarray(np.asarray(weight).transpose(3, 1, 2, 0))
    cdef Py_ssize_t k, c, i, j
    with nogil:
        fill_tables(&v, tap, pixel, row, v.o, columns)
        for k in range(v.taps):  # the k-th tap in the order j, c, i
            j, c, i = k // (v.c * v.kh), k // v.kh % v.c, k % v.kh
            tap[k] = (c * v.height + i * v.dh) * v.width + j * v.dw
        pack_panels(&packed[0], &turned[0, 0, 0, 0], v.taps, v.o, pieces(v.o, DEPTH))
        for t in prange(team, num_threads=team, schedule="static", use_threads_if=team > 1):
            backward_input(&v, &g[0, 0, 0, 0], &packed[0], &start[0], tap, pixel, row, &out[0, 0, 0, 0],
                           rooms + t * share, begin(v.n, t, team), begin(v.n, t + 1, team))
    return gx


# ------------------------------------------------------------------------------------------------------------
# The gradient of the weights, and of the bias
# ------------------------------------------------------------------------------------------------------------


cdef void backward_weight_by_pixels(const Window *v, const floating *g, const floating *x, const Py_ssize_t *tap,
                                    const Py_ssize_t *pixel, floating *gw, floating *room, Py_ssize_t first,
                                    Py_ssize_t last) noexcept nogil:
    """gw (O, K) = sum of g X^^T over the images `first` to `last`; rows of gw are rounded up to whole tiles.

    Both factors are contiguous along the pixels, the index summed over: so dot products, with vectors along
    the pixels. The pixels of several images are joined into blocks of 2 kB a row, so that small images fill
    them. For each block of pixels, for each group of taps: gather X^ (in the second-level cache); then, for
    each batch of rows of g (in the first-level cache), let the rows of X^ pass by.
    """
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(floating), block = BLOCK_BYTES // sizeof(floating)
    cdef Py_ssize_t stride = block + lanes, columns = rounded(v.taps, DOT_COLUMNS)
    cdef Py_ssize_t heights = pieces(v.o, DOT_ROWS), size = v.c * v.h * v.w, framed = v.c * v.height * v.width
    cdef Py_ssize_t piece, begins, count, padded, n, u, here, done, o, k, s, r
    cdef Py_ssize_t group, taps, batch, height
    cdef floating *left = room
    cdef floating *right = left + v.o * stride
    cdef floating *frames = right + BLOCK_TAPS * stride
    cdef const floating *image
    memset(gw, 0, v.o * columns * sizeof(floating))
    if v.framed:
        memset(frames, 0, min(pieces(block, v.pixels) + 1, v.n) * framed * sizeof(floating))
    for piece in range(pieces((last - first) * v.pixels, block)):
        begins = first * v.pixels + piece * block
        count = min(block, last * v.pixels - begins)
        padded = rounded(count, lanes)
        done = 0
        while done < count:  # the rows of g, image after image
            n, u = (begins + done) // v.pixels, (begins + done) % v.pixels
            here = min(v.pixels - u, count - done)
            for o in range(v.o):
                memcpy(left + o * stride + done, g + (n * v.o + o) * v.pixels + u, here * sizeof(floating))
            if v.framed:
                in_frame(v, x + n * size, frames + (n - begins // v.pixels) * framed)
            done += here
        for o in range(v.o):
            for s in range(count, padded):
                left[o * stride + s] = 0
        for group in range(pieces(v.taps, BLOCK_TAPS)):
            k = group * BLOCK_TAPS
            taps = min(BLOCK_TAPS, v.taps - k)
            done = 0
            while done < count:  # the rows of X^, likewise
                n, u = (begins + done) // v.pixels, (begins + done) % v.pixels
                here = min(v.pixels - u, count - done)
                image = x + n * size
                if v.framed:
                    image = frames + (n - begins // v.pixels) * framed
                gather(right + done, stride, image, tap + k, taps, pixel + u, here)
                done += here
            for s in range(taps):
                for u in range(count, padded):
                    right[s * stride + u] = 0
            for batch in range(pieces(heights, BATCH)):
                for s in range(pieces(taps, DOT_COLUMNS)):
                    for height in range(batch * BATCH, min((batch + 1) * BATCH, heights)):
                        r = begin(v.o, height, heights)
                        dot(begin(v.o, height + 1, heights) - r, padded, left + r * stride,
                            right + s * DOT_COLUMNS * stride, stride,
                            gw + r * columns + k + s * DOT_COLUMNS, columns)


cdef struct Blocks:
    Py_ssize_t channels, groups     # channels side by side, and how many groups of them there are
    Py_ssize_t run, span            # numbers in a line under one row of a filter; the same in whole tiles
    Py_ssize_t images, parts        # a block is several images, or one of the parts of one image
    Py_ssize_t pixels, lines        # of output in a block, of input for one image of it; at most
    Py_ssize_t columns              # of gw


cdef Blocks blocks_of(const Window *v, Py_ssize_t lanes) noexcept nogil:
    """How `backward_weight_by_channels` divides its work, for tiles of `lanes` columns."""
    cdef Blocks b
    cdef Py_ssize_t rows
    b.groups = pieces(v.c, lanes)
    b.channels = pieces(v.c, b.groups)
    b.run = v.kw * b.channels
    b.span = rounded(b.run, lanes)
    b.images = min(max(BLOCK_PIXELS // v.pixels, 1), v.n)
    b.parts = pieces(v.p, max(BLOCK_PIXELS // v.q, 1)) if v.pixels > BLOCK_PIXELS else 1
    rows = pieces(v.p, b.parts)
    b.pixels = b.images * rows * v.q
    b.lines = (rows - 1) * v.sh + (v.kh - 1) * v.dh + 1
    b.columns = b.groups * v.kh * b.span
    return b


cdef void fill_tables_by_channels(const Window *v, const Blocks *b, Py_ssize_t *place,
                                  Py_ssize_t *pixel) noexcept nogil:
    """place[k], where the tap k lies in a row of gw; pixel[u], where in a block the window of its pixel u begins."""
    cdef Py_ssize_t k, c, i, j, group, u, p, q
    for k in range(v.taps):
        c, i, j = k // (v.kh * v.kw), k // v.kw % v.kh, k % v.kw
        group = ((c + 1) * b.groups - 1) // v.c
        place[k] = (group * v.kh + i) * b.span + j * b.channels + c - begin(v.c, group, b.groups)
    for u in range(b.pixels):
        p, q = u // v.q, u % v.q  # the row, counted through the images of the block
        p = p // v.p * b.lines + p % v.p * v.sh if b.images > 1 else p * v.sh
        pixel[u] = (p * v.width + q * v.sw) * b.channels


cdef void channels_last(const Window *v, const Blocks *b, const floating *x, Py_ssize_t group, Py_ssize_t first,
                        Py_ssize_t lines, floating *frame) noexcept nogil:
    """frame[h, w, c] = x[c, first + h, w] in the padded image, for the channels of a group."""
    cdef Py_ssize_t c = begin(v.c, group, b.groups), count = begin(v.c, group + 1, b.groups) - c, h, width = v.width
    cdef floating *line
    if not v.framed:
        pack(frame, b.channels, x + (c * v.h + first) * v.w, v.h * v.w, count, lines * v.w)
        return
    for h in range(first - v.ph, first - v.ph + lines):
        line = frame + (h + v.ph - first) * width * b.channels
        memset(line, 0, width * b.channels * sizeof(floating))
        if 0 <= h < v.h:
            pack(line + v.pw * b.channels, b.channels, x + (c * v.h + h) * v.w, v.h * v.w, count, v.w)


cdef void backward_weight_by_channels(const Window *v, const Blocks *b, const floating *g, const floating *x,
                                      const Py_ssize_t *row, floating *gw, floating *room, Py_ssize_t first,
                                      Py_ssize_t last) noexcept nogil:
    """The same with vectors along the channels: gw[o, (group, i, j, c)], each run of (j, c) rounded up to whole tiles.

    With the channels of a group innermost, image[h, w, c], what a row of a filter sees is a run of neighbours. A
    tile then sums over the pixels of a block, of g packed and of the image as it lies; nothing is gathered, for
    one tap after the other reads the same piece of the image, shifted, from the first-level cache. Rows of pixels
    under which a row of the filter sees padding alone are left out, if the block is of one image.
    """
    cdef Py_ssize_t lanes = 2 * VECTOR_BYTES // sizeof(floating), heights = pieces(v.o, OUTER_ROWS)
    cdef Py_ssize_t size = v.c * v.h * v.w, n = first, part, p, rows, lines, images, image, pixels, group, height, r
    cdef Py_ssize_t high, i, low, above, s
    cdef floating *left = room
    cdef floating *frame = left + v.o * b.pixels
    memset(gw, 0, v.o * b.columns * sizeof(floating))
    memset(frame, 0, (b.images * b.lines * v.width * b.channels + lanes) * sizeof(floating))
    while n < last:
        images = min(b.images, last - n)
        for part in range(b.parts):
            p = begin(v.p, part, b.parts)
            rows = begin(v.p, part + 1, b.parts) - p
            lines = (rows - 1) * v.sh + (v.kh - 1) * v.dh + 1
            pixels = rows * v.q
            for height in range(heights):
                r = begin(v.o, height, heights)
                high = begin(v.o, height + 1, heights) - r
                for image in range(images):
                    pack(left + (r * images + image * high) * pixels, high,
                         g + ((n + image) * v.o + r) * v.pixels + p * v.q, v.pixels, high, pixels)
            for group in range(b.groups):
                for image in range(images):
                    channels_last(v, b, x + (n + image) * size, group, p * v.sh, lines,
                                  frame + image * lines * v.width * b.channels)
                for height in range(heights):
                    r = begin(v.o, height, heights)
                    high = begin(v.o, height + 1, heights) - r
                    for i in range(v.kh):
                        low, above = 0, rows * images
                        if images == 1:
                            low = max(first_inside(i * v.dh - v.ph, v.sh) - p, 0)
                            above = min(last_inside(i * v.dh - v.ph, v.sh, v.p, v.h) - p, rows)
                        s = 0
                        while s < b.run and low < above:
                            outer(high, (above - low) * v.q, left + (r * images * pixels + low * v.q * high),
                                  frame + (low * v.sh + i * v.dh) * v.width * b.channels + s,
                                  frame + (low * v.sh + i * v.dh) * v.width * b.channels + s + lanes // 2, row,
                                  gw + r * b.columns + (group * v.kh + i) * b.span + s, b.columns, NULL)
                            s += lanes
        n += images


def conv2d_weight(const floating[:, :, :, ::1] g not None, const floating[:, :, :, ::1] x not None,
                  weight_shape, stride, padding, dilation):
    """gw, of the shape weight_shape, in one of two ways: by channels where channels and taps fill the vectors.

    Each thread sums its own images; at last the sums are added in order.
    """
    cdef Window v = window((x.shape[0], x.shape[1], x.shape[2], x.shape[3]), weight_shape,
                           stride, padding, dilation)
    check_output(&v, g.shape[0], g.shape[1], g.shape[2], g.shape[3])
    dtype = np.float32 if floating is float else np.float64
    cdef Py_ssize_t line = CACHE_LINE // sizeof(floating), lanes = VECTOR_BYTES // sizeof(floating)
    cdef Blocks b = blocks_of(&v, 2 * lanes)
    # By pixels a filter costs 15/16, and gathering as much as 8 filters; by channels the lanes beyond a run are lost.
    cdef bint by_channels = v.dw == 1 and 16.0 * b.run * (v.o + 8) >= 15.0 * b.span * v.o
    cdef Py_ssize_t block = BLOCK_BYTES // sizeof(floating)
    cdef Py_ssize_t frames = min(pieces(block, v.pixels) + 1, v.n) * v.framed * v.c * v.height * v.width
    cdef Py_ssize_t share = rounded((v.o + BLOCK_TAPS) * (block + lanes) + frames, line)
    cdef Py_ssize_t columns = rounded(v.taps, DOT_COLUMNS)
    if by_channels:
        share = rounded(v.o * b.pixels + b.images * b.lines * v.width * b.channels + 2 * lanes, line)
        columns = b.columns
    cdef Py_ssize_t slab = rounded(v.o * columns, line)
    cdef int team = team_for(threads, 2.0 * v.n * v.o * v.taps * v.pixels, v.n), t
    cdef floating[::1] room = np.empty(team * (share + slab) + line, dtype)
    cdef Py_ssize_t[::1] table = np.empty(2 * v.taps + max(v.pixels, b.pixels), np.intp)
    cdef Py_ssize_t *place = &table[0]  # of a tap in a row of gw
    cdef Py_ssize_t *tap = place + v.taps
    cdef Py_ssize_t *pixel = tap + v.taps
    cdef floating *rooms = <floating *> aligned(&room[0])
    cdef floating *slabs = rooms + team * share
    cdef Py_ssize_t o, k, i
    gw = np.empty((v.o, v.taps), dtype)
    cdef floating[:, ::1] out = gw
    with nogil:
        if by_channels:
            fill_tables_by_channels(&v, &b, place, pixel)
            for t in prange(team, num_threads=team, schedule="static", use_threads_if=team > 1):
                backward_weight_by_channels(&v, &b, &g[0, 0, 0, 0], &x[0, 0, 0, 0], pixel, slabs + t * slab,
                                            rooms + t * share, begin(v.n, t, team), begin(v.n, t + 1, team))
        else:
            fill_tables(&v, tap, pixel, NULL, 0, 0)
            for k in range(v.taps):
                place[k] = k
            for t in prange(team, num_threads=team, schedule="static", use_threads_if=team > 1):
                backward_weight_by_pixels(&v, &g[0, 0, 0, 0], &x[0, 0, 0, 0], tap, pixel, slabs + t * slab,
                                          rooms + t * share, begin(v.n, t, team), begin(v.n, t + 1, team))
        for o in range(v.o):
            for k in range(v.taps):
                out[o, k] = slabs[o * columns + place[k]]
                for i in range(1, team):
                    out[o, k] += slabs[i * slab + o * columns + place[k]]
    return gw.reshape(v.o, v.c, v.kh, v.kw)


def conv2d_bias(const floating[:, :, :, ::1] g not None):
    """gb (O,): the sum of g over images and pixels."""
    cdef Py_ssize_t images = g.shape[0], filters = g.shape[1], pixels = g.shape[2] * g.shape[3], n, o
    cdef floating lane[LANES]
    if images * filters * pixels < 1:
        raise ValueError("convolution: an empty gradient")
    gb = np.empty(filters, np.float32 if floating is float else np.float64)
    cdef floating[::1] out = gb
    with nogil:
        for o in range(filters):
            memset(lane, 0, sizeof(lane))
            for n in range(images):
                add(lane, &g[n, o, 0, 0], pixels)
            out[o] = <floating> total(lane)
    return gb
