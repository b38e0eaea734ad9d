"""From the plain data of a measurement to tables, `RESULTS.md` and the plots of growth."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

HAND_WRITTEN = "<!-- All above is written by `python -m benchmarks`; all below by hand, and kept. -->"
SECTIONS = {
    "steps": "Whole steps",
    "kernels": "Kernels",
    "float64": "Convolutions in float64",
    "operations": "Cost per operation",
    "peak": "Peak of the machine",
}
INTRODUCTIONS = {
    "steps": "Forward, loss, backward and momentum update of one batch, float32.",
    "kernels": "float32. \"input\" and \"weights\" are the gradients alone.",
    "float64": "The same convolutions in float64.",
    "operations": "Ten numbers, recorded and back-propagated unless it says forward.",
    "peak": "Large square matrix products; the fastest sample of any peer is the peak.",
}  # fmt: skip
LABELS = {
    "torch": "PyTorch", "minigrad": "minigrad", "jax": "JAX", "mygrad": "MyGrad", "autograd": "autograd",
    "numpy": "NumPy",
}  # fmt: skip
MEMORY_BOUND = 1.1

Results = Mapping[str, Any]


# What the numbers mean ------------------------------------------------------------------------------------------------


def reference(values: Mapping[str, float | None]) -> tuple[str, float] | None:
    """PyTorch in the better of its two settings: the name of the setting, and its number."""
    known = [(value, name) for name in ("torch", "torch-kept") if (value := values.get(name)) is not None]
    return (min(known)[1], min(known)[0]) if known else None


def medians(line: Results) -> dict[str, float | None]:
    return {name: time["median"] for name, time in line["times"].items()}


def peak(lines: Iterable[Results], threads: int, dtype: str) -> float | None:
    """The most floating-point operations a second that a matrix product reached."""
    rates = [
        line["flop"] / time["fastest"]
        for line in lines
        if (line["section"], line["threads"], line["dtype"]) == ("peak", threads, dtype)
        for time in line["times"].values()
    ]
    return max(rates, default=None)


def verdict(ratio: float | None, line: Results) -> str:
    """Which of its bounds minigrad keeps."""
    if ratio is None or line["must"] is None:
        return ""
    return "aim" if ratio <= line["aim"] else "must" if ratio <= line["must"] else "misses"


# Tables ---------------------------------------------------------------------------------------------------------------


def seconds(value: float) -> str:
    """Three digits and a unit: 1.87 ms."""
    for size, unit in ((1e-6, "us"), (1e-3, "ms"), (1, "s")):
        if value < 999.5 * size or unit == "s":
            digits = 0 if value >= 99.95 * size else 1 if value >= 9.995 * size else 2
            return f"{value / size:.{digits}f} {unit}"
    raise AssertionError


def share(line: Results, median: float, most: float | None) -> str:
    """How much of the peak this is; nothing for what is not made of matrix products of some size."""
    return f", {line['flop'] / median / most:.0%}" if most and line["flop"] > 1e6 else ""


def cells(line: Results, peers: Sequence[str], most: float | None) -> list[str]:
    """PyTorch's time, and of each other peer the ratio to it and the time; the share of the peak beside them."""
    times = medians(line)
    best = reference(times)
    row = []
    for peer in peers:
        name = best[0] if peer == "torch" and best else peer
        median = times.get(name)
        if median is None:
            row.append("wrong" if peer in line["wrong"] else "-")
            continue
        text = seconds(median) + share(line, median, most)
        if peer == "torch":
            row.append(text + (" *" if name == "torch-kept" else ""))
        else:
            row.append(f"{median / best[1]:.2f} ({text})" if best else text)
    return row


def bound(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def section(results: Results, name: str) -> list[list[str]]:
    """The rows of one table, its head first."""
    peers = results["peers"]
    head = ["", "threads", "must", "aim", *(LABELS[peer] for peer in peers), "minigrad keeps"]
    rows = [head]
    for line in results["lines"]:
        if line["section"] != name:
            continue
        times, best = medians(line), reference(medians(line))
        ours = times.get("minigrad")
        ratio = ours / best[1] if ours is not None and best else None
        most = peak(results["lines"], line["threads"], line["dtype"])
        row = [line["case"], str(line["threads"]), bound(line["must"]), bound(line["aim"])]
        rows.append([*row, *cells(line, peers, most), verdict(ratio, line)])
    return rows


def memory_rows(results: Results) -> list[list[str]]:
    """The rows of the table of peak memory."""
    peers = results["memory"][0]["bytes"]
    rows = [["", "must", *(LABELS[peer] for peer in peers)]]
    for line in results["memory"]:
        best = reference(line["bytes"])
        row = [line["case"], f"{MEMORY_BOUND:.2f}"]
        for peer in peers:
            size = best[1] if peer == "torch" and best else line["bytes"].get(peer)
            if size is None:
                row.append("-")
                continue
            text = f"{size / 2**20:.1f} MiB"
            row.append(text if peer == "torch" or not best else f"{size / max(best[1], 1):.2f} ({text})")
        rows.append(row)
    return rows


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown that is straight as text, too."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    head, *body = (" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    rule = " | ".join("-" * max(width, 3) for width in widths)
    return "\n".join(f"| {line} |" for line in (head, rule, *body))


def tables(results: Results) -> str:
    """All that was measured, one table a section."""
    parts = []
    for name, title in SECTIONS.items():
        rows = section(results, name)
        if len(rows) > 1:
            parts.append(f"## {title}\n\n{INTRODUCTIONS[name]}\n\n{table(rows)}")
    problems = [
        f"* {line['case']}, {line['threads']} thread(s), {name}: {text}"
        for line in results["lines"]
        for name, text in line["wrong"].items()
    ]
    if problems:
        parts.append("## Wrong or failed, and therefore not timed\n\n" + "\n".join(problems))
    if results.get("memory"):
        threads = results["memory"][0]["threads"]
        about = f"Growth of the resident memory over three steps in a fresh process, {threads} thread(s)."
        parts.append(f"## Peak memory of whole steps\n\n{about}\n\n{table(memory_rows(results))}")
    return "\n\n".join(parts)


def preface(results: Results) -> str:
    """Where, when and what was measured, and how to read it."""
    machine = results["machine"]
    load = f", load average {machine['load'][0]} before" if machine["load"] else ""
    return f"""# minigrad and its peers, side by side

`python -m benchmarks` on {results["date"]}: {machine["processor"]}, {machine["cores"]} cores, {machine["system"]},
Python {machine["python"]}{load}.
{", ".join(dict.fromkeys(results["versions"].values()))}.

Times are medians; in front of them stands the ratio to PyTorch, behind them the share of what the fastest large
matrix product of this run reached with as many threads and the same dtype (products with the zeros of a padding do
not count as work). PyTorch counts in the faster of two settings, plain and, marked with \\*, with glibc told to keep
freed memory. Every peer has a process of its own, and all take turns; functions of the others are timed for a shorter
while than those of PyTorch and minigrad. Before it is timed each is compared with NumPy by hand in float64: outputs and
gradients, of steps the losses and gradients of the first three. "-" is not covered."""


def write(results: Results, path: Path, plots: Sequence[Path] = ()) -> None:
    """The page; what was written by hand in the page that is there stays. It is written beside and renamed."""
    below = "\n\n## Notes\n"
    if path.exists():
        below = path.read_text().partition(HAND_WRITTEN)[2] or below
    parts = [preface(results), tables(results)]
    if plots:
        images = "\n".join(f"![{plot.stem}]({plot.name})" for plot in plots)
        parts.append(f"## How the cost grows\n\n`python -m benchmarks --growth` draws these.\n\n{images}")
    page = "\n\n".join([*parts, HAND_WRITTEN]) + below
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(page)
    part.replace(path)


# Plots ----------------------------------------------------------------------------------------------------------------

OKABE_ITO = {
    "torch": "#E69F00", "minigrad": "#0072B2", "jax": "#009E73", "mygrad": "#CC79A7", "autograd": "#D55E00",
    "numpy": "#56B4E9",
}  # fmt: skip
MARKERS = {"torch": "s", "minigrad": "o", "jax": "^", "mygrad": "D", "autograd": "v", "numpy": "P"}


def plot(sweep: Any, points: Sequence[tuple[int, Sequence[Results]]], peers: Sequence[str], path: Path) -> None:
    """Milliseconds over the size, both logarithmic; a line a peer and number of threads."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    counts = sorted({line["threads"] for _, lines in points for line in lines})
    for peer in peers:
        for threads in counts:
            found = []
            for size, lines in points:
                for line in lines:
                    times = medians(line)
                    best = reference(times)
                    value = (best[1] if best else None) if peer == "torch" else times.get(peer)
                    if line["threads"] == threads and value is not None:
                        found.append((size, 1e3 * value))
            if found:
                axes.plot(
                    *zip(*found, strict=True), color=OKABE_ITO[peer], marker=MARKERS[peer], markersize=5,
                    linestyle="-" if threads == counts[0] else "--",
                    label=f"{LABELS[peer]}, {threads} thread{'s' * (threads > 1)}",
                )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel=sweep.axis, ylabel="milliseconds", title=sweep.title)
    sizes = [size for size, _ in points]
    axes.set_xticks(sizes, labels=[str(size) for size in sizes])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    figure.savefig(part, dpi=100, format="png")
    part.replace(path)
