"""Input selection: which samples make the next mini-batch (IP-08, US 12387092, figure 3).

Without a sampler `training.fit` shuffles all samples and takes them in turn, which is uniform. `DifficultySampler`
draws more often what the network finds hard. The source leaves score and rule open.

Letters: n samples, m of them in a batch; ``s_i`` the difficulty of sample i, ``p_i`` the probability of drawing it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

__all__ = ["DifficultySampler"]


class DifficultySampler:
    """Draws mini-batches, with replacement, with probabilities in proportion to a difficulty kept for each sample.

        p_i = (1 - uniform) s_i / sum_k s_k + uniform / n

    The difficulty s_i is the loss of sample i when it was last drawn, blended with what it was before; before sample i
    has been drawn it counts as hard as the hardest. Hard samples then weigh more in the training risk, on purpose. With
    ``unbiased=True`` each loss is weighted by w_i = 1 / (n p_i), at most 1 / uniform, and the expectation of the
    weighted mean over a batch, and of its gradient, is the plain mean over all samples:

        E[(1/m) sum_i w_i loss_i] = sum_i p_i loss_i / (n p_i) = (1/n) sum_i loss_i

    That holds for the gradient of one step, whatever the difficulties are; not for what is no mean over samples, such
    as the statistics of batch normalization. Its price is variance: a sample that was easy when it was last drawn and
    is hard now is drawn seldom, and then counts up to 1 / uniform times, a rare large step. A larger ``uniform`` or a
    smaller learning rate helps; or no weights, and with them no unbiasedness: what stays hard, be it mislabelled, then
    rules the training.

    Parameters
    ----------
    n : int
        How many samples there are.
    unbiased : bool
        Whether losses carry the importance weights w_i; without them all weights are 1.
    uniform : float
        The part of uniform drawing, from 0 (excluded) to 1 (all of it): no sample is ever forgotten.
    blend : float
        How much of s_i the newest loss makes, from 0 (excluded) to 1, which forgets what was before.

    Examples
    --------
    ``training.fit(..., sampler=DifficultySampler(len(train)))`` does the loop; by hand it is

    >>> sampler, rng = DifficultySampler(len(train)), np.random.default_rng(0)
    >>> weighted = sampler.weighted(CrossEntropy())
    >>> for x, y in sampler.batches(train, 32, rng):
    ...     weighted(model(x), y).backward()
    ...     optimizer.step()
    """

    def __init__(self, n: int, *, unbiased: bool = True, uniform: float = 0.2, blend: float = 1.0):
        if not isinstance(n, (int, np.integer)) or n < 1:
            raise ValueError(f"DifficultySampler: n={n!r}: expected the number of samples: give len(train)")
        for name, value in (("uniform", uniform), ("blend", blend)):
            if not 0 < value <= 1:
                raise ValueError(f"DifficultySampler: {name}={value!r}: expected 0 < {name} <= 1: try 0.2")
        self.unbiased, self.uniform, self.blend = unbiased, uniform, blend
        self.difficulty = np.full(n, np.nan)  # nan: not drawn yet
        self.positions = np.empty(0, dtype=np.int64)
        self.weights = np.empty(0)

    def __len__(self) -> int:
        return len(self.difficulty)

    @property
    def probabilities(self) -> np.ndarray:
        """p (n,), all positive, of sum 1."""
        unseen = np.isnan(self.difficulty)
        hardest = 1.0 if unseen.all() else float(self.difficulty[~unseen].max())
        s = np.where(unseen, hardest, self.difficulty)
        total = s.sum()
        share = s / total if total > 0 else np.full(len(s), 1 / len(s))
        return np.asarray((1 - self.uniform) * share + self.uniform / len(s))

    def batches(self, data: Any, batch_size: int | None, rng: np.random.Generator) -> Iterator[tuple[Any, Any]]:
        """As many mini-batches (x, y) as make n samples, the last one short; each is drawn when it is asked for."""
        n = len(self)
        if len(data) != n:
            raise ValueError(f"DifficultySampler: made for {n} samples, got {len(data)}: make one for these data")
        size = n if batch_size is None else batch_size
        if size < 1:
            raise ValueError(f"DifficultySampler: batch_size={size}: expected at least 1, or None for n draws at once")
        sizes = (min(size, n - start) for start in range(0, n, size))
        return (self.select(data, rng.choice(n, m, p=self.probabilities)) for m in sizes)

    def select(self, data: Any, positions: Any) -> tuple[Any, Any]:
        """The batch (x, y) of these samples, which the next losses are taken to be of."""
        self.positions = np.asarray(positions)
        self.weights = np.ones(len(self.positions))
        if self.unbiased:
            self.weights /= len(self) * self.probabilities[self.positions]
        return data.x[self.positions], data.y[self.positions]

    def update(self, losses: Any) -> None:
        """Set the difficulties of the samples of the last batch by their losses (m,), which are at least 0."""
        new = np.asarray(losses, dtype=float)
        if new.shape != self.positions.shape:
            raise ValueError(
                f"DifficultySampler: expected {len(self.positions)} losses, one a sample of the last batch, got shape "
                f"{new.shape}: give losses of reduction='none'"
            )
        if not np.isfinite(new).all() or new.min(initial=0) < 0:
            raise ValueError(
                f"DifficultySampler: a loss of {new[np.argmin(new)]:g} is no difficulty, of which probabilities are a "
                f"proportion: give finite numbers from 0, by a loss such as CrossEntropy"
            )
        old = self.difficulty[self.positions]
        self.difficulty[self.positions] = np.where(np.isnan(old), new, old + self.blend * (new - old))

    def weighted(self, loss: Any) -> _Weighted:
        """The loss of a batch that this sampler has drawn: the mean of w_i loss_i; it updates the difficulties."""
        return _Weighted(self, loss)

    def state_dict(self) -> dict[str, np.ndarray]:
        """What a later sampler needs to go on; the generator is the caller's."""
        return {"difficulty": self.difficulty.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over such a state; ValueError if it is of other samples."""
        saved = np.asarray(state.get("difficulty", ()))
        if saved.shape != self.difficulty.shape:
            raise ValueError(
                f"DifficultySampler.load_state_dict: expected the difficulty of {len(self)} samples, got shape "
                f"{saved.shape}: make the sampler for the samples that it was saved with"
            )
        self.difficulty[...] = saved

    def __repr__(self) -> str:
        return f"DifficultySampler({len(self)}, unbiased={self.unbiased}, uniform={self.uniform}, blend={self.blend})"


class _Weighted:
    """``loss(scores, y)`` weighted sample by sample as the sampler's last batch wants it; a sum if the loss is one."""

    def __init__(self, sampler: DifficultySampler, loss: Any):
        if not hasattr(loss, "reduction"):
            raise TypeError(
                f"DifficultySampler: {loss!r} is one number for the whole batch and none for a sample: give a loss "
                f"with a reduction, such as CrossEntropy"
            )
        self.sampler, self.reduction = sampler, loss.reduction
        self.each = copy.copy(loss)
        self.each.reduction = "none"

    def __call__(self, scores: Any, y: Any) -> Any:
        losses = self.each(scores, y)
        self.sampler.update(losses.data)
        weighted = losses * self.sampler.weights.astype(losses.dtype)
        return weighted.sum() if self.reduction == "sum" else weighted.mean()
