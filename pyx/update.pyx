"""One step of a solver on a piece of the flat parameter buffer.

A step is one pass: clipping and the division by iter_size (together one factor, `scale`), weight decay, history,
the update, and the new values.  Each array is read once and written once, whichever rule it is: the work is bound
by memory, and one pass for each of these would take several times as long.  Elements do not depend on each other,
so the cut among the threads cannot show.  The arithmetic is that of the tensors' type, in the order of the formulas;
numbers handed in are rounded to that type first.

The norm that clipping needs beforehand is summed in double: one partial sum for each BLOCK, in lanes, and the
partial sums in their order.
"""

from cython.parallel cimport prange
from libc.math cimport sqrt as sqrt_double
from libc.math cimport sqrtf

from common cimport ceil_div, real

cdef extern from "lanes.h" nogil:
    enum: LANES
    double lanes_total(const double *lane)

cdef enum:
    BLOCK = 8192         # elements of a partial sum


cdef inline real sqrt(real x) noexcept nogil:
    return sqrtf(x) if real is float else sqrt_double(x)


cdef inline double sum_of_block(const real *x, Py_ssize_t n) noexcept nogil:
    cdef double[LANES] lane
    cdef Py_ssize_t i, j
    for j in range(LANES):
        lane[j] = 0
    for i in range(n // LANES):
        for j in range(LANES):
            lane[j] += <double> x[i * LANES + j] * x[i * LANES + j]
    for i in range(n - n % LANES, n):
        lane[i % LANES] += <double> x[i] * x[i]
    return lanes_total(lane)


def scratch_size(Py_ssize_t n):
    """Elements of the array `work` that `sum_of_squares` needs for n values."""
    return ceil_div(n, BLOCK)


def sum_of_squares(const real[::1] x, double[::1] out, double[::1] work, int n_threads):
    """out = sum of x * x; work: one for each block."""
    cdef Py_ssize_t n = x.shape[0], blocks = ceil_div(n, BLOCK), i
    for i in prange(blocks, nogil=True, num_threads=n_threads, schedule="static"):
        work[i] = sum_of_block(&x[i * BLOCK], min(BLOCK, n - i * BLOCK))
    out[0] = 0
    for i in range(blocks):
        out[0] += work[i]


cdef inline real gradient(real w, real dw, real scale, real decay, bint l1) noexcept nogil:
    """The gradient with its factor and its weight decay."""
    return scale * dw + decay * (<real> ((w > 0) - (w < 0)) if l1 else w)


def update_sgd(
    real[::1] w, real[::1] dw, real[::1] h, real rate, real momentum, real scale, real decay, bint l1, int n_threads
):
    """h = momentum h + rate g; w = w - h."""
    cdef Py_ssize_t i
    for i in prange(w.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        h[i] = momentum * h[i] + rate * gradient(w[i], dw[i], scale, decay, l1)
        dw[i] = h[i]
        w[i] = w[i] - dw[i]


def update_nesterov(
    real[::1] w, real[::1] dw, real[::1] h, real rate, double momentum, real scale, real decay, bint l1,
    int n_threads,
):
    """h' = momentum h + rate g; w = w - ((1 + momentum) h' - momentum h)."""
    cdef Py_ssize_t i
    cdef real keep = momentum, ahead = 1 + momentum, old
    for i in prange(w.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        old = h[i]
        h[i] = keep * old + rate * gradient(w[i], dw[i], scale, decay, l1)
        dw[i] = ahead * h[i] - keep * old
        w[i] = w[i] - dw[i]


def update_adagrad(
    real[::1] w, real[::1] dw, real[::1] h, real rate, real delta, real scale, real decay, bint l1, int n_threads
):
    """h = h + g g; w = w - rate g / (sqrt(h) + delta)."""
    cdef Py_ssize_t i
    cdef real g
    for i in prange(w.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        g = gradient(w[i], dw[i], scale, decay, l1)
        h[i] = h[i] + g * g
        dw[i] = rate * (g / (sqrt(h[i]) + delta))
        w[i] = w[i] - dw[i]


def update_rmsprop(
    real[::1] w, real[::1] dw, real[::1] h, real rate, double rms_decay, real delta, real scale, real decay,
    bint l1, int n_threads,
):
    """h = d h + (1 - d) g g; w = w - rate g / (sqrt(h) + delta)."""
    cdef Py_ssize_t i
    cdef real keep = rms_decay, take = 1 - rms_decay, g
    for i in prange(w.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        g = gradient(w[i], dw[i], scale, decay, l1)
        h[i] = keep * h[i] + take * (g * g)
        dw[i] = rate * (g / (sqrt(h[i]) + delta))
        w[i] = w[i] - dw[i]


def update_adadelta(
    real[::1] w, real[::1] dw, real[::1] h, real[::1] u, real rate, double momentum, real delta, real scale,
    real decay, bint l1, int n_threads,
):
    """h = p h + (1 - p) g g; q = g sqrt((delta + u) / (delta + h)); u = p u + (1 - p) q q; w = w - rate q."""
    cdef Py_ssize_t i
    cdef real keep = momentum, take = 1 - momentum, g, q
    for i in prange(w.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        g = gradient(w[i], dw[i], scale, decay, l1)
        h[i] = keep * h[i] + take * (g * g)
        q = g * sqrt((delta + u[i]) / (delta + h[i]))
        u[i] = keep * u[i] + take * (q * q)
        dw[i] = rate * q
        w[i] = w[i] - dw[i]


def update_adam(
    real[::1] w, real[::1] dw, real[::1] m, real[::1] v, real rate, double beta1, double beta2, real delta,
    real scale, real decay, bint l1, int n_threads,
):
    """m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g g; w = w - rate m / (sqrt(v) + delta)."""
    cdef Py_ssize_t i
    cdef real keep1 = beta1, take1 = 1 - beta1, keep2 = beta2, take2 = 1 - beta2, g
    for i in prange(w.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        g = gradient(w[i], dw[i], scale, decay, l1)
        m[i] = keep1 * m[i] + take1 * g
        v[i] = keep2 * v[i] + take2 * (g * g)
        dw[i] = rate * (m[i] / (sqrt(v[i]) + delta))
        w[i] = w[i] - dw[i]


def update_nadam(
    real[::1] w, real[::1] dw, real[::1] m, real[::1] v, real rate, double beta1, double beta2, real of_m,
    real of_g, real of_v, real delta, real scale, real decay, bint l1, int n_threads,
):
    """m and v as Adam; w = w - rate (of_m m + of_g g) / (sqrt(of_v v) + delta)."""
    cdef Py_ssize_t i
    cdef real keep1 = beta1, take1 = 1 - beta1, keep2 = beta2, take2 = 1 - beta2, g
    for i in prange(w.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        g = gradient(w[i], dw[i], scale, decay, l1)
        m[i] = keep1 * m[i] + take1 * g
        v[i] = keep2 * v[i] + take2 * (g * g)
        dw[i] = rate * ((of_m * m[i] + of_g * g) / (sqrt(of_v * v[i]) + delta))
        w[i] = w[i] - dw[i]


include "views.pxi"
