"""Draw the picture of the README: softmax, written four times. ``python docs/four_ways.py`` writes four_ways.png."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from minigrad.operation import registry

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"


def draw() -> Figure:
    """Formula, value, Jacobian and product side by side, all taken from the operation itself."""
    softmax = registry["softmax"]()
    z = np.array([1.5, 0.2, 2.3, -0.5])
    g = np.array([0.0, 0.0, -1.0, 0.0])
    p, J = softmax.forward(z), softmax.jacobian(z)
    classes = np.arange(len(z))

    figure = Figure(figsize=(13, 3.6), layout="constrained")
    formula, value, matrix, product = figure.subplots(1, 4, width_ratios=[0.85, 1, 1.05, 1])

    formula.set_title("the formula", loc="left")
    formula.axis("off")
    written = softmax.written(z)[0].latex("p").replace(r"_{k=0}^{K - 1}", r"_{\,k}\,")  # limits that fit a fraction
    formula.text(0.45, 0.52, f"${written}$", ha="center", va="center", size=26)

    value.set_title("forward(z): the value p", loc="left")
    value.bar(classes, p, color=BLUE)
    value.set(xticks=classes, ylim=(0, 1), xlabel="i")
    for i in classes:
        value.text(i, p[i] + 0.02, f"{p[i]:.2f}", ha="center")

    matrix.set_title(r"jacobian(z): $\partial p_i / \partial z_j$", loc="left")
    matrix.imshow(J, cmap="RdBu_r", vmin=-0.5, vmax=0.5)
    matrix.set(xticks=classes, yticks=classes, xlabel="j", ylabel="i")
    for i, j in np.ndindex(*J.shape):
        matrix.text(j, i, f"{J[i, j]:.2f}", ha="center", va="center")

    row = softmax.vjp(g, z, p)
    product.set_title("vjp(g, z, p): the row g J", loc="left")
    product.bar(classes, row, color=ORANGE, label="vjp")
    product.plot(classes, g @ J, "D", color="black", ms=7, label="g times the matrix")
    product.axhline(0, color=GREY, lw=0.8)
    product.set(xticks=classes, xlabel="j", ylim=(-0.5, 0.5))
    product.legend(loc="upper right", frameon=False)

    for axes in (value, product):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    draw().savefig(Path(__file__).with_suffix(".png"), dpi=110)
