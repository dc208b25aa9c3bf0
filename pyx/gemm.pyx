"""C = A B (+ C) for matrices of any stride: the products of InnerProduct.

Reads A, B (and C), writes C.  Work is cut into tasks of some columns by some rows; each task copies its own
panels of B (see gemm.h), so tasks share nothing and any cut gives the same bits.
"""

from cython.parallel cimport prange, threadid
from libc.stdint cimport int64_t

from common cimport real
from product cimport (
    columns_of_task,
    gemm_scratch_double,
    gemm_scratch_float,
    product_double,
    product_float,
    rows_of_task,
)


def scratch_size(int n_threads, bint double_precision):
    """Elements of scratch that `gemm` needs for that many threads."""
    return n_threads * (gemm_scratch_double() if double_precision else gemm_scratch_float())


def gemm(
    const real[::1] a, int64_t a_row, int64_t a_column,
    const real[::1] b, int64_t b_row, int64_t b_column,
    real[::1] c, int64_t c_row, int64_t c_column,
    int64_t rows, int64_t columns, int64_t depth,
    bint accumulate, real[::1] scratch, int n_threads,
):
    """C (rows, columns) (+)= A (rows, depth) B (depth, columns), each given flat with its two strides."""
    cdef bint double_precision = real is double
    cdef int64_t block = columns_of_task(double_precision)
    cdef int64_t n_blocks = (columns + block - 1) // block
    cdef int64_t share = rows_of_task(rows, n_blocks, n_threads)
    cdef int64_t per_thread = scratch_size(1, double_precision)
    cdef int64_t task, m0, q0
    if rows == 0 or columns == 0:
        return
    cdef const real *a_data = &a[0] if depth else NULL
    cdef const real *b_data = &b[0] if depth else NULL
    cdef real *c_data = &c[0]
    cdef real *scratch_data = &scratch[0]
    for task in prange(n_blocks * ((rows + share - 1) // share), nogil=True, num_threads=n_threads,
                       schedule="dynamic", chunksize=1):
        m0 = task // n_blocks * share
        q0 = task % n_blocks * block
        if real is float:
            product_float(a_data, a_row, a_column, depth, b_data, NULL, NULL, b_row, b_column, 0, columns,
                          c_data, c_row, c_column, 0, m0, min(m0 + share, rows), q0, min(q0 + block, columns),
                          NULL, accumulate, scratch_data + threadid() * per_thread)
        else:
            product_double(a_data, a_row, a_column, depth, b_data, NULL, NULL, b_row, b_column, 0, columns,
                           c_data, c_row, c_column, 0, m0, min(m0 + share, rows), q0, min(q0 + block, columns),
                           NULL, accumulate, scratch_data + threadid() * per_thread)


include "views.pxi"
