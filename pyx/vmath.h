/* Exponentials, logarithms and what is made of them, for loops that the compiler turns into vector code.

   The functions are free of branches, tables and calls, so that a loop over an array runs in vector registers of any
   width; a value alone is computed by the same steps.  Nothing is fused or reordered: every instruction-set level gives
   the same bits.  Polynomials are minimax approximations, made for this file.

   Largest errors found, in units in the last place, float / double (tests/ops/test_elementwise.py holds them):
   exp 0.96 / 0.93, expm1 of negative numbers 0.86 / 1.1, log 0.83 / 0.82, log1p from 0 to 1 1.3 / 1.2, tanh 2.5 / 2.5;
   powers of floats 0.51.  Denormal numbers, infinities and NaN are treated as in the C library. */
#ifndef CAFFEBN_VMATH_H
#define CAFFEBN_VMATH_H

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Loops whose elements do not depend on each other, though an output may be one of the inputs. */
#if defined(__clang__)
#define VM_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define VM_INDEPENDENT _Pragma("GCC ivdep")
#endif

#define VM_INLINE static inline __attribute__((always_inline))

/* The whole part of a number. */
#define vm_cut_float __builtin_truncf
#define vm_cut_double __builtin_trunc

#define VM_JOIN2(a, b) a##b
#define VM_JOIN(a, b) VM_JOIN2(a, b)

#define REAL float
#define BITS uint32_t
#define FN(name) VM_JOIN(name, _float)
#define VM_MANTISSA 23
#define VM_BIAS 127
#define VM_SHIFTER 0x1.8p23f              /* adding it rounds to a whole number, which stands in the low bits */
#define VM_LN2_HIGH 0x1.63p-1f            /* ln 2 = HIGH + LOW; HIGH is short, its products with exponents are exact */
#define VM_LN2_LOW -2.12194440054690583e-4f
#define VM_EXP_LEAST -104.0f              /* exp is 0 below and infinite above */
#define VM_EXP_MOST 89.0f
#define VM_EXPM1_LEAST -18.0f             /* expm1 is -1 below */
#define VM_SQRT_HALF 0x1.6a09e6p-1f
#define VM_TINY FLT_MIN
#define VM_LARGEST FLT_MAX
/* (exp(r) - 1 - r) / r^2 for |r| <= ln(2) / 2, to 0.001 of a unit of exp */
#define VM_EXP(r) \
    (0.500000007791f + (r) * (0.166666668601f + (r) * (0.0416662699261f + (r) * (0.00833326449188f + (r) \
     * (0.00139460745623f + (r) * 0.000199183126094f)))))
/* (log((1 + s) / (1 - s)) / s - 2) / s^2 as a function of z = s^2, for |s| <= 0.172, to 0.02 of a unit */
#define VM_LOG(z) (0.66666776443115602f + (z) * (0.39977532981639361f + (z) * 0.29871983312220711f))
#include "vmath_impl.h"
#undef REAL
#undef BITS
#undef FN
#undef VM_MANTISSA
#undef VM_BIAS
#undef VM_SHIFTER
#undef VM_LN2_HIGH
#undef VM_LN2_LOW
#undef VM_EXP_LEAST
#undef VM_EXP_MOST
#undef VM_EXPM1_LEAST
#undef VM_SQRT_HALF
#undef VM_TINY
#undef VM_LARGEST
#undef VM_EXP
#undef VM_LOG

#define REAL double
#define BITS uint64_t
#define FN(name) VM_JOIN(name, _double)
#define VM_MANTISSA 52
#define VM_BIAS 1023
#define VM_SHIFTER 0x1.8p52
#define VM_LN2_HIGH 0x1.62e42feep-1
#define VM_LN2_LOW 1.90821492927058770e-10
#define VM_EXP_LEAST -746.0
#define VM_EXP_MOST 710.0
#define VM_EXPM1_LEAST -38.0
#define VM_SQRT_HALF 0x1.6a09e667f3bcdp-1
#define VM_TINY DBL_MIN
#define VM_LARGEST DBL_MAX
#define VM_EXP(r) \
    (0.49999999999999999967 + (r) * (0.16666666666666683845 + (r) * (0.041666666666666723658 \
     + (r) * (0.0083333333333167382885 + (r) * (0.0013888888888858774803 + (r) * (0.00019841269897059845602 \
     + (r) * (0.000024801587373182022521 + (r) * (2.755723423580939016e-6 + (r) * (2.7557233781931257514e-7 \
     + (r) * (2.5112240207825395275e-8 + (r) * 2.0926825203572246095e-9))))))))))
#define VM_LOG(z) \
    (0.66666666666667345039 + (z) * (0.39999999999413984944 + (z) * (0.28571428742558765467 \
     + (z) * (0.22222198554024347112 + (z) * (0.18183565399948409086 + (z) * (0.15314021183074212528 \
     + (z) * 0.14796261658753787774))))))
#include "vmath_impl.h"
#undef REAL
#undef BITS
#undef FN
#undef VM_MANTISSA
#undef VM_BIAS
#undef VM_SHIFTER
#undef VM_LN2_HIGH
#undef VM_LN2_LOW
#undef VM_EXP_LEAST
#undef VM_EXP_MOST
#undef VM_EXPM1_LEAST
#undef VM_SQRT_HALF
#undef VM_TINY
#undef VM_LARGEST
#undef VM_EXP
#undef VM_LOG

/* x to a power that is neither 0 nor infinite; `whole`, `odd`: what kind of number it is. */
VM_INLINE float vm_pow_float(float x, double power, int whole, int odd)
{
    const float size = (float)vm_exp_double(power * vm_log_double(__builtin_fabs((double)x)));
    if (odd) return __builtin_copysignf(size, x);
    if (whole) return size;
    const float without = x < 0 ? NAN : size;
    return x < -FLT_MAX ? size : without;
}

#endif
