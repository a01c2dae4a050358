"""The token loop over llama.cpp: rows join and leave at any step, each row's state takes its token.

The same states, the same choice of a token as in ``decode``, in NumPy.
"""

import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from medqa_cli.answering.stopping import RowState
from medqa_cli.config.schema import GenerateConfig
from medqa_cli.errors import MedqaError

Scores = NDArray[np.float32]


class Context(Protocol):
    """What reads tokens: ``model.llamacpp.LlamaContext``."""

    num_sequences: int
    tokens_at_once: int

    def read(self, parts: Sequence[tuple[int, int, Sequence[int], bool]]) -> Mapping[int, Scores]:
        """Read more tokens of some sequences; return the logits by sequence."""

    def forget(self, sequence: int, position: int) -> bool:
        """Forget the tokens of a sequence from a position on; False: it cannot."""


@dataclass
class _Row:
    prompt: Sequence[int]
    state: RowState
    config: GenerateConfig
    on_token: Callable[[], None]
    sequence: int
    num_read: int = 0

    @property
    def ids(self) -> list[int]:
        return [*self.prompt, *self.state.ids]


class Rows:
    """Rows that are continued together.

    Args:
        context: its number of sequences is that of the rows at one time.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._rng = np.random.default_rng()
        self._rows: list[_Row] = []
        self._free = list(range(context.num_sequences))

    def __len__(self) -> int:
        """Return the number of rows under way."""
        return len(self._rows)

    @property
    def has_room(self) -> bool:
        """Whether one more can be added."""
        return bool(self._free)

    def add(self, prompt: Sequence[int], state: RowState, config: GenerateConfig, on_token: Callable[[], None]) -> None:
        """Add a row; ``on_token`` is called after it took a token. A state that has ids goes on from them."""
        # llama.cpp computes sequences together whose numbers follow each other: no gaps, and in their order.
        self._rows.append(_Row(prompt, state, config, on_token, self._free.pop(0)))
        self._rows.sort(key=lambda row: row.sequence)

    def step(self) -> None:
        """Read what is new of each row, and give those that were read to their end the next token.

        Raises:
            MedqaError: llama.cpp failed, or the logits are not finite. No row is under way then.
        """
        try:
            # The last token of each row, and of longer texts as much as there is room for.
            unread = {row.sequence: row.ids[row.num_read :] for row in self._rows}
            room = self._context.tokens_at_once - len(self._rows)
            parts: list[tuple[int, int, Sequence[int], bool]] = []
            for row in self._rows:
                ids = unread[row.sequence]
                taken = ids[: 1 + max(0, room)]
                room -= len(taken) - 1
                parts.append((row.sequence, row.num_read, taken, len(taken) == len(ids)))
                row.num_read += len(taken)
            logits = self._context.read(parts)
            for row in [row for row in self._rows if row.sequence in logits]:
                self._take(row, logits[row.sequence])
        except BaseException:
            self.clear()
            raise

    def clear(self) -> None:
        """Give all rows up."""
        for row in self._rows:
            self._leave(row)
        self._rows = []

    def _take(self, row: _Row, logits: Scores) -> None:
        row.state.add(choose(logits, row.ids, row.state, row.config, self._rng))
        row.on_token()
        if row.state.finish_reason is not None:
            self._leave(row)
            self._rows = [other for other in self._rows if other is not row]
        elif row.state.went_back:
            # The last token that stays is read again, for the logits after it.
            kept = len(row.ids) - 1
            if not self._context.forget(row.sequence, kept):
                self._context.forget(row.sequence, 0)
                kept = 0
            row.num_read = kept

    def _leave(self, row: _Row) -> None:
        self._context.forget(row.sequence, 0)
        bisect.insort(self._free, row.sequence)


def choose(
    logits: Scores, history: Sequence[int], state: RowState, config: GenerateConfig, rng: np.random.Generator
) -> int:
    """Return the next token, chosen as ``decode`` does by Transformers' processors.

    Args:
        logits: ``(V,)``; they are changed.
        history: ids of prompt and answer.
        state: of the row.
        config: how tokens are chosen.
        rng: for a temperature above 0.

    Raises:
        MedqaError: the logits are not finite.
    """
    best = int(logits.argmax())  # of NaN too, if there is one
    if not np.isfinite(logits[best]):
        raise MedqaError(
            "the model gives no numbers (NaN or infinite) for the next token",
            "its GGUF file is broken: write it again with medqa merge --gguf, or --set generate.engine=transformers",
        )
    if config.repetition_penalty == 1 and not (config.no_repeat_ngram_size or state.num_retries or config.temperature):
        return best
    if config.repetition_penalty != 1:
        seen = np.unique(np.asarray(history))
        scores, penalty = logits[seen], np.float32(config.repetition_penalty)
        logits[seen] = np.where(scores < 0, scores * penalty, scores / penalty)
    for token_id in _completing(history, config.no_repeat_ngram_size):
        logits[token_id] = -np.inf
    if state.num_retries:
        for token_id, bias in state.biases(int(logits.argmax())).items():
            logits[token_id] += bias
    if config.temperature <= 0:
        return int(logits.argmax())
    return int(rng.choice(len(logits), p=_probabilities(logits, config.temperature, config.top_p)))


def _completing(history: Sequence[int], size: int) -> set[int]:
    """Return the ids that would complete a run of ``size`` tokens that occurred before."""
    if not 0 < size <= len(history) + 1:
        return set()
    end = tuple(history[len(history) - size + 1 :])
    return {
        history[start + size - 1]
        for start in range(len(history) - size + 1)
        if tuple(history[start : start + size - 1]) == end
    }


def _probabilities(logits: Scores, temperature: float, top_p: float) -> NDArray[np.float64]:
    """Return the probabilities of all tokens; those beyond ``top_p`` have none."""
    scores = logits.astype(np.float64) / temperature
    weights = np.exp(scores - scores.max())
    found: Any = weights / weights.sum()
    if top_p < 1:
        order = np.argsort(found, kind="stable")
        # The least likely that together have at most 1 - top_p; one always stays.
        dropped = order[np.cumsum(found[order]) <= 1 - top_p][: len(order) - 1]
        found[dropped] = 0
        found /= found.sum()
    return np.asarray(found)
