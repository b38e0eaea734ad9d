/* The innermost tile of a packed matrix product.
 *
 * Everything that a convolution computes is a matrix product C += A B, and a product of large matrices is
 * a loop over small ones. The smallest, the tile, decides the speed, and there is one reason why it is
 * worth writing down with care: a processor multiplies and adds much faster than it loads.
 *
 * A core of today starts two fused multiply-adds a cycle, each on a vector of 32 bytes (8 floats or 4
 * doubles), and loads two vectors a cycle. A dot product needs two loads for one multiply-add: it runs at
 * half the speed at best. A tile of C that stays in registers does better. Take 6 rows of A and 2 vectors
 * of columns of B. For every k,
 *
 *                       b0           b1              2 loads
 *           a[0] |  sum[0][0]    sum[0][1]
 *           a[1] |  sum[1][0]    sum[1][1]           6 loads, each copied into all lanes of a vector
 *            ...       ...          ...
 *           a[5] |  sum[5][0]    sum[5][1]          12 multiply-adds: sum[r][j] += a[r] * b[j]
 *
 * 8 loads for 12 multiply-adds: the arithmetic is now the bottleneck, which is all one can ask for. The
 * sums are 12 independent chains, enough to hide the 4 cycles that one addition waits for the one before
 * it (4 cycles times 2 a cycle: 8 chains), and 12 sums, 2 columns and 1 row value are 15 of the 16 vector
 * registers of x86-64. That is why 6 x 2; a lower tile, down to 4 rows, is as fast, and rows are dealt so
 * that few are lower.
 *
 * Two tiles, for the two orders in which the operands lie in memory, and what they need:
 *
 *   outer   C[r, u] = start[r] + sum over k of A[r, k] B[k, u]        (without start: C[r, u] + ...)
 *           vectors along the columns u. A is packed: for each k, its `rows` values side by side. Row k of B
 *           is two vectors, at left + row[k] and right + row[k]: in a packed piece, or where it lies anyway.
 *   spread  C[r, u] += the same sum, B in a packed piece, row r of C at left + place[r] and right + place[r].
 *   dot     C[r, s] += sum over k of A[r, k] B[s, k]                  for DOT_COLUMNS rows s of B
 *           vectors along the sum index k, in which A and B are contiguous; the lanes are added at the end.
 *   add     C[row[r] ...] += A[r, ...]                                one vector of each row of a tile
 *           for a product that is not stored, but added to where the table says.
 *   turn    B[k, r] = A[r, k], a square of TURN(real) numbers a side, to pack what lies the other way round.
 *
 * Before it multiplies, `outer` asks for the piece of C that it will add to, both cache lines of each row, for a row
 * seldom begins where a line does. They arrive meanwhile; otherwise a tenth to a fifth of the time would be waiting.
 *
 * Each is written twice. The plain loops are the definition, and run wherever there are no vector types.
 * The others are the same loops with GNU vector types, which GCC and Clang translate for every processor:
 * `vector_float` is 8 floats, + and * act on each, a number times a vector acts on all. The loops over r
 * and j have constant bounds and are unrolled, so that `sum` becomes registers. On x86-64 each function is
 * compiled twice, for processors with AVX and FMA and for any other, and the loader takes what fits
 * (target_clones); the rest of the program needs to know nothing of it. The number of rows must be a
 * constant inside a tile, hence one function for each, made by a macro.
 *
 * Where the processor has vectors of 64 bytes, `outer` and `spread` take the two vectors of columns as one:
 * `parts` is 1, not 2. Where such a multiply-add occupies both units of 32 bytes (Zen 4), six sums are chains
 * enough and the peak is the same; but of what the processor has to decode nearly half is gone, so that tiles
 * overlap, and a neighbour on the same core slows them less. The sums are the same to the bit.
 */
#ifndef MINIGRAD_TILE_H
#define MINIGRAD_TILE_H

#include <stddef.h>

#include "clones.h"

#if defined(__GNUC__)
#define UNUSED __attribute__((unused)) /* a kernel takes from here what it needs */
#else
#define UNUSED
#endif

#define VECTOR_BYTES 32
#define OUTER_ROWS 6
#define DOT_ROWS 4
#define DOT_COLUMNS 3
#define WIDTH(real) ((int)(VECTOR_BYTES / sizeof(real)))
#define TURN(real) (WIDTH(real) / 2)

#if defined(__GNUC__)
#define prefetch(p) __builtin_prefetch(p)
#else
#define prefetch(p) ((void)0)
#endif

static int vector_bytes UNUSED; /* of the vectors in use: 0 for plain loops, 32 or 64 */

/* ---- Plain loops: what the tiles compute ---- */

#define PLAIN_TILES(real)                                                                                 \
UNUSED static void plain_outer_##real(int rows, ptrdiff_t depth, const real *a, const real *left,         \
                                      const real *right, const ptrdiff_t *row, real *c, ptrdiff_t stride, \
                                      const real *start)                                                  \
{                                                                                                         \
    for (int r = 0; r < rows; r++)                                                                        \
        for (int l = 0; l < 2 * WIDTH(real); l++) {                                                       \
            const real *b = l < WIDTH(real) ? left + l : right + l - WIDTH(real);                         \
            real sum = start ? start[r] : c[r * stride + l];                                              \
            for (ptrdiff_t k = 0; k < depth; k++)                                                         \
                sum += a[k * rows + r] * b[row[k]];                                                       \
            c[r * stride + l] = sum;                                                                      \
        }                                                                                                 \
}                                                                                                         \
UNUSED static void plain_spread_##real(int rows, ptrdiff_t depth, const real *a, const real *b,           \
                                       real *left, real *right, const ptrdiff_t *place)                   \
{                                                                                                         \
    for (int r = 0; r < rows; r++)                                                                        \
        for (int l = 0; l < 2 * WIDTH(real); l++) {                                                       \
            real sum = 0;                                                                                 \
            for (ptrdiff_t k = 0; k < depth; k++)                                                         \
                sum += a[k * rows + r] * b[k * 2 * WIDTH(real) + l];                                      \
            (l < WIDTH(real) ? left + l : right + l - WIDTH(real))[place[r]] += sum;                      \
        }                                                                                                 \
}                                                                                                         \
UNUSED static void plain_dot_##real(int rows, ptrdiff_t depth, const real *a, const real *b,              \
                                    ptrdiff_t stride, real *c, ptrdiff_t c_stride)                        \
{                                                                                                         \
    for (int r = 0; r < rows; r++)                                                                        \
        for (int s = 0; s < DOT_COLUMNS; s++) {                                                           \
            real sum = 0;                                                                                 \
            for (ptrdiff_t k = 0; k < depth; k++)                                                         \
                sum += a[r * stride + k] * b[s * stride + k];                                             \
            c[r * c_stride + s] += sum;                                                                   \
        }                                                                                                 \
}                                                                                                         \
UNUSED static void plain_add_##real(int rows, const real *a, ptrdiff_t stride, real *c,                   \
                                    const ptrdiff_t *row)                                                 \
{                                                                                                         \
    for (int r = 0; r < rows; r++)                                                                        \
        for (int l = 0; l < WIDTH(real); l++)                                                             \
            c[row[r] + l] += a[r * stride + l];                                                           \
}                                                                                                         \
UNUSED static void plain_turn_##real(const real *a, ptrdiff_t a_stride, real *b, ptrdiff_t b_stride)      \
{                                                                                                         \
    for (int r = 0; r < TURN(real); r++)                                                                  \
        for (int k = 0; k < TURN(real); k++)                                                              \
            b[k * b_stride + r] = a[r * a_stride + k];                                                    \
}
PLAIN_TILES(float)
PLAIN_TILES(double)

/* ---- The same with vectors ---- */

#if defined(__GNUC__) && !defined(MINIGRAD_PLAIN_TILES)

#define TWICE CLONES("fma")

#if defined(__x86_64__) && (defined(__clang__) || __GNUC__ >= 12)
#define ONE 1 /* part, if it is wide */
#define WIDE __attribute__((target("avx512f,avx512vl,fma")))
#define WIDEST_VECTORS (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") ? 64 : VECTOR_BYTES)
typedef float wide_float __attribute__((vector_size(2 * VECTOR_BYTES), aligned(sizeof(float)), may_alias));
typedef double wide_double __attribute__((vector_size(2 * VECTOR_BYTES), aligned(sizeof(double)), may_alias));
#define JOIN_float(x, y) __builtin_shufflevector(x, y, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
#define JOIN_double(x, y) __builtin_shufflevector(x, y, 0, 1, 2, 3, 4, 5, 6, 7)
#else
#define ONE 2
#define WIDEST_VECTORS VECTOR_BYTES
#endif

#define UNROLL _Pragma("GCC unroll 6")
#define VECTOR(real, p) (*(vector_##real *)(p)) /* the vector at p, which need not be aligned */

typedef float vector_float __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(float)), may_alias));
typedef double vector_double __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(double)), may_alias));
typedef float half_float __attribute__((vector_size(VECTOR_BYTES / 2), aligned(sizeof(float)), may_alias));
typedef double half_double __attribute__((vector_size(VECTOR_BYTES / 2), aligned(sizeof(double)), may_alias));

/* Half vectors, which every processor has, are turned by interleaving: of four rows the first with the third and
   the second with the fourth, then the results with one another: a b c d / e f g h / ... -> a i b j / ... ->
   a e i m / ... Adding the pieces on the way, four sums of four lanes become one vector of totals. */
#if defined(__clang__)
#define MIX4(x, y, i, j, k, l) __builtin_shufflevector(x, y, i, j, k, l)
#define MIX2(x, y, i, j) __builtin_shufflevector(x, y, i, j)
#else
typedef int four_int __attribute__((vector_size(16)));
typedef long long two_long __attribute__((vector_size(16)));
#define MIX4(x, y, i, j, k, l) __builtin_shuffle(x, y, (four_int){i, j, k, l})
#define MIX2(x, y, i, j) __builtin_shuffle(x, y, (two_long){i, j})
#endif
#define HALF(real, p) (*(half_##real *)(p))
#define LOW(x, y) MIX4(x, y, 0, 4, 1, 5)
#define HIGH(x, y) MIX4(x, y, 2, 6, 3, 7)

/* total[r] = the sum of the entries of h[r], for r < 4 */
static inline void totals_float(const half_float *h, float *total)
{
    const half_float p = LOW(h[0], h[2]) + HIGH(h[0], h[2]), q = LOW(h[1], h[3]) + HIGH(h[1], h[3]);
    HALF(float, total) = LOW(p, q) + HIGH(p, q);
}

static inline void totals_double(const half_double *h, double *total)
{
    HALF(double, total) = MIX2(h[0], h[1], 0, 2) + MIX2(h[0], h[1], 1, 3);
    HALF(double, total + 2) = MIX2(h[2], h[3], 0, 2) + MIX2(h[2], h[3], 1, 3);
}

/* A row of B and of the tile: two vectors, or one that is wide. */
#define PART_2(real) vector_##real
#define PART_1(real) wide_##real
#define ROW_2(real, left, right) {VECTOR(real, left), VECTOR(real, right)}
#define ROW_1(real, left, right) {JOIN_##real(VECTOR(real, left), VECTOR(real, right))}

/* sum += a column of A times a row of B */
#define ADD_COLUMN(real, parts, rows, left, right)                                                       \
    const PART_##parts(real) b[parts] = ROW_##parts(real, left, right);                                  \
    UNROLL for (int r = 0; r < rows; r++)                                                                \
        UNROLL for (int s = 0; s < parts; s++)                                                           \
            sum[r][s] += a[r] * b[s];

#define OUTER(compiled, real, parts, rows)                                                               \
compiled static void outer_##real##_##parts##_##rows(ptrdiff_t depth, const real *a, const real *left,   \
                                                     const real *right, const ptrdiff_t *row, real *c,   \
                                                     ptrdiff_t stride, const real *start)                \
{                                                                                                        \
    PART_##parts(real) sum[rows][parts];                                                                 \
    UNROLL for (int r = 0; r < rows; r++) {                                                              \
        __builtin_prefetch(c + r * stride, 1);                                                           \
        __builtin_prefetch(c + r * stride + 2 * WIDTH(real) - 1, 1);                                     \
        UNROLL for (int s = 0; s < parts; s++)                                                           \
            sum[r][s] = (PART_##parts(real)){0};                                                         \
    }                                                                                                    \
    for (ptrdiff_t k = 0; k < depth; k++, a += rows) {                                                   \
        ADD_COLUMN(real, parts, rows, left + row[k], right + row[k])                                     \
    }                                                                                                    \
    UNROLL for (int r = 0; r < rows; r++) {                                                              \
        PART_##parts(real) *out = (PART_##parts(real) *)(c + r * stride);                                \
        UNROLL for (int s = 0; s < parts; s++)                                                           \
            out[s] = start ? start[r] + sum[r][s] : out[s] + sum[r][s];                                  \
    }                                                                                                    \
}

#define SPREAD(compiled, real, parts, rows)                                                              \
compiled static void spread_##real##_##parts##_##rows(ptrdiff_t depth, const real *a, const real *panel, \
                                                      real *left, real *right, const ptrdiff_t *place)   \
{                                                                                                        \
    PART_##parts(real) sum[rows][parts] = {{{0}}};                                                       \
    for (ptrdiff_t k = 0; k < depth; k++, a += rows, panel += 2 * WIDTH(real)) {                         \
        ADD_COLUMN(real, parts, rows, panel, panel + WIDTH(real))                                        \
    }                                                                                                    \
    UNROLL for (int r = 0; r < rows; r++) {                                                              \
        union { PART_##parts(real) row[parts]; vector_##real half[2]; } v;                               \
        UNROLL for (int s = 0; s < parts; s++)                                                           \
            v.row[s] = sum[r][s];                                                                        \
        VECTOR(real, left + place[r]) += v.half[0];                                                      \
        VECTOR(real, right + place[r]) += v.half[1];                                                     \
    }                                                                                                    \
}

#define DOT(real, rows)                                                                                  \
TWICE static void dot_##real##_##rows(ptrdiff_t depth, const real *a, const real *b, ptrdiff_t stride,   \
                                      real *c, ptrdiff_t c_stride)                                       \
{                                                                                                        \
    vector_##real sum[rows][DOT_COLUMNS] = {{{0}}};                                                      \
    for (ptrdiff_t k = 0; k < depth; k += WIDTH(real), a += WIDTH(real), b += WIDTH(real)) {             \
        const vector_##real b0 = VECTOR(real, b), b1 = VECTOR(real, b + stride),                         \
                            b2 = VECTOR(real, b + 2 * stride);                                           \
        UNROLL for (int r = 0; r < rows; r++) {                                                          \
            const vector_##real a_r = VECTOR(real, a + r * stride);                                      \
            sum[r][0] += a_r * b0;                                                                       \
            sum[r][1] += a_r * b1;                                                                       \
            sum[r][2] += a_r * b2;                                                                       \
        }                                                                                                \
    }                                                                                                    \
    UNROLL for (int s = 0; s < DOT_COLUMNS; s++) {                                                       \
        half_##real h[DOT_ROWS] = {{0}};                                                                 \
        real total[DOT_ROWS];                                                                            \
        UNROLL for (int r = 0; r < rows; r++) {                                                          \
            union { vector_##real whole; half_##real half[2]; } v = {sum[r][s]};                         \
            h[r] = v.half[0] + v.half[1];                                                                \
        }                                                                                                \
        totals_##real(h, total);                                                                         \
        UNROLL for (int r = 0; r < rows; r++)                                                            \
            c[r * c_stride + s] += total[r];                                                             \
    }                                                                                                    \
}

#define ADD(real)                                                                                        \
TWICE static void vector_add_##real(int rows, const real *a, ptrdiff_t stride, real *c,                  \
                                    const ptrdiff_t *row)                                                \
{                                                                                                        \
    for (int r = 0; r < rows; r++)                                                                       \
        VECTOR(real, c + row[r]) += VECTOR(real, a + r * stride);                                        \
}

#define EACH_HEIGHT(TILE, compiled, real, parts)                                                         \
TILE(compiled, real, parts, 1) TILE(compiled, real, parts, 2) TILE(compiled, real, parts, 3)             \
TILE(compiled, real, parts, 4) TILE(compiled, real, parts, 5) TILE(compiled, real, parts, 6)
#define TABLE(tile, real, parts) TABLE_OF(tile, real, parts)
#define TABLE_OF(tile, real, parts) {                                                                    \
    tile##_##real##_##parts##_1, tile##_##real##_##parts##_2, tile##_##real##_##parts##_3,               \
    tile##_##real##_##parts##_4, tile##_##real##_##parts##_5, tile##_##real##_##parts##_6}

#define VECTOR_TILES_OF(real)                                                                            \
EACH_HEIGHT(OUTER, TWICE, real, 2)                                                                       \
EACH_HEIGHT(SPREAD, TWICE, real, 2)                                                                      \
DOT(real, 1) DOT(real, 2) DOT(real, 3) DOT(real, 4) ADD(real)                                            \
UNUSED static void outer_##real(int rows, ptrdiff_t depth, const real *a, const real *left,              \
                                const real *right, const ptrdiff_t *row, real *c, ptrdiff_t stride,      \
                                const real *start)                                                       \
{                                                                                                        \
    static void (*const tile[2][OUTER_ROWS])(ptrdiff_t, const real *, const real *, const real *,        \
                 const ptrdiff_t *, real *, ptrdiff_t, const real *) = {                                 \
        TABLE(outer, real, 2), TABLE(outer, real, ONE)};                                                 \
    if (vector_bytes == 0)                                                                               \
        plain_outer_##real(rows, depth, a, left, right, row, c, stride, start);                          \
    else                                                                                                 \
        tile[vector_bytes > VECTOR_BYTES][rows - 1](depth, a, left, right, row, c, stride, start);       \
}                                                                                                        \
UNUSED static void spread_##real(int rows, ptrdiff_t depth, const real *a, const real *b,                \
                                 real *left, real *right, const ptrdiff_t *place)                        \
{                                                                                                        \
    static void (*const tile[2][OUTER_ROWS])(ptrdiff_t, const real *, const real *, real *, real *,      \
                 const ptrdiff_t *) = {                                                                  \
        TABLE(spread, real, 2), TABLE(spread, real, ONE)};                                               \
    if (vector_bytes == 0)                                                                               \
        plain_spread_##real(rows, depth, a, b, left, right, place);                                      \
    else                                                                                                 \
        tile[vector_bytes > VECTOR_BYTES][rows - 1](depth, a, b, left, right, place);                    \
}                                                                                                        \
UNUSED static void add_##real(int rows, const real *a, ptrdiff_t stride, real *c, const ptrdiff_t *row)  \
{                                                                                                        \
    (vector_bytes == 0 ? plain_add_##real : vector_add_##real)(rows, a, stride, c, row);                 \
}                                                                                                        \
UNUSED static void dot_##real(int rows, ptrdiff_t depth, const real *a, const real *b, ptrdiff_t stride, \
                              real *c, ptrdiff_t c_stride)                                               \
{                                                                                                        \
    static void (*const tile[])(ptrdiff_t, const real *, const real *, ptrdiff_t, real *, ptrdiff_t) = { \
        dot_##real##_1, dot_##real##_2, dot_##real##_3, dot_##real##_4};                                 \
    if (vector_bytes == 0)                                                                               \
        plain_dot_##real(rows, depth, a, b, stride, c, c_stride);                                        \
    else                                                                                                 \
        tile[rows - 1](depth, a, b, stride, c, c_stride);                                                \
}

#if ONE == 1
EACH_HEIGHT(OUTER, WIDE, float, 1) EACH_HEIGHT(OUTER, WIDE, double, 1)
EACH_HEIGHT(SPREAD, WIDE, float, 1) EACH_HEIGHT(SPREAD, WIDE, double, 1)
#endif
VECTOR_TILES_OF(float)
VECTOR_TILES_OF(double)

UNUSED static inline void vector_turn_float(const float *a, ptrdiff_t a_stride, float *b, ptrdiff_t b_stride)
{
    const half_float r0 = HALF(float, a), r1 = HALF(float, a + a_stride),
                     r2 = HALF(float, a + 2 * a_stride), r3 = HALF(float, a + 3 * a_stride);
    const half_float p0 = LOW(r0, r2), p1 = HIGH(r0, r2), p2 = LOW(r1, r3), p3 = HIGH(r1, r3);
    HALF(float, b) = LOW(p0, p2);
    HALF(float, b + b_stride) = HIGH(p0, p2);
    HALF(float, b + 2 * b_stride) = LOW(p1, p3);
    HALF(float, b + 3 * b_stride) = HIGH(p1, p3);
}

UNUSED static inline void vector_turn_double(const double *a, ptrdiff_t a_stride, double *b, ptrdiff_t b_stride)
{
    const half_double r0 = HALF(double, a), r1 = HALF(double, a + a_stride);
    HALF(double, b) = MIX2(r0, r1, 0, 2);
    HALF(double, b + b_stride) = MIX2(r0, r1, 1, 3);
}

#define TURN_SQUARE(real)                                                                                \
UNUSED static inline void turn_##real(const real *a, ptrdiff_t a_stride, real *b, ptrdiff_t b_stride)    \
{                                                                                                        \
    if (vector_bytes == 0)                                                                               \
        plain_turn_##real(a, a_stride, b, b_stride);                                                     \
    else                                                                                                 \
        vector_turn_##real(a, a_stride, b, b_stride);                                                    \
}
TURN_SQUARE(float)
TURN_SQUARE(double)

#else
#define WIDEST_VECTORS 0
#define outer_float plain_outer_float
#define outer_double plain_outer_double
#define spread_float plain_spread_float
#define spread_double plain_spread_double
#define dot_float plain_dot_float
#define dot_double plain_dot_double
#define add_float plain_add_float
#define add_double plain_add_double
#define turn_float plain_turn_float
#define turn_double plain_turn_double
#endif

/* Use vectors of at most so many bytes, 0, 32 or 64, and say which. */
UNUSED static int use_vectors(int bytes)
{
    const int widest = WIDEST_VECTORS;
    return vector_bytes = bytes < widest ? bytes : widest;
}

#endif
