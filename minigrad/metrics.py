"""Measures of a classifier: what it decides, how often it errs, and where it decides what.

Scores are arrays or tensors (..., K), the last axis the classes: logits or probabilities, since softmax keeps
their order. Letters: ``c, j`` class, K classes, ``p`` a point of the simplex, ``n`` sample.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["confusion_matrix", "decide", "decision_regions", "on_simplex", "zero_one_error"]


def decide(scores: Any) -> np.ndarray:
    """The class of the largest score, of equal ones the lowest: scores (..., K) to whole numbers (...)
    (TC-03).

    Raises ValueError where there are no classes, and where a score is nan: nothing is then the largest.
    """
    scores = np.asarray(scores)
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
    scores = np.asarray(scores)
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
    scores = np.asarray(scores)
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
    p = np.asarray(p)
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
    p = np.asarray(p)
    return np.asarray(on_simplex(p)[..., None] & (p == p.max(axis=-1, keepdims=True)))


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
