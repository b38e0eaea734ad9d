"""Plots. Each function takes ``ax=None``, returns the Axes, and never shows anything; `network` alone draws an SVG.

Without ``ax`` a figure is made that no global state knows: ``ax.figure.savefig(path)`` writes it, and a
notebook shows it as ``ax.figure``. Colours are those of Okabe and Ito, told apart by all kinds of eyes, with
markers as well.
"""

from .curves import entropy, huffman_rate, learning_curves, momentum_schedule, two_class_cross_entropy
from .features import feature_maps, filters
from .jacobians import jacobian
from .logits import incorrect_categories, logit_distributions, precision_recall
from .matching import matching_loss, matching_losses
from .network import network
from .simplex import (
    animate_trajectory,
    barycentric,
    barycentric_inverse,
    descent_field,
    grouped,
    loss_levels,
    simplex,
    softmax_outputs,
    trajectory,
)
from .style import OKABE_ITO, figure, slide

__all__ = [
    "OKABE_ITO", "animate_trajectory", "barycentric", "barycentric_inverse", "descent_field", "entropy",
    "feature_maps", "figure", "filters", "grouped", "huffman_rate", "incorrect_categories", "jacobian",
    "learning_curves", "logit_distributions", "loss_levels", "matching_loss", "matching_losses", "momentum_schedule",
    "network", "precision_recall", "simplex", "slide", "softmax_outputs", "trajectory", "two_class_cross_entropy",
]  # fmt: skip
