// Sums and maps per channel of x (N, C, S), for the kernels that are made of them; see channel.cu.
#include "common.cuh"

const int COLUMNS = 32;
const int ROWS = THREADS / COLUMNS;

// ---- sums, first kernel ------------------------------------------------------------------------------------------

// The two sums of f(i) over the values of channel c that block b of B has; blockIdx.x is c * B + b.
template <int V, typename F>
__device__ __forceinline__ void plane_sums(unsigned N, unsigned C, unsigned S, unsigned B, double* work, F f) {
    unsigned c = blockIdx.x / B, b = blockIdx.x % B;
    unsigned vectors = S / V, all = N * vectors;
    unsigned each = (all + B - 1) / B, begin = b * each, end = min(all, begin + each);
    double s0 = 0, s1 = 0;
    for (unsigned i = begin + threadIdx.x; i < end; i += THREADS) {
        index_t plane = (index_t)(i / vectors) * C + c;
        f(plane * S + (index_t)(i % vectors) * V, s0, s1);
    }
    s0 = block_sum(s0);
    s1 = block_sum(s1);
    if (threadIdx.x == 0) {
        work[2 * (index_t)blockIdx.x] = s0;
        work[2 * (index_t)blockIdx.x + 1] = s1;
    }
}

// The same where S is 1: blockIdx.x is (group of 32 channels) * B + b.
template <typename F>
__device__ __forceinline__ void column_sums(unsigned N, unsigned C, unsigned B, double* work, F f) {
    __shared__ double part[2][ROWS][COLUMNS];
    unsigned x = threadIdx.x % COLUMNS, y = threadIdx.x / COLUMNS;
    unsigned c = blockIdx.x / B * COLUMNS + x, b = blockIdx.x % B;
    unsigned each = (N + B - 1) / B, begin = b * each, end = min(N, begin + each);
    double s0 = 0, s1 = 0;
    if (c < C)
        for (unsigned n = begin + y; n < end; n += ROWS) f((index_t)n * C + c, s0, s1);
    part[0][y][x] = s0;
    part[1][y][x] = s1;
    __syncthreads();
    if (y == 0 && c < C) {
        for (int r = 1; r < ROWS; r++) {
            s0 += part[0][r][x];
            s1 += part[1][r][x];
        }
        work[2 * ((index_t)c * B + b)] = s0;
        work[2 * ((index_t)c * B + b) + 1] = s1;
    }
}

// Mean of the block's values, and the sum of their squared distances from it.
template <typename real, int V>
__global__ void moments_planes(const real* x, index_t N, index_t C_, index_t S_, index_t B_, double* work) {
    unsigned C = C_, S = S_, B = B_;
    unsigned c = blockIdx.x / B, b = blockIdx.x % B;
    unsigned vectors = S / V, all = N * vectors;
    unsigned each = (all + B - 1) / B, begin = b * each, end = min(all, begin + each);
    double sum = 0, squares = 0;
    for (unsigned i = begin + threadIdx.x; i < end; i += THREADS) {
        Vec<real, V> a = load<V>(x + ((index_t)(i / vectors) * C + c) * S + (index_t)(i % vectors) * V);
        for (int k = 0; k < V; k++) sum += a.v[k];
    }
    double mean = block_sum(sum) / (begin < end ? (double)(end - begin) * V : 1.0);
    for (unsigned i = begin + threadIdx.x; i < end; i += THREADS) {
        Vec<real, V> a = load<V>(x + ((index_t)(i / vectors) * C + c) * S + (index_t)(i % vectors) * V);
        for (int k = 0; k < V; k++) {
            double d = a.v[k] - mean;
            squares += d * d;
        }
    }
    squares = block_sum(squares);
    if (threadIdx.x == 0) {
        work[2 * (index_t)blockIdx.x] = mean;
        work[2 * (index_t)blockIdx.x + 1] = squares;
    }
}

template <typename real>
__global__ void moments_columns(const real* x, index_t N_, index_t C_, index_t B_, double* work) {
    __shared__ double part[ROWS][COLUMNS];
    unsigned N = N_, C = C_, B = B_;
    unsigned tx = threadIdx.x % COLUMNS, ty = threadIdx.x / COLUMNS;
    unsigned c = blockIdx.x / B * COLUMNS + tx, b = blockIdx.x % B;
    unsigned each = (N + B - 1) / B, begin = b * each, end = min(N, begin + each);
    double v = 0;
    if (c < C)
        for (unsigned n = begin + ty; n < end; n += ROWS) v += x[(index_t)n * C + c];
    part[ty][tx] = v;
    __syncthreads();
    double mean = 0;
    for (int r = 0; r < ROWS; r++) mean += part[r][tx];
    mean /= begin < end ? (double)(end - begin) : 1.0;
    __syncthreads();
    v = 0;
    if (c < C)
        for (unsigned n = begin + ty; n < end; n += ROWS) {
            double d = x[(index_t)n * C + c] - mean;
            v += d * d;
        }
    part[ty][tx] = v;
    __syncthreads();
    if (ty == 0 && c < C) {
        for (int r = 1; r < ROWS; r++) v += part[r][tx];
        work[2 * ((index_t)c * B + b)] = mean;
        work[2 * ((index_t)c * B + b) + 1] = v;
    }
}

// ---- sums, second kernel: one warp for each channel --------------------------------------------------------------

__device__ __forceinline__ double warp_sum(double v) {
    for (int step = 16; step; step /= 2) v += __shfl_down_sync(0xffffffffu, v, step);
    return __shfl_sync(0xffffffffu, v, 0);
}

// Sum number `which` of a channel's blocks; every thread of the warp gets it.
__device__ __forceinline__ double add_blocks(const double* work, index_t c, index_t B, int which) {
    double s = 0;
    for (index_t b = threadIdx.x % 32; b < B; b += 32) s += work[2 * (c * B + b) + which];
    return warp_sum(s);
}

// all: values (vectors of V) of a channel, which the first kernel cut into B
__device__ __forceinline__ void join_moments(
    const double* work, index_t c, index_t C, unsigned all, unsigned V, unsigned B, double& mean, double& var
) {
    unsigned each = (all + B - 1) / B;
    double count = (double)all * V, sum = 0, squares = 0;
    if (c >= C) B = 0;
    for (unsigned b = threadIdx.x % 32; b < B; b += 32) {
        double n = b * each < all ? (double)(min(all, (b + 1) * each) - b * each) * V : 0.0;
        sum += n * work[2 * (c * B + b)];
    }
    mean = warp_sum(sum) / (count > 0 ? count : 1.0);
    for (unsigned b = threadIdx.x % 32; b < B; b += 32) {
        double n = b * each < all ? (double)(min(all, (b + 1) * each) - b * each) * V : 0.0;
        double d = work[2 * (c * B + b)] - mean;
        squares += work[2 * (c * B + b) + 1] + n * d * d;
    }
    var = warp_sum(squares) / (count > 0 ? count : 1.0);
}

__global__ void moments_blocks(
    const double* work, index_t C, index_t all, index_t V, index_t B, double eps, double* mean_out, double* var_out,
    double* inv_std_out
) {
    index_t c = thread_index() / 32;
    double mean, var;
    join_moments(work, c, C, all, V, B, mean, var);
    if (c < C && threadIdx.x % 32 == 0) {
        mean_out[c] = mean;
        var_out[c] = var;
        if (inv_std_out) inv_std_out[c] = 1 / sqrt(var + eps);
    }
}

// f(first of V neighbours, their channel), for all of x
template <int V, typename F>
__device__ __forceinline__ void per_channel(index_t vectors, index_t C, index_t S, F f) {
    unsigned i = (unsigned)thread_index();
    if (thread_index() < vectors) f((index_t)i * V, i / (unsigned)(S / V) % (unsigned)C);
}
