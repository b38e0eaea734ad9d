/* CLONES before a function: it is compiled twice, for any x86-64 processor and for those with vectors of 32 bytes, and
 * the loader takes what the processor has. Results are the same to the bit, for none of the two fuses a product with a
 * sum. */
#ifndef MINIGRAD_CLONES_H
#define MINIGRAD_CLONES_H

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__AVX2__)
#define CLONES __attribute__((target_clones("avx2", "default")))
#else
#define CLONES
#endif

#endif
