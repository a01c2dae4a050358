"""Makes a question and an answer of the cells of each row, in every form that a table has.

Of a conversation each answer that is learned is a row, with the turns before it and with its context. What cannot be
used is handed on as unread.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from medqa_cli.data.reading import multiple_choice
from medqa_cli.data.reading.cells import (
    SEVERAL_TURNS,
    Read,
    cell_text,
    is_plain,
    json_text,
    optional_text,
    parse_exchange,
    parsed,
    read_cell,
    turns_in,
)
from medqa_cli.data.reading.shapes import Caps, CellRow, CellTable, PairTable, RawRow, TableFile, Talk, UnreadRow
from medqa_cli.data.reading.table_form import NO_INPUT, TableForm, exchange_text, first_rows, form_of_table
from medqa_cli.prompt.given import Turn
from medqa_cli.spelling import listed


def questions_and_answers(table: CellTable, file: TableFile, caps: Caps) -> PairTable:
    """Make the rows of a table.

    Args:
        table: its cells.
        file: where it is from.
        caps: how large a row may be.

    Returns:
        the same rows in the same order, each as question and answer or as unread.

    Raises:
        InputError: none of the first rows holds what the names of the columns promise; while the rows are read, one is
            too large.
    """
    rows = iter(table.rows)
    head = first_rows(rows, table.columns)
    form = form_of_table(table, [row for row in head if isinstance(row, CellRow)], file)
    columns = form.columns

    def pairs() -> Iterator[RawRow | UnreadRow]:
        for row in itertools.chain(head, rows):
            made: list[RawRow | UnreadRow]
            if isinstance(row, UnreadRow):
                made = [replace(row, question="", answer="") if columns.exchange else row]
            elif columns.turns == "reject" and columns.context is None and not columns.takes_system:
                made = [_row(row, form)]
            else:
                made = _rows_with_given(row, form)
            for pair in made:
                size = len(pair.question) + len(pair.answer)
                size += len(pair.text if isinstance(pair, UnreadRow) else pair.topic)
                if size > caps.row_bytes:
                    caps.check_row(size, f"{file}:{pair.line}" if pair.line else f"{file}, row {pair.row}")
                yield pair

    return PairTable(form.description, columns, pairs(), (*table.warnings, *form.warnings))


def _row(row: CellRow, form: TableForm) -> RawRow | UnreadRow:
    columns = form.columns
    if columns.exchange:
        text = exchange_text(row, columns)
        exchange = parse_exchange(text)
        if not exchange.problem:
            return _raw(row, form, exchange.question, exchange.answer)
        detail = f"the roles are {listed(exchange.roles)}" if exchange.roles else ""
        return UnreadRow(row.row, row.line, exchange.problem, text=text, file=form.file.member, detail=detail)
    made = _pair(row, form)
    if columns.history is None or not (turns := turns_in(row.cells[columns.history])) or isinstance(made, UnreadRow):
        return made
    detail = f"column '{columns.names[columns.history]}' holds {turns} earlier {'turn' if turns == 1 else 'turns'}"
    return replace(_unread(row, form, SEVERAL_TURNS, made.question, made.answer, detail), otherwise=made)


def _rows_with_given(row: CellRow, form: TableForm) -> list[RawRow | UnreadRow]:
    """Return the rows of a conversation, or the one of a question with its context."""
    columns = form.columns
    context = "" if columns.context is None else (optional_text(row.cells[columns.context]) or "").strip()
    if columns.exchange:
        exchange = parse_exchange(exchange_text(row, columns))
        if columns.takes_system:
            context = "\n\n".join(filter(None, (exchange.system, context)))
        if not exchange.problem:
            turns: tuple[Turn, ...] = (Turn(exchange.question, exchange.answer),)
        elif exchange.turns and columns.turns != "reject":
            turns = exchange.turns
        else:
            return [_row(row, form)]
        talk = Talk(turns, context, len(turns), exchange.is_open)
        return list(rows_of_talk(_raw(row, form, *turns[0]), talk, columns.turns))
    made = _pair(row, form)
    if isinstance(made, UnreadRow):
        return [made]
    turn = Turn(made.question, made.answer)
    earlier: tuple[Turn, ...] = ()
    if columns.history is not None and turns_in(row.cells[columns.history]):
        earlier = turns_of_history(row.cells[columns.history])
        if not earlier or columns.turns == "reject":
            (alone,) = rows_of_talk(made, Talk((turn,), context), "reject")
            rejected = _row(row, form)
            return [replace(rejected, otherwise=alone) if isinstance(rejected, UnreadRow) else rejected]
    return list(rows_of_talk(made, Talk((*earlier, turn), context, len(earlier) + 1), columns.turns))


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


def _pair(row: CellRow, form: TableForm) -> RawRow | UnreadRow:
    columns, cells = form.columns, row.cells
    asked = (columns.question,) if columns.input is None else (columns.question, columns.input)
    # Question and answer in one cell each, which nothing else has a say in.
    is_single = len(asked) == 1 and not columns.options
    if is_single and is_plain(question := cells[columns.question]) and is_plain(answer := cells[columns.answer]):
        return _raw(row, form, str(question), str(answer))
    texts: list[str] = []
    for index in asked:
        read = read_cell(cells[index])
        if read.problem:
            return _unread(row, form, "not_text", "", detail=f"column '{columns.names[index]}' holds {read.problem}")
        texts.append(read.texts[0])  # of several wordings the first
    question = texts[0]
    if len(asked) > 1:
        texts = [text for text in texts if text.strip().casefold() not in NO_INPUT]
        is_left_out = len(texts) == 2 and question.strip() == form.left_out
        question = texts[1] if is_left_out else "\n\n".join(texts)
    read = read_cell(cells[columns.answer])
    if read.problem:
        detail = f"column '{columns.names[columns.answer]}' holds {read.problem}"
        return _unread(row, form, "not_text", question, detail=detail)
    if columns.options:
        return _chosen(row, form, question, read)
    if len(read.texts) > 1 and not read.wordings:
        return _several(row, form, question, read)
    return _raw(row, form, question, read.texts[0])


def _several(row: CellRow, form: TableForm, question: str, answer: Read) -> UnreadRow:
    detail = f"column '{form.columns.names[form.columns.answer]}' holds {len(answer.texts)} texts"
    return _unread(row, form, "several_answers", question, "\n".join(answer.texts), detail)


def _chosen(row: CellRow, form: TableForm, question: str, answer: Read) -> RawRow | UnreadRow:
    """Make a row of a multiple-choice question."""
    columns, text = form.columns, answer.texts[0]
    cells = [row.cells[index] for index in columns.options]
    options = multiple_choice.read_options(cells, [columns.names[index] for index in columns.options])
    if len(answer.texts) > 1 and not answer.wordings and (form.verbatim or not options):
        return _several(row, form, question, answer)
    if not options:
        if multiple_choice.is_sign(text) and not form.verbatim:
            detail = f"column '{columns.names[columns.options[0]]}' holds no options that can be told apart"
            return _unread(row, form, "unresolved_option", question, text, detail)
        texts = [optional_text(cell) or "" for cell in cells]
        return _raw(row, form, "\n".join(filter(str.strip, [question, *texts])), text)
    cell = text if answer.wordings else row.cells[columns.answer]
    resolved = text if form.verbatim else multiple_choice.resolve(cell, options, form.first_option)
    if resolved is None and len(answer.texts) > 1 and not answer.wordings:
        return _several(row, form, question, answer)
    if resolved is None:
        detail = f"'{text[:20]}' is none of its {len(options)} options"
        return _unread(row, form, "unresolved_option", question, text, detail)
    return _raw(row, form, multiple_choice.asked_with(question, options), resolved)


def _raw(row: CellRow, form: TableForm, question: str, answer: str) -> RawRow:
    columns = form.columns
    topic, source, kind = (
        "" if index is None else optional_text(row.cells[index]) or ""
        for index in (columns.topic, columns.source, columns.kind)
    )
    file = form.file
    return RawRow(row.row, row.line, question, answer, topic, source.strip() or file.name, file.member, kind.strip())


def _unread(
    row: CellRow, form: TableForm, reason: str, question: str, answer: str | None = None, detail: str = ""
) -> UnreadRow:
    """Return a row that is not used; its text holds all cells, since the question and answer may not be all of it."""
    if answer is None:
        answer = cell_text(row.cells[form.columns.answer]) or ""
    return UnreadRow(row.row, row.line, reason, question, answer, json_text(list(row.cells)), form.file.member, detail)
