"""Measures of a classifier: what it decides, how often it errs, where it decides what, and how well one score
alone, the logit of a class, finds the samples of that class.

Scores are arrays or tensors (..., K), the last axis the classes: logits or probabilities, since softmax keeps
their order. Letters: ``c, j`` class, K classes, ``p`` a point of the simplex, ``n`` sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .tensor import as_array

if TYPE_CHECKING:
    from .tables import Table

__all__ = [
    "PrecisionRecall", "SingleLogitReport", "average_precision", "confusion_matrix", "decide", "decision_regions",
    "is_separated", "logit_separation", "on_simplex", "precision_at_recall", "precision_recall_curve",
    "relative_improvement", "single_logit_report", "threshold_at_recall", "zero_one_error",
]  # fmt: skip


def decide(scores: Any) -> np.ndarray:
    """The class of the largest score, of equal ones the lowest: scores (..., K) to whole numbers (...)
    (TC-03).

    Raises ValueError where there are no classes, and where a score is nan: nothing is then the largest.
    """
    scores = as_array(scores)
    if scores.ndim == 0 or scores.shape[-1] == 0:
        raise ValueError(f"decide: expected scores (..., K), got {scores.shape}: give one score a class")
    if np.isnan(scores).any():
        raise ValueError(
            f"decide: the scores {scores.shape} hold nan, and nothing is the largest: look where it came in"
        )
    return np.asarray(scores.argmax(axis=-1))


def zero_one_error(scores: Any, labels: Any) -> float:
    """The fraction of samples that are not decided as labelled (TC-06, Tomasi 2019, section 2.1).

    ``scores`` is (N, K), ``labels`` (N,) whole numbers from 0, or distributions (N, K), of which the most
    likely class counts. Its gradient is 0 wherever it exists: it validates, it does not train.

    Raises ValueError for shapes that do not fit or no samples at all, TypeError for labels that are not
    integers.
    """
    scores = as_array(scores)
    if scores.ndim != 2 or len(scores) == 0:
        raise ValueError(f"zero_one_error: expected scores (N, K), got {scores.shape}: give one row a sample")
    if np.ndim(labels) == 2:
        labels = decide(labels)
    return float((decide(scores) != _labels("zero_one_error", labels, scores.shape)).mean())


def confusion_matrix(scores: Any, labels: Any) -> np.ndarray:
    """How many samples of class i (rows) are decided to be of class j (columns): scores (N, K) to integers
    (K, K).

    The trace counts the right decisions. Raises as `zero_one_error` does.
    """
    scores = as_array(scores)
    if scores.ndim != 2:
        raise ValueError(f"confusion_matrix: expected scores (N, K), got {scores.shape}: give one row a sample")
    labels = _labels("confusion_matrix", labels, scores.shape)
    K = scores.shape[1]
    return np.bincount(labels * K + decide(scores), minlength=K * K).reshape(K, K)


def on_simplex(p: Any, c: float = 4.0) -> np.ndarray:
    """Whether p >= 0 and sum p = 1, up to rounding: p (..., K) to a mask (...) (TC-01, Tomasi 2019, section
    1).

    The sum of K rounded numbers is allowed to miss 1 by c K epsilon, epsilon that of the dtype of p.
    """
    p = as_array(p)
    if p.ndim == 0 or p.shape[-1] == 0:
        raise ValueError(f"on_simplex: expected p (..., K), got {p.shape}: give one number a class")
    if p.dtype.kind != "f":
        p = p.astype(float)
    near = np.abs(p.sum(axis=-1) - 1) <= c * p.shape[-1] * np.finfo(p.dtype).eps
    return np.asarray((p >= 0).all(axis=-1) & near)


def decision_regions(p: Any) -> np.ndarray:
    """Which regions P_c = {p on the simplex: p_c >= p_j for all j} p lies in: (..., K) to a mask (..., K)
    (TC-03).

    A point on a boundary lies in several (T-19), the centre in all; a point off the simplex lies in none.
    """
    p = as_array(p)
    return np.asarray(on_simplex(p)[..., None] & (p == p.max(axis=-1, keepdims=True)))


# Single logit classification --------------------------------------------------------------------------------


class PrecisionRecall(NamedTuple):
    """The operating points of a score, one for each of its T distinct values, the largest first.

    Accepting every sample with a score >= ``thresholds[t]`` reaches ``precision[t]`` and ``recall[t]``, each (T,). To
    accept strictly above a threshold (LS-01), take one between ``thresholds[t]`` and the next.
    """

    precision: np.ndarray
    recall: np.ndarray
    thresholds: np.ndarray


def precision_recall_curve(scores: Any, positive: Any) -> PrecisionRecall:
    """Precision TP / (TP + FP) and recall TP / P at every threshold that changes them (LS-17, Keren et al. 2018,
    section VI-A).

    ``scores`` (N,) are those of one class, ``positive`` (N,) says which samples belong to it, in booleans or 0 and
    1. Equal scores are accepted together. Nothing is accepted above the first point, where precision is undefined.

    Raises ValueError where there is no positive sample, so that recall is undefined, for scores that are nan and for
    shapes that do not fit.
    """
    true_positives, accepted, thresholds = _operating_points("precision_recall_curve", scores, positive)
    return PrecisionRecall(true_positives / accepted, true_positives / true_positives[-1], thresholds)


def average_precision(scores: Any, positive: Any) -> float:
    """The area under the precision-recall curve as a step function: sum_t (R_t - R_t-1) P_t, R_0 = 0 (LS-17, K-12).

    The mean, over the positive samples, of the precision at which each is accepted; not the trapezoids, which
    interpolate between points that no threshold reaches. Takes and refuses what `precision_recall_curve` does.
    """
    true_positives, accepted, _ = _operating_points("average_precision", scores, positive)
    return _average_precision(true_positives, accepted)


def precision_at_recall(scores: Any, positive: Any, recall: float) -> float:
    """The precision at the largest threshold whose recall is at least ``recall``, in (0, 1] (LS-18, K-12).

    That is the first operating point with TP >= ceil(recall P), in whole numbers: of 10 positives, 9 are a recall of
    0.9. Takes and refuses what `precision_recall_curve` does; ValueError for a recall outside (0, 1].
    """
    if not 0 < recall <= 1:
        raise ValueError(
            f"precision_at_recall: expected a recall in (0, 1], got {recall}: at recall 0 nothing is accepted"
        )
    true_positives, accepted, _ = _operating_points("precision_at_recall", scores, positive)
    return _precision_at_recall(true_positives, accepted, recall)


def threshold_at_recall(scores: Any, positive: Any, recall: float) -> float:
    """A threshold T with which accepting scores > T, strictly (LS-01), reaches that recall and no more than it needs.

    It accepts what `precision_at_recall` counts, and lies midway between the last score that is accepted and the
    first that is not; right under the last one if all are accepted. It is a number of the dtype of the scores. Takes
    and refuses what `precision_at_recall` does.
    """
    if not 0 < recall <= 1:
        raise ValueError(
            f"threshold_at_recall: expected a recall in (0, 1], got {recall}: at recall 0 nothing is accepted"
        )
    true_positives, _, values = _operating_points("threshold_at_recall", scores, positive)
    t = _first_with(true_positives, recall)
    if values.dtype.kind != "f":
        values = values.astype(float)
    if values[t] == -np.inf:
        raise ValueError(
            f"threshold_at_recall: a score of -inf is over no threshold, and a recall of {recall} needs it: "
            f"give finite scores"
        )
    if t + 1 == len(values):
        return float(np.nextafter(values[t], values.dtype.type(-np.inf)))
    with np.errstate(invalid="ignore"):
        middle = values[t + 1] / 2 + values[t] / 2
    return float(middle if values[t + 1] <= middle < values[t] else values[t + 1])


def logit_separation(logits: Any, labels: Any) -> float:
    """The smallest true logit minus the largest false one, over all samples: logits (N, K), labels (N,) (LS-02).

    A true logit is that of the class of its sample, a false one any other. +inf for K = 1, where none is false.

    Raises ValueError for shapes that do not fit, no samples and logits that are nan, TypeError for labels that are
    not integers.
    """
    true, false = _true_and_false("logit_separation", logits, labels)
    return 0.0 if true == false else true - false  # also where both are infinite


def is_separated(logits: Any, labels: Any) -> bool:
    """Whether one threshold parts all true logits from all false ones, the Principle of Logit Separation (LS-02,
    Keren et al. 2018, definition 1).

    Strictly: a tie is not separated. One class alone always is. Takes and refuses what `logit_separation` does.
    """
    true, false = _true_and_false("is_separated", logits, labels)
    return true > false


@dataclass(frozen=True, eq=False, repr=False)
class SingleLogitReport:
    """How well one logit decides about its class; prints as a table, and shows as one in a notebook.

    ``per_class`` is (K, C), a row for each class and a column for each of ``measures``, ``mean`` (C,) its mean over
    the classes; ``report["1-AUPRC"]`` is one such mean. All are errors: 0 is perfect.
    """

    measures: tuple[str, ...]
    per_class: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """The macro average: every class counts the same."""
        return np.asarray(self.per_class.mean(axis=0))

    def __getitem__(self, measure: str) -> float:
        return float(self.mean[self.measures.index(measure)])

    def as_dict(self) -> dict[str, float]:
        """The means by name."""
        return dict(zip(self.measures, self.mean.tolist(), strict=True))

    def table(self) -> Table:
        """A row for each class, and the mean."""
        from .tables import Table

        named = [*((str(j), row) for j, row in enumerate(self.per_class)), ("mean", self.mean)]
        rows = tuple((name, *(f"{error:.3f}" for error in row)) for name, row in named)
        return Table(("class", *self.measures), rows)

    def __repr__(self) -> str:
        return str(self.table())

    def _repr_html_(self) -> str:
        return self.table().render("html")


def single_logit_report(logits: Any, labels: Any, recalls: Sequence[float] = (0.9, 0.99)) -> SingleLogitReport:
    """1-AUPRC, 1-P@0.9 and 1-P@0.99 of each class j from its logit z_j alone, as in table I of Keren et al. 2018
    (LS-19).

    ``logits`` (N, K) may be any scores, such as the probabilities of a softmax (LS-20, table II); ``labels`` (N,).
    AUPRC is `average_precision`, P@r `precision_at_recall`.

    Raises ValueError for a class without a sample, for logits that are nan and for shapes that do not fit, TypeError
    for labels that are not integers.
    """
    scores, labels = _scored("single_logit_report", logits, labels)
    counts = np.bincount(labels, minlength=scores.shape[1])
    if not counts.all():
        raise ValueError(
            f"single_logit_report: no sample of class {', '.join(map(str, np.flatnonzero(counts == 0)))}, so that "
            f"recall is undefined: test on samples of every class"
        )
    if not all(0 < recall <= 1 for recall in recalls):
        raise ValueError(f"single_logit_report: expected recalls in (0, 1], got {recalls}: at recall 0 nothing is done")
    errors = np.empty((len(counts), 1 + len(recalls)))
    for j, column in enumerate(scores.T):
        true_positives, accepted, _ = _operating_points("single_logit_report", column, labels == j)
        errors[j, 0] = 1 - _average_precision(true_positives, accepted)
        errors[j, 1:] = [1 - _precision_at_recall(true_positives, accepted, recall) for recall in recalls]
    return SingleLogitReport(("1-AUPRC", *(f"1-P@{recall:g}" for recall in recalls)), errors)


def relative_improvement(baselines: Any, others: Any) -> float:
    """How much smaller the mean error of others is than that of baselines, as a fraction of it (LS-19, K-11).

    Raises ValueError where one of them is empty, or the baselines have no error that could become smaller.
    """
    baselines, others = np.asarray(baselines, dtype=float), np.asarray(others, dtype=float)
    if not baselines.size or not others.size or baselines.mean() == 0:
        raise ValueError(
            f"relative_improvement: expected errors, not all 0, got {baselines.size} baselines and {others.size} "
            f"others: the mean of the baselines is what is improved on"
        )
    return float(1 - others.mean() / baselines.mean())


def _operating_points(who: str, scores: Any, positive: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True positives, accepted samples and thresholds, each (T,), for the T distinct scores, the largest first."""
    scores, positive = as_array(scores), as_array(positive)
    if scores.ndim != 1 or scores.shape != positive.shape:
        raise ValueError(
            f"{who}: expected scores (N,) and positive (N,), got {scores.shape} and {positive.shape}: "
            f"give one class at a time, as in logits[:, j], labels == j"
        )
    if np.isnan(scores).any():
        raise ValueError(f"{who}: the scores {scores.shape} hold nan, which has no rank: look where it came in")
    if not ((positive == 0) | (positive == 1)).all():
        raise ValueError(f"{who}: expected positive to hold booleans, or 0 and 1: for class j give labels == j")
    if not positive.any():
        raise ValueError(f"{who}: none of {len(scores)} samples is positive, so recall is undefined: give one")
    order = scores.argsort(kind="stable")[::-1]
    falling = scores[order]
    last = np.append(np.flatnonzero(falling[1:] != falling[:-1]), len(scores) - 1)  # of equal scores
    return np.cumsum(positive[order] != 0)[last], last + 1, falling[last]


def _average_precision(true_positives: np.ndarray, accepted: np.ndarray) -> float:
    return float(true_positives / accepted @ np.diff(true_positives, prepend=0) / true_positives[-1])


def _precision_at_recall(true_positives: np.ndarray, accepted: np.ndarray, recall: float) -> float:
    t = _first_with(true_positives, recall)
    return float(true_positives[t] / accepted[t])


def _first_with(true_positives: np.ndarray, recall: float) -> int:
    """The first operating point of at least that recall."""
    needed = math.ceil(recall * int(true_positives[-1]) * (1 - 1e-12))  # a rounding error must not ask for one more
    return int(np.searchsorted(true_positives, needed))


def _scored(who: str, logits: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, K) without nan and labels (N,) that fit, at least one of each."""
    scores = as_array(logits)
    if scores.ndim != 2 or scores.size == 0:
        raise ValueError(f"{who}: expected logits (N, K), got {scores.shape}: give one row a sample")
    if np.isnan(scores).any():
        raise ValueError(f"{who}: the logits {scores.shape} hold nan, which has no rank: look where it came in")
    return scores if scores.dtype.kind == "f" else scores.astype(float), _labels(who, labels, scores.shape)


def _true_and_false(who: str, logits: Any, labels: Any) -> tuple[float, float]:
    """The smallest true logit and the largest false one, -inf if there is none."""
    scores, labels = _scored(who, logits, labels)
    true = np.arange(scores.shape[1]) == labels[:, None]
    return float(scores[true].min()), float(scores[~true].max(initial=-np.inf))


def _labels(who: str, labels: Any, shape: tuple[int, int]) -> np.ndarray:
    """Whole-number labels that fit scores of this shape."""
    labels, (N, K) = np.asarray(labels), shape
    if labels.dtype.kind not in "iu":
        raise TypeError(f"{who}: expected whole numbers as labels, got {labels.dtype}: use labels.astype(int)")
    if labels.shape != (N,):
        raise ValueError(f"{who}: expected {N} labels for scores {shape}, got {labels.shape}: give one a sample")
    if labels.size and not 0 <= labels.min() <= labels.max() < K:
        raise ValueError(
            f"{who}: expected labels from 0 to {K - 1}, got {labels.min()} to {labels.max()}: count classes from 0"
        )
    return np.asarray(labels, dtype=np.intp)
