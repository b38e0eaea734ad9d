#ifndef MINIGRAD_TILE_H
#define MINIGRAD_TILE_H

#include <stddef.h>

#define VECTOR_BYTES 32
#define OUTER_ROWS 6
#define DOT_ROWS 4
#define DOT_COLUMNS 3

/* The two tiles as plain loops: their definition, and what runs where there are no vector types. */

#define PLAIN_TILES(real)                                                                                    \
static void plain_outer_##real(int rows, ptrdiff_t depth, const real *a, const real *b, real *c,             \
                               ptrdiff_t stride, const real *start)                                          \
{                                                                                                            \
    for (int r = 0; r < rows; r++)                                                                           \
        for (ptrdiff_t s = 0; s < 2 * VECTOR_BYTES / (ptrdiff_t)sizeof(real); s++) {                         \
            real sum = start ? start[r] : c[r * stride + s];                                                 \
            for (ptrdiff_t k = 0; k < depth; k++)                                                            \
                sum += a[k * rows + r] * b[k * (2 * VECTOR_BYTES / (ptrdiff_t)sizeof(real)) + s];            \
            c[r * stride + s] = sum;                                                                         \
        }                                                                                                    \
}                                                                                                            \
static void plain_dot_##real(int rows, ptrdiff_t depth, const real *a, ptrdiff_t lda, const real *b,         \
                             ptrdiff_t ldb, real *c, ptrdiff_t ldc)                                          \
{                                                                                                            \
    for (int r = 0; r < rows; r++)                                                                           \
        for (int s = 0; s < DOT_COLUMNS; s++) {                                                              \
            real sum = 0;                                                                                    \
            for (ptrdiff_t k = 0; k < depth; k++)                                                            \
                sum += a[r * lda + k] * b[s * ldb + k];                                                      \
            c[r * ldc + s] += sum;                                                                           \
        }                                                                                                    \
}
PLAIN_TILES(float)
PLAIN_TILES(double)

#if defined(__GNUC__)
#define VECTOR_TILES 1

#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__FMA__) && (!defined(__clang__) || __clang_major__ >= 14)
#define CLONES __attribute__((target_clones("fma", "default")))
#else
#define CLONES
#endif
#define UNROLL _Pragma("GCC unroll 6")

typedef float vector_float __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(float)), may_alias));
typedef double vector_double __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(double)), may_alias));

#define LANES(real) (VECTOR_BYTES / (ptrdiff_t)sizeof(real))
#define AT(real, p) (*(vector_##real *)(p))

#define OUTER(real, rows)                                                                                    \
CLONES static void outer_##real##_##rows(ptrdiff_t depth, const real *a, const real *b, real *c,             \
                                         ptrdiff_t stride, const real *start)                                \
{                                                                                                            \
    vector_##real sum[rows][2];                                                                              \
    UNROLL for (int r = 0; r < rows; r++)                                                                    \
        if (start)                                                                                           \
            sum[r][0] = sum[r][1] = start[r] - (vector_##real){0};                                           \
        else {                                                                                               \
            sum[r][0] = AT(real, c + r * stride);                                                            \
            sum[r][1] = AT(real, c + r * stride + LANES(real));                                              \
        }                                                                                                    \
    for (ptrdiff_t k = 0; k < depth; k++, a += rows, b += 2 * LANES(real)) {                                 \
        const vector_##real left = AT(real, b), right = AT(real, b + LANES(real));                           \
        UNROLL for (int r = 0; r < rows; r++) {                                                              \
            sum[r][0] += a[r] * left;                                                                        \
            sum[r][1] += a[r] * right;                                                                       \
        }                                                                                                    \
    }                                                                                                        \
    UNROLL for (int r = 0; r < rows; r++) {                                                                  \
        AT(real, c + r * stride) = sum[r][0];                                                                \
        AT(real, c + r * stride + LANES(real)) = sum[r][1];                                                  \
    }                                                                                                        \
}

#define DOT(real, rows)                                                                                      \
CLONES static void dot_##real##_##rows(ptrdiff_t depth, const real *a, ptrdiff_t lda, const real *b,         \
                                       ptrdiff_t ldb, real *c, ptrdiff_t ldc)                                \
{                                                                                                            \
    vector_##real sum[rows][3] = {{{0}}};                                                                    \
    for (ptrdiff_t k = 0; k < depth; k += LANES(real), a += LANES(real), b += LANES(real)) {                 \
        const vector_##real b0 = AT(real, b), b1 = AT(real, b + ldb), b2 = AT(real, b + 2 * ldb);            \
        UNROLL for (int r = 0; r < rows; r++) {                                                              \
            const vector_##real row = AT(real, a + r * lda);                                                 \
            sum[r][0] += row * b0;                                                                           \
            sum[r][1] += row * b1;                                                                           \
            sum[r][2] += row * b2;                                                                           \
        }                                                                                                    \
    }                                                                                                        \
    UNROLL for (int r = 0; r < rows; r++)                                                                    \
        UNROLL for (int s = 0; s < 3; s++) {                                                                 \
            real total = 0;                                                                                  \
            UNROLL for (int l = 0; l < LANES(real) / 2; l++)                                                 \
                total += sum[r][s][l] + sum[r][s][l + LANES(real) / 2];                                      \
            c[r * ldc + s] += total;                                                                         \
        }                                                                                                    \
}

#define TILES(real)                                                                                          \
OUTER(real, 1) OUTER(real, 2) OUTER(real, 3) OUTER(real, 4) OUTER(real, 5) OUTER(real, 6)                    \
DOT(real, 1) DOT(real, 2) DOT(real, 3) DOT(real, 4)
TILES(float)
TILES(double)
#else
#define VECTOR_TILES 0
#endif

static int plain_tiles = !VECTOR_TILES;

#if VECTOR_TILES
#define CASE(name, real, rows, ...) case rows: name##_##real##_##rows(__VA_ARGS__); return
#define DISPATCH(real)                                                                                       \
static void outer_##real(int rows, ptrdiff_t depth, const real *a, const real *b, real *c, ptrdiff_t stride, \
                         const real *start)                                                                  \
{                                                                                                            \
    static void (*const tile[])(ptrdiff_t, const real *, const real *, real *, ptrdiff_t, const real *) = {  \
        0, outer_##real##_1, outer_##real##_2, outer_##real##_3, outer_##real##_4, outer_##real##_5,         \
        outer_##real##_6};                                                                                   \
    if (plain_tiles)                                                                                         \
        plain_outer_##real(rows, depth, a, b, c, stride, start);                                             \
    else                                                                                                     \
        tile[rows](depth, a, b, c, stride, start);                                                           \
}                                                                                                            \
static void dot_##real(int rows, ptrdiff_t depth, const real *a, ptrdiff_t lda, const real *b,               \
                       ptrdiff_t ldb, real *c, ptrdiff_t ldc)                                                \
{                                                                                                            \
    static void (*const tile[])(ptrdiff_t, const real *, ptrdiff_t, const real *, ptrdiff_t, real *,         \
                                ptrdiff_t) = {                                                               \
        0, dot_##real##_1, dot_##real##_2, dot_##real##_3, dot_##real##_4};                                  \
    if (plain_tiles)                                                                                         \
        plain_dot_##real(rows, depth, a, lda, b, ldb, c, ldc);                                               \
    else                                                                                                     \
        tile[rows](depth, a, lda, b, ldb, c, ldc);                                                           \
}
#else
#define DISPATCH(real)
#define outer_float plain_outer_float
#define outer_double plain_outer_double
#define dot_float plain_dot_float
#define dot_double plain_dot_double
#endif
DISPATCH(float)
DISPATCH(double)

#endif
