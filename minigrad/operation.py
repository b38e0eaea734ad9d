"""What an operation is: one function written four times, and the registry of all of them.

An operation is one class. It carries

    signature   what goes in and what comes out: names, and a letter for the size of each axis
    source      where its formula is printed
    formula     one entry of the output as a SymPy expression in index notation
    forward     the value: the whole batch, stable and fast
    jacobian    the explicit matrix of ONE sample, J[i, j] = dy_i/dx_j on arrays flattened in C order
    vjp         the whole batch: the row g times the Jacobian, without forming it
    samples     inputs on which comparing these four means something
    errors      inputs that must be refused, and words that the message must have

and everything else follows from it: the function at the top level, the audit and its mutants, the tests, the table
of operations. A class that lacks a part fails when it is defined. Hyper-parameters live on the operation, under the
names of its ``__init__``; arrays are passed in, so that each method can be called by hand, without a graph.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import numpy as np

if TYPE_CHECKING:
    from .formula import Formula

__all__ = ["Elementwise", "Operation", "Source", "find", "registry"]

registry: dict[str, type[Operation]] = {}
"""Every complete operation, by the name of its function: ``registry["softmax"] is Softmax``."""


@dataclass(frozen=True)
class Source:
    """Where a formula is printed: the place, its number in the catalogue, and the erratum that corrects it."""

    place: str
    number: str = ""
    erratum: str = ""

    def __str__(self) -> str:
        erratum = f"corrected by {self.erratum}" if self.erratum else ""
        return ", ".join(part for part in (self.number, self.place, erratum) if part)


@dataclass(frozen=True)
class Variable:
    """One array of a signature, such as ``x[N,C,H,W]``, ``bias[O]?`` or ``*parts``.

    A first ``N`` is the axis of the samples and ``...`` any number of such axes; without brackets, or with a last
    ``*``, the shape is free. ``?`` marks an input that may be None, a leading ``*`` an input that may be repeated.
    """

    name: str
    letters: tuple[str, ...]
    samples: str = ""
    free: bool = False
    optional: bool = False
    repeated: bool = False

    @classmethod
    def parse(cls, text: str) -> Variable:
        match = re.fullmatch(r"\s*(\*?)(\w+)(?:\[([^]]*)\])?(\??)\s*", text)
        if match is None:
            raise TypeError(f"signature: {text!r} is not a variable such as x[N,C,H,W], bias[O]? or *parts")
        star, name, inner, optional = match.groups()
        letters = [letter.strip() for letter in (inner or "").split(",") if letter.strip()]
        samples = letters.pop(0) if letters and letters[0] in ("N", "...") else ""
        free = inner is None or "*" in letters
        letters = [letter for letter in letters if letter != "*"]
        return cls(name, tuple(letters), samples, free, optional == "?", star == "*")

    def leading(self, ndim: int) -> int:
        """How many of ``ndim`` axes count samples."""
        return ndim - len(self.letters) if self.samples == "..." else int(self.samples == "N")


@dataclass(frozen=True)
class Signature:
    """A parsed signature: ``"x[...,I], weight[O,I], bias[O]? -> y[...,O]"``."""

    text: str
    inputs: tuple[Variable, ...]
    output: Variable

    @classmethod
    def parse(cls, text: str) -> Signature:
        left, arrow, right = text.partition("->")
        if not arrow:
            raise TypeError(f"signature {text!r} has no '->': write inputs -> output, as in 'z[...,K] -> p[...,K]'")
        inputs = re.split(r",\s*(?![^\[]*\])", left)
        return cls(text, tuple(map(Variable.parse, inputs)), Variable.parse(right))

    def of(self, count: int) -> tuple[Variable, ...]:
        """The variables of ``count`` arrays: a repeated input stands for as many as there are."""
        return self.inputs * count if self.inputs[0].repeated else self.inputs


class Operation:
    """Base of all operations; see the module's text for what a complete one carries.

    A class may also state: samples on ``kinks`` and in ``tails``, ``name`` (of its function, else from the class
    name), ``saved`` (names of what ``forward`` returns besides the output, for ``vjp``), ``constants`` (inputs that
    nothing is differentiated with respect to), ``laws``, ``printed`` (the derivatives as the source prints them),
    ``flat`` (the formula speaks of arrays flattened in C order), ``literal`` (the formula needs the sizes as numbers),
    ``call`` (how the function takes its arguments), ``dependent`` (checks of the audit that hold by construction, and
    prove nothing), ``broadcasts`` (inputs are first brought to one shape), ``estimator`` (why its Jacobian and product
    are on purpose not the derivative of its value; they are that of ``surrogate``, a second formula),
    ``piecewise_constant`` (its Jacobian is zero everywhere). A ``vjp`` with a parameter ``wanted`` is told which
    gradients are asked for.
    """

    signature: ClassVar[str]
    source: ClassVar[Source]
    name: ClassVar[str]
    saved: ClassVar[tuple[str, ...]] = ()
    constants: ClassVar[tuple[str, ...]] = ()
    laws: ClassVar[tuple[Callable[..., float], ...]] = ()
    dependent: ClassVar[tuple[str, ...]] = ()
    broadcasts: ClassVar[bool] = False
    estimator: ClassVar[str] = ""
    piecewise_constant: ClassVar[bool] = False
    flat: ClassVar[bool] = False
    literal: ClassVar[bool] = False
    parsed: ClassVar[Signature]
    selective: ClassVar[bool]
    required: ClassVar[tuple[str, ...]] = (
        "__doc__", "signature", "source", "formula", "forward", "jacobian", "vjp", "samples", "errors",
    )  # fmt: skip

    if TYPE_CHECKING:

        def __init__(self, *hyperparameters: Any, **named: Any): ...

        def __call__(self, *inputs: Any, **keywords: Any) -> Any:
            """Apply to tensors and record on the tape (`minigrad.tensor` says how)."""

        def formula(self, *symbols: Any) -> Formula:
            """One entry of the output for one sample; the symbols are made from the signature."""

        def surrogate(self, *symbols: Any) -> Formula:
            """Of an estimator: the function whose derivative stands in for that of the formula."""

        def forward(self, *arrays: Any) -> Any:
            """The output for the whole batch; a tuple, output first, if the class names what it has ``saved``."""

        def jacobian(self, *arrays: Any) -> Any:
            """The matrix of one sample (dense or scipy.sparse), a tuple of them if several inputs vary."""

        def vjp(self, g: Any, *arrays: Any) -> Any:
            """g J for each input that varies: gets g, the inputs, the output and what was saved."""

        @classmethod
        def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
            """Yields (operation, *arrays)."""

        @classmethod
        def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
            """Yields (a call that must fail, words of its message)."""

    def __init_subclass__(cls, abstract: bool = False) -> None:
        """Check that the class is whole, then register it; ``abstract=True`` marks a base that is not."""
        super().__init_subclass__()
        if abstract:
            return
        parts = (*cls.required, "surrogate") if cls.estimator else cls.required
        missing = [part for part in parts if getattr(cls, part, None) is None]
        if missing or cls.__doc__ is None:
            raise TypeError(
                f"{cls.__name__} lacks {', '.join(missing or ['__doc__'])}: an operation carries "
                f"{', '.join(parts)}"
            )
        cls.parsed = Signature.parse(cls.signature)
        unknown = set(cls.constants) - {variable.name for variable in cls.parsed.inputs}
        if unknown:
            raise TypeError(f"{cls.__name__}.constants: {', '.join(sorted(unknown))} not in {cls.signature!r}")
        cls.selective = "wanted" in inspect.signature(cls.vjp).parameters
        cls.name = cls.__dict__.get("name") or snake_case(cls.__name__)
        taken = registry.get(cls.name)
        if taken is not None and (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(
                f"{cls.__name__}: the name {cls.name!r} belongs to {taken.__module__}.{taken.__qualname__}: "
                f"set another name = '...' on the class"
            )
        registry[cls.name] = cls

    @classmethod
    def hyperparameters(cls) -> dict[str, inspect.Parameter]:
        """The parameters of ``__init__``; each is kept under its own name on the operation."""
        if cls.__init__ is object.__init__:
            return {}
        return dict(list(inspect.signature(cls.__init__).parameters.items())[1:])

    @classmethod
    def kinks(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        """Samples that stand on ties and kinks, where differences mean nothing and the formula says which slope."""
        return iter(())

    @classmethod
    def tails(cls) -> Iterator[tuple[Any, ...]]:
        """Samples at which every entry of value and Jacobian must be right relative to itself, however small."""
        return iter(())

    def output(self, *arrays: Any) -> Any:
        """The output alone, without what `forward` saves."""
        result = self.forward(*arrays)
        return result[0] if self.saved else result

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(variable.name for variable in self.parsed.inputs)

    @classmethod
    @functools.cache  # the tape asks in every step
    def varies(cls, count: int) -> tuple[bool, ...]:
        """For each of ``count`` inputs whether one may differentiate with respect to it."""
        return tuple(variable.name not in cls.constants for variable in cls.parsed.of(count))

    def symbols(self, *sample: Any) -> list[Any]:
        """The SymPy symbols of one sample's inputs, as `formula` takes them; None for an input left out."""
        from .formula import variable

        symbols = []
        for position, (declared, value) in enumerate(zip(self.parsed.of(len(sample)), sample, strict=True)):
            shape = np.shape(value) if not self.flat else (np.size(value),)
            name = f"{declared.name}_{position}" if declared.repeated else declared.name
            sizes: Sequence[Any] = declared.letters
            if self.flat or declared.free or self.literal:
                sizes = shape if self.literal else [f"{name}{axis}" for axis in range(len(shape))]
            integer = np.asarray(value).dtype.kind in "iub" and declared.name in self.constants
            symbols.append(None if value is None else variable(name, sizes, integer=integer))
        return symbols

    def written(self, *sample: Any) -> tuple[Formula, list[Any]]:
        """The formula in index notation for inputs of this sample's shapes, and the symbols in it."""
        return self.in_letters(self.formula, *sample)

    def differentiated(self, *sample: Any) -> tuple[Formula, list[Any]]:
        """The formula that the Jacobian is the derivative of: the same, or the surrogate of an estimator."""
        return self.in_letters(self.surrogate, *sample) if self.estimator else self.written(*sample)

    def in_letters(self, formula: Callable[..., Formula], *sample: Any) -> tuple[Formula, list[Any]]:
        """``formula`` or ``surrogate``, written with the symbols of this sample's inputs."""
        symbols = self.symbols(*sample)
        return formula(*symbols), symbols

    def refuse(self, problem: str, hint: str, error: type[Exception] = ValueError) -> NoReturn:
        """Raise an error that says who, what came, what was wanted (``problem``) and what to try (``hint``)."""
        raise error(f"{self!r}: {problem}: {hint}")

    def check(self, *arrays: Any) -> None:
        """Refuse arrays that do not fit the signature: too few, of another rank, or of sizes that disagree."""
        if len(arrays) != len(self.parsed.inputs) and not self.parsed.inputs[0].repeated:
            self.refuse(f"expected {self.signature}, got {len(arrays)} inputs", "pass one array an input")
        sizes: dict[str, tuple[int, str]] = {}
        for variable, array in zip(self.parsed.of(len(arrays)), arrays, strict=True):
            if array is None and variable.optional:
                continue
            shape = np.shape(array)
            rank = len(variable.letters)
            wanted = rank + (variable.samples == "N")
            if variable.free:
                continue
            if len(shape) < rank or (variable.samples != "..." and len(shape) != wanted):
                self.refuse(
                    f"expected {self.signature}, got {variable.name} of shape {shape}",
                    f"give {variable.name} {wanted} axes",
                )
            for letter, size in zip(variable.letters, shape[len(shape) - rank :], strict=True):
                known, where = sizes.setdefault(letter, (size, f"{variable.name} {shape}"))
                if known != size:
                    self.refuse(
                        f"expected {self.signature}, got {letter} = {known} in {where} "
                        f"but {letter} = {size} in {variable.name} {shape}",
                        f"make the axes {letter} agree (transpose or reshape one of them)",
                    )

    def __repr__(self) -> str:
        values = (f"{name}={getattr(self, name, '?')!r}" for name in self.hyperparameters())
        return f"{type(self).__name__}({', '.join(values)})"


class Elementwise(Operation, abstract=True):
    """One function of every entry, of one or several inputs of equal shape.

    Write ``forward`` and ``df``. ``df(*inputs, y)`` is the derivative, a tuple of partial derivatives if several
    inputs vary; the Jacobian is the diagonal matrix of it and the product multiplies by it, so the audit does not
    count the two as independent of one another.
    """

    required = (*Operation.required, "df")
    flat = True

    def __init_subclass__(cls, abstract: bool = False) -> None:
        super().__init_subclass__(abstract)
        cls.broadcasts = not abstract and len(cls.parsed.inputs) > 1

    if TYPE_CHECKING:

        def df(self, *arrays: Any) -> Any:
            """The partial derivatives at the inputs; the last argument is the value."""

    def in_letters(self, formula: Callable[..., Formula], *sample: Any) -> tuple[Formula, list[Any]]:
        """The formula of one entry, put on the entries of arrays that are flattened in C order."""
        from .formula import Formula, indices, variable

        arrays = self.symbols(*sample)
        scalars = [variable(str(array.name), integer=bool(array.assumptions0.get("integer"))) for array in arrays]
        i = indices("i")
        entry = formula(*scalars).expression.subs({x: array[i] for x, array in zip(scalars, arrays, strict=True)})
        return Formula(entry, i), arrays

    def jacobian(self, *arrays: Any) -> Any:
        from scipy.sparse import diags_array

        arrays = tuple(np.broadcast_arrays(*arrays))
        slopes = self.df(*arrays, self.forward(*arrays))
        diagonals = [
            diags_array(np.broadcast_to(slope, arrays[0].shape).ravel().astype(float)) for slope in as_tuple(slopes)
        ]
        return diagonals[0] if len(diagonals) == 1 else tuple(diagonals)

    def vjp(self, g: Any, *arrays: Any) -> Any:
        slopes = self.df(*arrays)
        return tuple([g * slope for slope in slopes]) if type(slopes) is tuple else g * slopes

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        """Elementwise operations take any numbers of equal shapes: what differs is refused."""
        count = len(cls.parsed.inputs)
        if count > 1:
            shapes: Sequence[tuple[int, ...]] = [(2, 3)] * (count - 1) + [(2, 4)]
            yield lambda: cls().check(*map(np.ones, shapes)), "(2, 4)"

    def check(self, *arrays: Any) -> None:
        """Refuse arrays that NumPy cannot broadcast to one shape."""
        try:
            np.broadcast_shapes(*map(np.shape, arrays))
        except ValueError:
            shapes = " and ".join(str(np.shape(array)) for array in arrays)
            self.refuse(f"shapes {shapes} do not broadcast", "reshape one so that axes are equal or 1")


def find(who: str, name: str) -> type[Operation]:
    """The operation of this name. Raises ValueError, in the name of ``who`` asks for it, if there is none."""
    if name not in registry:
        raise ValueError(f"{who}: there is no operation {name!r}: choose among {', '.join(sorted(registry))}")
    return registry[name]


def as_tuple(value: Any) -> tuple[Any, ...]:
    """What jacobian and vjp return, as a tuple also where one input varies."""
    return value if type(value) is tuple else (value,)


def snake_case(name: str) -> str:
    """``MaxPool2d`` -> ``max_pool2d``, ``ReLU`` -> ``relu``, ``LogSumExp`` -> ``log_sum_exp``."""
    name = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()
