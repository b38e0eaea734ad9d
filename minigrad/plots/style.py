"""What every plot shares: colours that all kinds of eyes tell apart, text for the last row, figures of no window."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["OKABE_ITO", "TEXT", "axes"]

OKABE_ITO = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky blue": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "purple": "#CC79A7",
}

TEXT = 16
"""Points: text that can be read from the last row."""


def axes(ax: Axes | None) -> Axes:
    """The Axes that are given, or those of a new figure at the size of a slide."""
    if ax is None:
        from matplotlib.figure import Figure

        ax = Figure(figsize=(10, 6), dpi=120, layout="constrained").add_subplot()
    ax.tick_params(labelsize=14)
    ax.spines[["top", "right"]].set_visible(False)
    return ax
