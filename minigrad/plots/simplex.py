"""The simplex of distributions over K classes, and what training does on it: decision regions, level lines of a loss,
the way of descent, and trajectories of softmax outputs, still and moving.

Two classes are drawn as a segment, three as a triangle, more as a polygon: p is drawn at the point p V, the mean of the
corners with weights p. Letters: ``k`` class, K classes; ``c`` the correct one; ``n`` example, N examples; ``t`` time,
T of them; ``p`` distributions (..., K), ``z = log p`` logits, ``g = dl/dz`` the gradient of a loss l, a row;
``V`` (K, 2) the corners in the plane; ``q`` (..., K) weights of the corners of what is drawn.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..nn import Module, written
from ..operation import registry
from ..snapshots import Snapshots
from ..tensor import Tensor, as_array, no_grad
from .style import OKABE_ITO, TEXT, axes

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

__all__ = [
    "animate_trajectory", "barycentric", "barycentric_inverse", "descent_field", "grouped", "loss_levels", "simplex",
    "softmax_outputs", "trajectory",
]  # fmt: skip

Part = int | Sequence[int]
Zoom = tuple[int, float]

EDGE = 1e-12
"""Probabilities on the edge of the simplex are raised to this before a logarithm is taken."""
SMALL = 13
"""Points: the text of ticks and level lines."""
STEPS = [1, 2, 2.5, 5, 10]
"""What the first digits of neighbouring ticks differ by."""
MANY = 12
"""More paths than this are drawn thin, and arrows on so many of them."""


# From distributions to the plane and back -------------------------------------------------------------------


def corners(classes: int) -> np.ndarray:
    """V (K, 2): the corners of the regular K-gon of side 1 that stands on its side from (0, 0) to (1, 0).

    Each side is the one before, turned by 1/K of a circle. For K = 3 that is [[0, 0], [1, 0], [1/2, sqrt(3)/2]], for
    K = 2 the segment from 0 to 1.
    """
    angle = 2 * np.pi * np.arange(classes - 1) / classes
    sides = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.concatenate([np.zeros((1, 2)), np.cumsum(sides, axis=0)])


def barycentric(p: Any) -> np.ndarray:
    """The points p V of the plane for distributions p: (..., K) to (..., 2), for K >= 2.

    p = e_k goes to the corner k, the centre 1/K to the centre, and mixtures of distributions to the same mixtures of
    their points. For K = 2 and K = 3 that can be undone, `barycentric_inverse` does; for K > 3 it cannot: a plane has
    too few dimensions, and distributions that differ may share a point. Of four classes, (1/2, 0, 1/2, 0) and
    (0, 1/2, 0, 1/2) both fall on the centre.

    Raises ValueError for rows that are no distributions: entries that are negative or nan, sums that are not 1.
    """
    p = distributions("barycentric", p)
    return np.asarray(p @ corners(p.shape[-1]))


def barycentric_inverse(xy: Any, classes: int = 3) -> np.ndarray:
    """The distributions p with p V = xy, for two or three classes: (..., 2) to (..., K).

    p V = (x, y) and p 1 = 1 are linear equations, p [V 1] = (x, y, 1), and [V 1] has an inverse for K = 3. For K = 2 it
    is (1 - x, x). Points outside of the simplex get coordinates too, of which some are negative.

    Raises ValueError for other numbers of classes, and where xy is not (..., 2).
    """
    xy = np.asarray(xy, dtype=float)
    if xy.ndim == 0 or xy.shape[-1] != 2:
        raise ValueError(f"barycentric_inverse: expected points (..., 2), got {xy.shape}: give x and y of each")
    if classes == 2:
        return np.stack([1 - xy[..., 0], xy[..., 0]], axis=-1)
    if classes != 3:
        raise ValueError(
            f"barycentric_inverse: expected 2 or 3 classes, got {classes}: a point of the plane does not tell more; "
            f"group them, see minigrad.plots.grouped"
        )
    one = np.ones((3, 1))
    lifted = np.concatenate([xy, np.ones((*xy.shape[:-1], 1))], axis=-1)
    return np.asarray(lifted @ np.linalg.inv(np.hstack([corners(3), one])))


def distributions(who: str, p: Any) -> np.ndarray:
    """The rows as float64, if each is a distribution over two classes or more, up to a sum that misses 1 by 1e-4."""
    p = as_array(p).astype(float)
    if p.ndim == 0 or p.shape[-1] < 2 or p.size == 0:
        raise ValueError(f"{who}: expected distributions (..., K), K >= 2, got {p.shape}: give a probability a class")
    total = p.sum(axis=-1)
    for wrong, problem in (
        (np.isnan(p).any(axis=-1), "nan among its entries: look where it came in"),
        ((p < 0).any(axis=-1), "negative entries: give probabilities, not logits (minigrad.softmax makes them)"),
        (~(np.abs(total - 1) <= 1e-4), "a sum that is not 1: give probabilities (minigrad.softmax makes them)"),
    ):
        if wrong.any():
            row = tuple(np.argwhere(wrong)[0].tolist())
            where = f"row {list(row)}" if row else "p"
            raise ValueError(f"{who}: {where} = {np.array2string(p[row], precision=4, threshold=8)} has {problem}")
    return np.asarray(p)


def grouped(p: Any, parts: Sequence[Part]) -> np.ndarray:
    """The distribution over parts of the classes, given that it is one of them: p (..., K) to (..., len(parts)).

    A part is a class or a group of classes, whose probabilities are added; then all are divided by their sum.
    ``grouped(p, [3, 8, 9])`` is the softmax of three of the logits. Groups that have all classes between them, such as
    ``[(0, 6, 8), (1, 7), (2, 3, 4, 5, 9)]`` of the digits by their loops, are only added: the sum is 1.

    Raises ValueError for fewer than two parts, for classes that are not there or in two of the parts, and where an
    example gives all parts the probability 0.
    """
    p = distributions("grouped", p)
    groups = _groups(parts, p.shape[-1])
    sums = np.stack([p[..., group].sum(axis=-1) for group in groups], axis=-1)
    total = sums.sum(axis=-1, keepdims=True)
    if (total == 0).any():
        raise ValueError(f"grouped: an example gives probability 0 to all of {list(parts)}: take more classes in")
    return np.asarray(sums / total)


def _groups(parts: Sequence[Part], classes: int) -> list[list[int]]:
    """Each part as a list of classes."""
    groups = [[int(k) for k in np.atleast_1d(part)] for part in parts]
    members = [k for group in groups for k in group]
    for wrong, problem in (
        (len(groups) < 2 or not all(groups), "give two parts or more, each with a class"),
        (len(set(members)) < len(members), "a class is there twice: give each to one part"),
        (not all(0 <= k < classes for k in members), f"the classes are 0 to {classes - 1}"),
    ):
        if wrong:
            raise ValueError(f"grouped: parts={list(parts)!r}: {problem}")
    return groups


class Frame:
    """What is drawn of the simplex: all of it, or the part near one corner, which has the same shape.

    ``p`` (K, K) are the distributions at the corners of what is drawn, ``xy`` (K, 2) their points.
    """

    def __init__(self, who: str, classes: int, zoom: Zoom | None = None):
        self.zoom = zoom
        corner, size = (0, 1.0) if zoom is None else zoom
        if not (0 <= corner < classes and 0 < size <= 1):
            raise ValueError(
                f"{who}: zoom={zoom!r}: expected a class from 0 to {classes - 1} and how much of 1 is seen of it, "
                f"as in ({classes - 1}, 0.1)"
            )
        self.corner, self.size, self.classes = corner, size, classes
        self.p = size * np.eye(classes) + (1 - size) * np.eye(classes)[corner]
        self.xy = barycentric(self.p)

    def shows(self, p: np.ndarray) -> np.ndarray:
        """Whether p (..., K) is inside."""
        return np.asarray(p[..., self.corner] >= 1 - self.size - 1e-9)

    def lattice(self, n: int) -> np.ndarray:
        """The distributions q (M, K) that cut each side of the whole simplex into n, for two or three classes."""
        i, j = (index.ravel() for index in np.indices((n + 1, n + 1)))
        whole = np.stack([i, j, n - i - j], axis=1)[i + j <= n]
        return (whole if self.classes == 3 else whole[whole[:, 2] == 0, :2]) / n

    def inside(self, n: int) -> np.ndarray:
        """The distributions p (M, K) of a lattice in what is drawn, moved off the sides."""
        q = self.lattice(n) + 0.35 / n
        return np.asarray(q / q.sum(axis=1, keepdims=True) @ self.p)

    def clip(self, ax: Axes, *artists: Artist) -> None:
        """Let artists end where the frame does."""
        from matplotlib.patches import Polygon

        if self.classes > 2:
            for artist in artists:
                artist.set_clip_path(Polygon(self.xy, transform=ax.transData))


# The simplex ------------------------------------------------------------------------------------------------


def simplex(
    ax: Axes | None = None,
    classes: int | Sequence[str] = 3,
    *,
    regions: bool = True,
    label: int | None = None,
    zoom: Zoom | None = None,
) -> Axes:
    """The simplex of two classes (a segment), three (a triangle) or more (a polygon), with its decision regions.

    One sees a corner for each class, where its probability is 1; lines of equal probability, read at the side that is
    titled with the class; the region in which each class has the largest probability, in its own tint; the boundaries
    between the regions, and the centre where they meet (TC-01, TC-03; Tomasi 2019, figure 1). With a ``label`` the
    region of the correct class is green, and the others are grey. A polygon of more than three classes has neither
    regions nor lines: `barycentric` folds them over one another.

    Parameters
    ----------
    classes : int or names
        How many, or what they are called.
    regions : bool
        Whether regions, boundaries and centre are drawn.
    label : int, optional
        The correct class.
    zoom : (class, size), optional
        Only the part near a corner, where its class has a probability of at least 1 - size.

    Raises ValueError for fewer than two classes, a label that is none of them, and a zoom that shows nothing.
    """
    names = _names("simplex", classes)
    K = len(names)
    _label("simplex", label, K)
    frame = Frame("simplex", K, zoom)
    ax = axes(ax)
    (_segment if K == 2 else _polygon)(ax, frame, names, label)
    if regions and K <= 3:
        _regions(ax, frame, label)
    return ax


def _names(who: str, classes: int | Sequence[str]) -> list[str]:
    if isinstance(classes, (int, np.integer)):
        classes = [f"class {k}" for k in range(classes)]
    if isinstance(classes, str) or len(classes) < 2:
        raise ValueError(f"{who}: classes={classes!r}: expected two classes or more: give their number or their names")
    return [str(name) for name in classes]


def _label(who: str, label: Any, classes: int) -> None:
    if label is not None and not (isinstance(label, (int, np.integer)) and 0 <= label < classes):
        raise ValueError(f"{who}: label={label!r}: expected a class from 0 to {classes - 1}")


def _tint(colour: str, strength: float = 0.22) -> tuple[float, float, float]:
    """A colour mixed with white."""
    from matplotlib.colors import to_rgb

    r, g, b = (1 - strength * (1 - channel) for channel in to_rgb(OKABE_ITO[colour]))
    return r, g, b


def _tints(label: int | None, classes: int) -> list[tuple[float, float, float]]:
    if label is None:
        return [_tint(colour) for colour in ("blue", "orange", "green")[:classes]]
    return [_tint("green", 0.3) if k == label else _tint("black", 0.09) for k in range(classes)]


def _segment(ax: Axes, frame: Frame, names: list[str], label: int | None) -> None:
    """Two classes: the probability of class 1 from left to right, across the whole height of the Axes."""
    ends = frame.xy[:, 0]
    ax.set_xlim(*ends)
    ax.set_box_aspect(0.1)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.spines["bottom"].set_linewidth(4)
    ax.set_xlabel(f"probability of {names[1]}", fontsize=TEXT)
    for k, end in enumerate(ends):
        if not frame.zoom or k == frame.corner:
            ax.annotate(
                names[k] + " (correct)" * (k == label), (end, 1), (0, 6), xycoords=ax.get_xaxis_transform(),
                textcoords="offset points", ha=("left", "right")[k], va="bottom", fontsize=TEXT + 2, fontweight="bold",
            )  # fmt: skip


def _polygon(ax: Axes, frame: Frame, names: list[str], label: int | None) -> None:
    """Three classes or more: the outline, the names at its corners, and for three the lines of equal probability."""
    from matplotlib.patches import Polygon

    K = frame.classes
    ax.set_aspect("equal")
    ax.axis("off")
    ax.add_patch(Polygon(frame.xy, fill=False, edgecolor="black", linewidth=2, zorder=3, joinstyle="round"))
    (left, bottom), (right, top) = frame.xy.min(axis=0), frame.xy.max(axis=0)
    margin = 0.03 * (right - left)
    ax.set(xlim=(left - margin, right + margin), ylim=(bottom - margin, top + margin))
    for k, corner in enumerate(frame.xy):
        out = (corner - frame.xy.mean(axis=0)) / np.linalg.norm(corner - frame.xy.mean(axis=0))
        name = "towards " * (frame.zoom is not None and k != frame.corner) + names[k]
        name = name.replace(" ", "\n", len(name) > 8)
        ax.annotate(
            name + "\n(correct)" * (k == label), corner, tuple(10 * out), textcoords="offset points",
            ha="center" if abs(out[0]) < 0.3 else "left" if out[0] > 0 else "right",
            va="center" if abs(out[1]) < 0.3 else "bottom" if out[1] > 0 else "top",
            fontsize=TEXT + 2, fontweight="bold", linespacing=1.0,
        )  # fmt: skip
    if K == 3:
        _grid(ax, frame, names)


def _grid(ax: Axes, frame: Frame, names: list[str]) -> None:
    """Lines of equal probability. That of class k is read at the side that ends in its corner, going round."""
    from matplotlib.collections import LineCollection
    from matplotlib.ticker import MaxNLocator

    lines, ticks = [], []
    for k in range(3):
        before, after = (k - 1) % 3, (k + 1) % 3
        low, high = frame.p[before, k], frame.p[k, k]
        side = frame.xy[k] - frame.xy[before]
        outward = np.array([side[1], -side[0]]) / np.linalg.norm(side)
        along = frame.xy[before] - frame.xy[after]  # the line goes on beyond the side as a tick
        along = along / np.linalg.norm(along)
        for value in MaxNLocator(5).tick_values(low, high):
            share = (value - low) / (high - low)
            if not 1e-6 < share < 1 - 1e-6:
                continue
            read = frame.xy[before] + share * side
            far = frame.xy[after] + share * (frame.xy[k] - frame.xy[after])
            lines.append([read, far])
            ticks.append([read, read + 0.02 * frame.size * along])
            ax.annotate(
                f"{value:.4g}", read, tuple(9 * along), textcoords="offset points", ha=("right", "center", "left")[k],
                va=("bottom", "top", "center")[k], fontsize=SMALL,
            )  # fmt: skip
        ax.annotate(
            f"probability of {names[k]} →" if k == 1 else f"← probability of {names[k]}", frame.xy[before] + side / 2,
            tuple(48 * outward), textcoords="offset points", ha="center", va="center", rotation=(60, 0, -60)[k],
            fontsize=SMALL,
        )  # fmt: skip
    ax.add_collection(LineCollection(lines, colors="black", linewidths=0.8, alpha=0.16, zorder=1.2, label="grid"))
    ax.add_collection(LineCollection(ticks, colors="black", linewidths=1.2, zorder=3, label="ticks"))


def _regions(ax: Axes, frame: Frame, label: int | None) -> None:
    """Where the class of the largest probability is k: its corner, the middles of its sides, the centre."""
    from matplotlib.patches import Polygon

    K = frame.classes
    tints = _tints(label, K)
    eye = np.eye(K)
    if K == 2:
        for k in range(2):
            ax.axvspan(k / 2, (k + 1) / 2, color=tints[k], zorder=0.5, linewidth=0)
        ax.axvline(0.5, color=OKABE_ITO["blue"], linewidth=2.5, zorder=1.5)
        ax.plot([0.5], [0], "o", color=OKABE_ITO["blue"], markersize=11, clip_on=frame.zoom is not None, zorder=5,
                transform=ax.get_xaxis_transform())  # fmt: skip
        return
    middles = {(i, j): (eye[i] + eye[j]) / 2 for i in range(3) for j in range(3)}
    centre = np.full(3, 1 / 3)
    for k in range(3):
        quadrilateral = barycentric([eye[k], middles[k, (k + 1) % 3], centre, middles[k, (k + 2) % 3]])
        frame.clip(ax, ax.add_patch(Polygon(quadrilateral, facecolor=tints[k], edgecolor="none", zorder=0.5)))
        boundary = barycentric([centre, middles[k, (k + 1) % 3]])
        frame.clip(ax, *ax.plot(*boundary.T, color=OKABE_ITO["blue"], linewidth=2.5, zorder=1.5))
    if frame.shows(centre):
        ax.plot(*barycentric(centre), "o", color=OKABE_ITO["blue"], markersize=9, zorder=1.6)


# Losses on the simplex --------------------------------------------------------------------------------------


def _losses(loss: Callable[..., Any], p: np.ndarray, label: int) -> np.ndarray:
    """The loss of each row at the logits log p, one call a row, so that any function will do."""
    labels = np.array([label])
    with no_grad():
        return np.array([as_array(loss(Tensor(z[None]), labels)).sum() for z in np.log(np.maximum(p, EDGE))])


def _descent(loss: Callable[..., Any], p: np.ndarray, label: int) -> np.ndarray:
    """dp = -(diag p - p p^T) g^T for every row: (M, K) to (M, K)."""
    moves = np.empty_like(p)
    for n, row in enumerate(p):
        z = Tensor(np.log(row[None]), requires_grad=True)
        loss(z, np.array([label])).sum().backward()
        g = np.zeros_like(row) if z.grad is None else z.grad[0]
        moves[n] = -row * (g - g @ row)
    return moves


def _few(who: str, classes: int | Sequence[str]) -> list[str]:
    names = _names(who, classes)
    if len(names) > 3:
        raise ValueError(f"{who}: expected 2 or 3 classes, got {len(names)}: the plane has no room for more")
    return names


def loss_levels(
    loss: Callable[..., Any],
    label: int,
    ax: Axes | None = None,
    classes: int | Sequence[str] = 3,
    *,
    levels: int | Sequence[float] = 7,
    zoom: Zoom | None = None,
) -> Axes:
    """The lines on which a loss of two or three classes is constant, its value written on each.

    The loss of the distribution p is that of the logits z = log p and the label. The steps between the values are
    equal, so that the loss is steep where the lines are close. Cross-entropy depends on p_c alone, its lines are
    parallel to the side opposite of the correct corner; those of the losses of US 12387092 are not.

    Parameters
    ----------
    loss : Loss, or any function of logits (1, K) and labels (1,)
        A loss of probabilities is ``lambda z, y: loss(minigrad.softmax(z), minigrad.data.one_hot(y, 3))``.
    label : int
        The correct class c, from 0.
    ax : Axes, optional
        One with a `simplex` on it; a new one otherwise.
    classes, zoom
        As for `simplex`.
    levels : int or increasing values
        About how many values, or which.

    Raises ValueError for more than three classes and for a label that is none of them.
    """
    names = _few("loss_levels", classes)
    _label("loss_levels", label, len(names))
    ax = ax if ax is not None else simplex(None, names, label=label, zoom=zoom)
    frame = Frame("loss_levels", len(names), zoom)
    _levels(ax, frame, loss, label, levels)
    return ax


def _levels(ax: Axes, frame: Frame, loss: Callable[..., Any], label: int, levels: int | Sequence[float]) -> None:
    from matplotlib.patheffects import withStroke
    from matplotlib.ticker import MaxNLocator
    from matplotlib.tri import Triangulation

    q = frame.lattice(90 if frame.classes == 3 else 2000)
    graded = q**2 * (3 - 2 * q)  # losses are steep at the sides: more points there
    p = graded / graded.sum(axis=1, keepdims=True) @ frame.p
    values = np.nan_to_num(_losses(loss, p, label))
    if isinstance(levels, int):
        low, high = values.min(), np.quantile(_losses(loss, frame.inside(16), label), 0.85)
        levels = [level for level in MaxNLocator(levels, steps=STEPS).tick_values(low, high) if low < level < high]
    if not len(levels):
        return  # the loss is constant
    if frame.classes == 2:
        order = np.argsort(p[:, 1])
        _crossings(ax, p[order, 1], values[order], levels)
        return
    x, y = barycentric(q).T
    triangles = Triangulation(x, y).triangles
    x, y = barycentric(p).T
    style: dict[str, Any] = {"colors": "#333333", "linewidths": 1.3, "zorder": 1.8}
    lines = ax.tricontour(Triangulation(x, y, triangles), values, levels=levels, **style)
    deepest = []  # a label stands where its line is farthest from the sides
    for line in lines.get_paths():
        points = np.asarray(line.vertices)
        if len(points):
            depth = (barycentric_inverse(points) - frame.p.min(axis=0)).min(axis=1)
            deepest.append(tuple(points[depth.argmax()]))
    for text in ax.clabel(lines, fmt="{:.4g}".format, fontsize=SMALL, manual=deepest):
        text.set_path_effects([withStroke(linewidth=3, foreground="white", alpha=0.8)])


def _crossings(ax: Axes, x: np.ndarray, values: np.ndarray, levels: Sequence[float]) -> None:
    """Two classes: an upright line where the loss takes a level, found between neighbours."""
    for level in levels:
        over = values > level
        for i in np.flatnonzero(over[1:] != over[:-1]):
            at = x[i] + (level - values[i]) / (values[i + 1] - values[i]) * (x[i + 1] - x[i])
            ax.axvline(at, color="#333333", linewidth=1.3, zorder=1.8, label=f"loss {level:.4g}")
            ax.text(at, 0.96, f"{level:.4g}", transform=ax.get_xaxis_transform(), ha="center", va="top",
                    fontsize=SMALL, bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1})  # fmt: skip


def descent_field(
    loss: Callable[..., Any],
    label: int,
    ax: Axes | None = None,
    classes: int | Sequence[str] = 3,
    *,
    zoom: Zoom | None = None,
) -> Axes:
    """Arrows that show where a small step of descent on the logits moves p, for two or three classes.

    The step z -> z - h g moves p by h dp, dp = -(diag p - p p^T) g^T, to first order (IP-19; the matrix is the Jacobian
    of softmax, TC-02). dp sums to 0: the arrows lie in the simplex. It is not the steepest descent of the loss as a
    function of p: the factor p in front makes it vanish at the corners, of the correct class and of the wrong ones,
    where training is slow. The longest arrow spans the distance of its neighbours; the others are in proportion to
    the square root of dp, so that slow places have a direction to be seen.

    Takes and refuses what `loss_levels` does.
    """
    names = _few("descent_field", classes)
    _label("descent_field", label, len(names))
    ax = ax if ax is not None else simplex(None, names, label=label, zoom=zoom)
    _field(ax, Frame("descent_field", len(names), zoom), loss, label, rows=1)
    return ax


def _field(ax: Axes, frame: Frame, loss: Callable[..., Any], label: int, rows: int) -> None:
    n = 14
    p = frame.inside(n)
    moves = _descent(loss, p, label) @ corners(frame.classes)
    length = np.linalg.norm(moves, axis=1, keepdims=True)
    longest = length.max() or 1.0
    arrows = moves / np.where(length, np.sqrt(length * longest), 1) * (0.95 * frame.size / n)
    x, y = barycentric(p).T
    style: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "scale": 1, "pivot": "mid", "color": "#444444",
                             "alpha": 0.75, "zorder": 1.9}  # fmt: skip
    if frame.classes == 3:
        ax.quiver(x, y, *arrows.T, width=0.0035, **style)
        return
    low, high = ax.get_ylim()
    for row in range(rows):
        y = np.full_like(x, low + (row + 0.5) / rows * (high - low))
        ax.quiver(x, y, arrows[:, 0], 0 * x, width=0.003, **style)


# Trajectories -----------------------------------------------------------------------------------------------


def softmax_outputs(model: Module, snapshots: Snapshots, x: Any) -> np.ndarray:
    """What a network answered while it trained: softmax(model(x)) at each of T snapshots, (T, N, K).

    The network gives logits (N, K) and is in eval mode meanwhile; its parameters and modes are restored.
    ``snapshots.times`` and ``snapshots.per`` say when, for `trajectory`.

    Raises ValueError where there are no snapshots, or outputs of another shape.

    >>> history = Snapshots(per="step")
    >>> training.fit(model, loss, optimizer, digits.train, epochs=3, snapshots=history)
    >>> p = plots.softmax_outputs(model, history, digits.test.x[:100])
    >>> plots.trajectory(p, labels=digits.test.y[:100], parts=[3, 8, 9], times=history.times, unit=history.per)
    """
    if not snapshots:
        raise ValueError("softmax_outputs: there are no snapshots: train with fit(..., snapshots=...) first")
    before, modes = model.state_dict(), [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with no_grad():
            outputs = [as_array(network(x)) for _, network in snapshots.replay(model)]
    finally:
        model.load_state_dict(before)
        for module, mode in modes:
            module.training = mode
    z = np.stack(outputs)
    if z.ndim != 3:
        raise ValueError(f"softmax_outputs: expected logits (N, K), got {z.shape[1:]}: give a classifier and a batch")
    return np.asarray(registry["softmax"]().forward(z))


class Course:
    """What `trajectory` and its animation draw: the examples p (T, N, K) as points of a plane, and when.

    ``xy`` (T, N, 2) are the points: with two classes time goes upward.
    """

    def __init__(
        self, who: str, p: Any, labels: Any, classes: int | Sequence[str] | None, parts: Sequence[Part] | None,
        loss: Callable[..., Any] | None, times: Any, unit: str, zoom: Zoom | None,
    ):  # fmt: skip
        p = distributions(who, p)
        if p.ndim == 2:
            p = p[:, None]
        if p.ndim != 3 or len(p) < 2:
            raise ValueError(f"{who}: expected p (T, N, K) or (T, K) with T >= 2, got {p.shape}: see softmax_outputs")
        _, N, K = p.shape
        names = _names(who, K if classes is None else classes)
        if len(names) != K:
            raise ValueError(f"{who}: p has {K} classes, and classes={classes!r}: give one name each")
        self.labels = None if labels is None else self._labels(who, labels, N, K)
        if parts is not None:
            p = grouped(p, parts)
            groups = _groups(parts, K)
            names = [_group_name([names[k] for k in group], bare=classes is None) for group in groups]
            if self.labels is not None:
                self.labels = self._part_of(who, self.labels, groups)
        self.p, self.names, self.unit, self.loss = p, names, unit, loss
        self.frame = Frame(who, len(names), zoom)
        self.times = np.arange(len(p)) if times is None else np.asarray(times, dtype=float)
        if self.times.shape != (len(p),) or not (np.diff(self.times) > 0).all():
            raise ValueError(f"{who}: times of shape {self.times.shape}: expected {len(p)} increasing ones, as p has")
        same = self.labels is not None and (self.labels == self.labels[0]).all()
        self.label = int(self.labels[0]) if self.labels is not None and same else None
        if loss is not None and (self.label is None or len(names) > 3):
            raise ValueError(
                f"{who}: level lines of a loss are those of one label of 2 or 3 classes: give labels= with examples of "
                f"one class, and parts= if there are more than 3"
            )
        self.bar: Any = None
        self.xy = barycentric(p)
        if len(names) == 2:
            self.xy[..., 1] = self.times[:, None]

    @staticmethod
    def _labels(who: str, labels: Any, N: int, K: int) -> np.ndarray:
        labels = np.asarray(labels)
        if labels.ndim == 0:
            labels = np.full(N, labels)
        if labels.dtype.kind not in "iu" or labels.shape != (N,) or not 0 <= labels.min() <= labels.max() < K:
            raise ValueError(f"{who}: labels={labels!r}: expected one for each of {N} examples, from 0 to {K - 1}")
        return np.asarray(labels)

    @staticmethod
    def _part_of(who: str, labels: np.ndarray, groups: list[list[int]]) -> np.ndarray:
        part = {k: i for i, group in enumerate(groups) for k in group}
        strange = sorted(set(labels.tolist()) - part.keys())
        if strange:
            raise ValueError(
                f"{who}: examples of class {strange[0]}, which is in none of the parts {groups}: leave them out"
            )
        return np.array([part[k] for k in labels.tolist()])

    def background(self, ax: Axes | None) -> Axes:
        """The simplex, the loss, and how to read time."""
        from matplotlib.cm import ScalarMappable
        from matplotlib.lines import Line2D
        from matplotlib.ticker import MaxNLocator

        ax = simplex(ax, self.names, label=self.label, zoom=self.frame.zoom)
        flat = len(self.names) == 2
        ticks = MaxNLocator(6, steps=STEPS, integer=not (self.times % 1).any())
        if flat:
            ax.set_box_aspect(None)
            ax.set_ylim(self.times[0], self.times[-1])
            ax.set_ylabel(f"{self.unit} →", fontsize=TEXT)
            ax.yaxis.set_major_locator(ticks)
            ax.spines["left"].set_visible(True)
        if self.loss is not None and self.label is not None:
            _field(ax, self.frame, self.loss, self.label, rows=5)
            _levels(ax, self.frame, self.loss, self.label, 7)
        if not flat:
            bar = self.bar = ax.figure.colorbar(ScalarMappable(self.norm, "cividis"), ax=ax, shrink=0.75, pad=0.02)
            bar.set_label(self.unit, fontsize=TEXT)
            bar.ax.tick_params(labelsize=14)
            bar.ax.yaxis.set_major_locator(ticks)
        kinds = ["start", "end"] if self.labels is None else ["start", "end, correct", "end, incorrect"]
        handles = [Line2D([], [], linestyle="none", **self._marker(kind)) for kind in kinds]
        free: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.1), "ncols": 3}
        if len(self.names) == 3:
            free = {"loc": "upper right", "bbox_to_anchor": (0.14, 1.0)}
        ax.legend(handles, kinds, frameon=False, borderaxespad=0, handletextpad=0.2, fontsize=SMALL + 1, **free)
        return ax

    @property
    def norm(self) -> Any:
        """Time to the range of a colour map."""
        from matplotlib.colors import Normalize

        return Normalize(self.times[0], self.times[-1])

    def _marker(self, kind: str) -> dict[str, Any]:
        size = 6 if self.p.shape[1] > MANY else 9
        marker, face = {
            "start": ("o", "white"), "end": ("s", OKABE_ITO["black"]), "end, correct": ("s", OKABE_ITO["green"]),
            "end, incorrect": ("X", OKABE_ITO["vermilion"]),
        }[kind]  # fmt: skip
        return {"marker": marker, "markerfacecolor": face, "markeredgecolor": "black", "markeredgewidth": 1.2,
                "markersize": size + 2 * (marker == "X")}  # fmt: skip

    def draw(self, ax: Axes, until: int) -> list[Artist]:
        """The paths up to and with time number ``until``, their arrows, starts and ends."""
        from matplotlib.collections import LineCollection
        from matplotlib.patches import FancyArrowPatch

        N = self.p.shape[1]
        many = N > MANY
        xy, p = self.xy[: until + 1], self.p[: until + 1]
        pieces = list(np.stack([xy[:-1], xy[1:]], axis=2).reshape(-1, 2, 2))
        middle = np.repeat((self.times[:until] + self.times[1 : until + 1]) / 2, N)
        width = 1.4 if many else 3.0
        under: dict[str, Any] = {"colors": "black", "alpha": 0.1 if many else 1.0, "label": "outlines"}
        above: dict[str, Any] = {"array": middle, "cmap": "cividis", "norm": self.norm, "label": "paths",
                                 "alpha": 0.7 if many else 1.0}  # fmt: skip
        artists: list[Artist] = [
            ax.add_collection(LineCollection(pieces, linewidths=width + 1.2, zorder=4, capstyle="round", **under)),
            ax.add_collection(LineCollection(pieces, linewidths=width, zorder=4.1, capstyle="round", **above)),
        ]
        head: dict[str, Any] = {"arrowstyle": "-|>,head_length=0.6,head_width=0.35", "color": "black", "linewidth": 0,
                                "mutation_scale": 16 if many else 22, "shrinkA": 0, "shrinkB": 0}  # fmt: skip
        if p.shape[2] > 2:
            for n in np.unique(np.linspace(0, N - 1, min(N, MANY)).astype(int)):
                for ends in _halfway(xy[self.frame.shows(p[:, n]), n], self.frame.size):
                    artists.append(ax.add_patch(FancyArrowPatch(*ends, zorder=4.2, **head)))
        self.frame.clip(ax, *artists)
        kinds = np.full(N, "end", dtype=object)
        if self.labels is not None:
            kinds[:] = ["end, correct" if right else "end, incorrect" for right in p[-1].argmax(axis=1) == self.labels]
        for kind, points, inside in (
            ("start", xy[0], self.frame.shows(p[0])),
            *((kind, xy[-1], self.frame.shows(p[-1]) & (kinds == kind)) for kind in sorted(set(kinds))),
        ):
            artists += ax.plot(*points[inside].T, linestyle="none", clip_on=False, zorder=4.5, label=kind,
                               alpha=0.8 if many else 1.0, **self._marker(kind))  # fmt: skip
        return artists


def _group_name(names: list[str], bare: bool) -> str:
    """"class 3", or "classes 0, 6, 8"."""
    if bare and len(names) > 1:
        return "classes " + ", ".join(name.removeprefix("class ") for name in names)
    return ", ".join(names)


def _halfway(path: np.ndarray, size: float) -> Iterator[tuple[Any, Any]]:
    """The tail and the head of an arrow at half the length of a path (T, 2), where it is going there by and large.

    None where the path, on a picture of that size, stays where it is or comes back.
    """
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    if length[-1] < 0.02 * size:
        return
    before, middle, after = (
        np.array([np.interp(share * length[-1], length, column) for column in path.T]) for share in (0.4, 0.5, 0.6)
    )
    way = after - before
    if np.linalg.norm(way) > 1e-3 * size:
        half = 1e-3 * size * way / np.linalg.norm(way)
        yield middle - half, middle + half


def trajectory(
    p: Any,
    ax: Axes | None = None,
    *,
    labels: Any = None,
    classes: Sequence[str] | None = None,
    parts: Sequence[Part] | None = None,
    loss: Callable[..., Any] | None = None,
    times: Any = None,
    unit: str = "epoch",
    zoom: Zoom | None = None,
) -> Axes:
    """The softmax outputs of one or many examples while a network trains, as paths on the simplex.

    One sees a path for each example, dark at the start of training and bright at its end, from a white circle to a
    square, and in its middle an arrow. With labels the square is green where the decision (among the parts, if there
    are parts) is correct, and a vermilion cross where it is not; if all examples are of one class, its region is green.
    With a loss the level lines of `loss_levels` and the arrows of `descent_field` lie under the paths: a single example
    would descend along the arrows, a network, which has to serve many, need not. Two classes are drawn with time
    upward, more than three on a polygon (see `barycentric` for what that hides) unless ``parts`` makes three of them.

    Parameters
    ----------
    p : array (T, N, K) or (T, K)
        Distributions at T times, such as `softmax_outputs` gives.
    labels : whole numbers (N,), or one for all, optional
        The correct classes.
    classes : names, optional
        What the K classes are called.
    parts : classes or groups of classes, optional
        What to draw of K > 3 classes, see `grouped`: ``[3, 8, 9]``, or ``[(0, 6, 8), (1, 7), (2, 3, 4, 5, 9)]``. The
        labels must be in them.
    loss : Loss, or any function of logits (1, K) and labels (1,), optional
        Of two or three classes or parts, for examples of one class.
    times : increasing numbers (T,), optional
        When, counted from 0 if not given.
    unit : str
        In which unit.
    zoom : (class, size), optional
        Only the part near a corner, as for `simplex`: for paths that end in it.

    Raises ValueError where p holds no distributions, and for labels, names, parts and times that do not fit.
    """
    course = Course("trajectory", p, labels, classes, parts, loss, times, unit, zoom)
    ax = course.background(ax)
    course.draw(ax, len(course.p) - 1)
    return ax


def animate_trajectory(
    p: Any,
    path: str | os.PathLike[str],
    *,
    labels: Any = None,
    classes: Sequence[str] | None = None,
    parts: Sequence[Part] | None = None,
    loss: Callable[..., Any] | None = None,
    times: Any = None,
    unit: str = "epoch",
    zoom: Zoom | None = None,
    frames: int = 60,
    fps: float = 12,
) -> Path:
    """Write `trajectory` as a moving picture that runs for ever, a .gif or a .webp; returns its path.

    The paths grow from their starts, and a mark on the colour bar says when it is. At most ``frames`` of the T times
    are shown, ``fps`` a second, and the last one for two seconds. The file is written beside and renamed; 60 frames
    are between 100 and 500 kB. The other parameters are those of `trajectory`.

    Raises ValueError for another suffix, for frames or fps that show no motion, and for what `trajectory` refuses.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    path = Path(path)
    options: dict[str, dict[str, Any]] = {".gif": {"optimize": True}, ".webp": {"quality": 30, "method": 4}}
    if path.suffix.lower() not in options:
        raise ValueError(f"animate_trajectory: {path.name}: expected a name that ends in .gif or .webp")
    if frames < 2 or not fps > 0:
        raise ValueError(f"animate_trajectory: frames={frames}, fps={fps}: give at least 2 frames, and fps over 0")
    course = Course("animate_trajectory", p, labels, classes, parts, loss, times, unit, zoom)
    figure = Figure(figsize=(10, 6), dpi=64, layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)
    ax = course.background(figure.add_subplot())
    canvas.draw()
    figure.set_layout_engine("none")  # what is there now stays where it is
    pictures = []
    for t in np.linspace(0, len(course.p) - 1, min(frames, len(course.p))).round().astype(int).tolist():
        artists = course.draw(ax, t)
        if course.bar is not None:
            artists.append(course.bar.ax.axhline(course.times[t], color=OKABE_ITO["vermilion"], linewidth=4))
        canvas.draw()
        pictures.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()))
        for artist in artists:
            artist.remove()
    duration = [round(1000 / fps)] * (len(pictures) - 1) + [2000]
    if path.suffix.lower() == ".gif":
        palette = pictures[-1].quantize(128, method=Image.Quantize.MAXCOVERAGE)
        pictures = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    with written(path) as file:
        first, *rest = pictures
        first.save(file, format=path.suffix[1:].upper(), save_all=True, append_images=rest, duration=duration, loop=0,
                   **options[path.suffix.lower()])  # fmt: skip
    return path
