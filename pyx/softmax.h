/* What softmax.pyx does with one block of places of one item.

   The scores of a place lie `stride` apart.  A block is up to SOFTMAX_WIDTH neighbouring places, and each loop runs over
   them, class by class, in vector registers; where an item has one place (a classifier) it runs over the classes.  Sums
   over the classes are double: one for each place of a block, or LANES for the only place, which are added up in
   a fixed order. */
#ifndef CAFFEBN_SOFTMAX_H
#define CAFFEBN_SOFTMAX_H

#include "lanes.h"
#include "vmath.h"

enum {
    SOFTMAX_WIDTH = 256,    /* places of a block */
    SOFTMAX_NARROW = 8      /* items with fewer places (but one) are handled place by place */
};

#define IMPL "softmax_impl.h"
#include "for_reals.h"

#endif
