// Columns of patches, and back from columns to images.
#include "axes.cuh"

// columns[plane, k, p] of `planes` planes; count is planes * K * P
template <typename real, int A>
__global__ void im2col(
    const real* x, real* columns, const int* table, index_t count, index_t K, index_t P, index_t places
) {
    index_t i = thread_index();
    if (i >= count) return;
    const Axes<A> axes(table);
    int source = axes.source(i / P % K, i % P);
    columns[i] = source < 0 ? real(0) : x[i / (K * P) * places + source];
}

// dx[plane, q] = sum of columns[plane, k, p] over all k, p that were copied from q; count is planes * places
template <typename real, int A>
__global__ void col2im(
    const real* columns, real* dx, const int* table, index_t count, index_t K, index_t P, index_t places
) {
    index_t i = thread_index();
    if (i >= count) return;
    const Axes<A> axes(table);
    const real* own = columns + i / places * K * P;
    double total = 0;
    for (int k = 0; k < K; k++) {
        int p = axes.target(k, i % places);
        if (p >= 0) total += own[k * P + p];
    }
    dx[i] = (real)total;
}
