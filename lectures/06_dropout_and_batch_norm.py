# %% [markdown]
# # 6. Dropout as averaging over networks; batch normalization
#
# *Why would anyone switch off half of a network in every step, and how does one network come out whole in the
# end?*
#
# Two layers behave differently in training and at test. Dropout throws away half of what it gets, at random;
# batch normalization lets the samples of a batch look at each other. Both are simple to write, both are used
# everywhere, and both hide a question: what is it that we *test*, if it is not what we trained?

# %%
from itertools import product

import numpy as np

import minigrad as mg

mg.tables.formulas("dropout")

# %% [markdown]
# ## The mask is an input
#
# Dropout multiplies the outputs $h$ of a layer by a mask $m$ of zeros and ones, drawn anew in each step, each
# entry being 1 with probability $p$, independently (TC-22; Srivastava et al. 2014; Tomasi 2019, section 5).
# Note that $p$ is the probability to *keep*, as in these papers; many libraries take that of dropping.
#
# Chance has no derivative, so we keep it out of the mathematics: the mask is drawn elsewhere and comes in as
# an input. What is left is as deterministic as any layer, linear in $h$, with the Jacobian
# $\operatorname{diag}(m)$. A unit that is dropped gets no gradient, and the weights that made it are not
# changed in this step.

# %%
h, m = np.array([0.5, -1.0, 2.0, 3.0]), np.array([1.0, 1.0, 0.0, 0.0])
dropout = mg.registry["dropout"]()
dropout.forward(h, m), dropout.jacobian(h, m).toarray()

# %% [markdown]
# The lecture note says it a little differently: the weights and the bias of a dropped node are set to zero.
# That is not the same. A unit without weights and bias still says $f(0)$, and for a sigmoid that is a half.
# It is the *output* that has to be silent.

# %%
a = np.zeros(3)
for f in (mg.sigmoid, mg.softplus, mg.relu):
    print(f.__name__, f(a).data.round(4))

# %% [markdown]
# ## All the networks at once
#
# With $n$ units there are $2^n$ masks, and each leaves a *thinned* network. Training with dropout takes one
# of them for each sample, makes a step, and takes another. They share their weights; none of them is ever
# trained on its own. At the end one would like to ask them all and to average. For a small network we can.
#
# Take $n = 5$ outputs $h$ of some hidden layer, and a softmax layer of three classes on top: 32 networks. The
# mask $m$ has the probability $p^{|m|}(1-p)^{n-|m|}$.

# %%
def all_masks(n, p):
    """Every mask (2^n, n) and its probability (2^n,)."""
    masks = np.array(list(product([0.0, 1.0], repeat=n)))
    kept = masks.sum(axis=1)
    return masks, p**kept * (1 - p) ** (n - kept)


rng = np.random.default_rng(3)
h, W, b = rng.normal(size=5), rng.normal(size=(3, 5)), np.array([-0.5, 0.0, 1.5])
p = 0.5
masks, chance = all_masks(5, p)
outputs = mg.softmax((masks * h) @ W.T + b).data
print(f"{len(masks)} networks, their probabilities sum to {chance.sum():.0f}")

# %% [markdown]
# How does one average distributions? The arithmetic mean is one way. Another is the geometric mean, class by
# class, divided by its sum so that it is a distribution again: an arithmetic mean of the *logarithms*. And
# then there is what everybody does instead, because nobody can ask $2^n$ networks (TC-23): ask a single one,
# whole, with the outputs of the units multiplied by $p$.

# %%
arithmetic = chance @ outputs
geometric = np.exp(chance @ np.log(outputs))
geometric /= geometric.sum()
scaled = mg.softmax(W @ (p * h) + b).data
means = {"arithmetic mean": arithmetic, "geometric mean": geometric, "scaled network": scaled}
for name, mean in means.items():
    print(f"{name:>15}: {mean}")
assert np.abs(geometric - scaled).max() < 1e-15

# %% tags=["hide-input"]
def on_the_simplex(outputs, means):
    """All thinned networks as points, and their means."""
    ax = mg.plots.simplex(mg.plots.figure((10, 7.4), dpi=64).subplots())
    xy = mg.plots.barycentric(outputs)
    shown = [ax.scatter(*xy.T, s=60, color="0.35", alpha=0.55, zorder=3, label="thinned networks")]
    looks = (("vermilion", "s", 190), ("blue", "o", 330), ("yellow", "*", 150))
    for (name, mean), (colour, marker, size) in zip(means.items(), looks, strict=True):
        style = {"color": mg.plots.OKABE_ITO[colour], "marker": marker, "edgecolor": "black", "zorder": 4}
        shown.append(ax.scatter(*mg.plots.barycentric(mean), s=size, label=name, **style))
    ax.legend(handles=shown, fontsize=14, loc="upper right", bbox_to_anchor=(1.12, 1.0), frameon=False)
    return ax.figure


on_the_simplex(outputs, means)

# %% [markdown]
# The star sits in the middle of the disc: for one layer, the scaled network *is* the geometric mean of all
# the thinned ones, to rounding. It is not the arithmetic mean. The proof is three lines. The logits
# $z(m) = W(m \odot h) + b$ are linear in the mask, so their mean is $z(\mathbb E\, m) = W(p\,h) + b$. The
# logarithm of a softmax is the logits less a number that is the same for all classes. So the mean of the
# logarithms is the mean of the logits, less a number; and dividing by the sum takes care of the number:
#
# $$\sum_m \Pr(m)\,\log \operatorname{softmax}(z(m))_i
#   = z_i(\mathbb E\, m) - \sum_m \Pr(m) \log\sum_k e^{z_k(m)} .$$
#
# Nothing in it needs $p = \frac12$. Nothing in it asks where $h$ comes from, either: dropout in front of the
# *last* affine layer is exact, however deep the network below may be.
#
# ### What is multiplied by p
#
# The note says that all weights are multiplied by $p$. Only those that leave units which were dropped may be;
# the biases, and weights on inputs that were never dropped, stay. The mean of a small linear network shows
# it.

# %%
W1, W2, x = np.array([[5.0], [10.0]]), np.array([[1.0, 1.0]]), np.ones(1)
masks2, chance2 = all_masks(2, 0.5)
print("mean over the masks    ", chance2 @ ((masks2 * (W1 @ x)) @ W2.T))
print("leaving weights times p", 0.5 * W2 @ (W1 @ x))
print("all weights times p    ", 0.5 * W2 @ (0.5 * W1 @ x))

# %% [markdown]
# The same can be had the other way round: multiply by $m/p$ in training, and by nothing at test. It is called
# *inverted* dropout, `nn.Dropout(p, inverted=True)`, and most libraries do it so.
#
# ## Deeper networks
#
# With dropout at two places the argument fails: between them stands a transfer function, and the mean of
# $\tanh$ is not $\tanh$ of the mean. How much does it fail? Four inputs and six hidden units, all of which
# may be dropped, are $2^{10} = 1024$ networks; still few enough to ask. The scaled one is the same network in
# `eval` mode.

# %%
def two_layers(size, seed=0):
    """4-6-3 with dropout on inputs and hidden units, and weights of this size."""
    rng = np.random.default_rng(seed)
    nn = mg.nn
    layers = nn.Dropout(0.5), nn.Linear(4, 6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 3)
    model = nn.Sequential(*layers).reset(rng)
    for parameter in model.parameters():
        parameter.data[:] = size * rng.normal(size=parameter.shape)
    return model.eval()


def averages(model, x, p_in=0.5):
    """All thinned networks, their probabilities, their arithmetic and geometric mean."""
    masks, chance = all_masks(6, 0.5)
    inputs, chance_in = all_masks(4, p_in)
    hidden = mg.tanh(model[1](inputs * x)).data
    z = model[4]((hidden[:, None] * masks).reshape(-1, 6))
    outputs, chance = mg.softmax(z).data, np.outer(chance_in, chance).ravel()
    geometric = np.exp(chance @ np.log(outputs))
    return outputs, chance, chance @ outputs, geometric / geometric.sum()

# %%
x = np.array([1.0, -0.5, 2.0, 0.7])
model = two_layers(1.2, seed=1)
outputs, chance, arithmetic, geometric = averages(model, x)
scaled = mg.softmax(model(x[None])).data[0]
means = {"arithmetic mean": arithmetic, "geometric mean": geometric, "scaled network": scaled}
for name, mean in means.items():
    print(f"{name:>15}: {mean.round(4)}")
on_the_simplex(outputs, means)

# %% [markdown]
# No longer the same point, but in the same region of the cloud. And it depends on how far the hidden units
# are from being linear. Let the weights shrink, and the tanh becomes a straight line.

# %%
sizes = np.array([0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 2.0])
gaps = np.zeros((len(sizes), 2))
for k, seed in product(range(len(sizes)), range(20)):
    model = two_layers(sizes[k], seed)
    _, _, *means = averages(model, x)
    scaled = mg.softmax(model(x[None])).data[0]
    gaps[k] += [np.abs(scaled - mean).sum() / 2 / 20 for mean in means]
    _, _, _, geometric = averages(model, x, p_in=1.0)  # no input is dropped
    assert np.abs(mg.softmax(model[1:](x[None])).data[0] - geometric).max() < 1e-14
print("closer at half the size:", (gaps[1] / gaps[0]).round(1), (gaps[2] / gaps[1]).round(1))

# %% tags=["hide-input"]
ax = mg.plots.slide("size of the weights (mean of 20 networks)", "distance from the scaled network")
for gap, colour, marker, name in zip(gaps.T, ("vermilion", "blue"), "so", ("arithmetic", "geometric"), strict=True):
    ax.loglog(
        sizes, gap, color=mg.plots.OKABE_ITO[colour], marker=marker, markersize=10, linewidth=2.5, label=f"{name} mean"
    )
ax.legend(fontsize=16, frameon=False)
ax.figure

# %% [markdown]
# With small weights all three are one: of half the size, they are some fifteen times closer. With large ones
# the scaled network is an approximation, and a better one to the geometric mean, of which it was made. The
# `assert` in the loop is the other half of the claim: where only the hidden units are dropped, the geometric
# mean is exact at every size, tanh or no tanh.
#
# ## What dropout punishes
#
# There is a second way to look at it, and it does not mention networks. Let a linear unit
# $w^{\mathsf T}(m\odot h)$ learn a number $y$ by its squared error. The mean over the masks is the square of
# the mean error plus the variance,
#
# $$\mathbb E\,\big(w^{\mathsf T}(m\odot h) - y\big)^2
#   = \big(p\,w^{\mathsf T}h - y\big)^2 + p(1-p)\sum_j w_j^2h_j^2 ,$$
#
# as the variance of a coin is $p(1-p)$ and the coins are independent. The first term is the error of the
# scaled unit. The second is a penalty on large weights, for each weight in proportion to how active its unit
# is: it costs least to spread a task over many units, and most to rely on one.

# %%
w, h, y, p = rng.normal(size=7), rng.normal(size=7), 0.4, 0.3
masks, chance = all_masks(7, p)
mean = chance @ ((masks * h) @ w - y) ** 2
claimed = (p * w @ h - y) ** 2 + p * (1 - p) * np.sum(w**2 * h**2)
print(f"mean over {len(masks)} masks {mean:.12f}, claimed {claimed:.12f}")
assert abs(mean - claimed) < 1e-12

# %% [markdown]
# ## Does it help?
#
# Two hundred digits to learn from, a layer of 256 units, and five tries with other digits and other weights
# each time. We keep eight of ten pixels and half of the hidden units, as Srivastava et al. (2014) recommend,
# and test on 600 others.

# %%
train, validation, test = mg.data.digits()
others = np.concatenate([validation.x, test.x]), np.concatenate([validation.y, test.y])
risk = mg.losses.CrossEntropy()


def few_digits(p_in, p, seed):
    """A network trained on 200 random digits, and its history."""
    rng = np.random.default_rng(seed)
    nn = mg.nn
    hidden = nn.Linear(64, 256), nn.ReLU(), nn.Dropout(p)
    layers = nn.Flatten(), nn.Dropout(p_in), *hidden, nn.Linear(256, 10)
    model = nn.Sequential(*layers).reset(seed)
    optimizer = mg.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    few = train[rng.permutation(len(train))[:200]]
    return model, mg.training.fit(
        model, risk, optimizer, few, others, epochs=100, batch_size=20, progress=False
    )


without = [few_digits(1.0, 1.0, seed) for seed in range(5)]
with_it = [few_digits(0.8, 0.5, seed) for seed in range(5)]
for name, runs in (("without", without), ("with dropout", with_it)):
    error = np.mean([history.validation_error[-1] for _, history in runs])
    losses = np.array([history.validation_loss[-1] for _, history in runs])
    print(f"{name:>12}: error {error:.1%}, loss {losses.mean():.3f}, of each {losses.round(3)}")

# %% tags=["hide-input"]
ax = mg.plots.slide("epoch", "mean loss of five tries")
for runs, colour, marker, name in ((without, "vermilion", "s", "without"), (with_it, "blue", "o", "with dropout")):
    for key, style, where in (("validation_loss", "-", "other digits"), ("loss", "--", "training")):
        curve = np.mean([getattr(history, key) for _, history in runs], axis=0)
        ax.semilogy(
            range(1, 101), curve, style, color=mg.plots.OKABE_ITO[colour], marker=marker, markevery=10, markersize=9,
            linewidth=2.5, label=f"{name}, {where}",
        )
ax.legend(fontsize=15, frameon=False)
ax.figure

# %% [markdown]
# Without dropout the training loss goes to nothing, and the loss on other digits begins to rise. With it, the
# network never gets to learn the digits by heart, as it never sees the same ones through the same units
# twice. The loss on other digits is smaller in four of the five tries. The errors differ by less than 600
# digits can tell apart; what dropout has improved here is mostly how sure the network is where it is wrong.
# (The dashed blue curve is high for another reason too: it is measured while half of the units are away.)
#
# And is the scaled network worth the $2^{320}$ that it stands for? We ask some of those, one after the other,
# and average what they say, in both ways.

# %%
model, history = with_it[0]
x, y = others
model.train()
with mg.no_grad():
    logs = np.array([mg.log_softmax(model(x)).data for _ in range(100)])
for count in (1, 3, 10, 100):
    arithmetic = np.log(np.exp(logs[:count]).mean(axis=0))
    losses = [float(risk(mean, y)) for mean in (arithmetic, logs[:count].mean(axis=0))]
    print(f"{count:3} thinned: arithmetic mean {losses[0]:.3f}, geometric {losses[1]:.3f}")
print(f"the scaled network: {mg.training.evaluate(model.eval(), risk, others)[0]:.3f}")

# %% [markdown]
# One thinned network is a poor judge. The geometric mean of a hundred comes close to the scaled network,
# which costs a single pass. The arithmetic mean stays behind: as long as one of its members doubts, it doubts
# too.
#
# ## Batch normalization
#
# The second layer of today is about scale. If the outputs of a layer drift during training, the layer above
# has to follow. Batch normalization (Ioffe and Szegedy 2015; Keren, Sabato and Schuller (2018) use it after
# every layer, without a definition) takes each channel of the batch to mean 0 and variance 1, and then gives
# the network a weight $\gamma$ and a bias $\beta$ to undo that where it likes. For $M$ numbers
# $x_1,\dots,x_M$ of a channel,
#
# $$\begin{aligned}
# y_i &= \gamma z_i + \beta, & z_i &= \frac{x_i - \mu}{\sqrt{\sigma^2 + \epsilon}}, \\
# \mu &= \frac1M\sum_k x_k, & \sigma^2 &= \frac1M\sum_k(x_k-\mu)^2 .
# \end{aligned}$$

# %%
batch_norm = mg.registry["batch_norm"]()
x, weight, bias = rng.normal(size=(5, 3)), rng.normal(size=3), rng.normal(size=3)
y, mean, inv_std = batch_norm.forward(x, weight, bias)
print("means of the channels of y", y.mean(axis=0).round(4), "biases", bias.round(4))
batch_norm.written(x, weight, bias)[0]

# %% [markdown]
# ### Its Jacobian couples the samples
#
# Every other layer of these lectures treats the samples of a batch one by one, and its Jacobian over the
# batch is made of blocks on the diagonal. Here each $y_i$ depends on every $x_j$ of its channel: directly,
# through the mean, and through the variance. With $1/s = 1/\sqrt{\sigma^2+\epsilon}$ we have
# $\partial\mu/\partial x_j = 1/M$ and $\partial (1/s)/\partial x_j = -z_j/(M s^2)$, and the three together
# are
#
# $$J = \frac{\gamma}{s}\Big(I - \tfrac1M\big(\mathbf 1\mathbf 1^{\mathsf T} + z z^{\mathsf T}\big)\Big).$$

# %%
def block(x, weight, mean_term=1.0, variance_term=1.0, factor=1.0, eps=1e-5):
    """The Jacobian (M, M) of one channel; right, unless its terms are tampered with."""
    s = np.sqrt(x.var() + eps)
    z = (x - x.mean()) / s
    both = mean_term + variance_term * np.outer(z, z)
    return factor * weight / s * (np.eye(len(x)) - both / len(x))


J = batch_norm.jacobian(x, weight, bias)[0].toarray()
for c in range(3):
    assert np.allclose(J[c::3, c::3], block(x[:, c], weight[c]), atol=1e-14)
assert mg.verify.audit(["batch_norm"]).passed
mg.verify.compare(
    mg.batch_norm, lambda x, w, b: (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) * w + b,
    x=x, weight=weight, bias=bias,
)

# %% tags=["hide-input"]
x = np.random.default_rng(5).normal(size=(6, 3))
ones = np.ones(3)
figure = mg.plots.figure((13, 6), dpi=80)
left, right = figure.subplots(1, 2)
tanh = mg.jacobian(lambda x: mg.tanh(x @ np.random.default_rng(1).normal(size=(3, 3))), x)
normal = batch_norm.jacobian(x, ones, ones)[0].toarray()
for ax, matrix, title in ((left, tanh, "a layer of tanh units"), (right, normal, "batch normalization")):
    bound = np.abs(matrix).max()
    image = ax.imshow(matrix, cmap="RdBu_r", vmin=-bound, vmax=bound)
    ax.set_title(f"{title}: 6 samples, 3 channels", fontsize=16)
    ax.set_xlabel("entry of x, sample by sample", fontsize=16)
    ax.set_xticks(range(0, 18, 3), [f"x{n}" for n in range(6)], fontsize=14)
    ax.set_yticks(range(0, 18, 3), [f"y{n}" for n in range(6)], fontsize=14)
    figure.colorbar(image, ax=ax, shrink=0.8).ax.tick_params(labelsize=13)
figure

# %% [markdown]
# On the left, six blocks, one for each sample. On the right, everything that belongs to the same channel is
# connected: there is no such thing as "the gradient of one sample" in a network with batch normalization.
#
# ### What a row of ones cannot see
#
# The matrix has two special directions. The outputs of a channel sum to $M\beta$ whatever the inputs are, so
# that $\mathbf 1^{\mathsf T}J = 0$; and stretching the deviations $x-\mu$ changes (up to $\epsilon$) nothing,
# so that $z^{\mathsf T}J \approx 0$. Now think of somebody who tests her own batch normalization in the usual
# hasty way: `y.sum().backward()`, and compare with the finite differences. The row that comes in is
# $g = \mathbf 1$, and the right answer is *zero*. So is the answer of nearly every wrong program.

# %%
x = rng.normal(size=9)
J = block(x, 1.0)
wrong = {
    "right": {},
    "twice as large": {"factor": 2.0},
    "zero": {"factor": 0.0},
    "variance taken for a constant": {"variance_term": 0.0},
    "wrong sign of the variance term": {"variance_term": -1.0},
    "mean taken for a constant": {"mean_term": 0.0},
}
print(f"{'error of g J at':>32} {'ones':>9} {'random g':>9}")
for name, how in wrong.items():
    rows = np.ones(9), rng.normal(size=9)
    errors = [np.abs(g @ block(x, 1.0, **how) - g @ J).max() for g in rows]
    print(f"{name:>32} {errors[0]:9.1e} {errors[1]:9.1e}")

# %% [markdown]
# Of five errors the ones see one. Random rows see all five. This is why the audit multiplies with *every* row
# of the identity, and then asks itself whether it would notice a mutant; and why a gradient test ends in a
# weighted sum with random weights, never in a plain sum.
#
# The same zero makes a parameter useless: the gradients that reach the layer below sum to nothing over the
# batch, so a bias in front of batch normalization is never trained.

# %%
nn = mg.nn
layers = nn.Linear(64, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 10)
pixels = train.x.reshape(len(train), -1)
risk(nn.Sequential(*layers).reset(0)(pixels), train.y).backward()
for name, parameter in layers[0].named_parameters():
    print(f"largest gradient of a {name}: {np.abs(parameter.grad).max():.0e}")

# %% [markdown]
# ### The scale of the weights does not matter
#
# If $x = Wu$ is normalized, then $cWu$ gives the same $z$ for every $c > 0$. Differentiate that with respect
# to $c$ at 1, and with respect to $W$ at $cW$: the gradient is orthogonal to the weights, and $c$ times as
# large weights get a gradient $c$ times as small. We check it with $\epsilon = 0$.

# %%
def gradient_at(c):
    """Output, weight and its gradient, with c times as large weights of the first layer."""
    first, after = nn.Linear(64, 20, bias=False).reset(0), nn.BatchNorm1d(20, eps=0.0)
    first.weight.data *= c
    z = nn.Linear(20, 10).reset(1)(mg.relu(after(first(pixels))))
    risk(z, train.y).backward()
    return z.data, first.weight.data, first.weight.grad


z, W, g = gradient_at(1.0)
z7, _, g7 = gradient_at(7.0)
assert np.allclose(z, z7, atol=1e-12)
assert np.allclose(7 * g7, g, atol=1e-14)
cosine = (g * W).sum(axis=1) / np.linalg.norm(g, axis=1) / np.linalg.norm(W, axis=1)
print(f"largest cosine between weights and their gradient: {np.abs(cosine).max():.0e}")

# %% [markdown]
# So by Pythagoras each step of plain descent makes the weights *longer*:
# $\lVert W - \alpha g\rVert^2 = \lVert W\rVert^2 + \alpha^2\lVert g\rVert^2$. And since only the direction of
# $W$ matters and $g$ shrinks with $1/\lVert W\rVert$, the direction turns by steps in proportion to
# $\alpha/\lVert W\rVert^2$. The layer has a learning rate of its own, that falls by itself: too large a step
# makes the weights long and the next steps small.
#
# That is much of what batch normalization does for training. Six hidden layers of 48 units, with initial
# weights that are right, ten times too small, and ten times too large:

# %%
def deep(c, normalized):
    """Six hidden layers, with initial weights c times as large as they should be."""
    layers, width = [nn.Flatten()], 64
    for _ in range(6):
        layers += [nn.Linear(width, 48), *[nn.BatchNorm1d(48)] * normalized, nn.ReLU()]
        width = 48
    model = nn.Sequential(*layers, nn.Linear(48, 10)).reset(0)
    for layer in list(model)[:-1]:
        if isinstance(layer, nn.Linear):
            layer.weight.data *= c
    return model


def epochs_of(model):
    """The losses of eight epochs, as far as they are finite."""
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1)
    try:
        with np.errstate(all="ignore"):
            history = mg.training.fit(model, risk, optimizer, train, epochs=8, progress=False)
    except FloatingPointError as error:
        print(str(error).partition(": try")[0])
        return []
    return history.loss


curves = {
    normalized: {c: epochs_of(deep(c, normalized)) for c in (0.1, 1, 10)}
    for normalized in (False, True)
}

# %% tags=["hide-input"]
panels = mg.plots.slide("epoch", "training loss", panels=2)
for ax, (normalized, of_scale) in zip(panels, curves.items(), strict=True):
    for (c, losses), colour, marker in zip(of_scale.items(), ("vermilion", "blue", "green"), "so^", strict=True):
        style = {"color": mg.plots.OKABE_ITO[colour], "marker": marker, "markersize": 9, "linewidth": 2.5}
        name = f"weights times {c}" + ("" if losses else " (diverged)")
        ax.semilogy(range(1, len(losses) + 1), losses, label=name, **style)
    ax.set_title("with batch normalization" if normalized else "without", fontsize=16)
    ax.legend(fontsize=14, frameon=False, loc="lower left")
panels[0].figure

# %% [markdown]
# Without it, small weights do not learn at all, since after six layers no signal is left, and large ones
# explode in the first epoch. With it all three begin with the very same function (but for $\epsilon$), and
# all three learn. Those that are ten times too large do so slowly: their directions turn a hundred times less
# in a step.
#
# ## Training and test
#
# At test a sample has to be judged on its own: its class must not depend on who else is in the batch. The
# layer keeps *running* averages of the means and variances that it saw,
# $\mu_{\text{run}} \leftarrow \mu_{\text{run}} + 0.1\,(\mu - \mu_{\text{run}})$ (for the variance with the
# divisor $M-1$), and uses these. Then the layer is an affine map with constant numbers. Here is what happens
# to those who forget to say `eval()`.

# %%
def error(x, y):
    """The share of digits that the model gets wrong, in the mode in which it is."""
    with mg.no_grad():
        return np.mean(model(x).data.argmax(axis=1) != y)


model = deep(1, normalized=True)
optimizer = mg.optim.SGD(model.parameters(), lr=0.1)
mg.training.fit(model, risk, optimizer, train, epochs=10, progress=False)
print(f"eval mode: {error(test.x, test.y):.1%} wrong")
model.train()
for size in (300, 64, 16, 4, 2):
    batches = mg.data.batches(test, size, np.random.default_rng(0), drop_last=True)
    wrong = [error(x, y) for x, y in batches]
    print(f"training mode, batches of {size:3}: {np.mean(wrong):.1%} wrong")
alone = [error(test.x[test.y == c], test.y[test.y == c]) for c in range(10)]
print(f"training mode, batches of one class: {np.mean(alone):.1%} wrong")

# %% [markdown]
# Small batches have poor statistics. The last line is the striking one. A batch of nothing but sevens is
# normalized until it looks like a mixture of all digits, and is classified as one.
#
# The first two lines hold a surprise as well: the *right* mode is worse than one batch of 300 that looks at
# itself. Nothing is wrong with the idea; the running averages are stale. They were collected while the
# weights were moving, the last ten batches counting most. Let the finished network see the training set once
# more without learning, and they catch up.

# %%
with mg.no_grad():
    for x, _ in mg.data.batches(train, 64, np.random.default_rng(1)):
        model(x)  # in training mode, for its statistics only
model.eval()
print(f"eval mode, with fresh statistics: {error(test.x, test.y):.1%} wrong")

# %% [markdown]
# ## What to remember
#
# Dropout trains $2^n$ networks that share their weights. The scaled network is their geometric mean, exactly
# where one affine layer follows, approximately elsewhere. The mask is an input, and $p$ is the probability to
# keep. Batch normalization is a function of the whole batch: its Jacobian couples the samples, kills the
# ones, and leaves nothing of the scale of the weights. Both need to be told when training is over.
#
# ## Exercises

# %% [markdown]
# ### Exercise 1: at test
#
# A network has been trained with dropout behind its tanh units:
# $\operatorname{softmax}(W_2\,(m\odot\tanh(W_1x+b_1)) + b_2)$. Write what it answers at test, for a batch of
# inputs, as probabilities. Every factor $p$ in its place, and nowhere else.

# %% exercise="at_test"
def at_test(x, W1, b1, W2, b2, p):
    """Probabilities (N, K) for x (N, I), W1 (H, I), b1 (H,), W2 (K, H), b2 (K,)."""
    ### BEGIN SOLUTION
    z = p * np.tanh(x @ W1.T + b1) @ W2.T + b2
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)
    ### END SOLUTION

# %% check="at_test" points=1
def layers_at_test(x, W1, b1, W2, b2, p):
    (H, inputs), (K, _) = W1.shape, W2.shape
    nn = mg.nn
    model = nn.Sequential(nn.Linear(inputs, H), nn.Tanh(), nn.Dropout(p), nn.Linear(H, K), nn.Softmax()).eval()
    for parameter, array in zip(model.parameters(), (W1, b1, W2, b2), strict=True):
        parameter.data = array
    return model(x)


_rng = np.random.default_rng(1)
_shapes = (5, 3), (4, 3), (4,), (2, 4), (2,)
_sizes = (1.0, 0.5), (2.0, 0.8), (900.0, 0.2)
_cases = [(*[size * _rng.normal(size=shape) for shape in _shapes], p) for size, p in _sizes]
mg.verify.exercise(
    at_test, layers_at_test, _cases, hint="which weights leave units that were dropped? Is a bias one of them?"
)

# %% [markdown]
# ### Exercise 2: how far the thinned networks are apart
#
# The logits $z(m) = W(m\odot h) + b$ of the thinned networks form a cloud around those of the scaled one.
# Write the covariance matrix of the cloud over all $2^n$ masks, without visiting them.

# %% exercise="covariance"
def covariance(W, h, b, p):
    """The matrix (K, K) of E (z - E z)(z - E z)^T, for W (K, n), h (n,), b (K,)."""
    ### BEGIN SOLUTION
    return p * (1 - p) * (W * h**2) @ W.T
    ### END SOLUTION

# %% check="covariance" points=2
def over_all_masks(W, h, b, p):
    masks, chance = all_masks(len(h), p)
    z = (masks * h) @ W.T + b
    return np.cov(z, rowvar=False, aweights=chance, ddof=0)


_rng = np.random.default_rng(2)
_cases = [
    (_rng.normal(size=(K, n)), _rng.normal(size=n), _rng.normal(size=K), p)
    for K, n, p in ((2, 3, 0.5), (3, 6, 0.9), (4, 5, 0.3))
]
mg.verify.exercise(
    covariance, over_all_masks, _cases, hint="the entries of m are independent: what is their covariance matrix?"
)

# %% [markdown]
# ### Exercise 3: the product without the matrix
#
# For training nobody forms the matrix $J$: with the whole of MNIST in a batch it would have $60{,}000^2$
# entries for each channel. Write the three products that back-propagation needs, for inputs `x` of shape (N,
# C), in time proportional to the size of `x`.

# %% exercise="batch_norm_products"
def batch_norm_products(g, x, weight, bias, eps):
    """Gradients by x (N, C), weight (C,) and bias (C,), for the one by the output, g (N, C)."""
    ### BEGIN SOLUTION
    s = np.sqrt(x.var(axis=0) + eps)
    z = (x - x.mean(axis=0)) / s
    by_x = weight / s * (g - g.mean(axis=0) - z * (g * z).mean(axis=0))
    return by_x, (g * z).sum(axis=0), g.sum(axis=0)
    ### END SOLUTION

# %% check="batch_norm_products" points=3
def products_of_the_tape(g, x, weight, bias, eps):
    leaves = [mg.Tensor(array, requires_grad=True) for array in (x, weight, bias)]
    mg.batch_norm(*leaves, eps=eps).backward(g)
    return tuple(leaf.grad for leaf in leaves)


_rng = np.random.default_rng(3)
_cases = [
    (_rng.normal(size=(N, C)), 3 + 2 * _rng.normal(size=(N, C)), _rng.normal(size=C), _rng.normal(size=C), eps)
    for N, C, eps in ((5, 1, 1e-5), (7, 3, 0.1), (4, 6, 1.0))
]
mg.verify.exercise(
    batch_norm_products, products_of_the_tape, _cases, hint="multiply the matrix J from the left by g, term by term"
)

# %% [markdown]
# ### Exercise 4: folding it away
#
# A finished network does not need its batch normalization: at test it is affine, and behind a linear layer
# $x = Wu + b$ two affine maps are one. Find the weights and the bias of the linear layer that does both.

# %% exercise="folded"
def folded(W, b, weight, bias, mean, var, eps):
    """(W', b') of the linear layer that does both; W (O, I), eps a number, all else (O,)."""
    ### BEGIN SOLUTION
    scale = weight / np.sqrt(var + eps)
    return W * scale[:, None], scale * (b - mean) + bias
    ### END SOLUTION

# %% check="folded" points=2
def both_layers(W, b, weight, bias, mean, var, eps):
    outputs, inputs = W.shape
    model = mg.nn.Sequential(mg.nn.Linear(inputs, outputs), mg.nn.BatchNorm1d(outputs, eps=eps)).eval()
    for parameter, array in zip(model.parameters(), (W, b, weight, bias), strict=True):
        parameter.data = array
    model[1].running_mean, model[1].running_var = mean, var
    at_zero = model(np.zeros((1, inputs))).data
    return (model(np.eye(inputs)).data - at_zero).T, at_zero[0]


_rng = np.random.default_rng(4)
_cases = [
    (_rng.normal(size=(O, I)), *_rng.normal(size=(4, O)), _rng.random(O) + 0.1, eps)
    for O, I, eps in ((2, 3, 1e-5), (4, 2, 0.1), (3, 3, 0.5))
]
mg.verify.exercise(
    folded, both_layers, _cases, hint="each output has a scale of its own: which axis of W do the outputs lie along?"
)
