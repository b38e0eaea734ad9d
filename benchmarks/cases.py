"""What is measured, as data: functions, whole training steps, and the bounds that minigrad shall keep.

A case knows its name, the arrays that it works on (derived from one seed, so that every peer has the same) and how
many floating-point operations its matrix products take. ``must`` and ``aim`` bound minigrad's time by PyTorch's.

Shapes: x (N, C, H, W), filters (O, C, k, k), matrices (out, in); labels are whole numbers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from typing import Any

import numpy as np

SEED = 20190213
MOMENTUM = 0.9

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    section: str
    dtype: str = "float32"
    must: float | None = None
    aim: float | None = None

    @property
    def names(self) -> set[str]:
        """What a peer must have to run this."""
        raise NotImplementedError

    @property
    def flop(self) -> int:
        """The floating-point operations of the matrix products; 0 where there are none."""
        raise NotImplementedError


# Functions ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Kernel(Case):
    """One function: forward, forward and backward, or after one forward the gradient of one input again and again."""

    function: str
    shapes: tuple[Shape, ...]
    part: str = "forward and backward"  # or "forward", "input", "weights"
    keywords: dict[str, int] = field(default_factory=dict)

    def arrays(self) -> list[np.ndarray]:
        """The inputs, in the order of the function's arguments."""
        rng = np.random.default_rng(SEED)
        arrays = [np.asarray(rng.normal(size=shape), self.dtype) for shape in self.shapes]
        if self.function == "cross_entropy":
            (samples, classes), _ = self.shapes
            arrays[1] = rng.integers(classes, size=samples)
        return arrays

    def cotangent(self, shape: Shape) -> np.ndarray:
        """The row that is pulled back through an output of this shape; 1 for a loss."""
        if not shape:
            return np.ones((), self.dtype)
        return np.asarray(np.random.default_rng(SEED + 1).normal(size=shape), self.dtype)

    @property
    def wanted(self) -> tuple[int, ...]:
        """The arguments whose gradients are computed."""
        everything = (0,) if self.function == "cross_entropy" else tuple(range(len(self.shapes)))
        return {"forward": (), "input": (0,), "weights": (1,)}.get(self.part, everything)

    @property
    def names(self) -> set[str]:
        return {self.function}

    @property
    def flop(self) -> int:
        one, _ = products(self.function, self.shapes[0], self.shapes[1:2], self.keywords)
        return one * (3 if self.part == "forward and backward" else 1)


def products(kind: str, x: Shape, weights: tuple[Shape, ...], keywords: dict[str, int]) -> tuple[int, Shape]:
    """The floating-point operations of the matrix product in one function, and the shape of its output.

    Multiplications by the zeros of a padding are not counted.
    """
    if kind == "conv2d":
        (N, C, *image), (O, _, *kernel), padding = x, weights[0], keywords.get("padding", 0)
        out = [size + 2 * padding - k + 1 for size, k in zip(image, kernel, strict=True)]
        taps = [
            sum(0 <= p + u - padding < size for p in range(P) for u in range(k))
            for size, k, P in zip(image, kernel, out, strict=True)
        ]
        return 2 * N * C * O * math.prod(taps), (N, O, *out)
    if kind == "max_pool2d" or kind == "avg_pool2d":
        sizes = [(size - keywords["kernel_size"]) // keywords["stride"] + 1 for size in x[2:]]
        return 0, (*x[:2], *sizes)
    if kind == "linear":
        return 2 * math.prod(x) * weights[0][0], (*x[:-1], weights[0][0])
    if kind == "matmul":
        return 2 * math.prod(x) * weights[0][1], (x[0], weights[0][1])
    if kind == "flatten":
        return 0, (x[0], math.prod(x[1:]))
    return 0, x


Bounds = tuple[float | None, float | None]
PARTS = ("forward", "input", "weights")


def convolution(
    name: str, x: Shape, filters: Shape, padding: int = 0, bounds: Mapping[str, Bounds] | None = None
) -> list[Kernel]:
    """Forward and each gradient, in both dtypes; bounds by part, (must, aim)."""
    lines = []
    for part in PARTS:
        must, aim = (bounds or {}).get(part, (None, None))
        line = Kernel(
            name=f"conv {name} {part}", section="kernels", function="conv2d", shapes=(x, filters, filters[:1]),
            part=part, keywords={"padding": padding}, must=must, aim=aim,
        )  # fmt: skip
        double = replace(
            line, name=f"{line.name} float64", section="float64", dtype="float64",
            must=1.0 if part == "input" else 0.8, aim=0.5,
        )  # fmt: skip
        lines += [line, double]
    return lines


def parts(name: str, function: str, *shapes: Shape, must: float, aim: float, **keywords: int) -> list[Kernel]:
    """Forward, and forward and backward."""
    return [
        Kernel(
            name=f"{name} {part}", section="kernels", function=function, shapes=shapes, part=part,
            keywords=keywords, must=must if whole else None, aim=aim if whole else None,
        )
        for part, whole in (("forward", False), ("forward and backward", True))
    ]  # fmt: skip


IMAGES = (32, 32, 32, 32)
TEN = (10,)

KERNELS = [
    *convolution("lenet1", (64, 1, 28, 28), (6, 1, 5, 5), 0, {"forward": (0.5, 0.35), "weights": (0.7, 0.4)}),
    *convolution(
        "lenet2", (64, 6, 12, 12), (16, 6, 5, 5), 0,
        {"forward": (1.0, 0.85), "input": (0.6, 0.45), "weights": (0.85, 0.7)},
    ),
    *convolution("cifar_3_32", (32, 3, 32, 32), (32, 3, 3, 3), 1),
    *convolution("cifar_32_64", IMAGES, (64, 32, 3, 3), 1, dict.fromkeys(PARTS, (1.1, 1.0))),
    *convolution("k5_128_256", (32, 128, 16, 16), (256, 128, 5, 5), 2, dict.fromkeys(PARTS, (1.35, 1.1))),
    *convolution("pw_128_128", (32, 128, 32, 32), (128, 128, 1, 1), 0, dict.fromkeys(PARTS, (1.0, 0.88))),
    *parts("max-pool 2x2", "max_pool2d", IMAGES, must=0.15, aim=0.08, kernel_size=2, stride=2),
    *parts("max-pool 3x3/2", "max_pool2d", IMAGES, must=0.15, aim=0.08, kernel_size=3, stride=2),
    *parts("average pool 2x2", "avg_pool2d", IMAGES, must=0.6, aim=0.15, kernel_size=2, stride=2),
    *parts("batch norm, images", "batch_norm", IMAGES, (32,), (32,), must=0.4, aim=0.25),
    *parts("batch norm, vectors", "batch_norm", (100, 500), (500,), (500,), must=1.1, aim=0.6),
    *parts("softmax cross-entropy 128x10", "cross_entropy", (128, 10), (128,), must=0.5, aim=0.3),
    *parts("softmax cross-entropy 128x1000", "cross_entropy", (128, 1000), (128,), must=1.0, aim=0.7),
]  # fmt: skip

OPERATIONS = [
    Kernel(name="x*w + b forward", section="operations", function="multiply_add", shapes=(TEN,) * 3, part="forward"),
    Kernel(name="x*w + b", section="operations", function="multiply_add", shapes=(TEN,) * 3, must=0.20, aim=0.12),
    Kernel(name="tanh", section="operations", function="tanh", shapes=(TEN,)),
    Kernel(name="linear 10 to 10, batch 1", section="operations", function="linear", shapes=((1, 10), (10, 10), TEN)),
]


def peak(n: int) -> list[Kernel]:
    """The matrix products, of n x n, that say what the machine can."""
    return [
        Kernel(
            name=f"matrix product {n} {dtype}", section="peak", function="matmul", shapes=((n, n),) * 2,
            part="forward", dtype=dtype,
        )
        for dtype in ("float32", "float64")
    ]  # fmt: skip


# Whole steps ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """A function of a network: its parameters have these shapes."""

    kind: str
    shapes: tuple[Shape, ...] = ()
    keywords: dict[str, int] = field(default_factory=dict)


def conv(inputs: int, outputs: int, size: int, padding: int = 0, bias: bool = True) -> Layer:
    return Layer("conv2d", ((outputs, inputs, size, size), (outputs,))[: 1 + bias], {"padding": padding})


def linear(inputs: int, outputs: int, bias: bool = True) -> Layer:
    return Layer("linear", ((outputs, inputs), (outputs,))[: 1 + bias])


def norm(channels: int) -> Layer:
    return Layer("batch_norm", ((channels,), (channels,)))


def max_pool(size: int, stride: int) -> Layer:
    return Layer("max_pool2d", keywords={"kernel_size": size, "stride": stride})


RELU, TANH, FLATTEN = Layer("relu"), Layer("tanh"), Layer("flatten")


@dataclass(frozen=True, kw_only=True)
class Step(Case):
    """Forward, loss, backward and an update with momentum, on one batch. A bias before batch norm is left out.

    ``loss`` is "cross_entropy" over as many classes as there are outputs, or "binary_cross_entropy" of the logits of
    the input itself, summed over its entries; both are means over the batch.
    """

    layers: tuple[Layer, ...]
    x: Shape
    loss: str = "cross_entropy"
    rate: float = 0.01

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets."""
        rng = np.random.default_rng(SEED)
        if self.loss == "binary_cross_entropy":
            pixels = np.asarray(rng.random(self.x) < 0.2, self.dtype)
            return pixels, pixels
        classes = self.layers[-1].shapes[0][0]
        return np.asarray(rng.normal(size=self.x), self.dtype), rng.integers(classes, size=self.x[0])

    def parameters(self) -> list[np.ndarray]:
        """In the order of the layers: weight, bias."""
        rng = np.random.default_rng(SEED + 1)
        drawn = []
        for layer in self.layers:
            for position, shape in enumerate(layer.shapes):
                spread = math.sqrt(2 / math.prod(shape[1:])) if len(shape) > 1 else 0.1
                middle = 1 if layer.kind == "batch_norm" and position == 0 else 0
                drawn.append(np.asarray(rng.normal(middle, spread, size=shape), self.dtype))
        return drawn

    @property
    def names(self) -> set[str]:
        return {layer.kind for layer in self.layers} | {self.loss}

    @property
    def flop(self) -> int:
        """Three products for each layer, but no gradient of the input of the first."""
        shape, total, first = self.x, 0, None
        for layer in self.layers:
            flop, shape = products(layer.kind, shape, layer.shapes[:1], layer.keywords)
            first = flop if first is None else first
            total += 3 * flop
        return total - (first or 0)


def perceptron(*sizes: int, between: tuple[Layer, ...] = (RELU,)) -> tuple[Layer, ...]:
    """Linear layers of these sizes with other layers between them."""
    layers: list[Layer] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [linear(inputs, outputs), *between]
    return tuple(layers[: len(layers) - len(between)])


def normalized(*layers: Layer) -> Iterator[Layer]:
    """Batch norm and ReLU after each layer that has parameters."""
    for layer in layers:
        yield layer
        if layer.shapes:
            yield from (norm(layer.shapes[0][0]), RELU)


LENET = (
    conv(1, 6, 5), RELU, max_pool(2, 2), conv(6, 16, 5), RELU, max_pool(2, 2),
    FLATTEN, linear(256, 120), RELU, linear(120, 84), RELU, linear(84, 10),
)  # fmt: skip

SIX = (
    *normalized(
        conv(3, 32, 5, 2, bias=False), conv(32, 32, 1, bias=False), max_pool(3, 2),
        conv(32, 64, 5, 2, bias=False), conv(64, 64, 1, bias=False), max_pool(3, 2),
        conv(64, 128, 5, 2, bias=False), conv(128, 128, 1, bias=False), max_pool(3, 2),
        FLATTEN, linear(128 * 3 * 3, 256, bias=False),
    ),
    linear(256, 10),
)  # fmt: skip

STEPS = [
    Step(name="LeNet-5-like", section="steps", layers=LENET, x=(64, 1, 28, 28), must=0.50, aim=0.38),
    Step(
        name="perceptron 784-500-500-10, batch norm", section="steps", x=(100, 784), must=0.95, aim=0.86,
        layers=(*normalized(linear(784, 500, bias=False), linear(500, 500, bias=False)), linear(500, 10)),
    ),
    Step(name="six convolutions", section="steps", layers=SIX, x=(32, 3, 32, 32), must=1.05, aim=0.95),
    Step(name="perceptron 2-16-16-3", section="steps", layers=perceptron(2, 16, 16, 3), x=(32, 2), must=0.30, aim=0.20),
    Step(
        name="deep autoencoder", section="steps", x=(1000, 784), loss="binary_cross_entropy", rate=1e-4,
        layers=perceptron(784, 1000, 500, 250, 30, 250, 500, 1000, 784, between=(TANH,)), must=0.95, aim=0.86,
    ),
]  # fmt: skip

# For the harness itself: over in no time, and not in the tables unless asked for by name.
TINY = [
    Step(name="tiny step", section="steps", layers=(linear(4, 3), TANH, linear(3, 2)), x=(5, 4)),
    Step(
        name="tiny convolutional step", section="steps", x=(2, 1, 8, 8),
        layers=(*normalized(conv(1, 2, 3, 1, bias=False)), max_pool(2, 2), FLATTEN, linear(32, 3)),
    ),
    Step(
        name="tiny autoencoder", section="steps", x=(4, 6), loss="binary_cross_entropy", rate=0.1,
        layers=perceptron(6, 2, 6, between=(TANH,)),
    ),
    *(
        Kernel(
            name=f"tiny conv {part}", section="kernels", function="conv2d", shapes=((2, 3, 5, 6), (4, 3, 3, 3), (4,)),
            part=part, keywords={"padding": 1},
        )
        for part in ("forward", "input", "weights", "forward and backward")
    ),
    *parts("tiny max-pool", "max_pool2d", (2, 3, 7, 7), must=1, aim=1, kernel_size=3, stride=2),
    *parts("tiny average pool", "avg_pool2d", (2, 3, 6, 6), must=1, aim=1, kernel_size=2, stride=2),
    *parts("tiny batch norm, images", "batch_norm", (4, 3, 2, 2), (3,), (3,), must=1, aim=1),
    *parts("tiny batch norm, vectors", "batch_norm", (5, 3), (3,), (3,), must=1, aim=1),
    *parts("tiny softmax cross-entropy", "cross_entropy", (4, 3), (4,), must=1, aim=1),
    Kernel(name="tiny x*w + b", section="operations", function="multiply_add", shapes=((3,),) * 3),
    Kernel(name="tiny tanh", section="operations", function="tanh", shapes=((3,),)),
    Kernel(name="tiny linear", section="operations", function="linear", shapes=((2, 3), (4, 3), (4,))),
]  # fmt: skip


def selected(pattern: str | None) -> list[Case]:
    """The cases whose names hold the pattern, which may have wildcards; all but the tiny ones without a pattern."""
    cases = [*STEPS, *KERNELS, *OPERATIONS]
    if pattern is None:
        return cases
    return [case for case in [*cases, *TINY] if fnmatch(case.name.lower(), f"*{pattern.lower()}*")]


# How cost grows -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sweep:
    """One case at several sizes."""

    name: str
    title: str
    axis: str
    cases: list[tuple[int, Any]]


def sweeps() -> list[Sweep]:
    """Batch, channels, depth, and layers of the sizes that LocoProp trains one by one."""

    def step(n: int, **rest: Any) -> Step:
        return Step(name=f"growth {n}", section="growth", **rest)

    def kernel(n: int, function: str, shapes: tuple[Shape, ...], **keywords: int) -> Kernel:
        return Kernel(name=f"growth {n}", section="growth", function=function, shapes=shapes, keywords=keywords)

    return [
        Sweep(
            "batch", "LeNet-5-like, whole step", "batch",
            [(n, step(n, layers=LENET, x=(n, 1, 28, 28))) for n in (1, 4, 16, 64, 256, 1024)],
        ),
        Sweep(
            "channels", "3x3 convolution of 32 images of 16x16, forward and backward", "channels in and out",
            [
                (n, kernel(n, "conv2d", ((32, n, 16, 16), (n, n, 3, 3), (n,)), padding=1))
                for n in (1, 2, 4, 8, 16, 32, 64, 128)
            ],
        ),
        Sweep(
            "depth", "perceptron of width 32, batch 32, whole step", "layers",
            [
                (n, step(n, layers=perceptron(*[32] * (n + 1)), x=(32, 32), rate=1e-3))
                for n in (1, 2, 5, 10, 20, 50, 100)
            ],
        ),
        Sweep(
            "width", "linear layer, batch 1000, forward and backward", "inputs and outputs",
            [(n, kernel(n, "linear", ((1000, n), (n, n), (n,)))) for n in (30, 60, 125, 250, 500, 1000)],
        ),
    ]  # fmt: skip
