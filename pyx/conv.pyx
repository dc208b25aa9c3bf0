"""Convolution over any number of spatial axes: forward, backward by data, backward by weight.

All three are products of matrices (gemm.h), one operand of which consists of the columns of an image: row k is a
channel and a kernel position, column q a place of an image of the batch.  It is never written out.  What a task needs
of it is copied from the image in vectors, row of places by row of places; padding is written as zeros, a stride of 2 is
taken out on the way.  So there is no frame, no column buffer and no test of borders in the inner loop, and any number
of spatial axes is one code path: a place has a row (all axes but the last) and a column, a kernel position an outer
and an inner part.

    forward           y[o, q]      = sum_k  w[o, k] * columns of x [k, q]
    backward data     dx[c, q]     = sum_k  turned w[c, k] * columns of dy [k, q]
    backward weight   dw[o, k]    += sum_q  dy[o, q] * columns of x [k, q]

- Columns run over the whole batch, so that maps of 7x7 fill the panels.
- Backward by data is a convolution again, with turned weights and stride 1: one for each remainder of the image's
  indices modulo the stride.  Nothing is added to memory.
- Backward by weight has channel and kernel position as rows and outputs as columns, so that the outputs' gradient is
  what gets transposed, not the many times larger columns.  Where weights are few, the places are cut into slabs whose
  sums are added at the end; the cut depends on sizes alone.

3x3 kernels with stride 1 need fewer multiplications by Winograd's algorithm (winograd.h, winograd_weight.h).  Groups
with one channel (depthwise) would leave the product's rows empty and have kernels of their own (depthwise.h).
"""

from libc.stdint cimport int64_t

from common cimport optional, real

cdef extern from "conv.h" nogil:
    int64_t product_scratch_float(int64_t panels)
    int64_t product_scratch_double(int64_t panels)
    int64_t conv_scratch_float(int64_t taps, int64_t weights, int64_t depth, int n_threads)
    int64_t conv_scratch_double(int64_t taps, int64_t weights, int64_t depth, int n_threads)
    int GEMM_PANELS
    void conv_forward_float(
        const float *w, const float *x, float *y, int64_t n_images, int64_t groups, int64_t channels, int64_t plane,
        int64_t outputs, const int64_t *sizes, const int64_t *row_from, const int64_t *inner, const float *scale,
        const float *bias, const float *residual, int active, float slope, float *scratch, int n_threads)
    void conv_forward_double(
        const double *w, const double *x, double *y, int64_t n_images, int64_t groups, int64_t channels,
        int64_t plane, int64_t outputs, const int64_t *sizes, const int64_t *row_from, const int64_t *inner,
        const double *scale,
        const double *bias, const double *residual, int active, double slope, double *scratch, int n_threads)
    void conv_backward_data_float(
        const float *w, const float *dy, float *dx, int64_t n_images, int64_t groups, int64_t channels, int64_t plane,
        int64_t outputs, int64_t places, int64_t taps, const int64_t *tap_to, const int64_t *tap_step,
        const int64_t *phases, int64_t n_phases, const int64_t *tables, float *turned, float *phase,
        float *scratch, int n_threads)
    void conv_backward_data_double(
        const double *w, const double *dy, double *dx, int64_t n_images, int64_t groups, int64_t channels,
        int64_t plane, int64_t outputs, int64_t places, int64_t taps, const int64_t *tap_to, const int64_t *tap_step,
        const int64_t *phases, int64_t n_phases, const int64_t *tables, double *turned, double *phase,
        double *scratch, int n_threads)
    void conv_backward_weight_float(
        const float *dy, const float *x, float *dw, int64_t n_images, int64_t groups, int64_t channels, int64_t plane,
        int64_t outputs, const int64_t *sizes, const int64_t *row_from, const int64_t *inner, float *partial,
        float *scratch, int n_threads)
    void conv_backward_weight_double(
        const double *dy, const double *x, double *dw, int64_t n_images, int64_t groups, int64_t channels,
        int64_t plane, int64_t outputs, const int64_t *sizes, const int64_t *row_from, const int64_t *inner,
        double *partial, double *scratch, int n_threads)

cdef extern from "winograd.h" nogil:
    int64_t winograd_scratch_float(int m, int64_t rows, int64_t channels, int64_t tiles, int n_threads)
    int64_t winograd_scratch_double(int m, int64_t rows, int64_t channels, int64_t tiles, int n_threads)
    void winograd_float(
        int m, const float *w, int gradient, const float *x, float *y, int64_t n_images, int64_t channels,
        int64_t plane, int64_t outputs, int64_t height, int64_t width, const int64_t *row_from, const int64_t *inner,
        const float *scale, const float *bias, const float *residual, int active, float slope, float *scratch,
        int n_threads)
    void winograd_double(
        int m, const double *w, int gradient, const double *x, double *y, int64_t n_images, int64_t channels,
        int64_t plane, int64_t outputs, int64_t height, int64_t width, const int64_t *row_from, const int64_t *inner,
        const double *scale, const double *bias, const double *residual, int active, double slope, double *scratch,
        int n_threads)

cdef extern from "winograd_weight.h" nogil:
    int64_t winograd_weight_scratch_float(
        int m, int64_t n_images, int64_t channels, int64_t outputs, int64_t height, int64_t width, int n_threads)
    int64_t winograd_weight_scratch_double(
        int m, int64_t n_images, int64_t channels, int64_t outputs, int64_t height, int64_t width, int n_threads)
    void winograd_weight_float(
        int m, const float *dy, const float *x, float *dw, int64_t n_images, int64_t channels, int64_t x_height,
        int64_t x_width, int64_t outputs, int64_t height, int64_t width, int64_t top, int64_t left, float *scratch,
        int n_threads)
    void winograd_weight_double(
        int m, const double *dy, const double *x, double *dw, int64_t n_images, int64_t channels, int64_t x_height,
        int64_t x_width, int64_t outputs, int64_t height, int64_t width, int64_t top, int64_t left, double *scratch,
        int n_threads)

cdef extern from "depthwise.h" nogil:
    int64_t c_depthwise_scratch "depthwise_scratch"(const int64_t *sizes, int n_threads)
    void depthwise_forward_float(
        const float *w, const float *x, float *y, int64_t n_images, int64_t groups, int64_t per_group,
        const int64_t *sizes, const int64_t *tables, int gather, const float *scale, const float *bias,
        const float *residual, int active, float slope, float *scratch, int n_threads)
    void depthwise_forward_double(
        const double *w, const double *x, double *y, int64_t n_images, int64_t groups, int64_t per_group,
        const int64_t *sizes, const int64_t *tables, int gather, const double *scale, const double *bias,
        const double *residual, int active, double slope, double *scratch, int n_threads)
    void depthwise_backward_data_float(
        const float *w, const float *dy, float *dx, int64_t n_images, int64_t groups, int64_t per_group,
        const int64_t *sizes, const int64_t *tables, float *scratch, int n_threads)
    void depthwise_backward_data_double(
        const double *w, const double *dy, double *dx, int64_t n_images, int64_t groups, int64_t per_group,
        const int64_t *sizes, const int64_t *tables, double *scratch, int n_threads)
    void depthwise_backward_weight_float(
        const float *dy, const float *x, float *dw, int64_t n_images, int64_t groups, int64_t per_group,
        const int64_t *sizes, const int64_t *tables, float *scratch, int n_threads)
    void depthwise_backward_weight_double(
        const double *dy, const double *x, double *dw, int64_t n_images, int64_t groups, int64_t per_group,
        const int64_t *sizes, const int64_t *tables, double *scratch, int n_threads)


def scratch_size(int64_t taps, int64_t weights, int64_t depth, int n_threads, bint double_precision):
    """Elements of scratch that the products need, for `weights` in all groups and `depth` places of a batch."""
    return (conv_scratch_double if double_precision else conv_scratch_float)(taps, weights, depth, n_threads)


def depthwise_scratch(const int64_t[::1] sizes, int n_threads):
    """Elements of scratch that the depthwise kernels need."""
    return c_depthwise_scratch(&sizes[0], n_threads)


def forward(
    const real[::1] w, const real[:, :, :, ::1] x, const int64_t[::1] sizes, const int64_t[:, ::1] row_from,
    const int64_t[:, ::1] inner, const real[::1] scale, const real[::1] bias, const real[::1] residual, bint active,
    real slope, real[:, :, :, ::1] y, real[::1] scratch, int n_threads,
):
    """y (N, group, O/group, places) = act(w * x (N, group, C/group, plane) * scale (O,) + bias (O,) + residual)."""
    cdef int64_t n_images = y.shape[0], groups = y.shape[1], outputs = y.shape[2], places = y.shape[3]
    if n_images * groups * outputs * places == 0:
        return
    cdef const real *x_data = &x[0, 0, 0, 0] if x.shape[2] * x.shape[3] else NULL
    with nogil:
        if real is float:
            conv_forward_float(
                optional(w), x_data, &y[0, 0, 0, 0], n_images, groups, x.shape[2], x.shape[3], outputs, &sizes[0],
                &row_from[0, 0], &inner[0, 0], optional(scale), optional(bias), optional(residual), active, slope,
                &scratch[0], n_threads)
        else:
            conv_forward_double(
                optional(w), x_data, &y[0, 0, 0, 0], n_images, groups, x.shape[2], x.shape[3], outputs, &sizes[0],
                &row_from[0, 0], &inner[0, 0], optional(scale), optional(bias), optional(residual), active, slope,
                &scratch[0], n_threads)


def backward_data(
    const real[::1] w, const real[:, :, :, ::1] dy, const int64_t[::1] tap_to, const int64_t[::1] tap_step,
    const int64_t[:, ::1] phases, const int64_t[::1] tables, real[:, :, :, ::1] dx, real[::1] scratch, int n_threads,
):
    """dx (N, group, C/group, plane) = the gradient gathered from dy (N, group, O/group, places) through w."""
    cdef int64_t n_images = dx.shape[0], groups = dx.shape[1], channels = dx.shape[2], plane = dx.shape[3]
    cdef int64_t panels = n_threads
    if n_images * groups * channels * plane == 0:
        return
    cdef const real *dy_data = &dy[0, 0, 0, 0] if dy.shape[2] * dy.shape[3] else NULL
    with nogil:
        if real is float:
            panels = panels * product_scratch_float(GEMM_PANELS)
            conv_backward_data_float(
                optional(w), dy_data, &dx[0, 0, 0, 0], n_images, groups, channels, plane, dy.shape[2], dy.shape[3],
                tap_to.shape[0], &tap_to[0], &tap_step[0], &phases[0, 0], phases.shape[0], &tables[0],
                &scratch[panels], &scratch[panels] + w.shape[0], &scratch[0], n_threads)
        else:
            panels = panels * product_scratch_double(GEMM_PANELS)
            conv_backward_data_double(
                optional(w), dy_data, &dx[0, 0, 0, 0], n_images, groups, channels, plane, dy.shape[2], dy.shape[3],
                tap_to.shape[0], &tap_to[0], &tap_step[0], &phases[0, 0], phases.shape[0], &tables[0],
                &scratch[panels], &scratch[panels] + w.shape[0], &scratch[0], n_threads)


def backward_weight(
    const real[:, :, :, ::1] dy, const real[:, :, :, ::1] x, const int64_t[::1] sizes,
    const int64_t[:, ::1] row_from, const int64_t[:, ::1] inner, real[::1] dw, real[::1] scratch, int n_threads,
):
    """dw (group, O/group, K) += sum over images and places of dy (N, group, O/group, places) * columns of x."""
    cdef int64_t n_images = dy.shape[0], groups = dy.shape[1], outputs = dy.shape[2], places = dy.shape[3]
    if n_images * places * dw.shape[0] == 0 or x.shape[3] == 0:
        return
    with nogil:
        if real is float:
            conv_backward_weight_float(
                &dy[0, 0, 0, 0], &x[0, 0, 0, 0], &dw[0], n_images, groups, x.shape[2], x.shape[3], outputs, &sizes[0],
                &row_from[0, 0], &inner[0, 0],
                &scratch[conv_scratch_float(sizes[3] * sizes[4], 0, 0, n_threads)], &scratch[0], n_threads)
        else:
            conv_backward_weight_double(
                &dy[0, 0, 0, 0], &x[0, 0, 0, 0], &dw[0], n_images, groups, x.shape[2], x.shape[3], outputs, &sizes[0],
                &row_from[0, 0], &inner[0, 0],
                &scratch[conv_scratch_double(sizes[3] * sizes[4], 0, 0, n_threads)], &scratch[0], n_threads)


def winograd_scratch(int m, int64_t rows, int64_t channels, int64_t tiles, int n_threads, bint double_precision):
    """Elements of scratch that `winograd` needs for `rows` outputs and tiles of m x m."""
    if double_precision:
        return winograd_scratch_double(m, rows, channels, tiles, n_threads)
    return winograd_scratch_float(m, rows, channels, tiles, n_threads)


def winograd(
    int m, const real[::1] w, const real[:, :, ::1] x, const int64_t[:, ::1] row_from, const int64_t[:, ::1] inner,
    const real[::1] scale, const real[::1] bias, const real[::1] residual, bint active, real slope,
    real[:, :, :, ::1] y, real[::1] scratch, int n_threads,
):
    """y (N, O, height, width) = act(3 x 3 kernels * x (N, C, plane) * scale + bias + residual), by tiles of m x m."""
    if y.shape[0] * y.shape[1] * y.shape[2] * y.shape[3] == 0:
        return
    with nogil:
        if real is float:
            winograd_float(
                m, &w[0], False, &x[0, 0, 0], &y[0, 0, 0, 0], y.shape[0], x.shape[1], x.shape[2], y.shape[1],
                y.shape[2], y.shape[3], &row_from[0, 0], &inner[0, 0], optional(scale), optional(bias),
                optional(residual), active, slope, &scratch[0], n_threads)
        else:
            winograd_double(
                m, &w[0], False, &x[0, 0, 0], &y[0, 0, 0, 0], y.shape[0], x.shape[1], x.shape[2], y.shape[1],
                y.shape[2], y.shape[3], &row_from[0, 0], &inner[0, 0], optional(scale), optional(bias),
                optional(residual), active, slope, &scratch[0], n_threads)


def winograd_backward_data(
    int m, const real[::1] w, const real[:, :, ::1] dy, const int64_t[:, ::1] row_from, const int64_t[:, ::1] inner,
    real[:, :, :, ::1] dx, real[::1] scratch, int n_threads,
):
    """dx (N, C, height, width) = the gradient gathered from dy (N, O, plane) through w, by tiles of m x m."""
    if dx.shape[0] * dx.shape[1] * dx.shape[2] * dx.shape[3] == 0:
        return
    with nogil:
        if real is float:
            winograd_float(
                m, &w[0], True, &dy[0, 0, 0], &dx[0, 0, 0, 0], dx.shape[0], dy.shape[1], dy.shape[2], dx.shape[1],
                dx.shape[2], dx.shape[3], &row_from[0, 0], &inner[0, 0], NULL, NULL, NULL, False, 0, &scratch[0],
                n_threads)
        else:
            winograd_double(
                m, &w[0], True, &dy[0, 0, 0], &dx[0, 0, 0, 0], dx.shape[0], dy.shape[1], dy.shape[2], dx.shape[1],
                dx.shape[2], dx.shape[3], &row_from[0, 0], &inner[0, 0], NULL, NULL, NULL, False, 0, &scratch[0],
                n_threads)


def winograd_weight_scratch(
    int m, int64_t n_images, int64_t channels, int64_t outputs, int64_t height, int64_t width, int n_threads,
    bint double_precision,
):
    """Elements of scratch that `winograd_backward_weight` needs for outputs of height x width."""
    if double_precision:
        return winograd_weight_scratch_double(m, n_images, channels, outputs, height, width, n_threads)
    return winograd_weight_scratch_float(m, n_images, channels, outputs, height, width, n_threads)


def winograd_backward_weight(
    int m, const real[:, :, :, ::1] dy, const real[:, :, :, ::1] x, int64_t top, int64_t left, real[::1] dw,
    real[::1] scratch, int n_threads,
):
    """dw (O, C, 3, 3) += sum over images and places of dy (N, O, height, width) * patches of x (N, C, plane)."""
    if dy.shape[0] * dy.shape[1] * dy.shape[2] * dy.shape[3] == 0:
        return
    if x.shape[1] * x.shape[2] * x.shape[3] == 0:
        return
    with nogil:
        if real is float:
            winograd_weight_float(
                m, &dy[0, 0, 0, 0], &x[0, 0, 0, 0], &dw[0], x.shape[0], x.shape[1], x.shape[2], x.shape[3],
                dy.shape[1], dy.shape[2], dy.shape[3], top, left, &scratch[0], n_threads)
        else:
            winograd_weight_double(
                m, &dy[0, 0, 0, 0], &x[0, 0, 0, 0], &dw[0], x.shape[0], x.shape[1], x.shape[2], x.shape[3],
                dy.shape[1], dy.shape[2], dy.shape[3], top, left, &scratch[0], n_threads)


def depthwise_forward(
    const real[::1] w, const real[:, :, ::1] x, const int64_t[::1] sizes, const int64_t[::1] tables,
    bint gather, const real[::1] scale, const real[::1] bias, const real[::1] residual, bint active, real slope,
    real[:, :, ::1] y, int64_t groups, real[::1] scratch, int n_threads,
):
    """y (N, O, places) = act(each plane of x (N, group, plane) with its outputs' weights * scale + bias + residual).

    With `gather`, y (N, group, places) sums over the planes of x (N, O, plane), weights reversed.
    """
    cdef int64_t n_images = y.shape[0], per_group
    if n_images * y.shape[1] * y.shape[2] == 0:
        return
    per_group = max(x.shape[1], y.shape[1]) // groups
    cdef const real *x_data = &x[0, 0, 0] if x.shape[2] else NULL
    with nogil:
        if real is float:
            depthwise_forward_float(
                &w[0], x_data, &y[0, 0, 0], n_images, groups, per_group, &sizes[0], &tables[0], gather,
                optional(scale), optional(bias), optional(residual), active, slope, &scratch[0], n_threads)
        else:
            depthwise_forward_double(
                &w[0], x_data, &y[0, 0, 0], n_images, groups, per_group, &sizes[0], &tables[0], gather,
                optional(scale), optional(bias), optional(residual), active, slope, &scratch[0], n_threads)


def depthwise_backward_data(
    const real[::1] w, const real[:, :, ::1] dy, const int64_t[::1] sizes, const int64_t[::1] tables,
    real[:, :, ::1] dx, real[::1] scratch, int n_threads,
):
    """dx (N, group, plane) = the gradient spread from dy (N, O, places) through w (O, K)."""
    if dx.shape[0] * dx.shape[1] * dx.shape[2] == 0:
        return
    cdef const real *dy_data = &dy[0, 0, 0] if dy.shape[2] else NULL
    cdef int64_t per_group = dy.shape[1] // dx.shape[1]
    with nogil:
        if real is float:
            depthwise_backward_data_float(&w[0], dy_data, &dx[0, 0, 0], dx.shape[0], dx.shape[1], per_group,
                                          &sizes[0], &tables[0], &scratch[0], n_threads)
        else:
            depthwise_backward_data_double(&w[0], dy_data, &dx[0, 0, 0], dx.shape[0], dx.shape[1], per_group,
                                           &sizes[0], &tables[0], &scratch[0], n_threads)


def depthwise_backward_weight(
    const real[:, :, ::1] dy, const real[:, :, ::1] x, const int64_t[::1] sizes, const int64_t[::1] tables,
    real[::1] dw, real[::1] scratch, int n_threads,
):
    """dw (O, K) += sum over images and places of dy (N, O, places) * x (N, group, plane)."""
    if x.shape[0] * x.shape[1] * x.shape[2] == 0 or dy.shape[2] == 0:
        return
    cdef int64_t per_group = dy.shape[1] // x.shape[1]
    with nogil:
        if real is float:
            depthwise_backward_weight_float(&dy[0, 0, 0], &x[0, 0, 0], &dw[0], x.shape[0], x.shape[1], per_group,
                                            &sizes[0], &tables[0], &scratch[0], n_threads)
        else:
            depthwise_backward_weight_double(&dy[0, 0, 0], &x[0, 0, 0], &dw[0], x.shape[0], x.shape[1], per_group,
                                             &sizes[0], &tables[0], &scratch[0], n_threads)


include "views.pxi"
