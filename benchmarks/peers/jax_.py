"""JAX: every case, and the whole of a training step, is one function compiled by ``jax.jit``."""

from __future__ import annotations

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .. import cases
from . import Peer as Base
from . import Runner, network
from .functional import functions

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_platforms", "cpu")


def conv2d(x: Any, weight: Any, bias: Any = None, padding: int = 0) -> Any:
    y = lax.conv_general_dilated(x, weight, (1, 1), [(padding, padding)] * 2)
    return y if bias is None else y + bias[:, None, None]


def max_pool2d(x: Any, kernel_size: int, stride: int) -> Any:
    window, strides = (1, 1, kernel_size, kernel_size), (1, 1, stride, stride)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, strides, "VALID")


def read(result: Any) -> list[np.ndarray]:
    return [np.asarray(array) for array in jax.tree.leaves(result)]


def runner(f: Any, *arguments: Any) -> Runner:
    compiled = jax.jit(f)
    return lambda: jax.block_until_ready(compiled(*arguments)), read


class Peer(Base):
    version = f"JAX {jax.__version__}"
    functions = functions(jnp) | {"conv2d": conv2d, "max_pool2d": max_pool2d}

    def set_threads(self, threads: int) -> None:
        """JAX has as many threads as the process has processors, and is told of no others."""
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])

    def pull(self, f: Any, case: cases.Kernel) -> Any:
        """A function of the inputs, and the row, that gives output and gradients."""

        def pulled(g: Any, *inputs: Any) -> Any:
            def of_wanted(*varied: Any) -> Any:
                given = dict(zip(case.wanted, varied, strict=True))
                return f(*(given.get(k, array) for k, array in enumerate(inputs)))

            y, back = jax.vjp(of_wanted, *(inputs[k] for k in case.wanted))
            return y, back(g)

        return pulled

    def arguments(self, f: Any, case: cases.Kernel) -> list[Any]:
        inputs = [jnp.asarray(array) for array in case.arrays()]
        y = jax.eval_shape(f, *inputs)
        return [jnp.asarray(case.cotangent(y.shape)), *inputs]

    def forward(self, f: Any, case: cases.Kernel) -> Runner:
        return runner(f, *(jnp.asarray(array) for array in case.arrays()))

    def both(self, f: Any, case: cases.Kernel) -> Runner:
        return runner(self.pull(f, case), *self.arguments(f, case))

    def backward(self, f: Any, case: cases.Kernel) -> Runner:
        """The compiler leaves the output out that nobody wants."""
        pulled = self.pull(f, case)
        return runner(lambda *arguments: pulled(*arguments)[1], *self.arguments(f, case))

    def step(self, case: cases.Step) -> Runner:
        x, target = map(jnp.asarray, case.data())

        def loss_of(parameters: list[Any], x: Any, target: Any) -> Any:
            return self.functions[case.loss](network(self.functions, case.layers, parameters, x), target)

        loss_and_gradients = jax.jit(jax.value_and_grad(loss_of))

        @jax.jit
        def update(parameters: list[Any], velocities: list[Any], x: Any, target: Any) -> Any:
            loss, gradients = loss_and_gradients(parameters, x, target)
            velocities = [cases.MOMENTUM * v - case.rate * g for v, g in zip(velocities, gradients, strict=True)]
            return [w + v for w, v in zip(parameters, velocities, strict=True)], velocities, loss

        parameters = [jnp.asarray(array) for array in case.parameters()]
        velocities = [jnp.zeros_like(w) for w in parameters]
        before = parameters

        def run() -> Any:
            nonlocal parameters, velocities, before
            before = parameters
            parameters, velocities, loss = update(parameters, velocities, x, target)
            return jax.block_until_ready(loss)

        return run, lambda loss: [*read(loss), *read(loss_and_gradients(before, x, target)[1])]
