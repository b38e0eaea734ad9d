"""MyGrad, with its guarding of memory turned off, which is its fastest setting."""

from __future__ import annotations

from typing import Any

import mygrad
import numpy as np
from mygrad.nnet.activations import relu
from mygrad.nnet.layers import batchnorm, conv_nd, max_pool
from mygrad.nnet.losses import softmax_crossentropy

from .. import cases
from . import Runner, TapePeer, network

mygrad.turn_memory_guarding_off()


def conv2d(x: Any, weight: Any, bias: Any = None, padding: int = 0) -> Any:
    y = conv_nd(x, weight, stride=1, padding=padding)
    return y if bias is None else y + bias.reshape(1, -1, 1, 1)


def max_pool2d(x: Any, kernel_size: int, stride: int) -> Any:
    """MyGrad wants windows to fit: the rows and columns that none would see are cut off."""
    seen = tuple((size - kernel_size) // stride * stride + kernel_size for size in x.shape[2:])
    if seen != x.shape[2:]:
        x = x[:, :, : seen[0], : seen[1]]
    return max_pool(x, (kernel_size, kernel_size), stride)


def linear(x: Any, weight: Any, bias: Any = None) -> Any:
    y = mygrad.matmul(x, weight.T)
    return y if bias is None else y + bias


def binary_cross_entropy(z: Any, target: Any) -> Any:
    return mygrad.sum(relu(z) - z * target + mygrad.log1p(mygrad.exp(-mygrad.abs(z)))) / z.dtype.type(len(z))


class Peer(TapePeer):
    version = f"MyGrad {mygrad.__version__}"
    functions = {  # noqa: RUF012  # the base says ClassVar
        "conv2d": conv2d,
        "max_pool2d": max_pool2d,
        "batch_norm": lambda x, weight, bias: batchnorm(x, gamma=weight, beta=bias, eps=1e-5),
        "cross_entropy": softmax_crossentropy,
        "binary_cross_entropy": binary_cross_entropy,
        "linear": linear,
        "relu": relu,
        "tanh": mygrad.tanh,
        "flatten": lambda x: x.reshape(len(x), -1),
        "multiply_add": lambda x, w, b: x * w + b,
        "matmul": mygrad.matmul,
    }

    def leaf(self, array: np.ndarray, varies: bool) -> mygrad.Tensor:
        return mygrad.tensor(array, constant=not varies)

    def both(self, f: Any, case: cases.Kernel) -> Runner:
        inputs = self.inputs(case)
        g = case.cotangent(f(*inputs).shape)

        def run() -> mygrad.Tensor:
            y = f(*inputs)
            y.backward(g)
            return y

        return run, lambda y: [y.data, *(inputs[k].grad for k in case.wanted)]

    def backward(self, f: Any, case: cases.Kernel) -> Runner | None:
        """MyGrad's graph is gone after one way back: the gradient alone cannot be timed."""
        return None

    def step(self, case: cases.Step) -> Runner:
        x, target = case.data()
        parameters = [mygrad.tensor(array) for array in case.parameters()]
        velocities = [np.zeros_like(w.data) for w in parameters]
        loss_function = self.functions[case.loss]
        inputs = mygrad.tensor(x, constant=True)

        def run() -> Any:
            loss = loss_function(network(self.functions, case.layers, parameters, inputs), target)
            loss.backward()
            for w, v in zip(parameters, velocities, strict=True):
                v *= cases.MOMENTUM
                v -= case.rate * w.grad
                w.data += v
            return loss

        return run, lambda loss: [loss.data, *(w.grad for w in parameters)]
