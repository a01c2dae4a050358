"""The text side of the prompt contract: what stands around a question, its answer and what was said before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from medqa_cli.errors import InputError
from medqa_cli.prompt.given import NOTHING, Given


class Tokenizer(Protocol):
    """The part of a Transformers tokenizer that the contract uses."""

    bos_token: str | None
    bos_token_id: int | None
    eos_token: str | None
    eos_token_id: int | None
    chat_template: Any
    added_tokens_decoder: Mapping[int, Any]

    def __len__(self) -> int:
        """Return the number of token ids, added tokens included."""

    def __call__(self, text: Any, **kwargs: Any) -> Any:
        """Encode one text or a list of texts."""

    @property
    def special_tokens_map(self) -> Mapping[str, Any]:
        """The texts of the special tokens by name, such as ``bos_token``."""

    def get_chat_template(self) -> str:
        """Return the source of the chat template; of several, the default one."""

    def decode(self, token_ids: Sequence[int], **kwargs: Any) -> Any:
        """Turn token ids into text."""


@dataclass(frozen=True)
class EarlierText:
    """The text around earlier turns, which stand in the prompt as questions and answers of their own.

    A conversation is ``opening`` Q ``after_question`` A (``between`` Q ``after_question`` A)... ``before_last``, and
    then the last question with what stands behind any. ``max_tokens``: of a prompt with earlier turns.
    """

    opening: str
    after_question: str
    between: str
    before_last: str
    max_tokens: int


@dataclass(frozen=True)
class PromptText:
    """The text side of the contract: everything around a question and before its answer.

    ``sources``: passages in front of a question, of ``source_tokens`` tokens at most; ``decline``: what is said where
    none of them answers. Without sources the two others are empty. ``earlier``: None for a model that learned no
    conversations. ``context``: whether it learned questions with a context.
    """

    template: str
    system: str | None
    before_question: str
    after_question: str
    answer_prefix: str
    markers: tuple[str, ...]
    sources: int = 0
    source_tokens: int = 0
    decline: str = ""
    earlier: EarlierText | None = None
    context: bool = False

    def defuse(self, text: str) -> str:
        """Break turn markers that are ordinary text (``[INST]`` -> ``[ INST]``), so that no text can forge a turn."""
        for marker in self.markers:
            text = text.replace(marker, f"{marker[0]} {marker[1:]}")
        return text

    def prompt(self, question: str, given: Given = NOTHING) -> str:
        """Return the text of the prompt for one question, without the first BOS."""
        return "".join(self.pieces(question, given))

    def pieces(self, question: str, given: Given = NOTHING) -> list[str]:
        """Return the prompt in pieces: text of the template and, between two of these, text of others, defused.

        The context stands before the first question, an empty line between.

        Raises:
            InputError: the contract has no place for earlier turns.
        """
        if not given:
            return [self.before_question, self.defuse(question), self.after_question]
        asked = [*(turn.question for turn in given.earlier), question]
        if given.context:
            asked[0] = f"{given.context}\n\n{asked[0]}"
        if not given.earlier:
            return [self.before_question, self.defuse(asked[0]), self.after_question]
        if self.earlier is None:
            raise InputError("this prompt has no place for earlier turns", "ask a question that stands alone")
        pieces = [self.earlier.opening]
        for number, turn in enumerate(given.earlier):
            pieces += [self.defuse(asked[number]), self.earlier.after_question, self.defuse(turn.answer)]
            pieces.append(self.earlier.between if number + 1 < len(given.earlier) else self.earlier.before_last)
        return [*pieces, self.defuse(question), self.after_question]

    def render(self, question: str, answer: str, given: Given = NOTHING) -> str:
        """Return prompt and answer as one text, without BOS and end token: a tokenizer or trainer adds those."""
        return self.prompt(question, given) + self.answer_prefix + self.defuse(answer)

    def split_at_system(self) -> tuple[str, str] | None:
        """Return the text before and after the system line, up to the question; None if that is ambiguous."""
        if not self.system or self.before_question.count(self.system) != 1:
            return None
        before, _, after = self.before_question.partition(self.system)
        return before, after
