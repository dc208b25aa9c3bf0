"""Losses beside that of the softmax.

A sum over places is made from at most SUMS partial sums, in their order, in double precision; which places make one
depends on their number alone.  Labels are numbers of the dtype of the scores, cut to integers; they have been checked
before.  Each gradient reads and writes every element once; what it writes at a place it computes from that
place alone.
"""

from cython.parallel cimport prange
from libc.math cimport log, sqrt

from common cimport ceil_div, real

cdef extern from "loss.h" nogil:
    void cross_entropy_block_float(
        const float *x, const float *target, Py_ssize_t n, bint has_ignore, float ignore, double *sum,
        double *counted)
    void cross_entropy_block_double(
        const double *x, const double *target, Py_ssize_t n, bint has_ignore, double ignore, double *sum,
        double *counted)
    void cross_entropy_back_float(
        const float *x, const float *target, Py_ssize_t n, bint has_ignore, float ignore, float scale, float *dx)
    void cross_entropy_back_double(
        const double *x, const double *target, Py_ssize_t n, bint has_ignore, double ignore, double scale, double *dx)
    double infogain_place_float(
        const float *prob, Py_ssize_t classes, Py_ssize_t stride, const float *row, double floor)
    double infogain_place_double(
        const double *prob, Py_ssize_t classes, Py_ssize_t stride, const double *row, double floor)
    double hinge_item_float(const float *x, Py_ssize_t classes, Py_ssize_t label, bint squared)
    double hinge_item_double(const double *x, Py_ssize_t classes, Py_ssize_t label, bint squared)

cdef enum:
    SUMS = 256     # partial sums, at most
    BLOCK = 2048   # elements that are looked at together, at least

cdef double FLOOR = 1e-20   # under the logarithms
cdef double NEAR = 1e-4     # added to a distance that is divided by


cdef inline Py_ssize_t share_of(Py_ssize_t n, Py_ssize_t least) noexcept nogil:
    """How many of n places make one partial sum: it depends on n alone."""
    return max(ceil_div(n, SUMS), least)


cdef void add_up(const double *first, const double *second, Py_ssize_t n, double[::1] out) noexcept nogil:
    """out = sums of both, the second if there is one."""
    cdef Py_ssize_t i
    out[0] = 0
    for i in range(n):
        out[0] += first[i]
    if second is not NULL:
        out[1] = 0
        for i in range(n):
            out[1] += second[i]


def mean_loss(const double[::1] sums, double divisor, double[::1] z, real[::1] loss):
    """z = divisor, or if that is 0 the second of the sums, at least 1; loss = sums / z."""
    z[0] = divisor if divisor != 0 else max(sums[1], 1.0)
    loss[0] = <real> (sums[0] / z[0])


def loss_scale(const real[::1] weight, const double[::1] z, double factor, double[::1] scale):
    """scale = factor * weight / z."""
    scale[0] = factor * weight[0] / z[0]


def sigmoid_cross_entropy(
    const real[::1] x, const real[::1] target, bint has_ignore, long ignore, double[::1] out, int n_threads
):
    """out = sum of max(x, 0) - x * target + log(1 + exp(-abs(x))), number of places that count."""
    cdef double[SUMS] sums, counts
    cdef Py_ssize_t n = x.shape[0], share = share_of(n, BLOCK), groups = ceil_div(n, share), i
    for i in prange(groups, nogil=True, num_threads=n_threads, schedule="static"):
        if real is float:
            cross_entropy_block_float(&x[i * share], &target[i * share], min(share, n - i * share), has_ignore,
                                      <float> ignore, &sums[i], &counts[i])
        else:
            cross_entropy_block_double(&x[i * share], &target[i * share], min(share, n - i * share), has_ignore,
                                       <double> ignore, &sums[i], &counts[i])
    add_up(sums, counts, groups, out)


def sigmoid_cross_entropy_backward(
    const real[::1] x, const real[::1] target, bint has_ignore, long ignore, const double[::1] scale, real[::1] dx,
    int n_threads,
):
    """dx = (sigmoid(x) - target) * scale, 0 at ignored places."""
    cdef Py_ssize_t n = x.shape[0], i
    for i in prange(ceil_div(n, BLOCK), nogil=True, num_threads=n_threads, schedule="static"):
        if real is float:
            cross_entropy_back_float(&x[i * BLOCK], &target[i * BLOCK], min(BLOCK, n - i * BLOCK), has_ignore,
                                     <float> ignore, <float> scale[0], &dx[i * BLOCK])
        else:
            cross_entropy_back_double(&x[i * BLOCK], &target[i * BLOCK], min(BLOCK, n - i * BLOCK), has_ignore,
                                      <double> ignore, scale[0], &dx[i * BLOCK])


cdef void infogain_group(
    const real *prob, const real *label, const real *matrix, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t classes,
    Py_ssize_t places, bint has_ignore, long ignore, double *total, double *counted,
) noexcept nogil:
    cdef Py_ssize_t i, at
    cdef long c
    total[0] = counted[0] = 0
    for i in range(begin, end):
        c = <long> label[i]
        if has_ignore and c == ignore:
            continue
        counted[0] += 1
        at = i // places * classes * places + i % places
        if real is float:
            total[0] += infogain_place_float(prob + at, classes, places, matrix + c * classes, FLOOR)
        else:
            total[0] += infogain_place_double(prob + at, classes, places, matrix + c * classes, FLOOR)


def infogain_loss(
    const real[:, :, ::1] prob, const real[::1] label, bint has_ignore, long ignore, const real[:, ::1] matrix,
    double[::1] out, int n_threads,
):
    """out = sum of -matrix[label, l] * log(max(prob[l], FLOOR)), number of places that count."""
    cdef double[SUMS] sums, counts
    cdef Py_ssize_t n = label.shape[0], classes = prob.shape[1], places = prob.shape[2], share = share_of(n, 1), i
    cdef Py_ssize_t groups = ceil_div(n, share)
    for i in prange(groups, nogil=True, num_threads=n_threads, schedule="static"):
        infogain_group(&prob[0, 0, 0], &label[0], &matrix[0, 0], i * share, min((i + 1) * share, n), classes, places,
                       has_ignore, ignore, &sums[i], &counts[i])
    add_up(sums, counts, groups, out)


cdef void infogain_gradient_place(
    const real *prob, Py_ssize_t classes, Py_ssize_t stride, const real *row, double scale, real *dx
) noexcept nogil:
    """The gradient of one place, which does not count when there is no row."""
    cdef Py_ssize_t c
    cdef double gain = 0
    if row is NULL:
        for c in range(classes):
            dx[c * stride] = 0
    else:
        for c in range(classes):
            gain += row[c]
        for c in range(classes):
            dx[c * stride] = <real> ((prob[c * stride] * gain - row[c]) * scale)


def infogain_loss_backward(
    const real[:, :, ::1] prob, const real[::1] label, bint has_ignore, long ignore, const real[:, ::1] matrix,
    const double[::1] scale, real[:, :, ::1] dx, int n_threads,
):
    """dx = (prob * sum(matrix[label]) - matrix[label]) * scale, 0 at ignored places."""
    cdef Py_ssize_t classes = prob.shape[1], places = prob.shape[2], i
    cdef long c
    if prob.shape[0] * classes * places == 0:
        return
    for i in prange(label.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        c = <long> label[i]
        infogain_gradient_place(&prob[i // places, 0, i % places], classes, places,
                                NULL if has_ignore and c == ignore else &matrix[c, 0], scale[0],
                                &dx[i // places, 0, i % places])


def multinomial_loss(const real[:, ::1] prob, const real[::1] label, double[::1] out):
    """out = sum of -log(max(prob[label], FLOOR))."""
    cdef Py_ssize_t i
    out[0] = 0
    for i in range(label.shape[0]):
        out[0] -= log(max(<double> prob[i, <long> label[i]], FLOOR))


def multinomial_loss_backward(
    const real[:, ::1] prob, const real[::1] label, const double[::1] scale, real[:, ::1] dx, int n_threads
):
    """dx = -scale / max(prob, FLOOR) at the label, 0 elsewhere."""
    cdef Py_ssize_t i, j
    cdef long c
    for i in prange(prob.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        for j in range(prob.shape[1]):
            dx[i, j] = 0
        c = <long> label[i]
        dx[i, c] = <real> (-scale[0] / max(<double> prob[i, c], FLOOR))


cdef inline double margin_of(real x, bint is_label) noexcept nogil:
    cdef double margin = 1 - x if is_label else 1 + x
    return margin if margin > 0 else 0


cdef double hinge_group(
    const real *x, const real *label, Py_ssize_t n, Py_ssize_t classes, bint squared
) noexcept nogil:
    cdef double result = 0
    cdef Py_ssize_t i
    for i in range(n):
        if real is float:
            result += hinge_item_float(x + i * classes, classes, <Py_ssize_t> label[i], squared)
        else:
            result += hinge_item_double(x + i * classes, classes, <Py_ssize_t> label[i], squared)
    return result


def hinge_loss(const real[:, ::1] x, const real[::1] label, bint squared, double[::1] out, int n_threads):
    """out = sum of max(0, 1 + s * x), or of its square; s is -1 at the label, else 1."""
    cdef double[SUMS] sums
    cdef Py_ssize_t n = x.shape[0], share = share_of(n, 1), groups = ceil_div(n, share), i
    for i in prange(groups, nogil=True, num_threads=n_threads, schedule="static"):
        sums[i] = hinge_group(&x[i * share, 0], &label[i * share], min(share, n - i * share), x.shape[1], squared)
    add_up(sums, NULL, groups, out)


def hinge_loss_backward(
    const real[:, ::1] x, const real[::1] label, bint squared, const double[::1] scale, real[:, ::1] dx, int n_threads
):
    """dx = s * scale where the margin is positive, or 2 * margin * s * scale."""
    cdef Py_ssize_t i, j
    cdef double margin, slope
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        for j in range(x.shape[1]):
            margin = margin_of(x[i, j], j == <long> label[i])
            slope = 2 * margin if squared else <double> (margin > 0)
            dx[i, j] = <real> (-slope * scale[0] if j == <long> label[i] else slope * scale[0])


def contrastive_loss(
    const double[::1] square, const real[::1] similar, double margin, bint legacy, double[::1] out
):
    """out = sum of square, or of max(margin - distance, 0)**2, legacy max(margin - square, 0)."""
    cdef Py_ssize_t i
    cdef double short_by
    out[0] = 0
    for i in range(square.shape[0]):
        if <long> similar[i] != 0:
            out[0] += square[i]
        else:
            short_by = max(margin - (square[i] if legacy else sqrt(square[i])), 0.0)
            out[0] += short_by if legacy else short_by * short_by


def contrastive_loss_backward(
    const real[:, ::1] difference, const double[::1] square, const real[::1] similar, double margin, bint legacy,
    const double[::1] scale, real[:, ::1] dx, int n_threads,
):
    """dx = factor * difference * scale; the factor is that of the pair."""
    cdef Py_ssize_t i, j
    cdef double factor
    for i in prange(square.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        if <long> similar[i] != 0:
            factor = scale[0]
        elif legacy:
            factor = -scale[0] if margin - square[i] > 0 else 0.0
        else:
            factor = -max(margin - sqrt(square[i]), 0.0) / (sqrt(square[i]) + NEAR) * scale[0]
        for j in range(difference.shape[1]):
            dx[i, j] = <real> (factor * difference[i, j])


include "views.pxi"
