"""The player in headless Chromium: clicks, keys, two players in one page, and no request."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Browser, chromium
from test_trace import convolutional, fan_out, perceptron, sanitized

import minigrad as mg
from minigrad import nn, trace

HEAD = '<!doctype html><html lang="en"><meta charset="utf-8"><title>trace</title><body>'
SHOWN = """
    return [...document.querySelectorAll('.minigrad-trace')].map(root => {
      const frames = [...root.querySelectorAll('.mg-frame')];
      const open = frames.map((f, n) => f.offsetHeight > 0 ? n : -1).filter(n => n >= 0);
      return open.length === 1 ? open[0] : open;
    });"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def show(browser: Browser, folder: Path, *parts: str) -> None:
    path = folder / "page.html"
    path.write_text(HEAD + "<p>before</p>".join(parts), encoding="utf-8")
    browser.requests()
    browser.complaints()
    browser.open(path)


def expect(browser: Browser, frames: list[int], seconds: float = 10) -> None:
    """The players come to show these frames: a busy machine takes its time to hand a key to the page."""
    end = time.monotonic() + seconds
    while (shown := browser.run(SHOWN)) != frames and time.monotonic() < end:
        time.sleep(0.05)
    assert shown == frames


def test_clicks_and_keys_move_and_nothing_is_asked_for(browser: Browser, tmp_path: Path) -> None:
    t = trace.step(perceptron())
    last = len(t) + 1
    show(browser, tmp_path, t._repr_html_())
    expect(browser, [0])
    browser.click('button[title^="next"]')
    browser.click('button[title^="next"]')
    expect(browser, [2])
    browser.click('button[title^="previous"]')
    expect(browser, [1])
    browser.click(".mg-head")
    for key, there in (("right", 2), ("end", last), ("right", last), ("left", last - 1), ("home", 0), ("left", 0)):
        browser.press(key)
        expect(browser, [there])
    assert browser.run("return document.querySelector('output').textContent") == f"0 / {last}"
    assert browser.complaints() == []
    (asked,) = browser.requests()
    assert asked == (tmp_path / "page.html").as_uri()


def test_one_jumps_by_the_menu_and_by_the_drawing_where_the_step_is_marked(browser: Browser, tmp_path: Path) -> None:
    t = trace.step(convolutional())
    show(browser, tmp_path, t._repr_html_())
    jump = """
        const menu = document.querySelector('select');
        menu.value = arguments[0];
        menu.dispatchEvent(new Event('change'));"""
    marked = """
        const [mark] = document.querySelectorAll('.mg-mark');
        const a = mark.getBoundingClientRect(), inside = (b) => Math.abs(a.x + a.width / 2 - b.x - b.width / 2) < 2
          && Math.abs(a.y + a.height / 2 - b.y - b.height / 2) < 2;
        const spots = [...document.querySelectorAll('.mg-spot')];
        return mark.hidden ? 0 : 1 + spots.findIndex((spot) => inside(spot.getBoundingClientRect()));"""
    assert browser.run(marked) == 0
    for number in (1, 7, len(t.operations)):
        browser.run(jump, number)
        assert browser.run(marked) == number
    browser.run(jump, len(t))  # the last step backward, through the first operation
    assert browser.run(marked) == 1
    browser.run("document.querySelectorAll('.mg-spot')[2].click()")
    expect(browser, [len(t) - 2])  # the third operation, backward too
    seen = """
        const a = document.querySelector('.mg-mark').getBoundingClientRect();
        const b = document.querySelector('.mg-flow').getBoundingClientRect();
        return a.top >= b.top && a.bottom <= b.bottom;"""
    assert browser.run(seen)


def test_two_players_do_not_disturb_one_another(browser: Browser, tmp_path: Path) -> None:
    one, two = trace.step(perceptron())._repr_html_(), trace.step(fan_out())._repr_html_()
    show(browser, tmp_path, one, two, one)
    assert browser.run("return document.querySelectorAll('.mg-bar').length") == 3
    browser.click('button[title^="next"]', 1)
    browser.press("right")
    browser.click('button[title^="last"]', 0)
    expect(browser, [11, 2, 0])
    browser.press("home")
    expect(browser, [0, 2, 0])
    assert browser.complaints() == []


def test_it_plays_and_pauses(browser: Browser, tmp_path: Path) -> None:
    show(browser, tmp_path, trace.step(perceptron())._repr_html_())
    browser.run("window.setInterval = (f) => { window.tick = f; return 7; }; window.clearInterval = () => {};")
    browser.click(".mg-head")
    browser.press("space")
    browser.run("tick(); tick();")
    expect(browser, [2])
    assert "pause" in browser.run("return document.querySelectorAll('.mg-bar button')[4].textContent")
    browser.press("space")
    assert "play" in browser.run("return document.querySelectorAll('.mg-bar button')[4].textContent")
    browser.press("space")
    browser.run("for (let n = 0; n < 20; n++) tick();")
    assert "play" in browser.run("return document.querySelectorAll('.mg-bar button')[4].textContent")


def test_algorithm_1_is_played_too(browser: Browser, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 2, seed=0), nn.Tanh(), nn.Linear(2, 2, seed=1))
    run = trace.algorithm1(model, [[1.0, 2.0]], [1], mg.losses.CrossEntropy())
    show(browser, tmp_path, run._repr_html_())
    browser.click(".mg-head")
    for _ in range(8):
        browser.press("right")
    text = browser.run("return document.querySelector('.mg-frame[open]').innerText")
    assert "line 11: sample 1, layer 1" in text
    assert "ends at k = 2" in text
    assert browser.complaints() == []


def test_without_scripts_the_frames_unfold_and_every_picture_loads(browser: Browser, tmp_path: Path) -> None:
    show(browser, tmp_path, sanitized(trace.step(convolutional())._repr_html_()))
    assert browser.run("return document.querySelectorAll('script, style, svg').length") == 0
    browser.click("summary", 18)
    text = browser.run("return document.querySelectorAll('details')[18].innerText")
    assert re.search(r"backward.*conv2d.*\bJ = ∂y/∂weight of sample 0", text, re.DOTALL)
    broken = "return [...document.images].filter((image) => !(image.complete && image.naturalWidth > 0)).length"
    assert browser.run(broken) == 0
    assert browser.run("return document.images.length") > 60
    assert len(browser.requests()) == 1


def test_a_narrow_page_does_not_overflow(browser: Browser, tmp_path: Path) -> None:
    inner = trace.step(convolutional())._repr_html_()
    show(browser, tmp_path, f'<div style="width:640px">{inner}</div>')
    browser.click(".mg-head")
    for _ in range(22):
        browser.press("right")
        assert browser.run("return document.querySelector('.minigrad-trace').scrollWidth") <= 641
