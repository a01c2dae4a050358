"""Rows of an open book: the question in other words, the passages found for it, and the answer with its mark.

The passages are found and shown in training, ``ask`` and ``eval`` by the same code: ``Sources``.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from medqa_cli import console
from medqa_cli.config.schema import SourcesConfig
from medqa_cli.data.dataset import QaRow
from medqa_cli.data.minhash import shingle_sets
from medqa_cli.data.normalize import normalize, rank_of
from medqa_cli.data.retrieval import Passage, PassageIndex, passage_of
from medqa_cli.data.topics import paraphrases, question_types
from medqa_cli.data.topics.topics import topic_names
from medqa_cli.prompt.encoder import PromptEncoder
from medqa_cli.prompt.given import with_mark

# Share of the five-word runs of the shorter of two texts that the other one holds, from which they are copies.
_COPY = 0.5


class Sources:
    """The passages that stand before a question.

    Args:
        index: where they are found.
        encoder: its prompt contract says how many there are and how long they may be.
    """

    def __init__(self, index: PassageIndex, encoder: PromptEncoder) -> None:
        self._index, self.encoder = index, encoder
        self.count = encoder.contract.text.sources

    def find(
        self, question: str, accept: Callable[[Passage], bool] = lambda passage: True, count: int | None = None
    ) -> list[Passage]:
        """Return at most ``count`` passages (by default those of the contract), the nearest first, as they are shown.

        Args:
            question: plain text.
            accept: tells which passages may be among them.
            count: how many.
        """
        passages = self._index.search(question, self.count if count is None else count, accept)
        return [self.shown(passage) for passage in passages]

    def judged(self, question: str, passages: Sequence[Passage]) -> list[Passage]:
        """Return passages with what their titles tell about a question, as of ``PassageIndex.judged``."""
        return self._index.judged(question, passages)

    def by_bm25(self, question: str) -> Passage | None:
        """Return the first passage of plain full-text search, as it is shown; None where no word is found."""
        return next(map(self.shown, self._index.by_bm25(question, 1)), None)

    def shown(self, passage: Passage) -> Passage:
        """Return a passage with title and text as they stand in the prompt."""
        shown = self.encoder.source_text
        return replace(passage, title=shown(passage.title), text=shown(passage.text))


def none_answers(passages: Sequence[Passage]) -> bool:
    """Tell whether the titles of all passages tell that they do not answer; there is at least one."""
    return bool(passages) and all(passage.answers is False for passage in passages)


def behind(passages: Sequence[Passage], question: str, encoder: PromptEncoder) -> str:
    """Return a question behind its passages, as the prompt's template takes it."""
    return encoder.with_sources(question, [(passage.title, passage.text) for passage in passages])


def ground_rows(rows: Sequence[QaRow], sources: Sources, config: SourcesConfig, decline: str, seed: int) -> list[QaRow]:
    """Return training rows with sources in their questions, and answers that cite them.

    Each row is drawn by itself: without sources (``closed_book``), with the passage that answers among them (``gold``),
    or without it. A passage that answers too never stands beside it or in its stead. What is learned of an answer is
    the part that is shown. A row for which nothing is found stays without sources.

    Args:
        rows: as ``medqa convert`` wrote them.
        sources: finds the passages.
        config: the shares.
        decline: what is learned where no source answers.
        seed: of the draws.
    """
    grounded, originals = [], {row.id: row for row in rows}
    with console.progress("finding sources", len(rows)) as bar:
        for row in rows:
            original = originals.get(row.paraphrase_of, row)
            grounded.append(_grounded(row, original, sources, config, decline, seed))
            bar.update(len(grounded))
    return grounded


def _grounded(row: QaRow, original: QaRow, sources: Sources, config: SourcesConfig, decline: str, seed: int) -> QaRow:
    """Return one row; ``original``: the row that a paraphrase asks in other words, else the row itself."""
    draw = random.Random(rank_of(seed, "sources", row.id.encode()))
    if draw.random() < config.closed_book:
        return row
    has_gold = draw.random() < config.gold
    question = row.question if row.paraphrase_of else in_other_words(row.question, seed)
    answers = answer_test(row)
    others = sources.find(question, lambda passage: not answers(passage), sources.count - has_gold)
    # As it stands in the index: under the words of the file.
    gold = sources.shown(passage_of(replace(original, answer=row.answer)))
    passages = [*others, gold] if has_gold else others
    if not passages:
        return row
    draw.shuffle(passages)
    if has_gold:
        answer = with_mark(gold.text, passages.index(gold) + 1)
    else:
        answer = decline if config.absent == "decline" else row.answer
    passages = [
        replace(passage, title=as_heading(passage.title)) if draw.random() < config.headings else passage
        for passage in passages
    ]
    return replace(row, question=behind(passages, question, sources.encoder), answer=answer)


def as_heading(question: str) -> str:
    """Return a question in the words of a leaflet's heading, "Glaucoma: treatment"; as it is where its form is unknown.

    The passages of documents have such titles, and a model that has only read questions above passages takes them for
    the beginning of an answer.
    """
    form = question_types.recognize(question)
    if form is None or form.kind == question_types.OTHER:
        return question
    topic = form.topic[:1].upper() + form.topic[1:]
    return topic if form.kind == "information" else f"{topic}: {form.kind}"


def in_other_words(question: str, seed: int) -> str:
    """Return the question in words of the paraphrase bank; as it is where the bank has none for it."""
    return next(iter(paraphrases.paraphrase(question, 1, seed)), question)


def answer_test(row: QaRow) -> Callable[[Passage], bool]:
    """Return a function that tells whether a passage answers the question of a row.

    It does where it is the row, where its text is a copy of the answer, or where it asks the same: a question of the
    same kind (symptoms, treatment, ...) about a topic that shares a name. A question of unknown kind may ask anything.
    """
    runs, topics = _runs(row.answer), set(topic_names(row.topic))
    asked, kind = normalize(row.question), _kind(row.question)

    def answers(passage: Passage) -> bool:
        if passage.id in (row.id, row.paraphrase_of) or normalize(passage.title) == asked:
            return True
        if passage.kind == "row" and topics & set(topic_names(passage.topic)):
            other = _kind(passage.title)
            if None in (kind, other) or kind == other:
                return True
        others = _runs(passage.text)
        return len(runs & others) >= _COPY * min(len(runs), len(others))

    return answers


def _kind(question: str) -> str | None:
    form = question_types.recognize(question)
    return form.kind if form else None


def _runs(text: str) -> set[int]:
    return set(next(shingle_sets([normalize(text)])).tolist())
