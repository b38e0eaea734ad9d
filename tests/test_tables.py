"""Tables are computed, and render in four forms."""

import pytest

import minigrad as mg
from minigrad.operation import registry
from minigrad.tables import FORMATS, Math, Table


def test_every_operation_has_its_row() -> None:
    table = mg.tables.operations()
    assert [row[0] for row in table.rows] == sorted(registry)
    softmax = next(row for row in table.rows if row[0] == "softmax")
    assert softmax[2] == "TC-02, Tomasi 2019, section 1, corrected by T-6"
    assert softmax[3].plain == "p[i] = exp(z[i])/Sum(exp(z[k]), (k, 0, K - 1))"


@pytest.mark.parametrize("form", FORMATS)
def test_forms(form: str) -> None:
    table = Table(("name", "formula"), (("a_b | c", Math("x**2", "x^{2}")), ("<d>", "e")))
    text = table.render(form)
    assert len(text.splitlines()) >= 4
    assert {
        "text": "a_b | c  x**2",
        "markdown": r"| a_b \| c | $`x^{2}`$ |",
        "latex": r"a\_b | c & $x^{2}$ \\",
        "html": ">&lt;d&gt;</td>",
    }[form] in text


def test_markdown_keeps_what_it_would_take_for_its_own() -> None:
    """Formulas are code, in which nothing has a meaning; but a bar would end the cell even there."""
    table = Table(("signature", "formula"), (("x[N,*], y[N,*] <- `$`", Math("", r"{x}_{i} \\ {y}_{i} * |z|")),))
    row = table.render("markdown").splitlines()[-1]
    assert row == r"| x[N,\*], y[N,\*] \<- \`\$\` | $`{x}_{i} \\ {y}_{i} * \vert z\vert `$ |"


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(ValueError, match="'pdf'"):
        mg.tables.operations().render("pdf")
