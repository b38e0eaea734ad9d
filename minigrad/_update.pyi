"""The compiled step of descent: see kernels/update.pyx. Arrays must be C-contiguous, of float32 or float64."""

from ._reference import Array

OPENMP: bool

def set_num_threads(n: int) -> None: ...
def sgd(
    weights: list[Array],
    gradients: list[Array],
    velocities: list[Array] | None,
    lr: float,
    mu: float,
    decay: float,
    nesterov: bool,
) -> None: ...
