"""What the documents show is executed."""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from minigrad import tables
from minigrad.operation import registry

ROOT = Path(__file__).parent.parent


def blocks(document: str, language: str = "python") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / document).read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def clean_registry() -> Iterator[None]:
    before = dict(registry)
    yield
    registry.clear()
    registry.update(before)


@pytest.mark.usefixtures("clean_registry")
@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "README.md"])
def test_the_examples_run_and_print_what_they_say(document: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = blocks(document)
    assert code
    namespace: dict[str, object] = {"__name__": document}
    for block in code:
        exec(compile(block, document, "exec"), namespace)
        printed = capsys.readouterr().out
        for promise in re.findall(r"print\(.*\)  # (.*)", block):
            assert promise in printed, f"{document} promises {promise!r}, printed was {printed!r}"


def test_the_reference_is_what_is_computed() -> None:
    """But for how close an attack came, which depends on the last bits of the machine."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    _, written, _ = reference.parts((ROOT / "README.md").read_text())
    shown, computed = (
        re.sub(r"attack [-+.e\d]+", "attack", text).splitlines()
        for text in (written, tables.losses().render("markdown"))
    )
    assert shown == computed, "run python docs/reference.py"


def test_the_house_is_as_described() -> None:
    for name in re.findall(r"`((?:minigrad|kernels)/[\w./]*)`", (ROOT / "CONTRIBUTING.md").read_text()):
        assert (ROOT / name).exists(), name
