"""Write the reference section of the README anew: ``python docs/reference.py``."""

from pathlib import Path

from minigrad import tables

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- begin: python docs/reference.py -->", "<!-- end -->"


def parts(text: str) -> tuple[str, str, str]:
    """What stands before the generated lines, these, and what stands behind."""
    before, begin, rest = text.partition(BEGIN + "\n\n")
    written, end, after = rest.partition("\n\n" + END)
    if not begin or not end:
        raise ValueError(f"{README}: expected {BEGIN!r} and {END!r}, with lines between that are empty at both ends")
    return before + begin, written, end + after


if __name__ == "__main__":
    before, _, after = parts(README.read_text())
    README.write_text(before + tables.losses().render("markdown") + after)
