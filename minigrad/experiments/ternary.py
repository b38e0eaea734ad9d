"""Ternary weights and quantized outputs on the embedded digits: how little a network needs (IP-05, IP-06).

The network of `experiments.digits` is trained with float weights, and from there trained on with weights in {0, alpha,
-alpha}, at least three quarters of them 0, and, if asked for, outputs of a few bits. The gradient is that of the
straight-through estimator; the float weights under the ternary ones are what it moves. Whether a layer or each of its
filters has an alpha is chosen, like everything else here, on the validation set alone.

``python -m minigrad.experiments.ternary`` prints the table.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import data, nn
from ..losses import CrossEntropy
from ..optim import Adam, ReduceOnPlateau
from ..training import History, evaluate, fit
from . import digits

__all__ = ["Result", "network", "run", "zeros"]


def network(
    source: nn.Sequential, sparsity: float, per: str, bits: int | None = None, seed: int = 0
) -> nn.Sequential:
    """A copy of a float network with ternary weights, and with outputs of ``bits`` bits behind each ReLU."""
    layers: list[nn.Module] = []
    for layer, trained in zip(digits.network(seed, source.parameters()[0].dtype), source, strict=True):
        layer.load_state_dict(trained.state_dict())
        layers.append(layer)
        if bits is not None and isinstance(layer, nn.ReLU):
            layers.append(nn.Quantize(bits, low=0.0))
    return nn.ternary(nn.Sequential(*layers), sparsity, per)


def zeros(model: nn.Module) -> dict[str, float]:
    """The fraction of weights that are 0, layer by layer."""
    layers = ((name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Weighted))
    return {name: float(np.mean(layer.effective_weight.data == 0)) for name, layer in layers}


@dataclass
class Result:
    """A float network and the ternary one made from it, and how both do on the test set."""

    seed: int
    sparsity: float
    per: str
    bits: int | None
    model: nn.Sequential
    history: History
    float_error: float
    rounded_error: float
    test_error: float
    seconds: float
    zeros: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The numbers for JSON."""
        best = self.history.best_epoch
        return {
            "experiment": "ternary",
            "seed": self.seed,
            "sparsity": self.sparsity,
            "per": self.per,
            "bits": self.bits,
            "float_accuracy": 1 - self.float_error,
            "rounded_accuracy": 1 - self.rounded_error,
            "test_accuracy": 1 - self.test_error,
            "best_validation_error": None if best is None else self.history.validation_error[best - 1],
            "zeros": self.zeros,
            "seconds": self.seconds,
        }

    def __str__(self) -> str:
        outputs = "" if self.bits is None else f", outputs of {self.bits} bits"
        fewest = min(self.zeros.values())
        return "\n".join(
            (
                f"digits, seed {self.seed}: weights in {{0, alpha, -alpha}}, an alpha for each {self.per}{outputs}",
                f"  float network               {1 - self.float_error:.2%} test accuracy",
                f"  its weights made ternary    {1 - self.rounded_error:.2%}",
                f"  and trained on              {1 - self.test_error:.2%}",
                f"  zeros in each layer         {fewest:.2%} or more",
                f"  seconds                     {self.seconds:.1f}",
            )
        )


def run(
    seed: int = 0,
    *,
    sparsity: float = 0.75,
    bits: int | None = None,
    epochs: int = 12,
    dtype: Any = np.float32,
    progress: bool | None = None,
) -> Result:
    """Train a float network, then ternary ones from it; the one of smallest validation error is tested."""
    started = time.perf_counter()
    train, validation, test = data.digits(dtype)
    train = digits.moved(train)
    loss, source = CrossEntropy(), digits.run(seed, dtype=dtype, progress=progress)
    tried: dict[str, tuple[nn.Sequential, History]] = {}
    for per in ("layer", "filter"):
        model = network(source.model, sparsity, per, bits, seed)
        history = fit(
            model, loss, Adam(model.parameters(), lr=0.001), train, validation,
            epochs=epochs, batch_size=40, seed=seed, patience=4, plateau=ReduceOnPlateau(factor=0.1, patience=1),
            progress=progress,
        )  # fmt: skip
        tried[per] = model, history

    def rank(per: str) -> tuple[float, float]:
        history = tried[per][1]
        best = (history.best_epoch or 1) - 1
        return history.validation_error[best], history.validation_loss[best]

    per = min(tried, key=rank)
    model, history = tried[per]
    _, rounded_error = evaluate(network(source.model, sparsity, per), loss, test)
    _, test_error = evaluate(model, loss, test)
    return Result(
        seed, sparsity, per, bits, model, history, source.test_error, rounded_error, test_error,
        time.perf_counter() - started, zeros(model),
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the experiment and print its table; returns the exit status."""
    parser = argparse.ArgumentParser("python -m minigrad.experiments.ternary", description=run.__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of weights, masks and order (default 0)")
    parser.add_argument("--sparsity", type=float, default=0.75, help="the least fraction of zeros (default 0.75)")
    parser.add_argument("--bits", type=int, help="of the outputs behind each ReLU (default: float)")
    parser.add_argument("--epochs", type=int, default=12, help="at most so many of each ternary network (default 12)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(arguments)
    result = run(options.seed, sparsity=options.sparsity, bits=options.bits, epochs=options.epochs)
    print(json.dumps(result.as_dict(), indent=2) if options.json else result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
