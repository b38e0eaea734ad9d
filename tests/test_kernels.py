"""The kernels: the reference against naive loops, the compiled kernels against the reference, and their conduct."""

import contextlib
import ctypes
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest

from minigrad import _reference, kernels

needs_compiled = pytest.mark.skipif(not kernels.compiled(), reason="no compiled kernels")
BACKENDS = ["numpy", pytest.param("cython", marks=needs_compiled)]
DTYPES = [np.float64, np.float32]
VECTORS = (0, 32)  # bytes; 64 is what all other tests use, where the processor has it
UNIT, NONE = (1, 1), (0, 0)


def random(shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def assert_same(actual, expected, slack=1.0):
    """Equal up to rounding, relative to the largest entry; NaN and inf in the same places."""
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    assert actual.flags.c_contiguous
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(actual[~finite], expected[~finite])
    scale = max(1.0, np.abs(expected[finite]).max(initial=0.0))
    tolerance = slack * (1e-12 if expected.dtype == np.float64 else 2e-5)
    assert np.abs(actual[finite] - expected[finite]).max(initial=0.0) <= tolerance * scale


@pytest.fixture(autouse=True)
def restored():
    """Each test leaves backend and threads as it found them."""
    name, threads = kernels.backend(), kernels.num_threads()
    yield
    kernels.use_kernels(name)
    kernels.set_num_threads(threads)


@pytest.fixture(params=BACKENDS)
def backend(request):
    with kernels.use_kernels(request.param):
        yield request.param


# ------------------------------------------------------------------------------------------------------------
# The reference, against loops that a child could read
# ------------------------------------------------------------------------------------------------------------


def windows(x, kernel, stride, padding, dilation=UNIT):
    """Every window of the padded images, with its place: (p, q), (N, C, kh, kw)."""
    padded = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    p_count, q_count = (kernels.out_size(x.shape[2 + a], kernel[a], stride[a], padding[a], dilation[a]) for a in (0, 1))
    for p, q in itertools.product(range(p_count), range(q_count)):
        rows = p * stride[0] + np.arange(kernel[0]) * dilation[0]
        columns = q * stride[1] + np.arange(kernel[1]) * dilation[1]
        yield p, q, padded[:, :, rows[:, None], columns]


@pytest.mark.parametrize("stride", [UNIT, (2, 3)])
@pytest.mark.parametrize("padding", [NONE, (1, 2)])
@pytest.mark.parametrize("dilation", [UNIT, (2, 1)])
def test_reference_convolution_is_its_definition(stride, padding, dilation):
    x, weight, bias = random((2, 3, 7, 8)), random((4, 3, 3, 2), seed=1), random(4, seed=2)
    y = _reference.conv2d(x, weight, bias, stride, padding, dilation)
    g = random(y.shape, seed=3)
    gw = np.zeros_like(weight)
    for p, q, seen in windows(x, (3, 2), stride, padding, dilation):
        np.testing.assert_allclose(y[:, :, p, q], np.einsum("ncij,ocij->no", seen, weight) + bias, atol=1e-13)
        gw += np.einsum("no,ncij->ocij", g[:, :, p, q], seen)
    np.testing.assert_allclose(_reference.conv2d_weight(g, x, weight.shape, stride, padding, dilation), gw, atol=1e-12)
    gx = _reference.conv2d_input(g, weight, x.shape, stride, padding, dilation)
    assert gx.shape == x.shape
    direction = random(x.shape, seed=4)  # the input gradient is the transpose of a linear map
    forward = _reference.conv2d(direction, weight, None, stride, padding, dilation)
    np.testing.assert_allclose(np.vdot(gx, direction), np.vdot(g, forward), atol=1e-11)


@pytest.mark.parametrize("stride", [UNIT, (2, 3)])
@pytest.mark.parametrize("padding", [NONE, (1, 1)])
def test_reference_pools_are_their_definition(stride, padding):
    x = random((2, 3, 7, 8)) + 10  # above the zeros of the padding
    y, winners = _reference.max_pool2d(x, (3, 2), stride, padding)
    mean = _reference.avg_pool2d(x, (3, 2), stride, padding)
    for p, q, seen in windows(x, (3, 2), stride, padding):
        np.testing.assert_array_equal(y[:, :, p, q], seen.max(axis=(2, 3)))
        np.testing.assert_array_equal(winners[:, :, p, q], seen.reshape(2, 3, -1).argmax(axis=2))
        np.testing.assert_allclose(mean[:, :, p, q], seen.mean(axis=(2, 3)))
    g, direction = random(y.shape, seed=3), random(x.shape, seed=4)
    spread = _reference.avg_pool2d_input(g, x.shape, (3, 2), stride, padding)
    forward = _reference.avg_pool2d(direction, (3, 2), stride, padding)
    np.testing.assert_allclose(np.vdot(spread, direction), np.vdot(g, forward))
    moved = _reference.max_pool2d(x + 1e-7 * direction, (3, 2), stride, padding)[0]
    gx = _reference.max_pool2d_input(g, winners, x.shape, (3, 2), stride, padding)
    np.testing.assert_allclose(np.vdot(gx, direction), np.vdot(g, moved - y) / 1e-7, rtol=1e-5)


def test_reference_batch_norm_is_its_definition():
    x, weight, bias = random((6, 3, 2, 2)) * 2 + 5, random(3, seed=1), random(3, seed=2)
    y, mean, inv_std = _reference.batch_norm(x, weight, bias, 1e-5)
    np.testing.assert_allclose(mean, x.mean(axis=(0, 2, 3)))
    np.testing.assert_allclose(inv_std, 1 / np.sqrt(x.var(axis=(0, 2, 3)) + 1e-5))
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), bias, atol=1e-12)
    g = random(x.shape, seed=3)
    gx, gweight, gbias = _reference.batch_norm_input(g, x, weight, mean, inv_std)

    def loss(x, weight, bias):
        return np.vdot(g, _reference.batch_norm(x, weight, bias, 1e-5)[0])

    h = 1e-5
    for direction, gradient, shift in (
        (random(x.shape, seed=4), gx, lambda d: (x + d, weight, bias)),
        (random(3, seed=5), gweight, lambda d: (x, weight + d, bias)),
        (random(3, seed=6), gbias, lambda d: (x, weight, bias + d)),
    ):
        slope = (loss(*shift(h * direction)) - loss(*shift(-h * direction))) / (2 * h)
        np.testing.assert_allclose(np.vdot(gradient, direction), slope, rtol=1e-7, atol=1e-8)


# ------------------------------------------------------------------------------------------------------------
# The compiled kernels, against the reference
# ------------------------------------------------------------------------------------------------------------

# N, C, H, W, O. Together they have: rows of whole vectors and ragged ones, one filter and many, heights of tiles
# from 1 to 6, both ways to each gradient, sums longer than a block, several images in a block and parts of one.
SHAPES = [(3, 4, 9, 8, 5), (2, 1, 12, 31, 7), (1, 16, 10, 12, 6), (5, 3, 8, 16, 17), (2, 1, 5, 5, 1)]
DEEP = [(2, 40, 6, 8, 9), (2, 3, 6, 7, 330), (1, 18, 8, 8, 64), (7, 16, 7, 6, 5), (2, 19, 17, 18, 7)]
GEOMETRIES = [
    case
    for case in itertools.product(
        [(1, 1), (3, 3), (2, 3), (5, 4)], [UNIT, (2, 1), (3, 2)], [NONE, (1, 2)], [UNIT, (1, 2)]
    )
    if case[0] != (1, 1) or case[3] == UNIT
]


def compare_convolution(shape, kernel, stride, padding, dilation, dtype):
    n, c, h, w, o = shape
    x, weight, bias = random((n, c, h, w), dtype), random((o, c, *kernel), dtype, 1), random(o, dtype, 2)
    how = stride, padding, dilation
    y = _reference.conv2d(x, weight, bias, *how)
    g = random(y.shape, dtype, 3)
    with kernels.use_kernels("cython"):
        assert_same(kernels.conv2d(x, weight, bias, *how), y)
        assert_same(kernels.conv2d(x, weight, None, *how), _reference.conv2d(x, weight, None, *how))
        assert_same(
            kernels.conv2d_input(g, weight, x.shape, *how),
            _reference.conv2d_input(g, weight, x.shape, *how),
        )
        assert_same(
            kernels.conv2d_weight(g, x, weight.shape, *how),
            _reference.conv2d_weight(g, x, weight.shape, *how),
        )
        assert_same(kernels.conv2d_bias(g), _reference.conv2d_bias(g))


@needs_compiled
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_convolution(shape, dtype):
    for kernel, stride, padding, dilation in GEOMETRIES:
        if shape[2] + 2 * padding[0] >= kernel[0] and shape[3] + 2 * padding[1] > dilation[1] * (kernel[1] - 1):
            compare_convolution(shape, kernel, stride, padding, dilation, dtype)


@needs_compiled
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", DEEP)
@pytest.mark.parametrize("stride", [UNIT, (2, 2)])
def test_deep_convolution(shape, stride, dtype):
    compare_convolution(shape, (3, 3), stride, UNIT, UNIT, dtype)


@needs_compiled
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("images", [1, 2])
def test_more_padding_than_the_kernel_reaches(images, dtype):
    compare_convolution((images, 16, 5, 6, 4), (3, 3), UNIT, (4, 3), UNIT, dtype)


@contextlib.contextmanager
def vectors(size):
    """Let the tiles of products use vectors of at most `size` bytes; gives what they use."""
    from minigrad import _conv, _dense

    (used,) = {module.use_vectors(size) for module in (_conv, _dense)}
    try:
        yield used
    finally:
        for module in (_conv, _dense):
            module.use_vectors(64)


@needs_compiled
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES + DEEP)
@pytest.mark.parametrize("size", VECTORS)
def test_tiles(size, shape, dtype):
    with vectors(size) as used:
        compare_convolution(shape, (3, 3), UNIT, UNIT, UNIT, dtype)
        compare_convolution(shape, (2, 1), (2, 1), NONE, UNIT, dtype)
    assert used in (0, size)


@pytest.mark.parametrize("dtype", DTYPES)
def test_wide_winners_of_narrow_windows(backend, dtype):
    x = random((1, 2, 260, 40), dtype)
    how = (129, 2), (129, 2), NONE
    y, winners = kernels.max_pool2d(x, *how)
    g = random(y.shape, dtype)
    gx = kernels.max_pool2d_input(g, winners, x.shape, *how)
    np.testing.assert_array_equal(gx, _reference.max_pool2d_input(g, winners, x.shape, *how))
    assert winners.dtype == np.int32
    assert np.count_nonzero(gx) == y.size


@needs_compiled
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", [(1, 1), (1, 2), (2, 1), (2, 2), (3, 2), (2, 3), (5, 2), (5, 5), (9, 8)])
def test_pools(kernel, dtype):
    for stride, pad, shape in itertools.product(
        [UNIT, (2, 2), (1, 3), (3, 2), (50, 50)],
        [NONE, UNIT, (4, 3)],
        [(3, 4, 9, 8), (2, 1, 12, 31), (2, 2, 13, 37), (2, 1, 10, 40)],
    ):
        padding = min(pad[0], kernel[0] // 2), min(pad[1], kernel[1] // 2)
        how = kernel, stride, padding
        x = np.random.default_rng(0).integers(-3, 3, shape).astype(dtype)  # many ties
        x[0, 0], x[1, 0, 3:6, 3:6], x[1, 0, 0] = -np.inf, np.nan, np.inf
        y, winners = _reference.max_pool2d(x, *how)
        g, smooth = random(y.shape, dtype), random(shape, dtype)
        with kernels.use_kernels("cython"):
            ours, our_winners = kernels.max_pool2d(x, *how)
            np.testing.assert_array_equal(ours, y)
            np.testing.assert_array_equal(our_winners, winners)
            assert ours.dtype == dtype
            assert our_winners.dtype == winners.dtype == np.uint8
            assert_same(
                kernels.max_pool2d_input(g, winners, shape, *how),
                _reference.max_pool2d_input(g, winners, shape, *how),
            )
            assert_same(kernels.avg_pool2d(smooth, *how), _reference.avg_pool2d(smooth, *how))
            assert_same(kernels.avg_pool2d_input(g, shape, *how), _reference.avg_pool2d_input(g, shape, *how))


@needs_compiled
@pytest.mark.parametrize("dtype", DTYPES)
def test_squares_of_every_small_size_and_shared_by_threads(dtype):
    many = [(20, 10, 22, 22), (20, 10, 23, 27), (5000, 4, 2, 3)]  # enough work for a team
    kernels.set_num_threads(3)
    for shape in [(n, 2, h, w) for n in (1, 3) for h in range(2, 8) for w in range(2, 14)] + many:
        how = (2, 2), (2, 2), NONE
        x = np.random.default_rng(0).integers(-3, 3, shape).astype(dtype)
        y, winners = _reference.max_pool2d(x, *how)
        g = random(y.shape, dtype)
        gx = _reference.max_pool2d_input(g, winners, shape, *how)
        with kernels.use_kernels("cython"):
            ours, our_winners = kernels.max_pool2d(x, *how)
            np.testing.assert_array_equal(ours, y)
            np.testing.assert_array_equal(our_winners, winners)
            np.testing.assert_array_equal(kernels.max_pool2d_input(g, winners, shape, *how), gx)
            assert_same(kernels.avg_pool2d(x, *how), _reference.avg_pool2d(x, *how))
            assert_same(kernels.avg_pool2d_input(g, shape, *how), _reference.avg_pool2d_input(g, shape, *how))


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_window_has_wide_winners(backend, dtype):
    x = random((1, 2, 20, 21), dtype)
    y, winners = kernels.max_pool2d(x, (17, 16), (1, 2), (1, 1))
    assert winners.dtype == np.int32
    assert winners.max() > 255
    for p, q, seen in windows(x, (17, 16), (1, 2), (1, 1)):
        np.testing.assert_array_equal(winners[:, :, p, q], seen.reshape(1, 2, -1).argmax(axis=2))
    gx = kernels.max_pool2d_input(np.ones_like(y), winners, x.shape, (17, 16), (1, 2), (1, 1))
    assert gx.sum() == y.size
    assert (x[gx > 0][:, None] == y.ravel()).any(axis=1).all()


@needs_compiled
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(6, 4), (1, 3), (3, 4, 5, 6), (3, 4, 7), (100, 50), (8, 3, 20, 20), (2, 2, 1)])
def test_batch_norm(shape, dtype):
    x, g = random(shape, dtype) + dtype(3), random(shape, dtype, 1)
    weight, bias = random(shape[1], dtype, 2), random(shape[1], dtype, 3)
    y, mean, inv_std = _reference.batch_norm(x, weight, bias, 1e-5)
    with kernels.use_kernels("cython"):
        for ours, reference in zip(kernels.batch_norm(x, weight, bias, 1e-5), (y, mean, inv_std), strict=True):
            assert_same(ours, reference, slack=5)
        for ours, reference in zip(
            kernels.batch_norm_input(g, x, weight, mean, inv_std),
            _reference.batch_norm_input(g, x, weight, mean, inv_std),
            strict=True,
        ):
            assert_same(ours, reference, slack=5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_batch_norm_far_from_zero(backend, dtype):
    """Two passes: mean(x^2) - mean(x)^2 would have nothing left here."""
    x = (random((64, 2, 3, 3)) + 1e3).astype(dtype)
    ones = np.ones(2, dtype)
    _, _, inv_std = kernels.batch_norm(x, ones, ones, 0.0)
    np.testing.assert_allclose(inv_std, 1 / x.astype(np.float64).std(axis=(0, 2, 3)), rtol=1e-4)


# N, I, O. Together they have: sums longer than a block and of several, rows of more than a chunk, panels that are
# whole and ragged, tiles of 1 to 6 rows, both ways to share C.
MATRICES = [(1, 1, 1), (5, 3, 2), (32, 16, 16), (100, 61, 10), (7, 331, 33), (13, 2, 40), (3, 700, 5), (800, 40, 9)]


def compare_affine(n, i, o, dtype, layout=lambda a: a):
    x, weight, bias, g = random((n, i), dtype), random((o, i), dtype, 1), random(o, dtype, 2), random((n, o), dtype, 3)
    given = [layout(a) for a in (x, weight, bias, g)]
    with kernels.use_kernels("cython"):
        assert_same(kernels.affine(*given[:3]), _reference.affine(x, weight, bias))
        assert_same(kernels.affine(*given[:2], None), _reference.affine(x, weight, None))
        for asked in itertools.product([True, False], repeat=3):
            ours = kernels.affine_vjp(given[3], given[0], given[1], *asked)
            for mine, reference in zip(ours, _reference.affine_vjp(g, x, weight, *asked), strict=True):
                assert (mine is None) == (reference is None)
                if mine is not None:
                    assert_same(mine, reference)


@needs_compiled
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", MATRICES)
def test_affine(shape, dtype):
    compare_affine(*shape, dtype)
    for threads in (2, 3):
        kernels.set_num_threads(threads)
        compare_affine(*shape, dtype)


@needs_compiled
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(150, 333, 101), (101, 60, 500)])
def test_affine_in_parts(shape, dtype):
    """Large enough for several threads; both longer sides."""
    for threads in (1, 2, 3, 16):
        kernels.set_num_threads(threads)
        compare_affine(*shape, dtype)


@needs_compiled
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", MATRICES)
@pytest.mark.parametrize("size", VECTORS)
def test_affine_with_tiles(size, shape, dtype):
    with vectors(size) as used:
        compare_affine(*shape, dtype)
    assert used in (0, size)


@needs_compiled
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_width_of_vectors_leaves_the_bits(dtype):
    x, weight, bias, how = random((3, 18, 9, 9), dtype), random((7, 18, 3, 3), dtype), random(7, dtype), (UNIT,) * 3
    found = []
    for size in (32, 64):
        with vectors(size):
            y = kernels.conv2d(x, weight, bias, *how)
            gradients = kernels.conv2d_input(y, weight, x.shape, *how), kernels.conv2d_weight(y, x, weight.shape, *how)
            found.append([y, *gradients, kernels.affine(x[0, 0], weight[0, :, 0].repeat(3, axis=1), None)])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


@needs_compiled
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("turn", [np.asfortranarray, lambda a: a[..., ::-1].copy()[..., ::-1], lambda a: strided(a)])
def test_affine_of_any_strides(turn, dtype):
    for shape in MATRICES:
        compare_affine(*shape, dtype, turn)
    row = np.broadcast_to(random(16, dtype), (32, 16))
    assert_same(kernels.affine(row, row[:5], None), _reference.affine(row, row[:5], None))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (32, 3), (7, 31), (5, 32), (4, 33), (3, 64), (128, 10), (6, 1000)])
def test_cross_entropy(backend, shape, dtype):
    z = random(shape, dtype) * dtype(3)
    z[0] = z[0, 0]  # many that are largest
    labels = np.random.default_rng(1).integers(shape[1], size=shape[0])
    losses, slopes = kernels.cross_entropy(z, labels)
    exact = z.astype(np.longdouble)
    p = np.exp(exact - exact.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    rows = np.arange(len(z))
    assert_same(losses, -np.log(p[rows, labels]).astype(dtype))
    p[rows, labels] -= 1
    assert_same(slopes, p.astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_small_losses_and_slopes_are_accurate(backend, dtype):
    """The label is sure: loss and slope are about the other e, far below the spacing of numbers at 1."""
    for classes in (3, 40):
        z = np.zeros((2, classes), dtype)
        z[:, 1] = 30
        losses, slopes = kernels.cross_entropy(z, np.array([1, 2]))
        other = np.exp(-30.0)
        np.testing.assert_allclose(losses, [(classes - 1) * other, 30], rtol=1e-6)
        np.testing.assert_allclose(slopes[0, 1], -(classes - 1) * other, rtol=1e-6)
        np.testing.assert_allclose(slopes[0, 2:], other, rtol=1e-6)
        np.testing.assert_allclose(slopes[1, 2], -1, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 31), (2, 32), (4, 33), (5, 2500), (300, 784)])
def test_binary_cross_entropy(backend, shape, dtype):
    """Each digit of value and slope, for logits whose e^-|z| is tiny or 1; a label in between has sigma(z) - r = 0."""
    z = random(shape, dtype) * dtype(20)
    z.ravel()[::7] = 0
    r = np.random.default_rng(1).choice([0, 0, 1, 1, 0.25], size=shape).astype(dtype)
    kernels.set_num_threads(2)
    losses, slopes = kernels.binary_cross_entropy(z, r)
    exact, q = z.astype(np.longdouble), r.astype(np.longdouble)
    sure = np.log1p(np.exp(-abs(exact))) + abs(exact) * np.where(z > 0, 1 - q, q)
    e = np.exp(-abs(exact))
    near, far = 1 / (1 + e), e / (1 + e)
    rtol = 1e-13 if dtype == np.float64 else 5e-6
    np.testing.assert_allclose(losses, sure.sum(axis=1), rtol=rtol)
    exact = np.where(z > 0, (1 - q) * near - q * far, (1 - q) * far - q * near)
    between = r == 0.25
    np.testing.assert_allclose(slopes[~between], exact[~between], rtol=rtol, atol=np.finfo(dtype).tiny)
    np.testing.assert_allclose(slopes[between], exact[between], rtol=0, atol=rtol)
    assert losses.dtype == slopes.dtype == dtype


def test_binary_cross_entropy_at_the_ends(backend):
    """A loss is as small as the probability of being wrong, and infinite only for a label that is impossible."""
    z = np.array([[800.0, -800.0], [40.0, -40.0], [np.inf, -np.inf], [np.inf, 0.0], [np.nan, 0.0]])
    r = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    losses, slopes = kernels.binary_cross_entropy(z, r)
    np.testing.assert_allclose(losses, [0, 2 * np.exp(-40.0), 0, np.inf, np.nan], rtol=1e-15)
    np.testing.assert_allclose(slopes[1], [-np.exp(-40.0), np.exp(-40.0)], rtol=1e-15)
    np.testing.assert_array_equal(slopes[2:4], [[0, 0], [1, 0.5]])


@needs_compiled
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (3, 4, 5), (700, 900)])
def test_gradients_of_transfer_functions(shape, dtype):
    a, g = 3 * random(shape, dtype), random(shape, dtype, 1)
    for threads in (1, 3):
        kernels.set_num_threads(threads)
        for layout in (np.asarray, fortran, lambda v: np.repeat(v[..., None], 2, axis=-1)[..., 0]):
            parts = [layout(v) for v in (g, a)]
            with kernels.use_kernels("cython"):
                np.testing.assert_array_equal(kernels.relu(parts[1]), np.maximum(a, 0))
                np.testing.assert_array_equal(kernels.relu_vjp(*parts), np.where(a >= 0, g, 0))
                ours = kernels.tanh_vjp(*parts)
            exact = g.astype(np.longdouble) / np.cosh(a.astype(np.longdouble)) ** 2
            assert ours.dtype == dtype
            np.testing.assert_allclose(ours, exact, rtol=4e-15 if dtype == np.float64 else 2e-6)


def test_gradients_of_transfer_functions_at_the_ends(backend):
    a, g = np.array([-0.0, 0.0, -1e-300, np.nan, -np.inf, np.inf, 1.0, -1.0]), np.array([2.0] * 6 + [np.inf] * 2)
    np.testing.assert_array_equal(kernels.relu_vjp(g, a), [2, 2, 0, 0, 0, 2, np.inf, 0])
    np.testing.assert_array_equal(kernels.relu(a), [0, 0, 0, np.nan, 0, np.inf, 1, 0])
    a = np.array([0.0, 19.5, -300.0, np.inf, np.nan, 1.0])
    slope = kernels.tanh_vjp(np.ones(6), a)
    exact = [1, 4 * np.exp(-39), 4 * np.exp(-600), 0, np.nan, 1 / np.cosh(1) ** 2]
    np.testing.assert_allclose(slope, exact, rtol=1e-14)
    assert kernels.relu_vjp(np.ones((2, 3)), np.ones(3)).shape == (2, 3)  # left to NumPy
    assert kernels.tanh_vjp(np.ones(3, "f"), np.ones(3)).dtype == np.float64
    np.testing.assert_array_equal(kernels.relu(np.array([-2, 3])), [0, 3])
    assert kernels.relu_vjp(np.ones(0), np.ones(0)).shape == (0,)


def parameters(dtype, shapes=((3, 4, 2), (5,), (), (1, 7))):
    return [[random(shape, dtype, 10 * k + i) for i, shape in enumerate(shapes)] for k in range(3)]


RULES = [(0.1, 0.9, 0.0, False), (0.1, 0.9, 0.01, False), (0.2, 0.5, 0.01, True), (0.3, 0.0, 0.0, False)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("lr", "mu", "decay", "nesterov"), RULES)
@pytest.mark.parametrize("momentum", [True, False])
def test_sgd_is_its_definition(backend, dtype, lr, mu, decay, nesterov, momentum):
    weights, gradients, velocities = parameters(dtype)
    before = [a.copy() for a in (*weights, *gradients, *velocities)]
    kernels.sgd(weights, gradients, velocities if momentum else None, lr, mu, decay, nesterov)
    count = len(weights)
    for k in range(count):
        w, g, v = before[k], before[count + k], before[2 * count + k]
        step = lr * (g + decay * w)
        if momentum:
            v = mu * v - step
            w = w + (mu * v - step if nesterov else v)
        else:
            w = w - step
        assert_same(weights[k], w.astype(dtype))
        assert_same(velocities[k], v.astype(dtype))
        np.testing.assert_array_equal(gradients[k], g)


def test_sgd_takes_any_layout_and_precision(backend):
    """Strided weights, mixed precisions and numbers for gradients: what the compiled kernel leaves to NumPy."""
    w, v = np.ones((4, 6))[:, ::2], np.zeros((4, 3), np.float32)
    kernels.sgd([w, np.ones(())], [np.ones((4, 3), np.float32), 1.0], [v, np.zeros(())], 0.5, 0.9, 0.0, False)
    np.testing.assert_array_equal(w, 0.5)
    np.testing.assert_array_equal(v, -0.5)


def test_sgd_changes_all_or_nothing(backend):
    w = [np.ones(3), np.ones((2, 3))]
    with pytest.raises(ValueError, match=r"sgd: weight 1 is \(2, 3\), its gradient \(3, 2\)"):
        kernels.sgd(w, [np.ones(3), np.ones((3, 2))], None, 0.1, 0.0, 0.0, False)
    with pytest.raises(ValueError, match="its velocity"):
        kernels.sgd(w, w, [np.ones(3), np.ones(3)], 0.1, 0.0, 0.0, False)
    with pytest.raises(ValueError, match="as many"):
        kernels.sgd(w, w[:1], None, 0.1, 0.0, 0.0, False)
    assert all((a == 1).all() for a in w)


@needs_compiled
def test_sgd_with_threads():
    found = []
    for threads in (1, 2, 3):
        kernels.set_num_threads(threads)
        weights, gradients, velocities = parameters(np.float32, ((700, 500), (3,), (999,)))
        kernels.sgd(weights, gradients, velocities, 0.1, 0.9, 0.01, True)
        found.append([*weights, *velocities])
    for one, *others in zip(*found, strict=True):
        for other in others:
            np.testing.assert_array_equal(one, other)


# ------------------------------------------------------------------------------------------------------------
# Ties, NaN and inf
# ------------------------------------------------------------------------------------------------------------


def test_ties_and_padding(backend):
    x = np.array([[[[1.0, 1.0], [1.0, 1.0]]]])
    _, winners = kernels.max_pool2d(x, (2, 2), (2, 2), NONE)
    assert winners.item() == 0
    y, winners = kernels.max_pool2d(np.full((1, 1, 4, 4), -np.inf), (3, 3), (2, 2), UNIT)
    np.testing.assert_array_equal(y, -np.inf)
    np.testing.assert_array_equal(winners[0, 0], [[4, 3], [1, 0]])
    y, _ = kernels.max_pool2d(np.full((1, 1, 4, 4), -5.0), (3, 3), (2, 2), UNIT)
    np.testing.assert_array_equal(y, -5.0)
    np.testing.assert_array_equal(kernels.avg_pool2d(np.ones((1, 1, 2, 2)), (2, 2), (2, 2), UNIT), 0.25)


def test_nan_wins_and_the_last_of_several(backend):
    x = np.array([[[[np.inf, np.nan], [np.nan, 3.0]]]])
    y, winners = kernels.max_pool2d(x, (2, 2), (2, 2), NONE)
    assert np.isnan(y).all()
    assert winners.item() == 2


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_goes_where_it_belongs(backend, bad):
    weight = np.ones((7, 1, 3, 3))
    x = np.zeros((1, 1, 11, 13))
    x[0, 0, 5, 6] = bad
    touched = ~np.isfinite(kernels.conv2d(x, weight, None, UNIT, NONE, UNIT))
    assert touched.sum() == 7 * 9
    assert touched[:, :, 3:6, 4:7].all()
    g = np.zeros((1, 7, 9, 11))
    g[0, 0, 4, 5] = bad
    touched = ~np.isfinite(kernels.conv2d_input(g, weight, x.shape, UNIT, NONE, UNIT))
    assert touched.sum() == 9
    gw = kernels.conv2d_weight(g, np.ones_like(x), weight.shape, UNIT, NONE, UNIT)
    assert not np.isfinite(gw[0]).any()
    assert np.isfinite(gw[1:]).all()
    gb = kernels.conv2d_bias(g)
    assert not np.isfinite(gb[0])
    assert np.isfinite(gb[1:]).all()
    ones = np.ones(2)
    x, g, weight = np.zeros((9, 5)), np.zeros((9, 20)), np.ones((20, 5))
    x[7, 2] = g[4, 18] = bad
    touched = ~np.isfinite(kernels.affine(x, weight, None))
    assert touched[7].all()
    assert touched.sum() == 20
    gx, gw, gb = kernels.affine_vjp(g, np.ones_like(x), weight, True, True, True)
    for gradient, axis, at in ((gx, 0, 4), (gw, 0, 18), (gb, 0, 18)):
        assert not np.isfinite(gradient.take(at, axis)).any()
        assert np.isfinite(np.delete(gradient, at, axis)).all()
    for classes in (3, 70):
        for at in range(classes):
            z = np.zeros((2, classes))
            z[0, at] = bad
            losses, slopes = kernels.cross_entropy(z, np.zeros(2, int))
            assert np.isnan(losses[0])
            assert np.isnan(slopes[0]).all()
            assert np.isfinite(losses[1])
            assert np.isfinite(slopes[1]).all()
    y, mean, inv_std = kernels.batch_norm(np.array([[bad, 1.0], [0.0, 2.0]]), ones, ones, 1e-5)
    assert not np.isfinite(y[:, 0]).any()
    assert np.isfinite(y[:, 1]).all()
    assert not np.isfinite(mean[0])
    assert np.isfinite(inv_std[1])


# ------------------------------------------------------------------------------------------------------------
# Conduct: any layout of the inputs, none of them changed or shared, threads, fork
# ------------------------------------------------------------------------------------------------------------


def calls(dtype, batch=3):
    """Every kernel with good arguments: name, arrays, the rest."""
    x, weight, bias = random((batch, 4, 9, 8), dtype), random((5, 4, 3, 3), dtype, 1), random(5, dtype, 2)
    conv = (2, 1), (1, 1), (1, 1)
    g = random((batch, 5, 5, 8), dtype, 3)
    pool = (3, 2), (2, 2), (1, 1)
    y, winners = _reference.max_pool2d(x, *pool)
    gy, scale, shift = random(y.shape, dtype, 4), random(4, dtype, 5), random(4, dtype, 6)
    _, mean, inv_std = _reference.batch_norm(x, scale, shift, 1e-5)
    return [
        ("conv2d", (x, weight, bias), conv),
        ("conv2d_input", (g, weight), (x.shape, *conv)),
        ("conv2d_weight", (g, x), (weight.shape, *conv)),
        ("conv2d_bias", (g,), ()),
        ("max_pool2d", (x,), pool),
        ("max_pool2d_input", (gy, winners), (x.shape, *pool)),
        ("avg_pool2d", (x,), pool),
        ("avg_pool2d_input", (gy,), (x.shape, *pool)),
        ("batch_norm", (x, scale, shift), (1e-5,)),
        ("batch_norm_input", (random(x.shape, dtype, 7), x, scale, mean, inv_std), ()),
        ("cross_entropy", (random((batch, 70), dtype), np.arange(batch) % 70), ()),
        ("affine", (random((batch, 17), dtype), random((19, 17), dtype, 1), random(19, dtype, 2)), ()),
        (
            "affine_vjp",
            (random((batch, 19), dtype), random((batch, 17), dtype, 1), random((19, 17), dtype, 2)),
            (True, True, True),
        ),
    ]


def results(name, arrays, rest):
    result = getattr(kernels, name)(*arrays, *rest)
    return result if isinstance(result, tuple) else (result,)


def strided(a):
    """The same values in every second place of a larger array."""
    return np.repeat(a, 2, axis=-1)[..., ::2]


def fortran(a):
    return np.asfortranarray(a)


def unaligned(a):
    raw = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    raw[...] = a
    return raw


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", [strided, fortran, unaligned, read_only])
def test_any_layout_gives_the_same_bits(backend, layout, dtype):
    for name, arrays, rest in calls(dtype):
        for a, b in zip(results(name, arrays, rest), results(name, tuple(map(layout, arrays)), rest), strict=True):
            np.testing.assert_array_equal(a, b, err_msg=name)


@pytest.mark.parametrize("dtype", DTYPES)
def test_inputs_are_neither_changed_nor_shared(backend, dtype):
    for name, arrays, rest in calls(dtype):
        before = [a.copy() for a in arrays]
        for result in results(name, arrays, rest):
            assert result.flags.c_contiguous
            assert result.flags.writeable
            assert result.flags.owndata or result.base.base is None
            assert not any(np.shares_memory(result, a) for a in arrays)
            result[...] = 1
        for a, b in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=name)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_batch_is_its_images(backend, dtype):
    """One image alone gives what it gives in a batch, for all that do not sum over the batch."""
    for name, arrays, rest in calls(dtype):
        if name not in ("conv2d", "max_pool2d", "avg_pool2d"):
            continue
        whole = results(name, arrays, rest)
        alone = results(name, (arrays[0][1:2].copy(), *arrays[1:]), rest)
        for a, b in zip(whole, alone, strict=True):
            np.testing.assert_allclose(a[1:2], b, rtol=1e-5)


@needs_compiled
@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_agree_and_repeat_their_bits(dtype):
    one, many = [], []
    for threads, found in ((1, one), (2, many), (3, many), (2, many)):
        kernels.set_num_threads(threads)
        for case in calls(dtype, batch=4000):
            found.append(results(*case))
    count = len(one)
    for i in range(count):
        for single, two, three, again in zip(one[i], many[i], many[count + i], many[2 * count + i], strict=True):
            np.testing.assert_array_equal(two, again)
            scale = np.abs(single).max()
            np.testing.assert_allclose(two / scale, single / scale, atol=1e-5)
            np.testing.assert_allclose(three / scale, single / scale, atol=1e-5)


def test_number_of_threads():
    kernels.set_num_threads(3)
    assert kernels.num_threads() == (3 if kernels.openmp() else 1)
    for bad in (0, -1, 5000):
        with pytest.raises(ValueError, match="set_num_threads"):
            kernels.set_num_threads(bad)
    with pytest.raises(TypeError):
        kernels.set_num_threads(1.5)


def run(code, **environment):
    """What `code` prints in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


FORK = """
import os, numpy as np
from minigrad import kernels
kernels.set_num_threads(2)
x, w = np.ones((64, 4, 20, 20)), np.ones((8, 4, 3, 3))
how = (1, 1), (1, 1), (1, 1)
work = lambda: (kernels.conv2d(x, w, None, *how), kernels.max_pool2d(x, (2, 2), (2, 2), (0, 0))[0],
                kernels.batch_norm(x, np.ones(4), np.ones(4), 1e-5)[0],
                kernels.affine(np.ones((200, 300)), np.ones((100, 300)), None))
parent = work()
child = os.fork()
if child == 0:
    kernels.set_num_threads(2)
    same = all(np.allclose(a, b) for a, b in zip(work(), parent))
    os._exit(0 if same and kernels.num_threads() == 1 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), kernels.num_threads())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork_after_a_parallel_region():
    assert run(FORK) == ["0", "2" if kernels.openmp() else "1"]


def test_environment():
    code = "from minigrad import kernels; print(kernels.backend(), kernels.num_threads())"
    threads = "3" if kernels.openmp() else "1"
    assert run(code, MINIGRAD_KERNELS="numpy", MINIGRAD_NUM_THREADS="3") == ["numpy", threads]


def keeps_large_arrays():
    """Whether this is a glibc that can be asked to keep arrays of more than 32 MB."""
    try:
        return bool(ctypes.CDLL(None).mallopt(-3, 256 << 20))
    except (OSError, AttributeError):
        return False


FRESH_PAGES = """
import resource, numpy as np
import minigrad
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for size in (1 << 20, 5 << 20):  # 8 MB and 40 MB
    np.ones(size)
    before = faults()
    for _ in range(5):
        np.ones(size)
    print(faults() - before)
"""


@pytest.mark.skipif(not keeps_large_arrays(), reason="another C library")
def test_freed_memory_is_kept():
    assert all(int(pages) < 10 for pages in run(FRESH_PAGES))
    assert all(int(pages) >= 10 for pages in run(FRESH_PAGES, MINIGRAD_KEEP_MEMORY="0"))


# ------------------------------------------------------------------------------------------------------------
# Choosing, and refusing
# ------------------------------------------------------------------------------------------------------------


def test_use_kernels():
    with kernels.use_kernels("numpy"):
        assert kernels.backend() == "numpy"
        with kernels.use_kernels("auto"):
            assert kernels.backend() == ("cython" if kernels.compiled() else "numpy")
        assert kernels.backend() == "numpy"
    kernels.use_kernels("numpy")
    assert kernels.backend() == "numpy"
    with pytest.raises(ValueError, match="use_kernels: expected 'auto'"):
        kernels.use_kernels("fortran")
    if not kernels.compiled():
        with pytest.raises(ValueError, match="compiled"):
            kernels.use_kernels("cython")


def test_out_size():
    assert kernels.out_size(28, 5, 1, 0) == 24
    assert kernels.out_size(7, 3, 2, 1) == 4
    assert kernels.out_size(7, 3, 1, 0, 3) == 1
    for bad in ((0, 1, 1, 0), (5, 0, 1, 0), (5, 1, 0, 0), (5, 1, 1, -1), (5, 6, 1, 0), (5, 2, 1, 0, 5)):
        with pytest.raises(ValueError, match="out_size"):
            kernels.out_size(*bad)


X, W, B = np.ones((2, 3, 6, 7)), np.ones((4, 3, 3, 3)), np.ones(4)
G = np.ones((2, 4, 4, 5))
MAX = np.ones((2, 3, 3, 3))
FIRST = np.zeros((2, 3, 3, 3), np.uint8)
C3 = np.ones(3)
Z, L2 = np.ones((2, 3)), np.array([0, 1])

REFUSED = [
    ("conv2d", (X, W, B, UNIT, (-1, 0), UNIT), ValueError, "padding must be at least 0"),
    ("conv2d", (X, W, B, (0, 1), NONE, UNIT), ValueError, "stride must be at least 1"),
    ("conv2d", (X, W, B, UNIT, NONE, (1, -2)), ValueError, "dilation must be at least 1"),
    ("conv2d", (X, W, B, 1, NONE, UNIT), TypeError, "stride must be a pair of integers, got 1"),
    ("conv2d", (X, W, B, (1.0, 1), NONE, UNIT), TypeError, "stride must be a pair of integers"),
    ("conv2d", (X, W, B, (2**70, 1), NONE, UNIT), ValueError, "less than 2\\^31"),
    ("conv2d", (X, W, B, UNIT, NONE, (3, 1)), ValueError, "kernel must fit into the padded input"),
    ("conv2d", (X[:0], W, B, UNIT, NONE, UNIT), ValueError, "x is empty"),
    ("conv2d", (X, W[:, :, :0], B, UNIT, NONE, UNIT), ValueError, "weight is empty"),
    ("conv2d", (X[0], W, B, UNIT, NONE, UNIT), ValueError, "x must have 4 axes.*N = 1 for a single image"),
    ("conv2d", (X, W[0, 0], B, UNIT, NONE, UNIT), ValueError, "weight must have 4 axes"),
    ("conv2d", (X.astype(int), W, B, UNIT, NONE, UNIT), TypeError, "x must be float32 or float64, got int64"),
    ("conv2d", (X.astype(">f8"), W, B, UNIT, NONE, UNIT), TypeError, "x must be float32 or float64"),
    ("conv2d", (X, W.astype("f"), B, UNIT, NONE, UNIT), TypeError, "one dtype, got weight in float32"),
    ("conv2d", (X, W, B.astype("f"), UNIT, NONE, UNIT), TypeError, "one dtype, got bias"),
    ("conv2d", (X.tolist(), W, B, UNIT, NONE, UNIT), TypeError, "NumPy array, got list"),
    ("conv2d", (X, W, B[:3], UNIT, NONE, UNIT), ValueError, "one entry for each of 4 channels, got 3"),
    (
        "conv2d",
        (np.ones((32, 28, 28, 3)), np.ones((8, 3, 5, 5)), None, UNIT, NONE, UNIT),
        ValueError,
        r"conv2d: weight has 3 input channels, x has 28 \(shapes \(8, 3, 5, 5\) and \(32, 28, 28, 3\)\): "
        r"channels come second; use x.transpose\(0, 3, 1, 2\)",
    ),
    ("conv2d", (X, np.ones((4, 2, 3, 3)), B, UNIT, NONE, UNIT), ValueError, "weight has 2 input channels"),
    ("conv2d_input", (G[:, :, 1:], W, X.shape, UNIT, NONE, UNIT), ValueError, r"g must have the shape"),
    ("conv2d_input", (G, W, X.shape[1:], UNIT, NONE, UNIT), ValueError, "x_shape must be four sizes"),
    ("conv2d_input", (G, W, (2, 3, 6.0, 7), UNIT, NONE, UNIT), TypeError, "x_shape must be four integers"),
    ("conv2d_input", (G, W, (2, 3, 0, 7), UNIT, NONE, UNIT), ValueError, "at least 1"),
    ("conv2d_input", (G, W, (2, 5, 6, 7), UNIT, NONE, UNIT), ValueError, "weight has 3 input channels, x has 5"),
    ("conv2d_input", (G.astype("f"), W, X.shape, UNIT, NONE, UNIT), TypeError, "one dtype"),
    ("conv2d_weight", (G, X, (4, 3, 2, 3), UNIT, NONE, UNIT), ValueError, "g must have the shape"),
    ("conv2d_weight", (G, X, (4, 3, 0, 3), UNIT, NONE, UNIT), ValueError, "at least 1"),
    ("conv2d_weight", (G, X[:1], W.shape, UNIT, NONE, UNIT), ValueError, "g must have the shape"),
    ("conv2d_bias", (G[0],), ValueError, "g must have 4 axes"),
    ("conv2d_bias", (G[:0],), ValueError, "g is empty"),
    ("max_pool2d", (X, (2, 2), (2, 2), (2, 0)), ValueError, "at most half of the kernel"),
    ("max_pool2d", (X, (8, 2), (2, 2), NONE), ValueError, "kernel must fit"),
    ("max_pool2d", (X, (0, 2), (2, 2), NONE), ValueError, "kernel must be at least 1"),
    ("max_pool2d", (X[0], (2, 2), (2, 2), NONE), ValueError, "4 axes"),
    ("max_pool2d", (X.astype(np.float16), (2, 2), (2, 2), NONE), TypeError, "float16"),
    ("max_pool2d_input", (MAX, FIRST + 4, X.shape, (2, 2), (2, 2), NONE), ValueError, "winners must be 0 to 3"),
    ("max_pool2d_input", (MAX, FIRST.astype(int), X.shape, (2, 2), (2, 2), NONE), TypeError, "array of uint8"),
    ("max_pool2d_input", (MAX, None, X.shape, (2, 2), (2, 2), NONE), TypeError, "array of uint8, got NoneType"),
    ("max_pool2d_input", (MAX, FIRST[1:], X.shape, (2, 2), (2, 2), NONE), ValueError, "winners must have the"),
    ("max_pool2d_input", (MAX[1:], FIRST, X.shape, (2, 2), (2, 2), NONE), ValueError, "g must have the shape"),
    ("avg_pool2d", (X, (2, 2), (2, 2), (0, -1)), ValueError, "padding must be at least 0"),
    ("avg_pool2d", (X, (2, 20), (2, 2), (0, 1)), ValueError, "kernel must fit"),
    ("avg_pool2d_input", (MAX, (2, 3, 6), (2, 2), (2, 2), NONE), ValueError, "x_shape"),
    ("avg_pool2d_input", (MAX, (2, 3, 9, 9), (2, 2), (2, 2), NONE), ValueError, "g must have the shape"),
    ("batch_norm", (C3, C3, C3, 1e-5), ValueError, "x must have 2 axes"),
    ("batch_norm", (X, B, C3, 1e-5), ValueError, "weight must have one entry for each of 3 channels, got 4"),
    ("batch_norm", (X, C3, C3, -1.0), ValueError, "eps must be at least 0"),
    ("batch_norm", (X, C3, C3, float("nan")), ValueError, "eps must be at least 0"),
    ("batch_norm", (X[:, :, :0], C3, C3, 1e-5), ValueError, "x is empty"),
    ("batch_norm", ([1.0], C3, C3, 1e-5), TypeError, "NumPy array, got list"),
    ("affine", (X[0], Z, None), ValueError, "x must have 2 axes"),
    ("affine", (Z[:0], Z, None), ValueError, "x is empty"),
    ("affine", (Z.astype(int), Z, None), TypeError, "x must be float32 or float64"),
    ("affine", (Z, Z.astype("f"), None), TypeError, "one dtype, got weight in float32"),
    ("affine", (Z, Z.T, None), ValueError, "weight has 2 columns, x has 3"),
    ("affine", (Z, Z, C3), ValueError, "bias must have one entry for each of 2 channels, got 3"),
    ("affine", (Z, Z, C3[:2].astype("f")), TypeError, "one dtype, got bias"),
    ("affine", (Z.tolist(), Z, None), TypeError, "NumPy array, got list"),
    ("affine_vjp", (Z, Z, Z, True, True, True), ValueError, "g has 3 columns, the output has 2"),
    ("affine_vjp", (Z[:1, :2], Z, Z, True, True, True), ValueError, "g has 1 rows, x has 2"),
    ("affine_vjp", (Z[:, :2], Z, Z.T, True, True, True), ValueError, "weight has 2 columns, x has 3"),
    ("affine_vjp", (None, Z, Z, True, True, True), TypeError, "g must be a NumPy array, got NoneType"),
    ("cross_entropy", (X[0], L2), ValueError, "z must have 2 axes"),
    ("cross_entropy", (Z[:0], L2[:0]), ValueError, "z is empty"),
    ("cross_entropy", (Z.astype(int), L2), TypeError, "z must be float32 or float64"),
    ("cross_entropy", (Z, [0, 1]), TypeError, "labels must be an array of whole numbers, got list"),
    ("cross_entropy", (Z, L2.astype(float)), TypeError, "labels must be an array of whole numbers, got float64"),
    ("cross_entropy", (Z, L2[:1]), ValueError, r"one entry for each of 2 rows, got shape \(1,\)"),
    ("cross_entropy", (Z, L2 + 2), ValueError, "labels must be 0 to 2, got"),
    ("cross_entropy", (Z, L2 - 1), ValueError, "labels must be 0 to 2, got -1"),
    ("batch_norm_input", (X[:1], X, C3, C3, C3), ValueError, "g must have the shape of x"),
    ("batch_norm_input", (X, X, C3, B, C3), ValueError, "mean must have one entry"),
    ("batch_norm_input", (X, X, C3, C3.astype("f"), C3), TypeError, "one dtype, got mean"),
]


@pytest.mark.parametrize(("name", "arguments", "error", "words"), REFUSED)
def test_refusals(backend, name, arguments, error, words):
    with pytest.raises(error, match=words) as caught:
        getattr(kernels, name)(*arguments)
    assert str(caught.value).startswith(f"{name}: ")


HUGE = 2**31 - 1
SHUT = (ValueError, TypeError, MemoryError, OverflowError)


@needs_compiled
def test_compiled_functions_survive_nonsense():
    """Called directly, without the checks of `minigrad.kernels`, they refuse; no address leaves its array."""
    from minigrad import _conv, _dense, _loss, _norm, _pointwise, _pool, _update

    pairs = [(0, 1), (-1, -1), (2**62, 2**62), (HUGE, HUGE), (2**70, 1), "ab", None, (1,)]
    shapes = [(2, 3, 6), (0, 3, 6, 7), (2, 3, -6, 7), (2, 3, 2**62, 7), (HUGE, 3, HUGE, HUGE), None]
    for bad in pairs:
        for how in ((bad, NONE, UNIT), (UNIT, bad, bad), (UNIT, NONE, bad)):
            if how == ((HUGE, HUGE), NONE, UNIT):
                continue  # a stride may be long
            with pytest.raises(SHUT):
                _conv.conv2d(X, W, B, *how)
            with pytest.raises(SHUT):
                _conv.conv2d_input(G, W, X.shape, *how)
            with pytest.raises(SHUT):
                _conv.conv2d_weight(G, X, W.shape, *how)
        for how in ((bad, UNIT, NONE), ((2, 2), UNIT, bad)):
            if bad in ((0, 1), (HUGE, HUGE)) and how[2] == bad:
                continue  # good padding for an average, if there is the memory
            with pytest.raises(SHUT):
                _pool.max_pool2d(X, *how)
            with pytest.raises(SHUT):
                _pool.max_pool2d_input(MAX, FIRST, X.shape, *how)
            with pytest.raises(SHUT):
                _pool.avg_pool2d_input(MAX, X.shape, *how)
    for shape in shapes:
        with pytest.raises(SHUT):
            _conv.conv2d_input(G, W, shape, UNIT, NONE, UNIT)
        with pytest.raises(SHUT):
            _conv.conv2d_weight(G, X, shape, UNIT, NONE, UNIT)
        with pytest.raises(SHUT):
            _pool.max_pool2d_input(MAX, FIRST, shape, (2, 2), (2, 2), NONE)
        with pytest.raises(SHUT):
            _pool.avg_pool2d_input(MAX, shape, (2, 2), (2, 2), NONE)
    for arguments in ((X[:0], W, B), (X, W[:0], B), (X, W, B[:2]), (X, W.astype("f"), B), (None, W, B), (X[0], W, B)):
        with pytest.raises(SHUT):
            _conv.conv2d(*arguments, UNIT, NONE, UNIT)
    with pytest.raises(SHUT):
        _conv.conv2d_bias(G[:0])
    with pytest.raises(SHUT):
        _pool.max_pool2d(X[:0], (2, 2), (2, 2), NONE)
    wild = np.full(MAX.shape, 255, np.uint8)
    assert not _pool.max_pool2d_input(MAX, wild, X.shape, (2, 2), (2, 2), NONE).any()
    assert not _pool.max_pool2d_input(MAX, wild.astype(np.int32) - 999, X.shape, (2, 2), (2, 2), NONE).any()
    for arguments in ((X, B, C3), (X, C3, B), (X[:0], C3, C3), (C3, C3, C3), (None, C3, C3), (np.float64(1), C3, C3)):
        with pytest.raises((*SHUT, AttributeError, IndexError)):
            _norm.batch_norm(*arguments, 1e-5)
    for arguments in ((X[:1], X, C3, C3, C3), (X, X, B, C3, C3), (X, X, C3, C3, B), (X, X[:, :, :0], C3, C3, C3)):
        with pytest.raises(SHUT):
            _norm.batch_norm_input(*arguments)
    for arguments in (
        (Z[0], Z, None), (Z, Z.T, None), (Z, Z, C3), (Z, Z[:0], None), (Z[:, :0], Z[:, :0], None), (None, Z, None),
        (Z.astype("i4"), Z, None), (Z.astype("f"), Z, None), (Z, Z, B[:2].astype("f")), (unaligned(Z), Z, None),
    ):  # fmt: skip
        with pytest.raises((*SHUT, AttributeError)):
            _dense.affine(*arguments)
    for g, x, weight in ((Z, Z, Z), (Z[:1, :2], Z, Z), (Z[:, :2], Z[:, :2], Z), (Z[:0, :2], Z[:0], Z), (None, Z, Z)):
        with pytest.raises((*SHUT, AttributeError)):
            _dense.affine_vjp(g, x, weight, True, True, True)
    for arguments in (
        (None, L2), (Z, None), (Z[0], L2), (Z, L2[:1]), (Z, L2 + 2), (Z, L2 - 1), (Z, L2 + 2**62), (Z[:0], L2[:0]),
        (Z[:, :0], L2), (Z.astype("i4"), L2), (Z.astype(">f8"), L2), (Z, Z[0]), (Z.T, L2), (Z.astype("f2"), L2),
        (unaligned(Z), L2), (Z, unaligned(L2)), (Z.astype("f"), unaligned(L2)),
    ):  # fmt: skip
        with pytest.raises((*SHUT, AttributeError)):
            _loss.cross_entropy(*arguments)
    for z, r in (
        (None, Z), (Z, None), (Z, Z[:1]), (Z, Z[:, :1]), (Z[:0], Z[:0]), (Z, Z.astype("f")), (Z, Z[0]), (Z.T, Z.T),
    ):  # fmt: skip
        with pytest.raises((*SHUT, AttributeError)):
            _loss.binary_cross_entropy(z, r)
    for a in (None, 1.0, Z[0], Z.T, Z[:, ::-1], Z.astype("f"), Z.astype(int), Z.astype(">f8"), unaligned(Z)):
        for function in (_pointwise.relu_vjp, _pointwise.tanh_vjp):
            with pytest.raises((*SHUT, AttributeError, BufferError)):
                function(Z, a)
    for a in (None, 1.0, Z.T, Z[:, ::-1], Z.astype(int), Z.astype(">f8"), unaligned(Z)):
        with pytest.raises((*SHUT, AttributeError, BufferError)):
            _pointwise.relu(a)
    w, bad = [np.ones(3)], [None, 1.0, np.ones(4), np.ones(3, "f"), np.ones(3, int), np.ones(3, ">f8"), np.ones(6)[::2]]
    for a in bad:
        for lists in (([a], w, w), (w, [a], w), (w, w, [a]), (w, w, []), (w, [], w), ([], w, None), (w, w * 2, None)):
            with pytest.raises((*SHUT, AttributeError, BufferError)):
                _update.sgd(*lists, 0.1, 0.9, 0.0, False)
    with pytest.raises((*SHUT, BufferError)):
        _update.sgd([read_only(w[0])], w, None, 0.1, 0.9, 0.0, False)
    _update.sgd([], [], [], 0.1, 0.9, 0.0, False)
    _update.sgd([np.ones(0)], [np.ones(0)], None, 0.1, 0.9, 0.0, False)
    np.testing.assert_array_equal(w[0], 1)


@needs_compiled
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_exponentials_of_the_kernels_are_right_to_the_last_bits(dtype):
    """tanh' a = 4 e / (1 + e)^2 with e = exp(-2|a|) is 4 e where e is small: down to the smallest numbers there are."""
    smallest = 51 if dtype == np.float32 else 371  # a little above half the logarithm of the smallest number
    a = np.linspace(0, smallest, 40_001).astype(dtype)
    with kernels.use_kernels("cython"):
        ours = kernels.tanh_vjp(np.ones_like(a), a)
    e = np.exp(-2 * a.astype(np.longdouble))
    exact = 4 * e / (1 + e) ** 2
    unit = np.maximum(np.spacing(exact.astype(dtype)), np.finfo(dtype).smallest_subnormal)
    assert np.max(np.abs(ours - exact) / unit) < (4 if np.finfo(np.longdouble).nmant > 60 else 6)
