/* Matrix products for gemm.pyx and conv.pyx: one microkernel, written with vector extensions.

   The product is C[m, q] = sum_k A[m, k] * B[k, q] (+ what C holds, or a bias for each row).

   - The microkernel keeps GEMM_MR x (nv vectors) sums in registers, nv = 1 .. GEMM_NV, so that a
     narrow last panel (49 columns = 48 + 1) costs little more than its share.
   - Rows of A that lie unit-stride in memory (weights) are read in place: only one scalar of each
     row is needed at a time, and the rows of a tile stay in L1 while the panels pass by.  Otherwise
     a panel of A is copied.
   - B is copied panel by panel, zero-padded to whole vectors.  Its elements are found through two
     tables of offsets (one for k, one for q), which makes a convolution a product without a column
     buffer: offset(k) walks through channels and kernel positions, offset(q) through outputs.
   - Columns run over a whole batch: column q is place q % places of image q / places.
   - The sum over k of one element is always taken in the same order, in blocks of GEMM_KC, however
     rows and columns are cut into tasks.  So any number of threads gives the same bits.

   Fused multiply-add is allowed here (the flags of this file permit contraction): products are bound
   by arithmetic, and levels differ in rounding anyway by the order in which a vector sums. */
#ifndef CAFFEBN_GEMM_H
#define CAFFEBN_GEMM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#define GEMM_BYTES 64
#define GEMM_MR 8
#elif defined(__AVX__)
#define GEMM_BYTES 32
#define GEMM_MR 4
#elif defined(__aarch64__)
#define GEMM_BYTES 16
#define GEMM_MR 8
#else
#define GEMM_BYTES 16
#define GEMM_MR 4
#endif
#define GEMM_NV 3          /* vectors in a panel of B; MR * NV sums + NV + 1 registers */
#define GEMM_KC 256        /* depth of a block */
#define GEMM_PANELS 4      /* panels of B that a task holds: KC * PANELS * NV vectors, in L2 */

#define GEMM_JOIN2(a, b) a##b
#define GEMM_JOIN(a, b) GEMM_JOIN2(a, b)

#define REAL float
#define FN(name) GEMM_JOIN(name, _float)
#include "gemm_impl.h"
#undef REAL
#undef FN

#define REAL double
#define FN(name) GEMM_JOIN(name, _double)
#include "gemm_impl.h"
#undef REAL
#undef FN

#endif
