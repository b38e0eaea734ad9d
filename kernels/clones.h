/* CLONES("avx2") before a function: it is compiled twice, for any x86-64 processor and for those with vectors of 32
 * bytes, and the loader takes what the processor has. Results are the same to the bit, for neither fuses a product with
 * a sum; with "fma" the second does.
 */
#ifndef MINIGRAD_CLONES_H
#define MINIGRAD_CLONES_H

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__AVX2__) && \
    (!defined(__clang__) || __clang_major__ >= 14)
#define CLONES(...) __attribute__((target_clones(__VA_ARGS__, "default")))
#else
#define CLONES(...)
#endif

#endif
