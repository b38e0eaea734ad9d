"""The steps of one forward and one backward pass, with the engine's own numbers.

Letters: ``y`` the output of an operation, ``x`` an input, ``g = dl/dy`` the row that comes in, ``J = dy/dx``; what goes
out is ``g J`` (Tomasi 2019, equations 2-5). Rows are kept in the shape of the array that they belong to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from ..formula import Formula
from ..jacobian import lift, split
from ..operation import Elementwise, as_tuple
from ..tensor import Tensor, _pull_vjp
from .nodes import Node, nodes

if TYPE_CHECKING:
    from ..nn import Module
    from .formulas import Entry

__all__ = ["Arrival", "Backward", "Contribution", "Forward", "Step", "Trace", "step"]

FORMED = 25_000_000
"""The matrix of one sample is shown if it has no more entries, zeros among them, than this (200 MB if it is dense)."""
WHOLE = 2_000_000
"""The Jacobian of a whole batch is shown if it has no more entries other than zero."""


@dataclass(frozen=True, eq=False)
class Contribution:
    """One of the rows whose sum is dl/dy: the operation that uses y, as which input, and the row g J it sent back."""

    source: Node
    variable: str
    row: np.ndarray


@dataclass(frozen=True, eq=False)
class Arrival:
    """What accumulates at an input after a step: the sum of the contributions so far, and how many are still to come.

    ``complete`` if none is: an operation can then be visited, and a leaf has its ``.grad``.
    """

    node: Node
    total: np.ndarray
    arrived: int
    expected: int

    @property
    def complete(self) -> bool:
        return self.arrived == self.expected


@dataclass(frozen=True, eq=False, repr=False)
class Step:
    """One operation in one of the two passes; `Forward` and `Backward` say what happens there."""

    number: int
    node: Node
    weights: np.ndarray = field(repr=False)

    direction = ""

    @cached_property
    def entry(self) -> Entry:
        """The entry of the output that the formula is shown for: of the first sample, where |dl/dy| is largest."""
        from .formulas import Entry

        return Entry(self.node, self.weights)

    @property
    def formula(self) -> Formula:
        """One entry of the output, from the operation itself: it has ``.latex()``, ``.derivative(...)`` and more."""
        return self.entry.formula

    @property
    def value(self) -> np.ndarray:
        """y, the output of the operation."""
        return self.node.value

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.number}, {self.node.label!r})"

    def __str__(self) -> str:
        from .text import page

        return page(self)

    def _repr_html_(self) -> str:
        from .page import frame

        return frame(self).alone()


@dataclass(frozen=True, eq=False, repr=False)
class Forward(Step):
    """The operation computes its output from its inputs and keeps both: ``inputs`` by name, ``value``."""

    direction = "forward"

    @property
    def inputs(self) -> dict[str, Any]:
        """The inputs by their names in the signature; None for one that was left out."""
        return {x.variable: x.value for x in self.node.inputs}


@dataclass(frozen=True, eq=False, repr=False)
class Backward(Step):
    """The row g comes in, the product g J goes out to each input that varies.

    ``incoming`` is g, the sum of the ``contributions`` (none for the last operation, which is given its row);
    ``outgoing`` has the engine's products by the name of the input, each in the shape of that input, and ``arrivals``
    what they make of the row that accumulates there.
    """

    incoming: np.ndarray
    contributions: tuple[Contribution, ...]
    outgoing: dict[str, np.ndarray]
    arrivals: dict[str, Arrival]

    direction = "backward"

    @cached_property
    def jacobian(self) -> dict[str, Any]:
        """The explicit matrix dy/dx of the whole batch, sparse, for each input that varies.

        The matrices of the samples stand in blocks: on the diagonal for an input with samples of its own, one below
        the other for an input that all samples share. Raises ValueError where they are too large to be formed.
        """
        operation, arrays = self.node.op, self.node.arrays
        assert operation is not None
        lifted = lift(operation, arrays, self.node.value, [x.varies for x in self.node.inputs])
        return {x.variable: J for x, J in zip(self.node.inputs, lifted, strict=True) if J is not None}

    @cached_property
    def samples(self) -> int:
        """How many samples the operation tells apart; 1 if it sees the whole array."""
        assert self.node.op is not None
        return sum(1 for _ in split(self.node.op, *self.node.arrays))

    def diagonal(self, variable: str) -> bool:
        """Whether the samples' matrices stand on the diagonal of the batch's: the input has samples of its own."""
        assert self.node.op is not None
        declared = self.node.op.parsed.of(len(self.node.inputs))
        return any(
            bool(v.samples) and x.variable == variable for v, x in zip(declared, self.node.inputs, strict=True)
        )

    def block(self, n: int = 0) -> dict[str, Any]:
        """The matrix of sample n alone, dense or sparse, for each input that varies; none that is too large to form."""
        operation = self.node.op
        assert operation is not None
        samples = list(split(operation, *self.node.arrays))
        sample = samples[n]
        rows = self.node.value.size // len(samples)
        if not isinstance(operation, Elementwise) and any(rows * np.size(x) > FORMED for x in sample):
            return {}
        matrices = zip(self.node.variables, as_tuple(operation.jacobian(*sample)), strict=True)
        return {name: J for name, J in matrices if J is not None and name in self.outgoing}

    @cached_property
    def error(self) -> float:
        """The largest difference between ``outgoing`` and g times ``jacobian``, relative to the largest of |g| |J|."""
        g = np.ravel(self.incoming)
        worst = 0.0
        for name, J in self.jacobian.items():
            scale = float((abs(g) @ abs(J)).max(initial=0)) or 1.0
            worst = max(worst, float(abs(g @ J - np.ravel(self.outgoing[name])).max(initial=0)) / scale)
        return worst


class Trace(Sequence[Step]):
    """Back-propagation one step at a time: every operation forward, then every operation backward.

    A sequence of `Forward` and `Backward` steps. ``print(trace)`` writes them as pages, a notebook shows a player.

    Attributes
    ----------
    nodes : list of Node
        Leaves and constants, then the operations in the order in which they ran.
    gradients : dict
        What `backward` gives each leaf, by its name.
    arrivals : dict
        By the name of a leaf, the contributions that its gradient is the sum of.
    """

    def __init__(self, result: Tensor, gradient: Any = None, model: Module | None = None):
        if not isinstance(result, Tensor):
            raise TypeError(
                f"trace.step: expected a tensor such as loss = mg.losses.CrossEntropy()(model(x), labels), "
                f"got {type(result).__name__}: pass the tensor, not its .data"
            )
        seed = result._seed(gradient)
        found = nodes(result, model)
        self.nodes = list(found.values())
        tape = [tensor for tensor in result.ancestors() if tensor.op is not None]
        backward, rows, arrived = _walk(result, seed, tape, found)
        self.gradients: dict[str, np.ndarray] = {}
        self.arrivals: dict[str, tuple[Contribution, ...]] = {}
        for tensor, node in found.items():
            if isinstance(tensor, Tensor) and node.kind == "leaf" and tensor in rows:
                self.gradients[node.name] = np.array(rows[tensor], dtype=tensor.dtype)
                self.arrivals[node.name] = tuple(arrived.get(node, ()))
        reached = {step.node: step.incoming for step in backward}
        forward = [
            Forward(number, found[tensor], reached.get(found[tensor], np.zeros(tensor.shape)))
            for number, tensor in enumerate(reversed(tape))
        ]
        self.steps: tuple[Step, ...] = (*forward, *backward)

    @overload
    def __getitem__(self, key: int) -> Step: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[Step, ...]: ...
    def __getitem__(self, key: int | slice) -> Step | tuple[Step, ...]:
        return self.steps[key]

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    @property
    def operations(self) -> list[Node]:
        """The nodes that are operations, in the order in which they ran."""
        return [node for node in self.nodes if node.op is not None]

    def __repr__(self) -> str:
        return f"Trace({len(self.operations)} operations, {len(self)} steps, {len(self.gradients)} gradients)"

    def __str__(self) -> str:
        from .text import pages

        return pages(self)

    def html(self, start: int = 0, stop: int | None = None) -> str:
        """The player as HTML that needs no other file, of the steps from ``start`` to ``stop``, at most 120 of them."""
        from .page import player

        return player(self, start, stop)

    def _repr_html_(self) -> str:
        return self.html()


def _walk(
    result: Tensor, seed: np.ndarray, tape: list[Tensor], found: dict[Tensor | int, Node]
) -> tuple[list[Backward], dict[Tensor, Any], dict[Node, list[Contribution]]]:
    """The engine's backward pass, newest result first, that keeps what `Tensor.backward` forgets."""
    rows: dict[Tensor, Any] = {result: seed}
    arrived: dict[Node, list[Contribution]] = {}
    visits: list[tuple[Node, np.ndarray, dict[str, tuple[Node, Any, int]]]] = []
    for tensor in tape:
        if tensor not in rows:
            continue  # nothing was sent back to it
        node, g = found[tensor], rows[tensor]
        if g.dtype != tensor.data.dtype:
            g = g.astype(tensor.data.dtype)
        sent: dict[str, tuple[Node, Any, int]] = {}
        for variable, parent, row in zip(node.variables, tensor.edges, _pull_vjp(tensor, g), strict=True):
            if parent is not None and row is not None:
                rows[parent] = rows[parent] + row if parent in rows else row
                contributions = arrived.setdefault(found[parent], [])
                contributions.append(Contribution(node, variable, np.asarray(row)))
                sent[variable] = found[parent], rows[parent], len(contributions)
        visits.append((node, np.asarray(g), sent))
    steps = []
    for number, (node, g, sent) in enumerate(visits, len(tape)):
        arrivals = {
            variable: Arrival(target, np.asarray(total), count, len(arrived[target]))
            for variable, (target, total, count) in sent.items()
        }
        outgoing = {name: arrived[at.node][at.arrived - 1].row for name, at in arrivals.items()}
        steps.append(Backward(number, node, g, g, tuple(arrived.get(node, ())), outgoing, arrivals))
    return steps, rows, arrived


def step(result: Tensor, gradient: Any = None, *, model: Module | None = None) -> Trace:
    """Every step of the forward pass that led to ``result`` and of back-propagation from it.

    Parameters
    ----------
    result : Tensor
        A scalar such as a loss, or any tensor with a ``gradient`` of its shape, as `Tensor.backward` takes it.
    gradient : array, optional
        The row g to begin with.
    model : Module, optional
        Names its parameters ("0.weight") and layers ("0").

    Returns
    -------
    Trace
        The numbers are the engine's; ``.grad`` of the leaves is not touched.

    Raises
    ------
    TypeError, ValueError
        If it is no tensor, or if `Tensor.backward` could not start from it; the message says why.
    """
    return Trace(result, gradient, model)
