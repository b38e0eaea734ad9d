"""The losses of Keren, Sabato and Schuller: 50 digits, special cases, errata, refusals."""

import warnings

import mpmath as mp
import numpy as np
import pytest
from exact import exact, worst

import minigrad as mg
from minigrad import Tensor
from minigrad.losses import (
    BatchCrossEntropy,
    BatchMaxMargin,
    BinaryCrossEntropy,
    CrossEntropy,
    MaxMargin,
    NoiseContrastiveEstimation,
    SelfNormalizedCrossEntropy,
)
from minigrad.metrics import is_separated

NOISE, T = [0.5, 0.0, 0.5], 4


def others(z, y):
    return [v for k, v in enumerate(z) if k != y]


def cross_entropy(z, y):
    return mp.log1p(sum(mp.exp(v - z[y]) for v in others(z, y)))


def hinge(z, y, margin=1.5):
    return max(mp.mpf(0), margin - z[y] + max(others(z, y)))


def self_normalized(z, y):
    return cross_entropy(z, y) + mp.mpf(0.1) * mp.log(sum(map(mp.exp, z))) ** 2


def noise_contrastive(z, y):
    g = [1 / (1 + T * q * mp.exp(-v)) for q, v in zip(NOISE, z, strict=True)]
    return -mp.log(g[y]) - sum(T * q * mp.log(1 - v) for q, v in zip(NOISE, g, strict=True) if q)


def one_versus_rest(z, y):
    return mp.log1p(mp.exp(-z[y])) + sum(mp.log1p(mp.exp(v)) for v in others(z, y))


DEFINITIONS = {
    "max_margin": (MaxMargin(1.5), hinge),
    "self_normalized": (SelfNormalizedCrossEntropy(), self_normalized),
    "noise_contrastive": (NoiseContrastiveEstimation(NOISE, T), noise_contrastive),
    "binary": (BinaryCrossEntropy(), one_versus_rest),
}
MODERATE = [[0.25, -1.25, 2.0], [3.0, 3.0 + 2**-10, -2.0], [0.75, 0.5, 0.125]]
EXTREME = [
    [40.0, 0.0, 0.5], [-1000.0, 1000.0, 990.0], [1000.25, 1001.25, 999.5], [2**-30, -60.0, -70.0], [700.0, 0.0, 1.0],
]  # fmt: skip


def both(loss, z, labels):
    """Value and gradient of a loss of one sample or one batch."""
    leaf = Tensor(z, requires_grad=True)
    value = loss(leaf, labels)
    value.backward()
    return value, leaf.grad


@pytest.mark.parametrize("name", DEFINITIONS)
@pytest.mark.parametrize(("points", "tolerance"), [(MODERATE, 1e-12), (EXTREME, 1e-11)])
def test_fifty_digits(name, points, tolerance):
    """And float32, which holds the same logits exactly, to 1e-5."""
    loss, definition = DEFINITIONS[name]
    for z in points:
        for y in range(3):
            value, gradient = exact(lambda z, y=y: definition(z, y), z)
            for dtype, allowed in ((np.float64, tolerance), (np.float32, 1e-5)):
                got, slope = both(loss, np.array([z], dtype=dtype), np.array([y]))
                assert got.dtype == slope.dtype == dtype
                assert worst(got.data, [value]) < allowed, (z, y)
                assert worst(slope, gradient) < allowed, (z, y)


def batch_divergence(z, labels, K):
    m = len(labels)
    e = [mp.exp(v) for v in z]
    Z = sum(e)
    return sum(mp.log(Z / (m * e[K * i + y])) for i, y in enumerate(labels)) / m


@pytest.mark.parametrize(
    "z",
    [[[0.3, -1.0], [0.5, 2.0]], [[40.0, 0.0], [-1.0, 40.0]], [[3.0, -60.0], [-55.0, 3.0 + 1e-9]],
     [[1000.0, -1000.0], [3.0, 1010.0]], [[-1000.0, 1000.0], [0.0, 1.0]], [[35.0, 0.0], [0.0, 0.0]],
     [[7.0, 7.0], [7.0, 7.0]], [[29.0, -29.0], [3.0, 0.0]], [[31.0, -29.0], [3.0, -28.9]]],
)  # fmt: skip
def test_batch_cross_entropy_to_fifty_digits(z):
    """Also where the divergence is 1e-20, and where its two ways of computing meet."""
    labels = [0, 1]
    value, gradient = exact(lambda z: batch_divergence(z, labels, 2), np.ravel(z))
    got, slope = both(BatchCrossEntropy(), np.array(z), np.array(labels))
    assert worst(got.data, [value]) < 1e-12
    assert worst(slope, gradient) < 1e-12
    single, slope = both(BatchCrossEntropy(), np.array(z, dtype=np.float32), np.array(labels))
    value, gradient = exact(lambda z: batch_divergence(z, labels, 2), np.ravel(np.float32(z)))
    assert single.dtype == slope.dtype == np.float32
    assert worst(single.data, [value]) < 1e-5
    assert worst(slope, gradient) < 1e-5


# The counterexamples of the source, to the last digit


@pytest.mark.parametrize("alpha", [0.5, 1.0, 5.0, 20.0, 300.0])
def test_ls05_cross_entropy_is_small_without_separation(alpha):
    z, labels = np.array([[2 * alpha, alpha], [-2 * alpha, -alpha]]), np.array([0, 1])
    assert CrossEntropy("sum")(z, labels).item() == 2 * np.log1p(np.exp(-alpha))
    assert not is_separated(z, labels)


@pytest.mark.parametrize("margin", [0.5, 1.0, 3.0])
def test_ls07_max_margin_is_zero_without_separation(margin):
    z, labels = margin * np.array([[2.0, 1.0], [-2.0, -1.0]]), np.array([0, 1])
    value, gradient = both(MaxMargin(margin, "sum"), z, labels)
    assert value.item() == 0
    assert not gradient.any()  # it stands on the hinge
    assert not is_separated(z, labels)


# MaxMargin


def test_max_margin_at_ties_and_edges():
    assert MaxMargin(0.75)(np.full((2, 3), 5.0), np.array([0, 2])).item() == 0.75
    _, gradient = both(MaxMargin(), np.array([[1.0, 2.0, 2.0]]), np.array([0]))
    assert gradient.tolist() == [[-1, 1, 0]]  # the lowest index
    value, gradient = both(MaxMargin(), np.array([[-3.0]]), np.array([0]))
    assert (value.item(), gradient.tolist()) == (0, [[0]])  # one class has no false logit
    value, gradient = both(MaxMargin(), np.array([[1000.0, -1000.0]]), np.array([1]))
    assert (value.item(), gradient.tolist()) == (2001, [[1, -1]])


# SelfNormalizedCrossEntropy


def test_self_normalization():
    z = np.array([[1000.0, -1000.0]])
    assert SelfNormalizedCrossEntropy(0.1)(z, np.array([0])).item() == pytest.approx(1e5)
    assert SelfNormalizedCrossEntropy(1.0)(z, np.array([0])).item() == 1e6
    assert SelfNormalizedCrossEntropy()(np.array([[0.0, -800.0]]), np.array([0])).item() == 0
    z = np.array([[0.5, -1.0, 2.0]])
    hot = SelfNormalizedCrossEntropy()(z, np.array([[0.0, 1.0, 0.0]])).item()
    assert hot == pytest.approx(SelfNormalizedCrossEntropy()(z, np.array([1])).item(), rel=1e-14)
    with pytest.raises(ValueError, match="sum 1"):
        SelfNormalizedCrossEntropy()(z, np.array([[0.5, 0.1, 0.1]]))


def test_k7_the_bound_of_the_source_is_too_large():
    """min(log(1 + e^-2), (1 - log 2)^2) forgets alpha."""
    z, labels = np.array([[5.0, 1.0], [-9.0, -5.0]]), np.array([0, 1])
    loss = SelfNormalizedCrossEntropy(0.001, "sum")
    printed = min(np.log1p(np.exp(-2)), (1 - np.log(2)) ** 2)
    value = loss(z, labels).item()
    assert round(value, 4) == 0.0863
    assert value < printed
    assert not is_separated(z, labels)
    assert value > loss.separation_bound(2, 2)


# NoiseContrastiveEstimation


@pytest.mark.parametrize("tau", [0.2, 1.0, 7.5])
def test_k6_the_true_logit_tends_to_zero(tau):
    """The smallest loss is not 0, and is reached at z_y = 0, where the gradient changes sign exactly."""
    loss = NoiseContrastiveEstimation([tau / 10, 1 - tau / 10], 10)
    for z, sign in ((-1e-12, -1), (0.0, 0), (1e-12, 1)):
        value, gradient = both(loss, np.array([[z, -900.0]]), np.array([0]))
        assert np.sign(gradient[0, 0]) == sign
        assert gradient[0, 0] == pytest.approx(tau * np.expm1(z) / (np.exp(z) + tau), rel=1e-12)
    smallest = (1 + tau) * np.log(1 + tau) - tau * np.log(tau)
    assert both(loss, np.array([[0.0, -900.0]]), np.array([0]))[0].item() == pytest.approx(smallest, rel=1e-12)
    assert smallest > np.log(1 + tau)  # the epsilon of the proof in the source, which no model reaches
    assert value.item() >= smallest * (1 - 1e-12)


def test_k16_classes_without_noise():
    """0 log 0 is never formed; the true logit gets no gradient where q_y = 0."""
    loss = NoiseContrastiveEstimation([0.0, 1.0], 3)
    value, gradient = both(loss, np.array([[2.0, -1.0]]), np.array([0]))
    assert value.item() == pytest.approx(3 * np.log1p(np.exp(-1 - np.log(3))))
    assert gradient[0, 0] == 0


def test_sampled_noise_is_unbiased_and_reproducible():
    q, z = np.array([0.1, 0.2, 0.7]), np.array([[0.5, -1.0, 0.3]])
    labels = np.array([0])
    expected, slope = both(NoiseContrastiveEstimation(q, 5), z, labels)
    many = np.repeat(z, 20_000, axis=0)
    leaf = Tensor(many, requires_grad=True)
    sampled = NoiseContrastiveEstimation(q, 5, sampled=True, rng=7)(leaf, np.zeros(20_000, dtype=int))
    sampled.backward()
    assert sampled.item() == pytest.approx(expected.item(), rel=0.01)
    np.testing.assert_allclose(leaf.grad.sum(axis=0), slope[0], atol=0.01)
    values = {NoiseContrastiveEstimation(q, 5, sampled=True)(z, labels, rng=3).item() for _ in range(3)}
    assert len(values) == 1
    loss = NoiseContrastiveEstimation(q, 5, sampled=True, rng=np.random.default_rng(3))
    assert len({loss(z, labels).item() for _ in range(9)}) > 1


def test_sampled_noise_counts_multiplicities():
    """LS-10: one term for each draw, with u_j = z_j - log(t q_j)."""
    q, z, counts = np.array([0.2, 0.3, 0.5]), np.array([[0.4, -1.0, 2.0]]), np.array([[2, 0, 1]])
    loss = NoiseContrastiveEstimation(q, 3, sampled=True)
    u = z[0] - np.log(3 * q)
    terms = np.log1p(np.exp(-u[1])) + np.log1p(np.exp(u[[0, 0, 2]])).sum()
    leaf = Tensor(z, requires_grad=True)
    value = loss(leaf, np.array([1]), counts)
    value.backward()
    assert value.item() == pytest.approx(terms, rel=1e-14)
    sigma = 1 / (1 + np.exp(-u))
    np.testing.assert_allclose(leaf.grad[0], [2 * sigma[0], sigma[1] - 1, sigma[2]], rtol=1e-13)
    assert (loss.draw(50, 1).sum(axis=1) == 3).all()
    assert mg.noise_contrastive_estimation(z, np.array([1]), q, 3).item() > 0


# BinaryCrossEntropy


def test_binary_cross_entropy():
    assert BinaryCrossEntropy()(np.zeros((2, 5)), np.array([0, 4])).item() == pytest.approx(5 * np.log(2))
    z = np.array([[0.5, -1.0, 3.0], [1000.0, -1000.0, 2.0]])
    one = BinaryCrossEntropy("none")(z, np.array([2, 0])).data
    rows = BinaryCrossEntropy("none")(z, np.array([[0, 0, 1], [1, 0, 0]])).data
    np.testing.assert_array_equal(one, rows)
    several = np.array([[True, True, False], [False, False, False]])
    value, gradient = both(BinaryCrossEntropy("sum"), z[:1], several[:1])
    assert value.item() == pytest.approx(np.log1p(np.exp([-0.5, 1.0, 3.0])).sum())
    np.testing.assert_allclose(gradient, 1 / (1 + np.exp(-z[:1])) - several[:1], rtol=1e-14)


def test_k1_a_growing_false_logit_costs():
    """With the sign that the source prints the loss would tend to -infinity."""
    near, far = (np.array([[3.0, false]]) for false in (0.0, 50.0))
    loss = BinaryCrossEntropy()
    assert loss(far, np.array([0])).item() > loss(near, np.array([0])).item() + 49
    printed = np.log1p(np.exp(-3.0)) - np.log1p(np.exp(50.0))
    assert printed < -49


def test_k2_both_terms_are_negated_and_all_classes_count():
    """With the minus on the first term only, and k classes cut at the n = 1 examples, it would be -0.31 - 2.13."""
    z, r = np.array([[1.0, 2.0]]), np.array([[1, 0]])
    assert BinaryCrossEntropy()(z, r).item() == pytest.approx(np.log1p(np.exp(-1)) + np.log1p(np.exp(2)), rel=1e-15)


def test_k17_a_loss_under_log_2_separates(rng):
    for z in rng.normal(size=(300, 4)) * rng.uniform(0.1, 5, size=(300, 1)):
        if BinaryCrossEntropy()(z[None], np.array([1])).item() < np.log(2):
            assert z[1] > 0 > np.delete(z, 1).max()


# Losses of the batch


def test_batch_losses_of_one_sample_warn_once_and_lose_the_guarantee():
    """K-9: batch cross-entropy becomes cross-entropy, batch max-margin twice max-margin."""
    z, labels = np.array([[0.3, 1.0, -2.0]]), np.array([2])
    for loss, usual in ((BatchCrossEntropy(), CrossEntropy()), (BatchMaxMargin(), MaxMargin())):
        with pytest.warns(UserWarning, match=r"batch of one.*K-9") as caught:
            value = loss(z, labels)
        assert len(caught) == 1
        times = 1 if isinstance(usual, CrossEntropy) else 2
        assert value.item() == pytest.approx(times * usual(z, labels).item(), rel=1e-14)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loss(z, labels)
            type(loss)()(np.zeros((2, 3)), np.array([0, 1]))


def test_batch_cross_entropy_special_cases():
    z, labels = np.zeros((3, 4)), np.array([0, 3, 3])
    value, gradient = both(BatchCrossEntropy(), z + 7, labels)
    assert value.item() == pytest.approx(np.log(4), rel=1e-15)
    assert abs(gradient.sum()) < 1e-16
    assert gradient[0, 0] == pytest.approx(1 / 12 - 1 / 3)
    z = np.array([[0.5, 1.0, 0.0], [2.0, -1.0, 0.25]])
    for shift in (1000.0, -1000.0):
        moved, still = (both(BatchCrossEntropy(), z + c, np.array([0, 1])) for c in (shift, 0.0))
        assert moved[0].item() == pytest.approx(still[0].item(), rel=1e-12)
        np.testing.assert_allclose(moved[1], still[1], rtol=1e-12)


def test_k10_a_wrong_batch_keeps_its_gradient():
    """The authors' code adds 1e-6 inside the logarithm: its gradient is 5e-4 at a gap of 20 and 0 at 40."""
    for gap in (20.0, 40.0):
        _, gradient = both(BatchCrossEntropy(), np.array([[0.0, gap], [gap, 0.0]]), np.array([0, 1]))
        np.testing.assert_allclose(gradient, [[-0.5, 0.5], [0.5, -0.5]], atol=1e-8)


def test_k4_the_bound_of_batch_cross_entropy(rng):
    """KL < 1/(2 m^2) separates; 1/(2m), which the source puts between the logits, is a probability."""
    labels = np.array([0, 1, 1])
    loss = BatchCrossEntropy()
    separated = np.array([[8.0, 0.0], [0.0, 8.0], [0.0, 8.0]])
    assert loss(separated - 1000, labels).item() == pytest.approx(loss(separated, labels).item(), rel=1e-9)
    assert loss(separated - 1000, labels).item() < loss.separation_bound(3, 2) == 1 / 18
    assert (separated - 1000).max() < 0 < 1 / 6  # no true logit is over 1/(2m), or positive (K-5)
    below = 0
    for _ in range(400):
        z = separated + 6 * rng.uniform(0, 1) * rng.normal(size=(3, 2))
        if loss(z, labels).item() < 1 / 18:
            below += 1
            assert is_separated(z, labels)
    assert below > 20


def test_batch_max_margin():
    """LS-15, with the lowest example and class of equal ones; a loss under margin/m separates."""
    z, labels = np.array([[2.0, 0.5, 0.5], [0.5, 2.0, 0.0]]), np.array([0, 1])
    value, gradient = both(BatchMaxMargin(2.0), z, labels)
    assert value.item() == (0.5 + 0.5 + 0.5) / 2
    assert gradient.tolist() == [[-1, 1, 0], [0.5, -0.5, 0]]
    zero, gradient = both(BatchMaxMargin(1.5), z, labels)
    assert zero.item() == 0  # though the true logits 2 and 2 are equal, which the source compares (K-8)
    assert not gradient.any()
    tied = np.array([[2.0, 1.0], [1.0, 0.0]])
    assert BatchMaxMargin()(tied, np.array([0, 0])).item() == pytest.approx(0.5)  # ties fail
    assert not is_separated(tied, np.array([0, 0]))
    assert BatchMaxMargin()(np.full((4, 3), 2.0), np.zeros(4, dtype=int)).item() == (1 + 4) / 4


def test_reduction_does_not_apply_to_batch_losses():
    with pytest.raises(TypeError):
        BatchCrossEntropy(reduction="sum")


# What all of them take and refuse


@pytest.mark.parametrize(
    ("loss", "value"),
    [(MaxMargin(), 0), (SelfNormalizedCrossEntropy(), 0.4), (BatchCrossEntropy(), 0), (BatchMaxMargin(), 0),
     (BinaryCrossEntropy(), np.log1p(np.exp(-2))),
     (NoiseContrastiveEstimation([1.0], 3), np.log1p(3 * np.exp(-2)) + 3 * np.log1p(np.exp(2) / 3))],
)  # fmt: skip
def test_one_class(loss, value):
    """There are no false logits; what is about the size of the true one stays."""
    got, gradient = both(loss, np.array([[2.0], [2.0]]), np.array([0, 0]))
    assert got.item() == pytest.approx(value, rel=1e-13)
    assert np.isfinite(gradient).all()


def test_a_class_that_is_switched_off_by_an_infinite_logit():
    z, labels = np.array([[2.0, -np.inf, 1.0], [1.0, 0.0, 3.0]]), np.array([0, 2])
    for loss in ALL:
        value, gradient = both(loss, z, labels)
        assert np.isfinite(value.item()), loss
        assert np.isfinite(gradient).all(), loss


ALL = [loss for loss, _ in DEFINITIONS.values()] + [BatchCrossEntropy(), BatchMaxMargin()]


@pytest.mark.parametrize("loss", ALL, ids=repr)
@pytest.mark.parametrize(
    ("z", "labels", "error"),
    [
        (np.zeros((2, 3)), [0, 3], ValueError), (np.zeros((2, 3)), [-1, 0], ValueError),
        (np.zeros((2, 3)), [0.0, 1.0], TypeError), (np.zeros((2, 3)), [0, 1, 2], ValueError),
        (np.zeros(3), [0], ValueError), (np.zeros((0, 3)), np.zeros(0, int), ValueError),
        (np.full((2, 3), np.nan), [0, 1], ValueError), (np.zeros((2, 3)), np.full((2, 3), 1.5), ValueError),
        (np.zeros((2, 3)), np.eye(4)[:2], ValueError),
    ],
)  # fmt: skip
def test_refusals(loss, z, labels, error):
    with pytest.raises(error, match=type(loss).__name__):
        loss(z, np.array(labels))


@pytest.mark.parametrize("loss", ALL, ids=repr)
def test_one_hot_rows_lists_and_whole_numbers_are_taken(loss):
    z = [[1, -2, 0], [0, 1, 3]]
    value = loss(z, [1, 2]).item()
    assert value == loss(np.array(z, dtype=float), np.eye(3)[[1, 2]]).item()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MaxMargin(0), "margin over 0"), (lambda: SelfNormalizedCrossEntropy(-1), "weight over 0"),
        (lambda: NoiseContrastiveEstimation([0.5, 0.6], 1), "sum 1"),
        (lambda: NoiseContrastiveEstimation([1.5, -0.5], 1), "from 0"),
        (lambda: NoiseContrastiveEstimation([1.0], 1.5), "whole number"),
        (lambda: NoiseContrastiveEstimation([1.0, 0.0], 1, True)(np.zeros((1, 2)), np.array([0])), "rng="),
        (lambda: MaxMargin(reduction="max"), "'mean'"),
    ],
)  # fmt: skip
def test_hyperparameters_that_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
