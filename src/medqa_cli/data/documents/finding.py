"""Which files the documents are: those that are named, and those in the folders that are named."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medqa_cli.data.dataset import REPORT_NAME
from medqa_cli.data.reading.formats import NOTE_SUFFIX, TABLE_SUFFIXES, table_suffix
from medqa_cli.errors import InputError
from medqa_cli.files import odd_kind
from medqa_cli.spelling import counted, distinct_ends

TEXT_SUFFIXES = (NOTE_SUFFIX, ".md", ".markdown")
PAGE_SUFFIXES = (".html", ".htm", ".xhtml")
PDF_SUFFIX = ".pdf"
_KNOWN = ", ".join(
    [*TEXT_SUFFIXES, *PAGE_SUFFIXES, PDF_SUFFIX, *(suffix for suffix in TABLE_SUFFIXES if suffix != NOTE_SUFFIX)]
)
_ALONE = "name the folder that holds documents alone"


@dataclass(frozen=True)
class DocumentFile:
    """A document.

    ``name``: a short one, the same wherever medqa is started; ``shown``: its path, for messages. ``is_named``: by the
    user, not only as part of a folder.
    """

    path: Path
    name: str
    shown: str
    is_named: bool


@dataclass
class DocumentListing:
    """The documents in their order, and by suffix the number of other files in the folders."""

    files: list[DocumentFile] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


def document_kind(name: str) -> str:
    """Return what a file is by its name: ``text``, ``page``, ``pdf``, ``table``, or nothing for no document."""
    suffix = Path(name.lower()).suffix
    if suffix in TEXT_SUFFIXES:
        return "text"
    if suffix in PAGE_SUFFIXES:
        return "page"
    if suffix == PDF_SUFFIX:
        return "pdf"
    return "table" if table_suffix(name) not in ("", NOTE_SUFFIX) else ""


def find_documents(documents: str | Sequence[str] | None, out_dir: Path, sources: Sequence[Path]) -> DocumentListing:
    """Return the documents.

    Args:
        documents: files and folders; a folder is looked through with the folders in it, in the order of the names.
        out_dir: the data folder, which is replaced.
        sources: files and folders that are converted: their held-out rows must not be among the documents.

    Raises:
        InputError: one is missing or of another kind, lies in the data folder or holds it or a source; no folder
            holds any document.
    """
    listing = DocumentListing()
    named = [documents] if isinstance(documents, str) else list(documents or ())
    if not named:
        return listing
    resolved = [_real(Path(path)) for path in named]
    twice = next((path for path, count in Counter(resolved).items() if count > 1), None)
    if twice is not None:
        raise InputError(f"data.documents: {named[resolved.index(twice)]} is named twice", "name it once")
    names = distinct_ends([path.parts for path in resolved])
    for path, name in zip(map(Path, named), names, strict=True):
        _check_apart(path, out_dir, sources)
        try:
            if path.is_dir():
                _look_through(path, f"{name}/" if len(named) > 1 else "", listing)
            else:
                _check_file(path)
                listing.files.append(DocumentFile(path, name, str(path), is_named=True))
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or error}", "check its permissions") from error
    # A file that is named may also lie in a folder that is named.
    first = {_real(file.path): file for file in reversed(listing.files)}
    listing.files = [file for file in listing.files if first[_real(file.path)] is file]
    if not listing.files:
        others = f"only {counted(listing.others)}" if listing.others else "no files"
        raise InputError(
            f"data.documents: {', '.join(named)} holds no documents; found {others}", f"the documents are {_KNOWN}"
        )
    return listing


def _check_apart(path: Path, out_dir: Path, sources: Sequence[Path]) -> None:
    resolved, target = _real(path), _real(out_dir)
    if resolved.is_relative_to(target):
        raise InputError(
            f"data.documents: {path} lies in {out_dir}, which is replaced as a whole",
            "move it, or choose another: --out DIR",
        )
    if target.is_relative_to(resolved):
        raise InputError(f"data.documents: {path} holds the data folder {out_dir}", _ALONE)
    for source in sources:
        if _real(source).is_relative_to(resolved) or resolved.is_relative_to(_real(source)):
            raise InputError(
                f"data.documents: {path} holds rows of the source {source}: held-out answers would stand in it",
                _ALONE,
            )


def _check_file(path: Path) -> None:
    if path.is_symlink() and not path.exists():
        raise InputError(f"data.documents: {path} is a link to something that does not exist", "name the file itself")
    if not path.exists():
        raise InputError(f"data.documents: {path} does not exist", "check the name; null: no documents")
    if kind := odd_kind(path):
        raise InputError(f"data.documents: {path} is {kind}; expected a file or a folder", "copy its content to a file")
    if not document_kind(path.name):
        raise InputError(
            f"data.documents: {path} is no document that medqa reads; expected {_KNOWN}",
            "save it as .pdf, or its text as .txt",
        )


def _look_through(folder: Path, prefix: str, listing: DocumentListing) -> None:
    """Take the documents in a folder; links to folders are not followed, hidden files are passed over."""

    def fail(error: OSError) -> None:
        raise error

    paths: list[str] = []
    for directory, folders, names in os.walk(folder, onerror=fail):
        if {REPORT_NAME, "train.jsonl"} <= {*names}:
            raise InputError(f"data.documents: {directory} is a data set that was converted before", _ALONE)
        linked = [name for name in folders if Path(directory, name).is_symlink()]
        listing.others.update({"links to folders": len(linked)} if linked else {})
        folders[:] = [name for name in folders if not _is_hidden(name)]
        paths += [Path(directory, name).relative_to(folder).as_posix() for name in names if not _is_hidden(name)]
    for name in sorted(paths, key=os.fsencode):
        path = folder / name
        if document_kind(name) and not odd_kind(path):
            shown = os.fsencode(name).decode("utf-8", "backslashreplace")
            listing.files.append(DocumentFile(path, f"{prefix}{shown}", f"{folder}/{shown}", is_named=False))
        else:
            listing.others[path.suffix.lower() or "no suffix"] += 1


def _real(path: Path) -> Path:
    """Return a path without links; unlike ``Path.resolve`` it takes one that leads to itself."""
    return Path(os.path.realpath(path))


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "~$")) or name == "__MACOSX"
