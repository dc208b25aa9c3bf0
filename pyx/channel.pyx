"""Sums and maps per channel of x (N, C, S): images, channels, places.

plan.pxd says how work is cut, channel.h holds the inner loops.  `moments` reads its tensor once (by column twice, the
second time from the cache), `normalize_backward` reads its two tensors twice, the second time from the cache.

Tensors may be the same memory where the ops say so: element i is read before element i is written.
"""

from cython.parallel cimport prange
from libc.math cimport sqrt

from common cimport real
from plan cimport (
    DOT,
    LANES,
    SUM,
    SUM_AND_DOT,
    Item,
    Moments,
    Plan,
    Rows,
    is_grouped,
    moments_by_plan,
    plan_of,
    put,
    spread,
    strip_number,
    sums_of_all,
    sums_of_tile,
    tile_channel,
    tile_of_all,
    total_of,
)

cdef extern from "channel.h" nogil:
    void normalize_float(
        const Rows *rows, const float *x, const float *high, const float *low, const float *factor, float *y)
    void affine_float(const Rows *rows, const float *x, const float *scale, const float *shift, float *y)
    void normalize_backward_float(
        const Rows *rows, const float *dy, const float *y, const double *mean_dy, const double *mean_dy_y,
        const double *inv_std, float *dx)
    void prelu_float(const Rows *rows, const float *x, const float *value, const float *slope, float *y)
    void normalize_double(
        const Rows *rows, const double *x, const double *high, const double *low, const double *factor, double *y)
    void affine_double(const Rows *rows, const double *x, const double *scale, const double *shift, double *y)
    void normalize_backward_double(
        const Rows *rows, const double *dy, const double *y, const double *mean_dy, const double *mean_dy_y,
        const double *inv_std, double *dx)
    void prelu_double(const Rows *rows, const double *x, const double *value, const double *slope, double *y)


def scratch_size(Py_ssize_t N, Py_ssize_t C, Py_ssize_t S):
    """Elements of the array `work` that the kernels need for tensors (N, C, S)."""
    cdef Plan p = plan_of(N, C, S)
    return 2 * p.blocks * p.width + 3 * p.width + LANES


def channel_sum(
    const real[:, :, ::1] x, real[::1] out, double[::1] out_double, bint accumulate, double[::1] work, int n_threads
):
    """Write or add to out or out_double, the other of which is None, the sum of x[:, c, :]."""
    cdef Plan p = plan_of(x.shape[0], x.shape[1], x.shape[2])
    cdef const real *x_data = NULL
    if p.size:
        x_data = &x[0, 0, 0]
    cdef double *part = &work[0]
    with nogil:
        sums_of_all(SUM, &p, x_data, x_data, part, part, part, n_threads)
    store(&p, part, out, out_double, accumulate)


def channel_dot(
    const real[:, :, ::1] x, const real[:, :, ::1] y, real[::1] out, double[::1] out_double, bint accumulate,
    double[::1] work, int n_threads,
):
    """Write or add to out or out_double, the other of which is None, the sum of x[:, c, :] * y[:, c, :]."""
    cdef Plan p = plan_of(x.shape[0], x.shape[1], x.shape[2])
    cdef const real *x_data = NULL
    cdef const real *y_data = NULL
    if p.size:
        x_data, y_data = &x[0, 0, 0], &y[0, 0, 0]
    cdef double *part = &work[0]
    with nogil:
        sums_of_all(DOT, &p, x_data, y_data, part, part, part, n_threads)
    store(&p, part, out, out_double, accumulate)


cdef int store(const Plan *p, const double *part, real[::1] out, double[::1] out_double, bint accumulate) except -1:
    cdef Py_ssize_t c
    cdef double total
    for c in range(p.channels):
        total = total_of(p, c, part)
        if out is not None:
            out[c] = <real> (out[c] + total if accumulate else total)
        else:
            out_double[c] = out_double[c] + total if accumulate else total
    return 0


def moments(
    const real[:, :, ::1] x, double[::1] mean_out, double[::1] var_out, double[::1] work, int n_threads
):
    """Mean and biased variance of each channel."""
    cdef Plan p = plan_of(x.shape[0], x.shape[1], x.shape[2])
    cdef Py_ssize_t c
    if p.size == 0:
        for c in range(p.channels):
            mean_out[c] = var_out[c] = 0
        return
    cdef const real *x_data = &x[0, 0, 0]
    cdef Moments m
    m.count = x.shape[0] * x.shape[2]
    m.mean, m.var, m.part = &mean_out[0], &var_out[0], &work[0]
    m.spread = m.part + 2 * p.blocks * p.width
    with nogil:
        moments_by_plan(&p, x_data, m, n_threads)


def inv_std(const double[::1] var, double eps, double[::1] out):
    """out = 1 / sqrt(var + eps)."""
    cdef Py_ssize_t c
    for c in range(var.shape[0]):
        out[c] = 1 / sqrt(var[c] + eps)


def inv_deviation(const double[::1] var, double eps, double[::1] out):
    """out = 1 / (sqrt(var) + eps)."""
    cdef Py_ssize_t c
    for c in range(var.shape[0]):
        out[c] = 1 / (sqrt(var[c]) + eps)


def stored_statistics(
    const real[::1] sum_mean, const real[::1] sum_var, const real[::1] factor,
    double[::1] mean_out, double[::1] var_out,
):
    """mean_out = sum_mean / factor, var_out = sum_var / factor; zeros when the factor is 0."""
    cdef Py_ssize_t c
    cdef double f = factor[0]
    if f == 0:
        mean_out[:] = 0
        var_out[:] = 0
        return
    for c in range(sum_mean.shape[0]):
        mean_out[c] = sum_mean[c] / f
    for c in range(sum_var.shape[0]):
        var_out[c] = sum_var[c] / f


def update_statistics(
    const double[::1] mean, const double[::1] var, Py_ssize_t count, double fraction,
    real[::1] sum_mean, real[::1] sum_var, real[::1] factor,
):
    """factor = b factor + 1, sum_mean = b sum_mean + mean, sum_var = b sum_var + m / (m - 1) var."""
    cdef Py_ssize_t c
    cdef double k = <double> count / (count - 1) if count > 1 else 1
    factor[0] = <real> (fraction * factor[0] + 1)
    for c in range(mean.shape[0]):
        sum_mean[c] = <real> (fraction * sum_mean[c] + mean[c])
        sum_var[c] = <real> (fraction * sum_var[c] + k * var[c])


def normalize(
    const real[:, :, ::1] x, const double[::1] mean, const double[::1] inv_std, real[:, :, ::1] y,
    double[::1] work, int n_threads,
):
    """y = (x - mean[c]) * inv_std[c], the mean in two parts: a large one must not cost digits."""
    cdef Plan p = plan_of(x.shape[0], x.shape[1], x.shape[2])
    if p.size == 0:
        return
    cdef const real *x_data = &x[0, 0, 0]
    cdef real *y_data = &y[0, 0, 0]
    cdef real *high = <real *> &work[0]
    cdef real *low = high + p.width
    cdef real *factor = low + p.width
    cdef Py_ssize_t i, c
    for c in range(p.channels):
        put(&p, high, c, <real> mean[c])
        put(&p, low, c, <real> (mean[c] - <real> mean[c]))
        put(&p, factor, c, <real> inv_std[c])
    for i in prange(p.strips, nogil=True, num_threads=n_threads, schedule="static"):
        normalize_strip(&p, strip_number(&p, i), x_data, high, low, factor, y_data)


cdef void normalize_strip(
    const Plan *p, Item s, const real *x, const real *high, const real *low, const real *factor, real *y
) noexcept nogil:
    cdef Py_ssize_t k = s.column
    if real is float:
        normalize_float(&s.rows, x, high + k, low + k, factor + k, y)
    else:
        normalize_double(&s.rows, x, high + k, low + k, factor + k, y)


cdef struct Backward:
    double count
    double *part             # 2 * blocks * width
    # vectors over the channels, spread
    double *mean_dy
    double *mean_dy_y
    double *inv_std


def normalize_backward(
    const real[:, :, ::1] dy, const real[:, :, ::1] y, const double[::1] inv_std, real[:, :, ::1] dx,
    double[::1] work, int n_threads,
):
    """dx = (dy - mean(dy) - y * mean(dy * y)) * inv_std[c]."""
    cdef Plan p = plan_of(y.shape[0], y.shape[1], y.shape[2])
    if p.size == 0:
        return
    cdef const real *dy_data = &dy[0, 0, 0]
    cdef const real *y_data = &y[0, 0, 0]
    cdef real *dx_data = &dx[0, 0, 0]
    cdef Backward v
    cdef Py_ssize_t i, size = p.blocks * p.width
    v.count = y.shape[0] * y.shape[2]
    v.part = &work[0]
    v.mean_dy = v.part + 2 * size
    v.mean_dy_y = v.mean_dy + p.width
    v.inv_std = v.mean_dy_y + p.width
    spread(&p, &inv_std[0], v.inv_std)
    if is_grouped(&p, n_threads):
        for i in prange(p.tiles, nogil=True, num_threads=n_threads, schedule="static"):
            backward_of_tile(&p, i, dy_data, y_data, v, dx_data)
    else:
        with nogil:
            sums_of_all(SUM_AND_DOT, &p, dy_data, y_data, v.part, v.part, v.part + size, n_threads)
        backward_means(&p, 0, p.channels, v)
        for i in prange(p.strips, nogil=True, num_threads=n_threads, schedule="static"):
            backward_strip(&p, strip_number(&p, i), dy_data, y_data, v, dx_data)


cdef void backward_of_tile(
    const Plan *p, Py_ssize_t tile, const real *dy, const real *y, Backward v, real *dx
) noexcept nogil:
    sums_of_tile(SUM_AND_DOT, p, tile, dy, y, v.part, v.part, v.part + p.blocks * p.width)
    backward_means(p, tile_channel(p, tile), tile_channel(p, tile + 1), v)
    backward_strip(p, tile_of_all(p, tile), dy, y, v, dx)


cdef inline void backward_means(const Plan *p, Py_ssize_t c0, Py_ssize_t c1, Backward v) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(c0, c1):
        put(p, v.mean_dy, c, total_of(p, c, v.part) / v.count)
        put(p, v.mean_dy_y, c, total_of(p, c, v.part + p.blocks * p.width) / v.count)


cdef void backward_strip(
    const Plan *p, Item s, const real *dy, const real *y, Backward v, real *dx
) noexcept nogil:
    cdef Py_ssize_t k = s.column
    if real is float:
        normalize_backward_float(&s.rows, dy, y, v.mean_dy + k, v.mean_dy_y + k,
                                 v.inv_std + k, dx)
    else:
        normalize_backward_double(&s.rows, dy, y, v.mean_dy + k, v.mean_dy_y + k,
                                  v.inv_std + k, dx)


def affine(
    const real[:, :, ::1] x, const real[::1] scale, const double[::1] scale_double, const real[::1] shift,
    const double[::1] shift_double, real[:, :, ::1] y, double[::1] work, int n_threads,
):
    """y = x * scale[c] + shift[c]; each vector is given in one of two dtypes, or not at all."""
    cdef Plan p = plan_of(x.shape[0], x.shape[1], x.shape[2])
    if p.size == 0:
        return
    cdef const real *x_data = &x[0, 0, 0]
    cdef real *y_data = &y[0, 0, 0]
    cdef real *scales = <real *> &work[0]
    cdef real *shifts = scales + p.width
    cdef Py_ssize_t i, c
    for c in range(p.channels):
        put(&p, scales, c, value_of(scale, scale_double, c, 1))
        # unlike 0, adding -0 leaves every number as it is, -0 too
        put(&p, shifts, c, value_of(shift, shift_double, c, -0.0))
    for i in prange(p.strips, nogil=True, num_threads=n_threads, schedule="static"):
        affine_strip(&p, strip_number(&p, i), x_data, scales, shifts, y_data)


cdef real value_of(const real[::1] vector, const double[::1] vector_double, Py_ssize_t c, real otherwise):
    if vector is not None:
        return vector[c]
    return otherwise if vector_double is None else <real> vector_double[c]


cdef void affine_strip(
    const Plan *p, Item s, const real *x, const real *scale, const real *shift, real *y
) noexcept nogil:
    cdef Py_ssize_t k = s.column
    if real is float:
        affine_float(&s.rows, x, scale + k, shift + k, y)
    else:
        affine_double(&s.rows, x, scale + k, shift + k, y)


def prelu(
    const real[:, :, ::1] x, const real[::1] slope, real[:, :, ::1] y, double[::1] work, int n_threads
):
    """y = x where x > 0, else x * slope[c]."""
    cdef Plan p = plan_of(x.shape[0], x.shape[1], x.shape[2])
    if p.size == 0:
        return
    cdef const real *x_data = &x[0, 0, 0]
    cdef real *y_data = &y[0, 0, 0]
    cdef real *slopes = <real *> &work[0]
    cdef Py_ssize_t i
    spread(&p, &slope[0], slopes)
    for i in prange(p.strips, nogil=True, num_threads=n_threads, schedule="static"):
        prelu_strip(&p, strip_number(&p, i), x_data, x_data, slopes, y_data)


def prelu_backward(
    const real[:, :, ::1] x, const real[:, :, ::1] dy, const real[::1] slope, real[:, :, ::1] dx,
    double[::1] work, int n_threads,
):
    """dx = dy where x > 0, else dy * slope[c]."""
    cdef Plan p = plan_of(x.shape[0], x.shape[1], x.shape[2])
    if p.size == 0:
        return
    cdef const real *x_data = &x[0, 0, 0]
    cdef const real *dy_data = &dy[0, 0, 0]
    cdef real *dx_data = &dx[0, 0, 0]
    cdef real *slopes = <real *> &work[0]
    cdef Py_ssize_t i
    spread(&p, &slope[0], slopes)
    for i in prange(p.strips, nogil=True, num_threads=n_threads, schedule="static"):
        prelu_strip(&p, strip_number(&p, i), x_data, dy_data, slopes, dx_data)


cdef void prelu_strip(
    const Plan *p, Item s, const real *x, const real *value, const real *slope, real *y
) noexcept nogil:
    cdef Py_ssize_t k = s.column
    if real is float:
        prelu_float(&s.rows, x, value, slope + k, y)
    else:
        prelu_double(&s.rows, x, value, slope + k, y)


include "views.pxi"
