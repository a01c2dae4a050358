"""Writes src/medqa_cli/resources/common_words.txt from the frequencies of words that come with symspellpy.

    pip download --no-deps symspellpy==6.10.1 && unzip symspellpy-*.whl
    python tools/common_words.py symspellpy/frequency_dictionary_en_82_765.txt

Kept are the commonest words that are in no table of names, have no ending that names lack, and are no plural of
another word that is kept.
"""

import sys
import textwrap
from pathlib import Path

from medqa_cli.data.identifiers.name_forms import NO_NAME_ENDING
from medqa_cli.data.identifiers.word_tables import all_names

COMMONEST = 40_000
TARGET = Path(__file__).resolve().parents[1] / "src/medqa_cli/resources/common_words.txt"
HEADER = """\
# Words in small letters that are no names, for data/identifiers/: of the commonest 40,000 of symspellpy's dictionary
# (6.10.1, MIT; Google Books Ngrams, CC BY 3.0, within SCOWL), without names, plurals, and endings that names lack.
# Written by tools/common_words.py.
"""


def main() -> None:
    """Write the file."""
    lines = Path(sys.argv[1]).read_text(encoding="utf-8-sig").splitlines()[:COMMONEST]
    words = {word for word, _ in map(str.split, lines) if len(word) > 2 and word.isalpha()}
    kept = {word for word in words - all_names() if not NO_NAME_ENDING.search(word)}
    kept = {word for word in kept if not (word[-1] == "s" and word[:-1] in kept)}
    body = textwrap.fill(" ".join(sorted(kept)), 118, break_on_hyphens=False)
    TARGET.write_text(HEADER + body + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
