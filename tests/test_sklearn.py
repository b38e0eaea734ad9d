"""The estimator keeps scikit-learn's rules, and learns what the engine learns."""

import importlib
import pickle
import sys

import numpy as np
import pytest

import minigrad as mg
from minigrad import losses, nn
from minigrad.data import digits

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from minigrad.sklearn import Classifier


@parametrize_with_checks([Classifier(), Classifier((16,), loss=losses.SquaredError(), patience=3)])
def test_scikit_learn_checks_it(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def data():
    """Handwritten digits as rows of 64 numbers: 1,197 to fit, 300 to test."""
    splits = digits()
    flat = ((part.x.reshape(len(part), -1), part.y) for part in (splits.train, splits.test))
    return [array for part in flat for array in part]


@pytest.fixture(scope="module")
def blobs():
    """Three clouds of points in the plane, named."""
    rng = np.random.default_rng(0)
    codes = np.arange(150) % 3
    X = rng.normal(size=(150, 2)) + 7 * np.array([[0, 0], [1, 0], [0, 1]])[codes]
    return X, np.array(["one", "two", "three"])[codes]


def test_the_learning_rate_is_chosen_by_validation(data):
    """As the docstring shows, with the grid of Keren et al. 2018, section VI."""
    X, y, X_test, y_test = data
    search = GridSearchCV(Classifier((32,), epochs=12, random_state=0), {"lr": (1, 0.1, 0.01, 0.001)}, cv=3)
    search.fit(X, y)
    assert search.best_params_ == {"lr": 0.1}
    assert search.best_score_ > 0.9
    assert search.score(X_test, y_test) > 0.94


def test_losses_are_chosen_among_too(blobs):
    grid = {"loss": [losses.CrossEntropy(), losses.SquaredError()], "hidden_layer_sizes": [(), (8,)]}
    search = GridSearchCV(Classifier(lr=0.02, epochs=10, random_state=0), grid, cv=2).fit(*blobs)
    assert search.best_score_ > 0.95
    assert isinstance(search.best_params_["loss"], losses.Loss)


@pytest.mark.parametrize(
    "name", ["BatchCrossEntropy", "BatchMaxMargin", "BinaryCrossEntropy", "MaxMargin", "SelfNormalizedCrossEntropy"]
)
def test_another_loss(blobs, name):
    if not hasattr(losses, name):
        pytest.skip(f"no {name} yet")
    model = Classifier((16,), loss=getattr(losses, name)(), lr=0.03, random_state=0).fit(*blobs)
    assert model.score(*blobs) > 0.95


def test_the_outputs_agree_with_each_other(blobs):
    X, names = blobs
    model = Classifier((8,), random_state=0).fit(X, names)
    assert model.classes_.tolist() == ["one", "three", "two"]
    z, p = model.decision_function(X), model.predict_proba(X)
    np.testing.assert_array_equal(z, model.module_(X).data)
    np.testing.assert_allclose(p, mg.softmax(z).data, rtol=1e-14)
    np.testing.assert_array_equal(model.predict(X), model.classes_[z.argmax(axis=1)])
    assert model.score(X, names) == 1 - mg.metrics.zero_one_error(z, np.searchsorted(model.classes_, names)) > 0.95
    assert model.history_.epochs == 30
    assert not model.module_.training


def test_two_classes_have_one_score(blobs):
    X, names = blobs
    two = names != "three"
    model = Classifier((8,), random_state=0).fit(X[two], names[two])
    z = model.module_(X).data
    np.testing.assert_array_equal(model.decision_function(X), z[:, 1] - z[:, 0])
    np.testing.assert_array_equal(model.predict(X) == "two", model.decision_function(X) > 0)
    assert model.predict_proba(X).shape == (150, 2)


@pytest.mark.parametrize("extra", [{}, {"patience": 2, "validation_fraction": 0.3}])
def test_one_number_fixes_every_bit(blobs, extra):
    X, y = blobs
    first, again, other = (Classifier((8,), epochs=5, random_state=seed, **extra).fit(X, y) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.decision_function(X), again.decision_function(X))
    assert not np.array_equal(first.decision_function(X), other.decision_function(X))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(first)).predict(X), first.predict(X))
    assert not hasattr(clone(first), "module_")


def test_it_stops_early_with_the_best_weights(blobs):
    X, y = blobs
    model = Classifier((8,), epochs=200, patience=4, validation_fraction=0.2, random_state=0).fit(X, y)
    history = model.history_
    assert history.stopped == "no smaller validation error for 4 epochs"
    assert history.epochs == history.best_epoch + 4 < 200
    assert model.score(X, y) > 0.95


def test_momentum_and_weight_decay_reach_the_optimizer(blobs):
    X, y = blobs
    norms = [
        np.linalg.norm(np.concatenate([p.data.ravel() for p in model.fit(X, y).module_.parameters()]))
        for model in (
            Classifier((8,), epochs=5, random_state=0, **given)
            for given in ({}, {"momentum": mg.optim.MomentumSchedule()}, {"momentum": 0.0}, {"weight_decay": 0.1})
        )
    ]
    assert norms[0] == norms[1] != norms[2]
    assert norms[3] < norms[0]


def test_a_pipeline_of_float32(blobs):
    X, y = blobs
    pipeline = make_pipeline(StandardScaler(), Classifier((8,), random_state=0))
    assert cross_val_score(pipeline, 1e6 * X.astype(np.float32), y, cv=3).min() > 0.9
    pipeline.fit(X.astype(np.float32), y)
    assert pipeline[-1].module_[0].weight.dtype == pipeline.predict_proba(X).dtype == np.float32


def convolutional(shape, K, rng):
    C, H, W = shape
    conv = nn.Conv2d(C, 8, 3, padding=1, rng=rng)
    return nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2 * H * W, K, rng=rng))


def test_another_network(data):
    X, y, X_test, y_test = data
    model = Classifier(build=convolutional, epochs=5, random_state=0).fit(X.reshape(-1, 1, 8, 8), y)
    assert isinstance(model.module_[0], nn.Conv2d)
    assert model.score(X_test.reshape(-1, 1, 8, 8), y_test) > 0.9
    again = clone(model).fit(X.reshape(-1, 1, 8, 8), y)
    np.testing.assert_array_equal(again.predict(X.reshape(-1, 1, 8, 8)), model.predict(X.reshape(-1, 1, 8, 8)))


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"validation_fraction": 1.0, "patience": 2}, ValueError, "validation_fraction between 0 and 1, got 1.0"),
        ({"lr": -1}, ValueError, "lr=-1"),
        ({"epochs": 0}, ValueError, "epochs=0"),
        ({"hidden_layer_sizes": (0,)}, ValueError, "out_features"),
        ({"build": lambda shape, K, rng: None}, TypeError, "build to make a Module, got None"),
        ({"build": lambda shape, K, rng: nn.Linear(2, 5, rng=rng)}, ValueError, r"3 logits a sample, got \(1, 5\)"),
        ({"loss": losses.TwoClassCrossEntropy()}, ValueError, "expected scores of shape"),
        ({"lr": 1e300, "loss": losses.SquaredError()}, FloatingPointError, "learning rate"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid:RuntimeWarning")
def test_what_it_refuses(blobs, given, error, words):
    with pytest.raises(error, match=words):
        Classifier(**given).fit(*blobs)


def test_one_class_is_refused(blobs):
    with pytest.raises(ValueError, match="all 150 samples are of one class, 7: give at least two"):
        Classifier().fit(blobs[0], np.full(150, 7))


def test_without_scikit_learn_the_error_says_what_to_do(monkeypatch):
    monkeypatch.delitem(sys.modules, "minigrad.sklearn")
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    with pytest.raises(ImportError, match=r"minigrad\.sklearn: Classifier needs scikit-learn .*: pip install"):
        importlib.import_module("minigrad.sklearn")
