"""Traces as HTML: `<details>` frames that any viewer shows, and a script that makes a player of them.

JupyterLab strips script, style and inline SVG from output that it does not trust. Nothing is lost then: numbers are
tables with their own colours, pictures are images with data addresses, and every frame has the part of the data flow
that it is about. Nothing is loaded from anywhere, no element has an id, and formulas need no typesetting.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from .formulas import number_text
from .nodes import Node, shape_text
from .pictures import COLUMNS, LINE, colour, is_small, montage, picture
from .steps import WHOLE, Backward, Forward, Step, Trace

if TYPE_CHECKING:
    from ..plots.network import Drawing

__all__ = ["Frame", "block", "frame", "frames_page", "numbers", "player"]

MOST = 120
"""Steps in one page."""
LONGEST = 420
"""A formula of more characters is not written out."""

ROOT = (
    "background:#ffffff;color:#111111;font-family:Helvetica,Arial,sans-serif;font-size:17px;line-height:1.4;"
    "padding:12px;border:1px solid #bbbbbb;border-radius:8px;text-align:left"
)
BLOCK = "display:inline-block;vertical-align:top;max-width:100%;margin:3px 24px 9px 0"
MATH = 'style="font-size:19px;margin:4px 0"'
BADGES = {"forward": ("#0072B2", "forward"), "backward": ("#B34700", "backward"), "": ("#444444", "")}


@dataclass(frozen=True)
class Frame:
    """One page of a player: ``badge`` "forward", "backward" or none, a title (text), HTML, and what it marks."""

    title: str
    body: str
    badge: str = ""
    mark: int = 0

    def heading(self) -> str:
        shade, word = BADGES[self.badge]
        tag = (
            f'<span style="background:{shade};color:#ffffff;padding:2px 9px;border-radius:5px">{word}</span> '
            if word
            else ""
        )
        return f"{tag}<b>{html.escape(self.title)}</b>"

    def alone(self) -> str:
        """The frame without a player."""
        return f'<div style="{ROOT}"><div style="font-size:20px">{self.heading()}</div>{self.body}</div>'


# Arrays ------------------------------------------------------------------------------------------------------


def numbers(array: Any) -> str:
    """A small array as a table of numbers, red above and blue below 0; whole numbers, such as labels, are plain."""
    table = array.toarray() if hasattr(array, "toarray") else np.asarray(array)
    lines = list(np.atleast_2d(table))
    if table.ndim == 1 and table.size > COLUMNS:
        lines = [table[start : start + LINE] for start in range(0, table.size, LINE)]
    plain = table.dtype.kind in "iub"
    span = float(abs(table[np.isfinite(table)]).max(initial=0)) or 1.0
    rows = []
    for line in lines:
        cells = []
        for value in map(float, line):
            shade = colour(value / span) if value and np.isfinite(value) and not plain else "#fff"
            cells.append(f'<td align="right" bgcolor="{shade}">{_cell(value)}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return (
        '<table cellpadding="5" cellspacing="0" border="1" style="border-collapse:collapse;border-color:#bbb;'
        f'font-family:monospace;font-size:16px;margin:0;color:#111">{"".join(rows)}</table>'
    )


def _cell(value: float) -> str:
    if not np.isfinite(value):
        return str(value)
    text = number_text(value) if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.1e}"
    return (text if len(text) <= 7 else f"{value:.3g}").replace("-", "\u2212")


def block(caption: str, array: Any, colours: str = "RdBu_r") -> str:
    """An array with its caption (HTML): numbers if it is small, else a picture with its scale told."""
    if is_small(array):
        broken = np.ndim(array) == 1 and np.size(array) > COLUMNS
        inner, note = numbers(array), f"one row, in lines of {LINE}" if broken else ""
    else:
        matrix, how = (array, "") if hasattr(array, "tocoo") else montage(np.asarray(array, dtype=float))
        address, (width, height), was_pooled = picture(matrix, colours)
        data = array.data if hasattr(array, "tocoo") else np.asarray(array)
        low, high = float(np.min(data, initial=0)), float(np.max(data, initial=0))
        notes = [how] if how else []
        notes.append(f"from {number_text(low)} to {number_text(high)}")
        if was_pooled:
            notes.append("downsampled to the entry of largest magnitude of each block")
        inner = (
            f'<img src="{address}" width="{width}" height="{height}" alt="{shape_text(np.shape(array))} numbers" '
            'style="border:1px solid #999">'
        )
        note = "; ".join(notes)
    if note:
        inner += f"<div><small>{html.escape(note)}</small></div>"
    return f'<div style="{BLOCK}"><div>{caption}</div>{inner}</div>'


def _code(text: str) -> str:
    return f"<code>{html.escape(text)}</code>"


def _shape(array: Any) -> str:
    return f"<small>{shape_text(np.shape(array))}</small>"


# Steps -------------------------------------------------------------------------------------------------------


def frame(step: Step) -> Frame:
    """A step as a frame."""
    body = _forward(step) if isinstance(step, Forward) else _backward(step) if isinstance(step, Backward) else ""
    layer = f" of layer {step.node.layer}" if step.node.layer else ""
    return Frame(f"{step.node.label}{layer}", _local(step.node) + body, step.direction, step.node.number)


def _local(node: Node) -> str:
    """The node among its neighbours, for viewers without the player."""
    from ..plots.network import flow

    around = [x.node for x in node.inputs if x.node is not None]
    drawing = flow(list(dict.fromkeys([*around, node, *node.consumers[:6]])), mark=node, direction="right")
    return f'<div class="mg-local" style="margin:8px 0;overflow:auto">{drawing._repr_html_()}</div>'


def _formula(step: Step) -> str:
    """The operation in words, in letters, and with the numbers put in."""
    operation, entry = step.node.op, step.entry
    assert operation is not None
    lines, style = [_letters(step)], MATH
    value = html.escape(number_text(entry.value))
    put_in = entry.numbers()
    left = entry.left(markup=True, numbers=True)
    if not put_in or len(put_in) > LONGEST:
        lines.append(f"<div {style}>{left} = <b>{value}</b> (too long to write out)</div>")
    elif put_in == number_text(entry.value):
        lines.append(f"<div {style}>{left} = <b>{value}</b></div>")
    else:
        lines.append(f"<div {style}>{left} = {entry.numbers(markup=True)} = <b>{value}</b></div>")
    where = "in sample 0, " if entry.samples > 1 else ""
    flat = ", the arrays flattened in C order" if operation.flat and np.ndim(step.value) > 1 else ""
    if entry.position:
        lines.append(f'<div><small>{where}the entry that the loss feels most{flat}</small></div>')
    return "".join(lines)


def _letters(step: Step) -> str:
    """The operation in words and in letters."""
    operation, entry = step.node.op, step.entry
    words = re.sub("``(.*?)``", r"<code>\1</code>", html.escape((operation.__doc__ or "").strip().split("\n")[0]))
    settings = f" {_code(repr(operation))}" if operation is not None and operation.hyperparameters() else ""
    formula = ""
    if len(entry.general()) <= LONGEST:
        formula = f"<div {MATH}>{entry.left(markup=True)} = {entry.general(markup=True)}</div>"
    return f'<div style="margin-top:6px">{words}{settings}</div>{formula}'


def _forward(step: Forward) -> str:
    parts = [_formula(step)]
    for x in step.node.inputs:
        if x.value is not None:
            source = f" from {_code(x.node.label)}" if x.node is not None else ""
            parts.append(block(f"in: <b>{html.escape(x.variable)}</b>{source} {_shape(x.value)}", x.value, "cividis"))
    output = html.escape(step.entry.output)
    return "".join([*parts, "<br>", block(f"out: <b>{output}</b> {_shape(step.value)}", step.value, "cividis")])


def _backward(step: Backward) -> str:
    output = html.escape(step.entry.output)
    parts = [_letters(step), _incoming(step, output)]
    blocks = step.block()
    entries = step.samples * sum(getattr(J, "nnz", J.size) for J in blocks.values())
    whole = step.jacobian if blocks and step.samples > 1 and entries <= WHOLE else {}
    for name in step.outgoing:
        parts.append(_product(step, name, output, blocks.get(name), whole.get(name)))
    return "".join(parts)


def _incoming(step: Backward, output: str) -> str:
    caption = f"in: <b>g</b> = ∂ℓ/∂{output} {_shape(step.incoming)}"
    if not step.contributions:
        return block(f"{caption}, given to begin with", step.incoming)
    if len(step.contributions) == 1:
        return block(f"{caption}, from {_code(step.contributions[0].source.label)}", step.incoming)
    parts = [block(f"{caption}, the sum of {len(step.contributions)} contributions", step.incoming), "<br>"]
    for n, contribution in enumerate(step.contributions):
        sign = "=" if n == 0 else "+"
        caption = f"{sign} from {_code(contribution.source.label)}, as its {html.escape(contribution.variable)}"
        parts.append(block(caption, contribution.row))
    return "".join(parts)


def _product(step: Backward, variable: str, output: str, J: Any, whole: Any) -> str:
    name, samples = html.escape(variable), step.samples
    parts = []
    if J is None:
        parts.append(
            f'<div style="{BLOCK}">∂{output}/∂{name} has {step.value.size} × {step.outgoing[variable].size} entries: '
            "too large to be formed; the engine multiplies without it</div>"
        )
    else:
        of = " of sample 0" if samples > 1 else ""
        size = f"<small>{J.shape[0]}×{J.shape[1]}</small>"
        parts.append(block(f"<b>J</b> = ∂{output}/∂{name}{of} {size}", J))
    if whole is not None:
        where = "on its diagonal" if step.diagonal(variable) else "one below the other"
        size = f"<small>{whole.shape[0]}×{whole.shape[1]}</small>"
        parts.append(block(f"J of the batch {size}: {samples} such blocks {where}", whole))
    parts.append(block(f"out: <b>g J</b> {_shape(step.outgoing[variable])}", step.outgoing[variable]))
    arrival = step.arrivals[variable]
    text = f"contribution {arrival.arrived} of {arrival.expected}" if arrival.expected > 1 else "the only contribution"
    if arrival.complete and arrival.node.op is None:
        text += "; this completes its <code>.grad</code>"
    if arrival.expected > 1:
        parts.append(block("the sum there so far" if not arrival.complete else "the sum there", arrival.total))
    line = "border-top:2px solid #ddd;padding-top:6px"
    return (
        f'<div style="{line}"><div>back to <b>{name}</b>, which is {_code(arrival.node.label)}: {text}</div>'
        f"{''.join(parts)}</div>"
    )


def _given(trace: Trace) -> Frame:
    parts = [
        "<div>Forward, each operation computes its output and keeps what it will need. Backward, a row "
        "<b>g</b> comes into each operation, the newest first, and <b>g J</b> goes out to its inputs, where "
        "contributions add up. These arrays are given:</div>"
    ]
    for node in trace.nodes:
        if node.op is None:
            what = "" if node.kind == "leaf" else ", a constant"
            parts.append(block(f"{_code(node.label)} {_shape(node.value)}{what}", node.value, "cividis"))
    return Frame("what is given", "".join(parts))


def _results(trace: Trace) -> Frame:
    parts = ["<div>What <code>backward()</code> leaves in <code>.grad</code>:</div>"]
    for name, row in trace.gradients.items():
        count = len(trace.arrivals[name])
        added = f", the sum of {count} contributions" if count > 1 else ""
        parts.append(block(f"∂ℓ/∂{_code(name)} {_shape(row)}{added}", row))
    return Frame("the gradients", "".join(parts))


def player(trace: Trace, start: int = 0, stop: int | None = None) -> str:
    """The steps from ``start`` to ``stop`` as a player, with the data flow; no more than `MOST` of them."""
    from ..plots.network import LARGEST, flow

    wanted = range(len(trace))[start:stop]
    shown = trace[wanted.start : wanted.stop][:MOST]
    frames = [_given(trace), *map(frame, shown), _results(trace)]
    drawing = flow(trace.nodes) if len(trace.nodes) <= LARGEST else None
    numbered = {node.number: drawing.places[node] for node in trace.operations} if drawing else {}
    end = wanted.start + len(shown)
    note = f", here {wanted.start} to {end - 1}" if len(shown) < len(trace) else ""
    note += f"; html({end}) has the next" if end < wanted.stop else ""
    title = f"Back-propagation through {len(trace.operations)} operations in {len(trace)} steps{note}"
    return frames_page(title, frames, drawing, numbered)


def frames_page(
    title: str, frames: Sequence[Frame], drawing: Drawing | None = None, places: dict[int, Any] | None = None
) -> str:
    """Frames as HTML of their own, with a drawing in which the player marks where each frame is."""
    assets = files("minigrad.trace")
    script, style = (assets.joinpath(name).read_text(encoding="utf-8") for name in ("player.js", "player.css"))
    parts = []
    if drawing is not None:
        share = {
            number: [round(100 * part, 2) for part in (x / drawing.width, y / drawing.height,
                                                        w / drawing.width, h / drawing.height)]
            for number, (x, y, w, h) in (places or {}).items()
        }  # fmt: skip
        parts.append(
            '<details class="mg-flow"><summary>data flow</summary><div class="mg-map" '
            f"data-places='{json.dumps(share, separators=(',', ':'))}'>{drawing._repr_html_()}</div></details>"
        )
    pages = "".join(
        f'<details class="mg-frame" data-mark="{f.mark}" data-badge="{f.badge}" data-title="{html.escape(f.title)}">'
        f'<summary style="font-size:20px;padding:4px 0">{n}. {f.heading()}</summary>{f.body}</details>'
        for n, f in enumerate(frames)
    )
    return (
        f'<div class="minigrad-trace" style="{ROOT}"><style>{style}</style>'
        f'<div class="mg-head"><b>{html.escape(title)}</b></div>'
        f'<div class="mg-body">{"".join(parts)}<div class="mg-frames">{pages}</div></div>'
        f"<script>{script}</script></div>"
    )
