"""Whole layers with the closed-form Jacobians of Tomasi's appendix, to be compared with compositions of operations.

Letters: ``i, q`` unit of the layer, ``j`` input; x~ = [x; 1], so the last column of W is the bias.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import kernels
from ..formula import Formula, indices, largest, sp, total
from ..operation import Elementwise, Operation, Source, registry
from .pooling import MaxPool2d
from .transfer import ReLU

__all__ = ["PointLayer", "ReLUMaxPool2d"]


class PointLayer(Operation):
    """y = f(W x~), x~ = [x; 1]: a fully connected layer of units with one point function.

    ``function`` names it, as in ``PointLayer("tanh")``. Its Jacobians are dy_i/dW_qj = d_iq f'(a_i) x~_j and
    dy_i/dx_j = f'(a_i) W_ij, where j leaves out the bias column (T-17). Softmax is not a point function (T-6).
    """

    signature = "x[...,I], weight[O,J] -> y[...,O]"
    source = Source("Tomasi 2019, appendix", "TC-12", "T-17")

    def __init__(self, function: str = "tanh"):
        self.function = function
        cls = registry.get(function)
        if cls is None or not issubclass(cls, Elementwise) or len(cls.parsed.inputs) != 1:
            self.refuse(f"{function!r} is no point function", "name one of one input, such as 'relu' or 'tanh'")
        self.point: Any = cls()

    def formula(self, x: Any, weight: Any) -> Formula:
        a = sp.Symbol("a", real=True)
        return Formula(self.point.formula(a).expression.subs(a, self.preactivation(x, weight)), indices("i"))

    def preactivation(self, x: Any, weight: Any) -> Any:
        """a_i = sum_k W_ik x~_k in letters."""
        i, k = indices("i k")
        return total(weight[i, k] * x[k], (k, x.shape[0])) + weight[i, x.shape[0]]

    def activation(self, x: Any, weight: Any) -> Any:
        """a = W x~."""
        if weight.shape[1] != np.shape(x)[-1] + 1:
            self.check(x, weight)
        return np.dot(x, weight[:, :-1].T) + weight[:, -1]

    def forward(self, x: Any, weight: Any) -> Any:
        return self.point.forward(self.activation(x, weight))

    def slopes(self, x: Any, weight: Any, y: Any = None) -> Any:
        """f'(a)."""
        a = self.activation(x, weight)
        return self.point.df(a, self.point.forward(a) if y is None else y)

    def jacobian(self, x: Any, weight: Any) -> Any:
        from scipy.sparse import diags_array, kron

        slope = self.slopes(x, weight)
        return slope[:, None] * weight[:, :-1], kron(diags_array(1.0 * slope), np.append(x, 1)[None])

    def printed(self, x: Any, weight: Any) -> tuple[Formula | None, ...]:
        """Both derivatives as the appendix prints them."""
        i, j, q = indices("i j q")
        a = sp.Symbol("a", real=True)
        slope = sp.diff(self.point.formula(a).expression, a).subs(a, self.preactivation(x, weight))
        extended = sp.Piecewise((x[j], j < x.shape[0]), (1, True))
        return Formula(slope * weight[i, j], i, j), Formula(sp.KroneckerDelta(i, q) * slope * extended, i, q, j)

    def vjp(self, g: Any, x: Any, weight: Any, y: Any) -> Any:
        ga = g * self.slopes(x, weight, y)
        rows, inputs = ga.reshape(-1, len(weight)), np.reshape(x, (-1, np.shape(x)[-1]))
        return np.dot(ga, weight[:, :-1]), np.column_stack([rows.T @ inputs, rows.sum(axis=0)])

    def check(self, *arrays: Any) -> None:
        super().check(*arrays)
        x, weight = np.shape(arrays[0]), np.shape(arrays[1])
        if weight[1] != x[-1] + 1:
            self.refuse(f"x {x} with weight {weight}", "weight has one column an input, and one for the bias")

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls("tanh"), rng.normal(size=(2, 4)), rng.normal(size=(3, 5))
        yield cls("relu"), rng.normal(size=(2, 4)), rng.normal(size=(3, 5))

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        yield lambda: cls().forward(np.ones((2, 4)), np.ones((3, 4))), "(3, 4)"
        yield lambda: cls("softmax"), "softmax"


class ReLUMaxPool2d(MaxPool2d):
    """y = the largest max(0, a) of each window, in closed form: h'(a_m) at m = arg max a, else 0.

    The winner is found over a itself, not over max(0, a) (T-11): where a window has no positive entry the latter
    are all 0 and the pick would be arbitrary. So at a kink, a_m = 0 = max(0, a_q) for some a_q < 0 that comes
    first, this closed form gives slope h'(0) to m, while the composition of `ReLU` and `MaxPool2d` finds its winner
    among equal zeros and gives the first of them h'(a_q) = 0.
    """

    name = "relu_max_pool2d"
    signature = "a[N,C,H,W] -> y[N,C,P,Q]"

    def formula(self, a: Any) -> Formula:
        entries, letters = self.window(a)
        return Formula(largest(largest(*entries), 0), *letters)

    def forward(self, a: Any) -> Any:
        a_m, winners = super().forward(a)
        return ReLU().forward(a_m), winners

    def _slope(self, a: Any) -> Any:
        """h' at the winner of each window."""
        a_m, _ = super().forward(a)
        return ReLU().df(a_m, None)

    def jacobian(self, a: Any) -> Any:
        from scipy.sparse import diags_array

        return diags_array(1.0 * self._slope(a[None]).ravel()) @ super().jacobian(a)

    def vjp(self, g: Any, a: Any, y: Any, winners: Any) -> Any:
        return kernels.max_pool2d_input(g * self._slope(a), winners, a.shape, *self.geometry)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        x = rng.normal(size=(2, 3, 5, 4)) - 0.8
        yield cls(3, 2, (1, 0)), x[:, :2]
        yield cls(2), x[:, :1]
