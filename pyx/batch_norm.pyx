"""BatchNorm, its learned scale and shift, a residual sum and the activation behind, as one visit of the tensors.

plan.pxd says how work is cut, batch_norm.h holds the inner loops.

`batch_norm` reads x from memory for the statistics, reads the group of channels again from the cache and writes y:
two tensors of traffic, as a copy has.  `batch_norm_backward` reads x and dy for the two sums (and y where the sign
of the activation cannot be found from x), reads them again from the cache and writes dx.  The mask of the activation is
never stored.  Given statistics need no sums for y and dx: `normalize_act`, and a backward of one pass.

The vectors of a call are rounded to the tensors' dtype once and then laid out so that `item.column` is an index
into each of them; the mean is kept in two parts.

Tensors may be the same memory where the ops say so: element i is read before element i is written.
"""

from cython.parallel cimport prange
from libc.math cimport sqrt
from libc.stdint cimport int64_t

from common cimport ceil_div, optional, real
from plan cimport (
    LANES,
    Item,
    Moments,
    Plan,
    Rows,
    is_grouped,
    is_streamed,
    item_number,
    moments_of_all,
    moments_of_tile,
    plan_of,
    put,
    spread_in_place,
    strip_number,
    tile_channel,
    tile_of_all,
    total_of,
)

cdef extern from "batch_norm.h" nogil:
    void stream_end()
    int HIGH, LOW, FACTOR, SCALE, SHIFT, FROM, TO, BY_DZ, BY_X, CONSTANT, VECTORS
    int NO_ACTIVATION, FROM_Y, FROM_INTERVAL, FROM_MAP
    void forward_float(
        const Rows *rows, int streams, int cached, const float *x, const float *residual, const float *v,
        int64_t width, float slope, float *y)
    void put_vectors_float(
        int64_t n, const double *mean, const double *inv_std, const float *scale, const float *shift, int intervals,
        float *v, int64_t width)
    void fold_statistics_float(
        int64_t n, const double *mean, const double *var, double eps, const float *scale, const float *shift,
        const float *bias, float *a, float *b)
    void gradient_sums_float(
        int sign, const Rows *rows, const float *x, const float *y, const float *dy, const float *v, int64_t width,
        float slope, double *sum, double *dot)
    void gradient_float(
        int sign, const Rows *rows, const float *x, const float *y, const float *dy, const float *v, int64_t width,
        float slope, float *dz)
    void backward_float(
        int sign, int frozen, const Rows *rows, int streams, int cached, const float *x, const float *y,
        const float *dy, const float *v, int64_t width, float slope, float *dx)
    void forward_double(
        const Rows *rows, int streams, int cached, const double *x, const double *residual, const double *v,
        int64_t width, double slope, double *y)
    void put_vectors_double(
        int64_t n, const double *mean, const double *inv_std, const double *scale, const double *shift, int intervals,
        double *v, int64_t width)
    void fold_statistics_double(
        int64_t n, const double *mean, const double *var, double eps, const double *scale, const double *shift,
        const double *bias, double *a, double *b)
    void gradient_sums_double(
        int sign, const Rows *rows, const double *x, const double *y, const double *dy, const double *v, int64_t width,
        double slope, double *sum, double *dot)
    void gradient_double(
        int sign, const Rows *rows, const double *x, const double *y, const double *dy, const double *v, int64_t width,
        double slope, double *dz)
    void backward_double(
        int sign, int frozen, const Rows *rows, int streams, int cached, const double *x, const double *y,
        const double *dy, const double *v, int64_t width, double slope, double *dx)


cdef enum:
    FEW = 100            # values of a channel, below which finding its interval takes longer than the map
    PREPARED = 64        # channels whose vectors are laid out by a thread at a time


def scratch_size(Py_ssize_t N, Py_ssize_t C, Py_ssize_t S):
    """Elements of the array `work` that the kernels need for tensors (N, C, S)."""
    cdef Plan p = plan_of(N, C, S)
    return 2 * p.blocks * p.width + (VECTORS + 1) * p.width + LANES


def fold_statistics(
    const double[::1] mean, const double[::1] var, double eps, const real[::1] scale, const real[::1] shift,
    const real[::1] bias, real[::1] a_out, real[::1] b_out,
):
    """a = scale / sqrt(var + eps), b = (bias - mean) * a + shift; scale, shift and bias may be None."""
    if mean.shape[0] == 0:
        return
    if real is float:
        fold_statistics_float(mean.shape[0], &mean[0], &var[0], eps, optional(scale), optional(shift), optional(bias),
                              &a_out[0], &b_out[0])
    else:
        fold_statistics_double(mean.shape[0], &mean[0], &var[0], eps, optional(scale), optional(shift), optional(bias),
                               &a_out[0], &b_out[0])


def normalize_act(
    const real[:, :, ::1] x, const double[::1] mean, const double[::1] inv_std, const real[::1] scale,
    const real[::1] shift, const real[:, :, ::1] residual, real slope, real[:, :, ::1] y, double[::1] work,
    int n_threads,
):
    """y = act((x - mean) * inv_std * scale + shift + residual), the second half of `batch_norm`."""
    cdef Plan p = plan_of(x.shape[0], x.shape[1], x.shape[2])
    if p.size == 0:
        return
    cdef const real *x_data = &x[0, 0, 0]
    cdef const real *scale_data = optional(scale)
    cdef const real *shift_data = optional(shift)
    cdef const real *residual_data = &residual[0, 0, 0] if residual is not None else NULL
    cdef real *y_data = &y[0, 0, 0]
    cdef real *v = <real *> &work[0]
    put_vectors(&p, 0, p.channels, &mean[0], &inv_std[0], scale_data, shift_data, False, v)
    forward_of_all(&p, x_data, v, residual_data, slope, y_data, n_threads)


cdef inline void put_vectors(
    const Plan *p, Py_ssize_t c0, Py_ssize_t c1, const double *mean, const double *inv_std, const real *scale,
    const real *shift, bint intervals, real *v,
) noexcept nogil:
    """Lay out what the normalisation and the affine map of some channels need, and intervals if wanted."""
    cdef Py_ssize_t k = c0 * p.places if p.by_column else c0
    cdef int i
    if scale:
        scale += c0
    if shift:
        shift += c0
    if real is float:
        put_vectors_float(c1 - c0, mean + c0, inv_std + c0, scale, shift, intervals, v + k, p.width)
    else:
        put_vectors_double(c1 - c0, mean + c0, inv_std + c0, scale, shift, intervals, v + k, p.width)
    for i in range(HIGH, TO + 1 if intervals else FROM):
        spread_in_place(p, c0, c1, v + i * p.width)


def batch_norm(
    const real[:, :, ::1] x, double eps, const real[::1] scale, const real[::1] shift,
    const real[:, :, ::1] residual, real slope, real[:, :, ::1] y, double[::1] mean_out, double[::1] var_out,
    double[::1] inv_std_out, double[::1] work, int n_threads,
):
    """y = act((x - mean) * inv_std * scale + shift + residual) by the batch's own mean and variance."""
    cdef Plan p = plan_of(x.shape[0], x.shape[1], x.shape[2])
    cdef Py_ssize_t i, c
    if p.size == 0:
        for c in range(p.channels):
            mean_out[c] = var_out[c] = 0
            inv_std_out[c] = 1 / sqrt(eps)
        return
    cdef const real *x_data = &x[0, 0, 0]
    cdef const real *scale_data = optional(scale)
    cdef const real *shift_data = optional(shift)
    cdef const real *residual_data = &residual[0, 0, 0] if residual is not None else NULL
    cdef real *y_data = &y[0, 0, 0]
    cdef double *inv_std = &inv_std_out[0]
    cdef Moments m
    m.count = x.shape[0] * x.shape[2]
    m.mean, m.var, m.part = &mean_out[0], &var_out[0], &work[0]
    m.spread = m.part + 2 * p.blocks * p.width
    cdef real *v = <real *> (m.spread + p.width)
    if is_grouped(&p, n_threads):
        for i in prange(p.tiles, nogil=True, num_threads=n_threads, schedule="static"):
            forward_of_tile(&p, i, x_data, eps, scale_data, shift_data, residual_data, slope, y_data, m, inv_std, v)
    else:
        with nogil:
            moments_of_all(&p, x_data, m, n_threads)
            end_moments(&p, 0, p.channels, eps, scale_data, shift_data, m, inv_std, v)
        forward_of_all(&p, x_data, v, residual_data, slope, y_data, n_threads)


cdef void forward_of_tile(
    const Plan *p, Py_ssize_t tile, const real *x, double eps, const real *scale, const real *shift,
    const real *residual, real slope, real *y, Moments m, double *inv_std, real *v,
) noexcept nogil:
    cdef bint streams = y != x and y != residual and is_streamed(p, y)
    moments_of_tile(p, tile, x, m)
    end_moments(p, tile_channel(p, tile), tile_channel(p, tile + 1), eps, scale, shift, m, inv_std, v)
    forward_strip(p, tile_of_all(p, tile), streams, True, x, v, residual, slope, y)


cdef void forward_of_all(
    const Plan *p, const real *x, const real *v, const real *residual, real slope, real *y, int n_threads
):
    cdef bint streams = y != x and y != residual and is_streamed(p, y)
    cdef Py_ssize_t i
    for i in prange(p.strips, nogil=True, num_threads=n_threads, schedule="static"):
        forward_strip(p, strip_number(p, i), streams, False, x, v, residual, slope, y)


cdef inline void end_moments(
    const Plan *p, Py_ssize_t c0, Py_ssize_t c1, double eps, const real *scale, const real *shift, Moments m,
    double *inv_std, real *v,
) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(c0, c1):
        inv_std[c] = 1 / sqrt(m.var[c] + eps)
    put_vectors(p, c0, c1, m.mean, inv_std, scale, shift, False, v)


cdef void forward_strip(
    const Plan *p, Item s, bint streams, bint cached, const real *x, const real *v, const real *residual, real slope,
    real *y,
) noexcept nogil:
    v += s.column
    if real is float:
        forward_float(&s.rows, streams, cached, x, residual, v, p.width, slope, y)
    else:
        forward_double(&s.rows, streams, cached, x, residual, v, p.width, slope, y)
    if streams:
        stream_end()


cdef struct Gradient:
    int sign
    bint frozen
    bint streams             # dx is written past the caches
    double count
    const double *mean
    const double *inv_std
    double *part             # 2 * blocks * width


def batch_norm_backward(
    const real[:, :, ::1] x, const double[::1] mean, const double[::1] inv_std, const real[::1] scale,
    const real[::1] shift, const real[:, :, ::1] y, bint active, real slope, bint frozen, const real[:, :, ::1] dy,
    real[:, :, ::1] dx, real[::1] dscale, real[::1] dshift, real[:, :, ::1] dresidual, double[::1] work, int n_threads,
):
    """Gradients of `batch_norm`, or of `normalize_act` with frozen statistics; each of the outputs may be None."""
    cdef Plan p = plan_of(x.shape[0], x.shape[1], x.shape[2])
    if p.size == 0:
        return
    cdef const real *x_data = &x[0, 0, 0]
    cdef const real *y_data = &y[0, 0, 0] if y is not None else NULL
    cdef const real *dy_data = &dy[0, 0, 0]
    cdef const real *scale_data = optional(scale)
    cdef const real *shift_data = optional(shift)
    cdef real *dx_data = NULL if dx is None else &dx[0, 0, 0]
    cdef real *dscale_data = NULL if dscale is None else &dscale[0]
    cdef real *dshift_data = NULL if dshift is None else &dshift[0]
    cdef real *dz_data = NULL if dresidual is None else &dresidual[0, 0, 0]
    cdef Gradient g
    g.frozen = frozen
    g.count = x.shape[0] * x.shape[2]
    g.sign = NO_ACTIVATION if not active else FROM_Y if y_data else FROM_MAP if g.count < FEW else FROM_INTERVAL
    g.mean, g.inv_std, g.part = &mean[0], &inv_std[0], &work[0]
    cdef real *v = <real *> (g.part + 2 * p.blocks * p.width)
    cdef bint sums = dscale_data or dshift_data or (dx_data and not frozen)
    cdef bint maps = dx_data or dz_data
    g.streams = (
        dx_data and dx_data != x_data and dx_data != y_data and dx_data != dy_data and dx_data != dz_data
        and is_streamed(&p, dx_data)
    )
    cdef Py_ssize_t i
    for i in prange(ceil_div(p.channels, PREPARED), nogil=True, num_threads=n_threads, schedule="static"):
        put_gradient_vectors(&p, i * PREPARED, min((i + 1) * PREPARED, p.channels), g, scale_data, shift_data, v)
    if sums and maps and is_grouped(&p, n_threads):
        for i in prange(p.tiles, nogil=True, num_threads=n_threads, schedule="static"):
            gradient_of_tile(&p, i, g, x_data, y_data, dy_data, v, slope, dx_data, dscale_data, dshift_data, dz_data)
        return
    if sums:
        for i in prange(p.items, nogil=True, num_threads=n_threads, schedule="static"):
            gradient_sums(&p, item_number(&p, i), g, x_data, y_data, dy_data, v, slope)
        end_sums(&p, 0, p.channels, g, v, dscale_data, dshift_data)
    if maps:
        for i in prange(p.strips, nogil=True, num_threads=n_threads, schedule="static"):
            gradient_strip(&p, strip_number(&p, i), g, False, x_data, y_data, dy_data, v, slope, dx_data, dz_data)


cdef void gradient_of_tile(
    const Plan *p, Py_ssize_t tile, Gradient g, const real *x, const real *y, const real *dy, real *v, real slope,
    real *dx, real *dscale, real *dshift, real *dz,
) noexcept nogil:
    cdef Py_ssize_t block
    for block in range(p.blocks):
        gradient_sums(p, item_number(p, block * p.tiles + tile), g, x, y, dy, v, slope)
    end_sums(p, tile_channel(p, tile), tile_channel(p, tile + 1), g, v, dscale, dshift)
    gradient_strip(p, tile_of_all(p, tile), g, True, x, y, dy, v, slope, dx, dz)


cdef inline void put_gradient_vectors(
    const Plan *p, Py_ssize_t c0, Py_ssize_t c1, Gradient g, const real *scale, const real *shift, real *v
) noexcept nogil:
    """What is known before the sums; with frozen statistics all there is."""
    cdef Py_ssize_t c
    put_vectors(p, c0, c1, g.mean, g.inv_std, scale, shift, g.sign == FROM_INTERVAL, v)
    if g.frozen:
        for c in range(c0, c1):
            put(p, v + BY_DZ * p.width, c, <real> (g.inv_std[c] * (scale[c] if scale else 1)))


cdef void gradient_sums(
    const Plan *p, Item item, Gradient g, const real *x, const real *y, const real *dy, const real *v, real slope
) noexcept nogil:
    """Partial sums of dz, and behind them of dz * x."""
    cdef double *sum = g.part + item.part
    cdef double *dot = sum + p.blocks * p.width
    v += item.column
    if real is float:
        gradient_sums_float(g.sign, &item.rows, x, y, dy, v, p.width, slope, sum, dot)
    else:
        gradient_sums_double(g.sign, &item.rows, x, y, dy, v, p.width, slope, sum, dot)


cdef inline void end_sums(
    const Plan *p, Py_ssize_t c0, Py_ssize_t c1, Gradient g, real *v, real *dscale, real *dshift
) noexcept nogil:
    """Gradients by scale and shift, and dx = k (dz - mean(dz) - xhat mean(dz xhat)) as a map of dz and x - mean."""
    cdef Py_ssize_t c, w = p.width
    cdef double sum, dot, k, s
    for c in range(c0, c1):
        s = g.inv_std[c]
        sum = total_of(p, c, g.part)
        dot = (total_of(p, c, g.part + p.blocks * w) - g.mean[c] * sum) * s
        if dshift:
            dshift[c] = <real> (dshift[c] + sum)
        if dscale:
            dscale[c] = <real> (dscale[c] + dot)
        if not g.frozen:
            k = s * v[SCALE * w + (c * p.places if p.by_column else c)]
            put(p, v + BY_DZ * w, c, <real> k)
            put(p, v + BY_X * w, c, <real> (-k * s * dot / g.count))
            put(p, v + CONSTANT * w, c, <real> (-k * sum / g.count))


cdef void gradient_strip(
    const Plan *p, Item s, Gradient g, bint cached, const real *x, const real *y, const real *dy, const real *v,
    real slope, real *dx, real *dz,
) noexcept nogil:
    """dz, if it is wanted, and dx, if that is."""
    cdef int sign = g.sign
    v += s.column
    if dz:
        if real is float:
            gradient_float(sign, &s.rows, x, y, dy, v, p.width, slope, dz)
        else:
            gradient_double(sign, &s.rows, x, y, dy, v, p.width, slope, dz)
        dy, sign, cached = dz, NO_ACTIVATION, True
    if dx:
        if real is float:
            backward_float(sign, g.frozen, &s.rows, g.streams, cached, x, y, dy, v, p.width, slope, dx)
        else:
            backward_double(sign, g.frozen, &s.rows, g.streams, cached, x, y, dy, v, p.width, slope, dx)
        if g.streams:
            stream_end()


include "views.pxi"
