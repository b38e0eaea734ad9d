"""A small convolutional network on the embedded digits, trained as Tomasi (2019), sections 4 and 5,
describes.

Momentum follows the schedule of figure 4 (TC-17), the learning rate is divided by 10 when the loss stops
falling (TC-18), dropout thins the network (TC-22), and early stopping on the validation error chooses the
weights (TC-21). What the source leaves open (sizes, rates, patience) was
chosen on the validation set alone.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import data, nn
from ..losses import CrossEntropy
from ..optim import SGD, MomentumSchedule, ReduceOnPlateau
from ..training import History, evaluate, fit

__all__ = ["Result", "network", "run"]


def network(seed: int | np.random.Generator = 0, dtype: Any = np.float32) -> nn.Sequential:
    """Two convolutions and a pool, one more and a pool, a linear read-out: (N, 1, 8, 8) to logits (N, 10)."""
    model = nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(64 * 2 * 2, 10),
    )
    return model.reset(seed).astype(dtype)


@dataclass
class Result:
    """A trained network, how it was trained, and how it does on the test set, which nothing else has seen."""

    seed: int
    model: nn.Sequential
    history: History
    test_loss: float
    test_error: float
    seconds: float

    @property
    def parameters(self) -> int:
        """How many numbers were trained."""
        return sum(p.size for p in self.model.parameters())

    def as_dict(self) -> dict[str, Any]:
        """The numbers for JSON."""
        best = self.history.best_epoch
        return {
            "experiment": "digits",
            "seed": self.seed,
            "test_accuracy": 1 - self.test_error,
            "test_error": self.test_error,
            "test_loss": self.test_loss,
            "best_validation_error": None if best is None else self.history.validation_error[best - 1],
            "parameters": self.parameters,
            "seconds": self.seconds,
            "history": self.history.as_dict(),
        }


def run(
    seed: int = 0,
    *,
    epochs: int = 40,
    dtype: Any = np.float32,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool | None = None,
) -> Result:
    """Train the network and test it. The seed draws weights, masks and order; the split of the data stays."""
    started = time.perf_counter()
    train, validation, test = data.digits(dtype)
    model, loss = network(seed, dtype), CrossEntropy()
    optimizer = SGD(model.parameters(), lr=0.05, momentum=MomentumSchedule(maximum=0.9))
    history = fit(
        model, loss, optimizer, train, validation,
        epochs=epochs, batch_size=32, seed=seed, patience=8, plateau=ReduceOnPlateau(factor=0.1, patience=3),
        checkpoint=checkpoint, resume=resume, progress=progress,
    )  # fmt: skip
    test_loss, test_error = evaluate(model, loss, test)
    return Result(seed, model, history, test_loss, test_error, time.perf_counter() - started)
