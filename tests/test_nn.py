"""Layers against hand-computed numbers, closed forms and, where it is installed, PyTorch."""

import copy
import pickle

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.ops import transfer


def rng(seed=0):
    return np.random.default_rng(seed)


def small():
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1),
        nn.BatchNorm2d(2),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(32, 3),
    ).reset(0)


# Modules ----------------------------------------------------------------------------------------------------


def test_parameters_are_named_in_order_and_shared_ones_count_once():
    class Twice(nn.Module):
        def __init__(self):
            self.blocks = [nn.Linear(2, 2, seed=0), {"inner": nn.Linear(2, 2, bias=False, seed=1)}]
            self.again = self.blocks[0]
            self.scale = nn.Parameter(np.ones(1))

        def forward(self, x):
            return self.again(self.blocks[0](x)) * self.scale

    model = Twice()
    names = ["scale", "blocks.0.weight", "blocks.0.bias", "blocks.1.inner.weight"]
    assert [name for name, _ in model.named_parameters()] == names
    x = rng().normal(size=(3, 2))
    first = model.blocks[0]
    W, b = first.weight.data, first.bias.data
    np.testing.assert_allclose(model(x).data, (x @ W.T + b) @ W.T + b, rtol=1e-14)
    model(x).sum().backward()
    assert first.weight.grad.shape == (2, 2)


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match="define forward"):
        nn.Module()(np.ones(2))


def test_train_and_eval_reach_every_module():
    model = nn.Sequential(nn.Sequential(nn.Dropout()), nn.ReLU())
    assert all(module.training for module in model.modules())
    assert model.eval() is model
    assert not any(module.training for module in model.modules())
    model.train()
    assert all(module.training for module in model.modules())


def test_sequential_indexes_slices_iterates_and_names():
    model = nn.Sequential(nn.Linear(2, 3, seed=0), nn.ReLU(), read_out=nn.Linear(3, 1, seed=0))
    assert len(model) == 3
    assert model[0] is model["0"]
    assert model[-1] is model["read_out"]
    assert list(model[1:]) == [model[1], model[2]]
    x = rng().normal(size=(4, 2))
    np.testing.assert_array_equal(model[:2](x).data, np.maximum(model[0](x).data, 0))
    with pytest.raises(TypeError, match=r"nn\.ReLU"):
        nn.Sequential(np.tanh)


def test_an_error_inside_a_sequential_names_the_layer():
    with pytest.raises(ValueError, match=r"Linear\(32, 3\): expected \(\.\.\., 32\), got \(1, 18\)") as caught:
        small()(np.ones((1, 1, 3, 3)))
    assert caught.value.__notes__ == ["in layer 5, Linear(32, 3)"]


def test_repr_shows_what_was_asked_for():
    assert repr(nn.Conv2d(3, 8, kernel_size=5)) == "Conv2d(3, 8, kernel_size=5)"
    assert (
        repr(nn.Conv2d(3, 8, (5, 3), stride=2, bias=False)) == "Conv2d(3, 8, kernel_size=(5, 3), stride=2, bias=False)"
    )
    assert repr(nn.LeakyReLU(0.2)) == "LeakyReLU(beta=0.2)"
    assert repr(nn.Sequential(nn.ReLU(), nn.Sequential(nn.Tanh()))) == (
        "Sequential(\n  (0): ReLU()\n  (1): Sequential(\n    (0): Tanh()\n  )\n)"
    )


def test_every_transfer_operation_has_its_layer():
    for name in transfer.__all__:
        operation, layer = getattr(transfer, name), getattr(nn, name)()
        a = np.array([[-2.0, 0.5, 3.0]])
        trained = [parameter.data for parameter in layer.parameters()]  # a slope
        np.testing.assert_array_equal(layer(a).data, operation().forward(a, *trained))


def test_a_layer_for_a_new_operation_is_one_line():
    class Root(nn.Function, of=mg.registry["sqrt"]):
        """The square root."""

    assert Root()(np.array([4.0])).item() == 2
    assert repr(Root()) == "Root()"


# Saving and loading -----------------------------------------------------------------------------------------


def test_save_and_load_give_the_same_bits(tmp_path):
    model, other = small(), small().reset(1)
    model(rng().normal(size=(6, 1, 4, 4)))  # moves the running statistics
    model.save(tmp_path / "model.npz")
    other.load(tmp_path / "model.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["model.npz"]
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], array)
    assert "1.running_var" in model.state_dict()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_share_nothing_and_compute_the_same(copied):
    model, x = small(), rng().normal(size=(3, 1, 4, 4))
    other = copied(model)
    np.testing.assert_array_equal(other(x).data, model(x).data)  # the masks too
    other[0].weight.data[...] = 0
    assert model[0].weight.data.all()


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    model = small()
    path = tmp_path / "model.npz"
    model.save(path)
    before = path.read_bytes()
    monkeypatch.setattr(np, "savez", lambda file, **arrays: file.write(b"half") and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.save(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.npz"]


def test_load_state_dict_names_everything_that_is_wrong_and_changes_nothing():
    model = small()
    state = small().reset(1).state_dict()
    del state["0.bias"]
    state["5.weight"] = np.ones((3, 31))
    state["extra"] = np.ones(2)
    before = model.state_dict()
    with pytest.raises(ValueError) as caught:
        model.load_state_dict(state)
    for words in ("missing 0.bias (2,)", "unexpected extra (2,)", "5.weight is (3, 32) here and (3, 31) there"):
        assert words in str(caught.value)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_state_dict_is_a_copy():
    model = small()
    state = model.state_dict()
    state["0.weight"][...] = 7
    assert not (model[0].weight.data == 7).any()


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "model.npz"
    path.write_bytes(b"<html>")
    with pytest.raises(ValueError, match=r"model\.npz"):
        small().load(path)
    with pytest.raises(FileNotFoundError):
        small().load(tmp_path / "none.npz")


def test_astype_converts_all_and_computes_in_it():
    model = small().astype(np.float32)
    assert {array.dtype for array in model.state_dict().values()} == {np.dtype(np.float32)}
    x = rng().normal(size=(3, 1, 4, 4)).astype(np.float32)
    for mode in (True, False):
        y = model.train(mode)(x)
        assert y.dtype == np.float32
        y.sum().backward()
        assert {p.grad.dtype for p in model.parameters()} == {np.dtype(np.float32)}
    with pytest.raises(TypeError, match="int64"):
        model.astype(int)


# Randomness -------------------------------------------------------------------------------------------------


def test_one_number_seeds_a_network_and_the_dtype_does_not_matter():
    one, two, other = small().reset(5), small().reset(5), small().reset(6)
    for name, array in one.state_dict().items():
        np.testing.assert_array_equal(two.state_dict()[name], array)
    assert not np.array_equal(one[0].weight.data, other[0].weight.data)
    x = rng().normal(size=(3, 1, 4, 4))
    np.testing.assert_array_equal(one(x).data, two(x).data)  # the masks too
    single = small().astype(np.float32).reset(5)
    np.testing.assert_allclose(single[0].weight.data, one[0].weight.data, rtol=1e-6)


def test_layers_of_one_generator_differ_and_of_one_seed_agree():
    shared = rng()
    a, b = nn.Linear(3, 3, rng=shared), nn.Linear(3, 3, rng=shared)
    assert not np.array_equal(a.weight.data, b.weight.data)
    np.testing.assert_array_equal(nn.Linear(3, 3, seed=1).weight.data, nn.Linear(3, 3, seed=1).weight.data)
    with pytest.raises(TypeError, match="one of them"):
        nn.Linear(3, 3, rng=shared, seed=1)


def test_reset_seeds_the_random_ties_of_a_pool():
    model = nn.Sequential(nn.MaxPool2d(2, ties="random", rng=rng(3))).reset(4)
    assert model.generators() == [model[0].operation.rng]
    assert model[0].operation.rng.bit_generator.state == np.random.default_rng(4).bit_generator.state


@pytest.mark.parametrize(
    ("name", "variance", "largest"),
    [
        ("glorot_uniform", 2 / (400 + 300), np.sqrt(6 / 700)),
        ("glorot_normal", 2 / (400 + 300), np.inf),
        ("he_uniform", 2 / 400, np.sqrt(6 / 400)),
        ("he_normal", 2 / 400, np.inf),
        ("uniform", 1 / 3, 1),
        ("zeros", 0, 0),
    ],
)
def test_initializers_have_their_variance(name, variance, largest):
    weight = nn.Linear(400, 300, init=name, seed=0).weight.data
    assert weight.shape == (300, 400)
    assert weight.var() == pytest.approx(variance, rel=0.02)  # 120,000 draws: within 0.5%
    assert abs(weight.mean()) <= 4 * np.sqrt(variance / weight.size)
    assert abs(weight).max() <= largest
    if np.isfinite(largest):
        assert abs(weight).max() >= 0.999 * largest


def test_fans_of_a_convolution_count_the_taps():
    weight = nn.Conv2d(20, 30, (3, 5), init="he_normal", seed=0).weight.data
    assert weight.var() == pytest.approx(2 / (20 * 15), rel=0.05)
    weight = nn.Conv2d(20, 30, (3, 5), init="glorot_uniform", seed=0).weight.data
    assert abs(weight).max() == pytest.approx(np.sqrt(6 / (15 * 50)), rel=1e-3)


def test_init_may_be_a_function_and_an_unknown_name_is_refused():
    layer = nn.Linear(2, 3, init=lambda rng, shape: np.full(shape, 7.0))
    assert (layer.weight.data == 7).all()
    assert (layer.bias.data == 0).all()
    with pytest.raises(ValueError, match="glorot_uniform"):
        nn.Linear(2, 3, init="xavier")


# The layers -------------------------------------------------------------------------------------------------


def test_linear_is_w_x_plus_b():
    layer = nn.Linear(2, 2)
    layer.weight.data = np.array([[1.0, 2.0], [3.0, 4.0]])
    layer.bias.data = np.array([10.0, 20.0])
    np.testing.assert_array_equal(layer([[1.0, -1.0]]).data, [[9.0, 19.0]])
    assert nn.Linear(2, 2, bias=False).bias is None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nn.Linear(0, 2), "in_features"),
        (lambda: nn.Linear(2, 2.5), "2.5"),
        (lambda: nn.Linear(2, 2, dtype=int), "int"),
        (lambda: nn.Conv2d(1, 2, 0), "kernel_size"),
        (lambda: nn.Conv2d(1, 2, 3, stride=0), "stride"),
        (lambda: nn.Conv2d(1, 2, 3, padding=-1), "padding"),
        (lambda: nn.Conv2d(1, 2, (3, 3, 3)), "kernel_size"),
        (lambda: nn.BatchNorm2d(0), "num_features"),
        (lambda: nn.BatchNorm2d(2, momentum=1.5), "momentum"),
        (lambda: nn.Dropout(1.5), "keep"),
        (lambda: nn.Dropout(float("nan")), "keep"),
        (lambda: nn.Dropout(0, inverted=True), "keep"),
    ],
)
def test_layers_refuse_sizes_that_make_no_sense(make, words):
    with pytest.raises((ValueError, TypeError), match=words):
        make()


@pytest.mark.parametrize(
    ("layer", "x", "words"),
    [
        (
            lambda: nn.Conv2d(3, 8, kernel_size=5),
            np.ones((32, 28, 28, 3)),
            "Conv2d(3, 8, kernel_size=5): expected (N, 3, H, W), got (32, 28, 28, 3): "
            "channels are last; use x.transpose(0, 3, 1, 2)",
        ),
        (lambda: nn.Conv2d(3, 8, 5), np.ones((3, 28, 28)), "x[None]"),
        (lambda: nn.Conv2d(1, 8, 5), np.ones((32, 28, 28)), "x[:, None]"),
        (lambda: nn.Conv2d(1, 8, 5), np.ones((2, 1, 9, 9), np.float32), "got float32"),
        (lambda: nn.Linear(12, 2), np.ones((5, 3, 4)), "Flatten"),
        (lambda: nn.BatchNorm2d(3), np.ones((5, 3)), "BatchNorm2d(3): expected (N, 3, H, W), got (5, 3)"),
        (lambda: nn.BatchNorm1d(3), np.ones((1, 3)), "no variance"),
        (lambda: nn.MaxPool2d(5), np.ones((1, 1, 4, 4)), "MaxPool2d"),
    ],
)
def test_layers_say_what_came_and_what_to_try(layer, x, words):
    with pytest.raises((ValueError, TypeError)) as caught:
        layer()(x)
    assert words in str(caught.value)


def test_batch_norm_by_hand():
    layer = nn.BatchNorm1d(2, momentum=0.25)
    x = np.array([[1.0, 10.0], [3.0, 10.0], [5.0, 40.0]])
    y = layer(x).data
    mean, biased, unbiased = np.array([3.0, 20.0]), np.array([8 / 3, 200.0]), np.array([4.0, 300.0])
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(biased + 1e-5), rtol=1e-12)
    np.testing.assert_allclose(layer.running_mean, 0.25 * mean, rtol=1e-12)
    np.testing.assert_allclose(layer.running_var, 0.75 + 0.25 * unbiased, rtol=1e-9)
    with mg.no_grad():  # the statistics move in training mode, recorded or not
        layer(x)
    np.testing.assert_allclose(layer.running_mean, (0.75 * 0.25 + 0.25) * mean, rtol=1e-12)
    layer.eval()
    before = layer.running_mean.copy()
    y = layer(np.array([[2.0, 5.0]])).data
    np.testing.assert_allclose(y, [(np.array([2.0, 5.0]) - before) / np.sqrt(layer.running_var + 1e-5)], rtol=1e-12)
    np.testing.assert_array_equal(layer.running_mean, before)


def test_dropout_zeroes_in_training_and_scales_at_test():
    layer = nn.Dropout(0.8, seed=0)
    x = mg.Tensor(np.full((100, 100), 3.0), requires_grad=True)
    y = layer(x)
    assert set(np.unique(y.data)) == {0.0, 3.0}
    assert (y.data != 0).mean() == pytest.approx(0.8, abs=0.02)  # 5 standard deviations
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, y.data / 3)  # the very mask
    assert not np.array_equal(layer(x).data, y.data)  # a new one for each call
    np.testing.assert_array_equal(layer.eval()(x).data, np.full((100, 100), 3.0) * 0.8)


def test_inverted_dropout_scales_in_training():
    layer = nn.Dropout(0.8, inverted=True, seed=0)
    x = np.full((50, 50), 2.0)
    assert set(np.unique(layer(x).data)) == {0.0, 2.5}
    np.testing.assert_array_equal(layer.eval()(x).data, x)


def test_dropout_edges():
    x = rng().normal(size=(20, 20))
    np.testing.assert_array_equal(nn.Dropout(1.0)(x).data, x)
    np.testing.assert_array_equal(nn.Dropout(1.0).eval()(x).data, x)
    np.testing.assert_array_equal(nn.Dropout(0.0)(x).data, 0 * x)


def test_dropout_at_test_is_the_mean_of_a_linear_read_out():
    """TC-23: W (p h) + b is the expectation over the masks; scaling the bias or W of the first layer would not be."""
    model = nn.Sequential(nn.Linear(3, 5), nn.Dropout(0.5), nn.Linear(5, 1)).reset(0)
    model[0].bias.data, model[2].bias.data = rng(1).normal(size=5), np.array([7.0])
    x = rng(2).normal(size=(1, 3))
    h = model[0](x).data
    masks = (np.arange(32)[:, None] >> np.arange(5)) & 1  # all 32, equally likely at p = 1/2
    mean = ((h * masks) @ model[2].weight.data.T + 7).mean()
    assert model.eval()(x).item() == pytest.approx(mean, rel=1e-13)


def test_flatten_and_identity():
    x = rng().normal(size=(2, 3, 4))
    np.testing.assert_array_equal(nn.Flatten()(x).data, x.reshape(2, 12))
    assert nn.Flatten()(np.ones((0, 3, 4))).shape == (0, 12)
    np.testing.assert_array_equal(nn.Identity()(x).data, x)


def test_frozen_parameters_get_no_gradient():
    model = nn.Sequential(nn.Linear(2, 2, seed=0), nn.Linear(2, 1, seed=1))
    model[0].weight.requires_grad = False
    model(np.ones((3, 2))).sum().backward()
    assert model[0].weight.grad is None
    assert model[0].bias.grad is not None


# PyTorch ----------------------------------------------------------------------------------------------------


def test_a_convolutional_network_is_pytorch_s():
    torch = pytest.importorskip("torch")
    ours = nn.Sequential(
        nn.Conv2d(3, 4, (3, 2), stride=2, padding=1, dilation=(1, 2)),
        nn.BatchNorm2d(4, eps=1e-3, momentum=0.3),
        nn.LeakyReLU(0.1),
        nn.MaxPool2d(3, 1, 1),
        nn.AvgPool2d(2, 1),
        nn.Flatten(),
        nn.Linear(48, 6),
        nn.BatchNorm1d(6),
        nn.Tanh(),
    ).reset(0)
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, (3, 2), stride=2, padding=1, dilation=(1, 2)),
        torch.nn.BatchNorm2d(4, eps=1e-3, momentum=0.3),
        torch.nn.LeakyReLU(0.1),
        torch.nn.MaxPool2d(3, 1, 1),
        torch.nn.AvgPool2d(2, 1),
        torch.nn.Flatten(),
        torch.nn.Linear(48, 6),
        torch.nn.BatchNorm1d(6),
        torch.nn.Tanh(),
    ).double()
    random = rng(1)
    state = {name: random.uniform(0.5, 1.5, size=array.shape) for name, array in ours.state_dict().items()}
    ours.load_state_dict(state)
    tracked = theirs.state_dict()
    theirs.load_state_dict({k: torch.tensor(state[k]) if k in state else v for k, v in tracked.items()})
    for _ in range(3):
        x = random.normal(size=(5, 3, 9, 8))
        y, y_torch = ours(x), theirs(torch.tensor(x))
        np.testing.assert_allclose(y.data, y_torch.detach().numpy(), rtol=1e-10, atol=1e-12)
        g = random.normal(size=y.shape)
        y.backward(g)
        theirs.zero_grad()
        y_torch.backward(torch.tensor(g))
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=1e-7, atol=1e-10)
    for name, array in ours.state_dict().items():
        np.testing.assert_allclose(array, theirs.state_dict()[name].numpy(), rtol=1e-10, atol=1e-12)
    x = random.normal(size=(2, 3, 9, 8))
    y = theirs.eval()(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(ours.eval()(x).data, y, rtol=1e-10, atol=1e-12)
