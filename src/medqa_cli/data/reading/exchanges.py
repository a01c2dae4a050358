"""Takes a question and its answer out of one cell: a rendered training text (Llama 2, Alpaca, ChatML) or messages.

Does not keep system texts, and does not choose among several turns: such a row is handed on as unread.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from medqa_cli.data.reading.columns import missing_column
from medqa_cli.data.reading.rows import RawRow, Rows, Table, TableFile, UnreadRow

ROWS_FOR_FORM = 100  # none of so many rows in a known form: the column is ordinary text
NOT_RENDERED, SEVERAL_TURNS = "not_rendered_form", "several_turns"

_BOS_TOKENS = ("<s>", "<bos>", "<|begin_of_text|>", "<|startoftext|>")
_END_TOKENS = ("</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>", "<|im_end|>", "<|eot_id|>")
_ALPACA_MARKER = re.compile(r"^[ \t]*###[ \t]*(Instruction|Input|Response)[ \t]*:", re.MULTILINE)
_CHATML_ROLE = re.compile(r"\s*(\w+)[ \t]*\n?")
_ROLES = {
    **dict.fromkeys(("user", "human", "prompter", "question"), "user"),
    **dict.fromkeys(("assistant", "gpt", "bot", "model", "answer"), "assistant"),
    "system": "system",
}


@dataclass(frozen=True)
class Exchange:
    """What a cell holds: its form (empty: none that is known), and either the two texts or why there are none."""

    form: str
    question: str = ""
    answer: str = ""
    problem: str = ""


def split_exchange_column(table: Table, file: TableFile) -> Table:
    """Make questions and answers of a table whose one column holds both; return any other table as it is.

    Raises:
        InputError: none of the first rows has a known form, so there is no question column after all.
    """
    if not table.columns.exchange:
        return table
    head = list(itertools.islice(table.rows, ROWS_FOR_FORM))
    name = table.columns.names[table.columns.question]
    forms = (parse_exchange(row.question).form for row in head if isinstance(row, RawRow))
    form = next(filter(None, forms), "")
    if head and not form:
        why = f"; '{name}' does not hold questions and answers in the form of Llama 2, Alpaca, ChatML or messages"
        raise missing_column("question", table.columns.names, file, why)
    description = f"{table.description}; column '{name}' taken apart ({form} form)"
    return Table(description, table.columns, _split(itertools.chain(head, table.rows)))


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
    return _alpaca(body)


def _split(rows: Iterable[RawRow | UnreadRow]) -> Rows:
    for row in rows:
        if isinstance(row, UnreadRow):
            yield replace(row, question="", answer="")
            continue
        found = parse_exchange(row.question)
        if found.problem:
            yield UnreadRow(row.row, row.line, found.problem, text=row.question, file=row.file)
        else:
            yield replace(row, question=found.question, answer=found.answer)


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
    _, *parts = _ALPACA_MARKER.split(body)
    names, texts = parts[::2], parts[1::2]
    if names in (["Instruction", "Response"], ["Instruction", "Input", "Response"]):
        return _exchange(form, "\n".join(filter(None, (text.strip() for text in texts[:-1]))), texts[-1])
    if names.count("Instruction") > 1 or names.count("Response") > 1:
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
    try:
        messages = json.loads(body)
    except (ValueError, RecursionError):
        return Exchange("", problem=NOT_RENDERED)
    turns = [_turn(message) for message in messages]
    known = [turn for turn in turns if turn is not None]
    if len(known) < len(turns):
        return Exchange("", problem=NOT_RENDERED)
    return _exchange_of_turns("messages", known)


def _turn(message: Any) -> tuple[str, str] | None:
    """Return role and text of ``{role, content}`` or ``{from, value}``; a content of text parts is joined."""
    if not isinstance(message, Mapping):
        return None
    role = message.get("role", message.get("from"))
    content = message.get("content", message.get("value"))
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, Mapping) and part.get("type") == "text"]
        # A message with a picture, or with anything else beside text, is not taken apart.
        content = "\n".join(map(str, texts)) if len(texts) == len(content) and None not in texts else None
    return (role, content) if isinstance(role, str) and isinstance(content, str) else None


def _exchange_of_turns(form: str, turns: list[tuple[str, str]]) -> Exchange:
    roles = [_ROLES.get(role.lower(), "") for role, _ in turns]
    texts = [text for role, (_, text) in zip(roles, turns, strict=True) if role != "system"]
    match [role for role in roles if role != "system"]:
        case ["user", "assistant"]:
            return _exchange(form, texts[0], texts[1])
        case ["user", "assistant", *_]:
            return Exchange(form, problem=SEVERAL_TURNS)
    return Exchange("", problem=NOT_RENDERED)


def _exchange(form: str, question: str, answer: str) -> Exchange:
    return Exchange(form, question.strip(), _without_end(answer))


def _without_end(text: str) -> str:
    text = text.strip()
    for token in _END_TOKENS:
        text = text.removesuffix(token).rstrip()
    return text
