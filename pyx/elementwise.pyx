"""Maps of single elements.

Every kernel reads its inputs once, writes its outputs once, and cuts the flat arrays evenly among the
threads; no element depends on another, so the cut cannot show in the result.  The loops are free of branches,
which lets the compiler use vector instructions, also for exponentials and logarithms (vmath.h).
An output may be an input of the same call: element i is written after all inputs were read at i.  Values that
are chosen between are read first, for what is read on one side only keeps the compiler from vector instructions.
Constants are variables of the tensors' type, since a literal would make the arithmetic double.
"""

from cython.parallel cimport prange
from libc.math cimport fabs, fabsf
from libc.stdint cimport int32_t, uint8_t

from common cimport ceil_div, real

cdef extern from "elementwise.h" nogil:
    void sigmoid_map_float(const float *x, float *y, Py_ssize_t n)
    void sigmoid_map_double(const double *x, double *y, Py_ssize_t n)
    void tanh_map_float(const float *x, float *y, Py_ssize_t n)
    void tanh_map_double(const double *x, double *y, Py_ssize_t n)
    void elu_map_float(const float *x, float *y, Py_ssize_t n, float alpha)
    void elu_map_double(const double *x, double *y, Py_ssize_t n, double alpha)
    void bnll_map_float(const float *x, float *y, Py_ssize_t n)
    void bnll_map_double(const double *x, double *y, Py_ssize_t n)
    void swish_map_float(const float *x, float *y, Py_ssize_t n, float beta)
    void swish_map_double(const double *x, double *y, Py_ssize_t n, double beta)
    void exp_map_float(const float *x, float *y, Py_ssize_t n, float inner, float outer)
    void exp_map_double(const double *x, double *y, Py_ssize_t n, double inner, double outer)
    void log_map_float(const float *x, float *y, Py_ssize_t n, float scale, float shift, float factor)
    void log_map_double(const double *x, double *y, Py_ssize_t n, double scale, double shift, double factor)
    void power_map_float(const float *x, float *y, Py_ssize_t n, float power, float scale, float shift)
    void power_map_double(const double *x, double *y, Py_ssize_t n, double power, double scale, double shift)
    void bnll_back_map_float(const float *x, const float *dy, float *dx, Py_ssize_t n)
    void bnll_back_map_double(const double *x, const double *dy, double *dx, Py_ssize_t n)
    void swish_back_map_float(const float *x, const float *dy, float *dx, Py_ssize_t n, float beta)
    void swish_back_map_double(const double *x, const double *dy, double *dx, Py_ssize_t n, double beta)

cdef enum:
    SHARE = 64      # stretches of an array are multiples of this


cdef inline real abs_of(real x) noexcept nogil:
    return fabsf(x) if real is float else fabs(x)


cdef inline Py_ssize_t begin_of(Py_ssize_t n, int part, int parts) noexcept nogil:
    """Where a part of n elements begins, and the part before it ends."""
    return min(ceil_div(ceil_div(n, parts), SHARE) * SHARE * part, n)


def relu(const real[::1] x, real[::1] y, real slope, int n_threads):
    """y = max(x, 0) + slope * min(x, 0); NaN stays NaN."""
    cdef Py_ssize_t i
    cdef real negative
    if slope == 0:
        for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
            y[i] = 0 if x[i] < 0 else x[i]
    else:
        for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
            negative = slope * x[i]
            y[i] = negative if x[i] < 0 else x[i]


def relu_backward(const real[::1] y, const real[::1] dy, real[::1] dx, real slope, int n_threads):
    """dx = dy * (1 if y > 0 else slope)."""
    cdef Py_ssize_t i
    for i in prange(y.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        dx[i] = dy[i] * (1 if y[i] > 0 else slope)


def sigmoid(const real[::1] x, real[::1] y, int n_threads):
    """y = 0.5 * tanh(0.5 * x) + 0.5."""
    cdef Py_ssize_t i, n
    cdef int part
    for part in prange(n_threads, nogil=True, num_threads=n_threads, schedule="static"):
        i = begin_of(x.shape[0], part, n_threads)
        n = begin_of(x.shape[0], part + 1, n_threads) - i
        if n > 0:
            if real is float:
                sigmoid_map_float(&x[i], &y[i], n)
            else:
                sigmoid_map_double(&x[i], &y[i], n)


def sigmoid_backward(const real[::1] y, const real[::1] dy, real[::1] dx, int n_threads):
    """dx = dy * y * (1 - y)."""
    cdef Py_ssize_t i
    cdef real one = 1
    for i in prange(y.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        dx[i] = dy[i] * y[i] * (one - y[i])


def tanh(const real[::1] x, real[::1] y, int n_threads):
    """y = tanh(x)."""
    cdef Py_ssize_t i, n
    cdef int part
    for part in prange(n_threads, nogil=True, num_threads=n_threads, schedule="static"):
        i = begin_of(x.shape[0], part, n_threads)
        n = begin_of(x.shape[0], part + 1, n_threads) - i
        if n > 0:
            if real is float:
                tanh_map_float(&x[i], &y[i], n)
            else:
                tanh_map_double(&x[i], &y[i], n)


def tanh_backward(const real[::1] y, const real[::1] dy, real[::1] dx, int n_threads):
    """dx = dy * (1 - y * y)."""
    cdef Py_ssize_t i
    cdef real one = 1
    for i in prange(y.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        dx[i] = dy[i] * (one - y[i] * y[i])


def elu(const real[::1] x, real[::1] y, real alpha, int n_threads):
    """y = x where x > 0, else alpha * (exp(x) - 1)."""
    cdef Py_ssize_t i, n
    cdef int part
    for part in prange(n_threads, nogil=True, num_threads=n_threads, schedule="static"):
        i = begin_of(x.shape[0], part, n_threads)
        n = begin_of(x.shape[0], part + 1, n_threads) - i
        if n > 0:
            if real is float:
                elu_map_float(&x[i], &y[i], n, alpha)
            else:
                elu_map_double(&x[i], &y[i], n, alpha)


def elu_backward(
    const real[::1] x, const real[::1] y, const real[::1] dy, real[::1] dx, real alpha, int n_threads
):
    """dx = dy * (1 if x > 0 else alpha + y)."""
    cdef Py_ssize_t i
    cdef real one = 1, negative
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        negative = alpha + y[i]
        dx[i] = dy[i] * (one if x[i] > 0 else negative)


def bnll(const real[::1] x, real[::1] y, int n_threads):
    """y = log(1 + exp(x))."""
    cdef Py_ssize_t i, n
    cdef int part
    for part in prange(n_threads, nogil=True, num_threads=n_threads, schedule="static"):
        i = begin_of(x.shape[0], part, n_threads)
        n = begin_of(x.shape[0], part + 1, n_threads) - i
        if n > 0:
            if real is float:
                bnll_map_float(&x[i], &y[i], n)
            else:
                bnll_map_double(&x[i], &y[i], n)


def bnll_backward(const real[::1] x, const real[::1] dy, real[::1] dx, int n_threads):
    """dx = dy * e / (e + 1), e = exp(min(x, 50))."""
    cdef Py_ssize_t i, n
    cdef int part
    for part in prange(n_threads, nogil=True, num_threads=n_threads, schedule="static"):
        i = begin_of(x.shape[0], part, n_threads)
        n = begin_of(x.shape[0], part + 1, n_threads) - i
        if n > 0:
            if real is float:
                bnll_back_map_float(&x[i], &dy[i], &dx[i], n)
            else:
                bnll_back_map_double(&x[i], &dy[i], &dx[i], n)


def swish(const real[::1] x, real[::1] y, real beta, int n_threads):
    """y = x * sigmoid(beta * x)."""
    cdef Py_ssize_t i, n
    cdef int part
    for part in prange(n_threads, nogil=True, num_threads=n_threads, schedule="static"):
        i = begin_of(x.shape[0], part, n_threads)
        n = begin_of(x.shape[0], part + 1, n_threads) - i
        if n > 0:
            if real is float:
                swish_map_float(&x[i], &y[i], n, beta)
            else:
                swish_map_double(&x[i], &y[i], n, beta)


def swish_backward(const real[::1] x, const real[::1] dy, real[::1] dx, real beta, int n_threads):
    """dx = dy * (t + s * (1 - t)), s = sigmoid(beta * x), t = beta * x * s."""
    cdef Py_ssize_t i, n
    cdef int part
    for part in prange(n_threads, nogil=True, num_threads=n_threads, schedule="static"):
        i = begin_of(x.shape[0], part, n_threads)
        n = begin_of(x.shape[0], part + 1, n_threads) - i
        if n > 0:
            if real is float:
                swish_back_map_float(&x[i], &dy[i], &dx[i], n, beta)
            else:
                swish_back_map_double(&x[i], &dy[i], &dx[i], n, beta)


def power(const real[::1] x, real[::1] y, real power, real scale, real shift, int n_threads):
    """y = (shift + scale * x)**power."""
    cdef Py_ssize_t i, n
    cdef int part
    cdef real t
    if power == 1:
        for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
            y[i] = shift + scale * x[i]
    elif power == 2:
        for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
            t = shift + scale * x[i]
            y[i] = t * t
    else:
        for part in prange(n_threads, nogil=True, num_threads=n_threads, schedule="static"):
            i = begin_of(x.shape[0], part, n_threads)
            n = begin_of(x.shape[0], part + 1, n_threads) - i
            if n > 0:
                if real is float:
                    power_map_float(&x[i], &y[i], n, power, scale, shift)
                else:
                    power_map_double(&x[i], &y[i], n, power, scale, shift)


def power_backward(
    const real[::1] x, const real[::1] y, const real[::1] dy, real[::1] dx,
    real power, real scale, real shift, int n_threads,
):
    """dx = dy * power * scale * y / t, t = shift + scale * x; without division for the powers 1 and 2."""
    cdef Py_ssize_t i
    cdef real slope = power * scale
    if power == 1:
        for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
            dx[i] = dy[i] * slope
    elif power == 2:
        for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
            dx[i] = dy[i] * slope * (shift + scale * x[i])
    else:
        for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
            dx[i] = dy[i] * slope * (y[i] / (shift + scale * x[i]))


def exp(const real[::1] x, real[::1] y, real inner, real outer, int n_threads):
    """y = outer * exp(inner * x)."""
    cdef Py_ssize_t i, n
    cdef int part
    for part in prange(n_threads, nogil=True, num_threads=n_threads, schedule="static"):
        i = begin_of(x.shape[0], part, n_threads)
        n = begin_of(x.shape[0], part + 1, n_threads) - i
        if n > 0:
            if real is float:
                exp_map_float(&x[i], &y[i], n, inner, outer)
            else:
                exp_map_double(&x[i], &y[i], n, inner, outer)


def log(const real[::1] x, real[::1] y, real scale, real shift, real factor, int n_threads):
    """y = factor * log(shift + scale * x)."""
    cdef Py_ssize_t i, n
    cdef int part
    for part in prange(n_threads, nogil=True, num_threads=n_threads, schedule="static"):
        i = begin_of(x.shape[0], part, n_threads)
        n = begin_of(x.shape[0], part + 1, n_threads) - i
        if n > 0:
            if real is float:
                log_map_float(&x[i], &y[i], n, scale, shift, factor)
            else:
                log_map_double(&x[i], &y[i], n, scale, shift, factor)


def log_backward(
    const real[::1] x, const real[::1] dy, real[::1] dx, real scale, real shift, real factor, int n_threads
):
    """dx = dy * factor * scale / (shift + scale * x)."""
    cdef Py_ssize_t i
    cdef real slope = factor * scale
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        dx[i] = dy[i] * slope / (shift + scale * x[i])


def absolute(const real[::1] x, real[::1] y, int n_threads):
    """y = abs(x)."""
    cdef Py_ssize_t i
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        y[i] = abs_of(x[i])


def sign(const real[::1] x, real[::1] y, int n_threads):
    """y = -1, 0 or 1."""
    cdef Py_ssize_t i
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        y[i] = (x[i] > 0) - (x[i] < 0)


def threshold(const real[::1] x, real[::1] y, real threshold, int n_threads):
    """y = 1 where x > threshold, else 0."""
    cdef Py_ssize_t i
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        y[i] = x[i] > threshold


def clip(const real[::1] x, real[::1] y, real low, real high, int n_threads):
    """y = max(low, min(x, high)); NaN stays NaN."""
    cdef Py_ssize_t i
    cdef real limited
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        limited = high if x[i] > high else x[i]
        y[i] = low if limited < low else limited


def clip_backward(const real[::1] x, const real[::1] dy, real[::1] dx, real low, real high, int n_threads):
    """dx = dy where low <= x <= high, else 0."""
    cdef Py_ssize_t i
    cdef real passed
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        passed = dy[i]
        passed = passed if x[i] >= low else 0
        dx[i] = passed if x[i] <= high else 0


def dropout(const real[::1] x, const uint8_t[::1] mask, real scale, real[::1] y, int n_threads):
    """y = x * mask * scale."""
    cdef Py_ssize_t i
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        y[i] = x[i] * mask[i] * scale


def scale_copy(const real[::1] x, real alpha, real[::1] y, int n_threads):
    """y = alpha * x."""
    cdef Py_ssize_t i
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        y[i] = alpha * x[i]


def scale_by(const real[::1] x, const double[::1] scale, real[::1] y, int n_threads):
    """y = scale * x."""
    cdef Py_ssize_t i
    cdef real alpha = <real> scale[0]
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        y[i] = alpha * x[i]


def axpy(const real[::1] x, real alpha, real[::1] y, int n_threads):
    """y = y + alpha * x."""
    cdef Py_ssize_t i
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        y[i] = y[i] + alpha * x[i]


def weighted_sum(
    const real[::1] a, real alpha, const real[::1] b, real beta, real[::1] y, bint rectified, real slope,
    int n_threads,
):
    """y = alpha * a + beta * b; rectified as by `relu`, if wanted."""
    cdef Py_ssize_t i
    cdef real value, negative
    if not rectified:
        for i in prange(a.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
            y[i] = alpha * a[i] + beta * b[i]
    elif slope == 0:
        for i in prange(a.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
            value = alpha * a[i] + beta * b[i]
            y[i] = 0 if value < 0 else value
    else:
        for i in prange(a.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
            value = alpha * a[i] + beta * b[i]
            negative = slope * value
            y[i] = negative if value < 0 else value


def multiply(const real[::1] a, const real[::1] b, real[::1] y, int n_threads):
    """y = a * b."""
    cdef Py_ssize_t i
    for i in prange(a.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        y[i] = a[i] * b[i]


def product_gradient(
    const real[::1] y, const real[::1] x, const real[::1] dy, real[::1] dx, int n_threads
):
    """dx = y / x * dy."""
    cdef Py_ssize_t i
    for i in prange(y.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        dx[i] = y[i] / x[i] * dy[i]


def maximum(
    const real[::1] a, const real[::1] b, int32_t index_a, int32_t index_b,
    real[::1] y, int32_t[::1] index, int n_threads,
):
    """y = the larger of a and b, index = which it was; b on a tie."""
    cdef Py_ssize_t i
    cdef real first, second
    for i in prange(a.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        first = a[i]
        second = b[i]
        index[i] = index_a if first > second else index_b
        y[i] = first if first > second else second


def maximum_update(const real[::1] x, int32_t index_x, real[::1] y, int32_t[::1] index, int n_threads):
    """Where x > y: y = x, index = index_x."""
    cdef Py_ssize_t i
    cdef real old, new
    cdef int32_t which
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        new = x[i]
        old = y[i]
        which = index[i]
        index[i] = index_x if new > old else which
        y[i] = new if new > old else old


def select_gradient(const int32_t[::1] index, int32_t which, const real[::1] dy, real[::1] dx, int n_threads):
    """dx = dy where index == which, else 0."""
    cdef Py_ssize_t i
    cdef real passed
    for i in prange(dy.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        passed = dy[i]
        dx[i] = passed if index[i] == which else 0


def fill(real[::1] x, real value, int n_threads):
    """x = value."""
    cdef Py_ssize_t i
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        x[i] = value


include "views.pxi"
