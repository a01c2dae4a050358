"""Asks the page of ``medqa serve`` a question in Chromium and keeps what it shows as docs/images/serve.png.

    python tools/serve_picture.py [--config FILE] [--model base] [--out FILE]

Converts the config's data (the quickstart's) into a temporary folder and serves the model beside them; a trained one:
``--config quickstart/medqa.yaml --model adapter``. The question is one that a row of the sample data asks in other
words: its reviewed answer is shown, word for word. Nothing is made up; it takes about a minute.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from helpers.chromium import Chromium, find_chromium  # noqa: E402

QUESTION = "How do you treat asthma?"
WIDTH = 900
_COLORS = 64  # a page of text has few, and a third of the bytes
PATIENCE = 300.0


def start(config: Path, model: str, folder: Path) -> tuple[subprocess.Popen[str], str]:
    """Convert the data, start the server in a folder; return it and its address."""
    medqa = [sys.executable, "-m", "medqa_cli"]
    chosen = ["-c", str(config), "--set", f"data.dir={folder / 'data'}", "--set", "sources.reviewed_first=true"]
    subprocess.run([*medqa, "convert", *chosen], cwd=config.parent, check=True, stdout=subprocess.DEVNULL)
    command = [*medqa, "serve", *chosen, "--model", model, "--port", "0"]
    command += ["--feedback", str(folder / "wrong.json")]
    process = subprocess.Popen(command, cwd=config.parent, stderr=subprocess.PIPE, text=True, env={**os.environ})
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            return process, found[0] + "/"
    sys.exit(f"medqa serve ended with {process.wait()}")


def take(browser: Chromium, url: str, out: Path) -> None:
    """Ask and keep the page."""
    browser.open(url, WIDTH, "light")
    browser.send("Input.insertText", text=QUESTION)
    browser.press("Enter")
    deadline = time.monotonic() + PATIENCE
    while not browser.run("last !== null && running === null"):
        if time.monotonic() > deadline:
            sys.exit("the answer did not end")
        time.sleep(0.2)
    browser.run("document.activeElement.blur()")
    out.parent.mkdir(parents=True, exist_ok=True)
    browser.screenshot(out)
    with Image.open(out) as picture:
        few = picture.convert("RGB").quantize(_COLORS)
    few.save(out, optimize=True)
    print(f"{out}: {out.stat().st_size >> 10} KiB")


def main() -> None:
    """Serve, ask, keep the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=ROOT / "src/medqa_cli/resources/quickstart/medqa.yaml")
    parser.add_argument("--model", default="base")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/images/serve.png")
    options = parser.parse_args()
    program = find_chromium()
    if program is None:
        sys.exit("Chromium is not installed")
    folder = Path(tempfile.mkdtemp(prefix="serve-picture-"))
    process, url = start(options.config.resolve(), options.model, folder)
    try:
        with Chromium(program, folder / "profile") as browser:
            take(browser, url, options.out)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
