"""Jacobians as pictures: where a matrix is not zero, what stands there, and which blocks it has.

Rows are the entries of the output, columns those of the input, both in C order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .style import OKABE_ITO, TEXT, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

__all__ = ["jacobian"]

LARGEST = 4_000_000
"""Entries of a matrix that is drawn: more than that no screen shows."""
WRITTEN = 64
"""So many entries are written into their cells, where the cells have room for them."""
SMALLEST = 7
"""Points: smaller numbers are not written."""


def jacobian(
    J: Any,
    outputs: Sequence[int] | None = None,
    inputs: Sequence[int] | None = None,
    ax: Axes | None = None,
    *,
    values: bool = True,
) -> Axes:
    """The matrix dy/dx as a picture, with the blocks that the shapes of y and x make.

    Parameters
    ----------
    J : array or sparse matrix (m, n)
        As `minigrad.jacobian` or the ``jacobian`` of an operation gives it.
    outputs, inputs : tuples of int, optional
        The shapes of y, with m entries, and of x, with n; () is a number. Thick lines are drawn between entries of the
        first axis longer than 1 (the channels of an image, alone or as a batch of one), thin ones between those of the
        one before the last (its rows).
    values : bool
        Colours say sign and size, and small matrices have their numbers written in; without, only where J is not zero.

    Raises ValueError for what is no matrix, for shapes that do not fit it, and for one too large to be seen.
    """
    J = _matrix(J)
    outputs, inputs = _fitting("outputs", outputs, J.shape[0]), _fitting("inputs", inputs, J.shape[1])
    ax = axes(ax)
    ax.spines[:].set_visible(True)
    if values:
        bound = float(np.abs(J[np.isfinite(J)]).max(initial=0)) or 1.0
        image = ax.imshow(J, cmap="RdBu_r", vmin=-bound, vmax=bound, interpolation="nearest")
        words = [f"{entry + 0:.3g}" for entry in J.ravel()] if J.size <= WRITTEN else []
        cell = (ax.bbox.size / J.shape[::-1]).min() * 72 / ax.figure.dpi
        points = min(13, cell / (0.65 * max(map(len, words), default=1)))  # a digit is 0.65 as wide as it is high
        if not words or points < SMALLEST:
            bar = ax.figure.colorbar(image, cax=ax.inset_axes((1.02, 0, 0.025, 1)))  # as high as the matrix
            bar.ax.tick_params(labelsize=14)
        else:
            for (i, j), word in zip(np.ndindex(*J.shape), words, strict=True):
                dark = abs(J[i, j]) > 0.6 * bound
                ax.text(j, i, word, ha="center", va="center", fontsize=points, color="w" if dark else "k")
    else:
        from matplotlib.colors import ListedColormap

        colours = ListedColormap(["white", OKABE_ITO["blue"]])
        ax.imshow(J != 0, cmap=colours, vmin=0, vmax=1, interpolation="nearest")
    _blocks(ax.yaxis, ax.axhline, "y", outputs)
    _blocks(ax.xaxis, ax.axvline, "x", inputs)
    ax.set_xlabel(f"input x, {'×'.join(map(str, inputs)) or 'a number'}", fontsize=TEXT)
    ax.set_ylabel(f"output y, {'×'.join(map(str, outputs)) or 'a number'}", fontsize=TEXT)
    share = np.count_nonzero(J) / max(J.size, 1)
    ax.set_title(f"J is {J.shape[0]} × {J.shape[1]}, {share:.1%} not zero", fontsize=TEXT)
    return ax


def _matrix(J: Any) -> np.ndarray:
    shape = J.shape if hasattr(J, "shape") else np.shape(J)
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"jacobian: expected a matrix, got shape {shape}: reshape it to (outputs, inputs)")
    if shape[0] * shape[1] > LARGEST:
        raise ValueError(f"jacobian: {shape[0]} x {shape[1]} entries are more than can be seen: take a smaller input")
    return np.asarray(J.toarray() if hasattr(J, "toarray") else J, dtype=float)


def _fitting(name: str, shape: Sequence[int] | None, size: int) -> tuple[int, ...]:
    shape = (size,) if shape is None else tuple(shape)
    if int(np.prod(shape)) != size:
        raise ValueError(f"jacobian: {name}={shape} has {int(np.prod(shape))} entries, J has {size}: give its shape")
    return shape


def _blocks(axis: Axis, line: Callable[..., Any], letter: str, shape: tuple[int, ...]) -> None:
    """Lines between the blocks along one axis of the matrix, and the names of at most eight of them.

    Axes of size 1 in front, such as a batch of one, make no blocks; in the names they are 0.
    """
    size, lead = int(np.prod(shape)), 0
    while lead < len(shape) - 1 and shape[lead] == 1:
        lead += 1
    shape = shape[lead:]
    rows = size // shape[-1] if len(shape) > 1 else 0
    if 1 < rows <= 64:
        for k in range(1, rows):
            line(k * shape[-1] - 0.5, color="0.75", linewidth=0.6)
    blocks = shape[0] if len(shape) > 2 else 0
    for k in range(1, blocks):
        line(k * (size // blocks) - 0.5, color="black", linewidth=2)
    named = blocks or rows or size
    step = size // named
    shown = range(0, named, -(-named // 8))
    axis.set_ticks([k * step + (step - 1) / 2 for k in shown])
    inner = [":"] if rows else []
    names = [", ".join(["0"] * lead + [str(k)] + inner) for k in shown]
    axis.set_ticklabels([f"{letter}[{name}]" if shape else letter for name in names])
