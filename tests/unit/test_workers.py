"""Work that is shared out to processes: order, errors, a process that dies, Ctrl-C, no orphans."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from medqa_cli.errors import InputError, MedqaError
from medqa_cli.workers import WorkerError, Workers

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
HINT = "start fewer"


def adder(number: int) -> Callable[[int], int]:
    print("what a library prints is no result")
    return lambda piece: number + piece


def of_odd_speed(slow: int) -> Callable[[int], tuple[int, str]]:
    def do(piece: int) -> tuple[int, str]:
        time.sleep(0.02 if piece % 5 == slow else 0)
        return piece, f"row {piece} \ud800"

    return do


def large(size: int) -> Callable[[bytes], bytes]:
    return lambda piece: piece + bytes(size)


def failing_at(number: int, error: str) -> Callable[[int], int]:
    def do(piece: int) -> int:
        if piece == number:
            if error == "ours":
                raise InputError("row 7: no such thing", "name another")
            if error == "full":
                raise MemoryError
            if error == "odd":
                raise UnpicklableError(lambda: None)
            os.kill(os.getpid(), signal.SIGKILL)
        return piece

    return do


class UnpicklableError(Exception):
    pass


def refusing() -> Callable[[int], int]:
    raise KeyError("no table")


def process_id() -> Callable[[object], int]:
    return lambda piece: os.getpid()


def slow_process_id() -> Callable[[object], int]:
    return lambda piece: slowly(0.01)


def imported(module: str) -> Callable[[object], bool]:
    return lambda piece: module in sys.modules


def slowly(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def when_there(path: Path) -> int:
    while not path.exists():
        time.sleep(0.01)
    return os.getpid()


@pytest.fixture
def children() -> Callable[[], list[psutil.Process]]:
    """Return the children of this process that the test has started; other tests' helpers may run beside."""
    before = psutil.Process().children()
    return lambda: [child for child in psutil.Process().children() if child not in before]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_results_come_in_the_order_of_the_pieces(count: int, children: Callable[[], list[psutil.Process]]) -> None:
    with Workers(count, HINT) as workers:
        assert len(children()) == count - 1
        found = list(workers.map(of_odd_speed, (count % 2,), range(60)))
        assert list(workers.map(adder, (5,), range(4))) == [5, 6, 7, 8]
        assert list(workers.map(adder, (5,), [])) == []
    assert found == [(piece, f"row {piece} \ud800") for piece in range(60)]
    assert children() == []


def test_the_work_is_done_in_this_process_and_in_each_of_the_others(
    children: Callable[[], list[psutil.Process]],
) -> None:
    with Workers(3, HINT) as workers:
        assert set(workers.map(slow_process_id, (), range(60))) == {os.getpid(), *(c.pid for c in children())}
    with Workers(1, HINT) as workers:
        assert set(workers.map(process_id, (), range(3))) == {os.getpid()}


def test_a_module_that_was_named_is_imported_before_the_first_piece_comes() -> None:
    for module in ("", "medqa_cli.data.row_work"):
        with Workers(2, HINT, module) as workers:
            # As many as the other process has ahead: it does them all.
            assert set(workers.map(imported, ("medqa_cli.data.row_work",), range(3))) == {bool(module)}


def test_a_named_module_that_is_missing_is_the_error_of_the_first_result() -> None:
    with Workers(2, HINT, "medqa_cli.no_such_module") as workers, pytest.raises(ModuleNotFoundError):
        list(workers.map(process_id, (), range(3)))


def test_pieces_and_results_larger_than_a_pipe_do_not_block_each_other() -> None:
    piece = bytes(1 << 20)
    with Workers(2, HINT) as workers:
        lengths = [len(result) for result in workers.map(large, (1 << 20,), [piece] * 20)]
    assert lengths == [2 << 20] * 20


def test_pieces_are_taken_only_as_results_are_asked_for() -> None:
    taken = []

    def pieces() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    with Workers(2, HINT) as workers:
        results = workers.map(adder, (0,), pieces())
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        assert len(taken) < 20


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_among_the_pieces_comes_after_the_results_before_it(count: int) -> None:
    def pieces() -> Iterator[int]:
        yield from range(5)
        raise InputError("line 7 is damaged")

    with Workers(count, HINT) as workers:
        results = workers.map(adder, (0,), pieces())
        assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
        with pytest.raises(InputError, match="line 7 is damaged"):
            next(results)


@pytest.mark.parametrize(("count", "failing"), [(1, 3), (2, 1), (2, 3)])
def test_the_error_of_a_piece_is_raised_in_its_turn_wherever_the_piece_was_done(count: int, failing: int) -> None:
    with Workers(count, HINT) as workers:
        results = workers.map(failing_at, (failing, "ours"), range(20))
        assert [next(results) for _ in range(failing)] == [*range(failing)]
        with pytest.raises(InputError, match="row 7: no such thing") as caught:
            next(results)
    assert caught.value.hint == "name another"


def test_other_errors_keep_their_kind_and_their_traceback() -> None:
    with Workers(2, HINT) as workers, pytest.raises(MemoryError) as full:
        list(workers.map(failing_at, (0, "full"), range(20)))
    assert isinstance(full.value.__cause__, WorkerError)
    assert "raise MemoryError" in str(full.value.__cause__)
    with Workers(2, HINT) as workers, pytest.raises(RuntimeError, match="UnpicklableError: <function"):
        list(workers.map(failing_at, (0, "odd"), range(20)))
    with Workers(2, HINT) as workers, pytest.raises(KeyError, match="no table"):
        list(workers.map(refusing, (), range(20)))


@POSIX
def test_a_process_that_dies_is_one_message(children: Callable[[], list[psutil.Process]]) -> None:
    with Workers(2, HINT) as workers, pytest.raises(MedqaError) as caught:
        list(workers.map(failing_at, (0, "dies"), range(20)))
    assert caught.value.message == "a worker process ended before its work was done (SIGKILL)"
    assert caught.value.hint == HINT
    assert children() == []


@POSIX
def test_a_process_that_dies_before_it_gets_work_is_the_same_message(
    children: Callable[[], list[psutil.Process]],
) -> None:
    with Workers(2, HINT) as workers:
        for child in children():
            child.kill()
            while child.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.01)
        with pytest.raises(MedqaError, match=r"ended before its work was done \(SIGKILL\)"):
            list(workers.map(large, (0,), [bytes(1 << 20)] * 20))


def test_a_call_goes_on_beside_the_work_of_the_others(tmp_path: Path) -> None:
    with Workers(2, HINT) as workers:
        asked = workers.beside(when_there, tmp_path / "go")
        assert set(workers.map(process_id, (), range(20))) == {os.getpid()}
        (tmp_path / "go").touch()
        assert asked() != os.getpid()
        assert len(set(workers.map(slow_process_id, (), range(40)))) == 2
    with Workers(1, HINT) as workers:
        assert workers.beside(slowly, 0)() == os.getpid()


def test_a_process_that_has_done_its_call_takes_pieces_again_and_keeps_the_result() -> None:
    with Workers(2, HINT) as workers:
        assert len(set(workers.map(process_id, (), range(20)))) == 2  # the other one has started
        asked = workers.beside(slowly, 0.0)
        ids = set(workers.map(slow_process_id, (), range(100)))
        assert ids == {os.getpid(), asked()}
        assert len(ids) == 2


@POSIX
def test_a_process_that_dies_in_its_call_leaves_the_pieces_to_the_others(
    children: Callable[[], list[psutil.Process]],
) -> None:
    with Workers(2, HINT) as workers:
        asked = workers.beside(slowly, 60)
        children()[0].kill()
        assert set(workers.map(slow_process_id, (), range(20))) == {os.getpid()}
        with pytest.raises(MedqaError, match=r"ended before its work was done \(SIGKILL\)"):
            asked()


PARENT = """
import sys
sys.path.insert(0, {folder!r})
import test_workers
from medqa_cli.workers import Workers
with Workers(3, "") as workers:
    assert list(workers.map(test_workers.adder, (0,), range(4))) == [0, 1, 2, 3]  # the others have started
    list(workers.map(test_workers.sleeper, (), range(10)))
"""


def sleeper() -> Callable[[int], None]:
    def do(piece: int) -> None:
        print("started", flush=True)  # in the others it goes where nobody reads it
        time.sleep(60)

    return do


@POSIX
@pytest.mark.parametrize(("sent", "to_all"), [(signal.SIGINT, True), (signal.SIGINT, False), (signal.SIGKILL, False)])
def test_a_signal_ends_the_command_and_its_workers(sent: signal.Signals, to_all: bool) -> None:
    code = PARENT.format(folder=str(Path(__file__).parent))
    # An ignored SIGINT would be inherited where the tests run in the background of a shell.
    restore = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=restore,
        start_new_session=True,
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"started\n"
    workers = psutil.Process(parent.pid).children()
    assert len(workers) == 2
    # A terminal sends it to all processes of the command.
    (os.killpg if to_all else os.kill)(parent.pid, sent)
    _, said = parent.communicate(timeout=10)
    assert parent.returncode == -sent
    assert (b"KeyboardInterrupt" in said) == (sent == signal.SIGINT)
    assert psutil.wait_procs(workers, timeout=10)[1] == []
