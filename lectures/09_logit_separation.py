# %% [markdown]
# # 9. The Principle of Logit Separation
#
# *If all I want to know is whether this is a three, why compute what else it might be?*
#
# A classifier of $K$ categories ends in a layer with $K$ outputs, the logits. With ten categories nobody
# counts them. With the words of a language, or the faces that a search engine knows, the last layer is most
# of the network, and often only one of its outputs is of interest. Is this picture offensive? Is this my dog?
#
# So compute that one logit, and nothing else, and say yes if it is large: *single logit classification*.
# Keren, Sabato and Schuller (2018) ask when that works. The answer depends on the loss that the network was
# trained with, and the most popular loss of all gets it wrong.

# %%
import numpy as np

import minigrad as mg
from minigrad.losses import (
    BatchCrossEntropy,
    BatchMaxMargin,
    BinaryCrossEntropy,
    CrossEntropy,
    MaxMargin,
    NoiseContrastiveEstimation,
    SelfNormalizedCrossEntropy,
    properties,
)

# %% [markdown]
# ## One question, one row
#
# The last layer computes $z = Wh + b$. The logit of class $j$ needs row $j$ of $W$ and nothing else, so what
# it costs does not depend on $K$. The library has this as `logits(x, classes)`: of the last layer only the
# rows that are asked for are read.

# %%
train, validation, test = mg.data.digits(dtype=np.float32)


def small_network(classes=10, seed=1):
    """64 pixels, 32 hidden units, a logit a class."""
    layers = [mg.nn.Flatten(), mg.nn.Linear(64, 32), mg.nn.ReLU(), mg.nn.Linear(32, classes)]
    return mg.nn.Sequential(*layers).astype(np.float32).reset(seed)


model = small_network()
with mg.no_grad():
    assert np.allclose(model.logits(test.x, 3).data, model(test.x).data[:, 3], atol=1e-6)
for K in (10, 1000, 100_000, 10_000_000):
    hidden, every, one = 64 * 32, 32 * K, 32
    print(f"{K:10,} classes: {hidden + every:12,} products for all logits, {hidden + one:,} for one")

# %% [markdown]
# That is the ideal. How soon one notices depends on the layers in front and on the machine; the paper
# measures little difference up to $K = 2^{14}$ with a large network, and a factor from 8.5 to 21 at
# $2^{18.5}$.
#
# ## But does one logit mean anything?
#
# Train the network as everybody does, with cross-entropy, and look at all logits of all training images, the
# true ones (each image has one) and the false ones (each has nine).

# %%
def trained(loss, epochs=30, seed=1):
    """A small network, trained on the digits."""
    model = small_network(seed=seed)
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    mg.training.fit(model, loss, optimizer, train, epochs=epochs, seed=0, progress=False)
    return model


def logits_of(model, data):
    """All the logits (N, 10), in double precision."""
    with mg.no_grad():
        return model(data.x).data.astype(float)


by_cross_entropy = trained(CrossEntropy())
z = logits_of(by_cross_entropy, train)
print(f"errors on the training set: {100 * mg.metrics.zero_one_error(z, train.y):.2f} %")
mg.plots.logit_distributions(z, train.y).figure

# %% [markdown]
# By arg max the network is right on every training image, or nearly. Yet the two heaps overlap, widely. There
# is no number $T$ such that a logit over $T$ is a true one.
#
# Here is what that means for two images of the test set, both of them recognized without fault:

# %%
z = logits_of(by_cross_entropy, test)
right = z.argmax(axis=1) == test.y
true = np.eye(10, dtype=bool)[test.y]
worst = np.where(right[:, None] & true, z, np.inf)
best = np.where(right[:, None] & ~true, z, -np.inf)
j = int((best.max(axis=0) - worst.min(axis=0)).argmax())
that, this = int(worst[:, j].argmin()), int(best[:, j].argmax())
print(f"a {j}, recognized: its logit of class {j} is {z[that, j]:.2f}")
print(f"a {test.y[this]}, recognized: its logit of class {j} is {z[this, j]:.2f}")
assert z[this, j] > z[that, j]

# %% tags=["hide-input"]
figure = mg.plots.figure((13, 6), dpi=75)
panels = figure.subplots(2, 2, width_ratios=(1, 3))
for (picture, bars), n in zip(panels, (that, this), strict=True):
    picture.imshow(test.x[n, 0], cmap="gray_r")
    picture.set_axis_off()
    colours = ["0.75"] * 10
    colours[test.y[n]] = mg.plots.OKABE_ITO["blue"]
    colours[j] = mg.plots.OKABE_ITO["blue" if test.y[n] == j else "vermilion"]
    bars.bar(range(10), z[n], color=colours)
    bars.axhline(z[that, j], color="black", linestyle=":", linewidth=1.5)
    bars.set_xticks(range(10))
    bars.set_ylabel("logit", fontsize=16)
    bars.set_ylim(1.1 * z[[that, this]].min(), 1.1 * z[[that, this]].max())
    bars.tick_params(labelsize=14)
    bars.spines[["top", "right"]].set_visible(False)
panels[1, 1].set_xlabel("class", fontsize=16)
figure

# %% [markdown]
# Blue is the true class. In the row of each image it wins. In the column of class $j$ the wrong image does:
# its false logit, red, stands high above the dotted line, which marks the true one of the first image.
# Softmax, and with it cross-entropy, compares within rows; a threshold compares within columns, and nobody
# trained that.
#
# ## The principle
#
# What we need says itself (LS-02): over the whole training set,
#
# $$\min_{(x, y)} z_y(x) \;>\; \max_{(x, y),\, j\ne y} z_j(x) .$$
#
# *Every true logit is larger than every false one*, of whatever image and of whatever class. Then one
# threshold serves all. It looks like a comparison of all pairs, but takes one minimum and one maximum:

# %%
z = logits_of(by_cross_entropy, train)
gap = mg.metrics.logit_separation(z, train.y)
print(f"smallest true logit minus largest false one: {gap:.2f}")
assert not mg.metrics.is_separated(z, train.y)

# %% [markdown]
# A loss is *aligned* with the principle if it cannot be small otherwise: there is an $\epsilon > 0$ such that
# a loss under $\epsilon$, summed over the samples, implies separation. Then training longer must lead there
# in the end, if it leads anywhere. (For a loss that cannot reach zero, read: within $\epsilon$ of its
# infimum; erratum K-6.)
#
# ## Two counterexamples, and one reason
#
# Cross-entropy is not aligned. Two images of classes 0 and 1, and some $\alpha$:

# %%
labels = np.array([0, 1])
for alpha in (1, 5, 20, 100):
    z = np.array([[2.0 * alpha, alpha], [-2.0 * alpha, -alpha]])
    loss = CrossEntropy(reduction="sum")(z, labels).item()
    assert np.isclose(loss, 2 * np.log1p(np.exp(-alpha)))
    gap = mg.metrics.logit_separation(z, labels)
    print(f"alpha = {alpha:3}: loss {loss:8.2g}, separation {gap:5.0f}")

# %% [markdown]
# The loss goes to zero, and what is wrong becomes more wrong: the false logit of the first image is $\alpha$,
# the true one of the second is $-\alpha$ (LS-05). With the multi-class hinge of Crammer and Singer the same
# logits, for $\alpha$ equal to the margin, give a loss of zero, not nearly but exactly (LS-07):

# %%
z = np.array([[2.0, 1.0], [-2.0, -1.0]])
assert MaxMargin(margin=1.0)(z, labels).item() == 0.0
assert not mg.metrics.is_separated(z, labels)
mg.tables.formulas("cross_entropy", "max_margin")

# %% [markdown]
# Both fail for one reason, and it is in the formulas: only *differences* of logits of the same image occur.
# Add 1000 to all logits of one image and neither loss notices, but the false logits of that image now beat
# all the true logits of the others. So no loss that is blind to a shift of a single sample can be aligned,
# however clever it is otherwise; the losses of lecture 8 among them.

# %%
rng = np.random.default_rng(0)
z, y = rng.normal(size=(4, 3)), np.array([2, 0, 1, 0])
shift = np.array([[1000.0], [0.0], [0.0], [0.0]])
spreading = mg.losses.IncorrectProbabilityLoss.preset("ce+big+small")
for loss in (CrossEntropy(), MaxMargin(), spreading):
    assert np.isclose(loss(z + shift, y).item(), loss(z, y).item())
    assert properties.shift_invariant(loss) == "each sample"
assert not mg.metrics.is_separated(z + shift, y)

# %% [markdown]
# ## First cure: nail down the zero
#
# If the logits of different images are to be compared, they need a common origin. The simplest way is to ask
# of each class a question of its own, yes or no, through a sigmoid: binary cross-entropy, one against the
# rest (LS-12). (The paper prints a plus between its two parts, with which the loss rewards large false
# logits; erratum K-1.)

# %%
mg.tables.formulas("binary_cross_entropy", "self_normalized_cross_entropy")

# %% [markdown]
# Here the proof is two lines. Each term is positive, so if the sum is less than $\log 2$ each term is. And
# $\log(1 + e^{-z_y}) < \log 2$ says $z_y > 0$, and $\log(1 + e^{z_j}) < \log 2$ says $z_j < 0$. So
#
# $$\ell < \log 2 \quad\Longrightarrow\quad z_y > 0 > z_j .$$
#
# Zero is the threshold, for every class. *Self-normalization* fixes the origin otherwise: it keeps softmax
# and adds $\alpha \log^2 Z$, so that $Z = \sum_k e^{z_k}$ is drawn to 1, and then $z_y \approx \log p_y$ is
# near zero and the others far below. How small is small enough depends on $\alpha$; the proof in the paper
# forgets it (erratum K-7), and with a small $\alpha$ its bound fails:

# %%
z = np.array([[5.0, 1.0], [-9.0, -5.0]])
loss = SelfNormalizedCrossEntropy(alpha=0.001, reduction="sum")
printed = min(np.log1p(np.exp(-2)), (1 - np.log(2)) ** 2)
print(f"loss {loss(z, labels).item():.4f}, separated: {mg.metrics.is_separated(z, labels)}")
print(f"bound as printed {printed:.4f}, with alpha {loss.separation_bound(2, 2):.6f}")
assert loss.separation_bound(2, 2) < loss(z, labels).item() < printed

# %% [markdown]
# *Noise contrastive estimation* asks, of each class, whether it is the label or was drawn as noise from a
# distribution $q$. It is aligned as well, though not as the paper has it: the noise may draw the true class
# too, so that the true logit is pushed from both sides, and rests at $z_y = 0$, not at infinity. The loss
# cannot get below a positive number that depends on $tq_y$ (erratum K-6).

# %%
noise = NoiseContrastiveEstimation(np.full(3, 1 / 3), num_samples=3)
tau = 1.0  # t q_y
logits = [np.array([[true, -60.0, -60.0]]) for true in (-1.0, 0.0, 1.0, 5.0)]
values = [noise(z, np.array([0])).item() for z in logits]
print("true logit -1, 0, 1, 5: loss", np.round(values, 4))
assert np.isclose(min(values), (1 + tau) * np.log1p(tau) - tau * np.log(tau))
assert np.argmin(values) == 1

# %% [markdown]
# ## Second cure: compare the images
#
# The other way is to say what is wanted. A loss of a whole *batch* of $m$ images can compare the logits of
# one image with those of another. Take softmax over all $mK$ logits of the batch at once. Of this long
# distribution $Q$ each true logit should get $1/m$, and the false ones nothing: that is the distribution $P$,
# and the loss is the divergence of $Q$ from $P$ (LS-14).

# %%
mg.tables.formulas("batch_cross_entropy")

# %% [markdown]
# Its gradient is $Q - P$, as ever. Only one origin is left free, that of the batch as a whole. How small is
# small enough? By Pinsker's inequality no entry of $Q$ is further from $P$ than $\sqrt{\mathrm{KL}/2}$. If
# $\mathrm{KL} < \frac1{2m^2}$, that is less than $\frac1{2m}$; then every true logit has more than
# $\frac1{2m}$ in $Q$, every false one less, and the exponential keeps the order (erratum K-4; the paper
# compares a logit with $\frac1{2m}$ itself).
#
# The hinge has a batch form too: with $z_+$ the smallest true logit of the batch and $z_-$ the largest false
# one, add $\max(0, \gamma - z_+ + z_-)$ to the sum of the single hinges, and divide by $m$ (LS-15). A batch
# of *one* compares nothing, and both are what they were before, up to a factor, and not aligned (erratum
# K-9).

# %%
z, y = rng.normal(size=(1, 4)), np.array([2])
assert np.isclose(BatchCrossEntropy().forward(z, y), CrossEntropy()(z, y).item())
assert np.isclose(BatchMaxMargin().forward(z, y), 2 * MaxMargin()(z, y).item())

# %% [markdown]
# ## Put to the test
#
# Theorems about losses can be attacked. The library does: it looks for logits of two or three samples that
# are *not* separated and have as small a loss as possible, by descent from several starts, the
# counterexamples among them. If the excess over the smallest loss goes to zero, the loss is not aligned; if
# it does not, it had better stay over the bound that is claimed.

# %%
seven = {
    "cross-entropy": CrossEntropy(),
    "max-margin": MaxMargin(),
    "self-normalization": SelfNormalizedCrossEntropy(alpha=0.1),
    "noise contrastive": NoiseContrastiveEstimation(np.full(10, 0.1), num_samples=10),
    "binary cross-entropy": BinaryCrossEntropy(),
    "batch cross-entropy": BatchCrossEntropy(),
    "batch max-margin": BatchMaxMargin(),
}
for name, loss in seven.items():
    print(f"{name:21} {properties.aligned(loss)}")

# %% [markdown]
# For the batch max-margin, attack and bound meet: that bound could not be better. For the others the true
# limit lies somewhere between what was proved and what the attack has found.
#
# Now with digits. The same network, once with cross-entropy, once with binary cross-entropy, and for longer
# and longer:

# %%
for name in ("cross-entropy", "binary cross-entropy"):
    for epochs in (30, 60, 120):
        model = trained(seven[name], epochs)
        z = logits_of(model, train)
        total = len(train) * seven[name](z, train.y).item()
        gap = mg.metrics.logit_separation(z, train.y)
        print(f"{name:21} {epochs:3} epochs: sum of losses {total:6.2f}, separation {gap:6.2f}")

# %% [markdown]
# Cross-entropy gets better all the time, and as far as single logits go, worse all the time. Binary
# cross-entropy separates the whole training set, and does so long before the sum of its losses falls under
# $\log 2$: the bound is sufficient, far from necessary. Here are all logits of all training images again,
# after the last line:

# %%
assert mg.metrics.is_separated(z, train.y)
mg.plots.logit_distributions(z, train.y).figure

# %% [markdown]
# ## Table I, in small
#
# On images not seen the heaps overlap again; no principle about a training set can forbid that. What counts
# is how many logits are on the wrong side, and of which threshold. This is the test set, for a network
# trained with the batch cross-entropy:

# %%
by_batch = trained(seven["batch cross-entropy"])
mg.plots.logit_distributions(logits_of(by_batch, test), test.y).figure

# %% [markdown]
# The true logits stand in one narrow heap, for that is what the loss asks for: equal shares of $Q$. (Where
# the heap is, nobody asks; the paper has it at some positive value, and any value is as good, erratum K-5.)
# Most false logits are far below.
#
# To count, accept the images of class $j$ with $z_j > T$, and lower $T$ from the top. *Recall* is the part of
# the true ones that we have, *precision* the part of what we have that is true. The average precision, over
# all thresholds, is the area under the curve of one against the other.

# %% tags=["hide-input"]
figure = mg.plots.figure((16, 6), dpi=70)
shown = {"cross-entropy": by_cross_entropy, "batch cross-entropy": by_batch}
for ax, (name, model) in zip(figure.subplots(1, 2), shown.items(), strict=True):
    mg.plots.precision_recall(logits_of(model, test), test.y, classes=[1, 3, 5, 8], ax=ax)
    ax.set_title(name, fontsize=18)
figure

# %% [markdown]
# And all seven, each the mean of two networks. All numbers are errors: smaller is better.

# %%
reports = {}
for name, loss in seven.items():
    each = [logits_of(trained(loss, seed=seed), test) for seed in (1, 2)]
    error = np.mean([mg.metrics.zero_one_error(z, test.y) for z in each])
    reports[name] = np.mean([mg.metrics.single_logit_report(z, test.y).mean for z in each], axis=0)
    area, at_90, at_99 = reports[name]
    print(f"{name:21} zero-one {error:.3f}   1-AUPRC {area:.3f}   1-P@0.9 {at_90:.3f}   1-P@0.99 {at_99:.3f}")

# %%
numbers = np.array(list(reports.values()))
not_aligned, aligned = numbers[:2], numbers[2:]
for k, measure in enumerate(("1-AUPRC", "1-P@0.9", "1-P@0.99")):
    gain = mg.metrics.relative_improvement(not_aligned[:, k], aligned[:, k])
    print(f"{measure}: the five aligned losses have {gain:.0%} less")
    assert gain > 0.3

# %% [markdown]
# The first column, the usual arg max, hardly cares. The other three do, and the two losses that are not
# aligned stand apart from the five that are. The paper finds 82, 91 and 88 per cent for MNIST, with networks
# that were trained far longer.
#
# And all logits together? Table II of the paper compares a single logit with the probabilities of a softmax,
# for which all the logits must be computed:

# %%
with_all = [mg.softmax(logits_of(trained(CrossEntropy(), seed=seed), test)) for seed in (1, 2)]
errors = np.mean([mg.metrics.single_logit_report(p, test.y).mean for p in with_all], axis=0)
print("cross-entropy, all logits:          ", np.round(errors, 3))
print("batch cross-entropy, a single logit:", np.round(reports["batch cross-entropy"], 3))

# %% [markdown]
# One logit, trained for the purpose, does as well as all of them. The work that softmax does when it is asked
# has been done once and for all, in training.
#
# ## In use
#
# What remains is to choose the threshold: on the validation set, for a recall that the application needs.

# %%
single = mg.single_logit.SingleLogit(by_batch)
chosen = single.choose(validation.x, validation.y, recall=0.95, classes=[3, 8])
for j, threshold in zip(chosen.classes, chosen.thresholds, strict=True):
    accepted, is_one = single.accept(test.x, int(j)), test.y == j
    hits, others = (accepted & is_one).sum(), (accepted & ~is_one).sum()
    print(f"is it a {j}? threshold {threshold:.2f}: {hits} of {is_one.sum()} accepted, and {others} others")

# %%
assert mg.verify.audit(["batch_cross_entropy", "batch_max_margin", "binary_cross_entropy"]).passed

# %% [markdown]
# ## What to remember
#
# A threshold compares logits of different images; cross-entropy and the hinge compare those of one image, and
# are blind to the rest. Separation needs a loss that fixes the origin of the logits or compares them across
# the batch. With such a loss one logit is a classifier, at a cost that does not know how many classes there
# are.
#
# Two warnings. A batch loss separates the *batch*: that all batches together separate the set is proved for
# all subsets, not for the few that an epoch draws (erratum K-14). And the principle is about the images in
# training; for new ones there are only measurements.
#
# ## Exercises

# %% [markdown]
# ### Exercise 1: separation
#
# Write the smallest true logit minus the largest false one, without a loop over the samples.

# %% exercise="separation"
def separation(z, y):
    """A number, for logits z (N, K) and labels y (N,)."""
    ### BEGIN SOLUTION
    true = np.eye(z.shape[1], dtype=bool)[y]
    return z[true].min() - z[~true].max()
    ### END SOLUTION

# %% check="separation" points=1
_rng = np.random.default_rng(3)
_cases = [(_rng.normal(size=(n, K)), _rng.integers(0, K, n)) for n, K in ((1, 4), (6, 3), (30, 5))]
_cases.append((20 * np.eye(4)[[2, 0, 3]] - 7, np.array([2, 0, 3])))
mg.verify.exercise(
    separation, mg.metrics.logit_separation, _cases, hint="the smallest and the largest of all samples"
)

# %% [markdown]
# ### Exercise 2: how to break it
#
# Here are logits that are separated. Add a number $t \ge 0$ to all the logits of the *first* sample:
# cross-entropy does not change. From which $t$ on are they no longer separated?

# %% exercise="breaking_shift"
def breaking_shift(z, y):
    """The smallest t, a number, for separated logits z (N, K) with N > 1 and labels y (N,)."""
    ### BEGIN SOLUTION
    rest = np.arange(1, len(z))
    return z[rest, y[1:]].min() - np.delete(z[0], y[0]).max()
    ### END SOLUTION

# %% check="breaking_shift" points=2
def shift_of_the_engine(z, y):
    """Found by bisection."""
    from scipy.optimize import brentq

    first = np.arange(len(z))[:, None] == 0
    return brentq(lambda t: mg.metrics.logit_separation(z + t * first, y), 0, 100, xtol=1e-13)


_cases = []
for n, K in ((2, 2), (3, 5), (6, 4)):
    _labels = _rng.integers(0, K, n)
    _true = _rng.uniform(1.5, 9, size=(n, 1)) * np.eye(K)[_labels]
    _cases.append((_rng.uniform(size=(n, K)) + _true, _labels))
mg.verify.exercise(
    breaking_shift, shift_of_the_engine, _cases, hint="which logits move, and whom do they meet first?"
)

# %% [markdown]
# ### Exercise 3: the gradient of the batch cross-entropy
#
# Write it for a batch, also for logits of $\pm 1000$.

# %% exercise="batch_gradient"
def batch_gradient(z, y):
    """The gradient (M, K) of the batch cross-entropy with respect to the logits z (M, K), labels y (M,)."""
    ### BEGIN SOLUTION
    Q = np.exp(z - z.max())
    Q /= Q.sum()
    Q[np.arange(len(z)), y] -= 1 / len(z)
    return Q
    ### END SOLUTION

# %% check="batch_gradient" points=2
def batch_gradient_of_the_engine(z, y):
    """By back-propagation."""
    z = mg.Tensor(z, requires_grad=True)
    BatchCrossEntropy()(z, y).backward()
    return z.grad


_cases = [(_rng.normal(size=(m, K)), _rng.integers(0, K, m)) for m, K in ((2, 3), (5, 4))]
_cases.append((np.array([[1000.0, -1000.0, 999.0], [40.0, 998.0, 0.5]]), np.array([1, 1])))
mg.verify.exercise(batch_gradient, batch_gradient_of_the_engine, _cases, hint="one softmax, over what?")

# %% [markdown]
# ### Exercise 4: average precision
#
# Lower the threshold from the top, past one distinct score after the other. At each, recall rises by some
# amount, perhaps zero, to $R_t$, and precision is $P_t$. Write $\sum_t (R_t - R_{t-1}) P_t$. Samples with
# equal scores are accepted together: no threshold can tell them apart.

# %% exercise="average_precision"
def average_precision(scores, positive):
    """A number, for scores (N,) and booleans positive (N,)."""
    ### BEGIN SOLUTION
    total = recall = 0.0
    for threshold in np.unique(scores)[::-1]:
        accepted = scores >= threshold
        precision, before = positive[accepted].mean(), recall
        recall = positive[accepted].sum() / positive.sum()
        total += (recall - before) * precision
    return total
    ### END SOLUTION

# %% check="average_precision" points=3
_cases = [(_rng.normal(size=20), _rng.random(20) < 0.4)]
_cases.append((_rng.integers(0, 5, 30).astype(float), _rng.random(30) < 0.3))
_cases.append((np.array([3.0, 1.0, 1.0, 0.0]), np.array([False, True, False, True])))
mg.verify.exercise(
    average_precision, mg.metrics.average_precision, _cases,
    hint="sort, but what of two equal scores, one true and one false?",
)  # fmt: skip
