# %% [markdown]
# # 5. Descent: momentum, mini-batches, schedules and stopping
#
# *The gradient says which way is down. How far shall we go, how many samples shall we ask, and when is it
# enough?*
#
# Back-propagation ends with a row of numbers, and with a promise about an infinitely small step. Training
# takes steps that are not small at all. Everything in this lecture is about the difference: the learning
# rate, the momentum, the size of the batch, the schedule and the end of training are five answers to the
# question of what to do with a gradient that is true here and wrong a little further on (Tomasi 2019, section
# 4).
#
# We begin on a bowl, where everything can be computed, and check each result on a network afterwards.

# %%
import numpy as np

import minigrad as mg

train, validation, test = mg.data.digits()
train, validation, test

# %% [markdown]
# ## A bowl
#
# Near a minimum every smooth risk looks like a quadratic bowl. Take the one with curvature 1 along one axis
# and 12 along the other,
#
# $$L(w) = \tfrac12 \left(\kappa_1 w_1^2 + \kappa_2 w_2^2\right), \qquad \kappa = (1, 12),$$
#
# a long valley: the gradient points across the valley much more than along it. We let the optimizer of the
# library walk in it, and write down where it goes.

# %%
kappa = np.array([1.0, 12.0])
start = np.array([-4.0, 1.5])


def path(lr, momentum=0.0, steps=40):
    """The points (steps + 1, 2) that descent visits in the bowl."""
    w = mg.nn.Parameter(start.copy())
    optimizer = mg.optim.SGD([w], lr=lr, momentum=momentum)
    visited = [w.data.copy()]
    for _ in range(steps):
        risk = 0.5 * (kappa * w * w).sum()
        risk.backward()
        optimizer.step()
        visited.append(w.data.copy())
    return np.array(visited)


# %% tags=["hide-input"]
def draw_bowl(ax, visited, colour, title, marker="o"):
    """Level lines of the bowl, and a path in it."""
    a, b = np.meshgrid(np.linspace(-5, 5, 201), np.linspace(-2.6, 2.6, 201))
    risk = 0.5 * (kappa[0] * a**2 + kappa[1] * b**2)
    ax.contour(a, b, risk, levels=np.array([0.1, 0.5, 1.5, 4, 8, 16, 28]), colors="0.75", linewidths=1.2)
    ax.plot(*visited.T, marker=marker, color=mg.plots.OKABE_ITO[colour], markersize=6, linewidth=1.8)
    ax.plot(0, 0, "*", color="black", markersize=13)
    ax.set(xlim=(-5, 5), ylim=(-2.6, 2.6))
    ax.set_title(title, fontsize=16)
    ax.set_xlabel("$w_1$", fontsize=16)
    ax.tick_params(labelsize=13)


figure = mg.plots.figure((15, 4.6), dpi=80)
panels = figure.subplots(1, 3, sharey=True)
for ax, lr, colour in zip(panels, (0.02, 0.15, 0.17), ("blue", "green", "vermilion"), strict=True):
    draw_bowl(ax, path(lr, steps=20), colour, f"learning rate {lr}, 20 steps")
panels[0].set_ylabel("$w_2$", fontsize=16)
figure

# %% [markdown]
# The small rate creeps. The larger one hurries down the valley and bounces from wall to wall. And with a rate
# only a little larger still, each bounce lands higher than the one before, and the descent climbs out of the
# bowl.
#
# ## The rate at which it diverges
#
# On an axis of curvature $\kappa$ the gradient is $\kappa w$, so that a step of plain descent is a
# multiplication,
#
# $$w_{t+1} = w_t - \alpha\kappa\, w_t = (1 - \alpha\kappa)\, w_t .$$
#
# It shrinks $w$ if $|1 - \alpha\kappa| < 1$, that is for
#
# $$0 < \alpha < \frac{2}{\kappa_{\max}},$$
#
# here $2/12 = 0.1\overline{6}$. (Texts on optimization write $L$ for the largest curvature, and the rule is
# known as "two over $L$"; our $L$ is the risk.) The steepest wall alone sets the limit, and the flattest
# direction, which shrinks by $1 - \alpha\kappa_{\min}$ a step, has to live with it. The best rate makes both
# equally bad: $\alpha = 2/(\kappa_{\min} + \kappa_{\max})$, at which every step shrinks the error by
# $(k-1)/(k+1)$, where $k = \kappa_{\max}/\kappa_{\min}$ is the *condition number*.

# %%
for lr in (0.02, 0.1, 2 / (1 + 12), 0.15, 0.17):
    size = np.abs(path(lr, steps=400)).max(axis=1)
    measured = (size[400] / size[300]) ** (1 / 100)
    predicted = np.abs(1 - lr * kappa).max()
    assert abs(measured - predicted) < 1e-9
    print(f"rate {lr:.4f}: a step multiplies the error by {measured:.4f}")

# %% [markdown]
# ## The same on real data
#
# Is a bowl more than a toy? A linear layer under the quadratic loss (TC-05, no ½) *is* a bowl, on any data.
# With the input extended by a 1 for the bias, its risk is
# $\frac1N\sum_n\lVert W\tilde x_n - e_{y_n}\rVert^2$, and the curvature along the eigenvectors of the second
# moments of the data is
#
# $$\kappa = 2 \lambda\Big(\frac1N\sum_n \tilde x_n\tilde x_n^{\mathsf T}\Big).$$
#
# So the data alone tell, before any training, where descent on the digits will diverge.

# %%
x = train.x.reshape(len(train), -1)
x_tilde = np.column_stack([x, np.ones(len(x))])
q = mg.data.one_hot(train.y, 10)
curvatures = 2 * np.linalg.eigvalsh(x_tilde.T @ x_tilde / len(x))
limit = 2 / curvatures[-1]
print(f"largest curvature {curvatures[-1]:.3f}, median {np.median(curvatures):.3f}")
print(f"the limit of the rate is {limit:.4f}")

# %%
risk_of = mg.losses.SquaredError()
for share in (0.98, 1.02):
    layer = mg.nn.Linear(64, 10, init="zeros")
    optimizer = mg.optim.SGD(layer.parameters(), lr=share * limit)
    risks = []
    for _ in range(301):
        risk = risk_of(layer(x), q)
        risk.backward()
        optimizer.step()
        risks.append(float(risk))
    print(f"{share:.0%} of the limit:", *(f"{risks[t]:.4g}" for t in (0, 100, 200, 300)))
    assert (risks[300] < risks[100]) == (share < 1)

# %% [markdown]
# (The risks before the first step, and after 100, 200 and 300.) Two per cent below the limit it converges,
# two per cent above it explodes. Networks are not bowls: the curvature changes along the way, and a network
# that starts in a steep place may find a flatter one. But the limit is real at each place, and it is why
# `fit`, when a loss is no longer finite, advises a rate ten times smaller.
#
# The spread of the curvatures is the second message. The steepest direction is 700 times as steep as the
# median one, and three have no curvature at all (pixels that nobody ever writes on). The steep one dictates
# the rate; the flat ones want a larger one.
#
# ## Momentum
#
# The way out of the valley is memory. Momentum keeps a velocity $v$, and adds to it rather than to the
# weights (TC-16; Tomasi 2019):
#
# $$v_{t+1} = \mu\, v_t - \alpha\,\nabla L(w_t), \qquad w_{t+1} = w_t + v_{t+1}, \qquad v_0 = 0 .$$
#
# (The source does not say where $v$ begins; at rest.) Put the first equation into itself again and again: the
# velocity is a moving average of all the gradients so far, the last one with weight 1, the one before with
# $\mu$, then $\mu^2$, and so on. The weights sum to $1/(1-\mu)$. What does such an average do to a gradient
# that always says the same, and to one that changes its mind in every step?

# %%
def speed(signs, mu=0.9):
    """How far SGD moves in its last step, where the gradients are given."""
    w = mg.nn.Parameter(np.zeros(1))
    optimizer = mg.optim.SGD([w], lr=1.0, momentum=mu)
    for sign in signs:
        before = w.data.copy()
        w.grad = np.array([sign])
        optimizer.step()
    return abs(w.data - before).item()


steady, alternating = np.ones(300), (-1.0) ** np.arange(300)
print(f"steady: {speed(steady):.3f}, 1 / (1 - mu) = {1 / (1 - 0.9):.3f}")
print(f"alternating: {speed(alternating):.3f}, 1 / (1 + mu) = {1 / (1 + 0.9):.3f}")

# %% [markdown]
# These are the lengths of a step, for gradients of 1. That is just what a valley needs. Along the valley the
# gradients agree, and with $\mu = 0.9$ the steps become ten times as long. Across the valley they alternate,
# and the steps become half as long. In numbers: plain descent at its best rate against momentum at its best
# (Polyak 1964: $\sqrt\alpha = 2/(\sqrt{\kappa_{\min}} + \sqrt{\kappa_{\max}})$,
# $\sqrt\mu = (\sqrt k - 1)/(\sqrt k + 1)$), for the same number of steps.

# %%
k = kappa.max() / kappa.min()
best_mu = ((np.sqrt(k) - 1) / (np.sqrt(k) + 1)) ** 2
best_lr = (2 / np.sqrt(kappa).sum()) ** 2
print(f"momentum {best_mu:.3f}, rate {best_lr:.3f}, limit without {2 / kappa.max():.3f}")
plain = path(2 / kappa.sum(), steps=15)
with_momentum = path(best_lr, best_mu, steps=15)
for name, visited in (("plain", plain), ("momentum", with_momentum)):
    print(f"{name:>8}: after 15 steps {np.linalg.norm(visited[-1]):.5f} from the minimum")

# %% tags=["hide-input"]
figure = mg.plots.figure((13, 4.8), dpi=80)
left, right = figure.subplots(1, 2, sharey=True)
draw_bowl(left, plain, "green", "plain descent, best rate")
draw_bowl(right, with_momentum, "orange", f"momentum {best_mu:.3f}, best rate", "s")
left.set_ylabel("$w_2$", fontsize=16)
figure

# %% [markdown]
# At first the right path bounces even higher than the left one, and yet it arrives. The number of steps to a
# given accuracy grows with $k$ for plain descent, and with $\sqrt k$ for momentum; for a condition number of
# 10,000 that is a factor of a hundred.
#
# ### How far may momentum go?
#
# The rate of the right picture would have been fatal without momentum. A step is now a matrix on the pair
# $(w, v)$,
#
# $$\begin{pmatrix} w\\ v\end{pmatrix} \leftarrow
# \begin{pmatrix} 1-\alpha\kappa & \mu\\ -\alpha\kappa & \mu\end{pmatrix}\begin{pmatrix} w\\ v\end{pmatrix},$$
#
# and the largest absolute eigenvalue of the matrix is what the error is multiplied by in the long run. Its
# determinant is $\mu$: no choice of $\alpha$ can make the error shrink faster than by $\sqrt\mu$ a step.

# %%
def radius(alpha_kappa, mu):
    """The largest absolute eigenvalue of a step."""
    step = np.array([[1 - alpha_kappa, mu], [-alpha_kappa, mu]])
    return np.abs(np.linalg.eigvals(step)).max()


for mu in (0.0, 0.5, 0.9):
    assert radius(1.999 * (1 + mu), mu) < 1 < radius(2.001 * (1 + mu), mu)
    sizes = np.abs(path(1.001 * 2 * (1 + mu) / 12, mu, steps=4000)[:, 1])
    assert sizes[-100:].max() > sizes[:100].max()

# %% tags=["hide-input"]
ax = mg.plots.slide(r"$\alpha\kappa$", "factor of a step")
reach = np.linspace(0.001, 4.2, 600)
for mu, colour, marker in ((0.0, "blue", "o"), (0.5, "green", "^"), (0.9, "orange", "s")):
    style = {"color": mg.plots.OKABE_ITO[colour], "linewidth": 2.5}
    ax.plot(reach, [radius(r, mu) for r in reach], label=f"$\\mu$ = {mu}", **style)
    ax.plot(2 * (1 + mu), 1, marker, markersize=11, **style)
ax.axhline(1, color="0.4", linestyle=":", linewidth=2)
ax.set(xlim=(0, 4.2), ylim=(0, 1.6))
ax.legend(fontsize=16, frameon=False)
ax.figure

# %% [markdown]
# Everything under the dotted line converges. The marks, where the curves leave it, stand at
# $\alpha\kappa = 2(1+\mu)$: an alternating gradient is divided by $1+\mu$, so that is what the limit is
# multiplied by. The wide flat floor, at the height $\sqrt\mu$, is what makes momentum forgiving: there all
# curvatures between two bounds converge equally fast, and one rate serves a whole spectrum of directions.
#
# ### A detail that differs between libraries
#
# In Tomasi's form, and here, $\alpha$ stands *inside* the velocity. PyTorch keeps
# $b \leftarrow \mu b + \nabla L$ and moves by $-\alpha b$. While $\alpha$ is constant these are the same,
# with $v = -\alpha b$. When the rate is divided by ten, they are not: the old velocity stays as large as it
# was, or shrinks at once.

# %%
w = mg.nn.Parameter(np.zeros(1))
optimizer = mg.optim.SGD([w], lr=1.0, momentum=0.9)
b = inside = outside = 0.0
for t in range(203):
    if t == 200:
        optimizer.lr = 0.1
    before, w.grad = w.data.item(), np.ones(1)
    optimizer.step()
    inside, b = w.data.item() - before, 0.9 * b + 1.0
    outside = -optimizer.lr * b
    if t >= 199:
        print(f"step {t}, rate {optimizer.lr}: {inside:.3f} inside, {outside:.3f} outside")

# %% [markdown]
# ## A schedule for the momentum
#
# At the beginning, far from the minimum, the gradients are large and change quickly, and a long memory
# carries us past the turns. Near the minimum they are small and change slowly, and memory is what makes
# progress. So the momentum rises during training. Tomasi draws such a schedule (his figure 4); its formula is
# in the reference that he gives for it, Sutskever, Martens, Dahl and Hinton (2013), and can be written
# without the logarithm (TC-17):
#
# $$\mu_t = \min\Big(1 - 2^{-1-\log_2(\lfloor t/250\rfloor + 1)},\ \mu_{\max}\Big)
#         = \min\Big(1 - \frac{1}{2(\lfloor t/250\rfloor + 1)},\ \mu_{\max}\Big).$$

# %%
schedule = mg.optim.MomentumSchedule(maximum=0.99)
print([round(schedule(t), 4) for t in (0, 250, 500, 750, 1000, 12_249, 12_250)])
t = np.arange(12_500)
drawn = np.minimum(1 - 2 ** (-1 - np.log2(t // 250 + 1)), 0.99)
assert np.allclose([schedule(step) for step in t], drawn, rtol=0, atol=1e-15)
mg.plots.momentum_schedule(schedule).figure

# %% [markdown]
# The stairs hide a straight line. The gain for steady gradients is
# $1/(1-\mu_t) = 2(\lfloor t/250\rfloor + 1)$: it grows by 2 every 250 steps, up to 100 at the cap. An
# optimizer takes a schedule wherever it takes a number:
# `SGD(parameters, lr=0.1, momentum=mg.optim.MomentumSchedule(0.9))`.
#
# ## How many samples shall we ask?
#
# The risk is a mean over $N$ samples, and so is its gradient. A mean can be estimated from a few. Let us look
# at all the gradients of single samples for a linear layer under softmax and cross-entropy, at its initial
# weights.

# %%
mg.tables.formulas("cross_entropy")

# %% [markdown]
# The derivative in the table is the row $p - e_y$, and with a linear layer in front of it the gradient with
# respect to $W$, bias column included, is the outer product $(p - e_y)\,\tilde x^{\mathsf T}$ of each sample.
# We check that against the tape, and then compare the mean of $B$ of them, drawn at random, with the mean of
# all.

# %%
def sample_gradients(layer):
    """The gradients (N, 650) of the loss of each digit by W and b."""
    p = mg.softmax(layer(x)).data
    return np.einsum("nk,nj->nkj", p - q, x_tilde).reshape(len(x), -1)


rng = np.random.default_rng(0)
layer = mg.nn.Linear(64, 10).reset(0)
G = sample_gradients(layer)
cross_entropy = mg.losses.CrossEntropy()
cross_entropy(layer(x), train.y).backward()
tape = np.column_stack([layer.weight.grad, layer.bias.grad]).ravel()
assert np.allclose(G.mean(axis=0), tape, atol=1e-14)
some = mg.Tensor(x[:3])
mg.verify.gradient(lambda W: cross_entropy(some @ W, train.y[:3]), rng.normal(size=(64, 10)))

# %%
def scatter(G, B, rng, draws=400):
    """The mean squared distance of means of B distinct rows from the mean of all."""
    true = G.mean(axis=0)
    parts = (G[rng.choice(len(G), B, replace=False)].mean(axis=0) for _ in range(draws))
    return np.mean([((part - true) ** 2).sum() for part in parts])


sizes = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
measured = [scatter(G, B, rng) for B in sizes]
variance = ((G - G.mean(axis=0)) ** 2).sum(axis=1).mean()
square = (G.mean(axis=0) ** 2).sum()
print(f"variance of a single gradient {variance:.3f}, square of the mean {square:.3f}")

# %% tags=["hide-input"]
ax = mg.plots.slide("batch size B", "squared error of the gradient")
ax.loglog(sizes, measured, "o", color=mg.plots.OKABE_ITO["blue"], markersize=10, label="measured on the digits")
ax.loglog(sizes, variance / np.array(sizes), "--", color="black", linewidth=2, label=r"$\sigma^2/B$")
ax.axhline(square, color=mg.plots.OKABE_ITO["vermilion"], linewidth=2.5, label=r"$\|\nabla L\|^2$, the signal")
ax.legend(fontsize=16, frameon=False)
ax.figure

# %% [markdown]
# The error falls as $\sigma^2/B$, the law of all means: four times the samples, half the error (the *root* of
# what is drawn). At the right end the points fall below the line. The batch is drawn without putting samples
# back, and one of 1,024 is nearly the whole set; exercise 3 asks for the exact law.
#
# Where the points cross the red line, at $B = \sigma^2/\lVert\nabla L\rVert^2$, noise and signal are of the
# same size. A batch much larger than that pays for accuracy that a single step cannot use. And the crossing
# moves: training makes the mean gradient small, while the samples go on pulling in their own directions.

# %%
print(f"before training: noise equals signal at B = {variance / square:.1f}")
optimizer = mg.optim.SGD(layer.parameters(), lr=0.5)
mg.training.fit(layer, cross_entropy, optimizer, (x, train.y), epochs=20, progress=False)
G = sample_gradients(layer)
after = ((G - G.mean(axis=0)) ** 2).sum(axis=1).mean() / (G.mean(axis=0) ** 2).sum()
print(f"after 20 epochs: at B = {after:.0f}")

# %% [markdown]
# ## Batch, mini-batch, online
#
# So there is a choice. *Batch* learning asks all $N$ samples before each step, *online* learning steps after
# every single one, and *mini-batches* of $B$ samples are in between. Let the three look at equally many
# samples, ten times at each of 1,197 digits. Each has the best of the rates 0.01, 0.03, 0.1, 0.3, 1, 2 for
# it, by the risk at the end.

# %%
def network(seed=0):
    """64-32-10 with tanh."""
    layers = mg.nn.Flatten(), mg.nn.Linear(64, 32), mg.nn.Tanh(), mg.nn.Linear(32, 10)
    return mg.nn.Sequential(*layers).reset(seed)


runs = {}
for name, size, lr in (("batch", None, 1.0), ("mini-batch", 32, 0.3), ("online", 1, 0.1)):
    model = network()
    optimizer = mg.optim.SGD(model.parameters(), lr=lr)
    history = runs[name] = mg.training.fit(
        model, cross_entropy, optimizer, train, train, epochs=10, batch_size=size,
        progress=False,
    )  # "validated" on the training set: the risk at the end of each epoch
    time = 1e6 * sum(history.seconds) / (10 * len(train))
    risk = history.validation_loss[-1]
    print(f"{name:>10}: {optimizer.steps:5} steps, risk {risk:.4f}, {time:3.0f} us a sample")

# %% tags=["hide-input"]
ax = mg.plots.slide("times that each sample was seen", "training risk")
for (name, history), colour, marker in zip(runs.items(), ("vermilion", "blue", "green"), "so^", strict=True):
    ax.semilogy(
        range(1, 11), history.validation_loss, color=mg.plots.OKABE_ITO[colour], marker=marker, markersize=9,
        linewidth=2.5, label=name,
    )
ax.legend(fontsize=16, frameon=False)
ax.figure

# %% [markdown]
# For the same number of samples online learning is far ahead: 11,970 noisy little steps, each from where the
# last one ended, go a long way round every bend, while ten exact steps of the batch are ten straight lines.
# That is the argument of the lecture note.
#
# The last column, in microseconds, is the argument of the machine. A step on 32 samples is one product of
# matrices and costs hardly more than a step on one, so that a *second* of mini-batches holds many times the
# epochs of a second of online learning. Mini-batches of a few dozen are where both arguments are content.
# (The gradient of a mini-batch is the *mean* over its samples here; where it is the sum, the rate has to be
# divided by $B$.)
#
# ## The noise does not go away by itself
#
# At a minimum the mean gradient is zero, and the gradients of the batches are not. With a constant rate the
# weights therefore never settle: they hover around the minimum, at a height that grows with the rate. On the
# bowl of the digits we can watch it, as the lowest risk is known from least squares. The remedy in the note
# is to divide the rate by 10 when progress saturates; `ReduceOnPlateau` decides when that is, here after more
# than 3 epochs without a smaller risk.

# %%
best = np.linalg.lstsq(x_tilde, q, rcond=None)[0]
least = ((x_tilde @ best - q) ** 2).sum(axis=1).mean()


def excess(lr, plateau=None):
    """The risk above the least one, and the rate, of each of 30 epochs."""
    layer = mg.nn.Linear(64, 10).reset(0)
    optimizer = mg.optim.SGD(layer.parameters(), lr=lr)
    history = mg.training.fit(
        layer, risk_of, optimizer, (x, q), (x, q), epochs=30, batch_size=8,
        plateau=plateau, progress=False,
    )
    return np.array(history.validation_loss) - least, np.array(history.learning_rate)


high, _ = excess(0.06)
low, _ = excess(0.006)
dropping, rates = excess(0.06, mg.optim.ReduceOnPlateau(factor=0.1, patience=3))
for name, values in (("constant 0.06", high), ("constant 0.006", low), ("plateau", dropping)):
    print(f"{name:>14}: risk {values[-1]:.4f} above the least")
print("the rate falls before the epochs", *(np.flatnonzero(np.diff(rates)) + 2))

# %% tags=["hide-input"]
ax = mg.plots.slide("epoch", "risk above the minimum")
for values, colour, marker, label in (
    (high, "vermilion", "s", "constant rate 0.06"), (low, "green", "^", "constant rate 0.006"),
    (dropping, "blue", "o", "0.06, divided by 10 at a plateau"),
):
    ax.semilogy(
        range(1, 31), values, color=mg.plots.OKABE_ITO[colour], marker=marker, markersize=7, linewidth=2.2, label=label
    )
for epoch in np.flatnonzero(np.diff(rates)) + 1.5:
    ax.axvline(epoch, color=mg.plots.OKABE_ITO["blue"], linestyle=":", linewidth=2)
ax.legend(fontsize=16, loc="upper right", framealpha=1, edgecolor="white")
ax.figure

# %% [markdown]
# At the first dotted line the blue curve falls off a cliff. Little was learned in that epoch: the weights had
# known for a while where the minimum was, and merely stopped being shaken. (The green curve, which had the
# small rate from the beginning, is behind for good: the large rate was worth having.) The second line shows
# the price: at a rate of 0.0006 the noise is gone, and so is the progress along the flat directions.
#
# ## When is it enough?
#
# Two tests come from optimization: the weights hardly change, $\lVert w_t - w_{t-1}\rVert \le \tau_w$, or the
# risk hardly does (TC-20). In batch training an epoch is a step, and `fit` has both.

# %%
layer = mg.nn.Linear(64, 10).reset(0)
optimizer = mg.optim.SGD(layer.parameters(), lr=0.95 * limit)
history = mg.training.fit(
    layer, risk_of, optimizer, (x, q), epochs=10_000, batch_size=None,
    weight_tolerance=3e-3, progress=False,
)
print(f"stopped after {history.epochs} steps: {history.stopped}")
print(f"the risk is {history.loss[-1] - least:.4f} above its minimum of {least:.4f}")

# %% [markdown]
# A small step means that the gradient is small, not that the minimum is near: in a flat valley these are
# different things.
#
# The third test is not about optimization at all. We do not want the minimum of the training risk; we want
# few errors on digits that nobody has seen. *Early stopping* (TC-21) watches the zero-one error on a
# validation set, ends when it has not become smaller for a while, and puts the best weights back. With 200
# digits to train on it does not take long.

# %%
layers = mg.nn.Flatten(), mg.nn.Linear(64, 64), mg.nn.ReLU(), mg.nn.Linear(64, 10)
model = mg.nn.Sequential(*layers).reset(0)
optimizer = mg.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
history = mg.training.fit(
    model, cross_entropy, optimizer, train[:200], validation,
    epochs=150, batch_size=16, patience=25, progress=False,
)
print(f"epoch {history.epochs}: {history.stopped}")
print(f"the weights are those of epoch {history.best_epoch}")
_, error = mg.training.evaluate(model, cross_entropy, test)
print(f"validation error {min(history.validation_error):.1%}, test error {error:.1%}")
mg.plots.learning_curves(history).figure

# %% [markdown]
# The training loss falls and falls. The validation loss turns around after a few epochs: the network becomes
# sure of what it has learned by heart, and pays dearly for each digit that it is sure of and wrong about. The
# validation error just stops falling. Early stopping saw it 25 epochs later, which is the patience that we
# gave it (the note names none), and went back.
#
# That the test error is smaller than the validation error is chance: an error of 15 % on 300 digits has a
# standard deviation of 2 %, and the two sets are different digits. One thing is not chance. The validation
# error was *chosen*, as the smallest of 33, so it is on average a little too good. That is why a third set
# reports the result, and has been looked at once.
#
# ## What to remember
#
# The steepest direction sets the rate, the flattest the patience; momentum narrows the gap between them from
# $k$ to $\sqrt k$. The error of a mini-batch falls with $1/B$, its cost on a machine hardly at all below a
# few dozen. A constant rate hovers; lower it when it does. And stop when the validation set says so.
#
# ## Exercises

# %% [markdown]
# ### Exercise 1: what the velocity remembers
#
# Momentum needs the last velocity only, and yet it remembers everything. Write the velocity after $T$ steps
# as one weighted sum of the $T$ gradients, which are given as the rows of an array, the first step first. No
# loop, no recursion.

# %% exercise="velocity"
def velocity(gradients, alpha, mu):
    """The velocity v (d,) after T steps from rest, whose gradients are (T, d)."""
    ### BEGIN SOLUTION
    T = len(gradients)
    weights = mu ** np.arange(T - 1, -1, -1)
    return -alpha * (weights @ gradients)
    ### END SOLUTION

# %% check="velocity" points=1
def velocity_of_the_optimizer(gradients, alpha, mu):
    w = mg.nn.Parameter(np.zeros(gradients.shape[1]))
    optimizer = mg.optim.SGD([w], lr=alpha, momentum=mu)
    for g in gradients:
        before, w.grad = w.data.copy(), g
        optimizer.step()
    return w.data - before


_rng = np.random.default_rng(1)
_sizes = ((1, 2), 0.3, 0.9), ((6, 3), 0.1, 0.5), ((40, 4), 2.0, 0.95)
_cases = [(_rng.normal(size=size), alpha, mu) for size, alpha, mu in _sizes]
mg.verify.exercise(
    velocity, velocity_of_the_optimizer, _cases, hint="which gradient has been multiplied by mu most often?"
)

# %% [markdown]
# ### Exercise 2: a step as a matrix
#
# In the lecture a step of momentum was a 2 x 2 matrix, for one weight. Let the bowl be
# $L(w) = \frac12 w^{\mathsf T}Hw$ with $d$ weights and any symmetric $H$. Write the matrix $M$ of a step,
# $(w_{t+1}, v_{t+1}) = M\,(w_t, v_t)$, where the $d$ weights come first, then the $d$ velocities.

# %% exercise="step_matrix"
def step_matrix(H, alpha, mu):
    """The matrix (2d, 2d) of a step with momentum in the bowl of the Hessian H (d, d)."""
    ### BEGIN SOLUTION
    one = np.eye(len(H))
    return np.block([[one - alpha * H, mu * one], [-alpha * H, mu * one]])
    ### END SOLUTION

# %% check="step_matrix" points=2
def stepped(H, alpha, mu):
    """Each column is where a step of the optimizer leads from one of the unit vectors."""
    d, columns = len(H), []
    for unit in np.eye(2 * len(H)):
        w = mg.nn.Parameter(unit[:d].copy())
        optimizer = mg.optim.SGD([w], lr=alpha, momentum=mu)
        optimizer.state["velocity"][0][:] = unit[d:]
        (0.5 * (w @ mg.Tensor(H) @ w)).backward()
        optimizer.step()
        columns.append(np.concatenate([w.data, optimizer.state["velocity"][0]]))
    return np.array(columns).T


_A = np.random.default_rng(2).normal(size=(3, 3))
_cases = [(np.array([[2.0]]), 0.3, 0.5), (_A @ _A.T, 0.1, 0.9), (np.array([[3.0, 1.0], [1.0, -1.0]]), 0.7, 0.25)]
mg.verify.exercise(step_matrix, stepped, _cases, hint="w moves by the new velocity, in which the gradient is already")

# %% [markdown]
# ### Exercise 3: a batch that is drawn without putting back
#
# In the plot the points at the right fell below $\sigma^2/B$. Find the exact law: for an array of $N > 1$
# rows, the expected squared distance of the mean of $B$ *distinct* rows, every choice of $B$ of them being
# equally likely, from the mean of all. It has to be 0 for $B = N$. Give a formula, not a simulation.

# %% exercise="batch_variance"
def batch_variance(G, B):
    """The expected squared distance between the means of B distinct rows of G and of all."""
    ### BEGIN SOLUTION
    N = len(G)
    sigma2 = np.sum((G - G.mean(axis=0)) ** 2) / N
    return sigma2 / B * (N - B) / (N - 1)
    ### END SOLUTION

# %% check="batch_variance" points=2
def over_all_batches(G, B):
    from itertools import combinations

    centred = G - G.mean(axis=0)
    return np.mean([np.sum(centred[list(rows)].mean(axis=0) ** 2) for rows in combinations(range(len(G)), B)])


_rng = np.random.default_rng(3)
_cases = [(_rng.normal(size=(N, d)), B) for N, d, B in ((2, 1, 1), (7, 3, 1), (7, 3, 3), (8, 2, 7), (5, 4, 5))]
mg.verify.exercise(
    batch_variance, over_all_batches, _cases, hint="two distinct rows are slightly anticorrelated: by how much?"
)

# %% [markdown]
# ### Exercise 4: a plateau
#
# Write the rule of `ReduceOnPlateau` yourself, in its plainest form. After each epoch its loss is compared
# with the smallest one so far. An epoch whose loss is not smaller is a lost one; when more than `patience`
# epochs in a row are lost, the rate is multiplied by `factor` for all that follow, and counting begins anew.
# Return the rate of each epoch.

# %% exercise="plateau_rates"
def plateau_rates(losses, lr, factor, patience):
    """The rates (T,) of epochs that ended with the losses (T,); the first rate is lr."""
    ### BEGIN SOLUTION
    rates, best, lost = [], np.inf, 0
    for loss in losses:
        rates.append(lr)
        best, lost = (loss, 0) if loss < best else (best, lost + 1)
        if lost > patience:
            lr, lost = lr * factor, 0
    return np.array(rates)
    ### END SOLUTION

# %% check="plateau_rates" points=2
def rates_of_the_library(losses, lr, factor, patience):
    plateau, rates = mg.optim.ReduceOnPlateau(factor, patience, threshold=0.0), []
    for loss in losses:
        rates.append(lr)
        lr *= plateau(loss)
    return np.array(rates)


_rng = np.random.default_rng(4)
_falling = [np.round(np.exp(-np.arange(T) / 9) + 0.2 * _rng.random(T), 1) for T in (9, 30, 40)]
_cases = [(losses, 0.5, 0.1, patience) for losses, patience in zip(_falling, (0, 1, 3), strict=True)]
mg.verify.exercise(
    plateau_rates, rates_of_the_library, [*_cases, (np.ones(12), 1.0, 0.5, 2)],
    hint="an equal loss is no smaller one, and the rate of an epoch is fixed before its loss is known",
)
