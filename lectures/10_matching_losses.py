# %% [markdown]
# # 10. Matching losses and Bregman divergences
#
# *A layer ends in a function $f$ and there is a target for its output. Which loss goes with $f$?*
#
# The sigmoid is used with the binary cross-entropy, softmax with the cross-entropy, the identity with the
# squared error. Everybody knows these pairs, and in each of them the gradient comes out as the same simple
# thing, output minus target (twice that, for the squared error without its ½). That is no coincidence and no
# luck. There is one construction behind all three, which gives a loss to *every* function that never falls, a
# convex one; and in the end you will bring a function of your own, and get its loss.
#
# The construction is old (Auer, Herbster and Warmuth 1995; Bregman 1967); the notation here is that of US
# 2022/0253713, which trains networks layer by layer with it.

# %%
import textwrap

import numpy as np
import sympy as sp

import minigrad as mg
from minigrad import transfer
from minigrad.losses import (
    BinaryCrossEntropy,
    BregmanDivergence,
    CrossEntropy,
    MatchingLoss,
    SquaredError,
)

# %% [markdown]
# ## Squared error after a sigmoid
#
# Start with what one would try first. A neuron has a pre-activation $\hat a$, its output is $\sigma(\hat a)$,
# and it should be $y$. Take the squared error. Two inputs, 10 and 1, with targets 0.3 and 0.95, and a single
# weight $w$; here is the sum of the two losses as a function of $w$, and a few descents.

# %%
inputs, targets = np.array([10.0, 1.0]), np.array([0.3, 0.95])
squared = SquaredError(reduction="sum")
matching = MatchingLoss(transfer.Sigmoid(), reduction="sum")


def risk(loss, w):
    """The sum of the losses of the two samples, a tensor, for the weight w."""
    a_hat = w * inputs
    return loss(mg.sigmoid(a_hat) if loss is squared else a_hat, targets)


def descend(loss, w, steps=1000, lr=0.05):
    """Where plain descent is after so many steps."""
    for _ in range(steps):
        w = mg.Tensor(w, requires_grad=True)
        risk(loss, w).backward()
        w = float(w.data) - lr * float(w.grad)
    return w


starts = (-3.0, 1.0, 5.0)
ends = {loss: [descend(loss, w) for w in starts] for loss in (squared, matching)}
print("squared error:  from", starts, "to", np.round(ends[squared], 2))
print("matching loss:  from", starts, "to", np.round(ends[matching], 2))

# %% tags=["hide-input"]
def draw_risk(ax, loss, colour):
    """The risk against w, and where descents start and end."""
    w = np.linspace(-4, 6, 401)
    ax.plot(w, [risk(loss, one).item() for one in w], color="black", linewidth=2.5)
    for start, end, marker in zip(starts, ends[loss], "os^", strict=True):
        for at, filled in ((start, False), (end, True)):
            ax.plot(at, risk(loss, at).item(), marker, markersize=12, markeredgewidth=2, clip_on=False,
                    color=mg.plots.OKABE_ITO[colour], markerfacecolor=None if filled else "white")  # fmt: skip
    ax.set_xlabel("weight w", fontsize=16)
    ax.tick_params(labelsize=14)
    ax.spines[["top", "right"]].set_visible(False)


figure = mg.plots.figure((14, 5), dpi=75)
panels = figure.subplots(1, 2)
for ax, loss, colour, title in zip(
    panels, (squared, matching), ("vermilion", "blue"), ("squared error", "matching loss"), strict=True
):
    draw_risk(ax, loss, colour)
    ax.set_title(f"{title}: open, starts; filled, ends", fontsize=16)
figure

# %% [markdown]
# On the left a narrow valley, and behind a ridge another one, so shallow that it is rather a plain. Where
# descent ends depends on where it starts, and on the plain hardly anything moves: after a thousand steps the
# triangle has not got away from its place. With more weights it gets worse: the number of valleys of a single
# neuron can grow exponentially with them (Auer, Herbster and Warmuth 1995). On the right, the same neuron and
# the same targets, with the loss that this lecture is about. One valley, and slopes that do not tire.
#
# ## Why the plains are flat
#
# The derivative of the squared error is
#
# $$\frac{\partial}{\partial\hat a}\big(f(\hat a) - y\big)^2 = 2\,\big(f(\hat a) - y\big)\, f'(\hat a),$$
#
# and the culprit is the last factor. Far out the sigmoid is flat, $f'(\hat a) \approx 0$, and the more wrong
# the neuron is, the less it hears of it.

# %%
f = transfer.Sigmoid()
for a_hat in (0.0, -2.0, -5.0, -10.0, -20.0):
    error = f.value(a_hat) - 1  # for a target of 1
    slope = 2 * error * f.derivative(a_hat)
    print(f"a_hat = {a_hat:5}: output minus target {error:.4f}, slope {slope:.2e}")

# %% [markdown]
# Let us turn the question around. The gradient that we *wish* for is the error itself,
#
# $$\frac{\partial M}{\partial \hat a} = f(\hat a) - y ,$$
#
# large where the neuron is wrong, zero where it is right. A function with a given derivative is found by
# integration. With $y = f(a)$, for the $a$ that would have been right, start where the loss shall be zero and
# integrate:
#
# $$M(\hat a, a) = \int_a^{\hat a} \big(f(t) - f(a)\big)\, dt .$$
#
# This is the *matching loss* of $f$ (LP-12), and it is an area: that between the curve and the level of the
# target, on the way from $a$ to $\hat a$.

# %%
mg.plots.matching_loss(transfer.Sigmoid(), a_hat=2.5, a=-1.0).figure

# %% [markdown]
# Everything can be read off the picture. Go to the right: as long as $f$ does not fall, the curve is above
# the level, and the area is positive. Go to the left: the curve is below, but the integral runs backwards,
# and is positive again. So $M \ge 0$, and, $f$ being continuous, it is zero exactly where $f(\hat a) = f(a)$.
#
# And the slope $f(\hat a) - f(a)$ never falls as $\hat a$ grows, which means that *$M$ is convex in
# $\hat a$.* Since $\hat a = Wx$ is linear in the weights, it is convex in those too. One valley.
#
# Both need one assumption only, that $f$ never falls. (The patent does not say it; erratum L-14.)

# %%
a_hat, a = np.linspace(-6, 6, 241), 0.7
for one in transfer.TABLE:
    if one.name != "softmax":
        M = one.matching_loss(a_hat, a)
        assert M.min() >= 0
        assert np.diff(M, 2).min() > -1e-12  # second differences: convex
        print(f"{one.name:12} M at -6, 0, 6: {M[0]:8.4f} {M[120]:8.4f} {M[240]:8.4f}")

# %% [markdown]
# ## The same with $F$
#
# Let $F$ be an integral of $f$, $F' = f$; as $f$ never falls, $F$ is convex. Then
#
# $$M(\hat a, a) = F(\hat a) - F(a) - f(a)\,(\hat a - a) .$$
#
# Here is table 1 of the patent, computed from the formulas. As printed it lacks $F$ for the arc tangent, and
# $f$ and $F$ for the ELU; those are derived (erratum L-5). (In the row of the softplus the $F$ is a
# dilogarithm, not the function that SciPy calls `spence`, though the patent has that name; erratum L-6.)

# %%
mg.tables.matching_losses()

# %%
four = [transfer.Sigmoid(), transfer.Tanh(), transfer.ReLU(), transfer.Step()]
mg.plots.matching_losses(four)[0, 0].figure

# %% [markdown]
# The last row is a surprise. The step function has no derivative to speak of, and a squared error after it
# can learn nothing. Its matching loss is $\max(-\hat a, 0)$ for a target of 1: that is the criterion of
# Rosenblatt's perceptron, of 1958. Convex, with a gradient that does learn, because it is $f(\hat a) - y$ and
# no $f'$ is in it.
#
# ## Old friends
#
# Now the three pairs from the beginning. The identity has $F = a^2/2$, and its matching loss is half the
# squared error. Sigmoid and softmax take a line each: $F = \log(1 + e^a)$, and $F = \log\sum_k e^{a_k}$, a
# function of a vector, with $f$ its gradient. Put in labels, $y = 1$, or $y = e_c$:

# %%
rng = np.random.default_rng(0)
z, labels = 3 * rng.normal(size=(6, 4)), rng.integers(0, 4, 6)
one_hot = mg.data.one_hot(labels, 4)
target = rng.normal(size=(6, 4))
identity, sigmoid, softmax = (MatchingLoss(f) for f in (transfer.Linear(), transfer.Sigmoid(), transfer.Softmax()))
pairs = {
    "identity, half the squared error": (identity(z, target), SquaredError()(z, target) / 2),
    "sigmoid, binary cross-entropy": (sigmoid(z, one_hot), BinaryCrossEntropy()(z, labels)),
    "softmax, cross-entropy": (softmax(z, one_hot), CrossEntropy()(z, labels)),
}
for name, (one, other) in pairs.items():
    assert np.isclose(one.item(), other.item(), rtol=1e-12)
    print(f"{name:34} {one.item():.12f} {other.item():.12f}")

# %% [markdown]
# Cross-entropy came out of codes in lecture 7, and of the wish for a better gradient here. It is the same
# loss.
#
# (Softmax is no function of one number, though the patent's table calls all its entries element-wise. Nor is
# its $F$ strictly convex: logits that differ by a constant have the same output, and matching loss zero;
# erratum L-7.)
#
# ## Targets at the end of the range
#
# There was a cheat. For $y = 1$ there is no $a$ with $\sigma(a) = 1$, and the step function has no inverse at
# all. How did the library compute the loss? By another form, which never mentions $a$. Define the *conjugate*
# of $F$,
#
# $$F^*(y) = \sup_a\, \big(y\,a - F(a)\big) .$$
#
# The supremum is where the derivative is zero, $y = f(a)$, if there is such a place. So for $y = f(a)$ we
# have $F^*(y) = y\,a - F(a)$, and the matching loss becomes
#
# $$M = F(\hat a) + F^*(y) - y\,\hat a .$$
#
# That this is never negative is the definition of the supremum, and is called the inequality of Fenchel and
# Young. It needs nothing but $y$. At the ends of the range of the sigmoid $F^*$ is 0, and $M$ is what we
# want:

# %%
mg.tables.formulas("matching_loss")

# %%
f, grid = transfer.Sigmoid(), np.linspace(-60, 60, 24_001)
for y in (0.3, 0.9, 1.0, 1.3):
    by_search = (y * grid - f.integral(grid)).max()
    print(f"y = {y}: largest y a - F(a) for |a| <= 60: {by_search:8.5f}; F*(y) = {f.dual_integral(y):.5f}")
assert f.dual_integral(1.3) == np.inf
assert np.isclose(f.fenchel_young(-2.0, 1.0), np.log1p(np.exp(2.0)))

# %% [markdown]
# For a target of 1.3, *outside* the range, there is no smallest loss: the neuron can always do better by
# being larger. The gradient $f(\hat a) - 1.3$ is still defined, and so is the loss without the constant $F^*$
# (erratum L-8). That is not as silly as it looks. In lecture 11 targets are computed, and will end up there.

# %%
a_hat = np.array([[0.5, 3.0]])
finite = MatchingLoss(f, constant=False)
beyond = np.full((1, 2), 1.3)
print(f"with F*: {MatchingLoss(f)(a_hat, beyond).item()}, without: {finite(a_hat, beyond).item():.4f}")
assert np.allclose(finite.jacobian(a_hat, beyond), f.value(a_hat) - 1.3)

# %% [markdown]
# ## A distance that is none
#
# Look at $F(\hat a) - F(a) - f(a)(\hat a - a)$ once more. The last two terms are the tangent of $F$ at $a$,
# read at $\hat a$. So $M$ is how far the convex function lies above its own tangent, and this is the *Bregman
# divergence* $D_F(\hat a, a)$ (LP-13).

# %% tags=["hide-input"]
figure = mg.plots.figure((10, 5.4), dpi=80)
ax = figure.add_subplot()
t, (v, u) = np.linspace(-4, 4, 201), (-1.5, 2.5)
tangent = f.integral(v) + f.value(v) * (t - v)
ax.plot(t, f.integral(t), color="black", linewidth=2.5)
ax.plot(t, tangent, "--", color=mg.plots.OKABE_ITO["blue"], linewidth=2.5)
foot = f.integral(v) + f.value(v) * (u - v)
ax.plot([u, u], [foot, f.integral(u)], color=mg.plots.OKABE_ITO["vermilion"], linewidth=5, solid_capstyle="butt")
ax.plot([v, u], [f.integral(v), f.integral(u)], "o", color="black", markersize=9)
ax.annotate("$D_F(u, v)$", (u, (foot + f.integral(u)) / 2), xytext=(12, 0), textcoords="offset points", fontsize=18,
            color=mg.plots.OKABE_ITO["vermilion"], va="center")  # fmt: skip
ax.annotate("tangent at $v$", (-3.2, -0.2), fontsize=16, color=mg.plots.OKABE_ITO["blue"], va="top")
for at, name in ((v, "v"), (u, "u")):
    ax.annotate(f"${name}$", (at, f.integral(at)), xytext=(0, 10), textcoords="offset points", fontsize=18, ha="center")
ax.set_xlabel("a", fontsize=16)
ax.set_ylabel("F(a), the softplus", fontsize=16)
ax.tick_params(labelsize=14)
ax.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# It measures how far $u$ is from $v$, but it is not symmetric, except for the parabola, and only in its first
# argument it is convex. In the second, the tangent point moves, and anything may happen (erratum L-11):

# %%
tanh = transfer.Tanh()
print(f"D(2, -1) = {tanh.bregman(2.0, -1.0):.4f}, D(-1, 2) = {tanh.bregman(-1.0, 2.0):.4f}")
h, v = 1e-3, 2.5
bend = (tanh.bregman(0.3, v + h) - 2 * tanh.bregman(0.3, v) + tanh.bregman(0.3, v - h)) / h**2
print(f"second derivative of D(0.3, v) in v = 2.5: {bend:.3f}")
assert bend < 0

# %% [markdown]
# ## Duality
#
# Turn the picture of the area by a quarter turn. The curve of $f$, read from the other axis, is that of
# $f^{-1}$. The area between curve and level is still there, and it has not changed; but now it is an area
# under $f^{-1}$, between the *outputs* $f(a)$ and $f(\hat a)$, and the corner that was the start is the end.
# As $f^{-1}$ is the derivative of $F^*$, what we see is a Bregman divergence of $F^*$, with its arguments
# exchanged:
#
# $$D_F(u, v) = D_{F^*}\big(f(v), f(u)\big) .$$
#
# For those who trust algebra more than paper: put $F^*(f(a)) = f(a)\,a - F(a)$ into the right-hand side, and
# use that the slope of $F^*$ at $f(u)$ is $u$. Everything cancels but the left-hand side. And for those who
# trust numbers:

# %%
u, v = np.array([-2.0, 0.4, 1.5]), np.array([1.0, -0.3, 0.2])
for one in transfer.TABLE:
    if one.name not in ("step", "ReLU"):  # which have no inverse
        left, right = one.bregman(u, v), one.dual_bregman(one.value(v), one.value(u))
        assert np.allclose(left, right, rtol=1e-9, atol=1e-12)
        print(f"{one.name:12} {np.round(left, 6)} {np.round(right, 6)}")

# %% [markdown]
# For softmax $F^*$ is $\sum_i y_i\log y_i$, and its divergence that of Kullback and Leibler: the matching
# loss is $\mathrm{KL}(y \,\|\, p)$, target first, which is the order that the duality has found.
#
# That both sides are one number, digit for digit, is not a matter of course. Subtract three nearly equal
# numbers, as the formula asks, and for $\hat a$ close to $a$ nothing is left:

# %%
f, a = transfer.Sigmoid(), 3.0
for gap in (1e-2, 1e-5, 1e-8):
    naive = f.integral(a + gap) - f.integral(a) - f.value(a) * gap
    good = f.matching_loss(a + gap, a)
    print(f"a_hat - a = {gap:.0e}: as it is written {naive: .3e}, by the library {good:.3e}")
    assert np.isclose(good, f.derivative(a) * gap**2 / 2, rtol=1e-2)

# %% [markdown]
# The library sums terms none of which is negative, and the audit compares values, gradients and laws (that
# $D \ge 0$, that it is an area under $f$, that the two sides of the duality agree) for the functions of the
# table, each where it applies.

# %%
assert mg.verify.audit(["matching_loss", "bregman_divergence"]).passed

# %% [markdown]
# ## The valleys, on digits
#
# Does all this matter outside of a neuron with one weight? Ten sigmoids on the pixels of the digits, plain
# descent, two losses, two rates. Once they start near zero, and once with large weights, sure of themselves
# and wrong.

# %%
train, _, test = mg.data.digits()
pixels, unseen = (data.x.reshape(len(data), -1) for data in (train, test))
wanted = mg.data.one_hot(train.y, 10)


def error_after(loss, lr, size, steps=100):
    """The per cent of errors on the test set after descent on ten sigmoid neurons."""
    layer = mg.nn.Linear(64, 10).reset(0)
    layer.weight.data = size * np.random.default_rng(0).normal(size=(10, 64))
    optimizer = mg.optim.SGD(layer.parameters(), lr=lr)
    for _ in range(steps):
        a_hat = layer(pixels)
        loss(a_hat if isinstance(loss, MatchingLoss) else mg.sigmoid(a_hat), wanted).backward()
        optimizer.step()
    return 100 * mg.metrics.zero_one_error(layer(unseen), test.y)


for name, loss in {"squared error": SquaredError(), "matching loss": sigmoid}.items():
    for size in (0.1, 5.0):
        errors = [error_after(loss, lr, size) for lr in (1.0, 10.0)]
        print(f"{name}, size {size:3}: {errors[0]:5.1f} % at rate 1, {errors[1]:5.1f} % at rate 10")

# %% [markdown]
# Near zero both learn, if the rate is right; at rate 10 the first steps throw the squared error out onto the
# plain, and there it stays. From the bad start it does not get off the plain at either rate. The matching
# loss walks off it, and does not mind a large rate.
#
# ## Your own
#
# Now bring a function. The softsign $a/(1+|a|)$ is like $\tanh$, with heavier tails and no exponential. One
# expression is all that is needed; integral, inverse, conjugate and loss follow, by symbols where SymPy knows
# how, by quadrature where not.

# %%
a = sp.Symbol("a", real=True)
softsign = transfer.define("softsign", a / (1 + sp.Abs(a)))
area = softsign.matching_loss(2.0, -1.0)
print(f"range {softsign.range}, inverse of 1/3: {softsign.inverse(1 / 3):.6f}, M(2, -1) = {area:.6f}")
assert np.isclose(area, softsign.dual_bregman(-1 / 2, 2 / 3))
mg.plots.matching_loss(softsign, a_hat=2.0, a=-1.0).figure

# %% [markdown]
# It is a loss like any other, with a gradient on the tape. But not every function will do. The swish,
# $a\,\sigma(a)$, is popular, and nearly a ReLU:

# %%
for name, expression in {"swish": a / (1 + sp.exp(-a)), "sine": sp.sin(a)}.items():
    try:
        transfer.define(name, expression)
    except ValueError as refusal:
        print(textwrap.fill(str(refusal), 90))

# %% [markdown]
# The swish falls, a little, left of $-1.28$, and from there the area can be negative: a "loss" that rewards
# being wrong. With an integral of your own you can see it:

# %%
swish = sp.lambdify(a, a / (1 + sp.exp(-a)))
right, wrong = -1.3, -4.0  # the pre-activation that we want, and one that is far off
way = np.linspace(right, wrong, 100_001)
area = np.trapezoid(swish(way) - swish(right), way)
print(f"'matching loss' of {wrong} when {right} is right: {area:.3f}")
assert area < 0

# %% [markdown]
# ## What to remember
#
# Ask for the gradient $f(\hat a) - y$, and integrate. What comes out is an area, convex because $f$ never
# falls; the gap between $F$ and its tangent; with $F^*$, a function of the target output that needs no
# inverse; and, turned by a quarter, a divergence of the outputs. Binary cross-entropy, cross-entropy and
# squared error are three rows of one table. In the next lecture every layer of a network gets its own row.
#
# ## Exercises

# %% [markdown]
# ### Exercise 1: the leaky ReLU
#
# Write the matching loss of the leaky ReLU, $f(a) = a$ for $a \ge 0$ and $\beta a$ below. What is its $F$?

# %% exercise="leaky_matching_loss"
def leaky_matching_loss(a_hat, a, beta):
    """M(a_hat, a), entry by entry, for arrays of one shape and a slope beta >= 0."""
    ### BEGIN SOLUTION
    def f(t):
        return np.where(t >= 0, t, beta * t)

    return a_hat * f(a_hat) / 2 - a * f(a) / 2 - f(a) * (a_hat - a)
    ### END SOLUTION

# %% check="leaky_matching_loss" points=1
def leaky_of_the_engine(a_hat, a, beta):
    """From the table."""
    return transfer.LeakyReLU(beta).matching_loss(a_hat, a)


_rng = np.random.default_rng(4)
_cases = [(_rng.normal(size=6), _rng.normal(size=6), beta) for beta in (0.25, 0.0, 2.0)]
mg.verify.exercise(leaky_matching_loss, leaky_of_the_engine, _cases, hint="F is half of a f(a), on both sides")

# %% [markdown]
# ### Exercise 2: a conjugate
#
# Write $F^*$ for $\tanh$, whose $F$ is $\log\cosh a$. It is finite at both ends of the range, $y = \pm1$, and
# $+\infty$ outside.

# %% exercise="tanh_conjugate"
def tanh_conjugate(y):
    """F*(y), entry by entry, for an array y of any numbers."""
    ### BEGIN SOLUTION
    with np.errstate(divide="ignore", invalid="ignore"):
        halves = [np.where(s > 0, s * np.log(s), 0.0) for s in (1 + y, 1 - y)]
    return np.where(np.abs(y) <= 1, (halves[0] + halves[1]) / 2, np.inf)
    ### END SOLUTION

# %% check="tanh_conjugate" points=2
_cases = [_rng.uniform(-1, 1, 7), np.array([-1.0, 0.0, 1.0]), np.array([1.5, -0.2, -3.0])]
mg.verify.exercise(
    tanh_conjugate, transfer.Tanh().dual_integral, _cases, hint="y a - F(a) where f(a) = y; what is cosh(artanh y)?"
)

# %% [markdown]
# ### Exercise 3: the other gradient
#
# The gradient of $D_F(u, v)$ with respect to $u$ is $f(u) - f(v)$. Write the one with respect to $v$, for
# softmax. (The tangent point moves, and two of the three terms depend on it.)

# %% exercise="gradient_in_v"
def gradient_in_v(u, v):
    """The row (K,) of derivatives of D_F(u, v) by v, for F = log-sum-exp and vectors u, v (K,)."""
    ### BEGIN SOLUTION
    p = np.exp(v - v.max())
    p /= p.sum()
    return -(u - v) @ (np.diag(p) - np.outer(p, p))
    ### END SOLUTION

# %% check="gradient_in_v" points=2
def gradient_of_the_engine(u, v):
    """The second matrix of the divergence, whose one row it is."""
    return BregmanDivergence(transfer.Softmax()).jacobian(u, v)[1][0]


_cases = [(_rng.normal(size=K), _rng.normal(size=K)) for K in (2, 3, 5)]
_cases.append((np.array([1.0, -2.0, 0.5]), np.array([1000.0, 999.0, 998.5])))
mg.verify.exercise(gradient_in_v, gradient_of_the_engine, _cases, hint="what of F(v), and of f(v) v, is left?")

# %% [markdown]
# ### Exercise 4: a function of your own
#
# The function $f(a) = a/\sqrt{1 + a^2}$ goes from $-1$ to 1. Find $F$ and $F^*$ on paper, both with
# $F(0) = F^*(0) = 0$, and write the matching loss by *target output*, without an inverse.

# %% exercise="circle_loss"
def circle_loss(a_hat, y):
    """F(a_hat) + F*(y) - y a_hat, entry by entry, for arrays of one shape, -1 < y < 1."""
    ### BEGIN SOLUTION
    return np.sqrt(1 + a_hat**2) - 1 + 1 - np.sqrt(1 - y**2) - y * a_hat
    ### END SOLUTION

# %% check="circle_loss" points=3
_circle = transfer.define("circle", a / sp.sqrt(1 + a**2))
_cases = [(2 * _rng.normal(size=5), _rng.uniform(-0.95, 0.95, 5))]
_cases.append((np.array([40.0, -3.0]), np.array([0.0, -0.5])))
mg.verify.exercise(
    circle_loss, _circle.fenchel_young, _cases, tolerance=1e-6, hint="substitute a = sinh t, or draw a circle"
)
