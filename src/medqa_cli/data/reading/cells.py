"""What a cell says: its text, alone, in a list or in an object; or a whole exchange, which is a rendered training text
(Llama 2, Alpaca, ChatML), messages, or a talk written down with the names of who speaks (those of ``speakers``).
"""

import ast
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from medqa_cli.data.speakers import ASSISTANT, SYSTEM, USER, role_of, roles
from medqa_cli.prompt.given import Turn
from medqa_cli.resources import load_yaml

LONGEST_LITERAL = 1_000_000  # characters; Python's parser takes some hundred times as many bytes
_NO_COMMA = re.compile(r"""['"]\s+['"]""")
# Where an object holds a text beside what is known of it: SQuAD, TriviaQA, rich text.
_TEXT_KEYS = ("text", "value", "content")

NOT_RENDERED, SEVERAL_TURNS = "not_rendered_form", "several_turns"

_BOS_TOKENS = ("<s>", "<bos>", "<|begin_of_text|>", "<|startoftext|>")
_END_TOKENS = ("</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>", "<|im_end|>", "<|eot_id|>")
_INSTRUCTION, _INPUT, _RESPONSE = "instruction", "input", "response"
_CHATML_ROLE = re.compile(r"\s*(\w+)[ \t]*\n?")


@dataclass(frozen=True)
class Read:
    """What a cell says: its texts, or none and what it holds instead (without its texts).

    ``wordings``: several texts that say the same, of which the first does; else several texts are several things.
    """

    texts: tuple[str, ...] = ()
    problem: str = ""
    wordings: bool = False


@dataclass(frozen=True)
class Exchange:
    """What a cell holds: its form (empty: none that is known), and either the two texts or why there are none.

    ``roles``: who speaks, in the order of the turns, where that is why there are none. ``turns``: of a conversation
    whose questions and answers take turns, the first question first; ``is_open``: its last question has no answer.
    ``system``: what the system messages before it say.
    """

    form: str
    question: str = ""
    answer: str = ""
    problem: str = ""
    roles: tuple[str, ...] = ()
    turns: tuple[Turn, ...] = ()
    is_open: bool = False
    system: str = ""


def cell_text(cell: object) -> str | None:
    """Return a cell as text, an empty one for null and NaN, or None where the cell is not text (a list, an object)."""
    if isinstance(cell, str):
        return cell
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, bytes):
        # Bytes that are no UTF-8 become lone surrogates, for which the row is rejected later.
        return cell.decode("utf-8", "surrogateescape")
    if isinstance(cell, list | tuple | Mapping | set):
        return None
    return str(cell)


def json_text(value: object) -> str:
    """Return any value as JSON, as far as that can be: what has no form in JSON as its own text."""
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:
        # The parser gets a few levels deeper than the writer does.
        return "nested too deeply to be shown"


def is_plain(cell: object) -> bool:
    """Tell whether a cell is a text that does not write down a list."""
    return isinstance(cell, str) and not cell.startswith(("['", '["'))


def read_cell(cell: object) -> Read:
    """Return the texts of a cell: those of a list, also of one written as text, and the one of ``{"text": ...}``.

    Args:
        cell: any cell.

    Returns:
        one text (which may be empty), several, or a problem.
    """
    if isinstance(cell, str) and not is_plain(cell) and isinstance(value := parsed(cell), list):
        cell = value
    text = cell_text(cell)
    if text is not None:
        return Read((text,))
    try:
        if isinstance(cell, Mapping):
            key = next((key for key in _TEXT_KEYS if key in cell), None)
            if key is None:
                return Read(problem=shape(cell))
            inner = read_cell(cell[key])
            # SQuAD: the spans that several annotators marked answer one question.
            return Read(inner.texts, inner.problem, wordings=inner.wordings or "answer_start" in cell)
        reads = [read_cell(item) for item in cell] if isinstance(cell, list | tuple | set) else []
        if any(read.problem for read in reads):
            return Read(problem=shape(cell))
        texts = tuple(dict.fromkeys(text for read in reads for text in read.texts if text.strip()))
        return Read(texts or ("",), wordings=bool(reads) and all(read.wordings for read in reads))
    except RecursionError:
        return Read(problem="lists in lists")


def parsed(text: str) -> object:
    """Return the list or object that a text writes down, as JSON or as Python prints it; else the text itself."""
    text = text.strip()
    if text[:1] + text[-1:] not in ("[]", "{}") or len(text) > LONGEST_LITERAL:
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    # numpy prints no commas, and Python reads 'a' 'b' as one text.
    if _NO_COMMA.search(text):
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return text


def shape(cell: object) -> str:
    """Return what kind of thing a cell is, without its texts, for messages."""
    if isinstance(cell, Mapping):
        keys = ", ".join(f"'{str(key)[:20]}'" for key in list(cell)[:5])
        return f"an object with the keys {keys}" if keys else "an empty object"
    if isinstance(cell, list | tuple | set):
        kinds = {
            "text" if isinstance(item, str) else "object" if isinstance(item, Mapping) else "other" for item in cell
        }
        what = f"{kinds.pop()}s" if len(kinds) == 1 else "different things"
        return f"a list of {len(cell)} {what.replace('others', 'numbers or lists')}"
    return type(cell).__name__


def optional_text(cell: object) -> str | None:
    """Return what an optional column says: a text, a list of texts with commas between; None for anything else."""
    text = cell_text(cell)
    if text is not None:
        return text
    if isinstance(cell, Mapping):
        return None
    items = [optional_text(item) for item in cell] if isinstance(cell, list | tuple | set) else [None]
    return None if None in items else ", ".join(item.strip() for item in items if item and item.strip())


def turns_in(cell: object) -> int:
    """Return how many earlier turns a history holds: 0 for nothing, and for lists, also written down, of nothing."""
    if isinstance(cell, str):
        value = parsed(cell)
        if isinstance(value, str):
            return 0 if value.strip().casefold() in ("", "none", "null", "nan") else 1
        cell = value
    if isinstance(cell, Mapping):
        return int(any(turns_in(item) for item in cell.values()))
    if isinstance(cell, Sequence) and not isinstance(cell, bytes):
        return sum(bool(turns_in(item)) for item in cell)
    return 1 if (cell_text(cell) or "").strip() else 0


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


@cache
def _speaker(*, anywhere: bool = False) -> re.Pattern[str]:
    """Match ``Patient:`` at the start of a line or behind a sentence, or also behind any word."""
    names = "|".join(re.escape(name) for name in sorted(roles(), key=len, reverse=True))
    before = r"(?<=\s)" if anywhere else r"(?<=[\n.!?。！？…।؟\"”)])"
    return re.compile(rf"(?:^|{before})\s*\*{{0,2}}({names})\s*\*{{0,2}}\s*[:：]\*{{0,2}}", re.IGNORECASE)


@cache
def _alpaca_headings() -> tuple[re.Pattern[str], Mapping[str, str]]:
    """Match Alpaca's headings, and tell what follows each of them, folded."""
    of_role = {USER: _INSTRUCTION, ASSISTANT: _RESPONSE}
    table: dict[str, str] = load_yaml("speakers")["alpaca"]
    parts = {name: of_role[role] for name, role in roles().items() if role in of_role}
    parts |= {name: part for part, names in table.items() for name in names.split()}
    marker = rf"^[ \t]*###[ \t]*({'|'.join(map(re.escape, parts))})[ \t]*[:：]"
    return re.compile(marker, re.MULTILINE | re.IGNORECASE), parts


def _llama2(body: str) -> Exchange:
    form = "Llama 2"
    if body.count("[INST]") > 1 or body.count("[/INST]") > 1:
        turns: list[tuple[str, str]] = []
        for part in body.split("[INST]")[1:]:
            question, closed, answer = part.partition("[/INST]")
            if not turns and question.lstrip().startswith("<<SYS>>"):
                system, _, question = question.partition("<</SYS>>")
                turns.append((SYSTEM, system.replace("<<SYS>>", "", 1)))
            turns.append((USER, question))  # what is not closed is the last question
            for token in (*_BOS_TOKENS, *_END_TOKENS):
                answer = answer.strip().removesuffix(token)
            if closed and answer.strip():
                turns.append((ASSISTANT, answer))
        return _exchange_of_several(form, turns)
    question, closed, answer = body.removeprefix("[INST]").partition("[/INST]")
    if question.lstrip().startswith("<<SYS>>"):
        _, ended, question = question.partition("<</SYS>>")
        closed = closed and ended
    return _exchange(form, question, answer) if closed else Exchange("", problem=NOT_RENDERED)


def _alpaca(body: str) -> Exchange:
    form = "Alpaca"
    marker, part_of = _alpaca_headings()
    _, *parts = marker.split(body)
    names, texts = [part_of[name.casefold()] for name in parts[::2]], parts[1::2]
    if names in ([_INSTRUCTION, _RESPONSE], [_INSTRUCTION, _INPUT, _RESPONSE]):
        return _exchange(form, "\n".join(filter(None, (text.strip() for text in texts[:-1]))), texts[-1])
    if names.count(_INSTRUCTION) > 1 or names.count(_RESPONSE) > 1:
        turns: list[tuple[str, str]] = []
        for name, text in zip(names, texts, strict=True):
            if name == _INPUT and turns and turns[-1][0] == USER:
                turns[-1] = (USER, "\n".join(filter(None, (turns[-1][1].strip(), text.strip()))))
            else:
                turns.append((ASSISTANT if name == _RESPONSE else USER, text))
        return _exchange_of_several(form, turns)
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
        parts = _turns(message)
        if not parts:
            return Exchange("", problem=NOT_RENDERED)
        turns += parts
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
    said = [(role, text) for role, (_, text) in zip(roles, turns, strict=True) if role != SYSTEM]
    num_before = len(turns) - len(said) if SYSTEM not in roles[len(turns) - len(said) :] else 0
    system = "\n\n".join(text.strip() for _, text in turns[:num_before] if text.strip())
    match [role for role, _ in said]:
        case ["user", "assistant"]:
            return replace(_exchange(form, said[0][1], said[1][1]), system=system)
        case [_, _, _, *_] as told if all(told):
            exchange = Exchange(form, problem=SEVERAL_TURNS, system=system)
            in_turn = told == [USER, ASSISTANT] * (len(told) // 2) + [USER] * (len(told) % 2)
            if not in_turn or roles[num_before:].count(SYSTEM):
                return exchange
            texts = [text.strip() if role == USER else _without_end(text) for role, text in said]
            pairs = tuple(Turn(*pair) for pair in zip(texts[::2], texts[1::2], strict=False))
            return replace(exchange, turns=pairs, is_open=len(texts) % 2 == 1)
    return Exchange("", problem=NOT_RENDERED, roles=tuple(role for role, _ in turns))


def _exchange_of_several(form: str, turns: list[tuple[str, str]]) -> Exchange:
    exchange = _exchange_of_turns(form, turns)
    return exchange if exchange.turns else Exchange(form, problem=SEVERAL_TURNS)


def _exchange(form: str, question: str, answer: str) -> Exchange:
    return Exchange(form, question.strip(), _without_end(answer))


def _without_end(text: str) -> str:
    text = text.strip()
    for token in _END_TOKENS:
        text = text.removesuffix(token).rstrip()
    return text
