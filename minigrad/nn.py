"""Networks: parameters, modules and the layers, each of which holds an operation and the arrays that it
needs.

A layer adds to its operation only what the mathematics has no place for: parameters and how they are drawn,
running statistics, masks, and the difference between training and test. Nothing here has a random state of
its own: give every layer one generator, ``Linear(4, 3, rng=rng)``, or draw a whole network by one number,
``Sequential(...).reset(seed=0)``.

Letters: N samples, C channels, H and W the height and width of an image.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NoReturn, Self, TypeVar

import numpy as np

from .operation import Operation
from .ops import linear, normalization, pointwise, pooling, quantization, shapes, softmax, transfer
from .ops.convolution import Conv2d as Convolution
from .ops.convolution import pair
from .tensor import Tensor, as_tensor

__all__ = [
    "ELU", "ArcTan", "AvgPool2d", "BatchNorm1d", "BatchNorm2d", "Conv2d", "Dropout", "Flatten", "Function", "Identity",
    "LeakyReLU", "Linear", "LogSoftmax", "MaxPool2d", "Module", "Node", "PReLU", "Parameter", "Quantize", "ReLU",
    "Sequential", "Sigmoid", "Softmax", "Softplus", "Step", "Tanh", "Weighted", "initializers", "ternary", "written",
]  # fmt: skip

Initializer = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


class Parameter(Tensor):
    """A tensor that is trained: it requires a gradient until ``requires_grad = False`` freezes it."""

    __slots__ = ()

    def __init__(self, data: Any, name: str = "", *, dtype: Any = None):
        super().__init__(data, requires_grad=True, dtype=dtype, name=name)


class Module:
    """A part of a network: parameters, other modules, and a ``forward`` that leads from tensors to a tensor.

    Parameters and modules are found among the attributes, also inside lists, tuples and dicts, in the order
    in which they were assigned; what is shared counts once. ``buffers`` names the arrays that are saved and
    not trained.
    """

    training: bool = True
    buffers: ClassVar[tuple[str, ...]] = ()

    def forward(self, *inputs: Any) -> Any:
        """The output; every subclass writes its own."""
        raise NotImplementedError(f"{type(self).__name__} has no forward: define forward(self, x)")

    def __call__(self, *inputs: Any) -> Any:
        """``forward``, on tensors or arrays."""
        return self.forward(*map(as_tensor, inputs))

    def refuse(self, problem: str, hint: str, error: type[Exception] = ValueError) -> NoReturn:
        """Raise an error that says who, what came and was wanted (``problem``) and what to try (``hint``)."""
        raise error(f"{self!r}: {problem}: {hint}")

    # What is in it

    def children(self) -> Iterator[tuple[str, Module]]:
        """The modules that are attributes of this one, with their names."""
        return ((name, value) for name, value in _members(vars(self)) if isinstance(value, Module))

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """This module under the name "" and all that are in it, depth first: ("0.conv", Conv2d(...))."""
        return _once(self._walk(""))

    def _walk(self, prefix: str) -> Iterator[tuple[str, Module]]:
        yield prefix, self
        for name, child in self.children():
            yield from child._walk(_joined(prefix, name))

    def modules(self) -> list[Module]:
        """This module and all that are in it."""
        return [module for _, module in self.named_modules()]

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """The parameters, with names such as "0.weight"."""
        return _once(
            (_joined(prefix, name), value)
            for prefix, module in self.named_modules()
            for name, value in _members(vars(module))
            if isinstance(value, Parameter)
        )

    def parameters(self) -> list[Parameter]:
        """The parameters, in the order of `named_parameters`; what an optimizer takes."""
        return [parameter for _, parameter in self.named_parameters()]

    def generators(self) -> list[np.random.Generator]:
        """The random generators of layers such as `Dropout`; one that is shared counts once."""
        holders = [holder for m in self.modules() for holder in (m, getattr(m, "operation", None))]
        found = {id(rng): rng for holder in holders if (rng := getattr(holder, "rng", None)) is not None}
        return list(found.values())

    # Training and test

    def train(self, mode: bool = True) -> Self:
        """Behave as in training: dropout drops, batch normalization uses the batch. Returns the module."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Behave as at test. Returns the module."""
        return self.train(False)

    def initialize(self, rng: np.random.Generator) -> None:
        """Make what is random or learned in this module alone new; layers that have such override it."""

    def reset(self, seed: int | np.random.Generator) -> Self:
        """Make every layer new, drawing from one generator in order: one number seeds a whole network."""
        rng = np.random.default_rng(seed)
        for module in self.modules():
            module.initialize(rng)
        return self

    # Saving and loading

    def astype(self, dtype: Any) -> Self:
        """Convert parameters and buffers, in place, to float32 or float64. Returns the module."""
        if np.dtype(dtype).kind != "f":
            raise TypeError(f"astype: expected a floating-point dtype, got {np.dtype(dtype)}: try np.float32")
        for parameter in self.parameters():
            parameter.data, parameter.grad = parameter.data.astype(dtype), None
        for module in self.modules():
            for name in module.buffers:
                setattr(module, name, getattr(module, name).astype(dtype))
        return self

    def _arrays(self) -> dict[str, np.ndarray]:
        """The arrays of parameters and buffers themselves."""
        arrays = {name: parameter.data for name, parameter in self.named_parameters()}
        for prefix, module in self.named_modules():
            for name in module.buffers:
                arrays[_joined(prefix, name)] = getattr(module, name)
        return arrays

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and buffers by name."""
        return {name: array.copy() for name, array in self._arrays().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set all parameters and buffers from such a dict, into arrays and dtypes that the module has.

        Raises ValueError that names every entry that is missing, unexpected or of another shape; nothing is
        then changed.
        """
        mine = self._arrays()
        given = {name: np.asarray(value) for name, value in state.items()}
        problems = [f"missing {name} {array.shape}" for name, array in mine.items() if name not in given]
        problems += [f"unexpected {name} {array.shape}" for name, array in given.items() if name not in mine]
        problems += [
            f"{name} is {mine[name].shape} here and {array.shape} there"
            for name, array in given.items()
            if name in mine and array.shape != mine[name].shape
        ]
        if problems:
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: {'; '.join(problems)}: "
                f"build the network that was saved, with the same layers and sizes"
            )
        for name, array in mine.items():
            array[...] = given[name]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `state_dict` to an .npz file; a file of that name is replaced whole, never half."""
        with written(path) as file:
            np.savez(file, **self.state_dict())  # type: ignore[arg-type]  # names are never "allow_pickle"

    def load(self, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote; raises ValueError as `load_state_dict` does. Returns the module."""
        self.load_state_dict(read_npz(path))
        return self

    def __repr__(self) -> str:
        lines = [f"  ({name}): " + repr(child).replace("\n", "\n  ") for name, child in self.children()]
        inside = "\n" + "\n".join(lines) + "\n" if lines else self.settings()
        return f"{type(self).__name__}({inside})"

    def settings(self) -> str:
        """The arguments that `repr` shows."""
        return ""


def _members(attributes: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The parameters and modules among the values, also inside lists, tuples and dicts: ("blocks.0", ...)."""
    for name, value in attributes.items():
        if isinstance(value, (Parameter, Module)):
            yield name, value
        elif isinstance(value, (list, tuple, dict)):
            inner = value.items() if isinstance(value, dict) else enumerate(value)
            yield from ((f"{name}.{key}", member) for key, member in _members({str(k): v for k, v in inner}))


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _once(pairs: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """The pairs whose second member has not come before: what is shared keeps its first name."""
    seen = set()
    for name, value in pairs:
        if id(value) not in seen:
            seen.add(id(value))
            yield name, value


@contextlib.contextmanager
def written(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write that takes its name only when it is whole: it is written beside and renamed."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def read_npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; ValueError if it is another kind of file, or damaged."""
    import zipfile
    import zlib

    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file.items())
    except (ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: expected an .npz file that minigrad wrote, got other bytes ({error})") from error


# How weights are drawn --------------------------------------------------------------------------------------


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many inputs a unit has, and how many units an input: (in, out), for `Conv2d` times kh kw."""
    taps = math.prod(shape[2:])
    return shape[1] * taps, shape[0] * taps


def _uniform(limit: Callable[[int, int], float], text: str) -> Initializer:
    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        a = limit(*fans(shape))
        return rng.uniform(-a, a, size=shape)

    draw.__doc__ = text
    return draw


def _normal(deviation: Callable[[int, int], float], text: str) -> Initializer:
    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return rng.normal(0, deviation(*fans(shape)), size=shape)

    draw.__doc__ = text
    return draw


initializers: dict[str, Initializer] = {
    "glorot_uniform": _uniform(lambda i, o: math.sqrt(6 / (i + o)), "U[-a, a], a = sqrt(6 / (fan_in + fan_out))."),
    "glorot_normal": _normal(lambda i, o: math.sqrt(2 / (i + o)), "N(0, s^2), s = sqrt(2 / (fan_in + fan_out))."),
    "he_uniform": _uniform(lambda i, o: math.sqrt(6 / i), "U[-a, a], a = sqrt(6 / fan_in)."),
    "he_normal": _normal(lambda i, o: math.sqrt(2 / i), "N(0, s^2), s = sqrt(2 / fan_in)."),
    "uniform": _uniform(lambda i, o: 1.0, "U[-1, 1] (IP-07, US 12387092, figure 3)."),
    "zeros": _uniform(lambda i, o: 0.0, "All zero: every unit of a layer then learns the same."),
}
"""How a weight is drawn, by name: ``initializers["he_normal"](rng, shape)`` is an array of that shape.

Glorot and Bengio (2010) keep the variance of signals and gradients alike in linear units, He et al. (2015)
that of signals in units with a ReLU. fan_in and fan_out are `fans` of the shape; a layer's ``init`` takes a
name or such a function. Numbers are drawn in float64 whatever the dtype of the layer.
"""


def _initializer(who: str, init: str | Initializer) -> Initializer:
    if callable(init):
        return init
    if init not in initializers:
        raise ValueError(f"{who}: init={init!r}: choose {', '.join(initializers)}, or give a function of (rng, shape)")
    return initializers[init]


def _generator(who: str, rng: Any, seed: Any) -> np.random.Generator:
    if rng is not None and seed is not None:
        raise TypeError(f"{who}: got rng and seed: give one of them")
    return np.random.default_rng(rng if seed is None else seed)


def _size(who: str, name: str, value: Any) -> int:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{who}: expected {name} to be a whole number from 1, got {value!r}: count the {name}")
    return int(value)


# The containers ---------------------------------------------------------------------------------------------


class Sequential(Module):
    """Modules one after the other, named by position, or by name if given as keywords.

    ``model[0]`` and ``model["name"]`` are a module, ``model[1:3]`` is a Sequential of the same modules.
    """

    def __init__(self, *layers: Module, **named: Module):
        self.layers = {str(position): layer for position, layer in enumerate(layers)} | named
        for name, layer in self.layers.items():
            if not isinstance(layer, Module):
                raise TypeError(f"Sequential: expected modules, got {layer!r} as {name}: try nn.ReLU() for a function")

    def children(self) -> Iterator[tuple[str, Module]]:
        return iter(self.layers.items())

    def forward(self, x: Any) -> Any:
        for name, layer in self.layers.items():
            try:
                x = layer(x)
            except (ValueError, TypeError) as error:
                error.add_note(f"in layer {name}, {layer!r}")
                raise
        return x

    def readout(self) -> Linear:
        """The affine layer that the network ends in, whose rows are the classes; ValueError if it ends otherwise."""
        last = self[-1] if len(self) else None
        if isinstance(last, Sequential):
            return last.readout()
        if not isinstance(last, Linear) or type(last).forward is not Linear.forward:
            softmax = ", and softmax needs all logits" if isinstance(last, (Softmax, LogSoftmax)) else ""
            raise ValueError(
                f"Sequential.readout: expected a network that ends in Linear, got {last!r} at its end{softmax}: only "
                f"an affine layer has outputs that can be taken alone; slice off what follows it, as in model[:-1]"
            )
        return last

    def logits(self, x: Any, classes: Any) -> Any:
        """The outputs of chosen classes only: (N, ...) to (N, C), or to (N,) for one number (LS-01).

        Of the last layer, which must be `Linear`, only the rows of these classes are read: its cost does not grow
        with the number of the others. `single_logit.SingleLogit` decides by such outputs.

        Raises ValueError where it ends in something else, and for classes out of range, TypeError for classes that
        are not whole numbers.
        """
        last = self.readout()
        chosen = np.asarray(classes)
        if chosen.dtype.kind not in "iu":
            raise TypeError(f"Sequential.logits: expected classes as whole numbers, got {classes!r}: try classes=[0]")
        if chosen.ndim > 1 or chosen.size == 0 or not 0 <= chosen.min() <= chosen.max() < last.out_features:
            raise ValueError(
                f"Sequential.logits: classes={classes!r}: expected one or several whole numbers from 0 to "
                f"{last.out_features - 1}, of which the network has outputs"
            )
        model: Any = self
        while isinstance(model, Sequential):
            model, x = model[-1], model[:-1](x)
        z = last.rows(x, np.atleast_1d(chosen))
        return z if chosen.ndim else z[..., 0]

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Module]:
        return iter(self.layers.values())

    def __getitem__(self, key: int | str | slice) -> Any:
        if isinstance(key, str):
            return self.layers[key]
        if not isinstance(key, slice):
            return list(self)[key]
        part = Sequential()
        part.layers = dict(list(self.layers.items())[key])
        return part


# The layers with parameters ---------------------------------------------------------------------------------


class Weighted(Module):
    """A layer y = operation(x, weight, bias): ``init`` draws the weight, the bias begins at zero, or is None.

    Where there is a ``quantizer``, an operation such as `ops.quantization.Ternarize`, the layer computes with what it
    makes of the weight: ``effective_weight``, the weight itself otherwise.
    """

    operation: Operation
    quantizer: Operation | None = None

    def __init__(
        self,
        shape: tuple[int, ...],
        bias: bool,
        init: str | Initializer,
        rng: np.random.Generator | None,
        seed: int | None,
        dtype: Any,
    ):
        who = type(self).__name__
        self.init = init
        self.weight = Parameter(np.empty(shape, dtype), "weight")
        self.bias = Parameter(np.empty(shape[0], dtype), "bias") if bias else None
        self.initialize(_generator(who, rng, seed))

    def initialize(self, rng: np.random.Generator) -> None:
        """Draw the weight anew."""
        draw = _initializer(type(self).__name__, self.init)
        self.weight.data[...] = draw(rng, self.weight.shape)
        if self.bias is not None:
            self.bias.data[...] = 0

    @property
    def effective_weight(self) -> Tensor:
        """What the layer computes with, on the tape."""
        quantized: Tensor = self.weight if self.quantizer is None else self.quantizer(self.weight)
        return quantized

    def __repr__(self) -> str:
        shown = super().__repr__()
        return shown if self.quantizer is None else f"{shown[:-1]}, quantizer={self.quantizer!r})"


AnyModule = TypeVar("AnyModule", bound=Module)


def ternary(model: AnyModule, sparsity: float = 0.75, per: str = "layer") -> AnyModule:
    """From now on all layers compute with weights in {0, alpha, -alpha}, at least ``sparsity`` of them 0 (IP-05).

    What is trained and saved remains the float weight of each layer, of which its ``effective_weight`` is computed
    anew in every call (`ops.quantization.Ternarize` says how, and what ``per="filter"`` changes); the gradient is the
    straight-through estimator's, and biased. Parameters keep their names, so that the state of a float network can be
    loaded before or after; biases stay float. ``layer.quantizer = None`` undoes it for a layer. Returns the model.

    Raises ValueError, and changes nothing, where a layer or filter is too small to have that many zeros.
    """
    quantizer = quantization.Ternarize(sparsity, per)
    layers = [module for module in model.modules() if isinstance(module, Weighted)]
    for layer in layers:
        quantizer.check(layer.weight.data)
    for layer in layers:
        layer.quantizer = quantizer
    return model


class Linear(Weighted):
    """y = W x + b on vectors along the last axis: (..., in) to (..., out) (TC-09, Tomasi 2019, section 3).

    ``weight`` is (out, in) and ``bias`` (out,).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        init: str | Initializer = "he_uniform",
        *,
        rng: np.random.Generator | None = None,
        seed: int | None = None,
        dtype: Any = np.float64,
    ):
        self.in_features = _size("Linear", "in_features", in_features)
        self.out_features = _size("Linear", "out_features", out_features)
        self.operation = linear.Affine()
        super().__init__((self.out_features, self.in_features), bias, init, rng, seed, dtype)

    def forward(self, x: Any) -> Any:
        if x.shape[-1:] != (self.in_features,):
            flat = math.prod(x.shape[1:]) == self.in_features
            hint = "put a Flatten() before it" if flat else f"give {self.in_features} numbers along the last axis"
            self.refuse(f"expected (..., {self.in_features}), got {x.shape}", hint)
        return self.operation(x, self.effective_weight, self.bias)

    def rows(self, x: Any, units: Any) -> Any:
        """The outputs of chosen units only: (..., in) to (..., U), for whole numbers ``units`` (U,)."""
        return self.operation(x, self.effective_weight[units], None if self.bias is None else self.bias[units])

    def settings(self) -> str:
        return f"{self.in_features}, {self.out_features}{'' if self.bias is not None else ', bias=False'}"


class Node(Weighted):
    """z_i = c_i (W_i . x) + b_i on vectors along the last axis: (..., in) to (..., out) (IP-01, US 12387092, eqs. 1-3).

    ``weight`` is (out, in), ``scale`` (out,) holds the c_i, which begin at 1, and ``bias`` is (out,). With weights that
    are `ternary` the scale gives each node a magnitude of its own.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        init: str | Initializer = "he_uniform",
        *,
        rng: np.random.Generator | None = None,
        seed: int | None = None,
        dtype: Any = np.float64,
    ):
        self.in_features = _size("Node", "in_features", in_features)
        self.out_features = _size("Node", "out_features", out_features)
        self.operation = linear.Node()
        self.scale = Parameter(np.empty(self.out_features, dtype), "scale")
        super().__init__((self.out_features, self.in_features), True, init, rng, seed, dtype)

    def initialize(self, rng: np.random.Generator) -> None:
        """Draw the weight anew; the scale is 1."""
        super().initialize(rng)
        self.scale.data[...] = 1

    def forward(self, x: Any) -> Any:
        return self.operation(x, self.effective_weight, self.scale, self.bias)

    def settings(self) -> str:
        return f"{self.in_features}, {self.out_features}"


class Conv2d(Weighted):
    """Correlation of images (N, in, H, W) with kernels, to (N, out, P, Q) (IP-03, US 12387092, figure 2).

    ``weight`` is (out, in, kh, kw) and ``bias`` (out,). ``kernel_size``, ``stride``, ``padding`` and
    ``dilation`` are a number or a (vertical, horizontal) pair; P = floor((H + 2 padding - dilation (kh - 1) -
    1) / stride) + 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        bias: bool = True,
        init: str | Initializer = "he_uniform",
        *,
        rng: np.random.Generator | None = None,
        seed: int | None = None,
        dtype: Any = np.float64,
    ):
        self.in_channels = _size("Conv2d", "in_channels", in_channels)
        self.out_channels = _size("Conv2d", "out_channels", out_channels)
        self.kernel_size = pair("Conv2d", "kernel_size", kernel_size)
        self.operation = operation = Convolution(stride, padding, dilation)
        for name, sizes, least in (
            ("kernel_size", self.kernel_size, 1),
            ("stride", operation.stride, 1),
            ("padding", operation.padding, 0),
            ("dilation", operation.dilation, 1),
        ):
            if min(sizes) < least:
                raise ValueError(f"Conv2d: expected {name} from {least}, got {sizes}: try {name}={least}")
        shape = (self.out_channels, self.in_channels, *self.kernel_size)
        super().__init__(shape, bias, init, rng, seed, dtype)

    def forward(self, x: Any) -> Any:
        C = self.in_channels
        if x.ndim != 4 or x.shape[1] != C:
            hint = f"give images of {C} channels"
            if x.ndim == 4 and x.shape[3] == C:
                hint = "channels are last; use x.transpose(0, 3, 1, 2)"
            elif x.ndim == 3 and x.shape[0] == C:
                hint = "a batch of one image is x[None]"
            elif x.ndim == 3 and C == 1:
                hint = "the axis of channels is missing; use x[:, None]"
            self.refuse(f"expected (N, {C}, H, W), got {x.shape}", hint)
        if x.dtype != self.weight.dtype:
            self.refuse(
                f"expected {self.weight.dtype} images, as its weights are, got {x.dtype}",
                f"use x.astype(np.{self.weight.dtype}), or convert the network by astype",
                TypeError,
            )
        return self.operation(x, self.effective_weight, self.bias)

    def settings(self) -> str:
        kernel = f"kernel_size={_short(self.kernel_size)}{_given(self.operation)}"
        return f"{self.in_channels}, {self.out_channels}, {kernel}{'' if self.bias is not None else ', bias=False'}"


class BatchNorm1d(Module):
    """Normalize each channel of (N, C) to mean 0 and variance 1, then scale by ``weight`` and shift by
    ``bias``.

    In training the statistics are those of the batch, and ``running_mean`` and ``running_var`` move towards
    them by ``momentum``, the variance with the divisor M - 1 (M numbers a channel); at test these are used
    instead. The conventions, and ``eps`` inside the root, are PyTorch's; the source (LS-22) uses the layer
    and does not define it.
    """

    axes: ClassVar[str] = "(N, {C})"
    buffers = ("running_mean", "running_var")

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, *, dtype: Any = np.float64):
        self.num_features = _size(type(self).__name__, "num_features", num_features)
        if not (eps >= 0 and 0 <= momentum <= 1):
            raise ValueError(
                f"{type(self).__name__}: eps={eps}, momentum={momentum}: take eps >= 0 and momentum in [0, 1]"
            )
        self.momentum = momentum
        self.operation = normalization.BatchNorm(eps)
        self.weight = Parameter(np.empty(num_features, dtype), "weight")
        self.bias = Parameter(np.empty(num_features, dtype), "bias")
        self.running_mean = np.empty(num_features, dtype)
        self.running_var = np.empty(num_features, dtype)
        self.initialize(np.random.default_rng(0))

    def initialize(self, rng: np.random.Generator) -> None:
        """Weight and running variance 1, bias and running mean 0; nothing is drawn."""
        self.weight.data[...], self.bias.data[...] = 1, 0
        self.running_mean[...], self.running_var[...] = 0, 1

    def forward(self, x: Any) -> Any:
        axes = self.axes.format(C=self.num_features)
        if x.ndim != axes.count(",") + 1 or x.shape[1] != self.num_features:
            self.refuse(f"expected {axes}, got {x.shape}", f"give {self.num_features} channels along axis 1")
        return self._normalized_by_batch(x) if self.training else self._normalized_by_past(x)

    def _normalized_by_batch(self, x: Any) -> Any:
        M = x.size // self.num_features
        if M < 2:
            self.refuse(
                f"x {x.shape} has one number a channel, and one number has no variance",
                "train on larger batches, or call eval()",
            )
        y = self.operation(x, self.weight, self.bias)
        *_, mean, inv_std = y.record or self.operation.forward(x.data, self.weight.data, self.bias.data)
        variance = np.maximum(inv_std**-2.0 - self.operation.eps, 0)
        self.running_mean += self.momentum * (mean - self.running_mean)
        self.running_var += self.momentum * (M / (M - 1) * variance - self.running_var)
        return y

    def _normalized_by_past(self, x: Any) -> Any:
        scale = self.weight / np.sqrt(self.running_var + self.operation.eps)
        shift = self.bias - scale * self.running_mean
        along = (1, -1) + (1,) * (x.ndim - 2)
        return x * scale.reshape(along) + shift.reshape(along)

    def settings(self) -> str:
        momentum = "" if self.momentum == 0.1 else f", momentum={self.momentum}"
        return f"{self.num_features}{_given(self.operation)}{momentum}"


class BatchNorm2d(BatchNorm1d):
    """`BatchNorm1d` on images (N, C, H, W): the statistics of a channel run over N, H and W."""

    axes = "(N, {C}, H, W)"


class PReLU(Module):
    """y = a for a >= 0, slope a below; the slope is trained (IP-02, US 12387092, figure 1; He et al. 2015).

    One ``slope`` for all units, or ``num_parameters`` of them, one for each channel along axis 1. It begins at ``init``
    and may become negative.
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25, *, dtype: Any = np.float64):
        self.init = init
        self.operation = transfer.PReLU()
        self.slope = Parameter(np.empty(_size("PReLU", "num_parameters", num_parameters), dtype), "slope")
        self.initialize(np.random.default_rng(0))

    def initialize(self, rng: np.random.Generator) -> None:
        """The slope is ``init`` again; nothing is drawn."""
        self.slope.data[...] = self.init

    def forward(self, x: Any) -> Any:
        channels = self.slope.size
        if channels == 1:
            return self.operation(x, self.slope)
        if x.ndim < 2 or x.shape[1] != channels:
            self.refuse(f"expected (N, {channels}, ...), got {x.shape}", f"give {channels} channels along axis 1")
        return self.operation(x, self.slope.reshape((channels,) + (1,) * (x.ndim - 2)))

    def settings(self) -> str:
        return f"{self.slope.size}{'' if self.init == 0.25 else f', init={self.init}'}"


# The layers without parameters ------------------------------------------------------------------------------


class Quantize(Module):
    """The outputs of a layer to ``bits`` bits: 2^bits levels from ``low`` to ``high`` (IP-06, US 12387092).

    A bound that is None is learned from what passes in training: ``bounds`` (2,) holds the first batch's least and
    largest number, and moves towards those of each later one by ``momentum``. Gradients are those of the
    straight-through estimator, and biased (`ops.quantization.Quantize`). Put it behind the transfer function.
    """

    buffers = ("bounds",)

    def __init__(self, bits: int, low: float | None = None, high: float | None = None, momentum: float = 0.1):
        self.bits, self.low, self.high, self.momentum = bits, low, high, momentum
        if not 0 < momentum <= 1:
            raise ValueError(f"Quantize: momentum={momentum!r}: expected 0 < momentum <= 1: try 0.1")
        at_least = low if low is not None else 0.0 if high is None else high - 1
        quantization.Quantize(bits, at_least, at_least + 1 if high is None else high)  # refuses what makes no sense
        self.bounds = np.empty(2)
        self.initialize(np.random.default_rng(0))

    def initialize(self, rng: np.random.Generator) -> None:
        """Forget the bounds that were learned."""
        self.bounds[...] = [math.nan if bound is None else bound for bound in (self.low, self.high)]

    def forward(self, x: Any) -> Any:
        if self.training and (self.low is None or self.high is None):
            self._watch(np.array([x.data.min(), x.data.max()]))
        low, high = map(float, self.bounds)
        if not low < high:
            seen = "it has seen no outputs yet" if math.isnan(low + high) else f"all outputs so far are {low:g}"
            self.refuse(seen, "give low and high, or train first")
        return quantization.Quantize(self.bits, low, high)(x)

    def _watch(self, extremes: np.ndarray) -> None:
        """Move the bounds that are learned towards the extremes of a batch."""
        learned = np.array([self.low is None, self.high is None])
        moved = self.bounds + self.momentum * (extremes - self.bounds)
        self.bounds[learned] = np.where(np.isnan(self.bounds), extremes, moved)[learned]

    def settings(self) -> str:
        bounds = (("low", self.low), ("high", self.high))
        return f"{self.bits}" + "".join(f", {name}={bound:g}" for name, bound in bounds if bound is not None)


class Function(Module):
    """The layer of an operation with one input; its arguments are the operation's hyper-parameters.

    ``class ReLU(Function, of=transfer.ReLU)`` is all that such a layer needs.
    """

    kind: ClassVar[type[Operation]]

    def __init_subclass__(cls, of: type[Operation]) -> None:
        super().__init_subclass__()
        cls.kind = of
        cls.__signature__ = inspect.signature(of)  # type: ignore[attr-defined]  # for help()

    def __init__(self, *arguments: Any, **keywords: Any):
        self.operation = self.kind(*arguments, **keywords)

    def initialize(self, rng: np.random.Generator) -> None:
        if isinstance(getattr(self.operation, "rng", None), np.random.Generator):
            vars(self.operation)["rng"] = rng

    def forward(self, x: Any) -> Any:
        return self.operation(x)

    def settings(self) -> str:
        return _given(self.operation).removeprefix(", ")


class ReLU(Function, of=transfer.ReLU):
    """y = max(0, a)."""


class LeakyReLU(Function, of=transfer.LeakyReLU):
    """y = a for a >= 0, beta a below."""


class ELU(Function, of=transfer.ELU):
    """y = a for a >= 0, beta (e^a - 1) below."""


class Softplus(Function, of=transfer.Softplus):
    """y = log(1 + e^a)."""


class ArcTan(Function, of=transfer.ArcTan):
    """y = arctan a."""


class Step(Function, of=transfer.Step):
    """y = 0, 1/2, 1 for a < 0, a = 0, a > 0; no gradient passes it."""


class Sigmoid(Function, of=transfer.Sigmoid):
    """y = 1 / (1 + e^-a)."""


class Tanh(Function, of=transfer.Tanh):
    """y = tanh a."""


class Softmax(Function, of=softmax.Softmax):
    """p = softmax(z), along the last axis unless asked otherwise."""


class LogSoftmax(Function, of=softmax.LogSoftmax):
    """y = log softmax(z)."""


class MaxPool2d(Function, of=pooling.MaxPool2d):
    """The largest entry of each window of images (N, C, H, W)."""


class AvgPool2d(Function, of=pooling.AvgPool2d):
    """The mean of each window of images (N, C, H, W), padding counted."""


class Dropout(Module):
    """Keep each entry with probability ``p``, independently, in training (TC-22, TC-23, Tomasi 2019, section
    5).

    Put it behind the transfer function: outputs are zeroed, not weights (T-12). In training the output is m x
    with a mask m of zeros and ones, drawn anew for each call and for each sample, and at test it is p x, its
    mean. With ``inverted=True`` it is m x / p in training and x at test. The masks do not depend on the dtype
    of x.

    Note that p is the probability to KEEP; in other frameworks it is often that of dropping.
    """

    def __init__(
        self,
        p: float = 0.5,
        inverted: bool = False,
        *,
        rng: np.random.Generator | None = None,
        seed: int | None = None,
    ):
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: p={p!r}: p is the probability to keep: give a number from 0 to 1")
        if inverted and p == 0:
            raise ValueError("Dropout: p=0, inverted=True divides by zero: p is the probability to keep: take p > 0")
        self.p, self.inverted = p, inverted
        self.operation = pointwise.Dropout()
        self.initialize(_generator("Dropout", rng, seed))

    def initialize(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def forward(self, x: Any) -> Any:
        if not self.training:
            return x if self.inverted or self.p == 1 else x * self.p
        mask = (self.rng.random(x.shape, dtype=np.float32) < self.p).astype(x.dtype)
        if self.inverted:
            mask /= self.p
        return self.operation(x, mask)

    def settings(self) -> str:
        return f"{self.p}{', inverted=True' if self.inverted else ''}"


class Flatten(Module):
    """Each sample as one vector: (N, ...) to (N, all the rest)."""

    def forward(self, x: Any) -> Any:
        if x.ndim == 0:
            self.refuse("expected (N, ...), got one number", "give an array with an axis of samples")
        return shapes.Reshape((x.shape[0], math.prod(x.shape[1:])))(x)


class Identity(Module):
    """y = x: the layer to put where none is wanted."""

    operation = transfer.LeakyReLU(1.0)

    def forward(self, x: Any) -> Any:
        return x


def _given(operation: Operation) -> str:
    """The hyper-parameters that are not the defaults, each with a comma before it: ", stride=2"."""
    shown = ((p, _short(getattr(operation, name, p.default))) for name, p in operation.hyperparameters().items())
    return "".join(f", {p.name}={value!r}" for p, value in shown if p.name != "rng" and value != p.default)


def _short(value: Any) -> Any:
    """2 for the pair (2, 2)."""
    return value[0] if isinstance(value, tuple) and len(value) == 2 and value[0] == value[1] else value
