"""Single logit classification: is this sample of class j? One logit decides, whatever the other classes say.

A network trained by a loss that is aligned with the Principle of Logit Separation (Keren, Sabato and Schuller 2018)
has true logits over false ones across samples, so that z_j > T is a decision, and the other logits need not be
computed (LS-01).

Letters: N samples, K classes, C of them chosen, ``j`` a class; ``z`` logits, ``T`` threshold.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from .metrics import threshold_at_recall
from .nn import Module, Sequential
from .tensor import no_grad

__all__ = ["SingleLogit", "Thresholds"]


class Thresholds(NamedTuple):
    """What was chosen for some classes: thresholds and, on the samples that chose them, precision and recall; (C,)."""

    classes: np.ndarray
    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray


class SingleLogit(Module):
    """A trained network that ends in `nn.Linear`, with a threshold T_j for each class: accept j if z_j > T_j.

    ::

        single = SingleLogit(model)
        single.choose(validation.x, validation.y, recall=0.99)
        single.save("single.npz")                  # the weights and the thresholds
        single.accept(test.x, 3)                   # (N,) booleans: is it a 3?
        single.accept(test.x, [3, 5])              # (N, 2)

    Logits and decisions are those of the network in eval mode, without recording; of the last layer only the rows of
    the classes that are asked about are read. Called as a module it is the network itself.

    Attributes
    ----------
    thresholds : array (K,)
        nan where none was chosen; a buffer, so that ``state_dict``, ``save`` and ``load`` carry it.
    """

    buffers = ("thresholds",)

    def __init__(self, model: Sequential):
        if not isinstance(model, Sequential):
            raise TypeError(f"SingleLogit: expected a Sequential, got {model!r}: wrap the layers in nn.Sequential(...)")
        last = model.readout()
        self.model = model
        self.thresholds = np.full(last.out_features, np.nan, last.weight.dtype)

    def forward(self, x: Any) -> Any:
        """All logits: (N, ...) to (N, K)."""
        return self.model(x)

    def logits(self, x: Any, classes: Any, batch_size: int = 256) -> np.ndarray:
        """The logits of chosen classes: (N, C), or (N,) for one number. Raises as `nn.Sequential.logits` does."""
        x = np.asarray(x)
        with self._at_test():
            parts = [self.model.logits(x[n : n + batch_size], classes).data for n in range(0, len(x), batch_size)]
        return np.concatenate(parts) if parts else np.empty((0, *np.shape(classes)), self.thresholds.dtype)

    def accept(self, x: Any, classes: Any) -> np.ndarray:
        """Whether each sample is of each class: z_j > T_j, strictly (LS-01); (N, C), or (N,) for one number.

        Raises ValueError for a class that has no threshold yet.
        """
        z = self.logits(x, classes)
        thresholds = self.thresholds[np.asarray(classes)]
        if np.isnan(thresholds).any():
            unset = np.atleast_1d(classes)[np.isnan(np.atleast_1d(thresholds))].tolist()
            raise ValueError(
                f"SingleLogit.accept: class {', '.join(map(str, unset))} has no threshold: let choose(x, labels, "
                f"recall=0.99, classes={unset}) find it on validation samples, or assign thresholds[j]"
            )
        return np.asarray(z > thresholds)

    def choose(self, x: Any, labels: Any, recall: float = 0.99, classes: Any = None) -> Thresholds:
        """Set the thresholds of some classes, by default all, to reach a recall on validation samples.

        Each is the largest that does, up to the next score: see `metrics.threshold_at_recall`, which also says what
        is refused: a class without a sample among ``labels`` (N,), and a recall outside (0, 1].
        """
        labels = np.asarray(labels)
        chosen = np.arange(len(self.thresholds)) if classes is None else np.atleast_1d(classes)
        z = self.logits(x, chosen)
        true = labels[:, None] == chosen
        thresholds = np.array([threshold_at_recall(z[:, c], true[:, c], recall) for c in range(len(chosen))])
        self.thresholds[chosen] = thresholds
        accepted = z > self.thresholds[chosen]
        right = (accepted & true).sum(axis=0)
        return Thresholds(chosen, self.thresholds[chosen], right / accepted.sum(axis=0), right / true.sum(axis=0))

    @contextlib.contextmanager
    def _at_test(self) -> Iterator[None]:
        """Eval mode without recording; the modes of the modules come back."""
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            with no_grad():
                yield
        finally:
            for module, mode in modes:
                module.training = mode
