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
from medqa_cli.data.reading.rows import ColumnNames, Columns, EmptyTable, Rows, TableFile
from medqa_cli.data.reading.tables import open_table, table_suffix
from medqa_cli.errors import InputError
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
class Bundle:
    """An opened folder or archive. ``warnings``: what was passed over."""

    parts: list[Part]
    container: Container
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contents:
    """The members of a container that are used (either kind), and how many are passed over."""

    documents: list[Member]
    tables: list[Member]
    about: list[Member]
    others: int


def find_contents(container: Container, shown: str) -> Contents:
    """Sort the members of a container.

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
    return Contents(documents, tables, about, len(members) - len(documents) - len(tables) - len(about))


def is_archive(name: str) -> bool:
    """Tell whether a file name is that of an archive."""
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def open_bundle(path: Path, prefix: str, wanted: ColumnNames, scratch: Scratch) -> Bundle:
    """Open a folder or an archive.

    Args:
        path: the folder or archive.
        prefix: what stands before a member's name in the ``file`` of its rows, ``/`` included; may be empty.
        wanted: the columns that the user named.
        scratch: for private copies of tables in archives.

    Returns:
        one part for all documents, or one for each table that is not empty; and the container.

    Raises:
        InputError: it cannot be unpacked or used, or one of its tables cannot.
    """
    container = open_container(path, wanted.caps)
    contents = find_contents(container, str(path))
    passed = f"; {contents.others:,} other files not read" if contents.others else ""
    if contents.documents:
        description = f"MedQuAD XML, {len(contents.documents):,} documents{passed}"
        name = path.name or path.resolve().name
        rows = partial(medquad_xml.read_members, container, contents.documents, prefix, name)
        return Bundle([Part(description, medquad_xml.COLUMNS, rows)], container)
    files = [
        TableFile(
            container.path_of(member, scratch), f"{path}/{member.name}", prefix + member.name, container.expansion
        )
        for member in contents.tables
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
    told = f"passed over, since they hold no rows: {len(empty):,} of {len(files):,} tables in {path}: {names}"
    return Bundle(parts, container, (told,) if empty else ())


def digest_of_folder(container: Container) -> str:
    """Return the SHA-256 over the names and digests of the members that are used, in their order."""
    contents = find_contents(container, "")
    total = hashlib.sha256()
    for member in contents.documents or contents.tables:
        with container.open(member) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        total.update(f"{member.name}\0{digest}\n".encode())
    return total.hexdigest()


def stated_licence(container: Container, shown: str) -> str | None:
    """Return the hub's name of the licence, where the files beside the data agree on one that is known."""
    found = set()
    for member in find_contents(container, shown).about:
        if member.size <= LARGEST_LICENCE_TEXT:
            text = " ".join(read_member(container, member).decode("utf-8", "replace").split()).casefold()
            found |= {licence for licence, phrase in _LICENCES.items() if phrase.casefold() in text}
    return found.pop() if len(found) == 1 else None


def table_part(file: TableFile, wanted: ColumnNames, scratch: Scratch) -> Part:
    """Open one of several tables for its columns; its rows open it again, so that a thousand are never open at once."""
    table = open_table(file, wanted, scratch)

    def rows() -> Rows:
        return open_table(file, wanted, scratch).rows

    return Part(table.description, table.columns, rows, table.warnings)


def _is_hidden(name: str) -> bool:
    return any(
        part == "__MACOSX" or (part.startswith((".", "~$")) and part != "..") for part in PurePosixPath(name).parts
    )
