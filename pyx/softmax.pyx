"""Softmax over the C classes of scores (N, C, S), its loss, accuracy, and the largest scores.

An item of work is a block of neighbouring places of one of the N (softmax.h); where there is one place it is the item.
Labels are numbers of the dtype of the scores, cut to integers; `check_labels` must have been asked before, so that
all of them are classes, or the ignored label.

Sums over places are made from one partial sum for each of at most SUMS groups of places, whose size depends on the
number of places alone, in their order.
"""

from cython.parallel cimport prange
from libc.math cimport INFINITY

from common cimport ceil_div, real

cdef enum:
    SUMS = 256      # partial sums, at most
    GROUP = 1024    # labels that are looked at together

cdef extern from "softmax.h" nogil:
    const int SOFTMAX_WIDTH, SOFTMAX_NARROW
    Py_ssize_t count_bad_labels_float(const float *label, Py_ssize_t n, float classes, bint has_ignore, long ignore)
    Py_ssize_t count_bad_labels_double(const double *label, Py_ssize_t n, double classes, bint has_ignore, long ignore)
    void softmax_block_float(
        const float *x, Py_ssize_t classes, Py_ssize_t stride, Py_ssize_t n, float *y)
    void softmax_block_double(
        const double *x, Py_ssize_t classes, Py_ssize_t stride, Py_ssize_t n, double *y)
    void softmax_back_block_float(
        const float *y, const float *dy, Py_ssize_t classes, Py_ssize_t stride, Py_ssize_t n, float *dx)
    void softmax_back_block_double(
        const double *y, const double *dy, Py_ssize_t classes, Py_ssize_t stride, Py_ssize_t n, double *dx)
    void loss_block_float(
        const float *prob, const float *label, Py_ssize_t classes, Py_ssize_t stride, Py_ssize_t at,
        Py_ssize_t n, bint has_ignore,
        long ignore, double *sum, double *counted)
    void loss_block_double(
        const double *prob, const double *label, Py_ssize_t classes, Py_ssize_t stride, Py_ssize_t at,
        Py_ssize_t n, bint has_ignore,
        long ignore, double *sum, double *counted)
    void loss_back_block_float(
        const float *prob, const float *label, Py_ssize_t classes, Py_ssize_t stride, Py_ssize_t n,
        bint has_ignore, long ignore,
        float scale, float *dx)
    void loss_back_block_double(
        const double *prob, const double *label, Py_ssize_t classes, Py_ssize_t stride, Py_ssize_t n,
        bint has_ignore, long ignore,
        double scale, double *dx)
    void accuracy_block_float(
        const float *x, const float *label, Py_ssize_t classes, Py_ssize_t stride, Py_ssize_t n,
        bint has_ignore, long ignore,
        Py_ssize_t top_k, double *hits, double *counted, double *class_hits, double *class_counts)
    void accuracy_block_double(
        const double *x, const double *label, Py_ssize_t classes, Py_ssize_t stride, Py_ssize_t n,
        bint has_ignore, long ignore,
        Py_ssize_t top_k, double *hits, double *counted, double *class_hits, double *class_counts)
    void arg_max_block_float(
        const float *x, Py_ssize_t classes, Py_ssize_t stride, Py_ssize_t n, float *index, float *value)
    void arg_max_block_double(
        const double *x, Py_ssize_t classes, Py_ssize_t stride, Py_ssize_t n, double *index, double *value)


def check_labels(const real[::1] label, Py_ssize_t classes, bint has_ignore, long ignore, refuse):
    """Call refuse(i), which raises, when label i is the first that is neither a class nor to be ignored."""
    cdef Py_ssize_t i = 0, n, bad
    while i < label.shape[0]:
        n = min(GROUP, label.shape[0] - i)
        if real is float:
            bad = count_bad_labels_float(&label[i], n, classes, has_ignore, ignore)
            while bad and not count_bad_labels_float(&label[i], 1, classes, has_ignore, ignore):
                i += 1
        else:
            bad = count_bad_labels_double(&label[i], n, classes, has_ignore, ignore)
            while bad and not count_bad_labels_double(&label[i], 1, classes, has_ignore, ignore):
                i += 1
        if bad:
            refuse(i)
            return
        i += n


cdef struct Cut:
    # how the places of each item are cut into blocks
    Py_ssize_t classes, places, width, per_item, blocks


cdef inline Cut cut(Py_ssize_t items, Py_ssize_t classes, Py_ssize_t places) noexcept nogil:
    cdef Cut result
    result.classes, result.places = classes, places
    # a few places are not worth a vector loop, and where there are few items, there should be enough blocks
    result.width = 1 if places < SOFTMAX_NARROW else min(SOFTMAX_WIDTH, places)
    result.per_item = ceil_div(places, result.width) if places else 0
    result.blocks = items * result.per_item
    return result


cdef inline Py_ssize_t first_place(Cut c, Py_ssize_t block) noexcept nogil:
    """Number of the first place of a block in its item."""
    return block % c.per_item * c.width


cdef inline Py_ssize_t first_score(Cut c, Py_ssize_t block) noexcept nogil:
    return block // c.per_item * c.classes * c.places + first_place(c, block)


cdef inline Py_ssize_t width_of(Cut c, Py_ssize_t block) noexcept nogil:
    return min(c.width, c.places - first_place(c, block))


def softmax(const real[:, :, ::1] x, real[:, :, ::1] y, int n_threads):
    """y = exp(x - max(x)) / sum(exp(x - max(x))) over the classes."""
    cdef Cut c = cut(x.shape[0], x.shape[1], x.shape[2])
    cdef Py_ssize_t b, at
    if c.blocks * c.classes == 0:
        return
    cdef const real *x_data = &x[0, 0, 0]
    cdef real *y_data = &y[0, 0, 0]
    for b in prange(c.blocks, nogil=True, num_threads=n_threads, schedule="static"):
        at = first_score(c, b)
        if real is float:
            softmax_block_float(x_data + at, c.classes, c.places, width_of(c, b), y_data + at)
        else:
            softmax_block_double(x_data + at, c.classes, c.places, width_of(c, b), y_data + at)


def softmax_backward(const real[:, :, ::1] y, const real[:, :, ::1] dy, real[:, :, ::1] dx, int n_threads):
    """dx = (dy - sum(dy * y)) * y, summed over the classes."""
    cdef Cut c = cut(y.shape[0], y.shape[1], y.shape[2])
    cdef Py_ssize_t b, at
    if c.blocks * c.classes == 0:
        return
    cdef const real *y_data = &y[0, 0, 0]
    cdef const real *dy_data = &dy[0, 0, 0]
    cdef real *dx_data = &dx[0, 0, 0]
    for b in prange(c.blocks, nogil=True, num_threads=n_threads, schedule="static"):
        at = first_score(c, b)
        if real is float:
            softmax_back_block_float(y_data + at, dy_data + at, c.classes, c.places, width_of(c, b), dx_data + at)
        else:
            softmax_back_block_double(y_data + at, dy_data + at, c.classes, c.places, width_of(c, b), dx_data + at)


cdef void add_up(const double *first, const double *second, Py_ssize_t n, double[::1] out) noexcept nogil:
    cdef Py_ssize_t i
    out[0] = out[1] = 0
    for i in range(n):
        out[0] += first[i]
        out[1] += second[i]


def softmax_loss(
    const real[:, :, ::1] prob, const real[::1] label, bint has_ignore, long ignore, double[::1] out, int n_threads
):
    """out = sum of -log(max(prob[label], FLT_MIN)), number of places that count."""
    cdef double[SUMS] sums, counts
    cdef Py_ssize_t total = label.shape[0], share = max(ceil_div(total, SUMS), 64), groups = ceil_div(total, share), i
    cdef Py_ssize_t classes = prob.shape[1], places = prob.shape[2]
    cdef const real *data = &prob[0, 0, 0] if total and classes else NULL
    for i in prange(groups, nogil=True, num_threads=n_threads, schedule="static"):
        if real is float:
            loss_block_float(data, &label[0], classes, places, i * share, min(share, total - i * share), has_ignore,
                             ignore, &sums[i], &counts[i])
        else:
            loss_block_double(data, &label[0], classes, places, i * share, min(share, total - i * share), has_ignore,
                              ignore, &sums[i], &counts[i])
    add_up(sums, counts, groups, out)


def softmax_loss_backward(
    const real[:, :, ::1] prob, const real[::1] label, bint has_ignore, long ignore, const double[::1] scale,
    real[:, :, ::1] dx, int n_threads,
):
    """dx = (prob - 1 at the label) * scale, 0 at ignored places."""
    cdef Cut c = cut(prob.shape[0], prob.shape[1], prob.shape[2])
    cdef Py_ssize_t b, at
    cdef real factor = <real> scale[0]
    if c.blocks * c.classes == 0:
        return
    cdef const real *prob_data = &prob[0, 0, 0]
    cdef real *dx_data = &dx[0, 0, 0]
    for b in prange(c.blocks, nogil=True, num_threads=n_threads, schedule="static"):
        at = first_score(c, b)
        if real is float:
            loss_back_block_float(prob_data + at, &label[b // c.per_item * c.places + first_place(c, b)], c.classes,
                                  c.places, width_of(c, b), has_ignore, ignore, factor, dx_data + at)
        else:
            loss_back_block_double(prob_data + at, &label[b // c.per_item * c.places + first_place(c, b)], c.classes,
                                   c.places, width_of(c, b), has_ignore, ignore, factor, dx_data + at)


cdef void accuracy_group(
    Cut c, Py_ssize_t begin, Py_ssize_t end, const real *x, const real *label, bint has_ignore, long ignore,
    Py_ssize_t top_k, double *hits, double *counted, double *class_hits, double *class_counts,
) noexcept nogil:
    cdef Py_ssize_t b, at
    cdef double some_hits = 0, some_counted = 0
    hits[0] = counted[0] = 0
    for b in range(begin, end):
        at = b // c.per_item * c.places + first_place(c, b)
        if real is float:
            accuracy_block_float(x + first_score(c, b), label + at, c.classes, c.places, width_of(c, b), has_ignore,
                                 ignore, top_k, &some_hits, &some_counted, class_hits, class_counts)
        else:
            accuracy_block_double(x + first_score(c, b), label + at, c.classes, c.places, width_of(c, b), has_ignore,
                                  ignore, top_k, &some_hits, &some_counted, class_hits, class_counts)
        hits[0] += some_hits
        counted[0] += some_counted


def accuracy(
    const real[:, :, ::1] x, const real[::1] label, bint has_ignore, long ignore, Py_ssize_t top_k,
    double[::1] out, double[::1] class_hits, double[::1] class_counts, int n_threads,
):
    """out = hits, number of places that count; per class too, unless None."""
    cdef double[SUMS] hits, counts
    cdef Cut c = cut(x.shape[0], x.shape[1], x.shape[2])
    cdef Py_ssize_t share = max(ceil_div(c.blocks, SUMS), 1), groups = ceil_div(c.blocks, share), i
    cdef const real *x_data = &x[0, 0, 0] if c.blocks * c.classes else NULL
    cdef double *hits_data = &class_hits[0] if class_hits is not None and c.classes else NULL
    cdef double *counts_data = &class_counts[0] if class_counts is not None and c.classes else NULL
    if hits_data is not NULL:
        class_hits[:] = 0
    if counts_data is not NULL:
        class_counts[:] = 0
    for i in prange(groups, nogil=True, num_threads=n_threads, schedule="static"):
        accuracy_group(c, i * share, min((i + 1) * share, c.blocks), x_data, &label[0], has_ignore, ignore, top_k,
                       &hits[i], &counts[i], hits_data, counts_data)
    add_up(hits, counts, groups, out)


def shares(const double[::1] part, const double[::1] whole, real[::1] y):
    """y = part / max(whole, 1)."""
    cdef Py_ssize_t i
    for i in range(y.shape[0]):
        y[i] = <real> (part[i] / max(whole[i], 1.0))


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
    cdef Cut c = cut(x.shape[0], x.shape[1], x.shape[2])
    cdef Py_ssize_t i, at, to
    if c.blocks * c.classes == 0:
        return
    cdef const real *x_data = &x[0, 0, 0]
    cdef real *index_data = &index[0, 0, 0] if index is not None else NULL
    cdef real *value_data = &value[0, 0, 0] if value is not None else NULL
    if top_k == 1:
        for i in prange(c.blocks, nogil=True, num_threads=n_threads, schedule="static"):
            to = i // c.per_item * c.places + first_place(c, i)
            if real is float:
                arg_max_block_float(x_data + first_score(c, i), c.classes, c.places, width_of(c, i),
                                    index_data + to if index_data is not NULL else NULL,
                                    value_data + to if value_data is not NULL else NULL)
            else:
                arg_max_block_double(x_data + first_score(c, i), c.classes, c.places, width_of(c, i),
                                     index_data + to if index_data is not NULL else NULL,
                                     value_data + to if value_data is not NULL else NULL)
    else:
        for i in prange(x.shape[0] * c.places, nogil=True, num_threads=n_threads, schedule="static"):
            at = i // c.places * c.classes * c.places + i % c.places
            to = i // c.places * top_k * c.places + i % c.places
            arg_max_place(x_data + at, c.classes, c.places, top_k,
                          index_data + to if index_data is not NULL else NULL,
                          value_data + to if value_data is not NULL else NULL)


include "views.pxi"
