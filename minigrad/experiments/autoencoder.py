"""LocoProp beside first-order methods on a deep autoencoder: the training loss an epoch, and a second.

The network of Amid et al. (2022): on MNIST 784-1000-500-250-30-250-500-1000-784, tanh but for a linear code in the
middle and a sigmoid at the end, binary cross-entropy summed over the pixels, Glorot's uniform initialization. Every
method gets the same weights to begin with, the same batches, and a learning rate that rises linearly in the first fifth
of the steps and falls linearly to 0 in the others; the best of its settings, by the training loss at the end, counts.
The local steps of LocoProp are the published ones, ten with a rate that falls to a quarter, and RMSprop; their rate and
momentum, and how far the targets are, are chosen like the settings of the others.

What is finished is kept in a folder, epoch by epoch, and is not computed again.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .. import data, nn
from ..locoprop import LocoProp
from ..losses import BinaryCrossEntropy
from ..optim import SGD, Adam, LinearDecay, Optimizer, RMSprop, WarmupLinear
from ..tables import Table
from ..tensor import no_grad

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["GRIDS", "Candidate", "Report", "Setting", "candidates", "network", "run", "setting"]


# What is trained --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """The images (n, pixels) in [0, 1], the widths of the layers, and how long to train."""

    name: str
    images: np.ndarray
    widths: tuple[int, ...]
    batch_size: int
    epochs: int

    @property
    def steps(self) -> int:
        """Batches in an epoch; the last images, too few for a batch, wait for another order."""
        return len(self.images) // self.batch_size


def setting(root: Path | None = None, *, quick: bool = False, epochs: int | None = None) -> Setting:
    """MNIST in the folder ``root``; without one, the embedded digits and smaller layers. ``quick`` trains less."""
    widths: tuple[int, ...]
    if root is None:
        images, widths, batch_size, standard = data.digits(np.float32, validation=0).train.x, (64, 128, 64, 8), 50, 20
    else:
        images, widths = data.mnist(root, dtype=np.float32, validation=0).train.x, (784, 1000, 500, 250, 30)
        batch_size, standard = 1000, 5
    images = images.reshape(len(images), -1)
    if quick:
        images, standard = images[:10_000], 3 if root else 10
    name = f"{'digits' if root is None else 'MNIST'}, {len(images):,} images"
    return Setting(name, images, (*widths, *widths[-2::-1]), batch_size, epochs or standard)


def network(widths: Sequence[int], seed: int) -> nn.Sequential:
    """An autoencoder with these widths, the code in the middle; outputs are logits of the pixels."""
    rng, code = np.random.default_rng(seed), len(widths) // 2 - 1
    layers: list[nn.Module] = []
    for k, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        layers.append(nn.Linear(inputs, outputs, init="glorot_uniform", rng=rng, dtype=np.float32))
        if k not in (code, len(widths) - 2):
            layers.append(nn.Tanh())
    return nn.Sequential(*layers)


# How it is trained ------------------------------------------------------------------------------------------


class Trainer(Protocol):
    """One batch at a time: the loss before the step. What it remembers can be saved."""

    def step(self, x: Any, y: Any) -> float: ...

    def state_dict(self) -> dict[str, np.ndarray]: ...

    def load_state_dict(self, state: Any) -> None: ...


class BackPropagation:
    """A first-order optimizer on the gradients of back-propagation."""

    def __init__(self, model: nn.Sequential, optimizer: Optimizer):
        self.model, self.optimizer, self.loss = model, optimizer, BinaryCrossEntropy()
        self.state_dict, self.load_state_dict = optimizer.state_dict, optimizer.load_state_dict

    def step(self, x: Any, y: Any) -> float:
        self.optimizer.zero_grad()
        loss = self.loss(self.model(x), y)
        loss.backward(retain_graph=False)
        self.optimizer.step()
        return float(loss)


class LayerByLayer(LocoProp):
    """LocoProp as published, its rate times ``schedule`` of the round."""

    schedule: WarmupLinear

    def step(self, x: Any, y: Any) -> float:
        self.inner_step = LinearDecay(self.schedule(self.rounds), self.iterations)
        return super().step(x, y)


Make = Callable[[nn.Sequential, WarmupLinear, Executor | None], Trainer]


def _first_order(make: Callable[..., Optimizer], **settings: float) -> Make:
    def trainer(model: nn.Sequential, schedule: WarmupLinear, executor: Executor | None) -> Trainer:
        return BackPropagation(model, make(model.parameters(), schedule, **settings))

    return trainer


def _locoprop(variant: str, activation_lr: float, momentum: float) -> Make:
    def trainer(model: nn.Sequential, schedule: WarmupLinear, executor: Executor | None) -> Trainer:
        def inner(parameters: Any) -> RMSprop:
            return RMSprop(parameters, 1.0, alpha=0.9, eps=1e-5, momentum=momentum, initial=1.0, eps_inside=True)

        layers = LayerByLayer(
            model, BinaryCrossEntropy(), variant=variant, activation_lr=activation_lr, weight_lr=1.0, iterations=10,
            anchor="moving", inner=inner, executor=executor, reduction="sum",
        )  # fmt: skip
        layers.schedule = schedule
        return layers

    return trainer


@dataclass(frozen=True)
class Candidate:
    """A method with one setting: its largest rate, and in words what else was chosen."""

    method: str
    rate: float
    words: str
    make: Make = field(compare=False)

    def __str__(self) -> str:
        return f"{self.method}, rate {self.rate:g}{self.words and ', '}{self.words}"


# The settings that are tried of each method, as (momentum, rate); the first is the one that ``quick`` tries alone.
GRIDS: dict[str, dict[str, list[tuple[float, float]]]] = {
    "MNIST": {
        "SGD": [(0, 0.03), (0, 0.01), (0, 0.1)],
        "momentum": [(0.9, 0.01), (0.9, 0.003), (0.9, 0.03), (0.99, 0.001), (0.99, 0.003)],
        "RMSprop": [(0.9, 3e-4), (0.9, 1e-4), (0.9, 1e-3), (0.99, 3e-5), (0.99, 1e-4), (0, 1e-3)],
        "Adam": [(0.9, 0.003), (0.9, 3e-4), (0.9, 0.001), (0.9, 0.01)],
        "LocoProp squared-pre": [(0.999, 1e-5), (0.999, 3e-5)],
        "LocoProp matching": [(0.999, 1e-5), (0.999, 3e-5), (0.99, 3e-5)],
    },
    "digits": {
        "SGD": [(0, 0.1), (0, 0.01), (0, 0.03), (0, 0.2)],
        "momentum": [(0.9, 0.05), (0.9, 0.01), (0.9, 0.1), (0.95, 0.03), (0.99, 0.003), (0.99, 0.01)],
        "RMSprop": [(0.9, 0.002), (0.9, 0.001), (0.9, 0.003), (0.95, 0.001), (0.99, 3e-4), (0, 0.003)],
        "Adam": [(0.9, 0.02), (0.9, 0.003), (0.9, 0.01), (0.9, 0.03)],
        "LocoProp squared-pre": [(0.999, 2e-5), (0.999, 1e-5), (0.999, 4e-5), (0.99, 1e-4), (0.9, 1e-4)],
        "LocoProp matching": [(0.99, 1e-4), (0.99, 3e-5), (0.99, 2e-4), (0.999, 1e-5), (0.9, 3e-4)],
    },
}  # fmt: skip

# How far targets are from where a layer is. The published 10 suits the matching loss, which is flat where outputs are
# sure; with batches of 1000 the squared loss needs a step of its own size, or its layers overshoot what is so close.
ACTIVATION_LR = {
    ("MNIST", "LocoProp squared-pre"): 100.0,
    ("MNIST", "LocoProp matching"): 10.0,
    ("digits", "LocoProp squared-pre"): 10.0,
    ("digits", "LocoProp matching"): 10.0,
}


def candidates(setting: Setting) -> list[Candidate]:
    """Every method in each of the settings that are tried of it on these data."""
    made = []
    kind = setting.name.split(",")[0]
    for method, tried in GRIDS[kind].items():
        for momentum, rate in tried:
            if method.startswith("LocoProp"):
                make = _locoprop(method.split()[1], ACTIVATION_LR[kind, method], momentum)
            elif method == "RMSprop":
                make = _first_order(RMSprop, alpha=0.9, momentum=momentum)
            elif method == "Adam":
                make = _first_order(Adam)
            else:
                make = _first_order(SGD, momentum=momentum)
            words = "" if method in ("SGD", "Adam") else f"momentum {momentum:g}"
            made.append(Candidate(method, rate, words, make))
    return made


# The runs ---------------------------------------------------------------------------------------------------


@dataclass
class Curve:
    """What one candidate reached: the training loss, of the whole set, after each epoch, and the seconds until then.

    Losses are nats an image. ``failed`` says why it ended early, if it did; the seconds are those of training alone.
    """

    candidate: Candidate
    losses: list[float]
    seconds: list[float]
    failed: str = ""

    @property
    def last(self) -> float:
        return math.inf if self.failed else self.losses[-1]

    def as_dict(self) -> dict[str, Any]:
        """The numbers for JSON."""
        named = {"method": self.candidate.method, "rate": self.candidate.rate, "setting": self.candidate.words}
        losses = [loss if math.isfinite(loss) else None for loss in self.losses]
        return named | {"loss": losses, "seconds": self.seconds, "failed": self.failed}


def mean_loss(model: nn.Sequential, images: np.ndarray) -> float:
    """The training loss of all images, nats an image."""
    loss = BinaryCrossEntropy(reduction="sum")
    with no_grad():
        return sum(float(loss(model(x), x)) for x in np.array_split(images, -(-len(images) // 1000))) / len(images)


def train(
    candidate: Candidate, setting: Setting, seed: int, folder: Path, executor: Executor | None, tick: Callable[[], Any]
) -> Curve:
    """Train one candidate, from where ``folder`` says that it was left; ``tick`` is called after each batch."""
    model = network(setting.widths, seed)
    total = setting.epochs * setting.steps
    trainer = candidate.make(model, WarmupLinear(candidate.rate, total // 5, total), executor)
    curve = Curve(candidate, [], [])
    kept = folder / f"{candidate}.npz".replace(" ", "_").replace(",", "")
    if kept.exists():
        _restore(kept, model, trainer, curve)
    for epoch in range(len(curve.losses), setting.epochs if not curve.failed else 0):
        order = np.random.default_rng([seed, epoch]).permutation(len(setting.images))
        began, loss = time.perf_counter(), math.inf
        try:
            for part in np.split(order[: setting.steps * setting.batch_size], setting.steps):
                x = setting.images[part]
                trainer.step(x, x)
                tick()
            ended = time.perf_counter()
            loss = mean_loss(model, setting.images)
            curve.failed = "" if math.isfinite(loss) else f"the loss is {loss}"
        except (FloatingPointError, ValueError) as error:  # losses refuse nan
            ended = time.perf_counter()
            curve.failed = str(error)
        curve.seconds.append(ended - began + (curve.seconds[-1] if curve.seconds else 0))
        curve.losses.append(loss)
        _keep(kept, model, trainer, curve)
        if curve.failed:
            break
    return curve


def _keep(path: Path, model: nn.Sequential, trainer: Trainer, curve: Curve) -> None:
    arrays = {f"model/{name}": array for name, array in model.state_dict().items()}
    arrays |= {f"trainer/{name}": array for name, array in trainer.state_dict().items()}
    numbers = {"losses": np.array(curve.losses), "seconds": np.array(curve.seconds), "failed": np.array(curve.failed)}
    with nn.written(path) as file:
        np.savez(file, **arrays, **numbers)  # type: ignore[arg-type]  # a mapping of names to arrays


def _restore(path: Path, model: nn.Sequential, trainer: Trainer, curve: Curve) -> None:
    arrays = nn.read_npz(path)
    for prefix, part in (("model/", model), ("trainer/", trainer)):
        part.load_state_dict({name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)})
    curve.losses, curve.seconds = arrays["losses"].tolist(), arrays["seconds"].tolist()
    curve.failed = str(arrays["failed"])


@dataclass
class Report:
    """The curves of all candidates; a method is judged by the best of its own."""

    setting: Setting
    seed: int
    curves: list[Curve]

    def best(self) -> list[Curve]:
        """The best candidate of each method, by the training loss at the end, in the order in which they came."""
        methods = dict.fromkeys(curve.candidate.method for curve in self.curves)
        return [min((c for c in self.curves if c.candidate.method == m), key=lambda c: c.last) for m in methods]

    def claim(self) -> dict[str, bool]:
        """For each variant of LocoProp, whether it ends, after as many epochs, below every first-order method."""
        ends = {curve.candidate.method: curve.last for curve in self.best()}
        others = min((last for method, last in ends.items() if not method.startswith("LocoProp")), default=math.inf)
        return {method: last < others for method, last in ends.items() if method.startswith("LocoProp")}

    def verdict(self) -> str:
        """The same in a sentence."""
        words = (f"{method} {'ends' if below else 'does not end'}" for method, below in self.claim().items())
        return f"{', '.join(words)} below every first-order method, after as many epochs."

    def table(self) -> Table:
        """For each method its best setting, the training loss after each epoch (after some, if many), and its time."""
        count = self.setting.epochs
        shown = sorted({round(1 + k * (count - 1) / 4) for k in range(5)}) if count > 5 else list(range(1, count + 1))
        header = ("method", "best setting", *(f"epoch {n}" for n in shown), "seconds an epoch")
        rows = []
        for curve in self.best():
            losses = [f"{curve.losses[n - 1]:.1f}" if n <= len(curve.losses) else "-" for n in shown]
            words = str(curve.candidate).removeprefix(f"{curve.candidate.method}, ")
            rows.append((curve.candidate.method, words, *losses, f"{curve.seconds[-1] / len(curve.seconds):.2f}"))
        return Table(header, tuple(rows))

    def figure(self) -> Figure:
        """The training loss of the best of each method, over epochs (left) and over seconds of training (right)."""
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        from ..plots.style import OKABE_ITO, TEXT, axes

        figure = Figure(figsize=(14, 6), dpi=100, layout="constrained")
        left, right = (axes(ax) for ax in figure.subplots(1, 2, sharey=True))
        looks = zip(OKABE_ITO, "sDv^oP", strict=False)
        for curve, (colour, marker) in zip(self.best(), looks, strict=False):
            often = max(1, len(curve.losses) // 10)
            style: dict[str, Any] = {"color": OKABE_ITO[colour], "marker": marker, "markevery": often}
            style |= {"label": curve.candidate.method, "linewidth": 2.5, "markersize": 9}
            left.plot(range(1, len(curve.losses) + 1), curve.losses, **style)
            right.plot(curve.seconds, curve.losses, **style)
        left.xaxis.set_major_locator(MaxNLocator(integer=True))
        left.set_yscale("log")
        left.set_ylabel("training loss (nats an image)", fontsize=TEXT)
        left.set_xlabel("epoch", fontsize=TEXT)
        right.set_xlabel("seconds of training", fontsize=TEXT)
        right.set_xscale("log")
        handles = left.get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper center", ncols=6, frameon=False, fontsize=13)
        return figure

    def as_dict(self) -> dict[str, Any]:
        """The numbers for JSON."""
        return {
            "experiment": "locoprop",
            "data": self.setting.name,
            "widths": list(self.setting.widths),
            "batch_size": self.setting.batch_size,
            "seed": self.seed,
            "ends_below_first_order": self.claim(),
            "runs": [curve.as_dict() for curve in self.curves],
        }


def run(
    setting: Setting,
    folder: Path,
    *,
    seed: int = 0,
    candidates: Sequence[Candidate],
    executor: Executor | None = None,
    progress: bool | None = None,
) -> Report:
    """Train every candidate and write table, figure and numbers into ``folder``, which has what was finished before.

    Raises ValueError if the folder holds an experiment with other data, widths or numbers of steps.
    """
    from tqdm.auto import tqdm

    folder.mkdir(parents=True, exist_ok=True)
    facts = json.dumps([setting.name, setting.widths, setting.batch_size, setting.epochs, seed])
    noted = folder / "setting.json"
    if noted.exists() and noted.read_text() != facts:
        raise ValueError(
            f"reproduce: {folder} holds the runs of another experiment, {noted.read_text()}, and this one is {facts}: "
            f"name another folder by --output, or remove that one"
        )
    with nn.written(noted) as file:
        file.write(facts.encode())
    curves = []
    steps = setting.epochs * setting.steps
    with tqdm(total=len(candidates) * steps, unit="batch", disable=None if progress is None else not progress) as bar:
        for k, candidate in enumerate(candidates):
            bar.set_description(str(candidate))
            curves.append(train(candidate, setting, seed, folder, executor, bar.update))
            bar.update((k + 1) * steps - bar.n)
    report = Report(setting, seed, curves)
    with nn.written(folder / "results.json") as file:
        file.write(json.dumps(report.as_dict(), indent=2).encode() + b"\n")
    with nn.written(folder / "results.png") as file:
        report.figure().savefig(file, format="png")
    with nn.written(folder / "results.md") as file:
        file.write(report.table().render("markdown").encode() + b"\n")
    return report
