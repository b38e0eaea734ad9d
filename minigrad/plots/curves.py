"""Curves: the functions of one variable that the sources draw, and what training reports of each epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .style import OKABE_ITO, TEXT, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..training import History

__all__ = ["entropy", "huffman_rate", "learning_curves", "momentum_schedule", "two_class_cross_entropy"]


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


def two_class_cross_entropy(ax: Axes | None = None) -> Axes:
    """The cross-entropy of a score p between two classes: -log p for label 1, -log(1 - p) for label 0 (TC-07).

    Figure 2 of Tomasi (2019): the loss lives on two segments, p in [0, 1] for each label. Where the decision p > 1/2 is
    right, the curve lies under log 2.
    """
    from ..losses import TwoClassCrossEntropy

    ax = axes(ax)
    p = np.linspace(0, 1, 401)[1:-1]
    loss = TwoClassCrossEntropy(reduction="none")
    for label, colour, marker, style in ((1, "blue", "o", "-"), (0, "vermilion", "s", "--")):
        values = loss.forward(p, np.full(len(p), label))
        ax.plot(
            p, values, style, color=OKABE_ITO[colour], marker=marker, markevery=40, markersize=8, linewidth=2.5,
            label=f"label {label}",
        )  # fmt: skip
    ax.plot([0.5], [np.log(2)], "D", color=OKABE_ITO["black"], markersize=8)
    ax.annotate("log 2", (0.5, np.log(2)), xytext=(0, -30), textcoords="offset points", ha="center", fontsize=TEXT)
    ax.axvline(0.5, color="0.8", linewidth=1, zorder=0)
    ax.set(xlim=(0, 1), ylim=(0, 5))
    ax.set_xlabel("score p of class 1", fontsize=TEXT)
    ax.set_ylabel("loss (nats)", fontsize=TEXT)
    ax.legend(frameon=False, fontsize=TEXT, loc="upper center")
    return ax


def momentum_schedule(
    schedule: Callable[[int], float] | None = None, ax: Axes | None = None, *, steps: int = 12_500
) -> Axes:
    """The momentum of each step: by default mu_t of TC-17 with maximum 0.99, figure 4 of Tomasi (2019).

    ``schedule`` is any function of the step, counted from 0.
    """
    from ..optim import MomentumSchedule

    if steps < 1:
        raise ValueError(f"momentum_schedule: steps={steps}: draw at least 1")
    ax = axes(ax)
    schedule = MomentumSchedule() if schedule is None else schedule
    values = [schedule(t) for t in range(steps)]
    ax.step(range(steps), values, where="post", color=OKABE_ITO["blue"], linewidth=2.5)
    ax.axhline(max(values), color=OKABE_ITO["vermilion"], linestyle=":", linewidth=2)
    ax.annotate(
        f"{max(values):.3g}", (0, max(values)), xytext=(6, -8), textcoords="offset points", fontsize=TEXT,
        color=OKABE_ITO["vermilion"], va="top",
    )  # fmt: skip
    ax.set_xlim(0, steps)
    ax.set_xlabel("step t", fontsize=TEXT)
    ax.set_ylabel(r"momentum $\mu_t$", fontsize=TEXT)
    return ax


def entropy(p: float | None = None, ax: Axes | None = None) -> Axes:
    """The entropy of a binary source, in bits, against the probability q of a one (figure 5 of Tomasi 2019).

    With ``p`` also what a code costs that was built for a source with the probability p: the cross-entropy, a straight
    line that touches the entropy at q = p. What lies between them is the divergence, the bits that are wasted.
    """
    from ..information import cross_entropy_bits, entropy_bits

    if p is not None and not 0 < p < 1:
        raise ValueError(f"entropy: p={p!r}: give a probability between 0 and 1")
    ax = axes(ax)
    q = np.linspace(0, 1, 401)
    bits = np.array([entropy_bits(one) for one in q])
    ax.plot(q, bits, color=OKABE_ITO["blue"], linewidth=2.5, label="entropy H(q)")
    if p is not None:
        cost = np.array([cross_entropy_bits(one, p) for one in q])
        ax.plot(q, cost, "--", color=OKABE_ITO["vermilion"], linewidth=2.5, label=f"cross-entropy H(q, {p:g})")
        ax.fill_between(q, bits, cost, color=OKABE_ITO["orange"], alpha=0.3, linewidth=0, label="divergence: wasted")
        ax.plot([p], [entropy_bits(p)], "o", color=OKABE_ITO["black"], markersize=9)
        ax.legend(frameon=False, fontsize=TEXT)
    ax.set(xlim=(0, 1), ylim=(0, None))
    ax.set_xlabel("probability q of a one", fontsize=TEXT)
    ax.set_ylabel("bits a source bit", fontsize=TEXT)
    return ax


def huffman_rate(q: float = 0.1, blocks: Sequence[int] = tuple(range(1, 9)), ax: Axes | None = None) -> Axes:
    """The rate of Huffman codes of blocks of m bits, in bits a source bit, with its bounds H <= rate < H + 1/m (TC-24).

    The source emits independent bits, ones with probability ``q``; the longer the blocks, the closer to its entropy.
    """
    from matplotlib.ticker import MaxNLocator

    from ..information import entropy_bits, huffman_block_code

    if not len(blocks):
        raise ValueError("huffman_rate: no block lengths: give some, such as range(1, 9)")
    ax = axes(ax)
    m, H = np.asarray(blocks), entropy_bits(q)
    rates = [huffman_block_code(q, int(length)).rate for length in m]
    ax.fill_between(m, H, H + 1 / m, color=OKABE_ITO["sky blue"], alpha=0.35, linewidth=0, label="H to H + 1/m")
    ax.plot(m, rates, "o-", color=OKABE_ITO["blue"], linewidth=2.5, markersize=9, label="Huffman code")
    ax.axhline(H, color=OKABE_ITO["vermilion"], linestyle="--", linewidth=2.5, label=f"entropy H({q:g}) = {H:.4f}")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylim(0, max(1.05, *rates))
    ax.set_xlabel("block length m", fontsize=TEXT)
    ax.set_ylabel("bits a source bit", fontsize=TEXT)
    ax.legend(frameon=False, fontsize=TEXT)
    return ax
