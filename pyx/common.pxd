"""What the kernels share."""

ctypedef fused real:
    float
    double


cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    """a / b rounded up, for b > 0 and a > -b."""
    return (a + b - 1) // b
