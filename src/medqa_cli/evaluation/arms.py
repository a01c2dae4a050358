"""The arms of a model with sources: the same questions with the source that answers, without it, with wrong ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from medqa_cli import console
from medqa_cli.data.dataset import QaRow
from medqa_cli.data.grounding import Sources, answer_test, behind, in_other_words, none_answers
from medqa_cli.data.normalize import normalize
from medqa_cli.data.retrieval import Passage, PassageIndex, passage_of
from medqa_cli.data.topics.topics import topic_names
from medqa_cli.evaluation.samples import GeneratedAnswer, Questions, Sample, question_kind, samples_of
from medqa_cli.prompt.encoder import PromptEncoder
from medqa_cli.prompt.given import cited, without_marks

OPEN_BOOK, ABSENT, WRONG_TOPIC = "_open_book", "_absent", "_wrong_topic"
ARMS = (OPEN_BOOK, ABSENT, WRONG_TOPIC)
FIRST_PASSAGE, BM25_PASSAGE, GOLD_PASSAGE = "first_passage", "bm25_passage", "gold_passage"


@dataclass(frozen=True)
class Arm:
    """The passages before each question, and which of them (from 1) hold its answer."""

    passages: list[list[Passage]]
    gold: list[tuple[int, ...]]

    @property
    def nothing_answers(self) -> list[bool]:
        """Whether the titles decline, by question."""
        return [none_answers(shown) for shown in self.passages]

    @property
    def must_answer(self) -> list[bool]:
        """Whether a title tells that its passage answers, of the questions that the titles do not decline."""
        return [any(passage.answers for passage in shown) for shown in self.passages if not none_answers(shown)]

    def prompts(self, questions: Questions, encoder: PromptEncoder) -> list[str]:
        """Return each row's question behind its passages, where they may answer it."""
        return [
            behind(shown, row.question, encoder)
            for row, shown, settled in zip(questions.rows, self.passages, self.nothing_answers, strict=True)
            if not settled
        ]

    def with_declined(self, answers: Sequence[GeneratedAnswer], decline: str) -> list[GeneratedAnswer]:
        """Return the answers to ``prompts`` and, for the other questions, the words that decline."""
        by_model = iter(answers)
        declined = GeneratedAnswer(decline, "stop", 0)
        return [declined if settled else next(by_model) for settled in self.nothing_answers]


def ask_in_other_words(questions: Questions, seed: int) -> Questions:
    """Return the questions in words of the paraphrase bank, where it has some; the references stay."""
    rows = [replace(row, question=in_other_words(row.question, seed)) for row in questions.rows]
    same = sum(row.question == before.question for row, before in zip(rows, questions.rows, strict=True))
    if same == len(rows):
        console.note("the questions are asked in the words of the file: no other words are known for any of them")
    else:
        console.note(f"{len(rows) - same} of {len(rows)} questions are asked in other words than the file's")
    console.note("with sources it is an open book: the answers of the split are among them")
    return replace(questions, rows=rows)


def make_arms(
    questions: Questions,
    before: Sequence[QaRow],
    held_out: Sequence[QaRow],
    data_dir: Path,
    encoder: PromptEncoder,
    rules: bool,
) -> tuple[dict[str, Arm], list[Passage | None]]:
    """Find the passages of each arm, and for each question the first one of plain full-text search.

    ``_open_book``: as ``ask`` finds them, in an index that holds the answers of the split too; ``_absent``: without
    any that answers; ``_wrong_topic``: those of another question, of the same kind where there is one, about another
    topic.

    Args:
        questions: as they are asked.
        before: their rows in the words of the file.
        held_out: all rows of the split.
        data_dir: the folder that ``medqa convert`` wrote.
        encoder: its contract has sources.
        rules: whether the titles of the passages may decline a question, or forbid to decline it, as in ``ask``.
    """
    passages = chain(PassageIndex.of_folder(data_dir).passages(), map(passage_of, held_out))
    sources = Sources(PassageIndex(passages), encoder)
    arms: dict[str, Arm] = {name: Arm([], []) for name in ARMS}
    by_bm25 = []
    with console.progress("finding sources", len(before)) as bar:
        for number, (row, asked) in enumerate(zip(before, questions.rows, strict=True)):
            answers = answer_test(row)
            other = questions.rows[_of_another_topic(before, number)]
            by_arm = {
                OPEN_BOOK: sources.find(asked.question),
                ABSENT: sources.find(asked.question, lambda passage: not answers(passage)),  # noqa: B023
                WRONG_TOPIC: sources.find(other.question, _about_something_else(row)),
            }
            for name, shown in by_arm.items():
                arms[name].passages.append(sources.judged(asked.question, shown) if rules else shown)
                # What a passage was left out for may be cut off where it is shown: in the two others none answers.
                gold = (n for n, passage in enumerate(shown, start=1) if name == OPEN_BOOK and answers(passage))
                arms[name].gold.append(tuple(gold))
            by_bm25.append(sources.by_bm25(asked.question))
            bar.update(number + 1)
    return arms, by_bm25


def _of_another_topic(rows: Sequence[QaRow], number: int) -> int:
    """Return the number of the next row about another topic, of one that asks for the same if there is any."""
    topics, kind = set(topic_names(rows[number].topic)), question_kind(rows[number].question)
    following = [(number + step) % len(rows) for step in range(1, len(rows))]
    others = [n for n in following if topics.isdisjoint(topic_names(rows[n].topic))]
    return next((n for n in others if question_kind(rows[n].question) == kind), next(iter(others), number))


def _about_something_else(row: QaRow) -> Callable[[Passage], bool]:
    answers, topics = answer_test(row), set(topic_names(row.topic))
    named = [normalize(name) for name in topics]

    def accept(passage: Passage) -> bool:
        title = normalize(passage.title)
        is_other = not topics & set(topic_names(passage.topic)) and not any(name in title for name in named if name)
        return is_other and not answers(passage)

    return accept


def arm_samples(
    name: str, questions: Questions, arm: Arm, answers: Sequence[GeneratedAnswer], decline: str
) -> list[Sample]:
    """Return the samples of a model in an arm.

    Args:
        name: of model and arm.
        questions: what was asked.
        arm: with which sources.
        answers: one for each row.
        decline: what a model says that finds no answer in its sources.
    """
    samples = samples_of(name, questions, None, None)
    return [
        replace(
            sample,
            answer=without_marks(answer.text),
            finish_reason=answer.finish_reason,
            generated_tokens=answer.num_tokens,
            sources=tuple(f"{passage.title}\n{passage.text}" for passage in shown),
            gold=gold,
            cited=tuple(dict.fromkeys(cited(answer.text))),
            declined=is_decline(answer.text, decline),
        )
        for sample, answer, shown, gold in zip(samples, answers, arm.passages, arm.gold, strict=True)
    ]


def without_marks_of(answers: Sequence[GeneratedAnswer]) -> list[GeneratedAnswer]:
    """Return answers without the marks of sources, which a model may write where there are none."""
    return [replace(answer, text=without_marks(answer.text)) for answer in answers]


def is_decline(answer: str, decline: str) -> bool:
    """Tell whether an answer is the sentence that declines, alone or before others."""
    # Whole words: "No" does not begin "Nothing helps.".
    expected = normalize(decline)
    return bool(expected) and f"{normalize(answer)} ".startswith(f"{expected} ")


def passage_baselines(
    before: Sequence[QaRow], arms: Mapping[str, Arm], by_bm25: Sequence[Passage | None], encoder: PromptEncoder
) -> dict[str, list[str]]:
    """Return the copies that a model must beat, and the one of the passage that answers.

    ``first_passage``: of those that the model reads; ``bm25_passage``: of plain full-text search, without our ranking.
    """
    first = [shown[0].text if shown else "" for shown in arms[OPEN_BOOK].passages]
    return {
        FIRST_PASSAGE: first,
        BM25_PASSAGE: [passage.text if passage else "" for passage in by_bm25],
        GOLD_PASSAGE: [encoder.source_text(row.answer) for row in before],
    }
