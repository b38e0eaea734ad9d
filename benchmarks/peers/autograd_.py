"""HIPS autograd: NumPy traced anew at every call. It has no convolution of this kind, and no max-pool."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import autograd
import autograd.numpy as anp
import numpy as np

from .. import cases
from . import Peer as Base
from . import Runner, network
from .functional import functions


class Peer(Base):
    version = f"autograd {version('autograd')}"
    functions = functions(anp)

    def pull(self, f: Any, case: cases.Kernel) -> Any:
        """(inputs of the wanted gradients) -> (back, output)."""
        inputs = case.arrays()
        back_and_output = autograd.make_vjp(
            lambda varied: f(*(dict(zip(case.wanted, varied, strict=True)).get(k, a) for k, a in enumerate(inputs)))
        )
        return lambda: back_and_output(tuple(inputs[k] for k in case.wanted))

    def forward(self, f: Any, case: cases.Kernel) -> Runner:
        inputs = case.arrays()
        return lambda: f(*inputs), lambda y: [np.asarray(y)]

    def both(self, f: Any, case: cases.Kernel) -> Runner:
        pull = self.pull(f, case)
        g = case.cotangent(np.shape(pull()[1]))

        def run() -> Any:
            back, y = pull()
            return y, back(g)

        return run, lambda result: [np.asarray(result[0]), *result[1]]

    def backward(self, f: Any, case: cases.Kernel) -> Runner:
        back, y = self.pull(f, case)()
        g = case.cotangent(np.shape(y))
        return lambda: back(g), list

    def step(self, case: cases.Step) -> Runner:
        x, target = case.data()
        parameters = case.parameters()
        velocities = [np.zeros_like(w) for w in parameters]
        loss_function = self.functions[case.loss]
        loss_and_gradients = autograd.value_and_grad(
            lambda parameters: loss_function(network(self.functions, case.layers, parameters, x), target)
        )

        def run() -> Any:
            loss, gradients = loss_and_gradients(parameters)
            for w, v, g in zip(parameters, velocities, gradients, strict=True):
                v *= cases.MOMENTUM
                v -= case.rate * g
                w += v
            return loss, gradients

        return run, lambda result: [np.asarray(result[0]), *result[1]]
