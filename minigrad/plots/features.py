"""What a convolutional network has learned to look for, and where it sees it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from .style import TEXT, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..nn import Module

__all__ = ["feature_maps", "filters"]

GAP = 0.12
"""Between pictures, in widths of one."""


def filters(layer: Any, ax: Axes | None = None) -> Axes:
    """The kernels of a convolution: a layer with a weight (O, C, kh, kw), or the weight itself.

    One input channel: a grid of the O kernels. Several: a row for each output, a column for each input. All have one
    scale, symmetric about 0. Raises ValueError for a weight that has not four axes.
    """
    from ..tensor import as_array

    weight = as_array(getattr(layer, "weight", layer))
    if weight.ndim != 4 or not weight.size:
        raise ValueError(f"filters: expected a weight (O, C, kh, kw), got {weight.shape}: give a Conv2d or its weight")
    O, C = weight.shape[:2]
    columns = int(np.ceil(np.sqrt(2 * O))) if C == 1 else C
    bound = float(np.abs(weight).max()) or 1.0
    ax = axes(ax)
    for n, kernel in enumerate(weight.reshape(O * C, *weight.shape[2:])):
        image = _put(ax, kernel, n % columns, n // columns, cmap="RdBu_r", vmin=-bound, vmax=bound)
    _frame(ax, columns, -(-O * C // columns), weight.shape[2:])
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.8, pad=0.02)
    bar.set_label("weight", fontsize=TEXT)
    bar.ax.tick_params(labelsize=14)
    if C > 1:
        ax.set_xlabel(f"{C} input channels", fontsize=TEXT)
        ax.set_ylabel(f"{O} output channels", fontsize=TEXT)
    ax.set_title(f"{O} kernels of {'×'.join(map(str, weight.shape[1:]))}", fontsize=TEXT)
    return ax


def feature_maps(model: Module | Iterable[Module], x: Any, ax: Axes | None = None, *, most: int = 12) -> Axes:
    """What each layer of a network makes of one image x (C, H, W), as long as it is an image.

    ``model`` is a Sequential, one layer, or several in order. A row for each layer whose output has channels, each
    scaled to its own smallest and largest value; of many channels the first ``most`` are drawn. The network is run as
    in testing, and its modes are restored. Raises ValueError for an x that is not one image, and for ``most`` under 1.
    """
    from ..nn import Module, Sequential
    from ..tensor import as_array, as_tensor, no_grad

    image = as_array(x)
    if image.ndim != 3:
        raise ValueError(f"feature_maps: expected an image (C, H, W), got {image.shape}: take one, such as x[0]")
    if most < 1:
        raise ValueError(f"feature_maps: most={most}: draw at least 1 map of a layer")
    if not isinstance(model, Sequential):
        model = Sequential(*([model] if isinstance(model, Module) else model))
    rows: list[tuple[str, np.ndarray]] = [("input", image)]
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with no_grad():
            seen = as_tensor(image[None])
            for layer in model:
                seen = layer(seen)
                if seen.ndim == 4:
                    rows.append((type(layer).__name__, seen.data[0]))
    finally:
        for module, mode in modes:
            module.training = mode
    ax = axes(ax)
    for r, (_, maps) in enumerate(rows):
        low, high = float(maps.min()), float(maps.max())
        for c, one in enumerate(maps[:most]):
            _put(ax, one, c, r, cmap="cividis", vmin=low, vmax=high if high > low else low + 1)
    _frame(ax, max(min(len(maps), most) for _, maps in rows), len(rows), image.shape[1:])
    ax.set_anchor("W")  # or the layout takes the room beside the pictures for that of the names
    ax.set_title("each row from its smallest value (dark) to its largest (bright)", fontsize=TEXT, loc="left")
    ax.set_yticks(
        [-(r + r * GAP) - 0.5 for r in range(len(rows))],
        [f"{name} {'×'.join(map(str, maps.shape))}" for name, maps in rows],
    )
    return ax


def _put(ax: Axes, picture: np.ndarray, column: int, row: int, **style: Any) -> Any:
    """A picture in the unit square at this place of a grid; `_frame` gives it its proportions."""
    left, top = column * (1 + GAP), -row * (1 + GAP)
    return ax.imshow(picture, extent=(left, left + 1, top - 1, top), interpolation="nearest", aspect="auto", **style)


def _frame(ax: Axes, columns: int, rows: int, shape: tuple[int, ...]) -> None:
    """Room for the grid, whose pictures have the proportions of ``shape``, their height and width."""
    ax.set(xlim=(-GAP, columns * (1 + GAP)), ylim=(-rows * (1 + GAP), GAP), xticks=[], yticks=[])
    ax.set_aspect(shape[0] / shape[1])
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
