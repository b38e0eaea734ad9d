"""The mathematics: one file a family, one class an operation. Importing this package fills the registry."""

from . import (
    appendix,
    arithmetic,
    convolution,
    linear,
    normalization,
    pointwise,
    pooling,
    quantization,
    reductions,
    shapes,
    softmax,
    transfer,
)

__all__ = [
    "appendix", "arithmetic", "convolution", "linear", "normalization", "pointwise", "pooling", "quantization",
    "reductions", "shapes", "softmax", "transfer",
]  # fmt: skip
