"""Losses beside that of the softmax.

A sum over places is made from one value per place (per block of places where there are many), in their order,
in double precision.  Labels are numbers of the dtype of the scores, cut to integers; they have been checked
before.  Each gradient reads and writes every element once; what it writes at a place it computes from that
place alone.
"""

from cython.parallel cimport prange
from libc.math cimport exp, expf, fabs, fabsf, log, log1p, log1pf, sqrt, tanh, tanhf

from common cimport ceil_div, real

cdef enum:
    BLOCK = 2048   # places whose losses are added up first

cdef double FLOOR = 1e-20   # under the logarithms
cdef double NEAR = 1e-4     # added to a distance that is divided by


cdef inline bint is_ignored(real target, bint has_ignore, long ignore) noexcept nogil:
    # comparing before cutting lets NaN and huge numbers pass unharmed
    return has_ignore and ignore - 1 < target and target < ignore + 1 and <long> target == ignore


cdef inline real logistic(real x) noexcept nogil:
    cdef real half = 0.5
    return half * (tanhf(half * x) if real is float else tanh(half * x)) + half


def blocks_of(Py_ssize_t places):
    """Number of blocks that so many places are cut into."""
    return ceil_div(places, BLOCK)


cdef void cross_entropy_block(
    const real *x, const real *target, Py_ssize_t n, bint has_ignore, long ignore, double *total, double *counted
) noexcept nogil:
    cdef Py_ssize_t i
    cdef double smooth
    total[0] = counted[0] = 0
    for i in range(n):
        if not is_ignored(target[i], has_ignore, ignore):
            smooth = log1pf(expf(-fabsf(x[i]))) if real is float else log1p(exp(-fabs(x[i])))
            total[0] += max(<double> x[i], 0.0) - <double> x[i] * target[i] + smooth
            counted[0] += 1


def sigmoid_cross_entropy(
    const real[::1] x, const real[::1] target, bint has_ignore, long ignore, double[::1] out, double[::1] work,
    int n_threads,
):
    """out = sum of max(x, 0) - x * target + log(1 + exp(-abs(x))), number of places that count."""
    cdef Py_ssize_t blocks = ceil_div(x.shape[0], BLOCK), i
    for i in prange(blocks, nogil=True, num_threads=n_threads, schedule="static"):
        cross_entropy_block(&x[i * BLOCK], &target[i * BLOCK], min(BLOCK, x.shape[0] - i * BLOCK), has_ignore,
                            ignore, &work[i], &work[blocks + i])
    out[0] = out[1] = 0
    for i in range(blocks):
        out[0] += work[i]
        out[1] += work[blocks + i]


def sigmoid_cross_entropy_backward(
    const real[::1] x, const real[::1] target, bint has_ignore, long ignore, real scale, real[::1] dx,
    int n_threads,
):
    """dx = (sigmoid(x) - target) * scale, 0 at ignored places."""
    cdef Py_ssize_t i
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        dx[i] = 0 if is_ignored(target[i], has_ignore, ignore) else (logistic(x[i]) - target[i]) * scale


cdef double infogain_place(
    const real *prob, Py_ssize_t classes, Py_ssize_t stride, const real *row
) noexcept nogil:
    cdef Py_ssize_t c
    cdef double result = 0
    for c in range(classes):
        result -= row[c] * log(max(<double> prob[c * stride], FLOOR))
    return result


def infogain_loss(
    const real[:, :, ::1] prob, const real[::1] label, bint has_ignore, long ignore, const real[:, ::1] matrix,
    double[::1] out, double[::1] work, int n_threads,
):
    """out = sum of -matrix[label, l] * log(max(prob[l], FLOOR)), number of places that count."""
    cdef Py_ssize_t classes = prob.shape[1], places = prob.shape[2], i
    cdef long c
    for i in prange(label.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        c = <long> label[i]
        if not (has_ignore and c == ignore):
            work[i] = infogain_place(&prob[i // places, 0, i % places], classes, places, &matrix[c, 0])
    out[0] = out[1] = 0
    for i in range(label.shape[0]):
        if not (has_ignore and <long> label[i] == ignore):
            out[0] += work[i]
            out[1] += 1


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
    double scale, real[:, :, ::1] dx, int n_threads,
):
    """dx = (prob * sum(matrix[label]) - matrix[label]) * scale, 0 at ignored places."""
    cdef Py_ssize_t classes = prob.shape[1], places = prob.shape[2], i
    cdef long c
    if prob.shape[0] * classes * places == 0:
        return
    for i in prange(label.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        c = <long> label[i]
        infogain_gradient_place(&prob[i // places, 0, i % places], classes, places,
                                NULL if has_ignore and c == ignore else &matrix[c, 0], scale,
                                &dx[i // places, 0, i % places])


def multinomial_loss(const real[:, ::1] prob, const real[::1] label, double[::1] out):
    """out = sum of -log(max(prob[label], FLOOR))."""
    cdef Py_ssize_t i
    out[0] = 0
    for i in range(label.shape[0]):
        out[0] -= log(max(<double> prob[i, <long> label[i]], FLOOR))


def multinomial_loss_backward(
    const real[:, ::1] prob, const real[::1] label, double scale, real[:, ::1] dx, int n_threads
):
    """dx = -scale / max(prob, FLOOR) at the label, 0 elsewhere."""
    cdef Py_ssize_t i, j
    cdef long c
    for i in prange(prob.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        for j in range(prob.shape[1]):
            dx[i, j] = 0
        c = <long> label[i]
        dx[i, c] = <real> (-scale / max(<double> prob[i, c], FLOOR))


cdef inline double margin_of(real x, bint is_label) noexcept nogil:
    cdef double margin = 1 - x if is_label else 1 + x
    return margin if margin > 0 else 0


cdef double hinge_item(const real *x, Py_ssize_t classes, long label, bint squared) noexcept nogil:
    cdef Py_ssize_t j
    cdef double result = 0, margin
    for j in range(classes):
        margin = margin_of(x[j], j == label)
        result += margin * margin if squared else margin
    return result


def hinge_loss(
    const real[:, ::1] x, const real[::1] label, bint squared, double[::1] out, double[::1] work, int n_threads
):
    """out = sum of max(0, 1 + s * x), or of its square; s is -1 at the label, else 1."""
    cdef Py_ssize_t i
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        work[i] = hinge_item(&x[i, 0], x.shape[1], <long> label[i], squared)
    out[0] = 0
    for i in range(x.shape[0]):
        out[0] += work[i]


def hinge_loss_backward(
    const real[:, ::1] x, const real[::1] label, bint squared, double scale, real[:, ::1] dx, int n_threads
):
    """dx = s * scale where the margin is positive, or 2 * margin * s * scale."""
    cdef Py_ssize_t i, j
    cdef double margin, slope
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        for j in range(x.shape[1]):
            margin = margin_of(x[i, j], j == <long> label[i])
            slope = 2 * margin if squared else <double> (margin > 0)
            dx[i, j] = <real> (-slope * scale if j == <long> label[i] else slope * scale)


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
    double scale, real[:, ::1] dx, int n_threads,
):
    """dx = factor * difference * scale; the factor is that of the pair."""
    cdef Py_ssize_t i, j
    cdef double factor
    for i in prange(square.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        if <long> similar[i] != 0:
            factor = scale
        elif legacy:
            factor = -scale if margin - square[i] > 0 else 0.0
        else:
            factor = -max(margin - sqrt(square[i]), 0.0) / (sqrt(square[i]) + NEAR) * scale
        for j in range(difference.shape[1]):
            dx[i, j] = <real> (factor * difference[i, j])


include "views.pxi"
