"""What a loss is: an operation with one number a sample, and the reduction of these numbers to a risk.

Letters: ``n`` sample, ``k`` class, K classes; ``y`` the label of a sample, ``z`` its logits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..formula import variable
from ..operation import Operation, registry

__all__ = ["LogitLoss", "Loss", "class_labels"]


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


class LogitLoss(Loss, abstract=True):
    """A loss of logits z (N, K) with one true class a sample; write ``value`` and ``gradient``, row by row.

    Labels are whole numbers from 0, shape (N,). Called on tensors it takes one-hot rows (N, K) as well.
    """

    signature = "z[N,K], labels[N] -> loss[N]"
    constants: ClassVar[tuple[str, ...]] = ("labels",)
    required = (*Operation.required, "value", "gradient")

    if TYPE_CHECKING:

        def value(self, z: Any, labels: Any, *context: Any) -> Any:
            """The losses of the whole batch."""

        def gradient(self, z: Any, labels: Any, *context: Any) -> Any:
            """Their gradients, (N, K), without forming a matrix."""

    def symbols(self, *sample: Any) -> list[Any]:
        z, _, *context = super().symbols(*sample)
        sizes = [self.parsed.inputs[1].letters[0]] if np.ndim(sample[1]) else []
        return [z, variable("y", sizes, integer=True), *context]

    def __call__(self, z: Any, labels: Any, *context: Any) -> Any:
        return super().__call__(z, self.whole_labels(z, labels), *context)

    def whole_labels(self, z: Any, labels: Any) -> Any:
        """One-hot rows as whole numbers; whole numbers as they are."""
        labels = np.asarray(labels)
        if labels.ndim != 2 or labels.size == 0:
            return labels
        if labels.shape != np.shape(z) or not ((labels == 0) | (labels == 1)).all() or (labels.sum(axis=1) != 1).any():
            self.refuse(
                f"the rows of labels of shape {labels.shape} for logits {np.shape(z)} are not one-hot",
                "give one whole number a sample, or rows of zeros with a single 1",
            )
        return labels.argmax(axis=1)

    def check(self, *arrays: Any) -> None:
        """Refuse logits that are not (N, K) and labels that are not N classes."""
        z, labels = arrays[:2]
        if np.ndim(z) != 2 or np.size(z) == 0:
            self.refuse(f"expected logits of shape (N, K), got {np.shape(z)}", "give one row of logits a sample")
        class_labels(self, labels, *np.shape(z))

    def forward(self, z: Any, labels: Any, *context: Any) -> Any:
        self.check(z, labels, *context)
        z = np.asarray(z, dtype=np.result_type(z, np.float32))
        with np.errstate(invalid="ignore"):
            losses = self.value(z, np.asarray(labels), *context)
        return self.check_finite(losses, z)

    def vjp(self, g: Any, z: Any, labels: Any, *context_and_loss: Any) -> Any:
        return np.reshape(g, (-1, 1)) * self.gradient(z, np.asarray(labels), *context_and_loss[:-1])


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
