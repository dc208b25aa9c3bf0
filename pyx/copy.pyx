"""Moving parts of arrays: blocks of columns, blocks of any number of axes, and rows by their indices.

Each kernel reads and writes every element of the smaller array once.  Columns are cut into pieces of rows, not
whole rows, so that a batch of one still uses all threads.  Rows that are added where others may be added, too,
are cut into strips of columns instead: a strip has one thread, which adds the rows in their order.
"""

from cython.parallel cimport prange
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy

from common cimport ceil_div, real

cdef enum:
    PIECE = 16384   # columns of one piece
    STRIP = 256     # columns of one strip


def copy_into(const real[:, ::1] src, real[:, ::1] dst, Py_ssize_t offset, int n_threads):
    """dst[:, offset : offset + n] = src."""
    cdef Py_ssize_t columns = src.shape[1], pieces = ceil_div(columns, PIECE), i, row, start
    for i in prange(src.shape[0] * pieces, nogil=True, num_threads=n_threads, schedule="static"):
        row = i // pieces
        start = i % pieces * PIECE
        memcpy(&dst[row, offset + start], &src[row, start], min(PIECE, columns - start) * sizeof(real))


def copy_from(const real[:, ::1] src, Py_ssize_t offset, real[:, ::1] dst, int n_threads):
    """dst = src[:, offset : offset + n]."""
    cdef Py_ssize_t columns = dst.shape[1], pieces = ceil_div(columns, PIECE), i, row, start
    for i in prange(dst.shape[0] * pieces, nogil=True, num_threads=n_threads, schedule="static"):
        row = i // pieces
        start = i % pieces * PIECE
        memcpy(&dst[row, start], &src[row, offset + start], min(PIECE, columns - start) * sizeof(real))


def add_from(const real[:, ::1] src, Py_ssize_t offset, real[:, ::1] dst, int n_threads):
    """dst += src[:, offset : offset + n]."""
    cdef Py_ssize_t columns = dst.shape[1], pieces = ceil_div(columns, PIECE), i, row, start, j
    for i in prange(dst.shape[0] * pieces, nogil=True, num_threads=n_threads, schedule="static"):
        row = i // pieces
        start = i % pieces * PIECE
        for j in range(start, min(start + PIECE, columns)):
            dst[row, j] = dst[row, j] + src[row, offset + j]


cdef inline int64_t start_of_row(
    int64_t row, const int64_t *shape, const int64_t *block_shape, const int64_t *offset, Py_ssize_t n_axes
) noexcept nogil:
    """Where row `row` of a block (a row runs along the last axis) begins in the whole."""
    cdef int64_t at = offset[n_axes - 1], stride = shape[n_axes - 1]
    cdef Py_ssize_t axis
    for axis in range(n_axes - 2, -1, -1):
        at += (row % block_shape[axis] + offset[axis]) * stride
        row //= block_shape[axis]
        stride *= shape[axis]
    return at


def copy_block(
    const real[::1] src, const int64_t[::1] shape, const int64_t[::1] block_shape, const int64_t[::1] offset,
    real[::1] dst, int n_threads,
):
    """dst = the block of src, an array of that shape, that begins at offset."""
    cdef Py_ssize_t n_axes = shape.shape[0], i
    cdef int64_t width = block_shape[n_axes - 1] if n_axes else 1
    if dst.shape[0] == 0:
        return
    for i in prange(dst.shape[0] // width, nogil=True, num_threads=n_threads, schedule="static"):
        memcpy(&dst[i * width],
               &src[start_of_row(i, &shape[0], &block_shape[0], &offset[0], n_axes) if n_axes else 0],
               width * sizeof(real))


def paste_block(
    const real[::1] src, const int64_t[::1] shape, const int64_t[::1] block_shape, const int64_t[::1] offset,
    real[::1] dst, int n_threads,
):
    """The block of dst, an array of that shape, that begins at offset = src."""
    cdef Py_ssize_t n_axes = shape.shape[0], i
    cdef int64_t width = block_shape[n_axes - 1] if n_axes else 1
    if src.shape[0] == 0:
        return
    for i in prange(src.shape[0] // width, nogil=True, num_threads=n_threads, schedule="static"):
        memcpy(&dst[start_of_row(i, &shape[0], &block_shape[0], &offset[0], n_axes) if n_axes else 0],
               &src[i * width], width * sizeof(real))


def row_indices(const real[::1] x, Py_ssize_t limit, int32_t[::1] index, refuse):
    """index = x cut to whole numbers; call refuse(i), which raises, when x[i] is the first not from 0 to limit - 1."""
    cdef Py_ssize_t i
    for i in range(x.shape[0]):
        # comparing before cutting lets NaN and huge numbers fail
        if not (x[i] > -1 and x[i] < limit):
            refuse(i)
            return
        index[i] = <int32_t> x[i]


def gather_rows(const real[:, ::1] src, const int32_t[::1] index, real[:, ::1] dst, int n_threads):
    """dst[i] = src[index[i]]."""
    cdef Py_ssize_t columns = dst.shape[1], i
    if columns == 0:
        return
    for i in prange(dst.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        memcpy(&dst[i, 0], &src[index[i], 0], columns * sizeof(real))


def scatter_add_rows(const real[:, ::1] src, const int32_t[::1] index, real[:, ::1] dst, int n_threads):
    """dst[index[i]] += src[i]."""
    cdef Py_ssize_t columns = src.shape[1], strips = ceil_div(columns, STRIP), strip, i, j
    for strip in prange(strips, nogil=True, num_threads=n_threads, schedule="static"):
        for i in range(src.shape[0]):
            for j in range(strip * STRIP, min((strip + 1) * STRIP, columns)):
                dst[index[i], j] = dst[index[i], j] + src[i, j]


include "views.pxi"
