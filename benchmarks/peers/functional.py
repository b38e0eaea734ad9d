"""What JAX and HIPS autograd share: functions of arrays written with their NumPy, derivatives by transforming them."""

from __future__ import annotations

from typing import Any


def functions(np: Any) -> dict[str, Any]:
    """The functions of the cases in the words of one NumPy; those that need more than it are the peers' own."""

    def batch_norm(x: Any, weight: Any, bias: Any) -> Any:
        axes = (0, 2, 3)[: x.ndim - 1]
        along = (-1,) + (1,) * (x.ndim - 2)
        centred = x - np.mean(x, axis=axes, keepdims=True)
        variance = np.mean(centred * centred, axis=axes, keepdims=True)
        scale = np.reshape(weight, along) / np.sqrt(variance + 1e-5)
        return centred * scale + np.reshape(bias, along)

    def cross_entropy(z: Any, labels: Any) -> Any:
        shifted = z - np.max(z, axis=1, keepdims=True)
        losses = np.log(np.sum(np.exp(shifted), axis=1)) - shifted[np.arange(len(labels)), labels]
        return np.mean(losses)

    def binary_cross_entropy(z: Any, target: Any) -> Any:
        return np.sum(np.maximum(z, 0) - z * target + np.log1p(np.exp(-np.abs(z)))) / len(target)

    def linear(x: Any, weight: Any, bias: Any = None) -> Any:
        y = np.dot(x, weight.T)
        return y if bias is None else y + bias

    def avg_pool2d(x: Any, kernel_size: int, stride: int) -> Any:
        """Windows side by side: the images must be made of whole ones."""
        assert kernel_size == stride
        N, C, H, W = x.shape
        return np.mean(np.reshape(x, (N, C, H // stride, stride, W // stride, stride)), axis=(3, 5))

    return {
        "batch_norm": batch_norm,
        "cross_entropy": cross_entropy,
        "binary_cross_entropy": binary_cross_entropy,
        "linear": linear,
        "avg_pool2d": avg_pool2d,
        "relu": lambda x: np.maximum(x, 0),
        "tanh": np.tanh,
        "flatten": lambda x: np.reshape(x, (len(x), -1)),
        "multiply_add": lambda x, w, b: x * w + b,
        "matmul": np.dot,
    }
