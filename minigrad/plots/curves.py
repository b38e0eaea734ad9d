"""Curves: functions of one variable, and what training reports of each epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .style import OKABE_ITO, TEXT, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..training import History

__all__ = ["learning_curves"]


def learning_curves(history: History, ax: Axes | None = None) -> Axes:
    """The losses (left, logarithmic) and the validation error (right, in per cent) of each epoch.

    A dotted line marks the best epoch, whose weights early stopping keeps. Raises ValueError for an empty
    history.
    """
    from matplotlib.ticker import MaxNLocator

    if not history.epochs:
        raise ValueError("learning_curves: the history is empty: train for an epoch first")
    ax = axes(ax)
    epochs = np.arange(1, history.epochs + 1)
    often = max(1, history.epochs // 15)  # markers that do not touch

    def draw(where: Axes, values: list[float], label: str, colour: str, marker: str) -> Any:
        style: dict[str, Any] = {"color": OKABE_ITO[colour], "marker": marker, "markevery": often, "label": label}
        return where.plot(epochs, values, linewidth=2.5, markersize=9, **style)[0]

    lines = [draw(ax, history.loss, "training loss", "blue", "o")]
    if history.validation_loss:
        lines.append(draw(ax, history.validation_loss, "validation loss", "orange", "s"))
    if min(history.loss + history.validation_loss) > 0:
        ax.set_yscale("log")
    ax.set_xlabel("epoch", fontsize=TEXT)
    ax.set_ylabel("mean loss of a sample", fontsize=TEXT)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if np.isfinite(history.validation_error).any():
        right = ax.twinx()
        right.spines["top"].set_visible(False)
        right.tick_params(labelsize=14)
        percent = [100 * error for error in history.validation_error]
        lines.append(draw(right, percent, "validation error", "vermilion", "^"))
        right.set_ylabel("validation error (%)", fontsize=TEXT)
        right.set_ylim(bottom=0)
    if history.best_epoch is not None:
        lines.append(ax.axvline(history.best_epoch, color="black", linestyle=":", linewidth=2, label="best epoch"))
    ax.legend(
        handles=lines, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(lines), frameon=False, fontsize=TEXT
    )
    return ax
