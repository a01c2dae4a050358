"""How several processes of one run agree: two real ones, and the plain calls of one by itself."""

import json
import socket
from pathlib import Path

import pytest

from helpers.commands import Starter
from medqa_cli import distributed
from medqa_cli.errors import InputError, MedqaError

LAUNCHER = ("WORLD_SIZE", "RANK", "LOCAL_RANK")
# Each process does this; what it saw goes to seen-RANK.json, what it says to its own stdout and stderr.
SCRIPT = """
import json, sys, warnings
from pathlib import Path
from medqa_cli import console, distributed
from medqa_cli.cli.program import main
from medqa_cli.errors import InputError, MedqaError

seen = {}

def caught(name, block, *arguments):
    try:
        seen[name] = block(*arguments)
    except MedqaError as error:
        seen[name] = [type(error).__name__, error.message, error.hint, error.exit_code]

def fail_on(*numbers):
    with distributed.raise_on_all_ranks():
        if distributed.rank() in numbers:
            raise InputError(f"wrong on {distributed.rank()}", "mend it")
    return "went on"

def only_main(fails):
    def work():
        Path("written.txt").open("a").write(f"{distributed.rank()}\\n")
        if fails:
            raise InputError("wrong on main", "mend it")
        return {"at": Path("x")}
    return str(distributed.from_main(work))

seen["joined before"] = distributed.has_joined()
caught("nobody", fail_on)
seen["joined after"] = distributed.has_joined()
caught("both", fail_on, 0, 1)
caught("the other", fail_on, 1)
caught("from main", only_main, False)
caught("from main, failing", only_main, True)
seen["gathered"] = distributed.all_gather({"rank": distributed.rank()})
seen["any"] = [distributed.any_rank(False), distributed.any_rank(distributed.rank() == 1)]
Path(f"seen-{distributed.rank()}.json").write_text(json.dumps(seen))

# The program itself: all ranks meet the same error.
sys.argv = ["medqa", "train", "-c", "nowhere.yaml"]
main()
"""


def test_two_processes_agree(tmp_path: Path, starter: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    main, other = starter.run_ranks(SCRIPT)
    seen = [json.loads((tmp_path / f"seen-{rank}.json").read_text()) for rank in range(2)]
    for own in seen:
        assert (own["joined before"], own["joined after"]) == (False, True)
        assert own["nobody"] == "went on"
        assert own["both"] == ["InputError", "wrong on 0", "mend it", 2]
        assert own["the other"] == [
            "MedqaError", f"process 1 of 2 ({socket.gethostname()}): wrong on 1", "mend it", 2,
        ]  # fmt: skip
        assert own["from main"] == "{'at': " + repr(Path("x")) + "}"
        assert own["from main, failing"] == ["InputError", "wrong on main", "mend it", 2]
        assert own["gathered"] == [{"rank": 0}, {"rank": 1}]
        assert own["any"] == [False, True]
    assert (tmp_path / "written.txt").read_text() == "0\n0\n"
    # One message, the same exit code.
    assert (main.returncode, other.returncode) == (2, 2)
    assert main.stderr.count("there is no such file") == 1
    assert (main.stdout, other.stdout, other.stderr) == ("", "", "")


LONE_FAILURES = """
import os, sys
from medqa_cli import console, distributed
from medqa_cli.errors import InputError

if distributed.rank() == 1:
    console.mute()
    print("not seen")
    print("not seen", file=sys.stderr)
    console.warn("not seen")
    distributed.all_gather(None)
    raise ValueError("a bug on rank 1")
distributed.all_gather(None)
try:
    distributed.all_gather(None)
except distributed.LostRankError as error:
    print("lost:", error.message)
"""


def test_a_rank_that_dies_says_why_and_is_missed(
    tmp_path: Path, starter: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    main, other = starter.run_ranks(LONE_FAILURES)
    assert main.stdout.startswith("lost: another process of this run has ended")
    # Rank 0 went on past the loss to its end; Gloo's threads may abort it there, with the group still up.
    assert other.returncode == 1
    assert "ValueError: a bug on rank 1" in other.stderr
    assert "not seen" not in other.stdout + other.stderr


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAUNCHER:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("alone")
def test_a_process_by_itself_just_does_it() -> None:
    assert (distributed.world_size(), distributed.rank(), distributed.local_rank(), distributed.is_main()) == (
        1,
        0,
        0,
        True,
    )
    assert distributed.all_gather(7) == [7]
    assert (distributed.any_rank(True), distributed.any_rank(False)) == (True, False)
    assert distributed.from_main(lambda: 7) == 7
    problem = InputError("wrong")
    with pytest.raises(InputError) as raised, distributed.raise_on_all_ranks():
        raise problem
    assert raised.value is problem
    assert distributed.has_joined()
    distributed.leave_group()


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("missing", LAUNCHER)
def test_a_cluster_that_sets_some_variables_is_no_launcher(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    for name in set(LAUNCHER) - {missing}:
        monkeypatch.setenv(name, "4")
    assert (distributed.world_size(), distributed.rank(), distributed.is_main()) == (1, 0, True)


@pytest.mark.usefixtures("alone")
def test_a_launcher_says_who_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(LAUNCHER, ("16", "11", "3"), strict=True):
        monkeypatch.setenv(name, value)
    assert (distributed.world_size(), distributed.rank(), distributed.local_rank(), distributed.is_main()) == (
        16,
        11,
        3,
        False,
    )
    assert not distributed.is_sharded()
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert distributed.is_sharded()


@pytest.mark.usefixtures("alone")
def test_one_process_is_never_sharded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert not distributed.is_sharded()


def test_errors_reach_other_ranks_whole() -> None:
    import pickle

    from medqa_cli.errors import ConfigError

    for error in (MedqaError("a", "b"), InputError("a", "b"), ConfigError(["a", "c"], "b")):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), copy.message, copy.hint, copy.exit_code, vars(copy)) == (
            type(error), error.message, "b", error.exit_code, vars(error),
        )  # fmt: skip
