"""Processes that share one kind of work on many pieces: results in the order of the pieces, whoever made them.

This process is one of them: it takes a piece whenever the others have enough. Each of the others is told once what the
work is. Ctrl-C ends them, none outlives its parent, and one that dies is one error.
"""

import functools
import gc
import importlib
import os
import pickle
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from queue import SimpleQueue
from typing import IO, Any, TypeVar

from medqa_cli.child_process import ChildProcess, begin
from medqa_cli.errors import SHOWN_CHARACTERS, MedqaError

P = TypeVar("P")
R = TypeVar("R")
_Work = tuple[Callable[..., Callable[[Any], Any]], tuple[object, ...]]

_PIECES_AHEAD = 3  # of each other process: one in its hands, the others on their way
# Results that wait for an earlier one, a process: a piece may take as long as so many others.
_RESULTS_AHEAD = 8
_LENGTH_BYTES = 8
# Seconds after which a thread that computes lets another one read from a pipe; Python's 5 ms leave processes waiting.
_SWITCH_SECONDS = 0.0005
# Of objects between two searches for cycles, which such work hardly makes: at Python's 700 they take a fortieth of it.
_OBJECTS_BEFORE_A_SEARCH = 50_000


class WorkerError(Exception):
    """The traceback of an error in a worker process: the cause of that error here."""


class Workers(AbstractContextManager["Workers"]):
    """The processes. To be used in a ``with`` statement, whose end ends them.

    Args:
        count: how many, this one included; fewer than two: no other is started.
        hint: what to do where one of them dies.
        module: imported by each when it starts, so that their work can begin at once.
    """

    def __init__(self, count: int, hint: str, module: str = "") -> None:
        self._switch_seconds = sys.getswitchinterval()
        self._others: list[_Worker] = []
        if count > 1:
            sys.setswitchinterval(_SWITCH_SECONDS)
            try:
                for _ in range(count - 1):
                    self._others.append(_Worker(hint, module))
            except BaseException as error:
                self.__exit__()
                if not isinstance(error, OSError):
                    raise
                raise MedqaError(f"worker processes cannot be started: {error.strerror or error}", hint) from error

    def __exit__(self, *error: object) -> None:
        for worker in self._others:
            worker.close()
        sys.setswitchinterval(self._switch_seconds)

    def map(
        self, make: Callable[..., Callable[[P], R]], arguments: tuple[object, ...], pieces: Iterable[P]
    ) -> Iterator[R]:
        """Yield what ``make(*arguments)`` returns for each piece, in order; to be run through to the end.

        Args:
            make: at the top level of a module, so that the processes can import it; each calls it once.
            arguments: must survive pickling, as must pieces and results.
            pieces: taken as processes become free.

        Raises:
            MedqaError: a process died.
            Exception: what the work raised, or the iterator of pieces: then what came before has been yielded.
        """
        if not self._others:
            yield from map(make(*arguments), pieces)
            return
        work = make, arguments
        here = _Here(work)
        errors: list[Exception] = []
        ahead: deque[_Worker | _Here] = deque()
        most_ahead = _RESULTS_AHEAD * (len(self._others) + 1)
        for piece in _up_to_an_error(pieces, errors):
            for other in self._others:
                other.take_returned()
            free = [other for other in self._others if not other.is_called]
            worker = min(free, key=_Worker.num_unfinished, default=None)
            if worker is not None and worker.num_unfinished() < _PIECES_AHEAD:
                worker.send(work, piece)
                ahead.append(worker)
            else:
                here.do(piece)
                ahead.append(here)
            while ahead and (ahead[0].is_ready() or len(ahead) >= most_ahead):
                yield ahead.popleft().receive()
        while ahead:
            yield ahead.popleft().receive()
        if errors:
            raise errors[0]

    def beside(self, function: Callable[..., R], *arguments: object) -> Callable[[], R]:
        """Begin a call in another process, which gets no pieces until it is done; return what waits for its result.

        One at a time. Without others the call is made when its result is asked for.
        """
        if not self._others:
            return functools.partial(function, *arguments)
        self._others[-1].call((_caller, (function,)), arguments)
        return self._others[-1].returned


def _up_to_an_error(pieces: Iterable[P], errors: list[Exception]) -> Iterator[P]:
    try:
        yield from pieces
    except Exception as error:  # whatever a source raises: map raises it after what came before
        errors.append(error)


def _caller(function: Callable[..., R]) -> Callable[[tuple[object, ...]], R]:
    return lambda arguments: function(*arguments)


class _Here:
    """The work as this process does it; its results wait for those of the pieces before."""

    def __init__(self, work: _Work) -> None:
        self._work = work
        self._do: Callable[[Any], Any] | None = None
        self._results: deque[tuple[Any, Exception | None]] = deque()

    def do(self, piece: object) -> None:
        try:
            if self._do is None:
                make, arguments = self._work
                self._do = make(*arguments)
            self._results.append((self._do(piece), None))
        except Exception as error:  # whatever it is, it is raised in its turn
            self._results.append((None, error))

    def is_ready(self) -> bool:
        return True

    def receive(self) -> Any:
        result, error = self._results.popleft()
        if error is not None:
            raise error
        return result


class _Worker:
    """One of the other processes, and a thread that takes its results as they come."""

    def __init__(self, hint: str, module: str) -> None:
        self._hint = hint
        self._work: _Work | None = None
        self._num_waited_for = 0
        # None is the last: it has ended.
        self._results: SimpleQueue[bytes | None] = SimpleQueue()
        self.is_called = False  # and its result has not been taken yet
        self._returned = b""
        self._process = ChildProcess("workers")
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()
        if module:
            self._send(module)

    def num_unfinished(self) -> int:
        return self._num_waited_for - self._results.qsize()

    def is_ready(self) -> bool:
        return not self._results.empty()

    def send(self, work: _Work, piece: object) -> None:
        self._send((None if work is self._work else work, piece))
        self._work = work
        self._num_waited_for += 1

    def _send(self, content: object) -> None:
        message = pickle.dumps(content)
        self._process.send(len(message).to_bytes(_LENGTH_BYTES, "little"), message)

    def call(self, work: _Work, arguments: object) -> None:
        """Let it do something beside what is shared out."""
        self.send(work, arguments)
        self.is_called = True

    def take_returned(self) -> None:
        """Take the result of the call if it is there, so that the worker is free for pieces again."""
        if not self.is_called or not self.is_ready():
            return
        message = self._results.get()
        if message is None:  # the process has ended: whoever waits for a result is told
            self._results.put(None)
            return
        self._returned, self.is_called = message, False
        self._num_waited_for -= 1

    def returned(self) -> Any:
        """Return the result of the call; wait for it if it is not there."""
        self.take_returned()
        if not self.is_called:
            return self._unpacked(self._returned)
        self.is_called = False
        return self.receive()

    def receive(self) -> Any:
        """Return the next of its results, in the order of its pieces."""
        message = self._results.get()
        self._num_waited_for -= 1
        return self._unpacked(message)

    def _unpacked(self, message: bytes | None) -> Any:
        if message is None:
            self._results.put(None)
            name, output = self._process.how_it_ended()
            said = f": {' '.join(output.split())[:SHOWN_CHARACTERS]}" if output else ""
            raise MedqaError(f"a worker process ended before its work was done ({name}){said}", self._hint)
        result, error, trace = pickle.loads(message)
        if error is None:
            return result
        if isinstance(error, MedqaError):
            raise error
        raise error from WorkerError(trace)

    def close(self) -> None:
        self._process.kill()
        self._thread.join()
        self._process.close()

    def _collect(self) -> None:
        try:
            while (message := _read_message(self._process.stdout)) is not None:
                self._results.put(message)
        finally:
            self._results.put(None)


def serve() -> None:
    """Be a worker: read pieces from stdin until the parent has gone. Only the worker's command calls this."""
    results = begin()
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.set_threshold(_OBJECTS_BEFORE_A_SEARCH)
    pieces: SimpleQueue[bytes] = SimpleQueue()
    # In a thread, so that the parent can go on when it has sent a piece, and its end is noticed in the middle of one.
    threading.Thread(target=_read_pieces, args=(pieces,), daemon=True).start()
    do: Callable[[Any], Any] | None = None
    while True:
        error: Exception | None = None
        result, trace = None, ""
        try:
            message = pickle.loads(pieces.get())
            if isinstance(message, str):
                importlib.import_module(message)
                continue
            work, piece = message
            if work is not None:
                make, arguments = work
                do = make(*arguments)
            assert do is not None
            result = do(piece)
            packed = pickle.dumps((result, None, ""))
        except Exception as raised:  # whatever it is, the parent raises it
            error, trace = raised, traceback.format_exc()
            packed = _pickled(error, trace)
        results.write(len(packed).to_bytes(_LENGTH_BYTES, "little") + packed)
        results.flush()


def _pickled(error: Exception, trace: str) -> bytes:
    """Pickle an error; one that cannot be is named."""
    try:
        message = pickle.dumps((None, error, trace))
        pickle.loads(message)
    except Exception:  # whatever the pickling of a foreign error raises
        return pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}"), trace))
    return message


def _read_pieces(pieces: SimpleQueue[bytes]) -> None:
    while (message := _read_message(sys.stdin.buffer)) is not None:
        pieces.put(message)
    os._exit(1)


def _read_message(file: IO[bytes]) -> bytes | None:
    """Read one message: its length and as many bytes; None where the file ends, or in the middle of one."""
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    message = file.read(length)
    return message if length and len(message) == length else None
