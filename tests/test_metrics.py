"""Decisions and their errors, and membership of the simplex and of its regions."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.metrics import confusion_matrix, decide, decision_regions, on_simplex, zero_one_error


def test_the_lowest_of_equal_scores_wins():
    assert decide([0.2, 0.4, 0.4]) == 1
    np.testing.assert_array_equal(decide([[1, 1], [0, 3]]), [0, 1])
    np.testing.assert_array_equal(decide(mg.Tensor([[1.0, 2.0]])), [1])


def test_softmax_does_not_change_a_decision():
    z = np.random.default_rng(0).normal(size=(100, 5))
    np.testing.assert_array_equal(decide(z), decide(mg.softmax(z)))


def test_zero_one_error_by_hand():
    scores = np.array([[3.0, 1.0], [0.0, 2.0], [1.0, 1.0], [5.0, -5.0]])
    assert zero_one_error(scores, np.array([0, 1, 1, 1])) == 0.5
    assert zero_one_error(scores, np.array([[1, 0], [0.4, 0.6], [1, 0], [0, 1]])) == 0.25


def test_confusion_matrix_counts_labels_in_rows():
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(200, 4)), rng.integers(3, size=200)
    counts = confusion_matrix(scores, labels)
    np.testing.assert_array_equal(counts, sklearn.confusion_matrix(labels, decide(scores), labels=range(4)))
    assert 1 - np.trace(counts) / 200 == pytest.approx(zero_one_error(scores, labels))
    np.testing.assert_array_equal(confusion_matrix(np.zeros((0, 2)), np.zeros(0, dtype=int)), np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("scores", "labels", "error", "words"),
    [
        (np.zeros((2, 3)), np.array([0, 3]), ValueError, "0 to 2"),
        (np.zeros((2, 3)), np.array([-1, 0]), ValueError, "-1"),
        (np.zeros((2, 3)), np.array([0.0, 1.0]), TypeError, "float64"),
        (np.zeros((2, 3)), np.array([0, 1, 2]), ValueError, r"\(3,\)"),
        (np.zeros(3), np.array([0]), ValueError, r"\(3,\)"),
        (np.zeros((0, 3)), np.array([], dtype=int), ValueError, r"\(0, 3\)"),
        (np.full((2, 3), np.nan), np.array([0, 1]), ValueError, "nan"),
    ],
)
def test_what_does_not_fit_is_refused(scores, labels, error, words):
    with pytest.raises(error, match=words):
        zero_one_error(scores, labels)


def test_on_simplex_allows_rounding_and_no_more():
    p = np.random.default_rng(0).dirichlet(np.ones(1000), size=50)
    assert on_simplex(p).all()
    assert on_simplex(p.astype(np.float32)).all()
    assert not on_simplex(p * (1 + 1e-11)).any()
    assert not on_simplex([1.5, -0.5])
    assert not on_simplex([0.5, np.nan])
    assert on_simplex(np.eye(3, dtype=int)).all()
    np.testing.assert_array_equal(on_simplex([[0.5, 0.5], [0.5, 0.6]]), [True, False])


def test_boundaries_belong_to_several_regions():
    points = np.array([[0.6, 0.3, 0.1], [0.4, 0.4, 0.2], [1 / 3, 1 / 3, 1 / 3], [0.6, 0.6, 0.6]])
    regions = decision_regions(points)
    np.testing.assert_array_equal(regions, [[1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 0, 0]])
    np.testing.assert_array_equal(regions[:3].argmax(axis=1), decide(points[:3]))
