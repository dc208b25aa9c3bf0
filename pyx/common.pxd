"""What the kernels share: the two float types, and sums in lanes.

A sum is kept in LANES double-precision lanes: element i of a row goes to lane i % LANES, and `total` adds the
lanes in a fixed order.  The compiler can then use vector registers of any width without reordering anything,
so every instruction-set level gives the same bits; and a float32 sum loses nothing that matters.
"""

ctypedef fused real:
    float
    double

cdef enum:
    LANES = 16


cdef inline double total(const double *lane) noexcept nogil:
    """Sum of the lanes, in pairs."""
    cdef double[8] half
    cdef int i
    for i in range(8):
        half[i] = lane[i] + lane[i + 8]
    return ((half[0] + half[4]) + (half[2] + half[6])) + ((half[1] + half[5]) + (half[3] + half[7]))


cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    """a / b rounded up, for b > 0 and a > -b."""
    return (a + b - 1) // b
