// Labels: which class a place has, and sums over places.
#include "common.cuh"

struct Label {
    index_t c;     // the class; 0 where it does not count
    bool counted;  // it is a class, and not to be ignored
    bool good;     // it is a class, or to be ignored
};

template <typename real>
__device__ __forceinline__ Label read_label(
    const real* label, index_t p, index_t C, index_t has_ignore, index_t ignored
) {
    const real cut = trunc(label[p]);
    if (has_ignore && cut == (real)ignored) return {0, false, true};
    const bool good = cut >= 0 && cut < (real)C;
    return {good ? (index_t)cut : 0, good, good};
}

// work[4 * block]: the two sums of f over the places that count, the first place with a bad label (or -1), and that label
template <typename real, typename F>
__device__ __forceinline__ void sum_over_places(
    const real* label, index_t places, index_t C, index_t has_ignore, index_t ignored, double* work, F f
) {
    index_t p = thread_index(), bad = places;
    double s0 = 0, s1 = 0;
    if (p < places) {
        const Label l = read_label(label, p, C, has_ignore, ignored);
        if (l.counted) f(p, l.c, s0, s1);
        if (!l.good) bad = p;
    }
    s0 = block_sum(s0);
    s1 = block_sum(s1);
    bad = -block_max(-bad);
    if (threadIdx.x == 0) {
        double* own = work + 4 * (index_t)blockIdx.x;
        own[0] = s0;
        own[1] = s1;
        own[2] = bad < places ? (double)bad : -1.0;
        own[3] = bad < places ? (double)label[bad] : 0.0;
    }
}

// Add up what n blocks of sum_over_places left; one block.  out gets as many sums as `sums` says, trouble
// (1 + place, label) of the first bad label.
__global__ void add_places(const double* work, index_t n, index_t sums, double* out, double* trouble) {
    double s0 = 0, s1 = 0;
    index_t bad = n;
    for (index_t i = threadIdx.x; i < n; i += THREADS) {
        s0 += work[4 * i];
        s1 += work[4 * i + 1];
        if (work[4 * i + 2] >= 0 && i < bad) bad = i;
    }
    s0 = block_sum(s0);
    s1 = block_sum(s1);
    bad = -block_max(-bad);
    if (threadIdx.x == 0) {
        if (sums > 0) out[0] = s0;
        if (sums > 1) out[1] = s1;
        if (bad < n) {
            trouble[1] = work[4 * bad + 3];
            trouble[0] = 1 + work[4 * bad + 2];
        }
    }
}

// The same without sums, for passes that only read labels: one block looks at all of them.
template <typename real>
__global__ void check_labels(
    const real* label, index_t places, index_t C, index_t has_ignore, index_t ignored, double* trouble
) {
    index_t bad = places;
    for (index_t p = threadIdx.x; p < places; p += THREADS)
        if (!read_label(label, p, C, has_ignore, ignored).good && p < bad) bad = p;
    bad = -block_max(-bad);
    if (threadIdx.x == 0 && bad < places) {
        trouble[1] = label[bad];
        trouble[0] = 1 + bad;
    }
}
