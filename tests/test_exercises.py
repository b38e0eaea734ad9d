"""Exercises: what is right passes, and what students get wrong is named."""

import numpy as np
import pytest
import scipy.sparse

import minigrad as mg
from minigrad.verify import Wrong, exercise

softmax = mg.registry["softmax"]()
Z = np.array([0.5, -1.0, 2.0])


def matrix(z):
    p = np.exp(z - z.max())
    p /= p.sum()
    return np.diag(p) - np.outer(p, p)


def complaint(yours, right=softmax.jacobian, on=None, **settings):
    with pytest.raises(Wrong) as raised:
        exercise(yours, right, on, **settings)
    return str(raised.value)


def test_a_right_function_passes_at_the_operations_own_samples():
    solved = exercise(matrix, softmax.jacobian)
    assert solved.cases > 5
    assert str(solved) == f"matrix: right, {solved.numbers} numbers in {solved.cases} cases"


def test_the_samples_have_one_vector_for_jacobian_and_a_batch_for_forward_and_vjp():
    ranks = {"forward": [], "jacobian": [], "vjp": []}
    for part, seen in ranks.items():
        right = getattr(softmax, part)

        def yours(*arrays, seen=seen, right=right):
            seen.append(np.ndim(arrays[-1]))
            return right(*arrays)

        exercise(yours, right)
    assert set(ranks["jacobian"]) == {1}
    assert max(ranks["forward"]) == max(ranks["vjp"]) > 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda z: -matrix(z), "wrong sign"),
        (lambda z: 1.001 * matrix(z), "1.001 times"),
        (lambda z: 0 * matrix(z), "zero"),
        (lambda z: matrix(z) + 0.25, "off by the same 0.25"),
        (lambda z: np.diag(np.diag(matrix(z))), "the diagonal is right, what stands off it is not"),
        (lambda z: matrix(z) + np.eye(len(z)), "off the diagonal is right, the diagonal is not"),
        (lambda z: matrix(z)[::-1], "the numbers are right, their places are not"),
        (lambda z: matrix(z)[0], r"shape (4,), (4, 4) is wanted"),
        (lambda z: None, "returned nothing"),
        (lambda z: "p", "numbers are wanted"),
        (lambda z: (matrix(z), 0), "returned 2 results, 1 are wanted"),
        (lambda z: 1 / 0, "raised ZeroDivisionError: division by zero"),
    ],
)
def test_what_a_mistake_looks_like(wrong, words):
    assert words in complaint(wrong)


def test_the_entry_both_numbers_the_arguments_and_the_hint():
    def first_entry_off(z):
        J = matrix(z)
        J[1, 2] += 0.5
        return J

    said = complaint(first_entry_off, on=[Z], hint="the columns add up to zero")
    number = matrix(Z)[1, 2]
    assert f"first_entry_off: entry [1, 2]: yours {number + 0.5:.10g}, wanted {number:.10g}" in said
    assert "at z = [ 0.5, -1. ,  2. ]" in said
    assert said.endswith("Hint: the columns add up to zero")


def test_overflow_is_called_by_its_name():
    def naive(z):
        p = np.exp(z)
        p /= p.sum()
        return np.diag(p) - np.outer(p, p)

    assert "what overflows" in complaint(naive)


def test_a_transpose_and_the_rest_of_a_batch():
    A = np.arange(9.0).reshape(3, 3)
    assert "rows and columns are exchanged" in complaint(lambda x: A.T, lambda x: A, [Z])
    turned = complaint(lambda x: A[:2].T, lambda x: A[:2], [Z])
    assert "shape (3, 2), (2, 3) is wanted: it looks transposed" in turned
    assert "the first row is right, others are not" in complaint(lambda x: A * [[1], [0], [0]], lambda x: A, [Z])
    lower, above = np.tril(A + 1)[:2], np.triu(A, 1)[:2]
    assert "should be zero are not" in complaint(lambda x: lower + above, lambda x: lower, [Z])


def test_an_argument_that_was_changed():
    def in_place(z):
        z -= z.max()
        return matrix(z)

    assert "changed its argument z" in complaint(in_place)


def test_an_argument_without_a_name_of_its_own_is_numbered():
    def in_place(*arrays):
        arrays[1][:] = 0
        return arrays[0]

    assert "changed its argument argument 1" in complaint(in_place, lambda x, y: x, [(Z, Z + 1)])


def test_an_unsolved_exercise_says_so():
    def later(z):
        raise NotImplementedError("exercise later")

    assert complaint(later, hint="begin with K = 2") == "later is not written yet. Hint: begin with K = 2"


def test_numbers_tensors_sparse_matrices_tuples_and_codewords():
    x = np.array([3.0, -1.0])
    exercise(lambda x: mg.Tensor(x) * 2, lambda x: 2 * x, [x])
    exercise(lambda x: scipy.sparse.diags_array(x), np.diag, [x])
    exercise(lambda w, v: (w + v, v), lambda w, v: (mg.Tensor(w) + v, v), [(x, x[::-1])])
    assert "result 1: " in complaint(lambda w, v: (w + v, -v), lambda w, v: (w + v, v), [(x, x[::-1])])
    assert "yours '01', wanted '10'" in complaint(lambda n: "01", lambda n: "10", [1])
    assert "yours inf, wanted 1" in complaint(lambda n: np.inf, lambda n: 1.0, [1])


def test_infinite_entries_may_be_wanted():
    exercise(lambda x: np.array([np.inf, x]), lambda x: np.array([np.inf, x]), [2.0])
    assert "entry [0]: yours -inf, wanted inf" in complaint(
        lambda x: np.array([-np.inf, x]), lambda x: np.array([np.inf, x]), [2.0]
    )


def test_nothing_to_compare_at_is_an_error():
    with pytest.raises(ValueError, match="nothing to compare"):
        exercise(matrix, matrix, [])
    with pytest.raises(ValueError, match=r"expected on=\[...\]"):
        exercise(matrix, np.diag)
