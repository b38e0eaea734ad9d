"""The losses that belong to a transfer function: matching loss and Bregman divergence (US 2022/0253713).

What they are made of is in `minigrad.transfer`. Letters: ``n`` sample; ``a_hat`` pre-activations, ``y`` target outputs;
f the transfer function, F its integral, F* the conjugate of F.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np

from ..formula import Formula, sp, total
from ..laws import area_under_f, divergence, duality
from ..operation import Elementwise, Source
from ..transfer import TABLE, ArcTan, LeakyReLU, ReLU, Sigmoid, Softmax, Tanh, TransferFunction
from .base import Loss

__all__ = ["BregmanDivergence", "ConvexIntegral", "MatchingLoss"]

PATENT = "US 2022/0253713"


class ConvexIntegral(Elementwise):
    """y = F(a), entry by entry: the convex integral of a transfer function, whose derivative is f (LP-02).

    That of softmax is `LogSumExp`.
    """

    signature = "a -> y"
    source = Source(f"{PATENT}, table 1", "LP-02", "L-5, L-6")

    def __init__(self, transfer: TransferFunction):
        self.transfer = transfer

    def formula(self, a: Any) -> Formula:
        return Formula(self.transfer.integral_formula(a))

    def forward(self, a: Any) -> Any:
        return self.transfer.integral(a)

    def df(self, a: Any, y: Any) -> Any:
        return self.transfer.value(a)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        for transfer in TABLE:
            if not isinstance(transfer, Softmax):
                yield cls(transfer), np.array([[-2.0, -0.1, 0.3], [1.0, -40.0, 30.0]])

    @classmethod
    def tails(cls) -> Iterator[tuple[Any, ...]]:
        for transfer in TABLE:
            if not isinstance(transfer, Softmax):
                yield cls(transfer), np.array([-30.0, -1e-6, 1e-3, 25.0])


class _Pairs(Loss, abstract=True):
    """A loss of two arrays of one shape (N, ...), summed over the entries of a sample."""

    laws: ClassVar[tuple[Callable[..., float], ...]] = (divergence, area_under_f)

    def __init__(self, transfer: TransferFunction, reduction: str = "mean"):
        super().__init__(reduction)
        self.transfer = transfer
        if not isinstance(transfer, TransferFunction):
            self.refuse(f"transfer={transfer!r}", "give one of mg.transfer, such as transfer.Sigmoid()", TypeError)

    def symbols(self, *sample: Any) -> list[Any]:
        from ..formula import variable

        first, second = (v.name for v in self.parsed.inputs)
        sizes = [str(size) for size in "KLM"[: np.ndim(sample[0])]]
        return [variable(first, sizes), variable(second, sizes)]

    def check(self, *arrays: Any) -> None:
        first, second = map(np.shape, arrays)
        if first != second or not first or 0 in first or (isinstance(self.transfer, Softmax) and len(first) < 2):
            one, other = (v.name for v in self.parsed.inputs)
            self.refuse(f"{one} {first} and {other} {second}", "give both one shape (N, ...) with at least one entry")

    def summed(self, losses: Any) -> Any:
        """The sum over the entries of each sample."""
        return losses.reshape(len(losses), -1).sum(axis=1)

    def entries(self, array: Any) -> tuple[Any, list[tuple[Any, Any]]]:
        """One entry of a symbol, and the letters to sum over with their sizes."""
        if not isinstance(array, sp.IndexedBase):
            return array, []
        letters = tuple(sp.Symbol(f"k{axis}", integer=True) for axis in range(len(array.shape)))
        return array[letters], list(zip(letters, array.shape, strict=True))

    @staticmethod
    def spread(g: Any, array: Any) -> Any:
        """One number a sample, in the shape of the array."""
        return np.reshape(g, (-1,) + (1,) * (array.ndim - 1))


class MatchingLoss(_Pairs):
    """loss = F(a_hat) - y a_hat + F*(y), summed over the entries: how far f(a_hat) is from a target output y.

    It is the matching loss F(a_hat) - F(a) - f(a) (a_hat - a) with y = f(a), in the form of Fenchel and Young, which
    needs no inverse of f (L-9). Its gradient is f(a_hat) - y, and it is convex in a_hat. For a target outside the range
    of f it is infinite; ``constant=False`` leaves F*(y) out, and the loss is finite, with the same gradient (L-8).
    """

    signature = "a_hat[N,*], y[N,*] -> loss[N]"
    source = Source(PATENT, "LP-12", "L-8, L-9")
    constants = ("y",)

    def __init__(self, transfer: TransferFunction, constant: bool = True, reduction: str = "mean"):
        super().__init__(transfer, reduction)
        self.constant = constant

    def formula(self, a_hat: Any, y: Any) -> Formula:
        if isinstance(self.transfer, Softmax):
            k = sp.Symbol("k0", integer=True)
            linear = total(y[k] * a_hat[k], (k, a_hat.shape[0]))
            dual = self.transfer.dual_formula(y) if self.constant else 0
            return Formula(self.transfer.integral_formula(a_hat) - linear + dual)
        (a, ranges), (target, _) = self.entries(a_hat), self.entries(y)
        dual = self.transfer.dual_formula(target) if self.constant else 0
        return Formula(total(self.transfer.integral_formula(a) - target * a + dual, *ranges))

    def forward(self, a_hat: Any, y: Any) -> Any:
        self.check(a_hat, y)
        return self.check_finite(self.summed(self.transfer.fenchel_young(a_hat, y, self.constant)), a_hat)

    def jacobian(self, a_hat: Any, y: Any) -> Any:
        return np.reshape(self.transfer.residual(a_hat, y), (1, -1))

    def vjp(self, g: Any, a_hat: Any, y: Any, loss: Any) -> Any:
        return self.spread(g, a_hat) * self.transfer.residual(a_hat, y)

    def printed(self, a_hat: Any, y: Any) -> tuple[Formula]:
        """f(a_hat) - y."""
        if isinstance(self.transfer, Softmax):
            from ..formula import indices

            i = indices("i")
            return (Formula(self.transfer.formula(a_hat) - y[i], i),)
        (a, ranges), (target, _) = self.entries(a_hat), self.entries(y)
        return (Formula(self.transfer.formula(a) - target, *(letter for letter, _ in ranges)),)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        for transfer in (Sigmoid(), *TABLE):  # the first stands for all in tables
            a = np.array([[-2.0, 0.4, 3.0], [1.5, -0.3, -7.0]])
            yield cls(transfer), a[::-1] + 0.25, transfer.value(a)
        yield cls(Sigmoid(), constant=False), np.array([0.3, -2.0]), np.array([1.3, -0.1])
        yield cls(Tanh()), rng.normal(size=(2, 1, 3)), np.tanh(rng.normal(size=(2, 1, 3)))

    @classmethod
    def tails(cls) -> Iterator[tuple[Any, ...]]:
        yield cls(Sigmoid(), constant=False), np.array([[40.0], [-30.0]]), np.array([[1.0], [0.0]])
        yield cls(ReLU()), np.array([[-1e-9, 1e-9], [0.0, -1000.0]]), np.array([[0.0, 0.0], [1e-3, 0.5]])

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        yield lambda: cls(Sigmoid())(np.ones((2, 3)), np.ones((2, 4))), "(2, 4)"
        yield lambda: cls(Softmax())(np.ones(3), np.ones(3)), "(3,)"
        yield lambda: cls("sigmoid"), "'sigmoid'"  # type: ignore[arg-type]
        yield lambda: cls(Sigmoid(), reduction="median"), "median"


class BregmanDivergence(_Pairs):
    """loss = F(u) - F(v) - f(v) (u - v), summed over the entries: the matching loss of pre-activations u and v.

    The gradients are f(u) - f(v) and -(u - v) J_f(v) (LP-12, LP-13); convex in u, in general not in v (L-11).
    """

    signature = "u[N,*], v[N,*] -> loss[N]"
    source = Source(PATENT, "LP-13", "L-10, L-11")
    laws = (divergence, area_under_f, duality)

    def formula(self, u: Any, v: Any) -> Formula:
        F, f = self.transfer.integral_formula, self.transfer.formula
        if isinstance(self.transfer, Softmax):
            i, (K,) = sp.Symbol("i", integer=True), u.shape
            return Formula(F(u) - F(v) - total(f(v) * (u[i] - v[i]), (i, K)))
        (a_hat, ranges), (a, _) = self.entries(u), self.entries(v)
        return Formula(total(F(a_hat) - F(a) - f(a) * (a_hat - a), *ranges))

    def forward(self, u: Any, v: Any) -> Any:
        self.check(u, v)
        return self.check_finite(self.summed(self.transfer.bregman(u, v)), u)

    def jacobian(self, u: Any, v: Any) -> Any:
        f = self.transfer
        return np.reshape(f.value(u) - f.value(v), (1, -1)), np.reshape(-f.vjp(u - v, v), (1, -1))

    def vjp(self, g: Any, u: Any, v: Any, loss: Any) -> Any:
        f = self.transfer
        return self.spread(g, u) * (f.value(u) - f.value(v)), self.spread(-g, v) * f.vjp(u - v, v)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        for transfer in (Sigmoid(), *TABLE[1:]):  # that of the step does not change with v: differences are rounding
            u = np.array([[-2.0, 0.4, 3.0], [1.5, -0.3, -7.0]])
            yield cls(transfer), u, u[::-1] + 0.25
        yield cls(ArcTan()), rng.normal(size=2), rng.normal(size=2)

    @classmethod
    def kinks(cls, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        yield cls(LeakyReLU(0.25)), np.array([[0.0, 1.0]]), np.array([[-1.0, 0.0]])

    @classmethod
    def errors(cls) -> Iterator[tuple[Callable[[], Any], str]]:
        yield lambda: cls(Sigmoid())(np.ones((2, 3)), np.ones((2, 4))), "(2, 4)"
        yield lambda: cls(Sigmoid())(np.ones((0, 3)), np.ones((0, 3))), "(0, 3)"
