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

/* How the gradient by weight is cut: rows and panels of a task. */
typedef struct { int64_t rows, panels; } conv_cut;

/* Choose the cut whose slowest thread has least to do.  Costs are cycles for one k: a panel and a row take 1 (NV
   multiply-adds, two a cycle), copying a row of a panel 13, copying a row of A about 0.2. */
static inline conv_cut conv_choose(int64_t rows, int64_t n_panels, int64_t groups, int n_threads)
{
    conv_cut best = {rows, GEMM_PANELS};
    double least = -1;
    if (n_threads == 1) {
        best.panels = GEMM_MIN(n_panels, GEMM_PANELS);
        return best;
    }
    for (int64_t shares = 1; shares <= 4 * n_threads && (shares == 1 || rows / shares >= GEMM_MR); shares++)
        for (int64_t panels = GEMM_MIN(n_panels, GEMM_PANELS); panels >= 1; panels--) {
            const int64_t share = gemm_ceil_div(rows, shares), blocks = gemm_ceil_div(n_panels, panels);
            const int64_t rounds = gemm_ceil_div(shares * blocks * groups, n_threads);
            const double cost = (double)rounds * (panels * (share + 13) + 0.2 * share + 8);
            if (least < 0 || cost < least * 0.99) {
                least = cost;
                best = (conv_cut){share, panels};
            }
        }
    return best;
}

#define IMPL "conv_impl.h"
#include "for_reals.h"

#endif
