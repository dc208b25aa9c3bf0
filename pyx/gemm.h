/* Products of matrices for gemm.pyx and conv.pyx, written with the compiler's vector extensions.

   The product is C[m, q] = sum over k of A[m, k] * B[k, q], followed by an epilogue (scale, bias, residual, ReLU).

   - The microkernel keeps up to GEMM_MR rows x GEMM_NV vectors of sums in registers.  Each step of k loads NV vectors
     of B and the numbers of each row of A.  With AVX-512 most of these are operands of the multiply-adds: 37
     instructions for 28 of them, as a core whose other thread is busy decodes three a cycle.  There is one microkernel
     for each number of rows: 64 rows are cut into 13 + 13 + 13 + 13 + 12.
   - B is copied panel by panel: KC x (NV vectors), zero-padded to whole vectors, PANELS of them in L2.  Where its rows
     lie in one piece (1 x 1 kernels), the first tile of A that needs a panel reads it there and copies it on the way.
   - A is copied tile by tile: MR rows of KC elements, each row in one piece (the rows of weights as they lie, so that
     it is a plain copy) but at a distance that is no multiple of the pages in which L1 places things; it stays in
     L1 while the panels pass by.  So A is read once for each block of columns, and a batch of one does not pay for
     packing its weights.
   - A tile of sums goes through a buffer in L1 to its destination, which may be cut into images or lie strided.
     The epilogue works there, on whole vectors: parts of vectors are copied to one first, so that a value does not
     depend on where its tile began.
   - The last columns, where there are few beyond whole vectors (one for a map of 7x7), would cost as much as a vector:
     they are sums over vectors along k, for which a tile of A lies as it should.
   - Threads share the tiles of all blocks of columns: each begins with a run of them and, when that is done, takes half
     of what another has left.  Cores that others use as well are not equally quick, and a thread may come late or never.
   - The sum over k of one element is always taken in the same order, in blocks of GEMM_KC, however rows and columns
     are cut into tasks.  So any number of threads gives the same bits.

   Fused multiply-add is allowed here (the flags of these files permit contraction): products are bound by arithmetic,
   and levels differ in rounding anyway. */
#ifndef CAFFEBN_GEMM_H
#define CAFFEBN_GEMM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#define GEMM_THREAD() omp_get_thread_num()
#else
#define GEMM_THREAD() 0
#endif

#if defined(__AVX512F__)
#define GEMM_BYTES 64
#define GEMM_MR 14
#define GEMM_ONCE 4             /* rows of A whose numbers are loaded once for both vectors: see multiply_add */
#elif defined(__AVX__)
#define GEMM_BYTES 32
#define GEMM_MR 6
#elif defined(__aarch64__)
#define GEMM_BYTES 16
#define GEMM_MR 12
#else
#define GEMM_BYTES 16
#define GEMM_MR 6
#endif
#ifndef GEMM_ONCE
#define GEMM_ONCE GEMM_MR       /* no multiply-add loads a number for all lanes */
#endif
#define GEMM_NV 2               /* vectors in a panel of B */
#define GEMM_KC 384             /* depth of a block */
#define GEMM_KCS (GEMM_KC + 16) /* distance of the rows of a tile of A; the rest takes what a last vector overshoots */
#define GEMM_LOOK 16            /* a microkernel asks for a line of each row of what comes next in so many steps */
#define GEMM_AHEAD 32           /* steps that a tile of A whose rows lie side by side is asked for ahead */
#define GEMM_PANELS 16          /* most panels of B that a thread holds, in L2 */
#define GEMM_CHUNK 5000         /* cycles of work that a thread takes at once, at least */
#define GEMM_WORTH 2            /* tiles for which another thread's columns are copied once more */

#define GEMM_INLINE static inline __attribute__((always_inline))
#define GEMM_MIN(a, b) ((a) < (b) ? (a) : (b))
#define GEMM_MAX(a, b) ((a) > (b) ? (a) : (b))

static inline int64_t gemm_ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Panels of B that a thread holds, for as little to do as can be for each thread, which has a run of tiles of rows (of
   MR) of such blocks of columns.  Costs are cycles for one k: a panel and a row take 1 (NV multiply-adds, two a cycle),
   copying a row of A about 0.2, copying a row of a panel 1 (more, but mostly beside other work). */
static inline int64_t gemm_width(int64_t rows, int64_t n_panels, int64_t groups, int n_threads)
{
    const int64_t tiles = gemm_ceil_div(rows, GEMM_MR);
    int64_t best = 1;
    double least = -1;
    for (int64_t panels = GEMM_MIN(n_panels, GEMM_PANELS); panels >= 1; panels--) {
        const int64_t blocks = groups * gemm_ceil_div(n_panels, panels);
        const int64_t share = gemm_ceil_div(blocks * tiles, n_threads);
        /* blocks of which a thread has a part */
        const int64_t touched = gemm_ceil_div(share, tiles) + (share > tiles && blocks % n_threads > 0);
        const double cost = share * GEMM_MR * (panels + 0.2) + touched * panels;
        if (least < 0 || cost < least * 0.99) least = cost, best = panels;
    }
    return best;
}

/* What a thread has still to do of a row of tiles: from the low half up to the high half of the number.

   The thread takes from the front; one that has nothing left takes half of what another has, from the back.  So threads
   whose cores are slower for a while do less, and what a thread reads are mostly columns that it wrote. */
typedef uint64_t __attribute__((may_alias)) gemm_range;

static inline gemm_range gemm_range_of(int64_t begin, int64_t end) { return (uint64_t)end << 32 | (uint64_t)begin; }
static inline int64_t gemm_begin(gemm_range r) { return (int64_t)(r & 0xffffffff); }
static inline int64_t gemm_end(gemm_range r) { return (int64_t)(r >> 32); }

/* Take up to n tiles, all of one block, `tiles` to a block; their number, and the first of them. */
static inline int64_t gemm_take(gemm_range *mine, int64_t n, int64_t tiles, int64_t *first)
{
    gemm_range now = __atomic_load_n(mine, __ATOMIC_RELAXED);
    for (;;) {
        const int64_t begin = gemm_begin(now), end = gemm_end(now);
        const int64_t taken = GEMM_MIN(GEMM_MIN(n, end - begin), tiles - begin % tiles);
        if (taken <= 0) return 0;
        *first = begin;
        if (__atomic_compare_exchange_n(mine, &now, gemm_range_of(begin + taken, end), 0, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED))
            return taken;
    }
}

/* Take half of what another thread has left, if that is worth it; whether there is something now. */
static inline int gemm_steal(gemm_range *mine, gemm_range *other, int64_t least)
{
    gemm_range now = __atomic_load_n(other, __ATOMIC_RELAXED);
    for (;;) {
        const int64_t begin = gemm_begin(now), end = gemm_end(now), middle = begin + (end - begin) / 2;
        if (end - begin < least) return 0;
        if (__atomic_compare_exchange_n(other, &now, gemm_range_of(begin, middle), 0, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED)) {
            __atomic_store_n(mine, gemm_range_of(middle, end), __ATOMIC_RELAXED);
            return 1;
        }
    }
}

/* The tiles of a block that a thread works on, [first, first + n), and more of that block from the front of `mine`, up
   to `chunk` at once, while there are; held: B is in the panels already, whole. */
typedef struct {
    int64_t first, n, chunk, tiles;
    gemm_range *mine;
    int held;
} gemm_run;

static inline int gemm_more(gemm_run *run)
{
    int64_t first, n;
    if (!run->mine || run->first + run->n == run->tiles) return 0;
    n = gemm_take(run->mine, run->chunk, run->tiles, &first);
    run->n += n;
    return n > 0;
}

#define IMPL "gemm_impl.h"
#include "for_reals.h"

#endif
