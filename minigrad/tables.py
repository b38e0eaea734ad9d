"""Tables that are computed from the engine, as text, Markdown, LaTeX and HTML."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .formula import typeset
from .jacobian import split
from .operation import Operation, find, registry

if TYPE_CHECKING:
    from .transfer import TransferFunction

__all__ = ["FORMATS", "Math", "Table", "formulas", "losses", "matching_losses", "operations"]

FORMATS = ("text", "markdown", "latex", "html")


@dataclass(frozen=True)
class Math:
    """A cell with a formula: plain for a terminal, LaTeX for all the rest."""

    plain: str
    latex: str


Cell = str | Math


@dataclass(frozen=True)
class Table:
    """Rows of cells under a header. ``str`` gives text; a notebook shows HTML, with the formulas typeset."""

    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def render(self, form: str = "text") -> str:
        """The table in one of `FORMATS`; ValueError for another one."""
        if form not in FORMATS:
            raise ValueError(f"Table: expected a format among {', '.join(FORMATS)}, got {form!r}: try 'markdown'")
        text: str = getattr(self, f"_{form}")()
        return text

    def __str__(self) -> str:
        return self.render()

    def _repr_html_(self) -> str:
        return self.render("html")

    def _text(self) -> str:
        rows = [tuple(cell.plain if isinstance(cell, Math) else cell for cell in row) for row in self.rows]
        widths = [min(max(map(len, column)), 60) for column in zip(self.header, *rows, strict=True)]
        lines = [self.header, tuple("-" * width for width in widths), *rows]
        return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)

    def _markdown(self) -> str:
        escapes = str.maketrans({c: "\\" + c for c in "\\`*<|$"})

        def cell(value: Cell) -> str:
            if isinstance(value, Math):
                # As code: between bare dollars GitHub takes \\ for \ and _ for emphasis. A bar would end the cell.
                return f"$`{value.latex}`$".replace("|", r"\vert ")
            return value.translate(escapes)

        lines = [self.header, ("---",) * len(self.header), *(tuple(map(cell, row)) for row in self.rows)]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def _latex(self) -> str:
        escapes = str.maketrans({c: "\\" + c for c in "&%$#_{}"})

        def cell(value: Cell) -> str:
            return f"${value.latex}$" if isinstance(value, Math) else value.translate(escapes)

        lines = [" & ".join(map(cell, row)) + r" \\" for row in (self.header, *self.rows)]
        columns = "l" * len(self.header)
        body = "\n".join([lines[0], r"\hline", *lines[1:]])
        return f"\\begin{{tabular}}{{{columns}}}\n{body}\n\\end{{tabular}}"

    def _html(self) -> str:
        def cell(value: Cell, tag: str = "td") -> str:
            inner = rf"$\displaystyle {html.escape(value.latex)}$" if isinstance(value, Math) else html.escape(value)
            return f'<{tag} style="text-align: left">{inner}</{tag}>'

        head = "".join(cell(title, "th") for title in self.header)
        body = "\n".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in self.rows)
        return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def operations() -> Table:
    """Every operation of the registry: name, signature, source, and formula for inputs like its first sample."""
    header = ("operation", "signature", "source", "formula")
    rows = [(name, cls.signature, str(cls.source), written(cls)) for name, cls in sorted(registry.items())]
    return Table(header, tuple(rows))


def formulas(*names: str) -> Table:
    """Formula, derivative by the first input and source of operations, by their names in the registry.

    Raises ValueError for a name that is not there.
    """
    classes = [find("formulas", name) for name in names]
    rows = [(cls.name, written(cls), slope(cls), str(cls.source)) for cls in classes]
    return Table(("operation", "formula", "derivative", "source"), tuple(rows))


def written(cls: type[Operation]) -> Math:
    """The formula of an operation, for inputs of the kind of its first sample."""
    operation, sample = first_sample(cls)
    return in_words(operation.written(*sample)[0], cls.parsed.output.name)


def slope(cls: type[Operation]) -> Math:
    """Its derivative by the first input, as the source prints it, or else as SymPy finds it."""
    operation, sample = first_sample(cls)
    formula, symbols = operation.written(*sample)
    printed: Any = getattr(operation, "printed", None)
    derivative = formula.derivative(symbols[0]) if printed is None else printed(*symbols)[0]
    return in_words(derivative, f"d{cls.parsed.output.name}/d{cls.parsed.inputs[0].name}")


def first_sample(cls: type[Operation]) -> tuple[Any, Any]:
    """The operation of the first of its samples, and one sample of the arrays."""
    first: Any = next(iter(cls.samples(np.random.default_rng(0))))
    operation, *arrays = first
    return operation, next(split(operation, *arrays))


def in_words(formula: Any, left: str) -> Math:
    """A formula with what it is the formula of: plain, and as LaTeX."""
    letters = f"[{', '.join(map(str, formula.indices))}]" if formula.indices else ""
    top, _, bottom = left.partition("/")
    slope = rf"\frac{{\partial {typeset(top[1:])}}}{{\partial {typeset(bottom[1:])}}}"
    latex = typeset(left) if not bottom else rf"\left({slope}\right)" if letters else slope
    return Math(f"{left}{letters} = {formula.expression}", formula.latex(latex))


def losses() -> Table:
    """Every loss: its properties as `minigrad.losses.properties` finds them, source, formula and gradient.

    "no" has a counterexample, "yes" is what no attempt refuted. A loss is aligned with the Principle of Logit
    Separation "under" the bound of its source, an excess over its smallest value; "attack" is the smallest excess
    that an attack reached without separation, and where that is under the bound the table says so.
    """
    from .losses import properties

    header = ("loss", "convex", "shift-invariant", "bounded below", "aligned", "source", "formula", "gradient")
    rows = []
    for loss in properties.all_losses():
        cls = type(loss)
        bounded = properties.bounded_below(loss)
        rows.append((
            named(loss), _yes(properties.convex(loss)), properties.shift_invariant(loss), _yes(bounded),
            properties.aligned(loss, bounded), str(cls.source), written(cls), slope(cls),
        ))  # fmt: skip
    return Table(header, tuple(rows))


def matching_losses(functions: Iterable[TransferFunction] | None = None) -> Table:
    """Transfer functions with their integrals and matching losses: table 1 of US 2022/0253713, from the formulas.

    What that table leaves out is marked as derived. ``functions`` are those of `minigrad.transfer.TABLE`, unless others
    are given, such as a reader's own: ``matching_losses([*transfer.TABLE, mine])``.
    """
    import sympy as sp

    from . import transfer
    from .formula import variable

    header = ("transfer function", "f(a)", "F(a), F' = f", "matching loss", "gradient", "range of f", "derived here")
    rows = []
    for one in transfer.TABLE if functions is None else functions:
        vector = isinstance(one, transfer.Softmax)
        a, a_hat = (variable(name, ("K",) if vector else ()) for name in ("a", "a_hat"))
        f, F = (Math(str(e), sp.latex(e)) for e in (one.formula(a), one.integral_formula(a)))
        loss = Math("F(a_hat) - F(a) - f(a) (a_hat - a)", r"F(\hat a) - F(a) - f(a)^{\mathsf T} (\hat a - a)")
        if not vector:
            step = one.integral_formula(a_hat) - one.integral_formula(a) - one.formula(a) * (a_hat - a)
            plain = sp.factor(step) if step.is_polynomial(a, a_hat) else step
            loss = Math(str(plain), sp.latex(plain, symbol_names={a_hat: r"\hat a"}))
        gradient = Math("f(a_hat) - f(a)", r"f(\hat a) - f(a)")
        rows.append((one.name, f, F, loss, gradient, one.range, ", ".join(one.derived) or "-"))
    return Table(header, tuple(rows))


def named(operation: Operation) -> str:
    """The name of an operation with those of its hyper-parameters that are not the defaults."""
    shown = []
    for name, parameter in operation.hyperparameters().items():
        value = np.asarray(getattr(operation, name))
        if not np.array_equal(value, np.asarray(parameter.default)):
            shown.append(f"{name}={value.round(4).tolist() if value.dtype.kind == 'f' else value.tolist()!r}")
    return f"{type(operation).__name__}({', '.join(shown)})"


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"
