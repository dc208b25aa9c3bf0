"""Patches of images laid out as channels, and back.

Images lie in a frame of zeros when there is padding, so that the element of a channel at kernel
position k and place p is found by adding two offsets, ``k_table[k] + place_table[p]``.  A task owns one channel
of one image: it copies its rows of columns, or adds them into its frame in their order.
"""

from cython.parallel cimport prange
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from common cimport real


def pad(const real[:, :, ::1] x, const int64_t[::1] row_table, real[:, ::1] framed, int n_threads):
    """Copy x (planes, rows, width) into the zero frame: row r starts at framed[plane, row_table[r]]."""
    cdef int64_t plane, row, n_rows = x.shape[1], width = x.shape[2]
    for plane in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        memset(&framed[plane, 0], 0, framed.shape[1] * sizeof(real))
        for row in range(n_rows):
            memcpy(&framed[plane, row_table[row]], &x[plane, row, 0], width * sizeof(real))


def crop(const real[:, ::1] framed, const int64_t[::1] row_table, real[:, :, ::1] x, int n_threads):
    """The inverse of `pad`: what lies in the frame is dropped."""
    cdef int64_t plane, row, n_rows = x.shape[1], width = x.shape[2]
    for plane in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        for row in range(n_rows):
            memcpy(&x[plane, row, 0], &framed[plane, row_table[row]], width * sizeof(real))


def gather(
    const real[:, ::1] framed, const int64_t[::1] k_table, const int64_t[::1] place_table,
    real[:, :, ::1] columns, int n_threads,
):
    """columns[plane, k, p] = framed[plane, k_table[k] + place_table[p]]."""
    cdef Py_ssize_t plane, k, p
    for plane in prange(columns.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        for k in range(columns.shape[1]):
            for p in range(columns.shape[2]):
                columns[plane, k, p] = framed[plane, k_table[k] + place_table[p]]


def scatter(
    const real[:, :, ::1] columns, const int64_t[::1] k_table, const int64_t[::1] place_table,
    real[:, ::1] framed, int n_threads,
):
    """framed = 0, then framed[plane, k_table[k] + place_table[p]] += columns[plane, k, p]."""
    cdef Py_ssize_t plane, k, p, at
    if framed.shape[1] == 0:
        return
    for plane in prange(columns.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        memset(&framed[plane, 0], 0, framed.shape[1] * sizeof(real))
        for k in range(columns.shape[1]):
            for p in range(columns.shape[2]):
                at = k_table[k] + place_table[p]
                framed[plane, at] = framed[plane, at] + columns[plane, k, p]


include "views.pxi"
