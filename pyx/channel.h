/* The inner loops of channel.pyx and batch_norm.pyx: sums and maps of rows of elements; plan.pxd says how tensors are
   cut into these.

   All of them take 16 elements at a time, and many such that have the same values of the vectors over the channels one
   after the other, so that these stay in registers, and sums too:

   - along a row, where a channel has LONG places or more, or rows are few;
   - else across the rows, which are images: 16 columns of one, the same of the next.  Lines are read whole and
     at their beginnings, if rows begin there, however short a channel is; only at its end have lanes different values.

   A sum is kept in 16 double-precision lanes, in vectors of the compiler's own kind.  What is left at the end of a row
   is taken together with elements before it, which are masked out.  The lanes are added in a fixed order.  Width of the
   registers, and with it the instruction-set level, cannot change a bit.

   Maps are plain loops over 16 elements, which the compiler turns into vector code.  They promise it that elements do
   not depend on each other, though an output may be an input: each element is read before it is written, and none is
   written twice. */
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
    PART = CHANNEL_BYTES / 8,               /* doubles of a register */
    PARTS = LANES / PART                    /* registers for all lanes */
};

/* What is summed; see the loops. */
enum { SUM, DEVIATIONS, DOT, SUM_AND_DOT };

enum {
    SAMPLED = 8,                            /* images of which elements go into a first estimate of the mean */
    LONG = 512,                             /* places of a channel, from which on rows are visited along */
    FURTHER = 1024,                         /* elements after those that a sum reads along a row, and */
    BESIDE = 128,                           /* across rows, which are fetched meanwhile; */
    BEFORE = 32,                            /* after those that a map writes, */
    TOGETHER = 8                            /* in so many rows at a time */
};

/* Rows of elements, from `start` on, `stride` apart; the last may be cut where the tensor ends, `size` elements later.
   Spans of `places` elements of a row have one value of a vector over the channels in common; with places = 1 each
   element has its own. */
typedef struct {
    int64_t start, stride, count, length, places, size;
} Rows;

/* 16 elements, or n, of which the first `skip` are visited by another, `at` so many from the start: `count` times,
   `stride` apart.  Vectors have their values from `vector` on: one for each lane (`single`), or one for all that are
   `left` of a span and the next for the others. */
typedef struct {
    int64_t at, count, stride, vector;
    int n, skip, left;
} Visit;

/* The values of a vector for the lanes of a visit; behind the end of a vector there are 16 that may be read.  That
   `single` is a constant where this is used keeps them in registers. */
#define SPREAD(type, name, of)                                                                  \
    type name[LANES];                                                                           \
    do {                                                                                        \
        const type *source = (of) + visit->vector;                                              \
        const type here = source[0], next = source[visit->left < visit->n];                     \
        INDEPENDENT                                                                             \
        for (int lane = 0; lane < LANES; lane++)                                                \
            name[lane] = single ? source[lane] : lane < visit->left ? here : next;              \
    } while (0)

/* Call `call(visit, whole, single)`, the last two of which are constants, so that each element is visited once;
   `head(at)` elements from there on stand before the first whole line of a row that is visited along. */
#define EACH_VISIT(rows, head, call)                                                                          \
    do {                                                                                                      \
        const Rows *of = (rows);                                                                              \
        if (visited_along(of)) {                                                                              \
            for (int64_t row = 0; row < of->count; row++)                                                     \
                for (int64_t t = 0; t * of->places < of->length; t++) {                                       \
                    const int64_t at = row * of->stride + t * of->places, first = head(at);                   \
                    const int64_t lines = (of->places - first) / LANES, rest = (of->places - first) % LANES;   \
                    Visit visit[1] = {{at + first, lines, LANES, t, LANES, 0, LANES}};                        \
                    call(visit, 1, 0);                                                                        \
                    for (int end = !first; end < 1 + (rest > 0); end++) {                                     \
                        visit->at = end ? at + of->places - LANES : at, visit->count = 1;                     \
                        visit->n = end ? LANES : (int)first, visit->skip = end ? (int)(LANES - rest) : 0;     \
                        call(visit, 0, 0);                                                                    \
                    }                                                                                         \
                }                                                                                             \
        } else {                                                                                              \
            for (int64_t row = 0, count; row < of->count; row += count) {                                     \
                const int64_t at = row * of->stride, length = row_length(of, row), whole = length / LANES;    \
                const int64_t j = lanes_from(whole * LANES, length);                                          \
                count = rows_together(of, row);                                                               \
                if (of->places == 1)                                                                          \
                    for (int64_t k = 0; k < whole * LANES; k += LANES) {                                      \
                        const Visit visit[1] = {{at + k, count, of->stride, k, LANES, 0, 0}};                 \
                        call(visit, 1, 1);                                                                    \
                    }                                                                                         \
                else                                                                                          \
                    for (int64_t k = 0, t = 0, left = of->places; k < whole * LANES; k += LANES, left -= LANES) { \
                        if (left <= 0) t++, left += of->places;                                               \
                        const Visit visit[1] = {{at + k, count, of->stride, t, LANES, 0,                      \
                                                 (int)(left < LANES ? left : LANES)}};                        \
                        call(visit, 1, 0);                                                                    \
                    }                                                                                         \
                if (whole * LANES < length) {                                                                 \
                    const int n = length < LANES ? (int)length : LANES, skip = (int)(whole * LANES - j);      \
                    const int64_t last = of->places == 1 ? j : (length - 1) / of->places;                     \
                    const Visit visit[1] = {{at + j, count, of->stride, last, n, skip, n}};                   \
                    if (of->places == 1) call(visit, 0, 1);                                                   \
                    else call(visit, 0, 0);                                                                   \
                }                                                                                             \
            }                                                                                                 \
        }                                                                                                     \
    } while (0)

#define NO_HEAD(at) 0

/* The elements of a visit: for (each j) y[j] = ..., 16 in a vector where the visit is whole. */
#define EACH_ELEMENT(...)                                                         \
    if (whole) {                                                                  \
        INDEPENDENT                                                               \
        for (int j = 0; j < LANES; j++) __VA_ARGS__                               \
    } else {                                                                      \
        for (int j = visit->skip; j < visit->n; j++) __VA_ARGS__                  \
    }

/* The sums of `rows`; what `first` and `second` are is said at sum_rows. */
#define SUM_ROWS(rows, ready, ask, add, first, second)                                                        \
    do {                                                                                                      \
        const Rows *of = (rows);                                                                              \
        if (visited_along(of)) {                                                                              \
            const int single = 0;                                                                             \
            const int64_t rest = of->places % LANES, last = of->places - LANES;                               \
            for (int64_t t = 0; t * of->places < of->length; t++) {                                           \
                const Visit visit[1] = {{.vector = t, .n = LANES, .left = LANES}};                            \
                lanes_part a[PARTS] = {0}, b[PARTS] = {0};                                                    \
                ready();                                                                                      \
                for (int64_t row = 0; row < of->count; row++) {                                               \
                    const int64_t at = row * of->stride + t * of->places;                                     \
                    for (int64_t i = 0; i <= last; i += LANES) {                                              \
                        ask(at + i + FURTHER);                                                                \
                        add(at + i, LANES, 0, a, b);                                                          \
                    }                                                                                         \
                    if (rest) add(at + last, LANES, lanes_after(LANES - rest), a, b);                         \
                }                                                                                             \
                if (first) (first)[t] = lanes_total((const double *)a);                                       \
                if (second) (second)[t] = lanes_total((const double *)b);                                     \
            }                                                                                                 \
        } else if (of->places > 1) {                                                                          \
            const int single = 0;                                                                             \
            lanes_part sum_a[PARTS] = {0}, sum_b[PARTS] = {0};                                                \
            for (int64_t k = 0, t = 0; k < of->length; k += LANES) {                                          \
                const int64_t j = lanes_from(k, of->length), end = (t + 1) * of->places - j;                  \
                const Visit visit[1] = {{.vector = t, .n = LANES, .left = end < LANES ? (int)end : LANES}};   \
                lanes_part a[PARTS] = {0}, b[PARTS] = {0};                                                    \
                ready();                                                                                      \
                for (int64_t row = 0, at = j; row < of->count; row++, at += of->stride) {                     \
                    ask(at + BESIDE);                                                                         \
                    add(at, LANES, 0, a, b);                                                                  \
                }                                                                                             \
                lanes_folded(a, k - j, end, sum_a, (first) ? (first) + t : 0);                                \
                t += lanes_folded(b, k - j, end, sum_b, (second) ? (second) + t : 0);                         \
            }                                                                                                 \
        } else {                                                                                              \
            const int single = 1, n = of->length < LANES ? (int)of->length : LANES;                           \
            for (int64_t k = 0; k < of->length; k += LANES) {                                                 \
                const int64_t j = lanes_from(k, of->length), full = n == LANES ? whole_rows(of, j) : 0;       \
                const Visit visit[1] = {{.vector = j, .n = n}};                                               \
                lanes_part a[PARTS] = {0}, b[PARTS] = {0};                                                    \
                ready();                                                                                      \
                for (int64_t row = 0, at = j; row < full; row++, at += of->stride)                            \
                    add(at, LANES, 0, a, b);                                                                  \
                for (int64_t row = full, at = j + full * of->stride; row < of->count; row++, at += of->stride) { \
                    const int64_t left = of->size - at < n ? of->size - at : n;                               \
                    if (left > 0) add(at, left, lanes_before(left), a, b);                                    \
                }                                                                                             \
                if (first) memcpy((first) + j, a, n * sizeof(double));                                        \
                if (second) memcpy((second) + j, b, n * sizeof(double));                                      \
            }                                                                                                 \
        }                                                                                                     \
    } while (0)

/* Whether rows are visited along: with the same values of the vectors there are more steps that way, or enough. */
CHANNEL_INLINE int visited_along(const Rows *rows)
{
    return rows->places >= LONG || rows->places > 3 * LANES * rows->count;
}

/* How many elements after x lie those that a map should fetch, where nothing has fetched x before. */
CHANNEL_INLINE int64_t further_of(const Rows *rows, int cached)
{
    return cached ? 0 : visited_along(rows) ? FURTHER : BESIDE;
}

/* For masks: which of 16 lanes lie before a place, or from it on. */
static const int64_t channel_masks[3 * LANES] __attribute__((unused)) = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
};

CHANNEL_INLINE const int64_t *lanes_before(int64_t place) { return channel_masks + 2 * LANES - place; }
CHANNEL_INLINE const int64_t *lanes_after(int64_t place) { return channel_masks + LANES - place; }

/* Lanes that do not count become 0. */
#define LANES_WHERE(mask, lanes) ((lanes_part)((lanes_mask)(lanes) & (lanes_mask)(mask)))
#define PART_OF_MASK(mask, k) (*(const lanes_mask *)((mask) + (k) * PART))

/* Ask for 16 elements to be brought into the second-level cache. */
#define CHANNEL_FETCH(p) CHANNEL_ASK(p, 2)
/* Into the first: for what will be written, as a store that misses it holds up all stores behind it. */
#define CHANNEL_FETCH_NEARER(p) CHANNEL_ASK(p, 3)
#define CHANNEL_ASK(p, locality)                                                                        \
    for (int64_t asked = 0; asked < LANES; asked += 64 / sizeof(*(p)))                                   \
        __builtin_prefetch((p) + asked, 0, locality)

/* A register of doubles made of floats in memory.  Spelled out it is one instruction; of __builtin_convertvector, gcc
   makes five. */
#if CHANNEL_BYTES == 64
#define part_of_float(x) (lanes_part){(x)[0], (x)[1], (x)[2], (x)[3], (x)[4], (x)[5], (x)[6], (x)[7]}
#elif CHANNEL_BYTES == 32
#define part_of_float(x) (lanes_part){(x)[0], (x)[1], (x)[2], (x)[3]}
#else
#define part_of_float(x) (lanes_part){(x)[0], (x)[1]}
#endif

typedef double unaligned_part __attribute__((vector_size(CHANNEL_BYTES), aligned(8), may_alias));
#define part_of_double(x) (*(const unaligned_part *)(x))

/* c + a * b.  A product of two floats is exact in double precision: fused or not, the sum has the same bits. */
#define sum_of_product_double(c, a, b) ((c) + (a) * (b))
#if CHANNEL_BYTES == 64
#define sum_of_product_float(c, a, b) ((lanes_part)_mm512_fmadd_pd((__m512d)(a), (__m512d)(b), (__m512d)(c)))
#elif defined(__FMA__)
#define sum_of_product_float(c, a, b) ((lanes_part)_mm256_fmadd_pd((__m256d)(a), (__m256d)(b), (__m256d)(c)))
#else
#define sum_of_product_float sum_of_product_double
#endif

/* Where the 16 of `length` columns begin that hold those from k on: before k, if there are not so many behind. */
CHANNEL_INLINE int64_t lanes_from(int64_t k, int64_t length)
{
    return length - k >= LANES || length < LANES ? k : length - LANES;
}

/* How many elements row `row` has: all of them, but where the tensor ends. */
CHANNEL_INLINE int64_t row_length(const Rows *rows, int64_t row)
{
    const int64_t left = rows->size - row * rows->stride;
    return left < rows->length ? left : rows->length;
}

/* How many rows from `row` on a map visits together: not one that is cut with others. */
CHANNEL_INLINE int64_t rows_together(const Rows *rows, int64_t row)
{
    int64_t count = 1;
    while (count < TOGETHER && row + count < rows->count && row_length(rows, row + count) == rows->length) count++;
    return count;
}

/* How many rows have 16 elements from column j on. */
CHANNEL_INLINE int64_t whole_rows(const Rows *rows, int64_t j)
{
    const int64_t size = rows->size - j, whole = size < LANES ? 0 : (size - LANES) / rows->stride + 1;
    return whole < rows->count ? whole : rows->count;
}

/* Add the lanes `u` of 16 columns, of which the first `skip` were counted before, to the sum of a channel that ends
   before lane `end`.  If that is one of the 16, or the one behind them, the total is written (if it is wanted) and the
   sum of the next channel begun.  Return whether it is. */
CHANNEL_INLINE int lanes_folded(const lanes_part *u, int64_t skip, int64_t end, lanes_part *sum, double *total)
{
    if (skip == 0 && end > LANES) {
        for (int k = 0; k < PARTS; k++) sum[k] += u[k];
        return 0;
    }
    const int64_t *own = lanes_before(end < LANES ? end : LANES), *new = lanes_after(skip);
    for (int k = 0; k < PARTS; k++) sum[k] += LANES_WHERE(PART_OF_MASK(own, k) & PART_OF_MASK(new, k), u[k]);
    if (end > LANES) return 0;
    if (total) *total = lanes_total((const double *)sum);
    for (int k = 0; k < PARTS; k++) sum[k] = LANES_WHERE(~PART_OF_MASK(own, k), u[k]);
    return 1;
}

#define IMPL "channel_impl.h"
#include "for_reals.h"

#endif
