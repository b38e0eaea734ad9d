"""Plots of logits: nothing hides what is drawn, and arrows are those of steps on the logits."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import to_hex

import minigrad as mg
from minigrad import losses, plots


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
