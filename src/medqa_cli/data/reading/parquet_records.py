"""Reads Parquet in batches. Does not import pyarrow before a Parquet file is opened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from medqa_cli.data.reading.columns import ColumnNames, Columns, find_columns
from medqa_cli.data.reading.rows import CellRow, CellTable, TableFile
from medqa_cli.errors import InputError

BATCH_ROWS = 64  # a cell of some megabytes costs nothing in the file where it is repeated


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
        raise _damaged(file, error) from error
    columns = find_columns(wanted, parquet.schema_arrow.names, file)
    return CellTable("Parquet", columns, _rows(parquet, columns, file))


def _damaged(file: TableFile, error: Exception) -> InputError:
    return InputError(f"{file} cannot be read as Parquet: {error}", "the file may be cut off: copy or export it again")


def _rows(parquet: Any, columns: Columns, file: TableFile) -> Iterator[CellRow]:
    import pyarrow

    names = {index: columns.names[index] for index in columns.used}
    row = 0
    try:
        with parquet:
            for batch in parquet.iter_batches(BATCH_ROWS, columns=list(names.values()), use_threads=False):
                values = {index: _values(batch.column(name)) for index, name in names.items()}
                for position in range(batch.num_rows):
                    row += 1
                    cells = [values[i][position] if i in values else None for i in range(len(columns.names))]
                    yield CellRow(row, None, cells)
    except (pyarrow.ArrowException, OSError) as error:
        raise _damaged(file, error) from error


def _values(column: Any) -> list[Any]:
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        # Some writers put other encodings into string columns; each bad cell rejects its own row only.
        return list(column.cast("binary").to_pylist())
    except (OverflowError, ValueError):
        # A date that Arrow holds and Python does not, such as the year 12000.
        return list(column.cast("string").to_pylist())
