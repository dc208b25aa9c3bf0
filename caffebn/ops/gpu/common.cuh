// What all kernels share: vectors of 16 bytes, sums over a block in a fixed order, maps of arrays.
//
// Numbers arrive as double or long long, whatever the dtype of the tensors: one convention for all calls.  Blocks have
// THREADS threads in one dimension.  Sums are taken in double; the order of a sum depends on shapes alone, so that
// every run gives the same bits.  There are no atomic operations.  The code is compiled without contraction of
// multiplication and addition: what is computed step by step has the bits of the processor's ops.

typedef long long index_t;

const int THREADS = 256;

template <typename real, int V>
struct alignas(sizeof(real) * V) Vec {
    real v[V];
};

template <int V, typename real>
__device__ __forceinline__ Vec<real, V> load(const real* p) {
    return *reinterpret_cast<const Vec<real, V>*>(p);
}

template <int V, typename real>
__device__ __forceinline__ void store(real* p, const Vec<real, V>& v) {
    *reinterpret_cast<Vec<real, V>*>(p) = v;
}

__device__ __forceinline__ index_t thread_index() {
    return (index_t)blockIdx.x * THREADS + threadIdx.x;
}

// Sum over the threads of a block; every thread gets it.
__device__ __forceinline__ double block_sum(double v) {
    __shared__ double part[THREADS / 32];
    for (int step = 16; step; step /= 2) v += __shfl_down_sync(0xffffffffu, v, step);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
    __syncthreads();
    v = 0;
    for (int w = 0; w < THREADS / 32; w++) v += part[w];
    __syncthreads();
    return v;
}

// Largest and smallest over the threads of a block; every thread gets them.
template <typename T>
__device__ __forceinline__ T block_max(T v) {
    __shared__ T part[THREADS / 32];
    for (int step = 16; step; step /= 2) {
        T other = __shfl_down_sync(0xffffffffu, v, step);
        v = other > v ? other : v;
    }
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
    __syncthreads();
    v = part[0];
    for (int w = 1; w < THREADS / 32; w++) v = part[w] > v ? part[w] : v;
    __syncthreads();
    return v;
}

// y[i] = f(x[i], ...) for all i < n, V at a time: each thread has V neighbours, the last one what is left over.
template <int V, typename real, typename F>
__device__ __forceinline__ void map(index_t n, real* y, F f) {
    index_t i = thread_index() * V;
    if (i + V <= n) {
        Vec<real, V> r = load<V>(y + i);
        for (int k = 0; k < V; k++) r.v[k] = f(r.v[k]);
        store<V>(y + i, r);
    } else
        for (; i < n; i++) y[i] = f(y[i]);
}

template <int V, typename real, typename F>
__device__ __forceinline__ void map(index_t n, const real* x, real* y, F f) {
    index_t i = thread_index() * V;
    if (i + V <= n) {
        Vec<real, V> a = load<V>(x + i);
        for (int k = 0; k < V; k++) a.v[k] = f(a.v[k]);
        store<V>(y + i, a);
    } else
        for (; i < n; i++) y[i] = f(x[i]);
}

template <int V, typename real, typename F>
__device__ __forceinline__ void map(index_t n, const real* a, const real* b, real* y, F f) {
    index_t i = thread_index() * V;
    if (i + V <= n) {
        Vec<real, V> p = load<V>(a + i), q = load<V>(b + i);
        for (int k = 0; k < V; k++) p.v[k] = f(p.v[k], q.v[k]);
        store<V>(y + i, p);
    } else
        for (; i < n; i++) y[i] = f(a[i], b[i]);
}

template <int V, typename real, typename F>
__device__ __forceinline__ void map(index_t n, const real* a, const real* b, const real* c, real* y, F f) {
    index_t i = thread_index() * V;
    if (i + V <= n) {
        Vec<real, V> p = load<V>(a + i), q = load<V>(b + i), r = load<V>(c + i);
        for (int k = 0; k < V; k++) p.v[k] = f(p.v[k], q.v[k], r.v[k]);
        store<V>(y + i, p);
    } else
        for (; i < n; i++) y[i] = f(a[i], b[i], c[i]);
}
