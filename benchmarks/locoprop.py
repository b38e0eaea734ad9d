"""What a round of LocoProp costs, one layer after the other, on threads, on processes and on Dask, and when Dask pays.

    python -m benchmarks.locoprop                  six layers of 784 x 784, batch 256, two workers: a minute
    python -m benchmarks.locoprop --workers 4 --width 2048 --iterations 1,10,100

A task is the update of one layer. It carries its arrays there and back, so that it can run anywhere and again, which
costs the same for one local step as for a hundred: the more steps, the more it pays to send it away. Every executor
gives the same bits, and that is checked. The time is the least of several rounds, taken by turns.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import numpy as np

from minigrad import nn
from minigrad.locoprop import LocoProp
from minigrad.losses import CrossEntropy
from minigrad.tables import Table

LAYERS = 6
ITERATIONS = (1, 3, 10, 30, 100)


def trainer(width: int, iterations: int, executor: Executor | None) -> LocoProp:
    """A perceptron in float32 with tanh between its layers, and random weights."""
    kind: dict[str, Any] = {"init": "glorot_uniform", "dtype": np.float32}
    layers = [layer for k in range(LAYERS) for layer in (nn.Linear(width, width, seed=k, **kind), nn.Tanh())]
    return LocoProp(
        nn.Sequential(*layers[:-1]), CrossEntropy(), activation_lr=0.1, weight_lr=0.1, iterations=iterations,
        executor=executor,
    )  # fmt: skip


@contextlib.contextmanager
def executors(workers: int) -> Iterator[dict[str, Executor | None]]:
    """Those to compare, by name; Dask only where it is installed."""
    with contextlib.ExitStack() as stack:
        found: dict[str, Executor | None] = {"serial": None}
        found[f"{workers} threads"] = stack.enter_context(ThreadPoolExecutor(workers))
        spawn = multiprocessing.get_context("spawn")
        found[f"{workers} processes"] = stack.enter_context(ProcessPoolExecutor(workers, mp_context=spawn))
        try:
            from distributed import Client, LocalCluster
        except ModuleNotFoundError:
            print("without Dask: pip install 'minigrad[distributed]'", file=sys.stderr)
        else:
            here: dict[str, Any] = {"dashboard_address": None, "host": "127.0.0.1"}
            cluster = stack.enter_context(LocalCluster(n_workers=workers, threads_per_worker=1, **here))
            client = stack.enter_context(Client(cluster))
            found[f"Dask, {workers} workers"] = client.get_executor(pure=False)
        yield found


def measure(on: dict[str, Executor | None], width: int, batch: int, iterations: int, repeats: int) -> list[float]:
    """The seconds of a round on each executor; RuntimeError if one arrives at other weights."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((batch, width), dtype=np.float32), rng.integers(0, width, batch)
    trainers = [trainer(width, iterations, executor) for executor in on.values()]
    best = [math.inf] * len(on)
    for turn in range(repeats + 1):  # the first one is not counted
        for k, one in enumerate(trainers):
            started = time.perf_counter()
            one.step(x, y)
            if turn:
                best[k] = min(best[k], time.perf_counter() - started)
    weights = [b"".join(p.data.tobytes() for p in one.model.parameters()) for one in trainers]
    if len(set(weights)) > 1:
        raise RuntimeError("benchmarks.locoprop: the executors arrived at different weights")
    return best


def table(names: Sequence[str], found: Sequence[tuple[int, list[float]]]) -> Table:
    """Milliseconds a round, and beside them the ratio to serial."""
    header = ("local steps", "serial, ms", *(f"{name}, ms (ratio)" for name in names[1:]))
    rows = [
        (
            str(iterations), f"{1e3 * seconds[0]:.0f}",
            *(f"{1e3 * one:.0f} ({one / seconds[0]:.2f})" for one in seconds[1:]),
        )
        for iterations, seconds in found
    ]  # fmt: skip
    return Table(header, tuple(rows))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.locoprop", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=2, help="threads, processes and Dask workers (default 2)")
    parser.add_argument("--width", type=int, default=784, help="units of a layer (default 784)")
    parser.add_argument("--batch", type=int, default=256, help="examples (default 256)")
    parser.add_argument("--iterations", default=",".join(map(str, ITERATIONS)), metavar="T,...", help="local steps")
    parser.add_argument("--repeats", type=int, default=5, help="rounds to take the least of (default 5)")
    options = parser.parse_args(arguments)
    steps = [int(text) if text.isdecimal() else 0 for text in options.iterations.split(",")]
    if min(options.workers, options.width, options.batch, options.repeats, *steps) < 1:
        parser.error("take whole numbers from 1, with commas between the local steps")
    with executors(options.workers) as on:
        names = list(on)
        found = []
        for iterations in steps:
            found.append((iterations, measure(on, options.width, options.batch, iterations, options.repeats)))
            print(f"{iterations} local steps measured", file=sys.stderr)
    print(table(names, found))
    pays = [iterations for iterations, seconds in found if len(seconds) > 3 and seconds[3] < seconds[0]]
    if pays:
        print(f"\nDask pays from {min(pays)} local steps on.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
