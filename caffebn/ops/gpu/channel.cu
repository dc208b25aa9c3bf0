// Sums and maps per channel of x (N, C, S).
//
// Sums take two kernels.  The first cuts the M = N * S values of a channel into B blocks and leaves two doubles for each
// block, at [c][b]; the second adds those of a channel in order.  How x is cut depends on its shape alone.  Where S is 1,
// as behind a matrix product, neighbours in memory are neighbouring channels: then each thread has a channel of
// its own ("columns"), and a block has 32 channels and a run of images.
//
// Moments read x once from memory: a block takes the mean of its own values, then the squares around that mean, which
// it finds in the cache (it has a few thousand values), and the second kernel joins the blocks by the formula of Chan,
// Golub and LeVeque.  That is as safe against a large mean as two passes over everything.
//
// Maps have one thread for V neighbours of one channel (V > 1 only where S is a multiple of V and the arrays are
// aligned), and two integer divisions to find the channel.
#include "sums.cuh"

template <typename real, int V>
struct SumTerms {
    const real* x;
    __device__ void operator()(index_t i, double& s0, double& s1) const {
        Vec<real, V> a = load<V>(x + i);
        for (int k = 0; k < V; k++) s0 += a.v[k];
    }
};

template <typename real, int V>
struct DotTerms {  // s0: of x; s1: of x * y
    const real *x, *y;
    __device__ void operator()(index_t i, double& s0, double& s1) const {
        Vec<real, V> a = load<V>(x + i), b = load<V>(y + i);
        for (int k = 0; k < V; k++) {
            s0 += a.v[k];
            s1 += (double)a.v[k] * b.v[k];
        }
    }
};

template <typename real, int V>
__global__ void sum_planes(const real* x, index_t N, index_t C, index_t S, index_t B, double* work) {
    plane_sums<V>(N, C, S, B, work, SumTerms<real, V>{x});
}

template <typename real>
__global__ void sum_columns(const real* x, index_t N, index_t C, index_t B, double* work) {
    column_sums(N, C, B, work, SumTerms<real, 1>{x});
}

template <typename real, int V>
__global__ void dot_planes(const real* x, const real* y, index_t N, index_t C, index_t S, index_t B, double* work) {
    plane_sums<V>(N, C, S, B, work, DotTerms<real, V>{x, y});
}

template <typename real>
__global__ void dot_columns(const real* x, const real* y, index_t N, index_t C, index_t B, double* work) {
    column_sums(N, C, B, work, DotTerms<real, 1>{x, y});
}

template <typename out_t>
__global__ void sum_blocks(const double* work, index_t C, index_t B, index_t which, index_t accumulate, out_t* out) {
    index_t c = thread_index() / 32;
    double s = c < C ? add_blocks(work, c, B, which) : add_blocks(work, 0, 0, which);
    if (c < C && threadIdx.x % 32 == 0) out[c] = accumulate ? (out_t)(out[c] + s) : (out_t)s;
}

// ---- vectors of C elements ---------------------------------------------------------------------------------------

__global__ void inv_std(const double* var, double eps, double* out, index_t n) {
    map<1>(n, var, out, [=](double v) { return 1 / sqrt(v + eps); });
}

__global__ void inv_deviation(const double* var, double eps, double* out, index_t n) {
    map<1>(n, var, out, [=](double v) { return 1 / (sqrt(v) + eps); });
}

template <typename real>
__global__ void stored_statistics(
    const real* sum_mean, const real* sum_var, const real* factor, double* mean_out, double* var_out, index_t n
) {
    index_t c = thread_index();
    if (c >= n) return;
    double f = factor[0];
    mean_out[c] = f != 0 ? sum_mean[c] / f : 0.0;
    var_out[c] = f != 0 ? sum_var[c] / f : 0.0;
}

template <typename real>
__global__ void update_statistics(
    const double* mean, const double* var, double k, double fraction, real* sum_mean, real* sum_var, real* factor,
    index_t n
) {
    index_t c = thread_index();
    if (c == 0) factor[0] = (real)(fraction * (double)factor[0] + 1.0);
    if (c >= n) return;
    sum_mean[c] = (real)(fraction * (double)sum_mean[c] + mean[c]);
    sum_var[c] = (real)(fraction * (double)sum_var[c] + k * var[c]);
}

// ---- maps --------------------------------------------------------------------------------------------------------

template <typename real, int V>
__global__ void normalize(
    const real* x, const double* mean, const double* inv_std, real* y, index_t vectors, index_t C, index_t S
) {
    per_channel<V>(vectors, C, S, [=](index_t i, unsigned c) {
        // the mean in two parts, so that a large one costs no digits
        const real high = (real)mean[c], low = (real)(mean[c] - high), s = (real)inv_std[c];
        Vec<real, V> a = load<V>(x + i);
        for (int k = 0; k < V; k++) a.v[k] = ((a.v[k] - high) - low) * s;
        store<V>(y + i, a);
    });
}

// work: the blocks' sums of dy and of dy * y
template <typename real, int V>
__global__ void normalize_backward(
    const real* dy, const real* y, const double* inv_std, const double* sum_dy, const double* sum_dy_y, double count,
    real* dx, index_t vectors, index_t C, index_t S
) {
    per_channel<V>(vectors, C, S, [=](index_t i, unsigned c) {
        const double s = inv_std[c], mean_dy = sum_dy[c] / count, mean_dy_y = sum_dy_y[c] / count;
        Vec<real, V> a = load<V>(dy + i), b = load<V>(y + i);
        for (int k = 0; k < V; k++) a.v[k] = (real)((a.v[k] - mean_dy - b.v[k] * mean_dy_y) * s);
        store<V>(dx + i, a);
    });
}

// scale and shift are double where the number before them says so, else real
template <typename real>
__device__ __forceinline__ real element(const void* vector, index_t is_double, unsigned c) {
    return is_double ? (real) static_cast<const double*>(vector)[c] : static_cast<const real*>(vector)[c];
}

template <typename real, int V>
__global__ void affine(
    const real* x, index_t double_scale, const void* scale, index_t double_shift, const void* shift, real* y,
    index_t vectors, index_t C, index_t S
) {
    per_channel<V>(vectors, C, S, [=](index_t i, unsigned c) {
        Vec<real, V> a = load<V>(x + i);
        if (scale) {
            const real s = element<real>(scale, double_scale, c);
            for (int k = 0; k < V; k++) a.v[k] *= s;
        }
        if (shift) {
            const real t = element<real>(shift, double_shift, c);
            for (int k = 0; k < V; k++) a.v[k] += t;
        }
        store<V>(y + i, a);
    });
}

template <typename real, int V>
__global__ void prelu(const real* x, const real* slope, real* y, index_t vectors, index_t C, index_t S) {
    per_channel<V>(vectors, C, S, [=](index_t i, unsigned c) {
        const real s = slope[c];
        Vec<real, V> a = load<V>(x + i);
        for (int k = 0; k < V; k++) a.v[k] = a.v[k] > 0 ? a.v[k] : a.v[k] * s;
        store<V>(y + i, a);
    });
}

template <typename real, int V>
__global__ void prelu_backward(
    const real* x, const real* dy, const real* slope, real* dx, index_t vectors, index_t C, index_t S
) {
    per_channel<V>(vectors, C, S, [=](index_t i, unsigned c) {
        const real s = slope[c];
        Vec<real, V> a = load<V>(x + i), d = load<V>(dy + i);
        for (int k = 0; k < V; k++) d.v[k] = a.v[k] > 0 ? d.v[k] : d.v[k] * s;
        store<V>(dx + i, d);
    });
}
