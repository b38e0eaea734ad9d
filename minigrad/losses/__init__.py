"""The losses, one file a family of sources. ``Loss(...)(outputs, labels)`` is a tensor."""

from .base import Loss
from .tomasi import CrossEntropy, SquaredError, TwoClassCrossEntropy

__all__ = ["CrossEntropy", "Loss", "SquaredError", "TwoClassCrossEntropy"]
