"""Headless Chromium through Debian's chromedriver, in the plain WebDriver protocol: pages, clicks, keys, requests."""

import base64
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip
KEYS = {"left": "\ue012", "right": "\ue014", "home": "\ue011", "end": "\ue010", "space": " "}


class Browser:
    """One window of one session."""

    def __init__(self, address: str):
        self.address = address

    def send(self, method: str, path: str, **body: Any) -> Any:
        data = json.dumps(body).encode() if method == "POST" else None
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error

    def open(self, path: Path) -> None:
        """Load a file, all of it: on a busy machine the driver says so before the last lines are read."""
        self.send("POST", "/url", url=path.as_uri())
        self.until(f"return document.readyState === 'complete' && location.href === {json.dumps(path.as_uri())};")

    def run(self, script: str, *arguments: Any) -> Any:
        """What the body of a function returns in the page."""
        return self.send("POST", "/execute/sync", script=script, args=list(arguments))

    def until(self, script: str, seconds: float = 30) -> None:
        """Wait until the body of a function returns something true; AssertionError if it never does."""
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, f"not true after {seconds:g} s: {script}; {self.complaints()}"
            time.sleep(0.1)

    def click(self, css: str, number: int = 0) -> None:
        """Click on the element of that number among those that a selector finds."""
        found = self.send("POST", "/elements", using="css selector", value=css)
        (element,) = found[number].values()
        self.send("POST", f"/element/{element}/click")

    def press(self, key: str) -> None:
        """Press and release a key, where the focus is."""
        strokes = [{"type": kind, "value": KEYS[key]} for kind in ("keyDown", "keyUp")]
        self.send("POST", "/actions", actions=[{"type": "key", "id": "keys", "actions": strokes}])

    def requests(self) -> list[str]:
        """The addresses that were asked for since the last call, without data in the page and the browser's own."""
        events = [json.loads(e["message"])["message"] for e in self.send("POST", "/se/log", type="performance")]
        asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return [address for address in asked if not address.startswith(("data:", "chrome"))]

    def complaints(self) -> list[str]:
        """Errors in the console since the last call."""
        return [e["message"] for e in self.send("POST", "/se/log", type="browser") if e["level"] == "SEVERE"]

    def screenshot(self, path: Path) -> None:
        """Write what the window shows as a PNG."""
        path.write_bytes(base64.b64decode(self.send("GET", "/screenshot")))


@contextmanager
def chromium(profile: Path, width: int = 1280, height: int = 800) -> Iterator[Browser]:
    """A browser with a fresh profile; the test is skipped where there is none."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed: apt-get install chromium chromium-driver")
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([driver, "--port=0"], text=True, **pipes) as process:
        try:
            assert process.stdout is not None
            port = next(line.rstrip(".\n").split()[-1] for line in process.stdout if "successfully on port" in line)
            server = f"http://127.0.0.1:{port}"
            options = {
                "binary": binary,
                "args": [*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"],
                "perfLoggingPrefs": {"enableNetwork": True},
            }
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"performance": "ALL", "browser": "ALL"}}
            session = Browser(server).send("POST", "/session", capabilities={"alwaysMatch": wanted})
            browser = Browser(f"{server}/session/{session['sessionId']}")
            try:
                yield browser
            finally:
                browser.send("DELETE", "")
        finally:
            process.terminate()
            process.wait(timeout=20)
