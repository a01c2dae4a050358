"""A reader in a child process: results, errors, limits, Ctrl-C, no orphans."""

import ctypes
import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from medqa_cli import confined
from medqa_cli.confined import Limits, ReaderError
from medqa_cli.errors import InputError

SMALL = Limits(memory_bytes=200 << 20, raised_by="raise some.key")
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


def double(number: int) -> int:
    print("what a library prints is no result")
    os.write(1, b"nor this")
    return 2 * number


def count_up(end: int) -> Iterator[tuple[int, str]]:
    for number in range(end):
        yield number, f"row {number} \ud800"


def refuse() -> None:
    raise InputError("no such sheet", "name another")


def fail() -> None:
    raise KeyError("sheet\n1")


def abort() -> None:
    os.abort()


def read_null() -> None:
    ctypes.string_at(0)


def leave() -> None:
    os._exit(3)


def loop_with_the_lock() -> None:
    re.match(r"(a|aa)*$", "a" * 100 + "b")


def sleep() -> None:
    time.sleep(60)


def fill_memory() -> int:
    return len(bytearray(1 << 32))


def be_refused_memory() -> None:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def fill_memory_slowly() -> int:
    return len([bytearray(1 << 20) for _ in range(1 << 12)])


@pytest.fixture
def children() -> Callable[[], list[psutil.Process]]:
    """Return the children of this process that the test has started; other tests' helpers may run beside."""
    before = psutil.Process().children()
    return lambda: [child for child in psutil.Process().children() if child not in before]


def test_call_returns_the_result_of_another_process() -> None:
    assert confined.call(double, 21, what="x", hint="") == 42
    assert confined.call(os.getpid, what="x", hint="") != os.getpid()


def test_stream_yields_every_item_in_order_and_ends_the_child(children: Callable[[], list[psutil.Process]]) -> None:
    assert list(confined.stream(count_up, 5000, what="x", hint="")) == list(count_up(5000))
    assert children() == []


def test_a_stream_that_is_not_read_to_its_end_leaves_no_child(children: Callable[[], list[psutil.Process]]) -> None:
    rows = confined.stream(count_up, 10**9, what="x", hint="")
    assert next(rows)[0] == 0
    assert len(children()) == 1
    rows.close()
    assert children() == []


def test_our_own_errors_come_through_as_they_are() -> None:
    with pytest.raises(InputError, match="no such sheet") as caught:
        confined.call(refuse, what="x", hint="")
    assert caught.value.hint == "name another"


@pytest.mark.parametrize(
    ("reader", "said"),
    [
        (fail, r"a\.xlsx cannot be read: KeyError: 'sheet\\n1'"),
        (leave, r"a\.xlsx cannot be read: it crashes the library that reads it \(exit code 3\)"),
        (loop_with_the_lock, r"a\.xlsx cannot be read: nothing came out of it in 1 seconds"),
        (sleep, r"a\.xlsx cannot be read: nothing came out of it in 1 seconds"),
        (fill_memory, r"a\.xlsx cannot be read: that takes more than 200 MiB of memory"),
        (be_refused_memory, r"a\.xlsx cannot be read: that takes more than 200 MiB of memory"),
        (fill_memory_slowly, r"a\.xlsx cannot be read: that takes more than 200 MiB of memory"),
        pytest.param(abort, r"a\.xlsx cannot be read: it crashes .* \(SIGABRT\)", marks=POSIX),
        pytest.param(read_null, r"a\.xlsx cannot be read: it crashes .* \(SIGSEGV\)", marks=POSIX),
    ],
)
def test_whatever_happens_to_the_reader_is_one_message(
    reader: Callable[[], object], said: str, children: Callable[[], list[psutil.Process]]
) -> None:
    limits = replace(SMALL, seconds=1.0) if "seconds" in said else SMALL
    with pytest.raises(InputError, match=said) as caught:
        confined.call(reader, what="a.xlsx", hint="save it as CSV", limits=limits)
    limited = "seconds" in said or "memory" in said
    assert caught.value.hint == ("save it as CSV; raise some.key" if limited else "save it as CSV")
    assert isinstance(caught.value.__cause__, ReaderError)
    assert children() == []


def test_the_cause_holds_the_traceback_of_the_child() -> None:
    with pytest.raises(InputError) as caught:
        confined.call(fail, what="x", hint="")
    assert 'raise KeyError("sheet\\n1")' in str(caught.value.__cause__)


def test_time_in_which_nobody_waits_does_not_count() -> None:
    rows = confined.stream(count_up, 100_000, what="x", hint="", limits=Limits(seconds=2.0))
    assert next(rows)[0] == 0
    time.sleep(2.5)
    assert sum(1 for _ in rows) == 99_999


PARENT = """
import sys
sys.path.insert(0, {folder!r})
import test_confined
from medqa_cli import confined
print("started", flush=True)
confined.call(test_confined.loop_with_the_lock, what="x", hint="")
"""


@POSIX
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_signal_ends_the_command_and_its_reader(sent: signal.Signals) -> None:
    code = PARENT.format(folder=str(Path(__file__).parent))
    # An ignored SIGINT would be inherited where the tests run in the background of a shell.
    restore = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=restore
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"started\n"
    process = psutil.Process(parent.pid)
    readers = _wait_until(lambda: [child for child in process.children() if child.cpu_times().user > 0.2])
    parent.send_signal(sent)
    _, said = parent.communicate(timeout=10)
    assert parent.returncode == -sent
    assert (b"KeyboardInterrupt" in said) == (sent == signal.SIGINT)
    assert psutil.wait_procs(readers, timeout=10)[1] == []


def _wait_until(found: Callable[[], list[psutil.Process]]) -> list[psutil.Process]:
    for _ in range(1000):
        if processes := found():
            return processes
        time.sleep(0.01)
    raise AssertionError("the reader did not start")
