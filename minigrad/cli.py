"""The command line: ``minigrad train``, ``locoprop``, ``verify``, ``table``, ``reproduce``, ``lectures`` and
``info``.

Results go to standard output, progress and complaints to standard error. The exit status is 0, or 1 where a
verification failed, 2 for wrong arguments, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["main"]

VARIANTS = ("squared-pre", "squared-post", "matching", "dual")
TABLES = ("losses", "matching-losses", "operations")

EXAMPLES = {
    "": """examples:
  minigrad train              train a convolutional network on the embedded digits
  minigrad locoprop           train a perceptron on them layer by layer
  minigrad verify             prove every gradient in the engine
  minigrad table operations   every operation with its formula and its source
  minigrad lectures open      read them in the browser
  minigrad info               what computes, and on how many threads
  minigrad COMMAND --help     what a command does, with examples""",
    "train": """examples:
  minigrad train                       writes runs/<time>/
  minigrad train --seed 3              other weights, masks and order; the same split of the data
  minigrad train --loss max_margin     another loss, with the learning rate that suits it
  minigrad train --quiet --json        nothing but the numbers, on standard output
  minigrad train --output runs/first   writes there

the folder gets metrics.json, model.npz (the best weights: model.load), checkpoint.npz (all that
training needs to go on: fit(..., resume=True)) and learning_curves.png""",
    "locoprop": """examples:
  minigrad locoprop                              the matching loss, one layer after the other
  minigrad locoprop --variant squared-pre
  minigrad locoprop --executor threads:2         the layers on two threads; the same bits
  minigrad locoprop --executor dask://host:8786  on the workers of a Dask scheduler; the same bits
  minigrad locoprop --quiet --json               nothing but the numbers, on standard output

Dask asks nobody who they are: whoever reaches its scheduler runs code on its machines. Keep it on a network that
you trust, or behind its TLS.""",
    "verify": """examples:
  minigrad verify                      the whole registry, and the mutants that must be caught
  minigrad verify softmax conv2d       these operations
  minigrad verify --quiet              one line; the exit status is 1 on a failure
  minigrad verify --json > audit.json""",
    "table": """examples:
  minigrad table losses                what each loss is, and whether it is convex, aligned, bounded
  minigrad table operations
  minigrad table operations --format markdown > operations.md""",
    "reproduce": """examples:
  minigrad reproduce locoprop --data DIR   the deep autoencoder on MNIST, half an hour
  minigrad reproduce locoprop              on the embedded digits, with smaller layers, some minutes
  minigrad reproduce locoprop --quick      one setting a method, less training: two minutes at most

the folder gets results.md, results.json and results.png; what is finished there is not computed again, so
that the same command goes on where it was interrupted""",
    "lectures": """examples:
  minigrad lectures open                   in the browser, built when they are not
  minigrad lectures open 3
  minigrad lectures build                  all as pages and notebooks, in lectures/build/student/
  minigrad lectures build 3 4 --output DIR
  minigrad lectures build --solutions      the same with the solutions, in lectures/build/solutions/
  minigrad lectures check FILE.ipynb 3     judge a student's notebook of lecture 3, or a Python file of functions
  minigrad lectures notebooks 3            lectures/03_....ipynb made again, after its source was changed

pages load nothing from the network; the notebooks have the metadata of nbgrader. pip install -e '.[lectures]'""",
    "info": """examples:
  minigrad info
  minigrad info --json""",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        commands = (train, locoprop, verify, table, reproduce, lectures, info)
        return {command.__name__: command for command in commands}[options.command](options)
    except KeyboardInterrupt:
        print("minigrad: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"minigrad {options.command}: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    from . import __version__

    def described(command: str, text: str) -> dict[str, Any]:
        raw = argparse.RawDescriptionHelpFormatter
        return {"description": text, "epilog": EXAMPLES[command], "formatter_class": raw}

    parser = argparse.ArgumentParser("minigrad", **described("", "A deep-learning engine with proved gradients."))
    parser.add_argument("--version", action="version", version=f"minigrad {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print the result as JSON")
    shared.add_argument("--quiet", action="store_true", help="no progress, and one line instead of a table")

    text = "Train a small convolutional network on 1,797 handwritten digits."
    command = commands.add_parser("train", help=text, parents=[shared], **described("train", text))
    command.add_argument("--seed", type=int, default=0, help="of weights, masks and order (default 0)")
    command.add_argument("--loss", default="cross_entropy", metavar="NAME", help="by name (default cross_entropy)")
    command.add_argument("--lr", type=float, metavar="RATE", help="instead of the one that suits the loss")
    command.add_argument("--epochs", type=int, default=40, help="at most so many (default 40)")
    command.add_argument("--output", type=Path, metavar="DIR", help="write there instead of runs/<time>")

    text = "Train a perceptron on the handwritten digits layer by layer."
    command = commands.add_parser("locoprop", help=text, parents=[shared], **described("locoprop", text))
    command.add_argument("--variant", choices=VARIANTS, default="matching", help="the local loss (default matching)")
    command.add_argument(
        "--executor", default="serial", metavar="WHERE", help="serial (default), threads:N or dask://host:port"
    )
    command.add_argument("--seed", type=int, default=0, help="of weights and order (default 0)")
    command.add_argument("--epochs", type=int, default=20, help="so many (default 20)")
    command.add_argument("--iterations", type=int, default=10, help="local steps of a round (default 10)")

    text = "Audit operations: formula, value, Jacobian and product must be one function."
    command = commands.add_parser("verify", help=text, parents=[shared], **described("verify", text))
    command.add_argument("operations", nargs="*", metavar="OPERATION", help="such as softmax (default all)")

    text = "Print a table that is computed from the engine."
    command = commands.add_parser("table", help=text, **described("table", text))
    command.add_argument("table", choices=TABLES, help="which")
    command.add_argument("--format", choices=("text", "markdown", "latex", "html"), default="text")

    text = "Repeat an experiment of a paper."
    command = commands.add_parser("reproduce", help=text, parents=[shared], **described("reproduce", text))
    command.add_argument("experiment", choices=("locoprop",), help="which")
    command.add_argument("--data", type=Path, metavar="DIR", help="the folder of MNIST, or of its folder MNIST/raw")
    command.add_argument("--quick", action="store_true", help="one setting a method, and less training")
    command.add_argument("--epochs", type=int, metavar="N", help="instead of 5 on MNIST, 20 on the digits")
    command.add_argument("--seed", type=int, default=0, help="of weights and order (default 0)")
    command.add_argument("--output", type=Path, metavar="DIR", help="instead of runs/reproduce-NAME-DATA")

    text = "Build the lectures as pages and notebooks, or open them."
    command = commands.add_parser("lectures", help=text, **described("lectures", text))
    command.add_argument("action", choices=("build", "open", "check", "notebooks"), help="what to do")
    command.add_argument("numbers", nargs="*", metavar="NUMBER", help="of lectures (default all); check FILE first")
    command.add_argument("--solutions", action="store_true", help="build those with the solutions")
    command.add_argument("--output", type=Path, metavar="DIR", help="instead of lectures/build/student, .../solutions")

    text = "Show versions, kernels and threads."
    commands.add_parser("info", help=text, parents=[shared], **described("info", text))
    return parser


def train(options: argparse.Namespace) -> int:
    """Train on the digits; writes a folder, prints a table."""
    _at_least("seed", options.seed, 0)
    from .experiments import digits

    digits.recipe(options.loss)  # a wrong name makes no folder
    folder = _folder(options.output)
    checkpoint = folder / "checkpoint.npz"
    try:
        result = digits.run(
            options.seed,
            loss=options.loss,
            lr=options.lr,
            epochs=options.epochs,
            checkpoint=checkpoint,
            progress=False if options.quiet else None,
        )
    except KeyboardInterrupt:
        saved = f"{checkpoint} holds the last whole epoch" if checkpoint.exists() else "nothing was saved yet"
        print(f"\nminigrad train: interrupted; {saved}", file=sys.stderr)
        return 130
    history = result.history
    report = result.as_dict() | {"folder": str(folder), **_computes()}
    _write_results(folder, result, report)
    if options.json:
        print(json.dumps(report, indent=2))
    elif options.quiet:
        print(f"test accuracy {1 - result.test_error:.2%}, {history.epochs} epochs, {result.seconds:.1f} s, {folder}")
    else:
        best = report["best_validation_error"]
        _table(
            f"digits, seed {result.seed}",
            {
                "loss": f"{options.loss}, learning rate {result.recipe.lr:g}",
                "test accuracy": f"{1 - result.test_error:.2%}",
                "test error": f"{result.test_error:.2%}",
                "best validation error": f"{best:.2%} in epoch {history.best_epoch}",
                "epochs": f"{history.epochs}, then: {history.stopped}",
                "parameters": f"{result.parameters:,}",
                "seconds": f"{result.seconds:.1f}",
                "computed by": _kernels_in_words(report),
                "written to": f"{folder}/",
            },
        )
    return 0


def locoprop(options: argparse.Namespace) -> int:
    """Train on the digits layer by layer; prints the epochs and a table."""
    _at_least("seed", options.seed, 0)
    from concurrent.futures import BrokenExecutor

    from .experiments import layerwise
    from .locoprop import executor_for

    def show(epoch: layerwise.Epoch) -> None:
        print(
            f"epoch {epoch.epoch:3}, {epoch.rounds:4} rounds: loss {epoch.loss:.4f}, validation error "
            f"{epoch.validation_error:.2%}, {epoch.seconds:.2f} s",
            file=sys.stderr,
        )

    try:
        with executor_for(options.executor) as executor:
            result = layerwise.run(
                options.seed,
                variant=options.variant,
                epochs=options.epochs,
                iterations=options.iterations,
                executor=executor,
                watch=None if options.quiet else show,
            )
    except (BrokenExecutor, ModuleNotFoundError) as error:
        print(f"minigrad locoprop: {error}", file=sys.stderr)
        return 2
    report = result.as_dict() | {"executor": options.executor, **_computes()}
    if options.json:
        print(json.dumps(report, indent=2))
    elif options.quiet:
        print(f"test accuracy {1 - result.test_error:.2%}, {options.epochs} epochs, {result.seconds:.1f} s")
    else:
        trainer = result.trainer
        _table(
            f"digits layer by layer, seed {result.seed}",
            {
                "local loss": f"{result.variant}, {trainer.iterations} steps, anchor {trainer.anchor}",
                "rates": f"activation {trainer.activation_lr:g}, weight {trainer.weight_lr:g}",
                "test accuracy": f"{1 - result.test_error:.2%}",
                "training loss": f"{result.epochs[-1].loss:.4f}",
                "rounds": f"{trainer.rounds}, {1000 * result.seconds / trainer.rounds:.1f} ms each",
                "executor": options.executor,
                "computed by": _kernels_in_words(report),
            },
        )
    return 0


def _at_least(name: str, given: int | None, least: int) -> None:
    if given is not None and given < least:
        raise ValueError(f"--{name} {given}: give a whole number from {least}")


def _folder(wanted: Path | None) -> Path:
    """The folder of this run: the one that was asked for, or a new one named by the time."""
    if wanted is not None:
        wanted.mkdir(parents=True, exist_ok=True)
        return wanted
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    for suffix in ("", *(f"-{n}" for n in range(2, 1000))):
        folder = Path("runs", stamp + suffix)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise OSError(f"runs/{stamp}-... are all taken: name a folder by --output")


def _write_results(folder: Path, result: Any, report: dict[str, Any]) -> None:
    """The numbers, the best weights and the picture, each written beside and renamed."""
    from .nn import written
    from .plots import learning_curves

    result.model.save(folder / "model.npz")
    figure = learning_curves(result.history).get_figure(root=True)
    assert figure is not None
    with written(folder / "learning_curves.png") as file:
        figure.savefig(file, format="png")
    with written(folder / "metrics.json") as file:
        file.write(json.dumps(report, indent=2).encode() + b"\n")


def verify(options: argparse.Namespace) -> int:
    """Audit operations; status 1 if a check failed or a mutant survived."""
    from .verify import audit

    report = audit(options.operations or None)
    if options.json:
        print(json.dumps(report.as_dict(), indent=2))
    elif options.quiet:
        print("minigrad verify: " + ("passed" if report.passed else "FAILED"))
    else:
        print(report)
    return 0 if report.passed else 1


def table(options: argparse.Namespace) -> int:
    """Print a table of `minigrad.tables`."""
    from . import tables

    print(getattr(tables, options.table.replace("-", "_"))().render(options.format))
    return 0


def reproduce(options: argparse.Namespace) -> int:
    """Repeat an experiment; writes a folder, prints a table."""
    from concurrent.futures import ThreadPoolExecutor

    from . import kernels
    from .experiments import autoencoder

    _at_least("seed", options.seed, 0)
    _at_least("epochs", options.epochs, 1)
    setting = autoencoder.setting(options.data, quick=options.quick, epochs=options.epochs)
    candidates = autoencoder.candidates(setting)
    if options.quick:
        candidates = list({candidate.method: candidate for candidate in reversed(candidates)}.values())[::-1]
    kind = f"{'quick-' * options.quick}{'digits' if options.data is None else 'mnist'}"
    folder = options.output or Path("runs", f"reproduce-{options.experiment}-{kind}")
    with ThreadPoolExecutor(kernels.num_threads()) as executor:
        report = autoencoder.run(
            setting, folder, seed=options.seed, candidates=candidates, executor=executor,
            progress=False if options.quiet else None,
        )  # fmt: skip
    if options.json:
        print(json.dumps(report.as_dict(), indent=2))
    elif options.quiet:
        print(report.verdict())
    else:
        print(f"{setting.name}: training loss in nats an image; {folder}/ has all settings and the curves\n")
        print(report.table())
        print(f"\n{report.verdict()}")
    return 0


def lectures(options: argparse.Namespace) -> int:
    """Build the lectures and print what was written, open a page, or judge a student's work (status 1 if it fails)."""
    import webbrowser

    from . import lectures as lecture

    file = Path(options.numbers.pop(0)) if options.action == "check" and options.numbers else None
    if not all(number.isdecimal() for number in options.numbers):
        raise ValueError(f"{' '.join(options.numbers)}: expected numbers of lectures, such as 3")
    chosen = lecture.find(map(int, options.numbers))
    if options.action == "check":
        if file is None or len(chosen) != 1:
            raise ValueError("name the file to check, and the lecture: minigrad lectures check FILE 3")
        return _judge(chosen[0], lecture.answers(file))
    if options.action == "notebooks" and (options.solutions or options.output):
        raise ValueError("notebooks are written beside their sources, without solutions: leave the options out")
    output = options.output or lecture.FOLDER / "build" / ("solutions" if options.solutions else "student")
    page = output / (chosen[0].page if options.numbers else "index.html")
    try:
        if options.action == "notebooks":
            made = lecture.make_notebooks(chosen)
        elif options.action == "build" or not page.exists():
            made = lecture.build(chosen, output, solutions=options.solutions)
        else:
            made = iter(())
        for path in made:
            print(path)
    except ModuleNotFoundError as error:
        print(f"minigrad lectures: {error}: pip install -e '.[lectures]' brings it", file=sys.stderr)
        return 2
    if options.action == "open" and not webbrowser.open(page.resolve().as_uri()):
        print(f"no browser was found: open {page.resolve().as_uri()}")
    return 0


def _judge(lecture: Any, answers: dict[str, str]) -> int:
    """Print what each check of a lecture says, and the points; status 1 if not all are reached."""
    points = possible = 0
    for judged in lecture.judge(answers):
        possible += judged.points
        points += judged.points if judged.right else 0
        print(f"{judged.exercise}: right, {judged.points} points\n" if judged.right else f"{judged.complaint}\n")
    print(f"{points} of {possible} points")
    return int(points < possible)


def info(options: argparse.Namespace) -> int:
    """Print versions, what computes, and on how many threads."""
    facts = _versions() | _computes()
    if options.json:
        print(json.dumps(facts, indent=2))
    elif options.quiet:
        print(f"minigrad {facts['minigrad']}, {_kernels_in_words(facts)}")
    else:
        blas = [f"{b['name']} {b['version']}, {b['threads']} threads" for b in facts["blas"]]
        words = {name: facts[name] for name in ("minigrad", "python", "numpy", "scipy")}
        words |= {
            "kernels": _kernels_in_words(facts),
            "kernel threads": str(facts["kernel_threads"]) if facts["openmp"] else "1, built without OpenMP",
            "BLAS": "; ".join(blas) or "none that threadpoolctl knows",
        }
        _table("minigrad info", words)
        if not facts["compiled"]:
            print(
                "\nConvolution, pooling and batch normalization run on their NumPy reference: the same numbers,\n"
                "several times slower. For the compiled kernels install a C compiler and the Python headers, then\n"
                "install minigrad again with MINIGRAD_REQUIRE_KERNELS=1, which shows what fails."
            )
    return 0


def _versions() -> dict[str, Any]:
    import platform

    import numpy
    import scipy

    from . import __version__

    return {
        "minigrad": __version__,
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
    }


def _computes() -> dict[str, Any]:
    """What computes: the kernels, OpenMP, and the BLAS under NumPy, with their threads."""
    from threadpoolctl import threadpool_info  # type: ignore[import-untyped]

    from . import kernels

    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return {
        "backend": kernels.backend(),
        "compiled": kernels.compiled(),
        "openmp": kernels.openmp(),
        "kernel_threads": kernels.num_threads(),
        "blas": [
            {"name": pool["internal_api"], "version": pool["version"] or "", "threads": pool["num_threads"]}
            for pool in pools
        ],
    }


def _kernels_in_words(facts: dict[str, Any]) -> str:
    if facts["backend"] == "cython":
        return f"compiled kernels (Cython) on {facts['kernel_threads']} threads"
    return "NumPy, as asked for" if facts["compiled"] else "NumPy: the kernels are not compiled"


def _table(title: str, rows: dict[str, str]) -> None:
    width = max(map(len, rows))
    print(title)
    for name, value in rows.items():
        print(f"  {name:<{width}}  {value}")
