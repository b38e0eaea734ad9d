"""A history of parameters that can be replayed: snapshots of a network while it trains, in bounded memory.

Letters: t the number of records since the first, which is t = 0; ``every`` the distance of the snapshots that are kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np

from .nn import Module, read_npz, written

__all__ = ["Snapshots"]

State = dict[str, np.ndarray]


class Snapshots(Sequence[State]):
    """What `Module.state_dict` was at t = 0, every, 2 every, ... and at the newest t: ``load_state_dict(history[k])``.

    When there are more than ``limit``, every second one is dropped and ``every`` doubles, so that the first and the
    newest are always there, the others lie evenly between them, and memory is bounded however long training lasts.
    ``times[k]`` is the t of ``history[k]``.

    Parameters
    ----------
    limit : int
        At most so many snapshots, from 2.
    per : "epoch" or "step"
        When `training.fit` calls `record`: after each epoch or each step of the optimizer, and before the first.

    Examples
    --------
    >>> history = Snapshots(limit=64, per="step")
    >>> training.fit(model, loss, optimizer, train, epochs=3, snapshots=history)
    >>> history.save("history.npz")
    >>> for t, _ in Snapshots.load("history.npz").replay(model):
    ...     print(t, training.evaluate(model, loss, validation))
    """

    def __init__(self, limit: int = 64, per: str = "epoch"):
        if not isinstance(limit, (int, np.integer)) or limit < 2:
            raise ValueError(f"Snapshots: limit={limit!r}: expected a whole number from 2, the first and the newest")
        if per not in ("epoch", "step"):
            raise ValueError(f"Snapshots: per={per!r}: choose 'epoch' or 'step'")
        self.limit, self.per = int(limit), per
        self.every = 1
        self.times: list[int] = []
        self._states: list[State] = []

    def record(self, model: Module) -> None:
        """Take a snapshot; t counts the calls. ValueError if the network is not the one of the others."""
        state = model.state_dict()
        if self._states and _shapes(state) != _shapes(self._states[0]):
            raise ValueError(
                f"Snapshots.record: {type(model).__name__} has other parameters than the {len(self)} snapshots so far: "
                f"take new Snapshots for another network"
            )
        t = self.times[-1] + 1 if self.times else 0
        if self.times and self.times[-1] % self.every:  # the newest was there only because it was the newest
            self._states.pop()
            self.times.pop()
        self._states.append(state)
        self.times.append(t)
        if len(self) > self.limit:
            self.every *= 2
            kept = [k for k, time in enumerate(self.times) if time % self.every == 0 or time == t]
            self.times = [self.times[k] for k in kept]
            self._states = [self._states[k] for k in kept]

    def __len__(self) -> int:
        return len(self._states)

    @overload
    def __getitem__(self, k: int) -> State: ...
    @overload
    def __getitem__(self, k: slice) -> list[State]: ...
    def __getitem__(self, k: int | slice) -> State | list[State]:
        """Snapshot k, copied; -1 is the newest."""
        if isinstance(k, slice):
            return [self[one] for one in range(*k.indices(len(self)))]
        if not -len(self) <= k < len(self):
            raise IndexError(f"Snapshots: there is no snapshot {k}: there are {len(self)}, counted from 0")
        return {name: array.copy() for name, array in self._states[k].items()}

    def replay(self, model: Module) -> Iterator[tuple[int, Module]]:
        """Put the snapshots into the network one after the other; yields (t, model). The last one stays."""
        for t, state in zip(self.times, self._states, strict=True):
            model.load_state_dict(state)
            yield t, model

    @property
    def nbytes(self) -> int:
        """The memory of all snapshots, in bytes."""
        return sum(array.nbytes for state in self._states for array in state.values())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all to an .npz file; a file of that name is replaced whole, never half."""
        if not self._states:
            raise ValueError("Snapshots.save: there are no snapshots yet: call record, or fit(..., snapshots=...)")
        stacked: dict[str, Any] = {
            f"state/{name}": np.stack([state[name] for state in self._states]) for name in self._states[0]
        }
        settings = {"times": self.times, "every": self.every, "limit": self.limit, "per": self.per}
        with written(path) as file:
            np.savez(file, **stacked, **{name: np.array(value) for name, value in settings.items()})  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Snapshots:
        """Read what `save` wrote; recording goes on where it was. ValueError for another kind of file."""
        arrays = read_npz(path)
        if not {"times", "every", "limit", "per"} <= arrays.keys():
            raise ValueError(f"Snapshots.load: {path} holds no snapshots: give a file that Snapshots.save wrote")
        history = cls(int(arrays.pop("limit")), str(arrays.pop("per")))
        history.every = int(arrays.pop("every"))
        history.times = arrays.pop("times").tolist()
        names = {key: key.removeprefix("state/") for key in arrays}
        history._states = [{names[key]: array[k].copy() for key, array in arrays.items()}
                           for k in range(len(history.times))]  # fmt: skip
        return history

    def __repr__(self) -> str:
        times = f", t = {self.times[0]} to {self.times[-1]}, every {self.every}" if self.times else ""
        return f"Snapshots({len(self)} of at most {self.limit}, per {self.per}{times})"


def _shapes(state: State) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in state.items()}
