// Softmax, its loss, accuracy and the largest scores: x is (N, C, S).
//
// Where S is 1 or small, a block has one place and its threads the classes; else a thread has one place, and
// neighbouring threads read neighbouring places.  Sums over places take two kernels, as in channel.cu.
#include "common.cuh"

template <typename real>
__global__ void softmax_blocks(const real* x, real* y, index_t C, index_t S) {
    index_t base = blockIdx.x / S * C * S + blockIdx.x % S;
    double top = x[base];
    for (index_t c = threadIdx.x; c < C; c += THREADS) {
        double v = x[base + c * S];
        top = v > top || v != v ? v : top;
    }
    top = block_max(top);
    double sum = 0;
    for (index_t c = threadIdx.x; c < C; c += THREADS) sum += exp(x[base + c * S] - top);
    sum = block_sum(sum);
    for (index_t c = threadIdx.x; c < C; c += THREADS) y[base + c * S] = (real)(exp(x[base + c * S] - top) / sum);
}

template <typename real>
__global__ void softmax_threads(const real* x, real* y, index_t places, index_t C, index_t S) {
    index_t p = thread_index();
    if (p >= places) return;
    index_t base = p / S * C * S + p % S;
    double top = x[base], sum = 0;
    for (index_t c = 1; c < C; c++) {
        double v = x[base + c * S];
        top = v > top || v != v ? v : top;
    }
    for (index_t c = 0; c < C; c++) sum += exp(x[base + c * S] - top);
    for (index_t c = 0; c < C; c++) y[base + c * S] = (real)(exp(x[base + c * S] - top) / sum);
}

template <typename real>
__global__ void softmax_backward_blocks(const real* y, const real* dy, real* dx, index_t C, index_t S) {
    index_t base = blockIdx.x / S * C * S + blockIdx.x % S;
    double dot = 0;
    for (index_t c = threadIdx.x; c < C; c += THREADS) dot += (double)dy[base + c * S] * y[base + c * S];
    dot = block_sum(dot);
    for (index_t c = threadIdx.x; c < C; c += THREADS)
        dx[base + c * S] = (real)((dy[base + c * S] - dot) * y[base + c * S]);
}

template <typename real>
__global__ void softmax_backward_threads(const real* y, const real* dy, real* dx, index_t places, index_t C, index_t S) {
    index_t p = thread_index();
    if (p >= places) return;
    index_t base = p / S * C * S + p % S;
    double dot = 0;
    for (index_t c = 0; c < C; c++) dot += (double)dy[base + c * S] * y[base + c * S];
    for (index_t c = 0; c < C; c++) dx[base + c * S] = (real)((dy[base + c * S] - dot) * y[base + c * S]);
}

#include "labels.cuh"

template <typename real>
__global__ void softmax_loss(
    const real* prob, const real* label, index_t places, index_t C, index_t S, index_t has_ignore, index_t ignored,
    double* work
) {
    sum_over_places(label, places, C, has_ignore, ignored, work, [=](index_t p, index_t c, double& s0, double& s1) {
        double v = prob[p / S * C * S + c * S + p % S];
        s0 -= log(v > 1.17549435e-38 || v != v ? v : 1.17549435082228751e-38);
        s1 += 1;
    });
}

template <typename real>
__global__ void softmax_loss_backward(
    const real* prob, const real* label, index_t count, index_t C, index_t S, index_t has_ignore, index_t ignored,
    const double* scale_, real* dx
) {
    index_t i = thread_index();
    if (i >= count) return;
    const real scale = *scale_;
    index_t c = i / S % C, p = i / (C * S) * S + i % S;
    const Label l = read_label(label, p, C, has_ignore, ignored);
    dx[i] = l.counted ? (c == l.c ? prob[i] - real(1) : prob[i]) * scale : real(0);
}

// Hits and places that count: work as in sum_over_places.  hits, if any, gets for each place 1 + its class, negative
// where it is no hit, and 0 where it does not count.
template <typename real>
__global__ void accuracy(
    const real* x, const real* label, index_t places, index_t C, index_t S, index_t has_ignore, index_t ignored,
    index_t top_k, double* work, double* hits
) {
    if (hits && thread_index() < places) hits[thread_index()] = 0;
    sum_over_places(label, places, C, has_ignore, ignored, work, [=](index_t p, index_t c, double& s0, double& s1) {
        const real* scores = x + p / S * C * S + p % S;
        const real own = scores[c * S];
        index_t as_large = 0;
        for (index_t other = 0; other < C; other++) as_large += other != c && scores[other * S] >= own;
        s0 += as_large < top_k;
        s1 += 1;
        if (hits) hits[p] = as_large < top_k ? (double)(1 + c) : -(double)(1 + c);
    });
}

// Hits and places of each class, one block for a class.
__global__ void accuracy_classes(const double* hits, index_t places, double* class_hits, double* class_counts) {
    double s0 = 0, s1 = 0, own = 1.0 + blockIdx.x;
    for (index_t p = threadIdx.x; p < places; p += THREADS) {
        s0 += hits[p] == own;
        s1 += hits[p] == own || hits[p] == -own;
    }
    s0 = block_sum(s0);
    s1 = block_sum(s1);
    if (threadIdx.x == 0) {
        if (class_hits) class_hits[blockIdx.x] = s0;
        if (class_counts) class_counts[blockIdx.x] = s1;
    }
}

// The K largest of each place, by looking for the next smaller one K times: one thread for each place.
// NaN counts as larger than any number.  Of equal ones, that of the larger index comes first.
template <typename real>
__global__ void arg_max(const real* x, index_t places, index_t C, index_t S, index_t K, real* index, real* value) {
    index_t p = thread_index();
    if (p >= places) return;
    const real* scores = x + p / S * C * S + p % S;
    index_t out = p / S * K * S + p % S, last = C;
    real bound = 0;
    for (index_t k = 0; k < K; k++) {
        index_t best = -1;
        real found = 0;
        for (index_t c = 0; c < C; c++) {
            const real v = scores[c * S];
            const bool after = k == 0 || (v != v ? bound != bound && c < last : bound != bound || v < bound || (v == bound && c < last));
            if (after && (best < 0 || v != v || v >= found)) {
                best = c;
                found = v;
            }
        }
        bound = found;
        last = best;
        if (index) index[out + k * S] = (real)best;
        if (value) value[out + k * S] = found;
    }
}

template <typename real>
__global__ void shares(const double* part, const double* whole, real* y, index_t n) {
    index_t i = thread_index();
    if (i < n) y[i] = (real)(part[i] / (whole[i] > 1 ? whole[i] : 1.0));
}
