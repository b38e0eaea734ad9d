# %% [markdown]
# # 2. Losses: zero-one, quadratic, two-class and multi-class cross-entropy
#
# *All we want is few mistakes. Why does nobody train a network to make few mistakes?*
#
# A classifier is judged by how often it is wrong, and trained by something else: a *loss* that is a smooth
# substitute for mistakes. Some substitutes are excellent and some look excellent and are not. In this lecture
# we look at the thing itself and at its stand-ins, find their gradients, and then let them repair the same
# spoilt network, which one of them does in a few epochs, and another, which looks as good, hardly at all
# (Tomasi 2019, section 2).

# %%
import numpy as np

import minigrad as mg
from minigrad.data import one_hot
from minigrad.ops.softmax import Softmax

train, validation, test = mg.data.digits()
cross_entropy = mg.losses.CrossEntropy()
squared_error = mg.losses.SquaredError()

# %% [markdown]
# ## Risk
#
# Training looks at $N$ examples $(x_n, y_n)$. A loss $\ell(y, \cdot)$ says how bad one answer is, and the
# *training risk* is its mean (TC-04),
#
# $$L_T(w) = \frac1N\sum_{n=1}^N \ell\big(y_n, f(x_n, w)\big).$$
#
# A mean, not a sum: the risk of twice as much of the same data is the same risk, and a learning rate that was
# good for it still is. The loss that we care about is the *zero-one loss* (TC-06), 0 for a right decision and
# 1 for a wrong one, and its risk is the fraction of mistakes.
#
# Let us look at that risk as descent would see it: from somewhere in the space of weights. We train a linear
# classifier, and walk in a straight line from random weights, $t = 0$, to the trained ones, $t = 1$.

# %%
def linear(seed=0):
    """One affine layer for the digits, ten scores."""
    return mg.nn.Sequential(mg.nn.Flatten(), mg.nn.Linear(64, 10)).reset(seed)


model = linear()
start = {name: array.copy() for name, array in model.state_dict().items()}
optimizer = mg.optim.SGD(model.parameters(), lr=0.5)
mg.training.fit(model, cross_entropy, optimizer, train, epochs=30, progress=False)
goal = model.state_dict()
few = train[:200]


def risks(t):
    """Zero-one risk and cross-entropy risk of 200 examples, at the point t of the line."""
    model.load_state_dict({name: (1 - t) * start[name] + t * goal[name] for name in goal})
    with mg.no_grad():
        scores = model(few.x)
        return mg.metrics.zero_one_error(scores, few.y), cross_entropy(scores, few.y).item()


# %% tags=["hide-input"]
figure = mg.plots.figure((15, 4.8), dpi=80)
panels = figure.subplots(1, 2)
for ax, along in zip(panels, (np.linspace(0, 1, 201), np.linspace(0.30, 0.32, 201)), strict=True):
    zero_one, smooth = np.array([risks(t) for t in along]).T
    ax.plot(along, zero_one, color=mg.plots.OKABE_ITO["vermilion"], linewidth=2.5, label="zero-one risk")
    right = ax.twinx()
    right.plot(along, smooth, "--", color=mg.plots.OKABE_ITO["blue"], linewidth=2.5, label="cross-entropy risk")
    ax.set_xlabel("t", fontsize=16)
    for one in (ax, right):
        one.tick_params(labelsize=14)
        one.spines["top"].set_visible(False)
panels[0].legend(handles=[*panels[0].lines, *right.lines], fontsize=16, frameon=False)
panels[0].set_ylabel("zero-one risk", fontsize=16)
right.set_ylabel("cross-entropy risk", fontsize=16)
panels[0].set_title("from random to trained", fontsize=16)
panels[1].set_title("a fiftieth of the way", fontsize=16)
panels[1].set_xticks([0.30, 0.31, 0.32])
figure

# %% [markdown]
# From far away both go down, and one might think that either would do. From near, on the right, the zero-one
# risk is a staircase. It cannot be otherwise: there are 200 examples, so the risk is a multiple of 1/200, and
# jumps when one of them crosses the boundary of a decision region. Between the jumps it is flat. Descent
# stands somewhere and asks for the slope, with respect to each weight. Here is the answer:

# %%
w = model[1].weight
h, slopes = 1e-7, []
for i in range(10):
    for j in range(64):
        moved = []
        for sign in (1, -1):
            w.data[i, j] += sign * h
            moved.append(mg.metrics.zero_one_error(model(few.x), few.y))
            w.data[i, j] -= sign * h
        slopes.append((moved[0] - moved[1]) / (2 * h))
print(f"{np.count_nonzero(slopes)} of {len(slopes)} slopes of the zero-one risk are not 0")

# %% [markdown]
# All zero. The derivative of the thing we want exists nearly everywhere, and nearly everywhere it says
# nothing. To minimize it anyway is a combinatorial problem, which example to sacrifice for which. So the
# zero-one risk is used to *judge*, to choose between networks and to decide when to stop, and something with
# a slope is used to *train*.
#
# ## The quadratic loss
#
# The first thing that comes to mind has served regression for two centuries (TC-05):

# %%
mg.tables.formulas("squared_error")

# %% [markdown]
# It has no factor ½, as in Tomasi (2019); other texts put one in so that the derivative loses its 2. Nothing
# depends on it but the learning rate, and that is reason enough to know which of the two one has (T-16).
#
# Classes are no numbers, but their unit vectors are: let the target of class $y$ be $e_y$, and the scores be
# pulled towards it. This works better than it deserves. What is wrong with it shows in examples with label 1
# and the scores $(0, u)$. The larger $u$, the more right the network is:

# %%
print("   u   quadratic   cross-entropy")
for u in (-1.0, 0.0, 1.0, 2.0, 5.0):
    scores, label = np.array([[0.0, u]]), np.array([1])
    print(f"{u:4.0f} {squared_error(scores, one_hot(label, 2)).item():11.3f}"
          f" {cross_entropy(scores, label).item():15.4f}")  # fmt: skip

# %% [markdown]
# The quadratic loss of the scores punishes an answer for being *too right*: $u = 5$ costs 16 times as much as
# $u = 0$, the tie. It does not know that scores are there to be compared. The repair seems obvious, apply
# softmax first, and then the quadratic loss to a distribution that cannot be more right than $e_y$. We shall
# see how that ends.
#
# ## Two classes: the cross-entropy
#
# With two classes one number is enough, the score $p \in [0, 1]$ of class 1. A loss then lives on two
# segments, one for each label: $\{0, 1\} \times [0, 1]$. Below they are on the left, and the cross-entropy on
# each of them on the right, as in figure 2 of Tomasi (2019):

# %% tags=["hide-input"]
figure = mg.plots.figure((15, 5.2), dpi=80)
domain, curves = figure.subplots(1, 2, width_ratios=(0.7, 1))
for label, colour, style in ((1, "blue", "-"), (0, "vermilion", "--")):
    domain.plot([0, 1], [label, label], style, color=mg.plots.OKABE_ITO[colour], linewidth=5)
domain.set(ylim=(-0.5, 1.5), yticks=[0, 1])
domain.set_xlabel("score p of class 1", fontsize=16)
domain.set_ylabel("label y", fontsize=16)
domain.tick_params(labelsize=14)
domain.spines[["top", "right"]].set_visible(False)
mg.plots.two_class_cross_entropy(curves)
figure

# %%
mg.tables.formulas("two_class_cross_entropy")

# %% [markdown]
# Right and certain costs nothing, undecided costs $\log 2$, wrong and certain costs without limit. One
# label's curve is the mirror image of the other's, $\ell(1, p) = \ell(0, 1 - p)$. (The cases in appendix A.4
# of the note are printed without the minus; the loss would then be negative, erratum T-1.)
#
# Often one sees the two cases folded into one, with the label as a switch:
#
# $$\ell(y, p) = -y\log p - (1-y)\log(1-p).$$
#
# On paper these are the same, if $0\log 0$ is read as 0. A computer does not read it so (T-22):

# %%
p, y = np.array([1.0, 0.9, 0.0]), np.array([1, 1, 0])
with np.errstate(divide="ignore", invalid="ignore"):
    print("the switch:", -y * np.log(p) - (1 - y) * np.log(1 - p))
print("the cases: ", mg.losses.TwoClassCrossEntropy(reduction="none")(p, y).data + 0)

# %% [markdown]
# Two perfect answers, and the switch gives no number. The library *selects* the case.
#
# Why a logarithm? Lecture 7 finds it in the length of messages. Here is a reason for engineers: it undoes the
# exponential. Write $p = \sigma(u)$, where $u = z_1 - z_0$ is the lead of class 1. Then
# $-\log\sigma(u) = \log(1 + e^{-u})$, and by the chain rule, with $\sigma' = \sigma(1 - \sigma)$,
#
# $$\frac{d\ell}{du} = -\frac1p\; p\,(1 - p) = p - 1 \quad (y = 1), \qquad
#   \frac{d\ell}{du} = \frac1{1-p}\; p\,(1 - p) = p \quad (y = 0),$$
#
# in one line $d\ell/du = p - y$. The small factor $p$ of the slope of $\sigma$ meets the large factor $1/p$
# of the slope of the logarithm, and they cancel. Keep an eye on that factor.

# %%
rng = np.random.default_rng(0)
u, y = rng.normal(size=6) * 3, np.array([0, 1, 1, 0, 1, 0])
two_class = mg.losses.TwoClassCrossEntropy(reduction="sum")
slope = mg.jacobian(lambda u: two_class(mg.sigmoid(u), y), u)
assert np.allclose(slope, mg.sigmoid(u).data - y)

# %% [markdown]
# ## Many classes
#
# For $K$ classes the loss is the logarithm of what was given to the right one, $\ell(y, p) = -\log p_y$, or
# with the one-hot vector $q = e_y$, $\ell = -\sum_k q_k\log p_k$ (TC-08). The second form makes sense for any
# distribution $q$: labels on which experts disagree, or labels that are softened on purpose. As a function of
# the logits:

# %%
mg.tables.formulas("cross_entropy")

# %%
z, y = rng.normal(size=(5, 2)), np.array([0, 1, 1, 0, 1])
of_two = mg.losses.TwoClassCrossEntropy()(mg.softmax(z)[:, 1], y)
assert np.isclose(cross_entropy(z, y).item(), of_two.item())
assert np.isclose(cross_entropy(np.zeros((1, 10)), np.array([3])).item(), np.log(10))

# %% [markdown]
# With $K = 2$ it is what we had. And a network that knows nothing has the loss $\log K$, for ten classes
# 2.30: the first thing to look at in any training.
#
# ## The gradient, by the chain rule
#
# The loss is a function of $p$, and $p$ of $z$. Each step has its Jacobian, and they are multiplied from left
# to right:
#
# $$\frac{\partial\ell}{\partial z} = \frac{\partial\ell}{\partial p}\;\frac{\partial p}{\partial z}
#   = \Big(-\frac{q_1}{p_1}, \dots, -\frac{q_K}{p_K}\Big)\,\big(\operatorname{diag}(p) - p\,p^{\mathsf T}\big).$$
#
# The first term of the matrix turns $-q_k/p_k$ into $-q_k$. The second gives $+\sum_k q_k$, which is 1, times
# $p^{\mathsf T}$. Together:
#
# $$\boxed{\;\frac{\partial\ell}{\partial z} = (p - q)^{\mathsf T}\;}$$
#
# What the network says, minus what is true. Let us multiply the matrices, to see it happen:

# %%
z, q = np.array([2.0, 1.0, -1.0]), np.array([0.0, 1.0, 0.0])
p = mg.softmax(z).data
J = Softmax().jacobian(z)
print("dl/dp          =", (0 - q / p).round(4))
print("dl/dp times J  =", (-q / p @ J).round(4))
print("p - q          =", (p - q).round(4))
assert np.allclose(-q / p @ J, p - q)
assert np.allclose(mg.jacobian(lambda z: cross_entropy(z.reshape(1, -1), q[None]), z), p - q)

# %% [markdown]
# All of $J$ was needed. With its diagonal alone the result would be $(0, p_y - 1, 0)$: the right class is
# pulled up, and nobody is pushed down. The sums tell the two apart, $p - q$ sums to zero, as it must, since a
# common shift of the scores changes nothing (T-6).

# %%
print("with the diagonal alone:", (-q / p @ np.diag(np.diag(J))).round(4))
report = mg.verify.audit(["cross_entropy", "squared_error", "two_class_cross_entropy"])
assert report.passed
for row in report.rows:
    print(f"{row.name}: {', '.join(row.independent)}; {row.mutants} wrong copies, all caught")

# %% [markdown]
# Once more differentiated, $p - q$ gives $J$ again: the Hessian of the cross-entropy is the Jacobian of
# softmax. That is a covariance matrix (lecture 1), so it has no negative eigenvalue, and the loss is *convex
# in the logits*.
#
# The note promises a proof that the risk is convex. It is not, in the weights of a network of two layers
# (erratum T-5). The smallest one will do, $u = w_1 w_2$ with one input 1 and the label 1:

# %%
def smallest(w1, w2):
    """The cross-entropy of the network sigma(w2 w1) for the label 1."""
    return mg.softplus(np.array(-w1 * w2)).item()


ends, middle = (smallest(1, 1) + smallest(-1, -1)) / 2, smallest(0, 0)
print(f"(1, 1) and (-1, -1): {ends:.3f}; halfway between them: {middle:.3f}")
assert middle > ends

# %% [markdown]
# The two solutions are equally good, and between them stands a hill. For a single layer there is no such
# thing: logits are linear in the weights, and a convex function of something linear is convex.
#
# ## Do not take the logarithm of softmax
#
# The value needs as much care as the gradient. Softmax may underflow to 0, and the logarithm of 0 is
# $-\infty$. But the logarithm and the exponential can be cancelled on paper, before any number is small,
#
# $$-\log p_y = \log\sum_k e^{z_k} - z_y,$$
#
# and the first term survives any scores if the largest is pulled out of the sum. The loss of a network that
# is terribly wrong is then just large:

# %%
z, y = np.array([[0.0, -2000.0]]), np.array([1])
with np.errstate(divide="ignore"):
    print("minus the log of softmax:", -np.log(mg.softmax(z).data)[0, 1])
print("minus log-softmax:       ", -mg.log_softmax(z).data[0, 1])
g = mg.jacobian(lambda z: cross_entropy(z, y), z)
print("cross-entropy, gradient: ", cross_entropy(z, y).item(), g)

# %% [markdown]
# At the other end something subtler is lost. A network that is right, with a lead of 40, has the loss
# $\log(1 + e^{-40})$, about $4\cdot10^{-18}$. Computed as $-\log p_y$ it is 0, since $p_y$ rounds to 1, and
# the gradient $p_y - 1$ is 0 as well. The library sums $1 - p_y$ from the other classes, and keeps all
# digits:

# %%
z, y = np.array([[40.0, 0.0]]), np.array([0])
print("minus the log of softmax:", -np.log(mg.softmax(z).data)[0, 0] + 0)
print("cross-entropy:           ", cross_entropy(z, y).item(), " e^-40 =", np.exp(-40.0))
assert np.isclose(cross_entropy(z, y).item(), np.log1p(np.exp(-40.0)), rtol=1e-12)

# %% [markdown]
# ## Losses on the simplex
#
# Now the two candidates side by side: the cross-entropy, and the quadratic loss of the softmax. Both are 0 at
# the right corner and nowhere else. The lines are level lines, and the arrows show where a small step of
# descent on the *logits* moves $p$. Class 0 is right.

# %%
def quadratic_of_softmax(z, y):
    """||softmax(z) - e_y||^2."""
    return squared_error(mg.softmax(z), one_hot(y, z.shape[1]))


def quadratic_of_scores(z, y):
    """||z - e_y||^2."""
    return squared_error(z, one_hot(y, z.shape[1]))


# %%
figure = mg.plots.figure((17, 6.6), dpi=72)
both = {"cross-entropy": cross_entropy, "quadratic of softmax": quadratic_of_softmax}
for ax, (name, loss) in zip(figure.subplots(1, 2), both.items(), strict=True):
    mg.plots.simplex(ax, 3, label=0).set_title(name, fontsize=18, pad=30)
    mg.plots.loss_levels(loss, 0, ax)
    mg.plots.descent_field(loss, 0, ax)
figure

# %% [markdown]
# The cross-entropy (left) looks at $p_0$ alone: its lines are parallel to the opposite side. The quadratic
# loss (right) has circles around the right corner, so that it also minds how the rest is divided. Both arrow
# fields lead home. But look at the wrong corners, where the network is sure of a wrong class: on the right
# the arrows get short. And they are drawn in proportion to the *root* of the true length, to be visible at
# all. Here are the true lengths, for a network that is 98 per cent sure of class 1:

# %%
p = np.array([0.01, 0.98, 0.01])
J = Softmax().jacobian(np.log(p))
for name, loss in both.items():
    g = mg.jacobian(lambda z, loss=loss: loss(z, np.array([0])), np.log(p)[None])[0]
    print(f"{name:>20}: p moves by {np.linalg.norm(J @ g):.6f} times the rate")

# %% [markdown]
# ## Where it stalls
#
# The chain rule says why. With softmax as the last step,
#
# $$\frac{\partial}{\partial z}\lVert p - q\rVert^2 = 2\,(p - q)^{\mathsf T} J,$$
#
# and $J$ is close to zero wherever $p$ is close to a corner, *any* corner. For two classes, with the lead $u$
# of the right one and $p = \sigma(u)$, the slopes are
#
# $$\text{cross-entropy: } -(1-p), \qquad \text{quadratic: } -4\,p\,(1-p)^2 .$$
#
# There it is, the factor $p$ that the logarithm cancelled.

# %%
u = np.array([-12.0, -4.0, 0.0, 4.0])
pairs, right_class = np.stack([np.zeros(4), u], axis=1), np.ones(4, dtype=int)
p = mg.softmax(pairs).data[:, 1]
for name, loss, expected in (
    ("cross-entropy", cross_entropy, -(1 - p)),
    ("quadratic", quadratic_of_softmax, -4 * p * (1 - p) ** 2),
):
    slope = 4 * mg.jacobian(lambda z, loss=loss: loss(z, right_class), pairs).reshape(4, 2)[:, 1]
    assert np.allclose(slope, expected)
    print(f"{name:>13}: slopes at u = -12, -4, 0, 4: ", *(f"{s:9.2g}" for s in slope))

# %% tags=["hide-input"]
u = np.linspace(-10, 6, 161)
p = mg.sigmoid(u).data
figure = mg.plots.figure((15, 4.8), dpi=80)
values, pulls = figure.subplots(1, 2)
for name, colour, style, value, pull in (
    ("cross-entropy", "blue", "-", mg.softplus(-u).data, 1 - p),
    ("quadratic of softmax", "vermilion", "--", 2 * (1 - p) ** 2, 4 * p * (1 - p) ** 2),
):
    values.plot(u, value, style, color=mg.plots.OKABE_ITO[colour], linewidth=2.5, label=name)
    pulls.plot(u, pull, style, color=mg.plots.OKABE_ITO[colour], linewidth=2.5)
values.plot(u, (u < 0).astype(float), ":", color="black", linewidth=1.5, label="zero-one")
values.legend(fontsize=16, frameon=False)
for ax, title in ((values, "loss"), (pulls, "size of its slope")):
    ax.set_title(title, fontsize=18)
    ax.set_xlabel("lead u of the right class", fontsize=16)
    ax.tick_params(labelsize=14)
    ax.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# The quadratic loss of a softmax has the shape of the zero-one loss, rounded: a high plain, a slope, a low
# plain. That is what makes it attractive, for it does not let a single outlier dominate everything, and it is
# its undoing: on the high plain there is no direction. The cross-entropy pulls the harder, the more wrong the
# network is, up to a slope of 1.
#
# ## An experiment
#
# It is time to see it happen. First the ordinary case, from random weights. Each loss has its own favourite
# rate, so each gets the best of three by the validation set:

# %%
def network():
    """64-32-10, the same random weights each time."""
    nn = mg.nn
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10)).reset(0)


def errors(loss, before, rate, epochs=15):
    """The validation error before training and after each epoch."""
    model = network()
    model.load_state_dict(before)
    first = mg.metrics.zero_one_error(model(validation.x), validation.y)
    optimizer = mg.optim.SGD(model.parameters(), lr=rate)
    return [first, *mg.training.fit(
        model, loss, optimizer, train, validation, epochs=epochs, progress=False
    ).validation_error]  # fmt: skip


# %%
candidates = {
    "cross-entropy": (cross_entropy, (0.1, 0.2, 0.5)),
    "quadratic of scores": (quadratic_of_scores, (0.01, 0.02, 0.04)),
    "quadratic of softmax": (quadratic_of_softmax, (0.2, 0.5, 1.0)),
}


def best(before):
    """The errors of each loss at its best rate, and the rate."""
    found = {}
    for name, (loss, rates) in candidates.items():
        runs = {rate: errors(loss, before, rate) for rate in rates}
        rate = min(runs, key=lambda rate: (min(runs[rate]), runs[rate][-1]))
        found[name] = rate, runs[rate]
        first, least = runs[rate][0], min(runs[rate])
        print(f"{name:>20}, rate {rate:<4}: validation error from {first:.0%} to {least:.1%}")
    return found


fresh = best(network().state_dict())

# %% [markdown]
# No drama. A fresh network is undecided, near the centre of the simplex, where every loss has a slope.
#
# Now spoil it. Train it, to perfection, on labels that are all wrong: each digit is called the next one. Then
# tell it the truth. At that moment it is wrong everywhere and sure of it.

# %%
spoilt = network()
misled = (train.x, (train.y + 1) % 10)
optimizer = mg.optim.SGD(spoilt.parameters(), lr=0.5)
mg.training.fit(spoilt, cross_entropy, optimizer, misled, epochs=40, progress=False)
believed = mg.softmax(spoilt(train.x)).data[np.arange(len(train)), train.y]
print(f"probability of the true class: median {np.median(believed):.1e}")
repaired = best(spoilt.state_dict())

# %% tags=["hide-input"]
figure = mg.plots.figure((15, 5), dpi=80)
panels = figure.subplots(1, 2, sharey=True)
styles = dict(zip(candidates, (("blue", "o"), ("green", "^"), ("vermilion", "s")), strict=True))
for ax, runs, title in ((panels[0], fresh, "from random weights"), (panels[1], repaired, "from wrong certainty")):
    for name, (_, curve) in runs.items():
        colour, marker = styles[name]
        ax.plot(100 * np.array(curve), marker=marker, color=mg.plots.OKABE_ITO[colour], linewidth=2, label=name)
    ax.set_title(title, fontsize=18)
    ax.set_xlabel("epoch", fontsize=16)
    ax.tick_params(labelsize=14)
    ax.spines[["top", "right"]].set_visible(False)
panels[0].set_ylabel("validation error (%)", fontsize=16)
panels[0].legend(fontsize=16, frameon=False)
figure

# %% [markdown]
# The cross-entropy hardly notices. Each wrong certainty pulls with the full slope of 1, and after a few
# epochs the network is about as good as if nobody had lied to it. The quadratic loss of the softmax has lost
# its way: no rate makes up for slopes of $10^{-5}$, and after fifteen epochs it still misreads four digits in
# ten. The quadratic loss of the scores does not stall, as it knows no plain, but it wants scores near 0 and
# 1, and those that it finds are far from there.
#
# ## What to remember
#
# Mistakes have no slope, so one descends on a substitute. The quadratic loss of the scores punishes what is
# too right; the quadratic loss of the softmax forgives what is hopelessly wrong. The cross-entropy does
# neither: its slope is $p - q$, bounded by 1, never 0 where the answer is wrong, and cheap. It is convex in
# the logits, though not in the weights. And it is computed from the logits, never from their softmax.
#
# ## Exercises

# %% [markdown]
# ### Exercise 1: the risk and its gradient
#
# Write the training risk of the quadratic loss for a batch of predictions, and its gradient by the
# predictions.

# %% exercise="quadratic_risk"
def quadratic_risk(Y, T):
    """The risk, a number, and its gradient (N, K), for predictions Y (N, K) and targets T (N, K)."""
    ### BEGIN SOLUTION
    D = Y - T
    return np.sum(D**2) / len(D), 2 * D / len(D)
    ### END SOLUTION

# %% check="quadratic_risk" points=1
def quadratic_of_the_engine(Y, T):
    Y = mg.Tensor(Y, requires_grad=True)
    risk = mg.losses.SquaredError()(Y, T)
    risk.backward()
    return risk, Y.grad


_rng = np.random.default_rng(21)
_cases = [(_rng.normal(size=shape), _rng.normal(size=shape)) for shape in ((1, 3), (4, 1), (5, 2))]
mg.verify.exercise(
    quadratic_risk, quadratic_of_the_engine, _cases, hint="is it a mean over the examples, over the entries, or both?"
)  # fmt: skip

# %% [markdown]
# ### Exercise 2: two classes, and certainty
#
# Write the two-class cross-entropy of each example. Scores of exactly 0 and 1 will occur, in right answers
# and in wrong ones; a wrong certainty costs $+\infty$.

# %% exercise="two_class_loss"
def two_class_loss(p, y):
    """The losses (N,) of scores p (N,) in [0, 1] for labels y (N,) in {0, 1}."""
    ### BEGIN SOLUTION
    of_the_label = np.where(y == 1, p, 1 - p)
    return -np.log(of_the_label)
    ### END SOLUTION

# %% check="two_class_loss" points=1
_rng = np.random.default_rng(22)
_cases = [(_rng.random(6), _rng.integers(0, 2, 6)), (np.array([0.2, 1.0, 0.0, 0.7]), np.array([0, 1, 0, 1])),
          (np.array([0.3, 0.0, 1.0]), np.array([1, 1, 0]))]  # fmt: skip
mg.verify.exercise(
    two_class_loss, mg.losses.TwoClassCrossEntropy().forward, _cases, hint="0 times infinity is no number in a computer"
)

# %% [markdown]
# ### Exercise 3: log-softmax
#
# Write the logarithm of softmax for each row, without ever taking the logarithm of something that could be 0.
# It will be called with logits of $\pm1000$.

# %% exercise="log_probabilities"
def log_probabilities(Z):
    """The logarithms (N, K) of the softmax of each row of Z (N, K)."""
    ### BEGIN SOLUTION
    shifted = Z - Z.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    ### END SOLUTION

# %% check="log_probabilities" points=2
_rng = np.random.default_rng(23)
_cases = [_rng.normal(size=(3, 4)), _rng.normal(size=(2, 7)) * 20,
          np.array([[1000.0, -1000.0, 999.0], [-1000.0, -1001.0, -1000.5], [0.0, 0.0, 0.0]])]  # fmt: skip
mg.verify.exercise(log_probabilities, mg.log_softmax, _cases, hint="the largest of each row goes out first")

# %% [markdown]
# ### Exercise 4: the gradient that stalls
#
# Write the gradient of $\lVert\operatorname{softmax}(z) - e_y\rVert^2$ with respect to the logits, for each
# row of a batch, without forming a Jacobian.

# %% exercise="stalling_gradient"
def stalling_gradient(Z, y):
    """The gradients (N, K) of ||softmax(z) - e_y||^2 by z, for rows z of Z (N, K) and labels y (N,)."""
    ### BEGIN SOLUTION
    P = np.exp(Z - Z.max(axis=1, keepdims=True))
    P /= P.sum(axis=1, keepdims=True)
    G = 2 * P
    G[np.arange(len(y)), y] -= 2
    return P * (G - (G * P).sum(axis=1, keepdims=True))
    ### END SOLUTION

# %% check="stalling_gradient" points=3
def stalling_gradient_of_the_engine(Z, y):
    Z = mg.Tensor(Z, requires_grad=True)
    mg.losses.SquaredError(reduction="sum")(mg.softmax(Z), one_hot(y, Z.shape[1])).backward()
    return Z.grad


_rng = np.random.default_rng(24)
_cases = [(_rng.normal(size=(N, K)), _rng.integers(0, K, N)) for N, K in ((1, 2), (4, 3), (3, 6))]
mg.verify.exercise(
    stalling_gradient, stalling_gradient_of_the_engine, _cases, hint="2 (p - e_y) is the row, J is diag(p) - p p'"
)

# %% [markdown]
# ### Exercise 5: labels that are not quite sure
#
# *Label smoothing* trains with $q = (1 - \varepsilon)\,e_y + \varepsilon/K$ instead of $e_y$. Write the
# cross-entropy of each example with these labels, and its gradient by the logits. (Which logits have the
# smallest loss now, and are they finite?)

# %% exercise="smoothed"
def smoothed(Z, y, epsilon):
    """The losses (N,) and their gradients (N, K) for logits Z (N, K) and labels y (N,), smoothed by epsilon."""
    ### BEGIN SOLUTION
    N, K = Z.shape
    q = np.full((N, K), epsilon / K)
    q[np.arange(N), y] += 1 - epsilon
    shifted = Z - Z.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -(q * log_p).sum(axis=1), np.exp(log_p) - q
    ### END SOLUTION

# %% check="smoothed" points=3
def smoothed_by_the_engine(Z, y, epsilon):
    q = (1 - epsilon) * one_hot(y, Z.shape[1]) + epsilon / Z.shape[1]
    Z = mg.Tensor(Z, requires_grad=True)
    losses = mg.losses.CrossEntropy(reduction="none")(Z, q)
    losses.sum().backward()
    return losses, Z.grad


_rng = np.random.default_rng(25)
_cases = [(_rng.normal(size=(4, 3)), np.array([2, 0, 1, 2]), 0.1), (_rng.normal(size=(2, 5)), np.array([4, 1]), 0.3),
          (np.array([[1000.0, -1000.0], [-3.0, 2.0]]), np.array([1, 0]), 0.2)]  # fmt: skip
mg.verify.exercise(smoothed, smoothed_by_the_engine, _cases, hint="the gradient is p - q, for any distribution q")
