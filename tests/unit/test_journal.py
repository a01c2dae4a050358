"""Finished pieces of work survive a kill, a torn line and nothing else."""

import contextlib
import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from medqa_cli.console.displays import ProgressHandle
from medqa_cli.errors import InputError
from medqa_cli.journal import SharedJournal


def again() -> Any:
    pytest.fail("computed again")


def saying(*values: Any) -> dict[str, Callable[[], Any]]:
    return {f"piece {number}": partial(copy.copy, value) for number, value in enumerate(values)}


def test_pieces_are_computed_once_and_given_in_their_order(tmp_path: Path) -> None:
    folder = tmp_path / "eval"
    with SharedJournal(folder, {"a": 1}) as journal:
        assert journal.run(saying([[0.1, "ß\u2028"]])) == [[[0.1, "ß\u2028"]]]
    with SharedJournal(folder, {"a": 1}) as journal:
        assert journal.num_done == 1
        told: list[str] = []
        pieces = {"new": lambda: 2, "piece 0": again}
        assert journal.run(pieces, told.append) == [2, [[0.1, "ß\u2028"]]]
        assert told == ["new"]
        journal.finish()
    assert list(folder.iterdir()) == []


def test_other_settings_start_anew_and_the_first_ones_go_on(tmp_path: Path) -> None:
    with SharedJournal(tmp_path, {"a": 1}) as journal:
        assert journal.set_aside == {}
        journal.run(saying(1))
    (tmp_path / "progress-1.jsonl").write_text(
        (tmp_path / "progress.jsonl").read_text(encoding="utf-8").replace("piece 0", "piece 1"), encoding="utf-8"
    )  # another rank's
    with SharedJournal(tmp_path, {"a": 2}) as journal:
        assert (journal.num_done, journal.set_aside) == (0, {"piece 0": 1, "piece 1": 1})
        assert journal.run(saying(2)) == [2]
    with SharedJournal(tmp_path, {"a": 2}) as journal:
        assert (journal.num_done, journal.set_aside) == (1, {})
        journal.finish()
    assert len(list(tmp_path.iterdir())) == 2
    with SharedJournal(tmp_path, {"a": 1}) as journal:
        assert (journal.num_done, journal.set_aside) == (2, {})
        assert journal.run({"piece 0": again, "piece 1": again}) == [1, 1]
        journal.finish()
    assert list(tmp_path.iterdir()) == []


def test_the_files_of_three_settings_do_not_mix(tmp_path: Path) -> None:
    for _ in range(2):
        for setting in range(3):
            with SharedJournal(tmp_path, setting) as journal:
                assert journal.run(saying(setting)) == [setting]
    for setting in range(3):
        with SharedJournal(tmp_path, setting) as journal:
            assert journal.run({"piece 0": again}) == [setting]


def test_a_file_that_cannot_be_set_aside_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SharedJournal(tmp_path, 1) as journal:
        journal.run(saying(1))
    before = (tmp_path / "progress.jsonl").read_bytes()

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.replace", refuse)
    with pytest.raises(InputError, match=r"cannot rename .*progress\.jsonl.*: Permission denied"):
        SharedJournal(tmp_path, 2).__enter__()
    assert (tmp_path / "progress.jsonl").read_bytes() == before


def test_a_file_set_aside_that_cannot_be_read_now_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in (1, 2):
        with SharedJournal(tmp_path, setting) as journal:
            journal.run(saying(setting))
    (aside,) = tmp_path.glob("interrupted-*.jsonl")
    read = Path.read_text

    def fail(path: Path, *arguments: Any, **named: Any) -> str:
        if path == aside:
            raise OSError(5, "Input/output error")
        return read(path, *arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.read_text", fail)
        with SharedJournal(tmp_path, 1) as journal:
            assert journal.num_done == 0
            journal.run(saying(1))
    assert aside.is_file()


def test_progress_starts_at_what_is_done_and_counts_other_ranks_as_fast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    told: list[float] = []

    @contextlib.contextmanager
    def progress(title: str, total: int, done: int) -> Iterator[ProgressHandle]:
        begun.append(done)
        yield ProgressHandle(lambda completed, status: told.append(completed))

    def double(part: Sequence[int], on_progress: Callable[[float], None]) -> list[int]:
        if 7 in part and len(begun) == 1:
            raise KeyboardInterrupt
        on_progress(0.5)
        return [2 * item for item in part]

    monkeypatch.setattr("medqa_cli.console.progress", progress)
    with SharedJournal(tmp_path, 1) as journal, pytest.raises(KeyboardInterrupt):
        journal.map("double", double, range(8), size=3, title="")
    assert (begun, told) == ([0], [0.5, 3, 3.5, 6])
    told.clear()
    with SharedJournal(tmp_path, 1) as journal:
        assert journal.map("double", double, range(8), size=3, title="") == [0, 2, 4, 6, 8, 10, 12, 14]
        assert (begun, told) == ([0, 6], [6.5, 8])
        told.clear()
        monkeypatch.setattr("medqa_cli.distributed.world_size", lambda: 2)
        monkeypatch.setattr("medqa_cli.distributed.all_gather", lambda value: [value, {"more/1": [6, 8, 10]}])
        assert journal.map("more", double, range(8), size=3, title="") == [0, 2, 4, 6, 8, 10, 12, 14]
    assert told == [1, 6, 7, 8]


def test_a_torn_line_is_dropped_and_does_not_spoil_the_next(tmp_path: Path) -> None:
    with SharedJournal(tmp_path, 1) as journal:
        journal.run(saying(1, [1, 2, 3]))
    path = tmp_path / "progress.jsonl"
    path.write_bytes(path.read_bytes()[:-6])
    with SharedJournal(tmp_path, 1) as journal:
        assert journal.num_done == 1
        journal.run({"piece 0": again, "third": lambda: 3})
    with SharedJournal(tmp_path, 1) as journal:
        assert journal.num_done == 2
        assert journal.run({"third": again, "piece 0": again}) == [3, 1]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "eval").write_text("a file")
    with pytest.raises(InputError, match=r"cannot write .*eval/progress\.jsonl: (File exists|Not a directory)"):
        SharedJournal(tmp_path / "eval", 1).__enter__()
    assert (tmp_path / "eval").read_text() == "a file"


def test_what_other_ranks_have_done_counts(tmp_path: Path) -> None:
    with SharedJournal(tmp_path, 1) as journal:
        journal.run(saying(1))
    (tmp_path / "progress.jsonl").rename(tmp_path / "progress-1.jsonl")
    with SharedJournal(tmp_path, 1) as journal:
        journal.run({"own": lambda: 2})
        assert journal.num_done == 2
        journal.finish()
    assert list(tmp_path.iterdir()) == []


def test_two_ranks_share_the_work_and_both_have_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads stand for the ranks; they meet where ranks would."""
    here, barrier = threading.local(), threading.Barrier(2, timeout=120)
    shared: list[Any] = [None, None]

    def gathered(value: Any) -> list[Any]:
        shared[here.rank] = value
        barrier.wait()
        values = copy.deepcopy(shared)  # real ranks have nothing in common
        barrier.wait()
        return values

    def from_main(work: Callable[[], Any]) -> Any:
        return gathered(work() if here.rank == 0 else None)[0]

    monkeypatch.setattr("medqa_cli.distributed.world_size", lambda: 2)
    monkeypatch.setattr("medqa_cli.distributed.rank", lambda: here.rank)
    monkeypatch.setattr("medqa_cli.distributed.is_main", lambda: here.rank == 0)
    monkeypatch.setattr("medqa_cli.distributed.all_gather", gathered)
    monkeypatch.setattr("medqa_cli.distributed.from_main", from_main)
    computed: list[list[int]] = [[], []]
    results: list[Any] = [None, None]

    def work(rank: int, count: int) -> None:
        here.rank = rank

        def square(number: int) -> int:
            computed[rank].append(number)
            return number**2

        with SharedJournal(tmp_path, 1) as journal:
            results[rank] = journal.run({f"piece {n}": partial(square, n) for n in range(count)})

    for count, expected in ((3, [[0, 2], [1]]), (7, [[3, 5], [4, 6]])):
        computed[:] = [[], []]
        threads = [threading.Thread(target=work, args=(rank, count)) for rank in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert computed == expected  # the second time only what is new
        assert results == [[n * n for n in range(count)]] * 2


def test_a_piece_that_fails_is_not_done(tmp_path: Path) -> None:
    def fail() -> int:
        raise KeyboardInterrupt

    with SharedJournal(tmp_path, 1) as journal, pytest.raises(KeyboardInterrupt):
        journal.run({"one": lambda: 1, "two": fail})
    with SharedJournal(tmp_path, 1) as journal:
        assert journal.num_done == 1


def test_map_with_length_groups_like_items_and_gives_values_in_their_order(tmp_path: Path) -> None:
    parts: list[list[str]] = []

    def compute(part: Any, on_progress: Callable[[int], None]) -> list[int]:
        parts.append(list(part))
        on_progress(1)
        return [len(word) for word in part]

    words = ["ccc", "a", "dddd", "bb", "e"]
    with SharedJournal(tmp_path, 1) as journal:
        assert journal.map("words", compute, words, size=2, title="words", length=len) == [3, 1, 4, 2, 1]
    assert parts == [["a", "e"], ["bb", "ccc"], ["dddd"]]
    with SharedJournal(tmp_path, 1) as journal:
        again = journal.map(
            "words", lambda part, on_progress: pytest.fail("computed again"), words, size=2, title="words", length=len
        )
        assert again == [3, 1, 4, 2, 1]
        assert journal.map("others", compute, words, size=3, title="words") == [3, 1, 4, 2, 1]
    assert parts[3:] == [["ccc", "a", "dddd"], ["bb", "e"]]
