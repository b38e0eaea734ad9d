"""LocoProp on threads, processes and machines: the same bits as one after the other, whatever dies on the way."""

import contextlib
import importlib
import multiprocessing
import os
import pickle
import signal
import sys
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from minigrad import kernels, nn
from minigrad.locoprop import LocoProp, Solution, executor_for, solve
from minigrad.losses import CrossEntropy
from minigrad.optim import RMSprop

SPAWN = multiprocessing.get_context("spawn")  # a forked process inherits locks that other threads hold


def network():
    return nn.Sequential(
        nn.Conv2d(1, 4, kernel_size=3, padding=1), nn.Tanh(), nn.MaxPool2d(2), nn.BatchNorm2d(4),
        nn.Conv2d(4, 8, kernel_size=3), nn.ReLU(), nn.Dropout(0.8, seed=3), nn.Flatten(),
        nn.Linear(32, 40), nn.Sigmoid(), nn.Linear(40, 5),
    ).reset(0)  # fmt: skip


def trainer_on(executor, iterations=4):
    return LocoProp(
        network(), CrossEntropy(), variant="squared-post", activation_lr=0.5, weight_lr=0.5, iterations=iterations,
        executor=executor, inner=lambda p: RMSprop(p, lr=lambda n: 0.01 / (1 + n), momentum=0.9),
    )  # fmt: skip


def batches(count):
    rng = np.random.default_rng(0)
    return [(rng.normal(size=(16, 1, 8, 8)), rng.integers(0, 5, 16)) for _ in range(count)]


def state(trainer):
    """All that a round changes, as bytes."""
    return {
        name: array.tobytes()
        for name, array in (trainer.model.state_dict() | trainer.state_dict()).items()
    }


def trained(executor, rounds=3, iterations=4):
    """The losses before each round, and the state after the last."""
    trainer = trainer_on(executor, iterations)
    losses = [trainer.step(x, y) for x, y in batches(rounds)]
    assert all(p.data.flags.writeable for p in trainer.model.parameters())
    return losses, state(trainer)


@pytest.fixture(scope="module")
def serial():
    return trained(None)


def test_threads_give_the_same_bits(serial):
    with ThreadPoolExecutor(3) as executor:
        assert trained(executor) == serial


def test_processes_give_the_same_bits(serial):
    with ProcessPoolExecutor(2, mp_context=SPAWN) as executor:
        assert trained(executor) == serial


def test_threads_end_with_as_many_kernel_threads_as_before():
    before = kernels.num_threads()
    kernels.set_num_threads(2)
    try:
        wanted = kernels.num_threads()
        with ThreadPoolExecutor(3) as executor:
            trained(executor, rounds=1)
        assert kernels.num_threads() == wanted
    finally:
        kernels.set_num_threads(before)


class Backwards(Executor):
    """Runs the last task first, each one twice, and hands back what went through pickle, as other machines do."""

    def __init__(self):
        self.waiting = []

    def submit(self, fn, /, *args, **kwargs):
        self.waiting.append((pickle.dumps((fn, args)), Result(self)))
        return self.waiting[-1][1]

    def run(self):
        for task, future in reversed(self.waiting):
            fn, args = pickle.loads(task)
            fn(*args)
            solution = pickle.loads(pickle.dumps(fn(*args)))
            for array in [*solution.weights, *(a for arrays in solution.memory for a in arrays)]:
                array.flags.writeable = False
            future.set_result(solution)
        self.waiting = []


class Result(Future):
    def __init__(self, executor):
        super().__init__()
        self.executor = executor

    def result(self, timeout=None):
        self.executor.run()
        return super().result(timeout)


def test_order_repetition_and_transport_change_no_bits(serial):
    assert trained(Backwards()) == serial


def test_a_task_is_its_arrays_and_little_more():
    trainer = trainer_on(None)
    trainer.step(*batches(1)[0])
    for problem in trainer._problems.values():
        arrays = [problem.inputs, problem.target, *problem.weights, *(a for part in problem.memory for a in part)]
        assert len(pickle.dumps(problem)) < sum(a.nbytes for a in arrays if a is not None) + 3000


def test_workers_with_other_kernels_are_refused():
    trainer = trainer_on(None)
    trainer.step(*batches(1)[0])
    problem = next(iter(trainer._problems.values()))
    other = "numpy" if kernels.backend() == "cython" else "cython"
    if other == "cython" and not kernels.compiled():
        pytest.skip("there are no compiled kernels")
    with kernels.use_kernels(other), pytest.raises(ValueError, match="MINIGRAD_KERNELS"):
        solve(problem)


class DiesInMidRound:
    """A pool of processes one of which is killed when the third task of a round is submitted."""

    def __init__(self, pool, at):
        self.pool, self.at, self.submitted = pool, at, 0

    def submit(self, fn, /, *args):
        self.submitted += 1
        if self.submitted == self.at:
            os.kill(next(iter(self.pool._processes)), signal.SIGKILL)
        return self.pool.submit(fn, *args)


@pytest.mark.skipif(
    sys.version_info < (3, 11, 7) or sys.version_info[:3] == (3, 12, 0),
    reason="this Python's own pool hangs when it is shut down after a worker has died (CPython issue 94777)",
)
def test_a_pool_that_dies_leaves_the_last_complete_round_and_says_how_to_resume(serial):
    steps = batches(3)
    with ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        trainer = trainer_on(DiesInMidRound(pool, at=4 + 3), iterations=4)
        losses = [trainer.step(*steps[0])]
        before, generators = state(trainer), [g.bit_generator.state for g in trainer.model.generators()]
        with pytest.raises(BrokenExecutor, match=r"after round 1; set trainer\.executor to a new executor"):
            trainer.step(*steps[1])
    assert state(trainer) == before
    assert [g.bit_generator.state for g in trainer.model.generators()] == generators
    with ThreadPoolExecutor(2) as executor:
        trainer.executor = executor
        losses += [trainer.step(x, y) for x, y in steps[1:]]
    assert (losses, state(trainer)) == serial


def test_an_error_in_a_worker_reaches_the_caller_and_changes_nothing():
    class Refusing(Executor):
        def submit(self, fn, /, *args, **kwargs):
            future = Future()
            future.set_exception(ValueError("no room"))
            return future

    trainer = trainer_on(Refusing())
    before = state(trainer)
    with pytest.raises(ValueError, match="no room"):
        trainer.step(*batches(1)[0])
    assert state(trainer) == before


# By name ----------------------------------------------------------------------------------------------------


def test_serial_and_threads_by_name(serial):
    with executor_for("serial") as executor:
        assert executor is None
    with executor_for("threads:2") as executor:
        assert trained(executor) == serial
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit(print)


@pytest.mark.parametrize("where", ["", "gpu", "threads", "threads:0", "threads:x", "serial:1", "dask:host:1", "dask://"])
def test_other_names_are_refused(where):
    with pytest.raises(ValueError, match=r"serial, threads:N or dask://host:port"), executor_for(where):
        pass


def test_without_dask_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ModuleNotFoundError, match=r"minigrad\[distributed\]"), executor_for("dask://127.0.0.1:8786"):
        pass


# Dask -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def dask_client(workers=2):
    """A client of a cluster of processes on the loopback interface, with nothing left behind."""
    distributed = pytest.importorskip("distributed", reason="needs minigrad[distributed]")
    with (
        distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


class KillsAWorker:
    """An executor of Dask that kills the worker of a task as soon as it has begun, once."""

    def __init__(self, client, at):
        self.client, self.executor, self.at, self.submitted = client, client.get_executor(), at, 0

    def submit(self, fn, /, *args):
        self.submitted += 1
        future = self.executor.submit(fn, *args)
        if self.submitted == self.at:
            pids = self.client.run(os.getpid)
            while not (busy := [worker for worker, tasks in self.client.processing().items() if tasks]):
                assert not future.done(), "the task was over before its worker could be killed"
            os.kill(pids[busy[0]], signal.SIGKILL)
        return future


def test_dask_gives_the_same_bits(serial):
    with dask_client() as client:
        assert trained(client.get_executor()) == serial
        with executor_for(client.scheduler.address.replace("tcp", "dask")) as executor:
            assert trained(executor) == serial


def test_a_killed_dask_worker_changes_no_bits():
    expected = trained(None, iterations=300)
    with dask_client() as client:
        first = set(client.scheduler_info()["workers"])
        assert trained(KillsAWorker(client, at=4 + 1), iterations=300) == expected
        client.wait_for_workers(2, timeout=30)
        assert set(client.scheduler_info()["workers"]) != first


# What it costs ----------------------------------------------------------------------------------------------


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    return importlib.import_module("benchmarks.locoprop")


def test_the_benchmark_compares_weights_and_shows_ratios(benchmark):
    with ThreadPoolExecutor(2) as executor:
        seconds = benchmark.measure({"serial": None, "2 threads": executor}, 8, 4, 2, 1)
    assert len(seconds) == 2
    assert min(seconds) > 0
    text = str(benchmark.table(["serial", "2 threads"], [(10, [0.4, 0.2]), (30, [1.0, 0.5])]))
    assert "200 (0.50)" in text
    with pytest.raises(RuntimeError, match="different weights"):
        benchmark.measure({"serial": None, "drunk": Wrong()}, 8, 4, 2, 1)


class Wrong(Executor):
    """Gives each layer the solution of another problem: its weights unchanged."""

    def submit(self, fn, /, problem):
        future = Future()
        future.set_result(Solution([np.array(w) for w in problem.weights], ()))
        return future


@pytest.mark.parametrize("wrong", [["--workers", "0"], ["--iterations", "1,x"]])
def test_the_benchmark_refuses_what_is_no_number(benchmark, wrong, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(wrong)
    assert "whole numbers from 1" in capsys.readouterr().err
