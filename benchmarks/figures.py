"""What the benchmarks share: a ``--json`` option, and the file that it names. Measures nothing itself."""

import argparse
import json
from pathlib import Path
from typing import Any


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Give a benchmark the option through which ``benchmarks/run_all.py`` reads its figures."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file as well")


def write_figures(path: Path | None, figures: dict[str, Any]) -> None:
    """Write the figures as JSON where ``--json`` named a file."""
    if path is not None:
        path.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
