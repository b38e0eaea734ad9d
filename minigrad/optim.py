"""Optimizers: one step of descent for the parameters of a network, and schedules for its rate and momentum.

A schedule is a function of the step t, counted from 0. Wherever an optimizer takes a learning rate, or SGD a
momentum, it takes a number or a schedule.

Letters: ``w`` a parameter, ``g`` its gradient (weight decay included), ``v`` its velocity, ``t`` the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from . import kernels
from .tensor import Tensor

__all__ = [
    "SGD", "Adam", "LinearDecay", "MomentumSchedule", "Optimizer", "RMSprop", "ReduceOnPlateau", "WarmupLinear",
]  # fmt: skip

Schedule = Callable[[int], float]


class Optimizer:
    """What all optimizers share: the parameters, the rate, the count of steps and the arrays of their memory.

    A subclass names the arrays that it keeps for each parameter in ``memory`` and writes ``update``, which
    changes one parameter in place, or ``descend``, which changes all of them. The learning rate ``lr`` can
    be assigned at any time: a number, or a schedule.

    Raises ValueError for parameters or numbers that make no sense, and in `step` where a gradient is missing.
    """

    memory: ClassVar[tuple[str, ...]] = ()

    def __init__(self, parameters: Iterable[Tensor], lr: float | Schedule, weight_decay: float = 0.0):
        self.parameters = self._checked(parameters)
        self.steps = 0
        self.lr = lr
        self.weight_decay = self._within("weight_decay", weight_decay, 0, math.inf)
        self.state = {name: [np.zeros_like(p.data) for p in self.parameters] for name in self.memory}

    def _checked(self, parameters: Iterable[Tensor]) -> list[Tensor]:
        who = type(self).__name__
        if isinstance(parameters, Tensor) or not isinstance(parameters, Iterable):
            raise TypeError(f"{who}: expected parameters, got {type(parameters).__name__}: pass model.parameters()")
        listed = list(parameters)
        if not listed:
            raise ValueError(f"{who}: no parameters to train: pass model.parameters() of a network that has some")
        for k, p in enumerate(listed):
            if not isinstance(p, Tensor) or p.op is not None:
                what = "the result of an operation" if isinstance(p, Tensor) else f"a {type(p).__name__}"
                raise TypeError(f"{who}: parameter {k} is {what}: pass nn.Parameter or other leaves of the graph")
        if len({id(p) for p in listed}) < len(listed):
            raise ValueError(f"{who}: a parameter is listed twice and would be updated twice: pass it once")
        return listed

    def _within(self, name: str, value: Any, least: float, below: float) -> float:
        if not (isinstance(value, (int, float, np.number)) and least <= value < below):
            raise ValueError(f"{type(self).__name__}: {name}={value!r}: expected a number in [{least:g}, {below:g})")
        return float(value)

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return self._within("lr", self._lr(self.steps), 0, math.inf) if callable(self._lr) else self._lr

    @lr.setter
    def lr(self, lr: float | Schedule) -> None:
        if not callable(lr):
            lr = self._within("lr", lr, 0, math.inf)
            if lr == 0:
                raise ValueError(f"{type(self).__name__}: lr=0 would change nothing: take a number greater than 0")
        self._lr = lr

    @property
    def scheduled(self) -> bool:
        """Whether the learning rate follows a schedule."""
        return callable(self._lr)

    def step(self) -> None:
        """Change every parameter that is not frozen by its ``.grad``; all or, if one has no gradient, none."""
        trained = [(k, p) for k, p in enumerate(self.parameters) if p.requires_grad]
        for k, p in trained:
            if p.grad is None:
                raise ValueError(
                    f"{type(self).__name__}.step: parameter {k} ({p.name or 'no name'}, {p.shape}) has no gradient: "
                    f"call backward() on a loss that depends on it, or freeze it by requires_grad = False"
                )
        self.descend(
            [p.data for _, p in trained],
            [p.grad for _, p in trained],
            *([arrays[k] for k, _ in trained] for arrays in self.state.values()),
        )
        self.steps += 1

    def descend(self, weights: list[Any], gradients: list[Any], *memory: list[Any]) -> None:
        """Change the weights and what is kept for them in place, and leave the gradients as they are."""
        self.begin_step()
        for w, g, *kept in zip(weights, gradients, *memory, strict=True):
            self.update(w, g + self.weight_decay * w if self.weight_decay else g, np.empty_like(w), *kept)

    def begin_step(self) -> None:
        """Compute the numbers that all parameters share in this step."""

    def update(self, w: np.ndarray, g: np.ndarray, s: np.ndarray, *memory: np.ndarray) -> None:
        """Change one w and what is kept for it in place; g stays as it is, s is scratch of the same shape."""
        raise NotImplementedError

    def zero_grad(self) -> None:
        """Forget the gradients. `Tensor.backward` sets them anew anyway; before that, their memory serves others."""
        for p in self.parameters:
            p.grad = None

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all that a later optimizer needs to go on with the same bits: arrays, and numbers as arrays."""
        state = {f"{name}.{k}": a.copy() for name, arrays in self.state.items() for k, a in enumerate(arrays)}
        state["steps"] = np.array(self.steps)
        if not callable(self._lr):
            state["lr"] = np.array(self._lr)
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over such a state; ValueError, and no change, if it belongs to other parameters or another kind."""
        mine, given = ({name: np.shape(a) for name, a in one.items()} for one in (self.state_dict(), state))
        wrong = [name for name in {**mine, **given} if mine.get(name) != given.get(name)]
        if wrong:
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: {', '.join(wrong)} missing, unexpected or of another shape: "
                f"make the optimizer as it was when it was saved"
            )
        for name, arrays in self.state.items():
            for k, a in enumerate(arrays):
                a[...] = state[f"{name}.{k}"]
        self.steps = int(state["steps"])
        if "lr" in state:
            self.lr = float(state["lr"])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.parameters)} parameters, lr={self.lr:g}, {self.steps} steps)"


class SGD(Optimizer):
    """Descent with momentum: v <- mu_t v - lr g, w <- w + v, from v = 0, t = 0 (TC-16, Tomasi 2019, section
    4).

    The learning rate stands inside v (T-14): when it is lowered, the old velocity keeps its size. PyTorch
    keeps it outside; with a constant rate both are the same. ``momentum`` is a number in [0, 1) or a schedule
    such as `MomentumSchedule`; ``nesterov`` moves by mu_t v - lr g with the new v, as PyTorch does.
    ``weight_decay`` adds weight_decay w to the gradient. Without momentum nothing is kept.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float | Schedule,
        momentum: float | Schedule = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ):
        self.momentum = momentum if callable(momentum) else self._within("momentum", momentum, 0, 1)
        if nesterov and not momentum:
            raise ValueError("SGD: nesterov=True without momentum is plain descent: give a momentum such as 0.9")
        self.nesterov = nesterov
        if momentum:
            self.memory = ("velocity",)  # type: ignore[misc]  # plain descent keeps nothing
        super().__init__(parameters, lr, weight_decay)

    def descend(self, weights: list[Any], gradients: list[Any], *memory: list[Any]) -> None:
        mu = self.momentum
        if callable(mu):
            mu = self._within("momentum", mu(self.steps), 0, 1)
        velocities = memory[0] if memory else None
        kernels.sgd(weights, gradients, velocities, self.lr, mu, self.weight_decay, self.nesterov)


class RMSprop(Optimizer):
    """w <- w - lr g / (sqrt(q) + eps), q <- alpha q + (1 - alpha) g^2 from q = 0: PyTorch's definition.

    With ``momentum`` mu it is v <- mu v - lr g / (sqrt(q) + eps), w <- w + v from v = 0: the learning rate stands
    inside v, as in `SGD`; PyTorch keeps it outside, and with a constant rate both are the same. ``initial`` is where
    q begins, and ``eps_inside=True`` takes sqrt(q + eps) for sqrt(q) + eps. TensorFlow's first definition has
    initial=1.0 and eps_inside=True; the local steps of LocoProp are published with it (Amid et al. 2022).
    """

    memory: ClassVar[tuple[str, ...]] = ("square",)

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float | Schedule = 0.01,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        *,
        initial: float = 0.0,
        eps_inside: bool = False,
    ):
        self.alpha = self._within("alpha", alpha, 0, 1)
        self.eps = self._within("eps", eps, 0, math.inf)
        self.momentum = self._within("momentum", momentum, 0, 1)
        self.eps_inside = eps_inside
        if momentum:
            self.memory = ("square", "velocity")  # type: ignore[misc]  # without momentum there is none to keep
        super().__init__(parameters, lr, weight_decay)
        for q in self.state["square"]:
            q[...] = self._within("initial", initial, 0, math.inf)

    def begin_step(self) -> None:
        self._now = self.lr

    def update(self, w: np.ndarray, g: np.ndarray, s: np.ndarray, *memory: np.ndarray) -> None:
        q, *velocity = memory
        q *= self.alpha
        np.multiply(g, g, out=s)
        s *= 1 - self.alpha
        q += s
        if self.eps_inside:
            np.sqrt(np.add(q, self.eps, out=s), out=s)
        else:
            np.sqrt(q, out=s)
            s += self.eps
        np.divide(g, s, out=s)
        s *= self._now
        if not velocity:
            w -= s
            return
        (v,) = velocity
        v *= self.momentum
        v -= s
        w += v


class Adam(Optimizer):
    """w <- w - lr m' / (sqrt(q') + eps), m' and q' the means of g and g^2 without their bias: PyTorch's
    definition.

    m <- b1 m + (1 - b1) g and q <- b2 q + (1 - b2) g^2 from 0; m' = m / (1 - b1^n) and q' = q / (1 - b2^n) in
    the n-th step, counted from 1; ``betas`` = (b1, b2). ``weight_decay`` adds weight_decay w to the gradient.
    """

    memory = ("mean", "square")

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float | Schedule = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        b1, b2 = betas
        self.betas = self._within("betas[0]", b1, 0, 1), self._within("betas[1]", b2, 0, 1)
        self.eps = self._within("eps", eps, 0, math.inf)
        super().__init__(parameters, lr, weight_decay)

    def begin_step(self) -> None:
        b1, b2 = self.betas
        n = self.steps + 1
        self._now = self.lr / (1 - b1**n), math.sqrt(1 - b2**n)

    def update(self, w: np.ndarray, g: np.ndarray, s: np.ndarray, *memory: np.ndarray) -> None:
        m, q = memory
        b1, b2 = self.betas
        rate, root = self._now
        m *= b1
        m += np.multiply(g, 1 - b1, out=s)
        q *= b2
        np.multiply(g, g, out=s)
        s *= 1 - b2
        q += s
        np.sqrt(q, out=s)
        s /= root
        s += self.eps
        np.divide(m, s, out=s)
        s *= rate
        w -= s


# Schedules --------------------------------------------------------------------------------------------------


class MomentumSchedule:
    """mu_t = min(1 - 1 / (2 (floor(t / period) + 1)), maximum) (TC-17, Tomasi 2019, figure 4).

    .5, .75, .8333, .875, .9, ... each for ``period`` steps. The source draws the curve (T-13); its formula,
    written with log2 there, is the rational one here, which is exact.
    """

    def __init__(self, maximum: float = 0.99, period: int = 250):
        if not 0 <= maximum < 1 or period < 1 or int(period) != period:
            raise ValueError(
                f"MomentumSchedule: maximum={maximum!r}, period={period!r}: take a maximum in [0, 1) and a whole "
                f"number of steps from 1"
            )
        self.maximum, self.period = maximum, period

    def __call__(self, t: int) -> float:
        return min(1 - 1 / (2 * (t // self.period + 1)), self.maximum)

    def __repr__(self) -> str:
        return f"MomentumSchedule(maximum={self.maximum!r}, period={self.period!r})"


class WarmupLinear:
    """A learning rate that rises linearly to ``maximum`` in ``warmup`` steps, then falls linearly to 0 at
    ``total``.

    maximum (t + 1) / warmup for t < warmup, then maximum (total - t) / (total - warmup), and 0 from ``total``
    on.
    """

    def __init__(self, maximum: float, warmup: int, total: int):
        if not (0 < maximum < math.inf and 0 <= warmup < total):
            raise ValueError(
                f"WarmupLinear: maximum={maximum!r}, warmup={warmup!r}, total={total!r}: take a rate greater than 0 "
                f"and 0 <= warmup < total steps"
            )
        self.maximum, self.warmup, self.total = maximum, warmup, total

    def __call__(self, t: int) -> float:
        if t < self.warmup:
            return self.maximum * (t + 1) / self.warmup
        return self.maximum * max(self.total - t, 0) / (self.total - self.warmup)

    def __repr__(self) -> str:
        return f"WarmupLinear(maximum={self.maximum!r}, warmup={self.warmup!r}, total={self.total!r})"


class LinearDecay:
    """maximum max(1 - t / total, least): a straight fall from ``maximum`` that ends at the fraction ``least`` of it.

    ``LinearDecay(1.0, T)`` is the factor of the T local iterations of LocoProp as published (Amid et al. 2022).
    """

    def __init__(self, maximum: float, total: int, least: float = 0.25):
        if not (0 < maximum < math.inf and total >= 1 and 0 <= least <= 1):
            raise ValueError(
                f"LinearDecay: maximum={maximum!r}, total={total!r}, least={least!r}: take a rate greater than 0, at "
                f"least 1 step, and a fraction from 0 to 1"
            )
        self.maximum, self.total, self.least = maximum, total, least

    def __call__(self, t: int) -> float:
        return self.maximum * max(1 - t / self.total, self.least)

    def __repr__(self) -> str:
        return f"LinearDecay(maximum={self.maximum!r}, total={self.total!r}, least={self.least!r})"


class ReduceOnPlateau:
    """By what to multiply the learning rate after an epoch: ``optimizer.lr *= plateau(loss)`` (TC-18).

    The answer is ``factor`` when the loss has not fallen below the best one by the fraction ``threshold`` of
    it for more than ``patience`` epochs, which are then counted anew, else 1. Tomasi (2019, section 4)
    divides by 10 when the loss plateaus and leaves the test of that open (T-21); this one is PyTorch's.
    """

    def __init__(self, factor: float = 0.1, patience: int = 10, threshold: float = 1e-4):
        if not (0 < factor < 1 and patience >= 0 and threshold >= 0):
            raise ValueError(
                f"ReduceOnPlateau: factor={factor!r}, patience={patience!r}, threshold={threshold!r}: take a factor "
                f"between 0 and 1, and patience and threshold from 0"
            )
        self.factor, self.patience, self.threshold = factor, patience, threshold
        self.best = math.inf
        self.waited = 0

    def __call__(self, loss: float) -> float:
        if self.best == math.inf or loss < self.best - self.threshold * abs(self.best):
            self.best, self.waited = loss, 0
        else:
            self.waited += 1
        if self.waited <= self.patience:
            return 1.0
        self.waited = 0
        return self.factor

    def state_dict(self) -> dict[str, np.ndarray]:
        """What has been seen: the best loss, and the epochs since."""
        return {"best": np.array(self.best), "waited": np.array(self.waited)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from such a state."""
        self.best, self.waited = float(state["best"]), int(state["waited"])

    def __repr__(self) -> str:
        return f"ReduceOnPlateau(factor={self.factor!r}, patience={self.patience!r}, threshold={self.threshold!r})"
