"""Folders and archives of MedQuAD XML documents or of tables (one kind in each)."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from medqa_cli.data.data_folder import REPORT_NAME
from medqa_cli.data.reading import medquad_xml
from medqa_cli.data.reading.archives import Container, Member, Scratch, open_container, read_member
from medqa_cli.data.reading.rows import ColumnNames, Columns, EmptyTable, Rows, SourceFile, TableFile
from medqa_cli.data.reading.tables import open_table, table_suffix
from medqa_cli.errors import InputError
from medqa_cli.files import sha256_of_file
from medqa_cli.spelling import counted, listed

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".tar.gz")
LARGEST_LICENCE_TEXT = 1_000_000

# What stands beside data and is none.
_ABOUT = re.compile(r"(readme|licen[cs]e|copying|citation|notice)\b", re.IGNORECASE)
_METADATA = {"dataset-metadata.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
_LICENCES = {
    "cc-by-4.0": "Creative Commons Attribution 4.0",
    "cc-by-sa-4.0": "Creative Commons Attribution-ShareAlike 4.0",
    "cc-by-nc-4.0": "Creative Commons Attribution-NonCommercial 4.0",
    "cc0-1.0": "CC0 1.0",
    "mit": "MIT License",
    "apache-2.0": "Apache License",
}


@dataclass(frozen=True)
class Part:
    """Rows that were opened in one way; ``rows`` starts to read them. ``warnings``: what the user has to know."""

    description: str
    columns: Columns
    rows: Callable[[], Rows]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Opened:
    """An opened source: its parts, and what there is to say of it as a whole (``warnings``: what was passed over)."""

    source: str
    parts: list[Part]
    file: SourceFile
    licence: str | None = None
    warnings: tuple[str, ...] = ()


def find_contents(container: Container, shown: str) -> tuple[list[Member], list[Member], list[Member], int]:
    """Return the documents or the tables of a container, the notes beside them, and how many members are neither.

    Raises:
        InputError: it holds documents and tables, neither of them, or a data set that medqa wrote.
    """
    members = [member for member in container.members if not _is_hidden(member.name)]
    names = {member.name for member in members}
    if {REPORT_NAME, "train.jsonl"} <= names:
        raise InputError(f"{shown} is a data set that was converted before", f"run: medqa convert --audit {shown}")
    about = [member for member in members if _ABOUT.match(PurePosixPath(member.name).name)]
    data = [member for member in members if member not in about and PurePosixPath(member.name).name not in _METADATA]
    documents = [member for member in data if member.name.lower().endswith(".xml")]
    # In a folder, .txt is a note more often than a table.
    tables = [member for member in data if table_suffix(member.name) not in ("", ".txt")]
    if documents and tables:
        raise InputError(
            f"{shown} holds {len(documents):,} XML documents and {len(tables):,} tables "
            f"({listed([member.name for member in tables])}); expected one kind",
            "name one of the files or folders in it (unpack an archive first)",
        )
    if not documents and not tables:
        suffixes = Counter(PurePosixPath(member.name).suffix or "no suffix" for member in members)
        found = f"only {counted(suffixes)}" if members else "no files"
        hint = "name a file, or a folder or archive that holds .xml, .csv, .tsv, .json, .jsonl, .parquet or .xlsx files"
        saved = next((member.name for member in members if member.name.endswith(".arrow")), None)
        if saved is not None:
            folder = (PurePosixPath(shown) / saved).parent
            hint = (
                "a data set that was saved to disk is read as Parquet: "
                f"python -c \"import datasets; datasets.load_from_disk('{folder}').to_parquet('{folder}.parquet')\""
            )
        raise InputError(f"{shown} holds no XML documents and no tables; found {found}", hint)
    return documents, tables, about, len(members) - len(documents) - len(tables) - len(about)


def is_archive(name: str) -> bool:
    """Tell whether a file name is that of an archive."""
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def open_folder(source: str, prefix: str, wanted: ColumnNames, scratch: Scratch) -> Opened:
    """Open a folder or an archive.

    Args:
        source: the folder or archive as it was named.
        prefix: what stands before a member's name in the ``file`` of its rows, ``/`` included; may be empty.
        wanted: the columns that the user named.
        scratch: for private copies of tables in archives.

    Returns:
        one part for all documents, or one for each table that is not empty; the digest of a folder is over the names
        and digests of the members that are used, in their order.

    Raises:
        InputError: it cannot be unpacked or used, or one of its tables cannot.
    """
    path = Path(source)
    container = open_container(path, wanted.caps)
    documents, tables, about, num_others = find_contents(container, str(path))
    warnings: tuple[str, ...] = ()
    if documents:
        passed = f"; {num_others:,} other files not read" if num_others else ""
        name = path.name or path.resolve().name
        rows = partial(medquad_xml.read_members, container, documents, prefix, name)
        parts = [Part(f"MedQuAD XML, {len(documents):,} documents{passed}", medquad_xml.COLUMNS, rows)]
    else:
        parts, warnings = _table_parts(container, tables, path, prefix, wanted, scratch)
    digest = _digest(container, documents or tables) if path.is_dir() else sha256_of_file(path)
    return Opened(source, parts, SourceFile(source, digest), _stated_licence(container, about), warnings)


def _table_parts(
    container: Container, tables: list[Member], path: Path, prefix: str, wanted: ColumnNames, scratch: Scratch
) -> tuple[list[Part], tuple[str, ...]]:
    """Open the tables that are not empty; a warning names the others."""
    files = [
        TableFile(
            container.path_of(member, scratch), f"{path}/{member.name}", prefix + member.name, container.expansion
        )
        for member in tables
    ]
    parts, empty = [], []
    for file in files:
        try:
            parts.append(table_part(file, wanted, scratch))
        except EmptyTable as error:
            empty.append((file, error))
    if not parts:
        raise empty[0][1]
    names = listed([file.member.removeprefix(prefix) for file, _ in empty])
    warning = f"passed over, since they hold no rows: {len(empty):,} of {len(files):,} tables in {path}: {names}"
    return parts, (warning,) if empty else ()


def _digest(container: Container, members: list[Member]) -> str:
    total = hashlib.sha256()
    for member in members:
        with container.open(member) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        total.update(f"{member.name}\0{digest}\n".encode())
    return total.hexdigest()


def _stated_licence(container: Container, about: list[Member]) -> str | None:
    """Return the hub's name of the licence, where the files beside the data agree on one that is known."""
    licences = set()
    for member in about:
        if member.size <= LARGEST_LICENCE_TEXT:
            text = " ".join(read_member(container, member).decode("utf-8", "replace").split()).casefold()
            licences |= {licence for licence, phrase in _LICENCES.items() if phrase.casefold() in text}
    return licences.pop() if len(licences) == 1 else None


def table_part(file: TableFile, wanted: ColumnNames, scratch: Scratch) -> Part:
    """Open one of several tables for its columns; its rows open it again, so that a thousand are never open at once."""
    table = open_table(file, wanted, scratch)
    return Part(table.description, table.columns, lambda: open_table(file, wanted, scratch).rows, table.warnings)


def _is_hidden(name: str) -> bool:
    return any(
        part == "__MACOSX" or (part.startswith((".", "~$")) and part != "..") for part in PurePosixPath(name).parts
    )
