"""Make the pictures of the README's gallery: ``python docs/gallery.py`` writes docs/gallery/*.png.

Pages are built into a temporary folder and photographed by headless Chromium, which has to be installed; plots are
drawn from the embedded digits.
"""

import io
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import minigrad as mg
from minigrad import lectures, plots
from minigrad.experiments import digits

FOLDER = Path(__file__).parent / "gallery"
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--virtual-time-budget=4000",
]  # fmt: skip
STEP = 9
"""Where the player stands in its picture."""


def keep(name: str, picture: bytes) -> None:
    """Write a PNG with few colours, beside and renamed."""
    FOLDER.mkdir(exist_ok=True)
    few = Image.open(io.BytesIO(picture)).convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE)
    part = FOLDER / f"{name}.part"
    few.save(part, format="PNG", optimize=True)
    print(part.replace(FOLDER / f"{name}.png"))


def photograph(name: str, page: Path, size: tuple[int, int]) -> None:
    """What a browser window of this size shows of a page."""
    binary = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if binary is None:
        raise SystemExit("docs/gallery.py: Chromium is not installed: apt install chromium")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder, "shot.png")
        window = f"--window-size={size[0]},{size[1]}"
        profile = f"--user-data-dir={folder}/profile"
        command = [binary, *FLAGS, profile, window, f"--screenshot={shot}", page.as_uri()]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL, timeout=120)
        keep(name, shot.read_bytes())


def pages() -> None:
    """The contents, a lecture, and the player in the middle of a backward pass."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        list(lectures.build(lectures.find(), folder))
        photograph("contents", folder / "index.html", (1050, 1200))
        photograph("lecture", folder / lectures.find([1])[0].page, (1050, 1200))
        rng = np.random.default_rng(0)
        model = mg.nn.Sequential(
            mg.nn.Conv2d(1, 2, 3, rng=rng), mg.nn.ReLU(), mg.nn.MaxPool2d(2), mg.nn.Flatten(),
            mg.nn.Linear(18, 3, rng=rng),
        )  # fmt: skip
        loss = mg.losses.CrossEntropy()(model(mg.data.digits().train.x[:1]), [1])
        player = mg.trace.step(loss, model=model)._repr_html_()
        steps = f"<script>for (let n = 0; n < {STEP}; n++) document.querySelector('[title^=next]').click()</script>"
        page = folder / "player.html"
        page.write_text(f'<!doctype html><meta charset="utf-8"><body>{player}{steps}', encoding="utf-8")
        photograph("player", page, (1200, 840))


def drawings() -> None:
    """Plots of a convolution's Jacobian, of a trained network, and of losses."""
    figures = {}
    rng = np.random.default_rng(0)
    J = mg.registry["conv2d"]().jacobian(rng.normal(size=(2, 7, 7)), rng.normal(size=(2, 2, 3, 3)), None)[0]
    figures["jacobian"] = plots.jacobian(J, (2, 5, 5), (2, 7, 7))
    result = digits.run(0, epochs=6, progress=False)
    test = mg.data.digits(np.float32).test
    with mg.no_grad():
        logits = result.model.eval()(test.x).data
    figures["logits"] = plots.logit_distributions(logits, test.y)
    figures["features"] = plots.feature_maps(result.model, test.x[0])
    figures["incorrect"] = plots.incorrect_categories()
    figures["matching"] = plots.matching_losses([mg.transfer.Sigmoid(), mg.transfer.ReLU(), mg.transfer.ELU()])[0, 0]
    loss, classes = mg.losses.IncorrectProbabilityLoss.preset("ce+big+small"), ["cat", "dog", "frog"]
    levels = plots.loss_levels(loss, 0, classes=classes)
    figures["levels"] = plots.descent_field(loss, 0, levels, classes)
    for name, ax in figures.items():
        drawn = io.BytesIO()
        ax.figure.savefig(drawn, dpi=80)
        keep(name, drawn.getvalue())


if __name__ == "__main__":
    drawings()
    pages()
