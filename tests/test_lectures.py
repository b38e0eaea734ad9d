"""Lectures: run from the first cell to the last, with students who solve nothing, everything, or something wrong."""

import io
import re
import subprocess
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import cli, lectures

jupytext = pytest.importorskip("jupytext", reason="pip install -e '.[lectures]'")

LECTURES = lectures.find()
each_lecture = pytest.mark.parametrize("lecture", LECTURES, ids=lambda lecture: lecture.source.stem)
SECONDS = 30


def after(f, change):
    """The function f, and then a change of each of its results."""

    def changed(*arguments, **named):
        answer = f(*arguments, **named)
        return tuple(map(change, answer)) if isinstance(answer, tuple) else change(answer)

    return changed


def plain(y):
    return y.toarray() if hasattr(y, "toarray") else np.asarray(y.data if isinstance(y, mg.Tensor) else y)


def one_entry_off(y):
    y = np.array(plain(y))
    if y.dtype.kind == "b":
        return ~y
    if y.dtype.kind not in "fi":
        return repr(y)
    if y.size:
        place = np.unravel_index(np.argmax(np.abs(y)), y.shape)
        y[place] += 0.01 * y[place] + (y[place] == 0) if y.dtype.kind == "f" else 1
    return y


def mutants(answers):
    """Changes that make a right function wrong, judging by what it returned."""
    yield "one entry off", one_entry_off
    if all(y.dtype.kind in "fi" for y in answers) and any(y.any() for y in answers):
        yield "negated", lambda y: y * -1
        yield "scaled by 1.001", lambda y: y * 1.001
    square = [y for y in answers if y.ndim == 2 and y.shape[0] == y.shape[1]]
    if len(square) == len(answers) and not all(np.allclose(y, y.T) for y in square):
        yield "transposed", lambda y: plain(y).T


def judged(check, namespace):
    """What a check says to the function of the student: the text of its complaint, or None."""
    try:
        exec(compile(check.text, "check", "exec"), namespace)
    except AssertionError as wrong:
        return str(wrong) or "wrong"
    return None


@each_lecture
def test_a_lecture_runs_and_its_exercises_fail_unsolved_pass_solved_and_catch_mutants(lecture):
    """The cells after a check see the unsolved function: whoever skips an exercise can go on."""
    namespace = {"__name__": "__main__"}
    unsolved = {}
    began = time.perf_counter()
    with redirect_stdout(io.StringIO()):
        for cell in lecture.cells:
            if cell.kind != "code":
                continue
            if cell.exercise:
                unsolved[cell.exercise] = cell
                exec(compile(cell.unsolved, lecture.source.name, "exec"), namespace)
            elif not cell.check:
                exec(compile(cell.text, lecture.source.name, "exec"), namespace)
            else:
                name = cell.check
                assert judged(cell, namespace), f"{name} passes unsolved"
                exec(compile(unsolved[name].text, lecture.source.name, "exec"), namespace)
                assert judged(cell, namespace) is None, f"{name} fails with its solution"
                right, answers = namespace[name], []
                namespace[name] = after(right, lambda y, answers=answers: answers.append(plain(y)) or y)
                assert judged(cell, namespace) is None
                for what, change in mutants(answers):
                    namespace[name] = after(right, change)
                    assert judged(cell, namespace), f"{name} passes {what}"
                exec(compile(unsolved[name].unsolved, lecture.source.name, "exec"), namespace)
    assert time.perf_counter() - began < 4 * SECONDS  # not a benchmark: with all its mutants, on a busy machine


@pytest.mark.slow
@each_lecture
def test_a_lecture_runs_as_a_plain_script(lecture, tmp_path):
    before = set(lecture.source.parent.iterdir())
    command = [sys.executable, "-W", "error", str(lecture.source)]
    subprocess.run(command, check=True, timeout=4 * SECONDS, stdout=subprocess.DEVNULL, cwd=tmp_path)
    assert not [*tmp_path.iterdir()]
    assert set(lecture.source.parent.iterdir()) == before


@each_lecture
def test_the_notebook_is_made_from_the_source(lecture):
    path = lecture.source.parent / lecture.notebook
    text = path.read_text()
    assert lecture.made(path.parent), f"minigrad lectures notebooks {lecture.number}"
    assert len(text) < 1_000_000
    assert "execution_start_time" not in text
    assert "SOLUTION" not in text


@each_lecture
def test_no_solution_is_left_in_the_students_build(lecture):
    """Not the marks, and not a line of a solution that says more than a name."""
    student = lecture.as_notebook(solutions=False)
    everything = "\n".join(cell.source for cell in student.cells)
    assert "SOLUTION" not in everything
    given = {line.strip() for cell in lecture.cells if not cell.exercise for line in cell.text.splitlines()}
    for cell in lecture.cells:
        for solution in re.findall(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", cell.text, re.DOTALL):
            lines = {line.strip() for line in solution.splitlines() if line.strip()}
            assert not lines & {line.strip() for line in cell.unsolved.splitlines()}
            assert lines - given, f"{cell.exercise}: its solution stands elsewhere in the lecture"


@each_lecture
def test_a_lecture_has_the_parts_of_one(lecture):
    assert lecture.question.endswith("?")
    assert 3 <= len(lecture.exercises) <= 6
    texts = [cell.text for cell in lecture.cells]
    assert texts[0].startswith(f"# {lecture.number}. {lecture.title}\n")
    assert "## Exercises" in "".join(texts)
    code = "".join(cell.text for cell in lecture.cells if cell.kind == "code")
    assert "mg.tables." in code or ".written(" in code or "mg.trace" in code, "no formula from an operation"
    assert "mg.verify." in code
    assert ".figure" in code or "mg.plots.figure" in code
    for cell in lecture.cells:
        if cell.exercise:
            assert re.search(r'^def |^class ', cell.text, re.MULTILINE)
            assert '"""' in cell.unsolved


def test_the_twelve():
    assert [lecture.number for lecture in LECTURES] == list(range(1, 13))


# The machinery, on a small lecture of its own


SMALL = '''\
# %% [markdown]
# # 1. A try
#
# *Does it
# work?*
#
# If $a < b$ then $$\\begin{aligned} x &= y \\end{aligned}$$

# %%
import minigrad as mg

print("seen")
mg.tables.formulas("softmax")

# %% tags=["hide-input"]
mg.plots.entropy().figure

# %% [markdown]
# ## Exercises

# %% exercise="double"
def double(x):
    """Twice x."""
    ### BEGIN SOLUTION
    return 2 * x
    ### END SOLUTION

# %% check="double" points=2
mg.verify.exercise(double, lambda x: x + x, [3.0])
'''


@pytest.fixture
def small(tmp_path, monkeypatch):
    folder = tmp_path / "lectures"
    folder.mkdir()
    (folder / "01_try.py").write_text(SMALL)
    (folder / "02_next.py").write_text(SMALL.replace("1. A try", "2. The next"))
    (folder / "assets").symlink_to(lectures.FOLDER / "assets")
    monkeypatch.setattr(lectures, "FOLDER", folder)
    monkeypatch.setenv("PYTHONPATH", str(Path(mg.__file__).parent.parent))
    return folder


def test_cells_know_what_they_are(small):
    one, _ = lectures.find()
    assert (one.title, one.question, one.exercises) == ("A try", "Does it work?", ["double"])
    exercise = one.cells[-2]
    assert exercise.unsolved == (
        'def double(x):\n    """Twice x."""\n    # YOUR CODE HERE\n    raise NotImplementedError()\n'
    )
    student = one.as_notebook(solutions=False)
    marks = [cell.metadata.get("nbgrader", {}) for cell in student.cells]
    assert [mark.get("grade_id") for mark in marks] == [None, None, None, None, "double", "double-check"]
    assert (marks[-1]["points"], marks[-1]["grade"], marks[-1]["locked"]) == (2, True, True)
    assert (marks[-2]["solution"], marks[-2]["grade"]) == (True, False)
    assert student.cells[2].metadata == {"tags": ["hide-input"], "jupyter": {"source_hidden": True}}


def test_ids_follow_from_the_text(small):
    one, two = lectures.find()
    ids = [[cell.id for cell in lecture.as_notebook(solutions=False).cells] for lecture in (one, two)]
    assert ids[0][0] != ids[1][0]
    assert ids[0][1:] == ids[1][1:]
    assert ids[0] == [cell.id for cell in lectures.find()[0].as_notebook(solutions=False).cells]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('exercise="double"', "", "are one"),
        ("    ### END SOLUTION\n", "", "are one"),
        ('check="double"', 'check="triple"', "named alike"),
        ('check="double" points=2', "", "one check after it"),
        ("# # 1. A try\n", "# A try\n", "no heading"),
    ],
)
def test_a_source_that_is_not_whole_is_refused(small, old, new, words):
    (small / "01_try.py").write_text(SMALL.replace(old, new))
    with pytest.raises(ValueError, match=words):
        lectures.find()[0].cells and lectures.find()[0].title


def test_notebooks_and_both_builds(small, tmp_path, capsys):
    assert cli.main(["lectures", "notebooks"]) == 0
    first = (small / "01_try.ipynb").read_bytes()
    assert cli.main(["lectures", "notebooks", "1"]) == 0
    assert (small / "01_try.ipynb").read_bytes() == first, "a second run gives other bytes"
    assert b"return 2 * x" not in first
    assert b"seen" in first
    for solutions in (False, True):
        folder = tmp_path / f"out-{solutions}"
        assert cli.main(["lectures", "build", "--output", str(folder), *["--solutions"] * solutions]) == 0
        page, contents = (folder / "01_try.html").read_text(), (folder / "index.html").read_text()
        assert ("2</span> <span" in page) == solutions
        assert ("right, 1 numbers in 1 cases" in page) == solutions
        assert "a &lt; b" in page
        assert 'alt="bits a source bit against probability q of a one"' in page
        assert 'rel="next"' in page
        assert 'rel="prev"' not in page
        assert "Does it work?" in contents
        assert "The next" in contents
        for text in (page, contents):
            assert external(text) == []
        for address in re.findall(r'(?:href|src)="([^"#:]+)"', page + contents):
            assert (folder / address).exists(), address
    if not solutions:
        assert (folder / "01_try.ipynb").read_bytes() == first
    capsys.readouterr()


def external(page):
    """Addresses outside the page's own folder that a browser would load or follow."""
    found = re.findall(r'(?:src|href|srcset|action|data)\s*=\s*"([^"]*)"|url\(([^)]*)\)|@import\s+"([^"]*)"', page)
    return [a for a in map("".join, found) if re.match(r"\s*['\"]?(?:[a-z]+:)?//", a)]


def test_the_pages_of_the_lectures_name_nothing_outside(tmp_path):
    """Made from the notebooks beside the sources, so that nothing is run."""
    for path in list(lectures.build(LECTURES, tmp_path)):
        if path.suffix == ".html":
            text = path.read_text()
            assert external(text) == []
            for address in re.findall(r'(?:href|src)="([^"#:]+)"', text):
                assert (tmp_path / address).exists(), address


def test_what_counts_as_external():
    assert external('<a href="assets/x.css">') == external('<img src="data:image/png;base64,//">') == []
    for bad in ('<script src="https://a.b/c.js">', '<link href="//a.b">', "<style>url(http://a)", '@import "http://a"'):
        assert len(external(bad)) == 1


def test_the_assets_load_nothing_from_outside():
    for path in (lectures.FOLDER / "assets").rglob("*"):
        if path.suffix in (".css", ".j2"):
            assert external(path.read_text()) == [], path
    css = (lectures.FOLDER / "assets/katex/katex.min.css").read_text()
    for address in re.findall(r"url\(([^)]*)\)", css):
        assert (lectures.FOLDER / "assets/katex" / address).exists()


def test_work_in_a_notebook_is_not_lost(small, capsys):
    assert cli.main(["lectures", "notebooks", "1"]) == 0
    path = small / "01_try.ipynb"
    worked = path.read_text().replace("raise NotImplementedError()", "return x + x")
    path.write_text(worked)
    assert cli.main(["lectures", "notebooks", "1"]) == 2
    assert "changed by hand" in capsys.readouterr().err
    assert path.read_text() == worked


WRONG = "def double(x):\n    return 3 * x\n"


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        ("def double(x):\n    return x + x\n", 0, "double: right, 2 points\n\n2 of 2 points"),
        (WRONG, 1, "yours 9, wanted 6; every entry is 1.5 times what it should be"),
        ("def triple(x):\n    return 3 * x\n", 1, "double is not written yet"),
        ("import nothing_of_that_name\n\ndef double(x):\n    return 2 * x\n", 1, "double: ModuleNotFoundError"),
    ],
)
def test_a_students_file_is_judged(small, capsys, code, status, words):
    path = small.parent / "mine.py"
    path.write_text(code)
    assert cli.main(["lectures", "check", str(path), "1"]) == status
    assert words in capsys.readouterr().out


def test_a_students_notebook_is_judged(small, capsys):
    import nbformat

    notebook = lectures.find()[0].as_notebook(solutions=False)
    path = small.parent / "mine.ipynb"
    for code, status in (("def double(x):\n    return mg.Tensor(x) * 2", 0), (WRONG, 1)):
        notebook.cells[-2].source = code
        nbformat.write(notebook, path)
        assert cli.main(["lectures", "check", str(path), "1"]) == status
    assert "0 of 2 points" in capsys.readouterr().out


def test_a_lecture_that_fails_itself_is_not_blamed_on_the_student(small, capsys):
    (small / "01_try.py").write_text(SMALL.replace('print("seen")', "1 / 0"))
    (small / "mine.py").write_text("")
    assert cli.main(["lectures", "check", str(small / "mine.py"), "1"]) == 2
    assert "a cell of the lecture fails" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "words"), [("1 / 0", "ZeroDivisionError"), ("import sys; print('hm', file=sys.stderr)", "stderr: hm")]
)
def test_a_lecture_that_breaks_or_complains_writes_nothing(small, capsys, line, words):
    (small / "01_try.py").write_text(SMALL.replace('print("seen")', line))
    assert cli.main(["lectures", "notebooks", "1"]) == 2
    assert words in capsys.readouterr().err
    assert not (small / "01_try.ipynb").exists()


def test_open_builds_what_is_not_there_and_opens_it(small, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or len(opened) > 1)
    assert cli.main(["lectures", "open"]) == 0
    index = small / "build/student/index.html"
    assert f"no browser was found: open {index.as_uri()}" in capsys.readouterr().out
    assert cli.main(["lectures", "open", "2"]) == 0
    assert opened == [index.as_uri(), (index.parent / "02_next.html").as_uri()]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["build", "7"], "no lecture 7: they go from 1 to 2"),
        (["build", "three"], "three: expected numbers"),
        (["notebooks", "--solutions"], "without solutions"),
        (["check"], "name the file to check"),
        (["check", "mine.py"], "name the file to check"),
        (["check", "mine.txt", "1"], "expected a Python file or a notebook"),
    ],
)
def test_wrong_wishes(small, capsys, arguments, words):
    assert cli.main(["lectures", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_without_a_clone_there_are_no_lectures(tmp_path):
    with pytest.raises(ValueError, match="in a clone of the repository"):
        lectures.find(folder=tmp_path)
