"""Input selection: probabilities in proportion to difficulty, and weights that keep the expectation."""

import copy
import itertools
from typing import Any

import numpy as np
import pytest

from minigrad import nn
from minigrad.data import Dataset
from minigrad.losses import BatchCrossEntropy, CrossEntropy, LogOdds
from minigrad.optim import SGD
from minigrad.sampling import DifficultySampler
from minigrad.training import fit


def samples(n: int = 5, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    return Dataset(rng.normal(size=(n, 3)), rng.integers(2, size=n))


def with_difficulty(*difficulty: float, **settings: Any) -> DifficultySampler:
    sampler = DifficultySampler(len(difficulty), **settings)
    sampler.load_state_dict({"difficulty": np.array(difficulty)})
    return sampler


def gradient(model: nn.Module, risk: Any) -> np.ndarray:
    risk.backward()
    return np.concatenate([p.grad.ravel() for p in model.parameters() if p.grad is not None])


# Probabilities ----------------------------------------------------------------------------------------------


def test_probabilities_by_hand() -> None:
    sampler = with_difficulty(1.0, 3.0, 0.0, 4.0, uniform=0.2)
    np.testing.assert_allclose(sampler.probabilities, 0.8 * np.array([1, 3, 0, 4]) / 8 + 0.05)
    np.testing.assert_allclose(with_difficulty(1.0, 3.0, uniform=1.0).probabilities, [0.5, 0.5])
    np.testing.assert_allclose(with_difficulty(0.0, 0.0).probabilities, [0.5, 0.5])


def test_what_was_not_drawn_yet_counts_as_the_hardest() -> None:
    assert DifficultySampler(4).probabilities.tolist() == [0.25] * 4
    sampler = with_difficulty(1.0, np.nan, 3.0, uniform=0.1)
    np.testing.assert_allclose(sampler.probabilities, 0.9 * np.array([1, 3, 3]) / 7 + 0.1 / 3)


def test_draws_follow_the_probabilities() -> None:
    data = samples(4)
    sampler = with_difficulty(1.0, 3.0, 0.0, 4.0)
    rng = np.random.default_rng(0)
    counts = np.zeros(4)
    for _ in range(5000):
        for _batch in sampler.batches(data, None, rng):
            np.add.at(counts, sampler.positions, 1)
    deviations = (counts - 20_000 * sampler.probabilities) / np.sqrt(20_000 * sampler.probabilities)
    assert np.abs(deviations).max() < 4
    assert counts.sum() == 20_000


def test_difficulties_are_the_losses_that_were_seen() -> None:
    data = samples(5)
    sampler = DifficultySampler(5, blend=0.25)
    sampler.select(data, [3, 1])
    sampler.update([2.0, 8.0])
    sampler.select(data, [1])
    sampler.update([4.0])
    np.testing.assert_array_equal(sampler.difficulty, [np.nan, 7, np.nan, 2, np.nan])


# Expectations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_expected_gradient_is_that_of_the_whole_set(m: int, reduction: str) -> None:
    """Exactly: the gradient of every batch that could be drawn, times its probability."""
    data, model = samples(4), nn.Linear(3, 2, seed=0)
    loss = CrossEntropy(reduction=reduction)
    sampler = with_difficulty(0.1, 3.0, 0.7, 0.0)
    wanted = gradient(model, loss(model(data.x), data.y)) * (1 if reduction == "mean" else m / 4)
    p = sampler.probabilities
    assert p.max() > 3 * p.min()
    expected: Any = 0.0
    for positions in itertools.product(range(4), repeat=m):
        drawn = copy.deepcopy(sampler)
        x, y = drawn.select(data, positions)
        expected = expected + np.prod(p[list(positions)]) * gradient(model, drawn.weighted(loss)(model(x), y))
    np.testing.assert_allclose(expected, wanted, rtol=1e-12)


def test_without_weights_hard_samples_weigh_more() -> None:
    data, model = samples(4), nn.Linear(3, 2, seed=0)
    sampler = with_difficulty(0.1, 3.0, 0.7, 0.0, unbiased=False)
    each = CrossEntropy(reduction="none")(model(data.x), data.y).data
    expected = 0.0
    for i, p in enumerate(sampler.probabilities):
        drawn = copy.deepcopy(sampler)
        x, y = drawn.select(data, [i])
        expected += p * float(drawn.weighted(CrossEntropy())(model(x), y))
    assert expected == pytest.approx(sampler.probabilities @ each)
    assert abs(expected - each.mean()) > 0.01


def test_weights_are_bounded() -> None:
    sampler = with_difficulty(0.0, 1e9, 0.0, uniform=0.2)
    sampler.select(samples(3), [0, 1, 2])
    assert sampler.weights.max() == pytest.approx(5)
    assert sampler.probabilities @ sampler.weights == pytest.approx(1)


# Batches and training ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch_size", "sizes"), [(3, [3, 3, 1]), (None, [7]), (1, [1] * 7), (100, [7])])
def test_an_epoch_has_n_draws(batch_size: int | None, sizes: list[int]) -> None:
    data = samples(7)
    sampler = DifficultySampler(7)
    drawn = list(sampler.batches(data, batch_size, np.random.default_rng(0)))
    assert [len(y) for _, y in drawn] == sizes
    x, y = drawn[-1]
    np.testing.assert_array_equal(x, data.x[sampler.positions])
    np.testing.assert_array_equal(y, data.y[sampler.positions])


def train(sampler: DifficultySampler | None, epochs: int = 4, **keywords: Any) -> tuple[nn.Module, Any]:
    model = nn.Linear(3, 2, seed=0)
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.5)
    history = fit(model, CrossEntropy(), optimizer, samples(20), epochs=epochs, batch_size=6, seed=1, sampler=sampler,
                  **keywords)  # fmt: skip
    return model, history


def test_fit_draws_and_watches() -> None:
    sampler = DifficultySampler(20)
    model, history = train(sampler)
    assert np.count_nonzero(~np.isnan(sampler.difficulty)) > 15
    assert history.loss[-1] < history.loss[0]
    again, _ = train(DifficultySampler(20))
    np.testing.assert_array_equal(model.weight.data, again.weight.data)  # the same seed, the same bits
    plain, _ = train(None)
    assert not np.array_equal(model.weight.data, plain.weight.data)


def test_fit_goes_on_with_the_same_bits(tmp_path: Any) -> None:
    path = tmp_path / "run.npz"
    whole, history = train(DifficultySampler(20), epochs=5)
    train(DifficultySampler(20), epochs=2, checkpoint=path)
    sampler = DifficultySampler(20)
    resumed, resumed_history = train(sampler, epochs=5, checkpoint=path, resume=True)
    np.testing.assert_array_equal(resumed.weight.data, whole.weight.data)
    assert resumed_history.loss == history.loss
    with pytest.raises(ValueError, match="differ in having a sampler"):
        train(None, epochs=6, checkpoint=path, resume=True)


def test_the_rare_group_is_drawn_more_often_than_its_share() -> None:
    """What it is for: one rare group, 5 % of the samples, that uniform drawing learns late."""
    rng = np.random.default_rng(0)
    y = (np.arange(200) >= 190).astype(int)
    x = rng.normal(size=(200, 2)) * 0.3 + np.where(y, 1.0, -1.0)[:, None]
    sampler = DifficultySampler(200, unbiased=False)
    model = nn.Linear(2, 2, init="zeros", seed=0)
    fit(model, CrossEntropy(), SGD(model.parameters(), lr=0.05), Dataset(x, y), epochs=2, seed=0, sampler=sampler)
    assert sampler.probabilities[y == 1].sum() > 1.2 * 0.05


# Refusals ---------------------------------------------------------------------------------------------------


def test_refusals() -> None:
    data = samples(5)
    sampler = DifficultySampler(5)
    for call, words in (
        (lambda: DifficultySampler(0), "give len"),
        (lambda: DifficultySampler(5, uniform=0.0), "uniform"),
        (lambda: DifficultySampler(5, blend=1.5), "blend"),
        (lambda: sampler.batches(samples(6), 2, np.random.default_rng(0)), "made for 5 samples, got 6"),
        (lambda: sampler.batches(data, 0, np.random.default_rng(0)), "batch_size"),
        (lambda: sampler.load_state_dict({"difficulty": np.ones(4)}), "of 5 samples"),
        (lambda: sampler.load_state_dict({}), "of 5 samples"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    sampler.select(data, [0, 1])
    refused = (([1.0], "expected 2 losses"), ([1.0, -2.0], "loss of -2 is no difficulty"), ([np.nan, 1], "nan"))
    for losses, words in refused:
        with pytest.raises(ValueError, match=words):
            sampler.update(losses)


def test_losses_that_are_no_difficulty_are_refused_in_words() -> None:
    with pytest.raises(TypeError, match="one number for the whole batch"):
        DifficultySampler(5).weighted(BatchCrossEntropy())
    sampler = DifficultySampler(5)
    model = nn.Linear(3, 2, seed=0)
    optimizer = SGD(model.parameters(), lr=5.0)
    with pytest.raises(ValueError, match="is no difficulty"):
        fit(model, LogOdds(), optimizer, samples(5), epochs=30, sampler=sampler)
