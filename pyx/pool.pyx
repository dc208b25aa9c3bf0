"""Pooling by maximum and by average of x (N, C, H, W) over windows, into y (N, C, H', W').

Planes are cut into blocks whose input fits into a part of L1, or several small ones make a block (see pool.h, where
a block is made).  A block is an item of work and writes what belongs to it alone, so the cut cannot show.  x is read
once, but for the rows that windows of two blocks share, and y written once.

The gradient of the maximum adds into planes of dx where the indices say, and a plane belongs to one thread.
"""

from cython.parallel cimport prange
from libc.stdint cimport int32_t
from libc.string cimport memset

from common cimport real

cdef extern from "pool.h" nogil:
    ctypedef struct pooling:
        Py_ssize_t planes, height, width, rows, columns, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, blocks
    void plan_blocks(pooling *p, bint back, int n_threads)
    void max_pool_block_float(const pooling *p, Py_ssize_t number, const float *x, float *y, int32_t *index)
    void max_pool_block_double(const pooling *p, Py_ssize_t number, const double *x, double *y, int32_t *index)
    void ave_pool_block_float(const pooling *p, Py_ssize_t number, const float *x, float *y)
    void ave_pool_block_double(const pooling *p, Py_ssize_t number, const double *x, double *y)
    void ave_back_block_float(const pooling *p, Py_ssize_t number, const float *dy, float *dx)
    void ave_back_block_double(const pooling *p, Py_ssize_t number, const double *dy, double *dx)


cdef pooling pooling_of(
    const real[:, :, :, ::1] x, const real[:, :, :, ::1] y, Py_ssize_t kernel_h, Py_ssize_t kernel_w,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t pad_h, Py_ssize_t pad_w,
) noexcept:
    cdef pooling p
    p.planes, p.height, p.width, p.rows, p.columns = (
        x.shape[0] * x.shape[1], x.shape[2], x.shape[3], y.shape[2], y.shape[3])
    p.kernel_h, p.kernel_w, p.stride_h, p.stride_w = kernel_h, kernel_w, stride_h, stride_w
    p.pad_h, p.pad_w = pad_h, pad_w
    return p


def max_pool(
    const real[:, :, :, ::1] x, real[:, :, :, ::1] y, int32_t[:, :, :, ::1] index,
    Py_ssize_t kernel_h, Py_ssize_t kernel_w, Py_ssize_t stride_h, Py_ssize_t stride_w,
    Py_ssize_t pad_h, Py_ssize_t pad_w, int n_threads,
):
    """Maximum of each window, cut to the image, and its place h * W + w; -FLT_MAX and -1 if there is none.

    No places are kept when index is None.
    """
    cdef pooling p = pooling_of(x, y, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w)
    cdef Py_ssize_t b
    if p.planes * p.rows * p.columns == 0:
        return
    plan_blocks(&p, False, n_threads)
    cdef const real *x_data = &x[0, 0, 0, 0] if p.height * p.width else NULL
    cdef real *y_data = &y[0, 0, 0, 0]
    cdef int32_t *index_data = &index[0, 0, 0, 0] if index is not None else NULL
    for b in prange(p.blocks, nogil=True, num_threads=n_threads, schedule="static"):
        if real is float:
            max_pool_block_float(&p, b, x_data, y_data, index_data)
        else:
            max_pool_block_double(&p, b, x_data, y_data, index_data)


def places_as_numbers(const int32_t[::1] index, real[::1] y, int n_threads):
    """y = index."""
    cdef Py_ssize_t i
    for i in prange(index.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        y[i] = index[i]


def max_pool_backward(
    const real[:, :, :, ::1] dy, const int32_t[:, :, :, ::1] index, real[:, :, :, ::1] dx, int n_threads
):
    """dx = 0, then dx at the place of each maximum += dy; places outside the plane are left out."""
    cdef Py_ssize_t plane = dx.shape[2] * dx.shape[3], windows = dy.shape[2] * dy.shape[3]
    cdef Py_ssize_t planes = dx.shape[0] * dx.shape[1], p
    if planes * plane == 0:
        return
    cdef const real *dy_data = &dy[0, 0, 0, 0] if windows else NULL
    cdef const int32_t *index_data = &index[0, 0, 0, 0] if windows else NULL
    cdef real *dx_data = &dx[0, 0, 0, 0]
    for p in prange(planes, nogil=True, num_threads=n_threads, schedule="static"):
        scatter_plane(dy_data + p * windows, index_data + p * windows, windows, dx_data + p * plane, plane)


cdef void scatter_plane(
    const real *dy, const int32_t *index, Py_ssize_t windows, real *dx, Py_ssize_t plane
) noexcept nogil:
    cdef Py_ssize_t i
    memset(dx, 0, plane * sizeof(real))
    for i in range(windows):
        if 0 <= index[i] < plane:
            dx[index[i]] += dy[i]


def ave_pool(
    const real[:, :, :, ::1] x, real[:, :, :, ::1] y,
    Py_ssize_t kernel_h, Py_ssize_t kernel_w, Py_ssize_t stride_h, Py_ssize_t stride_w,
    Py_ssize_t pad_h, Py_ssize_t pad_w, int n_threads,
):
    """Sum of each window, cut to the image, over its area, cut to the padded image."""
    cdef pooling p = pooling_of(x, y, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w)
    cdef Py_ssize_t b
    if p.planes * p.rows * p.columns == 0:
        return
    plan_blocks(&p, False, n_threads)
    cdef const real *x_data = &x[0, 0, 0, 0] if p.height * p.width else NULL
    cdef real *y_data = &y[0, 0, 0, 0]
    for b in prange(p.blocks, nogil=True, num_threads=n_threads, schedule="static"):
        if real is float:
            ave_pool_block_float(&p, b, x_data, y_data)
        else:
            ave_pool_block_double(&p, b, x_data, y_data)


def ave_pool_backward(
    const real[:, :, :, ::1] dy, real[:, :, :, ::1] dx,
    Py_ssize_t kernel_h, Py_ssize_t kernel_w, Py_ssize_t stride_h, Py_ssize_t stride_w,
    Py_ssize_t pad_h, Py_ssize_t pad_w, int n_threads,
):
    """dx = 0, then dx all over each window += dy over the area."""
    cdef pooling p = pooling_of(dx, dy, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w)
    cdef Py_ssize_t b
    if p.planes * p.height * p.width == 0:
        return
    plan_blocks(&p, True, n_threads)
    cdef const real *dy_data = &dy[0, 0, 0, 0] if p.rows * p.columns else NULL
    cdef real *dx_data = &dx[0, 0, 0, 0]
    for b in prange(p.blocks, nogil=True, num_threads=n_threads, schedule="static"):
        if real is float:
            ave_back_block_float(&p, b, dy_data, dx_data)
        else:
            ave_back_block_double(&p, b, dy_data, dx_data)


include "views.pxi"
