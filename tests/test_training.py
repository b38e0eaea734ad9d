"""Training: the epochs, the tests that end it, and resuming with the same bits."""

import json
import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.data import Dataset
from minigrad.losses import CrossEntropy, SquaredError
from minigrad.optim import SGD, Adam, MomentumSchedule, ReduceOnPlateau, WarmupLinear
from minigrad.training import evaluate, fit


def blobs(n, seed=0):
    """Two overlapping classes of points in the plane."""
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=n)
    return Dataset(rng.normal(size=(n, 2)) + 1.5 * y[:, None], y)


def regression(n=40):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 3))
    return x, x @ np.array([[1.0], [-2.0], [0.5]]) + 0.1 * rng.normal(size=(n, 1))


def perceptron(seed=0):
    return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.7), nn.Linear(8, 2)).reset(seed)


def same(one, two):
    return all(np.array_equal(array, two[name]) for name, array in one.items())


# The numbers ------------------------------------------------------------------------------------------------


def test_batch_training_is_gradient_descent():
    """batch_size=None: w <- w - lr dL/dw of the whole set, and the history holds L before each step."""
    x, y = regression()
    model = nn.Linear(3, 1, bias=False, seed=0)
    w = model.weight.data.copy()
    history = fit(model, SquaredError(), SGD(model.parameters(), lr=0.1), (x, y), epochs=5, batch_size=None)
    losses, changes = [], []
    for _ in range(5):
        r = x @ w.T - y
        losses.append((r**2).mean())
        step = 0.1 * 2 * r.T @ x / len(x)
        changes.append(np.linalg.norm(step))
        w = w - step
    np.testing.assert_allclose(model.weight.data, w, rtol=1e-12)
    np.testing.assert_allclose(history.loss, losses, rtol=1e-12)
    np.testing.assert_allclose(history.weight_change, changes, rtol=1e-12)
    assert history.learning_rate == [0.1] * 5
    assert history.stopped == "5 epochs"
    assert history.best_epoch is None


@pytest.mark.parametrize(("batch_size", "steps"), [(1, 7), (3, 3), (7, 1), (100, 1), (None, 1)])
def test_online_mini_batch_and_batch_are_one_parameter(batch_size, steps):
    x, y = regression(7)
    model = nn.Linear(3, 1, seed=0)
    optimizer = SGD(model.parameters(), lr=0.01)
    fit(model, SquaredError(), optimizer, (x, y), epochs=2, batch_size=batch_size)
    assert optimizer.steps == 2 * steps


def test_a_short_last_batch_counts_by_its_size():
    """With a rate so small that w stays, the loss of the epoch is the mean over the samples, not over the batches."""
    x, y = regression(7)
    for loss in (SquaredError(), SquaredError(reduction="sum")):
        model = nn.Linear(3, 1, seed=0)
        history = fit(model, loss, SGD(model.parameters(), lr=1e-300), (x, y), epochs=1, batch_size=3)
        assert history.loss[0] == pytest.approx(((model(x).data - y) ** 2).mean(), rel=1e-13)
        assert evaluate(model, loss, (x, y), batch_size=2)[0] == pytest.approx(history.loss[0], rel=1e-13)


def test_evaluate_measures_at_test_and_leaves_the_modes_alone():
    model, data = perceptron(), blobs(50)
    model[1].eval()
    loss, error = evaluate(model, CrossEntropy(), data, batch_size=7)
    assert [module.training for module in model.modules()] == [True, True, False, True, True, True]
    model.eval()
    scores = model(data.x).data
    assert error == (scores.argmax(axis=1) != data.y).mean()
    assert loss == pytest.approx(CrossEntropy()(scores, data.y).item(), rel=1e-13)
    assert math.isnan(evaluate(nn.Linear(3, 1, seed=0), SquaredError(), regression())[1])


def test_each_epoch_has_a_new_order_and_the_same_seed_the_same_bits():
    runs = []
    for seed in (3, 3, 4):
        model, data = perceptron(), blobs(50)
        history = fit(model, CrossEntropy(), SGD(model.parameters(), 0.1, 0.5), data, data, epochs=3, seed=seed)
        runs.append((model.state_dict(), history))
        assert not any(module.training for module in model.modules())  # ready to predict
    assert same(runs[0][0], runs[1][0])
    assert runs[0][1].loss == runs[1][1].loss
    assert not same(runs[0][0], runs[2][0])


def test_a_model_in_eval_mode_is_trained_like_any_other():
    runs = []
    for prepare in (nn.Module.train, nn.Module.eval):
        model, data = prepare(perceptron()), blobs(50)
        fit(model, CrossEntropy(), SGD(model.parameters(), 0.1), data, data, epochs=2)
        runs.append(model.state_dict())
    assert same(*runs)


# When it ends -----------------------------------------------------------------------------------------------


class Scripted(nn.Module):
    """A model whose validation scores follow a script: what it predicts depends on how many epochs it has seen."""

    def __init__(self, right):
        self.right = right  # of 10 samples, after each epoch
        self.weight = nn.Parameter(np.zeros(1))

    def forward(self, x):
        if self.training:
            return x * self.weight
        epoch = round(float(self.weight.data[0]))  # the weight counts the epochs
        first = np.arange(10) < self.right[epoch - 1]
        return np.stack([first, ~first], axis=1) * 1.0 + self.weight * 0


def scripted(right, **arguments):
    def loss(scores, y):
        return -scores.sum() if y.dtype == float else CrossEntropy()(scores, y)

    model = Scripted(right)
    validation = Dataset(np.ones((10, 1)), np.zeros(10, dtype=int))
    train = np.ones((1, 1)), np.ones((1, 1))
    history = fit(model, loss, SGD([model.weight], lr=1.0), train, validation, **arguments)
    return model, history


def test_early_stopping_waits_and_restores_the_best_weights():
    right = [5, 7, 6, 8, 8, 7, 7, 9, 9]
    model, history = scripted(right, epochs=9, patience=3)
    np.testing.assert_allclose(history.validation_error, [0.5, 0.3, 0.4, 0.2, 0.2, 0.3, 0.3], rtol=1e-15)
    assert history.best_epoch == 4  # of equals the first
    assert history.stopped == "no smaller validation error for 3 epochs"
    assert model.weight.data[0] == 4
    model, history = scripted(right, epochs=9, patience=4)
    assert (history.epochs, history.best_epoch, model.weight.data[0]) == (9, 8, 8)
    model, history = scripted(right, epochs=9)  # without patience the last weights stay
    assert (history.best_epoch, model.weight.data[0]) == (8, 9)


def test_termination_tests():
    """TC-20, in batch training: on a parabola each step shrinks by 1 - 2 lr, which says when they hold."""
    x, y = np.ones((1, 1)), np.zeros((1, 1))

    def epochs(**tolerance):
        model = nn.Linear(1, 1, bias=False, init=lambda rng, shape: np.ones(shape))
        optimizer = SGD(model.parameters(), lr=0.25)  # w halves
        history = fit(model, SquaredError(), optimizer, (x, y), epochs=50, batch_size=None, **tolerance)
        return history.epochs, history.stopped

    assert epochs(weight_tolerance=2**-5) == (5, "the weights changed by at most 0.03125")
    assert epochs(loss_tolerance=0.75 * 2**-6) == (5, "the loss changed by at most 0.0117188")
    assert epochs(weight_tolerance=2**-5, loss_tolerance=0.75) == (2, "the loss changed by at most 0.75")
    assert epochs() == (50, "50 epochs")


def test_a_plateau_lowers_the_rate():
    x, y = regression()
    model = nn.Linear(3, 1, seed=0)
    optimizer = SGD(model.parameters(), lr=1e-9)  # no epoch is 1% better
    plateau = ReduceOnPlateau(patience=1, threshold=0.01)
    history = fit(model, SquaredError(), optimizer, (x, y), epochs=6, plateau=plateau)
    np.testing.assert_allclose(history.learning_rate, np.array([1, 1, 1, 0.1, 0.1, 0.01]) * 1e-9, rtol=1e-12)


@pytest.mark.parametrize("loss", [SquaredError(), CrossEntropy()])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_divergence_stops_at_once_in_clear_words(loss):
    data = blobs(40) if isinstance(loss, CrossEntropy) else regression()
    width = 2 if isinstance(loss, CrossEntropy) else 1
    model = nn.Sequential(nn.Linear(4 - width, 8), nn.ReLU(), nn.Linear(8, width)).reset(0)
    with pytest.raises(
        FloatingPointError, match=r"in epoch \d+, with learning rate 1e\+200: try one ten times smaller"
    ):
        fit(model, loss, SGD(model.parameters(), 1e200), data, epochs=50)


@pytest.mark.parametrize(
    ("loss", "words"), [(CrossEntropy(), "validation are not finite in epoch 1"), (None, "zero_one")]
)
def test_outputs_that_are_no_numbers_in_validation_are_divergence_too(loss, words):
    """Weights may still be finite where outputs are not. What else is refused there stays what it was."""
    data = blobs(20)
    model = nn.Linear(2, 2, seed=0)
    held_out = (np.full((3, 2), np.nan), np.zeros(3, int)) if loss else (data.x[:3], np.full(3, 5))
    with pytest.raises(FloatingPointError if loss else ValueError, match=words):
        fit(model, loss or (lambda z, y: (z * z).mean()), SGD(model.parameters(), 0.1), data, held_out, epochs=1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"epochs": 0}, "epochs=0"),
        ({"patience": 3}, "validation set"),
        ({"patience": 0, "validation": blobs(5)}, "patience=0"),
        ({"validation": blobs(5)[:0]}, "no samples"),
        ({"train": blobs(5)[:0]}, "no samples"),
        ({"train": (np.ones((3, 2)), np.ones(2))}, "equal lengths"),
        ({"resume": True}, "checkpoint="),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_contradictions_are_refused(arguments, words):
    model = perceptron()
    given = {"train": blobs(20), "epochs": 1} | arguments
    with pytest.raises(ValueError, match=words):
        fit(model, CrossEntropy(), SGD(model.parameters(), 0.1), **given)


def test_a_foreign_optimizer_and_two_schedules_are_refused():
    model, data = perceptron(), blobs(20)
    with pytest.raises(ValueError, match="not the model's"):
        fit(model, CrossEntropy(), SGD(perceptron().parameters(), 0.1), data, epochs=1)
    optimizer = SGD(model.parameters(), WarmupLinear(0.1, 1, 9))
    with pytest.raises(ValueError, match="both set the learning rate"):
        fit(model, CrossEntropy(), optimizer, data, epochs=1, plateau=ReduceOnPlateau())


# Checkpoints ------------------------------------------------------------------------------------------------


class Crash(Exception):
    pass


def training(kind, path, epochs, resume=False, crash_after=None):
    """One training with everything that has a memory: dropout, batch norm, momentum schedule, plateau, best weights."""
    model = perceptron()
    if kind == "sgd":
        optimizer = SGD(model.parameters(), 0.2, MomentumSchedule(0.9, period=5), nesterov=True, weight_decay=1e-3)
    else:
        optimizer = Adam(model.parameters(), 0.02)
    plateau = ReduceOnPlateau(factor=0.5, patience=0, threshold=0.05)
    calls = 0

    def loss(scores, y):
        nonlocal calls
        calls += scores.requires_grad  # not in validation
        if crash_after is not None and calls > crash_after:
            raise Crash
        return CrossEntropy()(scores, y)

    history = fit(
        model, loss, optimizer, blobs(90), blobs(60, seed=1), epochs=epochs, batch_size=16, seed=7,
        patience=6, plateau=plateau, checkpoint=path, resume=resume,
    )  # fmt: skip
    return model.state_dict(), history, optimizer.state_dict()


@pytest.mark.parametrize("kind", ["sgd", "adam"])
@pytest.mark.parametrize("crash_after", [None, 21])
def test_resuming_gives_the_bits_of_an_uninterrupted_run(tmp_path, kind, crash_after):
    weights, history, state = training(kind, tmp_path / "whole.npz", 8)
    assert len(set(history.learning_rate)) > 1  # the plateau has had its effect
    part = tmp_path / "part.npz"
    if crash_after is None:
        training(kind, part, 3)
    else:  # in the middle of the fourth epoch
        with pytest.raises(Crash):
            training(kind, part, 8, crash_after=crash_after)
    weights_2, history_2, state_2 = training(kind, part, 8, resume=True)
    assert same(weights, weights_2)
    assert same(state, state_2)
    for name in ("loss", "validation_loss", "validation_error", "learning_rate", "weight_change", "stopped"):
        assert getattr(history, name) == getattr(history_2, name), name
    assert len(history_2.seconds) == history_2.epochs
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part.npz", "whole.npz"]


def test_a_finished_training_that_resumes_does_nothing_more(tmp_path):
    path = tmp_path / "checkpoint.npz"
    weights, history, _ = training("sgd", path, 5)
    weights_2, history_2, _ = training("sgd", path, 5, resume=True)
    assert same(weights, weights_2)
    assert history == history_2


@pytest.mark.parametrize("bits", [np.random.MT19937, np.random.Philox, np.random.SFC64, np.random.PCG64DXSM])
def test_every_bit_generator_resumes(tmp_path, bits):
    def weights(epochs, resume=False):
        rng = np.random.Generator(bits(5))
        model = nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.5), nn.Linear(4, 2)).reset(rng)
        optimizer = SGD(model.parameters(), 0.1)
        path = tmp_path / "checkpoint.npz"
        # one generator for masks and order
        fit(model, CrossEntropy(), optimizer, blobs(20), epochs=epochs, seed=rng, checkpoint=path, resume=resume)
        return model.state_dict()

    whole = weights(4)
    weights(2)
    assert same(weights(4, resume=True), whole)


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    path = tmp_path / "checkpoint.npz"
    data, loss = blobs(20), CrossEntropy()
    model = perceptron()
    with pytest.raises(FileNotFoundError):
        fit(model, loss, SGD(model.parameters(), 0.1), data, epochs=1, checkpoint=path, resume=True)
    fit(model, loss, SGD(model.parameters(), 0.1), data, epochs=1, checkpoint=path)
    with pytest.raises(ValueError, match=r"velocity\.0"):
        fit(model, loss, SGD(model.parameters(), 0.1, 0.9), data, epochs=2, checkpoint=path, resume=True)
    optimizer = SGD(model.parameters(), 0.1)
    with pytest.raises(ValueError, match="patience"):
        fit(model, loss, optimizer, data, data, epochs=2, patience=1, checkpoint=path, resume=True)
    other = nn.Linear(2, 2, seed=0)
    with pytest.raises(ValueError, match="random generators"):
        fit(other, loss, SGD(other.parameters(), 0.1), data, epochs=2, checkpoint=path, resume=True)
    other.save(path)
    with pytest.raises(ValueError, match="another kind"):
        fit(model, loss, SGD(model.parameters(), 0.1), data, epochs=2, checkpoint=path, resume=True)


# What it shows ----------------------------------------------------------------------------------------------


def test_history_is_plain_json(tmp_path):
    model = nn.Linear(3, 1, seed=0)
    history = fit(model, SquaredError(), SGD(model.parameters(), 0.01), regression(), regression(), epochs=2)
    read = json.loads(json.dumps(history.as_dict(), allow_nan=False))
    assert read["loss"] == history.loss
    assert read["validation_error"] == [None, None]
    assert (read["epochs"], read["best_epoch"], read["stopped"]) == (2, 2, "2 epochs")


@pytest.mark.parametrize("running", [False, True])
def test_a_notebook_gets_a_progress_bar_where_a_kernel_runs_not_where_one_is_merely_imported(
    capfd, monkeypatch, running
):
    kernel = SimpleNamespace(IPKernelApp=SimpleNamespace(initialized=lambda: running))
    monkeypatch.setitem(sys.modules, "ipykernel.kernelapp", kernel)
    model = nn.Linear(3, 1, seed=0)
    fit(model, SquaredError(), SGD(model.parameters(), 0.01), regression(), epochs=2)
    assert ("batch" in capfd.readouterr().err) == running


def test_log_files_get_no_progress_bar(capfd):
    model = nn.Linear(3, 1, seed=0)
    optimizer = SGD(model.parameters(), 0.01)
    fit(model, SquaredError(), optimizer, regression(), epochs=2)
    assert capfd.readouterr() == ("", "")
    fit(model, SquaredError(), optimizer, regression(), epochs=2, progress=True)
    assert "batch" in capfd.readouterr().err


def test_learning_curves(tmp_path):
    model, data = perceptron(), blobs(50)
    history = fit(model, CrossEntropy(), SGD(model.parameters(), 0.1), data, data, epochs=3)
    ax = mg.plots.learning_curves(history)
    lines = {line.get_label(): line for axes in ax.figure.axes for line in axes.get_lines()}
    np.testing.assert_array_equal(lines["training loss"].get_ydata(), history.loss)
    np.testing.assert_array_equal(lines["validation loss"].get_ydata(), history.validation_loss)
    np.testing.assert_allclose(lines["validation error"].get_ydata(), 100 * np.array(history.validation_error))
    assert list(lines["best epoch"].get_xdata()) == [history.best_epoch] * 2
    assert len({line.get_marker() for line in lines.values()}) == 4
    ax.figure.savefig(tmp_path / "curves.png")
    assert mg.plots.learning_curves(history, ax) is ax
    with pytest.raises(ValueError, match="empty"):
        mg.plots.learning_curves(type(history)())


# The experiment ---------------------------------------------------------------------------------------------


def test_the_digits_are_learned():
    from minigrad.experiments import digits

    result = digits.run(0, epochs=3)
    assert result.model[0].weight.dtype == np.float32
    assert result.test_error <= 0.03
    assert result.as_dict()["history"]["epochs"] == 3


@pytest.mark.slow
def test_at_least_98_per_cent_for_every_seed_and_99_on_the_average():
    from minigrad.experiments import digits

    errors = [digits.run(seed).test_error for seed in range(5)]
    assert max(errors) <= 0.02, errors
    assert np.mean(errors) <= 0.01, errors
