"""What form a table has, by its first rows: which columns are what their names promise, and what holds for all rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from medqa_cli.data.normalize import normalize
from medqa_cli.data.reading.cells import (
    cell_text,
    is_told_of,
    json_text,
    optional_text,
    parse_exchange,
    read_cell,
    shape,
)
from medqa_cli.data.reading.columns import missing_column, unused_warnings
from medqa_cli.data.reading.multiple_choice import choices_in, first_number, is_sign, names_an_option, names_by_sign
from medqa_cli.data.reading.rows import CellRow, Columns, TableFile
from medqa_cli.errors import InputError

LONGEST_SHOWN = 80
LONGEST_INPUT = 4000  # characters; what is longer is a document and no part of a question
SHORT_WORD = 3  # letters
NO_INPUT = frozenset({"", "<noinput>", "no input", "nan", "none", "null", "n/a"})
# An address, a number, or a name of a record.
_NO_TEXT = re.compile(r"\w+://\S+|www\.\S+|[\W\d_]+|(?=\S*\d)\S+")


@dataclass(frozen=True)
class Form:
    """What holds for all rows of a table.

    ``left_out``: the instruction that stands in every row beside an input, and so tells no question from another.
    ``first_option``: what ``multiple_choice.resolve`` calls first. ``verbatim``: the answer is no sign for an option.
    ``description`` goes on where that of the table ends; ``warnings``: what its user has to know.
    """

    columns: Columns
    file: TableFile
    left_out: str | None = None
    first_option: int | None = 1
    verbatim: bool = False
    description: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether question and answer are one cell each, which nothing else has a say in."""
        return self.columns.input is None and not self.columns.options


def find_form(columns: Columns, first: Sequence[CellRow], file: TableFile) -> Form:
    """Tell the form of a table.

    Args:
        columns: those that are in use by their names.
        first: its first rows.
        file: where it is from.

    Returns:
        the form, with the columns that are really used.

    Raises:
        InputError: none of the rows holds what the names of the columns promise.
    """
    columns = _really_used(columns, first)
    form, warnings = Form(columns, file), unused_warnings(columns)
    if columns.exchange:
        name = columns.names[columns.question]
        form = replace(form, description=f"; column '{name}' taken apart ({_exchange_form(first, form)} form)")
    if columns.input is not None:
        form = replace(form, left_out=_left_out(first, columns, columns.input))
        warnings += _told_of_input(form, columns.input, first)
    if columns.options:
        answers = choices_in(columns, columns.answer, first)
        named = sum(names_an_option(answer, options) for answer, options in answers)
        signs = sum(names_by_sign(answer, options) for answer, options in answers)
        # Beside a column of signs a second one holds nothing else.
        by_sign = 2 * signs > len(answers) if columns.correct is None else signs == len(answers)
        form = replace(form, verbatim=columns.answer_is_named and not by_sign)
        if not form.verbatim:
            form = replace(form, first_option=_first_option(first, form))
        names = " ".join(f"'{columns.names[index]}'" for index in columns.options)
        column = f"column '{columns.names[columns.answer]}'"
        is_chosen = named > 0 and not form.verbatim
        told = f"the text of the option that {column} names" if is_chosen else f"{column} as it stands"
        warnings.append(
            f"multiple-choice questions: the options ({names}) are put behind each question, and the answer is {told}"
        )
    return replace(form, warnings=(*warnings, *_told_of_cells(first, columns)))


def exchange_text(row: CellRow, columns: Columns) -> str:
    """Return the cell that holds question and answer as text."""
    cell = row.cells[columns.question]
    text = cell_text(cell)
    return json_text(cell) if text is None else text


def _really_used(columns: Columns, first: Sequence[CellRow]) -> Columns:
    """Return the columns without those whose cells are not what their names promise."""
    if columns.history is not None and any(is_told_of(row.cells[columns.history]) for row in first):
        # What is told of a patient is no earlier turn, and may go with the question.
        if columns.input is None:
            columns = replace(columns, input=columns.history, input_in_doubt=True)
        columns = replace(columns, history=None)
    if columns.input is not None and columns.input_in_doubt and not _is_input(columns, columns.input, first):
        columns = replace(columns, input=None)
    all_empty = not any(cell_text(row.cells[index]) != "" for row in first for index in columns.options)
    by_letter = len(columns.options) > 1 and all(len(columns.names[index].strip()) == 1 for index in columns.options)
    if all_empty or (by_letter and not _are_options(columns, first)):
        return replace(columns, options=())
    return columns


def _are_options(columns: Columns, first: Sequence[CellRow]) -> bool:
    """Tell whether columns that are letters by name hold options: one is named as right, or there are several texts."""
    for told in (columns.answer, columns.correct):
        if told is not None and any(names_an_option(*choice) for choice in choices_in(columns, told, first)):
            return True
    cells = [cell_text(row.cells[index]) for row in first for index in columns.options]
    texts = [cell for cell in cells if cell is not None and any(map(str.isalpha, cell))]
    return len(columns.options) > 2 and 2 * len(texts) > len(cells)


def _is_input(columns: Columns, beside: int, first: Sequence[CellRow]) -> bool:
    """Tell whether what stands beside the questions is asked with them: texts that differ from row to row, and not
    addresses, numbers, or the passage that the answer is taken from.
    """
    used = (columns.question, beside, columns.answer)
    rows = [[read_cell(row.cells[index]) for index in used] for row in first]
    if any(cell.problem or cell.wordings for row in rows for cell in row):
        return False
    texts = [tuple(cell.texts[0].strip().casefold() for cell in row) for row in rows]
    filled = [text for text in texts if text[1] not in NO_INPUT]
    inputs = [after for _, after, _ in filled]
    if (len(inputs) > 1 and len(set(inputs)) == 1) or max(map(len, inputs), default=0) > LONGEST_INPUT:
        return False
    out = sum(_NO_TEXT.fullmatch(after) is not None for after in inputs)
    out += sum(after in question or _is_from(answer, after) for question, after, answer in filled)
    return 2 * out < len(filled) or not filled


def _is_from(answer: str, passage: str) -> bool:
    """Tell whether an answer stands in a passage, or most of its longer words do where the passage is much longer."""
    words = {word for word in answer.split() if len(word) > SHORT_WORD}
    told, held = normalize(answer), normalize(passage)
    if f" {told} " in f" {held} " or (not told.isascii() and told in held):
        return bool(words) or " " in told or not told.isascii()  # "no" stands in many a text
    return len(passage) >= 2 * len(answer) and 2 * sum(word in passage for word in words) > len(words) > 2


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
        asking = sum((cell_text(row.cells[columns.answer]) or "").rstrip().endswith(("?", "？")) for row in first)
        if asking > 2 and 2 * asking > len(first):
            warnings.append(
                f"column '{columns.names[columns.answer]}' holds questions ({asking} of the first {len(first)} rows), "
                "not answers"
            )
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


def _exchange_form(first: Sequence[CellRow], form: Form) -> str:
    """Return the form of the first cell that has a known one."""
    found = [parse_exchange(exchange_text(row, form.columns)) for row in first]
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


def _left_out(first: Sequence[CellRow], columns: Columns, beside: int) -> str | None:
    """Return the instruction where all rows have the same, each beside an input."""
    texts = [[cell_text(row.cells[index]) for index in (columns.question, beside)] for row in first]
    if len(texts) < 2 or not all(text and after and after.strip().casefold() not in NO_INPUT for text, after in texts):
        return None
    instructions = {(text or "").strip() for text, _ in texts}
    return instructions.pop() if len(instructions) == 1 else None


def _told_of_input(form: Form, beside: int, first: Sequence[CellRow]) -> list[str]:
    columns = form.columns
    instruction, after = columns.names[columns.question], columns.names[beside]
    if form.left_out is None:
        filled = sum((cell_text(row.cells[beside]) or "").strip().casefold() not in NO_INPUT for row in first)
        if not columns.input_in_doubt or not filled:
            return []
        return [
            f"each question is column '{instruction}' and behind it column '{after}', where that holds something "
            f"({filled:,} of the first {len(first):,} rows)"
        ]
    shown = form.left_out if len(form.left_out) <= LONGEST_SHOWN else f"{form.left_out[:LONGEST_SHOWN]}..."
    return [
        f"the question is column '{after}': column '{instruction}' holds the same text in each of the first "
        f"{len(first):,} rows and is left out, as nobody will type it ({shown!r}; to put it before each question, set "
        "prompt.system to it)"
    ]


def _first_option(first: Sequence[CellRow], form: Form) -> int | None:
    columns = form.columns
    try:
        return first_number(choices_in(columns, columns.answer, first))
    except ValueError as error:
        raise InputError(
            f"{form.file}: column '{columns.names[columns.answer]}' numbers the options of multiple-choice questions, "
            f"but it cannot be told whether from 0 or from 1: {error}",
            "write letters (A, B, ...) or the texts of the options into it",
        ) from error
