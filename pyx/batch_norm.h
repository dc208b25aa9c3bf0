/* The inner loops of batch_norm.pyx; see channel.h. */
#ifndef CAFFEBN_BATCH_NORM_H
#define CAFFEBN_BATCH_NORM_H

#include "channel.h"

/* The vectors of a call, each of one row of a matrix: [vector * width + column]. */
enum { HIGH, LOW, FACTOR, SCALE, SHIFT, BY_DZ, BY_X, CONSTANT, VECTORS };

/* Where the sign of the activation's output is found. */
enum {
    NO_ACTIVATION,
    FROM_Y,              /* in the output */
    FROM_BATCH,          /* in x, by way of normalising and affine map in the tensors' dtype */
    FROM_FROZEN          /* in x, by way of the folded affine map in double precision */
};

/* Floats are widened from memory: from halves of a register it takes two and a half times as many instructions. */
#define REAL float
#define PART_OF WIDENED
#define IN_MEMORY(array) __asm__("" : "+m"(array))
#define FN(name) CHANNEL_JOIN(name, _float)
#include "batch_norm_impl.h"
#undef REAL
#undef PART_OF
#undef IN_MEMORY
#undef FN

#define REAL double
#define PART_OF LOADED
#define IN_MEMORY(array) (void)0
#define FN(name) CHANNEL_JOIN(name, _double)
#include "batch_norm_impl.h"
#undef REAL
#undef PART_OF
#undef IN_MEMORY
#undef FN

#endif
