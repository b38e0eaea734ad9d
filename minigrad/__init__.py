"""minigrad: an educational engine for deep learning in which every function is written four times and proved one.

Formula, value, explicit Jacobian and vector-Jacobian product of each operation live in one class;
``minigrad verify`` shows that they agree. Every operation of the registry is a function here: ``mg.softmax(z)``.
"""

import importlib as _importlib
from typing import Any as _Any

from . import losses, ops
from .jacobian import jacobian
from .kernels import backend, num_threads, set_num_threads, use_kernels
from .operation import Elementwise, Operation, Source, registry
from .tensor import Tensor, no_grad
from .tensor import function_named as _function_named

__version__ = "0.1.0"

_modules = (
    "data", "information", "locoprop", "metrics", "nn", "optim", "plots", "sampling", "single_logit", "snapshots",
    "tables", "trace", "training", "transfer", "verify",
)  # fmt: skip

__all__ = [
    "Elementwise", "Operation", "Source", "Tensor", "backend", "jacobian", "losses", "no_grad", "num_threads", "ops",
    "registry", "set_num_threads", "use_kernels", *_modules,
]  # fmt: skip


def __getattr__(name: str) -> _Any:
    """The function of an operation, by its name in the registry; or a part of minigrad, imported at first use."""
    if name in registry:
        return _function_named(name)
    if name in _modules:
        return _importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"minigrad has no attribute {name!r}: it is neither a module of it nor an operation")


def __dir__() -> list[str]:
    return sorted([*__all__, *registry])
