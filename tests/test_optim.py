"""Optimizers against hand-computed steps, closed forms and, where it is installed, PyTorch."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.optim import SGD, Adam, LinearDecay, MomentumSchedule, ReduceOnPlateau, RMSprop, WarmupLinear


def leaf(*values):
    return nn.Parameter(np.array(values, dtype=float), "w")


def descend(optimizer, w, gradients):
    """The path of w under given gradients."""
    path = []
    for g in gradients:
        w.grad = np.array(g, dtype=float)
        optimizer.step()
        path.append(w.data.copy())
    return np.array(path)


# SGD --------------------------------------------------------------------------------------------------------


def test_momentum_by_hand():
    """v <- mu v - lr g, w <- w + v (TC-16)."""
    w = leaf(1.0)
    path = descend(SGD([w], lr=0.1, momentum=0.5), w, [[1.0], [2.0], [0.0]])
    np.testing.assert_allclose(path.ravel(), [0.9, 0.9 - 0.05 - 0.2, 0.65 - 0.125], rtol=1e-15)


def test_the_learning_rate_is_inside_the_velocity():
    """T-14: the old velocity keeps its size when the rate is lowered; PyTorch's would shrink with it."""
    w = leaf(0.0)
    optimizer = SGD([w], lr=1.0, momentum=0.5)
    descend(optimizer, w, [[1.0]])
    optimizer.lr = 0.1
    descend(optimizer, w, [[1.0]])
    assert w.data[0] == pytest.approx(-1 + (0.5 * -1 - 0.1), rel=1e-15)


def test_the_first_step_uses_mu_0_and_each_step_the_next():
    seen = []
    w = leaf(0.0)
    optimizer = SGD([w], lr=1.0, momentum=lambda t: seen.append(t) or [0.9, 0.5, 0.25][t])
    path = descend(optimizer, w, [[1.0], [1.0], [1.0]])
    assert seen == [0, 1, 2]
    v = [-1.0, -1.5, -1.375]
    np.testing.assert_allclose(path.ravel(), np.cumsum(v), rtol=1e-15)


def test_heavy_ball_on_a_parabola_follows_its_recursion():
    """On L = k w^2 / 2: w_(t+1) = (1 + mu - lr k) w_t - mu w_(t-1), a sum of powers of the two roots."""
    k, lr, mu = 2.0, 0.3, 0.6
    w = leaf(1.0)
    optimizer = SGD([w], lr=lr, momentum=mu)
    path = [1.0]
    for _ in range(20):
        ((w * w).sum() * (k / 2)).backward()
        optimizer.step()
        path.append(w.data[0])
    r, s = np.roots([1, -(1 + mu - lr * k), mu])
    A = (path[1] - s) / (r - s)
    closed = (A * r ** np.arange(21) + (1 - A) * s ** np.arange(21)).real
    np.testing.assert_allclose(path, closed, atol=1e-13)


def test_plain_descent_keeps_nothing():
    w = leaf(1.0)
    optimizer = SGD([w], lr=0.5, weight_decay=0.1)
    np.testing.assert_allclose(descend(optimizer, w, [[1.0]]), [[1 - 0.5 * (1 + 0.1)]], rtol=1e-15)
    assert not optimizer.state


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize(
    ("ours", "theirs", "settings"),
    [
        (SGD, "SGD", {"lr": 0.1}),
        (SGD, "SGD", {"lr": 0.1, "momentum": 0.9}),
        (SGD, "SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
        (RMSprop, "RMSprop", {"lr": 0.02, "alpha": 0.9, "eps": 1e-3}),
        (RMSprop, "RMSprop", {}),
        (RMSprop, "RMSprop", {"lr": 0.02, "momentum": 0.9}),
        (Adam, "Adam", {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3}),
        (Adam, "Adam", {}),
    ],
)
def test_trajectories_are_pytorch_s(ours, theirs, settings, weight_decay):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    start = [rng.normal(size=(3, 2)), rng.normal(size=4)]
    mine = [nn.Parameter(a) for a in start]
    other = [torch.tensor(a, requires_grad=True) for a in start]
    optimizer = ours(mine, weight_decay=weight_decay, **settings)
    peer = getattr(torch.optim, theirs)(other, weight_decay=weight_decay, **settings)
    for _ in range(25):
        for p, q in zip(mine, other, strict=True):
            g = rng.normal(size=p.shape)
            p.grad, q.grad = g.copy(), torch.tensor(g)
        optimizer.step()
        peer.step()
        for p, q in zip(mine, other, strict=True):
            np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-11, atol=1e-13)


def test_rmsprop_by_hand():
    """TensorFlow's first definition: the mean square begins at 1, eps is inside the root, the rate inside v."""
    w = leaf(0.0)
    optimizer = RMSprop([w], lr=0.5, alpha=0.75, eps=0.25, momentum=0.5, initial=1.0, eps_inside=True)
    (first,) = descend(optimizer, w, [[2.0]])
    v = -0.5 * 2 / math.sqrt(0.75 + 0.25 * 4 + 0.25)
    assert first[0] == pytest.approx(v, rel=1e-15)
    optimizer.lr = 1.0  # the old velocity keeps its size (T-14)
    (second,) = descend(optimizer, w, [[1.0]])
    u = 0.5 * v - 1 / math.sqrt(0.75 * 1.75 + 0.25 * 1 + 0.25)
    assert second[0] == pytest.approx(v + u, rel=1e-15)
    assert list(optimizer.state) == ["square", "velocity"]
    assert list(RMSprop([w]).state) == ["square"]


@pytest.mark.parametrize("make", [
    lambda p: SGD(p, 0.1, 0.9, weight_decay=0.1), RMSprop, lambda p: RMSprop(p, momentum=0.5), Adam
])  # fmt: skip
def test_a_step_changes_in_place_keeps_float32_and_leaves_the_gradient(make):
    w = nn.Parameter(np.ones(3, dtype=np.float32))
    data, g = w.data, np.ones(3, dtype=np.float32)
    optimizer = make([w])
    w.grad = g
    optimizer.step()
    assert w.data is data
    assert data.dtype == np.float32
    assert (data < 1).all()
    np.testing.assert_array_equal(g, 1)


# What they refuse -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda w: SGD([w], lr=0), "lr=0"),
        (lambda w: SGD([w], lr=-1.0), "lr=-1"),
        (lambda w: SGD([w], lr=math.nan), "lr=nan"),
        (lambda w: SGD([w], lr=math.inf), "lr=inf"),
        (lambda w: SGD([w], lr="fast"), "fast"),
        (lambda w: SGD([w], 0.1, momentum=1.0), "momentum=1.0"),
        (lambda w: SGD([w], 0.1, momentum=-0.1), "momentum=-0.1"),
        (lambda w: SGD([w], 0.1, nesterov=True), "nesterov"),
        (lambda w: SGD([w], 0.1, weight_decay=-1), "weight_decay"),
        (lambda w: SGD([], 0.1), "no parameters"),
        (lambda w: SGD(w, 0.1), "model.parameters()"),
        (lambda w: SGD(nn.Linear(2, 2), 0.1), "model.parameters()"),
        (lambda w: SGD([w.data], 0.1), "ndarray"),
        (lambda w: SGD([w * 2], 0.1), "result of an operation"),
        (lambda w: SGD([w, w], 0.1), "twice"),
        (lambda w: Adam([w], betas=(0.9, 1.0)), "betas[1]"),
        (lambda w: RMSprop([w], alpha=1.0), "alpha"),
        (lambda w: RMSprop([w], momentum=1.0), "momentum=1.0"),
        (lambda w: RMSprop([w], initial=-1.0), "initial=-1.0"),
        (lambda w: MomentumSchedule(maximum=1.0), "maximum"),
        (lambda w: MomentumSchedule(period=0), "period"),
        (lambda w: WarmupLinear(0.1, 10, 10), "warmup=10"),
        (lambda w: LinearDecay(0.0, 10), "maximum=0.0"),
        (lambda w: LinearDecay(1.0, 10, least=2.0), "least=2.0"),
        (lambda w: ReduceOnPlateau(factor=10), "factor=10"),
    ],
)
def test_nonsense_is_refused(make, words):
    with pytest.raises((ValueError, TypeError)) as caught:
        make(leaf(1.0))
    assert words in str(caught.value)


def test_a_schedule_that_leaves_the_range_is_refused_at_its_step():
    w = leaf(1.0)
    w.grad = np.ones(1)
    with pytest.raises(ValueError, match=r"momentum=1\.5"):
        SGD([w], 0.1, momentum=lambda t: 1.5).step()


def test_a_missing_gradient_is_an_error_and_nothing_moves():
    one, two = leaf(1.0), leaf(2.0)
    optimizer = SGD([one, two], lr=0.1)
    one.grad = np.ones(1)
    with pytest.raises(ValueError, match=r"parameter 1 \(w, \(1,\)\) has no gradient"):
        optimizer.step()
    assert one.data[0] == 1
    assert optimizer.steps == 0
    two.requires_grad = False  # frozen: it stays, and needs no gradient
    optimizer.step()
    assert (one.data[0], two.data[0]) == (0.9, 2)
    optimizer.zero_grad()
    assert one.grad is None


# Schedules --------------------------------------------------------------------------------------------------


def test_momentum_schedule():
    """.5, .75, .8333, .875, .9 for 250 steps each; the cap .99 is reached at 12250 (TC-17)."""
    mu = MomentumSchedule()
    assert [mu(t) for t in (0, 249, 250, 499, 500, 750, 1000)] == [0.5, 0.5, 0.75, 0.75, 1 - 1 / 6, 0.875, 0.9]
    assert mu(12249) < 0.99
    assert mu(12250) == mu(10**6) == 0.99
    printed = [min(1 - 2 ** (-1 - math.log2(t // 250 + 1)), 0.99) for t in range(0, 15000, 50)]
    np.testing.assert_allclose([mu(t) for t in range(0, 15000, 50)], printed, rtol=1e-14)
    assert MomentumSchedule(0.6, period=2)(2) == 0.6


def test_warmup_linear():
    rate = WarmupLinear(0.8, warmup=4, total=12)
    np.testing.assert_allclose([rate(t) for t in range(4)], [0.2, 0.4, 0.6, 0.8])
    np.testing.assert_allclose([rate(t) for t in (4, 8, 11, 12, 99)], [0.8, 0.4, 0.1, 0, 0])
    w = leaf(0.0)
    optimizer = SGD([w], lr=rate)
    path = descend(optimizer, w, [[1.0]] * 14)
    assert path[-1] == pytest.approx(-sum(rate(t) for t in range(12)))
    assert optimizer.lr == 0
    assert optimizer.scheduled


def test_linear_decay():
    rate = LinearDecay(2.0, 10)
    np.testing.assert_allclose([rate(t) for t in (0, 1, 5, 7, 8, 9, 10, 99)], [2, 1.8, 1, 0.6, 0.5, 0.5, 0.5, 0.5])
    assert LinearDecay(1.0, 4, least=0.0)(9) == 0


def test_reduce_on_plateau():
    plateau = ReduceOnPlateau(factor=0.1, patience=2, threshold=0.01)
    losses = [1.0, 0.5, 0.499, 0.499, 0.499, 0.499, 0.4, 0.3]  # 0.499 is not 1% better
    assert [plateau(loss) for loss in losses] == [1, 1, 1, 1, 0.1, 1, 1, 1]
    negative = ReduceOnPlateau(patience=0)  # losses below 0 improve downwards too
    assert [negative(loss) for loss in (-1.0, -2.0, -2.0)] == [1, 1, 0.1]


def test_reduce_on_plateau_is_pytorch_s():
    torch = pytest.importorskip("torch")
    peer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(peer, factor=0.5, patience=3, threshold=0.05)
    plateau, lr = ReduceOnPlateau(factor=0.5, patience=3, threshold=0.05), 1.0
    for loss in np.random.default_rng(0).uniform(0.5, 1, size=60):
        schedule.step(loss)
        lr *= plateau(loss)
        assert lr == peer.param_groups[0]["lr"]
    assert lr < 1e-3


# State ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [lambda p: SGD(p, 0.1, MomentumSchedule(period=2), nesterov=True), RMSprop, Adam, lambda p: SGD(p, 0.1)]
)
def test_a_restored_optimizer_goes_on_with_the_same_bits(make):
    gradients = np.random.default_rng(0).normal(size=(8, 3))
    w = leaf(1.0, 2.0, 3.0)
    whole = descend(make([w]), w, gradients)
    w = leaf(1.0, 2.0, 3.0)
    first = make([w])
    first.lr = first.lr  # assignable
    descend(first, w, gradients[:4])
    state, second = first.state_dict(), make([w])
    second.load_state_dict(state)
    rest = descend(second, w, gradients[4:])
    np.testing.assert_array_equal(rest, whole[4:])


def test_a_state_of_another_optimizer_is_refused():
    w = leaf(1.0)
    with pytest.raises(ValueError, match=r"velocity\.0"):
        SGD([w], 0.1, 0.9).load_state_dict(SGD([w], 0.1).state_dict())
    with pytest.raises(ValueError, match=r"mean\.0"):
        Adam([w]).load_state_dict(Adam([leaf(1.0, 2.0)]).state_dict())


def test_optimizers_train_a_network():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 2))
    labels = (x[:, 0] * x[:, 1] > 0).astype(int)  # exclusive or: not linear
    for make in (lambda p: SGD(p, 0.3, 0.9), lambda p: RMSprop(p, 0.01), lambda p: Adam(p, 0.03)):
        model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2)).reset(1)
        optimizer = make(model.parameters())
        for _ in range(200):
            mg.losses.CrossEntropy()(model(x), labels).backward()
            optimizer.step()
        assert (model(x).data.argmax(axis=1) == labels).mean() > 0.95
