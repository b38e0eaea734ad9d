"""Average precision, precision at recall and logit separation: by hand, by definition and against scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.metrics import (
    average_precision,
    is_separated,
    logit_separation,
    precision_at_recall,
    precision_recall_curve,
    relative_improvement,
    single_logit_report,
)

ranked = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=30).filter(
    lambda samples: any(positive for _, positive in samples)
)


def columns(samples):
    scores, positive = zip(*samples, strict=True)
    return np.array(scores, dtype=float), np.array(positive)


# By hand ----------------------------------------------------------------------------------------------------


def test_a_ranking_by_hand():
    """Accepted one by one: + - + - - +."""
    scores, positive = np.array([6.0, 5, 4, 3, 2, 1]), np.array([1, 0, 1, 0, 0, 1])
    curve = precision_recall_curve(scores, positive)
    np.testing.assert_allclose(curve.precision, [1, 1 / 2, 2 / 3, 2 / 4, 2 / 5, 3 / 6], rtol=1e-15)
    np.testing.assert_allclose(curve.recall, [1 / 3, 1 / 3, 2 / 3, 2 / 3, 2 / 3, 1], rtol=1e-15)
    np.testing.assert_array_equal(curve.thresholds, scores)
    assert average_precision(scores, positive) == pytest.approx((1 + 2 / 3 + 3 / 6) / 3, rel=1e-15)
    assert precision_at_recall(scores, positive, 0.3) == 1
    assert precision_at_recall(scores, positive, 0.5) == 2 / 3
    assert precision_at_recall(scores, positive, 1) == 1 / 2


def test_equal_scores_enter_together():
    """LS-17: whatever the order in which they are listed."""
    for positive in ([1, 0, 0, 1], [0, 1, 1, 0], [0, 0, 1, 1]):
        assert average_precision([2, 2, 2, 2], positive) == 0.5
        assert precision_at_recall([2, 2, 2, 2], positive, 0.1) == 0.5
    for positive in ([1, 1, 0, 1], [1, 0, 1, 1]):
        assert average_precision([3.0, 2.0, 2.0, 1.0], positive) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3, rel=1e-15)
    assert precision_recall_curve([1.0, 2.0, 2.0], [1, 0, 1]).thresholds.tolist() == [2, 1]


def test_the_first_point_of_that_recall_not_the_best():
    """K-12: - + - - + + + + +; recall 1/2 is reached at 3 of 6, though 6 of 9 would be more precise."""
    scores, positive = -np.arange(9.0), np.array([0, 1, 0, 0, 1, 1, 1, 1, 1])
    curve = precision_recall_curve(scores, positive)
    assert precision_at_recall(scores, positive, 0.5) == 3 / 6
    assert curve.precision[curve.recall >= 0.5].max() == 6 / 9


def test_step_function_and_trapezoids_differ():
    """K-12: AP .519, trapezoids with the anchor (0, 1) .432, on the ranking - + - - + + + +."""
    scores, positive = -np.arange(8.0), np.array([0, 1, 0, 0, 1, 1, 1, 1])
    precision, recall, _ = precision_recall_curve(scores, positive)
    trapezoids = np.trapezoid(np.append(1, precision), np.append(0, recall))
    assert (round(average_precision(scores, positive), 3), round(trapezoids, 3)) == (0.519, 0.432)


@pytest.mark.parametrize("P", range(1, 200))
def test_recall_is_counted_in_whole_samples(P):
    """LS-18: k / P, however it is rounded, asks for k positives, never for one more."""
    scores = -np.arange(2.0 * P)
    positive = np.arange(2 * P) % 2 == 0  # the k-th positive is accepted with k - 1 negatives before it
    for k in {1, P // 10, 3 * P // 10, 55 * P // 100, 9 * P // 10, 99 * P // 100, P} - {0}:
        wanted = k / (2 * k - 1)
        assert precision_at_recall(scores, positive, k / P) == wanted
        assert precision_at_recall(scores, positive, min(k / P + 1e-15, 1)) == wanted
        if k > 1:
            assert precision_at_recall(scores, positive, k / P - 0.5 / P) == wanted
    for recall in (0.55, 0.1 + 0.2, 0.9, 0.99):
        k = -(-round(100 * recall) * P // 100)
        assert precision_at_recall(scores, positive, recall) == k / (2 * k - 1)


def test_perfect_and_worst():
    assert average_precision([0.1, 0.2, 0.8, 0.9], [False, False, True, True]) == 1
    assert average_precision([1.0, 0.0], [1, 1]) == precision_at_recall([1.0, 0.0], [1, 1], 0.9) == 1
    assert average_precision([2.0, 1.0], [0, 1]) == 0.5
    assert average_precision([-math.inf, math.inf], [0, 1]) == 1
    assert average_precision(np.array([0, 1], dtype=np.uint8), [0, 1]) == 1
    assert average_precision(np.arange(700.0), np.arange(700) % 7 >= 0) == 1


def test_a_million_scores_are_sorted_once(rng):
    scores, positive = rng.normal(size=1_000_000).astype(np.float32), rng.random(1_000_000) < 0.01
    assert average_precision(scores, positive) == pytest.approx(0.01, abs=1e-3)


# By definition and against scikit-learn ---------------------------------------------------------------------


@settings(deadline=None)
@given(samples=ranked, recall=st.floats(0.001, 1))
def test_the_definitions(samples, recall):
    """LS-17 and LS-18 literally: the accepted set {s > T}, for T from high to low."""
    scores, positive = columns(samples)
    P, area, before, first = positive.sum(), 0.0, 0.0, None
    for T in sorted({*(scores - 0.5)}, reverse=True):
        accepted = scores > T
        precision, reached = positive[accepted].mean(), positive[accepted].sum() / P
        area += (reached - before) * precision
        before = reached
        if first is None and reached >= recall:
            first = precision
    assert average_precision(scores, positive) == pytest.approx(area, rel=1e-13)
    assert precision_at_recall(scores, positive, recall) == first


@settings(deadline=None)
@given(samples=ranked)
def test_scikit_learn_says_the_same(samples):
    theirs = pytest.importorskip("sklearn.metrics")
    scores, positive = columns(samples)
    wanted = theirs.average_precision_score(positive, scores)
    assert average_precision(scores, positive) == pytest.approx(wanted, rel=1e-13)
    precision, recall, thresholds = theirs.precision_recall_curve(positive, scores)
    ours = precision_recall_curve(scores, positive)
    np.testing.assert_allclose(ours.precision, precision[-2::-1], rtol=1e-14)
    np.testing.assert_allclose(ours.recall, recall[-2::-1], rtol=1e-14)
    np.testing.assert_array_equal(ours.thresholds, thresholds[::-1])


def test_scikit_learn_says_the_same_of_logits(rng):
    theirs = pytest.importorskip("sklearn.metrics")
    labels = np.concatenate([np.arange(5), rng.integers(0, 5, size=295)])
    logits = np.round(rng.normal(size=(300, 5)) + 2 * np.eye(5)[labels], 1)
    report = single_logit_report(logits, labels)
    wanted = theirs.average_precision_score(np.eye(5)[labels], logits, average=None)
    np.testing.assert_allclose(report.per_class[:, 0], 1 - wanted, rtol=1e-12)
    macro = theirs.average_precision_score(np.eye(5)[labels], logits, average="macro")
    assert report["1-AUPRC"] == pytest.approx(1 - macro, rel=1e-13)
    for c, r in ((1, 0.9), (2, 0.99)):
        for j in range(5):
            precision, recall, _ = theirs.precision_recall_curve(labels == j, logits[:, j])
            first = np.flatnonzero(recall >= r)[-1]
            assert report.per_class[j, c] == pytest.approx(1 - precision[first], rel=1e-14)


# Logit separation -------------------------------------------------------------------------------------------


def test_separation_by_hand():
    logits = np.array([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0]])
    assert logit_separation(logits, [0, 1]) == 1.0
    assert is_separated(logits, [0, 1])
    assert logit_separation(logits, [0, 2]) == -2.0
    assert not is_separated(logits, [0, 2])
    assert logit_separation(logits.astype(int), [0, 1]) == 1
    assert logit_separation(mg.Tensor(logits), [0, 1]) == 1


@pytest.mark.parametrize("a", [1e-300, 1.0, 500.0])
def test_right_decisions_need_no_separation(a):
    """LS-05: cross-entropy tends to 0 with growing a, and a false logit a beats the true one, -a."""
    logits = np.array([[2 * a, a], [-2 * a, -a]])
    assert mg.metrics.zero_one_error(logits, [0, 1]) == 0
    assert logit_separation(logits, [0, 1]) == -2 * a
    assert not is_separated(logits, [0, 1])


def test_a_tie_is_not_separated():
    """LS-02 is strict, by however little."""
    for z in (0.0, 1e300, math.inf, -math.inf):
        assert not is_separated([[z, z]], [0])
        assert logit_separation([[z, z]], [0]) == 0
    assert is_separated([[5e-324, 0.0]], [0])
    assert is_separated(np.float32([[1 + 2**-23, 1]]), [0])


def test_one_class_is_separated():
    assert is_separated([[-3.0], [2.0]], [0, 0])
    assert logit_separation([[-3.0]], [0]) == math.inf


@settings(deadline=None)
@given(data=st.data(), N=st.integers(1, 6), K=st.integers(1, 4))
def test_separation_is_one_min_and_one_max(data, N, K):
    z = st.lists(st.integers(-4, 4), min_size=K, max_size=K)
    logits = np.array(data.draw(st.lists(z, min_size=N, max_size=N)), dtype=float)
    labels = data.draw(st.lists(st.integers(0, K - 1), min_size=N, max_size=N))
    beaten = [
        logits[n, labels[n]] > logits[i, j] for n in range(N) for i in range(N) for j in range(K) if j != labels[i]
    ]
    assert is_separated(logits, labels) == all(beaten)
    assert (logit_separation(logits, labels) > 0) == all(beaten)


def test_separated_logits_have_no_errors(rng):
    labels = np.arange(40) % 4
    logits = rng.uniform(0, 1, size=(40, 4)) + 1.001 * np.eye(4)[labels]
    assert is_separated(logits, labels)
    report = single_logit_report(logits, labels)
    assert not report.per_class.any()


# The report -------------------------------------------------------------------------------------------------


def test_the_report_is_a_table():
    logits = np.array([[3.0, 0], [1, 2], [2, 1], [0, 3]])
    report = single_logit_report(logits, [0, 0, 1, 1])
    np.testing.assert_allclose(report.per_class, [[1 - (1 + 2 / 3) / 2, 1 / 3, 1 / 3]] * 2, rtol=1e-14)
    assert str(report).splitlines() == [
        "class  1-AUPRC  1-P@0.9  1-P@0.99",
        "-----  -------  -------  --------",
        "0      0.167    0.333    0.333",
        "1      0.167    0.333    0.333",
        "mean   0.167    0.333    0.333",
    ]
    assert "<table>" in report._repr_html_()
    assert list(report.as_dict()) == ["1-AUPRC", "1-P@0.9", "1-P@0.99"]
    assert report["1-P@0.9"] == report.as_dict()["1-P@0.9"] == pytest.approx(1 / 3, rel=1e-14)
    assert single_logit_report(logits, [0, 0, 1, 1], recalls=[0.5]).measures == ("1-AUPRC", "1-P@0.5")


# Table I of Keren et al. 2018: errors of cross-entropy and max-margin, then of the five losses that are aligned.
MNIST = {
    "1-AUPRC": ([0.008, 0.012], [0.002, 0.002, 0.002, 0.001, 0.002], 0.820),
    "1-P@0.9": ([0.005, 0.018], [0.001, 0.002, 0.000, 0.001, 0.001], 0.913),
    "1-P@0.99": ([0.203, 0.262], [0.021, 0.021, 0.037, 0.022, 0.034], 0.884),
}
CIFAR_10_AT_99 = [0.703, 0.705], [0.599, 0.594, 0.607, 0.602, 0.636]


@pytest.mark.parametrize("measure", MNIST)
def test_the_printed_improvements_follow_from_the_printed_errors(measure):
    baselines, others, printed = MNIST[measure]
    assert round(relative_improvement(baselines, others), 3) == printed


def test_one_printed_improvement_does_not():
    """K-11: 13.6 % is printed, the printed entries give 13.7 %."""
    assert round(relative_improvement(*CIFAR_10_AT_99), 3) == 0.137


# Refusals ---------------------------------------------------------------------------------------------------

LOGITS = np.zeros((3, 2))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: average_precision([1.0, 2.0], [0, 0]), ValueError, "none of 2 samples is positive, so recall is"),
        (lambda: average_precision([], []), ValueError, "none of 0 samples"),
        (
            lambda: average_precision([1.0, math.nan], [0, 1]),
            ValueError,
            r"average_precision: the scores \(2,\) hold nan",
        ),
        (lambda: average_precision([1.0, 2.0], [0, 1, 1]), ValueError, r"got \(2,\) and \(3,\)"),
        (lambda: average_precision(LOGITS, LOGITS), ValueError, r"logits\[:, j\], labels == j"),
        (lambda: average_precision([1.0, 2.0], [1, 2]), ValueError, "booleans, or 0 and 1"),
        (lambda: average_precision([1.0, 2.0], [1, math.nan]), ValueError, "booleans, or 0 and 1"),
        (lambda: precision_recall_curve([1.0], [0]), ValueError, "precision_recall_curve: none of 1"),
        (lambda: precision_at_recall([1.0], [0], 0.9), ValueError, "precision_at_recall: none of 1"),
        (lambda: precision_at_recall([1.0], [1], 0.0), ValueError, r"recall in \(0, 1\], got 0.0"),
        (lambda: precision_at_recall([1.0], [1], 90), ValueError, "got 90"),
        (lambda: precision_at_recall([1.0], [1], math.nan), ValueError, "got nan"),
        (lambda: logit_separation(LOGITS[0], [0]), ValueError, r"logits \(N, K\), got \(2,\)"),
        (lambda: logit_separation(LOGITS[:0], []), ValueError, r"\(0, 2\)"),
        (lambda: logit_separation(LOGITS * math.nan, [0, 1, 0]), ValueError, "hold nan"),
        (lambda: is_separated(LOGITS, [0, 1]), ValueError, r"expected 3 labels for scores \(3, 2\)"),
        (lambda: is_separated(LOGITS, [0, 1, 2]), ValueError, "labels from 0 to 1, got 0 to 2"),
        (lambda: is_separated(LOGITS, [0.0, 1.0, 0.0]), TypeError, "is_separated: expected whole numbers"),
        (
            lambda: single_logit_report(np.zeros((3, 4)), [0, 2, 0]),
            ValueError,
            "no sample of class 1, 3, so that recall",
        ),
        (lambda: single_logit_report(LOGITS, [0, 1, 1], recalls=(0.9, 0)), ValueError, r"recalls in \(0, 1\]"),
        (lambda: single_logit_report(LOGITS * math.nan, [0, 1, 1]), ValueError, "hold nan"),
        (lambda: single_logit_report(LOGITS, [0, 1]), ValueError, "expected 3 labels"),
        (lambda: relative_improvement([], [1.0]), ValueError, "0 baselines and 1 others"),
        (lambda: relative_improvement([0.0], [1.0]), ValueError, "not all 0"),
    ],
)
def test_what_is_undefined_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()
