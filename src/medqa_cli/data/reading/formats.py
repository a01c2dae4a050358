"""The formats that a source may have, by the ends of file names: for readers, hints, help texts and the audit alike."""

from pathlib import PurePath

# What users call a format, and how its files end.
SPREADSHEET_FORMATS = {"Excel": (".xlsx", ".xlsm", ".xls"), "OpenDocument": (".ods",)}
TEXT_FORMATS = {"CSV": (".csv",), "TSV": (".tsv", ".txt"), "JSON": (".json",), "JSONL": (".jsonl", ".ndjson")}
TABLE_FORMATS = {**TEXT_FORMATS, **SPREADSHEET_FORMATS, "Parquet": (".parquet",)}
FORMATS_IN_WORDS = ", ".join(TABLE_FORMATS)

TEXT_SUFFIXES = tuple(suffix for suffixes in TEXT_FORMATS.values() for suffix in suffixes)
TABLE_SUFFIXES = tuple(suffix for suffixes in TABLE_FORMATS.values() for suffix in suffixes)
NOTE_SUFFIX = ".txt"  # in a folder it is a note more often than a table
MEDQUAD_SUFFIX = ".xml"  # the documents of that collection; no other XML is read
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".tar.gz")
PACKED = ".gz"


def table_suffix(name: str) -> str:
    """Return the suffix that tells the format of a table (``.csv`` for ``qa.CSV.gz``), or nothing for no table."""
    path = PurePath(name.lower())
    suffix = PurePath(path.stem).suffix if path.suffix == PACKED else path.suffix
    return suffix if suffix in TABLE_SUFFIXES else ""


def is_archive(name: str) -> bool:
    """Tell whether a file is an archive, by its name."""
    return name.lower().endswith(ARCHIVE_SUFFIXES)
