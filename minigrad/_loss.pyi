"""The compiled cross-entropy: see kernels/loss.pyx. Arrays must be C-contiguous, z of float32 or float64."""

from ._reference import Array, Indices

OPENMP: bool

def set_num_threads(n: int) -> None: ...
def cross_entropy(z: Array, labels: Indices) -> tuple[Array, Array]: ...
