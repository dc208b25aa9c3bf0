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

enum { PIECE = 512 };    /* elements for which dz is kept, at most twice as many */

#define REAL float
#define FN(name) CHANNEL_JOIN(name, _float)
#include "batch_norm_impl.h"
#undef REAL
#undef FN

#define REAL double
#define FN(name) CHANNEL_JOIN(name, _double)
#include "batch_norm_impl.h"
#undef REAL
#undef FN

#endif
