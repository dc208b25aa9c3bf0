/* Convolution as products of matrices, in all three directions; see conv.pyx for the ideas. */
#ifndef CAFFEBN_CONV_H
#define CAFFEBN_CONV_H

#include "gemm.h"

#define CONV_SLABS 16           /* most parts into which a sum over places is cut */
#define CONV_SUMS (1 << 17)     /* sums of weights' gradients that a task holds, in L2 */

/* Parts into which the sum over places is cut, which depends on sizes alone: small weights, many places. */
static inline int64_t conv_slabs(int64_t weights, int64_t depth)
{
    const int64_t slabs = GEMM_MIN(GEMM_MIN(CONV_SLABS, (1 << 18) / GEMM_MAX(weights, 1)), depth / (4 * GEMM_KC));
    return GEMM_MAX(slabs, 1);
}

#define IMPL "conv_impl.h"
#include "for_reals.h"

#endif
