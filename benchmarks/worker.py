"""The processes of a measurement: one for each peer, setting and number of threads.

Two thread pools in one process slow each other down, so no process has two peers. `Worker` is the parent's end; run
as a program this module is the other: it reads (name of a request, arguments) from its standard input and answers
there is a result or an error, both pickled.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import pickle
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from .cases import TINY, Case, Step

ROOT = Path(__file__).parents[1]
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "MINIGRAD_NUM_THREADS")
# glibc keeps the memory that is freed, so that large arrays do not fault in new pages at every call.
KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str((1 << 31) - 1)}
STEPS_CHECKED = 3
SAMPLE = 2e-4  # seconds that one sample lasts at least, so that the clock costs nothing


class WorkerError(Exception):
    """A peer could not do what it was asked; the message is its traceback, or how it died."""


class Worker:
    """A process for one peer: `ask` it, `close` it."""

    def __init__(self, peer: str, threads: int, *, kept: bool = False):
        self.peer, self.threads = peer, threads
        self.name = f"{peer}-kept" if kept else peer
        environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads)), **(KEPT_MEMORY if kept else {})}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", peer, str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
        )  # fmt: skip

    def ask(self, request: str, *arguments: Any) -> Any:
        """The answer of the method of `Served` of this name; WorkerError instead of whatever it raised."""
        assert self.process.stdin
        assert self.process.stdout
        try:
            pickle.dump((request, arguments), self.process.stdin)
            self.process.stdin.flush()
            good, answer = pickle.load(self.process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            raise WorkerError(f"{self.name} died with status {self.process.wait()}") from None
        if not good:
            raise WorkerError(answer)
        return answer

    def close(self) -> None:
        """End the process, kindly."""
        assert self.process.stdin
        assert self.process.stdout
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Served:
    """What a worker does."""

    def __init__(self, peer: str, threads: int):
        self.peer = importlib.import_module(f".peers.{peer}_", __package__).Peer()
        self.peer.set_threads(threads)

    def version(self) -> str:
        return str(self.peer.version)

    def build(self, case: Case) -> list[np.ndarray] | None:
        """Make the case ready and run it; its numbers, or None if the peer does not cover it."""
        self.run: Any = None
        gc.collect()
        runner = self.peer.build(case)
        if runner is None:
            return None
        self.run, _ = runner
        return numbers(case, *runner)

    def time(self, seconds: float) -> list[float]:
        """Seconds a call, of samples that together last about so long; at least one. One more call is not timed."""
        clock, run = time.perf_counter, self.run
        start = clock()
        run()
        once = clock() - start
        if once > 0.1:
            return [once]
        calls = max(1, round(SAMPLE / once))
        samples: list[float] = []
        end = clock() + seconds
        while not samples or clock() < end:
            start = clock()
            for _ in range(calls):
                run()
            samples.append((clock() - start) / calls)
        return samples

    def memory(self, case: Step) -> int | None:
        """Bytes by which training grows the resident memory of this process at its peak; for a fresh process.

        Parameters, gradients and velocities count, the libraries do not. Linux alone tells.
        """
        status = Path("/proc/self/status")
        if not status.exists() or not self.peer.covers(case):
            return None

        def resident(kind: str) -> int:
            return int(status.read_text().split(f"{kind}:")[1].split()[0]) * 1024

        for tiny in TINY:  # a first use loads code
            if isinstance(tiny, Step) and self.peer.covers(tiny):
                run, _ = self.peer.build(tiny)
                run()
        before = resident("VmRSS")
        run, _ = self.peer.build(case)
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
        for _ in range(STEPS_CHECKED):
            run()
        return resident("VmHWM") - before


def numbers(case: Case, run: Any, read: Any) -> list[np.ndarray]:
    """What is compared: of a function its result; of training the first loss and gradients, and some later losses.

    Not later gradients: at a kink, of ReLU or max-pool, rounding decides which of two quite different ones it is.
    """
    found = read(run())
    if isinstance(case, Step):
        found += [read(run())[0] for _ in range(STEPS_CHECKED - 1)]
    return [np.array(array) for array in found]


def main() -> None:
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints does not mix with the answers
    peer, threads = sys.argv[1:]
    served: Served | None = None
    while True:
        try:
            request, arguments = pickle.load(requests)
        except EOFError:
            return
        try:
            served = served or Served(peer, int(threads))
            answer = True, getattr(served, request)(*arguments)
        except Exception:
            answer = False, traceback.format_exc()
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    main()
