"""Jacobians, logits, terms of losses, filters: what the artists hold is what was computed."""

import numpy as np
import pytest
from scipy import sparse

import minigrad as mg
from minigrad import losses, metrics, nn, plots

Z = np.array([[2.0, -1.0, 0.5], [0.0, 1.5, -0.5], [-1.0, 0.3, 0.8], [1.2, 0.1, 0.4]])
LABELS = np.array([0, 1, 2, 1])


# Jacobians


def test_a_small_jacobian_has_its_numbers_written_in():
    J = mg.registry["softmax"]().jacobian(np.array([1.0, 2.0, -1.0]))
    ax = plots.jacobian(J)
    (image,) = ax.images
    np.testing.assert_array_equal(image.get_array(), J)
    assert image.norm.vmin == -image.norm.vmax == -np.abs(J).max()
    assert [text.get_text() for text in ax.texts] == [f"{entry:.3g}" for entry in J.ravel()]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["x[0]", "x[1]", "x[2]"]


def convolution(rng, channels=2, size=7):
    x, weight = rng.normal(size=(channels, size, size)), rng.normal(size=(3, channels, 3, 3))
    return mg.registry["conv2d"]().jacobian(x, weight, None)[0]


def test_the_blocks_of_a_convolution(rng):
    J = convolution(rng)
    ax = plots.jacobian(J, outputs=(3, 5, 5), inputs=(2, 7, 7))
    np.testing.assert_array_equal(ax.images[0].get_array(), J.toarray())
    assert not ax.texts
    thick = [line for line in ax.lines if line.get_linewidth() == 2]
    assert sorted(line.get_ydata()[0] for line in thick if line.get_xdata()[1] == 1) == [24.5, 49.5]
    assert [line.get_xdata()[0] for line in thick if line.get_ydata()[1] == 1] == [48.5]
    assert len(ax.lines) == 3 + 14 + 13
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["y[0, :]", "y[1, :]", "y[2, :]"]
    np.testing.assert_array_equal(ax.get_yticks(), [12, 37, 62])
    assert ax.get_title() == f"J is 75 × 98, {J.nnz / (75 * 98):.1%} not zero"


def test_one_channel_is_labelled_by_rows_and_many_labels_are_thinned(rng):
    J = mg.registry["conv2d"]().jacobian(rng.normal(size=(1, 12, 6)), rng.normal(size=(1, 1, 3, 3)), None)[0]
    ax = plots.jacobian(J, (1, 10, 4), (1, 12, 6))
    assert [tick.get_text() for tick in ax.get_yticklabels()] == [f"y[0, {k}, :]" for k in (0, 2, 4, 6, 8)]


def test_where_a_jacobian_is_not_zero(rng):
    J = convolution(rng)
    (image,) = plots.jacobian(J, values=False).images
    np.testing.assert_array_equal(image.get_array(), J.toarray() != 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((np.ones(3),), "expected a matrix"),
        ((np.ones((3, 0)),), "expected a matrix"),
        ((np.ones((3, 4)), (2, 2)), r"outputs=\(2, 2\) has 4 entries, J has 3"),
        ((np.ones((3, 4)), None, (5,)), r"inputs=\(5,\) has 5 entries"),
        ((sparse.eye_array(3000),), "more than can be seen"),
    ],
)
def test_matrices_that_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        plots.jacobian(*arguments)


# Logits


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


# The incorrect categories


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


# Filters and feature maps


@pytest.mark.parametrize(("shape", "grid"), [((5, 1, 3, 3), (4, 2)), ((2, 3, 2, 4), (3, 2))])
def test_filters_share_one_scale(rng, shape, grid):
    layer = nn.Conv2d(shape[1], shape[0], shape[2:], rng=rng)
    ax = plots.filters(layer)
    kernels = layer.weight.data.reshape(-1, *shape[2:])
    for image, kernel in zip(ax.images, kernels, strict=True):
        np.testing.assert_array_equal(image.get_array(), kernel)
        assert image.norm.vmax == -image.norm.vmin == np.abs(kernels).max()
    lefts, tops = ({round(image.get_extent()[k], 6) for image in ax.images} for k in (0, 3))
    assert (len(lefts), len(tops)) == grid


def test_feature_maps_are_those_of_the_network(rng):
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, rng=rng), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(27, 2, rng=rng),
    )  # fmt: skip
    x = rng.normal(size=(1, 8, 8))
    ax = plots.feature_maps(model, x, most=2)
    assert model.training
    assert [tick.get_text() for tick in ax.get_yticklabels()] == [
        "input 1×8×8", "Conv2d 3×6×6", "BatchNorm2d 3×6×6", "ReLU 3×6×6", "MaxPool2d 3×3×3",
    ]  # fmt: skip
    assert len(ax.images) == 1 + 4 * 2
    model.eval()
    np.testing.assert_array_equal(ax.images[0].get_array(), x[0])
    np.testing.assert_array_equal(ax.images[2].get_array(), model[0](x[None]).data[0, 1])
    np.testing.assert_array_equal(ax.images[-1].get_array(), model[:4](x[None]).data[0, 1])


def test_pictures_that_are_refused(rng):
    with pytest.raises(ValueError, match="expected a weight"):
        plots.filters(nn.Linear(3, 2, rng=rng))
    with pytest.raises(ValueError, match="expected an image"):
        plots.feature_maps(nn.Sequential(nn.ReLU()), np.ones((1, 1, 4, 4)))
