"""The losses, one file a family of sources. ``Loss(...)(outputs, labels)`` is a tensor."""

from .base import Loss
from .incorrect import (
    ComplementaryCrossEntropy,
    IncorrectLogOddsLSE,
    IncorrectLogOddsPower,
    IncorrectProbabilityLoss,
    LogOdds,
    LogSumInverseProbability,
)
from .matching import BregmanDivergence, MatchingLoss
from .separation import (
    BatchCrossEntropy,
    BatchMaxMargin,
    BinaryCrossEntropy,
    MaxMargin,
    NoiseContrastiveEstimation,
    SelfNormalizedCrossEntropy,
)
from .tomasi import CrossEntropy, SquaredError, TwoClassCrossEntropy

__all__ = [
    "BatchCrossEntropy", "BatchMaxMargin", "BinaryCrossEntropy", "BregmanDivergence", "ComplementaryCrossEntropy",
    "CrossEntropy", "IncorrectLogOddsLSE", "IncorrectLogOddsPower", "IncorrectProbabilityLoss", "LogOdds",
    "LogSumInverseProbability", "Loss", "MatchingLoss", "MaxMargin", "NoiseContrastiveEstimation",
    "SelfNormalizedCrossEntropy", "SquaredError", "TwoClassCrossEntropy",
]  # fmt: skip
