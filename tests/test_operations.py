"""The contract of an operation: what must be there when it is defined, and what follows from it."""

import inspect
from collections.abc import Iterator

import numpy as np
import pytest

import minigrad as mg
from minigrad.operation import Elementwise, Operation, Signature, Source, registry, snake_case


@pytest.fixture
def clean_registry() -> Iterator[None]:
    before = dict(registry)
    yield
    registry.clear()
    registry.update(before)


@pytest.mark.parametrize("name", sorted(registry))
def test_audit(name: str) -> None:
    """Every operation of the registry, present and future, passes its audit, and all its mutants are caught."""
    report = mg.verify.audit([name])
    assert report.passed, str(report)
    row = report.rows[0]
    made = {check for check, error in row.errors.items() if error is not None}
    proved = {"estimator"} if registry[name].estimator else {"derivative", "differences", "product"}
    assert {"value", "conduct"} | proved <= made
    assert row.mutants >= 8


def complete() -> dict[str, object]:
    """The parts of y = x^3."""
    return {
        "__doc__": "y = x^3.",
        "signature": "x -> y",
        "source": Source("a test"),
        "formula": lambda self, x: __import__("minigrad.formula").formula.Formula(x**3),
        "forward": lambda self, x: x**3,
        "df": lambda self, x, y: 3 * x**2,
        "samples": classmethod(lambda cls, rng: iter([(cls(), rng.normal(size=(2, 3)))])),
    }


@pytest.mark.usefixtures("clean_registry")
@pytest.mark.parametrize("part", ["__doc__", "signature", "source", "formula", "forward", "df", "samples"])
def test_an_incomplete_operation_fails_when_it_is_defined(part: str) -> None:
    parts = complete()
    del parts[part]
    with pytest.raises(TypeError, match=f"Cube lacks {part}"):
        type("Cube", (Elementwise,), parts)
    assert "cube" not in registry


@pytest.mark.usefixtures("clean_registry")
def test_one_class_is_all_it_takes() -> None:
    type("Cube", (Elementwise,), complete())
    x = mg.Tensor([1.0, 2.0], requires_grad=True)
    mg.cube(x).sum().backward()
    assert x.grad.tolist() == [3.0, 12.0]
    assert "cube" in dir(mg)
    assert mg.verify.audit(["cube"]).passed


@pytest.mark.usefixtures("clean_registry")
def test_a_name_is_taken_once_but_a_class_may_be_defined_again() -> None:
    first = type("Cube", (Elementwise,), complete())
    assert type("Cube", (Elementwise,), complete()) is registry["cube"] is not first
    with pytest.raises(TypeError, match=r"'exp' belongs to minigrad.ops.pointwise.Exp"):
        type("Exp", (Elementwise,), complete())


@pytest.mark.usefixtures("clean_registry")
def test_constants_must_be_inputs() -> None:
    with pytest.raises(TypeError, match="mask"):
        type("Cube", (Elementwise,), {**complete(), "constants": ("mask",)})


def test_signatures() -> None:
    signature = Signature.parse("x[...,I], weight[O,I], bias[O]? -> y[...,O]")
    assert [v.name for v in signature.inputs] == ["x", "weight", "bias"]
    assert [v.letters for v in signature.inputs] == [("I",), ("O", "I"), ("O",)]
    assert [v.samples for v in signature.inputs] == ["...", "", ""]
    assert [v.optional for v in signature.inputs] == [False, False, True]
    with pytest.raises(TypeError, match="->"):
        Signature.parse("x[N]")
    with pytest.raises(TypeError, match="variable"):
        Signature.parse("x[N -> y")


def test_functions_have_the_signatures_that_are_promised() -> None:
    def names(function: object) -> list[str]:
        return list(inspect.signature(function).parameters)  # type: ignore[arg-type]

    assert names(mg.conv2d) == ["x", "weight", "bias", "stride", "padding", "dilation"]
    assert names(mg.max_pool2d)[:4] == ["x", "kernel_size", "stride", "padding"]
    assert names(mg.avg_pool2d) == ["x", "kernel_size", "stride", "padding"]
    assert names(mg.batch_norm) == ["x", "weight", "bias", "eps"]
    assert names(mg.dropout) == ["x", "mask"]
    assert names(mg.leaky_relu)[1] == "beta"
    for name in ("softmax", "log_softmax", "logsumexp"):
        assert inspect.signature(getattr(mg, name)).parameters["axis"].default == -1
    for name in ("exp", "log", "sqrt", "abs", "relu", "sigmoid", "tanh", "matmul"):
        assert callable(getattr(mg, name))
    assert "TC-02" in mg.softmax.__doc__


def test_keywords_and_defaults() -> None:
    x, weight = np.ones((1, 2, 4, 4)), np.ones((3, 2, 2, 2))
    assert mg.conv2d(x, weight, stride=2).shape == (1, 3, 2, 2)
    assert mg.conv2d(x, weight=weight, bias=np.ones(3), padding=(1, 0)).shape == (1, 3, 5, 3)
    with pytest.raises(TypeError):
        mg.conv2d(x)
    with pytest.raises(TypeError):
        mg.conv2d(x, weight, strides=2)


def test_repr_shows_the_hyperparameters() -> None:
    assert repr(registry["max_pool2d"](2)) == (
        "MaxPool2d(kernel_size=(2, 2), stride=(2, 2), padding=(0, 0), ties='first', rng=None)"
    )


@pytest.mark.parametrize(
    ("camel", "snake"),
    [("MaxPool2d", "max_pool2d"), ("LogSoftmax", "log_softmax"), ("Exp", "exp"), ("HTTPCode", "http_code")],
)
def test_snake_case(camel: str, snake: str) -> None:
    assert snake_case(camel) == snake


def test_operations_work_by_hand_without_a_graph() -> None:
    softmax = registry["softmax"]()
    z = np.array([1.0, 2.0, 3.0])
    p = softmax.forward(z)
    np.testing.assert_allclose(p, np.exp(z) / np.exp(z).sum())
    g = np.array([1.0, 0.0, -2.0])
    np.testing.assert_allclose(softmax.vjp(g, z, p), g @ softmax.jacobian(z))
    assert issubclass(type(softmax), Operation)


def test_random_ties_pick_each_winner() -> None:
    """Tomasi's footnote: of equal entries, one at random."""
    x = np.zeros((1, 1, 2, 2))
    pool = registry["max_pool2d"](2, ties="random", rng=np.random.default_rng(0))
    winners = {int(pool.forward(x)[1].item()) for _ in range(60)}
    assert winners == {0, 1, 2, 3}
    x[0, 0, 1, 0] = 1
    assert {int(pool.forward(x)[1].item()) for _ in range(10)} == {2}
    first = registry["max_pool2d"](2)
    assert first.forward(np.zeros((1, 1, 2, 2)))[1].item() == 0


def test_a_convolution_is_its_sparse_matrix(rng: np.random.Generator) -> None:
    """Doubly block Toeplitz: block (p, h) depends on h - p alone."""
    conv = registry["conv2d"]()
    x, weight = rng.normal(size=(1, 5, 6)), rng.normal(size=(1, 1, 3, 2))
    J, _, _ = conv.jacobian(x, weight, None)
    blocks = J.toarray().reshape(3, 5, 5, 6).transpose(0, 2, 1, 3)
    for p in range(3):
        for h in range(5):
            expected = blocks[0, h - p] if 0 <= h - p < 3 else np.zeros((5, 6))
            np.testing.assert_array_equal(blocks[p, h], expected)
    assert J.nnz == 15 * 6
