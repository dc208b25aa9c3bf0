/* Powers of the scales for lrn.pyx, over a stretch of places.

   Nearly all nets have beta = 0.75: two roots, of the tensors' type, are quicker than a power and at most 3 units in the
   last place off.  Other powers are made of an exponential and a logarithm in double precision; of whole numbers, for
   which negative scales have powers, too, the maths library knows. */
#ifndef CAFFEBN_LRN_H
#define CAFFEBN_LRN_H

#include "vmath.h"

#define lrn_root_float __builtin_sqrtf
#define lrn_root_double __builtin_sqrt

#define IMPL "lrn_impl.h"
#include "for_reals.h"

#endif
