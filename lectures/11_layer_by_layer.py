# %% [markdown]
# # 11. Training layer by layer
#
# *A forward and a backward pass are dear: must all that they tell a layer be spent on a single step?*
#
# Back-propagation works through a whole network, forward and backward, to learn one thing: in which direction
# each weight should move, here and now. Then all weights move a little, and everything begins again. LocoProp
# (US 2022/0253713; Amid, Anil and Warmuth 2022) asks for a little more and gets a lot more out of it. The
# backward pass leaves with each layer a *target*; and then every layer, on its own and at the same time as
# all others, takes several steps towards it.

# %%
import time

import numpy as np

import minigrad as mg

train, validation, test = mg.data.digits()
risk = mg.losses.CrossEntropy()


def network(seed=0):
    """64-128-64-10 with tanh, for images (N, 1, 8, 8)."""
    nn = mg.nn
    hidden = nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 64), nn.Tanh()
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(64, 10)).reset(seed)

# %% [markdown]
# ## A target for a layer
#
# Layer $m$ gets inputs $\hat y_{m-1}$ and computes pre-activations and outputs,
#
# $$\hat a_m = W_m\,\hat y_{m-1}, \qquad \hat y_m = f_m(\hat a_m)$$
#
# (the hats say: what is, not what should be; the bias is in $W_m$, as in $\tilde x = [x; 1]$). The backward
# pass comes by $\partial L/\partial\hat a_m$ anyway, on its way to the weights. That row says where the loss
# would like the pre-activations to be: a step of length $\gamma$ further down,
#
# $$a_m = \hat a_m - \gamma\,\nabla_{\hat a_m} L .$$
#
# Let us do this by hand, for the layer in the middle and a batch of 64 digits. To get hold of the gradient,
# we cut the tape at $\hat a_2$: what comes after begins at a leaf.

# %%
x, labels = train.x[:64], train.y[:64]
model, m, gamma = network(), 64, 3.0
inputs = model[:3](x).data  # through the first layer and its tanh
a_hat = mg.Tensor(model[3](inputs).data, requires_grad=True)
risk(model[4:](a_hat), labels).backward()
target = a_hat.data - gamma * m * a_hat.grad
print("inputs", inputs.shape, "pre-activations", a_hat.shape, "target", target.shape)

# %% [markdown]
# Why the factor $m$? The loss of a batch is a mean, so each row of its gradient has been divided by $m$. A
# target belongs to an example, and so should its gradient. The patent leaves open whether local losses are
# averaged or summed; whoever takes the gradient of a mean for the targets, and then averages the local losses
# too, divides by $m$ twice.
#
# ## A small problem of its own
#
# Now layer 2 forgets that there is a network. It has inputs, it has targets, and it looks for weights
# $\tilde W$ that lead from the ones to the others, not too far from the $W$ it has:
#
# $$\min_{\tilde W}\ \frac1m\sum_n \tfrac12\,\lVert\tilde W\hat y_n - a_n\rVert^2
#   + \frac1{2\eta}\lVert\tilde W - W\rVert^2 .$$
#
# That is ridge regression with the ridge around $W$. One number $\gamma$ says how far away the target is,
# another one, $\eta$, how much we trust it. The gradient of the first term, the *data gradient*
# $G(\tilde W)$, is the mean of $(\tilde W\hat y_n-a_n)\,\hat y_n^{\mathsf T}$, and a step of descent with
# rate $\tau\eta$ is
#
# $$\tilde W \leftarrow \tilde W - \tau\,\big[\eta\, G(\tilde W) + (\tilde W - W)\big].$$

# %%
y = np.column_stack([inputs, np.ones(m)])
W = np.column_stack([model[3].weight.data, model[3].bias.data])
eta = 0.1


def local_step(now, tau, anchor=W):
    """W~ after one more step towards the target."""
    G = (now @ y.T - target.T) @ y / m
    return now - tau * (eta * G + (now - anchor))


def local_steps(tau, steps):
    """W~ after each of the steps, from W; (steps + 1, 64, 129)."""
    visited = [W]
    for _ in range(steps):
        visited.append(local_step(visited[-1], tau))
    return np.array(visited)


# %% [markdown]
# ### The first step is back-propagation
#
# At $\tilde W = W$ the residual $W\hat y_n - a_n$ is $\gamma$ times the gradient of the loss with respect to
# $\hat a$, and the outer product with $\hat y_n$ is the chain rule. So the first step, with $\tau = 1$, is a
# step of plain gradient descent on the network, with the learning rate $\eta\gamma$ (LP-23). Nothing is lost
# by thinking in targets; what is new begins with the second step.

# %%
risk(model(x), labels).backward()
gradient = np.column_stack([model[3].weight.grad, model[3].bias.grad])
_, first, second = local_steps(tau=1.0, steps=2)
by_descent = W - eta * gamma * gradient
print(f"from back-propagation to the first step: {np.abs(first - by_descent).max():.0e}")
print(f"from there to the second step: {np.abs(second - first).max():.0e}")

# %% [markdown]
# The second step costs no pass through the network. It needs the inputs and targets of the layer, which are
# still there, and two products of matrices.
#
# ### Where the steps lead
#
# For this local loss, the squared distance before the transfer function, the end of the road is known in
# closed form. Set the gradient to zero:
#
# $$\tilde W_\star = \Big(\tfrac1\eta W + \tfrac1m\sum_n a_n\hat y_n^{\mathsf T}\Big)
#   \Big(\tfrac1\eta I + \tfrac1m\sum_n\hat y_n\hat y_n^{\mathsf T}\Big)^{-1}$$
#
# (LP-24; `exact_minimizer` computes it). In the direction of an eigenvector of
# $S = \frac1m\sum\hat y\hat y^{\mathsf T}$ with the eigenvalue $\lambda$ the distance from it is multiplied
# by $1 - \tau(1+\eta\lambda)$ in each step. It converges if $\tau(1+\eta\lambda_{\max}) < 2$: the limit of
# lecture 5 again, this time for a bowl that we know.

# %%
exact = np.column_stack(mg.locoprop.exact_minimizer(model[3], inputs, target, eta))
curvatures = 1 + eta * np.linalg.eigvalsh(y.T @ y / m)
limit = 2 / curvatures[-1]
print(f"1 + eta lambda goes from {curvatures[0]:.2f} to {curvatures[-1]:.2f}")
print(f"the limit of tau is {limit:.3f}")
distances = {}
for tau in (0.05, 0.2, 0.5, 1.1 * limit):
    distances[tau] = np.linalg.norm(local_steps(tau, 30) - exact, axis=(1, 2))
    assert (distances[tau][-1] < distances[tau][0]) == (tau < limit)

# %% tags=["hide-input"]
LOOKS = (("blue", "o"), ("green", "^"), ("orange", "s"), ("vermilion", "D"), ("purple", "v"), ("black", "P"))
ax = mg.plots.slide("local step", "distance from the exact minimum")
for (tau, distance), (colour, marker) in zip(distances.items(), LOOKS, strict=False):
    style = {"color": mg.plots.OKABE_ITO[colour], "marker": marker, "markersize": 7, "linewidth": 2}
    ax.semilogy(distance, label=rf"$\tau$ = {tau:.2f}", **style)
ax.legend(fontsize=16, frameon=False)
ax.figure

# %% [markdown]
# ### What anchors the weights
#
# The source prints the data gradient alone, and it calls two things "the current weights": those before the
# local steps, and those of the step before. It matters. If the anchor moves along, the second term is always
# zero, and the steps are plain descent on the data term; run long enough they approach the targets
# themselves, wherever that leads the weights. If it stays at $W$, they approach $\tilde W_\star$, which
# respects both terms. (64 examples are few for a unit of 129 weights: it can hit every target.)

# %%
for name in ("fixed", "moving"):
    now, misses = W, []
    for _ in range(1001):
        misses.append(np.linalg.norm(now @ y.T - target.T))
        now = local_step(now, 0.5, anchor=W if name == "fixed" else now)
    print(f"{name:>6} anchor:", *(f"{misses[step]:.2f}" for step in (0, 10, 100, 1000)))

# %% [markdown]
# What is printed is the distance of all pre-activations from their targets, at first and after 10, 100 and
# 1000 steps. The fixed anchor has arrived after ten steps, and the moving one is still on its way after a
# thousand. Only a *fixed* anchor penalizes what it says that it penalizes; a *moving* one relies on stopping
# after a few steps. `LocoProp` has both.
#
# ## Four local losses
#
# A layer can be compared with its target before its transfer function or after it, and by a square or by the
# loss that belongs to the transfer function. The library has all four of them.

# %%
for name, variant in mg.locoprop.VARIANTS.items():
    print(f"{name:>12}: {variant.__doc__.split(' (figure')[0]}")

# %% [markdown]
# The *matching loss* of $f$ is the area between its curve and the level of the target:
# $L_f(\hat a, a) = \int_a^{\hat a} (f(z) - f(a))\,dz$. Its gradient is $f(\hat a) - f(a)$, without a factor
# $f'$: for a softmax it is the cross-entropy, for the identity one half of the square.

# %%
mg.tables.matching_losses([mg.transfer.Tanh(), mg.transfer.Sigmoid()])

# %%
matching = mg.losses.MatchingLoss(mg.transfer.Tanh())
a_hat, y_target = np.array([[2.0, -1.0, 0.5]]), np.array([[0.3, 0.2, -0.9]])
difference = mg.verify.compare(
    matching, lambda a_hat, y: np.tanh(a_hat) - y, wrt="a_hat", a_hat=a_hat, y=y_target
)
print(f"the gradient is f(a_hat) - y, to {difference.error:.0e}")
assert difference
mg.plots.matching_loss(mg.transfer.Tanh(), a_hat=2.5, a=0.3).figure

# %%
tanh, a_hats, a = mg.transfer.Tanh(), np.linspace(-4, 4, 321), 0.3
losses = {
    "squared-pre": (a_hats - a) ** 2 / 2,
    "squared-post": (np.tanh(a_hats) - np.tanh(a)) ** 2 / 2,
    "matching": tanh.matching_loss(a_hats, a),
    "dual": tanh.bregman(a, a_hats),
}
for name, loss in losses.items():
    bend = np.diff(loss, 2).min()
    print(f"{name:>12}: {'convex' if bend > -1e-12 else 'not convex'}")

# %% tags=["hide-input"]
ax = mg.plots.slide(r"pre-activation $\hat a$", "local loss")
for (name, loss), (colour, marker) in zip(losses.items(), LOOKS, strict=False):
    style = {"color": mg.plots.OKABE_ITO[colour], "marker": marker, "markersize": 9, "linewidth": 2.5}
    ax.plot(a_hats, loss, markevery=40, label=name, **style)
ax.axvline(a, color="0.5", linestyle=":", linewidth=2)
ax.set_ylim(0, 4.2)
ax.legend(fontsize=16, framealpha=1, edgecolor="white", loc="upper center")
ax.figure

# %% [markdown]
# For a tanh unit whose target is $\tanh 0.3$ (dotted). The squares after the transfer function flatten out: a
# saturated unit that is wrong has no slope to come back by. The matching loss is convex in $\hat a$, hence in
# $\tilde W$, and far from the target its slope is the whole error. It has the saturation of the unit, where
# it belongs, and still a way home.
#
# The target that goes with it is not $\hat y - \gamma\nabla_{\hat y} L$ but
# $y = \hat y - \gamma\,\nabla_{\hat a}L$: a step made in the coordinates $\hat y$, along the gradient taken
# in the coordinates $\hat a$. That is *mirror descent*. The patent prints it as
# $y_m = y_m - \gamma\nabla_{\hat a_m}L$, with the target on both sides, which only holds where the gradient
# is zero; the hat is missing.
#
# In the dual loss the order of the arguments decides. $D_F(a, \hat a)$, target first, has the gradient
# $(\hat a - a)^{\mathsf T} J_f(\hat a)$ that is printed; the other order is the matching loss once more. The
# curve above shows that the dual loss is not convex either, although its name promises a relation.
#
# All four are made so that the first step is back-propagation. We let the library take one step of each, from
# the same weights, and compare with plain descent.

# %%
def trained(step_of, steps=1, seed=0):
    """All parameters as one vector, after some steps on the first 64 digits."""
    model = network(seed)
    step = step_of(model)
    for _ in range(steps):
        step(x, labels)
    return np.concatenate([parameter.data.ravel() for parameter in model.parameters()])


def descent(make):
    """Back-propagation: a function of a model that returns a function of a batch."""

    def step_of(model):
        optimizer = make(model.parameters())

        def step(x, labels):
            risk(model(x), labels).backward()
            optimizer.step()

        return step

    return step_of


def locally(**settings):
    """The same for steps of LocoProp."""
    return lambda model: mg.locoprop.LocoProp(model, risk, **settings).step

# %%
plain = descent(lambda parameters: mg.optim.SGD(parameters, lr=0.3))
one = trained(plain)
print(f"plain descent moves a weight by up to {np.abs(one - trained(plain, 0)).max():.3f}")
rates = {"activation_lr": 3.0, "weight_lr": 0.1, "anchor": "moving"}
for variant in mg.locoprop.VARIANTS:
    far = []
    for T in (1, 2):
        other = trained(locally(variant=variant, iterations=T, **rates))
        far.append(np.abs(other - one).max())
    assert far[0] < 1e-14
    print(f"{variant:>12}: from there, T = 1 {far[0]:.0e}, T = 2 {far[1]:.0e}")

# %% [markdown]
# In the last layer, $f$ is the softmax that the cross-entropy applies. Layers without weights (pooling,
# normalization, dropout) have no local problem; the backward pass goes through them as ever.
#
# ## Watching the layers
#
# A trainer remembers the problems of its last round, and `local_losses` solves them again and writes down the
# local loss before the first step and after each one. Here are ten steps of each layer with the matching loss
# and a fixed anchor, after an epoch of training.

# %%
model = network()
trainer = mg.locoprop.LocoProp(
    model, risk, variant="matching", activation_lr=3.0, weight_lr=3.0, inner_step=0.03,
    iterations=10,
)
for batch in mg.data.batches(train, 64, np.random.default_rng(0)):
    trainer.step(*batch)
before = float(risk(model(x), labels))
trainer.step(x, labels)
print(f"loss of the batch {before:.4f}, after a round {float(risk(model(x), labels)):.4f}")
for name, losses in trainer.local_losses.items():
    print(f"layer {name}: its local loss falls by {losses[0] - losses[-1]:.3f}")

# %% tags=["hide-input"]
ax = mg.plots.slide("local step", "local loss, less that before the first")
for (name, losses), (colour, marker), which in zip(
    trainer.local_losses.items(), LOOKS, ("first", "second", "last"), strict=False
):
    ax.plot(
        losses - losses[0], color=mg.plots.OKABE_ITO[colour], marker=marker, markersize=9, linewidth=2.5,
        label=f"{which} layer ({name})",
    )
ax.legend(fontsize=16, frameon=False)
ax.figure

# %% [markdown]
# Each layer comes down on its own loss. (The constants differ from layer to layer: where a target lies
# outside the range of tanh, the constant part of the matching loss is infinite, and is left out.) And
# although every layer believes that all others stand still, while in truth all of them move, the loss of the
# batch falls.
#
# There is no theorem behind that last sentence. It holds for small $\gamma$, as the first step is a gradient
# step. If $\gamma$ and $T$ are too large, every layer does the whole work of all, and together they
# overshoot.
#
# ## The same number of epochs
#
# Now a comparison, on the digits: ten epochs of batches of 64 for everybody, the same initial weights, the
# same batches. The learning rates of the first-order methods are the best of 0.03, 0.1, 0.3 and 1 (for Adam
# of 0.001, 0.003 and 0.01) by the risk at the end; the local methods had a handful of tries, too.

# %%
def ten_epochs(step_of, epochs=10):
    """The training risk after each epoch, the seconds, the validation error at the end."""
    model = network()
    step, rng, risks, seconds = step_of(model), np.random.default_rng(0), [], 0.0
    for _ in range(epochs):
        began = time.perf_counter()
        for batch in mg.data.batches(train, 64, rng):
            step(*batch)
        seconds += time.perf_counter() - began
        risks.append(mg.training.evaluate(model, risk, train)[0])
    return risks, seconds, mg.training.evaluate(model, risk, validation)[1]


momentum = descent(lambda parameters: mg.optim.SGD(parameters, lr=0.3, momentum=0.9))
local = {"variant": "matching", "activation_lr": 3.0}
methods = {
    "SGD": plain,
    "SGD, momentum 0.9": momentum,
    "Adam": descent(lambda parameters: mg.optim.Adam(parameters, lr=0.01)),
    "LocoProp, T = 1": locally(**local, weight_lr=0.1, iterations=1),
    "LocoProp, fixed anchor": locally(**local, weight_lr=3.0, inner_step=0.03),
    "LocoProp, moving anchor": locally(**local, weight_lr=0.1, anchor="moving"),
}
runs = {name: ten_epochs(step_of) for name, step_of in methods.items()}
for name, (risks, seconds, error) in runs.items():
    print(f"{name:>23}: risk {risks[-1]:.4f}, validation {error:.1%}, {seconds:.2f} s")

# %% tags=["hide-input"]
ax = mg.plots.slide("epoch", "training risk")
for (name, (risks, *_)), (colour, marker) in zip(runs.items(), LOOKS, strict=True):
    style = "--" if "T = 1" in name else "-"
    colour = mg.plots.OKABE_ITO[colour]
    ax.semilogy(range(1, 11), risks, style, color=colour, marker=marker, markersize=9, linewidth=2.2, label=name)
ax.legend(fontsize=14, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
ax.figure

# %% [markdown]
# With $T = 1$ LocoProp lies on the curve of SGD; it *is* SGD, on a detour. With ten local steps it begins no
# faster than the others, takes the lead within a few epochs, and after ten its risk is the smallest of all.
# Per epoch, what the patent claims is true here.
#
# Per second it is another matter. Back-propagation is three products of matrices for each layer and batch;
# ten local steps are twenty more. What would descent with momentum do with six times as many epochs?

# %%
risks, seconds, error = ten_epochs(momentum, epochs=60)
print(f"momentum, 60 epochs: risk {risks[-1]:.4f}, validation {error:.1%}, {seconds:.2f} s")
print(f"LocoProp, moving anchor, 10 epochs: {runs['LocoProp, moving anchor'][1]:.2f} s")

# %% [markdown]
# Smaller by far. On one machine, with small layers and cheap data, the plain method holds its own, and
# whoever reports risk against epochs alone should say so. The balance shifts where a pass through the network
# is dear: where data come slowly, or where the layers live on different machines and the pass is a queue of
# messages.
#
# And a small training risk is not the aim, either: by the validation error, these methods can hardly be told
# apart.
#
# ## Layers in parallel
#
# That is the other half of the promise. Once the targets are there, a layer needs nothing from any other: no
# messages, no order. `Problem` holds all that a layer needs, `solve` is a function of it alone, and an
# executor (threads, processes, or machines) may solve them anywhere.

# %%
settings = {**local, "weight_lr": 0.1, "anchor": "moving"}
serial = trained(locally(**settings), steps=5)
with mg.locoprop.executor_for("threads:3") as executor:
    parallel = trained(locally(**settings, executor=executor), steps=5)
print("the same bits:", np.array_equal(serial, parallel))
assert np.array_equal(serial, parallel)

# %% [markdown]
# Not nearly the same: the same bits. Each problem is solved on one thread, whichever that is, and the results
# are put back in the order of the layers. Sums of floating-point numbers depend on their order, so this takes
# care; but it is what allows a lost machine to be replaced, and its problem to be solved again, without
# anyone noticing.
#
# ## What to remember
#
# A gradient can be read as a target. Towards a target a layer can take many steps, for the price of its own
# products only. The first of them is back-propagation, whichever of the four losses is used; the last leads
# to the minimum of a local problem, which is convex before the transfer function and for the matching loss.
# Per epoch that pays; per second it depends on what a pass costs.
#
# ## Exercises

# %% [markdown]
# ### Exercise 1: the mirror target of a hidden layer
#
# A network of two layers: $\hat y_1 = \tanh(W_1 x + b_1)$, then softmax and cross-entropy on
# $W_2\hat y_1 + b_2$. Write the target $y_1 = \hat y_1 - \gamma\nabla_{\hat a_1}\ell$ of the hidden layer for
# a batch, with the gradients of each example (not those of their mean), by NumPy alone.

# %% exercise="mirror_target"
def mirror_target(x, labels, W1, b1, W2, b2, gamma):
    """Targets (N, H) for x (N, I), labels (N,), W1 (H, I), b1 (H,), W2 (K, H), b2 (K,)."""
    ### BEGIN SOLUTION
    h = np.tanh(x @ W1.T + b1)
    z = h @ W2.T + b2
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(x)), labels] -= 1
    return h - gamma * (p @ W2) * (1 - h**2)
    ### END SOLUTION

# %% check="mirror_target" points=2
def target_by_the_tape(x, labels, W1, b1, W2, b2, gamma):
    leaf = mg.Tensor(x @ W1.T + b1, requires_grad=True)
    logits = mg.tanh(leaf) @ mg.Tensor(W2.T) + b2
    mg.losses.CrossEntropy(reduction="sum")(logits, labels).backward()
    return np.tanh(leaf.data) - gamma * leaf.grad


_rng = np.random.default_rng(1)
_cases = [
    (size * _rng.normal(size=(N, I)), _rng.integers(K, size=N), _rng.normal(size=(H, I)), _rng.normal(size=H),
     _rng.normal(size=(K, H)), _rng.normal(size=K), gamma)
    for N, I, H, K, size, gamma in ((3, 2, 4, 5, 1.0, 0.5), (6, 4, 3, 2, 0.3, 3.0))
]
mg.verify.exercise(
    mirror_target, target_by_the_tape, _cases, hint="p - e_y of each example, back through W2 and through tanh"
)

# %% [markdown]
# ### Exercise 2: the exact minimum for one example
#
# For a single example the inverse matrix in the closed form is never needed: $\hat y\hat y^{\mathsf T}$ has
# rank one. Write the minimum of
# $\frac12\lVert\tilde W\hat y - a\rVert^2 + \frac1{2\eta}\lVert\tilde W-W\rVert^2$ without solving a system.
# (What does it do to $W$ for a very large $\eta$?)

# %% exercise="nearest_weights"
def nearest_weights(W, y, a, eta):
    """The minimizer (O, I) for W (O, I), an input y (I,), a target a (O,), a number eta."""
    ### BEGIN SOLUTION
    return W - eta / (1 + eta * y @ y) * np.outer(W @ y - a, y)
    ### END SOLUTION

# %% check="nearest_weights" points=2
def by_the_library(W, y, a, eta):
    layer = mg.nn.Linear(len(y), len(a), bias=False)
    layer.weight.data = W
    return mg.locoprop.exact_minimizer(layer, y[None], a[None], eta)[0]


_rng = np.random.default_rng(2)
_cases = [
    (_rng.normal(size=(O, I)), _rng.normal(size=I), _rng.normal(size=O), eta)
    for O, I, eta in ((2, 3, 0.1), (4, 3, 5.0), (3, 3, 0.7))
]
mg.verify.exercise(
    nearest_weights, by_the_library, _cases, hint="with the residual r, put W + c r y^T into the loss, and find c"
)

# %% [markdown]
# ### Exercise 3: steps on the matching loss
#
# In the lecture, `local_steps` went down the squared distance before the transfer function. Write $T$ steps
# with the matching loss of tanh, a fixed anchor and batch means, towards target *outputs*.

# %% exercise="matching_steps"
def matching_steps(W, y, targets, eta, tau, T):
    """W~ (O, I) after T steps from W (O, I), inputs y (m, I), target outputs (m, O)."""
    ### BEGIN SOLUTION
    now = W.copy()
    for _ in range(T):
        residual = np.tanh(y @ now.T) - targets
        now = now - tau * (eta * residual.T @ y / len(y) + (now - W))
    return now
    ### END SOLUTION

# %% check="matching_steps" points=2
def descent_on_the_local_loss(W, y, targets, eta, tau, T):
    weights = mg.nn.Parameter(W.copy())
    distance = mg.losses.MatchingLoss(mg.transfer.Tanh(), constant=False)
    optimizer = mg.optim.SGD([weights], lr=tau * eta)
    for _ in range(T):
        (distance(mg.Tensor(y) @ weights.transpose(), targets) + ((weights - W) ** 2).sum() / (2 * eta)).backward()
        optimizer.step()
    return weights.data


_rng = np.random.default_rng(3)
_cases = [
    (_rng.normal(size=(O, I)), _rng.normal(size=(m, I)), np.tanh(_rng.normal(size=(m, O))) + 0.2, eta, tau, T)
    for O, I, m, eta, tau, T in ((2, 3, 5, 0.5, 0.3, 1), (4, 3, 2, 2.0, 0.2, 4), (3, 3, 6, 1.0, 0.5, 10))
]
mg.verify.exercise(
    matching_steps, descent_on_the_local_loss, _cases, hint="the gradient by a_hat is f(a_hat) - y; which anchor?"
)

# %% [markdown]
# ### Exercise 4: the dual loss
#
# Write the data gradient of the dual local loss $D_F(a, \tilde W\hat y)$ for tanh, the mean over a batch. The
# order of the arguments is half of the exercise.

# %% exercise="dual_gradient"
def dual_gradient(W, y, a):
    """The gradient (O, I) at W (O, I) for inputs y (m, I) and targets a (m, O)."""
    ### BEGIN SOLUTION
    a_hat = y @ W.T
    return ((1 - np.tanh(a_hat) ** 2) * (a_hat - a)).T @ y / len(y)
    ### END SOLUTION

# %% check="dual_gradient" points=2
def gradient_by_the_tape(W, y, a):
    weights = mg.nn.Parameter(W)
    mg.losses.BregmanDivergence(mg.transfer.Tanh())(a, mg.Tensor(y) @ weights.transpose()).backward()
    return weights.grad


_rng = np.random.default_rng(4)
_cases = [
    (_rng.normal(size=(O, I)), _rng.normal(size=(m, I)), 2 * _rng.normal(size=(m, O)))
    for O, I, m in ((2, 3, 5), (4, 2, 1), (3, 3, 4))
]
mg.verify.exercise(
    dual_gradient, gradient_by_the_tape, _cases, hint="differentiate F(a) - F(v) - f(v) (a - v) by v: what cancels?"
)
