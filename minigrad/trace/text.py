"""Traces as text of at most 96 columns, for a terminal."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np

from .formulas import number_text
from .nodes import shape_text
from .pictures import is_small, montage, shades
from .steps import Backward, Forward, Step, Trace

__all__ = ["array_text", "page", "pages"]

WIDTH = 96
MOST = 60
"""A longer trace prints its table of contents."""


def pages(trace: Trace) -> str:
    """All steps of a short trace; of a long one a line for each step."""
    head = f"Back-propagation through {len(trace.operations)} operations in {len(trace)} steps"
    if len(trace) > MOST:
        lines = [
            f"[{step.number}] {step.direction:8} {step.node.label:24} {shape_text(step.value.shape)}" for step in trace
        ]
        return "\n".join([head, *lines, "print(trace[k]) prints step k"])
    ends = [
        f"{name}: ∂ℓ/∂{name} ({shape_text(row.shape)}), {len(trace.arrivals[name])} contribution(s)\n{array_text(row)}"
        for name, row in trace.gradients.items()
    ]
    return "\n\n".join([head, *map(page, trace), _rule("the gradients"), *ends])


def page(step: Step) -> str:
    """One step."""
    layer = f" of layer {step.node.layer}" if step.node.layer else ""
    lines = [_rule(f"[{step.number}] {step.direction} through {step.node.label}{layer}")]
    lines += _forward(step) if isinstance(step, Forward) else _backward(step) if isinstance(step, Backward) else []
    return "\n".join(lines)


def array_text(array: Any) -> str:
    """A small array in numbers, a large one in shades; a sparse one too."""
    if is_small(array):
        dense = array.toarray() if hasattr(array, "toarray") else np.asarray(array)
        form: Any = {} if dense.dtype.kind in "iub" else {"float_kind": _number}
        text = np.array2string(dense, max_line_width=WIDTH - 4, formatter=form)
        return textwrap.indent(text, "    ")
    matrix, how = (array, "") if hasattr(array, "tocoo") else montage(np.asarray(array, dtype=float))
    data = array.data if hasattr(array, "tocoo") else np.asarray(array)
    low, high = number_text(np.min(data, initial=0)), number_text(np.max(data, initial=0))
    note = f"{how + ', ' if how else ''}from {low} to {high}; the darker, the larger the magnitude"
    return textwrap.indent("\n".join([*shades(matrix), *textwrap.wrap(f"({note})", WIDTH - 4)]), "    ")


def _number(value: float) -> str:
    return f"{number_text(value):>7}" if value == 0 or abs(value) >= 1e-4 else f"{value:7.0e}"


def _rule(title: str) -> str:
    return f"── {title} ".ljust(WIDTH, "─")


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="      ")


def _forward(step: Forward) -> list[str]:
    entry = step.entry
    value = number_text(entry.value)
    lines = [_wrapped(f"{entry.left()} = {entry.general()}")]
    numbers = entry.numbers()
    put_in = f" = {numbers}" if numbers not in ("", value) else ""
    lines.append(_wrapped(f"{entry.left(numbers=True)}{put_in} = {value}"))
    for x in step.node.inputs:
        if x.value is not None:
            source = f" from {x.node.label}" if x.node is not None else ""
            lines += [f"  in: {x.variable}{source} ({shape_text(np.shape(x.value))})", array_text(x.value)]
    return [*lines, f"  out: {entry.output} ({shape_text(step.value.shape)})", array_text(step.value)]


def _backward(step: Backward) -> list[str]:
    output = step.entry.output
    lines = [f"  in: g = ∂ℓ/∂{output} ({shape_text(step.incoming.shape)})", array_text(step.incoming)]
    if len(step.contributions) > 1:
        lines.append(f"  g is the sum of {len(step.contributions)} contributions:")
        for contribution in step.contributions:
            lines.append(f"  from {contribution.source.label}, as its {contribution.variable}")
            lines.append(array_text(contribution.row))
    blocks = step.block()
    for name, row in step.outgoing.items():
        if name in blocks:
            J = blocks[name]
            of = ""
            if step.samples > 1:
                where = "on the diagonal" if step.diagonal(name) else "one below the other"
                of = f" of sample 0; in the batch's matrix the {step.samples} samples stand {where}"
            lines += [_wrapped(f"J = ∂{output}/∂{name} ({J.shape[0]}×{J.shape[1]}){of}"), array_text(J)]
        else:
            lines.append(f"  J = ∂{output}/∂{name} ({step.value.size}×{row.size}) is too large to be formed")
        lines += [f"  out: g J to {name} ({shape_text(row.shape)})", array_text(row)]
        arrival = step.arrivals[name]
        lines.append(f"  {arrival.arrived} of {arrival.expected} contributions to {arrival.node.label}")
        if arrival.expected > 1:
            lines.append(array_text(arrival.total))
    return lines
