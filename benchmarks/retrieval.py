"""How well ``ask`` finds what the data says: the right row, the reviewed answer, nothing near; and how fast.

    python benchmarks/retrieval.py MEDQUAD.csv [--times 50] [--questions 1500] [--reviewed 400]

The file is converted with the defaults. Questions of the test split are asked in other words: in wordings of the
paraphrase bank, and in those of ``off_template_questions``. They are searched among all rows, theirs too. A row is the
right one if it is the question's own, has the same answer, or asks the same ("as good"). The reviewed answers are
looked for among the training rows: asked in other words, where half of the bank is known to the rule (only the other
half and the off-template wordings tell how it does on unknown ones); look-alikes that no row asks (``look_alikes``);
and questions of the test split, whose topics no training row has. ``other_fields.txt`` has questions of other fields.
Times are of the processor: an index of the file's rows and of ``--times`` as many, in which the copies have other
topics.
"""

import argparse
import csv
import random
import re
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from convert import altered_question
from figures import add_json_option, write_figures
from look_alikes import LookAlikes
from off_template_questions import off_template

from medqa_cli import console
from medqa_cli.answering import open_book
from medqa_cli.config.schema import DataConfig
from medqa_cli.data.convert import convert
from medqa_cli.data.dataset import SPLITS, QaRow, read_split
from medqa_cli.data.normalize import key_of, normalize
from medqa_cli.data.retrieval import Passage, PassageIndex, passage_of, write_index
from medqa_cli.data.topics.medical_terms import comparable_name
from medqa_cli.data.topics.paraphrases import paraphrase
from medqa_cli.data.topics.question_types import recognize
from medqa_cli.data.topics.topics import topic_names
from medqa_cli.resources import load_yaml

SEED = 42
THRESHOLDS = (1.0, 0.9, 0.8)
OTHER_FIELDS = Path(__file__).with_name("other_fields.txt")

Asked = list[tuple[QaRow, str]]


def in_other_words(rows: Sequence[QaRow], count: int) -> dict[str, Asked]:
    """Ask questions in both ways."""
    return {
        "paraphrases": [(row, text) for row in rows for text in paraphrase(row.question, count, SEED)],
        "off-template": [(row, text) for row in rows if (text := off_template(row.question, SEED))],
    }


def is_right(row: QaRow, passage: Passage) -> bool:
    """Tell whether a passage is the row that was asked, or has its answer."""
    return passage.id == row.id or normalize(passage.text) == normalize(row.answer)


def is_as_good(row: QaRow, passage: Passage) -> bool:
    """Tell whether a passage asks the same as the row."""
    if is_right(row, passage) or normalize(passage.title) == normalize(row.question):
        return True
    asked, other = recognize(row.question), recognize(passage.title)
    if asked is None or other is None or asked.kind != other.kind:
        return False
    return not set(topic_names(asked.topic)).isdisjoint(topic_names(other.topic))


def recall(index: PassageIndex, asked: Asked) -> dict[str, float]:
    """Return how often the right row is the first, and among the first five; and how often nothing is near."""
    figures: dict[str, float] = defaultdict(float)
    for row, question in asked:
        nearest = index.nearest(question, 5)
        figures["nothing_near"] += not nearest
        for name, test in (("right", is_right), ("as_good", is_as_good)):
            figures[f"{name}@1"] += any(test(row, passage) for passage in nearest[:1])
            figures[f"{name}@5"] += any(test(row, passage) for passage in nearest)
    return {"questions": len(asked), **{name: count / len(asked) for name, count in figures.items()}}


def know_half_of_the_bank() -> None:
    """Leave every second wording out of the rule, drawn by its text."""
    half = {
        kind: [open_book.pattern_of(text) for texts in groups.values() for text in texts if key_of(text)[0] % 2]
        for kind, groups in load_yaml("paraphrases").items()
    }
    open_book.wordings = lambda: half  # type: ignore[assignment]


def is_known(row: QaRow, question: str) -> bool:
    """Tell whether the rule knows the wording in which a question asks for a row."""
    form = recognize(row.question)
    matches = [pattern.fullmatch(question) for pattern in open_book.wordings().get(form.kind, [])] if form else []
    return any(comparable_name(match[1]) == comparable_name(form.topic) for match in matches if match and form)


def reviewed_answers(train: Sequence[QaRow], test: Sequence[QaRow], count: int) -> list[dict[str, Any]]:
    """Sweep the threshold; return precision and recall for each, with the look-alikes that were answered."""
    index = PassageIndex(passage_of(row) for row in train)
    draw = random.Random(SEED)
    rows = draw.sample([row for row in train if recognize(row.question)], min(count, len(train) // 2))
    positives: dict[str, Asked] = {"as in the file": [(row, row.question) for row in rows]}
    asked = in_other_words(rows, 4)
    positives["known wordings"] = [pair for pair in asked["paraphrases"] if is_known(*pair)]
    positives["unknown wordings"] = [pair for pair in asked["paraphrases"] if not is_known(*pair)]
    positives["off-template"] = asked["off-template"]
    generator = LookAlikes([row.question for row in train], SEED)
    negatives: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        for rule, question in generator.of(row.question).items():
            negatives[rule].append(question)
    negatives["held-out topics"] = [row.question for row in draw.sample(list(test), min(count, len(test)))]
    return [at_threshold(index, positives, negatives, threshold) for threshold in THRESHOLDS]


def at_threshold(
    index: PassageIndex, positives: dict[str, Asked], negatives: dict[str, list[str]], threshold: float
) -> dict[str, Any]:
    """Return what a threshold gives: recall of each kind of wording, answered look-alikes, precision."""
    figures: dict[str, Any] = {"threshold": threshold, "recall": {}, "answered": {}}
    right = dict.fromkeys(positives, 0)
    wrong = 0
    for name, asked in positives.items():
        for row, question in asked:
            if passage := open_book.reviewed_row(question, index, threshold):
                good = is_as_good(row, passage)
                right[name] += good
                wrong += not good
        figures["recall"][name] = [right[name], len(asked)]
    for name, questions in negatives.items():
        answered = sum(open_book.reviewed_row(question, index, threshold) is not None for question in questions)
        figures["answered"][name] = [answered, len(questions)]
        wrong += answered
    # Of wordings that the rule does not know, with all look-alikes.
    unknown = right["unknown wordings"] + right["off-template"]
    figures |= {"wrong": wrong, "precision_of_unknown": unknown / max(1, unknown + wrong)}
    return figures


def enlarged(source: Path, times: int) -> Iterator[Passage]:
    """Yield the rows of the file, as they are, and copies of them about other topics."""
    csv.field_size_limit(2**31 - 1)
    with open(source, encoding="utf-8", newline="") as file:
        rows = [(row["question"], row["answer"]) for row in csv.DictReader(file)]
    words = sorted({word for _, answer in rows for word in re.findall(r"[A-Za-z]{3,}", answer)})
    draw = random.Random(SEED)
    for copy in range(times):
        for number, (question, answer) in enumerate(rows):
            title = altered_question(question, words, draw) if copy else question
            yield Passage(f"{copy}-{number}", "row", title, answer, "", "")


def times(source: Path, count: int, questions: Sequence[str]) -> dict[str, float]:
    """Measure the processor time of an index and of questions."""
    with tempfile.TemporaryDirectory() as folder:
        passages = enlarged(source, count)
        making = 0.0

        def timed() -> Iterator[Passage]:
            nonlocal making
            while True:
                started = time.process_time()
                passage = next(passages, None)
                making += time.process_time() - started
                if passage is None:
                    return
                yield passage

        started = time.process_time()
        num_rows = write_index(Path(folder) / "index.sqlite", timed())
        seconds = time.process_time() - started - making
        index = PassageIndex.of_folder(Path(folder))
        taken = []
        for question in questions:
            started = time.process_time()
            index.nearest(question, 5)
            taken.append(1000 * (time.process_time() - started))
    return {
        "rows": num_rows,
        "build_seconds": seconds,
        "query_ms_mean": statistics.mean(taken),
        "query_ms_median": statistics.median(taken),
        "query_ms_99": sorted(taken)[int(0.99 * len(taken))],
        "query_ms_first": taken[0],
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path, help="a CSV file with the columns question and answer, e.g. MedQuAD")
    parser.add_argument("--times", type=int, default=50, help="how many times as many rows are indexed; 1: none")
    parser.add_argument("--questions", type=int, default=1500, help="the most questions of the test split")
    parser.add_argument("--reviewed", type=int, default=400, help="the rows whose reviewed answers are looked for")
    add_json_option(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, console.status("converting ..."):
        data_dir = Path(folder) / "data"
        convert([str(options.source)], DataConfig(), SEED, lambda question, answer, given: "", None, data_dir)
        splits = {name: read_split(data_dir, name) for name in SPLITS}
    rows = [row for split in splits.values() for row in split]
    test = random.Random(SEED).sample(splits["test"], min(options.questions, len(splits["test"])))
    asked = in_other_words(test, 1)
    index = PassageIndex(passage_of(row) for row in rows)
    figures: dict[str, Any] = {"recall": {name: recall(index, pairs) for name, pairs in asked.items()}}
    others = OTHER_FIELDS.read_text(encoding="utf-8").splitlines()
    figures["other_fields"] = {"questions": len(others), "near": sum(bool(index.nearest(text, 5)) for text in others)}
    mixed = [question for pairs in asked.values() for _, question in pairs[:150]]
    figures["times"] = [times(options.source, count, mixed) for count in sorted({1, options.times})]
    know_half_of_the_bank()
    figures["reviewed"] = reviewed_answers(splits["train"], splits["test"], options.reviewed)
    for name, value in figures.items():
        print(name)
        for line in value if isinstance(value, list) else value.items():
            print("  ", line)
    write_figures(options.json, figures)


if __name__ == "__main__":
    main()
