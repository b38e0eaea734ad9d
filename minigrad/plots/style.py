"""What every plot shares: colours that all kinds of eyes tell apart, text for the last row, figures of no window."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["OKABE_ITO", "TEXT", "axes", "figure", "slide"]

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
        ax = figure().add_subplot()
    ax.tick_params(labelsize=14)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def figure(figsize: tuple[float, float] = (10, 6), dpi: int = 120) -> Figure:
    """A new figure, ``figsize`` in inches, that no global state knows; a notebook shows it as the value of a cell."""
    made: Figure = _shown()(figsize=figsize, dpi=dpi, layout="constrained")
    return made


def slide(xlabel: str, ylabel: str, panels: int = 1) -> Any:
    """Axes with these labels in a new figure, to draw into; several, an array, stand side by side on one scale."""
    row = figure((10 if panels == 1 else 14, 5), dpi=80).subplots(1, panels, sharey=True, squeeze=False)[0]
    for ax in row:
        axes(ax).set_xlabel(xlabel, fontsize=TEXT)
    row[0].set_ylabel(ylabel, fontsize=TEXT)
    return row if panels > 1 else row[0]


@cache
def _shown() -> type[Any]:
    from matplotlib.figure import Figure

    class Shown(Figure):
        """Without pyplot, notebooks print a Figure by its name; this one they show."""

        def _repr_png_(self) -> tuple[bytes, dict[str, str]]:
            buffer = BytesIO()
            self.savefig(buffer, format="png", metadata={"Software": None})
            return buffer.getvalue(), {"alt": "; ".join(filter(None, map(_in_words, self.axes)))}

    return Shown


def _in_words(ax: Axes) -> str:
    """For those who cannot see it: the title of a plot, or what is drawn against what, or what is written in it."""
    titles = (ax.get_title(loc=place) for place in ("center", "left", "right"))
    against = " against ".join(filter(None, (ax.get_ylabel(), ax.get_xlabel())))
    written = ", ".join(text.get_text() for text in ax.texts)
    return (next(filter(None, titles), "") or against or written).replace("\n", " ")
