// Columns of matrices, and rows by index.
#include "common.cuh"

// y[:, to : to + n] = x[:, from : from + n], or += with `add`; widths and offsets are in vectors of V.
template <typename real, int V>
__global__ void copy_columns(
    const real* x, index_t x_width, index_t from, real* y, index_t y_width, index_t to, index_t n, index_t count,
    index_t add
) {
    index_t i = thread_index();
    if (i >= count) return;
    index_t row = i / n, column = i % n;
    real* target = y + (row * y_width + to + column) * V;
    Vec<real, V> a = load<V>(x + (row * x_width + from + column) * V);
    if (add) {
        Vec<real, V> b = load<V>(target);
        for (int k = 0; k < V; k++) a.v[k] = b.v[k] + a.v[k];
    }
    store<V>(target, a);
}

// index = x, cut to whole numbers; where that is no row, 0.  trouble gets (1 + place, value) of the first such.
template <typename real>
__global__ void row_indices(const real* x, index_t n, index_t limit, int* index, double* trouble) {
    index_t bad = n;
    for (index_t i = threadIdx.x; i < n; i += THREADS) {
        const real v = x[i];
        const bool good = v > -1 && v < limit;
        index[i] = good ? (int)v : 0;
        if (!good && i < bad) bad = i;
    }
    bad = -block_max(-bad);
    if (threadIdx.x == 0 && bad < n) {
        trouble[1] = x[bad];
        trouble[0] = 1 + bad;
    }
}

template <typename real>
__global__ void gather_rows(const real* src, const int* index, real* dst, index_t n, index_t count) {
    index_t i = thread_index();
    if (i < count) dst[i] = src[index[i / n] * n + i % n];
}

// One block for each row of dst and 256 columns; each warp looks at 32 indices at a time for those of its row, and
// adds what it finds in their order.
template <typename real>
__global__ void scatter_add_rows(
    const real* src, const int* index, index_t m, real* dst, index_t n, index_t blocks_per_row
) {
    index_t row = blockIdx.x / blocks_per_row, column = blockIdx.x % blocks_per_row * THREADS + threadIdx.x;
    int lane = threadIdx.x % 32;
    real total = column < n ? dst[row * n + column] : real(0);
    for (index_t begin = 0; begin < m; begin += 32) {
        unsigned found = __ballot_sync(0xffffffffu, begin + lane < m && index[begin + lane] == row);
        while (found) {
            index_t i = begin + __ffs(found) - 1;
            if (column < n) total += src[i * n + column];
            found &= found - 1;
        }
    }
    if (column < n) dst[row * n + column] = total;
}
