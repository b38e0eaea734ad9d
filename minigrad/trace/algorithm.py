"""Back-propagation as Algorithm 1 of Tomasi (2019) states it, line by line beside its numbers.

One sample at a time, with the explicit Jacobian matrices of whole layers. The printed algorithm never computes the
gradient of the first layer's parameters; the line that does it is added here, and marked (T-2).

Letters: ``n`` sample, N of them; ``k`` layer, K of them; ``x(k)`` the output of layer k, ``w(k)`` all its parameters in
one vector, in the order of `Module.named_parameters`, each flattened in C order; ``g = dl/dx(k)`` a row.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from ..jacobian import jacobian
from ..tensor import Tensor, as_array, no_grad
from .nodes import shape_text

if TYPE_CHECKING:
    from ..nn import Module, Parameter, Sequential
    from .page import Frame

__all__ = ["CODE", "Algorithm1", "Line", "algorithm1"]

CODE = (
    "grad = 0",
    "for n = 1, ..., N:",
    "    x(0) = n-th sample",
    "    for k = 1, ..., K:",
    "        x(k) = f(k)(x(k-1), w(k))",
    "    grad_n = []",
    "    g = ∂ℓ(y_n, x(K)) / ∂x(K)",
    "    for k = K, ..., 2:",
    "        grad_n = [g · ∂x(k)/∂w(k), grad_n]",
    "        g = g · ∂x(k)/∂x(k-1)",
    "    grad_n = [g · ∂x(1)/∂w(1), grad_n]    # not in print (T-2)",
    "    grad = ((n-1) · grad + grad_n) / n",
    "return grad",
)
"""The program. Lines are counted from 1."""


@dataclass(frozen=True, eq=False)
class Line:
    """One executed line: its number in `CODE`, the sample n and the layer k, and the arrays that it is about, by name.

    ``changed`` names the one that the line sets.
    """

    line: int
    n: int
    k: int
    changed: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    remark: str = ""

    @property
    def code(self) -> str:
        return CODE[self.line - 1].strip()

    @property
    def title(self) -> str:
        """Where it stands: "line 9: sample 1, layer 2"."""
        where = [f"sample {self.n}"] * bool(self.n) + [f"layer {self.k}"] * bool(self.k)
        return f"line {self.line}{': ' if where else ''}{', '.join(where)}"

    def __str__(self) -> str:
        from .text import WIDTH, array_text

        lines = [f"── {self.title} ".ljust(WIDTH, "─"), f"  {self.code}"]
        if self.remark:
            lines.append(f"  ({self.remark})")
        for name, value in self.values.items():
            mark = " (set here)" if name == self.changed else ""
            lines += [f"  {name} ({shape_text(np.shape(value))}){mark}", array_text(value)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return _frame(self).alone()


class Algorithm1(Sequence[Line]):
    """The lines as they were executed. ``print`` writes them all, a notebook shows a player with the code beside.

    Attributes
    ----------
    layers : list of list of Module
        The K layers f(k): each begins with a module that has parameters.
    gradient : numpy.ndarray
        What the algorithm returns: the mean of the samples' gradients, for all parameters in one row.
    gradients : dict
        The same by the name of the parameter, in its shape.
    """

    def __init__(self, model: Sequential, x: Any, y: Any, loss: Callable[..., Tensor]):
        self.layers = _layers(model)
        _refuse_batch_layers(model)
        samples, labels = as_array(x), as_array(y)
        if samples.ndim < 2 or len(samples) != len(labels) or not len(samples):
            raise ValueError(
                f"algorithm1: samples of shape {samples.shape} and labels {labels.shape}: give one row a sample, and "
                f"as many labels"
            )
        self.parameters = [[p for module in layer for p in module.parameters()] for layer in self.layers]
        names = {id(p): name for name, p in model.named_parameters()}
        if sum(map(len, self.parameters)) != len(names):
            raise ValueError(
                "algorithm1: two layers share a parameter, and Algorithm 1 takes the parameters of a layer to reach "
                "the loss through its output alone: use trace.step, or backward"
            )
        self.lines: tuple[Line, ...] = tuple(self._run(samples, labels, loss))
        self.gradient: np.ndarray = self.lines[-1].values["grad"]
        self.gradients: dict[str, np.ndarray] = {}
        start = 0
        for p in [p for layer in self.parameters for p in layer]:
            self.gradients[names[id(p)]] = self.gradient[start : start + p.size].reshape(p.shape)
            start += p.size

    def _run(self, samples: np.ndarray, labels: np.ndarray, loss: Callable[..., Tensor]) -> Iterator[Line]:
        K = len(self.layers)
        grad: np.ndarray = np.zeros(sum(p.size for layer in self.parameters for p in layer))
        yield Line(1, 0, 0, "grad", {"grad": grad})
        for n in range(1, len(samples) + 1):
            label = labels[n - 1 : n]
            yield Line(2, n, 0)
            x = [samples[n - 1 : n]]
            yield Line(3, n, 0, "x(0)", {"x(0)": x[0][0]})
            for k in range(1, K + 1):
                yield Line(4, n, k)
                with no_grad():
                    x.append(self.output(k, x[k - 1]).data)
                shown = {f"x({k - 1})": x[k - 1][0], f"w({k})": self.weights(k), f"x({k})": x[k][0]}
                yield Line(5, n, k, f"x({k})", shown, " → ".join(type(m).__name__ for m in self.layers[k - 1]))
            grad_n: np.ndarray = np.zeros(0)
            yield Line(6, n, 0, "grad_n", {"grad_n": grad_n})
            last = Tensor(x[K], requires_grad=True)
            value = loss(last, label)
            value.backward()
            assert last.grad is not None
            g = last.grad.ravel()
            yield Line(7, n, K, "g", {"y_n": label[0], f"x({K})": x[K][0], "ℓ": value.data, "g": g})
            for k in range(K, 0, -1):
                if k > 1:
                    yield Line(8, n, k)
                J = self.by_weights(k, x[k - 1])
                grad_n = np.concatenate([g @ J, grad_n])
                shown = {"g": g, f"∂x({k})/∂w({k})": J, "grad_n": grad_n}
                remark = "" if k > 1 else "the printed loop ends at k = 2 and leaves the first layer without a gradient"
                yield Line(9 if k > 1 else 11, n, k, "grad_n", shown, remark)
                if k > 1:
                    J = jacobian(lambda a, k=k: self.output(k, a), x[k - 1], method="jacobian")
                    before, g = g, g @ J
                    yield Line(10, n, k, "g", {"g before": before, f"∂x({k})/∂x({k - 1})": J, "g": g})
            grad = ((n - 1) * grad + grad_n) / n
            yield Line(12, n, 0, "grad", {"grad_n": grad_n, "grad": grad})
        yield Line(13, 0, 0, "", {"grad": grad})

    def output(self, k: int, x: Any) -> Any:
        """f(k)(x, w(k)) on a batch of one."""
        for module in self.layers[k - 1]:
            x = module(x)
        return x

    def weights(self, k: int) -> np.ndarray:
        """w(k), a copy."""
        return np.concatenate([p.data.ravel() for p in self.parameters[k - 1]])

    def by_weights(self, k: int, x: np.ndarray) -> np.ndarray:
        """The matrix ∂x(k)/∂w(k): those of its parameters side by side."""
        y = self.output(k, x)
        return np.concatenate([_by_leaf(y, p) for p in self.parameters[k - 1]], axis=1)

    @overload
    def __getitem__(self, key: int) -> Line: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[Line, ...]: ...
    def __getitem__(self, key: int | slice) -> Line | tuple[Line, ...]:
        return self.lines[key]

    def __len__(self) -> int:
        return len(self.lines)

    def __repr__(self) -> str:
        return f"Algorithm1({len(self.layers)} layers, {len(self)} executed lines)"

    def __str__(self) -> str:
        program = "\n".join(f"{number:3}  {line}" for number, line in enumerate(CODE, 1))
        return "\n\n".join([program, *map(str, self.lines)])

    def html(self, start: int = 0, stop: int | None = None) -> str:
        """The player as HTML, of the executed lines from ``start`` to ``stop``, at most 120; loop heads left out."""
        from .page import MOST, frames_page

        telling = [line for line in self.lines[start:stop] if line.values]
        note = f" (the first {MOST} of {len(telling)} lines)" if len(telling) > MOST else ""
        return frames_page(f"Algorithm 1, line by line{note}", [_frame(line) for line in telling[:MOST]])

    def _repr_html_(self) -> str:
        return self.html()


def _by_leaf(y: Any, parameter: Parameter) -> np.ndarray:
    """dy/dw from the explicit matrices of the operations."""
    from ..jacobian import _product

    matrix: np.ndarray = _product(y, parameter).toarray()
    return matrix


def _layers(model: Any) -> list[list[Module]]:
    """The modules of a Sequential as the layers of Tomasi: each begins where parameters come in."""
    from ..nn import Sequential

    if not isinstance(model, Sequential):
        raise TypeError(
            f"algorithm1: expected an nn.Sequential, got {type(model).__name__}: Algorithm 1 knows only layers one "
            f"after the other; trace.step takes any graph"
        )

    def flat(part: Any) -> Iterator[Module]:
        for module in part:
            yield from flat(module) if isinstance(module, Sequential) else [module]

    layers: list[list[Module]] = []
    first: list[Module] = []
    for module in flat(model):
        if module.parameters():
            layers.append([*first, module])
            first = []
        else:
            (layers[-1] if layers else first).append(module)
    if not layers:
        raise ValueError("algorithm1: no module of this network has parameters: there is no gradient to compute")
    return layers


def _refuse_batch_layers(model: Module) -> None:
    """Dropout draws anew for each sample, and batch normalization needs the others: neither fits in training."""
    from ..nn import BatchNorm1d, BatchNorm2d, Dropout

    for module in model.modules():
        if module.training and isinstance(module, (BatchNorm1d, BatchNorm2d, Dropout)):
            raise ValueError(
                f"algorithm1: {module!r} in training does not treat samples one at a time, as Algorithm 1 does: "
                f"call model.eval() first"
            )


def algorithm1(model: Sequential, x: Any, y: Any, loss: Callable[..., Tensor]) -> Algorithm1:
    """Run Algorithm 1 of Tomasi (2019) (TC-11), with the step for k = 1 that it lacks in print (T-2).

    Parameters
    ----------
    model : Sequential
        Layers one after the other; each begins with a module that has parameters, and takes what follows up to the
        next such.
    x : array (N, ...)
        The samples.
    y : array
        Their labels, as ``loss`` takes them.
    loss : callable
        ``loss(outputs, labels)`` for a batch of one, such as ``mg.losses.CrossEntropy()``: then x(K) are the logits.

    Returns
    -------
    Algorithm1
        The executed lines with their numbers. ``.gradients`` equals what backward gives for the mean loss.

    Raises
    ------
    TypeError, ValueError
        For a network that is no chain of layers, that shares parameters, or whose layers mix samples.
    """
    return Algorithm1(model, x, y, loss)


def _frame(line: Line) -> Frame:
    """A line as a frame: the program with the line marked on the left, the values on the right."""
    from .page import Frame, block

    rows = []
    for number, text in enumerate(CODE, 1):
        here = number == line.line
        colour = "background:#FFF0A8;border-left:5px solid #D55E00;font-weight:bold" if here else (
            "border-left:5px solid #ffffff"
        )  # fmt: skip
        rows.append(f'<div style="{colour};padding:1px 6px;white-space:pre">{number:2}  {html.escape(text)}</div>')
    program = (
        '<div style="font-family:monospace;font-size:16px;display:inline-block;vertical-align:top;'
        f'margin:4px 24px 10px 0;border:1px solid #cccccc;padding:4px 0">{"".join(rows)}</div>'
    )
    values = []
    for name, value in line.values.items():
        title = f"<b>{html.escape(name)}</b>" if name == line.changed else html.escape(name)
        arrow = " ←" if name == line.changed else ""
        size = f" <small>{shape_text(np.shape(value))}</small>" if np.size(value) else " is empty"
        values.append(block(f"{title}{arrow}{size}", value) if np.size(value) else f"<div>{title}{size}</div>")
    remark = f'<div style="font-size:16px;color:#333333">{html.escape(line.remark)}</div>' if line.remark else ""
    inner = f'<div style="display:inline-block;vertical-align:top;max-width:100%">{remark}{"<br>".join(values)}</div>'
    badge = "forward" if line.line in (3, 5) else "backward" if line.line in (7, 9, 10, 11) else ""
    return Frame(line.title, program + inner, badge)
