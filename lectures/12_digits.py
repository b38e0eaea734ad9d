# %% [markdown]
# # 12. A convolutional network on digits, from pixels to the simplex
#
# *Can everything that this course has derived be put together into one network that reads handwriting, and can we
# check all of it?*
#
# Here is everything at once: convolutions and pooling (lecture 4), batch normalization and dropout (6),
# softmax and cross-entropy (1, 2, 7), back-propagation (3), momentum, a schedule and early stopping (5). The
# task is small enough to be finished during a lecture, and real: 1,797 digits written by 43 people, who had
# no idea that they would be read by students (Alpaydin and Kaynak 1998).

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
# Three sets: one to learn from, one to decide when to stop, and one that is looked at once, at the end. The
# classes are equally frequent in each. An image has 8 x 8 pixels between 0 and 1.

# %% tags=["hide-input"]
figure = mg.plots.figure((12, 3.4), dpi=90)
for k, ax in enumerate(figure.subplots(2, 10).ravel()):
    n = np.flatnonzero(train.y == k % 10)[k // 10]
    ax.imshow(train.x[n, 0], cmap="gray_r")
    ax.set(xticks=[], yticks=[])
    ax.set_title(f"{train.y[n]}", fontsize=16)
figure

# %% [markdown]
# A digit that is moved by a pixel is the same digit, a network that has never seen it moved cannot know. So
# each training image is shown in five positions, which makes 5,985 of 1,197. That costs nothing but time, and
# is worth more than most ideas about networks.

# %%
more = digits.moved(train)
assert np.array_equal(more.x[: len(train)], train.x)
len(train), len(more)

# %% [markdown]
# ## The network
#
# Two convolutions with 3 x 3 kernels, a pool that keeps the largest of each 2 x 2 pixels, one more of each,
# and a linear layer that reads the scores of the ten classes off the 256 numbers that are left. Each
# convolution is followed by batch normalization and a ReLU; half of the 256 numbers are dropped in training.

# %%
model = digits.network(seed=0)
mg.plots.network(model, (1, 1, 8, 8))

# %%
print(f"{sum(p.size for p in model.parameters()):,} parameters")
for name, p in model.named_parameters():
    print(f"{name:>10}  {p.shape!s:>16}  {p.size:6,}")

# %% [markdown]
# Two thirds of the parameters are in the last convolution. With 26,000 numbers and 1,197 images a network
# could learn all of them by heart, and that it does not is the merit of what stands around it: the moves,
# dropout, and stopping in time.
#
# Every layer is an operation with a formula. Some of those that this network is made of, as the engine has them
# (pools and normalization have long ones, and lectures of their own):

# %%
mg.tables.formulas("conv2d", "relu", "affine", "cross_entropy")

# %% [markdown]
# ## Before we train: is it right?
#
# A wrong gradient rarely stops a network from learning; it just learns worse, and nobody knows why. So we
# look first. Take a copy in double precision, two images, and the gradient of the loss with respect to
# *every* parameter, computed in two ways: by vector-Jacobian products, as in training, and by the explicit
# matrices of all operations, multiplied out as equations (2) to (5) of Tomasi (2019) say.
#
# One precaution: a fresh network has biases of zero, and the corners of an image are white, so that every ReLU
# stands exactly on its kink there and every pool chooses among equals. At such points a derivative is a matter of
# convention. We give all parameters, and the pixels, a small random push first.

# %%
exact = digits.network(seed=0, dtype=np.float64).eval()
rng = np.random.default_rng(0)
for p in exact.parameters():
    p.data = p.data + 0.1 * rng.normal(size=p.shape)
x, y = train.x[:2] + 0.05 * rng.random((2, 1, 8, 8)), train.y[:2]
loss = mg.losses.CrossEntropy()
gradients = {}
for method in ("vjp", "jacobian"):
    loss(exact(x), y).backward(method=method)
    gradients[method] = np.concatenate([p.grad.ravel() for p in exact.parameters()])
largest = np.abs(gradients["vjp"]).max()
difference = np.abs(gradients["vjp"] - gradients["jacobian"]).max()
print(f"{gradients['vjp'].size:,} derivatives, the largest {largest:.3f}; the two ways differ by {difference:.1e}")
assert difference < 1e-12 * largest

# %% [markdown]
# Both could be wrong together, as they share the forward pass. Differences share nothing with either. In a
# direction $d$ that moves all parameters at once, the loss must change as $g\,d$ says:

# %%
start = [p.data.copy() for p in exact.parameters()]


def loss_along(direction, t):
    """The loss where every parameter is moved by t times its part of the direction."""
    for p, at, d in zip(exact.parameters(), start, direction, strict=True):
        p.data = at + t * d
    with mg.no_grad():
        return loss(exact(x), y).item()


for _ in range(3):
    direction = [rng.normal(size=p.shape) for p in start]
    h = 1e-8  # a longer step would take some ReLU over its kink: there are thousands
    measured = (loss_along(direction, h) - loss_along(direction, -h)) / (2 * h)
    predicted = gradients["vjp"] @ np.concatenate([d.ravel() for d in direction])
    print(f"g d = {predicted:10.6f}, by differences {measured:10.6f}")
    assert np.isclose(measured, predicted, rtol=1e-5)
loss_along(direction, 0.0)

# %% [markdown]
# And the gradient with respect to the *pixels*, entry by entry. The step has to be small again: with the usual
# thousandth some maximum changes hands.

# %%
(pixels,) = mg.verify.gradient(lambda pixels: loss(exact(pixels), y), x, step=1e-7, tolerance=1e-5)
assert pixels
pixels

# %% [markdown]
# ## Training
#
# Momentum that rises (TC-17), a rate that falls when the loss does (TC-18), and stopping on the validation
# error (TC-21). After each epoch a snapshot of all parameters is kept: we shall want to look back.

# %%
optimizer = mg.optim.SGD(model.parameters(), lr=0.05, momentum=mg.optim.MomentumSchedule(0.9))
snapshots = Snapshots()
history = mg.training.fit(
    model, loss, optimizer, more, validation, epochs=8, batch_size=40, patience=6,
    plateau=mg.optim.ReduceOnPlateau(factor=0.1, patience=1), snapshots=snapshots, progress=False,
)  # fmt: skip
_, error = mg.training.evaluate(model, loss, test)
print(f"validation error {min(history.validation_error):.2%} in epoch {history.best_epoch}, test error {error:.2%}")

# %%
mg.plots.learning_curves(history).figure

# %% [markdown]
# The validation loss is smaller than the training loss for a while, which looks impossible and is not. In
# training half of the features are dropped and the digits are moved; in validation the whole network reads
# digits that stand where they should.
#
# ## What it looks for
#
# The kernels of the first convolution are patterns of 3 x 3 pixels: strokes, edges, spots. Red where it wants
# ink, blue where it wants none.

# %%
mg.plots.filters(model[0]).figure

# %% [markdown]
# And what they see. A row is what one layer makes of the digit at the top; bright is large. After each ReLU
# most of the picture is dark: a feature is present in a few places, and nowhere else. Each pool halves the
# picture, until 2 x 2 pixels of 64 features are left.

# %%
mg.plots.feature_maps(model, test.x[np.flatnonzero(test.y == 3)[0]]).figure

# %% [markdown]
# ## On the simplex
#
# For each digit the network says ten probabilities, a point of a simplex with ten corners. We cannot draw
# that one, but the face between three classes we can. Twelve digits that it has never trained on, from the
# first epoch to the last:

# %%
p = mg.plots.softmax_outputs(model, snapshots, test.x)
some = np.concatenate([np.flatnonzero(test.y == digit)[:4] for digit in (3, 8, 9)])
names = [f"digit {k}" for k in range(10)]
mg.plots.trajectory(p[:, some], labels=test.y[some], classes=names, parts=[3, 8, 9], times=snapshots.times).figure

# %% [markdown]
# All start near the middle, where a network that knows nothing is, and run into their corners. Those that
# take a turn are the interesting ones.
#
# ## Where it is wrong
#
# The few mistakes on the test set, with what the network said, and how sure it was:

# %%
with mg.no_grad():
    logits = model.eval()(test.x).data
said = mg.softmax(logits.astype(float)).data
wrong = np.flatnonzero(mg.metrics.decide(logits) != test.y)
assert np.isclose(len(wrong) / len(test), error)
print(mg.metrics.confusion_matrix(logits, test.y))

# %% tags=["hide-input"]
unsure = np.argsort(said[np.arange(len(test)), test.y])[:8]
figure = mg.plots.figure((12, 4.6), dpi=90)
for n, ax in zip(unsure, figure.subplots(2, 4).ravel(), strict=True):
    ax.imshow(test.x[n, 0], cmap="gray_r")
    best = int(said[n].argmax())
    colour = "vermilion" if best != test.y[n] else "blue"
    ax.set_title(f"is {test.y[n]}; says {best} at {said[n, best]:.0%}", fontsize=15, color=mg.plots.OKABE_ITO[colour])
    ax.set(xticks=[], yticks=[])
figure

# %% [markdown]
# These are the eight digits for which the right class got the smallest probability; red titles are mistakes.
# Some of them you would get wrong yourself. That is about as good as a reader of 8 x 8 pixels can be.
#
# ## Does it know how sure it is?
#
# When the network says 90 %, is it right nine times in ten? The logits can be divided by a temperature $T$
# without any decision being changed. Choose the $T$ that makes the *validation* labels most likely; one
# number, fitted on digits that training has not seen (Guo, Pleiss, Sun and Weinberger 2017).

# %%
with mg.no_grad():
    held_out = model(validation.x).data.astype(float)
temperatures = np.geomspace(0.3, 3, 61)
risks = [loss(held_out / T, validation.y).item() for T in temperatures]
best = temperatures[int(np.argmin(risks))]
before, after = (loss(logits.astype(float) / T, test.y).item() for T in (1.0, best))
print(f"temperature {best:.2f}; loss on the test set {before:.4f} before, {after:.4f} after; no decision is changed")
assert np.array_equal(mg.metrics.decide(logits / best), mg.metrics.decide(logits))

# %% [markdown]
# A temperature above 1 says that the network was too sure of itself, one below 1 that it was too modest. The
# validation set asks for a little more doubt; the test set would have done without. Two sets of 300 images, with
# a handful of hard ones in each, do not always agree, and a number that was fitted on one is only an estimate for
# the other.
#
# ## One logit at a time
#
# A last question, of lecture 9: suppose that all we want to know is whether an image is an eight. Do we need
# ten logits?

# %%
mg.plots.logit_distributions(logits, test.y).figure

# %%
mg.metrics.single_logit_report(logits, test.y)

# %% [markdown]
# Cross-entropy compares logits of one image with each other, and does not care how they compare between
# images. So the true and the false logits overlap, and single logits are good, but not as good as all ten. A
# loss that is aligned with the Principle of Logit Separation closes the gap.
#
# ## What to remember
#
# A network is a composition, and everything about it can be checked piece by piece, or all at once. Verify
# before you train; look at the data, the features and the mistakes after. And nothing here needed more than a
# few seconds and a library that you can read to the end.
#
# ## Exercises

# %% [markdown]
# ### Exercise 1: how much work is a convolution?
#
# Count the multiplications of a convolution of one image, with "same" padding and stride 1 (multiplications
# with the zeros of the padding count, too), and its parameters, bias included.

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
# Move the images of a batch down and to the right by a pixel each, or up and left where the numbers are
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


_rng = np.random.default_rng(1)
_cases = [(_rng.random((2, 3, 5, 4)), down, right) for down, right in ((1, 0), (0, -1), (-2, 3), (2, 1), (0, 0))]
mg.verify.exercise(shifted, by_convolution, _cases, hint="try one row of pixels, moved by one, on paper")

# %% [markdown]
# ### Exercise 3: the slope of the temperature
#
# The temperature was found by trying 61 values. A derivative is better. Write that of the mean cross-entropy
# of $z/T$ with respect to $T$.

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


_rng = np.random.default_rng(2)
_cases = [(size * _rng.normal(size=(N, K)), _rng.integers(0, K, N), T)
          for size, N, K, T in ((1.0, 1, 3, 1.0), (3.0, 4, 5, 0.5), (2000.0, 3, 2, 3.0))]  # fmt: skip
mg.verify.exercise(temperature_slope, slope_of_the_tape, _cases, hint="T is in every logit: chain rule, then p - e_y")

# %% [markdown]
# ### Exercise 4: which pixels matter
#
# For a *linear* network, logits $z = Wx + b$ of the pixels of an image, write the gradient of the
# cross-entropy with respect to the pixels, for a batch of images, each with its own loss (not the mean).

# %% exercise="pixel_gradient"
def pixel_gradient(W, b, x, y):
    """The gradients (N, D) of the losses by the images x (N, D), labels y (N,); weights W (K, D), b (K,)."""
    ### BEGIN SOLUTION
    z = x @ W.T + b
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    return p @ W
    ### END SOLUTION

# %% check="pixel_gradient" points=3
def pixels_of_the_tape(W, b, x, y):
    x = mg.Tensor(x, requires_grad=True)
    mg.losses.CrossEntropy(reduction="sum")(x @ W.T + b, y).backward()
    return x.grad


_rng = np.random.default_rng(3)
_cases = [(_rng.normal(size=(K, D)), _rng.normal(size=K), _rng.normal(size=(N, D)), _rng.integers(0, K, N))
          for N, D, K in ((1, 4, 2), (5, 3, 4), (2, 6, 10))]  # fmt: skip
mg.verify.exercise(pixel_gradient, pixels_of_the_tape, _cases, hint="a row times a matrix: first dl/dz, then dz/dx")
