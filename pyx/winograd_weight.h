/* The gradient by weight of convolutions by 3 x 3 kernels, stride 1, with fewer multiplications; see winograd.h.

   Of  y = A' [ (G g G') * (B' d B) ] A  the gradient by g is  G' [ sum over tiles of (A dy A') * (B' d B) ] G:  at each of
   the (m + 2)^2 points a product of matrices, outputs x tiles times tiles x channels.

   - Both operands want channels side by side, for each tile.  So images are turned first, vectors of channels for each
     place, into a frame of zeros that holds a few rows of tiles: 16 numbers of a tile are shuffled, not its 36
     transformed ones.  A tile's patch is then loaded as it lies and transformed without a shuffle, and what comes out is
     at once a row of a panel of B (x), or of a tile of A whose rows lie side by side (dy).
   - The sum over tiles is cut into slabs of whole rows of tiles: all outputs of a slab are transformed, then a task takes a
     panel of channels, transforms it into L2, multiplies it with one tile of outputs after the other, transforms the
     products of each back in L1 and L2, and adds 9 sums.  The products at all points never go to memory.
   - Where weights are few, slabs are summed in groups, each of which is the work of one thread, and the groups' sums
     are added at the end, in order.  Else all threads share each slab: first its outputs, then its panels.
   - Sums lie by tap, channels side by side, so that a slab is added without a shuffle; they are turned once, at the end.

   Slabs and groups depend on sizes alone, so any number of threads gives the same bits. */
#ifndef CAFFEBN_WINOGRAD_WEIGHT_H
#define CAFFEBN_WINOGRAD_WEIGHT_H

#include "winograd.h"

#define WINOGRAD_DEPTH 128          /* tiles of a slab, about: a panel of them is in L2 */
#define WINOGRAD_FRAME (1 << 15)    /* bytes of a frame, in L1 */
#define WINOGRAD_AHEAD 512          /* bytes that the lines of an image are asked for ahead */
#define WINOGRAD_GROUPS 16          /* most groups of slabs */
#define WINOGRAD_SUMS (1 << 20)     /* weights of all groups */

/* How the tiles are cut: rows of tiles of the batch, in slabs, in groups; depth: most tiles of a slab. */
typedef struct { int64_t down, across, rows, slabs, groups, depth; } winograd_cut;

static inline winograd_cut winograd_choose(int m, int64_t n_images, int64_t height, int64_t width, int64_t weights)
{
    winograd_cut cut = {gemm_ceil_div(height, m), gemm_ceil_div(width, m), 0, 0, WINOGRAD_GROUPS, 0};
    cut.rows = n_images * cut.down;
    cut.slabs = GEMM_MAX(GEMM_MIN(gemm_ceil_div(cut.rows * cut.across, WINOGRAD_DEPTH), cut.rows), 1);
    while (cut.groups > 1 && (cut.groups > cut.slabs || cut.groups * weights > WINOGRAD_SUMS)) cut.groups /= 2;
    cut.slabs = GEMM_MIN(gemm_ceil_div(cut.slabs, cut.groups) * cut.groups, GEMM_MAX(cut.rows, 1));
    cut.depth = gemm_ceil_div(cut.rows, cut.slabs) * cut.across;
    return cut;
}

#define IMPL "winograd_weight_impl.h"
#include "for_reals.h"

#endif
