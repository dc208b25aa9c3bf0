#include "common.cuh"

// What follows a product: y = act(y * scale[o] + bias[o] + residual), each step rounded; O is y's second axis from behind.
template <typename real>
__global__ void epilogue(
    real* y, const real* scale, const real* bias, const real* residual, index_t count, index_t O, index_t P,
    index_t has_slope, double slope
) {
    index_t i = thread_index();
    if (i >= count) return;
    index_t o = i / P % O;
    real v = y[i];
    if (scale) v *= scale[o];
    if (bias) v += bias[o];
    if (residual) v += residual[i];
    if (has_slope && v < 0) v = slope != 0 ? v * (real)slope : real(0);
    y[i] = v;
}
