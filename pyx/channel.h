/* The inner loops of channel.pyx and batch_norm.pyx: sums and maps of runs of elements of one channel (by row),
   or of rows of elements of many channels (by column); plan.pxd says how tensors are cut into these.

   - By row, a sum is kept in 16 double-precision lanes, in vectors of the compiler's own kind.  16 elements at a
     time go to the 16 lanes; what is left at the end of a run is taken together with elements before it, which
     are masked out, so a run needs 16 elements at least.  The lanes are added in a fixed order.  Width of
     the registers, and with it the instruction-set level, cannot change a bit.
   - By column, every column has a sum of its own.
   - Maps are plain loops over 16 elements, which the compiler turns into vector code; see IN_CHUNKS.  They promise it
     that elements do not depend on each other, though an output may be an input: each element is read before it is
     written. */
#ifndef CAFFEBN_CHANNEL_H
#define CAFFEBN_CHANNEL_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "lanes.h"
#include "stream.h"

#if defined(__AVX512F__)
#define CHANNEL_BYTES 64
#elif defined(__AVX__)
#define CHANNEL_BYTES 32
#else
#define CHANNEL_BYTES 16
#endif

/* Not unrolled: loops of a constant length must become vector code, and not be gone before. */
#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety) unroll(disable)")
#else
#define INDEPENDENT _Pragma("GCC ivdep") _Pragma("GCC unroll 1")
#endif

#define CHANNEL_INLINE static inline __attribute__((always_inline))

typedef double lanes_part __attribute__((vector_size(CHANNEL_BYTES)));
typedef int64_t lanes_mask __attribute__((vector_size(CHANNEL_BYTES), aligned(8), may_alias));

enum {
    CHANNEL_LANES = LANES,
    PART = CHANNEL_BYTES / 8,               /* doubles of a register */
    PARTS = CHANNEL_LANES / PART            /* registers for all lanes */
};

/* What is summed; see the loops. */
enum { SUM, DEVIATIONS, DOT, SUM_AND_DOT };

enum {
    SAMPLED = 8,                            /* images of which elements go into a first estimate of the mean */
    LONG = 512,                             /* elements in a row for which it pays to fetch what lies */
    FURTHER = 1024,                         /* so many elements further */
    TOGETHER = 64                           /* channels, at most, that are summed image by image */
};

static const int64_t channel_masks[2 * CHANNEL_LANES] __attribute__((unused)) = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
};

/* Ask for 16 elements to be brought into the second-level cache. */
#define CHANNEL_FETCH(p) CHANNEL_ASK(p, 2)
/* Into the first: for what will be written, as a store that misses it holds up all stores behind it. */
#define CHANNEL_FETCH_NEARER(p) CHANNEL_ASK(p, 3)
#define CHANNEL_ASK(p, locality)                                                                        \
    for (int64_t asked = 0; asked < CHANNEL_LANES; asked += 64 / sizeof(*(p)))                           \
        __builtin_prefetch((p) + asked, 0, locality)

/* Map n elements by call(j, to, m), which reads m elements from j on and writes them to `to`: 16 at a time, and what is
   left at the end together with elements before it.  Those are read before they are written, as y may be an input. */
#define IN_CHUNKS(y, n, call)                                                                           \
    do {                                                                                                \
        if ((n) < CHANNEL_LANES) {                                                                      \
            call(0, y, n);                                                                              \
        } else {                                                                                        \
            __typeof__(*(y)) last[CHANNEL_LANES];                                                       \
            if ((n) % CHANNEL_LANES) call((n) - CHANNEL_LANES, last, CHANNEL_LANES);                    \
            for (int64_t chunk = 0; chunk <= (n) - CHANNEL_LANES; chunk += CHANNEL_LANES)               \
                call(chunk, (y) + chunk, CHANNEL_LANES);                                                \
            if ((n) % CHANNEL_LANES) memcpy((y) + (n) - CHANNEL_LANES, last, sizeof last);              \
        }                                                                                               \
    } while (0)

/* The same, written past the caches: whole lines of y, which is no input, and what is left at both ends as usual. */
#define IN_LINES(y, n, call)                                                                            \
    do {                                                                                                \
        if ((n) < CHANNEL_LANES) {                                                                      \
            call(0, y, n);                                                                              \
        } else {                                                                                        \
            __typeof__(*(y)) line[CHANNEL_LANES] __attribute__((aligned(STREAM_LINE)));                 \
            int64_t chunk = stream_head(y) / (int64_t)sizeof *line;                                     \
            if (chunk) {                                                                                \
                call(0, line, CHANNEL_LANES);                                                           \
                memcpy(y, line, chunk * sizeof *line);                                                  \
            }                                                                                           \
            for (; chunk <= (n) - CHANNEL_LANES; chunk += CHANNEL_LANES) {                              \
                call(chunk, line, CHANNEL_LANES);                                                       \
                stream_lines((y) + chunk, line, sizeof line);                                           \
            }                                                                                           \
            if (chunk < (n)) {                                                                          \
                call((n) - CHANNEL_LANES, line, CHANNEL_LANES);                                         \
                memcpy((y) + chunk, line + CHANNEL_LANES - ((n) - chunk), ((n) - chunk) * sizeof *line); \
            }                                                                                           \
        }                                                                                               \
    } while (0)

/* The lanes of two sums in registers for as long as a run takes; before the first run they are 0. */
#define BORROWED(sums, a, b, first)                                                         \
    lanes_part a[PARTS] = {0}, b[PARTS] = {0};                                              \
    if (!(first))                                                                           \
        for (int part = 0; part < PARTS; part++) a[part] = (sums)[0][part], b[part] = (sums)[1][part]
#define GIVEN_BACK(sums, a, b) \
    for (int part = 0; part < PARTS; part++) (sums)[0][part] = a[part], (sums)[1][part] = b[part]

/* A register of doubles made of floats in memory.  Spelled out it is one instruction; of __builtin_convertvector, gcc
   makes five. */
#if CHANNEL_BYTES == 64
#define part_of_float(x) (lanes_part){(x)[0], (x)[1], (x)[2], (x)[3], (x)[4], (x)[5], (x)[6], (x)[7]}
#elif CHANNEL_BYTES == 32
#define part_of_float(x) (lanes_part){(x)[0], (x)[1], (x)[2], (x)[3]}
#else
#define part_of_float(x) (lanes_part){(x)[0], (x)[1]}
#endif

/* c + a * b.  A product of two floats is exact in double precision: fused or not, the sum has the same bits. */
#define sum_of_product_double(c, a, b) ((c) + (a) * (b))
#if CHANNEL_BYTES == 64
#define sum_of_product_float(c, a, b) ((lanes_part)_mm512_fmadd_pd((__m512d)(a), (__m512d)(b), (__m512d)(c)))
#elif defined(__FMA__)
#define sum_of_product_float(c, a, b) ((lanes_part)_mm256_fmadd_pd((__m256d)(a), (__m256d)(b), (__m256d)(c)))
#else
#define sum_of_product_float sum_of_product_double
#endif

/* Lanes that do not count become 0. */
#define LANES_WHERE(mask, lanes) ((lanes_part)((lanes_mask)(lanes) & (lanes_mask)(mask)))

typedef double unaligned_part __attribute__((vector_size(CHANNEL_BYTES), aligned(8), may_alias));
#define part_of_double(x) (*(const unaligned_part *)(x))

/* How far from what a sum reads lies what is to be fetched. */
CHANNEL_INLINE int64_t fetched_from(int64_t ahead, int64_t length)
{
    return length >= LONG ? FURTHER : ahead;
}

/* Where the 16 of `length` columns begin that hold those from k on: before k, if there are not so many behind. */
CHANNEL_INLINE int64_t lanes_from(int64_t k, int64_t length)
{
    return length - k >= CHANNEL_LANES || length < CHANNEL_LANES ? k : length - CHANNEL_LANES;
}

/* How many of `count` rows, `stride` apart, have 16 elements before the end, `size` elements after the first. */
CHANNEL_INLINE int64_t whole_rows(int64_t count, int64_t stride, int64_t size)
{
    const int64_t whole = size < CHANNEL_LANES ? 0 : (size - CHANNEL_LANES) / stride + 1;
    return whole < count ? whole : count;
}

#define IMPL "channel_impl.h"
#include "for_reals.h"

#endif
