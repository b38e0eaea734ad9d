"""A network as an estimator of scikit-learn, for its pipelines, searches and scores.

scikit-learn is optional: nothing else in minigrad needs it. Letters: N samples, F features, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Self

import numpy as np

from . import nn
from .data import one_hot, stratified
from .losses import CrossEntropy, SquaredError
from .metrics import decide
from .optim import SGD, MomentumSchedule
from .tensor import no_grad
from .training import fit

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        f"minigrad.sklearn: Classifier needs scikit-learn from version 1.6 ({error}): pip install -U scikit-learn",
        name=error.name,
    ) from error

__all__ = ["Classifier"]


class Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A network with K outputs, trained by descent with momentum on samples X (N, F) with labels y (N,).

    The learning rate is chosen as in Keren et al. 2018 (section VI), by accuracy, from a grid::

        from sklearn.model_selection import GridSearchCV
        from minigrad.sklearn import Classifier

        search = GridSearchCV(Classifier((32,), random_state=0), {"lr": (1, 0.1, 0.01, 0.001)}, cv=3)
        search.fit(X, y)
        search.best_params_, search.best_score_

    Parameters
    ----------
    hidden_layer_sizes : sequence of int
        The units of each hidden layer, behind each of which there is a ReLU; ``()`` is logistic regression.
    build : callable, optional
        Makes another network: ``build(shape, K, rng)`` is a Module from samples of that shape, (F,), to K logits,
        its weights drawn from the generator. X may then be of more axes, such as images (N, C, H, W).
    loss : minigrad loss, optional
        An instance that takes logits and labels; ``None`` is ``CrossEntropy()``. ``SquaredError()`` compares the
        outputs with one-hot labels.
    lr : float
        The learning rate.
    momentum : float or callable, optional
        Of `optim.SGD`; ``None`` is ``MomentumSchedule()`` (TC-17).
    weight_decay : float
        Of `optim.SGD`.
    epochs : int
        At most so many.
    batch_size : int or None
        Samples a step; None takes all at once.
    patience : int, optional
        Stops early (TC-21): ends after so many epochs without a smaller error on ``validation_fraction`` of the
        samples, which are then not trained on, and keeps the best weights.
    validation_fraction : float
        Of the samples of each class, if there is a ``patience``.
    random_state : int, RandomState or None
        Of the weights, the order of the samples and the split; an int gives the same bits each time.

    Attributes
    ----------
    module_ : the network, in eval mode
    history_ : `training.History`
    classes_ : the labels (K,), in the order of the outputs

    Raises ValueError for X or y that scikit-learn refuses and for labels of one class only, FloatingPointError if
    the training diverges (GridSearchCV counts that as a failed fit, with the score nan). Features want to be of like
    size: put a StandardScaler before it.
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        *,
        build: Callable[..., nn.Module] | None = None,
        loss: Any = None,
        lr: float = 0.1,
        momentum: float | Callable[[int], float] | None = None,
        weight_decay: float = 0.0,
        epochs: int = 30,
        batch_size: int | None = 32,
        patience: int | None = None,
        validation_fraction: float = 0.1,
        random_state: Any = None,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.build = build
        self.loss = loss
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.epochs = epochs
        self.batch_size = batch_size
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Train a new network. Returns the estimator."""
        X, y = validate_data(self, X, y, **self._accepted)
        check_classification_targets(y)
        codes: Any
        self.classes_, codes = np.unique(y, return_inverse=True)
        N, K = len(y), len(self.classes_)
        if K == 1:
            raise ValueError(f"Classifier: all {N} samples are of one class, {y[0]}: give at least two classes")
        if not 0 < self.validation_fraction < 1:
            raise ValueError(
                f"Classifier: expected validation_fraction between 0 and 1, got {self.validation_fraction!r}: try 0.1"
            )
        rng = np.random.default_rng(check_random_state(self.random_state).randint(2**31, size=4))
        self.module_ = self._network(X.shape[1:], K, rng).astype(X.dtype)
        loss = CrossEntropy() if self.loss is None else self.loss
        targets: Any = one_hot(codes, K, X.dtype) if isinstance(loss, SquaredError) else codes
        train, held_out = (X, targets), None
        if self.patience is not None:
            out = min(max(round(self.validation_fraction * N), 1), N - 1)
            validated, trained = stratified(codes, [out], rng)
            train, held_out = (X[trained], targets[trained]), (X[validated], targets[validated])
        momentum = MomentumSchedule() if self.momentum is None else self.momentum
        self.history_ = fit(
            self.module_,
            loss,
            SGD(self.module_.parameters(), self.lr, momentum, weight_decay=self.weight_decay),
            train,
            held_out,
            epochs=self.epochs,
            batch_size=self.batch_size,
            patience=self.patience,
            seed=rng,
            progress=False,
        )
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """The logits (N, K); for two classes that of the second minus that of the first, (N,)."""
        logits = self._logits(X)
        return np.asarray(logits[:, 1] - logits[:, 0]) if logits.shape[1] == 2 else logits

    def predict_proba(self, X: Any) -> np.ndarray:
        """The softmax of the logits (N, K): estimates of probabilities as far as the loss makes them such."""
        from scipy.special import softmax

        return np.asarray(softmax(self._logits(X), axis=1))

    def predict(self, X: Any) -> np.ndarray:
        """The label (N,) of the largest logit, of equal ones the first."""
        decided = decide(self._logits(X))
        return np.asarray(self.classes_[decided])

    @property
    def _accepted(self) -> dict[str, Any]:
        """What X may be."""
        return {"dtype": (np.float64, np.float32), "allow_nd": self.build is not None}

    def _network(self, shape: tuple[int, ...], K: int, rng: np.random.Generator) -> nn.Module:
        if self.build is None:
            sizes = [shape[0], *np.atleast_1d(self.hidden_layer_sizes).tolist(), K]
            layers = [layer for i, o in pairwise(sizes) for layer in (nn.Linear(i, o, rng=rng), nn.ReLU())]
            return nn.Sequential(*layers[:-1])
        module = self.build(shape, K, rng)
        if not isinstance(module, nn.Module):
            raise TypeError(f"Classifier: expected build to make a Module, got {module!r}: return the network")
        with no_grad():
            logits = module.eval()(np.zeros((1, *shape))).shape
        if logits != (1, K):
            raise ValueError(
                f"Classifier: expected build{shape, K, rng} to make a network with {K} logits a sample, got {logits} "
                f"for one: end it in Linear(..., {K})"
            )
        return module

    def _logits(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, **self._accepted).astype(self.module_.parameters()[0].dtype, copy=False)
        with no_grad():
            parts = [self.module_(X[start : start + 1024]).data for start in range(0, len(X), 1024)]
        return np.concatenate(parts)
