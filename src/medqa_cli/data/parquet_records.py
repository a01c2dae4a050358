"""Reads Parquet in batches. Does not import pyarrow before a Parquet file is opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medqa_cli.data.columns import ColumnNames, Columns, find_columns
from medqa_cli.data.rows import RawRow, SourceRows, UnreadRow, row_of_cells
from medqa_cli.errors import InputError

BATCH_ROWS = 1024


def read_parquet(path: Path, wanted: ColumnNames) -> SourceRows:
    """Open a Parquet file.

    Raises:
        InputError: the file is damaged or lacks a column.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise _damaged(path, error) from error
    columns = find_columns(wanted, file.schema_arrow.names, path)
    return SourceRows("Parquet", columns, _rows(file, columns, path))


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} cannot be read as Parquet: {error}", "the file may be cut off: copy or export it again")


def _rows(file: Any, columns: Columns, path: Path) -> Iterator[RawRow | UnreadRow]:
    import pyarrow

    used = [index for index in (columns.question, columns.answer, columns.topic, columns.source) if index is not None]
    row = 0
    try:
        with file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=[columns.names[index] for index in used]):
                values = {index: _values(batch.column(columns.names[index])) for index in used}
                for position in range(batch.num_rows):
                    row += 1
                    cells = [values[i][position] if i in values else None for i in range(len(columns.names))]
                    yield row_of_cells(row, None, cells, columns, path.name)
    except (pyarrow.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _values(column: Any) -> list[Any]:
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        # Some writers put other encodings into string columns; each bad cell rejects its own row only.
        return list(column.cast("binary").to_pylist())
