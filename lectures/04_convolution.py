# %% [markdown]
# # 4. Convolution and pooling as sparse matrices
#
# *A convolution is a linear map, and so it is a matrix. What does that matrix look like, and why has nobody
# ever multiplied by it in earnest?*
#
# A layer that connects every pixel with every unit has to learn the same edge again at every place of the
# image. A convolution learns it once. It looks at the image through a small window, and asks the same
# question wherever the window stands. In this lecture we write the question down as a matrix, look at it, and
# take from it whatever there is to know: what it costs, what goes back through it, and what it cannot help
# doing. And then we compute without it.

# %%
import timeit

import numpy as np

import minigrad as mg
from minigrad.ops.convolution import Conv2d
from minigrad.ops.pooling import AvgPool2d, MaxPool2d

train, validation, test = mg.data.digits()
digit = train.x[3:4]
edges = np.array([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]]).reshape(1, 1, 3, 3)  # left less right
response = mg.conv2d(digit, edges).data
print(digit.shape, edges.shape, response.shape)

# %% tags=["hide-input"]
figure = mg.plots.figure((14, 4.4), dpi=80)
panels = figure.subplots(1, 3, width_ratios=(8, 5, 8))
shown = (digit, "image x, 8×8", "gray_r"), (edges, "kernel, 3×3", "RdBu_r"), (response, "y, 6×6", "RdBu_r")
for ax, (image, title, colours) in zip(panels, shown, strict=True):
    bound = np.abs(image).max()
    ax.imshow(image[0, 0], cmap=colours, vmin=0 if colours == "gray_r" else -bound, vmax=bound)
    ax.set_title(title, fontsize=18)
    ax.set_axis_off()
figure

# %% [markdown]
# The kernel asks: is it darker on the left than on the right? Red says yes, blue says the opposite, white
# says that there is no difference. On the right is the answer at the 36 places where the window fits into the
# image.
#
# ## What is computed
#
# The output at $(p, q)$ is the sum over the window of weight times pixel. With several input channels $c$ the
# window is a box, and with several output channels $o$ there are as many kernels:

# %%
Conv2d().written(digit[0], edges, np.zeros(1))[0]

# %% [markdown]
# This is a *correlation*. A mathematician's convolution turns the kernel by 180 degrees first. For a kernel
# that is learned it makes no difference, and the name has stuck; we shall meet the turned kernel on the way
# back.
#
# Before we trust our own eyes with it, a loop that is a transcription of the formula, and a comparison:

# %%
def by_loop(x, weight):
    """y (N, O, P, Q) for x (N, C, H, W) and weight (O, C, U, V), one multiplication after the other."""
    (N, C, H, W), (O, _, U, V) = x.shape, weight.shape
    y = np.zeros((N, O, H - U + 1, W - V + 1))
    for n, o, p, q in np.ndindex(*y.shape):
        total = 0.0
        for c, u, v in np.ndindex(C, U, V):
            total += weight[o, c, u, v] * x[n, c, p + u, q + v]
        y[n, o, p, q] = total
    return y


assert np.allclose(by_loop(digit, edges), response)
rng = np.random.default_rng(0)
some = rng.normal(size=(2, 3, 6, 5)), rng.normal(size=(4, 3, 3, 2))
assert mg.verify.compare(mg.conv2d, by_loop, x=some[0], weight=some[1])

# %% [markdown]
# ## The matrix
#
# Each output is a weighted sum of inputs, so there is a matrix with $y = Jx$, and being linear the map is its
# own derivative: $J = \partial y/\partial x$, for images flattened row by row. Here it is for an image of
# $5\times5$ and a kernel with the entries 1 to 9, which can be told apart by their colours.

# %%
kernel = np.arange(1.0, 10).reshape(1, 1, 3, 3)
x = rng.normal(size=(1, 5, 5))
J = Conv2d().jacobian(x, kernel, None)[0]
assert np.allclose(J @ x.ravel(), mg.conv2d(x[None], kernel).data.ravel())
ax = mg.plots.jacobian(J, outputs=(1, 3, 3), inputs=(1, 5, 5))
ax.figure.set_size_inches(12, 5)
ax.figure

# %% [markdown]
# *Sparse*: a row has nine entries other than zero, one for each weight, however large the image is. Far
# pixels are not seen.
#
# *Shared*: all the rows have the same nine numbers. From one row to the next within a block they are moved by
# one place, and from one block to the next by a whole block.
#
# A matrix that is constant along its diagonals is a *Toeplitz* matrix. In this one each block is Toeplitz,
# and the blocks are arranged like the entries of a Toeplitz matrix: it is **doubly block Toeplitz**. With
# four indices, output $(p, q)$ and input $(h, w)$, both facts become one line: $J_{pq,hw} = k_{h-p,\,w-q}$
# depends on differences only.

# %%
J4 = J.toarray().reshape(3, 3, 5, 5)
assert np.array_equal(J4[1:, :, 1:, :], J4[:-1, :, :-1, :])  # the blocks, moved down and right by one
assert np.array_equal(J4[:, 1:, :, 1:], J4[:, :-1, :, :-1])  # the entries within the blocks

# %% [markdown]
# With several channels there is such a matrix for each pair of an output and an input channel. Here three
# input channels of $4\times4$ go to two output channels, with kernels of $2\times2$; thick lines divide the
# channels.

# %%
three, two = rng.normal(size=(3, 4, 4)), rng.normal(size=(2, 3, 2, 2))
ax = mg.plots.jacobian(Conv2d().jacobian(three, two, None)[0], outputs=(2, 3, 3), inputs=(3, 4, 4))
ax.figure.set_size_inches(12, 5.4)
ax.figure

# %% [markdown]
# How much is saved? Take the first layer of the network of lecture 12, sixteen kernels of $3\times3$ on
# digits of $8\times8$ in a frame of zeros, and the layer that connects everything with everything in its
# place:

# %%
layer = mg.nn.Conv2d(1, 16, kernel_size=3, padding=1).reset(0)
J_layer = Conv2d(padding=1).jacobian(digit[0], layer.weight.data, None)[0]
print(f"{J_layer.shape[0]} outputs, {J_layer.shape[1]} inputs")
print(f"entries of a full matrix  {np.prod(J_layer.shape):6,}  numbers to learn, and multiplications")
print(f"not zero in this one      {J_layer.nnz:6,}  multiplications")
print(f"different ones among them {len(np.unique(J_layer.data)):6,}  numbers to learn")

# %% [markdown]
# ## Padding and stride
#
# At the border the window does not fit, and the image shrinks by $k - 1$ in every layer. A frame of $a$ zeros
# (*padding*) keeps it from shrinking: in the matrix, the rows of the border have lost some of their entries.
# A *stride* $s$ lets the window jump: of the rows of the matrix only every $s$-th is kept, in both
# directions. With the *dilation* $d$ the window is spread out, so that it covers $d(k-1)+1$ pixels. Counting
# the places where it fits gives
#
# $$P = \Big\lfloor \frac{H + 2a - d(k-1) - 1}{s} \Big\rfloor + 1 .$$

# %%
choices = (8, 3, 1, 0, 1), (8, 3, 1, 1, 1), (8, 3, 2, 1, 1), (7, 3, 2, 0, 1), (8, 3, 1, 2, 2)
for H, k, s, a, d in choices:
    y = mg.conv2d(np.zeros((1, 1, H, H)), np.zeros((1, 1, k, k)), stride=s, padding=a, dilation=d)
    P = (H + 2 * a - d * (k - 1) - 1) // s + 1
    assert y.shape == (1, 1, P, P)
    print(f"{H} pixels, kernel {k}, stride {s}, padding {a}, dilation {d}: {P} outputs")

# %% tags=["hide-input"]
figure = mg.plots.figure((16, 6.4), dpi=72)
left, right = figure.subplots(1, 2)
for ax, title, options, size in (
    (left, "padding 1", {"padding": 1}, 5), (right, "padding 1, stride 2", {"padding": 1, "stride": 2}, 3),
):  # fmt: skip
    matrix = Conv2d(**options).jacobian(x, kernel, None)[0]
    mg.plots.jacobian(matrix, outputs=(1, size, size), inputs=(1, 5, 5), ax=ax)
    ax.set_title(f"{title}: {matrix.shape[0]} × {matrix.shape[1]}", fontsize=18)
figure

# %% [markdown]
# Look at the left matrix where blocks meet. The diagonals are interrupted: the pixel to the right of a row's
# end is a zero of the frame, and not the first pixel of the row below, its neighbour in memory. That is the
# mistake which everybody makes once who writes a convolution in flat arrays.
#
# A stride that does not divide evenly has a blind spot. Here is how many windows look at each pixel of an
# $8\times8$ image, with stride 2 and no padding:

# %%
unseen = Conv2d(stride=2).jacobian(np.zeros((1, 8, 8)), kernel, None)[0]
seen_by = np.asarray((unseen != 0).sum(axis=0)).reshape(8, 8)
print(seen_by)

# %% [markdown]
# Nobody looks at the last row and column, and at the others between one and four. Such a chequered pattern
# comes back in the gradient of the image.
#
# ## Five ways to one result
#
# Now to the price. A batch of four images with 3 channels of $18\times18$, eight kernels of $3\times3$. First
# the matrix, full and sparse, then the loop, and then the idea that made convolution fast.
#
# Write the window at every output position as a *row* of numbers, all these rows below each other, and the
# kernels as columns. Then the convolution of the whole batch is one matrix product, and matrix products are
# what computers do best. The rearrangement is called *im2col*:

# %%
def patches(x, U, V):
    """A row (C U V) for each output position of each image, (N P Q, C U V): im2col."""
    windows = np.lib.stride_tricks.sliding_window_view(x, (U, V), axis=(2, 3))  # N, C, P, Q, U, V
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, x.shape[1] * U * V)


def by_patches(x, weight):
    """The convolution as one matrix product."""
    O, _, U, V = weight.shape
    y = patches(x, U, V) @ weight.reshape(O, -1).T  # N P Q, O
    return y.reshape(len(x), x.shape[2] - U + 1, x.shape[3] - V + 1, O).transpose(0, 3, 1, 2)


x, weight = rng.normal(size=(4, 3, 18, 18)), rng.normal(size=(8, 3, 3, 3))
sparse = Conv2d().jacobian(x[0], weight, None)[0].tocsr()
full = sparse.toarray()
flat = x.reshape(4, -1).T.copy()
ways = {
    "full matrix": lambda: full @ flat,
    "sparse matrix": lambda: sparse @ flat,
    "loop in Python": lambda: by_loop(x, weight),
    "im2col and a product": lambda: by_patches(x, weight),
    "compiled kernel": lambda: mg.conv2d(x, weight).data,
}

# %%
wanted = by_loop(x, weight)
for name, way in ways.items():
    y = way()
    y = y.T.reshape(wanted.shape) if name.endswith("matrix") else y
    assert np.allclose(y, wanted, rtol=0, atol=1e-12), name
products = {"full matrix": 4 * full.size, "sparse matrix": 4 * sparse.nnz}
seconds = {
    name: min(timeit.repeat(way, number=1, repeat=1 if "loop" in name else 20))
    for name, way in ways.items()
}  # fmt: skip
rows = []
for name in ways:
    ratio = seconds[name] / seconds["compiled kernel"]
    rows.append((name, f"{products.get(name, wanted.size * 27):,}", f"{ratio:,.1f}"))
mg.tables.Table(("way", "multiplications", "time, compiled kernel = 1"), tuple(rows))

# %% [markdown]
# The times are those of the machine that made this page; on yours they are others, and the order hardly. The
# full matrix does 36 times as many multiplications as are needed, nearly all of them by zero. The sparse
# matrix does the right ones, and has to look up for each of them where it belongs; and somebody has to build
# it. The loop does the right ones too, and spends its time being Python. The product of patches does the same
# number once more, in a library in which decades of work have gone.
#
# What is wrong with im2col is that it copies a pixel once for every window that sees it, up to nine times,
# before anything is computed:

# %%
print(f"numbers in the images: {x.size:,}, in the patches: {patches(x, 3, 3).size:,}")

# %% [markdown]
# The compiled kernel of the library computes the same product, but makes the patch matrix piece by piece, a
# piece at a time that stays in the cache, and throws it away. The formula has not changed since the loop, and
# the audit compares all of them: formula, matrix, kernel, reference, differences.

# %%
report = mg.verify.audit(["conv2d"], with_mutants=False)
assert report.passed
print("\n".join(str(report).splitlines()[:2]))

# %% [markdown]
# ## The way back: a transposed convolution
#
# In training a row $g = \partial\ell/\partial y$ comes back from the next layer, and $gJ$ goes on to the one
# before (TC-10). For a convolution the product is $J^{\mathsf T} g$, read as an image. What does the
# transposed matrix do? Give it a $g$ with a single one in it, and it returns one row of $J$, which is the
# kernel, at the place where the window stood:

# %%
def back(g, weight, size, **options):
    """The row g J as an image of this size, by the operation's vector-Jacobian product."""
    operation, x = Conv2d(**options), np.zeros((len(g), weight.shape[1], size, size))
    return operation.vjp(g, x, weight, None, operation.forward(x, weight, None))[0]


one, several = np.zeros((1, 1, 6, 6)), np.zeros((1, 1, 6, 6))
one[0, 0, 1, 2] = 1
several[0, 0, [1, 1, 4], [0, 4, 3]] = 1, -1, 2
J = Conv2d().jacobian(digit[0], kernel, None)[0]
for g in (one, several):
    assert np.allclose(back(g, kernel, 8).ravel(), g.ravel() @ J)

# %% tags=["hide-input"]
figure = mg.plots.figure((15, 4.2), dpi=80)
panels = figure.subplots(1, 4)
shown = [(one, "g, 6×6"), (back(one, kernel, 8), "g J, 8×8")]
shown += [(several, "another g"), (back(several, kernel, 8), "its g J")]
for ax, (image, title) in zip(panels, shown, strict=True):
    bound = np.abs(image).max()
    ax.imshow(image[0, 0], cmap="RdBu_r", vmin=-bound, vmax=bound)
    ax.set_title(title, fontsize=18)
    ax.set_xticks(np.arange(image.shape[3]) - 0.5, [])
    ax.set_yticks(np.arange(image.shape[2]) - 0.5, [])
    ax.grid(color="0.85")
    ax.tick_params(length=0)
figure

# %% [markdown]
# The forward pass *gathers*: an output collects what the window sees. The backward pass *scatters*: each
# entry of $g$ stamps the kernel into the image, as strongly as it is large, and stamps that overlap are
# added. This is the **transposed convolution**. As a layer of its own it makes images larger, in networks
# that draw.
#
# The same can be had by gathering. Which entries of $g$ reach the pixel $(h, w)$? Those at $(h - u, w - v)$,
# with the weight at $(u, v)$: the indices run the other way. So it is a correlation of $g$, in a frame of
# $k - 1$ zeros, with the kernel *turned by 180 degrees*, and with inputs and outputs exchanged. Here is the
# convolution of the mathematicians at last.

# %%
turned = weight.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1].copy()
g = rng.normal(size=(4, 8, 16, 16))
assert np.allclose(back(g, weight, 18), mg.conv2d(g, turned, padding=2).data)
J = Conv2d().jacobian(x[0], weight, None)[0]
assert np.allclose(back(g, weight, 18)[0].ravel(), g[0].ravel() @ J)

# %% [markdown]
# And with a stride of 2? The rows of $J$ that were left out send nothing back: put zeros between the entries
# of $g$, and go on as before. (If the stride does not divide evenly, then there are zeros at the end as
# well.)

# %%
g = rng.normal(size=(4, 8, 8, 8))
spread = np.zeros((4, 8, 16, 16))
spread[:, :, ::2, ::2] = g
assert np.allclose(back(g, weight, 18, stride=2), mg.conv2d(spread, turned, padding=2).data)

# %% [markdown]
# Transposed is not inverse. The name "deconvolution", which is sometimes heard, promises something that
# $J^{\mathsf T}$ does not keep: sharpening what was blurred.

# %%
blur = np.full((1, 1, 3, 3), 1 / 9)
there_and_back = back(mg.conv2d(digit, blur).data, blur, 8)
print(f"largest pixel {digit.max():.2f}, there and back {there_and_back.max():.2f}")
assert not np.allclose(there_and_back, digit)

# %% [markdown]
# ## The gradient of the weights is a correlation too
#
# A convolution is linear in the image, and also in the kernel. Its other Jacobian, $\partial y/\partial w$,
# needs no derivation: from $y = (\text{patches})\, w$ it is the matrix of patches.

# %%
x5 = rng.normal(size=(1, 1, 5, 5))
J_w = Conv2d().jacobian(x5[0], kernel, None)[1]
assert np.allclose(J_w.toarray(), patches(x5, 3, 3))

# %% [markdown]
# The row for the weights is $g$ times the patches. For one image and one channel
#
# $$\frac{\partial\ell}{\partial w_{uv}} = \sum_{p,q} g_{pq}\; x_{p+u,\,q+v},$$
#
# and that is the formula of a correlation again, with $g$ as the kernel: a large kernel, and as few outputs
# as there are weights. Each weight asks: how well does what came back match the image, when it is moved to my
# place?
#
# With a batch there is a sum over the images. A convolution sums over channels. So exchange the two axes, and
# call the images channels:

# %%
g = rng.normal(size=(4, 8, 16, 16))
exchanged = mg.conv2d(x.transpose(1, 0, 2, 3), g.transpose(1, 0, 2, 3)).data
by_engine = Conv2d().vjp(g, x, weight, None, None)[1]
assert np.allclose(by_engine, exchanged.transpose(1, 0, 2, 3))
assert all(mg.verify.gradient(mg.conv2d, *some, tolerance=1e-8))
print(x.shape, "by", g.shape, "to", by_engine.shape)

# %% [markdown]
# One operation so does all the three jobs of a training step, the forward pass and both gradients. That is
# why its speed is worth so much work, and why accelerators are built for it.
#
# ## Pooling
#
# A pool looks through windows as well, and keeps one number of each. The average is a convolution with a
# constant kernel, channel by channel. The maximum is not linear:

# %%
MaxPool2d(2).written(np.zeros((1, 6, 6)))[0]

# %% [markdown]
# But at a given image it *selects*, and a selection is a matrix with a single one in each row, at the winner.
# The matrix depends on the image, and so does the way back: the gradient goes to the winner, the others get
# nothing (TC-14).

# %%
x6 = rng.normal(size=(1, 6, 6))
J_max, J_mean = MaxPool2d(2).jacobian(x6), AvgPool2d(2).jacobian(x6)
assert np.array_equal(J_max.sum(axis=1), np.ones(9))
assert set(J_max.data) == {1}
assert np.allclose(J_max @ x6.ravel(), mg.max_pool2d(x6[None], 2).data.ravel())
other = rng.normal(size=(1, 6, 6))
assert (MaxPool2d(2).jacobian(other) != J_max).nnz > 0
assert (AvgPool2d(2).jacobian(other) != J_mean).nnz == 0

# %% tags=["hide-input"]
figure = mg.plots.figure((12, 8), dpi=72)
left, right = figure.subplots(2, 1)
for ax, matrix, title in ((left, J_max, "max-pool: 0 and 1"), (right, J_mean, "average pool: 0 and 1/4")):
    mg.plots.jacobian(matrix, outputs=(1, 3, 3), inputs=(1, 6, 6), ax=ax, values=False)
    ax.set_title(title, fontsize=18)
figure

# %% [markdown]
# In the upper matrix each row has a single entry, in one of the four places that it has in the lower one. A
# column of it without an entry is a pixel that has lost. If windows overlap, a pixel may win more than once,
# and gets the sum of the gradients:

# %%
peak = np.zeros((1, 1, 5, 5))
peak[0, 0, 2, 2] = 1
overlapping = MaxPool2d(3, stride=1)
columns = overlapping.jacobian(peak[0]).sum(axis=0).reshape(5, 5)
print(columns.astype(int))
assert columns[2, 2] == 9

# %% [markdown]
# ### A tie
#
# Where two pixels of a window are equal and largest, the maximum has no derivative, and a rule is needed:
# here the first one wins. That matters more often than one would think, for after a ReLU a window may well be
# all zeros. Tomasi's appendix takes the arg max over the values behind the ReLU, where it is then not unique.
# With his choice $h'(0) = 1$ the gradient depends on who is picked (T-10, T-11). The repair is to take the
# arg max over $a$ itself, before the ReLU; the maximum is the same. Two pixels, $a = (-1, 0)$:

# %%
a = np.array([-1.0, 0.0]).reshape(1, 1, 1, 2)
for name, pool in (
    ("ReLU, then the pool", lambda a: mg.max_pool2d(mg.relu(a), (1, 2))),
    ("arg max before ReLU", lambda a: mg.relu_max_pool2d(a, (1, 2))),
):
    leaf = mg.Tensor(a, requires_grad=True)
    y = pool(leaf)
    y.backward(np.ones_like(y.data))
    print(f"{name}: y = {y.data.item():.0f}, gradient {leaf.grad.ravel()}")

# %% [markdown]
# Same value, different gradients, and both can be defended; a kink has more than one slope. An engine has to
# say which one it takes.
#
# ## What a convolution cannot help doing
#
# Move the digit by two pixels. What happens to the response?

# %%
wide = np.pad(digit, ((0, 0), (0, 0), (4, 4), (4, 4)))
shifted = np.roll(wide, (1, 2), axis=(2, 3))
y, y_shifted = (mg.conv2d(image, edges, padding=1).data for image in (wide, shifted))
assert np.allclose(y_shifted, np.roll(y, (1, 2), axis=(2, 3)))

# %% tags=["hide-input"]
dense = rng.normal(size=(256, 256)) / 16
figure = mg.plots.figure((15, 9), dpi=60)
titles = ("image", "convolution", "any linear map")
for row, image in zip(figure.subplots(2, 3), (wide, shifted), strict=True):
    pictures = image, mg.conv2d(image, edges, padding=1).data, (dense @ image.ravel()).reshape(image.shape)
    for ax, picture, title in zip(row, pictures, titles, strict=True):
        bound = np.abs(picture).max()
        ax.imshow(picture[0, 0], cmap="gray_r" if title == "image" else "RdBu_r",
                  vmin=0 if title == "image" else -bound, vmax=bound)  # fmt: skip
        ax.set_title(f"{title}{'' if image is wide else ', shifted'}", fontsize=20)
        ax.set_xticks([])
        ax.set_yticks([])
figure

# %% [markdown]
# It moves along. With $S$ for the matrix of a shift, $J S x = S J x$: convolutions *commute with shifts*.
# This is called **equivariance**. A full layer (right) does nothing of the kind: for it a moved digit is
# another image, and it has to be taught each place on its own. (The digit has a wide margin here. At the
# border the zeros of the padding come in, and it is no longer exact.)
#
# Pools and strides commute less: with a stride of 2, moving the image by 2 moves the output by 1, and moving
# it by 1 gives something new.

# %%
pool = MaxPool2d(2)


def after_pool(image, by):
    """The pooled response to the image moved to the right by so many pixels."""
    return pool(mg.conv2d(np.roll(image, by, axis=3), edges, padding=1)).data


assert np.allclose(after_pool(wide, 2), np.roll(after_pool(wide, 0), 1, axis=3))
old, new = after_pool(wide, 0), after_pool(wide, 1)
gap = min(np.abs(new - np.roll(old, by, axis=3)).max() for by in range(8))
print(f"image moved by one: the pooled response differs from every shift of the old one, by {gap:.2f}")
moved = [np.roll(wide, by, axis=3) for by in range(-4, 5)]
everywhere = [mg.conv2d(image, edges, padding=1).data.max() for image in moved]
assert np.allclose(everywhere, everywhere[0])

# %% [markdown]
# The last line is the way from *equivariant* to *invariant*: the largest response over the whole image does
# not change at all wherever the digit is.
#
# ### And nothing else commutes
#
# The converse is true as well, and says why convolutions and nothing else are the layers for images. Let a
# linear map commute with all shifts (on a ring, so that there is no border). The image is a sum of single
# pixels, a single pixel is a shifted first pixel, so the answer to everything follows from the answer to one
# pixel, and that is the kernel. We can watch it happen: take any matrix, and average it over all shifts,
# $\frac1n\sum_s S^{-s} A\, S^s$. The average commutes with shifts. What does it look like?

# %%
n = 7
A = rng.normal(size=(n, n))
S = np.roll(np.eye(n), 1, axis=0)  # S x is x moved by one
shifts = [np.linalg.matrix_power(S, s) for s in range(n)]
average = sum(S_s.T @ A @ S_s for S_s in shifts) / n
assert np.allclose(average @ S, S @ average)
signal = rng.normal(size=n)
ring = np.concatenate([signal, signal[:-1]]).reshape(1, 1, 1, -1)
assert np.allclose(average @ signal, mg.conv2d(ring, average[0].reshape(1, 1, 1, n)).data.ravel())

# %% tags=["hide-input"]
figure = mg.plots.figure((13, 5), dpi=80)
left, right = figure.subplots(1, 2)
for ax, matrix, title in ((left, A, "any matrix A"), (right, average, "its average over all shifts")):
    mg.plots.jacobian(matrix, ax=ax)
    ax.set_title(title, fontsize=18)
figure

# %% [markdown]
# A Toeplitz matrix, on a ring: the numbers along each diagonal are equal. Of 49 numbers seven are left, and
# the convolution with them does what the matrix does. Whoever wants a layer that treats all places of an
# image alike has no other choice.
#
# ## What to remember
#
# A convolution is a sparse matrix with few different numbers in it, doubly block Toeplitz. Padding cuts
# entries off its rows, stride leaves rows out. The vector-Jacobian product is the transposed convolution:
# stamps of the kernel, or a correlation with the turned one. The gradient of the weights is a correlation of
# the image with what comes back. A max-pool is a matrix of zeros and ones that depends on the image.
# Convolutions commute with shifts, and they alone. One derives with the matrix, and computes with a product
# of patches.
#
# ## Exercises

# %% [markdown]
# ### Exercise 1: the matrix of one dimension
#
# Write the matrix of the correlation of a signal of length $n$ with a kernel of $k$ numbers, without padding:
# $y_p = \sum_u w_u x_{p+u}$.

# %% exercise="correlation_matrix"
def correlation_matrix(w, n):
    """The matrix (n - k + 1, n) of the correlation with w (k,), rows for outputs."""
    ### BEGIN SOLUTION
    return np.array([np.pad(w, (p, n - len(w) - p)) for p in range(n - len(w) + 1)])
    ### END SOLUTION

# %% check="correlation_matrix" points=1
_rng = np.random.default_rng(41)
_cases = [(_rng.normal(size=k), n) for k, n in ((1, 3), (2, 5), (3, 4), (4, 4), (3, 9))]
mg.verify.exercise(
    correlation_matrix, lambda w, n: Conv2d().jacobian(np.zeros((1, 1, n)), w.reshape(1, 1, 1, -1), None)[0], _cases,
    hint="in which row does the number w[u] stand in column u?",
)  # fmt: skip

# %% [markdown]
# ### Exercise 2: the way back
#
# One image, one channel, a stride $s$ in both directions, no padding. Given $g = \partial\ell/\partial y$,
# return $\partial\ell/\partial x$. Where the stride does not divide evenly, some pixels of the image get
# nothing.

# %% exercise="image_gradient"
def image_gradient(g, w, stride, H, W):
    """dl/dx (H, W) from g (P, Q), for the correlation of an image (H, W) with w (U, V)."""
    ### BEGIN SOLUTION
    gx = np.zeros((H, W))
    U, V = w.shape
    for p, q in np.ndindex(*g.shape):
        gx[stride * p : stride * p + U, stride * q : stride * q + V] += g[p, q] * w
    return gx
    ### END SOLUTION

# %% check="image_gradient" points=2
def image_gradient_of_the_engine(g, w, stride, H, W):
    image = np.zeros((1, 1, H, W))
    return Conv2d(stride).vjp(g[None, None], image, w[None, None], None, g[None, None])[0][0, 0]


_rng = np.random.default_rng(42)
_cases = []
for _stride, _U, _V, _H, _W in ((1, 3, 2, 4, 5), (2, 3, 3, 7, 9), (2, 2, 3, 7, 6), (3, 2, 1, 9, 6)):
    _P, _Q = (_H - _U) // _stride + 1, (_W - _V) // _stride + 1
    _cases.append((_rng.normal(size=(_P, _Q)), _rng.normal(size=(_U, _V)), _stride, _H, _W))
mg.verify.exercise(
    image_gradient, image_gradient_of_the_engine, _cases, hint="a stamp for each entry of g; where does it stand?"
)

# %% [markdown]
# ### Exercise 3: two layers, one kernel
#
# Without anything between them two convolutions are one. Which kernel does the same as a correlation with $a$
# followed by a correlation with $b$? (Two layers of $3\times3$ see as much as one of $5\times5$, with 18
# weights and not 25. What is lost? And what would a ReLU between them change?)

# %% exercise="composed"
def composed(a, b):
    """The kernel (m + r - 1, n + s - 1) of first correlating with a (m, n) and then with b (r, s)."""
    ### BEGIN SOLUTION
    kernel = np.zeros((a.shape[0] + b.shape[0] - 1, a.shape[1] + b.shape[1] - 1))
    for i, j in np.ndindex(*b.shape):
        kernel[i : i + a.shape[0], j : j + a.shape[1]] += b[i, j] * a
    return kernel
    ### END SOLUTION

# %% check="composed" points=2
def composed_by_matrices(a, b):
    shape = 1, *(m + r - 1 for m, r in zip(a.shape, b.shape, strict=True))
    first = Conv2d().jacobian(np.zeros(shape), a[None, None], None)[0]
    second = Conv2d().jacobian(np.zeros((1, *b.shape)), b[None, None], None)[0]
    return (second @ first).toarray().reshape(shape[1:])


_rng = np.random.default_rng(43)
_shapes = ((3, 3), (3, 3)), ((2, 3), (4, 1)), ((1, 2), (2, 2)), ((1, 1), (3, 2))
_cases = [(_rng.normal(size=m), _rng.normal(size=r)) for m, r in _shapes]
mg.verify.exercise(
    composed, composed_by_matrices, _cases, hint="which pixels does the output (0, 0) see, and by how many ways?"
)

# %% [markdown]
# ### Exercise 4: the matrix of a max-pool
#
# Write the 0/1 matrix of a max-pool with windows of $k\times k$ and a stride $s$ that may be smaller, on one
# channel, without padding. Of equal entries the first in the window wins, row by row.

# %% exercise="max_pool_matrix"
def max_pool_matrix(x, k, s):
    """The Jacobian (P Q, H W) of the max-pool at the image x (H, W)."""
    ### BEGIN SOLUTION
    H, W = x.shape
    P, Q = (H - k) // s + 1, (W - k) // s + 1
    J = np.zeros((P * Q, H * W))
    for p, q in np.ndindex(P, Q):
        u, v = divmod(int(x[s * p : s * p + k, s * q : s * q + k].argmax()), k)
        J[p * Q + q, (s * p + u) * W + s * q + v] = 1
    return J
    ### END SOLUTION

# %% check="max_pool_matrix" points=2
_rng = np.random.default_rng(44)
_cases = [(_rng.normal(size=size) - 2, k, s) for size, k, s in (((4, 6), 2, 2), ((5, 4), 3, 1), ((7, 6), 3, 2))]
_cases.append((np.array([[1.0, 1, 0], [0, 1, 1], [1, 0, 0]]), 2, 1))
mg.verify.exercise(
    max_pool_matrix, lambda x, k, s: MaxPool2d(k, s).jacobian(x[None]), _cases,
    hint="a row for each window; the column is the place of the winner in the image, not in the window",
)  # fmt: skip

# %% [markdown]
# ### Exercise 5: a ring
#
# Average a linear map of images of $m\times n$ pixels over all shifts of rows and columns, both on a ring,
# and return the kernel that is left: the weight with which output $(0, 0)$ sees the pixel $(h, w)$. There is
# no need to form any shift matrix.

# %% exercise="ring_kernel"
def ring_kernel(A):
    """The kernel (m, n) of the average over all shifts of A (m, n, m, n), A[p, q, h, w] from pixel h, w to p, q."""
    ### BEGIN SOLUTION
    m, n = A.shape[:2]
    kernel = np.zeros((m, n))
    for p, q in np.ndindex(m, n):
        kernel += np.roll(A[p, q], (-p, -q), axis=(0, 1))
    return kernel / (m * n)
    ### END SOLUTION

# %% check="ring_kernel" points=3
def ring_kernel_by_matrices(A):
    m, n = A.shape[:2]
    flat, total = A.reshape(m * n, m * n), 0
    for down, right in np.ndindex(m, n):
        S = np.kron(np.roll(np.eye(m), down, axis=0), np.roll(np.eye(n), right, axis=0))
        total = total + S.T @ flat @ S
    return total[0].reshape(m, n) / (m * n)


_rng = np.random.default_rng(45)
_cases = [(_rng.normal(size=(m, n, m, n)),) for m, n in ((2, 3), (3, 1), (4, 3))]
mg.verify.exercise(
    ring_kernel, ring_kernel_by_matrices, _cases, hint="by how much is the pixel away from the output, round the ring?"
)
