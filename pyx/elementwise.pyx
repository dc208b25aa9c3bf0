"""Maps of single elements.

Every kernel reads its inputs once, writes its outputs once, and cuts the flat arrays evenly among the
threads; no element depends on another, so the cut cannot show in the result.  The loops are free of branches,
which lets the compiler use vector instructions; sigmoid and tanh call the maths library for each element.
An output may be an input of the same call: element i is written after all inputs were read at i.
Constants are variables of the tensors' type, since a literal would make the arithmetic double.
"""

from cython.parallel cimport prange
from libc.math cimport tanhf
from libc.math cimport tanh as tanh_double
from libc.stdint cimport int32_t, uint8_t

from common cimport real


cdef inline real tanh_of(real x) noexcept nogil:
    return tanhf(x) if real is float else tanh_double(x)


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
    cdef real half = 0.5
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        y[i] = half * tanh_of(half * x[i]) + half


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


def weighted_sum(const real[::1] a, real alpha, const real[::1] b, real beta, real[::1] y, int n_threads):
    """y = alpha * a + beta * b."""
    cdef Py_ssize_t i
    for i in prange(a.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        y[i] = alpha * a[i] + beta * b[i]


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
    for i in prange(a.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        index[i] = index_a if a[i] > b[i] else index_b
        y[i] = a[i] if a[i] > b[i] else b[i]


def maximum_update(const real[::1] x, int32_t index_x, real[::1] y, int32_t[::1] index, int n_threads):
    """Where x > y: y = x, index = index_x."""
    cdef Py_ssize_t i
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        index[i] = index_x if x[i] > y[i] else index[i]
        y[i] = x[i] if x[i] > y[i] else y[i]


def select_gradient(const int32_t[::1] index, int32_t which, const real[::1] dy, real[::1] dx, int n_threads):
    """dx = dy where index == which, else 0."""
    cdef Py_ssize_t i
    for i in prange(dy.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        dx[i] = dy[i] if index[i] == which else 0


def fill(real[::1] x, real value, int n_threads):
    """x = value."""
    cdef Py_ssize_t i
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule="static"):
        x[i] = value
