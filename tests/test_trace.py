"""Step-through: the numbers are the engine's, nothing is lost where scripts are not trusted, and it reads well."""

import copy
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import mpmath
import numpy as np
import pytest

import minigrad as mg
from minigrad import Tensor, nn, trace
from minigrad.operation import registry
from minigrad.tensor import apply
from minigrad.trace.formulas import Entry
from minigrad.trace.nodes import nodes
from minigrad.trace.pictures import montage, picture, pooled


def perceptron(samples: int = 2) -> Tensor:
    rng = np.random.default_rng(1)
    model = nn.Sequential(nn.Linear(4, 3, rng=rng), nn.Tanh(), nn.Linear(3, 3, rng=rng))
    return mg.losses.CrossEntropy()(model(rng.normal(size=(samples, 4))), rng.integers(0, 3, size=samples))


def convolutional() -> Tensor:
    rng = np.random.default_rng(2)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1, rng=rng), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(2, 3, 2, rng=rng),
        nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 10, rng=rng),
    )  # fmt: skip
    return mg.losses.CrossEntropy()(model(rng.normal(size=(3, 1, 8, 8))), rng.integers(0, 10, size=3))


def fan_out() -> Tensor:
    """Broadcasting, one array used five times, an array times itself, and a constant."""
    rng = np.random.default_rng(3)
    x, b = (Tensor(rng.normal(size=size), requires_grad=True, name=n) for n, size in (("x", (4, 3)), ("b", 3)))
    h = mg.tanh(x + b)
    u = h * h + mg.sigmoid(h) * b
    v = (u @ h.T).sum(axis=0)
    return (v * v * np.arange(4.0)).mean() + h.sum() / 2


def deep(blocks: int = 30) -> Tensor:
    """More than a hundred operations that share one weight, with skip connections."""
    rng = np.random.default_rng(4)
    h: Any = Tensor(rng.normal(size=(2, 3)), requires_grad=True, name="x")
    w = Tensor(rng.normal(size=(3, 3)) / 2, requires_grad=True, name="w")
    for _ in range(blocks):
        h = mg.tanh(h @ w) + h * 0.5
    return h.mean()


NETWORKS = [perceptron, convolutional, fan_out, deep]


@pytest.fixture(params=NETWORKS, ids=lambda f: f.__name__)
def loss(request: pytest.FixtureRequest) -> Tensor:
    return request.param()


# The numbers


def backward_of(loss: Tensor, node: Tensor) -> np.ndarray:
    """What `backward` finds for a node in the middle: the tape is cut, so that the node is a leaf."""
    kept = node.op, node.edges
    node.op, node.edges, node.grad = None, (), None
    loss.backward()
    node.op, node.edges = kept
    assert node.grad is not None
    return node.grad


def test_every_row_is_that_of_backward(loss: Tensor) -> None:
    steps = {step.node.number: step for step in trace.step(loss) if isinstance(step, trace.Backward)}
    tape = [t for t in reversed(loss.ancestors()) if t.op is not None]
    assert len(steps) == len(tape)
    for number, tensor in enumerate(tape, 1):
        np.testing.assert_array_equal(steps[number].incoming, backward_of(loss, tensor), strict=True)
        np.testing.assert_array_equal(steps[number].value, tensor.data)


def test_the_gradients_are_those_of_backward_which_is_not_run(loss: Tensor) -> None:
    leaves = [t for t in loss.ancestors() if t.op is None]
    gradients = trace.step(loss).gradients
    assert all(leaf.grad is None for leaf in leaves)
    loss.backward()
    assert len(gradients) == len(leaves)
    for leaf in leaves:
        assert any(np.array_equal(leaf.grad, row) for row in gradients.values() if row.shape == leaf.shape)


def test_the_product_is_g_times_the_explicit_matrix(loss: Tensor) -> None:
    for step in trace.step(loss):
        if isinstance(step, trace.Backward):
            assert list(step.jacobian) == list(step.outgoing)
            for name, J in step.jacobian.items():
                assert J.shape == (step.value.size, step.outgoing[name].size)
                product = (step.incoming.ravel() @ J).reshape(step.outgoing[name].shape)
                np.testing.assert_allclose(step.outgoing[name], product, atol=1e-14)
            assert step.error < 1e-14


def test_an_error_of_a_product_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    tanh = registry["tanh"]
    monkeypatch.setattr(tanh, "vjp", lambda self, g, a, y: 1.001 * g * (1 - y * y))
    worst = {s.node.name: s.error for s in trace.step(perceptron()) if isinstance(s, trace.Backward)}
    assert worst["tanh"] > 1e-4 > worst["affine"]


def test_contributions_add_up(loss: Tensor) -> None:
    t = trace.step(loss)
    sent: dict[str, Any] = {}
    for step in t:
        if not isinstance(step, trace.Backward):
            continue
        if step.contributions:
            np.testing.assert_array_equal(step.incoming, sum(c.row for c in step.contributions))
        for name, arrival in step.arrivals.items():
            key = arrival.node.label
            sent[key] = sent[key] + step.outgoing[name] if key in sent else step.outgoing[name]
            if arrival.arrived == arrival.expected:
                assert arrival.complete
                np.testing.assert_allclose(arrival.total, sent[key], rtol=1e-13, atol=1e-300)
    for name, row in t.gradients.items():
        np.testing.assert_allclose(row, sent[name], rtol=1e-13)


def test_fan_out_is_counted() -> None:
    t = trace.step(fan_out())
    (tanh,) = (s for s in t if isinstance(s, trace.Backward) and s.node.name == "tanh")
    assert [c.source.name for c in tanh.contributions] == ["sum", "transpose", "sigmoid", "multiply", "multiply"]
    assert len(t.arrivals["b"]) == 2
    assert [s.direction for s in t] == ["forward"] * len(t.operations) + ["backward"] * len(t.operations)


def test_the_matrix_of_one_sample_is_a_block_of_the_batch() -> None:
    t = trace.step(perceptron(samples=3))
    step = next(s for s in t if isinstance(s, trace.Backward) and s.node.name == "affine")
    assert step.samples == 3
    assert step.diagonal("x")
    assert not step.diagonal("weight")
    for n in range(3):
        x, weight = step.block(n)["x"], step.block(n)["weight"].toarray()
        np.testing.assert_array_equal(step.jacobian["x"].toarray()[3 * n : 3 * n + 3, 3 * n : 3 * n + 3], x)
        np.testing.assert_array_equal(step.jacobian["weight"].toarray()[3 * n : 3 * n + 3], weight)


def test_training_on_does_not_change_what_was_recorded() -> None:
    model = nn.Sequential(nn.Linear(3, 2, seed=0))
    loss = mg.losses.CrossEntropy()(model(np.ones((2, 3))), np.array([0, 1]))
    t = trace.step(loss, model=model)
    before = str(t)
    loss.backward()
    for p in model.parameters():
        p.data -= 10 * p.grad
    assert str(t) == before
    assert max(s.error for s in t if isinstance(s, trace.Backward)) < 1e-14


def test_a_tensor_with_a_gradient_of_its_shape() -> None:
    x = Tensor(np.arange(3.0), requires_grad=True)
    g = np.array([1.0, -2.0, 0.5])
    t = trace.step(mg.exp(x), g)
    np.testing.assert_array_equal(t.gradients["x"], g * np.exp(np.arange(3.0)))
    np.testing.assert_array_equal(t[-1].incoming, g)  # type: ignore[attr-defined]


def test_a_leaf_is_its_own_gradient() -> None:
    t = trace.step(Tensor(2.0, requires_grad=True, name="w"))
    assert len(t) == 0
    assert t.gradients == {"w": 1.0}
    assert "the gradients" in t._repr_html_()


def test_refusals() -> None:
    x = Tensor(np.ones(3), requires_grad=True)
    with pytest.raises(TypeError, match="pass the tensor, not its"):
        trace.step(np.float64(3.0))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected a scalar, got shape \(3,\)"):
        trace.step(x * 2)
    with pytest.raises(ValueError, match="requires a gradient"):
        trace.step(Tensor(1.0))
    with pytest.raises(ValueError, match=r"gradient has shape \(2,\)"):
        trace.step(x * 2, np.ones(2))


def test_a_tape_of_any_depth() -> None:
    h: Any = Tensor(1.0, requires_grad=True)
    for _ in range(20_000):
        h = h + 1.0
    t = trace.step(h)
    assert len(t) == 40_000
    assert t.gradients["x"] == 1


# Formulas


def test_formulas_give_the_engines_numbers(loss: Tensor) -> None:
    for step in trace.step(loss):
        assert math.isclose(step.entry.exact, step.entry.value, rel_tol=1e-12, abs_tol=1e-14)


def every_operation() -> list[Any]:
    found = []
    for name, cls in sorted(registry.items()):
        if not cls.__module__.startswith("minigrad."):
            continue
        for number, (operation, *arrays) in enumerate(cls.samples(np.random.default_rng(5))):
            if math.prod(np.shape(arrays[0])) <= 64 and name != "ternarize":  # sums over all pairs of weights
                found.append(pytest.param(operation, arrays, id=f"{name}{number}"))
    return found


def evaluated(text: str) -> float:
    """What a formula with its numbers put in is, by Python's own arithmetic."""
    text = text.split(", because")[0].replace("·", "*").replace("^", "**").replace("∞", "inf")
    text = re.sub(r"\|([^|]*)\|", r"abs(\1)", text)
    known = "exp log sqrt tanh cosh atan cos floor inf sign polylog"
    names = {name: getattr(mpmath, name) for name in known.split()}
    names |= {"max": max, "Max": max, "min": min, "Min": min, "abs": abs, "ceiling": mpmath.ceil}
    return float(eval(text, {"__builtins__": {}}, names))


@pytest.mark.parametrize(("operation", "arrays"), every_operation())
def test_the_numbers_put_in_are_the_value(operation: Any, arrays: list[Any]) -> None:
    varies = operation.varies(len(arrays))
    inputs = [Tensor(x, requires_grad=True) if v and x is not None else x for x, v in zip(arrays, varies, strict=True)]
    y = apply(operation, *inputs)
    entry = Entry(nodes(y)[y], np.cos(np.arange(y.size)).reshape(y.shape))
    assert math.isclose(entry.exact, entry.value, rel_tol=1e-9, abs_tol=1e-12)
    text = entry.numbers()
    moderate = all(np.abs(x).max(initial=0) < 100 for x in arrays if x is not None)  # else four digits are too few
    if "…" not in text and len(text) < 420 and moderate:
        assert math.isclose(evaluated(text), entry.value, rel_tol=0.02, abs_tol=0.02), text
    assert "<" not in re.sub(r"</?(i|sub|sup)>", "", entry.general(markup=True) + entry.numbers(markup=True))


def test_formulas_read_as_on_paper() -> None:
    weight, x = np.array([[0.5, -0.25], [1.0, 2.0]]), np.array([[2.0, 4.0]])
    y = mg.affine(Tensor(x), Tensor(weight, requires_grad=True), Tensor([0.125, 3.0]))
    entry = Entry(nodes(y)[y], np.array([[1.0, 0.5]]))
    assert f"{entry.left()} = {entry.general()}" == "y[i] = bias[i] + Σ_j(weight[i, j]·x[j])"
    assert f"{entry.left(numbers=True)} = {entry.numbers()}" == "y[0] = 0.125 + (0.5·2 + (-0.25)·4)"
    assert entry.left(markup=True) == "<i>y</i><sub>i</sub>"
    h = mg.relu(Tensor([-3.0, 1.0], requires_grad=True))
    assert Entry(nodes(h)[h], np.array([1.0, 0.0])).numbers() == "0, because -3 < 0"


def test_long_sums_show_their_ends() -> None:
    y = mg.sum(Tensor(np.arange(100.0), requires_grad=True))
    assert Entry(nodes(y)[y], np.ones(())).numbers() == "0 + 1 + … + 99"


# Text


def test_pages_fit_a_terminal(loss: Tensor) -> None:
    text = str(trace.step(loss))
    assert max(map(len, text.splitlines())) <= 96
    assert "Back-propagation through" in text


def test_a_page_has_its_numbers_and_a_long_trace_its_contents() -> None:
    page = " ".join(str(trace.step(perceptron())[-1]).split())
    assert "backward through 1 affine" in page
    assert "J = ∂y/∂weight (3×12) of sample 0; in the batch's matrix the 2 samples stand one below the other" in page
    text = str(trace.step(deep()))
    assert len(text.splitlines()) == len(trace.step(deep())) + 2
    assert repr(trace.step(perceptron())) == "Trace(5 operations, 10 steps, 4 gradients)"


def test_names_of_parameters_and_layers_come_from_the_model() -> None:
    model = nn.Sequential(nn.Linear(3, 2, seed=0), hidden=nn.Linear(2, 2, seed=1))
    t = trace.step(model(np.ones((1, 3))).sum(), model=model)
    assert list(t.gradients) == ["0.weight", "0.bias", "hidden.weight", "hidden.bias"]
    assert [node.layer for node in t.operations] == ["0", "hidden", ""]


# HTML


class Page(HTMLParser):
    """Tags, attributes and text, and whether each element is closed where it was opened."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def sanitized(text: str) -> str:
    """What JupyterLab leaves of output that it does not trust."""
    for tag in ("script", "style", "svg"):
        text = re.sub(rf"<{tag}\b.*?</{tag}>", "", text, flags=re.DOTALL)
    return re.sub(r"""\s(data-[\w-]+|on\w+|tabindex)=("[^"]*"|'[^']*')""", "", text)


@pytest.mark.parametrize("network", NETWORKS)
def test_nothing_is_lost_without_script_and_style(network: Callable[[], Tensor]) -> None:
    t = trace.step(network())
    whole, rest = Page(t._repr_html_()), Page(sanitized(t._repr_html_()))
    frames = min(len(t), 120) + 2
    assert sum(tag == "details" for tag, _ in rest.elements) == frames + 1  # and the data flow
    for tag in ("td", "img", "summary"):
        assert [a for t_, a in whole.elements if t_ == tag] == [a for t_, a in rest.elements if t_ == tag]
    assert {tag for tag, _ in rest.elements} <= {
        "div", "details", "summary", "b", "i", "sub", "sup", "span", "code", "br", "img", "table", "tr", "td",
        "small",
    }  # fmt: skip
    assert all(str(a["src"]).startswith("data:image/") for tag, a in rest.elements if tag == "img")
    if network is convolutional:
        assert sum(str(a["src"]).startswith("data:image/png") for tag, a in rest.elements if tag == "img") > 20


def test_a_page_asks_for_nothing_and_has_no_ids(loss: Tensor) -> None:
    text = trace.step(loss)._repr_html_()
    page = Page(text)
    assert not any("id" in attributes for _, attributes in page.elements)
    assert all(str(a.get("src", "data:")).startswith("data:") and "href" not in a for _, a in page.elements)
    assert "http" not in re.sub(r'"data:[^"]*"', "", text)
    assert "$" not in sanitized(text)  # MathJax would take what is between two of them


def test_names_are_escaped() -> None:
    x = Tensor(np.ones(2), requires_grad=True, name='<script>alert("x")</script>')
    text = trace.step((x * 2).sum())._repr_html_()
    assert "alert" in text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


def test_a_trace_of_thirty_operations_is_small() -> None:
    assert len(trace.step(deep(8)).operations) == 33
    assert len(trace.step(deep(8))._repr_html_()) < 500_000
    rng = np.random.default_rng(0)
    layers = [m for n in range(14) for m in (nn.Linear(16, 16, rng=rng), nn.Tanh())]
    loss = mg.losses.CrossEntropy()(nn.Sequential(*layers)(rng.normal(size=(16, 16))), np.zeros(16, dtype=int))
    assert len(trace.step(loss).operations) == 30
    assert len(trace.step(loss)._repr_html_()) < 500_000


def test_a_long_trace_is_shown_in_parts() -> None:
    t = trace.step(deep())
    first, second = t.html(), t.html(120)
    assert "here 0 to 119; html(120) has the next" in first
    assert "here 120 to 239" in second
    assert "backward" in Page(second).text


def test_a_step_alone() -> None:
    t = trace.step(convolutional())
    assert "conv2d" in Page(t[0]._repr_html_()).text  # type: ignore[operator]
    assert "script" not in t[-1]._repr_html_()


def test_large_arrays_keep_their_extreme_entries_and_say_so() -> None:
    from scipy.sparse import coo_array

    matrix = np.full((500, 300), 0.1)
    matrix[77, 211], matrix[400, 3] = -9.0, 5.0
    for form in (matrix, coo_array(matrix)):
        small = pooled(form)
        assert small.shape == (96, 96)
        assert (small.min(), small.max()) == (-9.0, 5.0)
        assert small[77 * 96 // 500, 211 * 96 // 300] == -9.0
    assert picture(matrix)[2]
    assert not picture(matrix[:50, :50])[2]
    x = Tensor(matrix, requires_grad=True)
    assert "downsampled to the entry of largest magnitude of each block" in trace.step((x * x).sum())._repr_html_()


def test_a_picture_is_a_png_of_its_colours() -> None:
    import base64
    import io

    from matplotlib.image import imread

    address, size, _ = picture(np.array([[-1.0, 0.0, 1.0]] * 2))
    image = imread(io.BytesIO(base64.b64decode(address.split(",")[1])))
    assert image.shape[:2] == (16, 24)
    assert size == (60, 40)
    left, middle, right = image[3, ::8, :3]
    assert left[2] > left[0] + 0.2
    assert right[0] > right[2] + 0.2
    assert middle.min() > 0.95


def test_tiles_of_images_are_told_apart() -> None:
    tiles, words = montage(np.arange(3 * 2 * 4 * 4.0).reshape(3, 2, 4, 4))
    assert tiles.shape == (14, 9)
    assert np.isnan(tiles[4]).all()
    np.testing.assert_array_equal(tiles[5:9, 5:], 48 + np.arange(16).reshape(4, 4))
    assert words == "a row of tiles for each index of the first axis"


# Algorithm 1


@pytest.fixture
def layered() -> tuple[nn.Sequential, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(6)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, rng=rng), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3, rng=rng), nn.Tanh(),
        nn.Linear(3, 3, rng=rng),
    )  # fmt: skip
    return model, rng.normal(size=(3, 1, 6, 6)), np.array([0, 2, 1])


def test_algorithm_1_gives_the_gradient_of_the_risk(layered: Any) -> None:
    model, x, y = layered
    run = trace.algorithm1(model, x, y, mg.losses.CrossEntropy())
    assert [len(layer) for layer in run.layers] == [4, 2, 1]
    mg.losses.CrossEntropy()(model(x), y).backward()
    assert list(run.gradients) == [name for name, _ in model.named_parameters()]
    for name, p in model.named_parameters():
        np.testing.assert_allclose(run.gradients[name], p.grad, atol=1e-15)
        assert np.abs(p.grad).max() > 1e-3


def test_the_line_that_print_lacks_makes_the_first_layers_gradient(layered: Any) -> None:
    model, x, y = layered
    run = trace.algorithm1(model, x, y, mg.losses.CrossEntropy())
    first = sum(p.size for p in model[0].parameters())
    whole = sum(p.size for p in model.parameters())
    lines = [line for line in run if line.n == 1 and line.changed == "grad_n"]
    assert [(line.line, line.k) for line in lines] == [(6, 0), (9, 3), (9, 2), (11, 1)]
    assert [np.size(line.values["grad_n"]) for line in lines][-2:] == [whole - first, whole]
    assert "T-2" in lines[-1].code


def test_each_line_follows_from_the_values_beside_it(layered: Any) -> None:
    model, x, y = layered
    run = trace.algorithm1(model, x, y, mg.losses.CrossEntropy())
    total = np.zeros_like(run.gradient)
    for line in run:
        v = line.values
        if line.line == 10:
            np.testing.assert_array_equal(v["g"], v["g before"] @ v[f"∂x({line.k})/∂x({line.k - 1})"])
        if line.line in (9, 11):
            part = v["g"] @ v[f"∂x({line.k})/∂w({line.k})"]
            np.testing.assert_array_equal(v["grad_n"][: part.size], part)
        if line.line == 12:
            total += v["grad_n"]
            np.testing.assert_allclose(v["grad"], total / line.n, atol=1e-15)
    assert [line.line for line in run if line.n == 2] == [2, 3, 4, 5, 4, 5, 4, 5, 6, 7, 8, 9, 10, 8, 9, 10, 11, 12]


def test_algorithm_1_can_be_read(layered: Any) -> None:
    run = trace.algorithm1(*layered, mg.losses.CrossEntropy())
    assert max(map(len, str(run).splitlines())) <= 96
    text = run._repr_html_()
    page = Page(sanitized(text))
    assert sum(tag == "details" for tag, _ in page.elements) == sum(bool(line.values) for line in run)
    assert "not in print (T-2)" in page.text
    assert "http" not in re.sub(r'"data:[^"]*"', "", text)
    assert "line 11: sample 1, layer 1" in page.text
    assert "x(3)" in run[10]._repr_html_()


def test_algorithm_1_refuses_what_it_does_not_know(layered: Any) -> None:
    model, x, y = layered
    loss = mg.losses.CrossEntropy()
    with pytest.raises(TypeError, match="Sequential, got Linear"):
        trace.algorithm1(nn.Linear(3, 2, seed=0), x, y, loss)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no module of this network has parameters"):
        trace.algorithm1(nn.Sequential(nn.Flatten()), x, y, loss)
    with pytest.raises(ValueError, match="in training does not treat samples one at a time"):
        trace.algorithm1(nn.Sequential(nn.Linear(3, 2, seed=0), nn.Dropout(0.5, seed=0)), np.ones((1, 3)), y[:1], loss)
    with pytest.raises(ValueError, match=r"samples of shape \(2, 1, 6, 6\) and labels \(3,\)"):
        trace.algorithm1(model, x[:2], y, loss)
    shared = nn.Linear(3, 3, seed=0)
    with pytest.raises(ValueError, match="two layers share a parameter"):
        trace.algorithm1(nn.Sequential(shared, nn.Tanh(), shared), np.ones((1, 3)), y[:1], loss)


def test_algorithm_1_leaves_the_network_as_it_was(layered: Any) -> None:
    model, x, y = layered
    before = copy.deepcopy(model.state_dict())
    trace.algorithm1(model, x, y, mg.losses.CrossEntropy())
    assert all(np.array_equal(before[name], array) for name, array in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_what_would_take_forever_is_not_written_out() -> None:
    weight = Tensor(np.random.default_rng(0).normal(size=(30, 40)), requires_grad=True)
    loss = registry["ternarize"]()(weight).sum()
    text = trace.step(loss)._repr_html_()
    assert "too long to write out" in text
    x = Tensor(np.random.default_rng(0).normal(size=(16, 8, 10, 10)), requires_grad=True)
    assert "too long to write out" in str(trace.step(nn.BatchNorm2d(8)(x).sum())._repr_html_())
