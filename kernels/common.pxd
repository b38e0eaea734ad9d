"""What the kernels share: how work is dealt to threads, and where the numbers of an array lie.

Work is dealt by position: of `total` pieces, thread t of T takes those from begin(total, t, T) to
begin(total, t + 1, T). The result then depends on the number of threads, and on nothing else.
"""

from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_STRIDES, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uintptr_t

cdef extern from *:
    """
    #ifdef _OPENMP
    #define KERNELS_OPENMP 1
    #else
    #define KERNELS_OPENMP 0
    #endif
    """
    enum: KERNELS_OPENMP


cdef enum:
    CACHE_LINE = 64
    LARGEST = 0x7fffffff  # of strides and the like: two of them multiplied still fit in 64 bits


cdef extern from *:
    """
    #define KERNELS_TOO_MANY 1e12
    """
    const double TOO_MANY "KERNELS_TOO_MANY"  # numbers: more than any memory holds


cdef inline Py_ssize_t begin(Py_ssize_t total, Py_ssize_t part, Py_ssize_t parts) noexcept nogil:
    """Where part `part` of `parts` nearly equal ones begins."""
    return total * part // parts


cdef inline Py_ssize_t pieces(Py_ssize_t total, Py_ssize_t size) noexcept nogil:
    """How many pieces of at most `size` cover `total`."""
    return (total + size - 1) // size


cdef inline Py_ssize_t rounded(Py_ssize_t size, Py_ssize_t unit) noexcept nogil:
    """`size` rounded up to a multiple of `unit`."""
    return pieces(size, unit) * unit


cdef inline int team_for(int threads, double work, Py_ssize_t parts) noexcept nogil:
    """The threads that `work` operations in `parts` pieces deserve; a number moved counts as several.

    A parallel region costs some microseconds, and much more where another process wants the core: below 50 or so, one
    thread is as good.
    """
    if work < 6e6 or parts < 2:  # about 50 microseconds on one core
        return 1
    return <int> min(<Py_ssize_t> threads, parts)


cdef inline void *aligned(void *room) noexcept nogil:
    """The first start of a cache line in `room`."""
    return <void *> ((<uintptr_t> room + CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE)


cdef inline void *numbers(array, int flags, Py_ssize_t *size, Py_ssize_t *itemsize) except NULL:
    """Where the numbers of a contiguous array of floats or doubles lie; the caller keeps the array.

    They are `size` numbers of `itemsize` bytes, or as many as there are if `itemsize` is 0; that is then told.
    A typed memoryview would want to know the number of axes, and cost three times as much.
    """
    cdef Py_buffer view
    PyObject_GetBuffer(array, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | flags)
    cdef void *start = view.buf
    cdef bint good = (view.format[0] in (c"f", c"d") and view.format[1] == 0
                      and <uintptr_t> start % view.itemsize == 0)
    cdef Py_ssize_t count = view.len // view.itemsize, each = view.itemsize
    PyBuffer_Release(&view)
    if not good:
        raise TypeError("kernel: arrays must be aligned, of float32 or float64")
    if itemsize[0] == 0:
        size[0], itemsize[0] = count, each
    elif count != size[0] or each != itemsize[0]:
        raise ValueError("kernel: two arrays differ in size or in precision")
    return start


cdef struct Matrix:
    void *start
    Py_ssize_t rows, columns
    Py_ssize_t down, right  # entry [r, c] is start[r down + c right]


cdef inline Matrix matrix(array, Py_ssize_t itemsize) except *:
    """A matrix of floats or doubles, as `itemsize` says, with any strides; the caller keeps the array."""
    cdef Py_buffer view
    cdef Matrix m
    PyObject_GetBuffer(array, &view, PyBUF_STRIDES | PyBUF_FORMAT)
    cdef bint good = (view.ndim == 2 and view.itemsize == itemsize
                      and view.format[0] in (c"f", c"d") and view.format[1] == 0)
    if good:
        m.start, m.rows, m.columns = view.buf, view.shape[0], view.shape[1]
        m.down, m.right = view.strides[0] // itemsize, view.strides[1] // itemsize
        good = (<uintptr_t> view.buf | <uintptr_t> view.strides[0] | <uintptr_t> view.strides[1]) % itemsize == 0
    PyBuffer_Release(&view)
    if not good:
        raise TypeError("kernel: matrices must be aligned, all of float32 or all of float64")
    if m.rows < 1 or m.columns < 1:
        raise ValueError("kernel: an empty matrix")
    return m


cdef inline Matrix transposed(Matrix m) noexcept nogil:
    """Rows and columns exchanged."""
    return Matrix(m.start, m.columns, m.rows, m.right, m.down)
