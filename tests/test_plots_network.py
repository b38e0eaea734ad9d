"""The data-flow drawing: well-formed, nothing overlaps, chains are straight, few arrows cross."""

import re
import xml.etree.ElementTree as ET
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import Tensor, nn, plots
from minigrad.plots.network import Box, Drawing, draw

SVG = "{http://www.w3.org/2000/svg}"


def texts(drawing: Drawing) -> list[str]:
    return [str(element.text) for element in ET.fromstring(drawing.svg).iter(f"{SVG}text")]


def no_overlap(drawing: Drawing) -> None:
    rectangles = [[float(r.attrib[n]) for n in ("x", "y", "width", "height")]
                  for r in list(ET.fromstring(drawing.svg).iter(f"{SVG}rect"))[1:]]  # fmt: skip
    for (x, y, w, h), (a, b, c, d) in combinations(rectangles, 2):
        assert x + w <= a or a + c <= x or y + h <= b or b + d <= y
    for x, y, w, h in rectangles:
        assert x >= 0
        assert y >= 0
        assert x + w <= drawing.width
        assert y + h <= drawing.height


def curves(drawing: Drawing) -> list[np.ndarray]:
    """The points of each arrow, its Bezier curves sampled."""
    found = []
    for path in ET.fromstring(drawing.svg).iter(f"{SVG}path"):
        if "marker-end" not in path.attrib:
            continue
        points: list[np.ndarray] = []
        for command, text in re.findall(r"([MLC])([-\d. ]+)", path.attrib["d"]):
            numbers = np.array(text.split(), float).reshape(-1, 2)
            if command == "C":
                t = np.linspace(0, 1, 20)[:, None]
                p, (q, r, s) = points[-1], numbers
                points += list((1 - t) ** 3 * p + 3 * (1 - t) ** 2 * t * q + 3 * (1 - t) * t**2 * r + t**3 * s)
            else:
                points += list(np.linspace(points[-1], numbers[0], 20)) if points else [numbers[0]]
        found.append(np.array(points))
    return found


def branching() -> Tensor:
    rng = np.random.default_rng(3)
    x, b = (Tensor(rng.normal(size=size), requires_grad=True, name=n) for n, size in (("x", (4, 3)), ("b", 3)))
    h: Any = mg.tanh(x + b)
    u = h * h + mg.sigmoid(h) * b
    return (u @ h.T).sum() + h.sum()


@pytest.mark.parametrize("direction", ["down", "right"])
def test_a_chain_is_straight_and_its_weights_stand_beside_it(direction: str) -> None:
    model = nn.Sequential(nn.Linear(4, 3, seed=0), nn.Tanh(), nn.Linear(3, 2, seed=1))
    loss = mg.losses.CrossEntropy()(model(np.ones((5, 4))), np.zeros(5, dtype=int))
    drawing = plots.network(loss, direction=direction)
    no_overlap(drawing)
    middles = {
        node.label: ((x + w / 2), (y + h / 2))  # type: ignore[attr-defined]
        for node, (x, y, w, h) in drawing.places.items()
    }
    across = 0 if direction == "down" else 1
    chain = ["x", "1 affine", "2 tanh", "3 affine", "4 cross_entropy", "5 mean"]
    assert len({round(middles[name][across], 6) for name in chain}) == 1
    assert sorted(chain, key=lambda name: middles[name][1 - across]) == chain
    assert middles["weight₁"][across] > middles["1 affine"][across]
    assert {"weight₁", "3×4", "5×4", "labels", "5×3"} <= set(texts(drawing))


@pytest.mark.parametrize("direction", ["down", "right"])
def test_arrows_run_past_the_boxes(direction: str) -> None:
    drawing = plots.network(branching(), direction=direction)
    no_overlap(drawing)
    assert len(curves(drawing)) == 18
    for points in curves(drawing):
        for x, y, w, h in drawing.places.values():
            inside = (points > [x + 1, y + 1]).all(axis=1) & (points < [x + w - 1, y + h - 1]).all(axis=1)
            assert not inside.any()


def test_branches_that_need_not_cross_do_not() -> None:
    """A tree whose leaves come in an order that would tangle it."""
    keys = ["root", "a", "b", "c", "b1", "c1", "a1", "c2", "a2", "b2"]
    edges = [("root", k) for k in "abc"] + [(k[0], k) for k in keys if len(k) == 2]
    drawing = draw([Box(k, k) for k in keys], edges)  # type: ignore[arg-type]
    rows: dict[float, list[tuple[float, str]]] = {}
    for key, (x, y, w, _) in drawing.places.items():
        rows.setdefault(y, []).append((x + w / 2, str(key)))
    _, parents, leaves = ([key for _, key in sorted(row)] for _, row in sorted(rows.items()))
    assert [leaf[0] for leaf in leaves] == [parent for parent in parents for _ in range(2)]


def test_a_mark_is_seen() -> None:
    boxes = [Box("a", "a"), Box("b", "b")]
    assert "stroke-width:5" in draw(boxes, [("a", "b")], mark="b").svg
    assert "stroke-width:5" not in draw(boxes, [("a", "b")]).svg


def test_layers_with_shapes_and_numbers_of_parameters() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, seed=0), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Sequential(nn.Flatten(), nn.Linear(2704, 10, seed=1)),
    )  # fmt: skip
    drawing = plots.network(model, (1, 1, 28, 28))
    assert texts(drawing) == [
        "x", "N×1×28×28", "0 Conv2d", "N×4×26×26", "40 parameters", "1 BatchNorm2d", "N×4×26×26", "8 parameters",
        "2 ReLU", "N×4×26×26", "3.0 Flatten", "N×2704", "3.1 Linear", "N×10", "27\u202f050 parameters",
    ]  # fmt: skip
    assert model.training
    np.testing.assert_array_equal(model[1].running_mean, np.zeros(4))
    no_overlap(drawing)


def test_a_module_that_is_no_sequential_shows_its_operations() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            self.inner = nn.Linear(3, 3, seed=0)

        def forward(self, x: Any) -> Any:
            return mg.relu(self.inner(x)) + x

    drawing = plots.network(Residual(), (2, 3))
    assert {"inner.weight", "layer inner", "3 add", "x"} <= set(texts(drawing))
    assert len(curves(drawing)) == 5


def test_what_is_used_often_stands_beside_each_of_its_users() -> None:
    h: Any = Tensor(np.ones((1, 2)), requires_grad=True)
    w = Tensor(np.eye(2), requires_grad=True, name="w")
    for _ in range(6):
        h = h @ w
    assert texts(plots.network(h)).count("w") == 6


def test_it_is_saved_and_shown_as_an_image(tmp_path: Path) -> None:
    drawing = plots.network(branching())
    drawing.save(tmp_path / "flow.svg")
    assert (tmp_path / "flow.svg").read_text(encoding="utf-8") == drawing.svg
    shown = drawing._repr_html_()
    assert shown.startswith('<img src="data:image/svg+xml;base64,')
    assert "<svg" not in shown
    assert re.findall(r"https?://[^\"' ]+", drawing.svg) == ["http://www.w3.org/2000/svg"]


def test_names_are_escaped() -> None:
    x = Tensor(np.ones(2), requires_grad=True, name="<a & b>")
    assert "<a & b>" in texts(plots.network((x * x).sum()))


def test_refusals() -> None:
    with pytest.raises(TypeError, match="expected a tensor or a module, got list"):
        plots.network([1])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs the shape of its input"):
        plots.network(nn.Linear(2, 2, seed=0))
    with pytest.raises(ValueError, match="choose 'down' or 'right'"):
        plots.network(branching(), direction="up")
    h: Any = Tensor(1.0, requires_grad=True)
    for _ in range(700):
        h = h + 1.0
    with pytest.raises(ValueError, match="701 boxes"):
        plots.network(h)
