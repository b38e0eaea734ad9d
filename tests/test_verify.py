"""The audit is audited: what is wrong on purpose must be found, and said."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sympy as sp

import minigrad as mg
from minigrad import verify
from minigrad.formula import Formula, indices, total
from minigrad.operation import Operation, registry
from minigrad.verify.cases import Case, differences, distance
from minigrad.verify.checks import CHECKS, not_vacuous


def failing(name: str) -> list[str]:
    """The complaints of an audit without mutants."""
    return verify.audit([name], with_mutants=False).rows[0].complaints


def test_the_report() -> None:
    report = verify.audit(["softmax", "exp"])
    assert report.passed
    text = str(report)
    assert "softmax" in text
    assert "all passed" in text
    exp = report.as_dict()["operations"]["exp"]
    assert exp["mutants"] > 5
    assert "product" not in exp["independent"]  # one df gives both
    assert "product" in report.as_dict()["operations"]["softmax"]["independent"]


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no operation 'sotfmax'"):
        verify.audit(["sotfmax"])


def wrong_softmax_vjp(self: Any, g: Any, z: Any, p: Any) -> Any:
    return p * g  # right on a ones cotangent only in that both are easy to believe


def ones_blind_vjp(self: Any, g: Any, z: Any, p: Any) -> Any:
    return np.zeros_like(z)  # what a ones cotangent cannot see


AFFINE, BATCH_NORM = registry["affine"].jacobian, registry["batch_norm"].vjp


def rows_in_another_order(self: Any, x: Any, w: Any, b: Any) -> Any:
    return (w[::-1], *AFFINE(self, x, w, b)[1:])


def wrong_index(self: Any, z: Any) -> Formula:
    k = indices("k")
    return Formula(z[0] - sp.log(total(sp.exp(z[k]), (k, z.shape[0]))), indices("i"))


def statistics_as_constants(self: Any, g: Any, x: Any, w: Any, b: Any, y: Any, mean: Any, inv_std: Any) -> Any:
    scaled = (g.swapaxes(1, -1) * w * inv_std).swapaxes(1, -1)
    return (scaled, *BATCH_NORM(self, g, x, w, b, y, mean, inv_std)[1:])


def sum_in_place(self: Any, x: Any) -> Any:
    if x.dtype == np.float32:
        x *= -1
    return np.sum(x, axis=self.axis, keepdims=self.keepdims)


def unshifted(self: Any, z: Any) -> Any:
    return np.exp(z) / np.exp(z).sum(axis=self.axis, keepdims=True)


def seeing_each_other(self: Any, z: Any) -> Any:
    e = np.exp(z - z.max(axis=self.axis, keepdims=True))
    return e / e.sum(axis=self.axis, keepdims=True) + 1e-6 * (np.ndim(z) > 1 and len(z) > 1)


def for_one_entry_only(self: Any, g: Any, z: Any, p: Any) -> Any:
    right = p * (g - (g * p).sum(axis=self.axis, keepdims=True))
    return right * (1 if np.count_nonzero(g) < 2 else 1.01)


def last_tie(self: Any, a: Any, y: Any) -> Any:
    return np.asarray(a) > 0


def one_buffer(self: Any, x: Any) -> Any:
    buffer = self.__dict__.setdefault("buffer", {}).setdefault((x.shape, x.dtype), np.empty_like(x))
    return np.exp(x, out=buffer)


def off_in_float32(self: Any, a: Any) -> Any:
    return np.tanh(a) * (1.01 if a.dtype == np.float32 else 1)


WRONG: dict[str, tuple[str, str, Callable[..., Any]]] = {
    "softmax without its coupling": ("softmax", "vjp", wrong_softmax_vjp),
    "softmax without a gradient": ("softmax", "vjp", ones_blind_vjp),
    "a product that is right on basis rows alone": ("softmax", "vjp", for_one_entry_only),
    "a matrix with its rows in another order": ("affine", "jacobian", rows_in_another_order),
    "a value that is off by 1e-9": ("tanh", "forward", lambda s, a: np.tanh(a) * (1 + 1e-9)),
    "a value that is off in float32": ("tanh", "forward", off_in_float32),
    "a slope with a sign wrong": ("divide", "df", lambda s, x, y, z: (1 / y, z / y)),
    "a slope that loses the tails": ("sigmoid", "df", lambda s, a, y: y * (1 - y)),
    "another slope at the kink": ("relu", "df", last_tie),
    "a formula with an index wrong": ("log_softmax", "formula", wrong_index),
    "a mean that divides by the batch": ("mean", "vjp", lambda s, g, x, y: s.spread(g, x) / len(np.atleast_1d(x))),
    "a batch norm that treats its statistics as constants": ("batch_norm", "vjp", statistics_as_constants),
    "a sum that changes its input": ("sum", "forward", sum_in_place),
    "a product that changes g": ("negative", "vjp", lambda s, g, x, y: np.negative(g, out=g)),
    "an operation in float64 only": ("exp", "forward", lambda s, x: np.exp(np.asarray(x, dtype=float))),
    "an output that is used again": ("exp", "forward", one_buffer),
    "a view": ("reshape", "forward", lambda s, x: np.reshape(x, s.shape)),
    "a variance in one pass": ("var", "forward", lambda s, x: (
        np.mean(x * x, axis=s.axis, keepdims=s.keepdims) - np.mean(x, axis=s.axis, keepdims=s.keepdims) ** 2
        if not s.ddof else np.var(x, axis=s.axis, keepdims=s.keepdims, ddof=s.ddof))),
    "a shift that is not invariant": ("softmax", "forward", unshifted),
    "samples that see each other": ("softmax", "forward", seeing_each_other),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
@pytest.mark.parametrize("what", sorted(WRONG))
def test_what_is_wrong_is_found(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, part, wrong = WRONG[what]
    assert not failing(name)
    monkeypatch.setattr(registry[name], part, wrong)
    assert failing(name)


def test_a_refusal_that_does_not_come_or_does_not_help_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    softmax = registry["softmax"]
    monkeypatch.setattr(softmax, "errors", classmethod(lambda cls: iter([(lambda: None, "axis")])))
    assert any("did not raise" in complaint for complaint in failing("softmax"))

    def rude() -> None:
        raise ValueError("no")

    monkeypatch.setattr(softmax, "errors", classmethod(lambda cls: iter([(rude, "axis")])))
    complaints = failing("softmax")
    assert any("lacks 'axis'" in complaint for complaint in complaints)
    assert any("does not name Softmax" in complaint for complaint in complaints)
    assert any("what to try" in complaint for complaint in complaints)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ([np.full((3, 3), 1000.0)], "different sizes"),
        ([np.ones((1, 3))], "two samples"),
        ([np.array([[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]])], "1000"),
        ([np.array([[1000.0, 0.0, -1000.0], [2000.0, 0.0, 0.0]])], "larger than"),
    ],
)
def test_samples_that_prove_nothing_are_found(arrays: list[np.ndarray], words: str) -> None:
    cls = registry["softmax"]
    assert any(words in complaint for complaint in not_vacuous(cls, [Case(cls(), *arrays)]))


def test_samples_of_another_class_prove_nothing() -> None:
    assert not_vacuous(registry["exp"], [Case(registry["log"](), np.ones((2, 3)))])
    assert not_vacuous(registry["exp"], []) == ["there are no samples"]


def test_overlapping_windows_are_asked_for() -> None:
    pool = registry["avg_pool2d"]
    assert any("overlaps" in c for c in not_vacuous(pool, [Case(pool(2), np.ones((2, 3, 5, 4)))]))


@pytest.mark.parametrize("part", ["samples", "errors", "forward"])
def test_an_operation_that_breaks_does_not_break_the_audit(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise KeyError("oops")

    monkeypatch.setattr(registry["tanh"], part, broken)
    assert any("oops" in complaint for complaint in failing("tanh"))


def test_a_surviving_mutant_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the product check blinded, mutants of the product get through, and the report says so."""
    blind = [copy.copy(check) for check in CHECKS]
    for check in blind:
        if check.name == "product":
            object.__setattr__(check, "run", lambda case: 0.0)
    monkeypatch.setattr("minigrad.verify.mutants.CHECKS", tuple(blind))
    report = verify.audit(["softmax"])
    assert not report.passed
    assert "a mutant survived: vjp of z zeroed" in str(report)


def test_the_network_is_audited() -> None:
    from minigrad.verify.network import TOLERANCES, network_errors

    errors = network_errors()
    assert set(errors) == set(TOLERANCES)
    assert all(errors[name] <= tolerance for name, tolerance in TOLERANCES.items())


@pytest.mark.parametrize("name", ["conv2d", "batch_norm", "max_pool2d", "dropout", "affine"])
def test_the_network_notices_a_wrong_operation(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from minigrad.verify.network import TOLERANCES, network_errors

    cls: Any = registry[name]
    right = cls.vjp

    def wrong(self: Operation, *arrays: Any, **keywords: Any) -> Any:
        rows = right(self, *arrays, **keywords)
        return tuple(r if r is None else 1.01 * r for r in rows) if type(rows) is tuple else 1.01 * rows

    wrong.__signature__ = __import__("inspect").signature(right)  # type: ignore[attr-defined]
    monkeypatch.setattr(cls, "vjp", wrong)
    errors = network_errors()
    assert any(errors[n] > tolerance for n, tolerance in TOLERANCES.items())


def test_differences_are_of_fourth_order() -> None:
    coarse, fine = (abs(differences(np.sin, 0.7, h)[0, 0] - np.cos(0.7)) for h in (0.1, 0.05))
    assert 14 < coarse / fine < 18


def test_distance() -> None:
    assert distance([1, 2], [1, 2.002]) == pytest.approx(0.002 / 2.002)
    assert distance([1, 2], [1]) == np.inf
    assert distance([np.nan], [1]) == np.inf
    assert distance([np.inf], [np.inf]) == 0
    assert distance([1e-3], [0]) == 1e-3


# What a student brings

z, q = sp.IndexedBase("z"), sp.IndexedBase("q")
i, j, k = sp.symbols("i j k", integer=True)
K = sp.Symbol("K", integer=True)


def p(index: Any) -> Any:
    return sp.exp(z[index]) / sp.Sum(sp.exp(z[k]), (k, 0, 2))


def test_a_right_formula() -> None:
    result = verify.compare(mg.softmax, p(i) * (sp.KroneckerDelta(i, j) - p(j)), wrt="z", z=[0.1, 0.2, 0.7])
    assert result
    assert "agree in all 9 entries" in str(result)
    assert verify.compare(mg.softmax, p(i), z=[0.1, 0.2, 0.7])


def test_a_wrong_formula_is_told_where() -> None:
    """The diagonal alone, the mistake of T-6."""
    result = verify.compare(mg.softmax, p(i) * sp.KroneckerDelta(i, j), wrt="z", z=[0.1, 0.2, 2.0])
    assert not result
    got = mg.jacobian(mg.softmax, np.array([0.1, 0.2, 2.0]))
    assert result.index == (2, 2)
    assert f"{got[2, 2]:.10g}" in str(result)
    assert "at [i=2, j=2]" in str(result)


def test_a_formula_with_sizes_and_labels() -> None:
    logits = sp.IndexedBase("z", shape=(K,))
    y = sp.Symbol("y", integer=True)
    value = sp.log(sp.Sum(sp.exp(logits[k]), (k, 0, K - 1))) - logits[y]

    def loss(z: Any, y: Any) -> Any:
        return mg.logsumexp(z) - z[int(y)]

    assert verify.compare(loss, value, z=[0.3, 0.1, -2.0], y=1)
    gradient = sp.exp(logits[j]) / sp.Sum(sp.exp(logits[k]), (k, 0, K - 1)) - sp.KroneckerDelta(j, y)
    assert verify.compare(loss, gradient, wrt="z", z=[0.3, 0.1, -2.0], y=1)


def test_a_python_function_as_formula() -> None:
    assert verify.compare(mg.tanh, lambda a: np.diag(1 - np.tanh(a) ** 2), wrt="a", a=[0.1, 0.2])
    wrong = verify.compare(mg.tanh, lambda a: np.diag(1 - np.tanh(a)), wrt="a", a=[0.1, 0.2])
    assert not wrong
    assert "differ in 2 of 4 entries" in str(wrong)
    assert "shapes differ" in str(verify.compare(mg.tanh, lambda a: 1 - np.tanh(a) ** 2, wrt="a", a=[0.1, 0.2]))


@pytest.mark.parametrize(
    ("formula", "wrt", "words"),
    [
        (sp.exp(sp.IndexedBase("x")[i]), None, "speaks of x"),
        (p(i) * p(j), None, r"free letters \(i, j\)"),
        (p(i), "x", "'x'"),
    ],
)
def test_refusals_of_compare(formula: Any, wrt: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        verify.compare(mg.softmax, formula, wrt=wrt, z=[0.1, 0.2, 0.3])


def test_a_number_is_an_input_too() -> None:
    a = sp.Symbol("a", real=True)
    assert verify.compare(mg.tanh, 1 - sp.tanh(a) ** 2, wrt="a", a=0.3)


def test_letters_that_leave_the_array_are_told() -> None:
    for wrong in (z[i - 1], sp.Sum(z[k], (k, 1, 3)) * z[i]):
        with pytest.raises(IndexError, match=r"count from 0.*i < 3"):
            verify.compare(mg.softmax, wrong, z=[0.1, 0.2, 0.3])


@pytest.mark.parametrize("formula", ["p", [1, 2], np.ones(3)])
def test_what_is_no_formula_is_refused(formula: Any) -> None:
    with pytest.raises(TypeError, match="expected a SymPy expression"):
        verify.compare(mg.softmax, formula, z=[0.1, 0.2, 0.3])


def test_float32_is_compared_with_its_own_tolerance() -> None:
    z32 = np.array([0.1, 0.2, 0.3], dtype=np.float32)
    assert verify.compare(mg.softmax, p(i) * (sp.KroneckerDelta(i, j) - p(j)), wrt="z", z=z32)
    assert all(verify.gradient(mg.softmax, z32))


def test_gradient(rng: np.random.Generator) -> None:
    results = verify.gradient(lambda x, w: mg.softmax(x @ w), rng.normal(size=(2, 3)), rng.normal(size=(3, 4)))
    assert len(results) == 2
    assert all(results)

    def forgets(x: Any) -> Any:
        return x * x.data  # half of the gradient is lost

    (result,) = verify.gradient(forgets, np.array([1.0, 3.0]))
    assert not result
    assert result.index == (1, 1)
    with pytest.raises(ValueError, match="no input is floating-point"):
        verify.gradient(mg.exp, np.array([1, 2]))
