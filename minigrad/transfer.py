"""Transfer functions with their convex integrals, conjugates, inverses and matching losses (US 2022/0253713, table 1).

A transfer function f that never falls is the derivative of a convex function F, its integral; F* is the conjugate of F,
and f^-1 the derivative of F*. From F comes a loss that suits f, convex in a^ (LP-12):

    M(a^, a) = F(a^) - F(a) - f(a) (a^ - a) = the integral of f(t) - f(a) from a to a^ >= 0.

It is the Bregman divergence D_F(a^, a), and that of F* with its arguments changed over (LP-13). Given the target output
y = f(a) instead of a, it is F(a^) - y a^ + F*(y), which needs no inverse of f (L-9).

Arrays in, arrays out, of any shape, in their own precision. Entry by entry, but for softmax, whose vectors lie along
the last axis: there F and M lose that axis. No difference of nearly equal numbers is formed: matching losses are sums
of terms that are not negative, so that they stay accurate for a^ close to a, and wherever f is flat.

Letters: ``a`` pre-activation, ``a_hat`` another one, ``y`` = f(a); d = a_hat - a; K entries of a vector.
"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import numpy as np

from .formula import Formula, indices, sp, total
from .operation import Elementwise, Operation, Source
from .ops import softmax, transfer

__all__ = [
    "ELU", "TABLE", "ArcTan", "LeakyReLU", "Linear", "ReLU", "Sigmoid", "Softmax", "Softplus", "Step", "Tanh",
    "TransferFunction", "define", "of",
]  # fmt: skip


SIMPLEX = 1e-5
"""How far from 1 the sum of probabilities may be: that of many in float32 is off by so much."""

# Differences that would lose their digits --------------------------------------------------------------------


def _series(x: Any, first: int, coefficients: list[float]) -> Any:
    """x^first times a polynomial, the coefficients from the lowest."""
    value = np.zeros_like(x)
    for c in reversed(coefficients):
        value = value * x + c
    return value * x**first


def _log_gap(x: Any) -> Any:
    """x - log(1 + x) >= 0 for x > -1."""
    small = np.where(abs(x) < 0.05, x, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(abs(x) < 0.05, _series(small, 2, [(-1) ** k / k for k in range(2, 15)]), x - np.log1p(x))


def _exp_gap(x: Any) -> Any:
    """e^x - 1 - x >= 0."""
    small = np.where(abs(x) < 0.2, x, 0)
    factorials = np.cumprod(np.arange(1.0, 15.0))[1:]  # 2!, 3!, ...
    with np.errstate(over="ignore"):
        return np.where(abs(x) < 0.2, _series(small, 2, (1 / factorials).tolist()), np.expm1(x) - x)


def _entropy_gap(u: Any) -> Any:
    """(1 + u) log(1 + u) - u >= 0 for u >= -1."""
    far = (1 + u) * np.log1p(np.where(u == -1, 0, u)) - u
    small = np.where(abs(u) < 0.05, u, 0)
    return np.where(abs(u) < 0.05, small * small - (1 + small) * _log_gap(small), far)


def _sine_gap(t: Any) -> Any:
    """t - sin t."""
    small = np.where(abs(t) < 0.3, t, 0)
    series = small * _series(small * small, 1, [1 / 6, -1 / 120, 1 / 5040, -1 / 362880, 1 / 39916800])
    return np.where(abs(t) < 0.3, series, t - np.sin(t))


def _softplus(a: Any) -> Any:
    """log(1 + e^a)."""
    return np.maximum(a, 0) + np.log1p(np.exp(-abs(a)))


def _sigmoid(a: Any) -> Any:
    e = np.exp(-abs(a))
    return np.where(a >= 0, 1, e) / (1 + e)


def _floats(*arrays: Any) -> list[Any]:
    """Arrays of one shape, as float32 if all of them are, else as float64."""
    given = [np.asarray(array) for array in arrays]
    single = all(array.dtype == np.float32 for array in given)
    return list(np.broadcast_arrays(*(array.astype(np.float32 if single else np.float64) for array in given)))


# What a transfer function is ---------------------------------------------------------------------------------


class TransferFunction:
    """A transfer function f with what belongs to it; called on a tensor, it is its ``operation``.

    A subclass has the operation, ``range`` in words, formulas, and F, F*, f^-1 and M. ``derived`` names what the
    source's table leaves out.
    """

    operation: Operation
    name: str
    range: str
    derived: ClassVar[tuple[str, ...]] = ()

    def __call__(self, x: Any) -> Any:
        """f of a tensor, recorded."""
        return self.operation(x)

    def __repr__(self) -> str:
        beta = f"beta={self.beta!r}" if hasattr(self, "beta") else ""
        return f"transfer.{type(self).__name__}({beta})"

    def _refuse(self, problem: str, hint: str) -> Any:
        raise ValueError(f"{self!r}: {problem}: {hint}")

    # Value and derivative

    def value(self, a: Any) -> Any:
        """f(a)."""
        return self.operation.forward(*_floats(a))

    def vjp(self, g: Any, a: Any) -> Any:
        """The row g J_f(a), of the shape of a."""
        g, a = _floats(g, a)
        return self.operation.vjp(g, a, self.operation.forward(a))

    def derivative(self, a: Any) -> Any:
        """f'(a), entry by entry."""
        (a,) = _floats(a)
        slope = self.operation.df(a, self.operation.forward(a))  # type: ignore[attr-defined]
        return np.asarray(slope, dtype=a.dtype)

    def jacobian(self, a: Any) -> Any:
        """The matrix of the last axis, (..., K, K) for a of shape (..., K); (1, 1) for a number."""
        slope = np.atleast_1d(self.derivative(a))
        return slope[..., None] * np.eye(slope.shape[-1], dtype=slope.dtype)

    # F, F* and f^-1

    def integral(self, a: Any) -> Any:
        """F(a), with F' = f."""
        raise NotImplementedError

    def dual_integral(self, y: Any) -> Any:
        """F*(y), the largest y a - F(a) over all a; inf outside the range of f."""
        raise NotImplementedError

    def inverse(self, y: Any) -> Any:
        """The a with f(a) = y; at an open end of the range it is infinite. Raises ValueError where there is none."""
        raise NotImplementedError

    def _inside(self, y: Any, low: float = -np.inf, high: float = np.inf) -> Any:
        """y as an array of floats, once it is in the range."""
        (y,) = _floats(y)
        if not ((low <= y) & (y <= high)).all():
            self._refuse(
                f"the inverse of {y[~((low <= y) & (y <= high))].flat[0]:g}, outside the range {self.range}",
                "give outputs of the function; the matching loss takes any target output, by fenchel_young",
            )
        return y

    # M and its relatives

    def matching_loss(self, a_hat: Any, a: Any) -> Any:
        """M(a_hat, a) = F(a_hat) - F(a) - f(a) (a_hat - a) (LP-12); zero exactly where f(a_hat) = f(a)."""
        raise NotImplementedError

    def fenchel_young(self, a_hat: Any, y: Any, constant: bool = True) -> Any:
        """The matching loss by target output, F(a_hat) - y a_hat + F*(y); inf for a y outside the range.

        With ``constant=False`` F*(y) is left out: finite for every y, with the same gradient f(a_hat) - y (L-8).
        """
        a_hat, y = _floats(a_hat, y)
        if not constant:
            return self._without_constant(a_hat, y)
        finite = np.isfinite(self.dual_integral(y))
        a = self.inverse(np.where(finite, y, self.value(np.zeros_like(y))))
        with np.errstate(invalid="ignore"):
            within = np.where(np.isfinite(a), self.matching_loss(a_hat, np.where(np.isfinite(a), a, 0)), np.nan)
            ends = np.where(np.isfinite(a), within, self._without_constant(a_hat, y) + self.dual_integral(y))
        return np.where(finite, ends, np.inf).astype(y.dtype)

    def _without_constant(self, a_hat: Any, y: Any) -> Any:
        """F(a_hat) - y a_hat, where possible as a sum of terms that are not negative."""
        return self.integral(a_hat) - y * a_hat

    def residual(self, a_hat: Any, y: Any) -> Any:
        """f(a_hat) - y, the gradient of the matching loss, accurate where y is an end of the range."""
        a_hat, y = _floats(a_hat, y)
        return self.value(a_hat) - y

    def bregman(self, u: Any, v: Any) -> Any:
        """D_F(u, v) = F(u) - F(v) - f(v) (u - v): the matching loss."""
        return self.matching_loss(u, v)

    def dual_bregman(self, y: Any, x: Any) -> Any:
        """D_F*(y, x) of outputs y and x; D_F*(f(v), f(u)) = D_F(u, v) (LP-13)."""
        return self.fenchel_young(self.inverse(x), y)

    # Formulas

    def formula(self, a: Any) -> Any:
        """f(a) as a SymPy expression of the symbol a."""
        raise NotImplementedError

    def integral_formula(self, a: Any) -> Any:
        """F(a) likewise."""
        raise NotImplementedError

    def dual_formula(self, y: Any) -> Any:
        """F*(y), for y inside the range."""
        raise NotImplementedError


class Step(TransferFunction):
    """f(a) = 0, 1/2, 1 for a < 0, a = 0, a > 0 (LP-03). No derivative leads back through it (L-15)."""

    name, range = "step", "{0, 1/2, 1}"

    def __init__(self) -> None:
        self.operation = transfer.Step()

    def integral(self, a: Any) -> Any:
        """max(a, 0)."""
        (a,) = _floats(a)
        return np.maximum(a, 0)

    def dual_integral(self, y: Any) -> Any:
        """0 from 0 to 1."""
        (y,) = _floats(y)
        return np.where((y >= 0) & (y <= 1), 0, np.inf).astype(y.dtype)

    def inverse(self, y: Any) -> Any:
        """There is none: all a on one side of 0 have one output."""
        return self._refuse("has no inverse", "give target outputs: the matching loss takes them, by fenchel_young")

    def matching_loss(self, a_hat: Any, a: Any) -> Any:
        """max(-a_hat, 0) for a > 0, max(a_hat, 0) for a < 0, |a_hat|/2 for a = 0."""
        a_hat, a = _floats(a_hat, a)
        return self._without_constant(a_hat, self.value(a))

    def fenchel_young(self, a_hat: Any, y: Any, constant: bool = True) -> Any:
        """max(a_hat, 0) - y a_hat."""
        a_hat, y = _floats(a_hat, y)
        return self._without_constant(a_hat, y) + (self.dual_integral(y) if constant else 0)

    def _without_constant(self, a_hat: Any, y: Any) -> Any:
        return (1 - y) * np.maximum(a_hat, 0) + y * np.maximum(-a_hat, 0)

    def formula(self, a: Any) -> Any:
        return sp.Piecewise((1, a > 0), (0, a < 0), (sp.Rational(1, 2), True))

    def integral_formula(self, a: Any) -> Any:
        return sp.Piecewise((a, a > 0), (0, True))

    def dual_formula(self, y: Any) -> Any:
        return sp.Integer(0)


class Linear(TransferFunction):
    """f(a) = a (LP-04): its matching loss is half the squared error."""

    name, range = "linear", "all numbers"

    def __init__(self) -> None:
        self.operation = transfer.LeakyReLU(1.0)

    def integral(self, a: Any) -> Any:
        """a^2 / 2."""
        (a,) = _floats(a)
        return a * a / 2

    def dual_integral(self, y: Any) -> Any:
        """y^2 / 2."""
        return self.integral(y)

    def inverse(self, y: Any) -> Any:
        """y."""
        return self._inside(y).copy()

    def matching_loss(self, a_hat: Any, a: Any) -> Any:
        """(a_hat - a)^2 / 2."""
        a_hat, a = _floats(a_hat, a)
        return (a_hat - a) ** 2 / 2

    def formula(self, a: Any) -> Any:
        return a

    def integral_formula(self, a: Any) -> Any:
        return a**2 / 2

    def dual_formula(self, y: Any) -> Any:
        return y**2 / 2


class LeakyReLU(TransferFunction):
    """f(a) = a for a >= 0, beta a below (LP-05), beta >= 0; without an inverse if beta = 0."""

    name = "leaky ReLU"

    def __init__(self, beta: float = 0.01) -> None:
        self.operation = transfer.LeakyReLU(beta)
        self.beta = beta
        self.range = "all numbers" if beta else "[0, inf)"

    def integral(self, a: Any) -> Any:
        """a f(a) / 2."""
        (a,) = _floats(a)
        return a * self.value(a) / 2

    def dual_integral(self, y: Any) -> Any:
        """y^2 / 2 for y >= 0, y^2 / (2 beta) below."""
        (y,) = _floats(y)
        below = y * y / (2 * self.beta) if self.beta else np.inf
        return np.where(y >= 0, y * y / 2, below).astype(y.dtype)

    def inverse(self, y: Any) -> Any:
        """y for y >= 0, y / beta below."""
        if not self.beta:
            self._refuse("has no inverse", "give target outputs: the matching loss takes them, by fenchel_young")
        y = self._inside(y)
        return np.where(y >= 0, y, y / self.beta).astype(y.dtype)

    def matching_loss(self, a_hat: Any, a: Any) -> Any:
        """(a_hat - a)^2 / 2 times the slope on one side of 0; across 0, F(a_hat) + F(a) + f(a) |a_hat|."""
        a_hat, a = _floats(a_hat, a)
        same = (a_hat >= 0) == (a >= 0)
        square = np.where(a >= 0, 1, self.beta) * (a_hat - a) ** 2 / 2
        across = self.integral(a_hat) + self.integral(a) + abs(self.value(a) * a_hat)
        return np.where(same, square, across).astype(a.dtype)

    def fenchel_young(self, a_hat: Any, y: Any, constant: bool = True) -> Any:
        """The matching loss by target output; for beta = 0 that needs no inverse, as f^-1(y) = y for y >= 0."""
        if self.beta or not constant:
            return super().fenchel_young(a_hat, y, constant)
        a_hat, y = _floats(a_hat, y)
        return np.where(y >= 0, self.matching_loss(a_hat, np.maximum(y, 0)), np.inf).astype(y.dtype)

    def formula(self, a: Any) -> Any:
        return sp.Piecewise((a, a >= 0), (sp.nsimplify(self.beta) * a, True))

    def integral_formula(self, a: Any) -> Any:
        return a * self.formula(a) / 2

    def dual_formula(self, y: Any) -> Any:
        below = y**2 / (2 * sp.nsimplify(self.beta)) if self.beta else sp.oo
        return sp.Piecewise((y**2 / 2, y >= 0), (below, True))


class ReLU(LeakyReLU):
    """f(a) = max(a, 0) (LP-05 with beta = 0)."""

    name = "ReLU"

    def __init__(self) -> None:
        super().__init__(0.0)
        self.operation = transfer.ReLU()

    def __repr__(self) -> str:
        return "transfer.ReLU()"


class Sigmoid(TransferFunction):
    """f(a) = 1 / (1 + e^-a) (LP-06): its matching loss is the divergence of two Bernoulli distributions.

    F is log(1 + e^a); as the table prints it, a + log(1 + e^-a), it overflows for a < -709 (L-5).
    """

    name, range = "sigmoid", "(0, 1)"

    def __init__(self) -> None:
        self.operation = transfer.Sigmoid()

    def integral(self, a: Any) -> Any:
        """log(1 + e^a)."""
        return _softplus(*_floats(a))

    def dual_integral(self, y: Any) -> Any:
        """y log y + (1 - y) log(1 - y), 0 at both ends."""
        from scipy.special import xlog1py, xlogy

        (y,) = _floats(y)
        inside = (y >= 0) & (y <= 1)
        y = np.where(inside, y, 0)
        return np.where(inside, xlogy(y, y) + xlog1py(1 - y, -y), np.inf).astype(y.dtype)

    def inverse(self, y: Any) -> Any:
        """log y - log(1 - y)."""
        y = self._inside(y, 0, 1)
        with np.errstate(divide="ignore"):
            return np.log(y) - np.log1p(-y)

    def matching_loss(self, a_hat: Any, a: Any) -> Any:
        """KL of (f(a), 1 - f(a)) from (f(a_hat), 1 - f(a_hat)): that of softmax, with logits (a, 0)."""
        a_hat, a = _floats(a_hat, a)
        return _divergence(np.stack([-_softplus(-a), -_softplus(a)], -1), np.stack([a_hat - a, np.zeros_like(a)], -1))

    def residual(self, a_hat: Any, y: Any) -> Any:
        """(1 - y) f(a_hat) - y (1 - f(a_hat))."""
        a_hat, y = _floats(a_hat, y)
        return (1 - y) * _sigmoid(a_hat) - y * _sigmoid(-a_hat)

    def _without_constant(self, a_hat: Any, y: Any) -> Any:
        return (1 - y) * _softplus(a_hat) + y * _softplus(-a_hat)

    def formula(self, a: Any) -> Any:
        return 1 / (1 + sp.exp(-a))

    def integral_formula(self, a: Any) -> Any:
        return sp.log(1 + sp.exp(a))

    def dual_formula(self, y: Any) -> Any:
        return y * sp.log(y) + (1 - y) * sp.log(1 - y)


class Softmax(TransferFunction):
    """f(a)_i = e^(a_i) / sum_k e^(a_k), of vectors along the last axis (LP-07); F = log sum_k e^(a_k).

    It is not entry by entry as the table's heading has it, F is not strictly convex, and the inverse is one of many
    that differ by a constant: log y, whose F is 0 (L-7).
    """

    name, range = "softmax", "the simplex"

    def __init__(self) -> None:
        self.operation = softmax.Softmax()

    def derivative(self, a: Any) -> Any:
        """There is none entry by entry."""
        return self._refuse("is not entry by entry", "use jacobian(a), or vjp(g, a)")

    def jacobian(self, a: Any) -> Any:
        """diag(p) - p p^T, (..., K, K)."""
        p = self.value(np.atleast_1d(a))
        J = -p[..., :, None] * p[..., None, :]
        k = np.arange(p.shape[-1])
        J[..., k, k] = 0
        J[..., k, k] = -J.sum(axis=-1)  # p (1 - p), without the subtraction
        return J

    def integral(self, a: Any) -> Any:
        """log sum_k e^(a_k)."""
        return softmax.LogSumExp().forward(*_floats(a))

    def dual_integral(self, y: Any) -> Any:
        """sum_i y_i log y_i on the simplex."""
        from scipy.special import xlogy

        (y,) = _floats(y)
        inside = (y >= 0).all(axis=-1) & (abs(y.sum(axis=-1) - 1) <= SIMPLEX)
        return np.where(inside, xlogy(np.maximum(y, 0), np.maximum(y, 0)).sum(axis=-1), np.inf).astype(y.dtype)

    def inverse(self, y: Any) -> Any:
        """log y."""
        (y,) = _floats(y)
        if not np.isfinite(self.dual_integral(y)).all():
            self._refuse("the inverse of a vector outside the simplex", "give entries >= 0 whose sum is 1")
        with np.errstate(divide="ignore"):
            return np.log(y)

    def matching_loss(self, a_hat: Any, a: Any) -> Any:
        """KL of f(a) from f(a_hat); 0 for vectors that differ by a constant."""
        a_hat, a = _floats(a_hat, a)
        return _divergence(_log_softmax(a), a_hat - a)

    def fenchel_young(self, a_hat: Any, y: Any, constant: bool = True) -> Any:
        """sum_i y_i log(y_i / f(a_hat)_i); without the constant, the cross-entropy -sum_i y_i log f(a_hat)_i."""
        a_hat, y = _floats(a_hat, y)
        if not constant:
            return self._without_constant(a_hat, y)
        finite = np.isfinite(self.dual_integral(y))
        y = np.where(finite[..., None], y, 1)
        seen = y > 0
        log_y = np.log(np.where(seen, y, 1) / y.sum(axis=-1, keepdims=True))
        inside = _divergence(np.where(seen, log_y, -np.inf), np.where(seen, a_hat - log_y, 0))
        masses = [self.integral(np.where(mask, a_hat, -np.inf)) for mask in (~seen, seen)]
        return np.where(finite, inside + _softplus(masses[0] - masses[1]), np.inf).astype(y.dtype)

    def _without_constant(self, a_hat: Any, y: Any) -> Any:
        rest = 1 - y.sum(axis=-1)
        rest = np.where(abs(rest) > SIMPLEX, rest, 0) * self.integral(a_hat)
        return (rest - (y * _log_softmax(a_hat)).sum(axis=-1)).astype(y.dtype)

    def formula(self, a: Any) -> Any:
        i, k = indices("i k")
        (K,) = a.shape
        return sp.exp(a[i]) / total(sp.exp(a[k]), (k, K))

    def integral_formula(self, a: Any) -> Any:
        k = indices("k")
        (K,) = a.shape
        return sp.log(total(sp.exp(a[k]), (k, K)))

    def dual_formula(self, y: Any) -> Any:
        i = indices("i")
        (K,) = y.shape
        return total(y[i] * sp.log(y[i]), (i, K))


def _log_softmax(a: Any) -> Any:
    """log f(a), accurate where f(a) is close to 1."""
    top = np.expand_dims(a.argmax(axis=-1), -1)
    below = a - np.take_along_axis(a, top, -1)
    e = np.exp(below)
    np.put_along_axis(e, top, 0, -1)
    return below - np.log1p(e.sum(axis=-1, keepdims=True))


def _divergence(log_p: Any, d: Any) -> Any:
    """log sum_i p_i e^(d_i) - sum_i p_i d_i, the divergence of p from the distribution with logits log p + d.

    With D = d less its mean under p it is log(1 + sum_i p_i (e^(D_i) - 1 - D_i)), no term of which is negative.
    """
    p = np.exp(log_p)
    seen = p > 0
    D = d - (p * np.where(seen, d, 0)).sum(axis=-1, keepdims=True)
    exponents = log_p + D
    largest = exponents.max(axis=-1)
    with np.errstate(over="ignore", invalid="ignore"):
        far = np.exp(exponents) - p - np.where(seen, p * D, 0)
        terms = np.where(abs(D) < 0.2, p * _exp_gap(np.where(abs(D) < 0.2, D, 0)), far)
        near = np.log1p(terms.sum(axis=-1))
    large = largest + np.log(np.exp(exponents - largest[..., None]).sum(axis=-1))
    return np.where(largest < 1, near, large)


class Tanh(TransferFunction):
    """f(a) = tanh a = 2 sigmoid(2a) - 1 (LP-08); F = log cosh a."""

    name, range = "tanh", "(-1, 1)"

    def __init__(self) -> None:
        self.operation = transfer.Tanh()

    def integral(self, a: Any) -> Any:
        """log cosh a."""
        (a,) = _floats(a)
        far = abs(a) + np.log1p(np.exp(-2 * abs(a))) - np.log(np.asarray(2, a.dtype))
        return np.where(abs(a) < 1, np.log1p(np.sinh(np.clip(a, -1, 1)) ** 2) / 2, far).astype(a.dtype)

    def dual_integral(self, y: Any) -> Any:
        """((1 + y) log(1 + y) + (1 - y) log(1 - y)) / 2, log 2 at both ends."""
        (y,) = _floats(y)
        inside = abs(y) <= 1
        y = np.where(inside, y, 0)
        return np.where(inside, (_entropy_gap(y) + _entropy_gap(-y)) / 2, np.inf).astype(y.dtype)

    def inverse(self, y: Any) -> Any:
        """artanh y."""
        y = self._inside(y, -1, 1)
        with np.errstate(divide="ignore"):
            return np.arctanh(y)

    def matching_loss(self, a_hat: Any, a: Any) -> Any:
        """That of the sigmoid at 2 a_hat and 2 a."""
        a_hat, a = _floats(a_hat, a)
        return Sigmoid().matching_loss(2 * a_hat, 2 * a)

    def fenchel_young(self, a_hat: Any, y: Any, constant: bool = True) -> Any:
        """That of the sigmoid at 2 a_hat and (1 + y) / 2, at an end."""
        a_hat, y = _floats(a_hat, y)
        if not constant:
            return self._without_constant(a_hat, y)
        ends = (1 + y) / 2 * _softplus(-2 * a_hat) + (1 - y) / 2 * _softplus(2 * a_hat)
        inside = abs(y) < 1
        within = self.matching_loss(a_hat, np.arctanh(np.where(inside, y, 0)))
        return np.where(inside, within, np.where(abs(y) == 1, ends, np.inf)).astype(y.dtype)

    def residual(self, a_hat: Any, y: Any) -> Any:
        """(1 - y) s - (1 + y) (1 - s), s the sigmoid of 2 a_hat."""
        a_hat, y = _floats(a_hat, y)
        return (1 - y) * _sigmoid(2 * a_hat) - (1 + y) * _sigmoid(-2 * a_hat)

    def formula(self, a: Any) -> Any:
        return sp.tanh(a)

    def integral_formula(self, a: Any) -> Any:
        return sp.log(sp.cosh(a))

    def dual_formula(self, y: Any) -> Any:
        return ((1 + y) * sp.log(1 + y) + (1 - y) * sp.log(1 - y)) / 2


class ArcTan(TransferFunction):
    """f(a) = arctan a (LP-09). F, which the table lacks, is a arctan a - log(1 + a^2) / 2 (derived, L-5)."""

    name, range = "arctan", "(-pi/2, pi/2)"
    derived = ("F",)

    def __init__(self) -> None:
        self.operation = transfer.ArcTan()

    def integral(self, a: Any) -> Any:
        """a arctan a - log(1 + a^2) / 2."""
        (a,) = _floats(a)
        return a * np.arctan(a) - np.log1p(a * a) / 2

    def dual_integral(self, y: Any) -> Any:
        """-log cos y; inf at the ends."""
        (y,) = _floats(y)
        inside = abs(y) < np.pi / 2
        y = np.where(inside, y, 0)
        return np.where(inside, -np.log1p(-2 * np.sin(y / 2) ** 2), np.inf).astype(y.dtype)

    def inverse(self, y: Any) -> Any:
        """tan y."""
        return np.tan(self._inside(y, -np.pi / 2, np.pi / 2))

    def matching_loss(self, a_hat: Any, a: Any) -> Any:
        """a_hat t - log(cos t + a_hat sin t), t = arctan a_hat - arctan a, as x - log(1 + x) and what is left."""
        a_hat, a = _floats(a_hat, a)
        t = np.arctan2(a_hat - a, 1 + a * a_hat)
        half = 2 * np.sin(t / 2) ** 2
        x = a_hat * np.sin(t) - half
        direct = a_hat * t - (np.log1p(a_hat * a_hat) - np.log1p(a * a)) / 2
        return np.where(abs(t) < 0.5, _log_gap(x) + a_hat * _sine_gap(t) + half, direct).astype(a.dtype)

    def formula(self, a: Any) -> Any:
        return sp.atan(a)

    def integral_formula(self, a: Any) -> Any:
        return a * sp.atan(a) - sp.log(1 + a**2) / 2

    def dual_formula(self, y: Any) -> Any:
        return -sp.log(sp.cos(y))


class Softplus(TransferFunction):
    """f(a) = log(1 + e^a) (LP-10); F = -Li2(-e^a), the dilogarithm, which is not what SciPy calls spence (L-6)."""

    name, range = "softplus", "(0, inf)"

    def __init__(self) -> None:
        self.operation = transfer.Softplus()

    def integral(self, a: Any) -> Any:
        """-Li2(-e^a): from the left by its series, from the right by -Li2(-e^a) = pi^2/6 + a^2/2 + Li2(-e^-a)."""
        (a,) = _floats(a)
        left = self._left(-abs(a))
        return np.where(a > 0, np.pi**2 / 6 + a * a / 2 - left, left).astype(a.dtype)

    @staticmethod
    def _left(a: Any) -> Any:
        """F for a <= 0. spence(z) is Li2(1 - z); for a far below 0 the sum 1 + e^a would lose digits."""
        from scipy.special import spence

        e = np.exp(a)
        series = _series(np.where(a < -1.2, e, 0), 1, [(-1.0) ** (k + 1) / k**2 for k in range(1, 32)])
        return np.where(a < -1.2, series, -spence(1 + e))

    def dual_integral(self, y: Any) -> Any:
        """y log(e^y - 1) + Li2(1 - e^y), as y a - F(a) with a = f^-1(y)."""
        (y,) = _floats(y)
        a = self.inverse(np.where(y > 0, y, 1))
        inside = np.where(y == 0, 0, np.where(y > 0, y, 1) * a - self.integral(a))
        return np.where(y >= 0, inside, np.inf).astype(y.dtype)

    def inverse(self, y: Any) -> Any:
        """y + log(1 - e^-y)."""
        y = self._inside(y, 0)
        with np.errstate(divide="ignore"):
            return y + np.log(-np.expm1(-y))

    def matching_loss(self, a_hat: Any, a: Any) -> Any:
        """The integral of log(1 + f'(a) (e^u - 1)) over u from 0 to d; for |d| > 1 from F, on its small side.

        As f(a) - f(-a) = a, M(a_hat, a) + M(-a_hat, -a) = d^2 / 2.
        """
        a_hat, a = _floats(a_hat, a)
        d = a_hat - a
        nodes, weights = np.polynomial.legendre.leggauss(16)
        near = np.where(abs(d) <= 1, d, 0)
        u = near[..., None] * ((nodes + 1) / 2)
        close = near / 2 * (np.log1p(_sigmoid(a)[..., None] * np.expm1(u)) * weights).sum(axis=-1)
        side = np.where(a_hat + a > 0, -1, 1)
        v, w = side * a_hat, side * a
        mirrored = self.integral(v) - self.integral(w) - _softplus(w) * (v - w)
        far = np.where(side > 0, mirrored, d * d / 2 - mirrored)
        return np.where(abs(d) <= 1, close, far).astype(a.dtype)

    def formula(self, a: Any) -> Any:
        return sp.log(1 + sp.exp(a))

    def integral_formula(self, a: Any) -> Any:
        return -sp.polylog(2, -sp.exp(a))

    def dual_formula(self, y: Any) -> Any:
        return y * sp.log(sp.exp(y) - 1) + sp.polylog(2, 1 - sp.exp(y))


class ELU(TransferFunction):
    """f(a) = a for a >= 0, beta (e^a - 1) below (LP-11), beta >= 0; the table lacks f and F, derived here (L-5)."""

    name = "ELU"
    derived = ("f", "F")

    def __init__(self, beta: float = 1.0) -> None:
        self.operation = transfer.ELU(beta)
        self.beta = beta
        self.range = f"(-{beta:g}, inf)" if beta else "[0, inf)"

    def integral(self, a: Any) -> Any:
        """a^2 / 2 for a >= 0, beta (e^a - 1 - a) below."""
        (a,) = _floats(a)
        return np.where(a >= 0, a * a / 2, self.beta * _exp_gap(np.minimum(a, 0))).astype(a.dtype)

    def dual_integral(self, y: Any) -> Any:
        """y^2 / 2 for y >= 0, (y + beta) log(1 + y / beta) - y below, beta at the end."""
        (y,) = _floats(y)
        below = self.beta * _entropy_gap(np.clip(y / self.beta, -1, 0)) if self.beta else np.inf
        inside = np.where(y >= 0, y * y / 2, below)
        return np.where(y >= -self.beta, inside, np.inf).astype(y.dtype)

    def inverse(self, y: Any) -> Any:
        """y for y >= 0, log(1 + y / beta) below."""
        if not self.beta:
            self._refuse("has no inverse", "give target outputs: the matching loss takes them, by fenchel_young")
        y = self._inside(y, -self.beta)
        with np.errstate(divide="ignore"):
            return np.where(y >= 0, y, np.log1p(np.minimum(y, 0) / self.beta)).astype(y.dtype)

    def matching_loss(self, a_hat: Any, a: Any) -> Any:
        """Four cases, by the signs of a_hat and a; every term of each is positive."""
        a_hat, a = _floats(a_hat, a)
        d, e = a_hat - a, np.exp(np.minimum(a, 0))
        near = np.where(abs(d) < 0.2, d, 0)
        both_below = np.where(
            abs(d) < 0.2, e * _exp_gap(near), np.exp(np.minimum(a_hat, 0)) - e * (1 + d)
        )
        up = a_hat**2 / 2 + self.beta * (_entropy_gap(np.expm1(np.minimum(a, 0))) - a_hat * np.expm1(np.minimum(a, 0)))
        down = self.beta * _exp_gap(np.minimum(a_hat, 0)) + a * a / 2 - a * a_hat
        above = a >= 0
        value = np.where(a_hat >= 0, np.where(above, d * d / 2, up), np.where(above, down, self.beta * both_below))
        return value.astype(a.dtype)

    def fenchel_young(self, a_hat: Any, y: Any, constant: bool = True) -> Any:
        """The matching loss by target output; for beta = 0 that needs no inverse, as f^-1(y) = y for y >= 0."""
        if self.beta or not constant:
            return super().fenchel_young(a_hat, y, constant)
        return ReLU().fenchel_young(a_hat, y)

    def formula(self, a: Any) -> Any:
        return sp.Piecewise((a, a >= 0), (sp.nsimplify(self.beta) * (sp.exp(a) - 1), True))

    def integral_formula(self, a: Any) -> Any:
        return sp.Piecewise((a**2 / 2, a >= 0), (sp.nsimplify(self.beta) * (sp.exp(a) - a - 1), True))

    def dual_formula(self, y: Any) -> Any:
        beta = sp.nsimplify(self.beta)
        below = (y + beta) * sp.log(1 + y / beta) - y if self.beta else sp.oo
        return sp.Piecewise((y**2 / 2, y >= 0), (below, True))


TABLE: tuple[TransferFunction, ...] = (
    Step(), Linear(), LeakyReLU(), ReLU(), Sigmoid(), Softmax(), Tanh(), ArcTan(), Softplus(), ELU(),
)  # fmt: skip
"""The transfer functions of table 1 of US 2022/0253713, in its order."""


def of(f: Any) -> TransferFunction:
    """The transfer function that an operation, such as ``ops.transfer.Tanh()``, or a layer, such as ``nn.Tanh()``, is.

    Raises TypeError for what is none.
    """
    if isinstance(f, TransferFunction):
        return f
    operation = getattr(f, "operation", f)
    if isinstance(operation, transfer.LeakyReLU):
        return Linear() if operation.beta == 1 else LeakyReLU(operation.beta)
    if isinstance(operation, transfer.ELU):
        return ELU(operation.beta)
    for one in TABLE:
        if type(operation) is type(one.operation):
            return one
    raise TypeError(
        f"transfer.of: expected an operation or a layer of a transfer function, got {f!r}: choose among "
        f"{', '.join(type(one).__name__ for one in TABLE)}, or make one by transfer.define"
    )


# A reader's own ----------------------------------------------------------------------------------------------


def define(name: str, f: Any) -> TransferFunction:
    """A transfer function that a SymPy expression of one symbol defines; all else follows.

    ``define("softsign", a / (1 + abs(a)))`` with ``a = sympy.Symbol("a", real=True)``. F is the integral from 0,
    symbolic where SymPy finds one that it can evaluate, by quadrature elsewhere; the inverse is found by bisection.

    Raises
    ------
    ValueError
        If f has not exactly one symbol, is not finite between -1000 and 1000, or falls somewhere: without a convex
        integral there is no matching loss (L-14). The message names the place.
    """
    return Defined(name, f)


class Defined(TransferFunction):
    """What `define` makes: accurate to about ten digits, matching losses by quadrature."""

    def __init__(self, name: str, f: Any):
        symbols = sorted(f.free_symbols, key=str)
        self.name = name
        if len(symbols) != 1:
            self._refuse(f"{f} has the symbols {symbols}", "give an expression of one symbol, a")
        self._a, self._f = symbols[0], f
        self._number = sp.lambdify(self._a, f, "numpy")
        self._slope = sp.lambdify(self._a, sp.diff(f, self._a), "numpy")
        self._check()
        self._F = self._antiderivative()
        self.operation = _operation(self)
        ends = self._number_of(np.array([-1e12, 1e12]))
        self.range = f"({ends[0]:.4g}, {ends[1]:.4g})"

    def __repr__(self) -> str:
        return f"transfer.define({self.name!r})"

    def _number_of(self, a: Any) -> Any:
        with np.errstate(all="ignore"):
            return np.asarray(np.broadcast_to(self._number(a), np.shape(a)), dtype=np.asarray(a).dtype)

    def _check(self) -> None:
        magnitudes = np.geomspace(1e-6, 1e3, 4000)
        grid = np.concatenate([-magnitudes[::-1], [0.0], magnitudes])
        values = self._number_of(grid)
        if not np.isfinite(values).all():
            self._refuse(f"f({grid[~np.isfinite(values)][0]:g}) is not a finite number", "give a function that is")
        falls = np.diff(values) < -1e-12 * (1 + abs(values[1:]))
        if falls.any():
            at = grid[int(falls.argmax())]
            self._refuse(
                f"f falls near a = {at:.3g}: its integral is not convex, and its matching loss can be negative (L-14)",
                "give a function that never falls",
            )

    def _antiderivative(self) -> Any:
        """The symbolic integral from 0, or None where there is no finite one that can be evaluated."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # logarithms of negative numbers, say: no F that can be evaluated
                integral = sp.integrate(self._f, self._a)
                integral = integral - integral.subs(self._a, 0)
                values = np.asarray(sp.lambdify(self._a, integral, "numpy")(np.linspace(-30, 30, 7)), dtype=float)
        except Exception:  # SymPy fails in many ways
            return None
        return integral if not integral.has(sp.Integral) and np.isfinite(values).all() else None

    def derivative(self, a: Any) -> Any:
        (a,) = _floats(a)
        return np.asarray(np.broadcast_to(self._slope(a), a.shape), dtype=a.dtype)

    def _area(self, low: Any, high: Any, level: Any) -> Any:
        """The integral of f(t) - level from low to high."""
        from scipy.integrate import quad

        def one(low: float, high: float, level: float) -> float:
            kink = [0.0] if min(low, high) < 0 < max(low, high) else None
            result = quad(lambda t: float(self._number(t)) - level, low, high, points=kink, limit=200, epsabs=0)
            return float(result[0])

        return np.vectorize(one, otypes=[float])(low, high, level)

    def integral(self, a: Any) -> Any:
        """The integral of f from 0 to a."""
        (a,) = _floats(a)
        if self._F is None:
            return self._area(0.0, a, 0.0).astype(a.dtype)
        return np.asarray(sp.lambdify(self._a, self._F, "numpy")(a), dtype=a.dtype)

    def inverse(self, y: Any) -> Any:
        """The a with f(a) = y, by bisection; ValueError outside the range."""
        from scipy.optimize import brentq

        (y,) = _floats(y)

        def one(y: float) -> float:
            if not self._number_of(np.array(-1e12)) <= y <= self._number_of(np.array(1e12)):
                self._refuse(f"the inverse of {y:g}, outside the range {self.range}", "give outputs of the function")
            bound = 1.0
            while not self._number_of(np.array(-bound)) <= y <= self._number_of(np.array(bound)):
                bound *= 4
            return float(brentq(lambda a: float(self._number(a)) - y, -bound, bound, xtol=1e-14, rtol=1e-14))

        return np.vectorize(one, otypes=[y.dtype])(y)

    def dual_integral(self, y: Any) -> Any:
        """y a - F(a) with a = f^-1(y); inf outside the range."""
        (y,) = _floats(y)
        low, high = self._number_of(np.array([-1e12, 1e12]))
        inside = (low <= y) & (y <= high)
        a = self.inverse(np.where(inside, y, self._number_of(np.array(0.0))))
        return np.where(inside, y * a - self.integral(a), np.inf).astype(y.dtype)

    def matching_loss(self, a_hat: Any, a: Any) -> Any:
        """The integral of f(t) - f(a) from a to a_hat."""
        a_hat, a = _floats(a_hat, a)
        return self._area(a, a_hat, self._number_of(a)).astype(a.dtype)

    def formula(self, a: Any) -> Any:
        return self._f.subs(self._a, a)

    def integral_formula(self, a: Any) -> Any:
        t = sp.Dummy("t", real=True)
        return sp.Integral(self.formula(t), (t, 0, a)) if self._F is None else self._F.subs(self._a, a)

    def dual_formula(self, y: Any) -> Any:
        return sp.Function("F^*")(y)


def _operation(function: Defined) -> Operation:
    """f as an operation on tensors. It is not in the registry, which holds what minigrad itself proves."""

    class DefinedFunction(Elementwise, abstract=True):
        """A reader's transfer function."""

        signature, source, name = "a -> y", Source("the reader"), function.name
        parsed, selective = transfer.Tanh.parsed, False

        def formula(self, a: Any) -> Formula:
            return Formula(function.formula(a))

        def forward(self, a: Any) -> Any:
            return function._number_of(np.asarray(a))

        def df(self, a: Any, y: Any) -> Any:
            return function.derivative(a)

    return DefinedFunction()
