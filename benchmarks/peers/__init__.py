"""The peers, one file each: a class ``Peer`` that turns a case into something to call and to time.

``build`` gives two functions, ``run`` and ``read``. ``run()`` does the work once: it is all that is timed.
``read(result)`` turns what it returned into the NumPy arrays that must be equal among the peers: of a function the
output, the gradients, or both; of a training step its loss and the gradients of all parameters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from ..cases import Case, Kernel, Layer, Step

__all__ = ["Peer", "Runner", "TapePeer", "network"]

Runner = tuple[Callable[[], Any], Callable[[Any], list[np.ndarray]]]


class Peer(ABC):
    """What the peers share. ``functions`` are by the names that the cases use; what is not there is not covered."""

    version: ClassVar[str]
    functions: ClassVar[Mapping[str, Any]]

    def set_threads(self, threads: int) -> None:  # noqa: B027  # most read the environment
        """Use so many threads; the environment has said so already to all that asks it at import."""

    def covers(self, case: Case) -> bool:
        return case.names <= self.functions.keys()

    def build(self, case: Case) -> Runner | None:
        """The case, ready to run; None if this peer cannot."""
        if not self.covers(case):
            return None
        if isinstance(case, Step):
            return self.step(case)
        assert isinstance(case, Kernel)
        f = self.functions[case.function]
        f = partial(f, **case.keywords) if case.keywords else f
        if case.part == "forward":
            return self.forward(f, case)
        return self.both(f, case) if case.part == "forward and backward" else self.backward(f, case)

    @abstractmethod
    def forward(self, f: Any, case: Kernel) -> Runner:
        """The output alone, with nothing recorded."""

    @abstractmethod
    def both(self, f: Any, case: Kernel) -> Runner:
        """The output and the gradients of the arguments ``case.wanted``."""

    @abstractmethod
    def backward(self, f: Any, case: Kernel) -> Runner | None:
        """The gradients alone: the forward run is not timed."""

    @abstractmethod
    def step(self, case: Step) -> Runner:
        """Forward, loss, backward, update with momentum."""


class TapePeer(Peer):
    """A peer with tensors that have ``.data``, ``.grad`` and ``.backward(row)``, all in NumPy arrays."""

    @abstractmethod
    def leaf(self, array: np.ndarray, varies: bool) -> Any:
        """A tensor."""

    def inputs(self, case: Kernel) -> list[Any]:
        """Tensors, and labels as they are."""
        arrays = enumerate(case.arrays())
        return [self.leaf(array, k in case.wanted) if array.dtype.kind == "f" else array for k, array in arrays]

    def forward(self, f: Any, case: Kernel) -> Runner:
        inputs = self.inputs(case)
        return lambda: f(*inputs), lambda y: [y.data]


def network(functions: Mapping[str, Any], layers: Sequence[Layer], parameters: Sequence[Any], x: Any) -> Any:
    """The output of a network, for peers that write it with functions."""
    rest: Iterator[Any] = iter(parameters)
    for layer in layers:
        x = functions[layer.kind](x, *(next(rest) for _ in layer.shapes), **layer.keywords)
    return x
