"""Runs the quickstart's commands and draws what they printed as the README's picture, docs/images/session.svg.

    python tools/record_session.py [--out FILE]

Nothing is made up or tidied: each command runs for real, and what it printed is shown with its first and last lines; a
line in the middle says how many are left out. Takes as long as the quickstart (six to ten minutes on two cores).
"""

from __future__ import annotations

import argparse
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
WIDTH = 104


@dataclass(frozen=True)
class Step:
    """A command as one types it; ``head`` and ``tail``: how many of its lines are shown."""

    command: str
    head: int
    tail: int


STEPS = (
    Step("medqa convert", 12, 3),
    Step("medqa train", 4, 10),
    Step("medqa eval", 8, 14),
    Step('medqa ask "How to treat glaucoma?"', 12, 3),
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
    """Return the lines that the picture has."""
    left_out = len(lines) - step.head - step.tail
    if left_out <= 1:
        return lines
    return [*lines[: step.head], f"    ... {left_out} more lines ...", *lines[len(lines) - step.tail :]]


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
            console.print()
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
    options = parser.parse_args()
    outputs = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(shutil.copytree(SAMPLE, Path(name) / "quickstart"))
        for step in STEPS:
            print(f"$ {step.command}", flush=True)
            lines = run(step.command, folder)
            print("\n".join(lines), flush=True)
            outputs.append((step.command, shown(lines, step)))
    draw(outputs, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
