/* Writing past the caches.

   A store reads the line that it changes into the cache, and some day the line goes back to memory: two transfers.  A
   whole line that is written past the cache is one.  For results that are larger than the caches that saves a third of
   what a copy moves; they would not be there any more when somebody reads them.

   Kernels compute a piece of a result into a buffer in L1, which then goes out in whole lines. */
#ifndef CAFFEBN_STREAM_H
#define CAFFEBN_STREAM_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX__) || defined(__SSE2__)
#include <immintrin.h>
#endif

enum {
    STREAM_LINE = 64,
    STREAM_PIECE = 2048,                /* elements of a buffer, about */
    STREAM_ROOM = STREAM_PIECE + 16,
    STREAM_BYTES = 32 << 20             /* of a result, from which on it is written past the caches */
};

/* Write one line, which lies at a multiple of its size. */
static inline __attribute__((always_inline)) void stream_line(char *to, const char *from)
{
#if defined(__AVX512F__)
    _mm512_stream_ps((float *)to, _mm512_loadu_ps((const float *)from));
#elif defined(__AVX__)
    for (int i = 0; i < STREAM_LINE; i += 32)
        _mm256_stream_ps((float *)(to + i), _mm256_loadu_ps((const float *)(from + i)));
#elif defined(__SSE2__)
    for (int i = 0; i < STREAM_LINE; i += 16)
        _mm_stream_ps((float *)(to + i), _mm_loadu_ps((const float *)(from + i)));
#else
    memcpy(to, from, STREAM_LINE);
#endif
}

/* Write n bytes: whole lines past the caches, what is left at both ends as usual. */
static inline void stream_out(void *to_, const void *from_, int64_t n)
{
    char *to = to_;
    const char *from = from_;
    int64_t head = -(uintptr_t)to & (STREAM_LINE - 1);
    if (head > n) head = n;
    memcpy(to, from, head);
    to += head, from += head, n -= head;
    for (; n >= STREAM_LINE; n -= STREAM_LINE, to += STREAM_LINE, from += STREAM_LINE) stream_line(to, from);
    memcpy(to, from, n);
}

/* Let the other threads see what was written past the caches; each thread calls it when it has written. */
static inline void stream_end(void)
{
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

#endif
