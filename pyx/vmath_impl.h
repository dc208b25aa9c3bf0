/* The part of vmath.h that is compiled for float and for double. */

VM_INLINE BITS FN(vm_bits)(REAL x)
{
    BITS u;
    memcpy(&u, &x, sizeof u);
    return u;
}

VM_INLINE REAL FN(vm_from_bits)(BITS u)
{
    REAL x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* 2^k, k being `whole` - SHIFTER, which must be within the exponents of normal numbers. */
VM_INLINE REAL FN(vm_two_to)(REAL whole)
{
    return FN(vm_from_bits)((FN(vm_bits)(whole) - FN(vm_bits)(VM_SHIFTER) + VM_BIAS) << VM_MANTISSA);
}

VM_INLINE REAL FN(vm_exp)(REAL x)
{
    x = x > VM_EXP_MOST ? VM_EXP_MOST : x;
    x = x < VM_EXP_LEAST ? VM_EXP_LEAST : x;
    const REAL shifted = x * (REAL)1.44269504088896340736 + VM_SHIFTER, k = shifted - VM_SHIFTER;
    const REAL r = (x - k * VM_LN2_HIGH) - k * VM_LN2_LOW;
    const REAL y = 1 + (r + r * r * VM_EXP(r));
    /* 2^k in two factors, for the largest and the denormal results */
    const REAL half = k * (REAL)0.5 + VM_SHIFTER, rest = (k - (half - VM_SHIFTER)) + VM_SHIFTER;
    return y * FN(vm_two_to)(half) * FN(vm_two_to)(rest);
}

/* exp(x) - 1 for x <= 0. */
VM_INLINE REAL FN(vm_expm1_negative)(REAL x)
{
    x = x < VM_EXPM1_LEAST ? VM_EXPM1_LEAST : x;
    const REAL shifted = x * (REAL)1.44269504088896340736 + VM_SHIFTER, k = shifted - VM_SHIFTER;
    const REAL r = (x - k * VM_LN2_HIGH) - k * VM_LN2_LOW;
    const REAL p = r + r * r * VM_EXP(r), power = FN(vm_two_to)(shifted);
    return power * p + (power - 1);
}

VM_INLINE REAL FN(vm_log)(REAL x)
{
    const BITS offset = FN(vm_bits)(VM_SQRT_HALF), one = (BITS)1 << VM_MANTISSA;
    const REAL enlarged = x * (REAL)one, scaled = x < VM_TINY ? enlarged : x;
    const REAL shift = x < VM_TINY ? (REAL)VM_MANTISSA : (REAL)0;
    /* x = 2^k (1 + f), 1 + f from sqrt(1/2) to sqrt(2) */
    const BITS u = FN(vm_bits)(scaled) - offset + (BITS)VM_BIAS * one;
    const REAL whole = FN(vm_from_bits)((u >> VM_MANTISSA) | FN(vm_bits)((REAL)one));
    const REAL k = whole - ((REAL)one + VM_BIAS) - shift;
    const REAL f = FN(vm_from_bits)((u & (one - 1)) + offset) - 1;
    const REAL s = f / (2 + f), z = s * s, square = (REAL)0.5 * f * f, tail = s * (square + z * VM_LOG(z));
    REAL y = k * VM_LN2_HIGH - ((square - (tail + k * VM_LN2_LOW)) - f);
    y = x > 0 ? y : (REAL)NAN;
    y = x == 0 ? -(REAL)INFINITY : y;
    return x > VM_LARGEST ? x : y;
}

/* log(1 + x) for x from 0 to 1. */
VM_INLINE REAL FN(vm_log1p_unit)(REAL x)
{
    const REAL u = 1 + x;
    return FN(vm_log)(u) + (x - (u - 1)) / u;
}

VM_INLINE REAL FN(vm_tanh)(REAL x)
{
    const REAL m = FN(vm_expm1_negative)(-2 * (REAL)__builtin_fabs(x)), t = -m / (2 + m);
    return (REAL)__builtin_copysign(t, x);
}

/* The logistic function in Caffe's form. */
VM_INLINE REAL FN(vm_logistic)(REAL x)
{
    return (REAL)0.5 * FN(vm_tanh)((REAL)0.5 * x) + (REAL)0.5;
}
