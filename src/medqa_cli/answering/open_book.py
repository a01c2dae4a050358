"""What the data says to a question: a row's own answer, that nothing is near, or the passages for the prompt.

A row's own answer is given where both ask the same kind of thing about the same thing. What is asked is told by fixed
forms alone: those of ``question_types.yaml``, and the wordings of ``paraphrases.yaml`` read backwards. No other word
may be left over.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medqa_cli.answering.emergencies import emergency_notices, with_language_note
from medqa_cli.config.schema import Config
from medqa_cli.data.dataset import INDEX_NAME
from medqa_cli.data.grounding import Sources, none_answers
from medqa_cli.data.normalize import normalize, signs, without_romance_accents
from medqa_cli.data.retrieval import Passage, PassageIndex
from medqa_cli.data.topics.medical_terms import comparable_name
from medqa_cli.data.topics.question_types import OTHER, QuestionType, recognize
from medqa_cli.data.topics.topics import first_synonyms
from medqa_cli.files import sha256_of_file
from medqa_cli.prompt.contract import PROMPT_FILE_NAME, PromptContract
from medqa_cli.prompt.encoder import PromptEncoder
from medqa_cli.prompt.given import NOTHING, Given, cited
from medqa_cli.resources import load_yaml

# Share of the words of both topics, weighed by their rarity, that must be the same. On MedQuAD, with wordings that the
# rule does not know (39 % of those of the paraphrase bank are answered, 230 of 590) and 2,140 look-alikes (2 answered),
# precision is 0.991 at 1.0, 0.83 at 0.9 and 0.42 at 0.8: benchmarks/retrieval.py; docs/experiments.md, 2026-12-01.
SAME_THING = 1.0
_CANDIDATES = 20
_ABBREVIATION = re.compile(r"\s*\((?=[^)]*[A-Z][^)]*[A-Z])[A-Za-z0-9-]{2,10}\)")
_PLACE = re.compile(r"\{(?:topic|lower)\}")
# Of a topic; "a" stays, for the sake of hepatitis A.
_NO_NAMES = frozenset({"the", "an", "of", "and", "or", "in", "for", "to", "by", "on"})
REVIEWED_NOTICE = (
    "This is the answer of a row of the data, word for word. Check that it fits the question. It is not medical "
    "advice: ask a clinician. In an emergency call your local emergency number."
)
NOTHING_NEAR = (
    "Nothing in the training rows or documents is near this question, so no answer is given. Ask a clinician. In an "
    "emergency call your local emergency number."
)
NOTHING_ANSWERS = (
    "The data speaks of this, but no training row asks what this question asks, so no answer is given. Ask a "
    "clinician. In an emergency call your local emergency number."
)


def reviewed_row(question: str, index: PassageIndex, same_thing: float = SAME_THING) -> Passage | None:
    """Return the row that asks what a question asks, in these or other words; None where none surely does.

    Args:
        question: plain text.
        index: what may be given as an answer.
        same_thing: see ``SAME_THING``.
    """
    asked = forms_of(question)
    names = {name for form in asked for name in _names(form.topic)}
    near = index.nearest(question, _CANDIDATES)
    # A heart attack may stand in the data as a myocardial infarction, and a common name is lost among other words.
    for rows in itertools.chain([near], (index.nearest(name, _CANDIDATES) for name in sorted(names))):
        for row in rows:
            if row.kind != "row" or signs(row.title) != signs(question):
                continue
            if normalize(row.title) == normalize(question) or asks_the_same(asked, row.title, index, same_thing):
                return row
    return _row_without_accents(question, near)


def _row_without_accents(question: str, near: Sequence[Passage]) -> Passage | None:
    """Return the row that asks the same, where it or the question was typed without any accents.

    None: there is no such row, or there are some that differ by their accents.
    """
    asked = normalize(question)
    typed = without_romance_accents(asked)
    rows = [
        row
        for row in near
        if row.kind == "row"
        and signs(row.title) == signs(question)
        and without_romance_accents(normalize(row.title)) == typed
    ]
    titles = {normalize(row.title) for row in rows}
    # Who types some accents means the words without: two texts with accents differ by them.
    return rows[0] if len(titles) == 1 and typed in (asked, *titles) else None


def asks_the_same(asked: Iterable[QuestionType], title: str, index: PassageIndex, same_thing: float) -> bool:
    """Tell whether one of the forms of a question asks what a row asks."""
    form = recognize(title)
    if form is None or form.kind == OTHER:
        return False
    names = _names(form.topic)
    return any(
        form_asked.kind == form.kind and _alike(name, other, index) >= same_thing
        for form_asked in asked
        for name in _names(form_asked.topic)
        for other in names
    )


def forms_of(question: str) -> list[QuestionType]:
    """Return what a question may ask and about what, by each form that it has."""
    form = recognize(question)
    forms = [form] if form is not None and form.kind != OTHER else []
    for kind, patterns in wordings().items():
        for pattern in patterns:
            if match := pattern.fullmatch(question):
                forms.append(QuestionType(kind, match[1]))
    return forms


@functools.cache
def wordings() -> Mapping[str, list[re.Pattern[str]]]:
    """Return the wordings of the paraphrase bank as patterns, by what they ask."""
    bank: dict[str, Any] = load_yaml("paraphrases")
    return {
        kind: [pattern_of(wording) for group in groups.values() for wording in group] for kind, groups in bank.items()
    }


def pattern_of(wording: str) -> re.Pattern[str]:
    """Return the pattern of a wording, in any case and punctuation; its group is the topic."""
    before, after = (re.findall(r"\w+", part) for part in _PLACE.split(wording))
    pattern = r"\W+".join([*before, r"(\w.*?)", *after])
    return re.compile(rf"\W*{pattern}\W*", re.IGNORECASE)


def _names(topic: str) -> set[str]:
    """Return a topic's name as names are compared, and without its abbreviation in parentheses; synonyms are one."""
    names = {comparable_name(topic), comparable_name(_ABBREVIATION.sub("", topic))}
    return {first_synonyms().get(name, name) for name in names}


def _alike(name: str, other: str, index: PassageIndex) -> float:
    """Return which share of the words of two names both have, weighed by rarity."""
    words, others = set(name.split()) - _NO_NAMES, set(other.split()) - _NO_NAMES
    if name == other or words == others:
        return 1.0
    return index.weight(words & others) / index.weight(words | others)


@dataclass(frozen=True)
class Lookup:
    """What the data says to one question.

    ``reviewed``: the row of the training split that asks the same; ``nothing_near``: whether nothing that is searched,
    the training rows and documents, is close; ``nothing_answers``: whether all that is close asks something else;
    ``passages``: what stands in the prompt, as it is shown there.
    """

    reviewed: Passage | None = None
    nothing_near: bool = False
    nothing_answers: bool = False
    passages: tuple[Passage, ...] = ()

    @property
    def ending(self) -> tuple[str, str] | None:
        """The finish reason and the notice of an answer that needs no model; None: the data settles nothing."""
        if self.reviewed is not None:
            return "reviewed", REVIEWED_NOTICE
        if self.nothing_near:
            return "nothing_near", NOTHING_NEAR
        return ("nothing_answers", NOTHING_ANSWERS) if self.nothing_answers else None


class OpenBook:
    """The data behind the answers of one model.

    Args:
        index: the passages; None: the data is not asked.
        count: passages in the prompt.
        rules: whether a reviewed answer comes first, and nothing is answered where nothing is near.
        num_beside: reference answers that are shown beside an answer that did not see them.
        data_file: that the index was read from, if any.
    """

    def __init__(
        self, index: PassageIndex | None, count: int, rules: bool, num_beside: int, data_file: Path | None = None
    ) -> None:
        self.index, self.count, self.rules, self.num_beside = index, count, rules, num_beside
        self._data_file = data_file

    @classmethod
    def of(cls, config: Config, choice: str, num_sources: int | None) -> OpenBook:
        """Open the data that the prompt contract of a model, or the config, asks for.

        Args:
            config: names the data and the run.
            choice: as ``load_model`` takes it.
            num_sources: passages in the prompt of a model that was trained with some, reference answers beside the
                answer of another one; None: as trained, and none.

        Raises:
            InputError: the data or the contract cannot be read.
        """
        run = config.run
        folders = [run.folder_of(choice), run.adapter_dir]
        contracts = [PromptContract.load(folder) for folder in folders if (folder / PROMPT_FILE_NAME).is_file()]
        trained_with = contracts[0].text.sources if contracts else config.prompt.sources
        first = config.sources.reviewed_first
        rules = trained_with > 0 if first == "auto" else first
        count = trained_with if num_sources is None or not trained_with else num_sources
        num_beside = 0 if trained_with else num_sources or 0
        needs_index = rules or count or num_beside
        if not needs_index:
            return cls(None, count, rules, num_beside)
        data_dir = Path(config.data.dir)
        index = PassageIndex.of_folder(data_dir)
        files = (data_dir / INDEX_NAME, data_dir / "train.jsonl")
        return cls(index, count, rules, num_beside, next(file for file in files if file.is_file()))

    def identity(self) -> list[Any]:
        """Return what tells the data behind these answers from others: how it is asked, and the hash of its file."""
        digest = sha256_of_file(self._data_file) if self._data_file else None
        return [self.count, self.rules, self.num_beside, digest]

    def look_up(self, question: str) -> Lookup:
        """Return what the rules find; the passages need the prompt's tokenizer."""
        if self.index is None or not self.rules:
            return Lookup()
        lookup = Lookup(reviewed_row(question, self.index), not self.index.nearest(question, 1))
        # Without passages in its prompt a model answers from memory.
        if lookup.ending is not None or not self.count:
            return lookup
        read = self.index.search(question, self.count)
        return replace(lookup, nothing_answers=none_answers(self.index.judged(question, read)))

    def passages(self, question: str, encoder: PromptEncoder) -> tuple[Passage, ...]:
        """Return the passages that stand before a question, as they are shown there."""
        # A base with a prompt of its own, such as a merged model, may have been trained without sources.
        if self.index is None or not self.count or not encoder.contract.text.sources:
            return ()
        sources = Sources(self.index, encoder)
        passages = sources.find(question, count=self.count)
        return tuple(sources.judged(question, passages) if self.rules else passages)

    def shown_beside(self, question: str) -> list[Passage]:
        """Return the reference answers to show beside an answer that did not see them."""
        return self.index.nearest(question, self.num_beside) if self.index is not None and self.num_beside else []


def as_json(question: str, lookup: Lookup, given: Given = NOTHING) -> dict[str, Any]:
    """Return the object of ``ask --json`` for a question, with what is given with it, that no model answers."""
    row = lookup.reviewed
    assert lookup.ending is not None
    finish_reason, notice = lookup.ending
    return {
        "question": question,
        "answer": row.text if row else "",
        "finish_reason": finish_reason,
        "complete": row is not None,
        "prompt_tokens": 0,
        "answer_tokens": 0,
        "loop_retries": 0,
        "seconds": 0.0,
        "model": None,
        "notices": [*emergency_notices(question, given), with_language_note(notice, question)],
        "sources": [row.as_json()] if row else [],
        **keys_of(lookup, ""),
        "unsupported_sentences": [],
        "unsupported_citations": [],
    }


def keys_of(lookup: Lookup, answer: str) -> dict[str, Any]:
    """Return the keys of ``ask --json`` about the data: which row asks the same, and which passages are cited."""
    numbers = dict.fromkeys(number for number in cited(answer) if 0 < number <= len(lookup.passages))
    return {
        "reviewed": lookup.reviewed.as_json() if lookup.reviewed else None,
        "nothing_near": lookup.nothing_near,
        "nothing_answers": lookup.nothing_answers,
        "cited": [lookup.passages[number - 1].id for number in numbers],
    }


def source_lines(passages: Sequence[Passage], cited: Sequence[str] | None = None) -> list[str]:
    """Return a line for each passage that stood in the prompt, with the number of its mark.

    Args:
        passages: as they stood there.
        cited: the ids of those that the answer cites; None: not said.
    """
    lines = []
    for number, passage in enumerate(passages, start=1):
        is_cited = None if cited is None else "cited" if passage.id in cited else "not cited"
        where = ", ".join(filter(None, (passage.id, passage.source, passage.place, is_cited)))
        lines.append(f"[{number}] {where}: {passage.title}")
    return lines


def citation_lines(unsupported: Sequence[int], num_passages: int) -> list[str]:
    """Return a line for each number that an answer cites without support (``unsupported_citations``)."""
    return [
        f"[{number}] names no source: nothing supports what it stands behind"
        if not 0 < number <= num_passages
        else f"[{number}] shares next to nothing with what it stands behind: it may be the wrong source"
        for number in unsupported
    ]
