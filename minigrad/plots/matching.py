"""The matching loss as an area, and what belongs to each transfer function side by side (US 2022/0253713)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .style import OKABE_ITO, TEXT, axes, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..transfer import TransferFunction

__all__ = ["matching_loss", "matching_losses"]

LOOKS = (("blue", "o"), ("vermilion", "s"), ("green", "^"))


def matching_loss(
    transfer: TransferFunction, a_hat: float = 2.0, a: float = -1.0, ax: Axes | None = None, *, reach: float = 4.0
) -> Axes:
    """The matching loss M(a_hat, a) as the area between the curve of f and the level f(a), from a to a_hat (LP-12).

    ``reach`` is how far the curve is drawn to both sides of 0. Raises ValueError for softmax, which is no curve.
    """
    _entrywise("matching_loss", [transfer])
    ax = axes(ax)
    _area(ax, transfer, a_hat, a, max(reach, abs(a_hat), abs(a)))
    ax.set_title(f"{transfer.name}: the area is {float(transfer.matching_loss(a_hat, a)):.3g}", fontsize=TEXT)
    ax.set_xlabel("pre-activation", fontsize=TEXT)
    ax.set_ylabel("f", fontsize=TEXT)
    return ax


def matching_losses(
    functions: Sequence[TransferFunction] | None = None, targets: Sequence[float] = (-1.5, 0.0, 1.5), reach: float = 4.0
) -> Any:
    """For each transfer function a row: f, its integral F, a matching loss as an area, and losses against a_hat.

    The last column has M(a_hat, a) for the pre-activations ``targets`` of target outputs, at most three, each marked
    where the loss is zero. Returns the Axes, an array (functions, 4); all lie in one new figure. Softmax, which is no
    curve, is left out.
    """
    from ..transfer import TABLE

    shown = [f for f in TABLE if f.name != "softmax"] if functions is None else list(functions)
    _entrywise("matching_losses", shown)
    if not 0 < len(targets) <= len(LOOKS) or not shown:
        raise ValueError(f"matching_losses: got {len(shown)} functions, {len(targets)} targets: give 1 to 3 targets")
    grid = figure((16, 3.1 * len(shown)), dpi=70).subplots(len(shown), 4, squeeze=False)
    a_hat = np.linspace(-reach, reach, 401)
    for row, f in zip(grid, shown, strict=True):
        for ax in row:
            axes(ax).axhline(0, color="0.8", linewidth=1, zorder=0)
        row[0].plot(a_hat, f.value(a_hat), color=OKABE_ITO["black"], linewidth=2.5)
        row[1].plot(a_hat, f.integral(a_hat), color=OKABE_ITO["black"], linewidth=2.5)
        _area(row[2], f, 2.0, -1.5, reach)
        for a, (colour, marker) in zip(targets, LOOKS, strict=False):
            losses = f.matching_loss(a_hat, a)
            row[3].plot(a_hat, losses, color=OKABE_ITO[colour], linewidth=2.5, label=f"a = {a:g}")
            row[3].plot([a], [0], marker, color=OKABE_ITO[colour], markersize=9, clip_on=False)
        row[0].set_ylabel(f.name, fontsize=TEXT + 2, fontweight="bold")
    heads = ("f(a)", "F(a), F' = f", "matching loss: the area", "matching loss against $\\hat a$")
    for ax, head in zip(grid[0], heads, strict=True):
        ax.set_title(head, fontsize=TEXT + 2)
    grid[0, 3].legend(fontsize=13, frameon=False, title="target f(a) at", title_fontsize=13)
    for ax in grid[-1]:
        ax.set_xlabel("pre-activation", fontsize=TEXT)
    return grid


def _area(ax: Axes, f: TransferFunction, a_hat: float, a: float, reach: float) -> None:
    """The curve of f, the level f(a), and the area between them from a to a_hat."""
    t, way = np.linspace(-reach, reach, 401), np.linspace(a, a_hat, 201)
    level = float(f.value(a))
    ax.plot(t, f.value(t), color=OKABE_ITO["black"], linewidth=2.5)
    ax.fill_between(way, level, f.value(way), color=OKABE_ITO["sky blue"], alpha=0.6, linewidth=0)
    ax.plot([a, a_hat], [level, level], color=OKABE_ITO["blue"], linewidth=2)
    ax.plot([a_hat, a_hat], [level, float(f.value(a_hat))], color=OKABE_ITO["blue"], linewidth=2, linestyle=":")
    for at, name in ((a, "a"), (a_hat, r"$\hat a$")):
        ax.plot([at], [float(f.value(at))], "o", color=OKABE_ITO["vermilion"], markersize=8)
        ax.annotate(
            name, (at, float(f.value(at))), xytext=(0, 9), textcoords="offset points", fontsize=TEXT, ha="center"
        )
    ax.margins(y=0.18)


def _entrywise(who: str, functions: Sequence[TransferFunction]) -> None:
    for f in functions:
        if f.name == "softmax":
            raise ValueError(f"{who}: softmax takes vectors, and is no curve: see plots.simplex, or choose another")
