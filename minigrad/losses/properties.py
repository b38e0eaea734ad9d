"""What kind of function a loss is, found by trying: convex, blind to shifts, bounded below, aligned.

Each function takes a loss and tries to refute a property with a fixed seed: "yes" is what no attempt refuted, "no" has
a counterexample. `separate` is an attack: it makes a loss small while a false logit is as large as a true one, and so
refutes alignment with the Principle of Logit Separation (Keren et al. 2018, definition 1), or measures the excess
over the smallest loss under which no such logits exist.

Letters: ``z`` logits, (M, K), all of a sample that is judged as one; losses that are given per sample are summed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..operation import as_tuple, registry
from .base import Loss

__all__ = [
    "Attack", "aligned", "all_losses", "bounded_below", "convex", "counterexamples", "separate", "shift_invariant",
]  # fmt: skip

SEED = 1612
BOX = 40.0
"""The attack keeps logits in [-BOX, BOX]: e^-40 is nothing beside the excesses that it measures."""

Risk = Callable[[Any], float]


def all_losses() -> Iterator[Loss]:
    """One of each loss in the registry, that of its first sample."""
    for cls in registry.values():
        if issubclass(cls, Loss):
            first: Any = next(iter(cls.samples(np.random.default_rng(SEED))))
            yield first[0]


def takes_logits(loss: Loss) -> bool:
    """Whether the loss is one of logits and class labels."""
    return loss.inputs[:2] == ("z", "labels")


def classes(loss: Any) -> int:
    """How many classes to try it with: four, or as many as its noise has."""
    return len(loss.noise) if hasattr(loss, "noise") else 4


def on_batch(loss: Loss) -> tuple[Risk, tuple[int, ...], Callable[[np.random.Generator], Any]]:
    """The loss as a function of its first input alone, that input's shape, and a generator of points of its domain.

    Points of logits come in sizes from 0.3 to 30, around a shift of every sample.
    """
    first: Any = next(iter(type(loss).samples(np.random.default_rng(SEED))))
    _, x, *constants = first
    if takes_logits(loss):
        x, constants[0] = np.zeros((3, classes(loss))), np.array([0, 1, 0])

    def risk(x: Any) -> float:
        return float(np.sum(loss.output(x, *constants)))

    def point(rng: np.random.Generator) -> Any:
        if loss.inputs[0] == "p":
            return rng.uniform(size=np.shape(x))
        size, shift = 10 ** rng.uniform(-0.5, 1.5), 10 ** rng.uniform(-0.5, 1.5)
        return size * rng.normal(size=np.shape(x)) + shift * rng.normal()

    return risk, np.shape(x), point


def convex(loss: Loss, segments: int = 200) -> bool:
    """Whether the loss lies under its chords: at the middle of random segments, long and short."""
    risk, _, point = on_batch(loss)
    rng = np.random.default_rng(SEED)
    for _ in range(segments):
        a, b = point(rng), point(rng)
        b = a + 10 ** rng.uniform(-1, 0) * (b - a)
        try:
            ends, middle = [risk(a), risk(b)], risk((a + b) / 2)
        except ValueError:  # a power of a sum that is not defined there
            continue
        if middle > sum(ends) / 2 + 1e-9 * (1 + max(map(abs, ends))):
            return False
    return True


def shift_invariant(loss: Loss) -> str:
    """What may be moved without a change: "each sample" by its own number, only the "whole batch" by one, or "no"."""
    risk, shape, _ = on_batch(loss)
    size = 0.1 if loss.inputs[0] == "p" else 10.0
    rng = np.random.default_rng(SEED)
    for what, own in (("each sample", shape[0]), ("whole batch", 1)):
        moves = rng.uniform(-size, size, (5, own, *(1 for _ in shape[1:])))
        x = 0.5 + rng.uniform(-size, size, (5, *shape))
        if max(abs(risk(one + move) - risk(one)) for one, move in zip(x, moves, strict=True)) < 1e-9:
            return what
    return "no"


def bounded_below(loss: Loss, rays: int = 60) -> bool:
    """Whether no ray leads ever further down: from 0 in random directions, and along true and false logits."""
    risk, shape, _ = on_batch(loss)
    if loss.inputs[0] == "p":  # the domain is bounded, and its ends are where it could fail
        return all(risk(np.full(shape, end)) > -1e3 for end in (0.0, 1e-300, 0.5, 1.0))
    rng = np.random.default_rng(SEED)
    directions = [*rng.normal(size=(rays, *shape)), *(np.eye(1, int(np.prod(shape)), n).reshape(shape) for n in (0, 1))]
    directions += [separated(*shape)] if takes_logits(loss) else []
    for direction in (*directions, *(-direction for direction in directions)):
        try:
            near, far = risk(1e3 * direction), risk(1e5 * direction)
        except ValueError:
            continue
        if far < near - 10:
            return False
    return True


def labels_of(M: int, K: int) -> Any:
    """The labels of `separate`: 0, 1, 0, ..."""
    return np.arange(M) % 2


def separated(M: int, K: int) -> Any:
    """1 at the true logits of the labels 0, 1, 0, ..., and 0 at the false ones."""
    return np.eye(K)[labels_of(M, K)]


def counterexamples(K: int = 2) -> dict[str, Any]:
    """Logits of two examples of classes 0 and 1 under which losses of the source are small and the principle fails.

    Further classes, if there are more than two, get logits that no loss sees.
    """
    known = {
        "LS-05, alpha = 20": [[40.0, 20.0], [-40.0, -20.0]],
        "LS-07": [[2.0, 1.0], [-2.0, -1.0]],
        "K-7": [[5.0, 1.0], [-9.0, -5.0]],
    }
    return {name: np.pad(z, ((0, 0), (0, K - 2)), constant_values=-BOX) for name, z in known.items()}


@dataclass(frozen=True)
class Attack:
    """Logits at which a false one is as large as a true one, and how little the loss exceeds its smallest value."""

    logits: np.ndarray
    loss: float
    smallest: float

    @property
    def excess(self) -> float:
        return self.loss - self.smallest


def separate(loss: Loss, starts: int = 2) -> Attack:
    """The smallest loss found by gradient descent on the logits of two examples, and of three, that are not separated.

    It starts at `counterexamples` and at random logits. A false logit z' and a true one z with z' >= z are held so:
    descent is on z, z' - z >= 0 and the other logits. Of the sets of two and of three the smaller excess counts; the
    smallest loss itself is looked for from where the true logits lead, and from where the attack ended.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(1):  # the matrices of the descent are tiny: threads would only wait for one another
        return _separate(loss, starts)


def _separate(loss: Loss, starts: int) -> Attack:
    rng, K = np.random.default_rng(SEED), classes(loss)
    attacks = []
    for M, known in ((2, counterexamples(K).values()), (3, ())):
        labels, true = labels_of(M, K), separated(M, K) > 0
        smallest, _ = _descend(loss, BOX * (separated(M, K) - 1), labels)
        best, where = np.inf, np.zeros((M, K))
        for z in (*known, *(3 * rng.normal(size=(starts, M, K)))):
            low = np.unravel_index(np.where(true, z, np.inf).argmin(), z.shape)
            high = np.unravel_index(np.where(true, -np.inf, z).argmax(), z.shape)
            z[high] = max(z[high], z[low])
            best, where = min((best, where), _descend(loss, z, labels, low, high), key=lambda found: found[0])
            if best - smallest < 1e-8:
                break
        attacks.append(Attack(where, best, min(best, smallest, _descend(loss, where, labels)[0])))
        if attacks[-1].excess < 1e-8:
            break
    return min(attacks, key=lambda attack: attack.excess)


def aligned(loss: Any, bounded: bool = True) -> str:
    """Whether the loss is aligned with the Principle of Logit Separation, in words, from `separate`.

    The bound that it claims is compared with the attack. A loss that falls without end while the logits are not
    separated is under every bound.
    """
    if not takes_logits(loss):
        return "-"
    attack = separate(loss)
    if attack.excess < 1e-6 or (not bounded and attack.loss < 0):
        return f"no: attack {attack.loss if not bounded else attack.excess:.2g}"
    if not hasattr(loss, "separation_bound"):
        return f"no bound claimed: attack {attack.excess:.3g}"
    bound = loss.separation_bound(*attack.logits.shape)
    if attack.excess < bound * (1 - 1e-6):
        return f"no: attack {attack.excess:.3g} refutes the bound {bound:.3g}"
    return f"yes: under {bound:.3g}, attack {attack.excess:.3g}"


def _descend(loss: Any, z: Any, labels: Any, low: Any = None, high: Any = None) -> tuple[float, Any]:
    """The lowest loss on the way down from z, and where; ``z[high] >= z[low]`` is kept if they are given."""
    from scipy.optimize import minimize

    best = [np.inf, z]

    def logits(x: Any) -> Any:
        z = x.reshape(labels.size, -1).copy()
        if high is not None:
            z[high] += z[low]
        return z

    def risk(x: Any) -> tuple[float, Any]:
        z = logits(x)
        arrays = (z, labels, *(None for _ in loss.inputs[2:]))
        outputs = as_tuple(loss.forward(*arrays))
        losses = outputs[0]
        slope = loss.vjp(np.ones_like(losses), *arrays, *outputs)
        if high is not None:
            slope = slope.copy()
            slope[low] += slope[high]
        value = float(np.sum(losses))
        if value < best[0]:
            best[:] = value, z
        return value, slope.ravel()

    x = z.copy()
    bounds = np.full((*z.shape, 2), (-BOX, BOX))
    if high is not None:
        x[high] -= x[low]
        bounds[high] = 0, 2 * BOX
    with contextlib.suppress(ValueError):  # a step to where a power of a sum is not defined: what was reached counts
        minimize(risk, x.ravel(), jac=True, method="L-BFGS-B", bounds=bounds.reshape(-1, 2), options={"maxiter": 60})
    return best[0], best[1]
