"""Pooling by maximum and by average of x (N, C, H, W) over windows, into y (N, C, H', W').

`max_pool` makes one output row at a time.  The maxima so far lie in that row of y (and of index) and each
position of the window is compared with all of them in one loop, with the stride known to the compiler where
it is 1 or 2, so that the loop runs in vector registers.  Positions come in row order and only a strictly
larger value replaces what is there, so the first of equal values wins.  x is read kernel_h / stride_h times,
mostly from the cache.

`ave_pool` sums each window in double precision, in lanes where the window is as wide as the image (global
pooling).  Both backward passes add into planes of dx, and a plane belongs to one thread.
"""

from cython.parallel cimport prange
from libc.stdint cimport int32_t
from libc.string cimport memset

from common cimport LANES, real, total

cdef extern from "<float.h>" nogil:
    const float FLT_MAX


cdef inline Py_ssize_t first_output(Py_ssize_t offset, Py_ssize_t stride) noexcept nogil:
    """The first output whose window position, offset + output * stride, is not negative."""
    return 0 if offset >= 0 else (stride - 1 - offset) // stride


cdef inline void keep_larger(
    const real *x, Py_ssize_t stride, Py_ssize_t n, Py_ssize_t place, real *y, int32_t *index
) noexcept nogil:
    """Compare n outputs with one position each, x[0], x[stride], ..., the first at `place` of the plane."""
    cdef Py_ssize_t j
    cdef int32_t here = <int32_t> place, step = <int32_t> stride, larger
    for j in range(n):
        # all ones or all zeros: a branch would be guessed wrong for every other element
        larger = -<int32_t> (x[j * stride] > y[j])
        index[j] = (here & larger) | (index[j] & ~larger)
        y[j] = x[j * stride] if x[j * stride] > y[j] else y[j]
        here += step


cdef void max_row(
    const real *x, Py_ssize_t height, Py_ssize_t width, Py_ssize_t out_width, Py_ssize_t top,
    Py_ssize_t kernel_h, Py_ssize_t kernel_w, Py_ssize_t stride_w, Py_ssize_t pad_w,
    real *y, int32_t *index,
) noexcept nogil:
    """One row of outputs, whose windows start at row `top` of the plane x."""
    cdef Py_ssize_t h, k, j, j0, j1, n, place
    for j in range(out_width):
        y[j] = -FLT_MAX
        index[j] = -1
    for h in range(max(top, 0), min(top + kernel_h, height)):
        for k in range(kernel_w):
            j0 = first_output(k - pad_w, stride_w)
            j1 = min(first_output(k - pad_w - width, stride_w), out_width)
            n = j1 - j0
            place = h * width + j0 * stride_w + k - pad_w
            if stride_w == 1:
                keep_larger(x + place, 1, n, place, y + j0, index + j0)
            elif stride_w == 2:
                keep_larger(x + place, 2, n, place, y + j0, index + j0)
            else:
                keep_larger(x + place, stride_w, n, place, y + j0, index + j0)


def max_pool(
    const real[:, :, :, ::1] x, real[:, :, :, ::1] y, int32_t[:, :, :, ::1] index,
    Py_ssize_t kernel_h, Py_ssize_t kernel_w, Py_ssize_t stride_h, Py_ssize_t stride_w,
    Py_ssize_t pad_h, Py_ssize_t pad_w, int n_threads,
):
    """Maximum of each window, cut to the image, and its place h * W + w; -FLT_MAX and -1 if there is none."""
    cdef Py_ssize_t height = x.shape[2], width = x.shape[3], rows = y.shape[2], columns = y.shape[3]
    cdef Py_ssize_t plane = height * width, n_rows = x.shape[0] * x.shape[1] * rows, r
    if n_rows * columns == 0:
        return
    cdef const real *x_data = &x[0, 0, 0, 0] if plane else NULL
    cdef real *y_data = &y[0, 0, 0, 0]
    cdef int32_t *index_data = &index[0, 0, 0, 0]
    for r in prange(n_rows, nogil=True, num_threads=n_threads, schedule="static"):
        max_row(x_data + r // rows * plane, height, width, columns, r % rows * stride_h - pad_h,
                kernel_h, kernel_w, stride_w, pad_w, y_data + r * columns, index_data + r * columns)


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


cdef struct Window:
    # rows and columns of a window, cut to the image, and its area when cut to the padded image
    Py_ssize_t h0, h1, w0, w1
    double area


cdef inline Window window_at(
    Py_ssize_t i, Py_ssize_t j, Py_ssize_t height, Py_ssize_t width,
    Py_ssize_t kernel_h, Py_ssize_t kernel_w, Py_ssize_t stride_h, Py_ssize_t stride_w,
    Py_ssize_t pad_h, Py_ssize_t pad_w,
) noexcept nogil:
    cdef Window w
    cdef Py_ssize_t top = i * stride_h - pad_h, left = j * stride_w - pad_w
    cdef Py_ssize_t bottom = min(top + kernel_h, height + pad_h), right = min(left + kernel_w, width + pad_w)
    # as in Caffe not kept from going below 0: a window that starts beyond the edge gives 0, one right behind it NaN
    w.area = (bottom - top) * (right - left)
    w.h0, w.h1 = max(top, 0), min(bottom, height)
    w.w0, w.w1 = max(left, 0), min(right, width)
    return w


cdef inline double window_sum(const real *x, Py_ssize_t width, Window w) noexcept nogil:
    cdef double result = 0
    cdef Py_ssize_t h, j
    if w.w0 == 0 and w.w1 == width:
        return row_sum(x + w.h0 * width, max(w.h1 - w.h0, 0) * width)
    for h in range(w.h0, w.h1):
        for j in range(h * width + w.w0, h * width + w.w1):
            result += x[j]
    return result


cdef double row_sum(const real *x, Py_ssize_t n) noexcept nogil:
    cdef double[LANES] lane
    cdef Py_ssize_t i, j
    for j in range(LANES):
        lane[j] = 0
    for i in range(n // LANES):
        for j in range(LANES):
            lane[j] += x[i * LANES + j]
    x += n - n % LANES
    for j in range(n % LANES):
        lane[j] += x[j]
    return total(lane)


def ave_pool(
    const real[:, :, :, ::1] x, real[:, :, :, ::1] y,
    Py_ssize_t kernel_h, Py_ssize_t kernel_w, Py_ssize_t stride_h, Py_ssize_t stride_w,
    Py_ssize_t pad_h, Py_ssize_t pad_w, int n_threads,
):
    """Sum of each window, cut to the image, over its area, cut to the padded image."""
    cdef Py_ssize_t height = x.shape[2], width = x.shape[3], rows = y.shape[2], columns = y.shape[3]
    cdef Py_ssize_t plane = height * width, n_rows = x.shape[0] * x.shape[1] * rows, r, j
    cdef Window w
    if n_rows * columns == 0:
        return
    cdef const real *x_data = &x[0, 0, 0, 0] if plane else NULL
    cdef real *y_data = &y[0, 0, 0, 0]
    for r in prange(n_rows, nogil=True, num_threads=n_threads, schedule="static"):
        for j in range(columns):
            w = window_at(r % rows, j, height, width, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w)
            y_data[r * columns + j] = <real> (window_sum(x_data + r // rows * plane, width, w) / w.area)


def ave_pool_backward(
    const real[:, :, :, ::1] dy, real[:, :, :, ::1] dx,
    Py_ssize_t kernel_h, Py_ssize_t kernel_w, Py_ssize_t stride_h, Py_ssize_t stride_w,
    Py_ssize_t pad_h, Py_ssize_t pad_w, int n_threads,
):
    """dx = 0, then dx all over each window += dy over the area."""
    cdef Py_ssize_t height = dx.shape[2], width = dx.shape[3], rows = dy.shape[2], columns = dy.shape[3]
    cdef Py_ssize_t plane = height * width, planes = dx.shape[0] * dx.shape[1], p, i, j
    cdef Window w
    if planes * plane == 0:
        return
    cdef const real *dy_data = &dy[0, 0, 0, 0] if rows * columns else NULL
    cdef real *dx_data = &dx[0, 0, 0, 0]
    for p in prange(planes, nogil=True, num_threads=n_threads, schedule="static"):
        memset(dx_data + p * plane, 0, plane * sizeof(real))
        for i in range(rows):
            for j in range(columns):
                w = window_at(i, j, height, width, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w)
                add_to_window(dx_data + p * plane, width, w, dy_data[(p * rows + i) * columns + j])


cdef inline void add_to_window(real *dx, Py_ssize_t width, Window w, real dy) noexcept nogil:
    cdef real share = <real> (dy / w.area)
    cdef Py_ssize_t h, j
    for h in range(w.h0, w.h1):
        for j in range(h * width + w.w0, h * width + w.w1):
            dx[j] += share


include "views.pxi"
