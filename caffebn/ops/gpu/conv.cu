// What convolution needs beside products of matrices and columns of patches: direct kernels for groups of one channel.
#include "axes.cuh"

// Groups of one channel with M outputs each: weights (C * M, K).
template <typename real, int A>
__global__ void depthwise_forward(
    const real* x, const real* w, real* y, const int* table, index_t count, index_t O, index_t M, index_t K, index_t P,
    index_t places
) {
    index_t i = thread_index();
    if (i >= count) return;
    const Axes<A> axes(table);
    index_t o = i / P % O;
    const real *plane = x + (i / (P * O) * (O / M) + o / M) * places, *own = w + o * K;
    real total = 0;
    for (int k = 0; k < K; k++) {
        int source = axes.source(k, i % P);
        if (source >= 0) total += own[k] * plane[source];
    }
    y[i] = total;
}

template <typename real, int A>
__global__ void depthwise_backward_data(
    const real* dy, const real* w, real* dx, const int* table, index_t count, index_t O, index_t M, index_t K, index_t P,
    index_t places
) {
    index_t i = thread_index();
    if (i >= count) return;
    const Axes<A> axes(table);
    index_t C = O / M, c = i / places % C, n = i / (places * C);
    real total = 0;
    for (int k = 0; k < K; k++) {
        int p = axes.target(k, i % places);
        if (p >= 0)
            for (index_t o = c * M; o < (c + 1) * M; o++) total += w[o * K + k] * dy[(n * O + o) * P + p];
    }
    dx[i] = total;
}

// One block for each weight.
template <typename real, int A>
__global__ void depthwise_backward_weight(
    const real* x, const real* dy, real* dw, const int* table, index_t N, index_t O, index_t M, index_t K, index_t P,
    index_t places
) {
    const Axes<A> axes(table);
    index_t o = blockIdx.x / K, k = blockIdx.x % K, C = O / M;
    double total = 0;
    for (index_t i = threadIdx.x; i < N * P; i += THREADS) {
        int source = axes.source(k, i % P);
        if (source >= 0) total += (double)dy[(i / P * O + o) * P + i % P] * x[(i / P * C + o / M) * places + source];
    }
    total = block_sum(total);
    if (threadIdx.x == 0) dw[blockIdx.x] += (real)total;
}
