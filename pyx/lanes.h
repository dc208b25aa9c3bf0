/* Sums in lanes.

   A sum is kept in LANES double-precision lanes: element i of a row goes to lane i % LANES, and lanes_total adds the
   lanes in a fixed order.  The compiler can then use vector registers of any width without reordering anything, so
   every instruction-set level gives the same bits; and a float32 sum loses nothing that matters. */
#ifndef CAFFEBN_LANES_H
#define CAFFEBN_LANES_H

enum { LANES = 16 };

/* A loop over the lanes, which gcc would otherwise unroll before it looks for vectors. */
#define EACH_LANE(l) _Pragma("GCC unroll 1") for (int l = 0; l < LANES; l++)

/* Sum of the lanes, in pairs. */
static inline double lanes_total(const double *lane)
{
    double half[8];
    for (int i = 0; i < 8; i++) half[i] = lane[i] + lane[i + 8];
    return ((half[0] + half[4]) + (half[2] + half[6])) + ((half[1] + half[5]) + (half[3] + half[7]));
}

#endif
