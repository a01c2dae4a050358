"""What the data says to a question: a row's own answer, that nothing is near, or the passages for the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medqa_cli.answering.emergencies import emergency_notices, with_limit
from medqa_cli.answering.reviewed import reviewed_row
from medqa_cli.config.schema import Config
from medqa_cli.data.dataset import INDEX_NAME
from medqa_cli.data.grounding import Sources, none_answers
from medqa_cli.data.ranking import all_words
from medqa_cli.data.retrieval import Passage, PassageIndex
from medqa_cli.files import RunFolder, sha256_of_file
from medqa_cli.prompt.contract import PROMPT_FILE_NAME, PromptContract
from medqa_cli.prompt.encoder import PromptEncoder
from medqa_cli.prompt.given import NOTHING, Given
from medqa_cli.prompt.sources import cited

REVIEWED_NOTICE = (
    "This is the answer of a row of the data, word for word. Check that it fits the question. It is not medical "
    "advice: ask a clinician. In an emergency call your local emergency number."
)
NOTHING_NEAR = (
    "Nothing in the data is near this question, so no answer is given. Ask a clinician. In an emergency call your "
    "local emergency number."
)

NOTHING_ANSWERS = (
    "The data speaks of this, but no row asks what this question asks, so no answer is given. Ask a clinician. In an "
    "emergency call your local emergency number."
)


@dataclass(frozen=True)
class Lookup:
    """What the data says to one question.

    ``reviewed``: the row of the training split that asks the same; ``nothing_near``: whether the data holds nothing
    close; ``nothing_answers``: whether all that is close asks something else; ``passages``: what stands in the prompt,
    as it is shown there.
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
        run = RunFolder(Path(config.run_dir))
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
        read = self.index.search(all_words(question), self.count)
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
        "notices": [*emergency_notices(question, given), with_limit(notice, question)],
        "sources": [row.as_json()] if row else [],
        **keys_of(lookup, ""),
        "unsupported_sentences": [],
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
