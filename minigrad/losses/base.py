"""What a loss is: an operation with one number a sample, and the reduction of these numbers to a risk.

Letters: ``n`` sample, ``k`` class, K classes; ``y`` the label of a sample, ``z`` its logits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..operation import Operation, registry

__all__ = ["Loss", "class_labels"]


class Loss(Operation, abstract=True):
    """A loss per sample, reduced over the batch when it is called.

    Parameters
    ----------
    reduction : "mean", "sum" or "none"
        The mean is the training risk (TC-04); the last short batch of an epoch is divided by its own size.

    Raises
    ------
    ValueError
        For another reduction, and for outputs or labels that do not fit; the message says how.
    """

    def __init__(self, reduction: str = "mean"):
        self.reduction = reduction
        if reduction not in ("mean", "sum", "none"):
            self.refuse(f"reduction={reduction!r}", "choose 'mean', 'sum' or 'none'")

    def __call__(self, *inputs: Any) -> Any:
        losses = super().__call__(*inputs)
        return losses if self.reduction == "none" else registry[self.reduction]()(losses)

    def check_finite(self, loss: Any, outputs: Any) -> Any:
        """Pass the losses on; refuse outputs that are not numbers."""
        if np.isnan(loss).any() and np.isnan(outputs).any():
            self.refuse("the outputs hold nan", "look for a division by zero or a learning rate that is too large")
        return loss


def class_labels(loss: Operation, labels: Any, samples: int, classes: int) -> Any:
    """Whole-number labels, one a sample, each from 0 to ``classes - 1``; anything else is refused."""
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        loss.refuse(f"expected whole numbers as labels, got dtype {labels.dtype}", "use labels.astype(int)", TypeError)
    if labels.shape != (samples,):
        loss.refuse(f"expected {samples} labels, got shape {labels.shape}", "give one label a sample")
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        loss.refuse(
            f"expected labels from 0 to {classes - 1}, got {labels.min()} to {labels.max()}",
            f"count classes from 0, or give the network more than {classes} outputs",
        )
    return labels
