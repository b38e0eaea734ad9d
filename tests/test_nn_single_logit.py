"""Single logit classification: chosen logits are those of the whole network, and thresholds part them."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.losses import BatchCrossEntropy
from minigrad.metrics import is_separated, precision_at_recall, threshold_at_recall
from minigrad.single_logit import SingleLogit


def network(bias=True, dtype=np.float64, K=5):
    return nn.Sequential(
        nn.Linear(4, 6, seed=0, dtype=dtype), nn.BatchNorm1d(6, dtype=dtype), nn.ReLU(), nn.Dropout(0.5, seed=3),
        nn.Sequential(nn.Linear(6, 3, seed=1, dtype=dtype), nn.Linear(3, K, bias=bias, seed=2, dtype=dtype)),
    )  # fmt: skip


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("classes", [2, np.int64(0), [3], [4, 0, 4], np.arange(5)])
def test_chosen_logits_are_those_of_all(bias, dtype, classes, rng):
    model, x = network(bias, dtype).eval(), rng.normal(size=(7, 4)).astype(dtype)
    with mg.no_grad():
        every, chosen = model(x).data, model.logits(x, classes).data
    assert chosen.dtype == dtype
    np.testing.assert_allclose(chosen, every[:, classes], rtol=1e-5 if dtype == np.float32 else 1e-13, atol=1e-6)


def test_only_the_rows_that_are_asked_for_are_read(rng):
    """Whatever is in the others, and however many there are."""
    model, x = network().eval(), rng.normal(size=(3, 4))
    before = model.logits(x, [1, 3]).data
    last = model.readout()
    last.weight.data[[0, 2, 4]] = np.nan
    last.bias.data[[0, 2, 4]] = np.nan
    np.testing.assert_array_equal(model.logits(x, [1, 3]).data, before)


def test_rows_of_ternary_weights(rng):
    """What the layer computes with, not the float weights that are trained."""
    model, x = nn.ternary(network().eval()), rng.normal(size=(3, 4))
    np.testing.assert_allclose(model.logits(x, [1, 3]).data, model(x).data[:, [1, 3]], rtol=1e-13, atol=1e-14)


def test_chosen_logits_can_be_trained(rng):
    """Gradients go to those rows, the others get 0: the same as from all logits."""
    model, x = network().eval(), rng.normal(size=(3, 4))
    (model.logits(x, [1, 3]) ** 2).sum().backward()
    some = [p.grad.copy() for p in model.parameters()]
    (model(x)[:, [1, 3]] ** 2).sum().backward()
    for one, parameter in zip(some, model.parameters(), strict=True):
        np.testing.assert_allclose(one, parameter.grad, rtol=1e-12, atol=1e-14)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ((nn.Linear(4, 3, seed=0), nn.Softmax()), "softmax needs all logits"),
        ((nn.Linear(4, 3, seed=0), nn.ReLU()), r"got ReLU\(\) at its end: only"),
        ((Doubled(4, 3, seed=0),), "ends in Linear, got Doubled"),
        ((nn.Linear(4, 3, seed=0), nn.Sequential()), "got None"),
        ((), "got None"),
    ],
)
def test_what_ends_otherwise_is_refused(layers, words):
    model = nn.Sequential(*layers)
    for use in (lambda: model.logits(np.ones((1, 4)), [0]), lambda: SingleLogit(model)):
        with pytest.raises(ValueError, match=words):
            use()


@pytest.mark.parametrize(
    ("classes", "error", "words"),
    [
        (5, ValueError, "from 0 to 4"), ([0, -1], ValueError, "from 0 to 4"), ([[0]], ValueError, "one or several"),
        (1.0, TypeError, "whole numbers, got 1.0"), (True, TypeError, "True"), ([], TypeError, "classes="),
        (np.zeros(0, int), ValueError, "one or several"),
    ],
)  # fmt: skip
def test_classes_that_are_refused(classes, error, words):
    with pytest.raises(error, match=words):
        network().logits(np.ones((1, 4)), classes)


# Thresholds -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recall", [0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, int])
def test_a_threshold_accepts_what_its_recall_needs(recall, dtype, rng):
    """Strictly above it, with equal scores; the precision is that of `precision_at_recall`."""
    for _ in range(20):
        scores, positive = rng.integers(-4, 5, size=30).astype(dtype), rng.random(30) < 0.4
        positive[0] = True
        accepted = scores > threshold_at_recall(scores, positive, recall)
        assert positive[accepted].sum() >= recall * positive.sum() - 1e-9
        assert positive[accepted].mean() == precision_at_recall(scores, positive, recall)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_threshold_between_neighbours(dtype):
    """Where no number lies between two scores the lower one is the threshold, and huge scores do not overflow."""
    low = dtype(1)
    high = np.nextafter(low, dtype(2))
    assert threshold_at_recall(np.array([low, high]), [0, 1], 1) == low
    largest = np.finfo(dtype).max
    assert threshold_at_recall(np.array([largest, -largest]), [1, 0], 1) == 0
    assert threshold_at_recall(np.array([largest, largest / 2]), [1, 0], 1) == dtype(largest * dtype(0.75))
    assert threshold_at_recall(np.array([low]), [1], 1) == np.nextafter(low, dtype(0))
    assert threshold_at_recall(np.array([np.inf, 0], dtype), [1, 0], 1) == 0
    with pytest.raises(ValueError, match="a score of -inf is over no threshold"):
        threshold_at_recall(np.array([0, -np.inf], dtype), [0, 1], 1)


def test_thresholds_on_a_sample_by_hand():
    """The identity as a network: scores are inputs."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False, seed=0))
    model[0].weight.data[...] = np.eye(2)
    x, y = np.array([[5.0, 0], [4, 3], [1, 2], [3, 9], [0, 8.0]]), np.array([0, 0, 0, 1, 1])
    single = SingleLogit(model)
    found = single.choose(x, y, recall=2 / 3)
    np.testing.assert_array_equal(found.thresholds, [3.5, 5.5])
    np.testing.assert_allclose(found.recall, [2 / 3, 1])
    np.testing.assert_allclose(found.precision, [1, 1])
    assert single.accept([[3.5, 6.0]], [0, 1]).tolist() == [[False, True]]  # T itself is not accepted
    found = single.choose(x, y, recall=1, classes=[0])
    np.testing.assert_array_equal(found.classes, [0])
    np.testing.assert_array_equal(single.thresholds, [0.5, 5.5])
    np.testing.assert_allclose(found.precision, 3 / 4)


def test_a_class_without_a_threshold_is_refused(rng):
    single = SingleLogit(network())
    x, y = rng.normal(size=(40, 4)), np.arange(40) % 5
    single.choose(x, y, classes=[1, 2])
    assert single.accept(x, [2, 1]).shape == (40, 2)
    assert single.accept(x, 1).dtype == bool
    with pytest.raises(ValueError, match=r"class 0, 4 has no threshold.*classes=\[0, 4\]"):
        single.accept(x, [0, 1, 4])
    with pytest.raises(ValueError, match="class 3 has no threshold"):
        single.accept(x, 3)
    with pytest.raises(ValueError, match="none of 40 samples is positive"):
        single.choose(x, np.zeros(40, int), classes=[4])
    with pytest.raises(TypeError, match=r"wrap the layers in nn.Sequential"):
        SingleLogit(nn.Linear(2, 2, seed=0))


def test_thresholds_are_saved_with_the_weights(tmp_path, rng):
    x, y = rng.normal(size=(40, 4)).astype(np.float32), np.arange(40) % 5
    single = SingleLogit(network(dtype=np.float32))
    single.choose(x, y, recall=0.8)
    single.save(tmp_path / "single.npz")
    other = SingleLogit(network(dtype=np.float32).reset(9)).load(tmp_path / "single.npz")
    assert other.thresholds.dtype == np.float32
    np.testing.assert_array_equal(other.thresholds, single.thresholds)
    np.testing.assert_array_equal(other.accept(x, np.arange(5)), single.accept(x, np.arange(5)))
    assert "thresholds" in single.state_dict()


def test_modes_come_back_and_nothing_is_recorded(rng):
    """A network in training has dropout and batch statistics; decisions are those of eval mode."""
    model, x = network().train(), rng.normal(size=(600, 4))
    single = SingleLogit(model)
    model[1].training = False
    z = single.logits(x, [0, 2])
    assert [m.training for m in (model, model[1], model[3])] == [True, False, True]
    assert isinstance(z, np.ndarray)
    np.testing.assert_allclose(z, model.eval()(x).data[:, [0, 2]], rtol=1e-12)
    np.testing.assert_array_equal(single(x).data, model(x).data)
    assert single.logits(x[:0], [0, 2]).shape == (0, 2)
    assert single.logits(x[:0], 0).shape == (0,)


def test_a_loss_that_is_aligned_makes_single_logits_right():
    """LS-01 to LS-03: trained by batch cross-entropy until separated, one logit decides without an error."""
    x, y = np.random.default_rng(0).normal(size=(12, 3)), np.arange(12) % 3
    x += 3 * np.eye(3)[y]
    model = nn.Sequential(nn.Linear(3, 8, seed=0), nn.ReLU(), nn.Linear(8, 3, seed=1))
    optimizer = mg.optim.Adam(model.parameters(), 0.02)
    mg.training.fit(model, BatchCrossEntropy(), optimizer, (x, y), epochs=300, batch_size=12)
    assert is_separated(model(x), y)
    single = SingleLogit(model)
    found = single.choose(x, y, recall=1)
    assert found.precision.tolist() == found.recall.tolist() == [1, 1, 1]
    np.testing.assert_array_equal(single.accept(x, np.arange(3)), np.eye(3)[y] == 1)
