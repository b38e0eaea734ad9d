"""Filters and feature maps: the model stays as it was, pictures keep their proportions, names are not cut off."""

import numpy as np
import pytest

from minigrad import nn, plots


def test_modes_are_restored_one_by_one(rng):
    model = nn.Sequential(nn.Conv2d(1, 2, 3, rng=rng), nn.BatchNorm2d(2), nn.ReLU())
    model[1].eval()  # frozen, while the rest trains
    before = model.state_dict()
    plots.feature_maps(model, rng.normal(size=(1, 5, 5)))
    assert [module.training for module in model.modules()] == [True, True, False, True]
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_modes_are_restored_where_a_layer_refuses(rng):
    model = nn.Sequential(nn.Conv2d(1, 2, 3, rng=rng), nn.Linear(7, 2, rng=rng))
    with pytest.raises(ValueError, match="Linear"):
        plots.feature_maps(model, np.ones((1, 5, 5)))
    assert all(module.training for module in model.modules())


def test_layers_and_one_layer_are_drawn_as_a_network_is(rng):
    layers, x = [nn.Conv2d(1, 2, 3, rng=rng), nn.ReLU()], rng.normal(size=(1, 5, 5))
    as_network, as_list, one = (plots.feature_maps(m, x) for m in (nn.Sequential(*layers), layers, layers[0]))
    for expected, *others in zip(as_network.images, as_list.images, strict=True):
        np.testing.assert_array_equal(others[0].get_array(), expected.get_array())
    assert [tick.get_text() for tick in one.get_yticklabels()] == ["input 1×5×5", "Conv2d 2×3×3"]


def test_each_row_has_the_scale_of_its_layer(rng):
    layer, x = nn.Conv2d(1, 3, 3, rng=rng), rng.normal(size=(1, 5, 5))
    image, *maps = plots.feature_maps(layer, x).images
    y = layer(x[None]).data
    assert (image.norm.vmin, image.norm.vmax) == (x.min(), x.max())
    assert {(one.norm.vmin, one.norm.vmax) for one in maps} == {(y.min(), y.max())}


@pytest.mark.parametrize("draw", [
    lambda: plots.filters(np.ones((2, 3, 2, 5))),
    lambda: plots.feature_maps(nn.ReLU(), np.ones((3, 4, 10))),
])  # fmt: skip
def test_pictures_have_square_pixels(draw):
    ax = draw()
    ax.figure.draw_without_rendering()
    for image in ax.images:
        box, (height, width) = image.get_window_extent(), image.get_array().shape
        assert box.width / width == pytest.approx(box.height / height, rel=1e-6)


def test_no_name_is_cut_off(rng):
    layers = [nn.Conv2d(1, 8, 3, padding=1, rng=rng), *(nn.BatchNorm2d(8), nn.ReLU()) * 2]
    ax = plots.feature_maps(layers, rng.normal(size=(1, 8, 8)))
    ax.figure.draw_without_rendering()
    assert all(tick.get_window_extent().x0 >= 0 for tick in ax.get_yticklabels())


def test_nothing_to_draw_is_refused(rng):
    with pytest.raises(ValueError, match=r"got \(0, 1, 3, 3\)"):
        plots.filters(np.ones((0, 1, 3, 3)))
    with pytest.raises(ValueError, match="most=0"):
        plots.feature_maps(nn.ReLU(), np.ones((1, 4, 4)), most=0)


@pytest.mark.parametrize(("shape", "grid"), [((5, 1, 3, 3), (4, 2)), ((2, 3, 2, 4), (3, 2))])
def test_filters_share_one_scale(rng, shape, grid):
    layer = nn.Conv2d(shape[1], shape[0], shape[2:], rng=rng)
    ax = plots.filters(layer)
    kernels = layer.weight.data.reshape(-1, *shape[2:])
    for image, kernel in zip(ax.images, kernels, strict=True):
        np.testing.assert_array_equal(image.get_array(), kernel)
        assert image.norm.vmax == -image.norm.vmin == np.abs(kernels).max()
    lefts, tops = ({round(image.get_extent()[k], 6) for image in ax.images} for k in (0, 3))
    assert (len(lefts), len(tops)) == grid


def test_feature_maps_are_those_of_the_network(rng):
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, rng=rng), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(27, 2, rng=rng),
    )  # fmt: skip
    x = rng.normal(size=(1, 8, 8))
    ax = plots.feature_maps(model, x, most=2)
    assert model.training
    assert [tick.get_text() for tick in ax.get_yticklabels()] == [
        "input 1×8×8", "Conv2d 3×6×6", "BatchNorm2d 3×6×6", "ReLU 3×6×6", "MaxPool2d 3×3×3",
    ]  # fmt: skip
    assert len(ax.images) == 1 + 4 * 2
    model.eval()
    np.testing.assert_array_equal(ax.images[0].get_array(), x[0])
    np.testing.assert_array_equal(ax.images[2].get_array(), model[0](x[None]).data[0, 1])
    np.testing.assert_array_equal(ax.images[-1].get_array(), model[:4](x[None]).data[0, 1])


def test_pictures_that_are_refused(rng):
    with pytest.raises(ValueError, match="expected a weight"):
        plots.filters(nn.Linear(3, 2, rng=rng))
    with pytest.raises(ValueError, match="expected an image"):
        plots.feature_maps(nn.Sequential(nn.ReLU()), np.ones((1, 1, 4, 4)))
