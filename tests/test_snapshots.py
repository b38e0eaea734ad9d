"""A history of parameters: what is kept, what is dropped, and the way to a file and back."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigrad import nn
from minigrad.losses import SquaredError
from minigrad.optim import SGD
from minigrad.snapshots import Snapshots
from minigrad.training import fit


def counted(t: int, into: nn.Module) -> nn.Module:
    """A network whose parameters all are t."""
    for p in into.parameters():
        p.data[...] = t
    return into


def recorded(count: int, **settings: Any) -> Snapshots:
    history, model = Snapshots(**settings), nn.Linear(2, 1)
    for t in range(count):
        history.record(counted(t, model))
    return history


def numbers(history: Snapshots) -> list[int]:
    return [int(state["weight"][0, 0]) for state in history]


@pytest.mark.parametrize("limit", [2, 3, 4, 7, 8])
def test_memory_is_bounded_and_the_snapshots_lie_evenly(limit: int) -> None:
    history, model = Snapshots(limit=limit), nn.Linear(2, 1)
    for t in range(100):
        history.record(counted(t, model))
        assert len(history) <= limit
        assert history.times == numbers(history)
        assert history.times[0] == 0
        assert history.times[-1] == t
        *even, _ = history.times
        assert even == list(range(0, t, history.every))[: len(even)]
        assert t - (even[-1] if even else 0) <= history.every
        assert history.nbytes == len(history) * 3 * 8
    assert len(history) >= limit // 2


def test_what_is_kept_by_hand() -> None:
    assert recorded(5, limit=4).times == [0, 2, 4]
    assert recorded(6, limit=4).times == [0, 2, 4, 5]
    assert recorded(9, limit=4).times == [0, 4, 8]


def test_a_snapshot_is_loaded_and_is_a_copy() -> None:
    history = recorded(3)
    model = nn.Linear(2, 1)
    model.load_state_dict(history[1])
    assert model.weight.data.tolist() == [[1, 1]]
    history[1]["weight"][...] = 7
    assert numbers(history) == [0, 1, 2]
    assert int(history[-1]["weight"][0, 0]) == 2
    assert [int(state["weight"][0, 0]) for state in history[1:]] == [1, 2]
    with pytest.raises(IndexError, match="there is no snapshot 3"):
        history[3]


def test_replay() -> None:
    model = nn.Linear(2, 1)
    seen = [(t, float(m.bias.data[0])) for t, m in recorded(6, limit=4).replay(model)]
    assert seen == [(0, 0.0), (2, 2.0), (4, 4.0), (5, 5.0)]
    assert model.bias.data.tolist() == [5]


def test_a_file_holds_all_and_recording_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "history.npz"
    recorded(3).save(path)
    history = recorded(7, limit=5, per="step")
    history.save(path)
    assert list(tmp_path.iterdir()) == [path]  # nothing half-written is left beside it
    again = Snapshots.load(path)
    assert (again.times, again.every, again.limit, again.per) == (history.times, history.every, 5, "step")
    assert numbers(again) == numbers(history)
    assert again[0]["bias"].dtype == history[0]["bias"].dtype
    model = nn.Linear(2, 1)
    for t in range(7, 20):
        for one in (history, again):
            one.record(counted(t, model))
    assert again.times == history.times == numbers(again)


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "history.npz"
    recorded(3).save(path)

    def full(file: Any, **arrays: Any) -> None:
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="no space"):
        recorded(6).save(path)
    assert list(tmp_path.iterdir()) == [path]
    assert len(Snapshots.load(path)) == 3


@pytest.mark.parametrize(("per", "times"), [("epoch", [0, 1, 2, 3]), ("step", list(range(13)))])
def test_fit_records(per: str, times: list[int]) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 2)), rng.normal(size=(7, 1))
    model = nn.Linear(2, 1, seed=0)
    first = model.weight.data.copy()
    history = Snapshots(per=per)
    optimizer = SGD(model.parameters(), lr=0.01)
    fit(model, SquaredError(), optimizer, (x, y), epochs=3, batch_size=2, snapshots=history)
    assert history.times == times
    np.testing.assert_array_equal(history[0]["weight"], first)
    np.testing.assert_array_equal(history[-1]["weight"], model.weight.data)
    steps = [np.abs(b["weight"] - a["weight"]).max() for a, b in itertools.pairwise(history)]
    assert min(steps) > 0
    fit(model, SquaredError(), optimizer, (x, y), epochs=1, batch_size=2, snapshots=history)
    assert history.times[-1] == times[-1] + (1 if per == "epoch" else 4)


def test_refusals(tmp_path: Path) -> None:
    history = recorded(2)
    nn.Linear(3, 1).save(tmp_path / "model.npz")
    for call, words in (
        (lambda: Snapshots(limit=1), "from 2"),
        (lambda: Snapshots(per="day"), "choose 'epoch' or 'step'"),
        (lambda: history.record(nn.Linear(3, 1)), "other parameters than the 2 snapshots"),
        (lambda: Snapshots().save(tmp_path / "none.npz"), "no snapshots yet"),
        (lambda: Snapshots.load(tmp_path / "model.npz"), "holds no snapshots"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    assert not (tmp_path / "none.npz").exists()
    assert repr(history) == "Snapshots(2 of at most 64, per epoch, t = 0 to 1, every 1)"
