"""Reads spreadsheets (.xlsx, .xlsm, .xls, .ods: the first sheet that has the columns) and Parquet, by their libraries.

No formula is computed: the values that were saved count.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from medqa_cli.data.reading.archives import damage_reported
from medqa_cli.data.reading.columns import find_columns
from medqa_cli.data.reading.rows import Caps, CellRow, CellTable, ColumnNames, Columns, EmptyTable, Expansion, TableFile
from medqa_cli.errors import InputError
from medqa_cli.spelling import listed

MOST_TITLES = 5  # filled rows that may stand above the header
BATCH_ROWS = 64  # a cell of some megabytes costs nothing in the file where it is repeated


@dataclass(frozen=True)
class _Sheet:
    content: Any
    name: str
    titles: int  # filled rows above the header
    header: list[str]
    columns: Columns | None


def read_excel(file: TableFile, wanted: ColumnNames) -> CellTable:
    """Open a workbook.

    Args:
        file: the workbook.
        wanted: the columns that the user named.

    Returns:
        the rows of the first sheet that has the columns; ``line`` is the row of the sheet.

    Raises:
        InputError: the file is damaged or protected, all sheets are empty, or none has the columns.
    """
    workbook = _open(file, wanted.caps)
    sheets = [sheet for name in workbook.sheet_names if (sheet := _sheet(workbook, name, wanted, file)) is not None]
    if not sheets:
        raise EmptyTable(f"{file} is empty: its {len(workbook.sheet_names)} sheets hold no cells", "give a filled one")
    fitting = [(sheet, sheet.columns) for sheet in sheets if sheet.columns is not None]
    if not fitting:
        # For its message: what the first sheet lacks.
        find_columns(wanted, sheets[0].header, f"{file}, sheet '{sheets[0].name}'")
    (sheet, columns), *others = fitting
    also = f"; not read: {listed([other.name for other, _ in others])}, with such columns too" if others else ""
    titled = f", below {sheet.titles} lines of title" if sheet.titles else ""
    description = f"spreadsheet, sheet '{sheet.name}' of {len(workbook.sheet_names)}{titled}{also}"
    filled = itertools.islice(_filled_rows(sheet.content, file), sheet.titles + 1, None)
    rows = (CellRow(row, line, cells) for row, (line, cells) in enumerate(filled, start=1))
    return CellTable(description, columns, rows)


def _open(file: TableFile, caps: Caps) -> Any:
    from python_calamine import CalamineError, CalamineWorkbook, PasswordError

    # A bomb is refused: calamine unpacks a whole sheet into memory. What is no zip (.xls) is not packed.
    if zipfile.is_zipfile(file.path):
        with damage_reported(file.shown), zipfile.ZipFile(file.path) as packed:
            unpacked_size = sum(info.file_size for info in packed.infolist())
        Expansion(file.path, file.shown, caps).add(unpacked_size)
    try:
        return CalamineWorkbook.from_path(file.path)
    except PasswordError as error:
        raise InputError(f"{file} is protected by a password", "save it without one, or as 'CSV UTF-8'") from error
    except CalamineError as error:
        raise _damaged_workbook(file, error) from error


def _damaged_workbook(file: TableFile, error: Exception) -> InputError:
    return InputError(
        f"{file} cannot be read as a spreadsheet: {error}",
        "open it and save it as .xlsx or 'CSV UTF-8'; a text file with this name needs the suffix .csv or .tsv",
    )


def _sheet(workbook: Any, name: str, wanted: ColumnNames, file: TableFile) -> _Sheet | None:
    """Return a sheet with its header: the first row that has the columns, below a title; None for an empty sheet."""
    from python_calamine import CalamineError

    try:
        content = workbook.get_sheet_by_name(name)
    except CalamineError as error:
        raise _damaged_workbook(file, error) from error
    filled = itertools.islice(_filled_rows(content, file), MOST_TITLES + 1)
    rows = [[cell.strip() for cell in cells] for _, cells in filled]
    for titles, header in enumerate(rows):
        with contextlib.suppress(InputError):
            return _Sheet(content, name, titles, header, find_columns(wanted, header, file))
    return _Sheet(content, name, 0, rows[0], None) if rows else None


def _filled_rows(content: Any, file: TableFile) -> Iterator[tuple[int, list[str]]]:
    """Yield number and cells of each row of a sheet that is not empty."""
    from python_calamine import CalamineError

    try:
        for line, values in enumerate(content.iter_rows(), start=1):
            cells = [_text(value) for value in values]
            if any(cell.strip() for cell in cells):
                yield line, cells
    except CalamineError as error:
        raise _damaged_workbook(file, error) from error


def _text(value: object) -> str:
    """Return a cell as text: Excel stores each number as a float, 12 as 12.0."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value)


def read_parquet(file: TableFile, wanted: ColumnNames) -> CellTable:
    """Open a Parquet file.

    Raises:
        InputError: the file is damaged or lacks a column.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        # Without memory map and read ahead, the file takes no more memory than its largest pages.
        parquet = pyarrow.parquet.ParquetFile(file.path, memory_map=False, pre_buffer=False, buffer_size=1 << 20)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _damaged_parquet(file, error) from error
    columns = find_columns(wanted, parquet.schema_arrow.names, file)
    return CellTable("Parquet", columns, _parquet_rows(parquet, columns, file))


def _damaged_parquet(file: TableFile, error: Exception) -> InputError:
    return InputError(f"{file} cannot be read as Parquet: {error}", "the file may be cut off: copy or export it again")


def _parquet_rows(parquet: Any, columns: Columns, file: TableFile) -> Iterator[CellRow]:
    import pyarrow

    names = {index: columns.names[index] for index in columns.used}
    row = 0
    try:
        with parquet:
            for batch in parquet.iter_batches(BATCH_ROWS, columns=list(names.values()), use_threads=False):
                values = {index: _cells(batch.column(name)) for index, name in names.items()}
                for position in range(batch.num_rows):
                    row += 1
                    cells = [values[i][position] if i in values else None for i in range(len(columns.names))]
                    yield CellRow(row, None, cells)
    except (pyarrow.ArrowException, OSError) as error:
        raise _damaged_parquet(file, error) from error


def _cells(column: Any) -> list[Any]:
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        # Some writers put other encodings into string columns; each bad cell rejects its own row only.
        return list(column.cast("binary").to_pylist())
    except (OverflowError, ValueError):
        # A date that Arrow holds and Python does not, such as the year 12000.
        return list(column.cast("string").to_pylist())
