"""Jacobians as pictures: names of blocks that exist, numbers that fit into their cells, bars as high as the matrix."""

import numpy as np
import pytest
from scipy import sparse

import minigrad as mg
from minigrad import losses, plots


def names(axis):
    return [tick.get_text() for tick in axis.get_ticklabels()]


def test_a_batch_of_one_has_the_blocks_of_its_image(rng):
    x, weight = rng.normal(size=(1, 2, 7, 7)), rng.normal(size=(3, 2, 3, 3))
    J = mg.jacobian(lambda x: mg.conv2d(x, weight), x)
    ax, alone = plots.jacobian(J, (1, 3, 5, 5), (1, 2, 7, 7)), plots.jacobian(J, (3, 5, 5), (2, 7, 7))
    np.testing.assert_array_equal(ax.images[0].get_array(), J)
    assert names(ax.yaxis) == ["y[0, 0, :]", "y[0, 1, :]", "y[0, 2, :]"]
    assert names(ax.xaxis) == ["x[0, 0, :]", "x[0, 1, :]"]
    lines, expected = ([(*line.get_xydata().ravel(), line.get_linewidth()) for line in a.lines] for a in (ax, alone))
    assert lines == expected


def test_every_name_is_an_index_of_its_array():
    for shape in [(6,), (1, 6), (6, 1), (2, 3), (1, 1, 6), (1, 2, 3), (2, 1, 3), (1, 2, 1, 3), (1, 1)]:
        size = int(np.prod(shape))
        ax = plots.jacobian(np.eye(size), shape, shape)
        x = np.arange(size).reshape(shape)
        for name, place in zip(names(ax.xaxis), ax.get_xticks(), strict=True):
            assert np.mean(eval(name, {"x": x})) == place, (shape, name)


def test_a_loss_is_a_row(rng):
    z = rng.normal(size=(2, 3))
    J = mg.jacobian(lambda z: losses.CrossEntropy()(z, np.array([1, 0])), z)
    ax = plots.jacobian(J, (), (2, 3))
    assert names(ax.yaxis) == ["y"]
    assert names(ax.xaxis) == ["x[0, :]", "x[1, :]"]
    assert ax.get_ylabel() == "output y, a number"


@pytest.mark.parametrize(
    ("shape", "scale", "written"),
    [((8, 8), 0.01, True), ((8, 8), 1e-5, True), ((5, 12), 0.01, True), ((1, 20), 0.01, False), ((9, 9), 0.01, False)],
)
def test_numbers_are_written_where_they_fit(rng, shape, scale, written):
    ax = plots.jacobian(-scale * rng.uniform(1, 2, size=shape))
    assert len(ax.texts) == (np.prod(shape) if written else 0)
    assert len(ax.child_axes) == (0 if written else 1)
    ax.figure.draw_without_rendering()
    cell = ax.get_window_extent().width / shape[1]
    assert all(text.get_window_extent().width < cell for text in ax.texts)


def test_a_zero_has_no_sign():
    assert [text.get_text() for text in plots.jacobian(np.array([[-0.0, 1.0]])).texts] == ["0", "1"]


def test_the_bar_is_as_high_as_the_matrix():
    ax = plots.jacobian(np.eye(4, 72))
    ax.figure.draw_without_rendering()
    (bar,) = ax.child_axes
    assert bar.get_window_extent().height == pytest.approx(ax.get_window_extent().height)


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
