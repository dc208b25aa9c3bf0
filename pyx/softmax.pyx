"""Softmax over the C classes of scores (N, C, S), its loss, accuracy, and the largest scores.

One place (n, s) is handled by one thread: its C scores lie S apart.  Neighbouring places share their cache
lines, and the exponentials take longer than reading, so nothing is gained by making several at once.
Labels are numbers of the dtype of the scores, cut to integers; `first_bad_label` must have been asked before,
so that all of them are classes, or the ignored label.

Sums over places are made from one value per place, in their order.
"""

from cython.parallel cimport prange
from libc.math cimport INFINITY, exp, expf, log

from common cimport real

cdef extern from "<float.h>" nogil:
    const float FLT_MIN


def first_bad_label(const real[::1] label, Py_ssize_t classes, bint has_ignore, long ignore):
    """Index of the first label that is neither a class nor to be ignored, or -1."""
    cdef Py_ssize_t i
    cdef bint is_class, is_ignored
    for i in range(label.shape[0]):
        # cutting keeps (-1, 0] at 0; comparing before cutting lets NaN and huge numbers fail
        is_class = label[i] > -1 and label[i] < classes
        is_ignored = has_ignore and ignore - 1 < label[i] < ignore + 1 and <long> label[i] == ignore
        if not is_class and not is_ignored:
            return i
    return -1


cdef inline real exp_of(real x) noexcept nogil:
    return expf(x) if real is float else exp(x)


cdef void softmax_place(const real *x, Py_ssize_t classes, Py_ssize_t stride, real *y) noexcept nogil:
    cdef Py_ssize_t c
    cdef real largest = x[0]
    cdef double total = 0
    for c in range(1, classes):
        largest = x[c * stride] if x[c * stride] > largest else largest
    for c in range(classes):
        y[c * stride] = exp_of(x[c * stride] - largest)
        total += y[c * stride]
    for c in range(classes):
        y[c * stride] = <real> (y[c * stride] / total)


def softmax(const real[:, :, ::1] x, real[:, :, ::1] y, int n_threads):
    """y = exp(x - max(x)) / sum(exp(x - max(x))) over the classes."""
    cdef Py_ssize_t classes = x.shape[1], places = x.shape[2], i, at
    if x.shape[0] * classes * places == 0:
        return
    cdef const real *x_data = &x[0, 0, 0]
    cdef real *y_data = &y[0, 0, 0]
    for i in prange(x.shape[0] * places, nogil=True, num_threads=n_threads, schedule="static"):
        at = i // places * classes * places + i % places
        softmax_place(x_data + at, classes, places, y_data + at)


cdef void softmax_backward_place(
    const real *y, const real *dy, Py_ssize_t classes, Py_ssize_t stride, real *dx
) noexcept nogil:
    cdef Py_ssize_t c
    cdef double dot = 0
    for c in range(classes):
        dot += <double> dy[c * stride] * y[c * stride]
    for c in range(classes):
        dx[c * stride] = <real> ((dy[c * stride] - dot) * y[c * stride])


def softmax_backward(const real[:, :, ::1] y, const real[:, :, ::1] dy, real[:, :, ::1] dx, int n_threads):
    """dx = (dy - sum(dy * y)) * y, summed over the classes."""
    cdef Py_ssize_t classes = y.shape[1], places = y.shape[2], i, at
    if y.shape[0] * classes * places == 0:
        return
    cdef const real *y_data = &y[0, 0, 0]
    cdef const real *dy_data = &dy[0, 0, 0]
    cdef real *dx_data = &dx[0, 0, 0]
    for i in prange(y.shape[0] * places, nogil=True, num_threads=n_threads, schedule="static"):
        at = i // places * classes * places + i % places
        softmax_backward_place(y_data + at, dy_data + at, classes, places, dx_data + at)


def softmax_loss(
    const real[:, :, ::1] prob, const real[::1] label, bint has_ignore, long ignore, double[::1] out,
    double[::1] work, int n_threads,
):
    """out = sum of -log(max(prob[label], FLT_MIN)), number of places that count; work: one for each place."""
    cdef Py_ssize_t places = prob.shape[2], i
    cdef long c
    cdef double floor = FLT_MIN
    for i in prange(label.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        c = <long> label[i]
        if not (has_ignore and c == ignore):
            work[i] = -log(max(<double> prob[i // places, c, i % places], floor))
    out[0] = out[1] = 0
    for i in range(label.shape[0]):
        if not (has_ignore and <long> label[i] == ignore):
            out[0] += work[i]
            out[1] += 1


def softmax_loss_backward(
    const real[:, :, ::1] prob, const real[::1] label, bint has_ignore, long ignore, real scale,
    real[:, :, ::1] dx, int n_threads,
):
    """dx = (prob - 1 at the label) * scale, 0 at ignored places."""
    cdef Py_ssize_t classes = prob.shape[1], places = prob.shape[2], i, at
    cdef long c
    if prob.shape[0] * classes * places == 0:
        return
    cdef const real *prob_data = &prob[0, 0, 0]
    cdef real *dx_data = &dx[0, 0, 0]
    for i in prange(label.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        c = <long> label[i]
        at = i // places * classes * places + i % places
        loss_gradient_place(prob_data + at, classes, places, -1 if has_ignore and c == ignore else c, scale,
                            dx_data + at)


cdef void loss_gradient_place(
    const real *prob, Py_ssize_t classes, Py_ssize_t stride, Py_ssize_t label, real scale, real *dx
) noexcept nogil:
    """The gradient of one place, where a label of -1 means that it does not count."""
    cdef Py_ssize_t c
    if label < 0:
        for c in range(classes):
            dx[c * stride] = 0
    else:
        for c in range(classes):
            dx[c * stride] = (prob[c * stride] - (1 if c == label else 0)) * scale


cdef bint is_hit(
    const real *x, Py_ssize_t classes, Py_ssize_t stride, Py_ssize_t label, Py_ssize_t top_k
) noexcept nogil:
    """Whether fewer than top_k other classes have a score as large as that of the label, or larger."""
    cdef Py_ssize_t c, better = 0
    for c in range(classes):
        better += c != label and x[c * stride] >= x[label * stride]
    return better < top_k


def accuracy(
    const real[:, :, ::1] x, const real[::1] label, bint has_ignore, long ignore, Py_ssize_t top_k,
    double[::1] out, double[::1] class_hits, double[::1] class_counts, double[::1] work, int n_threads,
):
    """out = hits, number of places that count; per class too, unless None; work: one for each place."""
    cdef Py_ssize_t classes = x.shape[1], places = x.shape[2], i
    cdef long c
    cdef bint hits_wanted = class_hits is not None, counts_wanted = class_counts is not None
    cdef const real *x_data = &x[0, 0, 0] if x.shape[0] * classes * places else NULL
    for i in prange(label.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        c = <long> label[i]
        if not (has_ignore and c == ignore):
            work[i] = is_hit(x_data + i // places * classes * places + i % places, classes, places, c, top_k)
    out[0] = out[1] = 0
    if hits_wanted:
        class_hits[:] = 0
    if counts_wanted:
        class_counts[:] = 0
    for i in range(label.shape[0]):
        c = <long> label[i]
        if has_ignore and c == ignore:
            continue
        out[0] += work[i]
        out[1] += 1
        if hits_wanted:
            class_hits[c] += work[i]
        if counts_wanted:
            class_counts[c] += 1


cdef inline real rank(real score) noexcept nogil:
    """What scores are compared by: what is not a number counts as the largest, as in NumPy."""
    return score if score == score else <real> INFINITY


cdef void arg_max_place(
    const real *x, Py_ssize_t classes, Py_ssize_t stride, Py_ssize_t top_k, real *index, real *value
) noexcept nogil:
    """The top_k largest scores, each found in one pass as the one behind the one before, ordered by score, then
    class."""
    cdef Py_ssize_t k, c, best, before = classes
    cdef real score, limit = <real> INFINITY
    for k in range(top_k):
        best = -1
        for c in range(classes):
            score = rank(x[c * stride])
            if score < limit or (score == limit and c < before):
                if best < 0 or score >= rank(x[best * stride]):
                    best = c
        before, limit = best, rank(x[best * stride])
        if index is not NULL:
            index[k * stride] = best
        if value is not NULL:
            value[k * stride] = x[best * stride]


def arg_max(
    const real[:, :, ::1] x, Py_ssize_t top_k, real[:, :, ::1] index, real[:, :, ::1] value, int n_threads
):
    """index, value = classes and scores of the top_k largest, unless None; of equal ones the later class."""
    cdef Py_ssize_t classes = x.shape[1], places = x.shape[2], i, at, to
    if x.shape[0] * classes * places == 0:
        return
    cdef const real *x_data = &x[0, 0, 0]
    cdef real *index_data = &index[0, 0, 0] if index is not None else NULL
    cdef real *value_data = &value[0, 0, 0] if value is not None else NULL
    for i in prange(x.shape[0] * places, nogil=True, num_threads=n_threads, schedule="static"):
        at = i // places * classes * places + i % places
        to = i // places * top_k * places + i % places
        arg_max_place(x_data + at, classes, places, top_k,
                      index_data + to if index_data is not NULL else NULL,
                      value_data + to if value_data is not NULL else NULL)


include "views.pxi"
