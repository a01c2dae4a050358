"""Opens one table of any format: which reader, packed or not, and what a file is that its name does not tell."""

import codecs
import gzip
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

from medqa_cli import confined
from medqa_cli.data.encodings.detect import Encoding, detect_encoding
from medqa_cli.data.reading import archives, csv_reader, excel_parquet, formats, json_reader, shapes
from medqa_cli.data.reading.pairs import questions_and_answers
from medqa_cli.errors import InputError

Reader = Callable[[shapes.TableFile, shapes.ColumnNames], shapes.CellTable]
_READERS: dict[str, Reader] = {
    "CSV": csv_reader.read_delimited,
    "TSV": csv_reader.read_delimited,
    "JSON": json_reader.read_json_file,
    "JSONL": json_reader.read_json_lines,
    "Excel": excel_parquet.read_excel,
    "OpenDocument": excel_parquet.read_excel,
    "Parquet": excel_parquet.read_parquet,
}
_READER_OF_SUFFIX = {suffix: _READERS[name] for name, suffixes in formats.TABLE_FORMATS.items() for suffix in suffixes}
_READ_WHOLE = 32 << 20  # bytes; what a JSON object of that size becomes is no burden
_SIGNATURES = {
    b"PK\x03\x04": "a ZIP archive or an Excel file (.zip, .xlsx)",
    b"\xd0\xcf\x11\xe0": "an old Excel or Word file (.xls)",
    b"PAR1": "a Parquet file (.parquet)",
    b"\x1f\x8b": "packed with gzip (.gz)",
    b"BZh": "packed with bzip2",
    b"7z\xbc\xaf": "a 7z archive",
    b"\xfd7zXZ": "packed with xz",
    b"\x28\xb5\x2f\xfd": "packed with zstd",
    b"SQLite format 3": "an SQLite database",
    b"%PDF-": "a PDF file",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
}
# Under any name: what programs leave in the place of the file that was asked for; each with what to do.
_PAGE = ("a web page (HTML)", "save a table in it as 'CSV UTF-8'; download again what turned into an error page")
_INSTEAD = {
    b"version https://git-lfs": ("only a pointer of Git LFS", "fetch the file itself: git lfs pull"),
    b"<!doctype html": _PAGE,
    b"<html": _PAGE,
    b"{\\rtf": ("a text document (RTF)", "save a table in it as 'CSV UTF-8'"),
}
_JSON_OBJECTS = re.compile(r'\s*(?:\[\s*)?\{\s*"')
_MEDDIALOG = re.compile(rb"id=\d+\s+https?://")
_START = 64  # bytes that tell any of these


def open_table(file: shapes.TableFile, wanted: shapes.ColumnNames, scratch: archives.Scratch) -> shapes.PairTable:
    """Open a table.

    Args:
        file: a file whose name ``table_suffix`` knows.
        wanted: the columns that the user named.
        scratch: where to unpack it, if it is packed.

    Returns:
        the format found, the columns in use and the rows.

    Raises:
        InputError: the file is empty, damaged or of another format than its name says, or lacks a column.
    """
    packed = file.path.suffix.lower() == formats.PACKED
    if packed and file.path.stat().st_size:
        with open(file.path, "rb") as content:
            if content.read(len(archives.GZIP_MAGIC)) != archives.GZIP_MAGIC:
                name = Path(file.name).stem
                raise InputError(f"{file} is not packed with gzip", f"if it is a plain table, name it {name}")
        target = scratch.new_path(Path(file.path.stem).suffix.lower())
        expansion = file.expansion or shapes.Expansion(file.path, file.shown, wanted.caps)
        with archives.damage_reported(file.shown), gzip.open(file.path) as unpacking, open(target, "wb") as unpacked:
            archives.copy_unpacked(unpacking, unpacked, expansion)
        file = replace(file, path=target)
    check_content(file)
    # What reads it may abort or fill the memory: a library, or a JSON object that is read whole.
    suffix = file.path.suffix.lower()
    needs_a_process = suffix not in formats.TEXT_SUFFIXES
    if not needs_a_process and file.path.stat().st_size > _READ_WHOLE:
        encoding = detect_encoding(file.path, file.shown, wanted.encoding)
        needs_a_process = suffix == ".json" or _looks_like_json(file.path, encoding)
    if needs_a_process:
        hint = "open it and save it again, or as 'CSV UTF-8'"
        file = replace(file, expansion=None)
        results = confined.stream(table_and_rows, file, wanted, what=file.shown, hint=hint, limits=wanted.caps.limits)
        table = replace(cast(shapes.PairTable, next(results)), rows=cast(shapes.Rows, results))
    else:
        table = questions_and_answers(_read_cells(file, wanted), file, wanted.caps)
    return replace(table, description=f"{table.description}, unpacked with gzip") if packed else table


def open_cells(file: shapes.TableFile, wanted: shapes.ColumnNames) -> shapes.CellTable:
    """Open a table in a text file as it stands, one that may hold questions alone: a cell for each column.

    It is not packed, and of no format that a library reads; ``wanted.answers`` tells whether there have to be any.

    Raises:
        InputError: the file is empty, damaged or of another format than its name says, or lacks a column.
    """
    check_content(file)
    return _read_cells(file, wanted)


def _read_cells(file: shapes.TableFile, wanted: shapes.ColumnNames) -> shapes.CellTable:
    suffix = file.path.suffix.lower()
    reader = _READER_OF_SUFFIX[suffix]
    if suffix not in formats.TEXT_SUFFIXES:
        return reader(file, wanted)
    encoding = detect_encoding(file.path, file.shown, wanted.encoding)
    if reader is csv_reader.read_delimited and _looks_like_json(file.path, encoding):
        reader = json_reader.read_json_file
    return replace(reader(file, wanted), warnings=encoding.warnings)


def _looks_like_json(path: Path, encoding: Encoding) -> bool:
    """Tell whether a text file begins like objects of JSON, whatever its name says."""
    with encoding.open(path) as text:
        return _JSON_OBJECTS.match(text.read(1000)) is not None


def table_and_rows(
    file: shapes.TableFile, wanted: shapes.ColumnNames
) -> Iterator[shapes.PairTable | shapes.RawRow | shapes.UnreadRow]:
    """Yield a table without rows, then its rows; runs in a process of its own."""
    table = questions_and_answers(_read_cells(file, wanted), file, wanted.caps)
    yield replace(table, rows=iter(()))
    yield from table.rows


def check_content(file: shapes.TableFile) -> None:
    """Check that a file is not empty, no web page and the like, and no binary file if it should be text.

    Raises:
        InputError: it is or does.
    """
    with open(file.path, "rb") as content:
        start = content.read(_START)
    if not start:
        raise shapes.EmptyTable(f"{file} is empty (0 bytes)", "give a file with one row per question")
    folded = start.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    for beginning, (what, hint) in _INSTEAD.items():
        if folded.startswith(beginning):
            raise InputError(f"{file} is {what}, not a file of questions and answers", hint)
    if file.path.suffix.lower() not in formats.TEXT_SUFFIXES:
        return
    if _MEDDIALOG.match(start):
        raise InputError(
            f"{file} is MedDialog's own form of text, which is not read",
            'write each conversation as a line of a .jsonl file: {"dialogue": "Patient: ... Doctor: ..."}',
        )
    for signature, what in _SIGNATURES.items():
        if start.startswith(signature):
            others = [suffix for suffix in formats.TABLE_SUFFIXES if suffix not in formats.TEXT_SUFFIXES]
            raise InputError(
                f"{file} is not a text file, it is {what}",
                f"give it the name that fits (medqa reads {', '.join([*others, *formats.ARCHIVE_SUFFIXES])} and "
                ".csv.gz), or save it as 'CSV UTF-8'",
            )
