"""Convolution over any number of spatial axes: forward, backward by data, backward by weight.

All three are products of matrices (gemm.h) whose large operand is never written out.  The image is first
copied into a zero frame (`pad`) when there is padding; then the element of the column matrix at (k, place)
is ``image[k_table[k] + place_table[place]]``, k running over channels of a group and kernel positions:

    forward           y[o, place]   = sum_k  w[o, k] * image[k, place]        columns: places of the whole batch
    backward weight   dw[o, k]     += sum_n sum_place dy[o, place] * image[k, place]
    backward data     image'[k, place] += sum_o w[o, k] * dy[o, place]        a task owns some channels of one image

Each reads its operands about once per task and writes its result once.  Groups with one or two outputs
(depthwise) would leave the microkernel's rows empty and have loops of their own, over rows of the output.
"""

from cython.parallel cimport prange, threadid
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from common cimport real
from product cimport (
    columns_of_task,
    gemm_scratch_double,
    gemm_scratch_float,
    product_double,
    product_float,
    rows_of_task,
)

cdef enum:
    COLUMN_ROWS = 96   # rows of the column matrix that a task of backward_data holds, at least one channel's


cdef int64_t channels_of_task(int64_t channels, int64_t kernel) noexcept nogil:
    """Channels of one image that a task of backward_data owns."""
    return max(1, min(channels, COLUMN_ROWS // max(1, kernel)))


def scratch_size(int64_t channels, int64_t kernel, int n_threads, bint double_precision):
    """Elements of scratch that the products need, for `channels` in a group and `kernel` positions."""
    cdef int64_t column = channels_of_task(channels, kernel) * kernel * columns_of_task(double_precision)
    return n_threads * (column + (gemm_scratch_double() if double_precision else gemm_scratch_float()))


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


def forward(
    const real[::1] w, int64_t w_row, int64_t w_column,
    const real[:, :, ::1] image, const int64_t[::1] k_table, const int64_t[::1] place_table,
    const real[::1] bias, real[:, :, :, ::1] y, real[::1] scratch, int n_threads,
):
    """y (N, group, O/group, places) = w * image (N, group, frame) + bias (O,) or None.

    Element (o, k) of a group's weights is ``w[o * w_row + k * w_column]``; groups follow each other.
    """
    cdef int64_t n_images = y.shape[0], n_groups = y.shape[1], rows = y.shape[2], places = y.shape[3]
    cdef int64_t depth = k_table.shape[0], columns = n_images * places
    cdef int64_t block = columns_of_task(real is double)
    cdef int64_t n_blocks = (columns + block - 1) // block
    cdef int64_t share = rows_of_task(rows, n_blocks * n_groups, n_threads)
    cdef int64_t n_shares, group, task, m0, q0
    cdef int64_t per_thread = scratch.shape[0] // n_threads
    if columns == 0 or rows == 0:
        return
    n_shares = (rows + share - 1) // share
    cdef bint has_bias = bias is not None
    cdef const real *bias_data
    for task in prange(n_groups * n_shares * n_blocks, nogil=True, num_threads=n_threads,
                       schedule="dynamic", chunksize=1):
        group = task // (n_shares * n_blocks)
        m0 = task // n_blocks % n_shares * share
        q0 = task % n_blocks * block
        bias_data = &bias[group * rows] if has_bias else NULL
        if real is float:
            product_float(
                &w[group * rows * depth], w_row, w_column, depth,
                &image[0, group, 0], &k_table[0], &place_table[0], 0, 0, n_groups * image.shape[2], places,
                &y[0, group, 0, 0], places, 1, n_groups * rows * places,
                m0, min(m0 + share, rows), q0, min(q0 + block, columns),
                bias_data, 0, &scratch[threadid() * per_thread])
        else:
            product_double(
                &w[group * rows * depth], w_row, w_column, depth,
                &image[0, group, 0], &k_table[0], &place_table[0], 0, 0, n_groups * image.shape[2], places,
                &y[0, group, 0, 0], places, 1, n_groups * rows * places,
                m0, min(m0 + share, rows), q0, min(q0 + block, columns),
                bias_data, 0, &scratch[threadid() * per_thread])


def backward_weight(
    const real[:, :, :, ::1] dy, const real[:, :, ::1] image, const int64_t[::1] k_table,
    const int64_t[::1] place_table, real[:, :, ::1] dw, real[::1] scratch, int n_threads,
):
    """dw (group, O/group, K) += sum over images and places of dy (N, group, O/group, places) * image."""
    cdef int64_t n_images = dy.shape[0], n_groups = dy.shape[1], rows = dy.shape[2], places = dy.shape[3]
    cdef int64_t columns = k_table.shape[0]
    cdef int64_t block = columns_of_task(real is double)
    cdef int64_t n_blocks = (columns + block - 1) // block
    cdef int64_t share = rows_of_task(rows, n_blocks * n_groups, n_threads)
    cdef int64_t n_shares, group, task, m0, m1, q0, q1, n
    cdef int64_t per_thread = scratch.shape[0] // n_threads
    if rows == 0 or n_images * places == 0:
        return
    n_shares = (rows + share - 1) // share
    for task in prange(n_groups * n_shares * n_blocks, nogil=True, num_threads=n_threads,
                       schedule="dynamic", chunksize=1):
        group = task // (n_shares * n_blocks)
        m0 = task // n_blocks % n_shares * share
        m1 = min(m0 + share, rows)
        q0 = task % n_blocks * block
        q1 = min(q0 + block, columns)
        for n in range(n_images):
            if real is float:
                product_float(
                    &dy[n, group, 0, 0], places, 1, places,
                    &image[n, group, 0], &place_table[0], &k_table[0], 0, 0, 0, columns,
                    &dw[group, 0, 0], columns, 1, 0, m0, m1, q0, q1,
                    NULL, 1, &scratch[threadid() * per_thread])
            else:
                product_double(
                    &dy[n, group, 0, 0], places, 1, places,
                    &image[n, group, 0], &place_table[0], &k_table[0], 0, 0, 0, columns,
                    &dw[group, 0, 0], columns, 1, 0, m0, m1, q0, q1,
                    NULL, 1, &scratch[threadid() * per_thread])


def backward_data(
    const real[:, :, ::1] w, const real[:, :, :, ::1] dy, const int64_t[::1] k_table,
    const int64_t[::1] place_table, int64_t kernel, real[:, :, ::1] image, real[::1] scratch, int n_threads,
):
    """image (N, group, frame) = the gradient gathered from dy (N, group, O/group, places), w (group, O/group, K)."""
    cdef int64_t n_images = dy.shape[0], n_groups = dy.shape[1], depth = dy.shape[2], places = dy.shape[3]
    cdef int64_t frame = image.shape[2]
    cdef int64_t channels = k_table.shape[0] // kernel
    cdef int64_t plane = frame // channels if channels else 0
    cdef int64_t owned = channels_of_task(channels, kernel)
    cdef int64_t n_owners = (channels + owned - 1) // owned if owned else 0
    cdef int64_t block = columns_of_task(real is double)
    cdef int64_t per_thread = scratch.shape[0] // n_threads
    cdef int64_t task, n, group, c0, c1, k0, k1, q0, q1, k, q
    cdef real *column
    cdef real *to
    cdef const int64_t *at
    for task in prange(n_images * n_groups * n_owners, nogil=True, num_threads=n_threads,
                       schedule="dynamic", chunksize=1):
        n = task // (n_groups * n_owners)
        group = task // n_owners % n_groups
        c0 = task % n_owners * owned
        c1 = min(c0 + owned, channels)
        k0 = c0 * kernel
        k1 = c1 * kernel
        column = &scratch[threadid() * per_thread]
        if plane:
            memset(&image[n, group, c0 * plane], 0, (c1 - c0) * plane * sizeof(real))
        q0 = 0
        while q0 < places:
            q1 = min(q0 + block, places)
            if real is float:
                product_float(
                    &w[group, 0, k0], 1, channels * kernel, depth,
                    &dy[n, group, 0, q0], NULL, NULL, places, 1, 0, q1 - q0,
                    column, block, 1, 0, 0, k1 - k0, 0, q1 - q0,
                    NULL, 0, column + owned * kernel * block)
            else:
                product_double(
                    &w[group, 0, k0], 1, channels * kernel, depth,
                    &dy[n, group, 0, q0], NULL, NULL, places, 1, 0, q1 - q0,
                    column, block, 1, 0, 0, k1 - k0, 0, q1 - q0,
                    NULL, 0, column + owned * kernel * block)
            at = &place_table[0]
            for k in range(k0, k1):
                to = &image[n, group, k_table[k]]
                for q in range(q0, q1):
                    to[at[q]] += column[(k - k0) * block + q - q0]
            q0 = q1


def depthwise_forward(
    const real[:, ::1] w, const real[:, :, ::1] image, const int64_t[::1] k_table, const int64_t[::1] row_table,
    int64_t stride, const real[::1] bias, real[:, :, :, ::1] y, int n_threads,
):
    """y (N, O, rows, width) = w (O, K) * image (N, group, frame) + bias, O a multiple of group.

    Place (row, i) starts at ``row_table[row] + i * stride`` of the frame.
    """
    cdef int64_t n_outputs = y.shape[1], n_rows = y.shape[2], width = y.shape[3], depth = k_table.shape[0]
    cdef int64_t per_group = n_outputs // image.shape[1]
    cdef int64_t task, n, o, row, k, i
    cdef real start, weight
    cdef real *to
    cdef const real *at
    for task in prange(y.shape[0] * n_outputs, nogil=True, num_threads=n_threads, schedule="static"):
        n = task // n_outputs
        o = task % n_outputs
        start = bias[o] if bias is not None else 0
        for row in range(n_rows):
            to = &y[n, o, row, 0]
            for i in range(width):
                to[i] = start
            for k in range(depth):
                weight = w[o, k]
                at = &image[n, o // per_group, k_table[k] + row_table[row]]
                if stride == 1:
                    for i in range(width):
                        to[i] += weight * at[i]
                else:
                    for i in range(width):
                        to[i] += weight * at[i * stride]


def depthwise_backward_data(
    const real[:, ::1] w, const real[:, :, :, ::1] dy, const int64_t[::1] k_table, const int64_t[::1] row_table,
    int64_t stride, real[:, :, ::1] image, int n_threads,
):
    """image (N, group, frame) = the gradient gathered from dy (N, O, rows, width) through w (O, K)."""
    cdef int64_t n_groups = image.shape[1], n_rows = dy.shape[2], width = dy.shape[3], depth = k_table.shape[0]
    cdef int64_t per_group = dy.shape[1] // n_groups
    cdef int64_t task, n, group, o, row, k, i
    cdef real weight
    cdef real *to
    cdef const real *at
    for task in prange(image.shape[0] * n_groups, nogil=True, num_threads=n_threads, schedule="static"):
        n = task // n_groups
        group = task % n_groups
        memset(&image[n, group, 0], 0, image.shape[2] * sizeof(real))
        for o in range(group * per_group, (group + 1) * per_group):
            for row in range(n_rows):
                at = &dy[n, o, row, 0]
                for k in range(depth):
                    weight = w[o, k]
                    to = &image[n, group, k_table[k] + row_table[row]]
                    if stride == 1:
                        for i in range(width):
                            to[i] += weight * at[i]
                    else:
                        for i in range(width):
                            to[i * stride] += weight * at[i]


def depthwise_backward_weight(
    const real[:, :, :, ::1] dy, const real[:, :, ::1] image, const int64_t[::1] k_table,
    const int64_t[::1] row_table, int64_t stride, real[:, ::1] dw, int n_threads,
):
    """dw (O, K) += sum over images, rows and places of dy (N, O, rows, width) * image (N, group, frame)."""
    cdef int64_t n_outputs = dy.shape[1], n_rows = dy.shape[2], width = dy.shape[3], depth = k_table.shape[0]
    cdef int64_t per_group = n_outputs // image.shape[1]
    cdef int64_t o, n, row, k, i
    cdef double total
    cdef const real *g
    cdef const real *at
    for o in prange(n_outputs, nogil=True, num_threads=n_threads, schedule="static"):
        for k in range(depth):
            total = 0
            for n in range(dy.shape[0]):
                for row in range(n_rows):
                    g = &dy[n, o, row, 0]
                    at = &image[n, o // per_group, k_table[k] + row_table[row]]
                    for i in range(width):
                        total = total + <double>g[i] * at[i * stride]
            dw[o, k] += <real>total


include "views.pxi"
