"""Explicit Jacobians of compositions."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import Tensor
from minigrad.jacobian import lift, split
from minigrad.operation import registry


def f(x: object, weight: object) -> Tensor:
    return mg.softmax(mg.tanh(mg.affine(x, weight)))


@pytest.mark.parametrize("wrt", [0, 1, -1])
def test_dense_sparse_and_by_matrices_agree(wrt: int, rng: np.random.Generator) -> None:
    x, weight = rng.normal(size=(2, 3)), rng.normal(size=(4, 3))
    dense = mg.jacobian(f, x, weight, wrt=wrt)
    assert dense.shape == (8, 6 if wrt == 0 else 12)
    np.testing.assert_allclose(mg.jacobian(f, x, weight, wrt=wrt, method="jacobian"), dense, atol=1e-15)
    sparse = mg.jacobian(f, x, weight, wrt=wrt, sparse=True)
    np.testing.assert_allclose(sparse.toarray(), dense, atol=1e-15)


def test_layout_is_numerator_layout_in_c_order() -> None:
    J = mg.jacobian(lambda x: x.T, np.arange(6.0).reshape(2, 3))
    expected = np.zeros((6, 6))
    for i in range(3):
        for j in range(2):
            expected[2 * i + j, 3 * j + i] = 1
    np.testing.assert_array_equal(J, expected)


def test_samples_stand_in_blocks(rng: np.random.Generator) -> None:
    softmax = registry["softmax"]()
    z = rng.normal(size=(2, 3))
    (J,) = lift(softmax, (z,), softmax.forward(z), [True])
    expected = np.zeros((6, 6))
    for n in range(2):
        expected[3 * n : 3 * n + 3, 3 * n : 3 * n + 3] = softmax.jacobian(z[n])
    np.testing.assert_allclose(J.toarray(), expected)


def test_identity_constants_and_unreached_inputs() -> None:
    np.testing.assert_array_equal(mg.jacobian(lambda x: x, np.ones(2)), np.eye(2))
    np.testing.assert_array_equal(mg.jacobian(lambda x, y: y * 2, np.ones(2), np.ones(2)), np.zeros((2, 2)))
    assert mg.jacobian(lambda x, y: y * 2, np.ones(2), np.ones(2), sparse=True).nnz == 0


def test_the_guard_names_the_sizes() -> None:
    with pytest.raises(ValueError, match=r"20000 x 20000.*sparse=True"):
        mg.jacobian(lambda x: x * 2, np.ones(20_000))
    assert mg.jacobian(lambda x: x * 2, np.ones(20_000), sparse=True).nnz == 20_000


def test_refusals() -> None:
    with pytest.raises(ValueError, match="wrt=1 with 1 inputs"):
        mg.jacobian(mg.exp, np.ones(2), wrt=1)
    with pytest.raises(ValueError, match="'vjp' or 'jacobian'"):
        mg.jacobian(mg.exp, np.ones(2), method="x")


def test_integer_inputs_are_taken_as_they_are() -> None:
    z = np.array([[0.0, 1.0, 2.0]])
    J = mg.jacobian(mg.losses.CrossEntropy(), z, np.array([1]))
    p = np.exp(z[0]) / np.exp(z[0]).sum()
    np.testing.assert_allclose(J, [p - np.array([0, 1, 0])])


def test_split_refuses_batches_of_different_sizes() -> None:
    with pytest.raises(ValueError, match="different numbers of samples"):
        list(split(registry["matmul"](), np.ones((2, 1, 1)), np.ones((3, 1, 1))))
