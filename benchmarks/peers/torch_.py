"""PyTorch, as one writes it: eager mode, ``torch.nn`` and ``torch.optim.SGD``."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .. import cases
from . import Peer as Base
from . import Runner

FUNCTIONS = {
    "conv2d": F.conv2d,
    "max_pool2d": F.max_pool2d,
    "avg_pool2d": F.avg_pool2d,
    "batch_norm": lambda x, weight, bias: F.batch_norm(x, None, None, weight, bias, training=True),
    "cross_entropy": F.cross_entropy,
    "binary_cross_entropy": lambda z, target: F.binary_cross_entropy_with_logits(z, target, reduction="sum") / len(z),
    "linear": F.linear,
    "matmul": torch.mm,
    "multiply_add": lambda x, w, b: x * w + b,
    "relu": F.relu,
    "tanh": torch.tanh,
    "flatten": lambda x: x.flatten(1),
}


def module(layer: cases.Layer, images: bool) -> nn.Module:
    weight, bias = layer.shapes[:1], len(layer.shapes) > 1
    match layer.kind, *weight:
        case "conv2d", (outputs, inputs, *kernel):
            return nn.Conv2d(inputs, outputs, tuple(kernel), bias=bias, **layer.keywords)
        case "linear", (outputs, inputs):
            return nn.Linear(inputs, outputs, bias=bias)
        case "batch_norm", (channels,):
            return nn.BatchNorm2d(channels) if images else nn.BatchNorm1d(channels)
    return {"max_pool2d": nn.MaxPool2d, "relu": nn.ReLU, "tanh": nn.Tanh, "flatten": nn.Flatten}[layer.kind](
        **layer.keywords
    )


class Peer(Base):
    version = f"PyTorch {torch.__version__}"
    functions = FUNCTIONS

    def set_threads(self, threads: int) -> None:
        torch.set_num_threads(threads)

    def inputs(self, case: cases.Kernel) -> list[torch.Tensor]:
        tensors = [torch.from_numpy(array) for array in case.arrays()]
        for k in case.wanted:
            tensors[k].requires_grad_()
        return tensors

    def forward(self, f: Any, case: cases.Kernel) -> Runner:
        inputs = self.inputs(case)
        return lambda: f(*inputs), lambda y: [y.numpy()]

    def both(self, f: Any, case: cases.Kernel) -> Runner:
        inputs = self.inputs(case)
        wanted = [inputs[k] for k in case.wanted]
        g = torch.from_numpy(case.cotangent(tuple(f(*inputs).shape)))

        def run() -> Any:
            y = f(*inputs)
            return y, torch.autograd.grad(y, wanted, g)

        return run, lambda result: [result[0].detach().numpy(), *(row.numpy() for row in result[1])]

    def backward(self, f: Any, case: cases.Kernel) -> Runner:
        inputs = self.inputs(case)
        wanted = [inputs[k] for k in case.wanted]
        y = f(*inputs)
        g = torch.from_numpy(case.cotangent(tuple(y.shape)))
        return (
            lambda: torch.autograd.grad(y, wanted, g, retain_graph=True),
            lambda rows: [row.numpy() for row in rows],
        )

    def step(self, case: cases.Step) -> Runner:
        flat = [k for k, layer in enumerate(case.layers) if layer.kind == "flatten"]
        images = flat[0] if flat else 0
        model = nn.Sequential(*(module(layer, k < images) for k, layer in enumerate(case.layers)))
        parameters = list(model.parameters())
        with torch.no_grad():
            for parameter, array in zip(parameters, case.parameters(), strict=True):
                parameter.copy_(torch.from_numpy(array))
        optimizer = torch.optim.SGD(parameters, case.rate, momentum=cases.MOMENTUM)
        x, target = map(torch.from_numpy, case.data())
        loss_function = self.functions[case.loss]

        def run() -> torch.Tensor:
            optimizer.zero_grad()
            loss = loss_function(model(x), target)
            loss.backward()
            optimizer.step()
            return loss

        return run, lambda loss: [loss.detach().numpy(), *(p.grad.numpy() for p in parameters)]
