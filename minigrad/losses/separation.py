"""The losses of Keren, Sabato and Schuller (2018), and the Principle of Logit Separation that they are judged by.

A classifier obeys the principle if over a whole sample every true logit is larger than every false one, so that one
logit, computed alone, decides about its class. A loss is *aligned* with the principle if it cannot be small otherwise;
those that are say by ``separation_bound`` how small is small enough.

Letters: ``i, m`` sample of a batch, M samples; ``j, k`` class, K classes; ``y`` true class; ``z`` logits; ``q`` noise,
``t`` how many noise samples.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import kernels
from ..formula import Formula, indices, maximum, sp, total, variable
from ..laws import rows_sum_to_zero, shift_invariant
from ..operation import Source
from .base import LogitLoss, Loss
from .tails import Tails, incorrect, lse, rows, sigmoid, softmax, softplus
from .tomasi import CrossEntropy

__all__ = [
    "BatchCrossEntropy", "BatchMaxMargin", "BinaryCrossEntropy", "MaxMargin", "NoiseContrastiveEstimation",
    "SelfNormalizedCrossEntropy",
]  # fmt: skip

KEREN = "Keren, Sabato and Schuller 2018, section"


def hinge(v: Any) -> Any:
    """max(0, v), with derivative 0 at v = 0."""
    return sp.Piecewise((v, v > 0), (0, True))


def refused_logits(cls: Any) -> Iterator[tuple[Callable[[], Any], str]]:
    """What every loss of logits (N, K) and whole-number labels refuses; ``cls`` may be a function that makes it."""
    z = np.zeros((2, 3))
    yield lambda: cls()(z, np.array([0, 3])), "0 to 2"
    yield lambda: cls()(z, np.array([-1, 0])), "-1"
    yield lambda: cls()(z, np.array([0.0, 1.0])), "float64"
    yield lambda: cls()(z, np.array([0, 1, 2])), "(3,)"
    yield lambda: cls()(z[0], np.array([0])), "(3,)"
    yield lambda: cls()(z[:0], np.zeros(0, dtype=int)), "(0, 3)"
    yield lambda: cls()(z * np.nan, np.array([0, 1])), "nan"


def refused_rows(cls: Any) -> Iterator[tuple[Callable[[], Any], str]]:
    """What a loss of one true class refuses besides: rows that are not one-hot."""
    yield lambda: cls()(np.zeros((2, 3)), np.full((2, 3), 1 / 3)), "one-hot"
    yield lambda: cls()(np.zeros((2, 3)), np.eye(4)[:2]), "(2, 4)"


class MaxMargin(LogitLoss):
    """loss = max(0, margin - z_y + max_{j != y} z_j), the multi-class hinge of Crammer and Singer.

    Its gradient is -1 at y and +1 at the largest false logit (of equal ones the first), and 0 where the loss is 0, at
    the hinge point too. A single class has no false logit, and loss 0. Not aligned: see the counterexample LS-07.
    """

    source = Source(f"{KEREN} III-B (eq. 2)", "LS-06")
    laws = (rows_sum_to_zero, shift_invariant)

    def __init__(self, margin: float = 1.0, reduction: str = "mean"):
        self.margin = margin
        if not margin > 0:
            self.refuse(f"margin={margin!r}", "give a margin over 0")
        super().__init__(reduction)

    def formula(self, z: Any, labels: Any) -> Formula:
        j = indices("j")
        (K,) = z.shape
        rival = maximum(z[j], (j, K), where=sp.Ne(j, labels))
        return Formula(hinge(variable("gamma") - z[labels] + rival), tables={"gamma": self.margin})

    def rivals(self, z: Any, labels: Any) -> tuple[Any, Any]:
        """The class of the largest false logit, and margin - z_y + that logit."""
        false = incorrect(z, labels)
        rival = false.argmax(axis=1)
        return rival, self.margin + (false[rows(z), rival] - z[rows(z), labels])

    def value(self, z: Any, labels: Any) -> Any:
        return np.maximum(self.rivals(z, labels)[1], 0)

    def gradient(self, z: Any, labels: Any) -> Any:
        rival, violation = self.rivals(z, labels)
        gradient = np.zeros_like(z)
        gradient[rows(z), rival] = 1
        gradient[rows(z), labels] = -1
        return gradient * (violation > 0)[:, None]

    def jacobian(self, z: Any, label: Any) -> Any:
        false = np.where(np.arange(len(z)) == label, -np.inf, z)
        active = self.margin - z[label] + false.max() > 0
        return active * (np.eye(len(z))[[false.argmax()]] - np.eye(len(z))[[label]])

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), np.array([[0.3, 1.2, -0.4, 1.19], [2.0, -1.0, 0.4, 0.9]]), np.array([2, 3])
        yield cls(2.5), np.array([[1000.0, -1000.0, 999.0], [4.0, 0.0, 1.0]]), np.array([1, 0])
        yield cls(), rng.normal(size=(3, 2)), np.array([1, 0, 0])

    @classmethod
    def kinks(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), np.array([[2.0, 1.0, 0.5], [2.0, 1.0, 2.0]]), np.array([0, 1])  # at the hinge; two rivals

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        yield from refused_logits(cls)
        yield from refused_rows(cls)
        yield lambda: cls(0.0), "margin=0.0"


class SelfNormalizedCrossEntropy(CrossEntropy):
    """loss = -log p_y + alpha (log Z)^2, log Z = log sum_k e^(z_k): cross-entropy that draws Z to 1.

    Distributions (N, K) may take the place of labels, as in `CrossEntropy`. The smallest loss is 0, for z_y = 0 and
    false logits of -infinity. Aligned: the bound is min(log(1 + e^-2), alpha (1 - log 2)^2); the source forgets the
    alpha (K-7).
    """

    source = Source(f"{KEREN} IV-A", "LS-08", "K-7")
    laws = ()

    def __init__(self, alpha: float = 0.1, reduction: str = "mean"):
        self.alpha = alpha
        if not alpha > 0:
            self.refuse(f"alpha={alpha!r}", "give a weight over 0, or use CrossEntropy")
        super().__init__(reduction)

    def separation_bound(self, samples: int, classes: int) -> float:
        """The sum of losses below which every true logit is over every false one."""
        return float(min(np.log1p(np.exp(-2)), self.alpha * (1 - np.log(2)) ** 2))

    def formula(self, z: Any, labels: Any) -> Formula:
        k = indices("k")
        (K,) = z.shape
        normalizer = sp.log(total(sp.exp(z[k]), (k, K)))
        cross_entropy = super().formula(z, labels).expression
        return Formula(cross_entropy + variable("alpha") * normalizer**2, tables={"alpha": self.alpha})

    def forward(self, z: Any, labels: Any) -> Any:
        z = self.single_or_double(z)
        losses, slopes = super().forward(z, labels)
        normalizer = lse(z)
        return losses + self.alpha * normalizer**2, slopes + 2 * self.alpha * normalizer[:, None] * Tails(z).p

    def jacobian(self, z: Any, label: Any) -> Any:
        e = np.exp(z - z.max())
        normalizer = z.max() + np.log(e.sum())
        return super().jacobian(z, label) + 2 * self.alpha * normalizer * e / e.sum()

    def printed(self, z: Any, labels: Any) -> tuple[Formula]:
        """p - q + 2 alpha log Z p."""
        j, k = indices("j k")
        (K,) = z.shape
        Z = total(sp.exp(z[k]), (k, K))
        difference = super().printed(z, labels)[0].expression
        return (
            Formula(
                difference + 2 * variable("alpha") * sp.log(Z) * sp.exp(z[j]) / Z, j, tables={"alpha": self.alpha}
            ),
        )

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        yield from super().errors()
        yield lambda: cls(0.0), "alpha=0.0"


class NoiseContrastiveEstimation(LogitLoss):
    """loss = -log g_y - sum_j n_j log(1 - g_j), g_j = 1/(1 + t q_j e^(-z_j)): is it the class, or noise?

    In expectation over the noise n_j = t q_j, the true class included; ``sampled=True`` draws the t noise classes of
    each sample anew at each call, and n_j counts them: an unbiased estimate (LS-10). A class without noise, q_j = 0,
    has no term in the sum, and no gradient where it is the true one (K-16). The smallest loss is not 0 but
    (1 + t q_y) log(1 + t q_y) - t q_y log(t q_y), at z_y = 0; alignment is about the excess over it (K-6).

    Parameters
    ----------
    noise : array of shape (K,)
        The distribution q of the noise over the classes.
    num_samples : int
        t, how many noise samples go with one of the data.
    sampled : bool
        Draw the noise, or sum over all of it.
    rng : numpy.random.Generator or seed
        What to draw with; it may be given at the call instead, ``loss(z, labels, rng=rng)``.
    """

    signature = "z[N,K], labels[N], counts[N,K]? -> loss[N]"
    source = Source(f"{KEREN} IV-B (eq. 3)", "LS-09, LS-10", "K-6, K-16")
    constants = ("labels", "counts")

    def __init__(
        self, noise: Any, num_samples: int, sampled: bool = False, rng: Any = None, reduction: str = "mean"
    ):
        self.noise = np.array(noise, dtype=float)
        self.num_samples, self.sampled = num_samples, sampled
        self.rng = None if rng is None else np.random.default_rng(rng)
        if self.noise.ndim != 1 or not (self.noise >= 0).all() or abs(self.noise.sum() - 1) > 1e-6:
            self.refuse("the noise is no distribution over the classes", "give K numbers from 0 with sum 1")
        if int(num_samples) != num_samples or num_samples < 1:
            self.refuse(f"num_samples={num_samples!r}", "give a whole number from 1")
        super().__init__(reduction)

    def __call__(self, z: Any, labels: Any, *counts: Any, rng: Any = None) -> Any:  # type: ignore[override]
        if not counts:
            counts = (self.draw(len(z), rng) if self.sampled else None,)
        return super().__call__(z, labels, *counts)

    @classmethod
    def call(
        cls, z: Any, labels: Any, noise: Any, num_samples: int, sampled: bool = False, rng: Any = None,
        reduction: str = "mean",
    ) -> Any:  # fmt: skip
        """The function: the noise has no default, so it comes before what has one."""
        return cls(noise, num_samples, sampled, rng, reduction)(z, labels)

    def draw(self, samples: int, rng: Any = None) -> Any:
        """How often each class is drawn as noise for each sample: whole numbers (N, K), t in each row."""
        generator = self.rng if rng is None else np.random.default_rng(rng)
        if generator is None:
            self.refuse("there is no generator to draw the noise with", "give rng=, a Generator or a seed")
        return generator.multinomial(self.num_samples, self.noise / self.noise.sum(), size=samples)

    def separation_bound(self, samples: int, classes: int) -> float:
        """The excess over the smallest sum of losses below which every true logit is over every false one.

        For each delta > 0: an excess smaller than what z_y = -delta and z_j = -delta cost keeps z_y over and z_j
        under -delta.
        """
        z = -np.logspace(-3, 2, 2000)[:, None]
        tau = self.num_samples * self.noise
        if not tau.all():
            return 0.0
        u = z - np.log(tau)
        true = softplus(-u) + tau * softplus(u) - ((1 + tau) * np.log1p(tau) - tau * np.log(tau))
        return float(np.minimum(true.min(axis=1), (tau * softplus(u)).min(axis=1)).max())

    def check(self, *arrays: Any) -> None:
        super().check(*arrays)
        shape = np.shape(arrays[0])
        if shape[1:] != self.noise.shape:
            self.refuse(f"{len(self.noise)} noise probabilities and logits {shape}", "give one for each class")
        if len(arrays) > 2 and arrays[2] is not None and np.shape(arrays[2]) != shape:
            self.refuse(f"counts {np.shape(arrays[2])} and logits {shape}", "count each class for each sample")

    def symbols(self, *sample: Any) -> list[Any]:
        z, labels, *counts = super().symbols(*sample)
        return [z, labels, variable("n", ("K",)) if counts and counts[0] is not None else None]

    def formula(self, z: Any, labels: Any, counts: Any) -> Formula:
        j = indices("j")
        (K,) = z.shape
        t, q = variable("t"), variable("q", ("K",))
        n = t * q[j] if counts is None else counts[j]
        noise = n * sp.log(1 + sp.exp(z[j]) / (t * q[j]))
        true = sp.log(1 + t * q[labels] * sp.exp(-z[labels]))
        return Formula(true + total(sp.Piecewise((noise, q[j] > 0), (0, True)), (j, K)), tables=self._constants())

    def _constants(self) -> dict[str, Any]:
        return {"q": self.noise, "t": self.num_samples}

    def shifted(self, z: Any, counts: Any) -> tuple[Any, Any]:
        """u_j = z_j - log(t q_j), with g_j = sigma(u_j), and the weights n_j; both (N, K)."""
        tau = self.num_samples * self.noise
        u = z - np.log(np.where(tau > 0, tau, 1)).astype(z.dtype)
        u[:, tau == 0] = np.inf
        return u, np.broadcast_to(tau if counts is None else counts, z.shape).astype(z.dtype)

    def value(self, z: Any, labels: Any, counts: Any = None) -> Any:
        u, n = self.shifted(z, counts)
        noise = np.where(self.noise > 0, n * softplus(u), 0)
        return softplus(-u[rows(z), labels]) + noise.sum(axis=1)

    def gradient(self, z: Any, labels: Any, counts: Any = None) -> Any:
        u, n = self.shifted(z, counts)
        at = rows(z), labels
        gradient = np.where(self.noise > 0, n * sigmoid(u), 0)
        # t q g - (1 - g) = t q (e^z - 1)/(e^z + t q) is small where training ends, at z_y = 0
        tau = (self.num_samples * self.noise).astype(z.dtype)[labels]
        true, g = z[at], sigmoid(u[at])
        self_normalizing = np.where(true > 0, -tau * g, sigmoid(-u[at])) * np.expm1(-abs(true))
        gradient[at] = self_normalizing + (n[at] - tau) * np.where(tau > 0, g, 0)
        return gradient

    def jacobian(self, z: Any, label: Any, counts: Any = None) -> Any:
        tau = self.num_samples * self.noise
        with np.errstate(divide="ignore"):
            u = z - np.log(tau)
        J = np.where(tau > 0, tau if counts is None else counts, 0) * sigmoid(u)
        J[label] -= sigmoid(-u[label])
        return J[None]

    def printed(self, z: Any, labels: Any, counts: Any) -> tuple[Formula]:
        """t q_k g_k - [k = y](1 - g_y), or n_k in the place of t q_k."""
        k = indices("k")
        t, q = variable("t"), variable("q", ("K",))
        n = t * q[k] if counts is None else sp.Piecewise((counts[k], q[k] > 0), (0, True))
        tau = t * q[labels]
        slope = n * sp.exp(z[k]) / (sp.exp(z[k]) + t * q[k])
        slope -= sp.KroneckerDelta(k, labels) * tau / (sp.exp(z[labels]) + tau)
        return (Formula(slope, k, tables=self._constants()),)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls([0.5, 0.2, 0.3], 4), rng.normal(size=(2, 3)), np.array([2, 0]), None
        z = np.array([[1000.0, -1000.0, 2.0], [-1.0, 40.0, -0.5]])
        yield cls([0.5, 0.0, 0.5], 2), z, np.array([2, 1]), None
        counts = np.array([[1.0, 0.0, 2.0, 0.0], [0.0, 0.0, 1.0, 2.0]])
        yield cls([0.1, 0.2, 0.3, 0.4], 3, True), rng.normal(size=(2, 4)), np.array([0, 2]), counts
        yield cls([0.25, 0.75], 1), rng.normal(size=(3, 2)), np.array([1, 0, 0]), None

    @classmethod
    def tails(cls) -> Iterator[tuple[Any, ...]]:
        z = np.array([[40.0, -50.0, 1.0], [-30.0, 0.0, -700.0]])
        yield cls([0.5, 0.2, 0.3], 4), z, np.array([0, 1]), None

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        q = np.array([0.2, 0.3, 0.5])
        yield from refused_logits(lambda: cls(q, 5))
        yield from refused_rows(lambda: cls(q, 5))
        yield lambda: cls(q, 5)(np.zeros((2, 4)), np.array([0, 1])), "(2, 4)"
        yield lambda: cls(q, 5)(np.zeros((2, 3)), np.array([0, 1]), np.ones((2, 1))), "(2, 1)"
        yield lambda: cls(q, 5, sampled=True)(np.zeros((2, 3)), np.array([0, 1])), "rng="
        yield lambda: cls(q, 0), "num_samples=0"
        yield lambda: cls(2 * q, 5), "sum 1"


class BinaryCrossEntropy(LogitLoss):
    """loss = -sum_j (r_j log sigma(z_j) + (1 - r_j) log(1 - sigma(z_j))): each class against all the rest.

    For whole-number labels (N,) r is one-hot (LS-12; the source has a plus before the second sum, K-1); rows (N, K)
    of numbers in [0, 1] say for each class whether it is there (LS-11; bracket and limit as in K-2). The gradient
    is sigma(z) - r; `forward` saves it, one row a sample: ``slopes``. Aligned: a loss under log 2 means z_y > 0 > z_j
    (K-17).
    """

    required = Loss.required  # value and gradient come from one kernel
    signature = "z[N,K], labels[N,*] -> loss[N]"
    saved = ("slopes",)
    source = Source(f"{KEREN} IV-C", "LS-11, LS-12", "K-1, K-2")

    def separation_bound(self, samples: int, classes: int) -> float:
        """The sum of losses below which every true logit is over every false one."""
        return float(np.log(2))

    def whole_labels(self, z: Any, labels: Any) -> Any:
        return np.asarray(labels)

    def check(self, *arrays: Any) -> None:
        z, labels = arrays[0], np.asarray(arrays[1])
        if labels.ndim != 2 or np.ndim(z) != 2 or np.size(z) == 0:
            super().check(z, labels)
        elif labels.shape != np.shape(z) or not ((labels >= 0) & (labels <= 1)).all():
            self.refuse(
                f"the rows of labels of shape {labels.shape} for logits {np.shape(z)}",
                "give one whole number a sample, or a number from 0 to 1 for each class",
            )

    def symbols(self, *sample: Any) -> list[Any]:
        z, y = super().symbols(*sample[:1], 0)
        return [z, variable("r", ("K",)) if np.ndim(sample[1]) else y]

    def formula(self, z: Any, labels: Any) -> Formula:
        j = indices("j")
        (K,) = z.shape
        r = self._present(j, labels)
        return Formula(total(r * sp.log(1 + sp.exp(-z[j])) + (1 - r) * sp.log(1 + sp.exp(z[j])), (j, K)))

    @staticmethod
    def _present(j: Any, labels: Any) -> Any:
        return labels[j] if isinstance(labels, sp.IndexedBase) else sp.KroneckerDelta(j, labels)

    @staticmethod
    def present(z: Any, labels: Any) -> Any:
        """r, (N, K): the rows that came, or one-hot ones."""
        if labels.ndim == 2:
            return labels.astype(z.dtype)
        return (np.arange(z.shape[1]) == labels[:, None]).astype(z.dtype)

    def forward(self, z: Any, labels: Any) -> Any:
        self.check(z, labels)
        z = CrossEntropy.single_or_double(np.asarray(z))
        losses, slopes = kernels.binary_cross_entropy(z, self.present(z, np.asarray(labels)))
        return self.check_finite(losses, z), slopes

    def vjp(self, g: Any, z: Any, labels: Any, loss: Any, slopes: Any) -> Any:
        return g[:, None] * slopes

    def jacobian(self, z: Any, label: Any) -> Any:
        r = label if np.ndim(label) else 1.0 * (np.arange(len(z)) == label)
        return ((1 - r) * sigmoid(z) - r * sigmoid(-z))[None]

    def printed(self, z: Any, labels: Any) -> tuple[Formula]:
        """sigma(z) - r."""
        k = indices("k")
        return (Formula(1 / (1 + sp.exp(-z[k])) - self._present(k, labels), k),)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), rng.normal(size=(2, 4)), np.array([3, 0])
        yield cls(), rng.normal(size=(2, 3)), np.array([[1.0, 0.0, 1.0], [0.0, 0.25, 0.0]])
        yield cls(), np.array([[1000.0, -1000.0], [40.0, 0.01], [0.0, 0.01]]), np.array([1, 0, 0])

    @classmethod
    def tails(cls) -> Iterator[tuple[Any, ...]]:
        z = np.array([[40.0, -50.0, -60.0], [-30.0, 0.0, 700.0]])
        yield cls(), z, np.array([0, 2])
        yield cls(), z, np.array([[1.0, 0.0, 0.0], [0.0, 0.5, 1.0]])

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        yield from refused_logits(cls)
        yield lambda: cls()(np.zeros((2, 3)), np.full((2, 3), 1.5)), "(2, 3)"
        yield lambda: cls()(np.zeros((2, 3)), np.zeros((2, 4))), "(2, 4)"


class BatchLoss(LogitLoss, abstract=True):
    """A loss of the whole batch, one number, that carries its own 1/M: there is nothing left to reduce.

    A batch of one has no other sample to be separated from, and the guarantee is lost (K-9): that is warned of, once.
    """

    signature = "z[M,K], labels[M] -> loss"

    def __init__(self) -> None:
        self._warned = False

    def __call__(self, z: Any, labels: Any) -> Any:
        if len(z) == 1 and not self._warned:
            self._warned = True
            warnings.warn(
                f"{self!r}: in a batch of one it separates no logits across samples (K-9): "
                f"drop a last batch of one, or join it to the batch before",
                stacklevel=2,
            )
        return super(Loss, self).__call__(z, self.whole_labels(z, labels))

    def vjp(self, g: Any, z: Any, labels: Any, loss: Any) -> Any:
        return g * self.gradient(z, np.asarray(labels))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), 2 * rng.normal(size=(3, 4)), np.array([2, 0, 2])
        yield cls(), np.array([[1000.0, -1000.0, 999.0], [40.0, 0.0, 0.01]]), np.array([1, 0])
        yield cls(), np.array([[0.5, 3.0], [0.25, 0.3], [-2.0, -1.0]]), np.array([1, 0, 0])
        yield cls(), rng.normal(size=(1, 3)), np.array([1])

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        yield from refused_logits(cls)
        yield from refused_rows(cls)


class BatchCrossEntropy(BatchLoss):
    """loss = log sum_{ij} e^(z_ij) - (1/M) sum_i z_{i y_i} - log M: the softmax is over all logits of the batch.

    It is the divergence KL(P || Q) of Q, that softmax, from P, which is 1/M at each true logit and 0 elsewhere; the
    gradient is Q - P. One number added to the whole batch changes nothing. Aligned: KL < 1/(2 M^2) suffices (K-4; the
    proof in the source compares logits with a probability, and confuses true and false ones, K-8).
    """

    source = Source(f"{KEREN} V-A (def. 2)", "LS-14", "K-4")
    laws = (rows_sum_to_zero, shift_invariant)

    def separation_bound(self, samples: int, classes: int) -> float:
        """The loss of a batch below which every true logit is over every false one."""
        return 1 / (2 * samples**2)

    def formula(self, z: Any, labels: Any) -> Formula:
        i, j, m = indices("i j m")
        M, K = z.shape
        true = total(z[m, labels[m]], (m, M)) / M
        return Formula(sp.log(total(sp.exp(z[i, j]), (i, M), (j, K))) - true - sp.log(M))

    def parts(self, z: Any, labels: Any) -> tuple[Any, Any, Any]:
        """a, the mean true logit; d, the true logits less a; e^(z - a), 0 at the true ones."""
        true = z[rows(z), labels]
        d = true - true[0]
        shift = d.mean()
        e = np.exp((z - true[0]) - shift)
        e[rows(z), labels] = 0
        return true[0] + shift, d - shift, e

    def value(self, z: Any, labels: Any) -> Any:
        a = z[rows(z), labels].mean()
        if z.max() - a > 30:  # nothing cancels, and e^(z - a) might overflow
            m = len(z)
            return lse((z - a).reshape(1, -1))[0] - z.dtype.type(np.log(m))
        # The sum of e^(z - a) is M (1 + T), T >= 0: the d sum to 0, and e^d - 1 - d >= 0.
        _, d, e = self.parts(z, labels)
        return np.log1p(exp_beyond_line(d).mean() + e.sum() / len(z))

    def gradient(self, z: Any, labels: Any) -> Any:
        n, m = rows(z), len(z)
        if z.max() - z[n, labels].mean() > 30:
            Q = softmax(z.reshape(1, -1)).reshape(z.shape)
            Q[n, labels] -= 1 / m
            return Q
        _, d, e = self.parts(z, labels)
        T = exp_beyond_line(d).mean() + e.sum() / m
        e[n, labels] = np.expm1(d) - T
        return e / (m * (1 + T))

    def jacobian(self, z: Any, labels: Any) -> Any:
        n, M = np.arange(len(z)), len(z)
        true = z[n, labels] - z.max()
        e = np.exp(z - z.max())
        total = e.sum()
        e[n, labels] = 0
        # Q - 1/M at a true logit: what it is ahead of each other true one, less the false ones
        ahead = true[:, None] - true
        ahead = np.sign(ahead) * np.exp(np.maximum(true[:, None], true)) * -np.expm1(-abs(ahead))
        e[n, labels] = (ahead.sum(axis=1) - e.sum()) / M
        return (e / total).reshape(1, -1)

    def printed(self, z: Any, labels: Any) -> tuple[Formula]:
        """Q - P."""
        i, j, m, k = indices("i j m k")
        M, K = z.shape
        Q = sp.exp(z[m, k]) / total(sp.exp(z[i, j]), (i, M), (j, K))
        return (Formula(Q - sp.KroneckerDelta(k, labels[m]) / M, m, k),)

    @classmethod
    def tails(cls) -> Iterator[tuple[Any, ...]]:
        yield cls(), np.array([[40.0, 0.0, 1.0], [-30.0, 40.0, -2.0]]), np.array([0, 1])
        yield cls(), np.array([[3.0, -40.0], [-50.0, 3.0 + 1e-9]]), np.array([0, 1])


class BatchMaxMargin(BatchLoss):
    """loss = (max(0, margin - z_+ + z_-) + sum of `MaxMargin` over the samples)/M, z_+ and z_- over the whole batch.

    z_+ is the smallest true logit and z_- the largest false one; of equal ones the first sample, then the first class,
    takes the gradient. For a batch of one this is twice `MaxMargin`. Aligned: a loss under margin/M means z_+ > z_-.
    """

    source = Source(f"{KEREN} V-B (def. 3)", "LS-15")
    laws = (rows_sum_to_zero, shift_invariant)

    def __init__(self, margin: float = 1.0):
        self.margin = margin
        if not margin > 0:
            self.refuse(f"margin={margin!r}", "give a margin over 0")
        super().__init__()

    def separation_bound(self, samples: int, classes: int) -> float:
        """The loss of a batch below which every true logit is over every false one."""
        return self.margin / samples

    def formula(self, z: Any, labels: Any) -> Formula:
        i, j, m, k = indices("i j m k")
        M, K = z.shape
        gamma = variable("gamma")
        smallest = -maximum(-z[i, labels[i]], (i, M))
        largest = maximum(z[i, j], (i, M), (j, K), where=sp.Ne(j, labels[i]))
        rival = maximum(z[m, k], (k, K), where=sp.Ne(k, labels[m]))
        each = total(hinge(gamma - z[m, labels[m]] + rival), (m, M))
        return Formula((hinge(gamma - smallest + largest) + each) / M, tables={"gamma": self.margin})

    def extremes(self, z: Any, labels: Any) -> tuple[Any, Any, Any]:
        """The sample of the smallest true logit, (sample, class) of the largest false one, and the violation."""
        true, false = z[rows(z), labels], incorrect(z, labels)
        lowest = true.argmin()
        highest = np.unravel_index(false.argmax(), z.shape)
        return lowest, highest, self.margin + (false[highest] - true[lowest])

    def value(self, z: Any, labels: Any) -> Any:
        violation = self.extremes(z, labels)[2]
        each = MaxMargin(self.margin).value(z, labels)
        return (np.maximum(violation, 0) + each.sum()) / len(z)

    def gradient(self, z: Any, labels: Any) -> Any:
        lowest, highest, violation = self.extremes(z, labels)
        gradient = MaxMargin(self.margin).gradient(z, labels)
        if violation > 0:
            gradient[lowest, labels[lowest]] -= 1
            gradient[highest] += 1
        return gradient / len(z)

    def jacobian(self, z: Any, labels: Any) -> Any:
        true = np.arange(z.shape[1]) == labels[:, None]
        false = np.where(true, -np.inf, z)
        J = np.concatenate([MaxMargin(self.margin).jacobian(*row) for row in zip(z, labels, strict=True)])
        if self.margin - z[true].min() + false.max() > 0:
            J.flat[false.argmax()] += 1
            J.flat[np.where(true, z, np.inf).argmin()] -= 1
        return J.reshape(1, -1) / len(z)

    @classmethod
    def kinks(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(), np.array([[2.0, 1.0, 0.5], [2.0, 1.0, 2.0]]), np.array([0, 2])  # at the hinge
        yield cls(), np.array([[2.0, 1.5, 1.5], [2.0, 1.5, 1.0]]), np.array([0, 0])  # equal ones, true and false

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        yield from super().errors()
        yield lambda: cls(-1.0), "margin=-1.0"


def exp_beyond_line(d: Any) -> Any:
    """e^d - 1 - d, relatively accurate: d^2/2 (1 + d/3 (1 + d/4 (1 + ...))) for small d."""
    series = np.ones_like(d)
    for n in range(17, 2, -1):
        series = 1 + d / n * series
    return np.where(abs(d) < 0.5, d * d / 2 * series, np.expm1(d) - d)
