"""Transfer functions: table 1 of US 2022/0253713 against mpmath, laws of its columns, what is refused."""

import warnings

import mpmath
import numpy as np
import pytest
import sympy as sp

import minigrad as mg
from minigrad import transfer
from minigrad.ops import transfer as operations

FUNCTIONS = {f.name: f for f in (*transfer.TABLE, transfer.LeakyReLU(0.3), transfer.ELU(0.7))}
ENTRYWISE = {name: f for name, f in FUNCTIONS.items() if name != "softmax"}
INVERTIBLE = [name for name, f in FUNCTIONS.items() if f.name not in ("step", "ReLU")]
POINTS = np.array([-40.0, -13.7, -2.5, -1.0, -0.3, -1e-3, 1e-3, 0.2, 0.9, 1.0, 3.0, 17.0, 40.0])
A = sp.Symbol("a", real=True)


def entrywise(test):
    return pytest.mark.parametrize("f", ENTRYWISE.values(), ids=ENTRYWISE.keys())(test)


def exactly(expression, symbol, x):
    """An expression at a number, from 60 digits."""
    with mpmath.workdps(60):
        return float(sp.lambdify(symbol, expression, "mpmath")(mpmath.mpf(float(x))))


def exact_loss(f, a_hat, a):
    with mpmath.workdps(120):
        F, g = (sp.lambdify(A, e, "mpmath") for e in (f.integral_formula(A), f.formula(A)))
        a_hat, a = mpmath.mpf(float(a_hat)), mpmath.mpf(float(a))
        return float(F(a_hat) - F(a) - g(a) * (a_hat - a))


def test_the_table_has_the_order_of_its_source():
    names = [type(f).__name__ for f in mg.transfer.TABLE]
    assert names == ["Step", "Linear", "LeakyReLU", "ReLU", "Sigmoid", "Softmax", "Tanh", "ArcTan", "Softplus", "ELU"]


@entrywise
def test_values_and_integrals_are_those_of_the_formulas(f):
    for a in POINTS:
        np.testing.assert_allclose(f.value(a), exactly(f.formula(A), A, a), rtol=1e-13, err_msg=str(a))
        np.testing.assert_allclose(f.integral(a), exactly(f.integral_formula(A), A, a), rtol=1e-12, err_msg=str(a))


@entrywise
def test_the_derivative_of_the_integral_is_the_function(f):
    """F' = f, symbolically, with no number anywhere (L-5 for arctan and ELU, whose F the source leaves out)."""
    difference = sp.diff(f.integral_formula(A), A).rewrite(sp.exp) - f.formula(A).rewrite(sp.exp)
    for a in POINTS:
        if f.name != "step":
            assert abs(complex(difference.subs(A, sp.Rational(float(a))).evalf(40))) < 1e-30, a
    assert not hasattr(f, "derived") or set(f.derived) <= {"f", "F"}


@entrywise
def test_conjugates_are_the_largest_y_a_less_the_integral(f):
    a = np.linspace(-3, 3, 7)
    y = f.value(a)
    np.testing.assert_allclose(f.dual_integral(y), y * a - f.integral(a), rtol=1e-12, atol=1e-15)
    grid = np.linspace(-30, 30, 2001)
    best = (y[:, None] * grid - f.integral(grid)).max(axis=1)
    assert (best <= f.dual_integral(y) + 1e-12).all()
    assert (f.dual_integral(y) <= best + 1e-3).all()
    symbol = sp.Symbol("y", real=True)
    for one in y[[1, 4, 5]]:
        expected = exactly(f.dual_formula(symbol), symbol, one)
        np.testing.assert_allclose(f.dual_integral(one), expected, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("name", INVERTIBLE)
def test_inverses(name):
    f = FUNCTIONS[name]
    a = np.array([[-2.0, 0.3, 1.0], [0.1, -0.7, 5.0]])
    y = f.value(a)
    np.testing.assert_allclose(f.value(f.inverse(y)), y, rtol=1e-13)
    if name != "softmax":
        np.testing.assert_allclose(f.inverse(y), a, rtol=1e-9)


@entrywise
def test_matching_losses_keep_their_digits_everywhere(f):
    """From a_hat within 1e-8 of a to the other end of the numbers, relative to the loss itself."""
    for a in (-30.0, -2.0, -0.4, 0.6, 3.0, 30.0):
        for d in (1e-8, -1e-5, 0.01, -0.19, 0.21, -0.99, 1.01, -2.0, 7.0, -35.0):
            exact = exact_loss(f, a + d, a)
            np.testing.assert_allclose(f.matching_loss(a + d, a), exact, rtol=1e-11, atol=1e-300, err_msg=f"{a} {d}")


@pytest.mark.parametrize("f", [transfer.Sigmoid(), transfer.Tanh(), transfer.ArcTan()], ids=lambda f: f.name)
def test_matching_losses_at_a_thousand(f):
    ends = np.array([-1000.0, 1000.0])
    for a in ends:
        exact = [exact_loss(f, a_hat, a) for a_hat in ends]
        np.testing.assert_allclose(f.matching_loss(ends, a), exact, rtol=1e-11, atol=1e-300)


def test_the_matching_loss_of_softmax_is_a_divergence():
    f = transfer.Softmax()
    rng = np.random.default_rng(0)
    a, d = rng.normal(size=(5, 4)) * 3, rng.normal(size=(5, 4))
    for scale in (1e-9, 1e-4, 0.1, 1.0, 30.0):
        a_hat = a + scale * d
        for n in range(5):
            with mpmath.workdps(60):
                row = [[mpmath.mpf(float(v)) for v in part[n]] for part in (a, a_hat)]
                p, q = ([mpmath.exp(v) / sum(map(mpmath.exp, r)) for v in r] for r in row)
                exact = float(sum(x * mpmath.log(x / y) for x, y in zip(p, q, strict=True)))
            np.testing.assert_allclose(f.matching_loss(a_hat[n], a[n]), exact, rtol=1e-6 if scale == 1e-9 else 1e-11)
    extreme = np.array([[1000.0, -1000.0, 0.0], [-1000.0, 1000.0, 0.0]])
    np.testing.assert_allclose(f.matching_loss(extreme, extreme[::-1]), [2000, 2000])
    np.testing.assert_array_equal(f.matching_loss(extreme + 5, extreme), 0)


@entrywise
def test_zero_exactly_where_the_outputs_are_equal(f):
    a = np.array([-1000.0, -2.0, 0.0, 0.5, 1000.0])
    np.testing.assert_array_equal(f.matching_loss(a, a), 0)
    np.testing.assert_array_equal(f.bregman(a, a), 0)
    np.testing.assert_allclose(f.fenchel_young(a[1:4], f.value(a[1:4])), 0, atol=1e-24)


def test_the_step():
    """f(0) = 1/2, f' = 0, and the three cases of its matching loss (LP-03)."""
    f = transfer.Step()
    a_hat = np.array([-2.0, 0.0, 3.0])
    np.testing.assert_array_equal(f.value([-1e-9, 0, 1e-9]), [0, 0.5, 1])
    np.testing.assert_array_equal(f.derivative(a_hat), 0)
    np.testing.assert_array_equal(f.matching_loss(a_hat, 4.0), [2, 0, 0])
    np.testing.assert_array_equal(f.matching_loss(a_hat, -4.0), [0, 0, 3])
    np.testing.assert_array_equal(f.matching_loss(a_hat, 0.0), [1, 0, 1.5])


@pytest.mark.parametrize("f", FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_jacobians_products_and_tensors_agree(f):
    a = np.array([[0.3, -1.2, 2.0], [0.7, 0.1, -40.0]])
    J = f.jacobian(a)
    assert J.shape == (2, 3, 3)
    g = np.cos(np.arange(6.0)).reshape(2, 3)
    np.testing.assert_allclose(f.vjp(g, a), np.einsum("ni,nij->nj", g, J), atol=1e-15)
    if f.name != "softmax":
        np.testing.assert_array_equal(J[1], np.diag(f.derivative(a)[1]))
        assert f.jacobian(0.3).shape == (1, 1)
    x = mg.Tensor(a, requires_grad=True)
    y = f(x)
    np.testing.assert_array_equal(y.data, f.value(a))
    y.backward(g)
    np.testing.assert_allclose(x.grad, f.vjp(g, a))


@pytest.mark.parametrize("f", FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_precision_and_shapes_are_kept(f):
    for shape in [(3,), (2, 3), (2, 1, 3)]:
        a = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        y = f.value(a)
        last = shape[:-1] if f.name == "softmax" else shape
        assert y.dtype == np.float32
        assert y.shape == f.vjp(a, a).shape == shape
        for loss in (f.matching_loss(a[..., ::-1], a), f.integral(a), f.fenchel_young(a[..., ::-1], y)):
            assert loss.dtype == np.float32
            assert loss.shape == last
        wide = f.matching_loss(a[..., ::-1].astype(float), a.astype(float))
        np.testing.assert_allclose(f.matching_loss(a[..., ::-1], a), wide, rtol=1e-4, atol=1e-6)


def test_targets_outside_the_range():
    """There is no conjugate there, and no loss with it; without, loss and gradient are defined (L-8)."""
    f = transfer.Sigmoid()
    assert f.fenchel_young(0.3, 1.3) == np.inf
    np.testing.assert_allclose(f.fenchel_young(0.3, 1.3, constant=False), np.log1p(np.exp(0.3)) - 1.3 * 0.3)
    np.testing.assert_allclose(f.residual(0.3, 1.3), 1 / (1 + np.exp(-0.3)) - 1.3)
    np.testing.assert_allclose(f.fenchel_young([40.0, -40.0], [1.0, 0.0]), np.exp(-40), rtol=1e-12)
    assert transfer.ReLU().fenchel_young(-1.0, -0.5) == np.inf
    assert transfer.Softmax().fenchel_young([0.0, 1.0], [0.7, 0.7]) == np.inf
    np.testing.assert_allclose(transfer.Softmax().fenchel_young([0.0, 1.0], [0.0, 1.0]), np.log1p(np.exp(-1)))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: transfer.Step().inverse(1.0), "no inverse"),
        (lambda: transfer.ReLU().inverse(1.0), "fenchel_young"),
        (lambda: transfer.ELU(0.0).inverse(1.0), "no inverse"),
        (lambda: transfer.Sigmoid().inverse([0.5, 1.5]), r"inverse of 1\.5, outside the range \(0, 1\)"),
        (lambda: transfer.Tanh().inverse(-2.0), "range"),
        (lambda: transfer.Softplus().inverse(-1.0), "range"),
        (lambda: transfer.Softmax().inverse([0.5, 0.6]), "simplex"),
        (lambda: transfer.Softmax().derivative([0.5, 0.6]), "jacobian"),
        (lambda: transfer.LeakyReLU(-1.0), "beta"),
        (lambda: transfer.ELU(-1.0), "beta"),
        (lambda: transfer.define("wave", sp.cos(A)), r"falls near a = .*L-14"),
        (lambda: transfer.define("down", -A), "L-14"),
        (lambda: transfer.define("pole", 1 / A), "finite"),
        (lambda: transfer.define("two", A + sp.Symbol("b")), "one symbol"),
    ],
)
def test_what_has_no_answer_is_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_which_transfer_function_a_layer_is():
    assert transfer.of(mg.nn.Tanh()).name == "tanh"
    assert transfer.of(mg.nn.LeakyReLU(0.3)).beta == 0.3
    assert transfer.of(operations.ELU(0.7)).beta == 0.7
    assert transfer.of(mg.nn.Identity()).name == transfer.of(mg.nn.LeakyReLU(1.0)).name == "linear"
    for name in ("Step", "ArcTan", "Softplus", "ELU", "Softmax", "Sigmoid", "ReLU"):
        layer = getattr(mg.nn, name)()
        assert type(transfer.of(layer)).__name__ == name
        assert layer(mg.Tensor([[0.5, -1.0]])).shape == (1, 2)
    with pytest.raises(TypeError, match=r"transfer\.define"):
        transfer.of(mg.nn.MaxPool2d(2))


@pytest.mark.parametrize(
    ("name", "f"),
    [("softsign", A / (1 + sp.Abs(A))), ("gudermann", 2 * sp.atan(sp.tanh(A / 2))), ("cube", A**3)],
)
def test_a_readers_own(name, f):
    """Three lines give a transfer function, with an F that SymPy finds or that is integrated by quadrature."""
    mine = transfer.define(name, f)
    a, a_hat = np.array([0.4, -1.0, 2.0]), np.array([0.5, 1.0, 2.5])
    number = sp.lambdify(A, f, "numpy")
    np.testing.assert_allclose(mine.value(a), number(a), rtol=1e-14)
    np.testing.assert_allclose(mine.inverse(mine.value(a)), a, rtol=1e-9)
    loss = mine.integral(a_hat) - mine.integral(a) - number(a) * (a_hat - a)
    np.testing.assert_allclose(mine.matching_loss(a_hat, a), loss, rtol=1e-7)
    np.testing.assert_allclose(mine.fenchel_young(a_hat, mine.value(a)), loss, rtol=1e-7)
    x = mg.Tensor(a, requires_grad=True)
    mine(x).sum().backward()
    h = 1e-6
    np.testing.assert_allclose(x.grad, (number(a + h) - number(a - h)) / (2 * h), rtol=1e-6)
    assert name not in mg.registry
    text = str(mg.tables.matching_losses([*transfer.TABLE, mine]))
    assert name in text


def test_defining_one_warns_of_nothing():
    """SymPy's F of softsign has logarithms of negative numbers: it is not tried aloud, and not taken."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        softsign = transfer.define("softsign", A / (1 + sp.Abs(A)))
        np.testing.assert_allclose(softsign.integral([-2.0, 2.0]), 2 - np.log(3), rtol=1e-12)
    assert not heard


def test_the_sigmoid_defined_again_is_the_sigmoid():
    mine, f = transfer.define("logistic", 1 / (1 + sp.exp(-A))), transfer.Sigmoid()
    a_hat, a = np.array([-2.0, 0.3, 1.0]), np.array([0.1, 0.2, -3.0])
    np.testing.assert_allclose(mine.matching_loss(a_hat, a), f.matching_loss(a_hat, a), rtol=1e-8)
