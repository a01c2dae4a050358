"""What is asked of the models: rows of a split, encoded, with all references and a swapped reference each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medqa_cli import console
from medqa_cli.data.dataset import QaRow
from medqa_cli.data.normalize import normalize
from medqa_cli.errors import InputError
from medqa_cli.evaluation.baselines import swapped_references
from medqa_cli.evaluation.generation import GeneratedAnswer
from medqa_cli.evaluation.samples import Sample
from medqa_cli.model.kernels.packing import AnswerScore
from medqa_cli.prompt.encoder import IGNORE_INDEX, Example, PromptEncoder


@dataclass(frozen=True)
class Questions:
    """What is asked, in the order of the rows. ``examples`` and ``answer_bytes`` are empty without an encoder."""

    rows: list[QaRow]
    examples: list[Example]
    answer_bytes: list[int]
    references: list[tuple[str, ...]]
    swapped: list[str | None]

    @property
    def texts(self) -> list[str]:
        """The distinct questions: rows with the same question get the same answer."""
        return list(dict.fromkeys(row.question for row in self.rows))


def make_questions(split: list[QaRow], rows: list[QaRow], encoder: PromptEncoder | None, max_length: int) -> Questions:
    """Prepare the rows to ask.

    Args:
        split: all rows of the split: references and swapped references come from there, however few are asked.
        rows: those to ask.
        encoder: the prompt contract; None where no model is loaded here.
        max_length: longest prompt and answer in tokens.

    Raises:
        InputError: no row leaves room for an answer.
    """
    examples: list[Example] = []
    sizes: list[int] = []
    if encoder is not None:
        encoded = encoder.encode_examples([row.question for row in rows], [row.answer for row in rows], max_length)
        kept = [(row, example) for row, example in zip(rows, encoded, strict=True) if example.num_answer_tokens]
        if not kept:
            raise InputError("no question leaves room for an answer", "raise model.max_length")
        if len(kept) < len(rows):
            console.warn(f"{len(rows) - len(kept)} questions fill model.max_length by themselves and are not scored")
        rows, examples = [row for row, _ in kept], [example for _, example in kept]
        sizes = [_scored_bytes(row, example, encoder) for row, example in kept]
    answers: dict[str, list[str]] = {}
    for row in split:
        answers.setdefault(normalize(row.question), []).append(row.answer)
    swapped = dict(zip((row.id for row in split), swapped_references(split), strict=True))
    return Questions(
        rows=rows,
        examples=examples,
        answer_bytes=sizes,
        references=[tuple(dict.fromkeys([row.answer, *answers[normalize(row.question)]])) for row in rows],
        swapped=[swapped[row.id] for row in rows],
    )


def _scored_bytes(row: QaRow, example: Example, encoder: PromptEncoder) -> int:
    if not example.truncated:
        return len(row.answer.encode())
    return len(encoder.decode_answer([label for label in example.labels if label != IGNORE_INDEX]).encode())


def samples_of(
    name: str,
    questions: Questions,
    scores: Sequence[AnswerScore] | None,
    answers: Sequence[GeneratedAnswer] | None,
) -> list[Sample]:
    """Join the questions with what one model makes of them: likelihoods, answers, or both."""
    samples = []
    for place, row in enumerate(questions.rows):
        score = scores[place] if scores is not None else None
        answer = answers[place] if answers is not None else None
        samples.append(
            Sample(
                id=row.id,
                topic=row.topic,
                model=name,
                question=row.question,
                references=questions.references[place],
                swap_reference=questions.swapped[place],
                nll_sum=score.nll_sum if score else None,
                answer_tokens=score.num_tokens if score else None,
                answer_bytes=questions.answer_bytes[place] if score else None,
                truncated=bool(score) and questions.examples[place].truncated,
                answer=answer.text if answer else None,
                finish_reason=answer.finish_reason if answer else None,
                generated_tokens=answer.num_tokens if answer else None,
            )
        )
    return samples
