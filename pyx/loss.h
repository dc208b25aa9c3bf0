/* The sums of loss.pyx that are worth vector code, each over a stretch of an array, in a fixed number of double lanes. */
#ifndef CAFFEBN_LOSS_H
#define CAFFEBN_LOSS_H

#include "lanes.h"
#include "vmath.h"

#define IMPL "loss_impl.h"
#include "for_reals.h"

#endif
