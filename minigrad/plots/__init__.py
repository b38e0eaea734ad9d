"""Plots. Each function takes ``ax=None``, returns the Axes, and never shows anything.

Without ``ax`` a figure is made that no global state knows: ``ax.figure.savefig(path)`` writes it, and a
notebook shows it as ``ax.figure``. Colours are those of Okabe and Ito, told apart by all kinds of eyes, with
markers as well.
"""

from .curves import learning_curves
from .style import OKABE_ITO

__all__ = ["OKABE_ITO", "learning_curves"]
