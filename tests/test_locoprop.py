"""LocoProp against back-propagation, against its formulas written out with explicit matrices, and at its limits."""

import pickle

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import minigrad as mg
from minigrad import kernels, locoprop, nn
from minigrad.locoprop import VARIANTS, LocoProp, exact_minimizer, solve
from minigrad.losses import BinaryCrossEntropy, CrossEntropy, MaxMargin, SquaredError
from minigrad.optim import SGD, Adam, LinearDecay, RMSprop

CONVEX = ("squared-pre", "matching")  # L-11
TRANSFER = {
    "identity": nn.Identity(),
    "relu": nn.ReLU(),
    "leaky relu": nn.LeakyReLU(0.3),
    "sigmoid": nn.Sigmoid(),
    "softmax": nn.Softmax(),
    "tanh": nn.Tanh(),
} | {name.lower(): getattr(nn, name)() for name in ("ArcTan", "Softplus", "ELU", "Step") if hasattr(nn, name)}


def perceptron(f=None, outputs=3, seed=0, dtype=np.float64):
    f = nn.Tanh() if f is None else f
    return nn.Sequential(nn.Linear(5, 6), f, nn.Linear(6, 4), f, nn.Linear(4, outputs)).reset(seed).astype(dtype)


def convolutional(seed=0):
    """Everything that stands between affine layers, too."""
    return nn.Sequential(
        nn.Conv2d(1, 3, kernel_size=3, stride=2, padding=1), nn.Tanh(), nn.MaxPool2d(2), nn.BatchNorm2d(3),
        nn.Sequential(nn.Conv2d(3, 4, kernel_size=2, dilation=(1, 1)), nn.Sigmoid(), nn.Flatten()),
        nn.Linear(4, 6), nn.LeakyReLU(0.3), nn.Dropout(0.7, seed=1),
        nn.Linear(6, 5), nn.Softmax(), nn.Linear(5, 3, bias=False),
    ).reset(seed)  # fmt: skip


def batch(rng, samples=7, shape=(5,), classes=3):
    return rng.normal(size=(samples, *shape)), rng.integers(0, classes, samples)


def weights(model):
    return np.concatenate([p.data.ravel() for p in model.parameters()])


def back_propagation(model, loss, x, y, lr, names=None):
    """One step of plain descent, of the named parameters; the loss before it."""
    risk = loss(model(x), y)
    risk.backward()
    SGD([p for name, p in model.named_parameters() if names is None or name in names], lr).step()
    return float(risk)


# One step is back-propagation (LP-23) -----------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("f", TRANSFER)
def test_one_step_is_back_propagation(rng, f, variant, reduction):
    x, y = batch(rng)
    model, twin = perceptron(TRANSFER[f]), perceptron(TRANSFER[f])
    trainer = LocoProp(
        model, CrossEntropy(), variant=variant, activation_lr=0.3, weight_lr=0.5, iterations=1, reduction=reduction
    )
    loss = trainer.step(x, y)
    assert loss == back_propagation(twin, CrossEntropy(), x, y, lr=0.15)
    assert np.abs(weights(model) - weights(perceptron(TRANSFER[f]))).max() > 1e-3
    np.testing.assert_allclose(weights(model), weights(twin), rtol=0, atol=1e-14)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("anchor", ["fixed", "moving"])
def test_one_step_is_back_propagation_through_convolutions_pools_and_normalization(rng, variant, anchor):
    x, y = batch(rng, shape=(1, 8, 8))
    model, twin = convolutional(), convolutional()
    trainer = LocoProp(
        model, CrossEntropy(), variant=variant, activation_lr=0.3, weight_lr=0.5, iterations=1, anchor=anchor
    )
    assert trainer.untrained == ["3.weight", "3.bias"]
    trained = {name for name, _ in model.named_parameters()} - {"3.weight", "3.bias"}
    for _ in range(2):  # with other dropout masks in the second round
        expected = back_propagation(twin, CrossEntropy(), x, y, 0.15, trained)
        assert trainer.step(x, y) == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(weights(model), weights(twin), rtol=0, atol=1e-14)
    np.testing.assert_array_equal(model[3].running_var, twin[3].running_var)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        (BinaryCrossEntropy(), np.array([[0.0, 1.0, 0.25], [1.0, 1.0, 0.0]])),
        (BinaryCrossEntropy(), np.array([2, 0])),
        (SquaredError(), np.array([[0.3, -1.0, 0.5], [2.0, 0.0, 1.0]])),
    ],
)
def test_one_step_is_back_propagation_under_every_link(rng, loss, targets, variant):
    x, _ = batch(rng, samples=2)
    model, twin = perceptron(), perceptron()
    LocoProp(model, loss, variant=variant, activation_lr=2.0, weight_lr=0.05, iterations=1).step(x, targets)
    back_propagation(twin, loss, x, targets, lr=0.1)
    np.testing.assert_allclose(weights(model), weights(twin), rtol=0, atol=1e-14)


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_step_of_sure_and_wrong_logits_is_back_propagation(rng, variant):
    """Probabilities down to e^-60, where dL/dp is huge, and beyond the range of double precision, where it is not."""
    x, y = np.eye(3), np.array([1, 1, 2])
    W = np.array([[60.0, 0, 900], [0, 0, 0], [0, 1, 0]])
    model, twin = (nn.Sequential(nn.Linear(3, 3, bias=False, seed=0)) for _ in range(2))
    for net in (model, twin):
        net[0].weight.data[...] = W
    LocoProp(model, CrossEntropy(), variant=variant, activation_lr=1.0, weight_lr=1.0, iterations=1).step(x, y)
    back_propagation(twin, CrossEntropy(), x, y, lr=1.0)
    flat = variant in ("squared-post", "dual")  # where p is 0 the slope is 0, and these see no way
    seen = slice(0, 2) if flat else slice(None)
    np.testing.assert_allclose(model[0].weight.data[:, seen], twin[0].weight.data[:, seen], rtol=1e-13, atol=1e-13)


def test_the_published_form_of_the_step_sees_what_stands_above_it_not_what_follows(rng):
    """All targets come from one backward pass: the layers' updates do not see one another (LP-27)."""
    x, y = batch(rng)
    model = perceptron()
    LocoProp(model, CrossEntropy(), activation_lr=0.5, weight_lr=0.3, iterations=4).step(x, y)
    frozen = perceptron()
    for layer in (frozen[2], frozen[4]):
        layer.weight.requires_grad = layer.bias.requires_grad = False
    LocoProp(frozen, CrossEntropy(), activation_lr=0.5, weight_lr=0.3, iterations=4).step(x, y)
    np.testing.assert_array_equal(frozen[0].weight.data, model[0].weight.data)
    np.testing.assert_array_equal(frozen[2].weight.data, perceptron()[2].weight.data)


# The iterations, written out (LP-14 to LP-22) ---------------------------------------------------------------


def literal(variant, f, W, inputs, g_y, gamma, eta, tau, T, fixed):
    """LP-22 for one layer, example by example, with explicit Jacobians; the bias is the last column of W."""
    inputs = np.column_stack([inputs, np.ones(len(inputs))])

    def jacobian(a):
        J = f.jacobian(a)
        return J.toarray() if hasattr(J, "toarray") else J

    targets = []
    for x, g in zip(inputs, g_y, strict=True):
        a = W @ x
        start = a if variant in ("squared-pre", "dual") else f.forward(a)
        targets.append(start - gamma * (g @ jacobian(a) if variant in ("squared-pre", "matching") else g))
    moving = W.copy()
    for _ in range(T):
        G = np.zeros_like(W)
        for x, target in zip(inputs, targets, strict=True):
            a = moving @ x
            r = {
                "squared-pre": lambda a=a, t=target: a - t,
                "squared-post": lambda a=a, t=target: jacobian(a).T @ (f.forward(a) - t),
                "matching": lambda a=a, t=target: f.forward(a) - t,
                "dual": lambda a=a, t=target: jacobian(a).T @ (a - t),
            }[variant]()
            G += np.outer(r, x) / len(inputs)
        moving = moving - tau * (eta * G + (moving - W if fixed else 0))
    return moving


@pytest.mark.parametrize("anchor", ["fixed", "moving"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("f", ["tanh", "softmax", "leaky relu"])
def test_iterations_are_those_of_the_formula(rng, f, variant, anchor):
    x, targets = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    model = nn.Sequential(nn.Linear(3, 3), TRANSFER[f]).reset(1)
    augmented = np.column_stack([model[0].weight.data, model[0].bias.data])
    trainer = LocoProp(
        model, SquaredError(), variant=variant, activation_lr=0.4, weight_lr=0.7, iterations=5, anchor=anchor,
        inner_step=0.6,
    )  # fmt: skip
    g_y = 2 * (model(x).data - targets)  # of each example (L-12)
    trainer.step(x, targets)
    expected = literal(variant, TRANSFER[f].operation, augmented, x, g_y, 0.4, 0.7, 0.6, 5, anchor == "fixed")
    arrived = np.column_stack([model[0].weight.data, model[0].bias.data])
    np.testing.assert_allclose(arrived, expected, rtol=0, atol=1e-13)


def test_anchors_agree_in_the_first_step_and_part_in_the_second(rng):
    x, y = batch(rng)
    steps = {}
    for anchor in ("fixed", "moving"):
        for T in (1, 2):
            model = perceptron()
            LocoProp(model, CrossEntropy(), activation_lr=0.5, weight_lr=0.5, iterations=T, anchor=anchor).step(x, y)
            steps[anchor, T] = weights(model)
    np.testing.assert_array_equal(steps["fixed", 1], steps["moving", 1])
    assert np.abs(steps["fixed", 2] - steps["moving", 2]).max() > 1e-3


def test_the_local_step_may_follow_a_schedule(rng):
    x, y = batch(rng)
    seen = []
    model, twin = perceptron(), perceptron()
    keywords = {"activation_lr": 0.5, "weight_lr": 0.5, "iterations": 3}
    LocoProp(model, CrossEntropy(), inner_step=lambda t: seen.append(t) or [0.9, 0.5, 0.0][t], **keywords).step(x, y)
    assert set(seen) == {0, 1, 2}
    keywords["iterations"] = 2  # a step of 0 stands still
    LocoProp(twin, CrossEntropy(), inner_step=LinearDecay(0.9, 9, 4 / 9), **keywords).step(x, y)
    other = perceptron()
    LocoProp(other, CrossEntropy(), inner_step=lambda t: [0.9, 0.5][t], **keywords).step(x, y)
    np.testing.assert_array_equal(weights(model), weights(other))
    assert np.abs(weights(model) - weights(twin)).max() > 1e-6


def test_the_batch_is_averaged_once(rng):
    """A batch that holds each example twice makes the same step: neither targets nor losses see its size (L-12)."""
    x, y = batch(rng)
    for reduction in ("mean", "sum"):
        once, twice = perceptron(), perceptron()
        keywords = {"activation_lr": 0.5, "weight_lr": 0.5, "iterations": 1, "reduction": reduction}
        LocoProp(once, CrossEntropy(), **keywords).step(x, y)
        LocoProp(twice, CrossEntropy(), **keywords).step(np.repeat(x, 2, axis=0), np.repeat(y, 2))
        np.testing.assert_allclose(weights(once), weights(twice), rtol=0, atol=1e-14)


# The minimum (LP-24) ----------------------------------------------------------------------------------------


def test_the_minimizer_of_one_example_is_the_printed_one(rng):
    layer = nn.Linear(4, 3, bias=False, seed=0)
    W, x, a, eta = layer.weight.data, rng.normal(size=(1, 4)), rng.normal(size=(1, 3)), 0.7
    expected = W - eta / (1 + eta * (x**2).sum()) * np.outer(x @ W.T - a, x)
    weight, bias = exact_minimizer(layer, x, a, eta)
    np.testing.assert_allclose(weight, expected, rtol=1e-13)
    assert bias is None


def test_the_minimizer_of_a_batch_is_the_printed_one(rng):
    layer = nn.Linear(4, 3, bias=False, seed=0)
    W, x, a, eta = layer.weight.data, rng.normal(size=(6, 4)), rng.normal(size=(6, 3)), 0.7
    expected = (W / eta + a.T @ x / 6) @ np.linalg.inv(np.eye(4) / eta + x.T @ x / 6)
    np.testing.assert_allclose(exact_minimizer(layer, x, a, eta)[0], expected, rtol=1e-12)
    summed = (W / eta + a.T @ x) @ np.linalg.inv(np.eye(4) / eta + x.T @ x)
    np.testing.assert_allclose(exact_minimizer(layer, x, a, eta, reduction="sum")[0], summed, rtol=1e-12)


LAYERS = {
    "linear": (lambda: nn.Linear(4, 3, seed=0), (6, 4), (6, 3)),
    "linear on sequences": (lambda: nn.Linear(4, 3, seed=0), (6, 2, 4), (6, 2, 3)),
    "convolution": (lambda: nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=1, dilation=(1, 2), seed=0),
                    (3, 2, 6, 5), (3, 3, 3, 5)),
}  # fmt: skip


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_iterations_converge_to_the_minimizer(rng, kind, reduction):
    make, inputs, outputs = LAYERS[kind]
    layer = make()
    x, y = rng.normal(size=inputs), rng.normal(size=outputs)
    scale = 1.0 if reduction == "mean" else 1 / len(x)
    target = layer(x).data - 0.25 * scale * 2 * (layer(x).data - y)
    weight, bias = exact_minimizer(layer, x, target, 0.02, reduction=reduction)
    trainer = LocoProp(
        nn.Sequential(layer), SquaredError(), variant="squared-pre", activation_lr=0.25, weight_lr=0.02, iterations=400,
        inner_step=0.5, reduction=reduction,
    )  # fmt: skip
    start = layer.weight.data.copy()
    trainer.step(x, y)
    assert np.abs(weight - start).max() > 1e-3
    np.testing.assert_allclose(layer.weight.data, weight, rtol=0, atol=1e-12)
    np.testing.assert_allclose(layer.bias.data, bias, rtol=0, atol=1e-12)
    losses = trainer.local_losses["0"]
    assert len(losses) == 401
    assert losses[-1] < losses[0]
    assert (np.diff(losses) <= 1e-12 * losses[0]).all()


def test_a_moving_anchor_interpolates_and_a_fixed_one_does_not(rng):
    """L-4: with the weights of each step as the anchor nothing holds them back."""
    x, y = rng.normal(size=(3, 4)), rng.normal(size=(3, 2))
    missing = {}
    for anchor in ("fixed", "moving"):
        model = nn.Sequential(nn.Linear(4, 2, seed=0))
        trainer = LocoProp(
            model, SquaredError(), variant="squared-pre", activation_lr=0.5, weight_lr=0.1, iterations=4000,
            anchor=anchor,
        )  # fmt: skip
        trainer.step(x, y)
        missing[anchor] = np.abs(model(x).data - y).max()  # the target is y: activation_lr is 1/2, the gradient 2 (.)
    assert missing["moving"] < 1e-10
    assert missing["fixed"] > 1e-2


# Local losses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("anchor", ["fixed", "moving"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("make", [perceptron, convolutional])
def test_the_direction_is_eta_times_the_derivative_of_the_local_loss(rng, make, variant, anchor):
    shape = (5,) if make is perceptron else (1, 8, 8)
    x, y = batch(rng, shape=shape)
    trainer = LocoProp(make(), CrossEntropy(), variant=variant, activation_lr=0.2, weight_lr=0.3, anchor=anchor)
    _, problems = trainer._targets(x, y)
    for problem in problems.values():
        here = [None if w is None else w + rng.normal(scale=0.1, size=w.shape) for w in problem.weights]
        rows = problem.direction(here)
        for k, row in zip(problem.trained, rows, strict=True):
            way = rng.normal(size=row.shape)

            def along(h, k=k, way=way, here=here, problem=problem):
                return problem.loss([w + h * way if j == k else w for j, w in enumerate(here)])

            h = 1e-4
            slope = (8 * (along(h) - along(-h)) - (along(2 * h) - along(-2 * h))) / (12 * h)
            assert (row * way).sum() / 0.3 == pytest.approx(slope, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("variant", VARIANTS)
def test_local_losses_fall_and_are_reported_for_each_step(rng, variant):
    x, y = batch(rng)
    trainer = LocoProp(perceptron(), CrossEntropy(), variant=variant, activation_lr=0.1, weight_lr=0.1, iterations=6)
    assert trainer.local_losses == {}
    trainer.step(x, y)
    losses = trainer.local_losses
    assert list(losses) == ["0", "2", "4"]
    for values in losses.values():
        assert values.shape == (7,)
        assert values[-1] < values[0]
        if variant in CONVEX:
            assert (np.diff(values) < 1e-14).all()


def test_the_proximal_term_is_part_of_the_loss_at_a_fixed_anchor(rng):
    x, y = batch(rng)
    model = nn.Sequential(nn.Linear(5, 3, seed=0))
    trainer = LocoProp(model, CrossEntropy(), variant="squared-pre", activation_lr=0.5, weight_lr=0.5, iterations=2)
    before = [p.data for p in model.parameters()]
    logits = model(x).data
    target = logits - 0.5 * (mg.softmax(logits).data - np.eye(3)[y])
    trainer.step(x, y)
    distance = ((model(x).data - target) ** 2).sum() / 2 / len(x)
    proximal = sum(((p.data - w) ** 2).sum() for p, w in zip(model.parameters(), before, strict=True)) / (2 * 0.5)
    losses = trainer.local_losses["0"]
    assert losses[0] == pytest.approx(((logits - target) ** 2).sum() / 2 / len(x), rel=1e-12)
    assert losses[-1] == pytest.approx(distance + proximal, rel=1e-12)
    assert proximal > 1e-4


def test_looking_at_local_losses_changes_nothing(rng):
    x, y = batch(rng)
    looked, twin = perceptron(), perceptron()
    trainer, other = (LocoProp(m, CrossEntropy(), activation_lr=0.5, weight_lr=0.5) for m in (looked, twin))
    for _ in range(2):
        trainer.step(x, y)
        first, second = trainer.local_losses, trainer.local_losses
        other.step(x, y)
        for name, values in first.items():
            np.testing.assert_array_equal(values, second[name])
    np.testing.assert_array_equal(weights(looked), weights(twin))


# Inner optimizers -------------------------------------------------------------------------------------------


def test_plain_descent_is_sgd_with_rate_1(rng):
    x, y = batch(rng)
    plain, given = perceptron(), perceptron()
    keywords = {"activation_lr": 0.5, "weight_lr": 0.5, "inner_step": 0.7}
    LocoProp(plain, CrossEntropy(), **keywords).step(x, y)
    LocoProp(given, CrossEntropy(), inner=lambda p: SGD(p, lr=1.0), **keywords).step(x, y)
    np.testing.assert_array_equal(weights(plain), weights(given))


def test_the_published_setting_is_the_published_recursion(rng):
    """TensorFlow's RMSProp on sums of local gradients; targets from the mean loss; a rate that falls in each round."""
    T, rate, mu, decay, eps, gamma = 4, 1e-2, 0.999, 0.9, 1e-5, 10.0
    x, y = batch(rng)
    model = nn.Sequential(nn.Linear(5, 3, bias=False, seed=0))
    trainer = LocoProp(
        model, CrossEntropy(), variant="matching", activation_lr=gamma, weight_lr=1.0, iterations=T, anchor="moving",
        reduction="sum", inner_step=LinearDecay(1.0, T),
        inner=lambda p: RMSprop(p, lr=rate, alpha=decay, eps=eps, momentum=mu, initial=1.0, eps_inside=True),
    )  # fmt: skip
    W = model[0].weight.data.copy()
    square, velocity = np.ones_like(W), np.zeros_like(W)
    for _ in range(3):
        trainer.step(x, y)
        p = mg.softmax(x @ W.T).data
        target = p - gamma * (p - np.eye(3)[y]) / len(x)
        for t in range(T):
            G = (mg.softmax(x @ W.T).data - target).T @ x
            square = decay * square + (1 - decay) * G**2
            velocity = mu * velocity + rate * max(1 - t / T, 1 / 4) * G / np.sqrt(square + eps)
            W = W - velocity
        np.testing.assert_allclose(model[0].weight.data, W, rtol=0, atol=1e-13)


@pytest.mark.parametrize("inner", [
    lambda p: Adam(p, lr=0.01),
    lambda p: SGD(p, lr=lambda n: 0.5 / (1 + n), momentum=0.9),
    lambda p: RMSprop(p, lr=0.01, momentum=0.9),
])  # fmt: skip
def test_saved_rounds_go_on_with_the_same_bits(rng, inner):
    x, y = batch(rng)
    keywords = {"activation_lr": 0.5, "weight_lr": 0.5, "iterations": 3, "inner": inner}
    through, stopped, later = perceptron(), perceptron(), perceptron(seed=9)
    trainer = LocoProp(through, CrossEntropy(), **keywords)
    for _ in range(4):
        trainer.step(x, y)
    first = LocoProp(stopped, CrossEntropy(), **keywords)
    for _ in range(2):
        first.step(x, y)
    second = LocoProp(later, CrossEntropy(), **keywords)
    later.load_state_dict(stopped.state_dict())
    second.load_state_dict(first.state_dict())
    for _ in range(2):
        second.step(x, y)
    np.testing.assert_array_equal(weights(later), weights(through))
    assert second.rounds == 4
    assert second.optimizers["2"].steps == 12
    with pytest.raises(ValueError, match="as it was when it was saved"):
        LocoProp(nn.Sequential(nn.Linear(5, 3)), CrossEntropy(), **keywords).load_state_dict(first.state_dict())


# What a round leaves alone ----------------------------------------------------------------------------------


def test_a_problem_solved_twice_gives_the_same_bits_and_stays_as_it_is(rng):
    x, y = batch(rng, shape=(1, 8, 8))
    trainer = LocoProp(convolutional(), CrossEntropy(), activation_lr=0.5, weight_lr=0.5, inner=lambda p: Adam(p))
    trainer.step(x, y)
    _, problems = trainer._targets(x, y)
    for problem in problems.values():
        before = pickle.dumps(problem)
        first = solve(problem)
        assert pickle.dumps(problem) == before
        second = solve(pickle.loads(before))
        for one, two in zip([first.weights, *first.memory], [second.weights, *second.memory], strict=True):
            np.testing.assert_array_equal(np.concatenate(one, axis=None), np.concatenate(two, axis=None))
        assert not any(np.shares_memory(a, b) for a in first.weights for b in problem.weights if b is not None)


def everything(model, trainer):
    generators = [g.bit_generator.state for g in model.generators()]
    return pickle.dumps((model.state_dict(), trainer.state_dict(), generators))


def test_a_round_that_fails_changes_nothing(rng, monkeypatch):
    x, y = batch(rng, shape=(1, 8, 8))
    model = convolutional()
    trainer = LocoProp(model, CrossEntropy(), activation_lr=0.5, weight_lr=0.5, inner=lambda p: Adam(p))
    trainer.step(x, y)
    before = everything(model, trainer)

    def fails_at_the_third(problem, calls=[]):  # noqa: B006
        calls.append(problem)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return solve(problem)

    with monkeypatch.context() as patch:
        patch.setattr(locoprop, "solve", fails_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            trainer.step(x, y)
    assert everything(model, trainer) == before
    with pytest.raises(ValueError, match="labels"):
        trainer.step(x, y + 3)
    assert everything(model, trainer) == before
    trainer.step(x, y)
    assert everything(model, trainer) != before


def test_what_is_not_finite_is_refused_and_changes_nothing(rng):
    x, _ = batch(rng)
    model = perceptron()
    start = weights(model)
    trainer = LocoProp(model, SquaredError(), activation_lr=1.0, weight_lr=1e6, iterations=100)
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=r"layer \d diverged.*inner_step"):
        trainer.step(x, rng.normal(size=(7, 3)))
    with pytest.raises(FloatingPointError, match="the loss is"):
        LocoProp(model, SquaredError(), activation_lr=1.0, weight_lr=1.0).step(x, np.full((7, 3), np.nan))
    np.testing.assert_array_equal(weights(model), start)


def test_frozen_arrays_stay(rng):
    x, y = batch(rng)
    model, start = perceptron(), perceptron()
    model[0].bias.requires_grad = model[2].weight.requires_grad = model[2].bias.requires_grad = False
    trainer = LocoProp(model, CrossEntropy(), activation_lr=0.5, weight_lr=0.5, inner=lambda p: Adam(p))
    assert trainer.untrained == ["0.bias", "2.weight", "2.bias"]
    for _ in range(2):
        trainer.step(x, y)
    for name, parameter in model.named_parameters():
        same = np.array_equal(parameter.data, start.state_dict()[name])
        assert same is (name in trainer.untrained), name


@pytest.fixture
def two_threads():
    """Kernels and BLAS on two threads each, where they can have them."""
    before = kernels.num_threads()
    kernels.set_num_threads(2)
    with threadpool_limits(2):
        yield kernels.num_threads()
    kernels.set_num_threads(before)


def test_tasks_run_on_one_thread_and_leave_as_many_as_there_were(rng, two_threads, monkeypatch):
    x, y = batch(rng)
    pools = threadpool_info()
    direction, seen = locoprop.Problem.direction, []

    def watched(problem, weights):
        blas = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
        seen.append([kernels.num_threads(), *blas])
        return direction(problem, weights)

    monkeypatch.setattr(locoprop.Problem, "direction", watched)
    trainer = LocoProp(perceptron(), CrossEntropy(), activation_lr=0.5, weight_lr=0.5)
    trainer.step(x, y)
    assert np.unique(seen) == [1]
    assert kernels.num_threads() == two_threads
    assert threadpool_info() == pools
    monkeypatch.setattr(locoprop.Problem, "direction", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trainer.step(x, y)
    assert kernels.num_threads() == two_threads


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_training_lowers_the_loss_in_the_dtype_of_the_network(rng, variant, dtype):
    x, y = batch(rng, samples=20)
    x = x.astype(dtype)
    model = perceptron(dtype=dtype)
    trainer = LocoProp(model, CrossEntropy(), variant=variant, activation_lr=0.3, weight_lr=0.3)
    losses = [trainer.step(x, y) for _ in range(60)]
    assert losses[-1] < 0.7 * losses[0]
    assert {p.dtype for p in model.parameters()} == {np.dtype(dtype)}
    _, problems = trainer._targets(x, y)
    assert {problem.target.dtype for problem in problems.values()} == {np.dtype(dtype)}


# Which transfer function a layer has, and what is refused ---------------------------------------------------


def names(model, loss):
    trainer = LocoProp(model, loss, activation_lr=1.0, weight_lr=1.0)
    return [type(layer.f).__name__ for layer in trainer.layers]


def test_the_last_layer_takes_the_link_of_the_loss():
    model = [nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3)]
    for loss, link in ((CrossEntropy(), "Softmax"), (BinaryCrossEntropy(), "Sigmoid"), (SquaredError(), "LeakyReLU")):
        assert names(nn.Sequential(*model), loss) == ["ReLU", link]


def test_every_other_layer_takes_what_follows_it():
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(4, 3), nn.Dropout(0.5, seed=0), nn.Tanh(), nn.Linear(3, 3), nn.Sigmoid(),
        nn.Sequential(nn.Linear(3, 2)), nn.Tanh(),
    )  # fmt: skip
    assert names(model, MaxMargin()) == ["LeakyReLU", "Sigmoid", "Tanh"]


@pytest.mark.parametrize(
    ("model", "loss", "words"),
    [
        (lambda: nn.Linear(3, 2), CrossEntropy(), "Sequential"),
        (lambda: nn.Sequential(nn.ReLU()), CrossEntropy(), "no affine layer"),
        (lambda: nn.Sequential(nn.Linear(3, 2)), MaxMargin(), "MatchingLoss"),
        (lambda: nn.Sequential(nn.Linear(3, 2)), CrossEntropy("sum"), "reduction='mean'"),
        (lambda: nn.Sequential(nn.Linear(3, 2), nn.Node(2, 2)), CrossEntropy(), "Node"),
        (lambda: nn.ternary(nn.Sequential(nn.Linear(4, 4))), CrossEntropy(), "quantizer"),
        (lambda: nn.Sequential(*[nn.Linear(3, 3)] * 2), CrossEntropy(), "share"),
    ],
)
def test_networks_that_have_no_local_problems_are_refused(model, loss, words):
    with pytest.raises((ValueError, TypeError), match=words):
        LocoProp(model(), loss, activation_lr=1.0, weight_lr=1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"variant": "squared"}, {"anchor": "none"}, {"reduction": "max"}, {"activation_lr": 0.0}, {"weight_lr": -1.0},
        {"iterations": 0}, {"iterations": 2.5}, {"inner_step": 0.0},
    ],
)  # fmt: skip
def test_numbers_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
        LocoProp(perceptron(), CrossEntropy(), **({"activation_lr": 1.0, "weight_lr": 1.0} | wrong))


def test_an_inner_that_is_no_optimizer_is_refused():
    with pytest.raises(TypeError, match="expected inner to return an optimizer"):
        LocoProp(perceptron(), CrossEntropy(), activation_lr=1.0, weight_lr=1.0, inner=lambda p: 0.1)
