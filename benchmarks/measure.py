"""The measurement: check every peer's numbers, then time all in turn. What comes out is plain data for `report`."""

from __future__ import annotations

import contextlib
import datetime
import importlib.util
import itertools
import os
import platform
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from .cases import Case, Step, Sweep, peak
from .peers.numpy_ import Peer as Reference
from .worker import Worker, WorkerError, numbers

PEERS = ("torch", "minigrad", "jax", "mygrad", "autograd", "numpy")
IN_FLOAT64 = ("torch", "minigrad", "numpy")  # the others are beside them in float32 alone
BOUND = ("torch", "minigrad")  # what the bounds compare
REST = 0.2  # of their time, for the functions of the other peers
LEAST = 3  # samples, of what takes long
BUILDERS = 2  # processes at once that are not timed: more of them wait for one another's threads
TOLERANCE = {"float32": 2e-4, "float64": 1e-9}

Results = dict[str, Any]


def installed(peers: Iterable[str]) -> tuple[list[str], list[str]]:
    """The peers that can be imported, in the order of the tables, and those that cannot."""
    asked = set(peers)
    unknown = asked - set(PEERS)
    if unknown:
        raise ValueError(f"peers {', '.join(sorted(unknown))}: choose from {', '.join(PEERS)}")
    there = [peer for peer in PEERS if peer in asked and importlib.util.find_spec(peer)]
    return there, sorted(asked - set(there))


def truth(case: Case) -> list[np.ndarray]:
    """The right numbers: NumPy by hand in float64, from the inputs as they are in the dtype of the case."""
    runner = Reference(dtype="float64").build(case)
    assert runner is not None
    return numbers(case, *runner)


def difference(found: Sequence[np.ndarray], right: Sequence[np.ndarray], dtype: str) -> str | None:
    """What is wrong with a peer's numbers, in words; None if they are right.

    Each array is compared on the scale of its largest entry, and on no smaller one than a thousandth of the largest
    of all, where rounding is all that there is.
    """
    if len(found) != len(right):
        return f"{len(found)} arrays, not {len(right)}"
    least = 1e-3 * max(abs(array).max() for array in right)
    for k, (ours, theirs) in enumerate(zip(found, right, strict=True)):
        if ours.shape != theirs.shape:
            return f"array {k} has shape {ours.shape}, not {theirs.shape}"
        if ours.dtype != dtype:
            return f"array {k} is {ours.dtype}, not {dtype}"
        error = abs(ours - theirs).max() / max(abs(theirs).max(), least)
        if not error <= TOLERANCE[dtype]:
            return f"array {k} is off by {error:.1e} of its largest entry"
    return None


class Measurement:
    """Workers for all peers and numbers of threads, and what they are asked."""

    def __init__(
        self,
        peers: Sequence[str],
        threads: Sequence[int],
        seconds: float,
        rounds: int,
        say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
    ):
        self.peers, self.threads, self.seconds, self.rounds, self.say = peers, threads, seconds, rounds, say
        self.settings = [(peer, kept) for peer in peers for kept in ((False, True) if peer == "torch" else (False,))]
        self.lines: list[Results] = []
        self.stack = contextlib.ExitStack()
        self.pool = self.stack.enter_context(ThreadPoolExecutor(BUILDERS))

    def __enter__(self) -> Measurement:
        self.workers = [
            self.stack.enter_context(Worker(peer, n, kept=kept)) for n in self.threads for peer, kept in self.settings
        ]
        versions = self.pool.map(lambda worker: worker.ask("version"), self.workers)
        self.versions = {worker.peer: version for worker, version in zip(self.workers, versions, strict=True)}
        return self

    def __exit__(self, *exception: object) -> None:
        self.stack.close()

    def line(self, case: Case) -> None:
        """Check and time one case."""
        asked = [w for w in self.workers if case.dtype != "float64" or w.peer in IN_FLOAT64]
        # One peer on both numbers of threads at a time: what takes long, compiling, is then done at once.
        built = {w: self.pool.submit(w.ask, "build", case) for w in sorted(asked, key=lambda w: w.peer)}
        right = truth(case)
        wrong: dict[Worker, str] = {}
        samples: dict[Worker, list[float]] = {}
        for worker in asked:
            try:
                found = built[worker].result()
            except WorkerError as error:
                wrong[worker] = str(error).strip().splitlines()[-1]
                continue
            if found is None:
                continue
            problem = difference(found, right, case.dtype)
            if problem:
                wrong[worker] = problem
            else:
                samples[worker] = []
        # To and fro, so that noise and warmth hit all alike.
        for turn in range(self.rounds):
            for worker in list(samples)[:: -1 if turn % 2 else 1]:
                seconds = self.seconds * (1 if worker.peer in BOUND or isinstance(case, Step) else REST)
                if len(samples[worker]) < LEAST or sum(samples[worker]) < 4 * seconds:
                    samples[worker] += worker.ask("time", seconds / self.rounds)
        for n in self.threads:
            times: dict[str, Any] = {w.name: summary(s) for w, s in samples.items() if w.threads == n}
            problems = {w.name: text for w, text in wrong.items() if w.threads == n}
            self.lines.append(
                {
                    "case": case.name, "section": case.section, "dtype": case.dtype, "flop": case.flop,
                    "must": case.must, "aim": case.aim, "threads": n, "times": times, "wrong": problems,
                }
            )  # fmt: skip
            told = [f"{name} {1e6 * time['median']:.1f} us" for name, time in times.items()]
            told += [f"{name} WRONG: {text}" for name, text in problems.items()]
            self.say(f"{case.name}, {n} thread{'s' * (n > 1)}: {', '.join(told)}")

    def results(self, cases: Sequence[Case]) -> Results:
        """All lines, the peak of the machine first; what there is so far, if it is interrupted."""
        about, complete = machine(), False
        with contextlib.suppress(KeyboardInterrupt):
            for case in [*peak(512 if self.seconds < 0.1 else 1536), *cases]:
                self.line(case)
            complete = True
        return {
            "date": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %z"),
            "machine": about,
            "versions": {**self.versions, "NumPy": f"NumPy {np.__version__}"},
            "peers": list(self.peers),
            "threads": list(self.threads),
            "complete": complete,
            "lines": self.lines,
        }

    def sweep(self, sweep: Sweep) -> list[tuple[int, list[Results]]]:
        """The lines of each size."""
        points = []
        for size, case in sweep.cases:
            self.lines = []
            self.line(case)
            points.append((size, self.lines))
        return points


def summary(samples: Sequence[float]) -> Results:
    """The median of the seconds, the fastest, the quartiles, and of how many."""
    low, median, high = np.percentile(samples, [25, 50, 75]).tolist()
    return {"median": median, "fastest": min(samples), "quartiles": [low, high], "samples": len(samples)}


def memory(peers: Sequence[str], threads: int, cases: Sequence[Step]) -> list[Results]:
    """The peak memory of each whole step, in a fresh process each; PyTorch's is that of its plain setting."""

    def grown(case: Step, peer: str) -> Any:
        with Worker(peer, threads) as worker:
            return worker.ask("memory", case)

    with ThreadPoolExecutor(BUILDERS) as pool:
        found = pool.map(grown, *zip(*itertools.product(cases, peers), strict=True))
        return [
            {"case": case.name, "threads": threads, "bytes": {peer: next(found) for peer in peers}} for case in cases
        ]


def machine() -> Results:
    """What it was measured on."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, IndexError):
        model = Path("/proc/cpuinfo").read_text().split("model name")[1].split("\n")[0].strip("\t :")
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": model,
        "cores": count,
        "system": platform.system(),
        "python": platform.python_version(),
        "load": [round(load, 1) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
    }
