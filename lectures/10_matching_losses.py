# %% [markdown]
# # 10. Matching losses and Bregman divergences
#
# *Why is cross-entropy the right loss behind a softmax, and the squared error behind no function at all?*
#
# A unit ends with a transfer function $f$: a sigmoid, a softmax, a ReLU. Behind it stands a loss, and it is
# usually chosen by habit. This lecture derives, for every transfer function that never falls, the one loss
# that suits it: convex in what goes into $f$, with a gradient that has no $f'$ in it, and nevertheless zero
# only where the output is right. The construction is old (Auer, Herbster and Warmuth 1996; Kivinen and
# Warmuth 1997), and is the heart of training layer by layer (US 2022/0253713; Amid et al. 2022), which is the
# next lecture.

# %%
import numpy as np
import sympy as sp

import minigrad as mg
from minigrad import transfer

# %% [markdown]
# ## An experiment: the flat valley
#
# One unit, $y = \sigma(\hat a)$, should output $y = 0.05$, and starts far on the other side, at $\hat a = 6$.
# Descend on the squared error, and on binary cross-entropy, with the same rate.

# %%
sigmoid = transfer.Sigmoid()
target = 0.05


def descend(slope, a_hat=6.0, rate=1.0, steps=60):
    """The pre-activations (steps + 1,) of descent along a slope."""
    path = [a_hat]
    for _ in range(steps):
        path.append(path[-1] - rate * slope(path[-1]))
    return np.array(path)


squared = descend(lambda a: (sigmoid.value(a) - target) * sigmoid.derivative(a))
matching = descend(lambda a: sigmoid.value(a) - target)
print(f"wanted {target}; squared error after 60 steps: {sigmoid.value(squared[-1]):.3f}, "
      f"the other: {sigmoid.value(matching[-1]):.3f}")  # fmt: skip

# %% tags=["hide-input"]
figure = mg.plots.figure((13, 4.6), dpi=80)
left, right = figure.subplots(1, 2)
a = np.linspace(-8, 8, 401)
for name, values, path, colour, marker in (
    ("squared error", 0.5 * (sigmoid.value(a) - target) ** 2, squared, "vermilion", "s"),
    ("cross-entropy", sigmoid.fenchel_young(a, np.full(a.shape, target)), matching, "blue", "o"),
):
    style = {"color": mg.plots.OKABE_ITO[colour], "linewidth": 2.5}
    left.plot(a, values / values.max(), label=name, **style)
    right.plot(path, marker=marker, markevery=6, markersize=8, label=name, **style)
left.set_xlabel("pre-activation", fontsize=16)
left.set_ylabel("loss, scaled", fontsize=16)
right.set_xlabel("step", fontsize=16)
right.set_ylabel("pre-activation", fontsize=16)
right.axhline(sigmoid.inverse(target), color="0.4", linestyle=":", linewidth=2)
for ax in (left, right):
    ax.legend(fontsize=15, frameon=False)
    ax.tick_params(labelsize=13)
    ax.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# The red curve on the left is a valley with a plateau: where the unit is wrong *and sure*, the sigmoid is
# flat, its derivative is nearly zero, and the gradient $(\sigma(\hat a) - y)\,\sigma'(\hat a)$ with it. After
# sixty steps the unit has hardly moved. The blue curve is convex, and the further away, the steeper.
#
# What we want is a loss whose gradient with respect to $\hat a$ is just $f(\hat a) - y$, with no $f'$ to
# spoil it. So let us integrate that.
#
# ## A loss by integration
#
# Let $f$ be a function that never falls, and $F$ its integral, $F' = f$. As $f$ never falls, $F$ is convex.
# Let the target be $y = f(a)$. Then the loss with the gradient $f(\hat a) - f(a)$ that is zero at $\hat a =
# a$ is
#
# $$M(\hat a, a) = \int_a^{\hat a} \big(f(z) - f(a)\big)\,dz = F(\hat a) - F(a) - f(a)\,(\hat a - a) .$$
#
# This is the *matching loss* of $f$ (LP-12). The first form is an area: between the curve of $f$ and the
# level of the target. For the sigmoid, from $a = -1$ to $\hat a = 2$:

# %%
mg.plots.matching_loss(sigmoid, a_hat=2.0, a=-1.0).figure

# %% [markdown]
# Move $\hat a$ to the right by a little: the area grows by a strip of the height $f(\hat a) - f(a)$. That is
# the gradient, read off the picture. To the left of $a$ the curve lies under the level, the strip is
# traversed backwards, and the area counts as positive again.
#
# The second form says how far the convex curve $F$ lies above its tangent at $a$, measured at $\hat a$. That
# is known as the *Bregman divergence* of $F$ (LP-13), $D_F(\hat a, a)$. A convex curve lies above its
# tangents, so the loss is never negative; and it is convex in $\hat a$, because $F$ is, and a tangent changes
# nothing about that.
#
# Both forms, and the gradient, in numbers:

# %%
a_hat, a = 2.0, -1.0
z = np.linspace(a, a_hat, 100_001)
area = np.trapezoid(sigmoid.value(z) - sigmoid.value(a), z)
above_tangent = sigmoid.integral(a_hat) - sigmoid.integral(a) - sigmoid.value(a) * (a_hat - a)
print(f"area {area:.10f}, above the tangent {above_tangent:.10f}, the library's {sigmoid.matching_loss(a_hat, a):.10f}")
assert np.allclose([area, above_tangent], sigmoid.matching_loss(a_hat, a), atol=1e-9)
h = 1e-5
slope = (sigmoid.matching_loss(a_hat + h, a) - sigmoid.matching_loss(a_hat - h, a)) / (2 * h)
assert np.isclose(slope, sigmoid.value(a_hat) - sigmoid.value(a))

# %% [markdown]
# ## Old friends
#
# What does the construction give for the functions that we know? The identity has $F(a) = a^2/2$ and the
# matching loss $(\hat a - a)^2/2$: the squared error is the right loss behind *no* transfer function. The
# sigmoid has the integral $\log(1 + e^a)$, and with the target $y$ in place of $f(a)$ what comes out is
# binary cross-entropy, less its value at the minimum:

# %%
y, a_hat = 0.3, 1.7
p = sigmoid.value(a_hat)
cross_entropy = -y * np.log(p) - (1 - y) * np.log(1 - p)
entropy = -y * np.log(y) - (1 - y) * np.log(1 - y)
print(f"cross-entropy less entropy {cross_entropy - entropy:.10f}, matching {sigmoid.fenchel_young(a_hat, y):.10f}")
assert np.isclose(cross_entropy - entropy, sigmoid.fenchel_young(a_hat, y))

# %% [markdown]
# Softmax is no function of one number, but the Jacobian matrix $\mathrm{diag}(p) - pp^{\mathsf T}$ is
# symmetric, so it is the gradient of something: of $F(a) = \log\sum_k e^{a_k}$. Its matching loss is the
# Kullback-Leibler divergence from the target to the output, which for one-hot targets is the cross-entropy of
# lecture 2:

# %%
softmax = transfer.Softmax()
a_hat, y = np.array([1.0, -0.5, 2.0, 0.3]), np.array([0.0, 0.0, 0.0, 1.0])
print(softmax.fenchel_young(a_hat, y), mg.losses.CrossEntropy()(a_hat[None], [3]).item())
assert np.isclose(softmax.fenchel_young(a_hat, y), mg.losses.CrossEntropy()(a_hat[None], [3]).item())

# %% [markdown]
# So the habit was right, and now we know why: each of the familiar pairs is a function with *its* loss. And
# the recipe goes on where habit ends. Here are the ten functions of US 2022/0253713 with their integrals. The
# entries for the arctangent and ELU, which the printed table lacks (erratum L-5), are derived here:

# %%
mg.tables.matching_losses()

# %%
mg.plots.matching_losses([transfer.Tanh(), transfer.ReLU(), transfer.Softplus()])[0, 0].figure

# %% [markdown]
# A row is a function. From left to right: $f$; its integral $F$; a matching loss as an area; and the losses
# for three targets, each zero where its mark is. For the ReLU in the middle row every $\hat a \le 0$ is as
# good as any other once the target is 0: the output is the same.
#
# That is the rule: the loss is zero exactly where $f(\hat a) = f(a)$, which is what counts. Where $f$ has no
# inverse the target is given as an output $y$, never as an $a$ that would have to be recovered from it
# (erratum L-9).
#
# ## The other side: conjugates
#
# Written with the target output alone, the loss is
#
# $$M = F(\hat a) + F^*(y) - y\,\hat a, \qquad F^*(y) = \sup_a\,\big(y\,a - F(a)\big) .$$
#
# $F^*$ is the convex conjugate, and that the sum is never negative is its definition (the inequality of
# Fenchel and Young). It does not depend on $\hat a$: for training it is a constant that makes the smallest
# loss zero. Where $y$ lies outside the range of $f$, say $y = 1.2$ behind a sigmoid, $F^*$ is infinite, and
# one trains without it; the gradient $f(\hat a) - y$ is the same (erratum L-8).

# %%
a = np.linspace(-30, 30, 600_001)
for f, y in ((sigmoid, 0.3), (transfer.Tanh(), -0.6), (transfer.Softplus(), 2.0), (transfer.ELU(), -0.5)):
    by_search = np.max(y * a - f.integral(a))
    print(f"{f.name:>8}: F*({y}) = {f.dual_integral(y):.8f}, by search {by_search:.8f}")
    assert np.isclose(f.dual_integral(y), by_search, atol=1e-7)
print("outside the range:", sigmoid.dual_integral(1.2))

# %% [markdown]
# The derivative of $F^*$ is the inverse of $f$. So everything can be told twice, in pre-activations with $F$
# and in outputs with $F^*$, and the two divergences are the same with the arguments exchanged:
#
# $$D_F(u, v) = D_{F^*}\big(f(v), f(u)\big) .$$

# %%
rng = np.random.default_rng(0)
for f in (transfer.Sigmoid(), transfer.Tanh(), transfer.ArcTan(), transfer.Softplus(), transfer.ELU()):
    u, v = rng.normal(size=(2, 1000))
    assert np.allclose(f.bregman(u, v), f.dual_bregman(f.value(v), f.value(u)), rtol=1e-7, atol=1e-12)
print(mg.verify.audit(["sigmoid", "tanh", "softplus", "elu", "arctan", "convex_integral"]))

# %% [markdown]
# The laws of each function, $F' = f$, the duality, the area, are part of the audit: the column *laws*.
#
# A divergence is no distance. Exchange the arguments and something else comes out; and only in the first one
# is it convex. Behind tanh, the loss with the arguments exchanged has places where it bends downwards
# (erratum L-11):

# %%
tanh = transfer.Tanh()
h, a_hat, a = 1e-3, 2.5, 0.3
for name, loss in (("D(a_hat, a)", lambda x: tanh.bregman(x, a)), ("D(a, a_hat)", lambda x: tanh.bregman(a, x))):
    bend = (loss(a_hat + h) - 2 * loss(a_hat) + loss(a_hat - h)) / h**2
    print(f"{name}: {loss(a_hat):.4f}, second derivative {bend:+.4f}")

# %% [markdown]
# ## Digits that need all their digits
#
# As printed, the integral of the sigmoid overflows for $a < -709$, and the difference of two integrals loses
# its digits where $\hat a$ is near $a$. The library's values are right to the last digits in both places:

# %%
print(sigmoid.integral(-800.0), sigmoid.integral(800.0))
for gap in (1e-3, 1e-6, 1e-9):
    naive = sigmoid.integral(1 + gap) - sigmoid.integral(1.0) - sigmoid.value(1.0) * gap
    exact = sigmoid.matching_loss(1 + gap, 1.0)
    quadratic = 0.5 * sigmoid.derivative(1.0) * gap**2
    print(f"gap {gap:.0e}: by subtraction {naive:.3e}, the library {exact:.6e}, half f' gap^2 {quadratic:.6e}")

# %% [markdown]
# ## One of your own
#
# A transfer function of your own takes three lines. It needs to be monotone, and that is checked; the
# integral is found by SymPy, or by quadrature where SymPy finds none.

# %%
a = sp.Symbol("a", real=True)
softsign = transfer.define("softsign", a / (1 + sp.Abs(a)))
mg.plots.matching_losses([softsign])[0, 0].figure

# %%
print(mg.tables.matching_losses([softsign]).render("text"))
print(softsign.matching_loss(2.0, -1.0), softsign.fenchel_young(2.0, 0.5))

# %% [markdown]
# And one that falls somewhere has no matching loss: the area could be negative, and "the smallest loss" would
# not be where the output is right (erratum L-14; the source does not ask for monotonicity, and mentions
# periodic functions).

# %%
try:
    transfer.define("wave", sp.sin(a))
except ValueError as refused:
    print(refused)

# %% [markdown]
# ## What to remember
#
# Integrate $f(\hat a) - y$ and you get the loss that suits $f$: an area, a Bregman divergence, convex, with
# the gradient output less target. Identity and squared error, sigmoid and binary cross-entropy, softmax and
# cross-entropy are three instances of it. A loss behind the wrong function has an $f'$ in its gradient, and
# plateaus where $f$ is flat.
#
# ## Exercises

# %% [markdown]
# ### Exercise 1: the matching loss of the ReLU
#
# Write the matching loss of $f(a) = \max(a, 0)$ for a pre-activation $\hat a$ and a target *output* $y \ge
# 0$, with its constant, so that it is 0 where the output is right. Arrays of any shape.

# %% exercise="relu_loss"
def relu_loss(a_hat, y):
    """F(a_hat) + F*(y) - y a_hat of the ReLU, entry by entry; y >= 0."""
    ### BEGIN SOLUTION
    return 0.5 * np.maximum(a_hat, 0) ** 2 + 0.5 * y**2 - y * a_hat
    ### END SOLUTION

# %% check="relu_loss" points=1
_rng = np.random.default_rng(1)
_cases = [(_rng.normal(size=(3, 4)), _rng.random((3, 4))), (np.array([-2.0, -1.0, 3.0]), np.array([0.0, 0.5, 3.0]))]
mg.verify.exercise(relu_loss, transfer.ReLU().fenchel_young, _cases, hint="which a gives the largest y a - F(a)?")

# %% [markdown]
# ### Exercise 2: the matching loss of tanh
#
# $F(a) = \log\cosh a$. Write $M(\hat a, a)$ so that it is finite for $\pm 1000$. (In exact arithmetic
# $\log\cosh a = |a| + \log(1 + e^{-2|a|}) - \log 2$.)

# %% exercise="tanh_loss"
def tanh_loss(a_hat, a):
    """The matching loss of tanh, entry by entry, for pre-activations of any size."""
    ### BEGIN SOLUTION
    def F(x):
        return np.abs(x) + np.log1p(np.exp(-2 * np.abs(x))) - np.log(2)

    return F(a_hat) - F(a) - np.tanh(a) * (a_hat - a)
    ### END SOLUTION

# %% check="tanh_loss" points=2
_rng = np.random.default_rng(2)
_cases = [tuple(2 * _rng.normal(size=(2, 5))), (np.array([1000.0, -1000.0, 0.5]), np.array([-1000.0, 3.0, 1000.0]))]
mg.verify.exercise(tanh_loss, transfer.Tanh().matching_loss, _cases, hint="the tangent is taken at a, not at a_hat")

# %% [markdown]
# ### Exercise 3: the gradient for a whole layer
#
# A layer $\hat a = Wx$ with a sigmoid, and target outputs $y$. Write the gradient of its matching loss,
# summed over the outputs and averaged over the samples, with respect to $W$.

# %% exercise="layer_gradient"
def layer_gradient(W, x, y):
    """The gradient (O, I) by the weights W (O, I), for inputs x (N, I) and target outputs y (N, O)."""
    ### BEGIN SOLUTION
    outputs = 1 / (1 + np.exp(-(x @ W.T)))
    return (outputs - y).T @ x / len(x)
    ### END SOLUTION

# %% check="layer_gradient" points=2
def gradient_of_the_tape(W, x, y):
    W = mg.Tensor(W, requires_grad=True)
    mg.losses.MatchingLoss(transfer.Sigmoid())(mg.Tensor(x) @ W.T, y).backward()
    return W.grad


_rng = np.random.default_rng(3)
_sizes = (1, 2, 3), (5, 4, 2)
_cases = [(_rng.normal(size=(O, I)), _rng.normal(size=(N, I)), _rng.random((N, O))) for N, I, O in _sizes]
mg.verify.exercise(layer_gradient, gradient_of_the_tape, _cases, hint="no derivative of the sigmoid is left in it")

# %% [markdown]
# ### Exercise 4: a conjugate
#
# The function $f(a) = \log(1 + a)$ for $a \ge 0$, and odd, $f(-a) = -f(a)$, never falls. Find its conjugate
# $F^*(y)$, by hand: the conjugate is the integral of the *inverse* of $f$, which is easy to write down.

# %% exercise="log_conjugate"
def log_conjugate(y):
    """F*(y), entry by entry, with F*(0) = 0, for f(a) = sign(a) log(1 + |a|)."""
    ### BEGIN SOLUTION
    return np.expm1(np.abs(y)) - np.abs(y)
    ### END SOLUTION

# %% check="log_conjugate" points=3
def by_quadrature(y):
    """The integral of the inverse, sign(x) (e^|x| - 1), from 0 to y."""
    from scipy.integrate import quad

    return np.array([quad(lambda x: np.sign(x) * np.expm1(abs(x)), 0, one)[0] for one in y])


_cases = [np.array([0.0, 0.5, 2.0]), np.array([-1.5, -0.1, 3.0])]
mg.verify.exercise(log_conjugate, by_quadrature, _cases, hint="solve y = log(1 + a) for a, then integrate from 0 to y")
