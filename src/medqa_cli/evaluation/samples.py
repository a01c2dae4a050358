"""The questions of an evaluation, and the samples: one question under one model, as ``samples.jsonl`` keeps it.

A file of samples is enough to compute every metric again (``medqa eval --rescore``).
"""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from medqa_cli import console
from medqa_cli.data.dataset import QaRow
from medqa_cli.data.normalize import normalize
from medqa_cli.data.topics.question_types import OTHER, recognize
from medqa_cli.data.topics.topics import topic_names
from medqa_cli.errors import InputError
from medqa_cli.files import require_file, sha256_of_text, without_surrogates, write_json_lines
from medqa_cli.prompt.encoder import IGNORE_INDEX, Example, PromptEncoder
from medqa_cli.prompt.given import Given

if TYPE_CHECKING:  # it imports torch, which --rescore does without
    from medqa_cli.model.kernels.packing import AnswerScore

# Of a model's name, where its answers are plain greedy ones, with their loops.
GREEDY = "_greedy"
_LONGEST_LINE = 1 << 25  # characters
_LARGEST = 10**12  # far above any sum of losses or count of tokens
_SHOWN = 60  # characters of a value in a message
_ENDINGS = ("stop", "length", "repetition", None)


@dataclass(frozen=True)
class Sample:
    """One question under one model or baseline.

    ``references``: all reference answers of the question, that of the row first; ``swap_reference``: a reference of
    the same kind of question about another topic, None where there is none; ``nll_sum``, ``answer_tokens`` and
    ``answer_bytes``: loss in nats and size of the row's reference, as far as it was scored, None where likelihood was
    not measured; ``answer``: the generated text, None where none was generated; ``finish_reason``: ``stop``, ``length``
    or ``repetition``, None for a text that no model wrote; ``sources``: title and text of the passages before the
    question; ``gold``: the numbers (from 1) of those that hold the answer; ``cited``: those that the answer cites, its
    marks are not in ``answer``; ``declined``: whether it says that no source answers, None without sources;
    ``earlier``: questions and answers before the question, in turn; ``context``: what belongs to it.
    """

    id: str
    topic: str
    model: str
    question: str
    references: tuple[str, ...]
    swap_reference: str | None = None
    nll_sum: float | None = None
    answer_tokens: int | None = None
    answer_bytes: int | None = None
    truncated: bool = False
    answer: str | None = None
    finish_reason: str | None = None
    generated_tokens: int | None = None
    sources: tuple[str, ...] = ()
    gold: tuple[int, ...] = ()
    cited: tuple[int, ...] = ()
    declined: bool | None = None
    earlier: tuple[str, ...] = ()
    context: str = ""


class TopicQuestion(Protocol):
    """A question with its topic: a row, a sample, a pair of a review."""

    @property
    def question(self) -> str:
        """Its text."""

    @property
    def topic(self) -> str:
        """What it is about; empty: unknown."""


@dataclass(frozen=True)
class GeneratedAnswer:
    """A generated text and how it ended: ``stop``, ``length`` at the limit of new tokens, or ``repetition``, cut there.

    ``num_tokens``: None where a server does not say.
    """

    text: str
    finish_reason: str
    num_tokens: int | None


@dataclass(frozen=True)
class Questions:
    """What is asked, in the order of the rows. ``examples`` and ``answer_bytes`` are empty without an encoder."""

    rows: list[QaRow]
    examples: list[Example]
    answer_bytes: list[int]
    references: list[tuple[str, ...]]
    swapped: list[str | None]

    @property
    def asked(self) -> list[tuple[str, Given]]:
        """The distinct questions, each with what is given: rows that ask the same get the same answer."""
        return list(dict.fromkeys((row.question, row.given) for row in self.rows))


def make_questions(split: list[QaRow], rows: list[QaRow], encoder: PromptEncoder | None, max_length: int) -> Questions:
    """Prepare the rows to ask.

    Args:
        split: all rows of the split: references and swapped references come from all of them.
        rows: the rows to ask.
        encoder: the prompt contract; None where no model is loaded here.
        max_length: longest prompt and answer in tokens.

    Raises:
        InputError: no row leaves room for an answer.
    """
    examples: list[Example] = []
    sizes: list[int] = []
    if encoder is not None:
        texts, given = [row.question for row in rows], [row.given for row in rows]
        encoded = encoder.encode_examples(texts, [row.answer for row in rows], max_length, given)
        kept = [(row, example) for row, example in zip(rows, encoded, strict=True) if example.num_answer_tokens]
        if not kept:
            raise InputError("no question leaves room for an answer", "raise model.max_length")
        if len(kept) < len(rows):
            console.warn(f"{len(rows) - len(kept)} questions fill model.max_length by themselves and are not scored")
        rows, examples = [row for row, _ in kept], [example for _, example in kept]
        for row, example in kept:
            scored = [label for label in example.labels if label != IGNORE_INDEX]
            text = encoder.decode_answer(scored) if example.truncated else row.answer
            sizes.append(len(text.encode()))
    answers: dict[str, list[str]] = {}
    for row in split:
        answers.setdefault(normalize(row.asked), []).append(row.answer)
    swapped = dict(zip((row.id for row in split), swapped_references(split), strict=True))
    return Questions(
        rows=rows,
        examples=examples,
        answer_bytes=sizes,
        references=[tuple(dict.fromkeys([row.answer, *answers[normalize(row.asked)]])) for row in rows],
        swapped=[swapped[row.id] for row in rows],
    )


def question_kind(question: str) -> str:
    """Return what a question asks (symptoms, treatment, ...), ``other`` where its wording does not tell."""
    form = recognize(question)
    return OTHER if form is None else form.kind


def topic_keys(rows: Sequence[TopicQuestion]) -> list[str]:
    """Return what each row is about: a name of its topic, or the first question of its conversation without one.

    Topics that share a name are one: "COPD" and "chronic obstructive pulmonary disease (COPD)".
    """
    above: dict[str, str] = {}

    def top(name: str) -> str:
        while above.setdefault(name, name) != name:
            name = above[name]
        return name

    names_of_rows = [topic_names(row.topic) or (normalize(_opening(row)),) for row in rows]
    for first, *others in names_of_rows:
        for other in others:
            above[top(other)] = top(first)
    return [top(names[0]) for names in names_of_rows]


def _opening(row: TopicQuestion) -> str:
    if isinstance(row, QaRow):
        return row.given.opening(row.question)
    return row.earlier[0] if isinstance(row, Sample) and row.earlier else row.question


def swapped_references(rows: Sequence[QaRow]) -> list[str | None]:
    """Give each row the reference of another row: same kind of question, same source, another topic.

    Within such a group every reference serves once as the right reference and once as the swapped one. An answerer
    that gives all of them the same answer, such as a template without its disease, gains exactly nothing: the sum of
    score(right) - score(swapped) over the group is 0.

    Returns:
        the references in the order of the rows; None for rows of topics that fill more than half of their group.
    """
    swapped: list[str | None] = [None] * len(rows)
    keys = topic_keys(rows)
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        groups[row.source, question_kind(row.question)].append(index)
    for group in groups.values():
        topic, most = Counter(keys[index] for index in group).most_common(1)[0]
        num_others = len(group) - most
        # The largest topic may fill half of a group; further rows of it have no partner.
        surplus = {index for index in group if keys[index] == topic}
        surplus -= set(sorted(surplus)[:num_others])
        ordered = sorted((index for index in group if index not in surplus), key=lambda index: (keys[index], index))
        # A step of the largest topic's size always leads to another topic.
        step = min(most, num_others)
        for position, index in enumerate(ordered):
            swapped[index] = rows[ordered[(position + step) % len(ordered)]].answer
    return swapped


def samples_of(
    name: str,
    questions: Questions,
    scores: Sequence[AnswerScore] | None,
    answers: Sequence[GeneratedAnswer] | None,
) -> list[Sample]:
    """Join the questions with one model's likelihoods, answers, or both.

    Args:
        name: of the model.
        questions: what was asked.
        scores: one for each row; None: none.
        answers: one for each of the distinct questions; None: none.
    """
    by_question = dict(zip(questions.asked, answers, strict=True)) if answers is not None else {}
    samples = []
    for index, row in enumerate(questions.rows):
        score = scores[index] if scores is not None else None
        answer = by_question.get((row.question, row.given))
        samples.append(
            Sample(
                id=row.id,
                topic=row.topic,
                model=name,
                question=row.question,
                references=questions.references[index],
                swap_reference=questions.swapped[index],
                nll_sum=score.nll_sum if score else None,
                answer_tokens=score.num_tokens if score else None,
                answer_bytes=questions.answer_bytes[index] if score else None,
                truncated=bool(score) and questions.examples[index].truncated,
                answer=answer.text if answer else None,
                finish_reason=answer.finish_reason if answer else None,
                generated_tokens=answer.num_tokens if answer else None,
                earlier=tuple(text for turn in row.given.earlier for text in turn),
                context=row.given.context,
            )
        )
    return samples


def digest_of_answer(answer: str) -> str:
    """Return what tells whether an answer is still the one that was judged."""
    return sha256_of_text(answer)[:16]


def write_samples(path: Path, samples: Iterable[Sample]) -> None:
    """Write one JSON object a line, whole or not at all; what is given before a question only where there is any."""

    def values_of(sample: Sample) -> dict[str, Any]:
        return {name: value for name, value in asdict(sample).items() if value or name not in _GIVEN}

    write_json_lines(path, map(values_of, samples))


def read_samples(path: Path) -> dict[str, list[Sample]]:
    """Read samples by model; models and questions keep the order of the file.

    Raises:
        InputError: the file is missing, empty or damaged, a value is not what eval writes, or its models were asked
            different questions.
    """
    samples: dict[str, list[Sample]] = {}
    try:
        require_file(path)
        with open(path, encoding="utf-8") as file:
            for number in itertools.count(1):
                line = file.readline(_LONGEST_LINE + 1)
                if not line:
                    break
                try:
                    value: Any = json.loads(line) if len(line) <= _LONGEST_LINE else None
                    problem = _problem(value)
                except (ValueError, RecursionError) as error:
                    problem = str(error)
                if problem:
                    raise InputError(f"{path}:{number}: damaged line: {problem}", "measure again: medqa eval")
                lists = {name: tuple(value[name]) for name in _LISTS if name in value}
                sample = Sample(**{**value, **lists})
                samples.setdefault(sample.model, []).append(sample)
    except FileNotFoundError as error:
        raise InputError(f"no samples in {path}", "measure first: medqa eval") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}", "measure again: medqa eval") from error
    ids = {name: [sample.id for sample in of_model] for name, of_model in samples.items()}
    for name in ids:
        if len(set(ids[name])) < len(ids[name]):
            raise InputError(f"{path} holds a question of {name} twice", "measure again: medqa eval")
    asked = {tuple(of_model) for of_model in ids.values()}
    if len(asked) != 1:
        what = "holds no samples" if not asked else "holds different questions for different models"
        raise InputError(f"{path} {what}", "measure again: medqa eval")
    return samples


def _problem(value: Any) -> str:
    """Return what is wrong with the value of a line, or nothing."""
    if not isinstance(value, dict):
        return f"expected an object of at most {_LONGEST_LINE:,} characters"
    if unknown := sorted(value.keys() - _RULES.keys()):
        return f"unknown key {ascii(unknown[0])[1:-1][:_SHOWN]}"
    for name, (expected, fits) in _RULES.items():
        if name not in value and name in _REQUIRED:
            return f"the key {name} is missing"
        if name in value and not fits(value[name]):
            return f"{name} is {ascii(value[name])[:_SHOWN]}; expected {expected}"
    return ""


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value == without_surrogates(value)


def _is_filled(value: Any) -> bool:
    return _is_text(value) and bool(value.strip())


def _number_or_null(*types: type) -> Callable[[Any], bool]:
    return lambda value: value is None or (type(value) in types and 0 <= value <= _LARGEST)  # not true of NaN


# What each key may hold: in words, and as a check.
_Rule = tuple[str, Callable[[Any], bool]]
_TEXT: _Rule = ("text", _is_text)
_FILLED: _Rule = ("text that is not empty", _is_filled)
_TEXT_OR_NULL: _Rule = ("text or null", lambda value: value is None or _is_text(value))
_COUNT_OR_NULL: _Rule = (f"a whole number from 0 to {_LARGEST:,}, or null", _number_or_null(int))
_NUMBERS: _Rule = (
    "a list of whole numbers from 0 to 999",
    lambda value: isinstance(value, list) and all(type(number) is int and 0 <= number < 1000 for number in value),
)
_TEXTS: _Rule = ("a list of texts", lambda value: isinstance(value, list) and all(map(_is_text, value)))
_RULES: dict[str, _Rule] = {
    "id": _FILLED,
    "topic": _TEXT,
    "model": _FILLED,
    "question": _FILLED,
    "references": (
        "a list of texts that are not empty",
        lambda value: isinstance(value, list) and bool(value) and all(map(_is_filled, value)),
    ),
    "swap_reference": _TEXT_OR_NULL,
    "nll_sum": (f"a number from 0 to {_LARGEST:,}, or null", _number_or_null(int, float)),
    "answer_tokens": _COUNT_OR_NULL,
    "answer_bytes": _COUNT_OR_NULL,
    "truncated": ("true or false", lambda value: isinstance(value, bool)),
    "answer": _TEXT_OR_NULL,
    "finish_reason": ("stop, length, repetition or null", lambda value: value in _ENDINGS),
    "generated_tokens": _COUNT_OR_NULL,
    "sources": _TEXTS,
    "gold": _NUMBERS,
    "cited": _NUMBERS,
    "declined": ("true, false or null", lambda value: value is None or isinstance(value, bool)),
    "earlier": _TEXTS,
    "context": _TEXT,
}
_LISTS = ("references", "sources", "gold", "cited", "earlier")
_GIVEN = ("earlier", "context")
_REQUIRED = {field.name for field in fields(Sample) if field.default is MISSING}
assert list(_RULES) == [field.name for field in fields(Sample)]
