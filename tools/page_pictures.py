"""Takes the README's pictures of two pages in Chromium: docs/images/serve.png and docs/images/report.png.

    python tools/page_pictures.py report DIR/runs/medqa/eval/report.html
    python tools/page_pictures.py serve [--config FILE] [--model base]

Each picture ends below the part that matters: the five lines of the report, or an answer with its sources. The report
is that of the run that ``record_session.py --folder DIR`` keeps: both pictures show the same figures.

``serve`` converts the config's data (the quickstart's) into a temporary folder and serves the model beside them; a
trained one: ``--config quickstart/medqa.yaml --model adapter``. The question is one that a row of the sample data asks
in other words: its reviewed answer is shown, word for word. Nothing is made up; it takes about a minute.
"""

import argparse
import base64
import contextlib
import io
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from helpers.chromium import Chromium, find_chromium  # noqa: E402

QUESTION = "How do you treat asthma?"
WIDTHS = {"report": 960, "serve": 640}  # the pictures are shown at half of it: letters stay readable
_BELOW = 16
_COLORS = 64  # a page of text has few, and a third of the bytes
PATIENCE = 300.0


def keep(browser: Chromium, last: str, width: int, out: Path) -> None:
    """Write the page as a PNG, from its top to the end of the element ``last``; ``width`` in pixels."""
    bottom = browser.run(f"document.querySelector({last!r}).getBoundingClientRect().bottom + window.scrollY")
    clip = {"x": 0, "y": 0, "width": width, "height": bottom + _BELOW, "scale": 1}
    found = browser.send("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
    out.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(io.BytesIO(base64.b64decode(found["data"]))) as picture:
        picture.convert("RGB").quantize(_COLORS).save(out, optimize=True)
    print(f"{out}: {out.stat().st_size >> 10} KiB")


@contextlib.contextmanager
def served(config: Path, model: str, folder: Path) -> Iterator[str]:
    """Convert the data and serve the model while the block runs, in a folder; yields the address."""
    medqa = [sys.executable, "-m", "medqa_cli"]
    chosen = ["-c", str(config), "--set", f"data.dir={folder / 'data'}", "--set", "sources.reviewed_first=true"]
    subprocess.run([*medqa, "convert", *chosen], cwd=config.parent, check=True, stdout=subprocess.DEVNULL)
    command = [*medqa, "serve", *chosen, "--model", model, "--port", "0", "--feedback", str(folder / "wrong.json")]
    process = subprocess.Popen(command, cwd=config.parent, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        addresses = (re.search(r"http://127\.0\.0\.1:\d+", line) for line in process.stderr)
        found = next((address[0] for address in addresses if address), None)
        if found is None:
            sys.exit(f"medqa serve ended with {process.wait()}")
        yield found + "/"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def ask(browser: Chromium, url: str) -> None:
    """Ask the question on the page of ``medqa serve`` and wait for the end of the answer."""
    browser.open(url, WIDTHS["serve"], "light")
    browser.send("Input.insertText", text=QUESTION)
    browser.press("Enter")
    deadline = time.monotonic() + PATIENCE
    while not browser.run("last !== null && running === null"):
        if time.monotonic() > deadline:
            sys.exit("the answer did not end")
        time.sleep(0.2)
    browser.run("document.activeElement.blur()")


def main() -> None:
    """Take one of the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pages = parser.add_subparsers(dest="page", required=True)
    report = pages.add_parser("report")
    report.add_argument("file", type=Path)
    serve = pages.add_parser("serve")
    serve.add_argument("--config", type=Path, default=ROOT / "src/medqa_cli/resources/quickstart/medqa.yaml")
    serve.add_argument("--model", default="base")
    for page in (report, serve):
        page.add_argument("--out", type=Path, help="default: docs/images/PAGE.png")
    options = parser.parse_args()
    out = options.out or ROOT / f"docs/images/{options.page}.png"
    program = find_chromium()
    if program is None:
        sys.exit("Chromium is not installed")
    folder = Path(tempfile.mkdtemp(prefix="page-pictures-"))
    try:
        with Chromium(program, folder / "profile") as browser:
            if options.page == "report":
                browser.open(options.file.resolve(), WIDTHS["report"], "light")
                keep(browser, "dl.answer", WIDTHS["report"], out)
            else:
                with served(options.config.resolve(), options.model, folder) as url:
                    ask(browser, url)
                    keep(browser, "#sources", WIDTHS["serve"], out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
