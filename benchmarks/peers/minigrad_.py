"""minigrad by its public names: functions on tensors, ``mg.nn``, ``mg.losses``, ``mg.optim``."""

from __future__ import annotations

from typing import Any

import numpy as np

import minigrad as mg

from .. import cases
from . import Runner, TapePeer


def written_out(z: mg.Tensor, target: Any) -> mg.Tensor:
    """Binary cross-entropy in operations: max(z, 0) + log(1 + e^-|z|) - y z."""
    return (mg.relu(z) + mg.log(mg.exp(-abs(z)) + 1.0) - z * target).sum() / len(z)


FUNCTIONS = {
    "conv2d": mg.conv2d,
    "max_pool2d": mg.max_pool2d,
    "avg_pool2d": mg.avg_pool2d,
    "batch_norm": mg.batch_norm,
    "cross_entropy": mg.losses.CrossEntropy(),
    "binary_cross_entropy": getattr(mg.losses, "BinaryCrossEntropy", lambda: written_out)(),
    "linear": mg.affine,
    "matmul": mg.matmul,
    "multiply_add": lambda x, w, b: x * w + b,
    "relu": mg.relu,
    "tanh": mg.tanh,
    "flatten": mg.nn.Flatten(),
}


def module(layer: cases.Layer, images: bool, dtype: str) -> mg.nn.Module:
    weight, bias = layer.shapes[:1], len(layer.shapes) > 1
    match layer.kind, *weight:
        case "conv2d", (outputs, inputs, *kernel):
            return mg.nn.Conv2d(inputs, outputs, tuple(kernel), bias=bias, dtype=dtype, **layer.keywords)
        case "linear", (outputs, inputs):
            return mg.nn.Linear(inputs, outputs, bias=bias, dtype=dtype)
        case "batch_norm", (channels,):
            return (mg.nn.BatchNorm2d if images else mg.nn.BatchNorm1d)(channels, dtype=dtype)
    kinds = {"max_pool2d": mg.nn.MaxPool2d, "relu": mg.nn.ReLU, "tanh": mg.nn.Tanh, "flatten": mg.nn.Flatten}
    return kinds[layer.kind](**layer.keywords)


class Peer(TapePeer):
    version = f"minigrad {mg.__version__} ({mg.backend()} kernels)"
    functions = FUNCTIONS

    def set_threads(self, threads: int) -> None:
        mg.set_num_threads(threads)

    def leaf(self, array: np.ndarray, varies: bool) -> mg.Tensor:
        return mg.Tensor(array, requires_grad=varies)

    def both(self, f: Any, case: cases.Kernel) -> Runner:
        inputs = self.inputs(case)
        wanted = [inputs[k] for k in case.wanted]
        g = case.cotangent(f(*inputs).shape)

        def run() -> mg.Tensor:  # as PyTorch: gradients go with the result, and the graph as soon as it has served
            for x in wanted:
                x.grad = None
            y = f(*inputs)
            y.backward(g, retain_graph=False)
            return y

        return run, lambda y: [y.data, *(x.grad for x in wanted)]

    def backward(self, f: Any, case: cases.Kernel) -> Runner:
        inputs = self.inputs(case)
        y = f(*inputs)
        g = case.cotangent(y.shape)
        return lambda: y.backward(g), lambda _: [inputs[k].grad for k in case.wanted]

    def step(self, case: cases.Step) -> Runner:
        flat = [k for k, layer in enumerate(case.layers) if layer.kind == "flatten"]
        images = flat[0] if flat else 0
        model = mg.nn.Sequential(*(module(layer, k < images, case.dtype) for k, layer in enumerate(case.layers)))
        parameters = model.parameters()
        for parameter, array in zip(parameters, case.parameters(), strict=True):
            parameter.data[...] = array
        optimizer = mg.optim.SGD(parameters, case.rate, momentum=cases.MOMENTUM)
        x, target = case.data()
        x = mg.Tensor(x)
        loss_function = self.functions[case.loss]

        def run() -> mg.Tensor:  # as PyTorch: gradients and graph are let go as soon as they have served
            optimizer.zero_grad()
            loss = loss_function(model(x), target)
            loss.backward(retain_graph=False)
            optimizer.step()
            return loss

        return run, lambda loss: [loss.data, *(p.grad for p in parameters)]
