"""Every operation against PyTorch, and the delicate ones against mpmath with 40 digits.

PyTorch gets the same numbers, always in float64. `agree` compares the value, and the gradient of every input for
one random cotangent: a ones cotangent is blind to a wrong softmax or batch normalization. It does so in three forms:
float64 in C order, float64 read backwards through a stride of -2, and float32 in Fortran order.

Where minigrad differs on purpose, the case says so:

* at the kink of ReLU and leaky ReLU the slope is 1 (PyTorch: 0), and nothing here but
  `test_kinks_and_ties` stands on a kink or a tie;
* of equal entries the first takes the gradient (PyTorch's `amax`, `maximum` share it among them);
* `dropout` takes its mask, and p is the probability to keep;
* `SquaredError` sums over the entries of a sample, without 1/2, and averages over the samples only;
* `avg_pool2d` counts its padding, as PyTorch's `count_include_pad=True` does;
* `var` divides by the count less `ddof`, which is 0 (PyTorch: 1).
"""

import re
from pathlib import Path

import numpy as np
import pytest
from mpmath import mp, mpf

import minigrad as mg

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
F = torch.nn.functional

rng = np.random.default_rng(20190213)
normal, uniform = rng.normal, rng.uniform
START = rng.bit_generator.state


@pytest.fixture(autouse=True)
def _same_numbers():
    """Every test draws the same numbers, whichever test ran before it."""
    rng.bit_generator.state = START


# The comparison -----------------------------------------------------------------------------------------------


def backwards(a):
    """The same array in memory that is read backwards, every second entry."""
    if a.ndim == 0:
        return a
    memory = np.repeat(a[..., ::-1], 2, axis=-1)
    return memory[..., ::-2]


FORMS = {
    "float64": (np.float64, lambda a: a),
    "float64 strided": (np.float64, backwards),
    "float32 fortran": (np.float32, lambda a: np.array(a, order="F")),
}


@pytest.fixture(params=FORMS)
def form(request):
    return FORMS[request.param]


def close(got, wanted, what, tolerance, scale):
    """Every entry to within `tolerance` epsilons of its dtype, relative to the largest entry or to ``scale``."""
    got, wanted = np.asarray(got), np.asarray(wanted)
    eps = tolerance * np.finfo(got.dtype).eps
    np.testing.assert_allclose(got, wanted, rtol=eps, atol=eps * abs(wanted).max(initial=scale), err_msg=what)


def agree(form, mine, theirs, *inputs, tolerance=64, scale=0):
    """Compare value and gradients of two functions; inputs of whole numbers are constants, None stays None."""
    dtype, layout = form
    ours, others = [], []
    for x in inputs:
        if isinstance(x, np.ndarray) and x.dtype.kind == "f":
            x = layout(x.astype(dtype))
            leaf = mg.Tensor(x, requires_grad=True)
            leaf.data = x  # a tensor copies, and would lose the layout
            ours.append(leaf)
            others.append(torch.tensor(x.astype(float).copy(), requires_grad=True))
        else:
            ours.append(x)
            others.append(torch.tensor(x) if isinstance(x, np.ndarray) else x)
    before = [x.data.copy() for x in ours if isinstance(x, mg.Tensor)]
    y, wanted = mine(*ours), theirs(*others)
    assert y.shape == tuple(wanted.shape)
    assert y.dtype == dtype
    close(y.data, wanted.detach(), "value", tolerance, scale)
    g = layout(np.asarray(normal(size=y.shape)).astype(dtype))
    y.backward(g)
    wanted.backward(torch.tensor(g.astype(float).copy()))
    leaves = [(x, t) for x, t in zip(ours, others, strict=True) if isinstance(x, mg.Tensor)]
    for number, ((x, t), same) in enumerate(zip(leaves, before, strict=True)):
        assert x.grad.dtype == dtype
        assert x.grad.shape == x.shape
        np.testing.assert_array_equal(x.data, same, "the input was changed")
        close(x.grad, np.zeros(t.shape) if t.grad is None else t.grad, f"gradient {number}", tolerance, scale)


def table(cases):
    """Parametrize by a dict of cases, the keys being their names."""
    return pytest.mark.parametrize("case", cases.values(), ids=map(str, cases))


def pick(a):
    """A random one of several values."""
    return a[rng.integers(len(a))]


# Entry by entry -----------------------------------------------------------------------------------------------

away = normal(size=(3, 4)) + np.where(rng.random((3, 4)) < 0.5, -0.3, 0.3)  # no entry is on a kink at 0
positive = uniform(0.2, 3, size=(3, 4))

POINTWISE = {
    "relu": (mg.relu, torch.relu, away),
    "leaky_relu": (lambda a: mg.leaky_relu(a, 0.2), lambda a: F.leaky_relu(a, 0.2), away),
    "sigmoid": (mg.sigmoid, torch.sigmoid, 4 * away),
    "tanh": (mg.tanh, torch.tanh, away),
    "exp": (mg.exp, torch.exp, away),
    "log": (mg.log, torch.log, positive),
    "sqrt": (mg.sqrt, torch.sqrt, positive),
    "abs": (abs, torch.abs, away),
    "negative": (lambda a: -a, torch.neg, away),
    "0-d": (mg.tanh, torch.tanh, np.array(0.3)),
    "no entries": (mg.tanh, torch.tanh, np.zeros((0, 3))),
    "clip": (lambda a: mg.clip(a, -0.5, 0.5), lambda a: torch.clamp(a, -0.5, 0.5), away),
    "clip below": (lambda a: mg.clip(a, low=0.1), lambda a: torch.clamp(a, min=0.1), away),
    "clip above": (lambda a: mg.clip(a, high=0.1), lambda a: torch.clamp(a, max=0.1), away),
    "clip at a bound": (lambda a: mg.clip(a, -1.0, 1.0), lambda a: torch.clamp(a, -1, 1), np.array([-2.0, -1, 0, 1])),
}


@table(POINTWISE)
def test_pointwise(case, form):
    agree(form, *case)


@pytest.mark.parametrize("name", ["elu", "softplus", "arctan"])
def test_further_transfer_functions(name, form):
    if name not in mg.registry:
        pytest.skip(f"there is no {name}")
    theirs = {"elu": F.elu, "softplus": lambda a: torch.logaddexp(a, torch.zeros_like(a)), "arctan": torch.arctan}
    agree(form, getattr(mg, name), theirs[name], 3 * away)


def test_prelu(form):
    agree(form, mg.prelu, F.prelu, away, np.array([0.25]))


ARITHMETIC = {
    "add": (lambda x, y: x + y,) * 2,
    "subtract": (lambda x, y: x - y,) * 2,
    "multiply": (lambda x, y: x * y,) * 2,
    "divide": (lambda x, y: x / y,) * 2,
    "power": (lambda x, y: x**y,) * 2,
    "maximum": (mg.maximum, torch.maximum),
    "minimum": (mg.minimum, torch.minimum),
    "where": (lambda x, y: mg.where(x.data > 1, x, y), lambda x, y: torch.where(x > 1, x, y)),
    "used twice": (lambda x, y: x * y + x / y - x,) * 2,
}
SHAPES = [
    ((3, 4), (3, 4)), ((3, 4), (4,)), ((3, 1), (2, 1, 4)), ((), (3, 4)), ((2, 3), ()), ((1,), (1, 1)), ((0, 3), (3,)),
]  # fmt: skip


@table(ARITHMETIC)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_arithmetic_broadcasts(case, shapes, form):
    agree(form, *case, *(uniform(0.3, 2, size=shape) for shape in shapes))


@table({name: case for name, case in ARITHMETIC.items() if name not in ("divide", "maximum", "minimum")})
def test_arithmetic_on_one_tensor_twice(case, form):
    agree(form, lambda x: case[0](x, x), lambda x: case[1](x, x), positive)


whole = np.array([[-2.0, -1.5], [0.0, 3.0]])
NUMBERS = {
    "2 + x": (lambda x: 2 + x, away), "x + 2.5": (lambda x: x + 2.5, away),
    "2 - x": (lambda x: 2 - x, away), "x - 2.5": (lambda x: x - 2.5, away),
    "2 * x": (lambda x: 2 * x, away), "x * 2.5": (lambda x: x * 2.5, away),
    "2 / x": (lambda x: 2 / x, away), "x / 2.5": (lambda x: x / 2.5, away),
    "x ** 2": (lambda x: x**2, whole), "x ** 3.0": (lambda x: x**3.0, whole), "x ** 1": (lambda x: x**1, whole),
    "x ** -2": (lambda x: x**-2, away), "x ** -0.5": (lambda x: x**-0.5, positive),
    "2.0 ** x": (lambda x: 2.0**x, away), "3 ** x": (lambda x: 3**x, away), "x ** x": (lambda x: x**x, positive),
}  # fmt: skip


@table(NUMBERS)
def test_python_numbers_on_either_side_keep_the_dtype(case, form):
    """As in PyTorch, and in NumPy 2: a Python number has no dtype of its own."""
    mine, x = case
    agree(form, mine, mine, x)


def test_arrays_on_either_side():
    """An array leaves the operator to the tensor, instead of taking it entry by entry."""
    a, b = normal(size=(3, 3)), uniform(0.5, 2, size=(3, 3))
    for mine in (
        lambda a, x: a + x, lambda a, x: a - x, lambda a, x: a * x, lambda a, x: a / x, lambda a, x: abs(a) ** x,
        lambda a, x: a @ x, lambda a, x: x @ a, lambda a, x: x - a, lambda a, x: x / a, lambda a, x: x**a,
    ):  # fmt: skip
        theirs = lambda x, mine=mine: mine(torch.tensor(a), x)  # noqa: E731
        agree(FORMS["float64"], lambda x, mine=mine: mine(a, x), theirs, b)


@pytest.mark.parametrize("other", [np.ones((2, 3, 3, 3)), np.ones((2, 3, 3, 3), dtype=int)], ids=["float64", "int"])
def test_float32_meets_a_wider_array(other):
    """The result is wider, as in NumPy; the gradient comes back in the dtype of what it belongs to, as in PyTorch."""
    x, weight, scale = (
        mg.Tensor(normal(size=shape), requires_grad=True, dtype=np.float32) for shape in ((2, 1, 4, 4), (3, 1, 2, 2), 3)
    )
    y = mg.batch_norm(mg.conv2d(x, weight), scale, scale) * other
    y.backward(np.ones(y.shape))
    assert [leaf.grad.dtype for leaf in (x, weight, scale)] == [np.float32] * 3


def test_nan_and_infinite_scores():
    """A number that is none passes through; a score of -inf is a class left out, with probability and gradient 0."""
    x = np.array([[0.5, np.nan, -1.0], [2.0, 3.0, -np.inf]])
    pairs = [
        (mg.relu, torch.relu), (mg.leaky_relu, F.leaky_relu), (mg.sigmoid, torch.sigmoid), (mg.tanh, torch.tanh),
        (lambda x: mg.max(x, 1), lambda x: torch.amax(x, 1)), (lambda x: mg.clip(x, 0, 1), lambda x: x.clamp(0, 1)),
        (lambda x: mg.max_pool2d(x.reshape(1, 1, 2, 3), 2, 1), lambda x: F.max_pool2d(x.reshape(1, 1, 2, 3), 2, 1)),
        (lambda x: mg.softmax(x[1]), lambda x: torch.softmax(x[1], 0)),
        (lambda x: mg.log_softmax(x[1]), lambda x: torch.log_softmax(x[1], 0)),
        (lambda x: mg.logsumexp(x[1]), lambda x: torch.logsumexp(x[1], 0)),
    ]  # fmt: skip
    for mine, theirs in pairs:
        np.testing.assert_allclose(mine(mg.Tensor(x)).data, theirs(torch.tensor(x)), rtol=1e-15)
    masked = mg.Tensor(x[1:], requires_grad=True)
    mg.losses.CrossEntropy()(masked, np.array([1])).backward()
    np.testing.assert_allclose(masked.grad, [[1 / (1 + np.e), -1 / (1 + np.e), 0]], rtol=1e-15)


def test_dropout_multiplies_by_its_mask(form):
    mask = np.array([[1, 0, 1, 2], [0, 1, 1, 0], [1, 1, 0, 1]])
    agree(form, lambda x: mg.dropout(x, mask.astype(form[0])), lambda x: x * torch.tensor(mask), away)


def test_kinks_and_ties():
    """Where PyTorch has another convention: slope 1 at 0, and the first of equal entries takes the whole gradient."""

    def slopes(f, *arrays):
        leaves = [mg.Tensor(a, requires_grad=True) for a in arrays]
        f(*leaves).sum().backward()
        return [leaf.grad.tolist() for leaf in leaves]

    assert slopes(mg.relu, [-1.0, 0.0, -0.0, 1.0]) == [[0, 1, 1, 1]]
    assert slopes(lambda a: mg.relu(a, at_zero=0.25), [-1.0, 0.0, 1.0]) == [[0, 0.25, 1]]
    assert slopes(mg.leaky_relu, [-1.0, 0.0, 1.0]) == [[0.01, 1, 1]]
    assert slopes(abs, [-1.0, 0.0, 1.0]) == [[-1, 0, 1]]
    assert slopes(mg.maximum, [1.0, 2.0], [1.0, 3.0]) == [[1, 0], [0, 1]]
    assert slopes(mg.minimum, [1.0, 2.0], [1.0, 3.0]) == [[1, 1], [0, 0]]
    ties = np.array([[3.0, 5.0, 5.0], [5.0, 3.0, 3.0]])
    assert slopes(mg.max, ties) == [[[0, 1, 0], [0, 0, 0]]]
    assert slopes(mg.min, ties) == [[[1, 0, 0], [0, 0, 0]]]
    assert slopes(lambda x: mg.max(x, 0), ties) == [[[0, 1, 1], [1, 0, 0]]]
    assert slopes(lambda x: mg.max(x, -1), ties) == [[[0, 1, 0], [1, 0, 0]]]
    assert slopes(lambda x: mg.max(x, (1, 0)), ties) == [[[0, 1, 0], [0, 0, 0]]]
    pooled = slopes(lambda x: mg.max_pool2d(x.reshape(1, 1, 3, 3), 2, 1), np.ones((3, 3)))
    assert pooled == [[[1, 1, 0], [1, 1, 0], [0, 0, 0]]]
    padded = slopes(lambda x: mg.max_pool2d(x.reshape(1, 1, 2, 2), 2, 1, 1), np.zeros((2, 2)))
    assert padded == [[[4, 2], [2, 1]]]  # a zero of the padding never wins


# Matrix products ----------------------------------------------------------------------------------------------

MATMUL = [
    ((4,), (4,)), ((4,), (4, 3)), ((2, 4), (4,)), ((2, 4), (4, 3)), ((4,), (5, 4, 3)), ((5, 2, 4), (4,)),
    ((5, 2, 4), (4, 3)), ((2, 4), (5, 4, 3)), ((5, 2, 4), (5, 4, 3)), ((1, 2, 4), (5, 4, 3)), ((5, 1, 2, 4), (3, 4, 2)),
    ((5, 2, 4), (1, 4, 3)), ((3, 2, 2, 4), (4, 1)), ((1, 1), (1, 1)), ((2, 0), (0, 3)), ((0, 4), (4, 3)),
]  # fmt: skip


@pytest.mark.parametrize("shapes", MATMUL, ids=str)
def test_matmul(shapes, form):
    agree(form, mg.matmul, torch.matmul, *(normal(size=shape) for shape in shapes))


@pytest.mark.parametrize("leading", [(), (5,), (5, 2)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_affine(leading, bias, form):
    """`affine` is PyTorch's `linear`: y = x W^T + b."""
    agree(form, mg.affine, F.linear, normal(size=(*leading, 4)), normal(size=(3, 4)), normal(size=3) if bias else None)


def test_layers_in_one_piece(form):
    """`node` is an affine map with scaled rows, `point_layer` one whose last column is the bias."""
    x, weight, scale, bias = normal(size=(5, 4)), normal(size=(3, 4)), normal(size=3), normal(size=3)
    agree(form, mg.node, lambda x, w, c, b: F.linear(x, w) * c + b, x, weight, scale, bias)
    one = normal(size=(3, 5))
    agree(form, lambda x, w: mg.point_layer(x, w, "sigmoid"),
          lambda x, w: torch.sigmoid(F.linear(x, w[:, :-1], w[:, -1])), x, one)  # fmt: skip


# Axes ---------------------------------------------------------------------------------------------------------

AXES = [None, 0, 1, -1, (0,), (0, 2), (-1, 0), (2, 1, 0)]
REDUCTIONS = {
    "sum": (mg.sum, torch.sum),
    "mean": (mg.mean, torch.mean),
    "var": (mg.var, lambda x, **how: torch.var(x, correction=0, **how)),
    "var, ddof 1": (lambda x, **how: mg.var(x, ddof=1, **how), lambda x, **how: torch.var(x, correction=1, **how)),
    "max": (mg.max, torch.amax),
    "min": (mg.min, torch.amin),
}


@table(REDUCTIONS)
@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions(case, axis, keepdims, form):
    mine, theirs = case
    dim = (0, 1, 2) if axis is None else axis
    agree(form, lambda x: mine(x, axis=axis, keepdims=keepdims), lambda x: theirs(x, dim=dim, keepdim=keepdims),
          normal(size=(2, 4, 3)))  # fmt: skip


ALONG_AN_AXIS = {
    "softmax": (mg.softmax, torch.softmax),
    "log_softmax": (mg.log_softmax, torch.log_softmax),
    "logsumexp": (mg.logsumexp, torch.logsumexp),
}


@table(ALONG_AN_AXIS)
@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2])
@pytest.mark.parametrize("scale", [1, 500])
def test_softmax_and_its_kin(case, axis, scale, form):
    mine, theirs = case
    z = scale * normal(size=(2, 4, 3)) + scale
    agree(form, lambda z: mine(z, axis=axis), lambda z: theirs(z, axis), z, tolerance=16 * scale, scale=1)


@pytest.mark.parametrize("shape", [(1,), (5,), (5, 1)], ids=str)
@table(ALONG_AN_AXIS)
def test_softmax_of_few(case, shape, form):
    agree(form, case[0], lambda z: case[1](z, -1), normal(size=shape))


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 2), (2, 3, 4, 5), (2, 1, 3, 2), (9, 1), (6, 17, 12, 11)], ids=str)
@pytest.mark.parametrize("eps", [1e-5, 0.5])
def test_batch_norm(shape, eps, form):
    """PyTorch's batch normalization in training: biased variance of the batch."""
    agree(form, lambda x, w, b: mg.batch_norm(x, w, b, eps=eps),
          lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True, eps=eps),
          3 + 2 * normal(size=shape), normal(size=shape[1]), normal(size=shape[1]), tolerance=256)  # fmt: skip


# Images -------------------------------------------------------------------------------------------------------


def geometries(count, dilate):
    """Random windows that fit into random images: shape, kernel, stride, padding, dilation; numbers and pairs."""
    while count:
        shape = (pick((1, 2, 3)), pick((1, 2, 3)), *map(int, rng.integers(1, 9, 2)))
        kernel, stride = tuple(map(int, rng.integers(1, 4, 2))), tuple(map(int, rng.integers(1, 4, 2)))
        dilation = tuple(map(int, rng.integers(1, 4, 2))) if dilate else (1, 1)
        padding = tuple(int(rng.integers(0, 4 if dilate else k // 2 + 1)) for k in kernel)
        sizes = zip(shape[2:], kernel, padding, dilation, strict=True)
        if all(n + 2 * p >= d * (k - 1) + 1 for n, k, p, d in sizes):
            yield shape, kernel, *(pair[0] if pair[0] == pair[1] else pair for pair in (stride, padding, dilation))
            count -= 1


@pytest.mark.parametrize("geometry", list(geometries(60, dilate=True)), ids=str)
def test_conv2d(geometry, form):
    (N, C, H, W), kernel, *how = geometry
    filters = pick((1, 2, 4))
    bias = normal(size=filters) if pick((True, False)) else None
    agree(form, lambda x, w, b: mg.conv2d(x, w, b, *how), lambda x, w, b: F.conv2d(x, w, b, *how),
          normal(size=(N, C, H, W)), normal(size=(filters, C, *kernel)), bias)  # fmt: skip


LARGE = [
    ((5, 9, 11, 17), (17, 3, 3), (1, 1)), ((3, 17, 9, 10), (8, 2, 3), (2, 1)), ((2, 3, 33, 20), (5, 5, 4), (1, 3)),
    ((7, 8, 4, 4), (9, 1, 1), (1, 1)), ((2, 1, 40, 41), (16, 7, 7), (2, 2)),
]  # fmt: skip


@pytest.mark.parametrize("large", LARGE, ids=str)
def test_large_conv2d(large, form):
    """Sizes beyond those at which a compiled kernel changes its way: vectors, tiles, blocks and their remainders."""
    shape, (filters, *kernel), stride = large
    x, weight, bias = normal(size=shape), normal(size=(filters, shape[1], *kernel)), normal(size=filters)
    agree(form, lambda x, w, b: mg.conv2d(x, w, b, stride, 1), lambda x, w, b: F.conv2d(x, w, b, stride, 1),
          x, weight, bias, tolerance=256)  # fmt: skip


@pytest.mark.parametrize("geometry", list(geometries(40, dilate=False)), ids=str)
def test_pooling(geometry, form):
    shape, kernel, stride, padding, _ = geometry
    x = rng.permutation(np.prod(shape)).reshape(shape) / 7.0 - 5  # no ties
    how = kernel, stride, padding
    agree(form, lambda x: mg.max_pool2d(x, *how), lambda x: F.max_pool2d(x, *how), x)
    agree(form, lambda x: mg.avg_pool2d(x, *how), lambda x: F.avg_pool2d(x, *how, count_include_pad=True), x)
    agree(form, lambda x: mg.relu_max_pool2d(x, *how), lambda x: F.max_pool2d(torch.relu(x), *how), x + 0.01)


def test_large_pooling(form):
    """Windows of more than 256 taps, whose winners do not fit in a byte; more positions than a tile has."""
    x = normal(size=(3, 5, 37, 41))
    for how in ((17, 3, 8), ((16, 17), 16, 0), (3, 2, 1), (2, 3, 0)):
        agree(form, lambda x, how=how: mg.max_pool2d(x, *how), lambda x, how=how: F.max_pool2d(x, *how), x)
        agree(form, lambda x, how=how: mg.avg_pool2d(x, *how), lambda x, how=how: F.avg_pool2d(x, *how), x)


def test_stride_of_a_pool_is_its_window_by_default(form):
    x = normal(size=(2, 3, 7, 6))
    agree(form, lambda x: mg.max_pool2d(x, (3, 2)), lambda x: F.max_pool2d(x, (3, 2)), x)
    agree(form, lambda x: mg.avg_pool2d(x, 2), lambda x: F.avg_pool2d(x, 2), x)


# Moving entries about -----------------------------------------------------------------------------------------

_ = slice(None)
mask = np.array([[True, False, True, True], [False] * 4, [True, False, False, True]])
KEYS = [
    1, -1, np.int64(2), _, slice(2, None), slice(None, None, 2), slice(None, None, -1), slice(-1, 0, -2), slice(5, 9),
    None, Ellipsis, (), (1, 2), (1, -2, 3), (_, 1), (_, _, slice(None, None, 3)), (Ellipsis, 1), (None, 1, Ellipsis),
    (Ellipsis, None), (1, None, slice(1, 3)), (0, Ellipsis, 0), [2, 0, 2], np.array([2, 0, 2, 2]), [],
    np.array([[0, 2], [2, -1]]), (np.array([0, 2, 0]), np.array([1, 3, 1])), (_, np.array([1, 1])),
    (np.array([[0], [2]]), np.array([1, 1, 3])), (np.array([0, 2, 0]), _, np.array([1, 4, 1])),
    (1, _, np.array([4, 4])), (Ellipsis, np.array([0, 0])), (slice(None, None, -2), np.array([3, 0]), None),
    mask, (mask, slice(1, 3)), (_, mask[0]), (mask, 2), (_, np.array([True] * 3 + [False]), 1), np.array(True),
    np.zeros((3, 4, 5), dtype=bool),
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=lambda key: str(key).replace("\n", ""))
def test_indexing(key, form):
    """Every key of NumPy; PyTorch, which has no negative steps, takes the entries from a flat array."""
    at = np.arange(60).reshape(3, 4, 5)[key]
    agree(form, lambda x: x[key], lambda x: x.flatten()[torch.tensor(at.ravel())].reshape(at.shape),
          normal(size=(3, 4, 5)))  # fmt: skip


MOVES = {
    "reshape": (lambda x: x.reshape(4, -1), lambda x: x.reshape(4, -1)),
    "reshape to a tuple": (lambda x: x.reshape((6, 4)), lambda x: x.reshape(6, 4)),
    "flat": (lambda x: x.reshape(-1), lambda x: x.reshape(-1)),
    "T": (lambda x: x.T, lambda x: x.permute(2, 1, 0)),
    "transpose": (lambda x: x.transpose(1, 2, 0), lambda x: x.permute(1, 2, 0)),
    "transpose, negative": (lambda x: x.transpose((-1, 0, -2)), lambda x: x.permute(2, 0, 1)),
    "broadcast_to": (lambda x: mg.broadcast_to(x, (5, 2, 3, 4)), lambda x: x.expand(5, 2, 3, 4)),
    "broadcast from 1": (lambda x: mg.broadcast_to(x[:, :1], (2, 6, 4)), lambda x: x[:, :1].expand(2, 6, 4)),
    "concatenate": (lambda x: mg.concatenate([x, x[:1], 2 * x]), lambda x: torch.cat([x, x[:1], 2 * x])),
    "concatenate, axis 1": (lambda x: mg.concatenate([x[:, :1], x], 1), lambda x: torch.cat([x[:, :1], x], 1)),
    "concatenate, last axis": (lambda x: mg.concatenate([x, x], axis=-1), lambda x: torch.cat([x, x], -1)),
    "concatenate one": (lambda x: mg.concatenate([x], axis=1), lambda x: torch.cat([x], 1)),
    "rows": (lambda x: sum(row * (n + 1) for n, row in enumerate(x)), lambda x: x[0] + 2 * x[1]),
}


@table(MOVES)
def test_moving_entries(case, form):
    agree(form, *case, normal(size=(2, 3, 4)))


def test_a_whole_network(form):
    """The chain rule over shared weights, a diamond, a convolution, a pool, a batch normalization and a loss."""
    labels = np.array([2, 0])

    def net(lib, loss):
        def run(x, kernel, scale, shift, weight, bias):
            first = lib["conv"](x, kernel)
            normed = lib["norm"](first, scale, shift)
            again = lib["conv"](lib["tanh"](normed) * lib["sigmoid"](first) + normed, kernel)
            return loss(lib["linear"](lib["pool"](again).reshape(2, 9), weight, bias), labels)

        return run

    mine = {"conv": lambda x, k: mg.conv2d(x, k, padding=1), "norm": mg.batch_norm, "tanh": mg.tanh,
            "sigmoid": mg.sigmoid, "pool": lambda x: mg.max_pool2d(x, 3, 2, 1), "linear": mg.affine}  # fmt: skip
    theirs = {"conv": lambda x, k: F.conv2d(x, k, padding=1), "tanh": torch.tanh, "sigmoid": torch.sigmoid,
              "norm": lambda x, w, b: F.batch_norm(x, None, None, w, b, True), "linear": F.linear,
              "pool": lambda x: F.max_pool2d(x, 3, 2, 1)}  # fmt: skip
    agree(form, net(mine, mg.losses.CrossEntropy()), net(theirs, lambda z, y: F.cross_entropy(z, torch.tensor(y))),
          normal(size=(2, 1, 6, 6)), normal(size=(1, 1, 3, 3)), *normal(size=(2, 1)), normal(size=(3, 9)),
          normal(size=3), tolerance=1024)  # fmt: skip


# Losses -------------------------------------------------------------------------------------------------------

REDUCE = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
SCORES = {
    "moderate": normal(size=(5, 4)),
    "shifted": normal(size=(5, 4)) + 512,
    "certain": np.array([[1000.0, -1000.0, 0.0], [-1000.0, 1000.0, 999.0], [1000.0, 1000.0, -1000.0]]),
    "two classes": normal(size=(3, 2)),
    "one sample": normal(size=(1, 7)),
}


@REDUCE
@table(SCORES)
def test_cross_entropy(case, reduction, form):
    z = case
    N, K = z.shape
    labels, soft = rng.integers(0, K, N), rng.dirichlet(np.ones(K), N)
    soft[0] = np.arange(K) == K - 1  # one distribution is certain
    mine = mg.losses.CrossEntropy(reduction)
    agree(form, mine, lambda z, y: F.cross_entropy(z, y, reduction=reduction), z, labels, tolerance=1024)
    agree(form, lambda z: mine(z, soft.astype(form[0])),
          lambda z: F.cross_entropy(z, torch.tensor(soft.astype(form[0]).astype(float)), reduction=reduction),
          z, tolerance=1024)  # fmt: skip


@REDUCE
@pytest.mark.parametrize("shape", [(5,), (5, 3), (4, 2, 3)], ids=str)
def test_squared_error(shape, reduction, form):
    """The sum over a sample's entries, no 1/2: PyTorch's `mse_loss` would also average over the entries."""
    reduce = {"mean": torch.mean, "sum": torch.sum, "none": lambda losses: losses}[reduction]
    target = normal(size=shape).astype(form[0])

    def theirs(x):
        return reduce(F.mse_loss(x, torch.tensor(target.astype(float)), reduction="none").reshape(len(x), -1).sum(1))

    agree(form, lambda x: mg.losses.SquaredError(reduction)(x, target), theirs, normal(size=shape))


@REDUCE
def test_two_class_cross_entropy(reduction, form):
    """PyTorch bounds the logarithm at -100; the scores here stay away from 0 and 1."""
    labels = np.array([0, 1, 1, 0, 1])
    agree(form, mg.losses.TwoClassCrossEntropy(reduction),
          lambda p, y: F.binary_cross_entropy(p, y.double(), reduction=reduction),
          uniform(0.01, 0.99, 5), labels)  # fmt: skip


# 40 digits: how much is right in the tails ---------------------------------------------------------------------

HARD = [
    [0.3, -1.2, 2.0, 0.1], [0.0, 40.0, -40.0], [700.0, -700.0, 0.0], [1000.0, 999.0, 998.5], [1e-8, -1e-8, 0.0],
    [-1000.0, -1030.0, -999.75], [5.0, 5.0], [3.0],
]  # fmt: skip


def exact(f, *arguments):
    """f in mpmath with 40 digits, rounded once at the end."""
    with mp.workdps(40):
        return np.array([float(value) for value in f(*([mpf(float(x)) for x in a] for a in arguments))])


def correct(got, wanted, epsilons, what):
    """Every entry has small *relative* error: `epsilons` of float64, or is so small that it is subnormal."""
    tiny = np.finfo(float).tiny
    np.testing.assert_allclose(got, wanted, rtol=epsilons * np.finfo(float).eps, atol=tiny, err_msg=what)


def exponentials(z):
    top = max(z)
    return [mp.exp(x - top) for x in z], top


def softmax(z):
    e, _ = exponentials(z)
    return [x / mp.fsum(e) for x in e]


def logsumexp(z):
    e, top = exponentials(z)
    return [top + mp.log(mp.fsum(e))]


def log_softmax(z):
    return [x - logsumexp(z)[0] for x in z]


def conditioning(z):
    """exp(z_i - max) amplifies the rounding of its argument by the size of it; what underflows is not counted."""
    return 8 + min(np.ptp(z), 750)


@pytest.mark.parametrize("z", HARD, ids=str)
def test_softmax_to_40_digits(z):
    """Values to full relative accuracy, also probabilities of 1e-300; gradients relative to their largest term."""
    z = np.array(z)
    g = normal(size=z.size)
    allowed = conditioning(z)
    p, y = exact(softmax, z), exact(log_softmax, z)
    cases = {
        "softmax": (p, lambda z, g: [a * (b - mp.fdot(g, softmax(z))) for a, b in zip(softmax(z), g, strict=True)]),
        "log_softmax": (y, lambda z, g: [b - a * mp.fsum(g) for a, b in zip(softmax(z), g, strict=True)]),
    }
    for name, (value, product) in cases.items():
        leaf = mg.Tensor(z, requires_grad=True)
        out = getattr(mg, name)(leaf)
        out.backward(g)
        terms = p if name == "softmax" else 1
        scale = abs(g).sum() * terms
        np.testing.assert_array_less(abs(leaf.grad - exact(product, z, g)), allowed * 1e-15 * scale + 1e-307, name)
        if name == "softmax":
            correct(out.data, value, allowed, name)
        else:
            np.testing.assert_allclose(out.data, value, rtol=1e-15, atol=4e-16, err_msg=name)
    leaf = mg.Tensor(z, requires_grad=True)
    out = mg.logsumexp(leaf)
    out.backward()
    np.testing.assert_allclose(out.data, exact(logsumexp, z)[0], rtol=4e-16, atol=4e-16)
    correct(leaf.grad, p, allowed + abs(z).max(), "logsumexp")


@pytest.mark.parametrize("z", HARD, ids=str)
def test_cross_entropy_to_40_digits(z):
    """However sure the network is: the loss of 1e-18, and the gradient -1e-18 of the class that is right."""
    z = np.array(z)
    for label in range(z.size):
        leaf = mg.Tensor(z[None], requires_grad=True)
        loss = mg.losses.CrossEntropy()(leaf, np.array([label]))
        loss.backward()

        def value(z, label=label):
            return [mp.log1p(mp.fsum(mp.exp(x - z[label]) for n, x in enumerate(z) if n != label))]

        def slope(z, label=label):
            p = softmax(z)
            return [-mp.fsum(p[:n] + p[n + 1 :]) if n == label else p[n] for n in range(len(p))]

        correct(loss.data, exact(value, z)[0], conditioning(z), f"loss of class {label}")
        correct(leaf.grad[0], exact(slope, z), 2 * conditioning(z), f"gradient of class {label}")


TAILS = np.array([-740.0, -700.0, -300.5, -40.0, -20.0, -1.0, -1e-9, 0.0, 1e-300, 0.7, 5.0, 18.5, 36.0, 300.5, 700.0])
POINT = {
    "sigmoid": (lambda a: 1 / (1 + mp.exp(-a)), lambda a: 1 / (2 + mp.exp(a) + mp.exp(-a))),
    "tanh": (mp.tanh, lambda a: mp.sech(a) ** 2),
    "exp": (mp.exp, mp.exp),
}


@pytest.mark.parametrize("name", POINT)
def test_point_functions_to_40_digits(name):
    """The slope is right where the function is flat: sigmoid'(300) is 1e-130, and not 0."""
    value, slope = POINT[name]
    leaf = mg.Tensor(TAILS, requires_grad=True)
    y = getattr(mg, name)(leaf)
    y.backward(np.ones(TAILS.shape))
    correct(y.data, exact(lambda a: map(value, a), TAILS), 4, "value")
    correct(leaf.grad, exact(lambda a: map(slope, a), TAILS), 8, "slope")


def test_every_operation_that_pytorch_has_is_compared():
    """An operation of a name that PyTorch knows, too, belongs into a table of this file."""
    words = set(re.findall(r"\w+", Path(__file__).read_text(encoding="utf-8")))
    assert {name for name in mg.registry if hasattr(F, name) or hasattr(torch, name)} <= words
