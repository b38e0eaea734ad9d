"""Training: epochs of mini-batches, validation, when to stop, and checkpoints from which the same bits go on.

Letters: ``w`` all parameters as one vector, ``L`` the risk, the mean loss of a sample; epochs count from 1.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from .data import Dataset, batches
from .metrics import zero_one_error
from .nn import Module, read_npz, written
from .optim import Optimizer, ReduceOnPlateau
from .sampling import DifficultySampler
from .snapshots import Snapshots
from .tensor import no_grad

__all__ = ["History", "evaluate", "fit"]


@dataclass
class Samples:
    """Inputs (n, ...) and targets (n, ...) of any kind; what a pair (x, y) becomes."""

    x: np.ndarray
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.y)


Data = Dataset | Samples | tuple[Any, Any]


def _samples(who: str, data: Data) -> Any:
    """The data as something with x, y and a length that is not 0."""
    if isinstance(data, tuple):
        if len(data) != 2 or len(data[0]) != len(data[1]):
            raise ValueError(f"{who}: expected a Dataset or a pair (x, y) of equal lengths, got {len(data)} things")
        data = Samples(np.asarray(data[0]), np.asarray(data[1]))
    if len(data) == 0:
        raise ValueError(f"{who}: no samples, and a mean needs at least one: give a set that has some")
    return data


@dataclass
class History:
    """What happened in each epoch, one list entry an epoch, and why it ended.

    ``loss`` is the mean loss of a sample during the epoch, while the weights were moving; ``validation_loss``
    and ``validation_error`` (the zero-one error, nan where it is not defined) are those at its end, empty
    without a validation set; ``weight_change`` is the norm of w at its end minus w at its begin;
    ``learning_rate`` that of its first step; ``seconds`` the time that it took.
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


def evaluate(model: Module, loss: Any, data: Data, batch_size: int | None = 256) -> tuple[float, float]:
    """The mean loss of a sample and the zero-one error, in eval mode and without recording.

    The error is nan where the model has no scores (N, K), or the targets are no classes. The modes of the
    modules are restored. Raises ValueError if there are no samples.
    """
    samples = _samples("evaluate", data)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    total = wrong = 0.0
    try:
        with no_grad():
            for x, y in batches(samples, batch_size):
                scores = model(x)
                total += _weight(loss, y) * float(loss(scores, y))
                classes = scores.ndim == 2 and y.ndim == 1 and y.dtype.kind in "iu"
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
    train: Data,
    validation: Data | None = None,
    *,
    epochs: int,
    batch_size: int | None = 32,
    seed: int | np.random.Generator = 0,
    patience: int | None = None,
    plateau: ReduceOnPlateau | None = None,
    weight_tolerance: float | None = None,
    loss_tolerance: float | None = None,
    sampler: DifficultySampler | None = None,
    snapshots: Snapshots | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool | None = None,
) -> History:
    """Train a model in place until one of the tests says to stop; it is left in eval mode (Tomasi 2019,
    section 4).

    Parameters
    ----------
    model, loss, optimizer
        ``loss(model(x), y)`` is a scalar; the optimizer holds the parameters of the model.
    train, validation : `data.Dataset`, or a pair of arrays (x, y)
    epochs : int
        At most so many passes over ``train``, those before a ``resume`` included.
    batch_size : int or None
        1 is online training, None batch training on the whole set, else mini-batches (TC-19), drawn anew each
        epoch. A last short batch counts by its own size.
    seed : int or Generator
        Of the order of the samples. The same seeds give the same bits.
    patience : int, optional
        Early stopping (TC-21): end after so many epochs without a smaller validation error (of equal errors
        the smaller loss is better), and put the best weights back.
    plateau : ReduceOnPlateau, optional
        Lowers the learning rate by the validation loss, or the training loss without a validation set
        (TC-18).
    weight_tolerance, loss_tolerance : float, optional
        End when an epoch changes w by at most the first, in Euclidean norm, or L by at most the second
        (TC-20). In batch training, with one step an epoch, these are the tests of the source.
    sampler : DifficultySampler, optional
        Draws the mini-batches, and weights and watches the loss of each sample (IP-08); by default each epoch
        takes every sample once, in random order. Its state is part of the checkpoint.
    snapshots : Snapshots, optional
        Records the parameters before training and after each epoch or step. It is saved by you, not with the
        checkpoint, and goes on where it was if it is given again.
    checkpoint : path, optional
        An .npz file, replaced whole after each epoch, with all that a later call needs to go on.
    resume : bool
        Go on from ``checkpoint``: the result has the same bits as if there had been no interruption. Build
        model, optimizer and plateau as before; generators of dropout and of the order are set from the file.
    progress : bool, optional
        Show a progress bar on standard error; by default on a terminal or in a notebook only.

    Raises
    ------
    ValueError
        For arguments that contradict one another.
    FloatingPointError
        As soon as a loss is not finite.
    """
    samples = _samples("fit", train)
    held_out = None if validation is None else _samples("fit", validation)
    for wrong, problem in (
        (epochs < 1, f"epochs={epochs!r}: train for at least 1"),
        (patience is not None and held_out is None, "patience counts epochs of validation: give a validation set"),
        (patience is not None and patience < 1, f"patience={patience!r}: wait for at least 1 epoch"),
        (resume and checkpoint is None, "resume=True goes on from a checkpoint: give checkpoint='...npz'"),
        (plateau and optimizer.scheduled, "a plateau and a schedule both set the learning rate: give one of them"),
        (
            not {id(p) for p in optimizer.parameters} <= {id(p) for p in model.parameters()},
            "the optimizer holds parameters that are not the model's: make it with model.parameters()",
        ),
    ):
        if wrong:
            raise ValueError(f"fit: {problem}")
    best = model.state_dict() if patience is not None else {}
    run = Run(model, optimizer, plateau, np.random.default_rng(seed), History(), best, sampler)
    if resume and checkpoint is not None:
        run.restore(checkpoint)
    history = run.history
    risk_of = loss if sampler is None else sampler.weighted(loss)
    if snapshots is not None and not snapshots:
        snapshots.record(model)
    with _bar(epochs, len(samples), batch_size, history.epochs, progress) as bar:

        def tick() -> None:
            bar.update()
            if snapshots is not None and snapshots.per == "step":
                snapshots.record(model)

        while not (reason := _reason(history, epochs, patience, weight_tolerance, loss_tolerance)):
            started = time.perf_counter()
            before = [p.data.copy() for p in model.parameters()]
            rate = optimizer.lr
            model.train()
            steps = (sampler.batches if sampler is not None else batches)(samples, batch_size, run.rng)
            risk = _epoch(run, risk_of, steps, tick)
            if snapshots is not None and snapshots.per == "epoch":
                snapshots.record(model)
            squares = (((p.data - w) ** 2).sum(dtype=float) for p, w in zip(model.parameters(), before, strict=True))
            change = math.sqrt(sum(squares))
            if not math.isfinite(change):
                raise _diverged("the weights are no longer finite", history.epochs + 1, rate)
            history.loss.append(risk)
            history.weight_change.append(change)
            history.learning_rate.append(rate)
            if held_out is not None:
                try:
                    risk, error = evaluate(model, loss, held_out)
                except ValueError:  # losses and errors refuse what is not a number
                    with no_grad():
                        if np.isfinite(model.eval()(held_out.x).data).all():
                            raise
                    raise _diverged("the outputs of validation are not finite", history.epochs, rate) from None
                history.validation_loss.append(risk)
                history.validation_error.append(error)
                bar.set_postfix_str(f"loss {history.loss[-1]:.4f}, validation error {error:.2%}", refresh=False)
                if patience is not None and history.best_epoch == history.epochs:
                    run.best = model.state_dict()
            if plateau is not None and (factor := plateau(risk)) != 1:
                optimizer.lr *= factor
            history.seconds.append(time.perf_counter() - started)
            if checkpoint is not None:
                run.save(checkpoint)
    history.stopped = reason
    if patience is not None:
        model.load_state_dict(run.best)
    model.eval()
    return history


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


def _epoch(run: Run, loss: Any, steps: Any, tick: Callable[[], Any]) -> float:
    """One pass over the samples; the mean loss of a sample on the way."""
    total = 0.0
    seen = 0
    for x, y in steps:
        run.optimizer.zero_grad()  # memory for the activations
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is told in words below
            scores = run.model(x)
            try:
                risk = loss(scores, y)
                value = float(risk)
            except ValueError:
                if np.isfinite(scores.data).all():
                    raise
                value = math.nan  # some losses refuse what is not a number
        if not math.isfinite(value):
            raise _diverged(f"the loss is {value}", run.history.epochs + 1, run.optimizer.lr)
        risk.backward(retain_graph=False)
        run.optimizer.step()
        total += value * _weight(loss, y)
        seen += len(y)
        tick()
    return total / seen


def _diverged(what: str, epoch: int, rate: float) -> FloatingPointError:
    return FloatingPointError(
        f"fit: {what} in epoch {epoch}, with learning rate {rate:g}: try one ten times smaller, and look whether the "
        f"samples hold nan or huge numbers"
    )


def _bar(epochs: int, samples: int, batch_size: int | None, done: int, progress: bool | None) -> Any:
    """A progress bar over the batches of all epochs."""
    from tqdm import tqdm

    steps = math.ceil(samples / (batch_size or samples))
    kernel = sys.modules.get("ipykernel.kernelapp")  # in a notebook there is one, and it runs
    shown = progress if progress is not None else (kernel and kernel.IPKernelApp.initialized()) or None
    disable = None if shown is None else not shown  # None: unless standard error is a terminal
    return tqdm(total=epochs * steps, initial=done * steps, unit="batch", disable=disable, leave=False)


@dataclass
class Run:
    """All that a training changes, and its way to a file and back."""

    model: Module
    optimizer: Optimizer
    plateau: ReduceOnPlateau | None
    rng: np.random.Generator
    history: History
    best: dict[str, np.ndarray]
    sampler: DifficultySampler | None = None

    def generators(self) -> list[np.random.Generator]:
        """That of the order of the samples, and those of the model."""
        return [self.rng, *self.model.generators()]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write arrays as "model/...", "best/..." and so on, one word for each part, and the rest as JSON."""
        parts = {"model": self.model.state_dict(), "best": self.best, "optimizer": self.optimizer.state_dict()}
        if self.plateau is not None:
            parts["plateau"] = self.plateau.state_dict()
        if self.sampler is not None:
            parts["sampler"] = self.sampler.state_dict()
        arrays = {f"{part}/{name}": array for part, state in parts.items() for name, array in state.items()}
        generators = [generator.bit_generator.state for generator in self.generators()]
        rest = {"history": asdict(self.history), "generators": generators}
        with written(path) as file:
            np.savez(file, json=np.array(json.dumps(rest, default=np.ndarray.tolist)), **arrays)  # type: ignore[arg-type]

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Set everything from such a file; ValueError if it comes from another kind of training."""
        names = ("model", "best", "optimizer", "plateau", "sampler")
        parts: dict[str, dict[str, np.ndarray]] = {name: {} for name in names}
        text = "{}"
        for key, array in read_npz(path).items():
            part, _, name = key.partition("/")
            if part in parts:
                parts[part][name] = array
            elif part == "json":
                text = str(array)
        saved = json.loads(text)
        states = saved.get("generators", [])
        for differs, what in (
            (not saved, "is a file of another kind"),
            (
                len(states) != len(self.generators()),
                f"has {len(states)} random generators, not {len(self.generators())}",
            ),
            (bool(parts["best"]) != bool(self.best), "was made with patience, or this training has it, not both"),
            (bool(parts["plateau"]) != (self.plateau is not None), "and this training differ in having a plateau"),
            (bool(parts["sampler"]) != (self.sampler is not None), "and this training differ in having a sampler"),
        ):
            if differs:
                raise ValueError(f"fit: the checkpoint {path} {what}: resume with the arguments that it was made with")
        self.model.load_state_dict(parts["model"])
        self.optimizer.load_state_dict(parts["optimizer"])
        if self.plateau is not None:
            self.plateau.load_state_dict(parts["plateau"])
        if self.sampler is not None:
            self.sampler.load_state_dict(parts["sampler"])
        for generator, state in zip(self.generators(), states, strict=True):
            generator.bit_generator.state = state
        self.best = parts["best"]
        for name, column in saved["history"].items():
            setattr(self.history, name, column)
