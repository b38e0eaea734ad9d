"""Jacobians as pictures: names of blocks that exist, numbers that fit into their cells, bars as high as the matrix."""

import numpy as np
import pytest

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
