"""Formulas in index notation."""

import subprocess
import sys

import mpmath
import numpy as np
import pytest

from minigrad.formula import Formula, exact, indices, inside, largest, sp, total, typeset, variable
from minigrad.jacobian import split
from minigrad.operation import registry


def softmax() -> tuple[Formula, object]:
    z, (i, k) = variable("z", ("K",)), indices("i k")
    return Formula(sp.exp(z[i]) / total(sp.exp(z[k]), (k, z.shape[0])), i), z


def test_renders_as_latex() -> None:
    formula, _ = softmax()
    assert formula.latex("p") == r"p_{i} = \frac{e^{{z}_{i}}}{\sum_{k=0}^{K - 1} e^{{z}_{k}}}"
    assert formula._repr_latex_().startswith("$y_{i}")
    assert Formula(sp.Integer(1)).latex("c") == "c = 1"


def test_every_operation_renders() -> None:
    rng = np.random.default_rng(0)
    for cls in registry.values():
        operation, *arrays = next(iter(cls.samples(rng)))
        sample = next(split(operation, *arrays))
        assert "=" in operation.written(*sample)[0].latex(cls.parsed.output.name)


def test_evaluates_to_fifty_digits() -> None:
    formula, z = softmax()
    values = formula.evaluate((2,), [z], [np.array([0.0, 1.0])], digits=50)
    with mpmath.workdps(50):
        assert abs(values[1] - 1 / (1 + mpmath.e**-1)) < mpmath.mpf(10) ** -49


def test_a_float_is_taken_as_the_rational_that_it_is() -> None:
    assert exact(0.1)[()] == mpmath.mpf(0.1)
    assert exact(np.array([2], dtype=np.int64))[0] == 2
    assert type(exact(np.array([2]))[0]) is int


def test_differentiates() -> None:
    formula, z = softmax()
    J = formula.derivative(z).evaluate((3, 3), [z], [np.array([0.5, -1.0, 2.0])]).astype(float)
    p = np.exp([0.5, -1.0, 2.0]) / np.exp([0.5, -1.0, 2.0]).sum()
    np.testing.assert_allclose(J, np.diag(p) - np.outer(p, p), rtol=1e-14)


def test_a_derivative_takes_letters_that_are_free() -> None:
    x, (j, i) = variable("x", ("I", "J")), indices("j i")
    derivative = Formula(total(x[i, j] ** 2, (j, x.shape[1])), i).derivative(x)
    assert len({*derivative.indices, j}) == 4


def test_the_largest_gives_its_slope_to_the_first() -> None:
    x, k = variable("x", ("K",)), 3
    formula = Formula(largest(*(x[n] for n in range(k))))
    slopes = formula.derivative(x).evaluate((3,), [x], [np.array([1.0, 2.0, 2.0])])
    assert slopes.tolist() == [0, 1, 0]


def test_inside_is_zero_outside() -> None:
    x, i = variable("x", ("K",)), indices("i")
    padded = Formula(inside(x, i - 1), i).evaluate((4,), [x], [np.array([5.0, 6.0])])
    assert padded.tolist() == [0, 5, 6, 0]


@pytest.mark.parametrize("module", ["sympy", "matplotlib", "scipy", "torch"])
def test_import_is_light(module: str) -> None:
    code = f"import sys, minigrad; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "latex"),
    [
        ("z", "z"), ("z0", "z_{0}"), ("gamma", r"\gamma"), ("labels", r"\mathrm{labels}"), ("a_hat", r"\hat{a}"),
        ("prediction0", r"\mathrm{prediction}_{0}"), ("k_0", "k_{0}"), ("K", "K"),
    ],
)  # fmt: skip
def test_words_stand_upright(name, latex):
    assert typeset(name) == latex


def test_a_letter_and_a_word_are_told_apart():
    z, labels = variable("z", ["K"]), variable("labels", integer=True)
    j = indices("j")
    written = Formula(sp.KroneckerDelta(j, labels) * z[labels], j).latex("loss")
    assert r"\delta_{j,\,\mathrm{labels}}" in written
    assert r"{z}_{\mathrm{labels}}" in written
