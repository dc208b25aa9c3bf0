"""C = act((A B) * scale + bias) for matrices of any stride: the products of InnerProduct.

Reads A, B (and C), writes C.  Work is cut into tasks of some columns by some rows; each task copies its own
panels of B (see gemm.h), so tasks share nothing and any cut gives the same bits.
"""

from libc.stdint cimport int64_t

from common cimport optional, real

cdef extern from "gemm.h" nogil:
    int GEMM_PANELS
    int64_t product_scratch_float(int64_t panels)
    int64_t product_scratch_double(int64_t panels)
    void gemm_float(
        const float *a, int64_t a_row, int64_t a_column, const float *b, int64_t b_row, int64_t b_column,
        float *c, int64_t c_row, int64_t c_column, int64_t rows, int64_t columns, int64_t depth,
        const float *scale, const float *bias, int by_column, int active, float slope, int accumulate,
        float *scratch, int n_threads)
    void gemm_double(
        const double *a, int64_t a_row, int64_t a_column, const double *b, int64_t b_row, int64_t b_column,
        double *c, int64_t c_row, int64_t c_column, int64_t rows, int64_t columns, int64_t depth,
        const double *scale, const double *bias, int by_column, int active, double slope, int accumulate,
        double *scratch, int n_threads)


def scratch_size(int n_threads, bint double_precision):
    """Elements of scratch that `gemm` needs for that many threads."""
    return n_threads * (product_scratch_double if double_precision else product_scratch_float)(GEMM_PANELS)


def gemm(
    const real[::1] a, int64_t a_row, int64_t a_column,
    const real[::1] b, int64_t b_row, int64_t b_column,
    real[::1] c, int64_t c_row, int64_t c_column,
    int64_t rows, int64_t columns, int64_t depth,
    const real[::1] scale, const real[::1] bias, bint by_column, bint active, real slope,
    bint accumulate, real[::1] scratch, int n_threads,
):
    """C (rows, columns) (+)= A (rows, depth) B (depth, columns), each given flat with its two strides."""
    if rows == 0 or columns == 0:
        return
    with nogil:
        if real is float:
            gemm_float(
                optional(a), a_row, a_column, optional(b), b_row, b_column, &c[0], c_row, c_column, rows, columns,
                depth, optional(scale), optional(bias), by_column, active, slope, accumulate, &scratch[0], n_threads)
        else:
            gemm_double(
                optional(a), a_row, a_column, optional(b), b_row, b_column, &c[0], c_row, c_column, rows, columns,
                depth, optional(scale), optional(bias), by_column, active, slope, accumulate, &scratch[0], n_threads)


include "views.pxi"
