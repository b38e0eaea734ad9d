"""The look of plots, against small reference pictures: ``python tests/test_plots_look.py`` draws these anew."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.testing.compare import compare_images
from matplotlib.text import Text
from test_plots_simplex import learning

import minigrad as mg
from minigrad import plots, transfer
from minigrad.losses import IncorrectProbabilityLoss

REFERENCE = Path(__file__).parent / "reference"


def convolution() -> Any:
    """The Jacobian of two channels of 6 x 6 under two kernels of 3 x 3."""
    rng = np.random.default_rng(0)
    return mg.registry["conv2d"]().jacobian(rng.normal(size=(2, 6, 6)), rng.normal(size=(2, 2, 3, 3)), None)[0]


def logits() -> tuple[np.ndarray, np.ndarray]:
    """200 samples of five classes, the true logit larger by 4 than the others."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 200)
    return rng.normal(size=(200, 5)) + 4 * np.eye(5)[labels], labels


LOOKS: dict[str, Callable[[Any], Any]] = {
    "simplex": plots.simplex,
    "trajectory_many": lambda ax: plots.trajectory(learning(40), ax, labels=np.arange(40) % 3),
    "trajectory_loss": lambda ax: plots.trajectory(
        learning(4)[:, 1:2], ax, labels=1, loss=IncorrectProbabilityLoss.preset("ce+big+small")
    ),
    "trajectory_two": lambda ax: plots.trajectory(learning(4, K=2), ax, labels=[0, 1, 0, 0]),
    "jacobian": lambda ax: plots.jacobian(convolution(), (2, 4, 4), (2, 6, 6), ax),
    "logit_distributions": lambda ax: plots.logit_distributions(*logits(), ax),
    "precision_recall": lambda ax: plots.precision_recall(*logits(), ax=ax),
    "incorrect_categories": lambda ax: plots.incorrect_categories(ax=ax),
    "matching_loss": lambda ax: plots.matching_loss(transfer.Tanh(), ax=ax),
    "entropy": lambda ax: plots.entropy(0.3, ax),
}


def picture(name: str, path: Path) -> None:
    """Small, and without the text, which fonts and versions draw differently."""
    with style.context("default"):
        figure = Figure(figsize=(10, 6), dpi=40)
        LOOKS[name](figure.add_axes((0.1, 0.1, 0.8, 0.75)))
        for text in figure.findobj(Text):
            text.set_visible(False)
        figure.savefig(path)


@pytest.mark.parametrize("name", LOOKS)
def test_the_look_is_that_of_the_reference(name: str, tmp_path: Path) -> None:
    picture(name, tmp_path / f"{name}.png")
    reference = tmp_path / f"{name}_reference.png"
    reference.write_bytes((REFERENCE / f"{name}.png").read_bytes())
    assert compare_images(str(reference), str(tmp_path / f"{name}.png"), tol=6) is None


if __name__ == "__main__":
    for name in LOOKS:
        picture(name, REFERENCE / f"{name}.png")
