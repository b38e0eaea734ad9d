"""Tensors and the tape: an array that remembers the operation and the inputs that made it, and `backward`.

The tape is the graph of the tensors themselves. Calling an operation on tensors runs its ``forward`` and, if some
input requires a gradient, records (operation, inputs, arrays) on the result. `Tensor.backward` visits the recorded
tensors, newest first, and pulls a row of derivatives g = dl/dy back through each operation to dl/dx = g J
(Tomasi 2019, equations 2-5). The rows live in a local dict, so that calling it twice gives the same answer.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar, Token
from heapq import heappop, heappush
from typing import Any, NoReturn

import numpy as np

from .operation import Operation, registry
from .ops.arithmetic import Add, Divide, Multiply, Negative, Power, Subtract
from .ops.pointwise import Abs

__all__ = ["Tensor", "as_array", "as_tensor", "function", "function_named", "no_grad"]

_negative, _abs = Negative(), Abs()
_counter = itertools.count(0, -1)  # the newest tensor has the lowest number
_order = operator.attrgetter("order")
_new = object.__new__
_ndarray = np.ndarray
_recording: ContextVar[bool] = ContextVar("recording", default=True)


class no_grad(contextlib.ContextDecorator):
    """Record nothing inside the ``with`` block, or in the decorated function: faster, and nothing is kept."""

    def __init__(self) -> None:
        self._tokens: list[Token[bool]] = []

    def __enter__(self) -> None:
        self._tokens.append(_recording.set(False))

    def __exit__(self, *exception: object) -> None:
        _recording.reset(self._tokens.pop())

    def _recreate_cm(self) -> no_grad:
        return type(self)()


def _binary(operation: Operation) -> tuple[Callable[[Tensor, Any], Tensor], Callable[[Tensor, Any], Tensor]]:
    """The methods of a binary operation: of a tensor with something, and of something with a tensor."""

    def on_left(x: Tensor, y: Any) -> Tensor:
        if isinstance(y, Tensor) and x._requires and y._requires and x.data.shape == y.data.shape and _recording.get():
            # All that `apply` asks is answered: both vary, neither is broadcast. Half of the time is saved.
            result = operation.forward(x.data, y.data)
            both = x, y
            return _tensor(result, operation, both, both, (x.data, y.data, result))
        return apply(operation, x, y)

    def on_right(y: Tensor, x: Any) -> Tensor:
        return apply(operation, x, y)

    return on_left, on_right


class Tensor:
    """An array on the tape.

    Parameters
    ----------
    data : array of numbers
        Copied, so that no later change of it reaches the tape. Python floats become float64.
    requires_grad : bool
        Whether `backward` shall set ``.grad``; floating-point data only.
    dtype : optional
        float64 unless asked otherwise or unless ``data`` is an array that has one.
    name : str
        A label for drawings and messages.

    Attributes
    ----------
    data : numpy.ndarray
    grad : numpy.ndarray or None
        The gradient that `backward` has set, of the shape of ``data`` (leaves only).
    op : Operation or None
        What made the tensor; None for a leaf.
    parents : tuple of Tensor
        What it was made from. ``inputs`` has the constants too, ``edges`` the inputs that may vary (None for those
        without a gradient), ``record`` the arrays: inputs, output, and what was saved.

    Raises
    ------
    TypeError
        If ``data`` is not numeric, or is not floating-point and shall require a gradient.
    """

    __slots__ = ("__weakref__", "_requires", "data", "edges", "grad", "inputs", "name", "op", "order", "record")
    __array_ufunc__ = None  # array * tensor asks the tensor, instead of multiplying entry by entry

    data: np.ndarray
    grad: np.ndarray | None
    op: Operation | None
    inputs: Sequence[Any]
    edges: Sequence[Tensor | None]
    record: Sequence[Any]

    def __init__(self, data: Any, requires_grad: bool = False, *, dtype: Any = None, name: str = ""):
        if isinstance(data, Tensor):
            data = data.data
        self.data = np.array(data, dtype=dtype)
        if self.data.dtype.kind not in "fiub":
            raise TypeError(
                f"Tensor: expected real numbers, got dtype {self.data.dtype}: convert with numpy.asarray(..., float)"
            )
        self.grad = self.op = None
        self.inputs = self.edges = self.record = ()
        self.name = name
        self.order = next(_counter)
        self.requires_grad = requires_grad

    @property
    def requires_grad(self) -> bool:
        """Whether `backward` sets ``.grad`` of this leaf, or passes through this result of an operation."""
        return self._requires

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        if wanted and self.data.dtype.kind != "f":
            raise TypeError(
                f"Tensor: a gradient needs floating-point numbers, got dtype {self.data.dtype}: "
                f"write Tensor(x, requires_grad=True, dtype=float)"
            )
        self._requires = bool(wanted)

    def __setstate__(self, state: tuple[None, dict[str, Any]]) -> None:
        """Restore a tensor that was pickled; it is newer than its inputs here, as it was there."""
        for slot, value in state[1].items():
            setattr(self, slot, value)
        self.order = next(_counter)

    # What it is

    shape = property(lambda self: self.data.shape, doc="The shape of ``data``.")
    ndim = property(lambda self: self.data.ndim, doc="The number of axes.")
    size = property(lambda self: self.data.size, doc="The number of entries.")
    dtype = property(lambda self: self.data.dtype, doc="The dtype of ``data``.")

    @property
    def parents(self) -> tuple[Tensor, ...]:
        """The tensors that this one was made from, constants left out."""
        return tuple(x for x in self.inputs if isinstance(x, Tensor))

    def __repr__(self) -> str:
        made = f", op={self.op!r}" if self.op is not None else ", requires_grad=True" if self.requires_grad else ""
        name = f", name={self.name!r}" if self.name else ""
        return f"Tensor({np.array2string(self.data, precision=4, prefix='Tensor(')}{made}{name})"

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[n] for n in range(len(self)))

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        number: Any = self.item()
        return operator.index(number)  # refuses what is not whole

    def __bool__(self) -> bool:
        return bool(self.item())

    def item(self) -> float:
        """The one number in it; ValueError if there are more."""
        if self.data.size != 1:
            raise ValueError(f"Tensor: expected one number, got shape {self.shape}: reduce it, or use .data")
        return self.data.item()  # type: ignore[no-any-return]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self._requires:
            raise TypeError(
                "Tensor: NumPy would lose the gradient of a tensor that requires one: use minigrad's function of that "
                "name, or x.data for the numbers alone"
            )
        return np.array(self.data, dtype=dtype)

    def __array_function__(self, numpy_function: Any, types: Any, arguments: Any, keywords: Any) -> Any:
        """NumPy's functions see the numbers alone, and are refused, by `__array__`, where a gradient would be lost."""
        if numpy_function in (np.shape, np.ndim, np.size):
            return numpy_function(arguments[0].data)

        def plain(x: Any) -> Any:
            if isinstance(x, (list, tuple)):
                return type(x)(map(plain, x))
            return np.asarray(x) if isinstance(x, Tensor) else x

        return numpy_function(*map(plain, arguments), **{name: plain(value) for name, value in keywords.items()})

    def __format__(self, form: str) -> str:
        return format(self.item(), form) if form else str(self)

    def detach(self) -> Tensor:
        """The same numbers as a leaf that no gradient passes."""
        return Tensor(self.data, name=self.name)

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> Any:
        return self.data == _array(other)

    def __ne__(self, other: object) -> Any:
        return self.data != _array(other)

    def __lt__(self, other: Any) -> Any:
        return self.data < _array(other)

    def __le__(self, other: Any) -> Any:
        return self.data <= _array(other)

    def __gt__(self, other: Any) -> Any:
        return self.data > _array(other)

    def __ge__(self, other: Any) -> Any:
        return self.data >= _array(other)

    # Back-propagation

    def ancestors(self) -> list[Tensor]:
        """This tensor and all that its gradient reaches, newest first: no recursion, linear in the graph."""
        seen = {self}
        nodes = [self]
        for node in nodes:  # the list grows while it is read
            for parent in node.edges:
                if parent is not None and parent not in seen:
                    seen.add(parent)
                    nodes.append(parent)
        nodes.sort(key=_order)
        return nodes

    def backward(
        self, gradient: Any = None, *, method: str = "vjp", accumulate: bool = False, retain_graph: bool = True
    ) -> None:
        """Set ``.grad`` of every leaf that requires it to the row g J, in the shape of the leaf.

        Parameters
        ----------
        gradient : array of this tensor's shape, optional
            The row g to begin with; 1 for a scalar, required otherwise.
        method : "vjp" or "jacobian"
            "vjp" uses each operation's vector-Jacobian product. "jacobian" forms each operation's explicit matrix
            and multiplies, as equations (2)-(5) of Tomasi (2019) say: the same numbers, slowly.
        accumulate : bool
            Add to ``.grad`` instead of setting it.
        retain_graph : bool
            Keep what was recorded, to look at it or to call this again. Training has no use for it: with False each
            result is let go as soon as its gradient has passed, and the arrays of a deep network never stand beside
            all of its gradients.

        Raises
        ------
        ValueError
            If nothing here requires a gradient, if a non-scalar comes without ``gradient``, if its shape differs, or
            if the graph was not retained.
        """
        pull = _PULLS.get(method)
        if pull is None:
            raise ValueError(f"backward: method={method!r}: choose 'vjp' or 'jacobian'")
        seed = self._seed(gradient)
        rows: dict[Tensor, Any] = {self: seed}
        waiting = [(self.order, self)] if self.op is not None else []  # a heap: the newest result comes first
        while waiting:
            node = heappop(waiting)[1]
            g = rows.pop(node)
            if g.dtype is not node.data.dtype:  # a wider one has joined after it
                g = g.astype(node.data.dtype)
            edges = node.edges
            if not edges:
                raise ValueError(
                    f"backward: {node.op!r} has let go of its inputs in an earlier backward(retain_graph=False): "
                    f"compute it anew, or retain the graph that time"
                )
            pulled = pull(node, g)
            if not retain_graph:
                node.inputs = node.edges = node.record = ()
            if len(pulled) != len(edges):
                raise ValueError(
                    f"backward: {node.op!r} gave {len(pulled)} gradients for {len(edges)} inputs that vary: "
                    f"its vjp is wrong; minigrad verify names it"
                )
            for parent, row in zip(edges, pulled):  # noqa: B905  # strict is slow
                if parent is None or row is None:
                    continue
                if parent in rows:
                    rows[parent] = rows[parent] + row
                else:
                    rows[parent] = row
                    if parent.op is not None:
                        heappush(waiting, (parent.order, parent))
                    elif not accumulate:
                        parent.grad = None  # of the last step: its memory serves what comes next
        _hand_over(rows, seed, accumulate)

    def _seed(self, gradient: Any) -> np.ndarray:
        if not self._requires:
            raise ValueError(
                "backward: no tensor that led here requires a gradient: make a leaf with requires_grad=True, "
                "and compute outside no_grad()"
            )
        if gradient is None:
            if self.data.size != 1:
                raise ValueError(
                    f"backward: expected a scalar, got shape {self.shape}: reduce it with .sum() or .mean(), "
                    f"or pass gradient= of that shape"
                )
            return np.ones_like(self.data)
        seed: np.ndarray = gradient if type(gradient) is _ndarray else np.asarray(_array(gradient))
        if seed.shape != self.data.shape:
            raise ValueError(f"backward: gradient has shape {seed.shape}, the tensor {self.shape}: make them equal")
        return seed

    # Arithmetic, and the rest of the operations, found by name in the registry

    __add__, __radd__ = _binary(Add())
    __sub__, __rsub__ = _binary(Subtract())
    __mul__, __rmul__ = _binary(Multiply())
    __truediv__, __rtruediv__ = _binary(Divide())
    __pow__, __rpow__ = _binary(Power())

    def __neg__(self) -> Tensor:
        return apply(_negative, self)

    def __abs__(self) -> Tensor:
        return apply(_abs, self)

    def __matmul__(self, other: Any) -> Tensor:
        return function_named("matmul")(self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return function_named("matmul")(other, self)

    def __getitem__(self, key: Any) -> Tensor:
        return function_named("index")(self, key)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """The sum over one, several or all axes."""
        return function_named("sum")(self, axis, keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """The mean over one, several or all axes."""
        return function_named("mean")(self, axis, keepdims)

    def var(self, axis: Any = None, keepdims: bool = False, ddof: int = 0) -> Tensor:
        """The variance over one, several or all axes; the divisor is the count less ``ddof``."""
        return function_named("var")(self, axis, keepdims, ddof)

    def max(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """The largest entry; of equal ones the first takes the gradient."""
        return function_named("max")(self, axis, keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """The smallest entry; of equal ones the first takes the gradient."""
        return function_named("min")(self, axis, keepdims)

    def reshape(self, *shape: Any) -> Tensor:
        """The same entries in C order in another shape; one size may be -1."""
        return function_named("reshape")(self, shape[0] if len(shape) == 1 else shape)

    def flatten(self) -> Tensor:
        """All entries in C order, in one axis."""
        return self.reshape(-1)

    def transpose(self, *axes: Any) -> Tensor:
        """The axes in another order; reversed if none is given."""
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None
        return function_named("transpose")(self, order)

    T = property(transpose, doc="The axes reversed.")

    # What a tape cannot do

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        raise TypeError(
            "Tensor: x[...] = value would change numbers that the tape has recorded: write "
            "mg.where(mask, value, x), or assign to x.data before the tensor is used"
        )

    def _no_in_place(self, other: Any) -> NoReturn:
        raise TypeError(
            "Tensor: in-place arithmetic such as x += y would change numbers that the tape has recorded: "
            "write x = x + y, or change x.data under no_grad()"
        )

    __iadd__ = __isub__ = __imul__ = __itruediv__ = __ipow__ = __imatmul__ = _no_in_place


def as_tensor(x: Any) -> Tensor:
    """x itself if it is a tensor, else a leaf that holds it."""
    return x if isinstance(x, Tensor) else Tensor(x)


def as_array(x: Any) -> np.ndarray:
    """The numbers of a tensor, or anything that NumPy makes an array of; for what no gradient passes."""
    return x.data if isinstance(x, Tensor) else np.asarray(x)


def _hand_over(rows: dict[Tensor, Any], seed: Any, accumulate: bool) -> None:
    """Set or add the gradients of the leaves; each shares its memory with nothing else."""
    owner: dict[int, Tensor] = {}
    for leaf, g in rows.items():
        data = leaf.data
        if type(g) is not _ndarray or g.dtype is not data.dtype:
            g = np.asarray(g, dtype=data.dtype)
        if g.shape != data.shape:
            raise ValueError(
                f"backward: a gradient of shape {g.shape} came for a leaf {leaf.name} of shape {leaf.shape}: "
                f"the vjp of an operation that uses it is wrong; minigrad verify names it"
            )
        if accumulate and leaf.grad is not None:
            g = leaf.grad + g
        elif g is seed or g.base is not None or owner.setdefault(id(g), leaf) is not leaf:
            g = g.copy()
        leaf.grad = g


def _array(x: Any) -> Any:
    return x.data if isinstance(x, Tensor) else x


def apply(operation: Operation, *inputs: Any) -> Tensor:
    """Run an operation on tensors, arrays and numbers, and record it if some input requires a gradient.

    This is what calling an operation does: ``Softmax()(z)``. Elementwise operations first bring their inputs to one
    shape by ``broadcast_to``, an operation of its own; constants are left to NumPy.
    """
    arrays: list[Any] = []
    asking = 0
    for x in inputs:
        if isinstance(x, Tensor):
            arrays.append(x.data)
            if x._requires:
                asking += 1
        else:
            arrays.append(x if x is None or isinstance(x, (float, int, np.ndarray)) else np.asarray(x))
    try:
        if len(arrays) == 2:  # a starred call takes longer
            x, y = arrays
            result = operation.forward(x, y)
        else:
            result = operation.forward(*arrays)
    except (ValueError, IndexError, TypeError) as error:
        raise _explained(operation, arrays, error) from None
    if operation.saved:
        arrays += result
        result = result[0]
    else:
        arrays.append(result)
    if not (asking and _recording.get()):
        return _tensor(result, None, (), (), ())
    edges: Sequence[Any] = inputs
    if asking < len(inputs):
        edges = [x if isinstance(x, Tensor) and x._requires else None for x in inputs]
    if operation.broadcasts:
        shape = result.shape
        for edge in edges:
            if edge is not None and edge.data.shape != shape:
                return apply(operation, *_to_one_shape(inputs, shape))
    if operation.constants:
        edges = _varying(operation, edges)
    return _tensor(result, operation, inputs, edges, arrays)


def _varying(operation: Operation, edges: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The edges of the inputs that vary; a constant that requires a gradient is refused: it would get none."""
    varies = operation.varies(len(edges))
    for position, edge in enumerate(edges):
        if edge is not None and not varies[position]:
            name = operation.inputs[position]
            operation.refuse(f"{name} requires a gradient, and is a constant here", f"pass {name}.detach()")
    return list(itertools.compress(edges, varies))


def _tensor(data: Any, op: Operation | None, inputs: Sequence[Any], edges: Sequence[Any], record: Any) -> Tensor:
    """A tensor made by an operation; by none, if nothing is recorded."""
    tensor: Tensor = _new(Tensor)
    tensor.data = data if type(data) is _ndarray else np.asarray(data)
    tensor.grad = None
    tensor._requires = op is not None
    tensor.op = op
    tensor.inputs = inputs
    tensor.edges = edges
    tensor.record = record
    tensor.order = next(_counter)
    tensor.name = ""
    return tensor


Operation.__call__ = apply  # type: ignore[assignment, method-assign]  # calling an operation puts it on the tape


def _to_one_shape(inputs: Sequence[Any], shape: tuple[int, ...]) -> list[Any]:
    """The inputs, those that require a gradient brought to one shape by an operation that is recorded."""
    broadcast = function_named("broadcast_to")
    return [
        broadcast(x, shape) if isinstance(x, Tensor) and x._requires and x.shape != shape else x for x in inputs
    ]


def _explained(operation: Operation, arrays: Iterable[Any], error: Exception) -> Exception:
    """The operation's own words for shapes that do not fit, if that is what went wrong."""
    try:
        operation.check(*arrays)
    except (ValueError, IndexError, TypeError) as better:
        return better
    return error


def _pull_vjp(node: Tensor, g: Any) -> tuple[Any, ...]:
    """g J for each input that varies, by the operation's vector-Jacobian product."""
    operation: Any = node.op
    record = node.record
    if operation.selective:
        rows = operation.vjp(g, *record, wanted=[edge is not None for edge in node.edges])
    elif len(record) == 3:
        x, y, z = record
        rows = operation.vjp(g, x, y, z)
    else:
        rows = operation.vjp(g, *record)
    return rows if type(rows) is tuple else (rows,)


def _pull_jacobian(node: Tensor, g: Any) -> tuple[Any, ...]:
    """The same by the explicit matrices: dl/dx = (dl/dy) (dy/dx)."""
    return tuple(
        None if J is None or edge is None else (np.ravel(g) @ J).reshape(edge.shape)
        for edge, J in zip(node.edges, matrices(node), strict=True)
    )


def matrices(node: Tensor) -> list[Any]:
    """The explicit Jacobian of the whole batch for each input of one recorded tensor that varies, None elsewhere."""
    from .jacobian import lift

    assert node.op is not None
    count = len(node.inputs)
    varies = node.op.varies(count)
    edges = iter(node.edges)
    wanted = [varying and next(edges) is not None for varying in varies]
    lifted = lift(node.op, node.record[:count], node.data, wanted)
    return list(itertools.compress(lifted, varies))


_PULLS = {"vjp": _pull_vjp, "jacobian": _pull_jacobian}


# Functions on tensors, one for each operation


def function(cls: type[Operation]) -> Callable[..., Tensor]:
    """The function of an operation: first its inputs, then its hyper-parameters, with their defaults.

    ``function(Conv2d)`` is ``conv2d(x, weight, bias=None, stride=1, padding=0, dilation=1)``. An operation that is
    called in another way says so in a classmethod ``call``.
    """
    hyper = cls.hyperparameters()
    inputs = [
        inspect.Parameter(
            variable.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=None if variable.optional else inspect.Parameter.empty,
        )
        for variable in cls.parsed.inputs
    ]
    call: Any = getattr(cls, "call", None)
    signature = inspect.Signature([*inputs, *hyper.values()]) if call is None else inspect.signature(call)
    count = len(inputs)
    plain = cls() if all(p.default is not inspect.Parameter.empty for p in hyper.values()) else None

    def run(*arguments: Any, **keywords: Any) -> Any:
        if plain is not None and not keywords and len(arguments) == count:
            return plain(*arguments)
        if len(arguments) >= count:
            try:
                operation = cls(*arguments[count:], **keywords)
            except TypeError:  # said below, with the signature
                pass
            else:
                return operation(*arguments[:count])
        try:
            bound = signature.bind(*arguments, **keywords)
        except TypeError as error:
            raise TypeError(f"{cls.name}: {error}: it is {cls.name}{signature}") from None
        bound.apply_defaults()
        values = tuple(bound.arguments.values())
        return cls(*values[count:])(*values[:count])

    named: Any = run if call is None else lambda *arguments, **keywords: call(*arguments, **keywords)
    named.__name__ = named.__qualname__ = cls.name
    named.__signature__ = signature
    named.__doc__ = f"{inspect.getdoc(cls)}\n\n{cls.signature}. {cls.source}."
    result: Callable[..., Tensor] = named
    return result


_functions: dict[type[Operation], Callable[..., Tensor]] = {}


def function_named(name: str) -> Callable[..., Tensor]:
    """The function of the operation of this name."""
    cls = registry[name]
    if cls not in _functions:
        _functions[cls] = function(cls)
    return _functions[cls]
