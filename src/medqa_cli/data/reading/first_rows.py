"""What the first rows of a table show: which columns are what their names promise, and what to say of them.

Does not make rows: ``pairs`` does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from medqa_cli.data.normalize import normalize
from medqa_cli.data.reading.cells import cell_text, optional_text, read_cell, shape
from medqa_cli.data.reading.chat_formats import is_told_of
from medqa_cli.data.reading.choices import Option, is_sign, names_an_option, read_options
from medqa_cli.data.reading.rows import CellRow, Columns

LONGEST_INPUT = 4000  # characters; what is longer is a document and no part of a question
SHORT_WORD = 3  # letters
NO_INPUT = frozenset({"", "<noinput>", "no input", "nan", "none", "null", "n/a"})
# An address, a number, or a name of a record.
_NO_TEXT = re.compile(r"\w+://\S+|www\.\S+|[\W\d_]+|(?=\S*\d)\S+")


def really_used(columns: Columns, first: Sequence[CellRow]) -> Columns:
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


def choices_in(columns: Columns, told: int, rows: Sequence[CellRow]) -> list[tuple[object, list[Option]]]:
    """Return the cell of a column that may tell the right option, and the options, of those rows that have options."""
    names = [columns.names[index] for index in columns.options]
    found = [
        (row.cells[told], read_options([row.cells[index] for index in columns.options], names))
        for row in (rows if names else ())
    ]
    return [(answer, options) for answer, options in found if options]


def told_of_cells(first: Sequence[CellRow], columns: Columns) -> list[str]:
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
