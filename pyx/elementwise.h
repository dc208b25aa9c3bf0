/* The maps of elementwise.pyx that need exponentials or logarithms: one stretch of an array each. */
#ifndef CAFFEBN_ELEMENTWISE_H
#define CAFFEBN_ELEMENTWISE_H

#include "vmath.h"

#define IMPL "elementwise_impl.h"
#include "for_reals.h"

static void power_map_float(const float *x, float *y, ptrdiff_t n, float power, float scale, float shift)
{
    const int whole = floorf(power) == power, odd = whole && fmodf(power, 2) != 0;
    if (power == 0)
        for (ptrdiff_t i = 0; i < n; i++) y[i] = 1;
    else if (__builtin_isinf(power))
        for (ptrdiff_t i = 0; i < n; i++) y[i] = powf(shift + scale * x[i], power);
    else if (odd) {
        VM_INDEPENDENT
        for (ptrdiff_t i = 0; i < n; i++) y[i] = vm_pow_float(shift + scale * x[i], power, 1, 1);
    } else if (whole) {
        VM_INDEPENDENT
        for (ptrdiff_t i = 0; i < n; i++) y[i] = vm_pow_float(shift + scale * x[i], power, 1, 0);
    } else {
        VM_INDEPENDENT
        for (ptrdiff_t i = 0; i < n; i++) y[i] = vm_pow_float(shift + scale * x[i], power, 0, 0);
    }
}

/* A power in double precision would need a logarithm of more than that; the maths library has one. */
static void power_map_double(const double *x, double *y, ptrdiff_t n, double power, double scale, double shift)
{
    for (ptrdiff_t i = 0; i < n; i++) y[i] = pow(shift + scale * x[i], power);
}

#endif
