"""Layer-wise training: each layer gets a target of its own, and comes closer to it in several steps (LocoProp).

One round (LP-27; US 2022/0253713; Amid et al. 2022): the batch runs forward, inputs, pre- and post-activations of each
layer are kept, the gradients of the task loss L run backward once and make a target for each layer, and then every
layer, independently of all others, takes T steps of descent on a local loss: its distance from the target, plus the
distance of its weights from the anchor. With T = 1 it is back-propagation (LP-23).

The layers' problems are `Problem`s, arrays and settings, and `solve` is a function of such a problem alone, so that
they can be solved in any order, in other threads or processes and on other machines, and solved again where a machine
was lost, always to the same bits.

Letters: W the weights of a layer, bias included, ``a_hat`` = W y its pre-activations, ``y_hat`` = f(a_hat), ``a`` or
``y`` the target, W~ the weights on their way, A the anchor; gamma = ``activation_lr``, eta = ``weight_lr``,
tau = ``inner_step``, T = ``iterations``; m examples in the batch.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from . import kernels, nn, transfer
from .losses import BinaryCrossEntropy, CrossEntropy, SquaredError
from .operation import Elementwise, Operation
from .ops.convolution import Conv2d as Convolution
from .ops.softmax import Softmax
from .optim import SGD, Optimizer, Schedule
from .tensor import Tensor, no_grad

__all__ = ["VARIANTS", "LocoProp", "Problem", "Solution", "exact_minimizer", "executor_for", "solve"]


# The local losses -------------------------------------------------------------------------------------------


class Variant:
    """A target, and the distance from it: made of the gradients g_a = dL/da_hat and g_y = dL/dy_hat of each example."""

    name: ClassVar[str]

    def target(self, a: Any, y: Any, g_a: Any, g_y: Any, gamma: float) -> Any:
        """Where the layer shall come, from where it is."""
        raise NotImplementedError

    def residual(self, f: Operation, a_hat: Any, target: Any) -> Any:
        """The derivative of the distance with respect to a_hat."""
        raise NotImplementedError

    def distance(self, f: Operation, a_hat: Any, target: Any) -> Any:
        """The distance, in parts whose sum it is."""
        raise NotImplementedError


class SquaredPre(Variant):
    """1/2 |a_hat - a|^2 with a = a_hat - gamma dL/da_hat (figure 3, LP-14, LP-18); convex."""

    name = "squared-pre"

    def target(self, a: Any, y: Any, g_a: Any, g_y: Any, gamma: float) -> Any:
        return a - gamma * g_a

    def residual(self, f: Operation, a_hat: Any, target: Any) -> Any:
        return a_hat - target

    def distance(self, f: Operation, a_hat: Any, target: Any) -> Any:
        return (a_hat - target) ** 2 / 2


class SquaredPost(Variant):
    """1/2 |f(a_hat) - y|^2 with y = y_hat - gamma dL/dy_hat (figure 4, LP-15, LP-19); in general not convex (L-11)."""

    name = "squared-post"

    def target(self, a: Any, y: Any, g_a: Any, g_y: Any, gamma: float) -> Any:
        return y - gamma * g_y

    def residual(self, f: Operation, a_hat: Any, target: Any) -> Any:
        y_hat = f.forward(a_hat)
        return f.vjp(y_hat - target, a_hat, y_hat)

    def distance(self, f: Operation, a_hat: Any, target: Any) -> Any:
        return (f.forward(a_hat) - target) ** 2 / 2


class Matching(Variant):
    """The matching loss of f, F(a_hat) - y a_hat, with y = y_hat - gamma dL/da_hat (figure 5, LP-16, LP-20); convex.

    The target is a step of mirror descent (L-1). It may leave the range of f, where F*(y) is infinite: that constant is
    left out of the distance, which can then be negative (L-8).
    """

    name = "matching"

    def target(self, a: Any, y: Any, g_a: Any, g_y: Any, gamma: float) -> Any:
        return y - gamma * g_a

    def residual(self, f: Operation, a_hat: Any, target: Any) -> Any:
        return f.forward(a_hat) - target

    def distance(self, f: Operation, a_hat: Any, target: Any) -> Any:
        return transfer.of(f).fenchel_young(a_hat, target, constant=False)


class Dual(Variant):
    """D_F(a, a_hat), in this order (L-10), with a = a_hat - gamma dL/dy_hat (figure 6, LP-17, LP-21); not convex."""

    name = "dual"

    def target(self, a: Any, y: Any, g_a: Any, g_y: Any, gamma: float) -> Any:
        return a - gamma * g_y

    def residual(self, f: Operation, a_hat: Any, target: Any) -> Any:
        return f.vjp(a_hat - target, a_hat, f.forward(a_hat))

    def distance(self, f: Operation, a_hat: Any, target: Any) -> Any:
        return transfer.of(f).bregman(target, a_hat)


VARIANTS: dict[str, Variant] = {one.name: one for one in (SquaredPre(), SquaredPost(), Matching(), Dual())}
"""The four local losses by name."""


# The problem of one layer -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """What one layer has to solve in one round: arrays and settings, nothing of the network.

    ``affine`` and ``f`` are operations, ``inputs`` and ``target`` arrays with the batch along axis 0,
    ``weights`` the weight and the bias, or None for it. ``trained`` are the positions among them that change;
    ``rule`` is the inner optimizer without its arrays, which are ``memory``, and ``rates`` has its rate in each of
    the T iterations. ``scale`` combines the examples: 1/m for their mean, 1 for their sum.
    """

    variant: str
    affine: Any
    f: Operation
    inputs: np.ndarray
    target: np.ndarray
    weights: tuple[np.ndarray | None, np.ndarray | None]
    trained: tuple[int, ...]
    rule: Optimizer
    memory: tuple[list[np.ndarray], ...]
    rates: tuple[float, ...]
    eta: float
    fixed: bool
    scale: float
    backend: str

    def direction(self, weights: Sequence[Any]) -> list[np.ndarray]:
        """eta G(W~) + (W~ - A) for each array that is trained: eta times the gradient of the local loss (LP-22)."""
        a_hat = self.affine.forward(self.inputs, *weights)
        residual = VARIANTS[self.variant].residual(self.f, a_hat, self.target)
        wanted = (False, 0 in self.trained, 1 in self.trained)
        gradients = self.affine.vjp(residual, self.inputs, *weights, a_hat, wanted=wanted)[1:]
        rows = []
        for k in self.trained:
            row = np.asarray(gradients[k], weights[k].dtype)
            row *= self.eta * self.scale
            if self.fixed:
                row += weights[k] - self.weights[k]
            rows.append(row)
        return rows

    def loss(self, weights: Sequence[Any]) -> float:
        """The local loss of these weights (LP-18 to LP-21), its proximal term included where the anchor is fixed."""
        a_hat = self.affine.forward(self.inputs, *weights)
        parts = VARIANTS[self.variant].distance(self.f, a_hat, self.target)
        value = self.scale * float(np.sum(parts, dtype=float))
        if self.fixed:
            square = sum(float(np.sum((weights[k] - self.weights[k]) ** 2, dtype=float)) for k in self.trained)
            value += square / (2 * self.eta)
        return value


@dataclass(frozen=True)
class Solution:
    """What a layer arrived at: the arrays that were trained, and the memory of its inner optimizer."""

    weights: list[np.ndarray]
    memory: tuple[list[np.ndarray], ...]


def solve(problem: Problem, watch: Callable[[Sequence[Any]], None] | None = None) -> Solution:
    """Take the T steps of a problem, on one thread; the problem stays as it is, and the same one gives the same bits.

    ``watch`` is shown the weights before the first step and after each. Raises ValueError where the kernels here are
    not those of the process that made the problem: their last bits differ.
    """
    if problem.backend != kernels.backend():
        raise ValueError(
            f"locoprop.solve: the kernels here are {kernels.backend()!r}, those of the trainer {problem.backend!r}, "
            f"and their bits differ: start the workers with MINIGRAD_KERNELS={problem.backend}"
        )
    weights = [np.array(w) if k in problem.trained else w for k, w in enumerate(problem.weights)]
    moving: list[Any] = [weights[k] for k in problem.trained]
    memory = tuple([a.copy() for a in arrays] for arrays in problem.memory)
    rule = copy.copy(problem.rule)
    first = rule.steps
    rule.lr = lambda n: problem.rates[n - first]
    with _one_thread:
        for _ in problem.rates:
            if watch is not None:
                watch(weights)
            rule.descend(moving, problem.direction(weights), *memory)
            rule.steps += 1
        if watch is not None:
            watch(weights)
    return Solution(moving, memory)


class _OneThread:
    """While some task is at work in this process, its kernels and its BLAS keep to one thread each.

    The numbers of threads belong to the process, so the first task sets them and the last one sets them back.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.tasks = 0

    def __enter__(self) -> None:
        with self.lock:
            if not self.tasks:
                self.kernel_threads = kernels.num_threads()
                kernels.set_num_threads(1)
                self.blas = _blas().limit(limits=1, user_api="blas")
            self.tasks += 1

    def __exit__(self, *exception: object) -> None:
        with self.lock:
            self.tasks -= 1
            if not self.tasks:
                kernels.set_num_threads(self.kernel_threads)
                self.blas.restore_original_limits()


_one_thread = _OneThread()


@functools.cache
def _blas() -> Any:
    """The BLAS libraries of this process; to find them takes longer than to limit them."""
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return ThreadpoolController()


def exact_minimizer(
    layer: nn.Linear | nn.Conv2d, inputs: Any, targets: Any, weight_lr: float, *, reduction: str = "mean"
) -> tuple[np.ndarray, np.ndarray | None]:
    """The weight and bias at which the local loss "squared-pre" is least, its anchor those of the layer (LP-24).

    W~ = W + R (S + I / eta)^-1, R = sum (a - W y) y^T and S = sum y y^T over the examples, divided by their number with
    ``reduction="mean"``; y has a last entry 1 for the bias. For a convolution y are the patches, and the sums run over
    positions too (LP-26).

    Parameters
    ----------
    layer : nn.Linear or nn.Conv2d
    inputs : array (m, ..., in), or images (m, in, H, W)
    targets : array of the shape of the layer's pre-activations
    weight_lr : float
        eta: the larger, the less the deviation from the layer's weights counts.

    Returns
    -------
    (weight, bias) in the shapes of the layer's; None for a bias that it does not have. Nothing is changed.
    """
    scale = _scale(reduction, len(inputs))
    weight, bias = layer.weight.data, None if layer.bias is None else layer.bias.data
    with no_grad():
        missing = np.asarray(targets) - layer(inputs).data
    x = np.asarray(inputs, weight.dtype)
    if isinstance(layer.operation, Convolution):
        position, within, *_ = layer.operation.taps(x.shape[1:], weight.shape[2:])
        x = np.where(within, x.reshape(len(x), -1)[:, position], 0)
        missing = np.moveaxis(missing, 1, -1)
    x, missing = x.reshape(-1, x.shape[-1]), missing.reshape(-1, len(weight))
    if bias is not None:
        x = np.column_stack([x, np.ones(len(x), x.dtype)])
    S = scale * (x.T @ x) + np.eye(x.shape[1], dtype=x.dtype) / weight_lr
    step = np.linalg.solve(S, scale * (x.T @ missing)).T
    if bias is None:
        return weight + step.reshape(weight.shape), None
    return weight + step[:, :-1].reshape(weight.shape), bias + step[:, -1]


def _scale(reduction: str, m: int) -> float:
    if reduction not in ("mean", "sum"):
        raise ValueError(f"locoprop: reduction={reduction!r}: choose 'mean' or 'sum'")
    return 1 / m if reduction == "mean" else 1.0


# Where problems are solved ----------------------------------------------------------------------------------


@contextlib.contextmanager
def executor_for(where: str) -> Iterator[Executor | None]:
    """The executor of "serial" (None), "threads:4", or "dask://host:port", the scheduler of a Dask cluster.

    As a context: threads end, and a client disconnects, with the block. The machines of a cluster need this version of
    minigrad and processors of one kind. Dask asks nobody who they are: whoever reaches the scheduler runs code on its
    machines, so keep it on a network that you trust, or behind its TLS, and connect a ``Client`` of your own.

    Raises ValueError for another text, ModuleNotFoundError without the package `distributed`, and OSError where no
    scheduler answers.
    """
    kind, _, rest = where.partition(":")
    if where == "serial":
        yield None
    elif kind == "threads" and rest.isdecimal() and int(rest) > 0:
        with ThreadPoolExecutor(int(rest)) as threads:
            yield threads
    elif kind == "dask" and rest.startswith("//") and rest.strip("/"):
        with _dask_client(f"tcp://{rest.strip('/')}") as client:
            yield client.get_executor(pure=False)
    else:
        raise ValueError(f"executor {where!r}: expected serial, threads:N or dask://host:port: try threads:2")


def _dask_client(address: str) -> Any:
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "dask: needs the package distributed: pip install 'minigrad[distributed]'", name="distributed"
        ) from error
    connect: Any = distributed.Client
    return connect(address, timeout=10, set_as_default=False)


# The network, layer by layer --------------------------------------------------------------------------------


@dataclass
class Layer:
    """An affine layer, the transfer function f on its outputs, and the layers between them and the next affine one.

    ``linked`` says that f is the link of the loss: the loss applies it, not the network.
    """

    name: str
    affine: nn.Linear | nn.Conv2d
    f: Operation
    linked: bool
    after: nn.Sequential

    @property
    def parameters(self) -> list[nn.Parameter]:
        bias = self.affine.bias
        return [self.affine.weight] if bias is None else [self.affine.weight, bias]

    @property
    def weights(self) -> tuple[np.ndarray, np.ndarray | None]:
        bias = self.affine.bias
        return self.affine.weight.data, None if bias is None else bias.data

    @property
    def trained(self) -> tuple[int, ...]:
        return tuple(k for k, parameter in enumerate(self.parameters) if parameter.requires_grad)


@dataclass
class Activations:
    """What the forward pass keeps of a layer.

    ``inputs`` end a stretch of tape that begins at the ``leaf`` of the layer before; the leaf of this one holds
    y_hat, or a_hat where f is the link of the loss.
    """

    inputs: Tensor
    a_hat: np.ndarray
    y_hat: np.ndarray
    leaf: Tensor


class LocoProp:
    """Train a network layer by layer, towards targets that one backward pass makes (US 2022/0253713; Amid et al. 2022).

    Parameters
    ----------
    model : nn.Sequential
        Of affine layers, `nn.Linear` and `nn.Conv2d`, each with the transfer function right after it, the identity if
        none follows. The last one takes the link of the loss as its transfer function, unless one of its own follows:
        softmax under `CrossEntropy`, sigmoid under `BinaryCrossEntropy`, the identity under `SquaredError`, that of a
        `MatchingLoss`. All other layers, such as pools, normalization and dropout, have no local problem; gradients
        pass them by back-propagation (LP-28), and parameters that they have stay as they are: ``untrained`` names
        them. So do frozen weights.
    loss : a loss with reduction="mean"
        The task loss L.
    variant : "squared-pre", "squared-post", "matching" or "dual"
        The target and the local loss, see `VARIANTS`.
    activation_lr : float
        gamma, how far a target is from where the layer is.
    weight_lr : float
        eta, the weight of the distance from the target against that of W~ from the anchor.
    iterations : int
        T, the local steps of a round.
    anchor : "fixed" or "moving"
        A = W, the weights at the beginning of the round: the steps approach the minimum of the local loss, the proximal
        point. Or A = W~, the weights of each step: the proximal term is then always zero, and the steps are plain
        descent on the distance from the target, as the source prints them (L-4).
    inner_step : float, or a function of the step t = 0, ..., T - 1
        tau: W~ <- W~ - tau [eta G(W~) + (W~ - A)] (LP-22). At a fixed anchor the steps converge if tau (1 + eta
        lambda) < 2 for the largest curvature lambda of the distance.
    inner : function of parameters that returns an `optim.Optimizer`, optional
        Takes these steps instead of plain descent, ``optim.SGD(parameters, lr=1.0)``: it is given
        eta G(W~) + (W~ - A) as the gradient, and its learning rate is multiplied by tau. Each layer has its own, in
        ``optimizers`` by the layer's name; what it remembers, and its count of steps, go on from round to round.
    executor : concurrent.futures.Executor, optional
        Where the layers' problems are solved: threads, processes, or machines, through ``Client.get_executor()`` of
        Dask. None is one after the other. The bits are always the same, on processors of one kind.
    reduction : "mean" or "sum"
        Gradients of each example make the targets, and local losses are averaged over the batch; or gradients of the
        mean loss make the targets, and local losses are summed (L-12). The first step is the same either way; sums run
        over the positions of a convolution in both (LP-26).

    The method as published is ``variant="matching"`` or ``"squared-pre"`` with ``activation_lr=10, weight_lr=1,
    anchor="moving", reduction="sum", inner_step=optim.LinearDecay(1.0, 10)`` and ``inner=lambda p: optim.RMSprop(p,
    lr=1e-5, alpha=0.9, eps=1e-5, momentum=0.999, initial=1.0, eps_inside=True)``.

    ``activation_lr``, ``weight_lr``, ``inner_step`` and ``executor`` can be assigned between rounds; ``rounds``
    counts them.

    Raises ValueError or TypeError for a network or numbers that make no sense, and says what to do.
    """

    def __init__(
        self,
        model: nn.Sequential,
        loss: Any,
        *,
        variant: str = "matching",
        activation_lr: float,
        weight_lr: float,
        iterations: int = 10,
        anchor: str = "fixed",
        inner_step: float | Schedule = 1.0,
        inner: Callable[[list[nn.Parameter]], Optimizer] | None = None,
        executor: Executor | None = None,
        reduction: str = "mean",
    ):
        for name, given, choices in (
            ("variant", variant, tuple(VARIANTS)),
            ("anchor", anchor, ("fixed", "moving")),
            ("reduction", reduction, ("mean", "sum")),
        ):
            if given not in choices:
                raise ValueError(f"LocoProp: {name}={given!r}: choose {', '.join(map(repr, choices))}")
        for name, rate in (("activation_lr", activation_lr), ("weight_lr", weight_lr), ("inner_step", inner_step)):
            if not callable(rate) and not 0 < rate < math.inf:
                raise ValueError(f"LocoProp: {name}={rate!r}: expected a number greater than 0: try 0.1")
        if not isinstance(iterations, (int, np.integer)) or iterations < 1:
            raise ValueError(f"LocoProp: iterations={iterations!r}: expected a whole number from 1: try 10")
        if getattr(loss, "reduction", "mean") != "mean":
            raise ValueError(
                f"LocoProp: expected a loss that is the mean over the batch, got {loss!r}: make it with "
                f"reduction='mean', and choose by LocoProp(..., reduction='sum') how the local losses are combined"
            )
        self.model, self.loss, self.variant = model, loss, variant
        self.activation_lr, self.weight_lr, self.inner_step = activation_lr, weight_lr, inner_step
        self.iterations, self.anchor, self.reduction, self.executor = int(iterations), anchor, reduction, executor
        self.before, self.layers = _layers(model, loss)
        make = functools.partial(SGD, lr=1.0) if inner is None else inner
        self.optimizers = {layer.name: make(layer.parameters) for layer in self.layers}
        for optimizer in self.optimizers.values():
            if not isinstance(optimizer, Optimizer):
                raise TypeError(
                    f"LocoProp: expected inner to return an optimizer, got {optimizer!r}: try "
                    f"inner=lambda parameters: optim.Adam(parameters, lr=1e-3)"
                )
        self.rounds = 0
        self._problems: dict[str, Problem] = {}

    @property
    def untrained(self) -> list[str]:
        """The names of the parameters that no local problem changes, such as those of batch normalization."""
        trained = {id(layer.parameters[k]) for layer in self.layers for k in layer.trained}
        return [name for name, parameter in self.model.named_parameters() if id(parameter) not in trained]

    def step(self, x: Any, y: Any) -> float:
        """One round on a batch; returns the task loss before it.

        The weights of all layers are replaced together, at the end. Whatever is raised before leaves the model, its
        running statistics and generators and the inner optimizers as they were after the last round.

        Raises
        ------
        FloatingPointError
            If the loss, or what a layer arrived at, is not finite.
        concurrent.futures.BrokenExecutor
            If the executor died; the message says how to go on.
        """
        self._problems = {}
        with _unchanged_on_failure(self.model):
            value, problems = self._targets(x, y)
            solutions = dict(zip(problems, self._solve(problems), strict=True))
            for name, solution in solutions.items():
                if not all(np.isfinite(w).all() for w in solution.weights):
                    raise FloatingPointError(
                        f"LocoProp.step: the local steps of layer {name} diverged in round {self.rounds + 1}: try a "
                        f"smaller inner_step or weight_lr (at a fixed anchor inner_step (1 + weight_lr curvature) < 2)"
                    )
        for layer in self.layers:
            if layer.name in solutions:
                self._replace(layer, solutions[layer.name])
        self.rounds += 1
        self._problems = problems
        return value

    @property
    def local_losses(self) -> dict[str, np.ndarray]:
        """The local loss of each layer in the last round, by its name: before the first step and after each, (T + 1,).

        It is the distance from the target as the round combines it over the batch, plus |W~ - W|^2 / (2 eta) at a fixed
        anchor (LP-18 to LP-21); for "matching" without the constant F*(y), which may be infinite (L-8). To look at
        it costs another round, so that not to look costs nothing: the problems are solved again.
        """
        losses = {}
        for name, problem in self._problems.items():
            seen: list[float] = []

            def watch(weights: Sequence[Any], problem: Problem = problem, seen: list[float] = seen) -> None:
                seen.append(problem.loss(weights))

            solve(problem, watch)
            losses[name] = np.array(seen)
        return losses

    # One round, in the order of LP-27

    def _forward(self, x: Any) -> tuple[list[Activations], Tensor]:
        """Keep inputs, pre- and post-activations of each layer; the outputs of the network."""
        kept = []
        with no_grad():
            h = self.before(x)
        for layer in self.layers:
            with no_grad():
                a_hat = layer.affine(h).data
            y_hat = layer.f.forward(a_hat)
            leaf = Tensor(a_hat if layer.linked else y_hat, requires_grad=True)
            kept.append(Activations(h, a_hat, y_hat, leaf))
            h = layer.after(leaf)
        return kept, h

    def _targets(self, x: Any, y: Any) -> tuple[float, dict[str, Problem]]:
        """Forward, once backward from leaf to leaf, and the target and problem of each layer."""
        kept, outputs = self._forward(x)
        loss = self.loss(outputs, y)
        value = float(loss)
        if not math.isfinite(value):
            raise FloatingPointError(
                f"LocoProp.step: the loss is {value} in round {self.rounds + 1}: try smaller rates, and look whether "
                f"the samples hold nan or huge numbers"
            )
        loss.backward()
        scale = _scale(self.reduction, len(x))
        problems = {}
        for layer, at in reversed(list(zip(self.layers, kept, strict=True))):
            g: Any = at.leaf.grad
            g_a, g_y = (g, _through_link(layer.f, g, at)) if layer.linked else (layer.f.vjp(g, at.a_hat, at.y_hat), g)
            if at.inputs.requires_grad:
                affine: Any = layer.affine.operation
                row, *_ = affine.vjp(g_a, at.inputs.data, *layer.weights, at.a_hat, wanted=(True, False, False))
                at.inputs.backward(row)
            if layer.trained:
                target = VARIANTS[self.variant].target(at.a_hat, at.y_hat, g_a, g_y, self.activation_lr / scale)
                problems[layer.name] = self._problem(layer, at, target, scale)
        return value, dict(reversed(problems.items()))

    def _problem(self, layer: Layer, at: Activations, target: np.ndarray, scale: float) -> Problem:
        optimizer, trained = self.optimizers[layer.name], layer.trained
        rule, rates = copy.copy(optimizer), []
        for t in range(self.iterations):
            rule.steps = optimizer.steps + t
            rates.append(rule.lr * (self.inner_step(t) if callable(self.inner_step) else self.inner_step))
        rule.steps, rule.lr, rule.parameters, rule.state = optimizer.steps, 1.0, [], {}
        memory = tuple([arrays[k] for k in trained] for arrays in optimizer.state.values())
        return Problem(
            self.variant, layer.affine.operation, layer.f, at.inputs.data, target, layer.weights, trained, rule, memory,
            tuple(rates), self.weight_lr, self.anchor == "fixed", scale, kernels.backend(),
        )  # fmt: skip

    def _solve(self, problems: Mapping[str, Problem]) -> list[Solution]:
        """The solutions in the order of the layers, wherever they are found."""
        if self.executor is None:
            return [solve(problem) for problem in problems.values()]
        futures: list[Future[Solution]] = []
        try:
            with warnings.catch_warnings():  # Dask warns of tasks that carry much; these do, and outlive a worker
                warnings.filterwarnings("ignore", message="Sending large graph")
                for problem in problems.values():
                    futures.append(self.executor.submit(solve, problem))
            return [future.result() for future in futures]
        except (BrokenExecutor, CancelledError) as error:
            raise BrokenExecutor(
                f"LocoProp.step: the executor {type(self.executor).__name__} died in round {self.rounds + 1} "
                f"({type(error).__name__}): the model is as it was after round {self.rounds}; set trainer.executor to "
                f"a new executor, or to None, and call step again with the same batch"
            ) from error
        finally:
            for future in futures:
                future.cancel()

    def _replace(self, layer: Layer, solution: Solution) -> None:
        """Take over what a layer arrived at."""
        optimizer = self.optimizers[layer.name]
        for k, w in zip(layer.trained, solution.weights, strict=True):
            layer.parameters[k].data = np.require(w, requirements="W")  # other processes may send what is read-only
        for arrays, solved in zip(optimizer.state.values(), solution.memory, strict=True):
            for k, a in zip(layer.trained, solved, strict=True):
                arrays[k] = np.require(a, requirements="W")
        optimizer.steps += self.iterations

    # To go on later

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of what the inner optimizers remember, and the number of rounds; the weights are the model's own."""
        state = {
            f"{name}/{key}": array
            for name, optimizer in self.optimizers.items()
            for key, array in optimizer.state_dict().items()
        }
        return state | {"rounds": np.array(self.rounds)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from such a state, with the same bits; ValueError if it is that of another kind of trainer."""
        parts: dict[str, dict[str, Any]] = {name: {} for name in self.optimizers}
        for key, array in state.items():
            name, _, rest = key.partition("/")
            if rest:
                parts.setdefault(name, {})[rest] = array
        if parts.keys() != self.optimizers.keys() or "rounds" not in state:
            raise ValueError(
                f"LocoProp.load_state_dict: expected the layers {', '.join(self.optimizers)} and rounds, got "
                f"{', '.join(state)}: make the trainer as it was when it was saved"
            )
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(parts[name])
        self.rounds = int(state["rounds"])

    def __repr__(self) -> str:
        return (
            f"LocoProp({self.variant!r}, {len(self.layers)} layers, activation_lr={self.activation_lr:g}, "
            f"weight_lr={self.weight_lr:g}, iterations={self.iterations}, anchor={self.anchor!r}, {self.rounds} rounds)"
        )


def _through_link(f: Operation, g_a: np.ndarray, at: Activations) -> np.ndarray:
    """A g_y with g_y J_f = g_a, where the loss applies f: 0 where f is flat, and no g_y would do.

    For softmax it is g_a / p, as the entries of g_a sum to 0.
    """
    slope = at.y_hat if isinstance(f, Softmax) else f.vjp(np.ones_like(g_a), at.a_hat, at.y_hat)
    g_y: np.ndarray = np.divide(g_a, slope, out=np.zeros_like(g_a), where=slope != 0)
    return g_y


@contextlib.contextmanager
def _unchanged_on_failure(model: nn.Module) -> Iterator[None]:
    """Set running statistics and generators back if the block raises: a forward pass has moved them."""
    buffers = [(module, name, getattr(module, name).copy()) for module in model.modules() for name in module.buffers]
    states = [(generator, generator.bit_generator.state) for generator in model.generators()]
    try:
        yield
    except BaseException:
        for module, name, array in buffers:
            setattr(module, name, array)
        for generator, state in states:
            generator.bit_generator.state = state
        raise


# Which layers a network has ---------------------------------------------------------------------------------


def _layers(model: Any, loss: Any) -> tuple[nn.Sequential, list[Layer]]:
    """The layers before the first affine one, and the affine ones with what follows each."""
    if not isinstance(model, nn.Sequential):
        raise TypeError(
            f"LocoProp: expected nn.Sequential, got {type(model).__name__}: its affine layers have to be told apart; "
            f"write the network as a Sequential of layers"
        )
    before: dict[str, nn.Module] = {}
    parts: list[tuple[str, Any, dict[str, nn.Module]]] = []
    for name, layer in _flat(model):
        if _is_affine(layer):
            parts.append((name, layer, {}))
            continue
        hidden = [type(module).__name__ for module in layer.modules() if isinstance(module, nn.Weighted)]
        if hidden:
            raise ValueError(
                f"LocoProp: layer {name}, {type(layer).__name__}, holds weights ({', '.join(hidden)}) that no local "
                f"problem would train: make it of nn.Linear, nn.Conv2d and layers without weights, in Sequentials"
            )
        (parts[-1][2] if parts else before)[name] = layer
    if not parts:
        raise ValueError("LocoProp: the network has no affine layer to train: put nn.Linear or nn.Conv2d into it")
    layers = []
    for name, affine, after in parts:
        if affine.quantizer is not None:
            raise ValueError(f"LocoProp: layer {name} has a quantizer, and its outputs are not linear in its weights")
        first = next(iter(after.values()), None)
        f = None if first is None else _transfer_function(first)
        linked = affine is parts[-1][1] and not after
        if f is not None:
            del after[next(iter(after))]
        layers.append(Layer(name, affine, f or (_link(loss) if linked else IDENTITY), linked, _sequential(after)))
    if len({id(parameter) for layer in layers for parameter in layer.parameters}) < sum(
        len(layer.parameters) for layer in layers
    ):
        raise ValueError("LocoProp: two layers share a weight, and each would change it: give each its own")
    return _sequential(before), layers


def _flat(model: nn.Sequential, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The layers in order, those of a Sequential inside in its place."""
    for name, layer in model.children():
        if isinstance(layer, nn.Sequential):
            yield from _flat(layer, f"{prefix}{name}.")
        else:
            yield prefix + name, layer


def _sequential(layers: dict[str, nn.Module]) -> nn.Sequential:
    part = nn.Sequential()
    part.layers = layers
    return part


def _is_affine(layer: nn.Module) -> bool:
    """Whether it computes what nn.Linear or nn.Conv2d do, and not something of its own."""
    return any(isinstance(layer, kind) and type(layer).forward is kind.forward for kind in (nn.Linear, nn.Conv2d))


IDENTITY = transfer.Linear().operation
LINKS: dict[type[Any], transfer.TransferFunction] = {
    CrossEntropy: transfer.Softmax(),
    BinaryCrossEntropy: transfer.Sigmoid(),
    SquaredError: transfer.Linear(),
}
"""The transfer function that a loss applies to the pre-activations of the last layer."""


def _transfer_function(layer: nn.Module) -> Operation | None:
    """The transfer function that a layer is, None if it is none: an entrywise function, softmax or the identity."""
    if type(layer) is nn.Identity:
        return IDENTITY
    if isinstance(layer, nn.Function) and type(layer).forward is nn.Function.forward:
        operation = layer.operation
        return operation if isinstance(operation, (Elementwise, Softmax)) else None
    return None


def _link(loss: Any) -> Operation:
    """The transfer function of a loss; that of a `MatchingLoss` is its own."""
    f = LINKS.get(type(loss), getattr(loss, "transfer", None))
    if isinstance(f, transfer.TransferFunction):
        return f.operation
    raise ValueError(
        f"LocoProp: no transfer function is the link of {loss!r}, which the last layer would take: put one behind that "
        f"layer (nn.Identity() if it has none), or train by MatchingLoss(transfer), whose link is its transfer function"
    )
