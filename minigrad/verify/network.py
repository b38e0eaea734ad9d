"""A whole small network under audit: what single operations cannot show, the chain rule over a graph.

It has a convolution used twice (shared weights), a diamond (two paths that meet again), a max-pool with overlapping
windows, batch normalization, dropout, an affine map and a loss.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import losses
from ..jacobian import jacobian
from ..operation import registry
from ..tensor import Tensor
from .cases import SEED, differences, distance

__all__ = ["TOLERANCES", "network", "network_errors", "parameters"]

TOLERANCES = {"value": 0.0, "product": 1e-12, "differences": 1e-7, "derivative": 1e-12}


def parameters(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Images (2, 1, 6, 6), and the weights of the network."""
    shapes: dict[str, tuple[int, ...]] = {
        "x": (2, 1, 6, 6), "kernel": (1, 1, 3, 3), "scale": (1,), "shift": (1,), "weight": (3, 9), "bias": (3,),
    }  # fmt: skip
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def network(x: Any, kernel: Any, scale: Any, shift: Any, weight: Any, bias: Any) -> Any:
    """The loss of a batch of two; the mask of the dropout and the labels are fixed."""
    convolve = registry["conv2d"](padding=1)
    first = convolve(x, kernel, None)
    normal = registry["batch_norm"]()(first, scale, shift)
    diamond = registry["tanh"]()(normal) * registry["sigmoid"]()(first) + normal
    again = convolve(diamond, kernel, None)
    pooled = registry["max_pool2d"](3, 2, 1)(again)
    flat = pooled.reshape(2, 9)
    mask = np.array([[1, 0, 1, 1, 1, 0, 1, 1, 1], [0, 1, 1, 1, 0, 1, 1, 1, 1]]) / 0.75
    dropped = registry["dropout"]()(registry["leaky_relu"](0.1)(flat), mask)
    logits = registry["affine"]()(dropped, weight, bias)
    return losses.CrossEntropy()(logits, np.array([2, 0]))


def network_errors() -> dict[str, float]:
    """For every input and weight, the worst disagreement of products, explicit matrices and differences."""
    values = parameters(np.random.default_rng(SEED))
    leaves = {name: Tensor(value, requires_grad=True, name=name) for name, value in values.items()}
    loss = network(**leaves)
    loss.backward()
    rows: dict[str, Any] = {name: leaf.grad for name, leaf in leaves.items()}
    loss.backward()
    errors = dict.fromkeys(TOLERANCES, 0.0)
    errors["value"] = max(distance(leaf.grad, rows[name]) for name, leaf in leaves.items())
    loss.backward(method="jacobian")
    for number, (name, leaf) in enumerate(leaves.items()):
        row = np.ravel(rows[name])[None]

        def moved(value: Any, name: str = name) -> Any:
            return network(**{**values, name: value}).data

        matrix = jacobian(network, *values.values(), wrt=number, sparse=True).toarray()
        errors["product"] = max(errors["product"], distance(leaf.grad, rows[name]))
        errors["derivative"] = max(errors["derivative"], distance(matrix, row))
        errors["differences"] = max(errors["differences"], distance(row, differences(moved, values[name])))
    return errors
