"""What the kernels share."""

ctypedef fused real:
    float
    double


cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    """a / b rounded up, for b > 0 and a > -b."""
    return (a + b - 1) // b


cdef inline const real *optional(const real[::1] values) noexcept nogil:
    """Where values begin, NULL for None or none."""
    return &values[0] if values is not None and values.shape[0] else NULL
