"""A perceptron on the embedded digits, trained layer by layer by LocoProp, on whatever executor.

64-128-64-10 with tanh under softmax and cross-entropy. The rates of each variant, in `RATES`, were chosen on the
validation set alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import data, nn
from ..locoprop import LocoProp
from ..losses import CrossEntropy
from ..training import evaluate

__all__ = ["RATES", "Epoch", "Result", "network", "run"]

RATES: dict[str, tuple[float, float]] = {
    "squared-pre": (10.0, 0.03),
    "squared-post": (3.0, 0.1),
    "matching": (3.0, 0.1),
    "dual": (3.0, 0.1),
}
"""``activation_lr`` and ``weight_lr`` for each variant, of 16 pairs those of the least validation error."""


def network(seed: int | np.random.Generator = 0, dtype: Any = np.float32) -> nn.Sequential:
    """(N, 1, 8, 8) to logits (N, 10)."""
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 128, init="glorot_uniform"),
        nn.Tanh(),
        nn.Linear(128, 64, init="glorot_uniform"),
        nn.Tanh(),
        nn.Linear(64, 10, init="glorot_uniform"),
    )
    return model.reset(seed).astype(dtype)


@dataclass(frozen=True)
class Epoch:
    """What an epoch of rounds did: the mean of the losses before them, and the validation error after the last."""

    epoch: int
    rounds: int
    loss: float
    validation_error: float
    seconds: float


@dataclass
class Result:
    """A network trained layer by layer, and how it does on the test set, which nothing else has seen."""

    seed: int
    variant: str
    model: nn.Sequential
    trainer: LocoProp
    epochs: list[Epoch] = field(default_factory=list)
    test_loss: float = np.nan
    test_error: float = np.nan

    @property
    def seconds(self) -> float:
        """The time of all epochs."""
        return sum(epoch.seconds for epoch in self.epochs)

    def as_dict(self) -> dict[str, Any]:
        """The numbers for JSON."""
        return {
            "experiment": "layerwise",
            "seed": self.seed,
            "variant": self.variant,
            "anchor": self.trainer.anchor,
            "activation_lr": self.trainer.activation_lr,
            "weight_lr": self.trainer.weight_lr,
            "iterations": self.trainer.iterations,
            "rounds": self.trainer.rounds,
            "test_accuracy": 1 - self.test_error,
            "test_error": self.test_error,
            "test_loss": self.test_loss,
            "seconds": self.seconds,
            "loss": [epoch.loss for epoch in self.epochs],
            "validation_error": [epoch.validation_error for epoch in self.epochs],
        }


def run(
    seed: int = 0,
    *,
    variant: str = "matching",
    epochs: int = 20,
    iterations: int = 10,
    executor: Executor | None = None,
    dtype: Any = np.float32,
    watch: Callable[[Epoch], Any] | None = None,
) -> Result:
    """Train on mini-batches of 64 for so many epochs, and test; ``watch`` is shown each epoch when it is over.

    The seed draws weights and order; the split of the data stays, and the executor changes no bits. Raises ValueError
    for a variant that there is not and for ``epochs`` or ``iterations`` under 1.
    """
    if variant not in RATES or epochs < 1:
        raise ValueError(f"layerwise: variant={variant!r}, epochs={epochs!r}: choose {', '.join(RATES)}, and 1 or more")
    train, validation, test = data.digits(dtype)
    model, loss = network(seed, dtype), CrossEntropy()
    gamma, eta = RATES[variant]
    trainer = LocoProp(
        model, loss, variant=variant, activation_lr=gamma, weight_lr=eta, iterations=iterations, executor=executor
    )
    result = Result(seed, variant, model, trainer)
    rng = np.random.default_rng(seed)
    for number in range(1, epochs + 1):
        started = time.perf_counter()
        risks = [trainer.step(x, y) * len(y) for x, y in data.batches(train, 64, rng)]
        seconds = time.perf_counter() - started
        _, error = evaluate(model, loss, validation)
        result.epochs.append(Epoch(number, trainer.rounds, sum(risks) / len(train), error, seconds))
        if watch is not None:
            watch(result.epochs[-1])
    result.test_loss, result.test_error = evaluate(model, loss, test)
    return result
