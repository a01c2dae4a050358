"""What raters were asked and what they said: the records that all of ``medqa review`` works on, and their files.

``key.json`` says who was asked what, and whose answer stood on which side; ``review-RATER.json``, or a filled in
spreadsheet, is what a rater gave back.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, cast

from medqa_cli import console
from medqa_cli.errors import InputError
from medqa_cli.files import read_json, sha256_of_text
from medqa_cli.review.criteria import Criterion, ReviewForm
from medqa_cli.review.returned import FORMAT_VERSION, Returned, merged, read_returned
from medqa_cli.spelling import listed

Side = Literal["x", "y"]
Verdict = Literal["x", "y", "equal"]

KEY_NAME = "key.json"
REFERENCE = "reference"  # the model's name of the row's own answer
# Of what readers reported at ``medqa serve``: the rater, and the names of what they wrote instead and of no answer.
READERS, CORRECTION, NO_ANSWER = "readers", "correction", "none"


@dataclass(frozen=True)
class Pair:
    """A question and two answers, as one rater sees them.

    ``id``: opaque, stands on the page; ``question_id``: id of the held-out row; ``topic``: may be empty; ``x`` and
    ``y``: the models whose answers are shown as X and Y (adapter, base, merged, reference); ``shared``: all raters are
    asked this question about these models.
    """

    id: str
    rater: str
    question_id: str
    question: str
    topic: str
    x: str
    y: str
    shared: bool


@dataclass(frozen=True)
class Judgment:
    """What a rater said about a pair.

    ``x`` and ``y``: yes or no by id of the criterion, None where the rater did not answer; ``better``: None where the
    rater cannot judge; ``seconds``: spent on the pair, None where it was not measured (a spreadsheet).
    """

    pair: Pair
    x: Mapping[str, bool | None]
    y: Mapping[str, bool | None]
    better: Verdict | None
    remark: str
    seconds: float | None


@dataclass(frozen=True)
class Key:
    """What ``key.json`` holds.

    ``review``: id of the review; ``form``: what was asked about each answer; ``pairs``: those of each rater in the
    order of the page; ``samples``: by question and model, the answers that were shown; ``prompt``: the prompt contract
    of the adapter (``prompt.json``), empty where there is none; ``is_sample``: whether the questions were drawn, and
    not reported by readers who chose what to report.
    """

    review: str
    form: ReviewForm
    models: tuple[str, ...]
    raters: tuple[str, ...]
    pairs: tuple[Pair, ...]
    samples: Mapping[str, Mapping[str, str]]
    prompt: Mapping[str, Any]
    is_sample: bool = True

    def pairs_of(self, rater: str) -> list[Pair]:
        """Return what one rater was asked, in the order of the page."""
        return [pair for pair in self.pairs if pair.rater == rater]

    def as_json(self) -> dict[str, Any]:
        """Return the content of ``key.json``."""
        return {
            "format_version": FORMAT_VERSION,
            "review": self.review,
            "criteria": [asdict(criterion) for criterion in self.form.criteria],
            "language": self.form.language,
            "words": dict(self.form.words),
            "models": list(self.models),
            "raters": list(self.raters),
            "pairs": [{**asdict(pair), "answers_sha256": answers_sha256(pair, self.samples)} for pair in self.pairs],
            "samples": {question: dict(answers) for question, answers in self.samples.items()},
            "prompt": dict(self.prompt),
            "is_sample": self.is_sample,
        }


def answers_sha256(pair: Pair, samples: Mapping[str, Mapping[str, str]]) -> str:
    """Return the digest of what a rater sees of a pair: question, answer X, answer Y."""
    answers = samples[pair.question_id]
    shown = "\0".join((pair.question, answers[pair.x], answers[pair.y]))
    return sha256_of_text(shown)


def key_beside(path: Path) -> Path:
    """Return where the key is of a file that ``medqa serve --feedback`` wrote."""
    return path.with_name(f"{path.stem}.key.json")


def find_key(paths: Sequence[Path], review_dir: Path) -> Path:
    """Return where the key of files is: beside them, or in the folder of the run's review.

    Raises:
        InputError: they have several keys.
    """
    own = [path for path in dict.fromkeys(path.resolve() for path in paths) if key_beside(path).is_file()]
    if not own:
        return review_dir / KEY_NAME
    if len({path.resolve() for path in paths}) > 1:
        raise InputError(f"{own[0]} holds what readers reported and has a key of its own", "give that file alone")
    return key_beside(own[0])


def read_key(path: Path) -> Key:
    """Read ``key.json``.

    Raises:
        InputError: it is missing, damaged, was changed, or is of a newer format.
    """
    if not path.exists():
        raise InputError(f"{path} is missing: there is no review", "make one: medqa review make")
    value = read_json(path)
    hint = "restore the key.json that `medqa review make` wrote: nothing else says whose answer is whose"
    if not isinstance(value, dict) or not isinstance(value.get("pairs"), list) or "samples" not in value:
        raise InputError(f"{path} is not the key of a review", hint)
    if value.get("format_version") != FORMAT_VERSION:
        version = ascii(value.get("format_version"))[:40]
        raise InputError(f"{path} has format {version}; this medqa reads format {FORMAT_VERSION}", "update medqa")
    try:
        form = ReviewForm(
            tuple(Criterion(**criterion) for criterion in value["criteria"]), value["language"], value["words"]
        )
        names = [field.name for field in fields(Pair)]
        pairs = tuple(Pair(**{name: fields_of_pair[name] for name in names}) for fields_of_pair in value["pairs"])
        models, raters = tuple(value["models"]), tuple(value["raters"])
        is_sample = value.get("is_sample", True)
        key = Key(value["review"], form, models, raters, pairs, value["samples"], value["prompt"], is_sample)
        changed = [
            pair.id
            for pair, fields_of_pair in zip(pairs, value["pairs"], strict=True)
            if pair.rater not in raters or fields_of_pair["answers_sha256"] != answers_sha256(pair, key.samples)
        ]
        texts = [key.review, form.language, *models, *raters, *form.words, *form.words.values()]
        texts += [text for criterion in form.criteria for text in (criterion.id, criterion.text)]
        texts += [text for pair in pairs for text in (pair.id, pair.question_id, pair.topic)]
        texts += [text for answers in key.samples.values() for text in answers.values()]
        switches = [key.is_sample, *(pair.shared for pair in pairs), *(criterion.good for criterion in form.criteria)]
        if not all(isinstance(text, str) for text in texts) or type(key.prompt) is not dict:
            raise TypeError("a text is no text")
        if not all(isinstance(switch, bool) for switch in switches):
            raise TypeError("true or false is neither")
        if len({pair.id for pair in pairs}) < len(pairs):
            raise ValueError("two pairs have the same id")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is damaged: {type(error).__name__}: {error}", hint) from error
    if changed:
        raise InputError(
            f"{path} was changed: the answers of {listed(changed[:3])} are not those that were shown", hint
        )
    return key


def read_judgments(paths: Sequence[Path], key: Key) -> tuple[list[Judgment], list[str]]:
    """Read what raters gave back, each judgment once.

    Args:
        paths: .json files of the page, or filled in spreadsheets.
        key: of the review.

    Returns:
        the judgments that can be used, and a sentence for each thing that cannot, or that is missing.
    """
    problems: list[str] = []
    by_rater: dict[str, list[Returned]] = defaultdict(list)
    seen: dict[Path, Path] = {}
    for path in paths:
        if path.resolve() in seen:
            problems.append(f"{path} is named twice: read once")
            continue
        seen[path.resolve()] = path
        try:
            returned = read_returned(path, key.review, key.form)
        except InputError as error:
            problems.append(f"{error.message}; not counted ({error.hint})")
            continue
        problems += returned.problems
        if returned.rater in key.raters:
            by_rater[returned.rater].append(returned)
        else:
            name = ascii(returned.rater)[:40]
            problems.append(f"{path} is by {name}, who is no rater of this review ({listed(key.raters)}); not counted")
    judgments: list[Judgment] = []
    for rater in key.raters:
        judgments += _of_rater(rater, by_rater[rater], key, problems)
    # An id or a path may hold what no file and no terminal takes.
    return judgments, [console.printable(problem) for problem in problems]


def _of_rater(rater: str, files: Sequence[Returned], key: Key, problems: list[str]) -> list[Judgment]:
    """Return the judgments of one rater, in the order of the page."""
    pairs = key.pairs_of(rater)
    if not files:
        problems.append(f"{rater} has given back nothing: {len(pairs)} questions are not rated")
        return []
    entries = merged(files, problems)
    others = {pair.id: pair.rater for pair in key.pairs if pair.rater != rater}
    for name, entry in entries.items():
        if name in others:
            problems.append(f"{entry.location}: a pair of {others[name]}, in a file of {rater}: left out")
        elif name not in {pair.id for pair in pairs}:
            problems.append(f"{entry.location}: no pair of this review has this id: left out")
    judgments = [
        Judgment(pair, said.x, said.y, cast("Verdict | None", said.better), said.remark, said.seconds)
        for pair in pairs
        if (said := entries.get(pair.id)) is not None
    ]
    missing = [number for number, pair in enumerate(pairs, start=1) if pair.id not in entries]
    if missing:
        problems.append(f"{rater}: {_questions(missing)} of {len(pairs)} not rated")
    undecided = [
        number
        for number, pair in enumerate(pairs, start=1)
        if pair.id in entries and entries[pair.id].better is None and not entries[pair.id].cannot_judge
    ]
    if undecided:
        problems.append(
            f"{rater}: {_questions(undecided)} of {len(pairs)} without a better answer: taken as cannot judge"
        )
    return judgments


def _questions(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:10])) + (", ..." if len(numbers) > 10 else "")
    return f"{len(numbers)} questions ({shown})" if len(numbers) > 1 else f"question {shown}"
