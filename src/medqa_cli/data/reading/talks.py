"""Rows of a conversation: each answer that is learned, with the turns before it and with its context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from medqa_cli.data.reading.cells import cell_text, json_text, parse_exchange, parsed
from medqa_cli.data.reading.rows import RawRow, Talk
from medqa_cli.prompt.given import Turn


def rows_of_talk(row: RawRow, talk: Talk, turns: str) -> list[RawRow]:
    """Return a row for each answer of a conversation that is learned.

    Args:
        row: its place, topic and source; a question without more stays as it is.
        talk: all of its turns.
        turns: as of ``data.turns``; ``reject`` for a question with a context.
    """
    if turns == "first":
        talk = replace(talk, turns=talk.turns[:1])
    if talk.said == 1 and not talk.context and not talk.is_open:
        return [row]
    last = len(talk.turns) - 1
    return [
        replace(row, question=turn.question, answer=turn.answer, talk=talk, turn=number)
        for number, turn in enumerate(talk.turns)
        if number == last or turns == "all"
    ]


def turns_of_history(cell: object) -> tuple[Turn, ...]:
    """Return the turns that a history holds: messages, or a list of pairs of a question and its answer.

    Args:
        cell: the cell of a row; a list may be written down as text.

    Returns:
        the earliest first; empty where it is neither, or the last question has no answer.
    """
    value = parsed(cell) if isinstance(cell, str) else cell
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return ()
    pairs = [list(item) if isinstance(item, list | tuple) else item for item in value]
    if all(isinstance(item, list) and len(item) == 2 for item in pairs):
        texts = [[cell_text(part) for part in pair] for pair in pairs]
        if all(text is not None for pair in texts for text in pair):
            return tuple(Turn(str(question).strip(), str(answer).strip()) for question, answer in texts)
    if not all(isinstance(item, Mapping) for item in pairs):
        return ()
    exchange = parse_exchange(json_text(pairs))
    if exchange.form and not exchange.problem:
        return (Turn(exchange.question, exchange.answer),)
    return () if exchange.is_open else exchange.turns
