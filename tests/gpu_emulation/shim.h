// Lets a C++ compiler for the processor build CUDA kernels, and runs them block after block.
//
// The threads of a block are fibres of one thread: each runs until it ends or waits at a barrier, and goes on when
// all that the barrier is for have come.  So shared memory is a static variable, and a barrier that some threads do not
// reach is found at once.  The order in which fibres run can be turned round: a result that changes with it lacks
// a barrier.  Nothing here says anything about speed, memory spaces, or what really parallel threads would do.
#include <ucontext.h>

#include <cmath>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>
#include <algorithm>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static

using std::exp;
using std::expm1;
using std::fabs;
using std::log;
using std::log1p;
using std::max;
using std::min;
using std::pow;
using std::sqrt;
using std::tanh;
using std::trunc;

struct dim3 {
    unsigned x, y, z;
};
static dim3 blockIdx, threadIdx, blockDim, gridDim;

namespace emulation {

enum Waiting { NOT, FOR_BLOCK, FOR_WARP };

struct Fibre {
    ucontext_t context;
    jmp_buf place;
    bool started = false, done = false;
    Waiting waiting = NOT;
    long long slot = 0;  // what a warp exchanges
    void* stack = nullptr;
};

static std::vector<Fibre*> fibres;
static Fibre* current;
static unsigned current_index;
static jmp_buf scheduler;
static void (*body)(void*);
static void* body_data;
static bool backwards = false;
static std::string trouble;

static const size_t STACK = 256 << 10;

static void enter() {
    for (;;) {
        body(body_data);
        current->done = true;
        if (!_setjmp(current->place)) _longjmp(scheduler, 1);
    }
}

static void resume(unsigned i) {
    Fibre* f = fibres[i];
    current = f;
    current_index = i;
    threadIdx = {i, 0, 0};
    if (_setjmp(scheduler)) return;
    if (f->started) _longjmp(f->place, 1);
    f->started = true;
    setcontext(&f->context);
}

static void wait(Waiting what) {
    current->waiting = what;
    if (!_setjmp(current->place)) _longjmp(scheduler, 1);
}

static bool run_block(unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        fibres[i]->done = false;
        fibres[i]->waiting = NOT;
    }
    for (;;) {
        bool ran = false, all_done = true;
        for (unsigned k = 0; k < n; k++) {
            unsigned i = backwards ? n - 1 - k : k;
            if (!fibres[i]->done && fibres[i]->waiting == NOT) {
                resume(i);
                ran = true;
            }
        }
        unsigned at_block = 0, done = 0;
        for (unsigned w = 0; w < n; w += 32) {
            unsigned end = std::min(n, w + 32), here = 0;
            for (unsigned i = w; i < end; i++) {
                here += fibres[i]->waiting == FOR_WARP;
                at_block += fibres[i]->waiting == FOR_BLOCK;
                done += fibres[i]->done;
                all_done &= fibres[i]->done;
            }
            if (here == end - w) {
                for (unsigned i = w; i < end; i++) fibres[i]->waiting = NOT;
                ran = true;
            }
        }
        if (all_done) return true;
        if (at_block + done == n) {
            for (unsigned i = 0; i < n; i++) fibres[i]->waiting = NOT;
            ran = true;
        }
        if (!ran) {
            trouble = "some threads of a block wait at a barrier that others do not reach";
            for (unsigned i = 0; i < n; i++) fibres[i]->started = false;  // their stacks are given up
            return false;
        }
    }
}

static bool run(unsigned blocks, unsigned threads, void (*what)(void*), void* data) {
    body = what;
    body_data = data;
    blockDim = {threads, 1, 1};
    gridDim = {blocks, 1, 1};
    while (fibres.size() < threads) fibres.push_back(new Fibre);
    for (unsigned i = 0; i < threads; i++) {
        Fibre* f = fibres[i];
        if (f->started) continue;
        if (!f->stack) f->stack = malloc(STACK);
        getcontext(&f->context);
        f->context.uc_stack.ss_sp = f->stack;
        f->context.uc_stack.ss_size = STACK;
        f->context.uc_link = nullptr;
        makecontext(&f->context, enter, 0);
    }
    for (unsigned k = 0; k < blocks; k++) {
        blockIdx = {backwards ? blocks - 1 - k : k, 0, 0};
        if (!run_block(threads)) return false;
    }
    return true;
}

template <typename T>
T exchange(T v, unsigned from) {
    long long mine = 0, got = 0;
    static_assert(sizeof(T) <= sizeof mine, "a warp exchanges up to 8 bytes");
    memcpy(&mine, &v, sizeof v);
    current->slot = mine;
    unsigned index = current_index;
    wait(FOR_WARP);
    got = from < 32 && index / 32 * 32 + from < blockDim.x ? fibres[index / 32 * 32 + from]->slot : mine;
    wait(FOR_WARP);
    memcpy(&v, &got, sizeof v);
    return v;
}

template <typename T>
struct Kind {
    static_assert(std::is_pointer<T>::value || std::is_same<T, double>::value || std::is_same<T, long long>::value,
                  "kernels take pointers, double and long long");
    static const char letter = std::is_pointer<T>::value ? 'p' : std::is_same<T, double>::value ? 'd' : 'i';
};

template <typename... A>
std::string kinds(void (*)(A...)) {
    return std::string{Kind<A>::letter...};
}

template <typename... A>
struct Call {
    void (*kernel)(A...);
    void** arguments;
    template <size_t... I>
    void with(std::index_sequence<I...>) {
        kernel(*static_cast<std::remove_const_t<A>*>(arguments[I])...);
    }
    static void go(void* self) {
        static_cast<Call*>(self)->with(std::index_sequence_for<A...>{});
    }
};

template <typename... A>
bool call(void (*kernel)(A...), unsigned blocks, unsigned threads, void** arguments) {
    Call<A...> c{kernel, arguments};
    return run(blocks, threads, Call<A...>::go, &c);
}

}  // namespace emulation

static inline void __syncthreads() {
    emulation::wait(emulation::FOR_BLOCK);
}

template <typename T>
T __shfl_down_sync(unsigned, T v, unsigned step) {
    return emulation::exchange(v, threadIdx.x % 32 + step);
}

template <typename T>
T __shfl_sync(unsigned, T v, unsigned lane) {
    return emulation::exchange(v, lane);
}

static inline unsigned __ballot_sync(unsigned, bool v) {
    unsigned found = 0, warp = threadIdx.x / 32 * 32;
    emulation::current->slot = v;
    emulation::wait(emulation::FOR_WARP);
    for (unsigned i = 0; i < 32; i++) found |= (unsigned)(emulation::fibres[warp + i]->slot != 0) << i;
    emulation::wait(emulation::FOR_WARP);
    return found;
}

static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}

static inline int __ffs(unsigned v) {
    return __builtin_ffs((int)v);
}

extern "C" const char* emulation_trouble() {
    return emulation::trouble.c_str();
}

extern "C" void emulation_backwards(int on) {
    emulation::backwards = on;
}
