/* Long sums. A sum in one variable is a chain of additions, each waiting for the one before it, and a compiler may not
 * break the chain, for that changes the rounding. So a long sum is kept in LANES variables: element s goes to lane
 * s mod LANES. A loop over the lanes has no chain and becomes vectors, and the result is rounded less often, too.
 */
#ifndef MINIGRAD_LANES_H
#define MINIGRAD_LANES_H

#include <stddef.h>

#include "clones.h"

#define LANES 32

/* The statement, which names its lane l, for each of `count` elements of x and of g. */
#define EACH_IN_A_LANE(statement)                                                                        \
    for (; count >= LANES; count -= LANES, x += LANES, g += LANES)                                       \
        for (int l = 0; l < LANES; l++) {                                                                \
            statement                                                                                    \
        }                                                                                                \
    for (int l = 0; l < count; l++) {                                                                    \
        statement                                                                                        \
    }

#define ADD_IN_LANES(real)                                                                               \
CLONES("avx2")                                                                                           \
static inline void add_in_lanes_##real(real *restrict sum, const real *restrict x, ptrdiff_t count)      \
{                                                                                                        \
    const real *g = x;                                                                                   \
    EACH_IN_A_LANE(sum[l] += x[l];)                                                                      \
}
ADD_IN_LANES(float)
ADD_IN_LANES(double)

#endif
