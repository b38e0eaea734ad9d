"""Draw the simplex picture of the README: what a network says of handwritten digits while it learns them.

``python docs/trajectories.py`` trains for a few seconds and writes trajectories.png.
"""

import io
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

import minigrad as mg
from minigrad import nn, plots
from minigrad.snapshots import Snapshots


def draw() -> Figure:
    """Digits 3, 8 and 9 that the network has not trained on; on the right some of the eights alone."""
    digits = mg.data.digits(seed=0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 24, seed=0), nn.Tanh(), nn.Linear(24, 10, seed=1))
    optimizer = mg.optim.SGD(model.parameters(), lr=0.02)
    history, loss = Snapshots(), mg.losses.CrossEntropy()
    mg.training.fit(model, loss, optimizer, digits.train, epochs=40, snapshots=history)

    x, y = digits.test.x, digits.test.y
    p = plots.softmax_outputs(model, history, x)
    some = np.concatenate([np.flatnonzero(y == digit)[:4] for digit in (3, 8, 9)])
    eights = np.flatnonzero(y == 8)
    hard = eights[np.argsort(p[-1, eights, 8])[:7]]

    figure = Figure(figsize=(19, 6.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = [f"digit {k}" for k in range(10)]
    plots.trajectory(p[:, some], left, labels=y[some], classes=names, parts=[3, 8, 9], times=history.times)
    plots.trajectory(p[:, hard], right, labels=8, classes=names, parts=[3, 8, 9], times=history.times, loss=loss)
    return figure


if __name__ == "__main__":
    drawn = io.BytesIO()
    draw().savefig(drawn, dpi=85)
    few_colours = Image.open(drawn).convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE)
    few_colours.save(Path(__file__).with_suffix(".png"), optimize=True)
