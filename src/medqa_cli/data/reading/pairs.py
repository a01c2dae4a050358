"""Makes a question and an answer of the cells of each row, in every form that a table has: two columns, Alpaca's three,
options and the right one, or one column that holds a whole exchange.

A row that holds more than one question and one answer is handed on as unread.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
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
    read_cell,
    turns_in,
)
from medqa_cli.data.reading.rows import CellRow, CellTable, Columns, RawRow, Table, TableFile, UnreadRow
from medqa_cli.data.reading.table_form import NO_INPUT, Form, exchange_text, find_form
from medqa_cli.spelling import listed

ROWS_LOOKED_AT = 1000  # of the first rows, to tell what a form means
ROWS_READ_ON = 100_000  # of a table of options whose numbers tell too little so far
ROWS_FOR_FORM = 100  # none of so many rows in a known form: the column is ordinary text


def questions_and_answers(table: CellTable, file: TableFile) -> Table:
    """Make the rows of a table.

    Args:
        table: its cells.
        file: where it is from.

    Returns:
        the same rows in the same order, each as question and answer or as unread.

    Raises:
        InputError: none of the first rows holds what the names of the columns promise.
    """
    rows = iter(table.rows)
    looks_far = table.columns.input is not None or bool(table.columns.options)
    head = list(itertools.islice(rows, ROWS_LOOKED_AT if looks_far else ROWS_FOR_FORM))
    last = head
    # Numbers of options: read on until one tells whether they count from 0 or from 1.
    while last and len(head) < ROWS_READ_ON and table.columns.options and not _tell_numbering(last, table.columns):
        last = list(itertools.islice(rows, ROWS_LOOKED_AT))
        head += last
    form = find_form(table.columns, [row for row in head if isinstance(row, CellRow)], file)
    return Table(
        table.description + form.description,
        form.columns,
        _made(itertools.chain(head, rows), form),
        (*table.warnings, *form.warnings),
    )


def _tell_numbering(rows: Iterable[CellRow | UnreadRow], columns: Columns) -> bool:
    try:
        multiple_choice.first_number(
            multiple_choice.choices_in(columns, columns.answer, [row for row in rows if isinstance(row, CellRow)])
        )
    except ValueError:
        return False
    return True


def _made(rows: Iterable[CellRow | UnreadRow], form: Form) -> Iterator[RawRow | UnreadRow]:
    make = _taken_apart if form.columns.exchange else _row
    for row in rows:
        if isinstance(row, CellRow):
            yield make(row, form)
        else:
            yield replace(row, question="", answer="") if form.columns.exchange else row


def _row(row: CellRow, form: Form) -> RawRow | UnreadRow:
    columns = form.columns
    made = _pair(row, form)
    if columns.history is None or not (turns := turns_in(row.cells[columns.history])) or isinstance(made, UnreadRow):
        return made
    detail = f"column '{columns.names[columns.history]}' holds {turns} earlier {'turn' if turns == 1 else 'turns'}"
    return replace(_unread(row, form, SEVERAL_TURNS, made.question, made.answer, detail), otherwise=made)


def _pair(row: CellRow, form: Form) -> RawRow | UnreadRow:
    columns, cells = form.columns, row.cells
    if form.is_plain and is_plain(asked := cells[columns.question]) and is_plain(told := cells[columns.answer]):
        return _raw(row, form, str(asked), str(told))
    (question, problem), answer = _question(cells, form), read_cell(cells[columns.answer])
    if problem:
        return _unread(row, form, "not_text", "", detail=problem)
    if answer.problem:
        detail = f"column '{columns.names[columns.answer]}' holds {answer.problem}"
        return _unread(row, form, "not_text", question, detail=detail)
    text = answer.texts[0]
    if columns.options:
        return _chosen(row, form, question, answer)
    if len(answer.texts) > 1 and not answer.wordings:
        return _several(row, form, question, answer)
    return _raw(row, form, question, text)


def _several(row: CellRow, form: Form, question: str, answer: Read) -> UnreadRow:
    detail = f"column '{form.columns.names[form.columns.answer]}' holds {len(answer.texts)} texts"
    return _unread(row, form, "several_answers", question, "\n".join(answer.texts), detail)


def _chosen(row: CellRow, form: Form, question: str, answer: Read) -> RawRow | UnreadRow:
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
        told = [optional_text(cell) or "" for cell in cells]
        return _raw(row, form, "\n".join(filter(str.strip, [question, *told])), text)
    cell = text if answer.wordings else row.cells[columns.answer]
    resolved = text if form.verbatim else multiple_choice.resolve(cell, options, form.first_option)
    if resolved is None and len(answer.texts) > 1 and not answer.wordings:
        return _several(row, form, question, answer)
    if resolved is None:
        detail = f"'{text[:20]}' is none of its {len(options)} options"
        return _unread(row, form, "unresolved_option", question, text, detail)
    return _raw(row, form, multiple_choice.asked_with(question, options), resolved)


def _question(cells: Sequence[object], form: Form) -> tuple[str, str]:
    """Return the question, and why it is none (empty: it is one).

    Of several wordings of it the first, of an instruction and its input both.
    """
    columns = form.columns
    texts: list[str] = []
    for index in (columns.question, *(() if columns.input is None else (columns.input,))):
        read = read_cell(cells[index])
        if read.problem:
            return "", f"column '{columns.names[index]}' holds {read.problem}"
        texts.append(read.texts[0])
    if columns.input is None:
        return texts[0], ""
    parts = [part for part in texts if part.strip().casefold() not in NO_INPUT]
    if len(parts) == 2 and texts[0].strip() == form.left_out:
        return parts[1], ""
    return "\n\n".join(parts), ""


def _raw(row: CellRow, form: Form, question: str, answer: str) -> RawRow:
    columns = form.columns
    topic, source, kind = (
        "" if index is None else optional_text(row.cells[index]) or ""
        for index in (columns.topic, columns.source, columns.kind)
    )
    file = form.file
    return RawRow(row.row, row.line, question, answer, topic, source.strip() or file.name, file.member, kind.strip())


def _unread(
    row: CellRow, form: Form, reason: str, question: str, answer: str | None = None, detail: str = ""
) -> UnreadRow:
    """Return a row that is not used; its text holds all cells, since the question and answer may not be all of it."""
    if answer is None:
        answer = cell_text(row.cells[form.columns.answer]) or ""
    return UnreadRow(row.row, row.line, reason, question, answer, json_text(list(row.cells)), form.file.member, detail)


def _taken_apart(row: CellRow, form: Form) -> RawRow | UnreadRow:
    """Make a row of a cell that holds both texts."""
    text = exchange_text(row, form.columns)
    found = parse_exchange(text)
    if found.problem:
        detail = f"the roles are {listed(found.roles)}" if found.roles else ""
        return UnreadRow(row.row, row.line, found.problem, text=text, file=form.file.member, detail=detail)
    return _raw(row, form, found.question, found.answer)
