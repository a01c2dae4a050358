"""A Python process beside this one that runs code of medqa: how it starts, talks with its parent, and ends.

It starts in 0.04 s, on every platform as a new process and never as a fork, and imports nothing but what it is told to.
``confined`` runs code over foreign content in one, ``workers`` shares work out to several.
"""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

if sys.platform == "linux":
    import fcntl

_START = (
    "import sys, pickle; sys.path[:] = pickle.load(sys.stdin.buffer); from medqa_cli import {module}; {module}.serve()"
)
_BUFFER_BYTES = 1 << 18
# On Linux: room for some messages, so that no side waits for the other, which computes, to read the next 64 KiB.
_PIPE_BYTES = 1 << 20
# One thread each, whatever the machine: a thread's stack and arena count as its memory.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system", "RAYON_NUM_THREADS": "1"}
_ENDED_BY_CTRL_C = (-signal.SIGINT, 0xC000013A)  # the second on Windows


class ChildProcess:
    """A child, seen by its parent.

    Args:
        module: a module of medqa_cli whose ``serve`` the child calls; that begins with ``begin``.

    Attributes:
        pid: its number.
        stdout: what it writes to the file that ``begin`` returned.
    """

    def __init__(self, module: str) -> None:
        self._said: IO[bytes] = tempfile.TemporaryFile(prefix="medqa-")  # noqa: SIM115 - closed by close
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-X", f"utf8={sys.flags.utf8_mode}", "-c", _START.format(module=module)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            bufsize=_BUFFER_BYTES,
            env={**os.environ, **_ONE_THREAD},
        )
        self.pid = self._process.pid
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self.stdout = self._process.stdin, self._process.stdout
        if sys.platform == "linux":
            for pipe in (self._stdin, self.stdout):
                with contextlib.suppress(OSError):  # more than a user may have
                    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        path = [str(Path(__file__).parent.parent), *(entry or str(Path.cwd()) for entry in sys.path)]
        self.send(pickle.dumps(path))

    def send(self, *messages: bytes) -> None:
        """Write to its stdin; if that fails, as it has ended, ``stdout`` ends too, and ``how_it_ended`` says why."""
        try:
            for message in messages:
                self._stdin.write(message)
            self._stdin.flush()
        except OSError:
            self._process.kill()

    def how_it_ended(self) -> tuple[str, str]:
        """Wait for its end; return its signal or exit code in words, and what it said on stderr.

        Raises:
            KeyboardInterrupt: Ctrl-C ended it.
        """
        code = self._process.wait()
        if code in _ENDED_BY_CTRL_C:
            raise KeyboardInterrupt
        self._said.seek(0)
        output = self._said.read().decode("utf-8", "replace").strip()
        name = signal.Signals(-code).name if code < 0 and -code in set(signal.Signals) else f"exit code {code}"
        return name, output

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def close(self) -> None:
        """End it, and wait until it is gone."""
        self._process.kill()
        for pipe in (self._stdin, self.stdout):
            with contextlib.suppress(OSError):  # what it did not read any more
                pipe.close()
        self._process.wait()
        self._said.close()


def begin() -> IO[bytes]:
    """Be a child: let Ctrl-C end it silently and nothing print among the results; return where these are written."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        # Ctrl-C reaches the child too: it dies silently, whatever it is doing.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    results = os.fdopen(os.dup(1), "wb", buffering=_BUFFER_BYTES)
    # Output of a library is not a result.
    os.dup2(2, 1)
    if sys.platform != "win32":
        import resource

        # A core dump would hold texts.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return results
