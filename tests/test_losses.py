"""Losses: their values to the last digits, reductions, and what they refuse."""

import mpmath
import numpy as np
import pytest

from minigrad import Tensor
from minigrad.losses import CrossEntropy, Loss, SquaredError, TwoClassCrossEntropy
from minigrad.operation import registry


def exact_cross_entropy(z: np.ndarray, y: int) -> tuple[mpmath.mpf, list[mpmath.mpf]]:
    """Value and gradient at 50 digits."""
    with mpmath.workdps(1000):  # enough for e^-2000 beside 1
        e = [mpmath.exp(mpmath.mpf(float(v))) for v in z]
        total = sum(e)
        rest = sum(v for k, v in enumerate(e) if k != y)
        return mpmath.log1p(rest / e[y]), [-rest / total if k == y else v / total for k, v in enumerate(e)]


@pytest.mark.parametrize(
    "z",
    [[0.3, -1.2, 2.0], [40.0, 0.0, 0.0], [0.0, 40.0, 39.0], [1000.0, 0.0, -1000.0], [-1000.0, 1000.0, 990.0],
     [1e-9, 0.0, -1e-9], [5.0, 5.0, 5.0], [700.0, 0.0, 1.0]],
)  # fmt: skip
def test_cross_entropy_is_right_in_the_tails(z: list[float]) -> None:
    """Relative accuracy of value and gradient, also where the network is sure beyond 1 - p = 1e-16."""
    for y in range(3):
        logits = Tensor([z], requires_grad=True)
        loss = CrossEntropy()(logits, np.array([y]))
        loss.backward()
        value, gradient = exact_cross_entropy(np.array(z), y)
        assert loss.item() == pytest.approx(float(value), rel=1e-12, abs=1e-300)
        for got, wanted in zip(logits.grad[0], gradient, strict=True):
            assert got == pytest.approx(float(wanted), rel=1e-11, abs=1e-300)


@pytest.mark.parametrize("shift", [1000.0, -1000.0])
def test_cross_entropy_is_blind_to_shifts(shift: float) -> None:
    z = np.array([[0.5, -0.25, 2.0]])
    for labels in (np.array([2]), np.array([[0.25, 0.5, 0.25]])):
        np.testing.assert_allclose(CrossEntropy()(z + shift, labels).data, CrossEntropy()(z, labels).data, rtol=1e-12)


def test_one_hot_labels_are_right_in_the_tails_too() -> None:
    z = Tensor([[40.0, 0.0]], requires_grad=True)
    loss = CrossEntropy()(z, np.array([[1.0, 0.0]]))
    loss.backward()
    value, gradient = exact_cross_entropy(np.array([40.0, 0.0]), 0)
    assert loss.item() == pytest.approx(float(value), rel=1e-12)
    assert z.grad[0].tolist() == pytest.approx([float(g) for g in gradient], rel=1e-11)


def test_classes_that_are_ruled_out() -> None:
    """Logits of -inf: no surprise where they are not the label, infinite surprise where they are."""
    z = np.array([[-np.inf, 0.0, 0.0]])
    assert CrossEntropy()(z, np.array([1])).item() == pytest.approx(np.log(2))
    assert CrossEntropy()(z, np.array([[0.0, 1.0, 0.0]])).item() == pytest.approx(np.log(2))
    assert CrossEntropy()(z, np.array([0])).item() == np.inf


def test_special_cases_of_cross_entropy() -> None:
    assert CrossEntropy()(np.zeros((1, 4)), np.array([2])).item() == pytest.approx(np.log(4))
    assert CrossEntropy()(np.array([[3.0]]), np.array([0])).item() == 0
    u = 0.7
    two = CrossEntropy()(np.array([[0.0, u]]), np.array([1])).item()
    assert two == pytest.approx(TwoClassCrossEntropy()(np.array([1 / (1 + np.exp(-u))]), np.array([1])).item())
    hot = np.array([[0.0, 1.0, 0.0]])
    z = np.array([[0.2, -3.0, 900.0]])
    assert CrossEntropy()(z, hot).item() == pytest.approx(CrossEntropy()(z, np.array([1])).item())


def test_soft_labels_give_p_minus_q() -> None:
    z, q = Tensor([[0.1, 0.9, -0.3]], requires_grad=True), np.array([[0.2, 0.5, 0.3]])
    CrossEntropy()(z, q).backward()
    p = np.exp(z.data) / np.exp(z.data).sum()
    np.testing.assert_allclose(z.grad, p - q, rtol=1e-13)


def test_reductions() -> None:
    z, y = np.array([[1.0, 2.0], [3.0, -1.0], [0.0, 0.0]]), np.array([0, 1, 0])
    each = CrossEntropy("none")(z, y).data
    assert each.shape == (3,)
    assert CrossEntropy("sum")(z, y).item() == pytest.approx(each.sum())
    assert CrossEntropy()(z, y).item() == pytest.approx(each.mean())


@pytest.mark.parametrize(
    "name", [name for name, cls in sorted(registry.items()) if issubclass(cls, Loss) and cls.parsed.output.samples]
)
def test_every_loss_reduces_its_samples(name: str, rng: np.random.Generator) -> None:
    """Mean and sum over the batch, in value and gradient."""
    operation, *arrays = next(iter(registry[name].samples(rng)))
    found = {}
    for reduction in ("none", "mean", "sum"):
        operation.reduction = reduction
        x = Tensor(arrays[0], requires_grad=True)
        loss = operation(x, *arrays[1:])
        loss.backward(np.ones(loss.shape))
        found[reduction] = loss.data, x.grad
    each, rows = found["none"]
    assert len(each) > 1
    np.testing.assert_allclose(found["sum"][0], each.sum())
    np.testing.assert_allclose(found["mean"][0], each.mean())
    np.testing.assert_allclose(found["sum"][1], rows)
    np.testing.assert_allclose(found["mean"][1], rows / len(each))


def test_squared_error_has_no_half_and_sums_over_a_sample() -> None:
    prediction = Tensor([[1.0, 2.0], [3.0, 5.0]], requires_grad=True)
    loss = SquaredError()(prediction, np.array([[0.0, 0.0], [3.0, 4.0]]))
    assert loss.item() == (5 + 1) / 2
    loss.backward()
    assert prediction.grad.tolist() == [[1.0, 2.0], [0.0, 1.0]]


def test_two_class_cross_entropy_at_the_ends() -> None:
    """T-22: 0 log 0 is never formed, T-1: the loss is positive; log 2 in the middle; mirror symmetry."""
    p, y = np.array([1.0, 0.0, 0.5, 0.9]), np.array([1, 0, 1, 1])
    each = TwoClassCrossEntropy("none")(p, y).data
    np.testing.assert_allclose(each, [0, 0, np.log(2), 0.10536051565782628])
    np.testing.assert_allclose(TwoClassCrossEntropy("none")(1 - p, 1 - y).data, each, rtol=1e-14)
    assert TwoClassCrossEntropy("none")(np.array([0.0, 1.0]), np.array([1, 0])).data.tolist() == [np.inf, np.inf]
    tiny = TwoClassCrossEntropy()(np.array([1e-20]), np.array([0])).item()
    assert tiny == pytest.approx(1e-20, rel=1e-12)


def test_lists_are_taken() -> None:
    assert CrossEntropy()([[0.0, 0.0]], [1]).item() == pytest.approx(np.log(2))
    assert SquaredError()([[1.0, 0.0]], [[0.0, 0.0]]).item() == 1


@pytest.mark.parametrize(
    ("labels", "error", "words"),
    [
        ([0, 3], ValueError, "from 0 to 2, got 0 to 3"),
        ([0.0, 1.0], TypeError, "astype"),
        ([True, False], TypeError, "bool"),
        ([0, 1, 2], ValueError, "one label a sample"),
        ([[0.5, 0.6, 0.1], [1, 0, 0]], ValueError, "sum 1"),
        ([[-0.5, 1.5, 0.0], [1, 0, 0]], ValueError, "non-negative"),
    ],
)
def test_labels_that_are_refused(labels: list[object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        CrossEntropy()(np.zeros((2, 3)), np.array(labels))


def test_nan_logits_are_refused_and_infinite_ones_are_not_hidden() -> None:
    with pytest.raises(ValueError, match="nan"):
        CrossEntropy()(np.array([[np.nan, 0.0]]), np.array([1]))


def test_float32_is_kept_and_close(rng: np.random.Generator) -> None:
    z, y = rng.normal(size=(5, 4)), np.array([0, 1, 2, 3, 0])
    single = Tensor(z.astype(np.float32), requires_grad=True)
    loss = CrossEntropy()(single, y)
    loss.backward()
    assert loss.dtype == single.grad.dtype == np.float32
    double = Tensor(z, requires_grad=True)
    CrossEntropy()(double, y).backward()
    np.testing.assert_allclose(single.grad, double.grad, atol=1e-6)
