"""Training: epochs of mini-batches, validation, when to stop, and checkpoints from which the same bits go on.

Letters: ``w`` all parameters as one vector, ``L`` the risk, the mean loss of a sample; epochs count from 1.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np

from .data import batches
from .metrics import zero_one_error
from .nn import Module, read_npz, written
from .optim import Optimizer, ReduceOnPlateau
from .tensor import no_grad

__all__ = ["History", "Samples", "evaluate", "fit"]


class Samples(Protocol):
    """What can be trained on: inputs ``x`` and targets ``y`` of equal length, such as `data.Dataset`."""

    x: Any
    y: Any

    def __len__(self) -> int:
        """The number of samples."""


@dataclass
class History:
    """What happened in each epoch, one list entry an epoch, and why it ended.

    ``loss`` is the mean loss of a sample during the epoch, while the weights were moving; ``validation_loss`` and
    ``validation_error`` (the zero-one error, nan where it is not defined) are those at its end, empty without a
    validation set; ``weight_change`` is the norm of w at its end minus w at its begin; ``learning_rate`` that of its
    first step; ``seconds`` the time that it took.
    """

    loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    validation_error: list[float] = field(default_factory=list)
    weight_change: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    stopped: str = ""

    @property
    def epochs(self) -> int:
        """How many epochs there have been."""
        return len(self.loss)

    @property
    def best_epoch(self) -> int | None:
        """The epoch of the smallest validation error, of equal ones that of the smallest validation loss."""
        ranks = [_rank(*pair) for pair in zip(self.validation_error, self.validation_loss, strict=True)]
        return ranks.index(min(ranks)) + 1 if ranks else None

    def as_dict(self) -> dict[str, Any]:
        """All of it for JSON, where what is not a number is null."""
        columns = {
            name: [x if math.isfinite(x) else None for x in column] if isinstance(column, list) else column
            for name, column in asdict(self).items()
        }
        return columns | {"epochs": self.epochs, "best_epoch": self.best_epoch}


def _rank(error: float, loss: float) -> tuple[float, float]:
    return 0.0 if math.isnan(error) else error, math.inf if math.isnan(loss) else loss


def evaluate(model: Module, loss: Any, samples: Samples, batch_size: int | None = 256) -> tuple[float, float]:
    """The mean loss of a sample and the zero-one error, in eval mode and without recording.

    The error is nan where the model has no scores (N, K), or ``y`` no classes. The modes of the modules are restored.
    Raises ValueError if there are no samples.
    """
    if len(samples) == 0:
        raise ValueError("evaluate: no samples: a mean needs at least one")
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    total = wrong = 0.0
    try:
        with no_grad():
            for x, y in batches(samples, batch_size):  # type: ignore[arg-type]  # all that it needs is x, y and a length
                scores = model(x)
                total += _weight(loss, y) * float(loss(scores, y))
                classes = scores.ndim == 2 and (np.ndim(y) == 2 or np.asarray(y).dtype.kind in "iu")
                wrong += len(y) * zero_one_error(scores, y) if classes else math.nan
    finally:
        for module, mode in modes:
            module.training = mode
    return total / len(samples), wrong / len(samples)


def _weight(loss: Any, y: Any) -> int:
    """How many samples the loss of a batch is the mean of; 1 where it is a sum."""
    return 1 if getattr(loss, "reduction", "mean") == "sum" else len(y)


def fit(
    model: Module,
    loss: Any,
    optimizer: Optimizer,
    train: Samples,
    validation: Samples | None = None,
    *,
    epochs: int,
    batch_size: int | None = 32,
    seed: int | np.random.Generator = 0,
    patience: int | None = None,
    plateau: ReduceOnPlateau | None = None,
    weight_tolerance: float | None = None,
    loss_tolerance: float | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool | None = None,
) -> History:
    """Train a model in place until one of the tests says to stop; it is left in eval mode (Tomasi 2019, section 4).

    Parameters
    ----------
    model, loss, optimizer
        ``loss(model(x), y)`` is a scalar; the optimizer holds the parameters of the model.
    train, validation : `data.Dataset`, or another object with x, y and a length
    epochs : int
        At most so many passes over ``train``, those before a ``resume`` included.
    batch_size : int or None
        1 is online training, None batch training on the whole set, else mini-batches (TC-19), drawn anew each epoch.
        A last short batch counts by its own size.
    seed : int or Generator
        Of the order of the samples. The same seeds give the same bits.
    patience : int, optional
        Early stopping (TC-21): end after so many epochs without a smaller validation error (of equal errors the
        smaller loss is better), and put the best weights back.
    plateau : ReduceOnPlateau, optional
        Lowers the learning rate by the validation loss, or the training loss without a validation set (TC-18).
    weight_tolerance, loss_tolerance : float, optional
        End when an epoch changes w by at most the first, in Euclidean norm, or L by at most the second (TC-20). In
        batch training, with one step an epoch, these are the tests of the source.
    checkpoint : path, optional
        An .npz file, replaced whole after each epoch, with all that a later call needs to go on.
    resume : bool
        Go on from ``checkpoint``: the result has the same bits as if there had been no interruption. Build model,
        optimizer and plateau as before; generators of dropout and of the order are set from the file.
    progress : bool, optional
        Show a progress bar on standard error; by default on a terminal or in a notebook only.

    Raises
    ------
    ValueError
        For arguments that contradict one another.
    FloatingPointError
        As soon as a loss is not finite.
    """
    _check(model, optimizer, train, validation, epochs, patience, plateau, checkpoint, resume)
    rng = np.random.default_rng(seed)
    history = History()
    best = model.state_dict() if patience is not None else {}
    if resume:
        history, best = _restore(checkpoint, model, optimizer, plateau, rng, best)
    history.stopped = ""
    with _Bar(epochs, history.epochs, progress) as bar:
        while not history.stopped:
            history.stopped = _reason(history, epochs, patience, weight_tolerance, loss_tolerance)
            if history.stopped:
                break
            started = time.perf_counter()
            before = [p.data.copy() for p in model.parameters()]
            history.learning_rate.append(optimizer.lr)
            model.train()
            history.loss.append(_epoch(model, loss, optimizer, train, batch_size, rng, history.epochs + 1))
            squares = (((p.data - w) ** 2).sum(dtype=float) for p, w in zip(model.parameters(), before, strict=True))
            history.weight_change.append(math.sqrt(sum(squares)))
            if validation is not None:
                risk, error = evaluate(model, loss, validation)
                history.validation_loss.append(risk)
                history.validation_error.append(error)
                if patience is not None and history.best_epoch == history.epochs:
                    best = model.state_dict()
            if plateau is not None and (factor := plateau((history.validation_loss or history.loss)[-1])) != 1:
                optimizer.lr *= factor
            history.seconds.append(time.perf_counter() - started)
            if checkpoint is not None:
                _save(checkpoint, model, optimizer, plateau, rng, history, best)
            bar.show(history)
    if patience is not None and best:
        model.load_state_dict(best)
    model.eval()
    return history


def _check(
    model: Module,
    optimizer: Optimizer,
    train: Samples,
    validation: Samples | None,
    epochs: int,
    patience: int | None,
    plateau: ReduceOnPlateau | None,
    checkpoint: Any,
    resume: bool,
) -> None:
    """Refuse arguments that contradict one another, before anything has begun."""
    problem = ""
    if epochs < 1:
        problem = f"epochs={epochs!r}: train for at least 1"
    elif len(train) == 0:
        problem = "no samples to train on: give a set that has some"
    elif validation is not None and len(validation) == 0:
        problem = "the validation set is empty: give one that has samples, or None"
    elif patience is not None and (validation is None or patience < 1):
        problem = f"patience={patience!r} counts epochs without a smaller validation error: give a validation set, "
        problem += "and a patience from 1"
    elif resume and checkpoint is None:
        problem = "resume=True goes on from a checkpoint: give checkpoint='...npz'"
    elif plateau is not None and optimizer.scheduled:
        problem = "a plateau and a schedule both set the learning rate: give one of them"
    elif not {id(p) for p in optimizer.parameters} <= {id(p) for p in model.parameters()}:
        problem = "the optimizer holds parameters that are not the model's: make it with model.parameters()"
    if problem:
        raise ValueError(f"fit: {problem}")


def _reason(
    history: History, epochs: int, patience: int | None, weight_tolerance: float | None, loss_tolerance: float | None
) -> str:
    """Why to stop now, or nothing: early stopping, the tests of TC-20, the number of epochs."""
    done, best = history.epochs, history.best_epoch
    if patience is not None and best is not None and done - best >= patience:
        return f"no smaller validation error for {patience} epochs"
    if weight_tolerance is not None and done and history.weight_change[-1] <= weight_tolerance:
        return f"the weights changed by at most {weight_tolerance:g}"
    if loss_tolerance is not None and done > 1 and abs(history.loss[-1] - history.loss[-2]) <= loss_tolerance:
        return f"the loss changed by at most {loss_tolerance:g}"
    return f"{epochs} epochs" if done >= epochs else ""


def _epoch(
    model: Module,
    loss: Any,
    optimizer: Optimizer,
    train: Samples,
    batch_size: int | None,
    rng: np.random.Generator,
    epoch: int,
) -> float:
    """One pass over the samples in a new order; the mean loss of a sample on the way."""
    total = 0.0
    for step, (x, y) in enumerate(batches(train, batch_size, rng), start=1):  # type: ignore[arg-type]
        scores = model(x)
        try:
            risk = loss(scores, y)
            value = float(risk)
        except ValueError:
            if np.isfinite(scores.data).all():
                raise
            value = math.nan  # losses refuse what is not a number
        if not math.isfinite(value):
            raise FloatingPointError(
                f"fit: the loss is {value} in epoch {epoch}, step {step}, with learning rate {optimizer.lr:g}: "
                f"try a learning rate ten times smaller, and look whether x holds nan or huge numbers"
            )
        risk.backward()
        optimizer.step()
        total += value * _weight(loss, y)
    return total / len(train)


# Checkpoints ------------------------------------------------------------------------------------------------


def _save(
    path: Any,
    model: Module,
    optimizer: Optimizer,
    plateau: ReduceOnPlateau | None,
    rng: np.random.Generator,
    history: History,
    best: Mapping[str, np.ndarray],
) -> None:
    """One file with arrays under "model/...", "best/...", "optimizer/...", "plateau/...", and the rest as JSON."""
    parts = {"model": model.state_dict(), "best": best, "optimizer": optimizer.state_dict()}
    if plateau is not None:
        parts["plateau"] = plateau.state_dict()
    arrays = {f"{part}/{name}": array for part, state in parts.items() for name, array in state.items()}
    generators = [generator.bit_generator.state for generator in (rng, *model.generators())]
    text = json.dumps({"history": asdict(history), "generators": generators}, default=lambda array: array.tolist())
    with written(path) as file:
        np.savez(file, json=np.array(text), **arrays)  # type: ignore[arg-type]


def _restore(
    path: Any,
    model: Module,
    optimizer: Optimizer,
    plateau: ReduceOnPlateau | None,
    rng: np.random.Generator,
    best: Mapping[str, np.ndarray],
) -> tuple[History, dict[str, np.ndarray]]:
    """Set everything from a checkpoint; the history, and the best weights so far."""
    arrays = read_npz(path)
    parts: dict[str, dict[str, np.ndarray]] = {"model": {}, "best": {}, "optimizer": {}, "plateau": {}}
    for key, array in arrays.items():
        part, _, name = key.partition("/")
        parts.setdefault(part, {})[name] = array
    generators = [rng, *model.generators()]
    saved = json.loads(str(arrays["json"])) if "json" in arrays else {"generators": ()}
    mismatch = (bool(parts["plateau"]) != (plateau is not None)) or (bool(parts["best"]) != bool(best))
    if mismatch or len(saved["generators"]) != len(generators):
        raise ValueError(
            f"fit: {path} is no checkpoint of such a training ({len(saved['generators'])} generators, "
            f"{len(generators)} here): give the model, patience and plateau with which it was made"
        )
    model.load_state_dict(parts["model"])
    optimizer.load_state_dict(parts["optimizer"])
    if plateau is not None:
        plateau.load_state_dict(parts["plateau"])
    for generator, state in zip(generators, saved["generators"], strict=True):
        generator.bit_generator.state = state
    return History(**saved["history"]), parts["best"]


class _Bar:
    """A progress bar over the epochs, with the last numbers behind it."""

    def __init__(self, epochs: int, done: int, progress: bool | None):
        from tqdm import tqdm

        disable = None if progress is None else not progress
        self.bar = tqdm(total=epochs, initial=done, unit="epoch", disable=disable, leave=False, dynamic_ncols=True)

    def show(self, history: History) -> None:
        words = [f"loss {history.loss[-1]:.4f}"]
        if history.validation_error:
            words.append(f"validation error {history.validation_error[-1]:.2%}")
        self.bar.set_postfix_str(", ".join(words), refresh=False)
        self.bar.update()

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.close()
