"""The prompt contract: the texts around a question and the special tokens, as ``prompt.json`` holds them.

It is made from a template and a tokenizer and saved in each adapter folder; training, ``ask``, ``eval`` and ``merge``
all use it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from medqa_cli.config.schema import PromptConfig
from medqa_cli.errors import InputError
from medqa_cli.prompt.template import chat_end_token_id, make_earlier, make_prompt_text
from medqa_cli.prompt.text import EarlierText, PromptText, Tokenizer

PROMPT_FILE_NAME = "prompt.json"
# 2: with sources, 3: with earlier turns or a context. An older medqa would leave them out without a word.
FORMAT_VERSIONS = (1, 2, 3)
_SOURCE_KEYS = ("sources", "source_tokens", "decline")
_GIVEN_KEYS = ("earlier", "context")
_MOST_SOURCES = 100  # as of ask --sources


@dataclass(frozen=True)
class PromptContract:
    """The text side plus the special tokens of one tokenizer."""

    text: PromptText
    adds_bos: bool
    bos_token_id: int | None
    end_token: str
    end_token_id: int
    stop_token_ids: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the content of ``prompt.json``."""
        has_given = self.text.earlier is not None or self.text.context
        payload = {"format_version": 3 if has_given else 2 if self.text.sources else 1, **asdict(self)}
        for key in (*(() if self.text.sources else _SOURCE_KEYS), *(() if has_given else _GIVEN_KEYS)):
            del payload["text"][key]
        return payload

    def save(self, folder: Path) -> None:
        """Write ``prompt.json`` into ``folder``."""
        (folder / PROMPT_FILE_NAME).write_text(
            json.dumps(self.as_json(), ensure_ascii=False, indent=2) + "\n", encoding="utf-8"
        )

    def require_types(self) -> None:
        """Check the types of values that were read from a file.

        Raises:
            TypeError: one is of the wrong type.
        """
        text = self.text
        strings = (text.template, text.before_question, text.after_question, text.answer_prefix, self.end_token)
        ids = (self.end_token_id, *self.stop_token_ids, *([] if self.bos_token_id is None else [self.bos_token_id]))
        if not all(isinstance(value, str) for value in (*strings, *text.markers, text.system or "")):
            raise TypeError("a text field is not a string")
        if not all(type(value) is int and 0 <= value < 1 << 31 for value in ids) or type(self.adds_bos) is not bool:
            raise TypeError("a token id is not a valid id, or adds_bos is not true or false")
        if not all(text.markers):
            raise TypeError("a marker is empty")
        if not all(type(value) is int and value >= 0 for value in (text.sources, text.source_tokens)):
            raise TypeError("sources or source_tokens is not a number of 0 or more")
        if text.sources > _MOST_SOURCES:
            raise TypeError(f"sources is more than {_MOST_SOURCES}")
        if not isinstance(text.decline, str) or (text.sources and not (text.source_tokens and text.decline.strip())):
            raise TypeError("a contract with sources needs source_tokens and decline")
        if type(text.context) is not bool:
            raise TypeError("context is not true or false")
        if text.earlier is not None:
            *around, limit = vars(text.earlier).values()
            if not all(isinstance(value, str) for value in around) or type(limit) is not int or limit < 1:
                raise TypeError("earlier does not hold texts and a number of tokens")

    @classmethod
    def load(cls, folder: Path) -> PromptContract:
        """Read ``prompt.json`` of an adapter or a merged model.

        Raises:
            InputError: it is missing, damaged or of a newer format.
        """
        path = folder / PROMPT_FILE_NAME
        try:
            payload = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InputError(f"{path} is missing: {folder} was not made by medqa") from error
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{path} is damaged: {error}", "train again, or restore the file") from error
        return cls.of_json(payload, path)

    @classmethod
    def of_json(cls, payload: Any, path: Path) -> PromptContract:
        """Return the contract that the content of ``prompt.json`` is, as the file ``path`` holds it.

        Raises:
            InputError: it is damaged or of a newer format.
        """
        try:
            values = dict(payload)
            version = values.pop("format_version")
            if version not in FORMAT_VERSIONS:
                raise InputError(
                    f"{path} has format {version}; this medqa reads formats 1 to {FORMAT_VERSIONS[-1]}", "update medqa"
                )
            text = dict(values.pop("text"))
            text["markers"] = tuple(text["markers"])
            if text.get("earlier") is not None:
                text["earlier"] = EarlierText(**text["earlier"])
            values["stop_token_ids"] = tuple(values["stop_token_ids"])
            contract = cls(text=PromptText(**text), **values)
            contract.require_types()
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise InputError(f"{path} is damaged: {error}", "train again, or restore the file") from error
        return contract


def room_for_earlier(max_length: int) -> int:
    """Return how many tokens a prompt with earlier turns may have: half of ``max_length``, the rest is the answer's."""
    return max(1, max_length // 2)


def make_contract(
    config: PromptConfig, tokenizer: Tokenizer, earlier_tokens: int = 0, *, context: bool = False
) -> PromptContract:
    """Bind the template to a tokenizer: BOS, end token, stop tokens.

    Args:
        config: template, system line, sources.
        tokenizer: that of the model.
        earlier_tokens: most tokens of a prompt with earlier turns; 0: the model learns none.
        context: whether the model learns questions with a context.

    Raises:
        InputError: the tokenizer has no end token, or the template is unusable.
    """
    text = make_prompt_text(config, tokenizer)
    adds_bos = tokenizer.bos_token_id is not None and list(tokenizer("a")["input_ids"])[:1] == [tokenizer.bos_token_id]
    if adds_bos and tokenizer.bos_token and text.before_question.startswith(tokenizer.bos_token):
        # The template writes the BOS that the tokenizer adds as well: keep one of the two.
        text = replace(text, before_question=text.before_question[len(tokenizer.bos_token) :])
    end_id = chat_end_token_id(config, tokenizer) if config.template == "chat" else tokenizer.eos_token_id
    if end_id is None:
        raise InputError("the tokenizer has no end-of-text token, so the model could never learn to stop")
    stop_ids = tuple(dict.fromkeys(i for i in (end_id, tokenizer.eos_token_id) if i is not None))
    if earlier_tokens:
        earlier = make_earlier(config, tokenizer, text, str(tokenizer.decode([end_id])), earlier_tokens)
        if adds_bos and tokenizer.bos_token:
            earlier = replace(earlier, opening=earlier.opening.removeprefix(tokenizer.bos_token))
        text = replace(text, earlier=earlier)
    return PromptContract(
        text=replace(text, context=context),
        adds_bos=adds_bos,
        bos_token_id=tokenizer.bos_token_id if adds_bos else None,
        end_token=str(tokenizer.decode([end_id])),
        end_token_id=end_id,
        stop_token_ids=stop_ids,
    )
