# %% [markdown]
# # 1. The softmax simplex and decision regions
#
# *What does a network say when it says "probably a three"?*
#
# A network that classifies has to answer with one of $K$ classes. What it computes is something else: $K$
# real numbers, of any sign and size. Between the numbers and the answer stands a function, softmax, and a
# shape, the simplex. Both are small enough to be understood completely in an hour, and nearly everything that
# is said later about losses, gradients and trust happens on them (Tomasi 2019, section 1).
#
# We begin with a network that has an opinion.

# %%
import numpy as np

import minigrad as mg
from minigrad.ops.softmax import Softmax
from minigrad.snapshots import Snapshots

nn = mg.nn
train, validation, test = mg.data.digits()
model = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.Tanh(), nn.Linear(24, 10)).reset(0)
history = Snapshots(limit=64, per="step")
mg.training.fit(
    model, mg.losses.CrossEntropy(), mg.optim.SGD(model.parameters(), lr=0.05), train, epochs=30,
    snapshots=history, progress=False,
)  # fmt: skip
print(f"{mg.metrics.zero_one_error(model(test.x), test.y):.1%} of the test digits are misread")

# %% [markdown]
# (The snapshots are for later: they keep the weights of many moments of the training.) Here is a digit that
# the network has never seen, the ten numbers that come out for it, and what softmax makes of them:

# %%
n = 29
with mg.no_grad():
    z = model(test.x[n : n + 1]).data[0]
p = mg.softmax(z).data
print("scores       ", z.round(2))
print("probabilities", p.round(2))

# %% tags=["hide-input"]
figure = mg.plots.figure((15, 4.2), dpi=80)
picture, scores, chances = figure.subplots(1, 3, width_ratios=(0.8, 1, 1))
picture.imshow(test.x[n, 0], cmap="gray_r")
picture.set_axis_off()
for ax, values, title, colour in ((scores, z, "scores z", "sky blue"), (chances, p, "probabilities p", "blue")):
    ax.bar(range(10), values, color=mg.plots.OKABE_ITO[colour])
    ax.axhline(0, color="black", linewidth=1)
    ax.set_xticks(range(10))
    ax.set_title(title, fontsize=18)
    ax.tick_params(labelsize=14)
    ax.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# "Probably a three, and if not, then a seven." The scores are on the left: negative ones, positive ones, no
# obvious meaning. On the right is an opinion. It is not negative, its sum is one, and it says how much of the
# network's belief goes to each class.
#
# ## From scores to probabilities
#
# What do we ask of such a function? That each class gets something positive; that the larger score gets more;
# that all of it together is one; and that we can differentiate it. The exponential makes everything positive
# and keeps the order, and a division takes care of the sum:

# %%
mg.tables.formulas("softmax")

# %% [markdown]
# This is the whole definition (TC-02). Tomasi (2019) names softmax and leaves both the formula and its
# derivative to the reader (erratum T-6); the table shows ours, taken from the operation itself.
#
# What do the scores mean, then? Divide two of the probabilities, and the sum cancels:
#
# $$\frac{p_i}{p_j} = e^{z_i - z_j}.$$
#
# *Differences* of scores are logarithms of odds, which is why scores are called *logits*. A lead of $\log 2$
# doubles the odds, wherever it is. The scores on their own mean nothing, and we shall see what that costs.

# %%
three, seven = 3, 7
print(f"three over seven: a lead of {z[three] - z[seven]:.3f}; odds {p[three] / p[seven]:.3f} to 1")
assert np.isclose(p[three] / p[seven], np.exp(z[three] - z[seven]))

# %% [markdown]
# ## A shape for opinions
#
# Everything that softmax can say is in the set of distributions over $K$ classes (TC-01),
#
# $$P = \{\, p \in \mathbb R^K : p \ge 0,\; \textstyle\sum_i p_i = 1 \,\},$$
#
# the *simplex*. One equation takes one dimension away, so $P$ has dimension $K - 1$: a segment for two
# classes, a triangle for three, a tetrahedron for four. Its corners are the unit vectors $e_1, \dots, e_K$,
# where all belief is on one class, and every other opinion is a mixture of the corners:
# $p = \sum_i p_i\, e_i$.
#
# That sentence is also a recipe for drawing. The triangle lives in three dimensions, and the board has two.
# But a mixture stays a mixture under an *affine* map: send the corner $e_i$ to any point $v_i$ of the plane,
# and $p$ goes to $\sum_i p_i v_i$. With the $v_i$ as rows of a matrix $V$, the map is $p \mapsto pV$, and
# that is all the code:

# %%
V = np.array([[0, 0], [1, 0], [1 / 2, np.sqrt(3) / 2]])
opinions = np.array([[1, 0, 0], [0, 0, 1], [1 / 3, 1 / 3, 1 / 3], [0.6, 0.3, 0.1]])
print((opinions @ V).round(3))
assert np.allclose(opinions @ V, mg.plots.barycentric(opinions))

# %% [markdown]
# The corner goes to the corner, the centre $\mathbf 1/K$ to the centre of gravity, and the mean of two
# opinions to the middle between their points:

# %%
a, b = np.array([0.6, 0.3, 0.1]), np.array([0.1, 0.2, 0.7])
for t in (0.25, 0.5, 0.9):
    assert np.allclose(((1 - t) * a + t * b) @ V, (1 - t) * (a @ V) + t * (b @ V))

# %% [markdown]
# The numbers $p$ are called the *barycentric coordinates* of the point. For three classes nothing is lost:
# the two coordinates of the point and the equation $\sum_i p_i = 1$ are three linear equations for three
# unknowns. (You will solve them in an exercise.)
#
# ## Decision regions
#
# A user wants one class, and gets the likeliest: $\hat y = \arg\max_i p_i$ (TC-03). Each class so owns a part
# of the simplex, its *decision region*
#
# $$P_c = \{\, p \in P : p_c \ge p_j \ \text{for all}\ j \ne c \,\}.$$
#
# Here they are for two classes and for three, as in figure 1 of Tomasi (2019):

# %%
figure = mg.plots.figure((16, 6), dpi=80)
left, right = figure.subplots(1, 2)
mg.plots.simplex(left, 2)
mg.plots.simplex(right, 3)
figure

# %% [markdown]
# On the right, read the probability of a class along the lines that run to its ticks. The blue boundaries are
# where two probabilities are equal and the third is smaller. All of them meet in the centre, where the
# network has no opinion at all. Every class gets the same share, so that whoever votes at random wins each
# class equally often:

# %%
rng = np.random.default_rng(0)
random_opinions = rng.dirichlet(np.ones(3), size=100_000)
decided = mg.metrics.decide(random_opinions)
print(np.bincount(decided) / len(decided))

# %% [markdown]
# Each region is cut out by linear inequalities $p_c - p_j \ge 0$, and so it is *convex*: on the straight line
# between two opinions that are decided alike, all are decided alike. That is the view of training that Tomasi
# proposes: in the space of images the set of all threes may have any shape; the network has to bend it until
# it falls into one convex piece of a triangle.

# %%
zeros = random_opinions[decided == 0]
t = rng.random((len(zeros), 1))
mixtures = t * zeros + (1 - t) * zeros[::-1]
assert (mg.metrics.decide(mixtures) == 0).all()

# %% [markdown]
# The regions share their boundaries (T-19): a tie belongs to two regions or more, and needs a rule. Ours is
# the rule of NumPy, the lowest class wins.

# %%
tie = np.array([0.4, 0.2, 0.4])
print("regions:", mg.metrics.decision_regions(tie), " decision:", mg.metrics.decide(tie))

# %% [markdown]
# Since the exponential keeps the order, $\arg\max p = \arg\max z$: to *decide*, no softmax is needed. It is
# needed to *train*, and to say how sure one is.
#
# ## One thing that softmax does not see
#
# Add the same number to all scores. All exponentials are multiplied by the same factor, which the division
# takes out again:
#
# $$\operatorname{softmax}(z + c\mathbf 1) = \operatorname{softmax}(z).$$
#
# On paper this is a remark. In a computer it is the difference between an answer and none, for the formula as
# it stands takes exponentials of numbers that nobody has bounded:

# %%
large = np.array([1000.0, 999.0, -1000.0])
with np.errstate(over="ignore", invalid="ignore"):
    print("the formula, literally:", np.exp(large) / np.exp(large).sum())
print("softmax:               ", mg.softmax(large).data)

# %% [markdown]
# In double precision $e^{710}$ is infinite, and $\infty/\infty$ is no number. But we may shift the scores as
# we like. Shift them so that the largest is 0: now no exponential is larger than 1, and the sum is at least
# 1, so that neither an overflow nor a division by zero can happen. For a whole batch, one example a row, in
# matrices:
#
# $$E = \exp\!\big(Z - m\mathbf 1^{\mathsf T}\big), \qquad
#   \operatorname{softmax}(Z) = \operatorname{diag}(E\,\mathbf 1)^{-1} E, \qquad m_n = \max_k Z_{nk}.$$

# %%
Z = rng.normal(size=(4, 3)) * 3
E = np.exp(Z - Z.max(axis=1, keepdims=True))
P = np.diag(1 / (E @ np.ones(3))) @ E
assert np.allclose(P, mg.softmax(Z).data)
assert np.allclose(mg.softmax(Z + 1000).data, mg.softmax(Z).data)
assert mg.metrics.on_simplex(P).all()

# %% [markdown]
# (The diagonal matrix is for the board. A program divides.) What underflows now is an entry that is smaller
# than $10^{-308}$, and 0 is a fair answer for it. In a sum of logarithms it is not; that story is told in
# lecture 2.
#
# So $K$ scores hold one number too many: the map from $\mathbb R^K$ to the simplex throws one dimension away,
# the direction $\mathbf 1 = (1, \dots, 1)$, and everything else can be recovered, $z = \log p + c\mathbf 1$.
#
# ## The Jacobian
#
# How does the opinion move when the scores do? Take the logarithm first,
# $\log p_i = z_i - \log\sum_k e^{z_k}$. The derivative of the last term by $z_j$ is $p_j$, so
#
# $$\frac1{p_i}\frac{\partial p_i}{\partial z_j} = \delta_{ij} - p_j
#   \qquad\Longrightarrow\qquad
#   \frac{\partial p_i}{\partial z_j} = p_i\,(\delta_{ij} - p_j),
#   \qquad J = \operatorname{diag}(p) - p\,p^{\mathsf T}.$$
#
# Rows belong to outputs, columns to inputs. That was a derivation; now a test that it could fail. We type the
# result as a formula, and the engine compares its numbers with its own derivatives:

# %%
import sympy as sp

z_, (i, j, k) = sp.IndexedBase("z"), sp.symbols("i j k", integer=True)
total = sp.Sum(sp.exp(z_[k]), (k, 0, 2))
ours = sp.exp(z_[i]) / total * (sp.KroneckerDelta(i, j) - sp.exp(z_[j]) / total)
check = mg.verify.compare(mg.softmax, ours, wrt="z", z=[1.0, 0.2, -0.5])
assert check
check

# %% [markdown]
# The library does the same with every operation, and adds central differences, the product that training
# uses, the laws that we are about to find, and a number of deliberately wrong copies, all of which have to be
# caught:

# %%
report = mg.verify.audit(["softmax"])
assert report.passed
for row in report.rows:
    print(f"{row.name}: {', '.join(row.independent)}; {row.mutants} wrong copies, all caught")

# %% [markdown]
# Now look at the matrix, for scores with a clear favourite:

# %%
z3 = np.array([2.0, 1.0, -1.0])
p3 = mg.softmax(z3).data
J = Softmax().jacobian(z3)
print("p =", p3.round(3))
print(J.round(3))

# %% [markdown]
# Four things can be seen, and each has a reason.
#
# *The rows sum to zero.* Adding the same to all scores changes nothing: $J\mathbf 1 = 0$. The columns do too,
# because the probabilities go on summing to one: what one class gains, the others lose.
#
# *It is symmetric.* How much a push on class $j$ moves $p_i$ is how much a push on $i$ moves $p_j$.
#
# *The diagonal is positive, all the rest negative.* A class rises with its own score and falls with all
# others. Who takes the diagonal alone, as for a function that acts entry by entry, gets the wrong gradient in
# every other entry.
#
# *Its rank is $K - 1$.* The vector $\mathbf 1$ is in its null space, and nothing else is:

# %%
eigenvalues, vectors = np.linalg.eigh(J)
null = vectors[:, 0] / vectors[0, 0]
print("eigenvalues:", eigenvalues.round(4), " null vector:", null.round(4))
assert np.allclose(J @ np.ones(3), 0)
assert np.allclose(J, J.T)
assert np.linalg.matrix_rank(J) == 2

# %% [markdown]
# Why nothing else? Let a class be drawn with the probabilities $p$, and pay the amount $v_i$ for class $i$.
# Then
#
# $$v^{\mathsf T} J\, v = \sum_i p_i v_i^2 - \Big(\sum_i p_i v_i\Big)^2$$
#
# is the *variance* of the payment. A variance is never negative, and it is zero only if every class pays the
# same. The Jacobian of softmax is a covariance matrix.

# %%
v = np.array([5.0, -1.0, 2.0])
drawn = v[rng.choice(3, size=200_000, p=p3)]
print(f"v J v = {v @ J @ v:.4f}, variance of 200,000 draws: {drawn.var():.4f}")
assert np.isclose(v @ J @ v, p3 @ v**2 - (p3 @ v) ** 2)

# %% [markdown]
# ## Temperature
#
# Softmax is a soft version of something. Of what? Divide the scores by a *temperature* $T$ before it goes to
# work. At a high temperature all differences melt, and $p$ is in the centre. At a low one the largest score
# takes all. On the way down each $z$ draws a curve on the simplex (the colour is $1/T$):

# %%
coldness = np.linspace(0, 12, 97)
several = np.array([[1.0, 0.7, 0.0], [0.0, 1.0, 0.9], [0.2, 0.0, 0.5], [1.0, 0.2, 1.0]])
path = mg.softmax(coldness[:, None, None] * several).data
board = mg.plots.figure((10, 6), dpi=80).subplots()
mg.plots.trajectory(path, board, times=coldness, unit="1 / T").figure

# %% [markdown]
# Three of the curves make for corners, and the better the second class, the longer it takes. The one on the
# right with $z = (0, 1, 0.9)$ first runs to the edge, where class 0 is out of the race, and then along it,
# and at $T = 1/12$ it has still not arrived. The fourth has two equal scores. It goes straight along the
# boundary to the middle of a side, and no cold will ever make it decide.
#
# ## The arg max cannot be differentiated
#
# In the limit $T \to 0$ softmax becomes the arg max, written as a unit vector. Why not train with that, which
# is what the user sees in the end? Let one of two scores run past the other, and watch what the first class
# gets:

# %% tags=["hide-input"]
lead = np.linspace(-3, 3, 601)
pair = np.stack([lead, np.zeros_like(lead)], axis=1)
figure = mg.plots.figure((15, 4.6), dpi=80)
values, slopes = figure.subplots(1, 2)
for T, colour, style in ((1.0, "blue", "-"), (0.3, "orange", "--"), (0.05, "vermilion", "-.")):
    first = mg.softmax(pair / T).data[:, 0]
    values.plot(lead, first, style, color=mg.plots.OKABE_ITO[colour], linewidth=2.5, label=f"softmax, T = {T:g}")
    slopes.plot(lead, first * (1 - first) / T, style, color=mg.plots.OKABE_ITO[colour], linewidth=2.5)
values.step(lead, lead > 0, where="mid", color="black", linewidth=1.5, linestyle=":", label="arg max")
values.legend(fontsize=14, frameon=False)
for ax, title in ((values, "probability of class 0"), (slopes, "its derivative by $z_0$")):
    ax.set_title(title, fontsize=18)
    ax.set_xlabel("lead $z_0 - z_1$", fontsize=16)
    ax.tick_params(labelsize=14)
    ax.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# The lower the temperature, the more of the slope is squeezed into a narrow peak, $1/(4T)$ high. In the limit
# nothing is left of it: the arg max has derivative zero wherever it has one. A student who gets a zero as an
# answer to "which way should I go?" has learned nothing, and neither has a network. At $T = 1$ the answer is
# never zero.

# %%
h = 1e-4
points = np.array([[0.0, 0.0], [1.0, 0.0]])
for T in (1.0, 0.3, 0.05):
    tied, ahead = (mg.jacobian(lambda z, T=T: mg.softmax(z / T), z)[0, 0] for z in points)
    print(f"T = {T:4}: slope {tied:.4f} at a tie, {ahead:.2e} with a lead of 1")
    assert np.isclose(tied, 1 / (4 * T))
before, after = (np.eye(2)[mg.metrics.decide([1.0 + step, 0.0])] for step in (-h, h))
print("the arg max:", (after - before) / (2 * h))

# %% [markdown]
# ## One training example
#
# Training is motion on the simplex. We kept the weights of many steps, so we can ask what the network said,
# at each of these moments, of one digit that it was trained on. It is a three. A plane has room for three
# classes; let us follow 3, 8 and 9, that is, the opinion *given that it is one of these*.

# %%
n = 149
p_of_time = mg.plots.softmax_outputs(model, history, train.x)
when = {"times": history.times, "unit": history.per}
board = mg.plots.figure((10, 6), dpi=80).subplots()
mg.plots.trajectory(p_of_time[:, n], board, labels=train.y[n], parts=[3, 8, 9], **when).figure

# %% [markdown]
# It starts near the centre, on the side of the eight, for an untrained network has hardly an opinion. Then it
# wanders off to the nine, and only after that does it come home. No step of descent was made for this digit
# alone. Each serves 32 of them, which share the weights, and the path is what all of them together made of
# it.
#
# ## More than three classes
#
# Throwing away seven probabilities out of ten sounds brutal. It is not: given that the class is one of a few,
# the distribution is the softmax of *their* scores.

# %%
scores = np.random.default_rng(1).normal(size=10)
given = mg.plots.grouped(mg.softmax(scores).data, [3, 8, 9])
assert np.allclose(given, mg.softmax(scores[[3, 8, 9]]).data)

# %% [markdown]
# Another way is to add, and not to throw away. Do we see loops? 0, 6, 9 have one, 8 has two, and the others
# none. The probabilities of a group add up to that of the group, every digit takes part, and a triangle is
# enough again. (The paths begin where they do because six digits out of ten are in the group at the top.)

# %%
loops = [(0, 6, 9), (8,), (1, 2, 3, 4, 5, 7)]
some = np.random.default_rng(5).choice(len(test), size=40, replace=False)
p_test = mg.plots.softmax_outputs(model, history, test.x)
group_of = {digit: g for g, group in enumerate(loops) for digit in group}
labels, names = [group_of[y] for y in test.y[some].tolist()], ["one loop", "two", "none"]
board = mg.plots.figure((10, 6), dpi=80).subplots()
p_loops = mg.plots.grouped(p_test[:, some], loops)
mg.plots.trajectory(p_loops, board, labels=labels, classes=names, **when).figure

# %% [markdown]
# Or draw all ten, each with a corner of a polygon. It is still $p \mapsto pV$, and it is still a picture of
# something. But a plane has two dimensions and the simplex nine, so that points that fall together on the
# picture need not have been together: halfway between two opposite corners lies the same point as halfway
# between two others. Nine of the ten digits below arrive at their corners; of the two, which does not, nobody
# can say from the picture whom it trusts instead.

# %%
assert np.allclose(*mg.plots.barycentric([[0.5, 0, 0.5, 0], [0, 0.5, 0, 0.5]]))
first = [np.flatnonzero(test.y == digit)[0] for digit in range(10)]
board = mg.plots.figure((10, 6), dpi=80).subplots()
digits = [str(digit) for digit in range(10)]
mg.plots.trajectory(p_test[:, first], board, labels=test.y[first], classes=digits, **when).figure

# %% [markdown]
# ## What to remember
#
# Softmax sends scores to the simplex; differences of scores are log odds, a common shift is not seen, and so
# the computer may subtract the largest. The simplex is cut into convex regions, one a class. The Jacobian
# $\operatorname{diag}(p) - pp^{\mathsf T}$ is a covariance matrix: symmetric, without negative eigenvalues,
# of rank $K-1$. The arg max is the limit of no temperature, and in the limit the derivative is lost. That is
# why we decide with the one and train with the other.
#
# ## Exercises

# %% [markdown]
# ### Exercise 1: softmax with a temperature
#
# Write the softmax of $z/T$ for each row of a matrix $Z$, without a loop. It will be called with logits of a
# thousand, and with a low temperature.

# %% exercise="tempered_softmax"
def tempered_softmax(Z, T):
    """The distributions softmax(z / T) for the rows z of Z (N, K), an array (N, K); T is a number over 0."""
    ### BEGIN SOLUTION
    heat = np.exp((Z - Z.max(axis=1, keepdims=True)) / T)
    return heat / heat.sum(axis=1, keepdims=True)
    ### END SOLUTION

# %% check="tempered_softmax" points=1
_rng = np.random.default_rng(11)
_large = np.array([[1000.0, 998.0, -1000.0], [-1000.0, -1000.5, -999.0]])
_cases = [(_rng.normal(size=(4, 3)), 1.0), (_rng.normal(size=(2, 5)), 0.3), (_large, 2.0), (_large, 0.5)]
mg.verify.exercise(
    tempered_softmax, lambda Z, T: mg.softmax(Z / T), _cases, hint="each row has a largest entry and a sum of its own"
)

# %% [markdown]
# ### Exercise 2: the Jacobian of softmax
#
# Write the matrix of derivatives of $\operatorname{softmax}$ at one vector $z$ of $K$ logits, without a loop.

# %% exercise="softmax_jacobian"
def softmax_jacobian(z):
    """The (K, K) matrix of derivatives of softmax at z (K,), rows for outputs."""
    ### BEGIN SOLUTION
    p = np.exp(z - z.max())
    p /= p.sum()
    return np.diag(p) - np.outer(p, p)
    ### END SOLUTION

# %% check="softmax_jacobian" points=2
mg.verify.exercise(softmax_jacobian, Softmax().jacobian, hint="each output depends on all the logits")

# %% [markdown]
# ### Exercise 3: a row times the Jacobian
#
# Back-propagation never needs $J$ itself, only the row $g\,J$ for a row $g$ that comes from the loss. For a
# vocabulary of $K = 50\,000$ words $J$ would have 2.5 billion entries. Put $J$ into $g\,J$, and find a form
# that takes a few operations for each class. Do it for a whole batch at once.

# %% exercise="row_times_jacobian"
def row_times_jacobian(G, Z):
    """The rows g J (N, K), for each row g of G (N, K) and the Jacobian J of softmax at the same row of Z (N, K)."""
    ### BEGIN SOLUTION
    P = np.exp(Z - Z.max(axis=1, keepdims=True))
    P /= P.sum(axis=1, keepdims=True)
    return P * (G - (G * P).sum(axis=1, keepdims=True))
    ### END SOLUTION

# %% check="row_times_jacobian" points=2
def product_of_the_engine(G, Z):
    softmax = Softmax()
    return softmax.vjp(G, Z, softmax.forward(Z))


_rng = np.random.default_rng(12)
_cases = [(_rng.normal(size=shape), _rng.normal(size=shape)) for shape in ((1, 4), (3, 2), (5, 7))]
_cases.append((_rng.normal(size=(2, 3)), np.array([[1000.0, 999.0, -1000.0], [3.0, 3.0, 2.0]])))
mg.verify.exercise(row_times_jacobian, product_of_the_engine, _cases, hint="g p is one number for each example")

# %% [markdown]
# ### Exercise 4: where did she click?
#
# Somebody points at a place of the triangle. Which opinion is that? Find $p$ with $pV = (x, y)$ and
# $\sum_i p_i = 1$. A click beside the triangle gives an answer too, with a negative entry.

# %% exercise="opinion_at"
def opinion_at(xy, V):
    """The barycentric coordinates (3,) of the point xy (2,), for corners in the rows of V (3, 2)."""
    ### BEGIN SOLUTION
    equations = np.column_stack([V, np.ones(3)])
    return np.linalg.solve(equations.T, np.append(xy, 1))
    ### END SOLUTION

# %% check="opinion_at" points=2
_points = [np.array(xy) for xy in ([0.2, 0.1], [0.5, 0.8], [0.9, 0.05], [0.5, np.sqrt(3) / 6], [-0.3, 0.4])]
mg.verify.exercise(
    opinion_at, lambda xy, V: mg.plots.barycentric_inverse(xy), [(xy, V.copy()) for xy in _points],
    hint="two equations are in p V = (x, y); which is the third, and on which side of the matrix does p stand?",
)  # fmt: skip

# %% [markdown]
# ### Exercise 5: back to the scores
#
# Of all the scores that softmax sends to a given $p$, one vector has the sum 0. Write it. What happens to the
# opinion in the middle between $p$ and $p'$ if the middle is taken of these scores, rather than of the
# probabilities? (The answer is not a point of the straight line, but it is in the same decision region, if
# both are.)

# %% exercise="centred_scores"
def centred_scores(p):
    """The scores z (K,) with softmax(z) = p (K,) and the sum 0, for p with positive entries."""
    ### BEGIN SOLUTION
    return np.log(p) - np.log(p).mean()
    ### END SOLUTION

# %% check="centred_scores" points=2
_rng = np.random.default_rng(13)
_scores = [_rng.normal(size=K) for K in (2, 3, 6)]
_of = {mg.softmax(z).data.tobytes(): z - z.mean() for z in _scores}
mg.verify.exercise(
    centred_scores, lambda p: _of[p.tobytes()], [mg.softmax(z).data for z in _scores],
    hint="the probabilities give the scores up to a shift; the sum tells which one",
)  # fmt: skip
