"""Writes src/medqa_cli/resources/medical_words.txt from the words of public medical texts.

    python tools/medical_words.py shared/data/medquad/medquad_two_columns.csv shared/data/pubmedqa/ori_pqal.json

Kept are the words that stand in small letters in three texts or more and are in no other table.
"""

import csv
import json
import re
import sys
import textwrap
from collections import Counter
from pathlib import Path

from medqa_cli.data.identifiers.name_forms import is_common, is_medicine
from medqa_cli.data.identifiers.word_tables import all_names, more_first_names

FEWEST, SHORTEST = 3, 4
TARGET = Path(__file__).resolve().parents[1] / "src/medqa_cli/resources/medical_words.txt"
HEADER = """\
# Words of medicine in small letters, for data/identifiers/name_scores.py: those that stand in three or more texts of
# MedQuAD (CC BY 4.0) or PubMedQA (MIT) and that common_words.txt lacks. Written by tools/medical_words.py.
"""


def main() -> None:
    """Write the file."""
    csv.field_size_limit(2**31 - 1)
    with open(sys.argv[1], encoding="utf-8", newline="") as file:
        texts = {text for row in csv.DictReader(file) for text in (row["question"], row["answer"])}
    for row in json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")).values():
        texts |= {" ".join(row["CONTEXTS"]), row["LONG_ANSWER"]}
    counts = Counter(word for text in texts for word in set(re.findall(r"(?<![\w@./-])[a-z]+(?![\w@/]|\.\w)", text)))
    none = all_names() | more_first_names()
    kept = {word for word, count in counts.items() if count >= FEWEST and len(word) >= SHORTEST and word not in none}
    kept = {word for word in kept if not is_common(word) and not is_medicine(word)}
    kept = {word for word in kept if not (word[-1] == "s" and word[:-1] in kept)}
    body = textwrap.fill(" ".join(sorted(kept)), 118, break_on_hyphens=False)
    TARGET.write_text(HEADER + body + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
