/* Writing past the caches.

   A store reads the line that it changes into the cache, and some day the line goes back to memory: two transfers.  A
   whole line that is written past the cache is one.  For results that are larger than the caches that saves a third of
   what a copy moves; they would not be there any more when somebody reads them.

   Kernels compute a line and write it at once, so that memory is read while it is written. */
#ifndef CAFFEBN_STREAM_H
#define CAFFEBN_STREAM_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX__) || defined(__SSE2__)
#include <immintrin.h>
#endif

enum {
    STREAM_LINE = 64,
    STREAM_BYTES = 16 << 20             /* of a result, from which on it is written past the caches */
};

/* Bytes before the first whole line. */
static inline int64_t stream_head(const void *to)
{
    return -(uintptr_t)to & (STREAM_LINE - 1);
}

/* Write one line, which lies at a multiple of its size, as does what it is made of. */
static inline __attribute__((always_inline)) void stream_line(char *to, const char *from)
{
#if defined(__AVX512F__)
    _mm512_stream_ps((float *)to, _mm512_load_ps((const float *)from));
#elif defined(__AVX__)
    for (int i = 0; i < STREAM_LINE; i += 32)
        _mm256_stream_ps((float *)(to + i), _mm256_load_ps((const float *)(from + i)));
#elif defined(__SSE2__)
    for (int i = 0; i < STREAM_LINE; i += 16)
        _mm_stream_ps((float *)(to + i), _mm_load_ps((const float *)(from + i)));
#else
    memcpy(to, from, STREAM_LINE);
#endif
}

/* Write n bytes, whole lines. */
static inline __attribute__((always_inline)) void stream_lines(void *to, const void *from, int64_t n)
{
    for (int64_t i = 0; i < n; i += STREAM_LINE) stream_line((char *)to + i, (const char *)from + i);
}

/* Let the other threads see what was written past the caches; each thread calls it when it has written. */
static inline void stream_end(void)
{
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

#endif
