/* Convolution where each group has one channel: each output plane is a sum of a few shifted planes.

   Bound by memory, so each plane is read once and written once.  A thread copies a plane into a frame of zeros of its own,
   which stays in L1 or L2; there all taps are plain sums without borders.  With a stride s along the last axis a row
   of the frame holds its columns modulo s one after the other, so that the elements which a tap meets lie side by
   side whatever the stride.  Rows of the frame are long enough for whole vectors behind the last place.

   Several rows are summed at a time, in registers.  What the last vector of a row writes too much is overwritten by
   the next row: columns go from right to left within such a band.

   `sizes`: image rows, image width, frame rows, pitch of a phase, stride, first column, output rows, output width,
   n_outer, n_inner; `tables`: frame row of each image row, of each output row, row offset of each outer tap,
   offset of each inner tap within a frame row. */
#ifndef CAFFEBN_DEPTHWISE_H
#define CAFFEBN_DEPTHWISE_H

#include "gemm.h"

#define DEPTHWISE_BAND 4

typedef struct {
    int64_t image_rows, image_width, frame_rows, pitch, stride, first, rows, width, n_outer, n_inner;
    const int64_t *image_row, *row, *outer, *inner;
} depthwise_plan;

static inline depthwise_plan depthwise_read(const int64_t *sizes, const int64_t *tables)
{
    depthwise_plan p = {sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6], sizes[7], sizes[8],
                        sizes[9], tables, NULL, NULL, NULL};
    p.row = p.image_row + p.image_rows;
    p.outer = p.row + p.rows;
    p.inner = p.outer + p.n_outer;
    return p;
}

/* Elements of a frame, and of the output plane with whole vectors in each row. */
static inline int64_t depthwise_frame(const depthwise_plan *p) { return p->frame_rows * p->pitch * p->stride; }
static inline int64_t depthwise_wide(const depthwise_plan *p) { return gemm_ceil_div(p->width, 16) * 16; }
static inline int64_t depthwise_scratch(const int64_t *sizes, int n_threads)
{
    const depthwise_plan p = depthwise_read(sizes, NULL);
    return n_threads * (depthwise_frame(&p) + p.rows * depthwise_wide(&p) + 2 * 16 * p.n_outer * p.n_inner + 48);
}

#define IMPL "depthwise_impl.h"
#include "for_reals.h"

#endif
