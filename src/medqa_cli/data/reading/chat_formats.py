"""Takes a question and its answer out of one cell: a rendered training text (Llama 2, Alpaca, ChatML), messages, or a
talk written down with the names of who speaks. The names are those of ``speakers``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from medqa_cli.data.reading.cells import parsed
from medqa_cli.data.speakers import ASSISTANT, SYSTEM, USER, role_of, roles
from medqa_cli.resources import load_yaml

NOT_RENDERED, SEVERAL_TURNS = "not_rendered_form", "several_turns"

_BOS_TOKENS = ("<s>", "<bos>", "<|begin_of_text|>", "<|startoftext|>")
_END_TOKENS = ("</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>", "<|im_end|>", "<|eot_id|>")
_INSTRUCTION, _INPUT, _RESPONSE = "instruction", "input", "response"
_CHATML_ROLE = re.compile(r"\s*(\w+)[ \t]*\n?")


@cache
def _speaker(*, anywhere: bool = False) -> re.Pattern[str]:
    """Match ``Patient:`` at the start of a line or behind a sentence, or also behind any word."""
    names = "|".join(re.escape(name) for name in sorted(roles(), key=len, reverse=True))
    before = r"(?<=\s)" if anywhere else r"(?<=[\n.!?。！？…।؟\"”)])"
    return re.compile(rf"(?:^|{before})\s*\*{{0,2}}({names})\s*\*{{0,2}}\s*[:：]\*{{0,2}}", re.IGNORECASE)


@cache
def _alpaca_parts() -> Mapping[str, str]:
    """Return what follows each of Alpaca's headings, folded."""
    of_role = {USER: _INSTRUCTION, ASSISTANT: _RESPONSE}
    table: dict[str, str] = load_yaml("speakers")["alpaca"]
    return {
        **{name: of_role[role] for name, role in roles().items() if role in of_role},
        **{name: part for part, names in table.items() for name in names.split()},
    }


@cache
def _alpaca_marker() -> re.Pattern[str]:
    names = "|".join(map(re.escape, _alpaca_parts()))
    return re.compile(rf"^[ \t]*###[ \t]*({names})[ \t]*[:：]", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True)
class Exchange:
    """What a cell holds: its form (empty: none that is known), and either the two texts or why there are none.

    ``roles``: who speaks, in the order of the turns, where that is why there are none.
    """

    form: str
    question: str = ""
    answer: str = ""
    problem: str = ""
    roles: tuple[str, ...] = ()


def parse_exchange(text: str) -> Exchange:
    """Take a text apart.

    Args:
        text: a rendered training text, or a list of messages as JSON.

    Returns:
        the stripped question and answer, or the problem ``not_rendered_form`` or ``several_turns``.
    """
    body = text.strip()
    for token in _BOS_TOKENS:
        body = body.removeprefix(token).lstrip()
    if body.startswith("[INST]"):
        return _llama2(body)
    if body.startswith("<|im_start|>"):
        return _chatml(body)
    if body.startswith("["):
        return _messages(body)
    return _talk(body) if _speaker().match(body) else _alpaca(body)


def is_told_of(cell: object) -> bool:
    """Tell whether a cell named "history" is the history of a patient: a plain text in which nobody speaks."""
    if not isinstance(cell, str) or cell.strip().casefold() in ("", "none", "null", "nan"):
        return False
    return parsed(cell) == cell.strip() and not _speaker().search(cell)


def _llama2(body: str) -> Exchange:
    form = "Llama 2"
    if body.count("[INST]") > 1 or body.count("[/INST]") > 1:
        return Exchange(form, problem=SEVERAL_TURNS)
    question, closed, answer = body.removeprefix("[INST]").partition("[/INST]")
    if question.lstrip().startswith("<<SYS>>"):
        _, ended, question = question.partition("<</SYS>>")
        closed = closed and ended
    return _exchange(form, question, answer) if closed else Exchange("", problem=NOT_RENDERED)


def _alpaca(body: str) -> Exchange:
    form = "Alpaca"
    _, *parts = _alpaca_marker().split(body)
    names, texts = [_alpaca_parts()[name.casefold()] for name in parts[::2]], parts[1::2]
    if names in ([_INSTRUCTION, _RESPONSE], [_INSTRUCTION, _INPUT, _RESPONSE]):
        return _exchange(form, "\n".join(filter(None, (text.strip() for text in texts[:-1]))), texts[-1])
    if names.count(_INSTRUCTION) > 1 or names.count(_RESPONSE) > 1:
        return Exchange(form, problem=SEVERAL_TURNS)
    return Exchange("", problem=NOT_RENDERED)


def _chatml(body: str) -> Exchange:
    turns = []
    for part in body.split("<|im_start|>")[1:]:
        role = _CHATML_ROLE.match(part)
        text, _, after = part[role.end() if role else 0 :].partition("<|im_end|>")
        if role is None or _without_end(after):
            return Exchange("", problem=NOT_RENDERED)
        turns.append((role[1], text))
    return _exchange_of_turns("ChatML", turns)


def _messages(body: str) -> Exchange:
    messages = parsed(body)
    if not isinstance(messages, list) or not messages:
        return Exchange("", problem=NOT_RENDERED)
    if all(isinstance(message, str) for message in messages):
        return _talk("\n".join(messages))
    turns: list[tuple[str, str]] = []
    for message in messages:
        told = _turns(message)
        if not told:
            return Exchange("", problem=NOT_RENDERED)
        turns += told
    return _exchange_of_turns("messages", turns)


def _turns(message: Any) -> list[tuple[str, str]]:
    """Return role and text of ``{role, content}`` or ``{from, value}``, or of each role of ``{human, assistant}``."""
    if not isinstance(message, Mapping):
        return []
    role = message.get("role", message.get("from"))
    content = message.get("content", message.get("value"))
    if role is None and content is None and message and all(role_of(str(key)) for key in message):
        return [(str(key), text) for key, text in message.items() if isinstance(text, str)]
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, Mapping) and part.get("type") == "text"]
        # A message with a picture, or with anything else beside text, is not taken apart.
        content = "\n".join(map(str, texts)) if len(texts) == len(content) and None not in texts else None
    return [(role, content)] if isinstance(role, str) and isinstance(content, str) else []


def _talk(body: str) -> Exchange:
    _, *parts = _speaker().split(body)
    if len(parts) == 2:
        _, *parts = _speaker(anywhere=True).split(body)
    return _exchange_of_turns("dialogue", list(zip(parts[::2], parts[1::2], strict=True)))


def _exchange_of_turns(form: str, turns: list[tuple[str, str]]) -> Exchange:
    roles = [role_of(role) for role, _ in turns]
    texts = [text for role, (_, text) in zip(roles, turns, strict=True) if role != SYSTEM]
    match [role for role in roles if role != SYSTEM]:
        case ["user", "assistant"]:
            return _exchange(form, texts[0], texts[1])
        case [_, _, _, *_] as told if all(told):
            return Exchange(form, problem=SEVERAL_TURNS)
    return Exchange("", problem=NOT_RENDERED, roles=tuple(role for role, _ in turns))


def _exchange(form: str, question: str, answer: str) -> Exchange:
    return Exchange(form, question.strip(), _without_end(answer))


def _without_end(text: str) -> str:
    text = text.strip()
    for token in _END_TOKENS:
        text = text.removesuffix(token).rstrip()
    return text
