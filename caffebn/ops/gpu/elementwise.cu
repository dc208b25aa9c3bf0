// Maps of single elements.  Arrays lie aligned to V elements, or V is 1; each thread has V neighbours.
#include "common.cuh"

template <typename real>
__device__ __forceinline__ real logistic(real v) {
    return real(0.5) * tanh(real(0.5) * v) + real(0.5);
}

template <typename real, int V>
__global__ void relu(const real* x, real* y, index_t n, double slope) {
    const real s = slope;
    map<V>(n, x, y, [=](real v) { return v < 0 ? (s != 0 ? v * s : real(0)) : v; });
}

template <typename real, int V>
__global__ void relu_backward(const real* y, const real* dy, real* dx, index_t n, double slope) {
    const real s = slope;
    map<V>(n, y, dy, dx, [=](real v, real d) { return d * (v > 0 ? real(1) : s); });
}

template <typename real, int V>
__global__ void sigmoid(const real* x, real* y, index_t n) {
    map<V>(n, x, y, [=](real v) { return logistic(v); });
}

template <typename real, int V>
__global__ void sigmoid_backward(const real* y, const real* dy, real* dx, index_t n) {
    map<V>(n, y, dy, dx, [=](real v, real d) { return d * v * (1 - v); });
}

template <typename real, int V>
__global__ void tanh_forward(const real* x, real* y, index_t n) {
    map<V>(n, x, y, [=](real v) { return tanh(v); });
}

template <typename real, int V>
__global__ void tanh_backward(const real* y, const real* dy, real* dx, index_t n) {
    map<V>(n, y, dy, dx, [=](real v, real d) { return d * (1 - v * v); });
}

template <typename real, int V>
__global__ void elu(const real* x, real* y, index_t n, double alpha) {
    const real a = alpha;
    map<V>(n, x, y, [=](real v) { return v > 0 ? v : a * expm1(v < 0 ? v : v != v ? v : real(0)); });
}

template <typename real, int V>
__global__ void elu_backward(const real* x, const real* y, const real* dy, real* dx, index_t n, double alpha) {
    const real a = alpha;
    map<V>(n, x, y, dy, dx, [=](real u, real v, real d) { return d * (u > 0 ? real(1) : a + v); });
}

template <typename real, int V>
__global__ void bnll(const real* x, real* y, index_t n) {
    map<V>(n, x, y, [=](real v) { return (v > 0 || v != v ? v : real(0)) + log1p(exp(-(v < 0 ? -v : v))); });
}

template <typename real, int V>
__global__ void bnll_backward(const real* x, const real* dy, real* dx, index_t n) {
    map<V>(n, x, dy, dx, [=](real v, real d) {
        const real e = exp(v > 50 ? real(50) : v);
        return d * (e / (e + 1));
    });
}

template <typename real, int V>
__global__ void swish(const real* x, real* y, index_t n, double beta) {
    const real b = beta;
    map<V>(n, x, y, [=](real v) { return v * logistic(b * v); });
}

template <typename real, int V>
__global__ void swish_backward(const real* x, const real* dy, real* dx, index_t n, double beta) {
    const real b = beta;
    map<V>(n, x, dy, dx, [=](real v, real d) {
        const real u = b * v, s = logistic(u), t = u * s;
        return d * (t + s * (1 - t));
    });
}

template <typename real, int V>
__global__ void power(const real* x, real* y, index_t n, double power, double scale, double shift) {
    const real p = power, a = scale, b = shift;
    map<V>(n, x, y, [=](real v) {
        const real t = b + a * v;
        return p == 1 ? t : p == 2 ? t * t : pow(t, p);
    });
}

template <typename real, int V>
__global__ void power_backward(
    const real* x, const real* y, const real* dy, real* dx, index_t n, double power, double scale, double shift
) {
    const real p = power, a = scale, b = shift, slope = p * a;
    map<V>(n, x, y, dy, dx, [=](real u, real v, real d) {
        const real t = b + a * u;
        return d * slope * (p == 1 ? real(1) : p == 2 ? t : v / t);
    });
}

template <typename real, int V>
__global__ void exp_forward(const real* x, real* y, index_t n, double inner, double outer) {
    const real a = inner, b = outer;
    map<V>(n, x, y, [=](real v) { return b * exp(a * v); });
}

template <typename real, int V>
__global__ void log_forward(const real* x, real* y, index_t n, double scale, double shift, double factor) {
    const real a = scale, b = shift, f = factor;
    map<V>(n, x, y, [=](real v) { return f * log(b + a * v); });
}

template <typename real, int V>
__global__ void log_backward(
    const real* x, const real* dy, real* dx, index_t n, double scale, double shift, double factor
) {
    const real a = scale, b = shift, f = real(factor) * a;
    map<V>(n, x, dy, dx, [=](real v, real d) { return d * f / (b + a * v); });
}

template <typename real, int V>
__global__ void absolute(const real* x, real* y, index_t n) {
    map<V>(n, x, y, [=](real v) { return fabs(v); });
}

template <typename real, int V>
__global__ void sign(const real* x, real* y, index_t n) {
    map<V>(n, x, y, [=](real v) { return real((v > 0) - (v < 0)); });
}

template <typename real, int V>
__global__ void threshold(const real* x, real* y, index_t n, double limit) {
    const real t = limit;
    map<V>(n, x, y, [=](real v) { return real(v > t); });
}

template <typename real, int V>
__global__ void clip(const real* x, real* y, index_t n, double low, double high) {
    const real a = low, b = high;
    map<V>(n, x, y, [=](real v) {
        const real u = v > b ? b : v;
        return u < a ? a : u;
    });
}

template <typename real, int V>
__global__ void clip_backward(const real* x, const real* dy, real* dx, index_t n, double low, double high) {
    const real a = low, b = high;
    map<V>(n, x, dy, dx, [=](real v, real d) { return v >= a && v <= b ? d : real(0); });
}

template <typename real, int V>
__global__ void scale_copy(const real* x, real* y, index_t n, double alpha) {
    const real a = alpha;
    map<V>(n, x, y, [=](real v) { return a * v; });
}

template <typename real, int V>
__global__ void scale_by(const real* x, real* y, index_t n, const double* scale) {
    const real a = *scale;
    map<V>(n, x, y, [=](real v) { return a * v; });
}

template <typename real, int V>
__global__ void axpy(const real* x, real* y, index_t n, double alpha) {
    const real a = alpha;
    map<V>(n, x, y, y, [=](real v, real u) { return u + a * v; });
}

template <typename real, int V>
__global__ void weighted_sum(
    const real* a, const real* b, real* y, index_t n, double alpha, double beta, double acts, double slope
) {
    const real p = alpha, q = beta, s = slope;
    map<V>(n, a, b, y, [=](real u, real v) {
        const real t = p * u + q * v;
        return acts != 0 && t < 0 ? (s != 0 ? t * s : real(0)) : t;
    });
}

template <typename real, int V>
__global__ void multiply(const real* a, const real* b, real* y, index_t n) {
    map<V>(n, a, b, y, [=](real u, real v) { return u * v; });
}

template <typename real, int V>
__global__ void product_gradient(const real* y, const real* x, const real* dy, real* dx, index_t n) {
    map<V>(n, y, x, dy, dx, [=](real u, real v, real d) { return u / v * d; });
}

template <typename real, int V>
__global__ void fill(real* x, index_t n, double value) {
    const real v = value;
    index_t i = thread_index() * V;
    if (i + V <= n) {
        Vec<real, V> a;
        for (int k = 0; k < V; k++) a.v[k] = v;
        store<V>(x + i, a);
    } else
        for (; i < n; i++) x[i] = v;
}

// With arrays of other types beside the tensors: one element for each thread.

template <typename real>
__global__ void dropout(const real* x, const unsigned char* mask, real* y, index_t n, double scale) {
    const real s = scale;
    index_t i = thread_index();
    if (i < n) y[i] = x[i] * real(mask[i]) * s;
}

template <typename real>
__global__ void maximum(
    const real* a, const real* b, real* y, int* index, index_t n, index_t index_a, index_t index_b
) {
    index_t i = thread_index();
    if (i >= n) return;
    const real u = a[i], v = b[i];
    index[i] = u > v ? index_a : index_b;
    y[i] = u > v ? u : v;
}

template <typename real>
__global__ void maximum_update(const real* x, real* y, int* index, index_t n, index_t index_x) {
    index_t i = thread_index();
    if (i >= n || !(x[i] > y[i])) return;
    index[i] = index_x;
    y[i] = x[i];
}

template <typename real>
__global__ void select_gradient(const int* index, const real* dy, real* dx, index_t n, index_t which) {
    index_t i = thread_index();
    if (i < n) dx[i] = index[i] == which ? dy[i] : real(0);
}
