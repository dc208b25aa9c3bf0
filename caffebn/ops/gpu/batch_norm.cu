// BatchNorm with its learned scale and shift, a residual sum and the activation behind it.
//
// Forward: the two kernels of the moments (channel.cu), then one map that reads x and writes y.  Backward: two kernels of
// sums, of which the second also leaves the coefficients of dx for each channel, then one map.  The sign of the
// activation's output is found again from x, with the operations of the forward pass, unless the output is handed in.
#include "sums.cuh"

template <typename real>
struct Normalized {  // one channel: the steps of normalize and affine, each rounded
    real high, low, s, scale, shift;
    bool scales, shifts;
    __device__ Normalized(
        const double* mean, const double* inv_std, const real* scale_, const real* shift_, unsigned c
    ) {
        high = (real)mean[c];
        low = (real)(mean[c] - high);
        s = (real)inv_std[c];
        scales = scale_ != 0;
        shifts = shift_ != 0;
        scale = scales ? scale_[c] : real(1);
        shift = shifts ? shift_[c] : real(0);
    }
    __device__ real operator()(real x) const {
        real v = ((x - high) - low) * s;
        if (scales) v *= scale;
        if (shifts) v += shift;
        return v;
    }
};

template <typename real>
__device__ __forceinline__ real rectify(real v, index_t acts, real slope) {
    return acts && v < 0 ? (slope != 0 ? v * slope : real(0)) : v;
}

template <typename real, int V>
__global__ void normalize_act(
    const real* x, const double* mean, const double* inv_std, const real* scale, const real* shift, const real* residual,
    index_t acts, double slope_, real* y, index_t vectors, index_t C, index_t S
) {
    const real slope = slope_;
    per_channel<V>(vectors, C, S, [=](index_t i, unsigned c) {
        const Normalized<real> normalized(mean, inv_std, scale, shift, c);
        Vec<real, V> a = load<V>(x + i);
        for (int k = 0; k < V; k++) a.v[k] = normalized(a.v[k]);
        if (residual) {
            const Vec<real, V> r = load<V>(residual + i);
            for (int k = 0; k < V; k++) a.v[k] += r.v[k];
        }
        for (int k = 0; k < V; k++) a.v[k] = rectify(a.v[k], acts, slope);
        store<V>(y + i, a);
    });
}

template <typename real>
__global__ void fold_statistics(
    const double* mean, const double* var, double eps, const real* scale, const real* shift, const real* bias,
    real* a_out, real* b_out, index_t n
) {
    index_t c = thread_index();
    if (c >= n) return;
    double a = 1 / sqrt(var[c] + eps);
    if (scale) a *= scale[c];
    double b = (bias ? bias[c] - mean[c] : -mean[c]) * a;
    if (shift) b += shift[c];
    a_out[c] = (real)a;
    b_out[c] = (real)b;
}

// How dz, the gradient before the activation, is found from dy.
template <typename real>
struct Mask {
    const real *x, *y, *scale, *shift;
    const double *mean, *inv_std;
    index_t acts;
    real slope;

    __device__ Normalized<real> channel(unsigned c) const {
        return Normalized<real>(mean, inv_std, scale, shift, c);
    }
    template <int V>
    __device__ Vec<real, V> apply(Vec<real, V> dy, const Vec<real, V>& xs, index_t i, const Normalized<real>& c) const {
        if (!acts) return dy;
        Vec<real, V> out;
        if (y) out = load<V>(y + i);
        else
            for (int k = 0; k < V; k++) out.v[k] = c(xs.v[k]);
        for (int k = 0; k < V; k++) dy.v[k] *= out.v[k] > 0 ? real(1) : slope;
        return dy;
    }
};

template <typename real, int V>
struct GradientTerms {  // s0: of dz; s1: of dz * (x - mean)
    Mask<real> mask;
    const real* dy;
    unsigned c;
    __device__ void operator()(index_t i, double& s0, double& s1) const {
        const Vec<real, V> x = load<V>(mask.x + i);
        const Vec<real, V> dz = mask.template apply<V>(load<V>(dy + i), x, i, mask.channel(c));
        const double m = mask.mean[c];
        for (int k = 0; k < V; k++) {
            s0 += dz.v[k];
            s1 += dz.v[k] * (x.v[k] - m);
        }
    }
};

template <typename real, int V>
__global__ void gradient_planes(
    const real* x, const double* mean, const double* inv_std, const real* scale, const real* shift, const real* y,
    index_t acts, double slope, const real* dy, index_t N, index_t C, index_t S, index_t B, double* work
) {
    const Mask<real> mask{x, y, scale, shift, mean, inv_std, acts, (real)slope};
    plane_sums<V>(N, C, S, B, work, GradientTerms<real, V>{mask, dy, (unsigned)(blockIdx.x / B)});
}

template <typename real>
__global__ void gradient_columns(
    const real* x, const double* mean, const double* inv_std, const real* scale, const real* shift, const real* y,
    index_t acts, double slope, const real* dy, index_t N, index_t C, index_t B, double* work
) {
    const Mask<real> mask{x, y, scale, shift, mean, inv_std, acts, (real)slope};
    const unsigned c = blockIdx.x / B * COLUMNS + threadIdx.x % COLUMNS;
    column_sums(N, C, B, work, GradientTerms<real, 1>{mask, dy, c});
}

// Adds to dscale and dshift, and leaves for dx = (dz * k + constant) + (x - mean) * by_x its three coefficients.
template <typename real>
__global__ void gradient_blocks(
    const double* work, index_t C, index_t B, double count, const double* inv_std, const real* scale, index_t frozen,
    real* dscale, real* dshift, double* coefficients
) {
    index_t c = thread_index() / 32, at = c < C ? c : 0;
    double s0 = add_blocks(work, at, B, 0), s1 = add_blocks(work, at, B, 1) * inv_std[at];
    if (c >= C || threadIdx.x % 32) return;
    if (dscale) dscale[c] = (real)(dscale[c] + s1);
    if (dshift) dshift[c] = (real)(dshift[c] + s0);
    double k = scale ? inv_std[c] * scale[c] : inv_std[c];
    coefficients[3 * c] = k;
    coefficients[3 * c + 1] = frozen ? 0 : -k * s0 / count;
    coefficients[3 * c + 2] = frozen ? 0 : -k * inv_std[c] * s1 / count;
}

template <typename real, int V>
__global__ void batch_norm_backward(
    const real* x, const double* mean, const double* inv_std, const real* scale, const real* shift, const real* y,
    index_t acts, double slope, index_t frozen, const real* dy, const double* coefficients, real* dx, real* dresidual,
    index_t vectors, index_t C, index_t S
) {
    const Mask<real> mask{x, y, scale, shift, mean, inv_std, acts, (real)slope};
    per_channel<V>(vectors, C, S, [=](index_t i, unsigned c) {
        const Vec<real, V> a = load<V>(x + i);
        const Normalized<real> own = mask.channel(c);
        Vec<real, V> dz = mask.template apply<V>(load<V>(dy + i), a, i, own);
        if (dresidual) store<V>(dresidual + i, dz);
        if (!dx) return;
        const real k = (real)coefficients[3 * c], constant = (real)coefficients[3 * c + 1];
        const real by_x = (real)coefficients[3 * c + 2];
        for (int j = 0; j < V; j++) {
            dz.v[j] = dz.v[j] * k;
            if (!frozen)
                dz.v[j] = (dz.v[j] + constant) + ((a.v[j] - own.high) - own.low) * by_x;
        }
        store<V>(dx + i, dz);
    });
}
