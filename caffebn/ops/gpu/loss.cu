// Losses beside that of the softmax.  Forward: sums over places or items by two kernels, in double.  Backward: one thread
// for each element of the gradient.
#include "labels.cuh"

const double FLOOR = 1e-20;
const double NEAR = 1e-4;

template <typename real>
__global__ void sigmoid_cross_entropy(
    const real* x, const real* target, index_t n, index_t has_ignore, index_t ignored, double* work
) {
    index_t i = thread_index();
    double s0 = 0, s1 = 0;
    if (i < n && !(has_ignore && trunc(target[i]) == (real)ignored)) {
        double v = x[i];
        s0 = (v > 0 || v != v ? v : 0.0) - v * target[i] + log1p(exp(-fabs(v)));
        s1 = 1;
    }
    s0 = block_sum(s0);
    s1 = block_sum(s1);
    if (threadIdx.x == 0) {
        double* own = work + 4 * (index_t)blockIdx.x;
        own[0] = s0;
        own[1] = s1;
        own[2] = -1;
    }
}

template <typename real>
__global__ void sigmoid_cross_entropy_backward(
    const real* x, const real* target, index_t n, index_t has_ignore, index_t ignored, const double* scale_,
    real* dx
) {
    index_t i = thread_index();
    if (i >= n) return;
    const real scale = *scale_, p = real(0.5) * tanh(real(0.5) * x[i]) + real(0.5);
    dx[i] = has_ignore && trunc(target[i]) == (real)ignored ? real(0) : (p - target[i]) * scale;
}

template <typename real>
__global__ void infogain_loss(
    const real* prob, const real* label, index_t places, index_t C, index_t S, index_t has_ignore, index_t ignored,
    const real* matrix, double* work
) {
    sum_over_places(label, places, C, has_ignore, ignored, work, [=](index_t p, index_t c, double& s0, double& s1) {
        const real *row = matrix + c * C, *own = prob + p / S * C * S + p % S;
        for (index_t l = 0; l < C; l++) {
            double v = own[l * S];
            s0 -= row[l] * log(v > FLOOR || v != v ? v : FLOOR);
        }
        s1 += 1;
    });
}

// sums: for each row of the matrix, its sum
template <typename real>
__global__ void infogain_loss_backward(
    const real* prob, const real* label, index_t count, index_t C, index_t S, index_t has_ignore, index_t ignored,
    const real* matrix, const double* sums, const double* scale, real* dx
) {
    index_t i = thread_index();
    if (i >= count) return;
    index_t c = i / S % C, p = i / (C * S) * S + i % S;
    const Label l = read_label(label, p, C, has_ignore, ignored);
    dx[i] = l.counted ? (real)((prob[i] * sums[l.c] - matrix[l.c * C + c]) * *scale) : real(0);
}

template <typename real>
__global__ void sum_rows(const real* matrix, index_t rows, index_t columns, double* sums) {
    index_t r = thread_index();
    if (r >= rows) return;
    double s = 0;
    for (index_t c = 0; c < columns; c++) s += matrix[r * columns + c];
    sums[r] = s;
}

template <typename real>
__global__ void multinomial_loss(const real* prob, const real* label, index_t N, index_t C, double* work) {
    sum_over_places(label, N, C, 0, 0, work, [=](index_t n, index_t c, double& s0, double& s1) {
        double v = prob[n * C + c];
        s0 -= log(v > FLOOR || v != v ? v : FLOOR);
    });
}

template <typename real>
__global__ void multinomial_loss_backward(
    const real* prob, const real* label, index_t count, index_t C, const double* scale, real* dx
) {
    index_t i = thread_index();
    if (i >= count) return;
    const Label l = read_label(label, i / C, C, 0, 0);
    double v = prob[i];
    dx[i] = l.counted && i % C == l.c ? (real)(-*scale / (v > FLOOR || v != v ? v : FLOOR)) : real(0);
}

template <typename real>
__global__ void hinge_loss(const real* x, const real* label, index_t N, index_t C, index_t squared, double* work) {
    sum_over_places(label, N, C, 0, 0, work, [=](index_t n, index_t own, double& s0, double& s1) {
        for (index_t c = 0; c < C; c++) {
            double v = x[n * C + c], m = 1 + (c == own ? -v : v);
            if (m > 0 || m != m) s0 += squared ? m * m : m;
        }
    });
}

template <typename real>
__global__ void hinge_loss_backward(
    const real* x, const real* label, index_t count, index_t C, index_t squared, const double* scale, real* dx
) {
    index_t i = thread_index();
    if (i >= count) return;
    const Label l = read_label(label, i / C, C, 0, 0);
    double sign = i % C == l.c ? -1 : 1, m = 1 + sign * x[i];
    if (m < 0) m = 0;
    dx[i] = (real)((squared ? 2 * m : (double)(m > 0)) * sign * *scale);
}

template <typename real>
__global__ void contrastive_loss(
    const double* square, const real* similar, index_t N, double margin, index_t legacy, double* work
) {
    index_t n = thread_index();
    double s0 = 0;
    if (n < N) {
        double gap = legacy ? margin - square[n] : margin - sqrt(square[n]);
        double far = gap > 0 || gap != gap ? (legacy ? gap : gap * gap) : 0.0;
        s0 = trunc(similar[n]) != 0 ? square[n] : far;
    }
    s0 = block_sum(s0);
    if (threadIdx.x == 0) {
        double* own = work + 4 * (index_t)blockIdx.x;
        own[0] = s0;
        own[1] = 0;
        own[2] = -1;
    }
}

template <typename real>
__global__ void contrastive_loss_backward(
    const real* difference, const double* square, const real* similar, index_t count, index_t D, double margin,
    index_t legacy, const double* scale, real* dx
) {
    index_t i = thread_index();
    if (i >= count) return;
    double d = square[i / D], factor;
    if (trunc(similar[i / D]) != 0)
        factor = 1;
    else if (legacy)
        factor = margin - d > 0 ? -1 : 0;
    else {
        double gap = margin - sqrt(d);
        factor = -(gap > 0 ? gap : 0.0) / (sqrt(d) + NEAR);
    }
    dx[i] = (real)(factor * *scale * difference[i]);
}

// divisor 0 stands for the number of places that count
template <typename real>
__global__ void mean_loss(const double* sums, double divisor, double* z, real* loss) {
    if (thread_index()) return;
    z[0] = divisor != 0 ? divisor : sums[1] > 1 ? sums[1] : 1.0;
    loss[0] = (real)(sums[0] / z[0]);
}

template <typename real>
__global__ void loss_scale(const real* weight, const double* z, double factor, double* scale) {
    if (thread_index() == 0) scale[0] = factor * (double)weight[0] / z[0];
}
