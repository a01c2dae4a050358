"""The run folder, who may read what is written, files and folders that appear whole or not at all, and JSON.

What the program writes holds questions, answers or weights that were tuned on them, so only its owner may read it
(``for_the_owner``). Temporary files hold such texts too; what becomes of those of killed runs: ``leftovers.py``.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from medqa_cli.errors import InputError, out_of_memory
from medqa_cli.leftovers import held, remove, sweep

CARD_NAME = "README.md"
MERGE_FILE_NAME = "merge.json"  # of a folder that medqa merge wrote
ACCESS_VARIABLE = "MEDQA_FILE_ACCESS"
_OWNER_ONLY = 0o077  # the umask that leaves files 0600 and folders 0700


# That of the shell, while this process has another.
_umask_of_shell: int | None = None


@contextlib.contextmanager
def for_the_owner() -> Iterator[None]:
    """Let this process and its children write files that nobody but their owner can read: 0600, folders 0700.

    By its umask, so that no library that writes a file is forgotten. With ``MEDQA_FILE_ACCESS=umask`` the umask of the
    shell decides.

    Raises:
        InputError: the variable has another value.
    """
    global _umask_of_shell
    chosen = os.environ.get(ACCESS_VARIABLE) or "owner"
    if chosen not in ("owner", "umask"):
        raise InputError(
            f"{ACCESS_VARIABLE} is {chosen!r}", "owner: only you can read what medqa writes; umask: as umask says"
        )
    if chosen == "umask":
        yield
        return
    before = os.umask(_OWNER_ONLY)
    _umask_of_shell = before
    try:
        yield
    finally:
        _umask_of_shell = None
        os.umask(before)


@contextlib.contextmanager
def as_umask_says() -> Iterator[None]:
    """Let the umask of the shell decide inside: for downloads of public models into a cache that others may share."""
    if _umask_of_shell is None:
        yield
        return
    before = os.umask(_umask_of_shell)
    try:
        yield
    finally:
        os.umask(before)


# What --model calls the models of a run; of two, the first is expected to be the better one.
MODEL_NAMES = ("gguf", "merged", "adapter", "base")


class RunFolder:
    """The paths below ``run_dir``: docs/files.md."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Of the last training: the resolved configuration; versions, machine and commit; the summary; a JSON object a
        # logged step; the loss curves.
        self.config_path = path / "config.yaml"
        self.environment_path = path / "environment.json"
        self.train_json_path = path / "train.json"
        self.train_log_path = path / "train.jsonl"
        self.loss_plot_path = path / "loss.png"
        # PEFT files, tokenizer and prompt.json; folders ``checkpoint-N``; a plain Transformers folder; GGUF files and
        # an Ollama Modelfile.
        self.adapter_dir = path / "adapter"
        self.checkpoints_dir = path / "checkpoints"
        self.merged_dir = path / "merged"
        self.gguf_dir = path / "gguf"
        # Samples and figures of the evaluation.
        self.eval_dir = path / "eval"
        self.results_path = self.eval_dir / "results.json"
        # Pages, key, judgments and figures of the review, and its preference pairs, to train on.
        self.review_dir = path / "review"
        self.review_results_path = self.review_dir / "results.json"
        self.preferences_path = self.review_dir / "dpo.jsonl"

    def folder_of(self, choice: str) -> Path:
        """Return the folder of a model of this run, ``adapter``, ``merged`` or ``gguf``; else the choice as a path."""
        return {"adapter": self.adapter_dir, "merged": self.merged_dir, "gguf": self.gguf_dir}.get(choice, Path(choice))


def odd_kind(path: Path) -> str:
    """Return what a path is, in words, if it is neither a file nor a folder; otherwise an empty text."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return ""  # opening it reports why
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return ""
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def require_file(path: Path) -> None:
    """Refuse a path that is not a regular file; a missing one is left to its reader.

    Raises:
        InputError: it is a pipe, a socket or a device.
    """
    if kind := odd_kind(path):
        raise InputError(f"{path} is {kind}; expected a file", "copy its content to a file and name that")


def sha256_of_file(path: Path) -> str:
    """Return the hex SHA-256 of a file, read in blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_text(text: str) -> str:
    """Return the hex SHA-256 of a text, which may hold halves of characters."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def without_surrogates(text: str) -> str:
    """Return a text with U+FFFD for halves of characters, which JSON can hold and neither a file nor a tokenizer."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def lack_of_room(folder: Path, needed_bytes: int, what: str) -> str | None:
    """Return the sentence that says so where a folder's file system has too little free room; None: it has enough.

    Args:
        folder: may not exist yet.
        needed_bytes: that many are going to be written.
        what: is going to be written.
    """
    free = shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.exists())).free
    if free >= needed_bytes:
        return None
    needed, free_there = (
        f"{size / 1e6:,.0f} MB" if size < 1e8 else f"{size / 1e9:.2f} GB" for size in (needed_bytes, free)
    )
    return f"not enough room for {what} in {folder}: {needed} are needed, {free_there} are free"


def write_json(path: Path, value: Any, *, private: bool = False) -> None:
    """Write ``value`` as indented JSON, whole or not at all; ``private``: only the owner may read it."""
    with atomic_file(path, private=private) as file:
        json.dump(value, file, ensure_ascii=False, indent=2, allow_nan=False)
        file.write("\n")


def write_json_lines(path: Path, values: Iterable[Any], *, private: bool = False) -> None:
    """Write one value a line as JSON, whole or not at all; ``private``: only the owner may read it."""
    with atomic_file(path, private=private) as file:
        file.writelines(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n" for value in values)


def read_json(path: Path) -> Any:
    """Read a JSON file that medqa wrote.

    Raises:
        InputError: the file is missing or damaged.
    """
    require_file(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error


@contextlib.contextmanager
def reading_from(source: str) -> Iterator[None]:
    """Turn an error of the disk into an InputError that names the source; memory that runs out stays what it is."""
    try:
        yield
    except OSError as error:
        if out_of_memory(error) is not None:
            raise
        raise InputError(
            f"{source} cannot be read: {error.strerror or error}", "check its permissions and the disk"
        ) from error


def is_full_disk(error: OSError) -> bool:
    """Tell whether a file could not be written because the disk or the user's quota is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def atomic_file(path: Path, *, private: bool = False) -> Iterator[IO[str]]:
    """Open a UTF-8 text file that replaces ``path`` only if the block ends without an error.

    Removes temporary files that killed runs left. ``private``: only the owner may read and write it.

    Raises:
        InputError: the folder cannot be written.
    """
    with atomic_path(path, private=private) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        yield file


@contextlib.contextmanager
def atomic_path(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Yield the path of a file to write, which replaces ``path`` only if the block ends without an error.

    Removes temporary files that killed runs left. ``private``: only the owner may read and write it.

    Raises:
        InputError: the folder cannot be written.
    """
    with _temporary(path, tempfile.mkstemp) as (handle, temporary):
        os.close(handle)
        yield temporary
        # mkstemp makes private files.
        if not private:
            temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)


@contextlib.contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """Yield a new folder next to ``path`` that replaces it only if the block ends without an error.

    Removes temporary folders that killed runs left.

    Raises:
        InputError: the folder cannot be written.
    """
    with _temporary(path, lambda **named: (-1, tempfile.mkdtemp(**named))) as (_, temporary):
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if not path.exists():
            temporary.rename(path)
            return
        # Two renames; ``sweep`` repairs an interruption between them.
        old = temporary.with_suffix(".old")
        with held(path):
            path.rename(old)
            try:
                temporary.rename(path)
            except BaseException:
                old.rename(path)
                raise
            if not remove(old):
                from medqa_cli import console  # most readers of a file print nothing

                console.warn(f"{path} is written, but what it replaced could not be deleted: {old}")


@contextlib.contextmanager
def _temporary(path: Path, make: Callable[..., tuple[int, str]]) -> Iterator[tuple[int, Path]]:
    """Make a temporary file or folder next to a path and hold it; it is removed if the block ends with an error."""
    sweep(path)
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            while True:
                handle, name = make(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
                stack.enter_context(held(Path(name)))
                if os.path.lexists(name):
                    break
                # Another run removed it before it was held.
                if handle >= 0:
                    os.close(handle)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error
        try:
            yield handle, Path(name)
        except BaseException:
            remove(Path(name))
            raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def locked(folder: Path, command: str, *, make: bool = True) -> Iterator[None]:
    """Keep other processes out of a folder that a command writes, where the system has locks for that.

    ``make``: make the folder where it is missing; else nothing is locked then.

    Raises:
        InputError: another process holds it.
    """
    with contextlib.ExitStack() as stack:
        try:
            import fcntl

            if make:
                folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"another {command} is running in {folder}", "wait for it, or choose another folder: --set run_dir=DIR"
            ) from None
        except (ImportError, OSError):
            # No locks on Windows and on some file systems. That a folder cannot be made is said when it is written to.
            pass
        yield
