# %% [markdown]
# # 8. Losses that see the incorrect categories
#
# *Two networks give the right answer the same probability. Does it matter what they think of the wrong ones?*
#
# Cross-entropy says no. It is the logarithm of one number, $p_c$, the probability of the correct category,
# and how the rest, $1 - p_c$, is shared out among the other categories is all the same to it. US 12387092
# says yes: a network that puts all the rest on *one* rival is a small step away from changing its mind, and
# one that spreads it evenly is not. It adds terms to the loss that look at the incorrect probabilities.
#
# We take these terms apart. Some of them run away, some drag the correct answer down, one pair fits together
# perfectly; and in the end we train with them, and measure what they do, and what they do not.

# %%
import textwrap
import warnings

import numpy as np

import minigrad as mg
from minigrad.losses import (
    ComplementaryCrossEntropy,
    CrossEntropy,
    IncorrectLogOddsLSE,
    IncorrectLogOddsPower,
    IncorrectProbabilityLoss,
    LogOdds,
    LogSumInverseProbability,
)

# %% [markdown]
# ## Two answers that cross-entropy cannot tell apart
#
# The patent's own example: three categories, the first is correct, and has $p_c = 0.51$ both times.
# Throughout this lecture $c$ is the correct category, $j$ an incorrect one, $z$ are logits and
# $p = \mathrm{softmax}(z)$.

# %%
even, uneven = np.array([0.51, 0.24, 0.25]), np.array([0.51, 0.48, 0.01])
correct = np.array([0])
terms = {
    "cross-entropy": CrossEntropy(),
    "complementary": ComplementaryCrossEntropy(),
    "log-odds": LogOdds(),
    "big": IncorrectLogOddsLSE(1.0, 1.0),
    "small": IncorrectLogOddsLSE(-1.0, -1.0),
    "ln Z": LogSumInverseProbability(),
}
for name, term in terms.items():
    one, other = (term(np.log([p]), correct).item() for p in (even, uneven))
    verdict = "the same" if np.isclose(one, other) else "prefers even"
    print(f"{name:14} even {one:8.5f}   uneven {other:8.5f}   {verdict}")

# %% [markdown]
# The first three are functions of $p_c$ alone, and blind. The last three are not, and each is smaller for the
# even spread. Before we ask what they are good for, let us see what they are.
#
# ## Three losses of one number
#
# The currency of the patent is the *log-odds* of a probability, $\ell = \log\frac{p}{1-p}$: zero at one half,
# negative below, and without end in both directions. Its text would have us put "raw network outputs" into
# that fraction; they can be greater than 1, and then the logarithm is of a negative number. The argument is
# the probability (erratum P-1).
#
# From logits no probability is needed at all, because softmax is a quotient. With $\mathrm{LSE}$ for the
# logarithm of a sum of exponentials,
#
# $$\ell_i = \log\frac{e^{z_i}}{\sum_{k\ne i} e^{z_k}} = z_i - \underset{k\ne i}{\mathrm{LSE}}(z_k) .$$

# %%
mg.tables.formulas("cross_entropy", "complementary_cross_entropy", "log_odds")

# %% [markdown]
# On the way the patent writes $\log(1 - p_c)$ as the logarithm of $-e^{z_c} + \sum_i e^{z_i}$, over the sum.
# That is true on paper. In a machine the large number is added and subtracted again, and takes the small ones
# with it (erratum P-12). Only its last line, a difference of two $\mathrm{LSE}$, is fit to be computed:

# %%
z = np.array([40.0, 0.0, 0.0])
with np.errstate(divide="ignore"):
    on_paper = np.log(-np.exp(z[0]) + np.exp(z).sum()) - np.log(np.exp(z).sum())
in_the_engine = ComplementaryCrossEntropy()(z[None], correct).item()
print(f"log(1 - p_c): as on paper {on_paper}, in the engine {in_the_engine:.4f}")
assert np.isclose(in_the_engine, np.log(2) - 40)

# %% [markdown]
# The signs are left to the reader (erratum P-4). For a loss that is *minimized*, $\log p_c$ needs a
# coefficient of $-1$ and $\log(1-p_c)$ one of $+1$; and the two together are
#
# $$-\log p_c + \log(1 - p_c) = -\ell_c ,$$
#
# the log-odds with $-1$. So there are only two ideas here, not three. How do they push? Here are the
# derivatives with respect to the correct logit, while the network becomes sure:

# %%
values = [term(np.log([uneven]), correct).item() for term in terms.values()]
assert np.isclose(values[0] + values[1], values[2])
print("      p_c    cross-entropy  complementary  log-odds")
for p_c in (0.01, 0.5, 0.99, 0.999999):
    z = mg.Tensor(np.log([[p_c, 0.7 * (1 - p_c), 0.3 * (1 - p_c)]]), requires_grad=True)
    slopes = []
    for name in ("cross-entropy", "complementary", "log-odds"):
        terms[name](z, correct).backward()
        slopes.append(z.grad[0, 0])
    print(f"{p_c:10g} {slopes[0]:14.6f} {slopes[1]:14.6f} {slopes[2]:10.6f}")

# %% [markdown]
# Cross-entropy presses hard while the network is wrong, and lets go as it gets right. The complementary term
# does the opposite: it presses hardest when there is nothing left to win. Their sum presses with 1, always.
# The patent likes that: constant pressure. (It is constant in the logit, not in $p_c$, and only without the
# $\epsilon$ that one of its equations adds; errata P-14 and P-2.)
#
# ## What runs away
#
# A constant slope has a price. Something that falls at a constant rate for ever has no lowest point. Let us
# descend, on the four logits of one sample:

# %%
def descend(loss, steps=400, lr=0.5):
    """p_c and the largest |z| after each step, for the logits of one sample of category 1."""
    z, path = np.array([[0.1, 0.3, -0.2, -0.4]]), []
    for _ in range(steps):
        z = mg.Tensor(z, requires_grad=True)
        loss(z, np.array([1])).backward()
        z = z.data - lr * z.grad
        path.append((mg.softmax(z).data[0, 1], np.abs(z).max()))
    return np.array(path)


def with_cross_entropy(term):
    """Cross-entropy plus a term."""
    return lambda z, y: CrossEntropy()(z, y) + term(z, y)


paths = {
    "cross-entropy": descend(terms["cross-entropy"]),
    "log-odds": descend(terms["log-odds"]),
    "cross-entropy + ln Z": descend(with_cross_entropy(terms["ln Z"])),
}
for name, path in paths.items():
    p_c, early, late = path[-1, 0], path[199, 1], path[-1, 1]
    print(f"{name:20} p_c {p_c:.4f}; largest logit {early:6.2f} after 200 steps, {late:6.2f} after 400")

# %% tags=["hide-input"]
figure = mg.plots.figure((13, 4.8), dpi=80)
panels = figure.subplots(1, 2)
looks = (("blue", "o"), ("vermilion", "s"), ("green", "^"))
titles = ("probability of the correct category", "largest logit")
for column, (ax, title) in enumerate(zip(panels, titles, strict=True)):
    for (name, path), (colour, marker) in zip(paths.items(), looks, strict=True):
        ax.plot(path[:, column], color=mg.plots.OKABE_ITO[colour], marker=marker, markevery=50, linewidth=2.5,
                markersize=8, label=name)  # fmt: skip
    ax.set_title(title, fontsize=16)
    ax.set_xlabel("step", fontsize=16)
    ax.tick_params(labelsize=14)
    ax.spines[["top", "right"]].set_visible(False)
panels[0].set_ylim(0, 1.05)
panels[1].set_ylim(0, 60)
panels[0].legend(frameon=False, fontsize=15, loc="center right", bbox_to_anchor=(1, 0.68))
figure

# %% [markdown]
# The logits of cross-entropy grow too, but like the logarithm of the number of steps, and the loss settles at
# 0. Under the log-odds they grow in proportion to the steps. The loss goes to minus infinity, all the while
# looking like splendid progress (erratum P-5): a falling loss says nothing about convergence when there is
# nothing to converge to.
#
# The third curve stops at $p_c = 1/2$. We shall see why.
#
# ## The largest and the smallest
#
# To spread the incorrect probabilities, push the largest down and the smallest up. Maximum and minimum have
# kinks, so the patent smooths them. One form has become standard:
#
# $$\frac1\lambda \underset{j\ne c}{\mathrm{LSE}}(\lambda\, \ell_j),$$
#
# at most $\frac{\log(K-1)}{\lambda}$ above the maximum for $\lambda > 0$. The patent prints the same formula
# for "small" and is silent about the sign; with $\lambda > 0$ again it would be the maximum a second time.
# The minimum needs $\lambda < 0$ (erratum P-7).

# %%
p = np.array([[0.38, 0.55, 0.06, 0.01]])
y = np.array([1])
lodds = np.log(p / (1 - p))[0, [0, 2, 3]]
print(f"the incorrect log-odds: {lodds.round(4)}")
for sharpness in (1, 3, 10, -10, -3, -1):
    value = IncorrectLogOddsLSE(1.0, sharpness)(np.log(p), y).item()
    print(f"lambda = {sharpness:3}: {value:8.4f}")
    nearest = lodds.max() if sharpness > 0 else lodds.min()
    assert abs(value - nearest) <= np.log(3) / abs(sharpness) + 1e-12

# %% [markdown]
# Is "big" smallest for the even spread, which is the point of it? With $\lambda \ge 1$ yes, for then
# $\big(\frac p{1-p}\big)^\lambda$ is a convex function of $p$. With a softer maximum it may not be (erratum
# P-11):

# %%
spreads = {"even": np.array([[0.9, 0.05, 0.05]]), "uneven": np.array([[0.9, 0.0999, 0.0001]])}
for sharpness in (0.5, 1.0, 2.0):
    big = IncorrectLogOddsLSE(1.0, sharpness)
    one, other = (big(np.log(p_of), correct).item() for p_of in spreads.values())
    print(f"lambda = {sharpness}: even {one:.3f}, uneven {other:.3f}")
    assert (one < other) == (sharpness >= 1)

# %% [markdown]
# The derivative is what one hopes for: a softmax $w = \mathrm{softmax}(\lambda \ell_j)$ that says which
# category is meant, applied to the derivatives of its log-odds. The sharper, the more it is one category
# alone that is pushed. (With two categories in all there is one incorrect one, and whatever $\lambda$ is, big
# and small are the same; with opposite signs they cancel, erratum P-8.)

# %%
assert mg.verify.audit(["incorrect_log_odds_lse"]).passed
mg.tables.formulas("incorrect_log_odds_lse")

# %% [markdown]
# ## The form that turns around
#
# The patent's first choice is another one, the generalized mean $\big(\sum_j \ell_j^{\,a}\big)^b$, of which
# everybody knows that a large $a$ finds the maximum. Of positive numbers! The log-odds of incorrect
# categories are negative, all but at most one of them, and there a large even $a$ finds the *smallest*
# (erratum P-6). A negative even $a$ finds the largest, with a negative coefficient; so far so good. But an
# even power forgets the sign, and when a wrong category has more than one half, its log-odds is positive:

# %%
mean = IncorrectLogOddsPower(-1.0, exponent=-4, outer_exponent=-0.25)
for wrong in (0.45, 0.7):
    rest = (1 - wrong) / 3
    z = mg.Tensor(np.log([[rest, wrong, rest, rest]]), requires_grad=True)
    mean(z, np.array([0])).backward()
    step = -z.grad[0, 1]
    way = "up" if step > 0 else "down"
    print(f"a wrong category of {wrong}: descent moves its logit {way} ({step:+.2f})")
    assert (step > 0) == (wrong > 0.5)

# %% [markdown]
# Where the network is wrong, in the one case that matters most, this loss makes it more wrong. Odd powers
# keep the sign, but then log-odds of different signs cancel in the sum, and the root has to be a signed one.
# The library has this form for the record, refuses exponents that leave the real numbers, and recommends the
# other.

# %%
try:
    IncorrectLogOddsPower(-1.0, exponent=3, outer_exponent=1 / 3)(np.log(p), y)
except ValueError as refusal:
    print(textwrap.fill(str(refusal), 90))

# %% [markdown]
# ## One over p
#
# The last term needs no sharpness: $Z = \sum_{j\ne c} \frac1{p_j}$, which is enormous as soon as one of the
# $p_j$ is tiny. (As printed, $Z$ is defined and the name of the loss has a logarithm; the logarithm is meant,
# erratum P-3, and $Z$ itself would overflow.)

# %%
mg.tables.formulas("log_sum_inverse_probability")

# %% [markdown]
# When is it smallest? By the inequality of Cauchy and Schwarz,
#
# $$\Big(\sum_j p_j\Big)\Big(\sum_j \frac1{p_j}\Big) \ge (K-1)^2
# \qquad\text{so}\qquad \log Z \ge \log\frac{(K-1)^2}{1-p_c},$$
#
# with equality for the even spread only. That is what we want, and something that we do not want stands in
# the same line: the bound *grows* with $p_c$. If the incorrect probabilities are to be large, the correct one
# must be small. Together with cross-entropy, on the even spread, the loss is $-\log p_c - \log(1 - p_c)$ and
# a constant. That is symmetric, and its minimum is at one half: erratum P-9, and the third curve above. The
# network is trained to be *half sure*.
#
# ## A rule for the sum
#
# The patent's loss is the sum of all six, each with a coefficient,
#
# $$-a \log p_c + c_1\log(1-p_c) - c_2\, \ell_c + c_3\,\mathrm{big} - c_4\,\mathrm{small} + c_5\log Z .$$
#
# Will a given choice run away, settle inside, or behave? Look at the end, $p_c \to 1$, where the rest is
# spread evenly. There $-\log p_c$ vanishes, each log-odds $\ell_j$ is $\log(1-p_c)$ and a constant, $-\ell_c$
# is $\log(1-p_c)$, and $\log Z$ is $-\log(1-p_c)$ and a constant. All in all the loss behaves like
# $S\log(1-p_c)$, where
#
# $$S = c_1 + c_2 + c_3 - c_4 - c_5 .$$
#
# With $S > 0$ it falls for ever. With $S < 0$ there is a wall at $p_c = 1$ and the optimum stands before it.
# Only $S = 0$ is like cross-entropy. The library makes the sums by name, knows their $S$, and warns:

# %%
print("sum             S      p_c after 400 steps  largest logit")
simple, pairs = ("ce", "cce", "lodds"), ("ce+big", "ce+small", "ce+ln_z", "lodds+ln_z")
for name in (*simple, *pairs, "ce+big+small", "all"):
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        loss = IncorrectProbabilityLoss.preset(name)
    assert bool(heard) == (loss.singularity != 0)
    p_c, largest = descend(loss)[-1]
    words = "   warned of" if heard else ""
    print(f"{name:14} {loss.singularity:2.0f}  {p_c:16.6f} {largest:18.1f}{words}")

# %% [markdown]
# Note the last line: all six terms with coefficient one, which is what one would try first, run away.
#
# Two sums pass. For $\mathrm{ce}+\mathrm{big}+\mathrm{small}$ the soft maximum is at least the maximum, and
# the soft minimum at most the minimum, so that the two terms add at least $\max\ell_j - \min\ell_j \ge 0$ to
# cross-entropy. The other sum is even better. Write $s_j = p_j/(1-p_c)$ for the shares of the incorrect
# categories, a distribution of its own. Then
#
# $$-\ell_c + \log Z = -\log p_c + \log\big((1-p_c)\,Z\big) = -\log p_c + \log\sum_{j\ne c}\frac1{s_j} .$$
#
# Cross-entropy, which sees $p_c$ only, and a penalty $U(s)$ that sees the shares only: the two questions,
# *how much for the correct one* and *how is the rest spread*, fall apart into two terms that do not meddle
# with one another. And no new class is needed to give the second one a weight $\eta$: take the log-odds and
# $\log Z$ with $\eta$, and of the cross-entropy what is left, $1-\eta$.

# %%
def spreading(eta):
    """Cross-entropy + eta U(s), U(s) = log sum_j 1/s_j: S = eta - eta = 0."""
    return IncorrectProbabilityLoss(ce_coeff=-(1 - eta), p_corr_lodds=-eta, ln_z_coeff=eta)


rng = np.random.default_rng(0)
z, labels = rng.normal(size=(6, 5)), rng.integers(0, 5, 6)
losses = IncorrectProbabilityLoss.preset("lodds+ln_z", reduction="none")(z, labels).data
for row, label, loss in zip(mg.softmax(z).data, labels, losses, strict=True):
    s = np.delete(row, label) / (1 - row[label])
    assert np.isclose(loss, -np.log(row[label]) + np.log((1 / s).sum()))
print(mg.verify.gradient(lambda z: spreading(0.3)(z, labels), z)[0])

# %% [markdown]
# ## Where the probabilities go
#
# A loss shows its character in the first step of descent. A small step on the logits,
# $z \to z - h\,g^{\mathsf T}$, moves the probabilities by the Jacobian of softmax,
#
# $$\delta p = -h\,\big(\mathrm{diag}(p) - pp^{\mathsf T}\big)\, g^{\mathsf T} .$$
#
# Figure 5 of the patent shows $p = (0.38, 0.55, 0.06, 0.01)$, the second category correct, with arrows: the
# rival down, all the others up. Which term does that?

# %%
def moves(loss, p, label):
    """How p moves, to first order, in a step of descent on the logits; (K,)."""
    z = mg.Tensor(np.log(p)[None], requires_grad=True)
    loss(z, np.array([label])).backward()
    return -mg.registry["softmax"]().jacobian(z.data[0]) @ z.grad[0]


p = np.array([0.38, 0.55, 0.06, 0.01])
sums = {name: IncorrectProbabilityLoss.preset(name) for name in ("lodds+ln_z", "ce+big+small")}
for name, loss in {**terms, **sums}.items():
    dp = moves(loss, p, 1)
    print(f"{name:14}", "  ".join("up  " if d > 0 else "down" for d in dp), "", dp.round(4))

# %%
mg.plots.incorrect_categories(p, label=1).figure

# %% [markdown]
# None, alone (erratum P-18). The three blind ones push *everything* down here that is not correct, the more
# the larger it is. So does big: it means the rival, but what the rival loses goes to the favourite. Small and
# $\log Z$ raise the poor, and the rival too, at the cost of the correct category. It takes a pair to draw the
# patent's picture, and the two sums with $S = 0$ are among the pairs that do.

# %%
mg.plots.incorrect_categories(p, label=1, terms=sums).figure

# %% [markdown]
# Now everywhere at once. Three categories make a triangle, and each arrow shows where a step of descent moves
# the distribution that stands there. The category at the top is the correct one.

# %% tags=["hide-input"]
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the S that is not 0, which is the point
    shown = {name: IncorrectProbabilityLoss.preset(name) for name in ("ce", "ce+ln_z", "lodds+ln_z")}
figure = mg.plots.figure((19, 7.6), dpi=60)
for ax, (name, loss) in zip(figure.subplots(1, 3), shown.items(), strict=True):
    mg.plots.simplex(ax, ("a", "b", "c"), label=2)
    mg.plots.descent_field(loss, 2, ax, ("a", "b", "c"))
    ax.set_title(name, fontsize=20, pad=44)
figure

# %% [markdown]
# On the left, cross-entropy: all arrows lead up, but those near the right side run along it. If *b* is ahead
# of *a* it stays ahead. In the middle, the term in $\log Z$ pulls everything to the upright line in the
# middle, where the rest is spread evenly, and on that line the arrows from above and from below meet at one
# half. On the right, the pair that fits together: to the middle first, and then up, all the way.
#
# ## On real digits
#
# Enough of single samples. We train a small network on the digits, with $-\log p_c + \eta\, U(s)$, and ask
# each test image how the network spreads the rest. A good measure is the *effective number* of incorrect
# categories, $e^H$ with $H$ the entropy of the shares: 9 for an even spread, 1 if all the rest is on one
# rival.

# %%
train, _, test = mg.data.digits(dtype=np.float32)


def trained(eta, seed):
    """A small network after 30 epochs with cross-entropy + eta U."""
    layers = [mg.nn.Flatten(), mg.nn.Linear(64, 32), mg.nn.ReLU(), mg.nn.Linear(32, 10)]
    model = mg.nn.Sequential(*layers).astype(np.float32).reset(seed)
    optimizer = mg.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    mg.training.fit(model, spreading(eta), optimizer, train, epochs=30, seed=seed, progress=False)
    return model


def shares(z, y):
    """The shares s (N, K) of the incorrect categories, 0 for the correct one."""
    return mg.softmax(np.where(np.eye(10)[y] > 0, -np.inf, z)).data


def effective_number(s):
    """exp of the entropy of each row."""
    return np.exp(-(s * np.log(np.where(s > 0, s, 1))).sum(axis=1))


etas, seeds = (0.0, 0.1, 1.0), range(3)
models = {(eta, seed): trained(eta, seed) for eta in etas for seed in seeds}
with mg.no_grad():
    logits = {key: model(test.x).data.astype(float) for key, model in models.items()}
for eta in etas:
    z = [logits[eta, seed] for seed in seeds]
    errors = [100 * mg.metrics.zero_one_error(one, test.y) for one in z]
    numbers = [effective_number(shares(one, test.y)).mean() for one in z]
    sure = [np.median(mg.softmax(one).data[np.arange(len(test)), test.y]) for one in z]
    print(f"eta = {eta:3}: test error {np.mean(errors):.1f} % ({min(errors):.1f} to {max(errors):.1f}), "
          f"effective number {np.mean(numbers):.2f} of 9, median p_c {np.mean(sure):.4f}")  # fmt: skip

# %% tags=["hide-input"]
ax = mg.plots.figure((10, 5), dpi=80).add_subplot()
for eta, (colour, marker) in zip(etas, looks, strict=True):
    numbers = np.sort(np.concatenate([effective_number(shares(logits[eta, seed], test.y)) for seed in seeds]))
    ax.plot(numbers, np.linspace(0, 100, len(numbers)), color=mg.plots.OKABE_ITO[colour], linewidth=2.5,
            marker=marker, markevery=0.1, markersize=8, label=rf"$\eta$ = {eta:g}")  # fmt: skip
ax.set_xlabel("effective number of incorrect categories", fontsize=16)
ax.set_ylabel("% of images with at most that", fontsize=16)
ax.set_xlim(1, 9)
ax.tick_params(labelsize=14)
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, fontsize=16, loc="upper left")
ax.figure

# %% [markdown]
# The term does what it says. Under cross-entropy nearly all of the rest sits on one or two rivals; with the
# full term it is spread over eight or nine, on images that no network has seen. It costs no accuracy that we
# could tell from the luck of the seed.
#
# ## Is it worth it?
#
# The patent's reason was robustness: with an even spread a small change of the input, or of the parameters,
# should be less likely to change the answer. That can be measured. We add noise to the images, and in another
# trial to the weights, and count the answers that change.

# %%
def changed(model, rng, of_inputs=0.0, of_weights=0.0, draws=5):
    """The per cent of answers on the test set that noise changes."""
    with mg.no_grad():
        before, kept, changes = model(test.x).data.argmax(axis=1), model.state_dict(), []
        for _ in range(draws):
            for parameter in model.parameters():
                factor = 1 + of_weights * rng.normal(size=parameter.shape)
                parameter.data = (parameter.data * factor).astype(np.float32)
            noisy = test.x + of_inputs * rng.normal(size=test.x.shape).astype(np.float32)
            after = model(noisy.astype(np.float32)).data.argmax(axis=1)
            changes.append((after != before).mean())
            model.load_state_dict(kept)
    return 100 * np.mean(changes)


trials = {
    "pixels, small noise": {"of_inputs": 0.1},
    "pixels, large noise": {"of_inputs": 0.3},
    "weights": {"of_weights": 0.2},
}
for what, noise in trials.items():
    for eta in etas:
        share = [changed(models[eta, seed], np.random.default_rng(7), **noise) for seed in seeds]
        each = ", ".join(f"{one:4.1f}" for one in share)
        print(f"{what:20} eta = {eta:3}: {np.mean(share):5.1f} % of the answers change ({each})")

# %% [markdown]
# With noise on the pixels there is nothing to see: the differences are those between one seed and another.
# With noise on the weights somewhat fewer answers change once the rest is spread. So the claim has something
# in it here, not much, and this is one small network on one small set of data; the patent reports no
# experiment. That it is not more should not surprise. Robustness is about distances in the space of *inputs*;
# the loss sees probabilities, and how far an image is from the border to its rival is not written in them.
#
# ## What is lost
#
# There is also a price, and accuracy does not show it. The wrong answers of a network are not garbage. They
# say what an image *looks like*: which incorrect categories a digit reminds it of. Here are the shares of the
# rest, averaged over the test images of each digit:

# %% tags=["hide-input"]
figure = mg.plots.figure((14, 6), dpi=70)
panels = figure.subplots(1, 2)
for ax, eta in zip(panels, (0.0, 1.0), strict=True):
    s = np.mean([shares(logits[eta, seed], test.y) for seed in seeds], axis=0)
    mean = np.array([s[test.y == digit].mean(axis=0) for digit in range(10)])
    drawn = ax.imshow(mean, cmap="cividis", vmin=0, vmax=0.6)
    ax.set_title(rf"shares of the rest, $\eta$ = {eta:g}", fontsize=18)
    ax.set_xlabel("incorrect category", fontsize=16)
    ax.set_ylabel("the digit", fontsize=16)
    ax.set_xticks(range(10))
    ax.set_yticks(range(10))
    ax.tick_params(labelsize=14)
figure.colorbar(drawn, ax=panels, shrink=0.85).ax.tick_params(labelsize=14)
figure

# %% [markdown]
# On the left one can read what digits have in common, and nobody told the network: it was trained on right
# answers only. On the right the page has been wiped clean. It had to be; an even spread *is* the absence of
# that information. Whoever wants to train a small network on the answers of a large one lives on just these
# wrong probabilities (Hinton, Vinyals and Dean 2015), and should not use this loss for the large one.
#
# ## What to remember
#
# Cross-entropy sees one probability. Terms that see the others come in two kinds, and the sum of their
# coefficients, $S$, decides whether training ends, and where: run away, stop short, or behave. The log-odds
# and $\log Z$ together are cross-entropy and a pure penalty on unevenness. Such a penalty works, in that it
# spreads what it is told to spread; whether the network is better for it is a question for an experiment, not
# for the formula.
#
# ## Exercises

# %% [markdown]
# ### Exercise 1: log-odds without probabilities
#
# Write the log-odds of all $K$ categories, from the logits of one sample, for any logits that a network may
# produce: also where one probability is 1 to all the digits a machine has.

# %% exercise="log_odds"
def log_odds(z):
    """The log-odds (K,) of softmax(z), for logits z (K,)."""
    ### BEGIN SOLUTION
    lodds = np.empty(len(z))
    for i in range(len(z)):
        others = np.delete(z, i)
        lodds[i] = z[i] - others.max() - np.log(np.exp(others - others.max()).sum())
    return lodds
    ### END SOLUTION

# %% check="log_odds" points=1
_rng = np.random.default_rng(1)
_cases = [_rng.normal(size=5), np.array([0.3, -0.1])]
_cases += [np.array([40.0, 0.0, 1.0]), np.array([1000.0, -1000.0, 998.0])]
mg.verify.exercise(
    log_odds, lambda z: LogOdds(1.0, reduction="none")(np.tile(z, (len(z), 1)), np.arange(len(z))), _cases,
    hint="a difference of a logit and one LSE; which logits are in the sum?",
)  # fmt: skip

# %% [markdown]
# ### Exercise 2: where training comes to rest
#
# On the even spread, minimize $-\log p_c + \zeta\log Z$. At which $p_c$ does training end, for $\zeta > 0$?
# You know the answer for $\zeta = 1$.

# %% exercise="resting_place"
def resting_place(zeta):
    """The probability p_c, a number, at which -log p_c + zeta log Z is smallest."""
    ### BEGIN SOLUTION
    return 1 / (1 + zeta)
    ### END SOLUTION

# %% check="resting_place" points=1
def rest_of_the_engine(zeta):
    """Where the slope of the loss with respect to the correct logit of four is zero, by bisection."""
    from scipy.optimize import brentq

    def slope(lead):
        z = mg.Tensor(np.array([[lead, 0.0, 0.0, 0.0]]), requires_grad=True)
        (CrossEntropy()(z, np.array([0])) + LogSumInverseProbability(zeta)(z, np.array([0]))).backward()
        return z.grad[0, 0]

    lead = brentq(slope, -20, 20, xtol=1e-13)
    return mg.softmax(np.array([lead, 0.0, 0.0, 0.0])).data[0]


mg.verify.exercise(resting_place, rest_of_the_engine, [0.1, 1.0, 2.5], hint="what is log Z on the even spread?")

# %% [markdown]
# ### Exercise 3: the penalty alone
#
# Write the gradient of $U = \log\sum_{j\ne c} 1/s_j$ with respect to the logits of one sample. There is a
# reason why its entry at $c$ is so simple.

# %% exercise="unevenness_gradient"
def unevenness_gradient(z, c):
    """The gradient (K,) of U with respect to the logits z (K,); c is the correct category."""
    ### BEGIN SOLUTION
    incorrect = np.arange(len(z)) != c
    s, r = (np.where(incorrect, np.exp(x - x[incorrect].max()), 0) for x in (z, -z))
    return s / s.sum() - r / r.sum()
    ### END SOLUTION

# %% check="unevenness_gradient" points=3
def gradient_of_the_engine(z, c):
    """That of the log-odds and log Z, less that of cross-entropy."""
    pair, alone = (LogOdds(), LogSumInverseProbability()), CrossEntropy()
    return sum(loss.jacobian(z, c)[0] for loss in pair) - alone.jacobian(z, c)[0]


_cases = [(_rng.normal(size=5), 2), (3 * _rng.normal(size=4), 0), (_rng.normal(size=3), 1)]
mg.verify.exercise(
    unevenness_gradient, gradient_of_the_engine, _cases, hint="log sum 1/s_j = LSE(-z_j) + LSE(z_j), over which j?"
)

# %% [markdown]
# ### Exercise 4: the soft maximum, pushed through softmax
#
# Write the gradient of the term big or small, $\frac1\lambda\mathrm{LSE}_{j\ne c}(\lambda\ell_j)$, with
# respect to the logits of one sample, from your log-odds or your own new ones. Two things want to be right:
# which category is meant, and how its log-odds depend on *every* logit, that of the correct category
# included.

# %% exercise="soft_maximum_gradient"
def soft_maximum_gradient(z, c, sharpness):
    """The gradient (K,) for logits z (K,), the correct category c, and lambda = sharpness."""
    ### BEGIN SOLUTION
    K = len(z)
    others = np.where(np.eye(K, dtype=bool), -np.inf, z)
    top = others.max(axis=1, keepdims=True)
    e = np.exp(others - top)
    lodds = z - top[:, 0] - np.log(e.sum(axis=1))
    J = np.eye(K) - e / e.sum(axis=1, keepdims=True)
    l = np.where(np.arange(K) == c, -np.inf, sharpness * lodds)
    w = np.exp(l - l.max())
    return w / w.sum() @ J
    ### END SOLUTION

# %% check="soft_maximum_gradient" points=3
def soft_maximum_of_the_engine(z, c, sharpness):
    """The one row of the Jacobian."""
    return IncorrectLogOddsLSE(1.0, sharpness).jacobian(z, c)[0]


_cases = [(_rng.normal(size=5), 2, 1.0), (_rng.normal(size=4), 0, -2.0)]
_cases.append((np.array([30.0, 0.0, 1.0, -20.0]), 1, 3.0))
mg.verify.exercise(
    soft_maximum_gradient, soft_maximum_of_the_engine, _cases,
    hint="dl_i/dz_k is 1 for k = i; for the others it is minus a softmax, over which logits?",
)  # fmt: skip
