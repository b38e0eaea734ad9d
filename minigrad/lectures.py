"""The lectures: notebooks and pages from ``lectures/NN_title.py``, for students and with the solutions.

The source is text in cells, ``# %%`` and ``# %% [markdown]``. A cell marked ``exercise="name"`` has the function that a
student writes, with the solution between two comments, and one marked ``check="name"`` judges it. Of every lecture
there are two builds: a student's, in which the solutions are cut out and nothing of the exercises was run, and one with
the solutions. Everything else in them is the same.
"""

from __future__ import annotations

import ast
import contextlib
import io
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

__all__ = ["Judged", "Lecture", "answers", "build", "find", "make_notebooks"]

FOLDER = Path(__file__).parent.parent / "lectures"
"""Lectures are read where they are written: in a clone of the repository."""

SOLUTION = re.compile(r"^([ \t]*)### BEGIN SOLUTION\n.*?^[ \t]*### END SOLUTION\n?", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"^[ \t]*### (BEGIN|END) SOLUTION\n?", re.MULTILINE)
COLOURS = re.compile("\x1b\\[[0-9;]*m")  # of a traceback
SECONDS = 120
"""How long one cell may run."""


@dataclass(frozen=True)
class Cell:
    """A cell of the source: its kind, its text, and the marks that stand behind ``# %%``."""

    kind: str
    text: str
    marks: dict[str, Any]

    @property
    def exercise(self) -> str:
        """The name of the function that the student writes here, or nothing."""
        return str(self.marks.get("exercise", ""))

    @property
    def check(self) -> str:
        """The name of the function that is judged here, or nothing."""
        return str(self.marks.get("check", ""))

    @property
    def points(self) -> int:
        """What the exercise is worth."""
        return int(self.marks.get("points", 1))

    @property
    def unsolved(self) -> str:
        """The text as a student gets it, and as nbgrader would make it."""
        return SOLUTION.sub(r"\1# YOUR CODE HERE\n\1raise NotImplementedError()\n", self.text)


@dataclass(frozen=True)
class Judged:
    """What a check said to a student's function: nothing, if it is right."""

    exercise: str
    points: int
    complaint: str

    @property
    def right(self) -> bool:
        return not self.complaint


class Lecture:
    """One lecture: ``source`` is the path of its text."""

    def __init__(self, source: Path):
        self.source = source

    def __repr__(self) -> str:
        return f"Lecture({self.source.name!r})"

    @property
    def number(self) -> int:
        return int(self.source.stem.partition("_")[0])

    @property
    def page(self) -> str:
        return f"{self.source.stem}.html"

    @property
    def notebook(self) -> str:
        return f"{self.source.stem}.ipynb"

    @cached_property
    def cells(self) -> list[Cell]:
        """The cells in order. Raises ValueError for an exercise without solution or check, or the other way round."""
        import jupytext

        cells = []
        for cell in jupytext.read(self.source, fmt="py:percent").cells:
            marks = {name: mark for name, mark in cell.metadata.items() if name != "lines_to_next_cell"}
            cells.append(Cell(cell.cell_type, cell.source + "\n", marks))
        exercises = [cell.exercise for cell in cells if cell.exercise]
        for cell in cells:
            if bool(SOLUTION.search(cell.text)) != bool(cell.exercise) or len(MARK.findall(cell.unsolved)):
                raise ValueError(
                    f"{self.source.name}: a cell with ### BEGIN SOLUTION ... ### END SOLUTION and a mark exercise=... "
                    f"are one: see the cell that begins {cell.text[:60]!r}"
                )
        if exercises != [cell.check for cell in cells if cell.check] or len(set(exercises)) < len(exercises):
            raise ValueError(f"{self.source.name}: each exercise wants one check after it, named alike: {exercises}")
        return cells

    @property
    def title(self) -> str:
        """The heading, without its number."""
        found = re.search(r"^# (?:\d+\. )?(.+)$", self.cells[0].text, re.MULTILINE)
        if found is None:
            raise ValueError(f"{self.source.name}: the first cell has no heading: begin with '# # 1. Title'")
        return found[1]

    @property
    def question(self) -> str:
        """The question that the lecture answers: the first paragraph in italics."""
        found = re.search(r"^\*([^*].*?)\*$", self.cells[0].text, re.MULTILINE | re.DOTALL)
        return " ".join(found[1].split()) if found else ""

    @property
    def exercises(self) -> list[str]:
        return [cell.exercise for cell in self.cells if cell.exercise]

    def as_notebook(self, *, solutions: bool) -> Any:
        """The notebook, not run. Its cells have ids that follow from their text, and nbgrader's metadata.

        With the solutions it keeps the marks around them: by these nbgrader makes an assignment of it.
        """
        from nbformat import v4

        made: dict[str, int] = {}
        cells = []
        for cell in self.cells:
            text = (cell.text if solutions else cell.unsolved).rstrip("\n")
            name = _name(cell.kind, text)
            made[name] = made.get(name, 0) + 1
            new = v4.new_markdown_cell if cell.kind == "markdown" else v4.new_code_cell
            cells.append(new(text, id=f"{name}-{made[name]}", metadata=_metadata(cell)))
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        return v4.new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})

    def run(self) -> Any:
        """The notebook with the solutions, and what its cells print and show.

        Raises ValueError where a cell fails or writes to stderr.
        """
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError

        notebook = self.as_notebook(solutions=True)
        client = NotebookClient(
            notebook, timeout=SECONDS, kernel_name="python3", record_timing=False, coalesce_streams=True,
            extra_arguments=["--log-level=ERROR"], resources={"metadata": {"path": str(self.source.parent)}},
        )  # fmt: skip
        try:
            client.execute()
        except CellExecutionError as error:
            raise ValueError(f"{self.source.name}: {COLOURS.sub('', str(error))}") from None
        for cell in notebook.cells:
            for output in cell.get("outputs", []):
                if output.get("name") == "stderr":
                    raise ValueError(f"{self.source.name}: a cell writes to stderr: {output.text.strip()[-300:]}")
        return notebook

    def for_students(self, run: Any) -> Any:
        """The notebook of students with the outputs of one that was run, but for those of exercises and checks."""
        notebook = self.as_notebook(solutions=False)
        for new, old, cell in zip(notebook.cells, run.cells, self.cells, strict=True):
            if new.cell_type == "code" and not cell.exercise and not cell.check:
                new.outputs, new.execution_count = old.outputs, old.execution_count
        return notebook

    def judge(self, answers: Mapping[str, str]) -> Iterator[Judged]:
        """What the checks say to a student's code, by the names of the exercises; what is missing counts as unsolved.

        The code runs where it stands in the lecture, after the cells before it.
        """
        namespace: dict[str, Any] = {"__name__": "__main__"}
        failed = ""
        for cell in self.cells:
            if cell.kind != "code":
                continue
            code = answers.get(cell.exercise, cell.unsolved) if cell.exercise else cell.text
            complaint = ""
            with contextlib.redirect_stdout(io.StringIO()):
                try:
                    exec(compile(code, self.source.name, "exec"), namespace)
                except AssertionError as wrong:
                    complaint = str(wrong)
                except Exception as error:
                    complaint = f"{cell.exercise or cell.check}: {type(error).__name__}: {error}"
            if cell.exercise:
                failed = complaint
            elif cell.check:
                yield Judged(cell.check, cell.points, failed or complaint)
            elif complaint:
                raise ValueError(f"{self.source.name}: a cell of the lecture fails: {complaint}")

    def made(self, folder: Path) -> Any:
        """The student's notebook in the folder, if it was made from this very source; otherwise None."""
        import nbformat

        path = folder / self.notebook
        if not path.exists():
            return None
        notebook = nbformat.read(path, as_version=4)
        now = self.as_notebook(solutions=False)
        same = [(c.id, c.source) for c in notebook.cells] == [(c.id, c.source) for c in now.cells]
        return notebook if same and any(c.get("outputs") for c in notebook.cells) else None


def _name(kind: str, text: str) -> str:
    """What the id of a cell begins with; cells that are alike are numbered behind it."""
    return sha256(f"{kind} {text}".encode()).hexdigest()[:12]


def _metadata(cell: Cell) -> dict[str, Any]:
    """What nbgrader wants to know of a cell, and Jupyter of one whose code is folded away."""
    known: dict[str, Any] = {"tags": cell.marks["tags"]} if "tags" in cell.marks else {}
    if "hide-input" in known.get("tags", []):
        known["jupyter"] = {"source_hidden": True}
    nbgrader = {"grade": False, "grade_id": cell.exercise, "locked": False, "schema_version": 3, "solution": True,
                "task": False}  # fmt: skip
    if cell.exercise:
        known["nbgrader"] = nbgrader
    if cell.check:
        known["nbgrader"] = nbgrader | {
            "grade": True, "grade_id": f"{cell.check}-check", "locked": True, "solution": False,
            "points": cell.points,
        }  # fmt: skip
    return known


def find(numbers: Iterable[int] = (), folder: Path | None = None) -> list[Lecture]:
    """The lectures of these numbers, by default all. Raises ValueError where there are none."""
    folder = FOLDER if folder is None else folder
    lectures = [Lecture(path) for path in sorted(folder.glob("[0-9][0-9]_*.py"))]
    if not lectures:
        raise ValueError(f"no lectures in {folder}: they are read in a clone of the repository, with pip install -e")
    wanted = list(numbers) or [lecture.number for lecture in lectures]
    missing = set(wanted) - {lecture.number for lecture in lectures}
    if missing:
        raise ValueError(f"there is no lecture {min(missing)}: they go from 1 to {lectures[-1].number}")
    return [lecture for lecture in lectures if lecture.number in wanted]


def answers(path: Path) -> dict[str, str]:
    """A student's code by the name of the function in it: from a Python file, or from the exercises of a notebook.

    Raises ValueError for a file of another kind, and for Python that is none.
    """
    if path.suffix == ".ipynb":
        import nbformat

        marked = [(c.metadata.get("nbgrader", {}), c.source) for c in nbformat.read(path, as_version=4).cells]
        return {mark["grade_id"]: source for mark, source in marked if mark.get("solution")}
    if path.suffix != ".py":
        raise ValueError(f"{path.name}: expected a Python file or a notebook: name one that ends in .py or .ipynb")
    text = path.read_text(encoding="utf-8")
    try:
        tree = ast.parse(text, path.name)
    except SyntaxError as error:
        raise ValueError(f"{path.name}: {error}") from error
    return {node.name: text for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}


def make_notebooks(lectures: Sequence[Lecture]) -> Iterator[Path]:
    """Run the lectures and write each student's notebook beside its source; yields the paths as they are written.

    Raises ValueError, and leaves it as it is, for a notebook there in which somebody has worked.
    """
    for lecture in lectures:
        path = lecture.source.parent / lecture.notebook
        if _worked_in(path):
            raise ValueError(f"{path.name} has cells that were changed by hand: move it away, then make it again")
        yield _write(path, _serialized(lecture.for_students(lecture.run())))


def _worked_in(path: Path) -> bool:
    """Whether the texts of a notebook's cells are others than its ids were made from."""
    if not path.exists():
        return False
    import nbformat

    cells = nbformat.read(path, as_version=4).cells
    return any(not cell.id.startswith(_name(cell.cell_type, cell.source)) for cell in cells)


def build(lectures: Sequence[Lecture], output: Path, *, solutions: bool = False) -> Iterator[Path]:
    """Write pages that load nothing from anywhere, and the notebooks; yields the paths as they are written.

    A page of the student's build is made from the notebook beside the source if that is up to date; otherwise, and
    for the solutions, the lecture is run.

    Parameters
    ----------
    lectures : the lectures to build
    output : the folder to write to; other files there are left alone
    solutions : bool
        With the solutions, and what the checks say to them.
    """
    assets = lectures[0].source.parent / "assets"
    shutil.copytree(assets, output / "assets", dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.j2", "conf.json"))
    everyone = find(folder=lectures[0].source.parent)
    for lecture in lectures:
        notebook = None if solutions else lecture.made(lecture.source.parent)
        if notebook is None:
            run = lecture.run()
            notebook = run if solutions else lecture.for_students(run)
        yield _write(output / lecture.notebook, _serialized(notebook))
        yield _write(output / lecture.page, _page(lecture, notebook, everyone, assets))
    there = [lecture for lecture in everyone if (output / lecture.page).exists()]
    yield _write(output / "index.html", _contents(there, assets, solutions))


def _page(lecture: Lecture, notebook: Any, everyone: list[Lecture], assets: Path) -> str:
    from nbconvert import HTMLExporter

    at = [one.number for one in everyone].index(lecture.number)
    around = {
        "title": f"{lecture.number}. {lecture.title}",
        "before": everyone[at - 1] if at else None,
        "after": everyone[at + 1] if at + 1 < len(everyone) else None,
    }
    exporter = HTMLExporter(template_name="lecture", extra_template_basedirs=[str(assets)])
    page, _ = exporter.from_notebook_node(notebook, resources={"lecture": around})
    return str(page)


def _contents(lectures: list[Lecture], assets: Path, solutions: bool) -> str:
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(assets / "lecture"), autoescape=True)
    return environment.get_template("contents.html.j2").render(lectures=lectures, solutions=solutions)


def _serialized(notebook: Any) -> str:
    from nbformat import v4

    text: str = v4.writes(notebook)
    return text + "\n"


def _write(path: Path, text: str) -> Path:
    from .nn import written

    with written(path) as file:
        file.write(text.encode())
    return path
