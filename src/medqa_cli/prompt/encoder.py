"""How a question becomes token ids by its prompt contract, and which ids of an example are learned.

Labels are set by token position, never by searching for a marker string.
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from medqa_cli.errors import InputError
from medqa_cli.prompt.contract import PromptContract
from medqa_cli.prompt.given import NOTHING, Given, shown_text, with_sources
from medqa_cli.prompt.sentence_ends import last_cut, sentence_ends, word_ends
from medqa_cli.prompt.text import Tokenizer

IGNORE_INDEX = -100


@dataclass(frozen=True)
class Example:
    """One training example. ``input_ids`` and ``labels`` have the same length; the prompt is labeled -100.

    ``truncated``: the answer was cut to fit ``max_length`` and has no end token; ``row_id``: id of its row in the data
    folder, empty if there is none; ``turns_left_out``: earlier turns for which the prompt has no room.
    """

    input_ids: list[int]
    labels: list[int]
    truncated: bool
    row_id: str = ""
    turns_left_out: int = 0

    @property
    def num_answer_tokens(self) -> int:
        """Number of supervised tokens."""
        return sum(label != IGNORE_INDEX for label in self.labels)


class PromptEncoder:
    """A contract together with its tokenizer: text to ids and back."""

    def __init__(self, contract: PromptContract, tokenizer: Tokenizer, num_embeddings: int | None = None) -> None:
        """Combine the two.

        Args:
            contract: the prompt.
            tokenizer: of the same model.
            num_embeddings: number of token ids that the model has embeddings for; None: unknown.

        Raises:
            InputError: the prompt itself holds an id beyond them.
        """
        self.contract = contract
        self._tokenizer = tokenizer
        text = contract.text
        around = text.before_question + text.after_question
        if text.earlier is not None:
            around += (
                text.earlier.opening + text.earlier.after_question + text.earlier.between + text.earlier.before_last
            )
        added = {token_id: str(token) for token_id, token in tokenizer.added_tokens_decoder.items()}
        special = {i for i, token in tokenizer.added_tokens_decoder.items() if getattr(token, "special", True)}
        # Control tokens: all special ones, and added ones that the template itself uses to mark turns; not Gemma's line
        # breaks, which are added tokens and stand in questions and answers as well.
        self._control = {i: token for i, token in added.items() if i in special or (token in around and token.strip())}
        self._control_texts = list(self._control.values())
        _, self._answer_context = _split_after_last(text.after_question, self._control_texts)
        self._answer_context_ids = self._plain([self._answer_context])[0] if self._answer_context else []
        highest = max(len(tokenizer) - 1, *added, contract.end_token_id)
        self._num_embeddings = num_embeddings if num_embeddings is not None and highest >= num_embeddings else None
        if self._num_embeddings is not None:
            self._check_ids([*self.encode_prompt("?"), contract.end_token_id])

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids, added tokens included."""
        return len(self._tokenizer)

    @property
    def num_special_tokens(self) -> int:
        """Number of tokens of an example besides its rendered text: the end token, and BOS where there is one."""
        return 1 if self.contract.bos_token_id is None else 2

    def encode_prompt(self, question: str, given: Given = NOTHING) -> list[int]:
        """Return the ids of the prompt for one question, with BOS if the model has one."""
        return self.encode_prompts([question], [given])[0]

    def encode_prompts(self, questions: Sequence[str], given: Sequence[Given] = ()) -> list[list[int]]:
        """Return the prompt ids of many questions, each with what is given with it (empty: with nothing).

        A question without control tokens is encoded together with its prompt, as any other tool would; control tokens
        in a question are encoded as plain text, so that it cannot forge a turn. So are those in what is given. Whole
        earlier turns are left out, the earliest first, where the prompt has no room for them (``fitted``).

        Raises:
            InputError: the model has no embedding for an id, or the contract no place for what is given.
        """
        return self._encode_all(questions, self._all_fitted(questions, given))

    def fitted(self, question: str, given: Given) -> Given:
        """Return what is given without the earliest turns for which the prompt has no room.

        Raises:
            InputError: the contract has no place for earlier turns, or for a context.
        """
        text = self.contract.text
        if given.context and not text.context:
            raise InputError("this model was trained without contexts", "write it into the question")
        if not given.earlier:
            return given
        if text.earlier is None:
            raise InputError("this model was trained on single questions", "ask a question that stands alone")
        limit = text.earlier.max_tokens

        def is_short(left_out: int) -> bool:
            return len(self._encode_all([question], [given.without_first(left_out)])[0]) <= limit

        return given.without_first(bisect.bisect_left(range(len(given.earlier)), True, key=is_short))

    def _all_fitted(self, questions: Sequence[str], given: Sequence[Given]) -> list[Given]:
        if not given:
            return [NOTHING] * len(questions)
        return [self.fitted(*asked) if asked[1] else NOTHING for asked in zip(questions, given, strict=True)]

    def _encode_all(self, questions: Sequence[str], given: Sequence[Given]) -> list[list[int]]:
        """Return the prompt ids of questions with all that is given."""
        if not questions:
            return []
        prompts = [self.contract.text.pieces(*asked) for asked in zip(questions, given, strict=True)]
        bos = [self.contract.bos_token_id] if self.contract.bos_token_id is not None else []
        whole = self._encode(["".join(pieces) for pieces in prompts])
        encoded = []
        for pieces, ids in zip(prompts, whole, strict=True):
            if any(self._holds_control(piece) for piece in pieces[1::2]):
                ids = self._encode_apart(pieces)
            self._check_ids(bos + ids)
            encoded.append(bos + ids)
        return encoded

    def _encode_apart(self, pieces: Sequence[str]) -> list[int]:
        """Encode control tokens in the template's pieces as such, and those in pieces of others as plain text."""
        ids: list[int] = []
        plain = ""
        for number, piece in enumerate(pieces):
            if number % 2:
                plain += self._without_control(piece)
                continue
            head, tail = _split_after_last(piece, self._control_texts)
            if not head:
                plain += piece
                continue
            # From the first control token to the end of the last one. Nothing comes before the first piece and nothing
            # after the last, so these are encoded whole to their end.
            start = 0 if number == 0 else min(piece.find(token) for token in self._control_texts if token in piece)
            special, after = (head[start:], tail) if number + 1 < len(pieces) else (piece[start:], "")
            plain += piece[:start]
            ids += (self._plain([plain])[0] if plain else []) + self._encode([special])[0]
            plain = after
        return ids + (self._plain([plain])[0] if plain else [])

    def encode_examples(
        self, questions: Sequence[str], answers: Sequence[str], max_length: int, given: Sequence[Given] = ()
    ) -> list[Example]:
        """Return one example per pair; only the answer's tokens and its end token are learned.

        The answer of an example longer than ``max_length`` tokens is cut, at the end of a sentence if possible
        (``last_cut``), and has no end token. If the prompt alone fills ``max_length``, nothing is supervised; the
        caller counts and skips such examples. Raises InputError if the model has no embedding for an id.
        """
        kept = self._all_fitted(questions, given)
        prompts = self._encode_all(questions, kept)
        left_out = [len(one.earlier) - len(other.earlier) for one, other in zip(given or kept, kept, strict=True)]
        # What leads into an answer, and the answer without forged turns.
        prefix, defuse = self.contract.text.answer_prefix, self.contract.text.defuse
        texts = [prefix + self._without_control(defuse(answer)) for answer in answers]
        examples = []
        encoded = self._encode_answers(texts)
        for prompt, text, answer, turns in zip(prompts, texts, encoded, left_out, strict=True):
            room = max(0, max_length - len(prompt))
            supervised = [*answer, self.contract.end_token_id]
            truncated = len(supervised) > room
            if truncated:
                supervised = answer[: self._num_kept(text, answer, room)]
            self._check_ids(supervised)
            prompt = prompt[:max_length]
            labels = [IGNORE_INDEX] * len(prompt) + supervised
            examples.append(Example(prompt + supervised, labels, truncated, turns_left_out=turns))
        return examples

    def with_sources(self, question: str, passages: Sequence[tuple[str, str]]) -> str:
        """Return a question behind its sources, title and text of each; the texts as ``source_text`` returns them."""
        return with_sources(question, [(shown_text(title), text) for title, text in passages])

    def source_text(self, text: str) -> str:
        """Return a passage as it stands in a prompt: cut to ``source_tokens``, at the end of a sentence if possible."""
        text, room = shown_text(text), self.contract.text.source_tokens
        ids = self._plain([text])[0]
        if len(ids) <= room:
            return text
        reach = len(self._tokenizer.decode(ids[:room], clean_up_tokenization_spaces=False))
        # Beyond the reach, so that its end is not taken for that of a sentence.
        part = text[: 2 * reach]
        for ends in (sentence_ends(part), word_ends(part)):
            for end in reversed([end for end in ends if reach <= 2 * end <= 2 * reach]):
                if len(self._plain([text[:end]])[0]) <= room:
                    return text[:end]
        while len(self._plain([text[:reach]])[0]) > room:
            reach -= 1
        return text[:reach]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of plain texts, special tokens not added."""
        return [len(ids) for ids in self._encode(list(texts))] if texts else []

    @property
    def decline_token_id(self) -> int:
        """The id with which an answer begins that says that no source answers."""
        return self._encode_answers([self.contract.text.answer_prefix + self.contract.text.decline])[0][0]

    def decode_answer(self, token_ids: Sequence[int]) -> str:
        """Turn generated ids into text, without control tokens."""
        return str(
            self._tokenizer.decode(
                [i for i in token_ids if i not in self._control],
                skip_special_tokens=True,
                clean_up_tokenization_spaces=False,
            )
        ).strip()

    def _check_ids(self, ids: Sequence[int]) -> None:
        if self._num_embeddings is None or max(ids, default=0) < self._num_embeddings:
            return
        beyond = max(ids)
        token = self._tokenizer.decode([beyond])
        raise InputError(
            f"the tokenizer gives token id {beyond} ({token!r}), but the model has embeddings for "
            f"{self._num_embeddings} ids (0 to {self._num_embeddings - 1})",
            "take tokenizer and weights of one model; for added tokens its embedding must have been resized",
        )

    def _num_kept(self, text: str, answer: list[int], room: int) -> int:
        """Return how many tokens of a too long answer to keep; they are a prefix of its tokens."""
        if room == 0:
            return 0
        offsets = self._answer_offsets(text, answer)
        if offsets is not None:
            ends = _token_ends(text, offsets, room)
            # Without a word end, cut after a whole character: the rest must still be text.
            return last_cut(text, ends.get, room) or max(ends.values(), default=room)
        # A few characters more than the tokens spell: a decoder may drop a space.
        reach = len(self._tokenizer.decode(answer[:room], clean_up_tokenization_spaces=False)) + 8

        def tokens_up_to(end: int) -> int | None:
            part = self._encode_answers([text[:end]])[0] if end <= reach else None
            return len(part) if part is not None and part == answer[: len(part)] else None

        return last_cut(text, tokens_up_to, room) or room

    def _encode_answers(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        # Encoded after the end of the prompt, so that the first token is the one that follows it in running text.
        in_context = self._plain([self._answer_context + text for text in texts])
        size = len(self._answer_context_ids)
        return [
            ids[size:] if ids[:size] == self._answer_context_ids else self._plain([text])[0]
            for ids, text in zip(in_context, texts, strict=True)
        ]

    def _answer_offsets(self, text: str, answer: list[int]) -> list[tuple[int, int]] | None:
        """Return the position in the text of each token of an answer; None if the tokenizer does not know."""
        if not getattr(self._tokenizer, "is_fast", False):
            return None
        for lead, size in ((self._answer_context, len(self._answer_context_ids)), ("", 0)):
            encoded = self._tokenizer(
                lead + text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
            )
            if encoded["input_ids"][size:] == answer:
                return [(start - len(lead), end - len(lead)) for start, end in encoded["offset_mapping"][size:]]
        return None

    def _holds_control(self, text: str) -> bool:
        return any(token in text for token in self._control.values())

    def _without_control(self, text: str) -> str:
        """Break control tokens that this tokenizer recognizes even in plain text."""
        if not self._holds_control(text) or not set(self._plain([text])[0]) & self._control.keys():
            return text
        for token in self._control.values():
            text = text.replace(token, f"{token[0]} {token[1:]}")
        return text

    def _encode(self, texts: list[str]) -> list[list[int]]:
        return [list(ids) for ids in self._tokenizer(texts, add_special_tokens=False)["input_ids"]]

    def _plain(self, texts: list[str]) -> list[list[int]]:
        encoded = self._tokenizer(texts, add_special_tokens=False, split_special_tokens=True)
        return [list(ids) for ids in encoded["input_ids"]]


def _token_ends(text: str, offsets: Sequence[tuple[int, int]], room: int) -> dict[int, int]:
    """Return the ends of the first ``room`` tokens, each with the number of tokens up to it.

    White space at the end of a token is ignored: some tokenizers join a full stop and the line breaks after it.
    """
    ends: dict[int, int] = {}
    next_starts = [start for start, _ in offsets[1:]] + [len(text)]
    for count, ((_, end), next_start) in enumerate(zip(offsets[:room], next_starts, strict=False), start=1):
        # The bytes of one character may be several tokens with the same offsets: only the last one ends it.
        if next_start >= end:
            while end > 0 and text[end - 1].isspace():
                end -= 1
            ends.setdefault(end, count)
    return ends


def _split_after_last(text: str, tokens: Sequence[str]) -> tuple[str, str]:
    end = max((text.rfind(token) + len(token) for token in tokens if token in text), default=0)
    return text[:end], text[end:]
