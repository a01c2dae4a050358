"""Makes a question and an answer of the cells of each row, in every form that a table has: two columns, Alpaca's three,
options and the right one, or one column that holds a whole exchange.

Does not judge the texts. A row that holds more than one question and one answer is handed on as unread.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from medqa_cli.data.reading.cells import cell_text, is_plain, json_text, optional_text, read_cell, shape, turns_in
from medqa_cli.data.reading.choices import (
    Option,
    asked_with,
    first_number,
    is_sign,
    names_an_option,
    read_options,
    resolve,
)
from medqa_cli.data.reading.column_hints import missing_column
from medqa_cli.data.reading.columns import Columns
from medqa_cli.data.reading.exchanges import SEVERAL_TURNS, is_told_of, parse_exchange
from medqa_cli.data.reading.rows import CellRow, CellTable, RawRow, Table, TableFile, UnreadRow
from medqa_cli.errors import InputError

ROWS_LOOKED_AT = 1000  # of the first rows, to tell what a form means
ROWS_FOR_FORM = 100  # none of so many rows in a known form: the column is ordinary text
LONGEST_SHOWN = 80
_NO_INPUT = frozenset({"", "<noinput>", "no input", "nan", "none", "null", "n/a"})


@dataclass(frozen=True)
class _Form:
    """What holds for all rows of a table.

    ``left_out``: the instruction that stands in every row beside an input, and so tells no question from another.
    ``first_option``: what ``choices.resolve`` calls first.
    """

    columns: Columns
    file: TableFile
    left_out: str | None = None
    first_option: int | None = 1

    @property
    def is_plain(self) -> bool:
        """Whether question and answer are one cell each, which nothing else has a say in."""
        return self.columns.input is None and not self.columns.options


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
    columns = table.columns
    looks_far = columns.input is not None or bool(columns.options)
    head = list(itertools.islice(rows, ROWS_LOOKED_AT if looks_far else ROWS_FOR_FORM))
    first = [row for row in head if isinstance(row, CellRow)]
    columns = _really_used(columns, first)
    description, warnings = table.description, columns.warnings()
    form = _Form(columns, file)
    if columns.exchange:
        name = columns.names[columns.question]
        description = f"{description}; column '{name}' taken apart ({_exchange_form(first, form)} form)"
    if columns.input is not None:
        form = replace(form, left_out=_left_out(first, columns))
        warnings += _told_of_input(form, first)
    if columns.options:
        form = replace(form, first_option=_first_option(first, form))
        warnings.append(_told_of_options(columns))
    warnings += _told_of_cells(first, columns)
    return Table(description, columns, _made(itertools.chain(head, rows), form), tuple(warnings))


def _really_used(columns: Columns, first: Sequence[CellRow]) -> Columns:
    """Return the columns without those whose cells are not what their names promise."""
    if columns.history is not None and any(is_told_of(row.cells[columns.history]) for row in first):
        # What is told of a patient is no earlier turn.
        columns = replace(columns, history=None)
    choices = _choices(columns, first)
    all_empty = not any(cell_text(row.cells[index]) != "" for row in first for index in columns.options)
    by_letter = len(columns.options) > 1 and all(len(columns.names[index].strip()) == 1 for index in columns.options)
    if all_empty or (by_letter and not any(names_an_option(answer, options) for answer, options in choices)):
        return replace(columns, options=())
    return columns


def _choices(columns: Columns, rows: Sequence[CellRow]) -> list[tuple[object, list[Option]]]:
    """Return answer and options of those rows that have options."""
    names = [columns.names[index] for index in columns.options]
    found = [
        (row.cells[columns.answer], read_options([row.cells[index] for index in columns.options], names))
        for row in (rows if names else ())
    ]
    return [(answer, options) for answer, options in found if options]


def _made(rows: Iterable[CellRow | UnreadRow], form: _Form) -> Iterator[RawRow | UnreadRow]:
    make = _taken_apart if form.columns.exchange else _row
    for row in rows:
        if isinstance(row, CellRow):
            yield make(row, form)
        else:
            yield replace(row, question="", answer="") if form.columns.exchange else row


def _row(row: CellRow, form: _Form) -> RawRow | UnreadRow:
    columns = form.columns
    made = _pair(row, form)
    if columns.history is None or not (turns := turns_in(row.cells[columns.history])) or isinstance(made, UnreadRow):
        return made
    detail = f"column '{columns.names[columns.history]}' holds {turns} earlier {'turn' if turns == 1 else 'turns'}"
    return replace(_unread(row, form, SEVERAL_TURNS, made.question, made.answer, detail), otherwise=made)


def _pair(row: CellRow, form: _Form) -> RawRow | UnreadRow:
    columns, cells = form.columns, row.cells
    if form.is_plain and is_plain(asked := cells[columns.question]) and is_plain(told := cells[columns.answer]):
        return _raw(row, form, str(asked), str(told))
    question, answer = _question(cells, form), read_cell(cells[columns.answer])
    if question.problem:
        return _unread(row, form, "not_text", "", detail=question.problem)
    if answer.problem:
        detail = f"column '{columns.names[columns.answer]}' holds {answer.problem}"
        return _unread(row, form, "not_text", question.text, detail=detail)
    text = answer.texts[0]
    if columns.options:
        return _chosen(row, form, question.text, text)
    if len(answer.texts) > 1 and not answer.wordings:
        detail = f"column '{columns.names[columns.answer]}' holds {len(answer.texts)} texts"
        return _unread(row, form, "several_answers", question.text, "\n".join(answer.texts), detail)
    return _raw(row, form, question.text, text)


def _chosen(row: CellRow, form: _Form, question: str, answer: str) -> RawRow | UnreadRow:
    """Make a row of a multiple-choice question."""
    columns = form.columns
    cells = [row.cells[index] for index in columns.options]
    options = read_options(cells, [columns.names[index] for index in columns.options])
    if not options:
        if is_sign(answer):
            detail = f"column '{columns.names[columns.options[0]]}' holds no options that can be told apart"
            return _unread(row, form, "unresolved_option", question, answer, detail)
        told = [optional_text(cell) or "" for cell in cells]
        return _raw(row, form, "\n".join(filter(str.strip, [question, *told])), answer)
    resolved = resolve(answer, options, form.first_option)
    if resolved is None:
        detail = f"'{answer[:20]}' is none of its {len(options)} options"
        return _unread(row, form, "unresolved_option", question, answer, detail)
    return _raw(row, form, asked_with(question, options), resolved)


@dataclass(frozen=True)
class _Question:
    text: str = ""
    problem: str = ""


def _question(cells: Sequence[object], form: _Form) -> _Question:
    """Return the question; of several wordings of it the first, of an instruction and its input both."""
    columns = form.columns
    read = read_cell(cells[columns.question])
    if read.problem:
        return _Question(problem=f"column '{columns.names[columns.question]}' holds {read.problem}")
    text = read.texts[0]
    if columns.input is None:
        return _Question(text)
    after = read_cell(cells[columns.input])
    if after.problem:
        return _Question(problem=f"column '{columns.names[columns.input]}' holds {after.problem}")
    parts = [part for part in (text, after.texts[0]) if part.strip().casefold() not in _NO_INPUT]
    if len(parts) == 2 and text.strip() == form.left_out:
        return _Question(parts[1])
    return _Question("\n\n".join(parts))


def _raw(row: CellRow, form: _Form, question: str, answer: str) -> RawRow:
    columns = form.columns
    topic, source, kind = (
        "" if index is None else optional_text(row.cells[index]) or ""
        for index in (columns.topic, columns.source, columns.kind)
    )
    file = form.file
    return RawRow(row.row, row.line, question, answer, topic, source.strip() or file.name, file.member, kind.strip())


def _unread(
    row: CellRow, form: _Form, reason: str, question: str, answer: str | None = None, detail: str = ""
) -> UnreadRow:
    """Return a row that is not used; its text holds all cells, since the question and answer may not be all of it."""
    if answer is None:
        answer = cell_text(row.cells[form.columns.answer]) or ""
    return UnreadRow(row.row, row.line, reason, question, answer, json_text(list(row.cells)), form.file.member, detail)


def _taken_apart(row: CellRow, form: _Form) -> RawRow | UnreadRow:
    """Make a row of a cell that holds both texts."""
    text = _exchange_text(row, form)
    found = parse_exchange(text)
    if found.problem:
        return UnreadRow(row.row, row.line, found.problem, text=text, file=form.file.member)
    return _raw(row, form, found.question, found.answer)


def _exchange_text(row: CellRow, form: _Form) -> str:
    cell = row.cells[form.columns.question]
    text = cell_text(cell)
    return json_text(cell) if text is None else text


def _exchange_form(first: Sequence[CellRow], form: _Form) -> str:
    """Return the form of the first cell that has a known one."""
    name = next(filter(None, (parse_exchange(_exchange_text(row, form)).form for row in first)), "")
    if first and not name:
        columns = form.columns
        why = (
            f"; '{columns.names[columns.question]}' does not hold questions and answers in the form of Llama 2, "
            "Alpaca, ChatML, messages or a dialogue"
        )
        raise missing_column(["question"], columns.names, form.file, why)
    return name or "no"


def _left_out(first: Sequence[CellRow], columns: Columns) -> str | None:
    """Return the instruction where all rows have the same, each beside an input."""
    if columns.input is None:
        return None
    texts = [[cell_text(row.cells[index]) for index in (columns.question, columns.input)] for row in first]
    if len(texts) < 2 or not all(text and after and after.strip().casefold() not in _NO_INPUT for text, after in texts):
        return None
    instructions = {(text or "").strip() for text, _ in texts}
    return instructions.pop() if len(instructions) == 1 else None


def _told_of_input(form: _Form, first: Sequence[CellRow]) -> list[str]:
    columns = form.columns
    if columns.input is None or not first:
        return []
    instruction, after = columns.names[columns.question], columns.names[columns.input]
    if form.left_out is None:
        return []
    shown = form.left_out if len(form.left_out) <= LONGEST_SHOWN else f"{form.left_out[:LONGEST_SHOWN]}..."
    return [
        f"the question is column '{after}': column '{instruction}' holds the same text in each of the first "
        f"{len(first):,} rows and is left out, as nobody will type it ({shown!r}; to put it before each question, set "
        "prompt.system to it)"
    ]


def _first_option(first: Sequence[CellRow], form: _Form) -> int | None:
    columns = form.columns
    try:
        return first_number(_choices(columns, first))
    except ValueError as error:
        raise InputError(
            f"{form.file}: column '{columns.names[columns.answer]}' numbers the options of multiple-choice questions, "
            f"but it cannot be told whether from 0 or from 1: {error}",
            "write letters (A, B, ...) or the texts of the options into it",
        ) from error


def _told_of_options(columns: Columns) -> str:
    names = " ".join(f"'{columns.names[index]}'" for index in columns.options)
    return (
        f"multiple-choice questions: the options ({names}) are put behind each question, and the answer is the text of "
        f"the option that column '{columns.names[columns.answer]}' names"
    )


def _told_of_cells(first: Sequence[CellRow], columns: Columns) -> list[str]:
    """Return what the first rows show: an optional column without texts, answers that are signs only."""
    warnings = []
    for index in (columns.topic, columns.source, columns.kind):
        if index is not None:
            shapes = Counter(shape(row.cells[index]) for row in first if optional_text(row.cells[index]) is None)
            if shapes:
                warnings.append(
                    f"column '{columns.names[index]}' is ignored where it holds {shapes.most_common(1)[0][0]}"
                )
    if not columns.exchange and not columns.options:
        signs = sum(is_sign(row.cells[columns.answer]) for row in first)
        if signs > 1 and 2 * signs > len(first):
            warnings.append(
                f"column '{columns.names[columns.answer]}' holds single letters ({signs} of the first {len(first)} "
                "rows), as of multiple-choice questions, but no column of options is found: name them A, B, C, ... or "
                "'options'"
            )
    questions = [read_cell(row.cells[columns.question]) for row in first]
    several = sum(len(read.texts) > 1 for read in questions)
    if several and not columns.exchange:
        warnings.append(
            f"column '{columns.names[columns.question]}' holds several wordings of a question "
            f"({several} of the first {len(first)} rows): the first of each is taken"
        )
    return warnings
