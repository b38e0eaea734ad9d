"""The losses of US 12387092, which look at the probabilities of the incorrect categories too.

Where cross-entropy sees only p_c, these say how the rest, 1 - p_c, shall be spread. All are invariant when one number
is added to the logits of a sample, so none is aligned with the Principle of Logit Separation. log is the natural
logarithm everywhere: with another base the mixture of log and exp is wrong (P-10).

Letters: ``c`` the correct category, ``j`` an incorrect one, ``i, k`` any of K; ``z`` logits, ``p`` = softmax(z),
``s`` = softmax over the incorrect ones; ``l_i = log(p_i/(1 - p_i))`` log-odds. (In the formulas ``y`` is the label,
and the coefficient is called ``c``.)
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np

from ..formula import Formula, indices, sp, total, variable
from ..laws import rows_sum_to_zero, shift_invariant
from ..operation import Source
from .base import LogitLoss
from .separation import refused_logits, refused_rows
from .tails import Tails, incorrect, log_odds_matrix, lse, rows, softmax

__all__ = [
    "ComplementaryCrossEntropy", "IncorrectLogOddsLSE", "IncorrectLogOddsPower", "IncorrectProbabilityLoss", "LogOdds",
    "LogSumInverseProbability",
]  # fmt: skip

PATENT = "US 12387092, eq."


# Formulas: sums over all classes, with a factor that leaves one of them out


def others(z: Any, i: Any, letter: str = "k") -> Any:
    """sum_{k != i} e^(z_k)."""
    k = indices(letter)
    return total((1 - sp.KroneckerDelta(i, k)) * sp.exp(z[k]), (k, z.shape[0]))


def everything(z: Any, letter: str = "k") -> Any:
    """sum_k e^(z_k)."""
    k = indices(letter)
    return total(sp.exp(z[k]), (k, z.shape[0]))


def log_odds(z: Any, i: Any, eps: float) -> Any:
    """l_i, or with epsilon log((p_i + epsilon)/(1 - p_i + epsilon))."""
    if eps == 0:
        return z[i] - sp.log(others(z, i))
    p, q, epsilon = sp.exp(z[i]) / everything(z), others(z, i) / everything(z), variable("epsilon")
    return sp.log((p + epsilon) / (q + epsilon))


def log_odds_slope(z: Any, i: Any, k: Any, eps: float) -> Any:
    """d log_odds(z, i)/dz_k as printed: [i = k] - [i != k] p_k/(1 - p_i); with epsilon by way of p_i."""
    same = sp.KroneckerDelta(i, k)
    if eps == 0:
        return same - (1 - same) * sp.exp(z[k]) / others(z, i, "m")
    Z, epsilon = everything(z, "m"), variable("epsilon")
    p, q = sp.exp(z[i]) / Z, others(z, i, "m") / Z
    slope = (1 + 2 * epsilon) / ((p + epsilon) * (q + epsilon))
    return slope * p * (same * q - (1 - same) * sp.exp(z[k]) / Z)


def over_incorrect(expression: Any, labels: Any, j: Any, K: Any) -> Any:
    """sum_{j != y} of an expression."""
    return total((1 - sp.KroneckerDelta(j, labels)) * expression, (j, K))


class IncorrectLoss(LogitLoss, abstract=True):
    """A loss of at least two categories, one correct; invariant to shifts of a sample's logits."""

    laws = (rows_sum_to_zero, shift_invariant)
    eps = 0.0

    def check(self, *arrays: Any) -> None:
        super().check(*arrays)
        if np.shape(arrays[0])[1] < 2:
            self.refuse(f"logits of shape {np.shape(arrays[0])}", "give two classes or more: one has no incorrect ones")

    # Log-odds are differences of logits: at 700 float32 has four digits behind the point, double precision twelve.

    def forward(self, z: Any, labels: Any) -> Any:
        return super().forward(np.asarray(z, dtype=float), labels).astype(np.result_type(z, np.float32))

    def vjp(self, g: Any, z: Any, labels: Any, loss: Any) -> Any:
        return super().vjp(g, np.asarray(z, dtype=float), labels, loss).astype(np.result_type(z, np.float32))

    def check_epsilon(self) -> None:
        """Refuse an epsilon under 0."""
        if not self.eps >= 0:
            self.refuse(f"eps={self.eps!r}", "give 0, or a small number over 0")

    @staticmethod
    def smooth_slopes(z: Any, eps: float) -> Any:
        """The Jacobian of all log-odds of one sample, with epsilon by the chain rule dL/dp dp/dz."""
        J = log_odds_matrix(z)
        if eps == 0:
            return J
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        q = np.where(np.eye(len(z), dtype=bool), 0, p).sum(axis=1)
        return ((1 + 2 * eps) * p * q / ((p + eps) * (q + eps)))[:, None] * J

    @staticmethod
    def smooth_values(z: Any, eps: float) -> Any:
        """All log-odds of one sample, by sums over the others."""
        e = np.where(np.eye(len(z), dtype=bool), -np.inf, z)
        lodds = z - (e.max(axis=1) + np.log(np.exp(e - e.max(axis=1, keepdims=True)).sum(axis=1)))
        if eps == 0:
            return lodds
        p, q = (1 / (1 + np.exp(np.minimum(sign * lodds, 700))) for sign in (-1, 1))
        return np.log((p + eps) / (q + eps))

    @classmethod
    def logits(cls, rng: np.random.Generator) -> Iterator[tuple[Any, Any]]:
        """Logits and labels: moderate; near a tie, sure and unsure; with +-1000; of two classes."""
        yield rng.normal(size=(2, 4)), np.array([3, 0])
        yield np.array([[3.0, 3.001, -2.0], [-4.0, 1.0, 5.0]]), np.array([2, 2])
        yield np.array([[1000.0, -1000.0, 998.0], [40.0, 0.0, 1.0]]), np.array([1, 0])
        yield 0.5 + rng.normal(size=(3, 2)), np.array([1, 0, 0])

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield from ((cls(), z, labels) for z, labels in cls.logits(rng))

    @classmethod
    def tails(cls) -> Iterator[tuple[Any, ...]]:
        """The first samples' operations, sure and sure to be wrong."""
        for _, (operation, *_) in zip(range(2), cls.samples(np.random.default_rng(0)), strict=False):
            yield operation, np.array([[40.0, 0.0, 1.0], [-50.0, 0.0, -2.0]]), np.array([0, 0])

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        first: Any = next(iter(cls.samples(np.random.default_rng(0))))

        def make() -> Any:
            return first[0]

        yield from refused_logits(make)
        yield from refused_rows(make)
        yield lambda: make()(np.zeros((2, 1)), np.array([0, 0])), "(2, 1)"


class ComplementaryCrossEntropy(IncorrectLoss):
    """loss = coefficient log(1 - p_c), which falls to -infinity as p_c rises to 1, with a bounded gradient (P-5).

    The gradient is coefficient times -p_c at c and p_k p_c/(1 - p_c) elsewhere; log(1 - p_c) is a difference of two
    log-sum-exps (never the log of a difference, P-12). The coefficient is positive for training (P-4).
    """

    source = Source(f"{PATENT} 6, 14", "IP-11", "P-4, P-12")

    def __init__(self, coefficient: float = 1.0, reduction: str = "mean"):
        self.coefficient = coefficient
        super().__init__(reduction)

    def formula(self, z: Any, labels: Any) -> Formula:
        return Formula(
            variable("c") * (sp.log(others(z, labels)) - sp.log(everything(z))), tables={"c": self.coefficient}
        )

    def value(self, z: Any, labels: Any) -> Any:
        return self.coefficient * Tails(z).log_q[rows(z), labels]

    def gradient(self, z: Any, labels: Any) -> Any:
        slopes = softmax(incorrect(z, labels))
        slopes[rows(z), labels] = -1
        return self.coefficient * Tails(z).p[rows(z), labels][:, None] * slopes

    def jacobian(self, z: Any, label: Any) -> Any:
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        return self.coefficient * p[label] * -log_odds_matrix(z)[[label]]

    def printed(self, z: Any, labels: Any) -> tuple[Formula]:
        """-p_c at c, p_k p_c/(1 - p_c) elsewhere."""
        i = indices("i")
        p_c, same = sp.exp(z[labels]) / everything(z), sp.KroneckerDelta(i, labels)
        slope = -same * p_c + (1 - same) * sp.exp(z[i]) * p_c / others(z, labels)
        return (Formula(variable("c") * slope, i, tables={"c": self.coefficient}),)


class LogOdds(IncorrectLoss):
    """loss = coefficient log((p_c + eps)/(1 - p_c + eps)); with eps = 0 it is coefficient (z_c - LSE of the others).

    The argument is the probability, not the logit that the source's text names (P-1). With eps = 0 the gradient keeps
    its size however sure the network is: coefficient at c, -coefficient times softmax of the others elsewhere (P-14),
    and the loss falls for ever (P-5). With eps > 0 loss and gradient saturate (P-2). The coefficient is negative for
    training.
    """

    source = Source(f"{PATENT} 7, 8, 17", "IP-12, IP-13", "P-1, P-2")

    def __init__(self, coefficient: float = -1.0, eps: float = 0.0, reduction: str = "mean"):
        self.coefficient, self.eps = coefficient, eps
        self.check_epsilon()
        super().__init__(reduction)

    def _constants(self) -> dict[str, Any]:
        return {"c": self.coefficient, "epsilon": self.eps}

    def formula(self, z: Any, labels: Any) -> Formula:
        return Formula(variable("c") * log_odds(z, labels, self.eps), tables=self._constants())

    def value(self, z: Any, labels: Any) -> Any:
        return self.coefficient * Tails(z).smooth(self.eps)[rows(z), labels]

    def gradient(self, z: Any, labels: Any) -> Any:
        slopes = -softmax(incorrect(z, labels))
        slopes[rows(z), labels] = 1
        return self.coefficient * Tails(z).smooth_slope(self.eps)[rows(z), labels][:, None] * slopes

    def jacobian(self, z: Any, label: Any) -> Any:
        return self.coefficient * self.smooth_slopes(z, self.eps)[[label]]

    def printed(self, z: Any, labels: Any) -> tuple[Formula]:
        """[c = k] - [c != k] p_k/(1 - p_c); with epsilon (1 + 2 eps)/((p + eps)(1 - p + eps)) dp_c/dz_k."""
        i = indices("i")
        return (Formula(variable("c") * log_odds_slope(z, labels, i, self.eps), i, tables=self._constants()),)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield from super().samples(rng)
        yield cls(-0.5, eps=1e-3), rng.normal(size=(2, 4)), np.array([3, 0])
        yield cls(eps=1e-6), np.array([[10.0, 0.0, 1.0], [6.0, -5.0, 0.0]]), np.array([0, 1])

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        yield from super().errors()
        yield lambda: cls(eps=-1e-3), "eps=-0.001"


class IncorrectLogOddsPower(IncorrectLoss):
    """loss = coefficient (sum_{j != c} l_j^exponent)^outer_exponent, the patent's generalized mean of the log-odds.

    Log-odds of incorrect categories are negative wherever p_j < 1/2, and that decides what it means (P-6): a large
    positive exponent finds the *smallest* of them, a negative one the largest, and the coefficient that pushes as
    intended is positive for even positive exponents, negative for even negative ones, and for odd ones the reverse
    with ``root="signed"``. An even exponent forgets that a log-odds is positive, so that a wrong category of more than
    1/2 is pushed up; an odd one lets it cancel the others, wholly where only two are likely. Prefer
    `IncorrectLogOddsLSE`, which has none of these traps.

    Parameters
    ----------
    exponent : int
        a, a whole number other than 0.
    outer_exponent : float
        b, other than 0; 1/a in the patent.
    root : "real" or "signed"
        What S^b is for S < 0: a real power, which only whole b have, or sign(S) |S|^b.
    eps : float
        Of the log-odds, as in `LogOdds`.

    Raises
    ------
    ValueError
        For exponents that leave the real numbers, and at the call where S or a log-odds makes the loss or its
        gradient undefined; the message says which and why.
    """

    source = Source(f"{PATENT} 9, 10", "IP-14, IP-15", "P-6")

    def __init__(
        self, coefficient: float, exponent: int, outer_exponent: float, root: str = "real", eps: float = 0.0,
        reduction: str = "mean",
    ):  # fmt: skip
        self.coefficient, self.exponent, self.outer_exponent = coefficient, exponent, outer_exponent
        self.root, self.eps = root, eps
        self.check_epsilon()
        if 0 in (exponent, outer_exponent):
            self.refuse(f"{'outer_' if exponent else ''}exponent=0 makes the loss constant", "give one other than 0")
        if int(exponent) != exponent:
            self.refuse(
                f"exponent={exponent!r}: the log-odds of incorrect categories are negative, and a negative number "
                f"has real powers for whole exponents only",
                "give a whole number other than 0",
            )
        if root not in ("real", "signed"):
            self.refuse(f"root={root!r}", "choose 'real' or 'signed'")
        super().__init__(reduction)

    def _constants(self) -> dict[str, Any]:
        a, b = self.exponent, self.outer_exponent
        return {"c": self.coefficient, "a": int(a), "b": b, "epsilon": self.eps}

    def _power(self, S: Any, b: Any) -> Any:
        """S^b in SymPy, with the root that was chosen."""
        return S**b if self.root == "real" else sp.Piecewise((S**b, S > 0), (-((-S) ** b), True))

    def formula(self, z: Any, labels: Any) -> Formula:
        j, a, b = indices("j"), variable("a"), variable("b")
        S = over_incorrect(log_odds(z, j, self.eps) ** a, labels, j, z.shape[0])
        return Formula(variable("c") * self._power(S, b), tables=self._constants())

    def sums(self, lodds: Any, true: Any) -> tuple[Any, Any, Any]:
        """The log-odds relative to their scale M (0 at the true class), M, and S/M^a: nothing overflows.

        M is the largest |l_j| for a > 0, the smallest for a < 0.
        """
        a, b = int(self.exponent), self.outer_exponent
        size = abs(lodds)
        if a < 0 and (size[~true] == 0).any():
            self.refuse(
                f"a log-odds is 0 (a probability is 1/2), and 0^{a} is undefined",
                "give a positive exponent, or use IncorrectLogOddsLSE",
            )
        M = np.where(true, 0, size).max(axis=-1) if a > 0 else np.where(true, np.inf, size).min(axis=-1)
        M = np.where(M > 0, M, 1)[..., None]
        ratio = np.where(true, 1, lodds / M)
        S = np.where(true, 0, ratio**a).sum(axis=-1, keepdims=True)
        if (S < 0).any() and self.root == "real" and b != int(b):
            self.refuse(
                f"a sum of odd powers is negative, and its power {b} is not real",
                "give root='signed', or an even exponent, or a whole outer_exponent",
            )
        if (S == 0).any() and b < 1:
            self.refuse(f"a sum of powers is 0, where its power {b} has no gradient", "give an outer_exponent from 1")
        return ratio, M, S

    def power(self, S: Any, b: float) -> Any:
        """S^b in NumPy, with the root that was chosen."""
        return np.sign(S) * abs(S) ** b if self.root == "signed" else S**b

    def value(self, z: Any, labels: Any) -> Any:
        true = np.arange(z.shape[1]) == labels[:, None]
        _, M, S = self.sums(Tails(z).smooth(self.eps), true)
        b = float(self.outer_exponent)
        return self.coefficient * (self.power(S, b) * M ** (self.exponent * b))[:, 0]

    def slopes(self, lodds: Any, true: Any) -> Any:
        """The derivatives by the log-odds: c b S^(b-1) a l_j^(a-1), 0 at the true class."""
        a, b = int(self.exponent), float(self.outer_exponent)
        ratio, M, S = self.sums(lodds, true)
        outer = b * (abs(S) if self.root == "signed" else S) ** (b - 1)
        inner = a * np.where(true, 0, ratio ** (a - 1) if a > 1 else ratio ** float(a - 1))
        return self.coefficient * outer * inner * M ** (a * b - 1)

    def gradient(self, z: Any, labels: Any) -> Any:
        tails = Tails(z)
        true = np.arange(z.shape[1]) == labels[:, None]
        return tails.pull(self.slopes(tails.smooth(self.eps), true) * tails.smooth_slope(self.eps))

    def jacobian(self, z: Any, label: Any) -> Any:
        true = np.arange(len(z)) == label
        slopes = self.slopes(self.smooth_values(z, self.eps), true)
        return slopes[None] @ self.smooth_slopes(z, self.eps)

    def printed(self, z: Any, labels: Any) -> tuple[Formula]:
        """c b S^(b-1) sum_j a l_j^(a-1) dl_j/dz_k."""
        i, j, a, b = indices("i"), indices("j"), variable("a"), variable("b")
        K = z.shape[0]
        lodds = log_odds(z, j, self.eps)
        S = over_incorrect(lodds**a, labels, j, K)
        size = S if self.root == "real" else sp.Piecewise((S, S > 0), (-S, True))
        outer = b * size ** (b - 1)
        inner = over_incorrect(a * lodds ** (a - 1) * log_odds_slope(z, j, i, self.eps), labels, j, K)
        return (Formula(variable("c") * outer * inner, i, tables=self._constants()),)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        spread = np.array([[0.5, -1.0, 2.5, 0.25], [3.0, 0.2, 0.3, -1.0]])
        yield cls(-1.0, -3, -1 / 3, "signed"), spread, np.array([2, 0])
        yield cls(1.0, 2, 0.5), np.array([[3.0, 3.5, -2.0], [-4.0, 1.0, 5.0]]), np.array([2, 2])
        yield cls(-1.0, -4, -0.25), np.array([[1000.0, -1000.0, 998.0], [40.0, 0.0, 1.0]]), np.array([1, 0])
        yield cls(-0.5, 3, 1.0), 0.5 + rng.normal(size=(3, 2)), np.array([1, 0, 0])
        yield cls(1.0, 4, 0.25, eps=1e-3), spread[:, :3], np.array([2, 0])

    @classmethod
    def tails(cls) -> Iterator[tuple[Any, ...]]:
        # With p_c = 0 and two others their log-odds are opposite: odd powers would cancel.
        yield cls(-1.0, -3, -1 / 3, "signed"), np.array([[40.0, 0.0, 1.0, -1.0]]), np.array([0])
        yield cls(1.0, 2, 0.5), np.array([[40.0, 0.0, 1.0], [-50.0, 0.0, -2.0]]), np.array([0, 0])

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        yield from super().errors()
        z, labels = np.array([[1.0, 0.0, 0.0]]), np.array([0])
        half = np.array([[0.0, 1000.0, 1000.0]])
        yield lambda: cls(1, 2.5, 0.4), "exponent=2.5"  # type: ignore[arg-type]
        yield lambda: cls(1, 0, 1), "exponent=0"
        yield lambda: cls(1, 2, 0), "outer_exponent=0"
        yield lambda: cls(1, 2, 0.5, "complex"), "complex"
        yield lambda: cls(-1, 3, 1 / 3)(z, labels), "root='signed'"
        yield lambda: cls(1, -2, 1)(half, labels), "1/2"
        yield lambda: cls(1, 2, 0.5)(half, labels), "no gradient"
        yield lambda: cls(1, 2, 0.5, eps=-1.0), "eps=-1.0"


class IncorrectLogOddsLSE(IncorrectLoss):
    """loss = coefficient/sharpness log sum_{j != c} e^(sharpness l_j): a soft maximum of the incorrect log-odds.

    A sharpness over 0 finds the largest (the patent's "big" term, coefficient positive for training), under 0 the
    smallest ("small", coefficient negative); the source prints both with one sign (P-7). From sharpness 1 on, "big" is
    least where the incorrect probabilities are all equal; under 1 it may not be (P-11). For K = 2 it is
    coefficient l_j whatever the sharpness (P-8).
    """

    source = Source(f"{PATENT} 11, 12", "IP-16, IP-17", "P-7")

    def __init__(self, coefficient: float, sharpness: float, eps: float = 0.0, reduction: str = "mean"):
        self.coefficient, self.sharpness, self.eps = coefficient, sharpness, eps
        self.check_epsilon()
        if sharpness == 0:
            self.refuse("sharpness=0", "give a number over 0 for the largest log-odds, under 0 for the smallest")
        super().__init__(reduction)

    def _constants(self) -> dict[str, Any]:
        return {"c": self.coefficient, "lambda": self.sharpness, "epsilon": self.eps}

    def formula(self, z: Any, labels: Any) -> Formula:
        j, sharpness = indices("j"), variable("lambda")
        terms = sp.exp(sharpness * log_odds(z, j, self.eps))
        return Formula(
            variable("c") / sharpness * sp.log(over_incorrect(terms, labels, j, z.shape[0])), tables=self._constants()
        )

    def value(self, z: Any, labels: Any) -> Any:
        lodds = Tails(z).smooth(self.eps)
        return self.coefficient / self.sharpness * lse(incorrect(self.sharpness * lodds, labels))

    def gradient(self, z: Any, labels: Any) -> Any:
        tails = Tails(z)
        w = softmax(incorrect(self.sharpness * tails.smooth(self.eps), labels))
        return self.coefficient * tails.pull(w * tails.smooth_slope(self.eps))

    def jacobian(self, z: Any, label: Any) -> Any:
        l = np.where(np.arange(len(z)) == label, -np.inf, self.sharpness * self.smooth_values(z, self.eps))
        w = np.exp(l - l.max())
        return self.coefficient * (w / w.sum())[None] @ self.smooth_slopes(z, self.eps)

    def printed(self, z: Any, labels: Any) -> tuple[Formula]:
        """c sum_j w_j dl_j/dz_k, w = softmax(lambda l)."""
        i, j = indices("i j")
        K = z.shape[0]
        terms = sp.exp(variable("lambda") * log_odds(z, j, self.eps))
        pulled = over_incorrect(terms * log_odds_slope(z, j, i, self.eps), labels, j, K)
        slope = variable("c") * pulled / over_incorrect(terms, labels, j, K)
        return (Formula(slope, i, tables=self._constants()),)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        forms = ((1.0, 1.0, 0.0), (-1.0, -1.0, 0.0), (0.5, 4.0, 0.0), (1.0, 2.0, 0.0))
        for form, (z, labels) in zip(forms, cls.logits(rng), strict=True):
            yield cls(*form), z, labels
        yield cls(-1.0, -2.0, 1e-3), rng.normal(size=(2, 4)), np.array([3, 0])

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        yield from super().errors()
        yield lambda: cls(1, 0), "sharpness=0"
        yield lambda: cls(1, 1, -0.5), "eps=-0.5"


class LogSumInverseProbability(IncorrectLoss):
    """loss = coefficient log Z, Z = sum_{j != c} 1/p_j, computed as LSE(z) + LSE_{j != c}(-z_j): Z itself overflows.

    The source gives Z and leaves out the logarithm (P-3). It is least where the incorrect probabilities are equal,
    and it draws p_c down: with cross-entropy and coefficient 1 training ends at p_c = 1/2 (P-9). The gradient is
    coefficient times p_c at c, and p_k - r_k elsewhere, r = softmax of the -z_j.
    """

    source = Source(f"{PATENT} 13, 19", "IP-18", "P-3, P-9")

    def __init__(self, coefficient: float = 1.0, reduction: str = "mean"):
        self.coefficient = coefficient
        super().__init__(reduction)

    def formula(self, z: Any, labels: Any) -> Formula:
        j = indices("j")
        Z = everything(z) * over_incorrect(sp.exp(-z[j]), labels, j, z.shape[0])
        return Formula(variable("c") * sp.log(Z), tables={"c": self.coefficient})

    def value(self, z: Any, labels: Any) -> Any:
        return self.coefficient * lse(incorrect(-Tails(z).log_p, labels))

    def gradient(self, z: Any, labels: Any) -> Any:
        tails, r = Tails(z), Tails(incorrect(-z, labels))
        # p - r, or (1 - r) - (1 - p) where r is almost 1
        slopes = np.where(r.lodds > 0, r.q - tails.q, tails.p - r.p)
        slopes[rows(z), labels] = tails.p[rows(z), labels]
        return self.coefficient * slopes

    def jacobian(self, z: Any, label: Any) -> Any:
        r = np.where(np.arange(len(z)) == label, -np.inf, -z)
        p, r = (np.exp(x - x.max()) / np.exp(x - x.max()).sum() for x in (z, r))
        return self.coefficient * (p - r)[None]

    def printed(self, z: Any, labels: Any) -> tuple[Formula]:
        """p_c at c, p_k - r_k elsewhere."""
        i, j = indices("i j")
        r = (1 - sp.KroneckerDelta(i, labels)) * sp.exp(-z[i])
        r /= over_incorrect(sp.exp(-z[j]), labels, j, z.shape[0])
        slope = variable("c") * (sp.exp(z[i]) / everything(z) - r)
        return (Formula(slope, i, tables={"c": self.coefficient}),)


class IncorrectProbabilityLoss(IncorrectLoss):
    """The patent's total loss: a sum of six terms, each with its coefficient, in the log-sum-exp form.

    ce_coeff log p_c + cce_coeff log(1 - p_c) + p_corr_lodds l_c + `IncorrectLogOddsLSE`(c_big, lambda_big)
    + `IncorrectLogOddsLSE`(c_small, lambda_small) + ln_z_coeff log Z, where eps is that of the log-odds.

    As p_c goes to 1 with the rest spread evenly the sum behaves like S log(1 - p_c), with
    S = cce_coeff - p_corr_lodds - ln_z_coeff + c_big + c_small. A warning says so where S is not 0 (P-9): S > 0 has no
    smallest loss, S < 0 drives p_c to a value inside (0, 1), for ce_coeff = -1 and ln_z_coeff = 1 to 1/2. (With eps
    that holds down to 1 - p_c = eps, where the log-odds end, and cce_coeff - ln_z_coeff is left of S.) Where S is 0 the
    singular parts are left out before anything is summed, so that the tails are exact.

    `preset` makes the sums that the patent names, with the signs that they need (P-4).
    """

    source = Source(f"{PATENT} 4", "IP-09", "P-4, P-9")
    dependent = ("product",)
    SIGNS: ClassVar[dict[str, dict[str, int]]] = {
        "ce": {"ce_coeff": -1}, "cce": {"cce_coeff": 1}, "lodds": {"p_corr_lodds": -1}, "big": {"c_big": 1},
        "small": {"c_small": -1}, "ln_z": {"ln_z_coeff": 1},
    }  # fmt: skip

    def __init__(
        self, ce_coeff: float = -1, cce_coeff: float = 0, p_corr_lodds: float = 0, c_big: float = 0,
        lambda_big: float = 1, c_small: float = 0, lambda_small: float = -1, ln_z_coeff: float = 0, eps: float = 0,
        reduction: str = "mean",
    ):  # fmt: skip
        self.ce_coeff, self.cce_coeff, self.p_corr_lodds = ce_coeff, cce_coeff, p_corr_lodds
        self.c_big, self.lambda_big, self.c_small, self.lambda_small = c_big, lambda_big, c_small, lambda_small
        self.ln_z_coeff, self.eps = ln_z_coeff, eps
        self.check_epsilon()
        if 0 in (lambda_big, lambda_small):
            self.refuse("a lambda is 0", "give lambda_big over 0 and lambda_small under 0")
        super().__init__(reduction)
        S = self.singularity
        if S:
            end = "so it has no smallest value: logits grow for ever" if S > 0 else "so its optimum has p_c < 1"
            if eps:
                end = f"until 1 - p_c is about {eps:g}"
            warnings.warn(
                f"{self!r}: behaves like {S:.4g} log(1 - p_c) as p_c goes to 1, {end} (P-9): choose coefficients "
                f"with cce_coeff - p_corr_lodds - ln_z_coeff + c_big + c_small = 0",
                stacklevel=2,
            )

    @classmethod
    def preset(cls, name: str, **changes: Any) -> IncorrectProbabilityLoss:
        """The sum of the terms in a name such as "ce+big+small", each with coefficient +1 or -1 as its sign demands.

        The terms are ce, cce, lodds, big, small and ln_z; "all" is the six of them. Any parameter may be changed:
        ``preset("ce+big+small", lambda_big=4)``. ValueError for another name.
        """
        terms = list(cls.SIGNS) if name == "all" else [term.strip() for term in name.split("+")]
        unknown = [term for term in terms if term not in cls.SIGNS]
        if unknown:
            raise ValueError(
                f"{cls.__name__}.preset({name!r}): no term {', '.join(unknown)}: add up {', '.join(cls.SIGNS)}, as in "
                f"'ce+big+small', or say 'all'"
            )
        chosen: dict[str, Any] = {"ce_coeff": 0}
        for term in terms:
            chosen |= cls.SIGNS[term]
        return cls(**chosen | changes)

    @property
    def singularity(self) -> float:
        """S, exactly 0 where the coefficients cancel to rounding."""
        return balance(self.cce_coeff, -self.p_corr_lodds, -self.ln_z_coeff, self.c_big, self.c_small)

    def terms(self) -> list[Any]:
        """The terms other than ce_coeff log p_c, each a loss of its own."""
        return [
            ComplementaryCrossEntropy(self.cce_coeff),
            LogOdds(self.p_corr_lodds, self.eps),
            IncorrectLogOddsLSE(self.c_big, self.lambda_big, self.eps),
            IncorrectLogOddsLSE(self.c_small, self.lambda_small, self.eps),
            LogSumInverseProbability(self.ln_z_coeff),
        ]

    def _sum(self, formulas: list[Formula], letters: tuple[Any, ...]) -> Formula:
        """One formula from those of the terms, whose constants get a number to tell them apart."""
        expression, tables = formulas[0].expression, dict(formulas[0].tables)
        for number, term in enumerate(formulas[1:], start=1):
            if not term.tables["c"]:
                continue
            renamed = {name: f"{name}_{number}" if name != "epsilon" else name for name in term.tables}
            expression += term.expression.subs({variable(old): variable(new) for old, new in renamed.items()})
            tables |= {new: term.tables[old] for old, new in renamed.items()}
        return Formula(expression, *letters, tables=tables)

    def formula(self, z: Any, labels: Any) -> Formula:
        first = Formula(variable("c_0") * (z[labels] - sp.log(everything(z))), tables={"c_0": self.ce_coeff})
        return self._sum([first, *(term.formula(z, labels) for term in self.terms())], ())

    def parted(self) -> tuple[float, list[tuple[float, float]], float, list[Any]]:
        """What is summed without its part in log(1 - p_c), and the terms that are summed as they are.

        First the coefficient of log p_c, coefficient and lambda of the log-sum-exps of log-odds, and ln_z_coeff: of
        these the parts are left out if they cancel. What eps smooths has none.
        """
        _, *smoothed, _ = terms = self.terms()
        if self.eps and not balance(self.cce_coeff, -self.ln_z_coeff):
            return self.ce_coeff, [], self.ln_z_coeff, [term for term in smoothed if term.coefficient]
        if not self.eps and not self.singularity:
            means = [(self.c_big, self.lambda_big), (self.c_small, self.lambda_small)]
            return self.ce_coeff + self.p_corr_lodds, [mean for mean in means if mean[0]], self.ln_z_coeff, []
        return self.ce_coeff, [], 0.0, [term for term in terms if term.coefficient]

    def value(self, z: Any, labels: Any) -> Any:
        tails, wrong = Tails(z), Tails(incorrect(z, labels))
        on_p, means, on_z, whole = self.parted()
        loss = on_p * tails.log_p[rows(z), labels]
        m = wrong.log_p - tails.log_q  # l_j less log(1 - p_c)
        for c, sharpness in means:
            loss = loss + c / sharpness * lse(incorrect(sharpness * m, labels))
        if on_z:
            loss = loss + on_z * lse(incorrect(-wrong.log_p, labels))  # log Z plus log(1 - p_c)
        return sum((term.value(z, labels) for term in whole), start=loss)

    def gradient(self, z: Any, labels: Any) -> Any:
        tails, n = Tails(z), rows(z)
        on_p, means, on_z, whole = self.parted()
        s = softmax(incorrect(z, labels))
        along = -s
        along[n, labels] = 1
        gradient = on_p * tails.q[n, labels][:, None] * along
        for c, sharpness in means:
            # w times the gradients of the log-odds, less that of log(1 - p_c), with 1/(1 - p_j) = 1 + p_j/(1 - p_j)
            w = softmax(incorrect(sharpness * tails.lodds, labels))
            gradient = gradient + c * ((w - s) + tails.pull(w * tails.p))
        if on_z:
            gradient = gradient + on_z * (s - softmax(incorrect(-z, labels)))
        return sum((term.gradient(z, labels) for term in whole), start=gradient)

    def jacobian(self, z: Any, label: Any) -> Any:
        return self.gradient(z[None], np.array([label]))

    def printed(self, z: Any, labels: Any) -> tuple[Formula]:
        """The sum of the gradients of the terms; ce_coeff (e_c - p) for the first."""
        i = indices("i")
        slope = variable("c_0") * (sp.KroneckerDelta(i, labels) - sp.exp(z[i]) / everything(z))
        first = Formula(slope, i, tables={"c_0": self.ce_coeff})
        rest: list[Any] = list(self.terms())
        return (self._sum([first, *(term.printed(z, labels)[0] for term in rest)], (i,)),)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        first, *more = cls.logits(rng)
        six = cls(-1, 0.5, -0.75, 1.0, 2.0, -0.5, -1.5, 1.75)
        yield six, *first
        for name, (z, labels) in zip(("ce+big+small", "lodds+ln_z", "ce"), more, strict=True):
            yield cls.preset(name), z, labels
        yield cls(-1, 0.5, -0.75, 1.0, 2.0, -0.5, -1.5, 1.75, eps=1e-3), *first

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        yield from super().errors()
        yield lambda: cls(lambda_big=0), "lambda_big over 0"
        yield lambda: cls(eps=-1), "eps=-1"
        yield lambda: cls.preset("ce+huge"), "huge"


def balance(*coefficients: float) -> float:
    """Their sum, exactly 0 where they cancel to rounding."""
    S = math.fsum(coefficients)
    return S if abs(S) > 1e-14 * math.fsum(map(abs, coefficients)) else 0.0
