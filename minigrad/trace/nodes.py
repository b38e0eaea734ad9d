"""The tape as nodes: the operations that led to a tensor, in the order in which they ran, with names to show.

An operation is known by its number, counted from 1 in the order of the forward pass; a leaf or a constant by its
name, or by that of the input that it is first used as, with the number of that operation where names collide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..operation import Operation
from ..tensor import Tensor

if TYPE_CHECKING:
    from ..nn import Module

__all__ = ["Input", "Node", "nodes", "shape_text"]

SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


@dataclass(frozen=True, eq=False)
class Input:
    """One input of an operation: its name in the signature, where it comes from, and whether a gradient goes back.

    ``node`` is None for what is no array: a plain number, or an input that was left out.
    """

    variable: str
    node: Node | None
    value: Any
    varies: bool


@dataclass(frozen=True, eq=False)
class Node:
    """One array of the network: what an operation made, a leaf that asks for a gradient, or a constant.

    ``number`` counts operations from 1 and is 0 for the others; ``arrays`` are the operation's inputs as they were,
    so that training on does not change what is shown.
    """

    number: int
    name: str
    kind: str
    op: Operation | None
    value: np.ndarray
    layer: str = ""
    inputs: tuple[Input, ...] = ()
    consumers: list[Node] = field(default_factory=list, repr=False)

    @property
    def label(self) -> str:
        """What it is called: "2 affine", or the name of a leaf."""
        return f"{self.number} {self.name}" if self.number else self.name

    @property
    def arrays(self) -> tuple[Any, ...]:
        """The inputs' values, as the operation takes them."""
        return tuple(x.value for x in self.inputs)

    @cached_property
    def variables(self) -> list[str]:
        """The names of the inputs that the operation can be differentiated with respect to."""
        assert self.op is not None
        varies = self.op.varies(len(self.inputs))
        return [x.variable for x, varying in zip(self.inputs, varies, strict=True) if varying]

    def __repr__(self) -> str:
        return f"Node({self.label!r}, {shape_text(self.value.shape)})"


def shape_text(shape: tuple[int, ...]) -> str:
    """(4, 3) as "4×3"; a single number has the shape "1 number"."""
    return "×".join(map(str, shape)) or "1 number"


def nodes(result: Tensor, model: Module | None = None) -> dict[Tensor | int, Node]:
    """The nodes that led to ``result``, oldest first; keys are the tensors, and ``id`` of a constant array."""
    names: Mapping[int, str] = {} if model is None else {id(p): name for name, p in model.named_parameters()}
    tape = [tensor for tensor in reversed(result.ancestors()) if tensor.op is not None]
    made = set(tape)
    varying = {edge for tensor in tape for edge in tensor.edges} or {result}
    uses: dict[Any, tuple[str, str, Any]] = {}  # leaf or constant -> its name, that of its first consumer, its array
    for number, tensor in enumerate(tape, 1):
        for variable, x, array in zip(_variables(tensor), tensor.inputs, tensor.record, strict=False):
            if _drawn(x) and _key(x) not in uses and not (isinstance(x, Tensor) and x in made):
                name = names.get(id(x)) or getattr(x, "name", "") or variable
                uses[_key(x)] = name, str(number).translate(SUBSCRIPTS), array
    if not tape:
        uses[result] = names.get(id(result)) or result.name or "x", "", result.data
    taken = Counter(name for name, _, _ in uses.values())
    found: dict[Tensor | int, Node] = {}
    for key, (name, consumer, array) in uses.items():
        shown = name + consumer if taken[name] > 1 else name
        kind = "leaf" if isinstance(key, Tensor) and key in varying else "constant"
        found[key] = Node(0, shown, kind, None, np.array(array))
    for number, tensor in enumerate(tape, 1):
        found[tensor] = node = _operation(number, tensor, found, names)
        for x in node.inputs:
            if x.node is not None and (not x.node.consumers or x.node.consumers[-1] is not node):
                x.node.consumers.append(node)
    return found


def _operation(number: int, tensor: Tensor, found: dict[Tensor | int, Node], names: Mapping[int, str]) -> Node:
    assert tensor.op is not None
    edges = iter(tensor.edges)
    inputs = []
    for variable, x, varies in zip(
        _variables(tensor), tensor.inputs, tensor.op.varies(len(tensor.inputs)), strict=True
    ):
        source = found[_key(x)] if _drawn(x) else None
        goes_back = varies and next(edges) is not None
        inputs.append(Input(variable, source, x if source is None else source.value, goes_back))
    own = {names[id(x)].rpartition(".")[0] for x in tensor.inputs if id(x) in names}
    layer = own.pop() if len(own) == 1 else ""
    return Node(number, tensor.op.name, "operation", tensor.op, tensor.data, layer, tuple(inputs))


def _variables(tensor: Tensor) -> list[str]:
    """The names of a recorded tensor's inputs; those of a repeated input are numbered."""
    assert tensor.op is not None
    declared = tensor.op.parsed.of(len(tensor.inputs))
    return [f"{v.name}_{n}" if v.repeated else v.name for n, v in enumerate(declared)]


def _drawn(x: Any) -> bool:
    return isinstance(x, Tensor) or (isinstance(x, np.ndarray) and x.ndim > 0)


def _key(x: Any) -> Any:
    return x if isinstance(x, Tensor) else id(x)
