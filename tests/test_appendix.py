"""The closed forms of Tomasi's appendix against compositions of operations, and Algorithm 1 against the tape."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import Tensor
from minigrad.losses import CrossEntropy
from minigrad.operation import registry


@pytest.mark.parametrize("function", ["relu", "tanh", "sigmoid", "leaky_relu"])
def test_point_functions(function: str, rng: np.random.Generator) -> None:
    """TC-12: dy_i/dW_qj = d_iq f'(a_i) x~_j and dy_i/dx_j = f'(a_i) W_ij."""
    x, W = rng.normal(size=4), rng.normal(size=(3, 5))

    def composed(x: Tensor, W: Tensor) -> Tensor:
        return getattr(mg, function)(mg.affine(x, W[:, :-1], W[:, -1]))

    layer = registry["point_layer"](function)
    by_x, by_W = layer.jacobian(x, W)
    np.testing.assert_allclose(by_x, mg.jacobian(composed, x, W, wrt=0), atol=1e-15)
    np.testing.assert_allclose(by_W.toarray(), mg.jacobian(composed, x, W, wrt=1), atol=1e-15)


@pytest.mark.parametrize(("kernel_size", "stride", "padding"), [(2, 2, 0), (3, 2, 1), ((3, 2), (1, 2), (1, 0))])
def test_relu_then_max_pooling(kernel_size: object, stride: object, padding: object, rng: np.random.Generator) -> None:
    """TC-14, windows that overlap included, away from kinks."""
    a = rng.normal(size=(1, 2, 6, 5)) - 0.3
    closed = registry["relu_max_pool2d"](kernel_size, stride, padding)

    def composed(a: Tensor) -> Tensor:
        return mg.max_pool2d(mg.relu(a), kernel_size, stride, padding)

    np.testing.assert_array_equal(closed.forward(a)[0], composed(a).data)
    np.testing.assert_array_equal(closed.jacobian(a[0]).toarray(), mg.jacobian(composed, a))


def test_the_closed_form_and_the_composition_differ_at_a_kink() -> None:
    """The window (-1, 0) of T-11: over a the winner is 0, with slope h'(0) = 1; over max(0, a) it is the first zero."""
    a = np.array([-1.0, 0.0]).reshape(1, 1, 1, 2)
    closed = registry["relu_max_pool2d"]((1, 2)).jacobian(a[0]).toarray()
    composed = mg.jacobian(lambda a: mg.max_pool2d(mg.relu(a), (1, 2)), a)
    assert closed.tolist() == [[0, 1]]
    assert composed.tolist() == [[0, 0]]


def algorithm_1(weights: list[np.ndarray], xs: np.ndarray, ys: np.ndarray) -> list[np.ndarray]:
    """Tomasi's Algorithm 1 with explicit matrices, with the step for k = 1 that its loop leaves out (T-2)."""
    layers = [registry["point_layer"]("tanh")] * len(weights)
    mean = [np.zeros(W.size) for W in weights]
    for n, (x, y) in enumerate(zip(xs, ys, strict=True), start=1):
        x_k = [x]
        for layer, W in zip(layers, weights, strict=True):
            x_k.append(layer.forward(x_k[-1], W))
        g = CrossEntropy().jacobian(x_k[-1], y)
        gradient: list[np.ndarray] = []
        for k in range(len(weights) - 1, -1, -1):
            by_x, by_W = layers[k].jacobian(x_k[k], weights[k])
            gradient.insert(0, (g @ by_W.toarray()).ravel())
            g = g @ by_x
        mean = [((n - 1) * old + new) / n for old, new in zip(mean, gradient, strict=True)]
    return [row.reshape(W.shape) for row, W in zip(mean, weights, strict=True)]


def test_algorithm_1_is_backward_on_the_mean(rng: np.random.Generator) -> None:
    """TC-11, TC-15: the running mean of the gradients of the samples is the gradient of the training risk."""
    weights = [rng.normal(size=(4, 4)), rng.normal(size=(5, 5)), rng.normal(size=(3, 6))]
    xs, ys = rng.normal(size=(7, 3)), rng.integers(0, 3, size=7)
    leaves = [Tensor(W, requires_grad=True) for W in weights]
    h: object = xs
    for W in leaves:
        h = mg.point_layer(h, W, "tanh")
    CrossEntropy()(h, ys).backward()
    for leaf, row in zip(leaves, algorithm_1(weights, xs, ys), strict=True):
        np.testing.assert_allclose(leaf.grad, row, atol=1e-15)


def test_relu_at_zero_is_a_parameter() -> None:
    """T-10: 1 as Tomasi has it; frameworks take 0."""
    for at_zero in (1.0, 0.0, 0.5):
        x = Tensor([-1.0, 0.0, 2.0], requires_grad=True)
        mg.relu(x, at_zero).sum().backward()
        assert x.grad.tolist() == [0.0, at_zero, 1.0]
        mg.leaky_relu(x, 0.1, at_zero).sum().backward()
        assert x.grad.tolist() == [0.1, at_zero, 1.0]


def test_the_pool_takes_the_first_of_equal_entries() -> None:
    x = Tensor(np.zeros((1, 1, 3, 3)), requires_grad=True)
    mg.max_pool2d(x, 2, stride=1).sum().backward()
    assert x.grad[0, 0].tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
