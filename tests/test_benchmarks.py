"""The harness of `benchmarks/`: it refuses wrong numbers, and says what it measured. No time is asserted."""

import contextlib
import importlib.util
import itertools
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import __main__ as program  # noqa: E402
from benchmarks import cases, measure, report, single_logit  # noqa: E402
from benchmarks.worker import Worker, WorkerError  # noqa: E402

TINY = {case.name: case for case in cases.TINY}
PEERS = [
    pytest.param(
        peer, marks=pytest.mark.skipif(importlib.util.find_spec(peer) is None, reason=f"{peer} is not installed")
    )
    for peer in measure.PEERS
]

# Cases --------------------------------------------------------------------------------------------------------------


def test_names_are_unique_and_found():
    names = [case.name for case in cases.selected("*")]
    assert len(set(names)) == len(names)
    assert [case.name for case in cases.selected("LENET1 w")] == ["conv lenet1 weights", "conv lenet1 weights float64"]
    assert not any(case.name.startswith("tiny") for case in cases.selected(None))
    assert cases.selected("no such thing") == []


@pytest.mark.parametrize("case", [case for case in cases.TINY if case.section == "kernels" and "conv" in case.name])
def test_multiplications_by_padding_do_not_count(case):
    (N, C, H, W), (O, _, U, V), _ = case.shapes
    count = 0
    for p, q, u, v in itertools.product(range(H), range(W), range(U), range(V)):
        count += 0 <= p + u - 1 < H and 0 <= q + v - 1 < W
    assert case.flop == 2 * N * C * O * count * (3 if case.part == "forward and backward" else 1)


def test_the_products_of_the_whole_steps():
    # As counted by hand, in units of 10^9; with the zeros of its padding the third has 5.04.
    flop = {case.name: case.flop / 1e9 for case in cases.STEPS}
    assert flop["LeNet-5-like"] == pytest.approx(0.097, abs=5e-4)
    assert flop["perceptron 784-500-500-10, batch norm"] == pytest.approx(0.3098, abs=5e-5)
    assert 4 < flop["six convolutions"] < 5.04
    assert flop["deep autoencoder"] == pytest.approx(15.43, abs=5e-3)


# Peers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_computes_what_the_reference_computes(peer):
    covered = 0
    with Worker(peer, threads=1) as worker:
        assert worker.ask("version")
        for name in (
            "tiny step",
            "tiny convolutional step",
            "tiny conv weights",
            "tiny x*w + b",
        ):
            found = worker.ask("build", TINY[name])
            if found is not None:
                covered += 1
                assert measure.difference(found, measure.truth(TINY[name]), "float32") is None, name
                assert min(worker.ask("time", 1e-3)) > 0
    assert covered >= 2


def test_a_worker_tells_what_went_wrong_and_goes_on():
    with Worker("numpy", threads=1) as worker:
        with pytest.raises(WorkerError, match="no attribute 'nothing'"):
            worker.ask("nothing")
        assert "NumPy" in worker.ask("version")
        worker.process.kill()
        with pytest.raises(WorkerError, match="numpy died"):
            worker.ask("version")


def test_peers_that_are_not_installed_are_named(monkeypatch):
    monkeypatch.setattr(measure.importlib.util, "find_spec", lambda name: None if name == "jax" else object())
    assert measure.installed(["numpy", "minigrad", "jax"]) == (["minigrad", "numpy"], ["jax"])
    with pytest.raises(ValueError, match=r"abacus: choose from torch, minigrad"):
        measure.installed(["abacus"])


# The check ----------------------------------------------------------------------------------------------------------


def test_right_numbers_pass_and_wrong_ones_do_not(rng):
    right = [np.array(2.0), rng.normal(size=(3, 4)), 1e-9 * rng.normal(size=5)]
    found = [array.astype(np.float32) for array in right]
    assert measure.difference(found, right, "float32") is None
    assert "2 arrays, not 3" in measure.difference(found[:2], right, "float32")
    assert "shape (4, 3)" in measure.difference([found[0], found[1].T, found[2]], right, "float32")
    assert "float64" in measure.difference([*found[:2], right[2]], right, "float32")
    for wrong in (-found[1], 1.001 * found[1], 0 * found[1], np.nan * found[1], np.roll(found[1], 1)):
        assert "array 1 is off" in measure.difference([found[0], wrong, found[2]], right, "float32")
    nearly = [array * (1 + 1e-6) for array in right]
    assert measure.difference(nearly, right, "float64") is not None


@pytest.mark.parametrize("name", ["tiny step", "tiny convolutional step", "tiny autoencoder"])
@pytest.mark.parametrize(("setting", "value"), [("rate", 0.0), ("momentum", 0.0), ("momentum", -0.9)])
def test_a_wrong_update_is_seen(monkeypatch, name, setting, value):
    case = TINY[name]
    right = measure.truth(case)
    if setting == "rate":
        object.__setattr__(case := cases.replace(case), "rate", value)
    else:
        monkeypatch.setattr(cases, "MOMENTUM", value)
    found = [array.astype(np.float32) for array in measure.truth(case)]
    assert "off by" in measure.difference(found, right, "float32")


class Scripted:
    """A worker that answers what it is told to."""

    def __init__(self, name, answer):
        self.name, self.peer, self.threads, self.answer = name, name, 1, answer

    def ask(self, request, argument):
        if request == "time":
            return [argument]
        assert request == "build"
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_who_is_wrong_is_not_timed():
    case = TINY["tiny linear"]
    right = [array.astype(np.float32) for array in measure.truth(case)]
    told = []
    measurement = measure.Measurement(["torch", "minigrad"], [1], 0.5, 5, told.append)
    measurement.workers = [
        Scripted("torch", right),
        Scripted("minigrad", [-right[0], *right[1:]]),
        Scripted("jax", None),
        Scripted("mygrad", right),
        Scripted("numpy", WorkerError("Traceback ...\nMemoryError: no more")),
    ]
    measurement.line(case)
    (line,) = measurement.lines
    assert line["times"].keys() == {"torch", "mygrad"}
    assert line["times"]["mygrad"]["median"] == pytest.approx(0.1 * measure.REST)
    assert line["times"]["torch"] == {"median": 0.1, "fastest": 0.1, "quartiles": [0.1, 0.1], "samples": 5}
    assert line["wrong"] == {
        "minigrad": "array 0 is off by 2.0e+00 of its largest entry",
        "numpy": "MemoryError: no more",
    }
    assert "WRONG" in told[0]


def test_whole_steps_of_all_peers_are_timed_alike():
    case = TINY["tiny step"]
    right = [array.astype(np.float32) for array in measure.truth(case)]
    measurement = measure.Measurement(["torch", "minigrad"], [1], 0.5, 5, lambda line: None)
    measurement.workers = [Scripted("torch", right), Scripted("jax", right)]
    measurement.line(case)
    (line,) = measurement.lines
    assert {peer: time["median"] for peer, time in line["times"].items()} == {"torch": 0.1, "jax": 0.1}


def test_memory_is_told_of_the_peer_that_took_it(monkeypatch):
    @contextlib.contextmanager
    def worker(peer, threads):
        yield SimpleNamespace(ask=lambda request, case: (request, case.name, peer, threads))

    monkeypatch.setattr(measure, "Worker", worker)
    steps = [TINY["tiny step"], TINY["tiny autoencoder"]]
    for step, line in zip(steps, measure.memory(["torch", "minigrad"], 2, steps), strict=True):
        assert line["case"] == step.name
        assert line["bytes"] == {peer: ("memory", step.name, peer, 2) for peer in ("torch", "minigrad")}


# The report ---------------------------------------------------------------------------------------------------------


def line(case, section="steps", flop=0, must=0.5, aim=0.3, wrong=(), **medians):
    times = {
        name.replace("_", "-"): {"median": t, "fastest": t, "quartiles": [t, t], "samples": 1}
        for name, t in medians.items()
    }
    return {
        "case": case, "section": section, "dtype": "float32", "flop": flop, "must": must, "aim": aim, "threads": 1,
        "times": times, "wrong": dict(wrong),
    }  # fmt: skip


@pytest.fixture
def results():
    return {
        "date": "2026-01-02 03:04 +0000",
        "machine": {"processor": "Abacus", "cores": 2, "system": "Linux 1", "python": "3.11", "load": [0.5, 0.1, 0.0]},
        "versions": {"torch": "PyTorch 9", "minigrad": "minigrad 1"},
        "peers": ["torch", "minigrad", "jax"],
        "threads": [1],
        "lines": [
            line("product", "peak", flop=2e9, must=None, aim=None, torch=0.02, torch_kept=0.025, minigrad=0.01),
            line("one", flop=1e9, torch=0.1, torch_kept=0.05, minigrad=0.0125, jax=0.1),
            line("two", torch=1e-3, minigrad=4e-4),
            line("three", torch=1e-3, torch_kept=2e-3, minigrad=6e-4),
            line("four", torch=1e-6, wrong={"minigrad": "array 0 is off"}),
        ],
        "memory": [{"case": "one", "threads": 1, "bytes": {"torch": 2**21, "minigrad": 2**20}}],
    }


def rows(text):
    return {cells[0]: cells[1:] for row in text.splitlines() if (cells := [c.strip() for c in row.split("|")[1:-1]])}


def test_tables(results):
    text, memory = report.tables(results).split("## Peak memory")
    found = rows(text)
    assert found["one"] == [
        "1", "0.50", "0.30", "50.0 ms, 10% *", "0.25 (12.5 ms, 40%)", "2.00 (100 ms, 5%)", "aim",
    ]  # fmt: skip
    assert found["two"][3:] == ["1.00 ms", "0.40 (400 us)", "-", "must"]
    assert found["three"][3:] == ["1.00 ms", "0.60 (600 us)", "-", "misses"]
    assert found["four"][3:] == ["1.00 us", "wrong", "-", ""]
    assert found["product"] == ["1", "", "", "20.0 ms, 50%", "0.50 (10.0 ms, 100%)", "-", ""]
    assert "* four, 1 thread(s), minigrad: array 0 is off" in text
    assert rows(memory)["one"] == ["1.10", "2.0 MiB", "0.50 (1.0 MiB)"]
    assert len({len(row) for row in text.splitlines() if row.startswith(("| one", "| two"))}) == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (4e-7, "0.40 us"),
        (9.996e-6, "10.0 us"),
        (1.234e-4, "123 us"),
        (9.996e-4, "1.00 ms"),
        (0.0567, "56.7 ms"),
        (12, "12.0 s"),
    ],
)
def test_three_digits(value, text):
    assert report.seconds(value) == text


def test_notes_by_hand_survive(results, tmp_path):
    page = tmp_path / "RESULTS.md"
    plot = tmp_path / "growth_batch.png"
    report.write(results, page)
    page.write_text(page.read_text() + "\nWhat still is slower: nothing.\n")
    results["date"] = "2027-01-02 03:04 +0000"
    report.write(results, page, [plot])
    text = page.read_text()
    assert "on 2027-01-02" in text
    assert "2026-01-02" not in text
    assert "Abacus, 2 cores" in text
    assert "PyTorch 9, minigrad 1." in text
    assert "![growth_batch](growth_batch.png)" in text
    assert text.endswith("## Notes\n\nWhat still is slower: nothing.\n")
    assert [path.name for path in tmp_path.iterdir()] == ["RESULTS.md"]


def test_plot_of_growth(results, tmp_path):
    sweep = cases.sweeps()[0]
    points = [(1, [results["lines"][1]]), (4, [results["lines"][2]])]
    report.plot(sweep, points, results["peers"], tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 1


# The program --------------------------------------------------------------------------------------------------------


def test_a_tiny_run(capsys, tmp_path):
    page = Path(program.__file__).with_name("RESULTS.md")
    before = page.read_bytes() if page.exists() else None
    file = tmp_path / "numbers.json"
    arguments = ["--quick", "--only", "tiny", "--peers", "numpy", "--threads", "1", "--json", str(file)]
    assert program.main(arguments) == 0
    found = rows(capsys.readouterr().out)
    numbers = json.loads(file.read_text())
    assert {line["case"] for line in numbers["lines"]} == {
        *TINY,
        "matrix product 512 float32",
        "matrix product 512 float64",
    }
    assert all(line["times"].keys() == {"minigrad", "numpy"} for line in numbers["lines"])
    assert found.keys() >= TINY.keys()
    assert (page.read_bytes() if page.exists() else None) == before


def test_the_command_line(capsys):
    assert program.main(["--list", "--only", "tiny lin"]) == 0
    assert capsys.readouterr().out == "tiny linear\n"
    for wrong in (["--only", "no such thing"], ["--peers", "abacus"], ["--threads", "two"], ["--threads", "0"]):
        with pytest.raises(SystemExit):
            program.main(wrong)
        assert "error:" in capsys.readouterr().err


# One logit against all ----------------------------------------------------------------------------------------------


def test_one_logit_is_that_of_all():
    speed = single_logit.measure(64, batches=2, hidden=16)
    assert speed.classes == 64
    assert 0 <= speed.difference < 1e-5
    assert speed.ratio == speed.all_logits / speed.one_logit > 0
    text = str(single_logit.table([(18.5, speed)]))
    assert "2^18.5" in text
    assert "8.5 to 21.4" in text


def test_single_logits_need_memory_and_classes(monkeypatch, capsys):
    assert single_logit.needed(int(2**18.5)) > 2 * 4 * 370_727 * 500
    monkeypatch.setattr(single_logit, "available", lambda: 1e6)
    assert single_logit.main(["--most", "2000", "--batches", "1"]) == 0
    assert "2^10 = 1,024 classes need 0.1 GB, and 0.0 are free: left out" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        single_logit.main(["--most", "10"])
