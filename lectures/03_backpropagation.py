# %% [markdown]
# # 3. Jacobians and back-propagation
#
# *A thousand weights have made one mistake together. How much of it does each of them owe, and why does it
# cost hardly more to ask them all than to ask one?*
#
# A network is a long chain of functions with a number at its end, the loss. Training wants the derivative of
# that number by every weight. The chain rule has been in the textbooks for three hundred years, and it
# answers the question in one line. What it leaves open is the order of the work, and the order is the whole
# difference between a second and a day (Tomasi 2019, section 3).
#
# First the slow way, which needs no theory at all.

# %%
from itertools import pairwise

import numpy as np

import minigrad as mg

train, validation, test = mg.data.digits()
cross_entropy = mg.losses.CrossEntropy()


def network():
    """Pixels to 16 units to ten logits, always with the same initial weights."""
    first, last = mg.nn.Linear(64, 16), mg.nn.Linear(16, 10)
    return mg.nn.Sequential(mg.nn.Flatten(), first, mg.nn.Tanh(), last).reset(0)


model = network()
x, y = train.x[:20], train.y[:20]


def risk():
    """The mean loss of the twenty digits."""
    with mg.no_grad():
        return cross_entropy(model(x), y).item()


# %%
h, evaluations, by_nudging = 1e-4, 0, []
for w in model.parameters():
    slopes = np.zeros(w.size)
    for i in range(w.size):
        kept = w.data.flat[i]
        w.data.flat[i] = kept + h
        up = risk()
        w.data.flat[i] = kept - h
        down = risk()
        w.data.flat[i] = kept
        slopes[i] = (up - down) / (2 * h)
        evaluations += 2
    by_nudging.append(slopes.reshape(w.shape))
print(f"{evaluations} evaluations of the loss, for {evaluations // 2} weights")

# %% [markdown]
# Nudge a weight up, nudge it down, see what the loss does, put it back, take the next one. It is honest work,
# and it grows with the *square* of the network: twice the weights need twice the nudges, and each of the
# nudges takes twice as long. Now the other way, one pass forward and one pass back:

# %%
cross_entropy(model(x), y).backward()
for w, slopes in zip(model.parameters(), by_nudging, strict=True):
    gap = np.abs(w.grad - slopes).max()
    print(f"{w.size:5} slopes, largest {np.abs(w.grad).max():.4f}, largest disagreement {gap:.1e}")
    assert gap < 1e-8

# %% [markdown]
# The same numbers, but for the error of the differences. Where do they come from?
#
# ## The derivative of a vector by a vector
#
# Let a function take $n$ numbers and return $m$. Its derivative at one place is a matrix, the *Jacobian*,
#
# $$J_{ij} = \frac{\partial y_i}{\partial x_j}, \qquad
#   f(x + \delta) = f(x) + J\,\delta + \text{terms of second order},$$
#
# with a row for each output and a column for each input. That is the *numerator layout*, and we keep to it
# without exception, also where the output is a single number: the derivative of a loss is a matrix with one
# row, a **row** and not a column. Arrays of more axes are first flattened, in the order in which they lie in
# memory.
#
# "Second order" can be tested. If the step is ten times as short, what $J$ has missed must be a hundred times
# as small:

# %%
rng = np.random.default_rng(0)
W, b, u = rng.normal(size=(3, 4)), rng.normal(size=3), rng.normal(size=4)


def f(u):
    return mg.softmax(mg.matmul(W, mg.tanh(u)) + b)


J, direction = mg.jacobian(f, u), rng.normal(size=4)
for step in (1e-1, 1e-2, 1e-3):
    missed = f(u + step * direction).data - f(u).data - J @ (step * direction)
    print(f"step {step:g}: {np.abs(missed).max():.2e}")
assert J.shape == (3, 4)

# %% [markdown]
# A network is built from operations, and each has a Jacobian of a shape of its own. Three of them, taken from
# the operations themselves:

# %%
mg.tables.formulas("tanh", "affine", "softmax")

# %% tags=["hide-input"]
figure = mg.plots.figure((16, 4.6), dpi=80)
panels = figure.subplots(1, 3, width_ratios=(4, 4, 3))
t = np.tanh(u)
shown = {
    "tanh: each for itself": mg.registry["tanh"]().jacobian(u),
    "affine: the weights themselves": mg.registry["affine"]().jacobian(t, W, b)[0],
    "softmax: each on all": mg.registry["softmax"]().jacobian(W @ t + b),
}
for ax, (title, matrix) in zip(panels, shown.items(), strict=True):
    mg.plots.jacobian(matrix, ax=ax)
    ax.set_title(title, fontsize=18)
figure

# %% [markdown]
# A function that works entry by entry has a *diagonal* Jacobian. An affine map $Wx + b$ has $W$ itself,
# whatever $x$ is. Softmax has a full one. (Lecture 1 derives the last. In the source the appendix on
# derivatives treats functions of one number only, and the softmax of its last layer is not such a function;
# erratum T-6.)
#
# The affine map has a second input, its weights. By the weight $W_{qj}$ only the output $q$ moves, and as
# fast as $x_j$ says, so that $\partial y_i/\partial W_{qj} = \delta_{iq}\,x_j$ (TC-12): a wide matrix, most
# of it empty.

# %%
J_W = mg.registry["affine"]().jacobian(t, W, b)[1]
ax = mg.plots.jacobian(J_W, inputs=W.shape)
ax.set_xlabel("weights W, 3×4")
ax.set_xticklabels(["W[0, :]", "W[1, :]", "W[2, :]"])
ax.set_title("the affine map by its weights", fontsize=18)
ax.figure.set_size_inches(11, 3.8)
ax.figure

# %% [markdown]
# ## The chain rule, from left to right
#
# Put functions one after the other, $x^{(0)} \to x^{(1)} \to x^{(2)} \to \ell$. Each replaces a small step
# $\delta$ by $J\delta$, so all of them together replace it by the product:
#
# $$\frac{\partial\ell}{\partial x^{(0)}} =
#   \frac{\partial\ell}{\partial x^{(2)}}\;
#   \frac{\partial x^{(2)}}{\partial x^{(1)}}\;
#   \frac{\partial x^{(1)}}{\partial x^{(0)}}.$$
#
# That is what the layout is good for. Numerators and denominators stand as if they could be cancelled, the
# shapes fit without a transposition anywhere, and the end of the network stands on the left. (Authors who
# write gradients as columns have to read the chain backwards, and to transpose every factor.)

# %%
x1 = np.tanh(u)  # x0 = u -> tanh -> affine -> loss of class 2
x2 = W @ x1 + b
row = mg.jacobian(lambda z: cross_entropy(z.reshape(1, 3), [2]), x2)
factors = [row, W, np.diag(1 - x1**2)]
product = row @ W @ np.diag(1 - x1**2)
whole = mg.jacobian(lambda u: cross_entropy((mg.matmul(W, mg.tanh(u)) + b).reshape(1, 3), [2]), u)
assert np.allclose(product, whole, rtol=0, atol=1e-15)

# %% tags=["hide-input"]
figure = mg.plots.figure((16, 5), dpi=80)
panels = figure.subplots(1, 4, width_ratios=(3, 4, 4, 4))
names = [rf"$\partial {upper}/\partial x^{{({k})}}$" for upper, k in
         ((r"\ell", 2), ("x^{(2)}", 1), ("x^{(1)}", 0), (r"\ell", 0))]  # fmt: skip
for ax, name, matrix, sign in zip(panels, names, [*factors, product], ("", "·", "·", "="), strict=True):
    mg.plots.jacobian(matrix, ax=ax)
    ax.set(xlabel="", ylabel="", xticks=[], yticks=[], ylim=(3.5, -0.5))
    ax.spines[:].set_visible(False)
    ax.set_title(f"{sign}  {name}, {matrix.shape[0]}×{matrix.shape[1]}".strip(), fontsize=18, pad=12)
figure

# %% [markdown]
# ## Where to put the brackets
#
# Matrix products are associative, so the answer does not depend on the brackets. The work does: a product of
# $m\times k$ by $k\times n$ takes $mkn$ multiplications. From the left the row stays a row, and every step is
# a row times a matrix. From the right the first step is already a matrix times a matrix. We count, for a
# network of the widths 64, 100, 100, 100, 10 and a loss:

# %%
def from_the_left(matrices):
    """The product, and how many multiplications it took: ((J3 J2) J1)."""
    result, count = matrices[0], 0
    for J in matrices[1:]:
        count += result.shape[0] * J.shape[0] * J.shape[1]
        result = result @ J
    return result, count


def from_the_right(matrices):
    """The same from the input on: (J3 (J2 J1))."""
    result, count = matrices[-1], 0
    for J in matrices[-2::-1]:
        count += J.shape[0] * J.shape[1] * result.shape[1]
        result = J @ result
    return result, count


widths = [1, 10, 100, 100, 100, 64]
chain = [rng.normal(size=shape) for shape in pairwise(widths)]
(gradient, left), (other, right) = from_the_left(chain), from_the_right(chain)
assert np.allclose(gradient, other)
print(f"from the loss {left:,}, from the input {right:,}: {right / left:.0f} times as many")

# %% [markdown]
# From the left is called *reverse mode* or back-propagation, since it begins with what was computed last.
# From the right is *forward mode*: it can be done along with the forward pass, and nothing need be kept.
# Which is better depends on which end of the network is narrower. Let the outputs be more than one:

# %% tags=["hide-input"]
ends = np.array([1, 2, 5, 10, 20, 50, 100, 200, 500, 1000])
counted = []
for m in ends:
    several = [np.ones((m, 100)), *(np.ones((100, 100)) for _ in range(3)), np.ones((100, 64))]
    counted.append((from_the_left(several)[1], from_the_right(several)[1]))
ax = mg.plots.figure((11, 5), dpi=80).subplots()
for k, (name, colour, marker) in enumerate((("from the output", "blue", "o"), ("from the input", "vermilion", "s"))):
    style = {"color": mg.plots.OKABE_ITO[colour], "marker": marker, "markersize": 8, "linewidth": 2.5}
    ax.loglog(ends, [pair[k] for pair in counted], label=name, **style)
ax.axvline(64, color="0.5", linestyle=":", linewidth=2)
ax.annotate("as many outputs as inputs", (64, 4e4), xytext=(8, 0), textcoords="offset points", fontsize=16)
ax.set_xlabel("outputs m (inputs: 64)", fontsize=16)
ax.set_ylabel("multiplications", fontsize=16)
ax.tick_params(labelsize=14)
ax.spines[["top", "right"]].set_visible(False)
ax.legend(fontsize=16, frameon=False)
ax.figure

# %% [markdown]
# A loss is one output, at the far left of the picture. That is the whole secret of the opening experiment:
# with $L$ layers of width $d$ back-propagation takes about $Ld^2$ multiplications, the same as the forward
# pass, and the forward mode takes $Ld^3$. Who has one input and many outputs (how does everything move with
# the temperature?) takes the other direction. And the best of all brackets may be neither: for a chain it is
# found by dynamic programming, and for graphs in general finding it is NP-complete (Naumann 2008).
#
# ## Why not to multiply matrices at all
#
# Even a row times a matrix is too much, if the matrix is mostly zeros. An operation knows better: its
# *vector-Jacobian product* takes the row $g$ and returns $gJ$ by a formula of its own.

# %%
g16, z16 = rng.normal(size=16), rng.normal(size=16)
digit, W16 = train.x[0].ravel(), rng.normal(size=(16, 64))
J_tanh = mg.registry["tanh"]().jacobian(z16)
J_W = mg.registry["affine"]().jacobian(digit, W16, None)[1].toarray()
assert np.allclose(g16 @ J_tanh, g16 * (1 - np.tanh(z16) ** 2))
assert np.allclose(g16 @ J_W, np.outer(g16, digit).ravel())
for name, J in (("tanh", J_tanh), ("affine, by its weights", J_W)):
    m, n = J.shape
    print(f"{name:24} {m:3} x {n:4}: {m * n:6} entries, {n} products suffice")

# %% [markdown]
# A diagonal matrix is a list of factors: 16 products instead of 256. And the wide one of the weights is never
# built. Its product with the row is $\partial\ell/\partial W_{qj} = g_q\,x_j$, the outer product of what
# comes back and what went in. Every weight multiplies the two numbers at its ends, one from the future and
# one from the past.
#
# So the matrix is what we *derive* with, and the product is what we *compute* with. In this library each
# operation has both, and a test that they are one function: on every basis vector as $g$, for a single row
# can be blind. The row of ones, a favourite of unit tests, sees nothing of softmax:

# %%
z = np.array([1.0, 0.2, -0.5])
assert np.allclose(np.ones(3) @ mg.registry["softmax"]().jacobian(z), 0)
report = mg.verify.audit(["affine"])
assert report.passed
print("\n".join(str(report).splitlines()[:2]))

# %% [markdown]
# ## Algorithm 1
#
# Now with parameters. Layer $k$ computes $x^{(k)} = f^{(k)}(x^{(k-1)}, w^{(k)})$ (TC-09), and the loss sees
# the weights of layer $k$ only through $x^{(k)}$. That is a bottleneck, and the chain rule can be cut there
# (TC-10):
#
# $$\frac{\partial\ell}{\partial w^{(k)}} =
#     \frac{\partial\ell}{\partial x^{(k)}}\;\frac{\partial x^{(k)}}{\partial w^{(k)}},
#   \qquad
#   \frac{\partial\ell}{\partial x^{(k-1)}} =
#     \frac{\partial\ell}{\partial x^{(k)}}\;\frac{\partial x^{(k)}}{\partial x^{(k-1)}}.$$
#
# One row $g = \partial\ell/\partial x^{(k)}$ walks from the end to the beginning. At each layer it does two
# things: it leaves the gradient of the weights there, and it turns into the row for the layer before. Here is
# the algorithm as it is printed, for a net that fits on a slide, with all the weights of a layer, biases
# last, in one matrix $\tilde W = [W\ b]$:

# %%
def layer(k, x, W):
    """x(k) = f(k)(W x~) for vectors x: tanh in between, the logits at the end."""
    a = mg.matmul(W[:, :-1], x) + W[:, -1]
    return mg.tanh(a) if k < 2 else a


def backprop(weights, x0, label, last):
    """The gradients of the layers K, ..., last, first layer first, and the row that goes on from there."""
    K, x = len(weights), [x0]
    for k in range(1, K + 1):
        x.append(layer(k, mg.Tensor(x[k - 1]), mg.Tensor(weights[k - 1])).data)
    g, grad_n = mg.jacobian(lambda z: cross_entropy(z.reshape(1, -1), [label]), x[K]), []
    for k in range(K, last - 1, -1):
        J_w = mg.jacobian(lambda w, k=k: layer(k, x[k - 1], w), weights[k - 1])
        J_x = mg.jacobian(lambda before, k=k: layer(k, before, mg.Tensor(weights[k - 1])), x[k - 1])
        grad_n.insert(0, g @ J_w)
        g = g @ J_x
    return grad_n, g


# %%
weights = [rng.normal(size=(4, 4)), rng.normal(size=(3, 5))]  # 3 -> 4 -> 3, and the biases
x0, label = rng.normal(size=3), 1
printed, _ = backprop(weights, x0, label, last=2)
grad = np.zeros(sum(W.size for W in weights))
try:
    grad = (0 * grad + np.concatenate(printed, axis=1)) / 1
except ValueError as error:
    print(error)

# %% [markdown]
# In print the loop runs over $k = K, \dots, 2$, and in it stands the only line that makes a gradient of
# weights. The first layer is left out (erratum T-2): 15 numbers came where there are 31 weights. Equation (2)
# of the same note has $k = K, \dots, 1$, which is right. One more step repairs it:

# %%
repaired, by_input = backprop(weights, x0, label, last=1)
grad = np.concatenate(repaired, axis=1)[0]


def loss_of(W1, W2, x):
    return cross_entropy(layer(2, layer(1, x, W1), W2).reshape(1, -1), [label])


checks = mg.verify.gradient(loss_of, *weights, x0)
assert all(checks)
wanted = np.concatenate([check.wanted.ravel() for check in checks])
assert np.allclose([*grad, *by_input[0]], wanted, rtol=0, atol=1e-9)
print(grad.shape, "weights, all as the differences have them")

# %% [markdown]
# An exception is a friendly bug. Who keeps the gradients in a list, layer by layer, gets none, and a first
# layer that stays at its random initial values for ever. Would we notice?

# %%
def trained(learning_layers):
    """The test error of a network in which only these layers learn."""
    net = network()
    weights = [w for k in learning_layers for w in net[k].parameters()]
    optimizer = mg.optim.SGD(weights, lr=0.05, momentum=0.9)
    mg.training.fit(net, cross_entropy, optimizer, train, epochs=12, seed=0, progress=False)
    return mg.metrics.zero_one_error(net(test.x), test.y)


print(f"before any step: {mg.metrics.zero_one_error(model(test.x), test.y):.1%} of the test digits misread")
print(f"without the first layer: {trained([3]):.1%}")
print(f"with it: {trained([1, 3]):.1%}")

# %% [markdown]
# Nothing crashes. The loss falls, the error falls, and who has never seen this network do better would go and
# look for a better learning rate. *That it learns is no evidence that the gradient is right.* Differences
# are: they find this bug at the first weight that they nudge.
#
# ### Line by line
#
# The library runs the algorithm with the missing line added and marked. In a notebook this is a player: step
# through it and watch the row $g$. Rows of a matrix belong to outputs, blue and red say the sign.

# %%
small = mg.nn.Sequential(mg.nn.Linear(3, 4), mg.nn.Tanh(), mg.nn.Linear(4, 3)).reset(1)
samples, labels = rng.normal(size=(2, 3)), np.array([0, 2])
algorithm = mg.trace.algorithm1(small, samples, labels, cross_entropy)
algorithm

# %% [markdown]
# Three details, at which implementations fail. *The bias.* In $\tilde W\tilde x$ the last column of
# $\tilde W$ meets the constant 1. It gets a gradient, but nothing flows back through it: the row goes through
# the other columns only (T-17).
#
# *Rows and columns.* The source declares derivatives to be rows, and then stacks rows of different lengths on
# top of each other (T-8). Ours stand side by side in one long row, in the order of the layers.
#
# *The mean.* The risk is a mean over samples, and the last line keeps a running one,
# $\nabla \leftarrow ((n-1)\nabla + \nabla\ell_n)/n$, so that no gradient of a sample need be kept. What comes
# out is the gradient of the mean loss of the batch:

# %%
cross_entropy(small(samples), labels).backward()
for name, w in small.named_parameters():
    assert np.allclose(algorithm.gradients[name], w.grad, rtol=0, atol=1e-15)

# %% [markdown]
# ### What a pixel owes
#
# The repaired loop has one product too many: after the first layer the row goes on to
# $\partial\ell/\partial x^{(0)}$, which no training needs. But it is worth a look. Here is a digit that a
# trained network does not get quite right, and the derivative of its loss by each pixel: ink on red would
# make it worse, ink on blue would help.

# %%
optimizer = mg.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
mg.training.fit(model, cross_entropy, optimizer, train, epochs=12, seed=0, progress=False)
with mg.no_grad():
    each = mg.losses.CrossEntropy(reduction="none")(model(test.x), test.y).data
n = int(np.argmax(each))
pixels = mg.Tensor(test.x[n : n + 1], requires_grad=True)
cross_entropy(model(pixels), test.y[n : n + 1]).backward()
p = mg.softmax(model(test.x[n : n + 1])).data[0]
label = test.y[n]
print(f"it is a {label}: p = {p[label]:.3f}; the network says {p.argmax()}: p = {p.max():.3f}")

# %% tags=["hide-input"]
figure = mg.plots.figure((9, 4.2), dpi=80)
left, right = figure.subplots(1, 2)
left.imshow(test.x[n, 0], cmap="gray_r")
left.set_title(f"a {label}", fontsize=18)
bound = np.abs(pixels.grad).max()
shades = right.imshow(pixels.grad[0, 0], cmap="RdBu_r", vmin=-bound, vmax=bound)
right.set_title("derivative of its loss by the pixel", fontsize=18)
figure.colorbar(shades, ax=right, shrink=0.9).ax.tick_params(labelsize=13)
for ax in (left, right):
    ax.set_axis_off()
figure

# %% [markdown]
# ## From chains to graphs
#
# Algorithm 1 knows layers one after the other. Real networks have branches: a sum jumps over a layer, a
# weight is used twice, a loss sees both the logits and the weights. What the engine keeps is therefore no
# list but a graph, the *tape*: every result remembers the operation that made it and the tensors that it was
# made from. Here is a little one.

# %%
leaf = mg.Tensor([0.5, -1.0], requires_grad=True, name="x")
bend = mg.tanh(leaf)
result = (mg.exp(bend) * bend).sum()
mg.plots.network(result, direction="right")

# %% [markdown]
# The output of $\tanh$ is used twice. Both uses depend on it, and the chain rule for several variables says
# what to do: the rows that come back along the branches are **added**. In the player, see how the second row
# arrives at $\tanh$, and how only then the step through $\tanh$ is taken.

# %%
mg.trace.step(result)

# %% [markdown]
# ### Two ways to get it wrong
#
# Why is the order a matter at all? Let us write back-propagation as one would on first thought: go to the
# result, and from each node to what it was made from.

# %%
def rows_back(node, g):
    """For each tensor that this node was made from, the row g J that goes back to it."""
    rows = node.op.vjp(g, *node.record)
    pairs = zip(node.edges, rows if isinstance(rows, tuple) else (rows,), strict=True)
    return [(parent, row) for parent, row in pairs if parent is not None]


def by_recursion(node, g, gradients):
    """Pass every row on at once, as it comes; returns how many nodes were visited."""
    if node.op is None:
        gradients[node] = gradients.get(node, 0) + g
        return 1
    return 1 + sum(by_recursion(parent, row, gradients) for parent, row in rows_back(node, g))


gradients = {}
visits = by_recursion(result, np.ones(()), gradients)
result.backward()
assert np.allclose(gradients[leaf], leaf.grad)
print(f"{visits} visits to {len(result.ancestors())} nodes")

# %% [markdown]
# The numbers are right. It sums over all *paths* from the result to the leaf, and that is what the chain rule
# is, written out. But a node with two paths to it is visited twice, and all that lies behind it too. In a
# residual network every block has two ways through, one through the layer and one around it,
# $h \leftarrow h + \tanh(h/2)$:

# %%
def residual(start, blocks):
    h = start
    for _ in range(blocks):
        h = h + mg.tanh(h / 2)
    return h


for blocks in (1, 2, 4, 8, 12):
    end = residual(mg.Tensor(0.3, requires_grad=True), blocks)
    visits = by_recursion(end, np.ones(()), {})
    print(f"{blocks:3} blocks: {len(end.ancestors()):3} nodes, {visits:7,} visits")

# %% [markdown]
# Each block doubles the visits. ResNet-152 has fifty blocks, and $2^{50}$ visits at a microsecond each are
# thirty-six years. So nodes must be visited once. On second thought, then: a queue, in which every node is
# put once, and a table in which its rows are added up.

# %%
def by_queue(result):
    """Visit each node once, in the order in which they are first reached."""
    rows, queue = {result: np.ones_like(result.data)}, [result]
    for node in queue:  # grows while it is read
        if node.op is not None:
            for parent, row in rows_back(node, rows[node]):
                if parent not in rows:
                    queue.append(parent)
                rows[parent] = rows.get(parent, 0) + row
    return rows


for blocks in (1, 2, 4, 8):
    start = mg.Tensor(0.3, requires_grad=True)
    end = residual(start, blocks)
    end.backward()
    print(f"{blocks} blocks: by queue {by_queue(end)[start]:.4f}, right {start.grad:.4f}")
assert np.allclose(by_queue(result)[leaf], leaf.grad)  # on the little graph from above

# %% [markdown]
# Fast and wrong, which is worse. The way around the layer is shorter than the way through it, so $h$ is
# reached early along the short way, sends its row on, and hears of the other one when it has left. On a
# single block, and on the little graph from above, the queue is right, by luck: a test on either would have
# passed.
#
# ### The topological sort
#
# What is needed is an order in which every node stands *before* all that it was made from. Then, when its
# turn comes, all that use it have had theirs, its row is complete, and one visit is enough. Such an order of
# a graph without cycles is called topological. Textbooks find one by a depth-first search. We have one for
# nothing: a tensor is always made after its inputs, so *newest first* will do. Every tensor gets a number
# when it is made, and `ancestors()` sorts by it.

# %%
def by_age(result):
    """Visit each node once, the newest first: back-propagation."""
    rows = {result: np.ones_like(result.data)}
    for node in result.ancestors():
        if node.op is not None:
            for parent, row in rows_back(node, rows.pop(node)):
                rows[parent] = rows.get(parent, 0) + row
    return rows


for blocks in (1, 8, 50, 1000):
    start = mg.Tensor(0.3, requires_grad=True)
    end = residual(start, blocks)
    end.backward()
    assert np.isclose(by_age(end)[start], start.grad, rtol=1e-12)
    print(f"{blocks:5} blocks: {len(end.ancestors()):6} visits, derivative {start.grad:.6g}")

fifty = mg.verify.gradient(lambda start: residual(start, 50), np.array(0.3), step=1e-5, tolerance=1e-5)
assert all(fifty)

# %% [markdown]
# Those ten lines are `backward`, but for error messages. There is no recursion in them, and this is not only
# taste: a graph may be deeper than Python's stack.

# %%
start = mg.Tensor(1.0, requires_grad=True)
end = start
for _ in range(20_000):
    end = end * 1.0001
end.backward()
assert np.isclose(start.grad, 1.0001**20_000)
try:
    by_recursion(end, np.ones(()), {})
except RecursionError as error:
    print(f"{type(error).__name__}; the tape gives {start.grad:.4f}")

# %% [markdown]
# ## With the matrices after all
#
# The matrices have not gone. `backward(method="jacobian")` walks over the same tape in the same order, and
# forms at every node the explicit Jacobian of the batch, and multiplies: equations (2) to (5) of the source
# literally. On a convolutional network, with all that this lecture has warned of (a branch, a weight used
# twice). The digits get a little noise: in their blank corners all the entries of a pooling window are equal,
# and at a tie the maximum has no derivative that could be checked.

# %%
def branched(x, kernel, weight):
    """A convolution used twice, a sum around the second one, a pool and the logits."""
    once = mg.tanh(mg.conv2d(x, kernel, padding=1))
    twice = once + mg.tanh(mg.conv2d(once, kernel, padding=1))
    return cross_entropy(mg.max_pool2d(twice, 2).reshape(len(x.data), -1) @ weight, y[:2])


images = train.x[:2] + 0.1 * rng.normal(size=(2, 1, 8, 8))
values = images, rng.normal(size=(1, 1, 3, 3)), rng.normal(size=(16, 10))
leaves = [mg.Tensor(value, requires_grad=True) for value in values]
loss = branched(*leaves)
loss.backward()
by_products = [one.grad for one in leaves]
loss.backward(method="jacobian")
for one, product in zip(leaves, by_products, strict=True):
    assert np.allclose(one.grad, product, rtol=0, atol=1e-14)
checks = mg.verify.gradient(branched, *values, tolerance=1e-8)
assert all(checks)
checks[1:]

# %% [markdown]
# Three computations that share little code, one gradient: by products, by matrices, by differences. Two that
# agree might have the same mistake. The differences know nothing of derivatives, and that is what makes them
# the best witness, slow as they are.
#
# What does the convenience of looking at a matrix cost?

# %%
for step in mg.trace.step(loss):
    if step.direction == "backward":
        for name, J in step.jacobian.items():
            size = f"{J.shape[0]:4} x {J.shape[1]:4}, {J.nnz / np.prod(J.shape):6.1%} not zero"
            print(f"{step.node.label:16} by {name:8} {size}")

# %% [markdown]
# For two images of 64 pixels it can be borne, because the zeros are not stored. Which zeros they are, and how
# a product with such a matrix becomes a loop of a few instructions, is the subject of lecture 4.
#
# ## What to remember
#
# A Jacobian has a row for each output; a gradient is a row; the chain rule is a product from left to right.
# For one output and many inputs it is multiplied from the left, a row at a time, and no operation needs to
# form its matrix. The gradient of all the weights so costs about as much as two more forward passes, whatever
# their number is. Where paths meet, rows are added, and a node is visited when its row is complete: newest
# first. And that a network learns proves nothing.
#
# ## Exercises

# %% [markdown]
# ### Exercise 1: the wide matrix
#
# Write the Jacobian of $y = Wx$ by the entries of $W$, flattened in C order, for a vector $x$. Which entries
# of it are not zero, and what stands there?

# %% exercise="weights_jacobian"
def weights_jacobian(W, x):
    """The matrix (m, m n) of the derivatives of W x by the entries of W (m, n), for x (n,)."""
    ### BEGIN SOLUTION
    return np.kron(np.eye(len(W)), x)
    ### END SOLUTION

# %% check="weights_jacobian" points=1
_rng = np.random.default_rng(31)
_cases = [(_rng.normal(size=shape), _rng.normal(size=shape[1])) for shape in ((3, 2), (2, 4), (1, 3), (4, 1))]
mg.verify.exercise(
    weights_jacobian, lambda W, x: mg.jacobian(lambda W: mg.matmul(W, x), W), _cases,
    hint="output i sees the weights of its own row only",
)  # fmt: skip

# %% [markdown]
# ### Exercise 2: one layer back
#
# A layer computes $y = \tanh(\tilde W\tilde x)$, $\tilde x = [x; 1]$. Given the row
# $g = \partial\ell/\partial y$, find the gradient of $\tilde W$, in its shape, and the row for the layer
# before, without forming any Jacobian.

# %% exercise="layer_back"
def layer_back(g, W, x):
    """(dl/dW (m, n + 1), dl/dx (n,)) from g = dl/dy (m,), for y = tanh(W [x; 1]), W (m, n + 1), x (n,)."""
    ### BEGIN SOLUTION
    extended = np.append(x, 1)
    ga = g * (1 - np.tanh(W @ extended) ** 2)
    return np.outer(ga, extended), ga @ W[:, :-1]
    ### END SOLUTION

# %% check="layer_back" points=2
def layer_back_of_the_engine(g, W, x):
    leaves = mg.Tensor(W, requires_grad=True), mg.Tensor(x, requires_grad=True)
    mg.tanh(mg.matmul(leaves[0], mg.concatenate([leaves[1], np.ones(1)]))).backward(g)
    return tuple(one.grad for one in leaves)


_rng = np.random.default_rng(32)
_cases = [(_rng.normal(size=m), _rng.normal(size=(m, n + 1)), _rng.normal(size=n)) for m, n in ((2, 3), (4, 2), (1, 5))]
mg.verify.exercise(
    layer_back, layer_back_of_the_engine, _cases, hint="first through tanh; and where does the bias send its row?"
)

# %% [markdown]
# ### Exercise 3: all the layers
#
# Now a network of any number of such layers, the last of them linear, $z = \tilde W^{(K)}\tilde x^{(K-1)}$,
# with the loss $\lVert z - t\rVert^2$ (no ½). Return the gradient of each weight matrix, first layer first,
# for one sample. Mind the first layer, and a network of only one.

# %% exercise="backpropagate"
def backpropagate(weights, x, target):
    """The tuple of the gradients of the matrices of the tuple weights, each of its shape (m, n + 1), for x (n,)."""
    ### BEGIN SOLUTION
    inputs = [np.append(x, 1)]
    for W in weights[:-1]:
        inputs.append(np.append(np.tanh(W @ inputs[-1]), 1))
    g = 2 * (weights[-1] @ inputs[-1] - target)
    found = [np.outer(g, inputs[-1])]
    for W, before, seen in zip(weights[:0:-1], inputs[:0:-1], inputs[-2::-1], strict=True):
        g = (g @ W[:, :-1]) * (1 - before[:-1] ** 2)
        found.append(np.outer(g, seen))
    return tuple(found[::-1])
    ### END SOLUTION

# %% check="backpropagate" points=3
def backpropagate_of_the_engine(weights, x, target):
    leaves = [mg.Tensor(W, requires_grad=True) for W in weights]
    for W in leaves:
        z = mg.matmul(W[:, :-1], x) + W[:, -1]
        x = mg.tanh(z)
    ((z - target) ** 2).sum().backward()
    return tuple(W.grad for W in leaves)


_rng = np.random.default_rng(33)
_cases = []
for _widths in ((3, 2), (3, 4, 2), (2, 5, 3, 4), (4, 3, 2, 3, 1)):
    _matrices = tuple(_rng.normal(size=(m, n + 1)) / 2 for n, m in pairwise(_widths))
    _cases.append((_matrices, _rng.normal(size=_widths[0]), _rng.normal(size=_widths[-1])))
mg.verify.exercise(
    backpropagate, backpropagate_of_the_engine, _cases,
    hint="keep every layer's input on the way forward; the last layer has no tanh, the first has no layer before",
)  # fmt: skip

# %% [markdown]
# ### Exercise 4: the other mode
#
# For a network of layers $\tanh(Wx)$ without biases, and a direction $v$ in the space of inputs, find the
# derivative of the output in that direction, $J v$, in one pass forward: carry along with each $x^{(k)}$ how
# fast it moves.

# %% exercise="directional"
def directional(weights, x, v):
    """J v (m,) for the network x -> tanh(W x) over the matrices of the tuple weights, at x (n,), v (n,)."""
    ### BEGIN SOLUTION
    for W in weights:
        x = np.tanh(W @ x)
        v = (1 - x**2) * (W @ v)
    return v
    ### END SOLUTION

# %% check="directional" points=2
def directional_by_matrix(weights, x, v):
    def network(x):
        for W in weights:
            x = mg.tanh(mg.matmul(W, x))
        return x

    return mg.jacobian(network, x) @ v


_rng = np.random.default_rng(34)
_cases = []
for _widths in ((3, 2), (2, 4, 3), (4, 3, 5, 2)):
    _matrices = tuple(_rng.normal(size=(m, n)) / 2 for n, m in pairwise(_widths))
    _cases.append((_matrices, *_rng.normal(size=(2, _widths[0]))))
mg.verify.exercise(directional, directional_by_matrix, _cases, hint="the product J3 J2 J1 v, begun at its right end")

# %% [markdown]
# ### Exercise 5: counting paths
#
# How often does the naive recursion visit each node? As often as there are paths from the result to it. Count
# them without walking along them. The nodes are numbered by age, the last one is the result; `parents[k]`
# lists what node $k$ was made from, and a node that is used twice in one operation ($y \cdot y$) stands there
# twice. (Compare your solution with `by_age`. What are the derivatives here?)

# %% exercise="count_paths"
def count_paths(parents):
    """How many paths lead from the last node to each of the n nodes, an array (n,); 1 for the last node itself."""
    ### BEGIN SOLUTION
    paths = np.zeros(len(parents), dtype=int)
    paths[-1] = 1
    for node in range(len(parents) - 1, -1, -1):
        for parent in parents[node]:
            paths[parent] += paths[node]
    return paths
    ### END SOLUTION

# %% check="count_paths" points=3
def paths_by_algebra(parents):
    uses = np.zeros((len(parents), len(parents)))
    for node, made_from in enumerate(parents):
        np.add.at(uses[node], list(made_from), 1)
    return np.rint(np.linalg.inv(np.eye(len(parents)) - uses)[-1]).astype(int)


_cases = [
    [[]], [[], [0], [1, 1]], [[], [], [0], [2, 0], [3, 2]], [[], [0], [0], [1, 0]],
    [[], [], [0, 1], [2, 0], [0, 2], [4, 3, 1]], [[], *([k, k] for k in range(12))],
]  # fmt: skip
mg.verify.exercise(
    count_paths, paths_by_algebra, [(case,) for case in _cases],
    hint="a path to a node comes through one of those that use it: when is the sum over them complete?",
)  # fmt: skip
