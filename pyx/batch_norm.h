/* The inner loops of batch_norm.pyx; see channel.h. */
#ifndef CAFFEBN_BATCH_NORM_H
#define CAFFEBN_BATCH_NORM_H

#include "channel.h"

/* The vectors of a call, each of one row of a matrix: [vector * width + column]. */
enum { HIGH, LOW, FACTOR, SCALE, SHIFT, FROM, TO, BY_DZ, BY_X, CONSTANT, VECTORS };

/* Where the sign of the activation's output is found. */
enum {
    NO_ACTIVATION,
    FROM_Y,              /* in the output */
    FROM_INTERVAL,       /* in x, by way of the interval that normalising and affine map make positive */
    FROM_MAP             /* in x, by normalising and mapping it once more */
};

#define IMPL "batch_norm_impl.h"
#include "for_reals.h"

#endif
