"""Makes a question and an answer of the cells of each row, in every form that a table has: two columns, Alpaca's three,
options and the right one, or one column that holds a whole exchange.

Does not judge the texts. A row that holds more than one question and one answer is handed on as unread.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from medqa_cli.data.reading.cells import Read, cell_text, is_plain, json_text, optional_text, read_cell, turns_in
from medqa_cli.data.reading.chat_formats import SEVERAL_TURNS, parse_exchange
from medqa_cli.data.reading.choices import (
    asked_with,
    first_number,
    is_sign,
    names_an_option,
    names_by_sign,
    read_options,
    resolve,
)
from medqa_cli.data.reading.columns import missing_column, unused_warnings
from medqa_cli.data.reading.first_rows import NO_INPUT, choices_in, really_used, told_of_cells
from medqa_cli.data.reading.rows import CellRow, CellTable, Columns, RawRow, Table, TableFile, UnreadRow
from medqa_cli.data.wording import listed
from medqa_cli.errors import InputError

ROWS_LOOKED_AT = 1000  # of the first rows, to tell what a form means
ROWS_FOR_FORM = 100  # none of so many rows in a known form: the column is ordinary text
LONGEST_SHOWN = 80


@dataclass(frozen=True)
class _Form:
    """What holds for all rows of a table.

    ``left_out``: the instruction that stands in every row beside an input, and so tells no question from another.
    ``first_option``: what ``choices.resolve`` calls first. ``verbatim``: the answer is no sign for an option.
    """

    columns: Columns
    file: TableFile
    left_out: str | None = None
    first_option: int | None = 1
    verbatim: bool = False

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
    columns = really_used(columns, first)
    description, warnings = table.description, unused_warnings(columns)
    form = _Form(columns, file)
    if columns.exchange:
        name = columns.names[columns.question]
        description = f"{description}; column '{name}' taken apart ({_exchange_form(first, form)} form)"
    if columns.input is not None:
        form = replace(form, left_out=_left_out(first, columns))
        warnings += _told_of_input(form, first)
    if columns.options:
        answers = choices_in(columns, columns.answer, first)
        named = sum(names_an_option(answer, options) for answer, options in answers)
        signs = sum(names_by_sign(answer, options) for answer, options in answers)
        # Beside a column of signs a second one holds nothing else.
        by_sign = 2 * signs > len(answers) if columns.correct is None else signs == len(answers)
        form = replace(form, verbatim=columns.answer_is_named and not by_sign)
        if not form.verbatim:
            form = replace(form, first_option=_first_option(first, form))
        warnings.append(_told_of_options(columns, by_sign=named > 0 and not form.verbatim))
    warnings += told_of_cells(first, columns)
    return Table(description, columns, _made(itertools.chain(head, rows), form), (*table.warnings, *warnings))


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
        return _chosen(row, form, question.text, answer)
    if len(answer.texts) > 1 and not answer.wordings:
        return _several(row, form, question.text, answer)
    return _raw(row, form, question.text, text)


def _several(row: CellRow, form: _Form, question: str, answer: Read) -> UnreadRow:
    detail = f"column '{form.columns.names[form.columns.answer]}' holds {len(answer.texts)} texts"
    return _unread(row, form, "several_answers", question, "\n".join(answer.texts), detail)


def _chosen(row: CellRow, form: _Form, question: str, answer: Read) -> RawRow | UnreadRow:
    """Make a row of a multiple-choice question."""
    columns, text = form.columns, answer.texts[0]
    cells = [row.cells[index] for index in columns.options]
    options = read_options(cells, [columns.names[index] for index in columns.options])
    if len(answer.texts) > 1 and not answer.wordings and (form.verbatim or not options):
        return _several(row, form, question, answer)
    if not options:
        if is_sign(text) and not form.verbatim:
            detail = f"column '{columns.names[columns.options[0]]}' holds no options that can be told apart"
            return _unread(row, form, "unresolved_option", question, text, detail)
        told = [optional_text(cell) or "" for cell in cells]
        return _raw(row, form, "\n".join(filter(str.strip, [question, *told])), text)
    cell = text if answer.wordings else row.cells[columns.answer]
    resolved = text if form.verbatim else resolve(cell, options, form.first_option)
    if resolved is None and len(answer.texts) > 1 and not answer.wordings:
        return _several(row, form, question, answer)
    if resolved is None:
        detail = f"'{text[:20]}' is none of its {len(options)} options"
        return _unread(row, form, "unresolved_option", question, text, detail)
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
    parts = [part for part in (text, after.texts[0]) if part.strip().casefold() not in NO_INPUT]
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
        detail = f"the roles are {listed(found.roles)}" if found.roles else ""
        return UnreadRow(row.row, row.line, found.problem, text=text, file=form.file.member, detail=detail)
    return _raw(row, form, found.question, found.answer)


def _exchange_text(row: CellRow, form: _Form) -> str:
    cell = row.cells[form.columns.question]
    text = cell_text(cell)
    return json_text(cell) if text is None else text


def _exchange_form(first: Sequence[CellRow], form: _Form) -> str:
    """Return the form of the first cell that has a known one."""
    found = [parse_exchange(_exchange_text(row, form)) for row in first]
    name = next(filter(None, (exchange.form for exchange in found)), "")
    if not first or name:
        return name or "no"
    columns = form.columns
    cell = f"'{columns.names[columns.question]}'"
    if rows := Counter(exchange.roles for exchange in found if exchange.roles):
        raise _unknown_roles(rows, cell, form.file)
    why = f"; {cell} does not hold questions and answers in the form of Llama 2, Alpaca, ChatML, messages or a dialogue"
    begin = f"begin each question in {cell} with 'Question:' and each answer with 'Answer:'"
    name = ", or name two columns that hold them: --set data.question_column=NAME --set data.answer_column=NAME"
    raise InputError(
        missing_column(["question"], columns.names, form.file, why).message,
        begin + (name if len(columns.names) > 1 else ""),
    )


def _unknown_roles(rows: Counter[tuple[str, ...]], cell: str, file: TableFile) -> InputError:
    """Return the error for cells whose turns are not first a known one who asks, and then one who answers."""
    found = ", then ".join(f"'{role}'" for role in rows.most_common(1)[0][0][:4])
    names = Counter(role for roles, count in rows.items() for role in dict.fromkeys(roles) for _ in range(count))
    counts = ", ".join(f"'{name}' in {count:,} rows" for name, count in names.most_common(6))
    return InputError(
        f"{file}: {cell} does not say who asks and who answers: expected 'user', then 'assistant' (or 'patient' and "
        f"'doctor'), but most often found {found}; all roles: {counts}",
        "rename the role of who asks to 'user' and of who answers to 'assistant', the question first",
    )


def _left_out(first: Sequence[CellRow], columns: Columns) -> str | None:
    """Return the instruction where all rows have the same, each beside an input."""
    if columns.input is None:
        return None
    texts = [[cell_text(row.cells[index]) for index in (columns.question, columns.input)] for row in first]
    if len(texts) < 2 or not all(text and after and after.strip().casefold() not in NO_INPUT for text, after in texts):
        return None
    instructions = {(text or "").strip() for text, _ in texts}
    return instructions.pop() if len(instructions) == 1 else None


def _told_of_input(form: _Form, first: Sequence[CellRow]) -> list[str]:
    columns = form.columns
    if columns.input is None or not first:
        return []
    instruction, after = columns.names[columns.question], columns.names[columns.input]
    if form.left_out is None:
        if not columns.input_in_doubt:
            return []
        filled = sum((cell_text(row.cells[columns.input]) or "").strip().casefold() not in NO_INPUT for row in first)
        told = [
            f"each question is column '{instruction}' and behind it column '{after}', where that holds something "
            f"({filled:,} of the first {len(first):,} rows)"
        ]
        return told if filled else []
    shown = form.left_out if len(form.left_out) <= LONGEST_SHOWN else f"{form.left_out[:LONGEST_SHOWN]}..."
    return [
        f"the question is column '{after}': column '{instruction}' holds the same text in each of the first "
        f"{len(first):,} rows and is left out, as nobody will type it ({shown!r}; to put it before each question, set "
        "prompt.system to it)"
    ]


def _first_option(first: Sequence[CellRow], form: _Form) -> int | None:
    columns = form.columns
    try:
        return first_number(choices_in(columns, columns.answer, first))
    except ValueError as error:
        raise InputError(
            f"{form.file}: column '{columns.names[columns.answer]}' numbers the options of multiple-choice questions, "
            f"but it cannot be told whether from 0 or from 1: {error}",
            "write letters (A, B, ...) or the texts of the options into it",
        ) from error


def _told_of_options(columns: Columns, *, by_sign: bool) -> str:
    names = " ".join(f"'{columns.names[index]}'" for index in columns.options)
    answer = f"column '{columns.names[columns.answer]}'"
    told = f"the text of the option that {answer} names" if by_sign else f"{answer} as it stands"
    return f"multiple-choice questions: the options ({names}) are put behind each question, and the answer is {told}"
