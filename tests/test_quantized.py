"""The network of the incorrect-category patent: scaled nodes, trained slopes, ternary weights, quantized outputs."""

import itertools
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, verify
from minigrad.formula import Formula
from minigrad.losses import CrossEntropy, SquaredError
from minigrad.operation import Elementwise, Source, registry
from minigrad.optim import SGD

# The audit of estimators ------------------------------------------------------------------------------------

ESTIMATORS = ("ternarize", "quantize")


def test_these_are_the_estimators() -> None:
    assert {name for name, cls in registry.items() if cls.estimator} == set(ESTIMATORS)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_estimator_is_excluded_by_name_and_the_report_says_why(name: str) -> None:
    report = verify.audit([name])
    assert report.passed, str(report)
    row = report.as_dict()["operations"][name]
    for check in ("derivative", "printed", "differences", "product"):
        assert row["errors"][check] is None
    assert "estimator" in row["independent"]
    reason = registry[name].estimator
    assert "biased" in reason
    assert f"{name}: excluded from derivative, printed, differences, product: {reason}" in str(report)
    assert row["estimator"] == reason
    assert "excluded" not in str(verify.audit(["relu"], with_mutants=False))


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("part", ["vjp", "jacobian", "forward"])
def test_a_wrong_estimator_is_found(name: str, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = getattr(registry[name], part)
    monkeypatch.setattr(registry[name], part, lambda self, *arrays: 1.001 * right(self, *arrays))
    complaints = verify.audit([name], with_mutants=False).rows[0].complaints
    assert any(("value" if part == "forward" else "estimator") in complaint for complaint in complaints)


def rounding() -> dict[str, Any]:
    """The parts of y = floor(x), with the slope of the identity."""
    from minigrad.formula import sp

    return {
        "__doc__": "y = floor(x).",
        "signature": "x -> y",
        "source": Source("a test"),
        "estimator": "straight-through, for a test",
        "formula": lambda self, x: Formula(sp.floor(x)),
        "surrogate": lambda self, x: Formula(x),
        "forward": lambda self, x: np.floor(x),
        "df": lambda self, x, y: np.ones_like(y),
        "samples": classmethod(lambda cls, rng: iter([(cls(), np.array([[-0.6, 1.5, 2.4], [0.3, 0.7, -3.5]]))])),
    }


@pytest.fixture
def clean_registry() -> Any:
    before = dict(registry)
    yield
    registry.clear()
    registry.update(before)


@pytest.mark.usefixtures("clean_registry")
def test_an_estimator_says_what_it_estimates() -> None:
    parts = rounding()
    type("Floor", (Elementwise,), parts)
    assert verify.audit(["floor"]).passed
    del parts["surrogate"]
    with pytest.raises(TypeError, match="Floor lacks surrogate"):
        type("Floor", (Elementwise,), parts)


@pytest.mark.usefixtures("clean_registry")
def test_a_derivative_cannot_hide_as_an_estimator() -> None:
    from minigrad.formula import sp

    honest = {"formula": lambda self, x: Formula(sp.sin(x)), "surrogate": lambda self, x: Formula(sp.sin(x)),
              "forward": lambda self, x: np.sin(x), "df": lambda self, x, y: np.cos(x)}  # fmt: skip
    type("Sine", (Elementwise,), {**rounding(), **honest})
    assert "is the derivative at every sample" in str(verify.audit(["sine"]))


def test_the_estimator_is_not_the_derivative() -> None:
    """Differences say 0, the estimator 1: that is the bias, and `verify.gradient` does not hide it."""
    (found,) = verify.gradient(lambda x: mg.quantize(x, 2), np.array([0.1, 0.45]))
    assert not found
    np.testing.assert_allclose(found.wanted, np.zeros((2, 2)), atol=1e-12)
    np.testing.assert_array_equal(found.got, np.eye(2))


def test_both_methods_of_backward_use_the_estimator(rng: np.random.Generator) -> None:
    w = mg.Tensor(rng.normal(size=(3, 4)), requires_grad=True)
    x = rng.normal(size=(2, 4))
    y = (mg.quantize(mg.Tensor(x) @ mg.ternarize(w, 0.5).T, 3, -1.0, 1.0) ** 2).sum()
    y.backward()
    by_products = w.grad
    y.backward(method="jacobian")
    np.testing.assert_allclose(w.grad, by_products, rtol=1e-12)
    assert np.abs(by_products).max() > 0.1


# Ternary weights --------------------------------------------------------------------------------------------


def test_ternary_weights_by_hand() -> None:
    w = np.array([[0.1, -3.0, 0.2, 1.0], [2.0, 0.3, -0.4, 0.0]])
    layer = mg.ternarize(w, 0.75).data
    np.testing.assert_array_equal(layer, [[0, -2.5, 0, 0], [2.5, 0, 0, 0]])
    each = mg.ternarize(w, 0.5, "filter").data
    np.testing.assert_allclose(each, [[0, -2, 0, 2], [1.2, 0, -1.2, 0]])


@pytest.mark.parametrize(
    ("sparsity", "size", "nonzero"),
    [(0.75, 8, 2), (0.75, 9, 2), (0.8, 10, 2), (0.8, 11, 2), (0.55, 100, 45), (0, 5, 5)],
)
def test_the_sparsity_is_a_floor(sparsity: float, size: int, nonzero: int, rng: np.random.Generator) -> None:
    w = rng.normal(size=(3, size))
    y = mg.ternarize(w, sparsity, "filter").data
    assert np.count_nonzero(y, axis=1).tolist() == [nonzero] * 3
    assert np.mean(y == 0) >= sparsity
    for row in y:
        assert len(np.unique(np.abs(row[row != 0]))) == 1


def test_it_is_the_closest_ternary_array_with_so_many_zeros(rng: np.random.Generator) -> None:
    """No support of that size, signs and alpha are closer in least squares: all are tried."""
    w = rng.normal(size=6)
    y = mg.ternarize(w, 0.5).data
    best = np.inf
    for signs in itertools.product((-1, 0, 1), repeat=6):
        t = np.array(signs)
        if np.count_nonzero(t) == 3:
            alpha = (w @ t) / (t @ t)
            best = min(best, float(((w - alpha * t) ** 2).sum()))
    assert ((w - y) ** 2).sum() == pytest.approx(best, rel=1e-12)


def test_ternary_of_ternary_is_itself(rng: np.random.Generator) -> None:
    y = mg.ternarize(rng.normal(size=(4, 16))).data
    np.testing.assert_allclose(mg.ternarize(y).data, y, rtol=1e-14)


def small(rng: np.random.Generator) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 3, kernel_size=2, rng=rng), nn.ReLU(), nn.Flatten(),
        nn.Linear(27, 4, rng=rng), nn.Node(4, 2, rng=rng),
    )


@pytest.mark.parametrize("per", ["layer", "filter"])
def test_one_function_makes_layers_of_every_kind_ternary(per: str, rng: np.random.Generator) -> None:
    model = small(rng)
    state, x = model.state_dict(), rng.normal(size=(5, 1, 4, 4))
    before = model(x).data
    assert nn.ternary(model, 0.5, per) is model
    assert model.state_dict().keys() == state.keys()
    layers = [layer for layer in model if isinstance(layer, nn.Weighted)]
    assert len(layers) == 3
    for layer in layers:
        assert np.mean(layer.effective_weight.data == 0) >= 0.5
    assert np.abs(model(x).data - before).max() > 0.01
    rounded = small(rng)
    rounded.load_state_dict(model.state_dict())
    for mine, theirs in zip(layers, (layer for layer in rounded if isinstance(layer, nn.Weighted)), strict=True):
        theirs.weight.data = mine.effective_weight.data
    np.testing.assert_array_equal(rounded(x).data, model(x).data)
    assert f"quantizer=Ternarize(sparsity=0.5, per='{per}')" in repr(model)
    for layer in layers:
        layer.quantizer = None
    np.testing.assert_array_equal(model(x).data, before)


def test_the_float_weight_gets_the_gradient_of_the_ternary_one(rng: np.random.Generator) -> None:
    layer, x = nn.ternary(nn.Linear(8, 3, rng=rng), 0.75), rng.normal(size=(5, 8))
    (layer(x) ** 2).sum().backward()
    float_layer = nn.Linear(8, 3)
    float_layer.weight.data = layer.effective_weight.data
    (float_layer(x) ** 2).sum().backward()
    np.testing.assert_allclose(layer.weight.grad, float_layer.weight.grad, rtol=1e-12)
    assert np.any(layer.weight.grad[layer.effective_weight.data == 0] != 0)  # a weight can come back


def test_single_logits_of_a_ternary_network(rng: np.random.Generator) -> None:
    model = nn.ternary(nn.Sequential(nn.Linear(6, 5, rng=rng), nn.ReLU(), nn.Linear(5, 4, rng=rng)), 0.5)
    x = rng.normal(size=(3, 6))
    np.testing.assert_allclose(model.logits(x, classes=[2, 0]).data, model(x).data[:, [2, 0]], rtol=1e-12)


def test_too_small_a_filter_is_refused_and_nothing_is_changed(rng: np.random.Generator) -> None:
    model = nn.Sequential(nn.Linear(20, 4, rng=rng), nn.Linear(4, 3, rng=rng))
    with pytest.raises(ValueError, match=r"of the 4 weights of a filter of \(3, 4\) none would be left.*per='layer'"):
        nn.ternary(model, 0.8, "filter")
    assert all(layer.quantizer is None for layer in model)
    with pytest.raises(ValueError, match="choose 'layer' or 'filter'"):
        nn.ternary(model, 0.8, "row")


# Quantized outputs ------------------------------------------------------------------------------------------


def test_levels_of_quantized_outputs(rng: np.random.Generator) -> None:
    x = rng.uniform(-2, 3, size=10_000)
    y = mg.quantize(x, 3, -1.0, 2.5).data
    np.testing.assert_allclose(np.unique(y), -1 + 0.5 * np.arange(8))
    inside = (x >= -1) & (x <= 2.5)
    assert np.abs(y - x)[inside].max() <= 0.25 + 1e-12
    assert set(y[x < -1]) == {-1.0}
    assert mg.quantize([0.0, 0.5, 1.5, 2.5], 2, 0.0, 3.0).data.tolist() == [0, 1, 2, 3]  # half-way goes up


def test_the_gradient_stops_outside_the_bounds() -> None:
    x = mg.Tensor([-0.1, 0.0, 0.4, 1.0, 1.1], requires_grad=True)
    mg.quantize(x, 2).backward(np.arange(1.0, 6.0))
    assert x.grad.tolist() == [0, 2, 3, 4, 0]


def test_bounds_are_learned_in_training_and_kept_at_test(rng: np.random.Generator) -> None:
    layer = nn.Quantize(2, low=0.0, momentum=0.5)
    with pytest.raises(ValueError, match="it has seen no outputs yet: give low and high, or train first"):
        layer.eval()(np.ones(3))
    layer.train()
    layer(np.array([0.1, 4.0]))
    assert layer.bounds.tolist() == [0, 4]
    layer(np.array([0.1, 2.0]))
    assert layer.bounds.tolist() == [0, 3]
    layer.eval()
    assert layer(np.array([-5.0, 0.9, 1.6, 9.0])).data.tolist() == [0, 1, 2, 3]
    assert layer.bounds.tolist() == [0, 3]
    other = nn.Quantize(2, low=0.0).eval()
    other.load_state_dict(layer.state_dict())
    assert other(np.array([1.6])).data.tolist() == [2]
    assert np.isnan(layer.reset(0).bounds).tolist() == [False, True]
    assert repr(layer) == "Quantize(2, low=0)"


def test_bounds_that_are_given_are_not_moved() -> None:
    layer = nn.Quantize(1, low=-1.0, high=1.0)
    assert layer(np.array([-7.0, 0.2, 7.0])).data.tolist() == [-1, 1, 1]
    assert layer.bounds.tolist() == [-1, 1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"bits": 0}, "bits"), ({"bits": 2.5}, "bits"), ({"bits": 4, "low": 2.0, "high": 1.0}, "low is not below high"),
     ({"bits": 4, "momentum": 0.0}, "momentum")],
)  # fmt: skip
def test_wrong_quantizers_are_refused(arguments: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        nn.Quantize(**arguments)


def test_single_precision_stays(rng: np.random.Generator) -> None:
    model = nn.Sequential(
        nn.Linear(8, 3, rng=rng), nn.PReLU(), nn.Quantize(4), nn.Node(3, 4, rng=rng)
    ).astype(np.float32)  # fmt: skip
    y = nn.ternary(model, 0.5)(rng.normal(size=(5, 8)).astype(np.float32))
    assert y.dtype == np.float32
    y.sum().backward()
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {np.dtype(np.float32)}


# The node and the trained slope -----------------------------------------------------------------------------


def test_a_node_is_its_formula(rng: np.random.Generator) -> None:
    node = nn.Node(4, 3, rng=rng)
    assert node.scale.data.tolist() == [1, 1, 1]  # the default of IP-01
    assert [name for name, _ in node.named_parameters()] == ["scale", "weight", "bias"]
    x = rng.normal(size=(2, 5, 4))
    node.scale.data, node.bias.data = rng.normal(size=3), rng.normal(size=3)
    expected = node.scale.data * (x @ node.weight.data.T) + node.bias.data
    np.testing.assert_allclose(node(x).data, expected)
    affine = nn.Linear(4, 3)
    affine.weight.data = node.scale.data[:, None] * node.weight.data
    affine.bias.data = node.bias.data
    np.testing.assert_allclose(affine(x).data, expected)
    with pytest.raises(ValueError, match="I = 5"):
        node(np.ones((2, 5)))
    node.reset(1)
    assert node.scale.data.tolist() == [1, 1, 1]
    assert repr(node) == "Node(4, 3)"


def test_gradients_of_a_network_of_nodes(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(6, 4)), np.array([0, 1, 2, 0, 1, 2])

    def risk(weight: Any, scale: Any, bias: Any, slope: Any) -> Any:
        return CrossEntropy()(mg.prelu(mg.node(x, weight, scale, bias), slope), y)

    arrays = rng.normal(size=(3, 4)), rng.normal(size=3), rng.normal(size=3), np.full(3, 0.25)
    results = verify.gradient(risk, *arrays)
    assert len(results) == 4
    assert all(results), results


def test_one_slope_for_all_or_one_for_each_channel(rng: np.random.Generator) -> None:
    images = rng.normal(size=(2, 3, 4, 5))
    one, each = nn.PReLU(), nn.PReLU(3, init=0.1)
    np.testing.assert_array_equal(one(images).data, mg.leaky_relu(images, 0.25).data)
    each.slope.data = np.array([0.1, 0.5, -1.0])
    y = each(images).data
    for channel, slope in enumerate(each.slope.data):
        a = images[:, channel]
        np.testing.assert_array_equal(y[:, channel], np.where(a >= 0, a, slope * a))
    each(images).sum().backward()
    np.testing.assert_allclose(each.slope.grad, np.minimum(images, 0).sum(axis=(0, 2, 3)))
    one(images).sum().backward()
    np.testing.assert_allclose(one.slope.grad, [np.minimum(images, 0).sum()])
    vectors = rng.normal(size=(4, 3))
    np.testing.assert_array_equal(each(vectors).data, np.where(vectors >= 0, vectors, each.slope.data * vectors))
    with pytest.raises(ValueError, match=r"expected \(N, 3, ...\), got \(2, 5\)"):
        each(np.ones((2, 5)))
    assert repr(each) == "PReLU(3, init=0.1)"


def test_a_slope_is_learned(rng: np.random.Generator) -> None:
    """From data of a leaky ReLU with slope 0.6."""
    a = rng.normal(size=(200, 1))
    model = nn.PReLU()
    optimizer = SGD(model.parameters(), lr=0.5)
    for _ in range(60):
        SquaredError()(model(a), np.where(a >= 0, a, 0.6 * a)).backward()
        optimizer.step()
    assert model.slope.data == pytest.approx(0.6, abs=1e-6)


def test_initialization_in_minus_one_to_one() -> None:
    """IP-07."""
    for layer in (nn.Node(50, 40, init="uniform", seed=0), nn.Conv2d(20, 10, 3, init="uniform", seed=0)):
        w = layer.weight.data
        assert -1 <= w.min() < -0.98
        assert 0.98 < w.max() <= 1
        assert abs(w.mean()) < 0.05
        assert w.std() == pytest.approx(1 / np.sqrt(3), rel=0.03)


# The experiment ---------------------------------------------------------------------------------------------


def test_the_ternary_network_begins_as_the_float_one(rng: np.random.Generator) -> None:
    from minigrad.experiments import digits, ternary

    source = digits.network(3)
    source[1].running_var[...] = 2
    model = ternary.network(source, 0.75, "filter", bits=4)
    for mine, theirs in zip(model.parameters(), source.parameters(), strict=True):
        np.testing.assert_array_equal(mine.data, theirs.data)
        assert mine is not theirs
    assert model[1].running_var.tolist() == source[1].running_var.tolist() == [2.0] * 16
    assert sum(isinstance(layer, nn.Quantize) for layer in model) == sum(isinstance(k, nn.ReLU) for k in source)
    fractions = ternary.zeros(model)
    assert len(fractions) == sum(isinstance(layer, nn.Weighted) for layer in source)
    assert min(fractions.values()) >= 0.75
    assert ternary.zeros(source)["0"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(("sparsity", "bits"), [(0.75, None), (0.8, 4)])
def test_ternary_digits_are_within_two_points_of_the_float_ones(sparsity: float, bits: int | None) -> None:
    from minigrad.experiments import ternary

    result = ternary.run(0, sparsity=sparsity, bits=bits, progress=False)
    assert min(result.zeros.values()) >= sparsity
    assert result.test_error <= result.float_error + 0.02
    assert result.test_error < result.rounded_error
    assert result.as_dict()["test_accuracy"] >= 0.96
