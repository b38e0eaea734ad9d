# %% [markdown]
# # 12. A convolutional network on digits, from pixels to the simplex
#
# *Can everything that this course has derived be put into one network that reads handwriting, and can we know
# that all of it is right?*
#
# Here is everything at once: convolutions and pools (lecture 4), batch normalization and dropout (6), softmax
# and cross-entropy (1, 2), back-propagation (3), momentum, a schedule and early stopping (5). The task is
# real, and small enough to be finished during a lecture. We look at the data, verify the network *before* it
# is trained, train it, look into it, and then ask it the question that is asked too seldom: how much of what
# it says does it know?

# %%
import numpy as np

import minigrad as mg
from minigrad.experiments import digits
from minigrad.snapshots import Snapshots

train, validation, test = mg.data.digits(np.float32)
train, validation, test

# %% [markdown]
# ## The data
#
# 1,797 digits that thirteen people wrote into forms, each reduced to $8\times8$ pixels between 0 and 1
# (Alpaydin and Kaynak 1998). Three sets: one to learn from, one to decide when to stop, and one that is
# looked at once, at the end. The classes are equally frequent in each.

# %% tags=["hide-input"]
figure = mg.plots.figure((12, 3.4), dpi=90)
for k, ax in enumerate(figure.subplots(2, 10).ravel()):
    n = np.flatnonzero(train.y == k % 10)[k // 10]
    ax.imshow(train.x[n, 0], cmap="gray_r")
    ax.set(xticks=[], yticks=[])
    ax.set_title(f"{train.y[n]}", fontsize=16)
figure

# %% [markdown]
# A digit that is moved by a pixel is the same digit, and a network that has never seen it moved does not know
# that. So each training image is shown in five positions. It costs nothing but time, and is worth more than
# most ideas about networks.

# %%
more = digits.moved(train)
assert np.array_equal(more.x[: len(train)], train.x)
len(train), len(more)

# %% [markdown]
# ## The network
#
# Two convolutions with kernels of $3\times3$, a pool that keeps the largest of each $2\times2$ pixels, one
# more of each, and a linear layer that reads the scores of ten classes off the 256 numbers that are left.
# Behind each convolution stand batch normalization and a ReLU; half of the 256 numbers are dropped in
# training.

# %%
model = digits.network(seed=0)
mg.plots.network(model, (1, 1, 8, 8))

# %%
for layer in model:
    if layer.parameters():
        print(f"{sum(p.size for p in layer.parameters()):6,} parameters in {layer}")
print(f"{sum(p.size for p in model.parameters()):6,} in all")

# %% [markdown]
# Most of them are in the last convolution. A network with 26,000 parameters could learn 1,197 images by
# heart; that it does not is the merit of what stands around it: the moves, dropout, and stopping in time.
#
# ## Before we train: is it right?
#
# A wrong gradient seldom keeps a network from learning. It learns worse, and nobody knows why (lecture 3). So
# we look first, from the bottom up. Each operation of the network has its formula, and its value, its
# derivative, its product and its kernel are compared with it and with each other:

# %%
used = ("conv2d", "batch_norm", "relu", "max_pool2d", "dropout", "reshape", "affine", "cross_entropy")
report = mg.verify.audit(used, with_mutants=False)
assert report.passed
print("\n".join(line[:104].rstrip() for line in str(report).splitlines()[: len(used) + 1]))

# %%
mg.tables.formulas("relu", "affine", "cross_entropy")

# %% [markdown]
# ### The whole network
#
# Right parts can be put together wrongly. Take a copy in double precision, four images, in *training* mode,
# with the statistics of the batch and with a dropout mask, and compute the gradient by every parameter in two
# ways: by vector-Jacobian products as in training, and by the explicit matrices of all the operations,
# multiplied as equations (2) to (5) of Tomasi (2019) have it.
#
# Two precautions. The mask has to be the same in every evaluation, so its generator is set back. And in the
# white corners of the images equal numbers meet in every pool, and a ReLU may stand on its kink, where a
# derivative is a matter of convention: a small random push to pixels and parameters takes them off.

# %%
exact = digits.network(seed=0, dtype=np.float64)
rng = np.random.default_rng(0)
for p in exact.parameters():
    p.data = p.data + 0.1 * rng.normal(size=p.shape)
x, y = train.x[:4] + 0.05 * rng.random((4, 1, 8, 8)), train.y[:4]
cross_entropy = mg.losses.CrossEntropy()


def loss(pixels=x):
    """The loss of the four images in training, always with the same mask."""
    exact[11].rng = np.random.default_rng(5)
    return cross_entropy(exact(pixels), y)


def flat(arrays):
    """Arrays of all shapes as one row."""
    return np.concatenate([np.ravel(a) for a in arrays])


g = {}
for method in ("vjp", "jacobian"):
    loss().backward(method=method)
    g[method] = flat([p.grad for p in exact.parameters()])
gap = np.abs(g["vjp"] - g["jacobian"]).max()
largest = np.abs(g["vjp"]).max()
print(f"{g['vjp'].size:,} derivatives, the largest {largest:.3f}; the two ways differ by {gap:.1e}")
assert gap < 1e-12

# %% [markdown]
# Products and matrices share the forward pass and the order of the walk, and could be wrong together.
# Differences share nothing with either. First all the weights of the first convolution, one after the other;
# everything that was said of the chain rule lies between them and the loss.

# %%
def by_differences(parameter, h):
    """The slopes of the loss by each entry of a parameter."""
    slopes = np.zeros(parameter.size)
    with mg.no_grad():
        for i in range(parameter.size):
            kept = parameter.data.flat[i]
            for sign in (1, -1):
                parameter.data.flat[i] = kept + sign * h
                slopes[i] += sign * loss().item() / (2 * h)
            parameter.data.flat[i] = kept
    return slopes.reshape(parameter.shape)


loss().backward()
weight = exact[0].weight
for h in (1e-3, 1e-6, 1e-9):
    print(f"h = {h:g}: worst difference {np.abs(weight.grad - by_differences(weight, h)).max():.1e}")
assert np.abs(weight.grad - by_differences(weight, 1e-6)).max() < 1e-7

# %% [markdown]
# There is a best step, and it is worth knowing why. With a large one some ReLU or some pool among the
# thousands is taken over its kink, and the difference quotient straddles two slopes. With a tiny one the loss
# changes in its last digits only, and these are divided by $h$. In between the derivative is found to eight
# digits.
#
# Then all 26,090 at once. In a random direction $d$ of the space of all parameters the loss must change as
# $g\,d$ says, and a wrong entry anywhere would show:

# %%
start = [p.data.copy() for p in exact.parameters()]


def loss_along(direction, t):
    for p, at, d in zip(exact.parameters(), start, direction, strict=True):
        p.data = at + t * d
    with mg.no_grad():
        return loss().item()


for _ in range(3):
    direction = [rng.normal(size=a.shape) for a in start]
    measured = (loss_along(direction, 1e-7) - loss_along(direction, -1e-7)) / 2e-7
    predicted = g["vjp"] @ flat(direction)
    print(f"g d = {predicted:11.7f}, by differences {measured:11.7f}")
    assert np.isclose(measured, predicted, rtol=1e-5)
loss_along(direction, 0.0)
checks = mg.verify.gradient(loss, x, step=1e-6, tolerance=1e-6)
assert all(checks)
checks  # and by the pixels

# %% [markdown]
# On the way there is something to discover. Some derivatives are zero, all of them, and ought to be:

# %%
loss().backward()
for name, p in exact.named_parameters():
    if np.abs(p.grad).max() < 1e-12:
        print(f"{name} {p.shape}: largest derivative {np.abs(p.grad).max():.0e}")

# %% [markdown]
# The biases of the convolutions. Batch normalization, right behind them, takes the mean of the batch away,
# and the bias with it: these 112 parameters do nothing, in training (lecture 6). A check that every gradient
# is "not zero" would have complained; one that compares with differences understands.
#
# ## Training
#
# Momentum that rises (TC-17), a rate that falls when the loss no longer does (TC-18), and stopping by the
# validation error (TC-21).

# %%
def trained(epochs, snapshots=None):
    """A network, and the history of its training; the same seed gives the same network."""
    model = digits.network(seed=0)
    optimizer = mg.optim.SGD(model.parameters(), lr=0.05, momentum=mg.optim.MomentumSchedule(0.9))
    history = mg.training.fit(
        model, cross_entropy, optimizer, more, validation, epochs=epochs, batch_size=40, patience=6, seed=0,
        plateau=mg.optim.ReduceOnPlateau(factor=0.1, patience=1), snapshots=snapshots, progress=False,
    )  # fmt: skip
    return model.eval(), history


model, history = trained(epochs=8)
mg.plots.learning_curves(history).figure

# %% [markdown]
# The validation loss is below the training loss at first, which looks impossible and is not. In training half
# of the features are dropped and the digits are moved; in validation the whole network reads digits that
# stand where they should. And the training loss of an epoch is a mean over the epoch, most of which the
# network was worse.
#
# Now, once, the test set:

# %%
_, error = mg.training.evaluate(model, cross_entropy, test)
n, k = len(test), round(error * len(test))
centre, width = (k + 2) / (n + 4), np.sqrt((k + 2) * (n + 2 - k) / (n + 4)) / (n + 4)
print(f"{k} of {n} digits misread, {error:.2%}")
print(f"in truth probably between {max(centre - 2 * width, 0):.1%} and {centre + 2 * width:.1%}")

# %% [markdown]
# The second line is as important as the first. An error rate is an estimate from a few mistakes, and three
# hundred samples cannot tell a very good network from a good one. (The interval is that of Agresti and Coull
# 1998: add two mistakes and two successes, then take two standard deviations.) Nor do they tell how a
# fourteenth hand will be read: the same thirteen people wrote all three sets.
#
# What was verified in double precision and by matrices is not quite what was trained: that ran in single
# precision, on compiled kernels. So compare the trained network with its own copy in double precision, and on
# the NumPy reference:

# %%
with mg.no_grad():
    logits = model(test.x).data
    twin = digits.network(dtype=np.float64).eval()
    twin.load_state_dict(model.state_dict())
    double = twin(test.x.astype(float)).data
    with mg.use_kernels("numpy"):
        reference = twin(test.x.astype(float)).data
print(f"logits up to {np.abs(double).max():.1f}")
print(f"float32 differs by {np.abs(logits - double).max():.1e}")
print(f"the reference differs by {np.abs(reference - double).max():.1e}")
assert np.allclose(logits, double, rtol=0, atol=1e-3)
assert np.allclose(reference, double, rtol=0, atol=1e-10)

# %% [markdown]
# ## What it looks for
#
# The kernels of the first convolution are patterns of $3\times3$ pixels: red where they want ink, blue where
# they want none. Some are edges, some are corners or spots, and some look like nothing in particular. Nobody
# asked them to be legible.

# %%
mg.plots.filters(model[0]).figure

# %% [markdown]
# And what is seen with them. A row is what a layer makes of the digit at the top, bright is large; of many
# channels sixteen are drawn. Behind a ReLU most of the picture is dark: a feature is present in a few places
# and nowhere else. Each pool halves the picture, and what is left at the end are four pixels of 64 features,
# in which a human being sees nothing any more, and a linear layer sees a three.

# %%
three = np.flatnonzero(test.y == 3)[5]
ax = mg.plots.figure((13, 10), dpi=72).subplots()
mg.plots.feature_maps(model, test.x[three], ax, most=16).figure

# %% [markdown]
# ## On the simplex
#
# For each digit the network says ten probabilities, a point on a simplex with ten corners. We cannot draw
# that one, but the face between three classes we can (lecture 1). All that is interesting happens early, so
# let us run the first epoch again and keep the parameters every few steps. Six digits that it does not train
# on:

# %%
steps = Snapshots(limit=64, per="step")
trained(epochs=1, snapshots=steps)
some = np.concatenate([np.flatnonzero(test.y == digit)[:2] for digit in (3, 8, 9)])
p = mg.plots.softmax_outputs(digits.network(), steps, test.x[some])
names = [f"digit {k}" for k in range(10)]
ax = mg.plots.figure((10, 6), dpi=90).subplots()
mg.plots.trajectory(
    p, labels=test.y[some], classes=names, parts=[3, 8, 9], times=steps.times, unit=steps.per, ax=ax
).figure

# %% [markdown]
# They begin right of the middle: the random weights happen to like a three least. That preference is
# unlearned first, and by all of them together; then they part. No step was made for any of these six. They
# are carried along by what other digits, which look like them, have taught the kernels.
#
# ## Where it is wrong
#
# The eight test digits for which the right class got the smallest probability. Red titles are mistakes.

# %%
said = mg.softmax(logits.astype(float)).data
assert mg.metrics.on_simplex(said).all()
assert np.isclose(mg.metrics.zero_one_error(logits, test.y), error)
matrix = mg.metrics.confusion_matrix(logits, test.y)
for i, j in np.argwhere(matrix * (1 - np.eye(10, dtype=int))):
    print(f"{matrix[i, j]} times a {i} is read as a {j}")

# %% tags=["hide-input"]
figure = mg.plots.figure((12, 5), dpi=90)
for n, ax in zip(np.argsort(said[np.arange(len(test)), test.y])[:8], figure.subplots(2, 4).ravel(), strict=True):
    best = int(said[n].argmax())
    ax.imshow(test.x[n, 0], cmap="gray_r")
    colour = "vermilion" if best != test.y[n] else "blue"
    ax.set_title(f"is {test.y[n]}; says {best} at {said[n, best]:.0%}", fontsize=15, color=mg.plots.OKABE_ITO[colour])
    ax.set(xticks=[], yticks=[])
figure

# %% [markdown]
# Some of them you would have got wrong yourself. But look at the numbers in the red titles. The network is
# mistaken, and it is sure.
#
# ## Does it know what it knows?
#
# When it says 90 %, is it right nine times in ten? The logits can be divided by a temperature $T$ (lecture 1)
# without any decision being changed. Choose the $T$ under which the *validation* labels are most likely: one
# number, fitted on digits that training has not seen (Guo, Pleiss, Sun and Weinberger 2017).

# %%
with mg.no_grad():
    held_out = model(validation.x).data.astype(float)
temperatures = np.geomspace(0.3, 3, 61)
risks = [cross_entropy(held_out / T, validation.y).item() for T in temperatures]
T = temperatures[int(np.argmin(risks))]
before, after = (cross_entropy(logits.astype(float) / t, test.y).item() for t in (1.0, T))
print(f"temperature {T:.2f}; loss on the test set {before:.4f} before, {after:.4f} after")
assert np.array_equal(mg.metrics.decide(logits / T), mg.metrics.decide(logits))

# %% [markdown]
# A temperature above 1 says that the network was too sure of itself, one below 1 that it was too modest. (The
# two sets need not agree: a handful of hard digits decides.) So far the network may be trusted. Now write
# worse. We add noise to the test images, more and more of it, and compare how often it is wrong with how much
# it doubts, $1 - \max_k p_k$, on average:

# %%
rng = np.random.default_rng(1)
noises = np.linspace(0, 0.8, 9)
wrong, doubt, cooled = [], [], []
for noise in noises:
    seen = np.clip(test.x + noise * rng.normal(size=test.x.shape), 0, 1).astype(np.float32)
    with mg.no_grad():
        z = model(seen).data.astype(float)
    wrong.append(mg.metrics.zero_one_error(z, test.y))
    doubt.append(1 - mg.softmax(z).data.max(axis=1).mean())
    cooled.append(1 - mg.softmax(z / T).data.max(axis=1).mean())

# %% tags=["hide-input"]
figure = mg.plots.figure((14, 5), dpi=80)
ax, *pictures = figure.subplots(1, 4, width_ratios=(3, 1, 1, 1))
for values, label, colour, marker in (
    (wrong, "wrong", "vermilion", "s"), (doubt, "doubts", "blue", "o"),
    (cooled, f"doubts at T = {T:.2f}", "sky blue", "^"),
):  # fmt: skip
    ax.plot(noises, 100 * np.array(values), marker=marker, markersize=8, linewidth=2.5, label=label,
            color=mg.plots.OKABE_ITO[colour])  # fmt: skip
ax.set_xlabel("noise", fontsize=16)
ax.set_ylabel("% of the test digits", fontsize=16)
ax.tick_params(labelsize=14)
ax.spines[["top", "right"]].set_visible(False)
ax.legend(fontsize=15, frameon=False)
for picture, noise in zip(pictures, (0.2, 0.4, 0.8), strict=True):
    moved = np.clip(test.x[three, 0] + noise * np.random.default_rng(2).normal(size=(8, 8)), 0, 1)
    picture.imshow(moved, cmap="gray_r")
    picture.set_title(f"noise {noise}", fontsize=16)
    picture.set_axis_off()
figure

# %% [markdown]
# At first error and doubt rise together. Then they part. In the end most of the digits are misread, and the
# network is about as calm as it was half-way. One temperature, fitted on clean digits, does not help.
#
# And if there is no digit at all?

# %%
nothing = rng.random((300, 1, 8, 8)).astype(np.float32)
with mg.no_grad():
    p = mg.softmax(model(nothing).data.astype(float)).data
named = np.bincount(p.argmax(axis=1), minlength=10)
print(f"300 images of pure noise: {named.max()} times it says {named.argmax()}")
print(f"mean probability of the class that it names: {p.max(axis=1).mean():.0%}")

# %% [markdown]
# There is no corner of the simplex for "this is not a digit". Softmax is asked *which* of ten, and divides
# all belief among them, whatever it is shown; a score that is far from the boundary on a side where training
# has never been counts as certainty. What was verified is that the network computes what we say it computes.
# What it *means* is a matter of the data that it has seen, and no derivative will tell.
#
# ## What to remember
#
# A network is a composition, and everything about its gradient can be checked: the parts against their
# formulas, the whole by matrices and by differences, the fast code by the slow. Do it before training, with a
# step between rounding and kinks. Then look at the data, the features, the mistakes, and put an interval
# around the error. Probabilities of a network are about the digits that it knows. Nothing here needed more
# than a few seconds, and a library that you can read to the end.
#
# ## Exercises

# %% [markdown]
# ### Exercise 1: how much work is a convolution?
#
# Count the multiplications of a convolution of one image with "same" padding and stride 1 (those with the
# zeros of the padding count, too), and its parameters, bias included.

# %% exercise="work"
def work(channels, outputs, kernel, height, width):
    """(multiplications, parameters) of a kernel x kernel convolution from ``channels`` to ``outputs`` channels."""
    ### BEGIN SOLUTION
    weights = outputs * channels * kernel * kernel
    return weights * height * width, weights + outputs
    ### END SOLUTION

# %% check="work" points=1
def counted(channels, outputs, kernel, height, width):
    layer = mg.nn.Conv2d(channels, outputs, kernel, padding=kernel // 2)
    y = layer(np.zeros((1, channels, height, width)))
    return y.size * layer.weight[0].size, sum(p.size for p in layer.parameters())


mg.verify.exercise(work, counted, [(1, 16, 3, 8, 8), (16, 32, 3, 8, 7), (3, 5, 1, 4, 9), (2, 7, 5, 6, 5)],
                   hint="how many numbers does one output pixel look at?")  # fmt: skip

# %% [markdown]
# ### Exercise 2: a digit that is moved
#
# Move the images of a batch down and to the right by some pixels, or up and left where the numbers are
# negative. What leaves the image is lost, and zeros come in.

# %% exercise="shifted"
def shifted(x, down, right):
    """The images (N, C, H, W), moved by ``down`` and ``right`` pixels, each less than the size in absolute value."""
    ### BEGIN SOLUTION
    H, W = x.shape[2:]
    y = np.zeros_like(x)
    rows, columns = slice(max(down, 0), H + min(down, 0)), slice(max(right, 0), W + min(right, 0))
    sources = slice(max(-down, 0), H + min(-down, 0)), slice(max(-right, 0), W + min(-right, 0))
    y[:, :, rows, columns] = x[:, :, *sources]
    return y
    ### END SOLUTION

# %% check="shifted" points=2
def by_convolution(x, down, right):
    """A kernel with a single 1 moves an image: correlation looks where the 1 stands."""
    k = max(abs(down), abs(right))
    weight = np.zeros((1, 1, 2 * k + 1, 2 * k + 1))
    weight[0, 0, k - down, k - right] = 1
    planes = x.reshape(-1, 1, *x.shape[2:])
    return mg.conv2d(planes, weight, padding=k).data.reshape(x.shape)


_rng = np.random.default_rng(121)
_cases = [(_rng.random((2, 3, 5, 4)), down, right) for down, right in ((1, 0), (0, -1), (-2, 3), (2, 1), (0, 0))]
mg.verify.exercise(shifted, by_convolution, _cases, hint="try one row of pixels, moved by one, on paper")

# %% [markdown]
# ### Exercise 3: how far does a feature see?
#
# A pixel behind a stack of convolutions and pools depends on a square of the image, its *receptive field*.
# Compute its side, given the kernel size and the stride of each layer, first layer first. (How much of a
# digit does one of the last four pixels of our network see?)

# %% exercise="receptive_field"
def receptive_field(layers):
    """The side, in pixels of the image, that one output pixel sees; layers is a list of pairs (kernel, stride)."""
    ### BEGIN SOLUTION
    side, jump = 1, 1
    for kernel, stride in layers:
        side += (kernel - 1) * jump
        jump *= stride
    return side
    ### END SOLUTION

# %% check="receptive_field" points=2
def seen_in_the_jacobian(layers):
    """The widest row of the Jacobian of the stack, for an image of one row."""
    def stack(x):
        for kernel, stride in layers:
            x = mg.conv2d(x, np.ones((1, 1, 1, kernel)), stride=(1, stride))
        return x

    return int((mg.jacobian(stack, np.zeros((1, 1, 1, 70)), sparse=True) != 0).sum(axis=1).max())


_cases = [[(3, 1)], [(3, 1), (3, 1)], [(2, 2), (3, 1)], [(3, 2), (2, 1), (5, 1)]]
_cases.append([(3, 1), (3, 1), (2, 2), (3, 1), (2, 2)])
mg.verify.exercise(
    receptive_field, seen_in_the_jacobian, [(layers,) for layers in _cases],
    hint="one step in a layer is how many pixels of the image?",
)  # fmt: skip

# %% [markdown]
# ### Exercise 4: the slope of the temperature
#
# The temperature was found by trying 61 values. A derivative is better. Write that of the mean cross-entropy
# of $z/T$ by $T$.

# %% exercise="temperature_slope"
def temperature_slope(z, y, T):
    """The derivative by T of the mean cross-entropy of z / T: logits z (N, K), labels y (N,), a number T > 0."""
    ### BEGIN SOLUTION
    a = z / T
    p = np.exp(a - a.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    rows = np.arange(len(z))
    return np.mean(z[rows, y] - np.sum(p * z, axis=1)) / T**2
    ### END SOLUTION

# %% check="temperature_slope" points=2
def slope_of_the_tape(z, y, T):
    T = mg.Tensor(T, requires_grad=True)
    mg.losses.CrossEntropy()(mg.Tensor(z) / T, y).backward()
    return T.grad


_rng = np.random.default_rng(122)
_cases = [(size * _rng.normal(size=(N, K)), _rng.integers(0, K, N), T)
          for size, N, K, T in ((1.0, 1, 3, 1.0), (3.0, 4, 5, 0.5), (2000.0, 3, 2, 3.0))]  # fmt: skip
mg.verify.exercise(temperature_slope, slope_of_the_tape, _cases, hint="T is in every logit: chain rule, then p - e_y")

# %% [markdown]
# ### Exercise 5: normalization for nothing
#
# At test, batch normalization multiplies and adds constants: $\gamma\,(a - \mu)/\sqrt{v + \epsilon} + \beta$,
# for each channel, with the running mean $\mu$ and variance $v$. Right behind a convolution it can be folded
# into the kernel and the bias, and costs nothing any more. Find the kernel and the bias that do the work of
# both.

# %% exercise="folded"
def folded(weight, bias, gamma, beta, mean, variance, eps):
    """(weight (O, C, U, V), bias (O,)) of a convolution that does what it and the normalization behind it do."""
    ### BEGIN SOLUTION
    scale = gamma / np.sqrt(variance + eps)
    return weight * scale[:, None, None, None], beta + scale * (bias - mean)
    ### END SOLUTION

# %% check="folded" points=3
def folded_by_probing(weight, bias, gamma, beta, mean, variance, eps):
    """What both together answer to nothing is the bias; their Jacobian at one window is the kernel."""
    O, C, U, V = weight.shape
    normal = mg.nn.BatchNorm2d(O, eps=eps).eval()
    normal.load_state_dict(normal.state_dict() | {
        "weight": gamma, "bias": beta, "running_mean": mean, "running_var": variance,
    })  # fmt: skip
    both = lambda x: normal(mg.conv2d(x, weight, bias))  # noqa: E731
    window = np.zeros((1, C, U, V))
    return mg.jacobian(both, window).reshape(weight.shape), both(mg.Tensor(window)).data.ravel()


_rng = np.random.default_rng(123)
_cases = []
for _O, _C, _U, _V, _eps in ((2, 3, 3, 1, 1e-5), (4, 1, 2, 3, 0.5)):
    _vectors = _rng.normal(size=(4, _O))
    _cases.append((_rng.normal(size=(_O, _C, _U, _V)), *_vectors, _rng.random(_O) + 0.1, _eps))
mg.verify.exercise(
    folded, folded_by_probing, _cases, hint="each output channel has its own scale; what becomes of the bias?"
)
