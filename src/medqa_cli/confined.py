"""Run code over foreign content in a child process, within limits of time and memory.

If it crashes, hangs or exhausts memory, that is one InputError that names the content. Ctrl-C ends it, and it does not
outlive its parent. The child can still use files and the network: it is not a sandbox against malicious code.
"""

import contextlib
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from itertools import starmap
from typing import IO, Any, TypeVar

from medqa_cli.child_process import ChildProcess, begin
from medqa_cli.errors import SHOWN_CHARACTERS, InputError, MedqaError, out_of_memory

T = TypeVar("T")

_MOST_AT_ONCE, _SMALL = 64, 1 << 16  # items, and bytes of as many
_TICK = 0.1  # seconds between two checks of the child
_FIRST_MEMORY_CHECK = 5  # ticks; most readers are done before, and the check needs an import
_OUT_OF_MEMORY = ("memory allocation of", "bad_alloc", "MemoryError", "out of memory")


@dataclass(frozen=True)
class Limits:
    """Limits of a child.

    ``seconds``: the longest wait for its next result; time in which nobody waits for it does not count.
    ``memory_bytes``: the most memory that it may use. ``raised_by``: how the user can raise the limits, as a sentence
    after a hint; may be empty. ``action``: what cannot be done where the child fails, as a participle.
    """

    seconds: float = 30.0
    memory_bytes: int = 1 << 30
    raised_by: str = ""
    action: str = "read"


class ReaderError(Exception):
    """The traceback of an error in the child: the cause of an InputError."""


def call(function: Callable[..., T], *arguments: object, what: str, hint: str, limits: Limits = Limits()) -> T:
    """Return ``function(*arguments)``, computed in a child process.

    Args:
        function: at the top level of a module, so that the child can import it. The module should import little: the
            child starts in 0.04 s, and each import adds to that.
        arguments: must survive pickling, as must the result.
        what: name of what is read, for messages; usually the path.
        hint: what to do when it cannot be read.
        limits: of time and memory.

    Raises:
        MedqaError: the function raised it.
        InputError: the function raised anything else, crashed, or went beyond a limit.
    """
    results: Generator[T, None, None] = stream(starmap, function, [arguments], what=what, hint=hint, limits=limits)
    with contextlib.closing(results):
        return next(results)


def stream(
    function: Callable[..., Iterator[T]], *arguments: object, what: str, hint: str, limits: Limits = Limits()
) -> Generator[T, None, None]:
    """Yield what ``function(*arguments)`` yields, computed in a child process that runs ahead by some 64 kB.

    Arguments and errors are those of ``call``. The child starts with the first item that is asked for, and ends when
    the iterator is closed.
    """
    child = _Child(limits)
    try:
        child.send(function, arguments)
        kind, value = child.receive()
        while kind == "items":
            yield from value
            kind, value = child.receive()
    finally:
        child.close()
    if kind == "end":
        return
    if kind == "error":
        raise value
    message, trace = value
    reason = " ".join(message.split())[:SHOWN_CHARACTERS]
    if kind == "time":
        reason = f"nothing came out of it in {limits.seconds:g} seconds"
    elif kind == "memory":
        reason = f"that takes more than {limits.memory_bytes >> 20:,} MiB of memory"
    elif kind == "crashed":
        reason = f"it crashes the library that reads it ({reason})"
    if kind in ("time", "memory") and limits.raised_by:
        hint = f"{hint}; {limits.raised_by}"
    raise InputError(f"{what} cannot be {limits.action}: {reason}", hint) from ReaderError(trace)


def serve() -> None:
    """Be the child: read the call from stdin, and write items to stdout. Only the child's command calls this."""
    results = begin()
    memory_bytes = pickle.load(sys.stdin.buffer)
    if sys.platform != "win32":
        import resource

        # Not RLIMIT_AS: reserved memory that is never written does not count. Where the system ignores this limit, the
        # parent checks.
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        most = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
    try:
        function, arguments = pickle.load(sys.stdin.buffer)
        _end_with_the_parent()
        _write_items(function(*arguments), results)
        pickle.dump(("end", None), results)
    except MedqaError as error:
        pickle.dump(("error", error), results)
    except Exception as error:  # a library's, of whatever kind: one message for all of them
        kind = "failed" if out_of_memory(error) is None else "memory"
        reason = str(error).strip()
        message = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
        pickle.dump((kind, (message, traceback.format_exc())), results)
    with contextlib.suppress(BrokenPipeError):
        results.flush()
    # Do not wait for threads and destructors of a library.
    os._exit(0)


def _write_items(items: Iterator[object], results: IO[bytes]) -> None:
    """Write the items, several at once if they are small; also those before an error."""
    pending: list[object] = []
    most = 1
    try:
        for item in items:
            pending.append(item)
            if len(pending) == most:
                # Pickled first: an item that cannot be pickled is an error like any other.
                pickled = pickle.dumps(("items", pending))
                pending = []
                results.write(pickled)
                most = min(2 * most, _MOST_AT_ONCE) if len(pickled) < _SMALL else 1
    finally:
        if pending:
            results.write(pickle.dumps(("items", pending)))


def _end_with_the_parent() -> None:
    """Die when the pipe from the parent closes, even in an endless loop of a library."""
    if sys.platform == "win32":
        # Works only if the library lets other threads run; Windows has no signal for it.
        threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(1)), daemon=True).start()
        return
    import fcntl
    import select

    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    # SIGIO kills unless an inherited handler says otherwise; the parent may have ended before.
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    if select.select([0], [], [], 0)[0]:
        os._exit(1)


class _Child:
    """The process and a thread that watches it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._process = ChildProcess("confined")
        self._fault = ""
        self._waited = 0.0
        self._is_waited_for = True
        self._closed = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def send(self, function: Callable[..., Any], arguments: tuple[object, ...]) -> None:
        self._process.send(pickle.dumps(self._limits.memory_bytes), pickle.dumps((function, arguments)))

    def receive(self) -> tuple[str, Any]:
        """Return the next message, or what ended the child."""
        self._waited, self._is_waited_for = 0.0, True
        try:
            kind, value = pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError):
            name, output = self._process.how_it_ended()
        else:
            self._is_waited_for = False
            return kind, value
        if self._fault:
            return self._fault, ("", output)
        if any(phrase in output for phrase in _OUT_OF_MEMORY):
            return "memory", ("", output)
        return "crashed", (name, output)

    def close(self) -> None:
        self._closed.set()
        # Before the watcher, which may be looking at it.
        self._process.kill()
        self._watcher.join()
        self._process.close()

    def _watch(self) -> None:
        """Kill the child when a result takes too long, or when it uses too much memory.

        Counts ticks, not the clock: the sleep of a computer or a stopped command does not count.
        """
        ticks = 0
        while not self._closed.wait(_TICK):
            ticks += 1
            if self._is_waited_for:
                self._waited += _TICK
            if self._waited > self._limits.seconds:
                self._fault = "time"
            elif ticks >= _FIRST_MEMORY_CHECK:
                import psutil  # few calls take that long

                with contextlib.suppress(psutil.Error):  # it has ended
                    if psutil.Process(self._process.pid).memory_info().rss > self._limits.memory_bytes * 1.1:
                        self._fault = "memory"
            if self._fault:
                self._process.kill()
                return
