"""One logit against all of them: the experiment of table III of Keren, Sabato and Schuller (2018), section VI-C.

    python -m benchmarks.single_logit                 up to 2^18.5 = 370,727 classes: 1.5 GB, some minutes
    python -m benchmarks.single_logit --most 65536 --batches 20

Forward passes of the paper's perceptron for MNIST, 784-500-500-K with batch normalization and ReLU (LS-22), in eval
mode, with random weights and inputs; the mean time of an example over mini-batches of 32 (LS-21). All logits cost a
product with K rows, one logit a product with one row, whatever K is. The paper has several networks, convolutional ones
too, on a graphics processor: the larger the part under the last layer, the smaller the ratio.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn
from minigrad.tables import Table

BATCH = 32
HIDDEN = 500
POWERS = (10.0, 12.0, 14.0, 16.0, 17.0, 18.0, 18.5)
PAPER = {10.0: "little", 12.0: "little", 14.0: "little", 18.0: "2.8 to 5.7", 18.5: "8.5 to 21.4"}
"""The speed-ups of table III, over its networks, by the power of 2 that is the number of classes."""


@dataclass(frozen=True)
class Speed:
    """The mean seconds of an example, with all logits and with one, and how far the two differed in that one."""

    classes: int
    all_logits: float
    one_logit: float
    difference: float

    @property
    def ratio(self) -> float:
        return self.all_logits / self.one_logit


def network(classes: int, hidden: int = HIDDEN, seed: int = 0) -> nn.Sequential:
    """784-hidden-hidden-classes in float32, with random weights: drawn in float32, as float64 would double the peak."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        weight = rng.standard_normal(shape, dtype=np.float32)
        weight *= np.float32((2 / shape[1]) ** 0.5)
        return weight

    rng = np.random.default_rng(seed)
    kind: dict[str, Any] = {"init": draw, "rng": rng, "dtype": np.float32}
    layers: list[nn.Module] = []
    for inputs in (784, hidden):
        layers += [nn.Linear(inputs, hidden, **kind), nn.BatchNorm1d(hidden, dtype=np.float32), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, classes, **kind)).eval()


def needed(classes: int, hidden: int = HIDDEN) -> int:
    """The bytes that it takes: the weights twice, as they are drawn, and a few times the logits of a mini-batch."""
    return 4 * classes * (2 * hidden + 4 * BATCH) + 100_000_000


def available() -> float:
    """The bytes of memory that are free, infinity where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return float("inf")
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), float("inf"))


def measure(classes: int, batches: int = 100, hidden: int = HIDDEN, seed: int = 0) -> Speed:
    """Both forward passes on the same mini-batches, by turns, after one of each that is not counted."""
    model, rng = network(classes, hidden, seed), np.random.default_rng(seed)
    seconds, difference = np.zeros(2), 0.0
    with mg.no_grad():
        for turn in range(batches + 1):
            x = rng.standard_normal((BATCH, 784), dtype=np.float32)
            j = int(rng.integers(classes))
            times = [time.perf_counter()]
            every = model(x).data
            times.append(time.perf_counter())
            one = model.logits(x, j).data
            times.append(time.perf_counter())
            difference = max(difference, float(abs(every[:, j] - one).max()))
            if turn:
                seconds += np.diff(times)
    every_one, one_alone = (seconds / (batches * BATCH)).tolist()
    return Speed(classes, every_one, one_alone, difference)


def speeds(most: int, batches: int) -> Iterator[tuple[float, Speed]]:
    """For each power of 2 up to ``most`` classes; what does not fit in memory is left out, and said."""
    for power in POWERS:
        classes = int(2**power)
        if classes > most:
            return
        if needed(classes) > available():
            print(
                f"2^{power:g} = {classes:,} classes need {needed(classes) / 1e9:.1f} GB, and {available() / 1e9:.1f} "
                f"are free: left out",
                file=sys.stderr,
            )
            return
        yield power, measure(classes, batches)


def table(found: Sequence[tuple[float, Speed]]) -> Table:
    """Microseconds an example and their ratio, beside the paper's."""
    header = ("classes", "", "all logits, us", "one logit, us", "ratio", "ratio in the paper")
    rows = [
        (
            f"2^{power:g}", f"{speed.classes:,}", f"{1e6 * speed.all_logits:.1f}", f"{1e6 * speed.one_logit:.1f}",
            f"{speed.ratio:.1f}", PAPER.get(power, ""),
        )
        for power, speed in found
    ]  # fmt: skip
    return Table(header, tuple(rows))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.single_logit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--most", type=int, default=int(2**18.5), metavar="K", help="classes at most (default 370,727)")
    parser.add_argument("--batches", type=int, default=100, help=f"mini-batches of {BATCH} to average (default 100)")
    options = parser.parse_args(arguments)
    if options.most < 2 ** POWERS[0] or options.batches < 1:
        parser.error(f"--most {options.most} --batches {options.batches}: take at least 1,024 classes and 1 mini-batch")
    print(table(list(speeds(options.most, options.batches))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
