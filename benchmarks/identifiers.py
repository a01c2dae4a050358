"""How much of the identifiers in made-up texts medqa finds, how much of what it finds is one, and Presidio beside it.

    python benchmarks/identifiers.py [--presidio PYTHON --spacy-model FOLDER] [--corpus FILE.csv ...]

Makes 1,000 texts with identifiers of twelve kinds in odd spellings and 1,000 without, from templates and names that
the rules were not made on (identifier_templates.yaml), or with ``--texts independent``, ``third``, ``fourth``,
``fifth``, ``sixth`` or ``seventh`` from templates by six hands that had not seen the rules. ``--half`` keeps the
texts of every second template of such a hand: those at even places of the third and of the sixth hand's file were
looked at while the rules were mended, those at odd places were not. An identifier counts as found where the finds
cover nine tenths of its letters and digits; a find counts as right where half of it lies in an identifier. ``PYTHON``
is that of an environment with presidio-analyzer, ``FOLDER`` a spaCy model. ``--corpus`` counts the rows of tables of
questions and answers in which anything is found. Intervals are Wilson's, at 95 %.
"""

import argparse
import csv
import json
import math
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import identifier_texts_independent
from figures import add_json_option, write_figures
from identifier_texts import Made, make
from identifier_texts_independent import HALVES, HANDS

from medqa_cli.data.cleaning.rules import clean, enabled_rules
from medqa_cli.data.identifiers.finding import find_in_row
from medqa_cli.data.identifiers.finds import KINDS

COVERED = 0.9
Spans = list[tuple[int, int, str]]


def interval(hits: int, count: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share."""
    if not count:
        return (0.0, 1.0)
    z, share = 1.96, hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return (max(middle - half, 0.0), min(middle + half, 1.0))


def rate(hits: int, count: int) -> dict[str, Any]:
    """Return a share with what it is of and its interval."""
    low, high = interval(hits, count)
    return {"hits": hits, "count": count, "share": hits / count if count else None, "low": low, "high": high}


def score(texts: Sequence[Made], finds: Sequence[Spans]) -> dict[str, Any]:
    """Return recall and precision by kind and over all, and the share of clean texts in which anything is found."""
    found: Counter[str] = Counter()
    there: Counter[str] = Counter()
    right: Counter[str] = Counter()
    claimed: Counter[str] = Counter()
    touched = 0
    for made, spans in zip(texts, finds, strict=True):
        covered = {place for start, end, _ in spans for place in range(start, end)}
        identifying = {place for start, end, _ in made.spans for place in range(start, end)}
        for start, end, kind in made.spans:
            signs = [place for place in range(start, end) if made.text[place].isalnum()]
            there[kind] += 1
            found[kind] += sum(place in covered for place in signs) >= COVERED * len(signs)
        for start, end, kind in spans:
            claimed[kind] += 1
            right[kind] += 2 * sum(place in identifying for place in range(start, end)) >= end - start
        touched += bool(spans) and not made.spans
    without = sum(not made.spans for made in texts)
    return {
        "recall": {kind: rate(found[kind], there[kind]) for kind in (*KINDS, "name without a cue") if there[kind]},
        "recall_all": rate(sum(found.values()), sum(there.values())),
        "precision": {kind: rate(right[kind], claimed[kind]) for kind in KINDS if claimed[kind]},
        "precision_all": rate(sum(right.values()), sum(claimed.values())),
        "clean_texts_touched": rate(touched, without),
    }


def texts_of(which: str, count: int, seed: int, half: str = "both") -> list[Made]:
    """Return texts with identifiers and as many without; of a hand's, those of every second template if so asked."""
    if which in HANDS:
        return [
            made for sort in (True, False) for made in identifier_texts_independent.make(which, sort, count, seed, half)
        ]
    return make(which, count, seed) + make("without", count, seed)


def ours(texts: Sequence[Made]) -> list[Spans]:
    """Return what medqa finds."""
    return [[(find.start, find.end, find.kind) for find in find_in_row(made.text, "")] for made in texts]


def presidio(texts: Sequence[Made], python: Path, model: Path) -> dict[str, list[Spans]]:
    """Return what Presidio finds, by setting."""
    with tempfile.TemporaryDirectory() as folder:
        given, written = Path(folder) / "texts.json", Path(folder) / "finds.json"
        given.write_text(json.dumps([made.text for made in texts]), encoding="utf-8")
        script = Path(__file__).with_name("identifiers_presidio.py")
        subprocess.run([python, script, given, written, "--spacy-model", model], check=True)
        read = json.loads(written.read_text(encoding="utf-8"))
    return {name: [[(start, end, kind) for start, end, kind in spans] for spans in each] for name, each in read.items()}


def corpus(path: Path) -> dict[str, Any]:
    """Return in how many rows of a table anything is found, after cleaning, and of which kinds."""
    csv.field_size_limit(2**31 - 1)
    rules, rows, touched = enabled_rules({}), 0, 0
    kinds: Counter[str] = Counter()
    with open(path, encoding="utf-8", newline="") as file:
        lines = (json.loads(line) for line in file) if path.suffix == ".jsonl" else csv.DictReader(file)
        for line in lines:
            low = {key.lower(): value for key, value in line.items()}
            question, answer, _ = clean(low["question"], low.get("answer") or low["free_form_answer"], rules)
            finds = find_in_row(question, answer)
            rows += 1
            touched += bool(finds)
            kinds.update({find.kind for find in finds})
    return {"rows": rate(touched, rows), "kinds": dict(kinds)}


def shown(value: dict[str, Any]) -> str:
    """Return ``0.96 [0.93, 0.98] of 210``."""
    share = "-" if value["share"] is None else f"{value['share']:.3f}"
    return f"{share} [{value['low']:.2f}, {value['high']:.2f}] of {value['count']}"


def show(name: str, scored: dict[str, Any]) -> None:
    """Print a table."""
    print(f"\n{name}\n{'kind':20} {'recall':32} precision of what is called so")
    for kind in dict.fromkeys((*scored["recall"], *scored["precision"])):
        recall = shown(scored["recall"][kind]) if kind in scored["recall"] else "-"
        precision = shown(scored["precision"][kind]) if kind in scored["precision"] else "-"
        print(f"{kind:20} {recall:32} {precision}")
    print(f"{'all':20} {shown(scored['recall_all']):32} {shown(scored['precision_all'])}")
    print(f"texts without identifiers in which anything is found: {shown(scored['clean_texts_touched'])}")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=1000, help="texts with identifiers, and as many without")
    parser.add_argument("--seed", type=int, default=2026)
    whose = "templates by this project, or by another hand: independent, third, fourth or fifth"
    parser.add_argument("--texts", choices=("measured", "rules", *HANDS), default="measured", help=whose)
    parser.add_argument("--half", choices=HALVES, default="both", help="texts of templates at even or odd places")
    parser.add_argument("--presidio", type=Path, metavar="PYTHON", help="of an environment with presidio-analyzer")
    parser.add_argument("--spacy-model", type=Path, metavar="FOLDER", help="the spaCy model that it loads")
    parser.add_argument("--corpus", type=Path, action="append", default=[], help="a table of questions and answers")
    parser.add_argument("--misses", action="store_true", help="print what is missed of the texts to work on")
    add_json_option(parser)
    options = parser.parse_args()
    if options.half != "both" and options.texts not in HANDS:
        sys.exit(f"--half is for the texts of other hands; add --texts {' or --texts '.join(HANDS)}")
    if options.misses and options.texts != "rules" and (options.texts, options.half) != ("third", "even"):
        sys.exit(
            "--misses would make the measured texts known to whoever writes the rules; add --texts rules, or --texts"
            " third --half even"
        )
    texts = texts_of(options.texts, options.count, options.seed, options.half)
    sides = {"medqa": ours(texts)}
    if options.presidio is not None:
        sides |= presidio(texts, options.presidio, options.spacy_model)
    figures: dict[str, Any] = {"texts": options.texts, "half": options.half, "sides": {}, "corpora": {}}
    for name, finds in sides.items():
        figures["sides"][name] = scored = score(texts, finds)
        show(name, scored)
    for path in options.corpus:
        figures["corpora"][path.name] = counted = corpus(path)
        print(f"\n{path.name}: rows with a find {shown(counted['rows'])}; {counted['kinds']}")
    if options.misses:
        for made, spans in zip(texts, sides["medqa"], strict=True):
            covered = {place for start, end, _ in spans for place in range(start, end)}
            for start, end, kind in made.spans:
                if not set(range(start, end)) <= covered:
                    print(f"missed {kind} {made.text[start:end]!r} in {made.text!r}")
            for start, end, kind in spans:
                if all(end <= first or last <= start for first, last, _ in made.spans):
                    print(f"wrong {kind} {made.text[start:end]!r} in {made.text!r}")
    write_figures(options.json, figures)


if __name__ == "__main__":
    main()
