/* Convolution by 3 x 3 kernels, stride 1, with fewer multiplications (Winograd, Toom and Cook).

   A tile of m x m results needs (m + 2)^2 multiplications for each channel in place of 9 m^2: with the input patch d and the
   kernel g seen as polynomials, both are evaluated at points along each axis, multiplied point by point, and the
   product's coefficients are found again:  y = A' [ (G g G') * (B' d B) ] A.  Summed over channels, the product at each of
   the (m + 2)^2 points is a product of matrices, outputs x channels times channels x tiles.

   - m = 2: points 0, 1, -1, infinity.  m = 4: points 0, 3/4, -3/4, 3/2, -3/2, infinity, which lose a third of the
     digits that the usual 0, 1, -1, 2, -2 lose; the error is then about that of a plain sum in float32.
   - Tiles run over the batch, side by side in vectors.  The rows that 16 tiles need are copied to strips (the columns
     of gemm.h with a vertical stride of m, once from each tile's begin and once from m further), taken apart by shuffles
     and transformed in registers; the result is at once the panels of B.
   - The weights are transformed to tiles of A whose rows lie side by side (k by k), 14 outputs at a time.
   - A task owns some outputs of a panel of tiles: the products at all points stay in L1 or L2 and are transformed
     back, finished and written from there.  Nothing of the three transforms is written to memory but the weights'.
   - A block of tiles whose panels fit into L2 is one task: nobody waits for anybody, and no thread reads what is in the
     other's cache.  When there is but one block, all threads transform it, then share out its outputs, whose weights
     are transformed where they are used.

   Sums over channels are taken in one go, in order, so any cut gives the same bits.  The gradient by weight is in
   winograd_weight.h. */
#ifndef CAFFEBN_WINOGRAD_H
#define CAFFEBN_WINOGRAD_H

#include "gemm.h"

#define WINOGRAD_CHANNELS 8         /* channels whose strips are in L1 */
#define WINOGRAD_BYTES (5 << 17)    /* of the panels of a block */

#define IMPL "winograd_impl.h"
#include "for_reals.h"

#endif
