"""The plots of matching losses say what the functions say."""

import numpy as np
import pytest

from minigrad import plots, transfer


def test_the_area_is_the_matching_loss():
    ax = plots.matching_loss(transfer.Sigmoid(), a_hat=2.0, a=-1.0)
    (area,) = ax.collections
    x, y = area.get_paths()[0].vertices.T
    shoelace = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    exact = transfer.Sigmoid().matching_loss(2.0, -1.0)
    assert shoelace == pytest.approx(exact, rel=1e-3)
    assert f"{exact:.3g}" in ax.get_title()


def test_a_row_for_each_function():
    grid = plots.matching_losses()
    shown = [f for f in transfer.TABLE if f.name != "softmax"]
    assert grid.shape == (len(shown), 4)
    for row, f in zip(grid, shown, strict=True):
        assert row[0].get_ylabel() == f.name
        for ax, function in ((row[0], f.value), (row[1], f.integral)):
            x, y = ax.lines[-1].get_data()
            np.testing.assert_allclose(y, function(x))
        losses = [line for line in row[3].lines if line.get_label().startswith("a = ")]
        for line, a in zip(losses, (-1.5, 0.0, 1.5), strict=True):
            np.testing.assert_allclose(line.get_ydata(), f.matching_loss(line.get_xdata(), a))


def test_given_axes_are_drawn_on():
    ax = plots.matching_loss(transfer.Tanh())
    assert plots.matching_loss(transfer.Tanh(), ax=ax) is ax


def test_vectors_are_refused():
    with pytest.raises(ValueError, match=r"plots\.simplex"):
        plots.matching_loss(transfer.Softmax())
    with pytest.raises(ValueError, match="targets"):
        plots.matching_losses(targets=())
