"""Maps of single elements.

Every kernel reads its inputs once, writes its outputs once, and cuts the flat arrays evenly among the
threads; no element depends on another, so the cut cannot show in the result.  The loops are free of branches,
which lets the compiler use vector instructions; the maths library, where it is needed, is called for each element.
An output may be an input of the same call: element i is written after all inputs were read at i.  Values that
are chosen between are read first, for what is read on one side only keeps the compiler from vector instructions.
Constants are variables of the tensors' type, since a literal would make the arithmetic double.
"""

from cython.parallel cimport prange
from libc.math cimport exp as exp_double
from libc.math cimport expf, expm1, expm1f, fabs, fabsf, log1p, log1pf, logf, pow, powf, tanhf
from libc.math cimport log as log_double
from libc.math cimport tanh as tanh_double
from libc.stdint cimport int32_t, uint8_t

from common cimport real


cdef inline real tanh_of(real x) noexcept nogil:
    return tanhf(x) if real is float else tanh_double(x)


cdef inline real exp_of(real x) noexcept nogil:
    return expf(x) if real is float else exp_double(x)


cdef inline real expm1_of(real x) noexcept nogil:
    return expm1f(x) if real is float else expm1(x)


cdef inline real log_of(real x) noexcept nogil:
    return logf(x) if real is float else log_double(x)


cdef inline real log1p_of(real x) noexcept nogil:
    return log1pf(x) if real is float else log1p(x)


cdef inline real pow_of(real x, real power) noexcept nogil:
    return powf(x, power) if real is float else pow(x, power)


cdef inline real abs_of(real x) noexcept nogil:
    return fabsf(x) if real is float else fabs(x)


cdef inline real logistic(real x) noexcept nogil:
    cdef real half = 0.5
    return half * tanh_of(half * x) + half


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
    cdef Py_ssize_t i
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        y[i] = logistic(x[i])


def sigmoid_backward(const real[::1] y, const real[::1] dy, real[::1] dx, int n_threads):
    """dx = dy * y * (1 - y)."""
    cdef Py_ssize_t i
    cdef real one = 1
    for i in prange(y.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        dx[i] = dy[i] * y[i] * (one - y[i])


def tanh(const real[::1] x, real[::1] y, int n_threads):
    """y = tanh(x)."""
    cdef Py_ssize_t i
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        y[i] = tanh_of(x[i])


def tanh_backward(const real[::1] y, const real[::1] dy, real[::1] dx, int n_threads):
    """dx = dy * (1 - y * y)."""
    cdef Py_ssize_t i
    cdef real one = 1
    for i in prange(y.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        dx[i] = dy[i] * (one - y[i] * y[i])


def elu(const real[::1] x, real[::1] y, real alpha, int n_threads):
    """y = x where x > 0, else alpha * (exp(x) - 1)."""
    cdef Py_ssize_t i
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        y[i] = x[i] if x[i] > 0 else alpha * expm1_of(x[i])


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
    cdef Py_ssize_t i
    cdef real zero = 0
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        y[i] = (zero if x[i] < 0 else x[i]) + log1p_of(exp_of(-abs_of(x[i])))


def bnll_backward(const real[::1] x, const real[::1] dy, real[::1] dx, int n_threads):
    """dx = dy * e / (e + 1), e = exp(min(x, 50))."""
    cdef Py_ssize_t i
    cdef real e, one = 1, most = 50
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        e = exp_of(most if x[i] > most else x[i])
        dx[i] = dy[i] * (e / (e + one))


def swish(const real[::1] x, real[::1] y, real beta, int n_threads):
    """y = x * sigmoid(beta * x)."""
    cdef Py_ssize_t i
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        y[i] = x[i] * logistic(beta * x[i])


def swish_backward(const real[::1] x, const real[::1] dy, real[::1] dx, real beta, int n_threads):
    """dx = dy * (t + s * (1 - t)), s = sigmoid(beta * x), t = beta * x * s."""
    cdef Py_ssize_t i
    cdef real s, t, one = 1
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        s = logistic(beta * x[i])
        t = beta * x[i] * s
        dx[i] = dy[i] * (t + s * (one - t))


def power(const real[::1] x, real[::1] y, real power, real scale, real shift, int n_threads):
    """y = (shift + scale * x)**power."""
    cdef Py_ssize_t i
    cdef real t
    if power == 1:
        for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
            y[i] = shift + scale * x[i]
    elif power == 2:
        for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
            t = shift + scale * x[i]
            y[i] = t * t
    else:
        for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
            y[i] = pow_of(shift + scale * x[i], power)


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
    cdef Py_ssize_t i
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        y[i] = outer * exp_of(inner * x[i])


def log(const real[::1] x, real[::1] y, real scale, real shift, real factor, int n_threads):
    """y = factor * log(shift + scale * x)."""
    cdef Py_ssize_t i
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        y[i] = factor * log_of(shift + scale * x[i])


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
