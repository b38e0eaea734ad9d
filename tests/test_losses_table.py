"""The properties of losses are found by trying, and their table says what was found."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.losses import (
    BatchCrossEntropy,
    BatchMaxMargin,
    BinaryCrossEntropy,
    ComplementaryCrossEntropy,
    CrossEntropy,
    LogOdds,
    Loss,
    MaxMargin,
    NoiseContrastiveEstimation,
    SelfNormalizedCrossEntropy,
)
from minigrad.losses import properties as found
from minigrad.metrics import is_separated
from minigrad.operation import registry
from minigrad.tables import FORMATS


@pytest.fixture(scope="module")
def table():
    return mg.tables.losses()


@pytest.fixture(scope="module")
def by_name(table):
    return {row[0].partition("(")[0]: dict(zip(table.header, row, strict=True)) for row in table.rows}


def test_every_loss_has_a_row(table, by_name):
    assert set(by_name) == {cls.__name__ for cls in registry.values() if issubclass(cls, Loss)}
    assert len(table.rows) == len(by_name)


@pytest.mark.parametrize(
    ("name", "convex", "aligned", "shifts", "bounded"),
    [
        ("SquaredError", "yes", "-", "no", "yes"), ("TwoClassCrossEntropy", "yes", "-", "no", "yes"),
        ("CrossEntropy", "yes", "no", "each sample", "yes"), ("MaxMargin", "yes", "no", "each sample", "yes"),
        ("SelfNormalizedCrossEntropy", "no", "yes", "no", "yes"),
        ("NoiseContrastiveEstimation", "yes", "yes", "no", "yes"), ("BinaryCrossEntropy", "yes", "yes", "no", "yes"),
        ("BatchCrossEntropy", "yes", "yes", "whole batch", "yes"),
        ("BatchMaxMargin", "yes", "yes", "whole batch", "yes"),
        ("ComplementaryCrossEntropy", "no", "no", "each sample", "no"), ("LogOdds", "yes", "no", "each sample", "no"),
        ("IncorrectLogOddsPower", "no", "no", "each sample", "no"),
        ("IncorrectLogOddsLSE", "no", "no", "each sample", "no"),
        ("LogSumInverseProbability", "yes", "no", "each sample", "yes"),
        ("IncorrectProbabilityLoss", "no", "no", "each sample", "yes"),
    ],
)  # fmt: skip
def test_what_is_found(by_name, name, convex, aligned, shifts, bounded):
    row = by_name[name]
    assert (row["convex"], row["shift-invariant"], row["bounded below"]) == (convex, shifts, bounded)
    assert row["aligned"].partition(":")[0] == aligned


def test_formulas_sources_and_forms(table, by_name):
    assert by_name["BinaryCrossEntropy"]["source"].endswith("corrected by K-1, K-2")
    assert by_name["MaxMargin"]["formula"].latex.startswith(
        r"\mathrm{loss} = \begin{cases} \gamma + \max_{j, j \neq y} {z}_{j}"
    )
    assert by_name["LogOdds"]["gradient"].latex.startswith(
        r"\left(\frac{\partial \mathrm{loss}}{\partial z}\right)_{i} = c \left("
    )
    assert "noise=[0.5, 0.2, 0.3], num_samples=4" in table.render()
    for form in FORMATS:
        assert len(table.render(form).splitlines()) > len(table.rows)


@pytest.mark.parametrize("loss", [CrossEntropy(), MaxMargin(), LogOdds(), ComplementaryCrossEntropy()], ids=repr)
def test_the_attack_finds_the_counterexamples(loss):
    """Logits that are not separated, checked by themselves, at which the loss is as small as one likes."""
    attack = found.separate(loss)
    labels = found.labels_of(len(attack.logits), 4)
    assert not is_separated(attack.logits, labels)
    assert float(loss.output(attack.logits, labels).sum()) == attack.loss < 1e-8
    assert found.aligned(loss, found.bounded_below(loss)).startswith("no")


@pytest.mark.parametrize(
    ("loss", "tight"),
    [
        (BatchMaxMargin(), 1 / 3), (BinaryCrossEntropy(), 2 * np.log(2)), (SelfNormalizedCrossEntropy(), None),
        (NoiseContrastiveEstimation([0.5, 0.5], 3), None), (BatchCrossEntropy(), None),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_the_attack_never_gets_under_the_bound(loss, tight):
    attack = found.separate(loss)
    bound = loss.separation_bound(*attack.logits.shape)
    assert 0 < bound <= attack.excess * (1 + 1e-9)
    if tight is not None:
        assert attack.excess == pytest.approx(tight, rel=1e-3)


def test_a_bound_that_is_too_large_is_refuted(monkeypatch):
    """K-7 with the alpha forgotten: the known counterexample is among the starts."""
    loss = SelfNormalizedCrossEntropy(0.001)
    assert found.aligned(loss).startswith("yes: under 9.4")
    monkeypatch.setattr(type(loss), "separation_bound", lambda *_: (1 - np.log(2)) ** 2)
    assert "refutes the bound 0.0942" in found.aligned(loss)


def test_counterexamples_are_those_of_the_source():
    labels = found.labels_of(2, 2)
    known = found.counterexamples()
    assert not any(is_separated(z, labels) for z in known.values())
    assert CrossEntropy("sum")(known["LS-05, alpha = 20"], labels).item() == 2 * np.log1p(np.exp(-20))
    assert MaxMargin(1.0, "sum")(known["LS-07"], labels).item() == 0


def test_noise_that_leaves_a_class_out_is_not_aligned():
    """K-16: the true logit of a class with q = 0 has no gradient, nor has it as a false one."""
    loss = NoiseContrastiveEstimation([0.0, 0.5, 0.5], 2)
    assert loss.separation_bound(2, 3) == 0
    assert found.aligned(loss).startswith("no")


class Concave:
    """Not a loss of the registry: what the trials must refute."""

    inputs = ("z", "labels")

    @classmethod
    def samples(cls, rng):
        yield cls(), np.zeros((2, 3)), np.array([0, 1])

    def output(self, z, labels):
        return -np.sqrt(1 + z**2).sum(axis=1)


def test_the_trials_can_fail():
    loss = Concave()
    assert not found.convex(loss)
    assert not found.bounded_below(loss)
    assert found.shift_invariant(loss) == "no"
