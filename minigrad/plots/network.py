"""The data flow of a network as SVG: boxes for the operations, arrows for the arrays (Tomasi 2019, Figure 3).

The drawing is layered: a box stands one rank after the last of those that lead to it, ranks are sorted by barycentres
until fewest arrows cross, and each box moves as near to its neighbours as the others of its rank allow. What one
operation alone uses, such as a weight, stands beside it.

Letters: ``u`` across the flow, ``v`` along it.
"""

from __future__ import annotations

import base64
import html
import math
import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ..tensor import Tensor, no_grad
from ..trace.nodes import Node, nodes, shape_text

if TYPE_CHECKING:
    from ..nn import Module

__all__ = ["Box", "Drawing", "draw", "flow", "network"]

LARGEST = 600
"""More boxes than this nobody can read; they are refused."""
OFTEN = 4
"""A leaf that more operations use stands beside each of them."""

COLOURS = {  # fill, stroke
    "operation": ("#FFFFFF", "#0072B2"),
    "leaf": ("#DDF3EA", "#009E73"),
    "constant": ("#EEEEEE", "#767676"),
    "result": ("#FBE6DA", "#D55E00"),
}
MARK = ("#FFF0A8", "#D55E00")
GAP, RANK_GAP, MARGIN = 26.0, 34.0, 12.0
TITLE, TEXT = 17, 14


@dataclass(frozen=True)
class Box:
    """A box to draw: a title, smaller lines under it, and the boxes that stand beside it, such as its weights."""

    key: Hashable
    title: str
    lines: tuple[str, ...] = ()
    kind: str = "operation"
    beside: tuple[Box, ...] = ()

    @property
    def width(self) -> float:
        widest = max([_width(self.title, TITLE), *(_width(line, TEXT) for line in self.lines)])
        return max(44.0, widest + 20)

    @property
    def height(self) -> float:
        return 14.0 + TITLE + (TEXT + 5) * len(self.lines)


def _width(text: str, size: float) -> float:
    """About how wide a text is in a sans-serif font."""
    return sum(0.36 if c in " .,()ijl:" else 0.9 if c in "mwMW" else 0.62 for c in text) * size


@dataclass(frozen=True)
class Drawing:
    """An SVG picture: ``.svg`` is its text, ``.places`` the rectangle (x, y, width, height) of each box by its key.

    A notebook shows it; ``save(path)`` writes it.
    """

    svg: str
    width: float
    height: float
    places: Mapping[Hashable, tuple[float, float, float, float]] = field(repr=False)

    @property
    def uri(self) -> str:
        """The picture as the address of an image."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg.encode()).decode()

    def _repr_html_(self) -> str:
        return (
            f'<img src="{self.uri}" width="{self.width:.0f}" height="{self.height:.0f}" '
            f'style="max-width:100%;height:auto" alt="data flow of {len(self.places)} boxes">'
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the SVG; a file of that name is replaced whole."""
        from ..nn import written

        with written(path) as file:
            file.write(self.svg.encode())


def network(model: Module | Tensor, shape: Sequence[int] | None = None, *, direction: str = "down") -> Drawing:
    """The data flow of a network, as Tomasi (2019) draws it in Figure 3, for any graph.

    Parameters
    ----------
    model : Tensor or Module
        Of a tensor, such as a loss, the tape is drawn: operations with the shapes of their outputs. Of an
        `nn.Sequential` the layers, with the shapes between them and the numbers of their parameters; of another module
        the operations that it runs.
    shape : tuple
        The shape of an input of the module, samples first, such as (1, 28, 28) with one sample before: (1, 1, 28, 28).
    direction : "down" or "right"

    Returns
    -------
    Drawing
        No Axes: a picture of its own, with ``.svg`` and ``.save(path)``.

    Raises
    ------
    TypeError, ValueError
        For what is neither, a module without a shape, another direction, and more than 600 boxes.
    """
    from ..nn import Module, Sequential

    if isinstance(model, Tensor):
        return flow(list(nodes(model).values()), direction=direction)
    if not isinstance(model, Module):
        raise TypeError(f"network: expected a tensor or a module, got {type(model).__name__}: pass the loss or model")
    if shape is None:
        raise ValueError("network: a module needs the shape of its input, samples first: try shape=(1, 784)")
    modes = {module: module.training for module in model.modules()}
    model.eval()  # so that running statistics stay
    try:
        dtype = next((p.dtype for p in model.parameters()), np.dtype(float))
        x = Tensor(np.zeros(shape, dtype), name="x")
        if isinstance(model, Sequential):
            return draw(*_layers(model, x), direction=direction)
        x.requires_grad = True
        return flow(list(nodes(model(x), model).values()), direction=direction)
    finally:
        for module, mode in modes.items():
            module.training = mode


def _layers(model: Any, x: Tensor) -> tuple[list[Box], list[tuple[Hashable, Hashable]]]:
    """The layers of a Sequential as boxes; those of a Sequential in it too."""

    def of(shape: tuple[int, ...]) -> str:
        return shape_text(("N", *shape[1:]))  # type: ignore[arg-type]

    boxes = [Box("x", "x", (of(x.shape),), "constant")]
    edges: list[tuple[Hashable, Hashable]] = []

    def run(part: Any, prefix: str, x: Any) -> Any:
        for name, layer in part.layers.items():
            if isinstance(layer, type(model)):
                x = run(layer, f"{prefix}{name}.", x)
                continue
            with no_grad():
                x = layer(x)
            count = sum(p.size for p in layer.parameters())
            lines = [f"{count:,} parameters".replace(",", "\u202f")] if count else []
            key = f"{prefix}{name}"
            boxes.append(Box(key, f"{key} {type(layer).__name__}", (of(x.shape), *lines)))
            edges.append((boxes[-2].key, key))
        return x

    run(model, "", x)
    return boxes, edges


def flow(shown: Sequence[Node], *, mark: Node | None = None, direction: str = "down") -> Drawing:
    """Nodes of a tape as a drawing; arrows lead from each to those of its consumers that are shown as well."""
    chosen = set(shown)
    consumers = {node: [c for c in node.consumers if c in chosen] for node in shown}
    alone = {node for node in shown if node.op is None and (len(consumers[node]) == 1 or len(consumers[node]) > OFTEN)}
    # the first input of the first operation is what the network reads: it leads, and stands beside nothing
    alone -= {x.node for node in shown for x in node.inputs[:1] if x.node is not None and len(node.inputs) > 1}
    lonely: dict[Node, list[Node]] = {}
    for node in shown:
        for consumer in consumers[node] if node in alone else ():
            lonely.setdefault(consumer, []).append(node)

    def box(node: Node) -> Box:
        kind = "result" if node.op is not None and not node.consumers else node.kind
        layer = (f"layer {node.layer}",) if node.layer else ()
        lines = (*layer, shape_text(node.value.shape)) if node.value.ndim else layer
        return Box(node, node.label, lines, kind, tuple(map(box, lonely.get(node, ()))))

    kept = [node for node in shown if node not in alone]
    edges = [(node, consumer) for node in kept for consumer in consumers[node]]
    return draw(list(map(box, kept)), edges, mark=mark, direction=direction)


# Layout ----------------------------------------------------------------------------------------------------


def draw(
    boxes: Sequence[Box],
    edges: Sequence[tuple[Hashable, Hashable]],
    *,
    mark: Hashable = None,
    direction: str = "down",
) -> Drawing:
    """Boxes, in an order in which every edge (from, to) leads onwards, as a layered drawing in which one is marked."""
    if direction not in ("down", "right"):
        raise ValueError(f"network: direction={direction!r}: choose 'down' or 'right'")
    if len(boxes) > LARGEST:
        raise ValueError(
            f"network: {len(boxes)} boxes, of which nobody could read one (the limit is {LARGEST}): draw a part"
        )
    known = {box.key: box for box in boxes}
    cells = {key: _Cell(box, direction) for key, box in known.items()}
    ranks = _ranks(list(known), edges)
    paths = _routed(ranks, edges, cells)
    rows = _sorted_rows(cells, ranks, paths)
    return _Pen(direction, cells, _across(rows, cells, paths), _along(rows, cells), paths, mark).drawing()


class _Cell:
    """What stands at one place: a box with those beside it, or a bend of a long arrow (``box`` None)."""

    def __init__(self, box: Box | None, direction: str):
        self.box = box
        self.before = self.after = self.along = 0.0
        if box is None:
            self.before = self.after = 5.0
            return
        stack = sum(b.height + 4 for b in box.beside) - 4 if box.beside else 0.0
        wide = max((b.width for b in box.beside), default=0.0)
        if direction == "down":
            self.before, self.along = box.width / 2, max(box.height, stack)
            self.after = box.width / 2 + (GAP + wide if box.beside else 0)
        else:
            self.before, self.along = box.height / 2, max(box.width, wide)
            self.after = box.height / 2 + (GAP + stack if box.beside else 0)


Edge = tuple[Hashable, Hashable]


def _ranks(keys: Sequence[Hashable], edges: Sequence[Edge]) -> dict[Hashable, int]:
    """The longest path that leads to each; what nothing leads to stands right before what it leads to first."""
    rank = dict.fromkeys(keys, 0)
    place = {key: n for n, key in enumerate(keys)}
    fed = {target for _, target in edges}
    for source, target in sorted(edges, key=lambda edge: place[edge[1]]):
        rank[target] = max(rank[target], rank[source] + 1)
    for key in keys:
        if key not in fed:
            rank[key] = min((rank[target] - 1 for source, target in edges if source == key), default=0)
    return rank


def _routed(rank: dict[Hashable, int], edges: Sequence[Edge], cells: dict[Hashable, _Cell]) -> list[list[Hashable]]:
    """Each edge as a path of cells, one a rank: a long one gets bends, so that it runs past the boxes between."""
    paths = []
    for source, target in dict.fromkeys(edges):
        bends: list[Hashable] = [("bend", source, target, r) for r in range(rank[source] + 1, rank[target])]
        for bend in bends:
            cells[bend] = _Cell(None, "down")
            rank[bend] = bend[3]  # type: ignore[index]
        paths.append([source, *bends, target])
    return paths


def _sorted_rows(
    cells: dict[Hashable, _Cell], rank: dict[Hashable, int], paths: Sequence[Sequence[Hashable]]
) -> list[list[Hashable]]:
    """The cells of each rank in an order with few crossings: sweeps of barycentres, the best order is kept."""
    rows: list[list[Hashable]] = [[] for _ in range(max(rank.values(), default=0) + 1)]
    for key in cells:
        rows[rank[key]].append(key)
    links = [(a, b) for path in paths for a, b in pairwise(path)]
    above: dict[Hashable, list[Hashable]] = {}
    below: dict[Hashable, list[Hashable]] = {}
    for a, b in links:
        below.setdefault(a, []).append(b)
        above.setdefault(b, []).append(a)

    def crossings() -> int:
        at = {key: n for row in rows for n, key in enumerate(row)}
        between: dict[int, list[tuple[int, int]]] = {}
        for a, b in links:
            between.setdefault(rank[a], []).append((at[a], at[b]))
        count = 0
        for pairs in between.values():
            P = np.array(pairs)
            du, dv = np.subtract.outer(P[:, 0], P[:, 0]), np.subtract.outer(P[:, 1], P[:, 1])
            count += int((du * dv < 0).sum()) // 2
        return count

    best, fewest = [list(row) for row in rows], crossings()
    for sweep in range(12):
        if not fewest:
            break
        down = sweep % 2 == 0
        near = above if down else below
        for row in rows if down else reversed(rows):
            at = {key: n for other in rows for n, key in enumerate(other)}
            middle = {key: np.mean([at[k] for k in near[key]]) if key in near else at[key] for key in row}
            row.sort(key=lambda key: middle[key])
        found = crossings()
        if found < fewest:
            best, fewest = [list(row) for row in rows], found
    return best


def _across(
    rows: Sequence[Sequence[Hashable]], cells: Mapping[Hashable, _Cell], paths: Sequence[Sequence[Hashable]]
) -> dict[Hashable, float]:
    """Where each cell stands across the flow: as near to the mean of its neighbours as its row allows."""
    u: dict[Hashable, float] = {}
    near: dict[Hashable, list[Hashable]] = {}
    for path in paths:
        for a, b in pairwise(path):
            near.setdefault(a, []).append(b)
            near.setdefault(b, []).append(a)
    for row in rows:
        u.update(zip(row, _spaced([0.0] * len(row), row, cells), strict=True))
    for sweep in range(24):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted = [float(np.mean([u[k] for k in near[key]])) if key in near else u[key] for key in row]
            u.update(zip(row, _spaced(wanted, row, cells), strict=True))
    least = min((u[key] - cells[key].before for key in u), default=0.0)
    return {key: place - least + MARGIN for key, place in u.items()}


def _spaced(wanted: Sequence[float], row: Sequence[Hashable], cells: Mapping[Hashable, _Cell]) -> list[float]:
    """The places nearest to those wanted (least squares) at which the cells of a row, in their order, do not touch."""
    steps = [0.0]
    for a, b in pairwise(row):
        steps.append(steps[-1] + cells[a].after + GAP + cells[b].before)
    pools: list[list[float]] = []  # sum and count of runs that are pushed together
    for want, offset in zip(wanted, steps, strict=True):
        pools.append([want - offset, 1])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] > pools[-1][0] / pools[-1][1]:
            total, count = pools.pop()
            pools[-1][0] += total
            pools[-1][1] += count
    means = [total / count for total, count in pools for _ in range(int(count))]
    return [mean + offset for mean, offset in zip(means, steps, strict=True)]


def _along(rows: Sequence[Sequence[Hashable]], cells: Mapping[Hashable, _Cell]) -> dict[Hashable, tuple[float, float]]:
    """Where the rank of each cell begins and ends along the flow."""
    v: dict[Hashable, tuple[float, float]] = {}
    begin = MARGIN
    for row in rows:
        end = begin + max((cells[key].along for key in row), default=0.0)
        v.update(dict.fromkeys(row, (begin, end)))
        begin = end + RANK_GAP
    return v


class _Pen:
    """Writes the SVG."""

    def __init__(
        self, direction: str, cells: Mapping[Hashable, _Cell], u: Mapping[Hashable, float],
        v: Mapping[Hashable, tuple[float, float]], paths: Sequence[Sequence[Hashable]], mark: Hashable,
    ):  # fmt: skip
        self.down = direction == "down"
        self.cells, self.u, self.v, self.paths, self.mark = cells, u, v, paths, mark
        breadth = max((u[key] + cells[key].after for key in u), default=0.0) + MARGIN
        length = max((end for _, end in v.values()), default=0.0) + MARGIN
        self.width, self.height = (breadth, length) if self.down else (length, breadth)
        self.places: dict[Hashable, tuple[float, float, float, float]] = {}

    def drawing(self) -> Drawing:
        shapes = [part for key, cell in self.cells.items() if cell.box for part in self.cell(key, cell.box)]
        arrows = [self.arrow(path) for path in self.paths]
        size = f"{math.ceil(self.width)} {math.ceil(self.height)}"
        width, height = size.split()
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{width}" height="{height}">'
            f"<style>text{{font:{TEXT}px sans-serif;text-anchor:middle}}"
            f".t{{font:bold {TITLE}px sans-serif}}path{{fill:none;stroke:#444;stroke-width:1.8}}"
            "rect{stroke-width:2;rx:6px}</style>"
            '<defs><marker id="a" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="6" markerHeight="6" '
            'orient="auto"><path d="M0 0L10 5L0 10z" style="fill:#444;stroke:none"/></marker></defs>'
            f'<rect width="{width}" height="{height}" style="fill:#fff;stroke:none"/>{"".join(arrows + shapes)}</svg>'
        )
        return Drawing(svg, float(width), float(height), self.places)

    def point(self, u: float, v: float) -> tuple[float, float]:
        return (u, v) if self.down else (v, u)

    def middle(self, key: Hashable) -> float:
        """The middle of a cell along the flow."""
        return sum(self.v[key]) / 2

    def half(self, key: Hashable) -> float:
        """Half the box along the flow; all of its rank for a bend."""
        box = self.cells[key].box
        begin, end = self.v[key]
        return (end - begin) / 2 if box is None else (box.height if self.down else box.width) / 2

    def arrow(self, path: Sequence[Hashable]) -> str:
        """Straight along the boxes of a rank, curved in the gaps between ranks."""
        start = path[0]
        text = f"M{_xy(self.point(self.u[start], self.middle(start) + self.half(start)))}"
        for a, b in pairwise(path):
            leave, reach = self.v[a][1], self.v[b][0] - 8  # the head of the arrow is straight
            half = (leave + reach) / 2
            if abs(self.u[a] - self.u[b]) >= 0.5:
                text += f"L{_xy(self.point(self.u[a], leave))}C" + " ".join(
                    _xy(self.point(u, v)) for u, v in ((self.u[a], half), (self.u[b], half), (self.u[b], reach))
                )
        end = path[-1]
        text += f"L{_xy(self.point(self.u[end], self.middle(end) - self.half(end) - 1))}"
        return f'<path d="{text}" marker-end="url(#a)"/>'

    def cell(self, key: Hashable, box: Box) -> list[str]:
        """A box, those beside it, and one arrow from these to it."""
        x, y = self.point(self.u[key], self.middle(key))
        parts = self.box(box, x, y)
        if not box.beside:
            return parts
        wide = max(b.width for b in box.beside)
        stack = sum(b.height + 4 for b in box.beside) - 4
        left = x + box.width / 2 + GAP if self.down else x - wide / 2
        top = y - stack / 2 if self.down else y + box.height / 2 + GAP
        for other in box.beside:
            parts += self.box(other, left + wide / 2, top + other.height / 2, wide)
            top += other.height + 4
        start = (left, y) if self.down else (x, y + box.height / 2 + GAP)
        end = (x + box.width / 2 + 1, y) if self.down else (x, y + box.height / 2 + 1)
        return [*parts, f'<path d="M{_xy(start)}L{_xy(end)}" marker-end="url(#a)"/>']

    def box(self, box: Box, x: float, y: float, width: float | None = None) -> list[str]:
        """The rectangle and its lines, centred."""
        width = width or box.width
        left, top = x - width / 2, y - box.height / 2
        self.places[box.key] = (left, top, width, box.height)
        marked = self.mark is not None and box.key == self.mark
        fill, stroke = MARK if marked else COLOURS[box.kind]
        thick = ";stroke-width:5" if marked else ""
        texts = [f'<text class="t" x="{x:.0f}" y="{top + 6 + TITLE:.0f}">{html.escape(box.title)}</text>']
        for n, line in enumerate(box.lines, 1):
            texts.append(f'<text x="{x:.0f}" y="{top + 6 + TITLE + n * (TEXT + 5):.0f}">{html.escape(line)}</text>')
        return [
            f'<rect x="{left:.0f}" y="{top:.0f}" width="{width:.0f}" height="{box.height:.0f}" '
            f'style="fill:{fill};stroke:{stroke}{thick}"/>',
            *texts,
        ]


def _xy(point: tuple[float, float]) -> str:
    return f"{point[0]:.0f} {point[1]:.0f}"
