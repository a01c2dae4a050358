"""How many training answers a model gives back word for word, beside held-out ones that it never saw.

A model gives 50 tokens back if each of them is its likeliest next one after the prompt and the true tokens before:
greedy decoding then writes exactly these. So one forward pass tells, and no answer has to be generated. (Carlini et al.
2023, arXiv 2202.07646, call such a text extractable with its prompt.)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from medqa_cli.data.dataset import QaRow, evenly_spaced
from medqa_cli.journal import SharedJournal
from medqa_cli.model.kernels.packing import answer_logits, examples_at_once, group_by_size, pack
from medqa_cli.model.load import LoadedModel
from medqa_cli.prompt.encoder import Example, PromptEncoder

TOKENS = 50  # given back word for word; fewer may be a phrase that everybody uses
BEGINNING = 20  # tokens of the answer that stand in the prompt, the second time
# Rows that are read for each one that is wanted: some answers are too short.
_READ_PER_ROW = 4
_ROWS_PER_PIECE = 32
_LOGITS_PER_FORWARD = 256  # each as wide as the vocabulary


@dataclass(frozen=True)
class Texts:
    """Rows whose answers are looked for, their examples cut to what is compared, and the number of shorter answers."""

    rows: list[QaRow]
    examples: list[Example]
    num_too_short: int


def pick_texts(rows: Sequence[QaRow], encoder: PromptEncoder, count: int, max_length: int) -> Texts:
    """Pick rows with an answer of at least ``TOKENS`` tokens, spread evenly; a question in other words is no row."""
    looked = evenly_spaced([row for row in rows if not row.paraphrase_of], _READ_PER_ROW * count)
    examples = encoder.encode_examples(
        [row.question for row in looked], [row.answer for row in looked], max_length, [row.given for row in looked]
    )
    long = [pair for pair in zip(looked, examples, strict=True) if pair[1].num_answer_tokens >= TOKENS]
    chosen = evenly_spaced(long, count)
    cut = []
    for _, example in chosen:
        end = len(example.labels) - example.num_answer_tokens + BEGINNING + TOKENS
        cut.append(replace(example, input_ids=example.input_ids[:end], labels=example.labels[:end]))
    return Texts([row for row, _ in chosen], cut, len(looked) - len(long))


@dataclass(frozen=True)
class Recited:
    """Of one answer: how many tokens the model gives back, asked the question, and given its beginning as well.

    ``after_beginning``: None for an answer that has no ``TOKENS`` tokens after its beginning.
    """

    asked: int
    after_beginning: int | None

    @property
    def is_memorized(self) -> bool:
        """Whether it is given back in one of the two ways."""
        return self.asked >= TOKENS or (self.after_beginning or 0) >= TOKENS


def recite(loaded: LoadedModel, name: str, examples: Sequence[Example], journal: SharedJournal) -> list[Recited]:
    """Return what a model gives back of each answer, in the order given; finished pieces are taken from the journal.

    Args:
        loaded: a packed model.
        name: of the texts: ``train`` or the split that is the control.
        examples: of ``pick_texts``.
        journal: where finished pieces are kept.
    """

    def compute(part: Sequence[Example], on_progress: Callable[[int], None]) -> list[tuple[int, int | None]]:
        found: list[tuple[int, int | None]] = []
        limits = (_LOGITS_PER_FORWARD, examples_at_once(loaded.model) or len(part))
        for group in group_by_size(part, lambda example: (example.num_answer_tokens, 1), limits):
            batch = pack(group, loaded.device)
            is_shorter = loaded.dtype != torch.float32
            with torch.no_grad(), torch.autocast(loaded.device.type, loaded.dtype, enabled=is_shorter):
                is_likeliest = answer_logits(loaded.model, batch).argmax(-1) == batch.targets
            for number in range(len(group)):
                right = is_likeliest[batch.example_of_target == number].tolist()
                rest = right[BEGINNING:]
                found.append((_run(right), _run(rest) if len(rest) >= TOKENS else None))
                on_progress(len(found))
        return found

    title = f"looking for memorized answers: {loaded.name}, {name}"
    values = journal.map(f"verbatim/{name}/{loaded.name}", compute, examples, size=_ROWS_PER_PIECE, title=title)
    return [Recited(*value) for value in values]


def _run(right: Sequence[bool]) -> int:
    """Return how many are right before the first that is not."""
    return right.index(False) if False in right else len(right)


def figures(recited: Sequence[Recited]) -> dict[str, Any]:
    """Return the counts of one model and set of texts, as ``results.json`` keeps them."""
    begun = [one.after_beginning for one in recited if one.after_beginning is not None]
    return {
        "rows": len(recited),
        "asked": sum(one.asked >= TOKENS for one in recited),
        "rows_with_beginning": len(begun),
        "with_beginning": sum(run >= TOKENS for run in begun),
        "memorized": sum(one.is_memorized for one in recited),
    }
