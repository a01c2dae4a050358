r"""Writes src/medqa_cli/resources/name_weights.txt: what tells a text about one person, and a name in it.

    python tools/name_weights.py shared/data/medquad/medquad_two_columns.csv shared/data/pubmedqa/ori_pqal.json \
        shared/data/kqa/questions_w_answers.jsonl

Two logistic regressions with a quadratic penalty, fitted by full gradients, seeded: words of texts, and features of
words (``name_features.features``). They see the benchmark's templates of the first five sets, the sentences of
``name_weights.yaml`` beside this file, and rows of the three files, in which nobody is named but a few authors.
``--held-out`` fits on two thirds of the templates three times and prints how much is found in the rest.
"""

import argparse
import csv
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import identifier_texts  # noqa: E402
import identifier_texts_independent as hands  # noqa: E402

from medqa_cli.data.identifiers import finding, name_features, name_scores  # noqa: E402
from medqa_cli.data.identifiers.text import Text  # noqa: E402
from medqa_cli.data.languages import likeliest_language  # noqa: E402
from medqa_cli.data.normalize import normalized_words  # noqa: E402

TARGET = ROOT / "src/medqa_cli/resources/name_weights.txt"
HEADER = "# Weights of data/identifiers/finding.py (words) and name_features.py. Written by tools/name_weights.py.\n"
SEEN_HANDS = ("independent", "third", "fourth", "fifth")
TEXTS, ROUNDS, STEPS, FEWEST, SMALLEST = 12, 1_500, 400, 4, 0.05
COPIES, FIRST_PERSON = 3, frozenset(("i", "my", "me", "im", "we", "our"))
PENALTY_NAMES, PENALTY_WORDS = 4.0, 3.0


class Sample(NamedTuple):
    """A text, the parts of it that are names, its template, and whether it is about one person (None: not known)."""

    text: str
    names: tuple[tuple[int, int], ...]
    group: str
    is_personal: bool | None


def from_templates(seed: int) -> list[Sample]:
    """Return texts of the benchmark's templates."""
    samples = []
    for which in ("measured", "rules", "without"):
        templates = yaml.safe_load(identifier_texts.TEMPLATES.read_text(encoding="utf-8"))[which]
        made = identifier_texts.make(which, TEXTS * len(templates), seed)
        samples += [_sample(one, f"{which} {n % len(templates)}", which) for n, one in enumerate(made)]
    for hand in SEEN_HANDS:
        for which in ("with", "without"):
            count = len(hands.parts_of_file(hand)[which])
            made = hands.make(hand, which == "with", TEXTS * count, seed)
            samples += [_sample(one, f"{hand} {which} {n % count}", which) for n, one in enumerate(made)]
    return samples


def _sample(made: identifier_texts.Made, group: str, which: str) -> Sample:
    names = tuple((start, end) for start, end, kind in made.spans if kind in ("name", "name without a cue"))
    return Sample(made.text, names, group, None if which == "without" else True)


def from_sentences(seed: int) -> list[Sample]:
    """Return texts of the sentences beside this file, two together half of the time, in large or small letters."""
    table = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    draw, parts = random.Random(seed), hands.parts_of_file("independent")
    locales = hands.parts_of_file("third")["locales"]
    samples = []
    sentences = [(sentence, True) for sentence in table["sentences"]]
    sentences += [(sentence, None) for sentence in (*table["more_sentences"], *table["without"])]
    for number, (sentence, is_personal) in enumerate(sentences):
        for _ in range(TEXTS * 2):
            locale = draw.choices(tuple(locales), tuple(locales.values()))[0]
            values = hands._Values(hands._faker(locale), locale, parts, draw)
            values.fake.seed_instance(draw.randrange(2**32))
            whole = f"{draw.choice(table['sentences'])} {sentence}" if draw.random() < 0.3 else sentence
            text, names = "", []
            for part in re.split(r"(\{\w+\})", whole):
                slot = part[1:-1] if part.startswith("{") else ""
                value = (
                    str(draw.choice(table["fillers"][slot]))
                    if slot in table["fillers"]
                    else values.of(slot)
                    if slot
                    else part
                )
                if slot and slot not in table["fillers"]:
                    names.append((len(text), len(text) + len(value)))
                text += value
            text = text.lower() if draw.random() < 0.2 and len(text.lower()) == len(text) else text
            samples.append(Sample(text, tuple(names), f"sentence {number}", is_personal))
    return samples


def from_rows(medquad: Path, pubmedqa: Path, kqa: Path, seed: int) -> list[Sample]:
    """Return questions and answers in which nobody is named; those of K-QA in the first person are about one."""
    csv.field_size_limit(2**31 - 1)
    with open(medquad, encoding="utf-8", newline="") as file:
        rows = [(row["question"], row["answer"]) for row in csv.DictReader(file)]
    abstracts = json.loads(pubmedqa.read_text(encoding="utf-8")).values()
    papers = [(row["QUESTION"], " ".join(row["CONTEXTS"])) for row in abstracts]
    draw = random.Random(seed)
    chosen = draw.sample(rows, ROUNDS) + draw.sample(papers, ROUNDS // 3)
    samples = [Sample(text, (), f"row {n}", False) for n, row in enumerate(chosen) for text in row]
    for number, line in enumerate(kqa.read_text(encoding="utf-8").splitlines()):
        row = json.loads(line)
        question = set(normalized_words(row["Question"]))
        is_personal = None if question & FIRST_PERSON else False
        samples += [Sample(row["Question"], (), f"kqa {number}", is_personal)] * COPIES
        samples += [Sample(row["Free_form_answer"], (), f"kqa {number}", False)] * COPIES
    return samples


def fit(rows: Sequence[list[str]], targets: Sequence[bool], costs: Sequence[float], penalty: float) -> dict[str, int]:
    """Fit a logistic regression to rows of binary features by Nesterov's gradients with a fixed step."""
    counts = Counter(feature for row in rows for feature in set(row))
    places = {feature: n for n, feature in enumerate(sorted(f for f, count in counts.items() if count >= FEWEST))}
    lists = [[places[feature] for feature in set(row) if feature in places] for row in rows]
    flat = np.array([place for each in lists for place in each], dtype=np.int64)
    owner = np.repeat(np.arange(len(rows)), [len(each) for each in lists])
    target, cost = np.array(targets, dtype=np.float64), np.array(costs, dtype=np.float64)
    weights, bias = np.zeros(len(places)), 0.0
    # The curvature is at most a quarter of the costs times the features of a row.
    scale = np.bincount(flat, weights=cost[owner], minlength=len(places)) * 0.25 * max(map(len, lists)) ** 0.5 + penalty
    held, held_bias, momentum = weights.copy(), bias, 1.0
    for _ in range(STEPS):
        score = np.bincount(owner, weights=held[flat], minlength=len(rows)) + held_bias
        error = (1 / (1 + np.exp(-np.clip(score, -30, 30))) - target) * cost
        gradient = np.bincount(flat, weights=error[owner], minlength=len(places)) + penalty * held
        new, new_bias = held - gradient / scale, held_bias - error.sum() / (0.25 * cost.sum())
        after = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        held, held_bias = (
            new + (momentum - 1) / after * (new - weights),
            new_bias + (momentum - 1) / after * (new_bias - bias),
        )
        weights, bias, momentum = new, new_bias, after
    kept = {name: round(100 * weights[place]) for name, place in places.items() if abs(weights[place]) >= SMALLEST}
    return {"": round(100 * bias), **kept}


def fit_names(samples: Sequence[Sample]) -> dict[str, int]:
    """Fit the weights of a word's features."""
    rows, targets, costs = [], [], []
    for sample in samples:
        text = Text(sample.text)
        words = name_features.tokens(text)
        for place in name_features.candidates(text, words):
            start, end = words[place].start, words[place].end
            rows.append(name_features.features(text, words, place))
            targets.append(any(first <= start and end <= last + 2 for first, last in sample.names))
            costs.append(0.3 if sample.group.startswith("row") else 1.0)
    return fit(rows, targets, costs, PENALTY_NAMES)


def fit_texts(samples: Sequence[Sample]) -> dict[str, int]:
    """Fit the weights of the words of a text."""
    known = [sample for sample in samples if sample.is_personal is not None]
    rows = [sorted(set(_without_names(sample)) & finding.telling_words()) for sample in known]
    return fit(rows, [bool(sample.is_personal) for sample in known], [1.0] * len(rows), PENALTY_WORDS)


def _without_names(sample: Sample) -> list[str]:
    text = sample.text
    for start, end in reversed(sample.names):
        text = text[:start] + " " + text[end:]
    return normalized_words(text)


def main() -> None:
    """Write the file, or print what is found in held-out templates."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("medquad", type=Path)
    parser.add_argument("pubmedqa", type=Path)
    parser.add_argument("kqa", type=Path)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--held-out", action="store_true")
    options = parser.parse_args()
    samples = [*from_templates(options.seed), *from_sentences(options.seed)]
    samples += from_rows(options.medquad, options.pubmedqa, options.kqa, options.seed)
    if options.held_out:
        held_out(samples)
        return
    lines = []
    for section, fitted in (("name", fit_names(samples)), ("text", fit_texts(samples))):
        lines += [f"{section} {name}\t{weight / 100}" for name, weight in sorted(fitted.items())]
    TARGET.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} weights")


def held_out(samples: Sequence[Sample]) -> None:
    """Print recall and precision of names and of texts by set, each fitted without a third of the templates."""
    groups = sorted({sample.group for sample in samples})
    random.Random(1).shuffle(groups)
    counted: dict[str, Counter[str]] = {}
    for third in range(3):
        out = set(groups[third::3])
        kept = [sample for sample in samples if sample.group not in out]
        fitted = {"name": fit_names(kept), "text": fit_texts(kept)}
        name_scores.weights = finding.weights = fitted.__getitem__
        for sample in samples:
            if sample.group in out:
                _count(sample, counted.setdefault(sample.group.rsplit(" ", 1)[0], Counter()))
    for name, count in sorted(counted.items()):
        print(
            f"{name:20} names {count['names']:5} found {count['found'] / max(count['names'], 1):.3f} precision"
            f" {count['right'] / max(count['claimed'], 1):.3f} of {count['claimed']}; texts taken for personal"
            f" {count['personal'] / count['texts']:.3f} of {count['texts']}"
        )


def _count(sample: Sample, count: Counter[str]) -> None:
    text = Text(sample.text)
    is_personal = finding.is_about_one_person(text)
    count.update(texts=1, personal=is_personal)
    finds = list(name_scores.find_scored_names(text, likeliest_language(text.text))) if is_personal else []
    covered = {place for start, end, _ in finds for place in range(start, end)}
    for start, end in sample.names:
        signs = [place for place in range(start, end) if sample.text[place].isalnum()]
        count.update(names=1, found=sum(place in covered for place in signs) >= 0.9 * len(signs))
    for start, end, _ in finds:
        count.update(claimed=1, right=any(start < last and first < end for first, last in sample.names))


if __name__ == "__main__":
    main()
