"""Opens what ``medqa convert`` is given: files, folders, archives and hub ids, one or several, as one run of rows.

Each row of a source comes out, as a row or as one that could not be read.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from medqa_cli.data.reading import medquad_xml
from medqa_cli.data.reading.archives import Scratch, open_container
from medqa_cli.data.reading.folders import (
    ARCHIVE_SUFFIXES,
    Opened,
    Part,
    find_contents,
    is_archive,
    open_folder,
    table_part,
)
from medqa_cli.data.reading.hub import open_hub, parse_hub_id
from medqa_cli.data.reading.rows import Caps, ColumnNames, Rows, SourceFile, SourceRows, TableFile
from medqa_cli.data.reading.tables import READERS, check_content, open_table, table_suffix
from medqa_cli.errors import InputError
from medqa_cli.files import sha256_of_file
from medqa_cli.spelling import did_you_mean

__all__ = ["SourceFile", "SourceRows", "check_sources", "local_paths", "looks_like_hub_id", "open_sources"]

DOCUMENT_SUFFIX = ".xml"
MOST_DESCRIBED = 5


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
        place = named.resolve() if isinstance(named, Path) else named
        if place in seen:
            raise InputError(f"{named} is named twice as a source", "name it once")
        seen.add(place)
    for source in sources:
        if not looks_like_hub_id(source):
            with _reported(source):
                _check_local(source)


def open_sources(sources: Sequence[str], wanted: ColumnNames) -> SourceRows:
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
    names = _names(sources)
    with contextlib.ExitStack() as stack:
        scratch = Scratch()
        stack.callback(scratch.close)
        opened = []
        for source, name in zip(sources, names, strict=True):
            with _reported(source):
                opened.append(_open(source, name, wanted, scratch))
        rows = _all_rows(opened, stack.pop_all())
    # The first row, so that its source's errors come now.
    first = list(itertools.islice(rows, 1))
    licences = {one.licence for one in opened}
    return SourceRows(
        _describe(opened),
        opened[0].parts[0].columns,
        itertools.chain(first, rows),
        tuple(one.file for one in opened),
        licences.pop() if len(licences) == 1 else None,
        _warnings(opened),
    )


def local_paths(sources: Sequence[str]) -> list[Path]:
    """Return the sources that exist on this machine, as paths."""
    return [Path(source) for source in sources if _exists(Path(source))]


def looks_like_hub_id(source: str) -> bool:
    """Tell whether a source names a data set of the hub: by its form, and because no path is meant.

    A path is meant where it exists, where its folder does, or where it ends like a table, an archive or a document.
    """
    path = Path(source)
    if parse_hub_id(source) is None or _exists(path) or path.parent.is_dir():
        return False
    return not (_is_table(path) or is_archive(path.name) or path.suffix.lower() == DOCUMENT_SUFFIX)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        # Too long for a name, or in a folder that may not be read: opening it tells.
        return False


def _is_table(path: Path) -> bool:
    return table_suffix(path.name) != ""


def _check_local(source: str) -> None:
    path = Path(source)
    if not source.strip():
        raise InputError("a source has no name", "run: medqa convert FILE")
    if "://" in source:
        raise InputError(f"{source} is an address; medqa does not download files", "download it and name the file")
    if path.is_dir():
        find_contents(open_container(path, Caps()), str(path))
        return
    if not path.exists():
        raise _missing(path)
    if not path.is_file():
        raise InputError(f"{path} is neither a file nor a folder", "copy its content to a file")
    if not (_is_table(path) or is_archive(path.name) or path.suffix.lower() == DOCUMENT_SUFFIX):
        found = f"'{path.suffix}'" if path.suffix else "no suffix"
        known = ", ".join([*READERS, DOCUMENT_SUFFIX, *ARCHIVE_SUFFIXES])
        raise InputError(
            f"{path}: unknown format ({found}); expected {known}, or one of the tables packed (.csv.gz)",
            "export it as CSV (spreadsheet programs: 'CSV UTF-8'), or rename it if it is one of these",
        )
    check_content(TableFile(path, str(path)))


def _missing(path: Path) -> InputError:
    hint = "check the name, or data.source in medqa.yaml"
    if parse_hub_id(str(path)) and path.parent.is_dir():
        hint = f"{hint} (a folder {path.parent} is here, so this is a path and no data set of the hub)"
    if path.is_symlink():
        return InputError(f"{path} is a link to something that does not exist", hint)
    return InputError(f"{path} does not exist{_similar_file(path)}", hint)


def _similar_file(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f": there is no folder {folder}"
    try:
        return did_you_mean(path.name, sorted(other.name for other in folder.iterdir()))
    except OSError:
        return ""


def _names(sources: Sequence[str]) -> list[str]:
    """Return what stands for each source in the ``file`` of its rows: nothing for a single one, else a short name."""
    if len(sources) == 1:
        return [""]
    parts = [(source,) if looks_like_hub_id(source) else Path(source).resolve().parts for source in sources]
    # The shortest ends that differ, so that no name holds more of this machine's paths than it must.
    ends = (["/".join(part[-length:]) for part in parts] for length in range(1, 1 + max(map(len, parts))))
    return next(names for names in ends if len(set(names)) == len(names))  # no source is named twice


def _open(source: str, name: str, wanted: ColumnNames, scratch: Scratch) -> Opened:
    prefix = f"{name}/" if name else ""
    if looks_like_hub_id(source):
        return open_hub(source, prefix, wanted)
    path = Path(source)
    if path.is_dir() or is_archive(path.name):
        return open_folder(source, prefix, wanted, scratch)
    if path.suffix.lower() == DOCUMENT_SUFFIX:
        parts = [Part("MedQuAD XML, one document", medquad_xml.COLUMNS, partial(medquad_xml.read_source, path, name))]
    else:
        file = TableFile(path, source, name)
        # One of several is opened again when its turn comes, so that they are never all open at once.
        if name:
            parts = [table_part(file, wanted, scratch)]
        else:
            table = open_table(file, wanted, scratch)
            parts = [Part(table.description, table.columns, lambda: table.rows, table.warnings)]
    return Opened(source, parts, SourceFile(source, sha256_of_file(path)))


def _all_rows(opened: Sequence[Opened], open_files: contextlib.ExitStack) -> Rows:
    with open_files:
        for one in opened:
            empty = True
            with _reported(one.source):
                for part in one.parts:
                    for row in part.rows():
                        empty = False
                        yield row
            if empty:
                raise InputError(
                    f"{one.source} has no data rows, only the columns {one.parts[0].columns.describe()}",
                    "give a file with at least one row",
                )


def _describe(opened: Sequence[Opened]) -> str:
    """Return the formats found; of several sources each with its name, and with columns that differ from the first."""
    first = opened[0].parts[0].columns.describe()
    told = []
    for one in opened:
        kinds: dict[str, int] = {}
        for part in one.parts:
            columns = part.columns.describe()
            kind = part.description if columns == first else f"{part.description} (columns: {columns})"
            kinds[kind] = kinds.get(kind, 0) + 1
        shown = [f"{count:,} tables: {kind}" if count > 1 else kind for kind, count in kinds.items()]
        more = f" and {len(shown) - MOST_DESCRIBED} other kinds" if len(shown) > MOST_DESCRIBED else ""
        text = "; ".join(shown[:MOST_DESCRIBED]) + more
        told.append(text if len(opened) == 1 else f"{one.source}: {text}")
    return "; ".join(told)


def _warnings(opened: Sequence[Opened]) -> tuple[str, ...]:
    """Return each warning once, with the number of tables that it is about where it is not about all."""
    parts = [part for one in opened for part in one.parts]
    counts = Counter(warning for part in parts for warning in dict.fromkeys(part.warnings))
    of_tables = [
        warning if count == len(parts) else f"{warning} (in {count:,} of {len(parts):,} tables)"
        for warning, count in counts.items()
    ]
    return (*(warning for one in opened for warning in one.warnings), *of_tables)


@contextlib.contextmanager
def _reported(source: str) -> Iterator[None]:
    """Turn an error of the disk into one that names the source."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{source} cannot be read: {error.strerror or error}", "check its permissions and the disk"
        ) from error
