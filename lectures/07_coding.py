# %% [markdown]
# # 7. Entropy, Huffman codes and the cross-entropy loss
#
# *Why is the loss that nearly every classifier is trained with the logarithm of a probability, and what is
# its unit?*
#
# There are good reasons to like the cross-entropy loss: it is convex in the logits, its gradient is simply
# $p - e_y$, and it does not stall where a network is sure and wrong. None of them says where it comes from.
# It comes from a question that has nothing to do with learning: how many bits does it take to write something
# down? This lecture answers that question with a real code and real bits, and then reads the training loss of
# a network as the length of a message (Tomasi 2019, appendix A).

# %%
import numpy as np

import minigrad as mg
from minigrad import information

# %% [markdown]
# ## A source, and the cheapest way to write it down
#
# A source emits bits, one after the other, independently, each a one with probability $q = 0.1$. Written down
# as they come, a thousand of them take a thousand bits. But nine in ten are zeros, and a long row of zeros
# should be cheap to describe. The idea: take the bits in blocks of $m$, give short codewords to the likely
# blocks, and long ones to those that hardly ever come.
#
# Huffman (1952) found the best such code. Write down all the blocks with their probabilities, merge the two
# least likely ones into a node, and go on until one node is left. One step at a time, for blocks of two bits:

# %%
q = 0.1
nodes = {"00": 0.9 * 0.9, "01": 0.9 * 0.1, "10": 0.1 * 0.9, "11": 0.1 * 0.1}
merged = []
while len(nodes) > 1:
    a, b = sorted(nodes, key=nodes.get)[:2]
    nodes[f"({a} {b})"] = nodes.pop(a) + nodes.pop(b)
    merged.append(list(nodes.values())[-1])
    print(f"merge {a} and {b}: probability {merged[-1]:.2f}")
print(f"expected length: {' + '.join(f'{p:.2f}' for p in merged)} = {sum(merged):.2f} bits a block")

# %% [markdown]
# Each merge puts one more bit in front of every codeword under the new node, so each adds the probability of
# that node to the expected length. That is why the sum of the merged probabilities *is* the expected length
# (TC-24): 1.29 bits for two source bits, 0.645 for each. The library builds the same tree, and reads the
# codewords off it:

# %%
code = information.huffman_block_code(q, 2)
assert np.isclose(2 * code.rate, sum(merged))
for block, word in zip(("00", "01", "10", "11"), code.codewords, strict=True):
    print(f"{block} -> {word}")
print(f"{code.rate:.4f} bits a source bit; Kraft sum {code.kraft_sum:g}")

# %% tags=["hide-input"]
tree = information.huffman_block_code(q, 3).code
K, root = len(tree.probabilities), 2 * len(tree.probabilities) - 2
chance, place = [*tree.probabilities, *(0.0 for _ in tree.branches)], {}
ax = mg.plots.figure((13, 6), dpi=80).subplots()


def draw(node, depth):
    """Place a node over the middle of its children, and draw what is below it."""
    if node < K:
        place[node] = sum(leaf < K for leaf in place), -depth
        text = f"{node:03b}\n{chance[node]:.3f}"
    else:
        zero, one = tree.branches[node - K]
        draw(zero, depth + 1), draw(one, depth + 1)
        place[node] = (place[zero][0] + place[one][0]) / 2, -depth
        chance[node] = chance[zero] + chance[one]
        for child, bit in ((zero, "0"), (one, "1")):
            (x0, y0), (x1, y1) = place[node], place[child]
            ax.plot([x0, x1], [y0, y1], color="0.5", linewidth=2, zorder=1)
            ax.text((x0 + x1) / 2, (y0 + y1) / 2, bit, fontsize=16, ha="center", va="center",
                    bbox={"facecolor": "white", "linewidth": 0, "pad": 1})  # fmt: skip
        text = f"{chance[node]:.3f}"
    colour = mg.plots.OKABE_ITO["sky blue"] if node < K else "white"
    ax.text(*place[node], text, fontsize=15, ha="center", va="center",
            bbox={"boxstyle": "round", "facecolor": colour, "edgecolor": "0.3"})  # fmt: skip


draw(root, 0)
ax.set(xlim=(-0.5, K - 0.5), ylim=(min(y for _, y in place.values()) - 0.5, 0.4))
ax.set_axis_off()
ax.set_title("a Huffman code for blocks of three bits", fontsize=18)
ax.figure

# %% [markdown]
# No codeword is the beginning of another, since codewords stand at the leaves of a tree: above it is drawn
# for blocks of three, each node with its probability. So a decoder needs no commas: it walks down the tree,
# and when it arrives at a leaf a block is complete. And no room is wasted: every inner node has two children,
# which is what a Kraft sum $\sum_i 2^{-\ell_i}$ of exactly 1 says.
#
# ## A real stream, there and back
#
# Nothing convinces like a message that arrives. Ten thousand bits of the source, in blocks of six:

# %%
rng = np.random.default_rng(0)
message = (rng.random(10_000) < q).astype(np.uint8)
code = information.huffman_block_code(q, 6)
sent = code.encode(message)
assert np.array_equal(code.decode(sent), message)
print(f"{len(message)} bits were sent as {len(sent)}; expected: {len(message) * code.rate:.0f}")
print(f"(of these bits {message.mean():.2%} were ones)")

# %% [markdown]
# Less than half, and not a bit lost. (The stream also says how long the message is; without that the last,
# incomplete block could not be told from a complete one.)
#
# ## The limit
#
# Longer blocks do better. How far can that go? Shannon's answer is the *entropy* of the source (TC-25),
#
# $$H(q) = -q\log_2 q - (1-q)\log_2(1-q),$$
#
# bits a source bit, with $0\log 0 = 0$. A Huffman code of blocks of $m$ is never more than one bit *a block*
# above it:
#
# $$H(q) \le \frac{L_m}{m} < H(q) + \frac1m .$$

# %%
H = information.entropy_bits(q)
for m in (1, 2, 3, 6, 10):
    code = information.huffman_block_code(q, m)
    low, high = code.bounds
    assert low <= code.rate < high
    print(f"m = {m:2}: {len(code.codewords):4} codewords, {code.rate:.6f} bits a source bit")
print(f"{'the limit:':>22} {H:.6f}")

# %%
mg.plots.huffman_rate(q, blocks=range(1, 11)).figure

# %% [markdown]
# The points run down to the dashed line, but do not run down all the time: blocks of seven do slightly worse
# than blocks of six. The note says that the code becomes more and more efficient; what is guaranteed is the
# band alone (erratum T-23).

# %%
assert information.huffman_block_code(0.1, 7).rate > information.huffman_block_code(0.1, 6).rate
print([round(information.huffman_block_code(0.1, m).rate, 6) for m in (6, 7, 8)])

# %% [markdown]
# ## Entropy as surprise
#
# Read the formula as a mean: a one, which comes with probability $q$, costs $-\log_2 q$ bits, a zero costs
# $-\log_2(1-q)$. An event of probability $2^{-\ell}$ deserves a codeword of length $\ell$: halve the
# probability, add a bit. The rarer it is, the more it surprises, the longer its codeword may be. With
# $q = 1/2$ nothing can be saved, with $q = 0$ there is nothing to say:

# %%
assert information.entropy_bits(0.5) == 1.0
assert information.entropy_bits(0.0) == information.entropy_bits(1.0) == 0.0
mg.plots.entropy().figure

# %% [markdown]
# The slope at the ends is infinite, $H'(q) = \log_2\frac{1-q}{q}$. So even a source that is nearly certain is
# not nearly free: at $q = 0.01$ it still takes 0.08 bits a bit.
#
# For $k$ outcomes nothing changes but the number of terms (TC-27): $H(q) = -\sum_i q_i\log_2 q_i$, at most
# $\log_2 k$. (For two outcomes that is 1, reached at $q = 1/2$; the note prints a strict inequality, T-3.) A
# fair die has 2.585 bits.

# %%
fair = np.full(6, 1 / 6)
print(f"a fair die: {information.entropy_bits(fair):.3f} bits, log2 6 = {np.log2(6):.3f}")
loaded = np.array([0.5, 0.1, 0.1, 0.1, 0.1, 0.1])
die = information.huffman_code(loaded)
print(f"a loaded one: {information.entropy_bits(loaded):.3f} bits, its code {die.expected_length:.3f}:", *die.codewords)

# %% [markdown]
# ## The wrong code
#
# Now the step that leads to learning. Somebody builds the best code for a source with the probability $p$,
# but the truth is $q$. The codewords have lengths for $p$, the blocks come with the frequencies of $q$, and
# the price is the *cross-entropy* (TC-26):
#
# $$H(q, p) = -q\log_2 p - (1-q)\log_2(1-p) \;\ge\; H(q).$$
#
# The excess $H(q,p) - H(q)$ is the Kullback-Leibler divergence: what it costs not to know the truth.

# %%
for p in (0.1, 0.2, 0.5, 0.9):
    wrong = information.huffman_block_code(p, 12)
    price, wasted = information.cross_entropy_bits(q, p), information.kl_bits(q, p)
    print(f"built for {p}: {wrong.rate_for(q):.4f}; H({q}, {p}) = {price:.4f}, wasted {wasted:.4f}")

# %% [markdown]
# A real code, of blocks of twelve, pays nearly what the formula says, also where the formula says that
# compressing makes the message three times as long. (For a wrong code the formula is no lower bound. Lengths
# are whole numbers, and here their rounding happens to help.) The picture, for a code built for $p = 0.3$:

# %%
mg.plots.entropy(0.3).figure

# %% [markdown]
# As a function of the true $q$ the cross-entropy is a straight line, since lengths are fixed and frequencies
# weigh them. It touches the entropy at $q = p$ and lies above it everywhere else, because entropy is concave.
# That is the whole proof of $H(q,p)\ge H(q)$: a tangent of a concave curve.
#
# As a function of $p$, the other way round, its derivative is
#
# $$\frac{\partial H}{\partial p} = \frac1{\ln 2}\Big(\frac{1-q}{1-p} - \frac{q}{p}\Big),$$
#
# which is zero only at $p = q$. Whoever minimizes the cross-entropy over $p$ finds the truth. Keep that
# sentence.

# %%
p, h = 0.3, 1e-6
right, left = (information.cross_entropy_bits(q, at) for at in (p + h, p - h))
slope = (right - left) / (2 * h)
assert np.isclose(slope, information.cross_entropy_bits_slope(q, p))
assert information.cross_entropy_bits_slope(q, q) == 0

# %% [markdown]
# ## A classifier as a code
#
# Sender and receiver both have the images. The receiver wants the labels. They also share a network, which
# says for each image with what probabilities $p(x)$ the ten labels are to be expected; and they use, for each
# image, the best code for just these probabilities. The label $y$ then costs $-\log_2 p_y(x)$ bits.
#
# To the sender the label is no random thing: she knows it. Her distribution $q$ is $e_y$, all on one class,
# and has entropy 0. So the excess of the cross-entropy over the entropy is the cross-entropy itself (TC-28):
#
# $$\ell(y, p) = H(e_y, p) - H(e_y) = -\log p_y .$$
#
# The two cases of the two-class loss in the note lack the minus sign (erratum T-1); read as lengths of
# messages they cannot: lengths are not negative. And $0\log 0$ is 0, as for the entropy: what never happens
# costs nothing, even if it has an infinite codeword. A computer has to be told so (T-22), and the library
# selects the case instead. Here are its two losses:

# %%
mg.tables.formulas("two_class_cross_entropy", "cross_entropy")

# %% [markdown]
# It counts in *nats*, with the natural logarithm, because that has the simplest derivative. A nat is
# $1/\ln 2 = 1.44$ bits. That the loss is what the theory of codes says, and the gradient is what it should
# be, is checked, not believed:

# %%
rng = np.random.default_rng(1)
z, y = rng.normal(size=(5, 10)), rng.integers(0, 10, 5)
truths, said = np.eye(10)[y], mg.softmax(z).data
bits = [information.cross_entropy_bits(q, p) for q, p in zip(truths, said, strict=True)]
loss = mg.losses.CrossEntropy(reduction="none")
assert np.allclose(loss(z, y).data / np.log(2), bits)
mg.verify.gradient(lambda z: loss(z, y).sum(), z)[0]

# %% [markdown]
# ## Training, in bits
#
# A network that knows nothing says 1/10 for every label, and each label costs $\log_2 10 = 3.32$ bits.
# Training makes the message shorter. Let us watch it, in bits a label, for the digits that it is trained on,
# and for those that it has not seen:

# %%
train, validation, test = mg.data.digits()
nn = mg.nn
model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).reset(0)


def bits_a_label(data):
    """The mean length of the code that the network makes for the labels."""
    with mg.no_grad():
        return mg.losses.CrossEntropy()(model(data.x), data.y).item() / np.log(2)


optimizer = mg.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
lengths = [(bits_a_label(train), bits_a_label(validation))]
for epoch in range(12):
    for x, y in mg.data.batches(train, batch_size=32, rng=np.random.default_rng(epoch)):
        mg.losses.CrossEntropy()(model(x), y).backward()
        optimizer.step()
    lengths.append((bits_a_label(train), bits_a_label(validation)))
lengths = np.array(lengths)
seen, not_seen = lengths[-1]
print(f"before: {lengths[0, 1]:.2f} bits a label; after: {seen:.3f} seen, {not_seen:.3f} not seen")

# %% tags=["hide-input"]
ax = mg.plots.figure((10, 5), dpi=90).add_subplot()
for column, label, colour, marker in ((0, "seen in training", "blue", "o"), (1, "not seen", "vermilion", "s")):
    style = {"color": mg.plots.OKABE_ITO[colour], "linewidth": 2.5, "markersize": 8}
    ax.plot(lengths[:, column], marker=marker, label=label, **style)
ax.axhline(np.log2(10), color="0.4", linestyle=":", linewidth=2)
ax.text(12, 3, "no network: log2 10", ha="right", va="top", fontsize=16)
ax.set_yscale("log")
ax.set_yticks([0.03, 0.1, 0.3, 1, 3], ["0.03", "0.1", "0.3", "1", "3"])
ax.minorticks_off()
ax.set_xlabel("epoch", fontsize=16)
ax.set_ylabel("bits a label", fontsize=16)
ax.tick_params(labelsize=14)
ax.spines[["top", "right"]].set_visible(False)
ax.legend(fontsize=16, frameon=False, loc="lower left")
ax.figure

# %% [markdown]
# It begins above the dotted line: an untrained network is not without opinions, only without reasons. The gap
# between the curves is what the network has learned by heart. And the bits are real ones. For each label that
# was not seen, take the Huffman code for the ten probabilities that the network says, and send the labels:

# %%
with mg.no_grad():
    said = mg.softmax(model(validation.x).data.astype(float)).data
codes = [information.huffman_code(row / row.sum()) for row in said]
sent = "".join(code.codewords[y] for code, y in zip(codes, validation.y, strict=True))

rest, received = sent, []
for code in codes:
    received.append(next(y for y in range(10) if rest.startswith(code.codewords[y])))
    rest = rest[len(code.codewords[received[-1]]) :]
assert received == validation.y.tolist()
print(f"{len(validation)} labels in {len(sent)} bits, {len(sent) / len(validation):.2f} a label")

# %% [markdown]
# All labels arrived, and yet the loss promised fewer bits. A codeword has at least one bit, however sure the
# network is: this is the gap $1/m$ again, with $m = 1$. Blocks of labels would close it, but a block of five
# labels has 100,000 values.
#
# There is a way to code all the labels as *one* block without ever writing down its code. Cut the interval
# from 0 to 1 into ten pieces, as long as the probabilities of the first label; take the piece of the label
# that came, cut it in the same way for the second label, and so on. After all labels the piece is
# $\prod_n p_{y_n}$ long. Send a binary fraction that lies in it. A piece of length $2^{-\ell}$ or more has a
# fraction of $\ell$ digits in it, so that takes $-\log_2\prod_n p_{y_n}$ bits, rounded up. This is
# *arithmetic coding* (Rissanen 1976), and with Python's exact fractions it is short enough to be shown. Both
# sides must cut at exactly the same places, so the probabilities are first rounded to whole multiples of
# $2^{-40}$.

# %%
from fractions import Fraction
from math import ceil

ONE = 2**40
counts = np.maximum(1, np.rint(said * ONE).astype(int))
counts[np.arange(len(counts)), counts.argmax(axis=1)] += ONE - counts.sum(axis=1)
cuts = (np.cumsum(counts, axis=1) - counts).tolist()
counts = counts.tolist()

low, width = Fraction(0), Fraction(1)
for cut, count, y in zip(cuts, counts, validation.y.tolist(), strict=True):
    low, width = low + width * Fraction(cut[y], ONE), width * Fraction(count[y], ONE)
bits = (ceil(1 / width) - 1).bit_length()  # the smallest number with 2^-bits <= width
message = ceil(low * 2**bits)
print(f"{bits} bits: {message:0{bits}b}")

# %%
at, received = Fraction(message, 2**bits), []
for cut, count in zip(cuts, counts, strict=True):
    y = max(k for k in range(10) if cut[k] <= at * ONE)
    at = (at * ONE - cut[y]) / count[y]
    received.append(y)
assert received == validation.y.tolist()

promised = bits_a_label(validation) * len(validation)
print(f"the loss, in bits: {promised:.2f}; the message: {bits}")
assert promised - 1e-6 <= bits <= promised + 1

# %% [markdown]
# That row of zeros and ones, and the images, are 300 labels. The loss is not *like* the length of a message.
# It is the length of a message, up to the rounding of its last bit.
#
# ## Maximum likelihood
#
# So the shortest message and the most likely parameters are the same thing. The sum of the losses is
# $-\log\prod_n p_{y_n}(x_n)$, and to minimize it is to maximize the likelihood of the labels. The sentence
# that you were to keep says where that ends: at the truth, or as close to it as the network can come. Take a
# network that can do very little: it does not look at the images at all, has only two scores $z$, and is
# asked which of the digits are eights. One in ten is, which makes the labels a source like the one that we
# began with. With $q$ the frequencies of the two labels its risk is $H(q, p)$, the gradient is $p - q$, and
# so it learns the frequencies:

# %%
eights = (train.y == 8).astype(int)
frequency = eights.mean()
z = mg.Tensor(np.zeros((1, 2)), requires_grad=True)
for _ in range(400):
    mg.losses.CrossEntropy()(z + np.zeros((len(eights), 1)), eights).backward()
    z.data = z.data - 2 * z.grad
learned = mg.softmax(z).data[0, 1]
assert np.isclose(learned, frequency)
price = information.cross_entropy_bits(frequency, learned)
print(f"learned {learned:.4f}, in the data {frequency:.4f}")
print(f"the price of a label {price:.4f} bits, the entropy {information.entropy_bits(frequency):.4f}")

# %% [markdown]
# ## What to remember
#
# A probability is a length: $-\log_2 p$ bits. Entropy is the shortest mean length, cross-entropy the length
# of a code built for the wrong probabilities, and the divergence between them what ignorance costs. A
# classifier is a code for labels; its training loss, in nats, is the length of the message.
#
# ## Exercises

# %% [markdown]
# ### Exercise 1: entropy
#
# Write the entropy, in bits, of a distribution with $k$ outcomes, some of which may have probability 0.

# %% exercise="entropy"
def entropy(q):
    """The entropy in bits, a number, of the distribution q (k,)."""
    ### BEGIN SOLUTION
    positive = q[q > 0]
    return -np.sum(positive * np.log2(positive))
    ### END SOLUTION

# %% check="entropy" points=1
_rng = np.random.default_rng(2)
_cases = [np.array([0.25, 0.75]), np.array([0.5, 0.0, 0.5]), *(_rng.dirichlet(np.ones(k)) for k in (3, 5, 8))]
mg.verify.exercise(entropy, information.entropy_bits, _cases, hint="what is 0 log 0, and what does NumPy say it is?")

# %% [markdown]
# ### Exercise 2: the slope of the price
#
# You use a code for $p$ while the source has $q$, both distributions with $k$ outcomes. Let $p$ be the
# softmax of logits $z$. Write the gradient of the cross-entropy $H(q, p)$, in *bits*, with respect to the
# logits.

# %% exercise="price_slope"
def price_slope(q, z):
    """The gradient (k,) of H(q, softmax z) in bits with respect to z (k,); q (k,) is a distribution."""
    ### BEGIN SOLUTION
    p = np.exp(z - z.max())
    p /= p.sum()
    return (p - q) / np.log(2)
    ### END SOLUTION

# %% check="price_slope" points=2
def slope_of_the_engine(q, z):
    z = mg.Tensor(z, requires_grad=True)
    (mg.losses.CrossEntropy()(z.reshape(1, -1), q[None]) / np.log(2)).backward()
    return z.grad


_rng = np.random.default_rng(3)
_cases = [(_rng.dirichlet(np.ones(k)), _rng.normal(size=k)) for k in (2, 3, 7)]
_cases.append((np.array([0.0, 1.0, 0.0]), np.array([1000.0, -1000.0, 3.0])))
mg.verify.exercise(price_slope, slope_of_the_engine, _cases, hint="in nats you know it; how many bits is a nat?")

# %% [markdown]
# ### Exercise 3: the expected length of a Huffman code
#
# Write the expected length of the Huffman code for a distribution, without writing down a codeword: the sum
# of the probabilities of the nodes that are merged. (Python's `heapq` hands out the smallest of a heap.)

# %% exercise="huffman_length"
def huffman_length(probabilities):
    """The expected length, in bits a symbol, of the Huffman code for the probabilities (k,), k at least 2."""
    ### BEGIN SOLUTION
    import heapq

    heap, length = sorted(map(float, probabilities)), 0.0
    while len(heap) > 1:
        node = heapq.heappop(heap) + heapq.heappop(heap)
        length += node
        heapq.heappush(heap, node)
    return length
    ### END SOLUTION

# %% check="huffman_length" points=2
_rng = np.random.default_rng(4)
_cases = [np.array([0.5, 0.5]), np.array([0.7, 0.2, 0.1]), *(_rng.dirichlet(np.ones(k)) for k in (4, 9, 33))]
mg.verify.exercise(
    huffman_length, lambda p: information.huffman_code(p).expected_length, _cases,
    hint="a merged node goes back among the others, and may be merged again at once",
)  # fmt: skip

# %% [markdown]
# ### Exercise 4: blocks
#
# Write the probabilities of all $2^m$ blocks of $m$ independent bits, ones having probability $q$, in the
# order of the numbers that the blocks are in binary, and with that the rate, in bits a source bit, of the
# Huffman code of blocks of $m$ when the *code* was built for $p$ and the *source* has $q$.

# %% exercise="mismatched_rate"
def mismatched_rate(q, p, m):
    """Bits a source bit of the Huffman code for blocks of m bits that was built for p, on a source with q."""
    ### BEGIN SOLUTION
    ones = np.array([bin(block).count("1") for block in range(2**m)])
    lengths = information.huffman_code(p**ones * (1 - p) ** (m - ones)).lengths
    return (q**ones * (1 - q) ** (m - ones)) @ lengths / m
    ### END SOLUTION

# %% check="mismatched_rate" points=3
_cases = [(0.1, 0.1, 1), (0.1, 0.3, 2), (0.35, 0.2, 5), (0.9, 0.2, 4), (0.2, 0.85, 7)]
mg.verify.exercise(
    mismatched_rate, lambda q, p, m: information.huffman_block_code(p, m).rate_for(q), _cases,
    hint="who decides about the lengths, and who about how often each of them is paid?",
)  # fmt: skip
