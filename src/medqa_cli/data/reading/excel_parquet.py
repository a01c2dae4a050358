"""Reads spreadsheets (.xlsx, .xlsm, .xls, .ods: the first sheet that has the columns) and Parquet, by their libraries.

No formula is computed: the values that were saved count.
"""

import contextlib
import datetime
import itertools
import zipfile
from collections.abc import Iterator
from typing import Any

from medqa_cli.data.reading import shapes
from medqa_cli.data.reading.archives import damage_reported
from medqa_cli.data.reading.columns import MOST_TITLES, find_columns, likeliest_header, titles_in_words
from medqa_cli.errors import InputError
from medqa_cli.spelling import listed

BATCH_ROWS = 64  # a cell of some megabytes costs nothing in the file where it is repeated


def read_excel(file: shapes.TableFile, wanted: shapes.ColumnNames) -> shapes.CellTable:
    """Open a workbook.

    Args:
        file: the workbook.
        wanted: the columns that the user named.

    Returns:
        the rows of the first sheet that has the columns; ``line`` is the row of the sheet.

    Raises:
        InputError: the file is damaged or protected, all sheets are empty, or none has the columns.
    """
    from python_calamine import CalamineWorkbook

    # A bomb is refused: calamine unpacks a whole sheet into memory. What is no zip (.xls) is not packed.
    if zipfile.is_zipfile(file.path):
        with damage_reported(file.shown), zipfile.ZipFile(file.path) as packed:
            unpacked_size = sum(info.file_size for info in packed.infolist())
        shapes.Expansion(file.path, file.shown, wanted.caps).add(unpacked_size)
    with _workbook_errors(file):
        workbook = CalamineWorkbook.from_path(file.path)
        heads, fitting = _sheets(workbook, wanted, file)
    num_sheets = len(workbook.sheet_names)
    if not heads:
        raise shapes.EmptyTable(f"{file} is empty: its {num_sheets} sheets hold no cells", "give a filled one")
    if not fitting:  # for its message: what the likeliest sheet lacks
        at, likeliest = likeliest_header(list(heads.values()), wanted)
        others = f" (of {listed(list(heads))})" if len(heads) > 1 else ""
        find_columns(wanted, likeliest, f"{file}, sheet '{list(heads)[at]}'{others}")
    (name, sheet, titles, columns), *more = fitting
    also = f"; not read: {listed([other[0] for other in more])}, with such columns too" if more else ""
    titled = titles_in_words(titles)
    header = list(columns.names)

    def rows() -> Iterator[shapes.CellRow | shapes.UnreadRow]:
        with _workbook_errors(file):
            filled = itertools.islice(_filled(sheet), titles + 1, None)
            for row, (line, cells) in enumerate(filled, start=1):
                if [cell.strip() for cell in cells] == header:
                    yield shapes.UnreadRow(row, line, "repeated_header", text="\t".join(cells), file=file.member)
                else:
                    yield shapes.CellRow(row, line, cells)

    return shapes.CellTable(f"spreadsheet, sheet '{name}' of {num_sheets}{titled}{also}", columns, rows())


def _sheets(
    workbook: Any, wanted: shapes.ColumnNames, file: shapes.TableFile
) -> tuple[dict[str, list[list[str]]], list[tuple[str, Any, int, shapes.Columns]]]:
    """Return the first rows of each filled sheet by name; and name, sheet, titles and columns of those that have them.

    ``titles``: how many rows stand before the header.
    """
    heads, fitting = {}, []
    for name in workbook.sheet_names:
        sheet = workbook.get_sheet_by_name(name)
        head = [[cell.strip() for cell in row] for _, row in itertools.islice(_filled(sheet), MOST_TITLES + 1)]
        if head:
            heads[name] = head
        # The header is the first row that has the columns, below a title.
        for titles, header in enumerate(head):
            with contextlib.suppress(InputError):
                fitting.append((name, sheet, titles, find_columns(wanted, header, file)))
                break
    return heads, fitting


@contextlib.contextmanager
def _workbook_errors(file: shapes.TableFile) -> Iterator[None]:
    from python_calamine import CalamineError, PasswordError

    try:
        yield
    except PasswordError as error:
        raise InputError(f"{file} is protected by a password", "save it without one, or as 'CSV UTF-8'") from error
    except CalamineError as error:
        raise InputError(
            f"{file} cannot be read as a spreadsheet: {error}",
            "open it and save it as .xlsx or 'CSV UTF-8'; a text file with this name needs the suffix .csv or .tsv",
        ) from error


def _filled(sheet: Any) -> Iterator[tuple[int, list[str]]]:
    """Yield number and cells of each row of a sheet that is not empty."""
    for line, values in enumerate(sheet.iter_rows(), start=1):
        cells = [_text(value) for value in values]
        if any(cell.strip() for cell in cells):
            yield line, cells


def _text(value: object) -> str:
    """Return a cell as text: Excel stores each number as a float, 12 as 12.0."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value)


def read_parquet(file: shapes.TableFile, wanted: shapes.ColumnNames) -> shapes.CellTable:
    """Open a Parquet file.

    Raises:
        InputError: the file is damaged or lacks a column.
    """
    import pyarrow
    import pyarrow.parquet

    def damaged(error: Exception) -> InputError:
        hint = "the file may be cut off: copy or export it again"
        return InputError(f"{file} cannot be read as Parquet: {error}", hint)

    try:
        # Without memory map and read ahead, the file takes no more memory than its largest pages.
        parquet = pyarrow.parquet.ParquetFile(file.path, memory_map=False, pre_buffer=False, buffer_size=1 << 20)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise damaged(error) from error
    columns = find_columns(wanted, parquet.schema_arrow.names, file)
    names = {index: columns.names[index] for index in columns.used}

    def rows() -> Iterator[shapes.CellRow]:
        numbers = itertools.count(1)
        try:
            with parquet:
                for batch in parquet.iter_batches(BATCH_ROWS, columns=list(names.values()), use_threads=False):
                    values = {index: _cells(batch.column(name)) for index, name in names.items()}
                    for position in range(batch.num_rows):
                        cells = [values[i][position] if i in values else None for i in range(len(columns.names))]
                        yield shapes.CellRow(next(numbers), None, cells)
        except (pyarrow.ArrowException, OSError) as error:
            raise damaged(error) from error

    return shapes.CellTable("Parquet", columns, rows())


def _cells(column: Any) -> list[Any]:
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        # Some writers put other encodings into string columns; each bad cell rejects its own row only.
        return list(column.cast("binary").to_pylist())
    except (OverflowError, ValueError):
        # A date that Arrow holds and Python does not, such as the year 12000.
        return list(column.cast("string").to_pylist())
