/* The sums of loss.pyx that are worth vector code, each over a stretch of an array, in a fixed number of double lanes. */
#ifndef CAFFEBN_LOSS_H
#define CAFFEBN_LOSS_H

#include "vmath.h"

enum { LOSS_LANES = 16 };

static inline double loss_total(const double *lane)
{
    double half[8];
    for (int i = 0; i < 8; i++) half[i] = lane[i] + lane[i + 8];
    return ((half[0] + half[4]) + (half[2] + half[6])) + ((half[1] + half[5]) + (half[3] + half[7]));
}

/* A loop over lanes, which gcc would otherwise unroll before it looks for vectors. */
#define LOSS_EACH(l) _Pragma("GCC unroll 1") for (int l = 0; l < LOSS_LANES; l++)

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
