"""Plots of logits: nothing hides what is drawn, and arrows are those of steps on the logits."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import to_hex

import minigrad as mg
from minigrad import losses, metrics, plots

Z = np.array([[2.0, -1.0, 0.5], [0.0, 1.5, -0.5], [-1.0, 0.3, 0.8], [1.2, 0.1, 0.4]])
LABELS = np.array([0, 1, 2, 1])


def test_logits_that_touch_overlap_by_nothing():
    ax = plots.logit_distributions(np.array([[1.0, 0.0], [1.0, 1.0]]), [0, 1])
    assert ax.get_title() == "not separated: they overlap by 0"


def test_infinite_logits_are_refused():
    with pytest.raises(ValueError, match=r"logits \(2, 2\) hold infinities"):
        plots.logit_distributions(np.array([[np.inf, 0.0], [1.0, 2.0]]), [0, 1])


def test_the_curve_encloses_the_average_precision_of_the_legend(rng):
    logits, labels = rng.normal(size=(60, 3)).round(1), np.arange(60) % 3
    for line in plots.precision_recall(logits, labels).lines:
        recall, precision = line.get_data()
        assert line.get_drawstyle() == "steps-pre"
        assert f"{np.diff(recall) @ precision[1:]:.3f}" == line.get_label().split(": ")[1]


@pytest.mark.parametrize(
    "draw",
    [lambda: plots.precision_recall(np.random.default_rng(1).normal(size=(200, 10)), np.arange(200) % 10),
     plots.incorrect_categories],
)  # fmt: skip
def test_legends_stand_beside_the_curves_in_one_column(draw):
    ax = draw()
    ax.figure.draw_without_rendering()
    legend = ax.get_legend().get_window_extent()
    assert legend.x0 >= ax.get_window_extent().x1
    assert legend.x1 <= ax.figure.bbox.x1
    texts = [text.get_window_extent() for text in ax.get_legend().get_texts()]
    assert len({round(text.x0) for text in texts}) == 1
    assert all(above.y0 > below.y0 for above, below in pairwise(texts))


def test_no_arrow_has_the_colour_of_a_bar():
    ax = plots.incorrect_categories()
    arrows = {to_hex(lines.get_color()[0]) for lines in ax.collections}
    assert len(arrows) == 6
    assert not arrows & {to_hex(bar.get_facecolor()) for bar in ax.patches}


def test_arrows_follow_minus_the_gradient_through_softmax_and_stay_in_the_picture():
    p, label = np.array([0.02, 0.9, 0.05, 0.03]), 2
    ax = plots.incorrect_categories(p, label)
    J = mg.registry["softmax"]().jacobian(np.log(p))
    terms = [
        losses.CrossEntropy(), losses.ComplementaryCrossEntropy(), losses.LogOdds(),
        losses.IncorrectLogOddsLSE(1.0, 1.0), losses.IncorrectLogOddsLSE(-1.0, -1.0),
        losses.LogSumInverseProbability(),
    ]  # fmt: skip
    low, high = ax.get_ylim()
    for lines, loss in zip(ax.collections, terms, strict=True):
        segments = np.array(lines.get_segments())
        drawn = segments[:, 1, 1] - segments[:, 0, 1]
        g = mg.jacobian(lambda z, loss=loss: loss(z, np.array([label])), np.log(p)[None])[0]
        step = -J @ g
        np.testing.assert_allclose(drawn / np.abs(drawn).max(), step / np.abs(step).max(), atol=1e-12)
        assert low < segments[:, :, 1].min()
        assert segments[:, :, 1].max() < high


def test_no_terms_are_refused():
    with pytest.raises(ValueError, match="no terms"):
        plots.incorrect_categories(terms={})


@pytest.mark.parametrize(("shift", "words"), [(0.0, "overlap by 1.1"), (5.0, "a gap of 3.9")])
def test_true_and_false_logits_and_what_lies_between(shift, words):
    logits = Z + shift * np.eye(3)[LABELS]
    ax = plots.logit_distributions(logits, LABELS, bins=10)
    assert words in ax.get_title()
    assert metrics.logit_separation(logits, LABELS) == pytest.approx(shift - 1.1)
    smallest, largest = (line.get_xdata()[0] for line in ax.lines)
    true = logits[np.arange(4), LABELS]
    assert smallest == true.min()
    assert largest == np.delete(logits.ravel(), np.arange(4) * 3 + LABELS).max()
    span = ax.patches[-1]
    assert (span.get_x(), span.get_x() + span.get_width()) == pytest.approx(sorted((smallest, largest)))


def test_precision_and_recall_are_those_of_the_metrics(rng):
    logits, labels = rng.normal(size=(60, 3)).round(1), rng.integers(0, 3, 60)
    ax = plots.precision_recall(logits, labels, classes=[2, 0])
    for line, k in zip(ax.lines, (2, 0), strict=True):
        curve = metrics.precision_recall_curve(logits[:, k], labels == k)
        np.testing.assert_array_equal(line.get_xdata()[1:], curve.recall)
        np.testing.assert_array_equal(line.get_ydata()[1:], curve.precision)
        assert line.get_label() == f"class {k}: {metrics.average_precision(logits[:, k], labels == k):.3f}"
    assert len(plots.precision_recall(logits, labels).lines) == 3


@pytest.mark.parametrize("call", [
    lambda: plots.logit_distributions(Z[:, :1], np.zeros(4, int)),
    lambda: plots.precision_recall(Z, LABELS[:2]),
    lambda: plots.precision_recall(Z, LABELS, [3]),
    lambda: plots.precision_recall(Z, LABELS, []),
])  # fmt: skip
def test_logits_that_are_refused(call):
    with pytest.raises(ValueError, match=r"(one class has no|logits \(4, 3\)|classes=)"):
        call()


def arrows(ax, terms, K):
    """The steps as drawn, (terms, K): the segments of each collection of vertical lines."""
    steps = [[segment[1, 1] - segment[0, 1] for segment in lines.get_segments()] for lines in ax.collections]
    assert np.shape(steps) == (terms, K)
    return np.array(steps)


def test_the_figure_of_the_patent_has_the_signs_of_the_catalogue():
    """IP-19: four terms raise the correct category alone, two lower it: none alone gives the arrows printed (P-18)."""
    drawn = np.sign(arrows(plots.incorrect_categories(), 6, 4))
    np.testing.assert_array_equal(drawn[:4], [[-1, 1, -1, -1]] * 4)
    np.testing.assert_array_equal(drawn[4:], [[1, -1, 1, 1]] * 2)


def test_any_loss_and_any_probabilities():
    p, label = np.array([0.2, 0.1, 0.7]), 0
    terms = {"normalized": losses.SelfNormalizedCrossEntropy(), "ce": losses.CrossEntropy()}
    ax = plots.incorrect_categories(p, label, terms)
    steps = arrows(ax, 2, 3)
    g = p - np.eye(3)[label]
    expected = -(np.diag(p) - np.outer(p, p)) @ g
    np.testing.assert_allclose(steps[1], 0.14 * expected / np.abs(expected).max(), rtol=1e-12)
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], p)
    assert [bool(bar.get_hatch()) for bar in ax.patches] == [True, False, False]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["normalized", "ce"]


@pytest.mark.parametrize(
    ("p", "label", "words"), [([0.5, 0.6], 0, "sum to 1"), ([1.0, 0.0], 0, "above 0"), ([0.5, 0.5], 2, "from 0 to 1")]
)
def test_probabilities_that_are_refused(p, label, words):
    with pytest.raises(ValueError, match=words):
        plots.incorrect_categories(p, label)
