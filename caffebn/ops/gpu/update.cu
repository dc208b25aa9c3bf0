// Steps of solvers on flat arrays: one thread for V elements, all in the dtype of the tensors and in the order of the
// formulas of ops/reference/update.py.
#include "common.cuh"

template <typename real>
struct Decay {
    real scale, decay;
    bool l1;
    __device__ real operator()(real w, real dw) const {
        return scale * dw + decay * (l1 ? real((w > 0) - (w < 0)) : w);
    }
};

// First kernel of the sum of squares: one double for each block.
template <typename real, int V>
__global__ void squares(const real* x, index_t n, double* work) {
    index_t per = ((n + V - 1) / V + gridDim.x - 1) / gridDim.x * V;
    index_t begin = blockIdx.x * per, end = begin + per < n ? begin + per : n;
    double s = 0;
    for (index_t i = begin + threadIdx.x * V; i < end; i += THREADS * V) {
        if (i + V <= end) {
            Vec<real, V> a = load<V>(x + i);
            for (int k = 0; k < V; k++) s += (double)a.v[k] * a.v[k];
        } else
            for (index_t j = i; j < end; j++) s += (double)x[j] * x[j];
    }
    s = block_sum(s);
    if (threadIdx.x == 0) work[blockIdx.x] = s;
}

__global__ void add_up(const double* work, index_t n, double* out) {
    double s = 0;
    for (index_t i = threadIdx.x; i < n; i += THREADS) s += work[i];
    s = block_sum(s);
    if (threadIdx.x == 0) out[0] = s;
}

#define EACH index_t i = thread_index(); if (i >= n) return; const Decay<real> decayed{(real)scale, (real)decay, l1 != 0};
#define STEP(update) { const real step = (update); dw[i] = step; w[i] -= step; }

template <typename real>
__global__ void update_sgd(
    real* w, real* dw, real* h, index_t n, double rate_, double momentum_, double scale, double decay, index_t l1
) {
    EACH
    const real rate = rate_, momentum = momentum_, g = decayed(w[i], dw[i]);
    h[i] = momentum * h[i] + rate * g;
    STEP(h[i])
}

template <typename real>
__global__ void update_nesterov(
    real* w, real* dw, real* h, index_t n, double rate_, double momentum_, double scale, double decay, index_t l1
) {
    EACH
    const real rate = rate_, momentum = momentum_, ahead = 1 + momentum_, g = decayed(w[i], dw[i]), old = h[i];
    const real now = momentum * old + rate * g;
    h[i] = now;
    STEP(ahead * now - momentum * old)
}

template <typename real>
__global__ void update_adagrad(
    real* w, real* dw, real* h, index_t n, double rate_, double delta_, double scale, double decay, index_t l1
) {
    EACH
    const real rate = rate_, delta = delta_, g = decayed(w[i], dw[i]);
    h[i] += g * g;
    STEP(rate * (g / (sqrt(h[i]) + delta)))
}

template <typename real>
__global__ void update_rmsprop(
    real* w, real* dw, real* h, index_t n, double rate_, double rms_decay, double delta_, double scale, double decay,
    index_t l1
) {
    EACH
    const real rate = rate_, keep = rms_decay, take = 1 - rms_decay, delta = delta_, g = decayed(w[i], dw[i]);
    h[i] = keep * h[i] + take * (g * g);
    STEP(rate * (g / (sqrt(h[i]) + delta)))
}

template <typename real>
__global__ void update_adadelta(
    real* w, real* dw, real* h, real* u, index_t n, double rate_, double momentum, double delta_, double scale,
    double decay, index_t l1
) {
    EACH
    const real rate = rate_, keep = momentum, take = 1 - momentum, delta = delta_, g = decayed(w[i], dw[i]);
    h[i] = keep * h[i] + take * (g * g);
    const real q = g * sqrt((delta + u[i]) / (delta + h[i]));
    u[i] = keep * u[i] + take * (q * q);
    STEP(rate * q)
}

template <typename real>
__global__ void update_adam(
    real* w, real* dw, real* m, real* v, index_t n, double rate_, double beta1, double beta2, double delta_, double scale,
    double decay, index_t l1
) {
    EACH
    const real rate = rate_, b1 = beta1, t1 = 1 - beta1, b2 = beta2, t2 = 1 - beta2, delta = delta_;
    const real g = decayed(w[i], dw[i]);
    m[i] = b1 * m[i] + t1 * g;
    v[i] = b2 * v[i] + t2 * (g * g);
    STEP(rate * (m[i] / (sqrt(v[i]) + delta)))
}

template <typename real>
__global__ void update_nadam(
    real* w, real* dw, real* m, real* v, index_t n, double rate_, double beta1, double beta2, double of_m_, double of_g_,
    double of_v_, double delta_, double scale, double decay, index_t l1
) {
    EACH
    const real rate = rate_, b1 = beta1, t1 = 1 - beta1, b2 = beta2, t2 = 1 - beta2, delta = delta_;
    const real of_m = of_m_, of_g = of_g_, of_v = of_v_, g = decayed(w[i], dw[i]);
    m[i] = b1 * m[i] + t1 * g;
    v[i] = b2 * v[i] + t2 * (g * g);
    STEP(rate * ((of_m * m[i] + of_g * g) / (sqrt(of_v * v[i]) + delta)))
}
