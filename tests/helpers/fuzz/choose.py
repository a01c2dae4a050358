"""Writes seeds.py: for each door the fewest seeds that end in every way that the tried ones do.

python -m helpers.fuzz 0 300 > tried.json; python -m helpers.fuzz.choose tried.json    (from tests/)
"""

import json
import re
import sys
import textwrap
from pathlib import Path

from helpers.fuzz.driver import Tried
from helpers.fuzz.seeds import FAILED_ONCE

SEEDS = Path(__file__).with_name("seeds.py")


def way(one: Tried) -> tuple[str, str]:
    """How an input ended, without its numbers, names and quotations: one message, one way."""
    text = re.sub(r"'.*?'|\".*?\"|\(.*?\)|\[.*?\]|\{.*?\}", "*", one.said, flags=re.DOTALL)
    names = re.compile(r"\S*[\d/._=*]\S+|\d")
    return one.outcome, " ".join(names.sub("*", text).split()[:6])


def cover(tried: list[Tried]) -> list[int]:
    """The quickest seed of each way, and one in eight of all for what no message tells apart."""
    quickest: dict[tuple[str, str], Tried] = {}
    for one in sorted(tried, key=lambda one: (one.seconds, one.seed)):
        quickest.setdefault(way(one), one)
    return sorted({one.seed for one in quickest.values()} | {one.seed for one in tried[:100:8]})


def main(path: str) -> None:
    found = {door: [Tried(*one) for one in tried] for door, tried in json.loads(Path(path).read_text()).items()}
    chosen = {door: sorted({*cover(tried), *FAILED_ONCE.get(door, ())}) for door, tried in found.items()}
    head, _, _ = SEEDS.read_text(encoding="utf-8").partition("CHOSEN")
    lines = "".join(f'    "{door}": [\n{wrapped(seeds)}\n    ],\n' for door, seeds in chosen.items())
    SEEDS.write_text(f"{head}CHOSEN: dict[str, list[int]] = {{\n{lines}}}\n# fmt: on\n", encoding="utf-8")


def wrapped(seeds: list[int]) -> str:
    return textwrap.indent(textwrap.fill(", ".join(map(str, seeds)) + ",", 108), " " * 8)


if __name__ == "__main__":
    main(sys.argv[1])
