"""Chromium without a window, driven through a pipe by its DevTools protocol; no package is needed for it.

Each message is a JSON object that ends with a zero byte; Chromium reads them from file descriptor 3 and writes to 4.
"""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Loads nothing but what it is told to: no update checks, no start page, no field trials.
SWITCHES = (
    "--headless=new",
    "--no-sandbox",  # CI runs as root, which Chromium's sandbox refuses
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
# The pipe's ends are above 10 here, so that moving one to 3 or 4 never overwrites the other.
LAUNCH = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execvp(sys.argv[3], sys.argv[3:])"
)
PATIENCE = 120  # seconds for one command, on a machine that has other work to do


def find_chromium() -> str | None:
    """Return the path of an installed browser."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class BrowserError(Exception):
    """Chromium answered with an error, ended, or took too long."""


class Chromium:
    """One browser with one page. ``events``: all that the page reported, oldest first."""

    def __init__(self, program: str, profile: Path) -> None:
        ours, theirs = _high_pipe(), _high_pipe()
        launch = [sys.executable, "-c", LAUNCH, str(ours[0]), str(theirs[1])]
        self._process = subprocess.Popen(
            [*launch, program, *SWITCHES, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(ours[0], theirs[1]),
        )
        os.close(ours[0])
        os.close(theirs[1])
        self._write, self._read = ours[1], theirs[0]
        self._waiting = b""
        self._number = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        pages = [own for own in self.send("Target.getTargets")["targetInfos"] if own["type"] == "page"]
        self._session = self.send("Target.attachToTarget", targetId=pages[0]["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # As a user closes it: what pages keep is on the disk then.
        with contextlib.suppress(BrowserError, OSError, subprocess.TimeoutExpired):
            self.send("Browser.close")
            self._process.wait(timeout=20)
        os.close(self._write)
        os.close(self._read)
        self._process.terminate()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Give a command and return its result.

        Raises:
            BrowserError: it failed, or nothing came back.
        """
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while (answer := self._receive(deadline)).get("id") != self._number:
            self.events.append(answer)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, page: Path | str, width: int, scheme: str) -> None:
        """Show a file or an address, ``width`` CSS pixels wide, in the scheme ``light`` or ``dark``, without motion."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        self.send("Emulation.setEmulatedMedia", features=[{"name": n, "value": v} for n, v in features.items()])
        self.events.clear()
        self.send("Page.navigate", url=page if isinstance(page, str) else page.as_uri())
        deadline = time.monotonic() + PATIENCE
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive(deadline))

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression in the page, awaited where it is a promise."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise BrowserError(f"{script}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def press(self, key: str, code: str = "") -> None:
        """Press and release a key: ``Tab``, ``Enter``, ``Escape``, a letter or a digit.

        Args:
            key: what it writes, or its name.
            code: its place on an American keyboard; empty: where the letter or the digit stands there.
        """
        numbers = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32}
        place = {" ": "Space"}.get(key) or (
            f"{'Digit' if key.isdigit() else 'Key'}{key.upper()}" if len(key) == 1 else key
        )
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        shared = {"key": key, "code": code or place, "windowsVirtualKeyCode": numbers.get(key) or ord(key.upper()[0])}
        self.send("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **shared)
        self.send("Input.dispatchKeyEvent", type="keyUp", **shared)

    def screenshot(self, path: Path) -> None:
        """Write the whole page as a PNG."""
        found = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._waiting:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._read], [], [], left)[0]:
                raise BrowserError(f"Chromium said nothing for {PATIENCE} seconds")
            piece = os.read(self._read, 1 << 16)
            if not piece:
                raise BrowserError("Chromium has ended")
            self._waiting += piece
        message, _, self._waiting = self._waiting.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


def _high_pipe() -> tuple[int, int]:
    low = os.pipe()
    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in low)
    for end in low:
        os.close(end)
    return high[0], high[1]
