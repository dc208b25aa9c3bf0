"""Local response normalisation of x (N, C, H, W), across channels or within each.

Both make a stretch of outputs at a time, with the sums over their windows in a local array of doubles: one
loop over the stretch for each element of the window, in vector registers.  Across channels a stretch is a
part of the plane, and an item of work is that part in all channels of one image, so that the channels read
for each output are in the cache.  Within a channel a stretch is part of a row of the image, and an item is
one row.

Windows are summed anew for each output, not slid along: a window that had passed a large value would keep its
rounding error.
"""

from cython.parallel cimport prange

from common cimport ceil_div, real

cdef extern from "lrn.h" nogil:
    void lrn_divide_float(const float *x, const float *scale, Py_ssize_t n, double beta, float *y)
    void lrn_divide_double(const double *x, const double *scale, Py_ssize_t n, double beta, double *y)

cdef enum:
    STRETCH = 256


cdef inline void add_terms(
    const real *a, const real *b, const real *scale, Py_ssize_t n, double *sums
) noexcept nogil:
    """sums += a * b, or a * b / scale when there is a scale."""
    cdef Py_ssize_t j
    if scale is NULL:
        for j in range(n):
            sums[j] += <double> a[j] * b[j]
    else:
        for j in range(n):
            sums[j] += <double> a[j] * b[j] / scale[j]


cdef void sum_across(
    const real *a, const real *b, const real *scale, Py_ssize_t channels, Py_ssize_t plane,
    Py_ssize_t c, Py_ssize_t at, Py_ssize_t n, Py_ssize_t size, double *sums,
) noexcept nogil:
    """Sums over `size` channels around c, for n places from `at` on."""
    cdef Py_ssize_t i, j, offset
    for j in range(n):
        sums[j] = 0
    for i in range(max(c - size // 2, 0), min(c + size // 2 + 1, channels)):
        offset = i * plane + at
        add_terms(a + offset, b + offset, scale + offset if scale is not NULL else NULL, n, sums)


cdef void sum_within(
    const real *a, const real *b, const real *scale, Py_ssize_t height, Py_ssize_t width,
    Py_ssize_t h, Py_ssize_t at, Py_ssize_t n, Py_ssize_t size, double *sums,
) noexcept nogil:
    """Sums over `size` by `size` places around each of n places of row h, from column `at` on."""
    cdef Py_ssize_t i, j, j0, j1, shift, offset
    for j in range(n):
        sums[j] = 0
    for i in range(max(h - size // 2, 0), min(h + size // 2 + 1, height)):
        for shift in range(max(at - size // 2, 1 - n), min(at + size // 2 + 1, width)):
            # output j reads column shift + j
            j0, j1 = max(-shift, 0), min(n, width - shift)
            offset = i * width + shift + j0
            add_terms(a + offset, b + offset, scale + offset if scale is not NULL else NULL, j1 - j0,
                      sums + j0)


cdef void forward_stretch(
    const real *x, const double *sums, Py_ssize_t n, double k, double factor, double beta,
    real *scale, real *y,
) noexcept nogil:
    """scale = k + factor * sums, y = x * scale**-beta."""
    cdef Py_ssize_t j
    for j in range(n):
        scale[j] = <real> (k + factor * sums[j])
    if real is float:
        lrn_divide_float(x, scale, n, beta, y)
    else:
        lrn_divide_double(x, scale, n, beta, y)


cdef void backward_stretch(
    const real *x, const real *scale, const real *dy, const double *sums, Py_ssize_t n, double factor,
    double beta, real *dx,
) noexcept nogil:
    """dx = dy * scale**-beta - 2 * factor * beta * x * sums."""
    cdef Py_ssize_t j
    cdef double share = 2 * factor * beta
    if real is float:
        lrn_divide_float(dy, scale, n, beta, dx)
    else:
        lrn_divide_double(dy, scale, n, beta, dx)
    for j in range(n):
        dx[j] = <real> (dx[j] - share * x[j] * sums[j])


def lrn_across(
    const real[:, :, :, ::1] x, real[:, :, :, ::1] scale, real[:, :, :, ::1] y,
    Py_ssize_t size, double alpha, double beta, double k, int n_threads,
):
    """scale = k + alpha / size * sum of x**2 over `size` channels, y = x * scale**-beta."""
    cdef Py_ssize_t channels = x.shape[1], plane = x.shape[2] * x.shape[3]
    cdef Py_ssize_t parts = ceil_div(plane, STRETCH), i
    if x.shape[0] * channels * plane == 0:
        return
    cdef const real *x_data = &x[0, 0, 0, 0]
    cdef real *scale_data = &scale[0, 0, 0, 0]
    cdef real *y_data = &y[0, 0, 0, 0]
    for i in prange(x.shape[0] * parts, nogil=True, num_threads=n_threads, schedule="static"):
        across_forward(x_data, scale_data, y_data, channels, plane, i // parts * channels * plane,
                       i % parts * STRETCH, size, alpha, beta, k)


cdef void across_forward(
    const real *x, real *scale, real *y, Py_ssize_t channels, Py_ssize_t plane, Py_ssize_t image,
    Py_ssize_t at, Py_ssize_t size, double alpha, double beta, double k,
) noexcept nogil:
    cdef double[STRETCH] sums
    cdef Py_ssize_t c, n = min(STRETCH, plane - at), offset
    for c in range(channels):
        sum_across(x + image, x + image, <const real *> NULL, channels, plane, c, at, n, size, sums)
        offset = image + c * plane + at
        forward_stretch(x + offset, sums, n, k, alpha / size, beta, scale + offset, y + offset)


def lrn_across_backward(
    const real[:, :, :, ::1] x, const real[:, :, :, ::1] y, const real[:, :, :, ::1] scale,
    const real[:, :, :, ::1] dy, real[:, :, :, ::1] dx,
    Py_ssize_t size, double alpha, double beta, int n_threads,
):
    """dx = dy * scale**-beta - 2 * alpha * beta / size * x * sum of dy * y / scale over `size` channels."""
    cdef Py_ssize_t channels = x.shape[1], plane = x.shape[2] * x.shape[3]
    cdef Py_ssize_t parts = ceil_div(plane, STRETCH), i
    if x.shape[0] * channels * plane == 0:
        return
    cdef const real *x_data = &x[0, 0, 0, 0]
    cdef const real *y_data = &y[0, 0, 0, 0]
    cdef const real *scale_data = &scale[0, 0, 0, 0]
    cdef const real *dy_data = &dy[0, 0, 0, 0]
    cdef real *dx_data = &dx[0, 0, 0, 0]
    for i in prange(x.shape[0] * parts, nogil=True, num_threads=n_threads, schedule="static"):
        across_backward(x_data, y_data, scale_data, dy_data, dx_data, channels, plane,
                        i // parts * channels * plane, i % parts * STRETCH, size, alpha, beta)


cdef void across_backward(
    const real *x, const real *y, const real *scale, const real *dy, real *dx, Py_ssize_t channels,
    Py_ssize_t plane, Py_ssize_t image, Py_ssize_t at, Py_ssize_t size, double alpha, double beta,
) noexcept nogil:
    cdef double[STRETCH] sums
    cdef Py_ssize_t c, n = min(STRETCH, plane - at), offset
    for c in range(channels):
        sum_across(dy + image, y + image, scale + image, channels, plane, c, at, n, size, sums)
        offset = image + c * plane + at
        backward_stretch(x + offset, scale + offset, dy + offset, sums, n, alpha / size, beta, dx + offset)


def lrn_within(
    const real[:, :, :, ::1] x, real[:, :, :, ::1] scale, real[:, :, :, ::1] y,
    Py_ssize_t size, double alpha, double beta, int n_threads,
):
    """scale = 1 + alpha / size**2 * sum of x**2 over `size` by `size` places, y = x * scale**-beta."""
    cdef Py_ssize_t height = x.shape[2], width = x.shape[3], rows = x.shape[0] * x.shape[1] * height, i
    if rows * width == 0:
        return
    cdef const real *x_data = &x[0, 0, 0, 0]
    cdef real *scale_data = &scale[0, 0, 0, 0]
    cdef real *y_data = &y[0, 0, 0, 0]
    for i in prange(rows, nogil=True, num_threads=n_threads, schedule="static"):
        within_forward(x_data, scale_data, y_data, height, width, i // height * height * width, i % height,
                       size, alpha, beta)


cdef void within_forward(
    const real *x, real *scale, real *y, Py_ssize_t height, Py_ssize_t width, Py_ssize_t plane,
    Py_ssize_t h, Py_ssize_t size, double alpha, double beta,
) noexcept nogil:
    cdef double[STRETCH] sums
    cdef Py_ssize_t at = 0, n, offset
    while at < width:
        n = min(STRETCH, width - at)
        sum_within(x + plane, x + plane, <const real *> NULL, height, width, h, at, n, size, sums)
        offset = plane + h * width + at
        forward_stretch(x + offset, sums, n, 1, alpha / (size * size), beta, scale + offset, y + offset)
        at += STRETCH


def lrn_within_backward(
    const real[:, :, :, ::1] x, const real[:, :, :, ::1] y, const real[:, :, :, ::1] scale,
    const real[:, :, :, ::1] dy, real[:, :, :, ::1] dx,
    Py_ssize_t size, double alpha, double beta, int n_threads,
):
    """dx = dy * scale**-beta - 2 * alpha * beta / size**2 * x * sum of dy * y / scale over those places."""
    cdef Py_ssize_t height = x.shape[2], width = x.shape[3], rows = x.shape[0] * x.shape[1] * height, i
    if rows * width == 0:
        return
    cdef const real *x_data = &x[0, 0, 0, 0]
    cdef const real *y_data = &y[0, 0, 0, 0]
    cdef const real *scale_data = &scale[0, 0, 0, 0]
    cdef const real *dy_data = &dy[0, 0, 0, 0]
    cdef real *dx_data = &dx[0, 0, 0, 0]
    for i in prange(rows, nogil=True, num_threads=n_threads, schedule="static"):
        within_backward(x_data, y_data, scale_data, dy_data, dx_data, height, width,
                        i // height * height * width, i % height, size, alpha, beta)


cdef void within_backward(
    const real *x, const real *y, const real *scale, const real *dy, real *dx, Py_ssize_t height,
    Py_ssize_t width, Py_ssize_t plane, Py_ssize_t h, Py_ssize_t size, double alpha, double beta,
) noexcept nogil:
    cdef double[STRETCH] sums
    cdef Py_ssize_t at = 0, n, offset
    while at < width:
        n = min(STRETCH, width - at)
        sum_within(dy + plane, y + plane, scale + plane, height, width, h, at, n, size, sums)
        offset = plane + h * width + at
        backward_stretch(x + offset, scale + offset, dy + offset, sums, n, alpha / (size * size), beta,
                         dx + offset)
        at += STRETCH


include "views.pxi"
