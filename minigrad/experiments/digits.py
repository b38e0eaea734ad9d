"""A small convolutional network on the embedded digits, trained as Tomasi (2019), sections 4 and 5,
describes, with any of the losses.

Momentum follows the schedule of figure 4 (TC-17), the learning rate is divided by 10 when the loss stops
falling (TC-18), dropout thins the network (TC-22), and early stopping on the validation error chooses the
weights (TC-21). Two more things count where samples are few: batch normalization behind each convolution, as
in Keren et al. 2018 (LS-22), and digits that are moved by a pixel, which are still the same digits. What the
sources leave open (sizes, rates, patience) was chosen without a look at the test set; `RECIPES` has the
choice for each loss, and `choose` repeats it.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import data, nn
from ..losses import (
    BatchCrossEntropy,
    BatchMaxMargin,
    BinaryCrossEntropy,
    ComplementaryCrossEntropy,
    CrossEntropy,
    IncorrectLogOddsLSE,
    IncorrectLogOddsPower,
    IncorrectProbabilityLoss,
    LogOdds,
    LogSumInverseProbability,
    Loss,
    MaxMargin,
    NoiseContrastiveEstimation,
    SelfNormalizedCrossEntropy,
    SquaredError,
)
from ..metrics import single_logit_report
from ..operation import registry
from ..optim import SGD, MomentumSchedule, ReduceOnPlateau
from ..tensor import no_grad
from ..training import History, evaluate, fit

if TYPE_CHECKING:
    from ..tables import Table

__all__ = [
    "RATES", "RECIPES", "Comparison", "Recipe", "Result", "Trial", "choose", "compare_losses", "network", "recipe",
    "run",
]  # fmt: skip

CLASSES = 10
RATES = (1.0, 0.1, 0.05, 0.01, 0.001)
"""The learning rates to choose from, those of Keren et al. 2018 (LS-22) and one more."""


class OnOneHot:
    """A loss of targets as a loss of labels: it sees one-hot rows."""

    def __init__(self, loss: Loss):
        self.loss = loss

    def __call__(self, outputs: Any, labels: Any) -> Any:
        return self.loss(outputs, data.one_hot(labels, CLASSES, outputs.dtype))

    def __repr__(self) -> str:
        return f"{self.loss!r} on one-hot targets"


class WithCrossEntropy:
    """Cross-entropy with one more term."""

    def __init__(self, term: Loss):
        self.cross_entropy, self.term = CrossEntropy(), term

    def __call__(self, logits: Any, labels: Any) -> Any:
        return self.cross_entropy(logits, labels) + self.term(logits, labels)

    def __repr__(self) -> str:
        return f"{self.cross_entropy!r} + {self.term!r}"


@dataclass(frozen=True)
class Recipe:
    """How a loss trains the network: ``make(**settings)`` and a learning rate.

    ``settings`` and ``lr`` are what `choose` found best among the settings in ``grid`` and `RATES`.
    """

    make: Callable[..., Any]
    lr: float = 0.05
    settings: Mapping[str, Any] = field(default_factory=dict)
    grid: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def loss(self) -> Any:
        """The loss, a function of logits (N, 10) and labels (N,)."""
        return self.make(**self.settings)

    def candidates(self) -> list[Recipe]:
        """Every combination of the settings with every rate, in the order of the grid, large rates first."""
        settings = [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]
        return [Recipe(self.make, lr, chosen, self.grid) for chosen in settings for lr in RATES]


RECIPES: dict[str, Recipe] = {
    "squared_error": Recipe(lambda: OnOneHot(SquaredError()), lr=0.01),
    "cross_entropy": Recipe(CrossEntropy),
    "max_margin": Recipe(MaxMargin, lr=0.1),
    "self_normalized_cross_entropy": Recipe(
        SelfNormalizedCrossEntropy, settings={"alpha": 0.01}, grid={"alpha": (1.0, 0.1, 0.01)}
    ),
    "noise_contrastive_estimation": Recipe(
        lambda num_samples: NoiseContrastiveEstimation(np.full(CLASSES, 1 / CLASSES), num_samples),
        lr=0.1,
        settings={"num_samples": 1},
        grid={"num_samples": (1, 10, 100)},
    ),
    "binary_cross_entropy": Recipe(BinaryCrossEntropy),
    "batch_cross_entropy": Recipe(BatchCrossEntropy),
    "batch_max_margin": Recipe(BatchMaxMargin),
    "complementary_cross_entropy": Recipe(
        lambda coefficient: WithCrossEntropy(ComplementaryCrossEntropy(coefficient)),
        settings={"coefficient": 0.01},
        grid={"coefficient": (0.1, 0.01)},
    ),
    "log_odds": Recipe(
        lambda coefficient: WithCrossEntropy(LogOdds(coefficient)),
        settings={"coefficient": -0.01},
        grid={"coefficient": (-0.1, -0.01)},
    ),
    "incorrect_log_odds_power": Recipe(
        lambda coefficient: WithCrossEntropy(IncorrectLogOddsPower(coefficient, 2, 1 / 2)),
        settings={"coefficient": 0.1},
        grid={"coefficient": (0.1, 0.01)},
    ),
    "incorrect_log_odds_lse": Recipe(
        lambda coefficient: WithCrossEntropy(IncorrectLogOddsLSE(coefficient, math.copysign(1, coefficient))),
        settings={"coefficient": 0.01},
        grid={"coefficient": (0.1, 0.01, -0.1, -0.01)},
    ),
    "log_sum_inverse_probability": Recipe(
        lambda coefficient: WithCrossEntropy(LogSumInverseProbability(coefficient)),
        lr=0.1,
        settings={"coefficient": 0.1},
        grid={"coefficient": (0.1, 0.01)},
    ),
    "incorrect_probability_loss": Recipe(
        IncorrectProbabilityLoss.preset,
        settings={"name": "lodds+ln_z"},
        grid={"name": ("ce+big+small", "lodds+ln_z")},
    ),
}
"""How each loss trains the network, by its name in the registry.

Squared error compares the outputs with one-hot rows. The losses of US 12387092 are terms of a sum (eq. 4) and are used
as such: added to cross-entropy, each with a small coefficient of the sign that training needs (P-4). Alone they do not
reach the goal. log-odds and the "big" term pull at every sample with the same force, sure ones too, and fall for ever
(P-5): under 90 % of the validation set were right, for any rate. The complementary term does not see samples with p_c
near 0; ln Z and the "small" terms (of the log-sum-exp with a negative coefficient, and the power form with exponent 2,
table P-6) lower p_c (P-9): under 20 % were right. Added with a small coefficient the force is small beside that of a
wrong sample; the sums with complementary, log-odds and "big" still have no smallest value, so not the loss but the
validation error says when to stop; those with ln Z and "small" are least at a p_c a little under 1.
``incorrect_probability_loss`` is one of the two presets with S = 0 that spread the rest evenly (P-9), bounded and least
at p_c = 1: nothing need be added.
"""


def recipe(name: str) -> Recipe:
    """How the loss of that name trains the network.

    One that is not in `RECIPES` and takes logits and labels gets its defaults and the learning rate 0.05. Raises
    ValueError for a loss of something else, and for what is no loss.
    """
    who = f"digits.recipe({name!r})"
    if name in RECIPES:
        return RECIPES[name]
    if not (name in registry and issubclass(registry[name], Loss)):
        raise ValueError(f"{who}: there is no such loss: choose among {', '.join(sorted(RECIPES))}")
    cls = registry[name]
    if name == "two_class_cross_entropy":
        raise ValueError(
            f"{who}: it takes one score in [0, 1] and a label 0 or 1, and the digits have {CLASSES} classes: "
            f"try binary_cross_entropy, each class against the rest"
        )
    inputs = [variable.name for variable in cls.parsed.inputs]
    if inputs[:2] != ["z", "labels"]:
        raise ValueError(
            f"{who}: it takes {', '.join(inputs)}, not logits and the labels of classes: "
            f"choose among {', '.join(sorted(RECIPES))}"
        )
    return Recipe(cls)


def network(seed: int | np.random.Generator = 0, dtype: Any = np.float32) -> nn.Sequential:
    """Two convolutions and a pool, one more and a pool, a linear read-out: (N, 1, 8, 8) to logits (N, 10)."""
    model = nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, kernel_size=3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, kernel_size=3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(64 * 2 * 2, 10),
    )
    return model.reset(seed).astype(dtype)


def moved(samples: data.Dataset) -> data.Dataset:
    """Images (n, c, h, w) as they are and moved by a pixel up, down, left and right: 5 n samples.

    What leaves the image is lost, and 0 comes in from the other side.
    """
    _, _, h, w = samples.x.shape
    wide = np.pad(samples.x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    corners = ((1, 1), (2, 1), (0, 1), (1, 2), (1, 0))
    return data.Dataset(
        np.concatenate([wide[:, :, top : top + h, left : left + w] for top, left in corners]),
        np.tile(samples.y, len(corners)),
    )


@dataclass
class Result:
    """A trained network, how it was trained, and how it does on the test set, which nothing else has seen."""

    seed: int
    loss: str
    recipe: Recipe
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
            "loss": self.loss,
            "settings": dict(self.recipe.settings),
            "learning_rate": self.recipe.lr,
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
    loss: str = "cross_entropy",
    lr: float | None = None,
    epochs: int = 40,
    dtype: Any = np.float32,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool | None = None,
) -> Result:
    """Train the network and test it. The seed draws weights, masks and order; the split of the data stays.

    ``loss`` is a name in the registry of operations; it is used as its `recipe` says, and ``lr`` takes the place of
    the recipe's rate. Raises ValueError for a loss that does not fit, FloatingPointError if training diverges.
    """
    chosen = recipe(loss)
    chosen = chosen if lr is None else replace(chosen, lr=lr)
    return _run(seed, loss, chosen, epochs, dtype, checkpoint, resume, progress)


def _run(
    seed: int, name: str, chosen: Recipe, epochs: int, dtype: Any = np.float32, checkpoint: Any = None,
    resume: bool = False, progress: bool | None = False,
) -> Result:  # fmt: skip
    started = time.perf_counter()
    train, validation, test = data.digits(dtype)
    model, loss = network(seed, dtype), chosen.loss()
    optimizer = SGD(model.parameters(), lr=chosen.lr, momentum=MomentumSchedule(maximum=0.9))
    # Of 5,985 samples batches of 32 would leave one alone, in which a loss of batches separates nothing (K-9).
    history = fit(
        model, loss, optimizer, moved(train), validation,
        epochs=epochs, batch_size=40, seed=seed, patience=6, plateau=ReduceOnPlateau(factor=0.1, patience=1),
        checkpoint=checkpoint, resume=resume, progress=progress,
    )  # fmt: skip
    test_loss, test_error = evaluate(model, loss, test)
    return Result(seed, name, chosen, model, history, test_loss, test_error, time.perf_counter() - started)


class Trial(NamedTuple):
    """A way to use a loss, and the validation error that it reached: the mean over the seeds, 1 where it diverged."""

    error: float
    recipe: Recipe


def choose(name: str, *, epochs: int = 4, seeds: Iterable[int] = (1, 2)) -> list[Trial]:
    """Every combination of settings and learning rate, the smallest validation error first (LS-22).

    `RECIPES` holds the first one. Of equal errors that with the smaller rate is first, as it is further from
    divergence, then the earlier in the grid. The test set is not looked at. It takes 5 seconds for each combination.
    """
    trials = [
        Trial(float(np.mean([_validation_error(name, one, epochs, seed) for seed in seeds])), one)
        for one in recipe(name).candidates()
    ]
    return sorted(trials, key=lambda trial: (round(trial.error, 9), trial.recipe.lr))  # means differ in last bits


def _validation_error(name: str, chosen: Recipe, epochs: int, seed: int) -> float:
    try:
        with np.errstate(all="ignore"):
            errors = _run(seed, name, chosen, epochs).history.validation_error
    except FloatingPointError:
        return 1.0
    return min(errors)


@dataclass(frozen=True, repr=False)
class Comparison:
    """One `Result` for each loss, by name; prints as a table, and shows as one in a notebook."""

    results: Mapping[str, Result]

    def __getitem__(self, name: str) -> Result:
        return self.results[name]

    def table(self) -> Table:
        """The accuracy of all logits on the test set, and the error 1-AUPRC of one logit alone (LS-19)."""
        from ..tables import Table

        header = ("loss", "settings", "learning rate", "test accuracy", "1-AUPRC", "epochs", "seconds")
        rows = []
        for name, result in self.results.items():
            test = data.digits(result.model.parameters()[0].dtype).test
            with no_grad():
                report = single_logit_report(result.model(test.x), test.y)
            settings = ", ".join(f"{key}={value}" for key, value in result.recipe.settings.items())
            rows.append((
                name, settings, f"{result.recipe.lr:g}", f"{1 - result.test_error:.2%}", f"{report['1-AUPRC']:.4f}",
                str(result.history.epochs), f"{result.seconds:.1f}",
            ))  # fmt: skip
        return Table(header, tuple(rows))

    def __repr__(self) -> str:
        return str(self.table())

    def _repr_html_(self) -> str:
        return self.table().render("html")


def compare_losses(names: Iterable[str] | None = None, *, seed: int = 0, epochs: int = 40) -> Comparison:
    """Train with each of the losses, by default those of `RECIPES`, and test: some 10 seconds each on one core."""
    return Comparison({name: run(seed, loss=name, epochs=epochs, progress=False) for name in names or RECIPES})
