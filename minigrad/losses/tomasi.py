"""The losses of Tomasi (2019), section 2.

Letters: ``k`` class or entry, ``y`` label, ``q`` distribution over the classes, ``p`` probability, ``z`` logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np

from .. import kernels
from ..formula import Formula, indices, sp, total
from ..laws import rows_sum_to_zero, shift_invariant
from ..operation import Source
from .base import Loss, class_labels

__all__ = ["CrossEntropy", "SquaredError", "TwoClassCrossEntropy"]


class SquaredError(Loss):
    """loss = ||prediction - target||^2, summed over the entries of a sample, without a factor 1/2 (T-16)."""

    signature = "prediction[N,*], target[N,*] -> loss[N]"
    source = Source("Tomasi 2019, section 2", "TC-05")
    constants = ("target",)

    def symbols(self, *sample: Any) -> list[Any]:
        prediction, _ = super().symbols(*sample)
        sizes = [str(size) for size in prediction.shape] if np.ndim(sample[0]) else []
        from ..formula import variable

        return [prediction, variable("target", sizes)]

    def formula(self, prediction: Any, target: Any) -> Formula:
        if not isinstance(prediction, sp.IndexedBase):
            return Formula((prediction - target) ** 2)
        letters = tuple(sp.Symbol(f"k{axis}", integer=True) for axis in range(len(prediction.shape)))
        square = (prediction[letters] - target[letters]) ** 2
        return Formula(total(square, *zip(letters, prediction.shape, strict=True)))

    def forward(self, prediction: Any, target: Any) -> Any:
        if prediction.shape != np.shape(target) or prediction.ndim == 0 or prediction.size == 0:
            self.refuse(
                f"prediction {prediction.shape} and target {np.shape(target)}",
                "give both the same shape (N, ...) with at least one entry",
            )
        difference = (prediction - target).reshape(len(prediction), -1)
        return np.einsum("nk,nk->n", difference, difference)

    def jacobian(self, prediction: Any, target: Any) -> Any:
        return 2 * np.reshape(prediction - target, (1, -1))

    def printed(self, prediction: Any, target: Any) -> tuple[Formula]:
        """2 (y' - y)^T."""
        if not isinstance(prediction, sp.IndexedBase):
            return (Formula(2 * (prediction - target)),)
        letters = tuple(sp.Symbol(f"k{axis}", integer=True) for axis in range(len(prediction.shape)))
        return (Formula(2 * (prediction[letters] - target[letters]), *letters),)

    def vjp(self, g: Any, prediction: Any, target: Any, loss: Any) -> Any:
        return np.reshape(2 * g, (-1,) + (1,) * (prediction.ndim - 1)) * (prediction - target)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
        yield cls(), rng.normal(size=(3, 1, 2)), rng.normal(size=(3, 1, 2))
        yield cls(), rng.normal(size=3), rng.normal(size=3)

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        yield lambda: cls()(np.ones((2, 3)), np.ones((2, 4))), "(2, 4)"
        yield lambda: cls()(np.ones((0, 3)), np.ones((0, 3))), "(0, 3)"
        yield lambda: cls("median"), "median"


class TwoClassCrossEntropy(Loss):
    """loss = -log p for label 1 and -log(1 - p) for label 0, on scores p in [0, 1]; +inf where p excludes the label.

    The case is selected, not weighted by the label, so that 0 log 0 never arises (T-22; T-1 supplies the minus).
    """

    signature = "p[N], labels[N] -> loss[N]"
    source = Source("Tomasi 2019, section 2.1", "TC-07", "T-1")
    constants = ("labels",)

    def formula(self, p: Any, labels: Any) -> Formula:
        return Formula(sp.Piecewise((-sp.log(p), sp.Eq(labels, 1)), (-sp.log(1 - p), True)))

    def check(self, *arrays: Any) -> None:
        p, labels = arrays
        if p.ndim != 1 or p.size == 0:
            self.refuse(f"expected scores of shape (N,), got {p.shape}", "give one score a sample, as in p[:, 0]")
        if np.isnan(p).any() or p.min() < 0 or p.max() > 1:
            self.refuse(f"expected scores in [0, 1], got {p.min()} to {p.max()}", "apply sigmoid to logits first")
        class_labels(self, labels, len(p), 2)

    def forward(self, p: Any, labels: Any) -> Any:
        self.check(p, labels)
        with np.errstate(divide="ignore"):
            return np.where(np.asarray(labels) == 1, -np.log(p), -np.log1p(-p)) + 0.0  # no -0

    def slopes(self, p: Any, labels: Any) -> Any:
        """-1/p for label 1 and 1/(1 - p) for label 0."""
        with np.errstate(divide="ignore"):
            return np.where(np.asarray(labels) == 1, -1 / p, 1 / (1 - p))

    def jacobian(self, p: Any, labels: Any) -> Any:
        return np.reshape(self.slopes(np.asarray(p), labels), (1, 1))

    def printed(self, p: Any, labels: Any) -> tuple[Formula]:
        """-1/p or 1/(1 - p)."""
        return (Formula(sp.Piecewise((-1 / p, sp.Eq(labels, 1)), (1 / (1 - p), True))),)

    def vjp(self, g: Any, p: Any, labels: Any, loss: Any) -> Any:
        return g * self.slopes(p, labels)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), np.array([0.2, 0.3, 0.9, 0.5]), np.array([0, 1, 1, 0])

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        yield lambda: cls()(np.array([0.2, 1.3]), np.array([0, 1])), "1.3"
        yield lambda: cls()(np.array([0.2, 0.3]), np.array([0, 2])), "2"
        yield lambda: cls()(np.array([[0.2, 0.3]]), np.array([0])), "(1, 2)"
        yield lambda: cls()(np.array([0.2, 0.3]), np.array([0.0, 1.0])), "float64"


class CrossEntropy(Loss):
    """loss = -log softmax(z)_y for labels of shape (N,), or -sum_k q_k log softmax(z)_k for distributions (N, K).

    Value and gradient keep their relative accuracy however sure the network is: 1 - p_y is summed from the other
    probabilities, not subtracted. The gradient is p - q; the loss is convex in the logits (the claim of convexity in
    the weights is T-5). Both come from the same exponentials, so `forward` saves the gradients, one a row: ``slopes``.
    """

    signature = "z[N,K], labels[N,*] -> loss[N]"
    saved = ("slopes",)
    source = Source("Tomasi 2019, section 2.2", "TC-08")
    constants = ("labels",)
    laws: ClassVar[tuple[Callable[..., float], ...]] = (rows_sum_to_zero, shift_invariant)

    def symbols(self, *sample: Any) -> list[Any]:
        from ..formula import variable

        z, labels = super().symbols(*sample)
        return [z, variable("q", ("K",)) if np.ndim(sample[1]) else labels]

    def formula(self, z: Any, labels: Any) -> Formula:
        k, j = indices("k j")
        (K,) = z.shape
        lse = sp.log(total(sp.exp(z[k]), (k, K)))
        if isinstance(labels, sp.IndexedBase):
            return Formula(total(labels[j] * (lse - z[j]), (j, K)))
        return Formula(lse - z[labels])

    def check(self, *arrays: Any) -> None:
        """Refuse logits that are not (N, K), labels out of range, and soft labels that are no distributions."""
        z, labels = arrays[0], np.asarray(arrays[1])
        if z.ndim != 2 or z.size == 0:
            self.refuse(f"expected logits of shape (N, K), got {z.shape}", "give one row of logits a sample")
        if labels.ndim != 2:
            class_labels(self, labels, *z.shape)
        elif labels.shape != z.shape:
            self.refuse(f"logits {z.shape} and labels {labels.shape}", "give one distribution over the classes a row")
        elif not (labels >= 0).all() or abs(labels.sum(axis=1) - 1).max() > 1e-4:
            self.refuse(
                f"the rows of labels of shape {labels.shape} are no distributions",
                "make them non-negative with sum 1, or give whole numbers of shape (N,)",
            )

    def forward(self, z: Any, labels: Any) -> Any:
        z, labels = self.single_or_double(z), np.asarray(labels)
        if labels.ndim == 2:
            losses, slopes = self.soft(z, labels)
        else:
            try:
                losses, slopes = kernels.cross_entropy(z, labels)
            except (TypeError, ValueError):
                self.check(z, labels)
                raise
        if not losses.dot(losses) >= 0:  # nan is not
            self.check_finite(losses, z)
        return losses, slopes

    @staticmethod
    def single_or_double(z: Any) -> Any:
        """Logits in float32 as they are, in any other precision in float64."""
        return z if z.dtype.char in "fd" else z.astype(float)

    def soft(self, z: Any, q: Any) -> tuple[Any, Any]:
        """Losses and slopes for distributions q: p - q as p (1 - q) - q (1 - p), 1 - p the sum of the others."""
        self.check(z, q)
        rows, top = np.arange(len(z)), z.argmax(axis=1)
        m = z[rows, top][:, None]
        with np.errstate(invalid="ignore"):
            e, below = np.exp(z - m), m - z
        e[rows, top] = 0
        r = e.sum(axis=1, keepdims=True)
        e[rows, top] = 1
        surprise = below + np.log1p(r)  # -log p, every term positive
        losses = np.multiply(q, surprise, where=q > 0, out=np.zeros_like(z)).sum(axis=1)
        p, others = e / (1 + r), np.where(e == 1, r, 1 + (r - e)) / (1 + r)
        return losses, p * (1 - q) - q * others

    def jacobian(self, z: Any, labels: Any) -> Any:
        e = np.exp(z - z.max())
        p = e / e.sum()
        if np.ndim(labels):
            return (p - labels)[None]
        J = p.copy()
        J[labels] = -p.sum(where=np.arange(len(z)) != labels)
        return J[None]

    def printed(self, z: Any, labels: Any) -> tuple[Formula]:
        """(p - q)^T."""
        j, k = indices("j k")
        (K,) = z.shape
        q = labels[j] if isinstance(labels, sp.IndexedBase) else sp.KroneckerDelta(j, labels)
        return (Formula(sp.exp(z[j]) / total(sp.exp(z[k]), (k, K)) - q, j),)

    def vjp(self, g: Any, z: Any, labels: Any, loss: Any, slopes: Any) -> Any:
        return g[:, None] * slopes

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), rng.normal(size=(2, 4)), np.array([3, 0])
        q = rng.uniform(0.1, 1, size=(2, 3))
        yield cls(), rng.normal(size=(2, 3)), q / q.sum(axis=1, keepdims=True)
        yield cls(), np.array([[1000.0, -1000.0, 999.0], [40.0, 0.0, 1.0]]), np.array([1, 0])

    @classmethod
    def tails(cls) -> Iterator[tuple[Any, ...]]:
        yield cls(), np.array([[40.0, 0.0, 1.0], [-30.0, 0.0, 2.0], [1e-9, 0.0, 0.0]]), np.array([0, 0, 1])


    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        z = np.zeros((2, 3))
        yield lambda: cls()(z, np.array([0, 3])), "0 to 2"
        yield lambda: cls()(z, np.array([0, -1])), "-1"
        yield lambda: cls()(z, np.array([0.0, 1.0])), "float64"
        yield lambda: cls()(z, np.array([0, 1, 2])), "(3,)"
        yield lambda: cls()(z, np.full((2, 3), 0.5)), "(2, 3)"
        yield lambda: cls()(z, np.full((2, 4), 0.25)), "(2, 4)"
        yield lambda: cls()(z[0], np.array([0])), "(3,)"
        yield lambda: cls()(z[:0], np.zeros(0, dtype=int)), "(0, 3)"
        yield lambda: cls()(z * np.nan, np.array([0, 1])), "nan"
        yield lambda: cls(reduction="max"), "max"
