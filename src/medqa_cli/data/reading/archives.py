"""Folders, .zip and .tar(.gz) files as lists of members that can be read in any order.

No member is extracted under its name: it is read into memory or copied to a private temporary file. Links and devices
in an archive are passed over.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import re
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TypeVar

from medqa_cli.data.reading.shapes import Caps, Expansion
from medqa_cli.errors import InputError

BLOCK = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"
ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")  # with members, without any
ENCRYPTED = 1  # bit of ZipInfo.flag_bits
T = TypeVar("T")
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,10}")


class Scratch:
    """A private temporary folder, made when first asked for and deleted by ``close``."""

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files = 0

    def new_path(self, suffix: str) -> Path:
        """Return the path of a file that does not exist yet."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="medqa-")
        self._files += 1
        return Path(self._folder.name) / f"{self._files}{suffix}"

    def close(self) -> None:
        """Delete the folder and all in it."""
        if self._folder is not None:
            self._folder.cleanup()


def open_container(path: Path, caps: Caps) -> Container:
    """Open a folder or an archive; the content of the file tells which archive it is.

    Raises:
        InputError: it is damaged, protected by a password, or unpacks to far more than it should.
    """
    if path.is_dir():
        return _Folder(path)
    # Not zipfile.is_zipfile: it also takes a tar file whose last member is a zip.
    with open(path, "rb") as file:
        is_zip = file.read(4) in ZIP_MAGICS
    return _Zip(path, caps) if is_zip else _Tar(path, caps)


def copy_unpacked(source: IO[bytes] | io.BufferedIOBase, target: IO[bytes], expansion: Expansion) -> None:
    """Copy what a packed file unpacks to; ``expansion`` counts the bytes.

    Raises:
        InputError: it unpacks to more than it may.
    """
    while block := source.read(BLOCK):
        expansion.add(len(block))
        target.write(block)


@contextlib.contextmanager
def damage_reported(shown: str) -> Iterator[None]:
    """Turn what the unpackers raise into InputError; the disk's own errors pass."""
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise InputError(
            f"{shown} is damaged: {error or type(error).__name__}",
            "it may be cut off, or another kind of file: copy or download it again",
        ) from error
    except (RuntimeError, NotImplementedError) as error:
        # A password, or a method of packing that zipfile does not know.
        raise InputError(f"{shown} cannot be unpacked: {error}", "unpack it yourself and name the folder") from error


class _Folder:
    """The files below a folder; ``members`` as in ``_Archive``."""

    def __init__(self, path: Path) -> None:
        self.expansion: Expansion | None = None

        def fail(error: OSError) -> None:
            raise error

        paths = {}
        for folder, _, names in os.walk(path, onerror=fail):
            for name in names:
                file = Path(folder) / name
                # False for what vanished, for broken links and for links in a circle.
                if file.is_file():
                    paths[_printable(file.relative_to(path).as_posix())] = file
        self._files = _in_order(paths)
        self.members = {name: file.stat().st_size for name, file in self._files.items()}

    def open(self, member: str) -> IO[bytes]:
        return open(self._files[member], "rb")

    def path_of(self, member: str, scratch: Scratch) -> Path:
        return self._files[member]


class _Archive:
    """What zip and tar share: a member's own file is a private copy.

    ``members``: the unpacked size in bytes of each regular file, by its name with ``/`` between the parts, sorted by
    the bytes of the names. ``expansion`` counts what the archive unpacks to, also what is packed in it once more.
    """

    def __init__(self, path: Path, caps: Caps, members: dict[str, int]) -> None:
        self.members = members
        self._expansion = Expansion(path, str(path), caps)
        self.expansion: Expansion | None = self._expansion
        # Refuse a bomb before any of it is unpacked.
        Expansion(path, str(path), caps).add(sum(members.values()))

    def open(self, member: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        raise NotImplementedError

    def path_of(self, member: str, scratch: Scratch) -> Path:
        # The name comes from the archive: only what looks like a suffix becomes part of a path here.
        suffixes = [suffix for suffix in Path(member).suffixes[-2:] if _SUFFIX.fullmatch(suffix)]
        path = scratch.new_path("".join(suffixes))
        with self.open(member) as packed, open(path, "wb") as copy:
            copy_unpacked(packed, copy, self._expansion)
        return path


class _Zip(_Archive):
    def __init__(self, path: Path, caps: Caps) -> None:
        self._shown = str(path)
        with damage_reported(self._shown):
            self._zip = zipfile.ZipFile(path)
            if any(info.flag_bits & ENCRYPTED for info in self._zip.infolist()):
                raise RuntimeError("it is protected by a password")
        # Of two members of one name the last counts, as it does when the archive is unpacked.
        self._infos = _in_order(
            {
                _printable(info.filename.replace("\\", "/")): info
                for info in self._zip.infolist()
                if not info.is_dir() and stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)
            }
        )
        super().__init__(path, caps, {name: info.file_size for name, info in self._infos.items()})

    @contextlib.contextmanager
    def open(self, member: str) -> Iterator[IO[bytes]]:
        with damage_reported(self._shown), self._zip.open(self._infos[member]) as file:
            yield file


class _Tar(_Archive):
    """A tar file; a packed one is unpacked to an unnamed temporary file, since its members are needed in order."""

    def __init__(self, path: Path, caps: Caps) -> None:
        self._shown = str(path)
        with damage_reported(self._shown):
            self._tar = tarfile.TarFile(fileobj=_unpacked(path, caps))
            infos = self._tar.getmembers()
            # At a damaged header or a cut, tarfile stops in silence; then the end mark is missing.
            if self._tar.fileobj is not None:
                self._tar.fileobj.seek(self._tar.offset)
                block = self._tar.fileobj.read(tarfile.BLOCKSIZE)
                if not block or block.strip(b"\0"):
                    last = _printable(infos[-1].name) if infos else "its start"
                    raise tarfile.ReadError(f"it ends or cannot be read after {last}")
        self._infos = _in_order({_printable(info.name.removeprefix("./")): info for info in infos if info.isreg()})
        super().__init__(path, caps, {name: info.size for name, info in self._infos.items()})

    @contextlib.contextmanager
    def open(self, member: str) -> Iterator[IO[bytes]]:
        file = self._tar.extractfile(self._infos[member])
        assert file is not None  # a regular file
        with damage_reported(self._shown), file:
            yield file


def _unpacked(path: Path, caps: Caps) -> IO[bytes]:
    """Return an open tar file, of a packed one a copy."""
    file = open(path, "rb")  # noqa: SIM115 - closed with the archive
    packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    file.seek(0)
    if not packed:
        return file
    with file, gzip.open(file) as unpacking:
        spool = tempfile.TemporaryFile(prefix="medqa-")  # noqa: SIM115 - closed with the archive
        copy_unpacked(unpacking, spool, Expansion(path, str(path), caps))
    spool.seek(0)
    return spool


Container = _Folder | _Archive
"""A folder or an archive: ``open`` a member for reading, or get a local file with its content by ``path_of``."""


def read_member(container: Container, member: str) -> bytes:
    """Return the content of a small member."""
    with container.open(member) as file:
        return file.read()


def _in_order(files: dict[str, T]) -> dict[str, T]:
    return dict(sorted(files.items(), key=lambda item: item[0].encode("utf-8")))


def _printable(name: str) -> str:
    """Return a name that can be written as UTF-8: names of other encodings hold lone surrogates."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
