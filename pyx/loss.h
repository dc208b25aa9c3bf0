/* The sums of loss.pyx that are worth vector code, each over a stretch of an array, in a fixed number of double lanes. */
#ifndef CAFFEBN_LOSS_H
#define CAFFEBN_LOSS_H

#include "lanes.h"
#include "vmath.h"

#define REAL float
#define FN(name) VM_JOIN(name, _float)
#define LOSS_CUT(x) __builtin_truncf(x)
#include "loss_impl.h"
#undef REAL
#undef FN
#undef LOSS_CUT

#define REAL double
#define FN(name) VM_JOIN(name, _double)
#define LOSS_CUT(x) __builtin_trunc(x)
#include "loss_impl.h"
#undef REAL
#undef FN
#undef LOSS_CUT

#endif
