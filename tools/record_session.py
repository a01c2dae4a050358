"""Runs the quickstart's commands and draws what they printed as the README's picture, docs/images/session.svg.

    python tools/record_session.py [--out FILE] [--folder DIR]

Nothing is made up or tidied: each command runs for real, and of what it printed the lines that ``STEPS`` names are
shown; a line between them says how many are left out. None of them holds a time or a speed. The answers are measured,
so that it takes longer than the quickstart (some 15 minutes on two cores). ``DIR`` keeps the run, of whose report
``page_pictures.py`` takes the other picture.
"""

import argparse
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "src/medqa_cli/resources/quickstart"
WIDTH = 80


@dataclass(frozen=True)
class Step:
    """A command as one types it; ``head``: how many first lines are shown; ``keep``: how further ones begin."""

    command: str
    head: int
    keep: tuple[str, ...]


STEPS = (
    Step("medqa convert", 0, ("kept  ",)),
    Step("medqa train", 0, ("step 0/", "step 52/52: validation")),
    Step("medqa eval --set eval.metrics=all", 0, ("Can I use it?",)),
    Step('medqa ask "How to treat glaucoma?"', 1, ("[1] ",)),
)


def run(command: str, folder: Path) -> list[str]:
    """Run a command in a folder; return the lines that it printed, notices and answers in the order of their coming."""
    environment = {**os.environ, "COLUMNS": str(WIDTH), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        command, shell=True, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        sys.exit(f"{command}\n{done.stdout}\nended with exit code {done.returncode}")
    return done.stdout.splitlines()


def shown(lines: list[str], step: Step) -> list[str]:
    """Return the lines that the picture has, in their order; warn of beginnings that no line has."""
    for start in step.keep:
        if not any(line.startswith(start) for line in lines):
            print(f"warning: no line begins with {start!r}; STEPS names lines of an older medqa", file=sys.stderr)
    kept = lines[: step.head]
    for keep, group in itertools.groupby(lines[step.head :], lambda line: line.startswith(step.keep)):
        found = list(group)
        kept += found if keep else [f"    ... {len(found)} more line{'s' if len(found) > 1 else ''} ..."]
    return kept


def without_web_fonts(svg: str) -> str:
    """Take out the rules by which rich's picture would have its reader's browser fetch fonts."""
    return re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)


def draw(outputs: list[tuple[str, list[str]]], path: Path) -> None:
    """Draw commands and lines as a terminal window."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=WIDTH, file=nowhere, force_terminal=True, color_system="truecolor")
        for command, lines in outputs:
            console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
            for line in lines:
                console.print(Text(line), style="dim" if line.startswith("    ... ") else None)
        svg = without_web_fonts(console.export_svg(title="medqa", unique_id="medqa-session"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
        file.write(svg)
    written = Path(file.name)
    written.chmod(0o644)
    written.replace(path)


def main() -> int:
    """Run and draw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs/images/session.svg")
    parser.add_argument("--folder", type=Path, help="a new folder that keeps the run")
    options = parser.parse_args()
    outputs = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(shutil.copytree(SAMPLE, options.folder or Path(name) / "quickstart"))
        for step in STEPS:
            print(f"$ {step.command}", flush=True)
            lines = run(step.command, folder)
            print("\n".join(lines), flush=True)
            outputs.append((step.command, shown(lines, step)))
    draw(outputs, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
