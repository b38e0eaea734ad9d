"""The curves that the sources draw have the values of the functions that they name."""

import numpy as np
import pytest

from minigrad import information, optim, plots, transfer


def test_two_class_cross_entropy():
    ax = plots.two_class_cross_entropy()
    one, zero = ax.lines[:2]
    for line, score in ((one, lambda p: p), (zero, lambda p: 1 - p)):
        p, loss = line.get_data()
        np.testing.assert_allclose(loss, -np.log(score(p)), rtol=1e-12)
    assert ax.lines[2].get_ydata()[0] == pytest.approx(np.log(2))


def test_momentum_schedule():
    steps, values = plots.momentum_schedule(steps=800).lines[0].get_data()
    np.testing.assert_allclose(values[[0, 249, 250, 500, 750]], [0.5, 0.5, 0.75, 5 / 6, 0.875])
    np.testing.assert_array_equal(steps, range(800))
    rising = plots.momentum_schedule(optim.MomentumSchedule(maximum=0.8, period=1), steps=9)
    assert rising.lines[1].get_ydata()[0] == 0.8
    with pytest.raises(ValueError, match="steps=0"):
        plots.momentum_schedule(steps=0)


def test_entropy_and_what_a_wrong_code_costs():
    ax = plots.entropy(p=0.2)
    q, bits = ax.lines[0].get_data()
    inside = slice(1, -1)
    exact = -(q * np.log2(q, where=q > 0, out=0 * q) + (1 - q) * np.log2(1 - q, where=q < 1, out=0 * q))
    np.testing.assert_allclose(bits, exact, atol=1e-12)
    cost = ax.lines[1].get_ydata()
    np.testing.assert_allclose(np.diff(cost, 2), 0, atol=1e-12)  # a straight line
    assert (cost[inside] >= bits[inside] - 1e-12).all()
    assert q[np.argmin(cost - bits)] == pytest.approx(0.2)
    assert len(plots.entropy().lines) == 1
    with pytest.raises(ValueError, match="probability"):
        plots.entropy(p=1.0)


def test_huffman_rates_stay_within_their_bounds():
    ax = plots.huffman_rate(0.1, blocks=[1, 2, 5])
    m, rates = ax.lines[0].get_data()
    H = information.entropy_bits(0.1)
    np.testing.assert_array_equal(m, [1, 2, 5])
    np.testing.assert_allclose(rates, [information.huffman_block_code(0.1, k).rate for k in (1, 2, 5)])
    assert ((H <= rates) & (rates < H + 1 / m)).all()
    assert ax.lines[1].get_ydata()[0] == H
    with pytest.raises(ValueError, match="block lengths"):
        plots.huffman_rate(blocks=[])


def test_given_axes_are_drawn_on():
    ax = plots.entropy()
    assert plots.huffman_rate(ax=ax) is ax
    assert plots.two_class_cross_entropy(ax) is plots.momentum_schedule(ax=ax, steps=3) is ax


def test_a_notebook_shows_a_figure_with_words_for_those_who_cannot_see_it():
    for ax, words in (
        (plots.entropy(), "bits a source bit against probability q of a one"),
        (plots.matching_loss(transfer.Sigmoid()), "sigmoid: the area is"),
        (plots.simplex(classes=["cat", "dog", "frog"]), "cat"),
    ):
        picture, metadata = ax.figure._repr_png_()
        assert picture.startswith(b"\x89PNG")
        assert words in metadata["alt"]


def test_slides_to_draw_into():
    ax = plots.slide("epoch", "loss")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "loss")
    left, right = plots.slide("epoch", "loss", panels=2)
    assert left.get_shared_y_axes().joined(left, right)
    assert (left.get_ylabel(), right.get_ylabel(), right.get_xlabel()) == ("loss", "", "epoch")
    assert left.figure is right.figure
