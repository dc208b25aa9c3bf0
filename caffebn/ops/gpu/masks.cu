// Random masks, from the numbers that NumPy's generator PCG64 draws: a linear congruential generator of 128 bits, whose
// state any thread finds at its own place of the sequence by repeated squaring.
//
// state: upper and lower half of the generator's state, of its increment, then whether a number of 32 bits is left
// over, and that number.
#include "common.cuh"

typedef unsigned long long word;

const int RUN = 16;  // numbers of 64 bits that a thread draws

struct Wide {
    word high, low;
};

__device__ __forceinline__ Wide times(Wide a, Wide b) {
    return {__umul64hi(a.low, b.low) + a.high * b.low + a.low * b.high, a.low * b.low};
}

__device__ __forceinline__ Wide plus(Wide a, Wide b) {
    const word low = a.low + b.low;
    return {a.high + b.high + (low < a.low), low};
}

struct Pcg64 {
    Wide state, increment;
    __device__ Pcg64(const word* s) : state{s[0], s[1]}, increment{s[2], s[3]} {}
    __device__ static Wide factor() {
        return {0x2360ED051FC65DA4ull, 0x4385DF649FCCF645ull};
    }
    __device__ void skip(word n) {
        Wide by = {0, 1}, more = {0, 0}, step = factor(), add = increment;
        for (; n; n >>= 1) {
            if (n & 1) {
                by = times(by, step);
                more = plus(times(more, step), add);
            }
            add = times(plus(step, Wide{0, 1}), add);
            step = times(step, step);
        }
        state = plus(times(state, by), more);
    }
    __device__ word next() {
        state = plus(times(state, factor()), increment);
        const word mixed = state.high ^ state.low;
        const int turn = (int)(state.high >> 58);
        return (mixed >> turn) | (mixed << (-turn & 63));
    }
};

__device__ __forceinline__ bool kept(word drawn, float ratio) {
    return (float)(drawn >> 8) * (1.0f / 16777216.0f) >= ratio;
}

__device__ __forceinline__ bool kept(word drawn, double ratio) {
    return (double)(drawn >> 11) * (1.0 / 9007199254740992.0) >= ratio;
}

template <typename real>
__global__ void keep_mask(const word* state, index_t n, double ratio_, unsigned char* mask) {
    const bool halves = sizeof(real) == 4;  // two numbers of 32 bits out of one of 64, the lower one first
    const index_t left = halves && state[4] ? 1 : 0;
    const real ratio = (real)ratio_;
    if (left && thread_index() == 0 && n > 0) mask[0] = kept(state[5], ratio);
    index_t begin = thread_index() * RUN, i = left + begin * (halves ? 2 : 1);
    if (i >= n) return;
    Pcg64 numbers(state);
    numbers.skip(begin);
    for (int k = 0; k < RUN && i < n; k++) {
        const word drawn = numbers.next();
        mask[i++] = kept(halves ? drawn & 0xffffffffull : drawn, ratio);
        if (halves && i < n) mask[i++] = kept(drawn >> 32, ratio);
    }
}

// The state after n numbers.
__global__ void skip_numbers(word* state, index_t n, index_t halves) {
    if (thread_index() || n == 0) return;
    const index_t left = halves && state[4] ? 1 : 0, rest = n - left, steps = halves ? (rest + 1) / 2 : rest;
    Pcg64 numbers(state);
    if (steps) {
        numbers.skip(steps - 1);
        const word last = numbers.next();
        if (halves) state[5] = last >> 32;
        state[0] = numbers.state.high;
        state[1] = numbers.state.low;
    }
    if (halves) state[4] = rest % 2;
}
