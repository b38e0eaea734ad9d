"""The digits network with every loss: which are used how, how that was chosen, and what comes of it."""

import numpy as np
import pytest

from minigrad import Tensor, cli, data
from minigrad.experiments import digits
from minigrad.losses import CrossEntropy, LogOdds, Loss, MaxMargin, SquaredError
from minigrad.operation import registry

Z, Y = np.array([[0.5, -1.0, 2.0] + [0.0] * 7, [1.0] + [0.0] * 9]), np.array([2, 0])


def test_every_loss_is_used_or_refused_with_the_reason():
    for name, cls in registry.items():
        if not issubclass(cls, Loss):
            continue
        if name in digits.RECIPES or cls.parsed.inputs[0].name == "z":
            value = digits.recipe(name).loss()(Tensor(Z, requires_grad=True), Y)
            assert value.shape == ()
            assert np.isfinite(value.item())
        else:
            with pytest.raises(ValueError, match=r"not logits|the digits have 10 classes"):
                digits.recipe(name)


@pytest.mark.parametrize("name", digits.RECIPES)
def test_what_was_chosen_is_one_of_the_candidates(name):
    recipe = digits.RECIPES[name]
    among = [(dict(one.settings), one.lr) for one in recipe.candidates()]
    assert (dict(recipe.settings), recipe.lr) in among
    assert len(among) == len(digits.RATES) * np.prod([len(values) for values in recipe.grid.values()], dtype=int)
    assert among[0][1] == 1.0


def test_losses_of_targets_and_terms():
    squared = digits.recipe("squared_error").loss()
    assert squared(Tensor(Z), Y).item() == SquaredError()(Z, np.eye(10)[Y]).item()
    odds = digits.recipe("log_odds").loss()
    c = digits.recipe("log_odds").settings["coefficient"]
    assert odds(Tensor(Z), Y).item() == pytest.approx(CrossEntropy()(Z, Y).item() + LogOdds(c)(Z, Y).item(), rel=1e-14)
    assert repr(odds).startswith("CrossEntropy(reduction='mean') + LogOdds(")


def test_a_new_loss_needs_no_recipe(monkeypatch):
    """One class in one file: its defaults, and a usual learning rate."""
    monkeypatch.setitem(registry, "wider_margin", type("WiderMargin", (MaxMargin,), {"abstract": True}, abstract=True))
    recipe = digits.recipe("wider_margin")
    assert (recipe.lr, recipe.loss().margin) == (0.05, 1.0)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("two_class_cross_entropy", r"a label 0 or 1, and the digits have 10 classes: try binary_cross_entropy"),
        ("softmax", "no such loss: choose among batch_cross_entropy"), ("CrossEntropy", "no such loss"),
    ],
)  # fmt: skip
def test_losses_that_are_refused(name, words):
    for use in (digits.recipe, lambda name: digits.run(loss=name), digits.choose):
        with pytest.raises(ValueError, match=words):
            use(name)


def test_choosing_tries_all_and_sorts(monkeypatch):
    """By validation error, of equal ones the smaller rate; what diverges has error 1."""
    trials = digits.choose("cross_entropy", epochs=1, seeds=[0])
    assert sorted(trial.recipe.lr for trial in trials) == sorted(digits.RATES)
    assert [trial.error for trial in trials] == sorted(trial.error for trial in trials)
    assert 0 < trials[0].error < 0.5
    worst = digits.choose("squared_error", epochs=1, seeds=[0])[-1]
    assert (worst.error, worst.recipe.lr) == (1.0, 1.0)
    wrong = {0.1: (3, 5)}  # of 300, with the first and the second seed: as many as 4 and 4, but for the last bit
    monkeypatch.setattr(digits, "_validation_error", lambda _, one, __, seed: wrong.get(one.lr, (4, 4))[seed] / 300)
    assert digits.choose("cross_entropy", seeds=[0, 1])[0].recipe.lr == 0.001
    monkeypatch.setattr(digits, "_validation_error", lambda *_: 0.25)
    trials = digits.choose("self_normalized_cross_entropy", seeds=[0, 1])
    assert [(trial.recipe.lr, trial.recipe.settings["alpha"]) for trial in trials[:4]] == [
        (0.001, 1.0), (0.001, 0.1), (0.001, 0.01), (0.01, 1.0),
    ]  # fmt: skip


def test_the_comparison_is_a_table():
    compared = digits.compare_losses(["max_margin", "self_normalized_cross_entropy"], epochs=1)
    assert list(compared.results) == ["max_margin", "self_normalized_cross_entropy"]
    header, _, first, second = str(compared).splitlines()
    assert header.split("  ")[0] == "loss"
    assert f"{1 - compared['max_margin'].test_error:.2%}" in first
    assert "alpha=" in second
    assert "<table>" in compared._repr_html_()


def test_moved_digits_are_the_same_digits():
    few = data.digits(np.float32).train[:3]
    same, up, down, left, right = np.split(digits.moved(few).x, 5)
    np.testing.assert_array_equal(digits.moved(few).y, np.tile(few.y, 5))
    np.testing.assert_array_equal(same, few.x)
    for ahead, behind, axis in ((up, same, 2), (same, down, 2), (left, same, 3), (same, right, 3)):
        a, b = np.moveaxis(ahead, axis, 0), np.moveaxis(behind, axis, 0)
        np.testing.assert_array_equal(a[:-1], b[1:])
    assert not up[:, :, -1].any()
    assert not right[..., 0].any()
    assert same.dtype == np.float32


def test_run_takes_another_rate():
    result = digits.run(loss="batch_max_margin", lr=0.02, epochs=1)
    assert (result.recipe.lr, result.history.learning_rate) == (0.02, [0.02])
    report = result.as_dict()
    assert (report["loss"], report["learning_rate"]) == ("batch_max_margin", 0.02)


@pytest.mark.slow
def test_every_loss_reaches_97_per_cent(capsys):
    compared = digits.compare_losses()
    with capsys.disabled():
        print(f"\n{compared}")
    assert {name: r.test_error for name, r in compared.results.items() if r.test_error > 0.03} == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["batch_cross_entropy", "log_odds"])
def test_the_command_line_trains_with_it(name, tmp_path):
    assert cli.main(["train", "--loss", name, "--quiet", "--output", str(tmp_path)]) == 0
    assert (tmp_path / "model.npz").exists()
