/* The exponential function, several numbers at a time, without a call: a loop that has nothing but this and arithmetic
 * becomes vectors.
 *
 *     exp x = 2^n exp r,   n = the whole number next to x / log 2,   r = x - n log 2, at most log(2) / 2 = 0.35 away from 0
 *
 * - n. Added to 1.5 2^m, m the bits of a significand, x / log 2 loses what stands behind the point, and n stands in the
 *   lowest bits of the sum, ready to be read as an integer.
 * - r. log 2 is taken in two parts. The first has so few bits that n times it is exact, and the subtraction, too.
 * - exp r is its Taylor series. The first term left out is under 1/8 of the last bit: r^8 / 8! < 6e-9 in single
 *   precision, r^14 / 14! < 5e-18 in double.
 * - 2^n is a number whose exponent bits say n. It is multiplied on in two halves, for with one the smallest results
 *   would not be exact: 2^-149 has no exponent bits of its own.
 *
 * Arguments beyond those where the result is 0 or infinite are moved to the border; NaN stays NaN. The error is under
 * one unit in the last place.
 */
#ifndef MINIGRAD_EXP_H
#define MINIGRAD_EXP_H

#include <stdint.h>

#include "clones.h"

/* Functions of such loops are compiled three times, and the loader takes what the processor has: vectors of 64 bytes,
 * of 32 bytes, or those that any x86-64 processor has. */
#if !defined(__clang__) && __GNUC__ >= 12
#define EXP_CLONES CLONES("arch=x86-64-v4", "arch=x86-64-v3")
#else
#define EXP_CLONES
#endif

static inline float exp_float(float x)
{
    const float whole = 12582912; /* 1.5 2^23 */
    union { float number; int32_t bits; } shifted, half, rest;
    x = x < -104 ? -104 : x > 89 ? 89 : x;
    shifted.number = x * 1.44269504f + whole;
    const int32_t n = shifted.bits - 0x4B400000, first = n >> 1;
    const float c = shifted.number - whole, r = (x - c * 0.693359375f) + c * 2.12194440e-4f;
    float p = 1 / 5040.f;
    p = p * r + 1 / 720.f;
    p = p * r + 1 / 120.f;
    p = p * r + 1 / 24.f;
    p = p * r + 1 / 6.f;
    p = p * r + 1 / 2.f;
    p = p * r + 1;
    p = p * r + 1;
    half.bits = (first + 127) << 23;
    rest.bits = (n - first + 127) << 23;
    return p * half.number * rest.number;
}

static inline double exp_double(double x)
{
    const double whole = 6755399441055744; /* 1.5 2^52 */
    union { double number; int64_t bits; } shifted, half, rest;
    x = x < -746 ? -746 : x > 710 ? 710 : x;
    shifted.number = x * 1.4426950408889634 + whole;
    const int64_t n = (int32_t)(shifted.bits - 0x4338000000000000), first = (int32_t)n >> 1;
    const double c = shifted.number - whole;
    const double r = (x - c * 6.93147180369123816490e-1) - c * 1.90821492927058770002e-10;
    double p = 1 / 6227020800.;
    p = p * r + 1 / 479001600.;
    p = p * r + 1 / 39916800.;
    p = p * r + 1 / 3628800.;
    p = p * r + 1 / 362880.;
    p = p * r + 1 / 40320.;
    p = p * r + 1 / 5040.;
    p = p * r + 1 / 720.;
    p = p * r + 1 / 120.;
    p = p * r + 1 / 24.;
    p = p * r + 1 / 6.;
    p = p * r + 1 / 2.;
    p = p * r + 1;
    p = p * r + 1;
    half.bits = (first + 1023) << 52;
    rest.bits = (n - first + 1023) << 52;
    return p * half.number * rest.number;
}

#endif
