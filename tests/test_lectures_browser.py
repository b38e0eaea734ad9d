"""Built pages in headless Chromium: mathematics is typeset, player and links work, nothing comes from outside."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Browser, chromium

from minigrad import lectures

pytest.importorskip("nbconvert", reason="pip install -e '.[lectures]'")

LECTURES = lectures.find()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The students' pages, made from the notebooks beside the sources: nothing is run."""
    folder = tmp_path_factory.mktemp("pages")
    list(lectures.build(LECTURES, folder))
    return folder


def visit(browser: Browser, page: Path) -> None:
    browser.requests()
    browser.complaints()
    browser.open(page)


@pytest.mark.parametrize("lecture", LECTURES, ids=lambda lecture: lecture.source.stem)
def test_mathematics_is_typeset_and_nothing_comes_from_outside(browser: Browser, pages: Path, lecture) -> None:
    visit(browser, pages / lecture.page)
    browser.until("return document.querySelectorAll('.katex').length > 10")
    assert browser.run("return [...document.querySelectorAll('.katex-error')].map(e => e.title)") == []
    left = """
        const walk = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT), found = [];
        while (walk.nextNode()) {
          const text = walk.currentNode.data, set = walk.currentNode.parentElement.closest('pre, code, script, .katex');
          if (!set && /\\$|\\\\[a-z]+\\{/.test(text)) found.push(text);
        }
        return found;"""
    assert browser.run(left) == [], "mathematics that was left as it was typed"
    broken = "return [...document.images].filter(i => !i.complete || !i.naturalWidth || !i.alt).map(i => i.outerHTML)"
    assert browser.run(broken) == []
    browser.until("return [...document.fonts].some(f => f.family === 'KaTeX_Main' && f.status === 'loaded')")
    wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.run(wide) <= 0, "the page scrolls sideways"
    assert browser.complaints() == []
    asked = browser.requests()
    assert len(asked) > 3
    assert all(address.startswith(pages.as_uri() + "/") for address in asked)


def test_links_lead_from_lecture_to_lecture_and_back(browser: Browser, pages: Path) -> None:
    def arrived(page: str) -> None:
        browser.until(f"return location.pathname.endsWith('/{page}') && document.readyState === 'complete'")

    visit(browser, pages / "index.html")
    assert browser.run("return document.querySelectorAll('ol > li').length") == len(LECTURES)
    for link, page in (
        ("ol a", LECTURES[0].page), ("[rel=next]", LECTURES[1].page), ("[rel=prev]", LECTURES[0].page),
        ("nav a", "index.html"),
    ):  # fmt: skip
        browser.click(link)
        arrived(page)


def test_the_player_of_a_lecture_steps(browser: Browser, pages: Path) -> None:
    visit(browser, pages / next(lecture.page for lecture in LECTURES if lecture.number == 3))
    shown = """
        const root = document.querySelector('.minigrad-trace');
        return [...root.querySelectorAll('.mg-frame')].findIndex(frame => frame.offsetHeight > 0);"""
    browser.until(f"return (() => {{ {shown} }})() === 0")
    browser.click('button[title^="next"]')
    browser.click('button[title^="next"]')
    assert browser.run(shown) == 2
    browser.click('button[title^="previous"]')
    assert browser.run(shown) == 1
    assert browser.complaints() == []
