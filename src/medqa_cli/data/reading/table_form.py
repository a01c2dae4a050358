"""Recognizes the form of a table by its first rows: two columns, Alpaca's three, options and the right one, or one
column that holds a whole exchange; which columns are what their names promise, and what holds for all rows.
"""

import contextlib
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from medqa_cli.data.normalize import normalize
from medqa_cli.data.reading import cells, multiple_choice
from medqa_cli.data.reading.columns import missing_column, unused_warnings
from medqa_cli.data.reading.shapes import CellRow, CellTable, Columns, TableFile, UnreadRow
from medqa_cli.errors import InputError

ROWS_LOOKED_AT = 1000  # of the first rows, to tell what a form means
ROWS_READ_ON = 100_000  # of a table of options whose numbers tell too little so far
ROWS_FOR_FORM = 100  # none of so many rows in a known form: the column is ordinary text
LONGEST_SHOWN = 80
LONGEST_INPUT = 4000  # characters; what is longer is a document and no part of a question
SHORT_WORD = 3  # letters
NO_INPUT = frozenset({"", "<noinput>", "no input", "nan", "none", "null", "n/a"})
# An address, a number, or a name of a record.
_NO_TEXT = re.compile(r"\w+://\S+|www\.\S+|[\W\d_]+|(?=\S*\d)\S+")


@dataclass(frozen=True)
class TableForm:
    """What holds for all rows of a table.

    ``columns``: those that are really used. ``left_out``: the instruction that stands in every row beside an input, and
    so tells no question from another. ``first_option``: what ``multiple_choice.resolve`` calls first. ``verbatim``: the
    answer is no sign for an option. ``description`` and ``warnings``: what the user has to know.
    """

    columns: Columns
    file: TableFile
    description: str
    warnings: tuple[str, ...] = ()
    left_out: str | None = None
    first_option: int | None = 1
    verbatim: bool = False


def first_rows(rows: Iterator[CellRow | UnreadRow], columns: Columns) -> list[CellRow | UnreadRow]:
    """Take as many rows as tell the form of their table."""
    looks_far = columns.input is not None or bool(columns.options)
    head = list(itertools.islice(rows, ROWS_LOOKED_AT if looks_far else ROWS_FOR_FORM))
    last = head
    # Numbers of options: read on until one tells whether they count from 0 or from 1.
    while last and len(head) < ROWS_READ_ON and columns.options:
        read = [row for row in last if isinstance(row, CellRow)]
        with contextlib.suppress(ValueError):
            multiple_choice.first_number(multiple_choice.choices_in(columns, columns.answer, read))
            break
        last = list(itertools.islice(rows, ROWS_LOOKED_AT))
        head += last
    return head


def form_of_table(table: CellTable, first: Sequence[CellRow], file: TableFile) -> TableForm:
    """Recognize the form of a table.

    Args:
        table: its columns, as their names tell them.
        first: its first rows.
        file: where it is from.

    Raises:
        InputError: none of the rows holds what the names of the columns promise.
    """
    columns = _really_used(table.columns, first)
    form, description, warnings = (
        TableForm(columns, file, table.description),
        table.description,
        unused_warnings(columns),
    )
    if columns.exchange:
        kind = _exchange_form(first, columns, file)
        description += f"; column '{columns.names[columns.question]}' taken apart ({kind} form)"
    if columns.input is not None:
        left_out, told_of_input = _left_out(first, columns, columns.input)
        form, warnings = replace(form, left_out=left_out), warnings + told_of_input
    if columns.options:
        form, told_of_options = _with_options(form, first)
        warnings.append(told_of_options)
    warnings += _told_of_cells(first, columns)
    return replace(form, description=description, warnings=tuple(warnings))


def _really_used(columns: Columns, first: Sequence[CellRow]) -> Columns:
    """Return the columns without those whose cells are not what their names promise."""
    if columns.history is not None and any(cells.is_told_of(row.cells[columns.history]) for row in first):
        # What is told of a patient is no earlier turn, and may go with the question.
        if columns.input is None:
            columns = replace(columns, input=columns.history, input_in_doubt=True)
        columns = replace(columns, history=None)
    if columns.input is not None and columns.input_in_doubt and not _is_input(columns, columns.input, first):
        columns = replace(columns, input=None)
    all_empty = not any(cells.cell_text(row.cells[index]) != "" for row in first for index in columns.options)
    by_letter = len(columns.options) > 1 and all(len(columns.names[index].strip()) == 1 for index in columns.options)
    if all_empty or (by_letter and not _are_options(columns, first)):
        return replace(columns, options=())
    return columns


def _are_options(columns: Columns, first: Sequence[CellRow]) -> bool:
    """Tell whether columns that are letters by name hold options: one is named as right, or there are several texts."""
    for column in (columns.answer, columns.correct):
        if column is not None and any(
            multiple_choice.names_an_option(*choice) for choice in multiple_choice.choices_in(columns, column, first)
        ):
            return True
    values = [cells.cell_text(row.cells[index]) for row in first for index in columns.options]
    texts = [value for value in values if value is not None and any(map(str.isalpha, value))]
    return len(columns.options) > 2 and 2 * len(texts) > len(values)


def _is_input(columns: Columns, beside: int, first: Sequence[CellRow]) -> bool:
    """Tell whether what stands beside the questions is asked with them: texts that differ from row to row, and not
    addresses, numbers, or the passage that the answer is taken from.
    """
    used = (columns.question, beside, columns.answer)
    rows = [[cells.read_cell(row.cells[index]) for index in used] for row in first]
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
    inner, outer = normalize(answer), normalize(passage)
    if f" {inner} " in f" {outer} " or (not inner.isascii() and inner in outer):
        return bool(words) or " " in inner or not inner.isascii()  # "no" stands in many a text
    return len(passage) >= 2 * len(answer) and 2 * sum(word in passage for word in words) > len(words) > 2


def _exchange_form(first: Sequence[CellRow], columns: Columns, file: TableFile) -> str:
    """Return the form of the first cell that has a known one.

    Raises:
        InputError: none has, or their turns are not first a known one who asks, and then one who answers.
    """
    exchanges = [cells.parse_exchange(exchange_text(row, columns)) for row in first]
    form = next((exchange.form for exchange in exchanges if exchange.form), "")
    if not first or form:
        return form or "no"
    cell = f"'{columns.names[columns.question]}'"
    roles = Counter(exchange.roles for exchange in exchanges if exchange.roles)
    if roles:
        often = ", then ".join(f"'{role}'" for role in roles.most_common(1)[0][0][:4])
        names = Counter(role for exchange in exchanges for role in dict.fromkeys(exchange.roles))
        counts = ", ".join(f"'{name}' in {count:,} rows" for name, count in names.most_common(6))
        raise InputError(
            f"{file}: {cell} does not say who asks and who answers: expected 'user', then 'assistant' (or 'patient' "
            f"and 'doctor'), but most often found {often}; all roles: {counts}",
            "rename the role of who asks to 'user' and of who answers to 'assistant', the question first",
        )
    why = f"; {cell} does not hold questions and answers in the form of Llama 2, Alpaca, ChatML, messages or a dialogue"
    hint = f"begin each question in {cell} with 'Question:' and each answer with 'Answer:'"
    if len(columns.names) > 1:
        hint += ", or name two columns that hold them: --set data.question_column=NAME --set data.answer_column=NAME"
    raise InputError(missing_column(["question"], columns.names, file, why).message, hint)


def _left_out(first: Sequence[CellRow], columns: Columns, beside: int) -> tuple[str | None, list[str]]:
    """Return the instruction where all rows have the same, each beside an input; and what the user has to know."""
    instruction, after = columns.names[columns.question], columns.names[beside]
    texts = [
        [(cells.cell_text(row.cells[index]) or "").strip() for index in (columns.question, beside)] for row in first
    ]
    filled = sum(text.casefold() not in NO_INPUT for _, text in texts)
    if len(texts) > 1 and filled == len(texts) and texts[0][0] and len({text for text, _ in texts}) == 1:
        left_out = texts[0][0]
        shown = left_out if len(left_out) <= LONGEST_SHOWN else f"{left_out[:LONGEST_SHOWN]}..."
        return left_out, [
            f"the question is column '{after}': column '{instruction}' holds the same text in each of the first "
            f"{len(first):,} rows and is left out, as nobody will type it ({shown!r}; to put it before each question, "
            "set prompt.system to it)"
        ]
    if not columns.input_in_doubt or not filled:
        return None, []
    return None, [
        f"each question is column '{instruction}' and behind it column '{after}', where that holds something "
        f"({filled:,} of the first {len(first):,} rows)"
    ]


def _with_options(form: TableForm, first: Sequence[CellRow]) -> tuple[TableForm, str]:
    """Return the form of multiple-choice questions, and what the user has to know."""
    columns, column = form.columns, f"column '{form.columns.names[form.columns.answer]}'"
    answers = multiple_choice.choices_in(columns, columns.answer, first)
    signs = sum(multiple_choice.names_by_sign(answer, options) for answer, options in answers)
    # Beside a column of signs a second one holds nothing else.
    by_sign = 2 * signs > len(answers) if columns.correct is None else signs == len(answers)
    meaning = f"{column} as it stands"
    if columns.answer_is_named and not by_sign:
        form = replace(form, verbatim=True)
    else:
        try:
            form = replace(form, first_option=multiple_choice.first_number(answers))
        except ValueError as error:
            raise InputError(
                f"{form.file}: {column} numbers the options of multiple-choice questions, but it cannot be told "
                f"whether from 0 or from 1: {error}",
                "write letters (A, B, ...) or the texts of the options into it",
            ) from error
        if any(multiple_choice.names_an_option(answer, options) for answer, options in answers):
            meaning = f"the text of the option that {column} names"
    names = " ".join(f"'{columns.names[index]}'" for index in columns.options)
    return form, (
        f"multiple-choice questions: the options ({names}) are put behind each question, and the answer is {meaning}"
    )


def _told_of_cells(first: Sequence[CellRow], columns: Columns) -> list[str]:
    """Return what the first rows show: an optional column without texts, answers that are signs only."""
    warnings = []
    for index in (columns.topic, columns.source, columns.kind):
        if index is not None:
            shapes = Counter(
                cells.shape(row.cells[index]) for row in first if cells.optional_text(row.cells[index]) is None
            )
            if shapes:
                warnings.append(
                    f"column '{columns.names[index]}' is ignored where it holds {shapes.most_common(1)[0][0]}"
                )
    question, answer = (f"column '{columns.names[index]}'" for index in (columns.question, columns.answer))
    of_first = f"of the first {len(first)} rows"
    if not columns.exchange and not columns.options:
        signs = sum(multiple_choice.is_sign(row.cells[columns.answer]) for row in first)
        asking = sum((cells.cell_text(row.cells[columns.answer]) or "").rstrip().endswith(("?", "？")) for row in first)
        if asking > 2 and 2 * asking > len(first):
            warnings.append(f"{answer} holds questions ({asking} {of_first}), not answers")
        if signs > 1 and 2 * signs > len(first):
            warnings.append(
                f"{answer} holds single letters ({signs} {of_first}), as of multiple-choice questions, but no column "
                "of options is found: name them A, B, C, ... or 'options'"
            )
    questions = [cells.read_cell(row.cells[columns.question]) for row in first]
    several = sum(len(read.texts) > 1 for read in questions)
    if several and not columns.exchange:
        warnings.append(
            f"{question} holds several wordings of a question ({several} {of_first}): the first of each is taken"
        )
    return warnings


def exchange_text(row: CellRow, columns: Columns) -> str:
    """Return the cell that holds question and answer as text."""
    cell = row.cells[columns.question]
    text = cells.cell_text(cell)
    return cells.json_text(cell) if text is None else text
