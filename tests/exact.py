"""Losses as they are defined, and their gradients, at any number of digits: the oracle of the tests of losses."""

from collections.abc import Callable, Sequence

import mpmath as mp
import numpy as np

DIGITS = 950  # e^-2000 is 1e-868: enough to see it beside 1, with 50 digits and more left


def exact(f: Callable[[list[mp.mpf]], mp.mpf], z: Sequence[float]) -> tuple[mp.mpf, list[mp.mpf]]:
    """f at z, and its gradient by central differences with a step of 1e-40."""
    with mp.workdps(DIGITS):
        h = mp.mpf(10) ** -40
        point = [mp.mpf(float(v)) for v in z]
        gradient = []
        for k in range(len(point)):
            ends = [f([v + sign * h * (j == k) for j, v in enumerate(point)]) for sign in (1, -1)]
            gradient.append((ends[0] - ends[1]) / (2 * h))
        return f(point), gradient


def worst(got: np.ndarray, wanted: Sequence[mp.mpf]) -> float:
    """The largest error relative to the largest entry wanted; anything far under 1e-30 counts as 0."""
    size = max(map(abs, wanted)) + mp.mpf(10) ** -30
    return float(max(abs(mp.mpf(float(a)) - b) for a, b in zip(np.ravel(got), wanted, strict=True)) / size)
