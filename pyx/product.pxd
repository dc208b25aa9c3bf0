"""What gemm.h offers to gemm.pyx and conv.pyx."""

from libc.stdint cimport int64_t

cdef extern from "gemm.h" nogil:
    int BLOCK_float, BLOCK_double, GEMM_MR
    int64_t gemm_scratch_float()
    int64_t gemm_scratch_double()
    void product_float(
        const float *a, int64_t a_row, int64_t a_column, int64_t depth,
        const float *b, const int64_t *b_rows, const int64_t *b_columns,
        int64_t b_row, int64_t b_column, int64_t b_image, int64_t places,
        float *c, int64_t c_row, int64_t c_column, int64_t c_image,
        int64_t m0, int64_t m1, int64_t q0, int64_t q1, const float *bias, int accumulate, float *scratch)
    void product_double(
        const double *a, int64_t a_row, int64_t a_column, int64_t depth,
        const double *b, const int64_t *b_rows, const int64_t *b_columns,
        int64_t b_row, int64_t b_column, int64_t b_image, int64_t places,
        double *c, int64_t c_row, int64_t c_column, int64_t c_image,
        int64_t m0, int64_t m1, int64_t q0, int64_t q1, const double *bias, int accumulate, double *scratch)


cdef inline int64_t columns_of_task(bint double_precision) noexcept nogil:
    """Columns that one task handles."""
    return BLOCK_double if double_precision else BLOCK_float


cdef inline int64_t rows_of_task(int64_t rows, int64_t n_column_tasks, int n_threads) noexcept nogil:
    """Rows that one task handles: all, unless that leaves threads idle.

    A slice of rows packs its panels of B again, so slices are as few and as large as busy threads allow.
    """
    cdef int64_t slices, size
    if n_threads == 1 or n_column_tasks == 0 or n_column_tasks >= 4 * n_threads:
        return rows
    slices = (4 * n_threads + n_column_tasks - 1) // n_column_tasks
    size = (rows + slices - 1) // slices
    if size < 4 * GEMM_MR:
        size = 4 * GEMM_MR
    return (size + GEMM_MR - 1) // GEMM_MR * GEMM_MR
