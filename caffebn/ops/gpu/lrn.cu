// Local response normalisation: one thread for each element, which adds the squares of its window; neighbouring threads
// read neighbouring places, and what they share comes from the cache.
#include "common.cuh"

template <typename real>
__global__ void lrn_across(
    const real* x, real* scale, real* y, index_t count, index_t C, index_t S, index_t size, double alpha, double beta,
    double k
) {
    index_t i = thread_index();
    if (i >= count) return;
    int c = i / S % C, half = size / 2;
    double total = 0;
    for (int d = max(-half, -c); d <= min((index_t)half, C - 1 - c); d++) {
        double v = x[i + d * S];
        total += v * v;
    }
    real s = (real)(k + alpha / size * total);
    scale[i] = s;
    y[i] = (real)(x[i] * pow((double)s, -beta));
}

template <typename real>
__global__ void lrn_across_backward(
    const real* x, const real* y, const real* scale, const real* dy, real* dx, index_t count, index_t C, index_t S,
    index_t size, double alpha, double beta
) {
    index_t i = thread_index();
    if (i >= count) return;
    int c = i / S % C, half = size / 2;
    double total = 0;
    for (int d = max(-half, -c); d <= min((index_t)half, C - 1 - c); d++) {
        index_t j = i + d * S;
        total += (double)dy[j] * y[j] / scale[j];
    }
    dx[i] = (real)(dy[i] * pow((double)scale[i], -beta) - 2 * alpha * beta / size * x[i] * total);
}

template <typename real>
__global__ void lrn_within(
    const real* x, real* scale, real* y, index_t count, index_t H, index_t W, index_t size, double alpha, double beta
) {
    index_t i = thread_index();
    if (i >= count) return;
    int w = i % W, h = i / W % H, half = size / 2;
    double total = 0;
    for (int a = max(-half, -h); a <= min((index_t)half, H - 1 - h); a++)
        for (int b = max(-half, -w); b <= min((index_t)half, W - 1 - w); b++) {
            double v = x[i + a * W + b];
            total += v * v;
        }
    real s = (real)(1 + alpha / (size * size) * total);
    scale[i] = s;
    y[i] = (real)(x[i] * pow((double)s, -beta));
}

template <typename real>
__global__ void lrn_within_backward(
    const real* x, const real* y, const real* scale, const real* dy, real* dx, index_t count, index_t H, index_t W,
    index_t size, double alpha, double beta
) {
    index_t i = thread_index();
    if (i >= count) return;
    int w = i % W, h = i / W % H, half = size / 2;
    double total = 0;
    for (int a = max(-half, -h); a <= min((index_t)half, H - 1 - h); a++)
        for (int b = max(-half, -w); b <= min((index_t)half, W - 1 - w); b++) {
            index_t j = i + a * W + b;
            total += (double)dy[j] * y[j] / scale[j];
        }
    dx[i] = (real)(dy[i] * pow((double)scale[i], -beta) - 2 * alpha * beta / (size * size) * x[i] * total);
}
