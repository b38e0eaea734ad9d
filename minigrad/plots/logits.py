"""What logits decide: true and false ones on one line, precision and recall of each class, steps of the losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .style import OKABE_ITO, TEXT, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..losses import Loss

__all__ = ["incorrect_categories", "logit_distributions", "precision_recall"]

LOOKS = [
    (OKABE_ITO[colour], marker)
    for colour, marker in zip(
        ("blue", "vermilion", "green", "orange", "purple", "sky blue", "black"), "os^Dv*P", strict=True
    )
]


def logit_distributions(logits: Any, labels: Any, ax: Axes | None = None, *, bins: int = 60) -> Axes:
    """The true logits and the false ones of all samples, logits (N, K) and labels (N,) (Keren et al. 2018, figure 2).

    A true logit is that of the class of its sample. Where the smallest true one lies above the largest false one, one
    threshold parts them, and the gap between is shaded; otherwise the overlap is, in which single logits can be wrong.

    Raises as `metrics.logit_separation` does, and ValueError for one class and for logits that are infinite.
    """
    from ..metrics import logit_separation
    from ..tensor import as_array

    gap = logit_separation(logits, labels)
    logits, labels = as_array(logits), as_array(labels)
    if logits.shape[1] < 2:
        raise ValueError(f"logit_distributions: logits {logits.shape}: one class has no false logits; give two or more")
    if not np.isfinite(logits).all():
        raise ValueError(f"logit_distributions: logits {logits.shape} hold infinities: no axis has a place for them")
    mine = np.zeros(logits.shape, bool)
    mine[np.arange(len(logits)), labels] = True
    ax = axes(ax)
    edges = np.histogram_bin_edges(logits, bins).tolist()
    for name, values, colour, hatch in (
        ("false logits", logits[~mine], "vermilion", None), ("true logits", logits[mine], "blue", "//"),
    ):  # fmt: skip
        ax.hist(
            values, edges, density=True, label=name, color=OKABE_ITO[colour], alpha=0.45, hatch=hatch,
            edgecolor=OKABE_ITO[colour], linewidth=1.2, histtype="stepfilled",
        )  # fmt: skip
    lowest, highest = float(logits[mine].min()), float(logits[~mine].max())
    colour = OKABE_ITO["green"] if gap > 0 else OKABE_ITO["orange"]
    ax.axvspan(*sorted((lowest, highest)), color=colour, alpha=0.3, linewidth=0, zorder=0)
    ax.axvline(lowest, color=OKABE_ITO["blue"], linewidth=2.5, linestyle="--", label="smallest true logit")
    ax.axvline(highest, color=OKABE_ITO["vermilion"], linewidth=2.5, linestyle=":", label="largest false logit")
    words = f"separated: a gap of {gap:.3g}" if gap > 0 else f"not separated: they overlap by {abs(gap):.3g}"
    ax.set_title(words, fontsize=TEXT)
    ax.set_xlabel("logit", fontsize=TEXT)
    ax.set_ylabel("density", fontsize=TEXT)
    ax.legend(frameon=False, fontsize=14, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=4)
    return ax


def precision_recall(
    logits: Any, labels: Any, classes: Sequence[int] | None = None, ax: Axes | None = None
) -> Axes:
    """Precision against recall of single logits, class by class: logits (N, K), labels (N,) (LS-17).

    Of each class the samples are accepted from the largest of its logits down, equal ones together; the legend has the
    average precision. All ``classes`` are drawn unless some are named.

    Raises ValueError for a class that is not there or has no sample, and as `metrics.precision_recall_curve` does.
    """
    from ..metrics import average_precision, precision_recall_curve
    from ..tensor import as_array

    logits, labels = as_array(logits), as_array(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"precision_recall: logits {logits.shape}, labels {labels.shape}: give (N, K) and (N,)")
    shown = list(range(logits.shape[1])) if classes is None else list(classes)
    if not shown or not all(0 <= k < logits.shape[1] for k in shown):
        raise ValueError(f"precision_recall: classes={shown}: name some from 0 to {logits.shape[1] - 1}")
    ax = axes(ax)
    for n, k in enumerate(shown):
        curve = precision_recall_curve(logits[:, k], labels == k)
        colour, marker = LOOKS[n % len(LOOKS)]
        ax.plot(
            [0, *curve.recall], [curve.precision[0], *curve.precision], drawstyle="steps-pre", color=colour,
            marker=marker, markevery=0.15, markersize=7, linewidth=2, linestyle="-" if n < len(LOOKS) else "--",
            label=f"class {k}: {average_precision(logits[:, k], labels == k):.3f}",
        )  # fmt: skip
    ax.set(xlim=(0, 1.02), ylim=(0, 1.05))
    ax.set_xlabel("recall", fontsize=TEXT)
    ax.set_ylabel("precision", fontsize=TEXT)
    ax.legend(
        title="average precision", title_fontsize=14, fontsize=14, frameon=False, loc="center left",
        bbox_to_anchor=(1, 0.5),
    )  # fmt: skip
    return ax


def incorrect_categories(
    p: Any = (0.38, 0.55, 0.06, 0.01),
    label: int = 1,
    terms: Mapping[str, Loss] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Where a small descent step of each loss moves the probabilities p (K,) of one sample (IP-19).

    The bars are p, that of the correct category hatched, as in FIG. 5 of US 12387092. Above and below their tops stand
    arrows, one a term: -(diag p - p p^T) g, with g the gradient with respect to the logits, by back-propagation. The
    longest of each term is as long as every other's; a triangle says up or down also of an arrow too short to see.

    Parameters
    ----------
    p : probabilities, all greater than 0
    label : the correct category, from 0
    terms : names and losses, by default those of US 12387092, each in the sign of its formula (4)

    Raises ValueError for a p that is not inside the simplex, a label that is none of its categories, and no terms.
    """
    from .. import losses
    from ..metrics import on_simplex
    from ..tensor import Tensor

    p = np.asarray(p, dtype=float)
    if p.ndim != 1 or len(p) < 2 or not (p > 0).all() or not on_simplex(p, 1e4):
        raise ValueError(f"incorrect_categories: p={p}: give two or more probabilities above 0 that sum to 1")
    if not 0 <= label < len(p):
        raise ValueError(f"incorrect_categories: label={label!r}: expected a category from 0 to {len(p) - 1}")
    if terms is not None and not terms:
        raise ValueError("incorrect_categories: no terms: name some losses, or leave terms out for those of the patent")
    if terms is None:
        terms = {
            "cross-entropy": losses.CrossEntropy(),
            "complementary": losses.ComplementaryCrossEntropy(),
            "log odds": losses.LogOdds(),
            "log-sum-exp, big": losses.IncorrectLogOddsLSE(1.0, 1.0),
            "log-sum-exp, small": losses.IncorrectLogOddsLSE(-1.0, -1.0),
            "ln Z": losses.LogSumInverseProbability(),
        }
    ax = axes(ax)
    categories = np.arange(len(p))
    bars = ax.bar(categories, p, width=0.86, color="0.85", edgecolor="0.4")
    bars[label].set(facecolor=OKABE_ITO["yellow"], hatch="//")  # the one colour that no arrow has
    reached = [p]
    places = np.linspace(-0.34, 0.34, len(terms)) if len(terms) > 1 else [0.0]
    for (name, loss), place, (colour, _) in zip(terms.items(), places, LOOKS * len(terms), strict=False):
        z = Tensor(np.log(p)[None], requires_grad=True)
        loss(z, np.array([label])).sum().backward()
        assert z.grad is not None
        g = z.grad[0]
        step = -(p * g - p * (p @ g))
        length = 0.14 * step / (np.abs(step).max() or 1.0)
        reached.append(p + length)
        ax.vlines(categories + place, p, p + length, color=colour, linewidth=3)
        for sign, marker in ((1, "^"), (-1, "v")):
            there = np.sign(step) == sign
            ax.plot((categories + place)[there], (p + length)[there], marker, color=colour, markersize=10)
        ax.plot([], [], color=colour, linewidth=3, label=name)
    ax.set_xticks(categories, [f"category {k}" + ("\ncorrect" if k == label else "") for k in categories])
    ax.set_ylim(min(0, np.min(reached)) - 0.04, np.max(reached) + 0.04)
    ax.set_title("where a descent step on each loss moves p", fontsize=TEXT)
    ax.axhline(0, color="0.4", linewidth=1)
    ax.set_ylabel("probability, and where it moves", fontsize=TEXT)
    ax.legend(
        title="from left to right", title_fontsize=14, fontsize=14, frameon=False, loc="center left",
        bbox_to_anchor=(1, 0.5),
    )  # fmt: skip
    return ax
