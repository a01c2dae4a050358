"""Opens what ``medqa convert`` is given: files, folders, archives and hub ids, one or several, as one run of rows.

Each row of a source comes out, as a row or as one that could not be read.
"""

import contextlib
import functools
import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from medqa_cli.data.dataset import REPORT_NAME
from medqa_cli.data.reading import archives, formats, hub, medquad_xml, shapes
from medqa_cli.data.reading.tables import check_content, open_table
from medqa_cli.errors import InputError
from medqa_cli.files import reading_from, sha256_of_file
from medqa_cli.spelling import counted, did_you_mean, distinct_ends, listed

MOST_DESCRIBED = 5
LARGEST_LICENSE_TEXT = 1_000_000

# What stands beside data and is none.
_ABOUT = re.compile(r"(readme|licen[cs]e|copying|citation|notice)\b", re.IGNORECASE)
_HIDDEN = re.compile(r"__MACOSX\Z|~\$|\.(?!\.\Z)")  # part of a path
_METADATA = {"dataset-metadata.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
_LICENSES = {
    "cc-by-4.0": "Creative Commons Attribution 4.0",
    "cc-by-sa-4.0": "Creative Commons Attribution-ShareAlike 4.0",
    "cc-by-nc-4.0": "Creative Commons Attribution-NonCommercial 4.0",
    "cc0-1.0": "CC0 1.0",
    "mit": "MIT License",
    "apache-2.0": "Apache License",
}


def check_sources(sources: Sequence[str]) -> None:
    """Check cheaply that each source can be one: a non-empty file of a known kind, a folder of such, or a hub id.

    Raises:
        InputError: one is not, or is named twice.
    """
    if not sources:
        raise InputError("no source", "run: medqa convert FILE")
    seen: set[Path | str] = set()
    all_named: list[Path | str] = [*local_paths(sources), *filter(looks_like_hub_id, sources)]
    for named in all_named:
        key = named.resolve() if isinstance(named, Path) else named
        if key in seen:
            raise InputError(f"{named} is named twice as a source", "name it once")
        seen.add(key)
    for source in sources:
        if not looks_like_hub_id(source):
            with reading_from(source):
                _check_local(source)


def open_sources(sources: Sequence[str], wanted: shapes.ColumnNames) -> shapes.SourceRows:
    """Open the sources.

    Args:
        sources: files, folders, archives and hub ids, in the order of their rows.
        wanted: the columns that the user named, the same for all.

    Returns:
        the formats found, the columns in use, the digests and an iterator over all rows, which reads as it goes.

    Raises:
        InputError: a source is missing, empty, unreadable, of an unknown kind, or lacks a column or data rows. What
            is wrong further on in a source is raised while its rows are read.
    """
    check_sources(sources)
    names = [""]  # what stands for each source in the ``file`` of its rows
    if len(sources) > 1:
        parts = [(source,) if looks_like_hub_id(source) else Path(source).resolve().parts for source in sources]
        names = distinct_ends(parts)
    with contextlib.ExitStack() as stack:
        scratch = archives.Scratch()
        stack.callback(scratch.close)
        opened = []
        for source, name in zip(sources, names, strict=True):
            with reading_from(source):
                opened.append(_open(source, name, wanted, scratch))
        rows = _all_rows(opened, stack.pop_all())
    # The first row, so that its source's errors come now.
    first = list(itertools.islice(rows, 1))
    tables = [table for source in opened for table in source.tables]
    # Each warning once, with the number of tables that it is about where it is not about all.
    counts = Counter(warning for table in tables for warning in dict.fromkeys(table.warnings))
    of_tables = [
        warning if count == len(tables) else f"{warning} (in {count:,} of {len(tables):,} tables)"
        for warning, count in counts.items()
    ]
    licenses = {source.license for source in opened}
    return shapes.SourceRows(
        _describe(opened),
        tables[0].columns,
        itertools.chain(first, rows),
        {
            f"{source.source} (commit {source.commit})" if source.commit else source.source: source.sha256
            for source in opened
        },
        licenses.pop() if len(licenses) == 1 else None,
        (*(warning for source in opened for warning in source.warnings), *of_tables),
    )


def local_paths(sources: Sequence[str]) -> list[Path]:
    """Return the sources that exist on this machine, as paths."""
    return [Path(source) for source in sources if _exists(Path(source))]


def looks_like_hub_id(source: str) -> bool:
    """Tell whether a source names a data set of the hub: by its form, and because no path is meant.

    A path is meant where it exists, where its folder does, or where it ends like a table, an archive or a document.
    """
    path = Path(source)
    if hub.parse_hub_id(source) is None or _exists(path) or path.parent.is_dir():
        return False
    return not _is_file_of_data(path)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        # Too long for a name, or in a folder that may not be read: opening it tells.
        return False


def _is_file_of_data(path: Path) -> bool:
    """Tell whether a file ends like a table, an archive or a document."""
    return (
        formats.table_suffix(path.name) != ""
        or formats.is_archive(path.name)
        or path.suffix.lower() == formats.MEDQUAD_SUFFIX
    )


def _check_local(source: str) -> None:
    path = Path(source)
    if not source.strip():
        raise InputError("a source has no name", "run: medqa convert FILE")
    if "://" in source:
        raise InputError(f"{source} is an address; medqa does not download files", "download it and name the file")
    if path.is_dir():
        _find_contents(archives.open_container(path, shapes.Caps()), str(path))
        return
    if not path.exists():
        hint = "check the name, on the command line or in data.source"
        if hub.parse_hub_id(str(path)) and path.parent.is_dir():
            hint = f"{hint} (a folder {path.parent} is here, so this is a path and no data set of the hub)"
        if path.is_symlink():
            raise InputError(f"{path} is a link to something that does not exist", hint)
        if not path.parent.is_dir():
            raise InputError(f"{path} does not exist: there is no folder {path.parent}", hint)
        meant = ""
        with contextlib.suppress(OSError):
            meant = did_you_mean(path.name, sorted(other.name for other in path.parent.iterdir()))
        raise InputError(f"{path} does not exist{meant}", hint)
    if not path.is_file():
        raise InputError(f"{path} is neither a file nor a folder", "copy its content to a file")
    if not _is_file_of_data(path):
        suffix = f"'{path.suffix}'" if path.suffix else "no suffix"
        known = ", ".join([*formats.TABLE_SUFFIXES, formats.MEDQUAD_SUFFIX, *formats.ARCHIVE_SUFFIXES])
        raise InputError(
            f"{path}: unknown format ({suffix}); expected {known}, or one of the tables packed (.csv.gz)",
            "export it as CSV (spreadsheet programs: 'CSV UTF-8'), or rename it if it is one of these",
        )
    check_content(shapes.TableFile(path, str(path)))


def _open(source: str, name: str, wanted: shapes.ColumnNames, scratch: archives.Scratch) -> shapes.Opened:
    prefix = f"{name}/" if name else ""
    if looks_like_hub_id(source):
        return hub.open_hub(source, prefix, wanted)
    path = Path(source)
    if path.is_dir() or formats.is_archive(path.name):
        return _open_folder(source, prefix, wanted, scratch)
    file = shapes.TableFile(path, source, name)
    if path.suffix.lower() == formats.MEDQUAD_SUFFIX:
        rows = medquad_xml.read_source(path, name)
        table: shapes.PairTable = shapes.PairTable("MedQuAD XML, one document", medquad_xml.COLUMNS, rows)
    elif name:
        table = shapes.opened_again(lambda: open_table(file, wanted, scratch))
    else:
        table = open_table(file, wanted, scratch)
    return shapes.Opened(source, [table], sha256_of_file(path))


def _find_contents(container: archives.Container, shown: str) -> tuple[list[str], list[str], list[str], int]:
    """Return the documents or the tables of a container, the notes beside them, and how many members are neither.

    Raises:
        InputError: it holds documents and tables, neither of them, or a data set that medqa wrote.
    """
    members = [name for name in container.members if not any(map(_HIDDEN.match, PurePosixPath(name).parts))]
    if {REPORT_NAME, "train.jsonl"} <= {*members}:
        raise InputError(f"{shown} is a data set that was converted before", f"run: medqa convert --audit {shown}")
    about = [name for name in members if _ABOUT.match(PurePosixPath(name).name)]
    data = [name for name in members if name not in about and PurePosixPath(name).name not in _METADATA]
    documents = [name for name in data if name.lower().endswith(formats.MEDQUAD_SUFFIX)]
    tables = [name for name in data if formats.table_suffix(name) not in ("", formats.NOTE_SUFFIX)]
    if documents and tables:
        raise InputError(
            f"{shown} holds {len(documents):,} XML documents and {len(tables):,} tables "
            f"({listed(tables)}); expected one kind",
            "name one of the files or folders in it (unpack an archive first)",
        )
    if not documents and not tables:
        suffixes = Counter(PurePosixPath(name).suffix or "no suffix" for name in members)
        counts = f"only {counted(suffixes)}" if members else "no files"
        *known, last = (
            formats.MEDQUAD_SUFFIX,
            *(suffix for suffix in formats.TABLE_SUFFIXES if suffix != formats.NOTE_SUFFIX),
        )
        hint = f"name a file, or a folder or archive that holds {', '.join(known)} or {last} files"
        saved = next((name for name in members if name.endswith(".arrow")), None)
        if saved is not None:
            folder = (PurePosixPath(shown) / saved).parent
            hint = (
                "a data set that was saved to disk is read as Parquet: "
                f"python -c \"import datasets; datasets.load_from_disk('{folder}').to_parquet('{folder}.parquet')\""
            )
        raise InputError(f"{shown} holds no XML documents and no tables; found {counts}", hint)
    return documents, tables, about, len(members) - len(documents) - len(tables) - len(about)


def _open_folder(source: str, prefix: str, wanted: shapes.ColumnNames, scratch: archives.Scratch) -> shapes.Opened:
    """Open a folder or an archive.

    Args:
        source: the folder or archive as it was named.
        prefix: what stands before a member's name in the ``file`` of its rows, ``/`` included; may be empty.
        wanted: the columns that the user named.
        scratch: for private copies of tables in archives.

    Returns:
        one table for all documents, or each table that is not empty; the digest of a folder is over the names and
        digests of the members that are used, in their order.

    Raises:
        InputError: it cannot be unpacked or used, or one of its tables cannot.
    """
    path = Path(source)
    container = archives.open_container(path, wanted.caps)
    documents, names, about, num_others = _find_contents(container, str(path))
    warnings: tuple[str, ...] = ()
    if documents:
        passed = f"; {num_others:,} other files not read" if num_others else ""
        rows = medquad_xml.read_members(container, documents, prefix, path.name or path.resolve().name)
        description = f"MedQuAD XML, {len(documents):,} documents{passed}"
        tables: list[shapes.PairTable] = [shapes.PairTable(description, medquad_xml.COLUMNS, rows)]
    else:
        tables, empty = [], dict[str, shapes.EmptyTable]()
        files = [
            shapes.TableFile(container.path_of(name, scratch), f"{path}/{name}", prefix + name, container.expansion)
            for name in names
        ]
        for name, table_file in zip(names, files, strict=True):
            try:
                tables.append(shapes.opened_again(functools.partial(open_table, table_file, wanted, scratch)))
            except shapes.EmptyTable as error:
                empty[name] = error
        if not tables:
            raise next(iter(empty.values()))
        if empty:
            shown = f"{len(empty):,} of {len(names):,} tables in {path}: {listed(list(empty))}"
            warnings = (f"passed over, since they hold no rows: {shown}",)
    if path.is_dir():
        total = hashlib.sha256()
        for name in documents or names:
            with container.open(name) as file:
                total.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())  # type: ignore[arg-type]
        digest = total.hexdigest()
    else:
        digest = sha256_of_file(path)
    return shapes.Opened(source, tables, digest, license=_stated_license(container, about), warnings=warnings)


def _stated_license(container: archives.Container, about: list[str]) -> str | None:
    """Return the hub's name of the license, where the files beside the data agree on one that is known."""
    licenses = set()
    for name in about:
        if container.members[name] <= LARGEST_LICENSE_TEXT:
            text = " ".join(archives.read_member(container, name).decode("utf-8", "replace").split()).casefold()
            licenses |= {license for license, phrase in _LICENSES.items() if phrase.casefold() in text}
    return licenses.pop() if len(licenses) == 1 else None


def _all_rows(opened: Sequence[shapes.Opened], open_files: contextlib.ExitStack) -> shapes.Rows:
    with open_files:
        for source in opened:
            empty = True
            with reading_from(source.source):
                for table in source.tables:
                    for row in table.rows:
                        empty = False
                        yield row
            if empty:
                raise InputError(
                    f"{source.source} has no data rows, only the columns {source.tables[0].columns.describe()}",
                    "give a file with at least one row",
                )


def _describe(opened: Sequence[shapes.Opened]) -> str:
    """Return the formats found; of several sources each with its name, and with columns that differ from the first."""
    first = opened[0].tables[0].columns.describe()
    descriptions = []
    for item in opened:
        kinds: dict[str, int] = {}
        for table in item.tables:
            columns = table.columns.describe()
            kind = table.description if columns == first else f"{table.description} (columns: {columns})"
            kinds[kind] = kinds.get(kind, 0) + 1
        shown = [f"{count:,} tables: {kind}" if count > 1 else kind for kind, count in kinds.items()]
        more = f" and {len(shown) - MOST_DESCRIBED} other kinds" if len(shown) > MOST_DESCRIBED else ""
        text = "; ".join(shown[:MOST_DESCRIBED]) + more
        descriptions.append(text if len(opened) == 1 else f"{item.source}: {text}")
    return "; ".join(descriptions)
