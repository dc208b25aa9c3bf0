"""Moving blocks of columns between a wide matrix and a narrow one.

Each kernel reads and writes every element of the narrow matrix once.  Work is cut into pieces of rows, not
whole rows, so that a batch of one still uses all threads.
"""

from cython.parallel cimport prange
from libc.string cimport memcpy

from common cimport ceil_div, real

cdef enum:
    PIECE = 16384   # columns of one piece


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
